//! Constants of few values, which kernels read as codes.
//!
//! What is clustered or quantized is read from its codes, and never decoded; what is not is looked through, as far as
//! it takes to see that there are more values than pay. Values may be those of the whole layer, or those of each
//! output up to a factor of its own.

use optc_ir::{Constant, Encoding, ExecError, NodeId, Packed, QuantParams, ValueId};

use super::Planner;
use super::choose;
use super::conv::{Window, computed_groups};
use crate::choice::{Algorithm, Candidate};
use crate::memory::Memory;
use crate::pack::{Layout, Packing};
use crate::plan::Arg;
use crate::target::Vectors;
use crate::tile::LANES;
use crate::tile::bytes::MAX_BYTES;
use crate::tile::contract::Code;

/// Weights of a layer that lie in the nearest cache whatever they are, and gain little.
const SMALL: usize = 4096;

/// Values that codes of fewer bits than a byte's tell apart.
const MANY: usize = 2 * LANES;

/// The values of a constant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FewValues {
    /// The values, ascending; before they are multiplied by the factor of their output, if there are any.
    values: Vec<f32>,
    /// One factor an output.
    factors: Option<Vec<f32>>,
    /// Whether values are whole numbers that bytes with sign hold, and are numbered by these.
    integers: bool,
    numbering: Numbering,
}

/// How the values of elements are numbered.
#[derive(Clone, Debug, PartialEq)]
enum Numbering {
    /// By the codes of the constant: for each of them, the number of its value.
    Codes(Vec<u8>),
    /// In their order.
    Values,
    /// Those that are less than zero, those that are zero if there are any, and those that are more.
    Signs,
}

/// Numbers of values, by their bits: a table that is at most a quarter full, entries that collide next to each other.
struct Numbers(Vec<Option<(u32, usize)>>);

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers(vec![None; 4 * MAX_BYTES])
    }
}

impl Numbers {
    /// The entry of a value, or the one it would have.
    fn place(&self, x: f32) -> usize {
        let last = self.0.len() - 1;
        let mut place = x.to_bits().wrapping_mul(0x9e37_79b1) as usize >> 16 & last;
        while self.0[place].is_some_and(|(bits, _)| bits != x.to_bits()) {
            place = (place + 1) & last;
        }
        place
    }

    fn of(&self, x: f32) -> Option<usize> {
        self.0[self.place(x)].map(|(_, number)| number)
    }

    /// Numbers one of at most [`MAX_BYTES`] values.
    fn add(&mut self, x: f32, number: usize) {
        let place = self.place(x);
        self.0[place] = Some((x.to_bits(), number));
    }
}

/// A layer whose weights are read as codes.
pub(super) struct Coded {
    pub(super) code: Code,
    values: FewValues,
    /// What every weight is multiplied by.
    times: f32,
}

impl Coded {
    /// `None` if there is no code for so many values on a target.
    fn new(values: FewValues, vectors: Vectors) -> Option<Coded> {
        let (integers, scaled) = (values.integers, values.factors.is_some());
        let code = Code { values: values.values.len().max(2), integers, scaled };
        code.is_for(vectors).then_some(Coded { code, values, times: 1.0 })
    }

    /// With every weight multiplied by a number.
    pub(super) fn times(self, times: f32) -> Coded {
        Coded { times, ..self }
    }

    /// The values, the number of each element's, and the factor of an output.
    pub(super) fn read(&self, constant: &Constant) -> (Vec<f32>, Vec<u8>, impl Fn(usize) -> f32) {
        // Integers are in no table that could be multiplied.
        let (of_values, of_factors) = if self.code.integers { (1.0, self.times) } else { (self.times, 1.0) };
        let values = self.values.values.iter().map(|value| value * of_values).collect();
        let factors = self.values.factors.as_deref();
        (values, self.values.numbers(constant), move |o| factors.map_or(1.0, |factors| factors[o] * of_factors))
    }
}

impl Planner<'_> {
    /// The constant matrix of `k` rows and `n` outputs as codes, if it has few values, and what its product with `m`
    /// rows costs. `axis` is that of outputs.
    pub(super) fn coded_matrix(&self, w: ValueId, axis: usize, [m, n, k]: [usize; 3]) -> Option<(Coded, Candidate)> {
        let vectors = n.div_ceil(LANES);
        let cycles =
            |code: Code| (code.cycles(m, vectors, k) * choose::DENSE).max(choose::reading(code.bytes(k) * vectors));
        let most = values_that_pay(cycles, choose::dense_matrix([m, n, k]));
        let few = (k * n >= SMALL).then(|| self.few_values(w, axis, most)).flatten()?;
        let coded = Coded::new(few, self.target.vectors)?;
        let candidate = Candidate { algorithm: Algorithm::Codes, cycles: cycles(coded.code) };
        Some((coded, candidate))
    }

    /// The constant weights of a convolution as codes, if they have few values, and what it costs so. Groups must fill
    /// blocks of channels.
    pub(super) fn coded_convolution(&self, w: ValueId, groups: usize, window: &Window) -> Option<(Coded, Candidate)> {
        let [channels, outputs] = window.channels.map(|channels| channels / groups);
        if computed_groups(groups, window.channels) != groups {
            return None;
        }
        let [images, _, rows, columns] = window.output();
        let (points, vectors) = (images * rows * columns, outputs.div_ceil(LANES));
        let cycles = |code: Code| {
            // Codes end with the channels of a block.
            let depth = channels.div_ceil(LANES) * window.taps() * code.padded(LANES.min(channels));
            let cycles = groups as f64 * code.cycles(points, vectors, depth) * choose::DENSE;
            cycles.max(choose::reading(code.bytes(depth) * vectors * groups))
        };
        let most = values_that_pay(cycles, self.dense_convolution(groups, window).cycles);
        let many = channels * window.taps() * outputs * groups >= SMALL;
        let coded = Coded::new(many.then(|| self.few_values(w, 0, most)).flatten()?, self.target.vectors)?;
        let candidate = Candidate { algorithm: Algorithm::Codes, cycles: cycles(coded.code) };
        Some((coded, candidate))
    }

    /// The weights of a convolution as codes, if they have been chosen to be, or are chosen now because nothing was
    /// chosen for it before.
    pub(super) fn chosen_codes(&mut self, node: NodeId, groups: usize, window: &Window) -> Option<Coded> {
        let w = self.graph.operand(node, 1)?;
        let chosen = self.choices.chosen(node);
        if chosen.is_some_and(|algorithm| algorithm != Algorithm::Codes) {
            return None;
        }
        let (coded, candidate) = self.coded_convolution(w, groups, window)?;
        if chosen.is_none() {
            let candidates = self.admitted(node, true, vec![candidate, self.dense_convolution(groups, window)]);
            let algorithm = candidates.first()?.algorithm;
            self.choose(node, (self.graph.constant(w)?, self.nonzeros(w)?), candidates, algorithm);
            return (algorithm == Algorithm::Codes).then_some(coded);
        }
        Some(coded)
    }

    /// The values of a constant `f32` operand whose outputs are along an axis, if they are few; at most so many of
    /// what must be looked through.
    pub(super) fn few_values(&self, value: ValueId, axis: usize, most: usize) -> Option<FewValues> {
        FewValues::of(self.graph.constant(value)?, axis, most)
    }

    /// A constant of few values as `layout` will lay it out; `how` tells layouts of one constant apart.
    pub(super) fn packed_codes(
        &mut self,
        value: ValueId,
        how: String,
        layout: impl FnOnce(&Constant) -> Result<Memory, ExecError> + 'static,
    ) -> Option<Arg> {
        let constant = self.graph.constant(value)?;
        let index = *self.packed.entry((value.node, how)).or_insert_with_key(|(_, how)| {
            self.packings.push(Packing::Constant(constant.clone(), how.clone(), Layout::Encoded(Box::new(layout))));
            self.packings.len() - 1
        });
        Some(Arg::Constant(index, 0))
    }
}

/// How many values weights can have that are not encoded for codes to pay, by what a product by them costs: bytes, in
/// the best case, must take less than all weights do.
fn values_that_pay(cycles: impl Fn(Code) -> f64, dense: f64) -> usize {
    let bytes = Code { values: MAX_BYTES, integers: true, scaled: true };
    if cycles(bytes) < dense { MAX_BYTES } else { MANY }
}

impl FewValues {
    /// Whether the values are plus and minus one number, up to factors.
    pub(super) fn are_signs(&self) -> bool {
        matches!(self.values[..], [low, high] if low == -high && high > 0.0)
    }

    /// The largest value of an output.
    pub(super) fn magnitude(&self, output: usize) -> f32 {
        let largest = self.values.last().copied().unwrap_or(0.0);
        self.factors.as_ref().map_or(largest, |factors| largest * factors[output])
    }

    /// The values of a constant, if they are few.
    fn of(constant: &Constant, axis: usize, most: usize) -> Option<FewValues> {
        let shape = constant.shape();
        match constant.encoding() {
            Encoding::Clustered { codebook, codes } => {
                let values = codebook.as_f32()?;
                let symmetric = values.iter().zip(values.iter().rev()).all(|(low, high)| *low == -high);
                // Pairs of values may be those of outputs.
                if symmetric
                    && values.len() > 3
                    && let Some(few) =
                        FewValues::of_magnitudes(codes.iter().map(|code| values[code as usize]), shape, axis)
                {
                    return Some(few);
                }
                let last = u8::try_from(values.len().checked_sub(1)?).ok()?;
                let numbering = Numbering::Codes((0..=last).collect());
                Some(FewValues { values: values.to_vec(), factors: None, integers: false, numbering })
            }
            Encoding::Quantized { params, codes } => FewValues::of_grid(params, codes, shape[axis], axis),
            Encoding::Dense(data) => FewValues::of_elements(data.as_f32()?, shape, axis, most),
            Encoding::Sparse { .. } => FewValues::of_elements(constant.decode().as_f32()?, shape, axis, most),
        }
    }

    /// The values of codes on a grid: all that occur. Grids along outputs must differ in their scales alone.
    fn of_grid(params: &QuantParams, codes: &Packed, outputs: usize, axis: usize) -> Option<FewValues> {
        let zero = *params.zeros.first()?;
        let factors = match params.axis {
            None => None,
            Some(own) if own == axis => {
                params.zeros.iter().all(|other| *other == zero).then(|| params.scales.clone()).map(Some)?
            }
            Some(_) => return None,
        };
        let mut occurs = vec![false; 1 << params.bits];
        codes.iter().for_each(|code| occurs[code as usize] = true);
        let found: Vec<u32> = (0..).zip(occurs).filter_map(|(code, occurs)| occurs.then_some(code)).collect();
        let integer = |code: u32| Some(code as f32 - zero).filter(|x| x.fract() == 0.0 && (-128.0..128.0).contains(x));
        // Where there are many, the numbers that stand for them are those they are multiples of.
        let integers = (found.len() > MANY).then(|| found.iter().map(|&code| integer(code)).collect()).flatten();
        let integers: Option<Vec<f32>> = integers;
        let mut of_code = vec![0; 1 << params.bits];
        if let Some(values) = integers {
            for (&code, value) in found.iter().zip(&values) {
                of_code[code as usize] = (*value as i8).cast_unsigned();
            }
            let factors = factors.unwrap_or_else(|| vec![params.scales[0]; outputs]);
            let numbering = Numbering::Codes(of_code);
            return Some(FewValues { values, factors: Some(factors), integers: true, numbering });
        }
        for (number, &code) in found.iter().enumerate() {
            of_code[code as usize] = u8::try_from(number).ok()?;
        }
        let value = |&code: &u32| if factors.is_some() { code as f32 - zero } else { params.value(0, code) };
        let values = found.iter().map(value).collect();
        Some(FewValues { values, factors, integers: false, numbering: Numbering::Codes(of_code) })
    }

    /// The values of elements: one magnitude for each output, or at most so many in all.
    fn of_elements(elements: &[f32], shape: &[usize], axis: usize, most: usize) -> Option<FewValues> {
        if let Some(few) = FewValues::of_magnitudes(elements.iter().copied(), shape, axis) {
            return Some(few);
        }
        let mut values = Vec::new();
        let mut numbers = Numbers::default();
        for &x in elements {
            if numbers.of(x).is_none() {
                if values.len() == most {
                    return None;
                }
                numbers.add(x, values.len());
                values.push(x);
            }
        }
        values.sort_by(f32::total_cmp);
        Some(FewValues { values, factors: None, integers: false, numbering: Numbering::Values })
    }

    /// The values of elements that are zero, or plus or minus the factor of their output.
    fn of_magnitudes(elements: impl Iterator<Item = f32>, shape: &[usize], axis: usize) -> Option<FewValues> {
        let step: usize = shape[axis + 1..].iter().product();
        let mut factors = vec![0.0; shape[axis]];
        let mut zeros = false;
        for (i, x) in elements.enumerate() {
            let factor = &mut factors[i / step % shape[axis]];
            match x.abs() {
                0.0 => zeros = true,
                magnitude if *factor == 0.0 => *factor = magnitude,
                magnitude if *factor == magnitude => {}
                _ => return None,
            }
        }
        let values = if zeros { vec![-1.0, 0.0, 1.0] } else { vec![-1.0, 1.0] };
        Some(FewValues { values, factors: Some(factors), integers: false, numbering: Numbering::Signs })
    }

    /// For each element of the constant the number of its value.
    pub(super) fn numbers(&self, constant: &Constant) -> Vec<u8> {
        let number = |place: usize| u8::try_from(place).expect("values are few");
        let of_codes = |codes: &Packed, numbers: &[u8]| codes.iter().map(|code| numbers[code as usize]).collect();
        let of_elements = |elements: &[f32]| match &self.numbering {
            Numbering::Signs => {
                let last = self.values.len() - 1;
                let place = |x: f32| if x == 0.0 { 1 } else { last * usize::from(x > 0.0) };
                elements.iter().map(|&x| number(place(x))).collect()
            }
            _ => {
                let mut numbers = Numbers::default();
                self.values.iter().enumerate().for_each(|(place, &value)| numbers.add(value, place));
                elements.iter().map(|&x| number(numbers.of(x).expect("every value has been seen"))).collect()
            }
        };
        match (constant.encoding(), &self.numbering) {
            (Encoding::Clustered { codes, .. } | Encoding::Quantized { codes, .. }, Numbering::Codes(numbers)) => {
                of_codes(codes, numbers)
            }
            (Encoding::Dense(data), _) => of_elements(data.as_f32().expect("constants of few values are f32")),
            _ => of_elements(constant.decode().as_f32().expect("constants of few values are f32")),
        }
    }
}
