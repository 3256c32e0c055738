//! Quantization on a grid that is known only when the numbers are: `dynamic_quantize_linear`, and what products of
//! such codes need to know of it.
//!
//! - [`Extremes`]: the least and the largest number of each piece, zero among them.
//! - [`DynamicGrid`]: `scale = (max − min)/255`, `zero = round(−min/scale)` of all pieces.
//! - [`DynamicCodes`]: `limit(round(x/scale) + zero)`.
//! - [`Begins`]: what sums over codes begin with, `−zero·Σw` of each output.
//!
//! Invariant: least and largest do not depend on the order, so pieces are as the numbers alone say.

use super::epilogue::Strides;
use super::function::zero_for_nan;
use super::program::{Bin, Cmp, Inst, LANES, P, Program, Src, Un, V, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, offsets, segment_runs, signed};
use crate::target::Vectors;

/// Vectors of a piece.
const PIECE: usize = 256;

/// Vectors looked at in one turn of a loop, each by a register of its own.
const AT_ONCE: usize = 4;

/// Vectors that are kept of a piece.
const OF_PIECE: usize = 2;

/// Bytes of a grid: its scale, and its zero point as a number.
pub(crate) const GRID_BYTES: usize = 8;

/// Where the zero point of a grid stands.
const ZERO: i64 = 4;

/// What begins are split into: products of a zero point with parts of so many bits are exact.
const LOW_BITS: u32 = 12;

/// The least and the largest of numbers in order. Pointers: the numbers, two vectors a piece.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Extremes {
    pub(crate) elements: usize,
}

impl Extremes {
    fn pieces(&self) -> usize {
        self.elements.div_ceil(PIECE * LANES)
    }

    /// Bytes of the result.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces() * OF_PIECE * VECTOR_BYTES
    }

    /// The schedule: pieces outermost.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(2);
        let whole = self.elements / (PIECE * LANES);
        let step = offsets([signed(PIECE * VECTOR_BYTES), signed(OF_PIECE * VECTOR_BYTES)]);
        if whole > 0 {
            let program = schedule.program(extremes(vectors, PIECE * LANES));
            schedule.parts.push(Part::new([Axis { count: whole, steps: step }], STAY, Nest::Call(program)));
        }
        let rest = self.elements % (PIECE * LANES);
        if rest > 0 {
            let program = schedule.program(extremes(vectors, rest));
            let start = step.map(|step| step * signed(whole));
            schedule.parts.push(Part::new([], start, Nest::Call(program)));
        }
        schedule
    }
}

fn extremes(vectors: Vectors, elements: usize) -> Program {
    let (x, y) = (P(0), P(1));
    let mut w = Writer::new(2, vectors.registers());
    // Which register looks at a vector makes no difference to the least and largest of a lane.
    let at_once = ((w.registers() - 1) / 2).min(AT_ONCE);
    let (low, high) = (w.take_all(at_once), w.take_all(at_once));
    low.iter().chain(&high).for_each(|&v| w.set(v, 0.0));
    let v = w.take();
    let look = |w: &mut Writer, i: usize, lanes: usize| {
        w.load_lanes(v, x.at(signed(i * VECTOR_BYTES)), lanes);
        // What is no number leaves the other operand.
        w.bin(Bin::Min, low[i], v, low[i]);
        w.bin(Bin::Max, high[i], v, high[i]);
    };
    let (turns, rest) = (elements / (at_once * LANES), elements % (at_once * LANES));
    w.repeat(turns, |w| {
        (0..at_once).for_each(|i| look(w, i, LANES));
        w.advance(x, signed(at_once * VECTOR_BYTES));
    });
    for i in 0..rest.div_ceil(LANES) {
        look(&mut w, i, (rest - i * LANES).min(LANES));
    }
    for (op, parts, at) in [(Bin::Min, &low, 0), (Bin::Max, &high, signed(VECTOR_BYTES))] {
        parts[1..].iter().for_each(|&part| w.bin(op, parts[0], parts[0], part));
        w.store(y.at(at), parts[0]);
    }
    w.finish()
}

/// The grid of pieces. Pointers: what [`Extremes`] kept, the grid.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DynamicGrid {
    pieces: usize,
}

impl DynamicGrid {
    /// The grid of all that was looked at.
    pub(crate) fn of(extremes: &Extremes) -> DynamicGrid {
        DynamicGrid { pieces: extremes.pieces() }
    }

    /// The schedule: one program.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let (x, y) = (P(0), P(1));
        let mut w = Writer::new(2, vectors.registers());
        let (low, high) = (w.take(), w.take());
        w.set(low, 0.0);
        w.set(high, 0.0);
        w.repeat(self.pieces, |w| {
            w.bin(Bin::Min, low, low, Src::Mem(x.at(0)));
            w.bin(Bin::Max, high, high, Src::Mem(x.at(signed(VECTOR_BYTES))));
            w.advance(x, signed(OF_PIECE * VECTOR_BYTES));
        });
        w.reduce(Bin::Min, low);
        w.reduce(Bin::Max, high);
        let (scale, one) = (w.take(), w.take());
        w.bin(Bin::Sub, scale, high, low);
        w.bin(Bin::Div, scale, scale, 255.0);
        w.set(one, 1.0);
        w.select(scale, (Cmp::Equal, low, high), one, scale);
        w.store_lanes(y.at(0), scale, 1);
        let zero = one;
        w.set(zero, 0.0);
        w.bin(Bin::Sub, zero, zero, low);
        w.bin(Bin::Div, zero, zero, scale);
        zero_for_nan(&mut w, &[zero]);
        w.un(Un::Round, zero, zero);
        w.bin(Bin::Max, zero, zero, 0.0);
        w.bin(Bin::Min, zero, zero, 255.0);
        w.store_lanes(y.at(ZERO), zero, 1);
        let mut schedule = Schedule::new(2);
        let program = schedule.program(w.finish());
        schedule.parts.push(Part::new([], STAY, Nest::Call(program)));
        schedule
    }
}

/// Numbers made codes of a grid in memory: images in blocks of channels. Pointers: the numbers, the grid, the codes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DynamicCodes {
    pub(crate) images: usize,
    pub(crate) channels: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) x: Strides,
    pub(crate) y: Strides,
    /// Whether x has room for whole blocks of channels.
    pub(crate) whole_blocks: bool,
}

impl DynamicCodes {
    /// Elements made.
    pub(crate) fn elements(&self) -> usize {
        self.images * self.channels.next_multiple_of(LANES) * self.rows * self.columns
    }

    /// The schedule: images, blocks, rows; a program does a row, or all blocks of an image of one pixel.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(3);
        let along = |step: fn(Strides) -> i64| offsets([step(self.x), 0, step(self.y)]);
        let images = Axis { count: self.images, steps: along(|s| s.image) };
        let (blocks, rest) = (self.channels / LANES, self.channels % LANES);
        let last = if self.whole_blocks || rest == 0 { LANES } else { rest };
        let whole = if last == LANES { self.channels.div_ceil(LANES) } else { blocks };
        if self.rows * self.columns == 1 {
            let mut w = Row::begin(vectors);
            w.vectors(whole, [self.x.block, self.y.block], LANES);
            if last < LANES {
                w.vectors(1, [self.x.block, self.y.block], last);
            }
            let program = schedule.program(w.writer.finish());
            schedule.parts.push(Part::new([images], STAY, Nest::Call(program)));
            return schedule;
        }
        for (first, count, lanes) in [(0, whole, LANES), (whole, usize::from(last < LANES), last)] {
            if count == 0 {
                continue;
            }
            let mut w = Row::begin(vectors);
            w.vectors(self.columns, [self.x.column, self.y.column], lanes);
            let program = schedule.program(w.writer.finish());
            let axes =
                [images, Axis { count, steps: along(|s| s.block) }, Axis { count: self.rows, steps: along(|s| s.row) }];
            let start = along(|s| s.block).map(|step| step * signed(first));
            schedule.parts.push(Part::new(axes, start, Nest::Call(program)));
        }
        schedule
    }
}

/// A program that makes codes, its grid in registers.
struct Row {
    writer: Writer,
    scale: V,
    zero: V,
}

impl Row {
    fn begin(vectors: Vectors) -> Row {
        let mut writer = Writer::new(3, vectors.registers());
        let (scale, zero) = (writer.take(), writer.take());
        writer.set(scale, Src::Splat(P(1).at(0)));
        writer.set(zero, Src::Splat(P(1).at(ZERO)));
        Row { writer, scale, zero }
    }

    /// So many vectors that lie so far apart, of so many lanes.
    fn vectors(&mut self, count: usize, [from, to]: [i64; 2], lanes: usize) {
        let Row { writer: w, scale, zero } = self;
        let at_once = w.registers().saturating_sub(2).clamp(1, 2 * AT_ONCE);
        for (count, length) in segment_runs(count, at_once) {
            w.repeat(count, |w| {
                let values = w.take_all(length);
                for (i, &v) in values.iter().enumerate() {
                    w.load_lanes(v, P(0).at(from * signed(i)), lanes);
                    w.bin(Bin::Div, v, v, *scale);
                }
                zero_for_nan(w, &values);
                for (i, &v) in values.iter().enumerate() {
                    w.un(Un::Round, v, v);
                    w.bin(Bin::Add, v, v, *zero);
                    w.bin(Bin::Max, v, v, 0.0);
                    // What is above a byte is limited as it is stored.
                    w.un(Un::ToInt, v, v);
                    w.push(Inst::StoreBytes(P(2).at(to * signed(i)), v));
                }
                w.drop_all(&values);
                w.advance(P(0), from * signed(length));
                w.advance(P(2), to * signed(length));
            });
        }
    }
}

/// What sums begin with, as integers. Pointers: the grid, what [`Begins::parts`] gives, the result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Begins {
    /// Blocks of outputs.
    pub(crate) blocks: usize,
}

impl Begins {
    /// Sums of weights, output by output, in two parts that lie block by block beside each other: multiplied by a zero
    /// point, each is exact. `None` if a sum is so large that it is not.
    pub(crate) fn parts(sums: &[i64]) -> Option<Vec<f32>> {
        let exact = sums.iter().all(|sum| sum.unsigned_abs() < 1 << (LOW_BITS * 2 - 1));
        let split = |sum: i64| {
            let low = sum & ((1 << LOW_BITS) - 1);
            [-low as f32, -(sum - low) as f32]
        };
        let part = |block: &[i64], part: usize| {
            (0..LANES).map(|lane| block.get(lane).map_or(0.0, |&sum| split(sum)[part])).collect::<Vec<f32>>()
        };
        exact.then(|| sums.chunks(LANES).flat_map(|block| [part(block, 0), part(block, 1)].concat()).collect())
    }

    /// The schedule: blocks outermost.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut w = Writer::new(3, vectors.registers());
        let (zero, low, high) = (w.take(), w.take(), w.take());
        w.set(zero, Src::Splat(P(0).at(ZERO)));
        for (part, at) in [(low, 0), (high, signed(VECTOR_BYTES))] {
            w.bin(Bin::Mul, part, zero, Src::Mem(P(1).at(at)));
            w.un(Un::ToInt, part, part);
        }
        w.bin(Bin::AddInt, low, low, high);
        w.store(P(2).at(0), low);
        let mut schedule = Schedule::new(3);
        let program = schedule.program(w.finish());
        let steps = offsets([0, signed(2 * VECTOR_BYTES), signed(VECTOR_BYTES)]);
        schedule.parts.push(Part::new([Axis { count: self.blocks, steps }], STAY, Nest::Call(program)));
        schedule
    }
}

#[cfg(test)]
mod tests;
