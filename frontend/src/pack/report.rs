//! What a written container holds, byte by byte.

use super::entropy::{Method, StreamReport};

/// What writing a container took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PackReport {
    /// Bytes of the file.
    pub file_bytes: usize,
    /// Bytes of the manifest as stored: graph, names, types, the source format's header.
    pub manifest_bytes: usize,
    /// Bytes of the fixed header, alignment and padding.
    pub framing_bytes: usize,
    /// The constants in the order of the file; equal ones are stored once and appear once.
    pub constants: Vec<ConstantReport>,
}

impl PackReport {
    /// Bytes of all constants kept densely.
    pub fn dense_bytes(&self) -> usize {
        self.constants.iter().map(|constant| constant.dense_bytes).sum()
    }

    /// Bytes of all constants in the file.
    pub fn weight_bytes(&self) -> usize {
        self.constants.iter().map(|constant| constant.bytes).sum()
    }
}

/// One stored constant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConstantReport {
    /// The name of the first node that holds it.
    pub name: String,
    /// Its encoding, without scales and zero points.
    pub form: String,
    /// Bytes of the elements kept densely.
    pub dense_bytes: usize,
    /// Bytes of the encoding, codes and positions bit-packed ([`optc_ir::Constant::stored_bytes`]).
    pub packed_bytes: usize,
    /// Bytes in the file, the parts below and nothing else.
    pub bytes: usize,
    /// Codes, or the elements of dense values.
    pub codes: Part,
    /// Positions of the kept elements, if it is sparse.
    pub positions: Part,
    /// Bytes of codebook, scales and zero points.
    pub table_bytes: usize,
}

/// The symbols of one part of a constant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// The coders of its streams, each once: `ans`, `huffman`, `packed`, `repeated`, `context`; `raw` if there
    /// is none.
    pub coders: Vec<&'static str>,
    /// Bytes in the file.
    pub bytes: usize,
    /// Of these, bytes of coders' tables and of lengths.
    pub overhead_bytes: usize,
    /// The number of symbols.
    pub symbols: usize,
    /// The empirical entropy of the symbols.
    pub entropy_bits: f64,
    /// Bytes of the symbols bit-packed.
    pub packed_bytes: usize,
    /// Bytes of the symbols by Huffman's code and its table, or bit-packed if that is smaller.
    pub huffman_bytes: usize,
}

impl Part {
    pub(super) fn add(&mut self, stream: &StreamReport) {
        if !self.coders.contains(&stream.method.name()) {
            self.coders.push(stream.method.name());
        }
        self.bytes += stream.coded_bytes + stream.table_bytes;
        self.overhead_bytes += stream.table_bytes;
        self.symbols += stream.symbols;
        self.entropy_bits += stream.entropy_bits;
        self.packed_bytes += stream.packed_bytes;
        self.huffman_bytes += stream.huffman_bytes;
    }

    /// A part of one stream.
    pub(super) fn of(stream: &StreamReport) -> Part {
        let mut part = Part::default();
        part.add(stream);
        part
    }

    /// What was to be coded is stored as it is.
    pub(super) fn become_raw(&mut self, bytes: usize) {
        self.coders = vec!["raw"];
        self.overhead_bytes = 1;
        self.bytes = 1 + bytes;
    }
}

impl StreamReport {
    /// Of symbols that are packed because their alphabet is too large for any table.
    pub(super) fn packed(symbols: usize, entropy_bits: f64, bytes: usize) -> StreamReport {
        StreamReport {
            method: Method::Packed,
            symbols,
            entropy_bits,
            coded_bytes: bytes,
            table_bytes: 0,
            packed_bytes: bytes,
            huffman_bytes: bytes,
        }
    }
}
