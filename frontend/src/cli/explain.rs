//! `optc explain`: which channels of a model can be removed, what goes with them, and what stands in the way.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use optc_ir::{Graph, NodeId};
use optc_passes::Analysis;
use optc_passes::analysis::channels::{ChannelGroups, Limit, Place, unshare};
use serde::Serialize;

use super::args::{Binding, TalkArgs};
use super::session::{self, Talk};
use crate::error::Error;
use crate::report::table::{Align, Table};
use crate::report::to_json;

/// Explain.
#[derive(Debug, Args)]
#[command(
    long_about = "Show the groups of channels that can only be removed together: which layers make them, which \
nodes tie them, who reads them, what limits how many can go, and which node blocks those that can't go. With \
--node the groups that a node makes and reads, in full; without it all groups of the model in a table.",
    after_help = "Example:\n  optc explain resnet50.onnx --node /layer1/conv1/Conv\n  optc explain resnet50.onnx --json | jq '.groups[] | select(.blocked_by)'"
)]
pub struct ExplainArgs {
    /// The model: .onnx, .optc or .ir
    pub model: PathBuf,
    /// The node to explain
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Take the graph as it is in the file; otherwise it is simplified first, as is best before pruning
    #[arg(long)]
    pub as_is: bool,
    /// Fix an open dimension, such as N=1; may be given several times
    #[arg(long, value_name = "DIM=N", value_delimiter = ',')]
    pub bind: Vec<Binding>,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

#[derive(Serialize)]
struct Report {
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodeRow>,
    /// In topological order, by which `id` counts; with a node, only those it makes or reads.
    groups: Vec<GroupRow>,
    /// Convolutions, matrix products and recurrent layers with weights none of whose channels can go.
    fixed_layers: Vec<FixedRow>,
}

#[derive(Serialize)]
struct NodeRow {
    name: String,
    op: String,
    #[serde(rename = "type")]
    ty: String,
    /// The groups of the channels it gives.
    makes: BTreeSet<usize>,
    /// The groups of the channels it sums over.
    reads: BTreeSet<usize>,
}

#[derive(Serialize)]
struct GroupRow {
    id: usize,
    channels: usize,
    removable: usize,
    /// Whether `prune-filters` takes the group into account.
    prunable: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
    /// The first node that keeps channels, if some are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_by: Option<Reason>,
    made_by: Vec<PlaceRow>,
    tied_by: Vec<Reason>,
    through: Vec<String>,
    read_by: Vec<PlaceRow>,
    limits: Vec<String>,
}

#[derive(Serialize)]
struct Reason {
    node: String,
    op: String,
    reason: &'static str,
}

#[derive(Serialize)]
struct PlaceRow {
    node: String,
    op: String,
    /// The type of the operand that the channels are an axis of.
    operand: String,
    axis: usize,
    /// Indices of that axis that one channel is.
    indices: usize,
}

#[derive(Serialize)]
struct FixedRow {
    node: String,
    op: String,
    reason: String,
}

pub(super) fn explain(args: &ExplainArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let (mut model, _) = session::open(&args.model, &args.bind, &talk)?;
    if !args.as_is {
        model.simplify(0)?;
        model.graph.gc();
    }
    let mut graph = model.graph;
    unshare(&mut graph);
    let groups = ChannelGroups::of(&graph);
    let node = args.node.as_deref().map(|name| find(&graph, name, args.as_is)).transpose()?;
    let report = describe(&graph, &groups, args.model.display().to_string(), node);
    let text = match (talk.json, &report.node) {
        (true, _) => to_json(&report),
        (false, Some(node)) => page(&report, node, &talk),
        (false, None) => table(&report, &talk),
    };
    session::print(text.as_bytes())
}

fn find(graph: &Graph, name: &str, as_is: bool) -> Result<NodeId, Error> {
    if let Some(node) = graph.nodes().find(|&node| graph.name(node) == name) {
        return Ok(node);
    }
    let alike = graph.topo_order().into_iter().map(|node| graph.name(node)).filter(|known| known.contains(name));
    let alike: Vec<&str> = alike.take(5).collect();
    let hint = match (alike.as_slice(), as_is) {
        ([], false) => "simplifying may have removed it: --as-is looks at the graph as it is in the file".to_owned(),
        ([], true) => "optc inspect lists the layers".to_owned(),
        (names, _) => format!("there is {}", names.join(", ")),
    };
    Err(Error::Usage(format!("there is no node {name}; {hint}")))
}

fn describe(graph: &Graph, groups: &ChannelGroups, model: String, node: Option<NodeId>) -> Report {
    let row = |node: NodeId| NodeRow {
        name: graph.name(node).to_owned(),
        op: graph.op(node).name().to_owned(),
        ty: graph.ty(node).to_string(),
        makes: groups.given_by(graph, node),
        reads: groups.ended_by(node),
    };
    let node = node.map(row);
    let shown = |id: &usize| node.as_ref().is_none_or(|node| node.makes.contains(id) || node.reads.contains(id));
    let rows = (0..groups.groups.len()).filter(shown).map(|id| group(graph, groups, id)).collect();
    let fixed_layers = groups.fixed_layers(graph).into_iter().map(|(node, reason)| FixedRow {
        node: graph.name(node).to_owned(),
        op: graph.op(node).name().to_owned(),
        reason: reason.map_or_else(
            || "it has one channel".to_owned(),
            |blocker| format!("{} {}", graph.name(blocker.node), blocker.reason),
        ),
    });
    let fixed_layers = fixed_layers.filter(|row| node.as_ref().is_none_or(|node| node.name == row.node)).collect();
    Report { model, node, groups: rows, fixed_layers }
}

fn group(graph: &Graph, groups: &ChannelGroups, id: usize) -> GroupRow {
    let group = &groups.groups[id];
    let explanation = groups.explain(graph, id);
    let reason = |node: NodeId, reason: &'static str| Reason {
        node: graph.name(node).to_owned(),
        op: graph.op(node).name().to_owned(),
        reason,
    };
    let place = |place: &Place| PlaceRow {
        node: graph.name(place.node).to_owned(),
        op: graph.op(place.node).name().to_owned(),
        operand: graph.operand(place.node, place.slot).map(|v| graph.ty(v).to_string()).unwrap_or_default(),
        axis: place.axis,
        indices: place.indices,
    };
    let limit = |limit: &Limit| match limit {
        Limit::Within(outer) => format!("these are the places within each of group {outer}"),
        Limit::Parts(node, parts) => {
            format!("{} works on {parts} parts: whole ones go, or as many channels of each", graph.name(*node))
        }
        Limit::Statistics(node) => format!("{} normalises over them: the rest changes with them", graph.name(*node)),
    };
    let why_not = groups.obstacle(graph, id);
    GroupRow {
        id,
        channels: group.units.len() + group.kept,
        removable: group.units.len(),
        prunable: why_not.is_none(),
        why_not,
        blocked_by: group.blocker.map(|blocker| reason(blocker.node, blocker.reason)),
        made_by: explanation.made_by.iter().map(place).collect(),
        tied_by: explanation.tied_by.iter().map(|tie| reason(tie.node, tie.reason)).collect(),
        through: explanation.through.iter().map(|&node| graph.name(node).to_owned()).collect(),
        read_by: explanation.read_by.iter().map(place).collect(),
        limits: explanation.limits.iter().map(limit).collect(),
    }
}

/// One node and its groups, in full.
fn page(report: &Report, node: &NodeRow, talk: &Talk) -> String {
    let mut text = format!("{}  {} : {}\n", talk.style.bold(&node.name), node.op, node.ty);
    if report.groups.is_empty() {
        text += "\nNo channels that could be removed run through it.\n";
    }
    for row in &report.fixed_layers {
        text += &format!("\nNone of its channels can be removed: {}.\n", row.reason);
    }
    for (what, ids) in [("makes", &node.makes), ("reads", &node.reads)] {
        for row in report.groups.iter().filter(|row| ids.contains(&row.id)) {
            let title = format!("{what} group {}", row.id);
            text += &format!(
                "\n{}: {} channels, {} can be removed\n",
                talk.style.bold(&title),
                row.channels,
                row.removable
            );
            text += &details(row, talk);
        }
    }
    text
}

fn details(row: &GroupRow, talk: &Talk) -> String {
    let mut facts = Table::new(talk.style, &[("", Align::Left), ("", Align::Left), ("", Align::Left)]);
    let mut count = 0;
    let mut list = |what: &str, rows: Vec<[String; 2]>| {
        for (i, [a, b]) in rows.into_iter().enumerate() {
            facts.row([if i == 0 { what.to_owned() } else { String::new() }, a, b]);
            count += 1;
        }
    };
    let place = |row: &PlaceRow| {
        let each = if row.indices > 1 { format!(", {} indices a channel", row.indices) } else { String::new() };
        [row.node.clone(), format!("{}: axis {} of {}{each}", row.op, row.axis, row.operand)]
    };
    let reason = |row: &Reason| [row.node.clone(), format!("{}: {}", row.op, row.reason)];
    list("made by", row.made_by.iter().map(place).collect());
    list("tied by", row.tied_by.iter().map(reason).collect());
    list("read by", row.read_by.iter().map(place).collect());
    if !row.through.is_empty() {
        let names: Vec<&str> =
            row.through.iter().map(String::as_str).take(if talk.verbose() { usize::MAX } else { 6 }).collect();
        let more = row.through.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        list("runs through", vec![[format!("{}{more}", names.join(", ")), String::new()]]);
    }
    list("limits", row.limits.iter().map(|limit| [limit.clone(), String::new()]).collect());
    list("blocked by", row.blocked_by.iter().map(reason).collect());
    list("not pruned", row.why_not.iter().map(|why| [why.clone(), String::new()]).collect());
    if count == 0 {
        return String::new();
    }
    facts.render().lines().skip(2).map(|line| format!("{}\n", line.trim_end())).collect()
}

/// All groups, one a line.
fn table(report: &Report, talk: &Talk) -> String {
    let columns = [
        ("group", Align::Right),
        ("channels", Align::Right),
        ("removable", Align::Right),
        ("made by", Align::Left),
        ("layers", Align::Right),
        ("readers", Align::Right),
        ("what stands in the way", Align::Left),
    ];
    let mut table = Table::new(talk.style, &columns);
    for row in report.groups.iter().filter(|row| !row.made_by.is_empty()) {
        let made = row.made_by.first().map(|place| place.node.clone()).unwrap_or_default();
        let why = match (&row.why_not, &row.blocked_by) {
            (Some(why), _) => why.clone(),
            (None, Some(reason)) => format!("{} {}", reason.node, reason.reason),
            (None, None) => String::new(),
        };
        table.row([
            row.id.to_string(),
            row.channels.to_string(),
            row.removable.to_string(),
            made,
            row.made_by.len().to_string(),
            row.read_by.len().to_string(),
            why,
        ]);
    }
    let mut text = format!("{}\n\n{}", talk.style.bold(&report.model), table.render());
    if !report.fixed_layers.is_empty() {
        text += &format!("\n{}\n", talk.style.bold("Layers none of whose channels can be removed"));
        let mut fixed = Table::new(talk.style, &[("layer", Align::Left), ("op", Align::Left), ("why", Align::Left)]);
        for row in &report.fixed_layers {
            fixed.row([row.node.clone(), row.op.clone(), row.reason.clone()]);
        }
        text += &fixed.render();
    }
    text
}
