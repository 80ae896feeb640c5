//! Where in the original bytes an event's fields stand, and where each value of the original went.
//!
//! Mappers do not keep this: the record that `source.path` names is read again, and values are compared under the
//! conversions that the mappers make (texts, numbers, times, money, JSON inside of texts). So the answer needs nothing
//! but the raw body and the event, and holds for events of any mapper version.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::format::{Format, Signal};
use super::{Limits, body, fields, json, otlp, records, time};
use crate::canon::escape_pointer;
use crate::event::Event;

/// One value of the original.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// Pointer into the body, as OTLP/JSON names its parts; of JSON from the record, of JSON inside of a text with `#` and
    /// the pointer inside.
    pub pointer: String,
    /// First byte in the body after decompression.
    pub start: usize,
    /// First byte after it.
    pub end: usize,
    /// The value.
    pub value: Value,
}

/// A field of an event and where it was read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    /// JSON pointer into the event.
    pub field: String,
    /// Pointer into the body.
    pub pointer: String,
    /// First byte in the body after decompression.
    pub start: usize,
    /// First byte after it.
    pub end: usize,
}

/// Where the parts of an event and the parts of its record meet.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// Fields whose value stands in the record, in the order of the event.
    pub found: Vec<Origin>,
    /// Fields that follow from the record and do not stand in it: kinds, rulings read from words, ids that were made.
    pub derived: Vec<String>,
    /// Values of the record that no field carries as they are: the words that [`Located::derived`] was read from.
    pub converted: Vec<Leaf>,
}

/// Why nothing can be located.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// The event names no place.
    #[error("the event names no place in a body (`source.path`)")]
    NoPath,
    /// The body has no such place.
    #[error("the body has no record at `{path}`: is it the one that the event names?")]
    NoRecord {
        /// The place.
        path: String,
    },
}

/// Tells where in the body, after decompression or before, the fields of an event stand.
pub fn locate(event: &Event, raw: &[u8], limits: &Limits) -> Result<Located, LocateError> {
    let path = event.source.path.clone().ok_or(LocateError::NoPath)?;
    let no_record = || LocateError::NoRecord { path: path.clone() };
    let raw = body::decompress(raw.to_vec(), limits).map_err(|_| no_record())?;
    let found = leaves(&raw, &path, limits).ok_or_else(no_record)?;
    if found.record.is_none() {
        return Err(no_record());
    }
    Ok(meet(event, found.leaves))
}

/// Returns where in the body, after decompression, the record of an event stands.
pub fn record(event: &Event, body: &[u8], limits: &Limits) -> Result<std::ops::Range<usize>, LocateError> {
    let path = event.source.path.as_deref().ok_or(LocateError::NoPath)?;
    leaves(body, path, limits)
        .and_then(|found| found.record)
        .ok_or_else(|| LocateError::NoRecord { path: path.to_owned() })
}

/// What stands at a place.
pub(super) struct AtPlace {
    pub(super) leaves: Vec<Leaf>,
    /// The whole record.
    pub(super) record: Option<std::ops::Range<usize>>,
}

/// Lists the values of the record at a place.
fn leaves(raw: &[u8], path: &str, limits: &Limits) -> Option<AtPlace> {
    let parts: Vec<&str> = path.split('/').collect();
    let otlp = parts.iter().position(|part| matches!(*part, "resourceSpans" | "resourceLogs"));
    let Some(otlp) = otlp else {
        let piece = records::pieces(raw).into_iter().find(|piece| piece.path == path)?;
        let mut found = Vec::new();
        let (keep, record) = (|_: &str| true, "");
        let mut scan =
            Scan { text: piece.bytes, base: piece.offset, keep, record, range: None, found: &mut found };
        scan.document(limits)?;
        let record = scan.range;
        return Some(AtPlace { leaves: found, record });
    };
    let record = parts.get(otlp..)?.join("/");
    let signal = if record.starts_with("resourceSpans") { Signal::Traces } else { Signal::Logs };
    let is_json = matches!(Format::detect(None, None, raw), Some(Format::OtlpJson));
    if !is_json {
        return otlp::parts::leaves(signal, raw, &record);
    }
    let (bytes, base) = if otlp == 0 {
        (raw, 0)
    } else {
        let line = parts.get(..otlp)?.join("/");
        let line = super::lines::lines(raw).find(|found| found.path() == line)?;
        (line.bytes, line.offset)
    };
    let mut found = Vec::new();
    let keep = |pointer: &str| shared_by(pointer.trim_start_matches('/'), &record);
    let pointer = format!("/{record}");
    let mut scan = Scan { text: bytes, base, keep, record: &pointer, range: None, found: &mut found };
    scan.document(limits)?;
    let range = scan.range;
    for leaf in &mut found {
        leaf.pointer = leaf.pointer.trim_start_matches('/').to_owned();
    }
    Some(AtPlace { leaves: found, record: range })
}

/// Tells whether a place is the record, in it, above it, or the resource or scope that the record shares.
pub(super) fn shared_by(place: &str, record: &str) -> bool {
    let above =
        |a: &str, b: &str| b.strip_prefix(a).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if above(place, record) || above(record, place) {
        return true;
    }
    // A sibling that is no other record: what its parent holds besides its records.
    let parts: Vec<&str> = record.split('/').collect();
    [2, 4].into_iter().any(|depth| {
        let parent = parts.get(..depth).unwrap_or_default().join("/");
        let rest = place.strip_prefix(&parent).and_then(|rest| rest.strip_prefix('/'));
        let member = rest.and_then(|rest| rest.split('/').next());
        matches!(member, Some("resource" | "scope" | "schemaUrl"))
    })
}

/// A walk over JSON text that keeps byte ranges.
struct Scan<'t, 'f, K> {
    text: &'t [u8],
    base: usize,
    keep: K,
    /// Pointer of the record, and where it was found.
    record: &'f str,
    range: Option<std::ops::Range<usize>>,
    found: &'f mut Vec<Leaf>,
}

impl<K: Fn(&str) -> bool> Scan<'_, '_, K> {
    fn document(&mut self, limits: &Limits) -> Option<()> {
        let skipped = if self.text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        self.value(skipped, &mut String::new(), limits.json_depth_max).map(drop)
    }

    fn blank(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        at.saturating_add(rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count())
    }

    fn string(&self, at: usize) -> Option<(String, usize)> {
        let end = at.checked_add(records::value_end(self.text.get(at..)?)?)?;
        Some((serde_json::from_slice(self.text.get(at..end)?).ok()?, end))
    }

    fn value(&mut self, at: usize, pointer: &mut String, depth: usize) -> Option<usize> {
        let at = self.blank(at);
        let depth = depth.checked_sub(1)?;
        if let open @ (b'{' | b'[') = self.text.get(at)? {
            let is_record = pointer == self.record;
            let end = self.members(*open == b'{', at, pointer, depth)?;
            if is_record {
                self.range = Some(self.base.saturating_add(at)..self.base.saturating_add(end));
            }
            return Some(end);
        }
        let rest = self.text.get(at..)?;
        let stop = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
        let length = if rest.first() == Some(&b'"') {
            records::value_end(rest)?
        } else {
            rest.iter().position(stop).unwrap_or(rest.len())
        };
        let end = at.checked_add(length)?;
        if (self.keep)(pointer) {
            let text = self.text.get(at..end)?;
            let value = match serde_json::from_slice(text).ok()? {
                // As it is written: a reader's double may not be it.
                Value::Number(_) => number(std::str::from_utf8(text).ok()?),
                value => value,
            };
            let (start, end) = (self.base.saturating_add(at), self.base.saturating_add(end));
            self.found.push(Leaf { pointer: pointer.clone(), start, end, value });
        }
        Some(end)
    }

    /// Walks an object or an array from its bracket.
    fn members(&mut self, is_object: bool, at: usize, pointer: &mut String, depth: usize) -> Option<usize> {
        let len = pointer.len();
        let start = at;
        let mut at = self.blank(at.checked_add(1)?);
        let mut index = 0_usize;
        if matches!(self.text.get(at)?, b'}' | b']') && (self.keep)(pointer) {
            // Holds nothing, and is carried as that.
            let value = if is_object { Value::Object(Map::new()) } else { Value::Array(Vec::new()) };
            let (start, end) =
                (self.base.saturating_add(start), self.base.saturating_add(at.checked_add(1)?));
            self.found.push(Leaf { pointer: pointer.clone(), start, end, value });
        }
        while !matches!(self.text.get(at)?, b'}' | b']') {
            pointer.push('/');
            if is_object {
                let (name, end) = self.string(at)?;
                pointer.push_str(&escape_pointer(&name));
                at = self.blank(end);
                at = if self.text.get(at) == Some(&b':') { at.checked_add(1)? } else { return None };
            } else {
                pointer.push_str(&index.to_string());
                index = index.saturating_add(1);
            }
            let end = self.value(at, pointer, depth)?;
            at = self.blank(end);
            pointer.truncate(len);
            if self.text.get(at) == Some(&b',') {
                at = self.blank(at.checked_add(1)?);
            }
        }
        at.checked_add(1)
    }
}

fn number(text: &str) -> Value {
    let rules = json::Rules { depth_max: 1, nodes_max: 1, numbers: json::Numbers::Restated };
    json::read_restated(text.as_bytes(), rules)
        .map_or_else(|_| Value::String(text.to_owned()), |(value, _)| value)
}

/// Finds what equals what.
fn meet(event: &Event, leaves: Vec<Leaf>) -> Located {
    let mut members = serde_json::to_value(event).unwrap_or_default();
    if let Some(members) = members.as_object_mut() {
        members.remove("source");
        members.remove("id");
    }
    let mut parts = Vec::new();
    flatten(&members, &mut String::new(), &mut parts);
    // Every form in which a leaf may have been carried, and the name that it had.
    let leaves: Vec<Leaf> = leaves.into_iter().flat_map(with_embedded).collect();
    let names = attribute_names(&leaves);
    let mut forms: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, leaf) in leaves.iter().enumerate() {
        for form in leaf_forms(leaf) {
            forms.entry(form).or_default().push(index);
        }
    }
    let mut carried = vec![false; leaves.len()];
    let (mut found, mut derived) = (Vec::new(), Vec::new());
    for (field, value) in parts {
        let candidates = forms.get(&plain(&value)).map(Vec::as_slice).unwrap_or_default();
        for index in candidates {
            if let Some(carried) = carried.get_mut(*index) {
                *carried = true;
            }
        }
        let token = field.rsplit('/').next().unwrap_or_default().to_owned();
        let best = candidates.iter().filter_map(|index| Some((*index, leaves.get(*index)?))).max_by_key(
            |(index, leaf)| {
                let name = names.get(index).map_or_else(|| last(&leaf.pointer), String::as_str);
                // The same name; else an attribute rather than what stands for it elsewhere; else the first.
                (
                    name == token,
                    field.contains(&escape_pointer(name)),
                    name.ends_with(&token),
                    std::cmp::Reverse(*index),
                )
            },
        );
        match best {
            Some((_, leaf)) => {
                found.push(Origin { field, pointer: leaf.pointer.clone(), start: leaf.start, end: leaf.end });
            }
            None => derived.push(field),
        }
    }
    let converted = not_carried(&leaves, &carried);
    Located { found, derived, converted }
}

/// The values that no field carries. JSON inside of a text is carried when the text is, and the text when all of it is.
fn not_carried(leaves: &[Leaf], carried: &[bool]) -> Vec<Leaf> {
    let mut whole: BTreeMap<&str, bool> = BTreeMap::new();
    let mut inside: BTreeMap<&str, bool> = BTreeMap::new();
    for (leaf, carried) in leaves.iter().zip(carried) {
        match leaf.pointer.split_once('#') {
            None => drop(whole.insert(&leaf.pointer, *carried)),
            Some((outer, _)) => *inside.entry(outer).or_insert(true) &= *carried || leaf.value.is_null(),
        }
    }
    let is_carried = |leaf: &Leaf| match leaf.pointer.split_once('#') {
        None => inside.get(leaf.pointer.as_str()) == Some(&true),
        Some((outer, _)) => whole.get(outer) == Some(&true),
    };
    // Nothing says nothing, whether or not a field says so too.
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    let is_name = |leaf: &Leaf| leaf.pointer.ends_with("/key") || is_nothing(&leaf.value);
    let left = leaves.iter().zip(carried).filter(|(leaf, carried)| {
        let known = **carried || is_name(leaf) || is_carried(leaf);
        !known
    });
    left.map(|(leaf, _)| leaf.clone()).collect()
}

fn last(pointer: &str) -> &str {
    pointer.rsplit('/').next().unwrap_or_default()
}

/// The names of attributes, by the leaves that hold their values.
fn attribute_names(leaves: &[Leaf]) -> BTreeMap<usize, String> {
    let keys: BTreeMap<&str, &str> = leaves
        .iter()
        .filter_map(|leaf| Some((leaf.pointer.strip_suffix("/key")?, leaf.value.as_str()?)))
        .collect();
    let named = leaves.iter().enumerate().filter_map(|(index, leaf)| {
        let (pair, _) = leaf.pointer.rsplit_once("/value/")?;
        Some((index, (*keys.get(pair)?).to_owned()))
    });
    named.collect()
}

/// Adds the values of JSON that was sent inside a text.
fn with_embedded(leaf: Leaf) -> Vec<Leaf> {
    let inner = leaf.value.as_str().and_then(|text| json::read_embedded(text, 48));
    let mut all = Vec::new();
    if let Some(inner) = inner {
        let mut parts = Vec::new();
        flatten(&inner, &mut String::new(), &mut parts);
        all.extend(parts.into_iter().map(|(pointer, value)| Leaf {
            pointer: format!("{}#{pointer}", leaf.pointer),
            start: leaf.start,
            end: leaf.end,
            value,
        }));
    }
    all.push(leaf);
    all
}

fn flatten(value: &Value, pointer: &mut String, out: &mut Vec<(String, Value)>) {
    let len = pointer.len();
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                pointer.push('/');
                pointer.push_str(&escape_pointer(name));
                flatten(member, pointer, out);
                pointer.truncate(len);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                pointer.push_str(&format!("/{index}"));
                flatten(item, pointer, out);
                pointer.truncate(len);
            }
        }
        other => out.push((pointer.clone(), other.clone())),
    }
}

/// A value as one text.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            number.as_f64().filter(|_| number.is_f64()).map_or_else(|| number.to_string(), double)
        }
        other => other.to_string(),
    }
}

/// One text for a double, whichever way it was written.
fn double(double: f64) -> String {
    if double.fract() == 0.0 && double.abs() < 1e15 { format!("{double:.0}") } else { format!("{double:?}") }
}

/// The forms in which mappers carry a value.
fn leaf_forms(leaf: &Leaf) -> Vec<String> {
    let text = plain(&leaf.value);
    let mut forms = vec![text.clone()];
    let name = last(&leaf.pointer);
    if text.len() <= 128 {
        forms.extend(time::any_nanoseconds(&leaf.value).map(|ns| ns.to_string()));
        // Identifiers are hexadecimal digits in any case, with or without the dashes of a UUID.
        forms.push(text.to_ascii_lowercase().replace('-', ""));
        if let Some(decimal) = fields::decimal(&leaf.value) {
            // Money in units, in millionths, and counts of whole units.
            let nano = decimal.to_nano();
            forms.extend(nano.map(|nano| nano.value.to_string()));
            forms.extend(
                text.parse::<i64>().ok().and_then(|micros| micros.checked_mul(1000)).map(|n| n.to_string()),
            );
            forms.extend(text.parse::<f64>().ok().map(double));
        }
        // What stands inside of a text: the parts of a `traceparent`, the kind and name of a subject.
        forms.extend(text.split(['-', '/', ' ']).filter(|part| part.len() > 1).map(str::to_owned));
    }
    let word = match (name, text.as_str()) {
        ("kind", "1") => Some("internal"),
        ("kind", "2") => Some("server"),
        ("kind", "3") => Some("client"),
        ("kind", "4") => Some("producer"),
        ("kind", "5") => Some("consumer"),
        ("code", "0") => Some("unset"),
        ("code", "1") => Some("ok"),
        ("code", "2") => Some("error"),
        _ => None,
    };
    forms.extend(word.map(str::to_owned));
    forms.sort();
    forms.dedup();
    forms
}
