//! The smallest exact encoding of a tensor.
//!
//! Sizes follow from a few counts, so candidates are compared before any is built.

use super::clustered::distinct;
use super::elements::Element;
use super::packed::{packed_bytes, width};
use super::sparse::{Matrix, check_form};
use super::{Constant, Form, PatternForm, QuantParams};
use crate::tensor::Tensor;
use crate::with_elements;

/// Bits a distance that are tried.
const RELATIVE: std::ops::RangeInclusive<u8> = 4..=8;
const N_OF_M: [(usize, usize); 3] = [(2, 4), (1, 4), (4, 8)];
const BLOCKS: [(usize, usize); 9] = [(1, 4), (1, 8), (1, 16), (4, 1), (8, 1), (16, 1), (4, 4), (8, 8), (16, 16)];

impl Constant {
    /// The smallest exact encoding by [`Constant::stored_bytes`], the earlier of equals: dense; clustered; on
    /// the grid, if one is given; and sparse by bitmap, rows, distances of 4 to 8 bits, 2:4, 1:4 or
    /// 4:8, or blocks of up to 16 × 16, with values in any of those three encodings.
    pub fn smallest(tensor: &Tensor, grid: Option<&QuantParams>) -> Constant {
        let mut candidates = with_elements!(tensor.data(), v => candidates(v, tensor, grid));
        candidates.sort_by_key(|&(bytes, _)| bytes);
        // A grid may not hold the elements; dense always does.
        let encoded = candidates.iter().find_map(|(_, form)| Constant::encode(tensor, form).ok());
        encoded.unwrap_or_else(|| Constant::dense(tensor.clone()))
    }
}

/// What the elements of one tensor take in an encoding.
struct Sizes<'a> {
    bits: usize,
    grid: Option<&'a QuantParams>,
}

impl Sizes<'_> {
    fn dense(&self, len: usize) -> usize {
        (len * self.bits).div_ceil(8)
    }

    /// The most table entries with which `len` clustered elements can be smaller than dense ones.
    fn most_entries(&self, len: usize) -> usize {
        let entries = |width: usize| (len * (self.bits - width) / self.bits).min(1 << width);
        (1..self.bits.min(32)).map(entries).max().unwrap_or(0)
    }

    /// Every encoding of `len` elements, `k` of them distinct if that is known.
    fn elements(&self, len: usize, k: Option<usize>) -> Vec<(usize, Form)> {
        let mut sizes = vec![(self.dense(len), Form::Dense)];
        if let Some(k) = k {
            sizes.push((self.dense(k) + codes(width(k.saturating_sub(1)), len), Form::Clustered));
        }
        if let Some(grid) = self.grid {
            let tables = 4 * (grid.scales.len() + grid.zeros.len());
            sizes.push((tables + codes(grid.bits, len), Form::Quantized(grid.clone())));
        }
        sizes
    }
}

fn codes(bits: u8, len: usize) -> usize {
    packed_bytes(bits, len).unwrap_or(usize::MAX / 2)
}

fn candidates<T: Element>(v: &[T], tensor: &Tensor, grid: Option<&QuantParams>) -> Vec<(usize, Form)> {
    let len = v.len();
    let sizes = Sizes { bits: tensor.dtype().bits(), grid };
    let nonblank = v.iter().filter(|x| !x.is_blank()).count();
    let k = distinct(v.iter().copied(), sizes.most_entries(len)).map(|table| table.len());
    let mut candidates = sizes.elements(len, k);
    if nonblank == len {
        return candidates;
    }
    // Blank elements are one of the distinct ones, kept only where a pattern has to.
    let sparse = |form: PatternForm, pattern: usize, kept: usize| {
        let k = k.map(|k| if kept > nonblank { k } else { k - 1 });
        let elements = sizes.elements(kept, k).into_iter();
        elements.map(move |(bytes, values)| (pattern + bytes, Form::Sparse(form.clone(), Box::new(values))))
    };
    let smallest = |candidates: &[(usize, Form)]| candidates.iter().map(|&(bytes, _)| bytes).min().unwrap_or(0);
    let least_elements = smallest(&sizes.elements(nonblank, k.map(|k| k - 1)));
    if least_elements >= smallest(&candidates) {
        return candidates;
    }
    let matrix = Matrix::new(tensor.shape());
    candidates.extend(sparse(PatternForm::Bitmap, codes(1, len), nonblank));
    if check_form(&PatternForm::Csr, matrix).is_ok() {
        let starts = codes(width(nonblank), matrix.rows + 1);
        let columns = codes(width(matrix.columns.saturating_sub(1)), nonblank);
        candidates.extend(sparse(PatternForm::Csr, starts + columns, nonblank));
    }
    for (bits, fillers) in RELATIVE.zip(fillers(v)) {
        let kept = nonblank + fillers;
        candidates.extend(sparse(PatternForm::Relative(bits), codes(bits, kept), kept));
    }
    for (n, m) in N_OF_M {
        let fits = |group: &[T]| group.iter().filter(|x| !x.is_blank()).count() <= n;
        if matrix.columns.is_multiple_of(m) && v.chunks(m).all(fits) {
            let kept = len / m * n;
            candidates.extend(sparse(PatternForm::NofM(n, m), codes(width(m - 1), kept), kept));
        }
    }
    for (rows, columns) in BLOCKS {
        let best = smallest(&candidates);
        let mask = codes(1, matrix.rows.div_ceil(rows) * matrix.columns.div_ceil(columns));
        if mask + least_elements < best {
            let kept = kept_by_blocks(v, matrix, rows, columns);
            candidates.extend(sparse(PatternForm::Block(rows, columns), mask, kept));
        }
    }
    candidates
}

/// For each width in [`RELATIVE`], how many fillers the distances need.
fn fillers<T: Element>(v: &[T]) -> Vec<usize> {
    let mut fillers = vec![0; RELATIVE.count()];
    let mut gap = 0usize;
    for x in v {
        if x.is_blank() {
            gap += 1;
        } else if gap > 0 {
            for (fillers, bits) in fillers.iter_mut().zip(RELATIVE) {
                *fillers += gap >> bits;
            }
            gap = 0;
        }
    }
    fillers
}

/// How many elements are in blocks that are not all blank.
fn kept_by_blocks<T: Element>(v: &[T], matrix: Matrix, rows: usize, columns: usize) -> usize {
    let mut kept = 0;
    for band in v.chunks(rows * matrix.columns) {
        let height = band.len() / matrix.columns;
        for start in (0..matrix.columns).step_by(columns) {
            let end = (start + columns).min(matrix.columns);
            let blank = |row: &[T]| row[start..end].iter().all(|x| x.is_blank());
            if !band.chunks(matrix.columns).all(blank) {
                kept += height * (end - start);
            }
        }
    }
    kept
}
