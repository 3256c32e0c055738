//! Layers of codes whose weights are mostly zero: products of sparse matrices of quads of weights and planes, lanes
//! being pixels or rows.

use std::collections::HashMap;
use std::sync::Arc;

use optc_ir::op::window::WindowAxis;
use optc_ir::{NodeId, Op, ValueId};

use super::find::{Body, Grid, Layer};
use super::planes::shape_in_planes;
use super::product::{Product, Requantization};
use crate::choice::{Algorithm, Candidate};
use crate::layout::Planar;
use crate::plan::Arg;
use crate::planner::Planner;
use crate::planner::choose::{self, Reader, Value};
use crate::planner::conv::{Window, computed_groups};
use crate::planner::sparse::{PlanesRead, conversion, is_sparse, offsets};
use crate::tile::LANES;
use crate::tile::epilogue::Other;
use crate::tile::function::Function;
use crate::tile::spmm::{Codes, MAX_CHUNK, Matrix, Operand, Planes, QUAD};
use crate::tile::spmm_unrolled::Pattern;
use crate::work::Work;

/// Cycles in which sixteen sums in blocks of channels become codes.
const STORE: f64 = 3.0;

/// Bytes of dense weights that come in a cycle from caches far away.
const READ: f64 = 10.0;

/// Cycles from one product of a sum to the next, which waits for it.
const WAIT: f64 = 4.0;

/// A layer of codes that may be computed as a sparse product.
struct Sparse {
    planes: PlanesRead,
    weights: ValueId,
    /// Weights, and quads of them, that are not zero.
    nonzeros: usize,
    quads: usize,
    candidates: Vec<Candidate>,
}

impl Planner<'_> {
    /// Chooses the layers of codes that are computed as sparse products.
    pub(in crate::planner) fn find_sparse_codes(&mut self) -> Vec<PlanesRead> {
        let order = self.graph.topo_order();
        let of_codes = order.into_iter().filter_map(|end| Some((end, self.layers.get(&end)?)));
        let ends: Vec<(NodeId, Option<Sparse>)> =
            of_codes.map(|(end, layer)| (end, self.sparse_candidates(layer))).collect();
        if ends.iter().all(|(_, sparse)| sparse.is_none()) {
            return Vec::new();
        }
        let quads: usize = ends.iter().filter_map(|(_, sparse)| Some(sparse.as_ref()?.quads)).sum();
        self.sparse_weights += quads;
        let layouts = self.code_layouts(&ends);
        self.choices.layouts.chosen += layouts.cycles;
        self.choices.layouts.dense += layouts.in_blocks;
        let mut read = Vec::new();
        for ((_, sparse), planes) in ends.into_iter().zip(layouts.planes) {
            let Some(Sparse { planes: of, weights, nonzeros, candidates, .. }) = sparse else { continue };
            let chosen = sparse_candidate(&candidates).filter(|_| planes);
            let chosen = chosen.map_or(Algorithm::Dense, |candidate| candidate.algorithm);
            if chosen != Algorithm::Dense {
                self.sparse.insert(of.node, chosen);
            }
            if let Some(weights) = self.graph.constant(weights) {
                self.choices.in_layouts.insert(of.node);
                self.choose(of.node, (weights, nonzeros), candidates, chosen);
            }
            read.push(of);
        }
        read
    }

    /// Which layers of codes are computed in planes.
    fn code_layouts(&self, ends: &[(NodeId, Option<Sparse>)]) -> choose::Layouts {
        let graph = self.graph;
        let index: HashMap<NodeId, usize> = ends.iter().enumerate().map(|(i, (end, _))| (*end, i)).collect();
        let layer = |(_, sparse): &(NodeId, Option<Sparse>)| {
            let Some(Sparse { candidates, .. }) = sparse else { return choose::Layer::IN_BLOCKS };
            let dense = candidates.iter().find(|candidate| candidate.algorithm == Algorithm::Dense);
            choose::Layer {
                blocks: dense.map_or(f64::INFINITY, |candidate| candidate.cycles),
                planes: sparse_candidate(candidates).map(|candidate| candidate.cycles),
            }
        };
        let mut layers: Vec<choose::Layer> = ends.iter().map(layer).collect();
        let outside = layers.len();
        layers.push(choose::Layer::IN_BLOCKS);
        let value = |(producer, (end, _)): (usize, &(NodeId, Option<Sparse>))| {
            let [images, quads, rows, columns] = shape_in_planes(graph, (*end).into())?;
            let mut readers = Vec::new();
            let decoded = graph.uses((*end).into()).into_iter().flat_map(|(user, _)| graph.uses(user.into()));
            for (user, slot) in decoded {
                let reader = self.absorbed.get(&user).unwrap_or(&user);
                let layer = index.get(reader).copied().unwrap_or(outside);
                let split = ends.get(layer).and_then(|(_, sparse)| sparse.as_ref()).is_some_and(|sparse| {
                    let PlanesRead { node, window, .. } = &sparse.planes;
                    user == *node && slot == 0 && !window.reading().is_whole()
                });
                readers.push(Reader { layer, split });
            }
            // Narrow pixels are a plane.
            let narrow = matches!(self.layers[end].body, Body::Quantize(_, true));
            let elements = images * quads * rows * columns;
            Some(Value { producer, readers, cycles: if narrow { 0.0 } else { conversion(elements) } })
        };
        let values: Vec<Value> = ends.iter().enumerate().filter_map(value).collect();
        choose::choose(&layers, &values)
    }

    /// The groups and the window of a convolution, or of a matrix product as one of single pixels.
    fn product_window(&self, product: &Product) -> Option<(usize, Window)> {
        if let Op::Conv(conv) = self.graph.op(product.node) {
            return Some((conv.group, self.conv_window(product.node, conv)?));
        }
        let [_, _, _, rows] = shape_in_planes(self.graph, product.x)?;
        let axis = |n| WindowAxis { input: n, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0, out: n };
        let channels = [product.weights.depth, product.weights.outputs];
        Some((1, Window { images: 1, channels, axes: [axis(1), axis(rows)] }))
    }

    /// What can compute a layer of codes, if it is a product with mostly zeros.
    fn sparse_candidates(&self, layer: &Layer) -> Option<Sparse> {
        let Body::Product(product) = &layer.body else { return None };
        let weights = &product.weights;
        is_sparse(weights.nonzeros, weights.outputs * weights.depth).then_some(())?;
        let (group, window) = self.product_window(product)?;
        let [inputs, outputs] = window.channels;
        // Quads of channels belong to one group.
        (group == 1 || (inputs / group).is_multiple_of(QUAD)).then_some(())?;
        let quads = quads(product, group, &window);
        let nonzeros = (0..quads.rows()).map(|row| quads.row(row).len()).sum();
        let reading = window.reading();
        let pixels = window.images * window.axes[0].out * window.axes[1].out;
        let of_group = inputs / group;
        let groups = computed_groups(group, window.channels);
        let depth = window.taps() * (inputs / groups).div_ceil(QUAD);
        let dense = (pixels * outputs.div_ceil(LANES)) as f64 * (depth as f64 * choose::DENSE + STORE);
        let bytes = window.taps() * inputs / groups * outputs;
        let (positions, taps) = (window.axes[1].out.max(reading.extents[1]) + reading.gap(), window.taps());
        let vectors = ((window.axes[0].out - 1) * positions + window.axes[1].out).div_ceil(LANES);
        let (images, channels) = (window.images, of_group.div_ceil(QUAD));
        let of_planes =
            choose::Product { images, rows: outputs, nonzeros, vectors, channels, taps, aligned: taps == 1 };
        let mut candidates = of_planes.candidates(self.target.vectors);
        // Few vectors of positions have few sums.
        let tiles = (images * vectors.div_ceil(MAX_CHUNK)) as f64;
        for candidate in candidates.iter_mut().filter(|candidate| candidate.algorithm == Algorithm::Spmm) {
            candidate.cycles = candidate.cycles.max(tiles * nonzeros as f64 * WAIT);
        }
        if !reading.is_whole() {
            let elements = reading.phases.len() * reading.extents[0] * reading.extents[1];
            let split = conversion(window.images * inputs.div_ceil(QUAD) * elements);
            candidates.iter_mut().for_each(|candidate| candidate.cycles += split);
        }
        candidates.push(Candidate { algorithm: Algorithm::Dense, cycles: dense.max(bytes as f64 / READ) });
        let candidates = self.admitted(product.node, true, candidates);
        let planes = PlanesRead { node: product.node, x: product.x, window };
        Some(Sparse { planes, weights: weights.value, nonzeros: weights.nonzeros, quads: nonzeros, candidates })
    }

    /// A convolution or matrix product of codes as a sparse product.
    pub(super) fn sparse_product_of_codes(
        &mut self,
        end: NodeId,
        product: &Product,
        grid: Grid,
        algorithm: Algorithm,
    ) -> Option<()> {
        let (group, window) = self.product_window(product)?;
        let reading = window.reading();
        let out = window.output();
        let pitch = self.code_pitch([out[2], out[3]]);
        if reading.is_whole() && self.code_pitch(reading.extents) != pitch {
            return None;
        }
        let (x, image) = if reading.is_whole() {
            let place = self.codes_in_planes(end, product.x, reading.border)?;
            (place.arg(), place.image)
        } else {
            let (buffer, image) = self.code_phases(end, product.x, &reading, pitch)?;
            (Arg::Buffer(buffer, image.start()), image)
        };
        let other = match &product.sum {
            Some(sum) => Some(self.codes_in_planes(end, sum.other, [0; 4])?),
            None => None,
        };
        let offsets = offsets(&reading, &image, window.channels[0].div_ceil(QUAD))?;
        let rows = out[1].next_multiple_of(QUAD);
        let mut planes = Planes::new([out[0], rows, out[2], out[3]]);
        let Requantization { factors, mut steps, bias } = product.requantization(grid);
        while steps.pop_if(|(function, _)| is_limit(*function, grid.zero)).is_some() {}
        planes.codes = Some(Codes { zero: grid.zero, large: largest(&steps, &factors) >= LARGE });
        planes.steps = steps;
        planes.operands.push(Operand::Channel);
        let mut channels = vec![factors];
        if let Some(bias) = bias {
            planes.operands.push(Operand::Channel);
            channels.push(bias);
        }
        planes.operands.extend(other.iter().map(|other| Operand::Plane(other.image.walk())));
        // Four sums and what is done with them have registers.
        (QUAD + planes.temporaries() <= self.target.vectors.registers()).then_some(())?;
        let place = self.place_planes(end, end.into(), (grid, [0; 4]), false)?;
        let y: Planar = place.image;
        (planes.x, planes.y) = (image.steps()[0], y.walk());
        // What lies between pixels is nobody's where no window reaches into a border.
        let bordered = self.planar_borders.get(&end.into()).is_some_and(|border| *border != [0; 4]);
        (planes.vectors, planes.masked) = (y.vectors(), y.has_gaps() && bordered);
        let matrix = quads(product, group, &window);
        let number = |numbers: &[f32], row: usize| numbers.get(row).copied().unwrap_or(0.0);
        let channel = move |operand: usize, row: usize| number(&channels[operand], row);
        let integers = product.begin.clone();
        let begin = move |row: usize| f32::from_bits(integers.get(row).copied().unwrap_or(0).cast_unsigned());
        let masked = planes.masked;
        let (work, w): (Work, Arg) = if algorithm == Algorithm::SpmmUnrolled {
            let unrolled = self.unrolled(planes, Arc::new(Pattern::new(&matrix, offsets)));
            let (packing, how) = (unrolled.clone(), format!("unrolled {end:?} {}", unrolled.group));
            let packed = move || Some(packing.pack(&matrix, begin, channel));
            (unrolled.into(), self.packed_quantized(&product.weights, how, packed))
        } else {
            let nonzeros = (0..rows).map(|row| matrix.row(row).len()).sum();
            let spmm = self.rolled(planes, nonzeros, &offsets)?;
            let (packing, how) = (spmm.clone(), format!("spmm {end:?} {:?} {offsets:?}", spmm));
            let packed = move || Some(packing.pack(&matrix, &offsets, begin, channel));
            (spmm.into(), self.packed_quantized(&product.weights, how, packed))
        };
        let mut args = vec![x, w, place.arg()];
        if masked {
            args.push(Arg::Constant(self.pack(&y.mask()), 0));
        }
        args.extend(other.iter().map(super::PlanesPlace::arg));
        self.kernel(end, work, args);
        Some(())
    }
}

/// Whether limiting numbers to what codes of a zero point stand for does what a function does before.
fn is_limit(function: Function, zero: u8) -> bool {
    let (least, most) = (0.0 - f32::from(zero), 255.0 - f32::from(zero));
    match function {
        Function::Relu => least >= 0.0,
        Function::Clip(low, high) => low <= least && most <= high,
        _ => false,
    }
}

/// Numbers from which on one might be no integer of 32 bits.
const LARGE: f32 = 2.0e9;

/// What no result of these steps exceeds, or infinity.
fn largest(steps: &[(Function, Other)], factors: &[f32]) -> f32 {
    let mut most = 2.0f32.powi(31);
    for (function, other) in steps {
        most = match (*function, *other) {
            (Function::Mul, Other::Vector(0)) => most * factors.iter().fold(0.0, |most: f32, f| most.max(f.abs())),
            (Function::Relu, _) => most,
            (Function::Round, _) => most + 1.0,
            (Function::Clip(low, high), _) => most.min(low.abs().max(high.abs())),
            (Function::Scale(factor, offset), _) => most * factor.abs() + offset.abs(),
            (Function::AddScaled(factor), Other::Codes(_)) => most + 255.0 * factor.abs(),
            _ => f32::INFINITY,
        };
    }
    most
}

/// The cheapest candidate that works in planes.
fn sparse_candidate(candidates: &[Candidate]) -> Option<Candidate> {
    choose::cheapest(candidates.iter().filter(|candidate| candidate.algorithm != Algorithm::Dense))
}

/// Weights in quads of channels: quad by quad of the channels of all groups, the elements of the window. Rows are whole
/// quads.
fn quads(product: &Product, group: usize, window: &Window) -> Matrix {
    let [inputs, outputs] = window.channels;
    let taps = window.taps();
    let (own, per_group) = (inputs / group, outputs / group);
    let codes = product.weights.codes().unwrap_or_default();
    let depth = own.div_ceil(QUAD) * taps;
    Matrix::of_quads(outputs.next_multiple_of(QUAD), |row| {
        let first = if row < outputs { row / per_group * depth } else { 0 };
        let weights = codes.get(row * own * taps..(row + 1) * own * taps).unwrap_or_default();
        let quad = move |k: usize| {
            let (channel, tap) = (k / taps * QUAD, k % taps);
            std::array::from_fn(|i| weights.get((channel + i) * taps + tap).copied().unwrap_or(0))
        };
        (first, (0..if weights.is_empty() { 0 } else { depth }).map(quad))
    })
}
