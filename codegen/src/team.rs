//! Threads that run jobs together, woken in well under a microsecond.
//!
//! A worker without a job spins for a short while before it sleeps, since the next run usually follows at
//! once. Jobs own what they touch, so nothing here borrows.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use optc_ir::ExecError;

/// Turns of a spinning worker before it sleeps: about a fifth of a millisecond.
const SPINS: usize = 10_000;

/// Turns of a thread that waits for others before it lets some other thread have its processor.
const SPINS_BEFORE_YIELD: usize = 2_000;

/// Meetings of a run that times them, and how often it is repeated at least: the shortest counts.
const MEETINGS: u32 = 40;
const MIN_RUNS: u64 = 8;

/// Lines of the cache that threads read of each other when they meet.
const LINES: usize = 64;

/// Threads that take longer to meet are not on processors of their own; how long to wait for that, and what is
/// supposed if it never is so.
const ON_ONE: Duration = Duration::from_micros(20);
const TIME: Duration = Duration::from_millis(30);
const TYPICAL: Duration = Duration::from_micros(1);

/// What a team does: every thread calls `work` with its number, the caller with 0, and the number of the run.
///
/// The caller's `work` returns when the run is done, whoever did it. A worker that the system kept from running
/// may begin a run after that: it must find nothing left to do.
pub(crate) trait Job: Send + Sync {
    /// The share of one thread.
    fn work(&self, thread: usize, run: u64);
}

struct Shared {
    /// Counts what was put into the slot; workers wait for it to change.
    epoch: AtomicU64,
    slot: Mutex<Option<(Arc<dyn Job>, u64)>>,
    quit: AtomicBool,
}

struct Worker {
    handle: Option<JoinHandle<()>>,
    asleep: Arc<AtomicBool>,
}

/// A caller and its workers.
pub(crate) struct Team {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// What it takes the threads to meet.
    meeting: Duration,
}

impl Team {
    /// A team of so many threads, the caller among them.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub(crate) fn new(threads: usize) -> Result<Team, ExecError> {
        let shared =
            Arc::new(Shared { epoch: AtomicU64::new(0), slot: Mutex::new(None), quit: AtomicBool::new(false) });
        let mut team = Team { shared, workers: Vec::new(), meeting: Duration::ZERO };
        for number in 1..threads {
            let (shared, asleep) = (team.shared.clone(), Arc::new(AtomicBool::new(false)));
            let sleeps = asleep.clone();
            let handle = thread::Builder::new()
                .name(format!("optc-{number}"))
                .spawn(move || serve(&shared, &sleeps, number))
                .map_err(|e| ExecError::Backend(format!("{threads} threads can't be started: {e}")))?;
            team.workers.push(Worker { handle: Some(handle), asleep });
        }
        team.meeting = team.time_meetings();
        Ok(team)
    }

    /// Threads, the caller among them.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// What it takes the threads to meet, and to read a few kilobytes that others have written; zero for one thread.
    /// Processors are nearer to each other on some hosts than on others.
    pub(crate) fn meeting(&self) -> Duration {
        self.meeting
    }

    /// Measures it, once a process for each number of threads.
    fn time_meetings(&self) -> Duration {
        /// What was measured, by the number of threads.
        static MEASURED: Mutex<BTreeMap<usize, Duration>> = Mutex::new(BTreeMap::new());
        if self.workers.is_empty() {
            return Duration::ZERO;
        }
        let mut measured = MEASURED.lock().expect("no thread panics with the lock");
        *measured.entry(self.threads()).or_insert_with(|| {
            let meetings = Arc::new(Meetings::new(self.threads()));
            let (begin, mut least) = (Instant::now(), Duration::MAX);
            for run in 1.. {
                let start = Instant::now();
                self.run(&meetings, run);
                least = least.min(start.elapsed() / MEETINGS);
                // Threads begin on one processor, or others have theirs: then they meet when they are let.
                if run >= MIN_RUNS && (least < ON_ONE || begin.elapsed() > TIME) {
                    break;
                }
            }
            if least < ON_ONE { least } else { TYPICAL }
        })
    }

    /// Does a run of a job on all threads.
    pub(crate) fn run<J: Job + 'static>(&self, job: &Arc<J>, run: u64) {
        let shared = &self.shared;
        if !self.workers.is_empty() {
            *shared.slot.lock().expect("no thread panics with the lock") = Some((job.clone() as Arc<dyn Job>, run));
            shared.epoch.fetch_add(1, Ordering::SeqCst);
            for worker in &self.workers {
                if worker.asleep.load(Ordering::SeqCst)
                    && let Some(handle) = &worker.handle
                {
                    handle.thread().unpark();
                }
            }
        }
        job.work(0, run);
        if !self.workers.is_empty() {
            *shared.slot.lock().expect("no thread panics with the lock") = None;
        }
    }
}

/// A counter in a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Counter(pub(crate) AtomicU64);

/// Threads that meet and read what others have written, as they do between kernels.
struct Meetings {
    /// How often each has arrived.
    arrived: Vec<Counter>,
    /// What each writes before it arrives.
    written: Vec<Vec<Counter>>,
}

impl Meetings {
    fn new(threads: usize) -> Meetings {
        let counters = |count: usize| (0..count).map(|_| Counter::default()).collect();
        Meetings { arrived: counters(threads), written: (0..threads).map(|_| counters(LINES)).collect() }
    }
}

impl Job for Meetings {
    fn work(&self, thread: usize, run: u64) {
        let before = (run - 1) * u64::from(MEETINGS);
        for count in before + 1..=before + u64::from(MEETINGS) {
            self.written[thread].iter().for_each(|line| line.0.store(count, Ordering::Relaxed));
            self.arrived[thread].0.store(count, Ordering::Release);
            wait_until(|| self.arrived.iter().all(|arrived| arrived.0.load(Ordering::Acquire) >= count));
            let other = &self.written[(thread + 1) % self.written.len()];
            black_box(other.iter().map(|line| line.0.load(Ordering::Relaxed)).max());
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for worker in &mut self.workers {
            if let Some(handle) = worker.handle.take() {
                handle.thread().unpark();
                // A worker ends with its loop; there is no result to look at.
                let _ = handle.join();
            }
        }
    }
}

fn serve(shared: &Shared, asleep: &AtomicBool, number: usize) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        while shared.epoch.load(Ordering::SeqCst) == seen {
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            asleep.store(true, Ordering::SeqCst);
            // A job that came in between has been seen here, or has seen the flag.
            if shared.epoch.load(Ordering::SeqCst) == seen {
                thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
        }
        if shared.quit.load(Ordering::SeqCst) {
            return;
        }
        seen = shared.epoch.load(Ordering::SeqCst);
        let job = shared.slot.lock().expect("no thread panics with the lock").clone();
        if let Some((job, run)) = job {
            job.work(number, run);
        }
    }
}

/// Spins until something another thread does; yields if that takes long.
pub(crate) fn wait_until(mut ready: impl FnMut() -> bool) {
    let mut spins = 0;
    while !ready() {
        spins += 1;
        if spins % SPINS_BEFORE_YIELD == 0 {
            thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One thing to do a run, for whoever comes first.
    struct Count {
        next: AtomicU64,
        done: AtomicU64,
    }

    impl Job for Count {
        fn work(&self, _: usize, run: u64) {
            if self.next.compare_exchange(run - 1, run, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                self.done.fetch_add(1, Ordering::Release);
            }
            wait_until(|| self.done.load(Ordering::Acquire) >= run);
        }
    }

    #[test]
    fn every_run_is_done_when_the_caller_returns() {
        for threads in [1, 2, 3] {
            let team = Team::new(threads).unwrap();
            let count = Arc::new(Count { next: AtomicU64::new(0), done: AtomicU64::new(0) });
            for run in 1..=200 {
                if run % 50 == 49 {
                    thread::sleep(std::time::Duration::from_millis(2));
                }
                team.run(&count, run);
                assert_eq!(count.done.load(Ordering::Acquire), run);
            }
            drop(team);
            assert_eq!(Arc::strong_count(&count), 1, "a job is let go of");
        }
    }
}
