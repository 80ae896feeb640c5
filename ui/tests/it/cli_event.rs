//! One entry with its original bytes, and raw bodies that are read again, from the command line.

use serde_json::Value;

use super::cli_support::Bench;

#[test]
fn an_entry_is_shown_with_the_bytes_that_it_was_read_from() {
    let bench = Bench::with_ledger();
    let file = bench.events(3);
    bench.run(&["ingest", &file]).ok();
    let shown = bench.run(&["event", "show", "2"]).ok().out;
    for part in ["refund-1", "line/2", "native, mapper 1", "/action/arguments/amount_cents", "1000"] {
        assert!(shown.contains(part), "no `{part}` in {shown}");
    }
    let body = std::fs::read_to_string(&file).unwrap();
    let piece = bench.run(&["event", "show", "2", "--raw"]).ok().out;
    assert_eq!(Some(piece.as_str()), body.lines().nth(1));
    assert_eq!(bench.run(&["event", "show", "2", "--raw=body"]).ok().out, body);

    let json = bench.run(&["event", "show", "2", "--format", "json"]).ok().json();
    assert_eq!(json["event"]["id"], "refund-1");
    let found = json["origin"]["found"].as_array().unwrap();
    let amount = found.iter().find(|origin| origin["field"] == "/action/arguments/amount_cents").unwrap();
    let at = |name: &str| usize::try_from(amount[name].as_u64().unwrap()).unwrap();
    assert_eq!(&body[at("start")..at("end")], "1000");

    let field = bench.run(&["event", "show", "2", "--field", "/action/arguments"]).ok().out;
    assert!(field.contains("amount_cents  bytes ") && field.contains("order_id"), "{field}");
    let none = bench.run(&["event", "show", "2", "--field", "/usage"]);
    none.fails(2, &["no field `/usage`"]);
    bench.run(&["event", "show", "99"]).fails(2, &["no entry 99", "0 to 3"]);
    bench.run(&["event", "show", "0", "--raw"]).fails(2, &["ledger.created"]);
    let genesis: Value = bench.run(&["event", "show", "0", "--format", "json"]).ok().json();
    assert_eq!((&genesis["type"], &genesis["event"]), (&"ledger.created".into(), &Value::Null));
}

#[test]
fn what_was_erased_is_neither_shown_nor_read_again() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(3)]).ok();
    let erase = ["redact", "--event", "refund-1", "--apply", "--legal-basis", "Art. 17", "--reason", "asked"];
    bench.run(&erase).ok();
    bench.run(&["event", "show", "2", "--raw"]).fails(2, &["is not here any more"]);
    let json = bench.run(&["event", "show", "2", "--format", "json"]).ok().json();
    assert!(!json["erased"].as_array().unwrap().is_empty() && json["origin"].is_null(), "{json}");
    let dry = bench.run(&["remap", "--format", "json"]).ok().json();
    assert_eq!((&dry["dry_run"], &dry["tally"]["body_erased"]), (&true.into(), &3.into()), "{dry}");
    assert!(bench.run(&["remap"]).ok().out.contains("their raw body was erased"));
}

#[test]
fn a_ledger_that_this_version_read_has_nothing_to_read_again() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(3)]).ok();
    let size = bench.size();
    let said = bench.run(&["remap", "--apply"]).ok();
    assert!(
        said.out.contains("0 new readings appended") && said.out.contains("read by the mapper"),
        "{said:#?}"
    );
    assert_eq!(bench.size(), size);
}
