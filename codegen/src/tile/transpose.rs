//! Transpositions, also between plain images and images of blocks of channels.
//!
//! Elements of a row of the source lie next to each other; in the result those of a column do. Both are walked
//! in tiles of [`LANES`] rows and columns. A tile is transposed in registers by four rounds of interleaving;
//! targets of few registers take four rows at a time and need two.
//!
//! An image of blocks is `[images, blocks, height, width, LANES]`: its rows of channels are the rows of a
//! matrix for each block. Channels that are missing in the last block are written as zeros.

use super::epilogue::Strides;
use super::program::{Inst, LANES, MAX_DEPTH, P, V, VECTOR_BYTES, Writer};
use super::schedule::{Axis, STAY, Schedule, Steps, offsets, signed};
use super::walk::{self, GRAIN, Limits, scaled, sum};
use crate::target::Vectors;

/// Pointers of the kernel, in order.
const FROM: P = P(0);
const TO: P = P(1);

/// Rows that targets of few registers take at a time.
const FOUR: usize = 4;

/// A transposition with everything that is baked into its code; strides in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transpose {
    start: Steps,
    /// Matrices.
    outer: Vec<Axis>,
    rows: usize,
    columns: usize,
    /// In the source, from one row to the next.
    from_row: i64,
    /// In the source, from [`LANES`] columns to the next.
    from_block: i64,
    /// In the result, from one column to the next.
    to_column: i64,
    /// In the result, from [`LANES`] rows to the next.
    to_block: i64,
    /// Whether the result has whole blocks of rows, those that are missing being zeros.
    whole_blocks: bool,
}

/// Where an image of blocks lies; its pixels are next to each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Blocked {
    /// The first pixel.
    pub(crate) start: i64,
    /// From one image to the next.
    pub(crate) image: i64,
    /// From one block of channels to the next.
    pub(crate) block: i64,
    /// From one row to the next.
    pub(crate) row: i64,
}

impl Transpose {
    /// Elements moved.
    pub(crate) fn elements(&self) -> usize {
        self.outer.iter().map(|axis| axis.count).product::<usize>() * self.rows * self.columns
    }

    /// Of matrices: the source moves by any stride along `row` and by 4 along `column`, the result the other
    /// way round.
    pub(crate) fn of_axes(outer: Vec<Axis>, row: Axis, column: Axis) -> Transpose {
        assert_eq!((row.steps[1], column.steps[0]), (4, 4), "elements lie next to each other");
        Transpose {
            start: STAY,
            outer,
            rows: row.count,
            columns: column.count,
            from_row: row.steps[0],
            from_block: signed(VECTOR_BYTES),
            to_column: column.steps[1],
            to_block: signed(VECTOR_BYTES),
            whole_blocks: false,
        }
    }

    /// From plain images, whole in memory, to blocks of channels.
    pub(crate) fn to_blocked([images, channels, height, width]: [usize; 4], to: Blocked) -> Transpose {
        let plane = height * width;
        let (row, columns) = pixels([height, width], to);
        let row = row.map(|count| Axis::new(count, [signed(width * 4), to.row]));
        let image = Axis::new(images, [signed(channels * plane * 4), to.image]);
        Transpose {
            start: offsets([0, to.start]),
            outer: [image].into_iter().chain(row).collect(),
            rows: channels,
            columns,
            from_row: signed(plane * 4),
            from_block: signed(VECTOR_BYTES),
            to_column: signed(VECTOR_BYTES),
            to_block: to.block,
            whole_blocks: true,
        }
    }

    /// From blocks of channels to plain images, whole in memory.
    pub(crate) fn from_blocked([images, channels, height, width]: [usize; 4], from: Blocked) -> Transpose {
        let plane = height * width;
        let (row, rows) = pixels([height, width], from);
        let row = row.map(|count| Axis::new(count, [from.row, signed(width * 4)]));
        let image = Axis::new(images, [from.image, signed(channels * plane * 4)]);
        Transpose {
            start: offsets([from.start, 0]),
            outer: [image].into_iter().chain(row).collect(),
            rows,
            columns: channels,
            from_row: signed(VECTOR_BYTES),
            from_block: from.block,
            to_column: signed(plane * 4),
            to_block: signed(VECTOR_BYTES),
            whole_blocks: false,
        }
    }

    /// From blocks of channels to planes, pixels in both any distance apart but next to each other in planes.
    /// `to` says how many bytes it is from one image, channel and row to the next; the kernel is given the first
    /// pixels.
    pub(crate) fn to_planes(
        [images, channels, height, width]: [usize; 4],
        from: Strides,
        [image, channel, row]: [i64; 3],
    ) -> Transpose {
        let together = from.row == from.column * signed(width) && row == signed(width * 4);
        let (rows, pixels) = if together { (1, height * width) } else { (height, width) };
        let outer = [Axis::new(images, [from.image, image]), Axis::new(rows, [from.row, row])];
        Transpose {
            start: STAY,
            outer: outer.to_vec(),
            rows: pixels,
            columns: channels,
            from_row: from.column,
            from_block: from.block,
            to_column: channel,
            to_block: signed(VECTOR_BYTES),
            whole_blocks: false,
        }
    }

    /// From planes to blocks of channels; the counterpart of [`Transpose::to_planes`].
    pub(crate) fn from_planes(
        [images, channels, height, width]: [usize; 4],
        [image, channel, row]: [i64; 3],
        to: Strides,
    ) -> Transpose {
        let together = to.row == to.column * signed(width) && row == signed(width * 4);
        let (rows, pixels) = if together { (1, height * width) } else { (height, width) };
        let outer = [Axis::new(images, [image, to.image]), Axis::new(rows, [row, to.row])];
        Transpose {
            start: STAY,
            outer: outer.to_vec(),
            rows: channels,
            columns: pixels,
            from_row: channel,
            from_block: signed(VECTOR_BYTES),
            to_column: to.column,
            to_block: to.block,
            whole_blocks: true,
        }
    }

    /// From blocks of channels to planes in which images stand together: those of a pixel are a matrix of images
    /// and channels. `to` says how many bytes it is from what stands together to the next, and from one channel,
    /// row and column to the next.
    pub(crate) fn to_images(
        [images, channels, height, width]: [usize; 4],
        from: Strides,
        [group, channel, row, column]: [i64; 4],
    ) -> Transpose {
        let outer = [Axis::new(height, [from.row, row]), Axis::new(width, [from.column, column])];
        Transpose {
            start: STAY,
            outer: outer.to_vec(),
            rows: images,
            columns: channels,
            from_row: from.image,
            from_block: from.block,
            to_column: channel,
            to_block: group,
            whole_blocks: false,
        }
    }

    /// From planes in which images stand together to blocks of channels; the counterpart of
    /// [`Transpose::to_images`].
    pub(crate) fn from_images(
        [images, channels, height, width]: [usize; 4],
        [group, channel, row, column]: [i64; 4],
        to: Strides,
    ) -> Transpose {
        let outer = [Axis::new(height, [row, to.row]), Axis::new(width, [column, to.column])];
        Transpose {
            start: STAY,
            outer: outer.to_vec(),
            rows: channels,
            columns: images,
            from_row: channel,
            from_block: group,
            to_column: to.image,
            to_block: to.block,
            whole_blocks: true,
        }
    }

    /// The schedule: whole tiles, then those cut by an edge.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(2);
        let down = offsets([self.from_row * signed(LANES), self.to_block]);
        let right = offsets([self.from_block, self.to_column * signed(LANES)]);
        for (first_row, row_tiles, rows) in tiles(self.rows) {
            for (first_column, column_tiles, columns) in tiles(self.columns) {
                let start = sum(scaled(down, first_row), scaled(right, first_column));
                let inner = [Axis { count: row_tiles, steps: down }, Axis { count: column_tiles, steps: right }];
                let axes: Vec<Axis> = self.outer.iter().copied().chain(inner).filter(|axis| axis.count != 1).collect();
                let limits = Limits { grain: GRAIN / (LANES * LANES), axes: MAX_DEPTH };
                walk::divide(&mut schedule, sum(self.start, start), &axes, limits, |axes| {
                    let mut w = Writer::new(2, vectors.registers());
                    walk::repeat(&mut w, axes, &mut |w| {
                        self.tile(w, rows, columns);
                        STAY
                    });
                    w.finish()
                });
            }
        }
        schedule
    }

    fn tile(&self, w: &mut Writer, rows: usize, columns: usize) {
        let written = if self.whole_blocks { LANES } else { rows };
        if columns == 1 && self.from_row == 4 || rows == 1 && self.to_column == 4 && written == 1 {
            // A row that stays a row.
            let v = w.take();
            w.load_lanes(v, FROM.at(0), rows.max(columns));
            w.store_lanes(TO.at(0), v, written.max(columns));
            w.drop(v);
        } else if w.registers() > LANES {
            let v = self.load(w, 0..LANES, rows, columns);
            let v = transpose(w, &v);
            for (column, &v) in v.iter().enumerate().take(columns) {
                w.store_lanes(TO.at(self.to_column * signed(column)), v, written);
            }
            w.drop_all(&v);
        } else {
            for first in (0..written).step_by(FOUR) {
                self.four_rows(w, first, rows, columns);
            }
        }
    }

    /// Loads rows; those that are missing become zeros.
    fn load(&self, w: &mut Writer, wanted: std::ops::Range<usize>, rows: usize, columns: usize) -> Vec<V> {
        wanted
            .map(|row| {
                let v = w.take();
                if row < rows {
                    w.load_lanes(v, FROM.at(self.from_row * signed(row)), columns);
                } else {
                    w.set(v, 0.0);
                }
                v
            })
            .collect()
    }

    /// Four rows of a tile, or as many as there are.
    fn four_rows(&self, w: &mut Writer, first: usize, rows: usize, columns: usize) {
        let to = |row: usize, column: usize| TO.at(self.to_column * signed(column) + signed(row * 4));
        if first + FOUR > rows && !self.whole_blocks {
            let v = w.take();
            for row in first..rows {
                for column in 0..columns {
                    w.load_lanes(v, FROM.at(self.from_row * signed(row) + signed(column * 4)), 1);
                    w.store_lanes(to(row, column), v, 1);
                }
            }
            w.drop(v);
            return;
        }
        let v = self.load(w, first..first + FOUR, rows, columns);
        let v = transpose_fours(w, &v);
        for column in 0..columns {
            let four = u8::try_from(column / FOUR).expect("few lanes");
            w.push(Inst::StoreFour(to(first, column), v[column % FOUR], four));
        }
        w.drop_all(&v);
    }
}

/// Rows walked one by one, if they don't lie next to each other, and pixels in line.
fn pixels([height, width]: [usize; 2], image: Blocked) -> (Option<usize>, usize) {
    if height == 1 || image.row == signed(width * VECTOR_BYTES) {
        (None, height * width)
    } else {
        (Some(height), width)
    }
}

/// Tiles along an axis: the first of them, their number and their size.
fn tiles(n: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let whole = n / LANES;
    [(0, whole, LANES), (whole, 1, n % LANES)].into_iter().filter(|&(_, count, size)| count * size > 0)
}

/// Transposes 16 registers.
fn transpose(w: &mut Writer, v: &[V]) -> Vec<V> {
    // Four q of register j of a group of rows holds these rows of column 4·q + j.
    let groups = v.chunks(FOUR).map(|rows| transpose_fours(w, rows)).collect::<Vec<Vec<V>>>();
    let mut columns = vec![V(0); LANES];
    for j in 0..FOUR {
        // Fours 0 and 2 of two groups, then 1 and 3; the same once more puts all groups in line.
        let [a, b, c, d] = [0, 1, 2, 3].map(|group| groups[group][j]);
        let (even_first, odd_first) = interleave(w, a, b, 4);
        let (even_last, odd_last) = interleave(w, c, d, 4);
        (columns[j], columns[8 + j]) = interleave(w, even_first, even_last, 4);
        (columns[4 + j], columns[12 + j]) = interleave(w, odd_first, odd_last, 4);
    }
    columns
}

/// Transposes every four lanes of four registers.
pub(super) fn transpose_fours(w: &mut Writer, v: &[V]) -> Vec<V> {
    let (ab_low, ab_high) = interleave(w, v[0], v[1], 1);
    let (cd_low, cd_high) = interleave(w, v[2], v[3], 1);
    let (first, second) = interleave(w, ab_low, cd_low, 2);
    let (third, fourth) = interleave(w, ab_high, cd_high, 2);
    vec![first, second, third, fourth]
}

/// Both halves of what two registers hold, interleaved; takes the registers for it.
pub(super) fn interleave(w: &mut Writer, a: V, b: V, width: u8) -> (V, V) {
    let low = w.take();
    w.push(Inst::Interleave { d: low, a, b, width, high: false });
    w.push(Inst::Interleave { d: b, a, b, width, high: true });
    w.drop(a);
    (low, b)
}

#[cfg(test)]
mod tests;
