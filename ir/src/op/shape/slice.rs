//! Strided ranges: which elements of an axis `slice` keeps.

use super::Slice;
use crate::error::TypeError;
use crate::op::infer::{Args, SymInt, resolve_axes};
use crate::types::{Dim, TensorType};

/// The elements `start, start + step, …` of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strided {
    /// First element; meaningless if there are none.
    pub(crate) start: usize,
    /// Distance of neighbours, not zero.
    pub(crate) step: i64,
    /// How many.
    pub(crate) count: usize,
}

/// What `start:end:step` keeps of an axis of extent `n`, by numpy's rule: negative positions count from
/// the end, and positions beyond an end stop there.
pub(crate) fn strided(n: usize, start: i64, end: i64, step: i64) -> Strided {
    // Wide enough that no sum of an extent and two i64 overflows.
    let (n, step) = (n as i128, i128::from(step));
    let clamp = |at: i64, low: i128, high: i128| {
        let at = i128::from(at);
        (if at < 0 { at + n } else { at }).clamp(low, high.max(low))
    };
    let (start, span) = if step > 0 {
        let start = clamp(start, 0, n);
        (start, clamp(end, 0, n) - start)
    } else {
        let start = clamp(start, if n == 0 { -1 } else { 0 }, n - 1);
        (start, start - clamp(end, -1, n - 1))
    };
    let count = if span > 0 { (span + step.abs() - 1) / step.abs() } else { 0 };
    let fits = "a position clamped to an extent fits";
    Strided {
        start: usize::try_from(start.max(0)).expect(fits),
        step: i64::try_from(step).expect("it was an i64"),
        count: usize::try_from(count).expect(fits),
    }
}

/// A position at or beyond this reaches the end of any axis: exporters write the largest `i32` or `i64`.
const BEYOND: i64 = i32::MAX as i64;

/// The extent `start:end:step` leaves of a dimension, as far as it is known.
fn extent(dim: &Dim, start: &SymInt, end: &SymInt, step: &SymInt) -> Dim {
    let whole_end = |end: &SymInt| match end {
        SymInt::Int(n) => *n >= BEYOND,
        SymInt::Sym(_) => end.dim().same(dim),
        SymInt::Any => false,
    };
    match (dim, start, end, step) {
        (Dim::Fixed(n), SymInt::Int(start), SymInt::Int(end), SymInt::Int(step)) => {
            Dim::Fixed(strided(*n, *start, *end, *step).count)
        }
        (Dim::Fixed(0), ..) => Dim::Fixed(0),
        (dim, SymInt::Int(0), end, SymInt::Int(1)) if whole_end(end) => dim.clone(),
        (dim, SymInt::Int(-1 | BEYOND..), SymInt::Int(end), SymInt::Int(-1)) if *end <= -BEYOND => dim.clone(),
        _ => Dim::Any,
    }
}

impl Slice {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.ty(0)?;
        let vectors = [1, 2, 3, 4]
            .into_iter()
            .map(|slot| if args.get(slot).is_some() { args.int_vector(slot) } else { Ok(None) })
            .collect::<Result<Vec<_>, _>>()?;
        let mut lengths = vectors.iter().flatten().map(Vec::len);
        let count = lengths.next();
        if lengths.any(|len| Some(len) != count) {
            return Err(TypeError::Shapes("starts, ends, axes and steps differ in length".to_owned()));
        }
        let step_zero = vectors[3].iter().flatten().any(|s| *s == SymInt::Int(0));
        if step_zero {
            return Err(TypeError::Shapes("a step is zero".to_owned()));
        }
        let unknown = || TensorType { dtype: x.dtype, shape: vec![Dim::Any; x.rank()] };
        let Some(count) = count else { return Ok(vec![unknown()]) };
        let axes: Option<Vec<i64>> = match (args.get(3), &vectors[2]) {
            (None, _) => Some((0..count as i64).collect()),
            (Some(_), axes) => axes.as_ref().and_then(|axes| axes.iter().map(SymInt::int).collect()),
        };
        let Some(axes) = axes else { return Ok(vec![unknown()]) };
        let axes = resolve_axes(&axes, x.rank())?;
        let any = vec![SymInt::Any; count];
        let of = |i: usize| vectors[i].as_ref().unwrap_or(&any);
        let ones = vec![SymInt::Int(1); count];
        let steps = if args.get(4).is_some() { of(3) } else { &ones };
        let mut shape = x.shape.clone();
        for (i, &axis) in axes.iter().enumerate() {
            shape[axis] = extent(&x.shape[axis], &of(0)[i], &of(1)[i], &steps[i]);
        }
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{arg, ints, types};
    use crate::types::DType;

    #[test]
    fn ranges_follow_numpy() {
        let run = |n, start, end, step| {
            let s = strided(n, start, end, step);
            (0..s.count as i64).map(|i| s.start as i64 + i * s.step).collect::<Vec<_>>()
        };
        assert_eq!(run(5, 1, 4, 1), [1, 2, 3]);
        assert_eq!(run(5, -3, i64::MAX, 2), [2, 4]);
        assert_eq!(run(5, i64::MAX, i64::MIN, -2), [4, 2, 0]);
        assert_eq!(run(5, 3, 0, -1), [3, 2, 1]);
        assert_eq!(run(5, 4, 2, 1), [0i64; 0]);
        assert_eq!(run(5, i64::MIN, i64::MAX, i64::MAX), [0]);
        assert_eq!(run(5, -1, i64::MIN, i64::MIN), [4]);
        assert_eq!(run(0, 0, -1, -1), [0i64; 0]);
    }

    #[test]
    fn whole_ranges_keep_symbols() {
        let run = |starts, ends, axes, steps| {
            types(Slice {}, &[arg(DType::F32, "N 5 M"), ints(starts), ints(ends), ints(axes), ints(steps)])
        };
        assert_eq!(run("0", "9223372036854775807", "0", "1").unwrap(), "f32[N, 5, M]");
        assert_eq!(run("0 1", "N -1", "0 1", "1 2").unwrap(), "f32[N, 2, M]");
        assert_eq!(run("-1", "-9223372036854775808", "-1", "-1").unwrap(), "f32[N, 5, M]");
        assert_eq!(run("1", "3", "2", "1").unwrap(), "f32[N, 5, ?]");
        assert_eq!(run("?", "3", "1", "1").unwrap(), "f32[N, ?, M]");
        assert_eq!(run("0", "3", "?", "1").unwrap(), "f32[?, ?, ?]");
        assert!(run("0", "3", "1", "0").is_err());
        assert!(run("0 1", "3", "1", "1").is_err());
        assert!(run("0 1", "3 3", "1 -2", "1 1").is_err());
        assert!(run("0", "3", "4611686018427387904", "1").is_err());
    }
}
