//! The repository against its own rules: the table of passes, the folders of cases and the README say the
//! same; crates depend in one direction; what belongs to one place is mentioned nowhere else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use optc_passes::PASSES;
use optc_tests::{files, root};

/// Lines a source file may have, its tests included.
const MAX_LINES: usize = 800;

fn workspace() -> &'static Path {
    root().parent().expect("the crate is in the workspace")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every folder below one, itself included, in order of name.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut inner: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    inner.sort();
    found.extend(inner.iter().flat_map(|folder| folders(folder)));
    found
}

/// Source files of the crates named.
fn sources(crates: &[&str]) -> Vec<PathBuf> {
    let folders = crates.iter().flat_map(|name| folders(&workspace().join(name)));
    folders.flat_map(|folder| files(&folder, "rs")).collect()
}

const CRATES: &[&str] = &["ir", "passes", "codegen", "frontend", "tests"];

#[test]
fn every_pass_has_cases_and_every_folder_a_pass() {
    let mut wrong = Vec::new();
    for info in PASSES {
        let cases = files(&root().join("passes").join(info.name), "ir");
        let negative = |path: &&PathBuf| path.file_stem().is_some_and(|s| s.to_string_lossy().ends_with("_negative"));
        let negatives = cases.iter().filter(negative).count();
        if negatives == 0 || negatives == cases.len() {
            let positives = cases.len() - negatives;
            wrong.push(format!("{}: {positives} positive and {negatives} negative cases", info.name));
        }
    }
    for folder in folders(&root().join("passes")).into_iter().skip(1) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !PASSES.iter().any(|info| info.name == name) {
            wrong.push(format!("tests/passes/{name}: there is no such pass"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_snapshot_has_a_case() {
    let mut stale = Vec::new();
    for folder in
        ["passes", "plans", "steps", "text", "verify", "onnx"].iter().flat_map(|folder| folders(&root().join(folder)))
    {
        let has_case = |snap: &PathBuf| ["ir", "onnx"].iter().any(|of| snap.with_extension(of).exists());
        stale.extend(files(&folder, "snap").into_iter().filter(|snap| !has_case(snap)));
        stale.extend(files(&folder, "new"));
    }
    assert!(stale.is_empty(), "snapshots without a case: {stale:?}");
}

#[test]
fn readme_lists_the_passes() {
    let readme = read(&workspace().join("README.md"));
    let missing: Vec<&str> =
        PASSES.iter().map(|info| info.name).filter(|name| !readme.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "README.md does not mention {missing:?}");
}

#[test]
fn crates_depend_in_one_direction() {
    let allowed: [(&str, &[&str]); 4] = [
        ("ir", &[]),
        ("passes", &["optc-ir"]),
        ("codegen", &["optc-ir"]),
        ("frontend", &["optc-ir", "optc-passes", "optc-codegen"]),
    ];
    for (name, allowed) in allowed {
        let manifest = read(&workspace().join(name).join("Cargo.toml"));
        let dependencies = manifest.split("\n[").filter(|section| section.contains("dependencies]\n"));
        let ours = dependencies.flat_map(str::lines).filter_map(|line| {
            let name = line.split(['.', '=', ' ']).next()?;
            (name == "optc" || name.starts_with("optc-")).then_some(name)
        });
        let ours: BTreeSet<&str> = ours.collect();
        assert_eq!(ours, allowed.iter().copied().collect(), "{name}/Cargo.toml");
    }
}

#[test]
fn foreign_names_stay_where_they_belong() {
    /// Whether a word may stand in the file of this path.
    type AtHome = fn(&str) -> bool;
    let rules: [(&str, AtHome); 3] = [
        ("protobuf", |path| path.starts_with("frontend/src/onnx") || path.starts_with("tests/")),
        ("cranelift", |path| path.starts_with("codegen/") || path.starts_with("tests/")),
        ("petgraph", |path| path == "ir/src/graph.rs" || path.starts_with("tests/")),
    ];
    let mut wrong = Vec::new();
    for path in sources(CRATES) {
        let relative = path.strip_prefix(workspace()).expect("sources are below the workspace").to_string_lossy();
        let text = read(&path).to_ascii_lowercase();
        for (word, at_home) in rules {
            if text.contains(word) && !at_home(&relative) {
                wrong.push(format!("{relative} mentions {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let long: Vec<String> = sources(CRATES)
        .into_iter()
        .map(|path| (read(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, path)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "longer than {MAX_LINES} lines:\n{}", long.join("\n"));
}
