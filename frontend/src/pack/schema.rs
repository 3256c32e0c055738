//! The messages of the manifest.
//!
//! The manifest is a [`Manifest`], and after it the nodes of the graph as one [`Node`] each, all with
//! their lengths before them, so that a reader never holds more than one node beside the graph.

/// Everything but the nodes.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Manifest {
    /// Name of the graph.
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) origin: Option<Origin>,
    #[prost(message, optional, tag = "3")]
    pub(super) provenance: Option<Provenance>,
    /// Names of symbolic dimensions, which types refer to by number.
    #[prost(string, repeated, tag = "4")]
    pub(super) symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub(super) inputs: Vec<Input>,
    #[prost(message, repeated, tag = "6")]
    pub(super) results: Vec<ResultEntry>,
    #[prost(message, repeated, tag = "7")]
    pub(super) sections: Vec<Section>,
    #[prost(message, repeated, tag = "8")]
    pub(super) constants: Vec<Constant>,
    /// How many nodes follow.
    #[prost(uint64, tag = "9")]
    pub(super) nodes: u64,
}

/// What the importing frontend needs to write the source format back.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Origin {
    #[prost(string, tag = "1")]
    pub(super) format: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) header: Vec<u8>,
}

/// Who wrote the file, and how its graph was made.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Provenance {
    #[prost(string, tag = "1")]
    pub(super) version: String,
    #[prost(string, tag = "2")]
    pub(super) pipeline: String,
    #[prost(uint64, optional, tag = "3")]
    pub(super) seed: Option<u64>,
}

/// A graph input.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Input {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) ty: Option<Type>,
}

/// A result of the graph.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResultEntry {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// Number of the value: inputs first, then the results of the nodes in order.
    #[prost(uint64, tag = "2")]
    pub(super) value: u64,
}

/// Bytes after the manifest; sections follow each other.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Section {
    #[prost(uint64, tag = "1")]
    pub(super) len: u64,
    /// XXH3 of the bytes.
    #[prost(fixed64, tag = "2")]
    pub(super) checksum: u64,
    /// Whether it starts at the next multiple of 64 in the file.
    #[prost(bool, tag = "3")]
    pub(super) aligned: bool,
}

/// The type of a value.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Type {
    /// Element type; 0 if the type is unknown.
    #[prost(uint32, tag = "1")]
    pub(super) dtype: u32,
    /// −1 for a dimension that is not known, −2 − i for symbol i.
    #[prost(sint64, repeated, tag = "2")]
    pub(super) dims: Vec<i64>,
}

/// A constant: type, encoding, and which section holds its payload. Payloads that share a section
/// follow each other in the order of the constants.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Constant {
    #[prost(uint32, tag = "1")]
    pub(super) dtype: u32,
    #[prost(uint64, repeated, tag = "2")]
    pub(super) shape: Vec<u64>,
    #[prost(message, optional, tag = "3")]
    pub(super) form: Option<Form>,
    #[prost(uint32, tag = "4")]
    pub(super) section: u32,
    /// Whether the section is nothing but the elements, little-endian.
    #[prost(bool, tag = "5")]
    pub(super) raw: bool,
    /// The encoding in memory, if it is not that of the payload.
    #[prost(message, optional, tag = "6")]
    pub(super) kept: Option<Form>,
}

/// An encoding without its payload.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Form {
    /// 0 dense, 1 clustered, 2 quantized, 3 sparse.
    #[prost(uint32, tag = "1")]
    pub(super) kind: u32,
    /// Bits of quantized codes, or of distances.
    #[prost(uint32, tag = "2")]
    pub(super) bits: u32,
    /// The axis of scales and zero points.
    #[prost(uint64, optional, tag = "3")]
    pub(super) axis: Option<u64>,
    /// 0 bitmap, 1 rows, 2 distances, 3 n of m, 4 blocks.
    #[prost(uint32, tag = "4")]
    pub(super) pattern: u32,
    /// n and m, or rows and columns.
    #[prost(uint64, repeated, tag = "5")]
    pub(super) sizes: Vec<u64>,
    /// The encoding of kept elements; dense if absent.
    #[prost(message, optional, boxed, tag = "6")]
    pub(super) values: Option<Box<Form>>,
}

/// A node of the graph, after the nodes of its operands.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Node {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// Operator; empty for constants and opaque nodes.
    #[prost(string, tag = "2")]
    pub(super) op: String,
    /// 0 for an absent operand, otherwise how many values before this node it is.
    #[prost(uint32, repeated, tag = "3")]
    pub(super) operands: Vec<u32>,
    #[prost(message, repeated, tag = "4")]
    pub(super) attrs: Vec<Attr>,
    /// Number of the constant, plus 1.
    #[prost(uint32, tag = "5")]
    pub(super) constant: u32,
    #[prost(message, optional, boxed, tag = "6")]
    pub(super) opaque: Option<Box<Opaque>>,
}

/// A node of the source format.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Opaque {
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(string, tag = "2")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) results: Vec<Type>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) payload: Vec<u8>,
}

/// An attribute that differs from its default.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Attr {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<Value>,
}

/// The value of an attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Value {
    #[prost(oneof = "ValueKind", tags = "1, 2, 3, 4, 5, 6")]
    pub(super) kind: Option<ValueKind>,
}

/// The kinds of attribute values.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum ValueKind {
    /// A number that is not a short integer, as text.
    #[prost(string, tag = "1")]
    Number(String),
    #[prost(sint64, tag = "2")]
    Int(i64),
    #[prost(string, tag = "3")]
    Word(String),
    #[prost(string, tag = "4")]
    Str(String),
    #[prost(message, tag = "5")]
    List(List),
    #[prost(message, tag = "6")]
    Call(Call),
}

/// A list of values.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct List {
    /// The items, if not all are integers.
    #[prost(message, repeated, tag = "1")]
    pub(super) items: Vec<Value>,
    /// The items, if all are integers.
    #[prost(sint64, repeated, tag = "2")]
    pub(super) ints: Vec<i64>,
}

/// A word with arguments.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Call {
    #[prost(string, tag = "1")]
    pub(super) word: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) args: Vec<Value>,
}
