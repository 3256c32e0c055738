//! Reports as JSON: one object, fields in the order of declaration, so that equal reports are equal text.

use serde::Serialize;

/// The JSON of a report, indented, with a newline at the end. Numbers that are not finite become `null`.
pub fn to_json(report: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("reports hold no maps with keys other than text");
    text.push('\n');
    text
}
