//! Shape arithmetic: what is known of the elements of a small integer result.
//!
//! Knowledge is only ever exact: an element is a number, the extent a symbol stands for, or unknown.
//! It is what turns `Shape → Gather → Concat → Reshape` into a shape without running anything.

use super::make::range_len;
use super::slice::strided;
use crate::op::infer::{Args, MAX_CONTENTS, SymInt};
use crate::op::{Binary, Op, ReduceKind, Unary, Variadic};
use crate::types::{DType, Dim, TensorType};

/// What is known of the elements of the first result of an operator, of type `ty`.
pub(crate) fn contents(op: &Op, args: &Args<'_>, ty: &TensorType) -> Option<Vec<SymInt>> {
    let len = ty.numel()?;
    let known = match op {
        Op::ShapeOf(shape) => {
            let x = &args.get_ty(0)?.shape;
            x[shape.axes(x.len())].iter().map(SymInt::from).collect()
        }
        Op::Size(_) => vec![size(&args.get_ty(0)?.shape)],
        // These keep the order of the elements.
        Op::Unary(Unary::Identity)
        | Op::Reshape(_)
        | Op::Flatten(_)
        | Op::Squeeze(_)
        | Op::Unsqueeze(_)
        | Op::Transpose(_)
        | Op::Cast(_) => elements(args, 0)?,
        Op::Unary(Unary::Neg) => map(&elements(args, 0)?, i64::checked_neg),
        Op::Unary(Unary::Abs) => map(&elements(args, 0)?, i64::checked_abs),
        Op::Unary(Unary::Not) => map(&elements(args, 0)?, |n| Some(i64::from(n == 0))),
        Op::Concat(_) => (0..args.len()).map(|slot| elements(args, slot)).collect::<Option<Vec<_>>>()?.concat(),
        Op::Gather(_) => gather(&elements(args, 0)?, &elements(args, 1)?),
        Op::Slice(_) => slice(args)?,
        Op::Split(split) => elements(args, 0)?.get(..*split.sizes.first()?)?.to_vec(),
        Op::ConstantOfShape(fill) if fill.value.fract() == 0.0 => vec![SymInt::Int(fill.value as i64); len],
        Op::Range(_) => range(args)?,
        Op::Expand(_) | Op::Tile(_) => repeat(&elements(args, 0)?, len)?,
        Op::Binary(binary) => {
            let (a, b) = (elements(args, 0)?, elements(args, 1)?);
            zip(&a, &b, len, |a, b| apply(*binary, a, b))?
        }
        Op::Variadic(kind @ (Variadic::Max | Variadic::Min | Variadic::Sum)) => {
            let first = repeat(&elements(args, 0)?, len)?;
            (1..args.len()).try_fold(first, |known, slot| {
                zip(&known, &elements(args, slot)?, len, |a, b| match kind {
                    Variadic::Max => extreme(a, b, true),
                    Variadic::Min => extreme(a, b, false),
                    _ => apply(Binary::Add, a, b),
                })
            })?
        }
        Op::Mod(m) => zip(&elements(args, 0)?, &elements(args, 1)?, len, |a, b| {
            let (SymInt::Int(a), SymInt::Int(b)) = (a, b) else { return SymInt::Any };
            let rem = a.checked_rem(*b);
            let floored = rem.map(|r| if r != 0 && (r < 0) != (*b < 0) { r + b } else { r });
            if m.fmod { rem } else { floored }.map_or(SymInt::Any, SymInt::Int)
        })?,
        Op::Where(_) => {
            let spread = |slot| repeat(&elements(args, slot)?, len);
            let (condition, a, b) = (spread(0)?, spread(1)?, spread(2)?);
            condition.iter().zip(a.iter().zip(&b)).map(|(c, (a, b))| select(c, a, b)).collect()
        }
        Op::Reduce(reduce) if len == 1 && args.get_ty(0)?.rank() <= 1 => {
            vec![fold(reduce.kind, &elements(args, 0)?)]
        }
        _ => return None,
    };
    Some(known.into_iter().map(|element| within(element, ty.dtype)).collect())
}

/// What is known of the elements of an operand; unknown ones if only their number is known.
fn elements(args: &Args<'_>, slot: usize) -> Option<Vec<SymInt>> {
    let operand = args.get(slot)?;
    if let Some(known) = operand.sym_ints() {
        return Some(known);
    }
    let ty = operand.ty.as_tensor()?;
    let small = |&n: &usize| n <= MAX_CONTENTS && ty.rank() <= 1;
    ty.numel().filter(small).map(|n| vec![SymInt::Any; n])
}

/// The element as the type can hold it; a number it can't hold would wrap, which nobody relies on.
fn within(element: SymInt, dtype: DType) -> SymInt {
    let fits = |n: i64| match dtype {
        DType::I64 => true,
        DType::U64 => n >= 0,
        DType::Bool => n == 0 || n == 1,
        dtype if dtype.is_signed() => n >> (dtype.bits() - 1) == 0 || n >> (dtype.bits() - 1) == -1,
        dtype => n >> dtype.bits() == 0,
    };
    match element {
        SymInt::Int(n) if !fits(n) => SymInt::Any,
        SymInt::Sym(_) if dtype == DType::Bool || dtype.bits() < 32 => SymInt::Any,
        element => element,
    }
}

/// The number of elements.
fn size(shape: &[Dim]) -> SymInt {
    crate::op::infer::product(shape).map_or(SymInt::Any, |dim| SymInt::from(&dim))
}

fn map(elements: &[SymInt], f: impl Fn(i64) -> Option<i64>) -> Vec<SymInt> {
    elements.iter().map(|e| e.int().and_then(&f).map_or(SymInt::Any, SymInt::Int)).collect()
}

fn gather(elements: &[SymInt], indices: &[SymInt]) -> Vec<SymInt> {
    let at = |index: &SymInt| {
        let index = index.int()?;
        let len = i64::try_from(elements.len()).ok()?;
        let index = if index < 0 { index.checked_add(len)? } else { index };
        elements.get(usize::try_from(index).ok()?).cloned()
    };
    indices.iter().map(|index| at(index).unwrap_or(SymInt::Any)).collect()
}

fn slice(args: &Args<'_>) -> Option<Vec<SymInt>> {
    let x = elements(args, 0)?;
    let one = |slot: usize| match elements(args, slot)?.as_slice() {
        [SymInt::Int(n)] => Some(*n),
        _ => None,
    };
    let step = if args.get(4).is_some() { one(4)? } else { 1 };
    let range = strided(x.len(), one(1)?, one(2)?, step);
    let offset = |i: usize| i64::try_from(i).ok()?.checked_mul(range.step);
    (0..range.count).map(|i| x.get(range.start.checked_add_signed(offset(i)?.try_into().ok()?)?).cloned()).collect()
}

fn range(args: &Args<'_>) -> Option<Vec<SymInt>> {
    let one = |slot: usize| elements(args, slot)?.first()?.int();
    let (start, limit, delta) = (one(0)?, one(1)?, one(2)?);
    let len = range_len(start, limit, delta).ok().filter(|&n| n <= MAX_CONTENTS)?;
    let at = |i: usize| start.checked_add(delta.checked_mul(i64::try_from(i).ok()?)?).map(SymInt::Int);
    (0..len).map(at).collect()
}

/// The elements repeated until there are `len`: the same as broadcasting where there is one element or
/// none to add.
fn repeat(elements: &[SymInt], len: usize) -> Option<Vec<SymInt>> {
    let whole = !elements.is_empty() && len.is_multiple_of(elements.len());
    (whole || len == 0).then(|| elements.iter().cycle().take(len).cloned().collect())
}

fn zip(a: &[SymInt], b: &[SymInt], len: usize, f: impl Fn(&SymInt, &SymInt) -> SymInt) -> Option<Vec<SymInt>> {
    Some(repeat(a, len)?.iter().zip(&repeat(b, len)?).map(|(a, b)| f(a, b)).collect())
}

fn select(condition: &SymInt, a: &SymInt, b: &SymInt) -> SymInt {
    match condition {
        SymInt::Int(0) => b.clone(),
        SymInt::Int(_) => a.clone(),
        _ if a == b => a.clone(),
        _ => SymInt::Any,
    }
}

/// The larger or smaller one. Symbols stand for extents, which are not negative.
fn extreme(a: &SymInt, b: &SymInt, largest: bool) -> SymInt {
    match (a, b) {
        (SymInt::Int(a), SymInt::Int(b)) => SymInt::Int(if largest { *a.max(b) } else { *a.min(b) }),
        (SymInt::Sym(_), SymInt::Sym(_)) if a == b => a.clone(),
        (s @ SymInt::Sym(_), n @ SymInt::Int(..=0)) | (n @ SymInt::Int(..=0), s @ SymInt::Sym(_)) => {
            if largest {
                s.clone()
            } else {
                n.clone()
            }
        }
        _ => SymInt::Any,
    }
}

fn apply(op: Binary, a: &SymInt, b: &SymInt) -> SymInt {
    use SymInt::{Any, Int, Sym};
    let int = |n: Option<i64>| n.map_or(Any, Int);
    let truth = |t: bool| Int(t.into());
    match (op, a, b) {
        (Binary::Add, Int(a), Int(b)) => int(a.checked_add(*b)),
        (Binary::Add, x, Int(0)) | (Binary::Add, Int(0), x) | (Binary::Sub, x, Int(0)) => x.clone(),
        (Binary::Sub, Int(a), Int(b)) => int(a.checked_sub(*b)),
        (Binary::Sub, Sym(a), Sym(b)) if a == b => Int(0),
        (Binary::Mul, Int(a), Int(b)) => int(a.checked_mul(*b)),
        (Binary::Mul, _, Int(0)) | (Binary::Mul, Int(0), _) => Int(0),
        (Binary::Mul, x, Int(1)) | (Binary::Mul, Int(1), x) | (Binary::Div, x, Int(1)) => x.clone(),
        (Binary::Div, Int(a), Int(b)) => int(a.checked_div(*b)),
        (Binary::Pow, Int(a), Int(b)) => int(u32::try_from(*b).ok().and_then(|b| a.checked_pow(b))),
        (Binary::Equal, Int(a), Int(b)) => truth(a == b),
        (Binary::Equal, Sym(a), Sym(b)) if a == b => truth(true),
        (Binary::Equal, Sym(_), Int(n)) | (Binary::Equal, Int(n), Sym(_)) if *n < 0 => truth(false),
        (Binary::Less, Int(a), Int(b)) => truth(a < b),
        (Binary::LessOrEqual, Int(a), Int(b)) => truth(a <= b),
        (Binary::Greater, Int(a), Int(b)) => truth(a > b),
        (Binary::GreaterOrEqual, Int(a), Int(b)) => truth(a >= b),
        (Binary::And, Int(a), Int(b)) => truth(*a != 0 && *b != 0),
        (Binary::Or, Int(a), Int(b)) => truth(*a != 0 || *b != 0),
        _ => Any,
    }
}

/// A reduction of a vector to one element.
fn fold(kind: ReduceKind, elements: &[SymInt]) -> SymInt {
    if !matches!(kind, ReduceKind::Sum | ReduceKind::Prod | ReduceKind::Max | ReduceKind::Min) {
        return SymInt::Any;
    }
    let mut rest = elements.iter();
    let Some(first) = rest.next().cloned() else { return SymInt::Any };
    rest.fold(first, |a, b| match kind {
        ReduceKind::Sum => apply(Binary::Add, &a, b),
        ReduceKind::Prod => apply(Binary::Mul, &a, b),
        ReduceKind::Max => extreme(&a, b, true),
        _ => extreme(&a, b, false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{arg, constant, contents, int, ints};
    use crate::op::{
        Cast, Concat, ConstantOfShape, Gather, Reduce, ReduceAttrs, ShapeOf, Size, Slice, Unsqueeze, Where,
    };
    use crate::tensor::Tensor;

    #[test]
    fn shapes_tell_their_extents() {
        let x = || arg(DType::F32, "N 3 ?");
        assert_eq!(contents(ShapeOf::default(), &[x()]), "N 3 ?");
        assert_eq!(contents(ShapeOf { start: -2, end: Some(2) }, &[x()]), "3");
        assert_eq!(contents(Size {}, &[arg(DType::F32, "N 1")]), "N");
        assert_eq!(contents(Size {}, &[arg(DType::F32, "2 3")]), "6");
        assert_eq!(contents(Size {}, &[x()]), "?");
    }

    #[test]
    fn elements_move() {
        let constant_ints = |v: &[i64]| constant(Tensor::i64([v.len()], v));
        assert_eq!(contents(Gather::default(), &[ints("N 3 M"), int("-1")]), "M");
        assert_eq!(contents(Gather::default(), &[ints("N 3 M"), constant_ints(&[1, 0])]), "3 N");
        assert_eq!(contents(Gather::default(), &[ints("N"), int("-9223372036854775808")]), "?");
        assert_eq!(contents(Concat::default(), &[ints("N"), arg(DType::I64, "1"), constant_ints(&[12])]), "N ? 12");
        assert_eq!(
            contents(Slice {}, &[ints("A B C D"), ints("-1"), ints("-9223372036854775807"), ints("0"), ints("-2")]),
            "D B"
        );
        assert_eq!(contents(Unsqueeze { axes: vec![0] }, &[int("N")]), "N");
        assert_eq!(contents(Cast { to: DType::I32 }, &[ints("N 7")]), "N 7");
        assert_eq!(contents(Cast { to: DType::I8 }, &[ints("300 7 N")]), "? 7 ?");
        assert_eq!(contents(ConstantOfShape { dtype: DType::I64, value: 1.0 }, &[ints("3")]), "1 1 1");
        assert_eq!(contents(crate::op::Range {}, &[int("1"), int("8"), int("3")]), "1 4 7");
        assert_eq!(contents(crate::op::Expand {}, &[int("N"), ints("2")]), "N N");
    }

    #[test]
    fn arithmetic() {
        let run = |op, a, b| contents(Op::Binary(op), &[ints(a), ints(b)]);
        assert_eq!(run(Binary::Add, "N 2 N", "0 3 1"), "N 5 ?");
        assert_eq!(run(Binary::Sub, "N 2 9223372036854775807", "N 3 -1"), "0 -1 ?");
        assert_eq!(run(Binary::Mul, "N N ?", "1 2 0"), "N ? 0");
        assert_eq!(run(Binary::Div, "N -7 1", "1 2 0"), "N -3 ?");
        assert_eq!(run(Binary::Equal, "N N 3 4", "-1 3 3 N"), "0 ? 1 ?");
        let max = |a, b| contents(Op::Variadic(Variadic::Max), &[ints(a), ints(b)]);
        assert_eq!(max("N 2 N", "-1 7 3"), "N 7 ?");
        let sum = |kind| contents(Op::Reduce(Reduce { kind, attrs: ReduceAttrs::default() }), &[ints("2 3 4")]);
        assert_eq!(sum(ReduceKind::Prod), "24");
        assert_eq!(sum(ReduceKind::SumSquare), "?");
    }

    #[test]
    fn the_expand_of_exporters() {
        // Where(shape == -1, ones, shape), as exporters write it before an expand.
        let shape = || ints("N -1 4");
        let equal = contents(Op::Binary(Binary::Equal), &[shape(), int("-1")]);
        assert_eq!(equal, "0 1 0");
        let condition = constant(Tensor::new([3], crate::tensor::Data::Bool(vec![false, true, false])));
        assert_eq!(contents(Where {}, &[condition, ints("1 1 1"), shape()]), "N 1 4");
    }
}
