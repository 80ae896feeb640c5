//! `verdict find`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Arc;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::{counted, time, visible};
use verdict_ledger::clock::{Clock as _, SystemClock};
use verdict_ledger::event::Effect;
use verdict_ledger::id::TraceId;
use verdict_ledger::{Ledger, Order, Query, QueryError, Record, User};

use verdict_replay::incident::reached::{ReachedAction, reached_by};

use super::graphing::ConfidenceArg;
use crate::cli::{Context, EntryRange, parse_range};
use crate::exit::{CliError, Exit, Kind};
use crate::progress::Progress;

/// Width of what is written to a file or pipe.
const PIPE_COLUMNS: usize = 160;
/// Entries that --contains reads unless asked otherwise.
const CONTAINS_SCAN: u64 = 100_000;
/// From here on a trace id is written whole.
const WIDE_COLUMNS: usize = 120;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict find --effect block --agent intern-bot             what was intern-bot refused?
  verdict find --tool run_sql --tool delete_records --since 2026-11-20
  verdict find --text \"over the limit\" --order oldest        words said in the clear
  verdict find --user ada@example.org --tenant harbor        all that holds values of this user
  verdict find --effect allow --contains 'DROP TABLE'        looks into arguments and results, see below
  verdict find --reached-by https://carrier.example/notices/7731 --since 7d       what followed from that page?
  verdict find --type policy.activated --format json | jq -r .ts

An option that is given twice asks for one of the values; different options must all be fulfilled. The answer comes
from indexes: nothing is read that does not match. Arguments, results and messages are in no index, because an index
would outlive their erasure; --contains reads them, in what the other options leave, and stops after --scan entries.
Nor has an index the sources that events state: --reached-by looks through the entries that --since, --until and --range
leave, at most --scan of them, then asks each trace that states the source what is downstream of it.

--format json writes one object a line. Each line has the position `seq`; --after SEQ goes on behind it.")]
pub(crate) struct Args {
    /// Idempotency key of an event.
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Trace (32 hexadecimal digits).
    #[arg(long = "trace", value_name = "ID")]
    traces: Vec<TraceId>,
    /// Name of an agent, or id of one without a name.
    #[arg(long = "agent", value_name = "NAME")]
    agents: Vec<String>,
    /// Name of an action, such as a tool.
    #[arg(long = "tool", value_name = "NAME")]
    tools: Vec<String>,
    /// Recorded effect.
    #[arg(long = "effect", value_name = "EFFECT", value_parser = effects())]
    effects: Vec<String>,
    /// Rule that determined a recorded decision.
    #[arg(long = "rule", value_name = "RULE")]
    rules: Vec<String>,
    /// Session.
    #[arg(long = "session", value_name = "ID")]
    sessions: Vec<String>,
    /// User; the index has a keyed digest of it, so the whole name must be given.
    #[arg(long = "user", value_name = "ID")]
    users: Vec<String>,
    /// Tenant of the users; must be given where the events name one.
    #[arg(long, value_name = "NAME", requires = "users")]
    tenant: Option<String>,
    /// Type of entry, such as `policy.activated`; events are `action.reported`.
    #[arg(long = "type", value_name = "TYPE")]
    kinds: Vec<String>,
    /// All words of this in reason, code, names or type of the error.
    #[arg(long = "text", value_name = "WORDS")]
    texts: Vec<String>,
    /// This anywhere in the values of an entry, also in arguments and results; upper and lower case are one.
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
    /// Actions that a source of this name, address or digest reached, itself or through other steps.
    #[arg(long, value_name = "SOURCE", conflicts_with = "contains")]
    reached_by: Option<String>,
    /// For --reached-by: only along edges that are at least this sure.
    #[arg(long, value_enum, default_value_t = ConfidenceArg::Order, value_name = "HOW", requires = "reached_by")]
    confidence: ConfidenceArg,
    /// Received at this time or later: 2026-11-20, 2026-11-20T08:00:00Z, or 90m, 24h, 7d ago.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<u64>,
    /// Received before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<u64>,
    /// Only entries A up to B, without B; either side may be left out.
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    range: Option<EntryRange>,
    /// Which come first.
    #[arg(long, value_enum, default_value_t = OrderArg::Newest, value_name = "ORDER")]
    order: OrderArg,
    /// How many.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// Go on behind this entry, the last that an earlier call found.
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// How many entries --contains may read [default: 100000], or --reached-by [default: all].
    #[arg(long, value_name = "N")]
    scan: Option<u64>,
}

/// Order of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OrderArg {
    /// From the end of the log.
    Newest,
    /// From its start.
    Oldest,
}

fn effects() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(Effect::ALL.map(Effect::as_str))
}

/// Finds entries.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let found = search(&ledger, args, context)?;
    if json {
        let mut lines = String::new();
        for record in &found.records {
            let mut line = line(record);
            if let Some((reached, members)) = found.reached.get(&record.seq).zip(line.as_object_mut()) {
                members.insert("reached".to_owned(), json!(reached));
            }
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        context.output.result(&lines)?;
    } else if found.records.is_empty() {
        context.output.note("nothing found");
    } else {
        context.output.result(&table(&found.records, context))?;
    }
    match found.stopped {
        Some(Stopped::Limit(seq)) => context.output.note(&format!("there may be more: --after {seq}")),
        Some(Stopped::Scan(seq)) => context.output.warn(&format!(
            "stopped after {} entries were looked into, and there are more: --after {seq} goes on, other conditions make it fewer",
            args.scan()
        )),
        Some(Stopped::Sources(seq)) => context.output.warn(&format!(
            "sources were looked for up to entry {seq} only: --scan N looks further, --since and --range elsewhere"
        )),
        None => {}
    }
    Ok(Exit::Clean)
}

/// What was found, and whether that is all.
struct Found {
    records: Vec<Record>,
    stopped: Option<Stopped>,
    /// How a source came to each, by position.
    reached: BTreeMap<u64, Arc<ReachedAction>>,
}

/// Why a search stopped before the end, at which entry.
enum Stopped {
    Limit(u64),
    Scan(u64),
    /// Sources were looked for up to here.
    Sources(u64),
}

impl Args {
    fn scan(&self) -> u64 {
        self.scan.unwrap_or(CONTAINS_SCAN)
    }
}

/// Actions that a source reached, by position of each of their events.
type ReachedEvents = BTreeMap<u64, Arc<ReachedAction>>;

/// Finds what a source reached, by position of each event of each action, and where the search stopped.
fn reached(
    ledger: &Ledger,
    source: &str,
    query: &Query,
    args: &Args,
    context: &Context,
) -> Result<(ReachedEvents, Option<u64>), CliError> {
    let size = ledger.head().size;
    let at = |ns: Option<u64>, otherwise| ns.map_or(Ok(otherwise), |ns| ledger.seq_at(ns));
    let start = at(query.since_ns, 0)?.max(query.first_seq.unwrap_or(0));
    let end = at(query.until_ns, size)?.min(query.end_seq.unwrap_or(size));
    let scan = args.scan.unwrap_or(u64::MAX);
    let progress = Progress::start(context.output, "look for the source");
    let all = end.saturating_sub(start).min(scan);
    let least = args.confidence.into();
    let found = reached_by(ledger, start..end, source, least, scan, &mut |looked| progress.at(looked, all))?;
    drop(progress);
    context
        .output
        .note(&format!("the source is stated by {}", counted(found.stated_by.len() as u64, "event")));
    if found.traces_left_out > 0 {
        context
            .output
            .warn(&format!("{} statements are in traces that were not asked", found.traces_left_out));
    }
    let mut by_seq = BTreeMap::new();
    for action in found.actions.into_iter().map(Arc::new) {
        by_seq.extend(action.seqs.iter().map(|seq| (*seq, Arc::clone(&action))));
    }
    Ok((by_seq, found.stopped_at))
}

fn search(ledger: &Ledger, args: &Args, context: &Context) -> Result<Found, CliError> {
    let order = match args.order {
        OrderArg::Newest => Order::Newest,
        OrderArg::Oldest => Order::Oldest,
    };
    let needle = args.contains.as_ref().map(|text| text.to_lowercase());
    let progress = needle.as_ref().map(|_| Progress::start(context.output, "look into"));
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (mut records, mut looked) = (Vec::new(), 0u64);
    let mut query = query(args, ledger.head().size)?;
    let asked = args.reached_by.as_ref();
    let (reached, sources) = match asked {
        Some(source) => reached(ledger, source, &query, args, context)?,
        None => (BTreeMap::new(), None),
    };
    if asked.is_some() {
        // Nothing outside can be among what was found.
        let (first, last) = (reached.keys().next(), reached.keys().next_back());
        query.first_seq = query.first_seq.max(first.copied());
        let end = last.map_or(0, |last| last + 1);
        query.end_seq = Some(query.end_seq.map_or(end, |known| known.min(end)));
        // An empty range is in order too.
        query.first_seq = query.first_seq.map(|first| first.min(query.end_seq.unwrap_or(first)));
    }
    for seq in ledger.query(&query, order, args.after)? {
        let seq = seq?;
        if asked.is_some() && !reached.contains_key(&seq) {
            continue;
        }
        let missing =
            || CliError::new(Kind::Untrusted, format!("entry {seq} is in an index and not in the log"));
        let record = ledger.record(seq)?.ok_or_else(missing)?;
        looked += 1;
        if let Some(progress) = &progress {
            progress.at(looked, args.scan());
        }
        if needle.as_ref().is_none_or(|needle| holds(&record, needle)) {
            records.push(record);
            if records.len() == limit {
                return Ok(Found { records, stopped: Some(Stopped::Limit(seq)), reached });
            }
        }
        if needle.is_some() && looked == args.scan() {
            return Ok(Found { records, stopped: Some(Stopped::Scan(seq)), reached });
        }
    }
    Ok(Found { records, stopped: sources.map(Stopped::Sources), reached })
}

fn query(args: &Args, size: u64) -> Result<Query, CliError> {
    let range = args.range.map(|range| range.within(size)).transpose()?;
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since > until
    {
        return Err(CliError::unusable("--since is later than --until"));
    }
    Ok(Query {
        ids: args.ids.clone(),
        traces: args.traces.clone(),
        agents: args.agents.clone(),
        tools: args.tools.clone(),
        effects: args.effects.clone(),
        rules: args.rules.clone(),
        sessions: args.sessions.clone(),
        users: args
            .users
            .iter()
            .map(|user| User { tenant: args.tenant.clone(), user: user.clone() })
            .collect(),
        texts: args.texts.clone(),
        kinds: args.kinds.clone(),
        since_ns: args.since,
        until_ns: args.until,
        first_seq: range.as_ref().map(|range| range.start),
        end_seq: range.map(|range| range.end),
    })
}

impl From<QueryError> for CliError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Ledger(error) => error.into(),
            QueryError::NoWord { .. } => {
                Self::unusable(error.to_string()).hint("--contains TEXT looks for any text, and takes longer")
            }
            _ => Self::unusable(error.to_string()),
        }
    }
}

/// Reads a time: RFC 3339, a day in UTC, or how long ago.
pub(crate) fn parse_time(text: &str) -> Result<u64, String> {
    let ago = verdict_ui::config::seconds(text).and_then(|seconds| seconds.checked_mul(1_000_000_000));
    if let Some(ago) = ago {
        return Ok(SystemClock.now_ns().saturating_sub(ago));
    }
    let stamp = text.parse::<Timestamp>().ok().or_else(|| {
        let day = text.parse::<Date>().ok().filter(|_| text.len() == "2026-11-20".len())?;
        day.to_zoned(TimeZone::UTC).ok().map(|day| day.timestamp())
    });
    let ns = stamp.and_then(|stamp| u64::try_from(stamp.as_nanosecond()).ok());
    ns.ok_or_else(|| "expected a time like 2026-11-20, 2026-11-20T08:00:00Z or 24h (ago)".to_owned())
}

/// Tells whether a text is in some value of a record.
fn holds(record: &Record, needle: &str) -> bool {
    let in_event = record.event.as_ref().and_then(|event| serde_json::to_value(event).ok());
    in_event.is_some_and(|event| value_holds(&event, needle))
        || record.body.values().any(|value| value_holds(value, needle))
}

fn value_holds(value: &Value, needle: &str) -> bool {
    match value {
        Value::String(text) => text.to_lowercase().contains(needle),
        Value::Array(values) => values.iter().any(|value| value_holds(value, needle)),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.to_lowercase().contains(needle) || value_holds(value, needle)),
        Value::Number(number) => number.to_string().contains(needle),
        Value::Null | Value::Bool(_) => false,
    }
}

/// Writes a record for programs.
fn line(record: &Record) -> Value {
    let ts = Timestamp::from_nanosecond(i128::from(record.ts_ns))
        .map_or_else(|_| record.ts_ns.to_string(), |ts| ts.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string());
    let mut line = json!({"seq": record.seq, "ts": ts, "type": record.kind});
    if let Some(members) = line.as_object_mut() {
        match &record.event {
            Some(event) => members.insert("event".to_owned(), json!(event)),
            None => members.insert("body".to_owned(), json!(record.body)),
        };
        if !record.withheld.is_empty() {
            members.insert("withheld".to_owned(), json!(record.withheld));
        }
    }
    line
}

fn table(records: &[Record], context: &Context) -> String {
    let on_terminal = std::io::stdout().is_terminal();
    let columns = match terminal_size::terminal_size().filter(|_| on_terminal) {
        Some((width, _)) => usize::from(width.0),
        None => PIPE_COLUMNS,
    };
    let wide = columns >= WIDE_COLUMNS;
    let mut table = Table::new(&[
        ("entry", Align::Right),
        ("received", Align::Left),
        ("effect", Align::Left),
        ("agent", Align::Left),
        ("what", Align::Left),
        ("trace", Align::Left),
        ("reason", Align::Left),
    ]);
    for record in records {
        table.row(cells(record, wide));
    }
    let head = Style::new().bold();
    let styles = std::iter::once(head).chain(records.iter().map(style));
    let mut text = String::new();
    for (line, style) in table.lines(columns).into_iter().zip(styles) {
        if context.output.colour() {
            text.push_str(&format!("{style}{line}{style:#}\n"));
        } else {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

fn cells(record: &Record, wide: bool) -> Vec<String> {
    let none = || "-".to_owned();
    let event = record.event.as_deref();
    let agent = event.and_then(|event| event.agent.as_ref());
    let agent = agent.and_then(|agent| agent.name.as_deref().or(agent.id.as_deref()));
    let decision = event.and_then(|event| event.decision.as_ref());
    let trace = event.and_then(|event| event.trace_id).map(|trace| trace.to_string());
    let trace = trace.map(|trace| if wide { trace } else { trace.chars().take(8).collect() });
    let reason = decision.and_then(|decision| decision.reason.as_deref());
    vec![
        record.seq.to_string(),
        time(record.ts_ns),
        decision.map_or_else(none, |decision| decision.effect.to_string()),
        agent.map_or_else(none, visible),
        event.map_or_else(|| visible(&record.kind), |event| visible(&event.action.name)),
        trace.unwrap_or_else(none),
        reason.map_or_else(none, visible),
    ]
}

fn style(record: &Record) -> Style {
    let effect =
        record.event.as_ref().and_then(|event| event.decision.as_ref()).map(|decision| decision.effect);
    match effect {
        Some(Effect::Block) => AnsiColor::Red.on_default(),
        Some(Effect::RequireApproval | Effect::Cooldown) => AnsiColor::Yellow.on_default(),
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_instants_days_or_ages() {
        assert_eq!(parse_time("1970-01-02"), Ok(86_400_000_000_000));
        assert_eq!(parse_time("1970-01-01T00:00:01.5Z"), Ok(1_500_000_000));
        assert_eq!(parse_time("1970-01-01T01:00:00+01:00"), Ok(0));
        let (hour, day) = (parse_time("1h").unwrap(), parse_time("1d").unwrap());
        assert!(day < hour && hour < SystemClock.now_ns());
        for bad in ["", "h", "yesterday", "2026-13-01", "1969-01-01", "-1h", "5w", "ü"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_is_found_in_names_and_values_at_any_depth() {
        let value = json!({"a": [{"Query": "select 1; DROP table x"}], "n": 4711, "b": true});
        for needle in ["drop table", "query", "471"] {
            assert!(value_holds(&value, needle), "{needle}");
        }
        assert!(!value_holds(&value, "true") && !value_holds(&value, "delete"));
    }
}
