//! Layers whose outputs have weights for few of every sixteen inputs, as those of N:M sparsity have: contractions that
//! pick what they multiply.

use optc_ir::{NodeId, ValueId};

use super::Planner;
use super::choose;
use super::conv::{FEW_CHANNELS, Window, computed_groups};
use crate::choice::{Algorithm, Candidate};
use crate::pack;
use crate::tile::LANES;
use crate::tile::contract::Picked;
use crate::tile::contract::picked::{WINDOW, slots};

/// Slots of a window from which on all products are computed as quickly.
const MOST_SLOTS: usize = 10;

/// How many times as many slots as outputs have weights, on the whole, are still few.
const UNEVEN: f64 = 1.3;

/// Points from which on their windows are worth what is picked of them; others are sparse products of few rows.
const LEAST_POINTS: usize = 4;

impl Planner<'_> {
    /// How many weights of each window outputs of a convolution have, if it is computed in blocks of channels and
    /// they are few; and what it costs.
    pub(super) fn picked_convolution(
        &self,
        node: NodeId,
        group: usize,
        window: &Window,
    ) -> Option<(Picked, Candidate)> {
        let w = self.graph.operand(node, 1)?;
        let [channels, outputs] = window.channels.map(|n| n / group);
        let ([images, _, rows, columns], taps) = (window.output(), window.taps());
        let points = images * rows * columns;
        let in_blocks = computed_groups(group, window.channels) == group && channels >= FEW_CHANNELS;
        if !in_blocks || rows * columns < LEAST_POINTS {
            return None;
        }
        let windows = channels.div_ceil(WINDOW) * taps;
        let picked = self.picked(w, outputs * group * windows, |weights, most| {
            // Of each block of channels of an output, how many weights each tap has.
            let counts = |block: &[f32]| {
                (0..taps).map(|tap| block[tap..].iter().step_by(taps).filter(|w| **w != 0.0).count()).max().unwrap_or(0)
            };
            let rows = weights.chunks_exact(channels * taps);
            slots(rows.flat_map(|row| row.chunks(WINDOW * taps)).map(counts), most)
        })?;
        Some((picked, candidate(picked, points, outputs.div_ceil(LANES) * group, windows)))
    }

    /// The same of the constant matrix of a layer of `m` rows, `n` outputs and `k` features.
    pub(super) fn picked_matrix(
        &self,
        w: ValueId,
        transposed: bool,
        [m, n, k]: [usize; 3],
    ) -> Option<(Picked, Candidate)> {
        if m < LEAST_POINTS {
            return None;
        }
        let windows = k.div_ceil(WINDOW);
        let picked = self.picked(w, n * windows, |weights, most| {
            if transposed {
                let rows = weights.chunks_exact(k).flat_map(|row| row.chunks(WINDOW));
                return slots(rows.map(|window| window.iter().filter(|w| **w != 0.0).count()), most);
            }
            let count = |rows: &[f32], o: usize| rows.iter().skip(o).step_by(n).filter(|w| **w != 0.0).count();
            slots(weights.chunks(WINDOW * n).flat_map(|rows| (0..n).map(move |o| count(rows, o))), most)
        })?;
        Some((picked, candidate(picked, m, n.div_ceil(LANES), windows)))
    }

    /// How many slots windows need, of which outputs have so many together, if they are few: `slots` is given the
    /// weights and the most that there may be.
    fn picked(&self, w: ValueId, windows: usize, slots: impl FnOnce(&[f32], usize) -> Option<usize>) -> Option<Picked> {
        let (constant, nonzeros) = (self.graph.constant(w)?, self.nonzeros(w)?);
        let most = (nonzeros as f64 / windows as f64 * UNEVEN).ceil() as usize;
        let most = most.min(MOST_SLOTS);
        if nonzeros > windows * MOST_SLOTS {
            return None;
        }
        let slots = pack::with_numbers(constant, |weights| slots(weights, most))??;
        Some(Picked { nonzeros, slots })
    }
}

fn candidate(picked: Picked, points: usize, vectors: usize, windows: usize) -> Candidate {
    let cycles = picked.cycles(points, vectors, windows).max(choose::reading(picked.bytes(vectors, windows)));
    Candidate { algorithm: Algorithm::NofM, cycles }
}
