//! Conversion of element types.

use half::{bf16, f16};

use crate::tensor::Data;
use crate::types::DType;

/// Converts elements: integers to narrower integers by wrapping, floats to integers by truncation, to
/// nibbles by rounding and saturation, anything to floats by rounding once, to `bool` by comparison with
/// zero. A float beyond the range of an integer type has no defined image in ONNX; it goes through `i64`
/// (`u64` for that type) and wraps, as the conversion instructions of common machines do for narrow types.
pub(super) fn eval(x: &Data, to: DType) -> Data {
    if x.dtype() == to {
        return x.clone();
    }
    match (x, to) {
        (Data::U64(x), to) if to.is_float() => match to {
            DType::F64 => Data::F64(x.iter().map(|&x| x as f64).collect()),
            DType::F32 => Data::F32(x.iter().map(|&x| x as f32).collect()),
            _ => Data::from_f64(to, x.iter().map(|&x| x as f64)),
        },
        (Data::F32(x), DType::F16) => Data::F16(x.iter().map(|&x| f16::from_f32(x)).collect()),
        (Data::F32(x), DType::BF16) => Data::BF16(x.iter().map(|&x| bf16::from_f32(x)).collect()),
        (x, DType::I4 | DType::U4) if x.dtype().is_float() => {
            let (low, high) = if to == DType::I4 { (-8.0, 7.0) } else { (0.0, 15.0) };
            Data::from_i64(to, x.to_f64().into_iter().map(|x| x.clamp(low, high).round_ties_even() as i64))
        }
        (x, DType::U64) if x.dtype().is_float() => {
            let unsigned = |x: f64| if x < 0.0 { x as i64 as u64 } else { x as u64 };
            Data::U64(x.to_f64().into_iter().map(unsigned).collect())
        }
        (x, to) => match x.to_i64() {
            Some(ints) => Data::from_i64(to, ints),
            None => Data::from_f64(to, x.to_f64()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_to_integers() {
        let x = Data::F32(vec![-1.9, 1.9, 300.7, -0.5]);
        assert_eq!(eval(&x, DType::I32), Data::I32(vec![-1, 1, 300, 0]));
        assert_eq!(eval(&x, DType::U8), Data::U8(vec![255, 1, 44, 0]));
        assert_eq!(eval(&x, DType::I4), Data::I4(vec![-2, 2, 7, 0]));
        assert_eq!(eval(&x, DType::U4), Data::U4(vec![0, 2, 15, 0]));
        assert_eq!(eval(&x, DType::Bool), Data::Bool(vec![true; 4]));
        assert_eq!(eval(&Data::F64(vec![1e19]), DType::U64), Data::U64(vec![10_000_000_000_000_000_000]));
        assert_eq!(eval(&Data::F32(vec![f32::NAN, 0.0, -0.0]), DType::Bool), Data::Bool(vec![true, false, false]));
    }

    #[test]
    fn integers() {
        let x = Data::I64(vec![-1, 200, 1 << 40]);
        assert_eq!(eval(&x, DType::I8), Data::I8(vec![-1, -56, 0]));
        assert_eq!(eval(&x, DType::U4), Data::U4(vec![15, 8, 0]));
        assert_eq!(eval(&x, DType::F32), Data::F32(vec![-1.0, 200.0, (1u64 << 40) as f32]));
        assert_eq!(eval(&Data::U64(vec![u64::MAX]), DType::F32), Data::F32(vec![1.844_674_4e19]));
        // Rounded once: through f64 this would round to even at the wrong place.
        assert_eq!(
            eval(&Data::I64(vec![(1 << 60) + (1 << 36) + 1]), DType::F32),
            Data::F32(vec![((1i64 << 60) + (1 << 37)) as f32])
        );
        assert_eq!(eval(&Data::Bool(vec![true]), DType::BF16), Data::BF16(vec![bf16::ONE]));
    }

    #[test]
    fn floats_are_rounded_once() {
        // Halfway between two neighbours in f16 plus a little that f32 would drop.
        let x = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
        assert_eq!(eval(&Data::F64(vec![x]), DType::F16), Data::F16(vec![f16::from_f32(1.0 + 2f32.powi(-10))]));
        assert_eq!(eval(&Data::F32(vec![1e9]), DType::F16), Data::F16(vec![f16::INFINITY]));
    }
}
