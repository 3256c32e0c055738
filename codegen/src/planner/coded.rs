//! Constants of few values, which kernels read as codes.
//!
//! What is clustered or quantized is read from its codes; what is not is looked through, as far as it takes to see
//! that there are too many values. Values may be those of the whole layer, or those of each output up to a factor
//! of its own.

use optc_ir::{Constant, Encoding, ExecError, Packed, QuantParams, ValueId};

use super::Planner;
use super::choose;
use super::conv::Window;
use crate::choice::{Algorithm, Candidate, Selection};
use crate::memory::Memory;
use crate::pack::{Layout, Packing};
use crate::plan::Arg;
use crate::tile::LANES;
use crate::tile::contract::{Code, MAX_VALUES};

/// Weights of a layer that lie in the nearest cache whatever they are, and gain little.
const SMALL: usize = 4096;

/// The values of a constant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FewValues {
    /// The values, ascending; before they are multiplied by the factor of their output, if there are any.
    values: Vec<f32>,
    /// One factor an output.
    factors: Option<Vec<f32>>,
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

/// A layer whose weights are read as codes.
pub(super) struct Coded {
    pub(super) code: Code,
    values: FewValues,
    /// What every weight is multiplied by.
    times: f32,
}

impl Coded {
    fn new(values: FewValues) -> Coded {
        let code = Code { values: values.values.len().max(2), scaled: values.factors.is_some() };
        Coded { code, values, times: 1.0 }
    }

    /// With every weight multiplied by a number.
    pub(super) fn times(self, times: f32) -> Coded {
        Coded { times, ..self }
    }

    /// The values, the number of each element's, and the factor of an output.
    pub(super) fn read(&self, constant: &Constant) -> (Vec<f32>, Vec<u8>, impl Fn(usize) -> f32) {
        let values = self.values.values.iter().map(|value| value * self.times).collect();
        let factors = self.values.factors.as_deref();
        (values, self.values.numbers(constant), move |o| factors.map_or(1.0, |factors| factors[o]))
    }
}

impl Planner<'_> {
    /// The constant matrix of `k` rows and `n` outputs as codes, if it has few values, and what its product with `m`
    /// rows costs. `axis` is that of outputs.
    pub(super) fn coded_matrix(&self, w: ValueId, axis: usize, [m, n, k]: [usize; 3]) -> Option<(Coded, Candidate)> {
        let vectors = n.div_ceil(LANES);
        let coded = Coded::new((k * n >= SMALL).then(|| self.few_values(w, axis)).flatten()?);
        let code = coded.code;
        let cycles = (code.cycles(m, vectors, k) * choose::DENSE).max(choose::reading(code.bytes(k) * vectors));
        Some((coded, Candidate { algorithm: Algorithm::Codes, cycles }))
    }

    /// The constant weights of a convolution as codes, if they have few values and it is faster so. Groups must fill
    /// blocks of channels.
    pub(super) fn coded_convolution(&self, w: ValueId, groups: usize, window: &Window) -> Option<Coded> {
        let [channels, outputs] = window.channels.map(|channels| channels / groups);
        let is_dense = *self.selection == Selection::Always(Algorithm::Dense);
        if is_dense || groups > 1 && !(channels.is_multiple_of(LANES) && outputs.is_multiple_of(LANES)) {
            return None;
        }
        let [images, _, rows, columns] = window.output();
        let (points, vectors) = (images * rows * columns, outputs.div_ceil(LANES));
        let depth = channels * window.taps();
        let dense = self.winograd_cycles(groups, window).unwrap_or(points * depth * vectors * groups) as f64;
        let dense = (dense * choose::DENSE).max(choose::reading(depth * outputs * groups * 4));
        let many = depth * outputs * groups >= SMALL;
        let coded = Coded::new(many.then(|| self.few_values(w, 0)).flatten()?);
        let code = coded.code;
        // Codes end with the channels of a block.
        let depth = channels.div_ceil(LANES) * window.taps() * code.padded(LANES.min(channels));
        let cycles = groups as f64 * code.cycles(points, vectors, depth) * choose::DENSE;
        let cycles = cycles.max(choose::reading(code.bytes(depth) * vectors * groups));
        (cycles < dense).then_some(coded)
    }

    /// The values of a constant `f32` operand whose outputs are along an axis, if they are few.
    pub(super) fn few_values(&self, value: ValueId, axis: usize) -> Option<FewValues> {
        FewValues::of(self.graph.constant(value)?, axis)
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
    fn of(constant: &Constant, axis: usize) -> Option<FewValues> {
        let elements = || FewValues::of_elements(constant.decode().as_f32()?, constant.shape(), axis);
        match constant.encoding() {
            Encoding::Clustered { codebook, .. } => {
                let values = codebook.as_f32()?;
                let symmetric = values.iter().zip(values.iter().rev()).all(|(low, high)| *low == -high);
                // Pairs of values may be those of outputs.
                if symmetric
                    && values.len() > 3
                    && let Some(few) = elements()
                {
                    return Some(few);
                }
                let numbering = Numbering::Codes((0..u8::try_from(values.len()).ok()?).collect());
                let few = FewValues { values: values.to_vec(), factors: None, numbering };
                Some(few).filter(|few| few.values.len() <= MAX_VALUES)
            }
            Encoding::Quantized { params, codes } => {
                FewValues::of_grid(params, codes.iter(), axis).filter(|few| few.values.len() <= MAX_VALUES)
            }
            Encoding::Dense(data) => FewValues::of_elements(data.as_f32()?, constant.shape(), axis),
            Encoding::Sparse { .. } => elements(),
        }
    }

    /// The values of codes on a grid: all that occur. Grids along outputs must differ in their scales alone.
    fn of_grid(params: &QuantParams, codes: impl Iterator<Item = u32>, axis: usize) -> Option<FewValues> {
        let factors = match params.axis {
            None => None,
            Some(own) if own == axis => {
                let zero = params.zeros.first()?;
                params.zeros.iter().all(|other| other == zero).then(|| params.scales.clone()).map(Some)?
            }
            Some(_) => return None,
        };
        let mut occurs = vec![false; 1 << params.bits];
        codes.for_each(|code| occurs[code as usize] = true);
        let mut of_code = Vec::with_capacity(occurs.len());
        let mut values = Vec::new();
        for (code, occurs) in (0..).zip(occurs) {
            of_code.push(u8::try_from(values.len()).ok()?);
            if occurs {
                values.push(match factors {
                    None => params.value(0, code),
                    Some(_) => code as f32 - params.zeros[0],
                });
            }
        }
        Some(FewValues { values, factors, numbering: Numbering::Codes(of_code) })
    }

    /// The values of elements: one magnitude for each output, or few in all.
    fn of_elements(elements: &[f32], shape: &[usize], axis: usize) -> Option<FewValues> {
        if let Some(few) = FewValues::of_magnitudes(elements, shape, axis) {
            return Some(few);
        }
        let mut values: Vec<f32> = Vec::new();
        for x in elements {
            if let Err(place) = values.binary_search_by(|value| value.total_cmp(x)) {
                if values.len() == MAX_VALUES {
                    return None;
                }
                values.insert(place, *x);
            }
        }
        Some(FewValues { values, factors: None, numbering: Numbering::Values })
    }

    /// The values of elements that are zero, or plus or minus the factor of their output.
    fn of_magnitudes(elements: &[f32], shape: &[usize], axis: usize) -> Option<FewValues> {
        let step: usize = shape[axis + 1..].iter().product();
        let mut factors = vec![0.0; shape[axis]];
        let mut zeros = false;
        for (i, x) in elements.iter().enumerate() {
            let factor = &mut factors[i / step % shape[axis]];
            match x.abs() {
                0.0 => zeros = true,
                magnitude if *factor == 0.0 => *factor = magnitude,
                magnitude if *factor == magnitude => {}
                _ => return None,
            }
        }
        let values = if zeros { vec![-1.0, 0.0, 1.0] } else { vec![-1.0, 1.0] };
        Some(FewValues { values, factors: Some(factors), numbering: Numbering::Signs })
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
                let place = |x: &f32| self.values.binary_search_by(|value| value.total_cmp(x));
                elements.iter().map(|x| number(place(x).expect("every value has been seen"))).collect()
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
