//! Reading streams: first the head of each, then its chunks, on as many cores as there are.

use std::borrow::Cow;

use optc_ir::Packed;
use optc_ir::constant::{packed_bytes, width};

use super::super::cursor::Cursor;
use super::super::{PackError, damaged};
use super::profile::Profile;
use super::{MAX_ALPHABET, Method, Symbol, ans, chunk_len, huffman};

/// A stream whose head is read.
pub(in super::super) struct Stream<'a> {
    len: usize,
    alphabet: usize,
    coder: Coder<'a>,
    /// The symbols that occur.
    symbols: Vec<u16>,
    chunk_len: usize,
    chunks: Vec<&'a [u8]>,
    decoded: Decoded,
}

enum Coder<'a> {
    Packed(&'a [u8]),
    Repeated(u16),
    Huffman(huffman::Decoder),
    Ans12(ans::Decoder<12>),
    Ans16(ans::Decoder<16>),
}

/// Symbols, once the jobs have run; none if no job is needed.
enum Decoded {
    Narrow(Vec<u8>),
    Wide(Vec<u16>),
}

impl<'a> Stream<'a> {
    /// Reads the head of `len` symbols below `alphabet`, and allocates them: the caller has checked that
    /// this is within the limits.
    pub(in super::super) fn parse(
        cursor: &mut Cursor<'a>,
        alphabet: usize,
        len: usize,
    ) -> Result<Stream<'a>, PackError> {
        let malformed = || damaged("a coder's table is malformed");
        if !(1..=MAX_ALPHABET).contains(&alphabet) {
            return Err(malformed());
        }
        let head = cursor.byte()?;
        let method = *Method::ALL.get(usize::from(head & 7)).ok_or_else(malformed)?;
        let steps = ans::STEPS[usize::from(head >> 3 & 3)];
        let chunk_len = chunk_len(head >> 5, len);
        let mut stream = Stream {
            len,
            alphabet,
            coder: Coder::Repeated(0),
            symbols: Vec::new(),
            chunk_len,
            chunks: Vec::new(),
            decoded: Decoded::Narrow(Vec::new()),
        };
        match method {
            Method::Packed => {
                let bits = width(alphabet - 1);
                let bytes = cursor.take(packed_bytes(bits, len).ok_or_else(malformed)?)?;
                let used = len % 8 * usize::from(bits) % 8;
                if used != 0 && bytes.last().is_some_and(|last| last >> used != 0) {
                    return Err(damaged("bits after the last symbol are set"));
                }
                stream.coder = Coder::Packed(bytes);
                return Ok(stream);
            }
            Method::Repeated => {
                let symbol = cursor.varint()?;
                let symbol = u16::try_from(symbol).ok().filter(|&s| usize::from(s) < alphabet).ok_or_else(malformed)?;
                stream.coder = Coder::Repeated(symbol);
                return Ok(stream);
            }
            _ => {}
        }
        let (profile, read) = Profile::read(cursor.bytes, alphabet).ok_or_else(malformed)?;
        cursor.take(read)?;
        stream.coder = coder(method, steps, &profile).ok_or_else(malformed)?;
        stream.symbols = profile.symbols;
        let mut lens = Vec::new();
        for _ in 0..len.div_ceil(chunk_len) {
            lens.push(cursor.varint()?);
        }
        stream.chunks = lens.into_iter().map(|len| cursor.take(len)).collect::<Result<_, _>>()?;
        stream.decoded = match alphabet <= 256 {
            true => Decoded::Narrow(vec![0; len]),
            false => Decoded::Wide(vec![0; len]),
        };
        Ok(stream)
    }

    /// What there is to decode, in pieces that do not depend on each other.
    pub(in super::super) fn jobs(&mut self) -> Vec<Job<'_>> {
        let chunks = self.chunks.chunks(4);
        let symbols = 4 * self.chunk_len;
        let (coder, map, chunk_len) = (&self.coder, &*self.symbols, self.chunk_len);
        let job = |chunks, out| Job { coder, symbols: map, chunks, chunk_len, out };
        match &mut self.decoded {
            Decoded::Narrow(v) => chunks.zip(v.chunks_mut(symbols)).map(|(c, out)| job(c, Out::Narrow(out))).collect(),
            Decoded::Wide(v) => chunks.zip(v.chunks_mut(symbols)).map(|(c, out)| job(c, Out::Wide(out))).collect(),
        }
    }

    /// Runs all jobs here and now.
    pub(in super::super) fn run(&mut self) -> Result<(), PackError> {
        self.jobs().into_iter().try_for_each(Job::run)
    }

    /// The symbols of an alphabet of at most 256, after all jobs.
    pub(in super::super) fn bytes(&self) -> Cow<'_, [u8]> {
        match (&self.coder, &self.decoded) {
            (Coder::Packed(bytes), _) if width(self.alphabet - 1) == 8 => Cow::Borrowed(bytes),
            (Coder::Packed(bytes), _) => {
                let packed = Packed::from_bytes(width(self.alphabet - 1), self.len, bytes.to_vec());
                let packed = packed.expect("the number of bytes and the last bits were checked");
                Cow::Owned(packed.iter().map(|code| code.to_le_bytes()[0]).collect())
            }
            (Coder::Repeated(symbol), _) => Cow::Owned(vec![symbol.to_le_bytes()[0]; self.len]),
            (_, Decoded::Narrow(symbols)) => Cow::Borrowed(symbols),
            (_, Decoded::Wide(_)) => unreachable!("alphabets of at most 256 symbols are narrow"),
        }
    }

    /// The symbols as codes just wide enough for the alphabet, after all jobs.
    pub(in super::super) fn into_packed(self) -> Result<Packed, PackError> {
        let bits = width(self.alphabet - 1);
        let packed = match (self.coder, self.decoded) {
            (Coder::Packed(bytes), _) => Packed::from_bytes(bits, self.len, bytes.to_vec()),
            (Coder::Repeated(symbol), _) => {
                Ok(Packed::from_codes(bits, std::iter::repeat_n(u32::from(symbol), self.len)))
            }
            (_, Decoded::Narrow(symbols)) if bits == 8 => Packed::from_bytes(bits, self.len, symbols),
            (_, Decoded::Narrow(symbols)) => Ok(Packed::from_codes(bits, symbols.iter().map(|&s| s.into()))),
            (_, Decoded::Wide(symbols)) => Ok(Packed::from_codes(bits, symbols.iter().map(|&s| s.into()))),
        };
        packed.map_err(|e| damaged(e.to_string()))
    }
}

fn coder(method: Method, steps: u16, profile: &Profile) -> Option<Coder<'static>> {
    let frequencies = |precision| ans::frequencies(&profile.levels, steps, precision);
    Some(match method {
        Method::Huffman => Coder::Huffman(huffman::Decoder::new(profile)?),
        Method::Ans12 => Coder::Ans12(ans::Decoder::new(&frequencies(12)?)?),
        Method::Ans16 => Coder::Ans16(ans::Decoder::new(&frequencies(16)?)?),
        Method::Packed | Method::Repeated => return None,
    })
}

/// Up to four chunks of a stream to decode.
pub(in super::super) struct Job<'a> {
    coder: &'a Coder<'a>,
    symbols: &'a [u16],
    chunks: &'a [&'a [u8]],
    chunk_len: usize,
    out: Out<'a>,
}

enum Out<'a> {
    Narrow(&'a mut [u8]),
    Wide(&'a mut [u16]),
}

impl Job<'_> {
    /// Decodes.
    pub(in super::super) fn run(self) -> Result<(), PackError> {
        let done = match self.out {
            Out::Narrow(out) => run(self.coder, self.symbols, self.chunks, self.chunk_len, out),
            Out::Wide(out) => run(self.coder, self.symbols, self.chunks, self.chunk_len, out),
        };
        done.ok_or_else(|| damaged("coded symbols are malformed"))
    }
}

fn run<T: Symbol>(coder: &Coder<'_>, symbols: &[u16], chunks: &[&[u8]], chunk_len: usize, out: &mut [T]) -> Option<()> {
    let map: Vec<T> = symbols.iter().map(|&symbol| T::from_index(symbol)).collect();
    match coder {
        Coder::Packed(_) | Coder::Repeated(_) => Some(()),
        Coder::Huffman(decoder) => {
            chunks.iter().zip(out.chunks_mut(chunk_len)).try_for_each(|(chunk, out)| decoder.decode(&map, chunk, out))
        }
        Coder::Ans12(decoder) => decoder.decode(&map, chunks, chunk_len, out),
        Coder::Ans16(decoder) => decoder.decode(&map, chunks, chunk_len, out),
    }
}

/// The `len` symbols below `alphabet` that [`write`](super::write) wrote, and nothing else, decoded by this
/// thread alone.
///
/// # Errors
/// [`PackError::Damaged`] if the bytes are no such stream.
pub fn read(bytes: &[u8], alphabet: usize, len: usize) -> Result<Packed, PackError> {
    let mut cursor = Cursor::new(bytes);
    let mut stream = Stream::parse(&mut cursor, alphabet, len)?;
    stream.run()?;
    match cursor.is_empty() {
        true => stream.into_packed(),
        false => Err(damaged("bytes follow a stream")),
    }
}
