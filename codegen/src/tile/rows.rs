//! Functions of whole rows whose elements lie next to each other: reductions, softmax, normalisations.
//!
//! - softmax: `y = e^(t − max t) / Σ e^(t − max t)`, `t = scale·x + mask`
//! - log softmax: `y = x − max x − ln Σ e^(x − max x)`
//! - layer norm: `y = scale·(x − μ)/√(σ² + eps) + bias`, μ and σ² the mean and the variance of the row
//! - RMS norm: `y = scale·x/√(Σx²/n + eps)`
//!
//! Lanes are elements of a row. A row goes by several times: short ones wait in registers where there are
//! enough of them, others are read again.
//!
//! Invariant: partial results are combined in an order that depends on the length of the row alone, so all
//! targets give the same bits. Lanes behind the end of the row are neutral to reductions. Rows of the result may
//! take the place of those of x.

use super::function::{Function, exp_falling};
use super::logarithm::ln_above_one;
use super::program::{Bin, Inst, LANES, MAX_DEPTH, Mem, P, Program, Src, Un, V, VECTOR_BYTES, Writer};
use super::schedule::{Axis, STAY, Schedule, Steps, signed};
use super::walk::{self, GRAIN, Limits, scaled};
use crate::target::Vectors;

/// Elements a program should do: each takes longer than in other kernels.
const ROWS_GRAIN: usize = GRAIN / 4;

/// Partial results of a reduction, each of every so many-th vector.
const PARTIAL: usize = 4;

/// Vectors of a row that may wait in registers; longer rows would make long programs.
const MAX_HELD: usize = 16;

/// Registers that rows leave to computation.
const SPARE: usize = 8;

/// What is computed of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RowFunction {
    /// One number a row.
    Sum,
    /// One number a row.
    Mean,
    /// One number a row, NaN if an element is.
    Max,
    /// One number a row, NaN if an element is.
    Min,
    /// One number a row: Σ|x|.
    L1,
    /// One number a row: √Σx².
    L2,
    /// One number a row: Σx².
    SumSquare,
    Softmax {
        scale: f32,
        /// Whether an operand is added before the maximum is taken.
        mask: bool,
    },
    LogSoftmax,
    LayerNorm {
        eps: f32,
        /// Whether an operand is added in the end.
        bias: bool,
    },
    RmsNorm {
        eps: f32,
    },
}

impl RowFunction {
    /// Whether it makes one number of a row.
    pub(crate) fn is_number(self) -> bool {
        use RowFunction::{L1, L2, Max, Mean, Min, Sum, SumSquare};
        matches!(self, Sum | Mean | Max | Min | L1 | L2 | SumSquare)
    }

    /// The name in kernel names.
    pub(crate) fn word(self) -> &'static str {
        match self {
            RowFunction::Sum => "row_sum",
            RowFunction::Mean => "row_mean",
            RowFunction::Max => "row_max",
            RowFunction::Min => "row_min",
            RowFunction::L1 => "row_l1",
            RowFunction::L2 => "row_l2",
            RowFunction::SumSquare => "row_sum_square",
            RowFunction::Softmax { .. } => "softmax",
            RowFunction::LogSoftmax => "log_softmax",
            RowFunction::LayerNorm { .. } => "layer_norm",
            RowFunction::RmsNorm { .. } => "rms_norm",
        }
    }
}

/// Rows along an axis, and bytes from one to the next; a mask that stays is the same for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RowAxis {
    pub(crate) count: usize,
    pub(crate) x: i64,
    pub(crate) y: i64,
    pub(crate) mask: i64,
}

/// A function of rows with everything that is baked into its code. Pointers of the kernel: x, then the mask,
/// or the scale and the bias, if there are any, then the result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rows {
    pub(crate) function: RowFunction,
    /// Elements of a row; at least one.
    pub(crate) length: usize,
    /// The outermost first.
    pub(crate) axes: Vec<RowAxis>,
}

const X: P = P(0);

/// The first operand besides the rows: a mask or a scale.
const OPERAND: P = P(1);

/// The second one.
const BIAS: P = P(2);

/// A vector of a row.
#[derive(Clone, Copy)]
struct Piece {
    /// The partial result it belongs to.
    slot: usize,
    /// Bytes after where pointers are.
    offset: i64,
    lanes: usize,
    /// The register it waits in.
    held: Option<V>,
}

impl Rows {
    /// The schedule: innermost axes within programs, the others outer.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(self.pointers());
        let along = |step: fn(&RowAxis) -> i64| self.axes.iter().map(step).collect::<Vec<i64>>();
        // Scales and biases are the same for all rows.
        let operand = along(|axis| axis.mask);
        assert!(self.has_mask() || operand.iter().all(|&step| step == 0), "only masks move from row to row");
        let mut strides = vec![operand; self.pointers()];
        strides[0] = along(|axis| axis.x);
        strides[self.pointers() - 1] = along(|axis| axis.y);
        let counts: Vec<usize> = self.axes.iter().map(|axis| axis.count).collect();
        let axes = walk::merged(&counts, strides.iter().map(Vec::as_slice));
        // A loop is left to the elements of a row.
        let limits = Limits { grain: (ROWS_GRAIN / self.length).max(1), axes: MAX_DEPTH - 1 };
        walk::divide(&mut schedule, STAY, &axes, limits, |axes| self.program(vectors, axes));
        schedule
    }

    /// Elements of all rows.
    pub(crate) fn elements(&self) -> usize {
        self.axes.iter().map(|axis| axis.count).product::<usize>() * self.length
    }

    fn has_mask(&self) -> bool {
        matches!(self.function, RowFunction::Softmax { mask: true, .. })
    }

    fn pointers(&self) -> usize {
        match self.function {
            RowFunction::Softmax { mask, .. } => 2 + usize::from(mask),
            RowFunction::RmsNorm { .. } => 3,
            RowFunction::LayerNorm { bias, .. } => 3 + usize::from(bias),
            _ => 2,
        }
    }

    fn y(&self) -> P {
        P::of(self.pointers() - 1)
    }

    /// Steps of the pointers that move along a row, from one vector to the next.
    fn along_row(&self) -> Steps {
        let mut steps = STAY;
        let moving = if self.function.is_number() { 1 } else { self.pointers() };
        steps[..moving].fill(signed(VECTOR_BYTES));
        steps
    }

    fn program(&self, vectors: Vectors, axes: &[Axis]) -> Program {
        let mut w = Writer::new(self.pointers(), vectors.registers());
        walk::repeat(&mut w, axes, &mut |w| {
            match self.function {
                RowFunction::Sum => self.number(w, Reduction::Sum, |_, _| ()),
                RowFunction::Mean => self.number(w, Reduction::Sum, |w, v| self.divide(w, v)),
                RowFunction::Max => self.number(w, Reduction::Largest, |_, _| ()),
                RowFunction::Min => self.number(w, Reduction::Smallest, |_, _| ()),
                RowFunction::L1 => self.number(w, Reduction::Magnitudes, |_, _| ()),
                RowFunction::L2 => self.number(w, Reduction::Squares, |w, v| w.un(Un::Sqrt, v, v)),
                RowFunction::SumSquare => self.number(w, Reduction::Squares, |_, _| ()),
                RowFunction::Softmax { scale, mask } => self.softmax(w, scale, mask),
                RowFunction::LogSoftmax => self.log_softmax(w),
                RowFunction::LayerNorm { eps, bias } => self.layer_norm(w, eps, bias),
                RowFunction::RmsNorm { eps } => self.rms_norm(w, eps),
            }
            STAY
        });
        w.finish()
    }

    fn number(&self, w: &mut Writer, reduction: Reduction, end: impl FnOnce(&mut Writer, V)) {
        let v = self.reduce(w, &[], reduction, |_, _, _| ());
        end(w, v);
        w.store_lanes(self.y().at(0), v, 1);
        w.drop(v);
    }

    fn softmax(&self, w: &mut Writer, scale: f32, mask: bool) {
        let held = self.hold(w);
        let score = |w: &mut Writer, v: V, piece: Piece| match mask {
            true => multiply_add(w, v, piece, |w, factor| w.set(factor, scale), OPERAND),
            false if scale == 1.0 => {}
            false => w.bin(Bin::Mul, v, v, scale),
        };
        // The maximum may lose a NaN, but as e^NaN it makes the sum NaN, and so the row.
        let top = self.reduce(w, &held, Reduction::Max, score);
        let total = w.take();
        w.set(total, 0.0);
        self.sweep(w, &held, |w, piece| {
            let v = piece.element(w);
            if held.is_empty() {
                score(w, v, piece);
            }
            w.bin(Bin::Sub, v, v, top);
            exp_falling(w, v);
            fill(w, v, piece.lanes, 0.0);
            w.bin(Bin::Add, total, total, v);
            if held.is_empty() {
                w.store_lanes(self.y().at(piece.offset), v, piece.lanes);
                w.drop(v);
            }
        });
        w.drop(top);
        w.reduce(Bin::Add, total);
        inverse(w, total);
        self.sweep(w, &held, |w, piece| {
            let v = piece.loaded(w, self.y());
            w.bin(Bin::Mul, v, v, total);
            self.store(w, v, piece);
        });
        w.drop(total);
        w.drop_all(&held);
    }

    fn log_softmax(&self, w: &mut Writer) {
        // The maximum may lose a NaN, but as e^NaN it makes the sum NaN, and so the row.
        let top = self.reduce(w, &[], Reduction::Max, |_, _, _| ());
        // One sum of many, since powers leave few registers free.
        let total = w.take();
        w.set(total, 0.0);
        self.sweep(w, &[], |w, piece| {
            let v = piece.element(w);
            w.bin(Bin::Sub, v, v, top);
            exp_falling(w, v);
            fill(w, v, piece.lanes, 0.0);
            w.bin(Bin::Add, total, total, v);
            w.drop(v);
        });
        w.reduce(Bin::Add, total);
        ln_above_one(w, total);
        self.sweep(w, &[], |w, piece| {
            let v = piece.element(w);
            w.bin(Bin::Sub, v, v, top);
            w.bin(Bin::Sub, v, v, total);
            self.store(w, v, piece);
        });
        w.drop_all(&[top, total]);
    }

    fn layer_norm(&self, w: &mut Writer, eps: f32, bias: bool) {
        let held = self.hold(w);
        let mean = self.reduce(w, &held, Reduction::Sum, |_, _, _| ());
        self.divide(w, mean);
        let factor = self.reduce(w, &held, Reduction::Squares, |w, v, _| w.bin(Bin::Sub, v, v, mean));
        self.inverse_root(w, factor, eps);
        self.sweep(w, &held, |w, piece| {
            let v = piece.element(w);
            if held.is_empty() {
                w.bin(Bin::Sub, v, v, mean);
            }
            w.bin(Bin::Mul, v, v, factor);
            if bias {
                multiply_add(w, v, piece, |w, scale| w.load_lanes(scale, piece.at(OPERAND), piece.lanes), BIAS);
            } else {
                with_operand(w, OPERAND, piece, |w, scale| w.bin(Bin::Mul, v, v, scale));
            }
            self.store(w, v, piece);
        });
        w.drop(factor);
        w.drop(mean);
        w.drop_all(&held);
    }

    fn rms_norm(&self, w: &mut Writer, eps: f32) {
        let held = self.hold(w);
        let factor = self.reduce(w, &held, Reduction::Squares, |_, _, _| ());
        self.inverse_root(w, factor, eps);
        self.sweep(w, &held, |w, piece| {
            let v = piece.element(w);
            w.bin(Bin::Mul, v, v, factor);
            with_operand(w, OPERAND, piece, |w, scale| w.bin(Bin::Mul, v, v, scale));
            self.store(w, v, piece);
        });
        w.drop(factor);
        w.drop_all(&held);
    }

    /// `v / n`
    fn divide(&self, w: &mut Writer, v: V) {
        w.bin(Bin::Div, v, v, self.length as f32);
    }

    /// `1 / √(v/n + eps)`
    fn inverse_root(&self, w: &mut Writer, v: V, eps: f32) {
        self.divide(w, v);
        w.bin(Bin::Add, v, v, eps);
        w.un(Un::Sqrt, v, v);
        inverse(w, v);
    }

    /// Loads the row if it fits registers; otherwise nothing is held.
    fn hold(&self, w: &mut Writer) -> Vec<V> {
        let width = self.length.div_ceil(LANES);
        if width > MAX_HELD.min(w.registers().saturating_sub(SPARE)) {
            return Vec::new();
        }
        let held = w.take_all(width);
        for (i, &v) in held.iter().enumerate() {
            let piece = self.piece(i);
            w.load_lanes(v, piece.at(X), piece.lanes);
        }
        held
    }

    /// A vector of the row, pointers at its beginning.
    fn piece(&self, i: usize) -> Piece {
        let lanes = (self.length - i * LANES).min(LANES);
        Piece { slot: i % PARTIAL, offset: signed(i * VECTOR_BYTES), lanes, held: None }
    }

    /// Reduces a row to one number, in every lane. Elements are changed by `change` first, those that are held
    /// for good.
    fn reduce(&self, w: &mut Writer, held: &[V], reduction: Reduction, change: impl Fn(&mut Writer, V, Piece)) -> V {
        let partial = w.take_all(PARTIAL.min(self.length.div_ceil(LANES)));
        partial.iter().for_each(|&v| w.set(v, reduction.neutral()));
        self.sweep(w, held, |w, piece| {
            let v = piece.element(w);
            change(w, v, piece);
            fill(w, v, piece.lanes, reduction.neutral());
            reduction.take(w, partial[piece.slot], v);
            if piece.held.is_none() {
                w.drop(v);
            }
        });
        for distance in [1, 2] {
            for i in (0..partial.len()).step_by(2 * distance) {
                if let Some(&other) = partial.get(i + distance) {
                    reduction.join(w, partial[i], other);
                }
            }
        }
        w.drop_all(&partial[1..]);
        reduction.join_lanes(w, partial[0]);
        partial[0]
    }

    /// Writes what `body` does for every vector of the row, in order.
    fn sweep(&self, w: &mut Writer, held: &[V], body: impl Fn(&mut Writer, Piece)) {
        if !held.is_empty() {
            for (i, &v) in held.iter().enumerate() {
                body(w, Piece { held: Some(v), ..self.piece(i) });
            }
            return;
        }
        let groups = self.length / (PARTIAL * LANES);
        // One group needs no loop.
        let groups = if groups == 1 { 0 } else { groups };
        let group = scaled(self.along_row(), PARTIAL);
        w.repeat(groups, |w| {
            (0..PARTIAL).for_each(|i| body(w, self.piece(i)));
            walk::advance(w, group);
        });
        let first = groups * PARTIAL;
        for i in first..self.length.div_ceil(LANES) {
            let offset = self.piece(i - first).offset;
            body(w, Piece { offset, ..self.piece(i) });
        }
        walk::advance(w, scaled(group, groups).map(|step| -step));
    }

    /// Ends with an element of the result.
    fn store(&self, w: &mut Writer, v: V, piece: Piece) {
        w.store_lanes(piece.at(self.y()), v, piece.lanes);
        if piece.held.is_none() {
            w.drop(v);
        }
    }
}

impl Piece {
    fn at(self, pointer: P) -> Mem {
        pointer.at(self.offset)
    }

    /// The register it waits in, or one that it is loaded into from x.
    fn element(self, w: &mut Writer) -> V {
        self.loaded(w, X)
    }

    /// The register it waits in, or one that it is loaded into.
    fn loaded(self, w: &mut Writer, from: P) -> V {
        self.held.unwrap_or_else(|| {
            let v = w.take();
            w.load_lanes(v, self.at(from), self.lanes);
            v
        })
    }
}

/// How elements become one number.
#[derive(Clone, Copy)]
enum Reduction {
    Sum,
    Squares,
    /// May lose a NaN.
    Max,
    /// NaN if an element is.
    Largest,
    /// NaN if an element is.
    Smallest,
    Magnitudes,
}

impl Reduction {
    /// What changes no result.
    fn neutral(self) -> f32 {
        match self {
            Reduction::Sum | Reduction::Squares | Reduction::Magnitudes => 0.0,
            Reduction::Max | Reduction::Largest => f32::NEG_INFINITY,
            Reduction::Smallest => f32::INFINITY,
        }
    }

    /// Takes an element into a partial result.
    fn take(self, w: &mut Writer, partial: V, v: V) {
        match self {
            Reduction::Squares => w.fma(partial, v, v),
            Reduction::Magnitudes => {
                w.un(Un::Abs, v, v);
                self.join(w, partial, v);
            }
            _ => self.join(w, partial, v),
        }
    }

    /// Joins partial results.
    fn join(self, w: &mut Writer, partial: V, other: V) {
        match self {
            Reduction::Sum | Reduction::Squares | Reduction::Magnitudes => w.bin(Bin::Add, partial, partial, other),
            Reduction::Max => w.bin(Bin::Max, partial, partial, other),
            Reduction::Largest => Function::Max.apply(w, &[partial], |_| other.into()),
            Reduction::Smallest => Function::Min.apply(w, &[partial], |_| other.into()),
        }
    }

    /// Joins the lanes of a partial result.
    fn join_lanes(self, w: &mut Writer, partial: V) {
        match self {
            Reduction::Sum | Reduction::Squares | Reduction::Magnitudes => w.reduce(Bin::Add, partial),
            Reduction::Max => w.reduce(Bin::Max, partial),
            Reduction::Largest | Reduction::Smallest => {
                let other = w.take();
                for distance in [8, 4, 2, 1] {
                    w.push(Inst::Swap(other, partial, distance));
                    self.join(w, partial, other);
                }
                w.drop(other);
            }
        }
    }
}

/// Sets lanes behind the first `lanes` to a number.
fn fill(w: &mut Writer, v: V, lanes: usize, x: f32) {
    if lanes < LANES {
        let number = w.take();
        w.set(number, x);
        w.merge(v, number, lanes);
        w.drop(number);
    }
}

/// `1 / v`
fn inverse(w: &mut Writer, v: V) {
    Function::Reciprocal.apply(w, &[v], |_| Src::Const(0.0));
}

/// Hands the vector of an operand that stands beside a piece to `body`.
fn with_operand(w: &mut Writer, operand: P, piece: Piece, body: impl FnOnce(&mut Writer, Src)) {
    if piece.lanes == LANES {
        return body(w, Src::Mem(piece.at(operand)));
    }
    let v = w.take();
    w.load_lanes(v, piece.at(operand), piece.lanes);
    body(w, v.into());
    w.drop(v);
}

/// `v = v·factor + operand`; `factor` fills a register.
fn multiply_add(w: &mut Writer, v: V, piece: Piece, factor: impl FnOnce(&mut Writer, V), operand: P) {
    let by = w.take();
    factor(w, by);
    with_operand(w, operand, piece, |w, other| w.mul_add(v, by, other));
    w.drop(by);
}

#[cfg(test)]
mod tests;
