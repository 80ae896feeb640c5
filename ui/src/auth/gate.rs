//! What the server asks about every request: who sends it, and what may they do?

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde_json::{Map, Value, json};
use verdict_ledger::clock::{Entropy, EntropyError};
use verdict_ledger::{Batch, NewRecord};

use super::Scope;
use super::session::Sessions;
use super::store::{Entry, Stamp, StoreError, TokenFile, replace};
use super::throttle::Throttle;
use super::token::{Token, TokenDigest};
use crate::telemetry::Context;

/// Last use is told to the hour: enough to find what nobody uses, too little to watch somebody.
const USED_GRAIN_NS: u64 = 3_600_000_000_000;
/// Longest name from a certificate that is recorded.
const PEER_CHARS_MAX: usize = 256;

/// Who sends a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Authenticated name, recorded as `source.peer`; `None` when nobody was asked.
    pub peer: Option<String>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The token, by its id.
    pub token_id: Option<String>,
    /// The span of the request, when the server traces itself.
    pub span: Option<Context>,
}

/// Why a caller is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nothing was shown.
    #[error("this server wants an API token: send `Authorization: Bearer verdict_…`")]
    Missing,
    /// What was shown is no token of this server.
    #[error("the token is not one of this server")]
    Unknown,
    /// The token was good once.
    #[error("the token has expired; make a new one with `verdict token create`")]
    Expired,
    /// The token was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// The session of the browser has ended.
    #[error("the session has ended; sign in again")]
    Session,
}

/// What a request shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    /// What stands after `Bearer` in the `Authorization` header.
    pub bearer: Option<&'a str>,
    /// The session cookie.
    pub session: Option<&'a str>,
    /// Name in a client certificate that was verified.
    pub certificate: Option<&'a str>,
}

#[derive(Debug)]
struct Live {
    digest: TokenDigest,
    entry: Entry,
}

#[derive(Debug, Default)]
struct Loaded {
    stamp: Option<Stamp>,
    tokens: Arc<Vec<Live>>,
}

/// The gate in front of every route but the public ones.
#[derive(Debug)]
pub struct Gate {
    file: TokenFile,
    loaded: RwLock<Loaded>,
    certificate_scopes: Vec<Scope>,
    sessions: Sessions,
    /// Hours in which tokens were used since the last flush, by id.
    used: Mutex<BTreeMap<String, u64>>,
    /// Late answers to those who fail.
    pub throttle: Throttle,
}

impl Gate {
    /// Opens the gate with the tokens of a file and what a client certificate alone allows.
    pub fn open(file: TokenFile, certificate_scopes: Vec<Scope>) -> Result<Self, StoreError> {
        let gate = Self {
            file,
            loaded: RwLock::default(),
            certificate_scopes,
            sessions: Sessions::default(),
            used: Mutex::default(),
            throttle: Throttle::default(),
        };
        gate.reload()?;
        Ok(gate)
    }

    /// Returns the token file.
    pub const fn file(&self) -> &TokenFile {
        &self.file
    }

    /// Returns how many tokens are in force.
    pub fn in_force(&self, now_ns: u64) -> usize {
        self.tokens().iter().filter(|live| live.entry.in_force(now_ns)).count()
    }

    fn tokens(&self) -> Arc<Vec<Live>> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner).tokens)
    }

    /// Looks at the file and reads it when it changed; tells whether it did. What cannot be read leaves the tokens as
    /// they were; a file that is gone leaves none.
    pub fn reload(&self) -> Result<bool, StoreError> {
        let stamp = self.file.stamp()?;
        if self.loaded.read().unwrap_or_else(PoisonError::into_inner).stamp == stamp {
            return Ok(false);
        }
        // The stamp is from before the reading: a change in between is seen the next time.
        let entries = self.file.load()?;
        let tokens = entries
            .into_iter()
            .filter_map(|entry| Some(Live { digest: entry.digest()?, entry }))
            .collect::<Vec<_>>();
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        *loaded = Loaded { stamp, tokens: Arc::new(tokens) };
        Ok(true)
    }

    /// Tells who shows this.
    pub fn identify(&self, shown: Shown<'_>, now_ns: u64) -> Result<Caller, Denied> {
        let mut caller = match (shown.bearer, shown.session) {
            (Some(bearer), _) => self.bearer(bearer, now_ns)?,
            (None, Some(cookie)) => match self.session(cookie, now_ns) {
                Some(caller) => caller,
                // An old cookie does not spoil a certificate.
                None if shown.certificate.is_some() => Caller::default(),
                None => return Err(Denied::Session),
            },
            (None, None) if shown.certificate.is_some() => Caller::default(),
            (None, None) => return Err(Denied::Missing),
        };
        if let Some(name) = shown.certificate {
            // The certificate names the sender; a token beside it adds what it allows.
            caller.peer = Some(format!("mtls:{}", name.chars().take(PEER_CHARS_MAX).collect::<String>()));
            caller.scopes.extend(&self.certificate_scopes);
        }
        Ok(caller)
    }

    fn bearer(&self, text: &str, now_ns: u64) -> Result<Caller, Denied> {
        let digest = Token::parse(text).ok_or(Denied::Unknown)?.digest();
        let tokens = self.tokens();
        // Every token is compared, so that the time does not tell which one it was.
        let mut found = None;
        for live in tokens.iter() {
            if live.digest.is(&digest) {
                found = Some(&live.entry);
            }
        }
        let entry = found.ok_or(Denied::Unknown)?;
        if entry.revoked_ns.is_some() {
            return Err(Denied::Revoked);
        }
        if !entry.in_force(now_ns) {
            return Err(Denied::Expired);
        }
        Ok(self.caller(entry, now_ns))
    }

    fn caller(&self, entry: &Entry, now_ns: u64) -> Caller {
        let hour = now_ns.saturating_sub(now_ns % USED_GRAIN_NS);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.get(&entry.id) != Some(&hour) {
            used.insert(entry.id.clone(), hour);
        }
        Caller {
            peer: Some(format!("token:{}", entry.name)),
            scopes: entry.scopes.clone(),
            token_id: Some(entry.id.clone()),
            span: None,
        }
    }

    fn session(&self, cookie: &str, now_ns: u64) -> Option<Caller> {
        let id = self.sessions.token(cookie, now_ns)?;
        let tokens = self.tokens();
        let live = tokens.iter().find(|live| live.entry.id == id && live.entry.in_force(now_ns))?;
        Some(self.caller(&live.entry, now_ns))
    }

    /// Starts a session for whoever shows a token; returns what the cookie holds and how long it lasts.
    pub fn sign_in(
        &self,
        token: &str,
        now_ns: u64,
        entropy: &dyn Entropy,
    ) -> Result<(String, u64), SignInError> {
        let caller = self.bearer(token, now_ns)?;
        let id = caller.token_id.unwrap_or_default();
        Ok((self.sessions.start(&id, now_ns, entropy)?, super::session::SESSION_SECONDS))
    }

    /// Ends a session.
    pub fn sign_out(&self, cookie: &str) {
        self.sessions.end(cookie);
    }

    /// Writes down the hours in which tokens were used.
    pub fn flush_used(&self) -> Result<(), StoreError> {
        let news = std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner));
        if news.is_empty() {
            return Ok(());
        }
        let mut all = last_used(&self.file);
        all.extend(news);
        let text: BTreeMap<String, String> =
            all.into_iter().map(|(id, hour)| (id, hour.to_string())).collect();
        let path = self.file.used_path();
        let bytes = serde_json::to_vec_pretty(&text).unwrap_or_default();
        replace(&path, &bytes).map_err(|source| StoreError::Io { doing: "write", path, source })
    }

    /// Returns what the ledger is to say about the tokens: each was made, some were revoked. The same tokens give the
    /// same records, so that appending them again adds nothing.
    pub fn facts(&self) -> Batch {
        let tokens = self.tokens();
        let mut records = Vec::new();
        for Live { entry, .. } in tokens.iter() {
            let scopes: Vec<&str> = entry.scopes.iter().map(|scope| scope.as_str()).collect();
            let mut made = json!({
                "id": format!("token.created:{}", entry.id), "token": entry.id, "name": entry.name,
                "scopes": scopes, "by": entry.created_by, "at_ns": entry.created_ns.to_string(),
            });
            if let (Some(body), Some(expires)) = (made.as_object_mut(), entry.expires_ns) {
                body.insert("expires_ns".to_owned(), Value::from(expires.to_string()));
            }
            records.push(NewRecord::system("token.created", object(made)));
            if let Some(at) = entry.revoked_ns {
                let revoked = json!({
                    "id": format!("token.revoked:{}", entry.id), "token": entry.id, "name": entry.name,
                    "by": entry.revoked_by, "at_ns": at.to_string(),
                });
                records.push(NewRecord::system("token.revoked", object(revoked)));
            }
        }
        Batch { records, blobs: Vec::new() }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The token does not do.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// No random number for the session.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Returns the hours in which tokens were last used, by id, as far as the server has written them down. It is a
/// convenience: what cannot be read is taken for nothing.
pub fn last_used(file: &TokenFile) -> BTreeMap<String, u64> {
    let text = fs::read(file.used_path()).unwrap_or_default();
    let all: BTreeMap<String, String> = serde_json::from_slice(&text).unwrap_or_default();
    all.into_iter().filter_map(|(id, hour)| Some((id, hour.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::store::NewToken;
    use verdict_ledger::clock::SteppingEntropy;

    fn token(number: u64) -> Token {
        Token::generate(&SteppingEntropy::starting_at(number)).unwrap()
    }

    fn shown(bearer: &str) -> Shown<'_> {
        Shown { bearer: Some(bearer), ..Shown::default() }
    }

    #[test]
    fn tokens_work_from_when_they_are_made_until_they_are_revoked_or_expire() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::of_ledger(dir.path());
        let gate = Gate::open(file.clone(), vec![Scope::Ingest]).unwrap();
        let (one, two) = (token(1), token(2));
        assert_eq!(gate.identify(shown(one.reveal()), 1), Err(Denied::Unknown));
        let new = NewToken { name: "one", scopes: &[Scope::Read], expires_ns: None, by: "ada", now_ns: 1 };
        file.create(&one, &new).unwrap();
        file.create(&two, &NewToken { name: "two", expires_ns: Some(10), ..new }).unwrap();
        assert!(gate.reload().unwrap() && !gate.reload().unwrap());
        let caller = gate.identify(shown(one.reveal()), 2).unwrap();
        assert_eq!((caller.peer.as_deref(), &*caller.scopes), (Some("token:one"), &[Scope::Read][..]));
        assert!(gate.identify(shown(two.reveal()), 9).is_ok());
        assert_eq!(gate.identify(shown(two.reveal()), 10), Err(Denied::Expired));
        assert_eq!(gate.identify(Shown::default(), 1), Err(Denied::Missing));
        assert_eq!(gate.identify(shown("verdict_"), 1), Err(Denied::Unknown));

        let (cookie, _) = gate.sign_in(one.reveal(), 2, &SteppingEntropy::starting_at(9)).unwrap();
        let browser = Shown { session: Some(&cookie), ..Shown::default() };
        assert_eq!(gate.identify(browser, 3).unwrap().peer.as_deref(), Some("token:one"));
        let facts = gate.facts();
        file.revoke("one", "bob", 4).unwrap();
        gate.reload().unwrap();
        assert_eq!(gate.identify(shown(one.reveal()), 5), Err(Denied::Revoked));
        assert_eq!(gate.identify(browser, 5), Err(Denied::Session), "with its token");
        assert_eq!((facts.records.len(), gate.facts().records.len()), (2, 3));
        assert_eq!(gate.facts().records[0], facts.records[0]);

        gate.flush_used().unwrap();
        assert_eq!(last_used(&file).len(), 2);
        fs::remove_file(file.path()).unwrap();
        assert!(gate.reload().unwrap());
        assert_eq!(gate.in_force(5), 0);
    }

    #[test]
    fn a_certificate_names_the_sender_and_a_token_adds_scopes() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::of_ledger(dir.path());
        let one = token(1);
        let new = NewToken { name: "one", scopes: &[Scope::Read], expires_ns: None, by: "ada", now_ns: 1 };
        file.create(&one, &new).unwrap();
        let gate = Gate::open(file, vec![Scope::Ingest]).unwrap();
        let both = Shown { bearer: Some(one.reveal()), certificate: Some("spiffe://x/y"), session: None };
        let caller = gate.identify(both, 1).unwrap();
        assert_eq!(caller.peer.as_deref(), Some("mtls:spiffe://x/y"));
        assert_eq!(caller.scopes, [Scope::Read, Scope::Ingest]);
        let alone = Shown { certificate: Some("spiffe://x/y"), ..Shown::default() };
        assert_eq!(gate.identify(alone, 1).unwrap().scopes, [Scope::Ingest]);
        let bad = Shown { bearer: Some("no"), ..both };
        assert_eq!(gate.identify(bad, 1), Err(Denied::Unknown), "a bad token is an error, not nothing");
    }
}
