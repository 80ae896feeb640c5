//! Policies in the ledger: what was published and what was in force, so that any past version runs again
//! without the repository that it came from.
//!
//! `policy.published` holds the identity and the list of files, and the archive as a blob; `policy.activated`
//! says that a published bundle is in force from that entry on. Everything here is read back from those two.

use std::path::Path;

use serde_json::{Map, Value, json};
use verdict_ledger::id::Digest;
use verdict_ledger::{AppendError, Batch, Ledger, LedgerError, NewRecord, Receipt, Record};

use super::bundle::{Bundle, BundleError};
use super::engine::{Policy, PolicyError};
use super::test;

/// Entry `type` of a publication.
pub const POLICY_PUBLISHED: &str = "policy.published";
/// Entry `type` of an activation.
pub const POLICY_ACTIVATED: &str = "policy.activated";

/// Hexadecimal digits that a shortened digest needs.
const PREFIX_DIGITS_MIN: usize = 8;
/// Bytes of the file list that go into the entry, which has a limit; the archive always has the whole list.
const LISTING_BYTES_MAX: usize = 32 << 10;

/// Why a policy is not published, activated or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The ledger cannot be read.
    #[error("the ledger cannot be read")]
    Ledger(#[from] LedgerError),
    /// The ledger did not take the entry.
    #[error("the ledger did not take the entry")]
    Append(#[from] AppendError),
    /// The bundle does not compile.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The bundle fails its own tests.
    #[error("{name}@{version} fails {failed} of its own {total} tests; the first is {first}")]
    TestsFail {
        /// Bundle name.
        name: String,
        /// Version label.
        version: String,
        /// Tests that failed.
        failed: usize,
        /// Tests that were run.
        total: usize,
        /// The first that failed, with its place.
        first: String,
    },
    /// What was given or stored is not a bundle.
    #[error("{reference} is not a usable policy bundle")]
    Bundle {
        /// Reference as given.
        reference: String,
        /// Why.
        #[source]
        source: BundleError,
    },
    /// The label is taken by other content.
    #[error(
        "{name}@{version} is already published as {published} and this bundle is {offered}; a version never changes, so give it a new label in verdict.toml"
    )]
    VersionTaken {
        /// Bundle name.
        name: String,
        /// Version label.
        version: String,
        /// Digest in the ledger.
        published: Digest,
        /// Digest of the bundle at hand.
        offered: Digest,
    },
    /// Nothing goes by this reference.
    #[error("there is no policy `{reference}`; {}", existing(known))]
    Unknown {
        /// Reference as given.
        reference: String,
        /// What is published, as `name@version (digest)`.
        known: Vec<String>,
    },
    /// A shortened digest of several bundles.
    #[error("`{reference}` is the beginning of several digests: {}", matches.join(", "))]
    Ambiguous {
        /// Reference as given.
        reference: String,
        /// What it could be.
        matches: Vec<String>,
    },
    /// A reference that cannot be one.
    #[error("`{reference}` is not a policy reference: {reason}")]
    Reference {
        /// Reference as given.
        reference: String,
        /// Why.
        reason: &'static str,
    },
    /// `active` before anything was activated.
    #[error("no policy is active; activate one first; {}", existing(known))]
    NoneActive {
        /// What is published.
        known: Vec<String>,
    },
    /// A reference that needs a ledger where there is none.
    #[error(
        "`{reference}` names a published policy, which needs a ledger; a bundle on disk is named by its path"
    )]
    NoLedger {
        /// Reference as given.
        reference: String,
    },
    /// The entry names an archive that is not there.
    #[error("the archive {archive} of entry {seq} is missing from the ledger")]
    ArchiveMissing {
        /// Entry.
        seq: u64,
        /// Blob.
        archive: String,
    },
    /// The archive is another bundle than the entry says.
    #[error("the archive of entry {seq} is bundle {found}, and the entry says {published}")]
    ArchiveDiffers {
        /// Entry.
        seq: u64,
        /// Digest in the entry.
        published: Digest,
        /// Digest of the archive's content.
        found: Digest,
    },
    /// An entry that this version cannot read.
    #[error("entry {seq} is a {POLICY_PUBLISHED} or {POLICY_ACTIVATED} without a usable `{member}`")]
    Entry {
        /// Entry.
        seq: u64,
        /// Member.
        member: &'static str,
    },
}

fn existing(known: &[String]) -> String {
    if known.is_empty() {
        "nothing is published yet".to_owned()
    } else {
        format!("published are {}", known.join(", "))
    }
}

/// A published bundle.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Published {
    /// Bundle name.
    pub name: String,
    /// Version label.
    pub version: String,
    /// Identity.
    pub digest: Digest,
    /// Digest of the archive in the ledger.
    pub archive: Digest,
    /// Engine at the time of publication.
    pub engine: String,
    /// Entry.
    pub seq: u64,
    /// When, Unix nanoseconds of the ledger.
    pub ts_ns: u64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Whether it is in force now.
    pub active: bool,
    /// How its own tests ended when it was published; not known of what earlier releases published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestCounts>,
    /// Why it was published although it failed them.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub overridden: Option<String>,
}

/// How the tests of a bundle ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TestCounts {
    /// Passed.
    pub passed: usize,
    /// Failed, or could not be evaluated.
    pub failed: usize,
    /// Skipped.
    pub skipped: usize,
}

/// A change of the policies, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// Entry.
    pub seq: u64,
    /// When, Unix nanoseconds of the ledger.
    pub ts_ns: u64,
    /// What.
    pub what: What,
    /// Bundle name.
    pub name: String,
    /// Version label.
    pub version: String,
    /// Identity.
    pub digest: Digest,
    /// What was in force before, of an activation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Why it was published although it failed its own tests.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub overridden: Option<String>,
}

/// Sort of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A version was stored.
    Published,
    /// A version came into force.
    Activated,
}

impl Published {
    fn label(&self) -> String {
        format!("{}@{} ({})", self.name, self.version, self.digest)
    }
}

/// Publishes a bundle that passes its own tests. The same content again changes nothing and returns the entry that is
/// there.
pub fn publish(ledger: &Ledger, bundle: &Bundle, by: &str, reason: &str) -> Result<Receipt, RegistryError> {
    publish_overriding(ledger, bundle, by, reason, None)
}

/// Runs the tests of a bundle and refuses one that fails them, unless it is said why it is wanted all the same.
pub fn admit(bundle: &Bundle, overriding: Option<&str>) -> Result<TestCounts, RegistryError> {
    let report = test::run(bundle)?;
    let counts = TestCounts { passed: report.passed(), failed: report.failures(), skipped: report.skipped() };
    let failed = |test: &&test::TestResult| {
        matches!(test.outcome, test::Outcome::Fail { .. } | test::Outcome::Error { .. })
    };
    match report.tests.iter().find(failed) {
        Some(first) if overriding.is_none() => Err(RegistryError::TestsFail {
            name: bundle.name().to_owned(),
            version: bundle.version().to_owned(),
            failed: counts.failed,
            total: report.tests.len(),
            first: format!("{}:{} {}", first.file, first.line, first.name),
        }),
        _ => Ok(counts),
    }
}

/// Publishes a bundle. One that fails its own tests is refused unless `overriding` says why, which goes on the record.
pub fn publish_overriding(
    ledger: &Ledger,
    bundle: &Bundle,
    by: &str,
    reason: &str,
    overriding: Option<&str>,
) -> Result<Receipt, RegistryError> {
    // What does not compile could never be replayed.
    let policy = Policy::compile(bundle.clone())?;
    let counts = admit(bundle, overriding)?;
    let published = list(ledger)?;
    if let Some(known) = published.iter().find(|known| known.digest == bundle.digest()) {
        return Ok(already(ledger, known.seq));
    }
    let taken =
        published.iter().find(|known| known.name == bundle.name() && known.version == bundle.version());
    if let Some(taken) = taken {
        return Err(RegistryError::VersionTaken {
            name: taken.name.clone(),
            version: taken.version.clone(),
            published: taken.digest,
            offered: bundle.digest(),
        });
    }
    let archive = bundle.archive();
    let mut body = object(json!({
        "id": format!("policy:{}", bundle.digest()),
        "name": bundle.name(),
        "version": bundle.version(),
        "digest": bundle.digest(),
        "engine": policy.engine_id(),
        "file_count": bundle.listing().len().to_string(),
        "archive": Digest::of(&archive),
        "by": by,
        "reason": reason,
    }));
    body.insert(
        "tests".to_owned(),
        json!({
            "passed": counts.passed.to_string(), "failed": counts.failed.to_string(),
            "skipped": counts.skipped.to_string(),
        }),
    );
    // Said only where there is something to override.
    if let Some(why) = overriding.filter(|_| counts.failed > 0) {
        body.insert("override".to_owned(), json!(why));
    }
    let files: Vec<Value> = bundle
        .listing()
        .iter()
        .map(|(path, sha256)| json!({"path": path, "sha256": sha256.to_hex()}))
        .collect();
    let files = Value::Array(files);
    if files.to_string().len() <= LISTING_BYTES_MAX {
        body.insert("files".to_owned(), files);
    }
    let batch = Batch { records: vec![NewRecord::system(POLICY_PUBLISHED, body)], blobs: vec![archive] };
    Ok(ledger.append(batch)?)
}

/// Puts a published bundle in force. Activating what is active changes nothing.
pub fn activate(ledger: &Ledger, digest: &Digest, by: &str, reason: &str) -> Result<Receipt, RegistryError> {
    let history = History::read(ledger)?;
    let Some(bundle) = history.published.iter().find(|known| known.digest == *digest) else {
        return Err(RegistryError::Unknown { reference: digest.to_string(), known: history.labels() });
    };
    let previous = history.activations.last();
    if let Some((seq, _)) = previous.filter(|(_, active)| active == digest) {
        return Ok(already(ledger, *seq));
    }
    let mut body = object(json!({
        // The count makes a return to an earlier bundle a new fact.
        "id": format!("policy.activated:{}:{digest}", history.activations.len()),
        "name": bundle.name,
        "version": bundle.version,
        "digest": digest,
        "by": by,
        "reason": reason,
    }));
    if let Some((_, previous)) = previous {
        body.insert("previous".to_owned(), json!(previous));
    }
    let batch = Batch { records: vec![NewRecord::system(POLICY_ACTIVATED, body)], blobs: Vec::new() };
    Ok(ledger.append(batch)?)
}

/// Lists what is published, in order of publication.
pub fn list(ledger: &Ledger) -> Result<Vec<Published>, RegistryError> {
    Ok(History::read(ledger)?.published)
}

/// Lists every publication and activation, in log order.
pub fn history(ledger: &Ledger) -> Result<Vec<Change>, RegistryError> {
    let mut changes = History::read(ledger)?.changes;
    changes.sort_by_key(|change| change.seq);
    Ok(changes)
}

/// Finds a bundle by `name@version`, `sha256:…` or at least 8 hexadecimal digits of it, `active`, or a path.
///
/// A reference with a path separator is a path; so is one that exists on disk and is none of the others.
pub fn resolve(ledger: Option<&Ledger>, reference: &str) -> Result<Bundle, RegistryError> {
    let on_disk = || {
        let unusable = |source| RegistryError::Bundle { reference: reference.to_owned(), source };
        Bundle::load(Path::new(reference)).map_err(unusable)
    };
    if reference.contains(std::path::is_separator) {
        return on_disk();
    }
    let Some(ledger) = ledger else {
        return if Path::new(reference).exists() {
            on_disk()
        } else {
            Err(RegistryError::NoLedger { reference: reference.to_owned() })
        };
    };
    match History::read(ledger)?.find(reference) {
        Ok(found) => stored(ledger, found),
        Err(RegistryError::Unknown { .. } | RegistryError::Reference { .. })
            if Path::new(reference).exists() =>
        {
            on_disk()
        }
        Err(error) => Err(error),
    }
}

/// Reads a published bundle back and makes sure that it is the one.
fn stored(ledger: &Ledger, known: &Published) -> Result<Bundle, RegistryError> {
    let missing = || RegistryError::ArchiveMissing { seq: known.seq, archive: known.archive.to_string() };
    let bytes = ledger.blob(&known.archive)?.ok_or_else(missing)?;
    let unusable = |source| RegistryError::Bundle { reference: known.label(), source };
    let bundle = Bundle::from_archive(&bytes).map_err(unusable)?;
    if bundle.digest() != known.digest {
        return Err(RegistryError::ArchiveDiffers {
            seq: known.seq,
            published: known.digest,
            found: bundle.digest(),
        });
    }
    Ok(bundle)
}

/// What the ledger says about policies.
#[derive(Debug, Default)]
struct History {
    published: Vec<Published>,
    activations: Vec<(u64, Digest)>,
    changes: Vec<Change>,
}

impl History {
    fn read(ledger: &Ledger) -> Result<Self, RegistryError> {
        let mut history = Self::default();
        for kind in [POLICY_PUBLISHED, POLICY_ACTIVATED] {
            for seq in ledger.find_kind(kind)? {
                if let Some(record) = ledger.record(seq)? {
                    history.fold(&record)?;
                }
            }
        }
        Ok(history)
    }

    /// Takes publications in log order, then activations in log order.
    fn fold(&mut self, record: &Record) -> Result<(), RegistryError> {
        let text = |member: &'static str| {
            let text = record.body.get(member).and_then(Value::as_str);
            text.ok_or(RegistryError::Entry { seq: record.seq, member })
        };
        let digest = |member: &'static str| {
            text(member)?.parse().map_err(|_| RegistryError::Entry { seq: record.seq, member })
        };
        // Who and why may be withheld; that does not make the policy unknown.
        let optional =
            |member| record.body.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
        if record.kind == POLICY_ACTIVATED {
            let digest: Digest = digest("digest")?;
            self.activations.push((record.seq, digest));
            for known in &mut self.published {
                known.active = known.digest == digest;
            }
            self.changes.push(Change {
                seq: record.seq,
                ts_ns: record.ts_ns,
                what: What::Activated,
                name: optional("name"),
                version: optional("version"),
                digest,
                previous: record
                    .body
                    .get("previous")
                    .and_then(Value::as_str)
                    .and_then(|text| text.parse().ok()),
                by: optional("by"),
                reason: optional("reason"),
                overridden: None,
            });
        } else if record.kind == POLICY_PUBLISHED {
            let published = Published {
                name: text("name")?.to_owned(),
                version: text("version")?.to_owned(),
                digest: digest("digest")?,
                archive: digest("archive")?,
                engine: optional("engine"),
                seq: record.seq,
                ts_ns: record.ts_ns,
                by: optional("by"),
                reason: optional("reason"),
                active: false,
                tests: record.body.get("tests").and_then(counts),
                overridden: record.body.get("override").and_then(Value::as_str).map(str::to_owned),
            };
            self.changes.push(Change {
                seq: published.seq,
                ts_ns: published.ts_ns,
                what: What::Published,
                name: published.name.clone(),
                version: published.version.clone(),
                digest: published.digest,
                previous: None,
                by: published.by.clone(),
                reason: published.reason.clone(),
                overridden: published.overridden.clone(),
            });
            // Two writers in a race may state one fact twice; the first counts.
            if self.published.iter().all(|known| known.digest != published.digest) {
                self.published.push(published);
            }
        }
        Ok(())
    }

    fn find(&self, reference: &str) -> Result<&Published, RegistryError> {
        if reference == "active" {
            let active = self.published.iter().find(|known| known.active);
            return active.ok_or_else(|| RegistryError::NoneActive { known: self.labels() });
        }
        let unknown = || RegistryError::Unknown { reference: reference.to_owned(), known: self.labels() };
        if let Some((name, version)) = reference.split_once('@') {
            return self
                .published
                .iter()
                .find(|known| known.name == name && known.version == version)
                .ok_or_else(unknown);
        }
        let digits = reference.strip_prefix("sha256:").unwrap_or(reference);
        let malformed = |reason| RegistryError::Reference { reference: reference.to_owned(), reason };
        if digits.is_empty() || !digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(malformed(
                "expected `name@version`, `sha256:…`, `active` or a path with a separator, like `./policy`",
            ));
        }
        if digits.len() < PREFIX_DIGITS_MIN || digits.len() > 64 {
            return Err(malformed("a digest is given by 8 to 64 hexadecimal digits"));
        }
        let digits = digits.to_ascii_lowercase();
        let mut matches = self.published.iter().filter(|known| known.digest.to_hex().starts_with(&digits));
        match (matches.next(), matches.next()) {
            (None, _) => Err(unknown()),
            (Some(only), None) => Ok(only),
            (Some(first), Some(second)) => Err(RegistryError::Ambiguous {
                reference: reference.to_owned(),
                matches: [first, second].into_iter().chain(matches).map(Published::label).collect(),
            }),
        }
    }

    fn labels(&self) -> Vec<String> {
        self.published.iter().map(Published::label).collect()
    }
}

fn counts(value: &Value) -> Option<TestCounts> {
    let count = |name: &str| value.get(name)?.as_str()?.parse().ok();
    Some(TestCounts { passed: count("passed")?, failed: count("failed")?, skipped: count("skipped")? })
}

fn already(ledger: &Ledger, seq: u64) -> Receipt {
    Receipt { seqs: vec![seq], appended: 0, duplicates: 1, conflicts: 0, size: ledger.head().size }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, kind: &str, body: Value) -> Record {
        Record {
            seq,
            ts_ns: seq * 10,
            kind: kind.into(),
            event: None,
            body: object(body),
            withheld: Vec::new(),
        }
    }

    fn published(seq: u64, version: &str, digest: &Digest) -> Record {
        let body = json!({
            "id": format!("policy:{digest}"), "name": "p", "version": version, "digest": digest, "archive": digest,
            "engine": "e", "by": "ops", "reason": "first",
        });
        record(seq, POLICY_PUBLISHED, body)
    }

    fn history(records: &[Record]) -> History {
        let mut history = History::default();
        for record in records {
            history.fold(record).unwrap();
        }
        history
    }

    fn digest(first: u8, last: u8) -> Digest {
        let mut bytes = [0xab; 32];
        bytes[3] = first;
        bytes[31] = last;
        Digest(bytes)
    }

    #[test]
    fn references_find_what_was_published() {
        let (one, two, three) = (digest(1, 1), digest(2, 2), digest(2, 3));
        let history = history(&[
            published(4, "1", &one),
            published(5, "2", &two),
            published(6, "3", &three),
            record(7, POLICY_ACTIVATED, json!({"digest": one})),
            record(8, POLICY_ACTIVATED, json!({"digest": two})),
        ]);
        assert_eq!(history.find("p@1").unwrap().seq, 4);
        assert_eq!(history.find("active").unwrap().digest, two);
        assert_eq!(history.published.iter().filter(|known| known.active).count(), 1);
        assert_eq!(history.find(&one.to_string()).unwrap().seq, 4);
        assert_eq!(history.find("ababab01").unwrap().seq, 4);
        assert_eq!(history.find("sha256:ABABAB01").unwrap().seq, 4);
        assert!(
            matches!(history.find("ababab02"), Err(RegistryError::Ambiguous { matches, .. }) if matches.len() == 2)
        );
        assert!(matches!(history.find("ababab"), Err(RegistryError::Reference { .. })));
        assert!(matches!(history.find("latest"), Err(RegistryError::Reference { .. })));
        let error = history.find("p@9").unwrap_err().to_string();
        assert!(error.starts_with("there is no policy `p@9`; published are p@1 (sha256:ababab01"), "{error}");
    }

    #[test]
    fn nothing_published_and_unreadable_entries_say_so() {
        let empty = History::default();
        assert!(empty.find("active").unwrap_err().to_string().contains("nothing is published yet"));
        let broken = record(3, POLICY_PUBLISHED, json!({"name": "p", "version": "1", "digest": "sha256:12"}));
        let error = History::default().fold(&broken).unwrap_err().to_string();
        assert!(error.starts_with("entry 3 ") && error.contains("`digest`"), "{error}");
    }

    #[test]
    fn withheld_names_do_not_hide_a_policy() {
        let mut record = published(4, "1", &digest(1, 1));
        record.body.remove("by");
        record.body.remove("reason");
        let history = history(&[record]);
        assert_eq!(history.find("p@1").unwrap().by, "");
    }
}
