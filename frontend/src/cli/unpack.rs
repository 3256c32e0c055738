//! `optc unpack`: a `.optc` file back to ONNX.

use std::path::Path;

use serde::Serialize;

use super::args::UnpackArgs;
use super::session::{self, Talk};
use crate::error::Error;
use crate::files::{self, Format};
use crate::model;
use crate::report::{bytes, to_json};

#[derive(Serialize)]
struct Report {
    input: String,
    input_bytes: u64,
    output: String,
    output_bytes: u64,
}

pub(super) fn unpack(args: &UnpackArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let path = &args.model;
    let output = args.output.clone().unwrap_or_else(|| path.with_extension("unpacked.onnx"));
    if files::same_file(path, &output) {
        return Err(Error::Usage(format!("{}: refusing to overwrite the model that is read", output.display())));
    }
    let (model, _) = session::open(path, &[], &talk)?;
    if model.format != Format::Optc {
        return Err(Error::Usage(format!("{}: not a .optc file", path.display())));
    }
    let format = format_of(&output)?;
    let unpacked = model::to_bytes(&model.graph, format)?;
    files::write(&output, &unpacked)?;
    let report = Report {
        input: path.display().to_string(),
        input_bytes: model.bytes,
        output: output.display().to_string(),
        output_bytes: unpacked.len() as u64,
    };
    let text = match talk.json {
        true => to_json(&report),
        false => format!("wrote {}  {}\n", report.output, bytes(report.output_bytes)),
    };
    session::print(text.as_bytes())
}

fn format_of(output: &Path) -> Result<Format, Error> {
    match Format::of_path(output) {
        Some(format @ (Format::Onnx | Format::Ir)) => Ok(format),
        _ => Err(Error::Usage(format!("{}: the suffix is neither .onnx nor .ir", output.display()))),
    }
}
