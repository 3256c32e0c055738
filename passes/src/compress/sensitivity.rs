//! Variants of a network in each of which one layer alone is pruned: what the sensitivity of layers to pruning is
//! measured on (Li et al. 2017, section 3.1; Han et al. 2015, section 3.3).

use optc_ir::Graph;

use super::importance::Criterion;
use super::prune_filters::PruneFilters;
use super::prune_magnitude::{PruneMagnitude, prunable};
use crate::analysis::channels::{remove, unshare};
use crate::error::{OptionError, PassError};
use crate::pass::PassCx;
use crate::selector::Selection;

/// In whose name errors are reported.
const NAME: &str = "sensitivity";

/// What is taken away from a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// The channels that matter least, with all that goes with them, as by `prune-filters`.
    Filters(Ranking),
    /// The smallest weights, as by `prune-magnitude`.
    Magnitude,
}

/// By what channels are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranking(Criterion);

impl Ranking {
    /// Reads the name of a criterion, as the option of `prune-filters` takes it.
    ///
    /// # Errors
    /// If there is no such criterion; the message lists those there are.
    pub fn parse(word: &str) -> Result<Ranking, OptionError> {
        let known = Criterion::WORDS.iter().find(|(name, _)| *name == word);
        known.map(|(_, criterion)| Ranking(*criterion)).ok_or_else(|| {
            let names: Vec<&str> = Criterion::WORDS.iter().map(|(name, _)| *name).collect();
            OptionError(format!("there is no criterion {word}; there are {}", names.join(", ")))
        })
    }
}

/// One variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Which variant this is, from 0, and how many there are.
    pub index: usize,
    /// See `index`.
    pub count: usize,
    /// The layer that is pruned; the first of several whose channels go together.
    pub layer: String,
    /// Further layers whose channels go with those of `layer`.
    pub with: Vec<String>,
    /// Channels, or weights, that there are.
    pub total: usize,
    /// How many of them stay.
    pub kept: usize,
    /// The fraction that was asked for, of which `total` may only allow less.
    pub ratio: f64,
}

/// Shows `visit` the graph with each layer pruned alone by each ratio, layer after layer in topological order.
///
/// # Errors
/// Of `visit`, and [`PassError`] if a criterion lacks data or a rule for removal is wrong.
pub fn sweep<E: From<PassError>>(
    graph: &Graph,
    sweep: Sweep,
    ratios: &[f64],
    selection: &Selection,
    cx: &mut PassCx<'_>,
    mut visit: impl FnMut(&Variant, &Graph) -> Result<(), E>,
) -> Result<(), E> {
    match sweep {
        Sweep::Filters(Ranking(criterion)) => {
            let mut work = graph.clone();
            unshare(&mut work);
            let pass = PruneFilters::keeping(1.0, criterion, 1, selection.clone());
            let groups = pass.groups(NAME, &work, cx)?;
            let scorer = pass.scorer(NAME, &work, &groups, cx)?;
            let eligible = pass.eligible(&work, &groups, &scorer, cx);
            for (i, &group) in eligible.iter().enumerate() {
                let mut names = groups.groups[group].producers.iter().map(|&(node, ..)| work.name(node).to_owned());
                let layer = names.next().unwrap_or_default();
                let mut with: Vec<String> = names.filter(|name| *name != layer).collect();
                with.dedup();
                for (k, &ratio) in ratios.iter().enumerate() {
                    let chosen = pass.choose(&work, &groups, &[group], ratio, &scorer);
                    let mut pruned = work.clone();
                    remove(&mut pruned, &groups, &chosen)
                        .map_err(|e| PassError::Graph { pass: NAME, message: e.to_string() })?;
                    pruned.gc();
                    let total = groups.groups[group].units.len() + groups.groups[group].kept;
                    let (index, count) = (i * ratios.len() + k, eligible.len() * ratios.len());
                    let (layer, with) = (layer.clone(), with.clone());
                    let variant = Variant { index, count, layer, with, total, kept: total - chosen.len(), ratio };
                    visit(&variant, &pruned)?;
                }
            }
        }
        Sweep::Magnitude => {
            let order = graph.topo_order();
            let mut layers = prunable(graph, selection);
            layers.sort_by_cached_key(|weight| order.iter().position(|&node| node == weight.layer()));
            for (i, weight) in layers.iter().enumerate() {
                for (k, &ratio) in ratios.iter().enumerate() {
                    let mut pruned = graph.clone();
                    PruneMagnitude::to_sparsity(ratio).zero(&mut pruned, std::slice::from_ref(weight), cx);
                    let total = weight.constant.len();
                    let kept = pruned.constant(weight.node).map_or(total, |constant| constant.nonzeros());
                    let (index, count) = (i * ratios.len() + k, layers.len() * ratios.len());
                    let layer = graph.name(weight.layer()).to_owned();
                    let variant = Variant { index, count, layer, with: Vec::new(), total, kept, ratio };
                    visit(&variant, &pruned)?;
                }
            }
        }
    }
    Ok(())
}
