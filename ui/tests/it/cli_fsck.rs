//! `verdict fsck` and its relatives on ledgers that somebody changed: exit code, the place, and the way out.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::PathBuf;

use crate::cli_support::{Bench, Said, copy};

fn filled() -> Bench {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(20)]).ok();
    bench
}

/// The files of the database that hold its rows.
fn tables(bench: &Bench) -> Vec<PathBuf> {
    let files = fs::read_dir(bench.path("ledger/db")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "log" || ending == "sst")).collect()
}

#[test]
fn a_whole_ledger_is_told_with_how_much_was_checked() {
    let bench = filled();
    let said = bench.run(&["fsck"]).ok();
    for text in [
        "verified ",
        "21 entries",
        "checkpoint",
        "2 slots of the lock",
        "20 disclosed values",
        "index rows",
        "1 raw body",
    ] {
        assert!(said.out.contains(text), "no `{text}` in {said:#?}");
    }
    let json = bench.run(&["fsck", "--format", "json", "--threads", "2"]).ok().json();
    assert_eq!(
        (&json["verified"], &json["standing"], &json["depth"]),
        (&true.into(), &"verified".into(), &"everything".into())
    );
    assert_eq!((&json["report"]["entries"], &json["report"]["lock_slots"]), (&21.into(), &2.into()));
    assert!(json["first_bad"].is_null() && json["report"]["index_rows"].as_u64() > Some(20));
    // The same check under its other name.
    assert_eq!(bench.run(&["verify", "--format", "json"]).ok().json(), json);

    let quick = bench.run(&["fsck", "--quick", "--format", "json"]).ok().json();
    assert_eq!((&quick["depth"], &quick["report"]["index_rows"]), (&"log".into(), &0.into()));
    assert!(bench.run(&["fsck", "--quick"]).ok().out.contains("not checked: disclosed values"));
    assert_eq!(bench.run(&["fsck", "--threads", "0"]).code, 2);
}

/// What was done, and what the command must end with and name.
type Row = (&'static str, fn(&Bench), i32, &'static [&'static str]);

const ROWS: &[Row] = &[
    (
        "delete the lock",
        |bench| fs::remove_file(bench.path("ledger.lock")).unwrap(),
        3,
        &["lock", "ledger.lock", "--lock"],
    ),
    (
        "change the lock",
        |bench| {
            let mut bytes = fs::read(bench.path("ledger.lock")).unwrap();
            bytes[40] ^= 1;
            fs::write(bench.path("ledger.lock"), bytes).unwrap();
        },
        3,
        &["slot 0 of", "not whole"],
    ),
    (
        "change the settings",
        |bench| {
            let path = bench.path("ledger/verdict.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("example.org/verdict/test", "example.org/verdict/tost")).unwrap();
        },
        1,
        &["verdict.json"],
    ),
    (
        "swap the keys",
        |bench| {
            let (log, bundle) = (bench.path("ledger/keys/log.pem"), bench.path("ledger/keys/bundle.pem"));
            fs::copy(bundle, log).unwrap();
        },
        1,
        &["file", "log.pem", "does not belong"],
    ),
    (
        "change a key file around the key",
        |bench| {
            let path = bench.path("ledger/keys/store.secret");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.to_uppercase()).unwrap();
        },
        1,
        &["store.secret"],
    ),
    (
        "name a newer format",
        |bench| {
            let path = bench.path("ledger/verdict.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("\"format\": 1", "\"format\": 9")).unwrap();
        },
        2,
        &["format 9", "newer version"],
    ),
];

#[test]
fn each_change_ends_with_its_exit_code_and_names_its_place() {
    let template = filled();
    for (name, change, code, names) in ROWS {
        let bench = Bench::empty();
        copy(template.dir.path(), bench.dir.path());
        change(&bench);
        let said = bench.run(&["fsck"]);
        assert_eq!(said.code, *code, "{name}: {said:#?}");
        said.fails(*code, names).has_a_way_out(name);
    }
}

trait WayOut {
    fn has_a_way_out(&self, name: &str);
}

impl WayOut for Said {
    fn has_a_way_out(&self, name: &str) {
        assert!(self.err.contains("hint: "), "{name}: {self:#?}");
    }
}

#[test]
fn a_ledger_that_was_cut_is_told_by_the_missing_range_and_is_not_served() {
    let bench = filled();
    let backup = bench.path("backup");
    copy(&bench.path("ledger"), &backup);
    bench.run(&["ingest", &bench.events(30)]).ok();
    fs::remove_dir_all(bench.path("ledger")).unwrap();
    copy(&backup, &bench.path("ledger"));
    let said = bench.run(&["fsck", "--format", "json"]);
    assert_eq!(said.code, 3, "{said:#?}");
    let json = said.json();
    assert_eq!(
        (&json["standing"], &json["first_bad"]["class"]),
        (&"untrusted".into(), &"rolled_back".into())
    );
    assert_eq!(json["first_bad"]["seq"], 21);
    assert!(json["first_bad"]["detail"].as_str().unwrap().contains("21..31"), "{json:#}");
    let error: serde_json::Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(error["error"]["exit_code"], 3);
    bench
        .run(&["serve", "--listen", "127.0.0.1:0"])
        .fails(3, &["21..31", "first bad place: entry 21", "hint: "]);
}

#[test]
fn a_ledger_whose_bytes_were_changed_is_damaged_and_is_not_served() {
    let template = filled();
    let mut seen = 0;
    for table in tables(&template) {
        let bench = Bench::empty();
        copy(template.dir.path(), bench.dir.path());
        let path = bench.path("ledger/db").join(table.file_name().unwrap());
        let mut bytes = fs::read(&path).unwrap();
        if bytes.len() < 2_000 {
            continue;
        }
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let said = bench.run(&["fsck"]).calm();
        assert!(matches!(said.code, 1 | 3), "{}: {said:#?}", path.display());
        let said = bench.run(&["serve", "--listen", "127.0.0.1:0", "--check", "full"]).calm();
        assert!(matches!(said.code, 1 | 3) && said.out.is_empty(), "{}: {said:#?}", path.display());
        seen += 1;
    }
    assert!(seen > 0, "something was changed");
}

#[test]
fn intervals_and_checks_that_are_none_are_usage_errors() {
    let bench = Bench::with_ledger();
    for args in [&["--fsck-every", "0h"][..], &["--fsck-every", "soon"], &["--check", "some"]] {
        let said = bench.run(&[&["serve"], args].concat()).calm();
        assert_eq!(said.code, 2, "{said:#?}");
    }
}
