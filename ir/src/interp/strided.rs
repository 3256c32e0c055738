//! Walks over tensors by strides: broadcasting, transposing, slicing and repeating without index
//! arithmetic per element.

/// A row-major walk over an iteration space, with the offsets into `N` operands.
///
/// Neighbouring axes that every operand walks evenly are merged, so that the rows are long.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Walk<const N: usize> {
    axes: Vec<(usize, [isize; N])>,
    base: [isize; N],
    len: usize,
}

/// The strides of a dense row-major tensor.
pub(super) fn strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![0; shape.len()];
    let mut stride = 1isize;
    for (i, &extent) in shape.iter().enumerate().rev() {
        strides[i] = stride;
        // A tensor that exists has fewer elements than isize counts; empty ones are never walked.
        stride = stride.saturating_mul(isize::try_from(extent).unwrap_or(isize::MAX));
    }
    strides
}

impl<const N: usize> Walk<N> {
    /// A walk over `shape`; operand `k` starts at `base[k]` and moves by `strides[k][axis]`.
    pub(super) fn new(shape: &[usize], base: [isize; N], strides: [&[isize]; N]) -> Walk<N> {
        let mut axes: Vec<(usize, [isize; N])> = Vec::with_capacity(shape.len());
        for (i, &extent) in shape.iter().enumerate() {
            let steps = strides.map(|s| s[i]);
            if extent == 1 {
                continue;
            }
            match axes.last_mut() {
                Some((outer, outer_steps))
                    if (0..N).all(|k| steps[k].checked_mul(extent as isize) == Some(outer_steps[k])) =>
                {
                    *outer = outer.saturating_mul(extent);
                    *outer_steps = steps;
                }
                _ => axes.push((extent, steps)),
            }
        }
        Walk { axes, base, len: shape.iter().product() }
    }

    /// A walk over `shape`, to which every operand broadcasts.
    pub(super) fn broadcast(shape: &[usize], operands: [&[usize]; N]) -> Walk<N> {
        let strides = operands.map(|operand| {
            let mut aligned = vec![0; shape.len() - operand.len()];
            aligned.extend(strides(operand).into_iter().zip(operand).map(|(s, &n)| if n == 1 { 0 } else { s }));
            aligned
        });
        Walk::new(shape, [0; N], strides.each_ref().map(Vec::as_slice))
    }

    /// Calls `row` for each innermost row, in order, with the offsets of its first element, its length and
    /// the strides along it.
    pub(super) fn rows(&self, mut row: impl FnMut([usize; N], usize, &[isize; N])) {
        if self.len == 0 {
            return;
        }
        let at = |offsets: &[isize; N]| offsets.map(|o| usize::try_from(o).expect("walks stay inside their operands"));
        let Some((&(len, steps), outer)) = self.axes.split_last() else {
            return row(at(&self.base), 1, &[0; N]);
        };
        let mut index = vec![0usize; outer.len()];
        let mut offsets = self.base;
        loop {
            row(at(&offsets), len, &steps);
            let mut axis = outer.len();
            loop {
                let Some(next) = axis.checked_sub(1) else { return };
                axis = next;
                let (extent, steps) = &outer[axis];
                index[axis] += 1;
                if index[axis] < *extent {
                    for k in 0..N {
                        offsets[k] += steps[k];
                    }
                    break;
                }
                for k in 0..N {
                    offsets[k] -= steps[k] * (extent - 1) as isize;
                }
                index[axis] = 0;
            }
        }
    }
}

fn along(start: usize, step: isize, i: usize) -> usize {
    start.wrapping_add_signed(step.wrapping_mul(i as isize))
}

impl Walk<1> {
    /// The elements in the order of the walk.
    pub(super) fn copy<T: Copy>(&self, x: &[T]) -> Vec<T> {
        let mut y = Vec::with_capacity(self.len);
        self.rows(|[start], len, &[step]| match step {
            1 => y.extend_from_slice(&x[start..start + len]),
            0 => y.extend(std::iter::repeat_n(x[start], len)),
            _ => y.extend((0..len).map(|i| x[along(start, step, i)])),
        });
        y
    }
}

impl Walk<2> {
    /// A function of the elements of both operands, in the order of the walk.
    pub(super) fn zip<A: Copy, B: Copy, C>(&self, a: &[A], b: &[B], f: impl Fn(A, B) -> C) -> Vec<C> {
        let mut y = Vec::with_capacity(self.len);
        self.rows(|[p, q], len, steps| match steps {
            [1, 1] => y.extend(a[p..p + len].iter().zip(&b[q..q + len]).map(|(&a, &b)| f(a, b))),
            [1, 0] => {
                let b = b[q];
                y.extend(a[p..p + len].iter().map(|&a| f(a, b)));
            }
            [0, 1] => {
                let a = a[p];
                y.extend(b[q..q + len].iter().map(|&b| f(a, b)));
            }
            &[s, t] => y.extend((0..len).map(|i| f(a[along(p, s, i)], b[along(q, t, i)]))),
        });
        y
    }
}

impl Walk<3> {
    /// A function of the elements of three operands, in the order of the walk.
    pub(super) fn zip<A: Copy, B: Copy, C: Copy, D>(
        &self,
        (a, b, c): (&[A], &[B], &[C]),
        f: impl Fn(A, B, C) -> D,
    ) -> Vec<D> {
        let mut y = Vec::with_capacity(self.len);
        self.rows(|[p, q, r], len, &[s, t, u]| {
            y.extend((0..len).map(|i| f(a[along(p, s, i)], b[along(q, t, i)], c[along(r, u, i)])));
        });
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_walked_evenly_are_merged() {
        let walk = Walk::broadcast(&[2, 3, 4], [&[2, 3, 4], &[2, 3, 4]]);
        assert_eq!(walk.axes, [(24, [1, 1])]);
        let walk = Walk::broadcast(&[2, 3, 4], [&[2, 3, 4], &[]]);
        assert_eq!(walk.axes, [(24, [1, 0])]);
        let walk = Walk::broadcast(&[2, 3, 4, 5], [&[2, 3, 4, 5], &[3, 1, 1]]);
        assert_eq!(walk.axes, [(2, [60, 0]), (3, [20, 1]), (20, [1, 0])]);
    }

    #[test]
    fn broadcasts() {
        let zip = |shape: &[usize], a: &[usize], b: &[usize]| {
            let data: Vec<i32> = (0..24).collect();
            Walk::broadcast(shape, [a, b]).zip(&data, &data, |a, b| a * 100 + b)
        };
        assert_eq!(zip(&[2, 2], &[2, 1], &[2]), [0, 1, 100, 101]);
        assert_eq!(zip(&[2, 2], &[2], &[2, 1]), [0, 100, 1, 101]);
        assert_eq!(zip(&[], &[], &[]), [0]);
        assert_eq!(zip(&[2, 0], &[2, 0], &[2, 1]), [0; 0]);
        assert_eq!(zip(&[2, 1, 2], &[2, 1, 1], &[1, 1, 2]), [0, 1, 100, 101]);
    }

    #[test]
    fn copies_backwards_and_transposed() {
        let x: Vec<i32> = (0..6).collect();
        assert_eq!(Walk::new(&[3, 2], [0], [&[1, 3]]).copy(&x), [0, 3, 1, 4, 2, 5]);
        assert_eq!(Walk::new(&[6], [5], [&[-1]]).copy(&x), [5, 4, 3, 2, 1, 0]);
        assert_eq!(Walk::new(&[2, 3], [5], [&[-3, -1]]).copy(&x), [5, 4, 3, 2, 1, 0]);
        assert_eq!(Walk::new(&[2, 3, 2], [0], [&[0, 1, 0]]).copy(&x), [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
    }
}
