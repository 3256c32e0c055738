//! Elementwise functions over images whose elements are codes: bytes that stand for numbers on a grid.
//!
//! `y = steps(x)` pixel by pixel, where x, y and the operand of a step may be codes or numbers; lanes are channels.
//! What becomes codes is on the grid already: zero is 0, and the step between codes 1.

use super::epilogue::{Other, Strides, store_codes};
use super::function::{Function, zero_for_nan};
use super::program::{P, Program, Src, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, Steps, offsets, segment_runs, signed};
use crate::target::Vectors;

/// Pointers of the kernel.
const X: P = P(0);
const Y: P = P(1);
const OPERAND: P = P(2);

/// Vectors done at once.
const AT_ONCE: usize = 6;

/// What an element is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
    F32,
    /// Codes of this zero point.
    Codes(u8),
}

/// A function over images with everything that is baked into its code.
///
/// Pointers: x, y, the operand if there is one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recode {
    pub(crate) images: usize,
    /// Blocks of channels.
    pub(crate) blocks: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// What x and y hold. Of x the zero point does not matter: it is in the steps.
    pub(crate) formats: [Format; 2],
    pub(crate) x: Strides,
    pub(crate) y: Strides,
    /// Functions in order; operand 0 is the only one.
    pub(crate) steps: Vec<(Function, Other)>,
    pub(crate) operand: Option<Strides>,
}

impl Recode {
    /// The schedule: images, blocks, rows; a program does a row, or all blocks of an image of one pixel.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(2 + usize::from(self.operand.is_some()));
        let program = schedule.program(self.program(vectors));
        let mut axes = vec![Axis { count: self.images, steps: self.along(|s| s.image) }];
        if !self.single_pixels() {
            axes.push(Axis { count: self.blocks, steps: self.along(|s| s.block) });
            axes.push(Axis { count: self.rows, steps: self.along(|s| s.row) });
        }
        schedule.parts.push(Part::new(axes, STAY, Nest::Call(program)));
        schedule
    }

    fn single_pixels(&self) -> bool {
        self.rows * self.columns == 1
    }

    /// Steps of all pointers.
    fn along(&self, step: impl Fn(Strides) -> i64) -> Steps {
        offsets([step(self.x), step(self.y), self.operand.map_or(0, step)])
    }

    /// Bytes from one vector of a program to the next.
    fn step(&self, strides: Strides) -> i64 {
        if self.single_pixels() { strides.block } else { strides.column }
    }

    /// The program of a row.
    fn program(&self, vectors: Vectors) -> Program {
        let mut w = Writer::new(2 + usize::from(self.operand.is_some()), vectors.registers());
        let temporaries = self.steps.iter().map(|(function, _)| function.temporaries() + 1).max().unwrap_or(1);
        let at_once = vectors.registers().saturating_sub(temporaries).clamp(1, AT_ONCE);
        let steps = self.along(|s| self.step(s));
        let count = if self.single_pixels() { self.blocks } else { self.columns };
        for (count, length) in segment_runs(count, at_once) {
            w.repeat(count, |w| {
                self.tile(w, length);
                w.advance_all(&steps.map(|step| step * signed(length)));
            });
        }
        w.finish()
    }

    fn tile(&self, w: &mut Writer, length: usize) {
        let values = w.take_all(length);
        let at = |p: P, s: Strides, i: usize| p.at(self.step(s) * signed(i));
        for (i, &v) in values.iter().enumerate() {
            match self.formats[0] {
                Format::F32 => w.load(v, at(X, self.x, i)),
                Format::Codes(_) => w.load_codes(v, at(X, self.x, i)),
            }
        }
        for &(function, other) in &self.steps {
            let place = |i: usize| at(OPERAND, self.operand.expect("a step with an operand has one"), i);
            for (i, &v) in values.iter().enumerate() {
                let loaded = match other {
                    Other::None => Src::Const(0.0),
                    Other::Number(x) => Src::Const(x),
                    Other::Vector(_) => Src::Mem(place(i)),
                    Other::Codes(_) => {
                        let v = w.take();
                        w.load_codes(v, place(i));
                        Src::Reg(v)
                    }
                };
                function.apply(w, &[v], |_| loaded);
                if let Src::Reg(v) = loaded {
                    w.drop(v);
                }
            }
        }
        match self.formats {
            [_, Format::F32] => values.iter().enumerate().for_each(|(i, &v)| w.store(at(Y, self.y, i), v)),
            [from, Format::Codes(zero)] => {
                if from == Format::F32 {
                    zero_for_nan(w, &values);
                }
                store_codes(w, zero, &values, |i| at(Y, self.y, i));
            }
        }
        w.drop_all(&values);
    }
}

#[cfg(test)]
mod tests;
