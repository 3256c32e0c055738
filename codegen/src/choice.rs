//! Which algorithm computes each layer whose weights are compressed, what else could, and why.
//!
//! The planner's cost model says so unless it is told otherwise: by what was measured on this host ([`crate::tune`]),
//! or by asking for one algorithm wherever it can be had.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A way to compute a layer. A new one also needs a modelled cost, in `planner/choose.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// With all weights, the zeros among them too: as a layer whose weights are not compressed.
    Dense,
    /// A sparse product, driven by a stream of weights and of places.
    Spmm,
    /// A sparse product, the pattern of the weights in its code.
    SpmmUnrolled,
    /// A sparse product of few rows, whose lanes are outputs.
    Spmv,
    /// A product by lists of the places where blocks of outputs have weights.
    Listed,
    /// A product whose outputs pick what they have weights for, which is few of every sixteen inputs: of N:M sparsity.
    NofM,
    /// A product with codes that stand for weights, or for several of them.
    Codes,
    /// A product of signs: of bits.
    Signs,
}

impl Algorithm {
    /// All there are.
    pub const ALL: [Algorithm; 8] = [
        Algorithm::Dense,
        Algorithm::Spmm,
        Algorithm::SpmmUnrolled,
        Algorithm::Spmv,
        Algorithm::Listed,
        Algorithm::NofM,
        Algorithm::Codes,
        Algorithm::Signs,
    ];

    /// Whether it computes images in blocks of channels, as layers whose weights are not compressed are.
    pub(crate) fn is_in_blocks(self) -> bool {
        !matches!(self, Algorithm::Spmm | Algorithm::SpmmUnrolled)
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Dense => "dense",
            Algorithm::Spmm => "spmm",
            Algorithm::SpmmUnrolled => "spmm_jit",
            Algorithm::Spmv => "spmv",
            Algorithm::Listed => "listed",
            Algorithm::NofM => "n:m",
            Algorithm::Codes => "codes",
            Algorithm::Signs => "xnor",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An algorithm that can compute a layer, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Cycles, modelled or measured: a cycle is what one thread takes to multiply and add one vector.
    pub cycles: f64,
}

/// Why an algorithm was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No other can compute the layer.
    Only,
    /// It takes the fewest cycles by the cost model.
    Fewest,
    /// It takes the fewest cycles by what was measured.
    Measured,
    /// Another would take fewer cycles, but not with the conversions between layouts that it would need.
    Conversions,
    /// No other was admitted.
    Admitted,
    /// Another was chosen, but values can't lie as it needs them.
    Unfit,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Only => "nothing else can compute it",
            Reason::Fewest => "fewest cycles by the cost model",
            Reason::Measured => "fewest cycles measured",
            Reason::Conversions => "fewest cycles with conversions between layouts",
            Reason::Admitted => "no other was admitted",
            Reason::Unfit => "values can't lie as the others need them",
        })
    }
}

/// The choice for a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The node that has the weights.
    pub layer: String,
    /// Its weights, zeros included.
    pub weights: usize,
    /// Those that are not zero.
    pub nonzeros: usize,
    /// What computes it.
    pub chosen: Algorithm,
    /// Why.
    pub reason: Reason,
    /// What could compute it, the cheapest first.
    pub candidates: Vec<Candidate>,
}

impl Choice {
    /// The share of weights that are zero.
    pub fn sparsity(&self) -> f64 {
        if self.weights == 0 { 0.0 } else { 1.0 - self.nonzeros as f64 / self.weights as f64 }
    }

    /// Cycles of an algorithm, if it can compute the layer.
    pub fn cycles(&self, algorithm: Algorithm) -> Option<f64> {
        self.candidates.iter().find(|candidate| candidate.algorithm == algorithm).map(|candidate| candidate.cycles)
    }
}

/// One line: the layer, its algorithm, its candidates with their cycles, and the reason.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, {:.1} % zeros; ", self.layer, self.chosen, 100.0 * self.sparsity())?;
        for (i, Candidate { algorithm, cycles }) in self.candidates.iter().enumerate() {
            write!(f, "{}{algorithm} {cycles:.0}", if i == 0 { "" } else { ", " })?;
        }
        write!(f, " cycles; {}", self.reason)
    }
}

/// Modelled cycles of the layers that had a choice, conversions between layouts included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Modelled {
    /// As chosen.
    pub chosen: f64,
    /// If all of them were dense.
    pub dense: f64,
}

/// Who chooses.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Selection {
    /// The cost model.
    #[default]
    Modelled,
    /// What was measured; the cost model where nothing was.
    Measured(Arc<Measured>),
    /// This one, wherever it can compute a layer of compressed weights. [`Algorithm::Dense`] can compute all, and
    /// is then what computes every other layer too.
    Always(Algorithm),
}

/// Cycles of algorithms, measured layer by layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    cycles: BTreeMap<String, BTreeMap<Algorithm, f64>>,
}

impl Measured {
    /// Notes what was measured.
    pub fn add(&mut self, layer: &str, algorithm: Algorithm, cycles: f64) {
        self.cycles.entry(layer.to_owned()).or_default().insert(algorithm, cycles);
    }

    /// What was measured for an algorithm in a layer.
    pub fn cycles(&self, layer: &str, algorithm: Algorithm) -> Option<f64> {
        self.cycles.get(layer)?.get(&algorithm).copied()
    }
}
