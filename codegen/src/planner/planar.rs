//! Images in planes: where they lie, and what brings them there.

use optc_ir::{NodeId, ValueId};

use super::Planner;
use super::conv::Window;
use crate::layout::{Blocked, Layout, Pitch, Planar, image_shape, image_strides, widen};
use crate::plan::{Arg, Place};
use crate::tile::copy::Copy;
use crate::tile::epilogue::Strides;
use crate::tile::fill::{Fill, Region};
use crate::tile::signed;
use crate::tile::split::Split;
use crate::tile::transpose::Transpose;

/// How windows read planes. An image is seen as one image for each remainder that rows and columns leave when
/// divided by the strides, its phases; in these, windows move by single pixels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) stride: [usize; 2],
    /// The phases that are read: remainders of rows and columns.
    pub(super) phases: Vec<[usize; 2]>,
    /// Rows and columns of a phase.
    pub(super) extents: [usize; 2],
    /// Elements of the window by rows: the phase, and rows and columns from the pixel that has the number of the
    /// result's.
    pub(super) taps: Vec<(usize, [i64; 2])>,
    /// What windows reach of a phase's border: top, left, bottom, right.
    pub(super) border: [usize; 4],
}

impl Window {
    /// How the window reads planes.
    pub(super) fn reading(&self) -> Reading {
        let along = |axis: usize| {
            let a = &self.axes[axis];
            let tap = move |k: usize| {
                let at = signed(k * a.dilation) - signed(a.begin);
                let phase = at.rem_euclid(signed(a.stride));
                (usize::try_from(phase).expect("a remainder"), at.div_euclid(signed(a.stride)))
            };
            (0..a.kernel).map(tap).collect::<Vec<(usize, i64)>>()
        };
        let (rows, columns) = (along(0), along(1));
        let extents = [0, 1].map(|axis| self.axes[axis].input.div_ceil(self.axes[axis].stride));
        let (mut phases, mut taps, mut border) = (Vec::new(), Vec::new(), [0; 4]);
        for &(row_phase, row) in &rows {
            for &(column_phase, column) in &columns {
                let phase = [row_phase, column_phase];
                let known = phases.iter().position(|p| *p == phase).unwrap_or_else(|| {
                    phases.push(phase);
                    phases.len() - 1
                });
                taps.push((known, [row, column]));
                for (axis, at) in [row, column].into_iter().enumerate() {
                    let behind = at + signed(self.axes[axis].out) - signed(extents[axis]);
                    border[axis] = border[axis].max(usize::try_from(-at).unwrap_or(0));
                    border[axis + 2] = border[axis + 2].max(usize::try_from(behind).unwrap_or(0));
                }
            }
        }
        Reading { stride: self.axes.map(|axis| axis.stride), phases, extents, taps, border }
    }
}

impl Reading {
    /// Whether planes are read as they are.
    pub(super) fn is_whole(&self) -> bool {
        self.stride == [1, 1]
    }

    /// Columns between rows that windows reach into.
    pub(super) fn gap(&self) -> usize {
        self.border[1].max(self.border[3])
    }
}

impl Planner<'_> {
    /// How pixels lie in all planes of these extents.
    pub(super) fn pitch(&self, extents: [usize; 2]) -> Pitch {
        self.pitches.get(&extents).copied().unwrap_or(Pitch { positions: extents[1], together: false })
    }

    /// A new place for an image in planes, with the border its readers need. What lies between its pixels is
    /// written by the kernel that computes it.
    pub(super) fn place_planar(&mut self, node: NodeId, value: ValueId, shape: [usize; 4]) -> (Place, Planar) {
        let (place, image) = self.new_planes(node, value, shape, [0; 4], false);
        (self.put(value, place), image)
    }

    /// A buffer for a value in planes, with at least this border; all is cleared but the pixels, or only what no
    /// kernel over planes writes.
    fn new_planes(
        &mut self,
        node: NodeId,
        value: ValueId,
        shape: [usize; 4],
        mut border: [usize; 4],
        between_pixels: bool,
    ) -> (Place, Planar) {
        let readers = self.planar_borders.get(&value).copied().unwrap_or_default();
        widen(&mut border, readers);
        let image = Planar::new(shape, self.pitch([shape[2], shape[3]]), border);
        let buffer = self.cleared(node, &image, between_pixels, 0.0);
        (Place { buffer, layout: Layout::Planar(image) }, image)
    }

    /// A buffer for planes, with a number wherever no pixel is or, if what writes them fills up what lies between
    /// pixels, wherever that does not.
    pub(super) fn cleared(&mut self, node: NodeId, image: &Planar, between_pixels: bool, around: f32) -> usize {
        let buffer = self.buffer(image.bytes());
        if let Some(fill) = image.clear(between_pixels) {
            self.kernel(node, Fill { value: around, ..fill }, vec![Arg::Buffer(buffer, 0)]);
            self.overlap();
        }
        buffer
    }

    /// A value of rank 3 or 4 as an image in planes with at least this border.
    pub(super) fn planar(&mut self, node: NodeId, value: ValueId, border: [usize; 4]) -> Option<(usize, Planar)> {
        let images = image_shape(&self.f32_shape(value)?)?;
        let wanted = Planar::new(images, self.pitch([images[2], images[3]]), border);
        for place in self.places.get(&value).into_iter().flatten() {
            if let Layout::Planar(image) = place.layout
                && image.pitch == wanted.pitch
                && image.has_border(border)
            {
                return Some((place.buffer, image));
            }
        }
        let (place, image) = self.new_planes(node, value, images, border, true);
        let whole = Phase { first: [0, 0], stride: [1, 1], extents: [images[2], images[3]] };
        let to = (Arg::Buffer(place.buffer, image.start()), &image, image.steps());
        self.fill_planes(node, (Source::Value(value), images), whole, to)?;
        self.put(value, place.clone());
        Some((place.buffer, image))
    }

    /// The phases of images of this shape that windows read, those of a channel one after the other, with a number
    /// around them.
    pub(super) fn phases(
        &mut self,
        node: NodeId,
        (source, images): (Source, [usize; 4]),
        reading: &Reading,
        (pitch, around): (Pitch, f32),
    ) -> Option<(usize, Planar)> {
        let count = reading.phases.len();
        let shape = [images[0], images[1] * count, reading.extents[0], reading.extents[1]];
        let image = Planar::new(shape, pitch, reading.border);
        let buffer = self.cleared(node, &image, true, around);
        let [image_step, plane, row, column] = image.steps();
        let channel = plane * signed(count);
        let mut split: Vec<usize> = Vec::new();
        for (i, &first) in reading.phases.iter().enumerate() {
            let extents = [0, 1].map(|axis| (images[axis + 2] - first[axis]).div_ceil(reading.stride[axis]));
            // The last rows and columns of an image may lack some phases.
            for axis in (0..2).filter(|&axis| extents[axis] < reading.extents[axis]) {
                self.clear_edge(node, (buffer, &image, around), (i, count), axis);
            }
            if split.contains(&i) {
                continue;
            }
            let start = |i: usize| Some(Arg::Buffer(buffer, image.start() + usize::try_from(plane).ok()? * i));
            let phase = Phase { first, stride: reading.stride, extents };
            // Phases of the same rows are made at once where columns are divided by two.
            let of_rows: Vec<usize> = (i..count).filter(|&j| reading.phases[j][0] == first[0]).collect();
            let in_rows = match source {
                Source::Value(value) => !self.is_blocked(value),
                Source::Elements(_, steps) => steps[3] == 4,
            };
            if reading.stride[1] == 2 && in_rows && !image.pitch.together {
                let wanted = of_rows.iter().map(|&j| reading.phases[j][1]).collect();
                let to = of_rows.iter().map(|&j| start(j)).collect::<Option<Vec<Arg>>>()?;
                self.split_columns(node, (source, images), phase, wanted, (to, [image_step, channel, row]))?;
                split.extend(of_rows);
            } else {
                let to = (start(i)?, &image, [image_step, channel, row, column]);
                self.fill_planes(node, (source, images), phase, to)?;
                split.push(i);
            }
            if split.len() < count {
                self.overlap();
            }
        }
        Some((buffer, image))
    }

    /// Fills the last row, or column, of every `count`-th plane from the `first` on with a number.
    fn clear_edge(
        &mut self,
        node: NodeId,
        (buffer, image, around): (usize, &Planar, f32),
        (first, count): (usize, usize),
        axis: usize,
    ) {
        let [_, plane, row, column] = image.steps();
        let ([_, channels, height, width], together) = (image.shape, image.together());
        let planes = image.images() * channels / count;
        let (start, shape) = match axis {
            0 => (row * signed(height - 1), [planes, 1, width * together]),
            _ => (column * signed(width - 1), [planes, height, together]),
        };
        let start = start + signed(image.start()) + plane * signed(first);
        let region = Region { start, shape: shape.to_vec(), strides: vec![plane * signed(count), row, 4] };
        self.kernel(node, Fill { value: around, regions: vec![region] }, vec![Arg::Buffer(buffer, 0)]);
        self.overlap();
    }

    /// Moves the pixels of the rows of a phase to planes, those of even columns, of odd ones or both as `wanted`
    /// says: where the first of each is, and the steps from one image, channel and row to the next.
    fn split_columns(
        &mut self,
        node: NodeId,
        (source, images): (Source, [usize; 4]),
        phase: Phase,
        wanted: Vec<usize>,
        (to, steps): (Vec<Arg>, [i64; 3]),
    ) -> Option<()> {
        let (from, strides) = match source {
            Source::Value(value) => {
                let (from, strides) = self.contiguous(node, value)?;
                (from, image_strides(strides)?)
            }
            Source::Elements(from, strides) => (from, strides),
        };
        let from = moved(from, strides[2] * signed(phase.first[0]))?;
        let rows = [strides[0], strides[1], strides[2] * signed(phase.stride[0])];
        let walks: Vec<&[i64]> = [&rows[..]].into_iter().chain(to.iter().map(|_| &steps[..])).collect();
        let split = Split::new(&[images[0], images[1], phase.extents[0]], images[3], &walks, wanted);
        self.kernel(node, split, [from].into_iter().chain(to).collect());
        Some(())
    }

    /// A value that lies in blocks of channels and in no other order of its axes, which would be cheaper to read.
    fn only_in_blocks(&self, value: ValueId) -> Option<(usize, Blocked)> {
        let places = self.places.get(&value)?;
        let blocked = |place: &Place| match place.layout {
            Layout::Blocked(image) => Some((place.buffer, image)),
            _ => None,
        };
        places.iter().all(|place| blocked(place).is_some()).then(|| places.first().and_then(blocked)).flatten()
    }

    /// Moves the pixels of a phase of images to planes laid out as an image is: where the first is, and the steps from
    /// one image, channel, row and column to the next.
    fn fill_planes(
        &mut self,
        node: NodeId,
        (source, images): (Source, [usize; 4]),
        phase: Phase,
        (to, image, steps): (Arg, &Planar, [i64; 4]),
    ) -> Option<()> {
        let [height, width] = phase.extents;
        let shape = [images[0], images[1], height, width];
        let [rows, columns] = phase.stride.map(signed);
        let (from, strides) = match source {
            Source::Value(value) => {
                if let Some((buffer, from)) = self.only_in_blocks(value) {
                    let walk = from.strides();
                    let first = walk.row * signed(phase.first[0]) + walk.column * signed(phase.first[1]);
                    let walk = Strides { row: walk.row * rows, column: walk.column * columns, ..walk };
                    let start = usize::try_from(signed(from.start()) + first).ok()?;
                    let transpose = match steps {
                        steps if image.pitch.together => Transpose::to_images(shape, walk, steps),
                        [image, channel, row, _] => Transpose::to_planes(shape, walk, [image, channel, row]),
                    };
                    self.kernel(node, transpose, vec![Arg::Buffer(buffer, start), to]);
                    return Some(());
                }
                let (from, strides) = self.strided(node, value)?;
                (from, image_strides(strides)?)
            }
            Source::Elements(from, strides) => (from, strides),
        };
        let first = strides[2] * signed(phase.first[0]) + strides[3] * signed(phase.first[1]);
        let from = moved(from, first)?;
        let together = image.together();
        let shape = [images[0] / together, together, images[1], height, width];
        let walk = [strides[0] * signed(together), strides[0], strides[1], strides[2] * rows, strides[3] * columns];
        let [image_step, channel, row, column] = steps;
        self.kernel(node, Copy::new(&shape, &walk, &[image_step, 4, channel, row, column]), vec![from, to]);
        Some(())
    }
}

/// Images whose pixels are brought to planes.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// A value of numbers.
    Value(ValueId),
    /// Elements of four bytes: where the first is, and the steps from one image, channel, row and column to the next.
    Elements(Arg, [i64; 4]),
}

/// An argument so many bytes further on.
fn moved(arg: Arg, bytes: i64) -> Option<Arg> {
    let bytes = usize::try_from(bytes).ok()?;
    Some(match arg {
        Arg::Buffer(i, at) => Arg::Buffer(i, at + bytes),
        Arg::Constant(i, at) => Arg::Constant(i, at + bytes),
    })
}

/// Pixels of an image: the first row and column, the distance of two, how many.
#[derive(Clone, Copy)]
struct Phase {
    first: [usize; 2],
    stride: [usize; 2],
    extents: [usize; 2],
}
