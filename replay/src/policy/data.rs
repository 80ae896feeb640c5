//! The `data` document of a bundle: its JSON files, put where OPA puts them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::bundle::BundleError;
use super::settings::{Manifest, json_content};

/// Puts every data file in its place: `data/a/b/x.json` below `data.a.b` (as `opa eval -d data` does) and
/// `a/b/data.json` below `data.a.b` (as an OPA bundle does).
pub(super) fn mount(files: &BTreeMap<String, Vec<u8>>, manifest: &Manifest) -> Result<Value, BundleError> {
    let mut tree = Tree::default();
    for (file, bytes) in files {
        let Some(place) = place(file)? else { continue };
        let mut source = serde_json::Deserializer::from_slice(bytes);
        let value = Exact { pointer: String::new() }
            .deserialize(&mut source)
            .and_then(|value| source.end().map(|()| value))
            .map_err(|error| json_content(file, &error))?;
        if !value.is_object() {
            return Err(BundleError::Unsupported {
                file: file.clone(),
                reason: "a data file must hold a JSON object, whose members become members of `data`".into(),
            });
        }
        check_roots(file, &place, &value, manifest)?;
        tree.put(file, &place, value)?;
    }
    Ok(tree.value)
}

/// Returns the path below `data` at which a file is mounted, if it is a data file.
fn place(file: &str) -> Result<Option<Vec<&str>>, BundleError> {
    let (dir, name) = file.rsplit_once('/').unwrap_or(("", file));
    if name == "data.yaml" || name == "data.yml" || (is_below_data(dir) && has_yaml_extension(name)) {
        return Err(BundleError::Unsupported {
            file: file.to_owned(),
            reason: "YAML data is not supported; convert it to JSON".to_owned(),
        });
    }
    if is_below_data(dir) && Path::new(name).extension().is_some_and(|end| end == "json") {
        return Ok(Some(parts(dir.strip_prefix("data").unwrap_or_default())));
    }
    if name == "data.json" && dir != "tests" && !dir.starts_with("tests/") {
        return Ok(Some(parts(dir)));
    }
    Ok(None)
}

fn parts(dir: &str) -> Vec<&str> {
    dir.split('/').filter(|part| !part.is_empty()).collect()
}

fn is_below_data(dir: &str) -> bool {
    dir == "data" || dir.starts_with("data/")
}

fn has_yaml_extension(name: &str) -> bool {
    [".yaml", ".yml"].iter().any(|end| name.ends_with(end))
}

fn check_roots(file: &str, place: &[&str], value: &Value, manifest: &Manifest) -> Result<(), BundleError> {
    let outside = |path: &[&str]| BundleError::Unsupported {
        file: file.to_owned(),
        reason: format!("`data.{}` is outside the roots that .manifest declares", path.join(".")),
    };
    // A file that is mounted above a root may still hold only members inside it.
    let mut pending = vec![(place.to_vec(), value)];
    while let Some((path, value)) = pending.pop() {
        if manifest.owns(&path) {
            continue;
        }
        match value {
            Value::Object(members) if !members.is_empty() => {
                for (key, value) in members {
                    let mut below = path.clone();
                    below.push(key);
                    pending.push((below, value));
                }
            }
            _ => return Err(outside(&path)),
        }
    }
    Ok(())
}

/// The document so far, and which file set which leaf.
struct Tree {
    value: Value,
    owners: BTreeMap<String, String>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { value: Value::Object(Map::new()), owners: BTreeMap::new() }
    }
}

impl Tree {
    fn put(&mut self, file: &str, place: &[&str], value: Value) -> Result<(), BundleError> {
        let mut target = &mut self.value;
        let mut pointer = String::new();
        for part in place {
            pointer.push_str(&token(part));
            let Value::Object(members) = target else { return Err(conflict(&self.owners, file, pointer)) };
            target = members.entry(*part).or_insert_with(|| Value::Object(Map::new()));
        }
        merge(target, value, file, &mut pointer, &mut self.owners)
    }
}

fn merge(
    target: &mut Value,
    value: Value,
    file: &str,
    pointer: &mut String,
    owners: &mut BTreeMap<String, String>,
) -> Result<(), BundleError> {
    let (Value::Object(target), Value::Object(members)) = (target, value) else {
        return Err(conflict(owners, file, pointer.clone()));
    };
    for (key, value) in members {
        let len = pointer.len();
        pointer.push_str(&token(&key));
        if let Some(there) = target.get_mut(&key) {
            merge(there, value, file, pointer, owners)?;
        } else {
            note_owner(&value, file, pointer, owners);
            target.insert(key, value);
        }
        pointer.truncate(len);
    }
    Ok(())
}

fn note_owner(value: &Value, file: &str, pointer: &mut String, owners: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                let len = pointer.len();
                pointer.push_str(&token(key));
                note_owner(value, file, pointer, owners);
                pointer.truncate(len);
            }
        }
        _ => {
            owners.insert(pointer.clone(), file.to_owned());
        }
    }
}

fn conflict(owners: &BTreeMap<String, String>, file: &str, pointer: String) -> BundleError {
    // The other file set this path, something above it, or something below it.
    let below = format!("{pointer}/");
    let first = owners
        .iter()
        .find(|(owned, _)| {
            **owned == pointer || pointer.starts_with(&format!("{owned}/")) || owned.starts_with(&below)
        })
        .map_or_else(|| "another file".to_owned(), |(_, file)| file.clone());
    BundleError::DataConflict { first, second: file.to_owned(), pointer }
}

/// Writes one reference token of a JSON pointer.
fn token(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Reads JSON in which a number is an integer of 64 bits and a key stands once: what two readers could take
/// for two different documents is refused.
struct Exact {
    pointer: String,
}

impl<'de> DeserializeSeed<'de> for Exact {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Exact {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        i64::try_from(value).map(Value::from).map_err(|_| {
            E::custom(format_args!("`{}` is {value}, which is beyond 64-bit integers", self.pointer))
        })
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Err(E::custom(format_args!(
            "`{}` is {value}, which is not a 64-bit integer; policies compare integers only (cents, nano-units, basis points)",
            self.pointer
        )))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) =
            seq.next_element_seed(Self { pointer: format!("{}/{}", self.pointer, items.len()) })?
        {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let pointer = format!("{}{}", self.pointer, token(&key));
            if members.contains_key(&key) {
                return Err(A::Error::custom(format_args!("`{pointer}` is set twice")));
            }
            let value = map.next_value_seed(Self { pointer })?;
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        list.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
    }

    fn mounted(list: &[(&str, &str)]) -> Result<Value, String> {
        mount(&files(list), &Manifest::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn directories_are_paths_and_files_merge() {
        let data = mounted(&[
            ("data/top.json", r#"{"x": 1}"#),
            ("data/a/b/one.json", r#"{"p": [1]}"#),
            ("data/a/b/two.json", r#"{"q": {"r": -2}}"#),
            ("a/c/data.json", r#"{"s": "t"}"#),
            ("data.json", r#"{"y": true}"#),
            ("tests/data.json", r#"{"ignored": 1}"#),
            ("schema/x.json", r#"{"ignored": 1.5}"#),
        ])
        .unwrap();
        assert_eq!(data, json!({"x": 1, "y": true, "a": {"b": {"p": [1], "q": {"r": -2}}, "c": {"s": "t"}}}));
    }

    #[test]
    fn floats_duplicates_and_conflicts_are_named() {
        let error = mounted(&[("data/a.json", "{\n \"x\": [1, {\"y/z\": 1.5}]}")]).unwrap_err();
        assert!(error.starts_with("data/a.json:2:"), "{error}");
        assert!(error.contains("`/x/1/y~1z` is 1.5"), "{error}");
        assert!(mounted(&[("data/a.json", r#"{"x": 1e3}"#)]).is_err());
        let error = mounted(&[("data/a.json", r#"{"x": 9223372036854775808}"#)]).unwrap_err();
        assert!(error.contains("beyond 64-bit integers"), "{error}");
        let error = mounted(&[("data/a.json", r#"{"x": 1, "x": 1}"#)]).unwrap_err();
        assert!(error.contains("`/x` is set twice"), "{error}");
        let error =
            mounted(&[("data/a.json", r#"{"k": {"x": 1}}"#), ("data/k/b.json", r#"{"x": 2}"#)]).unwrap_err();
        assert_eq!(error, "data/a.json and data/k/b.json both set `data/k/x`");
        let error = mounted(&[("data/a.json", r#"{"k": 1}"#), ("data/k/b.json", r#"{"x": 2}"#)]).unwrap_err();
        assert_eq!(error, "data/a.json and data/k/b.json both set `data/k`");
        assert!(mounted(&[("data/a.json", "[1]")]).unwrap_err().contains("JSON object"));
        assert!(mounted(&[("data/a.json", "{} x")]).unwrap_err().contains("trailing characters"));
        assert!(mounted(&[("p/data.yaml", "x: 1")]).unwrap_err().contains("YAML"));
    }

    #[test]
    fn data_stays_inside_the_roots() {
        let manifest = Manifest::parse(br#"{"roots": ["a/b"]}"#).unwrap();
        assert!(mount(&files(&[("data/x.json", r#"{"a": {"b": {"c": 1}}}"#)]), &manifest).is_ok());
        let error = mount(&files(&[("data/x.json", r#"{"a": {"c": 1}}"#)]), &manifest).unwrap_err();
        assert_eq!(error.to_string(), "data/x.json: `data.a.c` is outside the roots that .manifest declares");
    }
}
