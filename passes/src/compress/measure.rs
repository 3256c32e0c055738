//! How far the results of a graph move on data.

use optc_ir::{Backend, Executable, Graph, Tensor};

use crate::data::Dataset;
use crate::error::PassError;

/// Samples run at once where the graph leaves that open.
const BATCH: usize = 8;

/// The first samples, at most `samples`, in batches that the graph takes.
pub(super) fn batches(graph: &Graph, data: &dyn Dataset, samples: usize) -> Vec<std::ops::Range<usize>> {
    let fixed = graph.fixed_batch();
    let size = fixed.unwrap_or(BATCH).max(1);
    let samples = data.len().min(samples.max(size));
    // A graph made for a number of samples takes no fewer.
    let whole = if fixed.is_some() { samples / size * size } else { samples };
    (0..whole).step_by(size).map(|at| at..(at + size).min(whole)).collect()
}

/// How far results moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drift {
    /// The share of samples whose largest element stayed the largest, least over results that are one vector
    /// a sample; `None` if there is no such result.
    pub(super) agreement: Option<f64>,
    /// `‖y − ŷ‖ / ‖y‖` over all samples, the largest over results of floating-point numbers.
    pub(super) error: f64,
}

/// Samples, and the results a graph gave on them.
pub(super) struct Yardstick<'a> {
    data: &'a dyn Dataset,
    batches: Vec<std::ops::Range<usize>>,
    results: Vec<Vec<Tensor>>,
}

impl<'a> Yardstick<'a> {
    /// Runs a graph on the first samples, at most `samples`.
    pub(super) fn new(
        backend: &dyn Backend,
        graph: &Graph,
        data: &'a dyn Dataset,
        samples: usize,
    ) -> Result<Yardstick<'a>, PassError> {
        let batches = batches(graph, data, samples);
        let mut yardstick = Yardstick { data, batches, results: Vec::new() };
        let mut executable = backend.compile(graph)?;
        yardstick.results = yardstick.run(&mut *executable)?;
        Ok(yardstick)
    }

    /// How many samples there are.
    pub(super) fn samples(&self) -> usize {
        self.batches.last().map_or(0, |batch| batch.end)
    }

    fn run(&self, executable: &mut dyn Executable) -> Result<Vec<Vec<Tensor>>, PassError> {
        let run = |batch: &std::ops::Range<usize>| Ok(executable.run(&self.data.batch(batch.clone())?)?);
        self.batches.iter().map(run).collect()
    }

    /// Runs another graph of the same signature.
    pub(super) fn measure(&self, backend: &dyn Backend, graph: &Graph) -> Result<Drift, PassError> {
        let mut executable = backend.compile(graph)?;
        let results = self.run(&mut *executable)?;
        let count = results.first().map_or(0, Vec::len);
        let mut drift = Drift { agreement: None, error: 0.0 };
        for i in 0..count {
            let pairs: Vec<(&Tensor, &Tensor)> =
                self.results.iter().zip(&results).map(|(old, new)| (&old[i], &new[i])).collect();
            if !pairs.iter().all(|(old, new)| old.dtype().is_float() && old.shape() == new.shape()) {
                continue;
            }
            let one = compare(&pairs);
            drift.error = drift.error.max(one.error);
            drift.agreement = match (drift.agreement, one.agreement) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        Ok(drift)
    }
}

fn compare(pairs: &[(&Tensor, &Tensor)]) -> Drift {
    let (mut error, mut norm) = (0.0, 0.0);
    let (mut rows, mut agreeing) = (0usize, 0usize);
    for (old, new) in pairs {
        let (a, b) = (old.data().to_f64(), new.data().to_f64());
        // Not a number and infinities compare as equal where they are equal, and as no finite error elsewhere.
        for (&a, &b) in a.iter().zip(&b) {
            if a.to_bits() != b.to_bits() {
                error += (a - b).powi(2);
            }
            norm += a.powi(2);
        }
        if let &[_, classes] = old.shape()
            && classes > 1
        {
            let top =
                |row: &[f64]| (0..classes).max_by(|&i, &j| row[i].total_cmp(&row[j]).then(j.cmp(&i))).unwrap_or(0);
            rows += old.shape()[0];
            agreeing += a.chunks(classes).zip(b.chunks(classes)).filter(|(a, b)| top(a) == top(b)).count();
        }
    }
    let relative = if error == 0.0 { 0.0 } else { (error / norm).sqrt() };
    Drift {
        agreement: (rows > 0).then(|| agreeing as f64 / rows as f64),
        error: if relative.is_nan() { f64::INFINITY } else { relative },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_errors_are_compared() {
        let old = Tensor::f32([2, 3], [1.0, 2.0, 2.0, 5.0, 0.0, 1.0]);
        let new = Tensor::f32([2, 3], [1.0, 2.0, 2.0, 5.0, 0.0, 5.5]);
        let drift = compare(&[(&old, &old), (&old, &new)]);
        assert_eq!(drift.agreement, Some(0.75));
        assert!((drift.error - 4.5 / (2.0f64 * 35.0).sqrt()).abs() < 1e-12);
        let nan = Tensor::f32([1, 2], [f32::NAN, 1.0]);
        assert_eq!(compare(&[(&nan, &nan)]).error, 0.0);
        assert_eq!(compare(&[(&Tensor::f32([1, 2], [0.0, 1.0]), &nan)]).error, f64::INFINITY);
        let image = Tensor::f32([1, 1, 2, 2], [1.0; 4]);
        assert_eq!(compare(&[(&image, &image)]).agreement, None);
    }
}
