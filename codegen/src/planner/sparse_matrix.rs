//! Products with constant matrices that are mostly zero: rows of the other matrix are positions of a plane.
//!
//! Features are channels: a value `[…, features]` lies feature by feature, each a plane of all rows. Layers in a
//! row, and those that read the same value, share the transposition.

use optc_ir::op::Act;
use optc_ir::{NodeId, ValueId};

use super::Planner;
use super::chain::{Beside, Chain};
use super::choose::{self, Product};
use super::select::is_compressed;
use super::sparse::{Constants, conversion, is_sparse};
use crate::choice::{Algorithm, Candidate};
use crate::layout::{Layout, reshaped, same_walk};
use crate::plan::{Arg, Place};
use crate::tile::copy::Copy;
use crate::tile::spmm::{Matrix, Operand, Plane, Planes};
use crate::tile::spmv::MAX_ROWS;
use crate::tile::{LANES, signed};

/// A layer `x·w + b`.
#[derive(Clone, Copy)]
pub(super) struct SparseMatrix {
    /// Rows, outputs, features.
    pub(super) shape: [usize; 3],
    /// Whether the constant has a row for each output.
    pub(super) transposed: bool,
    /// What the constant is multiplied by.
    pub(super) factor: f32,
    /// The bias and what it is multiplied by.
    pub(super) bias: Option<(ValueId, f32)>,
    pub(super) act: Act,
}

impl SparseMatrix {
    /// The weights that are not zero.
    pub(super) fn weights(&self, weights: &[f32]) -> Matrix {
        let ([_, n, k], factor) = (self.shape, self.factor);
        if self.transposed && factor == 1.0 {
            return Matrix::new(n, |o| (0, &weights[o * k..][..k]));
        }
        let weight = |o: usize, i: usize| factor * weights[if self.transposed { o * k + i } else { i * n + o }];
        let mut rows = Vec::with_capacity(n * k);
        (0..n).for_each(|o| rows.extend((0..k).map(|i| weight(o, i))));
        Matrix::new(n, |o| (0, &rows[o * k..][..k]))
    }

    /// The layer with all its weights.
    pub(super) fn dense(&self) -> Candidate {
        Candidate { algorithm: Algorithm::Dense, cycles: choose::dense_matrix(self.shape) }
    }

    /// The layer as a product whose lanes are rows.
    fn product(&self, nonzeros: usize) -> Product {
        let [m, n, k] = self.shape;
        Product { images: 1, rows: n, nonzeros, vectors: m.div_ceil(LANES), channels: k, taps: 1, aligned: true }
    }
}

impl Planner<'_> {
    /// What computes a layer by constants; others than sparse and dense products, with what they cost, are given.
    pub(super) fn matrix_algorithm(
        &mut self,
        chain: &Chain,
        layer: &SparseMatrix,
        others: Vec<Candidate>,
    ) -> Option<(Algorithm, usize)> {
        let (node, [m, n, k]) = (chain.start, layer.shape);
        let w = self.graph.operand(node, 1)?;
        let (weights, nonzeros) = (self.graph.constant(w)?, self.nonzeros(w)?);
        let sparse = is_sparse(nonzeros, k * n);
        let asked = sparse || !others.is_empty();
        if !is_compressed(weights, nonzeros) && !asked {
            return None;
        }
        let mut candidates = if sparse { layer.product(nonzeros).candidates(self.target.vectors) } else { Vec::new() };
        candidates.iter_mut().for_each(|candidate| candidate.cycles += conversion(m * k) + conversion(m * n));
        if m <= MAX_ROWS {
            candidates.extend(self.few_rows(chain, layer, [1, m], (weights, nonzeros)));
        }
        candidates.extend(others);
        candidates.push(layer.dense());
        let candidates = self.admitted(node, asked, candidates);
        let algorithm = candidates.first()?.algorithm;
        self.choose(node, (weights, nonzeros), candidates, algorithm);
        Some((algorithm, nonzeros))
    }

    /// A layer as a sparse product, and the functions that follow it.
    pub(super) fn sparse_product(
        &mut self,
        chain: &Chain,
        layer: &SparseMatrix,
        (algorithm, nonzeros): (Algorithm, usize),
    ) -> Option<()> {
        let (node, graph) = (chain.start, self.graph);
        let (x, w) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
        let [m, n, k] = layer.shape;
        let vectors = m.div_ceil(LANES);
        let output = self.f32_shape(chain.end.into())?;
        let pitch = pitch(m);
        // Kernels find features by numbers of 32 bits.
        i32::try_from(n * pitch * 4).ok()?;
        let offsets = (0..k).map(|i| i32::try_from(i * pitch * 4).ok()).collect::<Option<Vec<i32>>>()?;
        let mut planes = Planes::new([1, n, 1, m]);
        let walk = Plane { image: 0, channel: signed(pitch * 4) };
        (planes.vectors, planes.lanes, planes.y) = (vectors, m.min(LANES), walk);
        let mut numbers = Vec::new();
        let mut values = Vec::new();
        planes.steps = chain.steps(layer.act, |beside| {
            let Beside::Value(value) = beside else { return None };
            let shape = self.f32_shape(*value)?;
            let elements = shape.iter().product::<usize>();
            if elements == m * n {
                values.push(*value);
                numbers.push(Vec::new());
                planes.operands.push(Operand::Plane(walk));
            } else if elements == n && shape.last() == Some(&n) && graph.constant(*value).is_some() {
                numbers.push(self.f32_constant(*value)?.as_f32()?.to_vec());
                planes.operands.push(Operand::Channel);
            } else {
                return None;
            }
            Some(())
        })?;
        let bias = match layer.bias {
            Some((bias, factor)) => self.f32_constant(bias)?.as_f32()?.iter().map(|b| b * factor).collect(),
            None => vec![0.0; n],
        };
        let x_arg = self.by_features(node, x, [m, k])?;
        let operands: Vec<Arg> =
            values.into_iter().map(|value| self.by_features(chain.end, value, [m, n])).collect::<Option<_>>()?;
        let packing = *layer;
        let matrix = Box::new(move |weights: &[f32]| packing.weights(weights));
        let constants = Constants { weights: w, matrix, offsets, bias, channels: numbers };
        let (work, packed) = self.spmm_kernel(chain, planes, (algorithm, nonzeros), constants)?;
        let buffer = self.buffer(n * pitch * 4);
        let layout = Layout::Strided { start: 0, strides: feature_strides(&output, pitch) };
        self.put(chain.end.into(), Place { buffer, layout });
        let mut args = vec![x_arg, packed, Arg::Buffer(buffer, 0)];
        args.extend(operands);
        self.kernel(chain.end, work, args);
        Some(())
    }

    /// A value as a matrix of this shape, feature by feature, each as many vectors as hold all rows.
    fn by_features(&mut self, node: NodeId, x: ValueId, [m, k]: [usize; 2]) -> Option<Arg> {
        let shape = self.f32_shape(x)?;
        let pitch = pitch(m);
        let wanted = feature_strides(&shape, pitch);
        for place in self.places.get(&x).into_iter().flatten() {
            if let Layout::Strided { start, strides } = &place.layout
                && same_walk(&shape, strides, &wanted)
            {
                return Some(Arg::Buffer(place.buffer, *start));
            }
        }
        let (from, strides) = self.strided(node, x)?;
        let rows = reshaped(&shape, &strides, &[m, k]);
        let (from, rows) = match rows {
            Some(rows) => (from, rows),
            None => (self.plain(node, x)?, vec![signed(k * 4), 4]),
        };
        let buffer = self.buffer(k * pitch * 4);
        let to = [4, signed(pitch * 4)];
        self.kernel(node, Copy::new(&[m, k], &rows, &to), vec![from, Arg::Buffer(buffer, 0)]);
        self.put(x, Place { buffer, layout: Layout::Strided { start: 0, strides: wanted } });
        Some(Arg::Buffer(buffer, 0))
    }
}

/// Elements from one feature to the next: whole vectors of rows, or all rows where they are fewer. An odd number of
/// vectors, so that the same rows of many features do not share few sets of a cache.
fn pitch(rows: usize) -> usize {
    if rows < LANES { rows } else { (rows.div_ceil(LANES) | 1) * LANES }
}

/// Strides of a value that lies feature by feature, its rows next to each other.
fn feature_strides(shape: &[usize], pitch: usize) -> Vec<i64> {
    let mut row = 4;
    let mut strides = vec![0; shape.len()];
    let last = shape.len() - 1;
    strides[last] = signed(pitch * 4);
    for axis in (0..last).rev() {
        strides[axis] = row;
        row *= signed(shape[axis]);
    }
    strides
}
