//! The sparse encoding.

use super::Packed;

/// Where the kept elements of a sparse constant are. A constant is seen as the matrix
/// `[shape[0], rest]` by the patterns that speak of rows.
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
    /// Distances from one kept element to the next; where a distance overflows, a filler zero is kept
    /// (Deep Compression, section 2).
    Relative(Packed),
    /// Exactly `n` of every `m` neighbouring elements of a row are kept.
    NofM {
        /// Kept of a group.
        n: usize,
        /// Elements of a group.
        m: usize,
        /// Positions within the group.
        positions: Packed,
    },
    /// Blocks are kept whole.
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
#[derive(Clone, Debug, PartialEq)]
pub enum PatternForm {
    /// [`Pattern::Bitmap`]
    Bitmap,
    /// [`Pattern::Csr`]
    Csr,
    /// [`Pattern::Relative`] with this many bits a distance.
    Relative(u8),
    /// [`Pattern::NofM`]
    NofM(usize, usize),
    /// [`Pattern::Block`] of rows × columns.
    Block(usize, usize),
}
