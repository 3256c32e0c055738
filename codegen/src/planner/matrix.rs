//! Matrix products: fully connected layers, and products of values.

use optc_ir::op::{Act, Gemm};
use optc_ir::{NodeId, Op, ValueId};

use super::Planner;
use super::chain::{Beside, Chain};
use super::listed::rows_of_matrix;
use super::sparse_matrix::SparseMatrix;
use super::values::{Steps as ValueSteps, WeightBox};
use crate::choice::Algorithm;
use crate::layout::{Layout, permuted, plain_strides, reshaped};
use crate::memory::Memory;
use crate::plan::{Arg, Place};
use crate::tile::contract::{Contract, Run, Tiling, Weights};
use crate::tile::epilogue::{Epilogue, Other, Strides};
use crate::tile::function::Function;
use crate::tile::{LANES, VECTOR_BYTES, signed};

/// Values of k unrolled.
const UNROLL: usize = 16;

/// Matrices `[m, k]·[k, n]`, as often as two axes say.
pub(super) struct Product {
    pub(super) batch: [usize; 2],
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    /// Steps of the left matrix: batch axes, row, column.
    pub(super) a: [i64; 4],
    /// Steps of the result: batch axes, row.
    pub(super) c: [i64; 3],
}

/// How a right matrix is stored, and what it is multiplied by.
#[derive(Clone, Copy)]
struct Right {
    transposed: bool,
    factor: f32,
}

/// How the left matrix is stored.
#[derive(Clone, Copy, Default)]
struct Left {
    transposed: bool,
}

impl Planner<'_> {
    /// A layer that is a matrix product, and the functions that follow it.
    pub(super) fn matrix(&mut self, chain: &Chain) -> Option<()> {
        let (node, graph) = (chain.start, self.graph);
        match graph.op(node) {
            Op::Linear(linear) => {
                let right = Right { transposed: true, factor: 1.0 };
                let bias = graph.operand(node, 2).map(|bias| (bias, 1.0));
                self.by_weights(chain, (Left::default(), right), bias, linear.act)
            }
            Op::Gemm(gemm) => self.gemm(chain, gemm),
            Op::MatMul(_) => {
                let b = graph.operand(node, 1)?;
                if graph.constant(b).is_some() && self.f32_shape(b)?.len() == 2 {
                    let right = Right { transposed: false, factor: 1.0 };
                    return self.by_weights(chain, (Left::default(), right), None, Act::None);
                }
                self.by_value(chain)
            }
            _ => None,
        }
    }

    fn gemm(&mut self, chain: &Chain, gemm: &Gemm) -> Option<()> {
        let node = chain.start;
        let c = self.graph.operand(node, 2);
        if let Some(c) = c {
            let outputs = self.f32_shape(node.into())?[1];
            let shape = self.f32_shape(c)?;
            if shape.iter().product::<usize>() != outputs || shape.last() != Some(&outputs) {
                return None;
            }
        }
        let right = Right { transposed: gemm.trans_b, factor: gemm.alpha };
        let left = Left { transposed: gemm.trans_a };
        self.by_weights(chain, (left, right), c.map(|c| (c, gemm.beta)), Act::None)
    }

    /// `x·w + b`, the bias times a factor. Constant weights are packed ahead; values are read row by row of k, or
    /// packed by a step if they lie otherwise.
    fn by_weights(
        &mut self,
        chain: &Chain,
        (left, right): (Left, Right),
        bias: Option<(ValueId, f32)>,
        act: Act,
    ) -> Option<()> {
        let (node, graph) = (chain.start, self.graph);
        let (x, w) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
        let (input, weights, output) = (self.f32_shape(x)?, self.f32_shape(w)?, self.f32_shape(node.into())?);
        let n = *output.last()?;
        if weights.len() != 2 {
            return None;
        }
        let k = weights[usize::from(right.transposed)];
        let m = input.iter().product::<usize>() / k;
        let Right { transposed, factor } = right;
        let (mut coded, mut signs, mut positions, mut picked) = (None, None, None, None);
        if !left.transposed && graph.constant(w).is_some() {
            let axis = usize::from(!transposed);
            let mut others = Vec::new();
            if let Some((found, candidate)) = self.coded_matrix(w, axis, [m, n, k]) {
                coded = Some(found);
                others.push(candidate);
            }
            if let Some((found, candidate)) = self.sign_matrix(node, axis, [m, n, k]).filter(|_| factor > 0.0) {
                signs = Some(found);
                others.push(candidate);
            }
            positions = self.matrix_positions(w, transposed, [n, k]);
            others.extend(positions.as_ref().map(|positions| self.listed(positions, rows_of_matrix(m, k))));
            if let Some((found, candidate)) = self.picked_matrix(w, transposed, [m, n, k]) {
                picked = Some(found);
                others.push(candidate);
            }
            let layer = SparseMatrix { shape: [m, n, k], transposed, factor, bias, act };
            let (algorithm, nonzeros) =
                self.matrix_algorithm(chain, &layer, others).unwrap_or((Algorithm::Dense, k * n));
            let planned = match algorithm {
                Algorithm::Spmm | Algorithm::SpmmUnrolled => {
                    Some(self.sparse_product(chain, &layer, (algorithm, nonzeros)))
                }
                Algorithm::Spmv => Some(self.sparse_vectors(chain, &layer, nonzeros)),
                Algorithm::Dense | Algorithm::Listed | Algorithm::NofM | Algorithm::Codes | Algorithm::Signs => None,
            };
            if let Some(planned) = planned {
                self.choices.planned(node, planned.is_some());
                if planned.is_some() {
                    return Some(());
                }
            }
            coded = coded.filter(|_| algorithm == Algorithm::Codes);
            signs = signs.filter(|_| algorithm == Algorithm::Signs);
            positions = positions.filter(|_| algorithm == Algorithm::Listed);
            picked = picked.filter(|_| algorithm == Algorithm::NofM);
        }
        let (mut arg, mut rows) = if left.transposed {
            let (arg, strides) = self.strided(node, x)?;
            (arg, permuted(&strides, &[1, 0]))
        } else {
            self.matrix_rows(node, x, [m, k])?
        };
        if (signs.is_some() || picked.is_some()) && rows[1] != 4 {
            (arg, rows) = (self.plain(node, x)?, plain_strides(&[m, k]));
        }
        let constant = graph.constant(w).is_some();
        if !constant && right.factor != 1.0 && bias.is_some() {
            return None;
        }
        let bias_arg = match bias {
            Some((bias, factor)) if graph.constant(bias).is_some() => {
                let scaled = move |bias: &[f32]| Memory::copy(&bias.iter().map(|b| b * factor).collect::<Vec<f32>>());
                Some(self.packed(bias, format!("bias {factor}"), scaled)?)
            }
            Some((bias, 1.0)) => Some(self.vector(node, bias)?),
            Some(_) => return None,
            None => None,
        };
        let product = Product { batch: [1, 1], m, n, k, a: [0, 0, rows[0], rows[1]], c: [0, 0, signed(n * 4)] };
        let (mut epilogue, operands) = self.matrix_epilogue(chain, bias_arg.is_some(), act, &product)?;
        if !constant && right.factor != 1.0 {
            epilogue.steps.insert(0, (Function::Mul, Other::Number(right.factor)));
        }
        let (contract, w_arg) = if let Some(signs) = signs {
            let (contract, bits, w_arg) =
                self.sign_product(node, signs, &product, (arg, rows[0]), (right.transposed, right.factor, epilogue))?;
            arg = bits;
            (contract, w_arg)
        } else if let Some(coded) = coded {
            let coded = coded.times(right.factor);
            let contract = self.contract(&product, Weights::Coded(coded.code), epilogue);
            let how = format!("codes {} {} {}", contract.tiling.blocks, right.transposed, right.factor);
            let packing = contract.clone();
            let w_arg = self.packed_codes(w, how, move |constant| {
                let (values, numbers, factor) = coded.read(constant);
                let place = |o, i| if right.transposed { o * k + i } else { i * n + o };
                packing.pack_codes(coded.code, &values, |_, o, i| numbers[place(o, i)], |_, o| factor(o))
            })?;
            (contract, w_arg)
        } else if constant {
            let weights = picked.map_or(Weights::Packed, Weights::Picked);
            let mut contract = self.contract(&product, weights, epilogue);
            let mut lists = None;
            if let Some(positions) = &positions {
                let by_lists = self.matrix_by_lists(contract.clone(), (positions, self.nonzeros(w)?));
                self.choices.planned(node, by_lists.is_some());
                (contract, lists) = by_lists.map_or((contract, None), |(contract, lists)| (contract, Some(lists)));
            }
            let mut how = format!("matrix {} {} {}", contract.tiling.blocks, right.transposed, right.factor);
            if picked.is_some() {
                how = format!("picked {how}");
            }
            if lists.is_some() {
                how = format!("listed {how} {:?} {m}", contract.runs);
            }
            let packing = contract.clone();
            let w_arg = self.packed(w, how, move |numbers| {
                let place = |o, i| if right.transposed { o * k + i } else { i * n + o };
                packing.pack_numbers(lists.as_ref(), |_, o, i| right.factor * numbers[place(o, i)])
            })?;
            (contract, w_arg)
        } else {
            let (w_arg, mut strides) = self.strided(node, w)?;
            if right.transposed {
                strides.reverse();
            }
            if strides[1] == 4 || n == 1 {
                let rows = Weights::Rows { k: strides[0], group: 0, image: 0 };
                (self.contract(&product, rows, epilogue), w_arg)
            } else {
                let contract = self.contract(&product, Weights::Packed, epilogue);
                let w_plain = plain_strides(&weights);
                let output = w_plain[usize::from(!right.transposed)];
                let step = w_plain[usize::from(right.transposed)];
                let how = format!("matrix {} {}", contract.tiling.blocks, right.transposed);
                let all = WeightBox { outputs: 0..n, from: 0, k: 0, axes: vec![(k, 1, step)] };
                let w_arg = self.packed_value(node, w, how, &contract, (ValueSteps { group: 0, output }, vec![all]))?;
                (contract, w_arg)
            }
        };
        let place = self.place_plain(chain.end.into(), &output);
        let mut args = vec![arg, w_arg, Arg::Buffer(place.buffer, 0)];
        args.extend(bias_arg);
        args.extend(operands);
        self.kernel(chain.end, contract, args);
        Some(())
    }

    /// A value as a matrix of this shape: where it lies, and its steps.
    pub(super) fn matrix_rows(&mut self, node: NodeId, x: ValueId, shape: [usize; 2]) -> Option<(Arg, Vec<i64>)> {
        let own = self.f32_shape(x)?;
        let (arg, strides) = self.strided(node, x)?;
        match reshaped(&own, &strides, &shape) {
            Some(rows) => Some((arg, rows)),
            None => Some((self.plain(node, x)?, plain_strides(&shape))),
        }
    }

    /// A product of two values, batch by batch.
    fn by_value(&mut self, chain: &Chain) -> Option<()> {
        let (node, graph) = (chain.start, self.graph);
        let (a, b) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
        let (left, right, output) = (self.f32_shape(a)?, self.f32_shape(b)?, self.f32_shape(node.into())?);
        let rank = output.len();
        if left.len() < 2 || right.len() < 2 {
            return None;
        }
        let (a_arg, a_strides) = self.strided(node, a)?;
        let (b_arg, b_strides) = self.contiguous(node, b)?;
        if *right.last()? > 1 && *b_strides.last()? != 4 {
            return None;
        }
        let (m, n, k) = (output[rank - 2], output[rank - 1], *left.last()?);
        let batch = &output[..rank - 2];
        let layout = self.strided_layout(chain.end.into(), &output);
        let Layout::Strided { strides: c_strides, .. } = &layout else { return None };
        let walks = [
            batch_steps(batch, &left, &a_strides),
            batch_steps(batch, &right, &b_strides),
            c_strides[..rank - 2].to_vec(),
        ];
        let (batch, [a_batch, b_batch, c_batch]) = merge_batch(batch, walks)?;
        let product = Product {
            batch,
            m,
            n,
            k,
            a: [a_batch[0], a_batch[1], a_strides[left.len() - 2], a_strides[left.len() - 1]],
            c: [c_batch[0], c_batch[1], c_strides[rank - 2]],
        };
        let weights = Weights::Rows { k: b_strides[right.len() - 2], group: b_batch[1], image: b_batch[0] };
        let (epilogue, operands) = self.matrix_epilogue(chain, false, Act::None, &product)?;
        let buffer = self.buffer(output.iter().product::<usize>() * 4);
        self.put(chain.end.into(), Place { buffer, layout });
        let contract = self.contract(&product, weights, epilogue);
        let mut args = vec![a_arg, b_arg, Arg::Buffer(buffer, 0)];
        args.extend(operands);
        self.kernel(chain.end, contract, args);
        Some(())
    }

    pub(super) fn contract(&self, product: &Product, weights: Weights, epilogue: Epilogue) -> Contract {
        let Product { batch, m, n, k, a, c } = *product;
        let taps = |n: usize| (0..n).map(|i| signed(i) * a[3]).collect::<Vec<i64>>();
        let unroll = match weights {
            // Whole words.
            Weights::Coded(code) => UNROLL.next_multiple_of(code.span()),
            _ => UNROLL,
        };
        let (whole, rest) = (k / unroll, k % unroll);
        let mut runs = Vec::new();
        if whole > 0 {
            runs.push(Run { start: 0, loops: vec![(whole, a[3] * signed(unroll))], taps: taps(unroll) });
        }
        if rest > 0 {
            runs.push(Run { start: a[3] * signed(whole * unroll), loops: Vec::new(), taps: taps(rest) });
        }
        let temporaries = epilogue.temporaries();
        let mut target = self.target;
        // Batches are work for every thread already.
        target.threads = target.threads.div_ceil(batch[0] * batch[1]);
        Contract {
            images: batch[0],
            groups: batch[1],
            outputs: n,
            rows: 1,
            columns: m,
            runs,
            x: Strides { image: a[0], group: a[1], block: 0, row: 0, column: a[2] },
            y: Strides { image: c[0], group: c[1], block: signed(VECTOR_BYTES), row: 0, column: c[2] },
            whole_blocks: false,
            weights,
            epilogue,
            tiling: Tiling::choose_with(&weights, &target, [n.div_ceil(LANES), 1, m], temporaries),
        }
    }

    /// Bias, activation and the functions of a chain over a matrix; the arguments they read.
    pub(super) fn matrix_epilogue(
        &mut self,
        chain: &Chain,
        bias: bool,
        act: Act,
        product: &Product,
    ) -> Option<(Epilogue, Vec<Arg>)> {
        let mut epilogue = Epilogue { bias, ..Epilogue::default() };
        let mut args = Vec::new();
        let elements = product.batch[0] * product.batch[1] * product.m * product.n;
        epilogue.steps = chain.steps(act, |beside| {
            let Beside::Value(value) = beside else { return None };
            let shape = self.f32_shape(*value)?;
            let block = signed(VECTOR_BYTES);
            let strides = if shape.iter().product::<usize>() == elements && product.batch == [1, 1] {
                Strides { column: signed(product.n * 4), block, ..Strides::default() }
            } else if shape.iter().product::<usize>() == product.n && shape.last() == Some(&product.n) {
                Strides { block, ..Strides::default() }
            } else {
                return None;
            };
            args.push(self.plain(chain.end, *value)?);
            epilogue.operands.push(strides);
            Some(())
        })?;
        Some((epilogue, args))
    }
}

/// Steps of an operand along the batch axes of the result: zero where it is broadcast.
fn batch_steps(batch: &[usize], shape: &[usize], strides: &[i64]) -> Vec<i64> {
    let own = shape.len() - 2;
    let lead = batch.len() - own;
    let step = |axis: usize| match axis.checked_sub(lead) {
        Some(i) if shape[i] != 1 => strides[i],
        _ => 0,
    };
    (0..batch.len()).map(step).collect()
}

/// Batch axes as two at most: neighbours that all operands walk alike are one.
fn merge_batch(batch: &[usize], walks: [Vec<i64>; 3]) -> Option<([usize; 2], [[i64; 2]; 3])> {
    let mut merged: Vec<(usize, [i64; 3])> = Vec::new();
    for (axis, &n) in batch.iter().enumerate().filter(|(_, n)| **n != 1) {
        let steps = [walks[0][axis], walks[1][axis], walks[2][axis]];
        match merged.last_mut() {
            Some((count, outer)) if (0..3).all(|i| outer[i] == steps[i] * signed(n)) => {
                *count *= n;
                *outer = steps;
            }
            _ => merged.push((n, steps)),
        }
    }
    if merged.len() > 2 {
        return None;
    }
    while merged.len() < 2 {
        merged.insert(0, (1, [0; 3]));
    }
    let axis = |i: usize| [merged[0].1[i], merged[1].1[i]];
    Some(([merged[0].0, merged[1].0], [axis(0), axis(1), axis(2)]))
}
