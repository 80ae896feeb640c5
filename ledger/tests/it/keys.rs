//! Keys over time as their owner sees them: rotated, revoked, encrypted, held elsewhere, and cut in between.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use verdict_ledger::authority::{KEY_ROTATED, Role, Step, TrustError};
use verdict_ledger::clock::SteppingEntropy;
use verdict_ledger::key::{KeyError, Passphrase, Protection, SigningKey};
use verdict_ledger::note::{Checkpoint, NoteError, VerifierKey};
use verdict_ledger::{
    AppendError, Batch, Change, InitOptions, KeySource, Ledger, LedgerError, NewRecord, OpenOptions,
    Revoking, Rotation,
};

use crate::store::{Bench, append};

const ORIGIN: &str = "ledger.example/test";

fn pair(seed: u64) -> SigningKey {
    SigningKey::generate(&SteppingEntropy::starting_at(seed)).unwrap()
}

fn to(role: Role, source: KeySource) -> Rotation {
    Rotation { role, source, passphrase: None, reason: "yearly".into(), by: "keeper".into() }
}

fn rotate(bench: &Bench, role: Role, seed: u64) -> Result<Change, LedgerError> {
    let rotation = to(role, KeySource::Pair(pair(seed)));
    Ledger::rotate_key(&bench.path(), &OpenOptions::default(), bench.clock(), &rotation)
}

fn verified(ledger: &Ledger) {
    let report = ledger.verify(&mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{:?}", report.failures);
}

#[test]
fn traffic_goes_on_through_rotations_and_each_checkpoint_has_the_key_of_its_time() {
    let bench = Bench::new();
    let ledger = bench.init();
    let first = VerifierKey::parse(&ledger.verifier_key()).unwrap();
    append(&ledger, 0..3);
    ledger.settle().unwrap();
    drop(ledger);

    let change = rotate(&bench, Role::Log, 50).unwrap();
    assert_eq!((change.seq, &change.old), (4, &first.to_string()));
    let second = VerifierKey::parse(&change.new).unwrap();
    let ledger = bench.open().unwrap();
    assert_eq!(ledger.verifier_key(), change.new);
    append(&ledger, 3..6);
    ledger.settle().unwrap();
    drop(ledger);
    let third = rotate(&bench, Role::Log, 51).unwrap();
    let bundle = rotate(&bench, Role::Bundle, 52).unwrap();
    let ledger = bench.open().unwrap();
    append(&ledger, 6..9);
    ledger.settle().unwrap();
    verified(&ledger);
    let report = ledger.verify(&mut |_, _| {}).unwrap();
    assert_eq!((report.unsigned, report.revoked_checkpoints), (0, 0));

    // Old checkpoints verify with the first key, the rotation's with both, later ones with their own.
    let note = |size| ledger.checkpoint_at(size).unwrap().unwrap();
    assert!(Checkpoint::verify(&note(4), &first).is_ok());
    assert!(Checkpoint::verify(&note(5), &first).is_ok() && Checkpoint::verify(&note(5), &second).is_ok());
    assert!(matches!(Checkpoint::verify(&note(8), &first), Err(NoteError::Unsigned { .. })));
    assert!(Checkpoint::verify(&note(8), &second).is_ok());
    let size = ledger.head().size;
    assert!(Checkpoint::verify(&note(size), &VerifierKey::parse(&third.new).unwrap()).is_ok());

    // Whoever holds only the first key follows from there, and sees each handover signed by both keys.
    let authority = ledger.authority();
    let path = authority.path(&first, size).unwrap();
    assert_eq!(path.len(), 2);
    for step in path {
        let Step::Rotation { size, from, to } = step else { panic!("{step:?}") };
        assert!(Checkpoint::verify(&note(size), from).is_ok() && Checkpoint::verify(&note(size), to).is_ok());
    }
    assert_eq!(ledger.bundle_verifier_key(), bundle.new);
    assert_eq!(ledger.bundle_signer().unwrap().public(), pair(52).public());

    // A reader derives the same from the same entries.
    let reader = bench.reader().unwrap();
    assert_eq!(reader.authority(), authority);
    verified(&reader);
}

#[test]
fn a_revoked_key_is_told_where_its_signatures_end() {
    let bench = Bench::new();
    let ledger = bench.init();
    let first = VerifierKey::parse(&ledger.verifier_key()).unwrap();
    append(&ledger, 0..3);
    ledger.settle().unwrap();
    drop(ledger);
    let revoke = |key: &VerifierKey, last_size| {
        let revoking = Revoking {
            role: Role::Log,
            key: key.clone(),
            last_size,
            reason: "stolen".into(),
            by: "k".into(),
        };
        Ledger::revoke_key(&bench.path(), &OpenOptions::default(), bench.clock(), &revoking)
    };
    let in_force = revoke(&first, 2).unwrap_err().to_string();
    assert!(in_force.contains("is in force; put another in its place first"), "{in_force}");
    let change = rotate(&bench, Role::Log, 50).unwrap();
    let strange = VerifierKey::new(ORIGIN, pair(99).public()).unwrap();
    assert!(revoke(&strange, 2).unwrap_err().to_string().contains("was never a log key"));
    assert!(revoke(&first, 99).unwrap_err().to_string().contains("signed nothing of size 99"));
    revoke(&first, 3).unwrap();

    let ledger = bench.open().unwrap();
    verified(&ledger);
    let report = ledger.verify(&mut |_, _| {}).unwrap();
    assert_eq!(
        report.revoked_checkpoints, 1,
        "the one of size 4; that of size 5 has the new key's signature"
    );
    let authority = ledger.authority();
    assert!(matches!(authority.path(&first, 9), Err(TrustError::Revoked { last_size: 3, size: 5, .. })));
    assert_eq!(authority.path(&first, 1), Ok(vec![]));
    assert_eq!(authority.path(&VerifierKey::parse(&change.new).unwrap(), 9), Ok(vec![]));
}

#[test]
fn a_key_serves_once_and_in_one_role() {
    let bench = Bench::new();
    drop(bench.init());
    rotate(&bench, Role::Log, 50).unwrap();
    rotate(&bench, Role::Log, 51).unwrap();
    for (role, seed) in [(Role::Log, 50), (Role::Log, 51), (Role::Bundle, 51)] {
        let error = rotate(&bench, role, seed).unwrap_err();
        assert!(error.to_string().contains("a key serves once"), "{error}");
    }
    let mut empty = to(Role::Log, KeySource::Pair(pair(53)));
    empty.reason = " ".into();
    let error = Ledger::rotate_key(&bench.path(), &OpenOptions::default(), bench.clock(), &empty);
    assert!(matches!(error, Err(LedgerError::KeyChange(_))));
    // While somebody writes the ledger, nobody else changes its keys.
    let _writer = bench.open().unwrap();
    assert!(matches!(rotate(&bench, Role::Log, 54), Err(LedgerError::Busy { .. })));
}

#[test]
fn only_the_ledger_itself_writes_entries_about_keys() {
    let bench = Bench::new();
    let ledger = bench.init();
    let mut body = serde_json::Map::new();
    body.insert("id".into(), "forged".into());
    let batch = Batch { records: vec![NewRecord::system(KEY_ROTATED, body)], blobs: vec![] };
    assert!(matches!(ledger.append(batch), Err(AppendError::Reserved { index: 0, .. })));
}

#[test]
fn an_encrypted_ledger_opens_with_its_passphrase_alone() {
    let bench = Bench::new();
    let passphrase = Passphrase::new("correct horse battery").unwrap();
    let options = InitOptions {
        entropy: Arc::new(SteppingEntropy::default()),
        passphrase: Some(passphrase.clone()),
        ..InitOptions::new(ORIGIN)
    };
    let ledger = Ledger::init(&bench.path(), &options, bench.clock()).unwrap();
    append(&ledger, 0..2);
    drop(ledger);
    for file in ["log.pem", "bundle.pem", "store.secret"] {
        let text = fs::read_to_string(bench.path().join("keys").join(file)).unwrap();
        let sealed =
            text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY") || text.starts_with("verdict-secret-v1");
        assert!(sealed, "{file}");
    }
    let with = |passphrase: &str| OpenOptions {
        passphrases: Arc::new(Passphrase::new(passphrase).unwrap()),
        ..OpenOptions::default()
    };
    assert!(matches!(bench.open(), Err(LedgerError::Key(KeyError::Locked { .. }))));
    assert!(matches!(bench.reader(), Err(LedgerError::Key(KeyError::Locked { .. }))));
    let wrong = Ledger::open(&bench.path(), &with("wrong passphrase"), bench.clock()).unwrap_err();
    assert!(matches!(wrong, LedgerError::Key(KeyError::WrongPassphrase { .. })), "{wrong}");
    let ledger = Ledger::open(&bench.path(), &with("correct horse battery"), bench.clock()).unwrap();
    assert!(ledger.record(1).unwrap().unwrap().withheld.is_empty());
    assert!(ledger.key_files().unwrap().iter().all(|file| file.encrypted));
    drop(ledger);

    // A rotation encrypts the new key too; another passphrase for everything; and back to plain files.
    let rotation =
        Rotation { passphrase: Some(passphrase.clone()), ..to(Role::Log, KeySource::Pair(pair(50))) };
    Ledger::rotate_key(&bench.path(), &with("correct horse battery"), bench.clock(), &rotation).unwrap();
    let reader = Ledger::open_reader(&bench.path(), &with("correct horse battery")).unwrap();
    let other = Passphrase::new("another passphrase").unwrap();
    let entropy = SteppingEntropy::starting_at(9);
    let protection = Protection::Encrypted { passphrase: &other, entropy: &entropy };
    assert_eq!(reader.protect_keys(&passphrase, &protection).unwrap().len(), 4);
    assert_eq!(reader.protect_keys(&passphrase, &protection).unwrap().len(), 0, "what is done is left alone");
    assert!(Ledger::open(&bench.path(), &with("correct horse battery"), bench.clock()).is_err());
    drop(Ledger::open(&bench.path(), &with("another passphrase"), bench.clock()).unwrap());
    assert_eq!(reader.protect_keys(&other, &Protection::Plain).unwrap().len(), 4);
    verified(&bench.open().unwrap());
}

/// A script that signs with a key file through OpenSSL, which is nobody of ours.
fn openssl_signer(dir: &Path, key: &SigningKey, body: &str) -> std::path::PathBuf {
    let pem = dir.join("hsm.pem");
    if !pem.exists() {
        key.save(&pem, &Protection::Plain).unwrap();
    }
    let script = dir.join("sign.sh");
    fs::write(&script, format!("#!/bin/sh\n{}\n", body.replace("KEY", &pem.display().to_string()))).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let config = dir.join("hsm.signer.toml");
    let public = BASE64.encode(key.public().as_bytes());
    let text = format!("public_key = '{public}'\nexec = ['{}']\ntimeout_ms = 2000\n", script.display());
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    config
}

const SIGNS: &str =
    "t=$(mktemp) && cat > $t && openssl pkeyutl -sign -rawin -inkey KEY -in $t; s=$?; rm -f $t; exit $s";

#[test]
fn an_external_signer_signs_and_its_failure_makes_checkpoints_late_and_nothing_else() {
    let bench = Bench::new();
    drop(bench.init());
    let dir = tempfile::tempdir().unwrap();
    let key = pair(60);
    let config = openssl_signer(dir.path(), &key, SIGNS);
    let rotation = to(Role::Log, KeySource::External(config.clone()));
    Ledger::rotate_key(&bench.path(), &OpenOptions::default(), bench.clock(), &rotation).unwrap();
    let ledger = bench.open().unwrap();
    append(&ledger, 0..2);
    ledger.settle().unwrap();
    verified(&ledger);
    let good = ledger.checkpoint().unwrap().unwrap();
    assert!(Checkpoint::verify(&good, &VerifierKey::new(ORIGIN, key.public()).unwrap()).is_ok());

    let mut next = 2;
    for (broken, says) in [
        ("exit 1", "ended with exit status: 1"),
        ("echo garbage", "neither 64 bytes nor their base64"),
        ("head -c 64 /dev/zero", "does not verify"),
        ("cat > /dev/null; printf x | openssl pkeyutl -sign -rawin -inkey KEY -in /dev/null", ""),
        ("exec sleep 1000", "gave no answer within 2000 ms"),
    ] {
        openssl_signer(dir.path(), &key, broken);
        append(&ledger, next..=next);
        next += 1;
        let error = ledger.settle().unwrap_err();
        assert!(
            matches!(&error, AppendError::Unsigned { detail } if detail.contains(says)),
            "{broken}: {error}"
        );
        assert!(ledger.signing_failure().unwrap().detail.contains(says));
        append(&ledger, next..=next);
        next += 1;
        assert_eq!(ledger.checkpoint().unwrap().unwrap(), good, "{broken}: nothing unsigned is shown");
        let report = ledger.verify(&mut |_, _| {}).unwrap();
        assert!(report.is_clean() && report.unsigned > 0, "{:?}", report.failures);
    }
    openssl_signer(dir.path(), &key, SIGNS);
    ledger.settle().unwrap();
    assert_eq!(ledger.signing_failure(), None);
    verified(&ledger);
    drop(ledger);

    // Closed while the signer is down: everything is there, and the next open signs it.
    let ledger = bench.open().unwrap();
    append(&ledger, 100..101);
    openssl_signer(dir.path(), &key, "exit 1");
    let size = ledger.head().size;
    drop(ledger);
    let ledger = bench.open().unwrap();
    assert_eq!(ledger.head().size, size);
    openssl_signer(dir.path(), &key, SIGNS);
    ledger.settle().unwrap();
    assert!(ledger.checkpoint_at(size).unwrap().is_some());

    // A signer that cannot sign is not put into force.
    drop(ledger);
    let before = bench.open().unwrap().verifier_key();
    let other = tempfile::tempdir().unwrap();
    let config = openssl_signer(other.path(), &pair(61), "exit 1");
    let rotation = to(Role::Log, KeySource::External(config));
    let refused = Ledger::rotate_key(&bench.path(), &OpenOptions::default(), bench.clock(), &rotation);
    assert!(matches!(refused, Err(LedgerError::Signer(_))));
    assert_eq!(bench.open().unwrap().verifier_key(), before);
}

#[test]
fn a_real_ssh_agent_holds_the_log_key() {
    use std::process::Command;
    if Command::new("ssh-agent").arg("-V").output().is_err() && Command::new("ssh-add").output().is_err() {
        eprintln!("SKIPPED: no ssh-agent on this machine");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("id");
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file).output().unwrap();
    assert!(made.status.success());
    let socket = dir.path().join("agent.sock");
    let mut agent = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // The agent is there when it takes the key; each try asks the agent itself.
    let added = (0..10_000).any(|_| {
        let added =
            Command::new("ssh-add").arg("-q").arg(&file).env("SSH_AUTH_SOCK", &socket).output().unwrap();
        added.status.success()
    });
    let text = fs::read_to_string(dir.path().join("id.pub")).unwrap();
    let blob = BASE64.decode(text.split(' ').nth(1).unwrap()).unwrap();
    let config = dir.path().join("agent.signer.toml");
    let public = BASE64.encode(&blob[blob.len() - 32..]);
    fs::write(&config, format!("public_key = '{public}'\nssh_agent = '{}'\n", socket.display())).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let bench = Bench::new();
    let options = InitOptions { log_signer: Some(config), ..InitOptions::new(ORIGIN) };
    let ledger = Ledger::init(&bench.path(), &options, bench.clock());
    let result = ledger.map(|ledger| {
        append(&ledger, 0..2);
        ledger.settle().unwrap();
        verified(&ledger);
        ledger.checkpoint().unwrap().unwrap()
    });
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(added, "the agent took no key");
    assert!(result.unwrap().starts_with(ORIGIN));
}

#[test]
fn openssl_reads_our_encrypted_keys_and_we_read_its() {
    use std::process::Command;
    let dir = tempfile::tempdir().unwrap();
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).current_dir(dir.path()).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    let passphrase = Passphrase::new("correct horse battery").unwrap();
    let entropy = SteppingEntropy::default();
    let key = pair(70);
    let protection = Protection::Encrypted { passphrase: &passphrase, entropy: &entropy };
    key.save(&dir.path().join("ours.pem"), &protection).unwrap();
    let der = openssl(&[
        "pkey",
        "-in",
        "ours.pem",
        "-passin",
        "pass:correct horse battery",
        "-pubout",
        "-outform",
        "DER",
    ]);
    assert!(der.ends_with(key.public().as_bytes()));

    key.save(&dir.path().join("plain.pem"), &Protection::Plain).unwrap();
    openssl(&[
        "pkey",
        "-in",
        "plain.pem",
        "-aes256",
        "-passout",
        "pass:correct horse battery",
        "-out",
        "a.pem",
    ]);
    openssl(&[
        "pkey",
        "-in",
        "plain.pem",
        "-aes-128-cbc",
        "-passout",
        "pass:correct horse battery",
        "-out",
        "b.pem",
    ]);
    openssl(&[
        "pkcs8",
        "-topk8",
        "-scrypt",
        "-in",
        "plain.pem",
        "-passout",
        "pass:correct horse battery",
        "-out",
        "c.pem",
    ]);
    openssl(&[
        "pkcs8",
        "-topk8",
        "-v2prf",
        "hmacWithSHA512",
        "-in",
        "plain.pem",
        "-passout",
        "pass:correct horse battery",
        "-out",
        "d.pem",
    ]);
    for file in ["a.pem", "b.pem", "c.pem", "d.pem"] {
        let path = dir.path().join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(SigningKey::load(&path, &passphrase).unwrap().public(), key.public(), "{file}");
        let other = Passphrase::new("something else").unwrap();
        assert!(matches!(SigningKey::load(&path, &other), Err(KeyError::WrongPassphrase { .. })), "{file}");
    }
    // Another kind of key is named as what it is not, encrypted or not.
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "ec.pem"]);
    openssl(&[
        "pkey",
        "-in",
        "ec.pem",
        "-aes256",
        "-passout",
        "pass:correct horse battery",
        "-out",
        "ec2.pem",
    ]);
    openssl(&[
        "pkcs8",
        "-topk8",
        "-v1",
        "PBE-SHA1-3DES",
        "-in",
        "plain.pem",
        "-passout",
        "pass:x",
        "-out",
        "old.pem",
    ]);
    for file in ["ec.pem", "ec2.pem", "old.pem"] {
        let path = dir.path().join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = SigningKey::load(&path, &passphrase).unwrap_err();
        assert!(matches!(error, KeyError::Format { .. }), "{file}: {error}");
    }
}
