//! Element types as the evaluation of operators sees them: floats through `f64`, integers exactly.

use half::{bf16, f16};

use crate::tensor::{Data, to_odd};

/// A floating-point element: computed with in `f64`, then rounded once.
pub(super) trait Float: Copy {
    /// The same number.
    fn wide(self) -> f64;
    /// The nearest number of this type.
    fn narrow(x: f64) -> Self;
}

macro_rules! float {
    ($($ty:ty: $wide:expr, $narrow:expr;)*) => {$(
        impl Float for $ty {
            fn wide(self) -> f64 {
                $wide(self)
            }
            fn narrow(x: f64) -> $ty {
                $narrow(x)
            }
        }
    )*};
}

float! {
    f64: |x| x, |x| x;
    f32: f64::from, |x| x as f32;
    f16: f16::to_f64, |x| f16::from_f32(to_odd(x));
    bf16: bf16::to_f64, |x| bf16::from_f32(to_odd(x));
}

/// An integer element. Sums, products and the like wrap.
pub(super) trait Int: Copy + Ord {
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// The quotient, truncated; `other` is not zero.
    fn div(self, other: Self) -> Self;
    /// The remainder with the sign of `self`; `other` is not zero.
    fn rem(self, other: Self) -> Self;
    /// The remainder with the sign of `other`, which is not zero.
    fn modulo(self, other: Self) -> Self;
    /// `self` to a power that is not negative.
    fn power(self, exponent: u64) -> Self;
    fn abs(self) -> Self;
    fn neg(self) -> Self;
    fn sign(self) -> Self;
    /// Towards the high bits; nothing is left once all bits are out.
    fn shl(self, by: Self) -> Self;
    /// Towards the low bits; nothing is left once all bits are out.
    fn shr(self, by: Self) -> Self;
    fn wide(self) -> i128;
    /// Wraps.
    fn narrow(x: i128) -> Self;
}

macro_rules! int {
    ($abs:expr, $neg:expr, $sign:expr; $($ty:ident)*) => {$(
        impl Int for $ty {
            fn add(self, other: $ty) -> $ty {
                self.wrapping_add(other)
            }
            fn sub(self, other: $ty) -> $ty {
                self.wrapping_sub(other)
            }
            fn mul(self, other: $ty) -> $ty {
                self.wrapping_mul(other)
            }
            fn div(self, other: $ty) -> $ty {
                self.wrapping_div(other)
            }
            fn rem(self, other: $ty) -> $ty {
                self.wrapping_rem(other)
            }
            fn modulo(self, other: $ty) -> $ty {
                let rem = self.wrapping_rem(other);
                // The types that know no negative numbers never take the second branch.
                if rem == 0 || (rem < 1) == (other < 1) { rem } else { rem.wrapping_add(other) }
            }
            fn power(self, mut exponent: u64) -> $ty {
                let (mut power, mut square): ($ty, $ty) = (1, self);
                while exponent > 0 {
                    if exponent & 1 == 1 {
                        power = power.wrapping_mul(square);
                    }
                    square = square.wrapping_mul(square);
                    exponent >>= 1;
                }
                power
            }
            fn abs(self) -> $ty {
                $abs(self)
            }
            fn neg(self) -> $ty {
                self.wrapping_neg()
            }
            fn sign(self) -> $ty {
                $sign(self)
            }
            fn shl(self, by: $ty) -> $ty {
                u32::try_from(by).ok().and_then(|by| self.checked_shl(by)).unwrap_or(0)
            }
            fn shr(self, by: $ty) -> $ty {
                u32::try_from(by).ok().and_then(|by| self.checked_shr(by)).unwrap_or(0)
            }
            fn wide(self) -> i128 {
                self.into()
            }
            fn narrow(x: i128) -> $ty {
                x as $ty
            }
        }
    )*};
}

int! { |x: Self| x.wrapping_abs(), |x: Self| x.wrapping_neg(), |x: Self| x.signum(); i64 i32 i16 i8 }
int! { |x| x, |x: Self| x.wrapping_neg(), |x: Self| x.min(1); u64 u32 u16 u8 }

/// Elements that combine pairwise: numbers of any type that operators compute with.
pub(super) trait Number: Copy {
    /// The sum.
    fn plus(self, other: Self) -> Self;
    /// The product.
    fn times(self, other: Self) -> Self;
    /// The larger; NaN if one is.
    fn larger(self, other: Self) -> Self;
    /// The smaller; NaN if one is.
    fn smaller(self, other: Self) -> Self;
}

macro_rules! number {
    (float $($ty:ty)*) => {$(
        impl Number for $ty {
            fn plus(self, other: $ty) -> $ty {
                Float::narrow(self.wide() + other.wide())
            }
            fn times(self, other: $ty) -> $ty {
                Float::narrow(self.wide() * other.wide())
            }
            fn larger(self, other: $ty) -> $ty {
                if self.is_nan() || self > other { self } else { other }
            }
            fn smaller(self, other: $ty) -> $ty {
                if self.is_nan() || self < other { self } else { other }
            }
        }
    )*};
    (int $($ty:ty)*) => {$(
        impl Number for $ty {
            fn plus(self, other: $ty) -> $ty {
                self.wrapping_add(other)
            }
            fn times(self, other: $ty) -> $ty {
                self.wrapping_mul(other)
            }
            fn larger(self, other: $ty) -> $ty {
                self.max(other)
            }
            fn smaller(self, other: $ty) -> $ty {
                self.min(other)
            }
        }
    )*};
}

number! { float f64 f32 f16 bf16 }
number! { int i64 i32 i16 i8 u64 u32 u16 u8 }

/// An element of any type.
pub(super) trait Element: Copy {
    /// The elements of a tensor known to hold this type.
    fn slice(data: &Data) -> &[Self];
}

macro_rules! element {
    ($($ty:ty: $($variant:ident)*;)*) => {$(
        impl Element for $ty {
            fn slice(data: &Data) -> &[$ty] {
                match data {
                    $(Data::$variant(v) => v,)*
                    _ => unreachable!("the type rule admits operands of one element type only"),
                }
            }
        }
    )*};
}

element! {
    f64: F64;
    f32: F32;
    f16: F16;
    bf16: BF16;
    i64: I64;
    i32: I32;
    i16: I16;
    i8: I8 I4;
    u64: U64;
    u32: U32;
    u16: U16;
    u8: U8 U4;
    bool: Bool;
}

/// Maps elements of any type to elements of the same type: `$body` is a vector made of the slice `$v`.
macro_rules! map_data {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            $crate::tensor::Data::F64($v) => $crate::tensor::Data::F64($body),
            $crate::tensor::Data::F32($v) => $crate::tensor::Data::F32($body),
            $crate::tensor::Data::F16($v) => $crate::tensor::Data::F16($body),
            $crate::tensor::Data::BF16($v) => $crate::tensor::Data::BF16($body),
            $crate::tensor::Data::I64($v) => $crate::tensor::Data::I64($body),
            $crate::tensor::Data::I32($v) => $crate::tensor::Data::I32($body),
            $crate::tensor::Data::I16($v) => $crate::tensor::Data::I16($body),
            $crate::tensor::Data::I8($v) => $crate::tensor::Data::I8($body),
            $crate::tensor::Data::I4($v) => $crate::tensor::Data::I4($body),
            $crate::tensor::Data::U64($v) => $crate::tensor::Data::U64($body),
            $crate::tensor::Data::U32($v) => $crate::tensor::Data::U32($body),
            $crate::tensor::Data::U16($v) => $crate::tensor::Data::U16($body),
            $crate::tensor::Data::U8($v) => $crate::tensor::Data::U8($body),
            $crate::tensor::Data::U4($v) => $crate::tensor::Data::U4($body),
            $crate::tensor::Data::Bool($v) => $crate::tensor::Data::Bool($body),
        }
    };
}

/// Maps numbers to elements of the same type, floats by one body and integers by another.
macro_rules! map_numbers {
    ($data:expr, $v:ident => float $float:expr, int $int:expr) => {
        match $data {
            $crate::tensor::Data::F64($v) => $crate::tensor::Data::F64($float),
            $crate::tensor::Data::F32($v) => $crate::tensor::Data::F32($float),
            $crate::tensor::Data::F16($v) => $crate::tensor::Data::F16($float),
            $crate::tensor::Data::BF16($v) => $crate::tensor::Data::BF16($float),
            $crate::tensor::Data::I64($v) => $crate::tensor::Data::I64($int),
            $crate::tensor::Data::I32($v) => $crate::tensor::Data::I32($int),
            $crate::tensor::Data::I16($v) => $crate::tensor::Data::I16($int),
            $crate::tensor::Data::I8($v) => $crate::tensor::Data::I8($int),
            $crate::tensor::Data::U64($v) => $crate::tensor::Data::U64($int),
            $crate::tensor::Data::U32($v) => $crate::tensor::Data::U32($int),
            $crate::tensor::Data::U16($v) => $crate::tensor::Data::U16($int),
            $crate::tensor::Data::U8($v) => $crate::tensor::Data::U8($int),
            $crate::tensor::Data::I4(_) | $crate::tensor::Data::U4(_) | $crate::tensor::Data::Bool(_) => {
                unreachable!("the type rule admits numbers only")
            }
        }
    };
}

/// Maps two operands of one element type to elements of that type.
macro_rules! zip_data {
    (($a:expr, $b:expr), $x:ident, $y:ident => $body:expr) => {
        match ($a, $b) {
            ($crate::tensor::Data::F64($x), $crate::tensor::Data::F64($y)) => $crate::tensor::Data::F64($body),
            ($crate::tensor::Data::F32($x), $crate::tensor::Data::F32($y)) => $crate::tensor::Data::F32($body),
            ($crate::tensor::Data::F16($x), $crate::tensor::Data::F16($y)) => $crate::tensor::Data::F16($body),
            ($crate::tensor::Data::BF16($x), $crate::tensor::Data::BF16($y)) => $crate::tensor::Data::BF16($body),
            ($crate::tensor::Data::I64($x), $crate::tensor::Data::I64($y)) => $crate::tensor::Data::I64($body),
            ($crate::tensor::Data::I32($x), $crate::tensor::Data::I32($y)) => $crate::tensor::Data::I32($body),
            ($crate::tensor::Data::I16($x), $crate::tensor::Data::I16($y)) => $crate::tensor::Data::I16($body),
            ($crate::tensor::Data::I8($x), $crate::tensor::Data::I8($y)) => $crate::tensor::Data::I8($body),
            ($crate::tensor::Data::I4($x), $crate::tensor::Data::I4($y)) => $crate::tensor::Data::I4($body),
            ($crate::tensor::Data::U64($x), $crate::tensor::Data::U64($y)) => $crate::tensor::Data::U64($body),
            ($crate::tensor::Data::U32($x), $crate::tensor::Data::U32($y)) => $crate::tensor::Data::U32($body),
            ($crate::tensor::Data::U16($x), $crate::tensor::Data::U16($y)) => $crate::tensor::Data::U16($body),
            ($crate::tensor::Data::U8($x), $crate::tensor::Data::U8($y)) => $crate::tensor::Data::U8($body),
            ($crate::tensor::Data::U4($x), $crate::tensor::Data::U4($y)) => $crate::tensor::Data::U4($body),
            ($crate::tensor::Data::Bool($x), $crate::tensor::Data::Bool($y)) => $crate::tensor::Data::Bool($body),
            _ => unreachable!("the type rule admits operands of one element type only"),
        }
    };
}

/// Maps two operands of one numeric type to elements of that type, floats by one body and integers by
/// another.
macro_rules! zip_numbers {
    (($a:expr, $b:expr), $x:ident, $y:ident => float $float:expr, int $int:expr) => {
        match ($a, $b) {
            ($crate::tensor::Data::F64($x), $crate::tensor::Data::F64($y)) => $crate::tensor::Data::F64($float),
            ($crate::tensor::Data::F32($x), $crate::tensor::Data::F32($y)) => $crate::tensor::Data::F32($float),
            ($crate::tensor::Data::F16($x), $crate::tensor::Data::F16($y)) => $crate::tensor::Data::F16($float),
            ($crate::tensor::Data::BF16($x), $crate::tensor::Data::BF16($y)) => $crate::tensor::Data::BF16($float),
            ($crate::tensor::Data::I64($x), $crate::tensor::Data::I64($y)) => $crate::tensor::Data::I64($int),
            ($crate::tensor::Data::I32($x), $crate::tensor::Data::I32($y)) => $crate::tensor::Data::I32($int),
            ($crate::tensor::Data::I16($x), $crate::tensor::Data::I16($y)) => $crate::tensor::Data::I16($int),
            ($crate::tensor::Data::I8($x), $crate::tensor::Data::I8($y)) => $crate::tensor::Data::I8($int),
            ($crate::tensor::Data::U64($x), $crate::tensor::Data::U64($y)) => $crate::tensor::Data::U64($int),
            ($crate::tensor::Data::U32($x), $crate::tensor::Data::U32($y)) => $crate::tensor::Data::U32($int),
            ($crate::tensor::Data::U16($x), $crate::tensor::Data::U16($y)) => $crate::tensor::Data::U16($int),
            ($crate::tensor::Data::U8($x), $crate::tensor::Data::U8($y)) => $crate::tensor::Data::U8($int),
            _ => unreachable!("the type rule admits numbers of one type only"),
        }
    };
}

/// Maps floats to floats of the same type.
macro_rules! map_floats {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            $crate::tensor::Data::F64($v) => $crate::tensor::Data::F64($body),
            $crate::tensor::Data::F32($v) => $crate::tensor::Data::F32($body),
            $crate::tensor::Data::F16($v) => $crate::tensor::Data::F16($body),
            $crate::tensor::Data::BF16($v) => $crate::tensor::Data::BF16($body),
            _ => unreachable!("the type rule admits floats only"),
        }
    };
}

/// Maps integers to integers of the same type.
macro_rules! map_ints {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            $crate::tensor::Data::I64($v) => $crate::tensor::Data::I64($body),
            $crate::tensor::Data::I32($v) => $crate::tensor::Data::I32($body),
            $crate::tensor::Data::I16($v) => $crate::tensor::Data::I16($body),
            $crate::tensor::Data::I8($v) => $crate::tensor::Data::I8($body),
            $crate::tensor::Data::U64($v) => $crate::tensor::Data::U64($body),
            $crate::tensor::Data::U32($v) => $crate::tensor::Data::U32($body),
            $crate::tensor::Data::U16($v) => $crate::tensor::Data::U16($body),
            $crate::tensor::Data::U8($v) => $crate::tensor::Data::U8($body),
            _ => unreachable!("the type rule admits integers only"),
        }
    };
}

/// Maps two operands of one integer type to elements of that type.
macro_rules! zip_ints {
    (($a:expr, $b:expr), $x:ident, $y:ident => $body:expr) => {
        match ($a, $b) {
            ($crate::tensor::Data::I64($x), $crate::tensor::Data::I64($y)) => $crate::tensor::Data::I64($body),
            ($crate::tensor::Data::I32($x), $crate::tensor::Data::I32($y)) => $crate::tensor::Data::I32($body),
            ($crate::tensor::Data::I16($x), $crate::tensor::Data::I16($y)) => $crate::tensor::Data::I16($body),
            ($crate::tensor::Data::I8($x), $crate::tensor::Data::I8($y)) => $crate::tensor::Data::I8($body),
            ($crate::tensor::Data::U64($x), $crate::tensor::Data::U64($y)) => $crate::tensor::Data::U64($body),
            ($crate::tensor::Data::U32($x), $crate::tensor::Data::U32($y)) => $crate::tensor::Data::U32($body),
            ($crate::tensor::Data::U16($x), $crate::tensor::Data::U16($y)) => $crate::tensor::Data::U16($body),
            ($crate::tensor::Data::U8($x), $crate::tensor::Data::U8($y)) => $crate::tensor::Data::U8($body),
            _ => unreachable!("the type rule admits integers of one type only"),
        }
    };
}

/// Runs `$body` with the elements of two operands of one type.
macro_rules! with_pair {
    (($a:expr, $b:expr), $x:ident, $y:ident => $body:expr) => {
        match ($a, $b) {
            ($crate::tensor::Data::F64($x), $crate::tensor::Data::F64($y)) => $body,
            ($crate::tensor::Data::F32($x), $crate::tensor::Data::F32($y)) => $body,
            ($crate::tensor::Data::F16($x), $crate::tensor::Data::F16($y)) => $body,
            ($crate::tensor::Data::BF16($x), $crate::tensor::Data::BF16($y)) => $body,
            ($crate::tensor::Data::I64($x), $crate::tensor::Data::I64($y)) => $body,
            ($crate::tensor::Data::I32($x), $crate::tensor::Data::I32($y)) => $body,
            ($crate::tensor::Data::I16($x), $crate::tensor::Data::I16($y)) => $body,
            ($crate::tensor::Data::I8($x), $crate::tensor::Data::I8($y)) => $body,
            ($crate::tensor::Data::I4($x), $crate::tensor::Data::I4($y)) => $body,
            ($crate::tensor::Data::U64($x), $crate::tensor::Data::U64($y)) => $body,
            ($crate::tensor::Data::U32($x), $crate::tensor::Data::U32($y)) => $body,
            ($crate::tensor::Data::U16($x), $crate::tensor::Data::U16($y)) => $body,
            ($crate::tensor::Data::U8($x), $crate::tensor::Data::U8($y)) => $body,
            ($crate::tensor::Data::U4($x), $crate::tensor::Data::U4($y)) => $body,
            ($crate::tensor::Data::Bool($x), $crate::tensor::Data::Bool($y)) => $body,
            _ => unreachable!("the type rule admits operands of one element type only"),
        }
    };
}

pub(super) use {map_data, map_floats, map_ints, map_numbers, with_pair, zip_data, zip_ints, zip_numbers};
