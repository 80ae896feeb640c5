//! The graph as SVG text for embedding in HTML: classes only, no style attribute, no script, every node a link.

use std::fmt::Write as _;

use verdict_ledger::event::{Effect, Trust};

use super::layout::{Layout, Rect, Size, layout};
use super::{ExecutionGraph, Node, NodeKind, visible};

/// Most characters of a line before the ellipsis.
const LINE_CHARS_MAX: usize = 26;
/// Most characters of a tooltip.
const TITLE_CHARS_MAX: usize = 600;
const HEIGHT: i64 = 44;
/// Room for the mark on the left and the padding on the right.
const MARK_WIDTH: i64 = 30;
const PADDING: i64 = 14;

pub(super) fn draw(graph: &ExecutionGraph, link: &str) -> String {
    let nodes: Vec<&Node> = graph.nodes().collect();
    let edges: Vec<_> = graph.edges().filter(|(_, _, edge)| !edge.is_order()).collect();
    let sizes: Vec<Size> = nodes.iter().map(|node| size(node)).collect();
    let pairs: Vec<(usize, usize)> = edges.iter().map(|(from, to, _)| (*from, *to)).collect();
    let layout = layout(&sizes, &pairs);
    let mut out = String::with_capacity(nodes.len() * 600);
    let Layout { width, height, .. } = layout;
    let omitted = match layout.omitted {
        0 => String::new(),
        count => format!(", {count} long edges not drawn"),
    };
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"group\" aria-label=\"Execution graph: {} nodes, {} edges{omitted}\">\n\
         <defs><marker id=\"arrow\" class=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto\"><path class=\"arrowhead\" d=\"M0 0 8 4 0 8z\"/></marker></defs>\n<g class=\"edges\">\n",
        nodes.len(),
        edges.len(),
    );
    for ((from, to, edge), route) in edges.iter().zip(&layout.edges) {
        let Some(route) = route else { continue };
        let inferred = if edge.inferred() { " edge-inferred" } else { "" };
        let label = |at: &usize| nodes.get(*at).map(|node| node.label.as_str()).unwrap_or_default();
        let word = edge.kind.as_str().replace('_', " ");
        let title = format!(
            "{} {word} {} ({}: {})",
            label(from),
            label(to),
            edge.confidence().as_str(),
            edge.basis.words()
        );
        let _ = writeln!(
            out,
            "<path class=\"edge edge-{}{inferred}\" d=\"{}\" fill=\"none\" marker-end=\"url(#arrow)\"><title>{}</title></path>",
            edge.kind.as_str(),
            path(route),
            escape(&shorten(&title, TITLE_CHARS_MAX)),
        );
    }
    out.push_str("</g>\n<g class=\"nodes\">\n");
    for (node, rect) in nodes.iter().zip(&layout.nodes) {
        draw_node(&mut out, node, rect, link);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn size(node: &Node) -> Size {
    let chars = |text: &str| i64::try_from(shorten(text, LINE_CHARS_MAX).chars().count()).unwrap_or_default();
    // 12px text is assumed to take 7.2px a character.
    let text = (chars(&node.label).max(chars(&node.note)) * 72 + 9) / 10;
    Size { width: (MARK_WIDTH + text + PADDING).max(84), height: HEIGHT }
}

/// Level inside layers, a curve with level ends in each gap; the curve stays inside the box of its two ends.
fn path(points: &[(i64, i64)]) -> String {
    let mut out = String::new();
    let mut last: Option<(i64, i64)> = None;
    for (x, y) in points {
        let _ = match last {
            None => write!(out, "M{x} {y}"),
            Some((_, from_y)) if from_y == *y => write!(out, "H{x}"),
            Some((from_x, from_y)) => {
                let middle = from_x + (x - from_x) / 2;
                write!(out, "C{middle} {from_y} {middle} {y} {x} {y}")
            }
        };
        last = Some((*x, *y));
    }
    out
}

fn draw_node(out: &mut String, node: &Node, rect: &Rect, link: &str) {
    let Rect { x, y, width, height } = *rect;
    let mut class = format!("node node-{}", node.kind.as_str());
    for (name, value) in [
        ("effect", node.effect.map(Effect::as_str)),
        ("trust", node.trust.map(Trust::as_str)),
        ("state", node.state),
    ] {
        if let Some(value) = value {
            let _ = write!(class, " {name}-{value}");
        }
    }
    if node.count > 1 {
        class.push_str(" node-repeated");
    }
    let _ = writeln!(
        out,
        "<a href=\"{link}{}\" class=\"{class}\"><title>{}</title>{}{}<text class=\"node-label\" x=\"{}\" y=\"{}\">{}</text>\
         <text class=\"node-note\" x=\"{}\" y=\"{}\">{}</text></a>",
        node.seq,
        escape(&shorten(&node.title, TITLE_CHARS_MAX)),
        shape(node.kind, rect),
        mark(node, x + 16, y + height / 2),
        x + MARK_WIDTH,
        y + 19,
        escape(&shorten(&node.label, LINE_CHARS_MAX)),
        x + MARK_WIDTH,
        y + 35,
        escape(&shorten(&node.note, LINE_CHARS_MAX)),
    );
    debug_assert!(width >= MARK_WIDTH, "a node has room for its mark");
}

/// The outline tells the kind of node without colour.
fn shape(kind: NodeKind, rect: &Rect) -> String {
    let Rect { x, y, width: w, height: h } = *rect;
    match kind {
        NodeKind::User | NodeKind::Agent => {
            format!(
                "<rect class=\"shape\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"{}\"/>",
                h / 2
            )
        }
        // A sheet with a folded corner.
        NodeKind::Source => {
            format!("<path class=\"shape\" d=\"M{x} {y}h{}l10 10v{}h-{w}z\"/>", w - 10, h - 10)
        }
        // Cut corners.
        NodeKind::Decision | NodeKind::Check => format!(
            "<path class=\"shape\" d=\"M{} {y}h{}l8 8v{}l-8 8h-{}l-8 -8v-{}z\"/>",
            x + 8,
            w - 16,
            h - 16,
            w - 16,
            h - 16
        ),
        // Pointed on the right: a person sends it on.
        NodeKind::Approval => format!(
            "<path class=\"shape\" d=\"M{x} {y}h{}l10 {}l-10 {}h-{}z\"/>",
            w - 10,
            h / 2,
            h - h / 2,
            w - 10
        ),
        NodeKind::Plan | NodeKind::Action => {
            format!("<rect class=\"shape\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"4\"/>")
        }
        NodeKind::Outcome => {
            format!("<rect class=\"shape\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"12\"/>")
        }
    }
}

/// A small mark that says effect, trust or state by its form.
fn mark(node: &Node, x: i64, y: i64) -> String {
    const TICK: &str = "m-5 0 4 4 7-8";
    const CROSS: &str = "m-5-5 10 10m0-10-10 10";
    const DIAMOND: &str = "m0-6 6 6-6 6-6-6z";
    const TRIANGLE: &str = "m0-6 6 11h-12z";
    const SQUARE: &str = "m-5-5h10v10h-10z";
    const HOURGLASS: &str = "m-5-6h10l-10 12h10z";
    const DASH: &str = "m-5 0h10";
    const DOTS: &str = "m-6 0h2m3 0h2m3 0h2";
    const BACK: &str = "m5-4v6h-10m3-3-3 3 3 3";
    const PLAY: &str = "m-4-5 9 5-9 5z";
    let form = match (node.effect, node.trust, node.state) {
        (Some(effect), ..) => match effect {
            Effect::NoOp => DASH,
            Effect::Allow => TICK,
            Effect::DryRun => DOTS,
            Effect::RequireApproval => DIAMOND,
            Effect::Cooldown => HOURGLASS,
            Effect::Block => CROSS,
        },
        (_, Some(trust), _) => match trust {
            Trust::Trusted => TICK,
            Trust::Internal => SQUARE,
            Trust::External => DIAMOND,
            Trust::Unverified => TRIANGLE,
            Trust::Unknown => DOTS,
        },
        (.., Some(state)) => match state {
            "done" => TICK,
            "failed" | "blocked" => CROSS,
            "waiting" => DIAMOND,
            "cooling" => HOURGLASS,
            "cancelled" => DASH,
            "compensated" => BACK,
            _ => DOTS,
        },
        _ => PLAY,
    };
    format!("<path class=\"mark\" d=\"M{x} {y}{form}\" fill=\"none\"/>")
}

/// Cuts at a number of characters, with an ellipsis.
fn shorten(text: &str, chars_max: usize) -> String {
    let text = visible(text);
    if text.chars().count() <= chars_max {
        return text;
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
