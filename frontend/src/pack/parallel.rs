//! Independent pieces of work on as many cores as there are.

use std::sync::{Mutex, PoisonError};
use std::thread;

use super::PackError;

/// Calls `f` with every item, in no particular order; on one thread if `work`, in symbols or bytes, is too
/// little to share.
///
/// # Errors
/// One of the errors of `f`.
pub(super) fn for_each<T: Send>(
    items: Vec<T>,
    work: usize,
    f: impl Fn(T) -> Result<(), PackError> + Sync,
) -> Result<(), PackError> {
    const WORTH_A_THREAD: usize = 1 << 18;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(items.len()).min(work / WORTH_A_THREAD);
    if threads < 2 {
        return items.into_iter().try_for_each(f);
    }
    let items = Mutex::new(items.into_iter());
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || std::iter::from_fn(next).try_for_each(&f);
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let mine = worker();
        others.into_iter().fold(mine, |result, other| {
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.and(other)
        })
    })
}

/// As [`for_each`], with results in the order of the items.
///
/// # Errors
/// One of the errors of `f`.
pub(super) fn map<T: Send, R: Send>(
    items: Vec<T>,
    work: usize,
    f: impl Fn(T) -> Result<R, PackError> + Sync,
) -> Result<Vec<R>, PackError> {
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    for_each(items.into_iter().zip(&mut results).collect(), work, |(item, result)| {
        *result = Some(f(item)?);
        Ok(())
    })?;
    Ok(results.into_iter().flatten().collect())
}
