//! Observers for the command line: graphs printed and dumped, passes timed and checked.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use optc_passes::PassManager;

use optc_passes::observe::{Check, Differential, DumpIr, StopAfter, When};
use similar::TextDiff;

use super::args::DebugArgs;
use super::session::to_stderr;
use crate::error::Error;
use crate::files;
use crate::report::CheckRow;

/// What observers collect while passes run.
#[derive(Default)]
pub(super) struct Watch {
    checks: RefCell<Vec<CheckRow>>,
    failed: RefCell<Option<Error>>,
}

impl Watch {
    /// Adds the observers asked for.
    ///
    /// # Errors
    /// If the folder to dump into can't be made.
    pub(super) fn attach<'a>(
        &'a self,
        manager: &mut PassManager<'a>,
        args: &'a DebugArgs,
        seed: u64,
    ) -> Result<(), Error> {
        manager.verify = !args.no_verify;
        if let Some(limit) = args.stop_after {
            manager.observe(StopAfter::new(limit, |index, pass, ran| {
                to_stderr(format_args!("{index:3} {pass}{}", if ran { "" } else { " (left out)" }));
            }));
        }
        if let Some(pass) = &args.print_ir_after {
            let when = if pass.is_empty() { When::Always } else { When::Pass(pass.clone()) };
            manager.observe(DumpIr::new(when, |index, pass, text| {
                to_stderr(format_args!("// {}\n{text}", title(index, pass)));
            }));
        }
        if args.print_ir_after_change {
            let mut last = String::new();
            manager.observe(DumpIr::new(When::Changed, move |index, pass, text| {
                if index > 0 {
                    let diff = TextDiff::from_lines(last.as_str(), text);
                    to_stderr(format_args!("// {}\n{}", title(index, pass), diff.unified_diff().context_radius(2)));
                }
                text.clone_into(&mut last);
            }));
        }
        if let Some(folder) = &args.dump_ir {
            fs::create_dir_all(folder).map_err(|source| Error::file(folder, source))?;
            manager.observe(DumpIr::new(When::Changed, |index, pass, text| {
                if let Err(error) = dump(folder, index, pass, text) {
                    self.failed.borrow_mut().get_or_insert(error);
                }
            }));
        }
        if args.check {
            manager.observe(Differential::new(seed, |_, pass, check| {
                let (max_rel, skipped) = match check {
                    Check::Measured(error) => (Some(*error), None),
                    Check::Skipped(reason) => (None, Some(reason.clone())),
                };
                self.checks.borrow_mut().push(CheckRow { pass: pass.to_owned(), max_rel, skipped });
            }));
        }
        Ok(())
    }

    /// What the checks found.
    ///
    /// # Errors
    /// The first dump that could not be written.
    pub(super) fn finish(self) -> Result<Vec<CheckRow>, Error> {
        match self.failed.into_inner() {
            Some(error) => Err(error),
            None => Ok(self.checks.into_inner()),
        }
    }
}

fn title(index: usize, pass: &str) -> String {
    if index == 0 { "before the first pass".to_owned() } else { format!("after pass {index}, {pass}") }
}

fn dump(folder: &Path, index: usize, pass: &str, text: &str) -> Result<(), Error> {
    let name = if pass.is_empty() { "input" } else { pass };
    files::write(&folder.join(format!("{index:02}-{name}.ir")), text.as_bytes())
}
