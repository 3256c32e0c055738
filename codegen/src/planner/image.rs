//! Pools over images in blocks, and other operators that keep them in blocks.

use optc_ir::op::infer::resolve_axis;
use optc_ir::op::{ReduceKind, window};
use optc_ir::{NodeId, Op};

use super::Planner;
use super::conv::Window;
use super::rows::reduced_axes;
use crate::layout::{Blocked, image_shape};
use crate::plan::{Arg, Place};
use crate::tile::LANES;
use crate::tile::copy::Copy;
use crate::tile::epilogue::Strides;
use crate::tile::global_pool::{GlobalPool, Kind as Summary};
use crate::tile::pool::{Kind as PoolKind, Pool};

impl Planner<'_> {
    /// A node over images in blocks.
    pub(super) fn image(&mut self, node: NodeId) -> Option<()> {
        let graph = self.graph;
        match graph.op(node) {
            Op::MaxPool(p) => {
                // The indices have no kernel.
                if !graph.uses(node.result(1)).is_empty() {
                    return None;
                }
                self.pool(node, PoolKind::Max, &p.window())
            }
            Op::AveragePool(p) => {
                let kind = PoolKind::Average { include_pad: p.count_include_pad };
                self.pool(node, kind, &p.window())
            }
            Op::GlobalAveragePool(_) => self.global_pool(node, Summary::Mean),
            Op::GlobalMaxPool(_) => self.global_pool(node, Summary::Max),
            Op::Reduce(reduce) => {
                let x = graph.operand(node, 0)?;
                let rank = self.f32_shape(x)?.len();
                let mut axes = reduced_axes(reduce, rank)?;
                axes.sort_unstable();
                if !(3..=4).contains(&rank) || !axes.into_iter().eq(2..rank) || !self.is_blocked(x) {
                    return None;
                }
                match reduce.kind {
                    ReduceKind::Mean => self.global_pool(node, Summary::Mean),
                    ReduceKind::Max => self.global_pool(node, Summary::Max),
                    _ => None,
                }
            }
            Op::Concat(concat) => self.concat_channels(node, concat.axis),
            _ => None,
        }
    }

    fn pool(&mut self, node: NodeId, kind: PoolKind, window: &window::Window<'_>) -> Option<()> {
        let x = self.graph.operand(node, 0)?;
        let (input, output) = (self.f32_shape(x)?, self.f32_shape(node.into())?);
        let window = Window::new(window, &input, &output)?;
        let (buffer, image) = self.blocked(node, x, [0; 4])?;
        let (place, out) = self.place_blocked(node, node.into(), window.output());
        let pool = Pool {
            kind,
            images: window.images,
            blocks: image.blocks(),
            window: window.axes,
            x: image.strides(),
            y: out.strides(),
            codes: None,
        };
        let args = vec![Arg::Buffer(buffer, image.start()), Arg::Buffer(place.buffer, out.start())];
        self.kernel(node, pool, args);
        Some(())
    }

    /// One number a channel. The result lies in order of its axes, whether or not it keeps the spatial ones.
    fn global_pool(&mut self, node: NodeId, kind: Summary) -> Option<()> {
        let x = self.graph.operand(node, 0)?;
        let images = image_shape(&self.f32_shape(x)?)?;
        let shape = self.f32_shape(node.into())?;
        let (buffer, image) = self.blocked(node, x, [0; 4])?;
        // Whole blocks are written: an image's channels must not run into those of the next.
        let result = Blocked::new([images[0], images[1], 1, 1]);
        let bytes = result.bytes();
        let place =
            Place { buffer: self.buffer(bytes), layout: result.as_strided(shape.len()).filter(|_| shape.len() > 1)? };
        let place = self.put(node.into(), place);
        let pool = GlobalPool {
            kind,
            images: images[0],
            blocks: image.blocks(),
            rows: images[2],
            columns: images[3],
            x: image.strides(),
            y: Strides { row: 0, column: 0, ..result.strides() },
            codes: None,
        };
        self.kernel(node, pool, vec![Arg::Buffer(buffer, image.start()), Arg::Buffer(place.buffer, 0)]);
        Some(())
    }

    /// Joins images along channels, if all but the last fill their blocks.
    fn concat_channels(&mut self, node: NodeId, axis: i64) -> Option<()> {
        let shape = self.f32_shape(node.into())?;
        let images = image_shape(&shape)?;
        let operands: Vec<_> = self.graph.operands(node).into_iter().collect::<Option<_>>()?;
        let channels: Vec<usize> =
            operands.iter().map(|&v| self.f32_shape(v).map(|shape| shape[1])).collect::<Option<_>>()?;
        let whole = channels[..channels.len() - 1].iter().all(|c| c.is_multiple_of(LANES));
        let along = resolve_axis(axis, shape.len()).ok()? == 1;
        if !whole || !along || !operands.iter().any(|&v| self.is_blocked(v)) {
            return None;
        }
        let sources: Vec<(usize, Blocked)> =
            operands.iter().map(|&v| self.blocked(node, v, [0; 4])).collect::<Option<_>>()?;
        let (place, out) = self.place_blocked(node, node.into(), images);
        let mut at = out.start();
        for (buffer, image) in sources {
            let copy = Copy::new(&image.extents(), &image.walk(), &out.walk());
            self.kernel(node, copy, vec![Arg::Buffer(buffer, image.start()), Arg::Buffer(place.buffer, at)]);
            at += usize::try_from(out.strides().block).expect("blocks lie forward") * image.blocks();
        }
        Some(())
    }
}
