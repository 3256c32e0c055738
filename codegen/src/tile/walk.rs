//! Boxes of iterations: how they are simplified, and divided between tile programs and the outer axes of a
//! schedule.

use super::program::{P, Program, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, Steps, signed};

/// Elements a program should do: enough to pay for its call, few enough that threads can share the rest.
pub(crate) const GRAIN: usize = 4096;

/// What a program takes on at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Iterations.
    pub(crate) grain: usize,
    /// Axes.
    pub(crate) axes: usize,
}

/// The axes of a box of this shape, the strides given pointer by pointer. Axes of extent 1 are dropped and
/// neighbours that all pointers walk alike are merged.
pub(crate) fn merged<'a>(shape: &[usize], strides: impl IntoIterator<Item = &'a [i64]>) -> Vec<Axis> {
    let mut axes: Vec<Axis> = shape.iter().map(|&count| Axis { count, steps: STAY }).collect();
    for (pointer, strides) in strides.into_iter().enumerate() {
        assert_eq!(strides.len(), shape.len(), "there is a stride for every axis");
        axes.iter_mut().zip(strides).for_each(|(axis, &stride)| axis.steps[pointer] = stride);
    }
    let mut merged: Vec<Axis> = Vec::new();
    for axis in axes.into_iter().filter(|axis| axis.count != 1) {
        match merged.last_mut() {
            Some(last) if last.steps == scaled(axis.steps, axis.count) => {
                *last = Axis { count: last.count * axis.count, steps: axis.steps };
            }
            _ => merged.push(axis),
        }
    }
    merged
}

/// Appends parts that do the iterations of `axes`, the last fastest. A program does whole inner axes as far as
/// its limits allow; the next axis is cut into groups, and those further out are outer. `program` is given the
/// axes that are left to it.
pub(crate) fn divide(
    schedule: &mut Schedule,
    start: Steps,
    axes: &[Axis],
    limits: Limits,
    program: impl Fn(&[Axis]) -> Program,
) {
    if axes.iter().any(|axis| axis.count == 0) {
        return;
    }
    let mut first = axes.len();
    let mut inner = 1;
    while first > 0 && axes.len() - first + 1 < limits.axes && inner * axes[first - 1].count <= limits.grain {
        first -= 1;
        inner *= axes[first].count;
    }
    let Some(cut) = first.checked_sub(1) else {
        let nest = Nest::Call(schedule.program(program(axes)));
        schedule.parts.push(Part { axes: Vec::new(), start, nest });
        return;
    };
    let Axis { count, steps } = axes[cut];
    let group = (limits.grain / inner).clamp(1, count);
    for (from, size, groups) in [(0, group, count / group), (count / group * group, count % group, 1)] {
        if size == 0 {
            continue;
        }
        let left = [&[Axis { count: size, steps }], &axes[cut + 1..]].concat();
        let nest = Nest::Call(schedule.program(program(&left)));
        let groups = Axis { count: groups, steps: scaled(steps, group) };
        let axes = [&axes[..cut], &[groups]].concat();
        schedule.parts.push(Part { axes, start: sum(start, scaled(steps, from)), nest });
    }
}

/// Writes loops over `axes`. `body` returns how far it moved the pointers, and so does this.
pub(crate) fn repeat(w: &mut Writer, axes: &[Axis], body: &mut impl FnMut(&mut Writer) -> Steps) -> Steps {
    let Some((axis, inner)) = axes.split_first() else { return body(w) };
    if axis.count == 1 {
        return repeat(w, inner, body);
    }
    w.repeat(axis.count, |w| {
        let moved = repeat(w, inner, body);
        advance(w, sum(axis.steps, moved.map(|step| -step)));
    });
    scaled(axis.steps, axis.count)
}

/// Writes a loop over an axis of which `size` iterations are done at once, then the rest; `body` is given their
/// number. Returns how far it moved the pointers.
pub(crate) fn unroll(w: &mut Writer, axis: Axis, size: usize, mut body: impl FnMut(&mut Writer, usize)) -> Steps {
    let groups = axis.count / size;
    w.repeat(groups, |w| {
        body(w, size);
        advance(w, scaled(axis.steps, size));
    });
    if !axis.count.is_multiple_of(size) {
        body(w, axis.count % size);
    }
    scaled(axis.steps, groups * size)
}

/// Moves every pointer.
pub(crate) fn advance(w: &mut Writer, steps: Steps) {
    for (pointer, &bytes) in (0..).map(P).zip(&steps) {
        w.advance(pointer, bytes);
    }
}

/// So many steps at once.
pub(crate) fn scaled(steps: Steps, n: usize) -> Steps {
    steps.map(|step| step * signed(n))
}

/// One after the other.
pub(crate) fn sum(a: Steps, b: Steps) -> Steps {
    std::array::from_fn(|i| a[i] + b[i])
}
