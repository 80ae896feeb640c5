//! Runs that are not about the same decisions are not compared.

use verdict_diff::{DiffError, compare};
use verdict_replay::run::Run;

use super::support::everything;

fn refused(change: impl FnOnce(&mut Run)) -> DiffError {
    let (from, mut to) = everything();
    change(&mut to);
    compare(&from, &to).unwrap_err()
}

#[test]
fn another_ledger_range_root_or_schema_is_refused() {
    assert!(matches!(refused(|run| run.header.origin.push('x')), DiffError::DifferentLedger { .. }));
    assert!(matches!(refused(|run| run.header.end_seq = 7), DiffError::DifferentRange { to_end: 7, .. }));
    assert!(matches!(refused(|run| run.header.first_seq = 7), DiffError::DifferentRange { to_first: 7, .. }));
    assert!(matches!(refused(|run| run.header.root.push('0')), DiffError::DifferentRoot { .. }));
    assert!(matches!(
        refused(|run| run.header.input_schema.push('x')),
        DiffError::DifferentInputSchema { .. }
    ));
}

#[test]
fn missing_or_different_points_are_named() {
    let error = refused(|run| drop(run.points.pop()));
    assert!(matches!(error, DiffError::DifferentPoints { index: 7, from: Some(16), to: None }), "{error}");
    assert_eq!(error.to_string(), "decision point 7 is action 16 in one run and action (none) in the other");
    let error = refused(|run| run.points[1].point.key = 5);
    assert!(matches!(error, DiffError::DifferentPoints { index: 1, from: Some(4), to: Some(5) }));
    let error = refused(|run| run.points[1].point.input = run.points[0].point.input);
    assert_eq!(error.to_string(), "action 4 has a different input document in the two runs");
    let error = refused(|run| run.points[1].point.name.push('x'));
    assert_eq!(error.to_string(), "action 4 has a different description in the two runs");
}
