//! Reading bytes without running past their end, and numbers of variable length.

use super::{PackError, damaged};

/// Appends a number, seven bits a byte, the lowest first (LEB128).
pub(super) fn put_varint(mut x: u64, out: &mut Vec<u8>) {
    while x >= 0x80 {
        out.push((x & 0x7f) as u8 | 0x80);
        x >>= 7;
    }
    out.push(x as u8);
}

/// What is left to read.
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], PackError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or_else(|| damaged("it ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, PackError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn varint(&mut self) -> Result<usize, PackError> {
        let mut x = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            x |= bits << shift;
            if byte < 0x80 {
                return usize::try_from(x).map_err(|_| damaged("a number is too large"));
            }
        }
        Err(damaged("a number is too large"))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
