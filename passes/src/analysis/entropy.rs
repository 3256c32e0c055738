//! The empirical entropy of constants: what an ideal coder of independent elements would need.

use optc_ir::{Constant, Data, Encoding, Graph, NodeId};

use crate::analysis::cost::Cost;

impl Cost {
    /// For each layer, the entropy of its constants in bits: the sum of [`entropy_bits`].
    ///
    /// `graph` must be the graph this cost was computed of.
    pub fn entropy_bits(&self, graph: &Graph) -> Vec<f64> {
        let of_layer = |nodes: &[NodeId]| {
            nodes.iter().filter_map(|&node| graph.constant(node)).map(|constant| entropy_bits(constant)).sum()
        };
        self.layers.iter().map(|layer| of_layer(&layer.constants)).collect()
    }
}

/// The number of elements times the entropy of their empirical distribution:
/// `Σ_v n_v · log2(n / n_v)` over the distinct values `v`. A table of the values is not included.
pub fn entropy_bits(constant: &Constant) -> f64 {
    let counts = match constant.encoding() {
        // Distinct codes are distinct values, or finer: codes of different scales.
        Encoding::Clustered { codes, .. } => runs(codes.iter().collect()),
        Encoding::Dense(data) => counts_of(data),
        Encoding::Sparse { .. } | Encoding::Quantized { .. } => counts_of(constant.decode().data()),
    };
    let n: usize = counts.iter().sum();
    counts.iter().map(|&count| count as f64 * (n as f64 / count as f64).log2()).sum()
}

/// How often each distinct element occurs, compared by bits.
fn counts_of(data: &Data) -> Vec<usize> {
    match data {
        Data::F64(v) => runs(v.iter().map(|x| x.to_bits()).collect()),
        Data::F32(v) => runs(v.iter().map(|x| x.to_bits()).collect()),
        Data::F16(v) => runs(v.iter().map(|x| x.to_bits()).collect()),
        Data::BF16(v) => runs(v.iter().map(|x| x.to_bits()).collect()),
        Data::I64(v) => runs(v.clone()),
        Data::I32(v) => runs(v.clone()),
        Data::I16(v) => runs(v.clone()),
        Data::I8(v) | Data::I4(v) => runs(v.clone()),
        Data::U64(v) => runs(v.clone()),
        Data::U32(v) => runs(v.clone()),
        Data::U16(v) => runs(v.clone()),
        Data::U8(v) | Data::U4(v) => runs(v.clone()),
        Data::Bool(v) => runs(v.clone()),
    }
}

fn runs<T: Ord>(mut elements: Vec<T>) -> Vec<usize> {
    elements.sort_unstable();
    elements.chunk_by(|a, b| a == b).map(<[T]>::len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_ir::Tensor;

    fn entropy(values: &[f32]) -> f64 {
        entropy_bits(&Constant::dense(Tensor::f32([values.len()], values.to_vec())))
    }

    #[test]
    fn entropy_of_few_values() {
        assert_eq!(entropy(&[]), 0.0);
        assert_eq!(entropy(&[3.0; 7]), 0.0);
        assert_eq!(entropy(&[1.0, 2.0, 1.0, 2.0]), 4.0);
        assert_eq!(entropy(&[1.0, 2.0, 3.0, 4.0]), 8.0);
        let skewed = 3.0 * (4.0f64 / 3.0).log2() + 2.0;
        assert!((entropy(&[5.0, 5.0, 5.0, -1.0]) - skewed).abs() < 1e-12);
    }

    #[test]
    fn zeros_of_both_signs_are_distinct() {
        assert_eq!(entropy(&[0.0, -0.0]), 2.0);
    }
}
