//! What the tests of type rules share.

use std::sync::Arc;

use super::Op;
use super::infer::{self, Operand, SymInt};
use crate::constant::Constant;
use crate::error::TypeError;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Type};

/// An operand of a rule under test.
#[derive(Clone, Debug)]
pub(crate) struct Arg {
    ty: Type,
    constant: Option<Arc<Constant>>,
    contents: Option<Vec<SymInt>>,
}

impl Arg {
    fn operand(&self) -> Option<Operand<'_>> {
        Some(Operand { ty: &self.ty, constant: self.constant.as_ref(), contents: self.contents.as_deref() })
    }
}

fn dims(text: &str) -> Vec<Dim> {
    let words = text.split([',', ' ']).filter(|w| !w.is_empty());
    words.map(|w| if w == "?" { Dim::Any } else { w.parse().map_or_else(|_| Dim::sym(w), Dim::Fixed) }).collect()
}

/// An operand of a type alone, its extents written as `N 3 ?`.
pub(crate) fn arg(dtype: DType, shape: &str) -> Arg {
    Arg { ty: Type::tensor(dtype, dims(shape)), constant: None, contents: None }
}

/// A vector of i64 of which something is known, written as `N -1 ?`.
pub(crate) fn ints(elements: &str) -> Arg {
    let words = elements.split(' ').filter(|w| !w.is_empty());
    let contents: Vec<SymInt> = words
        .map(|w| match (w, w.parse()) {
            ("?", _) => SymInt::Any,
            (_, Ok(n)) => SymInt::Int(n),
            (name, _) => SymInt::from(&Dim::sym(name)),
        })
        .collect();
    Arg { ty: Type::tensor(DType::I64, [contents.len()]), constant: None, contents: Some(contents) }
}

/// A scalar of i64 of which something is known.
pub(crate) fn int(element: &str) -> Arg {
    Arg { ty: Type::tensor(DType::I64, [0usize; 0]), ..ints(element) }
}

/// A constant operand.
pub(crate) fn constant(tensor: Tensor) -> Arg {
    Arg { ty: tensor.ty().into(), constant: Some(Arc::new(Constant::dense(tensor))), contents: None }
}

fn with_operands<T>(args: &[Arg], f: impl FnOnce(&[Option<Operand<'_>>]) -> T) -> T {
    f(&args.iter().map(Arg::operand).collect::<Vec<_>>())
}

/// The result types as text, separated by spaces.
pub(crate) fn types(op: impl Into<Op>, args: &[Arg]) -> Result<String, TypeError> {
    let op = op.into();
    with_operands(args, |operands| {
        Ok(infer::infer(&op, operands)?.iter().map(Type::to_string).collect::<Vec<_>>().join(" "))
    })
}

/// What is known of the elements of the first result, as text; empty if nothing.
pub(crate) fn contents(op: impl Into<Op>, args: &[Arg]) -> String {
    let op = op.into();
    with_operands(args, |operands| {
        let types = infer::infer(&op, operands).expect("the operands of the test fit");
        let known = infer::contents(&op, operands, &types);
        let words = known.iter().flat_map(|k| k.iter()).map(|element| match element {
            SymInt::Int(n) => n.to_string(),
            SymInt::Sym(s) => s.as_str().to_owned(),
            SymInt::Any => "?".to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    })
}

/// `f32[n, 3, ?]` as a type.
fn ty(text: &str) -> Type {
    let (dtype, shape) = text.strip_suffix(']').and_then(|t| t.split_once('[')).expect("a type as f32[2, n]");
    Type::tensor(DType::from_name(dtype).expect("an element type"), dims(shape))
}

/// The result types of an operator on operands of these types; an empty text is an absent operand.
pub(crate) fn infer_op(op: &Op, operands: &[&str]) -> Result<Vec<Type>, TypeError> {
    let types: Vec<Option<Type>> = operands.iter().map(|text| (!text.is_empty()).then(|| ty(text))).collect();
    let operands: Vec<Option<Operand<'_>>> =
        types.iter().map(|ty| ty.as_ref().map(|ty| Operand { ty, constant: None, contents: None })).collect();
    infer::infer(op, &operands)
}

/// The result types of an operator on operands of these types, as text.
///
/// # Panics
/// If the operands do not fit.
pub(crate) fn shapes(op: &Op, operands: &[&str]) -> Vec<String> {
    let types = infer_op(op, operands).unwrap_or_else(|e| panic!("{}{operands:?}: {e}", op.name()));
    types.iter().map(Type::to_string).collect()
}
