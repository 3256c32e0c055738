//! Slices picked along an axis by integers that are known only at run time: rows of an embedding table.
//!
//! `y[o, j, i] = x[o, k(j), i]` for outer elements o, picks j and elements i of a slice; a negative index
//! counts from the end of the axis. There is nothing to compute, so no code is generated: slices are moved in
//! safe Rust.
//!
//! Invariant: an index outside the axis is an error, as in the interpreter, and no slice is moved then.

use optc_ir::{Data, EvalError};

use crate::plan::{Arg, Home};

/// A gather in a plan. Operand and result lie in order of their axes.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    /// What is picked from.
    pub(crate) from: Arg,
    pub(crate) indices: Home,
    /// The buffer of the result.
    pub(crate) to: usize,
    pub(crate) extents: Extents,
}

/// The extents of the operand around the axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extents {
    /// Elements before the axis.
    pub(crate) outer: usize,
    /// Elements along the axis.
    pub(crate) axis: usize,
    /// Elements of a slice.
    pub(crate) inner: usize,
}

impl Extents {
    /// The positions along the axis that indices name, into memory that may be used again.
    ///
    /// # Errors
    /// If an index is outside the axis.
    pub(crate) fn picks(self, indices: &Data, picks: &mut Vec<usize>) -> Result<(), EvalError> {
        let axis = self.axis;
        let position = |index: i64| {
            let from_start = if index < 0 { index.saturating_add_unsigned(axis as u64) } else { index };
            let position = usize::try_from(from_start).ok().filter(|&i| i < axis);
            position
                .ok_or_else(|| EvalError::Value(format!("index {index} is out of range for an axis of extent {axis}")))
        };
        picks.clear();
        let mut pick = |index| position(index).map(|position| picks.push(position));
        match indices {
            Data::I64(indices) => indices.iter().try_for_each(|&index| pick(index)),
            Data::I32(indices) => indices.iter().try_for_each(|&index| pick(index.into())),
            other => other.to_i64().unwrap_or_default().into_iter().try_for_each(pick),
        }
    }

    /// Where the slices begin that make up the result, in elements of the operand.
    pub(crate) fn starts(self, picks: &[usize]) -> impl Iterator<Item = usize> {
        let Extents { outer, axis, inner } = self;
        (0..outer).flat_map(move |o| picks.iter().map(move |pick| (o * axis + pick) * inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_indices_count_from_the_end() {
        let extents = Extents { outer: 2, axis: 3, inner: 4 };
        let mut picks = vec![7];
        extents.picks(&Data::I64(vec![0, -1, 1]), &mut picks).unwrap();
        assert_eq!(extents.starts(&picks).collect::<Vec<_>>(), [0, 8, 4, 12, 20, 16]);
        extents.picks(&Data::I32(vec![2, -3]), &mut picks).unwrap();
        assert_eq!(picks, [2, 0]);
        for outside in [3, -4, i64::MIN] {
            assert!(extents.picks(&Data::I64(vec![0, outside]), &mut picks).is_err());
        }
    }
}
