//! Makes every layer thinner: the width multiplier of MobileNets (Howard et al. 2017) on trained networks.
//!
//! Of every group of channels the fraction `alpha` stays, rounded up to a multiple of `round-to`: the most
//! important ones by `criterion`. Costs fall with about `alpha²`.
//!
//! **Applies to** what `prune-filters` applies to, and says the same of what it leaves alone.
//!
//! Lossy: the function changes.

use optc_ir::Graph;

use super::importance::Criterion;
use super::prune_filters::PruneFilters;
use crate::error::{OptionError, PassError};
use crate::options::{Options, Written};
use crate::pass::{Effect, Pass, PassCx};
use crate::selector::Selection;

/// The fraction of channels that stay unless told otherwise.
const ALPHA: f64 = 0.75;

/// The pass; see the module.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleWidth {
    alpha: f64,
    criterion: Criterion,
    round_to: usize,
    selection: Selection,
}

impl ScaleWidth {
    /// Reads `alpha`, `criterion`, `round-to`, `only` and `protect`.
    ///
    /// # Errors
    /// If an option is out of range.
    pub fn from_options(options: &mut Options) -> Result<ScaleWidth, OptionError> {
        Ok(ScaleWidth {
            alpha: options.take_within("alpha", 0.0, 1.0)?.unwrap_or(ALPHA),
            criterion: options.take_word("criterion", &Criterion::WORDS)?.unwrap_or_default(),
            round_to: options.take_within("round-to", 1, 1 << 16)?.unwrap_or(1),
            selection: options.take_selection()?,
        })
    }
}

impl Pass for ScaleWidth {
    fn name(&self) -> &'static str {
        "scale-width"
    }

    fn effect(&self) -> Effect {
        Effect::Lossy
    }

    fn options(&self) -> String {
        Written::default()
            .option("alpha", &self.alpha, &ALPHA)
            .word("criterion", self.criterion.word(), "l1")
            .option("round-to", &self.round_to, &1)
            .selection(&self.selection)
            .finish()
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let thin = PruneFilters::keeping(self.alpha, self.criterion, self.round_to, self.selection.clone());
        thin.prune(self.name(), graph, cx)
    }
}
