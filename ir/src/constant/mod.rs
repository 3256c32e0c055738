//! Constants: what a tensor is, and how it is kept, are two things.
//!
//! The meaning of a [`Constant`] is [`Constant::decode`]; its [`Encoding`] is only the representation.
//! Every encoding is exact: it gives back the decoded elements bit by bit. And every encoding is
//! canonical: a tensor has one representation in each [`Form`], so constants are equal exactly if tensor
//! and form are, and [`Constant::encode`] of what was decoded gives the same constant back.

mod clustered;
mod elements;
mod packed;
mod quantized;
mod smallest;
mod sparse;
#[cfg(test)]
mod tests;

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

use crate::error::ConstantError;
use crate::op::attr::format_f32;
use crate::tensor::{Data, Tensor};
use crate::types::{DType, MAX_ELEMENTS, TensorType};
use crate::with_elements;
use elements::{Element, map_elements};
use sparse::Matrix;

pub use packed::{Codes, Packed, packed_bytes, width};
pub use quantized::QuantParams;
pub use sparse::{Pattern, PatternForm};

/// A tensor known at compile time.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    shape: Vec<usize>,
    dtype: DType,
    encoding: Encoding,
}

/// How the elements of a constant are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoding {
    /// One after the other.
    Dense(Data),
    /// The positions of some elements, and those elements; all others are zero.
    Sparse {
        /// Where the kept elements are.
        pattern: Pattern,
        /// The kept elements in row-major order, in any encoding but another sparse one.
        values: Box<Encoding>,
    },
    /// Each element is one of few: codes into a table.
    Clustered {
        /// The values, ascending by the total order of bits (`-NaN` … `-0`, `+0` … `NaN`), all used.
        codebook: Data,
        /// One index into the codebook an element.
        codes: Packed,
    },
    /// Each element is `(code − zero)·scale` in `f32`.
    Quantized {
        /// Scales and zero points.
        params: QuantParams,
        /// One code an element.
        codes: Packed,
    },
}

/// An encoding without its payload: what [`Constant::encode`] is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Elements one after the other.
    Dense,
    /// Only elements that are not `+0`, where the pattern allows.
    Sparse(PatternForm, Box<Form>),
    /// A table of the distinct elements.
    Clustered,
    /// The codes of a given grid.
    Quantized(QuantParams),
}

/// As in the text form: `dense`, `clustered`, `sparse(csr, clustered)`, `quant(bits=4, scales=[0.1], zeros=[8])`;
/// zero points are left out if all are 0. The alternate form `{:#}` leaves scales and zero points out.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Dense => f.write_str("dense"),
            Form::Clustered => f.write_str("clustered"),
            Form::Sparse(pattern, values) if **values == Form::Dense => write!(f, "sparse({pattern})"),
            Form::Sparse(pattern, values) if f.alternate() => write!(f, "sparse({pattern}, {values:#})"),
            Form::Sparse(pattern, values) => write!(f, "sparse({pattern}, {values})"),
            Form::Quantized(params) => {
                let list = |v: &[f32]| v.iter().map(|&x| format_f32(x)).collect::<Vec<_>>().join(", ");
                write!(f, "quant(bits={}", params.bits)?;
                if let Some(axis) = params.axis {
                    write!(f, ", axis={axis}")?;
                }
                if !f.alternate() {
                    write!(f, ", scales=[{}]", list(&params.scales))?;
                    if params.zeros.iter().any(|zero| zero.to_bits() != 0) {
                        write!(f, ", zeros=[{}]", list(&params.zeros))?;
                    }
                }
                f.write_str(")")
            }
        }
    }
}

fn malformed(message: impl Into<String>) -> ConstantError {
    ConstantError::Malformed(message.into())
}

fn inexact(form: &Form) -> ConstantError {
    ConstantError::Inexact(format!("{form:#}"))
}

/// The number of elements, if it is within [`MAX_ELEMENTS`] even without the extents that are 0, so that
/// products of some extents are too.
fn checked_len(shape: &[usize]) -> Result<usize, ConstantError> {
    let product = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent.max(1)));
    match product {
        Some(n) if n <= MAX_ELEMENTS => Ok(if shape.contains(&0) { 0 } else { n }),
        _ => Err(malformed(format!("shape {shape:?} is too large"))),
    }
}

impl Constant {
    /// A constant kept densely.
    pub fn dense(tensor: Tensor) -> Constant {
        let (shape, data) = tensor.into_parts();
        Constant { shape, dtype: data.dtype(), encoding: Encoding::Dense(data) }
    }

    /// A constant of these parts, which are those that [`Constant::encode`] makes.
    ///
    /// # Errors
    /// [`ConstantError::Malformed`] if the parts contradict each other or are not canonical.
    pub fn new(shape: Vec<usize>, dtype: DType, encoding: Encoding) -> Result<Constant, ConstantError> {
        let constant = Constant { shape, dtype, encoding };
        constant.validate()?;
        Ok(constant)
    }

    /// Checks that the parts are those that [`Constant::encode`] makes.
    pub(crate) fn validate(&self) -> Result<(), ConstantError> {
        let (shape, dtype) = (&self.shape, self.dtype);
        let len = checked_len(shape)?;
        let Encoding::Sparse { pattern, values } = &self.encoding else {
            return self.encoding.validate(len, dtype, shape);
        };
        let matrix = Matrix::new(shape);
        let kept = pattern.validate(matrix)?;
        values.validate(kept, dtype, shape)?;
        let blank = |data: &Data| with_elements!(data, v => v.iter().map(|x| x.is_blank()).collect::<Vec<_>>());
        pattern.validate_blanks(matrix, &blank(&values.decode_kept(pattern, shape)))
    }

    /// Keeps a tensor in the encoding asked for.
    ///
    /// # Errors
    /// [`ConstantError::Inexact`] if decoding would not give the same bits back,
    /// [`ConstantError::Malformed`] if the form does not fit the shape.
    pub fn encode(tensor: &Tensor, form: &Form) -> Result<Constant, ConstantError> {
        let (shape, data) = (tensor.shape(), tensor.data());
        checked_len(shape)?;
        let encoding = match form {
            Form::Sparse(form, values) => {
                let nonblank: Vec<usize> = with_elements!(data, v => {
                    let kept = v.iter().enumerate().filter(|(_, x)| !x.is_blank());
                    kept.map(|(at, _)| at).collect()
                });
                let pattern = Pattern::new(form, shape, &nonblank)?;
                let positions = pattern.positions(shape);
                let kept = data.select(positions.iter().copied());
                let values = Box::new(encode_elements(kept, shape, values, positions.into_iter())?);
                Encoding::Sparse { pattern, values }
            }
            form => encode_elements(data.clone(), shape, form, 0..data.len())?,
        };
        let constant = Constant { shape: shape.to_vec(), dtype: tensor.dtype(), encoding };
        if constant.decode() != *tensor {
            return Err(inexact(form));
        }
        Ok(constant)
    }

    /// The type.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, self.shape.iter().copied())
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How the elements are kept.
    pub fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// The elements, if they are kept densely.
    pub fn as_dense(&self) -> Option<&Data> {
        match &self.encoding {
            Encoding::Dense(data) => Some(data),
            _ => None,
        }
    }

    /// The elements, if they are kept densely as `f32`.
    pub(crate) fn f32_mut(&mut self) -> Option<&mut [f32]> {
        match &mut self.encoding {
            Encoding::Dense(Data::F32(elements)) => Some(elements),
            _ => None,
        }
    }

    /// The meaning: the dense tensor.
    pub fn decode(&self) -> Tensor {
        let data = match &self.encoding {
            Encoding::Sparse { pattern, values } => {
                let matrix = Matrix::new(&self.shape);
                match &**values {
                    Encoding::Dense(kept) => map_elements!(kept, v => pattern.scatter(v, matrix)),
                    values => {
                        let kept = values.decode_kept(pattern, &self.shape);
                        map_elements!(&kept, v => pattern.scatter(v, matrix))
                    }
                }
            }
            Encoding::Dense(data) => data.clone(),
            Encoding::Clustered { codebook, codes } => clustered::decode(codebook, codes),
            Encoding::Quantized { params, codes } => quantized::decode(params, codes, &self.shape),
        };
        Tensor::new(self.shape.clone(), data)
    }

    /// As [`Constant::decode`], without a copy of elements that are kept densely.
    pub fn into_tensor(self) -> Tensor {
        match self.encoding {
            Encoding::Dense(data) => Tensor::new(self.shape, data),
            _ => self.decode(),
        }
    }

    /// The encoding without its payload.
    pub fn form(&self) -> Form {
        self.encoding.form()
    }

    /// The grid of quantized elements, also where only the kept elements of a sparse constant are.
    pub fn grid(&self) -> Option<&QuantParams> {
        match &self.encoding {
            Encoding::Quantized { params, .. } => Some(params),
            Encoding::Sparse { values, .. } => match &**values {
                Encoding::Quantized { params, .. } => Some(params),
                _ => None,
            },
            _ => None,
        }
    }

    /// The bytes of this representation: elements as in a dense file, codes and positions bit-packed,
    /// tables, scales and zero points included. Shape and type are not counted.
    pub fn stored_bytes(&self) -> usize {
        self.encoding.stored_bytes()
    }

    /// The number of elements that differ from zero as numbers: `-0` does not, NaN does.
    pub fn nonzeros(&self) -> usize {
        let count = |data: &Data| with_elements!(data, v => v.iter().filter(|x| x.is_nonzero()).count());
        match &self.encoding {
            Encoding::Dense(data) => count(data),
            Encoding::Sparse { pattern, values } => match &**values {
                Encoding::Dense(data) => count(data),
                values => count(&values.decode_kept(pattern, &self.shape)),
            },
            Encoding::Clustered { codebook, codes } => {
                let counts = clustered::histogram(codebook.len(), codes);
                with_elements!(codebook, v => {
                    v.iter().zip(counts).filter(|(x, _)| x.is_nonzero()).map(|(_, count)| count).sum()
                })
            }
            Encoding::Quantized { .. } => count(self.decode().data()),
        }
    }

    /// A hash of type and decoded elements, whatever the encoding: the lower half of their XXH3.
    pub fn hash(&self) -> u32 {
        match &self.encoding {
            Encoding::Dense(data) => hash(&self.shape, data),
            _ => hash(&self.shape, self.decode().data()),
        }
    }
}

fn hash(shape: &[usize], data: &Data) -> u32 {
    const PIECE: usize = 1 << 12;
    let mut hasher = Xxh3::new();
    hasher.update(data.dtype().name().as_bytes());
    for &extent in shape {
        hasher.update(&(extent as u64).to_le_bytes());
    }
    let mut bytes = Vec::new();
    for start in (0..data.len()).step_by(PIECE) {
        bytes.clear();
        data.write_le(start..data.len().min(start + PIECE), &mut bytes);
        hasher.update(&bytes);
    }
    (hasher.digest() & u64::from(u32::MAX)) as u32
}

/// `positions` are those of the elements in the constant of this shape.
fn encode_elements(
    data: Data,
    shape: &[usize],
    form: &Form,
    positions: impl Iterator<Item = usize>,
) -> Result<Encoding, ConstantError> {
    match form {
        Form::Dense => Ok(Encoding::Dense(data)),
        Form::Clustered => clustered::encode(&data),
        Form::Quantized(params) => quantized::encode(&data, shape, params, positions),
        Form::Sparse(..) => Err(malformed("the values of a sparse constant can't be sparse")),
    }
}

impl Encoding {
    fn form(&self) -> Form {
        match self {
            Encoding::Dense(_) => Form::Dense,
            Encoding::Sparse { pattern, values } => Form::Sparse(pattern.form(), Box::new(values.form())),
            Encoding::Clustered { .. } => Form::Clustered,
            Encoding::Quantized { params, .. } => Form::Quantized(params.clone()),
        }
    }

    fn stored_bytes(&self) -> usize {
        match self {
            Encoding::Dense(data) => data.dtype().bytes(data.len()),
            Encoding::Sparse { pattern, values } => pattern.stored_bytes() + values.stored_bytes(),
            Encoding::Clustered { codebook, codes } => codebook.dtype().bytes(codebook.len()) + codes.bytes().len(),
            Encoding::Quantized { params, codes } => {
                4 * (params.scales.len() + params.zeros.len()) + codes.bytes().len()
            }
        }
    }

    /// The kept elements of a sparse constant of this shape.
    fn decode_kept(&self, pattern: &Pattern, shape: &[usize]) -> Data {
        match self {
            Encoding::Dense(data) => data.clone(),
            Encoding::Clustered { codebook, codes } => clustered::decode(codebook, codes),
            Encoding::Quantized { params, codes } if params.axis.is_none() => quantized::decode(params, codes, shape),
            Encoding::Quantized { params, codes } => {
                quantized::decode_at(params, codes, shape, pattern.positions(shape).into_iter())
            }
            Encoding::Sparse { .. } => unreachable!("the values of a sparse constant are not sparse"),
        }
    }

    /// Checks the encoding of `len` elements of a constant of this type and shape.
    fn validate(&self, len: usize, dtype: DType, shape: &[usize]) -> Result<(), ConstantError> {
        let (got, elements) = match self {
            Encoding::Dense(data) => (data.len(), data.dtype()),
            Encoding::Clustered { codebook, codes } => (codes.len(), codebook.dtype()),
            Encoding::Quantized { codes, .. } => (codes.len(), DType::F32),
            Encoding::Sparse { .. } => return Err(malformed("the values of a sparse constant can't be sparse")),
        };
        if elements != dtype {
            return Err(malformed(format!("elements of type {elements} in a constant of {dtype}")));
        }
        if got != len {
            return Err(malformed(format!("{got} elements, expected {len}")));
        }
        match self {
            Encoding::Clustered { codebook, codes } => clustered::validate(codebook, codes),
            Encoding::Quantized { params, codes } => quantized::validate(params, codes, shape),
            _ => Ok(()),
        }
    }
}
