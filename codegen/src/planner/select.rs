//! The candidates of layers as whoever chooses sees them, and what comes of it.

use std::collections::HashSet;

use optc_ir::{Constant, Graph, NodeId, Op};

use super::Planner;
use super::sparse::is_sparse;
use crate::choice::{Algorithm, Candidate, Choice, Measured, Modelled, Reason, Selection};

/// Choices under construction.
#[derive(Default)]
pub(super) struct Choices {
    made: Vec<(NodeId, Choice)>,
    /// Layers whose choice is one of layouts as chosen and in blocks, conversions included.
    pub(super) layouts: Modelled,
    /// Those of them that are matrix products, or may be.
    pub(super) in_layouts: HashSet<NodeId>,
    /// Layers that could not be planned as chosen.
    unfit: HashSet<NodeId>,
}

impl Choices {
    /// Notes whether a layer could be planned as chosen.
    pub(super) fn planned(&mut self, node: NodeId, as_chosen: bool) {
        if as_chosen {
            self.unfit.remove(&node)
        } else {
            self.unfit.insert(node)
        };
    }

    /// What was chosen for a layer, if anything was.
    pub(super) fn chosen(&self, node: NodeId) -> Option<Algorithm> {
        self.made.iter().find(|(other, _)| *other == node).map(|(_, choice)| choice.chosen)
    }

    /// The choices in the order of the graph, and cycles of all.
    pub(super) fn finish(mut self, graph: &Graph) -> (Vec<Choice>, Modelled) {
        let mut modelled = self.layouts;
        let order = graph.topo_order();
        let place = |node: &NodeId| order.iter().position(|other| other == node);
        self.made.sort_by_cached_key(|(node, _)| place(node));
        for (node, choice) in &mut self.made {
            if self.unfit.contains(node) {
                (choice.chosen, choice.reason) = (Algorithm::Dense, Reason::Unfit);
            }
            if self.in_layouts.contains(node) {
                continue;
            }
            if !matches!(graph.op(*node), Op::Conv(_)) {
                let dense = choice.cycles(Algorithm::Dense).unwrap_or(0.0);
                modelled.chosen += choice.cycles(choice.chosen).unwrap_or(dense);
                modelled.dense += dense;
            }
        }
        (self.made.into_iter().map(|(_, choice)| choice).collect(), modelled)
    }
}

impl Planner<'_> {
    /// The candidates of a layer, the cheapest first: with the cycles measured, if all were measured, and only the
    /// one asked for, if it is among them.
    pub(super) fn admitted(&self, node: NodeId, sparse: bool, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        match self.selection {
            Selection::Modelled => {}
            Selection::Measured(measured) => {
                let layer = self.graph.name(node);
                let cycles = |candidate: &Candidate| measured.cycles(layer, candidate.algorithm);
                if let Some(cycles) = candidates.iter().map(cycles).collect::<Option<Vec<f64>>>() {
                    candidates.iter_mut().zip(cycles).for_each(|(candidate, cycles)| candidate.cycles = cycles);
                }
            }
            Selection::Always(algorithm) => {
                let is_asked = |candidate: &Candidate| candidate.algorithm == *algorithm;
                if (sparse || *algorithm == Algorithm::Dense) && candidates.iter().any(is_asked) {
                    candidates.retain(is_asked);
                }
            }
        }
        candidates.sort_by(|a, b| a.cycles.total_cmp(&b.cycles));
        candidates
    }

    /// Notes what was chosen among the candidates of a layer, the cheapest first, if its weights are compressed or
    /// it would be computed otherwise alone.
    pub(super) fn choose(
        &mut self,
        node: NodeId,
        (weights, nonzeros): (&Constant, usize),
        candidates: Vec<Candidate>,
        chosen: Algorithm,
    ) {
        let len = weights.len();
        if !is_compressed(weights, nonzeros) && chosen == Algorithm::Dense {
            return;
        }
        let layer = self.graph.name(node).to_owned();
        let all_measured =
            |measured: &Measured| candidates.iter().all(|c| measured.cycles(&layer, c.algorithm) == Some(c.cycles));
        let reason = match (self.selection, candidates.as_slice()) {
            (Selection::Always(asked), [only]) if only.algorithm == *asked => Reason::Admitted,
            (_, [_]) => Reason::Only,
            (_, [first, ..]) if first.algorithm != chosen => Reason::Conversions,
            (Selection::Measured(cycles), _) if all_measured(cycles) => Reason::Measured,
            _ => Reason::Fewest,
        };
        let choice = Choice { layer, weights: len, nonzeros, chosen, reason, candidates };
        self.choices.made.retain(|(other, _)| *other != node);
        self.choices.made.push((node, choice));
    }
}

/// Whether weights are compressed: mostly zero, or encoded.
pub(super) fn is_compressed(weights: &Constant, nonzeros: usize) -> bool {
    weights.as_dense().is_none() || is_sparse(nonzeros, weights.len())
}
