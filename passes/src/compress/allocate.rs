//! How bits are shared out among layers.
//!
//! Relative errors of layers add up at the output of a network, by squares if they are independent:
//! `Σ_l ‖W_l − Ŵ_l‖² / ‖W_l‖²`. The fewest bits for a given sum are
//!
//! `min Σ_l bits_l + (1/μ)·Σ_l ‖W_l − Ŵ_l‖² / ‖W_l‖²`
//!
//! for the `μ` that gives the sum (Lagrange; "reverse water-filling"), and for a given `μ` each layer is on
//! its own: [`super::rate`] with `λ = 1 / (μ·‖W‖²)`. At high rates the cells of a layer are
//! `√(12/N)·√sum·‖W‖` wide for `N` weights in all, so small layers get finer ones.

use super::rate::{Cells, Layer};

/// Adjustments of `μ`.
const MAX_ROUNDS: usize = 12;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    /// The square root of the sum of squared relative errors, if it costs no more than `budget`.
    pub(super) bound: f64,
    /// The same, whatever it costs. No less than `bound`.
    pub(super) limit: f64,
    /// Bits of all layers.
    pub(super) budget: f64,
    /// The most values a layer.
    pub(super) max_cells: usize,
}

/// How all layers are divided.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The cells of each layer; `None` for one that is smaller as it is.
    pub(super) cells: Vec<Option<Cells>>,
    /// The square root of the sum of squared relative errors.
    pub(super) error: f64,
    /// Bits of all layers.
    pub(super) bits: f64,
    /// The error that was aimed for: the bound, or the limit if the budget asked for more than the bound.
    pub(super) allowed: f64,
}

/// The expected width of a cell relative to ‖W‖, for `n` weights in all.
pub(super) fn relative_step(bound: f64, n: usize) -> f64 {
    bound * (12.0 / n.max(1) as f64).sqrt()
}

/// The fewest bits within the bound; if those are beyond the budget, the least error within it, but
/// never more than the limit. `None` if there is no plan within the limit.
pub(super) fn allocate(layers: &[Layer], goal: Goal) -> Option<Plan> {
    let (mut mu, plan) = within(layers, goal.bound, goal.max_cells)?;
    if plan.bits <= goal.budget || goal.limit <= goal.bound {
        return Some(plan);
    }
    let weights: usize = layers.iter().map(|layer| layer.count).sum();
    let mut best: Option<Plan> = None;
    let mut bits = plan.bits;
    for _ in 0..MAX_ROUNDS {
        // Each halving of the error takes a bit a weight. The aim is a little below the budget.
        mu *= (2.0 * (bits - 0.998 * goal.budget) / weights as f64).clamp(-8.0, 8.0).exp2();
        let plan = Plan { allowed: goal.limit, ..divide(layers, mu, goal.max_cells) };
        bits = plan.bits;
        if plan.error > goal.limit {
            break;
        }
        if bits <= goal.budget && best.as_ref().is_none_or(|best| plan.error < best.error) {
            best = Some(plan);
        }
        if (0.995..=1.0).contains(&(bits / goal.budget)) {
            break;
        }
    }
    best.or_else(|| within(layers, goal.limit, goal.max_cells).map(|(_, plan)| plan))
}

/// The fewest bits within a bound, and the `μ` that gave them.
fn within(layers: &[Layer], bound: f64, max_cells: usize) -> Option<(f64, Plan)> {
    let weights: usize = layers.iter().map(|layer| layer.count).sum();
    // At high rates: D = step²/12 and dD/dbits = −2·ln 2·D for each weight.
    let mut mu = 2.0 * std::f64::consts::LN_2 * bound * bound / weights.max(1) as f64;
    let mut best: Option<(f64, Plan)> = None;
    for _ in 0..MAX_ROUNDS {
        let plan = Plan { allowed: bound, ..divide(layers, mu, max_cells) };
        let ratio = (plan.error / bound).powi(2);
        let tried = mu;
        // The error is about proportional to μ. The aim is a little below the bound.
        mu *= (0.99 / ratio).clamp(0.05, 20.0);
        if ratio <= 1.0 && best.as_ref().is_none_or(|(_, best)| plan.bits < best.bits) {
            best = Some((tried, plan));
        }
        if (0.98..=1.0).contains(&ratio) || ratio == 0.0 {
            break;
        }
    }
    best
}

fn divide(layers: &[Layer], mu: f64, max_cells: usize) -> Plan {
    let cells: Vec<Option<Cells>> = parallel_map(layers, |layer| {
        let lambda = 1.0 / (mu * layer.norm2);
        let cells = layer.divide(lambda, max_cells);
        (cells.bits + lambda * cells.error < layer.dense_bits()).then_some(cells)
    });
    let both = || cells.iter().zip(layers);
    let error: f64 = both().filter_map(|(cells, layer)| cells.as_ref().map(|cells| cells.error / layer.norm2)).sum();
    let bits = both().map(|(cells, layer)| cells.as_ref().map_or(layer.dense_bits(), |cells| cells.bits)).sum();
    Plan { error: error.sqrt(), bits, allowed: 0.0, cells }
}

/// Maps in order, on every core.
pub(super) fn parallel_map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(items.len().max(1));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(item) = items.get(at) else { return done };
            done.push((at, f(item)));
        }
    };
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut results = work();
        for handle in handles {
            match handle.join() {
                Ok(more) => results.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_by_key(|&(at, _)| at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::super::rate::tests::bell;
    use super::*;

    fn layers(bound: f64) -> Vec<Layer> {
        let sizes = [40_000, 9_000, 1_000, 60];
        let step = relative_step(bound, sizes.iter().sum());
        let layer = |(i, &n): (usize, &usize)| {
            let scale = [1.0, 100.0, 1e-4, 1.0][i];
            let elements: Vec<f32> = bell(i as u64, n).into_iter().map(|x| scale * x).collect();
            Layer::new(&elements, 32, step)
        };
        sizes.iter().enumerate().map(layer).collect()
    }

    fn goal(bound: f64, limit: f64, budget: f64) -> Goal {
        Goal { bound, limit, budget, max_cells: 4096 }
    }

    #[test]
    fn bounds_are_kept_and_used() {
        let mut before = f64::INFINITY;
        for bound in [0.003, 0.01, 0.05, 0.2] {
            let plan = allocate(&layers(bound), goal(bound, bound, 0.0)).unwrap();
            assert!(plan.error <= bound && plan.error > 0.95 * bound, "{} within {bound}", plan.error);
            assert!(plan.bits < before);
            before = plan.bits;
        }
    }

    #[test]
    fn errors_are_equal_by_weight_whatever_the_scale() {
        let layers = layers(0.02);
        let plan = allocate(&layers, goal(0.02, 0.02, 0.0)).unwrap();
        let share = |i: usize| plan.cells[i].as_ref().unwrap().error / layers[i].norm2 / layers[i].count as f64;
        assert!((share(1) / share(0) - 1.0).abs() < 0.1);
        // A layer of a thousand weights feels the price of its table, and takes fewer values for it.
        assert!((0.7..3.0).contains(&(share(2) / share(0))), "{}", share(2) / share(0));
    }

    #[test]
    fn a_budget_raises_the_error_up_to_the_limit() {
        let layers = layers(0.01);
        let tight = allocate(&layers, goal(0.01, 0.01, 0.0)).unwrap();
        let budget = 0.85 * tight.bits;
        let plan = allocate(&layers, goal(0.01, 0.1, budget)).unwrap();
        assert!(plan.bits <= budget && plan.bits > 0.97 * budget);
        assert!(plan.error > 0.01 && plan.error < 0.1);
        let limited = allocate(&layers, goal(0.01, 0.012, budget)).unwrap();
        assert!(limited.bits > budget && limited.error <= 0.012 && limited.error > 0.0115);
        let ample = allocate(&layers, goal(0.01, 0.1, 1e9)).unwrap();
        assert!(ample.error <= 0.01);
    }

    #[test]
    fn maps_are_in_order() {
        let items: Vec<usize> = (0..1000).collect();
        assert_eq!(parallel_map(&items, |x| x * 2), items.iter().map(|x| x * 2).collect::<Vec<_>>());
        assert_eq!(parallel_map(&[] as &[usize], |x| *x), []);
    }
}
