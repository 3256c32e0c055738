//! The pass manager, the analyses and the passes of optc.
//!
//! A [`Pass`] transforms a graph and declares how far it may move its function ([`Effect`]). The
//! [`PassManager`] runs a [`Pipeline`], verifies after every pass, and reports what
//! each one did. All passes stand in one table, [`PASSES`]; a pipeline is a text, so that
//! `fold-batch-norm,prune-magnitude{sparsity=0.8},encode-weights` on the command line, in a report and in a
//! test mean the same.
//!
//! This crate reads no files and prints nothing; data comes through [`Dataset`], and models are run by
//! whatever [`optc_ir::Backend`] the caller brings.

pub mod analysis;
pub mod compress;
pub mod data;
mod differential;
pub mod error;
pub mod manager;
pub mod observe;
pub mod options;
pub mod pass;
pub mod pipeline;
pub mod registry;
mod rewrite;
pub mod selector;
pub mod simplify;
pub mod train;

pub use data::{DataError, Dataset};
pub use differential::{random_inputs, relative_error, tolerance};
pub use error::{OptionError, PassError};
pub use manager::{PassManager, PassReport, RunReport};
pub use options::Options;
pub use pass::{Analysis, Effect, Pass, PassCx};
pub use pipeline::Pipeline;
pub use registry::{OptionInfo, PASSES, PassInfo};
pub use selector::{Selection, Selector};
