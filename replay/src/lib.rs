//! Policy bundles, the one pure decision function, the state fold, execution graphs and replay.
//!
//! `input = build(action, state)`, `decision = decide(policy, input)`, `state' = fold(state, action, decision)`:
//! the same three functions serve a live decision and a replay. Nothing in here reads a clock, a network or
//! randomness, and a policy is never told that it is being replayed.

pub mod answers;
pub mod graph;
pub mod incident;
pub mod input;
pub mod policy;
pub mod run;
pub mod state;
pub mod what_if;
