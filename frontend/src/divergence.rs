//! How far the answers of a model are from those of the model it was made of.

use optc_ir::Tensor;

use crate::measure::{Pair, arg_max};

/// Distances between results of two models, the first of which is the reference, summed over runs.
///
/// Rows lie along the last axis longer than 1. For the Kullback–Leibler divergence each is a distribution over
/// classes: as it is if it has no negative number and sums to 1, by softmax otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Divergence {
    squares: f64,
    elements: u64,
    kl: f64,
    rows: u64,
    agreeing: u64,
}

impl Divergence {
    /// Takes one pair of results into account. Only the first `rows` of the leading axis count, if given.
    ///
    /// # Errors
    /// A message if the shapes differ.
    pub fn add(&mut self, a: &Tensor, b: &Tensor, rows: Option<usize>) -> Result<(), String> {
        let Pair { a, b, row_len } = Pair::new(a, b, rows)?;
        self.squares += a.iter().zip(&b).map(|(x, y)| (x - y).powi(2)).sum::<f64>();
        self.elements += a.len() as u64;
        if row_len > 1 {
            for (x, y) in a.chunks_exact(row_len).zip(b.chunks_exact(row_len)) {
                self.rows += 1;
                self.agreeing += u64::from(arg_max(x) == arg_max(y));
                self.kl += kullback_leibler(x, y);
            }
        }
        Ok(())
    }

    /// Takes another series into account, as if its runs had been added here.
    #[must_use]
    pub fn and(self, other: Divergence) -> Divergence {
        Divergence {
            squares: self.squares + other.squares,
            elements: self.elements + other.elements,
            kl: self.kl + other.kl,
            rows: self.rows + other.rows,
            agreeing: self.agreeing + other.agreeing,
        }
    }

    /// The mean of `(a − b)²` over elements; 0 if there are none.
    pub fn mse(&self) -> f64 {
        if self.elements == 0 { 0.0 } else { self.squares / self.elements as f64 }
    }

    /// The mean over rows of `Σ p·ln(p/q)`, in nats; `None` if there are no rows.
    pub fn kl(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.kl / self.rows as f64)
    }

    /// The share of rows whose largest element stands at the same place; `None` if there are no rows.
    pub fn agreement(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.agreeing as f64 / self.rows as f64)
    }
}

/// `Σ p·ln(p/q)` of two rows.
fn kullback_leibler(a: &[f64], b: &[f64]) -> f64 {
    let given = is_distribution(a) && is_distribution(b);
    let (p, q) = (log_probabilities(a, given), log_probabilities(b, given));
    // What has probability 0 in the reference adds nothing, whatever the other says.
    let term = |(p, q): (&f64, &f64)| if *p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) };
    // Rounding may take a divergence of zero below it.
    p.iter().zip(&q).map(term).sum::<f64>().max(0.0)
}

fn is_distribution(row: &[f64]) -> bool {
    row.iter().all(|x| (0.0..=1.0).contains(x)) && (row.iter().sum::<f64>() - 1.0).abs() < 1e-3
}

fn log_probabilities(row: &[f64], given: bool) -> Vec<f64> {
    if given {
        return row.iter().map(|x| x.ln()).collect();
    }
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
    row.iter().map(|x| x - largest - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(a: &[f32], b: &[f32], shape: [usize; 2]) -> Divergence {
        let mut divergence = Divergence::default();
        divergence.add(&Tensor::f32(shape, a.to_vec()), &Tensor::f32(shape, b.to_vec()), None).unwrap();
        divergence
    }

    #[test]
    fn scores_and_probabilities_are_told_apart() {
        let (p, q) = ([0.5f32, 0.25, 0.25], [0.25f32, 0.5, 0.25]);
        let expected = 0.5 * 2f64.ln() - 0.25 * 2f64.ln();
        let as_given = between(&p, &q, [1, 3]);
        assert!((as_given.kl().unwrap() - expected).abs() < 1e-7);
        assert_eq!(as_given.agreement(), Some(0.0));
        assert!((as_given.mse() - 2.0 * 0.0625 / 3.0).abs() < 1e-9);
        // Scores are known up to a constant.
        let logits = |row: [f32; 3]| row.map(|x| x.ln() + 7.0);
        assert!((between(&logits(p), &logits(q), [1, 3]).kl().unwrap() - expected).abs() < 1e-6);
    }

    #[test]
    fn impossible_classes_cost_nothing_unless_they_happen() {
        assert_eq!(between(&[1.0, 0.0], &[1.0, 0.0], [1, 2]).kl(), Some(0.0));
        assert_eq!(between(&[1.0, 0.0], &[0.0, 1.0], [1, 2]).kl(), Some(f64::INFINITY));
    }

    #[test]
    fn series_add_up() {
        let (a, b) = (between(&[1.0, 2.0], &[1.0, 4.0], [1, 2]), between(&[1.0, 2.0], &[2.0, 1.0], [1, 2]));
        let both = between(&[1.0, 2.0, 1.0, 2.0], &[1.0, 4.0, 2.0, 1.0], [2, 2]);
        assert_eq!(a.and(b), both);
        assert_eq!(both.agreement(), Some(0.5));
        assert_eq!(Divergence::default().kl(), None);
    }
}
