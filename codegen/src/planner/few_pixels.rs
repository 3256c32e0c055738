//! Convolutions of few pixels whose weights are mostly zero: what their windows see becomes the rows of a matrix, and
//! lanes are outputs.
//!
//! Lanes of pixels would go to waste in so small planes, and their elements lie far apart.

use optc_ir::NodeId;
use optc_ir::op::Conv;

use super::Planner;
use super::chain::Chain;
use super::conv::{Order, Window};
use super::sparse_matrix::SparseMatrix;
use crate::choice::Candidate;
use crate::layout::{plain_strides, same_walk};
use crate::plan::Arg;
use crate::tile::copy::Copy;
use crate::tile::schedule::Axis;
use crate::tile::spmm::Matrix;
use crate::tile::{LANES, signed};

/// Cycles of a vector of elements that is copied to a row.
const COPY: f64 = 2.0;

impl Planner<'_> {
    /// The convolution as a layer whose rows are windows, and the grid of these: those of one image, or those of
    /// several images of one pixel.
    fn windows(&self, node: NodeId, conv: &Conv, window: &Window) -> Option<(SparseMatrix, [usize; 2])> {
        let grid = match window.output() {
            _ if conv.group > 1 => return None,
            [1, _, rows, columns] => [rows, columns],
            [images, _, 1, 1] => [1, images],
            _ => return None,
        };
        let bias = self.graph.operand(node, 2).map(|bias| (bias, 1.0));
        let shape = [grid[0] * grid[1], window.channels[1], window.channels[0] * window.taps()];
        Some((SparseMatrix { shape, transposed: true, factor: 1.0, bias, act: conv.act }, grid))
    }

    /// What it costs to compute a convolution so, if its pixels are few.
    pub(super) fn few_pixels(&self, node: NodeId, conv: &Conv, window: &Window, nonzeros: usize) -> Option<Candidate> {
        let (layer, grid) = self.windows(node, conv, window)?;
        let weights = self.graph.constant(self.graph.operand(node, 1)?)?;
        let chain = self.chains.get(self.absorbed.get(&node).unwrap_or(&node));
        let alone = Chain::of(self.graph, node)?;
        let chain = chain.filter(|chain| chain.start == node).unwrap_or(&alone);
        let candidate = self.few_rows(chain, &layer, grid, (weights, nonzeros))?;
        let copied = layer.shape[0] * layer.shape[2].div_ceil(LANES);
        Some(Candidate { cycles: candidate.cycles + copied as f64 * COPY, ..candidate })
    }

    /// A convolution of few pixels, and the functions that follow it.
    pub(super) fn convolution_of_few(&mut self, chain: &Chain, conv: &Conv, window: &Window) -> Option<()> {
        let (node, graph) = (chain.start, self.graph);
        let (x, w) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
        let (layer, grid) = self.windows(node, conv, window)?;
        let [_, outputs, depth] = layer.shape;
        let (channels, taps) = (window.channels[0], window.taps());
        // Steps of the grid, of those that windows and images take.
        let walk = |row: i64, column: i64, image: i64| if window.images == 1 { [row, column] } else { [0, image] };
        let kernel = window.axes.map(|axis| axis.kernel);
        let in_blocks = channels.is_multiple_of(LANES);
        // What windows see, window by window, and how it lies.
        let (from, extents, strides) = if in_blocks {
            let (buffer, image) = self.blocked(node, x, window.border())?;
            let (step, [row, column]) = (window.strided(image.strides()), window.tap(image.strides()));
            let [outer, inner] = walk(step.row, step.column, step.image);
            let extents = vec![grid[0], grid[1], channels / LANES, kernel[0], kernel[1], LANES];
            let strides = vec![outer, inner, step.block, row, column, 4];
            (Arg::Buffer(buffer, window.origin(&image)), extents, strides)
        } else {
            let (arg, steps) = self.plain_image(node, x, window)?;
            let [rows, columns] = &window.axes;
            let [outer, inner] = walk(steps[2] * signed(rows.stride), steps[3] * signed(columns.stride), steps[0]);
            let tap = [steps[2] * signed(rows.dilation), steps[3] * signed(columns.dilation)];
            let extents = vec![grid[0], grid[1], channels, kernel[0], kernel[1]];
            (arg, extents, vec![outer, inner, steps[1], tap[0], tap[1]])
        };
        let in_order = plain_strides(&extents);
        let rows = if same_walk(&extents, &strides, &in_order) {
            from
        } else {
            let rows = Arg::Buffer(self.buffer(layer.shape[0] * depth * 4), 0);
            self.kernel(node, Copy::new(&extents, &strides, &in_order), vec![from, rows]);
            rows
        };
        let order = if in_blocks { Order::Blocks { taps, channels } } else { Order::Plain { taps } };
        let matrix = move |weights: &[f32]| {
            let places: Vec<usize> = (0..depth).map(|k| order.at(k)).map(|(c, tap)| c * taps + tap).collect();
            let ordered: Vec<f32> =
                weights.chunks(depth).flat_map(|row| places.iter().map(|&place| row[place])).collect();
            Matrix::new(outputs, |o| (0, &ordered[o * depth..][..depth]))
        };
        let (place, out) = self.place_blocked(chain.end, chain.end.into(), window.output());
        let y = out.strides();
        let row = signed(depth * 4);
        let [outer, inner] = walk(y.row, y.column, y.image);
        let grid = [Axis::new(grid[0], [row * signed(grid[1]), 0, outer]), Axis::new(grid[1], [row, 0, inner])];
        let (spmv, packed) = self.spmv_kernel(chain, &layer, self.nonzeros(w)?, (grid, y.block), matrix)?;
        self.kernel(chain.end, spmv, vec![rows, packed, Arg::Buffer(place.buffer, out.start())]);
        Some(())
    }
}
