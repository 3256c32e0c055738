//! Batch normalisation by the statistics of the batch, and its gradient: what is summed of every plane, and what
//! follows from the sums. The elementwise rest is a map.
//!
//! - [`Moments`]: of a plane the mean and `Σ(x − mean)²`.
//! - [`Statistics`]: `μ`, `σ²` and `s = 1/√(σ² + eps)` of a channel from those of its planes (Chan, Golub and
//!   LeVeque 1983, equation 2.1, of parts of equal size), the running statistics, and `y = a·x + c` with
//!   `a = scale·s`, `c = b − μ·a`.
//! - [`Products`]: of a plane `Σdy` and `Σdy·(x − μ)`.
//! - [`Slopes`]: `dbias = Σdy`, `dscale = s·Σdy·(x − μ)`, and `dx = a·(p·x + q + dy)` with `a = scale·s`,
//!   `p = −s·dscale/M`, `q = −dbias/M − μ·p`, M elements a channel.
//!
//! Lanes are channels.
//!
//! Invariant: how many partial sums there are and in which order they are added does not depend on the target
//! or the number of threads.

use super::epilogue::Strides;
use super::program::{Bin, P, Program, Src, Un, V, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, signed};
use super::sweep::Plane;
use crate::target::Vectors;

/// Partial sums: an addition waits for the one before it.
const PARTIAL: usize = 2;

/// Pixels in one turn of a loop.
const AT_ONCE: usize = 8;

/// Vectors that are kept of a plane.
const OF_PLANE: usize = 2;

/// Planes: images, blocks of channels, rows and columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planes {
    pub(crate) images: usize,
    pub(crate) blocks: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// Pointers: x, the result, two vectors a plane, image by image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Moments {
    pub(crate) planes: Planes,
    pub(crate) x: Strides,
}

/// Pointers: moments, scale, bias, the running mean and variance, the result: a, c, the running statistics, μ
/// and s, each a vector a block of channels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statistics {
    pub(crate) planes: Planes,
    pub(crate) eps: f32,
    pub(crate) momentum: f32,
}

/// Pointers: x, dy, μ, the result, two vectors a plane, image by image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Products {
    pub(crate) planes: Planes,
    pub(crate) x: Strides,
    pub(crate) dy: Strides,
}

/// Pointers: products, scale, μ, s, the result: p, q, a, dscale and dbias, each a vector a block of channels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slopes {
    pub(crate) planes: Planes,
}

impl Planes {
    /// Pixels of a channel in all images.
    fn count(&self) -> usize {
        self.images * self.pixels()
    }

    fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// Elements of all planes, in whole blocks.
    pub(crate) fn elements(&self) -> usize {
        self.blocks * self.count() * VECTOR_BYTES / 4
    }

    /// Bytes of what is kept of all planes.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.images * self.blocks * OF_PLANE * VECTOR_BYTES
    }

    /// Bytes of one vector a block of channels.
    pub(crate) fn field(&self) -> usize {
        self.blocks * VECTOR_BYTES
    }

    /// Steps of what is kept, from one image to the next and from one block to the next.
    fn kept(&self) -> [i64; 2] {
        let block = OF_PLANE * VECTOR_BYTES;
        [signed(self.blocks * block), signed(block)]
    }

    /// A schedule that runs a program for every plane. The steps of each pointer are those along images and
    /// blocks.
    fn each(&self, program: Program, steps: &[[i64; 2]]) -> Schedule {
        let mut schedule = Schedule::new(steps.len());
        let along = |axis: usize, count: usize| {
            let mut all = STAY;
            all.iter_mut().zip(steps).for_each(|(to, steps)| *to = steps[axis]);
            Axis { count, steps: all }
        };
        let program = schedule.program(program);
        schedule.parts.push(Part::new([along(0, self.images), along(1, self.blocks)], STAY, Nest::Call(program)));
        schedule
    }

    /// A schedule that runs a program for every block of channels; pointer 0 is that of what is kept.
    fn each_block(&self, program: Program) -> Schedule {
        let pointers = program.pointers;
        let mut schedule = Schedule::new(pointers);
        let mut steps = STAY;
        steps[..pointers].fill(signed(VECTOR_BYTES));
        steps[0] = self.kept()[1];
        let program = schedule.program(program);
        schedule.parts.push(Part::new([Axis { count: self.blocks, steps }], STAY, Nest::Call(program)));
        schedule
    }

    /// Runs `body` for what is kept of every image.
    fn images(&self, w: &mut Writer, body: impl FnOnce(&mut Writer)) {
        let image = self.kept()[0];
        w.repeat(self.images, |w| {
            body(w);
            w.advance(KEPT, image);
        });
        w.advance(KEPT, -image * signed(self.images));
    }

    /// Where result `i` of a block lies.
    fn result(&self, pointer: P, i: usize) -> super::program::Mem {
        pointer.at(signed(self.field() * i))
    }
}

const KEPT: P = P(0);

/// Steps of x or dy along images and blocks.
fn outer(steps: Strides) -> [i64; 2] {
    [steps.image, steps.block]
}

/// Steps of x or dy along rows and columns.
fn inner(steps: Strides) -> [i64; 2] {
    [steps.row, steps.column]
}

/// New sums, all zero.
fn zeros(w: &mut Writer) -> Vec<V> {
    let sums = w.take_all(PARTIAL);
    sums.iter().for_each(|&sum| w.set(sum, 0.0));
    sums
}

/// The sum of partial sums, in the first of their registers.
fn total(w: &mut Writer, sums: &[V]) -> V {
    for &other in &sums[1..] {
        w.bin(Bin::Add, sums[0], sums[0], other);
        w.drop(other);
    }
    sums[0]
}

impl Moments {
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        const X: P = P(0);
        const Y: P = P(1);
        let mut w = Writer::new(2, vectors.registers());
        let plane = Plane::new([self.planes.rows, self.planes.columns], &[inner(self.x)]);
        let at = |i: usize| Src::Mem(X.at(self.x.column * signed(i)));
        let sums = zeros(&mut w);
        plane.sweep(&mut w, AT_ONCE, |w, i| w.bin(Bin::Add, sums[i % PARTIAL], sums[i % PARTIAL], at(i)));
        let mean = total(&mut w, &sums);
        w.bin(Bin::Mul, mean, mean, 1.0 / self.planes.pixels() as f32);
        w.store(Y.at(0), mean);
        let squares = zeros(&mut w);
        let v = w.take();
        plane.sweep(&mut w, AT_ONCE, |w, i| {
            w.bin(Bin::Sub, v, mean, at(i));
            w.fma(squares[i % PARTIAL], v, v);
        });
        let squares = total(&mut w, &squares);
        w.store(Y.at(signed(VECTOR_BYTES)), squares);
        self.planes.each(w.finish(), &[outer(self.x), self.planes.kept()])
    }
}

impl Statistics {
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        const RUNNING: [P; 2] = [P(3), P(4)];
        const Y: P = P(5);
        let planes = &self.planes;
        let mut w = Writer::new(6, vectors.registers());
        let (mean, var) = (w.take(), w.take());
        w.set(mean, 0.0);
        w.set(var, 0.0);
        planes.images(&mut w, |w| w.bin(Bin::Add, mean, mean, Src::Mem(KEPT.at(0))));
        w.bin(Bin::Mul, mean, mean, 1.0 / planes.images as f32);
        let (v, pixels) = (w.take(), w.take());
        w.set(pixels, planes.pixels() as f32);
        planes.images(&mut w, |w| {
            w.bin(Bin::Add, var, var, Src::Mem(KEPT.at(signed(VECTOR_BYTES))));
            w.bin(Bin::Sub, v, mean, Src::Mem(KEPT.at(0)));
            w.bin(Bin::Mul, v, v, v);
            w.fma(var, v, pixels);
        });
        w.bin(Bin::Mul, var, var, 1.0 / planes.count() as f32);
        // The running statistics.
        for (i, statistic) in [mean, var].into_iter().enumerate() {
            w.set(v, Src::Mem(RUNNING[i].at(0)));
            w.bin(Bin::Mul, v, v, self.momentum);
            w.fma(v, statistic, Src::Const(1.0 - self.momentum));
            w.store(planes.result(Y, 2 + i), v);
        }
        w.store(planes.result(Y, 4), mean);
        w.bin(Bin::Add, var, var, self.eps);
        w.un(Un::Sqrt, var, var);
        w.set(v, 1.0);
        w.bin(Bin::Div, v, v, var);
        w.store(planes.result(Y, 5), v);
        w.bin(Bin::Mul, v, v, Src::Mem(P(1).at(0)));
        w.store(planes.result(Y, 0), v);
        w.bin(Bin::Mul, mean, mean, v);
        w.load(v, P(2).at(0));
        w.bin(Bin::Sub, v, v, mean);
        w.store(planes.result(Y, 1), v);
        planes.each_block(w.finish())
    }
}

impl Products {
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        const X: P = P(0);
        const DY: P = P(1);
        const MEAN: P = P(2);
        const Y: P = P(3);
        let mut w = Writer::new(4, vectors.registers());
        let plane = Plane::new([self.planes.rows, self.planes.columns], &[inner(self.x), inner(self.dy)]);
        let mean = w.take();
        w.load(mean, MEAN.at(0));
        // Two registers for every partial sum would be more than AVX2 has.
        let (sum, product) = (w.take(), zeros(&mut w));
        w.set(sum, 0.0);
        let (x, dy) = (w.take(), w.take());
        plane.sweep(&mut w, AT_ONCE, |w, i| {
            w.load(dy, DY.at(self.dy.column * signed(i)));
            w.load(x, X.at(self.x.column * signed(i)));
            w.bin(Bin::Sub, x, x, mean);
            w.bin(Bin::Add, sum, sum, dy);
            w.fma(product[i % PARTIAL], x, dy);
        });
        w.store(Y.at(0), sum);
        let product = total(&mut w, &product);
        w.store(Y.at(signed(VECTOR_BYTES)), product);
        let mean = [0, signed(VECTOR_BYTES)];
        self.planes.each(w.finish(), &[outer(self.x), outer(self.dy), mean, self.planes.kept()])
    }
}

impl Slopes {
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        const SCALE: P = P(1);
        const MEAN: P = P(2);
        const INV_STD: P = P(3);
        const Y: P = P(4);
        let planes = &self.planes;
        let mut w = Writer::new(5, vectors.registers());
        let (dbias, dscale) = (w.take(), w.take());
        w.set(dbias, 0.0);
        w.set(dscale, 0.0);
        planes.images(&mut w, |w| {
            w.bin(Bin::Add, dbias, dbias, Src::Mem(KEPT.at(0)));
            w.bin(Bin::Add, dscale, dscale, Src::Mem(KEPT.at(signed(VECTOR_BYTES))));
        });
        let (inv_std, v) = (w.take(), w.take());
        w.load(inv_std, INV_STD.at(0));
        w.bin(Bin::Mul, dscale, dscale, inv_std);
        w.store(planes.result(Y, 3), dscale);
        w.store(planes.result(Y, 4), dbias);
        w.bin(Bin::Mul, v, inv_std, Src::Mem(SCALE.at(0)));
        w.store(planes.result(Y, 2), v);
        let share = -1.0 / planes.count() as f32;
        w.bin(Bin::Mul, dscale, dscale, inv_std);
        w.bin(Bin::Mul, dscale, dscale, share);
        w.store(planes.result(Y, 0), dscale);
        w.bin(Bin::Mul, dbias, dbias, share);
        w.bin(Bin::Mul, dscale, dscale, Src::Mem(MEAN.at(0)));
        w.bin(Bin::Sub, dbias, dbias, dscale);
        w.store(planes.result(Y, 1), dbias);
        planes.each_block(w.finish())
    }
}
