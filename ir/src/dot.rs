//! Graphs as pictures, in the language of Graphviz: `dot -Tsvg`.
//!
//! One box a node with its operator, name and attributes; an edge is labelled with the type of the
//! value it carries. Constants are lines in the boxes of their users, and opaque nodes are dashed.

use std::fmt::Write;

use crate::graph::{Graph, NodeId};
use crate::op::Op;
use crate::text::{Name, PrintOptions, Printer};

/// The graph in the DOT language.
pub fn to_dot(graph: &Graph) -> String {
    let printer = Printer::new(graph, &PrintOptions { max_elements: 4 });
    let mut out = format!("digraph {} {{\n", quoted(&graph.name));
    push(&mut out, "  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"Helvetica\"];\n");
    push(&mut out, "  edge [fontname=\"Helvetica\", fontsize=10];\n");
    for node in graph.nodes().filter(|&node| !is_constant(graph, node)) {
        let style = match graph.op(node) {
            Op::Input(_) | Op::Return(_) => ", shape=ellipse, fillcolor=lightgrey",
            Op::Opaque(_) => ", style=\"dashed,filled\", fillcolor=lightyellow",
            _ => "",
        };
        push(&mut out, &format!("  {node} [label={}{style}];\n", quoted(&label(graph, &printer, node))));
    }
    for node in graph.nodes() {
        for (slot, value) in graph.operands(node).into_iter().enumerate() {
            let Some(value) = value.filter(|value| !is_constant(graph, value.node)) else { continue };
            let ty = quoted(&graph.ty(value).to_string());
            // Where operands of one node could be confused, the head says which one the edge is.
            let head = if graph.operands(node).len() > 1 { format!(", headlabel=\"{slot}\"") } else { String::new() };
            push(&mut out, &format!("  {} -> {node} [label={ty}{head}];\n", value.node));
        }
    }
    push(&mut out, "}\n");
    out
}

fn is_constant(graph: &Graph, node: NodeId) -> bool {
    matches!(graph.op(node), Op::Const(_) | Op::ConstHash(_))
}

/// The lines of a box: what the node is, then its constants.
fn label(graph: &Graph, printer: &Printer<'_>, node: NodeId) -> String {
    let op = graph.op(node);
    let mut lines = match op {
        Op::Input(_) => vec![format!("%{}", Name(graph.name(node)))],
        Op::Return(ret) => vec![format!("return {}", ret.names.join(", "))],
        Op::Opaque(opaque) if opaque.domain.is_empty() => vec![format!("opaque {}", opaque.op_type)],
        Op::Opaque(opaque) => vec![format!("opaque {}.{}", opaque.domain, opaque.op_type)],
        _ => vec![printer.operator(node)],
    };
    if !matches!(op, Op::Input(_) | Op::Return(_)) {
        lines.push(format!("%{}", Name(graph.name(node))));
    }
    let names = op.arity().names;
    for (slot, value) in graph.operands(node).into_iter().enumerate() {
        if let Some(value) = value.filter(|value| is_constant(graph, value.node)) {
            let line = printer.line(value.node);
            let payload = line.split_once(" = const ").map_or(line.as_str(), |(_, payload)| payload);
            match names.get(slot) {
                Some(name) => lines.push(format!("{name}: {payload}")),
                None => lines.push(payload.to_owned()),
            }
        }
    }
    lines.join("\n")
}

/// A string of the DOT language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn push(out: &mut String, text: &str) {
    out.write_str(text).expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    #[test]
    fn constants_are_folded_and_opaque_nodes_are_marked() {
        let text = r#"graph @"a \"b\""(%x: f32[N]) -> (y: ?) {
  %s = const f32[1] = [2]
  %o#0, %o#1 = opaque(%x, %s) {domain="d", type="T"} : ?, ?
  %e = elu(%o#1) {alpha=0.5} : ?
  return %e
}
"#;
        let dot = super::to_dot(&crate::text::parse(text).expect("valid"));
        let expected = r#"digraph "a \"b\"" {
  node [shape=box, style="rounded,filled", fillcolor=white, fontname="Helvetica"];
  edge [fontname="Helvetica", fontsize=10];
  n0 [label="return y", shape=ellipse, fillcolor=lightgrey];
  n1 [label="%x", shape=ellipse, fillcolor=lightgrey];
  n3 [label="opaque d.T\n%o\nf32[1] = [2]", style="dashed,filled", fillcolor=lightyellow];
  n4 [label="elu {alpha=0.5}\n%e"];
  n4 -> n0 [label="?"];
  n1 -> n3 [label="f32[N]", headlabel="0"];
  n3 -> n4 [label="?"];
}
"#;
        assert_eq!(dot, expected);
    }
}
