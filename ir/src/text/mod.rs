//! The textual form.

use std::fmt;

/// A name as the text writes it: bare where it can be, quoted otherwise.
pub struct Name<'a>(pub &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
        if !self.0.is_empty() && self.0.chars().all(bare) && !self.0.contains("//") {
            return f.write_str(self.0);
        }
        write!(f, "{:?}", self.0)
    }
}
