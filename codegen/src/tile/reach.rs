//! What memory a schedule touches: the bytes around each of its pointers, found without running it.
//!
//! Every loop moves every pointer by a constant, so that the first or the last iteration reaches furthest;
//! the spans found here are exact, but for pointers that a program follows: of those it says itself how far they
//! reach. They say what a plan must lay out, and are computed from the schedule
//! alone, by nothing that the planner used to lay it out.

use super::program::{FIRST_LOCAL, Inst, LANES, MAX_LOCALS, MAX_POINTERS, Mem, Program, Src, VECTOR_BYTES};
use super::schedule::{Nest, STAY, Schedule, Steps, signed};
use super::walk::{scaled, sum};

/// Bytes from a pointer on, the first and the one behind the last; `None` if nothing is touched.
pub(crate) type Span = Option<(i64, i64)>;

/// What is touched around each pointer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) reads: [Span; MAX_POINTERS],
    pub(crate) writes: [Span; MAX_POINTERS],
}

impl Schedule {
    /// What all iterations of all parts touch, seen from where the pointers of the kernel are.
    pub(crate) fn reach(&self) -> Reach {
        let programs: Vec<Reach> = self.programs.iter().map(Program::reach).collect();
        let mut all = Reach::default();
        for part in &self.parts {
            let inner = of_nest(&part.nest, &programs).moved(part.start);
            all = all.and(part.axes.iter().fold(inner, |reach, axis| reach.repeated(axis.count, axis.steps)));
        }
        all
    }
}

impl Program {
    fn reach(&self) -> Reach {
        of_insts(&self.insts, &mut Followed::default()).0
    }
}

fn of_nest(nest: &Nest, programs: &[Reach]) -> Reach {
    match nest {
        Nest::Call(program) => programs[*program],
        Nest::At(steps, inner) => of_nest(inner, programs).moved(*steps),
        Nest::Loop(axis, inner) => of_nest(inner, programs).repeated(axis.count, axis.steps),
        Nest::Seq(parts) => parts.iter().fold(Reach::default(), |all, part| all.and(of_nest(part, programs))),
    }
}

/// Pointers that have been set by what stands in memory: the argument each leads to, and the bytes from that
/// argument that it reaches.
type Followed = [Option<(usize, (i64, i64))>; FIRST_LOCAL + MAX_LOCALS];

/// The same, seen from where arguments have moved to.
fn seen_from(at: Steps, followed: &Followed) -> Followed {
    followed.map(|set| set.map(|(base, (from, to))| (base, (from - at[base], to - at[base]))))
}

/// What instructions touch, and how far they move the pointers.
fn of_insts(insts: &[Inst], followed: &mut Followed) -> (Reach, Steps) {
    let (mut all, mut at) = (Reach::default(), STAY);
    for inst in insts {
        let mut reach = Touched { reach: Reach::default(), followed: seen_from(at, followed) };
        match inst {
            Inst::Set(_, s) | Inst::Bin(_, _, _, s) | Inst::Fma(_, _, s) | Inst::MulAdd(_, _, s) => reach.read(*s),
            Inst::Select { s, .. } | Inst::Shr(_, s, _) => reach.read(*s),
            Inst::LoadLanes(_, m, n) => reach.touch(false, *m, usize::from(*n) * 4),
            Inst::Store(m, _) => reach.touch(true, *m, VECTOR_BYTES),
            Inst::StoreLanes(m, _, n) => reach.touch(true, *m, usize::from(*n) * 4),
            Inst::StoreFour(m, _, _) => reach.touch(true, *m, VECTOR_BYTES / LANES * 4),
            Inst::Scatter { to, span: (from, behind), .. } => {
                let first = to.base.at(i64::from(to.offset) + from);
                reach.touch(true, first, usize::try_from(behind - from).expect("a span ends behind its beginning"));
            }
            Inst::LoadBytes(_, m) | Inst::LoadSigned(_, m) => reach.touch(false, *m, LANES),
            Inst::LoadQuads(_, m) => reach.touch(false, *m, 4 * LANES),
            Inst::StoreBytes(m, _) => reach.touch(true, *m, LANES),
            Inst::Dot4 { w, .. } => reach.read(*w),
            Inst::Un(..) | Inst::Swap(..) | Inst::Merge(..) => {}
            Inst::Interleave { .. } | Inst::Deinterleave { .. } => {}
            Inst::Lookup { .. } | Inst::LookupBytes(..) | Inst::BitSelect { .. } | Inst::CountOnes(..) => {}
            Inst::StoreBits(m, ..) => reach.touch(true, *m, LANES / 8),
            Inst::Warm(p, bytes) => reach.touch(false, p.at(0), *bytes),
            Inst::Advance(p, bytes) => {
                // What was followed reaches as far as it was said to, wherever in it the pointer is.
                if followed[usize::from(p.0)].is_none() {
                    at[usize::from(p.0)] += bytes;
                }
            }
            Inst::Follow { d, base, at: place, span } => {
                reach.touch(false, *place, 4);
                let (from, to) = *span;
                let set = match followed[usize::from(base.0)] {
                    Some(set) => set,
                    None => (usize::from(base.0), (from + at[usize::from(base.0)], to + at[usize::from(base.0)])),
                };
                followed[usize::from(d.0)] = Some(set);
            }
            Inst::Loop(count, body) => {
                let mut inside = seen_from(at, followed);
                let (inner, step) = of_insts(body, &mut inside);
                all = all.and(inner.repeated(*count, step).moved(at));
                at = sum(at, scaled(step, *count));
            }
            Inst::Repeat(count, body) => {
                reach.touch(false, *count, 4);
                let mut inside = seen_from(at, followed);
                let (inner, step) = of_insts(body, &mut inside);
                assert_eq!(step, STAY, "only what was followed moves in a loop of unknown length");
                all = all.and(inner.moved(at));
            }
        }
        all = all.and(reach.reach.moved(at));
    }
    (all, at)
}

/// What one instruction touches.
struct Touched {
    reach: Reach,
    followed: Followed,
}

impl Touched {
    fn touch(&mut self, written: bool, mem: Mem, bytes: usize) {
        let from = i64::from(mem.offset);
        let (pointer, span) = match self.followed[usize::from(mem.base.0)] {
            Some(set) => set,
            None => (usize::from(mem.base.0), (from, from + signed(bytes))),
        };
        let spans = if written { &mut self.reach.writes } else { &mut self.reach.reads };
        spans[pointer] = joined(spans[pointer], Some(span));
    }

    fn read(&mut self, source: Src) {
        match source {
            Src::Mem(mem) => self.touch(false, mem, VECTOR_BYTES),
            Src::Splat(mem) => self.touch(false, mem, 4),
            Src::Reg(_) | Src::Const(_) => {}
        }
    }
}

impl Reach {
    fn and(self, other: Reach) -> Reach {
        let both = |a: [Span; MAX_POINTERS], b: [Span; MAX_POINTERS]| std::array::from_fn(|i| joined(a[i], b[i]));
        Reach { reads: both(self.reads, other.reads), writes: both(self.writes, other.writes) }
    }

    /// With pointers that begin elsewhere.
    fn moved(self, steps: Steps) -> Reach {
        self.each(|(from, to), pointer| Some((from + steps[pointer], to + steps[pointer])))
    }

    /// So many times, the pointers moved from one time to the next.
    fn repeated(self, count: usize, steps: Steps) -> Reach {
        let Some(last) = count.checked_sub(1) else { return Reach::default() };
        let far = scaled(steps, last);
        self.each(|(from, to), pointer| Some((from + far[pointer].min(0), to + far[pointer].max(0))))
    }

    fn each(self, change: impl Fn((i64, i64), usize) -> Span) -> Reach {
        let all = |spans: [Span; MAX_POINTERS]| std::array::from_fn(|i| spans[i].and_then(|span| change(span, i)));
        Reach { reads: all(self.reads), writes: all(self.writes) }
    }
}

fn joined(a: Span, b: Span) -> Span {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::program::{P, V, Writer};
    use crate::tile::schedule::{Axis, Part, offsets};

    #[test]
    fn loops_reach_as_far_as_they_run() {
        let mut w = Writer::new(2, 4);
        w.load(V(0), P(0).at(-8));
        w.repeat(3, |w| {
            w.set(V(1), Src::Splat(P(0).at(4)));
            w.advance(P(0), 100);
            w.repeat(2, |w| {
                w.store_lanes(P(1).at(0), V(0), 3);
                w.advance(P(1), -16);
            });
        });
        w.load_lanes(V(0), P(0).at(0), 2);
        let mut schedule = Schedule::new(2);
        let program = schedule.program(w.finish());
        let nest = Nest::Call(program);
        assert_eq!(schedule.reach(), Reach::default(), "what is not called reaches nothing");
        let axes = [Axis::new(5, [0, 1000]), Axis::new(2, [-10, 0])];
        schedule.parts.push(Part::new(axes, offsets([7, 0]), nest));
        let reach = schedule.reach();
        assert_eq!(reach.reads[..2], [Some((-8 + 7 - 10, 308 + 7)), None]);
        assert_eq!(reach.writes[..2], [None, Some((-80, 12 + 4000))]);
    }

    #[test]
    fn followed_pointers_reach_as_far_as_they_say() {
        let mut w = Writer::new(3, 4);
        let (local, count) = (P(6), P(0).at(0));
        w.advance(P(1), 100);
        w.follow(P(0), P(0), P(0).at(0), (0, 64));
        w.repeat_as(count, |w| {
            w.follow(local, P(1), P(0).at(4), (-8, 256));
            w.set(V(0), Src::Splat(local.at(4)));
            w.follow(local, P(2), P(0).at(8), (0, 512));
            w.store(local.at(64), V(0));
            w.advance(P(0), 12);
        });
        w.load(V(0), P(0).at(1000));
        let mut schedule = Schedule::new(3);
        let nest = Nest::Call(schedule.program(w.finish()));
        schedule.parts.push(Part::new([Axis::new(3, [4, 0, 1000])], STAY, nest));
        let reach = schedule.reach();
        assert_eq!(reach.reads[..3], [Some((0, 64 + 8)), Some((92, 356)), None]);
        assert_eq!(reach.writes[..3], [None, None, Some((0, 512 + 2000))]);
    }
}
