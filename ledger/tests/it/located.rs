//! Every field of every recorded client can be pointed at in the bytes that it came in.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::Value;
use verdict_ledger::event::{Event, Source};
use verdict_ledger::ingest::{self, Format, Limits, LocateError, Mapped, Signal};

use super::clients::{bodies, clients};

fn each(mut visit: impl FnMut(&str, &Mapped, &Event)) {
    for folder in clients() {
        let client = folder.file_name().unwrap().to_str().unwrap().to_owned();
        for (name, mapped) in bodies(&folder) {
            for event in &mapped.events {
                visit(&format!("{client}/{name}"), &mapped, event);
            }
        }
    }
}

/// Fields that stand nowhere in these words, because they follow from what was said: kinds and rulings read from words,
/// ids made of several. A new line here is either such a field or one whose origin is lost.
#[test]
fn what_is_no_word_of_ours_stands_in_the_body() {
    let mut found = 0;
    let mut derived: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    each(|place, mapped, event| {
        let located = ingest::locate(event, &mapped.body, &Limits::default()).unwrap();
        found += located.found.len();
        let client = derived.entry(place.split('/').next().unwrap().to_owned()).or_default();
        for field in located.derived {
            let parts: Vec<&str> = field.split('/').filter(|part| part.parse::<u64>().is_err()).collect();
            client.insert(parts.join("/"));
        }
    });
    assert!(found > 10_000, "{found}");
    insta::assert_json_snapshot!("derived", derived);
}

#[test]
fn a_text_is_where_it_is_said_to_be() {
    let mut texts = 0;
    each(|place, mapped, event| {
        let located = ingest::locate(event, &mapped.body, &Limits::default()).unwrap();
        let value = serde_json::to_value(event).unwrap();
        for origin in &located.found {
            let Some(Value::String(text)) = value.pointer(&origin.field) else { continue };
            // Inside of a text that is JSON itself, the range is that of the text.
            if origin.pointer.contains('#') || text.len() < 9 || text.parse::<f64>().is_ok() {
                continue;
            }
            let bytes = &mapped.body[origin.start..origin.end];
            let said = match bytes {
                [b'"', ..] => serde_json::from_slice::<Value>(bytes).unwrap().as_str().unwrap().to_owned(),
                bytes => String::from_utf8_lossy(bytes).into_owned(),
            };
            let ids = [hex::encode(bytes), said.to_lowercase().replace('-', "")];
            let ok = said == *text || said.contains(text.as_str()) || ids.contains(text);
            assert!(
                ok,
                "{place}: {} is {text:?}, {}..{} is {said:?}",
                origin.field, origin.start, origin.end
            );
            texts += 1;
        }
    });
    assert!(texts > 4_000, "{texts}");
}

#[test]
fn the_piece_of_a_record_is_the_record() {
    let limits = Limits::default();
    let mut pieces = 0;
    each(|place, mapped, event| {
        let range = ingest::locate_record(event, &mapped.body, &limits)
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        let piece = &mapped.body[range];
        pieces += 1;
        match mapped.format {
            Format::OtlpProtobuf(Signal::Traces) => {
                let span = Span::decode(piece).unwrap();
                assert_eq!(span.span_id, event.span_id.unwrap().0, "{place}");
            }
            Format::OtlpProtobuf(_) => {
                let log = LogRecord::decode(piece).unwrap();
                let at = event.end_ns.or(event.start_ns).unwrap();
                assert!([log.time_unix_nano, log.observed_time_unix_nano].contains(&at), "{place}");
            }
            Format::OtlpJson => {
                let record: Value = serde_json::from_slice(piece).unwrap();
                if let Some(span) =
                    record.get("spanId").and_then(Value::as_str).filter(|_| event.span_id.is_some())
                {
                    assert_eq!(span.to_lowercase(), event.span_id.unwrap().to_string(), "{place}");
                }
            }
            // A message of a transcript, and a callback of a run, mean what they do beside the others.
            Format::Mcp | Format::LangChain => drop(serde_json::from_slice::<Value>(piece).unwrap()),
            format => {
                let again = ingest::map(format, piece, &limits).unwrap();
                let bare =
                    |event: &Event| Event { source: Source::default(), id: String::new(), ..event.clone() };
                assert_eq!(bare(&again.events[0]), bare(event), "{place}");
            }
        }
    });
    assert!(pieces > 500, "{pieces}");
}

#[test]
fn another_body_is_told_from_the_one_that_is_named() {
    let mut tried = 0;
    each(|_, mapped, event| {
        if mapped.format == Format::OtlpProtobuf(Signal::Traces) && tried < 20 {
            tried += 1;
            let refused = ingest::locate(event, b"{\"resourceSpans\":[]}", &Limits::default());
            assert!(matches!(refused, Err(LocateError::NoRecord { .. })), "{refused:?}");
            let nowhere = Event { source: Source::default(), ..event.clone() };
            assert_eq!(ingest::locate(&nowhere, &mapped.body, &Limits::default()), Err(LocateError::NoPath));
        }
    });
    assert_eq!(tried, 20);
}
