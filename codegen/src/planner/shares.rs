//! How the positions of a sparse product are divided, between threads and so that x stays in the caches.

use crate::tile::spmm::Planes;

/// Parts that each thread's share of the work has, so that one that is late holds up little.
const SHARES: usize = 4;

/// Bytes of x that stay in a processor's own caches while rows are computed of them, beside y and code.
const PANEL: usize = 400 << 10;

/// Vectors of positions that are worth fetching the code of all rows for.
const PANEL_VECTORS: usize = 8;

/// Weights whose code stays in the nearest cache of instructions.
const NEAR_CODE: usize = 2400;

/// How the work of an unrolled product is divided: equal parts of the positions, and images of a panel, if all
/// rows are computed of each part before the next; else groups of rows come first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shares {
    pub(super) chunks: usize,
    pub(super) panel: Option<usize>,
}

impl Shares {
    /// Of so many weights in groups of so many rows, whose x spans so many bytes of an image.
    pub(super) fn new(planes: &Planes, span: Option<usize>, weights: usize, group: usize, threads: usize) -> Shares {
        let wanted = wanted_parts(threads);
        if let Some(shares) = span.and_then(|bytes| panels(planes, bytes, wanted)) {
            return shares;
        }
        if threads == 1 {
            return Shares { chunks: 1, panel: None };
        }
        let by_rows = even_parts(planes.vectors, planes.images * planes.rows.div_ceil(group), threads);
        let by_positions = even_parts(planes.vectors, planes.images, threads);
        // A thread that computes all rows of its positions finds most of what the next layer reads in its own
        // caches; but it fetches the code of all rows.
        if weights <= NEAR_CODE && by_positions.1 >= by_rows.1 {
            Shares { chunks: by_positions.0, panel: Some(1) }
        } else {
            Shares { chunks: by_rows.0, panel: None }
        }
    }
}

/// Parts that the work of so many threads is to have.
pub(super) fn wanted_parts(threads: usize) -> usize {
    if threads > 1 { threads * SHARES } else { 1 }
}

/// The number of equal parts of a whole that keeps threads busiest, where there are so many units of it, and the
/// share of the time that they then work. Of equals the number nearest to what is wanted of parts.
fn even_parts(whole: usize, units: usize, threads: usize) -> (usize, f64) {
    let busy = |parts: usize| {
        let rounds = (units * parts).div_ceil(threads);
        (units * parts) as f64 / (rounds * threads) as f64
    };
    let off = |parts: usize| ((units * parts) as f64 / (threads * SHARES) as f64).ln().abs();
    let parts = (1..=whole).filter(|&parts| whole.is_multiple_of(parts));
    let best = parts.max_by(|&a, &b| busy(a).total_cmp(&busy(b)).then(off(b).total_cmp(&off(a)))).unwrap_or(1);
    (best, busy(best))
}

/// If x, of which an image reads so many bytes, is to be cut into panels; there are at least so many of them.
fn panels(planes: &Planes, bytes: usize, least: usize) -> Option<Shares> {
    let divisors = |n: usize| (1..=n).filter(move |&parts| n.is_multiple_of(parts));
    let parts = || divisors(planes.vectors).filter(|parts| *parts == 1 || planes.vectors / parts >= PANEL_VECTORS);
    let fitting = parts().find(|parts| bytes / parts <= PANEL).or_else(|| parts().next_back())?;
    let images = if fitting > 1 { 1 } else { divisors(planes.images).rfind(|n| n * bytes <= PANEL).unwrap_or(1) };
    let panels = planes.images / images * fitting;
    if panels == 1 || panels >= least {
        return (panels > 1).then_some(Shares { chunks: fitting, panel: Some(images) });
    }
    // Threads want more panels than caches do.
    let shared = parts().find(|parts| planes.images * parts >= least)?;
    Some(Shares { chunks: shared, panel: Some(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_equal_parts_where_there_are_any() {
        assert_eq!(even_parts(68, 1, 2), (4, 1.0));
        assert_eq!(even_parts(18, 1, 2), (6, 1.0));
        assert_eq!(even_parts(18, 2, 2), (3, 1.0));
        assert_eq!(even_parts(5, 3, 2), (5, 15.0 / 16.0));
        assert_eq!(even_parts(1, 1, 4), (1, 0.25));
    }

    #[test]
    fn small_layers_are_divided_by_positions_and_large_ones_by_rows() {
        let mut planes = Planes::new([1, 32, 16, 16]);
        planes.vectors = 18;
        assert_eq!(Shares::new(&planes, Some(40_000), 900, 28, 2), Shares { chunks: 6, panel: Some(1) });
        assert_eq!(Shares::new(&planes, Some(40_000), 9000, 28, 2), Shares { chunks: 3, panel: None });
        assert_eq!(Shares::new(&planes, Some(40_000), 900, 28, 1), Shares { chunks: 1, panel: None });
    }
}
