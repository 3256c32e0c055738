//! Elementwise functions over strided operands.
//!
//! `y[i] = fₙ(…f₂(f₁(x₀[i], o₁[i]), o₂[i])…)` for every index i of a box: the running value begins as the
//! first operand (as 0 where there is none), and each step applies a function of it and, for some, of a number or another operand. Lanes
//! are elements of the innermost axis, which lie next to each other in the result; an operand either does so
//! too or has one number for the whole axis. Without steps this is a copy.
//!
//! Invariant: only elements of the box are read and written, so the last vector of a row may be a part of one.
//! An operand may be the result's buffer if both are walked alike.

use super::function::Function;
use super::program::{LANES, MAX_DEPTH, Mem, P, Program, Src, V, Writer};
use super::schedule::{Axis, STAY, Schedule, Steps, signed};
use super::walk::{self, GRAIN, Limits};
use crate::target::Vectors;

/// What stands beside the running value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MapOther {
    /// Nothing: a function of one operand.
    None,
    /// A number.
    Number(f32),
    /// Operand `i`.
    Operand(usize),
}

/// An elementwise function with everything that is baked into its code. Pointers of the kernel: the operands
/// in order, then the result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Map {
    operands: usize,
    /// Steps of all pointers; the last axis is that of lanes.
    axes: Vec<Axis>,
    pub(crate) steps: Vec<(Function, MapOther)>,
}

/// The innermost axes of one program.
#[derive(Clone, Copy)]
struct Inner {
    row: Axis,
    lane: Axis,
}

/// A vector of a tile: its row, its place in the row, and how many lanes of it there are.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    vector: usize,
    lanes: usize,
}

/// What is kept of an operand while the rows of a tile go by: the vectors of a row, or one for all of them.
type Held = Option<Vec<V>>;

impl Map {
    /// A map over operands and a result of these strides, in bytes, 0 where an operand is broadcast. Along the
    /// last axis the result's is 4 and those of operands 4 or 0.
    pub(crate) fn new(shape: &[usize], result: &[i64], operands: &[Vec<i64>], steps: Vec<(Function, MapOther)>) -> Map {
        let strides = operands.iter().map(Vec::as_slice).chain([result]);
        let mut axes = walk::merged(shape, strides);
        let y = operands.len();
        let has_lanes = |axis: &Axis| axis.steps[y] == 4 && axis.steps[..y].iter().all(|step| [0, 4].contains(step));
        if !axes.last().is_some_and(has_lanes) {
            // The axis of lanes had an extent of 1.
            let mut steps = STAY;
            steps[y] = 4;
            axes.push(Axis { count: 1, steps });
        }
        Map { operands: y, axes, steps }
    }

    /// Elements of the result.
    pub(crate) fn elements(&self) -> usize {
        self.axes.iter().map(|axis| axis.count).product()
    }

    /// The schedule: innermost axes within programs, the others outer.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(self.operands + 1);
        self.append(&mut schedule, vectors, STAY);
        schedule
    }

    /// Appends what the map does to a schedule of the same pointers, moved to where it begins.
    pub(crate) fn append(&self, schedule: &mut Schedule, vectors: Vectors, start: Steps) {
        let limits = Limits { grain: GRAIN, axes: MAX_DEPTH };
        walk::divide(schedule, start, &self.axes, limits, |axes| self.program(vectors, axes));
    }

    fn program(&self, vectors: Vectors, axes: &[Axis]) -> Program {
        let mut w = Writer::new(self.operands + 1, vectors.registers());
        let (&lane, axes) = axes.split_last().expect("there is an axis of lanes");
        let (row, outer) = match axes.split_last() {
            Some((&row, outer)) => (row, outer),
            None => (Axis { count: 1, steps: STAY }, axes),
        };
        let inner = Inner { row, lane };
        let width = lane.count.div_ceil(LANES);
        let at_once = self.at_once(vectors);
        walk::repeat(&mut w, outer, &mut |w| match at_once / width {
            0 => self.long_rows(w, inner, at_once),
            rows => self.short_rows(w, inner, rows),
        });
        w.finish()
    }

    /// Vectors worked on at once.
    fn at_once(&self, vectors: Vectors) -> usize {
        let temporaries = self.temporaries();
        // Long functions hide their latency and that of the loop by themselves.
        let wanted = match vectors {
            _ if temporaries > 3 => 2,
            Vectors::Avx512 | Vectors::Avx512Base => 8,
            Vectors::Avx2 => 4,
            Vectors::Clif => 2,
        };
        vectors.registers().saturating_sub(temporaries).clamp(1, wanted)
    }

    /// Registers a step takes besides running values, one for the operand's last vector among them.
    fn temporaries(&self) -> usize {
        let of = |(function, other): &(Function, MapOther)| {
            function.temporaries() + usize::from(matches!(other, MapOther::Operand(_)))
        };
        self.steps.iter().map(of).max().unwrap_or(0)
    }

    /// Rows of which several are done at once; what operands have in common for all rows is loaded once.
    fn short_rows(&self, w: &mut Writer, inner: Inner, rows: usize) -> Steps {
        let Inner { row, lane } = inner;
        let width = lane.count.div_ceil(LANES);
        let rows = rows.min(row.count);
        let held = self.hold(w, inner, rows * width, |i| row.count > 1 && row.steps[i] == 0);
        let moved = walk::unroll(w, row, rows, |w, rows| {
            let of_row = |row| (0..width).map(move |vector| Place { row, vector, lanes: lanes(lane.count, vector) });
            self.tile(w, inner, &held, &(0..rows).flat_map(of_row).collect::<Vec<Place>>());
        });
        release(w, &held);
        moved
    }

    /// Rows of more vectors than are done at once.
    fn long_rows(&self, w: &mut Writer, inner: Inner, at_once: usize) -> Steps {
        walk::repeat(w, &[inner.row], &mut |w| {
            let held = self.hold(w, inner, at_once, |i| inner.lane.steps[i] == 0);
            let moved = walk::unroll(w, inner.lane, at_once * LANES, |w, count| {
                let place = |vector| Place { row: 0, vector, lanes: lanes(count, vector) };
                self.tile(w, inner, &held, &(0..count.div_ceil(LANES)).map(place).collect::<Vec<Place>>());
            });
            release(w, &held);
            moved
        })
    }

    /// Loads those operands that `constant` says stay the same, as far as registers suffice beside `values`
    /// running values.
    fn hold(&self, w: &mut Writer, inner: Inner, values: usize, constant: impl Fn(usize) -> bool) -> Vec<Held> {
        let needed = values + self.temporaries();
        (0..self.operands)
            .map(|i| {
                let splat = inner.lane.steps[i] == 0;
                let count = if splat { 1 } else { inner.lane.count.div_ceil(LANES) };
                if !constant(i) || needed + count > w.registers() {
                    return None;
                }
                let held = w.take_all(count);
                for (vector, &v) in held.iter().enumerate() {
                    let place = Place { row: 0, vector, lanes: lanes(inner.lane.count, vector) };
                    self.load(w, v, inner, i, place);
                }
                Some(held)
            })
            .collect()
    }

    /// Some vectors, from operands to result.
    fn tile(&self, w: &mut Writer, inner: Inner, held: &[Held], places: &[Place]) {
        let values = w.take_all(places.len());
        for (&v, &place) in values.iter().zip(places) {
            match (held.first(), self.operands) {
                (Some(Some(held)), _) => w.set(v, held[place.vector % held.len()]),
                (_, 0) => w.set(v, 0.0),
                _ => self.load(w, v, inner, 0, place),
            }
        }
        for &(function, other) in &self.steps {
            let source = |place: Place| match other {
                MapOther::None => Src::Const(0.0),
                MapOther::Number(x) => Src::Const(x),
                MapOther::Operand(i) => match &held[i] {
                    Some(held) => Src::Reg(held[place.vector % held.len()]),
                    None => inner.source(i, place),
                },
            };
            let partial = |place: &Place| place.lanes < LANES && matches!(source(*place), Src::Mem(_));
            if !places.iter().any(partial) {
                function.apply(w, &values, |i| source(places[i]));
                continue;
            }
            for (&v, &place) in values.iter().zip(places) {
                match source(place) {
                    Src::Mem(mem) if place.lanes < LANES => {
                        let loaded = w.take();
                        w.load_lanes(loaded, mem, place.lanes);
                        function.apply(w, &[v], |_| loaded.into());
                        w.drop(loaded);
                    }
                    source => function.apply(w, &[v], |_| source),
                }
            }
        }
        for (&v, &place) in values.iter().zip(places) {
            w.store_lanes(inner.place(self.operands, place), v, place.lanes);
        }
        w.drop_all(&values);
    }

    fn load(&self, w: &mut Writer, v: V, inner: Inner, operand: usize, place: Place) {
        match inner.source(operand, place) {
            Src::Mem(mem) => w.load_lanes(v, mem, place.lanes),
            splat => w.set(v, splat),
        }
    }
}

impl Inner {
    /// Where a vector of a buffer lies.
    fn place(&self, pointer: usize, place: Place) -> Mem {
        let offset =
            self.row.steps[pointer] * signed(place.row) + self.lane.steps[pointer] * signed(LANES * place.vector);
        P::of(pointer).at(offset)
    }

    fn source(&self, operand: usize, place: Place) -> Src {
        let mem = self.place(operand, place);
        if self.lane.steps[operand] == 0 { Src::Splat(mem) } else { Src::Mem(mem) }
    }
}

/// Lanes of a vector of so many elements.
fn lanes(elements: usize, vector: usize) -> usize {
    (elements - vector * LANES).min(LANES)
}

fn release(w: &mut Writer, held: &[Held]) {
    held.iter().rev().flatten().for_each(|held| w.drop_all(held));
}

#[cfg(test)]
mod tests;
