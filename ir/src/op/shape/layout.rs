//! Rules of the operators that arrange all elements anew: views, joins, cuts, repetitions.

use super::{Concat, DepthToSpace, Expand, Flatten, SpaceToDepth, Split, Squeeze, Tile, Transpose, Unsqueeze};
use crate::error::TypeError;
use crate::graph::MAX_SLOTS;
use crate::op::infer::{Args, MAX_RANK, SymInt, broadcast, product, resolve_axes, resolve_axis};
use crate::types::{Dim, TensorType, Type};

fn typed(x: &TensorType, shape: Vec<Dim>) -> Vec<TensorType> {
    vec![TensorType { dtype: x.dtype, shape }]
}

impl Flatten {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.ty(0)?;
        let rank = x.rank();
        let axis = if usize::try_from(self.axis) == Ok(rank) { rank } else { resolve_axis(self.axis, rank)? };
        let (outer, inner) = x.shape.split_at(axis);
        Ok(typed(x, vec![product(outer)?, product(inner)?]))
    }
}

impl Squeeze {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<Type>, TypeError> {
        let x = args.ty(0)?;
        let one = Dim::Fixed(1);
        let Some(axes) = &self.axes else {
            // An axis of unknown extent may or may not be there afterwards.
            if x.shape.iter().any(|d| d.fixed().is_none()) {
                return Ok(vec![Type::Unknown]);
            }
            let kept = x.shape.iter().filter(|d| **d != one).cloned();
            return Ok(vec![Type::tensor(x.dtype, kept)]);
        };
        let axes = resolve_axes(axes, x.rank())?;
        if let Some(axis) = axes.iter().find(|&&axis| x.shape[axis].differs(&one)) {
            return Err(TypeError::Shapes(format!("axis {axis} of {x} has not extent 1")));
        }
        let kept = x.shape.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d.clone());
        Ok(vec![Type::tensor(x.dtype, kept)])
    }
}

impl Unsqueeze {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.ty(0)?;
        let rank = x.rank().saturating_add(self.axes.len());
        if rank > MAX_RANK {
            return Err(TypeError::Attribute(format!("{} axes are too many", self.axes.len())));
        }
        let axes = resolve_axes(&self.axes, rank)?;
        let mut kept = x.shape.iter().cloned();
        let axis = |i| if axes.contains(&i) { Some(Dim::Fixed(1)) } else { kept.next() };
        Ok(typed(x, (0..rank).filter_map(axis).collect()))
    }
}

impl Transpose {
    /// The permutation for `rank` axes, written out.
    ///
    /// # Errors
    /// If it is none.
    pub fn resolved(&self, rank: usize) -> Result<Vec<usize>, TypeError> {
        if self.perm.is_empty() {
            return Ok((0..rank).rev().collect());
        }
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..rank) {
            return Err(TypeError::Attribute(format!("perm is not a permutation of {rank} axes")));
        }
        Ok(self.perm.clone())
    }

    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.ty(0)?;
        let perm = self.resolved(x.rank())?;
        Ok(typed(x, perm.into_iter().map(|i| x.shape[i].clone()).collect()))
    }
}

impl Concat {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let first = args.ty(0)?;
        let axis = resolve_axis(self.axis, first.rank())?;
        let mut shape = first.shape.clone();
        for slot in 1..args.len() {
            let x = args.same_dtype(slot, 0)?;
            if x.rank() != shape.len() {
                return Err(args.expected(slot, format!("{} axes", shape.len())));
            }
            for (i, (dim, extent)) in shape.iter_mut().zip(&x.shape).enumerate() {
                if i != axis {
                    if dim.differs(extent) {
                        return Err(args.expected(slot, format!("extent {dim} of axis {i}")));
                    }
                    *dim = dim.meet(extent);
                    continue;
                }
                *dim = match (&*dim, extent) {
                    (Dim::Fixed(0), other) | (other, Dim::Fixed(0)) => other.clone(),
                    (Dim::Fixed(a), Dim::Fixed(b)) => {
                        Dim::Fixed(a.checked_add(*b).ok_or_else(|| TypeError::TooLarge(first.to_string()))?)
                    }
                    _ => Dim::Any,
                };
            }
        }
        Ok(typed(first, shape))
    }
}

impl Split {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.ty(0)?;
        let axis = resolve_axis(self.axis, x.rank())?;
        if self.sizes.is_empty() || self.sizes.len() > MAX_SLOTS {
            return Err(TypeError::Attribute(format!("a split into {} pieces", self.sizes.len())));
        }
        let total = self.sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s));
        let total = total.ok_or_else(|| TypeError::Attribute("the sizes are too large".to_owned()))?;
        if x.shape[axis].differs(&Dim::Fixed(total)) {
            return Err(TypeError::Attribute(format!("sizes of {total} elements for axis {axis} of {x}")));
        }
        let piece = |&size: &usize| {
            let mut shape = x.shape.clone();
            shape[axis] = Dim::Fixed(size);
            TensorType { dtype: x.dtype, shape }
        };
        Ok(self.sizes.iter().map(piece).collect())
    }
}

impl Expand {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<Type>, TypeError> {
        let x = args.ty(0)?;
        let Some(shape) = args.int_vector(1)? else { return Ok(vec![Type::Unknown]) };
        if shape.iter().any(|n| n.int().is_some_and(|n| n < 0)) {
            return Err(TypeError::Shapes("an extent is negative".to_owned()));
        }
        let dims: Vec<Dim> = shape.iter().map(SymInt::dim).collect();
        Ok(vec![Type::tensor(x.dtype, broadcast(&x.shape, &dims)?)])
    }
}

impl Tile {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.ty(0)?;
        let Some(repeats) = args.int_vector(1)? else { return Ok(typed(x, vec![Dim::Any; x.rank()])) };
        if repeats.len() != x.rank() {
            return Err(args.expected(1, format!("{} elements", x.rank())));
        }
        let axis = |(dim, times): (&Dim, &SymInt)| match times {
            SymInt::Int(n) if *n < 0 => Err(TypeError::Shapes("a repetition count is negative".to_owned())),
            times => product(&[dim.clone(), times.dim()]),
        };
        Ok(typed(x, x.shape.iter().zip(&repeats).map(axis).collect::<Result<_, _>>()?))
    }
}

/// `[N, C, H, W]` and the square of the block.
fn image<'a>(args: &Args<'a>, block: usize) -> Result<(&'a TensorType, usize), TypeError> {
    let x = args.ty(0)?;
    if x.rank() != 4 {
        return Err(args.expected(0, "4 axes"));
    }
    let square = block.checked_mul(block).filter(|&n| n > 0);
    Ok((x, square.ok_or_else(|| TypeError::Attribute(format!("a block of {block}")))?))
}

/// The extent divided by a number.
fn divided(dim: &Dim, by: usize) -> Result<Dim, TypeError> {
    match dim {
        Dim::Fixed(n) if n % by != 0 => Err(TypeError::Shapes(format!("{n} is no multiple of {by}"))),
        Dim::Fixed(n) => Ok(Dim::Fixed(n / by)),
        dim if by == 1 => Ok(dim.clone()),
        _ => Ok(Dim::Any),
    }
}

impl DepthToSpace {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let (x, square) = image(args, self.block)?;
        let times = |i: usize| product(&[x.shape[i].clone(), Dim::Fixed(self.block)]);
        Ok(typed(x, vec![x.shape[0].clone(), divided(&x.shape[1], square)?, times(2)?, times(3)?]))
    }
}

impl SpaceToDepth {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let (x, square) = image(args, self.block)?;
        let depth = product(&[x.shape[1].clone(), Dim::Fixed(square)])?;
        let over = |i: usize| divided(&x.shape[i], self.block);
        Ok(typed(x, vec![x.shape[0].clone(), depth, over(2)?, over(3)?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{arg, ints, types};
    use crate::types::DType::{F32, I64};

    #[test]
    fn flatten() {
        let run = |x, axis| types(Flatten { axis }, &[arg(F32, x)]);
        assert_eq!(run("N 3 4", 1).unwrap(), "f32[N, 12]");
        assert_eq!(run("N 3 4", 0).unwrap(), "f32[1, ?]");
        assert_eq!(run("N 1 1", -3).unwrap(), "f32[1, N]");
        assert_eq!(run("2 3 4", 3).unwrap(), "f32[24, 1]");
        assert!(run("2 3", 3).is_err());
        assert!(run("2 3", 1 << 62).is_err());
    }

    #[test]
    fn squeeze_and_unsqueeze() {
        let run = |x, axes| types(Squeeze { axes }, &[arg(F32, x)]);
        assert_eq!(run("1 3 1", None).unwrap(), "f32[3]");
        assert_eq!(run("N 1", None).unwrap(), "?");
        assert_eq!(run("N 3 1", Some(vec![-1])).unwrap(), "f32[N, 3]");
        assert!(run("N 3 1", Some(vec![1])).is_err());
        let run = |x, axes| types(Unsqueeze { axes }, &[arg(F32, x)]);
        assert_eq!(run("N 3", vec![0, -1]).unwrap(), "f32[1, N, 3, 1]");
        assert!(run("N 3", vec![0, 0]).is_err());
        assert!(run("N 3", (0..300).collect()).is_err());
        assert!(run("N 3", vec![i64::MIN]).is_err());
    }

    #[test]
    fn transpose() {
        let run = |perm| types(Transpose { perm }, &[arg(F32, "N 3 ?")]);
        assert_eq!(run(vec![]).unwrap(), "f32[?, 3, N]");
        assert_eq!(run(vec![0, 2, 1]).unwrap(), "f32[N, ?, 3]");
        assert!(run(vec![0, 1]).is_err());
        assert!(run(vec![0, 1, 1]).is_err());
        assert!(run(vec![0, 1, usize::MAX]).is_err());
    }

    #[test]
    fn concat_and_split() {
        let run = |axis, xs: &[&str]| types(Concat { axis }, &xs.iter().map(|x| arg(F32, x)).collect::<Vec<_>>());
        assert_eq!(run(1, &["N 2", "N 3"]).unwrap(), "f32[N, 5]");
        assert_eq!(run(0, &["N 2", "N 2"]).unwrap(), "f32[?, 2]");
        assert_eq!(run(-1, &["? 2", "5 ?", "5 1"]).unwrap(), "f32[5, ?]");
        assert_eq!(run(0, &["N 2", "0 2"]).unwrap(), "f32[N, 2]");
        assert!(run(1, &["3 2", "4 2"]).is_err());
        assert!(run(1, &["3 2", "3"]).is_err());
        let run = |axis, sizes| types(Split { axis, sizes }, &[arg(F32, "N 5")]);
        assert_eq!(run(1, vec![2, 0, 3]).unwrap(), "f32[N, 2] f32[N, 0] f32[N, 3]");
        assert_eq!(run(0, vec![4]).unwrap(), "f32[4, 5]");
        assert!(run(1, vec![2, 2]).is_err());
        assert!(run(1, vec![]).is_err());
        assert!(run(1, vec![usize::MAX, 6]).is_err());
    }

    #[test]
    fn expand_and_tile() {
        let run = |x, shape| types(Expand {}, &[arg(F32, x), shape]);
        assert_eq!(run("N 1", ints("2 1 4")).unwrap(), "f32[2, N, 4]");
        assert_eq!(run("1 3", ints("N 3")).unwrap(), "f32[N, 3]");
        assert_eq!(run("1 3", arg(I64, "2")).unwrap(), "f32[?, 3]");
        assert_eq!(run("1 3", arg(I64, "?")).unwrap(), "?");
        assert!(run("2", ints("3")).is_err());
        assert!(run("1", ints("-1")).is_err());
        assert!(run("1", ints("9223372036854775807 2")).is_err());
        let run = |x, repeats| types(Tile {}, &[arg(F32, x), repeats]);
        assert_eq!(run("N 3 1", ints("1 2 M")).unwrap(), "f32[N, 6, M]");
        assert_eq!(run("N 3", ints("2 ?")).unwrap(), "f32[?, ?]");
        assert!(run("N 3", ints("9223372036854775807 9223372036854775807")).is_err());
        assert!(run("N 3", ints("2")).is_err());
        assert!(run("N 3", ints("2 -1")).is_err());
    }

    #[test]
    fn blocks() {
        let depth = |x, block| types(DepthToSpace { block, ..DepthToSpace::default() }, &[arg(F32, x)]);
        assert_eq!(depth("N 8 2 W", 2).unwrap(), "f32[N, 2, 4, ?]");
        assert!(depth("N 6 2 3", 2).is_err());
        assert!(depth("N 6 2 3", 0).is_err());
        assert!(depth("N 6 2 3", usize::MAX).is_err());
        let space = |x, block| types(SpaceToDepth { block }, &[arg(F32, x)]);
        assert_eq!(space("N 2 4 6", 2).unwrap(), "f32[N, 8, 2, 3]");
        assert!(space("N 2 4 5", 2).is_err());
    }
}
