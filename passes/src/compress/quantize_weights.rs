//! Puts weights on grids of 2 to 256 levels, one for each output or one for all.
//!
//! With `b` bits, `ŵ = (code − zero)·scale`:
//!
//! - symmetric, the default: `zero = 2^(b−1)`, codes from 1 to `2^b − 1`, so the grid is the same on both sides;
//! - `symmetric=false`: `zero` is the code nearest to where 0 lies in the range of the weights, which is
//!   widened to hold it;
//! - `bits=1`: `ŵ = ±s` with `s` the mean magnitude, the best two values of opposite sign (Rastegari et al.,
//!   "XNOR-Net", 2016).
//!
//! Zero is on every grid but the last, so zeros stay zeros. `scale=max` spans the largest weight;
//! `scale=mse` tries narrower grids, down to a fifth, and takes the one of least squared error, its
//! outermost codes holding what lies beyond.
//!
//! **Applies to** floating-point weights of convolutions, matrix products and recurrent layers (one grid
//! for each output, or `per=tensor`), and to embedding tables (one for each row). Biases are left alone.
//! A layer with zeros is left alone by `bits=1`, which has no zero. Weights are kept as codes: a grid
//! can't be read off values.
//!
//! Lossy: values change.

use optc_ir::{Constant, ConstantError, Encoding, Graph, Op, Packed, QuantParams};

use super::weights::{Role, Weight, rows, weights};
use crate::error::{OptionError, PassError};
use crate::options::{Options, Written};
use crate::pass::{Effect, Pass, PassCx};
use crate::selector::Selection;

/// Bits a code unless told otherwise.
const BITS: usize = 8;
/// Widths of the grid that `scale=mse` tries, as hundredths of the full width.
const WIDTHS: std::ops::RangeInclusive<u32> = 20..=100;

/// The pass; see the module.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeWeights {
    bits: usize,
    symmetric: bool,
    per_channel: bool,
    least_squares: bool,
    selection: Selection,
}

impl Default for QuantizeWeights {
    fn default() -> QuantizeWeights {
        QuantizeWeights {
            bits: BITS,
            symmetric: true,
            per_channel: true,
            least_squares: false,
            selection: Selection::default(),
        }
    }
}

impl QuantizeWeights {
    /// Reads `bits`, `symmetric`, `per`, `scale`, `only` and `protect`.
    ///
    /// # Errors
    /// If an option is out of range.
    pub fn from_options(options: &mut Options) -> Result<QuantizeWeights, OptionError> {
        let pass = QuantizeWeights {
            bits: options.take_within("bits", 1, 8)?.unwrap_or(BITS),
            symmetric: options.take_or("symmetric", true)?,
            per_channel: options.take_word("per", &[("channel", true), ("tensor", false)])?.unwrap_or(true),
            least_squares: options.take_word("scale", &[("max", false), ("mse", true)])?.unwrap_or(false),
            selection: options.take_selection()?,
        };
        if pass.bits == 1 && (!pass.symmetric || pass.least_squares) {
            return Err(options.invalid("bits", "of 1 leave no choice of grid: give neither symmetric nor scale"));
        }
        Ok(pass)
    }
}

impl Pass for QuantizeWeights {
    fn name(&self) -> &'static str {
        "quantize-weights"
    }

    fn effect(&self) -> Effect {
        Effect::Lossy
    }

    fn options(&self) -> String {
        Written::default()
            .option("bits", &self.bits, &BITS)
            .option("symmetric", &self.symmetric, &true)
            .word("per", if self.per_channel { "channel" } else { "tensor" }, "channel")
            .word("scale", if self.least_squares { "mse" } else { "max" }, "max")
            .selection(&self.selection)
            .finish()
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for weight in weights(graph) {
            if weight.role == Role::Other || !weight.selected(graph, &self.selection) {
                continue;
            }
            let layer = weight.layer();
            let values = weight.values();
            let zeros = values.contains(&0.0);
            if !values.iter().all(|x| x.is_finite()) {
                cx.missed(graph, layer, "a weight is not finite");
            } else if self.bits == 1 && zeros {
                cx.missed(graph, layer, "some weights are zero, which one bit can't say");
            } else {
                match self.quantize(&weight, &values) {
                    Ok((constant, error)) => {
                        let grids = constant.grid().map_or(0, |grid| grid.scales.len());
                        let (n, bits) = (values.len(), self.bits);
                        let plural = if grids == 1 { "grid" } else { "grids" };
                        let text =
                            format!("{n} weights on {grids} {plural} of {bits} bits, relative error {error:.2e}");
                        graph.set_op(weight.node, Op::Const(constant.into()));
                        cx.applied(graph, layer, text);
                    }
                    Err(error) => cx.missed(graph, layer, error),
                }
            }
        }
        Ok(())
    }
}

impl QuantizeWeights {
    /// The quantized weights, and `‖W − Ŵ‖ / ‖W‖`.
    fn quantize(&self, weight: &Weight, values: &[f32]) -> Result<(Constant, f64), ConstantError> {
        let shape = weight.constant.shape();
        let axis = match weight.role {
            _ if !self.per_channel => None,
            Role::Product(layout) => Some(layout.axis),
            Role::Table | Role::Other => Some(0),
        };
        let bits = u8::try_from(self.bits).expect("there are at most 8 bits");
        let mut params = QuantParams { bits, axis, scales: Vec::new(), zeros: Vec::new() };
        let mut codes = vec![0u32; values.len()];
        let mut quantize = |positions: &[usize]| {
            let row: Vec<f32> = positions.iter().map(|&at| values[at]).collect();
            let grid = self.grid(&row);
            for (&at, &w) in positions.iter().zip(&row) {
                codes[at] = grid.code(w);
            }
            params.scales.push(grid.scale);
            params.zeros.push(grid.zero);
        };
        match axis {
            Some(axis) => rows(shape, axis).for_each(|row| quantize(&row.positions().collect::<Vec<_>>())),
            None => quantize(&(0..values.len()).collect::<Vec<_>>()),
        }
        let encoding = Encoding::Quantized { params, codes: Packed::pack(bits, &codes) };
        let constant = Constant::new(shape.to_vec(), weight.constant.dtype(), encoding)?;
        let decoded = Weight { constant: constant.into(), ..weight.clone() };
        let (mut error, mut norm) = (0.0, 0.0);
        for (&old, &new) in values.iter().zip(decoded.values().iter()) {
            error += (f64::from(old) - f64::from(new)).powi(2);
            norm += f64::from(old).powi(2);
        }
        let constant = std::sync::Arc::unwrap_or_clone(decoded.constant);
        Ok((constant, if norm > 0.0 { (error / norm).sqrt() } else { 0.0 }))
    }

    /// The grid for the weights of one output.
    fn grid(&self, row: &[f32]) -> Grid {
        let levels = (1u32 << self.bits) as f32;
        // Below the largest number, so that rounding can't push the end of the grid beyond it.
        let limited = |w: f32| w.clamp(-0.999 * f32::MAX, 0.999 * f32::MAX);
        if self.bits == 1 {
            let mean = row.iter().map(|&w| f64::from(w.abs())).sum::<f64>() / row.len().max(1) as f64;
            // Codes 0 and 1 around zero ½ are −½ and +½ times the scale.
            return Grid { scale: positive(2.0 * mean as f32), zero: 0.5, first: 0.0, last: 1.0 };
        }
        let full = if self.symmetric {
            let largest = row.iter().fold(0.0f32, |m, w| m.max(limited(*w).abs()));
            let half = levels / 2.0;
            Grid { scale: positive(largest / (half - 1.0)), zero: half, first: 1.0, last: levels - 1.0 }
        } else {
            let lo = row.iter().fold(0.0f32, |m, &w| m.min(limited(w)));
            let hi = row.iter().fold(0.0f32, |m, &w| m.max(limited(w)));
            // Divided first, so that the range of all numbers does not overflow.
            let scale = positive(hi / (levels - 1.0) - lo / (levels - 1.0));
            let last = levels - 1.0;
            let zero = (-lo / scale).round().min(last);
            // A rounded zero point shifts the grid by up to half a step; its ends must stay finite.
            let scale = positive(scale.min(0.999 * f32::MAX / zero.max(last - zero)));
            Grid { scale, zero, first: 0.0, last }
        };
        if !self.least_squares {
            return full;
        }
        let narrowed = |percent: u32| Grid { scale: positive(full.scale * (percent as f32 / 100.0)), ..full };
        // Wider grids first: of equals the full one is kept.
        let candidates = WIDTHS.rev().map(narrowed);
        let scored = candidates.map(|grid| (row.iter().map(|&w| grid.squared_error(w)).sum::<f64>(), grid));
        scored.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(full, |(_, grid)| grid)
    }
}

/// A scale must be positive; that of a row of zeros, or too small to be a normal number, becomes the least one.
fn positive(scale: f32) -> f32 {
    scale.max(f32::MIN_POSITIVE)
}

#[derive(Clone, Copy, Debug)]
struct Grid {
    scale: f32,
    zero: f32,
    /// The first and the last code in use.
    first: f32,
    last: f32,
}

impl Grid {
    fn code(self, w: f32) -> u32 {
        // The nearest code; with zero ½, the nearest of 0 and 1.
        (w / self.scale + self.zero).round().clamp(self.first, self.last) as u32
    }

    fn squared_error(self, w: f32) -> f64 {
        let decoded = (self.code(w) as f32 - self.zero) * self.scale;
        (f64::from(w) - f64::from(decoded)).powi(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(bits: usize, symmetric: bool, least_squares: bool) -> QuantizeWeights {
        QuantizeWeights { bits, symmetric, least_squares, ..QuantizeWeights::default() }
    }

    fn decode(grid: Grid, row: &[f32]) -> Vec<f32> {
        row.iter().map(|&w| (grid.code(w) as f32 - grid.zero) * grid.scale).collect()
    }

    fn error(grid: Grid, row: &[f32]) -> f64 {
        row.iter().map(|&w| grid.squared_error(w)).sum()
    }

    fn row() -> Vec<f32> {
        // A bell with one outlier, and a zero.
        let bell = (0..400).map(|i| ((i as f32 - 200.0) / 80.0).powi(3) / 10.0);
        bell.chain([4.0, 0.0]).collect()
    }

    #[test]
    fn errors_stay_within_half_a_step_and_zeros_stay() {
        for bits in 2..=8 {
            for symmetric in [true, false] {
                let grid = pass(bits, symmetric, false).grid(&row());
                for (&w, decoded) in row().iter().zip(decode(grid, &row())) {
                    assert!((w - decoded).abs() <= 0.5001 * grid.scale, "{bits} bits: {w} became {decoded}");
                    assert!(w != 0.0 || decoded == 0.0);
                }
            }
        }
    }

    #[test]
    fn symmetric_grids_hold_the_opposite_of_each_value() {
        let grid = pass(3, true, false).grid(&row());
        let decoded = decode(grid, &[4.0, -4.0, 1.5, -1.5, 9.0, -9.0]);
        assert_eq!(decoded[0], -decoded[1]);
        assert_eq!(decoded[2], -decoded[3]);
        assert_eq!(decoded[4], 4.0, "beyond the range is its end");
        assert_eq!(decoded[5], -4.0);
    }

    #[test]
    fn asymmetric_grids_use_the_range_that_is_there() {
        let positive: Vec<f32> = (0..=15).map(|i| i as f32 / 10.0).collect();
        let grid = pass(4, false, false).grid(&positive);
        assert!(error(grid, &positive) < 1e-12);
        assert!(error(pass(4, true, false).grid(&positive), &positive) > 1e-3);
    }

    #[test]
    fn least_squares_is_no_worse_and_cuts_outliers() {
        for bits in 2..=8 {
            let (max, mse) = (pass(bits, true, false).grid(&row()), pass(bits, true, true).grid(&row()));
            assert!(error(mse, &row()) <= error(max, &row()), "{bits} bits");
        }
        let mut row = vec![0.1f32; 1000];
        row.extend([-0.1f32; 1000]);
        row.push(0.25);
        let (max, mse) = (pass(2, true, false).grid(&row), pass(2, true, true).grid(&row));
        assert!(error(mse, &row) < 0.2 * error(max, &row));
    }

    #[test]
    fn one_bit_is_the_sign_and_the_mean_magnitude() {
        let row = [0.5, -1.0, 3.0, -3.5];
        let grid = pass(1, true, false).grid(&row);
        assert_eq!(decode(grid, &row), [2.0, -2.0, 2.0, -2.0]);
    }

    #[test]
    fn rows_of_zeros_and_of_extremes_are_no_exception() {
        for row in [vec![0.0; 4], vec![f32::MAX, f32::MIN], vec![f32::MIN_POSITIVE / 8.0, 0.0]] {
            for (bits, symmetric, mse) in [(8, true, false), (8, false, false), (2, true, true), (3, false, true)] {
                let grid = pass(bits, symmetric, mse).grid(&row);
                assert!(grid.scale > 0.0 && grid.scale.is_finite(), "{row:?}");
                assert!(decode(grid, &row).iter().all(|x| x.is_finite()), "{row:?} {grid:?}");
            }
        }
    }
}
