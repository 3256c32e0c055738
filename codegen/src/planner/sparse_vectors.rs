//! Products of few rows and constant matrices that are mostly zero: lanes are outputs.

use optc_ir::{Constant, Encoding, Op};

use super::Planner;
use super::chain::{Beside, Chain};
use super::choose::FewRows;
use super::sparse::is_sparse;
use super::sparse_matrix::SparseMatrix;
use crate::choice::Candidate;
use crate::pack;
use crate::plan::Arg;
use crate::tile::epilogue::Other;
use crate::tile::function::Function;
use crate::tile::schedule::Axis;
use crate::tile::spmm::Matrix;
use crate::tile::spmv::{self, Codebook, Form, Spmv};
use crate::tile::{LANES, VECTOR_BYTES, signed};

/// Functions of sums in order, and for each operand one number an output.
type OfOutputs = (Vec<(Function, Other)>, Vec<Vec<f32>>);

impl Planner<'_> {
    /// The layer as a product whose lanes are outputs, if its rows, which are in a grid, are few and its weights
    /// mostly zero.
    pub(super) fn few_rows(
        &self,
        chain: &Chain,
        layer: &SparseMatrix,
        rows: [usize; 2],
        (weights, nonzeros): (&Constant, usize),
    ) -> Option<Candidate> {
        let ([_, outputs, depth], vectors) = (layer.shape, self.target.vectors);
        let few = FewRows { rows, outputs, depth, nonzeros, form: Form::Numbers, vectors };
        few.candidate().filter(|_| is_sparse(nonzeros, outputs * depth))?;
        self.of_outputs(chain, layer)?;
        FewRows { form: self.form(layer, rows, (weights, nonzeros)), ..few }.candidate()
    }

    /// How weights of a layer of few rows are kept: codes of few bits always, bytes where that takes fewer cycles.
    fn form(&self, layer: &SparseMatrix, rows: [usize; 2], (weights, nonzeros): (&Constant, usize)) -> Form {
        let ([_, outputs, depth], vectors) = (layer.shape, self.target.vectors);
        let cycles = |form| {
            let few = FewRows { rows, outputs, depth, nonzeros, form, vectors };
            few.candidate().map_or(f64::INFINITY, |candidate| candidate.cycles)
        };
        match Form::of(values(weights), Spmv::tile(rows, vectors).iter().product(), vectors) {
            form @ Form::Bytes(_) if cycles(form) >= cycles(Form::Numbers) => Form::Numbers,
            form => form,
        }
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

    /// A layer of few rows by constants that are mostly zero, and the functions that follow it.
    pub(super) fn sparse_vectors(&mut self, chain: &Chain, layer: &SparseMatrix, nonzeros: usize) -> Option<()> {
        let (node, x) = (chain.start, self.graph.operand(chain.start, 0)?);
        let [m, n, k] = layer.shape;
        let (arg, rows) = self.matrix_rows(node, x, [m, k])?;
        let near = i64::from(i32::MAX) / signed(m);
        let (arg, step) = match rows[..] {
            [_, 4] if m == 1 => (arg, 0),
            [step, 4] if (0..near).contains(&step) => (arg, step),
            _ => (self.plain(node, x)?, signed(k * 4)),
        };
        let rows = [Axis::new(1, [0]), Axis::new(m, [step, 0, signed(n * 4)])];
        let packing = *layer;
        let matrix = move |weights: &[f32]| packing.weights(weights);
        let (spmv, packed) = self.spmv_kernel(chain, layer, nonzeros, (rows, signed(VECTOR_BYTES)), matrix)?;
        let output = self.f32_shape(chain.end.into())?;
        let place = self.place_plain(chain.end.into(), &output);
        self.kernel(chain.end, spmv, vec![arg, packed, Arg::Buffer(place.buffer, 0)]);
        Some(())
    }

    /// The kernel of a layer whose lanes are outputs, and its weights as it reads them: where its rows are, and bytes
    /// from one block of outputs to the next; and how the matrix is made of the weights.
    pub(super) fn spmv_kernel(
        &mut self,
        chain: &Chain,
        layer: &SparseMatrix,
        nonzeros: usize,
        (rows, block): ([Axis; 2], i64),
        matrix: impl Fn(&[f32]) -> Matrix + 'static,
    ) -> Option<(Spmv, Arg)> {
        let w = self.graph.operand(chain.start, 1)?;
        let [_, outputs, depth] = layer.shape;
        let constant = self.graph.constant(w)?;
        let (steps, numbers) = self.of_outputs(chain, layer)?;
        let bias = match layer.bias {
            Some((bias, factor)) => self.f32_constant(bias)?.as_f32()?.iter().map(|b| b * factor).collect(),
            None => vec![0.0; outputs],
        };
        let form = self.form(layer, rows.map(|axis| axis.count), (constant, nonzeros));
        let groups = pack::with_numbers(constant, |weights| spmv::groups(&matrix(weights), depth, form))?;
        let (threads, operands) = (self.target.threads, numbers.len());
        let spmv = Spmv { rows, outputs, block, depth, nonzeros, form, groups, threads, steps, operands };
        // Kernels find what they read and write by numbers of 32 bits.
        let ends = rows.iter().map(|axis| signed(axis.count) * axis.steps[0].max(axis.steps[2]));
        let far = signed(spmv.bytes()).max(signed(outputs.div_ceil(LANES)) * block);
        i32::try_from(far + ends.sum::<i64>() + signed(depth * 4)).ok()?;
        let packing = spmv.clone();
        let packed = self.packed(w, format!("spmv {:?} {threads} {block}", chain.end), move |weights| {
            packing.pack(&matrix(weights), |o| bias[o], |operand, o| numbers[operand][o])
        })?;
        Some((spmv, packed))
    }
}

/// Values of weights, zero among them, if they are few. A codebook need not be looked for where weights have one.
fn values(weights: &Constant) -> Option<usize> {
    let of = |weights: &[f32]| Codebook::of(weights.iter().copied()).map(|codebook| codebook.len());
    match weights.encoding() {
        Encoding::Clustered { codebook, .. } => of(codebook.as_f32()?),
        Encoding::Sparse { values, .. } => match &**values {
            Encoding::Clustered { codebook, .. } => of(codebook.as_f32()?),
            _ => pack::with_numbers(weights, of)?,
        },
        _ => pack::with_numbers(weights, of)?,
    }
}
