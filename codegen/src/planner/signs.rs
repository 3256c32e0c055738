//! Layers whose input and weights are signs: products of bits.

use optc_ir::op::{Conv, Unary};
use optc_ir::{NodeId, Op, ValueId};

use super::Planner;
use super::chain::Chain;
use super::choose;
use super::coded::FewValues;
use super::conv::Window;
use super::matrix::Product;
use crate::choice::{Algorithm, Candidate};
use crate::plan::Arg;
use crate::tile::contract::{Contract, Run, Signs, Tiling, Weights};
use crate::tile::epilogue::{Epilogue, Strides};
use crate::tile::fill::{Fill, Planes};
use crate::tile::sign_bits::{PAIR_BYTES, SignBits, WORD, count_at, pixel_bytes};
use crate::tile::{LANES, signed};

/// Values that signs have.
const SIGNS: usize = 2;

/// Words unrolled.
const UNROLL: usize = 8;

impl Planner<'_> {
    /// Whether a value has no elements but −1, 0, 1 and NaN.
    fn is_signs(&self, value: ValueId) -> bool {
        match self.graph.op(value.node) {
            Op::Unary(Unary::Sign) => true,
            Op::Reshape(_) | Op::Flatten(_) | Op::Transpose(_) | Op::Squeeze(_) | Op::Unsqueeze(_) | Op::MaxPool(_) => {
                self.graph.operand(value.node, 0).is_some_and(|x| self.is_signs(x))
            }
            _ => false,
        }
    }

    /// The constant weights of a layer, if they are plus and minus one number, or one for each output, and what they
    /// are multiplied by are signs.
    fn sign_weights(&self, node: NodeId, axis: usize) -> Option<FewValues> {
        let (x, w) = (self.graph.operand(node, 0)?, self.graph.operand(node, 1)?);
        let signs = self.target.vectors.multiply_codes() && self.is_signs(x);
        signs.then(|| self.few_values(w, axis, SIGNS)).flatten().filter(FewValues::are_signs)
    }

    /// The weights of a matrix product of signs, and what it costs; `axis` of the weights is that of outputs.
    pub(super) fn sign_matrix(
        &self,
        node: NodeId,
        axis: usize,
        [m, n, k]: [usize; 3],
    ) -> Option<(FewValues, Candidate)> {
        let cycles = Signs::cycles(m, n.div_ceil(LANES), k).max(choose::reading(n * k / 8)) + packing(m * k);
        Some((self.sign_weights(node, axis)?, Candidate { algorithm: Algorithm::Signs, cycles }))
    }

    /// The kernel of a matrix product of signs: the packed rows, and the packed weights, of which `bit` is told where
    /// those of output and k are in the constant.
    pub(super) fn sign_product(
        &mut self,
        node: NodeId,
        values: FewValues,
        product: &Product,
        (rows, row): (Arg, i64),
        (transposed, factor, epilogue): (bool, f32, Epilogue),
    ) -> Option<(Contract, Arg, Arg)> {
        let (x, w) = (self.graph.operand(node, 0)?, self.graph.operand(node, 1)?);
        let &Product { m, n, k, .. } = product;
        let pixel = signed(pixel_bytes(k));
        let how = format!("sign bits {m} {k}");
        let buffer = match self.packed_values.get(&(x, how.clone())) {
            Some(&buffer) => buffer,
            None => {
                let buffer = self.buffer(m * pixel_bytes(k));
                let bits = SignBits {
                    images: 1,
                    rows: 1,
                    columns: m,
                    channels: k,
                    x: Strides { block: signed(LANES * 4), column: row, ..Strides::default() },
                    y: Strides { column: pixel, ..Strides::default() },
                };
                self.kernel(node, bits, vec![rows, Arg::Buffer(buffer, 0)]);
                self.packed_values.insert((x, how), buffer);
                buffer
            }
        };
        let weights = Weights::Signs(Signs { weights: k, count: signed(count_at(k)), window: [(1, 0); 2] });
        let mut contract = self.contract(product, weights, epilogue);
        (contract.runs, contract.x) = (sign_runs(k, &[]), Strides { column: pixel, ..Strides::default() });
        let how = format!("sign matrix {} {transposed} {factor}", contract.tiling.blocks);
        let packing = contract.clone();
        let packed = self.packed_codes(w, how, move |constant| {
            let numbers = values.numbers(constant);
            let place = |o: usize, i: usize| if transposed { o * k + i } else { i * n + o };
            let word = |_, o, word| bits((word * WORD..k).take(WORD).map(|i| numbers[place(o, i)] != 0));
            packing.pack_signs(word, |_, o| values.magnitude(o) * factor)
        })?;
        Some((contract, Arg::Buffer(buffer, 0), packed))
    }

    /// The window and weights of a convolution of signs, and what can compute it; `None` if that is better done with
    /// dense weights.
    pub(super) fn sign_convolution_weights(
        &self,
        node: NodeId,
        conv: &Conv,
    ) -> Option<(Window, FewValues, Vec<Candidate>)> {
        if conv.group != 1 {
            return None;
        }
        let window = self.conv_window(node, conv)?;
        let [images, outputs, rows, columns] = window.output();
        let (points, vectors) = (images * rows * columns, outputs.div_ceil(LANES));
        let pixels = images * window.axes[0].input * window.axes[1].input * window.channels[0];
        // Words are not filled by few channels.
        let weights = window.channels[0].next_multiple_of(WORD) * window.taps();
        let cycles = Signs::cycles(points, vectors, weights) + packing(pixels);
        let signs = Candidate { algorithm: Algorithm::Signs, cycles };
        let candidates = self.admitted(node, true, vec![signs, self.dense_convolution(1, &window)]);
        let chosen = candidates.first()?.algorithm == Algorithm::Signs;
        let values = chosen.then(|| self.sign_weights(node, 0)).flatten()?;
        Some((window, values, candidates))
    }

    /// A convolution of signs, and the functions that follow it.
    pub(super) fn sign_convolution(&mut self, chain: &Chain, conv: &Conv) -> Option<()> {
        let node = chain.start;
        let (window, values, candidates) = self.sign_convolution_weights(node, conv)?;
        let w = self.graph.operand(node, 1)?;
        let constant = self.graph.constant(w)?;
        let (epilogue, mut operands) = self.image_epilogue(chain, conv.act, window.output())?;
        let channels = window.channels[0];
        let (x_arg, steps) = self.sign_image(node, &window)?;
        let (place, out) = self.place_blocked(chain.end, chain.end.into(), window.output());
        let [_, outputs, rows, columns] = window.output();
        let [row, column] = window.tap(steps);
        let kernel = window.axes.map(|axis| axis.kernel);
        let loops = [(kernel[0], row), (kernel[1], column)];
        let signs = Signs { weights: channels * window.taps(), count: signed(count_at(channels)), window: loops };
        let weights = Weights::Signs(signs);
        let shape = [outputs.div_ceil(LANES), rows, columns];
        let tiling = Tiling::choose_with(&weights, &self.target, shape, epilogue.temporaries());
        let mut contract = Contract {
            images: window.images,
            groups: 1,
            outputs,
            rows,
            columns,
            runs: sign_runs(channels, &loops),
            x: window.strided(steps),
            y: out.strides(),
            whole_blocks: true,
            weights,
            epilogue,
            tiling,
        };
        contract.flatten(&self.target);
        let how = format!("sign conv {}", contract.tiling.blocks);
        let packing = contract.clone();
        let taps = window.taps();
        let w_arg = self.packed_codes(w, how, move |constant| {
            let numbers = values.numbers(constant);
            let order = word_order(channels, taps);
            let word = |_, o: usize, k: usize| {
                let (word, tap) = order[k];
                let own = (word * WORD..channels).take(WORD);
                bits(own.map(|c| numbers[(o * channels + c) * taps + tap] != 0))
            };
            packing.pack_signs(word, |_, o| values.magnitude(o))
        })?;
        let mut args = vec![x_arg, w_arg, Arg::Buffer(place.buffer, out.start())];
        args.append(&mut operands);
        self.kernel(chain.end, contract, args);
        self.choose(node, (constant, self.nonzeros(w)?), candidates, Algorithm::Signs);
        Some(())
    }

    /// The input of a convolution as bits, with the border its windows reach into: where the first window begins, and
    /// its steps from pixel to pixel.
    fn sign_image(&mut self, node: NodeId, window: &Window) -> Option<(Arg, Strides)> {
        let x = self.graph.operand(node, 0)?;
        let border = window.border();
        let [rows, columns] = window.axes.map(|axis| axis.input);
        let (images, channels) = (window.images, window.channels[0]);
        let (height, width) = (rows + border[0] + border[2], columns + border[1] + border[3]);
        let column = pixel_bytes(channels);
        let row = width * column;
        let steps =
            Strides { image: signed(height * row), row: signed(row), column: signed(column), ..Strides::default() };
        let how = format!("sign image {border:?}");
        if let Some(&buffer) = self.packed_values.get(&(x, how.clone())) {
            return Some((Arg::Buffer(buffer, 0), steps));
        }
        let (from, image) = self.blocked(node, x, [0; 4])?;
        let buffer = self.buffer(images * height * row);
        if border != [0; 4] {
            let planes = Planes { count: images, step: steps.image, height, width, column };
            self.kernel(node, Fill::border(0.0, planes, border), vec![Arg::Buffer(buffer, 0)]);
            self.overlap();
        }
        let bits = SignBits { images, rows, columns, channels, x: image.strides(), y: steps };
        let inside = Arg::Buffer(buffer, border[0] * row + border[1] * column);
        self.kernel(node, bits, vec![Arg::Buffer(from, image.start()), inside]);
        self.packed_values.insert((x, how), buffer);
        Some((Arg::Buffer(buffer, 0), steps))
    }
}

/// Cycles that pack so many signs.
fn packing(elements: usize) -> f64 {
    elements as f64 / LANES as f64 * 4.0
}

/// The walk over the words of a window, its loops given: whole runs of words first, then what is left of them.
fn sign_runs(channels: usize, loops: &[(usize, i64)]) -> Vec<Run> {
    let words = channels.div_ceil(WORD);
    let (whole, rest) = (words / UNROLL, words % UNROLL);
    let taps = |n: usize| (0..n).map(|i| signed(i * PAIR_BYTES)).collect::<Vec<i64>>();
    let step = signed(UNROLL * PAIR_BYTES);
    let mut runs = Vec::new();
    if whole > 0 {
        runs.push(Run { start: 0, loops: [loops, &[(whole, step)]].concat(), taps: taps(UNROLL) });
    }
    if rest > 0 {
        runs.push(Run { start: signed(whole) * step, loops: loops.to_vec(), taps: taps(rest) });
    }
    runs
}

/// The word and the element of the window that each k of [`sign_runs`] stands for.
fn word_order(channels: usize, taps: usize) -> Vec<(usize, usize)> {
    let words = channels.div_ceil(WORD);
    let whole = words / UNROLL * UNROLL;
    let of = |words: std::ops::Range<usize>| (0..taps).flat_map(move |tap| words.clone().map(move |word| (word, tap)));
    of(0..whole).chain(of(whole..words)).collect()
}

/// A word of these bits, the first the lowest.
fn bits(of: impl Iterator<Item = bool>) -> u32 {
    of.enumerate().fold(0, |word, (i, bit)| word | u32::from(bit) << i)
}
