//! Elementwise functions over broadcast operands. The outer range counts elements if the operands are
//! contiguous, the outermost axis otherwise.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use optc_ir::op::{Binary, Unary, Variadic};

use super::{Emitter, LANES, VECTOR, math};

/// An elementwise function that there is code for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    /// Of one operand.
    Unary(Unary),
    /// Of two.
    Binary(Binary),
    /// Of two: the larger or smaller.
    Variadic(Variadic),
    /// x where x ≥ 0, alpha·x elsewhere.
    LeakyRelu(f32),
    /// Limits.
    Clip(f32, f32),
    /// max(0, min(1, alpha·x + beta)).
    HardSigmoid(f32, f32),
    /// x·Φ(x).
    Gelu,
}

impl Function {
    /// Whether there is code.
    pub(crate) fn is_supported(self) -> bool {
        match self {
            Function::Unary(u) => math::has_unary(u),
            Function::Binary(b) => matches!(b, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::PRelu),
            _ => true,
        }
    }

    /// The name of the operator.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Function::Unary(u) => u.word(),
            Function::Binary(b) => b.word(),
            Function::Variadic(v) => v.word(),
            Function::LeakyRelu(_) => "leaky_relu",
            Function::Clip(..) => "clip",
            Function::HardSigmoid(..) => "hard_sigmoid",
            Function::Gelu => "gelu",
        }
    }

    fn emit(self, e: &mut Emitter<'_>, ty: Type, x: &[Value]) -> Value {
        match self {
            Function::Unary(u) => math::unary(e, ty, u, x[0]).expect("only supported functions are selected"),
            Function::Binary(Binary::Add) | Function::Variadic(Variadic::Sum) => e.b.ins().fadd(x[0], x[1]),
            Function::Binary(Binary::Sub) => e.b.ins().fsub(x[0], x[1]),
            Function::Binary(Binary::Mul) => e.b.ins().fmul(x[0], x[1]),
            Function::Binary(Binary::Div) => e.b.ins().fdiv(x[0], x[1]),
            Function::Binary(Binary::PRelu) => {
                let scaled = e.b.ins().fmul(x[0], x[1]);
                let zero = e.float(ty, 0.0);
                let negative = e.b.ins().fcmp(FloatCC::LessThan, x[0], zero);
                math::select(e, ty, negative, scaled, x[0])
            }
            Function::Binary(_) => unreachable!("only supported functions are selected"),
            Function::Variadic(Variadic::Max) => e.b.ins().fmax(x[0], x[1]),
            Function::Variadic(Variadic::Min) => e.b.ins().fmin(x[0], x[1]),
            Function::Variadic(Variadic::Mean) => {
                let sum = e.b.ins().fadd(x[0], x[1]);
                let half = e.float(ty, 0.5);
                e.b.ins().fmul(sum, half)
            }
            Function::LeakyRelu(alpha) => math::leaky_relu(e, ty, x[0], alpha),
            Function::Clip(lo, hi) => math::clip(e, ty, x[0], lo, hi),
            Function::HardSigmoid(alpha, beta) => math::hard_sigmoid(e, ty, x[0], alpha, beta),
            Function::Gelu => math::gelu(e, ty, x[0]),
        }
    }
}

/// A function over operands broadcast to one shape, with everything that is baked into its code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Elementwise {
    /// The function.
    pub(crate) function: Function,
    /// Extents of the result; neighbouring axes that every operand walks alike are merged.
    pub(crate) shape: Vec<usize>,
    /// Of each operand, elements from one index of an axis to the next: 0 where it is broadcast.
    pub(crate) strides: Vec<Vec<usize>>,
}

impl Elementwise {
    /// A function over operands of these shapes.
    pub(crate) fn new(function: Function, operands: &[&[usize]], result: &[usize]) -> Elementwise {
        let mut strides: Vec<Vec<usize>> =
            operands.iter().map(|shape| broadcast_strides(shape, result.len())).collect();
        let mut shape = result.to_vec();
        let mut axis = shape.len();
        while axis > 1 {
            axis -= 1;
            let inner = shape[axis];
            let merges = strides.iter().all(|s| s[axis - 1] == s[axis] * inner || shape[axis - 1] == 1);
            if merges || inner == 1 {
                for s in &mut strides {
                    let outer = s.remove(axis - 1);
                    if inner == 1 {
                        s[axis - 1] = outer;
                    }
                }
                let outer = shape.remove(axis - 1);
                shape[axis - 1] = outer * inner;
            }
        }
        if shape.is_empty() {
            shape.push(1);
            strides.iter_mut().for_each(|s| s.push(0));
        }
        Elementwise { function, shape, strides }
    }

    /// Outer iterations.
    pub(crate) fn range(&self) -> usize {
        self.shape[0]
    }
}

/// Strides of an operand within a result of `rank` axes, in elements; 0 along axes it is broadcast over.
fn broadcast_strides(shape: &[usize], rank: usize) -> Vec<usize> {
    let mut strides = vec![0; rank];
    let mut stride = 1;
    for (i, &extent) in shape.iter().enumerate().rev() {
        if extent != 1 {
            strides[rank - shape.len() + i] = stride;
        }
        stride *= extent;
    }
    strides
}

/// Emits the function. Buffers: the operands, the result.
pub(crate) fn emit(e: &mut Emitter<'_>, el: &Elementwise) {
    let operands: Vec<Value> = (0..el.strides.len()).map(|i| e.buffer(i)).collect();
    let result = e.buffer(operands.len());
    let (begin, end) = (e.begin, e.end);
    if el.shape.len() == 1 {
        line(e, el, &operands, result, begin, end);
        return;
    }
    e.for_range(begin, end, 1, |e, i| {
        let (operands, result) = step(e, el, 0, &operands, result, i);
        nest(e, el, 1, &operands, result);
    });
}

fn nest(e: &mut Emitter<'_>, el: &Elementwise, axis: usize, operands: &[Value], result: Value) {
    if axis == el.shape.len() - 1 {
        let (zero, n) = (e.int(0), e.int(el.shape[axis]));
        line(e, el, operands, result, zero, n);
        return;
    }
    e.for_count(el.shape[axis], 1, |e, i| {
        let (operands, result) = step(e, el, axis, operands, result, i);
        nest(e, el, axis + 1, &operands, result);
    });
}

/// The addresses at index `i` of an axis.
fn step(
    e: &mut Emitter<'_>,
    el: &Elementwise,
    axis: usize,
    operands: &[Value],
    result: Value,
    i: Value,
) -> (Vec<Value>, Value) {
    let inner: usize = el.shape[axis + 1..].iter().product();
    let moved = |e: &mut Emitter<'_>, at: Value, stride: usize| match stride {
        0 => at,
        stride => e.offset(at, i, stride * 4),
    };
    let operands = operands.iter().zip(&el.strides).map(|(&at, s)| moved(e, at, s[axis])).collect();
    (operands, moved(e, result, inner))
}

/// Elements `from..to` of the innermost axis.
fn line(e: &mut Emitter<'_>, el: &Elementwise, operands: &[Value], result: Value, from: Value, to: Value) {
    let strides: Vec<usize> = el.strides.iter().map(|s| s.last().copied().unwrap_or(0)).collect();
    let count = e.b.ins().isub(to, from);
    let mut middle = from;
    if strides.iter().all(|&s| s <= 1) {
        let lanes = i64::try_from(LANES).expect("few lanes");
        let whole = e.b.ins().band_imm_s(count, -lanes);
        middle = e.b.ins().iadd(from, whole);
        e.for_range(from, middle, LANES, |e, i| element(e, el, VECTOR, operands, &strides, result, i));
    }
    e.for_range(middle, to, 1, |e, i| element(e, el, types::F32, operands, &strides, result, i));
}

fn element(
    e: &mut Emitter<'_>,
    el: &Elementwise,
    ty: Type,
    operands: &[Value],
    strides: &[usize],
    result: Value,
    i: Value,
) {
    let x: Vec<Value> = operands
        .iter()
        .zip(strides)
        .map(|(&at, &stride)| {
            if stride == 0 {
                let scalar = e.load(types::F32, at, 0);
                return e.broadcast(ty, scalar);
            }
            let at = e.offset(at, i, stride * 4);
            e.load(ty, at, 0)
        })
        .collect();
    let y = el.function.emit(e, ty, &x);
    let at = e.offset(result, i, 4);
    e.store(y, at, 0);
}
