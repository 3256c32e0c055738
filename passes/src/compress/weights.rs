//! Which constants are weights, and how their elements relate to the outputs of their layer.

use std::borrow::Cow;
use std::sync::Arc;

use optc_ir::{Constant, Data, Graph, NodeId, Op, Tensor};

use crate::selector::Selection;

/// How the elements of a weight relate to the outputs of its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Elements of different index along this axis feed different outputs.
    pub(super) axis: usize,
    /// The last elements of the shape that meet the same input channel: a kernel of a convolution.
    pub(super) kernel: usize,
}

/// What a constant is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Multiplied by activations: convolutions, matrix products, recurrent layers.
    Product(Layout),
    /// Looked up: an embedding table.
    Table,
    /// Anything else: added, scaled with, compared.
    Other,
}

/// A constant of floating-point numbers that is used as data.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    /// The node of the constant.
    pub(super) node: NodeId,
    /// The constant.
    pub(super) constant: Arc<Constant>,
    /// Who uses it, sorted.
    pub(super) users: Vec<(NodeId, usize)>,
    /// What for.
    pub(super) role: Role,
}

impl Weight {
    /// The layer in whose name remarks are made.
    pub(super) fn layer(&self) -> NodeId {
        self.users[0].0
    }

    /// Whether the options of a pass allow to change it: if `only` is given, it must name a user, and
    /// `protect` must name none.
    pub(super) fn selected(&self, graph: &Graph, selection: &Selection) -> bool {
        let any = |s: &crate::selector::Selector| self.users.iter().any(|&(user, _)| s.matches(graph, user));
        selection.only.as_ref().is_none_or(any) && !selection.protect.as_ref().is_some_and(any)
    }

    /// The elements as `f32`, borrowed if that is how they are kept.
    pub(super) fn values(&self) -> Cow<'_, [f32]> {
        match self.constant.as_dense() {
            Some(Data::F32(v)) => Cow::Borrowed(v),
            Some(data) => Cow::Owned(to_f32(data)),
            None => match self.constant.decode().into_parts().1 {
                Data::F32(v) => Cow::Owned(v),
                data => Cow::Owned(to_f32(&data)),
            },
        }
    }

    /// A dense constant of the same type with these elements.
    pub(super) fn with_values(&self, values: Vec<f32>) -> Constant {
        let data = match self.constant.dtype() {
            optc_ir::DType::F32 => Data::F32(values),
            dtype => Data::from_f64(dtype, values.into_iter().map(f64::from)),
        };
        Constant::dense(Tensor::new(self.constant.shape(), data))
    }
}

fn to_f32(data: &Data) -> Vec<f32> {
    match data {
        Data::F32(v) => v.clone(),
        Data::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
        Data::BF16(v) => v.iter().map(|x| x.to_f32()).collect(),
        data => data.to_f64().into_iter().map(|x| x as f32).collect(),
    }
}

/// The floating-point constants of rank 2 and more that are used as data, in topological order.
///
/// Biases, scales and other vectors are not among them: they are few, and every output feels them. Nor
/// is a constant that says where or how an operator works, such as limits or sizes.
pub(super) fn weights(graph: &Graph) -> Vec<Weight> {
    let mut found = Vec::new();
    for node in graph.topo_order() {
        let Op::Const(constant) = graph.op(node) else { continue };
        let shape = constant.shape();
        if !constant.dtype().is_float() || shape.len() < 2 || constant.is_empty() {
            continue;
        }
        let users = graph.uses(node.into());
        let roles: Option<Vec<Role>> = users.iter().map(|&(user, slot)| role(graph.op(user), slot, shape)).collect();
        let Some(role) = roles.as_deref().and_then(common) else { continue };
        found.push(Weight { node, constant: constant.clone(), users, role });
    }
    found
}

/// The vectors that convolutions and linear layers add to their results, in topological order.
pub(super) fn biases(graph: &Graph) -> Vec<Weight> {
    let mut found = Vec::new();
    for node in graph.topo_order() {
        let Op::Const(constant) = graph.op(node) else { continue };
        if !constant.dtype().is_float() || constant.shape().len() != 1 || constant.is_empty() {
            continue;
        }
        let users = graph.uses(node.into());
        let adds = |&(user, slot): &(NodeId, usize)| {
            slot == 2 && matches!(graph.op(user), Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_) | Op::Gemm(_))
        };
        if !users.is_empty() && users.iter().all(adds) {
            found.push(Weight { node, constant: constant.clone(), users, role: Role::Other });
        }
    }
    found
}

/// The role of a constant with several users: theirs if they agree, `Other` if they don't.
fn common(roles: &[Role]) -> Option<Role> {
    let (&first, rest) = roles.split_first()?;
    Some(if rest.iter().all(|&role| role == first) { first } else { Role::Other })
}

/// What an operator uses operand `slot` of this shape for; `None` if it is no data.
fn role(op: &Op, slot: usize, shape: &[usize]) -> Option<Role> {
    let rank = shape.len();
    let product = |axis: usize, kernel: usize| Some(Role::Product(Layout { axis, kernel }));
    let kernel = |from: usize| shape.iter().skip(from).product();
    match (op, slot) {
        (Op::Conv(_), 1) => product(0, kernel(2)),
        (Op::ConvTranspose(_), 1) => product(1, kernel(2)),
        (Op::Linear(_), 1) => product(0, 1),
        (Op::Gemm(gemm), 0) => product(usize::from(gemm.trans_a), 1),
        (Op::Gemm(gemm), 1) => product(usize::from(!gemm.trans_b), 1),
        (Op::MatMul(_), 0) => product(rank - 2, 1),
        (Op::MatMul(_), _) => product(rank - 1, 1),
        (Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_), 1 | 2) if rank == 3 => product(1, 1),
        (Op::Gather(_), 0) => Some(Role::Table),
        (
            Op::Opaque(_)
            | Op::Return(_)
            | Op::Clip(_)
            | Op::Pad(_)
            | Op::Resize(_)
            | Op::OneHot(_)
            | Op::QuantizeLinear(_)
            | Op::DequantizeLinear(_),
            _,
        ) => None,
        _ => Some(Role::Other),
    }
}

/// For each index along `axis`, the positions of its elements in row-major order.
pub(super) fn rows(shape: &[usize], axis: usize) -> impl Iterator<Item = Row> {
    let count = shape[axis];
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    (0..count).map(move |index| Row { index, count, inner, outer })
}

/// The elements of a weight that feed one output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    index: usize,
    count: usize,
    inner: usize,
    outer: usize,
}

impl Row {
    /// Positions in the tensor, ascending.
    pub(super) fn positions(self) -> impl Iterator<Item = usize> {
        let Row { index, count, inner, outer } = self;
        (0..outer).flat_map(move |o| {
            let start = (o * count + index) * inner;
            start..start + inner
        })
    }
}
