//! The timeline of a trace: actions as a tree in time order, each with a bar.

use std::collections::{BTreeMap, BTreeSet};

use verdict_ledger::action::Action;

use super::summary::span;

/// Width of the bar area in user units.
pub(crate) const WIDTH: u64 = 1_000;
/// Narrowest bar, so that a short action in a long trace stays visible.
const BAR_MIN: u64 = 4;
/// Deepest indentation that is drawn; deeper rows say their depth in words.
const DEPTH_MAX: usize = 12;

/// Where one action stands in the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index into the actions.
    pub(crate) index: usize,
    /// Depth in the tree.
    pub(crate) depth: usize,
    /// Depth as drawn.
    pub(crate) indent: usize,
    /// Left edge of the bar.
    pub(crate) x: u64,
    /// Width of the bar.
    pub(crate) width: u64,
    /// True when the source stated only one time: drawn as a mark.
    pub(crate) instant: bool,
}

/// Orders actions as a tree: roots and children by start time, then position. A parent that is not there, and a
/// cycle of parents, make an action a root; every action appears once.
pub(crate) fn places(actions: &[Action]) -> Vec<Place> {
    let by_key: BTreeMap<u64, usize> =
        actions.iter().enumerate().map(|(index, action)| (action.key, index)).collect();
    let mut children = BTreeMap::<Option<usize>, Vec<usize>>::new();
    for (index, action) in actions.iter().enumerate() {
        let parent =
            action.parent.and_then(|key| by_key.get(&key).copied()).filter(|parent| *parent != index);
        children.entry(parent).or_default().push(index);
    }
    let order = |index: &usize| actions.get(*index).map(|action| (action.start_ns, action.key));
    for list in children.values_mut() {
        list.sort_by_key(order);
    }
    let (start, end) = span(actions);
    let mut seen = BTreeSet::new();
    let mut places = Vec::with_capacity(actions.len());
    let mut stack: Vec<(usize, usize)> = Vec::new();
    let roots = children.get(&None).cloned().unwrap_or_default();
    // What no root reaches hangs in a cycle of parents; it is shown as a root rather than lost.
    for root in roots.into_iter().chain(0..actions.len()) {
        stack.push((root, 0));
        while let Some((index, depth)) = stack.pop() {
            if !seen.insert(index) {
                continue;
            }
            if let Some(action) = actions.get(index) {
                places.push(place(action, index, depth, start, end));
            }
            for child in children.get(&Some(index)).into_iter().flatten().rev() {
                stack.push((*child, depth + 1));
            }
        }
    }
    places
}

fn place(action: &Action, index: usize, depth: usize, start: u64, end: u64) -> Place {
    let length = u128::from(end.saturating_sub(start).max(1));
    let scale =
        |ns: u64| u64::try_from(u128::from(ns) * u128::from(WIDTH) / length).unwrap_or(WIDTH).min(WIDTH);
    let from = scale(action.start_ns.saturating_sub(start));
    let to = scale(action.end_ns.unwrap_or(action.start_ns).saturating_sub(start)).max(from);
    let width = (to - from).max(BAR_MIN);
    Place {
        index,
        depth,
        indent: depth.min(DEPTH_MAX),
        x: from.min(WIDTH - width.min(WIDTH)),
        width,
        instant: action.end_ns.is_none_or(|end| end <= action.start_ns),
    }
}

/// Returns the scale under the bars: offset in user units and its label.
pub(crate) fn ticks(actions: &[Action]) -> Vec<(u64, String)> {
    let (start, end) = span(actions);
    let length = end - start;
    if length == 0 {
        return Vec::new();
    }
    (0..=4).map(|step| (step * WIDTH / 4, super::time::duration(length / 4 * step))).collect()
}
