//! Elements as bytes: dense constants, codebooks, scales and zero points.
//!
//! ```text
//! ┌────────┬─────────────────────────────────────────────────────────────────┐
//! │ 1 byte │ 0: the elements, little-endian                                  │
//! │ kind   │ 1: a stream for each byte of an element, the lowest first       │
//! │        │ 2: the lowest element and the distances between neighbours      │
//! └────────┴─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Bytes of their own help floats, whose upper byte has few values. Distances are for codebooks: there
//! the bits of an element are made an integer that ascends with it.

use optc_ir::{DType, Data};

use super::bits::{BitReader, BitWriter, get_list, put_list};
use super::cursor::Cursor;
use super::entropy::{self, Stream};
use super::report::Part;
use super::{PackError, damaged};

const RAW: u8 = 0;
const PLANES: u8 = 1;
const ASCENDING: u8 = 2;

/// Bytes one element takes; nibbles are taken in pairs.
fn element_bytes(dtype: DType) -> usize {
    dtype.bits().div_ceil(8)
}

fn to_bytes(data: &Data) -> Vec<u8> {
    let mut bytes = Vec::new();
    data.write_le(0..data.len(), &mut bytes);
    bytes
}

/// Appends elements in the smaller of the first two kinds.
pub(super) fn write(data: &Data, out: &mut Vec<u8>) -> Part {
    let bytes = to_bytes(data);
    let size = element_bytes(data.dtype());
    let start = out.len();
    out.push(PLANES);
    let mut part = Part::default();
    for plane in 0..size {
        let plane: Vec<u8> = bytes.iter().skip(plane).step_by(size).copied().collect();
        part.add(&entropy::write(&plane, 256, None, out));
    }
    if out.len() - start > bytes.len() {
        out.truncate(start);
        out.push(RAW);
        out.extend_from_slice(&bytes);
        part.become_raw(bytes.len());
    }
    part.bytes = out.len() - start;
    part
}

/// Appends a codebook, whose elements ascend, in the smallest kind; returns its bytes.
pub(super) fn write_table(data: &Data, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    write(data, out);
    if data.dtype().bits() >= 8 && !data.is_empty() {
        let keys: Vec<u64> = to_bytes(data).chunks(element_bytes(data.dtype())).map(|b| key(data.dtype(), b)).collect();
        let distances: Vec<u64> = keys.windows(2).map(|pair| pair[1] - pair[0] - 1).collect();
        let mut writer = BitWriter::default();
        for byte in &keys[0].to_le_bytes()[..element_bytes(data.dtype())] {
            writer.put(u64::from(*byte), 8);
        }
        put_list(&mut writer, &distances);
        let bytes = writer.finish();
        if 1 + bytes.len() < out.len() - start {
            out.truncate(start);
            out.push(ASCENDING);
            out.extend_from_slice(&bytes);
        }
    }
    out.len() - start
}

/// The bits of an element as an integer that ascends with it: the total order of codebooks.
fn key(dtype: DType, bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    flip(dtype, u64::from_le_bytes(word), false)
}

/// The bits of a key, and back: negative floats descend as their bits ascend, and negative integers come
/// after positive ones.
fn flip(dtype: DType, bits: u64, back: bool) -> u64 {
    let width = 8 * element_bytes(dtype);
    let sign = 1u64 << (width - 1);
    let negative = (bits & sign != 0) != back;
    match dtype {
        _ if dtype.is_float() && negative => !bits & (u64::MAX >> (64 - width)),
        _ if dtype.is_float() || dtype.is_signed() => bits ^ sign,
        _ => bits,
    }
}

/// Elements whose streams are parsed.
pub(super) struct Elements<'a> {
    dtype: DType,
    len: usize,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Raw(&'a [u8]),
    Planes(Vec<Stream<'a>>),
    Decoded(Vec<u8>),
}

impl<'a> Elements<'a> {
    /// Elements without a head, which fill a section of their own.
    pub(super) fn raw(bytes: &'a [u8], dtype: DType, len: usize) -> Elements<'a> {
        Elements { dtype, len, kind: Kind::Raw(bytes) }
    }

    pub(super) fn parse(cursor: &mut Cursor<'a>, dtype: DType, len: usize) -> Result<Elements<'a>, PackError> {
        let size = element_bytes(dtype);
        let kind = match cursor.byte()? {
            RAW => Kind::Raw(cursor.take(dtype.bytes(len))?),
            PLANES => {
                let count = dtype.bytes(len) / size;
                Kind::Planes((0..size).map(|_| Stream::parse(cursor, 256, count)).collect::<Result<_, _>>()?)
            }
            ASCENDING if dtype.bits() >= 8 => Kind::Decoded(ascending(cursor, dtype, len)?),
            _ => return Err(damaged("elements are of no known kind")),
        };
        Ok(Elements { dtype, len, kind })
    }

    /// Parses and decodes what is small: codebooks, scales, zero points.
    pub(super) fn read(cursor: &mut Cursor<'a>, dtype: DType, len: usize) -> Result<Data, PackError> {
        let mut elements = Elements::parse(cursor, dtype, len)?;
        elements.streams().into_iter().try_for_each(Stream::run)?;
        elements.into_data()
    }

    /// The streams, whose jobs are to be run before [`Elements::into_data`].
    pub(super) fn streams(&mut self) -> Vec<&mut Stream<'a>> {
        match &mut self.kind {
            Kind::Planes(planes) => planes.iter_mut().collect(),
            Kind::Raw(_) | Kind::Decoded(_) => Vec::new(),
        }
    }

    pub(super) fn into_data(self) -> Result<Data, PackError> {
        let data = match &self.kind {
            Kind::Raw(bytes) => Data::read_le(self.dtype, self.len, bytes),
            Kind::Decoded(bytes) => Data::read_le(self.dtype, self.len, bytes),
            Kind::Planes(planes) => {
                let planes: Vec<_> = planes.iter().map(Stream::bytes).collect();
                let mut bytes = vec![0; self.dtype.bytes(self.len)];
                for (i, plane) in planes.iter().enumerate() {
                    let to = bytes.iter_mut().skip(i).step_by(planes.len());
                    to.zip(plane.iter()).for_each(|(to, byte)| *to = *byte);
                }
                Data::read_le(self.dtype, self.len, &bytes)
            }
        };
        data.ok_or_else(|| damaged(format!("{} elements of type {} are malformed", self.len, self.dtype)))
    }
}

fn ascending(cursor: &mut Cursor<'_>, dtype: DType, len: usize) -> Result<Vec<u8>, PackError> {
    let malformed = || damaged("a codebook is malformed");
    let size = element_bytes(dtype);
    let mut reader = BitReader::new(cursor.bytes);
    let mut key = 0;
    for i in 0..size {
        key |= reader.get(8).ok_or_else(malformed)? << (8 * i);
    }
    let distances = get_list(&mut reader, len.checked_sub(1).ok_or_else(malformed)?).ok_or_else(malformed)?;
    let read = reader.bytes_read();
    cursor.take(read)?;
    let mut bytes = Vec::with_capacity(len * size);
    bytes.extend_from_slice(&flip(dtype, key, true).to_le_bytes()[..size]);
    for distance in distances {
        let next = distance.checked_add(1).and_then(|d| key.checked_add(d));
        key = next.filter(|key| key >> (8 * size - 1) <= 1).ok_or_else(malformed)?;
        bytes.extend_from_slice(&flip(dtype, key, true).to_le_bytes()[..size]);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(dtype: DType) -> Vec<Data> {
        let numbers = [i64::MIN, -70_000, -300, -5, -1, 0, 1, 3, 77, 300, 70_000, 1 << 33, i64::MAX];
        let few = Data::from_i64(dtype, [-2, 0, 1]);
        let many = Data::from_i64(dtype, (0..5000).map(|i| numbers[i * i % 13] / 3));
        vec![Data::zeros(dtype, 0), Data::zeros(dtype, 1), Data::zeros(dtype, 999), few, many]
    }

    #[test]
    fn elements_of_every_type_come_back() {
        for &dtype in DType::ALL {
            for data in samples(dtype) {
                let mut bytes = Vec::new();
                let part = write(&data, &mut bytes);
                assert_eq!(part.bytes, bytes.len());
                assert!(bytes.len() <= 1 + dtype.bytes(data.len()), "{dtype}");
                let mut cursor = Cursor::new(&bytes);
                assert_eq!(Elements::read(&mut cursor, dtype, data.len()).ok(), Some(data), "{dtype}");
                assert!(cursor.is_empty());
            }
        }
    }

    #[test]
    fn codebooks_of_every_type_come_back() {
        let floats =
            Data::F32(vec![-f32::NAN, f32::NEG_INFINITY, -1.0, -0.0, 0.0, 1e-45, 1.0, f32::INFINITY, f32::NAN]);
        let near = Data::F32((0..256).map(|i| 0.5 + i as f32 * 1e-3).collect());
        let mut tables = vec![floats, near];
        for &dtype in DType::ALL.iter().filter(|&&dtype| dtype != DType::Bool) {
            let small = if dtype.is_signed() { -8..8 } else { 0..16 };
            tables.push(Data::from_i64(dtype, small));
        }
        tables.push(Data::I64(vec![i64::MIN, -1, 0, i64::MAX]));
        tables.push(Data::U64(vec![0, 1, u64::MAX]));
        for table in tables {
            let mut bytes = Vec::new();
            assert_eq!(write_table(&table, &mut bytes), bytes.len());
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(Elements::read(&mut cursor, table.dtype(), table.len()).ok(), Some(table));
            assert!(cursor.is_empty());
        }
    }
}
