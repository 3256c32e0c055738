//! Operands for the tests of operators.

use crate::tensor::{Data, Tensor};
use crate::types::DType;

/// Small integers of both signs in no obvious order: sums of their products are exact in any type.
pub(super) fn numbers(dtype: DType, shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    let element = |i: usize| ((i * i * 7 + i * 3 + len) % 11) as f64 - 5.0;
    Tensor::new(shape, Data::from_f64(dtype, (0..len).map(element)))
}

/// The elements as `f64`.
pub(super) fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.data().to_f64()
}

/// Asserts equal shapes and elements that differ by at most `tolerance`.
pub(super) fn assert_near(tensor: &Tensor, shape: &[usize], expected: &[f64], tolerance: f64) {
    assert_eq!(tensor.shape(), shape);
    for (i, (a, b)) in values(tensor).iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "element {i}: {a}, expected {b}");
    }
}
