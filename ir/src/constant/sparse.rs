//! The sparse encoding: where the kept elements are. All others are zero, with no bit set.
//!
//! Canonical: a pattern keeps what it must and no more. Bitmap, rows and distances keep the elements that
//! are not blank (`-0` is kept); `n` of `m` adds the first blank ones of a group that has fewer; a
//! block is kept if any of its elements is not blank. So equal elements have equal encodings.

use std::fmt;

use super::malformed;
use super::packed::{Packed, width};
use crate::error::ConstantError;

/// Where the kept elements of a sparse constant are. A constant is seen as the matrix
/// `[shape[0], rest]` by the patterns that speak of rows; a scalar is one row of one column.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// One bit an element.
    Bitmap(Packed),
    /// Compressed sparse rows.
    Csr {
        /// Where each row starts among the kept elements, and the end: rows + 1 numbers.
        rows: Packed,
        /// The column of each kept element.
        columns: Packed,
    },
    /// The number of elements skipped before each kept one (the distance from the one before, less one);
    /// where it does not fit, the farthest element in reach is kept as a filler, a zero among the values
    /// (Deep Compression, section 2).
    Relative(Packed),
    /// Exactly `n` of every `m` neighbouring elements of a row are kept.
    NofM {
        /// Kept of a group.
        n: usize,
        /// Elements of a group; divides the columns.
        m: usize,
        /// Positions within the group, ascending.
        positions: Packed,
    },
    /// Blocks are kept whole; those at the lower and right edges may be cut.
    Block {
        /// Rows of a block.
        rows: usize,
        /// Columns of a block.
        columns: usize,
        /// One bit a block, row-major.
        mask: Packed,
    },
}

/// A pattern without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternForm {
    /// [`Pattern::Bitmap`]
    Bitmap,
    /// [`Pattern::Csr`]
    Csr,
    /// [`Pattern::Relative`] with this many bits a distance, 1..=16.
    Relative(u8),
    /// [`Pattern::NofM`]
    NofM(usize, usize),
    /// [`Pattern::Block`] of rows × columns.
    Block(usize, usize),
}

/// `bitmap`, `csr`, `relative(8)`, `nofm(2, 4)`, `block(4, 4)`.
impl fmt::Display for PatternForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatternForm::Bitmap => f.write_str("bitmap"),
            PatternForm::Csr => f.write_str("csr"),
            PatternForm::Relative(bits) => write!(f, "relative({bits})"),
            PatternForm::NofM(n, m) => write!(f, "nofm({n}, {m})"),
            PatternForm::Block(rows, columns) => write!(f, "block({rows}, {columns})"),
        }
    }
}

/// A constant as a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Matrix {
    pub(super) fn new(shape: &[usize]) -> Matrix {
        match shape {
            [] => Matrix { rows: 1, columns: 1 },
            [rows, rest @ ..] => Matrix { rows: *rows, columns: rest.iter().product() },
        }
    }

    pub(super) fn len(self) -> usize {
        self.rows * self.columns
    }

    /// Rows and columns of blocks; block sizes are not zero.
    fn blocks(self, rows: usize, columns: usize) -> Matrix {
        Matrix { rows: self.rows.div_ceil(rows), columns: self.columns.div_ceil(columns) }
    }
}

/// Checks a form against the matrix it is to hold.
pub(super) fn check_form(form: &PatternForm, matrix: Matrix) -> Result<(), ConstantError> {
    let Matrix { rows, columns } = matrix;
    let fits = match *form {
        PatternForm::Bitmap => true,
        PatternForm::Csr => u32::try_from(columns.max(matrix.len())).is_ok(),
        PatternForm::Relative(bits) => (1..=16).contains(&bits),
        PatternForm::NofM(n, m) => 1 <= n && n <= m && m <= 1 << 16 && columns.is_multiple_of(m),
        PatternForm::Block(r, c) => (1..=1 << 16).contains(&r) && (1..=1 << 16).contains(&c),
    };
    if fits { Ok(()) } else { Err(malformed(format!("sparse({form}) does not fit {rows} rows of {columns}"))) }
}

impl Pattern {
    /// The pattern without its payload.
    pub fn form(&self) -> PatternForm {
        match self {
            Pattern::Bitmap(_) => PatternForm::Bitmap,
            Pattern::Csr { .. } => PatternForm::Csr,
            Pattern::Relative(gaps) => PatternForm::Relative(gaps.bits()),
            Pattern::NofM { n, m, .. } => PatternForm::NofM(*n, *m),
            Pattern::Block { rows, columns, .. } => PatternForm::Block(*rows, *columns),
        }
    }

    /// The bytes of the payload.
    pub fn stored_bytes(&self) -> usize {
        match self {
            Pattern::Csr { rows, columns } => rows.bytes().len() + columns.bytes().len(),
            Pattern::Bitmap(codes)
            | Pattern::Relative(codes)
            | Pattern::NofM { positions: codes, .. }
            | Pattern::Block { mask: codes, .. } => codes.bytes().len(),
        }
    }

    /// The pattern of this form that keeps the elements at `nonblank`, which ascend.
    ///
    /// # Errors
    /// [`ConstantError::Malformed`] if the form does not fit the shape or a position is beyond it,
    /// [`ConstantError::Inexact`] if a group has more than `n` elements to keep.
    pub fn new(form: &PatternForm, shape: &[usize], nonblank: &[usize]) -> Result<Pattern, ConstantError> {
        let matrix = Matrix::new(shape);
        check_form(form, matrix)?;
        if nonblank.last().is_some_and(|&last| last >= matrix.len()) || !nonblank.is_sorted_by(|a, b| a < b) {
            return Err(malformed("kept positions do not ascend within the shape"));
        }
        Ok(match *form {
            PatternForm::Bitmap => Pattern::Bitmap(mask(matrix.len(), nonblank.iter().copied())),
            PatternForm::Csr => csr(matrix, nonblank),
            PatternForm::Relative(bits) => relative(bits, nonblank),
            PatternForm::NofM(n, m) => n_of_m(n, m, matrix, nonblank)?,
            PatternForm::Block(rows, columns) => {
                let grid = matrix.blocks(rows, columns);
                let block = |&at: &usize| at / matrix.columns / rows * grid.columns + at % matrix.columns / columns;
                Pattern::Block { rows, columns, mask: mask(grid.len(), nonblank.iter().map(block)) }
            }
        })
    }

    /// Calls `f` with the position of every kept element, ascending.
    pub(super) fn for_each(&self, matrix: Matrix, mut f: impl FnMut(usize)) {
        match self {
            Pattern::Bitmap(bits) => for_each_bit(bits, f),
            Pattern::Csr { rows, columns } => {
                let mut columns = columns.iter();
                let ends = rows.iter().skip(1);
                let mut start = 0;
                for (row, end) in ends.enumerate() {
                    let kept = columns.by_ref().take((end as usize).saturating_sub(start));
                    kept.for_each(|column| f(row * matrix.columns + column as usize));
                    start = end as usize;
                }
            }
            Pattern::Relative(gaps) => {
                let mut next = 0;
                for gap in gaps.iter() {
                    f(next + gap as usize);
                    next += gap as usize + 1;
                }
            }
            Pattern::NofM { n, m, positions } => {
                let (mut group, mut taken) = (0, 0);
                for position in positions.iter() {
                    f(group + position as usize);
                    taken += 1;
                    if taken == *n {
                        taken = 0;
                        group += m;
                    }
                }
            }
            Pattern::Block { rows, columns, mask } => {
                let grid = matrix.blocks(*rows, *columns);
                let mut kept = Vec::new();
                for band in 0..grid.rows {
                    let is_kept = |&block: &usize| mask.get(band * grid.columns + block) == Some(1);
                    kept.clear();
                    kept.extend((0..grid.columns).filter(is_kept));
                    for row in band * rows..((band + 1) * rows).min(matrix.rows) {
                        for block in &kept {
                            let end = ((block + 1) * columns).min(matrix.columns);
                            (block * columns..end).for_each(|column| f(row * matrix.columns + column));
                        }
                    }
                }
            }
        }
    }

    /// The positions of the kept elements in a constant of this shape, ascending.
    pub fn positions(&self, shape: &[usize]) -> Vec<usize> {
        let mut positions = Vec::new();
        self.for_each(Matrix::new(shape), |at| positions.push(at));
        positions
    }

    /// The elements spread out, zeros between.
    pub(super) fn scatter<T: Copy + Default>(&self, values: &[T], matrix: Matrix) -> Vec<T> {
        let mut out = vec![T::default(); matrix.len()];
        let mut values = values.iter();
        self.for_each(matrix, |at| {
            if let Some(&value) = values.next() {
                out[at] = value;
            }
        });
        out
    }

    /// Checks the payload against the matrix and returns the number of kept elements.
    pub(super) fn validate(&self, matrix: Matrix) -> Result<usize, ConstantError> {
        check_form(&self.form(), matrix)?;
        let expect = |what: &str, codes: &Packed, len: usize, max: usize| {
            let (bits, want) = (codes.bits(), width(max));
            match codes.len() == len && bits == want {
                true => Ok(()),
                false => Err(malformed(format!("{} {what} of {bits} bits, expected {len} of {want}", codes.len()))),
            }
        };
        match self {
            Pattern::Bitmap(bits) => {
                expect("mask bits", bits, matrix.len(), 1)?;
                Ok(ones(bits))
            }
            Pattern::Csr { rows, columns } => {
                expect("row starts", rows, matrix.rows + 1, columns.len())?;
                expect("columns", columns, columns.len(), matrix.columns.saturating_sub(1))?;
                validate_csr(rows, columns, matrix)?;
                Ok(columns.len())
            }
            Pattern::Relative(gaps) => {
                let reach = gaps.iter().try_fold(0usize, |at, gap| at.checked_add(gap as usize + 1));
                match reach.is_some_and(|end| end <= matrix.len()) {
                    true => Ok(gaps.len()),
                    false => Err(malformed("distances lead beyond the shape")),
                }
            }
            Pattern::NofM { n, m, positions } => {
                expect("positions", positions, matrix.len() / m * n, m - 1)?;
                let mut before = None;
                for (i, position) in positions.iter().enumerate() {
                    let least = if i % n == 0 { 0 } else { before.map_or(0, |b: usize| b + 1) };
                    if (position as usize) < least || position as usize >= *m {
                        return Err(malformed("positions do not ascend within a group"));
                    }
                    before = Some(position as usize);
                }
                Ok(positions.len())
            }
            Pattern::Block { rows, columns, mask } => {
                let grid = matrix.blocks(*rows, *columns);
                expect("mask bits", mask, grid.len(), 1)?;
                let mut kept = 0;
                for_each_bit(mask, |block| {
                    let (band, block) = (block / grid.columns, block % grid.columns);
                    kept += (*rows).min(matrix.rows - band * rows) * (*columns).min(matrix.columns - block * columns);
                });
                Ok(kept)
            }
        }
    }

    /// Checks that blank elements are kept only where the pattern can't do otherwise. `blank` says of each
    /// kept element whether it is.
    pub(super) fn validate_blanks(&self, matrix: Matrix, blank: &[bool]) -> Result<(), ConstantError> {
        let needless = match self {
            Pattern::Bitmap(_) | Pattern::Csr { .. } => blank.contains(&true),
            Pattern::Relative(gaps) => {
                let filler = (1u32 << gaps.bits()) - 1;
                blank.last() == Some(&true) || gaps.iter().zip(blank).any(|(gap, &blank)| blank && gap != filler)
            }
            Pattern::NofM { n, positions, .. } => {
                // The blank elements not kept come after the blank ones kept.
                let positions: Vec<_> = positions.iter().collect();
                positions.chunks(*n).zip(blank.chunks(*n)).any(|(positions, blank)| {
                    let last = positions.iter().zip(blank).rposition(|(_, &blank)| blank);
                    last.is_some_and(|last| positions[last] as usize != last)
                })
            }
            Pattern::Block { rows, columns, mask } => {
                let grid = matrix.blocks(*rows, *columns);
                let mut empty: Vec<bool> = mask.iter().map(|bit| bit == 1).collect();
                let mut blank = blank.iter();
                self.for_each(matrix, |at| {
                    if blank.next() == Some(&false) {
                        empty[at / matrix.columns / rows * grid.columns + at % matrix.columns / columns] = false;
                    }
                });
                empty.contains(&true)
            }
        };
        if needless { Err(malformed("zeros are kept that need not be")) } else { Ok(()) }
    }
}

fn validate_csr(rows: &Packed, columns: &Packed, matrix: Matrix) -> Result<(), ConstantError> {
    let starts: Vec<u32> = rows.iter().collect();
    if starts.first() != Some(&0) || starts.last().map(|&end| end as usize) != Some(columns.len()) {
        return Err(malformed("row starts do not span the kept elements"));
    }
    if !starts.is_sorted() {
        return Err(malformed("row starts descend"));
    }
    let mut left = columns.iter();
    for row in starts.windows(2) {
        let mut next = 0;
        for column in left.by_ref().take((row[1] - row[0]) as usize) {
            if (column as usize) < next || column as usize >= matrix.columns {
                return Err(malformed(format!("columns do not ascend within {}", matrix.columns)));
            }
            next = column as usize + 1;
        }
    }
    Ok(())
}

/// A mask of `len` bits with these set.
fn mask(len: usize, set: impl Iterator<Item = usize>) -> Packed {
    let mut bytes = vec![0u8; len.div_ceil(8)];
    set.for_each(|at| bytes[at / 8] |= 1 << (at % 8));
    Packed::from_bytes(1, len, bytes).expect("a byte for every eight bits, and none set beyond")
}

/// Calls `f` with the index of every set bit.
fn for_each_bit(mask: &Packed, mut f: impl FnMut(usize)) {
    for (i, bytes) in mask.bytes().chunks(8).enumerate() {
        let mut word = [0u8; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let mut word = u64::from_le_bytes(word);
        while word != 0 {
            f(64 * i + word.trailing_zeros() as usize);
            word &= word - 1;
        }
    }
}

fn ones(mask: &Packed) -> usize {
    mask.bytes().iter().map(|byte| byte.count_ones() as usize).sum()
}

fn code(x: usize) -> u32 {
    u32::try_from(x).expect("codes are less than the elements of the matrix, which are limited")
}

fn csr(matrix: Matrix, kept: &[usize]) -> Pattern {
    let columns = kept.iter().map(|at| code(at % matrix.columns));
    let starts = (0..=matrix.rows).map(|row| code(kept.partition_point(|&at| at < row * matrix.columns)));
    Pattern::Csr {
        rows: Packed::pack(width(kept.len()), &starts.collect::<Vec<_>>()),
        columns: Packed::from_codes(width(matrix.columns.saturating_sub(1)), columns),
    }
}

fn relative(bits: u8, kept: &[usize]) -> Pattern {
    let reach = 1usize << bits;
    let mut gaps = Vec::with_capacity(kept.len());
    let mut next = 0;
    for &at in kept {
        let gap = at - next;
        gaps.extend(std::iter::repeat_n(code(reach - 1), gap / reach));
        gaps.push(code(gap % reach));
        next = at + 1;
    }
    Pattern::Relative(Packed::pack(bits, &gaps))
}

fn n_of_m(n: usize, m: usize, matrix: Matrix, kept: &[usize]) -> Result<Pattern, ConstantError> {
    let mut positions = Vec::with_capacity(matrix.len() / m * n);
    let mut kept = kept;
    for group in (0..matrix.len()).step_by(m) {
        let (now, later) = kept.split_at(kept[..kept.len().min(m)].partition_point(|&at| at < group + m));
        let Some(mut fill) = n.checked_sub(now.len()) else {
            return Err(ConstantError::Inexact(format!("sparse({})", PatternForm::NofM(n, m))));
        };
        let mut nonblank = now.iter().map(|at| at - group).peekable();
        for position in 0..m {
            if nonblank.next_if_eq(&position).is_some() {
                positions.push(code(position));
            } else if fill > 0 {
                positions.push(code(position));
                fill -= 1;
            }
        }
        kept = later;
    }
    Ok(Pattern::NofM { n, m, positions: Packed::pack(width(m - 1), &positions) })
}
