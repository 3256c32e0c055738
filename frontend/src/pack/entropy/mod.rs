//! Entropy coding of small symbols: codes of weights, distances of kept elements, bytes of floats.
//!
//! ```text
//! ┌────────┬──────────────────────────┬───────────────────────────┬────────┐
//! │ 1 byte │ table                    │ varint a chunk            │ chunks │
//! │ head   │ symbols that occur and   │ bytes of each; none if    │        │
//! │        │ code lengths or log₂ of  │ packed or repeated        │        │
//! │        │ frequencies              │                           │        │
//! └────────┴──────────────────────────┴───────────────────────────┴────────┘
//!   bits 0–2: method (the order of [`Method::ALL`])
//!   bits 3–4: log₂ of the steps an octave of the table (numeral systems)
//!   bits 5–7: x; a chunk is 2^(12+x) symbols, or all of them if x = 0
//! ```
//!
//! Chunks are decoded independently, so that cores can share them. The method is chosen by size.

mod ans;
mod huffman;
mod profile;
mod stream;

use optc_ir::Packed;
use optc_ir::constant::width;

pub use stream::read;
pub(super) use stream::{Job, Stream};

use super::cursor::put_varint;
use profile::Profile;

/// Alphabets beyond this are bit-packed: no table would pay.
pub const MAX_ALPHABET: usize = 1 << 12;

/// A symbol: `u8` or `u16`.
pub trait Symbol: Copy + Default + Eq + Send + Sync {
    /// As an index.
    fn index(self) -> usize;
    /// From an index that fits.
    fn from_index(index: u16) -> Self;
}

impl Symbol for u8 {
    fn index(self) -> usize {
        self.into()
    }
    fn from_index(index: u16) -> u8 {
        index.to_le_bytes()[0]
    }
}

impl Symbol for u16 {
    fn index(self) -> usize {
        self.into()
    }
    fn from_index(index: u16) -> u16 {
        index
    }
}

/// How a stream is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// As many bits a symbol as the alphabet needs.
    Packed,
    /// One symbol, repeated.
    Repeated,
    /// Huffman codes of at most 15 bits.
    Huffman,
    /// Asymmetric numeral systems, frequencies of 12 bits.
    Ans12,
    /// Asymmetric numeral systems, frequencies of 16 bits.
    Ans16,
}

impl Method {
    /// Every method, in the order of their numbers in files.
    pub const ALL: [Method; 5] = [Method::Packed, Method::Repeated, Method::Huffman, Method::Ans12, Method::Ans16];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Method::Packed => "packed",
            Method::Repeated => "repeated",
            Method::Huffman => "huffman",
            Method::Ans12 | Method::Ans16 => "ans",
        }
    }
}

/// What a stream takes, and what it would take otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamReport {
    /// The coder.
    pub method: Method,
    /// The number of symbols.
    pub symbols: usize,
    /// The empirical entropy: Σ n·log2(N/n) over the symbols.
    pub entropy_bits: f64,
    /// Bytes of the coded symbols.
    pub coded_bytes: usize,
    /// Bytes of the coder's table and of chunk lengths.
    pub table_bytes: usize,
    /// Bytes of the symbols bit-packed.
    pub packed_bytes: usize,
    /// Bytes of the symbols and their table by Huffman's code; as packed where no code helps.
    pub huffman_bytes: usize,
}

/// A way to code a stream, and its size.
struct Candidate {
    method: Method,
    /// Index into [`ans::STEPS`].
    steps: u8,
    profile: Profile,
    table: Vec<u8>,
    coded_bits: f64,
}

impl Candidate {
    fn bytes(&self) -> f64 {
        self.table.len() as f64 + (self.coded_bits / 8.0).ceil()
    }
}

/// Appends symbols below `alphabet` by the method that makes them smallest, or by the one given if it can
/// code them.
///
/// # Panics
/// If a symbol is not below `alphabet`, or `alphabet` is 0 or beyond [`MAX_ALPHABET`].
pub fn write<T: Symbol>(symbols: &[T], alphabet: usize, method: Option<Method>, out: &mut Vec<u8>) -> StreamReport {
    assert!((1..=MAX_ALPHABET).contains(&alphabet), "an alphabet of {alphabet}");
    let mut counts = vec![0u64; alphabet];
    symbols.iter().for_each(|symbol| counts[symbol.index()] += 1);
    let len = symbols.len() as f64;
    let entropy = |count: u64| if count == 0 { 0.0 } else { count as f64 * (len / count as f64).log2() };
    let bits = width(alphabet - 1);
    let packed_bytes = (symbols.len() * usize::from(bits)).div_ceil(8);
    let mut report = StreamReport {
        method: Method::Packed,
        symbols: symbols.len(),
        entropy_bits: counts.iter().map(|&count| entropy(count)).sum(),
        coded_bytes: packed_bytes,
        table_bytes: 1,
        packed_bytes,
        huffman_bytes: packed_bytes,
    };
    let candidates = candidates(&counts);
    let smallest = |wanted: &dyn Fn(Method) -> bool| {
        let candidates = candidates.iter().filter(|candidate| wanted(candidate.method));
        candidates.min_by(|a, b| a.bytes().total_cmp(&b.bytes()))
    };
    if let Some(huffman) = smallest(&|m| m == Method::Huffman) {
        report.huffman_bytes = packed_bytes.min(huffman.bytes() as usize);
    }
    let best = match method {
        Some(method) => smallest(&|m| m == method),
        None => {
            // Frequencies of 12 bits decode faster; those of 16 have to pay for that.
            let all = smallest(&|_| true);
            let fast = smallest(&|m| m != Method::Ans16);
            let fast = fast.filter(|fast| all.is_some_and(|all| fast.bytes() <= 1.001 * all.bytes()));
            fast.or(all).filter(|best| best.bytes() < packed_bytes as f64)
        }
    };
    let start = out.len();
    match best {
        Some(best) => {
            report.method = best.method;
            report.coded_bytes = best.write(symbols, out);
            report.table_bytes = out.len() - start - report.coded_bytes;
        }
        None => {
            out.push(Method::Packed as u8);
            out.extend_from_slice(Packed::from_codes(bits, symbols.iter().map(|s| s.index() as u32)).bytes());
        }
    }
    report
}

/// Every way but packing to code symbols that occur this often.
fn candidates(counts: &[u64]) -> Vec<Candidate> {
    let alphabet = counts.len();
    let (symbols, counts): (Vec<u16>, Vec<u64>) =
        (0u16..).zip(counts.iter().copied()).filter(|&(_, count)| count > 0).unzip();
    let with = |method, steps, levels: Vec<u16>, bits: &dyn Fn(&[u16]) -> Option<f64>| {
        let coded_bits = bits(&levels)?;
        let profile = Profile { symbols: symbols.clone(), levels };
        let table = profile.write(alphabet);
        Some(Candidate { method, steps, profile, table, coded_bits })
    };
    if let [symbol] = *symbols {
        let mut table = Vec::new();
        put_varint(symbol.into(), &mut table);
        let profile = Profile { symbols, levels: Vec::new() };
        return vec![Candidate { method: Method::Repeated, steps: 0, profile, table, coded_bits: 0.0 }];
    }
    if symbols.is_empty() {
        return Vec::new();
    }
    let lengths = huffman::lengths(&counts);
    let huffman_bits = |lengths: &[u16]| {
        Some(counts.iter().zip(lengths).map(|(&count, &length)| count as f64 * f64::from(length)).sum())
    };
    let mut candidates = vec![with(Method::Huffman, 0, lengths, &huffman_bits)];
    for (i, steps) in (0u8..).zip(ans::STEPS) {
        for (method, precision) in [(Method::Ans12, 12), (Method::Ans16, 16)] {
            let bits =
                |levels: &[u16]| Some(ans::cost(&counts, &ans::frequencies(levels, steps, precision)?, precision));
            candidates.push(with(method, i, ans::levels(&counts, steps), &bits));
        }
    }
    candidates.into_iter().flatten().collect()
}

impl Candidate {
    /// Appends the stream; returns the bytes of its chunks.
    fn write<T: Symbol>(&self, symbols: &[T], out: &mut Vec<u8>) -> usize {
        let exponent = match self.method {
            Method::Packed | Method::Repeated => 0,
            _ => chunk_exponent(symbols.len(), self.coded_bits),
        };
        out.push(self.method as u8 | self.steps << 3 | exponent << 5);
        out.extend_from_slice(&self.table);
        let steps = ans::STEPS[usize::from(self.steps)];
        let levels = &self.profile.levels;
        match self.method {
            Method::Packed | Method::Repeated => 0,
            Method::Huffman => put_chunks(symbols, exponent, out, |chunk| huffman::encode(chunk, &self.profile)),
            Method::Ans12 => {
                let encoder =
                    ans::frequencies(levels, steps, 12).and_then(|f| ans::Encoder::<12>::new(&self.profile, &f));
                let encoder = encoder.expect("the candidate's frequencies were computed before");
                put_chunks(symbols, exponent, out, |chunk| encoder.encode(chunk))
            }
            Method::Ans16 => {
                let encoder =
                    ans::frequencies(levels, steps, 16).and_then(|f| ans::Encoder::<16>::new(&self.profile, &f));
                let encoder = encoder.expect("the candidate's frequencies were computed before");
                put_chunks(symbols, exponent, out, |chunk| encoder.encode(chunk))
            }
        }
    }
}

/// A quarter of the stream, for four are decoded in turn, but at most 2^17 symbols, for cores share
/// chunks; more if the chunks would be so small that their lengths count.
fn chunk_exponent(len: usize, bits: f64) -> u8 {
    let fits = |&x: &u8| {
        let chunk = 1usize << (12 + x);
        (4 * chunk >= len || x >= 5) && bits / 8.0 * chunk as f64 / len as f64 >= 1024.0
    };
    let exponent = (1..=7).find(fits).unwrap_or(7);
    if 1 << (12 + exponent) >= len { 0 } else { exponent }
}

fn chunk_len(exponent: u8, len: usize) -> usize {
    if exponent == 0 { len.max(1) } else { 1 << (12 + exponent) }
}

fn put_chunks<T>(symbols: &[T], exponent: u8, out: &mut Vec<u8>, encode: impl Fn(&[T]) -> Vec<u8>) -> usize {
    let chunks: Vec<Vec<u8>> = symbols.chunks(chunk_len(exponent, symbols.len())).map(encode).collect();
    chunks.iter().for_each(|chunk| put_varint(chunk.len() as u64, out));
    let start = out.len();
    chunks.iter().for_each(|chunk| out.extend_from_slice(chunk));
    out.len() - start
}
