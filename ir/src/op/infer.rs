//! Type inference: from operand types to result types.
//!
//! Each operator's rule is `infer` on its attribute struct, in its family's file. A rule sees the types
//! of its operands and, where an operand's elements decide a shape, what is known of them. It returns
//! one type per result or says what does not fit. Rules are pure: the verifier runs them again and
//! compares. A result whose rank nothing tells is [`Type::Unknown`].
//!
//! Around every rule ([`infer`]): operand count is checked, unknown operand types give unknown result
//! types, and results beyond [`MAX_ELEMENTS`] are refused, so rules may multiply dimensions freely as
//! long as they check their own attributes.

use std::sync::Arc;

use super::Op;
use crate::constant::Constant;
use crate::error::TypeError;
use crate::types::{DType, Dim, MAX_ELEMENTS, Symbol, TensorType, Type};

/// Beyond this many elements nothing is known of a value's contents.
pub const MAX_CONTENTS: usize = 256;

/// The most axes an operator's result may have. It bounds graphs whose operators multiply axes.
pub const MAX_RANK: usize = 256;

/// What is known of one integer element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SymInt {
    /// This number.
    Int(i64),
    /// The extent this symbol stands for.
    Sym(Symbol),
    /// Nothing.
    Any,
}

impl SymInt {
    /// The number, if it is known.
    pub fn int(&self) -> Option<i64> {
        match self {
            SymInt::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// As an extent; negative numbers say nothing.
    pub fn dim(&self) -> Dim {
        match self {
            SymInt::Int(n) => usize::try_from(*n).map_or(Dim::Any, Dim::Fixed),
            SymInt::Sym(s) => Dim::Sym(s.clone()),
            SymInt::Any => Dim::Any,
        }
    }
}

impl From<&Dim> for SymInt {
    fn from(dim: &Dim) -> SymInt {
        match dim {
            Dim::Fixed(n) => i64::try_from(*n).map_or(SymInt::Any, SymInt::Int),
            Dim::Sym(s) => SymInt::Sym(s.clone()),
            Dim::Any => SymInt::Any,
        }
    }
}

/// An operand as a type rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// Its type.
    pub ty: &'a Type,
    /// Its value, if constant.
    pub constant: Option<&'a Arc<Constant>>,
    /// What is known of its elements, if it is a small integer tensor of at most one axis.
    pub contents: Option<&'a [SymInt]>,
}

impl Operand<'_> {
    /// What is known of each element of a small integer tensor of at most one axis.
    pub fn sym_ints(&self) -> Option<Vec<SymInt>> {
        if let Some(contents) = self.contents {
            return Some(contents.to_vec());
        }
        let constant = self.constant?;
        if constant.shape().len() > 1 || constant.len() > MAX_CONTENTS || constant.dtype().is_float() {
            return None;
        }
        let unsigned = constant.dtype() == DType::U64;
        // Unsigned elements beyond i64 come back negative: nothing is known of them.
        let known = |n: i64| if unsigned && n < 0 { SymInt::Any } else { SymInt::Int(n) };
        Some(constant.decode().data().to_i64()?.into_iter().map(known).collect())
    }

    /// The elements, if all are known.
    pub fn ints(&self) -> Option<Vec<i64>> {
        self.sym_ints()?.iter().map(SymInt::int).collect()
    }
}

/// The operands of one node as its type rule sees them.
#[derive(Clone, Debug)]
pub struct Args<'a> {
    op: &'a Op,
    operands: &'a [Option<Operand<'a>>],
}

impl<'a> Args<'a> {
    /// The number of operand slots.
    pub fn len(&self) -> usize {
        self.operands.len()
    }

    /// Whether there are no operand slots.
    pub fn is_empty(&self) -> bool {
        self.operands.is_empty()
    }

    /// The operator.
    pub fn op(&self) -> &'a Op {
        self.op
    }

    /// Operand `slot`, if present.
    pub fn get(&self, slot: usize) -> Option<Operand<'a>> {
        self.operands.get(slot).copied().flatten()
    }

    /// The tensor type of operand `slot`, if present.
    pub fn get_ty(&self, slot: usize) -> Option<&'a TensorType> {
        self.get(slot).and_then(|operand| operand.ty.as_tensor())
    }

    /// The tensor type of a required operand.
    ///
    /// # Errors
    /// If it is missing.
    pub fn ty(&self, slot: usize) -> Result<&'a TensorType, TypeError> {
        self.get_ty(slot).ok_or_else(|| TypeError::Missing { slot, name: operand_name(self.op, slot) })
    }

    /// The tensor type of a required operand whose element type must satisfy `fits`.
    ///
    /// # Errors
    /// If it is missing or of another element type.
    pub fn typed(
        &self,
        slot: usize,
        fits: impl Fn(DType) -> bool,
        expected: &str,
    ) -> Result<&'a TensorType, TypeError> {
        let ty = self.ty(slot)?;
        if fits(ty.dtype) { Ok(ty) } else { Err(self.expected(slot, expected)) }
    }

    /// The tensor type of a required operand of floating-point elements.
    ///
    /// # Errors
    /// If it is missing or of another element type.
    pub fn float(&self, slot: usize) -> Result<&'a TensorType, TypeError> {
        self.typed(slot, DType::is_float, "a floating-point type")
    }

    /// The tensor type of a required operand of numbers that operators compute with: floats, and integers
    /// of at least 8 bits.
    ///
    /// # Errors
    /// If it is missing or of another element type.
    pub fn numeric(&self, slot: usize) -> Result<&'a TensorType, TypeError> {
        self.typed(slot, is_numeric, "a numeric type of at least 8 bits")
    }

    /// The tensor type of a required operand of integers.
    ///
    /// # Errors
    /// If it is missing or of another element type.
    pub fn int(&self, slot: usize) -> Result<&'a TensorType, TypeError> {
        self.typed(slot, DType::is_int, "an integer type")
    }

    /// The tensor type of a required operand whose element type must be that of operand `other`.
    ///
    /// # Errors
    /// If one is missing or the element types differ.
    pub fn same_dtype(&self, slot: usize, other: usize) -> Result<&'a TensorType, TypeError> {
        let dtype = self.ty(other)?.dtype;
        self.typed(slot, |d| d == dtype, &format!("elements of type {dtype}"))
    }

    /// What is known of the elements of a required integer vector; `None` if not even their number is.
    ///
    /// # Errors
    /// If it is missing, no vector of integers, or longer than any shape.
    pub fn int_vector(&self, slot: usize) -> Result<Option<Vec<SymInt>>, TypeError> {
        let ty = self.int(slot)?;
        let [len] = ty.shape.as_slice() else { return Err(self.expected(slot, "a vector of integers")) };
        if let Some(known) = self.get(slot).and_then(|operand| operand.sym_ints()) {
            return Ok(Some(known));
        }
        match len.fixed() {
            Some(n) if n > MAX_CONTENTS => Err(self.expected(slot, format!("at most {MAX_CONTENTS} elements"))),
            Some(n) => Ok(Some(vec![SymInt::Any; n])),
            None => Ok(None),
        }
    }

    /// The tensor type of a required operand of one element.
    ///
    /// # Errors
    /// If it is missing or holds another number of elements.
    pub fn scalar(&self, slot: usize) -> Result<&'a TensorType, TypeError> {
        let ty = self.ty(slot)?;
        let one = ty.rank() <= 1 && ty.shape.iter().all(|d| !d.differs(&Dim::Fixed(1)));
        if one { Ok(ty) } else { Err(self.expected(slot, "a scalar")) }
    }

    /// What is known of a required integer scalar.
    ///
    /// # Errors
    /// If it is missing or no integer scalar.
    pub fn int_scalar(&self, slot: usize) -> Result<SymInt, TypeError> {
        self.int(slot)?;
        self.scalar(slot)?;
        let known = self.get(slot).and_then(|operand| operand.sym_ints());
        Ok(known.and_then(|k| k.into_iter().next()).unwrap_or(SymInt::Any))
    }

    /// An error that operand `slot` is not what it must be.
    pub fn expected(&self, slot: usize, expected: impl Into<String>) -> TypeError {
        let got = self.get(slot).map_or("nothing".to_owned(), |operand| operand.ty.to_string());
        TypeError::Operand { slot, name: operand_name(self.op, slot), got, expected: expected.into() }
    }
}

fn operand_name(op: &Op, slot: usize) -> String {
    let names = op.arity().names;
    names.get(slot).or(names.last()).map_or_else(|| slot.to_string(), |name| (*name).to_owned())
}

/// Whether operators compute with this type: a float, or an integer of at least 8 bits.
pub fn is_numeric(dtype: DType) -> bool {
    dtype != DType::Bool && dtype.bits() >= 8
}

/// The non-negative form of an axis of a value of `rank` axes.
///
/// # Errors
/// If there is no such axis.
pub fn resolve_axis(axis: i64, rank: usize) -> Result<usize, TypeError> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let resolved = if axis < 0 { axis.saturating_add(signed) } else { axis };
    usize::try_from(resolved)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| TypeError::Attribute(format!("axis {axis} does not exist in a value of {rank} axes")))
}

/// The non-negative forms of axes of a value of `rank` axes.
///
/// # Errors
/// If one does not exist or occurs twice.
pub fn resolve_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, TypeError> {
    let mut seen = vec![false; rank];
    axes.iter()
        .map(|&axis| {
            let resolved = resolve_axis(axis, rank)?;
            if std::mem::replace(&mut seen[resolved], true) {
                return Err(TypeError::Attribute(format!("axis {axis} is given twice")));
            }
            Ok(resolved)
        })
        .collect()
}

/// The number of elements of a shape, as far as it is known: a factor 1 says nothing, a factor 0 all.
///
/// # Errors
/// If it exceeds [`MAX_ELEMENTS`].
pub fn product(dims: &[Dim]) -> Result<Dim, TypeError> {
    if dims.contains(&Dim::Fixed(0)) {
        return Ok(Dim::Fixed(0));
    }
    let fixed = dims.iter().filter_map(Dim::fixed).try_fold(1usize, usize::checked_mul);
    let fixed = fixed.filter(|&n| n <= MAX_ELEMENTS);
    let fixed = fixed.ok_or_else(|| TypeError::Shapes("a product of extents is too large".to_owned()))?;
    let mut open = dims.iter().filter(|d| d.fixed().is_none());
    Ok(match (fixed, open.next(), open.next()) {
        (n, None, _) => Dim::Fixed(n),
        (1, Some(dim), None) => dim.clone(),
        _ => Dim::Any,
    })
}

/// The shape two operands broadcast to, by numpy's rule.
///
/// # Errors
/// If two extents differ and neither is 1.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, TypeError> {
    let rank = a.len().max(b.len());
    let one = Dim::Fixed(1);
    let at = |shape: &[Dim], i: usize| (i + shape.len()).checked_sub(rank).map_or(one.clone(), |j| shape[j].clone());
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, Dim::Fixed(1)) => Ok(x),
            (Dim::Fixed(1), y) => Ok(y),
            (x, y) if x.differs(&y) => Err(TypeError::Shapes(format!("extents {x} and {y} do not broadcast"))),
            (Dim::Fixed(n), _) | (_, Dim::Fixed(n)) => Ok(Dim::Fixed(n)),
            (x, y) if x.same(&y) => Ok(x),
            _ => Ok(Dim::Any),
        })
        .collect()
}

/// The number of results of an operator.
pub fn result_count(op: &Op) -> usize {
    match op {
        Op::Return(_) => 0,
        Op::Opaque(o) => o.results.len(),
        Op::Split(s) => s.sizes.len(),
        Op::BatchNormTrain(_) => 5,
        Op::Lstm(_) | Op::DynamicQuantizeLinear(_) | Op::BatchNormGrad(_) => 3,
        Op::Gru(_) | Op::Rnn(_) | Op::MaxPool(_) | Op::TopK(_) => 2,
        _ => 1,
    }
}

/// The result types of an operator.
///
/// # Errors
/// [`TypeError`] if the operands do not fit.
pub fn infer(op: &Op, operands: &[Option<Operand<'_>>]) -> Result<Vec<Type>, TypeError> {
    let arity = op.arity();
    if operands.len() > arity.names.len() && !arity.variadic {
        return Err(TypeError::TooMany { got: operands.len(), max: arity.names.len() });
    }
    if let Some(slot) = (0..arity.required).find(|&slot| operands.get(slot).copied().flatten().is_none()) {
        return Err(TypeError::Missing { slot, name: operand_name(op, slot) });
    }
    let args = Args { op, operands };
    let unknown = operands.iter().flatten().any(|operand| *operand.ty == Type::Unknown);
    let results = match op {
        Op::Input(input) => vec![input.ty.clone()],
        Op::Const(constant) => vec![constant.ty().into()],
        Op::ConstHash(constant) => vec![constant.ty.clone().into()],
        Op::Return(ret) if ret.names.len() != operands.len() => {
            return Err(TypeError::Attribute(format!("{} names for {} results", ret.names.len(), operands.len())));
        }
        Op::Return(_) => Vec::new(),
        Op::Opaque(opaque) => opaque.results.clone(),
        _ if unknown => vec![Type::Unknown; result_count(op)],
        _ => {
            let results = rule(op, &args)?;
            if let Some(ty) = results.iter().filter_map(Type::as_tensor).find(|ty| ty.rank() > MAX_RANK) {
                return Err(TypeError::Shapes(format!("a result of {} axes has too many", ty.rank())));
            }
            results
        }
    };
    for ty in results.iter().filter_map(Type::as_tensor) {
        let elements = ty.shape.iter().filter_map(Dim::fixed).try_fold(1usize, |n, d| n.checked_mul(d.max(1)));
        if elements.is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(TypeError::TooLarge(ty.to_string()));
        }
    }
    debug_assert_eq!(results.len(), result_count(op), "{}", op.name());
    Ok(results)
}

/// The rule of the operator itself; operands are counted and of known type.
fn rule(op: &Op, args: &Args<'_>) -> Result<Vec<Type>, TypeError> {
    match op {
        Op::Input(_) | Op::Const(_) | Op::ConstHash(_) | Op::Return(_) | Op::Opaque(_) => {
            unreachable!("structural operators have no rule of their own")
        }
        Op::Unary(a) => types(a.infer(args)),
        Op::Binary(a) => types(a.infer(args)),
        Op::Variadic(a) => types(a.infer(args)),
        Op::Reduce(a) => types(a.infer(args)),
        Op::LeakyRelu(_)
        | Op::Elu(_)
        | Op::Celu(_)
        | Op::Selu(_)
        | Op::HardSigmoid(_)
        | Op::ThresholdedRelu(_)
        | Op::Shrink(_)
        | Op::Gelu(_) => types(super::elementwise::infer_same(args)),
        Op::IsInf(a) => types(a.infer(args)),
        Op::Clip(a) => types(a.infer(args)),
        Op::Cast(a) => types(a.infer(args)),
        Op::Where(a) => types(a.infer(args)),
        Op::Mod(a) => types(a.infer(args)),
        Op::BitShift(a) => types(a.infer(args)),
        Op::Conv(a) => types(a.infer(args)),
        Op::ConvTranspose(a) => types(a.infer(args)),
        Op::MatMul(a) => types(a.infer(args)),
        Op::Gemm(a) => types(a.infer(args)),
        Op::Linear(a) => types(a.infer(args)),
        Op::Einsum(a) => types(a.infer(args)),
        Op::Rnn(a) => types(a.infer(args)),
        Op::Gru(a) => types(a.infer(args)),
        Op::Lstm(a) => types(a.infer(args)),
        Op::BatchNorm(a) => types(a.infer(args)),
        Op::InstanceNorm(a) => types(a.infer(args)),
        Op::LayerNorm(a) => types(a.infer(args)),
        Op::GroupNorm(a) => types(a.infer(args)),
        Op::RmsNorm(a) => types(a.infer(args)),
        Op::Lrn(a) => types(a.infer(args)),
        Op::LpNorm(a) => types(a.infer(args)),
        Op::Softmax(a) => types(a.infer(args)),
        Op::LogSoftmax(a) => types(a.infer(args)),
        Op::Hardmax(a) => types(a.infer(args)),
        Op::MaxPool(a) => types(a.infer(args)),
        Op::AveragePool(a) => types(a.infer(args)),
        Op::LpPool(a) => types(a.infer(args)),
        Op::GlobalAveragePool(a) => types(a.infer(args)),
        Op::GlobalMaxPool(a) => types(a.infer(args)),
        Op::ArgMax(a) => types(a.infer(args)),
        Op::ArgMin(a) => types(a.infer(args)),
        Op::TopK(a) => types(a.infer(args)),
        Op::CumSum(a) => types(a.infer(args)),
        Op::Reshape(a) => types(a.infer(args)),
        Op::Flatten(a) => types(a.infer(args)),
        Op::Squeeze(a) => types(a.infer(args)),
        Op::Unsqueeze(a) => types(a.infer(args)),
        Op::Transpose(a) => types(a.infer(args)),
        Op::Concat(a) => types(a.infer(args)),
        Op::Split(a) => types(a.infer(args)),
        Op::Slice(a) => types(a.infer(args)),
        Op::Pad(a) => types(a.infer(args)),
        Op::Expand(a) => types(a.infer(args)),
        Op::Tile(a) => types(a.infer(args)),
        Op::Gather(a) => types(a.infer(args)),
        Op::GatherElements(a) => types(a.infer(args)),
        Op::GatherNd(a) => types(a.infer(args)),
        Op::ScatterElements(a) => types(a.infer(args)),
        Op::ScatterNd(a) => types(a.infer(args)),
        Op::ShapeOf(a) => types(a.infer(args)),
        Op::Size(a) => types(a.infer(args)),
        Op::ConstantOfShape(a) => types(a.infer(args)),
        Op::Range(a) => types(a.infer(args)),
        Op::OneHot(a) => types(a.infer(args)),
        Op::NonZero(a) => types(a.infer(args)),
        Op::Resize(a) => types(a.infer(args)),
        Op::DepthToSpace(a) => types(a.infer(args)),
        Op::SpaceToDepth(a) => types(a.infer(args)),
        Op::Trilu(a) => types(a.infer(args)),
        Op::QuantizeLinear(a) => types(a.infer(args)),
        Op::DequantizeLinear(a) => types(a.infer(args)),
        Op::DynamicQuantizeLinear(a) => types(a.infer(args)),
        Op::QLinearConv(a) => types(a.infer(args)),
        Op::QLinearMatMul(a) => types(a.infer(args)),
        Op::ConvInteger(a) => types(a.infer(args)),
        Op::MatMulInteger(a) => types(a.infer(args)),
        Op::ConvWeightGrad(a) => types(a.infer(args)),
        Op::MaxPoolGrad(a) => types(a.infer(args)),
        Op::BatchNormTrain(a) => types(a.infer(args)),
        Op::BatchNormGrad(a) => types(a.infer(args)),
        Op::ActGrad(a) => types(a.infer(args)),
    }
}

/// Rules that always know the rank of their results return tensor types; others return types.
fn types<T: Into<Type>>(results: Result<Vec<T>, TypeError>) -> Result<Vec<Type>, TypeError> {
    Ok(results?.into_iter().map(Into::into).collect())
}

/// What is known of the elements of the first result, if it is a small integer tensor of at most one
/// axis that is not constant: shape arithmetic carried through dimensions that are still symbols.
pub fn contents(op: &Op, operands: &[Option<Operand<'_>>], results: &[Type]) -> Option<Arc<[SymInt]>> {
    let ty = results.first()?.as_tensor()?;
    if ty.dtype.is_float() || ty.rank() > 1 || ty.numel()? > MAX_CONTENTS || matches!(op, Op::Const(_)) {
        return None;
    }
    let args = Args { op, operands };
    super::shape::contents::contents(op, &args, ty).filter(|c| Some(c.len()) == ty.numel()).map(Into::into)
}
