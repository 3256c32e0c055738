//! Sums and means along all axes but one whose elements lie next to each other: channels of images in blocks,
//! columns of matrices.

use optc_ir::op::{Reduce, ReduceKind};
use optc_ir::{NodeId, ValueId};

use super::Planner;
use super::rows::reduced_axes;
use crate::layout::{image_shape, plain_strides};
use crate::plan::Arg;
use crate::tile::lane_sums::LaneSums;
use crate::tile::{Axis, LANES, VECTOR_BYTES, signed};

impl Planner<'_> {
    /// A sum or mean that leaves the axis of lanes.
    pub(super) fn lane_sums(&mut self, node: NodeId, reduce: &Reduce) -> Option<()> {
        let x = self.graph.operand(node, 0)?;
        let shape = self.f32_shape(x)?;
        let mut axes = reduced_axes(reduce, shape.len())?;
        axes.sort_unstable();
        let count: usize = axes.iter().map(|&axis| shape[axis]).product();
        let factor = match reduce.kind {
            ReduceKind::Sum => 1.0,
            ReduceKind::Mean => 1.0 / count as f32,
            _ => return None,
        };
        let but_channels = axes[..] == [0, 2, 3][..shape.len().checked_sub(1)?.min(3)];
        if but_channels && shape.len() > 2 && self.is_blocked(x) {
            return self.channel_sums(node, x, factor);
        }
        let (last, outer) = shape.len().checked_sub(1).map(|last| (last, 0..last))?;
        if axes.is_empty() || axes.contains(&last) || shape[last] == 1 {
            return None;
        }
        let (arg, strides) = self.strided(node, x)?;
        if strides[last] != 4 || !LaneSums::fits(axes.len()) {
            return None;
        }
        let kept: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
        let extents: Vec<usize> = kept.iter().map(|&axis| shape[axis]).collect();
        let to = plain_strides(&extents);
        let outer = outer.filter(|axis| !axes.contains(axis)).zip(&to);
        let work = LaneSums {
            outer: outer.map(|(axis, &to)| Axis::new(shape[axis], [strides[axis], to])).collect(),
            lanes: shape[last],
            block: signed(VECTOR_BYTES),
            inner: axes.iter().map(|&axis| (shape[axis], strides[axis])).collect(),
            factor,
        };
        let place = self.place_plain(node.into(), &self.f32_shape(node.into())?);
        self.kernel(node, work, vec![arg, Arg::Buffer(place.buffer, 0)]);
        Some(())
    }

    /// Sums over images and pixels: first of every plane, then of those of all images.
    fn channel_sums(&mut self, node: NodeId, x: ValueId, factor: f32) -> Option<()> {
        let shape = self.f32_shape(node.into())?;
        let images = image_shape(&self.f32_shape(x)?)?;
        let (buffer, image) = self.blocked(node, x, [0; 4])?;
        let steps = image.strides();
        let field = image.blocks() * VECTOR_BYTES;
        let (planes, sums) = (self.buffer(images[0] * field), self.buffer(field));
        let of_planes = LaneSums {
            outer: vec![
                Axis::new(images[0], [steps.image, signed(field)]),
                Axis::new(image.blocks(), [steps.block, signed(VECTOR_BYTES)]),
            ],
            lanes: LANES,
            block: 0,
            inner: vec![(images[2], steps.row), (images[3], steps.column)],
            factor: 1.0,
        };
        self.kernel(node, of_planes, vec![Arg::Buffer(buffer, image.start()), Arg::Buffer(planes, 0)]);
        let of_images = LaneSums {
            outer: Vec::new(),
            lanes: image.blocks() * LANES,
            block: signed(VECTOR_BYTES),
            inner: vec![(images[0], signed(field))],
            factor,
        };
        self.kernel(node, of_images, vec![Arg::Buffer(planes, 0), Arg::Buffer(sums, 0)]);
        // One element a channel, whether or not the axes that are summed are kept.
        let strides = shape.iter().map(|_| 4).collect();
        self.see(node.into(), sums, 0, strides)
    }
}
