//! Element types and types of values, between ONNX's notation and the IR's.

use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use optc_ir::{DType, Dim, TensorType, Type};
use protobuf::MessageField;

use super::error::ImportErrorKind;

/// ONNX's number of an element type.
pub(super) fn dtype_code(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
        DType::U4 => 21,
        DType::I4 => 22,
    }
}

/// The element type of an ONNX number; `None` for strings, complex numbers and eight-bit floats.
pub(super) fn dtype(code: i32) -> Option<DType> {
    DType::ALL.iter().copied().find(|&dtype| dtype_code(dtype) == code)
}

/// The type of an ONNX value: unknown unless it is a tensor of known rank and of an element type the IR has.
///
/// # Errors
/// If the shape has more elements than any memory holds.
pub(super) fn import(name: &str, ty: Option<&TypeProto>) -> Result<Type, ImportErrorKind> {
    let Some(type_proto::Value::TensorType(tensor)) = ty.and_then(|ty| ty.value.as_ref()) else {
        return Ok(Type::Unknown);
    };
    let (Some(dtype), Some(shape)) = (dtype(tensor.elem_type), tensor.shape.as_ref()) else {
        return Ok(Type::Unknown);
    };
    let ty = TensorType { dtype, shape: shape.dim.iter().map(import_dim).collect() };
    let elements = ty.shape.iter().filter_map(Dim::fixed).try_fold(1usize, |n, d| n.checked_mul(d.max(1)));
    if elements.is_none_or(|n| n > optc_ir::types::MAX_ELEMENTS) {
        return Err(ImportErrorKind::Value { name: name.to_owned(), message: format!("type {ty} is too large") });
    }
    Ok(ty.into())
}

/// Negative extents, empty symbols and `?`, which some exporters write for "unknown", say nothing. Two of them
/// need not be equal, as two of another symbol must be.
fn import_dim(dim: &Dimension) -> Dim {
    match &dim.value {
        Some(dimension::Value::DimValue(n)) => usize::try_from(*n).map_or(Dim::Any, Dim::Fixed),
        Some(dimension::Value::DimParam(symbol)) if !matches!(symbol.as_str(), "" | "?") => Dim::sym(symbol),
        _ => Dim::Any,
    }
}

/// A value of a known type as ONNX declares it; `None` if the type is unknown.
pub(super) fn export(name: &str, ty: &Type) -> Option<ValueInfoProto> {
    let Type::Tensor(ty) = ty else { return None };
    let dim = |dim: &Dim| Dimension {
        value: match dim {
            Dim::Fixed(n) => i64::try_from(*n).ok().map(dimension::Value::DimValue),
            Dim::Sym(symbol) => Some(dimension::Value::DimParam(symbol.as_str().to_owned())),
            Dim::Any => None,
        },
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: ty.shape.iter().map(dim).collect(), ..TensorShapeProto::default() };
    let tensor = type_proto::Tensor {
        elem_type: dtype_code(ty.dtype),
        shape: MessageField::some(shape),
        ..type_proto::Tensor::default()
    };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    Some(ValueInfoProto { name: name.to_owned(), type_: MessageField::some(ty), ..ValueInfoProto::default() })
}

/// The symbols in a declared shape.
pub(super) fn symbols(info: &ValueInfoProto) -> impl Iterator<Item = String> {
    let ty = import(&info.name, info.type_.as_ref()).unwrap_or(Type::Unknown);
    let shape = ty.shape().unwrap_or_default().to_vec();
    shape.into_iter().filter_map(|dim| match dim {
        Dim::Sym(symbol) => Some(symbol.as_str().to_owned()),
        _ => None,
    })
}

/// Whether a value of one type may also be of the other.
pub(super) fn compatible(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Tensor(a), Type::Tensor(b)) => {
            let dims = || a.shape.iter().zip(&b.shape).all(|(a, b)| !a.differs(b));
            a.dtype == b.dtype && a.rank() == b.rank() && dims()
        }
        _ => true,
    }
}
