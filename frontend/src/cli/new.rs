//! `optc new`: a network to train, with random weights.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::args::TalkArgs;
use super::session::{self, Talk};
use crate::architectures::{self, ARCHITECTURES, Init, NewOptions, Shortcut};
use crate::error::Error;
use crate::files::{self, Format};
use crate::model;
use crate::report::table::{Align, Table};
use crate::report::{bytes, to_json};

/// New.
#[derive(Debug, Args)]
#[command(
    long_about = "Write a network with random weights, ready to be trained: one of the architectures that papers \
on compression measure themselves on. The batch is left open, and the result is one score a class.",
    after_help = "Examples:\n  optc new --list\n  optc new lenet-5 -o lenet-5.onnx\n  \
optc new resnet-20 --seed 1 -o resnet.onnx\n  optc new mlp --widths 784,1024,1024,10 --batch-norm -o mlp.onnx"
)]
pub struct NewArgs {
    /// The architecture
    #[arg(value_name = "ARCH", required_unless_present = "list")]
    pub architecture: Option<String>,
    /// List the architectures
    #[arg(long)]
    pub list: bool,
    /// Where to write: .onnx, .optc or .ir [default: ARCH.onnx]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Number of classes [default: those of the paper's data set]
    #[arg(long, value_name = "N")]
    pub classes: Option<usize>,
    /// Widths of an mlp, input first, classes last
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub widths: Vec<usize>,
    /// Normalise each hidden layer of an mlp over the batch
    #[arg(long)]
    pub batch_norm: bool,
    /// Shortcuts of a resnet where the channels double: a pads with zeros, b is a 1×1 convolution
    #[arg(long, value_name = "OPTION", default_value = "a")]
    pub shortcut: ShortcutArg,
    /// Height and width of the pictures mobilenet-v1 takes
    #[arg(long, value_name = "N")]
    pub resolution: Option<usize>,
    /// The distribution of the weights
    #[arg(long, default_value = "he")]
    pub init: Init,
    /// Where the weights start from; the same seed gives the same file
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Talk.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// The two shortcuts of He et al. 2016.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShortcutArg {
    /// Zeros
    A,
    /// A projection
    B,
}

#[derive(Serialize)]
struct Report {
    architecture: String,
    parameters: usize,
    output: String,
    output_bytes: u64,
}

pub(super) fn new(args: &NewArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let Some(name) = args.architecture.as_deref().filter(|_| !args.list) else { return list(&talk) };
    let options = NewOptions {
        classes: args.classes,
        widths: args.widths.clone(),
        batch_norm: args.batch_norm,
        shortcut: match args.shortcut {
            ShortcutArg::A => Shortcut::A,
            ShortcutArg::B => Shortcut::B,
        },
        resolution: args.resolution,
        init: args.init,
        seed: args.seed,
    };
    let graph = architectures::build(name, &options)?;
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.onnx")));
    let format = Format::of_path(&output)
        .ok_or_else(|| Error::Usage(format!("{}: the suffix is none of .onnx, .optc, .ir", output.display())))?;
    let contents = model::to_bytes(&graph, format)?;
    files::write(&output, &contents)?;
    let mut cx = optc_passes::PassCx::new(&optc_ir::Interp);
    let report = Report {
        architecture: name.to_owned(),
        parameters: cx.analysis::<optc_passes::analysis::Cost>(&graph).total.params,
        output: output.display().to_string(),
        output_bytes: contents.len() as u64,
    };
    let text = match talk.json {
        true => to_json(&report),
        false => format!("wrote {}  {}\n", report.output, bytes(report.output_bytes)),
    };
    session::print(text.as_bytes())
}

fn list(talk: &Talk) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        input: &'static str,
        summary: &'static str,
    }
    let rows = ARCHITECTURES.iter().map(|a| Row { name: a.name, input: a.input, summary: a.summary });
    if talk.json {
        return session::print(to_json(&rows.collect::<Vec<_>>()).as_bytes());
    }
    let mut table =
        Table::new(talk.style, &[("name", Align::Left), ("input", Align::Left), ("what it is", Align::Left)]);
    rows.for_each(|row| table.row([row.name, row.input, row.summary]));
    session::print(table.render().as_bytes())
}
