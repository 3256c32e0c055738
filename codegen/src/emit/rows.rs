//! Functions of whole contiguous rows: reductions, softmax, layer normalisation. The outer range counts rows.

use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

use super::{Emitter, LANES, VECTOR, math};

/// What is computed of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RowFunction {
    /// Σx, one number a row.
    Sum,
    /// Σx / n, one number a row.
    Mean,
    /// The largest, one number a row.
    Max,
    /// exp(x − max) / Σexp(x − max).
    Softmax,
    /// scale·(x − μ)/√(σ² + eps) + b.
    LayerNorm {
        /// Added to the variance.
        eps: f32,
        /// Whether there is an offset.
        bias: bool,
    },
}

impl RowFunction {
    /// The name in kernel names.
    pub(crate) fn word(self) -> &'static str {
        match self {
            RowFunction::Sum => "row_sum",
            RowFunction::Mean => "row_mean",
            RowFunction::Max => "row_max",
            RowFunction::Softmax => "softmax",
            RowFunction::LayerNorm { .. } => "layer_norm",
        }
    }
}

/// A function of rows of a fixed length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rows {
    /// The function.
    pub(crate) function: RowFunction,
    /// The number of rows.
    pub(crate) count: usize,
    /// Elements of a row; at least one.
    pub(crate) length: usize,
}

/// Emits the function. Buffers: rows, result; for a layer normalisation rows, scale, result, and the offset
/// if there is one.
pub(crate) fn emit(e: &mut Emitter<'_>, r: &Rows) {
    let x = e.buffer(0);
    let (scale, y, bias) = match r.function {
        RowFunction::LayerNorm { bias, .. } => (Some(e.buffer(1)), e.buffer(2), bias.then(|| e.buffer(3))),
        _ => (None, e.buffer(1), None),
    };
    let (begin, end) = (e.begin, e.end);
    e.for_range(begin, end, 1, |e, i| {
        let x = e.offset(x, i, r.length * 4);
        match r.function {
            RowFunction::Sum | RowFunction::Mean | RowFunction::Max => {
                let at = e.offset(y, i, 4);
                let value = match r.function {
                    RowFunction::Max => max(e, r, x),
                    RowFunction::Mean => mean(e, r, x),
                    _ => sum(e, r, x, |_, _, v| v),
                };
                e.store(value, at, 0);
            }
            RowFunction::Softmax => {
                let y = e.offset(y, i, r.length * 4);
                softmax(e, r, x, y);
            }
            RowFunction::LayerNorm { eps, .. } => {
                let y = e.offset(y, i, r.length * 4);
                layer_norm(e, r, eps, [x, y], scale, bias);
            }
        }
    });
}

fn softmax(e: &mut Emitter<'_>, r: &Rows, x: Value, y: Value) {
    let top = max(e, r, x);
    map(e, r, |e, ty, i| {
        let v = load(e, ty, x, i);
        let top = e.broadcast(ty, top);
        let shifted = e.b.ins().fsub(v, top);
        let v = math::exp(e, ty, shifted);
        store(e, v, y, i);
    });
    let total = sum(e, r, y, |_, _, v| v);
    let one = e.float(types::F32, 1.0);
    let share = e.b.ins().fdiv(one, total);
    map(e, r, |e, ty, i| {
        let v = load(e, ty, y, i);
        let share = e.broadcast(ty, share);
        let v = e.b.ins().fmul(v, share);
        store(e, v, y, i);
    });
}

fn layer_norm(e: &mut Emitter<'_>, r: &Rows, eps: f32, [x, y]: [Value; 2], scale: Option<Value>, bias: Option<Value>) {
    let mean = mean(e, r, x);
    let squares = sum(e, r, x, |e, ty, v| {
        let mean = e.broadcast(ty, mean);
        let centred = e.b.ins().fsub(v, mean);
        e.b.ins().fmul(centred, centred)
    });
    let n = e.float(types::F32, r.length as f32);
    let variance = e.b.ins().fdiv(squares, n);
    let eps = e.float(types::F32, eps);
    let variance = e.b.ins().fadd(variance, eps);
    let deviation = e.b.ins().sqrt(variance);
    let one = e.float(types::F32, 1.0);
    let inverse = e.b.ins().fdiv(one, deviation);
    map(e, r, |e, ty, i| {
        let v = load(e, ty, x, i);
        let (mean, inverse) = (e.broadcast(ty, mean), e.broadcast(ty, inverse));
        let centred = e.b.ins().fsub(v, mean);
        let mut v = e.b.ins().fmul(centred, inverse);
        if let Some(scale) = scale {
            let scale = load(e, ty, scale, i);
            v = e.b.ins().fmul(v, scale);
        }
        if let Some(bias) = bias {
            let bias = load(e, ty, bias, i);
            v = e.b.ins().fadd(v, bias);
        }
        store(e, v, y, i);
    });
}

fn mean(e: &mut Emitter<'_>, r: &Rows, x: Value) -> Value {
    let total = sum(e, r, x, |_, _, v| v);
    let n = e.float(types::F32, r.length as f32);
    e.b.ins().fdiv(total, n)
}

/// Σf(x) with one partial sum a lane.
fn sum<'a>(e: &mut Emitter<'a>, r: &Rows, x: Value, f: impl Fn(&mut Emitter<'a>, Type, Value) -> Value) -> Value {
    let zero = e.float(VECTOR, 0.0);
    reduce(
        e,
        r,
        zero,
        |e, ty, so_far, i| {
            let v = load(e, ty, x, i);
            let v = f(e, ty, v);
            e.b.ins().fadd(so_far, v)
        },
        |e, a, b| e.b.ins().fadd(a, b),
    )
}

fn max(e: &mut Emitter<'_>, r: &Rows, x: Value) -> Value {
    let lowest = e.float(VECTOR, f32::NEG_INFINITY);
    reduce(
        e,
        r,
        lowest,
        |e, ty, so_far, i| {
            let v = load(e, ty, x, i);
            e.b.ins().fmax(so_far, v)
        },
        |e, a, b| e.b.ins().fmax(a, b),
    )
}

/// Combines a row into one number: vectors first, their lanes, then the rest.
fn reduce<'a>(
    e: &mut Emitter<'a>,
    r: &Rows,
    init: Value,
    step: impl Fn(&mut Emitter<'a>, Type, Value, Value) -> Value,
    combine: impl Fn(&mut Emitter<'a>, Value, Value) -> Value,
) -> Value {
    let whole = r.length / LANES * LANES;
    let (zero, middle, end) = (e.int(0), e.int(whole), e.int(r.length));
    let vector = e.fold(zero, middle, LANES, &[init], |e, i, acc| vec![step(e, VECTOR, acc[0], i)])[0];
    let lanes: Vec<Value> = (0..4u8).map(|lane| e.b.ins().extractlane(vector, lane)).collect();
    let (left, right) = (combine(e, lanes[0], lanes[1]), combine(e, lanes[2], lanes[3]));
    let scalar = combine(e, left, right);
    e.fold(middle, end, 1, &[scalar], |e, i, acc| vec![step(e, types::F32, acc[0], i)])[0]
}

/// Walks a row by vectors, then one by one.
fn map<'a>(e: &mut Emitter<'a>, r: &Rows, body: impl Fn(&mut Emitter<'a>, Type, Value)) {
    let whole = r.length / LANES * LANES;
    let (zero, middle, end) = (e.int(0), e.int(whole), e.int(r.length));
    e.for_range(zero, middle, LANES, |e, i| body(e, VECTOR, i));
    e.for_range(middle, end, 1, |e, i| body(e, types::F32, i));
}

fn load(e: &mut Emitter<'_>, ty: Type, base: Value, i: Value) -> Value {
    let at = e.offset(base, i, 4);
    e.load(ty, at, 0)
}

fn store(e: &mut Emitter<'_>, v: Value, base: Value, i: Value) {
    let at = e.offset(base, i, 4);
    e.store(v, at, 0);
}
