//! Schedules: how one kernel walks its buffers and which tile programs it runs where.
//!
//! A schedule is a sum of parts; each part is a box of outer iterations, numbered one after the other, and a
//! nest of loops inside each. The executor runs any range of outer iterations, on any thread. Every loop moves
//! each pointer by a constant; the leaves call tile programs.

use std::fmt;

use super::program::{MAX_POINTERS, Program};

/// Bytes each pointer is moved by.
pub(crate) type Steps = [i64; MAX_POINTERS];

/// No pointer moves.
pub(crate) const STAY: Steps = [0; MAX_POINTERS];

/// A loop: iterations, and bytes each pointer moves from one to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) count: usize,
    pub(crate) steps: Steps,
}

impl Axis {
    /// A loop that moves the first pointers.
    pub(crate) fn new<const N: usize>(count: usize, steps: [i64; N]) -> Axis {
        Axis { count, steps: offsets(steps) }
    }
}

/// Offsets of the first pointers; the others stay.
pub(crate) fn offsets<const N: usize>(first: [i64; N]) -> Steps {
    let mut steps = STAY;
    steps[..N].copy_from_slice(&first);
    steps
}

/// A count or size as a factor of bytes.
pub(crate) fn signed(n: usize) -> i64 {
    i64::try_from(n).expect("sizes are below 2^40")
}

/// Splits `n` into runs of nearly equal length, at most `size`: (first, length).
pub(crate) fn segments(n: usize, size: usize) -> Vec<(usize, usize)> {
    let mut first = 0;
    let mut segments = Vec::new();
    for (count, length) in segment_runs(n, size) {
        for _ in 0..count {
            segments.push((first, length));
            first += length;
        }
    }
    segments
}

/// The same with those of equal length taken together, the longer ones first: (how many, length).
pub(crate) fn segment_runs(n: usize, size: usize) -> Vec<(usize, usize)> {
    if n == 0 {
        return Vec::new();
    }
    let count = n.div_ceil(size);
    let runs = [(n % count, n / count + 1), (count - n % count, n / count)];
    runs.into_iter().filter(|&(count, _)| count > 0).collect()
}

/// What happens within one outer iteration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Nest {
    /// Runs a program; an index into the schedule's.
    Call(usize),
    /// With pointers moved.
    At(Steps, Box<Nest>),
    /// So many times, pointers moved from one time to the next.
    Loop(Axis, Box<Nest>),
    /// One after the other.
    Seq(Vec<Nest>),
}

impl Nest {
    /// This, with pointers moved.
    pub(crate) fn at(self, steps: Steps) -> Nest {
        if steps == STAY { self } else { Nest::At(steps, Box::new(self)) }
    }

    /// This, in loops, the innermost first.
    pub(crate) fn repeated(self, axes: impl IntoIterator<Item = Axis>) -> Nest {
        axes.into_iter().fold(self, |nest, axis| if axis.count == 1 { nest } else { Nest::Loop(axis, Box::new(nest)) })
    }
}

/// A box of outer iterations, the last axis fastest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) axes: Vec<Axis>,
    /// Where the pointers begin.
    pub(crate) start: Steps,
    pub(crate) nest: Nest,
}

impl Part {
    /// A part without the axes that have nowhere to go: finding one's place on an axis takes a division.
    pub(crate) fn new(axes: impl IntoIterator<Item = Axis>, start: Steps, nest: Nest) -> Part {
        Part { axes: axes.into_iter().filter(|axis| axis.count != 1).collect(), start, nest }
    }

    /// Outer iterations.
    pub(crate) fn count(&self) -> usize {
        self.axes.iter().map(|axis| axis.count).product()
    }
}

/// A kernel before lowering.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    /// Buffers it takes, one pointer each.
    pub(crate) pointers: usize,
    pub(crate) programs: Vec<Program>,
    pub(crate) parts: Vec<Part>,
}

impl Schedule {
    /// An empty schedule.
    pub(crate) fn new(pointers: usize) -> Schedule {
        Schedule { pointers, programs: Vec::new(), parts: Vec::new() }
    }

    /// The index of a program, added if it is new.
    pub(crate) fn program(&mut self, program: Program) -> usize {
        if let Some(known) = self.programs.iter().position(|p| *p == program) {
            return known;
        }
        self.programs.push(program);
        self.programs.len() - 1
    }

    /// Outer iterations of all parts.
    pub(crate) fn range(&self) -> usize {
        self.parts.iter().map(Part::count).sum()
    }
}

/// The parts, then the programs.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            write!(f, "part of {}", part.count())?;
            write_steps(f, " from", &part.start, self.pointers)?;
            writeln!(f)?;
            for axis in &part.axes {
                write!(f, "  outer {}", axis.count)?;
                write_steps(f, " by", &axis.steps, self.pointers)?;
                writeln!(f)?;
            }
            write_nest(f, &part.nest, self.pointers, 1)?;
        }
        for (i, program) in self.programs.iter().enumerate() {
            write!(f, "program {i}\n{program}")?;
        }
        Ok(())
    }
}

fn write_steps(f: &mut fmt::Formatter<'_>, word: &str, steps: &Steps, pointers: usize) -> fmt::Result {
    if *steps == STAY {
        return Ok(());
    }
    write!(f, "{word} {:?}", &steps[..pointers])
}

fn write_nest(f: &mut fmt::Formatter<'_>, nest: &Nest, pointers: usize, depth: usize) -> fmt::Result {
    let indent = depth * 2;
    match nest {
        Nest::Call(i) => writeln!(f, "{:indent$}call {i}", ""),
        Nest::At(steps, body) => {
            write!(f, "{:indent$}at", "")?;
            write_steps(f, "", steps, pointers)?;
            writeln!(f)?;
            write_nest(f, body, pointers, depth + 1)
        }
        Nest::Loop(axis, body) => {
            write!(f, "{:indent$}{} times", "", axis.count)?;
            write_steps(f, " by", &axis.steps, pointers)?;
            writeln!(f)?;
            write_nest(f, body, pointers, depth + 1)
        }
        Nest::Seq(parts) => parts.iter().try_for_each(|part| write_nest(f, part, pointers, depth)),
    }
}
