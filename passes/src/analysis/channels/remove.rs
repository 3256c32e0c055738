//! Removal of units: slices every constant, rewrites every attribute and operand that counts, and infers
//! every type again. All or nothing.

use optc_ir::{Constant, Dim, Graph, NodeId, Op, Tensor, Type, ValueId};
use thiserror::Error;

use super::edit::{self, Cut};
use super::{AxisUnits, ChannelGroups, UnitId};

/// Why units can't be removed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// An axis would have no indices.
    #[error("node {0} would have an empty axis")]
    Empties(String),
    /// A node does not fit what was removed: a bug in a rule.
    #[error("node {node} does not fit what was removed: {message}")]
    Misfit {
        /// Its name.
        node: String,
        /// What does not fit.
        message: String,
    },
}

/// Removes units from the graph they were found in.
///
/// # Errors
/// The graph is unchanged then.
pub fn remove(graph: &mut Graph, groups: &ChannelGroups, units: &[UnitId]) -> Result<(), RemoveError> {
    if units.is_empty() {
        return Ok(());
    }
    let mut removed = vec![false; groups.len()];
    units.iter().for_each(|unit| removed[unit.index()] = true);
    let order = graph.topo_order();
    let cuts = Cuts { groups, removed: &removed };
    let mut expected: Vec<(ValueId, Type)> = Vec::new();
    for &node in &order {
        for value in (0..graph.result_count(node)).map(|i| node.result(i)) {
            if let Some(ty) = cuts.ty(graph, value)? {
                expected.push((value, ty));
            }
        }
    }
    let mut new = graph.clone();
    // Constants first: what operators count must fit their constants at every step, or types go stale.
    for &node in &order {
        if let Op::Const(constant) = graph.op(node) {
            let kept = cuts.of(node.into());
            let columns = cuts.columns(node);
            if columns.is_some() || kept.iter().any(Option::is_some) {
                let columns = columns.map(|kept| take_columns(constant, &kept));
                let constant = columns.as_ref().unwrap_or(constant);
                new.set_op(node, Op::Const(take(constant, &kept).into()));
            }
        }
    }
    for &node in &order {
        edit::rewrite(&mut new, graph, node, &cuts);
    }
    new.infer_all().map_err(|(node, e)| RemoveError::Misfit { node, message: e.to_string() })?;
    for (value, ty) in expected {
        let got = new.ty(value);
        if *got != ty {
            let message = format!("its type is {got} instead of {ty}");
            return Err(RemoveError::Misfit { node: graph.name(value.node).to_owned(), message });
        }
    }
    *graph = new;
    Ok(())
}

/// What stays of every axis.
pub(super) struct Cuts<'a> {
    groups: &'a ChannelGroups,
    removed: &'a [bool],
}

impl Cuts<'_> {
    /// The indices that stay on each axis of a value; `None` for an axis that stays whole.
    pub(super) fn of(&self, value: ValueId) -> Vec<Option<Cut>> {
        self.groups.axes(value).iter().map(|axis| self.cut(axis)).collect()
    }

    /// The indices that stay on one axis; `None` if all do.
    pub(super) fn axis(&self, value: ValueId, axis: usize) -> Option<Cut> {
        self.cut(self.groups.axes(value).get(axis)?)
    }

    /// How many groups of a grouped operator stay, if not all do.
    pub(super) fn parts(&self, node: NodeId) -> Option<usize> {
        Some(self.cut(self.groups.parts(node)?)?.kept.len())
    }

    fn cut(&self, axis: &AxisUnits) -> Option<Cut> {
        let kept = axis.kept(self.removed);
        (kept.len() != axis.len()).then(|| Cut { kept, of: axis.len() })
    }

    /// The columns that stay of a weight, if they differ from row to row, for each of equally many groups of rows.
    fn columns(&self, constant: NodeId) -> Option<Vec<Vec<usize>>> {
        let (per_group, axis) = self.groups.columns(constant)?;
        let kept = self.cut(axis)?.kept;
        let mut of_group = vec![Vec::new(); axis.len() / per_group];
        kept.into_iter().for_each(|channel| of_group[channel / per_group].push(channel % per_group));
        Some(of_group)
    }

    /// The type a value will have, if it changes.
    fn ty(&self, graph: &Graph, value: ValueId) -> Result<Option<Type>, RemoveError> {
        let Type::Tensor(ty) = graph.ty(value) else { return Ok(None) };
        let cuts = self.of(value);
        let mut ty = ty.clone();
        for (dim, cut) in ty.shape.iter_mut().zip(&cuts) {
            let Some(cut) = cut else { continue };
            if cut.kept.is_empty() {
                return Err(RemoveError::Empties(graph.name(value.node).to_owned()));
            }
            *dim = Dim::Fixed(cut.kept.len());
        }
        let columns = self.columns(value.node);
        if let Some(first) = columns.as_ref().and_then(|columns| columns.first()) {
            if first.is_empty() {
                return Err(RemoveError::Empties(graph.name(value.node).to_owned()));
            }
            ty.shape[1] = Dim::Fixed(first.len());
        }
        Ok((columns.is_some() || cuts.iter().any(Option::is_some)).then_some(Type::Tensor(ty)))
    }
}

/// The elements of a weight at the columns of each of equally many groups of rows, as many of every group.
fn take_columns(constant: &Constant, kept: &[Vec<usize>]) -> Constant {
    let (mut shape, data) = constant.decode().into_parts();
    let inner: usize = shape[2..].iter().product();
    let (rows, columns) = (shape[0], shape[1]);
    let starts = (0..rows).flat_map(|row| {
        let of_group = &kept[row * kept.len() / rows];
        of_group.iter().map(move |&column| (row * columns + column) * inner)
    });
    let data = data.select(starts.flat_map(|start| start..start + inner));
    shape[1] = kept.first().map_or(0, Vec::len);
    Constant::dense(Tensor::new(shape, data))
}

/// The elements of a constant at these indices of each axis.
fn take(constant: &Constant, kept: &[Option<Cut>]) -> Constant {
    let (mut shape, mut data) = constant.decode().into_parts();
    for (axis, cut) in kept.iter().enumerate() {
        let Some(cut) = cut else { continue };
        let inner: usize = shape[axis + 1..].iter().product();
        let outer: usize = shape[..axis].iter().product();
        let count = shape[axis];
        let rows = (0..outer).flat_map(|o| cut.kept.iter().map(move |&i| (o * count + i) * inner));
        data = data.select(rows.flat_map(|start| start..start + inner));
        shape[axis] = cut.kept.len();
    }
    Constant::dense(Tensor::new(shape, data))
}
