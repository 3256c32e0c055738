//! Reports as data: what a model is, and what compiling did to it. `text` draws them as tables, `json`
//! writes them as one object.
//!
//! Every field here is part of the JSON a program may rely on; a ratio names its denominator.

mod build;
mod json;
pub(crate) mod plot;
mod storage;
pub mod table;
mod text;

use optc_ir::RemarkKind;
use serde::{Serialize, Serializer};

pub use build::{CodedBytes, coded_bytes, compile_layers, encodings, layers, skipped, summarize_passes};
pub use json::to_json;
pub use storage::{StorageRow, storage, storage_table};
pub(crate) use text::distance_table;
pub use text::{bytes, compile_report, count, energy, layer_table, percent};

/// What a model weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sizes {
    /// Bytes of the file.
    pub bytes: u64,
    /// Weights and biases.
    pub params: usize,
    /// Those that are not zero.
    pub nonzero: usize,
    /// Multiply-accumulates of one run; open dimensions count as 1.
    pub macs: u64,
    /// Bits of all constants as they are kept in memory.
    pub stored_bits: u64,
    /// Estimated energy of one run, in pJ at 45 nm.
    pub energy_pj: f64,
}

/// What compiling did.
#[derive(Clone, Debug, Serialize)]
pub struct CompileReport {
    /// The model as named on the command line.
    pub model: String,
    /// The passes that were asked for; this text gives the same pipeline again.
    pub pipeline: String,
    /// Where everything random started from.
    pub seed: u64,
    /// The model as it came; `bytes` is the size of its file.
    pub input: Sizes,
    /// The model as it went; `bytes` is the size of the `.optc`, or of the smallest model written.
    pub output: Sizes,
    /// How much smaller, and than what.
    pub ratios: Ratios,
    /// The paths written.
    pub outputs: Vec<String>,
    /// The same with their formats and sizes.
    pub files: Vec<OutputFile>,
    /// The passes, in the order they ran.
    pub passes: Vec<PassRow>,
    /// The layers of the result.
    pub layers: Vec<Layer>,
    /// The constants of the result by encoding.
    pub encodings: Vec<EncodingRow>,
    /// What each constant takes in the `.optc`, if one was made.
    pub storage: Vec<StorageRow>,
    /// What passes declined to do, and why, most frequent first.
    pub skipped: Vec<SkippedRow>,
    /// What the passes' checks found, if they were asked for.
    pub checks: Vec<CheckRow>,
    /// The distance from the original on the user's data, if there was any.
    pub measured: Option<Measured>,
    /// Dimensions that are open and counted as 1.
    pub open_dims: Vec<String>,
    /// Time to load the model.
    pub load_ms: f64,
    /// Time of everything.
    pub total_ms: f64,
    /// The most memory the process ever held, where the system tells.
    pub peak_rss_bytes: Option<u64>,
}

/// How much smaller the result is.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Ratios {
    /// Input file bytes over output file bytes.
    pub file: f64,
    /// Parameters of the input as `f32`, 4 bytes each, over the constants of the result as written to the
    /// `.optc`, or as kept in memory if none is written.
    pub weights: f64,
    /// The numerator of `weights`: 4 bytes a parameter of the input.
    pub dense_f32_bytes: u64,
    /// The denominator of `weights`.
    pub weight_bytes: u64,
}

/// A file written, or one that would be.
#[derive(Clone, Debug, Serialize)]
pub struct OutputFile {
    /// Its path.
    pub path: String,
    /// `optc`, `onnx`, `ir`, `dot` or `report`.
    pub format: &'static str,
    /// Its size.
    pub bytes: u64,
}

/// One pass.
#[derive(Clone, Debug, Serialize)]
pub struct PassRow {
    /// Its name.
    pub name: &'static str,
    /// Its options that differ from the defaults.
    pub options: String,
    /// How far it may move results: `exact`, `rounding` or `lossy`.
    pub effect: String,
    /// Its time.
    pub ms: f64,
    /// Whether it changed anything.
    pub changed: bool,
    /// Nodes after it.
    pub nodes: usize,
    /// Parameters after it.
    pub params: usize,
    /// Parameters that are not zero, after it.
    pub nonzero: usize,
    /// Bytes of all constants after it.
    pub stored_bytes: usize,
    /// What it said.
    pub remarks: Vec<RemarkRow>,
    /// The passes it is made of.
    pub nested: Vec<NestedRow>,
}

/// A pass inside another, all rounds together.
#[derive(Clone, Debug, Serialize)]
pub struct NestedRow {
    /// Its name.
    pub name: &'static str,
    /// How often it ran.
    pub runs: usize,
    /// How often it changed something.
    pub changes: usize,
    /// Its time.
    pub ms: f64,
}

/// One statement of a pass.
#[derive(Clone, Debug, Serialize)]
pub struct RemarkRow {
    /// `applied`, `missed` or `note`.
    #[serde(serialize_with = "as_text")]
    pub kind: RemarkKind,
    /// The pass that speaks, which may be inside the one of the row.
    pub pass: &'static str,
    /// The node spoken of; empty for the whole graph.
    pub node: String,
    /// The statement.
    pub text: String,
}

/// One layer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Layer {
    /// The name of its node.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The type of its first result.
    pub shape: String,
    /// Weights and biases.
    pub params: usize,
    /// Those that are not zero.
    pub nonzero: usize,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Bytes of its constants as kept in memory.
    pub stored_bytes: usize,
    /// How its largest constant is kept.
    pub encoding: String,
    /// Bits a parameter: as written to the `.optc` if that is known, as kept in memory otherwise.
    pub bits_per_weight: Option<f64>,
    /// The empirical entropy of its constants: `Σ n·log₂(N/n)` over distinct values.
    pub entropy_bits: f64,
    /// Estimated energy of one run, in pJ at 45 nm.
    pub energy_pj: f64,
    /// Bytes of its constants as written to the `.optc`.
    pub coded_bytes: Option<u64>,
    /// Parameters of the layer of this name before compiling.
    pub params_before: Option<usize>,
    /// Bytes of its constants before compiling.
    pub stored_bytes_before: Option<usize>,
}

/// The constants of one encoding.
#[derive(Clone, Debug, Serialize)]
pub struct EncodingRow {
    /// The encoding.
    pub encoding: String,
    /// Constants kept so.
    pub constants: usize,
    /// Their elements.
    pub elements: usize,
    /// Bytes as kept in memory.
    pub stored_bytes: usize,
    /// Bytes as written to the `.optc`.
    pub coded_bytes: Option<u64>,
}

/// One reason for which something was not done.
#[derive(Clone, Debug, Serialize)]
pub struct SkippedRow {
    /// The pass that declined.
    pub pass: &'static str,
    /// Why.
    pub reason: String,
    /// How often.
    pub count: usize,
    /// The first nodes it was said of.
    pub nodes: Vec<String>,
}

/// What running the model before and after a pass showed.
#[derive(Clone, Debug, Serialize)]
pub struct CheckRow {
    /// The pass.
    pub pass: String,
    /// The largest relative error of any result; absent if the model could not be run.
    pub max_rel: Option<f64>,
    /// Why it could not be run.
    pub skipped: Option<String>,
}

/// The distance of the compiled model from the original on data.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Samples run.
    pub samples: usize,
    /// What ran them.
    pub backend: &'static str,
    /// Each output.
    pub outputs: Vec<OutputDistance>,
    /// Accuracy of the original, if the data is labelled.
    pub before: Option<AccuracyRow>,
    /// Accuracy of the compiled model, if the data is labelled.
    pub after: Option<AccuracyRow>,
}

/// The distance between two models in one output.
#[derive(Clone, Debug, Serialize)]
pub struct OutputDistance {
    /// The output.
    pub name: String,
    /// Largest `|a − b|`; null if an element is finite in one model only.
    pub max_abs: f64,
    /// Largest `|a − b|` over the largest `|a|` of the same run; null as for `max_abs`.
    pub max_rel: f64,
    /// Cosine of the angle between both, over everything.
    pub cosine: f64,
    /// Share of rows whose largest element is at the same place; null if rows have one element.
    pub top1_agreement: Option<f64>,
    /// Elements that are NaN or infinite in one model and not, or differently, in the other.
    pub mismatches: u64,
}

/// How often a classifier is right.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AccuracyRow {
    /// Share of samples whose class has the highest score.
    pub top1: f64,
    /// Share of samples whose class is among the five highest scores.
    pub top5: f64,
    /// Samples.
    pub count: usize,
}

fn as_text<S: Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}
