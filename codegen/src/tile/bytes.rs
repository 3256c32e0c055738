//! Bytes that are looked up: where codes and the numbers they stand for lie, so that [`LookupBytes`] finds them.
//!
//! [`LookupBytes`]: super::program::LookupBytes

use super::program::{LANES, VECTOR_BYTES};

/// Values that bytes tell apart.
pub(crate) const MAX_BYTES: usize = 256;

/// Values of which two registers hold a byte each.
pub(crate) const HALF: usize = 2 * VECTOR_BYTES;

/// Bytes of a number, and vectors of numbers that one vector of bytes stands for.
pub(crate) const BYTES: usize = 4;

/// Vectors that hold so many values byte by byte.
pub(crate) fn planes_vectors(values: usize) -> usize {
    BYTES * values.next_multiple_of(HALF) / VECTOR_BYTES
}

/// Appends values byte by byte, in so many vectors.
pub(crate) fn write_planes(packed: &mut Vec<f32>, vectors: usize, values: &[f32]) {
    let entries = vectors * VECTOR_BYTES / BYTES;
    for byte in 0..BYTES {
        let of_value = |entry| values.get(entry).map_or(0, |value: &f32| value.to_le_bytes()[byte]);
        push_bytes(packed, &(0..entries).map(of_value).collect::<Vec<u8>>());
    }
}

/// The place of the code of a lane of the i-th vector.
pub(crate) fn place_of_byte(i: usize, lane: usize) -> usize {
    lane / 4 * LANES + i * 4 + lane % 4
}

/// Appends whole words of bytes.
pub(crate) fn push_bytes(packed: &mut Vec<f32>, bytes: &[u8]) {
    packed.extend(bytes.as_chunks::<BYTES>().0.iter().map(|word| f32::from_le_bytes(*word)));
}
