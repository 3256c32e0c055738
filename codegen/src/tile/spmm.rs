//! Sparse matrices times planes, driven by data: `y[n, r, p] = epilogue(bias[r] + Σₖ w[r, k]·x[n, p + offset[k]])`
//! for images n, rows r (channels of the result) and positions p, over the k whose weight is not zero.
//!
//! Lanes are positions: those of a plane in order of memory, the gaps between its rows included, so that every
//! element of every window stands a constant number of bytes from the position. What is computed for a gap is
//! thrown away: zeros are stored there.
//!
//! Weights are a stream, row by row, of what is to be done: how often to multiply, what each weight is and where
//! it finds its x. The code is the same for every row, whatever its pattern. A tile keeps the sums of one row
//! and a few vectors of positions.
//!
//! A weight that is zero is not there: it makes no NaN of an infinite x.
//!
//! Invariant: every sum takes its products in order of k, whatever the tile, or by turns with others where there
//! are few positions; so all targets give the same bits.

mod codes;
mod matrix;
mod rolled_codes;

use optc_ir::ExecError;

pub(crate) use codes::{Codes, QUAD};
pub(crate) use matrix::Matrix;

use super::epilogue::Other;
use super::function::Function;
use super::program::{Bin, Cmp, FIRST_LOCAL, LANES, Mem, P, Program, Src, V, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, Steps, segment_runs, signed};
use crate::memory::Memory;
use crate::target::Vectors;

/// Pointers of the kernel: x at the first position, the stream, y at the first position; then the mask if there
/// is one, then operands that are planes.
pub(crate) const X: P = P(0);
const STREAM: P = P(1);
pub(crate) const Y: P = P(2);
pub(crate) const MASK: P = P(3);
const FOURTH: usize = 3;

/// Most vectors of positions that a tile should have: more of x would not stay in the nearest cache.
pub(crate) const MAX_CHUNK: usize = 8;

/// Vectors of positions from which on a row has one sum for each.
const FEW: usize = 4;

/// Words of a row in the stream besides its entries and operands: how many entries, the bias, the place of y.
const ROW_WORDS: usize = 3;

/// Words of an entry: the place of x, the weight.
const ENTRY_WORDS: usize = 2;

/// Lanes that a load of their own is for on every target.
const NARROW: [usize; 4] = [1, 2, 4, 8];

const WORD: i64 = 4;

/// Bytes from one image, and one channel, to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plane {
    pub(crate) image: i64,
    pub(crate) channel: i64,
}

/// What an epilogue reads beside the sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operand {
    /// Planes that lie as those of y do.
    Plane(Plane),
    /// One number a channel.
    Channel,
}

/// What is done with sums, and where.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planes {
    pub(crate) images: usize,
    /// Channels of the result.
    pub(crate) rows: usize,
    /// Positions of a plane that are pixels.
    pub(crate) pixels: usize,
    /// Vectors of positions in a plane.
    pub(crate) vectors: usize,
    /// Lanes of the last vector that are stored: fewer only of a plane that has but one.
    pub(crate) lanes: usize,
    /// Whether zeros are stored for some positions: where the mask is 0.
    pub(crate) masked: bool,
    /// Bytes of x from one image to the next.
    pub(crate) x: i64,
    pub(crate) y: Plane,
    /// Functions in order; with the index of an operand where they take one.
    pub(crate) steps: Vec<(Function, Other)>,
    pub(crate) operands: Vec<Operand>,
    /// What results are stored as, four rows of them in one plane of quads, if x, weights and results are codes; else
    /// all are numbers.
    pub(crate) codes: Option<Codes>,
}

/// A product with everything that is baked into its code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spmm {
    pub(crate) planes: Planes,
    /// Weights that are not zero.
    pub(crate) nonzeros: usize,
    /// The least and the greatest offset of x.
    pub(crate) offsets: (i32, i32),
    /// Parts that rows are divided into, with about equally many weights each.
    pub(crate) segments: usize,
    /// Most vectors of positions in a tile.
    pub(crate) chunk: usize,
    /// Sums that each result is made of: products of few vectors would wait for each other.
    pub(crate) ways: usize,
}

impl Planes {
    /// Of a result of this shape, everything else to be filled in.
    pub(crate) fn new([images, rows, height, width]: [usize; 4]) -> Planes {
        let nowhere = Plane { image: 0, channel: 0 };
        let (steps, operands) = (Vec::new(), Vec::new());
        let pixels = height * width;
        Planes {
            images,
            rows,
            pixels,
            vectors: 0,
            lanes: LANES,
            masked: false,
            x: 0,
            y: nowhere,
            steps,
            operands,
            codes: None,
        }
    }

    /// Pointers of the kernel.
    pub(crate) fn pointers(&self) -> usize {
        self.first_operand() + self.operands.iter().filter(|operand| matches!(operand, Operand::Plane(_))).count()
    }

    pub(crate) fn first_operand(&self) -> usize {
        FOURTH + usize::from(self.masked)
    }

    /// Pointers of the operands that are planes, and their steps.
    pub(crate) fn operand_planes(&self) -> impl Iterator<Item = (usize, Plane)> {
        let planes = self.operands.iter().filter_map(|operand| match operand {
            Operand::Plane(plane) => Some(*plane),
            Operand::Channel => None,
        });
        (self.first_operand()..).zip(planes)
    }

    /// Operands before one that are planes.
    fn planes_before(&self, operand: usize) -> usize {
        self.operands[..operand].iter().filter(|operand| matches!(operand, Operand::Plane(_))).count()
    }

    /// Rows that are stored together, of which there is a whole number.
    pub(crate) fn rows_together(&self) -> usize {
        if self.codes.is_some() { QUAD } else { 1 }
    }

    /// Registers that are needed when sums are complete, besides those of the sums.
    pub(crate) fn temporaries(&self) -> usize {
        let functions = self.steps.iter().map(|(function, other)| function.temporaries() + other.registers()).max();
        functions.unwrap_or(0).max(usize::from(self.masked) * if self.codes.is_some() { 2 } else { 1 })
    }

    /// Steps from one image to the next.
    pub(crate) fn image(&self) -> Steps {
        let mut steps = STAY;
        (steps[0], steps[2]) = (self.x, self.y.image);
        self.operand_planes().for_each(|(pointer, plane)| steps[pointer] = plane.image);
        steps
    }

    /// Steps from one vector of positions to the next.
    pub(crate) fn vector(&self) -> Steps {
        let mut steps = STAY;
        for pointer in [0].into_iter().chain(2..self.pointers()) {
            steps[pointer] = signed(VECTOR_BYTES);
        }
        steps
    }

    /// Functions, mask and store of sums. `at` says where something of sum `i` is, or, where results are codes, of
    /// quad `i`, but for numbers of a channel.
    pub(crate) fn end(&self, w: &mut Writer, sums: &[V], at: impl Fn(Beside, usize) -> Mem) {
        if let Some(codes) = self.codes {
            return self.end_codes(w, sums, codes, at);
        }
        for &(function, other) in &self.steps {
            let source = |i: usize| match other {
                Other::None => Src::Const(0.0),
                Other::Number(x) => Src::Const(x),
                Other::Vector(operand) => match self.operands[operand] {
                    Operand::Channel => Src::Splat(at(Beside::Channel(operand), i)),
                    Operand::Plane(_) => Src::Mem(at(Beside::Plane(self.planes_before(operand)), i)),
                },
                Other::Codes(_) => unreachable!("these planes hold numbers"),
            };
            function.apply(w, sums, source);
        }
        if self.masked {
            let zero = w.take();
            w.set(zero, 0.0);
            for (i, &sum) in sums.iter().enumerate() {
                w.select(sum, (Cmp::Less, zero, Src::Mem(at(Beside::Mask, i))), sum, zero);
            }
            w.drop(zero);
        }
        for (i, &sum) in sums.iter().enumerate() {
            w.store_lanes(at(Beside::Result, i), sum, if i + 1 == sums.len() { self.lanes } else { LANES });
        }
    }
}

/// What belongs to a sum, in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Result,
    Mask,
    /// Of an operand that is planes, counted among those.
    Plane(usize),
    /// The number that an operand has for the channel.
    Channel(usize),
}

impl Spmm {
    /// Vectors of positions that a tile can have.
    pub(crate) fn chunk(planes: &Planes, vectors: Vectors) -> usize {
        if planes.codes.is_some() {
            return rolled_codes::chunk(planes, vectors);
        }
        let room = vectors.registers().saturating_sub(planes.temporaries().max(1));
        if planes.vectors < FEW { planes.vectors } else { room.min(vectors.accumulators()).clamp(1, MAX_CHUNK) }
    }

    /// Sums for each result, for so many vectors of positions. It does not depend on the target, as sums do.
    pub(crate) fn ways(vectors: usize) -> usize {
        match vectors {
            1 => 4,
            2..FEW => 2,
            _ => 1,
        }
    }

    /// Multiplications that count.
    pub(crate) fn macs(&self) -> usize {
        self.planes.images * self.nonzeros * self.planes.pixels
    }

    /// Words of the rows that are stored together, but for their entries.
    fn row_words(&self) -> usize {
        if self.planes.codes.is_some() {
            return self.words_of_four();
        }
        ROW_WORDS + self.planes.operands.len() + usize::from(self.ways > 1)
    }

    /// Words of the stream: where each segment begins, then the number of its rows and the rows.
    fn words(&self) -> usize {
        let rows = self.planes.rows / self.planes.rows_together();
        2 * self.segments + rows * self.row_words() + self.nonzeros * ENTRY_WORDS
    }

    /// Lays the stream out. `offsets` says for every k how many bytes from a position its x stands; `bias` is that
    /// of a row, `channel` the number of an operand and a row.
    ///
    /// # Errors
    /// If the machine has no room for it.
    pub(crate) fn pack(
        &self,
        matrix: &Matrix,
        offsets: &[i32],
        bias: impl Fn(usize) -> f32,
        channel: impl Fn(usize, usize) -> f32,
    ) -> Result<Memory, ExecError> {
        let together = self.planes.rows_together();
        let weights = |first: usize| (first..first + together).map(|r| matrix.row(r).len()).sum();
        let counts: Vec<usize> = (0..matrix.rows()).step_by(together).map(weights).collect();
        let integer = |n: i64| f32::from_bits(i32::try_from(n).expect("a stream is below 2 GiB").cast_unsigned());
        // Behind the stream is room for what a program may think it reads, wherever its segment begins.
        Memory::written(self.words() + self.segments, |stream| {
            let start = stream.len();
            stream.resize(start + self.segments, 0.0);
            for (segment, rows) in self.split(&counts).into_iter().enumerate() {
                let here = stream.len() - start;
                stream[start + segment] = integer(signed(here - segment) * WORD);
                stream.push(integer(signed(rows.len())));
                let mut rows: Vec<usize> = rows.collect();
                // A processor foresees the end of a loop that ends as the last one did.
                rows.sort_by_key(|&r| std::cmp::Reverse(counts[r]));
                for r in rows {
                    if together > 1 {
                        self.pack_four(stream, (matrix, offsets), r * together, &bias, &channel);
                        continue;
                    }
                    let whole = counts[r] / self.ways;
                    stream.push(integer(signed(whole)));
                    stream.push(bias(r));
                    for (i, &(k, weight)) in matrix.row(r).iter().enumerate() {
                        if self.ways > 1 && i == whole * self.ways {
                            stream.push(integer(signed(counts[r] - i)));
                        }
                        let offset = offsets[k as usize];
                        debug_assert!((self.offsets.0..=self.offsets.1).contains(&offset), "an offset out of span");
                        stream.push(integer(offset.into()));
                        stream.push(weight);
                    }
                    if self.ways > 1 && counts[r].is_multiple_of(self.ways) {
                        stream.push(integer(0));
                    }
                    stream.push(integer(self.planes.y.channel * signed(r)));
                    for (i, operand) in self.planes.operands.iter().enumerate() {
                        stream.push(match operand {
                            Operand::Plane(plane) => integer(plane.channel * signed(r)),
                            Operand::Channel => channel(i, r),
                        });
                    }
                }
            }
        })
    }

    /// The rows of each segment, of so many weights each.
    fn split(&self, counts: &[usize]) -> Vec<std::ops::Range<usize>> {
        // A row without weights takes time too.
        let cost = |r: usize| counts[r] + ROW_WORDS;
        let total: usize = (0..counts.len()).map(cost).sum();
        let (mut ranges, mut first, mut done) = (Vec::new(), 0, 0);
        for segment in 1..=self.segments {
            let mut last = first;
            while last < counts.len() && (segment == self.segments || done * self.segments < total * segment) {
                done += cost(last);
                last += 1;
            }
            ranges.push(first..last);
            first = last;
        }
        ranges
    }

    /// The schedule: images, segments of rows, tiles of positions.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let planes = &self.planes;
        let mut schedule = Schedule::new(planes.pointers());
        let mut first = 0;
        for (count, length) in segment_runs(planes.vectors, self.chunk) {
            let nest = Nest::Call(schedule.program(self.program(vectors, length)));
            let vector = planes.vector();
            let axes = [
                Axis { count: planes.images, steps: planes.image() },
                Axis::new(self.segments, [0, WORD]),
                Axis { count, steps: vector.map(|bytes| bytes * signed(length)) },
            ];
            schedule.parts.push(Part::new(axes, vector.map(|bytes| bytes * signed(first)), nest));
            first += count * length;
        }
        schedule
    }

    /// The rows of a segment, for so many vectors of positions.
    fn program(&self, vectors: Vectors, length: usize) -> Program {
        let planes = &self.planes;
        if planes.codes.is_some() {
            return self.program_of_codes(vectors, length);
        }
        let [x, y, first, second] = [0, 1, 2, 3].map(|i| P::of(FIRST_LOCAL + i));
        let mut w = Writer::new(planes.pointers(), vectors.registers());
        let bytes = signed((length - 1) * VECTOR_BYTES + planes.lanes * 4);
        let read = signed(length * VECTOR_BYTES);
        let x_span = (i64::from(self.offsets.0), i64::from(self.offsets.1) + read);
        let rows = |channel: i64, bytes: i64| (0, channel * signed(planes.rows - 1) + bytes);
        w.follow(STREAM, STREAM, STREAM.at(0), (0, signed(self.words()) * WORD));
        let ways: Vec<Vec<V>> = (0..self.ways).map(|_| w.take_all(length)).collect();
        let sums = &ways[0];
        // The product of the entry that stands so many words from the pointer.
        let entry = |w: &mut Writer, words: i64, sums: &[V]| {
            let weight = w.take();
            w.follow(x, X, STREAM.at(words * WORD), x_span);
            w.set(weight, Src::Splat(STREAM.at((words + 1) * WORD)));
            for (i, &sum) in sums.iter().enumerate() {
                let place = x.at(signed(i * VECTOR_BYTES));
                if NARROW.contains(&planes.lanes) {
                    // A whole vector would reach across cache lines.
                    let vector = w.take();
                    w.load_lanes(vector, place, planes.lanes);
                    w.fma(sum, weight, vector);
                    w.drop(vector);
                } else {
                    w.fma(sum, weight, Src::Mem(place));
                }
            }
            w.drop(weight);
        };
        let count = STREAM.at(0);
        w.repeat_as(count, |w| {
            let bias = STREAM.at(2 * WORD);
            w.set(sums[0], Src::Splat(bias));
            sums[1..].iter().for_each(|&sum| w.set(sum, sums[0]));
            ways[1..].iter().flatten().for_each(|&sum| w.set(sum, 0.0));
            // The pointer stands at the row's first word while entries go by, then at the word before the last
            // of them.
            w.advance(STREAM, WORD);
            w.repeat_as(STREAM.at(0), |w| {
                for (words, sums) in (2..).step_by(ENTRY_WORDS).zip(&ways) {
                    entry(w, words, sums);
                }
                w.advance(STREAM, WORD * signed(ENTRY_WORDS * self.ways));
            });
            if self.ways > 1 {
                w.repeat_as(STREAM.at(2 * WORD), |w| {
                    entry(w, 3, sums);
                    w.advance(STREAM, WORD * signed(ENTRY_WORDS));
                });
                w.advance(STREAM, WORD);
                for others in &ways[1..] {
                    sums.iter().zip(others).for_each(|(&sum, &other)| w.bin(Bin::Add, sum, sum, other));
                }
                ways[1..].iter().for_each(|others| w.drop_all(others));
            }
            let operand = |i: usize| STREAM.at(WORD * signed(ROW_WORDS + i));
            w.follow(y, Y, STREAM.at(2 * WORD), rows(planes.y.channel, bytes));
            let places = planes.operands.iter().enumerate().filter_map(|(i, operand)| match operand {
                Operand::Plane(plane) => Some((i, plane.channel)),
                Operand::Channel => None,
            });
            for ((i, channel), (pointer, to)) in places.zip((planes.first_operand()..).zip([first, second])) {
                w.follow(to, P::of(pointer), operand(i), rows(channel, read));
            }
            let vector = |i: usize| signed(i * VECTOR_BYTES);
            planes.end(w, sums, |what, i| match what {
                Beside::Result => y.at(vector(i)),
                Beside::Mask => MASK.at(vector(i)),
                Beside::Plane(plane) => [first, second][plane].at(vector(i)),
                Beside::Channel(i) => operand(i),
            });
            w.advance(STREAM, WORD * signed(ROW_WORDS + planes.operands.len() - 1));
        });
        w.finish()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_codes;
