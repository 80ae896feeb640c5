//! Queries against a plain scan over the same entries, and what they read.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests stop at the first surprise")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
use serde_json::json;
use verdict_ledger::event::{Action, ActionKind, Agent, AuthorityKind, Decision, Effect, Event, PolicyRef};
use verdict_ledger::id::TraceId;
use verdict_ledger::{Batch, Ledger, NewRecord, Order, Query, QueryError, Record, User};

use super::store::Bench;

const AGENTS: [&str; 3] = ["support-agent", "ops-agent", "intern-bot"];
const TOOLS: [&str; 4] = ["issue_refund", "get_order", "deploy_service", "run_sql"];
const EFFECTS: [Effect; 3] = [Effect::Allow, Effect::Block, Effect::RequireApproval];

fn event(number: u32) -> Event {
    let pick = |of: usize, step: u32| usize::try_from(number / step).unwrap() % of;
    let tool = TOOLS[pick(TOOLS.len(), 1)];
    let mut action = Action::new(ActionKind::Tool, if number == 777 { "rare_tool" } else { tool });
    action.arguments = Some(json!({"amount_cents": number}));
    let mut event = Event::new(format!("event-{number}"), action);
    event.trace_id = Some(trace(number / 9));
    event.agent = Some(Agent::named(AGENTS[pick(AGENTS.len(), 5)]));
    event.session = number.is_multiple_of(2).then(|| format!("session-{}", number / 50));
    event.tenant = Some("harbor".into());
    event.user = number.is_multiple_of(3).then(|| format!("user-{}@example.org", number % 7));
    if number % 4 != 3 {
        let mut decision = Decision::new(EFFECTS[pick(EFFECTS.len(), 7)], AuthorityKind::Policy);
        decision.reason =
            Some(if number.is_multiple_of(8) { "Over the limit" } else { "within its limits" }.into());
        decision.policy =
            Some(PolicyRef { rules: vec![format!("rule.{}", number % 3)], ..PolicyRef::default() });
        event.decision = Some(decision);
    }
    event
}

fn trace(number: u32) -> TraceId {
    let mut bytes = [7; 16];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    TraceId(bytes)
}

fn filled(bench: &Bench, count: u32) -> Ledger {
    let ledger = bench.init();
    for first in (0..count).step_by(500) {
        let records =
            (first..count.min(first + 500)).map(|n| NewRecord::from_event(&event(n)).unwrap()).collect();
        ledger.append(Batch { records, blobs: Vec::new() }).unwrap();
    }
    ledger
}

/// Says what a query means, by looking at everything.
fn fulfils(query: &Query, record: &Record) -> bool {
    let event = record.event.as_deref();
    let one_of = |values: &[String], said: Option<&str>| {
        values.is_empty() || said.is_some_and(|said| values.iter().any(|value| value == said))
    };
    let decision = event.and_then(|event| event.decision.as_ref());
    let words: BTreeSet<String> = [
        decision.and_then(|decision| decision.reason.clone()),
        event.map(|event| event.action.name.clone()),
        event.and_then(|event| event.agent.as_ref()?.name.clone()),
    ]
    .into_iter()
    .flatten()
    .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect::<Vec<_>>())
    .collect();
    let rules = decision.and_then(|decision| decision.policy.as_ref()).map(|policy| &policy.rules);
    let id = event.map(|event| event.id.clone());
    one_of(&query.ids, id.as_deref())
        && (query.traces.is_empty()
            || event.and_then(|event| event.trace_id).is_some_and(|trace| query.traces.contains(&trace)))
        && one_of(&query.agents, event.and_then(|event| event.agent.as_ref()?.name.as_deref()))
        && one_of(&query.tools, event.map(|event| event.action.name.as_str()))
        && one_of(&query.effects, decision.map(|decision| decision.effect.as_str()))
        && (query.rules.is_empty()
            || rules.is_some_and(|rules| rules.iter().any(|rule| query.rules.contains(rule))))
        && one_of(&query.sessions, event.and_then(|event| event.session.as_deref()))
        && (query.users.is_empty()
            || query.users.iter().any(|user| {
                event.is_some_and(|event| {
                    event.user.as_deref() == Some(&user.user) && event.tenant == user.tenant
                })
            }))
        && (query.texts.is_empty()
            || query
                .texts
                .iter()
                .any(|text| text.split(' ').all(|word| words.contains(&word.to_lowercase()))))
        && one_of(&query.kinds, Some(&record.kind))
        && query.since_ns.is_none_or(|since| record.ts_ns >= since)
        && query.until_ns.is_none_or(|until| record.ts_ns < until)
        && query.first_seq.is_none_or(|first| record.seq >= first)
        && query.end_seq.is_none_or(|end| record.seq < end)
}

fn texts(of: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    // Most fields ask nothing, or nothing would ever be found.
    prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(prop::sample::select(of).prop_map(str::to_owned), 1..3),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let said = (
        texts(&["event-3", "event-700", "event-901", "nothing"]),
        texts(&["support-agent", "ops-agent", "nobody"]),
        texts(&["issue_refund", "get_order", "rare_tool"]),
        texts(&["allow", "block", "dry_run"]),
        texts(&["rule.0", "rule.2"]),
        texts(&["session-3", "session-14"]),
        texts(&["over the", "LIMIT", "refund", "agent limits"]),
        texts(&["action.reported", "ledger.created"]),
    );
    let users = texts(&["user-0@example.org", "user-3@example.org"]);
    let traces =
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec((0u32..120).prop_map(trace), 1..4)];
    let bounds = (prop::option::of(0u64..1_100), prop::option::of(0u64..1_100));
    (said, users, traces, bounds).prop_map(|(said, users, traces, (first_seq, end_seq))| {
        let (ids, agents, tools, effects, rules, sessions, texts, kinds) = said;
        let users = users.into_iter().map(|user| User { tenant: Some("harbor".into()), user }).collect();
        Query {
            ids,
            traces,
            agents,
            tools,
            effects,
            rules,
            sessions,
            users,
            texts,
            kinds,
            first_seq,
            end_seq,
            ..Query::default()
        }
    })
}

#[test]
fn a_query_finds_what_a_scan_finds_in_both_directions_and_in_pages() {
    let bench = Bench::new();
    let ledger = filled(&bench, 1_000);
    let records: Vec<Record> = ledger.records(0..u64::MAX).map(Result::unwrap).collect();
    let found_some = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(600));
    let checked = runner.run(&(query(), 1usize..60), |(query, page)| {
        let want: Vec<u64> =
            records.iter().filter(|record| fulfils(&query, record)).map(|record| record.seq).collect();
        found_some.set(found_some.get() + u32::from(!want.is_empty()));
        let all =
            |order| -> Vec<u64> { ledger.query(&query, order, None).unwrap().map(Result::unwrap).collect() };
        prop_assert_eq!(&all(Order::Oldest), &want);
        let backwards: Vec<u64> = want.iter().rev().copied().collect();
        prop_assert_eq!(&all(Order::Newest), &backwards);
        for (order, want) in [(Order::Oldest, want), (Order::Newest, backwards)] {
            let (mut paged, mut after) = (Vec::new(), None);
            loop {
                let matches = ledger.query(&query, order, after).unwrap();
                let next: Vec<u64> = matches.take(page).map(Result::unwrap).collect();
                let Some(last) = next.last() else { break };
                after = Some(*last);
                paged.extend(next);
            }
            prop_assert_eq!(paged, want);
        }
        Ok(())
    });
    checked.unwrap();
    assert!(found_some.get() > 100, "queries that find nothing test little: {}", found_some.get());
}

#[test]
fn times_are_those_of_the_receiver() {
    let bench = Bench::new();
    let ledger = filled(&bench, 1_200);
    let at = |seq: u64| ledger.record(seq).unwrap().unwrap().ts_ns;
    let query = Query { since_ns: Some(at(501)), until_ns: Some(at(1_001)), ..Query::default() };
    let found: Vec<u64> = ledger.query(&query, Order::Oldest, None).unwrap().map(Result::unwrap).collect();
    let want: Vec<u64> = (0..=1_200).filter(|seq| (at(501)..at(1_001)).contains(&at(*seq))).collect();
    assert!(!want.is_empty() && want.len() < 1_200);
    assert_eq!(found, want);
}

/// The counters of RocksDB, for what this thread read meanwhile: bytes by look-ups, and rows that iterators passed.
fn measured<T>(run: impl FnOnce() -> T) -> (T, u64, u64) {
    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut context = PerfContext::default();
    context.reset();
    let result = run();
    let bytes = context.metric(PerfMetric::GetReadBytes);
    let skipped = context.metric(PerfMetric::InternalKeySkippedCount);
    set_perf_stats(PerfStatsLevel::Disable);
    (result, bytes, skipped)
}

#[test]
fn a_query_reads_index_rows_and_not_the_log() {
    let bench = Bench::new();
    let ledger = filled(&bench, 20_000);
    let blocks = 20_000u64 / 256 + 1;
    let all = |query: &Query, limit: usize| {
        let mut matches = ledger.query(query, Order::Newest, None).unwrap();
        let found: Vec<u64> = matches.by_ref().take(limit).map(Result::unwrap).collect();
        (found.len() as u64, matches.reads())
    };
    let one = |text: &str| vec![text.to_owned()];

    // Rare and common together: the common one is looked at where the rare one is, not everywhere.
    let rare = Query {
        tools: one("rare_tool"),
        effects: one("allow"),
        kinds: one("action.reported"),
        ..Query::default()
    };
    let (_, bytes, _) = measured(|| all(&rare, 1));
    assert!(bytes < 256 << 10, "the entries of the block that grows, once: {bytes} bytes");
    let ((found, reads), bytes, passed) = measured(|| all(&rare, usize::MAX));
    assert_eq!(found, 1, "the counters tell of a query that finds something");
    assert!(reads.rows <= 2 * 3 && reads.entries == 0, "{reads:?}");
    assert!(bytes == 0 && passed < 100, "{bytes} bytes, {passed} rows");

    // The first page of something that is everywhere costs a block or two, however long the log is.
    let common = Query { effects: one("block"), ..Query::default() };
    let ((found, reads), bytes, passed) = measured(|| all(&common, 50));
    assert_eq!(found, 50);
    assert!(reads.rows <= 3, "{reads:?}");
    assert!(bytes == 0 && passed < 100, "{bytes} bytes, {passed} rows");

    // All of it costs a row a block and field.
    let both = Query { effects: one("block"), tools: one("get_order"), ..Query::default() };
    let ((found, reads), bytes, passed) = measured(|| all(&both, usize::MAX));
    assert!(found > 1_000);
    assert!(reads.rows <= 2 * (blocks + 1), "{reads:?}");
    assert!(bytes == 0 && passed < 8 * blocks, "{bytes} bytes, {passed} rows");

    // A time is found by bisection.
    let middle = ledger.record(10_000).unwrap().unwrap().ts_ns;
    let late = Query { since_ns: Some(middle), agents: one("intern-bot"), ..Query::default() };
    let ((_, reads), bytes, passed) = measured(|| all(&late, 10));
    assert!(reads.rows <= 4 && reads.entries <= 16, "{reads:?}");
    assert!(bytes < 64 << 10 && passed < 100, "{bytes} bytes, {passed} rows");

    let (_, _, passed) = measured(|| ledger.entries(0..u64::MAX).map(Result::unwrap).count());
    assert!(passed >= 19_000, "what a scan passes, for comparison: {passed}");
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    let bench = Bench::new();
    let ledger = filled(&bench, 10);
    let ask = |query: Query| ledger.query(&query, Order::Newest, None).map(drop);
    let number = Query { texts: vec!["500".into()], ..Query::default() };
    assert!(matches!(ask(number), Err(QueryError::NoWord { text }) if text == "500"));
    let many = Query { agents: vec!["a".into(); 300], ..Query::default() };
    assert!(matches!(ask(many), Err(QueryError::TooMany { got: 300, max: 256 })));
    let nothing = Query { first_seq: Some(9), end_seq: Some(3), ..Query::default() };
    assert!(ask(nothing).is_ok(), "an empty range is empty");
}
