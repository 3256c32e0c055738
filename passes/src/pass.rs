//! What a pass is, and what it sees while it runs.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use optc_ir::{Backend, Graph, NodeId, Remark, RemarkKind};

use crate::data::Dataset;
use crate::error::PassError;

/// One transformation of a graph.
///
/// Passes hold options, no state: running one twice on equal graphs gives equal graphs.
pub trait Pass {
    /// Kebab-case; also the file stem, the name on the command line and the test folder.
    fn name(&self) -> &'static str;

    /// How far the graph's function may move. No default: the author decides, the harness checks.
    fn effect(&self) -> Effect;

    /// The options that differ from their defaults, as they stand in a pipeline: `sparsity=0.8`.
    /// Empty if there are none.
    fn options(&self) -> String {
        String::new()
    }

    /// Whether the types of inputs and results may change. Their names and order never do.
    fn changes_types(&self) -> bool {
        false
    }

    /// The passes this one is made of, if it is a sequence repeated until nothing changes. The manager
    /// then runs those, each with all its checks, instead of calling [`Pass::run`].
    fn nested(&self) -> Option<Nested<'_>> {
        None
    }

    /// Transforms the graph. Rewires and adds; the manager deletes what is left unused.
    ///
    /// # Errors
    /// [`PassError`] if the pass can't do what it was asked to. A node it declines to touch is a `missed`
    /// remark, not an error.
    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError>;
}

/// What a pass is made of.
#[derive(Clone, Copy)]
pub struct Nested<'a> {
    /// The passes of one round, in order.
    pub passes: &'a [Box<dyn Pass>],
    /// Rounds end when one changes nothing, or after this many.
    pub max_rounds: usize,
}

/// How far a pass may move the function a graph computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Bit-identical results.
    Exact,
    /// Equal in real arithmetic; only floating-point reassociation.
    Rounding,
    /// Approximates: accuracy must be measured.
    Lossy,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::Exact => "exact",
            Effect::Rounding => "rounding",
            Effect::Lossy => "lossy",
        })
    }
}

/// What a pass sees besides the graph.
pub struct PassCx<'a> {
    /// Runs graphs.
    pub backend: &'a dyn Backend,
    /// Inputs to measure on, if the user gave some.
    pub data: Option<&'a dyn Dataset>,
    /// Where everything random starts from.
    pub seed: u64,
    /// Told how far long work has come.
    pub progress: Option<&'a dyn Fn(&Progress<'_>)>,
    pass: &'static str,
    remarks: Vec<Remark>,
    analyses: HashMap<TypeId, (u64, Rc<dyn Any>)>,
}

impl<'a> PassCx<'a> {
    /// A context without data.
    pub fn new(backend: &'a dyn Backend) -> PassCx<'a> {
        PassCx { backend, data: None, seed: 0, progress: None, pass: "", remarks: Vec::new(), analyses: HashMap::new() }
    }

    /// Remarks from now on are by this pass. The manager calls it.
    pub(crate) fn enter(&mut self, pass: &'static str) {
        self.pass = pass;
    }

    /// The remarks so far, taken away.
    pub fn take_remarks(&mut self) -> Vec<Remark> {
        std::mem::take(&mut self.remarks)
    }

    /// Tells how far the pass has come: `done` of `total` steps, and what the next one is about. Long
    /// passes call it often; it costs nothing where nobody listens.
    pub fn step(&self, done: usize, total: usize, what: &str) {
        if let Some(progress) = self.progress {
            progress(&Progress { pass: self.pass, done, total, what });
        }
    }

    /// Forgets what passes declined or noted, but not what they did, since there were `count` remarks: a
    /// further round of the same passes says it again where it still holds.
    pub(crate) fn forget_missed(&mut self, count: usize) {
        let tail = self.remarks.split_off(count.min(self.remarks.len()));
        self.remarks.extend(tail.into_iter().filter(|remark| remark.kind == RemarkKind::Applied));
    }

    /// How many remarks there are.
    pub(crate) fn remark_count(&self) -> usize {
        self.remarks.len()
    }

    /// States that the pass changed the graph at a node.
    pub fn applied(&mut self, graph: &Graph, node: NodeId, text: impl fmt::Display) {
        self.remark(RemarkKind::Applied, graph.name(node), text);
    }

    /// States that the pass declined to change a node, and why.
    pub fn missed(&mut self, graph: &Graph, node: NodeId, text: impl fmt::Display) {
        self.remark(RemarkKind::Missed, graph.name(node), text);
    }

    /// States something worth knowing about a node.
    pub fn note(&mut self, graph: &Graph, node: NodeId, text: impl fmt::Display) {
        self.remark(RemarkKind::Note, graph.name(node), text);
    }

    /// States something about the graph as a whole.
    pub fn note_graph(&mut self, text: impl fmt::Display) {
        self.remark(RemarkKind::Note, "", text);
    }

    fn remark(&mut self, kind: RemarkKind, node: &str, text: impl fmt::Display) {
        self.remarks.push(Remark { kind, pass: self.pass, node: node.to_owned(), text: text.to_string() });
    }

    /// An analysis of the graph as it is now, computed at most once a version of the graph.
    pub fn analysis<A: Analysis>(&mut self, graph: &Graph) -> Rc<A> {
        let key = TypeId::of::<A>();
        if let Some((version, cached)) = self.analyses.get(&key)
            && *version == graph.version()
        {
            return cached.clone().downcast().expect("the key is the type");
        }
        let fresh = Rc::new(A::of(graph));
        self.analyses.insert(key, (graph.version(), fresh.clone()));
        fresh
    }
}

/// How far a pass has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The pass.
    pub pass: &'static str,
    /// Steps done.
    pub done: usize,
    /// Steps in all; 0 if nobody knows.
    pub total: usize,
    /// What the next step is about: the name of a node, a phase. Empty at the start of a pass.
    pub what: &'a str,
}

/// A fact about a whole graph that is worth keeping while the graph does not change.
pub trait Analysis: 'static {
    /// Computes it.
    fn of(graph: &Graph) -> Self;
}
