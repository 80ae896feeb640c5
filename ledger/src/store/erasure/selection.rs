//! What an erasure or a legal hold is about.
//!
//! A [`Selection`] is what somebody asks for; a [`Scope`] is the same in the form that goes into the log: positions
//! instead of ids, and the keyed digest of a user instead of the user, so that recording an erasure brings nothing
//! personal back.

use std::ops::Range;

use serde_json::{Map, Value};

use super::{ErasureError, Parsed};
use crate::disclosure;
use crate::store::seal::Subject;
use crate::store::terms::Tag;
use crate::store::{Index, Ledger};

/// An event that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventRef {
    /// By its position.
    Seq(u64),
    /// By its id; every statement under it.
    Id(String),
}

/// Entries, by everything that is given at once: each criterion narrows what the others select.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// These events.
    pub events: Vec<EventRef>,
    /// Events of this user, within [`Selection::tenant`].
    pub user: Option<String>,
    /// Events of this session.
    pub session: Option<String>,
    /// Events of this tenant; with a user, the tenant that the user belongs to.
    pub tenant: Option<String>,
    /// Events with these texts in an index.
    pub terms: Vec<(Index, String)>,
    /// Events received at this time or later, Unix nanoseconds.
    pub since_ns: Option<u64>,
    /// Events received before this time, Unix nanoseconds.
    pub until_ns: Option<u64>,
    /// Only these members, as JSON pointers; none: every value, and the raw bodies.
    pub fields: Vec<String>,
}

/// A selection as the log states it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    events: Option<Vec<u64>>,
    subject: Option<Subject>,
    session: Option<String>,
    tenant: Option<String>,
    terms: Vec<(Index, String)>,
    since_ns: Option<u64>,
    until_ns: Option<u64>,
    fields: Vec<String>,
}

const INDEXES: [(Index, &str); 7] = [
    (Index::Kind, "type"),
    (Index::Agent, "agent"),
    (Index::Tool, "tool"),
    (Index::Effect, "effect"),
    (Index::Rule, "rule"),
    (Index::Session, "session"),
    (Index::Word, "word"),
];

impl Selection {
    /// Selects one event.
    pub fn event(seq: u64) -> Self {
        Self { events: vec![EventRef::Seq(seq)], ..Self::default() }
    }

    /// Selects the events of a user.
    pub fn user(tenant: Option<&str>, user: &str) -> Self {
        Self { user: Some(user.to_owned()), tenant: tenant.map(str::to_owned), ..Self::default() }
    }

    /// Brings it into the form that the log states.
    pub(super) fn resolve(&self, ledger: &Ledger) -> Result<Scope, ErasureError> {
        let nothing = self.events.is_empty()
            && self.user.is_none()
            && self.session.is_none()
            && self.tenant.is_none()
            && self.terms.is_empty()
            && self.since_ns.is_none()
            && self.until_ns.is_none();
        if nothing {
            return Err(ErasureError::Nothing);
        }
        if let Some(field) = self.fields.iter().find(|field| !disclosure::pointers().any(|p| p == **field)) {
            return Err(ErasureError::NotDisclosed { field: field.clone() });
        }
        let size = ledger.head().size;
        let mut events = Vec::new();
        for event in &self.events {
            let found = match event {
                EventRef::Seq(seq) if *seq < size => vec![*seq],
                EventRef::Seq(seq) => return Err(ErasureError::NoEvent { event: seq.to_string() }),
                EventRef::Id(id) => ledger.find_id(id)?,
            };
            if found.is_empty() {
                let EventRef::Id(id) = event else { continue };
                return Err(ErasureError::NoEvent { event: id.clone() });
            }
            for seq in &found {
                // A second reading of the same bytes holds the same values.
                if let Some(event) = ledger.record(*seq)?.and_then(|record| record.event) {
                    events.extend(ledger.readings_of(&event)?);
                }
            }
            events.extend(found);
        }
        events.sort_unstable();
        events.dedup();
        let subject = self.user.as_ref().map(|user| {
            let mut body = Map::new();
            body.insert("user".to_owned(), Value::from(user.as_str()));
            if let Some(tenant) = &self.tenant {
                body.insert("tenant".to_owned(), Value::from(tenant.as_str()));
            }
            ledger.inner.sealer.subject(&body)
        });
        Ok(Scope {
            events: (!self.events.is_empty()).then_some(events),
            // The digest of a user says the tenant as well.
            tenant: self.tenant.clone().filter(|_| subject.is_none()),
            subject,
            session: self.session.clone(),
            terms: self.terms.clone(),
            since_ns: self.since_ns,
            until_ns: self.until_ns,
            fields: self.fields.clone(),
        })
    }
}

impl Scope {
    /// Tells whether a member is meant.
    pub(super) fn has_field(&self, pointer: &str) -> bool {
        self.fields.is_empty() || self.fields.iter().any(|field| field == pointer)
    }

    /// Lists the fields that it is limited to.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Finds the entries inside a range, in order.
    pub(super) fn positions(&self, ledger: &Ledger, range: Range<u64>) -> Result<Vec<u64>, ErasureError> {
        let mut range = range.start..range.end.min(ledger.head().size);
        if let Some(since) = self.since_ns {
            range.start = range.start.max(ledger.seq_at(since)?);
        }
        if let Some(until) = self.until_ns {
            range.end = range.end.min(ledger.seq_at(until)?);
        }
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let mut lists = Vec::new();
        if let Some(events) = &self.events {
            lists.push(events.iter().copied().filter(|seq| range.contains(seq)).collect());
        }
        if let Some(subject) = &self.subject {
            lists.push(ledger.postings(&Tag::Subject.key(subject), range.clone(), usize::MAX)?);
        }
        let session = self.session.iter().map(|session| (Index::Session, session));
        for (index, text) in session.chain(self.terms.iter().map(|(index, text)| (*index, text))) {
            lists.push(ledger.find(index, text, range.clone(), usize::MAX)?);
        }
        lists.sort_by_key(Vec::len);
        let mut lists = lists.into_iter();
        let mut found: Vec<u64> = lists.next().unwrap_or_else(|| range.collect());
        for list in lists {
            found.retain(|seq| list.binary_search(seq).is_ok());
        }
        if self.tenant.is_some() {
            let mut kept = Vec::new();
            for seq in found {
                if Parsed::read(ledger, seq)?.tenant() == self.tenant.as_deref() {
                    kept.push(seq);
                }
            }
            return Ok(kept);
        }
        Ok(found)
    }

    /// Writes it as it stands in an entry.
    pub(super) fn to_json(&self) -> Value {
        let mut object = Map::new();
        let text = |text: &String| Value::from(text.as_str());
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(name.to_owned(), value);
            }
        };
        let seqs = |seqs: &Vec<u64>| seqs.iter().map(|seq| Value::from(seq.to_string())).collect::<Vec<_>>();
        put("events", self.events.as_ref().map(|events| seqs(events).into()));
        put("subject", self.subject.map(|subject| hex::encode(subject).into()));
        put("session", self.session.as_ref().map(text));
        put("tenant", self.tenant.as_ref().map(text));
        let terms = self.terms.iter().map(|(index, text)| {
            let name = INDEXES.iter().find(|(known, _)| known == index).map_or("", |(_, name)| name);
            Value::from(vec![Value::from(name), Value::from(text.as_str())])
        });
        let terms: Vec<Value> = terms.collect();
        put("terms", (!terms.is_empty()).then(|| terms.into()));
        put("since_ns", self.since_ns.map(|ns| ns.to_string().into()));
        put("until_ns", self.until_ns.map(|ns| ns.to_string().into()));
        let fields: Vec<Value> = self.fields.iter().map(text).collect();
        put("fields", (!fields.is_empty()).then(|| fields.into()));
        Value::Object(object)
    }

    /// Reads it from an entry. What is not understood is refused: a hold must never be taken for a narrower one.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let mut scope = Self::default();
        for (name, value) in value.as_object()? {
            match name.as_str() {
                "events" => {
                    let seqs = value.as_array()?.iter().map(|seq| seq.as_str()?.parse().ok());
                    scope.events = Some(seqs.collect::<Option<Vec<u64>>>()?);
                }
                "subject" => {
                    let mut subject = [0; 16];
                    hex::decode_to_slice(value.as_str()?, &mut subject).ok()?;
                    scope.subject = Some(subject);
                }
                "session" => scope.session = Some(value.as_str()?.to_owned()),
                "tenant" => scope.tenant = Some(value.as_str()?.to_owned()),
                "terms" => {
                    let terms = value.as_array()?.iter().map(|term| {
                        let index = term.get(0)?.as_str()?;
                        let (index, _) = INDEXES.iter().find(|(_, name)| *name == index)?;
                        Some((*index, term.get(1)?.as_str()?.to_owned()))
                    });
                    scope.terms = terms.collect::<Option<Vec<_>>>()?;
                }
                "since_ns" => scope.since_ns = Some(value.as_str()?.parse().ok()?),
                "until_ns" => scope.until_ns = Some(value.as_str()?.parse().ok()?),
                "fields" => {
                    let fields = value.as_array()?.iter().map(|field| field.as_str().map(str::to_owned));
                    scope.fields = fields.collect::<Option<Vec<_>>>()?;
                }
                _ => return None,
            }
        }
        Some(scope)
    }
}

impl serde::Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_back_from_its_entry_and_what_is_not_understood_is_refused() {
        let scope = Scope {
            events: Some(vec![3, 9]),
            subject: Some([7; 16]),
            session: Some("s".into()),
            tenant: Some("harbor".into()),
            terms: vec![(Index::Tool, "issue_refund".into()), (Index::Kind, "action.reported".into())],
            since_ns: Some(u64::MAX),
            until_ns: Some(1),
            fields: vec!["/user".into()],
        };
        assert_eq!(Scope::from_json(&scope.to_json()), Some(scope));
        assert_eq!(Scope::from_json(&serde_json::json!({"planet": "x"})), None);
        assert_eq!(Scope::from_json(&serde_json::json!({"terms": [["planet", "x"]]})), None);
        assert_eq!(Scope::from_json(&serde_json::json!("all")), None);
    }
}
