//! How `compare_runtimes.py` talks to a runtime: a process that loads a model, runs it once, and then runs it
//! for as long as each line on standard input asks.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use optc::data::{Arrays, read_arrays, write_npy};
use optc::ir::Tensor;
use serde_json::{Value, json};

/// What is asked for.
pub struct Args {
    /// The model.
    pub model: PathBuf,
    /// Inputs by name.
    pub inputs: Vec<(String, Tensor)>,
    /// Threads to use.
    pub threads: usize,
}

/// A loaded model.
pub trait Runtime {
    /// One run.
    fn run(&mut self) -> Result<()>;
    /// The first output of the last run.
    fn output(&self) -> Result<Tensor>;
}

/// Serves a runtime: `MODEL INPUTS.npz THREADS OUTPUT.npy`.
pub fn serve<R: Runtime>(load: impl FnOnce(Args) -> Result<R>) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, inputs, threads, output] = args.as_slice() else { bail!("MODEL INPUTS.npz THREADS OUTPUT.npy") };
    let Arrays::Named(inputs) = read_arrays(inputs.as_ref())? else { bail!("{inputs} is no .npz") };
    let start = Instant::now();
    let mut runtime = load(Args { model: model.into(), inputs, threads: threads.parse()? })?;
    let load_ms = ms(start);
    let start = Instant::now();
    runtime.run()?;
    let first_ms = ms(start);
    std::fs::write(output, write_npy(&runtime.output()?))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({ "load_ms": load_ms, "first_ms": first_ms, "peak_bytes": peak_bytes()? }))?;
    for line in std::io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let seconds = asked["seconds"].as_f64().context("a line says how many seconds")?;
        let (begin, mut times) = (Instant::now(), Vec::new());
        while times.len() < 2 || begin.elapsed().as_secs_f64() < seconds {
            let start = Instant::now();
            runtime.run()?;
            times.push(ms(start));
        }
        writeln!(out, "{}", json!({ "ms": times, "peak_bytes": peak_bytes()? }))?;
    }
    Ok(())
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// The most memory this process ever held.
fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the system does not tell")?;
    Ok(1024 * line.trim().trim_end_matches("kB").trim().parse::<u64>()?)
}
