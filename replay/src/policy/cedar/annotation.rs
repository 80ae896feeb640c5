//! What a policy says about itself: `@id`, `@effect`, `@reason` and `@obligation`.
//!
//! Cedar answers allow or deny; the rest of a finding stands in annotations. Texts can quote the input, as `{/pointer}`
//! or `{/pointer + 60}` for an integer, which is how an obligation gets a time.

use std::collections::BTreeMap;

use cedar_policy::Effect as Side;
use serde_json::Value;
use verdict_ledger::event::{Effect, Obligation};

use crate::policy::schema::{Step, unknown_step};

/// The annotations that are read here; others are for other tools.
pub(super) const KNOWN: [&str; 4] = ["effect", "id", "obligation", "reason"];

/// Returns the effect of a policy that has no `@effect`.
pub(super) const fn default_effect(side: Side) -> Effect {
    match side {
        Side::Permit => Effect::Allow,
        Side::Forbid => Effect::Block,
    }
}

/// Reads `@effect`. A permit that stopped something, or a forbid that let it pass, would mean the contrary to every
/// other reader of Cedar.
pub(super) fn effect(side: Side, word: &str) -> Result<Effect, String> {
    let allowed: &[Effect] = match side {
        Side::Permit => &[Effect::Allow, Effect::DryRun],
        Side::Forbid => &[Effect::DryRun, Effect::RequireApproval, Effect::Cooldown, Effect::Block],
    };
    allowed.iter().copied().find(|effect| effect.as_str() == word).ok_or_else(|| {
        let side = match side {
            Side::Permit => "permit",
            Side::Forbid => "forbid",
        };
        let words: Vec<_> = allowed.iter().map(|effect| effect.as_str()).collect();
        format!("`{word}` is not an effect of a {side}; it can have {}", words.join(", "))
    })
}

/// A text that quotes the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Quote { pointer: String, plus: i64 },
}

impl Template {
    /// Reads a text; `{{` and `}}` are braces.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, tail) = rest.split_at(at);
            plain.push_str(before);
            if let Some(tail) = tail.strip_prefix("{{") {
                plain.push('{');
                rest = tail;
            } else if let Some(tail) = tail.strip_prefix("}}") {
                plain.push('}');
                rest = tail;
            } else if let Some((quote, tail)) = tail.strip_prefix('{').and_then(|tail| tail.split_once('}')) {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(quoted(quote)?);
                rest = tail;
            } else {
                return Err("a brace has no partner; write `{{` or `}}` for the brace itself".to_owned());
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// Lists the pointers that are quoted.
    pub(super) fn pointers(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Quote { pointer, .. } => Some(pointer.as_str()),
            Part::Text(_) => None,
        })
    }

    /// Fills in the input. An error names the pointer that has no single value.
    pub(super) fn fill(&self, input: &Value) -> Result<String, String> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Quote { pointer, plus } => out.push_str(&quote(input, pointer, *plus)?),
            }
        }
        Ok(out)
    }
}

fn quoted(text: &str) -> Result<Part, String> {
    let (pointer, plus) = match text.split_once(" + ") {
        Some((pointer, plus)) => {
            let plus =
                plus.trim().parse().map_err(|_| format!("`{plus}` in `{{{text}}}` is not an integer"))?;
            (pointer, plus)
        }
        None => (text, 0),
    };
    let pointer = pointer.trim();
    if !pointer.starts_with('/') {
        return Err(format!("`{{{text}}}` must be a JSON pointer into the input, like `{{/action/name}}`"));
    }
    let steps: Vec<Step> = crate::policy::engine::steps(pointer).into_iter().map(Step::Field).collect();
    if let Some(unknown) = unknown_step(&steps) {
        return Err(unknown
            .hint
            .map_or(unknown.message.clone(), |hint| format!("{}; {hint}", unknown.message)));
    }
    Ok(Part::Quote { pointer: pointer.to_owned(), plus })
}

fn quote(input: &Value, pointer: &str, plus: i64) -> Result<String, String> {
    match input.pointer(pointer) {
        None | Some(Value::Null) => Err(format!("the input has no {pointer}")),
        Some(Value::Number(number)) => match number.as_i64().and_then(|value| value.checked_add(plus)) {
            Some(value) => Ok(value.to_string()),
            None => Err(format!("{pointer} + {plus} is beyond 64-bit integers")),
        },
        Some(_) if plus != 0 => Err(format!("{pointer} is not an integer")),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Bool(value)) => Ok(value.to_string()),
        Some(Value::Array(_) | Value::Object(_)) => Err(format!("{pointer} is not a single value")),
    }
}

/// An obligation whose parameters quote the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Duty {
    kind: String,
    params: BTreeMap<String, Template>,
}

impl Duty {
    /// Reads `kind(name=value, name='a, b'); kind`.
    pub(super) fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let mut reader = Reader { rest: text };
        let mut duties = Vec::new();
        loop {
            let kind = reader.word()?;
            let mut params = BTreeMap::new();
            if reader.take('(') {
                while !reader.take(')') {
                    let name = reader.word()?;
                    if !reader.take('=') {
                        return Err(format!("`{name}` of `{kind}` needs `=` and a value"));
                    }
                    let value = Template::parse(&reader.value()?)?;
                    if params.insert(name.clone(), value).is_some() {
                        return Err(format!("`{kind}` has `{name}` twice"));
                    }
                    reader.take(',');
                }
            }
            duties.push(Self { kind, params });
            reader.take(';');
            if reader.at_end() {
                return Ok(duties);
            }
        }
    }

    /// Lists the pointers that are quoted.
    pub(super) fn pointers(&self) -> impl Iterator<Item = &str> {
        self.params.values().flat_map(Template::pointers)
    }

    /// Fills in the input.
    pub(super) fn fill(&self, input: &Value) -> Result<Obligation, String> {
        let params = self.params.iter().map(|(name, value)| Ok((name.clone(), value.fill(input)?)));
        let params = params.collect::<Result<_, String>>();
        Ok(Obligation {
            kind: self.kind.clone(),
            params: params
                .map_err(|why| format!("the obligation `{}` cannot be stated: {why}", self.kind))?,
        })
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn at_end(&mut self) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.is_empty()
    }

    fn take(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        let tail = self.rest.strip_prefix(wanted);
        self.rest = tail.unwrap_or(self.rest);
        tail.is_some()
    }

    fn word(&mut self) -> Result<String, String> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')));
        let (word, tail) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if word.is_empty() {
            return Err(format!(
                "expected a name at `{}`; write obligations like `notify(role=finance); redact(pointer=/arguments/body)`",
                self.rest
            ));
        }
        self.rest = tail;
        Ok(word.to_owned())
    }

    fn value(&mut self) -> Result<String, String> {
        if self.take('\'') {
            let (value, tail): (&'a str, &'a str) =
                self.rest.split_once('\'').ok_or_else(|| "a `'` has no partner".to_owned())?;
            self.rest = tail;
            return Ok(value.to_owned());
        }
        let end = self.rest.find([',', ')']).ok_or_else(|| "a `(` has no `)`".to_owned())?;
        let (value, tail) = self.rest.split_at(end);
        self.rest = tail;
        Ok(value.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_quote_the_input() {
        let input = json!({"event": {"ts_ns": 5}, "action": {"name": "x", "arguments": {"a/b": true}}, "controls": []});
        let fill = |text: &str| Template::parse(text).and_then(|template| template.fill(&input));
        assert_eq!(fill("{/action/name} at {/event/ts_ns + 60} {{}}").unwrap(), "x at 65 {}");
        assert_eq!(fill("{/action/arguments/a~1b}").unwrap(), "true");
        assert_eq!(fill("").unwrap(), "");
        for (bad, why) in [
            ("{action}", "JSON pointer"),
            ("{/action/nmae}", "did you mean `name`?"),
            ("{/event/ts_ns + x}", "not an integer"),
            ("{/action/name", "no partner"),
            ("}", "no partner"),
            ("{/action/name + 1}", "not an integer"),
            ("{/event/ts_ns + 9223372036854775807}", "beyond 64-bit"),
            ("{/session}", "has no /session"),
            ("{/action}", "not a single value"),
        ] {
            assert!(fill(bad).unwrap_err().contains(why), "{bad}: {:?}", fill(bad));
        }
    }

    #[test]
    fn obligations_are_read_and_what_is_not_one_is_named() {
        let input = json!({"event": {"ts_ns": 5}});
        let all = |text: &str| -> Result<Vec<Obligation>, String> {
            Duty::parse_all(text)?.iter().map(|duty| duty.fill(&input)).collect()
        };
        let written = |text| serde_json::to_value(all(text).unwrap()).unwrap();
        assert_eq!(
            written("notify(role=finance); cooldown_until(until_ns={/event/ts_ns + 10}, note='a, (b)');seal"),
            json!([
                {"kind": "notify", "params": {"role": "finance"}},
                {"kind": "cooldown_until", "params": {"until_ns": "15", "note": "a, (b)"}},
                {"kind": "seal"},
            ])
        );
        for bad in [
            "",
            "notify(",
            "notify(role",
            "notify(role=)x=",
            "notify(a=1, a=2)",
            "(x)",
            "n(a='b)",
            "n(a={/user/id})",
        ] {
            assert!(all(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn effects_go_with_their_side() {
        assert_eq!(effect(Side::Forbid, "require_approval"), Ok(Effect::RequireApproval));
        assert_eq!(effect(Side::Permit, "dry_run"), Ok(Effect::DryRun));
        assert!(effect(Side::Permit, "block").unwrap_err().contains("allow, dry_run"));
        assert!(effect(Side::Forbid, "allow").is_err() && effect(Side::Forbid, "no_op").is_err());
    }
}
