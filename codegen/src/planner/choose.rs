//! The cost model: which algorithm computes a layer, and whether layers are computed in blocks of channels or in
//! planes.
//!
//! A cycle is what multiplying and adding one vector takes where nothing else is to be done. Numbers are of
//! processors that load one vector for each they multiply, and need two loads for one across cache lines.

use crate::choice::{Algorithm, Candidate};
use crate::target::Vectors;
use crate::tile::LANES;
use crate::tile::bytes::HALF;
use crate::tile::spmv::{Form, MAX_ROWS, Spmv, WINDOW};

/// Cycles of one vector product in blocks: tiles begin and end.
pub(super) const DENSE: f64 = 1.06;

/// Cycles of a vector of elements brought from one layout to another.
pub(super) const CONVERSION: f64 = 6.0;

/// Bytes of constants that stay in a processor's own caches from one run to the next, as a rule.
const CACHED: usize = 2 << 20;

/// Cycles in which constants of so many bytes come to the processor.
pub(super) fn reading(bytes: usize) -> f64 {
    bytes as f64 / if bytes > CACHED { 4.0 } else { 24.0 }
}

/// Cycles of a dense product of `m` rows with a constant matrix of `k` rows and `n` columns.
pub(super) fn dense_matrix([m, n, k]: [usize; 3]) -> f64 {
    ((m * k * n.div_ceil(LANES)) as f64 * DENSE).max(reading(k * n * 4))
}

/// A layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    /// Cycles in blocks.
    pub(super) blocks: f64,
    /// Cycles in planes, if it can be computed there.
    pub(super) planes: Option<f64>,
}

impl Layer {
    /// Whatever works in blocks in any case.
    pub(super) const IN_BLOCKS: Layer = Layer { blocks: 0.0, planes: None };

    fn cycles(&self, planes: bool) -> f64 {
        if planes { self.planes.unwrap_or(f64::INFINITY) } else { self.blocks }
    }
}

/// What reads a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) layer: usize,
    /// Whether it would make planes of its own from a value in either layout, at a cost that is the layer's.
    pub(super) split: bool,
}

/// An image that layers write and read.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) producer: usize,
    pub(super) readers: Vec<Reader>,
    /// Cycles of a conversion.
    pub(super) cycles: f64,
}

/// A sparse product in planes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub(super) images: usize,
    /// Channels of the result.
    pub(super) rows: usize,
    pub(super) nonzeros: usize,
    /// Vectors of positions in a plane.
    pub(super) vectors: usize,
    /// Planes read.
    pub(super) channels: usize,
    /// Elements of a window.
    pub(super) taps: usize,
    /// Whether x is read at whole vectors alone.
    pub(super) aligned: bool,
}

/// Bytes that the nearest cache keeps of x.
const NEAREST: f64 = 24e3;

/// Cycles for each vector of x that does not come from the nearest cache: one that products wait for, and one that
/// is loaded ahead of them.
const FAR: f64 = 2.4;
const FAR_AHEAD: f64 = 0.9;

/// Weights whose code stays in a processor's own caches from one run to the next, and cycles for each where they
/// are more: it is brought near before it runs.
const CACHED_CODE: usize = 20_000;
const COLD: f64 = 2.0;

/// Vectors of positions that are too few to pay for reading code.
const FEW: usize = 4;

/// Rows that share what the unrolled kernel loads.
const GROUP: usize = 28;

/// Registers of targets for which the pattern of weights goes into the code.
const MANY_REGISTERS: usize = 32;

/// Weights of a layer whose code is neither too long to be generated nor to be read for each run.
const UNROLLED: usize = 300_000;

impl Product {
    /// What can compute it on a target.
    pub(super) fn candidates(&self, vectors: Vectors) -> Vec<Candidate> {
        let mut candidates = vec![Candidate { algorithm: Algorithm::Spmm, cycles: self.cycles() }];
        if vectors.registers() >= MANY_REGISTERS && self.nonzeros <= UNROLLED && self.vectors >= FEW {
            candidates.push(Candidate { algorithm: Algorithm::SpmmUnrolled, cycles: self.unrolled_cycles() });
        }
        candidates
    }

    /// Cycles of the kernel that is driven by data.
    fn cycles(&self) -> f64 {
        const CHUNK: usize = 8;
        let tiles = self.vectors.div_ceil(CHUNK);
        let chunk = self.vectors as f64 / tiles as f64;
        let near = self.channels as f64 * chunk * 64.0 < NEAREST;
        let load = match self.aligned {
            _ if !near => FAR,
            true => 1.0,
            false => 1.5,
        };
        let weight = (chunk * load + 0.8).max(1.5);
        let row = 20.0 + 4.0 * chunk;
        let products = (self.images * tiles) as f64 * (self.nonzeros as f64 * weight + self.rows as f64 * row);
        products.max(reading(self.nonzeros * 8))
    }

    /// Cycles of the kernel that has the pattern of weights in its code.
    fn unrolled_cycles(&self) -> f64 {
        let groups = self.rows.div_ceil(GROUP) as f64;
        let depth = (self.channels * self.taps) as f64;
        // Of independent rows, how many k at least one has a weight for.
        let density = self.nonzeros as f64 / (depth * self.rows as f64);
        let loads = groups * depth * (1.0 - (1.0 - density).powf(self.rows as f64 / groups));
        let near = self.channels as f64 * 64.0 < NEAREST;
        let load = match self.aligned {
            _ if !near => FAR_AHEAD,
            true => 0.1,
            false => 0.55,
        };
        let vector = self.nonzeros as f64 * 1.02 + loads * load + self.rows as f64 * 5.0;
        // Code is read once a run from further away, unless there is little of it.
        let cold = self.nonzeros as f64 * if self.nonzeros > CACHED_CODE { COLD } else { 1.0 };
        (self.images * self.vectors) as f64 * vector + cold
    }
}

/// The candidate of fewest cycles.
pub(super) fn cheapest<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by(|a, b| a.cycles.total_cmp(&b.cycles)).copied()
}

/// Tiles of rows that read all weights of a sparse product one after the other, at most.
const MAX_TILES: usize = 4;

/// A sparse product with few rows, whose lanes are outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct FewRows {
    /// Rows, in a grid.
    pub(super) rows: [usize; 2],
    pub(super) outputs: usize,
    pub(super) depth: usize,
    pub(super) nonzeros: usize,
    /// How weights are kept.
    pub(super) form: Form,
    pub(super) vectors: Vectors,
}

impl FewRows {
    /// Slots, about, of weights anywhere: for every sixteen elements some lane is a slot behind.
    fn slots(&self) -> f64 {
        let behind = (self.outputs * self.depth / LANES).min(2 * LANES * self.nonzeros);
        (self.nonzeros + behind) as f64 / LANES as f64
    }

    /// The kernel, if rows are few and as long as windows.
    pub(super) fn candidate(&self) -> Option<Candidate> {
        let few = self.rows[0] * self.rows[1] <= MAX_ROWS * MAX_TILES;
        let (algorithm, cycles) = (Algorithm::Spmv, self.cycles());
        (few && self.depth >= WINDOW).then_some(Candidate { algorithm, cycles })
    }

    fn cycles(&self) -> f64 {
        let slots = self.slots();
        let bytes = match self.form {
            Form::Numbers => 76.0,
            Form::Codes => 22.7,
            Form::Bytes(_) => 28.0,
        };
        // Where a vector is one register, rows share what is done for each slice and slot.
        let (slice, slot, other_slice, other_slot) = match (self.vectors.parts(), self.form) {
            (1, Form::Numbers) => (50.0, 2.8, 20.0, 2.2),
            (1, Form::Codes) => (50.0, 3.2, 20.0, 2.2),
            (1, Form::Bytes(..=HALF)) => (60.0, 4.6, 20.0, 2.2),
            (1, Form::Bytes(_)) => (70.0, 6.0, 20.0, 2.2),
            (2, Form::Numbers) => (60.0, 9.0, 60.0, 9.0),
            (2, _) => (60.0, 17.0, 60.0, 17.0),
            (_, Form::Numbers) => (60.0, 31.0, 60.0, 31.0),
            (_, _) => (60.0, 58.0, 60.0, 58.0),
        };
        let tile: usize = Spmv::tile(self.rows, self.vectors).iter().product();
        let tiles = (self.rows[0] * self.rows[1] / tile) as f64;
        let others = (tile - 1) as f64;
        let slices = self.outputs.div_ceil(LANES) as f64;
        let work = tiles * (slots * (slot + others * other_slot) + slices * (slice + others * other_slice));
        work.max(reading((slots * bytes) as usize))
    }
}

/// Passes over all layers; each makes the whole cheaper, so that few are needed.
const PASSES: usize = 16;

/// For each layer whether it is computed in planes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layouts {
    pub(super) planes: Vec<bool>,
    /// Cycles of all layers and conversions: so, and with everything in blocks.
    pub(super) cycles: f64,
    pub(super) in_blocks: f64,
}

/// Chooses layouts: from what is cheaper for each layer by itself, layer by layer the other way while that makes
/// the whole cheaper; or all in blocks, if that does not.
pub(super) fn choose(layers: &[Layer], values: &[Value]) -> Layouts {
    let alone: Vec<bool> =
        layers.iter().map(|layer| layer.planes.is_some_and(|cycles| cycles < layer.blocks)).collect();
    let blocks = vec![false; layers.len()];
    let in_blocks = total(layers, values, &blocks);
    let planes = improve(layers, values, alone);
    let cycles = total(layers, values, &planes);
    if cycles < in_blocks || in_blocks.is_infinite() {
        Layouts { planes, cycles, in_blocks }
    } else {
        Layouts { planes: blocks, cycles: in_blocks, in_blocks }
    }
}

/// Cycles of all layers and conversions.
fn total(layers: &[Layer], values: &[Value], planes: &[bool]) -> f64 {
    let layer = |(layer, planes): (&Layer, &bool)| layer.cycles(*planes);
    layers.iter().zip(planes).map(layer).sum::<f64>() + values.iter().map(|value| value.conversion(planes)).sum::<f64>()
}

/// Lets layers go the other way, one by one, while that makes the whole cheaper.
fn improve(layers: &[Layer], values: &[Value], mut planes: Vec<bool>) -> Vec<bool> {
    let mut touching: Vec<Vec<usize>> = vec![Vec::new(); layers.len()];
    for (i, value) in values.iter().enumerate() {
        let readers = value.readers.iter().map(|reader| reader.layer);
        for layer in readers.chain([value.producer]) {
            if touching[layer].last() != Some(&i) {
                touching[layer].push(i);
            }
        }
    }
    let cost = |planes: &[bool], layer: usize| {
        layers[layer].cycles(planes[layer])
            + touching[layer].iter().map(|&value| values[value].conversion(planes)).sum::<f64>()
    };
    for _ in 0..PASSES {
        let mut changed = false;
        for layer in (0..layers.len()).filter(|&layer| layers[layer].planes.is_some()) {
            let now = cost(&planes, layer);
            planes[layer] = !planes[layer];
            if cost(&planes, layer) < now {
                changed = true;
            } else {
                planes[layer] = !planes[layer];
            }
        }
        if !changed {
            break;
        }
    }
    planes
}

impl Value {
    /// Cycles of the conversion that its readers need.
    fn conversion(&self, planes: &[bool]) -> f64 {
        let from = planes[self.producer];
        let other = |reader: &Reader| planes[reader.layer] != from && !(planes[reader.layer] && reader.split);
        if self.readers.iter().any(other) { self.cycles } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn layer(blocks: f64, planes: f64) -> Layer {
        Layer { blocks, planes: Some(planes) }
    }

    fn chain(layers: &[Layer], cycles: f64) -> Vec<bool> {
        let value = |i| Value { producer: i, readers: vec![Reader { layer: i + 1, split: false }], cycles };
        choose(layers, &(0..layers.len() - 1).map(value).collect::<Vec<Value>>()).planes
    }

    #[test]
    fn conversions_must_pay() {
        let fixed = Layer { blocks: 5.0, planes: None };
        assert_eq!(chain(&[fixed, layer(10.0, 5.0), fixed], 1.0), [false, true, false]);
        assert_eq!(chain(&[fixed, layer(10.0, 5.0), fixed], 3.0), [false, false, false]);
        // A layer that is dearer in planes stays there between two that gain much.
        let gains = layer(10.0, 1.0);
        assert_eq!(chain(&[gains, layer(2.0, 3.0), gains], 1.0), [true, true, true]);
        assert_eq!(chain(&[gains, layer(2.0, 5.0), gains], 1.0), [true, false, true]);
    }

    #[test]
    fn one_conversion_serves_all_readers() {
        let layers = [layer(9.0, 9.5), layer(9.0, 7.0), layer(9.0, 7.0)];
        let readers = [1, 2].map(|layer| Reader { layer, split: false });
        let value = Value { producer: 0, readers: readers.to_vec(), cycles: 3.0 };
        assert_eq!(choose(&layers, &[value]).planes, [true, true, true]);
        let readers = [1, 2].map(|layer| Reader { layer, split: true });
        let value = Value { producer: 0, readers: readers.to_vec(), cycles: 3.0 };
        assert_eq!(choose(&layers, &[value]).planes, [false, true, true]);
    }

    #[test]
    fn few_rows_by_dense_weights_are_not_sparse() {
        let (outputs, depth) = (300_usize, 784);
        // Lookups in two registers for each vector take as long as the products of two rows, and in four longer.
        let cases = [(1, true, true), (2, true, false), (4, true, false)];
        for (rows, wide, narrow) in cases {
            for (vectors, gains) in [(Vectors::Avx512, wide), (Vectors::Avx2, narrow), (Vectors::Clif, false)] {
                let dense = (rows * depth * outputs.div_ceil(LANES)) as f64 * DENSE;
                let dense = dense.max(reading(depth * outputs * 4));
                let cycles = |nonzeros| {
                    FewRows { rows: [1, rows], outputs, depth, nonzeros, form: Form::Numbers, vectors }
                        .candidate()
                        .map(|c| c.cycles)
                };
                let (all, tenth) = (cycles(outputs * depth), cycles(outputs * depth / 10));
                assert!(
                    all > Some(dense) && (tenth < Some(dense)) == gains,
                    "{vectors}, {rows} rows: {tenth:?} of {dense}"
                );
            }
        }
    }

    #[test]
    fn few_rows_are_few_and_long() {
        let of = |rows, depth| {
            let few = FewRows { rows, outputs: 64, depth, nonzeros: 100, form: Form::Codes, vectors: Vectors::Avx512 };
            few.candidate().is_some()
        };
        assert!(of([4, 4], 32) && !of([4, 5], 32) && !of([1, 4], 31));
    }

    #[test]
    fn dense_weights_are_not_sparse() {
        for (vectors, taps) in [(4, 9), (14, 1), (66, 9), (200, 1)] {
            let (rows, channels) = (64, 64);
            let cycles = |nonzeros| {
                let product = Product { images: 1, rows, nonzeros, vectors, channels, taps, aligned: taps == 1 };
                cheapest(&product.candidates(Vectors::Avx512)).expect("a product can be computed").cycles
            };
            let weights = rows * channels * taps;
            let dense = (vectors * channels * taps * rows) as f64 * DENSE;
            assert!(cycles(weights) > dense && cycles(weights / 10) < dense / 3.0, "{vectors} vectors, {taps} taps");
        }
    }
}
