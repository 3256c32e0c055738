//! Elements made from a seed: the same everywhere, for every version of every library, bit by bit.
//!
//! Both draw from ChaCha8 seeded by `SeedableRng::seed_from_u64`. A uniform number in [0, 1) is the upper
//! 53 bits of one 64-bit word divided by 2⁵³. A normal number is the sum of twelve of those less six
//! (Irwin–Hall): it has mean 0, variance 1 and no logarithm that a platform could round its own way.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::tensor::Data;
use crate::types::DType;

/// `len` numbers uniform in [lo, hi), rounded to the element type; integers are rounded down.
pub(super) fn uniform(dtype: DType, len: usize, seed: u64, lo: f64, hi: f64) -> Data {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let round = |x: f64| if dtype.is_float() { x } else { x.floor() };
    Data::from_f64(dtype, (0..len).map(|_| round(lo + (hi - lo) * unit(&mut rng))))
}

/// `len` numbers of mean 0 and standard deviation `std`, rounded to the element type; integers are
/// rounded to nearest.
pub(super) fn normal(dtype: DType, len: usize, seed: u64, std: f64) -> Data {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let round = |x: f64| if dtype.is_float() { x } else { x.round() };
    let draws = (0..len).map(|_| round(std * ((0..12).map(|_| unit(&mut rng)).sum::<f64>() - 6.0)));
    Data::from_f64(dtype, draws)
}

fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}
