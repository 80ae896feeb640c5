//! A small log in memory, with everything that a bundle can hold, and the keys.

use std::collections::BTreeMap;
use std::convert::Infallible;

use serde_json::{Value, json};
use verdict_exporters::evidence::{
    Built, ExportOptions, HistoryEntry, Limits, Material, PolicyMaterial, Reevaluation, Selection,
    VerifierKeys, VerifyReport, Withhold, build, verify,
};
use verdict_ledger::clock::SteppingEntropy;
use verdict_ledger::disclosure;
use verdict_ledger::event::{ActionKind, Effect};
use verdict_ledger::id::{Digest, TraceId};
use verdict_ledger::key::SigningKey;
use verdict_ledger::merkle::{Hash, Nodes, inclusion_proof, leaf_hash, root_of};
use verdict_ledger::note::{Checkpoint, VerifierKey};
use verdict_replay::policy::{Bundle, Decision, EngineId, RuleRef};
use verdict_replay::run::{Answer, Point, Recorded, Replayed, Run, RunHeader, Select, Semantics};

pub(crate) const ORIGIN: &str = "ledger.example/it";
pub(crate) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
pub(crate) const SECRET: &str = "ada@example.org";

pub(crate) struct Log {
    entries: Vec<Vec<u8>>,
    disclosures: BTreeMap<u64, Vec<String>>,
    pub(crate) policy: Bundle,
    log_key: SigningKey,
    /// Entries in quarantine.
    pub(crate) held: Vec<u64>,
    pub(crate) bundle_key: SigningKey,
}

struct Leaves(Vec<Hash>);

impl Nodes for Leaves {
    type Error = Infallible;
    fn perfect(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
        let width = 1usize << level;
        let start = usize::try_from(index).unwrap() * width;
        Ok(root_of(self.0[start..start + width].iter().copied()))
    }
}

impl Log {
    /// Entry 2 publishes a policy, entries 4, 5 and 6 are of [`TRACE`], the others of nothing in particular.
    pub(crate) fn new(size: u64) -> Self {
        let entropy = SteppingEntropy::starting_at(1);
        let settings =
            "name = \"agents\"\nversion = \"v1\"\nengine = \"rego\"\nentrypoint = \"data.agents.findings\"\n";
        let rego = "package agents\n\nfindings contains f if { false; f := {} }\n";
        let policy = Bundle::from_files(BTreeMap::from([
            ("verdict.toml".to_owned(), settings.into()),
            ("policy/agents.rego".to_owned(), rego.into()),
        ]))
        .unwrap();
        let mut log = Self {
            entries: Vec::new(),
            disclosures: BTreeMap::new(),
            policy,
            log_key: SigningKey::generate(&SteppingEntropy::starting_at(2)).unwrap(),
            held: Vec::new(),
            bundle_key: SigningKey::generate(&SteppingEntropy::starting_at(3)).unwrap(),
        };
        for seq in 0..size {
            let (kind, body) = log.body(seq);
            let (body, disclosures) = disclosure::split(body.as_object().unwrap().clone(), &entropy).unwrap();
            let entry = json!({
                "_sd_alg": "sha-256", "body": body, "origin": ORIGIN, "prev": format!("b3:{:064x}", seq),
                "seq": seq.to_string(), "ts": format!("2026-11-20T17:00:{:02}.000000{:03}Z", seq / 1000 % 60, seq % 1000),
                "type": kind, "v": 1,
            });
            log.entries.push(serde_json::to_vec(&entry).unwrap());
            if !disclosures.is_empty() {
                log.disclosures.insert(seq, disclosures.iter().map(|d| d.encoded().to_owned()).collect());
            }
        }
        log
    }

    fn body(&self, seq: u64) -> (&'static str, Value) {
        let digest = self.policy.digest().to_string();
        let body = match seq {
            0 => {
                return (
                    "ledger.created",
                    json!({"id": "ledger", "uuid": "00", "format": 1,
                           "verifier_key": VerifierKey::new(ORIGIN, self.log_key.public()).unwrap(),
                           "bundle_key": VerifierKey::new("ledger.example/it/bundle", self.bundle_key.public()).unwrap()}),
                );
            }
            2 => {
                return (
                    "policy.published",
                    json!({"id": "p", "digest": digest, "name": "agents", "version": "v1", "by": "grace"}),
                );
            }
            4 => json!({
                "id": "e4", "trace_id": TRACE, "agent": {"name": "harbor-agent"}, "user": SECRET,
                "action": {"kind": "tool", "name": "issue_refund", "arguments": {"amount": 1200, "note": "<script>alert(1)</script>"}},
                "decision": {"effect": "block", "enforced": true, "reason": "refund over the limit", "by": {"kind": "policy"},
                             "policy": {"bundle": digest, "version": "v1", "rules": ["refund_limit"]}},
            }),
            5 => json!({
                "id": "e5", "trace_id": TRACE, "agent": {"name": "harbor-agent"},
                "action": {"kind": "tool", "name": "=HYPERLINK(\"http://x\")", "arguments": {"q": "opening hours"}},
                "provenance": [{"kind": "retrieval", "trust": "unverified"}],
                "decision": {"effect": "allow", "enforced": true, "by": {"kind": "policy"},
                             "policy": {"bundle": digest, "version": "v1", "rules": []}},
                "outcome": {"status": "ok", "result": {"text": "9 to 5"}},
            }),
            6 => json!({
                "id": "e6", "trace_id": TRACE,
                "action": {"kind": "model", "name": "m-1"},
                "usage": {"input_tokens": 10, "output_tokens": 4},
                "outcome": {"status": "error", "error": {"type": "timeout", "message": "no answer for ada"}},
            }),
            _ => json!({
                "id": format!("e{seq}"), "agent": {"name": "other"},
                "action": {"kind": "tool", "name": "lookup", "arguments": {"n": seq}},
                "outcome": {"status": "ok"},
            }),
        };
        ("action.reported", body)
    }

    pub(crate) fn material(&self, selection: Selection) -> Material {
        let size = self.entries.len() as u64;
        let tree = Leaves(self.entries.iter().map(|entry| leaf_hash(entry)).collect());
        let root = root_of(tree.0.iter().copied());
        let checkpoint = Checkpoint { origin: ORIGIN.into(), size, root };
        let (seqs, proven): (Vec<u64>, Vec<u64>) = match &selection {
            Selection::Range(range) => (range.clone().collect(), vec![range.start, range.end - 1]),
            Selection::Trace(_) => (vec![2, 4, 5, 6], vec![2, 4, 5, 6]),
        };
        let named = seqs.iter().any(|seq| [2, 4, 5].contains(seq));
        let policies = named.then(|| PolicyMaterial {
            digest: self.policy.digest(),
            name: Some("agents".into()),
            version: Some("v1".into()),
            files: Some(self.policy.files().clone()),
        });
        let keep = |seq: &u64| seqs.contains(seq);
        Material {
            selection,
            checkpoint: checkpoint.sign(&self.log_key).unwrap(),
            log_key: VerifierKey::new(ORIGIN, self.log_key.public()).unwrap().to_string(),
            quarantined: self.held.iter().copied().filter(keep).collect(),
            entries: seqs
                .iter()
                .map(|seq| (*seq, self.entries[usize::try_from(*seq).unwrap()].clone()))
                .collect(),
            proofs: proven.iter().map(|seq| (*seq, inclusion_proof(&tree, *seq, size).unwrap())).collect(),
            disclosures: self
                .disclosures
                .iter()
                .filter(|(seq, _)| keep(seq))
                .map(|(s, d)| (*s, d.clone()))
                .collect(),
            policies: policies.into_iter().collect(),
            history: vec![HistoryEntry {
                seq: 0,
                entry: self.entries[0].clone(),
                inclusion: inclusion_proof(&tree, 0, size).unwrap(),
                handover: None,
            }],
            reevaluations: if named && seqs.len() > 3 { vec![self.reevaluation(size)] } else { Vec::new() },
        }
    }

    /// What replay says: 4 is blocked again, 5 would now be blocked.
    fn reevaluation(&self, size: u64) -> Reevaluation {
        let digest = self.policy.digest();
        let point = |seq: u64, recorded: Effect| {
            let point = Point {
                key: seq,
                trace_id: TRACE.parse().ok(),
                agent: Some("harbor-agent".into()),
                tenant: None,
                kind: ActionKind::Tool,
                name: "t".into(),
                at_ns: 1,
                recorded: Some(Recorded {
                    effect: recorded,
                    rules: vec![],
                    bundle: Some(digest),
                    version: None,
                    seq,
                }),
                outcome: None,
                cost: None,
                input: Digest([9; 32]),
                input_bytes: 0,
            };
            let answer = Answer::Decided {
                decision: Decision {
                    effect: Effect::Block,
                    rules: vec![RuleRef { id: "refund_limit".into(), file: None, line: None }],
                    obligations: vec![],
                    findings: vec![],
                    error: None,
                },
            };
            Replayed::new(point, answer)
        };
        let run = Run {
            header: RunHeader {
                origin: ORIGIN.into(),
                first_seq: 0,
                end_seq: size,
                root: String::new(),
                policy_name: "agents".into(),
                policy_version: "v1".into(),
                policy_digest: digest,
                engine: EngineId("test".into()),
                input_schema: "verdict-input/1".into(),
                semantics: Semantics::Pointwise,
                prices: None,
                select: Select::default(),
            },
            points: vec![point(4, Effect::Block), point(5, Effect::Allow)],
            rules: vec![],
            digest: Digest([8; 32]),
        };
        Reevaluation { digest, run: Ok(run) }
    }

    pub(crate) fn build(&self, selection: Selection, withhold: Withhold) -> Built {
        build(&self.material(selection), &self.options(withhold)).unwrap()
    }

    pub(crate) fn options(&self, withhold: Withhold) -> ExportOptions<'_> {
        ExportOptions {
            signer: &self.bundle_key,
            signer_name: "ledger.example/it/bundle",
            tool_version: "0.0.0-test",
            withhold,
            checkpoint: None,
        }
    }

    pub(crate) fn keys(&self) -> VerifierKeys {
        VerifierKeys {
            log: vec![VerifierKey::new(ORIGIN, self.log_key.public()).unwrap()],
            bundle: vec![VerifierKey::new("auditor-name-for-it", self.bundle_key.public()).unwrap()],
            ..VerifierKeys::default()
        }
    }

    pub(crate) fn log_key(&self) -> &SigningKey {
        &self.log_key
    }
}

pub(crate) fn trace() -> Selection {
    Selection::Trace(TRACE.parse::<TraceId>().unwrap())
}

pub(crate) fn check(bytes: &[u8], keys: &VerifierKeys) -> VerifyReport {
    verify(bytes, keys, &Limits::default()).unwrap()
}

/// The files of a bundle below its base directory, read by a ZIP reader that is not ours.
pub(crate) fn unzip(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    use std::io::Read as _;
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let name = file.name().unwrap().split_once('/').unwrap().1.to_owned();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        files.insert(name, content);
    }
    files
}
