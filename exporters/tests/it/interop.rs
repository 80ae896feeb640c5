//! Tools that we did not write check what we wrote. A tool that is not there is said to be missing, on stderr.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ct_merkle::{HashableLeaf, InclusionProof, RootHash};
use signed_note::{Note, StandardVerifier, VerifierList};
use verdict_exporters::evidence::{Built, Selection, Withhold};
use verdict_ledger::note::TlogProof;

use crate::fixture::{Log, trace, unzip};

fn extract(built: &Built) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    zip::ZipArchive::new(std::io::Cursor::new(&built.bytes)).unwrap().extract(dir.path()).unwrap();
    let bag = dir.path().join(&built.name);
    (dir, bag)
}

/// Runs a command; `None`, said aloud, when the program is not installed.
fn run(command: &mut Command) -> Option<(bool, String)> {
    match command.output() {
        Ok(out) => {
            // Deprecation warnings of a tool that succeeds are not its answer.
            let said = if out.status.success() { out.stdout } else { [out.stdout, out.stderr].concat() };
            Some((out.status.success(), String::from_utf8_lossy(&said).into_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skipped(&format!("{} is not installed", command.get_program().display()));
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

#[expect(clippy::print_stderr, reason = "a check that did not run must not look like one that passed")]
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// The interpreter with the independent verifiers.
fn python() -> Option<PathBuf> {
    let set = ["VERDICT_INTEROP_PYTHON", "VERDICT_PYTHON"].into_iter().find_map(std::env::var_os);
    if set.is_none() {
        skipped(
            "neither VERDICT_INTEROP_PYTHON nor VERDICT_PYTHON names a Python with bagit, securesystemslib and pymerkle",
        );
    }
    set.map(PathBuf::from)
}

fn python_says(bag: &Path, script: &str) -> Option<String> {
    let python = python()?;
    let (ok, text) = run(Command::new(python).arg("-c").arg(script).current_dir(bag))?;
    assert!(ok, "{text}");
    Some(text)
}

#[test]
fn sha256sum_reads_both_manifests() {
    let log = Log::new(30);
    for selection in [trace(), Selection::Range(0..30)] {
        let (_dir, bag) = extract(&log.build(selection, Withhold::Nothing));
        for manifest in ["manifest-sha256.txt", "tagmanifest-sha256.txt"] {
            let Some((ok, text)) =
                run(Command::new("sha256sum").args(["--check", "--strict", manifest]).current_dir(&bag))
            else {
                return;
            };
            assert!(ok, "{manifest}: {text}");
        }
        std::fs::write(bag.join("data/index.csv"), "seq\n").unwrap();
        let (ok, _) =
            run(Command::new("sha256sum").args(["--check", "manifest-sha256.txt"]).current_dir(&bag))
                .unwrap();
        assert!(!ok, "a changed file passes");
    }
}

#[test]
fn openssl_verifies_the_envelope_and_the_checkpoint() {
    let log = Log::new(30);
    let built = log.build(trace(), Withhold::Nothing);
    let (dir, bag) = extract(&built);
    let keys = std::fs::read_to_string(bag.join("data/log/keys.jsonl")).unwrap();
    let spki: Vec<String> = keys
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["spki"].as_str().unwrap().to_owned()
        })
        .collect();
    let envelope: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bag.join("signature.dsse.json")).unwrap()).unwrap();
    let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let mut pae = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len()).into_bytes();
    pae.extend(payload);
    let checkpoint = std::fs::read_to_string(bag.join("data/log/checkpoint")).unwrap();
    let (text, signature) = checkpoint.split_once("\n\n").unwrap();
    let signature = STANDARD.decode(signature.trim_end().rsplit_once(' ').unwrap().1).unwrap();
    let cases = [
        (&spki[0], format!("{text}\n").into_bytes(), signature[4..].to_vec()),
        (&spki[1], pae, STANDARD.decode(envelope["signatures"][0]["sig"].as_str().unwrap()).unwrap()),
    ];
    for (number, (spki, message, signature)) in cases.into_iter().enumerate() {
        let path = |name: &str| dir.path().join(format!("{number}.{name}"));
        std::fs::write(
            path("pem"),
            format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n"),
        )
        .unwrap();
        std::fs::write(path("sig"), signature).unwrap();
        for (message, want) in [(message.clone(), true), ([message.as_slice(), b"x"].concat(), false)] {
            std::fs::write(path("msg"), message).unwrap();
            let mut command = Command::new("openssl");
            command.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]).arg(path("pem"));
            command.arg("-in").arg(path("msg")).arg("-sigfile").arg(path("sig"));
            let Some((ok, text)) = run(&mut command) else { return };
            assert_eq!(ok, want, "{text}");
        }
    }
}

#[test]
fn bagit_says_the_bag_is_valid() {
    let (_dir, bag) = extract(&Log::new(30).build(trace(), Withhold::Nothing));
    let script =
        "import bagit\nbag = bagit.Bag('.')\nbag.validate()\nprint(bag.version, bag.info['Payload-Oxum'])\n";
    if let Some(text) = python_says(&bag, script) {
        assert!(text.starts_with("1.0 "), "{text}");
    }
}

#[test]
fn securesystemslib_verifies_the_envelope() {
    let (_dir, bag) = extract(&Log::new(30).build(trace(), Withhold::Nothing));
    let script = r"
import base64, json
from cryptography.hazmat.primitives.serialization import load_der_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey
key = [json.loads(line) for line in open('data/log/keys.jsonl')][1]
public = SSlibKey.from_crypto(load_der_public_key(base64.b64decode(key['spki'])), keyid=key['keyid'])
envelope = Envelope.from_dict(json.load(open('signature.dsse.json')))
print(len(envelope.verify([public], 1)), json.loads(envelope.payload)['_type'])
envelope.payload += b' '
try:
    envelope.verify([public], 1)
    print('accepted a changed payload')
except Exception:
    print('refused')
";
    if let Some(text) = python_says(&bag, script) {
        assert_eq!(text, "1 https://in-toto.io/Statement/v1\nrefused\n");
    }
}

#[test]
fn pymerkle_computes_the_root_from_the_events() {
    let (_dir, bag) = extract(&Log::new(300).build(Selection::Range(0..300), Withhold::Nothing));
    let script = r"
import base64
from pymerkle import InmemoryTree
tree = InmemoryTree(algorithm='sha256')
for line in open('data/events.jsonl', 'rb').read().split(b'\n')[:-1]:
    tree.append_entry(line)
root = tree.get_state()
print(base64.b64encode(root).decode() == open('data/log/checkpoint').read().split('\n')[2])
";
    if let Some(text) = python_says(&bag, script) {
        assert_eq!(text.trim(), "True");
    }
}

struct Raw(Vec<u8>);

impl HashableLeaf for Raw {
    fn hash<H: ct_merkle::digest::Update>(&self, hasher: &mut H) {
        hasher.update(&self.0);
    }
}

#[test]
fn other_verifiers_accept_the_checkpoint_and_a_proof_and_refuse_another_entry() {
    let log = Log::new(300);
    let built = log.build(trace(), Withhold::Nothing);
    let files = unzip(&built.bytes);
    let verifier = StandardVerifier::new(&built.log_key).unwrap();
    let note = Note::from_bytes(&files["data/log/checkpoint"]).unwrap();
    let (verified, unknown) = note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
    assert_eq!((verified.len(), unknown.len()), (1, 0));
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(checkpoint.size(), 300);

    let proof = TlogProof::parse(std::str::from_utf8(&files["data/proofs/5.tlog-proof"]).unwrap()).unwrap();
    let entries: Vec<&[u8]> = files["data/events.jsonl"].split(|byte| *byte == b'\n').collect();
    let entry =
        entries.iter().find(|entry| String::from_utf8_lossy(entry).contains("\"seq\":\"5\"")).unwrap();
    let hashes: Vec<_> = proof.hashes.iter().map(|hash| tlog_tiles::Hash(hash.0)).collect();
    let holds = |entry: &[u8]| {
        tlog_tiles::check_record(&hashes, 300, *checkpoint.hash(), 5, tlog_tiles::record_hash(entry)).is_ok()
    };
    assert!(holds(entry));
    assert!(!holds(&entry[1..]));

    let flat: Vec<u8> = proof.hashes.iter().flat_map(|hash| hash.0).collect();
    let inclusion = InclusionProof::<sha2::Sha256>::try_from_bytes(flat).unwrap();
    let root = RootHash::<sha2::Sha256>::new(checkpoint.hash().0.into(), 300);
    root.verify_inclusion(&Raw(entry.to_vec()), 5, &inclusion).unwrap();
    assert!(root.verify_inclusion(&Raw(entries[0].to_vec()), 5, &inclusion).is_err());
}
