//! Graphs written in code: values that know their graph, so that layers chain.
//!
//! For tests, examples and code whose graphs are right by construction; an operand that does not fit is
//! a panic here. Readers of files use [`Graph::add`] and report its errors.
//!
//! ```
//! use optc_ir::builder::GraphBuilder;
//! use optc_ir::{DType, Tensor};
//!
//! let g = GraphBuilder::new("twice");
//! let x = g.input("x", DType::F32, [2]);
//! let two = g.constant("two", Tensor::f32([1], [2.0]));
//! let y = x.mul(two).relu().id();
//! let graph = g.finish(&[("y", y)]);
//! assert_eq!(graph.len(), 5);
//! ```

use std::cell::RefCell;

use crate::graph::{Graph, ValueId};
use crate::op::{BatchNorm, Binary, Conv, Flatten, Linear, MatMul, MaxPool, Op, Reshape, Softmax, Transpose, Unary};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Type};

/// A graph under construction.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: RefCell<Graph>,
}

/// A value of a graph under construction.
#[derive(Clone, Copy, Debug)]
pub struct Value<'g> {
    builder: &'g GraphBuilder,
    id: ValueId,
}

impl GraphBuilder {
    /// A builder of a graph of this name.
    pub fn new(name: &str) -> GraphBuilder {
        GraphBuilder { graph: RefCell::new(Graph::new(name)) }
    }

    /// A graph input.
    pub fn input(&self, name: &str, dtype: DType, shape: impl IntoIterator<Item = impl Into<Dim>>) -> Value<'_> {
        self.value(self.graph.borrow_mut().add_input(name, Type::tensor(dtype, shape)))
    }

    /// A constant, kept densely.
    pub fn constant(&self, name: &str, tensor: Tensor) -> Value<'_> {
        self.value(self.graph.borrow_mut().add_tensor(name, tensor))
    }

    /// A node, named after its operator.
    ///
    /// # Panics
    /// If the operands do not fit.
    pub fn op(&self, op: impl Into<Op>, operands: &[Option<Value<'_>>]) -> Value<'_> {
        let op = op.into();
        let operands: Vec<Option<ValueId>> = operands.iter().map(|value| value.map(|value| value.id)).collect();
        let name = op.name().to_owned();
        let added = self.graph.borrow_mut().add(&name, op, &operands);
        self.value(added.unwrap_or_else(|e| panic!("{name}: {e}")))
    }

    /// The graph with these results.
    pub fn finish(self, results: &[(&str, ValueId)]) -> Graph {
        let mut graph = self.graph.into_inner();
        for (name, value) in results {
            graph.add_result(name, *value);
        }
        graph
    }

    fn value(&self, id: impl Into<ValueId>) -> Value<'_> {
        Value { builder: self, id: id.into() }
    }
}

impl<'g> Value<'g> {
    /// Where the value is in the graph.
    pub fn id(self) -> ValueId {
        self.id
    }

    /// The type.
    pub fn ty(self) -> Type {
        self.builder.graph.borrow().ty(self.id).clone()
    }

    /// Another result of the node that this is a result of.
    ///
    /// # Panics
    /// If the node has no such result.
    pub fn result(self, result: usize) -> Value<'g> {
        let count = self.builder.graph.borrow().result_count(self.id.node);
        assert!(result < count, "result {result} of a node that has {count}");
        self.builder.value(self.id.node.result(result))
    }

    /// The same value, its node renamed.
    pub fn named(self, name: &str) -> Value<'g> {
        self.builder.graph.borrow_mut().set_name(self.id.node, name);
        self
    }

    /// A node of this operand and others. Panics as [`GraphBuilder::op`].
    pub fn with(self, op: impl Into<Op>, others: &[Option<Value<'g>>]) -> Value<'g> {
        let operands: Vec<_> = [Some(self)].into_iter().chain(others.iter().copied()).collect();
        self.builder.op(op, &operands)
    }

    /// Convolution by `w` and perhaps a bias. Panics as [`GraphBuilder::op`], as all below.
    pub fn conv(self, w: Value<'g>, b: Option<Value<'g>>, attrs: Conv) -> Value<'g> {
        self.with(attrs, &[Some(w), b])
    }

    /// A fully connected layer by `w` and perhaps a bias.
    pub fn linear(self, w: Value<'g>, b: Option<Value<'g>>) -> Value<'g> {
        self.with(Linear::default(), &[Some(w), b])
    }

    /// The matrix product.
    pub fn matmul(self, b: Value<'g>) -> Value<'g> {
        self.with(MatMul::default(), &[Some(b)])
    }

    /// Normalisation by stored statistics.
    pub fn batch_norm(self, scale: Value<'g>, b: Value<'g>, mean: Value<'g>, var: Value<'g>) -> Value<'g> {
        self.with(BatchNorm::default(), &[Some(scale), Some(b), Some(mean), Some(var)])
    }

    /// Maximum over windows.
    pub fn max_pool(self, attrs: MaxPool) -> Value<'g> {
        self.with(attrs, &[])
    }

    /// An elementwise function.
    pub fn unary(self, op: Unary) -> Value<'g> {
        self.with(Op::Unary(op), &[])
    }

    /// max(0, x)
    pub fn relu(self) -> Value<'g> {
        self.unary(Unary::Relu)
    }

    /// An elementwise function of two values.
    pub fn binary(self, op: Binary, b: Value<'g>) -> Value<'g> {
        self.with(Op::Binary(op), &[Some(b)])
    }

    /// Sum of elements.
    #[allow(clippy::should_implement_trait, reason = "named after the operator, like every other method here")]
    pub fn add(self, b: Value<'g>) -> Value<'g> {
        self.binary(Binary::Add, b)
    }

    /// Product of elements.
    #[allow(clippy::should_implement_trait, reason = "named after the operator, like every other method here")]
    pub fn mul(self, b: Value<'g>) -> Value<'g> {
        self.binary(Binary::Mul, b)
    }

    /// Softmax over the last axis.
    pub fn softmax(self) -> Value<'g> {
        self.with(Softmax::default(), &[])
    }

    /// To a matrix whose rows are the first axis.
    pub fn flatten(self) -> Value<'g> {
        self.with(Flatten::default(), &[])
    }

    /// The same elements in another shape; −1 (once) is inferred, 0 copies.
    pub fn reshape(self, shape: &[i64]) -> Value<'g> {
        let shape = self.builder.constant("shape", Tensor::i64([shape.len()], shape));
        self.with(Reshape::default(), &[Some(shape)])
    }

    /// Permuted axes.
    pub fn transpose(self, perm: &[usize]) -> Value<'g> {
        self.with(Transpose { perm: perm.into() }, &[])
    }
}
