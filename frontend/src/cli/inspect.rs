//! `optc inspect`: what is in a model.

use std::collections::BTreeMap;

use optc_ir::{Graph, Op, Type};
use optc_passes::Analysis;
use optc_passes::analysis::Cost;
use serde::Serialize;

use super::args::InspectArgs;
use super::session::{self, Talk};
use crate::error::Error;
use crate::files::Format;
use crate::model::open_dims;
use crate::pack;
use crate::report::table::{Align, Table};
use crate::report::{self, Layer, StorageRow, to_json};

#[derive(Serialize)]
struct Report {
    model: String,
    format: &'static str,
    name: String,
    bytes: u64,
    inputs: Vec<ValueRow>,
    outputs: Vec<ValueRow>,
    /// Nodes, `return`, inputs and constants not counted.
    nodes: usize,
    /// Nodes by operator.
    ops: BTreeMap<String, usize>,
    params: usize,
    nonzero: usize,
    /// Share of the parameters that are zero.
    sparsity: f64,
    macs: u64,
    stored_bits: u64,
    /// Empirical entropy of all constants, each by its own distribution of values.
    entropy_bits: f64,
    energy_pj: f64,
    /// Constants by element type.
    dtypes: BTreeMap<&'static str, DtypeRow>,
    /// Symbols among the extents of the inputs.
    dynamic_dims: Vec<String>,
    opaque_nodes: Vec<OpaqueRow>,
    layers: Vec<Layer>,
    /// What each constant takes in the file, if it is an `.optc`.
    storage: Vec<StorageRow>,
}

#[derive(Serialize)]
struct ValueRow {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    dtype: Option<&'static str>,
    /// Numbers, symbols, and `?` for extents without a name; absent if even the rank is unknown.
    shape: Option<Vec<String>>,
}

#[derive(Default, Serialize)]
struct DtypeRow {
    constants: usize,
    elements: usize,
    stored_bytes: usize,
}

#[derive(Serialize)]
struct OpaqueRow {
    name: String,
    op_type: String,
    domain: String,
}

pub(super) fn inspect(args: &InspectArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let (model, _) = session::open(&args.model, &args.bind, &talk)?;
    let report = describe(&model.graph, args.model.display().to_string(), model.format, model.bytes)?;
    let text = if talk.json { to_json(&report) } else { table(&report, &talk) };
    session::print(text.as_bytes())
}

fn describe(graph: &Graph, model: String, format: Format, bytes: u64) -> Result<Report, Error> {
    // Writing a container again tells what is where in it.
    let packed = match format {
        Format::Optc => Some(pack::write(graph, &pack::PackOptions::default())?.1),
        Format::Onnx | Format::Ir => None,
    };
    let coded = packed.as_ref().map(report::coded_bytes);
    let cost = Cost::of(graph);
    let value = |name: &str, ty: &Type| ValueRow {
        name: name.to_owned(),
        ty: ty.to_string(),
        dtype: ty.dtype().map(|dtype| dtype.name()),
        shape: ty.shape().map(|shape| shape.iter().map(ToString::to_string).collect()),
    };
    let mut ops: BTreeMap<String, usize> = BTreeMap::new();
    let mut dtypes: BTreeMap<&'static str, DtypeRow> = BTreeMap::new();
    let mut opaque_nodes = Vec::new();
    let mut entropy_bits = 0.0;
    for node in graph.topo_order() {
        let name = match graph.op(node) {
            Op::Input(_) | Op::Return(_) | Op::ConstHash(_) => continue,
            Op::Const(constant) => {
                let row = dtypes.entry(constant.dtype().name()).or_default();
                row.constants += 1;
                row.elements += constant.len();
                row.stored_bytes += constant.stored_bytes();
                entropy_bits += optc_passes::analysis::entropy_bits(constant);
                continue;
            }
            Op::Opaque(opaque) => {
                let (op_type, domain) = (opaque.op_type.clone(), opaque.domain.clone());
                opaque_nodes.push(OpaqueRow { name: graph.name(node).to_owned(), op_type, domain });
                opaque.op_type.clone()
            }
            op => op.name().to_owned(),
        };
        *ops.entry(name).or_default() += 1;
    }
    let total = &cost.total;
    Ok(Report {
        model,
        format: format.suffix(),
        name: graph.name.clone(),
        bytes,
        inputs: graph.inputs().iter().map(|&n| value(graph.name(n), graph.ty(n))).collect(),
        outputs: graph.results().into_iter().map(|(name, v)| value(name, graph.ty(v))).collect(),
        nodes: ops.values().sum(),
        ops,
        params: total.params,
        nonzero: total.nonzero,
        sparsity: if total.params == 0 { 0.0 } else { 1.0 - total.nonzero as f64 / total.params as f64 },
        macs: total.macs,
        stored_bits: total.stored_bits,
        entropy_bits,
        energy_pj: total.energy_pj,
        dtypes,
        dynamic_dims: open_dims(graph),
        opaque_nodes,
        layers: report::layers(graph, &cost, coded.as_ref()),
        storage: packed.as_ref().map(|packed| report::storage(graph, packed)).unwrap_or_default(),
    })
}

fn table(report: &Report, talk: &Talk) -> String {
    let style = talk.style;
    let mut text = format!("{}  {}\n\n", style.bold(&report.model), report::bytes(report.bytes));
    let mut facts = Table::new(style, &[("", Align::Left), ("", Align::Left)]);
    for (what, rows) in [("input", &report.inputs), ("output", &report.outputs)] {
        for row in rows {
            facts.row([what.to_owned(), format!("{}: {}", row.name, row.ty)]);
        }
    }
    let open = if report.dynamic_dims.is_empty() { String::new() } else { " (open dimensions count as 1)".to_owned() };
    facts.row(["nodes".to_owned(), report::count(report.nodes as u64)]);
    facts.row(["parameters".to_owned(), report::count(report.params as u64)]);
    facts.row(["zeros".to_owned(), report::percent(report.sparsity)]);
    facts.row(["MACs".to_owned(), format!("{}{open}", report::count(report.macs))]);
    facts.row(["energy, estimated".to_owned(), report::energy(report.energy_pj)]);
    let stored = report::bytes(report.stored_bits / 8);
    facts.row(["constants".to_owned(), format!("{stored} as kept in memory")]);
    let entropy = report::bytes((report.entropy_bits / 8.0).ceil() as u64);
    let each = if report.params == 0 { 0.0 } else { report.entropy_bits / report.params as f64 };
    facts.row(["entropy".to_owned(), format!("{entropy}, {each:.2} bits a parameter")]);
    for (dtype, row) in &report.dtypes {
        let (constants, stored) = (report::count(row.constants as u64), report::bytes(row.stored_bytes as u64));
        facts.row([format!("  {dtype}"), format!("{constants} constants, {stored}")]);
    }
    text += facts.render().split_once('\n').map_or("", |(_, rest)| rest).split_once('\n').map_or("", |(_, rest)| rest);
    text += &format!("\n{}\n", style.bold("Operators"));
    let mut ops: Vec<(&String, &usize)> = report.ops.iter().collect();
    ops.sort_by(|a, b| b.1.cmp(a.1));
    let list: Vec<String> = ops.iter().map(|(op, n)| format!("{n} {op}")).collect();
    text += &format!(" {}\n", list.join(", "));
    if !report.opaque_nodes.is_empty() {
        text += &format!("\n{}\n", style.bold("Carried without being known"));
        let mut opaque = Table::new(style, &[("node", Align::Left), ("operator", Align::Left)]);
        for row in &report.opaque_nodes {
            let domain = if row.domain.is_empty() { String::new() } else { format!("{}.", row.domain) };
            opaque.row([row.name.clone(), format!("{domain}{}", row.op_type)]);
        }
        text += &opaque.render();
    }
    if !report.layers.is_empty() {
        text += &format!("\n{}\n", style.bold("Layers"));
        text += &report::layer_table(&report.layers, style, talk.verbose());
    }
    if !report.storage.is_empty() {
        text += &format!("\n{}\n", style.bold("Constants in the .optc"));
        text += &report::storage_table(&report.storage, style);
    }
    text
}
