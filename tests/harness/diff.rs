//! Differences of texts, by line.

use similar::{ChangeTag, TextDiff};

/// Unchanged lines shown around changed ones.
const CONTEXT: usize = 3;

/// The changed lines marked `-` and `+`, with a few unchanged ones around them; `...` stands for the rest.
/// Empty if nothing changed.
pub fn diff(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let mut out = String::new();
    let lines = before.lines().count();
    let mut shown = 0;
    for group in diff.grouped_ops(CONTEXT) {
        if group.first().is_some_and(|op| op.old_range().start > shown) {
            out.push_str(" ...\n");
        }
        for op in &group {
            shown = op.old_range().end;
            for change in diff.iter_changes(op) {
                out.push(match change.tag() {
                    ChangeTag::Delete => '-',
                    ChangeTag::Insert => '+',
                    ChangeTag::Equal => ' ',
                });
                out.push_str(change.value().trim_end_matches('\n'));
                out.push('\n');
            }
        }
    }
    if !out.is_empty() && shown < lines {
        out.push_str(" ...\n");
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn shows_changes_in_their_surroundings() {
        let before: String = (0..12).map(|i| format!("{i}\n")).collect();
        assert_eq!(super::diff(&before, &before), "");
        let after = before.replace("5\n", "five\n");
        assert_eq!(super::diff(&before, &after), " ...\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n ...\n");
    }
}
