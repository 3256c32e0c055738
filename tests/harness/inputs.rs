//! Seeded random inputs that fit a signature.

use optc_ir::{DType, Data, Dim, Graph, Tensor, Type};
use optc_passes::{DataError, Dataset};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How to make inputs.
#[derive(Clone, Debug)]
pub struct InputSpec {
    /// Elements are in this range; integers are 0, 1 or 2 unless it is changed.
    pub range: (f64, f64),
    /// What symbols stand for. Others stand for 2, 3, … in order of appearance, and `?` for 2.
    pub bind: Vec<(String, usize)>,
}

impl Default for InputSpec {
    fn default() -> InputSpec {
        InputSpec { range: (-1.0, 1.0), bind: Vec::new() }
    }
}

/// One tensor an input of the graph.
///
/// # Errors
/// If an input is of unknown type.
pub fn random_inputs(graph: &Graph, spec: &InputSpec, seed: u64) -> Result<Vec<Tensor>, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut bound = spec.bind.clone();
    let mut extent = |dim: &Dim| match dim {
        Dim::Fixed(n) => *n,
        Dim::Any => 2,
        Dim::Sym(symbol) => match bound.iter().find(|(name, _)| name == symbol.as_str()) {
            Some((_, n)) => *n,
            None => {
                let n = bound.len() + 2;
                bound.push((symbol.as_str().to_owned(), n));
                n
            }
        },
    };
    let mut inputs = Vec::new();
    for &input in graph.inputs() {
        let Type::Tensor(ty) = graph.ty(input) else {
            return Err(format!("input {} is of unknown type", graph.name(input)));
        };
        let shape: Vec<usize> = ty.shape.iter().map(&mut extent).collect();
        inputs.push(random_tensor(&mut rng, ty.dtype, &shape, spec.range));
    }
    Ok(inputs)
}

/// A tensor of random elements, see [`InputSpec::range`].
pub fn random_tensor(rng: &mut ChaCha8Rng, dtype: DType, shape: &[usize], (lo, hi): (f64, f64)) -> Tensor {
    let len = shape.iter().product();
    let data = if dtype.is_float() {
        Data::from_f64(dtype, (0..len).map(|_| rng.random_range(lo..=hi)))
    } else if dtype == DType::Bool {
        Data::Bool((0..len).map(|_| rng.random()).collect())
    } else {
        let least = if dtype.is_signed() { lo.ceil() } else { lo.ceil().max(0.0) };
        let (lo, hi) = if (lo, hi) == InputSpec::default().range { (0, 2) } else { (least as i64, hi.floor() as i64) };
        Data::from_i64(dtype, (0..len).map(|_| rng.random_range(lo..=hi.max(lo))))
    };
    Tensor::new(shape, data)
}

/// Random inputs as a dataset of samples, each its own seed.
#[derive(Debug)]
pub struct RandomData {
    graph: Graph,
    spec: InputSpec,
    samples: usize,
}

impl RandomData {
    /// `samples` samples that fit the signature of the graph, whose first axis is the batch.
    pub fn new(graph: &Graph, spec: &InputSpec, samples: usize) -> RandomData {
        RandomData { graph: graph.clone(), spec: spec.clone(), samples }
    }
}

impl Dataset for RandomData {
    fn len(&self) -> usize {
        self.samples
    }

    fn batch(&self, samples: std::ops::Range<usize>) -> Result<Vec<Tensor>, DataError> {
        // The first axis of every input is as long as the batch; a sample is the same in any batch.
        let mut joined: Vec<Tensor> = Vec::new();
        for sample in samples {
            let seed = u64::try_from(sample).map_err(|e| DataError(e.to_string()))?;
            let one = random_inputs(&self.graph, &self.spec, seed).map_err(DataError)?;
            let one = one.into_iter().map(first_row).collect::<Vec<_>>();
            joined = match joined.is_empty() {
                true => one,
                false => joined.into_iter().zip(one).map(|(a, b)| append(a, &b)).collect(),
            };
        }
        Ok(joined)
    }

    fn labels(&self) -> Option<&[u32]> {
        None
    }
}

fn first_row(tensor: Tensor) -> Tensor {
    let (mut shape, data) = tensor.into_parts();
    if let Some(first) = shape.first_mut() {
        *first = 1;
    }
    let len = shape.iter().product();
    Tensor::new(shape, data.select(0..len))
}

fn append(a: Tensor, b: &Tensor) -> Tensor {
    let mut shape = a.shape().to_vec();
    if let Some(first) = shape.first_mut() {
        *first += 1;
    }
    let numbers = a.data().to_f64().into_iter().chain(b.data().to_f64());
    Tensor::new(shape, Data::from_f64(a.dtype(), numbers))
}
