//! Browsers that have shown a token: a random number in a cookie, kept in memory only, for the token's id.
//!
//! A session allows what its token allows at the moment of the request, so that revoking the token ends it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use verdict_ledger::clock::{Entropy, EntropyError};

/// How long a session lasts.
pub(super) const SESSION_SECONDS: u64 = 12 * 3_600;
/// Most sessions; beyond it the one that ends first is ended.
const SESSIONS_MAX: usize = 1_000;

#[derive(Debug)]
struct Session {
    token_id: String,
    ends_ns: u64,
}

/// The sessions, by the digest of their cookie: a look-up in a map tells by its time at most something about a digest.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<BTreeMap<[u8; 32], Session>>);

fn key(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie.as_bytes()).into()
}

impl Sessions {
    /// Starts one and returns what the cookie holds.
    pub(super) fn start(
        &self,
        token_id: &str,
        now_ns: u64,
        entropy: &dyn Entropy,
    ) -> Result<String, EntropyError> {
        let mut secret = [0; 32];
        entropy.fill(&mut secret)?;
        let cookie = hex::encode(secret);
        let ends_ns = now_ns.saturating_add(SESSION_SECONDS * 1_000_000_000);
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| now_ns < session.ends_ns);
        let first = sessions.iter().min_by_key(|(_, session)| session.ends_ns).map(|(key, _)| *key);
        if let (true, Some(first)) = (sessions.len() >= SESSIONS_MAX, first) {
            sessions.remove(&first);
        }
        sessions.insert(key(&cookie), Session { token_id: token_id.to_owned(), ends_ns });
        Ok(cookie)
    }

    /// Returns the id of the token that a session stands for.
    pub(super) fn token(&self, cookie: &str, now_ns: u64) -> Option<String> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(&key(cookie)).filter(|session| now_ns < session.ends_ns)?;
        Some(session.token_id.clone())
    }

    /// Ends one.
    pub(super) fn end(&self, cookie: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(cookie));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use verdict_ledger::clock::SteppingEntropy;

    #[test]
    fn sessions_end_by_time_by_word_and_by_number() {
        let (sessions, entropy) = (Sessions::default(), SteppingEntropy::starting_at(1));
        let cookie = sessions.start("a", 0, &entropy).unwrap();
        assert_eq!(sessions.token(&cookie, 1).as_deref(), Some("a"));
        assert_eq!(sessions.token("", 1), None);
        assert_eq!(sessions.token(&cookie, SESSION_SECONDS * 1_000_000_000), None);
        sessions.end(&cookie);
        assert_eq!(sessions.token(&cookie, 1), None);
        for number in 0..2_000 {
            sessions.start("b", number, &entropy).unwrap();
        }
        assert_eq!(sessions.0.lock().unwrap().len(), SESSIONS_MAX);
    }
}
