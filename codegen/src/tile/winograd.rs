//! Winograd's minimal filtering for 3×3 convolutions of stride 1: F(4×4, 3×3) of Lavin and Gray, "Fast
//! algorithms for convolutional neural networks" (2015), section 4.3.
//!
//! `y = Aᵀ·[Σ_c (G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A` for tiles of 4×4 outputs, each of which sees a patch d of 6×6 inputs. The
//! filters are transformed when constants are packed; the patches by [`Patches`]; the products of the 36
//! places of a patch are 36 independent contractions over channels; [`Tiles`] transforms their sums back.
//! A tile takes 36 multiplications a channel where the plain sum takes 144.
//!
//! Transformed values lie as `[36, blocks, tiles, 16]`: for each place an image of one row, a pixel a tile.
//! Lanes are channels.

use super::epilogue::{Epilogue, Strides, X, Y};
use super::program::{Bin, LANES, Mem, P, Program, Src, V, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, signed};
use crate::target::Vectors;

/// Outputs of a tile along an axis.
pub(crate) const TILE: usize = 4;

/// Inputs a tile sees along an axis.
pub(crate) const PATCH: usize = TILE + 2;

/// Places of a patch.
pub(crate) const PLACES: usize = PATCH * PATCH;

/// Vector registers that the transformations need.
pub(crate) const REGISTERS: usize = 32;

/// The filter transformation G.
pub(super) const G: [[f32; 3]; PATCH] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// `G·g·Gᵀ` of filters of 3×3 weights, one a lane: lanes are innermost, so that a processor takes several at once.
pub(crate) fn filters(g: &[[f32; LANES]; 9]) -> [[f32; LANES]; PLACES] {
    let dot = |row: &[f32; 3], vectors: [&[f64; LANES]; 3]| {
        let mut sums = [0.0; LANES];
        for (&factor, vector) in row.iter().zip(vectors) {
            sums.iter_mut().zip(vector).for_each(|(sum, x)| *sum += f64::from(factor) * x);
        }
        sums
    };
    let g = g.map(|vector| vector.map(f64::from));
    let mut u = [[0.0; LANES]; PLACES];
    for (row, u) in G.iter().zip(u.chunks_exact_mut(PATCH)) {
        let along: [[f64; LANES]; 3] = std::array::from_fn(|j| dot(row, [&g[j], &g[3 + j], &g[6 + j]]));
        for (column, u) in G.iter().zip(u) {
            *u = dot(column, along.each_ref()).map(|x| x as f32);
        }
    }
    u
}

/// Where transformed values lie: steps from one place, block and tile to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Transformed {
    pub(crate) blocks: usize,
    /// Tiles of all images.
    pub(crate) tiles: usize,
}

impl Transformed {
    pub(crate) fn block(&self) -> i64 {
        signed(self.tiles * VECTOR_BYTES)
    }

    /// An odd number of cache lines, so that the places of a tile fall into different sets of the cache.
    pub(crate) fn place(&self) -> i64 {
        signed(((self.blocks * self.tiles) | 1) * VECTOR_BYTES)
    }

    pub(crate) fn bytes(&self) -> usize {
        PLACES * ((self.blocks * self.tiles) | 1) * VECTOR_BYTES
    }
}

/// Tiles of an image: rows and columns of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// The transformation of patches, `Bᵀ·d·B`. Pointers: x, where the first patch begins, and the transformed
/// values. The image has a border in memory that the last patches reach into.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Patches {
    pub(crate) images: usize,
    pub(crate) grid: Grid,
    pub(crate) x: Strides,
    pub(crate) to: Transformed,
}

/// The transformation of sums back, `Aᵀ·m·A`, and the epilogue. Pointers: the sums, the sums again (unread), y,
/// then those of the epilogue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tiles {
    pub(crate) images: usize,
    /// Rows and columns of the result.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) grid: Grid,
    pub(crate) from: Transformed,
    pub(crate) y: Strides,
    pub(crate) epilogue: Epilogue,
}

impl Patches {
    /// The schedule: images, blocks, rows of tiles.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(2);
        let program = schedule.program(self.program(vectors));
        let tiles = |n: usize| signed(n * VECTOR_BYTES);
        let axes = [
            Axis::new(self.images, [self.x.image, tiles(self.grid.rows * self.grid.columns)]),
            Axis::new(self.to.blocks, [self.x.block, self.to.block()]),
            Axis::new(self.grid.rows, [self.x.row * signed(TILE), tiles(self.grid.columns)]),
        ];
        schedule.parts.push(Part::new(axes, STAY, Nest::Call(program)));
        schedule
    }

    /// One row of tiles. The columns of a patch are transformed into the place of the result, then its rows.
    fn program(&self, vectors: Vectors) -> Program {
        const V_: P = P(1);
        let mut w = Writer::new(2, vectors.registers());
        let place = |i: usize, j: usize| V_.at(self.to.place() * signed(i * PATCH + j));
        w.repeat(self.grid.columns, |w| {
            for j in 0..PATCH {
                let x = load(w, |i| X.at(self.x.row * signed(i) + self.x.column * signed(j)));
                let y = patch(w, &x);
                store(w, y, |i| place(i, j));
            }
            for i in 0..PATCH {
                let x = load(w, |j| place(i, j));
                let y = patch(w, &x);
                store(w, y, |j| place(i, j));
            }
            w.advance(X, self.x.column * signed(TILE));
            w.advance(V_, signed(VECTOR_BYTES));
        });
        w.finish()
    }
}

impl Tiles {
    /// The schedule: images, blocks, rows of tiles; the last row may be a part of one.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(self.epilogue.pointers());
        let whole = self.rows / TILE;
        for (first, height, count) in [(0, TILE, whole), (whole, self.rows % TILE, 1)] {
            if height == 0 || count == 0 {
                continue;
            }
            let program = schedule.program(self.program(vectors, height));
            let tiles = |n: usize| signed(n * VECTOR_BYTES);
            let row = |count: usize| {
                let mut steps =
                    self.epilogue.along([Strides::default(), self.y], |s| s.row * signed(TILE * count), 0, 0);
                steps[0] = tiles(self.grid.columns * count);
                steps
            };
            let mut image = self.epilogue.along([Strides::default(), self.y], |s| s.image, 0, 0);
            image[0] = tiles(self.grid.rows * self.grid.columns);
            let mut block = self.epilogue.along([Strides::default(), self.y], |s| s.block, 0, signed(VECTOR_BYTES));
            block[0] = self.from.block();
            let axes = [
                Axis { count: self.images, steps: image },
                Axis { count: self.from.blocks, steps: block },
                Axis { count, steps: row(1) },
            ];
            schedule.parts.push(Part::new(axes, row(first), Nest::Call(program)));
        }
        schedule
    }

    /// One row of tiles, of `height` outputs; the last tile may be narrower.
    fn program(&self, vectors: Vectors, height: usize) -> Program {
        let mut w = Writer::new(self.epilogue.pointers(), vectors.registers());
        w.repeat(self.columns / TILE, |w| {
            self.tile(w, [height, TILE]);
            let steps = self.epilogue.along([Strides::default(), self.y], |s| s.column * signed(TILE), 0, 0);
            for (i, step) in steps[..self.epilogue.pointers()].iter().enumerate() {
                let step = if i == 0 { signed(VECTOR_BYTES) } else { *step };
                w.advance(P::of(i), step);
            }
        });
        match self.columns % TILE {
            0 => {}
            width => self.tile(&mut w, [height, width]),
        }
        w.finish()
    }

    fn tile(&self, w: &mut Writer, [height, width]: [usize; 2]) {
        // Columns first: what is left of them, TILE × PATCH vectors, waits in registers.
        let columns: Vec<Vec<V>> = (0..PATCH)
            .map(|j| {
                let m = load(w, |i| X.at(self.from.place() * signed(i * PATCH + j)));
                let y = tile(w, m);
                for &unused in &y[height..] {
                    w.drop(unused);
                }
                y[..height].to_vec()
            })
            .collect();
        let mut bias = None;
        if self.epilogue.bias {
            let v = w.take();
            self.epilogue.begin(w, &[v], 0);
            bias = Some(v);
        }
        for i in 0..height {
            let m: Vec<V> = columns.iter().map(|column| column[i]).collect();
            let y = tile(w, m);
            let y = &y;
            for &unused in &y[width..] {
                w.drop(unused);
            }
            let y = &y[..width];
            if let Some(bias) = bias {
                y.iter().for_each(|&y| w.bin(Bin::Add, y, y, bias));
            }
            let at = |s: Strides, j: usize| s.row * signed(i) + s.column * signed(j);
            self.epilogue.apply(w, y, at, |_| LANES);
            for (j, &v) in y.iter().enumerate() {
                w.store(Y.at(at(self.y, j)), v);
                w.drop(v);
            }
        }
        if let Some(bias) = bias {
            w.drop(bias);
        }
    }
}

fn load(w: &mut Writer, from: impl Fn(usize) -> Mem) -> Vec<V> {
    let vs = w.take_all(PATCH);
    for (i, &v) in vs.iter().enumerate() {
        w.load(v, from(i));
    }
    vs
}

/// Stores vectors and gives their registers back.
fn store(w: &mut Writer, vs: [V; PATCH], to: impl Fn(usize) -> Mem) {
    for (i, v) in vs.into_iter().enumerate() {
        w.store(to(i), v);
        w.drop(v);
    }
}

/// `d = a + factor·b` into a new register.
fn sum(w: &mut Writer, a: V, factor: f32, b: V) -> V {
    let d = w.take();
    match factor {
        1.0 => w.bin(Bin::Add, d, a, b),
        -1.0 => w.bin(Bin::Sub, d, a, b),
        _ => {
            w.set(d, a);
            w.fma(d, b, Src::Const(factor));
        }
    }
    d
}

/// One column or row of `Bᵀ·d`; takes the registers of d. Rows of Bᵀ that differ in signs alone share sums.
fn patch(w: &mut Writer, x: &[V]) -> [V; PATCH] {
    let &[x0, x1, x2, x3, x4, x5] = x else { unreachable!("a patch has six rows") };
    // 4·x₀ − 5·x₂ + x₄, and the same one further.
    w.bin(Bin::Mul, x0, x0, 4.0);
    w.bin(Bin::Add, x0, x0, x4);
    w.fma(x0, x2, -5.0);
    w.fma(x5, x3, -5.0);
    w.fma(x5, x1, 4.0);
    let even = sum(w, x4, -4.0, x2);
    let odd = sum(w, x3, -4.0, x1);
    let (y1, y2) = (sum(w, even, 1.0, odd), sum(w, even, -1.0, odd));
    w.bin(Bin::Sub, x4, x4, x2);
    w.bin(Bin::Sub, x3, x3, x1);
    let (y3, y4) = (sum(w, x4, 2.0, x3), sum(w, x4, -2.0, x3));
    w.drop_all(&[even, odd, x1, x2, x3, x4]);
    [x0, y1, y2, y3, y4, x5]
}

/// One column or row of `Aᵀ·m`; takes the registers of m.
fn tile(w: &mut Writer, m: Vec<V>) -> [V; TILE] {
    let [m0, m1, m2, m3, m4, m5] = m[..] else { unreachable!("a patch has six rows") };
    let (s1, d1) = (sum(w, m1, 1.0, m2), sum(w, m1, -1.0, m2));
    w.bin(Bin::Add, m0, m0, s1);
    w.bin(Bin::Add, m5, m5, d1);
    w.bin(Bin::Add, m1, m3, m4);
    w.bin(Bin::Sub, m2, m3, m4);
    let (s2, d2) = (m1, m2);
    w.bin(Bin::Add, m0, m0, s2);
    w.fma(d1, d2, 2.0);
    w.fma(s1, s2, 4.0);
    w.fma(m5, d2, 8.0);
    w.drop_all(&[m1, m2, m3, m4]);
    [m0, d1, s1, m5]
}

#[cfg(test)]
mod tests;
