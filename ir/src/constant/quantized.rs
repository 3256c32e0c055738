//! The quantized encoding.

/// The grid of a quantized constant: `value = (code − zero)·scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantParams {
    /// Bits a code, 1..=8.
    pub bits: u8,
    /// The axis along which scales and zeros vary; `None` if there is one of each.
    pub axis: Option<usize>,
    /// Scales, one or one per index of the axis; finite and positive.
    pub scales: Vec<f32>,
    /// Zero points in code units, as many as scales; halves occur (binary codes 0 and 1 mean −s and +s with
    /// scale 2s and zero ½).
    pub zeros: Vec<f32>,
}
