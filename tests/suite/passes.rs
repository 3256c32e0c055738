//! The cases of every pass, one test a file: `tests/passes/<pass>/<case>.ir`.

use std::path::Path;

use optc_tests::case::Case;
use optc_tests::{pass_case, snapshot};

include!(concat!(env!("OUT_DIR"), "/passes.rs"));

fn check(folder: &str, name: &str) {
    let case = Case::load(folder, name);
    let pass = Path::new(folder).file_name().and_then(|name| name.to_str()).expect("the folder has a name");
    let text = pass_case::check(&case, pass).unwrap_or_else(|e| panic!("{folder}/{name}.ir: {e}"));
    snapshot(folder, name, &text);
}
