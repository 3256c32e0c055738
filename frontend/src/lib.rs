//! optc: an optimizing compiler for neural networks. ONNX in, a smaller and faster model out.
//!
//! This crate is the front door: file formats, data, reports and the command line. It is the only one
//! that reads and writes files. The others are re-exported, so that a program which embeds optc needs
//! this dependency alone.

pub use optc_codegen as codegen;
pub use optc_ir as ir;
pub use optc_passes as passes;

pub mod cli;
pub mod data;
pub mod error;
pub mod files;
pub mod measure;
pub mod model;
pub mod onnx;
pub mod pack;
pub mod report;

pub use error::Error;
pub use model::{load, save};
