//! Folders of pictures: PNG and JPEG files, in subfolders by class or all in one.
//!
//! A picture is scaled until it covers the model's height and width, and cut to its middle.

use std::fs;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use optc_ir::{Data, Dim, Graph, Tensor, Type};

use crate::error::Error;

/// The samples of a folder.
#[derive(Debug)]
pub struct Images {
    /// `u8[count, height, width, channels]`.
    pub pixels: Tensor,
    /// The class of each picture, if they are in subfolders: its name if all names are numbers, else its
    /// place among the sorted names.
    pub labels: Option<Vec<u32>>,
}

/// The pictures of a folder, not yet read.
#[derive(Debug)]
pub(super) struct Pictures {
    files: Vec<(PathBuf, Option<u32>)>,
    size: (u32, u32, usize),
}

impl Pictures {
    /// The class of each, if all are in subfolders.
    pub(super) fn labels(&self) -> Option<Vec<u32>> {
        self.files.iter().map(|(_, class)| *class).collect()
    }

    /// Reads some of them: `u8[count, height, width, channels]`.
    pub(super) fn read(&self, indices: &[usize]) -> Result<Tensor, Error> {
        let (height, width, channels) = self.size;
        let mut pixels = Vec::new();
        for &i in indices {
            let file = &self.files[i].0;
            let picture = image::ImageReader::open(file).and_then(image::ImageReader::with_guessed_format);
            let picture = picture.map_err(|source| Error::file(file, source))?;
            let picture = picture.decode().map_err(|e| at(file, &e.to_string()))?;
            let picture = picture.resize_to_fill(width, height, FilterType::Triangle);
            pixels.extend(if channels == 1 { picture.into_luma8().into_raw() } else { picture.into_rgb8().into_raw() });
        }
        Ok(Tensor::new([indices.len(), height as usize, width as usize, channels], Data::U8(pixels)))
    }
}

/// Lists the pictures of a folder for the one input of a model, in order of name, at most `limit`.
///
/// # Errors
/// [`Error::Data`] if the input is not that of pictures of fixed size, or there is no picture.
pub(super) fn list_pictures(folder: &Path, graph: &Graph, limit: Option<usize>) -> Result<Pictures, Error> {
    let size = picture_size(graph).map_err(|e| at(folder, &e))?;
    let (files, folders) = entries(folder)?;
    let mut found: Vec<(PathBuf, Option<u32>)> = files.into_iter().map(|file| (file, None)).collect();
    for (class, inner) in class_numbers(&folders).into_iter().zip(&folders) {
        found.extend(entries(inner)?.0.into_iter().map(|file| (file, Some(class))));
    }
    found.truncate(limit.unwrap_or(usize::MAX));
    if found.is_empty() {
        return Err(at(folder, "there are no .png or .jpg files in it or in its subfolders"));
    }
    Ok(Pictures { files: found, size })
}

/// Reads the pictures of a folder for the one input of a model, in order of name, at most `limit`.
///
/// # Errors
/// [`Error::Data`] if the input is not that of pictures of fixed size, there is no picture, or one can't
/// be read.
pub fn read_images(folder: &Path, graph: &Graph, limit: Option<usize>) -> Result<Images, Error> {
    let pictures = list_pictures(folder, graph, limit)?;
    let all: Vec<usize> = (0..pictures.files.len()).collect();
    Ok(Images { pixels: pictures.read(&all)?, labels: pictures.labels() })
}

fn at(path: &Path, message: &str) -> Error {
    Error::Data(format!("{}: {message}", path.display()))
}

/// Height, width and channels of the pictures a model takes.
fn picture_size(graph: &Graph) -> Result<(u32, u32, usize), String> {
    let [input] = graph.inputs() else {
        return Err(format!("pictures serve a model with one input, this one has {}", graph.inputs().len()));
    };
    let Type::Tensor(ty) = graph.ty(*input) else {
        return Err("the type of the model's input is unknown".to_owned());
    };
    let fixed: Vec<Option<usize>> = ty.shape.iter().map(Dim::fixed).collect();
    let (height, width, channels) = match fixed[..] {
        [_, Some(c @ (1 | 3)), Some(h), Some(w)] => (h, w, c),
        [_, Some(h), Some(w), Some(c @ (1 | 3))] => (h, w, c),
        _ => {
            let hint = "pictures need an input of fixed height and width with 1 or 3 channels; --bind fixes dimensions";
            return Err(format!("the model's input has type {ty}: {hint}"));
        }
    };
    let side = |n: usize| u32::try_from(n).ok().filter(|n| (1..=1 << 14).contains(n));
    match (side(height), side(width)) {
        (Some(height), Some(width)) => Ok((height, width, channels)),
        _ => Err(format!("pictures of {height}×{width} are too large")),
    }
}

/// The pictures and the subfolders of a folder, sorted.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    let in_folder = |source| Error::file(folder, source);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(in_folder)? {
        paths.push(entry.map_err(in_folder)?.path());
    }
    paths.sort();
    let is_picture = |path: &PathBuf| {
        let suffix = path.extension().map(|s| s.to_string_lossy().to_ascii_lowercase());
        path.is_file() && matches!(suffix.as_deref(), Some("png" | "jpg" | "jpeg"))
    };
    let pictures = paths.iter().filter(|path| is_picture(path)).cloned().collect();
    Ok((pictures, paths.into_iter().filter(|path| path.is_dir()).collect()))
}

/// The class each subfolder stands for.
fn class_numbers(folders: &[PathBuf]) -> Vec<u32> {
    let number = |folder: &PathBuf| folder.file_name()?.to_str()?.parse().ok();
    let named: Option<Vec<u32>> = folders.iter().map(number).collect();
    named.unwrap_or_else(|| (0..).take(folders.len()).collect())
}

#[cfg(test)]
mod tests {
    use optc_ir::DType;

    use super::*;

    fn model(dims: [usize; 3]) -> Graph {
        let mut graph = Graph::new("g");
        let dims = [Dim::sym("N"), dims[0].into(), dims[1].into(), dims[2].into()];
        graph.add_input("x", Type::tensor(DType::F32, dims));
        graph
    }

    #[test]
    fn pictures_are_cut_to_size_and_labelled_by_folder() {
        let dir = tempfile::tempdir().unwrap();
        for (name, color) in [("cat/a.png", [255, 0, 0]), ("dog/b.png", [0, 255, 0]), ("dog/c.png", [0, 0, 255])] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::RgbImage::from_pixel(9, 5, image::Rgb(color)).save(path).unwrap();
        }
        let images = read_images(dir.path(), &model([3, 2, 2]), None).unwrap();
        assert_eq!(images.labels, Some(vec![0, 1, 1]));
        assert_eq!(images.pixels.shape(), [3, 2, 2, 3]);
        assert_eq!(images.pixels.data().to_f64()[..3], [255.0, 0.0, 0.0]);
        let images = read_images(&dir.path().join("dog"), &model([2, 2, 1]), Some(1)).unwrap();
        assert_eq!((images.pixels.shape(), images.labels), (&[1, 2, 2, 1][..], None));
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_images(dir.path(), &model([3, 2, 2]), None).is_err());
        fs::write(dir.path().join("a.png"), b"not a picture").unwrap();
        assert!(read_images(dir.path(), &model([3, 2, 2]), None).unwrap_err().to_string().contains("a.png"));
        assert!(read_images(dir.path(), &model([7, 2, 2]), None).unwrap_err().to_string().contains("channels"));
    }
}
