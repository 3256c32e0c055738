//! Functions of a model: operators defined by nodes. A call is replaced by the function's nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use onnx_protobuf::{AttributeProto, FunctionProto, ModelProto, NodeProto, OperatorSetIdProto};

use super::error::ImportErrorKind;
use super::subgraph;

/// Calls within calls.
pub(super) const MAX_CALL_DEPTH: usize = 48;

/// Domain, name and overload.
type Key = (String, String, String);

/// The functions of a model.
pub(super) struct Functions(HashMap<Key, Rc<FunctionProto>>);

/// `ai.onnx` is a second name of the standard domain.
pub(super) fn domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

fn key_of_node(node: &NodeProto) -> Key {
    (domain(&node.domain).to_owned(), node.op_type.clone(), node.overload.clone())
}

fn key_of_function(function: &FunctionProto) -> Key {
    (domain(&function.domain).to_owned(), function.name.clone(), function.overload.clone())
}

impl Functions {
    /// The functions of a model, by what calls them.
    ///
    /// # Errors
    /// If two have the same domain, name and overload.
    pub(super) fn of(model: &ModelProto) -> Result<Functions, ImportErrorKind> {
        let mut functions = HashMap::new();
        for function in &model.functions {
            if functions.insert(key_of_function(function), Rc::new(function.clone())).is_some() {
                let message = "is defined twice".to_owned();
                return Err(ImportErrorKind::Function { name: function.name.clone(), message });
            }
        }
        Ok(Functions(functions))
    }

    /// The function a node calls, if it calls one.
    pub(super) fn called_by(&self, node: &NodeProto) -> Option<Rc<FunctionProto>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&key_of_node(node)).cloned()
    }

    /// Whether a function and all it calls import no other versions of operators than these.
    pub(super) fn agree(&self, function: &FunctionProto, versions: &BTreeMap<String, i64>) -> bool {
        let mut reached = HashSet::from([key_of_function(function)]);
        let mut waiting = vec![Rc::new(function.clone())];
        while let Some(function) = waiting.pop() {
            let same = |import: &OperatorSetIdProto| {
                versions.get(domain(&import.domain)).is_none_or(|version| *version == import.version)
            };
            if !function.opset_import.iter().all(same) {
                return false;
            }
            for node in &function.node {
                self.reach(node, &mut reached, &mut waiting);
            }
        }
        true
    }

    /// Drops from a model the functions that none of these nodes reaches.
    pub(super) fn keep_reached<'a>(&self, model: &mut ModelProto, nodes: impl Iterator<Item = &'a NodeProto>) {
        let mut reached = HashSet::new();
        let mut waiting: Vec<Rc<FunctionProto>> = Vec::new();
        for node in nodes {
            self.reach(node, &mut reached, &mut waiting);
        }
        while let Some(function) = waiting.pop() {
            for node in &function.node {
                self.reach(node, &mut reached, &mut waiting);
            }
        }
        model.functions.retain(|function| reached.contains(&key_of_function(function)));
    }

    fn reach(&self, node: &NodeProto, reached: &mut HashSet<Key>, waiting: &mut Vec<Rc<FunctionProto>>) {
        if let Some(function) = self.called_by(node)
            && reached.insert(key_of_node(node))
        {
            waiting.push(function);
        }
        for graph in subgraph::graphs(node) {
            for node in &graph.node {
                self.reach(node, reached, waiting);
            }
        }
    }
}

/// Adds the domains of the operators in a node and the graphs within it.
pub(super) fn domains(node: &NodeProto, found: &mut BTreeSet<String>) {
    // The operator is the same in every version.
    if node.op_type != "Constant" {
        found.insert(domain(&node.domain).to_owned());
    }
    for graph in subgraph::graphs(node) {
        for node in &graph.node {
            domains(node, found);
        }
    }
}

/// The attributes a call gives to a function: its own, and the function's defaults.
pub(super) fn call_attributes(call: &NodeProto, function: &FunctionProto) -> HashMap<String, AttributeProto> {
    let given = function.attribute_proto.iter().chain(&call.attribute);
    given.map(|attr| (attr.name.clone(), attr.clone())).collect()
}

/// Puts the values of a call in the place of references to attributes of the function, in a node and the
/// graphs within it. A reference to an attribute that the call leaves out vanishes.
pub(super) fn substitute(node: &mut NodeProto, values: &HashMap<String, AttributeProto>) {
    node.attribute.retain_mut(|attr| {
        if attr.ref_attr_name.is_empty() {
            return true;
        }
        let Some(value) = values.get(&attr.ref_attr_name) else { return false };
        let name = std::mem::take(&mut attr.name);
        *attr = AttributeProto { name, ..value.clone() };
        true
    });
    for graph in subgraph::graphs_mut(node) {
        for node in &mut graph.node {
            substitute(node, values);
        }
    }
}
