//! ONNX models in and out. Small models must import as their snapshot says, `tests/onnx/<case>.onnx`; wrong
//! ones must be refused with the message of theirs, `tests/onnx/errors/<case>.onnx`. Whatever is imported
//! must export and import again as the same graph, and what optc does not know must come out as it went in.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use onnx_protobuf::{GraphProto, Message, ModelProto, NodeProto};
use optc::onnx::{Imported, export, import_bytes, import_file, import_file_with_remarks};
use optc_ir::{Graph, Op, verify};
use optc_tests::case::round_trip;
use optc_tests::{diff, files, root, snapshot};

mod cases {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

mod errors {
    include!(concat!(env!("OUT_DIR"), "/onnx_errors.rs"));
}

mod models {
    include!(concat!(env!("OUT_DIR"), "/models.rs"));
}

fn path(folder: &str, name: &str) -> PathBuf {
    root().join(folder).join(format!("{name}.onnx"))
}

/// The snapshot is the graph, and why nodes are carried.
fn check_import(folder: &str, name: &str) {
    let path = path(folder, name);
    let Imported { graph, remarks } = import_file_with_remarks(&path).unwrap_or_else(|e| panic!("{e}"));
    let mut text = graph.to_string();
    for remark in remarks {
        writeln!(text, "{remark}").expect("a String takes any text");
    }
    snapshot(folder, name, &text);
    let carried = survives(&path, &graph).unwrap_or_else(|e| panic!("{folder}/{name}.onnx: {e}"));
    assert_eq!(carried > 0, name.ends_with("_carried"), "{folder}/{name}.onnx: {carried} nodes are carried");
}

fn check_model(folder: &str, name: &str) {
    let path = path(folder, name);
    let graph = import_file(&path).unwrap_or_else(|e| panic!("{e}"));
    survives(&path, &graph).unwrap_or_else(|e| panic!("{folder}/{name}.onnx: {e}"));
}

/// The snapshot is the message, the file named relative to this crate.
fn check_error(folder: &str, name: &str) {
    let path = path(folder, name);
    let message = match import_file(&path) {
        Ok(graph) => panic!("{folder}/{name}.onnx is imported:\n{graph}"),
        Err(error) => error.to_string(),
    };
    let prefix = format!("{}/", root().display());
    let message = message.strip_prefix(&prefix).unwrap_or_else(|| panic!("{message} does not begin with the file"));
    snapshot(folder, name, message);
}

/// Checks that a graph is sound, that its export imports as the same graph, and that the export holds what the
/// graph does not: what the model says of itself, and carried nodes. The number of these.
fn survives(path: &Path, graph: &Graph) -> Result<usize, String> {
    verify::verify(graph).map_err(|e| e.to_string())?;
    round_trip(graph)?;
    let bytes = export(graph).map_err(|e| e.to_string())?;
    let again = import_bytes(&bytes, None).map_err(|e| format!("the export: {e}"))?;
    if again != *graph {
        let difference = diff::diff(&graph.to_string(), &again.to_string());
        return Err(format!("the export imports as another graph:\n{difference}"));
    }
    let read = std::fs::read(path).map_err(|e| e.to_string())?;
    let parse = |bytes: &[u8]| ModelProto::parse_from_bytes(bytes).map_err(|e| e.to_string());
    let (before, after) = (parse(&read)?, parse(&bytes)?);
    same_head(&before, &after)?;
    let (before, after) = (nodes_by_output(&before.graph), nodes_by_output(&after.graph));
    let mut carried = 0;
    for node in graph.nodes().filter(|&node| matches!(graph.op(node), Op::Opaque(_))) {
        carried += 1;
        let name = graph.name(node);
        let written = after.values().find(|n| n.name == name || n.output.iter().any(|output| output == name));
        let written = written.ok_or(format!("{name} is not written"))?;
        let original = written.output.iter().find_map(|output| before.get(output));
        // Of a function or a branch that was expanded, the file holds no such node.
        if original.is_some_and(|original| original != written) {
            return Err(format!("{name} was\n{:?}\nand is\n{written:?}", original.unwrap_or(written)));
        }
    }
    Ok(carried)
}

fn nodes_by_output(graph: &GraphProto) -> BTreeMap<String, NodeProto> {
    let outputs = |node: &NodeProto| node.output.iter().filter(|name| !name.is_empty()).cloned().collect::<Vec<_>>();
    let nodes = graph.node.iter();
    nodes.flat_map(|node| outputs(node).into_iter().map(move |name| (name, node.clone()))).collect()
}

/// What a model says of itself and of its signature.
fn same_head(before: &ModelProto, after: &ModelProto) -> Result<(), String> {
    let same = |what: &str, same: bool| if same { Ok(()) } else { Err(format!("{what} changed")) };
    same("the version of the format", before.ir_version == after.ir_version)?;
    same("the opset imports", after.opset_import.starts_with(&before.opset_import))?;
    same("the metadata", before.metadata_props == after.metadata_props)?;
    same("the producer", before.producer_name == after.producer_name)?;
    same("the version of the producer", before.producer_version == after.producer_version)?;
    same("the domain", before.domain == after.domain)?;
    same("the version of the model", before.model_version == after.model_version)?;
    same("the documentation", before.doc_string == after.doc_string)?;
    same("the documentation of the graph", before.graph.doc_string == after.graph.doc_string)?;
    same("the inputs", before.graph.input == after.graph.input)?;
    same("the outputs", before.graph.output == after.graph.output)
}

/// A model that is cut off anywhere is refused, or what is left is a whole model without its tail.
#[test]
fn truncated_models_are_errors() {
    let mut refused = 0;
    for path in files(&root().join("onnx"), "onnx") {
        let bytes = std::fs::read(&path).expect("the file was just listed");
        for len in 0..bytes.len() {
            match import_bytes(&bytes[..len], path.parent()) {
                Ok(graph) => verify::verify(&graph).unwrap_or_else(|e| panic!("{} cut to {len}: {e}", path.display())),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 1000, "only {refused} are refused");
}

/// Old models list initializers among the inputs as well, with types that change when channels go.
#[test]
fn initializers_among_the_inputs_are_declared_as_they_are() {
    let mut model = optc::Model::load(path("models", "mnist_cntk")).expect("the model is there");
    let pipeline = optc_passes::pipeline::parse("simplify,prune-filters").expect("the pipeline is valid");
    optc_passes::PassManager::new(&optc_ir::Interp).run(&pipeline, &mut model.graph).expect("the passes run");
    let bytes = export(&model.graph).expect("the graph exports");
    let graph = ModelProto::parse_from_bytes(&bytes).expect("the export is a model").graph;
    let declared: BTreeMap<&str, Vec<i64>> =
        graph.input.iter().map(|info| (info.name.as_str(), extents(info))).collect();
    let kernels = graph.initializer.iter().filter(|tensor| tensor.dims.len() == 4);
    let mut seen = 0;
    for kernel in kernels {
        assert_eq!(declared.get(kernel.name.as_str()), Some(&kernel.dims), "{}", kernel.name);
        seen += 1;
    }
    assert_eq!(seen, 2);
}

fn extents(info: &onnx_protobuf::ValueInfoProto) -> Vec<i64> {
    let shape = &info.type_.tensor_type().shape;
    shape.dim.iter().map(|dim| dim.dim_value()).collect()
}
