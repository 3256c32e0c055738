//! Depthwise convolution: every channel has a filter of its own.
//!
//! `y[n, b, r, c] = epilogue(bias[b] + Σ x[n, b, r·stride + i·dilation, c·stride + j·dilation]·w[b, i, j])` for
//! images n, blocks of channels b, rows r and columns c of the result, over kernel rows i and columns j. Lanes
//! are channels. The pointer of x is where the window of the first pixel begins; x has its border in memory,
//! so that every tap of every pixel can be read.
//!
//! A tile keeps the sums of a few rows and columns in registers. Neighbouring windows overlap: a vector of x is
//! loaded once for all the sums it belongs to, where weights can be kept in registers beside the sums.
//!
//! Invariant: every sum takes its taps by kernel rows, then columns, whatever the tile; so all targets give the
//! same bits.

use std::collections::BTreeMap;

use optc_ir::ExecError;

use super::epilogue::{Epilogue, Strides, W, X, Y};
use super::program::{LANES, Program, Src, V, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, Schedule, Steps, segment_runs, signed};
use crate::memory::Memory;
use crate::target::Vectors;

/// A depthwise convolution with everything that is baked into its code.
///
/// Pointers: x, w as [`Depthwise::pack`] laid it out, y, the bias if there is one, operands of the epilogue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Depthwise {
    pub(crate) images: usize,
    /// Blocks of channels.
    pub(crate) blocks: usize,
    /// Rows of the result.
    pub(crate) rows: usize,
    /// Columns of the result.
    pub(crate) columns: usize,
    /// Rows and columns of the kernel.
    pub(crate) kernel: [usize; 2],
    /// Bytes of x from one kernel row, and from one kernel column, to the next; positive.
    pub(crate) tap: [i64; 2],
    /// Steps of x from one pixel of the result to the next.
    pub(crate) x: Strides,
    pub(crate) y: Strides,
    pub(crate) epilogue: Epilogue,
}

/// Where a tile finds its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Weights {
    /// All in registers, loaded once for the whole program.
    Resident,
    /// In registers from the first row of x that needs their kernel row to the last.
    Rows,
    /// One at a time; vectors of x are read where they are multiplied.
    Taps,
}

/// The shape of a tile.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tiling {
    weights: Weights,
    rows: usize,
    columns: usize,
}

/// Most rows of a tile: beyond, the edges of tiles are too small a share to matter.
const MAX_ROWS: usize = 4;

/// Products of vectors that a program should have at least, so that calling it costs little.
const GRAIN: usize = 2000;

/// Which outputs meet which taps, by the bytes along one axis where they do.
type Meetings = BTreeMap<i64, Vec<(usize, usize)>>;

/// The meetings along an axis of so many outputs, `step` bytes apart, with taps `tap` bytes apart. Along
/// increasing bytes every output meets its taps in order.
fn meetings((outputs, step): (usize, i64), (taps, tap): (usize, i64)) -> Meetings {
    let mut meetings = Meetings::new();
    for output in 0..outputs {
        for k in 0..taps {
            meetings.entry(signed(output) * step + signed(k) * tap).or_default().push((output, k));
        }
    }
    meetings
}

impl Depthwise {
    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Lays weights out: block by block, tap by tap, the channels of the block; missing channels are zeros.
    /// `weight` gives the weight of a channel and a tap, the latter by kernel rows.
    ///
    /// # Errors
    /// If the machine has no room for them.
    pub(crate) fn pack(&self, weight: impl Fn(usize, usize) -> f32, channels: usize) -> Result<Memory, ExecError> {
        Memory::written(self.blocks * self.taps() * LANES, |packed| {
            for block in 0..self.blocks {
                for tap in 0..self.taps() {
                    let of_lane = |c: usize| if c < channels { weight(c, tap) } else { 0.0 };
                    packed.extend((block * LANES..(block + 1) * LANES).map(of_lane));
                }
            }
        })
    }

    /// The schedule: images, blocks, tiles of rows; a program does all columns of its rows.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let tiling = self.tiling(vectors);
        let of_tile = self.columns * self.taps() * tiling.rows;
        let rows = (GRAIN.div_ceil(of_tile.max(1)) * tiling.rows).min(self.rows).max(1);
        let along = |step: &dyn Fn(Strides) -> i64, blocks| self.along(step, blocks);
        let shape = [self.images, self.blocks, self.rows];
        rows_in_turn(&self.epilogue, shape, rows, along, |rows| self.program(vectors, tiling, rows))
    }

    /// Steps of x, y and the operands by what `step` says of each, and so many blocks of weights and bias.
    fn along(&self, step: impl Fn(Strides) -> i64, blocks: usize) -> Steps {
        let (weights, bias) = (blocks * self.taps() * VECTOR_BYTES, blocks * VECTOR_BYTES);
        self.epilogue.along([self.x, self.y], step, signed(weights), signed(bias))
    }

    /// The shape that takes the fewest cycles by a simple count.
    fn tiling(&self, vectors: Vectors) -> Tiling {
        let mut best = (f64::INFINITY, Tiling { weights: Weights::Taps, rows: 1, columns: 1 });
        for weights in [Weights::Resident, Weights::Rows, Weights::Taps] {
            for rows in 1..=self.rows.min(MAX_ROWS) {
                let columns = self.columns.min(self.room(vectors, weights, rows) / rows);
                if columns == 0 {
                    continue;
                }
                let tiling = Tiling { weights, rows, columns };
                let cycles = self.cycles(vectors, tiling);
                // Ties go to the simpler shape.
                if cycles < best.0 * 0.995 {
                    best = (cycles, tiling);
                }
            }
        }
        best.1
    }

    /// Sums that fit into registers in a tile of so many rows.
    fn room(&self, vectors: Vectors, weights: Weights, rows: usize) -> usize {
        let registers = match vectors {
            // Cranelift spills what goes beyond.
            Vectors::Clif => vectors.accumulators(),
            _ => vectors.registers(),
        };
        let others = match weights {
            Weights::Resident => self.taps() + 1,
            Weights::Rows => self.kernel_rows_at_once(rows) * self.kernel[1] + 1,
            Weights::Taps => 1,
        };
        let beside_epilogue = match weights {
            Weights::Resident => self.taps() + self.epilogue.temporaries(),
            Weights::Rows | Weights::Taps => self.epilogue.temporaries(),
        };
        let room = registers.saturating_sub(others).min(vectors.registers().saturating_sub(beside_epilogue));
        room.min(vectors.accumulators())
    }

    /// Kernel rows whose weights a tile of so many rows needs at the same time.
    fn kernel_rows_at_once(&self, rows: usize) -> usize {
        let meetings = self.row_meetings(rows);
        let spans: Vec<(i64, i64)> = (0..self.kernel[0]).map(|k| span(&meetings, k)).collect();
        let at = |row: i64| spans.iter().filter(|&&(first, last)| first <= row && row <= last).count();
        meetings.keys().map(|&row| at(row)).max().unwrap_or(0)
    }

    fn row_meetings(&self, rows: usize) -> Meetings {
        meetings((rows, self.x.row), (self.kernel[0], self.tap[0]))
    }

    fn column_meetings(&self, columns: usize) -> Meetings {
        meetings((columns, self.x.column), (self.kernel[1], self.tap[1]))
    }

    /// Cycles for one block of an image, on a machine that multiplies two registers a cycle.
    fn cycles(&self, vectors: Vectors, tiling: Tiling) -> f64 {
        let mut total = 0.0;
        for (row_count, rows) in [(self.rows / tiling.rows, tiling.rows), (1, self.rows % tiling.rows)] {
            for (column_count, columns) in segment_runs(self.columns, tiling.columns) {
                let products = self.taps() * rows * columns;
                let vectors_of_x = self.row_meetings(rows).len() * self.column_meetings(columns).len();
                let loads = match tiling.weights {
                    Weights::Resident => vectors_of_x,
                    Weights::Rows => vectors_of_x + self.taps(),
                    Weights::Taps => products + self.taps(),
                };
                // Loads go beside products, but those that cross cache lines or miss them take longer.
                let busy = vectors.parts() as f64 * (products as f64 / 2.0 + loads as f64 / 4.0);
                // A sum waits four cycles for each product; the tiles before and after hide most of it.
                let waiting = 4.0 * self.taps() as f64 / 6.0;
                total += (row_count * column_count) as f64 * if rows == 0 { 0.0 } else { busy + waiting };
            }
        }
        total
    }

    /// The program of so many rows of one block.
    fn program(&self, vectors: Vectors, tiling: Tiling, rows: usize) -> Program {
        let mut w = Writer::new(self.epilogue.pointers(), vectors.registers());
        let mut resident = Vec::new();
        if tiling.weights == Weights::Resident {
            resident = w.take_all(self.taps());
            resident.iter().enumerate().for_each(|(tap, &v)| w.load(v, W.at(signed(tap * VECTOR_BYTES))));
        }
        for (count, rows) in [(rows / tiling.rows, tiling.rows), (1, rows % tiling.rows)] {
            if rows == 0 {
                continue;
            }
            w.repeat(count, |w| {
                for (count, columns) in segment_runs(self.columns, tiling.columns) {
                    w.repeat(count, |w| {
                        self.tile(w, tiling.weights, &resident, [rows, columns]);
                        self.advance(w, |s| s.column * signed(columns));
                    });
                }
                self.advance(w, |s| s.row * signed(rows) - s.column * signed(self.columns));
            });
        }
        w.finish()
    }

    /// Moves x, y and the operands by what `step` says of each.
    fn advance(&self, w: &mut Writer, step: impl Fn(Strides) -> i64) {
        w.advance_all(&self.along(step, 0));
    }

    /// One tile at where the pointers are.
    fn tile(&self, w: &mut Writer, weights: Weights, resident: &[V], [rows, columns]: [usize; 2]) {
        let sums = w.take_all(rows * columns);
        self.epilogue.begin(w, &sums, 0);
        match weights {
            Weights::Taps => self.sum_by_taps(w, &sums, columns),
            Weights::Resident | Weights::Rows => self.sum_by_rows(w, resident, &sums, [rows, columns]),
        }
        let at = |s: Strides, i: usize| s.row * signed(i / columns) + s.column * signed(i % columns);
        self.epilogue.apply(w, &sums, at, |_| LANES);
        for (i, &sum) in sums.iter().enumerate() {
            w.store(Y.at(at(self.y, i)), sum);
        }
        w.drop_all(&sums);
    }

    /// Tap by tap: every sum takes the product of one weight.
    fn sum_by_taps(&self, w: &mut Writer, sums: &[V], columns: usize) {
        let weight = w.take();
        for tap in 0..self.taps() {
            w.load(weight, W.at(signed(tap * VECTOR_BYTES)));
            let (i, j) = (signed(tap / self.kernel[1]), signed(tap % self.kernel[1]));
            for (pixel, &sum) in sums.iter().enumerate() {
                let (r, c) = (signed(pixel / columns), signed(pixel % columns));
                let at = r * self.x.row + c * self.x.column + i * self.tap[0] + j * self.tap[1];
                w.fma(sum, weight, Src::Mem(X.at(at)));
            }
        }
        w.drop(weight);
    }

    /// Vector by vector of x: each is multiplied for all sums it belongs to.
    fn sum_by_rows(&self, w: &mut Writer, resident: &[V], sums: &[V], [rows, columns]: [usize; 2]) {
        let (row_meetings, column_meetings) = (self.row_meetings(rows), self.column_meetings(columns));
        let mut weights: Vec<Vec<V>> = vec![Vec::new(); self.kernel[0]];
        for (i, kernel_row) in resident.chunks(self.kernel[1]).enumerate() {
            weights[i] = kernel_row.to_vec();
        }
        for (&row, row_pairs) in &row_meetings {
            for &(_, i) in row_pairs {
                if weights[i].is_empty() {
                    weights[i] = w.take_all(self.kernel[1]);
                    for (j, &v) in weights[i].iter().enumerate() {
                        w.load(v, W.at(signed((i * self.kernel[1] + j) * VECTOR_BYTES)));
                    }
                }
            }
            for (&column, column_pairs) in &column_meetings {
                let place = X.at(row + column);
                let pairs = row_pairs.iter().flat_map(|&(r, i)| {
                    let of_column = |&(c, j): &(usize, usize)| (sums[r * columns + c], weights[i][j]);
                    column_pairs.iter().map(of_column).collect::<Vec<_>>()
                });
                let pairs: Vec<(V, V)> = pairs.collect();
                if let [(sum, weight)] = pairs[..] {
                    w.fma(sum, weight, Src::Mem(place));
                    continue;
                }
                let x = w.take();
                w.load(x, place);
                pairs.iter().for_each(|&(sum, weight)| w.fma(sum, x, weight));
                w.drop(x);
            }
            if resident.is_empty() {
                for &(_, i) in row_pairs {
                    if span(&row_meetings, i).1 == row {
                        w.drop_all(&weights[i]);
                    }
                }
            }
        }
    }
}

/// A schedule that walks images, blocks of channels, and so many `rows` at a time of all there are. `along` gives the
/// steps of x, y and the operands by what it is given, and those of so many blocks of weights and bias.
pub(super) fn rows_in_turn(
    epilogue: &Epilogue,
    [images, blocks, all]: [usize; 3],
    rows: usize,
    along: impl Fn(&dyn Fn(Strides) -> i64, usize) -> Steps,
    program: impl Fn(usize) -> Program,
) -> Schedule {
    let mut schedule = Schedule::new(epilogue.pointers());
    let whole = all / rows;
    for (first, rows, count) in [(0, rows, whole), (whole * rows, all % rows, 1)] {
        if rows == 0 || count == 0 {
            continue;
        }
        let program = schedule.program(program(rows));
        let axes = [
            Axis { count: images, steps: along(&|s| s.image, 0) },
            Axis { count: blocks, steps: along(&|s| s.block, 1) },
            Axis { count, steps: along(&|s| s.row * signed(rows), 0) },
        ];
        let start = along(&|s| s.row * signed(first), 0);
        schedule.parts.push(Part::new(axes, start, Nest::Call(program)));
    }
    schedule
}

/// The first and the last place where a tap is met.
fn span(meetings: &Meetings, tap: usize) -> (i64, i64) {
    let mut places = meetings.iter().filter(|(_, pairs)| pairs.iter().any(|&(_, k)| k == tap)).map(|(&at, _)| at);
    let first = places.next().expect("every output meets every tap");
    (first, places.next_back().unwrap_or(first))
}

#[cfg(test)]
mod tests;
