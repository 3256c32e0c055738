//! The idx format of the MNIST files: two zero bytes, a type code, the rank, big-endian extents, elements.

use optc_ir::types::MAX_ELEMENTS;
use optc_ir::{Data, Tensor};

use super::ArrayError;

/// Whether these are the first bytes of an idx file.
pub(crate) fn is_idx(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0, 0x08 | 0x09 | 0x0b..=0x0e, 1..=8, ..])
}

/// Reads an idx file.
///
/// # Errors
/// [`ArrayError`] if it is cut short or of a kind nobody defined.
pub fn read_idx(bytes: &[u8]) -> Result<Tensor, ArrayError> {
    let (&[zero, zero2, code, rank], mut rest) =
        bytes.split_first_chunk::<4>().ok_or_else(|| ArrayError::new("the idx header is cut short"))?;
    if (zero, zero2) != (0, 0) {
        return Err(ArrayError::new("not an idx file"));
    }
    let mut shape = Vec::with_capacity(usize::from(rank));
    for _ in 0..rank {
        let (dim, after) =
            rest.split_first_chunk::<4>().ok_or_else(|| ArrayError::new("the idx header is cut short"))?;
        shape.push(u32::from_be_bytes(*dim) as usize);
        rest = after;
    }
    let len = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= MAX_ELEMENTS)
        .ok_or_else(|| ArrayError::new(format!("an array of shape {shape:?} is too large")))?;
    macro_rules! numbers {
        ($variant:ident, $ty:ty) => {{
            const SIZE: usize = size_of::<$ty>();
            let bytes = rest.get(..len.saturating_mul(SIZE)).ok_or_else(|| {
                let have = rest.len();
                ArrayError::new(format!(
                    "the array is cut short: {len} elements of {SIZE} bytes claimed, {have} bytes there"
                ))
            })?;
            let elements = bytes
                .chunks_exact(SIZE)
                .map(|chunk| <$ty>::from_be_bytes(chunk.try_into().expect("chunks_exact gives chunks of SIZE")));
            Data::$variant(elements.collect())
        }};
    }
    let data = match code {
        0x08 => numbers!(U8, u8),
        0x09 => numbers!(I8, i8),
        0x0b => numbers!(I16, i16),
        0x0c => numbers!(I32, i32),
        0x0d => numbers!(F32, f32),
        0x0e => numbers!(F64, f64),
        _ => return Err(ArrayError::new(format!("idx element type {code:#04x} does not exist"))),
    };
    Ok(Tensor::new(shape, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_big_endian_numbers_are_read() {
        let bytes = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 1, 7, 9];
        assert!(is_idx(&bytes));
        assert_eq!(read_idx(&bytes).unwrap(), Tensor::new([2, 1], Data::U8(vec![7, 9])));
        let words = [0, 0, 0x0b, 1, 0, 0, 0, 1, 1, 2];
        assert_eq!(read_idx(&words).unwrap(), Tensor::new([1], Data::I16(vec![258])));
    }

    #[test]
    fn wrong_files_are_errors() {
        let huge = [[0, 0, 8, 3].as_slice(), &[0xff; 12]].concat();
        for bytes in [&b""[..], &[0, 0, 8, 1, 0, 0, 0, 2, 7], &[0, 0, 1, 1, 0, 0, 0, 0], &[1, 0, 8, 0], &huge] {
            assert!(read_idx(bytes).is_err(), "{bytes:?}");
        }
    }
}
