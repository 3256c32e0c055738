//! Gradients: of the weights of convolutions, and of pools.

use optc_ir::op::{ConvWeightGrad, MaxPoolGrad};
use optc_ir::{NodeId, Op, ValueId};

use super::Planner;
use super::conv::{FEW_CHANNELS, Window};
use crate::plan::Arg;
use crate::tile::copy::Copy;
use crate::tile::epilogue::Strides;
use crate::tile::lane_sums::LaneSums;
use crate::tile::pool_grad::PoolGrad;
use crate::tile::weight_grad::{self, WeightGrad};
use crate::tile::{LANES, VECTOR_BYTES, signed};

/// Groups that are computed one by one, or cut out of what is computed of all.
const MAX_GROUPS: usize = 64;

/// An axis of the walk over k: how many, bytes x moves, bytes the gradient moves.
type KAxis = (usize, i64, i64);

/// Some of the k of a gradient: bytes from the beginning of x, and of the gradient, and the axes.
struct Piece {
    x: i64,
    dw: i64,
    axes: Vec<KAxis>,
}

/// What is summed of a layer whose channels all meet, or meet lane by lane.
struct Sums {
    work: WeightGrad,
    x: Arg,
    dy: Arg,
    pieces: Vec<Piece>,
}

impl Planner<'_> {
    /// A gradient that has a kernel.
    pub(super) fn gradient(&mut self, node: NodeId) -> Option<()> {
        match self.graph.op(node) {
            Op::ConvWeightGrad(grad) => self.conv_weight_grad(node, grad),
            Op::MaxPoolGrad(grad) => self.max_pool_grad(node, grad),
            Op::BatchNormGrad(_) => self.batch_norm_grad(node),
            _ => None,
        }
    }

    /// The window of a gradient of a convolution's weights.
    pub(super) fn weight_grad_window(&self, node: NodeId, grad: &ConvWeightGrad) -> Option<Window> {
        let (x, dy) = (self.graph.operand(node, 0)?, self.graph.operand(node, 1)?);
        let (input, output) = (self.f32_shape(x)?, self.f32_shape(dy)?);
        Window::new(&grad.convolution().window(grad.kernel.iter().copied()), &input, &output)
    }

    fn conv_weight_grad(&mut self, node: NodeId, grad: &ConvWeightGrad) -> Option<()> {
        let window = self.weight_grad_window(node, grad)?;
        let (x, dy) = (self.graph.operand(node, 0)?, self.graph.operand(node, 1)?);
        let (group, [channels, outputs]) = (grad.group, window.channels);
        let per_group = [channels / group, outputs / group];
        let taps = window.taps();
        let shape = self.f32_shape(node.into())?;
        if group > MAX_GROUPS && per_group != [1, 1] {
            return None;
        }
        let kind = match () {
            () if group > 1 && per_group == [1, 1] => Kind::Lanewise,
            () if channels < FEW_CHANNELS && !self.is_blocked(x) => Kind::Plain,
            () => Kind::Blocks,
        };
        let sums = self.sums(node, (x, dy), &window, kind)?;
        let from = self.summed(node, &sums);
        let place = self.place_plain(node.into(), &shape);
        let own = signed(per_group[0] * taps * 4);
        if group == 1 || matches!(kind, Kind::Lanewise) {
            self.unpack(node, &sums, (from, place.buffer), outputs, own);
            return Some(());
        }
        // All channels have met all outputs: those of the same group are cut out.
        let whole = self.buffer(outputs * channels * taps * 4);
        let row = signed(channels * taps * 4);
        self.unpack(node, &sums, (from, whole), outputs, row);
        let extents = [per_group[1], per_group[0] * taps];
        let copies = (0..group).map(|group| {
            let output = signed(group * per_group[1]);
            let starts = [row * output + own * signed(group), own * output];
            (Copy::new(&extents, &[row, 4], &[own, 4]), starts)
        });
        self.copy_all(node, (whole, place.buffer), copies.collect());
        Some(())
    }

    /// The sums of a layer; its groups, if it has several, are among them.
    fn sums(&mut self, node: NodeId, (x, dy): (ValueId, ValueId), window: &Window, kind: Kind) -> Option<Sums> {
        let (dy_buffer, dy_image) = self.blocked(node, dy, [0; 4])?;
        let kernel = window.axes.map(|axis| axis.kernel);
        let dw_taps = [signed(kernel[1] * 4), 4];
        let taps = window.taps();
        let channel = signed(taps * 4);
        let channels = window.channels[0];
        let (x_arg, steps, pieces) = if let Kind::Plain = kind {
            let (arg, steps) = self.plain_image(node, x, window)?;
            let [row, column] = window.tap(Strides { row: steps[2], column: steps[3], ..Strides::default() });
            let axes =
                vec![(channels, steps[1], channel), (kernel[0], row, dw_taps[0]), (kernel[1], column, dw_taps[1])];
            let steps = Strides { image: steps[0], row: steps[2], column: steps[3], ..Strides::default() };
            (arg, window.strided(steps), vec![Piece { x: 0, dw: 0, axes }])
        } else {
            let (buffer, image) = self.blocked(node, x, window.border())?;
            let tap = window.tap(image.strides());
            let block = image.strides().block;
            let mut pieces = Vec::new();
            let (whole, rest) = (channels / LANES, channels % LANES);
            let [rows, columns] = [0, 1].map(|axis| (kernel[axis], tap[axis], dw_taps[axis]));
            if let Kind::Lanewise = kind {
                pieces.push(Piece { x: 0, dw: 0, axes: vec![rows, columns] });
            } else {
                for (first, blocks, lanes) in [(0, whole, LANES), (whole, 1, rest)] {
                    if blocks * lanes > 0 {
                        let blocks = (blocks, block, channel * signed(LANES));
                        let axes = vec![blocks, rows, (lanes, 4, channel), columns];
                        let dw = channel * signed(first * LANES);
                        pieces.push(Piece { x: block * signed(first), dw, axes });
                    }
                }
            }
            (Arg::Buffer(buffer, window.origin(&image)), window.strided(image.strides()), pieces)
        };
        let lanewise = matches!(kind, Kind::Lanewise);
        let limit = self.target.vectors.accumulators();
        let runs = pieces.iter().map(|piece| {
            let axes: Vec<(usize, i64)> = piece.axes.iter().map(|&(count, x, _)| (count, x)).collect();
            weight_grad::run(piece.x, &axes, limit)
        });
        let blocks = dy_image.blocks();
        let work = WeightGrad {
            images: window.images,
            blocks,
            rows: window.axes[0].out,
            columns: window.axes[1].out,
            runs: runs.collect(),
            x: Strides { block: if lanewise { steps.block } else { 0 }, ..steps },
            dy: dy_image.strides(),
            lanewise,
            slices: WeightGrad::slices(window.images, blocks),
        };
        Some(Sums { work, x: x_arg, dy: Arg::Buffer(dy_buffer, dy_image.start()), pieces })
    }

    /// Appends the steps that compute sums; the buffer they are in.
    fn summed(&mut self, node: NodeId, sums: &Sums) -> usize {
        let WeightGrad { slices, .. } = sums.work;
        let bytes = sums.work.slice_bytes();
        let parts = self.buffer(slices * bytes);
        self.kernel(node, sums.work.clone(), vec![sums.x, sums.dy, Arg::Buffer(parts, 0)]);
        if slices == 1 {
            return parts;
        }
        let all = self.buffer(bytes);
        let add = LaneSums {
            outer: Vec::new(),
            lanes: bytes / 4,
            block: signed(VECTOR_BYTES),
            inner: vec![(slices, signed(bytes))],
            factor: 1.0,
        };
        self.kernel(node, add, vec![Arg::Buffer(parts, 0), Arg::Buffer(all, 0)]);
        all
    }

    /// Moves sums to where they lie in order, outputs `row` bytes apart.
    fn unpack(&mut self, node: NodeId, sums: &Sums, (from, to): (usize, usize), outputs: usize, row: i64) {
        let output = signed(sums.work.depth() * VECTOR_BYTES);
        let (whole, rest) = (outputs / LANES, outputs % LANES);
        let mut copies = Vec::new();
        let mut at = 0;
        for piece in &sums.pieces {
            let mut bytes = signed(VECTOR_BYTES);
            let mut axes = Vec::new();
            for &(count, _, dw) in piece.axes.iter().rev() {
                axes.insert(0, (count, bytes, dw));
                bytes *= signed(count);
            }
            for (first, blocks, lanes) in [(0, whole, LANES), (whole, 1, rest)] {
                if blocks * lanes > 0 {
                    let blocks = (blocks, output, row * signed(LANES));
                    let axes = [vec![blocks], axes.clone(), vec![(lanes, 4, row)]].concat();
                    let walk = |pick: fn(&(usize, i64, i64)) -> i64| axes.iter().map(pick).collect::<Vec<i64>>();
                    let extents: Vec<usize> = axes.iter().map(|axis| axis.0).collect();
                    let copy = Copy::new(&extents, &walk(|axis| axis.1), &walk(|axis| axis.2));
                    let starts = [output * signed(first) + at, row * signed(first * LANES) + piece.dw];
                    copies.push((copy, starts));
                }
            }
            at += bytes;
        }
        self.copy_all(node, (from, to), copies);
    }

    /// Appends copies between two buffers that do not touch each other's memory.
    fn copy_all(&mut self, node: NodeId, (from, to): (usize, usize), copies: Vec<(Copy, [i64; 2])>) {
        let count = copies.len();
        let place = |buffer: usize, start: i64| {
            Arg::Buffer(buffer, usize::try_from(start).expect("pieces lie behind the beginning"))
        };
        for (i, (copy, [read, written])) in copies.into_iter().enumerate() {
            self.kernel(node, copy, vec![place(from, read), place(to, written)]);
            if i + 1 < count {
                self.overlap();
            }
        }
    }

    fn max_pool_grad(&mut self, node: NodeId, grad: &MaxPoolGrad) -> Option<()> {
        let (x, dy) = (self.graph.operand(node, 0)?, self.graph.operand(node, 1)?);
        let window = Window::new(&grad.window(), &self.f32_shape(x)?, &self.f32_shape(dy)?)?;
        if !PoolGrad::fits(&window.axes) {
            return None;
        }
        let (x_buffer, image) = self.blocked(node, x, [0; 4])?;
        let (dy_buffer, of_dy) = self.blocked(node, dy, [0; 4])?;
        let (place, out) = self.place_blocked(node, node.into(), image.shape);
        let work = PoolGrad {
            images: window.images,
            blocks: image.blocks(),
            window: window.axes,
            x: image.strides(),
            dy: of_dy.strides(),
            dx: out.strides(),
        };
        let args = vec![
            Arg::Buffer(x_buffer, image.start()),
            Arg::Buffer(dy_buffer, of_dy.start()),
            Arg::Buffer(place.buffer, out.start()),
        ];
        self.kernel(node, work, args);
        Some(())
    }
}

/// How the channels of x and dy meet.
#[derive(Clone, Copy)]
enum Kind {
    /// All with all, x in order of its axes.
    Plain,
    /// All with all.
    Blocks,
    /// Each with its own.
    Lanewise,
}
