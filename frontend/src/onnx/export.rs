//! From a graph to an ONNX model.
//!
//! Names first: inputs and results have theirs, inner values get the name their node had in the source file,
//! or the node's own. Then the nodes in topological order, each in the form of the model's opset. What no
//! result needs (a constant that this opset writes as an attribute, nodes that it has one for) is dropped at the end.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use onnx_protobuf::{GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use optc_ir::op::{Op, Opaque};
use optc_ir::{Constant, Graph, NodeId, Type, ValueId};
use protobuf::MessageField;

use super::error::{ExportError, ExportErrorKind};
use super::target::{Body, Target};
use super::{DEFAULT_OPSET, functions, header, ops, presence, subgraph, tensor, types};

/// The largest message a protocol buffer may hold.
const MAX_BYTES: u64 = 2_147_483_647;

/// The model a graph is.
///
/// # Errors
/// If the model's opset can't say an operator, or the model is too large.
pub(super) fn export(graph: &Graph) -> Result<Exported, ExportError> {
    let mut model = model(graph)?;
    presence::restore(&mut model);
    let size = model.compute_size();
    if size > MAX_BYTES {
        return Err(ExportErrorKind::TooLarge(size).into());
    }
    Ok(Exported { model, size })
}

/// An ONNX model ready to be written.
pub struct Exported {
    model: ModelProto,
    size: u64,
}

impl Exported {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes it piece by piece, without a second copy of its weights in memory.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        self.model.write_to_writer(out).map_err(io::Error::from)
    }

    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.model.write_to_bytes().expect("a message below the size limit can be written")
    }
}

fn model(graph: &Graph) -> Result<ModelProto, ExportError> {
    let mut model = header::model(graph)?;
    let mut main = model.graph.take().unwrap_or_default();
    main.name.clone_from(&graph.name);
    let imported = model.opset_import.iter().find(|import| functions::domain(&import.domain).is_empty());
    let opset = imported.map(|import| import.version);
    let initializer_inputs = model.ir_version < header::IR_VERSION_PRIVATE_INITIALIZERS;
    let overridable =
        if initializer_inputs { Some(main.input.iter().map(|info| info.name.clone()).collect()) } else { None };
    let mut exporter = Exporter {
        graph,
        names: HashMap::new(),
        stubs: std::mem::take(&mut main.node).into_iter().map(|stub| (stub.name, stub.output)).collect(),
        value_info: Vec::new(),
        body: Body {
            nodes: Vec::new(),
            initializers: Vec::new(),
            names: HashSet::new(),
            opset: opset.unwrap_or(DEFAULT_OPSET),
            overridable,
        },
    };
    exporter.fix_names()?;
    for node in graph.topo_order() {
        exporter.node(node)?;
    }
    exporter.results();
    exporter.drop_unused();
    let Exporter { body, value_info, .. } = exporter;
    if opset.is_none() && body.nodes.iter().any(|node| functions::domain(&node.domain).is_empty()) {
        model.opset_import.push(OperatorSetIdProto { version: body.opset, ..OperatorSetIdProto::default() });
    }
    declare(graph, &mut main, &body);
    main.quantization_annotation.retain(|annotation| body.names.contains(&annotation.tensor_name));
    main.value_info = value_info;
    main.node = body.nodes;
    main.initializer = body.initializers;
    model.graph = MessageField::some(main);
    Ok(model)
}

struct Exporter<'a> {
    graph: &'a Graph,
    names: HashMap<ValueId, String>,
    /// Value names by node name, as the source file had them.
    stubs: HashMap<String, Vec<String>>,
    value_info: Vec<ValueInfoProto>,
    body: Body,
}

impl Exporter<'_> {
    /// Inputs and results have their names; names within carried graphs stay free of outer values.
    fn fix_names(&mut self) -> Result<(), ExportError> {
        let graph = self.graph;
        for &input in graph.inputs() {
            self.body.names.insert(graph.name(input).to_owned());
            self.names.insert(input.into(), graph.name(input).to_owned());
        }
        for (name, value) in graph.results() {
            let taken = !self.body.names.insert(name.to_owned());
            if taken && self.names.get(&value).is_none_or(|own| own != name) {
                let message = format!("result {name} has the name of another input or result");
                return Err(ExportErrorKind::Inexpressible(message).into());
            }
            self.names.entry(value).or_insert_with(|| name.to_owned());
        }
        for node in graph.nodes() {
            if let Op::Opaque(opaque) = graph.op(node) {
                subgraph::inner_names(&parse(opaque)?, &mut self.body.names);
            }
        }
        Ok(())
    }

    /// The name of a result of a node, chosen on first use.
    fn name(&mut self, value: ValueId) -> String {
        if let Some(name) = self.names.get(&value) {
            return name.clone();
        }
        let own = self.graph.name(value.node);
        let result = usize::from(value.result);
        let stub = self.stubs.get(own).and_then(|names| names.get(result)).filter(|name| !name.is_empty());
        let wish = match (stub, result) {
            (Some(name), _) => name.clone(),
            (None, 0) => own.to_owned(),
            (None, result) => format!("{own}.{result}"),
        };
        let name = self.body.unique(&wish);
        self.names.insert(value, name.clone());
        name
    }

    fn node(&mut self, node: NodeId) -> Result<(), ExportError> {
        match self.graph.op(node) {
            Op::Input(_) | Op::Return(_) => Ok(()),
            Op::Const(constant) => {
                let name = self.name(node.into());
                self.body.add_constant(initializer(&name, constant));
                Ok(())
            }
            Op::ConstHash(_) => Err(ExportError {
                node: Some(self.graph.name(node).to_owned()),
                op: "const".to_owned(),
                kind: ExportErrorKind::Inexpressible("only the hash of its elements is known".to_owned()),
            }),
            Op::Opaque(opaque) => self.opaque(node, opaque),
            op => {
                let inputs = self.inputs(node);
                let outputs = self.outputs(node, op);
                ops::export(op, &mut Target::new(self.graph, node, inputs, outputs, &self.names, &mut self.body))
            }
        }
    }

    fn inputs(&mut self, node: NodeId) -> Vec<String> {
        let operands = self.graph.operands(node);
        operands.into_iter().map(|value| value.map_or_else(String::new, |value| self.name(value))).collect()
    }

    /// Results beyond the first that nobody uses are not written where ONNX lets them be absent.
    fn outputs(&mut self, node: NodeId, op: &Op) -> Vec<String> {
        let optional = matches!(op, Op::Rnn(_) | Op::Gru(_) | Op::Lstm(_) | Op::MaxPool(_));
        let layer = !matches!(op, Op::MaxPool(_));
        (0..self.graph.result_count(node))
            .map(|result| {
                let value = node.result(result);
                let skip = optional && (layer || result > 0) && self.graph.uses(value).is_empty();
                if skip { String::new() } else { self.name(value) }
            })
            .collect()
    }

    /// The node as it came, on the values as they are called now.
    fn opaque(&mut self, node: NodeId, opaque: &Opaque) -> Result<(), ExportError> {
        let mut proto = parse(opaque)?;
        let operands = self.inputs(node);
        subgraph::unpack(&mut proto, operands, |result| self.name(node.result(result)));
        for (result, output) in proto.output.iter().enumerate().filter(|(_, output)| !output.is_empty()) {
            self.value_info.extend(types::export(output, self.graph.ty(node.result(result))));
        }
        self.body.nodes.push(proto);
        Ok(())
    }

    /// A result that is an input, or a value of another result's name, takes an identity.
    fn results(&mut self) {
        for (name, value) in self.graph.results() {
            let source = self.name(value);
            if source != name {
                self.body.nodes.push(NodeProto {
                    name: name.to_owned(),
                    op_type: "Identity".to_owned(),
                    input: vec![source],
                    output: vec![name.to_owned()],
                    ..NodeProto::default()
                });
            }
        }
    }

    fn drop_unused(&mut self) {
        let results: HashSet<String> = self.graph.results().iter().map(|(name, _)| (*name).to_owned()).collect();
        self.value_info.retain(|info| !results.contains(&info.name));
        let mut used = results;
        let mut kept: Vec<NodeProto> = Vec::with_capacity(self.body.nodes.len());
        for node in std::mem::take(&mut self.body.nodes).into_iter().rev() {
            if node.output.iter().any(|name| used.contains(name)) {
                used.extend(node.input.iter().cloned());
                used.extend(subgraph::captured(&node));
                kept.push(node);
            }
        }
        kept.reverse();
        self.body.nodes = kept;
        self.body.initializers.retain(|tensor| used.contains(&tensor.name));
    }
}

fn parse(opaque: &Opaque) -> Result<NodeProto, ExportError> {
    NodeProto::parse_from_bytes(&opaque.payload).map_err(|e| ExportErrorKind::Origin(e.to_string()).into())
}

fn initializer(name: &str, constant: &Constant) -> TensorProto {
    match constant.as_dense() {
        Some(data) => tensor::encode(name, constant.shape(), data),
        None => tensor::encode(name, constant.shape(), constant.decode().data()),
    }
}

fn initializer_type(tensor: &TensorProto) -> Type {
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    match (types::dtype(tensor.data_type), dims) {
        (Some(dtype), Some(dims)) => Type::tensor(dtype, dims),
        _ => Type::Unknown,
    }
}

/// Inputs and outputs as the source file declared them, where their types are still the same.
fn declare(graph: &Graph, main: &mut GraphProto, body: &Body) {
    let declared_inputs = std::mem::take(&mut main.input);
    let mut bound: HashSet<String> = HashSet::new();
    for &input in graph.inputs() {
        let declared = declared_inputs.iter().find(|info| info.name == graph.name(input));
        match declared {
            Some(info) if types::import(&info.name, info.type_.as_ref()).ok().as_ref() == Some(graph.ty(input)) => {
                main.input.push(info.clone());
            }
            _ => {
                bound.extend(declared.into_iter().flat_map(types::symbols));
                let bare = || ValueInfoProto { name: graph.name(input).to_owned(), ..ValueInfoProto::default() };
                main.input.push(types::export(graph.name(input), graph.ty(input)).unwrap_or_else(bare));
            }
        }
    }
    // Old models list what has an initial value among the inputs, too; its type may be another by now.
    for info in declared_inputs {
        let Some(tensor) = body.initializers.iter().find(|tensor| tensor.name == info.name) else { continue };
        let ty = initializer_type(tensor);
        let old = types::import(&info.name, info.type_.as_ref()).unwrap_or(Type::Unknown);
        let new = if types::compatible(&old, &ty) { None } else { types::export(&info.name, &ty) };
        main.input.push(new.unwrap_or(info));
    }
    let declared_outputs = std::mem::take(&mut main.output);
    for (name, value) in graph.results() {
        let ty = graph.ty(value);
        let declared = declared_outputs.iter().find(|info| info.name == name);
        let kept = declared.filter(|info| {
            let old = types::import(&info.name, info.type_.as_ref()).unwrap_or(Type::Unknown);
            types::compatible(&old, ty) && types::symbols(info).all(|symbol| !bound.contains(&symbol))
        });
        let bare = || ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() };
        main.output.push(kept.cloned().or_else(|| types::export(name, ty)).unwrap_or_else(bare));
    }
}
