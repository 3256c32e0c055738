//! Graphs to text.

use std::collections::HashMap;
use std::fmt::{self, Write};

use super::value::Element;
use super::{Name, Quoted, encoding};
use crate::constant::Constant;
use crate::graph::{Graph, NodeId, ValueId};
use crate::op::infer::MAX_CONTENTS;
use crate::op::{AttrValue, ConstHash, Op, Opaque};
use crate::tensor::Data;
use crate::with_elements;

/// How much of the constants to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrintOptions {
    /// Constants of more elements are replaced by their hash, unless all elements are equal. The bytes
    /// of an opaque node are left out if there are more of them than this.
    pub max_elements: usize,
}

impl PrintOptions {
    /// Everything: what parses back to an equal graph.
    pub fn lossless() -> PrintOptions {
        PrintOptions { max_elements: usize::MAX }
    }
}

impl Default for PrintOptions {
    /// Up to 16 elements.
    fn default() -> PrintOptions {
        PrintOptions { max_elements: 16 }
    }
}

/// More equal elements than this are written `splat(x)`.
const MAX_EQUAL_LISTED: usize = 4;

/// The text of a graph.
pub fn print(graph: &Graph, options: &PrintOptions) -> String {
    Printer::new(graph, options).graph()
}

/// As [`print()`] with the default options.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(self, &PrintOptions::default()))
    }
}

/// Prints parts of one graph.
#[derive(Debug)]
pub struct Printer<'a> {
    graph: &'a Graph,
    options: PrintOptions,
    /// Of nodes a later result than the first of which is used: the last such result.
    last_used: HashMap<NodeId, u16>,
}

impl<'a> Printer<'a> {
    /// A printer of this graph as it is now.
    pub fn new(graph: &'a Graph, options: &PrintOptions) -> Printer<'a> {
        let mut last_used = HashMap::new();
        for value in graph.nodes().flat_map(|node| graph.operands(node)).flatten() {
            if value.result > 0 {
                let last = last_used.entry(value.node).or_insert(value.result);
                *last = value.result.max(*last);
            }
        }
        Printer { graph, options: *options, last_used }
    }

    /// The whole graph. Nodes on a cycle, which no order can place, come last.
    pub fn graph(&self) -> String {
        let graph = self.graph;
        let mut out = String::new();
        let signature = graph.signature();
        let inputs: Vec<_> = signature.inputs.iter().map(|(name, ty)| format!("%{}: {ty}", Name(name))).collect();
        let results: Vec<_> = signature.results.iter().map(|(name, ty)| format!("{}: {ty}", Name(name))).collect();
        push(
            &mut out,
            format_args!("graph @{}({}) -> ({}) {{\n", Name(&graph.name), inputs.join(", "), results.join(", ")),
        );
        let mut order = graph.topo_order();
        if order.len() < graph.len() {
            let placed: std::collections::HashSet<_> = order.iter().copied().collect();
            order.extend(graph.nodes().filter(|node| !placed.contains(node)));
        }
        order.retain(|node| *node != graph.ret() && !graph.inputs().contains(node));
        for node in order.into_iter().chain([graph.ret()]) {
            push(&mut out, format_args!("  {}\n", self.line(node)));
        }
        out + "}\n"
    }

    /// The line of one node, without indentation.
    pub fn line(&self, node: NodeId) -> String {
        let mut out = String::new();
        let op = self.graph.op(node);
        if !matches!(op, Op::Return(_)) {
            let results: Vec<_> = (0..self.shown(node).max(1)).map(|i| self.value(node.result(i))).collect();
            push(&mut out, format_args!("{} = ", results.join(", ")));
        }
        match op {
            Op::Const(constant) => self.constant(&mut out, constant),
            Op::ConstHash(hash) => const_hash(&mut out, hash),
            Op::Return(_) => {
                out.push_str("return");
                let operands = self.operands(node);
                push(&mut out, format_args!("{}{operands}", if operands.is_empty() { "" } else { " " }));
            }
            _ => {
                push(&mut out, format_args!("{}({})", op.name(), self.operands(node)));
                write_fields(&mut out, &self.fields(node));
                push(&mut out, format_args!(" : {}", self.types(node)));
            }
        }
        out
    }

    /// The operator of a node and its attributes, without operands: `conv {strides=[2, 2]}`.
    pub fn operator(&self, node: NodeId) -> String {
        let mut out = self.graph.op(node).name().to_owned();
        write_fields(&mut out, &self.fields(node));
        out
    }

    /// A value as operand lists write it: `%split#1`.
    pub fn value(&self, value: ValueId) -> String {
        let name = Name(self.graph.name(value.node));
        match self.shown(value.node) {
            ..=1 if value.result == 0 => format!("%{name}"),
            _ => format!("%{name}#{}", value.result),
        }
    }

    /// How many results of a node are written: up to the last one used, of opaque nodes all, since
    /// nothing but the text tells their number.
    fn shown(&self, node: NodeId) -> usize {
        match self.graph.op(node) {
            Op::Opaque(opaque) => opaque.results.len(),
            _ => {
                let last = self.last_used.get(&node).copied().map_or(1, |last| usize::from(last) + 1);
                last.min(self.graph.result_count(node))
            }
        }
    }

    fn types(&self, node: NodeId) -> String {
        let shown = self.shown(node);
        match shown {
            0 => "()".to_owned(),
            _ => join((0..shown).map(|i| self.graph.ty(node.result(i)).to_string())),
        }
    }

    fn operands(&self, node: NodeId) -> String {
        let operands = self.graph.operands(node);
        join(operands.into_iter().map(|value| value.map_or("_".to_owned(), |value| self.value(value))))
    }

    fn fields(&self, node: NodeId) -> Vec<(&'static str, AttrValue)> {
        match self.graph.op(node) {
            Op::Opaque(opaque) => self.opaque_fields(opaque),
            op => op.fields(),
        }
    }

    fn opaque_fields(&self, opaque: &Opaque) -> Vec<(&'static str, AttrValue)> {
        let mut fields = vec![("type", AttrValue::Str(opaque.op_type.clone()))];
        if !opaque.domain.is_empty() {
            fields.insert(0, ("domain", AttrValue::Str(opaque.domain.clone())));
        }
        if !opaque.payload.is_empty() && opaque.payload.len() <= self.options.max_elements {
            let hex: String = opaque.payload.iter().map(|byte| format!("{byte:02x}")).collect();
            fields.push(("payload", AttrValue::Str(hex)));
        }
        fields
    }

    fn constant(&self, out: &mut String, constant: &Constant) {
        let max = self.options.max_elements;
        let encoding = encoding::describe(constant.encoding(), max);
        push(out, format_args!("const {}", constant.ty()));
        push(out, format_args!("{}{encoding}", if encoding.is_empty() { "" } else { " " }));
        let tensor = constant.decode();
        let listable = encoding::parameters(constant.encoding()) <= max;
        let hashed = if !listable {
            true
        } else if all_equal(tensor.data()) && tensor.len() > MAX_EQUAL_LISTED {
            with_elements!(tensor.data(), v => {
                out.push_str(" = splat(");
                v[0].write(out);
                out.push(')');
            });
            false
        } else {
            // Type rules read short lists of integers, so that types could not be told without them.
            let decides_types = tensor.rank() <= 1 && tensor.dtype().is_int() && tensor.len() <= MAX_CONTENTS;
            let listed = tensor.len() <= max || decides_types;
            if listed {
                out.push_str(" = [");
                with_elements!(tensor.data(), v => for (i, x) in v.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    x.write(out);
                });
                out.push(']');
            }
            !listed
        };
        if hashed {
            push(out, format_args!(" #{:08x}", constant.hash()));
        }
        if hashed || !encoding.is_empty() {
            let (nonzeros, len) = (constant.nonzeros(), constant.len());
            out.push_str("  // ");
            if nonzeros != len {
                push(out, format_args!("{nonzeros} of {len}, "));
            }
            push(out, format_args!("{} B", constant.stored_bytes()));
        }
    }
}

fn const_hash(out: &mut String, hash: &ConstHash) {
    push(out, format_args!("const {}", hash.ty));
    push(out, format_args!("{}{}", if hash.encoding.is_empty() { "" } else { " " }, hash.encoding));
    push(out, format_args!(" #{:08x}", hash.hash));
    push(out, format_args!("{}{}", if hash.note.is_empty() { "" } else { "  // " }, hash.note));
}

fn all_equal(data: &Data) -> bool {
    with_elements!(data, v => v.first().is_some_and(|first| v.iter().all(|x| x.same(*first))))
}

fn write_fields(out: &mut String, fields: &[(&'static str, AttrValue)]) {
    if !fields.is_empty() {
        let fields = join(fields.iter().map(|(key, value)| format!("{key}={}", attr(value))));
        push(out, format_args!(" {{{fields}}}"));
    }
}

pub(super) fn attr(value: &AttrValue) -> String {
    match value {
        AttrValue::Number(text) | AttrValue::Word(text) => text.clone(),
        AttrValue::Str(text) => Quoted(text).to_string(),
        AttrValue::List(items) => format!("[{}]", join(items.iter().map(attr))),
        AttrValue::Call(name, args) => format!("{name}({})", join(args.iter().map(attr))),
    }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn push(out: &mut String, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes any text");
}
