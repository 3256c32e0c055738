//! The command `optc`.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use optc::cli::{self, args::Cli};

/// Bytes of a block that the system's allocator, once it has been freed, takes for a common size.
const COMMON: usize = 31 << 20;

fn main() -> ExitCode {
    keep_memory();
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

/// Lets large blocks that are freed be used again. The GNU C library gives them back to the system, and every
/// page of the next one costs a fault, until a block of that size has been freed once (`mallopt(3)`,
/// `M_MMAP_THRESHOLD`); then it keeps them. Nothing is touched here. Other allocators do as they do.
fn keep_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(COMMON)));
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
