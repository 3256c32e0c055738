//! What tests of kernels have in common.

use std::fmt::Debug;

use super::VECTOR_BYTES;
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

/// Bytes as a buffer of numbers, up to a whole vector behind the last: kernels may read so far.
pub(crate) fn buffer_of_bytes(bytes: &[u8]) -> Vec<f32> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(VECTOR_BYTES) + VECTOR_BYTES, 0xaa);
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four"))).collect()
}

/// Integers as a buffer of numbers.
pub(crate) fn buffer_of_ints(ints: &[i32]) -> Vec<f32> {
    ints.iter().map(|&i| f32::from_bits(i.cast_unsigned())).collect()
}

/// Checks that a kernel of `inputs` writes these bytes into the buffer of this index, and nothing behind them.
pub(crate) fn check_bytes(
    what: &impl Debug,
    (vectors, schedule): (Vectors, &Schedule),
    inputs: &[Vec<f32>],
    output: usize,
    expected: &[u8],
) {
    let mut buffers = inputs.to_vec();
    buffers.insert(output, vec![GUARD; expected.len().div_ceil(4) + BEHIND]);
    run(vectors, schedule, &mut buffers);
    let y = buffers.swap_remove(output);
    let bytes: Vec<u8> = y.iter().flat_map(|y| y.to_le_bytes()).collect();
    let wrong = (0..expected.len()).find(|&i| bytes[i] != expected[i]);
    assert!(
        wrong.is_none(),
        "{vectors}: {what:?}: byte {wrong:?} is {:?} instead of {:?}",
        wrong.map(|i| bytes[i]),
        wrong.map(|i| expected[i])
    );
    let behind = &y[expected.len().div_ceil(4)..];
    assert!(behind.iter().all(|&y| y == GUARD), "{vectors}: {what:?} writes behind the result");
}

/// Bytes that look random, extremes among them.
pub(crate) fn bytes(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    (0..len)
        .map(|_| match next() % 8 {
            0 => 255,
            1 => 128,
            _ => (next() & 0xff) as u8,
        })
        .collect()
}

/// The code of a number: rounded to even, and limited.
pub(crate) fn code(x: f32, zero: u8) -> u8 {
    (x.round_ties_even() + f32::from(zero)).clamp(0.0, 255.0) as u8
}
