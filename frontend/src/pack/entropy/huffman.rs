//! Canonical Huffman codes (Huffman 1952), as Deep Compression uses them for codes and distances.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Symbol;
use super::profile::Profile;

/// No code is longer, so that decoding is one look into a table.
pub(super) const MAX_LENGTH: u16 = 15;

/// The code lengths of symbols that occur this often; at least two of them occur.
pub(super) fn lengths(counts: &[u64]) -> Vec<u16> {
    let mut counts = counts.to_vec();
    loop {
        let lengths = unlimited_lengths(&counts);
        if lengths.iter().all(|&length| length <= MAX_LENGTH) {
            return lengths;
        }
        // Flattening the distribution shortens the longest codes and costs the frequent ones little.
        counts.iter_mut().for_each(|count| *count = count.div_ceil(2));
    }
}

fn unlimited_lengths(counts: &[u64]) -> Vec<u16> {
    let mut parents = vec![usize::MAX; counts.len()];
    let mut heap: BinaryHeap<_> = counts.iter().enumerate().map(|(i, &count)| Reverse((count, i))).collect();
    while let (Some(Reverse((a, left))), Some(Reverse((b, right)))) = (heap.pop(), heap.pop()) {
        let parent = parents.len();
        parents.push(usize::MAX);
        parents[left] = parent;
        parents[right] = parent;
        heap.push(Reverse((a + b, parent)));
        if heap.len() == 1 {
            break;
        }
    }
    // Parents come after their children.
    let mut depths = vec![0u16; parents.len()];
    for node in (0..parents.len()).rev() {
        if let Some(&depth) = depths.get(parents[node]) {
            depths[node] = depth + 1;
        }
    }
    depths.truncate(counts.len());
    depths
}

/// The code of each symbol, its first bit lowest; `None` if the lengths are not those of a complete code.
fn codes(lengths: &[u16]) -> Option<Vec<u32>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| lengths[i]);
    let mut codes = vec![0; lengths.len()];
    let mut next = 0u32;
    for &i in &order {
        let length = lengths[i];
        if length == 0 || length > MAX_LENGTH {
            return None;
        }
        let step = 1u32 << (MAX_LENGTH - length);
        codes[i] = (next >> (MAX_LENGTH - length)).reverse_bits() >> (32 - length);
        next = next.checked_add(step).filter(|&next| next <= 1 << MAX_LENGTH)?;
    }
    (next == 1 << MAX_LENGTH).then_some(codes)
}

/// The bytes of symbols; each of them is in the profile, whose levels are code lengths.
pub(super) fn encode<T: Symbol>(symbols: &[T], profile: &Profile) -> Vec<u8> {
    let codes = codes(&profile.levels).expect("the lengths come from a tree");
    let mut table = vec![(0u32, 0u32); usize::from(*profile.symbols.last().unwrap_or(&0)) + 1];
    for ((&symbol, code), &length) in profile.symbols.iter().zip(codes).zip(&profile.levels) {
        table[usize::from(symbol)] = (code, length.into());
    }
    let mut bytes = Vec::new();
    let (mut pending, mut count) = (0u64, 0u32);
    for &symbol in symbols {
        let (code, length) = table[symbol.index()];
        pending |= u64::from(code) << count;
        count += length;
        if count >= 32 {
            bytes.extend_from_slice(&pending.to_le_bytes()[..4]);
            pending >>= 32;
            count -= 32;
        }
    }
    bytes.extend_from_slice(&pending.to_le_bytes()[..count.div_ceil(8) as usize]);
    bytes
}

/// Decodes by looking up as many bits as the longest code has.
pub(super) struct Decoder {
    /// Index into the profile, and code length.
    table: Vec<(u16, u16)>,
    bits: u32,
}

impl Decoder {
    /// `None` if the lengths are not those of a complete code.
    pub(super) fn new(profile: &Profile) -> Option<Decoder> {
        let codes = codes(&profile.levels)?;
        let bits = u32::from(*profile.levels.iter().max()?);
        let mut table = vec![(0, 0); 1 << bits];
        for (i, (code, &length)) in codes.iter().zip(&profile.levels).enumerate() {
            for entry in table.iter_mut().skip(*code as usize).step_by(1 << length) {
                *entry = (u16::try_from(i).ok()?, length);
            }
        }
        Some(Decoder { table, bits })
    }

    /// Fills `out`; `None` if the bytes do not hold exactly as many symbols.
    pub(super) fn decode<T: Symbol>(&self, map: &[T], mut bytes: &[u8], out: &mut [T]) -> Option<()> {
        let mask = (1u64 << self.bits) - 1;
        let (mut pending, mut count) = (0u64, 0u32);
        for to in out {
            if count < self.bits {
                if let Some((word, rest)) = bytes.split_first_chunk::<4>() {
                    pending |= u64::from(u32::from_le_bytes(*word)) << count;
                    count += 32;
                    bytes = rest;
                } else {
                    for &byte in bytes {
                        pending |= u64::from(byte) << count;
                        count += 8;
                    }
                    bytes = &[];
                }
            }
            let (index, length) = self.table[(pending & mask) as usize];
            count = count.checked_sub(length.into())?;
            pending >>= length;
            *to = map[usize::from(index)];
        }
        (bytes.is_empty() && count < 8 && pending == 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_textbook() {
        assert_eq!(lengths(&[45, 13, 12, 16, 9, 5]), [1, 3, 3, 3, 4, 4]);
        assert_eq!(lengths(&[1, 1]), [1, 1]);
        let steep: Vec<u64> = (0..40).map(|i| 1 << i).collect();
        let lengths = lengths(&steep);
        assert!(lengths.iter().all(|&length| length <= MAX_LENGTH) && codes(&lengths).is_some());
    }

    #[test]
    fn incomplete_codes_are_refused() {
        for lengths in [vec![], vec![0, 1], vec![1], vec![1, 1, 1], vec![1, 2], vec![16, 16]] {
            assert_eq!(codes(&lengths), None, "{lengths:?}");
        }
    }
}
