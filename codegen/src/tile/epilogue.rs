//! Epilogues: what is done to the sums of a tile before they are stored.
//!
//! Invariant: a kernel with an epilogue takes its pointers in the order x, w, y, the bias if there is one, then
//! operands of the epilogue.

use super::function::Function;
use super::program::{Bin, Inst, LANES, Mem, P, Src, Un, V, Writer};
use super::schedule::{STAY, Steps, signed};

/// What is summed over.
pub(crate) const X: P = P(0);

/// The weights.
pub(crate) const W: P = P(1);

/// The result.
pub(crate) const Y: P = P(2);

/// The bias, or the first operand if there is none.
const FOURTH: usize = 3;

/// Operands an epilogue can read.
pub(crate) const MAX_OPERANDS: usize = 2;

/// Bytes an operand moves along each direction of the result.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Strides {
    pub(crate) image: i64,
    /// From one group of outputs to the next.
    pub(crate) group: i64,
    /// From one block of [`LANES`] outputs to the next.
    pub(crate) block: i64,
    pub(crate) row: i64,
    pub(crate) column: i64,
}

/// What is applied to a sum before it is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Epilogue {
    /// Whether sums begin with a bias: one number an output, whole blocks of them in memory.
    pub(crate) bias: bool,
    /// Functions in order; with the index of an operand where they take one.
    pub(crate) steps: Vec<(Function, Other)>,
    /// Where operands lie.
    pub(crate) operands: Vec<Strides>,
    /// Whether sums, and the bias, are integers of 32 bits, which become numbers before the first step.
    pub(crate) integers: bool,
    /// The zero point of the codes that results are stored as, rounded to even and limited to what a byte holds;
    /// `None` for results that stay numbers.
    pub(crate) codes: Option<u8>,
}

/// What stands beside the running value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Other {
    /// Nothing: a function of one operand.
    None,
    /// A number.
    Number(f32),
    /// Operand `i`, a vector for every point.
    Vector(usize),
    /// Operand `i`, the codes of a vector for every point.
    Codes(usize),
}

impl Other {
    /// Registers that a vector of it and the number in hand take, where they are made of quads of codes.
    pub(crate) fn registers(self) -> usize {
        if matches!(self, Other::Codes(_)) { 2 } else { 0 }
    }
}

impl Epilogue {
    /// Pointers of a kernel with this epilogue.
    pub(crate) fn pointers(&self) -> usize {
        self.first_operand() + self.operands.len()
    }

    /// Makes operands go on from group to group of a convolution as its result does, in blocks of channels.
    pub(crate) fn step_by_groups(&mut self, groups: usize, outputs: usize) {
        if groups > 1 {
            self.operands.iter_mut().for_each(|operand| operand.group = operand.block * signed(outputs / LANES));
        }
    }

    fn first_operand(&self) -> usize {
        FOURTH + usize::from(self.bias)
    }

    /// Registers it takes besides those it works on.
    pub(crate) fn temporaries(&self) -> usize {
        let of = |(function, other): &(Function, Other)| {
            // The last vector of a row that ends within one is loaded into a register first.
            function.temporaries() + usize::from(matches!(other, Other::Vector(_) | Other::Codes(_)))
        };
        self.steps.iter().map(of).max().unwrap_or(0).max(usize::from(self.codes.is_some()))
    }

    /// Steps of all pointers: of x, y and the operands what `step` says of each, and those of weights and bias.
    pub(crate) fn along(&self, [x, y]: [Strides; 2], step: impl Fn(Strides) -> i64, weights: i64, bias: i64) -> Steps {
        let mut steps = STAY;
        steps[..FOURTH].copy_from_slice(&[step(x), weights, step(y)]);
        if self.bias {
            steps[FOURTH] = bias;
        }
        for (to, &operand) in steps[self.first_operand()..].iter_mut().zip(&self.operands) {
            *to = step(operand);
        }
        steps
    }

    /// Begins sums that share a vector of the bias, so many bytes after its pointer.
    pub(crate) fn begin(&self, w: &mut Writer, sums: &[V], bias: i64) {
        if !self.bias {
            sums.iter().for_each(|&sum| w.set(sum, 0.0));
        } else if let Some((&first, others)) = sums.split_first() {
            w.load(first, P::of(FOURTH).at(bias));
            others.iter().for_each(|&sum| w.set(sum, first));
        }
    }

    /// Multiplies sums that began with zeros, and adds the vector of the bias that they share, so many bytes after
    /// its pointer.
    pub(crate) fn scale(&self, w: &mut Writer, sums: &[V], factor: V, bias: i64) {
        for &sum in sums {
            if self.bias {
                w.mul_add(sum, factor, Src::Mem(P::of(FOURTH).at(bias)));
            } else {
                w.bin(Bin::Mul, sum, sum, factor);
            }
        }
    }

    /// Applies the steps to sums. `at` says how many bytes after an operand's pointer stands what belongs to
    /// sum `i`, and `lanes` how many lanes of it the operand has.
    pub(crate) fn apply(
        &self,
        w: &mut Writer,
        sums: &[V],
        at: impl Fn(Strides, usize) -> i64,
        lanes: impl Fn(usize) -> usize,
    ) {
        if self.integers {
            sums.iter().for_each(|&sum| w.un(Un::FromInt, sum, sum));
        }
        for &(function, other) in &self.steps {
            let place =
                |operand: usize, i: usize| P::of(self.first_operand() + operand).at(at(self.operands[operand], i));
            let source = |i: usize| match other {
                Other::None => Src::Const(0.0),
                Other::Number(x) => Src::Const(x),
                Other::Vector(operand) | Other::Codes(operand) => Src::Mem(place(operand, i)),
            };
            if let Other::Codes(operand) = other {
                for (i, &sum) in sums.iter().enumerate() {
                    let v = w.take();
                    w.load_codes(v, place(operand, i));
                    function.apply(w, &[sum], |_| Src::Reg(v));
                    w.drop(v);
                }
                continue;
            }
            let whole = (0..sums.len()).all(|i| lanes(i) == LANES);
            if whole || !matches!(other, Other::Vector(_)) {
                function.apply(w, sums, source);
                continue;
            }
            for (i, &sum) in sums.iter().enumerate() {
                match source(i) {
                    // Memory behind the last lane is not the operand's.
                    Src::Mem(from) if lanes(i) < LANES => {
                        let v = w.take();
                        w.load_lanes(v, from, lanes(i));
                        function.apply(w, &[sum], |_| Src::Reg(v));
                        w.drop(v);
                    }
                    from => function.apply(w, &[sum], |_| from),
                }
            }
        }
    }

    /// Stores results: `to` says where each goes, and `lanes` how many of its lanes. Codes have whole blocks.
    pub(crate) fn store(
        &self,
        w: &mut Writer,
        results: &[V],
        to: impl Fn(usize) -> Mem,
        lanes: impl Fn(usize) -> usize,
    ) {
        match self.codes {
            Some(zero) => store_codes(w, zero, results, to),
            None => results.iter().enumerate().for_each(|(i, &v)| w.store_lanes(to(i), v, lanes(i))),
        }
    }
}

/// Stores numbers as codes of this zero point, rounded to even and limited to what a byte holds. One temporary.
pub(crate) fn store_codes(w: &mut Writer, zero: u8, numbers: &[V], to: impl Fn(usize) -> Mem) {
    let least = w.take();
    w.set(least, 0.0 - f32::from(zero));
    for (i, &v) in numbers.iter().enumerate() {
        // What is above a byte is limited as it is stored.
        w.bin(Bin::Max, v, v, least);
        w.un(Un::ToInt, v, v);
        if zero > 0 {
            w.bin(Bin::AddInt, v, v, f32::from_bits(zero.into()));
        }
        w.push(Inst::StoreBytes(to(i), v));
    }
    w.drop(least);
}

/// Codes on one grid made of codes on another, or of what codes were summed or compared to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Recoding {
    /// What a number is multiplied by, and what is added: then zero is 0, and the step between codes 1.
    pub(crate) factor: f32,
    pub(crate) offset: f32,
    /// The zero point of the result.
    pub(crate) zero: u8,
}

impl Recoding {
    /// Stores numbers as codes. One temporary.
    pub(crate) fn store(self, w: &mut Writer, numbers: &[V], to: impl Fn(usize) -> Mem) {
        Function::Scale(self.factor, self.offset).apply(w, numbers, |_| Src::Const(0.0));
        store_codes(w, self.zero, numbers, to);
    }
}
