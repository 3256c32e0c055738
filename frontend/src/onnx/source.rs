//! One ONNX node as the operator table sees it on import.

use onnx_protobuf::NodeProto;
use optc_ir::op::Op;
use optc_ir::{Dim, Graph, Tensor, TensorType, ValueId};

use super::attrs::{Attrs, Refusal};
use super::functions;

/// A node to translate: its attributes, its operands in the graph, and the opset it is written in.
pub(super) struct Source<'a> {
    /// The domain of the operator; empty for ONNX's own.
    pub(super) domain: &'a str,
    pub(super) op_type: &'a str,
    pub(super) opset: i64,
    pub(super) attrs: Attrs<'a>,
    pub(super) graph: &'a Graph,
    pub(super) operands: Vec<Option<ValueId>>,
    /// Operators that come before the node's last.
    pub(super) steps: Vec<Step>,
    outputs: &'a [String],
}

/// An operand of a translated node.
#[derive(Clone)]
pub(super) enum Arg {
    /// A value of the graph, or none.
    Value(Option<ValueId>),
    /// A constant that ONNX of that opset writes as an attribute. Named after the node and the operand.
    Constant(&'static str, Tensor),
    /// A result of a step before: which step, which result.
    Step(usize, usize),
}

/// One of several operators that a node becomes, before the last. Named after the node and what it is there.
pub(super) struct Step {
    pub(super) suffix: &'static str,
    pub(super) op: Op,
    pub(super) args: Vec<Arg>,
}

/// The translation of a node: the last operator gives its results.
pub(super) struct Mapped {
    pub(super) steps: Vec<Step>,
    pub(super) op: Op,
    pub(super) args: Vec<Arg>,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        node: &'a NodeProto,
        opset: i64,
        graph: &'a Graph,
        mut operands: Vec<Option<ValueId>>,
    ) -> Source<'a> {
        while operands.last() == Some(&None) {
            operands.pop();
        }
        Source {
            domain: functions::domain(&node.domain),
            op_type: &node.op_type,
            opset,
            attrs: Attrs::of(node),
            graph,
            operands,
            steps: Vec::new(),
            outputs: &node.output,
        }
    }

    /// The operator on all operands as they are.
    pub(super) fn direct(self, op: impl Into<Op>) -> Result<Mapped, Refusal> {
        let count = self.operands.len();
        self.first(count, op)
    }

    /// The operator on the first `count` operands.
    pub(super) fn first(self, count: usize, op: impl Into<Op>) -> Result<Mapped, Refusal> {
        let args = self.operands[..count.min(self.operands.len())].iter().copied().map(Arg::Value).collect();
        self.with(op, args)
    }

    /// The operator on these operands. Refused if an attribute was left unread.
    pub(super) fn with(self, op: impl Into<Op>, args: Vec<Arg>) -> Result<Mapped, Refusal> {
        self.attrs.finish()?;
        Ok(Mapped { steps: self.steps, op: op.into(), args })
    }

    /// Adds an operator before the last, and gives its first result.
    pub(super) fn step(&mut self, suffix: &'static str, op: impl Into<Op>, args: Vec<Arg>) -> Arg {
        self.steps.push(Step { suffix, op: op.into(), args });
        Arg::Step(self.steps.len() - 1, 0)
    }

    /// Operand `slot`, if present.
    pub(super) fn operand(&self, slot: usize) -> Option<ValueId> {
        self.operands.get(slot).copied().flatten()
    }

    /// Operand `slot` as it is, to pass on.
    pub(super) fn arg(&self, slot: usize) -> Arg {
        Arg::Value(self.operand(slot))
    }

    /// The type of operand `slot`, if it is present and known.
    pub(super) fn ty(&self, slot: usize) -> Option<&'a TensorType> {
        self.graph.ty(self.operand(slot)?).as_tensor()
    }

    /// Whether operand `slot` is present and certainly has no elements: how old opsets wrote "absent" for
    /// some operands.
    pub(super) fn is_empty(&self, slot: usize) -> bool {
        self.ty(slot).is_some_and(|ty| ty.shape.contains(&Dim::Fixed(0)))
    }

    /// The elements of operand `slot`, which this operator of the IR has as an attribute. `Ok(None)` if the
    /// operand is absent.
    pub(super) fn known_ints(&self, slot: usize, name: &str) -> Result<Option<Vec<i64>>, Refusal> {
        let Some(value) = self.operand(slot) else { return Ok(None) };
        let constant = self.graph.constant(value).and_then(|constant| constant.decode().data().to_i64());
        let known = || self.graph.contents(value)?.iter().map(|i| i.int()).collect();
        constant.or_else(known).map(Some).ok_or_else(|| Refusal(format!("{name} computed at run time")))
    }

    /// Whether output `result` of the node has a name, and so may be used.
    pub(super) fn wants(&self, result: usize) -> bool {
        self.outputs.get(result).is_some_and(|name| !name.is_empty())
    }

    /// Refuses the node if it has outputs beyond the first `count`.
    pub(super) fn at_most_outputs(&self, count: usize) -> Result<(), Refusal> {
        match (count..self.outputs.len()).find(|&i| self.wants(i)) {
            None => Ok(()),
            Some(i) => Err(Refusal(format!("output {i}"))),
        }
    }

    /// The number of outputs.
    pub(super) fn output_count(&self) -> usize {
        self.outputs.len()
    }
}
