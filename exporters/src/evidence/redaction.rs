//! What is committed to and not shown: `data/redactions.csv`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::facts::csv_row;

/// Why a value is not in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The exporter chose to leave it out.
    Withheld,
    /// The ledger does not hold it any more.
    Erased,
}

impl Reason {
    /// Returns the word in the file.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Withheld => "withheld",
            Self::Erased => "erased",
        }
    }
}

/// One value that is not shown.
#[derive(Debug, Clone)]
pub(crate) struct Redaction {
    pub(crate) seq: u64,
    pub(crate) member: String,
    pub(crate) reason: Reason,
}

/// Which disclosures an export leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Withhold {
    /// None: everything that the ledger still holds is disclosed.
    #[default]
    Nothing,
    /// These members, as JSON pointers into the body: `/action/arguments`, `/user`.
    Members(BTreeSet<String>),
    /// All of them.
    Everything,
}

impl Withhold {
    /// Tells whether a member is left out.
    pub(crate) fn withholds(&self, member: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Members(members) => members.contains(member),
            Self::Everything => true,
        }
    }
}

/// Finds the JSON pointer of the member that a disclosure of `name` with this digest restores.
pub(crate) fn pointer_of(body: &Map<String, Value>, digest: &str, name: &str) -> Option<String> {
    let listed = body.get("_sd").and_then(Value::as_array);
    if listed.is_some_and(|digests| digests.iter().any(|item| item.as_str() == Some(digest))) {
        return Some(format!("/{}", verdict_ledger::canon::escape_pointer(name)));
    }
    body.iter().find_map(|(member, value)| {
        let below = pointer_of(value.as_object()?, digest, name)?;
        Some(format!("/{}{below}", verdict_ledger::canon::escape_pointer(member)))
    })
}

/// Writes `data/redactions.csv`.
pub(crate) fn to_csv(redactions: &[Redaction]) -> String {
    let mut out = "seq,member,reason\n".to_owned();
    for redaction in redactions {
        csv_row(&mut out, &[&redaction.seq.to_string(), &redaction.member, redaction.reason.as_str()]);
    }
    out
}

/// Reads (seq, member) pairs back; `Err` is the number of the line that is not a redaction.
pub(crate) fn parse(csv: &str) -> Result<BTreeSet<(u64, String)>, usize> {
    let mut pairs = BTreeSet::new();
    for (number, line) in csv.lines().enumerate() {
        if number == 0 {
            continue;
        }
        let parsed = || {
            let (seq, rest) = line.split_once(',')?;
            let (member, reason) = rest.rsplit_once(',')?;
            let known = [Reason::Withheld, Reason::Erased].iter().any(|known| known.as_str() == reason);
            let member = match member.strip_prefix('"').and_then(|m| m.strip_suffix('"')) {
                Some(quoted) => quoted.replace("\"\"", "\""),
                None => member.to_owned(),
            };
            if known { Some((seq.parse().ok()?, member)) } else { None }
        };
        if !pairs.insert(parsed().ok_or(number + 1)?) {
            return Err(number + 1);
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_back() {
        let row = |seq, member: &str, reason| Redaction { seq, member: member.into(), reason };
        let csv = to_csv(&[row(3, "/user", Reason::Erased), row(4, "/a,\"b", Reason::Withheld)]);
        assert_eq!(csv, "seq,member,reason\n3,/user,erased\n4,\"/a,\"\"b\",withheld\n");
        let pairs = parse(&csv).unwrap();
        assert!(pairs.contains(&(3, "/user".into())) && pairs.contains(&(4, "/a,\"b".into())));
        assert_eq!(parse("seq,member,reason\n3,/user,because\n"), Err(2));
        assert_eq!(parse("seq,member,reason\n3,/user,erased\n3,/user,erased\n"), Err(3));
    }

    #[test]
    fn a_digest_leads_to_its_member() {
        let body = json!({"action": {"name": "t", "_sd": ["x", "y"]}, "_sd": ["z"]});
        let body = body.as_object().unwrap();
        assert_eq!(pointer_of(body, "y", "arguments").as_deref(), Some("/action/arguments"));
        assert_eq!(pointer_of(body, "z", "user").as_deref(), Some("/user"));
        assert_eq!(pointer_of(body, "q", "user"), None);
    }
}
