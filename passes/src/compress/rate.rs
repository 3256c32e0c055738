//! Which values the weights of one layer share, for the least of bits and error together.
//!
//! A layer whose weights `w` share values `c` has the error `Σ (w − c)²` and takes, under an ideal entropy
//! coder, `Σ_j n_j·log₂(n / n_j)` bits for codes of which `n_j` are `j`, and a table. For a price `λ` of error in
//! bits, the cells of the best quantizer are intervals of the sorted weights, and their costs add up:
//! so the best division is a shortest path over the borders between them. (An entropy-constrained
//! scalar quantizer, Chou, Lookabaugh and Gray 1989, here at the global optimum over a fine grid of
//! borders.) Cells come out nearly uniform where weights are dense, and wide in the tails where a table
//! entry costs more than the error it saves.

use super::kmeans::Sums;

/// Bits of a table entry: the distance to its neighbour in steps of the layer's quantum, and its frequency
/// in the coder's header. About what the container takes.
const ENTRY_BITS: f64 = 12.0;
/// The least quanta in the expected width of a cell. Shared values are multiples of a quantum, a power of two,
/// so that a table costs little; that adds at most 1/64 to the squared error.
const QUANTA: f64 = 8.0;
/// Fine intervals in the expected width of a cell.
const FINENESS: f64 = 6.0;
/// The most fine intervals in a cell.
const MAX_SPAN: usize = 96;

/// A layer to divide: its weights but for exact zeros, which stay zero and have a cell of their own.
pub(super) struct Layer {
    /// ‖W‖².
    pub(super) norm2: f64,
    /// All weights, zeros included.
    pub(super) count: usize,
    /// Bits of one value.
    pub(super) value_bits: usize,
    zeros: usize,
    /// The smallest weight of each fine interval.
    lows: Vec<f32>,
    /// Before each bin and at the end.
    sums: Vec<Sums>,
    /// What the sums count from.
    origin: f64,
    /// Shared values are multiples of this.
    quantum: f64,
    /// How many bins are below zero.
    negative: usize,
}

/// How a layer is divided.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    /// The smallest weight of each cell, ascending.
    pub(super) lows: Vec<f32>,
    /// What the weights of each cell become.
    pub(super) values: Vec<f32>,
    /// ‖W − Ŵ‖².
    pub(super) error: f64,
    /// Bits of the codes under an ideal entropy coder, and of the table.
    pub(super) bits: f64,
}

impl Layer {
    /// `elements` are finite; `step` is the expected width of a cell, relative to ‖W‖.
    pub(super) fn new(elements: &[f32], value_bits: usize, step: f64) -> Layer {
        let mut sorted: Vec<f32> = elements.iter().copied().filter(|&x| x != 0.0).collect();
        let zeros = elements.len() - sorted.len();
        sorted.sort_unstable_by(f32::total_cmp);
        let norm2 = sorted.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        let step = step * norm2.sqrt();
        let width = step / FINENESS;
        let quantum = (step / QUANTA).max(f64::from(f32::MIN_POSITIVE)).log2().floor().exp2();
        let origin = sorted.get(sorted.len() / 2).map_or(0.0, |&x| f64::from(x));
        let (mut lows, mut sums) = (Vec::new(), vec![Sums::default()]);
        let mut total = Sums::default();
        let (below, above) = sorted.split_at(sorted.partition_point(|&x| x < 0.0));
        let mut negative = 0;
        for mut rest in [below, above] {
            negative = lows.len();
            while let Some(&lo) = rest.first() {
                let limit = f64::from(lo) + width;
                let inside = rest.partition_point(|&x| f64::from(x) < limit).max(1);
                for &x in &rest[..inside] {
                    total.add(f64::from(x) - origin);
                }
                lows.push(lo);
                sums.push(total);
                rest = &rest[inside..];
            }
        }
        Layer { norm2, count: elements.len(), value_bits, zeros, lows, sums, origin, quantum, negative }
    }

    /// Bits of the layer as it is.
    pub(super) fn dense_bits(&self) -> f64 {
        (self.count * self.value_bits) as f64
    }

    /// The division of least `bits + lambda · error`, with at most `max_cells` cells.
    pub(super) fn divide(&self, lambda: f64, max_cells: usize) -> Cells {
        let mut entry_bits = ENTRY_BITS;
        let mut starts = self.shortest_path(lambda, entry_bits);
        let zero = usize::from(self.zeros > 0);
        // A dearer table has fewer entries. The price that meets the limit exactly does not exist in
        // general; growing by half comes close enough.
        while starts.len() + zero > max_cells {
            entry_bits *= 1.5;
            starts = self.shortest_path(lambda, entry_bits);
        }
        self.cells(&starts)
    }

    /// The first bins of the cells of least cost, ascending.
    fn shortest_path(&self, lambda: f64, entry_bits: f64) -> Vec<usize> {
        let m = self.lows.len();
        let mut cost = vec![0.0; m + 1];
        let mut from = vec![0u32; m + 1];
        for end in 1..=m {
            // Zeros lie between the signs, and no cell around them.
            let first = if end > self.negative && self.zeros > 0 { self.negative } else { 0 };
            let mut least = f64::INFINITY;
            for start in (first.max(end.saturating_sub(MAX_SPAN))..end).rev() {
                let sums = self.sums[end].since(self.sums[start]);
                let error = lambda * sums.error();
                // `Σ n_j·log₂(n / n_j)` but for `n·log₂ n`, which no division changes.
                let total = cost[start] + error + entry_bits - sums.count * sums.count.log2();
                if total < least {
                    least = total;
                    from[end] = u32::try_from(start).expect("bins are limited");
                }
                // Such a cell is better cut in two, whatever comes before it.
                if error > 8.0 * (sums.count + entry_bits) {
                    break;
                }
            }
            cost[end] = least;
        }
        let mut starts = Vec::new();
        let mut end = m;
        while end > 0 {
            end = from[end] as usize;
            starts.push(end);
        }
        starts.reverse();
        starts
    }

    fn cells(&self, starts: &[usize]) -> Cells {
        let m = self.lows.len();
        let mut cells = Cells::default();
        let n = self.count as f64;
        let mut add = |lo: f32, value: f32, count: f64, error: f64| {
            cells.lows.push(lo);
            cells.values.push(value);
            cells.error += error;
            cells.bits += count * (n / count).log2() + ENTRY_BITS;
        };
        let mut zeros = (self.zeros > 0).then_some(self.zeros as f64);
        for (start, end) in super::kmeans::intervals(starts, m) {
            let lo = self.lows[start];
            if lo > 0.0
                && let Some(zeros) = zeros.take()
            {
                add(0.0, 0.0, zeros, 0.0);
            }
            let sums = self.sums[end].since(self.sums[start]);
            let mean = self.origin + sums.sum / sums.count;
            let value = (mean / self.quantum).round() * self.quantum;
            add(lo, value as f32, sums.count, sums.error() + sums.count * (value - mean).powi(2));
        }
        if let Some(zeros) = zeros.take() {
            add(0.0, 0.0, zeros, 0.0);
        }
        cells
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// A bell of standard deviation 1.
    pub(in crate::compress) fn bell(seed: u64, len: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normal = || (0..12).map(|_| rng.random_range(-0.5..0.5f32)).sum::<f32>();
        (0..len).map(|_| normal()).collect()
    }

    fn cost(layer: &Layer, lambda: f64, starts: &[usize]) -> f64 {
        let cells = super::super::kmeans::intervals(starts, layer.lows.len());
        let cost = |(from, to): (usize, usize)| {
            let sums = layer.sums[to].since(layer.sums[from]);
            lambda * sums.error() + ENTRY_BITS - sums.count * sums.count.log2()
        };
        cells.map(cost).sum()
    }

    /// The least cost over all divisions, tried one by one.
    fn brute_force(layer: &Layer, lambda: f64) -> f64 {
        let m = layer.lows.len();
        let divisions = (0..1u32 << (m - 1)).map(|borders| {
            let starts: Vec<usize> = (0..m).filter(|&i| i == 0 || borders >> (i - 1) & 1 == 1).collect();
            let split = layer.zeros == 0 || layer.negative == 0 || starts.contains(&layer.negative);
            if split { cost(layer, lambda, &starts) } else { f64::INFINITY }
        });
        divisions.fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn the_division_is_the_best_of_all() {
        for seed in 0..12 {
            let mut elements = bell(seed, 300);
            if seed % 2 == 0 {
                elements.extend([0.0; 20]);
            }
            let layer = Layer::new(&elements, 32, 0.2);
            assert!((8..20).contains(&layer.lows.len()), "{} fine intervals", layer.lows.len());
            for lambda in [0.1, 3.0, 100.0, 3000.0] {
                let starts = layer.shortest_path(lambda, ENTRY_BITS);
                let (got, best) = (cost(&layer, lambda, &starts), brute_force(&layer, lambda));
                assert!((got - best).abs() <= 1e-6 * best.abs(), "λ = {lambda}: {got} instead of {best}");
            }
        }
    }

    #[test]
    fn rate_and_error_are_those_of_the_theory() {
        let elements = bell(99, 100_000);
        let norm2: f64 = elements.iter().map(|&x| f64::from(x).powi(2)).sum();
        let sigma = (norm2 / elements.len() as f64).sqrt();
        let step = 0.05 * sigma;
        let layer = Layer::new(&elements, 32, step / norm2.sqrt());
        let cells = layer.divide(6.0 / std::f64::consts::LN_2 / (step * step), 4096);
        // A uniform quantizer at high rate: error step²/12, rate h − log₂ step with h = log₂(σ·√(2πe)).
        let (error, rate) = (cells.error / elements.len() as f64, cells.bits / elements.len() as f64);
        let entropy = (sigma * (2.0 * std::f64::consts::PI * std::f64::consts::E).sqrt() / step).log2();
        assert!((error / (step * step / 12.0) - 1.0).abs() < 0.1, "{error}");
        let table = ENTRY_BITS * cells.values.len() as f64 / elements.len() as f64;
        assert!((rate - table - entropy).abs() < 0.05, "{rate} with {table} instead of {entropy}");
    }

    #[test]
    fn a_limit_on_cells_is_kept() {
        let layer = Layer::new(&bell(7, 5000), 32, 1e-4);
        for max in [2, 3, 16, 100] {
            let cells = layer.divide(1e7, max);
            assert!(cells.values.len() <= max && cells.lows.len() == cells.values.len());
        }
    }

    #[test]
    fn zeros_have_a_cell_of_their_own() {
        let mut elements = bell(8, 500);
        elements.extend([0.0, -0.0, 0.0]);
        for lambda in [1e-3, 1.0, 1e4] {
            let cells = Layer::new(&elements, 32, 0.01).divide(lambda, 4096);
            let zero = cells.lows.iter().position(|&lo| lo == 0.0).expect("there is a cell for zeros");
            assert_eq!(cells.values[zero], 0.0);
            assert!(cells.lows.is_sorted() && cells.values.is_sorted());
        }
    }
}
