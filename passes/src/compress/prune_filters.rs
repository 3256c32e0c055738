//! Removes the least important channels, with everything that goes with them.
//!
//! | option | what it decides |
//! |---|---|
//! | `criterion` | what importance is: `l1` (Li et al. 2017), `l2`, `geometric-median`, `bn-scale`, `activation`, `apoz`, `random` |
//! | `ratio` | the fraction of channels removed |
//! | `ratios` | other fractions for some layers: `[[conv1, 0.3], [re:^/head/, 0]]`; the first that matches counts |
//! | `macs`, `params` | instead: the fraction of multiply-accumulates or parameters that may stay |
//! | `scope` | what the fraction is of: each group of channels (`layer`), all channels, compared by scores relative to the mean of their group (`global`), or all groups of like layers (`isomorphic`) |
//! | `greedy` | layer by layer, leaving out the weights of channels removed before (Li et al. 2017, section 3.2) |
//! | `consumers` | whether the weights that read a channel count, too |
//! | `round-to` | the channels left of a group are a multiple of this |
//! | `samples` | the most samples that `activation` and `apoz` are measured on |
//!
//! A channel is a unit of [`ChannelGroups`]: the channels of all layers of a residual stage, a head with its
//! queries, keys and values. A fraction `p` of the channels is about `1 − (1 − p)²` of the weights. Of equal
//! scores the one that comes first goes first. No group and no axis is emptied. Of heads and the places within
//! them only heads go. Of a convolution by groups whole groups go, or as many channels of every group, whichever
//! there are more of; of each group those that matter least, wherever they are.
//!
//! **Applies to** groups whose channels are made by constant floating-point weights. What blocks others is said,
//! with the node that does.
//!
//! Lossy: the function changes.

use std::collections::BTreeMap;

use optc_ir::op::{Attr, AttrValue};
use optc_ir::{Graph, NodeId};

use super::importance::{Criterion, Scorer};
use crate::analysis::Cost;
use crate::analysis::channels::{Alignment, ChannelGroups, Group, UnitId, remove, unshare};
use crate::error::{OptionError, PassError};
use crate::options::{Options, Written};
use crate::pass::{Analysis, Effect, Pass, PassCx};
use crate::selector::{Selection, Selector};

/// The fraction of channels removed unless told otherwise.
const RATIO: f64 = 0.5;

/// Samples measured on unless told otherwise.
pub(super) const SAMPLES: usize = 64;

/// Halvings of the interval in which the ratio for a target lies.
const MAX_ROUNDS: usize = 10;

/// The pass; see the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PruneFilters {
    criterion: Criterion,
    goal: Goal,
    ratios: Vec<(Selector, f64)>,
    scope: Scope,
    greedy: bool,
    consumers: bool,
    round_to: usize,
    samples: Option<usize>,
    selection: Selection,
}

/// How much is removed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    Ratio(f64),
    Macs(f64),
    Params(f64),
}

impl Default for Goal {
    fn default() -> Goal {
        Goal::Ratio(RATIO)
    }
}

/// Which channels compete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scope {
    #[default]
    Layer,
    Global,
    Isomorphic,
}

const SCOPES: [(&str, Scope); 3] =
    [("layer", Scope::Layer), ("global", Scope::Global), ("isomorphic", Scope::Isomorphic)];

impl PruneFilters {
    /// Keeps the fraction `alpha` of the channels of every group.
    pub(super) fn keeping(alpha: f64, criterion: Criterion, round_to: usize, selection: Selection) -> PruneFilters {
        PruneFilters { criterion, goal: Goal::Ratio(1.0 - alpha), round_to, selection, ..PruneFilters::default() }
    }

    /// Reads the options of the module's table, and `only` and `protect`.
    ///
    /// # Errors
    /// If an option is out of range, or several say how much is removed.
    pub fn from_options(options: &mut Options) -> Result<PruneFilters, OptionError> {
        let criterion = options.take_word("criterion", &Criterion::WORDS)?.unwrap_or_default();
        let ratio = options.take_within("ratio", 0.0, 1.0)?;
        let ratios = ratios(options)?;
        let macs = options.take_within("macs", 0.0, 1.0)?;
        let params = options.take_within("params", 0.0, 1.0)?;
        let scope = options.take_word("scope", &SCOPES)?.unwrap_or_default();
        let greedy = options.take_or("greedy", false)?;
        let consumers = options.take_or("consumers", false)?;
        let round_to = options.take_within("round-to", 1, 1 << 16)?.unwrap_or(1);
        let samples = options.take_within("samples", 1, usize::MAX)?;
        let selection = options.take_selection()?;
        let goal = match (ratio, macs, params) {
            (ratio, None, None) => Goal::Ratio(ratio.unwrap_or(RATIO)),
            (None, Some(macs), None) => Goal::Macs(macs),
            (None, None, Some(params)) => Goal::Params(params),
            _ => return Err(options.invalid("ratio", "can't be given with macs or params: choose one")),
        };
        if greedy && scope != Scope::Layer {
            return Err(options.invalid("greedy", "goes layer by layer: it needs scope=layer"));
        }
        if (greedy || consumers) && !criterion.is_of_weights() {
            let key = if greedy { "greedy" } else { "consumers" };
            return Err(options.invalid(key, "is about scores made of weights: l1, l2 or geometric-median"));
        }
        if samples.is_some() && !criterion.is_measured() {
            return Err(options.invalid("samples", "is about scores from data: activation or apoz"));
        }
        if !ratios.is_empty() && (scope != Scope::Layer || !matches!(goal, Goal::Ratio(_))) {
            return Err(options.invalid("ratios", "are of single layers: they need scope=layer and no target"));
        }
        Ok(PruneFilters { criterion, goal, ratios, scope, greedy, consumers, round_to, samples, selection })
    }

    /// Removes what the options say, under the name of the pass that asks.
    pub(super) fn prune(&self, name: &'static str, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let mut work = graph.clone();
        unshare(&mut work);
        let groups = self.groups(name, &work, cx)?;
        let fail = |message: String| PassError::Graph { pass: name, message };
        let scorer = self.scorer(name, &work, &groups, cx)?;
        let eligible = self.eligible(&work, &groups, &scorer, cx);
        let chosen = match self.goal {
            Goal::Ratio(ratio) => self.choose(&work, &groups, &eligible, ratio, &scorer),
            Goal::Macs(_) | Goal::Params(_) => self.search(&work, &groups, &eligible, &scorer, cx).map_err(fail)?,
        };
        report(&work, &groups, &eligible, &chosen, cx);
        if !chosen.is_empty() {
            remove(&mut work, &groups, &chosen).map_err(|e| fail(e.to_string()))?;
            *graph = work;
        }
        Ok(())
    }

    /// The groups of a graph, with the channels of convolutions by groups in the order of their scores.
    pub(super) fn groups(
        &self,
        name: &'static str,
        graph: &Graph,
        cx: &PassCx<'_>,
    ) -> Result<ChannelGroups, PassError> {
        let by_place = ChannelGroups::of(graph);
        let score = |free: &ChannelGroups| Ok(self.scorer(name, graph, free, cx)?.scores(&vec![false; free.len()]));
        let alignment = Alignment::by::<PassError>(graph, &by_place, score)?;
        Ok(if alignment.is_empty() { by_place } else { ChannelGroups::aligned(graph, &alignment) })
    }

    pub(super) fn scorer<'a>(
        &self,
        name: &'static str,
        graph: &'a Graph,
        groups: &'a ChannelGroups,
        cx: &PassCx<'_>,
    ) -> Result<Scorer<'a>, PassError> {
        let ranking = (self.criterion, self.consumers);
        Scorer::new(name, (graph, groups), ranking, self.samples.unwrap_or(SAMPLES), cx)
    }

    /// The groups that may be pruned. Says why others may not.
    pub(super) fn eligible(
        &self,
        graph: &Graph,
        groups: &ChannelGroups,
        scorer: &Scorer<'_>,
        cx: &mut PassCx<'_>,
    ) -> Vec<usize> {
        let measured = scorer.scores(&vec![false; groups.len()]);
        let instead = groups.instead(graph);
        let mut eligible = Vec::new();
        for (i, group) in groups.groups.iter().enumerate() {
            let Some(&(made, slot, _)) = group.producers.first() else { continue };
            if !self.selected(graph, group) {
                continue;
            }
            if let Some(blocker) = group.blocker {
                let (kept, total) = (group.kept, group.kept + group.units.len());
                let text = format!("{kept} of {total} channels stay: {} {}", graph.name(blocker.node), blocker.reason);
                cx.missed(graph, made, text);
            }
            if group.units.len() < 2 || instead.contains_key(&i) {
                continue;
            }
            if graph.constant_operand(made, slot).is_none() {
                cx.missed(graph, made, "the weights are not constant");
            } else if group.units.iter().any(|unit| measured[unit.index()].is_none_or(f64::is_nan)) {
                cx.missed(graph, made, format_args!("nothing to rank its channels by {}", self.criterion.word()));
            } else {
                eligible.push(i);
            }
        }
        eligible
    }

    /// If `only` is given, it must name a layer that makes the channels, and `protect` must name none.
    fn selected(&self, graph: &Graph, group: &Group) -> bool {
        let any = |s: &crate::Selector| group.producers.iter().any(|&(node, ..)| s.matches(graph, node));
        self.selection.only.as_ref().is_none_or(any) && !self.selection.protect.as_ref().is_some_and(any)
    }

    /// The units to remove, those that matter least first.
    pub(super) fn choose(
        &self,
        graph: &Graph,
        groups: &ChannelGroups,
        eligible: &[usize],
        ratio: f64,
        scorer: &Scorer<'_>,
    ) -> Vec<UnitId> {
        let mut removed = vec![false; groups.len()];
        let mut chosen: Vec<UnitId> = Vec::new();
        let mut score = scorer.scores(&removed);
        let pools: Vec<Vec<usize>> = match self.scope {
            Scope::Layer => eligible.iter().map(|&group| vec![group]).collect(),
            Scope::Global => vec![eligible.to_vec()],
            Scope::Isomorphic => {
                let mut alike: BTreeMap<Vec<String>, Vec<usize>> = BTreeMap::new();
                eligible.iter().for_each(|&i| alike.entry(kind(graph, &groups.groups[i])).or_default().push(i));
                alike.into_values().collect()
            }
        };
        for pool in pools {
            if self.greedy && !chosen.is_empty() {
                score = scorer.scores(&removed);
            }
            let of = |unit: UnitId| score[unit.index()].unwrap_or(0.0);
            let mut ranked: Vec<(f64, UnitId)> = Vec::new();
            for &group in &pool {
                let units = &groups.groups[group].units;
                let mean = units.iter().map(|&unit| of(unit)).sum::<f64>() / units.len() as f64;
                let scale = if self.scope == Scope::Global && mean > 0.0 { mean } else { 1.0 };
                ranked.extend(units.iter().map(|&unit| (of(unit) / scale, unit)));
            }
            ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let ratio = match pool.as_slice() {
                &[only] => self.ratio_of(graph, &groups.groups[only]).unwrap_or(ratio),
                _ => ratio,
            };
            // A ratio that was subtracted from one must not lose a channel to rounding.
            let count = (ratio * ranked.len() as f64 + 1e-9) as usize;
            let goes: Vec<UnitId> = ranked[..count].iter().map(|&(_, unit)| unit).collect();
            for &group in &pool {
                let goes = goes.iter().copied().filter(|&unit| groups.group_of(unit) == group);
                for unit in self.rounded(&groups.groups[group], goes.collect()) {
                    removed[unit.index()] = true;
                    chosen.push(unit);
                }
            }
        }
        groups.spare(&chosen)
    }

    /// The fraction that was given for a group alone.
    fn ratio_of(&self, graph: &Graph, group: &Group) -> Option<f64> {
        let named = |s: &Selector| group.producers.iter().any(|&(node, ..)| s.matches(graph, node));
        self.ratios.iter().find(|(selector, _)| named(selector)).map(|&(_, ratio)| ratio)
    }

    /// Without the last few of the units of a group, so that a multiple stays, and at least one does.
    fn rounded(&self, group: &Group, mut goes: Vec<UnitId>) -> Vec<UnitId> {
        let total = group.units.len() + group.kept;
        let round_to = self.round_to.max(1);
        let stays = (total - goes.len()).max(1).next_multiple_of(round_to);
        goes.truncate(total.saturating_sub(stays));
        goes
    }

    /// The smallest ratio that leaves no more than the target.
    fn search(
        &self,
        graph: &Graph,
        groups: &ChannelGroups,
        eligible: &[usize],
        scorer: &Scorer<'_>,
        cx: &PassCx<'_>,
    ) -> Result<Vec<UnitId>, String> {
        let measure = |graph: &Graph| {
            let total = Cost::of(graph).total;
            if matches!(self.goal, Goal::Macs(_)) { total.macs as f64 } else { total.params as f64 }
        };
        let (Goal::Macs(fraction) | Goal::Params(fraction) | Goal::Ratio(fraction)) = self.goal;
        let target = fraction * measure(graph);
        let (mut lo, mut hi) = (0.0, 1.0);
        let mut best = None;
        for round in 0..MAX_ROUNDS {
            cx.step(round, MAX_ROUNDS, "");
            let ratio = if round == 0 { 1.0 } else { (lo + hi) / 2.0 };
            let chosen = self.choose(graph, groups, eligible, ratio, scorer);
            let mut pruned = graph.clone();
            remove(&mut pruned, groups, &chosen).map_err(|e| e.to_string())?;
            let cost = measure(&pruned);
            if cost <= target {
                (hi, best) = (ratio, Some(chosen));
            } else if round == 0 {
                let percent = 100.0 * cost / measure(graph);
                return Err(format!("no more can be removed than leaves {percent:.1} %"));
            } else {
                lo = ratio;
            }
        }
        Ok(best.unwrap_or_default())
    }
}

impl Pass for PruneFilters {
    fn name(&self) -> &'static str {
        "prune-filters"
    }

    fn effect(&self) -> Effect {
        Effect::Lossy
    }

    fn options(&self) -> String {
        let written = Written::default().word("criterion", self.criterion.word(), "l1");
        let written = match self.goal {
            Goal::Ratio(ratio) => written.option("ratio", &ratio, &RATIO),
            Goal::Macs(macs) => written.value("macs", &macs.to_value()),
            Goal::Params(params) => written.value("params", &params.to_value()),
        };
        let pair = |(selector, ratio): &(Selector, f64)| AttrValue::List(vec![selector.to_value(), ratio.to_value()]);
        let written = match self.ratios.as_slice() {
            [] => written,
            ratios => written.value("ratios", &AttrValue::List(ratios.iter().map(pair).collect())),
        };
        let scope = SCOPES.iter().find(|(_, scope)| *scope == self.scope).map_or("layer", |(word, _)| word);
        written
            .word("scope", scope, "layer")
            .option("greedy", &self.greedy, &false)
            .option("consumers", &self.consumers, &false)
            .option("round-to", &self.round_to.max(1), &1)
            .option("samples", &self.samples.unwrap_or(SAMPLES), &SAMPLES)
            .selection(&self.selection)
            .finish()
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        self.prune(self.name(), graph, cx)
    }
}

/// The option `ratios`: pairs of a selector and a fraction.
fn ratios(options: &mut Options) -> Result<Vec<(Selector, f64)>, OptionError> {
    const EXPECTS: &str = "must be a list of [layers, fraction]";
    let pairs = match options.take_value("ratios") {
        None => return Ok(Vec::new()),
        Some(AttrValue::List(pairs)) => pairs,
        Some(_) => return Err(options.invalid("ratios", EXPECTS)),
    };
    let pair = |value: AttrValue| match value {
        AttrValue::List(pair) => match pair.as_slice() {
            [layers, fraction] => {
                let ratio = f64::from_value(fraction).filter(|ratio| (0.0..=1.0).contains(ratio));
                let ratio = ratio.ok_or_else(|| options.invalid("ratios", "must be within 0 and 1"))?;
                let selector = Selector::from_value(layers);
                Ok((selector.map_err(|message| options.invalid("ratios", message))?, ratio))
            }
            _ => Err(options.invalid("ratios", EXPECTS)),
        },
        _ => Err(options.invalid("ratios", EXPECTS)),
    };
    pairs.into_iter().map(pair).collect()
}

/// What a group is like: its layers by operator and by the extents of their kernels.
fn kind(graph: &Graph, group: &Group) -> Vec<String> {
    let layer = |&(node, slot, _): &(NodeId, usize, usize)| {
        let shape = graph.operand(node, slot).and_then(|w| graph.ty(w).shape()).unwrap_or_default();
        let kernel: Vec<String> = shape.iter().skip(2).map(ToString::to_string).collect();
        format!("{} {}", graph.op(node).name(), kernel.join("×"))
    };
    let mut layers: Vec<String> = group.producers.iter().map(layer).collect();
    layers.sort();
    layers.dedup();
    layers
}

/// Says of each group what stays.
fn report(graph: &Graph, groups: &ChannelGroups, eligible: &[usize], chosen: &[UnitId], cx: &mut PassCx<'_>) {
    let mut counts = vec![0; groups.groups.len()];
    chosen.iter().for_each(|&unit| counts[groups.group_of(unit)] += 1);
    for &i in eligible {
        let group = &groups.groups[i];
        let total = group.units.len() + group.kept;
        let Some((&(node, ..), others)) = group.producers.split_first() else { continue };
        if counts[i] == 0 {
            cx.missed(graph, node, format_args!("all {total} channels stay"));
            continue;
        }
        let with = match others.len() {
            0 => String::new(),
            1 => format!(", with those of {}", graph.name(others[0].0)),
            n => format!(", with those of {} and {} more", graph.name(others[0].0), n - 1),
        };
        cx.applied(graph, node, format_args!("kept {} of {total} channels{with}", total - counts[i]));
    }
}
