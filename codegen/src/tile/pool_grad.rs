//! The gradient of a maximum over windows.
//!
//! Every element of dy is added to where the maximum of its window was, the first such place by rows and
//! columns; lanes are channels. The pointer of x and dx is the first pixel of the image.
//!
//! Invariant: one program does a whole plane, since windows may overlap.

use optc_ir::op::window::WindowAxis;

use super::epilogue::Strides;
use super::pool::{Kind, Run};
use super::program::{Bin, Cmp, P, Program, Src, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, signed};
use super::sweep::Plane;
use crate::target::Vectors;

/// Pointers of the kernel, in order.
const X: P = P(0);
const DY: P = P(1);
const DX: P = P(2);

/// Elements of a window beyond which the code would be too long.
const MAX_TAPS: usize = 121;

/// A gradient with everything that is baked into its code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PoolGrad {
    pub(crate) images: usize,
    /// Blocks of channels.
    pub(crate) blocks: usize,
    /// The window along rows, and along columns.
    pub(crate) window: [WindowAxis; 2],
    pub(crate) x: Strides,
    pub(crate) dy: Strides,
    pub(crate) dx: Strides,
}

impl PoolGrad {
    /// Whether there is code for a window.
    pub(crate) fn fits(window: &[WindowAxis; 2]) -> bool {
        window[0].kernel * window[1].kernel <= MAX_TAPS
    }

    /// The schedule: images and blocks.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(3);
        let program = schedule.program(self.program(vectors));
        let axes = [
            Axis::new(self.images, [self.x.image, self.dy.image, self.dx.image]),
            Axis::new(self.blocks, [self.x.block, self.dy.block, self.dx.block]),
        ];
        schedule.parts.push(Part::new(axes, STAY, Nest::Call(program)));
        schedule
    }

    /// Whether two windows may see the same pixel.
    fn overlaps(&self) -> bool {
        self.window.iter().any(|axis| axis.out > 1 && (axis.kernel - 1) * axis.dilation + 1 > axis.stride)
    }

    /// Whether there may be pixels that no window sees.
    fn leaves(&self) -> bool {
        let covers = |axis: &WindowAxis| {
            axis.dilation == 1 && axis.stride <= axis.kernel && axis.out * axis.stride >= axis.input + axis.begin
        };
        !self.window.iter().all(covers)
    }

    fn program(&self, vectors: Vectors) -> Program {
        let mut w = Writer::new(3, vectors.registers());
        let zero = w.take();
        w.set(zero, 0.0);
        let overlaps = self.overlaps();
        if overlaps || self.leaves() {
            let steps = [[0, 0], [0, 0], [self.dx.row, self.dx.column]];
            Plane::new([self.window[0].input, self.window[1].input], &steps)
                .sweep(&mut w, 8, |w, i| w.store(DX.at(self.dx.column * signed(i)), zero));
        }
        let [rows, columns] = [0, 1].map(|axis| Kind::Max.runs(&self.window[axis]));
        for row in &rows {
            let read = signed(row.read);
            w.advance_all(&[self.x.row * read, self.dy.row * signed(row.first), self.dx.row * read]);
            w.repeat(row.count, |w| {
                for column in &columns {
                    let (read, first) = (signed(column.read), signed(column.first));
                    w.advance_all(&[self.x.column * read, self.dy.column * first, self.dx.column * read]);
                    let step = signed(column.step);
                    w.repeat(column.count, |w| {
                        self.window(w, [row, column], overlaps);
                        w.advance_all(&[self.x.column * step, self.dy.column, self.dx.column * step]);
                    });
                    let moved = read + step * signed(column.count);
                    let of_dy = first + signed(column.count);
                    w.advance_all(&[-self.x.column * moved, -self.dy.column * of_dy, -self.dx.column * moved]);
                }
                let step = signed(row.step);
                w.advance_all(&[self.x.row * step, self.dy.row, self.dx.row * step]);
            });
            let moved = read + signed(row.step * row.count);
            let of_dy = signed(row.first + row.count);
            w.advance_all(&[-self.x.row * moved, -self.dy.row * of_dy, -self.dx.row * moved]);
        }
        w.finish()
    }

    /// One window, from where the pointers are: what is left of dy goes to the first element that equals the
    /// maximum, nothing to the others.
    fn window(&self, w: &mut Writer, [rows, columns]: [&Run; 2], overlaps: bool) {
        let taps: Vec<(usize, usize)> = (0..rows.seen).flat_map(|i| (0..columns.seen).map(move |j| (i, j))).collect();
        let [row, column] = [0, 1].map(|axis| signed(self.window[axis].dilation));
        let at = |s: Strides, (i, j): (usize, usize)| s.row * row * signed(i) + s.column * column * signed(j);
        let Some((&first, others)) = taps.split_first() else { return };
        let (largest, left, given) = (w.take(), w.take(), w.take());
        w.load(largest, X.at(at(self.x, first)));
        for &tap in others {
            w.bin(Bin::Max, largest, largest, Src::Mem(X.at(at(self.x, tap))));
        }
        w.load(left, DY.at(0));
        let zero = w.take();
        w.set(zero, 0.0);
        for tap in taps {
            w.select(given, (Cmp::Equal, largest, Src::Mem(X.at(at(self.x, tap)))), left, zero);
            w.bin(Bin::Sub, left, left, given);
            let place = DX.at(at(self.dx, tap));
            if overlaps {
                w.bin(Bin::Add, given, given, Src::Mem(place));
            }
            w.store(place, given);
        }
        [zero, given, left, largest].into_iter().for_each(|v| w.drop(v));
    }
}
