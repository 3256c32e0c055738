//! Products of few rows and constant matrices that are mostly zero: lanes are outputs.

use optc_ir::Op;
use optc_ir::op::Conv;
use optc_ir::op::window::WindowAxis;

use super::Planner;
use super::chain::{Beside, Chain};
use super::choose::Vectors;
use super::conv::Window;
use super::sparse::{conversion, is_sparse};
use super::sparse_matrix::SparseMatrix;
use crate::pack;
use crate::plan::Arg;
use crate::tile::signed;
use crate::tile::spmv::{self, Codebook, Spmv};

impl Planner<'_> {
    /// A convolution of one pixel that sees the whole of its image.
    pub(super) fn sparse_pixel(&mut self, chain: &Chain, conv: &Conv, window: &Window) -> Option<()> {
        let whole = |axis: &WindowAxis| axis.out == 1 && axis.kernel == axis.input && axis.begin == 0 && axis.end == 0;
        let [channels, outputs] = window.channels;
        let graph = self.graph;
        let constants = [1, 2].into_iter().filter_map(|slot| graph.operand(chain.start, slot));
        if conv.group > 1
            || !window.axes.iter().all(whole)
            || constants.into_iter().any(|c| graph.constant(c).is_none())
        {
            return None;
        }
        let shape = [window.images, outputs, channels * window.taps()];
        let bias = graph.operand(chain.start, 2).map(|bias| (bias, 1.0));
        self.sparse_vectors(chain, &SparseMatrix { shape, transposed: true, factor: 1.0, bias, act: conv.act })
    }

    /// A layer by constants that are mostly zero, and the functions that follow it; `None` if another kernel is
    /// faster.
    pub(super) fn sparse_vectors(&mut self, chain: &Chain, layer: &SparseMatrix) -> Option<()> {
        let (node, graph) = (chain.start, self.graph);
        let (x, w) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
        let [m, n, k] = layer.shape;
        let constant = graph.constant(w)?;
        let nonzeros = constant.nonzeros();
        // Windows are not longer than rows, so that nothing is read behind these.
        if m > spmv::MAX_ROWS || k < spmv::WINDOW || !is_sparse(nonzeros, k * n) {
            return None;
        }
        let product = layer.product(nonzeros);
        let others = (self.spmm_cycles(&product) + conversion(m * (k + n))).min(layer.dense_cycles());
        let parts = self.target.vectors.parts();
        let vectors = |coded| Vectors { rows: m, outputs: n, depth: k, nonzeros, coded, parts };
        // Weights are looked at only if either way may be faster.
        if [false, true].map(vectors).iter().all(|vectors| vectors.cycles(vectors.slots()) >= others) {
            return None;
        }
        let mut numbers = Vec::new();
        let steps = chain.steps(layer.act, |beside| {
            let of_outputs = match beside {
                Beside::Channels(of_channels) => of_channels.clone(),
                Beside::Value(value) => {
                    let shape = self.f32_shape(*value)?;
                    let along = if matches!(graph.op(node), Op::Conv(_)) {
                        self.along_channels(*value, chain.end)
                    } else {
                        shape.last() == Some(&n)
                    };
                    let one_each = along && shape.iter().product::<usize>() == n;
                    self.f32_constant(*value).filter(|_| one_each)?.as_f32()?.to_vec()
                }
                Beside::Nothing | Beside::Number(_) => return None,
            };
            numbers.push(of_outputs);
            Some(())
        })?;
        let bias = match layer.bias {
            Some((bias, factor)) => self.f32_constant(bias)?.as_f32()?.iter().map(|b| b * factor).collect(),
            None => vec![0.0; n],
        };
        let (coded, groups) = pack::with_numbers(constant, |weights| {
            let matrix = layer.weights(weights);
            let coded = Codebook::of(&matrix).is_some();
            (coded, spmv::groups(&matrix, k, coded))
        })?;
        let (threads, operands) = (self.target.threads, numbers.len());
        let steps_of_rows = if m == 1 { [0, 0] } else { [signed(k * 4), signed(n * 4)] };
        let mut spmv =
            Spmv { rows: m, steps_of_rows, outputs: n, depth: k, nonzeros, coded, groups, threads, steps, operands };
        // Kernels find what they read and write by numbers of 32 bits.
        let longest = spmv.bytes().max(m * k * 4).max(m * n * 4);
        let cycles = vectors(coded).cycles(spmv.slots() as f64);
        if cycles >= others || i32::try_from(longest).is_err() {
            return None;
        }
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
