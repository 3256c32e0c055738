//! Convolutions whose weights are mostly zero: products of sparse matrices and planes.

use std::collections::HashMap;
use std::sync::Arc;

use optc_ir::op::Conv;
use optc_ir::{DType, NodeId, Op, ValueId};

use super::Planner;
use super::chain::{Beside, Chain};
use super::choose::{self, Layer, Product, Reader, Value, cheapest};
use super::conv::{Window, computed_groups};
use super::planar::{Reading, Source};
use super::shares::{Shares, wanted_parts};
use crate::choice::{Algorithm, Candidate, Modelled, Selection};
use crate::layout::{Pitch, Planar, image_shape, widen};
use crate::plan::Arg;
use crate::tile::contract::Picked;
use crate::tile::contract::listed::Positions;
use crate::tile::schedule::segment_runs;
use crate::tile::spmm::{Matrix, Operand, Planes, Spmm};
use crate::tile::spmm_unrolled::{Pattern, Unrolled};
use crate::tile::{LANES, signed};
use crate::work::Work;

/// Weights whose code and numbers, some 15 bytes each, stay in a processor's own caches from run to run.
const CACHED_CODE: usize = 60_000;

/// Times that pitches are made to agree; graphs in which they then still don't are computed in blocks.
const ROUNDS: usize = 8;

/// Makes a matrix of the elements of a constant.
type MakeMatrix = Box<dyn Fn(&[f32]) -> Matrix>;

/// A convolution that may be computed as a sparse product.
struct Convolution {
    /// What it reads of planes.
    planes: PlanesRead,
    group: usize,
    weights: ValueId,
    /// Weights that are not zero.
    nonzeros: usize,
    /// Whether most are.
    sparse: bool,
    /// Where blocks of outputs have weights, if they have few.
    positions: Option<Arc<Positions>>,
    /// How many weights its outputs have of every sixteen channels, if they are few, and what it then costs.
    picked: Option<(Picked, Candidate)>,
}

/// What a convolution reads, if it is computed over planes.
pub(super) struct PlanesRead {
    pub(super) node: NodeId,
    pub(super) x: ValueId,
    pub(super) window: Window,
}

/// Constants of a layer.
pub(super) struct Constants {
    pub(super) weights: ValueId,
    /// Makes the matrix of the elements of the weights.
    pub(super) matrix: MakeMatrix,
    /// For each k, how many bytes from a position its x stands.
    pub(super) offsets: Vec<i32>,
    /// One number a row.
    pub(super) bias: Vec<f32>,
    /// For each operand that has one number a row, these.
    pub(super) channels: Vec<Vec<f32>>,
}

impl Planner<'_> {
    /// Chooses the convolutions that are computed as sparse products, and the pitches and borders of planes.
    pub(super) fn find_sparse(&mut self) {
        self.count_weights();
        let convolution = |node| {
            let Op::Conv(conv) = self.graph.op(node) else { return None };
            if self.layers_compute(node) {
                return None;
            }
            let window = self.sparse_window(node, conv)?;
            if self.sign_convolution_weights(node, conv).is_some() {
                return None;
            }
            let weights = self.graph.operand(node, 1)?;
            let constant = self.graph.constant(weights)?;
            let (group, nonzeros) = (conv.group, self.nonzeros(weights)?);
            let sparse = is_sparse(nonzeros, constant.len());
            let positions = self.conv_positions(node, conv, &window).map(Arc::new);
            let picked = self.picked_convolution(node, group, &window);
            let planes = PlanesRead { node, x: self.graph.operand(node, 0)?, window };
            Some(Convolution { planes, group, weights, nonzeros, sparse, positions, picked })
        };
        let convolutions: Vec<Convolution> = self.graph.topo_order().into_iter().filter_map(convolution).collect();
        // Beside sparse layers others may gain from planes.
        let planes = convolutions.iter().any(|convolution| convolution.sparse);
        let candidates: Vec<Vec<Candidate>> =
            convolutions.iter().map(|convolution| self.conv_candidates(convolution, planes)).collect();
        let (chosen, modelled) = self.choose_sparse(&convolutions, &candidates);
        self.choices.layouts = modelled;
        for ((convolution, candidates), chosen) in convolutions.iter().zip(candidates).zip(chosen) {
            if !chosen.is_in_blocks() {
                self.sparse.insert(convolution.planes.node, chosen);
            }
            match (chosen, &convolution.positions, convolution.picked) {
                (Algorithm::Listed, Some(positions), _) => {
                    self.listed.insert(convolution.planes.node, positions.clone());
                }
                (Algorithm::NofM, _, Some((picked, _))) => {
                    self.picked.insert(convolution.planes.node, picked);
                }
                _ => {}
            }
            if let Some(weights) = self.graph.constant(convolution.weights) {
                self.choose(convolution.planes.node, (weights, convolution.nonzeros), candidates, chosen);
            }
        }
        let of_codes = self.find_sparse_codes();
        let all = convolutions.iter().map(|convolution| &convolution.planes).chain(&of_codes);
        self.agree_on_pitches(&all.filter(|planes| self.sparse.contains_key(&planes.node)).collect::<Vec<_>>());
    }

    /// Counts the weights of all layers that are not zero, each constant once.
    fn count_weights(&mut self) {
        for node in self.graph.topo_order() {
            let layer = matches!(self.graph.op(node), Op::Conv(_) | Op::Linear(_) | Op::MatMul(_) | Op::Gemm(_));
            let Some(w) = self.graph.operand(node, 1).filter(|_| layer) else { continue };
            let Some(weights) = self.graph.constant(w) else { continue };
            let nonzeros = *self.nonzeros.entry(w.node).or_insert_with(|| weights.nonzeros());
            if is_sparse(nonzeros, weights.len()) {
                self.sparse_weights += nonzeros;
            }
        }
    }

    /// How many of the constant weights of a layer are not zero.
    pub(super) fn nonzeros(&self, w: ValueId) -> Option<usize> {
        self.nonzeros.get(&w.node).copied()
    }

    /// The window of a convolution that a sparse product can compute: of constant weights and bias.
    pub(super) fn sparse_window(&self, node: NodeId, conv: &Conv) -> Option<Window> {
        let mut constants = [1, 2].into_iter().filter_map(|slot| self.graph.operand(node, slot));
        let is_constant = |value| self.graph.constant(value).is_some_and(|constant| constant.dtype() == DType::F32);
        constants.all(is_constant).then(|| self.conv_window(node, conv)).flatten()
    }

    /// What computes each convolution, by what candidates and conversions cost; and what all of it costs.
    fn choose_sparse(&self, convolutions: &[Convolution], candidates: &[Vec<Candidate>]) -> (Vec<Algorithm>, Modelled) {
        let cheapest_of = |candidates: &[Candidate], in_blocks: bool| {
            cheapest(candidates.iter().filter(|candidate| candidate.algorithm.is_in_blocks() == in_blocks))
        };
        let graph = self.graph;
        let mut layers: Vec<Layer> = Vec::new();
        let mut gained = 0.0;
        // The layer that computes each value.
        let mut index = HashMap::new();
        for (convolution, candidates) in convolutions.iter().zip(candidates) {
            index.insert(self.end_of(convolution.planes.node), layers.len());
            let blocks = cheapest_of(candidates, true);
            layers.push(Layer {
                blocks: blocks.map_or(f64::INFINITY, |candidate| candidate.cycles),
                planes: cheapest_of(candidates, false).map(|candidate| candidate.cycles),
            });
            // What is gained in blocks already.
            let dense = candidates.iter().find(|candidate| candidate.algorithm == Algorithm::Dense);
            if let (Some(blocks), Some(dense)) = (blocks, dense) {
                gained += dense.cycles - blocks.cycles;
            }
        }
        let others = layers.len();
        let mut values: Vec<Value> = Vec::new();
        for node in graph.topo_order() {
            let Some(shape) = self.f32_shape(node.into()) else { continue };
            let Some(&producer) = index.get(&node) else {
                // Whatever else computes an image does so in blocks, if it computes one at all.
                continue;
            };
            let mut readers = Vec::new();
            for (user, slot) in graph.uses(node.into()) {
                let chain = self.absorbed.get(&user).copied().unwrap_or(user);
                match index.get(&chain) {
                    Some(&layer) => {
                        let PlanesRead { node: start, window, .. } = &convolutions[layer].planes;
                        let split = user == *start && slot == 0 && !window.reading().is_whole();
                        readers.push(Reader { layer, split });
                    }
                    None if matches!(graph.op(user), Op::Return(_)) => {}
                    None => {
                        layers.push(Layer::IN_BLOCKS);
                        readers.push(Reader { layer: layers.len() - 1, split: false });
                    }
                }
            }
            values.push(Value { producer, readers, cycles: conversion(shape.iter().product()) });
        }
        // What is measured of a layer includes conversions of what never lies in planes.
        let measured = matches!(self.selection, Selection::Measured(_));
        for &Convolution { planes: PlanesRead { node, x, .. }, .. } in convolutions {
            if !index.contains_key(&self.absorbed.get(&x.node).copied().unwrap_or(x.node))
                && !matches!(graph.op(x.node), Op::Input(_))
            {
                layers.push(Layer::IN_BLOCKS);
                let elements = self.f32_shape(x).filter(|_| !measured).map_or(0, |shape| shape.iter().product());
                let readers = vec![Reader { layer: index[&self.end_of(node)], split: false }];
                values.push(Value { producer: layers.len() - 1, readers, cycles: conversion(elements) });
            }
        }
        let chosen = choose::choose(&layers, &values);
        let algorithm = |(candidates, &planes): (&Vec<Candidate>, &bool)| {
            cheapest_of(candidates, !planes).map_or(Algorithm::Dense, |candidate| candidate.algorithm)
        };
        let modelled = Modelled { chosen: chosen.cycles, dense: chosen.in_blocks + gained };
        (candidates.iter().zip(&chosen.planes[..others]).map(algorithm).collect(), modelled)
    }

    /// Where the chain ends that a layer begins.
    fn end_of(&self, node: NodeId) -> NodeId {
        let chain = self.chains.get(self.absorbed.get(&node).unwrap_or(&node));
        chain.filter(|chain| chain.start == node).map_or(node, |chain| chain.end)
    }

    /// What can compute a convolution, the cheapest first; sparse products only if there may be planes.
    fn conv_candidates(&self, convolution: &Convolution, in_planes: bool) -> Vec<Candidate> {
        let &Convolution { ref planes, group, weights, nonzeros, sparse, ref positions, picked } = convolution;
        let PlanesRead { node, ref window, .. } = *planes;
        let reading = window.reading();
        let product = self.product(window, &reading, (group, nonzeros));
        let split = if reading.is_whole() {
            0.0
        } else {
            let elements = reading.phases.len() * reading.extents[0] * reading.extents[1];
            conversion(window.images * window.channels[0] * elements)
        };
        let mut candidates = if in_planes { product.candidates(self.target.vectors) } else { Vec::new() };
        candidates.iter_mut().for_each(|candidate| candidate.cycles += split);
        let codes = self.coded_convolution(weights, group, window).map(|(_, candidate)| candidate);
        candidates.extend(codes);
        if let Op::Conv(conv) = self.graph.op(node) {
            candidates.extend(self.few_pixels(node, conv, window, nonzeros));
        }
        candidates.extend(positions.as_ref().map(|positions| self.listed_convolution(positions, window)));
        candidates.extend(picked.map(|(_, candidate)| candidate));
        candidates.push(self.dense_convolution(group, window));
        let asked = sparse || codes.is_some() || positions.is_some() || picked.is_some();
        self.admitted(node, asked, candidates)
    }

    /// What a convolution costs as one whose weights are not compressed.
    pub(super) fn dense_convolution(&self, group: usize, window: &Window) -> Candidate {
        let [images, outputs, rows, columns] = window.output();
        let channels = window.channels[0];
        let depthwise = group > 1 && channels == group && outputs == group;
        let groups = if depthwise { group } else { computed_groups(group, window.channels) };
        let dense = images * rows * columns * window.taps() * (channels / groups) * outputs.div_ceil(LANES);
        let dense = self.winograd_cycles(group, window).map_or(dense, |cycles| cycles.min(dense));
        let weights = choose::reading(window.taps() * channels / groups * outputs * 4);
        Candidate { algorithm: Algorithm::Dense, cycles: (dense as f64 * choose::DENSE).max(weights) }
    }

    /// The product that a convolution would be, its planes as wide as it needs them.
    fn product(&self, window: &Window, reading: &Reading, (groups, nonzeros): (usize, usize)) -> Product {
        let [images, outputs, rows, columns] = window.output();
        let positions = columns.max(reading.extents[1]) + reading.gap();
        let planes = Planar::new(window.output(), Pitch::of(images, [rows, columns], positions), [0; 4]);
        let (channels, taps) = (window.channels[0] / groups, window.taps());
        let aligned = taps == 1 || planes.pitch.together;
        let (images, vectors) = (planes.images(), planes.vectors());
        Product { images, rows: outputs, nonzeros, vectors, channels, taps, aligned }
    }

    /// Sets the pitch of planes of each extents, and the borders of values in planes, for these convolutions. Planes
    /// that a convolution reads pixel by pixel lie as those it writes.
    fn agree_on_pitches(&mut self, convolutions: &[&PlanesRead]) {
        for _ in 0..ROUNDS {
            let mut changed = false;
            for PlanesRead { window, .. } in convolutions {
                let reading = window.reading();
                let [images, _, rows, columns] = window.output();
                let out = [rows, columns];
                let positions = self.pitch(out).positions.max(reading.extents[1] + reading.gap());
                let pitch = Pitch::of(images, out, positions).max(self.pitch(out));
                let mut raise = |planner: &mut Self, extents: [usize; 2], pitch: Pitch| {
                    let now = planner.pitch(extents);
                    changed |= now.max(pitch) != now;
                    planner.pitches.insert(extents, now.max(pitch));
                };
                if reading.is_whole() {
                    let both = pitch.max(self.pitch(reading.extents));
                    raise(self, reading.extents, both);
                    raise(self, out, both);
                } else {
                    raise(self, out, pitch);
                }
            }
            if !changed {
                break;
            }
        }
        for PlanesRead { x, window, .. } in convolutions {
            let reading = window.reading();
            if !reading.is_whole() {
                continue;
            }
            widen(self.planar_borders.entry(*x).or_default(), reading.border);
        }
    }

    /// A convolution as a sparse product, and the functions that follow it.
    pub(super) fn sparse_convolution(
        &mut self,
        chain: &Chain,
        conv: &Conv,
        window: &Window,
        algorithm: Algorithm,
    ) -> Option<()> {
        let node = chain.start;
        let (x, w) = (self.graph.operand(node, 0)?, self.graph.operand(node, 1)?);
        let reading = window.reading();
        let out = window.output();
        let pitch = self.pitch([out[2], out[3]]);
        if reading.is_whole() && self.pitch(reading.extents) != pitch {
            return None;
        }
        let (mut planes, numbers) = self.planes_epilogue(chain, conv, out)?;
        let (buffer, image) = if reading.is_whole() {
            self.planar(node, x, reading.border)?
        } else {
            let images = image_shape(&self.f32_shape(x)?)?;
            self.phases(node, (Source::Value(x), images), &reading, (pitch, 0.0))?
        };
        let operands = self.plane_operands(chain)?;
        let offsets = offsets(&reading, &image, window.channels[0])?;
        // Kernels find the planes of the result and of operands as they do those of x.
        let border = self.planar_borders.get(&chain.end.into()).copied().unwrap_or_default();
        let mut results = operands.iter().map(|(_, image)| *image).chain([Planar::new(out, pitch, border)]);
        if results.any(|image| i32::try_from(image.steps()[0]).is_err()) {
            return None;
        }
        let (place, y) = self.place_planar(chain.end, chain.end.into(), out);
        (planes.images, planes.pixels) = (y.images(), planes.pixels * y.together());
        (planes.x, planes.y) = (image.steps()[0], y.walk());
        (planes.vectors, planes.masked) = (y.vectors(), y.has_gaps());
        let mut planes_of_operands = operands.iter().map(|(_, image)| Operand::Plane(image.walk()));
        planes.operands.iter_mut().filter(|operand| matches!(operand, Operand::Plane(_))).for_each(|operand| {
            *operand = planes_of_operands.next().expect("every operand that is a value has its planes");
        });
        let bias = match self.graph.operand(node, 2) {
            Some(bias) => self.f32_constant(bias)?.as_f32()?.to_vec(),
            None => vec![0.0; out[1]],
        };
        let nonzeros = self.nonzeros(w)?;
        let (outputs, per_group) = (out[1], out[1] / conv.group);
        // Weights of a row, for the channels of its group.
        let own = window.channels[0] / conv.group * window.taps();
        let matrix = move |weights: &[f32]| Matrix::new(outputs, |o| (o / per_group * own, &weights[o * own..][..own]));
        let matrix = Box::new(matrix);
        let (masked, constants) = (planes.masked, Constants { weights: w, matrix, offsets, bias, channels: numbers });
        let (work, packed) = self.spmm_kernel(chain, planes, (algorithm, nonzeros), constants)?;
        let mut args = vec![Arg::Buffer(buffer, image.start()), packed, Arg::Buffer(place.buffer, y.start())];
        if masked {
            args.push(Arg::Constant(self.pack(&y.mask()), 0));
        }
        let first = args.len();
        args.extend(operands.iter().map(|(buffer, image)| Arg::Buffer(*buffer, image.start())));
        let waits = matches!(&work, Work::Unrolled(unrolled) if !unrolled.reads_first());
        let alike = operands.iter().position(|(_, image)| !waits && *image == y).map(|i| first + i);
        self.kernel(chain.end, work, args);
        self.allow_in_place(alike, 2);
        Some(())
    }

    /// The kernel of a product, and its constants as it reads them.
    pub(super) fn spmm_kernel(
        &mut self,
        chain: &Chain,
        planes: Planes,
        (algorithm, nonzeros): (Algorithm, usize),
        constants: Constants,
    ) -> Option<(Work, Arg)> {
        let Constants { weights: w, matrix, offsets, bias, channels } = constants;
        if algorithm == Algorithm::SpmmUnrolled {
            let pattern = Arc::new(Pattern::new(&matrix(self.f32_constant(w)?.as_f32()?), offsets));
            let unrolled = self.unrolled(planes, pattern);
            let how = format!("unrolled {:?} {}", chain.end, unrolled.group);
            let packing = unrolled.clone();
            let packed = self.packed(w, how, move |weights| {
                packing.pack(&matrix(weights), |row| bias[row], |operand, row| channels[operand][row])
            })?;
            return Some((unrolled.into(), packed));
        }
        let spmm = self.rolled(planes, nonzeros, &offsets)?;
        // Whatever depends on the extents of the input: plans for several share what they pack alike.
        let how = format!("spmm {:?} {} {} {:?} {offsets:?}", chain.end, spmm.segments, spmm.ways, spmm.planes);
        let packing = spmm.clone();
        let packed = self.packed(w, how, move |weights| {
            packing.pack(&matrix(weights), &offsets, |row| bias[row], |operand, row| channels[operand][row])
        })?;
        Some((spmm.into(), packed))
    }

    /// A product driven by data.
    pub(super) fn rolled(&self, planes: Planes, nonzeros: usize, offsets: &[i32]) -> Option<Spmm> {
        let chunk = Spmm::chunk(&planes, self.target.vectors);
        let tiles: usize = segment_runs(planes.vectors, chunk).iter().map(|(count, _)| count).sum();
        Some(Spmm {
            nonzeros,
            offsets: (*offsets.iter().min()?, *offsets.iter().max()?),
            segments: wanted_parts(self.target.threads)
                .div_ceil(planes.images * tiles)
                .min(planes.rows / planes.rows_together()),
            chunk,
            ways: if planes.codes.is_some() { 1 } else { Spmm::ways(planes.vectors) },
            planes,
        })
    }

    /// A product whose pattern goes into the code.
    pub(super) fn unrolled(&self, planes: Planes, pattern: Arc<Pattern>) -> Unrolled {
        let group = Unrolled::group(&planes, self.target.vectors);
        let weights = pattern.nonzeros();
        let Shares { chunks, panel } = Shares::new(&planes, pattern.span(), weights, group, self.target.threads);
        Unrolled { planes, pattern, group, chunks, panel, cold: self.sparse_weights > CACHED_CODE }
    }

    /// What is done with the sums of a chain, but for where everything lies; the numbers of operands that have
    /// one a channel, by operand.
    fn planes_epilogue(&self, chain: &Chain, conv: &Conv, out: [usize; 4]) -> Option<(Planes, Vec<Vec<f32>>)> {
        let mut planes = Planes::new(out);
        let mut numbers = Vec::new();
        planes.steps = chain.steps(conv.act, |beside| {
            let operand = match beside {
                Beside::Channels(of_channels) => {
                    numbers.push(of_channels.clone());
                    Operand::Channel
                }
                Beside::Value(value) => {
                    let elements: usize = self.f32_shape(*value)?.iter().product();
                    if elements == out.iter().product::<usize>() {
                        numbers.push(Vec::new());
                        Operand::Plane(planes.y)
                    } else if elements == out[1] && self.along_channels(*value, chain.end) {
                        numbers.push(self.f32_constant(*value)?.as_f32()?.to_vec());
                        Operand::Channel
                    } else {
                        return None;
                    }
                }
                Beside::Nothing | Beside::Number(_) => return None,
            };
            planes.operands.push(operand);
            Some(())
        })?;
        Some((planes, numbers))
    }

    /// The values that a chain reads beside its sums, in planes.
    fn plane_operands(&mut self, chain: &Chain) -> Option<Vec<(usize, Planar)>> {
        let elements = |planner: &Self, value| planner.f32_shape(value).map(|shape| shape.iter().product::<usize>());
        let whole = elements(self, chain.end.into())?;
        let mut operands = Vec::new();
        for link in &chain.links {
            if let Beside::Value(value) = link.other
                && elements(self, value)? == whole
            {
                operands.push(self.planar(chain.end, value, [0; 4])?);
            }
        }
        Some(operands)
    }
}

/// How many bytes from a position the x of each k stands: channel by channel, the elements of the window.
/// `None` if an image is too large for them.
pub(super) fn offsets(reading: &Reading, image: &Planar, channels: usize) -> Option<Vec<i32>> {
    let [_, plane, row, position] = image.steps();
    let count = reading.phases.len();
    let at = |c: usize, &(phase, [r, column]): &(usize, [i64; 2])| {
        let bytes = plane * signed(c * count + phase) + row * r + position * column;
        i32::try_from(bytes).ok()
    };
    (0..channels).flat_map(|c| reading.taps.iter().map(move |tap| at(c, tap))).collect()
}

/// Whether at most half of so many weights are not zero.
pub(super) fn is_sparse(nonzeros: usize, weights: usize) -> bool {
    nonzeros * 2 <= weights
}

/// Cycles that bring so many elements from one layout to another.
pub(super) fn conversion(elements: usize) -> f64 {
    elements as f64 / LANES as f64 * choose::CONVERSION
}
