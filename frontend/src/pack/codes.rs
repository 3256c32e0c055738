//! Codes and positions: the parts of a constant that are small integers.
//!
//! Positions are kept apart from the pattern that speaks of them. A set of positions (bitmap, rows, mask
//! of blocks) is, whichever is smaller,
//!
//! ```text
//! 0, varint n, stream of n distances: elements skipped before the next in the set; 255 skips 255 and
//!              is followed by another
//! 1, stream of bytes: the bits of the set, lowest first
//! 2, a mask coded by context (`mask`), of at most 2^20 bits
//! ```
//!
//! Distances that a pattern keeps itself are a stream of codes. Of `n` of `m`, the positions in a group
//! are one symbol: the rank of the combination, as long as there are at most 4096 of them.

use optc_ir::constant::{packed_bytes, width};
use optc_ir::{Packed, Pattern, PatternForm};

use super::cursor::{Cursor, put_varint};
use super::entropy::{self, MAX_ALPHABET, Stream, StreamReport};
use super::mask::{self, Coded};
use super::report::Part;
use super::{Budget, PackError, damaged};

/// Appends codes below `alphabet`.
pub(super) fn write_codes(codes: &Packed, alphabet: usize, out: &mut Vec<u8>) -> Part {
    Part::of(&match alphabet {
        0 => StreamReport::packed(0, 0.0, 0),
        1..=256 if codes.bits() == 8 => entropy::write(codes.bytes(), alphabet, None, out),
        1..=256 => {
            let symbols: Vec<u8> = codes.iter().map(|code| code.to_le_bytes()[0]).collect();
            entropy::write(&symbols, alphabet, None, out)
        }
        257..=MAX_ALPHABET => {
            let symbols: Vec<u16> = codes.iter().map(|code| code as u16).collect();
            entropy::write(&symbols, alphabet, None, out)
        }
        _ => {
            out.extend_from_slice(codes.bytes());
            StreamReport::packed(codes.len(), entropy_bits(codes), codes.bytes().len())
        }
    })
}

fn entropy_bits(codes: &Packed) -> f64 {
    let mut sorted: Vec<u32> = codes.iter().collect();
    sorted.sort_unstable();
    let len = sorted.len() as f64;
    sorted.chunk_by(|a, b| a == b).map(|run| run.len() as f64 * (len / run.len() as f64).log2()).sum()
}

/// Codes whose stream is parsed.
pub(super) enum Codes<'a> {
    Coded(Stream<'a>),
    Packed(Packed),
}

impl<'a> Codes<'a> {
    /// `len` codes below `alphabet`, which make a [`Packed`] of `bits` bits.
    pub(super) fn parse(
        cursor: &mut Cursor<'a>,
        alphabet: usize,
        len: usize,
        budget: &mut Budget,
    ) -> Result<Codes<'a>, PackError> {
        budget.spend(len)?;
        if (1..=MAX_ALPHABET).contains(&alphabet) {
            return Ok(Codes::Coded(Stream::parse(cursor, alphabet, len)?));
        }
        let bits = width(alphabet.saturating_sub(1));
        let bytes = packed_bytes(bits, len).ok_or_else(|| damaged("codes are too wide"))?;
        let packed = Packed::from_bytes(bits, len, cursor.take(bytes)?.to_vec());
        Ok(Codes::Packed(packed.map_err(|e| damaged(e.to_string()))?))
    }

    pub(super) fn stream(&mut self) -> Option<&mut Stream<'a>> {
        match self {
            Codes::Coded(stream) => Some(stream),
            Codes::Packed(_) => None,
        }
    }

    /// The codes, after all jobs.
    pub(super) fn into_packed(self) -> Result<Packed, PackError> {
        match self {
            Codes::Coded(stream) => stream.into_packed(),
            Codes::Packed(packed) => Ok(packed),
        }
    }
}

const DISTANCES: u8 = 0;
const MASK: u8 = 1;
const CONTEXT: u8 = 2;

/// A matrix of positions.
#[derive(Clone, Copy)]
struct Grid {
    rows: usize,
    columns: usize,
}

impl Grid {
    /// Constants are matrices of `shape[0]` rows.
    fn of(shape: &[usize]) -> Grid {
        Grid { rows: shape.first().copied().unwrap_or(1), columns: shape.iter().skip(1).product() }
    }

    fn len(self) -> usize {
        self.rows * self.columns
    }
}

/// How far apart neighbours above each other may lie in a row: rows of kernels, and of square pictures.
fn pitches(shape: &[usize]) -> Vec<usize> {
    let columns: usize = shape.iter().skip(1).product();
    let mut pitches = vec![0];
    if let [_, _, spatial @ ..] = shape
        && let Some(&width) = spatial.last()
    {
        pitches.extend([width, spatial.iter().product()]);
    } else if columns.isqrt().pow(2) == columns {
        pitches.push(columns.isqrt());
    }
    pitches.retain(|&pitch| pitch != 1 && pitch < columns);
    pitches.dedup();
    pitches
}

/// Appends an ascending set of numbers below the length of the grid.
fn write_set(set: &[usize], grid: Grid, pitches: &[usize], out: &mut Vec<u8>) -> Part {
    let universe = grid.len();
    let mut distances = Vec::with_capacity(set.len());
    let mut mask = vec![0u8; universe.div_ceil(8)];
    let mut next = 0;
    for &at in set {
        let skipped = at - next;
        distances.extend(std::iter::repeat_n(255, skipped / 255));
        distances.push((skipped % 255) as u8);
        mask[at / 8] |= 1 << (at % 8);
        next = at + 1;
    }
    let start = out.len();
    out.push(DISTANCES);
    put_varint(distances.len() as u64, out);
    let head = out.len() - start;
    let by_distances = entropy::write(&distances, 256, None, out);
    let mut by_mask_bytes = vec![MASK];
    let by_mask = entropy::write(&mask, 256, None, &mut by_mask_bytes);
    let (stream, head) = if by_mask_bytes.len() < out.len() - start {
        out.truncate(start);
        out.extend_from_slice(&by_mask_bytes);
        (by_mask, 1)
    } else {
        (by_distances, head)
    };
    let mut part = Part::of(&stream);
    part.bytes += head;
    part.overhead_bytes += head;
    part.packed_bytes = mask.len();
    if universe <= mask::MAX_BITS {
        let coded = pitches.iter().map(|&pitch| mask::encode(set, grid.rows, grid.columns, pitch));
        let smallest = coded.min_by_key(Vec::len).filter(|coded| coded.len() + 1 < part.bytes);
        if let Some(coded) = smallest {
            out.truncate(start);
            out.push(CONTEXT);
            out.extend_from_slice(&coded);
            part.coders = vec!["context"];
            part.bytes = 1 + coded.len();
            part.overhead_bytes = part.bytes.min(4);
        }
    }
    part
}

/// A set of numbers whose stream is parsed.
pub(super) struct Set<'a> {
    grid: Grid,
    kind: SetKind<'a>,
}

enum SetKind<'a> {
    Distances(Stream<'a>),
    Mask(Stream<'a>),
    Context(Coded<'a>),
}

impl<'a> Set<'a> {
    fn parse(cursor: &mut Cursor<'a>, grid: Grid, budget: &mut Budget) -> Result<Set<'a>, PackError> {
        let universe = grid.len();
        let kind = match cursor.byte()? {
            DISTANCES => {
                // Every distance leads at least one further.
                let len = cursor.varint()?;
                if len > universe {
                    return Err(damaged(format!("{len} distances within {universe}")));
                }
                budget.spend(len)?;
                SetKind::Distances(Stream::parse(cursor, 256, len)?)
            }
            MASK => {
                let len = universe.div_ceil(8);
                budget.spend(len)?;
                SetKind::Mask(Stream::parse(cursor, 256, len)?)
            }
            CONTEXT if universe <= mask::MAX_BITS => {
                budget.spend(universe)?;
                SetKind::Context(Coded::parse(cursor)?)
            }
            _ => return Err(damaged("positions are of no known kind")),
        };
        Ok(Set { grid, kind })
    }

    fn stream(&mut self) -> Option<&mut Stream<'a>> {
        match &mut self.kind {
            SetKind::Distances(stream) | SetKind::Mask(stream) => Some(stream),
            SetKind::Context(_) => None,
        }
    }

    /// Calls `f` with every member, ascending.
    fn for_each(&self, mut f: impl FnMut(usize)) -> Result<(), PackError> {
        match &self.kind {
            SetKind::Mask(stream) => {
                for (i, &byte) in stream.bytes().iter().enumerate() {
                    (0..8).filter(|bit| byte >> bit & 1 == 1).for_each(|bit| f(8 * i + bit));
                }
            }
            SetKind::Distances(stream) => {
                let mut next = 0;
                for &symbol in stream.bytes().iter() {
                    next += usize::from(symbol);
                    if symbol < 255 {
                        if next >= self.grid.len() {
                            return Err(damaged("distances lead beyond the shape"));
                        }
                        f(next);
                        next += 1;
                    }
                }
            }
            SetKind::Context(coded) => coded.decode(self.grid.rows, self.grid.columns)?.into_iter().for_each(f),
        }
        Ok(())
    }

    fn into_mask(self) -> Result<Packed, PackError> {
        let universe = self.grid.len();
        let mask = if let SetKind::Mask(stream) = &self.kind {
            stream.bytes().into_owned()
        } else {
            let mut mask = vec![0u8; universe.div_ceil(8)];
            self.for_each(|at| mask[at / 8] |= 1 << (at % 8))?;
            mask
        };
        Packed::from_bytes(1, universe, mask).map_err(|e| damaged(e.to_string()))
    }
}

/// Appends the positions of a pattern.
pub(super) fn write_pattern(pattern: &Pattern, shape: &[usize], out: &mut Vec<u8>) -> Part {
    match pattern {
        Pattern::Bitmap(_) | Pattern::Csr { .. } => {
            let mut part = write_set(&pattern.positions(shape), Grid::of(shape), &pitches(shape), out);
            part.packed_bytes = pattern.stored_bytes();
            part
        }
        Pattern::Block { mask, rows, columns } => {
            let set: Vec<usize> = mask.iter().enumerate().filter(|&(_, bit)| bit == 1).map(|(i, _)| i).collect();
            let grid = blocks(shape, *rows, *columns).expect("the blocks of a pattern are not empty");
            write_set(&set, grid, &[0], out)
        }
        Pattern::Relative(distances) => write_codes(distances, 1 << distances.bits(), out),
        Pattern::NofM { n, m, positions } => match combinations(*n, *m) {
            Some(count) => {
                let codes: Vec<u32> = positions.iter().collect();
                let ranks: Vec<u32> = codes.chunks(*n).map(|group| rank(group, *m)).collect();
                let mut part = write_codes(&Packed::pack(width(count - 1), &ranks), count, out);
                part.packed_bytes = positions.bytes().len();
                part
            }
            None => write_codes(positions, *m, out),
        },
    }
}

/// A pattern whose stream is parsed.
pub(super) enum Positions<'a> {
    Set(Set<'a>),
    Codes(Codes<'a>),
}

impl<'a> Positions<'a> {
    /// `kept` elements of a constant of this shape, which the caller has checked to be of a sane size.
    pub(super) fn parse(
        cursor: &mut Cursor<'a>,
        form: &PatternForm,
        shape: &[usize],
        kept: usize,
        budget: &mut Budget,
    ) -> Result<Positions<'a>, PackError> {
        Ok(match *form {
            PatternForm::Bitmap | PatternForm::Csr => Positions::Set(Set::parse(cursor, Grid::of(shape), budget)?),
            PatternForm::Block(rows, columns) => {
                let grid = blocks(shape, rows, columns)?;
                Positions::Set(Set::parse(cursor, grid, budget)?)
            }
            PatternForm::Relative(bits @ 1..=16) => Positions::Codes(Codes::parse(cursor, 1 << bits, kept, budget)?),
            PatternForm::NofM(n, m) if 1 <= n && n <= m && m <= 1 << 16 => Positions::Codes(match combinations(n, m) {
                Some(count) => Codes::parse(cursor, count, kept / n, budget)?,
                None => Codes::parse(cursor, m, kept, budget)?,
            }),
            _ => return Err(damaged(format!("no pattern is sparse({form})"))),
        })
    }

    pub(super) fn stream(&mut self) -> Option<&mut Stream<'a>> {
        match self {
            Positions::Set(set) => set.stream(),
            Positions::Codes(codes) => codes.stream(),
        }
    }

    /// The pattern, after all jobs.
    pub(super) fn into_pattern(self, form: &PatternForm, shape: &[usize]) -> Result<Pattern, PackError> {
        Ok(match (self, form.clone()) {
            (Positions::Set(set), PatternForm::Bitmap) => Pattern::Bitmap(set.into_mask()?),
            (Positions::Set(set), PatternForm::Block(rows, columns)) => {
                Pattern::Block { rows, columns, mask: set.into_mask()? }
            }
            (Positions::Set(set), _) => {
                let mut positions = Vec::new();
                set.for_each(|at| positions.push(at))?;
                Pattern::new(form, shape, &positions).map_err(|e| damaged(e.to_string()))?
            }
            (Positions::Codes(codes), PatternForm::NofM(n, m)) => {
                let codes = codes.into_packed()?;
                let positions = match combinations(n, m) {
                    Some(_) => {
                        let mut positions = Vec::with_capacity(codes.len().saturating_mul(n));
                        codes.iter().for_each(|code| unrank(code, n, m, &mut positions));
                        Packed::pack(width(m - 1), &positions)
                    }
                    None => codes,
                };
                Pattern::NofM { n, m, positions }
            }
            (Positions::Codes(codes), _) => Pattern::Relative(codes.into_packed()?),
        })
    }
}

fn blocks(shape: &[usize], rows: usize, columns: usize) -> Result<Grid, PackError> {
    let height = shape.first().copied().unwrap_or(1);
    let width: usize = shape.iter().skip(1).product();
    if rows == 0 || columns == 0 {
        return Err(damaged("blocks are empty"));
    }
    Ok(Grid { rows: height.div_ceil(rows), columns: width.div_ceil(columns) })
}

/// How many ways there are to keep `n` of `m`, if a stream can have as many symbols.
fn combinations(n: usize, m: usize) -> Option<usize> {
    let mut count = 1usize;
    for i in 0..n.min(m - n) {
        // Each step is a binomial coefficient itself.
        count = count.checked_mul(m - i)? / (i + 1);
        if count > MAX_ALPHABET {
            return None;
        }
    }
    Some(count)
}

/// The rank of ascending positions below `m` among all combinations, in lexicographic order.
fn rank(positions: &[u32], m: usize) -> u32 {
    let mut rank = 0;
    let mut next = 0;
    for (i, &position) in positions.iter().enumerate() {
        for skipped in next..position as usize {
            rank += combinations_of(positions.len() - i - 1, m - skipped - 1);
        }
        next = position as usize + 1;
    }
    rank
}

/// The inverse of [`rank`].
fn unrank(mut rank: u32, n: usize, m: usize, positions: &mut Vec<u32>) {
    let mut next = 0;
    for i in 0..n {
        while next + n - i < m {
            let beginning_here = combinations_of(n - i - 1, m - next - 1);
            if rank < beginning_here {
                break;
            }
            rank -= beginning_here;
            next += 1;
        }
        positions.push(next as u32);
        next += 1;
    }
}

fn combinations_of(n: usize, m: usize) -> u32 {
    if n > m { 0 } else { combinations(n, m).map_or(u32::MAX, |count| count as u32) }
}
