//! NumPy's `.npy` arrays and the `.npz` archives of them.
//!
//! Read are numbers and booleans of either byte order, in C or Fortran order; written are little-endian
//! arrays in C order. Equal arrays are written as equal bytes. Every length a file claims is checked
//! against what the file holds before memory is taken for it.

use std::io::{self, Cursor, Read, Write};

use half::{bf16, f16};
use optc_ir::types::MAX_ELEMENTS;
use optc_ir::{DType, Data, Tensor};

use super::ArrayError;

const MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header read; NumPy's own limit for untrusted files is 10,000 characters.
const MAX_HEADER: usize = 1 << 16;

/// Whether these are the first bytes of an `.npy` file.
pub(crate) fn is_npy(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Whether these are the first bytes of a zip archive, which an `.npz` is.
pub(crate) fn is_npz(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

/// Reads an `.npy` file.
///
/// # Errors
/// [`ArrayError`] if it is cut short, or holds something other than numbers and booleans.
pub fn read_npy(bytes: &[u8]) -> Result<Tensor, ArrayError> {
    let (header, payload) = split_header(bytes)?;
    let Header { descr, fortran, shape } = parse_header(header)?;
    let len = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= MAX_ELEMENTS)
        .ok_or_else(|| ArrayError::new(format!("an array of shape {shape:?} is too large")))?;
    let data = read_elements(&descr, payload, len)?;
    let tensor = Tensor::new(shape, data);
    Ok(if fortran { from_fortran(&tensor) } else { tensor })
}

fn split_header(bytes: &[u8]) -> Result<(&[u8], &[u8]), ArrayError> {
    let short = || ArrayError::new("the .npy header is cut short");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| ArrayError::new("not an .npy file"))?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (len, rest) = match version[0] {
        1 => rest.split_first_chunk::<2>().map(|(n, rest)| (usize::from(u16::from_le_bytes(*n)), rest)),
        2 | 3 => rest.split_first_chunk::<4>().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest)),
        v => return Err(ArrayError::new(format!(".npy version {v} is not supported"))),
    }
    .ok_or_else(short)?;
    if len > MAX_HEADER {
        return Err(ArrayError::new(format!("an .npy header of {len} bytes is too long")));
    }
    rest.split_at_checked(len).ok_or_else(short)
}

#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, the only literal NumPy writes for
/// plain arrays.
fn parse_header(header: &[u8]) -> Result<Header, ArrayError> {
    let malformed = || ArrayError::new("the .npy header is malformed");
    let text = std::str::from_utf8(header).map_err(|_| malformed())?.trim();
    let mut rest = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(malformed)?.trim();
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, after) = quoted(rest).ok_or_else(malformed)?;
        rest = after.trim_start().strip_prefix(':').ok_or_else(malformed)?.trim_start();
        match key {
            "descr" => {
                let (value, after) = quoted(rest).ok_or_else(|| {
                    ArrayError::new("structured .npy arrays are not supported; save one array per field")
                })?;
                descr = Some(value.to_owned());
                rest = after;
            }
            "fortran_order" => {
                let (value, after) = match rest.strip_prefix("True") {
                    Some(after) => (true, after),
                    None => (false, rest.strip_prefix("False").ok_or_else(malformed)?),
                };
                fortran = Some(value);
                rest = after;
            }
            "shape" => {
                let inner = rest.strip_prefix('(').ok_or_else(malformed)?;
                let (inner, after) = inner.split_once(')').ok_or_else(malformed)?;
                let dims = inner.split(',').map(str::trim).filter(|d| !d.is_empty());
                // Python 2 wrote long integers with an L.
                let dims = dims.map(|d| d.trim_end_matches('L').parse::<usize>().map_err(|_| malformed()));
                shape = Some(dims.collect::<Result<Vec<_>, _>>()?);
                rest = after;
            }
            _ => return Err(malformed()),
        }
        rest = rest.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    match (descr, fortran, shape) {
        (Some(descr), Some(fortran), Some(shape)) => Ok(Header { descr, fortran, shape }),
        _ => Err(malformed()),
    }
}

/// A quoted string at the start, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// Elements of a NumPy type code such as `<f4`.
fn read_elements(descr: &str, payload: &[u8], len: usize) -> Result<Data, ArrayError> {
    let unsupported = || {
        let hint = if descr.ends_with('O') { " (a pickled object array)" } else { "" };
        ArrayError::new(format!("elements of NumPy type {descr:?}{hint} are not supported; save numbers or booleans"))
    };
    let (order, kind) = descr.split_at_checked(1).ok_or_else(unsupported)?;
    let big = match order {
        "<" | "|" | "=" => false,
        ">" => true,
        _ => return Err(unsupported()),
    };
    macro_rules! numbers {
        ($variant:ident, $ty:ty) => {{
            const SIZE: usize = size_of::<$ty>();
            let bytes = payload.get(..len.saturating_mul(SIZE)).ok_or_else(|| {
                let have = payload.len();
                ArrayError::new(format!(
                    "the array is cut short: {len} elements of {SIZE} bytes claimed, {have} bytes there"
                ))
            })?;
            let elements = bytes.chunks_exact(SIZE).map(|chunk| {
                let chunk = chunk.try_into().expect("chunks_exact gives chunks of SIZE");
                if big { <$ty>::from_be_bytes(chunk) } else { <$ty>::from_le_bytes(chunk) }
            });
            Data::$variant(elements.collect())
        }};
    }
    Ok(match kind {
        "f8" => numbers!(F64, f64),
        "f4" => numbers!(F32, f32),
        "f2" => numbers!(F16, f16),
        "i8" => numbers!(I64, i64),
        "i4" => numbers!(I32, i32),
        "i2" => numbers!(I16, i16),
        "i1" => numbers!(I8, i8),
        "u8" => numbers!(U64, u64),
        "u4" => numbers!(U32, u32),
        "u2" => numbers!(U16, u16),
        "u1" => numbers!(U8, u8),
        "b1" => match numbers!(U8, u8) {
            Data::U8(v) => Data::Bool(v.into_iter().map(|x| x != 0).collect()),
            _ => unreachable!("numbers! gives the variant named"),
        },
        _ => return Err(unsupported()),
    })
}

/// The same array, given that its elements stand with the first axis innermost.
fn from_fortran(tensor: &Tensor) -> Tensor {
    let shape = tensor.shape();
    let mut strides = vec![1; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut index = vec![0; shape.len()];
    let order = (0..tensor.len()).map(|_| {
        let at = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
        at
    });
    let data = tensor.data().select(order);
    Tensor::new(shape, data)
}

/// Reads every array of an `.npz` archive, in the order of the archive.
///
/// # Errors
/// [`ArrayError`] naming the array that can't be read.
pub fn read_npz(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, ArrayError> {
    let bad = |e: &dyn std::fmt::Display| ArrayError::new(format!("not a readable .npz archive: {e}"));
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| bad(&e))?;
    let mut arrays = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| bad(&e))?;
        let Some(name) = entry.name().strip_suffix(".npy").map(str::to_owned) else { continue };
        let array = read_entry(&mut entry).map_err(|e| ArrayError::new(format!("array {name:?}: {e}")))?;
        arrays.push((name, array));
    }
    Ok(arrays)
}

fn read_entry(entry: &mut zip::read::ZipFile<'_, Cursor<&[u8]>>) -> Result<Tensor, ArrayError> {
    let claimed = entry.size();
    let mut bytes = Vec::new();
    // Memory follows what the archive really holds, not what it claims; one byte more tells a lie.
    let read = entry.take(claimed.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|e| ArrayError::new(e.to_string()))?;
    if bytes.len() as u64 != claimed {
        return Err(ArrayError::new(format!("{} bytes found, {claimed} claimed", bytes.len())));
    }
    read_npy(&bytes)
}

/// The bytes of an `.npy` file. Types NumPy does not have are widened: bfloat16 to `f32`, nibbles to bytes.
pub fn write_npy(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_array(&mut bytes, tensor).expect("writing to memory does not fail");
    bytes
}

/// The bytes of an `.npz` archive of these arrays, uncompressed.
///
/// # Errors
/// [`ArrayError`] if a name can't stand in an archive.
pub fn write_npz<'a>(arrays: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Vec<u8>, ArrayError> {
    let failed = |e: &dyn std::fmt::Display| ArrayError::new(format!("the .npz archive can't be written: {e}"));
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    // The time of writing would make equal contents differ.
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .large_file(true);
    for (name, tensor) in arrays {
        archive.start_file(format!("{name}.npy"), options).map_err(|e| failed(&e))?;
        write_array(&mut archive, tensor).map_err(|e| failed(&e))?;
    }
    Ok(archive.finish().map_err(|e| failed(&e))?.into_inner())
}

fn write_array(out: &mut impl Write, tensor: &Tensor) -> io::Result<()> {
    let descr = match tensor.dtype() {
        DType::F64 => "<f8",
        DType::F32 | DType::BF16 => "<f4",
        DType::F16 => "<f2",
        DType::I64 => "<i8",
        DType::I32 => "<i4",
        DType::I16 => "<i2",
        DType::I8 | DType::I4 => "|i1",
        DType::U64 => "<u8",
        DType::U32 => "<u4",
        DType::U16 => "<u2",
        DType::U8 | DType::U4 => "|u1",
        DType::Bool => "|b1",
    };
    let dims: String = tensor.shape().iter().map(|d| format!("{d}, ")).collect();
    let dims = if tensor.rank() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    // Magic, version, length, header and newline together fill whole blocks of 64 bytes.
    let padding = (header.len() + 1 + 12).next_multiple_of(64) - (header.len() + 1 + 12);
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    out.write_all(MAGIC)?;
    out.write_all(&[2, 0])?;
    out.write_all(&u32::try_from(header.len()).map_err(io::Error::other)?.to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    write_elements(out, tensor.data())
}

fn write_elements(out: &mut impl Write, data: &Data) -> io::Result<()> {
    fn numbers<T: Copy, const N: usize>(out: &mut impl Write, v: &[T], bytes: impl Fn(T) -> [u8; N]) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(N * v.len().min(1 << 14));
        for chunk in v.chunks(1 << 14) {
            buffer.clear();
            chunk.iter().for_each(|&x| buffer.extend_from_slice(&bytes(x)));
            out.write_all(&buffer)?;
        }
        Ok(())
    }
    match data {
        Data::F64(v) => numbers(out, v, f64::to_le_bytes),
        Data::F32(v) => numbers(out, v, f32::to_le_bytes),
        Data::F16(v) => numbers(out, v, f16::to_le_bytes),
        Data::BF16(v) => numbers(out, v, |x: bf16| x.to_f32().to_le_bytes()),
        Data::I64(v) => numbers(out, v, i64::to_le_bytes),
        Data::I32(v) => numbers(out, v, i32::to_le_bytes),
        Data::I16(v) => numbers(out, v, i16::to_le_bytes),
        Data::I8(v) | Data::I4(v) => numbers(out, v, i8::to_le_bytes),
        Data::U64(v) => numbers(out, v, u64::to_le_bytes),
        Data::U32(v) => numbers(out, v, u32::to_le_bytes),
        Data::U16(v) => numbers(out, v, u16::to_le_bytes),
        Data::U8(v) | Data::U4(v) => numbers(out, v, u8::to_le_bytes),
        Data::Bool(v) => numbers(out, v, |x| [u8::from(x)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, fortran: &str, shape: &str, payload: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn every_type_comes_back() {
        for &dtype in DType::ALL {
            let tensor = Tensor::new([2, 3], Data::from_i64(dtype, [0, 1, 1, 2, 3, 5]));
            let back = read_npy(&write_npy(&tensor)).unwrap();
            let expected = match dtype {
                DType::BF16 => DType::F32,
                DType::I4 => DType::I8,
                DType::U4 => DType::U8,
                same => same,
            };
            assert_eq!(back, Tensor::new([2, 3], Data::from_f64(expected, tensor.data().to_f64())), "{dtype}");
        }
    }

    #[test]
    fn shapes_of_every_rank_come_back() {
        for shape in [vec![], vec![1], vec![0], vec![2, 0, 3], vec![1, 2, 3, 4]] {
            let tensor = Tensor::zeros(DType::F32, shape);
            assert_eq!(read_npy(&write_npy(&tensor)).unwrap(), tensor);
        }
    }

    #[test]
    fn big_endian_and_fortran_order_are_read() {
        let big = npy(">i2", "False", "(2,)", &[0, 1, 1, 0]);
        assert_eq!(read_npy(&big).unwrap(), Tensor::new([2], Data::I16(vec![1, 256])));
        let fortran = npy("|u1", "True", "(2, 3)", &[0, 10, 1, 11, 2, 12]);
        assert_eq!(read_npy(&fortran).unwrap(), Tensor::new([2, 3], Data::U8(vec![0, 1, 2, 10, 11, 12])));
    }

    #[test]
    fn an_archive_comes_back_and_is_the_same_every_time() {
        let (a, b) = (Tensor::f32([2], [1.0, -2.0]), Tensor::i64([], [7]));
        let bytes = write_npz([("x", &a), ("/head/out:0", &b)]).unwrap();
        assert_eq!(bytes, write_npz([("x", &a), ("/head/out:0", &b)]).unwrap());
        assert_eq!(read_npz(&bytes).unwrap(), [("x".to_owned(), a), ("/head/out:0".to_owned(), b)]);
    }

    #[test]
    fn wrong_files_are_errors() {
        for (bytes, message) in [
            (npy("<f4", "False", "(3,)", &[0; 8]), "cut short"),
            (npy("<f4", "False", "(99999999999, 99999999999)", &[]), "too large"),
            (npy("<f4", "False", "(1099511627776,)", &[]), "cut short"),
            (npy("|O", "False", "(1,)", &[]), "pickled"),
            (npy("<c8", "False", "(1,)", &[]), "not supported"),
            (npy("<f4", "Maybe", "(1,)", &[]), "malformed"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "too long"),
            (b"\x93NUMPY".to_vec(), "cut short"),
            (b"PK".to_vec(), "not an .npy file"),
        ] {
            let error = read_npy(&bytes).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert!(read_npz(b"PK\x03\x04nonsense").is_err());
    }

    #[test]
    fn every_cut_of_an_archive_is_an_error_or_its_arrays() {
        let bytes = write_npz([("x", &Tensor::f32([2], [1.0, -2.0]))]).unwrap();
        for len in 0..bytes.len() {
            assert!(read_npz(&bytes[..len]).is_err(), "{len}");
        }
    }
}
