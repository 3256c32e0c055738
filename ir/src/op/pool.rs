//! Pooling over windows of the spatial axes. `x` is `[N, C, spatial…]`.

use super::attr::attrs;
use super::conv::AutoPad;
use super::expect;
use super::infer::Args;
use super::window::Window;
use crate::error::TypeError;
use crate::types::{DType, Dim, TensorType};

attrs! {
    /// Maximum over windows. Results: the values, and their flat indices in `x` as i64.
    pub struct MaxPool {
        /// Extent of the window along each spatial axis.
        kernel: Vec<usize> = vec![],
        /// Step of the window; empty means ones.
        strides: Vec<usize> = vec![],
        /// Border added: all beginnings, then all ends; empty means zeros. It never wins.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring window elements; empty means ones.
        dilations: Vec<usize> = vec![],
        /// Takes the place of `pads` unless `explicit`.
        auto_pad: AutoPad = AutoPad::Explicit,
        /// Whether a window that hangs over the end counts.
        ceil: bool = false,
        /// Whether the flat indices count the spatial axes of a channel column-major.
        column_major: bool = false,
    }

    /// Mean over windows.
    pub struct AveragePool {
        /// Extent of the window along each spatial axis.
        kernel: Vec<usize> = vec![],
        /// Step of the window; empty means ones.
        strides: Vec<usize> = vec![],
        /// Border added: all beginnings, then all ends; empty means zeros.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring window elements; empty means ones.
        dilations: Vec<usize> = vec![],
        /// Takes the place of `pads` unless `explicit`.
        auto_pad: AutoPad = AutoPad::Explicit,
        /// Whether a window that hangs over the end counts.
        ceil: bool = false,
        /// Whether the mean counts the elements of the border. What hangs over beyond it never counts.
        count_include_pad: bool = false,
    }

    /// p-norm over windows.
    pub struct LpPool {
        /// Extent of the window along each spatial axis.
        kernel: Vec<usize> = vec![],
        /// Step of the window; empty means ones.
        strides: Vec<usize> = vec![],
        /// Zeros added: all beginnings, then all ends; empty means zeros.
        pads: Vec<usize> = vec![],
        /// Distance of neighbouring window elements; empty means ones.
        dilations: Vec<usize> = vec![],
        /// Takes the place of `pads` unless `explicit`.
        auto_pad: AutoPad = AutoPad::Explicit,
        /// Whether a window that hangs over the end counts.
        ceil: bool = false,
        /// The exponent.
        p: usize = 2,
    }

    /// Mean over all spatial axes, kept with extent 1.
    pub struct GlobalAveragePool {}

    /// Maximum over all spatial axes, kept with extent 1.
    pub struct GlobalMaxPool {}
}

macro_rules! windowed {
    ($($name:ident)*) => {$(
        impl $name {
            /// The window; its `axes` place it on an input.
            pub fn window(&self) -> Window<'_> {
                Window {
                    kernel: self.kernel.iter().copied().map(Dim::Fixed).collect(),
                    strides: &self.strides,
                    pads: &self.pads,
                    dilations: &self.dilations,
                    auto_pad: self.auto_pad,
                    ceil: self.ceil,
                }
            }
        }
    )*};
}

windowed! { MaxPool AveragePool LpPool }

/// The shape of a pool of `x` (`[N, C, spatial…]`).
pub(super) fn pooled(x: &TensorType, window: &Window<'_>) -> Result<Vec<Dim>, TypeError> {
    let (outer, spatial) = split(x)?;
    let out = window.out_shape(spatial)?;
    if window.auto_pad == AutoPad::Explicit {
        // A wider border would hold whole windows, and those have no maximum and no mean.
        let spans = || {
            window.kernel.iter().enumerate().map(|(i, kernel)| {
                let dilation = window.dilations.get(i).copied().unwrap_or(1);
                kernel.fixed().map_or(usize::MAX, |k| k.saturating_sub(1).saturating_mul(dilation).saturating_add(1))
            })
        };
        if let Some((pad, span)) = window.pads.iter().zip(spans().chain(spans())).find(|(pad, span)| *pad >= span) {
            return Err(TypeError::Attribute(format!("a border of {pad} is no smaller than the window of {span}")));
        }
    }
    Ok(outer.iter().cloned().chain(out).collect())
}

/// Batch and channels, and the spatial axes.
fn split(x: &TensorType) -> Result<(&[Dim], &[Dim]), TypeError> {
    match x.shape.split_at_checked(2) {
        Some((outer, spatial)) if !spatial.is_empty() => Ok((outer, spatial)),
        _ => Err(TypeError::Shapes(format!("x of {} axes, expected at least 3", x.rank()))),
    }
}

/// The shape of a pool over all spatial axes.
fn pooled_whole(x: &TensorType) -> Result<Vec<Dim>, TypeError> {
    let (outer, spatial) = split(x)?;
    if spatial.contains(&Dim::Fixed(0)) {
        return Err(TypeError::Shapes("a spatial axis is empty".into()));
    }
    Ok(outer.iter().cloned().chain(spatial.iter().map(|_| Dim::Fixed(1))).collect())
}

impl MaxPool {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.ty(0)?;
        if !x.dtype.is_float() && !matches!(x.dtype, DType::I8 | DType::U8) {
            return Err(args.expected(0, "floating-point, i8 or u8 elements"));
        }
        let shape = pooled(x, &self.window())?;
        Ok(vec![TensorType { dtype: x.dtype, shape: shape.clone() }, TensorType { dtype: DType::I64, shape }])
    }
}

impl AveragePool {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        Ok(vec![TensorType { dtype: x.dtype, shape: pooled(x, &self.window())? }])
    }
}

impl LpPool {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        if self.p == 0 {
            return Err(TypeError::Attribute("p is 0".into()));
        }
        Ok(vec![TensorType { dtype: x.dtype, shape: pooled(x, &self.window())? }])
    }
}

impl GlobalAveragePool {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        Ok(vec![TensorType { dtype: x.dtype, shape: pooled_whole(x)? }])
    }
}

impl GlobalMaxPool {
    pub(super) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = expect::float(args, 0)?;
        Ok(vec![TensorType { dtype: x.dtype, shape: pooled_whole(x)? }])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{infer_op, shapes};
    use super::*;
    use crate::op::Op;

    #[test]
    fn pools_slide_over_spatial_axes() {
        let max = MaxPool { kernel: vec![3, 2], strides: vec![2, 2], ..MaxPool::default() };
        assert_eq!(shapes(&max.clone().into(), &["u8[n, c, 8, 8]"]), ["u8[n, c, 3, 4]", "i64[n, c, 3, 4]"]);
        assert_eq!(shapes(&MaxPool { ceil: true, ..max }.into(), &["f32[n, 4, 8, w]"])[0], "f32[n, 4, 4, ?]");
        let mean = AveragePool { kernel: vec![3], pads: vec![1, 1], ..AveragePool::default() };
        assert_eq!(shapes(&mean.into(), &["f32[n, 4, w]"]), ["f32[n, 4, w]"]);
        assert_eq!(shapes(&GlobalAveragePool {}.into(), &["f32[n, 4, w, 3]"]), ["f32[n, 4, 1, 1]"]);
    }

    #[test]
    fn absurd_windows_are_errors() {
        let max = |kernel: Vec<usize>, pads: Vec<usize>| Op::from(MaxPool { kernel, pads, ..MaxPool::default() });
        for op in [
            max(vec![], vec![]),
            max(vec![2, 2], vec![]),
            max(vec![9], vec![]),
            max(vec![2], vec![2, 0]),
            max(vec![2], vec![0, 2]),
            max(vec![usize::MAX], vec![1 << 62, 1 << 62]),
            LpPool { kernel: vec![2], p: 0, ..LpPool::default() }.into(),
        ] {
            assert!(infer_op(&op, &["f32[1, 1, 5]"]).is_err(), "{op:?}");
        }
        assert!(infer_op(&max(vec![2], vec![]), &["i32[1, 1, 5]"]).is_err());
        assert!(infer_op(&GlobalMaxPool {}.into(), &["f32[1, 1]"]).is_err());
        assert!(infer_op(&GlobalMaxPool {}.into(), &["f32[1, 1, 0]"]).is_err());
    }
}
