//! Copies between strided buffers: slices, concatenations, permutations of axes.
//!
//! Three ways, by the axis along which the result's elements lie next to each other. If the source's do so
//! too, or stay, vectors are moved. If the source's lie next to each other along another axis, the two are
//! transposed. Otherwise elements are moved one by one.

use super::map::Map;
use super::program::{MAX_DEPTH, P, Writer};
use super::schedule::{Axis, STAY, Schedule, signed};
use super::transpose::Transpose;
use super::walk::{self, GRAIN, Limits};
use crate::target::Vectors;

/// Pointers of the kernel, in order.
const FROM: P = P(0);
const TO: P = P(1);

/// Elements moved one by one between two steps of a loop.
const AT_ONCE: usize = 8;

/// A copy with everything that is baked into its code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Copy {
    axes: Vec<Axis>,
}

impl Copy {
    /// A copy of a box, strides in bytes; 0 where the source is broadcast.
    pub(crate) fn new(shape: &[usize], from: &[i64], to: &[i64]) -> Copy {
        Copy { axes: walk::merged(shape, [from, to]) }
    }

    /// Elements moved.
    pub(crate) fn elements(&self) -> usize {
        self.axes.iter().map(|axis| axis.count).product()
    }

    /// The schedule: innermost axes within programs, the others outer.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut axes = self.axes.clone();
        let [from, to] = [0, 1].map(|pointer| move |axis: &Axis| axis.steps[pointer]);
        let Some(lanes) = axes.iter().position(|axis| to(axis) == 4) else {
            return if axes.is_empty() { as_map(&axes).schedule(vectors) } else { elements(&axes) };
        };
        let lane = axes.remove(lanes);
        if [0, 4].contains(&from(&lane)) {
            axes.push(lane);
            return as_map(&axes).schedule(vectors);
        }
        let Some(column) = axes.iter().position(|axis| from(axis) == 4) else {
            axes.push(lane);
            return elements(&axes);
        };
        let column = axes.remove(column);
        Transpose::of_axes(axes, lane, column).schedule(vectors)
    }
}

/// The copy as a map without a function.
fn as_map(axes: &[Axis]) -> Map {
    let shape: Vec<usize> = axes.iter().map(|axis| axis.count).collect();
    let [from, to] = [0, 1].map(|pointer| axes.iter().map(|axis| axis.steps[pointer]).collect::<Vec<i64>>());
    Map::new(&shape, &to, &[from], Vec::new())
}

fn elements(axes: &[Axis]) -> Schedule {
    let mut schedule = Schedule::new(2);
    walk::divide(&mut schedule, STAY, axes, Limits { grain: GRAIN, axes: MAX_DEPTH }, |axes| {
        let mut w = Writer::new(2, 1);
        let (&last, outer) = axes.split_last().expect("a box without axes is a map");
        walk::repeat(&mut w, outer, &mut |w| walk::unroll(w, last, AT_ONCE, |w, count| one_by_one(w, last, count)));
        w.finish()
    });
    schedule
}

fn one_by_one(w: &mut Writer, axis: Axis, count: usize) {
    let v = w.take();
    for i in 0..count {
        w.load_lanes(v, FROM.at(axis.steps[0] * signed(i)), 1);
        w.store_lanes(TO.at(axis.steps[1] * signed(i)), v, 1);
    }
    w.drop(v);
}

#[cfg(test)]
mod tests;
