//! Tensors, between ONNX's storage forms and dense constants.
//!
//! Sizes are checked before anything is allocated: a tensor never takes more memory than a small multiple
//! of the bytes the file spends on it.

use std::io::{self, Read};

use half::{bf16, f16};
use onnx_protobuf::TensorProto;
use onnx_protobuf::tensor_proto::DataLocation;
use optc_ir::types::MAX_ELEMENTS;
use optc_ir::{DType, Data, Tensor};

use super::types;

/// What a tensor message turned out to be.
pub(super) enum Decoded {
    /// A tensor of an element type the IR has.
    Tensor(Tensor),
    /// A tensor of strings, complex numbers or eight-bit floats.
    Foreign,
}

/// Raw bytes of a tensor that its message leaves to be read from elsewhere.
pub(super) struct Stored<'a> {
    /// How many there are.
    pub(super) bytes: u64,
    /// Where they come next.
    pub(super) source: &'a mut dyn Read,
}

/// Bytes that are read at once: few enough to stay in a cache until they have become elements.
const PIECE: usize = 1 << 16;

/// The extents of a tensor message and the number of elements.
///
/// # Errors
/// If an extent is negative or the product is beyond [`MAX_ELEMENTS`].
pub(super) fn shape(dims: &[i64]) -> Result<(Vec<usize>, usize), String> {
    let shape: Vec<usize> = dims
        .iter()
        .map(|&d| usize::try_from(d).map_err(|_| format!("extent {d} is negative")))
        .collect::<Result<_, _>>()?;
    // Zero extents must not hide an overflow of the others.
    let bound = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
    match bound {
        Some(n) if n <= MAX_ELEMENTS => Ok((shape.clone(), shape.iter().product())),
        _ => Err(format!("extents {shape:?} are too large")),
    }
}

/// Decodes a tensor message, taking its payload out of it.
///
/// # Errors
/// If extents, element type and payload contradict each other.
pub(super) fn decode(proto: &mut TensorProto) -> Result<Decoded, String> {
    decode_from(proto, None)
}

/// [`decode`], with raw bytes that may be stored elsewhere. Those of a foreign tensor go into the message.
///
/// # Errors
/// As [`decode`], and if the bytes can't be read.
pub(super) fn decode_from(proto: &mut TensorProto, stored: Option<Stored<'_>>) -> Result<Decoded, String> {
    let (shape, len) = shape(&proto.dims)?;
    if proto.data_location.enum_value_or_default() == DataLocation::EXTERNAL {
        return Err("external data was not loaded".to_owned());
    }
    if proto.segment.is_some() {
        return Err("segmented tensors are not supported".to_owned());
    }
    let stored = stored.filter(|_| proto.raw_data.is_empty());
    let Some(dtype) = types::dtype(proto.data_type) else {
        if let Some(Stored { bytes, source }) = stored {
            source.take(bytes).read_to_end(&mut proto.raw_data).map_err(unreadable)?;
        }
        return match proto.data_type {
            0 => Err("element type is missing".to_owned()),
            _ => Ok(Decoded::Foreign),
        };
    };
    let data = match stored {
        Some(stored) => raw(dtype, len, stored)?,
        None if proto.raw_data.is_empty() => typed(proto, dtype, len)?,
        None => in_memory(dtype, len, &std::mem::take(&mut proto.raw_data))?,
    };
    Ok(Decoded::Tensor(Tensor::new(shape, data)))
}

fn unreadable(error: io::Error) -> String {
    format!("can't be read: {error}")
}

fn check_len(got: u64, expected: usize, unit: &str) -> Result<(), String> {
    if usize::try_from(got) == Ok(expected) {
        Ok(())
    } else {
        Err(format!("{got} {unit} stored, the shape needs {expected}"))
    }
}

fn raw(dtype: DType, len: usize, stored: Stored<'_>) -> Result<Data, String> {
    check_len(stored.bytes, dtype.bytes(len), "bytes")?;
    elements(dtype, len, stored.source).map_err(unreadable)
}

fn in_memory(dtype: DType, len: usize, bytes: &[u8]) -> Result<Data, String> {
    raw(dtype, len, Stored { bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX), source: &mut &*bytes })
}

/// Elements as ONNX stores them, little-endian.
fn elements(dtype: DType, len: usize, source: &mut dyn Read) -> io::Result<Data> {
    fn read<const N: usize, T>(len: usize, source: &mut dyn Read, from: impl Fn([u8; N]) -> T) -> io::Result<Vec<T>> {
        let mut elements = Vec::with_capacity(len);
        let mut piece = vec![0; len.saturating_mul(N).min(PIECE)];
        while elements.len() < len {
            let bytes = &mut piece[..(len - elements.len()).saturating_mul(N).min(PIECE)];
            source.read_exact(bytes)?;
            let (chunks, _) = bytes.as_chunks::<N>();
            elements.extend(chunks.iter().map(|&chunk| from(chunk)));
        }
        Ok(elements)
    }
    fn packed(len: usize, source: &mut dyn Read) -> io::Result<Vec<u8>> {
        read(len.div_ceil(2), source, u8::from_le_bytes)
    }
    Ok(match dtype {
        DType::F64 => Data::F64(read(len, source, f64::from_le_bytes)?),
        DType::F32 => Data::F32(read(len, source, f32::from_le_bytes)?),
        DType::F16 => Data::F16(read(len, source, f16::from_le_bytes)?),
        DType::BF16 => Data::BF16(read(len, source, bf16::from_le_bytes)?),
        DType::I64 => Data::I64(read(len, source, i64::from_le_bytes)?),
        DType::I32 => Data::I32(read(len, source, i32::from_le_bytes)?),
        DType::I16 => Data::I16(read(len, source, i16::from_le_bytes)?),
        DType::I8 => Data::I8(read(len, source, i8::from_le_bytes)?),
        DType::U64 => Data::U64(read(len, source, u64::from_le_bytes)?),
        DType::U32 => Data::U32(read(len, source, u32::from_le_bytes)?),
        DType::U16 => Data::U16(read(len, source, u16::from_le_bytes)?),
        DType::U8 => Data::U8(read(len, source, u8::from_le_bytes)?),
        DType::Bool => Data::Bool(read(len, source, |[byte]: [u8; 1]| byte != 0)?),
        DType::I4 => Data::I4(nibbles(&packed(len, source)?, len).map(sign_extend).collect()),
        DType::U4 => Data::U4(nibbles(&packed(len, source)?, len).collect()),
    })
}

/// Two nibbles a byte, the low one first.
fn nibbles(bytes: &[u8], len: usize) -> impl Iterator<Item = u8> + '_ {
    bytes.iter().flat_map(|&b| [b & 15, b >> 4]).take(len)
}

fn sign_extend(nibble: u8) -> i8 {
    (nibble << 4).cast_signed() >> 4
}

fn typed(proto: &mut TensorProto, dtype: DType, len: usize) -> Result<Data, String> {
    let int32 = std::mem::take(&mut proto.int32_data);
    let low_byte = |x: i32| x.to_le_bytes()[0];
    let low_half = |x: i32| u16::from_le_bytes([x.to_le_bytes()[0], x.to_le_bytes()[1]]);
    let stored = match dtype {
        DType::F64 => proto.double_data.len(),
        DType::F32 => proto.float_data.len(),
        DType::I64 => proto.int64_data.len(),
        DType::U64 | DType::U32 => proto.uint64_data.len(),
        _ => int32.len(),
    };
    let expected = if dtype.bits() == 4 { len.div_ceil(2) } else { len };
    check_len(u64::try_from(stored).unwrap_or(u64::MAX), expected, "elements")?;
    let narrow = |what: &str| format!("an element does not fit {what}");
    Ok(match dtype {
        DType::F64 => Data::F64(std::mem::take(&mut proto.double_data)),
        DType::F32 => Data::F32(std::mem::take(&mut proto.float_data)),
        DType::I64 => Data::I64(std::mem::take(&mut proto.int64_data)),
        DType::U64 => Data::U64(std::mem::take(&mut proto.uint64_data)),
        DType::U32 => {
            let narrowed: Result<_, _> = proto.uint64_data.iter().map(|&x| u32::try_from(x)).collect();
            Data::U32(narrowed.map_err(|_| narrow("u32"))?)
        }
        DType::I32 => Data::I32(int32),
        DType::F16 => Data::F16(int32.into_iter().map(|x| f16::from_bits(low_half(x))).collect()),
        DType::BF16 => Data::BF16(int32.into_iter().map(|x| bf16::from_bits(low_half(x))).collect()),
        DType::I16 => Data::I16(int32.into_iter().map(|x| low_half(x).cast_signed()).collect()),
        DType::U16 => Data::U16(int32.into_iter().map(low_half).collect()),
        DType::I8 => Data::I8(int32.into_iter().map(|x| low_byte(x).cast_signed()).collect()),
        DType::U8 => Data::U8(int32.into_iter().map(low_byte).collect()),
        DType::Bool => Data::Bool(int32.into_iter().map(|x| x != 0).collect()),
        DType::I4 | DType::U4 => {
            let bytes: Vec<u8> = int32.into_iter().map(low_byte).collect();
            return in_memory(dtype, len, &bytes);
        }
    })
}

/// A tensor message holding a dense tensor as raw bytes.
pub(super) fn encode(name: &str, shape: &[usize], data: &Data) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect(),
        data_type: types::dtype_code(data.dtype()),
        raw_data: bytes(data),
        ..TensorProto::default()
    }
}

/// The elements as ONNX stores them: little-endian, nibbles packed.
fn bytes(data: &Data) -> Vec<u8> {
    fn write<const N: usize, T: Copy>(v: &[T], to: impl Fn(T) -> [u8; N]) -> Vec<u8> {
        v.iter().map(|&x| to(x)).collect::<Vec<[u8; N]>>().into_flattened()
    }
    fn pack<T: Copy>(v: &[T], nibble: impl Fn(T) -> u8) -> Vec<u8> {
        let pair = |pair: &[T]| {
            let mut nibbles = pair.iter().map(|&x| nibble(x) & 15);
            nibbles.next().unwrap_or(0) | nibbles.next().unwrap_or(0) << 4
        };
        v.chunks(2).map(pair).collect()
    }
    match data {
        Data::F64(v) => write(v, f64::to_le_bytes),
        Data::F32(v) => write(v, f32::to_le_bytes),
        Data::F16(v) => write(v, f16::to_le_bytes),
        Data::BF16(v) => write(v, bf16::to_le_bytes),
        Data::I64(v) => write(v, i64::to_le_bytes),
        Data::I32(v) => write(v, i32::to_le_bytes),
        Data::I16(v) => write(v, i16::to_le_bytes),
        Data::I8(v) => write(v, i8::to_le_bytes),
        Data::U64(v) => write(v, u64::to_le_bytes),
        Data::U32(v) => write(v, u32::to_le_bytes),
        Data::U16(v) => write(v, u16::to_le_bytes),
        Data::U8(v) => v.clone(),
        Data::Bool(v) => v.iter().map(|&x| u8::from(x)).collect(),
        Data::I4(v) => pack(v, i8::cast_unsigned),
        Data::U4(v) => pack(v, |x| x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_survives() {
        let values = [-8.0, -1.0, 0.0, 1.0, 7.0];
        for &dtype in DType::ALL {
            let v: Vec<f64> = if dtype.is_signed() { values.to_vec() } else { values.map(f64::abs).to_vec() };
            let tensor = Tensor::new([5], Data::from_f64(dtype, v));
            let mut proto = encode("t", tensor.shape(), tensor.data());
            let Ok(Decoded::Tensor(back)) = decode(&mut proto) else { panic!("{dtype}") };
            assert_eq!(back, tensor, "{dtype}");
        }
    }

    #[test]
    fn absurd_sizes_are_refused() {
        for dims in [vec![i64::MAX, i64::MAX], vec![-1], vec![0, i64::MAX, i64::MAX], vec![1 << 41]] {
            assert!(shape(&dims).is_err(), "{dims:?}");
        }
        let mut proto = TensorProto { dims: vec![1 << 30], data_type: 1, ..TensorProto::default() };
        assert!(decode(&mut proto).is_err());
        proto.raw_data = vec![0; 6];
        assert!(decode(&mut proto).is_err());
    }
}
