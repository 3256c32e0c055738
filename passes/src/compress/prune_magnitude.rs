//! Makes the smallest weights zero.
//!
//! | options | what becomes zero |
//! |---|---|
//! | `sparsity=s` | the fraction `s` of weights of least magnitude, of each layer |
//! | `sparsity=s, scope=global` | the same, of all layers together |
//! | `sparsity=s, block=[r, c]` | the fraction `s` of blocks of least mean magnitude, of each layer or of all |
//! | `threshold=t` | weights with `\|w\| < t` |
//! | `q=x` | weights with `\|w\| < x·σ`, σ the standard deviation of the layer's weights (Han et al. 2015) |
//! | `n=2, m=4` | all but the `n` largest of every `m` neighbours along the inputs of an output |
//!
//! Of equal magnitudes the ones that come first go first. Blocks lie in the matrix `[shape[0], rest]`;
//! neighbours for `n` and `m` are consecutive in memory order among the weights of one output. What is
//! left over where a row is no multiple of `m` keeps its `n` largest, too.
//!
//! **Applies to** the floating-point weights of convolutions, matrix products and recurrent layers.
//! Zeros are the only record: nothing else marks a pruned weight.
//!
//! Lossy: values change.

use std::sync::Arc;

use optc_ir::op::{Attr, AttrValue};
use optc_ir::{Constant, Graph, Op, Tensor, with_elements};

use super::weights::{Role, Weight, rows, weights};
use crate::error::{OptionError, PassError};
use crate::options::{Options, Written};
use crate::pass::{Effect, Pass, PassCx};
use crate::selector::Selection;

/// The fraction of zeros unless told otherwise.
const SPARSITY: f64 = 0.5;

/// The pass; see the module.
#[derive(Clone, Debug, PartialEq)]
pub struct PruneMagnitude {
    rule: Rule,
    selection: Selection,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    /// A fraction of the weights, or of blocks of rows and columns.
    Sparsity { fraction: f64, global: bool, block: Option<(usize, usize)> },
    /// A magnitude.
    Threshold(f64),
    /// A multiple of the standard deviation.
    Deviations(f64),
    /// All but `n` of `m`.
    NofM { n: usize, m: usize },
}

impl Default for PruneMagnitude {
    fn default() -> PruneMagnitude {
        let rule = Rule::Sparsity { fraction: SPARSITY, global: false, block: None };
        PruneMagnitude { rule, selection: Selection::default() }
    }
}

impl PruneMagnitude {
    /// Reads one of `sparsity` (with `scope` and `block`), `threshold`, `q`, and `n` with `m`; `only` and
    /// `protect`.
    ///
    /// # Errors
    /// If an option is out of range, or options of several kinds are given.
    pub fn from_options(options: &mut Options) -> Result<PruneMagnitude, OptionError> {
        let sparsity: Option<f64> = options.take_within("sparsity", 0.0, 1.0)?;
        let scope = options.take_word("scope", &[("layer", false), ("global", true)])?;
        let block: Option<Vec<usize>> = options.take("block")?;
        let threshold: Option<f64> = options.take_within("threshold", 0.0, f64::MAX)?;
        let q: Option<f64> = options.take_within("q", 0.0, f64::MAX)?;
        let n = options.take_within("n", 1, 1 << 16)?;
        let m = options.take_within("m", 2, 1 << 16)?;
        let selection = options.take_selection()?;
        let block = match block.as_deref() {
            None => None,
            Some(&[r, c]) if r > 0 && c > 0 && r <= 1 << 16 && c <= 1 << 16 => Some((r, c)),
            Some(_) => return Err(options.invalid("block", "must be [rows, columns], both from 1 to 65536")),
        };
        let kinds = [threshold.is_some(), q.is_some(), n.is_some() || m.is_some()];
        let by_sparsity = sparsity.is_some() || scope.is_some() || block.is_some();
        if kinds.iter().filter(|&&given| given).count() + usize::from(by_sparsity) > 1 {
            return Err(options.invalid("sparsity", "can't be given with threshold, q, or n and m: choose one"));
        }
        let rule = match (threshold, q, n, m) {
            (Some(t), ..) => Rule::Threshold(t),
            (_, Some(q), ..) => Rule::Deviations(q),
            (_, _, Some(n), Some(m)) if n < m => Rule::NofM { n, m },
            (_, _, Some(_), Some(_)) => return Err(options.invalid("n", "must be less than m")),
            (_, _, Some(_), None) => return Err(options.invalid("n", "needs m")),
            (_, _, None, Some(_)) => return Err(options.invalid("m", "needs n")),
            _ => {
                let (fraction, global) = (sparsity.unwrap_or(SPARSITY), scope.unwrap_or(false));
                Rule::Sparsity { fraction, global, block }
            }
        };
        Ok(PruneMagnitude { rule, selection })
    }
}

impl PruneMagnitude {
    /// Makes this fraction of the weights of each layer zero.
    pub(super) fn to_sparsity(fraction: f64) -> PruneMagnitude {
        let rule = Rule::Sparsity { fraction, global: false, block: None };
        PruneMagnitude { rule, selection: Selection::default() }
    }

    /// Prunes these weights of a graph, none of which is NaN.
    pub(super) fn zero(&self, graph: &mut Graph, found: &[Weight], cx: &mut PassCx<'_>) {
        let global = match self.rule {
            Rule::Sparsity { fraction, global: true, block } => Some(global_cut(found, fraction, block)),
            _ => None,
        };
        let mut ties = global.map_or(0, |cut| cut.ties);
        for weight in found {
            let values = weight.values();
            let mut keep: Vec<bool> = values.iter().map(|&x| x != 0.0).collect();
            let before = keep.iter().filter(|&&kept| kept).count();
            match self.rule {
                Rule::Sparsity { fraction, block, .. } => {
                    let blocks = Blocks::new(weight.constant.shape(), block);
                    let scores = blocks.scores(&values);
                    let cut = global.unwrap_or_else(|| cut_at(scores.clone(), fraction));
                    if global.is_none() {
                        ties = cut.ties;
                    }
                    for (block, score) in scores.into_iter().enumerate() {
                        if cut.takes(score, &mut ties) {
                            blocks.positions(block).for_each(|at| keep[at] = false);
                        }
                    }
                }
                Rule::Threshold(t) => below(&values, t, &mut keep),
                Rule::Deviations(q) => below(&values, q * deviation(&values), &mut keep),
                Rule::NofM { n, m } => n_of_m(weight, &values, n, m, &mut keep),
            }
            let after = keep.iter().filter(|&&kept| kept).count();
            let total = keep.len();
            drop(values);
            if after < before {
                graph.set_op(weight.node, Op::Const(Arc::new(zeroed(&weight.constant, &keep))));
                let percent = 100.0 * after as f64 / total as f64;
                cx.applied(graph, weight.layer(), format_args!("kept {after} of {total} weights ({percent:.1} %)"));
            } else {
                cx.missed(graph, weight.layer(), format_args!("no more than the {} zeros there are", total - before));
            }
        }
    }
}

impl Pass for PruneMagnitude {
    fn name(&self) -> &'static str {
        "prune-magnitude"
    }

    fn effect(&self) -> Effect {
        Effect::Lossy
    }

    fn options(&self) -> String {
        let written = Written::default();
        let written = match &self.rule {
            Rule::Sparsity { fraction, global, block } => {
                let scope = if *global { "global" } else { "layer" };
                let written = written.option("sparsity", fraction, &SPARSITY).word("scope", scope, "layer");
                match block {
                    Some((r, c)) => written.value("block", &AttrValue::List(vec![r.to_value(), c.to_value()])),
                    None => written,
                }
            }
            Rule::Threshold(t) => written.value("threshold", &t.to_value()),
            Rule::Deviations(q) => written.value("q", &q.to_value()),
            Rule::NofM { n, m } => written.value("n", &n.to_value()).value("m", &m.to_value()),
        };
        written.selection(&self.selection).finish()
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let mut found = prunable(graph, &self.selection);
        found.retain(|weight| {
            let number = !weight.values().iter().any(|x| x.is_nan());
            if !number {
                cx.missed(graph, weight.layer(), "a weight is not a number");
            }
            number
        });
        self.zero(graph, &found, cx);
        Ok(())
    }
}

/// The weights of the layers selected.
pub(super) fn prunable(graph: &Graph, selection: &Selection) -> Vec<Weight> {
    let mut found = weights(graph);
    found.retain(|weight| matches!(weight.role, Role::Product(_)) && weight.selected(graph, selection));
    found
}

/// The matrix `[shape[0], rest]` in blocks whose weights live or die together; those at the edges are
/// cut off.
struct Blocks {
    rows: usize,
    columns: usize,
    height: usize,
    width: usize,
}

impl Blocks {
    /// Single weights unless told otherwise.
    fn new(shape: &[usize], block: Option<(usize, usize)>) -> Blocks {
        let (height, width) = block.unwrap_or((1, 1));
        Blocks { rows: shape[0], columns: shape[1..].iter().product(), height, width }
    }

    fn count(&self) -> usize {
        self.rows.div_ceil(self.height) * self.columns.div_ceil(self.width)
    }

    /// Positions of the weights of one block.
    fn positions(&self, block: usize) -> impl Iterator<Item = usize> + use<> {
        let across = self.columns.div_ceil(self.width);
        let (row, column) = (block / across * self.height, block % across * self.width);
        let (bottom, right) = ((row + self.height).min(self.rows), (column + self.width).min(self.columns));
        let columns = self.columns;
        (row..bottom).flat_map(move |r| (r * columns + column)..(r * columns + right))
    }

    /// The mean magnitude of each block.
    fn scores(&self, values: &[f32]) -> Vec<f32> {
        if (self.height, self.width) == (1, 1) {
            return values.iter().map(|x| x.abs()).collect();
        }
        let score = |block: usize| {
            let (count, sum) =
                self.positions(block).fold((0.0, 0.0), |(n, sum), at| (n + 1.0, sum + f64::from(values[at].abs())));
            (sum / count) as f32
        };
        (0..self.count()).map(score).collect()
    }
}

/// Where magnitudes are cut: everything below goes, and so many of those equal.
#[derive(Clone, Copy, Debug)]
struct Cut {
    below: f32,
    ties: usize,
}

impl Cut {
    fn takes(self, score: f32, ties: &mut usize) -> bool {
        if score == self.below && *ties > 0 {
            *ties -= 1;
            return true;
        }
        score < self.below
    }
}

/// The cut that takes the given fraction, rounded to nearest.
fn cut_at(mut scores: Vec<f32>, fraction: f64) -> Cut {
    let count = (fraction * scores.len() as f64).round() as usize;
    if count == 0 {
        return Cut { below: 0.0, ties: 0 };
    }
    let at = count.min(scores.len()) - 1;
    let (_, &mut below, _) = scores.select_nth_unstable_by(at, f32::total_cmp);
    let less = scores.iter().filter(|&&score| score < below).count();
    Cut { below, ties: at + 1 - less }
}

fn global_cut(found: &[Weight], fraction: f64, block: Option<(usize, usize)>) -> Cut {
    let scores = found.iter().flat_map(|weight| Blocks::new(weight.constant.shape(), block).scores(&weight.values()));
    cut_at(scores.collect(), fraction)
}

fn below(values: &[f32], threshold: f64, keep: &mut [bool]) {
    for (keep, &x) in keep.iter_mut().zip(values) {
        *keep &= f64::from(x.abs()) >= threshold;
    }
}

/// The standard deviation of all elements.
fn deviation(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    (values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

fn n_of_m(weight: &Weight, values: &[f32], n: usize, m: usize, keep: &mut [bool]) {
    let Role::Product(layout) = weight.role else { return };
    for row in rows(weight.constant.shape(), layout.axis) {
        let positions: Vec<usize> = row.positions().collect();
        for group in positions.chunks(m) {
            let mut order = group.to_vec();
            // Stable: of equals the later stay.
            order.sort_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()));
            for &at in order.iter().rev().skip(n) {
                keep[at] = false;
            }
        }
    }
}

/// A dense constant with zeros where `keep` says no.
fn zeroed(constant: &Constant, keep: &[bool]) -> Constant {
    let (shape, mut data) = constant.decode().into_parts();
    with_elements!(&mut data, v => {
        v.iter_mut().zip(keep).filter(|(_, keep)| !**keep).for_each(|(x, _)| *x = Default::default());
    });
    Constant::dense(Tensor::new(shape, data))
}
