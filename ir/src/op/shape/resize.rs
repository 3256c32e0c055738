//! The rule of `resize`: the extents and scale factors that `scales` or `sizes` ask for.

use super::{AspectPolicy, Resize, ResizeMode};
use crate::error::TypeError;
use crate::op::infer::{Args, SymInt, is_numeric, resolve_axes};
use crate::types::{Dim, MAX_ELEMENTS, TensorType};

/// What a resize asks for along its axes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// Factors.
    Scales(Vec<f32>),
    /// Extents.
    Sizes(Vec<i64>),
}

/// What happens to one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AxisPlan {
    /// Extent of the result.
    pub(crate) len: usize,
    /// Extent of the result over that of the operand, before rounding.
    pub(crate) scale: f64,
}

impl Resize {
    /// The axes `roi`, `scales` and `sizes` speak of.
    ///
    /// # Errors
    /// If one does not exist or is given twice.
    pub(crate) fn resolved(&self, rank: usize) -> Result<Vec<usize>, TypeError> {
        self.axes.as_ref().map_or_else(|| Ok((0..rank).collect()), |axes| resolve_axes(axes, rank))
    }

    /// What happens to the axes listed by [`Resize::resolved`], whose extents are `x`.
    ///
    /// # Errors
    /// If the target does not fit the extents.
    pub(crate) fn plan(&self, x: &[usize], target: &Target) -> Result<Vec<AxisPlan>, TypeError> {
        let fits = |len: f64, n: usize, scale: f64| {
            if scale.is_finite() && scale > 0.0 && len <= MAX_ELEMENTS as f64 {
                Ok(AxisPlan { len: len as usize, scale })
            } else {
                Err(TypeError::Shapes(format!("an axis of extent {n} scaled by {scale}")))
            }
        };
        let count = match target {
            Target::Scales(scales) => scales.len(),
            Target::Sizes(sizes) => sizes.len(),
        };
        if count != x.len() {
            return Err(TypeError::Shapes(format!("{count} scales or sizes for {} axes", x.len())));
        }
        match target {
            // The product is taken in single precision, as onnxruntime does: 0.7 times 10 is 7.
            Target::Scales(scales) => x
                .iter()
                .zip(scales)
                .map(|(&n, &scale)| fits(f64::from((scale * n as f32).floor()), n, scale.into()))
                .collect(),
            Target::Sizes(sizes) => {
                let scale = |(&n, &size): (&usize, &i64)| match size {
                    0.. if n > 0 => Ok(size as f64 / n as f64),
                    _ => Err(TypeError::Shapes(format!("an axis of extent {n} resized to {size}"))),
                };
                let scales = x.iter().zip(sizes).map(scale).collect::<Result<Vec<_>, _>>()?;
                let common = match self.aspect {
                    AspectPolicy::Stretch => {
                        // An empty result has no scale; any will do.
                        let axis = |((&n, &size), scale): ((&usize, &i64), f64)| {
                            fits(size as f64, n, if size == 0 { 1.0 } else { scale })
                        };
                        return x.iter().zip(sizes).zip(scales).map(axis).collect();
                    }
                    AspectPolicy::NotLarger => scales.iter().copied().fold(f64::INFINITY, f64::min),
                    AspectPolicy::NotSmaller => scales.iter().copied().fold(0.0, f64::max),
                };
                x.iter().map(|&n| fits((common * n as f64 + 0.5).floor(), n, common)).collect()
            }
        }
    }

    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = match self.mode {
            ResizeMode::Nearest => args.ty(0)?,
            _ => args.typed(0, is_numeric, "a numeric type of at least 8 bits")?,
        };
        let axes = self.resolved(x.rank())?;
        let mut shape = x.shape.clone();
        // An empty vector is how old models say that an operand is absent.
        let present = |slot: usize| args.get_ty(slot).is_some_and(|ty| ty.shape != [Dim::Fixed(0)]);
        let scales = match present(2) {
            true => {
                let ty = args.float(2)?;
                if ty.rank() != 1 || ty.shape[0].differs(&Dim::Fixed(axes.len())) {
                    return Err(args.expected(2, format!("{} elements", axes.len())));
                }
                args.get(2).and_then(|scales| scales.constant).map(|c| c.decode().data().to_f64())
            }
            false => None,
        };
        let sizes = if present(3) { args.int_vector(3)? } else { None };
        if sizes.as_ref().is_some_and(|sizes| sizes.len() != axes.len()) {
            return Err(args.expected(3, format!("{} elements", axes.len())));
        }
        if present(2) == present(3) {
            return Err(TypeError::Attribute("exactly one of scales and sizes must be given".to_owned()));
        }
        let extents: Vec<Dim> = axes.iter().map(|&axis| x.shape[axis].clone()).collect();
        let known: Option<Vec<usize>> = extents.iter().map(Dim::fixed).collect();
        let ints: Option<Vec<i64>> = sizes.as_ref().and_then(|sizes| sizes.iter().map(SymInt::int).collect());
        let target = match (&scales, ints) {
            (Some(scales), _) => Some(Target::Scales(scales.iter().map(|&s| s as f32).collect())),
            (None, ints) => ints.map(Target::Sizes),
        };
        let news: Vec<Dim> = match (known, &target) {
            (Some(known), Some(target)) => self.plan(&known, target)?.iter().map(|p| Dim::Fixed(p.len)).collect(),
            (_, Some(Target::Scales(scales))) => {
                let axis = |(dim, &scale): (&Dim, &f32)| match dim {
                    Dim::Fixed(n) => Ok(Dim::Fixed(self.plan(&[*n], &Target::Scales(vec![scale]))?[0].len)),
                    dim if scale == 1.0 => Ok(dim.clone()),
                    _ => Ok(Dim::Any),
                };
                extents.iter().zip(scales).map(axis).collect::<Result<_, TypeError>>()?
            }
            _ if self.aspect == AspectPolicy::Stretch && sizes.is_some() => {
                sizes.iter().flatten().map(SymInt::dim).collect()
            }
            _ => vec![Dim::Any; axes.len()],
        };
        for (axis, new) in axes.into_iter().zip(news) {
            shape[axis] = new;
        }
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Arg, arg, constant, ints, types};
    use crate::tensor::Tensor;
    use crate::types::DType::F32;

    fn scales(s: &[f32]) -> Arg {
        constant(Tensor::f32([s.len()], s))
    }

    fn none() -> Arg {
        arg(F32, "0")
    }

    #[test]
    fn by_scales() {
        let run = |x, s: &[f32]| types(Resize::default(), &[arg(F32, x), none(), scales(s)]);
        assert_eq!(run("N 3 8 10", &[1.0, 1.0, 2.0, 0.7]).unwrap(), "f32[N, 3, 16, 7]");
        assert_eq!(run("N M", &[1.0, 2.0]).unwrap(), "f32[N, ?]");
        for wrong in [f32::NAN, f32::INFINITY, -1.0, 0.0, 1e30] {
            assert!(run("3", &[wrong]).is_err(), "{wrong}");
        }
        assert!(run("3 3", &[1.0]).is_err());
        let x = [arg(F32, "2 3"), none(), arg(F32, "2")];
        assert_eq!(types(Resize::default(), &x).unwrap(), "f32[?, ?]");
    }

    #[test]
    fn by_sizes() {
        let run = |aspect, axes, sizes| {
            types(Resize { aspect, axes, ..Resize::default() }, &[arg(F32, "N 3 8 10"), none(), none(), ints(sizes)])
        };
        assert_eq!(run(AspectPolicy::Stretch, None, "N 3 4 ?").unwrap(), "f32[N, 3, 4, ?]");
        assert_eq!(run(AspectPolicy::NotLarger, Some(vec![2, -1]), "4 4").unwrap(), "f32[N, 3, 3, 4]");
        assert_eq!(run(AspectPolicy::NotSmaller, Some(vec![2, -1]), "4 4").unwrap(), "f32[N, 3, 4, 5]");
        assert!(run(AspectPolicy::Stretch, Some(vec![2, -2]), "4 4").is_err());
        assert!(run(AspectPolicy::Stretch, Some(vec![2]), "-4").is_err());
        assert!(run(AspectPolicy::Stretch, Some(vec![2]), "9223372036854775807").is_err());
        assert!(types(Resize::default(), &[arg(F32, "3")]).is_err());
    }
}
