//! The verifier. Its list, checked in this order:
//!
//! 1. Every operand slot is filled at most once, by a result that exists.
//! 2. There is no cycle. There is one `return`, and it has a value for every name. The `input` nodes are
//!    exactly the inputs of the signature.
//! 3. Names are not empty, and no two nodes have the same; nor have two results of the graph.
//! 4. Operands fit their operator, and every type is what the type rule gives for them.
//! 5. The parts of every constant fit together: as many elements as the type says, codes within their
//!    tables, finite positive scales. Elements themselves may be anything, NaN included: what a model
//!    computes is its own business.
//!
//! Nodes that no result depends on are no error; [`Graph::gc`] removes them.

use std::collections::HashSet;

use crate::error::{VerifyError, VerifyErrors};
use crate::graph::{Graph, NodeId};
use crate::op::{Op, Return};
use crate::text::{Name, PrintOptions, Printer};
use crate::types::Type;

/// Checks every invariant of a graph.
///
/// # Errors
/// All invariants that are broken, in the order of the list above.
pub fn verify(graph: &Graph) -> Result<(), VerifyErrors> {
    let mut found = Vec::new();
    edges(graph, &mut found);
    let malformed: HashSet<NodeId> = found.iter().map(|(node, _)| *node).collect();
    structure(graph, &mut found);
    names(graph, &mut found);
    types(graph, &malformed, &mut found);
    constants(graph, &mut found);
    if found.is_empty() {
        return Ok(());
    }
    let printer = Printer::new(graph, &PrintOptions::default());
    let error = |(node, message)| VerifyError { node: graph.name(node).to_owned(), line: printer.line(node), message };
    Err(VerifyErrors(found.into_iter().map(error).collect()))
}

type Found = Vec<(NodeId, String)>;

fn edges(graph: &Graph, found: &mut Found) {
    for node in graph.nodes() {
        if let Some(slot) = graph.doubled_operand(node) {
            found.push((node, format!("operand {slot} is filled more than once")));
        }
        for (slot, value) in graph.operands(node).into_iter().enumerate() {
            if let Some(value) = value.filter(|value| usize::from(value.result) >= graph.result_count(value.node)) {
                let (name, count) = (Name(graph.name(value.node)), graph.result_count(value.node));
                found.push((node, format!("operand {slot} is result {} of %{name}, which has {count}", value.result)));
            }
        }
    }
}

fn structure(graph: &Graph, found: &mut Found) {
    if let Some(cycle) = cycle(graph) {
        let path: Vec<_> = cycle.iter().map(|&node| format!("%{}", Name(graph.name(node)))).collect();
        found.push((cycle[0], format!("depends on itself: {}", path.join(" <- "))));
    }
    let inputs: HashSet<NodeId> = graph.inputs().iter().copied().collect();
    for node in graph.nodes() {
        match graph.op(node) {
            Op::Return(ret) if node == graph.ret() => returned(graph, node, ret, found),
            Op::Return(_) => found.push((node, "there is another return".to_owned())),
            _ if node == graph.ret() => found.push((node, "the return of the graph is another operator".to_owned())),
            Op::Input(_) if !inputs.contains(&node) => {
                found.push((node, "not among the inputs of the graph".to_owned()))
            }
            op if inputs.contains(&node) && !matches!(op, Op::Input(_)) => {
                found.push((node, "an input of the graph is another operator".to_owned()));
            }
            _ => {}
        }
    }
}

fn returned(graph: &Graph, node: NodeId, ret: &Return, found: &mut Found) {
    let values = graph.operands(node);
    for (i, name) in ret.names.iter().enumerate() {
        if !matches!(values.get(i), Some(Some(_))) {
            found.push((node, format!("result {} has no value", Name(name))));
        }
    }
    if values.len() > ret.names.len() {
        found.push((node, format!("{} values for {} results", values.len(), ret.names.len())));
    }
}

/// Some cycle, each node an operand of the one before it, the first one again at the end.
fn cycle(graph: &Graph) -> Option<Vec<NodeId>> {
    let placed: HashSet<NodeId> = graph.topo_order().into_iter().collect();
    // A node that could not be placed waits for an operand that could not either, so walking from one to
    // the next must come back.
    let waiting = |node| graph.operands(node).into_iter().flatten().map(|v| v.node).find(|n| !placed.contains(n));
    let mut path = vec![graph.nodes().find(|node| !placed.contains(node))?];
    let mut visited: HashSet<NodeId> = path.iter().copied().collect();
    loop {
        let next = waiting(*path.last()?)?;
        path.push(next);
        if !visited.insert(next) {
            let start = path.iter().position(|&node| node == next)?;
            return Some(path.split_off(start));
        }
    }
}

fn names(graph: &Graph, found: &mut Found) {
    let mut seen = HashSet::new();
    for node in graph.nodes().filter(|&node| node != graph.ret()) {
        if graph.name(node).is_empty() {
            found.push((node, "the name is empty".to_owned()));
        } else if !seen.insert(graph.name(node)) {
            found.push((node, "another node has the same name".to_owned()));
        }
    }
    if let Op::Return(ret) = graph.op(graph.ret()) {
        let mut seen = HashSet::new();
        for (i, name) in ret.names.iter().enumerate() {
            if name.is_empty() {
                found.push((graph.ret(), format!("the name of result {i} is empty")));
            } else if !seen.insert(name) {
                found.push((graph.ret(), format!("two results are named {}", Name(name))));
            }
        }
    }
}

fn types(graph: &Graph, malformed: &HashSet<NodeId>, found: &mut Found) {
    for node in graph.nodes().filter(|node| !malformed.contains(node) && !matches!(graph.op(*node), Op::Return(_))) {
        match graph.infer(node) {
            Err(e) => found.push((node, e.to_string())),
            Ok(types) => {
                let stored: Vec<&Type> = (0..graph.result_count(node)).map(|i| graph.ty(node.result(i))).collect();
                if stored.iter().copied().ne(&types) {
                    let list = |types: &[&Type]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    let inferred = list(&types.iter().collect::<Vec<_>>());
                    found.push((node, format!("has type {}, its operands give {inferred}", list(&stored))));
                }
            }
        }
    }
}

fn constants(graph: &Graph, found: &mut Found) {
    for node in graph.nodes() {
        if let Some(constant) = graph.constant(node)
            && let Err(e) = constant.validate()
        {
            found.push((node, e.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Elu, Opaque, TopK, Unary};
    use crate::tensor::Tensor;
    use crate::types::DType;

    fn graph() -> (Graph, NodeId, NodeId) {
        let mut graph = Graph::new("g");
        let x = graph.add_input("x", Type::tensor(DType::F32, [2]));
        let a = graph.add("a", Elu::default(), &[Some(x.into())]).expect("fits");
        let b = graph.add("b", Elu::default(), &[Some(a.into())]).expect("fits");
        graph.add_result("y", b.into());
        verify(&graph).expect("nothing is wrong yet");
        (graph, a, b)
    }

    /// The messages, `node: message`.
    fn errors(graph: &Graph) -> Vec<String> {
        let errors = verify(graph).expect_err("something is wrong").0;
        errors.iter().map(|e| format!("{}: {}", e.node, e.message)).collect()
    }

    #[test]
    fn a_slot_filled_twice() {
        let (mut graph, a, b) = graph();
        graph.connect(a.into(), b, 0);
        assert_eq!(errors(&graph), ["b: operand 0 is filled more than once"]);
    }

    #[test]
    fn a_result_that_does_not_exist() {
        let (mut graph, a, b) = graph();
        let two = Opaque {
            domain: String::new(),
            op_type: "Two".to_owned(),
            results: vec![Type::Unknown; 2],
            payload: Vec::new(),
        };
        graph.set_op(a, Op::Opaque(two.into()));
        graph.set_operand(b, 0, Some(a.result(1)));
        graph.set_op(a, Elu::default());
        assert_eq!(errors(&graph), ["b: operand 0 is result 1 of %a, which has 1"]);
    }

    #[test]
    fn a_cycle() {
        let (mut graph, a, b) = graph();
        graph.set_operand(a, 0, Some(b.into()));
        assert_eq!(errors(&graph), ["b: depends on itself: %b <- %a <- %b"]);
    }

    #[test]
    fn a_second_return_and_a_lost_input() {
        let (mut graph, a, _) = graph();
        let input = graph.inputs()[0];
        graph.set_op(a, Op::Return(Return { names: vec!["z".to_owned()] }));
        graph.set_op(input, Elu::default());
        let errors = errors(&graph);
        assert!(errors.contains(&"a: there is another return".to_owned()), "{errors:?}");
        assert!(errors.contains(&"x: an input of the graph is another operator".to_owned()), "{errors:?}");
    }

    #[test]
    fn a_result_without_value() {
        let (mut graph, _, _) = graph();
        graph.set_operand(graph.ret(), 0, None);
        assert_eq!(errors(&graph), ["return: result y has no value"]);
    }

    #[test]
    fn two_results_of_one_name() {
        let (mut graph, a, _) = graph();
        graph.add_result("y", a.into());
        assert_eq!(errors(&graph), ["return: two results are named y"]);
    }

    #[test]
    fn an_operand_that_does_not_fit_any_more() {
        let (mut graph, a, _) = graph();
        graph.set_op(a, Op::Unary(Unary::Not));
        assert!(errors(&graph)[0].starts_with("a: "));
        let (mut graph, a, _) = graph_with_top_k();
        graph.set_operand(a, 1, None);
        assert_eq!(errors(&graph), ["a: operand 1 (k) is missing"]);
    }

    fn graph_with_top_k() -> (Graph, NodeId, NodeId) {
        let (mut graph, a, b) = graph();
        let k = graph.add_tensor("k", Tensor::i64([1], [1]));
        graph.set_operand(a, 1, Some(k.into()));
        graph.set_op(a, TopK::default());
        (graph, a, b)
    }
}
