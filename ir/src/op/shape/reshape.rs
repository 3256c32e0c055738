//! The rule of `reshape`: symbols written in the shape pass through, `-1` is worked out where the
//! number of elements tells it.

use super::Reshape;
use crate::error::TypeError;
use crate::op::infer::{Args, SymInt};
use crate::types::{Dim, MAX_ELEMENTS, Shape, Symbol, TensorType, Type};

/// A product of extents: a number, symbols, and whether factors without a name take part.
#[derive(Default)]
struct Factors {
    fixed: u128,
    symbols: Vec<Symbol>,
    open: bool,
}

impl Factors {
    fn of<'a>(dims: impl Iterator<Item = &'a Dim>) -> Factors {
        let mut factors = Factors { fixed: 1, ..Factors::default() };
        for dim in dims {
            match dim {
                // Saturation can't be mistaken for a product of extents: those stay far below.
                Dim::Fixed(n) => factors.fixed = factors.fixed.saturating_mul(*n as u128),
                Dim::Sym(s) => factors.symbols.push(s.clone()),
                Dim::Any => factors.open = true,
            }
        }
        factors
    }

    /// `self / by`, if everything cancels or one symbol is left.
    ///
    /// # Errors
    /// If both are known numbers and the quotient is none.
    fn over(mut self, mut by: Factors) -> Result<Dim, TypeError> {
        by.symbols.retain(|s| match self.symbols.iter().position(|t| t == s) {
            Some(at) => {
                self.symbols.swap_remove(at);
                false
            }
            None => true,
        });
        if self.open || by.open || !by.symbols.is_empty() {
            return Ok(Dim::Any);
        }
        if by.fixed == 0 {
            return Err(TypeError::Shapes("-1 beside an empty axis stands for no number".to_owned()));
        }
        match self.symbols.as_slice() {
            [] if !self.fixed.is_multiple_of(by.fixed) => {
                Err(TypeError::Shapes(format!("{} elements do not divide into groups of {}", self.fixed, by.fixed)))
            }
            [] => {
                let n = usize::try_from(self.fixed / by.fixed).ok().filter(|&n| n <= MAX_ELEMENTS);
                n.map(Dim::Fixed).ok_or_else(|| TypeError::Shapes("an inferred extent is too large".to_owned()))
            }
            [symbol] if self.fixed == by.fixed => Ok(Dim::Sym(symbol.clone())),
            _ => Ok(Dim::Any),
        }
    }
}

impl Reshape {
    pub(in crate::op) fn infer(&self, args: &Args<'_>) -> Result<Vec<Type>, TypeError> {
        let x = args.ty(0)?;
        let Some(wanted) = args.int_vector(1)? else { return Ok(vec![Type::Unknown]) };
        let shape = self.shape(&x.shape, &wanted)?;
        Ok(vec![TensorType { dtype: x.dtype, shape }.into()])
    }

    fn shape(&self, x: &[Dim], wanted: &[SymInt]) -> Result<Shape, TypeError> {
        let mut shape = Vec::with_capacity(wanted.len());
        // Axes copied by 0 stand on both sides and cancel, whatever their extents are.
        let mut copied = vec![false; x.len().max(wanted.len())];
        let mut inferred = Vec::new();
        for (i, element) in wanted.iter().enumerate() {
            shape.push(match element {
                SymInt::Int(0) if !self.allowzero => {
                    copied[i] = true;
                    let dim = x.get(i).cloned();
                    dim.ok_or_else(|| TypeError::Shapes(format!("0 at {i} copies an axis the operand lacks")))?
                }
                SymInt::Int(-1) => {
                    inferred.push(i);
                    Dim::Any
                }
                SymInt::Int(n) if *n < 0 => {
                    return Err(TypeError::Shapes(format!("{n} is no extent")));
                }
                element => element.dim(),
            });
        }
        if inferred.len() > 1 {
            return Err(TypeError::Shapes("-1 stands in the shape more than once".to_owned()));
        }
        let unknown: Vec<usize> = (0..wanted.len()).filter(|&i| wanted[i] == SymInt::Any).collect();
        let rest = |dims: &[Dim], without: Option<usize>| {
            let kept = dims.iter().enumerate().filter(|(i, _)| !copied[*i] && Some(*i) != without);
            Factors::of(kept.map(|(_, dim)| dim))
        };
        match (inferred.first(), unknown.as_slice()) {
            (Some(&at), _) => shape[at] = rest(x, None).over(rest(&shape, Some(at)))?,
            // The number may also be written as -1 or 0, but it comes to the same.
            (None, [at]) => shape[*at] = rest(x, None).over(rest(&shape, Some(*at))).unwrap_or(Dim::Any),
            (None, _) => {
                let known = |f: &Factors| !f.open && f.symbols.is_empty();
                let whole = (Factors::of(x.iter()), Factors::of(shape.iter()));
                // An empty axis copied makes any rest fit, so it must not be cancelled.
                let (from, to) = if known(&whole.0) { whole } else { (rest(x, None), rest(&shape, None)) };
                if known(&from) && known(&to) && from.fixed != to.fixed {
                    let list = |dims: &[Dim]| dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ");
                    let message = format!("the elements of [{}] do not fit shape [{}]", list(x), list(&shape));
                    return Err(TypeError::Shapes(message));
                }
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{arg, ints, types};
    use crate::types::DType;

    fn run(x: &str, shape: &str) -> Result<String, TypeError> {
        types(Reshape::default(), &[arg(DType::F32, x), ints(shape)])
    }

    #[test]
    fn static_shapes() {
        assert_eq!(run("2 3 4", "4 -1").unwrap(), "f32[4, 6]");
        assert_eq!(run("2 3 4", "0 -1").unwrap(), "f32[2, 12]");
        assert_eq!(run("2 3 4", "").unwrap_err().to_string(), "the elements of [2, 3, 4] do not fit shape []");
        assert_eq!(run("1 1", "").unwrap(), "f32[]");
        assert_eq!(run("0 3", "0 5").unwrap(), "f32[0, 5]");
        assert_eq!(run("0 3", "0 -1").unwrap(), "f32[0, 3]");
        assert!(run("0 3", "3 0 1").is_err());
        assert!(run("2 3", "4 -1").is_err());
        assert!(run("2 3", "-1 -1").is_err());
        assert!(run("2 3", "-2 3").is_err());
        assert!(run("2 3", "2 3 0").is_err());
    }

    #[test]
    fn symbols_pass_through() {
        assert_eq!(run("N S 384", "N S 12 32").unwrap(), "f32[N, S, 12, 32]");
        assert_eq!(run("N S 384", "0 0 12 -1").unwrap(), "f32[N, S, 12, 32]");
        assert_eq!(run("N S 384", "N S 12 -1").unwrap(), "f32[N, S, 12, 32]");
        assert_eq!(run("N S 384", "-1 S 384").unwrap(), "f32[N, S, 384]");
        assert_eq!(run("? 8 16", "0 -1").unwrap(), "f32[?, 128]");
        assert_eq!(run("? 8 16", "-1 128").unwrap(), "f32[?, 128]");
        assert_eq!(run("N S 384", "-1 384").unwrap(), "f32[?, 384]");
        assert_eq!(run("N 12", "M -1").unwrap(), "f32[M, ?]");
        assert_eq!(run("2 3 4", "? 6").unwrap(), "f32[4, 6]");
        assert_eq!(run("N 4", "? ?").unwrap(), "f32[?, ?]");
    }

    #[test]
    fn unknown_shapes() {
        let x = || arg(DType::F32, "N 4");
        assert_eq!(types(Reshape::default(), &[x(), arg(DType::I64, "3")]).unwrap(), "f32[?, ?, ?]");
        assert_eq!(types(Reshape::default(), &[x(), arg(DType::I64, "R")]).unwrap(), "?");
        assert!(types(Reshape::default(), &[x(), arg(DType::I64, "1099511627776")]).is_err());
        assert!(types(Reshape::default(), &[x(), arg(DType::F32, "2")]).is_err());
    }

    #[test]
    fn zeros_may_mean_empty_axes() {
        let op = Reshape { allowzero: true };
        assert_eq!(types(op.clone(), &[arg(DType::F32, "3 0"), ints("0 5")]).unwrap(), "f32[0, 5]");
        assert!(types(op, &[arg(DType::F32, "3 4"), ints("0 5")]).is_err());
    }

    #[test]
    fn hostile_extents() {
        assert!(run("4", "4611686018427387904 4611686018427387904 -1").is_err());
        assert!(run("4", "9223372036854775807").is_err());
        assert!(run("N", "9223372036854775807 -1").is_err());
    }
}
