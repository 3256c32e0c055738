//! How the elements of a value lie in its buffer.

mod codes;
mod planar;

pub(crate) use codes::CodeImage;
pub(crate) use planar::{Pitch, Planar};

use crate::tile::epilogue::Strides;
use crate::tile::fill::{Fill, Planes};
use crate::tile::transpose;
use crate::tile::{LANES, VECTOR_BYTES, signed};

/// A layout. Distances are in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Layout {
    /// Every index of an axis moves by a constant; zero where one element stands for all.
    Strided {
        /// Where the first element is.
        start: usize,
        /// One an axis.
        strides: Vec<i64>,
    },
    /// An image in blocks of [`LANES`] channels.
    Blocked(Blocked),
    /// An image in planes with zeros around them.
    Planar(Planar),
}

/// Images `[n, c, h, w]` as `[n, c/16, h, w, 16]`, with a border of zeros around each plane. Channels that fill
/// the last block up have no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) shape: [usize; 4],
    /// Border at the top, left, bottom and right, in rows and columns.
    pub(crate) border: [usize; 4],
}

impl Layout {
    /// Elements in order, the last axis fastest.
    pub(crate) fn plain(shape: &[usize]) -> Layout {
        Layout::Strided { start: 0, strides: plain_strides(shape) }
    }

    /// The first byte of a value of this shape, and the one behind its last, in its buffer.
    pub(crate) fn span(&self, shape: &[usize]) -> (i64, i64) {
        match self {
            _ if shape.contains(&0) => (0, 0),
            Layout::Strided { start, strides } => {
                let far = shape.iter().zip(strides).map(|(&n, stride)| stride * (signed(n) - 1));
                let (back, forth): (Vec<i64>, Vec<i64>) = far.map(|bytes| (bytes.min(0), bytes.max(0))).unzip();
                (signed(*start) + back.iter().sum::<i64>(), signed(*start) + forth.iter().sum::<i64>() + 4)
            }
            Layout::Blocked(image) => (0, signed(image.bytes())),
            Layout::Planar(image) => (0, signed(image.bytes())),
        }
    }

    /// Whether elements of this shape lie in order from the start of the buffer. Asked by every run, so it takes
    /// no memory.
    pub(crate) fn is_plain(&self, shape: &[usize]) -> bool {
        let Layout::Strided { start: 0, strides } = self else { return false };
        let mut next = 4;
        shape.iter().zip(strides).rev().all(|(&n, &stride)| {
            let plain = n == 1 || stride == next;
            next *= signed(n);
            plain
        })
    }
}

/// Makes a border as wide as another on every side.
pub(crate) fn widen(border: &mut [usize; 4], needed: [usize; 4]) {
    border.iter_mut().zip(needed).for_each(|(has, needs)| *has = needs.max(*has));
}

/// Whether two sets of strides reach the same elements: strides of axes of extent 1 do not count.
pub(crate) fn same_walk(shape: &[usize], a: &[i64], b: &[i64]) -> bool {
    shape.iter().zip(a.iter().zip(b)).all(|(&n, (a, b))| n == 1 || a == b)
}

/// Strides of elements in order, in bytes.
pub(crate) fn plain_strides(shape: &[usize]) -> Vec<i64> {
    let mut stride = 4;
    let mut strides: Vec<i64> = shape
        .iter()
        .rev()
        .map(|&n| {
            let this = stride;
            stride *= signed(n);
            this
        })
        .collect();
    strides.reverse();
    strides
}

impl Blocked {
    /// An image without border.
    pub(crate) fn new(shape: [usize; 4]) -> Blocked {
        Blocked { shape, border: [0; 4] }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.shape[1].div_ceil(LANES)
    }

    /// Rows of a plane, border included.
    pub(crate) fn rows(&self) -> usize {
        self.shape[2] + self.border[0] + self.border[2]
    }

    /// Columns of a plane, border included.
    pub(crate) fn columns(&self) -> usize {
        self.shape[3] + self.border[1] + self.border[3]
    }

    /// Bytes of all images.
    pub(crate) fn bytes(&self) -> usize {
        self.shape[0] * self.blocks() * self.rows() * self.columns() * VECTOR_BYTES
    }

    /// Where the first pixel inside the border is.
    pub(crate) fn start(&self) -> usize {
        (self.border[0] * self.columns() + self.border[1]) * VECTOR_BYTES
    }

    /// Steps from one image, block, row and column to the next.
    pub(crate) fn strides(&self) -> Strides {
        let row = self.columns() * VECTOR_BYTES;
        let block = self.rows() * row;
        Strides {
            image: signed(self.blocks() * block),
            group: 0,
            block: signed(block),
            row: signed(row),
            column: signed(VECTOR_BYTES),
        }
    }

    /// Where planes lie, seen from the first pixel inside the border.
    pub(crate) fn planes(&self) -> transpose::Blocked {
        let steps = self.strides();
        transpose::Blocked { start: 0, image: steps.image, block: steps.block, row: steps.row }
    }

    /// Steps over images, blocks, rows, columns and lanes.
    pub(crate) fn walk(&self) -> [i64; 5] {
        let steps = self.strides();
        [steps.image, steps.block, steps.row, steps.column, 4]
    }

    /// Extents of [`Blocked::walk`].
    pub(crate) fn extents(&self) -> [usize; 5] {
        let [images, _, rows, columns] = self.shape;
        [images, self.blocks(), rows, columns, LANES]
    }

    /// What fills the border with zeros, seen from the start of the buffer.
    pub(crate) fn clear_border(&self) -> Fill {
        let planes = Planes {
            count: self.shape[0] * self.blocks(),
            step: self.strides().block,
            height: self.rows(),
            width: self.columns(),
            column: VECTOR_BYTES,
        };
        Fill::border(0.0, planes, self.border)
    }

    /// The layout as strides of the axes of a shape of rank 3 or 4, if planes are single pixels: then channels
    /// lie one after the other.
    pub(crate) fn as_strided(&self, rank: usize) -> Option<Layout> {
        if self.shape[2] * self.shape[3] != 1 || self.border != [0; 4] {
            return None;
        }
        let image = signed(self.blocks() * VECTOR_BYTES);
        Some(Layout::Strided { start: 0, strides: [image, 4, 4, 4][..rank].to_vec() })
    }
}

/// A shape of rank 3 or 4 as images: one spatial axis is a row of pixels.
pub(crate) fn image_shape(shape: &[usize]) -> Option<[usize; 4]> {
    match *shape {
        [n, c, w] => Some([n, c, 1, w]),
        [n, c, h, w] => Some([n, c, h, w]),
        _ => None,
    }
}

/// Strides of a value of rank 3 or 4 as those of images: one spatial axis is a row of pixels.
pub(crate) fn image_strides(strides: Vec<i64>) -> Option<[i64; 4]> {
    match *strides {
        [n, c, w] => Some([n, c, 0, w]),
        [n, c, h, w] => Some([n, c, h, w]),
        _ => None,
    }
}

/// The layout of a transposed view: axis `i` of the result is axis `perm[i]`.
pub(crate) fn permuted(strides: &[i64], perm: &[usize]) -> Vec<i64> {
    perm.iter().map(|&axis| strides[axis]).collect()
}

/// The permutation that undoes another.
pub(crate) fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
    inverse
}

/// Strides of the same elements in another shape, if no element has to move.
pub(crate) fn reshaped(shape: &[usize], strides: &[i64], to: &[usize]) -> Option<Vec<i64>> {
    // Axes of the source that lie one after the other are one.
    let mut runs: Vec<(usize, i64)> = Vec::new();
    for (&n, &stride) in shape.iter().zip(strides).filter(|(n, _)| **n != 1) {
        match runs.last_mut() {
            Some((count, inner)) if *inner == stride * signed(n) => (*count, *inner) = (*count * n, stride),
            _ => runs.push((n, stride)),
        }
    }
    let mut result = vec![4; to.len()];
    let mut axes = to.iter().enumerate().rev();
    for (count, stride) in runs.into_iter().rev() {
        let (mut left, mut stride) = (count, stride);
        while left > 1 {
            let (axis, &n) = axes.next()?;
            if n == 0 || left % n != 0 {
                return None;
            }
            result[axis] = stride;
            stride *= signed(n);
            left /= n;
        }
    }
    axes.all(|(_, &n)| n == 1).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_of_other_shapes() {
        let shape = [2, 3, 4, 5];
        let strides = plain_strides(&shape);
        assert_eq!(strides, [240, 80, 20, 4]);
        assert_eq!(reshaped(&shape, &strides, &[6, 20]), Some(vec![80, 4]));
        assert_eq!(reshaped(&shape, &strides, &[2, 1, 12, 5]).unwrap()[2..], [20, 4]);
        // Heads beside tokens: the features of a head can be split, but not merged with those of the next.
        let heads = permuted(&strides, &[0, 2, 1, 3]);
        assert_eq!(heads, [240, 20, 80, 4]);
        assert_eq!(reshaped(&[2, 4, 3, 5], &heads, &[2, 2, 2, 3, 5]), Some(vec![240, 40, 20, 80, 4]));
        assert_eq!(reshaped(&[2, 4, 3, 5], &heads, &[2, 4, 15]), None);
        assert_eq!(reshaped(&[1, 1], &[0, 0], &[1]), Some(vec![4]));
    }

    #[test]
    fn planes_have_borders() {
        let image = Blocked { shape: [2, 20, 3, 4], border: [1, 1, 1, 2] };
        assert_eq!((image.blocks(), image.rows(), image.columns()), (2, 5, 7));
        assert_eq!(image.bytes(), 2 * 2 * 5 * 7 * 64);
        assert_eq!(image.start(), 8 * 64);
    }
}
