//! The command line: one file a command.
//!
//! `args` is what is written, `session` what it means; each command computes a report, which is printed
//! as tables or as JSON.

pub mod args;
mod baseline;
mod bench;
mod choices;
mod compare;
mod compile;
mod eval;
mod explain;
mod inspect;
mod list;
mod measure;
pub mod new;
mod outputs;
mod run;
mod sensitivity;
mod session;
pub mod train;
mod tuning;
mod unpack;
mod watch;

use args::{Cli, Command};

use crate::error::Error;

/// Does what the command line asks for.
///
/// # Errors
/// [`Error`]; its [`Error::exit_code`] is that of the process.
pub fn execute(cli: &Cli) -> Result<(), Error> {
    match &cli.command {
        None => compile::compile(&cli.compile),
        Some(Command::Inspect(args)) => inspect::inspect(args),
        Some(Command::Run(args)) => run::run(args),
        Some(Command::Eval(args)) => eval::eval(args),
        Some(Command::Compare(args)) => compare::compare(args),
        Some(Command::Explain(args)) => explain::explain(args),
        Some(Command::Sensitivity(args)) => sensitivity::sensitivity(args),
        Some(Command::Bench(args)) => bench::bench(args),
        Some(Command::Check(args)) => compile::check(args),
        Some(Command::Train(args)) => train::train(args),
        Some(Command::Unpack(args)) => unpack::unpack(args),
        Some(Command::New(args)) => new::new(args),
        Some(Command::Passes(args)) => list::passes(args),
        Some(Command::Ops(args)) => list::ops(args),
    }
}
