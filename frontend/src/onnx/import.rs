//! From an ONNX model to a graph.
//!
//! Nodes are taken in file order, which ONNX requires to be topological. A node that the operator table
//! refuses, or that does not pass its type rule, is carried unchanged; so is every node of another domain.
//! Calls of the model's own functions and the taken branch of a decided `If` are walked in place.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use onnx_protobuf::{
    FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto,
};
use optc_ir::graph::{MAX_SLOTS, Origin};
use optc_ir::op::{Op, Opaque};
use optc_ir::{Constant, Graph, NodeId, Remark, RemarkKind, Tensor, Type, ValueId};

use super::constants::{self, Value};
use super::error::{ImportError, ImportErrorKind};
use super::fold::Known;
use super::functions::{self, Functions, MAX_CALL_DEPTH};
use super::ops;
use super::source::{Arg, Source, Step};
use super::split::Payloads;
use super::{header, subgraph, types};

/// The oldest opset whose operators are translated; nodes of older models are carried.
pub(super) const MIN_OPSET: i64 = 7;

/// Nodes of a graph, functions expanded. Calls of calls can multiply a small file without bound.
const MAX_NODES: usize = 2_000_000;

/// Versions of operators by domain.
type Opsets = BTreeMap<String, i64>;

fn opsets(imports: &[OperatorSetIdProto]) -> Rc<Opsets> {
    Rc::new(imports.iter().map(|i| (functions::domain(&i.domain).to_owned(), i.version)).collect())
}

/// The names that one list of nodes sees.
struct Scope<'s> {
    /// The graph around this one; a function sees nothing outside.
    parent: Option<&'s Scope<'s>>,
    /// Values by name; a function's parameter may have none.
    values: HashMap<String, Option<ValueId>>,
    declared: HashMap<String, TypeProto>,
    opsets: Rc<Opsets>,
    /// Set before names that are local to a function.
    prefix: String,
    /// Functions around this one.
    depth: usize,
}

impl Scope<'_> {
    fn lookup(&self, name: &str) -> Option<Option<ValueId>> {
        match self.values.get(name) {
            Some(&value) => Some(value),
            None => self.parent.and_then(|parent| parent.lookup(name)),
        }
    }

    fn define(&mut self, name: &str, value: Option<ValueId>) -> Result<(), ImportErrorKind> {
        match self.values.insert(name.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(ImportErrorKind::Redefined(name.to_owned())),
        }
    }
}

fn declared<'a>(infos: impl IntoIterator<Item = &'a ValueInfoProto>) -> HashMap<String, TypeProto> {
    infos.into_iter().filter_map(|info| Some((info.name.clone(), info.type_.as_ref()?.clone()))).collect()
}

struct Importer {
    graph: Graph,
    functions: Functions,
    /// Names of nodes that are no names of values, and so free to be taken as they are.
    value_names: HashSet<String>,
    node_names: HashSet<String>,
    /// Value names of nodes whose own name does not tell them, for the header.
    stubs: Vec<NodeProto>,
    remarks: Vec<Remark>,
    known: Known,
    /// Versions the written model imports: the model's own, and those of carried nodes of functions.
    opsets: Opsets,
    /// Whether a carried node means another version of its operator than the model imports.
    conflict: bool,
    unfold_budget: usize,
    node_count: usize,
}

/// The graph of a model whose external data is loaded, and what was carried unchanged, and why. `payloads` has
/// the bytes that its initializers lack.
///
/// # Errors
/// If the model is not sound.
pub(super) fn import(mut model: ModelProto, payloads: &mut Payloads<'_>) -> Result<(Graph, Vec<Remark>), ImportError> {
    let mut main = model.graph.take().ok_or(ImportErrorKind::NoGraph)?;
    let functions = Functions::of(&model)?;
    let nodes = std::mem::take(&mut main.node);
    let value_names = nodes.iter().flat_map(|node| node.output.iter().cloned()).collect();
    let mut importer = Importer {
        graph: Graph::new(if main.name.is_empty() { "main" } else { &main.name }),
        functions,
        value_names,
        node_names: HashSet::new(),
        stubs: Vec::new(),
        remarks: Vec::new(),
        known: Known::for_model(&model, &nodes),
        opsets: opsets(&model.opset_import).as_ref().clone(),
        conflict: false,
        unfold_budget: constants::MAX_UNFOLDED,
        node_count: 0,
    };
    let mut scope = Scope {
        parent: None,
        values: HashMap::new(),
        declared: declared(main.value_info.iter().chain(&main.output)),
        opsets: opsets(&model.opset_import),
        prefix: String::new(),
        depth: 0,
    };
    importer.inputs(&main, &mut scope)?;
    importer.initializers(&mut main, Some(payloads), &mut scope)?;
    importer.nodes(nodes, main.output.iter().map(|info| &info.name), &mut scope)?;
    importer.results(&main, &scope)?;
    importer.graph.gc();
    let carried = importer.carried();
    importer.functions.keep_reached(&mut model, carried.iter());
    for (domain, version) in importer.opsets {
        if !model.opset_import.iter().any(|import| functions::domain(&import.domain) == domain) {
            model.opset_import.push(OperatorSetIdProto { domain, version, ..OperatorSetIdProto::default() });
        }
    }
    let header = header::build(model, main, importer.stubs, &importer.graph);
    importer.graph.origin = Some(Arc::new(Origin { format: super::FORMAT.to_owned(), header }));
    Ok((importer.graph, importer.remarks))
}

impl Importer {
    /// Inputs that have an initializer are constants and no part of the signature.
    fn inputs(&mut self, main: &GraphProto, scope: &mut Scope<'_>) -> Result<(), ImportErrorKind> {
        let dense = main.initializer.iter().map(|tensor| tensor.name.as_str());
        let initialized: HashSet<&str> =
            dense.chain(main.sparse_initializer.iter().map(subgraph::sparse_name)).collect();
        self.value_names.extend(initialized.iter().map(|&name| name.to_owned()));
        self.value_names.extend(main.input.iter().map(|info| info.name.clone()));
        for info in main.input.iter().filter(|info| !initialized.contains(info.name.as_str())) {
            let ty = types::import(&info.name, info.type_.as_ref())?;
            if info.name.is_empty() {
                return Err(ImportErrorKind::Value {
                    name: "(unnamed)".into(),
                    message: "an input has no name".into(),
                });
            }
            if scope.values.contains_key(&info.name) {
                return Err(ImportErrorKind::Redefined(info.name.clone()));
            }
            let node = self.graph.add_input(&info.name, ty);
            scope.define(&info.name, Some(node.into()))?;
        }
        Ok(())
    }

    fn initializers(
        &mut self,
        graph: &mut GraphProto,
        mut payloads: Option<&mut Payloads<'_>>,
        scope: &mut Scope<'_>,
    ) -> Result<(), ImportErrorKind> {
        for (i, tensor) in std::mem::take(&mut graph.initializer).into_iter().enumerate() {
            let name = tensor.name.clone();
            let stored = payloads.as_mut().map(|payloads| payloads.of_initializer(i)).transpose()?.flatten();
            let value = constants::of_tensor(&name, tensor, stored)?;
            self.define_constant(&name, value, scope)?;
        }
        for sparse in std::mem::take(&mut graph.sparse_initializer) {
            let name = subgraph::sparse_name(&sparse).to_owned();
            let value = constants::of_sparse(&name, &sparse, &mut self.unfold_budget)?;
            self.define_constant(&name, value, scope)?;
        }
        Ok(())
    }

    fn define_constant(&mut self, name: &str, value: Value, scope: &mut Scope<'_>) -> Result<(), ImportErrorKind> {
        let node = match value {
            Value::Tensor(tensor) => self.constant(&format!("{}{name}", scope.prefix), tensor),
            Value::Foreign(mut node) => self.carry(&mut node, name, &[], scope)?,
        };
        scope.define(name, Some(node.into()))
    }

    fn constant(&mut self, name: &str, tensor: Tensor) -> NodeId {
        self.graph.add_constant(name, Constant::dense(tensor))
    }

    fn results(&mut self, main: &GraphProto, scope: &Scope<'_>) -> Result<(), ImportErrorKind> {
        if main.output.len() > MAX_SLOTS {
            return Err(ImportErrorKind::Limit(format!("the graph has {} outputs", main.output.len())));
        }
        let mut seen = HashSet::new();
        for info in &main.output {
            let value = scope.lookup(&info.name).flatten();
            let value = value.ok_or_else(|| ImportErrorKind::Undefined(info.name.clone()))?;
            if !seen.insert(&info.name) {
                return Err(ImportErrorKind::Redefined(info.name.clone()));
            }
            self.graph.add_result(&info.name, value);
        }
        Ok(())
    }

    /// Adds nodes in order; `results` are the names that are read from outside.
    fn nodes<'n>(
        &mut self,
        mut nodes: Vec<NodeProto>,
        results: impl Iterator<Item = &'n String>,
        scope: &mut Scope<'_>,
    ) -> Result<(), ImportError> {
        subgraph::drop_training_outputs(&mut nodes, results);
        for mut node in nodes {
            self.node(&mut node, scope).map_err(|mut error| {
                if error.node.is_none() {
                    let output = node.output.iter().find(|name| !name.is_empty()).cloned().unwrap_or_default();
                    error.node = Some(if node.name.is_empty() { output } else { node.name.clone() });
                    error.op_type.clone_from(&node.op_type);
                }
                error
            })?;
        }
        Ok(())
    }

    fn node(&mut self, node: &mut NodeProto, scope: &mut Scope<'_>) -> Result<(), ImportError> {
        self.node_count += 1;
        if self.node_count > MAX_NODES {
            let message = format!("the graph has more than {MAX_NODES} nodes, functions expanded");
            return Err(ImportErrorKind::Limit(message).into());
        }
        let mut operands = Vec::with_capacity(node.input.len());
        for name in &node.input {
            operands.push(match name.as_str() {
                "" => None,
                name => scope.lookup(name).ok_or_else(|| ImportErrorKind::Undefined(name.to_owned()))?,
            });
        }
        // ONNX has no side effects: a node nobody can use does nothing.
        let Some(first) = node.output.iter().find(|name| !name.is_empty()).cloned() else { return Ok(()) };
        let name = self.name(node, &first, scope);
        if let Some(function) = self.functions.called_by(node) {
            return self.call_or_carry(node, &function, operands, &name, scope);
        }
        let standard = functions::domain(&node.domain).is_empty();
        let opset = scope.opsets.get("").copied().unwrap_or(0);
        if standard && node.op_type == "Constant" {
            let tensor = constants::of_node(&first, node, &mut self.unfold_budget)?;
            if let Some(tensor) = tensor {
                let id = self.constant(&format!("{}{first}", scope.prefix), tensor);
                return Ok(scope.define(&first, Some(id.into()))?);
            }
        }
        if standard
            && node.op_type == "If"
            && let Some(branch) = self.decided_branch(node, &operands)
        {
            return self.branch(branch, node, scope);
        }
        let reason = if !standard && node.domain != ops::CONTRIB {
            format!("domain {}", node.domain)
        } else if opset < MIN_OPSET {
            format!("opset {opset} is older than {MIN_OPSET}")
        } else {
            match self.translate(node, operands.clone(), opset, &name) {
                Ok(id) => return Ok(self.define_results(id, node, scope)?),
                Err(reason) => reason,
            }
        };
        let id = self.carry(node, &name, &operands, scope)?;
        if node.op_type != "Constant" {
            let text = format!("{} is carried unchanged: {reason}", node.op_type);
            let node = self.graph.name(id).to_owned();
            self.remarks.push(Remark { kind: RemarkKind::Note, pass: "import", node, text });
        }
        Ok(self.define_results(id, node, scope)?)
    }

    /// The name of the node in the graph: its own if it has one that is no value's and no other node's,
    /// that of its first output otherwise.
    fn name(&mut self, node: &NodeProto, first: &str, scope: &Scope<'_>) -> String {
        let own = format!("{}{}", scope.prefix, node.name);
        let free = !node.name.is_empty()
            && (!self.value_names.contains(&own) || own == format!("{}{first}", scope.prefix))
            && self.node_names.insert(own.clone());
        if free { own } else { format!("{}{first}", scope.prefix) }
    }

    /// Adds the node as an operator of the IR, or says why that can't be.
    fn translate(
        &mut self,
        node: &NodeProto,
        operands: Vec<Option<ValueId>>,
        opset: i64,
        name: &str,
    ) -> Result<NodeId, String> {
        let mapped = ops::import(Source::new(node, opset, &self.graph, operands)).map_err(|refusal| refusal.0)?;
        let results = optc_ir::op::infer::result_count(&mapped.op);
        if node.output.len() > results {
            return Err(format!("output {results}"));
        }
        if results > MAX_SLOTS {
            return Err("too many results".to_owned());
        }
        let mut steps = Vec::with_capacity(mapped.steps.len());
        for Step { suffix, op, args } in mapped.steps {
            let id = self.add_step(&format!("{name}.{suffix}"), op, args, (name, &steps))?;
            steps.push(id);
        }
        self.add_step(name, mapped.op, mapped.args, (name, &steps))
    }

    /// Adds an operator that a node becomes, after the steps before it.
    fn add_step(
        &mut self,
        own: &str,
        op: Op,
        args: Vec<Arg>,
        (name, steps): (&str, &[NodeId]),
    ) -> Result<NodeId, String> {
        if args.len() > MAX_SLOTS {
            return Err("too many operands".to_owned());
        }
        let mut operands = Vec::with_capacity(args.len());
        for arg in args {
            operands.push(match arg {
                Arg::Value(value) => value,
                Arg::Constant(suffix, tensor) => Some(self.constant(&format!("{name}.{suffix}"), tensor).into()),
                Arg::Step(step, result) => Some(steps[step].result(result)),
            });
        }
        while operands.last() == Some(&None) {
            operands.pop();
        }
        let id = self.graph.add(own, op, &operands).map_err(|error| error.to_string())?;
        self.known.record(&self.graph, id);
        Ok(id)
    }

    /// Adds the node as it is, its attributes moved. Its operands are its inputs and then what its graphs
    /// capture.
    fn carry(
        &mut self,
        node: &mut NodeProto,
        name: &str,
        operands: &[Option<ValueId>],
        scope: &Scope<'_>,
    ) -> Result<NodeId, ImportErrorKind> {
        let (payload, captured) = subgraph::pack(node);
        let mut operands = operands.to_vec();
        for name in captured {
            operands.push(scope.lookup(&name).ok_or(ImportErrorKind::Undefined(name))?);
        }
        for count in [operands.len(), node.output.len()] {
            if count > MAX_SLOTS {
                return Err(ImportErrorKind::Limit(format!("the node has {count} inputs or outputs")));
            }
        }
        self.check_versions(&payload, scope);
        let ty = |name: &String| types::import(name, scope.declared.get(name)).unwrap_or(Type::Unknown);
        let opaque = Opaque {
            domain: functions::domain(&node.domain).to_owned(),
            op_type: node.op_type.clone(),
            results: node.output.iter().map(ty).collect(),
            payload: payload.write_to_bytes().map_err(|e| ImportErrorKind::Malformed(e.to_string()))?,
        };
        Ok(self.graph.add(name, Op::Opaque(Arc::new(opaque)), &operands)?)
    }

    /// Notes the versions a carried node needs, and whether the model has others.
    fn check_versions(&mut self, node: &NodeProto, scope: &Scope<'_>) {
        let mut domains = BTreeSet::new();
        functions::domains(node, &mut domains);
        for domain in domains {
            let Some(&version) = scope.opsets.get(&domain) else { continue };
            self.conflict |= *self.opsets.entry(domain).or_insert(version) != version;
        }
    }

    fn define_results(&mut self, id: NodeId, node: &NodeProto, scope: &mut Scope<'_>) -> Result<(), ImportErrorKind> {
        for (i, output) in node.output.iter().enumerate().filter(|(_, output)| !output.is_empty()) {
            scope.define(output, Some(id.result(i)))?;
        }
        let told = node.output.len() == 1 && node.output[0] == self.graph.name(id);
        if scope.parent.is_none() && scope.depth == 0 && !told {
            let name = self.graph.name(id).to_owned();
            self.stubs.push(NodeProto { name, output: node.output.clone(), ..NodeProto::default() });
        }
        Ok(())
    }

    /// The branch an `If` takes, if its condition is known.
    fn decided_branch(&self, node: &mut NodeProto, operands: &[Option<ValueId>]) -> Option<GraphProto> {
        let condition = self.known.truth(&self.graph, operands.first().copied().flatten()?)?;
        let name = if condition { "then_branch" } else { "else_branch" };
        let attr = node.attribute.iter_mut().find(|attr| attr.name == name)?;
        let sound = |branch: &GraphProto| branch.input.is_empty() && branch.output.len() >= node.output.len();
        if attr.g.as_ref().is_some_and(sound) { attr.g.take() } else { None }
    }

    fn branch(&mut self, mut branch: GraphProto, node: &NodeProto, scope: &mut Scope<'_>) -> Result<(), ImportError> {
        let nodes = std::mem::take(&mut branch.node);
        let mut inner = Scope {
            parent: Some(scope),
            values: HashMap::new(),
            declared: declared(branch.value_info.iter().chain(&branch.output)),
            opsets: scope.opsets.clone(),
            prefix: scope.prefix.clone(),
            depth: scope.depth,
        };
        self.initializers(&mut branch, None, &mut inner)?;
        self.nodes(nodes, branch.output.iter().map(|info| &info.name), &mut inner)?;
        let results = results_of(&inner, branch.output.iter().map(|info| &info.name))?;
        for (output, value) in node.output.iter().zip(results).filter(|(output, _)| !output.is_empty()) {
            scope.define(output, value)?;
        }
        Ok(())
    }

    /// A function may import other versions of operators than the model. That is no matter as long as all its
    /// nodes translate; if one has to be carried, so has the call.
    fn call_or_carry(
        &mut self,
        call: &mut NodeProto,
        function: &FunctionProto,
        operands: Vec<Option<ValueId>>,
        name: &str,
        scope: &mut Scope<'_>,
    ) -> Result<(), ImportError> {
        if scope.depth > 0 || self.functions.agree(function, &self.opsets) {
            return self.call(call, function, operands, name, scope);
        }
        let before = (self.graph.clone(), self.known.clone(), self.node_names.clone(), self.opsets.clone());
        let (remarks, node_count) = (self.remarks.len(), self.node_count);
        let defined: Vec<String> = call.output.iter().filter(|name| !name.is_empty()).cloned().collect();
        self.call(call, function, operands.clone(), name, scope)?;
        if !std::mem::take(&mut self.conflict) {
            return Ok(());
        }
        (self.graph, self.known, self.node_names, self.opsets) = before;
        self.remarks.truncate(remarks);
        self.node_count = node_count;
        for name in &defined {
            scope.values.remove(name);
        }
        let id = self.carry(call, name, &operands, scope)?;
        let text = format!("{} is carried unchanged: it imports other versions of operators", call.op_type);
        self.remarks.push(Remark { kind: RemarkKind::Note, pass: "import", node: name.to_owned(), text });
        Ok(self.define_results(id, call, scope)?)
    }

    fn call(
        &mut self,
        call: &NodeProto,
        function: &FunctionProto,
        operands: Vec<Option<ValueId>>,
        name: &str,
        scope: &mut Scope<'_>,
    ) -> Result<(), ImportError> {
        let fail = |message: String| ImportErrorKind::Function { name: function.name.clone(), message };
        if scope.depth >= MAX_CALL_DEPTH {
            return Err(fail(format!("calls are nested more than {MAX_CALL_DEPTH} deep, or recursive")).into());
        }
        if operands.len() > function.input.len() || call.output.len() > function.output.len() {
            return Err(fail("is called with more inputs or outputs than it has".to_owned()).into());
        }
        let attributes = functions::call_attributes(call, function);
        let mut inner = Scope {
            parent: None,
            values: HashMap::new(),
            declared: declared(&function.value_info),
            opsets: opsets(&function.opset_import),
            prefix: format!("{name}/"),
            depth: scope.depth + 1,
        };
        let given = operands.into_iter().chain(std::iter::repeat(None));
        for (parameter, value) in function.input.iter().zip(given) {
            inner.define(parameter, value)?;
        }
        let body = function.node.iter().map(|node| {
            let mut node = node.clone();
            functions::substitute(&mut node, &attributes);
            node
        });
        self.nodes(body.collect(), function.output.iter(), &mut inner)?;
        let results = results_of(&inner, &function.output)?;
        for (output, value) in call.output.iter().zip(results).filter(|(output, _)| !output.is_empty()) {
            scope.define(output, value)?;
        }
        Ok(())
    }

    /// The nodes that are carried unchanged, as they will be written.
    fn carried(&self) -> Vec<NodeProto> {
        let opaque = self.graph.nodes().filter_map(|node| match self.graph.op(node) {
            Op::Opaque(opaque) => NodeProto::parse_from_bytes(&opaque.payload).ok(),
            _ => None,
        });
        opaque.collect()
    }
}

fn results_of<'n>(
    scope: &Scope<'_>,
    names: impl IntoIterator<Item = &'n String>,
) -> Result<Vec<Option<ValueId>>, ImportErrorKind> {
    names.into_iter().map(|name| scope.lookup(name).ok_or_else(|| ImportErrorKind::Undefined(name.clone()))).collect()
}
