//! Small queries and edits that many passes share.

use std::sync::Arc;

use optc_ir::op::infer::infer;
use optc_ir::op::{Operand, Reshape};
use optc_ir::{Constant, Dim, Graph, NodeId, Op, Tensor, Type, ValueId};

/// Whether everything `old` says of a value, `new` says too: then a value of type `new` may stand where
/// one of type `old` stood.
pub(crate) fn refines(new: &Type, old: &Type) -> bool {
    let dim = |(new, old): (&Dim, &Dim)| match (new, old) {
        (_, Dim::Any) | (Dim::Fixed(_), Dim::Sym(_)) => true,
        _ => new.same(old),
    };
    match (new, old) {
        (_, Type::Unknown) => true,
        (Type::Tensor(new), Type::Tensor(old)) => {
            new.dtype == old.dtype && new.rank() == old.rank() && new.shape.iter().zip(&old.shape).all(dim)
        }
        (Type::Unknown, Type::Tensor(_)) => false,
    }
}

/// Makes every user of the first result of `node` use `to` instead, and takes the operands of `node` away
/// so that it no longer counts as their user. Returns whether it did: not if the type of `to` says less.
pub(crate) fn bypass(graph: &mut Graph, node: NodeId, to: ValueId) -> bool {
    let from = ValueId::from(node);
    if !refines(graph.ty(to), graph.ty(from)) {
        return false;
    }
    graph.replace_uses(from, to);
    detach(graph, node);
    true
}

/// Takes away the operands of a node that nobody uses, and so on for those only it used: what is dead no
/// longer counts as a user.
pub(crate) fn detach(graph: &mut Graph, node: NodeId) {
    let mut dead = vec![node];
    while let Some(node) = dead.pop() {
        for (slot, operand) in graph.operands(node).into_iter().enumerate().rev() {
            let Some(value) = operand else { continue };
            graph.set_operand(node, slot, None);
            if is_unused(graph, value.node) {
                dead.push(value.node);
            }
        }
    }
}

fn is_unused(graph: &Graph, node: NodeId) -> bool {
    let structural = matches!(graph.op(node), Op::Input(_) | Op::Return(_));
    !structural && (0..graph.result_count(node)).all(|i| graph.uses(node.result(i)).is_empty())
}

/// Makes every user of a value use a constant instead. The only result of a node turns into the constant
/// in place, so that it keeps the name; an unused value is left alone.
pub(crate) fn replace_by_constant(graph: &mut Graph, value: ValueId, tensor: Tensor) {
    let node = value.node;
    if graph.uses(value).is_empty() {
        return;
    }
    if graph.result_count(node) == 1 {
        detach(graph, node);
        graph.set_op(node, Op::Const(Constant::dense(tensor).into()));
    } else {
        let name = format!("{}.{}", graph.name(node), value.result);
        let constant = graph.add_tensor(&name, tensor);
        graph.replace_uses(value, constant.into());
    }
}

/// The one element of a constant operand that holds one element in at most `rank` axes, so that it
/// broadcasts without changing the other operand's rank.
pub(crate) fn scalar_operand(graph: &Graph, node: NodeId, slot: usize, rank: usize) -> Option<f64> {
    let constant = graph.constant_operand(node, slot)?;
    if constant.len() != 1 || constant.shape().len() > rank {
        return None;
    }
    constant.decode().data().to_f64().first().copied()
}

/// The elements of a constant operand of integers.
pub(crate) fn int_operand(graph: &Graph, node: NodeId, slot: usize) -> Option<Vec<i64>> {
    graph.constant_operand(node, slot)?.decode().data().to_i64()
}

/// The shape of a value, if its rank is known.
pub(crate) fn shape(graph: &Graph, value: impl Into<ValueId>) -> Option<&[Dim]> {
    graph.ty(value.into()).shape()
}

/// The number of axes of a value, if known.
pub(crate) fn rank(graph: &Graph, value: impl Into<ValueId>) -> Option<usize> {
    shape(graph, value).map(<[Dim]>::len)
}

/// Whether two values certainly have the same shape.
pub(crate) fn same_shape(a: &[Dim], b: &[Dim]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
}

/// Turns a node into a reshape of `x` to a constant target, if that gives a type that says as much as the
/// one it has. Returns whether it did.
pub(crate) fn reshape_in_place(graph: &mut Graph, node: NodeId, x: ValueId, target: Vec<i64>) -> bool {
    let target = Arc::new(Constant::dense(Tensor::i64([target.len()], target)));
    let op = Op::from(Reshape::default());
    let target_ty = Type::from(target.ty());
    let operands = [
        Some(Operand { ty: graph.ty(x), constant: None, contents: None }),
        Some(Operand { ty: &target_ty, constant: Some(&target), contents: None }),
    ];
    match infer(&op, &operands).as_deref() {
        Ok([ty]) if refines(ty, graph.ty(node)) => {}
        _ => return false,
    }
    let target = graph.add_constant(&format!("{}.shape", graph.name(node)), target);
    rebuild(graph, node, op, &[Some(x), Some(target.into())]);
    true
}

/// Turns a node into another operator on other operands, keeping its name and its users.
pub(crate) fn rebuild(graph: &mut Graph, node: NodeId, op: impl Into<Op>, operands: &[Option<ValueId>]) {
    let old = graph.operands(node);
    for slot in (0..old.len().max(operands.len())).rev() {
        graph.set_operand(node, slot, operands.get(slot).copied().flatten());
    }
    graph.set_op(node, op);
    for value in old.into_iter().flatten() {
        if is_unused(graph, value.node) {
            detach(graph, value.node);
        }
    }
}

/// The types an operator would have on these values, if they fit.
pub(crate) fn types_of(graph: &Graph, op: &Op, operands: &[Option<ValueId>]) -> Option<Vec<Type>> {
    let operand = |value: &Option<ValueId>| {
        value.map(|v| Operand { ty: graph.ty(v), constant: graph.constant(v), contents: graph.contents(v) })
    };
    infer(op, &operands.iter().map(operand).collect::<Vec<_>>()).ok()
}
