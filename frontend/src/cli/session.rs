//! What the commands share: arguments turned into things, and a way to talk.
//!
//! Standard output carries data: reports, JSON, text that was asked for. Standard error carries talk.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use optc_codegen::{Target, Vectors};
use optc_ir::{Backend, Graph, Tensor};
use optc_passes::options::Written;
use optc_passes::pipeline::{self, Pipeline};
use optc_passes::registry::PASSES;
use optc_passes::selector::{Selection, Selector};

use super::args::{Binding, DataArgs, ExecArgs, Number, OptimizeArgs, PipelineArgs, TalkArgs};
use crate::compiled::{Algorithms, BackendKind, CompileOptions};
use crate::data::{self, Samples, Scaling};
use crate::error::Error;
use crate::model::Model;
use crate::report::table::Style;

/// How much is said, and in which form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Talk {
    /// Whether standard output carries one JSON object.
    pub(super) json: bool,
    /// How tables look.
    pub(super) style: Style,
    level: i16,
}

impl Talk {
    pub(super) fn new(args: &TalkArgs) -> Talk {
        let level = if args.quiet { -1 } else { i16::from(args.verbose) };
        Talk { json: args.json, style: Style::detect(), level }
    }

    /// Whether everything is to be listed.
    pub(super) fn verbose(&self) -> bool {
        self.level > 0
    }

    /// Says something on standard error, unless told to be quiet.
    pub(super) fn say(&self, text: impl std::fmt::Display) {
        if self.level >= 0 {
            to_stderr(text);
        }
    }

    /// Says something on standard error if asked to say more.
    pub(super) fn detail(&self, text: impl std::fmt::Display) {
        if self.level > 0 {
            to_stderr(text);
        }
    }

    /// A progress display on standard error, if that is a terminal.
    pub(super) fn progress(&self, total: Option<u64>) -> ProgressBar {
        if self.level < 0 || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), "{spinner} {wide_bar} {pos}/{len} {msg} {elapsed}"),
            None => (ProgressBar::new_spinner(), "{spinner} {wide_msg} {elapsed}"),
        };
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }
}

/// Writes to standard error; nobody listening is no reason to stop.
pub(super) fn to_stderr(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes data to standard output. A reader that has seen enough, such as `head`, is no error.
pub(super) fn print(bytes: &[u8]) -> Result<(), Error> {
    print_with(|out| out.write_all(bytes))
}

/// As [`print`], with data that comes piece by piece.
pub(super) fn print_with(data: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match data(&mut out).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(|source| Error::file(Path::new("standard output"), source)),
    }
}

/// Loads a model and fixes its open dimensions as asked. Also tells how long loading took.
pub(super) fn open(path: &Path, bind: &[Binding], talk: &Talk) -> Result<(Model, Duration), Error> {
    let start = Instant::now();
    let mut model = Model::load(path)?;
    let time = start.elapsed();
    for remark in &model.remarks {
        talk.detail(format_args!("{}: {remark}", path.display()));
    }
    let bindings: Vec<(String, usize)> = bind.iter().map(|b| (b.dim.clone(), b.extent)).collect();
    model.bind(&bindings)?;
    Ok((model, time))
}

/// Threads to use.
pub(super) fn threads(args: &ExecArgs) -> Result<usize, Error> {
    match args.threads {
        Some(0) => Err(Error::Usage("--threads 0: at least one thread is needed".to_owned())),
        Some(n) => Ok(n),
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
    }
}

/// What machine code is generated for.
pub(super) fn target(args: &ExecArgs, threads: usize) -> Target {
    Target { vectors: args.target_cpu, threads }
}

/// How a model is made ready to run whose dimensions are bound. The interpreter runs it as it is: it is what
/// others are compared with.
///
/// # Errors
/// [`Error::Usage`] if this host can't run code for the target that was asked for.
pub(super) fn options(args: &ExecArgs, optimize: &OptimizeArgs) -> Result<CompileOptions, Error> {
    if args.backend == BackendKind::Jit && !args.target_cpu.run_here() {
        let (wanted, host) = (args.target_cpu, Vectors::of_host());
        let message = format!("--target-cpu {wanted}: this host can't run such code; native is {host} here");
        return Err(Error::Usage(message));
    }
    Ok(CompileOptions {
        backend: args.backend,
        threads: threads(args)?,
        target: args.target_cpu,
        optimize: args.backend == BackendKind::Jit && !optimize.no_optimize,
        algorithms: if optimize.tune { Algorithms::Tuned } else { Algorithms::Modelled },
        ..CompileOptions::default()
    })
}

/// What runs models as they are.
///
/// # Errors
/// As [`options`].
pub(super) fn backend(args: &ExecArgs, threads: usize) -> Result<Box<dyn Backend>, Error> {
    let options = options(args, &OptimizeArgs { no_optimize: true, tune: false })?;
    Ok(CompileOptions { threads, ..options }.backend())
}

/// The passes asked for: by hand, by goal, or the goal of the tool.
pub(super) fn pipeline(args: &PipelineArgs, talk: &Talk) -> Result<Pipeline, Error> {
    let parsed = match (&args.pipeline, &args.goal) {
        (Some(text), _) => pipeline::parse(text)?,
        (None, goal) => {
            let name = goal.as_deref().unwrap_or("compress");
            pipeline::preset(name).ok_or_else(|| Error::Usage(format!("-O {name}: there is no such goal")))?
        }
    };
    let selector = |text: &Option<String>, flag: &str| {
        let parsed = text.as_deref().map(Selector::parse).transpose();
        parsed.map_err(|message| Error::Usage(format!("{flag} {message}")))
    };
    let selection = Selection { only: selector(&args.only, "--only")?, protect: selector(&args.protect, "--protect")? };
    if selection == Selection::default() { Ok(parsed) } else { select(&parsed, &selection, talk) }
}

/// The same passes, with a selection in each that takes one and has none of its own.
fn select(pipeline: &Pipeline, selection: &Selection, talk: &Talk) -> Result<Pipeline, Error> {
    let mut texts = Vec::new();
    let mut taken = false;
    for pass in &pipeline.passes {
        let takes = |key: &str| {
            let info = PASSES.iter().find(|info| info.name == pass.name());
            info.is_some_and(|info| info.options.iter().any(|option| option.key == key))
                && !pass.options().contains(&format!("{key}="))
        };
        let own = Selection {
            only: selection.only.clone().filter(|_| takes("only")),
            protect: selection.protect.clone().filter(|_| takes("protect")),
        };
        taken |= own != Selection::default();
        let added = Written::default().selection(&own).finish();
        let options: Vec<String> = [pass.options(), added].into_iter().filter(|text| !text.is_empty()).collect();
        texts.push(format!("{}{{{}}}", pass.name(), options.join(", ")));
    }
    if !taken {
        talk.say("note: no pass of this pipeline looks at --only and --protect");
    }
    Ok(pipeline::parse(&texts.join(","))?)
}

/// The data to measure on, cut into samples for this model, if there is any.
pub(super) fn samples(args: &DataArgs, graph: &Graph, talk: &Talk) -> Result<Option<Samples>, Error> {
    let Some(path) = &args.data else { return Ok(None) };
    let scaling = scaling(args, graph, talk)?;
    let in_file = |error: data::ArrayError| Error::Data(format!("{}: {error}", path.display()));
    // Of a data set with two parts, models are measured on the one to test on.
    let (first, test) = data::locate(path)?;
    let (arrays, own_labels) = test.unwrap_or(first).arrays(graph, args.limit)?;
    let mut samples = Samples::new(arrays, graph, scaling).map_err(in_file)?;
    if let Some(labels) = own_labels {
        samples = samples.with_labels(labels).map_err(in_file)?;
    }
    if let Some(path) = &args.labels {
        let labels = data::read_labels(path)?;
        samples = samples.with_labels(labels).map_err(|e| Error::Data(format!("{}: {e}", path.display())))?;
    }
    for note in samples.notes() {
        talk.say(format_args!("note: {note}"));
    }
    Ok(Some(match args.limit {
        Some(limit) => samples.limit(limit),
        None => samples,
    }))
}

/// How the data are scaled: as the command line says, or else as the model does.
fn scaling(args: &DataArgs, graph: &Graph, talk: &Talk) -> Result<Scaling, Error> {
    let default = Scaling::default();
    if args.scale.is_none() && args.mean.is_empty() && args.std.is_empty() {
        let Some(recorded) = Scaling::recorded(graph)? else { return Ok(default) };
        if recorded != default {
            talk.say(format_args!(
                "note: data are scaled as when the model was trained: {recorded} (--scale 1 leaves them as they are)"
            ));
        }
        return Ok(recorded);
    }
    let numbers = |given: &[Number], default: Vec<f64>| {
        if given.is_empty() { default } else { given.iter().map(|x| x.0).collect() }
    };
    Ok(Scaling {
        scale: args.scale.map_or(default.scale, |x| x.0),
        mean: numbers(&args.mean, default.mean),
        std: numbers(&args.std, default.std),
    })
}

/// Random inputs, which are said to be random.
pub(super) fn random_inputs(graph: &Graph, seed: u64, talk: &Talk) -> Result<Vec<Tensor>, Error> {
    let (inputs, assumed) = data::random_inputs(graph, seed)?;
    talk.say(format_args!("note: no data given, using random inputs (seed {seed})"));
    if !assumed.is_empty() {
        let list: Vec<String> = assumed.iter().map(|a| format!("{}={}", a.dim, a.extent)).collect();
        talk.say(format_args!("note: open dimensions are taken as {}; --bind sets them", list.join(", ")));
    }
    Ok(inputs)
}

/// The most memory this process ever held, where the system tells.
pub(super) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kib)
}

/// Milliseconds.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
