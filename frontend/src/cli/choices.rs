//! What computes each layer of compressed weights, what else could, and why: for reports.

use optc_codegen::choice::Choice;
use optc_codegen::{Plan, Selection};
use optc_ir::{Graph, Tensor};
use serde::Serialize;

use super::session::Talk;
use crate::compiled::CompileOptions;
use crate::error::Error;
use crate::report::percent;
use crate::report::table::{Align, Table};

/// A layer.
#[derive(Serialize)]
pub(super) struct ChoiceRow {
    name: String,
    sparsity: f64,
    algorithm: &'static str,
    reason: String,
    /// Cycles of what could compute it, the cheapest first.
    candidates: Vec<CandidateRow>,
}

#[derive(Serialize)]
struct CandidateRow {
    algorithm: &'static str,
    cycles: f64,
}

/// The choices for a graph that is ready to run on these inputs.
///
/// # Errors
/// [`Error::Exec`] if it can't be planned.
pub(super) fn choices_of(
    graph: &Graph,
    inputs: &[Tensor],
    options: &CompileOptions,
    selection: &Selection,
) -> Result<Vec<ChoiceRow>, Error> {
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape().to_vec()).collect();
    let (choices, _) = Plan::choose(graph, &shapes, &options.target(), selection)?;
    let row = |choice: Choice| ChoiceRow {
        sparsity: choice.sparsity(),
        algorithm: choice.chosen.name(),
        reason: choice.reason.to_string(),
        candidates: choice
            .candidates
            .iter()
            .map(|candidate| CandidateRow { algorithm: candidate.algorithm.name(), cycles: candidate.cycles })
            .collect(),
        name: choice.layer,
    };
    Ok(choices.into_iter().map(row).collect())
}

/// The choices for people.
pub(super) fn table(choices: &[ChoiceRow], talk: &Talk) -> String {
    let columns = [
        ("layer", Align::Left),
        ("zeros", Align::Right),
        ("chosen", Align::Left),
        ("cycles", Align::Right),
        ("instead of", Align::Left),
        ("because", Align::Left),
    ];
    let mut table = Table::new(talk.style, &columns);
    for row in choices {
        let cycles = row.candidates.iter().find(|candidate| candidate.algorithm == row.algorithm);
        let others = row.candidates.iter().filter(|candidate| candidate.algorithm != row.algorithm);
        let others: Vec<String> =
            others.map(|candidate| format!("{} {:.0}", candidate.algorithm, candidate.cycles)).collect();
        table.row([
            row.name.clone(),
            percent(row.sparsity),
            row.algorithm.to_owned(),
            cycles.map_or(String::new(), |candidate| format!("{:.0}", candidate.cycles)),
            others.join(", "),
            row.reason.clone(),
        ]);
    }
    format!("\nChoices; a cycle multiplies and adds one vector\n{}", table.render())
}
