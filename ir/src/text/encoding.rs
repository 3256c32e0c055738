//! Encodings as text.

use super::value::Element;
use crate::constant::{Constant, Encoding, Pattern, QuantParams};
use crate::tensor::Tensor;

/// How an encoding stands between type and payload; empty if dense. Lists of more than `max_elements`
/// parameters are hashed.
pub(super) fn describe(encoding: &Encoding, max_elements: usize) -> String {
    match encoding {
        Encoding::Dense(_) => String::new(),
        Encoding::Sparse { pattern, values } => {
            let pattern = match pattern {
                Pattern::Bitmap(_) => "bitmap".to_owned(),
                Pattern::Csr { .. } => "csr".to_owned(),
                Pattern::Relative(distances) => format!("relative({})", distances.bits()),
                Pattern::NofM { n, m, .. } => format!("nofm({n}, {m})"),
                Pattern::Block { rows, columns, .. } => format!("block({rows}, {columns})"),
            };
            match describe(values, max_elements).as_str() {
                "" => format!("sparse({pattern})"),
                values => format!("sparse({pattern}, {values})"),
            }
        }
        Encoding::Clustered { codebook, codes } => format!("clustered(u{}, k={})", codes.bits(), codebook.len()),
        Encoding::Quantized { params, .. } => quantized(params, max_elements),
    }
}

fn quantized(params: &QuantParams, max_elements: usize) -> String {
    let axis = params.axis.map_or(String::new(), |axis| format!(", axis={axis}"));
    let scales = floats(&params.scales, max_elements);
    let zeros = match params.zeros.iter().all(|zero| zero.to_bits() == 0) {
        true => String::new(),
        false => format!(", zeros={}", floats(&params.zeros, max_elements)),
    };
    format!("quant(bits={}{axis}, scales={scales}{zeros})", params.bits)
}

fn floats(values: &[f32], max_elements: usize) -> String {
    if values.len() > max_elements {
        return format!("#{:08x}", Constant::dense(Tensor::f32([values.len()], values)).hash());
    }
    let mut out = "[".to_owned();
    for (i, value) in values.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        value.write(&mut out);
    }
    out + "]"
}

/// The number of parameters an encoding lists in its text.
pub(super) fn parameters(encoding: &Encoding) -> usize {
    match encoding {
        Encoding::Dense(_) | Encoding::Clustered { .. } => 0,
        Encoding::Sparse { values, .. } => parameters(values),
        Encoding::Quantized { params, .. } => params.scales.len(),
    }
}

/// Bits a code and size of the codebook, if the encoding holds one.
pub(super) fn codebook(encoding: &Encoding) -> Option<(u8, usize)> {
    match encoding {
        Encoding::Clustered { codebook, codes } => Some((codes.bits(), codebook.len())),
        Encoding::Sparse { values, .. } => codebook(values),
        Encoding::Dense(_) | Encoding::Quantized { .. } => None,
    }
}
