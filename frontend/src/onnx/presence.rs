//! Zeros that must be written.
//!
//! The message types here are those of protocol buffers' third syntax, which leaves out fields that are
//! zero. ONNX's own library reads the second syntax and takes a missing number for an attribute that is not
//! there, so that `axis = 0` would mean the operator's default. Before a model is written, such fields are
//! added in their wire form.

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, GraphProto, ModelProto, NodeProto};
use protobuf::UnknownValue;

/// Field numbers in `AttributeProto`.
const FIELD_F: u32 = 2;
const FIELD_I: u32 = 3;
const FIELD_S: u32 = 4;

/// Makes every attribute of a model hold its value explicitly.
pub(super) fn restore(model: &mut ModelProto) {
    model.graph.as_mut().into_iter().for_each(in_graph);
    for function in &mut model.functions {
        function.attribute_proto.iter_mut().for_each(in_attribute);
        function.node.iter_mut().for_each(in_node);
    }
    for training in &mut model.training_info {
        training.initialization.as_mut().into_iter().chain(training.algorithm.as_mut()).for_each(in_graph);
    }
}

fn in_graph(graph: &mut GraphProto) {
    graph.node.iter_mut().for_each(in_node);
}

fn in_node(node: &mut NodeProto) {
    node.attribute.iter_mut().for_each(in_attribute);
}

fn in_attribute(attr: &mut AttributeProto) {
    attr.g.as_mut().into_iter().chain(&mut attr.graphs).for_each(in_graph);
    if !attr.ref_attr_name.is_empty() {
        return;
    }
    let (field, zero) = match attr.type_.enum_value_or_default() {
        AttributeType::INT if attr.i == 0 => (FIELD_I, UnknownValue::Varint(0)),
        AttributeType::FLOAT if attr.f.to_bits() == 0 => (FIELD_F, UnknownValue::Fixed32(0)),
        AttributeType::STRING if attr.s.is_empty() => (FIELD_S, UnknownValue::LengthDelimited(Vec::new())),
        _ => return,
    };
    attr.special_fields.mut_unknown_fields().add_value(field, zero);
}
