//! Loops over the pixels of a plane within a tile program.

use super::program::{P, Writer};
use super::schedule::signed;

/// A plane: rows and columns, and bytes that each pointer moves from one row and column to the next, the first
/// pointer first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plane {
    rows: usize,
    columns: usize,
    steps: Vec<[i64; 2]>,
}

impl Plane {
    /// A plane; one whose rows follow each other under all pointers is a single row.
    pub(crate) fn new([rows, columns]: [usize; 2], steps: &[[i64; 2]]) -> Plane {
        let follows = steps.iter().all(|&[row, column]| row == column * signed(columns));
        let (rows, columns) = if follows { (1, rows * columns) } else { (rows, columns) };
        Plane { rows, columns, steps: steps.to_vec() }
    }

    /// Writes what `body` does for every pixel, row by row. It is given the number of the pixel among those of
    /// one turn, `at_once` at most, and has to add its columns to the pointers. Pointers end where they began.
    pub(crate) fn sweep(&self, w: &mut Writer, at_once: usize, mut body: impl FnMut(&mut Writer, usize)) {
        let at_once = at_once.clamp(1, self.columns);
        let (turns, rest) = (self.columns / at_once, self.columns % at_once);
        w.repeat(self.rows, |w| {
            w.repeat(turns, |w| {
                (0..at_once).for_each(|i| body(w, i));
                self.advance(w, |[_, column]| column * signed(at_once));
            });
            (0..rest).for_each(|i| body(w, i));
            self.advance(w, |[row, column]| row - column * signed(turns * at_once));
        });
        self.advance(w, |[row, _]| -row * signed(self.rows));
    }

    fn advance(&self, w: &mut Writer, bytes: impl Fn([i64; 2]) -> i64) {
        for (pointer, &steps) in (0..).map(P).zip(&self.steps) {
            w.advance(pointer, bytes(steps));
        }
    }
}
