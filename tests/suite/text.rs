//! The text form. Files that are read and printed must come out as they are, `tests/text/<case>.ir`; files
//! with mistakes must be refused at the right place, `tests/text/errors/<case>.ir`.

use optc_ir::text;
use optc_tests::case::{Case, round_trip};
use optc_tests::{diff, snapshot};

mod good {
    include!(concat!(env!("OUT_DIR"), "/text.rs"));
}

mod errors {
    include!(concat!(env!("OUT_DIR"), "/text_errors.rs"));
}

fn check_round_trip(folder: &str, name: &str) {
    let case = Case::load(folder, name);
    let fail = |e: String| -> ! { panic!("{folder}/{name}.ir: {e}") };
    let graph = text::parse(&case.text).unwrap_or_else(|e| fail(e.to_string()));
    round_trip(&graph).unwrap_or_else(|e| fail(e));
    let lines: Vec<&str> = case.text.lines().skip_while(|line| line.starts_with("//")).collect();
    let printed = graph.to_string();
    let written = lines.join("\n") + "\n";
    assert_eq!(printed, written, "{folder}/{name}.ir:\n{}", diff::diff(&written, &printed));
}

/// The snapshot shows the message under the place it speaks of.
fn check_error(folder: &str, name: &str) {
    let case = Case::load(folder, name);
    let error = match text::parse(&case.text) {
        Ok(_) => panic!("{folder}/{name}.ir is read without error"),
        Err(error) => error,
    };
    let line = case.text.lines().nth(error.line - 1).unwrap_or_default();
    let marker = format!("{}^", " ".repeat(error.column - 1));
    snapshot(folder, name, &format!("{line}\n{marker} {error}"));
}
