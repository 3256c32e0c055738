//! Runs models on samples: distances between two, accuracy of one.
//!
//! Batches are shared among threads, each with executables of its own; sums over batches are formed in
//! the order of the batches, so the number of threads changes nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::ProgressBar;
use optc_ir::{Backend, Executable, Graph, Tensor};
use optc_passes::Dataset;

use crate::data::Samples;
use crate::divergence::Divergence;
use crate::error::Error;
use crate::measure::{Accuracy, Distance};
use crate::report::{AccuracyRow, OutputDistance};

/// How samples are run.
pub(super) struct Runner<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) threads: usize,
    pub(super) batch: usize,
    pub(super) progress: ProgressBar,
}

impl Runner<'_> {
    /// Runs every batch on all models and folds what `measure` makes of the results, in order.
    fn run<T: Send>(
        &self,
        models: &[&Graph],
        samples: &Samples,
        measure: impl Fn(&Range<usize>, &[Vec<Tensor>]) -> Result<T, Error> + Sync,
    ) -> Result<Vec<T>, Error> {
        let batches = samples.batches(self.batch);
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<(usize, Result<T, Error>)>> = Mutex::new(Vec::new());
        let one = |executables: &mut [Box<dyn Executable>], batch: &Range<usize>| {
            let inputs = samples.padded_batch(batch.clone())?;
            let results: Result<Vec<_>, _> = executables.iter_mut().map(|e| e.run(&inputs)).collect();
            measure(batch, &results?)
        };
        let work = || {
            let mut executables: Option<Vec<Box<dyn Executable>>> = None;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = batches.get(index) else { break };
                let result = match &mut executables {
                    Some(executables) => one(executables, batch),
                    None => {
                        let compiled: Result<Vec<_>, _> = models.iter().map(|m| self.backend.compile(m)).collect();
                        compiled.map_err(Error::from).and_then(|e| one(executables.insert(e), batch))
                    }
                };
                self.progress.inc(batch.len() as u64);
                let failed = result.is_err();
                done.lock().expect("no thread panics while it holds the lock").push((index, result));
                if failed {
                    // The others find nothing left to do.
                    next.store(batches.len(), Ordering::Relaxed);
                    break;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.min(batches.len()) {
                scope.spawn(work);
            }
            work();
        });
        let mut done = done.into_inner().expect("no thread panics while it holds the lock");
        done.sort_by_key(|(index, _)| *index);
        self.progress.finish_and_clear();
        done.into_iter().map(|(_, result)| result).collect()
    }

    /// How far two models are apart, output by output.
    pub(super) fn distances(&self, a: &Graph, b: &Graph, samples: &Samples) -> Result<Vec<OutputDistance>, Error> {
        let names: Vec<String> = a.results().iter().map(|(name, _)| (*name).to_owned()).collect();
        let order = same_results(a, b)?;
        let fixed = samples.fixed_batch().is_some();
        let parts = self.run(&[a, b], samples, |batch, results| {
            let rows = fixed.then_some(batch.len());
            let pairs = names.iter().zip(&results[0]).zip(&order);
            let distance = |((name, a), &at): ((&String, &Tensor), &usize)| {
                let mut distance = Distance::default();
                let added = distance.add(
                    a,
                    &results[1][at],
                    rows.filter(|_| a.shape().first() == samples.fixed_batch().as_ref()),
                );
                added.map_err(|e| Error::Data(format!("output {name}: {e}"))).map(|()| distance)
            };
            pairs.map(distance).collect::<Result<Vec<_>, _>>()
        })?;
        let mut totals = vec![Distance::default(); names.len()];
        for part in parts {
            totals.iter_mut().zip(part).for_each(|(total, distance)| total.merge(&distance));
        }
        Ok(names.into_iter().zip(totals).map(|(name, distance)| row(name, &distance)).collect())
    }

    /// The first results of a model on every batch.
    pub(super) fn answers(&self, graph: &Graph, samples: &Samples) -> Result<Answers, Error> {
        let first = |batch: &Range<usize>, results: &[Vec<Tensor>]| match results[0].first() {
            Some(first) => Ok((batch.start, first.clone())),
            None => Err(Error::Usage("the model has no outputs".to_owned())),
        };
        Ok(Answers(self.run(&[graph], samples, first)?.into_iter().collect()))
    }

    /// How far the first results of a model are from the answers of another.
    pub(super) fn divergence(&self, answers: &Answers, graph: &Graph, samples: &Samples) -> Result<Divergence, Error> {
        let fixed = samples.fixed_batch();
        let parts = self.run(&[graph], samples, |batch, results| {
            let mut divergence = Divergence::default();
            let (Some(answer), Some(result)) = (answers.0.get(&batch.start), results[0].first()) else {
                return Err(Error::Usage("the model has no outputs".to_owned()));
            };
            let rows = fixed.filter(|&n| answer.shape().first() == Some(&n)).map(|_| batch.len());
            divergence.add(answer, result, rows).map_err(Error::Data)?;
            Ok(divergence)
        })?;
        Ok(parts.into_iter().fold(Divergence::default(), Divergence::and))
    }

    /// How often a classifier is right. `output` is the index of its scores.
    pub(super) fn accuracy(&self, graph: &Graph, output: usize, samples: &Samples) -> Result<AccuracyRow, Error> {
        let labels = samples.labels().ok_or_else(|| Error::Usage("labels are needed: --labels FILE".to_owned()))?;
        let parts = self.run(&[graph], samples, |batch, results| {
            let mut accuracy = Accuracy::default();
            accuracy.add(&results[0][output], &labels[batch.clone()]).map_err(Error::Data)?;
            Ok(accuracy)
        })?;
        let total = parts.into_iter().fold(Accuracy::default(), Accuracy::and);
        let share = |n: usize| if total.count == 0 { 0.0 } else { n as f64 / total.count as f64 };
        Ok(AccuracyRow { top1: share(total.top1), top5: share(total.top5), count: total.count })
    }
}

/// The first results of a model, by the sample that each batch starts with.
pub(super) struct Answers(BTreeMap<usize, Tensor>);

fn row(name: String, distance: &Distance) -> OutputDistance {
    OutputDistance {
        name,
        max_abs: distance.max_abs(),
        max_rel: distance.max_rel(),
        cosine: distance.cosine(),
        top1_agreement: distance.top1_agreement(),
        mismatches: distance.mismatches(),
    }
}

/// Where each result of `a` stands among those of `b`: by name, or by position if no name is shared and
/// there are as many.
fn same_results(a: &Graph, b: &Graph) -> Result<Vec<usize>, Error> {
    let (names_a, names_b): (Vec<&str>, Vec<&str>) =
        (a.results().iter().map(|(n, _)| *n).collect(), b.results().iter().map(|(n, _)| *n).collect());
    let by_name: Vec<Option<usize>> = names_a.iter().map(|n| names_b.iter().position(|m| m == n)).collect();
    if by_name.iter().all(Option::is_none) && names_a.len() == names_b.len() {
        return Ok((0..names_a.len()).collect());
    }
    let missing: Vec<&str> = names_a.iter().zip(&by_name).filter(|(_, at)| at.is_none()).map(|(n, _)| *n).collect();
    if missing.is_empty() {
        return Ok(by_name.into_iter().flatten().collect());
    }
    let (missing, has) = (missing.join(", "), names_b.join(", "));
    Err(Error::Data(format!("the second model lacks outputs {missing}; it has {has}")))
}
