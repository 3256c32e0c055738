//! Sparse matrices times planes, the pattern of the weights in the code: what [`super::spmm`] computes, for
//! targets of many registers.
//!
//! A tile keeps the sums of a group of rows for one vector of positions. Its program is a straight line through
//! all k that a row of the group has a weight for: it loads the vector of x once and multiplies it by the weights,
//! which lie in the order of their use. So a load of x serves several products, which a stream of places can't
//! say: registers have their numbers in the code.
//!
//! x may be more than the caches keep: then positions or images are taken together in panels that they do keep, and
//! all rows are computed of one panel before the next.
//!
//! Code that has left the caches since the last run is brought near before it runs, all lines at once: a processor
//! fetches ahead too little of a straight line.
//!
//! Long lines are cut into blocks of k that stay in the nearest cache of instructions while the positions go by;
//! sums wait in y.
//!
//! x and weights may be codes, in quads: then a product is one of four channels, summed in integers, and four rows
//! become quads as they are stored. Sums do not wait, since a byte of y is no place for one.
//!
//! Invariant: every sum takes its products in order of k, so that bits are those of [`super::spmm`].

use std::sync::Arc;

use optc_ir::ExecError;

use super::program::{Inst, Mem, P, Program, Src, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, segments, signed};
use super::spmm::{Beside, MASK, Matrix, Operand, Planes, X, Y};
use crate::memory::Memory;
use crate::target::Vectors;

/// The weights, as [`Unrolled::pack`] lays them out.
const W: P = P(1);

/// Vectors of x that are held at once, so that loads run ahead of products.
const AHEAD: usize = 4;

/// Products of a block of k: their code is some 20 KB.
const BLOCK: usize = 2400;

/// Displacements of a weight that an instruction says in one byte.
const NEAR: std::ops::RangeInclusive<i64> = -512..=508;

/// Where a matrix has weights.
#[derive(Debug, PartialEq)]
pub(crate) struct Pattern {
    /// For each k, how many bytes from a position its x stands.
    offsets: Vec<i32>,
    /// Where the columns of each row begin, and where the last ones end.
    starts: Vec<usize>,
    /// The k of weights, row by row.
    columns: Vec<u32>,
}

impl Pattern {
    /// Of a matrix whose rows find the x of each k so many bytes from a position.
    pub(crate) fn new(matrix: &Matrix, offsets: Vec<i32>) -> Pattern {
        let (mut starts, mut columns) = (vec![0], Vec::new());
        for row in (0..matrix.rows()).map(|r| matrix.row(r)) {
            columns.extend(row.iter().map(|(k, _)| k));
            starts.push(columns.len());
        }
        Pattern { offsets, starts, columns }
    }

    /// Weights.
    pub(crate) fn nonzeros(&self) -> usize {
        self.columns.len()
    }

    /// Bytes from the first to the last x of a position.
    pub(crate) fn span(&self) -> Option<usize> {
        let (first, last) = (self.offsets.iter().min()?, self.offsets.iter().max()?);
        usize::try_from(last - first).ok()
    }

    /// The products of rows, in order of k, then of rows.
    fn products(&self, rows: std::ops::Range<usize>) -> Vec<Product> {
        // Where those of each k go.
        let mut places = vec![0; self.offsets.len() + 1];
        let entries = self.starts[rows.start]..self.starts[rows.end];
        self.columns[entries.clone()].iter().for_each(|&k| places[k as usize + 1] += 1);
        for k in 1..places.len() {
            places[k] += places[k - 1];
        }
        let mut products = vec![Product { k: 0, row: 0, entry: 0 }; entries.len()];
        for (row, r) in (0..).zip(rows) {
            let first = self.starts[r];
            for (entry, &k) in (0..).zip(&self.columns[first..self.starts[r + 1]]) {
                let place = &mut places[k as usize];
                products[*place] = Product { k, row, entry };
                *place += 1;
            }
        }
        products
    }
}

/// One product.
#[derive(Clone, Copy)]
struct Product {
    k: u32,
    /// The row, counted from the first of its group.
    row: u8,
    /// Which of the row's entries it is.
    entry: u32,
}

/// A product with everything that is baked into its code.
///
/// Pointers: x at the first position, the weights, y at the first position; then the mask if there is one, then
/// operands that are planes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unrolled {
    pub(crate) planes: Planes,
    pub(crate) pattern: Arc<Pattern>,
    /// Rows of a group, at most.
    pub(crate) group: usize,
    /// Equal parts of the positions, to share out.
    pub(crate) chunks: usize,
    /// Images of a panel, which divide all: all rows are computed of each panel. Else every group of rows is of all
    /// images.
    pub(crate) panel: Option<usize>,
    /// Whether code and numbers are brought near before each use: between two runs others take their place.
    pub(crate) cold: bool,
}

/// What a program does: rows, and some of their products.
struct Block {
    products: Vec<Product>,
    first: bool,
    last: bool,
    /// Where its numbers begin among those of all programs.
    numbers: usize,
}

impl Unrolled {
    /// Rows that a group can have.
    pub(crate) fn group(planes: &Planes, vectors: Vectors) -> usize {
        let registers = vectors.registers();
        let rows = registers.saturating_sub(planes.temporaries().max(AHEAD.min(registers / 4)));
        let together = planes.rows_together();
        (rows / together * together).max(together)
    }

    /// Multiplications that count.
    pub(crate) fn macs(&self) -> usize {
        self.planes.images * self.pattern.nonzeros() * self.planes.pixels
    }

    /// The groups of rows, and their blocks of k.
    fn groups(&self) -> Vec<(usize, usize, Vec<Block>)> {
        let mut numbers = 0;
        let of_group = |(first_row, rows): (usize, usize)| {
            let products = self.pattern.products(first_row..first_row + rows);
            let mut blocks = Vec::new();
            let mut rest = products.as_slice();
            loop {
                let mut cut = rest.len().min(self.block());
                while 0 < cut && cut < rest.len() && rest[cut].k == rest[cut - 1].k {
                    cut += 1;
                }
                let (products, behind) = rest.split_at(cut);
                let (first, last) = (blocks.is_empty(), behind.is_empty());
                blocks.push(Block { products: products.to_vec(), first, last, numbers });
                let beside = usize::from(first) + if last { self.channels().count() } else { 0 };
                numbers += products.len() + rows * beside;
                rest = behind;
                if last {
                    break;
                }
            }
            (first_row, rows, blocks)
        };
        self.row_groups().into_iter().map(of_group).collect()
    }

    /// The first row and the number of rows of each group.
    fn row_groups(&self) -> Vec<(usize, usize)> {
        let together = self.planes.rows_together();
        let groups = segments(self.planes.rows / together, self.group / together).into_iter();
        groups.map(|(first, rows)| (first * together, rows * together)).collect()
    }

    /// Products of a block of k. Codes have no room for sums.
    fn block(&self) -> usize {
        if self.planes.codes.is_some() { usize::MAX } else { BLOCK }
    }

    /// Whether nothing is stored before all operands have been read: no sum waits in the result.
    pub(crate) fn reads_first(&self) -> bool {
        let entries = |(first, rows): (usize, usize)| self.pattern.starts[first + rows] - self.pattern.starts[first];
        self.row_groups().into_iter().all(|group| entries(group) <= self.block())
    }

    /// Operands of one number a channel.
    fn channels(&self) -> impl Iterator<Item = usize> {
        let operands = self.planes.operands.iter().enumerate();
        operands.filter(|(_, operand)| matches!(operand, Operand::Channel)).map(|(i, _)| i)
    }

    /// Lays numbers out in the order of their use: for each group of rows and block of k the biases, the weights,
    /// and the numbers of operands. Arguments are those of [`super::spmm::Spmm::pack`].
    ///
    /// # Errors
    /// If the machine has no room for it.
    pub(crate) fn pack(
        &self,
        matrix: &Matrix,
        bias: impl Fn(usize) -> f32,
        channel: impl Fn(usize, usize) -> f32,
    ) -> Result<Memory, ExecError> {
        let len = self.pattern.nonzeros() + self.planes.rows * (1 + self.channels().count());
        Memory::written(len, |numbers| {
            for (first_row, rows, blocks) in self.groups() {
                let rows = first_row..first_row + rows;
                for block in blocks {
                    if block.first {
                        numbers.extend(rows.clone().map(&bias));
                    }
                    let weight = |p: &Product| matrix.row(first_row + usize::from(p.row))[p.entry as usize].1;
                    numbers.extend(block.products.iter().map(weight));
                    if block.last {
                        self.channels().for_each(|i| numbers.extend(rows.clone().map(|r| channel(i, r))));
                    }
                }
            }
        })
    }

    /// The schedule: groups of rows, images, parts of the positions; blocks of k one after the other in each. Of
    /// panels: groups of images, parts of the positions; groups of rows, and their blocks of k, in each.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let planes = &self.planes;
        let mut schedule = Schedule::new(planes.pointers());
        let length = planes.vectors / self.chunks;
        let chunk = planes.vector().map(|bytes| bytes * signed(length));
        let together = self.panel.unwrap_or(1);
        let mut nests = Vec::new();
        for (first_row, rows, blocks) in self.groups() {
            let call = |block: &Block| {
                // Patterns differ, so that looking for an equal program is idle.
                schedule.programs.push(self.program(vectors, first_row, rows, block));
                let mut at = STAY;
                at[1] = signed(block.numbers * 4);
                let images = Axis { count: together, steps: planes.image() };
                Nest::Call(schedule.programs.len() - 1).at(at).repeated([images])
            };
            nests.push(Nest::Seq(blocks.iter().map(call).collect()));
        }
        if self.panel.is_some() {
            nests = vec![Nest::Seq(nests)];
        }
        let images =
            Axis { count: planes.images / together, steps: planes.image().map(|bytes| bytes * signed(together)) };
        let axes = [images, Axis { count: self.chunks, steps: chunk }];
        schedule.parts = nests.into_iter().map(|nest| Part::new(axes, STAY, nest)).collect();
        schedule
    }

    /// A block of k of a group of rows, for all positions of a part.
    fn program(&self, vectors: Vectors, first_row: usize, rows: usize, block: &Block) -> Program {
        let planes = &self.planes;
        let mut w = Writer::new(planes.pointers(), vectors.registers());
        let sums = w.take_all(rows);
        if self.cold {
            w.push(Inst::Warm(W, (block.products.len() + rows * usize::from(block.first)) * 4));
        }
        let row = |step: i64, i: usize| step * signed(first_row / planes.rows_together() + i);
        let steps: Vec<i64> = planes.operand_planes().map(|(_, plane)| plane.channel).collect();
        w.repeat(planes.vectors / self.chunks, |w| {
            let mut numbers = Numbers::default();
            for (i, &sum) in sums.iter().enumerate() {
                if block.first {
                    let bias = numbers.next(w);
                    w.set(sum, Src::Splat(bias));
                } else {
                    w.load(sum, Y.at(row(planes.y.channel, i)));
                }
            }
            let ahead = w.take_all(w.registers().min(AHEAD));
            let (mut turn, mut loaded) = (0, None);
            for &Product { k, row: r, .. } in &block.products {
                if loaded != Some(k) {
                    turn = (turn + 1) % ahead.len();
                    w.load(ahead[turn], X.at(self.pattern.offsets[k as usize].into()));
                    loaded = Some(k);
                }
                let weight = numbers.next(w);
                let sum = sums[usize::from(r)];
                match planes.codes {
                    Some(_) => w.dot4(sum, ahead[turn], Src::Splat(weight)),
                    None => w.fma(sum, ahead[turn], Src::Splat(weight)),
                }
            }
            w.drop_all(&ahead);
            if block.last {
                let operands = numbers.here();
                let channels: Vec<usize> = self.channels().collect();
                planes.end(w, &sums, |what, i| match what {
                    Beside::Result => Y.at(row(planes.y.channel, i)),
                    Beside::Mask => MASK.at(0),
                    Beside::Plane(plane) => P::of(planes.first_operand() + plane).at(row(steps[plane], i)),
                    Beside::Channel(operand) => {
                        let before = channels.iter().filter(|&&other| other < operand).count();
                        W.at(operands + signed((before * rows + i) * 4))
                    }
                });
            } else {
                sums.iter().enumerate().for_each(|(i, &sum)| w.store(Y.at(row(planes.y.channel, i)), sum));
            }
            let mut step = planes.vector();
            step[1] = -numbers.base;
            w.advance_all(&step);
        });
        w.finish()
    }
}

/// Numbers one after the other, the pointer near each.
#[derive(Default)]
struct Numbers {
    /// How far the pointer has moved.
    base: i64,
    /// Numbers that have gone by.
    count: usize,
}

impl Numbers {
    fn next(&mut self, w: &mut Writer) -> Mem {
        if !NEAR.contains(&self.here()) {
            let bytes = self.here() - NEAR.start();
            w.advance(W, bytes);
            self.base += bytes;
        }
        self.count += 1;
        W.at(self.here() - 4)
    }

    /// Where the next number is, from the pointer.
    fn here(&self) -> i64 {
        signed(self.count * 4) - self.base
    }
}
