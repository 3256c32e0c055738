//! How far two runs of a model are apart, and how often a classifier is right.
//!
//! Measures accumulate over runs, so any amount of data takes the memory of one batch.

use optc_ir::Tensor;

/// The distance between two series of tensors, the first of which is the reference.
#[derive(Clone, Debug, Default)]
pub struct Distance {
    max_abs: f64,
    max_rel: f64,
    dot: f64,
    norm_a: f64,
    norm_b: f64,
    rows: u64,
    agreeing: u64,
    mismatches: u64,
}

impl Distance {
    /// Takes one pair of results into account. Only the first `rows` of the leading axis count, if given.
    ///
    /// # Errors
    /// A message if the shapes differ.
    pub fn add(&mut self, a: &Tensor, b: &Tensor, rows: Option<usize>) -> Result<(), String> {
        let Pair { a, b, row_len } = Pair::new(a, b, rows)?;
        let (mut largest, mut apart) = (0.0f64, 0.0f64);
        for (&x, &y) in a.iter().zip(&b) {
            if x == y || (x.is_nan() && y.is_nan()) {
                // Equal infinities are at distance zero, which subtracting them would not give.
            } else if x.is_finite() && y.is_finite() {
                apart = apart.max((x - y).abs());
            } else {
                self.mismatches += 1;
            }
            if x.is_finite() && y.is_finite() {
                largest = largest.max(x.abs());
                self.dot += x * y;
                self.norm_a += x * x;
                self.norm_b += y * y;
            }
        }
        self.max_abs = self.max_abs.max(apart);
        if apart > 0.0 {
            self.max_rel = self.max_rel.max(apart / largest);
        }
        if row_len > 1 {
            for (x, y) in a.chunks_exact(row_len).zip(b.chunks_exact(row_len)) {
                self.rows += 1;
                self.agreeing += u64::from(arg_max(x) == arg_max(y));
            }
        }
        Ok(())
    }

    /// Takes another series into account, as if its runs had been added here.
    pub fn merge(&mut self, other: &Distance) {
        self.max_abs = self.max_abs.max(other.max_abs);
        self.max_rel = self.max_rel.max(other.max_rel);
        self.dot += other.dot;
        self.norm_a += other.norm_a;
        self.norm_b += other.norm_b;
        self.rows += other.rows;
        self.agreeing += other.agreeing;
        self.mismatches += other.mismatches;
    }

    /// The largest `|a − b|`; infinite if an element is finite in one series only.
    pub fn max_abs(&self) -> f64 {
        if self.mismatches > 0 { f64::INFINITY } else { self.max_abs }
    }

    /// The largest `|a − b|` of a run over the largest `|a|` of the same run.
    pub fn max_rel(&self) -> f64 {
        if self.mismatches > 0 { f64::INFINITY } else { self.max_rel }
    }

    /// `Σab / √(Σa²·Σb²)` over all finite elements; 1 if both series are zero.
    pub fn cosine(&self) -> f64 {
        match (self.norm_a == 0.0, self.norm_b == 0.0) {
            (true, true) => 1.0,
            (false, false) => (self.dot / (self.norm_a.sqrt() * self.norm_b.sqrt())).clamp(-1.0, 1.0),
            _ => 0.0,
        }
    }

    /// The share of rows (along the last axis longer than 1) whose largest element stands at the same
    /// place; `None` if there are no such rows.
    pub fn top1_agreement(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.agreeing as f64 / self.rows as f64)
    }

    /// Elements that are finite in one series and not in the other, or infinite or NaN in different ways.
    pub fn mismatches(&self) -> u64 {
        self.mismatches
    }
}

/// The elements of two results that count.
pub(crate) struct Pair {
    pub(crate) a: Vec<f64>,
    pub(crate) b: Vec<f64>,
    /// Elements of a row: the extent of the last axis longer than 1.
    pub(crate) row_len: usize,
}

impl Pair {
    /// Only the first `rows` of the leading axis count, if given.
    ///
    /// # Errors
    /// A message if the shapes differ.
    pub(crate) fn new(a: &Tensor, b: &Tensor, rows: Option<usize>) -> Result<Pair, String> {
        if a.shape() != b.shape() {
            return Err(format!("shapes differ: {:?} and {:?}", a.shape(), b.shape()));
        }
        let row_len = row_len(a.shape());
        let len = match (rows, a.shape().first()) {
            (Some(rows), Some(&leading)) if leading > 0 => a.len() / leading * rows.min(leading),
            _ => a.len(),
        };
        let (mut a, mut b) = (a.data().to_f64(), b.data().to_f64());
        a.truncate(len);
        b.truncate(len);
        Ok(Pair { a, b, row_len })
    }
}

/// The extent of the last axis longer than 1 if it is followed by axes of extent 1 only.
fn row_len(shape: &[usize]) -> usize {
    shape.iter().rev().copied().find(|&n| n != 1).unwrap_or(1)
}

/// The place of the first largest element; a NaN is larger than any number, so that it can't hide.
pub(crate) fn arg_max(row: &[f64]) -> usize {
    let mut best = 0;
    for (i, x) in row.iter().enumerate() {
        if *x > row[best] || (x.is_nan() && !row[best].is_nan()) {
            best = i;
        }
    }
    best
}

/// How often the class of a sample is the best, or among the five best, of a classifier's scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Samples seen.
    pub count: usize,
    /// Samples whose class has the highest score.
    pub top1: usize,
    /// Samples whose class is among the five highest scores.
    pub top5: usize,
}

impl Accuracy {
    /// Takes the scores of `labels.len()` samples into account: the first rows of a batch of scores.
    ///
    /// # Errors
    /// A message if the scores are not one row of numbers a sample, or a label has no score.
    pub fn add(&mut self, scores: &Tensor, labels: &[u32]) -> Result<(), String> {
        let shape = scores.shape();
        let classes = shape.get(1..).unwrap_or_default().iter().product::<usize>();
        let vector = shape.get(1..).unwrap_or_default().iter().filter(|&&n| n != 1).count() <= 1;
        if !vector || classes < 2 || shape[0] < labels.len() {
            return Err(format!("an output of shape {shape:?} is no scores of classes for {} samples", labels.len()));
        }
        let all = scores.data().to_f64();
        for (row, &label) in all.chunks_exact(classes).zip(labels) {
            let class = label as usize;
            let Some(&score) = row.get(class) else {
                return Err(format!("label {label}, but the model knows {classes} classes"));
            };
            // Of equal scores the earlier class ranks higher; a NaN ranks last.
            let ahead = |i: usize, x: f64| x > score || (x == score && i < class) || (score.is_nan() && !x.is_nan());
            let rank = row.iter().enumerate().filter(|&(i, &x)| ahead(i, x)).count();
            self.count += 1;
            self.top1 += usize::from(rank == 0 && !score.is_nan());
            self.top5 += usize::from(rank < 5 && !score.is_nan());
        }
        Ok(())
    }

    /// The counts of both together.
    #[must_use]
    pub fn and(self, other: Accuracy) -> Accuracy {
        Accuracy { count: self.count + other.count, top1: self.top1 + other.top1, top5: self.top5 + other.top5 }
    }
}

/// The smallest of sorted values that at least a share `q` of them don't exceed (nearest rank).
///
/// # Panics
/// If there are no values.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_runs_are_at_no_distance() {
        let a = Tensor::f32([2, 3], [1.0, -2.0, 0.5, f32::NAN, f32::INFINITY, 0.0]);
        let mut d = Distance::default();
        d.add(&a, &a, None).unwrap();
        assert_eq!((d.max_abs(), d.max_rel(), d.mismatches()), (0.0, 0.0, 0));
        assert!((d.cosine() - 1.0).abs() < 1e-12);
        assert_eq!(d.top1_agreement(), Some(1.0));
    }

    #[test]
    fn distances_are_largest_over_all_runs() {
        let mut d = Distance::default();
        d.add(&Tensor::f32([1, 2], [4.0, 0.0]), &Tensor::f32([1, 2], [4.0, 1.0]), None).unwrap();
        d.add(&Tensor::f32([1, 2], [1.0, 0.0]), &Tensor::f32([1, 2], [0.5, 0.75]), None).unwrap();
        assert_eq!((d.max_abs(), d.max_rel(), d.top1_agreement()), (1.0, 0.75, Some(0.5)));
        let cosine = 16.5 / (17f64.sqrt() * (17.0f64 + 0.25 + 0.5625).sqrt());
        assert!((d.cosine() - cosine).abs() < 1e-12);
        assert!(d.add(&Tensor::f32([1], [0.0]), &Tensor::f32([2], [0.0; 2]), None).is_err());
    }

    #[test]
    fn padding_rows_do_not_count() {
        let mut d = Distance::default();
        d.add(&Tensor::f32([2, 2], [1.0, 0.0, 5.0, 5.0]), &Tensor::f32([2, 2], [1.0, 0.0, -5.0, 9.0]), Some(1))
            .unwrap();
        assert_eq!((d.max_abs(), d.top1_agreement()), (0.0, Some(1.0)));
    }

    #[test]
    fn a_number_that_became_nan_is_infinitely_far() {
        let mut d = Distance::default();
        d.add(&Tensor::f32([2], [2.0, 1.0]), &Tensor::f32([2], [2.0, f32::NAN]), None).unwrap();
        assert_eq!((d.max_abs(), d.mismatches(), d.top1_agreement()), (f64::INFINITY, 1, Some(0.0)));
    }

    #[test]
    fn zero_against_something_is_orthogonal() {
        let mut d = Distance::default();
        d.add(&Tensor::f32([1], [0.0]), &Tensor::f32([1], [2.0]), None).unwrap();
        assert_eq!((d.cosine(), d.max_rel(), d.top1_agreement()), (0.0, f64::INFINITY, None));
    }

    #[test]
    fn ranks_decide_accuracy() {
        let mut accuracy = Accuracy::default();
        let scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1];
        accuracy.add(&Tensor::f32([2, 6, 1, 1], scores), &[1, 0]).unwrap();
        assert_eq!(accuracy, Accuracy { count: 2, top1: 1, top5: 2 });
        accuracy.add(&Tensor::f32([1, 6], &scores[..6]), &[0]).unwrap();
        assert_eq!(accuracy, Accuracy { count: 3, top1: 1, top5: 2 });
        assert!(accuracy.add(&Tensor::f32([1, 6], &scores[..6]), &[6]).is_err());
        assert!(accuracy.add(&Tensor::f32([1, 2, 3], &scores[..6]), &[0]).is_err());
        let mut nan = Accuracy::default();
        nan.add(&Tensor::f32([1, 2], [f32::NAN, f32::NAN]), &[0]).unwrap();
        assert_eq!(nan, Accuracy { count: 1, top1: 0, top5: 0 });
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let sorted: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(quantile(&sorted, 0.5), 10.0);
        assert_eq!(quantile(&sorted, 0.95), 19.0);
        assert_eq!(quantile(&sorted[..1], 0.95), 1.0);
    }
}
