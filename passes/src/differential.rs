//! Holds passes to their declared effect by running the graph before and after them.
//!
//! Both graphs run in the interpreter on the same random inputs, so a difference is the pass's doing.

use optc_ir::interp::Interp;
use optc_ir::{Backend, DType, Data, Dim, ExecError, Graph, Op, Tensor, Type};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::PassError;
use crate::observe::{Event, Observer, Step};
use crate::pass::Effect;

/// What came of checking one pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// The largest relative error of any result; within what the pass declares, or declared as unbounded.
    Measured(f64),
    /// The graph could not be run, and why.
    Skipped(String),
}

/// Checks each pass that changes the graph on seeded random inputs; tells `sink(index, pass, check)`.
///
/// A pass that declares [`Effect::Exact`] must leave every bit of every result; one that declares
/// [`Effect::Rounding`] may move results by [`tolerance`] of their largest element. A lossy pass is
/// measured only. Symbols are bound to small numbers; a graph that can't be run, because of an opaque
/// node or of inputs that random numbers do not satisfy, is skipped.
pub struct Differential<F> {
    seed: u64,
    sink: F,
    before: Option<Run>,
}

/// A graph, by version, and what it computed.
struct Run {
    version: u64,
    inputs: Vec<Tensor>,
    results: Vec<Tensor>,
}

impl<F: FnMut(usize, &str, &Check)> Differential<F> {
    /// An observer whose inputs follow from the seed.
    pub fn new(seed: u64, sink: F) -> Differential<F> {
        Differential { seed, sink, before: None }
    }
}

impl<F: FnMut(usize, &str, &Check)> Observer for Differential<F> {
    fn before(&mut self, event: &Event<'_>) -> Step {
        let version = event.graph.version();
        if self.before.as_ref().is_none_or(|run| run.version != version) {
            match first_run(event.graph, self.seed) {
                Ok((inputs, results)) => self.before = Some(Run { version, inputs, results }),
                Err(error) => {
                    self.before = None;
                    (self.sink)(event.index, event.pass.name(), &Check::Skipped(error.to_string()));
                }
            }
        }
        Step::Run
    }

    fn after(&mut self, event: &Event<'_>) -> Result<(), PassError> {
        let Some(before) = self.before.take().filter(|_| event.changed) else { return Ok(()) };
        if event.pass.changes_types() {
            let skipped = Check::Skipped("its inputs or results are of other types".to_owned());
            (self.sink)(event.index, event.pass.name(), &skipped);
            return Ok(());
        }
        let results = Interp.compile(event.graph)?.run(&before.inputs)?;
        let effect = event.pass.effect();
        let mut worst = 0.0f64;
        for ((name, _), (old, new)) in event.graph.results().iter().zip(before.results.iter().zip(&results)) {
            let error = if effect == Effect::Exact && old != new {
                relative_error(old, new).max(f64::MIN_POSITIVE)
            } else {
                relative_error(old, new)
            };
            worst = worst.max(error);
            if error > tolerance(effect, event.graph) {
                return Err(PassError::Effect { pass: event.pass.name(), effect, result: (*name).to_owned(), error });
            }
        }
        (self.sink)(event.index, event.pass.name(), &Check::Measured(worst));
        self.before = Some(Run { version: event.graph.version(), inputs: before.inputs, results });
        Ok(())
    }
}

/// Extents tried for open dimensions, in this order, until the graph runs: convolutional networks may
/// need a few dozen pixels, and some models take one sample only.
const EXTENTS: &[usize] = &[3, 8, 32, 1, 64];

fn first_run(graph: &Graph, seed: u64) -> Result<(Vec<Tensor>, Vec<Tensor>), ExecError> {
    let mut compiled = Interp.compile(graph)?;
    let mut failure = None;
    for &extent in EXTENTS {
        let inputs = random_inputs(graph, extent, seed)?;
        match compiled.run(&inputs) {
            Ok(results) => return Ok((inputs, results)),
            Err(error) => failure = Some(error),
        }
        let open = |dim: &Dim| dim.fixed().is_none();
        if !graph.inputs().iter().any(|&input| graph.ty(input).shape().is_some_and(|s| s.iter().any(open))) {
            break;
        }
    }
    Err(failure.expect("at least one extent was tried"))
}

/// One tensor per graph input, every open dimension `extent` long: floats uniform in ±1, integers 0 or
/// 1, booleans either.
///
/// # Errors
/// If the type of an input is unknown or too large.
pub fn random_inputs(graph: &Graph, extent: usize, seed: u64) -> Result<Vec<Tensor>, ExecError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let input = |&node| {
        let refuse = || {
            let (name, ty) = (graph.name(node), graph.ty(node));
            ExecError::Signature(format!("input {name} of type {ty} can't be filled with random numbers"))
        };
        let Type::Tensor(ty) = graph.ty(node) else { return Err(refuse()) };
        let shape: Vec<usize> = ty.shape.iter().map(|dim| dim.fixed().unwrap_or(extent)).collect();
        let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_INPUT);
        let len = len.ok_or_else(refuse)?;
        let data = if ty.dtype.is_float() {
            Data::from_f64(ty.dtype, (0..len).map(|_| rng.random_range(-1.0..1.0)))
        } else {
            Data::from_i64(ty.dtype, (0..len).map(|_| rng.random_range(0..2)))
        };
        Ok(Tensor::new(shape, data))
    };
    graph.inputs().iter().map(input).collect()
}

/// Elements of the largest input made.
const MAX_INPUT: usize = 1 << 26;

/// How far a pass of this effect may move a result, relative to the largest element of the result.
///
/// The bounds are some ten units in the last place of the coarsest float type in the graph, times a
/// margin for depth. Where the graph quantizes, a rounding may tip a code, which moves results by a
/// quantization step.
pub fn tolerance(effect: Effect, graph: &Graph) -> f64 {
    match effect {
        Effect::Exact => 0.0,
        Effect::Rounding => {
            let node = |node| match graph.op(node) {
                Op::QuantizeLinear(_) | Op::DynamicQuantizeLinear(_) | Op::QLinearConv(_) | Op::QLinearMatMul(_) => 0.1,
                _ => (0..graph.result_count(node)).map(|i| dtype(graph.ty(node.result(i)).dtype())).fold(0.0, f64::max),
            };
            graph.nodes().map(node).fold(dtype(None), f64::max)
        }
        Effect::Lossy => f64::INFINITY,
    }
}

fn dtype(dtype: Option<DType>) -> f64 {
    match dtype {
        Some(DType::BF16) => 1e-1,
        Some(DType::F16) => 1e-2,
        Some(DType::F32) => 1e-4,
        _ => 1e-10,
    }
}

/// The largest difference of two tensors over the largest finite element of the first, or over 1/1000 if
/// that is larger; infinite if types or shapes differ, or one is NaN or infinite where the other is not.
pub fn relative_error(reference: &Tensor, other: &Tensor) -> f64 {
    if reference.dtype() != other.dtype() || reference.shape() != other.shape() {
        return f64::INFINITY;
    }
    let (a, b) = (reference.data().to_f64(), other.data().to_f64());
    let scale = a.iter().filter(|x| x.is_finite()).fold(0.0f64, |m, x| m.max(x.abs()));
    let difference = |(&x, &y): (&f64, &f64)| match x == y || (x.is_nan() && y.is_nan()) {
        true => 0.0,
        false if x.is_finite() && y.is_finite() => (x - y).abs(),
        false => f64::INFINITY,
    };
    let largest = a.iter().zip(&b).map(difference).fold(0.0, f64::max);
    if largest == 0.0 { 0.0 } else { largest / scale.max(1e-3) }
}
