//! Positions by context: each bit of a mask is coded with the probability that what is known of its
//! neighbourhood suggests.
//!
//! Networks that were pruned are sparse in some rows and columns more than in others, and dense spots lie
//! together. Four estimates of the probability of a set bit are kept while the mask is walked row by row:
//! from how full its column is so far; from row and column; from the bits just before it and above it in the
//! same row, which for weights of pictures are `pitch` apart; and from how many of these are set and how full
//! the columns around are. They are mixed in the logistic domain, with weights that follow the gradient of
//! the code length (Mahoney 2005, "PAQ"): `p = σ(Σ wᵢ·ln(pᵢ/(1 − pᵢ)))`, `wᵢ += η·(bit − p)·ln(pᵢ/(1 − pᵢ))`.
//! A range coder takes the bits.
//!
//! ```text
//! byte: −8·log2 of the density, varint: pitch (0: none), varint: bytes that follow, words of the range coder
//! ```
//!
//! All arithmetic is that of IEEE 754 and of the `libm` library, so every host finds the same probabilities.

use std::num::NonZeroU16;

use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::queue::{DefaultRangeDecoder, DefaultRangeEncoder};
use constriction::stream::{Decode, Encode};

/// The largest mask that is coded so: it takes about a tenth of a microsecond a bit.
pub(super) const MAX_BITS: usize = 1 << 20;

/// Bits of probabilities.
const PRECISION: usize = 16;

/// A bit that is set with probability `set`/2^16.
#[derive(Clone, Copy)]
struct Bit {
    set: NonZeroU16,
}

impl Bit {
    fn new(p: f64) -> Bit {
        let set = (p * 65536.0).clamp(1.0, 65535.0) as u16;
        Bit { set: NonZeroU16::new(set).unwrap_or(NonZeroU16::MIN) }
    }

    /// The part of the scale that a bit has: set ones come first.
    fn share(self, bit: bool) -> (u16, NonZeroU16) {
        match bit {
            true => (0, self.set),
            false => (self.set.get(), NonZeroU16::new(self.set.get().wrapping_neg()).unwrap_or(NonZeroU16::MIN)),
        }
    }
}

impl EntropyModel<PRECISION> for Bit {
    type Symbol = bool;
    type Probability = u16;
}

impl EncoderModel<PRECISION> for Bit {
    fn left_cumulative_and_probability(&self, bit: impl std::borrow::Borrow<bool>) -> Option<(u16, NonZeroU16)> {
        Some(self.share(*bit.borrow()))
    }
}

impl DecoderModel<PRECISION> for Bit {
    fn quantile_function(&self, quantile: u16) -> (bool, u16, NonZeroU16) {
        let bit = quantile < self.set.get();
        let (left, probability) = self.share(bit);
        (bit, left, probability)
    }
}

/// A probability that follows what it was asked for: the mean at first, then slower and slower.
#[derive(Clone, Copy)]
struct Estimate {
    p: f64,
    count: f64,
}

impl Estimate {
    const SLOWEST: f64 = 400.0;

    fn update(&mut self, bit: f64) {
        self.count = (self.count + 1.0).min(Estimate::SLOWEST);
        self.p = limited(self.p + (bit - self.p) / (self.count + 1.5));
    }
}

fn limited(p: f64) -> f64 {
    p.clamp(1e-4, 1.0 - 1e-4)
}

fn stretch(p: f64) -> f64 {
    libm::log(p / (1.0 - p))
}

fn squash(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x.clamp(-12.0, 12.0)))
}

/// Step of the mixing weights.
const RATE: f64 = 0.002;

/// Levels of how full a row or column is beside what was expected.
const LEVELS: usize = 12;

/// The state of a walk over a mask.
struct Model {
    columns: usize,
    pitch: usize,
    density: f64,
    /// Set bits so far in each column.
    filled: Vec<f64>,
    /// Set bits so far in this row.
    in_row: f64,
    by_place: Vec<Estimate>,
    by_bits: Vec<Estimate>,
    by_around: Vec<Estimate>,
    weights: [f64; 4],
}

impl Model {
    fn new(columns: usize, pitch: usize, density: f64) -> Model {
        let estimates = |count: usize| vec![Estimate { p: density, count: 0.0 }; count];
        Model {
            columns,
            pitch,
            density,
            filled: vec![0.0; columns],
            in_row: 0.0,
            by_place: estimates(LEVELS * LEVELS),
            by_bits: estimates(32 * LEVELS),
            by_around: estimates(6 * LEVELS),
            weights: [0.3; 4],
        }
    }

    /// How many there are beside how many would be expected, as a level.
    fn level(&self, count: f64, of: f64) -> usize {
        let ratio = (count + 0.4) / (self.density * of + 0.4);
        (2.0 * libm::log(ratio) + 6.0).clamp(0.0, (LEVELS - 1) as f64) as usize
    }

    /// Walks a mask row by row; `next` is told the probability of each bit and says what it is.
    fn walk(&mut self, rows: usize, mut next: impl FnMut(usize, Bit) -> Option<bool>) -> Option<()> {
        let mut row_bits = vec![false; self.columns];
        for row in 0..rows {
            self.in_row = 0.0;
            row_bits.fill(false);
            for column in 0..self.columns {
                let [place, bits, around] = self.contexts(row, column, &row_bits);
                let in_column = limited((self.filled[column] + 2.0 * self.density) / (row as f64 + 2.0));
                let inputs = [in_column, self.by_place[place].p, self.by_bits[bits].p, self.by_around[around].p];
                let inputs = inputs.map(stretch);
                let p = squash(inputs.iter().zip(&self.weights).map(|(x, w)| x * w).sum());
                let bit = next(row * self.columns + column, Bit::new(p))?;
                let target = f64::from(u8::from(bit));
                for (weight, x) in self.weights.iter_mut().zip(inputs) {
                    *weight += RATE * (target - p) * x;
                }
                self.by_place[place].update(target);
                self.by_bits[bits].update(target);
                self.by_around[around].update(target);
                self.filled[column] += target;
                self.in_row += target;
                row_bits[column] = bit;
            }
        }
        Some(())
    }

    /// The contexts of three estimates.
    fn contexts(&self, row: usize, column: usize, bits: &[bool]) -> [usize; 3] {
        let before = |distance: usize| usize::from(column.checked_sub(distance).is_some_and(|at| bits[at]));
        let filled = |at: Option<usize>| at.and_then(|at| self.filled.get(at)).copied().unwrap_or(0.0);
        let beside = |distance: usize| filled(column.checked_sub(distance)) + filled(Some(column + distance));
        let (rows, columns) = (row as f64, column as f64);
        let (here, in_row) = (self.filled[column], self.level(self.in_row, columns));
        let mut pattern = before(1) + 2 * before(2);
        let mut set = before(1) + before(2) + before(3);
        let mut around = here + beside(1);
        let mut width = 3.0;
        if self.pitch > 1 {
            let p = self.pitch;
            pattern += 4 * before(p) + 8 * before(p + 1) + 16 * before(p - 1);
            set += before(p) + before(p + 1) + before(p - 1) + before(2 * p);
            around += beside(p);
            width = 5.0;
        }
        [
            in_row * LEVELS + self.level(here, rows),
            pattern * LEVELS + in_row,
            set.min(5) * LEVELS + self.level(around, width * rows),
        ]
    }
}

/// The density that a file's byte stands for.
fn density(byte: u8) -> f64 {
    libm::exp(-f64::from(byte) / 8.0 * std::f64::consts::LN_2).min(0.9)
}

/// The bytes of a mask of `rows`×`columns` bits, of which those in `set` are 1, ascending.
pub(super) fn encode(set: &[usize], rows: usize, columns: usize, pitch: usize) -> Vec<u8> {
    let share = (set.len().max(1) as f64 / (rows * columns).max(1) as f64).min(1.0);
    let byte = (-8.0 * share.log2()).round().clamp(0.0, 255.0) as u8;
    let mut coder = DefaultRangeEncoder::new();
    let mut members = set.iter().peekable();
    let walked = Model::new(columns, pitch, density(byte)).walk(rows, |at, model| {
        let bit = members.next_if_eq(&&at).is_some();
        coder.encode_symbol(bit, model).expect("a bit has a probability that is not zero");
        Some(bit)
    });
    walked.expect("every bit is known");
    let words = coder.into_compressed().unwrap_or_else(|never| match never {});
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    // What is missing at the end reads as zeros.
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    let mut out = vec![byte];
    super::cursor::put_varint(pitch as u64, &mut out);
    super::cursor::put_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(&bytes);
    out
}

/// A mask that is not decoded yet.
pub(super) struct Coded<'a> {
    density: u8,
    pitch: usize,
    bytes: &'a [u8],
}

impl<'a> Coded<'a> {
    pub(super) fn parse(cursor: &mut super::cursor::Cursor<'a>) -> Result<Coded<'a>, super::PackError> {
        let density = cursor.byte()?;
        let pitch = cursor.varint()?;
        let len = cursor.varint()?;
        if pitch > MAX_BITS {
            return Err(super::damaged("the pitch of a mask is too large"));
        }
        Ok(Coded { density, pitch, bytes: cursor.take(len)? })
    }

    /// The members, ascending.
    pub(super) fn decode(&self, rows: usize, columns: usize) -> Result<Vec<usize>, super::PackError> {
        let malformed = || super::damaged("a mask is malformed");
        let mut words: Vec<u32> = self
            .bytes
            .chunks(4)
            .map(|bytes| {
                let mut word = [0; 4];
                word[..bytes.len()].copy_from_slice(bytes);
                u32::from_be_bytes(word)
            })
            .collect();
        // The coder looks two words ahead.
        words.extend([0, 0]);
        let mut coder = DefaultRangeDecoder::from_compressed(words).map_err(|_| malformed())?;
        let mut set = Vec::new();
        let walked = Model::new(columns, self.pitch, density(self.density)).walk(rows, |at, model| {
            let bit = coder.decode_symbol(model).ok()?;
            if bit {
                set.push(at);
            }
            Some(bit)
        });
        walked.map(|()| set).ok_or_else(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cursor::Cursor;
    use super::*;

    fn back(bytes: &[u8], rows: usize, columns: usize) -> Vec<usize> {
        let mut cursor = Cursor::new(bytes);
        let coded = Coded::parse(&mut cursor).unwrap();
        assert!(cursor.is_empty());
        coded.decode(rows, columns).unwrap()
    }

    #[test]
    fn masks_come_back() {
        let (rows, columns) = (13, 49);
        let sets: [Vec<usize>; 6] = [
            vec![],
            vec![0],
            vec![rows * columns - 1],
            (0..rows * columns).collect(),
            (0..rows * columns).filter(|i| i * i % 11 == 3).collect(),
            (0..rows * columns).filter(|i| i % columns > 40).collect(),
        ];
        for set in sets {
            for pitch in [0, 1, 7, 49, 1000] {
                assert_eq!(back(&encode(&set, rows, columns, pitch), rows, columns), set);
            }
        }
        assert!(back(&encode(&[], 0, 0, 0), 0, 0).is_empty());
    }

    #[test]
    fn structure_takes_fewer_bytes_than_the_entropy_of_its_density() {
        // A quarter of the columns hold all members, half of them set at random.
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 63 == 1
        };
        let set: Vec<usize> = (0..100 * 80).filter(|i| i % 4 == 0 && random()).collect();
        let p = set.len() as f64 / 8000.0;
        let entropy = -8000.0 * (p * p.log2() + (1.0 - p) * (1.0 - p).log2()) / 8.0;
        let bytes = encode(&set, 100, 80, 0).len() as f64;
        assert!(bytes < 0.75 * entropy, "{bytes} of {entropy}");
    }

    #[test]
    fn damaged_masks_are_errors_or_other_masks() {
        let bytes = encode(&[3, 40, 41, 90], 10, 10, 0);
        for len in 0..bytes.len() {
            let mut cursor = Cursor::new(&bytes[..len]);
            assert!(Coded::parse(&mut cursor).is_err());
        }
        for i in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[i] ^= 0x55;
            if let Ok(coded) = Coded::parse(&mut Cursor::new(&wrong)) {
                let _ = coded.decode(10, 10);
            }
        }
    }
}
