//! Products of codes driven by data: four rows, which are stored as quads, one after the other for a few vectors of
//! positions.
//!
//! The stream has, for each row of four, how many entries it has, what its sum begins with, and the entries: the place
//! of x and a quad of weights. Then come the place of y, and for each operand that of its plane or four numbers.

use super::{ENTRY_WORDS, Matrix, Operand, Planes, QUAD, STREAM, Spmm, WORD, X, Y};
use crate::target::Vectors;
use crate::tile::program::{FIRST_LOCAL, P, Program, Src, V, VECTOR_BYTES, Writer};
use crate::tile::schedule::signed;
use crate::tile::spmm::{Beside, MASK, MAX_CHUNK};

/// Words before the entries of a row.
const BEFORE: usize = 2;

/// Vectors of positions that a tile can have: each has four sums.
pub(super) fn chunk(planes: &Planes, vectors: Vectors) -> usize {
    let room = vectors.registers().saturating_sub(planes.temporaries().max(1));
    planes.vectors.min(room / QUAD).clamp(1, MAX_CHUNK)
}

impl Spmm {
    /// Words of four rows but for their entries.
    pub(super) fn words_of_four(&self) -> usize {
        let words = |operand: &Operand| if matches!(operand, Operand::Channel) { QUAD } else { 1 };
        QUAD * BEFORE + 1 + self.planes.operands.iter().map(words).sum::<usize>()
    }

    /// Appends four rows to the stream.
    pub(super) fn pack_four(
        &self,
        stream: &mut Vec<f32>,
        (matrix, offsets): (&Matrix, &[i32]),
        first: usize,
        begin: &impl Fn(usize) -> f32,
        channel: &impl Fn(usize, usize) -> f32,
    ) {
        let integer = |n: i64| f32::from_bits(i32::try_from(n).expect("a stream is below 2 GiB").cast_unsigned());
        for r in first..first + QUAD {
            stream.push(integer(signed(matrix.row(r).len())));
            stream.push(begin(r));
            for &(k, quad) in matrix.row(r) {
                stream.push(integer(offsets[k as usize].into()));
                stream.push(quad);
            }
        }
        let four = signed(first / QUAD);
        stream.push(integer(self.planes.y.channel * four));
        for (i, operand) in self.planes.operands.iter().enumerate() {
            match operand {
                Operand::Plane(plane) => stream.push(integer(plane.channel * four)),
                Operand::Channel => stream.extend((first..first + QUAD).map(|r| channel(i, r))),
            }
        }
    }

    /// The rows of a segment in fours, for so many vectors of positions.
    pub(super) fn program_of_codes(&self, vectors: Vectors, length: usize) -> Program {
        let planes = &self.planes;
        let [x, y, first, second] = [0, 1, 2, 3].map(|i| P::of(FIRST_LOCAL + i));
        let mut w = Writer::new(planes.pointers(), vectors.registers());
        let bytes = signed(length * VECTOR_BYTES);
        let x_span = (i64::from(self.offsets.0), i64::from(self.offsets.1) + bytes);
        let fours = planes.rows / QUAD;
        let rows = |channel: i64| (0, channel * signed(fours - 1) + bytes);
        w.follow(STREAM, STREAM, STREAM.at(0), (0, signed(self.words()) * WORD));
        let sums: Vec<Vec<V>> = (0..QUAD).map(|_| w.take_all(length)).collect();
        w.repeat_as(STREAM.at(0), |w| {
            w.advance(STREAM, WORD);
            for sums in &sums {
                w.set(sums[0], Src::Splat(STREAM.at(WORD)));
                sums[1..].iter().for_each(|&sum| w.set(sum, sums[0]));
                // The pointer stands at the row's first word, and moves on as entries go by.
                w.repeat_as(STREAM.at(0), |w| {
                    let [place, quad] = [BEFORE, BEFORE + 1].map(|word| STREAM.at(WORD * signed(word)));
                    w.follow(x, X, place, x_span);
                    let codes = w.take();
                    for (i, &sum) in sums.iter().enumerate() {
                        w.load(codes, x.at(signed(i * VECTOR_BYTES)));
                        w.dot4(sum, codes, Src::Splat(quad));
                    }
                    w.drop(codes);
                    w.advance(STREAM, WORD * signed(ENTRY_WORDS));
                });
                w.advance(STREAM, WORD * signed(BEFORE));
            }
            w.follow(y, Y, STREAM.at(0), rows(planes.y.channel));
            // Where the words of each operand are.
            let mut words = Vec::new();
            let mut next = 1;
            let mut locals = (planes.first_operand()..).zip([first, second]);
            for operand in &planes.operands {
                let at = STREAM.at(WORD * next);
                words.push(at);
                next += match operand {
                    Operand::Channel => signed(QUAD),
                    Operand::Plane(plane) => {
                        let (pointer, to) = locals.next().expect("few operands are planes");
                        w.follow(to, P::of(pointer), at, rows(plane.channel));
                        1
                    }
                };
            }
            for i in 0..length {
                let vector = signed(i * VECTOR_BYTES);
                let four: Vec<V> = sums.iter().map(|sums| sums[i]).collect();
                planes.end(w, &four, |what, row| match what {
                    Beside::Result => y.at(vector),
                    Beside::Mask => MASK.at(vector),
                    Beside::Plane(plane) => [first, second][plane].at(vector),
                    Beside::Channel(operand) => STREAM.at(i64::from(words[operand].offset) + WORD * signed(row)),
                });
            }
            w.advance(STREAM, WORD * (next - 1));
        });
        w.finish()
    }
}
