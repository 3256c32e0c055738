//! Logarithms as tile code.

use super::program::{Bin, Cmp, Src, V, Writer};

/// Powers of two that are taken out of a number, by their exponents.
const EXPONENTS: [i32; 5] = [16, 8, 4, 2, 1];

/// ln x for 1 ≤ x < 2³², as of sums whose largest term is 1: n·ln 2 + 2·artanh(z), z = (m − 1)/(m + 1), for
/// x = 2ⁿ·m and m between √½ and √2. NaN stays NaN. 2 temporaries.
pub(super) fn ln_above_one(w: &mut Writer, v: V) {
    let (n, t) = (w.take(), w.take());
    w.set(n, 0.0);
    let take_out = |w: &mut Writer, limit: f32, exponent: i32| {
        w.bin(Bin::Add, t, n, exponent as f32);
        w.select(n, (Cmp::Less, v, limit), n, t);
        w.bin(Bin::Mul, t, v, 0.5f32.powi(exponent));
        w.select(v, (Cmp::Less, v, limit), v, t);
    };
    for exponent in EXPONENTS {
        take_out(w, 2.0f32.powi(exponent), exponent);
    }
    take_out(w, std::f32::consts::SQRT_2, 1);
    w.bin(Bin::Add, t, v, 1.0);
    w.bin(Bin::Sub, v, v, 1.0);
    w.bin(Bin::Div, v, v, t);
    // 2·artanh(z) = z·(2 + z²·(2/3 + z²·(2/5 + z²·2/7))).
    let square = w.take();
    w.bin(Bin::Mul, square, v, v);
    w.set(t, 2.0 / 9.0);
    for coefficient in [2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0] {
        w.mul_add(t, square, Src::Const(coefficient));
    }
    w.drop(square);
    w.bin(Bin::Mul, v, v, t);
    w.fma(v, n, std::f32::consts::LN_2);
    w.drop(t);
    w.drop(n);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::schedule::{Nest, Part, STAY};
    use crate::tile::testing::result;
    use crate::tile::{LANES, P, Schedule};

    #[test]
    fn logarithms_are_as_good_as_their_type() {
        let x: Vec<f32> = (0..LANES as i32).map(|i| 1.37f32.powi(i * 4)).collect();
        let schedule = |vectors: crate::target::Vectors| {
            let mut schedule = Schedule::new(2);
            let mut w = Writer::new(2, vectors.registers());
            let v = w.take();
            w.load(v, P(0).at(0));
            ln_above_one(&mut w, v);
            w.store(P(1).at(0), v);
            let program = schedule.program(w.finish());
            schedule.parts.push(Part::new([], STAY, Nest::Call(program)));
            schedule
        };
        let y = result(&"ln", schedule, std::slice::from_ref(&x), LANES);
        for (x, y) in x.iter().zip(y) {
            assert!((y - x.ln()).abs() <= 3e-7 * x.ln().max(1.0), "ln {x} is {}, not {y}", x.ln());
        }
    }
}
