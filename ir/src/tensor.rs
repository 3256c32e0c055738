//! Dense run-time values.

use half::{bf16, f16};

use crate::types::{DType, TensorType};

macro_rules! data {
    ($($variant:ident($ty:ty),)*) => {
        /// Elements in row-major order, by element type. Nibbles take a byte each here.
        #[derive(Debug)]
        pub enum Data { $(
            #[doc = concat!("Elements of type [`DType::", stringify!($variant), "`].")]
            $variant(Vec<$ty>),
        )* }

        impl Data {
            /// The element type.
            pub fn dtype(&self) -> DType {
                match self { $(Data::$variant(_) => DType::$variant,)* }
            }

            /// The number of elements.
            pub fn len(&self) -> usize {
                match self { $(Data::$variant(v) => v.len(),)* }
            }

            /// `len` zeros (or `false`).
            pub fn zeros(dtype: DType, len: usize) -> Data {
                match dtype { $(DType::$variant => Data::$variant(vec![<$ty>::default(); len]),)* }
            }

            /// The elements at `indices`, in that order.
            ///
            /// # Panics
            /// If an index is out of bounds.
            pub fn select(&self, indices: impl IntoIterator<Item = usize>) -> Data {
                match self { $(Data::$variant(v) => Data::$variant(indices.into_iter().map(|i| v[i]).collect()),)* }
            }
        }

        impl Clone for Data {
            fn clone(&self) -> Data {
                match self { $(Data::$variant(v) => Data::$variant(v.clone()),)* }
            }

            /// Uses the memory there is where the element types are the same.
            fn clone_from(&mut self, source: &Data) {
                match (self, source) {
                    $((Data::$variant(to), Data::$variant(from)) => to.clone_from(from),)*
                    (to, from) => *to = from.clone(),
                }
            }
        }
    };
}

data! {
    F64(f64),
    F32(f32),
    F16(f16),
    BF16(bf16),
    I64(i64),
    I32(i32),
    I16(i16),
    I8(i8),
    I4(i8),
    U64(u64),
    U32(u32),
    U16(u16),
    U8(u8),
    U4(u8),
    Bool(bool),
}

/// Runs `$body` with `$v` bound to the elements as a slice, whatever their type; each element type
/// must support what the body does with it.
#[macro_export]
macro_rules! with_elements {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            $crate::Data::F64($v) => $body,
            $crate::Data::F32($v) => $body,
            $crate::Data::F16($v) => $body,
            $crate::Data::BF16($v) => $body,
            $crate::Data::I64($v) => $body,
            $crate::Data::I32($v) => $body,
            $crate::Data::I16($v) => $body,
            $crate::Data::I8($v) => $body,
            $crate::Data::I4($v) => $body,
            $crate::Data::U64($v) => $body,
            $crate::Data::U32($v) => $body,
            $crate::Data::U16($v) => $body,
            $crate::Data::U8($v) => $body,
            $crate::Data::U4($v) => $body,
            $crate::Data::Bool($v) => $body,
        }
    };
}

impl Data {
    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All elements as `f64`; integers beyond 2^53 are rounded, booleans are 0 and 1.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Data::F64(v) => v.clone(),
            Data::F32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::F16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::BF16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::I64(v) => v.iter().map(|&x| x as f64).collect(),
            Data::I32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::I16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::I8(v) | Data::I4(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U64(v) => v.iter().map(|&x| x as f64).collect(),
            Data::U32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U8(v) | Data::U4(v) => v.iter().map(|&x| x.into()).collect(),
            Data::Bool(v) => v.iter().map(|&x| f64::from(u8::from(x))).collect(),
        }
    }

    /// Converts from `f64` as ONNX `Cast` does: to floats by rounding to nearest, to integers by
    /// truncation and wrapping, to `bool` by comparison with zero.
    pub fn from_f64(dtype: DType, v: impl IntoIterator<Item = f64>) -> Data {
        let v = v.into_iter();
        match dtype {
            DType::F64 => Data::F64(v.collect()),
            DType::F32 => Data::F32(v.map(|x| x as f32).collect()),
            DType::F16 => Data::F16(v.map(|x| f16::from_f32(to_odd(x))).collect()),
            DType::BF16 => Data::BF16(v.map(|x| bf16::from_f32(to_odd(x))).collect()),
            DType::Bool => Data::Bool(v.map(|x| x != 0.0).collect()),
            _ => Data::from_i64(dtype, v.map(|x| x as i64)),
        }
    }

    /// Integer elements as `i64` (`bool` as 0 and 1, `u64` wrapped); `None` for floats.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        Some(match self {
            Data::I64(v) => v.clone(),
            Data::I32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::I16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::I8(v) | Data::I4(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U64(v) => v.iter().map(|&x| x as i64).collect(),
            Data::U32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U8(v) | Data::U4(v) => v.iter().map(|&x| x.into()).collect(),
            Data::Bool(v) => v.iter().map(|&x| x.into()).collect(),
            Data::F64(_) | Data::F32(_) | Data::F16(_) | Data::BF16(_) => return None,
        })
    }

    /// Converts from `i64`, wrapping where the type is narrower; to floats by rounding.
    pub fn from_i64(dtype: DType, v: impl IntoIterator<Item = i64>) -> Data {
        let v = v.into_iter();
        match dtype {
            DType::I64 => Data::I64(v.collect()),
            DType::I32 => Data::I32(v.map(|x| x as i32).collect()),
            DType::I16 => Data::I16(v.map(|x| x as i16).collect()),
            DType::I8 => Data::I8(v.map(|x| x as i8).collect()),
            DType::I4 => Data::I4(v.map(|x| ((x << 60) >> 60) as i8).collect()),
            DType::U64 => Data::U64(v.map(|x| x as u64).collect()),
            DType::U32 => Data::U32(v.map(|x| x as u32).collect()),
            DType::U16 => Data::U16(v.map(|x| x as u16).collect()),
            DType::U8 => Data::U8(v.map(|x| x as u8).collect()),
            DType::U4 => Data::U4(v.map(|x| (x & 15) as u8).collect()),
            DType::Bool => Data::Bool(v.map(|x| x != 0).collect()),
            DType::F64 => Data::F64(v.map(|x| x as f64).collect()),
            DType::F32 => Data::F32(v.map(|x| x as f32).collect()),
            DType::F16 => Data::F16(v.map(|x| f16::from_f64(x as f64)).collect()),
            DType::BF16 => Data::BF16(v.map(|x| bf16::from_f64(x as f64)).collect()),
        }
    }

    /// The elements, if they are `f32`.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match self {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }
}

/// The `f32` next to `x` whose last bit is odd, unless `x` is itself an `f32`: rounding the result to a type
/// of at most 22 bits is rounding `x` (Boldo and Melquiond, "When double rounding is odd"). The conversions
/// of the `half` crate drop the low half of an `f64` instead.
pub(crate) fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) == x || !near.is_finite() {
        return near;
    }
    let away = f64::from(near).abs() > x.abs();
    f32::from_bits((near.to_bits() - u32::from(away)) | 1)
}

/// Bitwise: a NaN equals itself, and `0.0` differs from `-0.0`.
impl PartialEq for Data {
    fn eq(&self, other: &Data) -> bool {
        fn bits<T: Copy, B: PartialEq>(a: &[T], b: &[T], f: impl Fn(T) -> B) -> bool {
            a.len() == b.len() && a.iter().zip(b).all(|(&x, &y)| f(x) == f(y))
        }
        match (self, other) {
            (Data::F64(a), Data::F64(b)) => bits(a, b, f64::to_bits),
            (Data::F32(a), Data::F32(b)) => bits(a, b, f32::to_bits),
            (Data::F16(a), Data::F16(b)) => bits(a, b, f16::to_bits),
            (Data::BF16(a), Data::BF16(b)) => bits(a, b, bf16::to_bits),
            (Data::I64(a), Data::I64(b)) => a == b,
            (Data::I32(a), Data::I32(b)) => a == b,
            (Data::I16(a), Data::I16(b)) => a == b,
            (Data::I8(a), Data::I8(b)) | (Data::I4(a), Data::I4(b)) => a == b,
            (Data::U64(a), Data::U64(b)) => a == b,
            (Data::U32(a), Data::U32(b)) => a == b,
            (Data::U16(a), Data::U16(b)) => a == b,
            (Data::U8(a), Data::U8(b)) | (Data::U4(a), Data::U4(b)) => a == b,
            (Data::Bool(a), Data::Bool(b)) => a == b,
            _ => false,
        }
    }
}

/// A dense tensor. The product of `shape` equals the number of elements.
#[derive(Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Clone for Tensor {
    fn clone(&self) -> Tensor {
        Tensor { shape: self.shape.clone(), data: self.data.clone() }
    }

    /// Uses the memory there is where the element types are the same.
    fn clone_from(&mut self, source: &Tensor) {
        self.shape.clone_from(&source.shape);
        self.data.clone_from(&source.data);
    }
}

impl Tensor {
    /// A tensor of these parts.
    ///
    /// # Panics
    /// If the product of `shape` is not the number of elements.
    pub fn new(shape: impl Into<Vec<usize>>, data: Data) -> Tensor {
        let shape = shape.into();
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "shape {shape:?} does not hold {} elements",
            data.len()
        );
        Tensor { shape, data }
    }

    /// A tensor of `f32`. Panics as [`Tensor::new`].
    pub fn f32(shape: impl Into<Vec<usize>>, data: impl Into<Vec<f32>>) -> Tensor {
        Tensor::new(shape, Data::F32(data.into()))
    }

    /// A tensor of `i64`. Panics as [`Tensor::new`].
    pub fn i64(shape: impl Into<Vec<usize>>, data: impl Into<Vec<i64>>) -> Tensor {
        Tensor::new(shape, Data::I64(data.into()))
    }

    /// A tensor of zeros.
    pub fn zeros(dtype: DType, shape: impl Into<Vec<usize>>) -> Tensor {
        let shape = shape.into();
        let len = shape.iter().product();
        Tensor { shape, data: Data::zeros(dtype, len) }
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The type.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype(), self.shape.iter().copied())
    }

    /// The elements, row-major.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The elements, to change in place.
    pub fn data_mut(&mut self) -> &mut Data {
        &mut self.data
    }

    /// Shape and elements, taken apart.
    pub fn into_parts(self) -> (Vec<usize>, Data) {
        (self.shape, self.data)
    }

    /// The elements, if they are `f32`.
    pub fn as_f32(&self) -> Option<&[f32]> {
        self.data.as_f32()
    }

    /// The same elements in another shape of as many elements. Panics as [`Tensor::new`].
    pub fn reshaped(self, shape: impl Into<Vec<usize>>) -> Tensor {
        Tensor::new(shape, self.data)
    }
}
