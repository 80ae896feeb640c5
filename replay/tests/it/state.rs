//! The fold of the state.

use serde_json::{Value, json};
use verdict_replay::state::State;

use crate::input::inputs;
use crate::sample::{tool, with};

fn cost(event: Value, nano: i64) -> Value {
    with(event, "usage", json!({"cost": {"nano": nano, "currency": "USD"}}))
}

fn blocked(event: Value) -> Value {
    with(
        with(event, "decision", json!({"effect": "block", "by": {"kind": "policy"}})),
        "outcome",
        json!(null),
    )
}

#[test]
fn loops_count_earlier_calls_of_the_same_tool_and_blocked_attempts() {
    let poll = || tool("get_service_status", json!({"service": "api"}));
    let model = json!({"action": {"kind": "model", "name": "m"}});
    let all = inputs(&[
        poll(),
        model.clone(),
        poll(),
        blocked(poll()),
        model,
        poll(),
        tool("restart", json!({})),
        poll(),
    ]);
    let same: Vec<i64> =
        all.iter().map(|i| i["state"]["trace"]["consecutive_same_tool"].as_i64().unwrap()).collect();
    assert_eq!(same, [0, 0, 1, 2, 0, 3, 0, 0]);
    let row: Vec<i64> =
        all.iter().map(|i| i["state"]["trace"]["consecutive_tool_calls"].as_i64().unwrap()).collect();
    assert_eq!(row, [0, 1, 1, 2, 3, 3, 4, 5]);
    assert_eq!(all[7]["state"]["trace"]["blocked"], 1);
    assert_eq!(all[7]["state"]["trace"]["model_calls"], 2);
    assert_eq!(all[7]["state"]["agent"]["tool_calls"], 5);
}

#[test]
fn money_counts_once_by_currency_and_not_for_what_was_refused() {
    let all = inputs(&[
        cost(tool("a", json!({})), 100),
        blocked(cost(tool("a", json!({})), 1_000)),
        with(tool("a", json!({})), "usage", json!({"cost": {"nano": 9, "currency": "EUR"}})),
        with(
            tool("a", json!({})),
            "usage",
            json!({"aggregate": true, "cost": {"nano": 50, "currency": "USD"}}),
        ),
        cost(with(tool("a", json!({})), "trace_id", json!("00000000000000000000000000000002")), i64::MAX),
        tool("a", json!({})),
    ]);
    assert_eq!(all[5]["state"]["trace"]["spent_nano"], json!({"USD": 100, "EUR": 9}));
    assert_eq!(all[5]["state"]["session"]["spent_nano"]["USD"], i64::MAX, "saturates");
    assert_eq!(all[5]["state"]["windows"]["agent_1h"]["spent_nano"]["EUR"], 9);
}

#[test]
fn windows_forget_and_cooldowns_stay_until_their_end() {
    let at = |minutes: u64| with(tool("a", json!({})), "start_ns", json!(minutes * 60_000_000_000));
    let cooled =
        with(at(0), "decision", json!({"effect": "cooldown", "until_ns": "777", "by": {"kind": "policy"}}));
    let all = inputs(&[cooled, at(30), at(61), at(24 * 60), at(3 * 24 * 60)]);
    let calls = |i: usize, window: &str| all[i]["state"]["windows"][window]["tool_calls"].as_i64().unwrap();
    assert_eq!([calls(1, "agent_1h"), calls(2, "agent_1h"), calls(3, "agent_1h")], [1, 1, 0]);
    assert_eq!([calls(2, "agent_24h"), calls(3, "agent_24h"), calls(4, "agent_24h")], [2, 2, 0]);
    assert_eq!(all[4]["state"]["agent"]["cooldown_until_ns"], 777);
    assert_eq!(all[4]["state"]["agent"]["tool_calls"], 4, "the counter itself does not forget");
}

#[test]
fn controls_are_set_and_lifted() {
    let mut state = State::default();
    let set = |on: bool| json!({"id": "x", "control": {"name": "kill", "kind": "kill_switch", "on": on, "rate": 0.5}});
    let action = &verdict_ledger::action::fold(&crate::sample::records(&[tool("a", json!({}))]), 0)[0];
    state.control(set(true).as_object().unwrap());
    let input = verdict_replay::input::build(action, &state);
    crate::input::conforms(&input);
    assert_eq!(
        input["controls"],
        json!([{"name": "kill", "kind": "kill_switch", "on": true, "rate": "0.5"}])
    );
    state.control(set(false).as_object().unwrap());
    assert_eq!(verdict_replay::input::build(action, &state)["controls"], json!([]));
}
