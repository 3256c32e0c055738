//! Calls kernels: in order, ranges split over threads.
//!
//! Kernels between two interpreter steps are one job of the team. Every thread walks them all: it does its own
//! chunks of each, and waits where the next one reads what others write; who has waited for long does what others
//! have not begun. So a thread that the system keeps from running holds up no more than the chunk it is in, and
//! threads stay with their part of the data as long as none is late. Each thread writes counters of its own that
//! others only read: to meet costs one line of the cache that goes from one processor to the other.
//!
//! Invariant: every address given to a kernel lies within the arena or the packed constants of the same
//! executable, with as many bytes behind it as the planner laid out.
#![allow(unsafe_code, reason = "kernels read and write the arena through addresses")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use optc_ir::ExecError;

use crate::jit::{Kernel, ModuleBuilder};
use crate::memory::Memory;
use crate::target::Target;
use crate::team::{Counter, Job, Team, wait_until};
use crate::tile::Schedule;

/// Cycles, as works count them, that kernels do in a nanosecond, about.
const CYCLES_OF_NANOSECOND: f64 = 2.4;

/// Work of fewer cycles than this is done by one thread.
const SPLIT_CYCLES: usize = 700;

/// Meetings that a run of kernels takes besides those between them: to wake others, and to be done together.
const WAKES: f64 = 4.0;

/// A chunk is at least this long, and a thread's part of a kernel at most so many chunks.
const CHUNK_CYCLES: usize = 8000;
const MAX_CHUNKS: usize = 4;

/// Turns of a thread that waits before it does what is another's: some hundred nanoseconds.
const PATIENCE: usize = 10;
/// One use of a kernel, before its range is divided.
pub(crate) struct Use {
    pub(crate) kernel: Kernel,
    pub(crate) args: Vec<usize>,
    /// Outer iterations.
    pub(crate) range: usize,
    pub(crate) cycles: usize,
    pub(crate) barrier: bool,
}

impl Use {
    /// Cycles that threads take less than one.
    fn saved(&self, threads: usize) -> f64 {
        self.cycles as f64 * (threads - 1) as f64 / threads as f64
    }

    /// Whether the kernel is long enough to be shared, if those around it are, so that threads meet in any case.
    fn is_worth_sharing(&self) -> bool {
        self.range > 1 && self.cycles >= SPLIT_CYCLES
    }
}

/// Whether kernels take less time where those that are worth sharing are shared.
fn is_shorter_together(uses: &[Use], team: &Team) -> bool {
    let worth = |each: &&Use| each.is_worth_sharing();
    let gain = |each: &Use| each.saved(team.threads()) - meeting(team);
    team.threads() > 1 && uses.iter().filter(worth).map(gain).sum::<f64>() > WAKES * meeting(team)
}

/// Cycles that it takes the threads of a team to meet and to read what others have written.
fn meeting(team: &Team) -> f64 {
    team.meeting().as_nanos() as f64 * CYCLES_OF_NANOSECOND
}

/// Kernels one after the other.
pub(crate) struct Calls {
    calls: Vec<Call>,
    /// The number of the last run, and whether the end of each call in it is noted.
    run: AtomicU64,
    timed: AtomicBool,
}

struct Call {
    kernel: Kernel,
    args: Vec<usize>,
    /// Chunks of the outer range, thread by thread: begin and end of each.
    chunks: Vec<Vec<(usize, usize)>>,
    /// Whether all calls up to this one must be done before the next begins.
    barrier: bool,
    /// Chunks begun of each thread's, and chunks that each thread has done, whosever they were, in all runs so far.
    begun: Vec<Counter>,
    done: Vec<Counter>,
    /// Nanoseconds from the beginning of a timed run to the end of this call.
    end: AtomicU64,
}

impl Call {
    /// A call whose chunks are given thread by thread; the first thread's alone where no other may do them.
    fn new(kernel: Kernel, args: Vec<usize>, chunks: Vec<Vec<(usize, usize)>>, barrier: bool) -> Call {
        let counters = || chunks.iter().map(|_| Counter::default()).collect();
        let (begun, done) = (counters(), counters());
        Call { kernel, args, begun, done, chunks, barrier, end: AtomicU64::new(0) }
    }

    /// Takes the next chunk of a thread's that nobody has begun in this run.
    fn take(&self, thread: usize, run: u64) -> Option<(usize, usize)> {
        let chunks = &self.chunks[thread];
        let before = (run - 1) * chunks.len() as u64;
        let mut begun = self.begun[thread].0.load(Ordering::Acquire);
        loop {
            // Of a run that is over all chunks have been begun.
            let index = usize::try_from(begun.checked_sub(before)?).ok()?;
            let chunk = *chunks.get(index)?;
            match self.begun[thread].0.compare_exchange_weak(begun, begun + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(chunk),
                Err(now) => begun = now,
            }
        }
    }

    /// Does the next chunk of a thread's, if there is one left in this run.
    fn advance(&self, owner: usize, thread: usize, run: u64) -> bool {
        let Some((begin, end)) = self.take(owner, run) else { return false };
        // SAFETY: the planner gave every buffer the bytes its kernel walks, at addresses within the arena and the
        // constants that the executable owns; chunks write disjoint elements. The executable is alive, since the
        // run is not done before this chunk is.
        unsafe { self.kernel.call(&self.args, begin, end) };
        // Only this thread writes its counter.
        let done = &self.done[thread].0;
        done.store(done.load(Ordering::Relaxed) + 1, Ordering::Release);
        true
    }

    /// Does a chunk of another thread's, if there is one left in this run.
    fn relieve(&self, thread: usize, run: u64) -> bool {
        (1..self.chunks.len()).any(|k| self.advance((thread + k) % self.chunks.len(), thread, run))
    }

    /// Whether more than one thread does it.
    fn is_shared(&self) -> bool {
        self.chunks.len() > 1
    }

    fn is_done(&self, run: u64) -> bool {
        let total: usize = self.chunks.iter().map(Vec::len).sum();
        self.done.iter().map(|done| done.0.load(Ordering::Acquire)).sum::<u64>() >= run * total as u64
    }
}

impl Calls {
    /// The calls of kernels by a team.
    pub(crate) fn new(uses: Vec<Use>, team: &Team) -> Calls {
        let together = is_shorter_together(&uses, team);
        let call = |each: Use| {
            let shared = together && each.is_worth_sharing();
            let Use { kernel, args, range, cycles, barrier } = each;
            let chunks = if shared { share(range, cycles, team.threads()) } else { vec![vec![(0, range)]] };
            Call::new(kernel, args, chunks, barrier)
        };
        let mut calls: Vec<Call> = uses.into_iter().map(call).collect();
        // Kernels that may overlap make a group; threads meet between two groups unless one thread does both.
        let mut groups: Vec<&mut [Call]> = calls.chunk_by_mut(|call, _| !call.barrier).collect();
        let shared: Vec<bool> = groups.iter().map(|group| group.iter().any(Call::is_shared)).collect();
        for (i, group) in groups.iter_mut().enumerate() {
            if let Some(last) = group.last_mut() {
                last.barrier = shared[i] || shared.get(i + 1).is_some_and(|&next| next);
            }
        }
        Calls { calls, run: AtomicU64::new(0), timed: AtomicBool::new(false) }
    }

    /// Does a run with a team, or alone if no call is for more than one thread.
    pub(crate) fn run(self: &Arc<Calls>, team: &Team, timed: bool) {
        let run = self.next_run(timed);
        if self.calls.iter().any(Call::is_shared) {
            team.run(self, run);
        } else {
            self.work(0, run);
        }
    }

    /// The number of the next run.
    fn next_run(&self, timed: bool) -> u64 {
        self.timed.store(timed, Ordering::Relaxed);
        self.run.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// When each call ended, from the beginning of the last timed run.
    pub(crate) fn ends(&self) -> Vec<Duration> {
        self.calls.iter().map(|call| Duration::from_nanos(call.end.load(Ordering::Relaxed))).collect()
    }
}

impl Job for Calls {
    fn work(&self, thread: usize, run: u64) {
        // Threads meet after every call that is timed: else some would do a call while others are still at another.
        let timed = self.timed.load(Ordering::Relaxed);
        let start = (timed && thread == 0).then(Instant::now);
        let mut group = 0;
        for (i, call) in self.calls.iter().enumerate() {
            while thread < call.chunks.len() && call.advance(thread, thread, run) {}
            if call.barrier || timed || i + 1 == self.calls.len() {
                for call in &self.calls[group..=i] {
                    // Who looks for work of others takes a line of the cache from them.
                    let mut turns = 0;
                    wait_until(|| {
                        turns += 1;
                        call.is_done(run) || (turns > PATIENCE && call.relieve(thread, run) && call.is_done(run))
                    });
                }
                group = i + 1;
            }
            if let Some(start) = start {
                let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                call.end.store(nanos, Ordering::Relaxed);
            }
        }
    }
}
/// The kernels of schedules, and the outer iterations of each.
pub(crate) fn generate(
    schedules: impl Iterator<Item = Schedule>,
    target: &Target,
) -> Result<(Vec<Kernel>, Vec<usize>), ExecError> {
    let mut module = ModuleBuilder::new(target.vectors)?;
    let mut ranges = Vec::new();
    for schedule in schedules {
        module.define_schedule(&schedule)?;
        ranges.push(schedule.range());
    }
    Ok((module.finish()?, ranges))
}

/// Splits a range between threads, and the part of each into chunks that others may take over.
fn share(range: usize, cycles: usize, threads: usize) -> Vec<Vec<(usize, usize)>> {
    let wanted = (cycles / threads / CHUNK_CYCLES).clamp(1, MAX_CHUNKS);
    (0..threads)
        .map(|thread| {
            let (begin, end) = (range * thread / threads, range * (thread + 1) / threads);
            let (len, count) = (end - begin, wanted.min(end - begin));
            (0..count).map(|i| (begin + len * i / count, begin + len * (i + 1) / count)).collect()
        })
        .collect()
}

/// The least time one run of a schedule takes on all threads, tried for so long. Its buffer holds so many
/// numbers, all of them 0.5.
///
/// # Errors
/// If the schedule can't be lowered, or the machine has no more threads or memory.
pub(crate) fn time(
    schedule: &Schedule,
    numbers: usize,
    target: &Target,
    so_long: Duration,
) -> Result<Duration, ExecError> {
    let team = Team::new(target.threads)?;
    let kernel = generate(std::iter::once(schedule.clone()), target)?.0.remove(0);
    let mut memory = Memory::written(numbers, |to| to.resize(to.len() + numbers, 0.5))?;
    let args = vec![memory.address(); schedule.pointers];
    let whole = Use { kernel, args, range: schedule.range(), cycles: usize::MAX, barrier: true };
    let calls = Arc::new(Calls::new(vec![whole], &team));
    let (begin, mut least) = (Instant::now(), Duration::MAX);
    while least == Duration::MAX || begin.elapsed() < so_long {
        let start = Instant::now();
        calls.run(&team, false);
        least = least.min(start.elapsed());
    }
    Ok(least)
}
