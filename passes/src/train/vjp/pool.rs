//! Pools. A maximum gives its gradient to where it was found; a mean spreads it evenly over its window, which is
//! a depthwise transposed convolution by ones; a p-norm spreads it in proportion to |x|ᵖ⁻¹.

use optc_ir::op::window::{Window, WindowAxis};
use optc_ir::op::{AutoPad, Binary, MaxPoolGrad, Unary};
use optc_ir::{Data, Op, Tensor, ValueId};

use super::super::emit::Emit;
use super::super::error::TrainError;
use super::conv::adjoint;
use super::{Cx, Gradients};

pub(super) fn rule(e: &mut Emit<'_>, op: &Op, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let x = cx.x(e, 0);
    let shape = e.shape(x)?;
    let axes =
        |e: &Emit<'_>, window: Window<'_>| window.axes(&shape[2..]).map_err(|error| e.unsupported(error.to_string()));
    let dx = match op {
        Op::MaxPool(a) => {
            let (kernel, strides, pads) = (a.kernel.clone(), a.strides.clone(), a.pads.clone());
            let (dilations, auto_pad, ceil) = (a.dilations.clone(), a.auto_pad, a.ceil);
            e.op(MaxPoolGrad { kernel, strides, pads, dilations, auto_pad, ceil }, &[x, dy])?
        }
        Op::GlobalMaxPool(_) => {
            let (kernel, auto_pad) = (shape[2..].to_vec(), AutoPad::Explicit);
            e.op(MaxPoolGrad { kernel, auto_pad, ..MaxPoolGrad::default() }, &[x, dy])?
        }
        Op::GlobalAveragePool(_) => {
            let share = e.scale(dy, 1.0 / shape[2..].iter().product::<usize>().max(1) as f64)?;
            e.expand(share, &shape)?
        }
        Op::AveragePool(a) => {
            let axes = axes(e, a.window())?;
            let counts = counts(&axes, a.count_include_pad);
            let dtype = e.dtype(dy)?;
            let shares = Data::from_f64(dtype, counts.iter().map(|n| 1.0 / n));
            let extents: Vec<usize> = [1, 1].into_iter().chain(axes.iter().map(|axis| axis.out)).collect();
            let shares = e.constant("shares", Tensor::new(extents, shares));
            let share = e.mul(dy, shares)?;
            spread(e, share, &axes, shape[1])?
        }
        // y = (Σ|x|ᵖ)^(1/p): x̄ = sign(x)·|x|ᵖ⁻¹ · Σ over the windows with x in them of ȳ·y^(1−p).
        Op::LpPool(a) => {
            let axes = axes(e, a.window())?;
            let p = a.p as f64;
            let least = e.at_least(cx.y(), f64::from(f32::MIN_POSITIVE))?;
            let exponent = e.scalar(dy, 1.0 - p)?;
            let scale = e.op(Op::Binary(Binary::Pow), &[least, exponent])?;
            let share = e.mul(dy, scale)?;
            let spread = spread(e, share, &axes, shape[1])?;
            let (size, sign) = (e.unary(Unary::Abs, x)?, e.unary(Unary::Sign, x)?);
            let exponent = e.scalar(dy, p - 1.0)?;
            let size = e.op(Op::Binary(Binary::Pow), &[size, exponent])?;
            let slope = e.mul(sign, size)?;
            e.mul(slope, spread)?
        }
        _ => unreachable!("{} is of another family", op.name()),
    };
    Ok(vec![Some(dx)])
}

/// How many elements each window's mean is over, in row-major order.
fn counts(axes: &[WindowAxis], borders: bool) -> Vec<f64> {
    axes.iter().fold(vec![1.0], |counts, axis| {
        let along = |o: usize| if borders { axis.covered(o) } else { axis.elements(o).0.len() };
        counts.iter().flat_map(|n| (0..axis.out).map(move |o| n * along(o) as f64)).collect()
    })
}

/// For each element of the operand, the sum of `dy` over the windows that see it.
fn spread(e: &mut Emit<'_>, dy: ValueId, axes: &[WindowAxis], channels: usize) -> Result<ValueId, TrainError> {
    let kernel: Vec<usize> = [channels, 1].into_iter().chain(axes.iter().map(|axis| axis.kernel)).collect();
    let ones = vec![1.0; kernel.iter().product()];
    let dtype = e.dtype(dy)?;
    let ones = e.constant("ones", Tensor::new(kernel, Data::from_f64(dtype, ones)));
    e.op(adjoint(axes, channels), &[dy, ones])
}
