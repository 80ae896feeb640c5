//! Spans straight from protobuf bytes to events.
//!
//! A general decoder makes a struct of every message, which mapping then takes apart again; that cost more than all the
//! rest of mapping. What clients send nearly always is read here in one pass instead. Everything else (damage, text that
//! is not UTF-8, a message that comes in two parts, a number out of range) is not judged here: [`spans`] then returns
//! `None`, and the general path reads the body again and says what is wrong with it. A test holds the two to the same
//! events.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use prost::Message;
use serde_json::Value;

use super::record::{self, Origin, Scope, SpanRecord};
use super::scan::{Content, Part, Reader};
use super::{finish, place, value};
use crate::ingest::fields::{Fields, Held};
use crate::ingest::profile::Point;
use crate::ingest::{IngestError, Sink};

/// Maps a request; `None` when it has to be read in the general way, and what `sink` then holds is void.
pub(super) fn spans(body: &[u8], sink: &mut Sink<'_>) -> Option<Result<(), IngestError>> {
    let mut direct = Direct { left: sink.limits.nodes_max, sink };
    let mut reader = Reader::new(body);
    let mut index = 0;
    while let Some(field) = reader.field()? {
        match field {
            (1, Content::Bytes(bytes)) => {
                if let Err(error) = direct.resource(bytes, index)? {
                    return Some(Err(error));
                }
                index = index.checked_add(1)?;
            }
            (1, _) => return None,
            _ => {}
        }
    }
    Some(Ok(()))
}

struct Direct<'s, 'l> {
    sink: &'s mut Sink<'l>,
    /// Messages that may still come.
    left: usize,
}

impl Direct<'_, '_> {
    /// Takes a message into account before memory is spent on it.
    fn enter(&mut self) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        Some(())
    }

    /// Decodes a message that is not worth a reader of its own.
    fn decode<M: Message + Default>(&mut self, part: Part, bytes: &[u8]) -> Option<M> {
        self.enter()?;
        self.left = part.count(bytes, self.left)?;
        M::decode(bytes).ok()
    }

    fn resource(&mut self, bytes: &[u8], r: usize) -> Option<Result<(), IngestError>> {
        self.enter()?;
        let (resource, schema_url) = head(bytes)?;
        let resource: Resource = self.decode(Part::Resource, resource)?;
        let origin = Origin::new(resource, schema_url);
        let mut reader = Reader::new(bytes);
        let mut index = 0_usize;
        while let Some(field) = reader.field()? {
            if let (2, Content::Bytes(bytes)) = field {
                if let Err(error) = self.scope(bytes, &origin, (r, index))? {
                    return Some(Err(error));
                }
                index = index.checked_add(1)?;
            }
        }
        Some(Ok(()))
    }

    fn scope(
        &mut self,
        bytes: &[u8],
        origin: &Origin,
        (r, s): (usize, usize),
    ) -> Option<Result<(), IngestError>> {
        self.enter()?;
        let (scope, schema_url) = head(bytes)?;
        let scope: InstrumentationScope = self.decode(Part::Scope, scope)?;
        let scope = Scope::new(scope, schema_url);
        let group = format!("resourceSpans/{r}/scopeSpans/{s}/spans/");
        let mut reader = Reader::new(bytes);
        let mut index = 0_usize;
        while let Some(field) = reader.field()? {
            if let (2, Content::Bytes(bytes)) = field {
                let span = self.span(bytes)?;
                let draft = record::span(span, origin, &scope);
                if let Err(error) = finish(draft, place(&group, index), self.sink) {
                    return Some(Err(error));
                }
                index = index.checked_add(1)?;
            }
        }
        Some(Ok(()))
    }

    fn span<'b>(&mut self, bytes: &'b [u8]) -> Option<SpanRecord<'b>> {
        self.enter()?;
        let mut span = SpanRecord::default();
        let mut attributes = Vec::with_capacity(16);
        let (mut status, mut counted) = (None, 0_u16);
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field()? {
            match field {
                (1, Content::Bytes(id)) => span.trace_id = id,
                (2, Content::Bytes(id)) => span.span_id = id,
                (3, Content::Bytes(bytes)) => span.trace_state = text(bytes)?,
                (4, Content::Bytes(id)) => span.parent_span_id = id,
                (5, Content::Bytes(bytes)) => span.name = text(bytes)?,
                (6, Content::Varint(kind)) => span.kind = enumeration(kind)?,
                (7, Content::Fixed64(ns)) => span.start_ns = ns,
                (8, Content::Fixed64(ns)) => span.end_ns = ns,
                (9, Content::Bytes(bytes)) => attributes.push(self.pair(bytes)?),
                (10 | 12 | 14, Content::Varint(dropped)) => {
                    // A count that is stated twice is the last one, which adding up would not give.
                    let bit = 1_u16 << field.0;
                    if counted & bit != 0 {
                        return None;
                    }
                    counted |= bit;
                    span.lost = span.lost.saturating_add(u32::try_from(dropped).ok()?);
                }
                (11, Content::Bytes(bytes)) => span.points.push(self.point(bytes, &mut span.lost)?),
                (13, Content::Bytes(bytes)) => {
                    let link: Link = self.decode(Part::Link, bytes)?;
                    span.lost = span.lost.saturating_add(link.dropped_attributes_count);
                    span.links.push(link);
                }
                (15, Content::Bytes(bytes)) if status.is_none() => {
                    self.enter()?;
                    status = Some(self::status(bytes)?);
                }
                (16, Content::Fixed32(flags)) => span.flags = flags,
                (1..=16, _) => return None,
                _ => {}
            }
        }
        (span.message, span.code) = status.unwrap_or_default();
        span.fields = Fields::from_pairs(attributes);
        Some(span)
    }

    fn point(&mut self, bytes: &[u8], lost: &mut u32) -> Option<Point> {
        self.enter()?;
        let mut point = Point { name: String::new(), time_ns: 0, fields: Fields::default() };
        let mut attributes = Vec::new();
        let mut counted = false;
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field()? {
            match field {
                (1, Content::Fixed64(ns)) => point.time_ns = ns,
                (2, Content::Bytes(bytes)) => point.name = text(bytes)?,
                (3, Content::Bytes(bytes)) => attributes.push(self.pair(bytes)?),
                (4, Content::Varint(dropped)) if !counted => {
                    counted = true;
                    *lost = lost.saturating_add(u32::try_from(dropped).ok()?);
                }
                (1..=4, _) => return None,
                _ => {}
            }
        }
        point.fields = Fields::from_pairs(attributes);
        Some(point)
    }

    fn pair(&mut self, bytes: &[u8]) -> Option<(String, Held)> {
        self.enter()?;
        let (mut key, mut inner) = (String::new(), None);
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field()? {
            match field {
                (1, Content::Bytes(bytes)) => key = text(bytes)?,
                (2, Content::Bytes(bytes)) if inner.is_none() => inner = Some(bytes),
                _ => return None,
            }
        }
        let held = match inner {
            Some(bytes) => self.value(bytes)?,
            None => Held::default(),
        };
        Some((key, held))
    }

    fn value(&mut self, bytes: &[u8]) -> Option<Held> {
        self.enter()?;
        let mut reader = Reader::new(bytes);
        let Some(field) = reader.field()? else { return Some(Held::default()) };
        // A value is one field; the last of several would count.
        if reader.field()?.is_some() {
            return None;
        }
        let any = match field {
            (1, Content::Bytes(bytes)) => return Some(Held::from(Value::String(text(bytes)?))),
            (2, Content::Varint(flag)) => Any::BoolValue(flag != 0),
            (3, Content::Varint(integer)) => Any::IntValue(integer.cast_signed()),
            (4, Content::Fixed64(bits)) => Any::DoubleValue(f64::from_bits(bits)),
            (5..=7, Content::Bytes(_)) => self.decode::<AnyValue>(Part::Value, bytes)?.value?,
            _ => return None,
        };
        Some(value::held(Some(AnyValue { value: Some(any) })))
    }
}

/// Finds what a list of records is headed by: its resource or scope, which may come after the records, and its schema.
fn head(bytes: &[u8]) -> Option<(&[u8], String)> {
    let (mut shared, mut schema_url) = (None, String::new());
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Content::Bytes(bytes)) if shared.is_none() => shared = Some(bytes),
            (2, Content::Bytes(_)) => {}
            (3, Content::Bytes(bytes)) => schema_url = text(bytes)?,
            (1..=3, _) => return None,
            _ => {}
        }
    }
    Some((shared.unwrap_or_default(), schema_url))
}

fn status(bytes: &[u8]) -> Option<(String, i32)> {
    let (mut message, mut code) = (String::new(), 0);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (2, Content::Bytes(bytes)) => message = text(bytes)?,
            (3, Content::Varint(number)) => code = enumeration(number)?,
            (2 | 3, _) => return None,
            _ => {}
        }
    }
    Some((message, code))
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

fn enumeration(number: u64) -> Option<i32> {
    i32::try_from(number.cast_signed()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::format::Signal;
    use crate::ingest::{Limits, otlp};
    use proptest::prelude::*;
    use std::path::{Path, PathBuf};

    fn bodies() -> Vec<Vec<u8>> {
        fn find(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    find(&path, found);
                } else if path.extension().is_some_and(|ending| ending == "pb") {
                    found.push(path);
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
        let mut paths = Vec::new();
        for folder in ["clients", "otlp"] {
            find(&root.join(folder), &mut paths);
        }
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    type Found = (Vec<crate::event::Event>, Vec<String>, Vec<String>);

    fn found(sink: Sink<'_>) -> Found {
        let warnings = sink.warnings.iter().map(ToString::to_string).collect();
        (sink.events, warnings, sink.rejected.iter().map(ToString::to_string).collect())
    }

    /// What the general path makes of a body.
    fn general(body: &[u8], limits: &Limits) -> Result<Found, String> {
        let mut sink = Sink::new(limits);
        otlp::general(Signal::Traces, body, &mut sink).map_err(|error| error.to_string())?;
        Ok(found(sink))
    }

    /// What the direct one makes of it; `None` when it leaves it to the other.
    fn direct(body: &[u8], limits: &Limits) -> Option<Result<Found, String>> {
        let mut sink = Sink::new(limits);
        Some(match spans(body, &mut sink)? {
            Ok(()) => Ok(found(sink)),
            Err(error) => Err(error.to_string()),
        })
    }

    #[test]
    fn recordings_map_to_the_same_events_either_way_and_none_takes_the_long_one() {
        let limits = Limits::default();
        let mut count = 0;
        for body in bodies() {
            if otlp::guess_signal(&body) != Some(Signal::Traces) {
                continue;
            }
            let direct = direct(&body, &limits).unwrap();
            assert_eq!(direct, general(&body, &limits));
            count += direct.unwrap().0.len();
        }
        assert!(count > 300, "{count}");
    }

    fn small() -> Vec<Vec<u8>> {
        let mut bodies = bodies();
        bodies.retain(|body| body.len() < 6_000);
        assert!(bodies.len() > 10);
        bodies
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn damaged_bodies_are_never_read_in_two_ways(
            at in any::<prop::sample::Index>(), body in prop::sample::select(small()),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<bool>(),
            nodes_max in prop_oneof![Just(4_000_000_usize), 1_usize..200],
        ) {
            let mut body = body;
            for (index, byte) in changes {
                let index = index.index(body.len());
                body[index] = byte;
            }
            if cut {
                body.truncate(at.index(body.len()));
            }
            let limits = Limits { nodes_max, ..Limits::default() };
            if let Some(direct) = direct(&body, &limits) {
                prop_assert_eq!(direct, general(&body, &limits));
            }
        }
    }
}
