//! Rules of the operators that pick, place or border elements.

use super::Gather;
use super::{GatherElements, GatherNd, NonZero, OneHot, Pad, ScatterElements, ScatterNd, ScatterReduction, Trilu};
use crate::error::TypeError;
use crate::op::infer::{Args, SymInt, is_numeric, product, resolve_axes, resolve_axis};
use crate::types::{DType, Dim, MAX_ELEMENTS, TensorType, Type};

impl Pad {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.ty(0)?;
        if args.get(2).is_some() {
            args.same_dtype(2, 0)?;
            args.scalar(2)?;
        }
        let axes = match args.get(3) {
            None => Some((0..x.rank()).collect()),
            Some(_) => {
                let axes = args.int_vector(3)?;
                let axes: Option<Vec<i64>> = axes.and_then(|axes| axes.iter().map(SymInt::int).collect());
                axes.map(|axes| resolve_axes(&axes, x.rank())).transpose()?
            }
        };
        let (Some(axes), Some(pads)) = (axes, args.int_vector(1)?) else {
            return Ok(vec![TensorType { dtype: x.dtype, shape: vec![Dim::Any; x.rank()] }]);
        };
        if pads.len() != 2 * axes.len() {
            return Err(args.expected(1, format!("{} elements", 2 * axes.len())));
        }
        let mut shape = x.shape.clone();
        for (i, &axis) in axes.iter().enumerate() {
            shape[axis] = match (&x.shape[axis], &pads[i], &pads[axes.len() + i]) {
                (dim, SymInt::Int(0), SymInt::Int(0)) => dim.clone(),
                (Dim::Fixed(n), SymInt::Int(begin), SymInt::Int(end)) => Dim::Fixed(padded(*n, *begin, *end)?),
                _ => Dim::Any,
            };
        }
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
}

/// The extent with `begin` and `end` elements added.
fn padded(n: usize, begin: i64, end: i64) -> Result<usize, TypeError> {
    let sum = n as i128 + i128::from(begin) + i128::from(end);
    // Elements can be taken off an end only as far as there are some.
    let cut = (-i128::from(begin)).max(0) + (-i128::from(end)).max(0);
    let fits = usize::try_from(sum).ok().filter(|&n| n <= MAX_ELEMENTS);
    fits.filter(|_| cut <= n as i128)
        .ok_or_else(|| TypeError::Shapes(format!("pads of {begin} and {end} on an axis of extent {n}")))
}

impl Gather {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let (x, indices) = (args.ty(0)?, args.int(1)?);
        let axis = resolve_axis(self.axis, x.rank())?;
        let (outer, inner) = (&x.shape[..axis], &x.shape[axis + 1..]);
        Ok(vec![TensorType { dtype: x.dtype, shape: [outer, &indices.shape, inner].concat() }])
    }
}

/// Checks that indices along an axis lie beside elements of `x` on the other axes.
fn along_axis(args: &Args<'_>, axis: i64) -> Result<(), TypeError> {
    let (x, indices) = (args.ty(0)?, args.int(1)?);
    if indices.rank() != x.rank() {
        return Err(args.expected(1, format!("{} axes", x.rank())));
    }
    let axis = resolve_axis(axis, x.rank())?;
    let beyond = |i: usize| matches!((&x.shape[i], &indices.shape[i]), (Dim::Fixed(n), Dim::Fixed(m)) if m > n);
    match (0..x.rank()).find(|&i| i != axis && beyond(i)) {
        Some(i) => Err(args.expected(1, format!("no more than {} elements along axis {i}", x.shape[i]))),
        None => Ok(()),
    }
}

impl GatherElements {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        along_axis(args, self.axis)?;
        Ok(vec![TensorType { dtype: args.ty(0)?.dtype, shape: args.ty(1)?.shape.clone() }])
    }
}

/// Takes the length of index tuples off the shape of indices: the axes before, and the length if known.
fn tuples<'a>(args: &Args<'a>, batch: usize) -> Result<(&'a [Dim], Option<usize>), TypeError> {
    let (x, indices) = (args.ty(0)?, args.int(1)?);
    let Some((len, outer)) = indices.shape.split_last() else {
        return Err(args.expected(1, "at least one axis"));
    };
    if outer.len() < batch || x.rank() < batch {
        return Err(TypeError::Attribute(format!("{batch} batch axes of operands that have fewer")));
    }
    if let Some((a, b)) = x.shape.iter().zip(outer).take(batch).find(|(a, b)| a.differs(b)) {
        return Err(TypeError::Shapes(format!("batch extents {a} and {b} differ")));
    }
    let len = len.fixed();
    if len.is_some_and(|len| len > x.rank() - batch) {
        return Err(args.expected(1, format!("tuples of at most {} indices", x.rank() - batch)));
    }
    Ok((outer, len))
}

impl GatherNd {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<Type>, TypeError> {
        let x = args.ty(0)?;
        let (outer, len) = tuples(args, self.batch_dims)?;
        let Some(len) = len else { return Ok(vec![Type::Unknown]) };
        let slice = &x.shape[self.batch_dims + len..];
        Ok(vec![TensorType { dtype: x.dtype, shape: [outer, slice].concat() }.into()])
    }
}

/// Checks that updates have the type of `x`, and one their reduction can combine.
fn updates<'a>(args: &Args<'a>, reduction: ScatterReduction) -> Result<&'a TensorType, TypeError> {
    let updates = args.same_dtype(2, 0)?;
    if reduction != ScatterReduction::None && !is_numeric(updates.dtype) {
        return Err(args.expected(2, "a numeric type of at least 8 bits"));
    }
    Ok(updates)
}

fn check_updates(args: &Args<'_>, got: &[Dim], expected: &[Dim]) -> Result<(), TypeError> {
    let differs = got.len() != expected.len() || got.iter().zip(expected).any(|(a, b)| a.differs(b));
    if differs { Err(args.expected(2, "one update an index")) } else { Ok(()) }
}

impl ScatterElements {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        along_axis(args, self.axis)?;
        check_updates(args, &updates(args, self.reduction)?.shape, &args.ty(1)?.shape)?;
        Ok(vec![args.ty(0)?.clone()])
    }
}

impl ScatterNd {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.ty(0)?;
        let (outer, len) = tuples(args, 0)?;
        let updates = updates(args, self.reduction)?;
        if let Some(len) = len {
            check_updates(args, &updates.shape, &[outer, &x.shape[len..]].concat())?;
        }
        Ok(vec![x.clone()])
    }
}

impl OneHot {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let indices = args.numeric(0)?;
        args.numeric(1)?;
        args.scalar(1)?;
        let known = args.get(1).and_then(|depth| {
            let ints = depth.sym_ints().and_then(|known| known.into_iter().next());
            let number = || depth.constant?.decode().data().to_f64().first().map(|&x| SymInt::Int(x as i64));
            ints.or_else(number)
        });
        let depth = match known {
            Some(SymInt::Int(n)) if n < 1 => return Err(TypeError::Shapes(format!("a depth of {n}"))),
            known => known.map_or(Dim::Any, |n| n.dim()),
        };
        let values = args.ty(2)?;
        if values.rank() != 1 || values.shape[0].differs(&Dim::Fixed(2)) {
            return Err(args.expected(2, "two elements"));
        }
        let axis = resolve_axis(self.axis, indices.rank() + 1)?;
        let mut shape = indices.shape.clone();
        shape.insert(axis, depth);
        Ok(vec![TensorType { dtype: values.dtype, shape }])
    }
}

impl NonZero {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.ty(0)?;
        // A scalar counts as a vector of one element.
        let rank = x.rank().max(1);
        let none = product(&x.shape)? == Dim::Fixed(0);
        Ok(vec![TensorType::new(DType::I64, [Dim::Fixed(rank), if none { Dim::Fixed(0) } else { Dim::Any }])])
    }
}

impl Trilu {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<TensorType>, TypeError> {
        let x = args.ty(0)?;
        if x.rank() < 2 {
            return Err(args.expected(0, "at least two axes"));
        }
        if args.get(1).is_some() {
            args.int_scalar(1)?;
        }
        Ok(vec![x.clone()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{arg, int, ints, types};
    use crate::types::DType::{Bool, F32, I64};

    #[test]
    fn pads() {
        let run = |pads| types(Pad::default(), &[arg(F32, "N 3 ?"), ints(pads)]);
        assert_eq!(run("0 1 0 0 2 0").unwrap(), "f32[N, 6, ?]");
        assert_eq!(run("1 -1 0 0 -2 0").unwrap(), "f32[?, 0, ?]");
        assert_eq!(run("0 ? 0 0 2 0").unwrap(), "f32[N, ?, ?]");
        assert!(run("0 -2 0 0 -2 0").is_err());
        assert!(run("0 -4 0 0 9 0").is_err());
        assert!(run("0 9223372036854775807 0 0 9223372036854775807 0").is_err());
        assert!(run("0 -9223372036854775808 0 0 1 0").is_err());
        assert!(run("0 0").is_err());
    }

    #[test]
    fn gathers() {
        let run = |axis, indices| types(Gather { axis }, &[arg(F32, "N 5 M"), arg(I64, indices)]);
        assert_eq!(run(1, "").unwrap(), "f32[N, M]");
        assert_eq!(run(-3, "B S").unwrap(), "f32[B, S, 5, M]");
        assert!(run(3, "").is_err());
        assert!(types(Gather::default(), &[arg(F32, "3"), arg(F32, "2")]).is_err());
        let run = |axis, indices| types(GatherElements { axis }, &[arg(F32, "2 5"), arg(I64, indices)]);
        assert_eq!(run(1, "2 9").unwrap(), "f32[2, 9]");
        assert!(run(1, "3 9").is_err());
        assert!(run(1, "2").is_err());
        let run = |batch_dims, indices| types(GatherNd { batch_dims }, &[arg(F32, "2 3 4"), arg(I64, indices)]);
        assert_eq!(run(0, "7 2").unwrap(), "f32[7, 4]");
        assert_eq!(run(1, "2 7 1").unwrap(), "f32[2, 7, 4]");
        assert_eq!(run(0, "7 ?").unwrap(), "?");
        assert!(run(1, "3 7 1").is_err());
        assert!(run(0, "7 4").is_err());
        assert!(run(usize::MAX, "7 2").is_err());
    }

    #[test]
    fn ranks_stay_bounded() {
        let many = vec!["1"; 200].join(" ");
        assert!(types(Gather::default(), &[arg(F32, &many), arg(I64, &many)]).is_err());
    }

    #[test]
    fn scatters() {
        let run = |indices, updates, dtype| {
            types(ScatterElements::default(), &[arg(F32, "3 5"), arg(I64, indices), arg(dtype, updates)])
        };
        assert_eq!(run("9 2", "9 2", F32).unwrap(), "f32[3, 5]");
        assert!(run("9 6", "9 6", F32).is_err());
        assert!(run("9 2", "9 3", F32).is_err());
        assert!(run("9 2", "9 2", I64).is_err());
        let run =
            |indices, updates| types(ScatterNd::default(), &[arg(F32, "N 3 4"), arg(I64, indices), arg(F32, updates)]);
        assert_eq!(run("7 2", "7 4").unwrap(), "f32[N, 3, 4]");
        assert!(run("7 2", "7 3").is_err());
        assert!(run("7 4", "7").is_err());
        let masks = [arg(Bool, "3"), arg(I64, "1"), arg(Bool, "1")];
        assert!(types(ScatterElements { axis: 0, reduction: ScatterReduction::Add }, &masks).is_err());
    }

    #[test]
    fn one_hot_and_the_rest() {
        let run = |axis, depth| types(OneHot { axis }, &[arg(I64, "N 3"), int(depth), arg(F32, "2")]);
        assert_eq!(run(-1, "10").unwrap(), "f32[N, 3, 10]");
        assert_eq!(run(0, "?").unwrap(), "f32[?, N, 3]");
        assert!(run(-4, "10").is_err());
        assert!(run(-1, "0").is_err());
        assert_eq!(types(NonZero {}, &[arg(F32, "N 3")]).unwrap(), "i64[2, ?]");
        assert_eq!(types(NonZero {}, &[arg(F32, "N 0")]).unwrap(), "i64[2, 0]");
        assert_eq!(types(Trilu::default(), &[arg(F32, "N 3")]).unwrap(), "f32[N, 3]");
        assert!(types(Trilu::default(), &[arg(F32, "3")]).is_err());
    }
}
