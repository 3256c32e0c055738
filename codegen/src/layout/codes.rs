//! Images of codes: bytes that stand for numbers.

use crate::tile::epilogue::Strides;
use crate::tile::fill::{Fill, Planes};
use crate::tile::{LANES, signed};

/// Images `[n, c, h, w]` as `[n, c/16, h, w, 16]` bytes, or, of up to four channels, as `[n, h, w, 4]`, with a border
/// of zero points around each plane. Channels that fill the last pixel up have no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeImage {
    pub(crate) shape: [usize; 4],
    /// Border at the top, left, bottom and right, in rows and columns.
    pub(crate) border: [usize; 4],
    /// Channels of a block, and so bytes of a pixel: 16 or 4.
    pub(crate) pixel: usize,
}

impl CodeImage {
    /// Images in blocks of [`LANES`] channels.
    pub(crate) fn new(shape: [usize; 4], border: [usize; 4]) -> CodeImage {
        CodeImage { shape, border, pixel: LANES }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.shape[1].div_ceil(self.pixel)
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
        self.shape[0] * self.blocks() * self.rows() * self.columns() * self.pixel
    }

    /// Where the first pixel inside the border is.
    pub(crate) fn start(&self) -> usize {
        self.inside([self.border[0], self.border[1]])
    }

    /// Where a pixel of a plane is, the border included.
    pub(crate) fn inside(&self, [row, column]: [usize; 2]) -> usize {
        (row * self.columns() + column) * self.pixel
    }

    /// Steps from one image, block, row and column to the next.
    pub(crate) fn strides(&self) -> Strides {
        let row = self.columns() * self.pixel;
        let block = self.rows() * row;
        Strides {
            image: signed(self.blocks() * block),
            group: 0,
            block: signed(block),
            row: signed(row),
            column: signed(self.pixel),
        }
    }

    /// What fills the border with zero points, seen from the start of the buffer.
    pub(crate) fn clear_border(&self, zero: u8) -> Fill {
        let planes = Planes {
            count: self.shape[0] * self.blocks(),
            step: self.strides().block,
            height: self.rows(),
            width: self.columns(),
            column: self.pixel,
        };
        Fill::border(f32::from_le_bytes([zero; 4]), planes, self.border)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_bytes() {
        let image = CodeImage::new([2, 20, 3, 4], [1, 1, 1, 2]);
        assert_eq!((image.blocks(), image.rows(), image.columns()), (2, 5, 7));
        assert_eq!((image.bytes(), image.start()), (2 * 2 * 5 * 7 * 16, 8 * 16));
        let few = CodeImage { pixel: 4, ..CodeImage::new([2, 3, 3, 4], [0; 4]) };
        assert_eq!((few.bytes(), few.strides().row, few.strides().image), (2 * 3 * 4 * 4, 16, 48));
        assert_eq!(image.clear_border(7).elements() * 4, image.bytes() - 2 * 2 * 3 * 4 * 16);
    }
}
