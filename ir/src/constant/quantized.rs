//! The quantized encoding: codes on a grid that somebody chose.
//!
//! A grid can't be read off values, so it is given, never searched for. The limits on scales and zero
//! points keep every grid strictly ascending in `f32`: a value has at most one code.

use super::packed::Packed;
use super::{Encoding, Form, malformed};
use crate::error::ConstantError;
use crate::tensor::Data;

/// The grid of a quantized constant: `value = (code − zero)·scale`, computed in `f32`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantParams {
    /// Bits a code, 1..=8.
    pub bits: u8,
    /// The axis along which scales and zeros vary; `None` if there is one of each. It is an axis of the
    /// constant also where only the kept elements of a sparse constant are quantized.
    pub axis: Option<usize>,
    /// Scales, one or one per index of the axis; normal and positive.
    pub scales: Vec<f32>,
    /// Zero points in code units, as many as scales, within ±[`QuantParams::MAX_ZERO`]; halves occur (binary
    /// codes 0 and 1 mean −s and +s with scale 2s and zero ½).
    pub zeros: Vec<f32>,
}

impl QuantParams {
    /// The largest magnitude of a zero point. Up to here `code − zero` is exact enough in `f32` for
    /// neighbouring codes to mean different values.
    pub const MAX_ZERO: f32 = 1_048_576.0;

    /// Checks the parameters against the shape of a constant.
    ///
    /// # Errors
    /// [`ConstantError::Malformed`] if the parameters are out of range or do not fit the shape.
    pub fn validate(&self, shape: &[usize]) -> Result<(), ConstantError> {
        if !(1..=8).contains(&self.bits) {
            return Err(malformed(format!("quantized to {} bits, expected 1 to 8", self.bits)));
        }
        let expected = match self.axis {
            None => 1,
            Some(axis) => *shape
                .get(axis)
                .ok_or_else(|| malformed(format!("quantized along axis {axis} of {} axes", shape.len())))?,
        };
        if self.scales.len() != expected || self.zeros.len() != expected {
            let (scales, zeros) = (self.scales.len(), self.zeros.len());
            return Err(malformed(format!("{scales} scales and {zeros} zero points, expected {expected}")));
        }
        let max = f32::from(u8::MAX >> (8 - self.bits));
        for (&scale, &zero) in self.scales.iter().zip(&self.zeros) {
            if !(scale.is_normal() && scale > 0.0) {
                return Err(malformed(format!("scale {scale} is not a positive normal number")));
            }
            if zero.is_nan() || zero.abs() > Self::MAX_ZERO {
                return Err(malformed(format!("zero point {zero} is beyond ±{}", Self::MAX_ZERO)));
            }
            if !((0.0 - zero) * scale).is_finite() || !((max - zero) * scale).is_finite() {
                return Err(malformed(format!("scale {scale} and zero point {zero} overflow")));
            }
        }
        Ok(())
    }

    /// The value of a code at index `channel` of the axis (0 if there is none).
    ///
    /// # Panics
    /// If the channel is out of bounds.
    pub fn value(&self, channel: usize, code: u32) -> f32 {
        (code as f32 - self.zeros[channel]) * self.scales[channel]
    }

    /// The code of a value, if it has one.
    fn code(&self, channel: usize, value: f32) -> Option<u32> {
        // Within the limits on the parameters the quotient is off by less than half a code.
        let code = (f64::from(value) / f64::from(self.scales[channel]) + f64::from(self.zeros[channel])).round();
        let code = (0.0..256.0).contains(&code).then_some(code as u32)?;
        let fits = code >> self.bits == 0 && self.value(channel, code).to_bits() == value.to_bits();
        fits.then_some(code)
    }
}

/// Index along the quantization axis, by position in the constant.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    stride: usize,
    count: usize,
}

impl Channels {
    pub(super) fn new(axis: Option<usize>, shape: &[usize]) -> Channels {
        match axis {
            None => Channels { stride: 1, count: 1 },
            Some(axis) => Channels { stride: shape[axis + 1..].iter().product(), count: shape[axis] },
        }
    }

    fn of(self, position: usize) -> usize {
        if self.count == 1 { 0 } else { position / self.stride % self.count }
    }
}

/// `positions` are those of the elements in the constant.
pub(super) fn encode(
    data: &Data,
    shape: &[usize],
    params: &QuantParams,
    positions: impl Iterator<Item = usize>,
) -> Result<Encoding, ConstantError> {
    params.validate(shape)?;
    let inexact = || super::inexact(&Form::Quantized(params.clone()));
    let values = data.as_f32().ok_or_else(inexact)?;
    let channels = Channels::new(params.axis, shape);
    let code = |(&x, at)| params.code(channels.of(at), x);
    let codes: Option<Vec<u32>> = values.iter().zip(positions).map(code).collect();
    let codes = Packed::pack(params.bits, &codes.ok_or_else(inexact)?);
    Ok(Encoding::Quantized { params: params.clone(), codes })
}

/// The elements of a whole constant.
pub(super) fn decode(params: &QuantParams, codes: &Packed, shape: &[usize]) -> Data {
    let channels = Channels::new(params.axis, shape);
    let mut out = Vec::with_capacity(codes.len());
    let mut channel = 0;
    let mut run = 0;
    codes.for_each_piece(|mut piece| {
        if channels.stride == 1 && channels.count > 1 {
            while !piece.is_empty() {
                let (now, later) = piece.split_at(piece.len().min(channels.count - channel));
                let grid = params.scales[channel..].iter().zip(&params.zeros[channel..]);
                out.extend(now.iter().zip(grid).map(|(&code, (scale, zero))| (f32::from(code) - zero) * scale));
                channel = (channel + now.len()) % channels.count;
                piece = later;
            }
            return;
        }
        while !piece.is_empty() {
            let left = if channels.count == 1 { usize::MAX } else { channels.stride - run };
            let (now, later) = piece.split_at(piece.len().min(left));
            let (scale, zero) = (params.scales[channel], params.zeros[channel]);
            out.extend(now.iter().map(|&code| (f32::from(code) - zero) * scale));
            run += now.len();
            if run == channels.stride && channels.count > 1 {
                run = 0;
                channel = (channel + 1) % channels.count;
            }
            piece = later;
        }
    });
    Data::F32(out)
}

/// The kept elements of a sparse constant, which are at `positions`.
pub(super) fn decode_at(
    params: &QuantParams,
    codes: &Packed,
    shape: &[usize],
    positions: impl Iterator<Item = usize>,
) -> Data {
    let channels = Channels::new(params.axis, shape);
    Data::F32(codes.iter().zip(positions).map(|(code, at)| params.value(channels.of(at), code)).collect())
}

/// Checks codes for the elements of a constant of this shape.
pub(super) fn validate(params: &QuantParams, codes: &Packed, shape: &[usize]) -> Result<(), ConstantError> {
    params.validate(shape)?;
    if codes.bits() != params.bits {
        return Err(malformed(format!("codes of {} bits on a grid of {} bits", codes.bits(), params.bits)));
    }
    Ok(())
}
