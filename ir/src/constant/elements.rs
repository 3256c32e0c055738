//! Elements as bits: a total order on them, and their bytes in files.

use half::{bf16, f16};

use crate::tensor::Data;
use crate::types::DType;

/// An element type, as the encodings see it.
pub(super) trait Element: Copy + Default {
    /// Bits whose order as integers is a total order of the elements: that of `total_cmp` for floats,
    /// which tells `-0` from `+0` and one NaN from another.
    type Key: Copy + Ord;

    /// The bits.
    fn key(self) -> Self::Key;

    /// Whether it differs from zero as a number; `-0` does not.
    fn is_nonzero(self) -> bool;

    /// Whether all bits are zero.
    fn is_blank(self) -> bool {
        self.key() == Self::default().key()
    }
}

macro_rules! float_element {
    ($($ty:ty, $key:ty, $sign:literal;)*) => {$(
        impl Element for $ty {
            type Key = $key;
            fn key(self) -> $key {
                let bits = self.to_bits();
                // Negative numbers descend as their bits ascend.
                if bits & $sign == 0 { bits | $sign } else { !bits }
            }
            fn is_nonzero(self) -> bool {
                self.to_bits() & !$sign != 0
            }
        }
    )*};
}

float_element! {
    f64, u64, 0x8000_0000_0000_0000;
    f32, u32, 0x8000_0000;
    f16, u16, 0x8000;
    bf16, u16, 0x8000;
}

macro_rules! plain_element {
    ($($ty:ty)*) => {$(
        impl Element for $ty {
            type Key = $ty;
            fn key(self) -> $ty {
                self
            }
            fn is_nonzero(self) -> bool {
                self != <$ty>::default()
            }
        }
    )*};
}

plain_element!(i64 i32 i16 i8 u64 u32 u16 u8 bool);

/// As [`with_elements!`](crate::with_elements), and puts what the body makes back into the same variant.
macro_rules! map_elements {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            Data::F64($v) => Data::F64($body),
            Data::F32($v) => Data::F32($body),
            Data::F16($v) => Data::F16($body),
            Data::BF16($v) => Data::BF16($body),
            Data::I64($v) => Data::I64($body),
            Data::I32($v) => Data::I32($body),
            Data::I16($v) => Data::I16($body),
            Data::I8($v) => Data::I8($body),
            Data::I4($v) => Data::I4($body),
            Data::U64($v) => Data::U64($body),
            Data::U32($v) => Data::U32($body),
            Data::U16($v) => Data::U16($body),
            Data::U8($v) => Data::U8($body),
            Data::U4($v) => Data::U4($body),
            Data::Bool($v) => Data::Bool($body),
        }
    };
}
pub(super) use map_elements;

fn put<T: Copy, const N: usize>(out: &mut Vec<u8>, v: &[T], bytes: impl Fn(T) -> [u8; N]) {
    let start = out.len();
    out.resize(start + v.len() * N, 0);
    for (to, &x) in out[start..].chunks_exact_mut(N).zip(v) {
        to.copy_from_slice(&bytes(x));
    }
}

fn take<T, const N: usize>(bytes: &[u8], element: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&chunk| element(chunk)).collect()
}

fn put_nibbles(out: &mut Vec<u8>, v: impl Iterator<Item = u8>) {
    let mut low = None;
    for nibble in v {
        match low.take() {
            None => low = Some(nibble & 15),
            Some(low) => out.push(low | nibble << 4),
        }
    }
    out.extend(low);
}

fn take_nibbles(bytes: &[u8], len: usize) -> impl Iterator<Item = u8> {
    bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]).take(len)
}

impl Data {
    /// Appends elements `range` as they stand in a dense file: little-endian, nibbles two to a byte with
    /// the low half first, `bool` as a byte of 0 or 1.
    ///
    /// # Panics
    /// If the range is out of bounds.
    pub fn write_le(&self, range: std::ops::Range<usize>, out: &mut Vec<u8>) {
        match self {
            Data::F64(v) => put(out, &v[range], f64::to_le_bytes),
            Data::F32(v) => put(out, &v[range], f32::to_le_bytes),
            Data::F16(v) => put(out, &v[range], f16::to_le_bytes),
            Data::BF16(v) => put(out, &v[range], bf16::to_le_bytes),
            Data::I64(v) => put(out, &v[range], i64::to_le_bytes),
            Data::I32(v) => put(out, &v[range], i32::to_le_bytes),
            Data::I16(v) => put(out, &v[range], i16::to_le_bytes),
            Data::I8(v) => put(out, &v[range], i8::to_le_bytes),
            Data::U64(v) => put(out, &v[range], u64::to_le_bytes),
            Data::U32(v) => put(out, &v[range], u32::to_le_bytes),
            Data::U16(v) => put(out, &v[range], u16::to_le_bytes),
            Data::U8(v) => out.extend_from_slice(&v[range]),
            Data::Bool(v) => put(out, &v[range], |x| [u8::from(x)]),
            Data::I4(v) => put_nibbles(out, v[range].iter().map(|x| x.to_le_bytes()[0])),
            Data::U4(v) => put_nibbles(out, v[range].iter().copied()),
        }
    }

    /// The inverse of [`Data::write_le`]: `len` elements, or `None` if the number of bytes is not
    /// [`DType::bytes`] of it or a `bool` is neither 0 nor 1.
    pub fn read_le(dtype: DType, len: usize, bytes: &[u8]) -> Option<Data> {
        if dtype.bytes(len) != bytes.len() {
            return None;
        }
        Some(match dtype {
            DType::F64 => Data::F64(take(bytes, f64::from_le_bytes)),
            DType::F32 => Data::F32(take(bytes, f32::from_le_bytes)),
            DType::F16 => Data::F16(take(bytes, f16::from_le_bytes)),
            DType::BF16 => Data::BF16(take(bytes, bf16::from_le_bytes)),
            DType::I64 => Data::I64(take(bytes, i64::from_le_bytes)),
            DType::I32 => Data::I32(take(bytes, i32::from_le_bytes)),
            DType::I16 => Data::I16(take(bytes, i16::from_le_bytes)),
            DType::I8 => Data::I8(take(bytes, i8::from_le_bytes)),
            DType::U64 => Data::U64(take(bytes, u64::from_le_bytes)),
            DType::U32 => Data::U32(take(bytes, u32::from_le_bytes)),
            DType::U16 => Data::U16(take(bytes, u16::from_le_bytes)),
            DType::U8 => Data::U8(bytes.to_vec()),
            DType::Bool if bytes.iter().all(|&b| b <= 1) => Data::Bool(take(bytes, |[b]: [u8; 1]| b != 0)),
            DType::Bool => return None,
            DType::I4 => Data::I4(take_nibbles(bytes, len).map(|n| i8::from_le_bytes([n << 4]) >> 4).collect()),
            DType::U4 => Data::U4(take_nibbles(bytes, len).collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_floats_as_total_cmp_does() {
        let x = [
            f32::from_bits(0xffc0_0001),
            -f32::NAN,
            f32::NEG_INFINITY,
            -1.0,
            -f32::MIN_POSITIVE,
            -0.0,
            0.0,
            1e-45,
            1.0,
            f32::INFINITY,
            f32::NAN,
        ];
        for a in x {
            for b in x {
                assert_eq!(a.key().cmp(&b.key()), a.total_cmp(&b), "{a} {b}");
            }
        }
        assert!(!(-0.0f32).is_nonzero() && f32::NAN.is_nonzero() && !(-0.0f32).is_blank());
    }

    #[test]
    fn bytes_come_back_for_every_type() {
        for &dtype in DType::ALL {
            for len in [0, 1, 2, 7] {
                let data = Data::from_i64(dtype, (0..len).map(|i| i - 3));
                let mut bytes = Vec::new();
                data.write_le(0..data.len(), &mut bytes);
                assert_eq!(Data::read_le(dtype, data.len(), &bytes), Some(data.clone()), "{dtype}");
                bytes.push(0);
                assert_eq!(Data::read_le(dtype, data.len(), &bytes), None, "{dtype}");
            }
        }
        assert_eq!(Data::read_le(DType::Bool, 1, &[2]), None);
        assert_eq!(Data::read_le(DType::F32, usize::MAX, &[2]), None);
    }
}
