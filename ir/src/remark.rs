//! What a pass did to a node, or declined to do, and why.

use std::fmt;

/// Whether a rewrite happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemarkKind {
    /// The pass changed the graph here.
    Applied,
    /// The pass looked here and declined; the text says why.
    Missed,
    /// Worth knowing, nothing was changed or declined.
    Note,
}

/// One statement of a pass about one node. Data, not a log line: reports and snapshots hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What kind of statement.
    pub kind: RemarkKind,
    /// The pass that speaks.
    pub pass: &'static str,
    /// Name of the node spoken of; empty for the graph as a whole.
    pub node: String,
    /// The statement: a lower-case fragment.
    pub text: String,
}

impl fmt::Display for RemarkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RemarkKind::Applied => "applied",
            RemarkKind::Missed => "missed",
            RemarkKind::Note => "note",
        })
    }
}

/// `applied %bn: folded into %c`.
impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if !self.node.is_empty() {
            write!(f, " %{}", crate::text::Name(&self.node))?;
        }
        write!(f, ": {}", self.text)
    }
}
