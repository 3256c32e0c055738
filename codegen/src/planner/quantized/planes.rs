//! Codes in planes of quads of channels, for products whose lanes are pixels, and what brings codes from blocks of
//! channels to planes and back.

use optc_ir::{NodeId, ValueId};

use super::find::{Grid, images};
use super::{CodePlace, Planner};
use crate::layout::{CodeImage, Planar};
use crate::plan::Arg;
use crate::planner::planar::{Reading, Source};
use crate::tile::spmm::QUAD;
use crate::tile::{LANES, copy, signed};

/// A value that is kept as codes in planes.
#[derive(Clone, Copy, Debug)]
pub(in crate::planner) struct PlanesPlace {
    pub(super) buffer: usize,
    /// Elements are quads: the codes of four channels of a pixel.
    pub(super) image: Planar,
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

/// A shape in quads of channels.
fn in_quads([images, channels, rows, columns]: [usize; 4]) -> [usize; 4] {
    [images, channels.div_ceil(QUAD), rows, columns]
}

impl Planner<'_> {
    /// A value of codes in blocks of channels.
    pub(super) fn codes_in_blocks(&mut self, node: NodeId, value: ValueId) -> Option<CodePlace> {
        if let Some(place) = self.codes.get(&value) {
            return Some(*place);
        }
        let planes = *self.code_planes.get(&value)?;
        let place = self.place_value(node, value, (planes.grid, LANES))?;
        self.move_quads(node, (place.arg(), &place.image), (planes.arg(), &planes.image), false);
        Some(place)
    }

    /// A value of codes in planes, with at least this border.
    pub(super) fn codes_in_planes(&mut self, node: NodeId, value: ValueId, border: [usize; 4]) -> Option<PlanesPlace> {
        if let Some(place) = self.code_planes.get(&value)
            && place.image.has_border(border)
        {
            return Some(*place);
        }
        let blocks = *self.codes.get(&value)?;
        let place = self.place_planes(node, value, (blocks.grid, border), true)?;
        self.move_quads(node, (blocks.arg(), &blocks.image), (place.arg(), &place.image), true);
        Some(place)
    }

    /// A place in planes, with the border its readers need; whatever is not written by what fills it up is cleared:
    /// all but the pixels, or not what lies `between_pixels`.
    pub(super) fn place_planes(
        &mut self,
        node: NodeId,
        value: ValueId,
        (grid, mut border): (Grid, [usize; 4]),
        between_pixels: bool,
    ) -> Option<PlanesPlace> {
        let shape = in_quads(images(self.graph, value)?);
        let readers = self.planar_borders.get(&value).copied().unwrap_or_default();
        border.iter_mut().zip(readers).for_each(|(has, needs)| *has = needs.max(*has));
        let image = Planar::new(shape, self.pitch([shape[2], shape[3]]), border);
        let buffer = self.cleared(node, &image, between_pixels, around(grid));
        let place = PlanesPlace { buffer, image, grid };
        self.code_planes.insert(value, place);
        Some(place)
    }

    /// The phases of a value that windows read.
    pub(super) fn code_phases(
        &mut self,
        node: NodeId,
        value: ValueId,
        reading: &Reading,
        pitch: usize,
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
                let [image, plane, row] = place.image.steps();
                (place.arg(), place.grid, [image, plane, row, 4])
            }
        };
        let shape = in_quads(images(self.graph, value)?);
        self.phases(node, (Source::Elements(arg, steps), shape), reading, (pitch, around(grid)))
    }

    /// Moves quads from blocks to planes, or back.
    fn move_quads(
        &mut self,
        node: NodeId,
        (blocks, of_blocks): (Arg, &CodeImage),
        (planes, of_planes): (Arg, &Planar),
        to_planes: bool,
    ) {
        let [images, quads, rows, columns] = of_planes.shape;
        let (steps, [image, plane, row]) = (of_blocks.strides(), of_planes.steps());
        let per_block = of_blocks.pixel / QUAD;
        let whole = quads / per_block;
        // Whole blocks, then what there is of the last.
        for (first, count, quads) in [(0, whole, per_block), (whole, 1, quads % per_block)] {
            if count * quads == 0 {
                continue;
            }
            let at = |arg: Arg, bytes: i64| {
                let bytes = usize::try_from(bytes * signed(first)).expect("blocks lie one after the other");
                match arg {
                    Arg::Buffer(buffer, at) => Arg::Buffer(buffer, at + bytes),
                    Arg::Constant(constant, at) => Arg::Constant(constant, at + bytes),
                }
            };
            let in_block = [steps.image, steps.block, signed(QUAD), steps.row, steps.column];
            let in_planes = [image, plane * signed(per_block), plane, row, signed(QUAD)];
            let ends = [(at(blocks, steps.block), in_block), (at(planes, in_planes[1]), in_planes)];
            let [(from, walk), (to, to_walk)] = if to_planes { ends } else { [ends[1], ends[0]] };
            let copy = copy::Copy::new(&[images, count, quads, rows, columns], &walk, &to_walk);
            self.kernel(node, copy, vec![from, to]);
        }
    }
}
