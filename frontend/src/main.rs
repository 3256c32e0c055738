//! The command `optc`.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use optc::cli::{self, args::Cli};

fn main() -> ExitCode {
    // Usage errors leave with code 2, help and version with 0.
    let cli = Cli::parse();
    match cli::execute(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "optc: {}", chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// An error and its causes, as far as they say something new.
fn chain(error: &optc::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let message = inner.to_string();
        if !text.contains(&message) {
            write!(text, ": {message}").expect("writing to a string does not fail");
        }
        cause = inner.source();
    }
    text
}
