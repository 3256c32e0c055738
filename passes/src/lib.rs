//! The pass manager, the analyses and the passes of optc.

pub mod analysis;
pub mod data;
pub mod error;
pub mod options;
pub mod pass;
pub mod selector;

pub use data::{DataError, Dataset};
pub use error::{OptionError, PassError};
pub use options::Options;
pub use pass::{Analysis, Effect, Pass, PassCx};
pub use selector::{Selection, Selector};
