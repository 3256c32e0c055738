//! Images in planes: the layout of convolutions whose lanes are pixels.

use super::Layout;
use crate::tile::fill::{Fill, Region};
use crate::tile::spmm::Plane;
use crate::tile::{LANES, signed};

/// How pixels lie in planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pitch {
    /// Positions from one row to the next.
    pub(crate) positions: usize,
    /// Whether [`LANES`] images stand side by side at each position, where their number allows it. Else a position
    /// is one element, and lanes are positions.
    pub(crate) together: bool,
}

impl Pitch {
    /// Of rows so far apart in images of such extents: images stand side by side where a quarter more lanes of
    /// positions would be computed than there are. Where less is wasted, a panel of one image stays nearer.
    pub(crate) fn of(images: usize, [height, width]: [usize; 2], positions: usize) -> Pitch {
        let all = (height - 1) * positions + width;
        let together = images.is_multiple_of(LANES) && all.next_multiple_of(LANES) * 4 >= all * 5;
        Pitch { positions, together }
    }

    /// What suits both.
    pub(crate) fn max(self, other: Pitch) -> Pitch {
        Pitch { positions: self.positions.max(other.positions), together: self.together || other.together }
    }
}

/// Images `[n, c, h, w]` in order of their axes, each plane with zeros around it; if images stand together, as
/// `[n/16, c, h, w, 16]`.
///
/// Rows lie a pitch apart; between two of them are zeros, the right border of the one and the left border of the
/// other. Before each plane, and behind the last, are `lead` positions of zeros. The first pixel of a plane is at
/// a cache line, and a plane has whole vectors: a walk over its pixels in order of memory, whole vectors of them,
/// writes nothing but the plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planar {
    pub(crate) shape: [usize; 4],
    pub(crate) pitch: Pitch,
    /// Positions of zeros before a plane, whole vectors of them.
    lead: usize,
}

impl Planar {
    /// Images with a border of so many rows and columns of zeros, at the top, left, bottom and right, that
    /// windows can reach into. Borders to the left and to the right are one.
    pub(crate) fn new(shape: [usize; 4], pitch: Pitch, [top, left, bottom, right]: [usize; 4]) -> Planar {
        let pitch = Pitch { together: pitch.together && shape[0].is_multiple_of(LANES), ..pitch };
        let image = Planar { shape, pitch, lead: 0 };
        let lead = (top * pitch.positions + left).max(bottom * pitch.positions + right);
        Planar { lead: lead.next_multiple_of(LANES / image.together()), ..image }
    }

    /// These without a border, with an odd number of vectors from one plane to the next, so that the same positions of
    /// many planes do not share few sets of a cache. What lies between planes has no meaning.
    pub(crate) fn apart(shape: [usize; 4], pitch: Pitch) -> Planar {
        let image = Planar::new(shape, pitch, [0; 4]);
        let odd = !image.vectors().is_multiple_of(2);
        Planar { lead: if odd { 0 } else { LANES / image.together() }, ..image }
    }

    /// Images at a position.
    pub(crate) fn together(&self) -> usize {
        if self.pitch.together { LANES } else { 1 }
    }

    /// Images, those that stand together counted as one.
    pub(crate) fn images(&self) -> usize {
        self.shape[0] / self.together()
    }

    /// Whether windows that reach so far into the border find zeros there.
    pub(crate) fn has_border(&self, border: [usize; 4]) -> bool {
        let gap = self.pitch.positions - self.shape[3];
        Planar::new(self.shape, self.pitch, border).lead <= self.lead && gap >= border[1].max(border[3])
    }

    /// Vectors that hold all pixels of a plane.
    pub(crate) fn vectors(&self) -> usize {
        (self.positions() * self.together()).div_ceil(LANES)
    }

    /// Positions from the first pixel of a plane to behind the last.
    fn positions(&self) -> usize {
        (self.shape[2] - 1) * self.pitch.positions + self.shape[3]
    }

    /// Elements from one plane to the next.
    fn plane(&self) -> usize {
        self.lead * self.together() + self.vectors() * LANES
    }

    fn planes(&self) -> usize {
        self.images() * self.shape[1]
    }

    /// Bytes of all images.
    pub(crate) fn bytes(&self) -> usize {
        self.planes() * self.plane() * 4 + self.start()
    }

    /// Where the first pixel is, in bytes.
    pub(crate) fn start(&self) -> usize {
        self.lead * self.together() * 4
    }

    /// Bytes from one image, or what stands together, to the next, and from one channel, row and column.
    pub(crate) fn steps(&self) -> [i64; 4] {
        let (plane, position) = (self.plane() * 4, self.together() * 4);
        [plane * self.shape[1], plane, self.pitch.positions * position, position].map(signed)
    }

    /// The same for kernels over planes.
    pub(crate) fn walk(&self) -> Plane {
        let [image, channel, ..] = self.steps();
        Plane { image, channel }
    }

    /// Whether a walk over all vectors of a plane meets anything but pixels.
    pub(crate) fn has_gaps(&self) -> bool {
        let between = self.pitch.positions != self.shape[3] && self.shape[2] > 1;
        between || !(self.positions() * self.together()).is_multiple_of(LANES)
    }

    /// 1 for every pixel and 0 for what lies between, in the order of a walk over a plane.
    pub(crate) fn mask(&self) -> Vec<f32> {
        let pixel = |at: usize| at < self.positions() && at % self.pitch.positions < self.shape[3];
        (0..self.vectors() * LANES).map(|i| f32::from(u8::from(pixel(i / self.together())))).collect()
    }

    /// What fills everything but the pixels with zeros, or no more than what no walk over the pixels writes, seen
    /// from the start of the buffer. `None` if there is nothing.
    pub(crate) fn clear(&self, between_pixels: bool) -> Option<Fill> {
        let (together, [_, plane, row, _], [_, _, height, width]) = (self.together(), self.steps(), self.shape);
        let region = |position: usize, shape: [usize; 3], strides: [i64; 3]| Region {
            start: signed(position * together * 4),
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        };
        let mut regions = vec![region(0, [self.planes() + 1, 1, self.lead * together], [plane, 0, 4])];
        if between_pixels {
            let gap = self.pitch.positions - width;
            let tail = self.vectors() * LANES - self.positions() * together;
            regions.push(region(self.lead + width, [self.planes(), height - 1, gap * together], [plane, row, 4]));
            regions.push(region(self.lead + self.positions(), [self.planes(), 1, tail], [plane, 0, 4]));
        }
        regions.retain(|region| region.shape.iter().product::<usize>() > 0);
        (!regions.is_empty()).then_some(Fill { value: 0.0, regions })
    }

    /// The layout as strides of the axes of a shape of rank 3 or 4, if the images have one stride.
    pub(crate) fn as_strided(&self, rank: usize) -> Option<Layout> {
        let [image, channel, row, column] = self.steps();
        let image = match self.images() {
            _ if !self.pitch.together => image,
            1 => 4,
            _ => return None,
        };
        let strides = if rank == 3 { vec![image, channel, column] } else { vec![image, channel, row, column] };
        Some(Layout::Strided { start: self.start(), strides })
    }

    /// The extents of all elements in order, and their strides: what stands together is an axis of its own, behind
    /// that of the images.
    pub(crate) fn elements(&self) -> ([usize; 5], [i64; 5]) {
        let ([_, channels, height, width], [image, channel, row, column]) = (self.shape, self.steps());
        ([self.images(), self.together(), channels, height, width], [image, 4, channel, row, column])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_have_whole_vectors_and_zeros_around() {
        let pitch = |positions| Pitch { positions, together: false };
        let image = Planar::new([2, 3, 7, 7], pitch(8), [1, 1, 1, 1]);
        assert_eq!((image.lead, image.vectors(), image.plane()), (16, 4, 80));
        assert_eq!(image.bytes(), (6 * 80 + 16) * 4);
        assert!(image.has_border([1, 1, 1, 1]) && !image.has_border([2, 1, 1, 1]) && !image.has_border([1, 2, 1, 1]));
        let mask = image.mask();
        assert_eq!(mask.iter().sum::<f32>(), 49.0);
        assert_eq!(mask[6..9], [1.0, 0.0, 1.0]);
        let elements = |between| image.clear(between).map_or(0, |fill| fill.elements());
        assert_eq!(elements(true), 6 * 80 + 16 - 6 * 49);
        assert_eq!(elements(false), 7 * 16);
        let plain = Planar::new([1, 1, 4, 4], pitch(4), [0; 4]);
        assert!(!plain.has_gaps() && plain.clear(true).is_none());
    }

    #[test]
    fn images_stand_together_where_lanes_would_go_to_waste() {
        assert_eq!(Pitch::of(16, [4, 4], 5), Pitch { positions: 5, together: true });
        assert_eq!(Pitch::of(16, [7, 7], 8), Pitch { positions: 8, together: false });
        assert_eq!(Pitch::of(24, [4, 4], 5), Pitch { positions: 5, together: false });
        let image = Planar::new([32, 3, 4, 4], Pitch::of(32, [4, 4], 5), [1, 1, 1, 1]);
        assert_eq!((image.images(), image.vectors(), image.start()), (2, 19, 6 * 64));
        assert_eq!(image.steps(), [3 * 25 * 64, 25 * 64, 5 * 64, 64]);
        assert_eq!(image.mask().iter().sum::<f32>(), 16.0 * 16.0);
        let elements = |between| image.clear(between).map_or(0, |fill| fill.elements());
        assert_eq!(elements(false), 7 * 6 * 16);
        assert_eq!(elements(true), (7 * 6 + 6 * 3) * 16);
        assert!(image.as_strided(4).is_none());
    }
}
