//! Data sets as they are published: folders of files with a part to train on and a part to test on.
//!
//! | what lies in the folder | data set |
//! |---|---|
//! | `train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, … (`.gz` is fine) | MNIST and its like |
//! | `data_batch_1.bin` …, `test_batch.bin` | CIFAR-10, binary version |
//! | `train.bin`, `test.bin` | CIFAR-100, binary version; the fine labels |
//! | `train.npz`, `test.npz` (or `val.npz`) | arrays by input names, and `labels` |
//! | `train/`, `test/` (or `val/`) | pictures, a folder a class |
//!
//! One `.npz` with `x_train`, `y_train`, `x_test` and `y_test` is a data set too. Anything else is one part.

use std::path::{Path, PathBuf};

use optc_ir::{Data, Graph, Tensor};
use optc_passes::Dataset;

use super::images::{Pictures, list_pictures, read_images};
use super::{ArrayError, Arrays, Samples, Scaling, labels_of, read_arrays, read_labels};
use crate::error::Error;
use crate::files;

/// Where one part of a data set lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// An array file, and perhaps its labels.
    Files {
        /// The samples.
        samples: PathBuf,
        /// One class a sample.
        labels: Option<PathBuf>,
    },
    /// Records of labels and 3×32×32 bytes.
    Cifar {
        /// In order.
        files: Vec<PathBuf>,
        /// Bytes of labels in a record; the last one counts.
        label_bytes: usize,
    },
    /// Two arrays of an `.npz`.
    Named {
        /// The archive.
        path: PathBuf,
        /// The name of the samples.
        samples: &'static str,
        /// The name of the labels.
        labels: &'static str,
    },
    /// A folder of pictures.
    Pictures(PathBuf),
}

impl Part {
    /// A path to call it by.
    fn path(&self) -> &Path {
        match self {
            Part::Files { samples: path, .. } | Part::Named { path, .. } | Part::Pictures(path) => path,
            Part::Cifar { files, .. } => files.first().map_or(Path::new(""), PathBuf::as_path),
        }
    }

    /// All samples at once, for the inputs of a model, and their classes where they are apart from the samples.
    /// Of pictures, the first `limit`.
    ///
    /// # Errors
    /// [`Error::Data`] or [`Error::File`] if a file can't be read.
    pub fn arrays(&self, graph: &Graph, limit: Option<usize>) -> Result<(Arrays, Option<Vec<u32>>), Error> {
        match self {
            Part::Files { samples, labels } => {
                Ok((read_arrays(samples)?, labels.as_deref().map(read_labels).transpose()?))
            }
            Part::Cifar { files, label_bytes } => {
                let (pixels, labels) = read_cifar(files, *label_bytes)?;
                Ok((Arrays::One(pixels), Some(labels)))
            }
            Part::Named { path, samples, labels } => {
                let (x, y) = read_named(path, samples, labels)?;
                Ok((Arrays::One(x), Some(y)))
            }
            Part::Pictures(folder) => {
                let images = read_images(folder, graph, limit)?;
                Ok((Arrays::One(images.pixels), images.labels))
            }
        }
    }
}

/// Looks for the parts of a data set: to train on, and to test on if that is apart.
///
/// # Errors
/// [`Error::Data`] or [`Error::File`] if the path can't be read, or a part of a set is missing.
pub fn locate(path: &Path) -> Result<(Part, Option<Part>), Error> {
    if !path.is_dir() {
        let is_npz = path.extension().is_some_and(|suffix| suffix == "npz");
        if is_npz
            && let Arrays::Named(arrays) = read_arrays(path)?
            && arrays.iter().any(|(name, _)| name == "x_train")
        {
            let part = |samples, labels| Part::Named { path: path.to_owned(), samples, labels };
            let test = arrays.iter().any(|(name, _)| name == "x_test").then(|| part("x_test", "y_test"));
            return Ok((part("x_train", "y_train"), test));
        }
        return Ok((Part::Files { samples: path.to_owned(), labels: None }, None));
    }
    let find = |name: &str| [path.join(name), path.join(format!("{name}.gz"))].into_iter().find(|file| file.is_file());
    if let Some(samples) = find("train-images-idx3-ubyte") {
        let labels = find("train-labels-idx1-ubyte");
        let test = find("t10k-images-idx3-ubyte");
        let test = test.map(|samples| Part::Files { samples, labels: find("t10k-labels-idx1-ubyte") });
        return Ok((Part::Files { samples, labels }, test));
    }
    let ten: Vec<PathBuf> = (1..).map_while(|i| find(&format!("data_batch_{i}.bin"))).collect();
    if !ten.is_empty() {
        let test = find("test_batch.bin").map(|file| Part::Cifar { files: vec![file], label_bytes: 1 });
        return Ok((Part::Cifar { files: ten, label_bytes: 1 }, test));
    }
    if let Some(file) = find("train.bin") {
        let part = |file| Part::Cifar { files: vec![file], label_bytes: 2 };
        return Ok((part(file), find("test.bin").map(part)));
    }
    if let Some(samples) = find("train.npz") {
        let test = find("test.npz").or_else(|| find("val.npz"));
        return Ok((Part::Files { samples, labels: None }, test.map(|samples| Part::Files { samples, labels: None })));
    }
    let folder = |name: &str| Some(path.join(name)).filter(|folder| folder.is_dir());
    if let Some(train) = folder("train") {
        let test = folder("test").or_else(|| folder("val"));
        return Ok((Part::Pictures(train), test.map(Part::Pictures)));
    }
    Ok((Part::Pictures(path.to_owned()), None))
}

/// Labelled samples of one part, cut for one model.
#[derive(Debug)]
pub struct LabelledSet {
    source: Source,
    labels: Vec<u32>,
}

#[derive(Debug)]
enum Source {
    /// Held as they were read.
    Arrays(Samples),
    /// Read when asked for.
    Pictures { pictures: Pictures, graph: Graph, scaling: Scaling },
}

impl LabelledSet {
    /// Reads a part; pictures are only listed, and read batch by batch.
    ///
    /// # Errors
    /// [`Error::Data`] if it can't be read, does not fit the model, or has no labels.
    pub fn read(part: &Part, graph: &Graph, scaling: &Scaling) -> Result<LabelledSet, Error> {
        if let Part::Pictures(folder) = part {
            let pictures = list_pictures(folder, graph, None)?;
            let labels = pictures
                .labels()
                .ok_or_else(|| Error::Data(format!("{}: pictures are not in subfolders by class", folder.display())))?;
            let source = Source::Pictures { pictures, graph: graph.clone(), scaling: scaling.clone() };
            return Ok(LabelledSet { source, labels });
        }
        let (path, (arrays, labels)) = (part.path(), part.arrays(graph, None)?);
        let in_file = |error: ArrayError| Error::Data(format!("{}: {error}", path.display()));
        let mut samples = Samples::new(arrays, graph, scaling.clone()).map_err(in_file)?;
        if let Some(labels) = labels {
            samples = samples.with_labels(labels).map_err(in_file)?;
        }
        let labels = samples.labels().map(<[u32]>::to_vec);
        let labels = labels.ok_or_else(|| Error::Data(format!("{}: there are no labels", path.display())))?;
        Ok(LabelledSet { source: Source::Arrays(samples), labels })
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The class of each sample.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// These samples as one batch: a tensor for each input of the model.
    ///
    /// # Errors
    /// [`Error::Data`] if a picture can't be read.
    pub fn pick(&self, indices: &[usize]) -> Result<Vec<Tensor>, Error> {
        match &self.source {
            Source::Arrays(samples) => Ok(samples.select(indices)?),
            Source::Pictures { pictures, graph, scaling } => {
                let pixels = pictures.read(indices)?;
                let samples = Samples::new(Arrays::One(pixels), graph, scaling.clone())?;
                Ok(samples.select(&(0..indices.len()).collect::<Vec<_>>())?)
            }
        }
    }

    /// Holds a fraction of the samples back, chosen by a seed, to test on.
    ///
    /// # Errors
    /// [`Error::Data`] if none would be left on either side.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<Held, Error> {
        let count = (self.len() as f64 * fraction).round() as usize;
        if count == 0 || count >= self.len() {
            return Err(Error::Data(format!("{fraction} of {} samples leaves a part empty", self.len())));
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        super::batches::shuffle(&mut order, seed, u64::MAX);
        let mut test = order.split_off(self.len() - count);
        test.sort_unstable();
        order.sort_unstable();
        Ok(Held { train: order, test })
    }
}

/// Which samples of one part are trained on, and which are held out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// To train on.
    pub train: Vec<usize>,
    /// To test on.
    pub test: Vec<usize>,
}

/// Bytes of one CIFAR picture: red, green and blue planes of 32 rows.
const CIFAR_PIXELS: usize = 3 * 32 * 32;

/// The pictures of CIFAR files, `u8[n, 3, 32, 32]`, and their classes.
fn read_cifar(paths: &[PathBuf], label_bytes: usize) -> Result<(Tensor, Vec<u32>), Error> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
        let bytes = super::unpacked(path, files::read(path)?)?;
        let record = label_bytes + CIFAR_PIXELS;
        if bytes.is_empty() || bytes.len() % record != 0 {
            let message = format!("{} bytes are no whole number of records of {record}", bytes.len());
            return Err(Error::Data(format!("{}: {message}", path.display())));
        }
        for record in bytes.chunks_exact(record) {
            labels.push(u32::from(record[label_bytes - 1]));
            pixels.extend_from_slice(&record[label_bytes..]);
        }
    }
    Ok((Tensor::new([labels.len(), 3, 32, 32], Data::U8(pixels)), labels))
}

fn read_named(path: &Path, samples: &str, labels: &str) -> Result<(Tensor, Vec<u32>), Error> {
    let at = |message: String| Error::Data(format!("{}: {message}", path.display()));
    let Arrays::Named(mut arrays) = read_arrays(path)? else { return Err(at("is no .npz".to_owned())) };
    let mut take = |name: &str| {
        let found = arrays.iter().position(|(n, _)| n == name);
        found.map(|i| arrays.swap_remove(i).1).ok_or_else(|| at(format!("there is no array {name}")))
    };
    let (x, y) = (take(samples)?, take(labels)?);
    Ok((x, labels_of(&y).map_err(|e| at(e.to_string()))?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use optc_ir::{DType, Dim, Type};

    use super::*;
    use crate::data::write_npz;

    fn model(dims: [usize; 3]) -> Graph {
        let mut graph = Graph::new("g");
        let dims = [Dim::sym("N"), dims[0].into(), dims[1].into(), dims[2].into()];
        graph.add_input("x", Type::tensor(DType::F32, dims));
        graph
    }

    fn read(part: &Part, graph: &Graph) -> LabelledSet {
        LabelledSet::read(part, graph, &Scaling::default()).unwrap()
    }

    #[test]
    fn cifar_folders_have_two_parts() {
        let dir = tempfile::tempdir().unwrap();
        let record = |label: &[u8], value| [label, &[value; CIFAR_PIXELS]].concat();
        fs::write(dir.path().join("data_batch_1.bin"), [record(&[3], 1), record(&[4], 2)].concat()).unwrap();
        fs::write(dir.path().join("data_batch_2.bin"), record(&[5], 7)).unwrap();
        fs::write(dir.path().join("test_batch.bin"), record(&[6], 9)).unwrap();
        let (train, test) = locate(dir.path()).unwrap();
        let graph = model([3, 32, 32]);
        let set = read(&train, &graph);
        assert_eq!(set.labels(), [3, 4, 5]);
        let batch = set.pick(&[2, 0]).unwrap();
        assert_eq!(batch[0].shape(), [2, 3, 32, 32]);
        assert_eq!((batch[0].as_f32().unwrap()[0], batch[0].as_f32().unwrap()[CIFAR_PIXELS]), (7.0, 1.0));
        assert_eq!(read(&test.unwrap(), &graph).labels(), [6]);

        let hundred = tempfile::tempdir().unwrap();
        fs::write(hundred.path().join("train.bin"), record(&[1, 77], 5)).unwrap();
        let (train, test) = locate(hundred.path()).unwrap();
        assert_eq!((read(&train, &graph).labels(), test), (&[77][..], None));
        fs::write(hundred.path().join("train.bin"), [1, 2, 3]).unwrap();
        let error = LabelledSet::read(&train, &graph, &Scaling::default()).unwrap_err().to_string();
        assert!(error.contains("records of 3074"), "{error}");
    }

    #[test]
    fn archives_have_two_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.npz");
        let (x, y) = (Tensor::zeros(DType::U8, [4, 2, 2]), Tensor::i64([4], [0, 1, 1, 0]));
        fs::write(&path, write_npz([("x_train", &x), ("y_train", &y)]).unwrap()).unwrap();
        let (train, test) = locate(&path).unwrap();
        let set = read(&train, &model([1, 2, 2]));
        assert_eq!((set.len(), test), (4, None));
        let held = set.split(0.25, 1).unwrap();
        assert_eq!((held.train.len(), held.test.len()), (3, 1));
        assert!(set.split(0.01, 1).is_err());
    }

    #[test]
    fn pictures_are_read_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        for (name, color) in [("train/0/a.png", 10), ("train/1/b.png", 20), ("test/1/c.png", 30)] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::GrayImage::from_pixel(4, 4, image::Luma([color])).save(path).unwrap();
        }
        let (train, test) = locate(dir.path()).unwrap();
        let graph = model([1, 2, 2]);
        let set = read(&train, &graph);
        assert_eq!(set.labels(), [0, 1]);
        assert_eq!(set.pick(&[1]).unwrap()[0].as_f32().unwrap(), [20.0; 4]);
        assert_eq!(read(&test.unwrap(), &graph).labels(), [1]);
    }
}
