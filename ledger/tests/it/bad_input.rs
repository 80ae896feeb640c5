//! What must not get in: each is refused with a name, the whole batch with it, and the ledger is as it was.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use serde_json::{Value, json};
use verdict_ledger::event::ACTION_REPORTED;
use verdict_ledger::ingest::{self, Format, Limits};
use verdict_ledger::record::Stream;
use verdict_ledger::{AppendError, Batch, NewRecord};

use crate::store::{Bench, append};

fn record(body: &Value) -> NewRecord {
    NewRecord { kind: ACTION_REPORTED.to_owned(), body: body.as_object().unwrap().clone(), stream: None }
}

/// A record, with what it says besides.
fn saying(name: &str, value: Value) -> NewRecord {
    let mut record = record(&json!({"id": "bad", "action": {"kind": "tool", "name": "t"}}));
    record.body.insert(name.to_owned(), value);
    record
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

/// What it is, the record, and what the error must say.
fn refused() -> Vec<(&'static str, NewRecord, &'static str)> {
    let kind = |kind: &str| NewRecord { kind: kind.to_owned(), ..saying("note", json!("x")) };
    let stream = |id: &str, seq: &str| NewRecord {
        stream: Some(Stream { id: id.to_owned(), seq: seq.to_owned() }),
        ..saying("note", json!("x"))
    };
    vec![
        ("no id", record(&json!({"action": {}})), "`id`"),
        ("an empty id", record(&json!({"id": ""})), "`id`"),
        ("an id that is a number", record(&json!({"id": 7})), "`id`"),
        ("an id with a control character", record(&json!({"id": "a\u{0}b"})), "`id`"),
        ("an id of 513 bytes", record(&json!({"id": "x".repeat(513)})), "`id`"),
        ("no type", kind(""), "the type"),
        ("a type with a line feed", kind("a\nb"), "the type"),
        ("a type of 513 bytes", kind(&"t".repeat(513)), "the type"),
        ("a stream without a name", stream("", "1"), "the stream"),
        ("a stream without a position", stream("s", ""), "the stream"),
        ("an entry over the limit", saying("note", json!("x".repeat(66_000))), "more than the limit"),
        ("2^53", saying("note", json!(1u64 << 53)), "9007199254740992"),
        ("-2^53", saying("note", json!(-(1i64 << 53))), "-9007199254740992"),
        ("u64::MAX, deep inside", saying("a", json!({"b": [0, {"c": u64::MAX}]})), "/a/b/1/c"),
        ("2^53 in a disclosed value", saying("attributes", json!({"n": 1u64 << 53})), "/attributes/n"),
        ("nesting beyond the limit", saying("note", deep(200)), "deeper than"),
        (
            "nesting beyond the limit in a disclosed value",
            saying("attributes", json!({"a": deep(200)})),
            "deeper than",
        ),
        ("a member `_sd`", saying("_sd", json!([])), "/_sd"),
        ("a member `_sd_members`", saying("_sd_members", json!(["/user"])), "/_sd_members"),
        ("a member `_sd` further in", saying("agent", json!({"_sd": ["x"]})), "/agent/_sd"),
    ]
}

#[test]
fn what_must_not_get_in_is_named_and_nothing_of_its_batch_gets_in() {
    let bench = Bench::new();
    let ledger = bench.init();
    append(&ledger, 0..3);
    let before = ledger.head();
    for (name, bad, says) in refused() {
        // Good ones around it: nothing of the batch may be left behind, not even a data key.
        let good = |id: &str| {
            record(&json!({"id": id, "user": "new@example.org", "action": {"kind": "tool", "name": "t"}}))
        };
        let batch = Batch { records: vec![good("before"), bad, good("after")], blobs: vec![b"raw".to_vec()] };
        let error = ledger.append(batch).expect_err(name);
        assert!(error.to_string().contains(says), "{name}: {error}");
        assert!(
            !matches!(error, AppendError::Storage { .. } | AppendError::Poisoned { .. }),
            "{name}: {error}"
        );
        assert_eq!(ledger.head(), before, "{name}");
    }
    let report = ledger.verify(&mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.failures);
    assert_eq!((report.data_keys, report.blobs), (3, 0), "three users, and no raw body");

    // The limits themselves get in.
    let largest = (1i64 << 53) - 1;
    let records = vec![
        record(&json!({"id": "x".repeat(512), "note": [largest, -largest]})),
        record(&json!({"id": "deep", "attributes": {"a": deep(100)}})),
    ];
    ledger.append(Batch { records, blobs: Vec::new() }).unwrap();
    append(&ledger, 3..5);
    let report = ledger.verify(&mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.failures);
}

#[test]
fn a_batch_over_its_limits_is_refused_whole() {
    let bench = Bench::new();
    let ledger = bench.init();
    let records = (0..100_001).map(|number| record(&json!({"id": number.to_string()}))).collect();
    let error = ledger.append(Batch { records, blobs: Vec::new() }).unwrap_err();
    assert!(matches!(error, AppendError::BatchTooLarge { what: "records", got: 100_001, .. }), "{error}");
    assert_eq!(ledger.head().size, 1);
    assert!(ledger.append(Batch::default()).is_ok_and(|receipt| receipt.seqs.is_empty()));
}

#[test]
fn a_line_that_is_no_event_is_named_with_its_place_and_the_others_are_read() {
    let good = br#"{"id":"good","action":{"kind":"tool","name":"t"}}"#;
    let lines: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "a member twice",
            br#"{"id":"a","id":"b","action":{"kind":"tool","name":"t"}}"#.to_vec(),
            "occurs twice",
        ),
        (
            "a member twice, further in",
            br#"{"action":{"kind":"tool","name":"t","name":"u"}}"#.to_vec(),
            "occurs twice",
        ),
        (
            "an escaped member twice",
            br#"{"attributes":{"a":1,"\u0061":2},"action":{"kind":"tool","name":"t"}}"#.to_vec(),
            "occurs twice",
        ),
        (
            "2^53",
            br#"{"attributes":{"n":9007199254740992},"action":{"kind":"tool","name":"t"}}"#.to_vec(),
            "exactly",
        ),
        (
            "-2^53",
            br#"{"attributes":{"n":-9007199254740992},"action":{"kind":"tool","name":"t"}}"#.to_vec(),
            "exactly",
        ),
        (
            "2^64",
            br#"{"attributes":{"n":18446744073709551616},"action":{"kind":"tool","name":"t"}}"#.to_vec(),
            "exactly",
        ),
        (
            "invalid UTF-8",
            [&br#"{"attributes":{"a":""#[..], &[0xff], br#""},"action":{"kind":"tool","name":"t"}}"#]
                .concat(),
            "UTF-8",
        ),
        (
            "half a character",
            br#"{"attributes":{"a":"\ud800"},"action":{"kind":"tool","name":"t"}}"#.to_vec(),
            "",
        ),
        (
            "nesting beyond the limit",
            format!(
                r#"{{"attributes":{{"a":{}1{}}},"action":{{"kind":"tool","name":"t"}}}}"#,
                "[".repeat(200),
                "]".repeat(200)
            )
            .into_bytes(),
            "deeper than",
        ),
        ("a list", b"[1]".to_vec(), "object"),
        ("nothing of an event", b"{}".to_vec(), "action"),
        ("half an object", br#"{"id":"#.to_vec(), ""),
        ("a zero byte", b"{\"id\":\"a\0b\",\"action\":{\"kind\":\"tool\",\"name\":\"t\"}}".to_vec(), ""),
        ("an empty id", br#"{"id":"","action":{"kind":"tool","name":"t"}}"#.to_vec(), "id"),
    ];
    let bench = Bench::new();
    let ledger = bench.init();
    for (name, line, says) in lines {
        let body = [&good[..], b"\n", &line, b"\n", good, b"\n"].concat();
        let mapped = ingest::map(Format::Native, &body, &Limits::default()).unwrap();
        assert_eq!((mapped.rejected.len(), mapped.events.len()), (1, 2), "{name}: {:?}", mapped.rejected);
        let rejected = mapped.rejected.first().unwrap();
        let told = format!("{rejected}");
        assert!(told.contains("line 2") && told.contains(says), "{name}: {told}");
        ledger.append(mapped.into_batch(None).unwrap()).unwrap();
    }
    assert_eq!(ledger.head().size, 2, "the same statement, once");
    let report = ledger.verify(&mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.failures);
}
