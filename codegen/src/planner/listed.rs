//! Layers whose weights are zero in whole blocks of outputs: contractions by lists of what is left.

use optc_ir::op::Conv;
use optc_ir::{NodeId, ValueId};

use super::Planner;
use super::choose;
use super::conv::{Window, computed_groups};
use crate::choice::{Algorithm, Candidate};
use crate::pack;
use crate::tile::contract::Contract;
use crate::tile::contract::listed::{self, Choice, Footprint, Lists, Positions};

/// Registers that epilogues take, as a rule.
const TEMPORARIES: usize = 2;

/// The share of places left in blocks above which lists gain too little to be thought of.
const MOST: f64 = 0.75;

impl Window {
    /// What a tile of points reads, in so many groups.
    fn footprint(&self, groups: usize) -> Footprint {
        let axis = |axis: usize| {
            let axis = &self.axes[axis];
            ((axis.kernel - 1) * axis.dilation + 1, axis.stride)
        };
        let points = self.axes.map(|axis| axis.out);
        Footprint { images: self.images, channels: self.channels[0] / groups, points, window: [axis(0), axis(1)] }
    }

    /// Whether every point is that of the image in the same place.
    fn is_pointwise(&self) -> bool {
        self.axes.iter().all(|axis| axis.kernel == 1 && axis.stride == 1 && axis.out == axis.input)
    }
}

/// With the points of all rows in one.
fn flat(footprint: Footprint) -> Footprint {
    let [rows, columns] = footprint.points;
    Footprint { points: [1, rows * columns], window: [(1, 1); 2], ..footprint }
}

/// What a tile of rows reads of a matrix of so many rows and columns.
pub(super) fn rows_of_matrix(m: usize, k: usize) -> Footprint {
    Footprint { images: 1, channels: k, points: [1, m], window: [(1, 1); 2] }
}

impl Planner<'_> {
    /// Where blocks of outputs of a convolution have weights, if they have few enough for lists.
    pub(super) fn conv_positions(&self, node: NodeId, conv: &Conv, window: &Window) -> Option<Positions> {
        let w = self.graph.operand(node, 1)?;
        let constant = self.graph.constant(w)?;
        let per_group = window.channels.map(|n| n / conv.group);
        let groups = computed_groups(conv.group, window.channels);
        let depthwise = conv.group > 1 && per_group == [1, 1];
        let padded = constant.len() * conv.group / groups;
        if depthwise || self.nonzeros(w)? as f64 > MOST * padded as f64 {
            return None;
        }
        let [channels, outputs] = window.channels.map(|n| n / groups);
        let own = per_group[0] * window.taps();
        let positions = pack::with_numbers(constant, |weights| {
            Positions::of_rows([groups, outputs, channels * window.taps()], |group, o| {
                // The channels of an output's own group, where several are computed as one.
                let first = if groups == conv.group { 0 } else { o / per_group[1] * own };
                (first, &weights[(group * outputs + o) * own..][..own])
            })
        })?;
        (positions.share() <= MOST).then_some(positions)
    }

    /// The same of the constant matrix of a layer of `k` rows and `n` outputs.
    pub(super) fn matrix_positions(&self, w: ValueId, transposed: bool, [n, k]: [usize; 2]) -> Option<Positions> {
        let constant = self.graph.constant(w)?;
        if self.nonzeros(w)? as f64 > MOST * (n * k) as f64 {
            return None;
        }
        let positions = pack::with_numbers(constant, |weights| {
            if transposed {
                Positions::of_rows([1, n, k], |_, o| (0, &weights[o * k..][..k]))
            } else {
                Positions::of_columns(n, weights)
            }
        })?;
        (positions.share() <= MOST).then_some(positions)
    }

    /// A convolution by lists.
    pub(super) fn listed_convolution(&self, positions: &Positions, window: &Window) -> Candidate {
        let footprint = window.footprint(positions.groups);
        self.listed(positions, if window.is_pointwise() { flat(footprint) } else { footprint })
    }

    /// A contraction by lists.
    pub(super) fn listed(&self, positions: &Positions, footprint: Footprint) -> Candidate {
        Candidate {
            algorithm: Algorithm::Listed,
            cycles: self.tiling_of_lists(positions, &footprint, TEMPORARIES).cycles,
        }
    }

    fn tiling_of_lists(&self, positions: &Positions, footprint: &Footprint, temporaries: usize) -> Choice {
        listed::choose(positions, &self.target, footprint, temporaries, choose::reading)
    }

    /// A contraction of a convolution by lists; of each k, the place among `positions` is `places[k]`.
    pub(super) fn conv_by_lists(
        &self,
        mut contract: Contract,
        (positions, places, nonzeros): (&Positions, &[usize], usize),
        window: &Window,
    ) -> Option<(Contract, Lists)> {
        let footprint = window.footprint(contract.groups);
        let temporaries = contract.epilogue.temporaries();
        let choose = |footprint: &Footprint| self.tiling_of_lists(positions, footprint, temporaries);
        let mut choice = choose(&footprint);
        if contract.is_flat() {
            let other = choose(&flat(footprint));
            if other.cycles < choice.cycles {
                choice = other;
                (contract.rows, contract.columns) = (1, contract.rows * contract.columns);
            }
        }
        contract.by_lists(positions, places, nonzeros, choice)
    }

    /// A product with a constant matrix by lists.
    pub(super) fn matrix_by_lists(
        &self,
        contract: Contract,
        (positions, nonzeros): (&Positions, usize),
    ) -> Option<(Contract, Lists)> {
        let footprint = rows_of_matrix(contract.columns, positions.depth);
        let choice = self.tiling_of_lists(positions, &footprint, contract.epilogue.temporaries());
        let places: Vec<usize> = (0..positions.depth).collect();
        contract.by_lists(positions, &places, nonzeros, choice)
    }
}
