//! Constants: initializers, sparse initializers, and every form of the `Constant` operator.

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, NodeProto, SparseTensorProto, TensorProto};
use optc_ir::{Data, Tensor};

use super::attrs;
use super::error::ImportErrorKind;
use super::tensor::{self, Decoded, Stored};

/// Bytes that sparse tensors of one model may unfold to. A file of a few bytes can name a sparse tensor of
/// any size; beyond this they are carried as they are.
pub(super) const MAX_UNFOLDED: usize = 1 << 28;

/// A constant of the file.
pub(super) enum Value {
    /// One that the IR can hold.
    Tensor(Tensor),
    /// Strings, complex numbers, eight-bit floats, or a sparse tensor too large to unfold: a `Constant` node
    /// to carry.
    Foreign(Box<NodeProto>),
}

fn tensor_error(name: &str, message: impl Into<String>) -> ImportErrorKind {
    ImportErrorKind::Tensor { name: name.to_owned(), message: message.into() }
}

fn carry(name: &str, attr: AttributeProto) -> Value {
    Value::Foreign(Box::new(NodeProto {
        op_type: "Constant".to_owned(),
        output: vec![name.to_owned()],
        attribute: vec![attr],
        ..NodeProto::default()
    }))
}

/// The value of a tensor message, whose raw bytes may be stored elsewhere.
///
/// # Errors
/// If the message contradicts itself.
pub(super) fn of_tensor(
    name: &str,
    mut proto: TensorProto,
    stored: Option<Stored<'_>>,
) -> Result<Value, ImportErrorKind> {
    match tensor::decode_from(&mut proto, stored).map_err(|message| tensor_error(name, message))? {
        Decoded::Tensor(tensor) => Ok(Value::Tensor(tensor)),
        Decoded::Foreign => Ok(carry(name, attrs::tensor("value", proto))),
    }
}

/// The value of a sparse tensor message. `budget` is the number of elements that may still be unfolded.
///
/// # Errors
/// If the message contradicts itself.
pub(super) fn of_sparse(name: &str, proto: &SparseTensorProto, budget: &mut usize) -> Result<Value, ImportErrorKind> {
    let fail = |message: &str| tensor_error(name, message);
    let (shape, len) = tensor::shape(&proto.dims).map_err(|message| tensor_error(name, message))?;
    let decode = |part: Option<&TensorProto>| match part {
        Some(part) => tensor::decode(&mut part.clone()).map_err(|message| tensor_error(name, message)),
        None => Err(fail("a part of the sparse tensor is missing")),
    };
    let (values, indices) = (decode(proto.values.as_ref())?, decode(proto.indices.as_ref())?);
    let Decoded::Tensor(indices) = indices else { return Err(fail("indices are not integers")) };
    let Decoded::Tensor(values) = values else { return Ok(carry_sparse(name, proto)) };
    let Some(left) = budget.checked_sub(values.dtype().bytes(len)) else { return Ok(carry_sparse(name, proto)) };
    *budget = left;
    let Data::I64(list) = indices.data() else { return Err(fail("indices are not i64")) };
    let bounds = match *indices.shape() {
        [count] if count == values.len() => vec![len],
        [count, rank] if count == values.len() && rank == shape.len() => shape.clone(),
        _ => return Err(fail("there are not as many indices as values")),
    };
    let flat = |tuple: &[i64]| {
        tuple.iter().zip(&bounds).try_fold(0usize, |flat, (&index, &extent)| {
            let index = usize::try_from(index).ok().filter(|&index| index < extent)?;
            flat.checked_mul(extent)?.checked_add(index)
        })
    };
    let positions: Option<Vec<usize>> = match bounds.len() {
        0 => Some(vec![0; values.len()]),
        width => list.chunks_exact(width).map(flat).collect(),
    };
    let positions = positions.filter(|p| p.iter().all(|&i| i < len));
    let positions = positions.ok_or_else(|| fail("an index is out of bounds"))?;
    Ok(Value::Tensor(Tensor::new(shape, unfold(len, &positions, values.data()))))
}

fn unfold(len: usize, positions: &[usize], values: &Data) -> Data {
    fn scatter<T: Copy + Default>(len: usize, positions: &[usize], values: &[T]) -> Vec<T> {
        let mut dense = vec![T::default(); len];
        for (&at, &value) in positions.iter().zip(values) {
            dense[at] = value;
        }
        dense
    }
    match values {
        Data::F64(v) => Data::F64(scatter(len, positions, v)),
        Data::F32(v) => Data::F32(scatter(len, positions, v)),
        Data::F16(v) => Data::F16(scatter(len, positions, v)),
        Data::BF16(v) => Data::BF16(scatter(len, positions, v)),
        Data::I64(v) => Data::I64(scatter(len, positions, v)),
        Data::I32(v) => Data::I32(scatter(len, positions, v)),
        Data::I16(v) => Data::I16(scatter(len, positions, v)),
        Data::I8(v) => Data::I8(scatter(len, positions, v)),
        Data::I4(v) => Data::I4(scatter(len, positions, v)),
        Data::U64(v) => Data::U64(scatter(len, positions, v)),
        Data::U32(v) => Data::U32(scatter(len, positions, v)),
        Data::U16(v) => Data::U16(scatter(len, positions, v)),
        Data::U8(v) => Data::U8(scatter(len, positions, v)),
        Data::U4(v) => Data::U4(scatter(len, positions, v)),
        Data::Bool(v) => Data::Bool(scatter(len, positions, v)),
    }
}

fn carry_sparse(name: &str, proto: &SparseTensorProto) -> Value {
    let attr = AttributeProto {
        name: "sparse_value".to_owned(),
        type_: protobuf::EnumOrUnknown::new(AttributeType::SPARSE_TENSOR),
        sparse_tensor: protobuf::MessageField::some(proto.clone()),
        ..AttributeProto::default()
    };
    carry(name, attr)
}

/// The value of a `Constant` node, whichever attribute holds it; `None` if it is in a form that is carried.
///
/// # Errors
/// If a tensor contradicts itself.
pub(super) fn of_node(name: &str, node: &mut NodeProto, budget: &mut usize) -> Result<Option<Tensor>, ImportErrorKind> {
    let [attr] = node.attribute.as_mut_slice() else { return Ok(None) };
    if !attr.ref_attr_name.is_empty() {
        return Ok(None);
    }
    let tensor = match (attr.name.as_str(), attr.t.as_mut(), attr.sparse_tensor.as_ref()) {
        ("value", Some(proto), _) => match tensor::decode(proto).map_err(|message| tensor_error(name, message))? {
            Decoded::Tensor(tensor) => tensor,
            Decoded::Foreign => return Ok(None),
        },
        ("sparse_value", _, Some(proto)) => match of_sparse(name, proto, budget)? {
            Value::Tensor(tensor) => tensor,
            Value::Foreign(_) => return Ok(None),
        },
        ("value_float", ..) => Tensor::f32([], [attr.f]),
        ("value_floats", ..) => Tensor::f32([attr.floats.len()], std::mem::take(&mut attr.floats)),
        ("value_int", ..) => Tensor::i64([], [attr.i]),
        ("value_ints", ..) => Tensor::i64([attr.ints.len()], std::mem::take(&mut attr.ints)),
        _ => return Ok(None),
    };
    Ok(Some(tensor))
}
