//! Bit-packed unsigned integers.

use crate::error::ConstantError;

/// `len` unsigned integers of `bits` bits each, little-endian, no padding between them; the bits after
/// the last one are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    bits: u8,
    len: usize,
    bytes: Vec<u8>,
}

/// The bits that numbers up to `max` take, at least one.
pub fn width(max: usize) -> u8 {
    (usize::BITS - max.leading_zeros()).max(1).to_le_bytes()[0]
}

impl Packed {
    /// Packs codes; `bits` is 1..=32.
    ///
    /// # Panics
    /// If `bits` is out of range or a code does not fit.
    pub fn pack(bits: u8, codes: &[u32]) -> Packed {
        Packed::from_codes(bits, codes.iter().copied())
    }

    /// As [`Packed::pack`], from an iterator.
    ///
    /// # Panics
    /// If `bits` is out of range or a code does not fit.
    pub fn from_codes(bits: u8, codes: impl ExactSizeIterator<Item = u32>) -> Packed {
        assert!((1..=32).contains(&bits), "{bits} bits a code");
        let mut bytes = Vec::with_capacity(packed_bytes(bits, codes.len()).unwrap_or(0));
        let (mut pending, mut count, mut len) = (0u64, 0u32, 0usize);
        for code in codes {
            assert!(bits == 32 || code >> bits == 0, "{code} does not fit {bits} bits");
            pending |= u64::from(code) << count;
            count += u32::from(bits);
            len += 1;
            if count >= 32 {
                bytes.extend_from_slice(&pending.to_le_bytes()[..4]);
                pending >>= 32;
                count -= 32;
            }
        }
        let rest = pending.to_le_bytes();
        bytes.extend(rest.iter().zip((0..count).step_by(8)).map(|(byte, _)| byte));
        Packed { bits, len, bytes }
    }

    /// Codes already packed.
    ///
    /// # Errors
    /// If the number of bytes is wrong or bits after the last code are set.
    pub fn from_bytes(bits: u8, len: usize, bytes: Vec<u8>) -> Result<Packed, ConstantError> {
        if packed_bytes(bits, len) != Some(bytes.len()) {
            return Err(ConstantError::Malformed(format!("{} bytes for {len} codes of {bits} bits", bytes.len())));
        }
        let used = (len % 8) * usize::from(bits) % 8;
        if used != 0 && bytes.last().is_some_and(|last| last >> used != 0) {
            return Err(ConstantError::Malformed("bits after the last code are set".to_owned()));
        }
        Ok(Packed { bits, len, bytes })
    }

    /// Bits a code.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The number of codes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no codes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The packed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The packed bytes, taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Code `index`, or `None` beyond the end.
    pub fn get(&self, index: usize) -> Option<u32> {
        if index >= self.len {
            return None;
        }
        // The whole length was multiplied without overflow when the value was made.
        let start = index * usize::from(self.bits);
        let mut window = [0u8; 8];
        for (to, from) in window.iter_mut().zip(self.bytes.get(start / 8..)?) {
            *to = *from;
        }
        let code = (u64::from_le_bytes(window) >> (start % 8)) & self.mask();
        u32::try_from(code).ok()
    }

    /// The codes in order.
    pub fn iter(&self) -> Codes<'_> {
        Codes {
            bytes: &self.bytes,
            pending: 0,
            count: 0,
            bits: u32::from(self.bits),
            mask: self.mask(),
            left: self.len,
        }
    }

    /// The codes in order, if they are at most 8 bits wide, in pieces of at most 4096 to `f`.
    pub(super) fn for_each_piece(&self, mut f: impl FnMut(&[u8])) {
        let mut piece = [0u8; 4096];
        let mut left = self.len;
        // 4096 codes take 512 bytes for each bit of their width: every piece starts at a byte.
        for bytes in self.bytes.chunks(512 * usize::from(self.bits)) {
            let codes = &mut piece[..left.min(4096)];
            match self.bits {
                1 => unpack::<1>(bytes, codes),
                2 => unpack::<2>(bytes, codes),
                3 => unpack::<3>(bytes, codes),
                4 => unpack::<4>(bytes, codes),
                5 => unpack::<5>(bytes, codes),
                6 => unpack::<6>(bytes, codes),
                7 => unpack::<7>(bytes, codes),
                _ => codes.copy_from_slice(bytes),
            }
            left -= codes.len();
            f(codes);
        }
    }

    fn mask(&self) -> u64 {
        (1 << self.bits) - 1
    }
}

/// Bytes that `len` codes take; `None` if the width is out of range or the product overflows.
pub fn packed_bytes(bits: u8, len: usize) -> Option<usize> {
    let total = len.checked_mul(usize::from(bits)).filter(|_| (1..=32).contains(&bits))?;
    Some(total.div_ceil(8))
}

/// Eight codes at a time: they take `BITS` bytes.
fn unpack<const BITS: usize>(bytes: &[u8], codes: &mut [u8]) {
    let mask = (1u64 << BITS) - 1;
    for (codes, bytes) in codes.chunks_mut(8).zip(bytes.chunks(BITS)) {
        let mut window = [0u8; 8];
        window[..bytes.len()].copy_from_slice(bytes);
        let window = u64::from_le_bytes(window);
        for (i, code) in codes.iter_mut().enumerate() {
            *code = ((window >> (i * BITS)) & mask).to_le_bytes()[0];
        }
    }
}

/// Iterates over the codes of a [`Packed`].
#[derive(Clone, Debug)]
pub struct Codes<'a> {
    bytes: &'a [u8],
    pending: u64,
    count: u32,
    bits: u32,
    mask: u64,
    left: usize,
}

impl Iterator for Codes<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        if self.count < self.bits {
            if let Some((word, rest)) = self.bytes.split_first_chunk::<4>() {
                self.pending |= u64::from(u32::from_le_bytes(*word)) << self.count;
                self.count += 32;
                self.bytes = rest;
            } else {
                for &byte in self.bytes {
                    self.pending |= u64::from(byte) << self.count;
                    self.count += 8;
                }
                self.bytes = &[];
            }
        }
        let code = self.pending & self.mask;
        self.pending >>= self.bits;
        self.count = self.count.saturating_sub(self.bits);
        u32::try_from(code).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Codes<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    #[test]
    fn every_width_gives_its_codes_back() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for bits in 1..=32u8 {
            for len in [0, 1, 2, 7, 8, 9, 31, 33, 4095, 4096, 4097, 9000] {
                let codes: Vec<u32> = (0..len).map(|_| rng.random::<u32>() >> (32 - u32::from(bits))).collect();
                let packed = Packed::pack(bits, &codes);
                assert_eq!(packed.bytes().len(), (len * usize::from(bits)).div_ceil(8));
                assert_eq!(packed.iter().collect::<Vec<_>>(), codes, "{bits} bits");
                assert!((0..len).all(|i| packed.get(i) == Some(codes[i])), "{bits} bits");
                assert_eq!(packed.get(len), None);
                assert_eq!(Packed::from_bytes(bits, len, packed.bytes().to_vec()), Ok(packed.clone()));
                if bits <= 8 {
                    let mut pieces = Vec::new();
                    packed.for_each_piece(|piece| pieces.extend(piece.iter().map(|&c| u32::from(c))));
                    assert_eq!(pieces, codes, "{bits} bits");
                }
            }
        }
    }

    #[test]
    fn wrong_bytes_are_refused() {
        for (bits, len, bytes) in [
            (0, 0, vec![]),
            (33, 0, vec![]),
            (3, 3, vec![0]),
            (3, 3, vec![0, 0, 0]),
            (3, 3, vec![0, 2]),
            (1, 1, vec![2]),
            (32, usize::MAX, vec![0]),
        ] {
            assert!(Packed::from_bytes(bits, len, bytes.clone()).is_err(), "{bits} bits, {len} codes, {bytes:?}");
        }
    }

    #[test]
    fn widths() {
        assert_eq!([0, 1, 2, 3, 4, 255, 256].map(width), [1, 1, 2, 2, 3, 8, 9]);
    }
}
