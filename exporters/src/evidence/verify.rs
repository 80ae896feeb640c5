//! Verifies a bundle with keys that the verifier brings. Nothing is extracted, nothing in the bundle is trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use verdict_ledger::authority::Role;
use verdict_ledger::merkle::leaf_hash;
use verdict_ledger::note::VerifierKey;

use super::check::{Check, Checked, Checks, Fault, Status};
use super::content::{self, Content, Files, LogChecks};
use super::facts;
use crate::archive::{self, ArchiveError, Limits, Member, Method};
use crate::bag;
use crate::dsse::{self, Envelope};
use crate::statement::{PREDICATE_TYPE, Predicate, STATEMENT_TYPE, Statement, Subject};

pub(crate) const BAGIT: &str = "bagit.txt";
pub(crate) const BAG_INFO: &str = "bag-info.txt";
pub(crate) const MANIFEST: &str = "manifest-sha256.txt";
pub(crate) const TAG_MANIFEST: &str = "tagmanifest-sha256.txt";
pub(crate) const README: &str = "README.txt";
pub(crate) const ENVELOPE: &str = "signature.dsse.json";
pub(crate) const SIGSTORE: &str = "signature.sigstore.json";
/// The files beside `data/`, in the order of the archive.
pub(crate) const TAG_FILES: [&str; 7] = [BAGIT, BAG_INFO, MANIFEST, TAG_MANIFEST, README, ENVELOPE, SIGSTORE];
/// Tag files that no signed digest covers: the signatures, and the manifest that lists them.
const UNSIGNED: [&str; 3] = [TAG_MANIFEST, ENVELOPE, SIGSTORE];

/// Keys that the verifier trusts, from another source than the bundle.
#[derive(Debug, Clone, Default)]
pub struct VerifierKeys {
    /// Keys that may sign checkpoints.
    pub log: Vec<VerifierKey>,
    /// Keys that may sign bundles.
    pub bundle: Vec<VerifierKey>,
    /// Sizes of checkpoints that a key answers for, where the verifier was told: of former and of revoked keys.
    pub sizes: BTreeMap<String, SizeRange>,
}

impl VerifierKeys {
    /// Tells whether a key answers for checkpoints of this size.
    pub fn allows(&self, key: &VerifierKey, size: u64) -> bool {
        self.sizes.get(&key.to_string()).is_none_or(|range| range.holds(size))
    }
}

/// Sizes of checkpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SizeRange {
    /// First.
    pub from: u64,
    /// Last; `None`: no last one.
    pub to: Option<u64>,
}

impl SizeRange {
    /// Tells whether a size is among them.
    pub fn holds(&self, size: u64) -> bool {
        size >= self.from && self.to.is_none_or(|to| size <= to)
    }
}

/// How a verification ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every check holds.
    Verified,
    /// Something was changed.
    Tampered,
    /// Nothing is known to be changed, but a key is unknown or missing.
    Untrusted,
}

impl Outcome {
    /// Returns the exit code of the command line.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::Tampered => 1,
            Self::Untrusted => 3,
        }
    }
}

/// What a verification found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// How it ended.
    pub outcome: Outcome,
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// SHA-256 of the archive, hex.
    pub archive_sha256: String,
    /// What the bundle says about itself; worth something only when the outcome is `verified`.
    pub predicate: Option<Predicate>,
}

impl VerifyReport {
    /// Returns the first check that did not pass, failures first.
    pub fn first_failure(&self) -> Option<&Check> {
        let find = |status| self.checks.iter().find(|check| check.status == status);
        find(Status::Failed).or_else(|| find(Status::Untrusted)).or_else(|| find(Status::NotRun))
    }
}

/// Why a file could not be verified at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The file cannot be read.
    #[error("cannot read the bundle")]
    Io(#[from] std::io::Error),
    /// The file is not a bundle.
    #[error("this is not an evidence bundle: {detail}")]
    NotABundle {
        /// What it lacks.
        detail: String,
    },
    /// The file is larger than the limits allow.
    #[error("the bundle is beyond the limits: {0}")]
    Limit(#[source] ArchiveError),
}

impl VerifyError {
    /// Returns the exit code of the command line.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Io(_) => 4,
            Self::NotABundle { .. } | Self::Limit(_) => 2,
        }
    }
}

/// Verifies a bundle.
pub fn verify(reader: impl Read, keys: &VerifierKeys, limits: &Limits) -> Result<VerifyReport, VerifyError> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file at the limit from one beyond it.
    reader.take(limits.archive_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    let mut checks = Checks::default();
    let predicate = match archive::read(&bytes, limits) {
        Err(ArchiveError::NotAZip) => {
            return Err(VerifyError::NotABundle { detail: ArchiveError::NotAZip.to_string() });
        }
        Err(error @ ArchiveError::Limit { .. }) => return Err(VerifyError::Limit(error)),
        Err(ArchiveError::Structure { structure, offset, detail }) => {
            let fault = Fault::failed(structure, format!("at byte {offset}: {detail}"));
            checks.record::<()>("archive", Err(fault));
            None
        }
        Err(error) => {
            checks.record::<()>("archive", Err(Fault::failed("ZIP archive", error.to_string())));
            None
        }
        Ok(members) => {
            let detail = format!("{} files, no other byte", members.len());
            checks.record("archive", Ok(((), detail)));
            Bundle::open(&members)?.check(keys, &mut checks)
        }
    };
    let has = |status| checks.0.iter().any(|check| check.status == status);
    let outcome = if has(Status::Failed) {
        Outcome::Tampered
    } else if has(Status::Untrusted) || has(Status::NotRun) {
        Outcome::Untrusted
    } else {
        Outcome::Verified
    };
    Ok(VerifyReport {
        outcome,
        checks: checks.0,
        archive_sha256: hex::encode(Sha256::digest(&bytes)),
        predicate,
    })
}

/// The members of an archive, by their path below the base directory.
struct Bundle<'a> {
    base: &'a str,
    members: Vec<(&'a str, &'a Member<'a>)>,
}

/// An envelope that is readable, and the key of the verifier's that signed it, if one did.
struct Signed {
    envelope: Envelope,
    statement: Statement,
    message: Vec<u8>,
    signature: [u8; 64],
    key: Option<VerifierKey>,
}

impl Signed {
    /// Looks at the signature again in the light of what the log says about its bundle keys. That counts only when the
    /// verifier's keys lead to the checkpoint that it is proven against.
    fn settle(&self, result: Checked, log: &LogChecks, keys: &VerifierKeys) -> Checked {
        let (Ok((history, _)), Ok((checkpoint, _))) = (&log.history, &log.checkpoint) else { return result };
        let size = checkpoint.size;
        let untrusted = |why: String| Err(Fault::untrusted(ENVELOPE, why));
        if let Some(key) = &self.key {
            let revoked = history.as_ref().map(|history| history.authority.check_bundle_key(key, size));
            if let Some(Err(error)) = revoked {
                return untrusted(error.to_string());
            }
            if !keys.allows(key, size) {
                return untrusted(format!(
                    "your key file says that {key} does not answer for bundles over size {size}: it was replaced or revoked"
                ));
            }
            return result;
        }
        let Some(history) = history else { return result };
        let claimed = self.envelope.key_id();
        let mut spans = history.authority.spans(Role::Bundle).iter();
        let Some(span) = spans.find(|span| {
            dsse::key_id(span.key.public().as_bytes()) == claimed
                && span.key.verifies(&self.message, &self.signature)
        }) else {
            return result;
        };
        match history.bundle_key(&span.key, size, keys) {
            Ok(by) => Ok(((), format!("{} files signed by {by}", self.statement.subject.len()))),
            Err(Some(why)) => untrusted(why),
            Err(None) => result,
        }
    }
}

/// The content of a bundle after its files were compared with what was signed.
#[derive(Default)]
struct Loaded {
    /// Files that are what was signed, or, without a usable statement, that are readable at all.
    intact: Files,
    /// Files that are not, in the order of the archive: what is wrong, and what could be read.
    damaged: Vec<(String, String, Vec<u8>)>,
}

impl Loaded {
    /// Returns the first damaged file under `data/`, or beside it. Somebody who changes a file changes the
    /// manifest with it; the file is what a reader wants to hear of.
    fn first_damaged(&self, data: bool) -> Option<&(String, String, Vec<u8>)> {
        self.damaged.iter().find(|(path, ..)| path.starts_with("data/") == data)
    }
}

impl<'a> Bundle<'a> {
    fn open(members: &'a [Member<'a>]) -> Result<Self, VerifyError> {
        let not = |detail: &str| VerifyError::NotABundle { detail: detail.to_owned() };
        let base = members
            .iter()
            .find_map(|member| member.name.strip_suffix(BAGIT)?.strip_suffix('/'))
            .ok_or_else(|| not("it has no bagit.txt in a directory of its own"))?;
        let mut inside = Vec::with_capacity(members.len());
        for member in members {
            let path = member.name.strip_prefix(base).and_then(|rest| rest.strip_prefix('/'));
            inside.push((path.unwrap_or(member.name), member));
        }
        Ok(Self { base, members: inside })
    }

    fn check(&self, keys: &VerifierKeys, checks: &mut Checks) -> Option<Predicate> {
        checks.record("layout", self.layout());
        let (signed, result) = self.signature(&keys.bundle);
        let loaded = self.load(signed.as_ref().map(|signed| &signed.statement));
        // What an unknown key signed is still worth reading, as long as nobody takes it for verified.
        let content = signed.as_ref().map(|signed| Content {
            files: &loaded.intact,
            predicate: &signed.statement.predicate,
            keys,
        });
        let log = content.as_ref().map(Content::check_log);
        let result = match (&signed, &log) {
            (Some(signed), Some(log)) => signed.settle(result, log, keys),
            _ => result,
        };
        checks.record("signature", result);
        let statement = signed.as_ref().map(|signed| &signed.statement);
        checks.record("files", self.files(statement, &loaded));
        checks.record("manifests", Self::manifests(&loaded, signed.as_ref().map(|signed| &signed.envelope)));
        if let (Some(content), Some(log)) = (&content, log) {
            content.check(log, checks);
        } else {
            let fault = Fault::not_run("there is no readable statement to check the content against");
            checks.record::<()>("content", Err(fault));
        }
        signed.map(|signed| signed.statement.predicate)
    }

    /// The seven tag files come first, then files below `data/`, sorted; there is nothing else.
    fn layout(&self) -> Checked {
        for (number, want) in TAG_FILES.iter().enumerate() {
            if self.members.get(number).map(|(path, _)| path) != Some(want) {
                let at = self.members.iter().position(|(path, _)| path == want);
                let why = if at.is_some() { "is not in its place in the archive" } else { "is missing" };
                return Err(Fault::failed(*want, why));
            }
        }
        let data = self.members.get(TAG_FILES.len()..).unwrap_or_default();
        for (path, member) in data {
            if !path.starts_with("data/") || path.len() == member.name.len() {
                return Err(Fault::failed(path.escape_default().to_string(), "is not a file of a bundle"));
            }
        }
        if let Some([_, (path, _)]) = data.array_windows().find(|[(a, _), (b, _)]| a >= b) {
            return Err(Fault::failed(*path, "is out of order in the archive"));
        }
        Ok(((), format!("tag files and {} files under data/", data.len())))
    }

    fn member(&self, name: &str) -> Option<&'a Member<'a>> {
        self.members.iter().find(|(path, _)| *path == name).map(|(_, member)| *member)
    }

    /// The envelope is in its one form, signed by a key of the verifier's, over a statement that is one of ours.
    fn signature(&self, keys: &[VerifierKey]) -> (Option<Signed>, Checked) {
        let fail = |why: String| Err(Fault::failed(ENVELOPE, why));
        let Some(member) = self.member(ENVELOPE) else {
            return (None, fail("is missing: the bundle is not signed".to_owned()));
        };
        let parsed = member.content().map_err(|damaged| damaged.detail).and_then(|bytes| {
            let envelope = Envelope::parse(&bytes)?;
            if envelope.to_bytes().ok() != Some(bytes) {
                return Err("is not written as an envelope is".to_owned());
            }
            let (payload, payload_type, signature) = envelope.parts()?;
            if payload_type != dsse::IN_TOTO {
                return Err("does not hold an in-toto statement".to_owned());
            }
            let statement: Statement =
                serde_json::from_slice(&payload).map_err(|error| format!("its statement: {error}"))?;
            if statement.type_ != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
                return Err(format!("its statement is not of type {PREDICATE_TYPE}"));
            }
            let signed = dsse::pae(payload_type, &payload);
            Ok((envelope, statement, signed, signature))
        });
        let (envelope, statement, signed, signature) = match parsed {
            Ok(parsed) => parsed,
            Err(why) => return (None, fail(why)),
        };
        let claimed = envelope.key_id().to_owned();
        let id = |key: &VerifierKey| dsse::key_id(key.public().as_bytes());
        if let Some(key) = keys.iter().find(|key| key.verifies(&signed, &signature)) {
            if id(key) != claimed {
                return (None, fail(format!("names key {claimed}, but is signed by {}", id(key))));
            }
            let detail = format!("{} files signed by {key}", statement.subject.len());
            let signed = Signed { envelope, statement, message: signed, signature, key: Some(key.clone()) };
            return (Some(signed), Ok(((), detail)));
        }
        if keys.iter().any(|key| id(key) == claimed) {
            return (None, fail(format!("the signature by key {claimed} does not verify")));
        }
        let fault = if keys.is_empty() {
            Fault::not_run("no bundle key was given, so nothing says who made this bundle")
        } else {
            let why = format!("is signed by key {claimed}, which is none of the given bundle keys");
            Fault::untrusted(ENVELOPE, why)
        };
        (Some(Signed { envelope, statement, message: signed, signature, key: None }), Err(fault))
    }

    /// Reads every file. What was signed is compared before anything is inflated.
    fn load(&self, statement: Option<&Statement>) -> Loaded {
        let mut loaded = Loaded::default();
        let subjects = statement.map(|statement| statement.subject.as_slice()).unwrap_or_default();
        let signed: BTreeMap<&str, &str> =
            subjects.iter().map(|subject| (subject.name.as_str(), subject.digest.sha256.as_str())).collect();
        for (path, member) in &self.members {
            let mut wrong = None;
            if let Some(statement) = statement
                && member.method == Method::Deflate
                && statement.predicate.deflated.get(*path)
                    != Some(&hex::encode(Sha256::digest(member.stored)))
            {
                wrong = Some("its compressed bytes are not those that were signed".to_owned());
            }
            let content = match member.content() {
                Ok(content) => content,
                Err(damaged) => {
                    let wrong = wrong.unwrap_or(damaged.detail);
                    loaded.damaged.push(((*path).to_owned(), wrong, damaged.partial));
                    continue;
                }
            };
            if statement.is_some() && !UNSIGNED.contains(path) {
                match signed.get(path) {
                    None => wrong = Some("is not among the files that were signed".to_owned()),
                    Some(digest) if *digest != hex::encode(Sha256::digest(&content)) => {
                        wrong = Some("does not have the digest that was signed".to_owned());
                    }
                    Some(_) => {}
                }
            }
            match wrong {
                Some(wrong) => loaded.damaged.push(((*path).to_owned(), wrong, content)),
                None => {
                    loaded.intact.insert((*path).to_owned(), content);
                }
            }
        }
        loaded
    }

    /// Every file is one that was signed, every file that was signed is here.
    fn files(&self, statement: Option<&Statement>, loaded: &Loaded) -> Checked {
        if let Some((path, why, content)) = loaded.first_damaged(true) {
            let seq = locate(path, content, &loaded.intact);
            return Err(Fault::failed(path, why).at(seq));
        }
        let subjects = statement.map(|statement| statement.subject.as_slice()).unwrap_or_default();
        let here: BTreeSet<&str> = self.members.iter().map(|(path, _)| *path).collect();
        let missing = subjects.iter().find(|subject| !here.contains(subject.name.as_str()));
        if let Some(Subject { name, .. }) = missing {
            return Err(Fault::failed(name, "was signed and is missing").at(seq_of_proof(name)));
        }
        if let Some((path, why, _)) = loaded.first_damaged(false) {
            return Err(Fault::failed(path, why));
        }
        let Some(statement) = statement else {
            return Err(Fault::not_run("needs the check `signature`, which did not pass"));
        };
        let mut names = BTreeSet::new();
        if let Some(twice) = subjects.iter().find(|subject| !names.insert(subject.name.as_str())) {
            return Err(Fault::failed(ENVELOPE, format!("its statement names `{}` twice", twice.name)));
        }
        if statement.predicate.name != self.base {
            let why = format!("the bundle was signed as `{}`", statement.predicate.name);
            return Err(Fault::failed(self.base, why));
        }
        Ok(((), format!("{} files have the digests that were signed", names.len())))
    }

    /// The manifests and the Sigstore form say what the files and the envelope say.
    fn manifests(loaded: &Loaded, envelope: Option<&Envelope>) -> Checked {
        if let Some((path, why, _)) = loaded.first_damaged(true).or_else(|| loaded.first_damaged(false)) {
            return Err(Fault::failed(path, why).at(seq_of_proof(path)));
        }
        let text = |name: &str| {
            let bytes = loaded.intact.get(name).ok_or_else(|| Fault::failed(name, "is missing"))?;
            std::str::from_utf8(bytes).map_err(|_| Fault::failed(name, "is not UTF-8"))
        };
        let is_data = |name: &String| name.starts_with("data/");
        let data = loaded.intact.iter().filter(|(name, _)| is_data(name));
        compare(MANIFEST, text(MANIFEST)?, &bag::manifest(data), envelope.is_some())?;
        if let Some(envelope) = envelope
            && envelope.to_sigstore().ok().as_ref() != loaded.intact.get(SIGSTORE)
        {
            return Err(Fault::failed(SIGSTORE, "is not the envelope of signature.dsse.json"));
        }
        let tags = loaded.intact.iter().filter(|(name, _)| !is_data(name) && *name != TAG_MANIFEST);
        compare(TAG_MANIFEST, text(TAG_MANIFEST)?, &bag::manifest(tags), envelope.is_some())?;
        Ok(((), "both manifests and the Sigstore form agree with the files".to_owned()))
    }
}

/// Compares a manifest with what it must say. Where the files are known to be what was signed, a difference is in
/// the manifest; otherwise it is in the first file that the manifest gives another digest.
fn compare(manifest: &'static str, got: &str, want: &str, files_are_signed: bool) -> Result<(), Fault> {
    if got == want {
        return Ok(());
    }
    let parsed = bag::parse_manifest(got)
        .map_err(|line| Fault::failed(manifest, format!("line {line} is not a digest and a name")))?;
    let expected = bag::parse_manifest(want).unwrap_or_default();
    let differs = expected.iter().find(|(name, digest)| parsed.get(*name).is_some_and(|got| got != *digest));
    match differs {
        Some((name, _)) if !files_are_signed => {
            Err(Fault::failed(name, format!("does not have the digest of {manifest}")))
        }
        _ => Err(Fault::failed(manifest, "does not list the files as they are")),
    }
}

fn seq_of_proof(path: &str) -> Option<u64> {
    path.strip_prefix(content::PROOFS)?.strip_suffix(".tlog-proof")?.parse().ok()
}

/// Finds the first entry that damage in a file touches, with the help of the files that are whole.
fn locate(path: &str, damaged: &[u8], intact: &Files) -> Option<u64> {
    let lines = || damaged.split(|byte| *byte == b'\n');
    match path {
        content::EVENTS => {
            let index = std::str::from_utf8(intact.get(content::INDEX)?).ok()?;
            let mut lines = lines();
            let changed = |(_, leaf): &(u64, String)| {
                lines.next().is_none_or(|line| leaf_hash(line).to_string() != *leaf)
            };
            facts::index_leaves(index).into_iter().find(changed).map(|(seq, _)| seq)
        }
        content::DISCLOSURES => {
            let entries: Vec<_> = intact.get(content::EVENTS)?.split(|byte| *byte == b'\n').collect();
            let entries: Vec<_> = entries.iter().filter_map(|line| facts::Facts::read(line).ok()).collect();
            let mut last = entries.first()?.seq;
            for line in lines() {
                let read =
                    std::str::from_utf8(line).ok().and_then(|line| content::read_disclosure(line).ok());
                let Some((seq, disclosure)) = read else { return Some(last) };
                let entry = entries.iter().find(|entry| entry.seq == seq);
                let body = entry.and_then(|entry| entry.body.as_object().cloned());
                if body.is_none_or(|body| content::merge(body, &[disclosure]).is_err()) {
                    return Some(if entry.is_some() { seq } else { last });
                }
                last = seq;
            }
            Some(last)
        }
        content::INDEX => {
            let events = intact.get(content::EVENTS)?;
            let entries =
                events.split(|byte| *byte == b'\n').filter_map(|line| facts::Facts::read(line).ok());
            let entries: Vec<_> = entries.collect();
            let want = facts::index_csv(&entries);
            let line =
                want.as_bytes().split(|byte| *byte == b'\n').zip(lines()).take_while(|(a, b)| a == b).count();
            entries.get(line.checked_sub(1)?).map(|entry| entry.seq)
        }
        _ => seq_of_proof(path),
    }
}
