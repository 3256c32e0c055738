//! Images in planes: the layout of convolutions whose lanes are pixels.

use super::Layout;
use crate::tile::fill::{Fill, Region};
use crate::tile::spmm::Plane;
use crate::tile::{LANES, signed};

/// Images `[n, c, h, w]` in order of their axes, each plane with zeros around it.
///
/// Rows lie `pitch` elements apart; between two of them are zeros, the right border of the one and the left
/// border of the other. Before each plane, and behind the last, are `lead` zeros. The first pixel of a plane is
/// at a cache line, and a plane has whole vectors: a walk over its pixels in order of memory, whole vectors of
/// them, writes nothing but the plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planar {
    pub(crate) shape: [usize; 4],
    /// Elements from one row to the next.
    pub(crate) pitch: usize,
    /// Zeros before a plane, whole vectors of them.
    pub(crate) lead: usize,
}

impl Planar {
    /// Images with a border of so many rows and columns of zeros, at the top, left, bottom and right, that
    /// windows can reach into. Borders to the left and to the right are one.
    pub(crate) fn new(shape: [usize; 4], pitch: usize, [top, left, bottom, right]: [usize; 4]) -> Planar {
        let lead = (top * pitch + left).max(bottom * pitch + right).next_multiple_of(LANES);
        Planar { shape, pitch, lead }
    }

    /// Whether windows that reach so far into the border find zeros there.
    pub(crate) fn has_border(&self, border: [usize; 4]) -> bool {
        let gap = self.pitch - self.shape[3];
        Planar::new(self.shape, self.pitch, border).lead <= self.lead && gap >= border[1].max(border[3])
    }

    /// Vectors that hold all pixels of a plane.
    pub(crate) fn vectors(&self) -> usize {
        self.pixels().div_ceil(LANES)
    }

    /// Elements from the first pixel of a plane to behind the last.
    fn pixels(&self) -> usize {
        (self.shape[2] - 1) * self.pitch + self.shape[3]
    }

    /// Elements from one plane to the next.
    fn plane(&self) -> usize {
        self.lead + self.vectors() * LANES
    }

    fn planes(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Bytes of all images.
    pub(crate) fn bytes(&self) -> usize {
        (self.planes() * self.plane() + self.lead) * 4
    }

    /// Where the first pixel is, in bytes.
    pub(crate) fn start(&self) -> usize {
        self.lead * 4
    }

    /// Bytes from one image, channel and row to the next.
    pub(crate) fn steps(&self) -> [i64; 3] {
        let plane = self.plane() * 4;
        [signed(plane * self.shape[1]), signed(plane), signed(self.pitch * 4)]
    }

    /// The same for kernels over planes.
    pub(crate) fn walk(&self) -> Plane {
        let [image, channel, _] = self.steps();
        Plane { image, channel }
    }

    /// Whether a walk over all vectors of a plane meets anything but pixels.
    pub(crate) fn has_gaps(&self) -> bool {
        self.pitch != self.shape[3] && self.shape[2] > 1 || !self.pixels().is_multiple_of(LANES)
    }

    /// 1 for every pixel and 0 for what lies between, in the order of a walk over a plane.
    pub(crate) fn mask(&self) -> Vec<f32> {
        let pixel = |i: usize| i < self.pixels() && i % self.pitch < self.shape[3];
        (0..self.vectors() * LANES).map(|i| f32::from(u8::from(pixel(i)))).collect()
    }

    /// What fills everything but the pixels with zeros, or no more than what no walk over the pixels writes, seen
    /// from the start of the buffer. `None` if there is nothing.
    pub(crate) fn clear(&self, between_pixels: bool) -> Option<Fill> {
        let (plane, [_, _, height, width]) = (signed(self.plane() * 4), self.shape);
        let region = |start: usize, shape: [usize; 3], strides: [i64; 3]| Region {
            start: signed(start * 4),
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        };
        let mut regions = vec![region(0, [self.planes() + 1, 1, self.lead], [plane, 0, 4])];
        if between_pixels {
            let row = signed(self.pitch * 4);
            let (gap, tail) = (self.pitch - width, self.vectors() * LANES - self.pixels());
            regions.push(region(self.lead + width, [self.planes(), height - 1, gap], [plane, row, 4]));
            regions.push(region(self.lead + self.pixels(), [self.planes(), 1, tail], [plane, 0, 4]));
        }
        regions.retain(|region| region.shape.iter().product::<usize>() > 0);
        (!regions.is_empty()).then_some(Fill { value: 0.0, regions })
    }

    /// The layout as strides of the axes of a shape of rank 3 or 4.
    pub(crate) fn as_strided(&self, rank: usize) -> Layout {
        let [image, channel, row] = self.steps();
        let strides = if rank == 3 { vec![image, channel, 4] } else { vec![image, channel, row, 4] };
        Layout::Strided { start: self.start(), strides }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_have_whole_vectors_and_zeros_around() {
        let image = Planar::new([2, 3, 7, 7], 8, [1, 1, 1, 1]);
        assert_eq!((image.lead, image.vectors(), image.plane()), (16, 4, 80));
        assert_eq!(image.bytes(), (6 * 80 + 16) * 4);
        assert!(image.has_border([1, 1, 1, 1]) && !image.has_border([2, 1, 1, 1]) && !image.has_border([1, 2, 1, 1]));
        let mask = image.mask();
        assert_eq!(mask.iter().sum::<f32>(), 49.0);
        assert_eq!(mask[6..9], [1.0, 0.0, 1.0]);
        let elements = |between| image.clear(between).map_or(0, |fill| fill.elements());
        assert_eq!(elements(true), 6 * 80 + 16 - 6 * 49);
        assert_eq!(elements(false), 7 * 16);
        let plain = Planar::new([1, 1, 4, 4], 4, [0; 4]);
        assert!(!plain.has_gaps() && plain.clear(true).is_none());
    }
}
