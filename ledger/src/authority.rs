//! Which keys speak for the log, and from which entry on: a history that is derived from the entries alone.
//!
//! The first entry names the first log key and bundle key. `key.rotated` puts another key into force, `key.revoked`
//! takes back what a former key may have signed, `restore.performed` begins a new origin after a loss. A verifier
//! that holds any one key follows the others from there: the checkpoint over a rotation is signed by both keys.
//!
//! | entry at position `p` | log key before | log key after |
//! |---|---|---|
//! | `key.rotated`, role `log` | checkpoints of sizes up to `p + 1` | sizes from `p + 1` on: `p + 1` is signed by both |
//! | `restore.performed` | sizes up to `p`, under the old origin | sizes from `p + 1` on, under the new origin |

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::entry::EntryView;
use crate::note::{Checkpoint, NoteError, SignedNote, VerifierKey};

/// Type of the first entry.
pub const LEDGER_CREATED: &str = "ledger.created";
/// Type of an entry that puts another key into force.
pub const KEY_ROTATED: &str = "key.rotated";
/// Type of an entry that takes back trust in a former key.
pub const KEY_REVOKED: &str = "key.revoked";
/// Type of an entry that begins a new origin after a loss.
pub const RESTORE_PERFORMED: &str = "restore.performed";

/// Every type of entry that says which keys speak for the log. Only the ledger itself writes them.
pub const AUTHORITY_KINDS: [&str; 4] = [LEDGER_CREATED, KEY_ROTATED, KEY_REVOKED, RESTORE_PERFORMED];

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Checkpoints.
    Log,
    /// Evidence bundles.
    Bundle,
}

impl Role {
    /// Returns the name in entries and file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Bundle => "bundle",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An entry that does not continue the history before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct AuthorityError {
    /// Position of the entry.
    pub seq: u64,
    /// What is wrong.
    pub detail: String,
}

/// Why a checkpoint is not one of this log, or cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The note does not verify with the key that was in force.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The key that was in force was revoked for checkpoints of this size.
    #[error(
        "key {key} was revoked by entry {seq}: its signatures count up to size {last_size}, this is size {size}"
    )]
    Revoked {
        /// Key.
        key: String,
        /// Position of the revocation.
        seq: u64,
        /// Last size up to which it is trusted.
        last_size: u64,
        /// Size that it signed.
        size: u64,
    },
    /// The given key never spoke for this log.
    #[error("key {key} never signed for this log")]
    Unknown {
        /// Key.
        key: String,
    },
    /// The given key came into force after the checkpoint, and nothing that it signed vouches for an older one.
    #[error("key {key} came into force with size {from}, after the checkpoint of size {size}")]
    Later {
        /// Key.
        key: String,
        /// First size that it signs.
        from: u64,
        /// Size of the checkpoint.
        size: u64,
    },
}

/// Trust in a former key, taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Revocation {
    /// Position of the entry.
    pub seq: u64,
    /// Checkpoints (or checkpoints of bundles) beyond this size do not count.
    pub last_size: u64,
    /// Why.
    pub reason: String,
}

/// One key in its role, and the sizes of checkpoints that it answers for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeySpan {
    /// Key; the name of a log key is the origin.
    pub key: VerifierKey,
    /// Position of the entry that put it into force.
    pub seq: u64,
    /// First size of a checkpoint that it answers for.
    pub from: u64,
    /// Last one; `None` while it is in force.
    pub until: Option<u64>,
    /// Trust taken back.
    pub revoked: Option<Revocation>,
    /// The loss that it began after.
    pub restored: Option<Loss>,
}

impl KeySpan {
    /// Tells whether its signature on a checkpoint of this size counts.
    pub fn is_trusted_at(&self, size: u64) -> bool {
        self.revoked.as_ref().is_none_or(|revoked| size <= revoked.last_size)
    }

    fn covers(&self, size: u64) -> bool {
        size >= self.from && self.until.is_none_or(|until| size <= until)
    }

    fn check_trust(&self, size: u64) -> Result<(), TrustError> {
        match &self.revoked {
            Some(revoked) if size > revoked.last_size => Err(TrustError::Revoked {
                key: self.key.to_string(),
                seq: revoked.seq,
                last_size: revoked.last_size,
                size,
            }),
            _ => Ok(()),
        }
    }
}

/// What a restore says is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Origin before.
    pub old_origin: String,
    /// First lost position.
    pub first: u64,
    /// One past the last lost position that is known of; `None` when nobody knows.
    pub end: Option<u64>,
    /// Why it was restored.
    pub reason: String,
}

/// A step of trust from one log key to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// Both keys must have signed the checkpoint of this size.
    Rotation {
        /// Size of the checkpoint over the rotation.
        size: u64,
        /// Key before.
        from: &'a VerifierKey,
        /// Key after.
        to: &'a VerifierKey,
    },
    /// The same key pair goes on under another origin; nothing needs to be signed.
    Restore {
        /// Key after.
        to: &'a KeySpan,
    },
}

/// The keys of a log over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Authority {
    uuid: String,
    /// Origin of the first entry, from which those after a restore are made.
    first_origin: String,
    #[serde(skip)]
    log_in_force: VerifierKey,
    #[serde(skip)]
    bundle_in_force: VerifierKey,
    /// Log keys in the order in which they came into force.
    log: Vec<KeySpan>,
    /// Bundle keys likewise.
    bundle: Vec<KeySpan>,
    /// Positions of the entries that are folded in.
    entries: Vec<u64>,
}

impl Authority {
    /// Begins with the first entry of a log.
    pub fn from_genesis(entry: &EntryView<'_>) -> Result<Self, AuthorityError> {
        let fail = |detail: String| AuthorityError { seq: 0, detail };
        if entry.kind != LEDGER_CREATED || entry.seq != "0" {
            return Err(fail(format!("the first entry is a `{}`, not `{LEDGER_CREATED}`", entry.kind)));
        }
        let body = Body::parse(0, entry)?;
        let (log, bundle) = (body.key("verifier_key")?, body.key("bundle_key")?);
        if log.name() != entry.origin {
            return Err(fail(format!("the log key is named `{}`, the log `{}`", log.name(), entry.origin)));
        }
        if log.public() == bundle.public() {
            return Err(fail("log key and bundle key are one key".to_owned()));
        }
        Ok(Self::first(&entry.origin, body.text("uuid")?, log, bundle))
    }

    /// Begins with keys that no entry names yet.
    pub(crate) fn first(origin: &str, uuid: &str, log: VerifierKey, bundle: VerifierKey) -> Self {
        let span = |key| KeySpan { key, seq: 0, from: 0, until: None, revoked: None, restored: None };
        Self {
            uuid: uuid.to_owned(),
            first_origin: origin.to_owned(),
            log_in_force: log.clone(),
            bundle_in_force: bundle.clone(),
            log: vec![span(log)],
            bundle: vec![span(bundle)],
            entries: vec![0],
        }
    }

    /// Folds in an entry of one of the [`AUTHORITY_KINDS`], in order of position.
    pub fn apply(&mut self, seq: u64, entry: &EntryView<'_>) -> Result<(), AuthorityError> {
        let fail = |detail: &str| AuthorityError { seq, detail: detail.to_owned() };
        if self.entries.last().is_some_and(|last| seq <= *last) || entry.seq != seq.to_string() {
            return Err(fail("it is out of order"));
        }
        let body = Body::parse(seq, entry)?;
        match &*entry.kind {
            KEY_ROTATED => self.rotate(&body)?,
            KEY_REVOKED => self.revoke(&body)?,
            RESTORE_PERFORMED => self.restore(&body, &entry.origin)?,
            _ => return Err(fail("it says nothing about keys")),
        }
        self.entries.push(seq);
        Ok(())
    }

    /// Folds the entries of a log that are about keys; the first must be entry 0.
    pub fn fold<'a>(entries: impl IntoIterator<Item = (u64, &'a [u8])>) -> Result<Self, AuthorityError> {
        let mut authority: Option<Self> = None;
        for (seq, entry) in entries {
            let view =
                EntryView::parse(entry).map_err(|error| AuthorityError { seq, detail: error.to_string() })?;
            match &mut authority {
                None => authority = Some(Self::from_genesis(&view)?),
                Some(authority) if view.origin == authority.origin() || view.kind == RESTORE_PERFORMED => {
                    authority.apply(seq, &view)?;
                }
                Some(_) => {
                    return Err(AuthorityError {
                        seq,
                        detail: format!("it belongs to log `{}`", view.origin),
                    });
                }
            }
        }
        authority.ok_or_else(|| AuthorityError { seq: 0, detail: "there is no first entry".to_owned() })
    }

    fn rotate(&mut self, body: &Body) -> Result<(), AuthorityError> {
        let (seq, role) = (body.seq, body.role()?);
        let (old, new) = (body.key("old")?, body.key("new")?);
        let current = self.current(role);
        if old != *current {
            return Err(body.fail(format!("it replaces {old}, but {current} is in force")));
        }
        if new.name() != current.name() {
            return Err(body.fail(format!(
                "the new key is named `{}`, not `{}`",
                new.name(),
                current.name()
            )));
        }
        if let Some(used) = self.uses(&new) {
            return Err(body.fail(format!("the new key was a {used} key before; a key serves once")));
        }
        if role == Role::Log && body.number("size")? != seq.saturating_add(1) {
            return Err(body.fail("it does not take effect with itself".to_owned()));
        }
        let from = seq.saturating_add(1);
        match role {
            Role::Log => self.log_in_force = new.clone(),
            Role::Bundle => self.bundle_in_force = new.clone(),
        }
        let spans = self.spans_mut(role);
        if let Some(last) = spans.last_mut() {
            last.until = Some(from);
        }
        spans.push(KeySpan { key: new, seq, from, until: None, revoked: None, restored: None });
        Ok(())
    }

    fn revoke(&mut self, body: &Body) -> Result<(), AuthorityError> {
        let (role, key, last_size) = (body.role()?, body.key("key")?, body.number("last_size")?);
        if key.public() == self.current(role).public() {
            return Err(
                body.fail("it revokes a key that is in force; another must replace it first".to_owned())
            );
        }
        if last_size > body.seq {
            return Err(body.fail(format!("it trusts the key up to size {last_size}, beyond itself")));
        }
        let revocation = Revocation {
            seq: body.seq,
            last_size,
            reason: body.text("reason").unwrap_or_default().to_owned(),
        };
        // The pair is what was stolen: it is revoked under every origin that it served.
        let mut found = false;
        for span in self.spans_mut(role).iter_mut().filter(|span| span.key.public() == key.public()) {
            found = true;
            // What was taken back once stays taken back.
            if span.is_trusted_at(last_size.saturating_add(1)) {
                span.revoked = Some(revocation.clone());
            }
        }
        if found { Ok(()) } else { Err(body.fail(format!("{key} was never a {role} key of this log"))) }
    }

    fn restore(&mut self, body: &Body, origin: &str) -> Result<(), AuthorityError> {
        let (old, new) = (body.text("old_origin")?, body.text("origin")?);
        let key = body.key("verifier_key")?;
        if old != self.origin() {
            return Err(body.fail(format!("it continues log `{old}`, but this is log `{}`", self.origin())));
        }
        if new != origin || key.name() != origin {
            return Err(body.fail("its origin is not that of its entry and of its key".to_owned()));
        }
        let number = self.origin_number(new);
        if number.is_none_or(|number| number <= self.generation()) {
            return Err(body.fail(format!("`{new}` is not an origin that follows `{old}`")));
        }
        if key.public() != self.current(Role::Log).public() {
            return Err(body.fail("it changes the log key; that is for a rotation".to_owned()));
        }
        if body.number("size")? != body.seq {
            return Err(body.fail("it does not take effect with itself".to_owned()));
        }
        let loss = Loss {
            old_origin: old.to_owned(),
            first: body.seq,
            end: body.optional_number("lost_end")?,
            reason: body.text("reason").unwrap_or_default().to_owned(),
        };
        if let Some(last) = self.log.last_mut() {
            last.until = Some(body.seq);
        }
        let from = body.seq.saturating_add(1);
        self.log_in_force = key.clone();
        let span = KeySpan { key, seq: body.seq, from, until: None, revoked: None, restored: Some(loss) };
        self.log.push(span);
        Ok(())
    }

    /// Returns the positions of the entries about keys.
    pub fn entries(&self) -> &[u64] {
        &self.entries
    }

    /// Returns the UUID that the first entry names.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// Returns the origin that entries are written under now.
    pub fn origin(&self) -> &str {
        self.current(Role::Log).name()
    }

    /// Returns the origin of the first entry.
    pub fn first_origin(&self) -> &str {
        &self.first_origin
    }

    /// Returns the origin that the entry at a position must have.
    pub fn origin_of_entry(&self, seq: u64) -> &str {
        let restored = self.log.iter().rfind(|span| span.restored.is_some() && span.seq <= seq);
        restored.map_or(&self.first_origin, |span| span.key.name())
    }

    /// Returns the origin after the `number`-th restore and those before: `origin/2`, `origin/3`, …
    pub fn origin_after(&self, number: u64) -> String {
        format!("{}/{}", self.first_origin, number)
    }

    /// Reads the number of an origin of this log: 1 for the first.
    pub fn origin_number(&self, origin: &str) -> Option<u64> {
        if origin == self.first_origin {
            return Some(1);
        }
        let number = origin.strip_prefix(&self.first_origin)?.strip_prefix('/')?;
        let parsed: u64 = number.parse().ok()?;
        (parsed >= 2 && parsed.to_string() == number).then_some(parsed)
    }

    /// Returns the number of the origin that is in force.
    pub fn generation(&self) -> u64 {
        self.origin_number(self.origin()).unwrap_or(1)
    }

    /// Tells whether a bundle key is one that was revoked for checkpoints of this size. A key that the log never named
    /// is nobody's to revoke.
    pub fn check_bundle_key(&self, key: &VerifierKey, size: u64) -> Result<(), TrustError> {
        let mut spans = self.bundle.iter().filter(|span| span.key.public() == key.public());
        spans.try_for_each(|span| span.check_trust(size))
    }

    /// Returns the key in force.
    pub fn current(&self, role: Role) -> &VerifierKey {
        match role {
            Role::Log => &self.log_in_force,
            Role::Bundle => &self.bundle_in_force,
        }
    }

    /// Returns the keys of a role in the order in which they came into force.
    pub fn spans(&self, role: Role) -> &[KeySpan] {
        match role {
            Role::Log => &self.log,
            Role::Bundle => &self.bundle,
        }
    }

    const fn spans_mut(&mut self, role: Role) -> &mut Vec<KeySpan> {
        match role {
            Role::Log => &mut self.log,
            Role::Bundle => &mut self.bundle,
        }
    }

    /// Tells in which role a key pair serves or served.
    pub fn uses(&self, key: &VerifierKey) -> Option<Role> {
        let serves = |role: Role| self.spans(role).iter().any(|span| span.key.public() == key.public());
        [Role::Log, Role::Bundle].into_iter().find(|role| serves(*role))
    }

    /// Returns the keys that must sign a checkpoint of this size: one, or two over a rotation, the older first.
    pub fn log_keys_at(&self, size: u64) -> impl DoubleEndedIterator<Item = &KeySpan> {
        self.log.iter().filter(move |span| span.covers(size))
    }

    /// Returns the key that answers for a checkpoint of this size: over a rotation the newer one.
    pub fn log_key_at(&self, size: u64) -> &VerifierKey {
        self.log_keys_at(size).next_back().map_or_else(|| self.current(Role::Log), |span| &span.key)
    }

    /// Verifies a checkpoint with a key that was in force at its size. Over a rotation one of the two signatures is
    /// enough here; a wrong one never is. Says nothing about revocation: see [`Self::check_trusted`].
    pub fn verify_checkpoint(&self, note: &str) -> Result<Checkpoint, NoteError> {
        let parsed = SignedNote::parse(note)?;
        let checkpoint = Checkpoint::from_text(&parsed.text)?;
        let mut result = Err(NoteError::Unsigned { key: self.log_key_at(checkpoint.size).name().to_owned() });
        for span in self.log_keys_at(checkpoint.size) {
            match Checkpoint::verify(note, &span.key) {
                Ok(checkpoint) => result = Ok(checkpoint),
                Err(error @ NoteError::BadSignature { .. }) => return Err(error),
                Err(error) => {
                    if result.is_err() {
                        result = Err(error);
                    }
                }
            }
        }
        result
    }

    /// Returns every key that a checkpoint of this log can have been signed with, the one in force last. The log does
    /// not know of an origin that was itself given up by a restore from an older copy, but its key pairs are these.
    pub fn every_log_key(&self) -> Vec<VerifierKey> {
        let pairs: Vec<_> = self.log.iter().map(|span| *span.key.public()).collect();
        let names = (1..=self.generation())
            .map(|number| if number == 1 { self.first_origin.clone() } else { self.origin_after(number) });
        let mut keys: Vec<VerifierKey> = names
            .flat_map(|name| pairs.iter().filter_map(move |pair| VerifierKey::new(&name, *pair).ok()))
            .filter(|key| key != self.current(Role::Log))
            .collect();
        keys.push(self.current(Role::Log).clone());
        keys
    }

    /// Tells whether a checkpoint of a former origin lies beyond what a restore kept: its entries are lost, and the
    /// entry of the restore says so. It contradicts nothing.
    pub fn gave_up(&self, checkpoint: &Checkpoint, note: &str) -> bool {
        checkpoint.origin != self.origin() && self.verify_checkpoint(note).is_err()
    }

    /// Checks that a key in force at a size was not revoked for it.
    pub fn check_trusted(&self, size: u64) -> Result<(), TrustError> {
        let mut result = Ok(());
        for span in self.log_keys_at(size) {
            result = span.check_trust(size);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Lists the steps by which a verifier that trusts `given` comes to trust the key of a checkpoint of `size`.
    /// Each rotation among them must be seen to be signed by both keys. A key that was revoked vouches for nothing
    /// beyond its last size.
    pub fn path(&self, given: &VerifierKey, size: u64) -> Result<Vec<Step<'_>>, TrustError> {
        let unknown = || TrustError::Unknown { key: given.to_string() };
        let start = self.log.iter().position(|span| span.key == *given).ok_or_else(unknown)?;
        let mut held = self.log.get(start).ok_or_else(unknown)?;
        let mut steps = Vec::new();
        if !held.covers(size) {
            let end = self.log.iter().position(|span| span.covers(size)).ok_or_else(unknown)?;
            if start > end {
                return Err(TrustError::Later { key: given.to_string(), from: held.from, size });
            }
            for span in self.log.iter().take(end + 1).skip(start + 1) {
                if span.restored.is_some() {
                    steps.push(Step::Restore { to: span });
                } else {
                    held.check_trust(span.from)?;
                    steps.push(Step::Rotation { size: span.from, from: &held.key, to: &span.key });
                }
                held = span;
            }
        }
        held.check_trust(size)?;
        Ok(steps)
    }

    /// Tells how a verifier that trusts bundle key `given` comes to trust the bundle key with this public half, for a
    /// bundle over a checkpoint of `size`: every rotation between them is an entry of the log.
    pub fn bundle_successor(
        &self,
        given: &VerifierKey,
        signer: &VerifierKey,
        size: u64,
    ) -> Result<(), TrustError> {
        let find = |key: &VerifierKey| {
            let at = self.bundle.iter().position(|span| span.key.public() == key.public());
            at.ok_or_else(|| TrustError::Unknown { key: key.to_string() })
        };
        let (start, end) = (find(given)?, find(signer)?);
        let span = self.bundle.get(end).ok_or_else(|| TrustError::Unknown { key: signer.to_string() })?;
        span.check_trust(size)?;
        if start > end {
            let from = self.bundle.get(start).map_or(0, |span| span.from);
            return Err(TrustError::Later { key: given.to_string(), from, size });
        }
        Ok(())
    }
}

/// Members of an entry about keys.
struct Body {
    seq: u64,
    kind: String,
    members: Map<String, Value>,
}

impl Body {
    fn parse(seq: u64, entry: &EntryView<'_>) -> Result<Self, AuthorityError> {
        let members = serde_json::from_str(entry.body.get())
            .map_err(|error| AuthorityError { seq, detail: format!("its body cannot be read: {error}") })?;
        Ok(Self { seq, kind: entry.kind.to_string(), members })
    }

    fn fail(&self, detail: impl fmt::Display) -> AuthorityError {
        AuthorityError { seq: self.seq, detail: format!("`{}`: {detail}", self.kind) }
    }

    fn text(&self, name: &str) -> Result<&str, AuthorityError> {
        let text = self.members.get(name).and_then(Value::as_str);
        text.ok_or_else(|| self.fail(format!("`{name}` is missing or no text")))
    }

    fn key(&self, name: &str) -> Result<VerifierKey, AuthorityError> {
        VerifierKey::parse(self.text(name)?).map_err(|error| self.fail(format!("`{name}`: {error}")))
    }

    fn role(&self) -> Result<Role, AuthorityError> {
        match self.text("role")? {
            "log" => Ok(Role::Log),
            "bundle" => Ok(Role::Bundle),
            other => Err(self.fail(format!("`{}` is no role", other.escape_default()))),
        }
    }

    fn number(&self, name: &str) -> Result<u64, AuthorityError> {
        let number = self.text(name)?.parse();
        number.map_err(|_| self.fail(format!("`{name}` is not a decimal number")))
    }

    fn optional_number(&self, name: &str) -> Result<Option<u64>, AuthorityError> {
        if self.members.contains_key(name) { self.number(name).map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests;
