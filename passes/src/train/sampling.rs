//! The order in which samples are seen.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Batches of samples, each epoch in an order of its own. The order is a function of the seed and the number of the
/// epoch, so that training can go on from any step.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    /// The number of samples.
    pub samples: usize,
    /// Samples a batch.
    pub batch: usize,
    /// Where the orders start from.
    pub seed: u64,
}

impl Sampler {
    /// Batches in one epoch. What does not fill a batch is left out; which samples those are changes from epoch to
    /// epoch.
    pub fn batches(&self) -> usize {
        self.samples.checked_div(self.batch).unwrap_or(0)
    }

    /// The samples of an epoch, batch by batch.
    pub fn epoch(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.samples).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(epoch);
        order.shuffle(&mut rng);
        order.chunks_exact(self.batch.max(1)).take(self.batches()).map(<[usize]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_sees_each_sample_at_most_once() {
        let sampler = Sampler { samples: 10, batch: 3, seed: 1 };
        let epoch = sampler.epoch(0);
        assert_eq!(epoch.len(), sampler.batches());
        let mut seen = epoch.concat();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 9);
        assert_eq!(epoch, sampler.epoch(0));
        assert_ne!(epoch, sampler.epoch(1));
        assert_eq!(Sampler { batch: 0, ..sampler }.epoch(0), Vec::<Vec<usize>>::new());
    }
}
