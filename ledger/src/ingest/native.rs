//! The native format: one event a line, one event, or an array of events; strict.

use serde_json::{Map, Value};

use super::json::{self, Numbers};
use super::{IngestError, Reason, Sink, records};
use crate::canon;
use crate::event::{Event, Target};

/// `source.format` of these events.
const FORMAT: &str = "native";
/// Raised when the same line would map to another event.
const MAPPER: u32 = 1;
const ID_BYTES_MAX: usize = 256;

pub(super) fn map(body: &[u8], sink: &mut Sink<'_>) -> Result<(), IngestError> {
    records::each(body, sink, |piece, sink| {
        let members = match records::value(piece, sink, Numbers::Exact)?.0 {
            Value::Object(members) => members,
            other => return Err(Reason::NotObject { found: json::type_name(&other) }),
        };
        let mut event = event(members, sink)?;
        event.source.path = Some(piece.path.clone());
        if event.end_ns.zip(event.start_ns).is_some_and(|(end, start)| end < start) {
            sink.warn(&piece.place(), "`end_ns` lies before `start_ns`");
        }
        sink.take(event)
    })
}

/// Reads one native event.
pub(super) fn event(mut members: Map<String, Value>, sink: &mut Sink<'_>) -> Result<Event, Reason> {
    if let Some(source) = members.get("source") {
        let only_lost = source.as_object().is_some_and(|source| source.keys().all(|name| name == "lost"));
        if !only_lost {
            return Err(Reason::field(
                "source",
                "is written by the receiver; leave it out (only `lost` may be stated)",
            ));
        }
    }
    match members.get("id") {
        None => {
            let content = canon::digest_bytes(&Value::Object(members.clone()));
            let id = sink.ids.id("", &content);
            members.insert("id".to_owned(), Value::String(id));
        }
        Some(Value::String(id)) if !id.is_empty() && id.len() <= ID_BYTES_MAX => {}
        Some(_) => {
            return Err(Reason::field(
                "id",
                format!("must be a string of 1 to {ID_BYTES_MAX} bytes; leave it out to have one made"),
            ));
        }
    }
    let mut event: Event = serde_json::from_value(Value::Object(members))
        .map_err(|error| Reason::Shape { message: with_suggestion(&error.to_string()) })?;
    if event.action.name.is_empty() {
        return Err(Reason::field("action.name", "must not be empty"));
    }
    if event.links.iter().any(|link| link.to == Target::default()) {
        return Err(Reason::field(
            "links",
            "holds a link to nothing; name `event`, `trace_id`, `span_id`, `call_id` or `approval_id` in `to`",
        ));
    }
    FORMAT.clone_into(&mut event.source.format);
    event.source.mapper = MAPPER;
    Ok(event)
}

/// Adds the nearest known name to serde's list of them.
fn with_suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown ").then(|| quoted.next()).flatten();
    let nearest = unknown.and_then(|unknown| {
        quoted
            .map(|known| (distance(unknown, known), known))
            .filter(|&(distance, known)| distance <= 1 + known.len() / 4)
            .min()
    });
    match nearest {
        Some((_, known)) => format!("{message}; did you mean `{known}`?"),
        None => message.to_owned(),
    }
}

/// Levenshtein distance, by bytes, on names that a person typed.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            left = (diagonal + usize::from(from != to)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use crate::ingest::{Format, Limits, Mapped, map};

    fn mapped(body: &str) -> Mapped {
        map(Format::Native, body.as_bytes(), &Limits::default()).unwrap()
    }

    fn refusal(line: &str) -> String {
        let mapped = mapped(line);
        assert!(mapped.events.is_empty(), "{:?}", mapped.events);
        mapped.rejected.first().unwrap().to_string()
    }

    #[test]
    fn one_bad_line_does_not_take_the_others_with_it() {
        let mapped = mapped(
            "{\"id\":\"a\",\"action\":{\"kind\":\"tool\",\"name\":\"t\"}}\nnot json\n\n\
             {\"id\":\"b\",\"action\":{\"kind\":\"tool\",\"name\":\"t\"}}\n{\"id\":\"c\",\"action\":{\"kind",
        );
        assert_eq!(mapped.events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(mapped.events.last().unwrap().source.path.as_deref(), Some("line/4"));
        let rejected: Vec<_> = mapped.rejected.iter().map(ToString::to_string).collect();
        assert_eq!(
            rejected,
            [
                "line 2 (byte 47): not JSON at byte 48: expected ident",
                "line 5 (byte 104): the last line is truncated; its writer was cut off, send it again whole",
            ]
        );
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        assert!(
            refusal(r#"{"strat_ns":"1","action":{"kind":"tool","name":"t"}}"#)
                .ends_with("did you mean `start_ns`?")
        );
        assert!(refusal(r#"{"action":{"kind":"tol","name":"t"}}"#).ends_with("did you mean `tool`?"));
        assert!(refusal(r#"{"action":{"kind":"tool","name":""}}"#).contains("must not be empty"));
        assert!(refusal("[1]").contains("expected one JSON object, found a number"));
        assert!(
            refusal(r#"{"id":"","action":{"kind":"tool","name":"t"}}"#)
                .contains("leave it out to have one made")
        );
        assert!(
            refusal(r#"{"source":{"peer":"ceo"},"action":{"kind":"tool","name":"t"}}"#)
                .contains("written by the receiver")
        );
        assert!(
            refusal(r#"{"action":{"kind":"tool","name":"t"},"usage":{"input_tokens":12.5}}"#)
                .contains("floating point")
        );
        assert!(
            refusal(r#"{"trace_id":"zz","action":{"kind":"tool","name":"t"}}"#)
                .contains("trace_id must be 32 hexadecimal digits")
        );
        assert!(
            refusal(r#"{"action":{"kind":"tool","name":"t"},"links":[{"to":{},"rel":"follows"}]}"#)
                .contains("a link to nothing")
        );
    }

    #[test]
    fn an_id_is_made_from_the_content_and_not_from_its_spelling() {
        let one = mapped(r#"{"action":{"kind":"tool","name":"t"},"session":"s"}"#);
        let other = mapped("{ \"session\" : \"s\", \"action\": {\"name\":\"\\u0074\",\"kind\":\"tool\"} }\n");
        assert_eq!(one.events.first().unwrap().id, other.events.first().unwrap().id);
        let twice = mapped(&"{\"action\":{\"kind\":\"tool\",\"name\":\"t\"},\"session\":\"s\"}\n".repeat(2));
        let ids: Vec<_> = twice.events.iter().map(|event| event.id.clone()).collect();
        assert_eq!(ids, [one.events.first().unwrap().id.clone(), format!("{}#2", ids.first().unwrap())]);
    }
}
