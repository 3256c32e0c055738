//! Dropout: elements that a step leaves out, chosen by the host.
//!
//! Which ones is a function of the seed, the place, the step and the element (a counter-based generator), so that
//! it depends on no thread and on no earlier step.

use optc_ir::{Data, Tensor, TensorType};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The rate after a layer has lost connections: `D_r = D_o·√(C_r/C_o)`, since a layer with fewer parameters needs
/// less of it (Han et al. 2015, section 3.2, equation 2). `original` and `remaining` count connections.
pub fn adjusted_rate(rate: f32, remaining: usize, original: usize) -> f32 {
    if original == 0 { rate } else { rate * (remaining as f32 / original as f32).sqrt() }
}

/// The factors of one place in one step: 0 with probability `rate`, `1/(1 − rate)` otherwise, so that the mean
/// stays what it was (Srivastava et al. 2014, section 10).
pub(super) fn mask(ty: &TensorType, rate: f32, seed: u64, place: u64, step: u64) -> Tensor {
    let shape = ty.fixed_shape().unwrap_or_default();
    let len: usize = shape.iter().product();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(place.wrapping_add(1));
    rng.set_word_pos(u128::from(step) * len as u128);
    // An element is dropped if its number is within the share of all numbers that the rate is.
    let dropped = (f64::from(rate) * 4_294_967_296.0) as u64;
    let kept = 1.0 / (1.0 - f64::from(rate));
    let element = |_| if u64::from(rng.next_u32()) < dropped { 0.0 } else { kept };
    Tensor::new(shape, Data::from_f64(ty.dtype, (0..len).map(element)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_ir::DType;

    #[test]
    fn masks_keep_the_mean_and_depend_on_the_step_alone() {
        let ty = TensorType::new(DType::F32, [40, 50]);
        let first = mask(&ty, 0.25, 7, 0, 3);
        let values = first.data().to_f64();
        let dropped = values.iter().filter(|&&x| x == 0.0).count();
        assert!((400..600).contains(&dropped), "{dropped} of 2000");
        assert!(values.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6));
        assert_eq!(first, mask(&ty, 0.25, 7, 0, 3));
        for other in [mask(&ty, 0.25, 8, 0, 3), mask(&ty, 0.25, 7, 1, 3), mask(&ty, 0.25, 7, 0, 4)] {
            assert_ne!(first, other);
        }
        assert!(mask(&ty, 0.0, 7, 0, 0).data().to_f64().iter().all(|&x| x == 1.0));
    }

    #[test]
    fn a_pruned_layer_is_dropped_less() {
        assert_eq!(adjusted_rate(0.5, 25, 100), 0.25);
        assert_eq!(adjusted_rate(0.5, 0, 0), 0.5);
    }
}
