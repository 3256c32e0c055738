//! Writing arithmetic into a graph: what gradients, losses and optimizers are made of.
//!
//! Shapes must be known here, so that broadcasts can be undone and means divided; the graph of a training step
//! has its symbols bound.

use optc_ir::op::{
    Act, ActGrad, Binary, Cast, Expand, Gemm, MatMul, Reduce, ReduceAttrs, ReduceKind, Reshape, Transpose, Unary,
};
use optc_ir::{DType, Data, Graph, NodeId, Op, Tensor, TensorType, ValueId};

use super::error::TrainError;

/// A graph and the name under which nodes are added to it.
pub(super) struct Emit<'g> {
    /// The graph.
    pub(super) graph: &'g mut Graph,
    /// What new nodes are named after, and errors name.
    scope: String,
    /// The operator of the node that `scope` names, for errors.
    op: String,
}

impl<'g> Emit<'g> {
    /// Adds to `graph` what is to be named `scope`.
    pub(super) fn new(graph: &'g mut Graph, scope: &str) -> Emit<'g> {
        Emit { graph, scope: scope.to_owned(), op: "training".to_owned() }
    }

    /// Adds the gradient of a node.
    pub(super) fn gradient_of(graph: &'g mut Graph, node: NodeId) -> Emit<'g> {
        let (scope, op) = (graph.name(node).to_owned(), graph.op(node).name().to_owned());
        Emit { graph, scope, op }
    }

    /// The error that the node in hand can't be done.
    pub(super) fn unsupported(&self, message: impl Into<String>) -> TrainError {
        TrainError::Node { node: self.scope.clone(), op: self.op.clone(), message: message.into() }
    }

    /// The type of a value.
    ///
    /// # Errors
    /// If nothing is known of it.
    pub(super) fn ty(&self, value: ValueId) -> Result<&TensorType, TrainError> {
        let ty = self.graph.ty(value).as_tensor();
        ty.ok_or_else(|| self.unsupported(format!("the type of {} is not known", self.graph.name(value.node))))
    }

    /// The element type of a value.
    pub(super) fn dtype(&self, value: ValueId) -> Result<DType, TrainError> {
        Ok(self.ty(value)?.dtype)
    }

    /// The extents of a value.
    ///
    /// # Errors
    /// If they are not all known.
    pub(super) fn shape(&self, value: ValueId) -> Result<Vec<usize>, TrainError> {
        let ty = self.ty(value)?;
        ty.fixed_shape().ok_or_else(|| {
            let name = self.graph.name(value.node);
            self.unsupported(format!("{name} is {ty}, and training needs known extents; bind its symbols"))
        })
    }

    /// Adds a node of one operator.
    pub(super) fn node(&mut self, op: impl Into<Op>, operands: &[Option<ValueId>]) -> Result<NodeId, TrainError> {
        let op = op.into();
        let (word, name) = (op.name().to_owned(), format!("{}.{}", self.scope, op.name()));
        self.graph.add(&name, op, operands).map_err(|source| TrainError::Rule {
            node: self.scope.clone(),
            op: word,
            source,
        })
    }

    /// The first result of an added node; all operands are present.
    pub(super) fn op(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId, TrainError> {
        let operands: Vec<Option<ValueId>> = operands.iter().copied().map(Some).collect();
        Ok(self.node(op, &operands)?.into())
    }

    /// A constant.
    pub(super) fn constant(&mut self, what: &str, tensor: Tensor) -> ValueId {
        let name = format!("{}.{what}", self.scope);
        self.graph.add_tensor(&name, tensor).into()
    }

    /// A vector of i64.
    pub(super) fn ints(&mut self, what: &str, ints: impl IntoIterator<Item = usize>) -> ValueId {
        let ints: Vec<i64> = ints.into_iter().map(|n| i64::try_from(n).unwrap_or(i64::MAX)).collect();
        self.constant(what, Tensor::i64([ints.len()], ints))
    }

    /// A floating-point scalar of the element type of `like`.
    pub(super) fn scalar(&mut self, like: ValueId, x: f64) -> Result<ValueId, TrainError> {
        let dtype = self.dtype(like)?;
        Ok(self.constant("c", Tensor::new([], Data::from_f64(dtype, [x]))))
    }

    /// Zeros of the type of a value.
    pub(super) fn zeros_like(&mut self, value: ValueId) -> Result<ValueId, TrainError> {
        let (dtype, shape) = (self.dtype(value)?, self.shape(value)?);
        Ok(self.constant("zeros", Tensor::zeros(dtype, shape)))
    }

    /// a + b
    pub(super) fn add(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, TrainError> {
        self.op(Op::Binary(Binary::Add), &[a, b])
    }

    /// a − b
    pub(super) fn sub(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, TrainError> {
        self.op(Op::Binary(Binary::Sub), &[a, b])
    }

    /// a·b
    pub(super) fn mul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, TrainError> {
        self.op(Op::Binary(Binary::Mul), &[a, b])
    }

    /// a / b
    pub(super) fn div(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, TrainError> {
        self.op(Op::Binary(Binary::Div), &[a, b])
    }

    /// a + x
    pub(super) fn shift(&mut self, a: ValueId, x: f64) -> Result<ValueId, TrainError> {
        let x = self.scalar(a, x)?;
        self.add(a, x)
    }

    /// x·a
    pub(super) fn scale(&mut self, a: ValueId, x: f64) -> Result<ValueId, TrainError> {
        if x == 1.0 {
            return Ok(a);
        }
        let x = self.scalar(a, x)?;
        self.mul(a, x)
    }

    /// An elementwise function.
    pub(super) fn unary(&mut self, op: Unary, x: ValueId) -> Result<ValueId, TrainError> {
        self.op(Op::Unary(op), &[x])
    }

    /// The larger of the elements and a number.
    pub(super) fn at_least(&mut self, x: ValueId, least: f64) -> Result<ValueId, TrainError> {
        let least = self.scalar(x, least)?;
        self.op(Op::Variadic(optc_ir::op::Variadic::Max), &[x, least])
    }

    /// x²
    pub(super) fn square(&mut self, x: ValueId) -> Result<ValueId, TrainError> {
        self.mul(x, x)
    }

    /// `dy` where `x > 0`, zero elsewhere.
    pub(super) fn where_positive(&mut self, x: ValueId, dy: ValueId) -> Result<ValueId, TrainError> {
        self.act_grad(Act::Relu, x, dy)
    }

    /// The gradient of an activation, see [`ActGrad`].
    pub(super) fn act_grad(&mut self, act: Act, v: ValueId, dy: ValueId) -> Result<ValueId, TrainError> {
        self.op(ActGrad { act }, &[v, dy])
    }

    /// To another element type.
    pub(super) fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId, TrainError> {
        if self.dtype(x)? == to { Ok(x) } else { self.op(Cast { to }, &[x]) }
    }

    /// A reduction over axes.
    pub(super) fn reduce(
        &mut self,
        kind: ReduceKind,
        x: ValueId,
        axes: &[usize],
        keepdims: bool,
    ) -> Result<ValueId, TrainError> {
        let axes = Some(axes.iter().map(|&axis| i64::try_from(axis).unwrap_or(i64::MAX)).collect());
        self.op(Op::Reduce(Reduce { kind, attrs: ReduceAttrs { axes, keepdims } }), &[x])
    }

    /// The sum over axes.
    pub(super) fn sum(&mut self, x: ValueId, axes: &[usize], keepdims: bool) -> Result<ValueId, TrainError> {
        if axes.is_empty() { Ok(x) } else { self.reduce(ReduceKind::Sum, x, axes, keepdims) }
    }

    /// The mean over axes, which stay with extent 1.
    pub(super) fn mean(&mut self, x: ValueId, axes: &[usize]) -> Result<ValueId, TrainError> {
        if axes.is_empty() { Ok(x) } else { self.reduce(ReduceKind::Mean, x, axes, true) }
    }

    /// The sum of all elements, as a scalar.
    pub(super) fn sum_all(&mut self, x: ValueId) -> Result<ValueId, TrainError> {
        let axes: Vec<usize> = (0..self.ty(x)?.rank()).collect();
        self.sum(x, &axes, false)
    }

    /// The same elements in another shape.
    pub(super) fn reshape(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId, TrainError> {
        if self.shape(x)? == shape {
            return Ok(x);
        }
        let target = self.ints("shape", shape.iter().copied());
        self.op(Reshape { allowzero: true }, &[x, target])
    }

    /// Broadcast to a shape.
    pub(super) fn expand(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId, TrainError> {
        if self.shape(x)? == shape {
            return Ok(x);
        }
        let target = self.ints("shape", shape.iter().copied());
        self.op(Expand {}, &[x, target])
    }

    /// The sum over whatever broadcasting repeated: the gradient of broadcasting `shape` to that of `x`.
    pub(super) fn unbroadcast(&mut self, x: ValueId, shape: &[usize]) -> Result<ValueId, TrainError> {
        let wide = self.shape(x)?;
        let added = wide.len() - shape.len();
        let repeated = |&axis: &usize| axis < added || (shape[axis - added] == 1 && wide[axis] != 1);
        let axes: Vec<usize> = (0..wide.len()).filter(repeated).collect();
        let sum = self.sum(x, &axes, true)?;
        self.reshape(sum, shape)
    }

    /// Permuted axes.
    pub(super) fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Result<ValueId, TrainError> {
        if perm.iter().copied().eq(0..perm.len()) {
            return Ok(x);
        }
        self.op(Transpose { perm: perm.to_vec() }, &[x])
    }

    /// The last two axes exchanged.
    pub(super) fn swap_last(&mut self, x: ValueId) -> Result<ValueId, TrainError> {
        let rank = self.ty(x)?.rank();
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 2, rank - 1);
        self.transpose(x, &perm)
    }

    /// The matrix product.
    pub(super) fn matmul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, TrainError> {
        self.op(MatMul {}, &[a, b])
    }

    /// aᵀ·b of matrices.
    pub(super) fn transposed_product(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, TrainError> {
        self.op(Gemm { trans_a: true, ..Gemm::default() }, &[a, b])
    }

    /// All axes but the last as one.
    pub(super) fn rows(&mut self, x: ValueId) -> Result<ValueId, TrainError> {
        let shape = self.shape(x)?;
        let Some((&last, outer)) = shape.split_last() else { return self.reshape(x, &[1, 1]) };
        self.reshape(x, &[outer.iter().product(), last])
    }

    /// A linear map along one axis, given as a matrix `[to, from]`; element types must agree.
    pub(super) fn map_axis(&mut self, x: ValueId, axis: usize, matrix: ValueId) -> Result<ValueId, TrainError> {
        let shape = self.shape(x)?;
        let to = self.shape(matrix)?[0];
        let (outer, inner) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
        let columns = self.reshape(x, &[outer, shape[axis], inner])?;
        let mapped = self.matmul(matrix, columns)?;
        let mut result = shape;
        result[axis] = to;
        self.reshape(mapped, &result)
    }
}
