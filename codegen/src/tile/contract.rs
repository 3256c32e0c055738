//! Dense contraction, the inner loop of convolutions and matrix products alike.
//!
//! `y[g, p, o] = epilogue(bias[o] + Σₖ x[p, k]·w[o, k])` for groups g, points p (pixels, or rows of a matrix)
//! and outputs o (channels, or columns). Lanes are outputs: weights are loaded as vectors, elements of x are
//! spread over all lanes. A tile holds `blocks × points` vectors of sums in registers while k runs; outputs
//! lie next to each other in y, so that sums are stored as vectors.
//!
//! Codes are multiplied four values of k at a time: a quad of bytes without sign of x by one of bytes with sign of
//! each output, into sums that are integers. What is said of one k is then said of a quad.
//!
//! Where points and k lie in memory is a matter of strides alone: a convolution of any stride and dilation
//! over a padded image needs no copy of its windows.

mod coded;
pub(crate) mod listed;
pub(crate) mod picked;
mod signs;

use optc_ir::ExecError;

use self::coded::Book;
pub(crate) use self::coded::Code;
pub(crate) use self::listed::Listed;
use self::listed::Lists;
pub(crate) use self::picked::Picked;
pub(crate) use self::signs::Signs;
use super::epilogue::{Epilogue, Strides, W, X, Y};
use super::program::{LANES, Mem, Program, Src, V, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, Schedule, Steps, segment_runs, segments, signed};
use crate::memory::Memory;
use crate::target::{Target, Vectors};

/// A run of k: nested loops around a list of offsets, all in bytes of x.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    /// Where it begins.
    pub(crate) start: i64,
    /// Loops, the outermost first: iterations and steps.
    pub(crate) loops: Vec<(usize, i64)>,
    /// What is unrolled.
    pub(crate) taps: Vec<i64>,
}

impl Run {
    /// Values of k.
    pub(crate) fn len(&self) -> usize {
        self.loops.iter().map(|(count, _)| count).product::<usize>() * self.taps.len()
    }
}

/// Where weights lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Weights {
    /// As [`pack`] laid them out for the tiling.
    Packed,
    /// Row by row of k, outputs next to each other: bytes from one k to the next, one group and one image to
    /// the next.
    Rows { k: i64, group: i64, image: i64 },
    /// As [`Contract::pack_codes`] laid them out for the tiling.
    Coded(Code),
    /// Bytes with sign, as [`Contract::pack_quads`] laid them out for the tiling; x is bytes without sign. A k is four
    /// of them, and so many of all are no padding.
    Quads { summed: usize },
    /// Signs, as [`Contract::pack_signs`] laid them out for the tiling; so is x. A k is a word of them.
    Signs(Signs),
    /// Those of some k alone, as [`Contract::pack_lists`] laid them out, which lists name.
    Listed(Listed),
    /// Those that outputs pick elements of x for, as [`Contract::pack_picked`] laid them out. Taps of runs lie next to
    /// each other, at most a window of them.
    Picked(Picked),
}

/// Values of k packed at a time. Weights are read output by output and stored k by k; so long a piece of both
/// stays in the nearest cache.
const PIECE: usize = 16;

/// A contraction with everything that is baked into its code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Contract {
    pub(crate) images: usize,
    pub(crate) groups: usize,
    /// Outputs of a group.
    pub(crate) outputs: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) runs: Vec<Run>,
    /// Steps of x; along blocks of outputs it stays.
    pub(crate) x: Strides,
    pub(crate) y: Strides,
    /// Whether y has room for whole blocks of outputs.
    pub(crate) whole_blocks: bool,
    pub(crate) weights: Weights,
    pub(crate) epilogue: Epilogue,
    pub(crate) tiling: Tiling,
}

/// The shape of a tile: blocks of outputs, rows and columns of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    pub(crate) blocks: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Tiling {
    /// The shape that takes the fewest cycles by a simple count, for a result of so many blocks, rows and
    /// columns; `temporaries` registers are left to the epilogue. Where there are `threads`, there should be
    /// work for each.
    pub(crate) fn choose(target: &Target, shape: [usize; 3], temporaries: usize) -> Tiling {
        Tiling::choose_with(&Weights::Packed, target, shape, temporaries)
    }

    /// As [`Tiling::choose`], for weights that lie so.
    pub(crate) fn choose_with(
        weights: &Weights,
        target: &Target,
        [blocks, rows, columns]: [usize; 3],
        temporaries: usize,
    ) -> Tiling {
        let (vectors, threads) = (target.vectors, target.threads);
        let registers = vectors.registers();
        let mut best = (f64::INFINITY, Tiling { blocks: 1, rows: 1, columns: 1 });
        // Windows are shared out to points alone.
        let most_blocks = if matches!(weights, Weights::Picked(_)) { 1 } else { vectors.accumulators() };
        for b in 1..=blocks.min(most_blocks) {
            for r in 1..=rows.min(4) {
                for c in 1..=columns.min(vectors.accumulators() / (b * r)) {
                    let spare = match weights {
                        Weights::Coded(code) => code.registers(vectors, b, r * c),
                        Weights::Signs(_) => Signs::registers(vectors, b),
                        Weights::Picked(_) => Picked::registers(r * c),
                        _ if rows * columns == 1 => 1,
                        // Numbers are spread as they are multiplied by the one vector of weights.
                        Weights::Packed | Weights::Rows { .. } if b == 1 => 1,
                        _ => b + 1,
                    };
                    if b * r * c + spare.max(temporaries) > registers && b * r * c > 1 {
                        continue;
                    }
                    let tiling = Tiling { blocks: b, rows: r, columns: c };
                    let cost = tiling.cycles(weights, [blocks, rows, columns], threads);
                    // Ties go to fewer blocks: their weights stay in the cache.
                    if cost < best.0 * 0.995 {
                        best = (cost, tiling);
                    }
                }
            }
        }
        best.1
    }

    /// Cycles for one k over the whole result, on a machine that multiplies and loads two vectors a cycle.
    fn cycles(&self, weights: &Weights, [blocks, rows, columns]: [usize; 3], threads: usize) -> f64 {
        let pieces = |n: usize, size: usize| [(n / size, size), (usize::from(!n.is_multiple_of(size)), n % size)];
        let mut total = 0.0;
        for (b_count, b) in pieces(blocks, self.blocks) {
            for (r_count, r) in pieces(rows, self.rows) {
                for (c_count, c) in segment_runs(columns, self.columns) {
                    let count = b_count * r_count * c_count;
                    if count > 0 {
                        total += count as f64 * weights.tile_cycles(b, r * c);
                    }
                }
            }
        }
        let mut units = blocks.div_ceil(self.blocks) * rows.div_ceil(self.rows);
        if rows == 1 {
            units *= columns.div_ceil(self.columns);
        }
        // The last round of units leaves threads without work.
        total * (units.div_ceil(threads) * threads) as f64 / units as f64
    }
}

impl Weights {
    /// Cycles of one k: multiplications, loads, and the latency of a sum.
    fn tile_cycles(&self, blocks: usize, points: usize) -> f64 {
        match self {
            Weights::Coded(code) => return code.tile_cycles(blocks, points),
            Weights::Signs(_) => return Signs::tile_cycles(blocks, points),
            Weights::Picked(picked) => return picked.tile_cycles(points),
            Weights::Packed | Weights::Rows { .. } | Weights::Quads { .. } | Weights::Listed(_) => {}
        }
        let sums = blocks * points;
        let loads = match (blocks, points) {
            (_, 1) => blocks + 1,
            (1, _) => points + 1,
            _ => blocks + points,
        };
        // A little for every tile's beginning and end.
        (sums as f64 / 2.0).max(loads as f64 / 2.0).max(4.0) + 0.15
    }
}

impl Contract {
    /// Values of k.
    pub(crate) fn depth(&self) -> usize {
        self.runs.iter().map(Run::len).sum()
    }

    /// Blocks of outputs of a group.
    pub(crate) fn blocks(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// Multiplications that count.
    pub(crate) fn macs(&self) -> usize {
        let points = self.images * self.rows * self.columns;
        match self.weights {
            Weights::Listed(Listed { nonzeros, .. }) | Weights::Picked(Picked { nonzeros, .. }) => points * nonzeros,
            _ => points * self.groups * self.outputs * self.terms(),
        }
    }

    /// Products that are summed for each output.
    pub(crate) fn terms(&self) -> usize {
        match self.weights {
            Weights::Signs(signs) => signs.weights,
            Weights::Quads { summed } => summed,
            _ => self.depth(),
        }
    }

    /// Blocks that share a tile: full tiles, then what is left.
    fn block_groups(&self) -> Vec<(usize, usize, usize)> {
        let (all, size) = (self.blocks(), self.tiling.blocks);
        let mut groups = Vec::new();
        if all / size > 0 {
            groups.push((0, size, all / size));
        }
        if !all.is_multiple_of(size) {
            groups.push((all / size * size, all % size, 1));
        }
        groups
    }

    /// Sees the points of all rows as those of one, if they lie so and it takes fewer cycles.
    pub(crate) fn flatten(&mut self, target: &Target) {
        if !self.is_flat() || self.rows == 1 {
            return;
        }
        let shape = [self.blocks(), 1, self.rows * self.columns];
        let tiling = Tiling::choose_with(&self.weights, target, shape, self.epilogue.temporaries());
        let now = self.tiling.cycles(&self.weights, [self.blocks(), self.rows, self.columns], target.threads);
        if tiling.cycles(&self.weights, shape, target.threads) < now {
            (self.rows, self.columns, self.tiling) = (1, shape[2], tiling);
        }
    }

    /// Whether the points of all rows lie as those of one.
    pub(crate) fn is_flat(&self) -> bool {
        let follows = |s: &Strides| s.row == s.column * signed(self.columns);
        [&self.x, &self.y].into_iter().chain(&self.epilogue.operands).all(follows)
    }

    /// Lays weights out for the tiling: tile by tile of blocks, k by k, the outputs of the tile; missing
    /// outputs are zeros. `weight` gives the weight of group, output and k, the latter in order of the runs.
    ///
    /// # Errors
    /// If the machine has no room for them.
    pub(crate) fn pack(&self, weight: impl Fn(usize, usize, usize) -> f32) -> Result<Memory, ExecError> {
        let depth = self.depth();
        Memory::written(self.packed_len(), |packed| {
            for group in 0..self.groups {
                for (first, blocks, count) in self.block_groups() {
                    let mut piece = vec![0.0; PIECE * blocks * LANES];
                    for tile in 0..count {
                        let from = (first + tile * blocks) * LANES;
                        let width = (self.outputs - from).min(blocks * LANES);
                        for k in (0..depth).step_by(PIECE) {
                            let length = PIECE.min(depth - k);
                            for first in (0..width).step_by(LANES) {
                                let mut square = [[0.0; PIECE]; LANES];
                                for (o, row) in square.iter_mut().enumerate().take(width - first) {
                                    for (i, to) in row.iter_mut().enumerate().take(length) {
                                        *to = weight(group, from + first + o, k + i);
                                    }
                                }
                                for (i, to) in piece.chunks_exact_mut(blocks * LANES).enumerate() {
                                    let column: [f32; LANES] = std::array::from_fn(|o| square[o][i]);
                                    to[first..first + LANES].copy_from_slice(&column);
                                }
                            }
                            packed.extend_from_slice(&piece[..length * blocks * LANES]);
                        }
                    }
                }
            }
        })
    }

    /// Lays weights that are numbers out, however they are to lie; by lists if there are any.
    ///
    /// # Errors
    /// If the machine has no room for them.
    pub(crate) fn pack_numbers(
        &self,
        lists: Option<&Lists>,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Result<Memory, ExecError> {
        match (lists, self.weights) {
            (Some(lists), _) => self.pack_lists(lists, weight),
            (None, Weights::Picked(picked)) => self.pack_picked(picked, weight),
            (None, _) => self.pack(weight),
        }
    }

    /// The same for weights that are codes: `weight` gives the quad of group, output and k.
    ///
    /// # Errors
    /// If the machine has no room for them.
    pub(crate) fn pack_quads(&self, weight: impl Fn(usize, usize, usize) -> [i8; 4]) -> Result<Memory, ExecError> {
        self.pack(|group, output, k| {
            f32::from_bits(u32::from_le_bytes(weight(group, output, k).map(i8::cast_unsigned)))
        })
    }

    /// Where [`Contract::pack`] puts the weight of group, output and k.
    pub(crate) fn position(&self, group: usize, output: usize, k: usize) -> usize {
        let (first, width) = self.tile_of(output);
        (group * self.blocks() * LANES + first) * self.depth() + k * width + output - first
    }

    /// The tile that an output of a group is in: its first output, and how many it has.
    pub(crate) fn tile_of(&self, output: usize) -> (usize, usize) {
        let size = self.tiling.blocks;
        let first = output / LANES / size * size;
        (first * LANES, size.min(self.blocks() - first) * LANES)
    }

    /// Numbers that packed weights take.
    pub(crate) fn packed_len(&self) -> usize {
        self.groups * self.blocks() * LANES * self.depth()
    }

    /// The schedule: tiles of blocks outermost, since their weights are what a cache should keep, then tiles
    /// of rows; within each, tiles of columns.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(self.epilogue.pointers());
        for (first_block, blocks, count) in self.block_groups() {
            // The last block of outputs may be a part of one.
            let partial = !self.whole_blocks && !self.outputs.is_multiple_of(LANES);
            let last = first_block + blocks * count == self.blocks();
            let cut = if partial && last { self.outputs % LANES } else { LANES };
            let whole = if cut == LANES { count } else { count - 1 };
            if whole > 0 {
                self.rows_of(&mut schedule, vectors, first_block, blocks, whole, LANES);
            }
            if cut != LANES {
                self.rows_of(&mut schedule, vectors, first_block + blocks * whole, blocks, 1, cut);
            }
        }
        schedule
    }

    /// The tiles of `count` equal groups of blocks, the last block of each `lanes` wide.
    fn rows_of(
        &self,
        schedule: &mut Schedule,
        vectors: Vectors,
        first_block: usize,
        blocks: usize,
        count: usize,
        lanes: usize,
    ) {
        let all_rows = self.rows / self.tiling.rows;
        let pieces = [(0, self.tiling.rows, all_rows), (all_rows * self.tiling.rows, self.rows % self.tiling.rows, 1)];
        for (first_row, rows, row_count) in pieces {
            if rows == 0 || row_count == 0 {
                continue;
            }
            for (first_column, length, column_count, nest) in self.columns_of(schedule, vectors, blocks, rows, lanes) {
                let bias = |blocks: usize| signed(blocks * VECTOR_BYTES);
                let start = self.along(
                    |s| s.row * signed(first_row) + s.block * signed(first_block) + s.column * signed(first_column),
                    // Tiles before this one are whole.
                    self.weight_tile(self.tiling.blocks) * signed(first_block / self.tiling.blocks),
                    bias(first_block),
                );
                let image = self.along(|s| s.image, self.weight_image(), 0);
                let group = self.along(|s| s.group, self.weight_group(), bias(self.blocks()));
                let block = self.along(|s| s.block * signed(blocks), self.weight_tile(blocks), bias(blocks));
                let images = Axis { count: self.images, steps: image };
                let outputs = [Axis { count: self.groups, steps: group }, Axis { count, steps: block }];
                let points = [
                    Axis { count: row_count, steps: self.along(|s| s.row * signed(rows), 0, 0) },
                    Axis { count: column_count, steps: self.along(|s| s.column * signed(length), 0, 0) },
                ];
                let points_first = matches!(self.weights, Weights::Listed(Listed { points_first: true, .. }));
                let [first, then] = if points_first { [points, outputs] } else { [outputs, points] };
                let axes = [images].into_iter().chain(first).chain(then);
                schedule.parts.push(Part::new(axes, start, nest));
            }
        }
    }

    /// The tiles along columns, as (first column, columns, how many such tiles, what to do): all in one nest
    /// where there are several rows to share out, else an outer axis for each run of equal tiles.
    fn columns_of(
        &self,
        schedule: &mut Schedule,
        vectors: Vectors,
        blocks: usize,
        rows: usize,
        lanes: usize,
    ) -> Vec<(usize, usize, usize, Nest)> {
        let mut call = |length| Nest::Call(schedule.program(self.tile(vectors, blocks, rows, length, lanes)));
        if self.rows > 1 {
            let calls = segments(self.columns, self.tiling.columns)
                .into_iter()
                .map(|(first, length)| call(length).at(self.along(|s| s.column * signed(first), 0, 0)));
            return vec![(0, self.columns, 1, Nest::Seq(calls.collect()))];
        }
        let mut first = 0;
        let mut tiles = Vec::new();
        for (count, length) in segment_runs(self.columns, self.tiling.columns) {
            tiles.push((first, length, count, call(length)));
            first += count * length;
        }
        tiles
    }

    /// Steps of x, y and the operands by what `step` says of each, and of weights and bias.
    fn along(&self, step: impl Fn(Strides) -> i64, weights: i64, bias: i64) -> Steps {
        self.epilogue.along([self.x, self.y], step, weights, bias)
    }

    fn weight_image(&self) -> i64 {
        match self.weights {
            Weights::Rows { image, .. } => image,
            _ => 0,
        }
    }

    fn weight_group(&self) -> i64 {
        match self.weights {
            Weights::Packed | Weights::Quads { .. } => signed(self.blocks() * VECTOR_BYTES * self.depth()),
            Weights::Rows { group, .. } => group,
            Weights::Coded(code) => signed(self.tiles_of_group(|blocks| self.coded_tile(code, blocks)) * VECTOR_BYTES),
            Weights::Signs(_) => signed(self.tiles_of_group(|blocks| self.signs_tile(blocks)) * VECTOR_BYTES),
            Weights::Listed(_) => signed(self.tiles_of_group(|_| 1)) * Listed::TILE,
            Weights::Picked(picked) => signed(self.tiles_of_group(|_| self.picked_tile(picked)) * VECTOR_BYTES),
        }
    }

    /// What all tiles of a group take, each of which takes what `of` says for its blocks.
    fn tiles_of_group(&self, of: impl Fn(usize) -> usize) -> usize {
        self.block_groups().iter().map(|&(_, blocks, count)| count * of(blocks)).sum()
    }

    /// From the weights of a tile of so many blocks to those of the next.
    fn weight_tile(&self, blocks: usize) -> i64 {
        match self.weights {
            Weights::Packed | Weights::Quads { .. } => signed(blocks * VECTOR_BYTES * self.depth()),
            Weights::Rows { .. } => signed(blocks * VECTOR_BYTES),
            Weights::Coded(code) => signed(self.coded_tile(code, blocks) * VECTOR_BYTES),
            Weights::Signs(_) => signed(self.signs_tile(blocks) * VECTOR_BYTES),
            Weights::Listed(_) => Listed::TILE,
            Weights::Picked(picked) => signed(self.picked_tile(picked) * VECTOR_BYTES),
        }
    }

    /// The program of one tile.
    fn tile(&self, vectors: Vectors, blocks: usize, rows: usize, columns: usize, lanes: usize) -> Program {
        let mut w = Writer::new(self.epilogue.pointers(), vectors.registers());
        let points: Vec<(i64, i64)> =
            (0..rows).flat_map(|r| (0..columns).map(move |c| (signed(r), signed(c)))).collect();
        let at = |s: Strides, block: usize, point: usize| {
            let (r, c) = points[point];
            s.block * signed(block) + s.row * r + s.column * c
        };
        let sums: Vec<V> = w.take_all(blocks * points.len());
        let sum = |block: usize, point: usize| sums[block * points.len() + point];
        let book = match self.weights {
            Weights::Coded(code) => Some(Book::begin(&mut w, code, vectors, blocks)),
            _ => None,
        };
        if let Weights::Signs(_) = self.weights {
            Signs::begin(&mut w, blocks);
        }
        for block in 0..blocks {
            let sums = &sums[block * points.len()..][..points.len()];
            match (&book, self.weights) {
                (Some(book), _) if book.scaled() => sums.iter().for_each(|&sum| w.set(sum, 0.0)),
                (_, Weights::Signs(_)) => sums.iter().for_each(|&sum| w.set(sum, 0.0)),
                _ => self.epilogue.begin(&mut w, sums, signed(block * VECTOR_BYTES)),
            }
        }
        let x = |point: usize, tap: i64| X.at(at(self.x, 0, point) + tap);
        if let Weights::Listed(listed) = self.weights {
            listed.products(&mut w, [blocks, points.len()], &sums, &|point| at(self.x, 0, point));
        } else if let Weights::Signs(signs) = self.weights {
            let there_and_back = |w: &mut Writer, body: &mut dyn FnMut(&mut Writer, &[i64])| {
                let at_x = self.all_runs(w, &mut |w, taps| body(w, taps));
                w.advance(X, -at_x);
                w.advance(W, -signed(self.depth() * blocks * VECTOR_BYTES));
            };
            signs.count(&mut w, vectors, [blocks, points.len()], &sum, &x, &there_and_back);
            signs.end(&mut w, &self.epilogue, &sums, points.len(), &x);
        } else {
            self.all_runs(&mut w, &mut |w, taps| {
                if let Some(book) = &book {
                    return book.taps(w, taps, [blocks, points.len()], &sum, &x);
                }
                if let Weights::Picked(picked) = self.weights {
                    return picked.window(w, taps, &sums, &x);
                }
                let k = match self.weights {
                    Weights::Rows { k, .. } => k,
                    _ => signed(blocks * VECTOR_BYTES),
                };
                for (i, &tap) in taps.iter().enumerate() {
                    self.step(w, (blocks, lanes), points.len(), &sum, &|point| x(point, tap), signed(i) * k);
                }
                w.advance(W, signed(taps.len()) * k);
            });
        }
        if let Some(book) = book {
            book.end(&mut w, &self.epilogue, &sums, points.len());
        }
        let width = |i: usize| if i / points.len() == blocks - 1 { lanes } else { LANES };
        let place = |s: Strides, i: usize| at(s, i / points.len(), i % points.len());
        self.epilogue.apply(&mut w, &sums, place, width);
        self.epilogue.store(&mut w, &sums, |i| Y.at(place(self.y, i)), width);
        w.finish()
    }

    /// Walks all k, as [`Contract::run`] does those of a run; returns how far x has moved.
    fn all_runs(&self, w: &mut Writer, body: &mut impl FnMut(&mut Writer, &[i64])) -> i64 {
        let mut at_x = 0;
        for run in &self.runs {
            w.advance(X, run.start - at_x);
            at_x = run.start;
            self.run(w, &run.loops, &run.taps, body);
        }
        at_x
    }

    /// Walks one run of k: `body` is given its taps in every turn of its loops.
    fn run(&self, w: &mut Writer, loops: &[(usize, i64)], taps: &[i64], body: &mut impl FnMut(&mut Writer, &[i64])) {
        let Some((&(count, step), inner)) = loops.split_first() else { return body(w, taps) };
        w.repeat(count, |w| {
            self.run(w, inner, taps, body);
            w.advance(X, step);
        });
        w.advance(X, -step * signed(count));
    }

    /// One k: every sum takes its product.
    fn step(
        &self,
        w: &mut Writer,
        (blocks, lanes): (usize, usize),
        points: usize,
        sum: &impl Fn(usize, usize) -> V,
        x: &impl Fn(usize) -> Mem,
        weights: i64,
    ) {
        let place = |block: usize| W.at(weights + signed(block * VECTOR_BYTES));
        // Memory behind the last column is not the matrix's.
        let width = |block: usize| {
            let last = block == blocks - 1 && matches!(self.weights, Weights::Rows { .. });
            if last { lanes } else { LANES }
        };
        if points == 1 {
            let element = w.take();
            w.set(element, Src::Splat(x(0)));
            for block in 0..blocks {
                if width(block) == LANES {
                    match self.weights {
                        Weights::Quads { .. } => w.dot4(sum(block, 0), element, Src::Mem(place(block))),
                        _ => w.fma(sum(block, 0), element, Src::Mem(place(block))),
                    }
                } else {
                    let v = w.take();
                    w.load_lanes(v, place(block), width(block));
                    w.fma(sum(block, 0), element, v);
                    w.drop(v);
                }
            }
            w.drop(element);
            return;
        }
        let vectors = w.take_all(blocks);
        for (block, &v) in vectors.iter().enumerate() {
            w.load_lanes(v, place(block), width(block));
        }
        match self.weights {
            Weights::Quads { .. } => multiply_quads(w, &vectors, points, sum, x),
            _ => multiply(w, &vectors, points, sum, x),
        }
        w.drop_all(&vectors);
    }
}

/// Every sum takes its product of weights in registers, one a block, and an element of x.
fn multiply(w: &mut Writer, weights: &[V], points: usize, sum: &impl Fn(usize, usize) -> V, x: &impl Fn(usize) -> Mem) {
    for point in 0..points {
        if let &[v] = weights {
            w.fma(sum(0, point), v, Src::Splat(x(point)));
            continue;
        }
        let element = w.take();
        w.set(element, Src::Splat(x(point)));
        for (block, &v) in weights.iter().enumerate() {
            w.fma(sum(block, point), v, element);
        }
        w.drop(element);
    }
}

/// As [`multiply`], of quads.
fn multiply_quads(
    w: &mut Writer,
    weights: &[V],
    points: usize,
    sum: &impl Fn(usize, usize) -> V,
    x: &impl Fn(usize) -> Mem,
) {
    let quad = w.take();
    for point in 0..points {
        w.set(quad, Src::Splat(x(point)));
        for (block, &v) in weights.iter().enumerate() {
            w.dot4(sum(block, point), quad, v);
        }
    }
    w.drop(quad);
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_codes;
