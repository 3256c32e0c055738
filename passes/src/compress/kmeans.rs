//! k-means in one dimension.
//!
//! On a line, clusters are intervals of the sorted values, so all work is done on the distinct values in
//! ascending order with running sums: the cost of an interval takes constant time, an iteration of
//! Lloyd's algorithm takes `k` binary searches, and the optimum is within reach of dynamic programming.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The distinct elements of a set of numbers, ascending, with running sums.
#[derive(Clone, Debug)]
pub(super) struct Sorted {
    values: Vec<f32>,
    /// Before each value and at the end: how many elements, their sum, the sum of their squares; each
    /// element counted from `origin`, which keeps the differences exact where values lie far from zero.
    sums: Vec<Sums>,
    origin: f64,
}

/// Count, sum and sum of squares of some elements.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) count: f64,
    pub(super) sum: f64,
    pub(super) squares: f64,
}

impl Sums {
    /// One more element.
    pub(super) fn add(&mut self, x: f64) {
        self.count += 1.0;
        self.sum += x;
        self.squares += x * x;
    }

    /// Of the elements of `self` that are not in `earlier`.
    pub(super) fn since(self, earlier: Sums) -> Sums {
        Sums { count: self.count - earlier.count, sum: self.sum - earlier.sum, squares: self.squares - earlier.squares }
    }

    /// The sum of squared distances from the mean.
    pub(super) fn error(self) -> f64 {
        (self.squares - self.sum * self.sum / self.count).max(0.0)
    }
}

impl Sorted {
    /// Of finite elements.
    pub(super) fn new(mut elements: Vec<f32>) -> Sorted {
        elements.sort_unstable_by(f32::total_cmp);
        let middle = elements.get(elements.len() / 2);
        let origin = middle.map_or(0.0, |&x| x.into());
        let (mut values, mut sums) = (Vec::new(), vec![Sums::default()]);
        let mut total = Sums::default();
        for run in elements.chunk_by(|a, b| a == b) {
            let (count, x) = (run.len() as f64, f64::from(run[0]) - origin);
            total.count += count;
            total.sum += count * x;
            total.squares += count * x * x;
            values.push(run[0]);
            sums.push(total);
        }
        Sorted { values, sums, origin }
    }

    /// The distinct values, ascending.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    fn total(&self) -> Sums {
        *self.sums.last().expect("there is one entry more than there are values")
    }

    /// Of the elements from one distinct value to before another.
    pub(super) fn sums(&self, from: usize, to: usize) -> Sums {
        self.sums[to].since(self.sums[from])
    }

    /// The mean of the elements from one distinct value to before another.
    pub(super) fn mean(&self, from: usize, to: usize) -> f32 {
        let sums = self.sums(from, to);
        (self.origin + sums.sum / sums.count) as f32
    }

    /// The sum of squared errors if the intervals that begin at `starts` share their means.
    #[cfg(test)]
    pub(super) fn error(&self, starts: &[usize]) -> f64 {
        intervals(starts, self.values.len()).map(|(from, to)| self.sums(from, to).error()).sum()
    }

    /// The distinct value that the element of this rank has.
    fn at_rank(&self, rank: f64) -> usize {
        self.sums[1..].partition_point(|sums| sums.count <= rank).min(self.values.len() - 1)
    }
}

/// Beginnings and ends of the intervals that begin at `starts`, the last of which ends at `end`.
pub(super) fn intervals(starts: &[usize], end: usize) -> impl Iterator<Item = (usize, usize)> {
    let ends = starts.iter().skip(1).copied().chain([end]);
    starts.iter().copied().zip(ends).filter(|(from, to)| from < to)
}

/// How the first centres are chosen (Deep Compression, section 3.2), or the optimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Init {
    /// Evenly between the smallest and the largest value.
    Linear,
    /// At evenly spaced quantiles.
    Density,
    /// At elements drawn at random.
    Random,
    /// The least possible sum of squared errors, by dynamic programming.
    Exact,
}

/// Rounds of Lloyd's algorithm; it stops earlier when nothing moves.
const MAX_ROUNDS: usize = 300;

/// Distinct values up to which [`Init::Exact`] is exact. Beyond, neighbours are first merged into this many
/// groups of about equal counts, and the optimum over those is refined by Lloyd's algorithm.
pub(super) const EXACT_LIMIT: usize = 8192;

/// At most `k` intervals of the distinct values, as where they begin.
pub(super) fn cluster(sorted: &Sorted, k: usize, init: Init, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let m = sorted.values.len();
    if m <= k {
        return (0..m).collect();
    }
    let (lo, hi) = (sorted.values[0], sorted.values[m - 1]);
    let n = sorted.total().count;
    let part = |i: usize| (i as f64 + 0.5) / k as f64;
    let centres = match init {
        Init::Linear if k == 1 => vec![lo / 2.0 + hi / 2.0],
        Init::Linear => {
            let at = |i: usize| i as f64 / (k - 1) as f64;
            (0..k).map(|i| (f64::from(lo) * (1.0 - at(i)) + f64::from(hi) * at(i)) as f32).collect()
        }
        Init::Density => (0..k).map(|i| sorted.values[sorted.at_rank(part(i) * n)]).collect(),
        Init::Random => (0..k).map(|_| sorted.values[sorted.at_rank(rng.random::<f64>() * n)]).collect(),
        Init::Exact => return exact(sorted, k),
    };
    lloyd(sorted, centres)
}

/// Lloyd's algorithm from given centres. A centre that attracts nothing is dropped.
fn lloyd(sorted: &Sorted, mut centres: Vec<f32>) -> Vec<usize> {
    centres.sort_unstable_by(f32::total_cmp);
    centres.dedup();
    let m = sorted.values.len();
    let mut starts = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let mut next = vec![0];
        for pair in centres.windows(2) {
            let border = (f64::from(pair[0]) + f64::from(pair[1])) / 2.0;
            next.push(sorted.values.partition_point(|&x| f64::from(x) < border));
        }
        if next == starts {
            break;
        }
        centres = intervals(&next, m).map(|(from, to)| sorted.mean(from, to)).collect();
        starts = next;
    }
    intervals(&starts, m).map(|(from, _)| from).collect()
}

fn exact(sorted: &Sorted, k: usize) -> Vec<usize> {
    let m = sorted.values.len();
    if m <= EXACT_LIMIT {
        let edges: Vec<usize> = (0..=m).collect();
        return optimum(sorted, &edges, k);
    }
    let n = sorted.total().count;
    let mut edges: Vec<usize> = (0..EXACT_LIMIT).map(|i| sorted.at_rank(i as f64 / EXACT_LIMIT as f64 * n)).collect();
    edges[0] = 0;
    edges.push(m);
    edges.dedup();
    let starts = optimum(sorted, &edges, k);
    lloyd(sorted, intervals(&starts, m).map(|(from, to)| sorted.mean(from, to)).collect())
}

/// The best intervals whose borders are among `edges`.
///
/// With `D[j][i]` the least error of the first `i` groups in `j` clusters,
/// `D[j][i] = min_h D[j−1][h] + error(h, i)`. The best `h` never falls as `i` grows, so the middle `i` of a
/// range is solved first and bounds both halves: O(k·m·log m) (Wu 1991; Grønlund et al. 2017).
fn optimum(sorted: &Sorted, edges: &[usize], k: usize) -> Vec<usize> {
    let m = edges.len() - 1;
    let error = |from: usize, to: usize| sorted.sums(edges[from], edges[to]).error();
    let mut best: Vec<f64> = (0..=m).map(|i| if i == 0 { 0.0 } else { error(0, i) }).collect();
    let mut choices: Vec<Vec<u16>> = vec![vec![0; m + 1]];
    for _ in 1..k.min(m) {
        let mut row = vec![f64::INFINITY; m + 1];
        row[0] = 0.0;
        let mut choice = vec![0u16; m + 1];
        // Ranges of `i` to solve, with the range in which their best `h` lies.
        let mut todo = vec![(1, m, 0, m - 1)];
        while let Some((lo, hi, from, to)) = todo.pop() {
            if lo > hi {
                continue;
            }
            let i = lo.midpoint(hi);
            let mut at = from;
            for (h, so_far) in best.iter().enumerate().take(to.min(i - 1) + 1).skip(from) {
                let total = so_far + error(h, i);
                if total < row[i] {
                    row[i] = total;
                    at = h;
                }
            }
            choice[i] = u16::try_from(at).expect("there are at most EXACT_LIMIT groups");
            todo.push((lo, i - 1, from, at));
            todo.push((i + 1, hi, at, to));
        }
        best = row;
        choices.push(choice);
    }
    let mut starts = Vec::new();
    let mut end = m;
    for choice in choices.iter().rev() {
        if end == 0 {
            break;
        }
        end = usize::from(choice[end]);
        starts.push(edges[end]);
    }
    starts.reverse();
    starts.dedup();
    starts
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    /// Every way to cut `m` values into at most `k` intervals.
    fn brute_force(sorted: &Sorted, k: usize) -> f64 {
        fn cut(sorted: &Sorted, from: usize, k: usize) -> f64 {
            let m = sorted.values().len();
            if from == m {
                return 0.0;
            }
            if k == 0 {
                return f64::INFINITY;
            }
            let with_first = |to| sorted.sums(from, to).error() + cut(sorted, to, k - 1);
            (from + 1..=m).map(with_first).fold(f64::INFINITY, f64::min)
        }
        cut(sorted, 0, k)
    }

    fn sample(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
        // Sums of three are bell-shaped; a coarse grid makes equal elements.
        (0..len).map(|_| ((0..3).map(|_| rng.random_range(-1.0..1.0f32)).sum::<f32>() * 16.0).round() / 16.0).collect()
    }

    #[test]
    fn exact_is_the_optimum() {
        let mut rng = rng(1);
        for case in 0..60 {
            let elements = sample(&mut rng, 1 + case % 17);
            let sorted = Sorted::new(elements);
            for k in 1..6 {
                let starts = cluster(&sorted, k, Init::Exact, &mut rng);
                assert!(starts.len() <= k);
                let (got, best) = (sorted.error(&starts), brute_force(&sorted, k));
                assert!((got - best).abs() <= 1e-9 * (1.0 + best), "{k} clusters: {got} instead of {best}");
            }
        }
    }

    #[test]
    fn exact_survives_values_far_from_zero() {
        let elements: Vec<f32> = (0..9).map(|i| 1e6 + (i / 3) as f32 * 10.0 + (i % 3) as f32).collect();
        let sorted = Sorted::new(elements);
        assert_eq!(cluster(&sorted, 3, Init::Exact, &mut rng(0)), [0, 3, 6]);
    }

    #[test]
    fn no_start_beats_the_optimum_and_none_makes_too_many_clusters() {
        let mut rng = rng(2);
        let sorted = Sorted::new((0..5000).map(|_| sample(&mut self::rng(3), 1)[0] + rng.random::<f32>()).collect());
        for k in [1, 2, 7, 64] {
            let best = sorted.error(&cluster(&sorted, k, Init::Exact, &mut rng));
            for init in [Init::Linear, Init::Density, Init::Random] {
                let starts = cluster(&sorted, k, init, &mut rng);
                assert!(starts.len() <= k && !starts.is_empty(), "{init:?}");
                assert!(sorted.error(&starts) >= best - 1e-9, "{init:?}");
            }
        }
    }

    #[test]
    fn few_distinct_values_are_kept() {
        let sorted = Sorted::new(vec![3.0, 1.0, 3.0, -2.0]);
        assert_eq!(sorted.values(), [-2.0, 1.0, 3.0]);
        for init in [Init::Linear, Init::Density, Init::Random, Init::Exact] {
            assert_eq!(cluster(&sorted, 3, init, &mut rng(0)), [0, 1, 2]);
        }
    }

    #[test]
    fn more_values_than_the_limit_are_grouped_first() {
        let mut rng = rng(4);
        let elements: Vec<f32> = (0..3 * EXACT_LIMIT).map(|_| rng.random::<f32>()).collect();
        let sorted = Sorted::new(elements);
        assert!(sorted.values().len() > EXACT_LIMIT);
        // Uniform values: the optimum is n/12 · (1/k)² but for sampling noise.
        let k = 16;
        let expected = sorted.total().count / 12.0 / (k * k) as f64;
        let got = sorted.error(&cluster(&sorted, k, Init::Exact, &mut rng));
        assert!((got / expected - 1.0).abs() < 0.05, "{got} instead of {expected}");
    }
}
