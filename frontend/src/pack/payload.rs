//! One constant: its message, and its payload in a section.
//!
//! | encoding | payload |
//! |---|---|
//! | dense | elements |
//! | clustered | varint k, codebook of k elements, codes below k |
//! | quantized | scales, zero points, codes below 2^bits |
//! | sparse | varint kept, positions, and the payload of that many elements |
//!
//! Where a mask of all elements that are not zero takes fewer bytes than the pattern of a sparse constant, which
//! may keep zeros to bridge long distances, the payload is that of the mask, and the message says which
//! encoding the constant has in memory. Encodings are canonical, so the same constant comes back.

use optc_ir::constant::{Encoding, Form, PatternForm, QuantParams};
use optc_ir::types::MAX_ELEMENTS;
use optc_ir::{Constant, DType, Data};
use prost::Message;

use super::codes::{Codes, Positions, write_codes, write_pattern};
use super::cursor::{Cursor, put_varint};
use super::elements::{self, Elements};
use super::entropy::{Job, Stream};
use super::mask;
use super::report::ConstantReport;
use super::{Budget, PackError, damaged, schema};

/// A constant as the file holds it.
pub(super) struct Written {
    pub(super) message: schema::Constant,
    pub(super) payload: Vec<u8>,
    pub(super) report: ConstantReport,
    /// What a reader's budget is charged.
    pub(super) budget: usize,
}

/// Dense payloads that no coder makes smaller have a section of their own from here on.
const RAW_SECTION: usize = 4096;

/// Writes a constant; the caller chooses the section and the name in the report.
pub(super) fn write(constant: &Constant) -> Written {
    let as_kept = write_encoding(constant);
    let form = constant.form();
    let Some(mut by_mask) = masked(constant, &form).map(|masked| write_encoding(&masked)) else { return as_kept };
    let kept = form_message(&form);
    if by_mask.payload.len() + kept.encoded_len() + 2 >= as_kept.payload.len() {
        return as_kept;
    }
    by_mask.message.kept = Some(kept);
    // What the constant would take otherwise is what the encoding it is kept in would take.
    let (report, other) = (&mut by_mask.report, &as_kept.report);
    (report.form, report.packed_bytes) = (other.form.clone(), other.packed_bytes);
    for (part, other) in [(&mut report.positions, &other.positions), (&mut report.codes, &other.codes)] {
        (part.packed_bytes, part.huffman_bytes) = (other.packed_bytes, other.huffman_bytes);
    }
    by_mask
}

/// The same elements with a mask in place of another pattern, if that may be smaller.
fn masked(constant: &Constant, form: &Form) -> Option<Constant> {
    let Form::Sparse(PatternForm::Relative(_), values) = form else { return None };
    if constant.len() > mask::MAX_BITS || !matches!(**values, Form::Dense | Form::Clustered) {
        return None;
    }
    Constant::encode(&constant.decode(), &Form::Sparse(PatternForm::Bitmap, values.clone())).ok()
}

fn write_encoding(constant: &Constant) -> Written {
    let form = constant.form();
    let mut message = schema::Constant {
        dtype: dtype_number(constant.dtype()),
        shape: constant.shape().iter().map(|&extent| extent as u64).collect(),
        form: Some(form_message(&form)),
        section: 0,
        raw: false,
        kept: None,
    };
    let mut report = ConstantReport {
        form: format!("{form:#}"),
        dense_bytes: constant.dtype().bytes(constant.len()),
        packed_bytes: constant.stored_bytes(),
        ..ConstantReport::default()
    };
    let mut payload = Vec::new();
    match constant.encoding() {
        Encoding::Sparse { pattern, values } => {
            let kept = match &**values {
                Encoding::Dense(data) => data.len(),
                Encoding::Clustered { codes, .. } | Encoding::Quantized { codes, .. } => codes.len(),
                Encoding::Sparse { .. } => unreachable!("the values of a sparse constant are not sparse"),
            };
            put_varint(kept as u64, &mut payload);
            let head = payload.len();
            report.positions = write_pattern(pattern, constant.shape(), &mut payload);
            report.positions.bytes += head;
            report.positions.overhead_bytes += head;
            write_values(values, &mut payload, &mut report);
        }
        values => write_values(values, &mut payload, &mut report),
    }
    if form == Form::Dense && report.codes.coders == ["raw"] && payload.len() > RAW_SECTION {
        message.raw = true;
        payload.remove(0);
        report.codes.bytes -= 1;
        report.codes.overhead_bytes = 0;
    }
    report.bytes = payload.len();
    let mut budget = Budget { limit: usize::MAX, spent: 0 };
    Pending::parse(&message, &mut Cursor::new(&payload), &mut budget).expect("what was written can be parsed");
    Written { message, payload, report, budget: budget.spent }
}

fn write_values(values: &Encoding, out: &mut Vec<u8>, report: &mut ConstantReport) {
    let start = out.len();
    match values {
        Encoding::Dense(data) => report.codes = elements::write(data, out),
        Encoding::Clustered { codebook, codes } => {
            put_varint(codebook.len() as u64, out);
            elements::write_table(codebook, out);
            report.table_bytes = out.len() - start;
            report.codes = write_codes(codes, codebook.len(), out);
        }
        Encoding::Quantized { params, codes } => {
            elements::write(&Data::F32(params.scales.clone()), out);
            elements::write(&Data::F32(params.zeros.clone()), out);
            report.table_bytes = out.len() - start;
            report.codes = write_codes(codes, 1 << params.bits, out);
        }
        Encoding::Sparse { .. } => unreachable!("the values of a sparse constant are not sparse"),
    }
}

/// A constant whose streams are parsed and wait for their jobs.
pub(super) struct Pending<'a> {
    shape: Vec<usize>,
    dtype: DType,
    positions: Option<(PatternForm, Positions<'a>)>,
    values: Values<'a>,
    kept: Option<Form>,
}

enum Values<'a> {
    Dense(Elements<'a>),
    Clustered(Data, Codes<'a>),
    Quantized(QuantParams, Codes<'a>),
}

impl<'a> Pending<'a> {
    /// Parses the payload at the cursor.
    pub(super) fn parse(
        message: &schema::Constant,
        cursor: &mut Cursor<'a>,
        budget: &mut Budget,
    ) -> Result<Pending<'a>, PackError> {
        let dtype = dtype(message.dtype)?;
        let shape: Option<Vec<usize>> = message.shape.iter().map(|&extent| usize::try_from(extent).ok()).collect();
        let (shape, len) = shape.and_then(checked).ok_or_else(|| damaged("a constant is too large"))?;
        budget.spend(dtype.bytes(len))?;
        let form = message.form.as_ref().ok_or_else(|| damaged("a constant has no encoding"))?;
        if message.raw {
            let values = Values::Dense(Elements::raw(cursor.take(dtype.bytes(len))?, dtype, len));
            return match form.kind {
                DENSE => Ok(Pending { shape, dtype, positions: None, values, kept: None }),
                _ => Err(damaged("raw elements are dense")),
            };
        }
        let (positions, count, form) = match form.kind {
            SPARSE => {
                let pattern = pattern_form(form)?;
                let kept = cursor.varint()?;
                // Fillers are kept as well, but there is one element at least for each.
                if kept > len {
                    return Err(damaged(format!("{kept} of {len} elements are kept")));
                }
                let positions = Positions::parse(cursor, &pattern, &shape, kept, budget)?;
                let dense = &schema::Form::default();
                (Some((pattern, positions)), kept, form.values.as_deref().unwrap_or(dense).clone())
            }
            _ => (None, len, form.clone()),
        };
        let values = Values::parse(&form, cursor, dtype, &shape, count, budget)?;
        let kept = message.kept.as_ref().map(kept_form).transpose()?;
        Ok(Pending { shape, dtype, positions, values, kept })
    }

    /// What there is to decode.
    pub(super) fn jobs(&mut self) -> Vec<Job<'_>> {
        let positions = self.positions.as_mut().and_then(|(_, positions)| positions.stream());
        let values: Vec<&mut Stream<'a>> = match &mut self.values {
            Values::Dense(elements) => elements.streams(),
            Values::Clustered(_, codes) | Values::Quantized(_, codes) => codes.stream().into_iter().collect(),
        };
        positions.into_iter().chain(values).flat_map(Stream::jobs).collect()
    }

    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The constant, after all jobs.
    pub(super) fn into_constant(self) -> Result<Constant, PackError> {
        let values = match self.values {
            Values::Dense(elements) => Encoding::Dense(elements.into_data()?),
            Values::Clustered(codebook, codes) => Encoding::Clustered { codebook, codes: codes.into_packed()? },
            Values::Quantized(params, codes) => Encoding::Quantized { params, codes: codes.into_packed()? },
        };
        let encoding = match self.positions {
            None => values,
            Some((form, positions)) => {
                let pattern = positions.into_pattern(&form, &self.shape)?;
                Encoding::Sparse { pattern, values: Box::new(values) }
            }
        };
        let constant = Constant::new(self.shape, self.dtype, encoding);
        let constant = match (constant, self.kept) {
            (Ok(constant), Some(form)) => Constant::encode(&constant.decode(), &form),
            (constant, _) => constant,
        };
        constant.map_err(|e| damaged(e.to_string()))
    }
}

impl<'a> Values<'a> {
    /// `count` elements of a constant of this type and shape.
    fn parse(
        form: &schema::Form,
        cursor: &mut Cursor<'a>,
        dtype: DType,
        shape: &[usize],
        count: usize,
        budget: &mut Budget,
    ) -> Result<Values<'a>, PackError> {
        Ok(match form.kind {
            DENSE => Values::Dense(Elements::parse(cursor, dtype, count)?),
            CLUSTERED => {
                let k = cursor.varint()?;
                if k > count {
                    return Err(damaged(format!("{k} codebook entries for {count} codes")));
                }
                let codebook = Elements::read(cursor, dtype, k)?;
                Values::Clustered(codebook, Codes::parse(cursor, k, count, budget)?)
            }
            QUANTIZED => {
                let bits = u8::try_from(form.bits).ok().filter(|bits| (1..=8).contains(bits));
                let bits = bits.ok_or_else(|| damaged(format!("codes of {} bits", form.bits)))?;
                let axis = form.axis.map(|axis| usize::try_from(axis).unwrap_or(usize::MAX));
                let groups = axis.map_or(Some(&1), |axis| shape.get(axis));
                let groups = *groups.ok_or_else(|| damaged("quantized along an axis that does not exist"))?;
                budget.spend(groups.saturating_mul(8))?;
                let mut floats = || match Elements::read(cursor, DType::F32, groups)? {
                    Data::F32(v) => Ok(v),
                    _ => Err(damaged("scales are not f32")),
                };
                let (scales, zeros) = (floats()?, floats()?);
                let params = QuantParams { bits, axis, scales, zeros };
                Values::Quantized(params, Codes::parse(cursor, 1 << bits, count, budget)?)
            }
            _ => return Err(damaged("an encoding is of no known kind")),
        })
    }
}

/// The number of elements, if it is one that a constant may have; with no extent of 0 it would be too, so
/// products of some extents are.
fn checked(shape: Vec<usize>) -> Option<(Vec<usize>, usize)> {
    let product = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent.max(1)))?;
    let len = if shape.contains(&0) { 0 } else { product };
    (product <= MAX_ELEMENTS).then_some((shape, len))
}

const DENSE: u32 = 0;
const CLUSTERED: u32 = 1;
const QUANTIZED: u32 = 2;
const SPARSE: u32 = 3;

fn form_message(form: &Form) -> schema::Form {
    match form {
        Form::Dense => schema::Form::default(),
        Form::Clustered => schema::Form { kind: CLUSTERED, ..schema::Form::default() },
        Form::Quantized(params) => schema::Form {
            kind: QUANTIZED,
            bits: params.bits.into(),
            axis: params.axis.map(|axis| axis as u64),
            ..schema::Form::default()
        },
        Form::Sparse(pattern, values) => {
            let (pattern, bits, sizes) = match *pattern {
                PatternForm::Bitmap => (0, 0, vec![]),
                PatternForm::Csr => (1, 0, vec![]),
                PatternForm::Relative(bits) => (2, bits.into(), vec![]),
                PatternForm::NofM(n, m) => (3, 0, vec![n as u64, m as u64]),
                PatternForm::Block(rows, columns) => (4, 0, vec![rows as u64, columns as u64]),
            };
            let values = (**values != Form::Dense).then(|| Box::new(form_message(values)));
            schema::Form { kind: SPARSE, bits, pattern, sizes, values, ..schema::Form::default() }
        }
    }
}

/// The encoding in memory that a message speaks of: sparse, its values dense or clustered.
fn kept_form(form: &schema::Form) -> Result<Form, PackError> {
    let values = match form.values.as_deref().map_or(DENSE, |values| values.kind) {
        DENSE => Form::Dense,
        CLUSTERED => Form::Clustered,
        _ => return Err(damaged("an encoding in memory is of no known kind")),
    };
    match form.kind {
        SPARSE => Ok(Form::Sparse(pattern_form(form)?, Box::new(values))),
        _ => Err(damaged("an encoding in memory is not sparse")),
    }
}

fn pattern_form(form: &schema::Form) -> Result<PatternForm, PackError> {
    let size = |i: usize| form.sizes.get(i).and_then(|&size| usize::try_from(size).ok());
    let pattern = match form.pattern {
        0 => Some(PatternForm::Bitmap),
        1 => Some(PatternForm::Csr),
        2 => u8::try_from(form.bits).ok().map(PatternForm::Relative),
        3 => size(0).zip(size(1)).map(|(n, m)| PatternForm::NofM(n, m)),
        4 => size(0).zip(size(1)).map(|(rows, columns)| PatternForm::Block(rows, columns)),
        _ => None,
    };
    pattern.ok_or_else(|| damaged("a pattern is of no known kind"))
}

/// The number of an element type in files; 0 is none.
pub(super) fn dtype_number(dtype: DType) -> u32 {
    match dtype {
        DType::F64 => 1,
        DType::F32 => 2,
        DType::F16 => 3,
        DType::BF16 => 4,
        DType::I64 => 5,
        DType::I32 => 6,
        DType::I16 => 7,
        DType::I8 => 8,
        DType::I4 => 9,
        DType::U64 => 10,
        DType::U32 => 11,
        DType::U16 => 12,
        DType::U8 => 13,
        DType::U4 => 14,
        DType::Bool => 15,
    }
}

/// The element type of a number.
pub(super) fn dtype(number: u32) -> Result<DType, PackError> {
    let dtype = DType::ALL.iter().copied().find(|&dtype| dtype_number(dtype) == number);
    dtype.ok_or_else(|| damaged(format!("element type {number} does not exist")))
}
