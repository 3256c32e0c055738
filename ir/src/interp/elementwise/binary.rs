//! Elementwise functions of two operands.

use super::super::element::{Float, Int, with_pair, zip_ints, zip_numbers};
use super::super::strided::Walk;
use crate::error::EvalError;
use crate::op::Binary;
use crate::tensor::{Data, Tensor};

/// Numbers of one type, floats by one function of `f64` and integers by another of their type.
macro_rules! numbers {
    (($a:expr, $b:expr), $walk:expr, $float:expr, $int:expr) => {
        zip_numbers!(($a.data(), $b.data()), x, y =>
            float $walk.zip(x, y, |x, y| Float::narrow($float(x.wide(), y.wide()))),
            int $walk.zip(x, y, $int))
    };
}

/// A comparison of elements of any one type.
macro_rules! compare {
    (($a:expr, $b:expr), $walk:expr, $op:tt) => {
        Data::Bool(with_pair!(($a.data(), $b.data()), x, y => $walk.zip(x, y, |x, y| x $op y)))
    };
}

pub(super) fn eval(op: Binary, a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Data, EvalError> {
    let walk = Walk::broadcast(shape, [a.shape(), b.shape()]);
    let truth = |f: fn(bool, bool) -> bool| match (a.data(), b.data()) {
        (Data::Bool(x), Data::Bool(y)) => Data::Bool(walk.zip(x, y, f)),
        _ => unreachable!("the type rule admits booleans only"),
    };
    macro_rules! bitwise {
        ($op:tt) => {
            zip_ints!((a.data(), b.data()), x, y => walk.zip(x, y, |x, y| x $op y))
        };
    }
    Ok(match op {
        Binary::Add => numbers!((a, b), walk, |x: f64, y: f64| x + y, Int::add),
        Binary::Sub => numbers!((a, b), walk, |x: f64, y: f64| x - y, Int::sub),
        Binary::Mul => numbers!((a, b), walk, |x: f64, y: f64| x * y, Int::mul),
        Binary::Div => {
            no_zeros(b)?;
            numbers!((a, b), walk, |x: f64, y: f64| x / y, Int::div)
        }
        Binary::PRelu => {
            numbers!((a, b), walk, |x: f64, slope: f64| if x < 0.0 { x * slope } else { x }, |x, slope| if x
                < Int::narrow(0)
            {
                Int::mul(x, slope)
            } else {
                x
            })
        }
        Binary::Pow => pow(&walk, a, b)?,
        Binary::And => truth(|x, y| x && y),
        Binary::Or => truth(|x, y| x || y),
        Binary::Xor => truth(|x, y| x != y),
        Binary::BitwiseAnd => bitwise!(&),
        Binary::BitwiseOr => bitwise!(|),
        Binary::BitwiseXor => bitwise!(^),
        Binary::Equal => compare!((a, b), walk, ==),
        Binary::Less => compare!((a, b), walk, <),
        Binary::LessOrEqual => compare!((a, b), walk, <=),
        Binary::Greater => compare!((a, b), walk, >),
        Binary::GreaterOrEqual => compare!((a, b), walk, >=),
    })
}

/// Refuses integer divisors of zero.
fn no_zeros(divisor: &Tensor) -> Result<(), EvalError> {
    match divisor.data().to_i64() {
        Some(elements) if elements.contains(&0) => Err(EvalError::Value("integer division by zero".to_owned())),
        _ => Ok(()),
    }
}

fn pow(walk: &Walk<2>, a: &Tensor, b: &Tensor) -> Result<Data, EvalError> {
    if let (Data::F32(x), Data::F32(y)) = (a.data(), b.data()) {
        return Ok(Data::F32(walk.zip(x, y, |x, y| f64::from(x).powf(y.into()) as f32)));
    }
    let (Some(bases), Some(exponents)) = (a.data().to_i64(), b.data().to_i64()) else {
        let powers = walk.zip(&a.data().to_f64(), &b.data().to_f64(), f64::powf);
        return Ok(Data::from_f64(a.dtype(), powers));
    };
    // Integers to integer powers, modulo 2^64; narrower types wrap when they are made of it.
    let unsigned = matches!(b.data(), Data::U64(_));
    let powers = walk.zip(&bases, &exponents, |base, exponent| match (base, exponent) {
        (base, n) if n >= 0 || unsigned => Some(Int::power(base, n as u64)),
        (1, _) => Some(1),
        (-1, n) => Some(if n % 2 == 0 { 1 } else { -1 }),
        (0, _) => None,
        _ => Some(0),
    });
    let powers: Option<Vec<i64>> = powers.into_iter().collect();
    let powers = powers.ok_or_else(|| EvalError::Value("zero to a negative power".to_owned()))?;
    Ok(Data::from_i64(a.dtype(), powers))
}

pub(super) fn modulo(fmod: bool, a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Data, EvalError> {
    no_zeros(b)?;
    let walk = Walk::broadcast(shape, [a.shape(), b.shape()]);
    // The remainder of two floats is itself exact in their type.
    let remainder = |x: f64, y: f64| x % y;
    Ok(if fmod { numbers!((a, b), walk, remainder, Int::rem) } else { numbers!((a, b), walk, remainder, Int::modulo) })
}

pub(super) fn shift(left: bool, a: &Tensor, b: &Tensor, shape: &[usize]) -> Data {
    let walk = Walk::broadcast(shape, [a.shape(), b.shape()]);
    zip_ints!((a.data(), b.data()), x, y => walk.zip(x, y, if left { Int::shl } else { Int::shr }))
}

#[cfg(test)]
mod tests {
    use crate::error::EvalError;
    use crate::interp::eval;
    use crate::op::{Binary, BitShift, Mod, Op};
    use crate::tensor::{Data, Tensor};

    fn run(op: impl Into<Op>, a: &Tensor, b: &Tensor) -> Result<Tensor, EvalError> {
        Ok(eval(&op.into(), &[Some(a), Some(b)])?.remove(0))
    }

    fn ints(v: &[i64]) -> Tensor {
        Tensor::i64([v.len()], v)
    }

    #[test]
    fn arithmetic_broadcasts() {
        let (a, b) = (Tensor::f32([2, 1], [1.0, 2.0]), Tensor::f32([2], [3.0, 4.0]));
        assert_eq!(run(Op::Binary(Binary::Sub), &a, &b).unwrap(), Tensor::f32([2, 2], [-2.0, -3.0, -1.0, -2.0]));
        let slope = Tensor::f32([1], [0.5]);
        assert_eq!(
            run(Op::Binary(Binary::PRelu), &Tensor::f32([2], [-4.0, 4.0]), &slope).unwrap(),
            Tensor::f32([2], [-2.0, 4.0])
        );
    }

    #[test]
    fn integer_arithmetic_wraps_and_truncates() {
        let (a, b) = (ints(&[-7, 7, i64::MIN]), ints(&[2, -2, -1]));
        assert_eq!(run(Op::Binary(Binary::Div), &a, &b).unwrap(), ints(&[-3, -3, i64::MIN]));
        assert_eq!(run(Mod { fmod: true }, &a, &b).unwrap(), ints(&[-1, 1, 0]));
        assert_eq!(run(Mod::default(), &a, &b).unwrap(), ints(&[1, -1, 0]));
        assert_eq!(run(Mod::default(), &ints(&[-4, 5, 6]), &ints(&[2, 3, 8])).unwrap(), ints(&[0, 2, 6]));
        let zero = ints(&[0]);
        assert!(matches!(run(Op::Binary(Binary::Div), &a, &zero), Err(EvalError::Value(_))));
        assert!(matches!(run(Mod::default(), &a, &zero), Err(EvalError::Value(_))));
        let bytes = |v: &[u8]| Tensor::new([v.len()], Data::U8(v.to_vec()));
        assert_eq!(run(Op::Binary(Binary::Sub), &bytes(&[1]), &bytes(&[2])).unwrap(), bytes(&[255]));
        assert_eq!(run(Mod::default(), &bytes(&[7, 6]), &bytes(&[4, 3])).unwrap(), bytes(&[3, 0]));
    }

    #[test]
    fn remainders_of_floats() {
        let (a, b) = (Tensor::f32([2], [-4.3, 7.2]), Tensor::f32([2], [2.1, -3.4]));
        let y = run(Mod { fmod: true }, &a, &b).unwrap();
        assert_eq!(y, Tensor::f32([2], [-4.3f32 % 2.1, 7.2f32 % -3.4]));
    }

    #[test]
    fn powers() {
        let pow = |a: &Tensor, b: &Tensor| run(Op::Binary(Binary::Pow), a, b);
        assert_eq!(
            pow(&ints(&[2, -3, 0, 10]), &ints(&[62, 3, 0, 19])).unwrap(),
            ints(&[1 << 62, -27, 1, 10_000_000_000_000_000_000u64 as i64])
        );
        assert_eq!(pow(&ints(&[1, -1, -1, 5]), &ints(&[-9, -3, -2, -1])).unwrap(), ints(&[1, -1, 1, 0]));
        assert!(pow(&ints(&[0]), &ints(&[-1])).is_err());
        assert_eq!(pow(&ints(&[4, 9]), &Tensor::f32([1], [0.5])).unwrap(), ints(&[2, 3]));
        assert_eq!(pow(&Tensor::f32([2], [2.0, 0.5]), &ints(&[3, -1])).unwrap(), Tensor::f32([2], [8.0, 2.0]));
        let narrow = Tensor::new([1], Data::I8(vec![3]));
        assert_eq!(pow(&narrow, &ints(&[6])).unwrap().data(), &Data::I8(vec![729i64 as i8]));
    }

    #[test]
    fn shifts() {
        let bytes = |v: &[u8]| Tensor::new([v.len()], Data::U8(v.to_vec()));
        let x = bytes(&[16, 4, 1, 255]);
        assert_eq!(run(BitShift { left: true }, &x, &bytes(&[1, 2, 8, 200])).unwrap(), bytes(&[32, 16, 0, 0]));
        assert_eq!(run(BitShift { left: false }, &x, &bytes(&[1, 2, 3, 8])).unwrap(), bytes(&[8, 1, 0, 0]));
    }

    #[test]
    fn comparisons() {
        let compare = |op, a: &[f32], b: &[f32]| {
            let y = run(Op::Binary(op), &Tensor::f32([a.len()], a), &Tensor::f32([b.len()], b)).unwrap();
            y.data().to_i64().unwrap()
        };
        let (a, b) = ([1.0, 2.0, f32::NAN], [2.0, 2.0, f32::NAN]);
        assert_eq!(compare(Binary::Equal, &a, &b), [0, 1, 0]);
        assert_eq!(compare(Binary::LessOrEqual, &a, &b), [1, 1, 0]);
        assert_eq!(compare(Binary::Greater, &b, &a), [1, 0, 0]);
        let flags = Tensor::new([2], Data::Bool(vec![true, false]));
        let yes = Tensor::new([], Data::Bool(vec![true]));
        assert_eq!(run(Op::Binary(Binary::Xor), &flags, &yes).unwrap().data(), &Data::Bool(vec![false, true]));
        assert_eq!(run(Op::Binary(Binary::Equal), &flags, &yes).unwrap().data(), &Data::Bool(vec![true, false]));
        let y = run(Op::Binary(Binary::BitwiseXor), &ints(&[6]), &ints(&[3])).unwrap();
        assert_eq!(y, ints(&[5]));
    }
}
