//! Splits a model file into a small message and the bytes of its weights.
//!
//! Nearly all of a file are raw bytes of initializers. They stay where they are until extents and element type
//! are known, and are then read into the tensor that keeps them: what is parsed is small, and weights are in
//! memory once. Everything else becomes the skeleton, a message of the same model without these bytes.
//!
//! Invariant: a payload lies within the message it was found in, and so within the file.

use std::io::{self, Read, Seek, SeekFrom};

use super::error::ImportErrorKind;
use super::tensor::Stored;
use super::wire::malformed;

/// Payloads below this stay in the skeleton: looking for them later would cost more than copying them.
const SMALL: u64 = 4096;

/// Wire types: the lowest three bits of a tag.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const DELIMITED: u64 = 2;
const FOUR_BYTES: u64 = 5;

/// The messages that are looked into.
#[derive(Clone, Copy, PartialEq)]
enum Message {
    Model,
    Graph,
    Initializer,
}

/// The fields in which they lie, and the raw bytes of a tensor.
const GRAPH: (Message, u64) = (Message::Model, 7);
const INITIALIZER: (Message, u64) = (Message::Graph, 5);
const RAW_DATA: (Message, u64) = (Message::Initializer, 9);

/// A piece of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    offset: u64,
    bytes: u64,
}

trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// The raw bytes that the skeleton lacks.
pub(super) struct Payloads<'a> {
    source: &'a mut dyn ReadSeek,
    /// One an initializer.
    pieces: Vec<Option<Piece>>,
}

impl Payloads<'_> {
    /// What initializer `index` lacks; `None` if it is complete.
    ///
    /// # Errors
    /// If the file can't be read there.
    pub(super) fn of_initializer(&mut self, index: usize) -> Result<Option<Stored<'_>>, ImportErrorKind> {
        let Some(Piece { offset, bytes }) = self.pieces.get(index).copied().flatten() else { return Ok(None) };
        self.source.seek(SeekFrom::Start(offset)).map_err(ImportErrorKind::Io)?;
        Ok(Some(Stored { bytes, source: &mut self.source }))
    }
}

/// Splits a model of so many bytes.
///
/// # Errors
/// If the file can't be read, or it is no sequence of fields.
pub(super) fn split<R: Read + Seek>(source: &mut R, len: u64) -> Result<(Vec<u8>, Payloads<'_>), ImportErrorKind> {
    let mut walk = Walk { source, at: 0, pieces: Vec::new() };
    let mut skeleton = Vec::new();
    walk.message(Message::Model, len, &mut skeleton)?;
    let Walk { source, pieces, .. } = walk;
    Ok((skeleton, Payloads { source, pieces }))
}

struct Walk<'a, R> {
    source: &'a mut R,
    at: u64,
    pieces: Vec<Option<Piece>>,
}

impl<R: Read + Seek> Walk<'_, R> {
    /// Appends the message that ends at `end` to the skeleton.
    fn message(&mut self, message: Message, end: u64, to: &mut Vec<u8>) -> Result<(), ImportErrorKind> {
        while self.at < end {
            let tag = self.varint(end)?;
            let field = (message, tag >> 3);
            match tag & 7 {
                VARINT => {
                    put(to, tag);
                    put(to, self.varint(end)?);
                }
                EIGHT_BYTES => {
                    put(to, tag);
                    self.copy(8, end, to)?;
                }
                FOUR_BYTES => {
                    put(to, tag);
                    self.copy(4, end, to)?;
                }
                DELIMITED => {
                    let bytes = self.varint(end)?;
                    let inner_end = self.at.checked_add(bytes).filter(|&inner| inner <= end).ok_or_else(truncated)?;
                    self.delimited(field, tag, inner_end, to)?;
                }
                wire => return Err(malformed(format!("wire type {wire} does not occur in ONNX"))),
            }
        }
        Ok(())
    }

    /// Appends a field that ends at `end`, but for the bytes that are left in the file.
    fn delimited(
        &mut self,
        field: (Message, u64),
        tag: u64,
        end: u64,
        to: &mut Vec<u8>,
    ) -> Result<(), ImportErrorKind> {
        let bytes = end - self.at;
        if field == RAW_DATA && bytes >= SMALL {
            // Of a field that occurs twice the last counts.
            if let Some(piece) = self.pieces.last_mut() {
                *piece = Some(Piece { offset: self.at, bytes });
            }
            self.source.seek_relative(i64::try_from(bytes).map_err(|_| truncated())?).map_err(ImportErrorKind::Io)?;
            self.at = end;
            return Ok(());
        }
        let inner = match field {
            GRAPH => {
                self.pieces.clear();
                Message::Graph
            }
            INITIALIZER => {
                self.pieces.push(None);
                Message::Initializer
            }
            _ => {
                put(to, tag);
                put(to, bytes);
                return self.copy(bytes, end, to);
            }
        };
        let mut rest = Vec::new();
        self.message(inner, end, &mut rest)?;
        put(to, tag);
        put(to, u64::try_from(rest.len()).unwrap_or(u64::MAX));
        to.append(&mut rest);
        Ok(())
    }

    fn varint(&mut self, end: u64) -> Result<u64, ImportErrorKind> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            if self.at >= end {
                return Err(truncated());
            }
            let mut byte = [0];
            self.source.read_exact(&mut byte).map_err(ImportErrorKind::Io)?;
            self.at += 1;
            if shift < 64 {
                value |= u64::from(byte[0] & 0x7f) << shift;
            }
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed("a number of more than ten bytes"))
    }

    fn copy(&mut self, bytes: u64, end: u64, to: &mut Vec<u8>) -> Result<(), ImportErrorKind> {
        if bytes > end - self.at {
            return Err(truncated());
        }
        let copied = io::copy(&mut (&mut *self.source).take(bytes), to).map_err(ImportErrorKind::Io)?;
        self.at += copied;
        if copied == bytes { Ok(()) } else { Err(truncated()) }
    }
}

fn truncated() -> ImportErrorKind {
    malformed("the file is truncated")
}

fn put(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    to.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use onnx_protobuf::{GraphProto, Message as _, ModelProto, TensorProto};

    use super::*;

    fn length(bytes: &[u8]) -> u64 {
        u64::try_from(bytes.len()).unwrap()
    }

    fn tensor(name: &str, bytes: usize) -> TensorProto {
        let raw_data = (0..bytes).map(|i| i.to_le_bytes()[0]).collect();
        TensorProto { name: name.to_owned(), raw_data, ..TensorProto::default() }
    }

    fn model(sizes: &[usize]) -> ModelProto {
        let initializer = sizes.iter().enumerate().map(|(i, &bytes)| tensor(&format!("t{i}"), bytes)).collect();
        let graph = GraphProto { name: "g".to_owned(), initializer, ..GraphProto::default() };
        let graph = protobuf::MessageField::some(graph);
        ModelProto { ir_version: 8, producer_name: "p".to_owned(), graph, ..ModelProto::default() }
    }

    #[test]
    fn a_skeleton_and_its_payloads_are_the_whole_model() {
        let whole = model(&[0, 5, 5000, 4095, 4096, 70_000]);
        let bytes = whole.write_to_bytes().unwrap();
        let mut source = Cursor::new(bytes.as_slice());
        let (skeleton, mut payloads) = split(&mut source, length(&bytes)).unwrap();
        assert!(skeleton.len() < 4200 + 200, "{} bytes", skeleton.len());
        let mut read = ModelProto::parse_from_bytes(&skeleton).unwrap();
        for (i, tensor) in read.graph.as_mut().unwrap().initializer.iter_mut().enumerate() {
            if let Some(Stored { bytes, source }) = payloads.of_initializer(i).unwrap() {
                assert!(tensor.raw_data.is_empty());
                source.take(bytes).read_to_end(&mut tensor.raw_data).unwrap();
            }
        }
        assert_eq!(read, whole);
    }

    #[test]
    fn of_two_graphs_the_last_counts_as_for_the_parser() {
        let [first, last] = [model(&[6000, 5000]), model(&[7000])].map(|model| model.write_to_bytes().unwrap());
        let bytes = [first, last].concat();
        let mut source = Cursor::new(bytes.as_slice());
        let (skeleton, mut payloads) = split(&mut source, length(&bytes)).unwrap();
        assert_eq!(ModelProto::parse_from_bytes(&skeleton).unwrap().graph.initializer.len(), 1);
        assert_eq!(payloads.of_initializer(0).unwrap().unwrap().bytes, 7000);
        assert!(payloads.of_initializer(1).unwrap().is_none());
    }

    #[test]
    fn payloads_beyond_their_message_are_refused() {
        let bytes = model(&[5000]).write_to_bytes().unwrap();
        for cut in [1, 4990, bytes.len() - 3] {
            let short = &bytes[..bytes.len() - cut];
            let message = split(&mut Cursor::new(short), length(short)).map(|_| ()).unwrap_err().to_string();
            assert!(message.contains("truncated"), "{message}");
        }
        // The tensor claims less than its bytes take.
        let mut inner = tensor("t", 5000).write_to_bytes().unwrap();
        inner.truncate(2000);
        let mut graph = Vec::new();
        put(&mut graph, 5 << 3 | DELIMITED);
        put(&mut graph, length(&inner));
        graph.append(&mut inner);
        graph.resize(graph.len() + 8000, 0);
        let mut bytes = Vec::new();
        put(&mut bytes, 7 << 3 | DELIMITED);
        put(&mut bytes, length(&graph));
        bytes.append(&mut graph);
        assert!(split(&mut Cursor::new(bytes.as_slice()), length(&bytes)).is_err());
    }
}
