//! Images split by the remainder of their columns when divided by two: even columns to one image, odd ones to
//! another.
//!
//! Elements of a row lie next to each other in all three. Only elements of rows are read and written, so the last
//! vectors of a row may be parts of ones.

use super::program::{Inst, LANES, MAX_DEPTH, P, V, Writer};
use super::schedule::{Axis, STAY, Schedule, signed};
use super::walk::{self, GRAIN, Limits};
use crate::target::Vectors;

/// Pointers of the kernel: the image, then the results there are.
const FROM: P = P(0);

/// A split with everything that is baked into its code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Split {
    /// Rows; steps are those of the pointers.
    rows: Vec<Axis>,
    columns: usize,
    /// Which columns are wanted, as remainders.
    wanted: Vec<usize>,
}

impl Split {
    /// Of rows of so many elements, in a box of this shape. `strides` are those of the image and of each result,
    /// in bytes; results are of the even columns, the odd ones or both, as `wanted` says in order.
    pub(crate) fn new(shape: &[usize], columns: usize, strides: &[&[i64]], wanted: Vec<usize>) -> Split {
        Split { rows: walk::merged(shape, strides.iter().copied()), columns, wanted }
    }

    /// Elements read.
    pub(crate) fn elements(&self) -> usize {
        self.rows.iter().map(|axis| axis.count).product::<usize>() * self.columns
    }

    /// The schedule: rows, several in a program.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let pointers = 1 + self.wanted.len();
        let mut schedule = Schedule::new(pointers);
        let limits = Limits { grain: (GRAIN / self.columns).max(1), axes: MAX_DEPTH };
        walk::divide(&mut schedule, STAY, &self.rows, limits, |rows| {
            let mut w = Writer::new(pointers, vectors.registers());
            walk::repeat(&mut w, rows, &mut |w| {
                self.row(w);
                STAY
            });
            w.finish()
        });
        schedule
    }

    fn row(&self, w: &mut Writer) {
        let [a, b, d] = [w.take(), w.take(), w.take()];
        for first in (0..self.columns).step_by(2 * LANES) {
            for (v, first) in [(a, first), (b, first + LANES)] {
                match self.columns.saturating_sub(first).min(LANES) {
                    0 => w.set(v, 0.0),
                    lanes => w.load_lanes(v, FROM.at(signed(first * 4)), lanes),
                }
            }
            for (to, &remainder) in (1..).map(P).zip(&self.wanted) {
                let lanes = (self.columns - first + 1 - remainder) / 2;
                if lanes > 0 {
                    w.push(Inst::Deinterleave { d, a, b, odd: remainder == 1 });
                    w.store_lanes(to.at(signed(first / 2 * 4)), d, lanes.min(LANES));
                }
            }
        }
        [a, b, d].into_iter().for_each(|v: V| w.drop(v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jit::testing::{all_vectors, numbers, run};

    #[test]
    fn rows_of_every_length() {
        for columns in [1, 2, 3, 15, 16, 17, 31, 32, 33, 47, 64, 97] {
            for wanted in [vec![0, 1], vec![1], vec![0]] {
                let rows = 5;
                let from = numbers(rows * (columns + 3), 1);
                let to = columns.div_ceil(2) + 1;
                let [x, y] = [columns + 3, to].map(|row| [signed(row * 4)]);
                let strides: Vec<&[i64]> = [&x[..]].into_iter().chain(wanted.iter().map(|_| &y[..])).collect();
                let split = Split::new(&[rows], columns, &strides, wanted.clone());
                for vectors in all_vectors() {
                    let mut buffers = vec![from.clone()];
                    buffers.extend(wanted.iter().map(|_| vec![99.0; rows * to]));
                    run(vectors, &split.schedule(vectors), &mut buffers);
                    for (result, remainder) in buffers[1..].iter().zip(&wanted) {
                        for (i, &y) in result.iter().enumerate() {
                            let column = i % to * 2 + remainder;
                            let x = if column < columns { from[i / to * (columns + 3) + column] } else { 99.0 };
                            assert_eq!(y, x, "{vectors}: {columns} columns, {wanted:?}, element {i}");
                        }
                    }
                }
            }
        }
    }
}
