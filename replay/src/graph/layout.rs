//! A layered layout (Sugiyama's scheme), from left to right.
//!
//! Ranks by longest path, a dummy in every layer that a long edge passes, barycenter sweeps that keep the order
//! with the fewest crossings, and exact minimum distances inside each layer by pooling (isotonic regression).
//! Edges run level inside a layer and bend only between layers, so none crosses a node. Everything is an integer
//! and every count of passes is fixed: the same graph gives the same numbers on any machine.

/// Most dummies. Edges that would need more are not drawn; [`Layout::omitted`] says how many.
pub const DUMMIES_MAX: usize = 6_000;

const SWEEPS: usize = 12;
const ALIGN_PASSES: usize = 10;
const GAP_X: i64 = 56;
const GAP_Y: i64 = 18;
const DUMMY_HEIGHT: i64 = 4;
const MARGIN: i64 = 12;

/// Size of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub width: i64,
    /// Height.
    pub height: i64,
}

/// A placed node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Left.
    pub x: i64,
    /// Top.
    pub y: i64,
    /// Width.
    pub width: i64,
    /// Height.
    pub height: i64,
}

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Nodes, in the order they were given.
    pub nodes: Vec<Rect>,
    /// For each edge in the order they were given: points from its start to its end, in pairs of level pieces
    /// and bends; `None` when it is not drawn.
    pub edges: Vec<Option<Vec<(i64, i64)>>>,
    /// Width of everything.
    pub width: i64,
    /// Height of everything.
    pub height: i64,
    /// Edges that are not drawn.
    pub omitted: usize,
}

/// Lays out a graph. Edges that name no node, or a node twice, are omitted.
pub fn layout(sizes: &[Size], edges: &[(usize, usize)]) -> Layout {
    let forward = forward_edges(sizes.len(), edges);
    let rank = ranks(sizes.len(), &forward);
    let mut layers = Layers::new(sizes, &rank, &forward);
    layers.sweep();
    layers.align();
    layers.finish(sizes, edges.len())
}

/// An edge that goes from left to right.
#[derive(Debug, Clone, Copy)]
struct Forward {
    from: usize,
    to: usize,
    /// Position among the given edges.
    edge: usize,
    /// True when the given edge goes the other way.
    reversed: bool,
}

/// Turns edges that close a cycle around. Depth first from every node in order, with a stack of our own.
fn forward_edges(nodes: usize, edges: &[(usize, usize)]) -> Vec<Forward> {
    let mut next: Vec<Vec<(usize, usize)>> = vec![Vec::new(); nodes];
    for (edge, (from, to)) in edges.iter().enumerate().filter(|(_, (from, to))| from != to && *to < nodes) {
        if let Some(list) = next.get_mut(*from) {
            list.push((*to, edge));
        }
    }
    let mut open = vec![false; nodes];
    let mut seen = vec![false; nodes];
    let mut out = Vec::new();
    let set = |flags: &mut Vec<bool>, at: usize, value: bool| {
        if let Some(flag) = flags.get_mut(at) {
            *flag = value;
        }
    };
    for start in 0..nodes {
        if seen.get(start) == Some(&true) {
            continue;
        }
        set(&mut seen, start, true);
        set(&mut open, start, true);
        let mut stack = vec![(start, 0usize)];
        while let Some((node, child)) = stack.pop() {
            let Some((to, edge)) = next.get(node).and_then(|list| list.get(child)).copied() else {
                set(&mut open, node, false);
                continue;
            };
            stack.push((node, child + 1));
            let reversed = open.get(to) == Some(&true);
            let (from, end) = if reversed { (to, node) } else { (node, to) };
            out.push(Forward { from, to: end, edge, reversed });
            if seen.get(to) == Some(&false) {
                set(&mut seen, to, true);
                set(&mut open, to, true);
                stack.push((to, 0));
            }
        }
    }
    out.sort_by_key(|forward| forward.edge);
    out
}

/// Longest path from the left; then nodes that nothing leads to move right, next to what they lead to.
fn ranks(nodes: usize, forward: &[Forward]) -> Vec<usize> {
    let mut incoming = vec![0usize; nodes];
    let mut out: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    for edge in forward {
        if let (Some(count), Some(list)) = (incoming.get_mut(edge.to), out.get_mut(edge.from)) {
            *count += 1;
            list.push(edge.to);
        }
    }
    let roots: Vec<usize> = (0..nodes).filter(|node| incoming.get(*node) == Some(&0)).collect();
    let mut rank = vec![0usize; nodes];
    let mut ready: std::collections::VecDeque<usize> = roots.iter().copied().collect();
    while let Some(node) = ready.pop_front() {
        let here = rank.get(node).copied().unwrap_or_default();
        for to in out.get(node).into_iter().flatten() {
            if let (Some(rank), Some(count)) = (rank.get_mut(*to), incoming.get_mut(*to)) {
                *rank = (*rank).max(here + 1);
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ready.push_back(*to);
                }
            }
        }
    }
    for root in roots {
        let nearest = out.get(root).into_iter().flatten().filter_map(|to| rank.get(*to)).min().copied();
        if let (Some(nearest), Some(rank)) = (nearest, rank.get_mut(root)) {
            *rank = nearest.saturating_sub(1);
        }
    }
    rank
}

/// A node or a dummy in its layer.
#[derive(Debug, Clone)]
struct Cell {
    /// Real node, or `None` for a dummy.
    node: Option<usize>,
    width: i64,
    height: i64,
    /// Centre.
    y: i64,
    /// Neighbours in the layers before and after.
    left: Vec<usize>,
    right: Vec<usize>,
}

#[derive(Debug)]
struct Layers {
    cells: Vec<Cell>,
    /// Cells by layer, top to bottom.
    layers: Vec<Vec<usize>>,
    /// For each drawn edge: (given edge, reversed, its cells from left to right).
    chains: Vec<(usize, bool, Vec<usize>)>,
}

impl Layers {
    fn new(sizes: &[Size], rank: &[usize], forward: &[Forward]) -> Self {
        let depth = rank.iter().max().map_or(0, |rank| rank + 1);
        let mut this = Self { cells: Vec::new(), layers: vec![Vec::new(); depth], chains: Vec::new() };
        for (node, size) in sizes.iter().enumerate() {
            this.cell(Some(node), *size, rank.get(node).copied().unwrap_or_default());
        }
        let mut dummies = 0;
        for edge in forward {
            let (Some(from), Some(to)) = (rank.get(edge.from), rank.get(edge.to)) else { continue };
            let between = to.saturating_sub(*from).saturating_sub(1);
            if from >= to || dummies + between > DUMMIES_MAX {
                continue;
            }
            dummies += between;
            let mut chain = vec![edge.from];
            for layer in from + 1..*to {
                chain.push(this.cell(None, Size { width: 0, height: DUMMY_HEIGHT }, layer));
            }
            chain.push(edge.to);
            for (a, b) in chain.iter().zip(chain.iter().skip(1)) {
                if let Some(cell) = this.cells.get_mut(*a) {
                    cell.right.push(*b);
                }
                if let Some(cell) = this.cells.get_mut(*b) {
                    cell.left.push(*a);
                }
            }
            this.chains.push((edge.edge, edge.reversed, chain));
        }
        this
    }

    fn cell(&mut self, node: Option<usize>, size: Size, layer: usize) -> usize {
        let index = self.cells.len();
        let Size { width, height } = size;
        self.cells.push(Cell { node, width, height, y: 0, left: Vec::new(), right: Vec::new() });
        if let Some(layer) = self.layers.get_mut(layer) {
            layer.push(index);
        }
        index
    }

    /// Orders the layers by the means of their neighbours, back and forth; the best order seen stays.
    fn sweep(&mut self) {
        let mut best = self.layers.clone();
        let mut fewest = self.crossings();
        for pass in 0..SWEEPS {
            let rightward = pass % 2 == 0;
            let place = self.places();
            let mut place = place;
            let count = self.layers.len();
            for step in 0..count {
                let layer = if rightward { step } else { count - 1 - step };
                let Some(cells) = self.layers.get_mut(layer) else { continue };
                let mut keyed: Vec<(i64, usize, usize)> = cells
                    .iter()
                    .enumerate()
                    .map(|(position, cell)| {
                        let near = self.cells.get(*cell).map(|c| if rightward { &c.left } else { &c.right });
                        let near = near.map(Vec::as_slice).unwrap_or_default();
                        let sum: i64 = near.iter().filter_map(|other| place.get(*other)).sum();
                        let own = i64::try_from(position).unwrap_or(i64::MAX);
                        // Without neighbours a cell keeps its place.
                        let mean = match i64::try_from(near.len()) {
                            Ok(len) if len > 0 => sum * 1_024 / len,
                            _ => own * 1_024,
                        };
                        (mean, position, *cell)
                    })
                    .collect();
                keyed.sort_unstable();
                *cells = keyed.iter().map(|(.., cell)| *cell).collect();
                for (position, cell) in cells.iter().enumerate() {
                    if let Some(place) = place.get_mut(*cell) {
                        *place = i64::try_from(position).unwrap_or(i64::MAX);
                    }
                }
            }
            let crossings = self.crossings();
            if crossings < fewest {
                fewest = crossings;
                best.clone_from(&self.layers);
            }
        }
        self.layers = best;
    }

    fn places(&self) -> Vec<i64> {
        let mut place = vec![0; self.cells.len()];
        for layer in &self.layers {
            for (position, cell) in layer.iter().enumerate() {
                if let Some(place) = place.get_mut(*cell) {
                    *place = i64::try_from(position).unwrap_or(i64::MAX);
                }
            }
        }
        place
    }

    /// Counts crossings between neighbouring layers with a Fenwick tree.
    fn crossings(&self) -> u64 {
        let place = self.places();
        let at =
            |cell: usize| place.get(cell).copied().and_then(|p| usize::try_from(p).ok()).unwrap_or_default();
        let mut total = 0;
        for (layer, next) in self.layers.iter().zip(self.layers.iter().skip(1)) {
            let mut tree = vec![0u64; next.len() + 1];
            let mut added = 0u64;
            for cell in layer {
                let mut ends: Vec<usize> = self
                    .cells
                    .get(*cell)
                    .map(|c| c.right.iter().map(|to| at(*to)).collect())
                    .unwrap_or_default();
                ends.sort_unstable();
                for end in &ends {
                    let mut not_above = 0;
                    let mut i = end + 1;
                    while i > 0 {
                        not_above += tree.get(i).copied().unwrap_or_default();
                        i &= i - 1;
                    }
                    total += added - not_above;
                }
                for end in ends {
                    added += 1;
                    let mut i = end + 1;
                    while let Some(slot) = tree.get_mut(i) {
                        *slot += 1;
                        i += i & i.wrapping_neg();
                    }
                }
            }
        }
        total
    }

    /// Moves every cell towards the mean of its neighbours, as near as the distances inside its layer allow.
    fn align(&mut self) {
        for layer in 0..self.layers.len() {
            self.settle(layer, |_, cell| cell.y);
        }
        for pass in 0..ALIGN_PASSES {
            let count = self.layers.len();
            for step in 0..count {
                let layer = if pass % 2 == 0 { step } else { count - 1 - step };
                // The last passes look both ways, so that neither side pulls alone.
                let both = pass + 4 >= ALIGN_PASSES;
                self.settle(layer, |cells, cell| {
                    let left = if both || pass % 2 == 0 { cell.left.as_slice() } else { &[] };
                    let right = if both || pass % 2 == 1 { cell.right.as_slice() } else { &[] };
                    let near = left.iter().chain(right).filter_map(|other| cells.get(*other));
                    let (sum, len) = near.fold((0, 0), |(sum, len), other| (sum + other.y, len + 1));
                    if len == 0 { cell.y } else { sum / len }
                });
            }
        }
    }

    /// Places one layer: pools cells that would come too close at their common mean. Exact and order-keeping.
    fn settle(&mut self, layer: usize, wish: impl Fn(&[Cell], &Cell) -> i64) {
        let Some(order) = self.layers.get(layer) else { return };
        let mut offset = 0;
        let mut before: Option<i64> = None;
        let mut offsets = Vec::with_capacity(order.len());
        // Blocks of (sum, weight, cells).
        let mut blocks: Vec<(i64, i64, usize)> = Vec::new();
        for index in order {
            let Some(cell) = self.cells.get(*index) else { continue };
            if let Some(before) = before {
                offset += (before + 1) / 2 + GAP_Y + (cell.height + 1) / 2;
            }
            before = Some(cell.height);
            offsets.push(offset);
            // Long edges should be straight.
            let weight = if cell.node.is_none() { 4 } else { 1 };
            let mut block = ((wish(&self.cells, cell) - offset) * weight, weight, 1);
            while let Some((sum, weight, cells)) = blocks.last().copied() {
                if sum * block.1 < block.0 * weight {
                    break;
                }
                block = (block.0 + sum, block.1 + weight, block.2 + cells);
                blocks.pop();
            }
            blocks.push(block);
        }
        let bases = blocks
            .iter()
            .flat_map(|(sum, weight, cells)| std::iter::repeat_n(sum.div_euclid((*weight).max(1)), *cells));
        let placed: Vec<i64> = bases.zip(&offsets).map(|(base, offset)| base + offset).collect();
        for (index, y) in order.iter().zip(placed) {
            if let Some(cell) = self.cells.get_mut(*index) {
                cell.y = y;
            }
        }
    }

    fn finish(&self, sizes: &[Size], edges: usize) -> Layout {
        let top = self.cells.iter().map(|cell| cell.y - (cell.height + 1) / 2).min().unwrap_or_default();
        let bottom = self.cells.iter().map(|cell| cell.y + (cell.height + 1) / 2).max().unwrap_or_default();
        let mut left = vec![0; self.cells.len()];
        let mut right = vec![0; self.cells.len()];
        let mut x = MARGIN;
        for layer in &self.layers {
            let width = layer.iter().filter_map(|cell| self.cells.get(*cell)).map(|cell| cell.width).max();
            let width = width.unwrap_or_default();
            for cell in layer {
                if let (Some(l), Some(r)) = (left.get_mut(*cell), right.get_mut(*cell)) {
                    (*l, *r) = (x, x + width);
                }
            }
            x += width + GAP_X;
        }
        let mut nodes = vec![Rect { x: 0, y: 0, width: 0, height: 0 }; sizes.len()];
        for (index, cell) in self.cells.iter().enumerate() {
            if let (Some(rect), Some(l)) = (cell.node.and_then(|node| nodes.get_mut(node)), left.get(index)) {
                let y = cell.y - cell.height / 2 - top + MARGIN;
                *rect = Rect { x: *l, y, width: cell.width, height: cell.height };
            }
        }
        let mut routes: Vec<Option<Vec<(i64, i64)>>> = vec![None; edges];
        for (edge, reversed, chain) in &self.chains {
            let mut points = Vec::with_capacity(chain.len() * 2);
            for (position, index) in chain.iter().enumerate() {
                let (Some(cell), Some(l), Some(r)) =
                    (self.cells.get(*index), left.get(*index), right.get(*index))
                else {
                    continue;
                };
                let y = cell.y - top + MARGIN;
                if position > 0 {
                    points.push((*l, y));
                }
                if position + 1 < chain.len() {
                    if cell.node.is_some() {
                        points.push((l + cell.width, y));
                    }
                    // Level to the end of the layer, whatever wider node stands above or below.
                    if points.last() != Some(&(*r, y)) {
                        points.push((*r, y));
                    }
                }
            }
            if *reversed {
                points.reverse();
            }
            if let Some(route) = routes.get_mut(*edge) {
                *route = Some(points);
            }
        }
        let omitted = routes.iter().filter(|route| route.is_none()).count();
        Layout {
            nodes,
            edges: routes,
            width: (x - GAP_X).max(MARGIN) + MARGIN,
            height: bottom - top + 2 * MARGIN,
            omitted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn crosses(a: (i64, i64), b: (i64, i64), rect: &Rect) -> bool {
        // Sampled: pieces are level or within a gap, where a hit would be long.
        (1..20).any(|step| {
            let (x, y) = (a.0 + (b.0 - a.0) * step / 20, a.1 + (b.1 - a.1) * step / 20);
            x > rect.x && x < rect.x + rect.width && y > rect.y && y < rect.y + rect.height
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_overlaps_and_no_edge_crosses_a_node(
            sizes in prop::collection::vec((20i64..200, 20i64..60), 1..40),
            pairs in prop::collection::vec((0usize..40, 0usize..40), 0..80),
        ) {
            let sizes: Vec<Size> = sizes.into_iter().map(|(width, height)| Size { width, height }).collect();
            let layout = layout(&sizes, &pairs);
            prop_assert_eq!(&layout, &super::layout(&sizes, &pairs));
            for (i, a) in layout.nodes.iter().enumerate() {
                prop_assert!(a.x >= 0 && a.y >= 0 && a.x + a.width <= layout.width && a.y + a.height <= layout.height);
                prop_assert_eq!((a.width, a.height), (sizes[i].width, sizes[i].height));
                for b in &layout.nodes[i + 1..] {
                    let apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
                    prop_assert!(apart, "{:?} {:?}", a, b);
                }
            }
            for ((from, to), route) in pairs.iter().zip(&layout.edges) {
                let valid = from != to && *from < sizes.len() && *to < sizes.len();
                prop_assert_eq!(route.is_some(), valid);
                let Some(route) = route else { continue };
                for (a, b) in route.iter().zip(&route[1..]) {
                    prop_assert!(b.1 >= 0 && b.1 <= layout.height && b.0 >= 0 && b.0 <= layout.width);
                    for rect in &layout.nodes {
                        prop_assert!(!crosses(*a, *b, rect), "{:?}-{:?} through {:?}", a, b, rect);
                    }
                }
            }
        }
    }

    #[test]
    fn a_chain_is_level_and_a_fan_is_ordered() {
        let size = Size { width: 100, height: 40 };
        let chain = layout(&[size; 4], &[(0, 1), (1, 2), (2, 3), (0, 3)]);
        assert!(chain.nodes.windows(2).all(|pair| pair[0].x < pair[1].x));
        let fan = layout(&[size; 5], &[(0, 1), (0, 2), (0, 3), (0, 4)]);
        assert!(fan.nodes[1..].windows(2).all(|pair| pair[0].y < pair[1].y));
        let middle = i64::midpoint(fan.nodes[1].y, fan.nodes[4].y);
        assert!((fan.nodes[0].y - middle).abs() <= 1, "the root stands in the middle");
    }

    #[test]
    fn a_hostile_graph_is_bounded() {
        let size = Size { width: 10, height: 10 };
        let nodes = 400;
        let mut edges: Vec<(usize, usize)> = (1..nodes).map(|n| (n - 1, n)).collect();
        edges.extend((0..nodes).flat_map(|a| (a + 2..nodes).step_by(7).map(move |b| (a, b))));
        let layout = layout(&vec![size; nodes], &edges);
        assert!(layout.omitted > 0);
        assert_eq!(layout.nodes.len(), nodes);
        assert_eq!(super::layout(&[], &[]).nodes, []);
    }
}
