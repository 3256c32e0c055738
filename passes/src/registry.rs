//! The one table of passes.

use crate::compress::{
    ClusterWeights, EncodeWeights, PruneFilters, PruneMagnitude, QuantizeWeights, ScaleResolution, ScaleWidth,
};
use crate::error::OptionError;
use crate::options::Options;
use crate::pass::Pass;
use crate::pipeline::{MAX_ROUNDS, simplify};
use crate::simplify::{
    CancelReshapes, CancelTransposes, Canonicalize, EliminateCommonSubexpressions, EliminateDeadChannels,
    EliminateDeadCode, EliminateIdentities, FoldBatchNorm, FoldConstants, FoldPad, FoldScale, FoldShapes,
    FuseActivation, FuseLayerNorm, FuseLinear,
};

/// One row of the table.
pub struct PassInfo {
    /// The name, as [`Pass::name`] gives it.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The options it takes.
    pub options: &'static [OptionInfo],
    /// Makes the pass. Every option has a default.
    pub from_options: fn(&mut Options) -> Result<Box<dyn Pass>, OptionError>,
}

/// One option of a pass, for help texts.
pub struct OptionInfo {
    /// The key.
    pub key: &'static str,
    /// The default as it would be written; empty if the option is off by default.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// Every pass there is.
pub static PASSES: &[PassInfo] = &[
    PassInfo {
        name: "simplify",
        summary: "repeats all simplifying passes until nothing changes",
        options: &[OptionInfo { key: "rounds", default: "8", help: "the most rounds" }],
        from_options: |o| Ok(Box::new(simplify(o.take_or("rounds", MAX_ROUNDS)?))),
    },
    PassInfo {
        name: "canonicalize",
        summary: "writes the same thing in one way",
        options: &[],
        from_options: |_| Ok(Box::new(Canonicalize)),
    },
    PassInfo {
        name: "fold-constants",
        summary: "evaluates nodes whose operands are all constant",
        options: &[OptionInfo {
            key: "limit",
            default: "65536",
            help: "bytes a result may take even if its operands took less",
        }],
        from_options: |o| Ok(Box::new(FoldConstants::from_options(o)?)),
    },
    PassInfo {
        name: "fold-shapes",
        summary: "turns shape arithmetic into constants",
        options: &[],
        from_options: |_| Ok(Box::new(FoldShapes)),
    },
    PassInfo {
        name: "eliminate-identities",
        summary: "removes nodes that give their operand back",
        options: &[],
        from_options: |_| Ok(Box::new(EliminateIdentities)),
    },
    PassInfo {
        name: "eliminate-common-subexpressions",
        summary: "computes equal things once",
        options: &[],
        from_options: |_| Ok(Box::new(EliminateCommonSubexpressions)),
    },
    PassInfo {
        name: "cancel-transposes",
        summary: "cancels transposes, also across elementwise nodes",
        options: &[],
        from_options: |_| Ok(Box::new(CancelTransposes)),
    },
    PassInfo {
        name: "cancel-reshapes",
        summary: "merges chains of reshape, flatten, squeeze and unsqueeze",
        options: &[],
        from_options: |_| Ok(Box::new(CancelReshapes)),
    },
    PassInfo {
        name: "fuse-layer-norm",
        summary: "makes layer normalisation written out as arithmetic one node",
        options: &[],
        from_options: |_| Ok(Box::new(FuseLayerNorm)),
    },
    PassInfo {
        name: "fuse-linear",
        summary: "makes matrix products with constant weights linear layers",
        options: &[],
        from_options: |_| Ok(Box::new(FuseLinear)),
    },
    PassInfo {
        name: "fold-batch-norm",
        summary: "folds batch normalisation into the convolution or linear layer next to it",
        options: &[],
        from_options: |_| Ok(Box::new(FoldBatchNorm)),
    },
    PassInfo {
        name: "fold-pad",
        summary: "moves zeros padded before a convolution into its own padding",
        options: &[],
        from_options: |_| Ok(Box::new(FoldPad)),
    },
    PassInfo {
        name: "fold-scale",
        summary: "folds arithmetic with per-channel constants into the layer next to it",
        options: &[],
        from_options: |_| Ok(Box::new(FoldScale)),
    },
    PassInfo {
        name: "fuse-activation",
        summary: "fuses activations into the layer that feeds them",
        options: &[],
        from_options: |_| Ok(Box::new(FuseActivation)),
    },
    PassInfo {
        name: "eliminate-dead-channels",
        summary: "removes channels that are zero, constant or never read",
        options: &[],
        from_options: |_| Ok(Box::new(EliminateDeadChannels)),
    },
    PassInfo {
        name: "eliminate-dead-code",
        summary: "deletes nodes no result depends on",
        options: &[],
        from_options: |_| Ok(Box::new(EliminateDeadCode)),
    },
    PassInfo {
        name: "prune-filters",
        summary: "removes the least important channels and all that goes with them",
        options: &[
            CRITERION,
            OptionInfo { key: "ratio", default: "0.5", help: "the fraction of channels removed" },
            OptionInfo { key: "ratios", default: "", help: "[[layers, fraction], …]: other fractions for some" },
            OptionInfo {
                key: "macs",
                default: "",
                help: "instead: the fraction of multiply-accumulates that may stay",
            },
            OptionInfo { key: "params", default: "", help: "instead: the fraction of parameters that may stay" },
            OptionInfo { key: "scope", default: "layer", help: "layer, global or isomorphic: which channels compete" },
            OptionInfo {
                key: "greedy",
                default: "false",
                help: "whether weights of channels removed in layers before are left out",
            },
            OptionInfo {
                key: "consumers",
                default: "false",
                help: "whether the weights that read a channel count, too",
            },
            ROUND_TO,
            OptionInfo { key: "samples", default: "64", help: "for activation and apoz: the most samples to run" },
            ONLY,
            PROTECT,
        ],
        from_options: |o| Ok(Box::new(PruneFilters::from_options(o)?)),
    },
    PassInfo {
        name: "scale-width",
        summary: "keeps a fraction of the channels of every layer, the most important ones",
        options: &[
            OptionInfo { key: "alpha", default: "0.75", help: "the fraction of channels that stay" },
            CRITERION,
            ROUND_TO,
            ONLY,
            PROTECT,
        ],
        from_options: |o| Ok(Box::new(ScaleWidth::from_options(o)?)),
    },
    PassInfo {
        name: "scale-resolution",
        summary: "makes the network take smaller images",
        options: &[
            OptionInfo { key: "rho", default: "0.75", help: "the factor on the extents of images" },
            OptionInfo { key: "round-to", default: "1", help: "the extents of images are multiples of this" },
        ],
        from_options: |o| Ok(Box::new(ScaleResolution::from_options(o)?)),
    },
    PassInfo {
        name: "prune-magnitude",
        summary: "makes the smallest weights zero",
        options: &[
            OptionInfo { key: "sparsity", default: "0.5", help: "the fraction of weights that become zero" },
            OptionInfo { key: "scope", default: "layer", help: "layer or global: what the fraction is of" },
            OptionInfo { key: "block", default: "", help: "[rows, columns] that live or die together" },
            OptionInfo { key: "threshold", default: "", help: "instead: weights of magnitude below this" },
            OptionInfo { key: "q", default: "", help: "instead: weights below q standard deviations of their layer" },
            OptionInfo { key: "n", default: "", help: "instead: all but the n largest of every m neighbours" },
            OptionInfo { key: "m", default: "", help: "see n" },
            ONLY,
            PROTECT,
        ],
        from_options: |o| Ok(Box::new(PruneMagnitude::from_options(o)?)),
    },
    PassInfo {
        name: "cluster-weights",
        summary: "makes the weights of each layer share few values",
        options: &[
            OptionInfo { key: "k", default: "", help: "values a layer, found by k-means" },
            OptionInfo { key: "bits", default: "", help: "the same as its logarithm" },
            OptionInfo { key: "init", default: "linear", help: "linear, density, random, or exact for the optimum" },
            OptionInfo { key: "biases", default: "false", help: "whether biases share values, and weights stay" },
            OptionInfo {
                key: "bound",
                default: "0.0165",
                help: "without k: what relative errors of all layers may add up to",
            },
            OptionInfo { key: "ratio", default: "4.06", help: "how much smaller constants become even beyond bound" },
            OptionInfo { key: "limit", default: "0.045", help: "what errors may add up to for the sake of ratio" },
            OptionInfo { key: "max-k", default: "4096", help: "the most values a layer" },
            OptionInfo {
                key: "agreement",
                default: "0.99",
                help: "with data: the least share of top-1 classes that stay",
            },
            OptionInfo { key: "drift", default: "0.05", help: "with data: the largest relative error of a result" },
            OptionInfo { key: "samples", default: "64", help: "with data: the most samples to run" },
            ONLY,
            PROTECT,
        ],
        from_options: |o| Ok(Box::new(ClusterWeights::from_options(o)?)),
    },
    PassInfo {
        name: "quantize-weights",
        summary: "puts weights on a grid of few levels",
        options: &[
            OptionInfo { key: "bits", default: "8", help: "bits a weight, 1 to 8" },
            OptionInfo {
                key: "symmetric",
                default: "true",
                help: "whether the grid is the same on both sides of zero",
            },
            OptionInfo { key: "per", default: "channel", help: "channel or tensor: what has a grid of its own" },
            OptionInfo { key: "scale", default: "max", help: "max spans the largest weight, mse has the least error" },
            ONLY,
            PROTECT,
        ],
        from_options: |o| Ok(Box::new(QuantizeWeights::from_options(o)?)),
    },
    PassInfo {
        name: "encode-weights",
        summary: "keeps each constant in the smallest exact encoding",
        options: &[],
        from_options: |_| Ok(Box::new(EncodeWeights)),
    },
];

const CRITERION: OptionInfo = OptionInfo {
    key: "criterion",
    default: "l1",
    help: "l1, l2, geometric-median, bn-scale, activation, apoz or random: what importance is",
};
const ROUND_TO: OptionInfo =
    OptionInfo { key: "round-to", default: "1", help: "the channels left of a group are a multiple of this" };
const ONLY: OptionInfo = OptionInfo { key: "only", default: "", help: "the layers to touch, by kind or name" };
const PROTECT: OptionInfo = OptionInfo { key: "protect", default: "", help: "the layers to leave alone" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_the_truth() {
        for info in PASSES {
            let mut options = Options::none(info.name);
            let pass = (info.from_options)(&mut options).expect("every option has a default");
            assert_eq!(pass.name(), info.name);
            assert_eq!(pass.options(), "", "{}: defaults are not written", info.name);
            let listed: Vec<&str> = info.options.iter().map(|option| option.key).collect();
            assert_eq!(options.known(), listed, "{}: the help lists what the pass asks for", info.name);
            let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(info.name.chars().all(kebab), "{}", info.name);
        }
        let mut names: Vec<&str> = PASSES.iter().map(|info| info.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PASSES.len(), "names are unique");
    }
}
