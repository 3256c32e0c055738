//! Files on disk: what kind a file is, and writing one so that nobody ever sees half of it.
//!
//! Invariant: a path that is written either keeps its old contents or has all of the new ones. The bytes
//! go to a temporary file in the same folder, which then takes the name in one step.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The kinds of file a model can be in, or be turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// An ONNX model.
    Onnx,
    /// The compressed container.
    Optc,
    /// The textual form of the graph.
    Ir,
}

impl Format {
    /// The usual suffix, without the dot.
    pub fn suffix(self) -> &'static str {
        match self {
            Format::Onnx => "onnx",
            Format::Optc => "optc",
            Format::Ir => "ir",
        }
    }

    /// The format a file name promises.
    pub fn of_path(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "onnx" => Some(Format::Onnx),
            "optc" => Some(Format::Optc),
            "ir" => Some(Format::Ir),
            _ => None,
        }
    }

    /// The format of a model file by its first bytes, and by its name where they say nothing: an ONNX
    /// file has no mark of its own.
    pub fn of_contents(head: &[u8], path: &Path) -> Format {
        match Format::of_path(path) {
            Some(format) => format,
            None if looks_like_text(head) => Format::Ir,
            None => Format::Onnx,
        }
    }
}

/// Whether the first line that is no comment starts a textual graph.
fn looks_like_text(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("//"));
    first.is_some_and(|line| line.starts_with("graph @"))
}

/// Reads a whole file.
///
/// # Errors
/// [`Error::File`] naming the path.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    if path.is_dir() {
        return Err(Error::file(path, io::Error::new(io::ErrorKind::IsADirectory, "is a folder, expected a file")));
    }
    fs::read(path).map_err(|source| Error::file(path, source))
}

/// The first bytes of a file, at most `len`.
///
/// # Errors
/// [`Error::File`] naming the path.
pub fn read_head(path: &Path, len: u64) -> Result<Vec<u8>, Error> {
    let mut head = Vec::new();
    let file = fs::File::open(path).map_err(|source| Error::file(path, source))?;
    io::Read::read_to_end(&mut io::Read::take(file, len), &mut head).map_err(|source| Error::file(path, source))?;
    Ok(head)
}

/// Writes a whole file: a reader sees the old contents or all of the new. Devices and pipes, which have
/// no contents to keep, are written as they are.
///
/// # Errors
/// [`Error::File`] naming the path; the old contents are still there.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_with(path, |out| out.write_all(bytes))
}

/// As [`write()`], with contents that come piece by piece.
///
/// # Errors
/// As [`write()`].
pub fn write_with(path: &Path, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let special = fs::metadata(path).is_ok_and(|m| !m.is_file());
    let written = if special {
        fs::OpenOptions::new().write(true).open(path).and_then(|mut file| contents(&mut file))
    } else {
        replace(path, contents)
    };
    written.map_err(|source| Error::file(path, source))
}

fn replace(path: &Path, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let folder = folder_of(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".optc-").suffix(".part");
    // A temporary file is private by default; an output has the permissions of any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    contents(file.as_file_mut())?;
    file.as_file().sync_data()?;
    file.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

/// The folder a file is in, `.` for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether two paths name one file, which need not exist yet.
pub fn same_file(a: &Path, b: &Path) -> bool {
    resolved(a) == resolved(b)
}

fn resolved(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    match (folder_of(path).canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.optc");
        write(&path, b"a long first version").unwrap();
        write(&path, b"short").unwrap();
        assert_eq!(read(&path).unwrap(), b"short");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_into_no_folder_names_the_path() {
        let error = write(Path::new("/nowhere/at/all/m.optc"), b"x").unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all/m.optc"), "{error}");
    }

    #[test]
    fn one_file_under_two_names_is_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        fs::write(&path, b"x").unwrap();
        assert!(same_file(&path, &dir.path().join(".").join("m.onnx")));
        assert!(!same_file(&path, &dir.path().join("n.onnx")));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&path, dir.path().join("link")).unwrap();
            assert!(same_file(&path, &dir.path().join("link")));
        }
    }

    #[test]
    fn contents_tell_where_names_do_not() {
        assert_eq!(Format::of_contents(b"// a model\ngraph @g() -> () {", Path::new("m")), Format::Ir);
        assert_eq!(Format::of_contents(&[8, 7, 18, 4], Path::new("m")), Format::Onnx);
    }
}
