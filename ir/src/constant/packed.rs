//! Bit-packed unsigned integers.

use crate::error::ConstantError;

/// `len` unsigned integers of `bits` bits each, little-endian, no padding between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    bits: u8,
    len: usize,
    bytes: Vec<u8>,
}

impl Packed {
    /// Packs codes; `bits` is 1..=32.
    ///
    /// # Panics
    /// If a code does not fit.
    pub fn pack(bits: u8, codes: &[u32]) -> Packed {
        let mut bytes = Vec::with_capacity((codes.len() * usize::from(bits)).div_ceil(8));
        let (mut pending, mut count) = (0u64, 0u32);
        for &code in codes {
            assert!(bits == 32 || code >> bits == 0, "{code} does not fit {bits} bits");
            pending |= u64::from(code) << count;
            count += u32::from(bits);
            while count >= 8 {
                bytes.push((pending & 0xff) as u8);
                pending >>= 8;
                count -= 8;
            }
        }
        if count > 0 {
            bytes.push((pending & 0xff) as u8);
        }
        Packed { bits, len: codes.len(), bytes }
    }

    /// Codes already packed.
    ///
    /// # Errors
    /// If the number of bytes is wrong or padding bits are set.
    pub fn from_bytes(bits: u8, len: usize, bytes: Vec<u8>) -> Result<Packed, ConstantError> {
        let total = len.checked_mul(usize::from(bits));
        if !(1..=32).contains(&bits) || total.map(|t| t.div_ceil(8)) != Some(bytes.len()) {
            return Err(ConstantError::Malformed(format!("{} bytes for {len} codes of {bits} bits", bytes.len())));
        }
        let used = total.unwrap_or(0) % 8;
        if used != 0 && bytes.last().is_some_and(|last| last >> used != 0) {
            return Err(ConstantError::Malformed("padding bits are set".to_owned()));
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

    /// The codes in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let bits = u32::from(self.bits);
        let mask = (1u64 << bits) - 1;
        let (mut pending, mut count, mut next) = (0u64, 0u32, 0usize);
        (0..self.len).map(move |_| {
            while count < bits {
                pending |= u64::from(self.bytes[next]) << count;
                next += 1;
                count += 8;
            }
            let code = (pending & mask) as u32;
            pending >>= bits;
            count -= bits;
            code
        })
    }
}
