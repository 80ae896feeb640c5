//! What `trace graph` and `incident graph` share: the forms of a graph, and the questions to it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::visible;
use verdict_ledger::event::Trust;
use verdict_replay::graph::flow::Hop;
use verdict_replay::graph::query::{Direction, Reached};
use verdict_replay::graph::{Confidence, ExecutionGraph, NodeKind};

use super::files;
use crate::cli::{Context, Format};
use crate::exit::{CliError, Exit};

/// Colours of a picture that stands by itself; the graph module writes classes only.
const PICTURE_STYLE: &str = include_str!("trace.css");
/// Sources that are named when one is not found.
const NAMES_MAX: usize = 12;

/// What of a graph, and where to.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct GraphArgs {
    /// Only what this led to: an entry, or name, address, digest or kind of a source.
    #[arg(long, value_name = "SEQ|SOURCE")]
    downstream_of: Option<String>,
    /// Only what led to this.
    #[arg(long, value_name = "SEQ|SOURCE", conflicts_with = "downstream_of")]
    upstream_of: Option<String>,
    /// Only along edges that are at least this sure: stated by an event, inferred, or known by order alone.
    #[arg(long, value_enum, default_value_t = ConfidenceArg::Order, value_name = "HOW")]
    confidence: ConfidenceArg,
    /// Write here instead of to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// How sure an edge must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ConfidenceArg {
    /// An event states it.
    Explicit,
    /// It follows from what events state.
    Inferred,
    /// One came before the other.
    #[default]
    Order,
}

impl From<ConfidenceArg> for Confidence {
    fn from(arg: ConfidenceArg) -> Self {
        match arg {
            ConfidenceArg::Explicit => Self::Explicit,
            ConfidenceArg::Inferred => Self::Inferred,
            ConfidenceArg::Order => Self::Order,
        }
    }
}

/// Writes a graph, or the answer to a question to it. `more` are members of the JSON form beside the graph's own.
pub(crate) fn write(
    graph: &ExecutionGraph,
    args: &GraphArgs,
    more: &Value,
    context: &Context,
) -> Result<Exit, CliError> {
    let least = Confidence::from(args.confidence);
    let question = match (&args.downstream_of, &args.upstream_of) {
        (Some(of), _) => Some((of, Direction::Downstream)),
        (None, Some(of)) => Some((of, Direction::Upstream)),
        (None, None) => None,
    };
    let can: &[Format] = match question {
        Some(_) => &[Format::Human, Format::Svg, Format::Dot, Format::Json],
        None => &[Format::Svg, Format::Dot, Format::Json],
    };
    let format = context.output.format(can)?;
    let mut text = match question {
        None => picture(graph, format, &with(graph.json(), more)),
        Some((of, direction)) => {
            let start = graph.named(of);
            if start.is_empty() {
                return Err(nothing(graph, of));
            }
            let reached = graph.reach(&start, direction, least);
            if format == Format::Human {
                table(graph, &reached, direction)
            } else {
                let part = graph.only(&reached.nodes.keys().copied().collect());
                let json = graph.answer_json(&reached, of, direction, least);
                picture(&part, format, &with(json, more))
            }
        }
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    match &args.out {
        None => context.output.result(&text)?,
        Some(path) => files::write(path, text.as_bytes())?,
    }
    Ok(Exit::Clean)
}

fn nothing(graph: &ExecutionGraph, of: &str) -> CliError {
    let names = graph.source_names(NAMES_MAX);
    let hint = if names.is_empty() {
        "no source is stated here; an entry is named by its position".to_owned()
    } else {
        format!("an entry is named by its position; sources here: {}", visible(&names.join(", ")))
    };
    CliError::unusable(format!("nothing here is called `{}`", visible(of))).hint(hint)
}

fn picture(graph: &ExecutionGraph, format: Format, json: &Value) -> String {
    match format {
        Format::Json => format!("{json:#}"),
        Format::Dot => graph.dot(),
        _ => standalone(&graph.svg()),
    }
}

fn with(mut json: Value, more: &Value) -> Value {
    if let (Some(members), Some(more)) = (json.as_object_mut(), more.as_object()) {
        members.extend(more.clone());
    }
    json
}

/// Puts the style into a picture that no page surrounds.
fn standalone(svg: &str) -> String {
    match svg.split_once('>') {
        Some((open, rest)) => format!("{open}>\n<style>\n{PICTURE_STYLE}</style>{rest}"),
        None => svg.to_owned(),
    }
}

/// What was reached, one step a line; its rulings and outcome are with it.
fn table(graph: &ExecutionGraph, reached: &Reached, direction: Direction) -> String {
    let nodes: Vec<_> = graph.nodes().collect();
    let labels: BTreeMap<&str, &str> =
        nodes.iter().map(|node| (node.id.as_str(), node.label.as_str())).collect();
    let mut table = Table::new(&[
        ("entry", Align::Right),
        ("what", Align::Left),
        ("state", Align::Left),
        ("how sure", Align::Left),
        ("path", Align::Left),
    ]);
    let shown = |kind: NodeKind| match direction {
        Direction::Downstream => {
            matches!(kind, NodeKind::Action | NodeKind::Plan | NodeKind::Check | NodeKind::Agent)
        }
        Direction::Upstream => !matches!(kind, NodeKind::Outcome),
    };
    let mut rows: Vec<_> = reached.nodes.iter().collect();
    rows.sort_by_key(|(at, arrival)| (arrival.confidence, nodes.get(**at).map_or(0, |node| node.seq), **at));
    let mut count = 0;
    for (at, arrival) in rows {
        let Some(node) = nodes.get(*at).filter(|node| shown(node.kind) || arrival.previous.is_none()) else {
            continue;
        };
        count += 1;
        let (path, omitted) = graph.hops(reached, *at);
        let start = arrival.previous.is_none();
        table.row(vec![
            node.seq.to_string(),
            visible(&format!("{} {}", node.kind.as_str(), node.label)),
            node.state.map_or_else(|| visible(&node.note), str::to_owned),
            if start { "asked about".to_owned() } else { arrival.confidence.as_str().to_owned() },
            if start { "-".to_owned() } else { visible(&path_words(&path, omitted, &labels)) },
        ]);
    }
    let mut text = table.lines(200).join("\n");
    text.push_str(&format!("\n{count} of {} nodes\n", nodes.len()));
    text
}

/// Writes a path in one line.
pub(crate) fn path_words(path: &[Hop], omitted: usize, labels: &BTreeMap<&str, &str>) -> String {
    let mut text = String::new();
    for (index, hop) in path.iter().enumerate() {
        let label = labels.get(hop.node.as_str()).copied().unwrap_or(&hop.node);
        if let Some(by) = hop.by {
            let passed = if hop.passed > 0 { format!(" {} steps", hop.passed + 1) } else { String::new() };
            text.push_str(&format!(" -{}{passed}-> ", by.as_str()));
        }
        if index == 1 && omitted > 0 {
            text.push_str(&format!(" … {omitted} steps … "));
        }
        text.push_str(label);
    }
    text
}

/// Lists what came from sources that nobody vouches for, the surest first.
pub(crate) fn trust_lines(graph: &ExecutionGraph, count_max: usize) -> String {
    let flow = graph.trust_flow(Trust::External, Confidence::Order);
    let labels: BTreeMap<&str, &str> =
        graph.nodes().map(|node| (node.id.as_str(), node.label.as_str())).collect();
    let nodes: Vec<_> = graph.nodes().collect();
    let sure: Vec<_> = flow.flows.iter().filter(|flow| flow.confidence != Confidence::Order).collect();
    let seen = flow.flows.len() - sure.len();
    let mut table = Table::new(&[
        ("entry", Align::Right),
        ("action", Align::Left),
        ("state", Align::Left),
        ("reached by", Align::Left),
        ("how sure", Align::Left),
        ("path", Align::Left),
    ]);
    for flow in sure.iter().take(count_max) {
        let (Some(action), Some(source)) = (nodes.get(flow.action_at), nodes.get(flow.source_at)) else {
            continue;
        };
        table.row(vec![
            flow.seq.to_string(),
            visible(&action.label),
            action.state.unwrap_or("-").to_owned(),
            visible(&format!("{} {}", flow.trust.as_str(), source.label)),
            flow.confidence.as_str().to_owned(),
            visible(&path_words(&flow.path, flow.hops_omitted, &labels)),
        ]);
    }
    let mut text = String::from("what came from sources that nobody vouches for\n");
    if sure.is_empty() {
        text.push_str("  nothing that is stated or follows from what is stated\n");
    } else {
        text.push_str(&(table.lines(200).join("\n") + "\n"));
    }
    if sure.len() > count_max {
        text.push_str(&format!("  and {} more\n", sure.len() - count_max));
    }
    let order = seen + flow.flows_omitted;
    if order > 0 {
        text.push_str(&format!(
            "  {order} more where only the order is known: `graph --downstream-of SOURCE` lists them\n"
        ));
    }
    if flow.sources_omitted > 0 {
        text.push_str(&format!("  {} such sources were not followed\n", flow.sources_omitted));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_by_itself_brings_its_colours() {
        let svg = standalone("<svg class=\"graph\">\n<g></g></svg>");
        assert!(
            svg.starts_with("<svg class=\"graph\">\n<style>\n") && svg.contains(".effect-block"),
            "{svg}"
        );
        assert!(svg.ends_with("</style>\n<g></g></svg>"), "{svg}");
        assert!(!PICTURE_STYLE.contains('<') && !PICTURE_STYLE.contains('&'), "it is XML text");
    }
}
