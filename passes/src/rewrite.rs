//! Small queries and edits that many passes share.

use optc_ir::{Dim, Graph, NodeId, Type, ValueId};

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

/// Takes the operands of a node that nobody uses away, so that it no longer counts as their user.
pub(crate) fn detach(graph: &mut Graph, node: NodeId) {
    for slot in (0..graph.operands(node).len()).rev() {
        graph.set_operand(node, slot, None);
    }
}
