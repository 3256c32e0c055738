//! Samples that fit a model: arrays cut into batches, shaped and scaled as the model's inputs want them.
//!
//! Arrays are kept as they were read (an 8-bit image stays 8 bits); a batch is converted when asked for.

use std::ops::Range;

use optc_ir::{DType, Data, Dim, Graph, Tensor, Type};
use optc_passes::{DataError, Dataset};

use super::{ArrayError, Arrays, LABEL_NAMES, Scaling, by_name, labels_of};

/// One input of the model, for all samples.
#[derive(Debug)]
struct Column {
    name: String,
    array: Tensor,
    dtype: DType,
    cut: Cut,
}

/// How an array becomes the input of a batch.
#[derive(Debug, PartialEq)]
enum Cut {
    /// The same for every batch.
    Whole,
    /// A slice of the leading axis, each sample in this shape.
    Rows(Vec<usize>),
    /// A slice of the leading axis, each sample transposed: axis `i` is axis `order[i]` of the file.
    Transposed { shape: Vec<usize>, order: [usize; 3] },
}

/// Samples from a file, for one model.
#[derive(Debug)]
pub struct Samples {
    columns: Vec<Column>,
    len: usize,
    fixed_batch: Option<usize>,
    scaling: Scaling,
    labels: Option<Vec<u32>>,
    notes: Vec<String>,
}

impl Samples {
    /// Fits arrays to the inputs of a graph. The leading axis counts samples; the rest of each array has
    /// the shape of the input, up to axes of extent 1, or of an image with its channels at the other end.
    /// Arrays that can't be cut must be exactly one run's inputs, and are then one sample.
    ///
    /// # Errors
    /// [`ArrayError`] naming the input that does not fit, and both shapes.
    pub fn new(arrays: Arrays, graph: &Graph, scaling: Scaling) -> Result<Samples, ArrayError> {
        scaling.check()?;
        let labels = match &arrays {
            Arrays::Named(named) => {
                let is_input = |name: &str| graph.inputs().iter().any(|&node| graph.name(node) == name);
                let found = named.iter().find(|(name, _)| LABEL_NAMES.contains(&name.as_str()) && !is_input(name));
                found.map(|(_, tensor)| labels_of(tensor)).transpose()?
            }
            Arrays::One(_) => None,
        };
        let mut tensors = by_name(arrays, graph, LABEL_NAMES)?;
        for (tensor, &input) in tensors.iter_mut().zip(graph.inputs()) {
            add_batch_axis(tensor, graph.ty(input));
        }
        let mut notes = Vec::new();
        let cuts = match cut_rows(&tensors, graph) {
            Ok(cuts) => cuts,
            // What can't be cut may still be the inputs of one run.
            Err(_) if fits_whole(&tensors, graph) => tensors.iter().map(|_| Cut::Whole).collect(),
            Err(error) => return Err(error),
        };
        let rows = tensors.iter().zip(&cuts).filter(|(_, cut)| **cut != Cut::Whole);
        let len = rows.map(|(tensor, _)| tensor.shape()[0]).next().unwrap_or(1);
        let mut columns = Vec::new();
        let mut fixed_batch = None;
        for ((array, cut), &input) in tensors.into_iter().zip(cuts).zip(graph.inputs()) {
            let name = graph.name(input).to_owned();
            let dtype = graph.ty(input).dtype().unwrap_or(array.dtype());
            if cut != Cut::Whole {
                let leading = graph.ty(input).shape().and_then(|shape| shape.first()).and_then(Dim::fixed);
                fixed_batch = fixed_batch.or(leading);
            }
            if let Cut::Transposed { shape, .. } = &cut {
                let from = &array.shape()[1..];
                notes.push(format!("input {name}: samples of shape {from:?} are transposed to {shape:?}"));
            }
            check_values(&name, &array, dtype, &scaling)?;
            columns.push(Column { name, array, dtype, cut });
        }
        let samples = Samples { columns, len, fixed_batch, scaling, labels, notes };
        samples.check_channels()?;
        Ok(samples)
    }

    /// Adds labels, one a sample.
    ///
    /// # Errors
    /// [`ArrayError`] if their number differs.
    pub fn with_labels(mut self, labels: Vec<u32>) -> Result<Samples, ArrayError> {
        if labels.len() != self.len {
            return Err(ArrayError::new(format!("{} labels for {} samples", labels.len(), self.len)));
        }
        self.labels = Some(labels);
        Ok(self)
    }

    /// Keeps the first samples only.
    pub fn limit(mut self, count: usize) -> Samples {
        self.len = self.len.min(count);
        if let Some(labels) = &mut self.labels {
            labels.truncate(self.len);
        }
        self
    }

    /// The batch size the model insists on, if it does.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.fixed_batch
    }

    /// What was done to make the data fit that a user should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// [`Dataset::batch`], and if the model insists on larger batches, the last sample repeated to fill
    /// one. The first `samples.len()` rows of a result are those asked for.
    ///
    /// # Errors
    /// As [`Dataset::batch`].
    pub fn padded_batch(&self, samples: Range<usize>) -> Result<Vec<Tensor>, DataError> {
        let rows = self.fixed_batch.unwrap_or(0).max(samples.len());
        self.rows(samples.clone(), rows)
    }

    /// What zero becomes by scaling: one number, or one a channel.
    pub fn zero(scaling: &Scaling) -> Vec<f32> {
        (0..scaling.channels()).map(|channel| scaling.apply(0.0, channel) as f32).collect()
    }

    /// Batches covering all samples in order, of the size the model insists on or this one.
    pub fn batches(&self, size: usize) -> Vec<Range<usize>> {
        let size = self.fixed_batch.unwrap_or(size).max(1);
        (0..self.len).step_by(size).map(|start| start..self.len.min(start.saturating_add(size))).collect()
    }

    fn rows(&self, samples: Range<usize>, rows: usize) -> Result<Vec<Tensor>, DataError> {
        if samples.is_empty() || samples.end > self.len {
            return Err(DataError(format!("samples {samples:?} of {} asked for", self.len)));
        }
        let index = |row: usize| samples.start + row.min(samples.len() - 1);
        Ok(self.columns.iter().map(|column| self.column_rows(column, rows, &index)).collect())
    }

    fn column_rows(&self, column: &Column, rows: usize, index: &dyn Fn(usize) -> usize) -> Tensor {
        let (elements, mut shape) = match &column.cut {
            Cut::Whole => (column.array.data().clone(), column.array.shape().to_vec()),
            Cut::Rows(shape) => {
                let len: usize = shape.iter().product();
                let picked = (0..rows).flat_map(|row| index(row) * len..(index(row) + 1) * len);
                (column.array.data().select(picked), [&[rows], shape.as_slice()].concat())
            }
            Cut::Transposed { shape, order } => {
                let from = &column.array.shape()[1..];
                let strides = [from[1] * from[2], from[2], 1];
                let [d0, d1, d2] = [shape[0], shape[1], shape[2]];
                let len = d0 * d1 * d2;
                let picked = (0..rows).flat_map(|row| {
                    let start = index(row) * len;
                    (0..len).map(move |i| {
                        let at = [i / (d1 * d2), i / d2 % d1, i % d2];
                        start + (0..3).map(|axis| at[axis] * strides[order[axis]]).sum::<usize>()
                    })
                });
                (column.array.data().select(picked), [&[rows], shape.as_slice()].concat())
            }
        };
        let data = self.convert(elements, column, &shape);
        Tensor::new(std::mem::take(&mut shape), data)
    }

    /// Brings elements to the type and range of the input.
    fn convert(&self, elements: Data, column: &Column, shape: &[usize]) -> Data {
        if !column.dtype.is_float() || column.cut == Cut::Whole || self.scaling.is_identity() {
            return match elements.to_i64() {
                _ if elements.dtype() == column.dtype => elements,
                Some(integers) => Data::from_i64(column.dtype, integers),
                None => Data::from_f64(column.dtype, elements.to_f64()),
            };
        }
        let (inner, channels) = channel_layout(&shape[1..], self.scaling.channels()).unwrap_or((1, 1));
        let scaled = elements.to_f64().into_iter().enumerate();
        Data::from_f64(column.dtype, scaled.map(|(i, x)| self.scaling.apply(x, i / inner % channels)))
    }

    fn check_channels(&self) -> Result<(), ArrayError> {
        let channels = self.scaling.channels();
        for column in &self.columns {
            let (Cut::Rows(shape) | Cut::Transposed { shape, .. }) = &column.cut else { continue };
            if column.dtype.is_float() && channels > 1 && channel_layout(shape, channels).is_none() {
                let message = format!("{channels} means or deviations given, but samples have shape {shape:?}");
                return Err(ArrayError::new(format!("input {}: {message}", column.name)));
            }
        }
        Ok(())
    }
}

impl Dataset for Samples {
    fn len(&self) -> usize {
        self.len
    }

    fn batch(&self, samples: Range<usize>) -> Result<Vec<Tensor>, DataError> {
        self.rows(samples.clone(), samples.len())
    }

    fn select(&self, samples: &[usize]) -> Result<Vec<Tensor>, DataError> {
        if let Some(beyond) = samples.iter().find(|&&i| i >= self.len) {
            return Err(DataError(format!("sample {beyond} of {} asked for", self.len)));
        }
        Ok(self.columns.iter().map(|column| self.column_rows(column, samples.len(), &|row| samples[row])).collect())
    }

    fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }
}

/// Elements must survive the conversion to the type of the input.
fn check_values(name: &str, array: &Tensor, dtype: DType, scaling: &Scaling) -> Result<(), ArrayError> {
    if dtype.is_float() || array.dtype() == dtype {
        return Ok(());
    }
    if !scaling.is_identity() {
        return Err(ArrayError::new(format!("input {name} takes {dtype}, so the data can't be scaled")));
    }
    let back = |integers: Vec<i64>| Data::from_i64(dtype, integers.iter().copied()).to_i64() == Some(integers);
    match array.data().to_i64() {
        None => Err(ArrayError::new(format!("input {name} takes {dtype}, the data is {}", array.dtype()))),
        Some(integers) if !back(integers.clone()) => {
            Err(ArrayError::new(format!("input {name} takes {dtype}, the data does not fit into it")))
        }
        Some(_) => Ok(()),
    }
}

/// The elements of one channel that stand together, and the number of channels: channels come first
/// (`[C, H, W]`) or last (`[H, W, C]`, `[C]`).
fn channel_layout(sample: &[usize], channels: usize) -> Option<(usize, usize)> {
    match sample {
        _ if channels == 1 => Some((1, 1)),
        [first, rest @ ..] if *first == channels => Some((rest.iter().product(), channels)),
        [.., last] if *last == channels => Some((1, channels)),
        _ => None,
    }
}

fn compatible(shape: &[usize], dims: &[Dim]) -> bool {
    shape.len() == dims.len() && shape.iter().zip(dims).all(|(n, dim)| dim.fixed().is_none_or(|m| m == *n))
}

fn fits_whole(tensors: &[Tensor], graph: &Graph) -> bool {
    let fits = |(tensor, &input): (&Tensor, _)| match graph.ty(input) {
        Type::Tensor(ty) => compatible(tensor.shape(), &ty.shape),
        _ => true,
    };
    tensors.iter().zip(graph.inputs()).all(fits)
}

/// A single sample without its leading axis gets one.
fn add_batch_axis(tensor: &mut Tensor, ty: &Type) {
    let Some([_, sample @ ..]) = ty.shape() else { return };
    if !sample.is_empty() && compatible(tensor.shape(), sample) {
        let shape = [&[1], tensor.shape()].concat();
        *tensor = std::mem::replace(tensor, Tensor::zeros(DType::Bool, [0])).reshaped(shape);
    }
}

/// How to cut each array into samples, the same number in each.
fn cut_rows(tensors: &[Tensor], graph: &Graph) -> Result<Vec<Cut>, ArrayError> {
    let mut cuts = Vec::new();
    let mut count: Option<(usize, &str)> = None;
    for (tensor, &input) in tensors.iter().zip(graph.inputs()) {
        let name = graph.name(input);
        let ty = match graph.ty(input) {
            Type::Tensor(ty) if ty.rank() > 0 => ty,
            _ => {
                cuts.push(Cut::Whole);
                continue;
            }
        };
        let (Some((&n, sample)), [leading, dims @ ..]) = (tensor.shape().split_first(), ty.shape.as_slice()) else {
            return Err(ArrayError::new(format!("input {name} has type {ty}, the data is a single number")));
        };
        // An input whose every extent is fixed, beside others that are not, is a parameter of the run.
        let parameter = leading.fixed() == Some(n) && dims.iter().all(|d| d.fixed().is_some()) && tensors.len() > 1;
        if parameter && compatible(sample, dims) && count.is_some_and(|(m, _)| m != n) {
            cuts.push(Cut::Whole);
            continue;
        }
        let cut = fit(sample, dims).ok_or_else(|| {
            ArrayError::new(format!("input {name} has type {ty}, samples of shape {sample:?} can't fit"))
        })?;
        match count {
            Some((m, other)) if m != n => {
                return Err(ArrayError::new(format!("{n} samples for input {name}, {m} for {other}")));
            }
            _ => count = Some((n, name)),
        }
        cuts.push(cut);
    }
    Ok(cuts)
}

/// How samples of this shape become samples of those extents.
fn fit(sample: &[usize], dims: &[Dim]) -> Option<Cut> {
    if compatible(sample, dims) {
        return Some(Cut::Rows(sample.to_vec()));
    }
    // Axes of extent 1 come and go.
    let mut extents = sample.iter().copied().filter(|&n| n != 1);
    let shape: Option<Vec<usize>> = dims
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(1) => Some(1),
            Dim::Fixed(n) => extents.next().filter(|m| m == n),
            Dim::Sym(_) | Dim::Any => extents.next(),
        })
        .collect();
    if let (Some(shape), None) = (shape, extents.next()) {
        return Some(Cut::Rows(shape));
    }
    if sample.len() != 3 {
        return None;
    }
    // Channels at the other end, where that is unmistakable.
    [[2, 0, 1], [1, 2, 0]].into_iter().find_map(|order| {
        let shape = order.map(|axis| sample[axis]);
        let channels = if order[0] == 2 { dims.first() } else { dims.last() };
        let certain = channels.and_then(Dim::fixed).is_some();
        (certain && compatible(&shape, dims)).then(|| Cut::Transposed { shape: shape.to_vec(), order })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(dims: impl IntoIterator<Item = Dim>) -> Graph {
        let mut graph = Graph::new("g");
        graph.add_input("x", Type::tensor(DType::F32, dims));
        graph
    }

    fn bytes(shape: &[usize]) -> Arrays {
        let len: usize = shape.iter().product();
        Arrays::One(Tensor::new(shape, Data::U8((0..len).map(|i| i as u8).collect())))
    }

    #[test]
    fn images_get_a_channel_axis_and_a_fixed_batch_is_filled() {
        let graph = model([1, 1, 2, 2].map(Dim::Fixed));
        let scaling = Scaling { scale: 0.5, mean: vec![1.0], std: vec![2.0] };
        let samples = Samples::new(bytes(&[3, 2, 2]), &graph, scaling).unwrap();
        assert_eq!((samples.len(), samples.fixed_batch()), (3, Some(1)));
        assert_eq!(samples.batches(8), [0..1, 1..2, 2..3]);
        assert_eq!(samples.batch(1..2).unwrap(), [Tensor::f32([1, 1, 2, 2], [0.5, 0.75, 1.0, 1.25])]);

        let graph = model([2, 2].map(Dim::Fixed));
        let samples = Samples::new(bytes(&[3, 2]), &graph, Scaling::default()).unwrap();
        assert_eq!(samples.padded_batch(2..3).unwrap(), [Tensor::f32([2, 2], [4.0, 5.0, 4.0, 5.0])]);
    }

    #[test]
    fn channels_move_to_where_the_model_has_them() {
        let graph = model([Dim::sym("N"), Dim::Fixed(3), Dim::Fixed(2), Dim::Fixed(1)]);
        let scaling = Scaling { mean: vec![0.0, 1.0, 2.0], ..Scaling::default() };
        let samples = Samples::new(bytes(&[2, 2, 1, 3]), &graph, scaling).unwrap();
        assert_eq!(samples.notes().len(), 1);
        assert_eq!(samples.batch(0..1).unwrap(), [Tensor::f32([1, 3, 2, 1], [0.0, 3.0, 0.0, 3.0, 0.0, 3.0])]);

        let graph = model([Dim::sym("N"), Dim::Fixed(1), Dim::Fixed(2), Dim::Fixed(3)]);
        let samples = Samples::new(bytes(&[1, 3, 1, 2]), &graph, Scaling::default()).unwrap();
        assert_eq!(samples.batch(0..1).unwrap(), [Tensor::f32([1, 1, 2, 3], [0.0, 2.0, 4.0, 1.0, 3.0, 5.0])]);
    }

    #[test]
    fn one_sample_needs_no_batch_axis() {
        let graph = model([Dim::sym("N"), Dim::Fixed(3), Dim::sym("H"), Dim::sym("W")]);
        let samples = Samples::new(bytes(&[3, 4, 5]), &graph, Scaling::default()).unwrap();
        assert_eq!(samples.batch(0..1).unwrap()[0].shape(), [1, 3, 4, 5]);
    }

    #[test]
    fn inputs_of_one_run_that_can_not_be_cut_are_one_sample() {
        let mut graph = Graph::new("g");
        graph.add_input("x", Type::tensor(DType::F32, [Dim::sym("N"), Dim::Fixed(2)]));
        graph.add_input("state", Type::tensor(DType::F32, [Dim::Fixed(2), Dim::sym("N"), Dim::Fixed(4)]));
        graph.add_input("rate", Type::tensor(DType::I64, [0usize; 0]));
        let arrays = vec![
            ("rate".to_owned(), Tensor::i64([], [16000])),
            ("x".to_owned(), Tensor::zeros(DType::F32, [3, 2])),
            ("state".to_owned(), Tensor::zeros(DType::F32, [2, 3, 4])),
        ];
        let samples = Samples::new(Arrays::Named(arrays), &graph, Scaling::default()).unwrap();
        assert_eq!(samples.len(), 1);
        let shapes: Vec<_> = samples.batch(0..1).unwrap().iter().map(|t| t.shape().to_vec()).collect();
        assert_eq!(shapes, [vec![3, 2], vec![2, 3, 4], vec![]]);
    }

    #[test]
    fn labels_travel_in_the_same_archive() {
        let graph = model([Dim::sym("N"), Dim::Fixed(2)]);
        let arrays = vec![
            ("x".to_owned(), Tensor::zeros(DType::F32, [3, 2])),
            ("labels".to_owned(), Tensor::i64([3], [2, 0, 1])),
        ];
        let samples = Samples::new(Arrays::Named(arrays), &graph, Scaling::default()).unwrap().limit(2);
        assert_eq!(samples.labels(), Some([2, 0].as_slice()));
        assert!(samples.with_labels(vec![1]).is_err());
    }

    #[test]
    fn what_can_not_fit_is_an_error_with_both_shapes() {
        let graph = model([Dim::sym("N"), Dim::Fixed(3), Dim::Fixed(4), Dim::Fixed(4)]);
        let error = Samples::new(bytes(&[2, 5, 5]), &graph, Scaling::default()).unwrap_err().to_string();
        assert!(error.contains("f32[N, 3, 4, 4]") && error.contains("[5, 5]"), "{error}");
        let scaling = Scaling { std: vec![1.0, 2.0], ..Scaling::default() };
        assert!(Samples::new(bytes(&[2, 3, 4, 4]), &graph, scaling).is_err());
        let scaling = Scaling { std: vec![0.0], ..Scaling::default() };
        assert!(Samples::new(bytes(&[2, 3, 4, 4]), &graph, scaling).is_err());
        let mut graph = Graph::new("g");
        graph.add_input("x", Type::tensor(DType::I8, [Dim::sym("N")]));
        let data = Arrays::One(Tensor::i64([2], [1, 300]));
        assert!(Samples::new(data, &graph, Scaling::default()).is_err());
    }
}
