//! Keys and restore on the command line: what is asked for, what is said, and how it ends.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::cli_support::{Bench, copy};

fn private(path: &str, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn passphrase(bench: &Bench, name: &str, text: &str) -> String {
    let file = bench.file(name, format!("{text}\n"));
    private(&file, 0o600);
    file
}

#[test]
fn a_rotation_is_followed_by_whoever_holds_the_old_keys_and_a_revocation_stops_them() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(3)]).ok();
    let old = bench.file("old.keys", bench.run(&["keys", "show"]).ok().out);
    let old_note = bench.file("old.note", bench.run(&["checkpoint", "show"]).ok().out);
    let size = bench.size();
    let said = bench.run(&["keys", "rotate", "--role", "log", "--reason", "yearly"]).ok();
    assert!(said.err.contains("log.pem is needed for nothing any more: destroy it"), "{said:?}");
    bench.run(&["keys", "rotate", "--role", "bundle", "--reason", "yearly"]).ok();
    let out = bench.path("e.zip");
    let out = out.to_str().unwrap();
    bench.run(&["export", "evidence", "--range", "..", "--out", out]).ok();
    bench.run(&["verify", out, "--key", &old]).ok();
    bench.run(&["verify", "--key", &old]).ok();
    bench.run(&["verify", &old_note, "--key", &old]).ok();
    let new = bench.file("new.keys", bench.run(&["keys", "show"]).ok().out);
    bench.run(&["verify", out, "--key", &new]).ok();
    bench.run(&["verify", &old_note, "--key", &new]).ok();
    let new_note = bench.file("new.note", bench.run(&["checkpoint", "show"]).ok().out);
    bench.run(&["verify", &new_note, "--key", &new]).ok();

    let keys = bench.run(&["keys", "show", "--format", "json"]).ok().json();
    let former = keys["keys"][0].clone();
    assert_eq!((former["state"].as_str(), former["until"].as_u64()), (Some("retired"), Some(size + 1)));
    let former = former["key"].as_str().unwrap();
    let in_force = keys["log"].as_str().unwrap();
    bench
        .run(&["keys", "revoke", in_force, "--last-size", "1", "--reason", "x"])
        .fails(2, &["is in force; put another in its place first"]);
    bench
        .run(&["keys", "revoke", "nonsense", "--last-size", "1", "--reason", "x"])
        .fails(2, &["not a valid verifier key", "hint: "]);
    bench.run(&["keys", "revoke", former, "--last-size", "2", "--reason", "stolen"]).ok();
    let shown = bench.run(&["keys", "show"]).ok().out;
    assert!(shown.contains("# REVOKED by entry ") && shown.contains(&format!("{former} to=2")), "{shown}");
    let new = bench.file("new.keys", shown);
    bench
        .run(&["verify", &old_note, "--key", &new])
        .fails(3, &["does not answer for size", "replaced or revoked"]);
    bench.run(&["verify", "--key", &old]).fails(3, &["none of the given keys", "was revoked by entry"]);
    bench.run(&["verify", "--key", &new]).ok();
    std::fs::remove_file(out).unwrap();
    bench.run(&["export", "evidence", "--range", "..", "--out", out]).ok();
    let said = bench.run(&["verify", out, "--key", &old]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.contains("was revoked by entry"), "{said:?}");
    bench.run(&["verify", out, "--key", &new]).ok();
}

#[test]
fn an_encrypted_ledger_asks_for_its_passphrase_and_says_what_is_wrong_with_it() {
    let bench = Bench::empty();
    let right = passphrase(&bench, "right", "correct horse battery");
    let weak = passphrase(&bench, "weak", "short");
    bench.run(&["init", "--encrypt-keys"]).fails(2, &["nobody to ask", "--passphrase-file"]);
    bench.run(&["init", "--encrypt-keys", "--passphrase-file", &weak]).fails(2, &["shorter than 8"]);
    bench.run(&["init", "--encrypt-keys", "--passphrase-file", &right]).ok();
    bench.run(&["stats"]).fails(2, &["is encrypted, and no passphrase was given", "VERDICT_PASSPHRASE_FILE"]);
    let wrong = passphrase(&bench, "wrong", "incorrect horse");
    bench
        .run(&["stats", "--passphrase-file", &wrong])
        .fails(2, &["the passphrase is wrong, or the file is damaged"]);
    bench.run(&["stats", "--passphrase-file", &right]).ok();
    bench.run(&["stats", "--passphrase-file", "missing"]).fails(2, &["cannot read missing"]);
    let exposed = passphrase(&bench, "exposed", "correct horse battery");
    private(&exposed, 0o644);
    bench.run(&["stats", "--passphrase-file", &exposed]).fails(2, &["can be read by other users"]);
    bench.shell("VERDICT_PASSPHRASE_FILE=right \"$VERDICT\" stats").ok();
    bench.shell("\"$VERDICT\" stats --passphrase-file <(echo correct horse battery)").ok();

    // A rotation keeps what the former file was; another passphrase; none.
    bench.run(&["keys", "rotate", "--role", "log", "--reason", "r", "--passphrase-file", &right]).ok();
    let files = |passphrase: &str| {
        let said =
            bench.run(&["keys", "show", "--format", "json", "--passphrase-file", passphrase]).ok().json();
        said["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["encrypted"].as_bool().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(files(&right), [true; 4]);
    let next = passphrase(&bench, "next", "another passphrase");
    bench.run(&["keys", "encrypt", "--passphrase-file", &right, "--new-passphrase-file", &next]).ok();
    bench.run(&["stats", "--passphrase-file", &right]).fails(2, &["passphrase is wrong"]);
    bench.run(&["keys", "decrypt", "--passphrase-file", &next]).ok();
    assert_eq!(files(&next), [false; 4]);
    bench.run(&["keys", "encrypt", "--passphrase-file", &next]).ok();
    bench.run(&["verify", "--passphrase-file", &next]).ok();
}

#[test]
fn keys_made_elsewhere_and_key_files_that_are_not_usable() {
    let bench = Bench::with_ledger();
    let next = bench.path("next.pem");
    let next = next.to_str().unwrap();
    bench.run(&["keys", "generate", "--out", next, "--name", "example.org/verdict/test"]).ok();
    bench.run(&["keys", "generate", "--out", next]).fails(2, &["exists already"]);
    let rotate =
        |key: &str| bench.run(&["keys", "rotate", "--role", "log", "--reason", "r", "--new-key", key]);
    private(next, 0o640);
    rotate(next).fails(4, &["can be read by other users (mode 640)", "chmod 600"]);
    private(next, 0o600);
    let whole = std::fs::read(next).unwrap();
    let cut = bench.file("cut.pem", &whole[..whole.len() / 2]);
    private(&cut, 0o600);
    rotate(&cut).fails(2, &["cut.pem is not an Ed25519 private key in PKCS#8 PEM"]);
    rotate("missing.pem").fails(4, &["missing.pem"]);
    rotate(next).ok();
    rotate(next).fails(2, &["a key serves once"]);
    let bad = bench.file("bad.signer.toml", "exec = ['/bin/true']\n");
    bench
        .run(&["keys", "rotate", "--role", "log", "--reason", "r", "--new-signer", &bad])
        .fails(2, &["bad.signer.toml", "missing field `public_key`"]);
    bench.run(&["verify"]).ok();
}

/// What lies in the ledger's directory and beside it.
fn state(bench: &Bench) -> Vec<u8> {
    std::fs::read(bench.path("ledger.lock")).unwrap()
}

#[test]
fn a_restore_is_asked_for_said_before_and_recorded() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(4)]).ok();
    let backup = bench.path("backup");
    copy(&bench.path("ledger"), &backup);
    let old = bench.file("old.keys", bench.run(&["keys", "show"]).ok().out);
    bench.run(&["ingest", &bench.events(9)]).ok();
    let kept_size = 5;
    let size = bench.size();
    let from = backup.to_str().unwrap();
    let restore = |more: &[&str]| {
        let base = ["restore", "--from", from, "--reason", "disk died", "--by", "ops"];
        bench.run(&[&base, more].concat())
    };
    restore(&[]).fails(2, &["is there already", "move it away first"]);
    std::fs::rename(bench.path("ledger"), bench.path("broken")).unwrap();
    // A dry run says it all and changes nothing.
    let before = state(&bench);
    let said = restore(&["--dry-run", "--format", "json"]).ok().json();
    assert_eq!(said["restore"]["size"], kept_size);
    assert_eq!(said["restore"]["lost_end"], size);
    let said = restore(&["--dry-run"]).ok();
    assert!(said.out.contains(&format!("lost        entries {kept_size}..{size}, ")), "{said:?}");
    assert_eq!(state(&bench), before);
    assert!(!bench.path("ledger").exists());

    restore(&[]).ok();
    assert_eq!(std::fs::read(bench.path("ledger.lock.before-2")).unwrap(), before, "the old lock is kept");
    bench.run(&["verify"]).ok();
    let facts = bench.run(&["stats", "--format", "json"]).ok().json();
    assert_eq!(facts["system_facts"]["restore.performed"], 1);
    assert_eq!(facts["entries"], kept_size + 1);
    bench.run(&["ingest", &bench.events(9)]).ok();
    let note = bench.run(&["checkpoint", "show"]).ok().out;
    assert!(note.starts_with("example.org/verdict/test/2\n"), "{note}");
    let out = bench.path("e.zip");
    bench.run(&["export", "evidence", "--range", "..", "--out", out.to_str().unwrap()]).ok();
    let said = bench.run(&["verify", out.to_str().unwrap(), "--key", &old]).ok();
    assert!(said.out.contains(&format!("RESTORED: entries {kept_size}..{size} of")), "{said:?}");
    assert!(bench.run(&["keys", "show"]).ok().out.contains("# the log was restored at entry 5"));
    // The ledger is in force: there is nothing to restore any more.
    bench
        .run(&["restore", "--from", bench.path("ledger").to_str().unwrap(), "--reason", "x"])
        .fails(2, &["nothing is lost"]);
}

#[test]
fn an_old_state_that_was_put_back_is_refused_with_the_way_out_and_restored_in_place() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(4)]).ok();
    copy(&bench.path("ledger"), &bench.path("backup"));
    bench.run(&["ingest", &bench.events(9)]).ok();
    let note = bench.file("note", bench.run(&["checkpoint", "show"]).ok().out);
    std::fs::remove_dir_all(bench.path("ledger")).unwrap();
    copy(&bench.path("backup"), &bench.path("ledger"));
    bench.run(&["ingest", &bench.events(9)]).fails(3, &["entries 5..", "verdict restore"]);
    let dir = bench.path("ledger");
    let dir = dir.to_str().unwrap();
    let lock = bench.path("ledger.lock");
    std::fs::rename(&lock, bench.path("away")).unwrap();
    bench.run(&["restore", "--from", dir, "--reason", "x"]).fails(3, &["is missing", "--without-lock"]);
    let strange = bench.file("strange", "no note\n");
    bench
        .run(&["restore", "--from", dir, "--reason", "x", "--without-lock", "--checkpoint", &strange])
        .fails(2, &["not a valid signed note"]);
    let said = bench
        .run(&[
            "restore",
            "--from",
            dir,
            "--reason",
            "x",
            "--without-lock",
            "--checkpoint",
            &note,
            "--dry-run",
        ])
        .ok();
    assert!(said.out.contains("lost        entries 5..10"), "{said:?}");
    std::fs::rename(bench.path("away"), &lock).unwrap();
    bench.run(&["restore", "--from", dir, "--reason", "put back by mistake"]).ok();
    bench.run(&["verify"]).ok();
    assert!(Path::new(&format!("{}.before-2", lock.display())).exists());
}
