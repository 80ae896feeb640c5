//! The options by which `redact` and `hold` say what they are about.

use verdict_ledger::Index;
use verdict_ledger::erasure::{ErasureError, EventRef, Held, Selection};

use super::find::parse_time;
use crate::exit::{CliError, Kind};
use verdict_diff::render::text::{counted, visible};

/// What to do when a server has the ledger open.
pub(crate) const WHILE_SERVED: &str = "this writes to the ledger: stop `verdict serve` (agents send again what it did not acknowledge), run this, start it again";

/// Entries, by everything that is given at once.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Selecting {
    /// An event, by position or id; may be repeated.
    #[arg(long = "event", value_name = "SEQ|ID")]
    events: Vec<String>,
    /// Everything of a user, within --tenant where the events name one.
    #[arg(long, visible_alias = "subject", value_name = "ID")]
    user: Option<String>,
    /// Everything of a session.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Tenant of the user; without a user, everything of the tenant.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Events of an agent.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Events of a tool or other action.
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// Events with this recorded effect.
    #[arg(long, value_name = "EFFECT")]
    effect: Option<String>,
    /// Events that this rule determined.
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Events that say this word in the clear.
    #[arg(long, value_name = "WORD")]
    word: Option<String>,
    /// Entries of this type; events are `action.reported`.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Received at this time or later: 2026-11-20, 2026-11-20T08:00:00Z, or 24h, 7d ago.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<u64>,
    /// Received before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    before: Option<u64>,
}

impl Selecting {
    /// Makes the selection, of these members only.
    pub(crate) fn selection(&self, fields: &[String]) -> Selection {
        let event = |event: &String| match event.parse() {
            Ok(seq) => EventRef::Seq(seq),
            Err(_) => EventRef::Id(event.clone()),
        };
        let terms = [
            (Index::Agent, &self.agent),
            (Index::Tool, &self.tool),
            (Index::Effect, &self.effect),
            (Index::Rule, &self.rule),
            (Index::Word, &self.word),
            (Index::Kind, &self.kind),
        ];
        Selection {
            events: self.events.iter().map(event).collect(),
            user: self.user.clone(),
            session: self.session.clone(),
            tenant: self.tenant.clone(),
            terms: terms.into_iter().filter_map(|(index, text)| Some((index, text.clone()?))).collect(),
            since_ns: self.since,
            until_ns: self.before,
            fields: fields.to_vec(),
        }
    }

    /// Says why nothing may have been found.
    pub(crate) const fn hint(&self) -> Option<&'static str> {
        if self.user.is_some() && self.tenant.is_none() {
            return Some("a user of a tenant is found with --tenant only");
        }
        None
    }
}

/// Says in one line for each hold what it keeps.
pub(crate) fn held_lines(held: &[Held]) -> String {
    let mut counts: std::collections::BTreeMap<(&str, &str), u64> = std::collections::BTreeMap::new();
    for kept in held {
        *counts.entry((&kept.hold, &kept.matter)).or_default() += 1;
    }
    let line = |((hold, matter), count): ((&str, &str), u64)| {
        format!("  hold {hold} ({}) keeps {} as before\n", visible(matter), super::entries(count))
    };
    counts.into_iter().map(line).collect()
}

/// Lists positions, of very many only the first.
pub(crate) fn listed(seqs: &[u64]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = seqs.iter().take(SHOWN).map(u64::to_string).collect();
    let more = seqs.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {}", counted(more as u64, "other")) } else { String::new() };
    shown.join(", ") + &more
}

impl From<ErasureError> for CliError {
    fn from(error: ErasureError) -> Self {
        match error {
            ErasureError::Ledger(error) => error.into(),
            ErasureError::Append(error) => error.into(),
            ErasureError::Basis { .. } => Self::new(Kind::Unusable, error.to_string()).hint(
                "for example --legal-basis 'Art. 17(1)(b) GDPR' --reason 'consent withdrawn, ticket 4711'",
            ),
            ErasureError::NoEvent { .. } => {
                Self::new(Kind::Unusable, error.to_string()).hint("`verdict find` shows positions and ids")
            }
            ErasureError::NoHold { .. } => {
                Self::new(Kind::Unusable, error.to_string()).hint("see `verdict hold list`")
            }
            ErasureError::BelowFloor { .. } => Self::new(Kind::Unusable, error.to_string())
                .hint("--below-floor WHY, if a law or a contract asks for less"),
            ErasureError::Fact { .. } => Self::new(Kind::Untrusted, error.to_string())
                .hint("it may come from a newer version of verdict: use that"),
            ErasureError::Seal { .. } => Self::new(Kind::Environment, error.to_string()),
            _ => Self::new(Kind::Unusable, error.to_string()),
        }
    }
}
