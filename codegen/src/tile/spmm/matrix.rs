//! The weights of a sparse product, before they are laid out for a kernel.

/// Weights that are looked at together.
const RUN: usize = 64;

/// The weights that are not zero, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Matrix {
    /// Where the entries of each row begin, and where the last ones end.
    starts: Vec<usize>,
    /// The k and the weight of each entry, those of a row by k.
    entries: Vec<(u32, f32)>,
}

impl Matrix {
    /// Of so many rows; `row` gives the first k of a row and its weights, one after the other.
    pub(crate) fn new<'a>(rows: usize, row: impl Fn(usize) -> (usize, &'a [f32])) -> Matrix {
        let mut matrix = Matrix { starts: vec![0], entries: Vec::new() };
        for (first, weights) in (0..rows).map(row) {
            let first = u32::try_from(first).expect("rows are short");
            for (first, weights) in (first..).step_by(RUN).zip(weights.chunks(RUN)) {
                // Every weight is written, over the last one if that is zero: a branch would be guessed wrong.
                let (mut kept, mut count) = ([(0, 0.0); RUN], 0);
                for (k, &weight) in (first..).zip(weights) {
                    kept[count] = (k, weight);
                    count += usize::from(weight != 0.0);
                }
                matrix.entries.extend_from_slice(&kept[..count]);
            }
            matrix.starts.push(matrix.entries.len());
        }
        matrix
    }

    /// Of so many rows of quads of bytes, whose bits stand for numbers; those of zeros are left out. `row` gives the
    /// first k of a row and its quads, one after the other.
    pub(crate) fn of_quads<I: Iterator<Item = [i8; 4]>>(rows: usize, row: impl Fn(usize) -> (usize, I)) -> Matrix {
        let mut matrix = Matrix { starts: vec![0], entries: Vec::new() };
        for (first, quads) in (0..rows).map(row) {
            let first = u32::try_from(first).expect("rows are short");
            let kept = (first..).zip(quads).filter(|(_, quad)| *quad != [0; 4]);
            matrix.entries.extend(kept.map(|(k, quad)| (k, f32::from_le_bytes(quad.map(i8::cast_unsigned)))));
            matrix.starts.push(matrix.entries.len());
        }
        matrix
    }

    pub(crate) fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The entries of a row.
    pub(crate) fn row(&self, r: usize) -> &[(u32, f32)] {
        &self.entries[self.starts[r]..self.starts[r + 1]]
    }
}
