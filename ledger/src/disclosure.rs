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

/// Longest canonical value of a disclosure, so that the disclosure stays within its limit with salt and base64.
const VALUE_BYTES_MAX: usize = DISCLOSURE_BYTES_MAX / 4 * 3 - 1024;

/// Member that holds the digests of an object's disclosed members.
const DIGESTS: &str = "_sd";

/// Member that lists the JSON pointers of disclosed members.
pub const MEMBERS: &str = "_sd_members";

/// Members of any body that are split off: personal by nature, or large. Stored rows hold indexes into this list: new
/// ones go to its end.
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
        if name == DIGESTS || name == "..." || name == MEMBERS {
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
    let mut seed = [0; 32];
    entropy.fill(&mut seed)?;
    let hidden = hide(&mut body, &seed)?;
    let disclosures = hidden.members().map(|member| member.disclosure()).collect::<Result<Vec<_>, _>>()?;
    Ok((body, disclosures))
}

/// Where a disclosed member stood: an index into [`DISCLOSED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) u8);

impl Place {
    fn path(self) -> &'static [&'static str] {
        DISCLOSED.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    /// Returns the JSON pointer.
    pub(crate) fn pointer(self) -> String {
        format!("/{}", self.path().join("/"))
    }

    fn name(self) -> &'static str {
        self.path().last().copied().unwrap_or_default()
    }
}

/// Where the salts of one entry's disclosures come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Salts {
    /// All from one secret: the salt of a member is the BLAKE3 keyed hash of its JSON pointer. One secret instead of
    /// a salt for each member, as long as all of them are there: a disclosed salt says nothing about the others.
    Seed([u8; 32]),
    /// One for each member that is left. Erasing one member must destroy the seed, which would give its salt.
    Each(Vec<[u8; 32]>),
}

impl Default for Salts {
    fn default() -> Self {
        Self::Each(Vec::new())
    }
}

/// The values that were taken out of one body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hidden {
    /// Their salts.
    pub(crate) salts: Salts,
    /// Place and end in `values` of each, in the order of [`DISCLOSED`].
    pub(crate) members: Vec<(Place, usize)>,
    /// Canonical bytes of the values, one after the other.
    pub(crate) values: Vec<u8>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct HiddenMember<'a> {
    /// Where it stood.
    pub(crate) place: Place,
    /// Canonical bytes.
    pub(crate) value: &'a [u8],
    /// Salt.
    pub(crate) salt: [u8; 32],
}

impl Hidden {
    /// Lists the members.
    pub(crate) fn members(&self) -> impl Iterator<Item = HiddenMember<'_>> {
        let mut start = 0;
        self.members.iter().enumerate().map(move |(index, (place, end))| {
            let value = self.values.get(start..*end).unwrap_or_default();
            start = *end;
            let salt = match &self.salts {
                Salts::Seed(seed) => salt_of(seed, *place),
                Salts::Each(salts) => salts.get(index).copied().unwrap_or_default(),
            };
            HiddenMember { place: *place, value, salt }
        })
    }
}

impl HiddenMember<'_> {
    /// Returns the base64url text that discloses the value.
    pub(crate) fn encoded(&self) -> String {
        let name = self.place.name();
        let mut triple = Vec::with_capacity(self.value.len() + name.len() + 56);
        triple.extend_from_slice(b"[\"");
        triple.extend_from_slice(BASE64URL.encode(self.salt).as_bytes());
        triple.extend_from_slice(b"\",");
        canon::append_string(name, &mut triple);
        triple.push(b',');
        triple.extend_from_slice(self.value);
        triple.push(b']');
        BASE64URL.encode(triple)
    }

    /// Returns the digest that commits to the value.
    pub(crate) fn digest(&self) -> [u8; 32] {
        raw_digest(&self.encoded())
    }

    /// Returns the disclosure.
    pub(crate) fn disclosure(&self) -> Result<Disclosure, DisclosureError> {
        Disclosure::parse(&self.encoded())
    }
}

fn salt_of(seed: &[u8; 32], place: Place) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(seed);
    for name in place.path() {
        hasher.update(b"/").update(name.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Takes the disclosed members out of a body, puts their digests in and lists them under [`MEMBERS`].
pub(crate) fn hide(body: &mut Map<String, Value>, seed: &[u8; 32]) -> Result<Hidden, DisclosureError> {
    let mut hidden = Hidden { salts: Salts::Seed(*seed), members: Vec::new(), values: Vec::new() };
    for (index, path) in (0u8..).zip(DISCLOSED) {
        let Some((name, parents)) = path.split_last() else { continue };
        let Some(value) = descend(body, parents).and_then(|object| object.remove(*name)) else { continue };
        let start = hidden.values.len();
        canon::append_entry_bytes(&value, &mut hidden.values)
            .map_err(|error| error.under(&Place(index).pointer()))?;
        let bytes = hidden.values.len() - start;
        if bytes > VALUE_BYTES_MAX {
            return Err(DisclosureError::TooLarge { name: (*name).to_owned(), bytes });
        }
        hidden.members.push((Place(index), hidden.values.len()));
    }
    // What stays must not look like what is put in now: a reader could not tell them apart.
    refuse_reserved(body, true).map_err(|mut path| {
        path.reverse();
        let pointer =
            path.iter().fold(String::new(), |pointer, name| pointer + "/" + &canon::escape_pointer(name));
        DisclosureError::Reserved { pointer }
    })?;
    for member in hidden.members() {
        let Some((_, parents)) = member.place.path().split_last() else { continue };
        let Some(object) = descend(body, parents) else { continue };
        let digests = object.entry(DIGESTS).or_insert_with(|| Value::from(Vec::<Value>::new()));
        if let Value::Array(digests) = digests {
            digests.push(Value::from(BASE64URL.encode(member.digest())));
            // RFC 9901 section 4.2.4.1: the order must not tell which digest is which.
            digests.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    if !hidden.members.is_empty() {
        let pointers: Vec<Value> =
            hidden.members.iter().map(|(place, _)| Value::from(place.pointer())).collect();
        body.insert(MEMBERS.to_owned(), Value::from(pointers));
    }
    Ok(hidden)
}

/// Tells whether a member holds digests of disclosed values or lists their places, by the names that lead to it.
pub(crate) fn is_commitment(path: &[&str]) -> bool {
    path.last() == Some(&DIGESTS) || path == [MEMBERS]
}

/// Refuses the names of digests and of the list of members wherever [`merge`] would take them for its own; the error
/// is the path, innermost name first.
fn refuse_reserved(object: &Map<String, Value>, top: bool) -> Result<(), Vec<String>> {
    for (name, member) in object {
        if name == DIGESTS || (top && name == MEMBERS) {
            return Err(vec![name.clone()]);
        }
        if let Value::Object(member) = member {
            refuse_reserved(member, false).map_err(|mut path| {
                path.push(name.clone());
                path
            })?;
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
    let Some(Value::Array(digests)) = object.remove(DIGESTS) else { return Ok(()) };
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
            Value::Array(items) if name == DIGESTS => {
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
