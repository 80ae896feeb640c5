//! Makes a bundle of material: a pure function, so that the same material gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use verdict_ledger::disclosure::{self, Disclosure};
use verdict_ledger::id::Digest;
use verdict_ledger::note::{Checkpoint, NoteError, TlogProof, VerifierKey};
use verdict_ledger::signer::{Signer, SignerError, sign_verified};
use verdict_ledger::{Ledger, NewRecord};

use super::check::{Check, Checks, Status};
use super::compliance::{self, Oscal};
use super::content::{self, Content, DisclosureLine, Files};
use super::facts::{self, Facts};
use super::history::{self, HISTORY};
use super::material::{Material, MaterialError, Selection};
use super::redaction::{self, Reason, Redaction, Withhold};
use super::report;
use super::transcript::Transcript;
use super::verify::VerifierKeys;
use super::{policies, verify};
use crate::archive::{self, ArchiveError, Packed};
use crate::bag;
use crate::dsse::{self, Envelope};
use crate::statement::{
    CheckpointRef, PREDICATE_TYPE, PolicyInForce, Predicate, STATEMENT_TYPE, SelectionRef, Sha256Hex,
    Statement, Subject, Tool,
};

/// The offline verifier page. The same in every bundle of a version.
const VERIFY_PAGE: &str = include_str!("../../assets/verify.html");
const TOOL: &str = "verdict";

/// How to export.
#[derive(Debug, Clone)]
pub struct ExportOptions<'a> {
    /// Bundle key; never the log key.
    pub signer: &'a dyn Signer,
    /// Name of the bundle key in its verifier key text.
    pub signer_name: &'a str,
    /// Version of the program.
    pub tool_version: &'a str,
    /// What is left out.
    pub withhold: Withhold,
    /// Size of the checkpoint to prove against; the newest when `None`.
    pub checkpoint: Option<u64>,
}

/// A finished bundle.
#[derive(Debug, Clone)]
pub struct Built {
    /// The ZIP archive.
    pub bytes: Vec<u8>,
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// Name without extension; the base directory inside.
    pub name: String,
    /// What it says about itself.
    pub predicate: Predicate,
    /// Verifier key of the bundle key, to hand to auditors by another way than the bundle.
    pub bundle_key: String,
    /// Verifier key of the log, likewise.
    pub log_key: String,
}

/// Why a bundle was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The selection cannot be read from the ledger.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// The archive cannot be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A key cannot be named.
    #[error("`{name}` cannot name the bundle key")]
    KeyName {
        /// Name.
        name: String,
        /// Why.
        #[source]
        source: NoteError,
    },
    /// The bundle key is the log key.
    #[error("the bundle key is the log key; one key must not sign two kinds of statements, so make another")]
    SharedKey,
    /// The bundle would be larger than verifiers accept by default.
    #[error(
        "the bundle would have {files} files, verifiers accept {limit}; export a range instead of a trace, or a smaller range"
    )]
    TooManyFiles {
        /// Files in the bundle.
        files: u64,
        /// Limit.
        limit: u64,
    },
    /// An entry or disclosure of the material cannot be read.
    #[error("entry {seq}: {detail}; run `verdict verify`")]
    Entry {
        /// Position.
        seq: u64,
        /// What is wrong.
        detail: String,
    },
    /// The material does not hold; nothing was signed.
    #[error(
        "the ledger's own data fails the check `{check}`: {detail}; nothing was signed, run `verdict verify`"
    )]
    Unsound {
        /// Check.
        check: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The bundle key does not sign.
    #[error("the bundle was not signed")]
    Signer(#[from] SignerError),
    /// A part cannot be written as JSON or HTML.
    #[error("cannot write `{file}`: {detail}")]
    Render {
        /// File.
        file: &'static str,
        /// Why.
        detail: String,
    },
}

/// Exports a selection of a ledger as a signed bundle.
pub fn export(
    ledger: &Ledger,
    selection: &Selection,
    options: &ExportOptions<'_>,
) -> Result<Built, ExportError> {
    build(&Material::collect(ledger, selection, options.checkpoint)?, options)
}

/// Makes the event that records an export. `by` is who asked for it.
pub fn export_event(built: &Built, by: &str) -> NewRecord {
    let mut body = Map::new();
    body.insert("id".into(), Value::from(format!("export.created/{}", built.digest)));
    body.insert("bundle".into(), Value::from(built.digest.to_string()));
    body.insert("name".into(), Value::from(built.name.clone()));
    body.insert("by".into(), Value::from(by));
    body.insert("selection".into(), json_or_null(&built.predicate.selection));
    body.insert("checkpoint".into(), json_or_null(&built.predicate.checkpoint));
    body.insert("redactions".into(), Value::from(built.predicate.counts.redactions.to_string()));
    NewRecord::system("export.created", body)
}

fn json_or_null(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// Makes a bundle of material.
pub fn build(material: &Material, options: &ExportOptions<'_>) -> Result<Built, ExportError> {
    let unsound = |check, error: NoteError| ExportError::Unsound { check, detail: error.to_string() };
    let log_key = VerifierKey::parse(&material.log_key).map_err(|error| unsound("checkpoint", error))?;
    let checkpoint =
        Checkpoint::verify(&material.checkpoint, &log_key).map_err(|error| unsound("checkpoint", error))?;
    let bundle_key = VerifierKey::new(options.signer_name, options.signer.public())
        .map_err(|source| ExportError::KeyName { name: options.signer_name.to_owned(), source })?;
    if bundle_key.public() == log_key.public() {
        return Err(ExportError::SharedKey);
    }
    let draft = Draft::new(material, &checkpoint, &options.withhold)?;
    let mut predicate = draft.predicate(material, &checkpoint, options);
    let mut files = draft.files(material, &predicate, &log_key, &bundle_key)?;
    limit_files(&files)?;

    let mut checks = Checks::default();
    let keys = VerifierKeys { log: vec![log_key.clone()], ..VerifierKeys::default() };
    let content = Content { files: &files, predicate: &predicate, keys: &keys };
    content.check(content.check_log(), &mut checks);
    if let Some(Check { name, detail, .. }) = checks.0.iter().find(|check| check.status != Status::Ok) {
        return Err(ExportError::Unsound { check: name, detail: detail.clone() });
    }
    files.insert("data/verification.json".into(), verification(&checks, &predicate, &log_key, &bundle_key)?);
    let transcript = Transcript::of(material, draft.decisions());
    if let Some(transcript) = &transcript {
        files.insert(
            "data/replay/transcript.json".into(),
            json_file("data/replay/transcript.json", transcript)?,
        );
    }
    let report = report::Input {
        predicate: &predicate,
        facts: &draft.facts,
        disclosed: &draft.disclosed,
        redactions: &draft.redactions,
        transcript: transcript.as_ref(),
        controls: &draft.controls,
        log_key: &log_key,
        bundle_key: &bundle_key,
    };
    let html =
        report::render(&report).map_err(|detail| ExportError::Render { file: "data/report.html", detail })?;
    files.insert("data/report.html".into(), html.into_bytes());
    files.insert("data/verify.html".into(), VERIFY_PAGE.as_bytes().to_vec());
    seal(&files, &mut predicate, &draft, options).map(|(bytes, name)| Built {
        digest: Digest::of(&bytes),
        bytes,
        name,
        predicate,
        bundle_key: bundle_key.to_string(),
        log_key: log_key.to_string(),
    })
}

fn limit_files(files: &Files) -> Result<(), ExportError> {
    // More are added: tag files, report, verifier page, verification, transcript.
    let (files, limit) = (files.len() as u64 + 12, archive::Limits::default().files);
    if files > limit { Err(ExportError::TooManyFiles { files, limit }) } else { Ok(()) }
}

/// What is derived from the material before anything is written.
struct Draft {
    name: String,
    facts: Vec<Facts>,
    disclosed: BTreeMap<u64, Vec<Disclosure>>,
    redactions: Vec<Redaction>,
    controls: Vec<compliance::Row>,
}

impl Draft {
    fn new(material: &Material, checkpoint: &Checkpoint, withhold: &Withhold) -> Result<Self, ExportError> {
        let mut all = Vec::with_capacity(material.entries.len());
        let mut disclosed = BTreeMap::new();
        let mut redactions = Vec::new();
        for (seq, entry) in &material.entries {
            let fail = |detail| ExportError::Entry { seq: *seq, detail };
            let entry = Facts::read(entry).map_err(fail)?;
            let encoded = material.disclosures.get(seq).map(Vec::as_slice).unwrap_or_default();
            let (shown, hidden) = choose(&entry, encoded, withhold).map_err(fail)?;
            redactions.extend(hidden);
            if !shown.is_empty() {
                disclosed.insert(*seq, shown);
            }
            all.push(entry);
        }
        facts::mark(&mut all, &material.quarantined);
        let controls = compliance::rows(&all, redactions.len() as u64);
        let name = bundle_name(material, checkpoint);
        Ok(Self { name, facts: all, disclosed, redactions, controls })
    }

    fn decisions(&self) -> u64 {
        self.facts.iter().filter(|entry| !entry.held && entry.effect().is_some()).count() as u64
    }

    fn period(&self) -> (&str, &str) {
        (
            self.facts.first().map_or("", |entry| entry.ts.as_str()),
            self.facts.last().map_or("", |entry| entry.ts.as_str()),
        )
    }

    fn predicate(
        &self,
        material: &Material,
        checkpoint: &Checkpoint,
        options: &ExportOptions<'_>,
    ) -> Predicate {
        let decisions = facts::decisions_by_policy(&self.facts);
        let mut policies: Vec<_> = material
            .policies
            .iter()
            .map(|policy| PolicyInForce {
                digest: policy.digest.to_string(),
                name: policy.name.clone(),
                version: policy.version.clone(),
                decisions: decisions.get(&policy.digest.to_string()).copied().unwrap_or_default(),
                included: policy.files.is_some(),
            })
            .collect();
        policies.sort();
        let disclosures = self.disclosed.values().map(Vec::len).sum::<usize>() as u64;
        Predicate {
            name: self.name.clone(),
            tool: Tool { name: TOOL.to_owned(), version: options.tool_version.to_owned() },
            origin: checkpoint.origin.clone(),
            checkpoint: CheckpointRef {
                size: checkpoint.size.to_string(),
                root: STANDARD.encode(checkpoint.root.0),
            },
            selection: match &material.selection {
                Selection::Range(range) => SelectionRef::Range {
                    first: range.start.to_string(),
                    last: range.end.saturating_sub(1).to_string(),
                },
                Selection::Trace(trace) => SelectionRef::Trace { trace_id: trace.to_string() },
            },
            quarantined: material.quarantined.iter().map(ToString::to_string).collect(),
            counts: facts::count(&self.facts, disclosures, self.redactions.len() as u64),
            policies,
            deflated: BTreeMap::new(),
        }
    }

    /// Writes every file whose content follows from the material alone.
    fn files(
        &self,
        material: &Material,
        predicate: &Predicate,
        log_key: &VerifierKey,
        bundle_key: &VerifierKey,
    ) -> Result<Files, ExportError> {
        let mut files = Files::new();
        let mut events = Vec::new();
        for entry in material.entries.values() {
            events.extend(entry);
            events.push(b'\n');
        }
        let events_sha256 = hex::encode(Sha256::digest(&events));
        files.insert(content::EVENTS.into(), events);
        let mut lines = Vec::new();
        for (seq, disclosures) in &self.disclosed {
            for disclosure in disclosures {
                let line = DisclosureLine { seq: seq.to_string(), d: disclosure.encoded().to_owned() };
                lines.extend(json_line(content::DISCLOSURES, &line)?);
            }
        }
        files.insert(content::DISCLOSURES.into(), lines);
        files.insert(content::INDEX.into(), facts::index_csv(&self.facts).into_bytes());
        files.insert(content::REDACTIONS.into(), redaction::to_csv(&self.redactions).into_bytes());
        files.insert(content::CHECKPOINT.into(), material.checkpoint.clone().into_bytes());
        for (seq, hashes) in &material.proofs {
            let proof =
                TlogProof { index: *seq, hashes: hashes.clone(), checkpoint: material.checkpoint.clone() };
            files.insert(content::proof_path(*seq), proof.to_string().into_bytes());
        }
        for policy in &material.policies {
            let directory = policies::directory(&policy.digest);
            for (path, bytes) in policy.files.iter().flatten() {
                files.insert(format!("{directory}{path}"), bytes.clone());
            }
        }
        files.insert(
            HISTORY.into(),
            history::to_jsonl(&material.history)
                .map_err(|error| ExportError::Render { file: HISTORY, detail: error.to_string() })?,
        );
        let keys = [KeyLine::new("log", log_key), KeyLine::new("bundle", bundle_key)];
        let mut lines = Vec::new();
        for key in &keys {
            lines.extend(json_line("data/log/keys.jsonl", key)?);
        }
        files.insert("data/log/keys.jsonl".into(), lines);
        files.insert(
            "data/log/policy.tlog-policy".into(),
            format!("log {log_key}\nquorum none\n").into_bytes(),
        );
        files.insert("data/compliance/controls.csv".into(), compliance::to_csv(&self.controls).into_bytes());
        let oscal = compliance::to_oscal(
            &self.controls,
            &Oscal {
                seed: &format!("{}\n{}", predicate.name, predicate.checkpoint.root),
                title: &format!("Evidence from the decision log {}: {}", predicate.origin, predicate.name),
                origin: &predicate.origin,
                size: &predicate.checkpoint.size,
                period: self.period(),
                events_sha256: &events_sha256,
            },
        );
        files.insert(OSCAL.into(), json_file(OSCAL, &oscal)?);
        Ok(files)
    }
}

const OSCAL: &str = "data/compliance/oscal-assessment-results.json";

/// Splits the disclosures of an entry into those that are shown and the list of what is not.
fn choose(
    entry: &Facts,
    encoded: &[String],
    withhold: &Withhold,
) -> Result<(Vec<Disclosure>, Vec<Redaction>), String> {
    let body = entry.body.as_object().cloned().unwrap_or_default();
    let mut shown = Vec::new();
    let mut kept_back = BTreeSet::new();
    for text in encoded {
        let disclosure = Disclosure::parse(text).map_err(|error| error.to_string())?;
        let digest = disclosure::digest(text);
        let member = redaction::pointer_of(&body, &digest, disclosure.name())
            .ok_or_else(|| format!("the disclosure of `{}` is not among its digests", disclosure.name()))?;
        if withhold.withholds(&member) {
            kept_back.insert(member);
        } else {
            shown.push((member, disclosure));
        }
    }
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    let shown: Vec<_> = shown.into_iter().map(|(_, disclosure)| disclosure).collect();
    let mut missing = content::merge(body, &shown)?;
    missing.sort();
    let redactions = missing.into_iter().map(|member| {
        let reason = if kept_back.contains(&member) { Reason::Withheld } else { Reason::Erased };
        Redaction { seq: entry.seq, member, reason }
    });
    Ok((shown, redactions.collect()))
}

fn bundle_name(material: &Material, checkpoint: &Checkpoint) -> String {
    let slug: String = checkpoint
        .origin
        .chars()
        .take(80)
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let slug = slug.trim_matches(['.', '-']);
    let what = match &material.selection {
        Selection::Range(range) => format!("{}-{}", range.start, range.end.saturating_sub(1)),
        Selection::Trace(trace) => format!("trace-{trace}"),
    };
    format!("evidence-{slug}-{what}-at-{}", checkpoint.size)
}

#[derive(Serialize)]
struct KeyLine {
    r#use: &'static str,
    vkey: String,
    keyid: String,
    spki: String,
}

impl KeyLine {
    fn new(r#use: &'static str, key: &VerifierKey) -> Self {
        let public = key.public().as_bytes();
        Self {
            r#use,
            vkey: key.to_string(),
            keyid: dsse::key_id(public),
            spki: STANDARD.encode(dsse::spki(public)),
        }
    }
}

fn verification(
    checks: &Checks,
    predicate: &Predicate,
    log_key: &VerifierKey,
    bundle_key: &VerifierKey,
) -> Result<Vec<u8>, ExportError> {
    #[derive(Serialize)]
    struct Verification<'a> {
        note: &'static str,
        tool: &'a Tool,
        log_key: String,
        bundle_key: String,
        checks: &'a [Check],
    }
    let content = Verification {
        note: "The exporter ran these checks before it signed. Run them yourself, with keys that you did not take from this bundle.",
        tool: &predicate.tool,
        log_key: log_key.to_string(),
        bundle_key: bundle_key.to_string(),
        checks: &checks.0,
    };
    json_file("data/verification.json", &content)
}

fn json_file(file: &'static str, value: &impl Serialize) -> Result<Vec<u8>, ExportError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| ExportError::Render { file, detail: error.to_string() })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn json_line(file: &'static str, value: &impl Serialize) -> Result<Vec<u8>, ExportError> {
    let mut bytes =
        serde_json::to_vec(value).map_err(|error| ExportError::Render { file, detail: error.to_string() })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Adds the tag files, signs, and packs.
fn seal(
    data: &Files,
    predicate: &mut Predicate,
    draft: &Draft,
    options: &ExportOptions<'_>,
) -> Result<(Vec<u8>, String), ExportError> {
    let base = &draft.name;
    let info = bag::Info {
        identifier: base,
        description: "Entries of a decision log with proofs; open data/report.html",
        date: draft.period().1.get(..10).unwrap_or_default(),
        software: &format!("{TOOL} {}", options.tool_version),
    };
    let mut tags = Files::new();
    tags.insert(verify::BAGIT.into(), bag::DECLARATION.as_bytes().to_vec());
    tags.insert(verify::BAG_INFO.into(), info.to_text(data).into_bytes());
    tags.insert(verify::MANIFEST.into(), bag::manifest(data).into_bytes());
    tags.insert(verify::README.into(), report::readme(predicate).into_bytes());

    let mut packed = BTreeMap::new();
    for (name, content) in data {
        let member = Packed::deflated(format!("{base}/{name}"), content.clone())?;
        if member.method() == archive::Method::Deflate {
            predicate.deflated.insert(name.clone(), hex::encode(Sha256::digest(member.bytes())));
        }
        packed.insert(name, member);
    }
    let subject = tags.iter().chain(data).map(|(name, content)| Subject {
        name: name.clone(),
        digest: Sha256Hex { sha256: hex::encode(Sha256::digest(content)) },
    });
    let statement = Statement {
        type_: STATEMENT_TYPE.to_owned(),
        subject: subject.collect(),
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: predicate.clone(),
    };
    let render = |error: serde_json::Error| ExportError::Render {
        file: "signature.dsse.json",
        detail: error.to_string(),
    };
    let payload = serde_json::to_vec(&statement).map_err(render)?;
    let signature = sign_verified(options.signer, &dsse::pae(dsse::IN_TOTO, &payload))?;
    let key_id = dsse::key_id(options.signer.public().as_bytes());
    let envelope = Envelope::new(&payload, key_id, &signature);
    tags.insert(verify::ENVELOPE.into(), envelope.to_bytes().map_err(render)?);
    tags.insert(verify::SIGSTORE.into(), envelope.to_sigstore().map_err(render)?);
    let tag_manifest = bag::manifest(&tags);
    tags.insert(verify::TAG_MANIFEST.into(), tag_manifest.into_bytes());

    let mut members = Vec::with_capacity(tags.len() + packed.len());
    for name in verify::TAG_FILES {
        // Stored: a changed byte in the files that say what to expect must stay one changed byte.
        let content = tags.remove(name).unwrap_or_default();
        members.push(Packed::stored(format!("{base}/{name}"), content)?);
    }
    members.extend(packed.into_values());
    Ok((archive::write(&members)?, base.clone()))
}
