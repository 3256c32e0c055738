//! Codes in planes of quads of channels, for products whose lanes are pixels, and what brings codes from blocks of
//! channels to planes and back.

use optc_ir::{Graph, NodeId, ValueId};

use super::find::{Grid, images};
use super::{CodePlace, Planner};
use crate::layout::{Pitch, Planar, widen};
use crate::plan::Arg;
use crate::planner::planar::{Reading, Source};
use crate::tile::copy::Copy;
use crate::tile::regroup::Regroup;
use crate::tile::spmm::QUAD;
use crate::tile::{LANES, signed};

/// A value that is kept as codes in planes.
#[derive(Clone, Copy, Debug)]
pub(in crate::planner) struct PlanesPlace {
    pub(super) buffer: usize,
    /// Elements are quads: the codes of four channels of a pixel.
    pub(super) image: Planar,
    /// The border of zero points that windows can reach into.
    border: [usize; 4],
    pub(super) grid: Grid,
}

impl PlanesPlace {
    pub(super) fn arg(&self) -> Arg {
        Arg::Buffer(self.buffer, self.image.start())
    }
}

/// Zero points, as what an element of a plane is.
fn around(grid: Grid) -> f32 {
    f32::from_le_bytes([grid.zero; QUAD])
}

/// The shape of a value in planes, in quads of channels. Rows of a matrix are the pixels of one image.
pub(super) fn shape_in_planes(graph: &Graph, value: ValueId) -> Option<[usize; 4]> {
    let [images, channels, rows, columns] = images(graph, value)?;
    let quads = channels.div_ceil(QUAD);
    Some(if is_matrix(graph, value) { [1, quads, 1, images] } else { [images, quads, rows, columns] })
}

fn is_matrix(graph: &Graph, value: ValueId) -> bool {
    graph.ty(value).as_tensor().is_some_and(|ty| ty.shape.len() < 4)
}

impl Planner<'_> {
    /// A value of codes in blocks of channels.
    pub(super) fn codes_in_blocks(&mut self, node: NodeId, value: ValueId) -> Option<CodePlace> {
        if let Some(place) = self.codes.get(&value) {
            return Some(*place);
        }
        let planes = *self.code_planes.get(&value)?;
        let place = self.place_value(node, value, (planes.grid, LANES))?;
        self.move_quads(node, value, (&place, &planes), false);
        Some(place)
    }

    /// A value of codes in planes, with at least this border.
    pub(super) fn codes_in_planes(&mut self, node: NodeId, value: ValueId, border: [usize; 4]) -> Option<PlanesPlace> {
        if let Some(place) = self.code_planes.get(&value)
            && place.border.iter().zip(&border).all(|(has, needs)| has >= needs)
        {
            return Some(*place);
        }
        let blocks = *self.codes.get(&value)?;
        let place = self.place_planes(node, value, (blocks.grid, border), true)?;
        self.move_quads(node, value, (&blocks, &place), true);
        Some(place)
    }

    /// A place in planes, with the border its readers need, cleared wherever what fills it up writes nothing: that may
    /// write the pixels alone, or what lies `between_pixels` too.
    pub(super) fn place_planes(
        &mut self,
        node: NodeId,
        value: ValueId,
        (grid, mut border): (Grid, [usize; 4]),
        between_pixels: bool,
    ) -> Option<PlanesPlace> {
        let shape = shape_in_planes(self.graph, value)?;
        let readers = self.planar_borders.get(&value).copied().unwrap_or_default();
        widen(&mut border, readers);
        let pitch = self.code_pitch([shape[2], shape[3]]);
        let (image, buffer) = if border == [0; 4] {
            let image = Planar::apart(shape, pitch);
            (image, self.buffer(image.bytes()))
        } else {
            let image = Planar::new(shape, pitch, border);
            (image, self.cleared(node, &image, between_pixels, around(grid)))
        };
        let place = PlanesPlace { buffer, image, border, grid };
        self.code_planes.insert(value, place);
        Some(place)
    }

    /// How pixels lie in planes of codes: images do not stand side by side.
    pub(super) fn code_pitch(&self, extents: [usize; 2]) -> Pitch {
        Pitch { together: false, ..self.pitch(extents) }
    }

    /// The phases of a value that windows read.
    pub(super) fn code_phases(
        &mut self,
        node: NodeId,
        value: ValueId,
        reading: &Reading,
        pitch: Pitch,
    ) -> Option<(usize, Planar)> {
        let narrow = self.codes.get(&value).filter(|place| place.image.pixel == QUAD).copied();
        let (arg, grid, steps) = match narrow {
            // Narrow pixels are a plane of quads.
            Some(place) => {
                let steps = place.image.strides();
                (place.arg(), place.grid, [steps.image, 0, steps.row, steps.column])
            }
            None => {
                let place = self.codes_in_planes(node, value, [0; 4])?;
                let [image, plane, row, _] = place.image.steps();
                (place.arg(), place.grid, [image, plane, row, 4])
            }
        };
        let shape = shape_in_planes(self.graph, value)?;
        self.phases(node, (Source::Elements(arg, steps), shape), reading, (pitch, around(grid)))
    }

    /// Moves the quads of a value from blocks to planes, or back.
    fn move_quads(&mut self, node: NodeId, value: ValueId, (blocks, planes): (&CodePlace, &PlanesPlace), forth: bool) {
        let [images, quads, rows, columns] = planes.image.shape;
        let mut steps = blocks.image.strides();
        if is_matrix(self.graph, value) {
            (steps.image, steps.column) = (0, steps.image);
        }
        let of_planes = planes.image.steps();
        let (from, to) = if forth { (blocks.arg(), planes.arg()) } else { (planes.arg(), blocks.arg()) };
        if steps.column == signed(LANES) {
            let (blocks, [image, plane, row, _]) = (steps, of_planes);
            let planes = [image, plane, row];
            let regroup = Regroup { images, quads, rows, columns, blocks, planes, to_planes: forth };
            return self.kernel(node, regroup, vec![from, to]);
        }
        // Rows of a matrix, whose quads lie one after the other, or narrow pixels, which have one.
        let in_blocks = [steps.image, signed(QUAD), steps.row, steps.column];
        let (walk, to_walk) = if forth { (in_blocks, of_planes) } else { (of_planes, in_blocks) };
        self.kernel(node, Copy::new(&[images, quads, rows, columns], &walk, &to_walk), vec![from, to]);
    }
}
