//! Windows that slide over one plane at a time: depthwise convolution and pooling. The outer range counts
//! output planes.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use optc_ir::op::Act;

use super::im2col::Window;
use super::{Emitter, math, tiles};

/// What a window computes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A weighted sum.
    Depthwise {
        /// Output channels an input channel feeds.
        multiplier: usize,
        /// Whether there is a bias.
        bias: bool,
        /// Applied to the sum.
        act: Act,
    },
    /// The maximum; the border never wins.
    Max,
    /// The mean.
    Average {
        /// Whether the border counts.
        include_pad: bool,
    },
}

/// Windows over all planes of a sample, with everything that is baked into their code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Windows {
    /// The window.
    pub(crate) window: Window,
    /// What it computes.
    pub(crate) kind: Kind,
}

/// The inputs of one plane.
struct Plane {
    x: Value,
    weights: Value,
    bias: Value,
}

/// What a window has gathered so far: the sum or maximum, and the rows that were inside the plane.
struct Gathered {
    value: Value,
    rows: Value,
}

/// Emits the windows. Buffers: planes, result; for a convolution planes, weights, result, and the bias if
/// there is one.
pub(crate) fn emit(e: &mut Emitter<'_>, d: &Windows) {
    let w = &d.window;
    let x = e.buffer(0);
    let (weights, y, bias, multiplier) = match d.kind {
        Kind::Depthwise { multiplier, bias, .. } => {
            (Some(e.buffer(1)), e.buffer(2), bias.then(|| e.buffer(3)), multiplier)
        }
        Kind::Max | Kind::Average { .. } => (None, e.buffer(1), None, 1),
    };
    let taps = w.kernel[0] * w.kernel[1];
    let (begin, end) = (e.begin, e.end);
    e.for_range(begin, end, 1, |e, channel| {
        let source = match multiplier {
            1 => channel,
            m => {
                let m = e.int(m);
                e.b.ins().udiv(channel, m)
            }
        };
        let x = e.offset(x, source, w.input[0] * w.input[1] * 4);
        let plane = Plane {
            x,
            weights: weights.map_or(x, |weights| e.offset(weights, channel, taps * 4)),
            bias: match bias {
                Some(bias) => {
                    let at = e.offset(bias, channel, 4);
                    e.load(types::F32, at, 0)
                }
                None => e.float(types::F32, 0.0),
            },
        };
        let y = e.offset(y, channel, w.output[0] * w.output[1] * 4);
        // Columns where every tap reads inside the plane go by vectors, the few others one by one.
        let lo = (0..w.kernel[1]).map(|kw| w.inside(kw).0).max().unwrap_or(0);
        let hi = (0..w.kernel[1]).map(|kw| w.inside(kw).1).min().unwrap_or(0).max(lo);
        e.for_count(w.output[0], 1, |e, oh| {
            let line = e.offset(y, oh, w.output[1] * 4);
            for ow in (0..lo).chain(hi..w.output[1]) {
                let at = e.int(ow);
                let value = window(e, d, &plane, types::F32, oh, at, Some(ow));
                e.store(value, line, ow * 4);
            }
            // Without unit stride neighbouring outputs do not read neighbouring inputs: no vectors.
            for tile in tiles(hi - lo, usize::from(w.stride[1] == 1)) {
                e.for_count(tile.count, 1, |e, i| {
                    let ow = e.scale(i, tile.width());
                    let ow = e.add(ow, lo + tile.start);
                    let value = window(e, d, &plane, tile.ty(), oh, ow, None);
                    let at = e.offset(line, ow, 4);
                    e.store(value, at, 0);
                });
            }
        });
    });
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).expect("sizes are below 2^40")
}

/// The outputs at row `oh`, columns from `ow` on. `border` is the column where not all taps are inside.
fn window(
    e: &mut Emitter<'_>,
    d: &Windows,
    plane: &Plane,
    ty: Type,
    oh: Value,
    ow: Value,
    border: Option<usize>,
) -> Value {
    let w = &d.window;
    let columns: Vec<usize> =
        (0..w.kernel[1]).filter(|&kw| border.is_none_or(|ow| (w.inside(kw).0..w.inside(kw).1).contains(&ow))).collect();
    let start = match d.kind {
        Kind::Max => e.float(ty, f32::NEG_INFINITY),
        _ => e.broadcast(ty, plane.bias),
    };
    let mut gathered = Gathered { value: start, rows: e.float(types::F32, 0.0) };
    for kh in 0..w.kernel[0] {
        let shifted = e.scale(oh, w.stride[0]);
        let ih = e.b.ins().iadd_imm_s(shifted, signed(kh * w.dilation[0]) - signed(w.pad[0]));
        // Rows that are inside for every output need no test.
        let first = kh * w.dilation[0] >= w.pad[0];
        let last = (w.output[0] - 1) * w.stride[0] + kh * w.dilation[0] < w.input[0] + w.pad[0];
        if first && last {
            gathered = row(e, d, plane, ty, (kh, ih), ow, &columns, &gathered);
        } else {
            // As an unsigned number a negative row lies beyond the plane.
            let height = e.int(w.input[0]);
            let inside = e.b.ins().icmp(IntCC::UnsignedLessThan, ih, height);
            let values = e.choose(inside, &[gathered.value, gathered.rows], |e| {
                let inner = row(e, d, plane, ty, (kh, ih), ow, &columns, &gathered);
                vec![inner.value, inner.rows]
            });
            gathered = Gathered { value: values[0], rows: values[1] };
        }
    }
    match d.kind {
        Kind::Depthwise { act, .. } => math::activate(e, ty, act, gathered.value),
        Kind::Max => gathered.value,
        Kind::Average { include_pad } => {
            let count = if include_pad {
                e.float(types::F32, (w.kernel[0] * w.kernel[1]) as f32)
            } else {
                let columns = e.float(types::F32, columns.len() as f32);
                e.b.ins().fmul(gathered.rows, columns)
            };
            let count = e.broadcast(ty, count);
            e.b.ins().fdiv(gathered.value, count)
        }
    }
}

/// Gathers row `ih`, which kernel row `kh` reads.
#[allow(clippy::too_many_arguments, reason = "the coordinates of one row of one window")]
fn row(
    e: &mut Emitter<'_>,
    d: &Windows,
    plane: &Plane,
    ty: Type,
    (kh, ih): (usize, Value),
    ow: Value,
    columns: &[usize],
    before: &Gathered,
) -> Gathered {
    let w = &d.window;
    let line = e.offset(plane.x, ih, w.input[1] * 4);
    let column = e.scale(ow, w.stride[1]);
    let at = e.offset(line, column, 4);
    let mut value = before.value;
    for &kw in columns {
        let shift = signed(kw * w.dilation[1]) - signed(w.pad[1]);
        let at = e.b.ins().iadd_imm_s(at, shift * 4);
        let x = e.load(ty, at, 0);
        value = match d.kind {
            Kind::Depthwise { .. } => {
                let weight = e.load(types::F32, plane.weights, (kh * w.kernel[1] + kw) * 4);
                let weight = e.broadcast(ty, weight);
                e.fma(x, weight, value)
            }
            Kind::Max => e.b.ins().fmax(value, x),
            Kind::Average { .. } => e.b.ins().fadd(value, x),
        };
    }
    let one = e.float(types::F32, 1.0);
    let rows = e.b.ins().fadd(before.rows, one);
    Gathered { value, rows }
}
