//! One node of the graph as the operator table sees it on export, and the ONNX nodes it becomes.

use std::collections::{HashMap, HashSet};

use onnx_protobuf::{AttributeProto, NodeProto, TensorProto};
use optc_ir::{DType, Data, Graph, NodeId, Tensor, TensorType, ValueId};

use super::error::{ExportError, ExportErrorKind};
use super::{attrs, tensor};

/// The part of an ONNX graph written so far.
pub(super) struct Body {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) initializers: Vec<TensorProto>,
    /// Every value name in use.
    pub(super) names: HashSet<String>,
    /// The version of the standard operators.
    pub(super) opset: i64,
    /// Before version 4 of the format every initializer is an input that the caller may override: the
    /// constants that were such inputs. All others become `Constant` nodes there.
    pub(super) overridable: Option<HashSet<String>>,
}

impl Body {
    /// A value name nobody uses yet, like `name`.
    pub(super) fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        let mut n = 1;
        while unique.is_empty() || !self.names.insert(unique.clone()) {
            unique = format!("{name}_{n}");
            n += 1;
        }
        unique
    }

    /// Adds a constant whose name is taken already.
    pub(super) fn add_constant(&mut self, proto: TensorProto) {
        if self.overridable.as_ref().is_some_and(|names| !names.contains(&proto.name)) {
            let name = proto.name.clone();
            self.nodes.push(NodeProto {
                name: name.clone(),
                op_type: "Constant".to_owned(),
                output: vec![name],
                attribute: vec![attrs::tensor("value", proto)],
                ..NodeProto::default()
            });
        } else {
            self.initializers.push(proto);
        }
    }
}

/// A node to write: names of its operands and results, and where to write.
pub(super) struct Target<'a> {
    pub(super) graph: &'a Graph,
    pub(super) node: NodeId,
    pub(super) opset: i64,
    /// Value names of the operands by slot; empty where absent.
    pub(super) inputs: Vec<String>,
    /// Value names of the results.
    pub(super) outputs: Vec<String>,
    /// Names of all values written so far.
    names: &'a HashMap<ValueId, String>,
    body: &'a mut Body,
    first: usize,
}

impl<'a> Target<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        node: NodeId,
        inputs: Vec<String>,
        outputs: Vec<String>,
        names: &'a HashMap<ValueId, String>,
        body: &'a mut Body,
    ) -> Target<'a> {
        let (opset, first) = (body.opset, body.nodes.len());
        Target { graph, node, opset, inputs, outputs, names, body, first }
    }

    /// The name of a value written before; empty for none.
    pub(super) fn name_of(&self, value: Option<ValueId>) -> String {
        value.and_then(|value| self.names.get(&value)).cloned().unwrap_or_default()
    }

    /// Writes the node as one ONNX node on all operands and results.
    pub(super) fn emit(&mut self, op_type: &str, attrs: Vec<AttributeProto>) {
        self.emit_on(op_type, self.inputs.clone(), attrs);
    }

    /// Writes the node as one ONNX node on other operands.
    pub(super) fn emit_on(&mut self, op_type: &str, inputs: Vec<String>, attrs: Vec<AttributeProto>) {
        self.step(op_type, inputs, self.outputs.clone(), attrs);
    }

    /// Writes one ONNX node of several. The first takes the name of the node.
    pub(super) fn step(
        &mut self,
        op_type: &str,
        mut inputs: Vec<String>,
        mut outputs: Vec<String>,
        attrs: Vec<AttributeProto>,
    ) {
        for names in [&mut inputs, &mut outputs] {
            while names.last().is_some_and(String::is_empty) {
                names.pop();
            }
        }
        let own = self.graph.name(self.node);
        let written = self.body.nodes[self.first..].iter().filter(|node| node.op_type != "Constant").count();
        let name = if written == 0 { own.to_owned() } else { format!("{own}.{written}") };
        self.body.nodes.push(NodeProto {
            name,
            op_type: op_type.to_owned(),
            input: inputs,
            output: outputs,
            attribute: attrs,
            ..NodeProto::default()
        });
    }

    /// Writes one ONNX node of several with one result, and gives that a name.
    pub(super) fn inner(&mut self, op_type: &str, inputs: &[&str], attrs: Vec<AttributeProto>) -> String {
        let name = self.body.unique(&format!("{}.{}", self.graph.name(self.node), op_type.to_lowercase()));
        let inputs = inputs.iter().map(|&name| name.to_owned()).collect();
        self.step(op_type, inputs, vec![name.clone()], attrs);
        name
    }

    /// Writes the last ONNX node of several: it gives the first result.
    pub(super) fn last(&mut self, op_type: &str, inputs: &[&str], attrs: Vec<AttributeProto>) {
        let inputs = inputs.iter().map(|&name| name.to_owned()).collect();
        self.step(op_type, inputs, vec![self.outputs[0].clone()], attrs);
    }

    /// Adds a constant operand.
    pub(super) fn constant(&mut self, suffix: &str, value: &Tensor) -> String {
        let name = self.body.unique(&format!("{}.{suffix}", self.graph.name(self.node)));
        self.body.add_constant(tensor::encode(&name, value.shape(), value.data()));
        name
    }

    /// Adds a 1-D i64 constant operand.
    pub(super) fn int_list(&mut self, suffix: &str, ints: &[i64]) -> String {
        self.constant(suffix, &Tensor::i64([ints.len()], ints))
    }

    /// Adds a scalar constant of an element type.
    pub(super) fn scalar(&mut self, suffix: &str, dtype: DType, value: f64) -> String {
        self.constant(suffix, &Tensor::new([], Data::from_f64(dtype, [value])))
    }

    /// Name of operand `slot`; empty if absent.
    pub(super) fn input(&self, slot: usize) -> String {
        self.inputs.get(slot).cloned().unwrap_or_default()
    }

    /// Whether operand `slot` is present.
    pub(super) fn has(&self, slot: usize) -> bool {
        self.inputs.get(slot).is_some_and(|name| !name.is_empty())
    }

    /// The type of operand `slot`, if present and known.
    pub(super) fn ty(&self, slot: usize) -> Option<&'a TensorType> {
        self.graph.ty(self.graph.operand(self.node, slot)?).as_tensor()
    }

    /// The number of axes of operand `slot`, if known.
    pub(super) fn rank(&self, slot: usize) -> Option<usize> {
        self.ty(slot).map(TensorType::rank)
    }

    /// The element type of the first result, `f32` if unknown.
    pub(super) fn dtype(&self) -> DType {
        self.graph.ty(self.node).dtype().unwrap_or(DType::F32)
    }

    /// The integers of constant operand `slot`, which older opsets write as an attribute.
    pub(super) fn constant_ints(&self, slot: usize, what: &str, need: i64) -> Result<Vec<i64>, ExportError> {
        let constant = self.graph.constant_operand(self.node, slot);
        let ints = constant.and_then(|constant| constant.decode().data().to_i64());
        ints.ok_or_else(|| self.too_old(what, need))
    }

    /// The number that is constant operand `slot`, which older opsets write as an attribute.
    pub(super) fn constant_number(&self, slot: usize, what: &str, need: i64) -> Result<f64, ExportError> {
        let constant = self.graph.constant_operand(self.node, slot);
        let number = constant.filter(|constant| constant.len() == 1).map(|constant| constant.decode().data().to_f64());
        number.and_then(|v| v.first().copied()).ok_or_else(|| self.too_old(what, need))
    }

    /// `axis` as opsets before 11 write it: not negative, where the rank is known.
    pub(super) fn axis(&self, axis: i64, rank: Option<usize>) -> i64 {
        match rank {
            Some(rank) if axis < 0 && self.opset < 11 => axis.saturating_add(attrs::i64_of(rank)),
            _ => axis,
        }
    }

    /// Axes as opsets before 11 write them.
    pub(super) fn axes(&self, axes: &[i64], rank: Option<usize>) -> Vec<i64> {
        axes.iter().map(|&axis| self.axis(axis, rank)).collect()
    }

    /// Fails unless the model's opset is `since` or newer.
    pub(super) fn need(&self, what: &str, since: i64) -> Result<(), ExportError> {
        if self.opset >= since { Ok(()) } else { Err(self.too_old(what, since)) }
    }

    /// An error that the model's opset lacks something.
    pub(super) fn too_old(&self, what: &str, need: i64) -> ExportError {
        self.fail(ExportErrorKind::Opset { what: what.to_owned(), need, have: self.opset })
    }

    /// An error that ONNX lacks something.
    pub(super) fn inexpressible(&self, what: impl Into<String>) -> ExportError {
        self.fail(ExportErrorKind::Inexpressible(what.into()))
    }

    fn fail(&self, kind: ExportErrorKind) -> ExportError {
        let op = self.graph.op(self.node).name().to_owned();
        ExportError { node: Some(self.graph.name(self.node).to_owned()), op, kind }
    }
}
