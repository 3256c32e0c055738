//! Makes the weights of each layer share few values.
//!
//! With `k` or `bits`: k-means in one dimension per layer, each cluster becoming its mean (Han et al., "Deep
//! Compression", ICLR 2016). `init` chooses the first centres, or the exact optimum.
//!
//! With `bound` (the default): the fewest bits after entropy coding for which
//! `√Σ_l ‖W_l − Ŵ_l‖² / ‖W_l‖²` over all layers `l` stays within the bound. That is what the relative errors
//! of the layers' outputs add up to at the end of a network if they are independent, so it predicts
//! the relative error of the results without any data. With `ratio`, the error may exceed the bound, up to
//! `limit`, where constants would not become that much smaller otherwise. Rounding is balanced so that
//! errors cancel in each output, which the prediction leaves out. See `allocate.rs`, `rate.rs` and
//! `balance.rs`.
//!
//! With data, the bound is then moved to where the results on up to `samples` of it just agree with those of
//! the graph as it came: `agreement` is the least share of equal top-1 classes, `drift` the largest relative
//! error.
//!
//! With `biases` and `k` or `bits`, what shares values are the biases of each convolution and linear layer instead.
//!
//! **Applies to** floating-point constants of rank 2 and more that are used as data: convolutions, matrix
//! products, recurrent layers, embedding tables, and other large constants. Zeros stay zeros. A layer
//! that already shares few values, or holds infinities, is left alone, as is one whose table would
//! cost more than it saves.
//!
//! Lossy: values change.

use optc_ir::op::Attr;
use optc_ir::{Encoding, Graph};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::bounded::Bounds;
use super::kmeans::{self, Init, Sorted};
use super::weights::{Weight, biases, weights};
use crate::error::{OptionError, PassError};
use crate::options::{Options, Written};
use crate::pass::{Effect, Pass, PassCx};
use crate::selector::Selection;

/// The most shared values of a layer that can be asked for.
pub(super) const MAX_K: usize = 4096;
/// The pass; see the module.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterWeights {
    mode: Mode,
    selection: Selection,
}

#[derive(Clone, Debug, PartialEq)]
enum Mode {
    /// This many values a layer.
    Fixed { k: usize, init: Init, biases: bool },
    /// As few bits as error bounds allow.
    Bounded(Bounds),
}

impl Default for ClusterWeights {
    fn default() -> ClusterWeights {
        ClusterWeights { mode: Mode::Bounded(Bounds::default()), selection: Selection::default() }
    }
}

impl ClusterWeights {
    /// Reads `k` or `bits`, with `init` and `biases`; or `bound`, `ratio`, `limit`, `max-k`, `agreement`, `drift` and
    /// `samples`; `only` and `protect`.
    ///
    /// # Errors
    /// If an option is out of range, or options of both kinds are given.
    pub fn from_options(options: &mut Options) -> Result<ClusterWeights, OptionError> {
        let k = options.take_within("k", 1, MAX_K)?;
        let bits: Option<usize> = options.take_within("bits", 1, 12)?;
        let inits = INITS.map(|init| (init_word(init), init));
        let init = options.take_word("init", &inits)?;
        let biases: Option<bool> = options.take("biases")?;
        let bounds = Bounds::from_options(options)?;
        let selection = options.take_selection()?;
        let fixed = |k| Mode::Fixed { k, init: init.unwrap_or(Init::Linear), biases: biases.unwrap_or(false) };
        let mode = match (k, bits, bounds) {
            (Some(_), Some(_), _) => return Err(options.invalid("bits", "says the same as k; give one of them")),
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                return Err(
                    options.invalid("bound", "and what goes with it choose k themselves; give neither k nor bits")
                );
            }
            (None, None, _) if init.is_some() => {
                return Err(options.invalid("init", "starts k-means; give k or bits too"));
            }
            (None, None, _) if biases.is_some() => {
                return Err(options.invalid("biases", "goes with a number of values; give k or bits too"));
            }
            (Some(k), None, None) => fixed(k),
            (None, Some(bits), None) => fixed(1 << bits),
            (None, None, bounds) => Mode::Bounded(bounds.unwrap_or_default()),
        };
        Ok(ClusterWeights { mode, selection })
    }
}

const INITS: [Init; 4] = [Init::Linear, Init::Density, Init::Random, Init::Exact];

fn init_word(init: Init) -> &'static str {
    match init {
        Init::Linear => "linear",
        Init::Density => "density",
        Init::Random => "random",
        Init::Exact => "exact",
    }
}

impl Pass for ClusterWeights {
    fn name(&self) -> &'static str {
        "cluster-weights"
    }

    fn effect(&self) -> Effect {
        Effect::Lossy
    }

    fn options(&self) -> String {
        let written = match &self.mode {
            Mode::Fixed { k, init, biases } => Written::default()
                .value("k", &k.to_value())
                .word("init", init_word(*init), init_word(Init::Linear))
                .option("biases", biases, &false),
            Mode::Bounded(bounds) => bounds.written(),
        };
        written.selection(&self.selection).finish()
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let mut found = match self.mode {
            Mode::Fixed { biases: true, .. } => biases(graph),
            _ => weights(graph),
        };
        found.retain(|weight| {
            let selected = weight.selected(graph, &self.selection);
            let coded = matches!(weight.constant.encoding(), Encoding::Quantized { .. });
            if selected && coded {
                cx.missed(graph, weight.layer(), "the weights are quantized already");
            }
            let finite = !selected || coded || weight.values().iter().all(|x| x.is_finite());
            if !finite {
                cx.missed(graph, weight.layer(), "a weight is not finite");
            }
            selected && !coded && finite
        });
        match &self.mode {
            Mode::Fixed { k, init, .. } => fixed(graph, cx, &found, *k, *init),
            Mode::Bounded(bounds) => bounds.run(graph, cx, &found)?,
        }
        Ok(())
    }
}

/// k-means with `k` clusters, zeros being one of them.
fn fixed(graph: &mut Graph, cx: &mut PassCx<'_>, found: &[Weight], k: usize, init: Init) {
    for (i, weight) in found.iter().enumerate() {
        let values = weight.values();
        let mut rng = ChaCha8Rng::seed_from_u64(cx.seed);
        rng.set_stream(i as u64);
        let nonzero: Vec<f32> = values.iter().copied().filter(|&x| x != 0.0).collect();
        let zero = usize::from(nonzero.len() < values.len());
        let sorted = Sorted::new(nonzero);
        if sorted.values().len() + zero <= k {
            cx.missed(graph, weight.layer(), format_args!("there are no more than {k} distinct weights"));
            continue;
        }
        if k == zero {
            cx.missed(graph, weight.layer(), "zeros take the only value");
            continue;
        }
        let starts = kmeans::cluster(&sorted, k - zero, init, &mut rng);
        let m = sorted.values().len();
        let lows: Vec<f32> = kmeans::intervals(&starts, m).map(|(from, _)| sorted.values()[from]).collect();
        let means: Vec<f32> = kmeans::intervals(&starts, m).map(|(from, to)| sorted.mean(from, to)).collect();
        let shared = |x: f32| if x == 0.0 { 0.0 } else { means[cell(&lows, x)] };
        let new: Vec<f32> = values.iter().map(|&x| shared(x)).collect();
        let error = relative_error(&values, &new);
        let text = format!("{} weights share {} values, relative error {error:.2e}", new.len(), starts.len() + zero);
        replace(graph, weight, new);
        cx.applied(graph, weight.layer(), text);
    }
}

/// The cell a weight is in: the last one that begins at or below it.
pub(super) fn cell(lows: &[f32], x: f32) -> usize {
    lows.partition_point(|&lo| lo <= x).saturating_sub(1)
}

/// `‖W − Ŵ‖ / ‖W‖`.
pub(super) fn relative_error(old: &[f32], new: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let error: f64 = old.iter().zip(new).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let norm: f64 = old.iter().map(|&a| square(a.into())).sum();
    if norm > 0.0 { (error / norm).sqrt() } else { 0.0 }
}

pub(super) fn replace(graph: &mut Graph, weight: &Weight, new: Vec<f32>) {
    graph.set_op(weight.node, optc_ir::Op::Const(weight.with_values(new).into()));
}
