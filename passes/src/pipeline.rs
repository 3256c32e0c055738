//! Pipelines: sequences of passes, as text and as the presets behind `-O`.

use std::fmt;

use optc_ir::Graph;

use crate::compress::{ClusterWeights, EncodeWeights};
use crate::error::{OptionError, PassError};
use crate::options::{Written, parse_passes};
use crate::pass::{Effect, Nested, Pass, PassCx};
use crate::registry::PASSES;
use crate::simplify::{
    CancelReshapes, CancelTransposes, Canonicalize, EliminateCommonSubexpressions, EliminateDeadChannels,
    EliminateDeadCode, EliminateIdentities, FoldBatchNorm, FoldConstants, FoldPad, FoldScale, FoldShapes,
    FuseActivation, FuseLayerNorm, FuseLinear,
};

/// A sequence of passes.
#[derive(Default)]
pub struct Pipeline {
    /// The passes, in order.
    pub passes: Vec<Box<dyn Pass>>,
}

impl Pipeline {
    /// A pipeline of these passes.
    pub fn new(passes: Vec<Box<dyn Pass>>) -> Pipeline {
        Pipeline { passes }
    }

    /// Adds a pass at the end.
    #[must_use]
    pub fn then(mut self, pass: impl Pass + 'static) -> Pipeline {
        self.passes.push(Box::new(pass));
        self
    }

    /// Adds a pipeline at the end.
    #[must_use]
    pub fn then_all(mut self, other: Pipeline) -> Pipeline {
        self.passes.extend(other.passes);
        self
    }
}

/// The text that [`parse`] reads back.
impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, pass) in self.passes.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{}", pass.name())?;
            let options = pass.options();
            if !options.is_empty() {
                write!(f, "{{{options}}}")?;
            }
        }
        Ok(())
    }
}

/// The text of a pipeline: names and options that differ from their defaults.
pub fn print(pipeline: &Pipeline) -> String {
    pipeline.to_string()
}

/// Reads a pipeline: names of passes with options in braces, and names of presets.
///
/// # Errors
/// Naming the pass or option that does not exist and listing those that do.
pub fn parse(text: &str) -> Result<Pipeline, OptionError> {
    let mut pipeline = Pipeline::default();
    for mut options in parse_passes(text)? {
        match (PASSES.iter().find(|info| info.name == options.pass), preset(&options.pass)) {
            (Some(info), _) => {
                pipeline.passes.push((info.from_options)(&mut options)?);
                options.finish()?;
            }
            (None, Some(preset)) => {
                options.finish()?;
                pipeline = pipeline.then_all(preset);
            }
            (None, None) => return Err(unknown_pass(&options.pass)),
        }
    }
    Ok(pipeline)
}

/// An error that lists the passes there are.
pub(crate) fn unknown_pass(name: &str) -> OptionError {
    let passes: Vec<&str> = PASSES.iter().map(|info| info.name).collect();
    let presets: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    let (passes, presets) = (passes.join(", "), presets.join(", "));
    OptionError(format!("unknown pass {name}; passes are {passes}; presets are {presets}"))
}

/// A pipeline with a name, for `-O`.
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in one line.
    pub summary: &'static str,
    /// The passes.
    pub build: fn() -> Pipeline,
}

/// The presets, mildest first.
pub const PRESETS: &[Preset] = &[
    Preset { name: "none", summary: "nothing: import and export only", build: Pipeline::default },
    Preset { name: "fuse", summary: "exact and rounding rewrites only: fewer nodes, same function", build: fuse },
    Preset { name: "speed", summary: "the same as fuse: weights stay dense, which kernels read fastest", build: fuse },
    Preset { name: "compress", summary: "as few bytes as a stated error bound allows", build: compress },
    Preset { name: "size", summary: "the same as compress", build: compress },
];

/// The preset of this name.
pub fn preset(name: &str) -> Option<Pipeline> {
    PRESETS.iter().find(|preset| preset.name == name).map(|preset| (preset.build)())
}

/// Repeats a sequence of passes until nothing changes.
pub struct Fixpoint {
    /// The name in reports.
    pub name: &'static str,
    /// The most rounds.
    pub max_rounds: usize,
    /// One round.
    pub passes: Vec<Box<dyn Pass>>,
}

impl Pass for Fixpoint {
    fn name(&self) -> &'static str {
        self.name
    }

    fn effect(&self) -> Effect {
        self.passes.iter().map(|pass| pass.effect()).max().unwrap_or(Effect::Exact)
    }

    fn options(&self) -> String {
        Written::default().option("rounds", &self.max_rounds, &MAX_ROUNDS).finish()
    }

    fn nested(&self) -> Option<Nested<'_>> {
        Some(Nested { passes: &self.passes, max_rounds: self.max_rounds })
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for _ in 0..self.max_rounds {
            let version = graph.version();
            for pass in &self.passes {
                cx.enter(pass.name());
                pass.run(graph, cx)?;
                graph.gc();
            }
            if graph.version() == version {
                break;
            }
        }
        Ok(())
    }
}

/// Rounds of [`simplify`] unless told otherwise. Real models settle in two or three.
pub(crate) const MAX_ROUNDS: usize = 8;

/// The clean-up that every preset starts with.
pub fn simplify(max_rounds: usize) -> Fixpoint {
    let passes: Vec<Box<dyn Pass>> = vec![
        // What is known already, before anything is matched: shapes, constants, things said twice.
        Box::new(EliminateDeadCode),
        Box::new(FoldShapes),
        Box::new(FoldConstants::default()),
        Box::new(EliminateIdentities),
        Box::new(Canonicalize),
        Box::new(EliminateCommonSubexpressions),
        // Data movement between layers hides from each layer what comes next.
        Box::new(CancelReshapes),
        Box::new(CancelTransposes),
        Box::new(FoldPad),
        // Layers, with whatever is linear next to them. A layer that has an activation takes in nothing
        // more behind it, but activations written out must be recognised before their parts are folded.
        Box::new(FuseLinear),
        Box::new(FuseLayerNorm),
        Box::new(FoldBatchNorm),
        Box::new(FuseActivation),
        Box::new(FoldScale),
        // Last, when shifts have become biases and activations are known: a filter of zeros is a constant channel.
        Box::new(EliminateDeadChannels),
    ];
    Fixpoint { name: "simplify", max_rounds, passes }
}

fn fuse() -> Pipeline {
    // Nothing but rewrites that keep the function.
    Pipeline::default().then(simplify(MAX_ROUNDS))
}

fn compress() -> Pipeline {
    Pipeline::default()
        // Clean-up first, so that errors are measured on the weights that will ship.
        .then(simplify(MAX_ROUNDS))
        .then(ClusterWeights::default())
        // Representation last: it is exact, and the values will not change any more.
        .then(EncodeWeights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_print_and_read_back() {
        for preset in PRESETS {
            let text = (preset.build)().to_string();
            assert_eq!(parse(&text).unwrap().to_string(), text);
            assert_eq!(parse(preset.name).unwrap().to_string(), text);
        }
    }

    #[test]
    fn unknown_names_list_the_known() {
        let error = parse("fold-bach-norm").err().unwrap().to_string();
        assert!(error.starts_with("unknown pass fold-bach-norm; passes are "), "{error}");
        assert!(error.contains("fold-batch-norm"), "{error}");
        let error = parse("simplify{round=2}").err().unwrap().to_string();
        assert_eq!(error, "simplify: unknown option round; valid are rounds");
    }
}
