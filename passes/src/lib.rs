//! The pass manager, the analyses and the passes of optc.

pub mod analysis;
pub mod data;
pub mod error;
pub mod pass;

pub use data::{DataError, Dataset};
pub use error::{OptionError, PassError};
pub use pass::{Analysis, Effect, Pass, PassCx};
