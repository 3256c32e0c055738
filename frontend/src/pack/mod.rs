//! The `.optc` container: a graph, its constants entropy-coded, and what is needed to write the source
//! format back.
//!
//! ```text
//! ┌───────────┬──────────┬──────────┬──────────┬───────────┬─────────────────┐
//! │ 8 bytes   │ 4 bytes  │ 4 bytes  │ 4 bytes  │ 8 bytes   │ stored bytes    │
//! │ magic     │ version  │ stored   │ decoded  │ XXH3 of   │ manifest,       │
//! │ 89 "OPTC" │ u32      │ u32      │ u32      │ what is   │ deflated if     │
//! │ 0D 0A 1A  │          │          │          │ left and  │ stored differs  │
//! │           │          │          │          │ right     │ from decoded    │
//! └───────────┴──────────┴──────────┴──────────┴───────────┴─────────────────┘
//! ┌───────────┬─────────────────┬─────────────────┬─────┬────────────────────┐
//! │ section 0 │ 0 … 63 zeros    │ section 1       │ …   │ zeros (padding)    │
//! │           │ if 1 is aligned │                 │     │                    │
//! └───────────┴─────────────────┴─────────────────┴─────┴────────────────────┘
//! ```
//!
//! All numbers are little-endian. The manifest is a message in the encoding of protocol buffers, and after it one message a node:
//! names, operators, attributes, operands, types of the inputs, encodings, the section table with a
//! checksum each, provenance, and the source format's header (`schema`).
//!
//! A section holds the payloads of constants (`payload`). Those below 4 KiB share one, for alignment and
//! a checksum each would cost more than many of them; every other has its own. Sections follow each other
//! without gaps, except that one that is nothing but elements (dense, and no coder makes it smaller)
//! starts at a multiple of 64 bytes, the width of a cache line and of the widest vectors, so that it can
//! be used where it is mapped. Codes, positions and bytes of floats are coded by [`entropy`].
//!
//! # Safety limits
//!
//! A file is checked before anything is allocated from what it says:
//!
//! | what | limit |
//! |---|---|
//! | manifest, decoded | 1 MiB and 32 times its stored bytes |
//! | nodes | 65,536 and a quarter of the file's bytes |
//! | constants kept densely, and symbols of streams, together | 64 MiB and 256 times the file's bytes |
//! | elements of a value | [`optc_ir::types::MAX_ELEMENTS`] |
//! | nesting of messages | 100 (the message decoder's) |
//!
//! The writer keeps them: it stores a manifest plainly where deflating beats 32 to 1, and pads a file
//! of constants that shrink by more than 256 to 1. Sections stay within the file; checksums are compared before
//! a section is read; operands refer to nodes before, so there are no cycles; the graph is built through
//! its type rules and verified.

mod bits;
mod codes;
mod cursor;
mod elements;
pub mod entropy;
mod mask;
mod parallel;
mod payload;
mod read;
mod report;
mod schema;
#[cfg(test)]
mod tests;
mod types;
mod write;

use optc_ir::{TypeError, VerifyErrors};
use thiserror::Error;

pub use read::{provenance, read};
pub use report::{ConstantReport, PackReport, Part};
pub use write::write;

/// The first bytes of every container. The first is no ASCII, the last ones are changed by whoever
/// takes the file for text.
pub const MAGIC: [u8; 8] = *b"\x89OPTC\r\n\x1a";

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// Bytes before the manifest.
const HEADER: usize = 28;

/// Sections of plain elements start at multiples of this.
const ALIGNMENT: usize = 64;

/// What writing is told beside the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackOptions {
    /// The pipeline that made the graph, as text; empty if none did.
    pub pipeline: String,
    /// The seed it ran with.
    pub seed: Option<u64>,
}

/// How the graph of a container was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The version of optc that wrote the file.
    pub version: String,
    /// The pipeline that made the graph, as text; empty if none did.
    pub pipeline: String,
    /// The seed it ran with.
    pub seed: Option<u64>,
}

/// A container that can't be read, or a graph that can't be written as one.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum PackError {
    /// Another kind of file.
    #[error("not an .optc file")]
    NotOptc,
    /// A version this program does not know.
    #[error("written in version {found} of the .optc format, and this program reads version {VERSION} alone")]
    Version {
        /// The version of the file.
        found: u32,
    },
    /// The bytes contradict themselves.
    #[error("the .optc file is damaged: {0}")]
    Damaged(String),
    /// More than the safety limits allow.
    #[error("the .optc file is refused: {what} take {bytes} bytes, at most {limit} are allowed for its size")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// What the file declares.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A node that does not fit its operands.
    #[error("node {node}: {source}")]
    Node {
        /// Name of the node.
        node: String,
        /// What is wrong.
        source: TypeError,
    },
    /// A node that a container can't hold.
    #[error("node {node}: {message}")]
    Unsupported {
        /// Name of the node.
        node: String,
        /// Why not.
        message: String,
    },
    /// A graph that is not valid.
    #[error(transparent)]
    Invalid(#[from] VerifyErrors),
}

fn damaged(message: impl Into<String>) -> PackError {
    PackError::Damaged(message.into())
}

/// How large a manifest of so many stored bytes may be.
fn manifest_limit(stored: usize) -> usize {
    stored.saturating_mul(32).saturating_add(1 << 20)
}

/// How many nodes a file of so many bytes may have.
fn node_limit(file: usize) -> usize {
    file / 4 + (1 << 16)
}

/// Bytes that constants of a file may still take.
struct Budget {
    limit: usize,
    spent: usize,
}

impl Budget {
    /// The limit of a file of so many bytes.
    fn of(file: usize) -> Budget {
        Budget { limit: file.saturating_mul(Budget::RATIO).saturating_add(Budget::BASE), spent: 0 }
    }

    const BASE: usize = 64 << 20;
    const RATIO: usize = 256;

    fn spend(&mut self, bytes: usize) -> Result<(), PackError> {
        self.spent = self.spent.saturating_add(bytes);
        match self.spent <= self.limit {
            true => Ok(()),
            false => Err(PackError::Limit { what: "constants", bytes: self.spent, limit: self.limit }),
        }
    }
}
