//! What tests of kernels have in common.

use std::fmt::Debug;

use super::schedule::Schedule;
use super::schedule::signed;
use crate::jit::testing::{all_vectors, run};
use crate::target::Vectors;

/// What results are full of before a kernel runs.
pub(crate) const GUARD: f32 = 12345.0;

/// Elements behind a result that must stay as they are.
const BEHIND: usize = 40;

/// The last buffer, of `len` elements, after a kernel of `inputs` and that buffer. All lowerings must give the
/// same bits and write nothing behind it.
pub(crate) fn result(
    what: &impl Debug,
    schedule: impl Fn(Vectors) -> Schedule,
    inputs: &[Vec<f32>],
    len: usize,
) -> Vec<f32> {
    let mut known: Option<Vec<f32>> = None;
    for vectors in all_vectors() {
        let mut buffers = inputs.to_vec();
        buffers.push(vec![GUARD; len + BEHIND]);
        run(vectors, &schedule(vectors), &mut buffers);
        let mut y = buffers.pop().expect("the result was pushed last");
        assert!(y[len..].iter().all(|&y| y == GUARD), "{vectors}: {what:?} writes behind the result");
        y.truncate(len);
        if let Some(known) = known {
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(y.iter().zip(&known).all(same), "{vectors}: {what:?} gives other bits");
        }
        known = Some(y);
    }
    known.expect("there is a lowering for every host")
}

/// The offsets of a box, in elements; strides are in bytes.
pub(crate) fn places(shape: &[usize], strides: &[i64]) -> Vec<usize> {
    let mut all = vec![0i64];
    for (&count, &stride) in shape.iter().zip(strides) {
        all = all.iter().flat_map(|at| (0..count).map(move |i| at + signed(i) * stride)).collect();
    }
    all.iter().map(|&at| usize::try_from(at / 4).expect("no stride is negative")).collect()
}

/// The elements a box spans.
pub(crate) fn span(shape: &[usize], strides: &[i64]) -> usize {
    places(shape, strides).into_iter().max().map_or(0, |last| last + 1)
}
