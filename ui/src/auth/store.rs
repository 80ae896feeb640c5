//! The token file: who may use the server, beside the ledger and not in it.
//!
//! Tokens are not entries. An entry can never be taken back, and what a server needs to let somebody in must be
//! readable without the ledger's keys and changeable while the server has the ledger open. So they lie in a JSON
//! file of their own (`tokens.json` in the ledger directory, mode 0600) which is replaced as a whole under a file
//! lock; the server looks at it every second. That a token was made or revoked is said in the ledger too, by the
//! server, which is its writer.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Scope;
use super::token::{Token, TokenDigest};

/// Largest token file.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Most tokens, with those that are revoked.
const TOKENS_MAX: usize = 10_000;
/// Longest name.
const NAME_CHARS_MAX: usize = 64;
/// The form of the file that is written.
const VERSION: u32 = 1;

/// Why the token file cannot be used or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// File.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Others can read or write the file.
    #[error("{} can be read by others (mode {mode:04o}); make it private with `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// File.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is not a token file.
    #[error("{}: {detail}", path.display())]
    Form {
        /// File.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The name cannot be used.
    #[error(
        "`{name}` cannot be the name of a token: use 1 to {NAME_CHARS_MAX} of the characters A-Z a-z 0-9 . _ -"
    )]
    Name {
        /// As given.
        name: String,
    },
    /// Another token has the name.
    #[error("a token named `{name}` is in force ({id}); revoke it first or choose another name")]
    NameTaken {
        /// Name.
        name: String,
        /// The other token.
        id: String,
    },
    /// There is no such token.
    #[error("no token `{name}` is in force")]
    Unknown {
        /// Name or id as given.
        name: String,
    },
    /// There are too many.
    #[error("the token file holds {TOKENS_MAX} tokens, and no more fit")]
    Full,
}

/// One token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// First digits of the digest.
    pub id: String,
    /// Name; what senders are called in `source.peer`.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// SHA-256 of the token.
    pub sha256: String,
    /// When it was made, Unix nanoseconds.
    #[serde(with = "decimal")]
    pub created_ns: u64,
    /// Who made it, as stated.
    pub created_by: String,
    /// When it stops working.
    #[serde(default, with = "optional_decimal", skip_serializing_if = "Option::is_none")]
    pub expires_ns: Option<u64>,
    /// When it was revoked.
    #[serde(default, with = "optional_decimal", skip_serializing_if = "Option::is_none")]
    pub revoked_ns: Option<u64>,
    /// Who revoked it, as stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<String>,
}

impl Entry {
    /// Tells whether it works at a time.
    pub fn in_force(&self, now_ns: u64) -> bool {
        self.revoked_ns.is_none() && self.expires_ns.is_none_or(|expires| now_ns < expires)
    }

    /// Returns the digest.
    pub fn digest(&self) -> Option<TokenDigest> {
        TokenDigest::from_hex(&self.sha256)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    tokens: Vec<Entry>,
}

/// What a new token is to be.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// Name.
    pub name: &'a str,
    /// What it allows.
    pub scopes: &'a [Scope],
    /// When it stops working.
    pub expires_ns: Option<u64>,
    /// Who makes it.
    pub by: &'a str,
    /// When.
    pub now_ns: u64,
}

/// Tells one state of the file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// The token file.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
}

impl TokenFile {
    /// Names the file; it need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Names the file where it lies unless somebody says otherwise.
    pub fn of_ledger(dir: &Path) -> Self {
        Self::new(dir.join("tokens.json"))
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file that says when tokens were last used.
    pub fn used_path(&self) -> PathBuf {
        self.path.with_extension("used.json")
    }

    /// Returns what tells whether the file changed; `None` when it is not there.
    pub fn stamp(&self) -> Result<Option<Stamp>, StoreError> {
        match fs::metadata(&self.path) {
            Ok(found) => Ok(Some(Stamp {
                inode: found.ino(),
                bytes: found.len(),
                changed: (found.ctime(), found.ctime_nsec()),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io("look at", error)),
        }
    }

    /// Reads every token, also those that are revoked. A missing file holds none.
    pub fn load(&self) -> Result<Vec<Entry>, StoreError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.io("read", error)),
        };
        let metadata = file.metadata().map_err(|error| self.io("look at", error))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Exposed { path: self.path.clone(), mode });
        }
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| self.io("read", error))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(self.form(format!("is larger than {FILE_BYTES_MAX} bytes")));
        }
        let contents: Contents = serde_json::from_slice(&text)
            .map_err(|error| self.form(format!("is not a token file: {error}")))?;
        if contents.version != VERSION {
            let found = contents.version;
            return Err(self.form(format!("has version {found}, and this program knows version {VERSION}")));
        }
        if let Some(bad) = contents.tokens.iter().find(|entry| entry.digest().is_none()) {
            return Err(self.form(format!("token `{}` has no SHA-256 digest", bad.name)));
        }
        Ok(contents.tokens)
    }

    /// Makes a token and keeps its digest.
    pub fn create(&self, token: &Token, new: &NewToken<'_>) -> Result<Entry, StoreError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if new.name.is_empty() || new.name.len() > NAME_CHARS_MAX || !new.name.chars().all(plain) {
            return Err(StoreError::Name { name: new.name.to_owned() });
        }
        let _alone = self.lock()?;
        let mut tokens = self.load()?;
        let taken = tokens.iter().find(|entry| entry.name == new.name && entry.in_force(new.now_ns));
        if let Some(other) = taken {
            return Err(StoreError::NameTaken { name: new.name.to_owned(), id: other.id.clone() });
        }
        if tokens.len() >= TOKENS_MAX {
            return Err(StoreError::Full);
        }
        let mut scopes = new.scopes.to_vec();
        scopes.sort_unstable();
        scopes.dedup();
        let digest = token.digest();
        let entry = Entry {
            id: digest.id(),
            name: new.name.to_owned(),
            scopes,
            sha256: digest.to_hex(),
            created_ns: new.now_ns,
            created_by: new.by.to_owned(),
            expires_ns: new.expires_ns,
            revoked_ns: None,
            revoked_by: None,
        };
        tokens.push(entry.clone());
        self.save(tokens)?;
        Ok(entry)
    }

    /// Revokes the token with a name or id.
    pub fn revoke(&self, name: &str, by: &str, now_ns: u64) -> Result<Entry, StoreError> {
        let _alone = self.lock()?;
        let mut tokens = self.load()?;
        let Some(entry) = tokens
            .iter_mut()
            .find(|entry| entry.revoked_ns.is_none() && (entry.name == name || entry.id == name))
        else {
            return Err(StoreError::Unknown { name: name.to_owned() });
        };
        entry.revoked_ns = Some(now_ns);
        entry.revoked_by = Some(by.to_owned());
        let revoked = entry.clone();
        self.save(tokens)?;
        Ok(revoked)
    }

    /// Waits until nobody else changes the file. The lock ends with the process that holds it, however that ends.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.path.with_extension("lock");
        let io = |source| StoreError::Io { doing: "lock", path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(io)?;
        file.lock().map_err(io)?;
        Ok(file)
    }

    fn save(&self, tokens: Vec<Entry>) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(&Contents { version: VERSION, tokens })
            .map_err(|error| self.form(error.to_string()))?;
        replace(&self.path, &text).map_err(|error| self.io("write", error))
    }

    fn io(&self, doing: &'static str, source: io::Error) -> StoreError {
        StoreError::Io { doing, path: self.path.clone(), source }
    }

    fn form(&self, detail: String) -> StoreError {
        StoreError::Form { path: self.path.clone(), detail }
    }
}

/// Replaces a private file so that a reader sees the old bytes or the new ones, also after a power cut.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

mod decimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod optional_decimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use verdict_ledger::clock::SteppingEntropy;

    fn new(name: &str) -> NewToken<'_> {
        NewToken { name, scopes: &[Scope::Ingest], expires_ns: Some(500), by: "ada", now_ns: 100 }
    }

    #[test]
    fn the_file_holds_digests_and_never_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::of_ledger(dir.path());
        assert!(file.load().unwrap().is_empty() && file.stamp().unwrap().is_none());
        let token = Token::generate(&SteppingEntropy::starting_at(1)).unwrap();
        let made = file.create(&token, &new("collector")).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains(&token.reveal()[8..40]) && text.contains(&made.sha256), "{text}");
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file.load().unwrap(), std::slice::from_ref(&made));
        assert!(made.in_force(499) && !made.in_force(500));

        let before = file.stamp().unwrap();
        assert!(matches!(file.create(&token, &new("collector")), Err(StoreError::NameTaken { .. })));
        let revoked = file.revoke(&made.id, "bob", 200).unwrap();
        assert_eq!((revoked.revoked_ns, revoked.in_force(201)), (Some(200), false));
        assert_ne!(file.stamp().unwrap(), before);
        assert!(matches!(file.revoke("collector", "bob", 201), Err(StoreError::Unknown { .. })));
        file.create(&token, &new("collector")).unwrap();
        assert_eq!(file.load().unwrap().len(), 2, "what was revoked stays listed");
    }

    #[test]
    fn what_cannot_be_trusted_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::of_ledger(dir.path());
        let token = Token::generate(&SteppingEntropy::starting_at(1)).unwrap();
        for name in ["", "a b", "é", "a/b", &"x".repeat(65)] {
            assert!(matches!(file.create(&token, &new(name)), Err(StoreError::Name { .. })), "{name}");
        }
        file.create(&token, &new("a")).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        let error = file.load().unwrap_err();
        assert!(error.to_string().contains("0644") && error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        for bad in ["", "{", "{\"version\":2,\"tokens\":[]}", "{\"version\":1,\"tokens\":[],\"x\":1}"] {
            fs::write(file.path(), bad).unwrap();
            assert!(matches!(file.load(), Err(StoreError::Form { .. })), "{bad}");
        }
    }

    #[test]
    fn many_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::of_ledger(dir.path());
        std::thread::scope(|scope| {
            for number in 0..8u64 {
                let file = &file;
                scope.spawn(move || {
                    let token = Token::generate(&SteppingEntropy::starting_at(number)).unwrap();
                    file.create(&token, &new(&format!("t{number}"))).unwrap();
                });
            }
        });
        assert_eq!(file.load().unwrap().len(), 8);
    }
}
