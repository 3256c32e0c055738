//! Random changes to pictures while training: shifts, which are crops of the padded picture, and mirroring.
//!
//! What happens to a sample follows from the seed, the epoch and the sample alone: neither the batch it is in
//! nor the number of threads matters.

use optc_ir::Tensor;
use rand::RngCore;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::ArrayError;

/// What may happen to a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Shifts by up to so many pixels along each axis; what comes in is zero, as it was before scaling.
    pub shift: usize,
    /// Mirrors left and right, half of the time.
    pub flip: bool,
}

impl Augment {
    /// Changes a batch `[N, C, H, W]` whose samples have these numbers. `border` is what zero became by
    /// scaling, one number or one a channel.
    ///
    /// # Errors
    /// [`ArrayError`] if the batch is none of pictures of floats, or a shift is as large as they are.
    pub fn apply(
        &self,
        batch: &mut Tensor,
        samples: &[usize],
        border: &[f32],
        seed: u64,
        epoch: u64,
    ) -> Result<(), ArrayError> {
        if *self == Augment::default() {
            return Ok(());
        }
        let &[n, channels, height, width] = batch.shape() else {
            let message = format!("pictures of shape [N, C, H, W] can be shifted and flipped, not {:?}", batch.shape());
            return Err(ArrayError::new(message));
        };
        if self.shift >= height.min(width) {
            return Err(ArrayError::new(format!("a shift by {} leaves nothing of {height}×{width}", self.shift)));
        }
        let optc_ir::Data::F32(values) = batch.data_mut() else {
            return Err(ArrayError::new("pictures of f32 can be shifted and flipped alone"));
        };
        assert_eq!(n, samples.len(), "a number for each sample");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(epoch);
        let mut plane = vec![0.0; height * width];
        for (&sample, picture) in samples.iter().zip(values.chunks_exact_mut(channels * height * width)) {
            rng.set_word_pos(4 * sample as u128);
            let mut draw = |count: usize| ((u64::from(rng.next_u32()) * count as u64) >> 32) as usize;
            let [dy, dx] = [draw(2 * self.shift + 1), draw(2 * self.shift + 1)];
            let flip = self.flip && draw(2) == 1;
            for (c, pixels) in picture.chunks_exact_mut(height * width).enumerate() {
                plane.copy_from_slice(pixels);
                let outside = border[if border.len() == 1 { 0 } else { c }];
                for (y, row) in pixels.chunks_exact_mut(width).enumerate() {
                    let from = (y + dy).checked_sub(self.shift).filter(|&y| y < height);
                    for (x, to) in row.iter_mut().enumerate() {
                        let x = if flip { width - 1 - x } else { x };
                        let from = from.zip((x + dx).checked_sub(self.shift).filter(|&x| x < width));
                        *to = from.map_or(outside, |(y, x)| plane[y * width + x]);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(count: usize) -> Tensor {
        Tensor::f32([count, 1, 3, 3], (0..count * 9).map(|i| (i % 9 + 1) as f32).collect::<Vec<_>>())
    }

    #[test]
    fn a_sample_changes_the_same_way_in_any_batch() {
        let augment = Augment { shift: 1, flip: true };
        let mut all = pictures(64);
        augment.apply(&mut all, &(0..64).collect::<Vec<_>>(), &[-1.0], 5, 2).unwrap();
        let mut two = pictures(2);
        augment.apply(&mut two, &[40, 7], &[-1.0], 5, 2).unwrap();
        let all = all.as_f32().unwrap();
        assert_eq!(two.as_f32().unwrap(), [&all[40 * 9..41 * 9], &all[7 * 9..8 * 9]].concat());
        // All nine shifts and both orientations occur, and a shift brings the border in.
        let mut kinds: Vec<Vec<u32>> = all.chunks(9).map(|p| p.iter().map(|x| x.to_bits()).collect()).collect();
        kinds.sort();
        kinds.dedup();
        assert!(kinds.len() > 12, "{}", kinds.len());
        assert!(all.contains(&-1.0));
        let mut later = pictures(64);
        augment.apply(&mut later, &(0..64).collect::<Vec<_>>(), &[-1.0], 5, 3).unwrap();
        assert_ne!(later.as_f32().unwrap(), all);
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let augment = Augment { shift: 3, flip: false };
        assert!(augment.apply(&mut pictures(1), &[0], &[0.0], 0, 0).is_err());
        assert!(augment.apply(&mut Tensor::f32([1, 4], [0.0; 4]), &[0], &[0.0], 0, 0).is_err());
        assert!(Augment::default().apply(&mut Tensor::f32([1, 4], [0.0; 4]), &[0], &[0.0], 0, 0).is_ok());
    }
}
