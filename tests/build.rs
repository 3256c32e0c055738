//! Makes one test of every case file, so that a new file is a new test and can be run by its name.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Folders of cases, what their files end in, the file that lists their tests, and the function that checks them.
const FOLDERS: &[(&str, &str, &str, &str)] = &[
    ("text", ".ir", "text", "super::check_round_trip"),
    ("text/errors", ".ir", "text_errors", "super::check_error"),
    ("verify", ".ir", "verify", "check"),
    ("onnx", ".onnx", "onnx", "super::check_import"),
    ("onnx/errors", ".onnx", "onnx_errors", "super::check_error"),
    ("models", ".onnx", "models", "super::check_model"),
    ("plans", ".ir", "plans", "check"),
    ("grad", ".ir", "grad", "check"),
    ("steps", ".ir", "steps", "check"),
];

fn main() {
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    for (folder, extension, module, check) in FOLDERS {
        println!("cargo::rerun-if-changed={folder}");
        let tests: String = cases(Path::new(folder), extension).iter().map(|case| test(check, folder, case)).collect();
        fs::write(format!("{out}/{module}.rs"), tests).expect("OUT_DIR can be written");
    }
    println!("cargo::rerun-if-changed=passes");
    let mut modules = String::new();
    for pass in entries(Path::new("passes")).iter().filter(|pass| Path::new("passes").join(pass).is_dir()) {
        let folder = format!("passes/{pass}");
        let tests: String =
            cases(Path::new(&folder), ".ir").iter().map(|case| test("super::check", &folder, case)).collect();
        let name = identifier(pass);
        writeln!(modules, "mod {name} {{\n{tests}}}").expect("a String takes any text");
    }
    fs::write(format!("{out}/passes.rs"), modules).expect("OUT_DIR can be written");
}

fn test(check: &str, folder: &str, case: &str) -> String {
    format!("    #[test]\n    fn {}() {{\n        {check}({folder:?}, {case:?});\n    }}\n", identifier(case))
}

/// What the compiler appends to the name of a model it writes beside the one it read.
const WRITTEN: &str = ".opt";

/// Stems of the files of a folder that end in this, sorted. A model that somebody compiled where it lies is no
/// case more.
fn cases(folder: &Path, extension: &str) -> Vec<String> {
    let stems = entries(folder).into_iter().filter_map(|name| Some(name.strip_suffix(extension)?.to_owned()));
    stems.filter(|stem| !stem.ends_with(WRITTEN)).collect()
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn identifier(name: &str) -> String {
    let name = name.replace('-', "_");
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()), "{name} can't name a test");
    name
}
