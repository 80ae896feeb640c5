//! Layered layout of a directed graph, left to right, for drawing without a script.
//!
//! Ranks become columns. Long edges get a slot in every column that they pass, so that no edge runs through a
//! node. The order inside a column comes from barycentre sweeps that keep the fewest crossings; positions come
//! from least squares with a minimum distance, solved exactly by pooling adjacent violators.
//!
//! A pure function with fixed numbers of rounds: the same graph gives the same drawing, and the time is bounded
//! by the size. Whoever calls it keeps the graph under [`NODES_MAX`] and [`EDGES_MAX`].

use std::collections::BTreeMap;

/// Most nodes that are laid out.
pub(crate) const NODES_MAX: usize = 400;
/// Most edges that are laid out.
pub(crate) const EDGES_MAX: usize = 1_200;

const SWEEPS: usize = 8;
const ALIGNMENTS: usize = 12;

/// Sizes in user units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Width of a node.
    pub(crate) node_width: i64,
    /// Height of a node.
    pub(crate) node_height: i64,
    /// Distance between columns.
    pub(crate) column_gap: i64,
    /// Distance between nodes of a column.
    pub(crate) row_gap: i64,
    /// Height of the slot of an edge that passes a column.
    pub(crate) lane_height: i64,
    /// Space around the drawing.
    pub(crate) margin: i64,
}

/// Where everything goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drawing {
    /// Left upper corner of each node.
    pub(crate) nodes: Vec<(i64, i64)>,
    /// SVG path of each edge, in the order given.
    pub(crate) edges: Vec<String>,
    /// Width of everything.
    pub(crate) width: i64,
    /// Height of everything.
    pub(crate) height: i64,
}

/// Gives each node the length of the longest path that leads to it. Edges that close a cycle, seen from the
/// first node on, count as if they pointed the other way.
pub(crate) fn ranks(node_count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut ranks = vec![0_usize; node_count];
    let forward: Vec<(usize, usize)> = acyclic(node_count, edges);
    let mut incoming = vec![0_usize; node_count];
    let mut outgoing = vec![Vec::new(); node_count];
    for (from, to) in forward {
        if let (Some(count), Some(list)) = (incoming.get_mut(to), outgoing.get_mut(from)) {
            *count += 1;
            list.push(to);
        }
    }
    let mut ready: Vec<usize> = (0..node_count).filter(|node| incoming.get(*node) == Some(&0)).collect();
    while let Some(node) = ready.pop() {
        let rank = ranks.get(node).copied().unwrap_or_default();
        for next in outgoing.get(node).into_iter().flatten() {
            if let Some(known) = ranks.get_mut(*next) {
                *known = (*known).max(rank + 1);
            }
            if let Some(count) = incoming.get_mut(*next) {
                *count -= 1;
                if *count == 0 {
                    ready.push(*next);
                }
            }
        }
    }
    ranks
}

/// Turns around the edges that close a cycle, found by a depth-first walk without recursion.
fn acyclic(node_count: usize, edges: &[(usize, usize)]) -> Vec<(usize, usize)> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Closed,
    }
    let mut outgoing = vec![Vec::new(); node_count];
    for (index, (from, to)) in edges.iter().enumerate() {
        if *to < node_count && from != to {
            if let Some(list) = outgoing.get_mut(*from) {
                list.push(index);
            }
        }
    }
    let mut marks = vec![Mark::New; node_count];
    let mut result = Vec::with_capacity(edges.len());
    for root in 0..node_count {
        let mut stack = vec![(root, 0_usize)];
        if marks.get(root) != Some(&Mark::New) {
            continue;
        }
        if let Some(mark) = marks.get_mut(root) {
            *mark = Mark::Open;
        }
        while let Some((node, position)) = stack.pop() {
            let next = outgoing.get(node).and_then(|list| list.get(position)).and_then(|index| edges.get(*index));
            let Some((from, to)) = next.copied() else {
                if let Some(mark) = marks.get_mut(node) {
                    *mark = Mark::Closed;
                }
                continue;
            };
            stack.push((node, position + 1));
            match marks.get(to).copied() {
                Some(Mark::Open) => result.push((to, from)),
                Some(Mark::Closed) => result.push((from, to)),
                _ => {
                    result.push((from, to));
                    if let Some(mark) = marks.get_mut(to) {
                        *mark = Mark::Open;
                    }
                    stack.push((to, 0));
                }
            }
        }
    }
    result
}

/// A place in a column: a node, or an edge on its way.
#[derive(Debug, Clone)]
struct Slot {
    column: usize,
    height: i64,
    /// Slots of the next and the previous column that this one is joined to.
    right: Vec<usize>,
    left: Vec<usize>,
    y: f64,
}

/// Lays out a graph whose ranks are known. Edges inside one rank are drawn as a bow beside the column.
pub(crate) fn draw(ranks: &[usize], edges: &[(usize, usize)], sizes: &Sizes) -> Drawing {
    let mut slots: Vec<Slot> = ranks
        .iter()
        .map(|rank| Slot { column: *rank, height: sizes.node_height, right: Vec::new(), left: Vec::new(), y: 0.0 })
        .collect();
    let chains: Vec<Vec<usize>> = edges.iter().map(|edge| chain(*edge, ranks, &mut slots, sizes)).collect();
    let column_count = slots.iter().map(|slot| slot.column + 1).max().unwrap_or_default();
    let mut columns = vec![Vec::new(); column_count];
    for (index, slot) in slots.iter().enumerate() {
        if let Some(column) = columns.get_mut(slot.column) {
            column.push(index);
        }
    }
    order(&mut columns, &slots);
    align(&columns, &mut slots, sizes);
    let top = slots.iter().map(|slot| slot.y).fold(f64::INFINITY, f64::min);
    let ys: Vec<i64> = slots.iter().map(|slot| round(slot.y - top) + sizes.margin).collect();
    let column_x = |column: usize| {
        sizes.margin + i64::try_from(column).unwrap_or_default() * (sizes.node_width + sizes.column_gap)
    };
    let height = slots.iter().zip(&ys).map(|(slot, y)| y + slot.height).max().unwrap_or_default() + sizes.margin;
    let columns_wide = i64::try_from(column_count).unwrap_or_default();
    let width = 2 * sizes.margin + columns_wide * sizes.node_width + (columns_wide - 1).max(0) * sizes.column_gap;
    let centre = |index: usize| -> (i64, i64) {
        let y = ys.get(index).copied().unwrap_or_default();
        slots.get(index).map_or((0, y), |slot| (column_x(slot.column), y + slot.height / 2))
    };
    let paths = edges
        .iter()
        .zip(&chains)
        .map(|((from, _), chain)| {
            let points: Vec<(i64, i64)> = chain.iter().map(|index| centre(*index)).collect();
            path(&points, chain.first() != Some(from), sizes)
        })
        .collect();
    let nodes = ranks
        .iter()
        .zip(&ys)
        .map(|(rank, y)| (column_x(*rank), *y))
        .collect();
    Drawing { nodes, edges: paths, width, height }
}

/// Makes the slots that an edge passes and returns the chain from its left end to its right end.
fn chain((from, to): (usize, usize), ranks: &[usize], slots: &mut Vec<Slot>, sizes: &Sizes) -> Vec<usize> {
    let (Some(from_rank), Some(to_rank)) = (ranks.get(from).copied(), ranks.get(to).copied()) else {
        return Vec::new();
    };
    let (left, right) = if from_rank <= to_rank { (from, to) } else { (to, from) };
    let mut chain = vec![left];
    for column in from_rank.min(to_rank) + 1..from_rank.max(to_rank) {
        slots.push(Slot { column, height: sizes.lane_height, right: Vec::new(), left: Vec::new(), y: 0.0 });
        chain.push(slots.len() - 1);
    }
    chain.push(right);
    if from_rank != to_rank {
        for (a, b) in chain.iter().zip(chain.iter().skip(1)) {
            if let Some(slot) = slots.get_mut(*a) {
                slot.right.push(*b);
            }
            if let Some(slot) = slots.get_mut(*b) {
                slot.left.push(*a);
            }
        }
    }
    chain
}

/// Sorts each column by the mean position of its neighbours, forth and back, and keeps the best order seen.
fn order(columns: &mut [Vec<usize>], slots: &[Slot]) {
    let mut best = columns.to_vec();
    let mut best_crossings = crossings(&best, slots);
    for sweep in 0..SWEEPS {
        if best_crossings == 0 {
            break;
        }
        let forth = sweep % 2 == 0;
        let count = columns.len();
        for step in 1..count {
            let (here, there) = if forth { (step, step - 1) } else { (count - 1 - step, count - step) };
            let position: BTreeMap<usize, usize> = columns
                .get(there)
                .into_iter()
                .flatten()
                .enumerate()
                .map(|(place, slot)| (*slot, place))
                .collect();
            let Some(column) = columns.get_mut(here) else { continue };
            let mut keyed: Vec<(f64, usize, usize)> = column
                .iter()
                .enumerate()
                .map(|(place, index)| {
                    let neighbours = slots.get(*index).map(|slot| if forth { &slot.left } else { &slot.right });
                    let places: Vec<f64> = neighbours
                        .into_iter()
                        .flatten()
                        .filter_map(|neighbour| position.get(neighbour))
                        .map(|place| as_f64(*place))
                        .collect();
                    // A slot without neighbours stays where it is.
                    let key = if places.is_empty() {
                        as_f64(place)
                    } else {
                        places.iter().sum::<f64>() / as_f64(places.len())
                    };
                    (key, place, *index)
                })
                .collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            *column = keyed.into_iter().map(|(_, _, index)| index).collect();
        }
        let now = crossings(columns, slots);
        if now < best_crossings {
            best_crossings = now;
            best = columns.to_vec();
        }
    }
    columns.clone_from_slice(&best);
}

/// Counts crossings between neighbouring columns with a Fenwick tree.
fn crossings(columns: &[Vec<usize>], slots: &[Slot]) -> u64 {
    let mut total = 0;
    for (left, right) in columns.iter().zip(columns.iter().skip(1)) {
        let position: BTreeMap<usize, usize> = right.iter().enumerate().map(|(place, slot)| (*slot, place)).collect();
        let mut tree = vec![0_u64; right.len() + 1];
        let mut seen = 0_u64;
        for slot in left.iter().filter_map(|index| slots.get(*index)) {
            let mut ends: Vec<usize> = slot.right.iter().filter_map(|end| position.get(end).copied()).collect();
            ends.sort_unstable();
            for end in &ends {
                // Earlier edges that end strictly below this one cross it.
                let mut at = end + 1;
                let mut above = 0;
                while at > 0 {
                    above += tree.get(at).copied().unwrap_or_default();
                    at &= at - 1;
                }
                total += seen - above;
            }
            for end in ends {
                seen += 1;
                let mut at = end + 1;
                while let Some(count) = tree.get_mut(at) {
                    *count += 1;
                    at += at & at.wrapping_neg();
                }
            }
        }
    }
    total
}

/// Moves slots towards their neighbours without ever breaking order or distance.
fn align(columns: &[Vec<usize>], slots: &mut [Slot], sizes: &Sizes) {
    for column in columns {
        let mut y = 0;
        for index in column {
            if let Some(slot) = slots.get_mut(*index) {
                slot.y = i64_as_f64(y);
                y += slot.height + sizes.row_gap;
            }
        }
    }
    for round in 0..ALIGNMENTS {
        let forth = round % 2 == 0;
        let count = columns.len();
        for step in 0..count {
            let Some(column) = columns.get(if forth { step } else { count - 1 - step }) else { continue };
            let wanted: Vec<(f64, f64, i64)> =
                column.iter().filter_map(|index| slots.get(*index)).map(|slot| wish(slot, slots, forth)).collect();
            for (index, y) in column.iter().zip(separate(&wanted, sizes.row_gap)) {
                if let Some(slot) = slots.get_mut(*index) {
                    slot.y = y;
                }
            }
        }
    }
}

/// Returns where a slot would like to be, how strongly, and its height.
fn wish(slot: &Slot, slots: &[Slot], forth: bool) -> (f64, f64, i64) {
    let mut sum = 0.0;
    let mut weight = 0.0;
    for (list, strength) in [(&slot.left, if forth { 2.0 } else { 1.0 }), (&slot.right, if forth { 1.0 } else { 2.0 })] {
        for other in list.iter().filter_map(|index| slots.get(*index)) {
            sum += strength * (other.y + i64_as_f64(other.height) / 2.0);
            weight += strength;
        }
    }
    if weight == 0.0 {
        return (slot.y, 0.25, slot.height);
    }
    (sum / weight - i64_as_f64(slot.height) / 2.0, weight, slot.height)
}

/// Finds the positions nearest to the wishes that keep order and distance (isotonic regression).
fn separate(wanted: &[(f64, f64, i64)], gap: i64) -> Vec<f64> {
    let mut offsets = Vec::with_capacity(wanted.len());
    let mut offset = 0;
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for (y, weight, height) in wanted {
        offsets.push(offset);
        let mut pool = (y - i64_as_f64(offset), *weight, 1);
        while let Some(last) = pools.pop() {
            if last.0 < pool.0 {
                pools.push(last);
                break;
            }
            let weight = last.1 + pool.1;
            pool = ((last.0 * last.1 + pool.0 * pool.1) / weight, weight, last.2 + pool.2);
        }
        pools.push(pool);
        offset += height + gap;
    }
    pools
        .into_iter()
        .flat_map(|(value, _, count)| std::iter::repeat_n(value, count))
        .zip(offsets)
        .map(|(value, offset)| value + i64_as_f64(offset))
        .collect()
}

/// Writes the path: curves between columns, straight across a column.
fn path(points: &[(i64, i64)], reversed: bool, sizes: &Sizes) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let right = |x: i64| x + sizes.node_width;
    if first.0 == last.0 {
        // Inside one column: a bow to the right that stays in the gap.
        let (x, bow) = (right(first.0), right(first.0) + sizes.column_gap / 2);
        return format!("M{x} {} C{bow} {} {bow} {} {x} {}", first.1, first.1, last.1, last.1);
    }
    let mut segments = Vec::with_capacity(points.len());
    for (a, b) in points.iter().zip(points.iter().skip(1)) {
        segments.push(((right(a.0), a.1), (b.0, b.1)));
    }
    let mut out = String::new();
    if reversed {
        segments.reverse();
        segments = segments.into_iter().map(|(a, b)| (b, a)).collect();
    }
    for (index, (a, b)) in segments.into_iter().enumerate() {
        let middle = i64::midpoint(a.0, b.0);
        out.push_str(&if index == 0 { format!("M{} {}", a.0, a.1) } else { format!(" L{} {}", a.0, a.1) });
        out.push_str(&format!(" C{middle} {} {middle} {} {} {}", a.1, b.1, b.0, b.1));
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "positions in a drawing are far below 2^52")]
const fn as_f64(number: usize) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "positions in a drawing are far below 2^52")]
const fn i64_as_f64(number: i64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and positions are far below 2^52")]
fn round(number: f64) -> i64 {
    number.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes =
        Sizes { node_width: 100, node_height: 40, column_gap: 50, row_gap: 10, lane_height: 8, margin: 6 };

    /// A small generator, so that the test needs no randomness: xorshift.
    fn graph(seed: u64, nodes: usize, edges: usize) -> Vec<(usize, usize)> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % 1_000_003).unwrap()
        };
        (0..edges).map(|_| (next() % nodes, next() % nodes)).collect()
    }

    #[test]
    fn nodes_never_overlap_and_stay_inside() {
        for seed in 1..40 {
            let edges = graph(seed * 7919, 30, 45);
            let ranks = ranks(30, &edges);
            let drawing = draw(&ranks, &edges, &SIZES);
            for (a, (ax, ay)) in drawing.nodes.iter().enumerate() {
                assert!(*ax >= 0 && ax + SIZES.node_width <= drawing.width, "seed {seed}");
                assert!(*ay >= 0 && ay + SIZES.node_height <= drawing.height, "seed {seed}");
                for (bx, by) in drawing.nodes.iter().skip(a + 1) {
                    let apart = ax != bx || (ay - by).abs() >= SIZES.node_height + SIZES.row_gap;
                    assert!(apart, "seed {seed}: {ax},{ay} and {bx},{by}");
                }
            }
            assert_eq!(drawing, draw(&ranks, &edges, &SIZES), "the same graph gives the same drawing");
        }
    }

    #[test]
    fn edges_lead_to_higher_ranks_except_those_that_close_a_cycle() {
        assert_eq!(ranks(4, &[(0, 1), (1, 2), (0, 2), (2, 3)]), [0, 1, 2, 3]);
        assert_eq!(ranks(3, &[(0, 1), (1, 2), (2, 0)]), [0, 1, 2]);
        assert_eq!(ranks(2, &[(0, 0)]), [0, 0]);
        assert_eq!(ranks(0, &[]), Vec::<usize>::new());
    }

    #[test]
    fn a_crossing_that_can_be_avoided_is() {
        // 0 and 1 lead to 3 and 2.
        let drawing = draw(&[0, 0, 1, 1], &[(0, 3), (1, 2)], &SIZES);
        assert!(drawing.nodes[3].1 < drawing.nodes[2].1);
    }

    #[test]
    fn the_largest_graph_is_laid_out_in_bounded_time() {
        let edges = graph(3, NODES_MAX, EDGES_MAX);
        let drawing = draw(&ranks(NODES_MAX, &edges), &edges, &SIZES);
        assert_eq!(drawing.nodes.len(), NODES_MAX);
        assert_eq!(drawing.edges.len(), EDGES_MAX);
    }
}
