//! Operators from codes to codes, as what they are by definition: dequantized, computed with numbers, quantized.
//!
//! So passes and kernels know one form of quantized models. `QLinearConv` and `QLinearMatMul` are defined with exact
//! sums of integers; with numbers a result may be another code where the exact value lies within the rounding of
//! single precision of the middle between two. They stay as they are where their scales are computed at run time, are
//! not of single precision, or lie along more than one axis. What only moves codes, or takes the largest, is exactly
//! the same with numbers.

use optc_ir::op::*;
use optc_ir::{DType, Op, Tensor};

use crate::onnx::attrs::Refusal;
use crate::onnx::source::{Arg, Mapped, Source, Step};

/// The first opset with quantized values.
pub(super) const SINCE: i64 = 10;

/// Codes with their grid: slots of the codes, the scale, and the zero point.
pub(super) type Slots = [usize; 3];

/// The axis that is written where there is one scale.
const WHOLE: i64 = 1;

impl Source<'_> {
    /// The numbers that an operand's codes stand for.
    pub(super) fn dequantized(&mut self, suffix: &'static str, slots: Slots, axis: i64) -> Arg {
        let args = slots.map(|slot| self.arg(slot)).to_vec();
        // The axis of one scale is none.
        let axis = if self.scales(slots[1]).is_some_and(|count| count != 1) { axis } else { WHOLE };
        self.step(suffix, DequantizeLinear { axis, block: 0 }, args)
    }

    /// The node's result: codes of numbers, on the grid in these slots. Without a zero point codes have the type of
    /// those in slot `like`.
    pub(super) fn quantized(self, x: Arg, [scale, zero]: [usize; 2], like: usize) -> Result<Mapped, Refusal> {
        let args = vec![x, self.arg(scale), self.arg(zero)];
        // The attribute tells the type of codes without a zero point alone.
        let to = match self.operand(zero) {
            Some(_) => DType::U8,
            None => self.ty(like).ok_or("codes of an unknown type")?.dtype,
        };
        self.with(QuantizeLinear { axis: WHOLE, block: 0, to }, args)
    }

    /// How many scales a slot holds, if that is known.
    pub(super) fn scales(&self, slot: usize) -> Option<usize> {
        self.ty(slot)?.numel()
    }

    /// The product of the scales in slots, of which at most one holds more than one, in single precision.
    pub(super) fn scale_product(&self, slots: [usize; 2], factor: f32) -> Option<Tensor> {
        let of = |slot: usize| Some(self.graph.constant(self.operand(slot)?)?.decode());
        let (a, b) = (of(slots[0])?, of(slots[1])?);
        let (x, y) = (a.as_f32()?, b.as_f32()?);
        let (&[one], many) = (if x.len() == 1 { (x, y) } else { (y, x) }) else { return None };
        let product: Vec<f32> = many.iter().map(|scale| factor * (one * scale)).collect();
        Some(if product.len() == 1 { Tensor::f32([], product) } else { Tensor::f32([product.len()], product) })
    }

    /// Whether a grid is one that `dequantize_linear` has: single precision, one scale or one an index of an axis,
    /// and as many zero points.
    pub(super) fn on_axis(&self, [_, scale, zero]: Slots) -> bool {
        let Some(ty) = self.ty(scale) else { return false };
        let whole = ty.numel() == Some(1) && ty.rank() < 2;
        let alike = |other: &optc_ir::TensorType| {
            other.shape == ty.shape || whole && other.numel() == Some(1) && other.rank() < 2
        };
        let known = self.operand(scale).is_some_and(|scale| self.graph.constant(scale).is_some());
        let fits = self.operand(zero).is_none() || self.ty(zero).is_some_and(alike);
        known && fits && ty.dtype == DType::F32 && (whole || ty.rank() == 1)
    }
}

/// Whether a `QLinearConv` can be computed with numbers.
pub(super) fn convolution_on_numbers(s: &Source<'_>) -> bool {
    [[0, 1, 2], [3, 4, 5], [0, 6, 7]].into_iter().all(|slots| s.on_axis(slots))
}

/// A `QLinearConv`.
pub(super) fn convolution(mut s: Source<'_>, conv: Conv) -> Result<Mapped, Refusal> {
    let mut args = vec![s.dequantized("x", [0, 1, 2], WHOLE), s.dequantized("w", [3, 4, 5], 0)];
    if s.operand(8).is_some() {
        let scale = s.scale_product([1, 4], 1.0).ok_or("scales of a bias")?;
        args.push(bias(&mut s, 8, scale));
    }
    let sums = s.step("sums", conv, args);
    s.quantized(sums, [6, 7], 0)
}

/// The numbers of a bias: integers in units of products of codes.
pub(super) fn bias(s: &mut Source<'_>, slot: usize, scale: Tensor) -> Arg {
    let axis = if scale.len() == 1 { WHOLE } else { 0 };
    let args = vec![s.arg(slot), Arg::Constant("bias_scale", scale)];
    s.step("bias", DequantizeLinear { axis, block: 0 }, args)
}

/// Whether a `QLinearMatMul` can be computed with numbers.
pub(super) fn product_on_numbers(s: &Source<'_>) -> bool {
    let matrices = [0, 3].into_iter().all(|slot| s.ty(slot).is_some_and(|ty| ty.rank() >= 2));
    let one = |slot: usize| s.scales(slot) == Some(1);
    let whole = one(1) && one(4);
    (matrices || whole) && [[0, 1, 2], [3, 4, 5], [0, 6, 7]].into_iter().all(|slots| s.on_axis(slots))
}

/// A `QLinearMatMul`.
pub(super) fn product(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    let args = vec![s.dequantized("a", [0, 1, 2], -2), s.dequantized("b", [3, 4, 5], -1)];
    let sums = s.step("sums", MatMul {}, args);
    s.quantized(sums, [6, 7], 0)
}

/// Codes that a node only moves, or takes the largest of, and what quantized them.
pub(super) struct Moved {
    grid: Vec<Arg>,
    quantize: QuantizeLinear,
}

impl Moved {
    /// What a node moves, if that was quantized on one grid just before.
    pub(super) fn of(s: &Source<'_>) -> Option<Moved> {
        let moves = matches!(
            s.op_type,
            "MaxPool"
                | "Reshape"
                | "Flatten"
                | "Squeeze"
                | "Unsqueeze"
                | "Transpose"
                | "Slice"
                | "Gather"
                | "Expand"
                | "Tile"
                | "DepthToSpace"
                | "SpaceToDepth"
        );
        let source = s.operand(0).filter(|_| moves && s.output_count() == 1)?.node;
        let Op::QuantizeLinear(quantize) = s.graph.op(source) else { return None };
        let grid: Vec<Arg> = [1, 2].map(|slot| Arg::Value(s.graph.operand(source, slot))).to_vec();
        let scale = s.graph.constant_operand(source, 1)?;
        // With one scale that is normal, codes are what their numbers are quantized to.
        let exact = scale.len() == 1 && scale.decode().as_f32().is_some_and(|scale| scale[0].is_normal());
        let quantize = QuantizeLinear { axis: WHOLE, block: 0, ..quantize.clone() };
        (exact && s.graph.ty(source).dtype().is_some_and(|dtype| dtype.bits() <= 8)).then_some(Moved { grid, quantize })
    }

    /// The same with numbers.
    pub(super) fn on_numbers(self, mapped: Mapped) -> Mapped {
        let Mapped { mut steps, op, mut args } = mapped;
        let step = |steps: &mut Vec<Step>, suffix, op, args| {
            steps.push(Step { suffix, op, args });
            Arg::Step(steps.len() - 1, 0)
        };
        let codes = [&[args[0].clone()][..], &self.grid].concat();
        args[0] = step(&mut steps, "x", DequantizeLinear { axis: WHOLE, block: 0 }.into(), codes);
        let moved = step(&mut steps, "y", op, args);
        Mapped { steps, op: self.quantize.into(), args: [&[moved][..], &self.grid].concat() }
    }
}
