//! The command line as it is written, before anything is looked up or checked against a model.
//!
//! The doc comments here are the help texts.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use optc_codegen::Vectors;
use optc_passes::pipeline::PRESETS;

pub use super::explain::ExplainArgs;
use super::new::NewArgs;
pub use super::sensitivity::SensitivityArgs;
use super::train::TrainArgs;
use crate::compiled::BackendKind;

/// An optimizing compiler for neural networks: ONNX in, a smaller and faster model out.
///
/// Given a model and no command, optc compiles it: the model is simplified, compressed and written as
/// `.optc` (small, loads fast) and as `.onnx` (runs in any runtime), with a report of what was done.
#[derive(Debug, Parser)]
#[command(
    name = "optc",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  optc model.onnx -O compress                    writes model.optc and model.opt.onnx
  optc model.onnx -O compress -o small.onnx      one output, in the format of its suffix
  optc model.onnx -O compress --emit ir | less   the compressed model as text, on a page
  optc model.onnx -O fuse --emit plan --bind N=1 the kernels it runs as, and where values lie
  optc model.onnx -O compress --data x.npz       measures what compression did to the results
  optc model.onnx -p 'simplify,prune-magnitude{sparsity=0.8},encode-weights'
  optc inspect model.onnx                        what is in a model, layer by layer
  optc compare model.onnx model.optc             how far two models are apart

Exit codes: 0 done; 2 wrong usage or bad input; 3 the model is invalid or not supported;
4 verification failed and nothing was written."
)]
pub struct Cli {
    /// The command; compile if there is none.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Compile.
    #[command(flatten)]
    pub compile: CompileArgs,
}

/// Commands besides compile.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what is in a model: signature, operators, parameters, sparsity, entropy
    Inspect(InspectArgs),
    /// Run a model once on given inputs
    Run(RunArgs),
    /// Measure the accuracy of a classifier on labelled data
    Eval(EvalArgs),
    /// Measure how far the results of two models are apart
    Compare(CompareArgs),
    /// Show which channels can be removed, what goes with them, and what stands in the way
    Explain(ExplainArgs),
    /// Measure what pruning each layer alone does to a model
    Sensitivity(SensitivityArgs),
    /// Measure how fast a model runs
    Bench(BenchArgs),
    /// Dry run of compile: which passes fire where, and the sizes to expect; writes nothing
    Check(CheckArgs),
    /// Turn a .optc file back into ONNX, with identical values
    Unpack(UnpackArgs),
    /// Write a network with random weights, to be trained
    New(NewArgs),
    /// Train and compress a model by a recipe
    Train(TrainArgs),
    /// List the passes and their options
    Passes(PassesArgs),
    /// List the operators optc knows
    Ops(OpsArgs),
}

/// How much is said, and in which form.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What is printed")]
pub struct TalkArgs {
    /// Print one JSON object to standard output instead of tables
    #[arg(long)]
    pub json: bool,
    /// Say more on standard error; twice: everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing on standard error but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// What is done to the model.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What is done to the model")]
pub struct PipelineArgs {
    /// What to optimize for [default: compress]
    #[arg(short = 'O', value_name = "GOAL", value_parser = goals(), conflicts_with = "pipeline")]
    pub goal: Option<String>,
    /// A pipeline by hand: passes separated by commas, options in braces; see `optc passes`
    #[arg(short, long, value_name = "PASSES")]
    pub pipeline: Option<String>,
    /// Let passes that change weights touch these layers only: operators or names, with `*`, or `re:REGEX`
    #[arg(long, value_name = "LAYERS")]
    pub only: Option<String>,
    /// Keep passes that change weights off these layers
    #[arg(long, value_name = "LAYERS")]
    pub protect: Option<String>,
    /// Leave out a pass; may be given several times
    #[arg(long, value_name = "PASS")]
    pub disable: Vec<String>,
    /// Where everything random starts from; the same seed gives the same output, byte by byte
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// The presets there are, with what each is for.
fn goals() -> PossibleValuesParser {
    PRESETS.iter().map(|preset| PossibleValue::new(preset.name).help(preset.summary)).collect::<Vec<_>>().into()
}

/// Data to measure on.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Data to measure on")]
pub struct DataArgs {
    /// Inputs to measure on: .npz by input names; .npy or idx for a model with one input (.gz is fine); a
    /// folder of pictures, in subfolders by class; or a folder as MNIST and CIFAR are published, of which the
    /// part to test on is taken. The leading axis of an array counts samples
    #[arg(long, value_name = "FILE|DIR")]
    pub data: Option<PathBuf>,
    /// The class of each sample: integers in an .npy, .npz or idx file
    #[arg(long, value_name = "FILE", requires = "data")]
    pub labels: Option<PathBuf>,
    /// Factor on raw data, before mean and std; 1/255 is fine. Without any of the three, data are scaled as the
    /// model says it was trained, or not at all [default: 1]
    #[arg(long, value_name = "X")]
    pub scale: Option<Number>,
    /// Subtracted from scaled data: one number, or one a channel [default: 0]
    #[arg(long, value_name = "X,…", value_delimiter = ',', allow_hyphen_values = true)]
    pub mean: Vec<Number>,
    /// Divided by: one number, or one a channel [default: 1]
    #[arg(long, value_name = "X,…", value_delimiter = ',')]
    pub std: Vec<Number>,
    /// Take the first samples only
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Samples run at once, unless the model fixes the number
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub batch: usize,
}

/// How a model is run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "How the model is run")]
pub struct ExecArgs {
    /// What runs the model
    #[arg(long, value_name = "BACKEND", default_value = "jit")]
    pub backend: BackendKind,
    /// Threads to use [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// What machine code is generated for: native, icelake (AVX-512 with products of bytes and of bits), x86-64-v4
    /// (AVX-512), x86-64-v3 (AVX2), or clif, which is portable
    #[arg(long, value_name = "CPU", default_value = "native")]
    pub target_cpu: Vectors,
    /// Fix an open dimension, such as N=1; may be given several times
    #[arg(long, value_name = "DIM=N", value_delimiter = ',')]
    pub bind: Vec<Binding>,
}

/// What is done to a model before it runs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "How the model is run")]
pub struct OptimizeArgs {
    /// Run the graph as it is in the file; otherwise the JIT simplifies it first, as -O fuse does
    #[arg(long)]
    pub no_optimize: bool,
    /// Measure on this host what computes each layer of compressed weights fastest, for some seconds, instead of
    /// trusting the cost model. Nothing is written; layers may be computed otherwise the next time
    #[arg(long)]
    pub tune: bool,
}

/// A number, possibly as a fraction: `1/255`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Number(pub f64);

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Number, String> {
        let number = |t: &str| t.trim().parse::<f64>().map_err(|_| format!("{t:?} is not a number"));
        let x = match text.split_once('/') {
            Some((a, b)) => number(a)? / number(b)?,
            None => number(text)?,
        };
        if x.is_finite() { Ok(Number(x)) } else { Err(format!("{text:?} is not a finite number")) }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A dimension and its extent: `N=1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The symbol.
    pub dim: String,
    /// Its extent.
    pub extent: usize,
}

impl FromStr for Binding {
    type Err = String;

    fn from_str(text: &str) -> Result<Binding, String> {
        let (dim, extent) = text.rsplit_once('=').ok_or("expected DIM=N, such as N=1")?;
        let extent = extent.trim().parse().map_err(|_| format!("{extent:?} is not a whole number"))?;
        Ok(Binding { dim: dim.trim().to_owned(), extent })
    }
}

/// What compile writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Emit {
    /// The compressed container
    Optc,
    /// An ONNX model any runtime reads
    Onnx,
    /// The graph as text
    Ir,
    /// The graph as a picture, for Graphviz
    Dot,
    /// The kernels that run the model, and where every value lies
    Plan,
    /// How each kernel walks its buffers
    Schedule,
    /// Code of the kernels before registers are assigned, in CLIF
    Clif,
    /// Machine code of the kernels
    Asm,
    /// The report as JSON
    Report,
}

/// Compile.
#[derive(Debug, Args)]
pub struct CompileArgs {
    /// The model: .onnx, .optc or .ir
    #[arg(value_name = "MODEL", required = true)]
    pub model: Option<PathBuf>,
    /// Where to write: a file, in the format of its suffix (onnx, optc, ir, dot, plan, schedule, clif, asm,
    /// json), or a folder; `-` is standard output. By default beside the model
    #[arg(short, long, value_name = "FILE|DIR")]
    pub output: Option<PathBuf>,
    /// What to write [default: optc,onnx]. Text goes to standard output if there is no -o. Kernels are for the
    /// extents of --bind, for --target-cpu and for --threads
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    pub emit: Vec<Emit>,
    /// What to do.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Data to measure on.
    #[command(flatten)]
    pub data: DataArgs,
    /// How to run.
    #[command(flatten)]
    pub exec: ExecArgs,
    /// Debugging.
    #[command(flatten)]
    pub debug: DebugArgs,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// Looking into the compiler.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Looking into the compiler")]
pub struct DebugArgs {
    /// Print the graph to standard error after every pass, or after this one
    #[arg(long, value_name = "PASS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub print_ir_after: Option<String>,
    /// Print to standard error what each pass changed, as a diff
    #[arg(long)]
    pub print_ir_after_change: bool,
    /// Write the graph to DIR/03-pass-name.ir after every pass that changed it
    #[arg(long, value_name = "DIR")]
    pub dump_ir: Option<PathBuf>,
    /// Print the time each pass took
    #[arg(long)]
    pub time_passes: bool,
    /// Run the first N passes only, to find the one that goes wrong
    #[arg(long, value_name = "N")]
    pub stop_after: Option<usize>,
    /// Run the model before and after each pass on random inputs, and hold the pass to its word
    #[arg(long)]
    pub check: bool,
    /// Don't verify the graph after each pass
    #[arg(long)]
    pub no_verify: bool,
}

/// Inspect.
#[derive(Debug, Args)]
#[command(
    long_about = "Show what is in a model: its signature, operators, parameters, multiply-accumulates, \
sparsity, element types, open dimensions, nodes optc carries without knowing them, and the entropy of its \
weights: the bits that even a perfect coder of single weights would need.",
    after_help = "Example:\n  optc inspect model.onnx\n  optc inspect model.optc --json | jq .ops"
)]
pub struct InspectArgs {
    /// The model: .onnx, .optc or .ir
    pub model: PathBuf,
    /// Fix an open dimension, such as N=1; may be given several times
    #[arg(long, value_name = "DIM=N", value_delimiter = ',')]
    pub bind: Vec<Binding>,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// Run.
#[derive(Debug, Args)]
#[command(
    long_about = "Run a model once. Inputs come from an .npz whose arrays are named as the model's inputs; \
results go into an .npz named as its outputs. Without --input the inputs are random, from --seed. Without \
--output a summary of the results is printed.",
    after_help = "Example:\n  optc run model.optc --input x.npz --output y.npz"
)]
pub struct RunArgs {
    /// The model: .onnx, .optc or .ir
    pub model: PathBuf,
    /// Inputs, an .npz by names (or .npy for a model with one input)
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Where to write the results, an .npz by names
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where random inputs start from
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How to run.
    #[command(flatten)]
    pub exec: ExecArgs,
    /// What is done before.
    #[command(flatten)]
    pub optimize: OptimizeArgs,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// Eval.
#[derive(Debug, Args)]
#[command(
    long_about = "Measure how often a classifier is right: its highest score (top-1), or one of its five \
highest (top-5), is the label. Images are given the shape the model takes: axes of extent 1 are added or \
dropped, channels moved to the other end if only that fits.",
    after_help = "Example:\n  optc eval mnist.optc --data t10k-images-idx3-ubyte.gz --labels t10k-labels-idx1-ubyte.gz\n  \
optc eval net.onnx --data photos.npy --labels classes.npy --scale 1/255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
)]
pub struct EvalArgs {
    /// The model: .onnx, .optc or .ir
    pub model: PathBuf,
    /// Data.
    #[command(flatten)]
    pub data: DataArgs,
    /// The output that holds the scores [default: the first]
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// How to run.
    #[command(flatten)]
    pub exec: ExecArgs,
    /// What is done before.
    #[command(flatten)]
    pub optimize: OptimizeArgs,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// Compare.
#[derive(Debug, Args)]
#[command(
    long_about = "Measure how far the results of two models are apart, output by output: the largest \
absolute difference; the largest difference relative to the largest element of the first model's result; \
the cosine of the angle between both; and the share of rows whose largest element is at the same place \
(top-1 agreement). Without --data the inputs are random, which says little about accuracy.",
    after_help = "Example:\n  optc compare model.onnx model.optc --data x.npz"
)]
pub struct CompareArgs {
    /// The reference: .onnx, .optc or .ir
    pub a: PathBuf,
    /// The model compared with it, with the same inputs and outputs
    pub b: PathBuf,
    /// Data.
    #[command(flatten)]
    pub data: DataArgs,
    /// Where random inputs start from
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How to run.
    #[command(flatten)]
    pub exec: ExecArgs,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// Bench.
#[derive(Debug, Args)]
#[command(
    long_about = "Measure how fast a model runs on this host: the least, median and 95th percentile of the \
time of a run, and the time to load and to compile it. With --profile, for each layer its time, its kernel, and \
how fast that is beside what this machine reaches in multiply-adds alone, which is measured first; then what \
could compute each layer of compressed weights, in cycles of the cost model, and why it was chosen.\n\n\
With --baseline, what compression gains, layer by layer: both models run in turns, and layers are paired by the \
names of their nodes. The baseline is another file with the same inputs, or the word dense: the same model, \
every layer computed as if its weights were dense. For each layer its time in both (the least of all runs, the median on several threads), their ratio, the \
kernel, the share of weights that are zero, the bits that the kernel reads for a weight (code not counted), and \
how near the layer comes to what bounds it: multiply-adds by weights that are not zero (fma), or reading its \
operands from memory (mem).",
    after_help = "Example:\n  optc bench model.optc --threads 1 --profile\n  optc bench model.onnx --bind N=8 --iters 50 --json\n  \
optc bench small.optc --baseline model.onnx\n  optc bench small.optc --baseline dense --tune"
)]
pub struct BenchArgs {
    /// The model: .onnx, .optc or .ir
    pub model: PathBuf,
    /// Runs to time [default: as many as take a second, 5 to 1000]
    #[arg(long, value_name = "N")]
    pub iters: Option<usize>,
    /// Runs before those, not counted
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub warmup: usize,
    /// Time each layer
    #[arg(long)]
    pub profile: bool,
    /// Compare each layer with that of another model, or of this one computed densely
    #[arg(long, value_name = "MODEL|dense")]
    pub baseline: Option<PathBuf>,
    /// Inputs, an .npz by names; random ones by default
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Where random inputs start from
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How to run.
    #[command(flatten)]
    pub exec: ExecArgs,
    /// What is done before.
    #[command(flatten)]
    pub optimize: OptimizeArgs,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// Check.
#[derive(Debug, Args)]
#[command(
    long_about = "Run the passes and encode the result in memory, report which passes fire where and how large \
the outputs would be, and write nothing.",
    after_help = "Example:\n  optc check model.onnx -O compress"
)]
pub struct CheckArgs {
    /// The model: .onnx, .optc or .ir
    pub model: PathBuf,
    /// What to do.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Data to measure on.
    #[command(flatten)]
    pub data: DataArgs,
    /// How to run.
    #[command(flatten)]
    pub exec: ExecArgs,
    /// Debugging.
    #[command(flatten)]
    pub debug: DebugArgs,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// Unpack.
#[derive(Debug, Args)]
#[command(
    long_about = "Turn a .optc file back into an ONNX model that computes with identical values. By default \
MODEL.optc becomes MODEL.unpacked.onnx, so that the model it was made of is not overwritten.",
    after_help = "Example:\n  optc unpack model.optc -o model.small.onnx"
)]
pub struct UnpackArgs {
    /// The .optc file
    pub model: PathBuf,
    /// Where to write [default: MODEL.unpacked.onnx]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// Passes.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optc passes\n  optc model.onnx -p 'simplify,cluster-weights{k=16},encode-weights'")]
pub struct PassesArgs {
    /// Print a Markdown table
    #[arg(long)]
    pub markdown: bool,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// Ops.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optc ops | grep pool")]
pub struct OpsArgs {
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_model_without_a_command_is_compiled() {
        let cli =
            Cli::try_parse_from(["optc", "m.onnx", "-O", "fuse", "--bind", "N=1,T=16", "--mean", "-1,2"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.compile.pipeline.goal, Some("fuse".to_owned()));
        assert_eq!(cli.compile.exec.bind.len(), 2);
        assert_eq!(cli.compile.data.mean, [Number(-1.0), Number(2.0)]);
        let cli = Cli::try_parse_from(["optc", "inspect", "m.onnx", "--json"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Inspect(args)) if args.talk.json));
        assert!(Cli::try_parse_from(["optc"]).is_err());
        assert!(Cli::try_parse_from(["optc", "m.onnx", "-O", "fuse", "-p", "simplify"]).is_err());
    }

    #[test]
    fn fractions_are_numbers() {
        assert_eq!("1/4".parse(), Ok(Number(0.25)));
        assert!("1/0".parse::<Number>().is_err());
        assert!("a".parse::<Number>().is_err());
    }

    #[test]
    fn bindings_name_a_dimension() {
        assert_eq!("past len=3".parse(), Ok(Binding { dim: "past len".to_owned(), extent: 3 }));
        assert!("N".parse::<Binding>().is_err());
        assert!("N=x".parse::<Binding>().is_err());
    }
}
