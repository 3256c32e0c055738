//! What the suites share: case files, random inputs, comparison, and what every pass case must survive.

pub mod architectures;
pub mod case;
pub mod compare;
pub mod diff;
pub mod generate;
pub mod inputs;
pub mod pass_case;
pub mod plan;
pub mod topologies;

use std::path::{Path, PathBuf};

/// The folder of this crate, where the case folders are.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder with this extension, sorted; none if the folder is missing.
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.is_file() && path.extension().is_some_and(|e| e == extension));
    files.sort();
    files
}

/// Compares a text with the `.snap` file next to its case; `INSTA_UPDATE=always` writes it instead.
pub fn snapshot(folder: &str, name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join(folder));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
