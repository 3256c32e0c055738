//! Where a compilation writes what.
//!
//! Invariant: no output is the model that was read.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use optc_codegen::{Plan, emit};
use optc_ir::text::{PrintOptions, print};
use optc_ir::{Graph, dot};

use super::args::Emit;
use super::session;
use crate::error::Error;
use crate::files;
use crate::onnx::{self, Exported};
use crate::pack::{self, PackReport};
use crate::report::OutputFile;

/// Suffixes that say what a file is.
const SUFFIXES: &str = ".onnx, .optc, .ir, .dot, .plan, .schedule, .clif, .asm, .json";

/// One output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// What.
    pub(super) emit: Emit,
    /// Where; `None` is standard output.
    pub(super) path: Option<PathBuf>,
}

impl Emit {
    fn of_suffix(path: &Path) -> Option<Emit> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "onnx" => Some(Emit::Onnx),
            "optc" => Some(Emit::Optc),
            "ir" => Some(Emit::Ir),
            "dot" | "gv" => Some(Emit::Dot),
            "plan" => Some(Emit::Plan),
            "schedule" => Some(Emit::Schedule),
            "clif" => Some(Emit::Clif),
            "asm" => Some(Emit::Asm),
            "json" => Some(Emit::Report),
            _ => None,
        }
    }

    /// The name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Emit::Optc => "optc",
            Emit::Onnx => "onnx",
            Emit::Ir => "ir",
            Emit::Dot => "dot",
            Emit::Plan => "plan",
            Emit::Schedule => "schedule",
            Emit::Clif => "clif",
            Emit::Asm => "asm",
            Emit::Report => "report",
        }
    }

    /// Whether a terminal can show it.
    fn is_text(self) -> bool {
        !matches!(self, Emit::Optc | Emit::Onnx)
    }

    /// The default file for a model named `stem`. What is a model says that it is another one.
    fn default_name(self, stem: &str) -> String {
        match self {
            Emit::Optc => format!("{stem}.optc"),
            Emit::Onnx => format!("{stem}.opt.onnx"),
            Emit::Ir => format!("{stem}.opt.ir"),
            Emit::Dot => format!("{stem}.opt.dot"),
            Emit::Plan | Emit::Schedule | Emit::Clif | Emit::Asm => format!("{stem}.{}", self.name()),
            Emit::Report => format!("{stem}.report.json"),
        }
    }
}

/// Decides where to write, before any work is done.
///
/// # Errors
/// [`Error::Usage`] if the arguments contradict each other, or an output would overwrite the model.
pub(super) fn resolve(model: &Path, output: Option<&Path>, emit: &[Emit], json: bool) -> Result<Vec<Target>, Error> {
    let mut emits = emit.to_vec();
    emits.sort_unstable();
    emits.dedup();
    let targets = match output {
        Some(path) if path == Path::new("-") => {
            let [emit] = emits[..] else {
                return Err(Error::Usage("-o - takes one kind of output: give it by --emit".to_owned()));
            };
            vec![Target { emit, path: None }]
        }
        Some(path) => match file_or_folder(path, &emits)? {
            Place::File(emit) => vec![Target { emit, path: Some(path.to_owned()) }],
            Place::Folder => in_folder(model, path, or_default(emits), false),
        },
        None => in_folder(model, files::folder_of(model), or_default(emits), true),
    };
    let to_stdout = targets.iter().filter(|target| target.path.is_none()).count();
    if to_stdout > 1 || (to_stdout == 1 && json) {
        let message = "several things can't go to standard output: give -o FILE or -o DIR";
        return Err(Error::Usage(message.to_owned()));
    }
    for path in targets.iter().filter_map(|target| target.path.as_deref()) {
        if files::same_file(path, model) {
            let path = path.display();
            return Err(Error::Usage(format!("{path}: refusing to overwrite the model that is read; give another -o")));
        }
    }
    Ok(targets)
}

fn or_default(emits: Vec<Emit>) -> Vec<Emit> {
    if emits.is_empty() { vec![Emit::Optc, Emit::Onnx] } else { emits }
}

enum Place {
    File(Emit),
    Folder,
}

fn file_or_folder(path: &Path, emits: &[Emit]) -> Result<Place, Error> {
    let ends_in_slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if ends_in_slash || path.is_dir() {
        return Ok(Place::Folder);
    }
    match (emits, Emit::of_suffix(path)) {
        ([], Some(emit)) => Ok(Place::File(emit)),
        ([emit], Some(suffix)) if *emit != suffix => {
            let (path, emit) = (path.display(), emit.name());
            Err(Error::Usage(format!("{path}: the suffix says {}, --emit says {emit}", suffix.name())))
        }
        ([emit], _) if path.extension().is_some() || path.exists() => Ok(Place::File(*emit)),
        (_, None) if path.extension().is_none() && !path.exists() => Ok(Place::Folder),
        ([], None) => {
            let path = path.display();
            Err(Error::Usage(format!("{path}: the suffix is none of {SUFFIXES}, and no folder")))
        }
        _ => {
            let path = path.display();
            Err(Error::Usage(format!("{path}: several outputs need a folder; end its name with a slash")))
        }
    }
}

fn in_folder(model: &Path, folder: &Path, emits: Vec<Emit>, text_to_stdout: bool) -> Vec<Target> {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    let target = |emit: Emit| {
        if text_to_stdout && emit.is_text() {
            return Target { emit, path: None };
        }
        let mut path = folder.join(emit.default_name(&stem));
        if files::same_file(&path, model) {
            path = folder.join(emit.default_name(&format!("{stem}.opt")));
        }
        Target { emit, path: Some(path) }
    };
    emits.into_iter().map(target).collect()
}

/// An output, ready to be written.
pub(super) enum Rendered {
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// An ONNX model, which is written piece by piece: its weights are dense and large.
    Onnx(Box<Exported>),
}

impl Rendered {
    /// Its size in bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Rendered::Bytes(bytes) => bytes.len() as u64,
            Rendered::Onnx(exported) => exported.size(),
        }
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Rendered::Bytes(bytes) => out.write_all(bytes),
            Rendered::Onnx(exported) => exported.write_to(out),
        }
    }
}

/// An output, and what the packer has to tell if it was the one to make it. Kernels are for `target`.
pub(super) fn render(
    emit: Emit,
    graph: &Graph,
    target: &optc_codegen::Target,
) -> Result<(Rendered, Option<PackReport>), Error> {
    let plan = || plan(emit, graph, target);
    let text = |text: String| (Rendered::Bytes(text.into_bytes()), None);
    Ok(match emit {
        Emit::Optc => {
            let (bytes, report) = pack::write(graph, &pack::PackOptions::default())?;
            (Rendered::Bytes(bytes), Some(report))
        }
        Emit::Onnx => (Rendered::Onnx(Box::new(onnx::prepare_export(graph)?)), None),
        Emit::Ir => text(print(graph, &PrintOptions::default())),
        Emit::Dot => text(dot::to_dot(graph)),
        Emit::Plan => text(plan()?.to_string()),
        Emit::Schedule => text(emit::schedules(&plan()?, target)),
        Emit::Clif => text(emit::clif(&plan()?, target)?),
        Emit::Asm => text(emit::asm(&plan()?, target)?),
        Emit::Report => unreachable!("the report is rendered by whoever has it"),
    })
}

/// The plan of a graph, which must have no open dimensions.
fn plan(emit: Emit, graph: &Graph, target: &optc_codegen::Target) -> Result<Plan, Error> {
    let open = crate::model::open_dims(graph);
    if open.is_empty() {
        return Ok(Plan::new(graph, target)?);
    }
    let (names, emit) = (open.join(", "), emit.name());
    let bindings: Vec<String> = open.iter().map(|name| format!("{name}=1")).collect();
    let bindings = bindings.join(",");
    let message = format!("--emit {emit}: kernels are for fixed extents; open are {names}: add --bind '{bindings}'");
    Err(Error::Usage(message))
}

/// Writes an output where it goes, making the folder if need be.
pub(super) fn write(target: &Target, rendered: &Rendered) -> Result<OutputFile, Error> {
    let format = target.emit.name();
    let size = rendered.size();
    let Some(path) = &target.path else {
        session::print_with(|out| rendered.write_to(out))?;
        return Ok(OutputFile { path: "-".to_owned(), format, bytes: size });
    };
    let folder = files::folder_of(path);
    fs::create_dir_all(folder).map_err(|source| Error::file(folder, source))?;
    files::write_with(path, |out| rendered.write_to(out))?;
    Ok(OutputFile { path: path.display().to_string(), format, bytes: size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(model: &str, output: Option<&str>, emit: &[Emit]) -> Result<Vec<(Emit, String)>, String> {
        let targets = resolve(Path::new(model), output.map(Path::new), emit, false).map_err(|e| e.to_string())?;
        let show = |t: &Target| t.path.as_ref().map_or("-".to_owned(), |p| p.display().to_string());
        Ok(targets.iter().map(|t| (t.emit, show(t))).collect())
    }

    #[test]
    fn outputs_stand_beside_the_model() {
        let expected = [(Emit::Optc, "a/m.optc".to_owned()), (Emit::Onnx, "a/m.opt.onnx".to_owned())];
        assert_eq!(resolved("a/m.onnx", None, &[]).unwrap(), expected);
        assert_eq!(resolved("m.onnx", None, &[Emit::Ir]).unwrap(), [(Emit::Ir, "-".to_owned())]);
        assert_eq!(resolved("m.optc", None, &[Emit::Optc]).unwrap(), [(Emit::Optc, "./m.opt.optc".to_owned())]);
    }

    #[test]
    fn a_suffix_says_what_a_slash_says_where() {
        assert_eq!(resolved("m.onnx", Some("b/x.ir"), &[]).unwrap(), [(Emit::Ir, "b/x.ir".to_owned())]);
        assert_eq!(resolved("m.onnx", Some("b/"), &[Emit::Dot]).unwrap(), [(Emit::Dot, "b/m.opt.dot".to_owned())]);
        assert_eq!(resolved("m.onnx", Some("absent"), &[]).unwrap().len(), 2);
        assert_eq!(resolved("m.onnx", Some("x.bin"), &[Emit::Onnx]).unwrap(), [(Emit::Onnx, "x.bin".to_owned())]);
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(resolved("m.onnx", Some("x.bin"), &[]).unwrap_err().contains("suffix"));
        assert!(resolved("m.onnx", Some("x.onnx"), &[Emit::Ir]).unwrap_err().contains("--emit says ir"));
        assert!(resolved("m.onnx", Some("x.onnx"), &[Emit::Ir, Emit::Onnx]).unwrap_err().contains("folder"));
        assert!(resolved("m.onnx", Some("-"), &[]).unwrap_err().contains("one kind"));
        assert!(resolved("m.onnx", None, &[Emit::Ir, Emit::Dot]).unwrap_err().contains("several"));
    }

    #[test]
    fn the_model_is_never_an_output() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("m.onnx");
        fs::write(&model, b"x").unwrap();
        let error = resolve(&model, Some(&dir.path().join("./m.onnx")), &[], false).unwrap_err();
        assert!(error.to_string().contains("refusing to overwrite"), "{error}");
    }
}
