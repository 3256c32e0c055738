//! Evaluation of the operators of `op/pool.rs`.

use super::Cx;
use crate::error::EvalError;
use crate::op::Op;
use crate::op::window::WindowAxis;
use crate::tensor::{Data, Tensor};
use crate::types::DType;

pub(super) fn eval(op: &Op, cx: &Cx<'_>) -> Result<Vec<Tensor>, EvalError> {
    let x = cx.x(0);
    let shape = cx.out_shape(0)?;
    let spatial = &x.shape()[2..];
    let float = |y: Vec<f64>| Tensor::new(shape.clone(), Data::from_f64(x.dtype(), y));
    Ok(match op {
        Op::MaxPool(a) => {
            let (values, indices) = max_pool(x, &a.window().axes(spatial)?, a.column_major);
            vec![Tensor::new(shape.clone(), values), Tensor::i64(shape, indices)]
        }
        Op::AveragePool(a) => {
            let axes = a.window().axes(spatial)?;
            vec![float(reduce(
                x,
                &axes,
                0.0,
                |sum, x| sum + x,
                |sum, seen, covered| sum / if a.count_include_pad { covered } else { seen },
            ))]
        }
        Op::LpPool(a) => {
            let axes = a.window().axes(spatial)?;
            let p = a.p as f64;
            vec![float(reduce(x, &axes, 0.0, |sum, x| sum + x.abs().powf(p), |sum, _, _| sum.powf(1.0 / p)))]
        }
        Op::GlobalAveragePool(_) => {
            vec![float(reduce(x, &whole(spatial), 0.0, |sum, x| sum + x, |sum, seen, _| sum / seen))]
        }
        Op::GlobalMaxPool(_) => {
            vec![float(reduce(x, &whole(spatial), f64::NEG_INFINITY, larger, |max, _, _| max))]
        }
        _ => unreachable!("{} is of another family", op.name()),
    })
}

/// The larger; NaN if either is.
fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

/// One window over everything.
fn whole(spatial: &[usize]) -> Vec<WindowAxis> {
    let axis = |&n: &usize| WindowAxis { input: n, kernel: n, stride: 1, dilation: 1, begin: 0, end: 0, out: 1 };
    spatial.iter().map(axis).collect()
}

/// The elements of the input that a window sees along one axis, as offsets into a plane.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    count: usize,
    step: usize,
}

/// One position of a window.
struct Place {
    spans: Vec<Span>,
    /// Window elements on the input.
    seen: usize,
    /// Window elements on the input or its border.
    covered: usize,
}

/// Every position of a window in row-major order.
fn places(axes: &[WindowAxis]) -> Vec<Place> {
    let mut places = vec![Place { spans: Vec::new(), seen: 1, covered: 1 }];
    let mut size: usize = axes.iter().map(|axis| axis.input).product();
    for axis in axes {
        size = size.checked_div(axis.input).unwrap_or(0);
        let extend = |place: Place| {
            (0..axis.out).map(move |o| {
                let (elements, read) = axis.elements(o);
                let span = Span { start: read * size, count: elements.len(), step: axis.dilation.saturating_mul(size) };
                Place {
                    spans: place.spans.iter().copied().chain([span]).collect(),
                    seen: place.seen * span.count,
                    covered: place.covered.saturating_mul(axis.covered(o)),
                }
            })
        };
        places = places.into_iter().flat_map(extend).collect();
    }
    places
}

/// Calls `f` with the offset of every element within the spans, in row-major order.
fn visit<F: FnMut(usize)>(spans: &[Span], at: usize, f: &mut F) {
    let Some((span, rest)) = spans.split_first() else { return f(at) };
    let mut at = at + span.start;
    for i in 0..span.count {
        if i > 0 {
            at += span.step;
        }
        visit(rest, at, f);
    }
}

/// For every channel and window: `step` over the elements from `start` on, then `finish` with the
/// numbers of elements seen and covered.
fn reduce(
    x: &Tensor,
    axes: &[WindowAxis],
    start: f64,
    step: impl Fn(f64, f64) -> f64,
    finish: impl Fn(f64, f64, f64) -> f64,
) -> Vec<f64> {
    let places = places(axes);
    let mut y = Vec::new();
    for plane in planes(&x.data().to_f64(), axes) {
        for place in &places {
            let mut sum = start;
            visit(&place.spans, 0, &mut |i| sum = step(sum, plane[i]));
            y.push(finish(sum, place.seen as f64, place.covered as f64));
        }
    }
    y
}

fn planes<'a>(x: &'a [f64], axes: &[WindowAxis]) -> std::slice::ChunksExact<'a, f64> {
    let size: usize = axes.iter().map(|axis| axis.input).product();
    // Without elements there are no planes, whatever their size.
    x.chunks_exact(size.max(1))
}

/// The maxima and their indices. A window that sees nothing, which dilation makes possible, gives the
/// lowest number of the type and the index −1.
fn max_pool(x: &Tensor, axes: &[WindowAxis], column_major: bool) -> (Data, Vec<i64>) {
    let lowest = match x.dtype() {
        DType::I8 => f64::from(i8::MIN),
        DType::U8 => f64::from(u8::MIN),
        _ => f64::NEG_INFINITY,
    };
    let places = places(axes);
    let (mut values, mut indices) = (Vec::new(), Vec::new());
    for (n, plane) in planes(&x.data().to_f64(), axes).enumerate() {
        for place in &places {
            let best = first_maximum(plane, place);
            values.push(best.map_or(lowest, |i| plane[i]));
            indices.push(best.map_or(-1, |i| {
                let within = if column_major { column_index(i, axes) } else { i };
                (n * plane.len() + within) as i64
            }));
        }
    }
    (Data::from_f64(x.dtype(), values), indices)
}

/// Where in a plane the first maximum of a window is, NaN being larger than any number; `None` if the window
/// sees nothing.
fn first_maximum(plane: &[f64], place: &Place) -> Option<usize> {
    let mut best: Option<usize> = None;
    visit(&place.spans, 0, &mut |i| {
        if best.is_none_or(|at| plane[i] > plane[at] || (plane[i].is_nan() && !plane[at].is_nan())) {
            best = Some(i);
        }
    });
    best
}

/// The gradient of a maximum over windows: each element of `dy` added to where the maximum of its window is.
pub(super) fn max_pool_grad(x: &Tensor, dy: &Tensor, axes: &[WindowAxis]) -> Vec<f64> {
    let places = places(axes);
    let x = x.data().to_f64();
    let mut dx = vec![0.0; x.len()];
    let mut dy = dy.data().to_f64().into_iter();
    for (n, plane) in planes(&x, axes).enumerate() {
        for (place, dy) in places.iter().zip(&mut dy) {
            if let Some(i) = first_maximum(plane, place) {
                dx[n * plane.len() + i] += dy;
            }
        }
    }
    dx
}

/// The column-major index of the element with row-major index `i`.
fn column_index(mut i: usize, axes: &[WindowAxis]) -> usize {
    let mut index = 0;
    for axis in axes.iter().rev() {
        index = index * axis.input + i % axis.input;
        i /= axis.input;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_near, numbers, values};
    use super::super::{self as interp};
    use super::*;
    use crate::op::{AutoPad, AveragePool, GlobalAveragePool, GlobalMaxPool, LpPool, MaxPool};

    fn run(op: impl Into<Op>, x: &Tensor) -> Vec<Tensor> {
        interp::eval(&op.into(), &[Some(x)]).expect("the operands fit")
    }

    #[test]
    fn maxima_have_flat_indices_in_either_order() {
        let x = Tensor::f32([1, 2, 2, 3], [1.0, 5.0, 2.0, 0.0, 3.0, 4.0, -1.0, -5.0, -2.0, -9.0, -3.0, -4.0]);
        let op = MaxPool { kernel: vec![2, 2], ..MaxPool::default() };
        let y = run(op.clone(), &x);
        assert_eq!(y[0], Tensor::f32([1, 2, 1, 2], [5.0, 5.0, -1.0, -2.0]));
        assert_eq!(y[1], Tensor::i64([1, 2, 1, 2], [1, 1, 6, 8]));
        let y = run(MaxPool { column_major: true, ..op }, &x);
        assert_eq!(y[1], Tensor::i64([1, 2, 1, 2], [2, 2, 6, 10]));
    }

    #[test]
    fn borders_never_win_and_bytes_stay_bytes() {
        let x = Tensor::new([1, 1, 3], Data::I8(vec![-128, -3, -7]));
        let op = MaxPool { kernel: vec![3], pads: vec![2, 2], strides: vec![2], ..MaxPool::default() };
        assert_eq!(run(op, &x)[0], Tensor::new([1, 1, 3], Data::I8(vec![-128, -3, -7])));
        let op = MaxPool { kernel: vec![2], dilations: vec![2], pads: vec![1, 1], ..MaxPool::default() };
        let y = run(op, &Tensor::f32([1, 1, 1], [3.0]));
        assert_eq!(y, [Tensor::f32([1, 1, 1], [f32::NEG_INFINITY]), Tensor::i64([1, 1, 1], [-1])]);
        let op = MaxPool { kernel: vec![2], ..MaxPool::default() };
        assert!(values(&run(op, &Tensor::f32([1, 1, 2], [1.0, f32::NAN]))[0])[0].is_nan());
    }

    #[test]
    fn means_count_the_border_if_told_but_nothing_beyond_it() {
        let x = Tensor::f32([1, 1, 4], [1.0, 2.0, 3.0, 4.0]);
        let op = AveragePool { kernel: vec![3], strides: vec![2], pads: vec![1, 0], ..AveragePool::default() };
        assert_eq!(run(op.clone(), &x)[0], Tensor::f32([1, 1, 2], [1.5, 3.0]));
        let op = AveragePool { count_include_pad: true, ceil: true, ..op };
        assert_eq!(run(op, &x)[0], Tensor::f32([1, 1, 2], [1.0, 3.0]));
        // The last window covers one element of input and one of border, and hangs over by one.
        let op = AveragePool {
            kernel: vec![3],
            strides: vec![3],
            pads: vec![0, 1],
            ceil: true,
            count_include_pad: true,
            ..AveragePool::default()
        };
        assert_eq!(run(op, &x)[0], Tensor::f32([1, 1, 2], [2.0, 2.0]));
    }

    #[test]
    fn windows_over_two_axes_match_the_definition() {
        let x = numbers(DType::F32, &[2, 3, 5, 6]);
        let op = AveragePool {
            kernel: vec![2, 3],
            strides: vec![2, 1],
            dilations: vec![2, 1],
            auto_pad: AutoPad::SameLower,
            ..AveragePool::default()
        };
        let y = run(op, &x).remove(0);
        let xv = values(&x);
        let mut expected = Vec::new();
        for plane in 0..6 {
            for oy in 0..3i64 {
                for ox in 0..6i64 {
                    // SAME over 5 with span 3, stride 2 pads 1 and 1; over 6 with 3, 1 as well.
                    let taps = [0, 2].into_iter().flat_map(|ky| (0..3).map(move |kx| (oy * 2 + ky - 1, ox + kx - 1)));
                    let seen: Vec<f64> = taps
                        .filter(|&(iy, ix)| (0..5).contains(&iy) && (0..6).contains(&ix))
                        .map(|(iy, ix)| xv[plane * 30 + (iy * 6 + ix) as usize])
                        .collect();
                    expected.push(seen.iter().sum::<f64>() / seen.len() as f64);
                }
            }
        }
        assert_near(&y, &[2, 3, 3, 6], &expected, 1e-6);
    }

    #[test]
    fn norms_and_global_pools() {
        let x = Tensor::f32([1, 2, 2], [3.0, -4.0, 6.0, 8.0]);
        let lp = |p| LpPool { kernel: vec![2], p, ..LpPool::default() };
        assert_eq!(run(lp(2), &x)[0], Tensor::f32([1, 2, 1], [5.0, 10.0]));
        assert_eq!(run(lp(1), &x)[0], Tensor::f32([1, 2, 1], [7.0, 14.0]));
        assert_eq!(run(GlobalAveragePool {}, &x)[0], Tensor::f32([1, 2, 1], [-0.5, 7.0]));
        assert_eq!(run(GlobalMaxPool {}, &x)[0], Tensor::f32([1, 2, 1], [3.0, 8.0]));
        assert_eq!(run(GlobalMaxPool {}, &Tensor::zeros(DType::F32, [0, 2, 2]))[0].shape(), [0, 2, 1]);
    }

    #[test]
    fn a_huge_window_costs_only_what_it_sees() {
        let huge = 1 << 50;
        let op = MaxPool { kernel: vec![huge], pads: vec![huge - 1, 0], ..MaxPool::default() };
        assert_eq!(run(op, &Tensor::f32([1, 1, 1], [7.0]))[0], Tensor::f32([1, 1, 1], [7.0]));
    }
}
