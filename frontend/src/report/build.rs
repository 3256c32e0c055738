//! From graphs and runs to report rows.

use std::collections::HashMap;

use optc_ir::{Encoding, Graph, NodeId, Op, Pattern, RemarkKind, Type};
use optc_passes::RunReport;
use optc_passes::analysis::Cost;

use super::{EncodingRow, Layer, NestedRow, PassRow, RemarkRow, SkippedRow};
use crate::pack::PackReport;

/// The nodes named for a reason.
const MAX_EXAMPLES: usize = 8;

/// The bytes a constant takes in the `.optc`, by the name of its node.
pub type CodedBytes = HashMap<String, u64>;

/// The bytes of each constant of a packed file.
pub fn coded_bytes(packed: &PackReport) -> CodedBytes {
    packed.constants.iter().map(|constant| (constant.name.clone(), constant.bytes as u64)).collect()
}

/// The layers of a graph.
pub fn layers(graph: &Graph, cost: &Cost, coded: Option<&CodedBytes>) -> Vec<Layer> {
    let entropies = cost.entropy_bits(graph);
    let rows = cost.layers.iter().zip(entropies).map(|(layer, entropy_bits)| {
        let largest = layer.constants.iter().filter_map(|&c| graph.constant(c)).max_by_key(|c| c.stored_bytes());
        let coded_bytes = coded.map(|coded| {
            let of = |&c: &NodeId| coded.get(graph.name(c)).copied().unwrap_or(0);
            layer.constants.iter().map(of).sum()
        });
        let bits = 8.0 * coded_bytes.unwrap_or(layer.stored_bytes as u64) as f64;
        Layer {
            name: layer.name.clone(),
            op: match graph.op(layer.node) {
                Op::Opaque(opaque) => opaque.op_type.clone(),
                _ => layer.op.clone(),
            },
            shape: match &layer.output {
                Type::Unknown => "?".to_owned(),
                known => known.to_string(),
            },
            params: layer.params,
            nonzero: layer.nonzero,
            macs: layer.macs,
            stored_bytes: layer.stored_bytes,
            encoding: largest.map(|c| encoding_name(c.encoding())).unwrap_or_default(),
            bits_per_weight: (layer.params > 0).then(|| bits / layer.params as f64),
            entropy_bits,
            energy_pj: layer.energy_pj,
            coded_bytes,
            params_before: None,
            stored_bytes_before: None,
        }
    });
    rows.collect()
}

/// The layers of a compiled graph, with what the layers of the same names were before.
pub fn compile_layers(before: &Cost, graph: &Graph, after: &Cost, coded: Option<&CodedBytes>) -> Vec<Layer> {
    let was: HashMap<&str, _> = before.layers.iter().map(|layer| (layer.name.as_str(), layer)).collect();
    let mut rows = layers(graph, after, coded);
    for row in &mut rows {
        if let Some(layer) = was.get(row.name.as_str()) {
            row.params_before = Some(layer.params);
            row.stored_bytes_before = Some(layer.stored_bytes);
        }
    }
    rows
}

/// The constants of a graph by encoding, largest first.
pub fn encodings(graph: &Graph, coded: Option<&CodedBytes>) -> Vec<EncodingRow> {
    let mut rows: Vec<EncodingRow> = Vec::new();
    for node in graph.topo_order() {
        let Op::Const(constant) = graph.op(node) else { continue };
        let encoding = encoding_name(constant.encoding());
        let at = rows.iter().position(|row| row.encoding == encoding).unwrap_or_else(|| {
            let coded_bytes = coded.map(|_| 0);
            rows.push(EncodingRow { encoding, constants: 0, elements: 0, stored_bytes: 0, coded_bytes });
            rows.len() - 1
        });
        let row = &mut rows[at];
        row.constants += 1;
        row.elements += constant.len();
        row.stored_bytes += constant.stored_bytes();
        if let (Some(sum), Some(coded)) = (&mut row.coded_bytes, coded) {
            *sum += coded.get(graph.name(node)).copied().unwrap_or(0);
        }
    }
    rows.sort_by(|a, b| b.stored_bytes.cmp(&a.stored_bytes).then_with(|| a.encoding.cmp(&b.encoding)));
    rows
}

/// An encoding in a few words: `sparse bitmap, clustered u4`.
fn encoding_name(encoding: &Encoding) -> String {
    match encoding {
        Encoding::Dense(data) => format!("dense {}", data.dtype()),
        Encoding::Clustered { codes, .. } => format!("clustered u{}", codes.bits()),
        Encoding::Quantized { params, .. } => match params.axis {
            Some(_) => format!("quantized {} bit per channel", params.bits),
            None => format!("quantized {} bit", params.bits),
        },
        Encoding::Sparse { pattern, values } => {
            let pattern = match pattern {
                Pattern::Bitmap(_) => "bitmap".to_owned(),
                Pattern::Csr { .. } => "csr".to_owned(),
                Pattern::Relative(_) => "relative".to_owned(),
                Pattern::NofM { n, m, .. } => format!("{n}:{m}"),
                Pattern::Block { rows, columns, .. } => format!("{rows}×{columns} blocks"),
            };
            format!("sparse {pattern}, {}", encoding_name(values))
        }
    }
}

/// The passes of a run.
pub fn summarize_passes(run: &RunReport) -> Vec<PassRow> {
    let rows = run.passes.iter().map(|pass| PassRow {
        name: pass.name,
        options: pass.options.clone(),
        effect: pass.effect.to_string(),
        ms: pass.time.as_secs_f64() * 1e3,
        changed: pass.changed,
        nodes: pass.after.nodes,
        params: pass.after.params,
        nonzero: pass.after.nonzero,
        stored_bytes: pass.after.stored_bytes,
        remarks: pass
            .remarks
            .iter()
            .map(|r| RemarkRow { kind: r.kind, pass: r.pass, node: r.node.clone(), text: r.text.clone() })
            .collect(),
        nested: pass
            .nested
            .iter()
            .map(|n| NestedRow { name: n.name, runs: n.runs, changes: n.changes, ms: n.time.as_secs_f64() * 1e3 })
            .collect(),
    });
    rows.collect()
}

/// What passes declined, by reason. Names of nodes within a reason are left out, so that one reason given
/// for many nodes is one row.
pub fn skipped(passes: &[PassRow]) -> Vec<SkippedRow> {
    let mut rows: Vec<SkippedRow> = Vec::new();
    for remark in passes.iter().flat_map(|pass| &pass.remarks).filter(|r| r.kind == RemarkKind::Missed) {
        let reason = without_names(&remark.text);
        let at = rows.iter().position(|row| row.pass == remark.pass && row.reason == reason).unwrap_or_else(|| {
            rows.push(SkippedRow { pass: remark.pass, reason, count: 0, nodes: Vec::new() });
            rows.len() - 1
        });
        rows[at].count += 1;
        if rows[at].nodes.len() < MAX_EXAMPLES {
            rows[at].nodes.push(remark.node.clone());
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    rows
}

/// The text with each `%name` replaced by `%…`.
fn without_names(text: &str) -> String {
    let mut words = text.split(' ').map(|word| if word.starts_with('%') { "%…" } else { word });
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |line, word| line + " " + word)
}

#[cfg(test)]
mod tests {
    use optc_ir::{Constant, Form, Tensor};

    use super::*;

    #[test]
    fn reasons_are_grouped_whatever_the_names() {
        let remark = |kind, node: &str, text: &str| RemarkRow { kind, pass: "p", node: node.into(), text: text.into() };
        let passes = [PassRow {
            name: "p",
            options: String::new(),
            effect: String::new(),
            ms: 0.0,
            changed: false,
            nodes: 0,
            params: 0,
            nonzero: 0,
            stored_bytes: 0,
            nested: Vec::new(),
            remarks: vec![
                remark(RemarkKind::Missed, "b", "weights are not constant"),
                remark(RemarkKind::Missed, "c", "conv has another user: %add1"),
                remark(RemarkKind::Missed, "d", "conv has another user: %add2"),
                remark(RemarkKind::Applied, "e", "conv has another user: %add2"),
            ],
        }];
        let rows = skipped(&passes);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].count, rows[0].reason.as_str()), (2, "conv has another user: %…"));
        assert_eq!(rows[0].nodes, ["c", "d"]);
    }

    #[test]
    fn encodings_sum_to_the_whole() {
        let mut graph = Graph::new("g");
        let values: Vec<f32> = (0..64).map(|i| (i % 4) as f32).collect();
        let tensor = Tensor::f32([64], values);
        let clustered = Constant::encode(&tensor, &Form::Clustered).unwrap();
        let stored = clustered.stored_bytes();
        for (name, constant) in [("a", Constant::dense(tensor)), ("b", clustered)] {
            let node = graph.add_constant(name, constant);
            graph.add_result(name, node.into());
        }
        let coded = HashMap::from([("a".to_owned(), 10), ("b".to_owned(), 5)]);
        let rows = encodings(&graph, Some(&coded));
        let seen: Vec<_> = rows.iter().map(|r| (r.encoding.as_str(), r.stored_bytes, r.coded_bytes)).collect();
        assert_eq!(seen, [("dense f32", 256, Some(10)), ("clustered u2", stored, Some(5))]);
    }
}
