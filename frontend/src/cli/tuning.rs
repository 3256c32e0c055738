//! `--tune`: measuring what computes each layer fastest, and saying what came of it.

use optc_codegen::Selection;
use optc_ir::{Graph, Tensor};

use super::session::{Talk, ms};
use crate::compiled::{Algorithms, BackendKind, CompileOptions};
use crate::error::Error;

/// The selection of algorithms for a graph that is ready to run on these inputs. Says what tuning does and finds.
///
/// # Errors
/// [`Error::Usage`] if there is nothing to tune, [`Error::Exec`] if tuning can't run the graph.
pub(super) fn select(
    options: &CompileOptions,
    graph: &Graph,
    inputs: &[Tensor],
    talk: &Talk,
) -> Result<Selection, Error> {
    if options.algorithms == Algorithms::Tuned && options.backend == BackendKind::Interp {
        return Err(Error::Usage("--tune: the interpreter computes every layer in one way".to_owned()));
    }
    let progress = talk.progress(None);
    let (selection, tuned) =
        options.select(graph, inputs, &mut |what| progress.set_message(format!("tuning: {what}")))?;
    progress.finish_and_clear();
    let by = match selection {
        Selection::Modelled => "by the cost model",
        Selection::Measured(_) => "by measured layers",
        Selection::Always(_) => "dense throughout",
    };
    match tuned.map(|tuned| (tuned.layers, tuned.times)) {
        Some((layers, Some(times))) => {
            let [modelled, measured, dense] = times.map(ms);
            talk.say(format_args!(
                "tuned {layers} layers: {modelled:.3} ms by the cost model, {measured:.3} ms by measured layers, \
{dense:.3} ms dense; running {by}"
            ));
        }
        Some(_) => talk.say("note: nothing to tune, no layer can be computed in several ways"),
        None => {}
    }
    Ok(selection)
}
