//! Weights of few values, kept as codes that are looked up in registers: a code takes 4 bits or 5, and stands for as
//! many weights as 16 or 32 codes can tell apart; or it takes 8 bits, and stands for one weight.
//!
//! A code of one weight numbers a value of a codebook: the weight is looked up and multiplied by x. A code of
//! several weights is a number whose digits are those of its weights; the products of all its values with the
//! elements of x are summed ahead, in a table of registers, `Tⱼ = Σᵢ xᵢ·v(digitᵢ(j))`, so that a lookup and an
//! addition do the work of as many multiplications. Two values take five weights a code, three values three.
//!
//! Codes of 8 bits are bytes. They number values of a codebook, or are whole numbers themselves, which weights are
//! products of with the factor of their output; then they are only widened.
//!
//! Lanes are outputs, here too: each vector of words holds the next codes of 16 outputs, first codes in the lowest
//! bits; bytes lie as what reads them takes them. Before the words of a tile stand a vector of zeros, the values of
//! each digit in all entries of the table, and the factors of outputs, if they have any.

use optc_ir::ExecError;

use super::{Contract, multiply};
use crate::memory::Memory;
use crate::target::Vectors;
use crate::tile::bytes::{BYTES, HALF, place_of_byte, planes_vectors, push_bytes, write_planes};
use crate::tile::epilogue::{Epilogue, W};
use crate::tile::program::{Bin, FIRST_LOCAL, Inst, LANES, LookupBytes, Mem, P, Src, Un, V, VECTOR_BYTES, Writer};
use crate::tile::schedule::signed;

/// Values that codes of less than 8 bits tell apart.
const MAX_VALUES: usize = 2 * LANES;

/// Where the head of a tile is: what stands before its words.
pub(super) const HEAD: P = P(6);

const _: () = assert!(HEAD.0 as usize == FIRST_LOCAL, "the first pointer that a program sets itself");

/// Registers of targets that keep the values of digits there.
const MANY_REGISTERS: usize = 32;

/// How weights are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    /// Values a weight can have: from 2 to [`MAX_BYTES`](crate::tile::bytes::MAX_BYTES).
    pub(crate) values: usize,
    /// Whether codes are bytes with sign that weights are multiples of.
    pub(crate) integers: bool,
    /// Whether each output has a factor that its sums are multiplied by.
    pub(crate) scaled: bool,
}

impl Code {
    /// What kernels are called by: binary, ternary, or clustered, and the bits that tell values apart.
    pub(crate) fn word(self) -> &'static str {
        match self.values {
            _ if self.integers => "q8",
            0..=2 => "b1",
            3 => "t2",
            4 => "c2",
            5..=16 => "c4",
            17..=MAX_VALUES => "c5",
            _ => "c8",
        }
    }

    /// Whether there is code for it on a target.
    pub(crate) fn is_for(self, vectors: Vectors) -> bool {
        !self.are_looked_up() || vectors.look_up_bytes()
    }

    fn are_bytes(self) -> bool {
        self.integers || self.are_looked_up()
    }

    /// Whether codes are bytes that are looked up.
    fn are_looked_up(self) -> bool {
        !self.integers && self.values > MAX_VALUES
    }

    /// Cycles that a vector of weights takes before it is multiplied, where codes are bytes.
    fn unpacking(self) -> f64 {
        match self.values {
            _ if self.integers => 1.6,
            ..=HALF => 1.7,
            _ => 3.0,
        }
    }

    /// Weights of a code.
    fn digits(self) -> usize {
        if self.are_bytes() {
            return 1;
        }
        (1..=5).rev().find(|&digits| self.entries(digits) <= MAX_VALUES).unwrap_or(1)
    }

    /// Codes that so many digits make.
    fn entries(self, digits: usize) -> usize {
        (0..digits).fold(1, |entries, _| entries * self.values)
    }

    /// Registers of a table for so many digits.
    fn tables(self, digits: usize) -> usize {
        self.entries(digits).div_ceil(LANES)
    }

    /// Bits of a code.
    pub(crate) fn bits(self) -> usize {
        match self.tables(self.digits()) {
            _ if self.are_bytes() => 8,
            1 => 4,
            _ => 5,
        }
    }

    /// Weights of a word.
    pub(crate) fn span(self) -> usize {
        32 / self.bits() * self.digits()
    }

    /// Words that hold so many weights.
    fn words(self, weights: usize) -> usize {
        weights.div_ceil(self.span())
    }

    /// Digits whose values are the same in both registers of a table: all but the last, if a register has room for
    /// all codes of the others.
    fn shared(self) -> usize {
        let others = self.digits() - 1;
        if others > 0 && self.entries(others) == LANES { others } else { 0 }
    }

    /// Vectors that hold the values of digits.
    fn patterns(self) -> usize {
        if self.are_bytes() {
            return if self.integers { 0 } else { planes_vectors(self.values) };
        }
        self.shared() + (self.digits() - self.shared()) * self.tables(self.digits())
    }

    /// The vector that holds the values of a digit in one register of a table.
    fn pattern(self, digit: usize, table: usize) -> usize {
        match digit.checked_sub(self.shared()) {
            None => digit,
            Some(own) => self.shared() + own * self.tables(self.digits()) + table,
        }
    }

    /// Vectors of the head of a tile of so many blocks.
    fn head(self, blocks: usize) -> usize {
        1 + self.patterns() + if self.scaled { blocks } else { 0 }
    }

    /// Whether the values of digits stay in registers.
    fn is_resident(self, vectors: Vectors) -> bool {
        self.digits() == 1 || vectors.registers() >= MANY_REGISTERS
    }

    /// Registers of a tile besides its sums.
    pub(super) fn registers(self, vectors: Vectors, blocks: usize, points: usize) -> usize {
        let held = if self.is_resident(vectors) { self.patterns() } else { 0 };
        if self.are_bytes() {
            return held + if self.integers { 1 } else { BYTES + 3 };
        }
        if self.digits() == 1 {
            return held + if points == 1 { 3 } else { blocks + 1 };
        }
        let one = usize::from(self.is_resident(vectors));
        held + one + self.tables(self.digits()) + if points == 1 { 2 } else { blocks + 1 }
    }

    /// Cycles of one k, counted as those of other weights are.
    pub(super) fn tile_cycles(self, blocks: usize, points: usize) -> f64 {
        let sums = (blocks * points) as f64;
        if self.are_bytes() {
            return ((sums + self.unpacking() * blocks as f64) / 2.0).max(4.0) + 0.15;
        }
        let shifts = 0.6 * blocks as f64;
        if self.digits() == 1 {
            return ((sums + shifts + 0.25 * points as f64) / 2.0).max(4.0) + 0.15;
        }
        // A table for every point serves all blocks.
        let tables = (points * (self.patterns() + self.digits())) as f64 * 0.5;
        (((sums + shifts + tables) / 2.0).max(4.0) + 0.15) / self.digits() as f64
    }

    /// Cycles of a product of so many points and vectors of outputs, a vector product counting as one: lookups and
    /// their sums, and what is done once for all points of a tile or for all of its blocks.
    pub(crate) fn cycles(self, points: usize, vectors: usize, depth: usize) -> f64 {
        let codes = (depth.div_ceil(self.digits()) * vectors) as f64;
        let tables = if self.digits() == 1 { 0.0 } else { self.patterns() as f64 / vectors.min(8) as f64 };
        codes * (points as f64 * (1.0 + tables) + if self.are_bytes() { self.unpacking() } else { 0.6 })
    }

    /// Weights that there would be room for in the codes of so many.
    pub(crate) fn padded(self, weights: usize) -> usize {
        weights.next_multiple_of(self.digits())
    }

    /// Bytes that so many weights of a vector of outputs take.
    pub(crate) fn bytes(self, depth: usize) -> usize {
        self.words(depth) * VECTOR_BYTES
    }
}

impl Contract {
    /// Words of a block.
    fn words(&self, code: Code) -> usize {
        let turns = |loops: &[(usize, i64)]| loops.iter().map(|(count, _)| count).product::<usize>();
        self.runs.iter().map(|run| turns(&run.loops) * code.words(run.taps.len())).sum()
    }

    /// Vectors of a tile of so many blocks.
    pub(super) fn coded_tile(&self, code: Code, blocks: usize) -> usize {
        code.head(blocks) + blocks * self.words(code)
    }

    /// Lays weights out as codes, for the tiling. `digit` gives the number of the weight of group, output and k
    /// among the `values`, k in order of the runs; `factor` what the sums of group and output are multiplied by.
    ///
    /// # Errors
    /// If the machine has no room for them.
    pub(crate) fn pack_codes(
        &self,
        code: Code,
        values: &[f32],
        digit: impl Fn(usize, usize, usize) -> u8,
        factor: impl Fn(usize, usize) -> f32,
    ) -> Result<Memory, ExecError> {
        let len = self.groups * self.tiles_of_group(|blocks| self.coded_tile(code, blocks)) * LANES;
        Memory::written(len, |packed| {
            for group in 0..self.groups {
                for (first, blocks, count) in self.block_groups() {
                    for tile in 0..count {
                        let from = (first + tile * blocks) * LANES;
                        packed.extend([0.0; LANES]);
                        match code.are_bytes() {
                            true => write_planes(packed, code.patterns(), values),
                            false => write_patterns(packed, code, values),
                        }
                        if code.scaled {
                            let factor = |o: usize| if o < self.outputs { factor(group, o) } else { 0.0 };
                            packed.extend((from..from + blocks * LANES).map(factor));
                        }
                        let digit = |o: usize, k: usize| match o < self.outputs {
                            true => u32::from(digit(group, o, k)),
                            false => 0,
                        };
                        self.write_words(packed, code, from..from + blocks * LANES, digit);
                    }
                }
            }
        })
    }

    /// Appends the words of a tile of these outputs.
    fn write_words(
        &self,
        packed: &mut Vec<f32>,
        code: Code,
        outputs: std::ops::Range<usize>,
        digit: impl Fn(usize, usize) -> u32,
    ) {
        let (bits, values) = (code.bits(), u32::try_from(code.values).expect("few values"));
        let mut first = 0;
        for run in &self.runs {
            let last = first + run.len();
            while first < last {
                let turn = first + run.taps.len();
                while first < turn {
                    let end = turn.min(first + code.span());
                    if code.are_bytes() {
                        for block in outputs.clone().step_by(LANES) {
                            write_bytes(packed, code, first..end, |lane, k| digit(block + lane, k));
                        }
                        first = end;
                        continue;
                    }
                    packed.extend(outputs.clone().map(|o| {
                        let mut word = 0;
                        for (i, start) in (first..end).step_by(code.digits()).enumerate() {
                            let own = start..end.min(start + code.digits());
                            word |= own.rev().fold(0, |sum, k| sum * values + digit(o, k)) << (i * bits);
                        }
                        f32::from_bits(word)
                    }));
                    first = end;
                }
            }
        }
    }
}

/// Appends the bytes of the k of a word, for the outputs of a block.
fn write_bytes(packed: &mut Vec<f32>, code: Code, k: std::ops::Range<usize>, digit: impl Fn(usize, usize) -> u32) {
    let mut bytes = [0; VECTOR_BYTES];
    for (i, k) in k.enumerate() {
        for lane in 0..LANES {
            let place = if code.integers { i * LANES + lane } else { place_of_byte(i, lane) };
            bytes[place] = digit(lane, k).to_le_bytes()[0];
        }
    }
    push_bytes(packed, &bytes);
}

/// Appends the values of digits in all entries of a table.
fn write_patterns(packed: &mut Vec<f32>, code: Code, values: &[f32]) {
    let all = code.digits();
    for digit in 0..all {
        let step = code.entries(digit);
        let tables = if digit < code.shared() { 1 } else { code.tables(all) };
        let value = |entry: usize| values.get(entry / step % code.values).filter(|_| entry < code.entries(all));
        packed.extend((0..tables * LANES).map(|entry| value(entry).copied().unwrap_or(0.0)));
    }
}

/// The codebook of a tile that is being written.
pub(super) struct Book {
    code: Code,
    blocks: usize,
    /// Registers with the values of digits, if they stay there.
    held: Vec<V>,
    /// A register full of ones: on targets of many registers, more units multiply and add than only add.
    one: Option<V>,
}

impl Book {
    /// Begins a tile of so many blocks: weights begin with its head.
    pub(super) fn begin(w: &mut Writer, code: Code, vectors: Vectors, blocks: usize) -> Book {
        let head = signed(code.head(blocks) * VECTOR_BYTES);
        let resident = code.is_resident(vectors);
        if code.scaled || !resident {
            w.follow(HEAD, W, W.at(0), (0, head));
        }
        let held = if resident { w.take_all(code.patterns()) } else { Vec::new() };
        for (i, &v) in held.iter().enumerate() {
            w.load(v, W.at(signed((1 + i) * VECTOR_BYTES)));
        }
        let one = (code.digits() > 1 && resident).then(|| w.take());
        if let Some(one) = one {
            w.set(one, 1.0);
        }
        w.advance(W, head);
        Book { code, blocks, held, one }
    }

    /// Whether sums are multiplied at the end.
    pub(super) fn scaled(&self) -> bool {
        self.code.scaled
    }

    /// The values of a digit in one register of a table.
    fn pattern(&self, digit: usize, table: usize) -> Src {
        let i = self.code.pattern(digit, table);
        match self.held.get(i) {
            Some(&v) => Src::Reg(v),
            None => Src::Mem(HEAD.at(signed((1 + i) * VECTOR_BYTES))),
        }
    }

    /// The next k: those of a turn of a run, each with its place in x. Every sum takes its products.
    pub(super) fn taps(
        &self,
        w: &mut Writer,
        taps: &[i64],
        [blocks, points]: [usize; 2],
        sum: &impl Fn(usize, usize) -> V,
        x: &impl Fn(usize, i64) -> Mem,
    ) {
        for (word, taps) in taps.chunks(self.code.span()).enumerate() {
            if self.code.are_bytes() {
                for block in 0..blocks {
                    let place = W.at(signed((word * blocks + block) * VECTOR_BYTES));
                    self.bytes(w, taps, place, points, &|point| sum(block, point), x);
                }
                continue;
            }
            for (i, taps) in taps.chunks(self.code.digits()).enumerate() {
                let codes = |w: &mut Writer, d: V, block: usize| {
                    let word = W.at(signed((word * blocks + block) * VECTOR_BYTES));
                    w.shr(d, Src::Mem(word), i * self.code.bits());
                };
                match taps {
                    &[tap] if self.code.digits() == 1 => {
                        self.one_weight(w, [blocks, points], sum, &|point| x(point, tap), &codes);
                    }
                    taps => self.several_weights(w, taps, [blocks, points], sum, x, &codes),
                }
            }
        }
        w.advance(W, signed(self.code.words(taps.len()) * blocks * VECTOR_BYTES));
    }

    /// The k of a word whose codes are bytes, for one block.
    fn bytes(
        &self,
        w: &mut Writer,
        taps: &[i64],
        place: Mem,
        points: usize,
        sum: &impl Fn(usize) -> V,
        x: &impl Fn(usize, i64) -> Mem,
    ) {
        let multiply = |w: &mut Writer, weights: V, tap: i64| {
            (0..points).for_each(|point| w.fma(sum(point), weights, Src::Splat(x(point, tap))));
        };
        if self.code.integers {
            let weights = w.take();
            for (i, &tap) in taps.iter().enumerate() {
                w.push(Inst::LoadSigned(weights, place.base.at(i64::from(place.offset) + signed(i * LANES))));
                w.un(Un::FromInt, weights, weights);
                multiply(w, weights, tap);
            }
            w.drop(weights);
            return;
        }
        let (codes, d, spare) = (w.take(), [(); 4].map(|()| w.take()), [w.take(), w.take()]);
        w.load(codes, place);
        w.push(Inst::LookupBytes(Box::new(LookupBytes { d, codes, planes: self.held.clone(), spare })));
        d.into_iter().zip(taps).for_each(|(weights, &tap)| multiply(w, weights, tap));
        w.drop_all(&[&[codes], &d[..], &spare[..]].concat());
    }

    /// One k: its weights are looked up.
    fn one_weight(
        &self,
        w: &mut Writer,
        [blocks, points]: [usize; 2],
        sum: &impl Fn(usize, usize) -> V,
        x: &impl Fn(usize) -> Mem,
        codes: &impl Fn(&mut Writer, V, usize),
    ) {
        let look = |w: &mut Writer, d: V, block: usize| {
            let index = w.take();
            codes(w, index, block);
            w.lookup(d, index, &self.held);
            w.drop(index);
        };
        if points == 1 {
            let element = w.take();
            w.set(element, Src::Splat(x(0)));
            for block in 0..blocks {
                let v = w.take();
                look(w, v, block);
                w.fma(sum(block, 0), element, v);
                w.drop(v);
            }
            w.drop(element);
            return;
        }
        let vectors = w.take_all(blocks);
        vectors.iter().enumerate().for_each(|(block, &v)| look(w, v, block));
        multiply(w, &vectors, points, sum, x);
        w.drop_all(&vectors);
    }

    /// The k of one code: their products are looked up.
    fn several_weights(
        &self,
        w: &mut Writer,
        taps: &[i64],
        [blocks, points]: [usize; 2],
        sum: &impl Fn(usize, usize) -> V,
        x: &impl Fn(usize, i64) -> Mem,
        codes: &impl Fn(&mut Writer, V, usize),
    ) {
        let indices = if points == 1 { Vec::new() } else { w.take_all(blocks) };
        indices.iter().enumerate().for_each(|(block, &index)| codes(w, index, block));
        for point in 0..points {
            let table = w.take_all(self.code.tables(taps.len()));
            self.fill(w, &table, taps, &|tap| x(point, tap));
            for block in 0..blocks {
                let v = w.take();
                match indices.get(block) {
                    Some(&index) => w.lookup(v, index, &table),
                    None => {
                        let index = w.take();
                        codes(w, index, block);
                        w.lookup(v, index, &table);
                        w.drop(index);
                    }
                }
                let sum = sum(block, point);
                match self.one {
                    Some(one) => w.fma(sum, v, one),
                    None => w.bin(Bin::Add, sum, sum, v),
                }
                w.drop(v);
            }
            w.drop_all(&table);
        }
        w.drop_all(&indices);
    }

    /// Fills a table with the sums of products that the digits of each entry stand for.
    fn fill(&self, w: &mut Writer, table: &[V], taps: &[i64], x: &impl Fn(i64) -> Mem) {
        for (digit, &tap) in taps.iter().enumerate() {
            let element = w.take();
            w.set(element, Src::Splat(x(tap)));
            let shared = self.code.shared();
            if digit == shared && shared > 0 {
                table[1..].iter().for_each(|&v| w.set(v, table[0]));
            }
            let own = if digit < shared { 1 } else { table.len() };
            for (i, &v) in table[..own].iter().enumerate() {
                match self.pattern(digit, i) {
                    pattern if digit == 0 => w.bin(Bin::Mul, v, element, pattern),
                    pattern => w.fma(v, element, pattern),
                }
            }
            w.drop(element);
        }
    }

    /// Ends the sums of a tile, block by block those of so many points.
    pub(super) fn end(self, w: &mut Writer, epilogue: &Epilogue, sums: &[V], points: usize) {
        w.drop_all(&self.held);
        self.one.iter().for_each(|&one| w.drop(one));
        if !self.code.scaled {
            return;
        }
        let factors = 1 + self.code.patterns();
        let factor = w.take();
        for block in 0..self.blocks {
            w.load(factor, HEAD.at(signed((factors + block) * VECTOR_BYTES)));
            epilogue.scale(w, &sums[block * points..][..points], factor, signed(block * VECTOR_BYTES));
        }
        w.drop(factor);
    }
}

#[cfg(test)]
mod tests;
