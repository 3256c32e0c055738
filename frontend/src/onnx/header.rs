//! The origin an imported graph remembers: the model without its nodes and constants.
//!
//! It keeps versions, opset imports, producer, metadata, documentation, the declared inputs and outputs,
//! functions that carried nodes still call, training information and quantization annotations. Its node
//! list holds stubs: the value names of nodes whose own names do not tell them.

use std::collections::HashSet;
use std::sync::Arc;

use onnx_protobuf::{GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto};
use optc_ir::Graph;
use optc_ir::graph::Origin;
use protobuf::MessageField;

use super::error::{ExportError, ExportErrorKind};
use super::{DEFAULT_IR_VERSION, DEFAULT_OPSET};

/// The first format version that knows initializers which are no inputs.
pub(super) const IR_VERSION_PRIVATE_INITIALIZERS: i64 = 4;

/// What of a model is not in the graph imported from it.
pub(super) fn build(mut model: ModelProto, mut main: GraphProto, stubs: Vec<NodeProto>, graph: &Graph) -> Vec<u8> {
    main.node = stubs;
    main.initializer.clear();
    main.sparse_initializer.clear();
    main.value_info.clear();
    if model.ir_version >= IR_VERSION_PRIVATE_INITIALIZERS {
        let inputs: HashSet<&str> = graph.inputs().iter().map(|&input| graph.name(input)).collect();
        main.input.retain(|info| inputs.contains(info.name.as_str()));
    }
    model.graph = MessageField::some(main);
    model.write_to_bytes().expect("a message that was parsed can be written")
}

/// The model that a graph was imported from, as [`build`] left it; `None` if it came from elsewhere.
///
/// # Errors
/// If the bytes are damaged.
fn parse(graph: &Graph) -> Result<Option<ModelProto>, ExportError> {
    let Some(origin) = graph.origin.as_ref().filter(|origin| origin.format == super::FORMAT) else { return Ok(None) };
    let damaged = |message: String| ExportErrorKind::Origin(message);
    super::wire::check(&origin.header).map_err(|e| damaged(e.to_string()))?;
    let model = ModelProto::parse_from_bytes(&origin.header).map_err(|e| damaged(e.to_string()))?;
    Ok(Some(model))
}

/// The model that a graph was imported from, as [`build`] left it, or an empty one of ours.
///
/// # Errors
/// If the bytes are damaged.
pub(super) fn model(graph: &Graph) -> Result<ModelProto, ExportError> {
    Ok(parse(graph)?.unwrap_or_else(|| ModelProto {
        ir_version: DEFAULT_IR_VERSION,
        producer_name: "optc".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        opset_import: vec![OperatorSetIdProto { version: DEFAULT_OPSET, ..OperatorSetIdProto::default() }],
        ..ModelProto::default()
    }))
}

/// See [`super::metadata`].
pub(super) fn metadata(graph: &Graph, key: &str) -> Result<Option<String>, ExportError> {
    let model = parse(graph)?;
    Ok(model.and_then(|model| model.metadata_props.into_iter().find(|entry| entry.key == key).map(|entry| entry.value)))
}

/// See [`super::set_metadata`].
pub(super) fn set_metadata(graph: &mut Graph, key: &str, value: &str) -> Result<(), ExportError> {
    let mut model = model(graph)?;
    model.metadata_props.retain(|entry| entry.key != key);
    model.metadata_props.push(StringStringEntryProto {
        key: key.to_owned(),
        value: value.to_owned(),
        ..StringStringEntryProto::default()
    });
    let header = model.write_to_bytes().expect("a message that was parsed can be written");
    graph.origin = Some(Arc::new(Origin { format: super::FORMAT.to_owned(), header }));
    Ok(())
}
