//! Whatever can go wrong between a command line and a model.

use std::io;
use std::path::{Path, PathBuf};

use optc_ir::{ExecError, ParseError};
use optc_passes::train::TrainError;
use optc_passes::{DataError, OptionError, PassError};
use thiserror::Error;

use crate::data::ArrayError;
use crate::{onnx, pack};

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
    /// An ONNX model that can't be imported.
    #[error(transparent)]
    Import(#[from] onnx::ImportError),
    /// A graph that ONNX can't say.
    #[error(transparent)]
    Export(#[from] onnx::ExportError),
    /// A `.optc` file that can't be read.
    #[error("{}: {source}", path.display())]
    Unpack {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: pack::PackError,
    },
    /// A graph that `.optc` can't hold.
    #[error(transparent)]
    Pack(#[from] pack::PackError),
    /// A pipeline or an option of it that can't be understood.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// A pass that failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// A model that can't be trained as asked.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A model that can't be run.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl Error {
    /// The exit code of a process that fails with this: 2 for wrong usage or bad input, 3 for a model that is
    /// invalid or not supported, 4 if a pass broke its promise and nothing was written.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::File { .. } | Error::Usage(_) | Error::Data(_) | Error::Options(_) => 2,
            Error::Pass(PassError::Data(_)) | Error::Exec(ExecError::Signature(_)) => 2,
            Error::Train(TrainError::Node { .. } | TrainError::Exec(_) | TrainError::Pass(_)) => 3,
            Error::Train(TrainError::Rule { .. } | TrainError::Verify(_)) => 4,
            Error::Train(_) => 2,
            Error::Pass(PassError::Broken { .. } | PassError::Signature { .. } | PassError::Effect { .. }) => 4,
            Error::Text { .. } | Error::Import(_) | Error::Export(_) | Error::Unpack { .. } | Error::Pack(_) => 3,
            Error::Pass(_) | Error::Exec(_) => 3,
        }
    }

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
