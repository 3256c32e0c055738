//! Batches for training: in a new order each epoch, prepared by a thread of their own while the last one is
//! being trained on.
//!
//! At most two batches wait, so that memory stays bounded whatever the size of the set.

use std::sync::mpsc::sync_channel;

use optc_ir::Tensor;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Augment, LabelledSet};
use crate::error::Error;

/// Batches that wait.
const AHEAD: usize = 2;

/// A batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// A tensor for each input of the model.
    pub inputs: Vec<Tensor>,
    /// The class of each sample.
    pub labels: Vec<u32>,
}

/// How an epoch is cut into batches.
#[derive(Clone, Debug)]
pub struct Epoch<'a> {
    /// The samples it goes over.
    pub samples: &'a [usize],
    /// Samples a batch.
    pub batch: usize,
    /// What may happen to a picture.
    pub augment: Augment,
    /// What zero became by scaling, one number or one a channel.
    pub border: &'a [f32],
    /// Where everything random starts from.
    pub seed: u64,
    /// The number of the epoch.
    pub number: u64,
}

impl Epoch<'_> {
    /// The number of batches. What does not fill one is left out, and others are in the next epoch.
    pub fn len(&self) -> usize {
        self.samples.len() / self.batch
    }

    /// Whether not even one batch can be filled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `f` with every batch in shuffled order, beginning at number `start`.
    ///
    /// # Errors
    /// [`Error::Data`] if a sample can't be read or changed; whatever `f` returns.
    pub fn for_each(
        &self,
        set: &LabelledSet,
        start: usize,
        mut f: impl FnMut(usize, Batch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut order = self.samples.to_vec();
        shuffle(&mut order, self.seed, self.number);
        let order = &order;
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD);
            scope.spawn(move || {
                for indices in order.chunks_exact(self.batch).skip(start) {
                    // A failure is the last message; nobody listening means that training has failed.
                    let batch = self.prepare(set, indices);
                    let failed = batch.is_err();
                    if sender.send(batch).is_err() || failed {
                        break;
                    }
                }
            });
            (start..).zip(receiver).try_for_each(|(i, batch)| f(i, batch?))
        })
    }

    fn prepare(&self, set: &LabelledSet, indices: &[usize]) -> Result<Batch, Error> {
        let mut inputs = set.pick(indices)?;
        if let [input] = inputs.as_mut_slice() {
            self.augment.apply(input, indices, self.border, self.seed, self.number)?;
        }
        Ok(Batch { inputs, labels: indices.iter().map(|&i| set.labels()[i]).collect() })
    }
}

/// Puts numbers into an order that follows from a seed and an epoch (Fisher and Yates).
pub(super) fn shuffle(order: &mut [usize], seed: u64, epoch: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch ^ (1 << 63));
    for last in (1..order.len()).rev() {
        let other = ((u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64) as usize;
        order.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use optc_ir::{DType, Data, Dim, Graph, Type};

    use super::*;
    use crate::data::{Part, Scaling};

    fn set(count: usize) -> LabelledSet {
        let dir = tempfile::tempdir().unwrap();
        let (x, y) = (dir.path().join("x.npy"), dir.path().join("y.npy"));
        let numbers = Tensor::new([count, 1], Data::U8((0..count).map(|i| i as u8).collect()));
        std::fs::write(&x, crate::data::write_npy(&numbers)).unwrap();
        std::fs::write(&y, crate::data::write_npy(&numbers)).unwrap();
        let mut graph = Graph::new("g");
        graph.add_input("x", Type::tensor(DType::F32, [Dim::sym("N"), Dim::Fixed(1)]));
        LabelledSet::read(&Part::Files { samples: x, labels: Some(y) }, &graph, &Scaling::default()).unwrap()
    }

    fn epoch(samples: &[usize], number: u64) -> Epoch<'_> {
        Epoch { samples, batch: 4, augment: Augment::default(), border: &[0.0], seed: 1, number }
    }

    #[test]
    fn every_epoch_goes_over_all_samples_in_another_order() {
        let set = set(16);
        let samples: Vec<usize> = (0..16).collect();
        let labels = |number, start| {
            let mut labels = Vec::new();
            let each = |_, batch: Batch| {
                assert_eq!(
                    batch.inputs[0].as_f32().unwrap(),
                    batch.labels.iter().map(|&l| l as f32).collect::<Vec<_>>()
                );
                labels.extend(batch.labels);
                Ok(())
            };
            epoch(&samples, number).for_each(&set, start, each).unwrap();
            labels
        };
        let (first, second) = (labels(0, 0), labels(1, 0));
        assert_ne!(first, second);
        assert_eq!(first, labels(0, 0));
        assert_eq!(first[8..], labels(0, 2));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..16).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_ends_the_epoch() {
        let set = set(8);
        let samples: Vec<usize> = (0..8).collect();
        let mut seen = 0;
        let result = epoch(&samples, 0).for_each(&set, 0, |_, _| {
            seen += 1;
            Err(Error::Usage("enough".to_owned()))
        });
        assert!(result.is_err() && seen == 1);
    }
}
