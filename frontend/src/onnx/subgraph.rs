//! The graphs in the attributes of a node: which outer values they use, and how to rename those.
//!
//! Within a graph a name means what the innermost graph around it defines; what none defines is captured
//! from outside. The order of captured names is that of their first use, so import and export agree on it
//! without writing it down.

use std::collections::{HashMap, HashSet};

use onnx_protobuf::{GraphProto, NodeProto, SparseTensorProto};

/// The graphs of a node, in order.
pub(super) fn graphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attr| attr.g.iter().chain(&attr.graphs))
}

/// As [`graphs`], to change.
pub(super) fn graphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute.iter_mut().flat_map(|attr| attr.g.as_mut().into_iter().chain(&mut attr.graphs))
}

/// The name of a sparse tensor is that of its values.
pub(super) fn sparse_name(sparse: &SparseTensorProto) -> &str {
    sparse.values.as_ref().map_or("", |values| &values.name)
}

/// Every name a graph itself defines.
pub(super) fn definitions(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let inputs = graph.input.iter().map(|info| info.name.as_str());
    let tensors = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let sparse = graph.sparse_initializer.iter().map(sparse_name);
    let outputs = graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str));
    inputs.chain(tensors).chain(sparse).chain(outputs)
}

/// The outer values the graphs of a node use, each once, in order of first use.
pub(super) fn captured(node: &NodeProto) -> Vec<String> {
    let mut found = Captures { names: Vec::new(), seen: HashSet::new() };
    let mut scopes = Vec::new();
    for graph in graphs(node) {
        found.graph(graph, &mut scopes);
    }
    found.names
}

struct Captures {
    names: Vec<String>,
    seen: HashSet<String>,
}

impl Captures {
    fn graph<'a>(&mut self, graph: &'a GraphProto, scopes: &mut Vec<HashSet<&'a str>>) {
        scopes.push(definitions(graph).collect());
        for node in &graph.node {
            for name in &node.input {
                self.used(name, scopes);
            }
            for inner in graphs(node) {
                self.graph(inner, scopes);
            }
        }
        for info in &graph.output {
            self.used(&info.name, scopes);
        }
        scopes.pop();
    }

    fn used(&mut self, name: &str, scopes: &[HashSet<&str>]) {
        let local = name.is_empty() || scopes.iter().any(|scope| scope.contains(name));
        if !local && self.seen.insert(name.to_owned()) {
            self.names.push(name.to_owned());
        }
    }
}

/// A node as the graph carries it: without the names of outer values, which are for the graph to give. Inputs
/// are only counted, outputs numbered (empty where absent), captured values numbered in order of first use.
/// The second part is the names of the captured values. Takes the attributes out of the node.
pub(super) fn pack(node: &mut NodeProto) -> (NodeProto, Vec<String>) {
    let captured = captured(node);
    let mut packed = NodeProto { attribute: std::mem::take(&mut node.attribute), ..node.clone() };
    packed.input = vec![String::new(); node.input.len()];
    for (i, output) in packed.output.iter_mut().enumerate().filter(|(_, output)| !output.is_empty()) {
        *output = i.to_string();
    }
    let mut inner = HashSet::new();
    inner_names(&packed, &mut inner);
    let mut prefix = "outer".to_owned();
    while inner.iter().any(|name| name.starts_with(&prefix)) {
        prefix.push('_');
    }
    let numbered = captured.iter().enumerate().map(|(i, name)| (name.clone(), format!("{prefix}{i}")));
    rename_captured(&mut packed, &numbered.collect());
    (packed, captured)
}

/// The inverse of [`pack`]: puts the names of outer values into a node. `operands` are those of its inputs and
/// then of the captured values; `output` names a result.
pub(super) fn unpack(packed: &mut NodeProto, mut operands: Vec<String>, mut output: impl FnMut(usize) -> String) {
    let captured = captured(packed);
    operands.resize(packed.input.len() + captured.len(), String::new());
    let outer = operands.split_off(packed.input.len());
    rename_captured(packed, &captured.into_iter().zip(outer).collect());
    packed.input = operands;
    for (result, name) in packed.output.iter_mut().enumerate().filter(|(_, name)| !name.is_empty()) {
        *name = output(result);
    }
}

/// Renames outer values in the graphs of a node.
fn rename_captured(node: &mut NodeProto, names: &HashMap<String, String>) {
    for graph in graphs_mut(node) {
        rename_in_graph(graph, names);
    }
}

fn rename_in_graph(graph: &mut GraphProto, names: &HashMap<String, String>) {
    let mut names = names.clone();
    for name in definitions(graph) {
        names.remove(name);
    }
    let rename = |name: &mut String| {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    };
    for node in &mut graph.node {
        node.input.iter_mut().for_each(rename);
        rename_captured(node, &names);
    }
    for info in &mut graph.output {
        rename(&mut info.name);
    }
}

/// Operators whose outputs after the first are made in training only.
const TRAINED: &[&str] = &["Dropout", "BatchNormalization"];

/// Takes outputs that nothing reads from nodes that have them for training only; models often name them.
/// `results` are the names that are read from outside.
pub(super) fn drop_training_outputs<'n>(nodes: &mut [NodeProto], results: impl Iterator<Item = &'n String>) {
    let trained = |node: &NodeProto| TRAINED.contains(&node.op_type.as_str()) && node.output.len() > 1;
    if !nodes.iter().any(trained) {
        return;
    }
    let mut read: HashSet<String> = results.cloned().collect();
    for node in nodes.iter() {
        read.extend(node.input.iter().cloned());
        read.extend(captured(node));
    }
    for node in nodes.iter_mut().filter(|node| trained(node)) {
        if node.output[1..].iter().all(|name| !read.contains(name)) {
            node.output.truncate(1);
        }
    }
}

/// Adds every name that graphs of a node define, at any depth: an outer value must not take it.
pub(super) fn inner_names(node: &NodeProto, names: &mut HashSet<String>) {
    for graph in graphs(node) {
        names.extend(definitions(graph).map(str::to_owned));
        for node in &graph.node {
            inner_names(node, names);
        }
    }
}
