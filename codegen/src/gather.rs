//! Slices picked along an axis by integers that are known only at run time: rows of an embedding table.
//!
//! `y[o, j, i] = x[o, k(j), i]` for outer elements o, picks j and elements i of a slice; a negative index
//! counts from the end of the axis. There is nothing to compute, so no code is generated: slices are moved in
//! safe Rust. One-hot vectors are the slices of a table that has one more, all off, for indices outside.
//!
//! Invariant: an index outside the axis of a gather is an error, as in the interpreter, and no slice is moved then.

use optc_ir::EvalError;

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
    /// The slice behind the axis that indices outside of it pick; without, they are errors.
    pub(crate) beyond: Option<usize>,
}

impl Extents {
    /// Where the slices begin that make up the result, in elements of the operand.
    ///
    /// # Errors
    /// If an index is outside the axis.
    pub(crate) fn starts(self, indices: &[i64]) -> Result<Vec<usize>, EvalError> {
        let Extents { outer, axis, inner, beyond } = self;
        let position = |&index: &i64| {
            let from_start = if index < 0 { index.saturating_add_unsigned(axis as u64) } else { index };
            let position = usize::try_from(from_start).ok().filter(|&i| i < axis);
            position
                .or(beyond)
                .ok_or_else(|| EvalError::Value(format!("index {index} is out of range for an axis of extent {axis}")))
        };
        let picks = indices.iter().map(position).collect::<Result<Vec<usize>, EvalError>>()?;
        Ok((0..outer).flat_map(|o| picks.iter().map(move |pick| (o * axis + pick) * inner)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_indices_count_from_the_end() {
        let extents = Extents { outer: 2, axis: 3, inner: 4, beyond: None };
        assert_eq!(extents.starts(&[0, -1, 1]).unwrap(), [0, 8, 4, 12, 20, 16]);
        assert!(extents.starts(&[0, 3]).is_err());
        assert!(extents.starts(&[-4]).is_err());
        assert!(extents.starts(&[i64::MIN]).is_err());
        let extents = Extents { outer: 1, beyond: Some(3), ..extents };
        assert_eq!(extents.starts(&[3, 2, -4, -3]).unwrap(), [12, 8, 12, 0]);
    }
}
