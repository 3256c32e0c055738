//! Random inputs for a signature, the same for the same seed.

use optc_ir::{DType, Data, Dim, Graph, Tensor, Type};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::ArrayError;

/// The most elements a random input may have.
const MAX_RANDOM: usize = 1 << 30;

/// An extent that the model leaves open and a number was put in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumed {
    /// The symbol, or `input[axis]` for an extent without a name.
    pub dim: String,
    /// The number.
    pub extent: usize,
}

/// One random tensor per input: floats from the standard normal distribution, integers and booleans
/// from 0 and 1 (scalars 1), which are valid indices and masks nearly everywhere. Open extents become 1
/// on the first axis, 64 on the spatial axes of an image, else 16; symbols the same everywhere. Bind the
/// graph's symbols first to choose others.
///
/// # Errors
/// [`ArrayError`] naming an input of unknown type or absurd size.
pub fn random_inputs(graph: &Graph, seed: u64) -> Result<(Vec<Tensor>, Vec<Assumed>), ArrayError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut assumed: Vec<Assumed> = Vec::new();
    let mut tensors = Vec::new();
    for &input in graph.inputs() {
        let name = graph.name(input);
        let Type::Tensor(ty) = graph.ty(input) else {
            return Err(ArrayError::new(format!(
                "input {name} has no known type, so random values can't be made for it"
            )));
        };
        let rank = ty.rank();
        let shape: Vec<usize> = ty
            .shape
            .iter()
            .enumerate()
            .map(|(axis, dim)| {
                let label = match dim {
                    Dim::Fixed(n) => return *n,
                    Dim::Sym(symbol) => symbol.as_str().to_owned(),
                    Dim::Any => format!("{name}[{axis}]"),
                };
                if let Some(known) = assumed.iter().find(|a| a.dim == label) {
                    return known.extent;
                }
                let extent = match axis {
                    0 => 1,
                    _ if rank == 4 => 64,
                    _ => 16,
                };
                assumed.push(Assumed { dim: label, extent });
                extent
            })
            .collect();
        let len = shape
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .filter(|&n| n <= MAX_RANDOM)
            .ok_or_else(|| ArrayError::new(format!("input {name} of type {ty} is too large for random values")))?;
        tensors.push(Tensor::new(shape, random_data(&mut rng, ty.dtype, len, rank)));
    }
    Ok((tensors, assumed))
}

fn random_data(rng: &mut ChaCha8Rng, dtype: DType, len: usize, rank: usize) -> Data {
    if dtype.is_float() {
        return Data::from_f64(dtype, (0..len).map(|_| normal(rng)));
    }
    if rank == 0 {
        return Data::from_i64(dtype, [1]);
    }
    Data::from_i64(dtype, (0..len).map(|_| i64::from(rng.random::<bool>())))
}

/// A standard normal number by the method of Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs_and_open_extents_agree() {
        let mut graph = Graph::new("g");
        let image = [Dim::sym("N"), Dim::Fixed(3), Dim::sym("H"), Dim::Any];
        graph.add_input("image", Type::tensor(DType::F32, image));
        graph.add_input("ids", Type::tensor(DType::I64, [Dim::sym("N"), Dim::sym("T")]));
        graph.add_input("rate", Type::tensor(DType::I64, [0usize; 0]));
        let (inputs, assumed) = random_inputs(&graph, 7).unwrap();
        let shapes: Vec<_> = inputs.iter().map(|t| t.shape().to_vec()).collect();
        assert_eq!(shapes, [vec![1, 3, 64, 64], vec![1, 16], vec![]]);
        let labels: Vec<_> = assumed.iter().map(|a| a.dim.as_str()).collect();
        assert_eq!(labels, ["N", "H", "image[3]", "T"]);
        assert_eq!(inputs, random_inputs(&graph, 7).unwrap().0);
        assert_ne!(inputs, random_inputs(&graph, 8).unwrap().0);
    }

    #[test]
    fn an_absurd_input_is_an_error() {
        let mut graph = Graph::new("g");
        graph.add_input("x", Type::tensor(DType::F32, [1usize << 31, 4]));
        assert!(random_inputs(&graph, 0).unwrap_err().to_string().contains("input x"));
    }
}
