//! OTLP attribute values as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use serde_json::{Map, Value};

use crate::canon::{INTEGER_MAX, escape_pointer};
use crate::ingest::fields::{Fields, Held};
use crate::ingest::json::is_carried;

/// Turns a list of attributes into a bag.
pub(super) fn fields(list: Vec<KeyValue>) -> Fields {
    list.into_iter().map(|KeyValue { key, value, .. }| (key, held(value))).collect()
}

/// Turns a value into JSON. Numbers that canonical JSON cannot carry become strings and are named.
pub(super) fn held(value: Option<AnyValue>) -> Held {
    // By far the most values.
    if let Some(AnyValue { value: Some(Any::StringValue(text)) }) = value {
        return Held { value: Value::String(text), restated: Vec::new() };
    }
    let mut restated = Vec::new();
    let mut path = String::new();
    let value = json(value, &mut path, &mut restated);
    Held { value, restated }
}

fn json(value: Option<AnyValue>, path: &mut String, restated: &mut Vec<String>) -> Value {
    match value.and_then(|value| value.value) {
        None => Value::Null,
        Some(Any::StringValue(text)) => Value::String(text),
        Some(Any::BoolValue(flag)) => Value::Bool(flag),
        Some(Any::IntValue(integer)) if integer.unsigned_abs() <= INTEGER_MAX => Value::from(integer),
        Some(Any::IntValue(integer)) => {
            restated.push(path.clone());
            Value::String(integer.to_string())
        }
        Some(Any::DoubleValue(double)) if is_carried(double) => Value::from(double),
        Some(Any::DoubleValue(double)) => {
            restated.push(path.clone());
            Value::String(double_text(double))
        }
        Some(Any::ArrayValue(array)) => {
            let items = array.values.into_iter().enumerate();
            Value::Array(
                items
                    .map(|(index, item)| {
                        under(path, &index.to_string(), |path| json(Some(item), path, restated))
                    })
                    .collect(),
            )
        }
        Some(Any::KvlistValue(list)) => object(list.values, path, restated),
        // JSON has no bytes; this is how OTLP/JSON writes them.
        Some(Any::BytesValue(bytes)) => single("bytesValue", Value::String(STANDARD.encode(bytes))),
        // Refers to a string table that only profiles carry.
        Some(Any::StringValueStrindex(index)) => single("stringValueStrindex", Value::from(index)),
    }
}

fn object(list: Vec<KeyValue>, path: &mut String, restated: &mut Vec<String>) -> Value {
    let mut names: Vec<&str> = list.iter().map(|pair| pair.key.as_str()).collect();
    names.sort_unstable();
    let unique = names.windows(2).all(|pair| pair.first() != pair.last());
    if unique {
        let members = list.into_iter().map(|KeyValue { key, value, .. }| {
            let value = match value.and_then(|value| value.value) {
                // Nothing to point at inside of it.
                Some(Any::StringValue(text)) => Value::String(text),
                value => {
                    let value = Some(AnyValue { value });
                    under(path, &escape_pointer(&key), |path| json(value, path, restated))
                }
            };
            (key, value)
        });
        return Value::Object(members.collect());
    }
    // A JSON object would have to pick between values of the same name.
    let pairs = list.into_iter().enumerate().map(|(index, KeyValue { key, value, .. })| {
        let value = under(path, &format!("kvlistValue/{index}/1"), |path| json(value, path, restated));
        Value::Array(vec![Value::String(key), value])
    });
    single("kvlistValue", Value::Array(pairs.collect()))
}

fn under<T>(path: &mut String, token: &str, inside: impl FnOnce(&mut String) -> T) -> T {
    let len = path.len();
    path.push('/');
    path.push_str(token);
    let result = inside(path);
    path.truncate(len);
    result
}

fn single(name: &str, value: Value) -> Value {
    let mut map = Map::new();
    map.insert(name.to_owned(), value);
    Value::Object(map)
}

/// Writes a double the way proto3 JSON does.
pub(super) fn double_text(double: f64) -> String {
    if double.is_nan() {
        "NaN".to_owned()
    } else if double.is_infinite() {
        if double > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{double:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};
    use serde_json::json;

    fn any(value: Any) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    fn pair(key: &str, value: Any) -> KeyValue {
        KeyValue { key: key.into(), value: Some(any(value)), key_strindex: 0 }
    }

    #[test]
    fn numbers_are_exact_or_restated() {
        let list = KeyValueList {
            values: vec![
                pair("big/int", Any::IntValue(i64::MIN)),
                pair("int", Any::IntValue(-9_007_199_254_740_991)),
                pair(
                    "doubles",
                    Any::ArrayValue(ArrayValue {
                        values: [f64::NAN, f64::NEG_INFINITY, -0.0, 1e17, 0.1 + 0.2]
                            .map(|double| any(Any::DoubleValue(double)))
                            .into(),
                    }),
                ),
                pair("bytes", Any::BytesValue(vec![0, 255])),
                KeyValue { key: "none".into(), value: None, key_strindex: 0 },
            ],
        };
        let held = held(Some(any(Any::KvlistValue(list))));
        assert_eq!(
            held.value,
            json!({
                "big/int": "-9223372036854775808", "int": -9_007_199_254_740_991_i64,
                "doubles": ["NaN", "-Infinity", "-0.0", "1e17", 0.300_000_000_000_000_04],
                "bytes": {"bytesValue": "AP8="}, "none": null,
            })
        );
        assert_eq!(held.restated, ["/big~1int", "/doubles/0", "/doubles/1", "/doubles/2", "/doubles/3"]);
        assert!(crate::canon::entry_bytes(&held.value).is_ok());
    }

    #[test]
    fn nested_lists_with_a_repeated_name_stay_lists() {
        let list =
            KeyValueList { values: vec![pair("a", Any::IntValue(1)), pair("a", Any::IntValue(i64::MAX))] };
        let held = held(Some(any(Any::KvlistValue(list))));
        assert_eq!(held.value, json!({"kvlistValue": [["a", 1], ["a", "9223372036854775807"]]}));
        assert_eq!(held.restated, ["/kvlistValue/1/1"]);
        assert!(held.value.pointer("/kvlistValue/1/1").is_some());
    }
}
