//! Products of few rows and constant matrices that are mostly zero: lanes are outputs.

use std::sync::Arc;

use optc_ir::op::Conv;
use optc_ir::op::window::WindowAxis;
use optc_ir::{Constant, NodeId, Op};

use super::Planner;
use super::chain::{Beside, Chain};
use super::choose::FewRows;
use super::conv::Window;
use super::sparse::is_sparse;
use super::sparse_matrix::SparseMatrix;
use crate::choice::{Algorithm, Candidate};
use crate::pack;
use crate::plan::Arg;
use crate::tile::epilogue::Other;
use crate::tile::function::Function;
use crate::tile::signed;
use crate::tile::spmv::{self, Codebook, Spmv};

/// Functions of sums in order, and for each operand one number an output.
type OfOutputs = (Vec<(Function, Other)>, Vec<Vec<f32>>);

impl Planner<'_> {
    /// The layer as a product whose lanes are outputs, if its rows are few and its weights mostly zero.
    pub(super) fn few_rows(
        &self,
        chain: &Chain,
        layer: &SparseMatrix,
        (weights, nonzeros): (&Constant, usize),
    ) -> Option<Candidate> {
        let ([rows, outputs, depth], vectors) = (layer.shape, self.target.vectors);
        let few = FewRows { rows, outputs, depth, nonzeros, coded: false, vectors };
        few.candidate().filter(|_| is_sparse(nonzeros, outputs * depth))?;
        self.of_outputs(chain, layer)?;
        FewRows { coded: is_coded(weights), ..few }.candidate()
    }

    /// What is done with the sums of a chain, and the numbers of its operands: each has one an output, since nothing
    /// else can be read where sums are in an order of their own.
    fn of_outputs(&self, chain: &Chain, layer: &SparseMatrix) -> Option<OfOutputs> {
        let ([_, n, _], of_image) = (layer.shape, matches!(self.graph.op(chain.start), Op::Conv(_)));
        let mut numbers = Vec::new();
        let steps = chain.steps(layer.act, |beside| {
            numbers.push(match beside {
                Beside::Channels(of_channels) => of_channels.clone(),
                Beside::Value(value) => {
                    let shape = self.f32_shape(*value)?;
                    let along =
                        if of_image { self.along_channels(*value, chain.end) } else { shape.last() == Some(&n) };
                    let one_each = along && shape.iter().product::<usize>() == n;
                    self.f32_constant(*value).filter(|_| one_each)?.as_f32()?.to_vec()
                }
                Beside::Nothing | Beside::Number(_) => return None,
            });
            Some(())
        })?;
        Some((steps, numbers))
    }

    /// A convolution of one pixel that sees the whole of its image, as a layer.
    fn pixel(&self, node: NodeId, conv: &Conv, window: &Window) -> Option<SparseMatrix> {
        let whole = |axis: &WindowAxis| axis.out == 1 && axis.kernel == axis.input && axis.begin == 0 && axis.end == 0;
        if conv.group > 1 || !window.axes.iter().all(whole) {
            return None;
        }
        let shape = [window.images, window.channels[1], window.channels[0] * window.taps()];
        let bias = self.graph.operand(node, 2).map(|bias| (bias, 1.0));
        Some(SparseMatrix { shape, transposed: true, factor: 1.0, bias, act: conv.act })
    }

    /// Whether a convolution is a matrix product of few rows that need not lie in blocks or planes.
    pub(super) fn is_sparse_pixel(&self, node: NodeId, conv: &Conv, window: &Window) -> bool {
        let candidate = || {
            let w = self.graph.operand(node, 1)?;
            let weights = self.graph.constant(w)?;
            let chain = self.chains.get(self.absorbed.get(&node).unwrap_or(&node));
            let alone = Chain::of(self.graph, node)?;
            let chain = chain.filter(|chain| chain.start == node).unwrap_or(&alone);
            self.few_rows(chain, &self.pixel(node, conv, window)?, (weights, self.nonzeros(w)?))
        };
        candidate().is_some()
    }

    /// A convolution of one pixel as a matrix product, and the functions that follow it; `None` if it is none, or
    /// another kernel is faster.
    pub(super) fn sparse_pixel(&mut self, chain: &Chain, conv: &Conv, window: &Window) -> Option<()> {
        let (node, graph) = (chain.start, self.graph);
        self.sparse_window(node, conv)?;
        let layer = self.pixel(node, conv, window)?;
        let w = graph.operand(node, 1)?;
        let (weights, nonzeros) = (graph.constant(w)?, self.nonzeros(w)?);
        let mut candidates = vec![self.few_rows(chain, &layer, (weights, nonzeros))?, layer.dense()];
        let positions = self.conv_positions(node, conv, window);
        candidates.extend(positions.as_ref().map(|positions| self.listed_convolution(positions, window)));
        let candidates = self.admitted(node, true, candidates);
        let algorithm = candidates.first()?.algorithm;
        self.choose(node, (weights, nonzeros), candidates, algorithm);
        if let Some(positions) = positions.filter(|_| algorithm == Algorithm::Listed) {
            self.listed.insert(node, Arc::new(positions));
        }
        if algorithm != Algorithm::Spmv {
            return None;
        }
        let planned = self.sparse_vectors(chain, &layer, nonzeros);
        self.choices.planned(node, planned.is_some());
        planned
    }

    /// A layer of few rows by constants that are mostly zero, and the functions that follow it.
    pub(super) fn sparse_vectors(&mut self, chain: &Chain, layer: &SparseMatrix, nonzeros: usize) -> Option<()> {
        let (node, graph) = (chain.start, self.graph);
        let (x, w) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
        let [m, n, k] = layer.shape;
        let constant = graph.constant(w)?;
        let (steps, numbers) = self.of_outputs(chain, layer)?;
        let bias = match layer.bias {
            Some((bias, factor)) => self.f32_constant(bias)?.as_f32()?.iter().map(|b| b * factor).collect(),
            None => vec![0.0; n],
        };
        let coded = is_coded(constant);
        let groups = pack::with_numbers(constant, |weights| spmv::groups(&layer.weights(weights), k, coded))?;
        let (threads, operands) = (self.target.threads, numbers.len());
        let steps_of_rows = if m == 1 { [0, 0] } else { [signed(k * 4), signed(n * 4)] };
        let mut spmv =
            Spmv { rows: m, steps_of_rows, outputs: n, depth: k, nonzeros, coded, groups, threads, steps, operands };
        // Kernels find what they read and write by numbers of 32 bits.
        let longest = spmv.bytes().max(m * k * 4).max(m * n * 4);
        i32::try_from(longest).ok()?;
        let (arg, rows) = self.matrix_rows(node, x, [m, k])?;
        let near = i64::from(i32::MAX) / signed(m);
        let arg = match rows[..] {
            [_, 4] if m == 1 => arg,
            [step, 4] if (0..near).contains(&step) => {
                spmv.steps_of_rows[0] = step;
                arg
            }
            _ => self.plain(node, x)?,
        };
        let (packing, layer) = (spmv.clone(), *layer);
        let packed = self.packed(w, format!("spmv {:?} {threads}", chain.end), move |weights| {
            packing.pack(&layer.weights(weights), |o| bias[o], |operand, o| numbers[operand][o])
        })?;
        let output = self.f32_shape(chain.end.into())?;
        let place = self.place_plain(chain.end.into(), &output);
        self.kernel(chain.end, spmv, vec![arg, packed, Arg::Buffer(place.buffer, 0)]);
        Some(())
    }
}

/// Whether kernels read weights as codes.
fn is_coded(weights: &Constant) -> bool {
    pack::with_numbers(weights, |weights| Codebook::of(weights.iter().copied()).is_some()).unwrap_or(false)
}
