//! Rounds some weights the other way so that errors cancel.
//!
//! Nearest rounding leaves each output of a layer with the error `Σ e_i·x_i`. Inputs behind an activation
//! have a mean, and neighbours in an image are alike, so the part `x̄·Σ e_i` does not average out. Moving
//! the few weights that are nearest to the border of their cell into the next one brings `Σ e_i` to
//! about zero: first for each kernel, then for each output (Guo et al., "SQuant", ICLR 2022, which
//! derives the same from the diagonal and constant parts of the Hessian). Codes change, the table and
//! the size do not, and the squared error grows by little.

use super::weights::{Layout, rows};

/// Moves codes to neighbouring cells. `values` ascend, and `codes[i]` is the cell of `weights[i]`. Zeros
/// stay where they are, and nothing becomes zero.
pub(super) fn balance(weights: &[f32], shape: &[usize], layout: Layout, values: &[f32], codes: &mut [u16]) {
    let mut group = Vec::new();
    for row in rows(shape, layout.axis) {
        group.clear();
        group.extend(row.positions());
        if layout.kernel > 1 {
            for kernel in group.chunks(layout.kernel) {
                cancel(weights, kernel, values, codes);
            }
        }
        cancel(weights, &group, values, codes);
    }
}

/// A weight that can move to a neighbouring cell.
struct Move {
    at: usize,
    to: u16,
    /// How much nearer to zero the sum of errors gets.
    gain: f64,
    /// How much the squared error grows, for each unit of gain.
    price: f64,
}

/// Brings the sum of errors of the weights at `positions` as near to zero as moves to the next cell can.
fn cancel(weights: &[f32], positions: &[usize], values: &[f32], codes: &mut [u16]) {
    let error = |at: usize, code: u16| f64::from(values[usize::from(code)]) - f64::from(weights[at]);
    let mut sum: f64 = positions.iter().map(|&at| error(at, codes[at])).sum();
    // Only moves against the sign of the sum help.
    let down = sum > 0.0;
    sum = sum.abs();
    let movable = |&at: &usize| {
        let code = codes[at];
        let to = if down { code.checked_sub(1)? } else { code.checked_add(1)? };
        let target = *values.get(usize::from(to))?;
        if weights[at] == 0.0 || target == 0.0 {
            return None;
        }
        let (old, new) = (error(at, code), error(at, to));
        let gain = (new - old).abs();
        // Half a step too far is as bad as half a step too short.
        (gain > 0.0 && gain < 2.0 * sum).then(|| Move { at, to, gain, price: (new * new - old * old) / gain })
    };
    let mut moves: Vec<Move> = positions.iter().filter_map(movable).collect();
    let Some(least) = moves.iter().map(|m| m.gain).min_by(f64::total_cmp) else { return };
    // Each move gains at least that much, so no more than these can be needed.
    let needed = (sum / least).ceil() as usize + 1;
    let order = |a: &Move, b: &Move| a.price.total_cmp(&b.price).then(a.at.cmp(&b.at));
    if needed < moves.len() {
        moves.select_nth_unstable_by(needed, order);
        moves.truncate(needed);
    }
    moves.sort_unstable_by(order);
    for Move { at, to, gain, .. } in moves {
        if gain < 2.0 * sum {
            codes[at] = to;
            sum -= gain;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn nearest(values: &[f32], w: f32) -> u16 {
        let distance = |i: &u16| (f64::from(values[usize::from(*i)]) - f64::from(w)).abs();
        (0..values.len() as u16).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap()
    }

    fn sum_of_errors(weights: &[f32], values: &[f32], codes: &[u16], positions: impl Iterator<Item = usize>) -> f64 {
        positions.map(|i| f64::from(values[usize::from(codes[i])]) - f64::from(weights[i])).sum::<f64>().abs()
    }

    #[test]
    fn errors_of_kernels_and_outputs_cancel() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let step = 0.1f32;
        let values: Vec<f32> = (-12..=12).map(|i| i as f32 * step + 0.03).collect();
        let shape = [6, 10, 3, 3];
        let weights: Vec<f32> = (0..540).map(|_| rng.random_range(-1.0..1.0)).collect();
        let mut codes: Vec<u16> = weights.iter().map(|&w| nearest(&values, w)).collect();
        let before: Vec<u16> = codes.clone();
        balance(&weights, &shape, Layout { axis: 0, kernel: 9 }, &values, &mut codes);
        let half = f64::from(step) / 2.0 + 1e-6;
        for row in rows(&shape, 0) {
            assert!(sum_of_errors(&weights, &values, &codes, row.positions()) <= half);
        }
        for kernel in 0..60 {
            // The outputs take one step back at most from some of the kernels.
            assert!(sum_of_errors(&weights, &values, &codes, kernel * 9..kernel * 9 + 9) <= 3.0 * half);
        }
        let squares = |codes: &[u16]| (0..540).map(|i| sum_of_errors(&weights, &values, codes, i..=i).powi(2)).sum();
        let (old, new): (f64, f64) = (squares(&before), squares(&codes));
        assert!(old < new && new < 1.5 * old, "{old} to {new}");
    }

    #[test]
    fn zeros_stay_and_nothing_becomes_zero() {
        let values = [-1.0, 0.0, 1.0];
        let weights = [0.0, 0.0, 0.6, 0.6, 0.6, 0.6, -0.6, 0.0];
        let mut codes: Vec<u16> = weights.iter().map(|&w| nearest(&values, w)).collect();
        let before = codes.clone();
        balance(&weights, &[1, 8], Layout { axis: 0, kernel: 1 }, &values, &mut codes);
        assert_eq!(codes, before);
    }

    #[test]
    fn columns_are_outputs_of_a_matrix_on_the_right() {
        let values: Vec<f32> = (1..5).map(|i| i as f32).collect();
        // The first column errs by +1.6 when rounded to nearest, the second by −1.6.
        let weights = [1.6, 2.4, 1.6, 2.4, 1.6, 2.4, 1.6, 2.4];
        let mut codes: Vec<u16> = weights.iter().map(|&w| nearest(&values, w)).collect();
        balance(&weights, &[4, 2], Layout { axis: 1, kernel: 1 }, &values, &mut codes);
        assert_eq!(codes, [0, 2, 0, 2, 1, 1, 1, 1]);
    }
}
