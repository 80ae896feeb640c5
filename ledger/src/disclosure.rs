//! Personal and large values as RFC 9901 (SD-JWT) disclosures.
//!
//! The entry holds only digests of `[salt, name, value]`; the values live in an erasable store. Withholding or
//! erasing a value changes no entry, so every proof stays valid. Unlike in a token, the *names* of members that
//! were split off are no secret: the body lists them under `_sd_members`, so that a reader can say exactly what
//! is missing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::canon::{self, CanonError};
use crate::clock::{Entropy, EntropyError};

/// Longest encoded disclosure.
pub const DISCLOSURE_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Member that holds the digests of an object's disclosed members.
const DIGESTS: &str = "_sd";

/// Member that lists the JSON pointers of disclosed members.
pub const MEMBERS: &str = "_sd_members";

/// Members of any body that are split off: personal by nature, or large.
const DISCLOSED: &[&[&str]] = &[
    &["user"],
    &["on_behalf_of"],
    &["by"],
    &["attributes"],
    &["action", "arguments"],
    &["outcome", "result"],
    &["outcome", "error", "message"],
];

/// Lists the JSON pointers of the members that are split off, wherever a body has them.
pub fn pointers() -> impl Iterator<Item = String> {
    DISCLOSED.iter().map(|path| format!("/{}", path.join("/")))
}

/// Why a text is not a disclosure, or does not belong to an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisclosureError {
    /// The text is not base64url of `[salt, name, value]`.
    #[error("not a disclosure: {why}")]
    Malformed {
        /// What is wrong.
        why: &'static str,
    },
    /// The entry does not commit to it.
    #[error("disclosure of `{name}` is not among the digests of the entry")]
    Foreign {
        /// Name that it discloses.
        name: String,
    },
    /// It would overwrite a member of the entry.
    #[error("disclosure of `{name}` collides with a member of the entry")]
    Collision {
        /// Name that it discloses.
        name: String,
    },
    /// A member has a name that is kept for disclosures.
    #[error("member `{pointer}` has a name that is reserved for the digests of disclosed values")]
    Reserved {
        /// JSON pointer to the member.
        pointer: String,
    },
    /// The value has no canonical form.
    #[error(transparent)]
    Canon(#[from] CanonError),
    /// No salt.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The value is too large even for a disclosure.
    #[error("`{name}` takes {bytes} bytes, more than the limit of {DISCLOSURE_BYTES_MAX}")]
    TooLarge {
        /// Name.
        name: String,
        /// Size when encoded.
        bytes: usize,
    },
}

/// One disclosed value.
#[derive(Debug, Clone, PartialEq)]
pub struct Disclosure {
    name: String,
    value: Value,
    encoded: String,
}

impl Disclosure {
    /// Commits to a value under a fresh salt.
    pub fn new(name: &str, value: Value, entropy: &dyn Entropy) -> Result<Self, DisclosureError> {
        let mut salt = [0u8; 32];
        entropy.fill(&mut salt)?;
        let triple = Value::from(vec![Value::from(BASE64URL.encode(salt)), Value::from(name), value]);
        let encoded = BASE64URL.encode(canon::entry_bytes(&triple)?);
        if encoded.len() > DISCLOSURE_BYTES_MAX {
            return Err(DisclosureError::TooLarge { name: name.to_owned(), bytes: encoded.len() });
        }
        let value = match triple {
            Value::Array(mut items) => items.pop().unwrap_or_default(),
            _ => Value::Null,
        };
        Ok(Self { name: name.to_owned(), value, encoded })
    }

    /// Parses the base64url text.
    pub fn parse(encoded: &str) -> Result<Self, DisclosureError> {
        let malformed = |why| DisclosureError::Malformed { why };
        if encoded.len() > DISCLOSURE_BYTES_MAX {
            return Err(malformed("too long"));
        }
        let bytes = BASE64URL.decode(encoded).map_err(|_| malformed("not base64url"))?;
        let triple: Vec<Value> = serde_json::from_slice(&bytes).map_err(|_| malformed("not a JSON array"))?;
        let Ok([salt, name, value]) = <[Value; 3]>::try_from(triple) else {
            return Err(malformed("not an array of salt, name and value"));
        };
        let (Value::String(salt), Value::String(name)) = (salt, name) else {
            return Err(malformed("salt and name must be strings"));
        };
        if BASE64URL.decode(&salt).map_or(0, |salt| salt.len()) < 32 {
            return Err(malformed("the salt is shorter than 256 bits"));
        }
        if name == "_sd" || name == "..." || name == MEMBERS {
            return Err(malformed("reserved name"));
        }
        Ok(Self { name, value, encoded: encoded.to_owned() })
    }

    /// Returns the name of the member.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value.
    pub const fn value(&self) -> &Value {
        &self.value
    }

    /// Returns the base64url text.
    pub fn encoded(&self) -> &str {
        &self.encoded
    }

    /// Returns the digest that the entry holds.
    pub fn digest(&self) -> String {
        digest(&self.encoded)
    }
}

/// Digests an encoded disclosure: base64url of the SHA-256 of its ASCII text.
pub fn digest(encoded: &str) -> String {
    BASE64URL.encode(raw_digest(encoded))
}

/// Digests an encoded disclosure to bytes.
pub fn raw_digest(encoded: &str) -> [u8; 32] {
    Sha256::digest(encoded.as_bytes()).into()
}

/// Reads a digest as it stands in an `_sd` array.
pub fn parse_digest(digest: &str) -> Option<[u8; 32]> {
    BASE64URL.decode(digest).ok()?.try_into().ok()
}

/// Splits the disclosed members off a body. The returned body holds `_sd` digests where they were and lists them
/// under [`MEMBERS`].
pub fn split(
    mut body: Map<String, Value>,
    entropy: &dyn Entropy,
) -> Result<(Map<String, Value>, Vec<Disclosure>), DisclosureError> {
    let mut values = Vec::new();
    for path in DISCLOSED {
        let Some((name, parents)) = path.split_last() else { continue };
        let Some(object) = descend(&mut body, parents) else { continue };
        let Some(value) = object.remove(*name) else { continue };
        values.push((*path, *name, parents, value));
    }
    // What stays must not look like what is put in now: a reader could not tell them apart.
    refuse_reserved(&body, "")?;
    let mut disclosures = Vec::new();
    let mut members = Vec::new();
    for (path, name, parents, value) in values {
        let Some(object) = descend(&mut body, parents) else { continue };
        let disclosure = Disclosure::new(name, value, entropy)?;
        let digests = object.entry(DIGESTS).or_insert_with(|| Value::from(Vec::<Value>::new()));
        if let Value::Array(digests) = digests {
            digests.push(Value::from(disclosure.digest()));
            // RFC 9901 section 4.2.4.1: the order must not tell which digest is which.
            digests.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
        members.push(Value::from(format!("/{}", path.join("/"))));
        disclosures.push(disclosure);
    }
    if !members.is_empty() {
        body.insert(MEMBERS.to_owned(), Value::from(members));
    }
    Ok((body, disclosures))
}

/// Refuses the names of digests and of the list of members wherever [`merge`] would take them for its own.
fn refuse_reserved(object: &Map<String, Value>, pointer: &str) -> Result<(), DisclosureError> {
    for (name, member) in object {
        let here = || format!("{pointer}/{}", canon::escape_pointer(name));
        if name == DIGESTS || (pointer.is_empty() && name == MEMBERS) {
            return Err(DisclosureError::Reserved { pointer: here() });
        }
        if let Value::Object(member) = member {
            refuse_reserved(member, &here())?;
        }
    }
    Ok(())
}

fn descend<'a>(body: &'a mut Map<String, Value>, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut object = body;
    for name in path {
        object = object.get_mut(*name)?.as_object_mut()?;
    }
    Some(object)
}

/// A body with the disclosures put back in place.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The body without `_sd` members.
    pub body: Map<String, Value>,
    /// JSON pointers of members whose disclosure was not given.
    pub withheld: Vec<String>,
}

/// Puts disclosures back. A disclosure that the body does not commit to is an error, never ignored.
pub fn merge(mut body: Map<String, Value>, disclosures: &[Disclosure]) -> Result<Merged, DisclosureError> {
    let listed = body.remove(MEMBERS);
    let mut open: Vec<(String, &Disclosure)> = disclosures.iter().map(|d| (d.digest(), d)).collect();
    let mut placed = Vec::new();
    place(&mut body, "", &mut open, &mut placed)?;
    if let Some((_, disclosure)) = open.first() {
        return Err(DisclosureError::Foreign { name: disclosure.name.clone() });
    }
    let listed = listed.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let withheld = listed
        .iter()
        .filter_map(Value::as_str)
        .filter(|pointer| !placed.iter().any(|done| done == pointer))
        .map(str::to_owned)
        .collect();
    Ok(Merged { body, withheld })
}

fn place(
    object: &mut Map<String, Value>,
    pointer: &str,
    open: &mut Vec<(String, &Disclosure)>,
    placed: &mut Vec<String>,
) -> Result<(), DisclosureError> {
    for (name, member) in &mut *object {
        if let Value::Object(member) = member {
            place(member, &format!("{pointer}/{}", canon::escape_pointer(name)), open, placed)?;
        }
    }
    let Some(Value::Array(digests)) = object.remove("_sd") else { return Ok(()) };
    for digest in digests.iter().filter_map(Value::as_str) {
        let Some(found) = open.iter().position(|(candidate, _)| candidate == digest) else { continue };
        let (_, disclosure) = open.swap_remove(found);
        if object.contains_key(&disclosure.name) {
            return Err(DisclosureError::Collision { name: disclosure.name.clone() });
        }
        object.insert(disclosure.name.clone(), disclosure.value.clone());
        placed.push(format!("{pointer}/{}", canon::escape_pointer(&disclosure.name)));
    }
    Ok(())
}

/// Lists every disclosure digest that a body commits to.
pub fn committed(body: &Map<String, Value>) -> Vec<String> {
    let mut digests = Vec::new();
    collect(body, &mut digests);
    digests
}

fn collect(object: &Map<String, Value>, digests: &mut Vec<String>) {
    for (name, member) in object {
        match member {
            Value::Array(items) if name == "_sd" => {
                digests.extend(items.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            Value::Object(member) => collect(member, digests),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppingEntropy;
    use serde_json::json;

    fn body() -> Map<String, Value> {
        let value = json!({
            "id": "e", "user": "ada@example.org", "attributes": {"a": 1.5},
            "action": {"kind": "tool", "name": "t", "arguments": {"amount": 7}},
            "outcome": {"status": "error", "error": {"type": "E", "message": "for ada"}},
        });
        value.as_object().unwrap().clone()
    }

    #[test]
    fn split_hides_and_merge_restores() {
        let (hidden, disclosures) = split(body(), &SteppingEntropy::default()).unwrap();
        let text = serde_json::to_string(&hidden).unwrap();
        assert!(!text.contains("ada") && !text.contains("amount"), "{text}");
        assert_eq!(committed(&hidden).len(), 4);
        let merged = merge(hidden, &disclosures).unwrap();
        assert_eq!(merged.body, body());
        assert!(merged.withheld.is_empty());
    }

    #[test]
    fn a_withheld_member_is_named_and_the_rest_restored() {
        let (hidden, mut disclosures) = split(body(), &SteppingEntropy::default()).unwrap();
        disclosures.retain(|d| d.name() != "arguments");
        let merged = merge(hidden, &disclosures).unwrap();
        assert_eq!(merged.withheld, ["/action/arguments"]);
        assert_eq!(merged.body.get("user"), Some(&json!("ada@example.org")));
    }

    #[test]
    fn a_forged_disclosure_is_refused() {
        let (hidden, disclosures) = split(body(), &SteppingEntropy::default()).unwrap();
        let forged = Disclosure::new("user", json!("mallory"), &SteppingEntropy::starting_at(7)).unwrap();
        assert_eq!(merge(hidden.clone(), &[forged]), Err(DisclosureError::Foreign { name: "user".into() }));
        let reparsed = Disclosure::parse(disclosures[0].encoded()).unwrap();
        assert_eq!(&reparsed, &disclosures[0]);
        assert!(Disclosure::parse("####").is_err());
    }

    #[test]
    fn names_of_digests_are_refused_where_a_reader_would_take_them_for_digests() {
        let refused = |change: fn(&mut Map<String, Value>)| {
            let mut body = body();
            change(&mut body);
            split(body, &SteppingEntropy::default()).unwrap_err()
        };
        let at = |pointer: &str| DisclosureError::Reserved { pointer: pointer.into() };
        assert_eq!(refused(|body| drop(body.insert("_sd".into(), json!("x")))), at("/_sd"));
        assert_eq!(refused(|body| drop(body.insert(MEMBERS.into(), json!(["/user"])))), at("/_sd_members"));
        assert_eq!(refused(|body| drop(body.insert("other".into(), json!({"_sd": []})))), at("/other/_sd"));
        // Inside a disclosed value they are nobody's business.
        let mut inside = body();
        inside.insert("attributes".into(), json!({"_sd": [1], "_sd_members": {}}));
        let (hidden, disclosures) = split(inside.clone(), &SteppingEntropy::default()).unwrap();
        assert_eq!(merge(hidden, &disclosures).unwrap().body, inside);
    }

    #[test]
    fn the_deepest_value_that_is_written_is_read_back() {
        let deep = |levels: usize| (1..levels).fold(json!([]), |inner, _| json!([inner]));
        let entropy = SteppingEntropy::default();
        let deepest = Disclosure::new("attributes", deep(canon::DEPTH_MAX), &entropy).unwrap();
        assert_eq!(Disclosure::parse(deepest.encoded()).unwrap(), deepest);
        assert!(Disclosure::new("attributes", deep(canon::DEPTH_MAX + 1), &entropy).is_err());
    }

    #[test]
    fn equal_values_have_different_digests() {
        let entropy = SteppingEntropy::default();
        let one = Disclosure::new("user", json!("yes"), &entropy).unwrap();
        let two = Disclosure::new("user", json!("yes"), &entropy).unwrap();
        assert_ne!(one.digest(), two.digest());
    }
}
