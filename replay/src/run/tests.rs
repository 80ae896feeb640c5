//! Laws of replay, over made-up traffic in which what is said about one action comes late, twice and out of order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::{Value, json};
use verdict_ledger::contract::Quarantine;
use verdict_ledger::event::{Effect, Event};
use verdict_ledger::id::TraceId;
use verdict_ledger::pricing::Table;
use verdict_ledger::{Record, projection};

use super::source::{Corpus, Source, SourceError};
use super::{
    Answer, Carry, Grain, Options, Pause, Replayed, Resume, Run, Scope, Select, Semantics, Sink, reproduce,
    stream_in,
};
use crate::policy::{Bundle, Policy};

/// Short, so that traces, sessions and approvals straddle many.
const GRAIN: Grain = Grain { entries: 8, rounds: 12 };

const POLICY: &str = r#"package t

findings contains {"effect": "block", "rule": "budget"} if input.state.agent.spent_nano.USD > 40
findings contains {"effect": "block", "rule": "loop"} if input.state.trace.consecutive_same_tool >= 2
findings contains {"effect": "cooldown", "rule": "hot", "obligations": [{"kind": "cooldown_until", "params": {"until_ns": sprintf("%d", [input.event.ts_ns + 5000000000])}}]} if {
    input.action.name == "c"
    input.state.session.tool_calls >= 3
}
findings contains {"effect": "block", "rule": "cooling"} if input.event.ts_ns < input.state.agent.cooldown_until_ns
findings contains {"effect": "require_approval", "rule": "ask"} if {
    input.action.name == "b"
    input.state.tenant.tool_calls >= 4
}
findings contains {"effect": "allow", "rule": "rest"} if true
"#;

fn policy(source: &str) -> Policy {
    let settings = "name = \"t\"\nversion = \"1\"\nengine = \"rego\"\nentrypoint = \"data.t.findings\"\ndefault_effect = \"allow\"\n";
    let files = BTreeMap::from([
        ("verdict.toml".to_owned(), settings.as_bytes().to_vec()),
        ("policy/t.rego".to_owned(), source.as_bytes().to_vec()),
    ]);
    Policy::compile(Bundle::from_files(files).unwrap()).unwrap()
}

const ALLOWS_ALL: &str = r#"package t
findings contains {"effect": "allow", "rule": "all"} if true
"#;

/// A corpus that keeps states, as a ledger does.
struct Kept<'r> {
    corpus: Corpus<'r>,
    states: Mutex<BTreeMap<u64, Carry>>,
}

impl<'r> Kept<'r> {
    fn new(records: &'r [Record]) -> Self {
        let corpus = Corpus::new("test", "00", records, Arc::new(Table::shipped().unwrap()));
        Self { corpus, states: Mutex::default() }
    }
}

impl Source for Kept<'_> {
    fn origin(&self) -> &str {
        self.corpus.origin()
    }
    fn size(&self) -> u64 {
        self.corpus.size()
    }
    fn root(&self, size: u64) -> Result<String, SourceError> {
        self.corpus.root(size)
    }
    fn read(&self, range: Range<u64>, each: &mut dyn FnMut(Record)) -> Result<(), SourceError> {
        self.corpus.read(range, each)
    }
    fn record(&self, seq: u64) -> Result<Option<Record>, SourceError> {
        self.corpus.record(seq)
    }
    fn of_trace(&self, trace: &TraceId, range: Range<u64>, limit: usize) -> Result<Vec<u64>, SourceError> {
        self.corpus.of_trace(trace, range, limit)
    }
    fn of_session(&self, session: &str, range: Range<u64>, limit: usize) -> Result<Vec<u64>, SourceError> {
        self.corpus.of_session(session, range, limit)
    }
    fn of_event(&self, id: &str) -> Result<Vec<u64>, SourceError> {
        self.corpus.of_event(id)
    }
    fn prices(&self, below: u64) -> Result<Arc<Table>, SourceError> {
        self.corpus.prices(below)
    }
    fn quarantine(&self, below: u64) -> Result<Arc<Quarantine>, SourceError> {
        self.corpus.quarantine(below)
    }
    fn carried(&self, at_most: u64) -> Result<Option<(u64, Carry)>, SourceError> {
        let states = self.states.lock().unwrap();
        Ok(states.range(..=at_most).next_back().map(|(at, carry)| (*at, carry.clone())))
    }
    fn keep(&self, at: u64, carry: &Carry) {
        // Through bytes, as on a disk.
        let carry: Carry = projection::decode(&projection::encode(carry).unwrap()).unwrap();
        let known = self.states.lock().unwrap().insert(at, carry.clone());
        assert!(
            known.is_none_or(|known| known == carry),
            "the state at {at} is a function of the log before it"
        );
    }
}

fn run(source: &dyn Source, policy: &Policy, scope: &Scope, options: Options<'_>) -> Run {
    let mut points = Vec::new();
    let summary =
        stream_in(source, scope, policy, options, GRAIN, &mut |_, _| {}, None, &mut points).unwrap();
    Run { header: summary.header, points, rules: summary.rules, digest: summary.digest }
}

fn under(semantics: Semantics) -> Scope {
    Scope { semantics, ..Scope::default() }
}

const BEGINNING: Options<'static> = Options { threads: None, cancel: None, from_the_beginning: true };

fn records(events: &[Value]) -> Vec<Record> {
    let record = |(seq, event): (u64, &Value)| {
        let mut event = event.clone();
        event["id"] = json!(format!("e{seq}"));
        let event: Event = serde_json::from_value(event).unwrap();
        Record {
            seq,
            ts_ns: (seq + 1) * 1_000_000_000,
            kind: "action.reported".to_owned(),
            event: Some(Box::new(event)),
            body: serde_json::Map::new(),
            withheld: Vec::new(),
        }
    };
    (0..).zip(events).map(record).collect()
}

/// One statement about one of a few calls.
fn statement() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    let part = 0..6_u8;
    ((0..5_u8, 0..4_u8, part, name), (0..3_u8, 0..30_i64, 0..3_u8, any::<bool>(), 0..20_u64)).prop_map(
        |((trace, call, part, name), (agent, nano, session, says_who, back))| {
            let mut event = json!({
                "trace_id": format!("{:032x}", u64::from(trace) + 1),
                "action": {"kind": "tool", "name": name, "call_id": format!("call-{trace}-{call}-{name}")},
                "start_ns": ((100 + u64::from(call) * 7 + back) * 1_000_000_000).to_string(),
            });
            if says_who {
                event["agent"] = json!({"name": format!("agent-{agent}")});
                event["tenant"] = json!(format!("tenant-{}", agent % 2));
            }
            // Two traces share a session, one has none.
            if trace > 0 && session > 0 {
                event["session"] = json!(format!("s{}", trace / 2));
            }
            match part {
                0 => {}
                1 | 2 => event["outcome"] = json!({"status": "ok"}),
                3 => {
                    event["outcome"] = json!({"status": "ok"});
                    event["usage"] = json!({"cost": {"nano": nano, "currency": "USD"}});
                }
                4 => {
                    event["decision"] = json!({"effect": "require_approval", "by": {"kind": "policy"}, "approval_id": format!("ap-{trace}-{call}")});
                }
                _ => {
                    event["action"] = json!({"kind": "message", "name": "approval"});
                    event["trace_id"] = json!(format!("{:032x}", 100 + u64::from(trace)));
                    event["decision"] = json!({"effect": "allow", "by": {"kind": "human"}, "approval_id": format!("ap-{trace}-{call}")});
                }
            }
            event
        },
    )
}

fn traffic() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(statement(), 1..60)
}

/// What a live guard under a policy would have recorded of the traffic, one event an action.
fn governed(policy: &Policy, events: &[Value]) -> Vec<Value> {
    let mut lived: Vec<Value> = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let mut event = event.clone();
        event["action"]["call_id"] = json!(format!("own-{number}"));
        event["start_ns"] = json!((number + 1) as u64 * 1_000_000_000);
        event.as_object_mut().unwrap().remove("decision");
        // A guard knows who asks. Who is named only later in a trace is inherited by what came before.
        event["agent"] = json!({"name": format!("agent-{}", number % 2)});
        event["tenant"] = json!("tenant-0");
        event["session"] = json!(format!("s-{}", event["trace_id"]));
        lived.push(event);
        let all = records(&lived);
        let now = run(&Kept::new(&all), policy, &under(Semantics::Pointwise), BEGINNING);
        let Some(Replayed { answer: Answer::Decided { decision }, .. }) = now.points.last() else { continue };
        let event = lived.last_mut().unwrap();
        let until = decision.obligations.iter().find_map(|obligation| obligation.params.get("until_ns"));
        event["decision"] = json!({"effect": decision.effect, "by": {"kind": "policy"}, "policy": {"bundle": policy.bundle().digest()}});
        if let Some(until) = until {
            event["decision"]["until_ns"] = json!(until);
        }
        if matches!(decision.effect, Effect::Block | Effect::Cooldown | Effect::RequireApproval) {
            event.as_object_mut().unwrap().remove("outcome");
            event.as_object_mut().unwrap().remove("usage");
        }
    }
    lived
}

fn answers(run: &Run) -> Vec<(u64, Answer)> {
    run.points.iter().map(|point| (point.point.key, point.answer.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn where_the_fold_began_cannot_be_seen(events in traffic(), cut in 0..60_u64) {
        let (all, policy) = (records(&events), policy(POLICY));
        let source = Kept::new(&all);
        // Keeps the states, and checks that each is kept the same whatever comes later.
        for size in [cut.min(source.size()), source.size()] {
            run(&source, &policy, &Scope { end_seq: Some(size), ..Scope::default() }, BEGINNING);
        }
        for semantics in Semantics::ALL {
            let first = cut.min(source.size());
            let scope = Scope { first_seq: Some(first), ..under(semantics) };
            let (kept, whole) = (run(&source, &policy, &scope, Options::default()), run(&source, &policy, &scope, BEGINNING));
            prop_assert_eq!(kept, whole);
        }
    }

    #[test]
    fn what_epochs_add_up_to_is_what_one_look_at_everything_gives(events in traffic()) {
        let whole = events.len() / 8 * 8;
        let (all, policy) = (records(&events[..whole]), policy(POLICY));
        let sums = |entries: u64| {
            let source = Kept::new(&all);
            stream_in(&source, &Scope::default(), &policy, BEGINNING, Grain { entries, ..Grain::default() }, &mut |_, _| {}, None, &mut Vec::new()).unwrap();
            let states = source.states.into_inner().unwrap();
            states.get(&(whole as u64)).map(|carry| carry.state.sums())
        };
        prop_assert_eq!(sums(8), sums(whole.max(8) as u64));
        prop_assert_eq!(sums(4), sums(8));
    }

    #[test]
    fn threads_cannot_be_seen(events in traffic()) {
        let (all, policy) = (records(&events), policy(POLICY));
        for semantics in Semantics::ALL {
            let of = |threads| {
                let options = Options { threads: std::num::NonZeroUsize::new(threads), ..BEGINNING };
                run(&Kept::new(&all), &policy, &under(semantics), options)
            };
            let one = of(1);
            prop_assert_eq!(one.digest, one.expected_digest());
            prop_assert_eq!(&one, &of(2));
            prop_assert_eq!(&one, &of(8));
        }
    }

    #[test]
    fn rounds_end_where_deciding_one_after_the_other_does(events in traffic()) {
        let (all, policy) = (records(&events), policy(POLICY));
        for semantics in [Semantics::Stateful, Semantics::Causal] {
            let of = |rounds| {
                let mut points = Vec::new();
                let grain = Grain { rounds, ..GRAIN };
                let source = Kept::new(&all);
                stream_in(&source, &under(semantics), &policy, BEGINNING, grain, &mut |_, _| {}, None, &mut points).unwrap();
                points
            };
            prop_assert_eq!(of(0), of(12));
            prop_assert_eq!(of(1), of(12));
        }
    }

    #[test]
    fn the_bundle_that_decided_decides_so_again(events in prop::collection::vec(statement(), 1..24)) {
        let policy = policy(POLICY);
        let all = records(&governed(&policy, &events));
        let runs = Semantics::ALL.map(|semantics| run(&Kept::new(&all), &policy, &under(semantics), BEGINNING));
        for run in &runs {
            let check = reproduce(run);
            prop_assert_eq!((&check.mismatches, check.checked), (&Vec::new(), run.points.len() as u64));
            prop_assert!(run.points.iter().all(|p| p.induced.is_none() && p.diverged.is_none() && p.money.is_none()));
        }
        // Where nothing flips the three agree.
        prop_assert_eq!(answers(&runs[0]), answers(&runs[1]));
        prop_assert_eq!(answers(&runs[1]), answers(&runs[2]));
    }

    #[test]
    fn allowing_everything_changes_recorded_stops_only(events in prop::collection::vec(statement(), 1..24)) {
        let all = records(&governed(&policy(POLICY), &events));
        let allows = policy("package t\nfindings contains {\"effect\": \"allow\", \"rule\": \"all\"} if true\n");
        for semantics in Semantics::ALL {
            for point in run(&Kept::new(&all), &allows, &under(semantics), BEGINNING).points {
                prop_assert_eq!(point.answer.effect(), Some(Effect::Allow));
                let stopped = point.point.recorded.is_some_and(|r| r.effect > Effect::DryRun);
                prop_assert_eq!(point.unobserved, stopped);
            }
        }
    }

    #[test]
    fn what_is_not_reached_hangs_on_what_is_stopped(tree in prop::collection::vec((0..12_usize, 0..3_u8), 1..24)) {
        let events: Vec<Value> = tree.iter().enumerate().map(|(number, (parent, kind))| {
            let name = ["keep", "stop", "think"][usize::from(*kind)];
            let mut event = json!({
                "trace_id": format!("{:032x}", 1),
                "span_id": format!("{:016x}", number + 1),
                "action": {"kind": if *kind == 2 { "model" } else { "tool" }, "name": format!("{name}-{number}")},
                "start_ns": ((number + 1) as u64 * 1_000_000_000).to_string(),
                "end_ns": ((number + 1) as u64 * 1_000_000_000 + 500_000_000).to_string(),
                "outcome": {"status": "ok"},
            });
            if *parent < number {
                event["parent_span_id"] = json!(format!("{:016x}", parent + 1));
            }
            event
        }).collect();
        let all = records(&events);
        let stops = policy("package t\nfindings contains {\"effect\": \"block\", \"rule\": \"stop\"} if startswith(input.action.name, \"stop\")\n");
        let run = run(&Kept::new(&all), &stops, &under(Semantics::Causal), BEGINNING);
        let above = |number: usize| {
            let (mut at, mut found) = (number, BTreeSet::new());
            while let Some((parent, _)) = tree.get(at).filter(|(parent, _)| *parent < at) {
                found.insert(*parent as u64);
                at = *parent;
            }
            found
        };
        let stopped: BTreeSet<u64> = run.points.iter().filter(|p| p.answer.effect() == Some(Effect::Block)).map(|p| p.point.key).collect();
        for point in &run.points {
            let key = point.point.key;
            let over = above(usize::try_from(key).unwrap());
            match &point.answer {
                Answer::NotReached { by, .. } => prop_assert!(over.contains(by) && stopped.contains(by)),
                _ => prop_assert!(over.is_disjoint(&stopped), "{key} is below a stopped step"),
            }
        }
    }
}

/// Takes points until it has been paused so often, then fails, as a process that is killed does.
struct Killed {
    told: Vec<Replayed>,
    pauses: usize,
    pause: Option<(Vec<u8>, usize)>,
}

impl Sink for Killed {
    fn point(&mut self, point: Replayed) -> io::Result<()> {
        self.told.push(point);
        Ok(())
    }
    fn pause(&mut self, pause: &dyn Fn() -> Pause) -> io::Result<()> {
        if self.pauses == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.pauses -= 1;
        self.pause = Some((projection::encode(&pause())?, self.told.len()));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_that_was_interrupted_goes_on(events in prop::collection::vec(statement(), 30..60), pauses in 1..3_usize) {
        let (all, policy) = (records(&events), policy(POLICY));
        for semantics in Semantics::ALL {
            let (source, scope) = (Kept::new(&all), under(semantics));
            let mut killed = Killed { told: Vec::new(), pauses, pause: None };
            let ended = stream_in(&source, &scope, &policy, BEGINNING, GRAIN, &mut |_, _| {}, None, &mut killed);
            prop_assert!(matches!(ended, Err(super::ReplayError::Sink { .. })), "{ended:?}");
            let (pause, told) = killed.pause.unwrap();
            killed.told.truncate(told);
            let pause: Pause = projection::decode(&pause).unwrap();
            let mut before = killed.told.clone().into_iter().map(Ok);
            let resume = Resume { pause: pause.clone(), told: &mut before };
            let summary = stream_in(&source, &scope, &policy, BEGINNING, GRAIN, &mut |_, _| {}, Some(resume), &mut killed.told);
            let (summary, whole) = (summary.unwrap(), run(&source, &policy, &scope, BEGINNING));
            prop_assert_eq!((summary.digest, &killed.told), (whole.digest, &whole.points));
            let other = self::policy(ALLOWS_ALL);
            let resume = Resume { pause, told: &mut std::iter::empty() };
            let refused = stream_in(&source, &scope, &other, BEGINNING, GRAIN, &mut |_, _| {}, Some(resume), &mut Vec::new());
            prop_assert!(matches!(refused, Err(super::ReplayError::OtherRun)));
        }
    }
}

fn spends(number: u64, name: &str, nano: i64) -> Value {
    json!({
        "trace_id": format!("{number:032x}"),
        "span_id": format!("{number:016x}"),
        "agent": {"name": "buyer"},
        "action": {"kind": "tool", "name": name},
        "start_ns": (number * 1_000_000_000).to_string(),
        "decision": {"effect": "allow", "by": {"kind": "policy"}},
        "outcome": {"status": "ok"},
        "usage": {"cost": {"nano": nano, "currency": "USD"}},
    })
}

#[test]
fn a_tightening_that_leads_to_a_loosening_is_found_with_its_cause() {
    // The agent spends 30 and 30; the third purchase was over the budget of 50.
    let mut third = spends(3, "book", 1);
    third["decision"]["effect"] = json!("block");
    third.as_object_mut().unwrap().remove("outcome");
    third.as_object_mut().unwrap().remove("usage");
    let mut events = vec![spends(1, "order", 30), spends(2, "gift", 30), third];
    // An epoch lies between cause and effect.
    events.splice(
        2..2,
        (0..20).map(|n| {
            let mut other = spends(50 + n, "look", 0);
            other["agent"] = json!({"name": "reader"});
            other
        }),
    );
    let all = records(&events);
    let policy = policy(
        "package t\nfindings contains {\"effect\": \"block\", \"rule\": \"no gifts\"} if input.action.name == \"gift\"\nfindings contains {\"effect\": \"block\", \"rule\": \"budget\"} if input.state.agent.spent_nano.USD > 50\nfindings contains {\"effect\": \"allow\", \"rule\": \"rest\"} if true\n",
    );
    let effect = |semantics| {
        let run = run(&Kept::new(&all), &policy, &under(semantics), BEGINNING);
        run.points.last().unwrap().clone()
    };
    let pointwise = effect(Semantics::Pointwise);
    assert_eq!(pointwise.answer.effect(), Some(Effect::Block));
    for semantics in [Semantics::Stateful, Semantics::Causal] {
        let last = effect(semantics);
        assert_eq!(last.answer.effect(), Some(Effect::Allow), "{semantics:?}");
        let induced = last.induced.clone().unwrap();
        assert_eq!(induced.in_recorded_state, Some(Effect::Block));
        assert_eq!(induced.chain, [1]);
        assert_eq!(induced.reads, ["/state/agent/spent_nano/USD"]);
        assert!(last.unobserved);
        assert!(last.money.unwrap().exposed.is_some());
        assert_eq!(last.diverged, None, "another trace");
    }
}

#[test]
fn steps_after_a_stop_diverge_and_those_beside_it_do_not() {
    let step = |number: u64, name: &str, parent: u64, start: u64, end: u64| {
        json!({
            "trace_id": format!("{:032x}", 1), "span_id": format!("{number:016x}"), "parent_span_id": format!("{parent:016x}"),
            "action": {"kind": "tool", "name": name}, "outcome": {"status": "ok"},
            "start_ns": start.to_string(), "end_ns": end.to_string(),
            "usage": {"cost": {"nano": 7, "currency": "USD"}},
        })
    };
    let mut root = step(1, "plan", 0, 1, 100);
    root["action"]["kind"] = json!("agent");
    root.as_object_mut().unwrap().remove("parent_span_id");
    let mut ask = step(9, "ask", 1, 5, 9);
    ask["action"]["kind"] = json!("model");
    let events = [
        root,
        ask,
        step(2, "send", 1, 10, 20),
        step(3, "read", 1, 12, 18),
        step(4, "below", 2, 13, 15),
        step(5, "after", 1, 30, 40),
    ];
    let all = records(&events);
    let policy = policy(
        "package t\nfindings contains {\"effect\": \"block\", \"rule\": \"no\"} if input.action.name == \"send\"\nfindings contains {\"effect\": \"allow\", \"rule\": \"rest\"} if true\n",
    );
    let run = run(&Kept::new(&all), &policy, &under(Semantics::Causal), BEGINNING);
    let by_name = |name: &str| run.points.iter().find(|point| point.point.name == name).unwrap();
    assert_eq!(by_name("read").diverged, None, "asked for together with the stopped call");
    assert_eq!(by_name("after").diverged, Some(2));
    assert!(matches!(by_name("below").answer, Answer::NotReached { by: 2, because: super::Because::Parent }));
    let money = by_name("send").money.clone().unwrap();
    assert_eq!(money.avoided.unwrap().price.unwrap().nano, "7");
    assert_eq!(money.wasted.unwrap().price.unwrap().nano, "7", "the model call that asked for it");
    assert_eq!(by_name("below").money.clone().unwrap().avoided.unwrap().price.unwrap().nano, "7");
    let stateful = self::run(&Kept::new(&all), &policy, &under(Semantics::Stateful), BEGINNING);
    assert!(
        stateful
            .points
            .iter()
            .all(|p| p.diverged.is_none() && !matches!(p.answer, Answer::NotReached { .. }))
    );
}

#[test]
fn a_sample_is_pointwise_and_the_same_each_time() {
    let events: Vec<Value> = (1..200).map(|number| spends(number, "look", 0)).collect();
    let all = records(&events);
    let policy = policy(POLICY);
    let select =
        Select { sample: Some(super::Sample { per_million: 250_000, seed: 7 }), ..Select::default() };
    let scope = Scope { select, ..Scope::default() };
    let (once, again) = (
        run(&Kept::new(&all), &policy, &scope, BEGINNING),
        run(&Kept::new(&all), &policy, &scope, BEGINNING),
    );
    assert_eq!(once, again);
    assert!((30..70).contains(&once.points.len()), "{}", once.points.len());
    let whole = run(&Kept::new(&all), &policy, &Scope::default(), BEGINNING);
    assert!(once.points.iter().all(|point| whole.points.contains(point)), "a sample changes no decision");
    let causal = Scope { semantics: Semantics::Causal, ..scope };
    let refused = stream_in(
        &Kept::new(&all),
        &causal,
        &policy,
        BEGINNING,
        GRAIN,
        &mut |_, _| {},
        None,
        &mut Vec::new(),
    );
    assert!(matches!(refused, Err(super::ReplayError::Sampled { .. })));
}
