//! optc: an optimizing compiler for neural networks. ONNX in, a smaller and faster model out.
//!
//! This crate is the front door: file formats, data, reports and the command line. It is the only one
//! that reads and writes files. The others are re-exported, so that a program which embeds optc needs
//! this dependency alone.
//!
//! A program that only runs models needs three lines:
//!
//! ```
//! # fn main() -> Result<(), optc::Error> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/models/mnist_cntk.onnx");
//! use optc::ir::Tensor;
//! use optc::{CompileOptions, Model};
//!
//! let image = Tensor::f32([1, 1, 28, 28], vec![0.5; 28 * 28]);
//! let outputs = Model::load(path)?.compile(&CompileOptions::default())?.run(&[("Input3", image)])?;
//! let scores = outputs["Plus214_Output_0"].as_f32().expect("scores are f32");
//! assert_eq!(scores.len(), 10);
//! # Ok(())
//! # }
//! ```
//!
//! `examples/run.rs` runs a model again and again without new memory; `examples/embed.rs` puts a pass of its own
//! into a pipeline of its own.

pub use optc_codegen as codegen;
pub use optc_ir as ir;
pub use optc_passes as passes;

pub mod architectures;
pub mod cli;
pub mod compiled;
pub mod data;
pub mod divergence;
pub mod error;
pub mod files;
pub mod measure;
pub mod model;
pub mod onnx;
pub mod pack;
pub mod report;
pub mod train;

pub use compiled::{Algorithms, BackendKind, CompileOptions, Compiled, Outputs};
pub use error::Error;
pub use model::{Model, load, save};
