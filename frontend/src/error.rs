//! Whatever can go wrong between a command line and a model.

use std::io;
use std::path::{Path, PathBuf};

use optc_ir::{ExecError, ParseError};
use optc_passes::{DataError, OptionError, PassError};
use thiserror::Error;

use crate::data::ArrayError;

/// Every error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Arguments that make no sense.
    #[error("{0}")]
    Usage(String),
    /// A data file that can't be read, or does not fit the model.
    #[error("{0}")]
    Data(String),
    /// A textual graph that can't be read.
    #[error("{}: {source}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: ParseError,
    },
    /// A pipeline or an option of it that can't be understood.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// A pass that failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// A model that can't be run.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl Error {
    pub(crate) fn file(path: &Path, source: io::Error) -> Error {
        Error::File { path: path.to_owned(), source }
    }
}

impl From<ArrayError> for Error {
    fn from(error: ArrayError) -> Error {
        Error::Data(error.to_string())
    }
}

impl From<DataError> for Error {
    fn from(error: DataError) -> Error {
        Error::Data(error.to_string())
    }
}
