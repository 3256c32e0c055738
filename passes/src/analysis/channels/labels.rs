//! Labels: what may be removed, and what must be removed together.
//!
//! A label stands for "this channel goes". Each index of an axis carries a list of labels, and goes if any
//! of them does: an index of `H·D` features carries one label of its head and one of its place in the head;
//! an index without labels never goes. Ties between axes are equations between such lists, solved as
//! unification of terms: equal labels become one, and a label that equals a list is *bound* to it. What
//! has no solution is frozen, never guessed.

use std::rc::Rc;

use optc_ir::NodeId;

/// An index into [`Labels`].
pub(super) type Label = u32;

/// Why a channel can't be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// The node that stands in the way.
    pub node: NodeId,
    /// What it does, as the end of a sentence that begins with its name.
    pub reason: &'static str,
}

/// The labels of each index of one axis of a value.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Where the labels of an index end; empty if no index has any.
    ends: Vec<u32>,
    labels: Vec<Label>,
    /// Why indices without labels stay.
    cause: Option<Blocker>,
}

impl Axis {
    /// An axis that stays whole.
    pub(super) fn fixed(cause: Option<Blocker>) -> Rc<Axis> {
        Rc::new(Axis { ends: Vec::new(), labels: Vec::new(), cause })
    }

    /// The axis whose indices have these labels.
    pub(super) fn new<T: AsRef<[Label]>>(lists: impl IntoIterator<Item = T>, cause: Option<Blocker>) -> Rc<Axis> {
        let (mut ends, mut labels) = (Vec::new(), Vec::new());
        for list in lists {
            labels.extend_from_slice(list.as_ref());
            ends.push(u32::try_from(labels.len()).expect("axes are bounded by MAX_EXTENT"));
        }
        if labels.is_empty() {
            ends.clear();
        }
        Rc::new(Axis { ends, labels, cause })
    }

    /// Whether no index has labels.
    pub(super) fn is_fixed(&self) -> bool {
        self.labels.is_empty()
    }

    /// How many indices there are; meaningless if the axis is fixed.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The labels of an index as they were when the axis was made.
    pub(super) fn at(&self, index: usize) -> &[Label] {
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.labels[start as usize..end as usize]
    }

    /// Why indices without labels stay.
    pub(super) fn cause(&self) -> Option<Blocker> {
        self.cause
    }

    /// The axis of these indices.
    pub(super) fn select(&self, indices: impl IntoIterator<Item = usize>) -> Rc<Axis> {
        if self.is_fixed() {
            return Axis::fixed(self.cause);
        }
        Axis::new(indices.into_iter().map(|i| self.at(i)), self.cause)
    }
}

/// All labels of a graph: a union–find structure with bindings.
#[derive(Debug, Default)]
pub(super) struct Labels {
    parent: Vec<Label>,
    bound: Vec<Option<Rc<[Label]>>>,
    frozen: Vec<Option<Blocker>>,
    /// The set of axes a label was made for; families of labels that became one are one.
    family: Vec<u32>,
    families: Vec<u32>,
}

fn root(parent: &mut [u32], mut at: u32) -> u32 {
    while parent[at as usize] != at {
        let up = parent[parent[at as usize] as usize];
        parent[at as usize] = up;
        at = up;
    }
    at
}

impl Labels {
    /// An axis of new labels of one family. An axis of one index can't lose it and is fixed.
    pub(super) fn fresh(&mut self, len: usize) -> Rc<Axis> {
        if len <= 1 {
            return Axis::fixed(None);
        }
        let family = u32::try_from(self.families.len()).expect("there are fewer families than labels");
        self.families.push(family);
        let first = u32::try_from(self.parent.len()).expect("a graph has fewer than 2^32 channels");
        let end = first + u32::try_from(len).expect("axes are bounded by MAX_EXTENT");
        self.parent.extend(first..end);
        self.bound.resize(end as usize, None);
        self.frozen.resize(end as usize, None);
        self.family.resize(end as usize, family);
        Axis::new((first..end).map(|label| [label]), None)
    }

    /// The labels a list stands for now.
    pub(super) fn resolve(&mut self, list: &[Label]) -> Vec<Label> {
        let mut out = Vec::with_capacity(list.len());
        for &label in list {
            let label = root(&mut self.parent, label);
            match self.bound[label as usize].clone() {
                None => out.push(label),
                Some(list) => out.extend(self.resolve(&list)),
            }
        }
        out
    }

    /// The resolved labels of every index of an axis.
    pub(super) fn resolve_axis(&mut self, axis: &Axis) -> Vec<Vec<Label>> {
        (0..axis.len()).map(|i| self.resolve(axis.at(i))).collect()
    }

    /// Why a resolved label can't be removed.
    pub(super) fn blocker(&self, label: Label) -> Option<Blocker> {
        self.frozen[label as usize]
    }

    /// The family of a resolved label.
    pub(super) fn family(&mut self, label: Label) -> u32 {
        root(&mut self.families, self.family[label as usize])
    }

    /// Keeps every channel of a list of labels.
    pub(super) fn freeze(&mut self, list: &[Label], why: Blocker) {
        for label in self.resolve(list) {
            self.frozen[label as usize].get_or_insert(why);
        }
    }

    /// Keeps every channel of an axis.
    pub(super) fn freeze_axis(&mut self, axis: &Axis, why: Blocker) {
        for i in 0..axis.len() {
            self.freeze(axis.at(i), why);
        }
    }

    /// Makes two axes of the same extent keep the same indices.
    pub(super) fn tie(&mut self, a: &Rc<Axis>, b: &Rc<Axis>, why: Blocker) {
        if Rc::ptr_eq(a, b) {
            return;
        }
        for i in 0..a.len().max(b.len()) {
            // The index that has no labels says why it stays, if anything does.
            let why = if a.at(i).is_empty() { a.cause() } else { b.cause() }.unwrap_or(why);
            self.equate(a.at(i), b.at(i), why);
        }
    }

    /// Makes two lists of labels go together. `why` is told if that means never.
    pub(super) fn equate(&mut self, a: &[Label], b: &[Label], why: Blocker) {
        let (a, b) = (self.resolve(a), self.resolve(b));
        if a == b {
            return;
        }
        match (a.as_slice(), b.as_slice()) {
            (&[a], list) | (list, &[a]) if list.len() > 1 => self.bind(a, list, why),
            (a, b) if a.len() == b.len() => a.iter().zip(b).for_each(|(&a, &b)| self.unite(a, b)),
            (a, b) => {
                self.freeze(a, why);
                self.freeze(b, why);
            }
        }
    }

    fn bind(&mut self, label: Label, list: &[Label], why: Blocker) {
        // A label that is part of what it should equal would drag the rest along; nobody wants that.
        if list.contains(&label) {
            return self.freeze(list, why);
        }
        if let Some(why) = self.frozen[label as usize] {
            self.freeze(list, why);
        }
        self.bound[label as usize] = Some(list.into());
    }

    fn unite(&mut self, a: Label, b: Label) {
        // Earlier unions of the same equation may have moved the roots.
        let (a, b) = (root(&mut self.parent, a), root(&mut self.parent, b));
        let (keep, drop) = if a < b { (a, b) } else { (b, a) };
        self.parent[drop as usize] = keep;
        let frozen = self.frozen[keep as usize].or(self.frozen[drop as usize]);
        self.frozen[keep as usize] = frozen;
        let (f, g) = (self.family(keep), root(&mut self.families, self.family[drop as usize]));
        self.families[f.max(g) as usize] = f.min(g);
    }

    /// The axis of extent `a·b` whose index `i·b + j` goes if `i` of `outer` or `j` of `inner` goes.
    pub(super) fn merge(outer: &Axis, a: usize, inner: &Axis, b: usize) -> Rc<Axis> {
        let cause = outer.cause().or(inner.cause());
        if outer.is_fixed() && inner.is_fixed() {
            return Axis::fixed(cause);
        }
        let pairs = (0..a).flat_map(|i| (0..b).map(move |j| (i, j)));
        Axis::new(pairs.map(|(i, j)| [outer.at(i), inner.at(j)].concat()), cause)
    }

    /// The inverse of [`Labels::merge`]: splits an axis of extent `a·b`. Labels that belong to single pairs
    /// `(i, j)` are bound to one of `i` and one of `j`.
    pub(super) fn split(&mut self, axis: &Rc<Axis>, a: usize, b: usize, why: Blocker) -> (Rc<Axis>, Rc<Axis>) {
        let cause = axis.cause();
        if axis.is_fixed() {
            return (Axis::fixed(cause), Axis::fixed(cause));
        }
        if b == 1 {
            return (axis.clone(), Axis::fixed(None));
        }
        if a == 1 {
            return (Axis::fixed(None), axis.clone());
        }
        let lists = self.resolve_axis(axis);
        let width = lists.iter().map(Vec::len).max().unwrap_or(0);
        let at = |i: usize, j: usize| lists[i * b + j].as_slice();
        let uniform = lists.iter().all(|list| list.len() == width);
        if !uniform && width > 1 {
            self.freeze_axis(axis, why);
            return (Axis::fixed(Some(why)), Axis::fixed(Some(why)));
        }
        let pairs = || (0..a).flat_map(|i| (0..b).map(move |j| (i, j)));
        let (mut prefix, mut suffix) = (0, 0);
        if uniform {
            prefix = (0..width).take_while(|&s| pairs().all(|(i, j)| at(i, j)[s] == at(i, 0)[s])).count();
            let from_end = |r: &usize| pairs().all(|(i, j)| at(i, j)[width - 1 - r] == at(0, j)[width - 1 - r]);
            suffix = (0..width - prefix).take_while(from_end).count();
        }
        if prefix + suffix == width {
            let outer = Axis::new((0..a).map(|i| &at(i, 0)[..prefix]), cause);
            let inner = Axis::new((0..b).map(|j| &at(0, j)[prefix..]), cause);
            return (outer, inner);
        }
        if prefix + suffix + 1 < width {
            let middle = |(i, j): (usize, usize)| at(i, j)[prefix..width - suffix].to_vec();
            pairs().map(middle).for_each(|list| self.freeze(&list, why));
            let outer = Axis::new((0..a).map(|i| &at(i, 0)[..prefix]), Some(why));
            let inner = Axis::new((0..b).map(|j| &at(0, j)[width - suffix..]), Some(why));
            return (outer, inner);
        }
        let (rows, columns) = (self.fresh(a), self.fresh(b));
        for (i, j) in pairs() {
            let middle = at(i, j).get(prefix).map_or(&[] as &[Label], std::slice::from_ref);
            let both = [rows.at(i), columns.at(j)].concat();
            self.equate(middle, &both, cause.unwrap_or(why));
        }
        let outer = Axis::new((0..a).map(|i| [at(i, 0).get(..prefix).unwrap_or_default(), rows.at(i)].concat()), cause);
        let tail = |j: usize| at(0, j).get(width - suffix..).unwrap_or_default();
        let inner = Axis::new((0..b).map(|j| [columns.at(j), tail(j)].concat()), cause);
        (outer, inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_ir::Graph;

    fn why() -> Blocker {
        Blocker { node: Graph::new("g").ret(), reason: "is a test" }
    }

    #[test]
    fn split_features_go_by_head_and_by_place() {
        let mut labels = Labels::default();
        let features = labels.fresh(6);
        let (heads, places) = labels.split(&features, 2, 3, why());
        let merged = Labels::merge(&heads, 2, &places, 3);
        assert_eq!(labels.resolve_axis(&features), labels.resolve_axis(&merged));
        assert_eq!(labels.resolve(features.at(4)), [heads.at(1), places.at(1)].concat());
        // Splitting the same features otherwise refines the places.
        let (rows, columns) = labels.split(&merged, 1, 6, why());
        assert!(rows.is_fixed());
        assert_eq!(labels.resolve_axis(&columns), labels.resolve_axis(&merged));
    }

    #[test]
    fn a_split_across_a_boundary_refines() {
        let mut labels = Labels::default();
        let features = labels.fresh(16);
        let (two, eight) = labels.split(&features, 2, 8, why());
        let (four, rest) = labels.split(&features, 4, 4, why());
        assert_eq!(labels.resolve(four.at(3)).len(), 2);
        assert_eq!(labels.resolve(rest.at(0)).len(), 1);
        assert_eq!(labels.resolve(four.at(2))[0], labels.resolve(two.at(1))[0]);
        assert_eq!(labels.resolve(eight.at(5)), [labels.resolve(four.at(1))[1], labels.resolve(rest.at(1))[0]]);
        assert!(labels.resolve(features.at(0)).iter().all(|&l| labels.blocker(l).is_none()));
    }

    #[test]
    fn what_has_no_solution_is_frozen() {
        let mut labels = Labels::default();
        let (a, b) = (labels.fresh(3), labels.fresh(3));
        labels.tie(&a, &Axis::fixed(None), why());
        labels.tie(&a, &b, why());
        assert!((0..3).all(|i| labels.resolve(b.at(i)).iter().all(|&l| labels.blocker(l) == Some(why()))));
    }
}
