//! Elements as text. What [`Element::write`] writes, [`Element::read`] reads back bit by bit.

use std::fmt::Write;

use half::{bf16, f16};

use crate::op::attr::{format_f32, format_f64};

/// An element of a constant.
pub(super) trait Element: Copy {
    /// What the text must hold, for error messages.
    const EXPECTS: &'static str;
    /// Appends the shortest text that reads back exactly.
    fn write(self, out: &mut String);
    /// The inverse of `write`.
    fn read(text: &str) -> Option<Self>;
    /// Whether both have the same bits.
    fn same(self, other: Self) -> bool;
}

macro_rules! integers {
    ($($ty:ty)*) => {$(
        impl Element for $ty {
            const EXPECTS: &'static str = concat!("an integer that fits ", stringify!($ty));
            fn write(self, out: &mut String) {
                push(out, format_args!("{self}"));
            }
            fn read(text: &str) -> Option<$ty> {
                text.parse().ok()
            }
            fn same(self, other: $ty) -> bool {
                self == other
            }
        }
    )*};
}

integers! { i64 i32 i16 i8 u64 u32 u16 u8 }

impl Element for bool {
    const EXPECTS: &'static str = "true or false";
    fn write(self, out: &mut String) {
        push(out, format_args!("{self}"));
    }
    fn read(text: &str) -> Option<bool> {
        text.parse().ok()
    }
    fn same(self, other: bool) -> bool {
        self == other
    }
}

// A NaN with other bits than the canonical one, and any bits whatever in `read`, are written in
// hexadecimal; text of a finite number that would become infinite is refused.
macro_rules! floats {
    ($($ty:ident $bits:ident $decimal:expr, $parse:expr;)*) => {$(
        impl Element for $ty {
            const EXPECTS: &'static str = concat!("a number that fits ", stringify!($ty));
            fn write(self, out: &mut String) {
                if self.is_nan() && !self.same($ty::NAN) {
                    push(out, format_args!("{:#x}", self.to_bits()));
                } else if self.is_nan() {
                    out.push_str("nan");
                } else {
                    out.push_str(&$decimal(self));
                }
            }
            fn read(text: &str) -> Option<$ty> {
                if let Some(hex) = text.strip_prefix("0x") {
                    return $bits::from_str_radix(hex, 16).ok().map($ty::from_bits);
                }
                match text {
                    "nan" => Some($ty::NAN),
                    "inf" => Some($ty::INFINITY),
                    "-inf" => Some($ty::NEG_INFINITY),
                    _ => $parse(text).filter(|x: &$ty| x.is_finite()),
                }
            }
            fn same(self, other: $ty) -> bool {
                self.to_bits() == other.to_bits()
            }
        }
    )*};
}

floats! {
    f64 u64 format_f64, |text: &str| text.parse().ok();
    f32 u32 format_f32, |text: &str| text.parse().ok();
    f16 u16 |x: f16| shortest(x.to_f64(), |y| f16::from_f64(y).same(x)), |text: &str| text.parse().ok().map(f16::from_f64);
    bf16 u16 |x: bf16| shortest(x.to_f64(), |y| bf16::from_f64(y).same(x)), |text: &str| text.parse().ok().map(bf16::from_f64);
}

/// The decimal number with the fewest digits that `reads_back`.
fn shortest(x: f64, reads_back: impl Fn(f64) -> bool) -> String {
    let rounded = (0..17).filter_map(|digits| format!("{x:.digits$e}").parse().ok()).find(|&y| reads_back(y));
    format_f64(rounded.unwrap_or(x))
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T: Element>(x: T) -> String {
        let mut out = String::new();
        x.write(&mut out);
        out
    }

    #[test]
    fn every_half_precision_number_reads_back() {
        for bits in 0..=u16::MAX {
            let (x, y) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert!(f16::read(&text(x)).is_some_and(|back| back.same(x)), "{bits:#x} {}", text(x));
            assert!(bf16::read(&text(y)).is_some_and(|back| back.same(y)), "{bits:#x} {}", text(y));
        }
        assert_eq!(text(f16::from_f64(0.1)), "0.1");
    }

    #[test]
    fn special_numbers_have_words_of_their_own() {
        assert_eq!(text(f32::NAN), "nan");
        assert_eq!(text(f32::from_bits(0xffc0_0001)), "0xffc00001");
        assert_eq!(text(-0.0f32), "-0");
        assert!(f32::read("-0").is_some_and(|x| x.same(-0.0)));
        assert_eq!(text(f64::NEG_INFINITY), "-inf");
        assert!(f32::read("0x7f800001").is_some_and(f32::is_nan));
        for refused in ["1e40", "", "+inf", "infinity", "0x1ffffffff", "1_0"] {
            assert!(f32::read(refused).is_none(), "{refused}");
        }
        assert!(i8::read("128").is_none());
    }
}
