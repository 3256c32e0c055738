//! The graph: operations as nodes, uses of values as edges, in SSA form.
//!
//! Invariants: edges are the only record of who uses what; ids are never freed inside a pass
//! ([`Graph::gc`] alone deletes); [`Graph::topo_order`] is the one order everything walks in. Every edit
//! re-runs the type rule of the node it touches and of whatever its change reaches. While an edit is
//! half done a rule may fail downstream: the stale type stays, a later edit repairs it, and the
//! verifier names what is left.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use crate::constant::Constant;
use crate::error::TypeError;
use crate::op::infer::{self, SymInt};
use crate::op::{Input, Op, Operand, Return};
use crate::tensor::{Data, Tensor};
use crate::types::{Dim, Type};

/// A neural network as one acyclic dataflow graph in SSA form.
///
/// The signature (names, types and order of inputs and results) is the public interface of the graph:
/// passes keep it. Inner names and nodes are theirs.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The name of the model.
    pub name: String,
    /// What the importing frontend must remember to write the source format back.
    pub origin: Option<Arc<Origin>>,
    dag: StableDiGraph<Node, Use>,
    names: HashSet<String>,
    inputs: Vec<NodeId>,
    ret: NodeId,
    version: u64,
}

/// Everything of a source file that is not the graph: versions, metadata, documentation. Bytes that
/// only the frontend that wrote them reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The source format: `onnx`.
    pub format: String,
    /// Its header.
    pub header: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Node {
    name: String,
    op: Op,
    results: Vec<ResultInfo>,
}

#[derive(Clone, Debug, PartialEq)]
struct ResultInfo {
    ty: Type,
    contents: Option<Arc<[SymInt]>>,
}

/// Result `result` of the source is operand `operand` of the target.
#[derive(Clone, Copy, Debug)]
struct Use {
    result: u16,
    operand: u16,
}

/// A node of one graph. Ids order nodes by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NodeIndex);

impl NodeId {
    /// Result `result` of this node.
    pub fn result(self, result: usize) -> ValueId {
        ValueId { node: self, result: slot(result) }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0.index())
    }
}

/// One result of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId {
    /// The node.
    pub node: NodeId,
    /// Which of its results.
    pub result: u16,
}

impl From<NodeId> for ValueId {
    /// The first result.
    fn from(node: NodeId) -> ValueId {
        ValueId { node, result: 0 }
    }
}

/// The most operands or results a node may have.
pub const MAX_SLOTS: usize = u16::MAX as usize;

fn slot(i: usize) -> u16 {
    u16::try_from(i).expect("a node has at most MAX_SLOTS operands and results")
}

impl Graph {
    /// An empty graph: no inputs, and a `return` of nothing.
    pub fn new(name: impl Into<String>) -> Graph {
        let mut dag = StableDiGraph::new();
        let ret = Node { name: "return".to_owned(), op: Op::Return(Return { names: Vec::new() }), results: Vec::new() };
        let ret = NodeId(dag.add_node(ret));
        Graph { name: name.into(), origin: None, dag, names: HashSet::new(), inputs: Vec::new(), ret, version: 0 }
    }

    // Queries.

    /// The operation of a node.
    pub fn op(&self, node: NodeId) -> &Op {
        &self.dag[node.0].op
    }

    /// The name of a node, unique in the graph.
    pub fn name(&self, node: NodeId) -> &str {
        &self.dag[node.0].name
    }

    /// The operands of a node by slot, as many as the highest slot in use.
    pub fn operands(&self, node: NodeId) -> Vec<Option<ValueId>> {
        let mut operands = Vec::new();
        for edge in self.dag.edges_directed(node.0, Direction::Incoming) {
            let at = usize::from(edge.weight().operand);
            if operands.len() <= at {
                operands.resize(at + 1, None);
            }
            operands[at] = Some(ValueId { node: NodeId(edge.source()), result: edge.weight().result });
        }
        operands
    }

    /// Operand `slot` of a node, if present.
    pub fn operand(&self, node: NodeId, slot: usize) -> Option<ValueId> {
        self.dag
            .edges_directed(node.0, Direction::Incoming)
            .find(|edge| usize::from(edge.weight().operand) == slot)
            .map(|edge| ValueId { node: NodeId(edge.source()), result: edge.weight().result })
    }

    /// An operand slot that more than one edge fills; a bug if there is any.
    pub(crate) fn doubled_operand(&self, node: NodeId) -> Option<usize> {
        let edges = self.dag.edges_directed(node.0, Direction::Incoming);
        let mut slots: Vec<_> = edges.map(|edge| usize::from(edge.weight().operand)).collect();
        slots.sort_unstable();
        slots.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }

    /// Who uses a value, and in which slot; sorted.
    pub fn uses(&self, value: ValueId) -> Vec<(NodeId, usize)> {
        let mut uses: Vec<_> = self
            .dag
            .edges_directed(value.node.0, Direction::Outgoing)
            .filter(|edge| edge.weight().result == value.result)
            .map(|edge| (NodeId(edge.target()), usize::from(edge.weight().operand)))
            .collect();
        uses.sort_unstable();
        uses
    }

    /// The one node that uses a value, once; `None` if there are other uses or none. A result of the
    /// graph is used by `return`.
    pub fn sole_user(&self, value: ValueId) -> Option<NodeId> {
        match self.uses(value).as_slice() {
            [(node, _)] => Some(*node),
            _ => None,
        }
    }

    /// The type of a value; unknown if its node has no such result.
    pub fn ty(&self, value: impl Into<ValueId>) -> &Type {
        let value = value.into();
        let results = &self.dag[value.node.0].results;
        results.get(usize::from(value.result)).map_or(&Type::Unknown, |result| &result.ty)
    }

    /// What is known of the elements of a small integer value that is not constant.
    pub fn contents(&self, value: impl Into<ValueId>) -> Option<&[SymInt]> {
        let value = value.into();
        self.dag[value.node.0].results.get(usize::from(value.result))?.contents.as_deref()
    }

    /// The number of results of a node.
    pub fn result_count(&self, node: NodeId) -> usize {
        self.dag[node.0].results.len()
    }

    /// The constant a value is, if it is one.
    pub fn constant(&self, value: impl Into<ValueId>) -> Option<&Arc<Constant>> {
        match self.op(value.into().node) {
            Op::Const(constant) => Some(constant),
            _ => None,
        }
    }

    /// The constant in operand `slot` of a node, if there is one.
    pub fn constant_operand(&self, node: NodeId, slot: usize) -> Option<&Arc<Constant>> {
        self.constant(self.operand(node, slot)?)
    }

    /// The graph inputs in signature order.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// The number of samples a run takes, the first extent of the first input, if that is fixed.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.ty(*self.inputs.first()?).shape()?.first()?.fixed()
    }

    /// The `return` node.
    pub fn ret(&self) -> NodeId {
        self.ret
    }

    /// Names and values of the results in signature order.
    pub fn results(&self) -> Vec<(&str, ValueId)> {
        let Op::Return(ret) = self.op(self.ret) else { unreachable!("the return node holds Return") };
        let values = self.operands(self.ret).into_iter().flatten();
        ret.names.iter().map(String::as_str).zip(values).collect()
    }

    /// Names and types of inputs and of results: what passes must keep.
    pub fn signature(&self) -> Signature {
        let inputs = self.inputs.iter().map(|&node| (self.name(node).to_owned(), self.ty(node).clone())).collect();
        let results = self.results().into_iter().map(|(name, v)| (name.to_owned(), self.ty(v).clone())).collect();
        Signature { inputs, results }
    }

    /// Every node in the order of ids.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.dag.node_indices().map(NodeId)
    }

    /// The number of nodes, `return` included.
    pub fn len(&self) -> usize {
        self.dag.node_count()
    }

    /// Never: there is always a `return`.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Every node, operands before users, older nodes first where free to choose (Kahn's algorithm);
    /// `return` comes last. Nodes on a cycle are left out.
    pub fn topo_order(&self) -> Vec<NodeId> {
        let mut waiting: HashMap<NodeIndex, usize> = HashMap::with_capacity(self.dag.node_count());
        let mut ready = BinaryHeap::new();
        for node in self.dag.node_indices() {
            let count = self.dag.edges_directed(node, Direction::Incoming).count();
            waiting.insert(node, count);
            if count == 0 && node != self.ret.0 {
                ready.push(Reverse(node));
            }
        }
        let mut order = Vec::with_capacity(waiting.len());
        let mut ret_ready = waiting[&self.ret.0] == 0;
        while let Some(Reverse(node)) = ready.pop() {
            order.push(NodeId(node));
            for edge in self.dag.edges_directed(node, Direction::Outgoing) {
                let count = waiting.get_mut(&edge.target()).expect("every node waits");
                *count -= 1;
                if *count == 0 {
                    if edge.target() == self.ret.0 {
                        ret_ready = true;
                    } else {
                        ready.push(Reverse(edge.target()));
                    }
                }
            }
        }
        if ret_ready {
            order.push(self.ret);
        }
        order
    }

    /// Counts edits. Equal versions of one graph are equal graphs.
    pub fn version(&self) -> u64 {
        self.version
    }

    // Edits.

    /// Adds a graph input at the end of the signature.
    pub fn add_input(&mut self, name: &str, ty: impl Into<Type>) -> NodeId {
        let node = self.insert(name, Op::Input(Input { ty: ty.into() }), &[]);
        self.retype(node).expect("an input has the type it declares");
        self.inputs.push(node);
        node
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: &str, constant: impl Into<Arc<Constant>>) -> NodeId {
        let node = self.insert(name, Op::Const(constant.into()), &[]);
        self.retype(node).expect("a constant has its type");
        node
    }

    /// Adds a dense constant.
    pub fn add_tensor(&mut self, name: &str, tensor: Tensor) -> NodeId {
        self.add_constant(name, Constant::dense(tensor))
    }

    /// Adds a node. If the name is taken, a number is appended.
    ///
    /// # Errors
    /// If the operands do not fit the operation; the graph is unchanged then.
    pub fn add(&mut self, name: &str, op: impl Into<Op>, operands: &[Option<ValueId>]) -> Result<NodeId, TypeError> {
        let op = op.into();
        self.infer_types(&op, operands)?;
        let node = self.insert(name, op, operands);
        self.retype(node)?;
        Ok(node)
    }

    /// Adds a node with the result types it claims to have, whether or not its operands fit: for readers
    /// of graphs that the verifier will judge. Where nothing is claimed the type is inferred.
    pub(crate) fn add_claiming(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        operands: &[Option<ValueId>],
        claimed: &[Type],
    ) -> NodeId {
        let node = self.insert(name, op.into(), operands);
        // A rule that fails leaves the types unknown.
        let _ = self.retype(node);
        for (result, ty) in self.dag[node.0].results.iter_mut().zip(claimed) {
            if result.ty != *ty {
                *result = ResultInfo { ty: ty.clone(), contents: None };
            }
        }
        node
    }

    /// Appends a result to the signature.
    pub fn add_result(&mut self, name: &str, value: ValueId) {
        let Op::Return(ret) = &mut self.dag[self.ret.0].op else { unreachable!("the return node holds Return") };
        let at = ret.names.len();
        ret.names.push(name.to_owned());
        self.connect(value, self.ret, at);
        self.version += 1;
    }

    /// Replaces the operation of a node; its operands stay.
    pub fn set_op(&mut self, node: NodeId, op: impl Into<Op>) {
        self.dag[node.0].op = op.into();
        self.touch(node);
    }

    /// Makes `value` operand `slot` of a node, or removes the operand.
    pub fn set_operand(&mut self, node: NodeId, slot: usize, value: Option<ValueId>) {
        self.disconnect(node, slot);
        if let Some(value) = value {
            self.connect(value, node, slot);
        }
        self.touch(node);
    }

    /// Makes a constant operand `slot` of a node: in place if it was a constant nobody else uses, as a new
    /// constant named after the node and the operand otherwise.
    pub fn set_constant_operand(&mut self, node: NodeId, slot: usize, constant: impl Into<Arc<Constant>>) {
        let constant = constant.into();
        let old = self.operand(node, slot);
        match old {
            Some(old) if self.constant(old).is_some() && self.sole_user(old) == Some(node) => {
                self.set_op(old.node, Op::Const(constant));
                // The constant's type may be unchanged while its elements decide the node's type.
                self.touch(node);
            }
            _ => {
                let names = self.op(node).arity().names;
                let suffix = names.get(slot).or(names.last()).copied().unwrap_or("c");
                let name = format!("{}.{suffix}", self.name(node));
                let new = self.add_constant(&name, constant);
                self.set_operand(node, slot, Some(new.into()));
            }
        }
    }

    /// Changes the elements of a dense `f32` constant that only operand `slot` of a node uses: in place, unless
    /// another graph shares them. Returns whether there is such a constant.
    pub fn change_constant_operand(&mut self, node: NodeId, slot: usize, change: impl FnOnce(&mut [f32])) -> bool {
        let Some(value) = self.operand(node, slot).filter(|&value| self.sole_user(value) == Some(node)) else {
            return false;
        };
        let Op::Const(constant) = &mut self.dag[value.node.0].op else { return false };
        if constant.as_dense().and_then(Data::as_f32).is_none() {
            return false;
        }
        change(Arc::make_mut(constant).f32_mut().expect("it is dense and of type f32"));
        self.touch(value.node);
        // The constant's type is unchanged while its elements may decide the node's type.
        self.touch(node);
        true
    }

    /// Makes every user of `from` use `to` instead, except the node of `to` itself.
    pub fn replace_uses(&mut self, from: ValueId, to: ValueId) {
        for (user, slot) in self.uses(from) {
            if user != to.node {
                self.set_operand(user, slot, Some(to));
            }
        }
    }

    /// Renames a node; if the name is taken, a number is appended. Renaming an input changes the signature.
    pub fn set_name(&mut self, node: NodeId, name: &str) {
        let old = std::mem::take(&mut self.dag[node.0].name);
        self.names.remove(&old);
        self.dag[node.0].name = self.unique(name);
        self.version += 1;
    }

    /// Fixes symbolic dimensions of the inputs and infers every type again.
    ///
    /// # Errors
    /// If an operator does not fit its operands any more, with the name of its node.
    pub fn bind(&mut self, bindings: &[(&str, usize)]) -> Result<(), (String, TypeError)> {
        let fix = |dim: &Dim| match dim {
            Dim::Sym(s) => bindings.iter().find(|(name, _)| *name == s.as_str()).map(|&(_, n)| Dim::Fixed(n)),
            _ => None,
        };
        for node in self.dag.node_indices().collect::<Vec<_>>() {
            if let Op::Input(Input { ty: Type::Tensor(ty) }) = &mut self.dag[node].op {
                for dim in &mut ty.shape {
                    if let Some(fixed) = fix(dim) {
                        *dim = fixed;
                    }
                }
            }
        }
        self.infer_all()
    }

    /// Replaces the type of a graph input and infers every type again.
    ///
    /// # Errors
    /// If an operator does not fit its operands any more, with the name of its node.
    pub fn set_input_type(&mut self, input: NodeId, ty: Type) -> Result<(), (String, TypeError)> {
        self.dag[input.0].op = Op::Input(Input { ty });
        self.infer_all()
    }

    /// Runs every type rule again, in order.
    ///
    /// # Errors
    /// The first rule that fails, with the name of its node.
    pub fn infer_all(&mut self) -> Result<(), (String, TypeError)> {
        self.version += 1;
        for node in self.topo_order() {
            self.retype(node).map_err(|e| (self.name(node).to_owned(), e))?;
        }
        Ok(())
    }

    /// Removes every node that no result depends on, except inputs. Returns how many.
    pub fn gc(&mut self) -> usize {
        let mut live: HashSet<NodeIndex> = self.inputs.iter().map(|n| n.0).collect();
        let mut stack = vec![self.ret.0];
        while let Some(node) = stack.pop() {
            if live.insert(node) || node == self.ret.0 {
                stack.extend(self.dag.neighbors_directed(node, Direction::Incoming).filter(|n| !live.contains(n)));
            }
        }
        let dead: Vec<_> = self.dag.node_indices().filter(|n| !live.contains(n)).collect();
        for &node in &dead {
            let removed = self.dag.remove_node(node).expect("the index was just listed");
            self.names.remove(&removed.name);
        }
        if !dead.is_empty() {
            self.version += 1;
        }
        dead.len()
    }

    /// The types the rule of a node gives for its operands now.
    ///
    /// # Errors
    /// If the rule fails.
    pub fn infer(&self, node: NodeId) -> Result<Vec<Type>, TypeError> {
        self.infer_types(self.op(node), &self.operands(node))
    }

    // Inner workings.

    fn insert(&mut self, name: &str, op: Op, operands: &[Option<ValueId>]) -> NodeId {
        let name = self.unique(name);
        let results = vec![ResultInfo { ty: Type::Unknown, contents: None }; infer::result_count(&op)];
        let node = NodeId(self.dag.add_node(Node { name, op, results }));
        for (i, operand) in operands.iter().enumerate() {
            if let Some(value) = operand {
                self.connect(*value, node, i);
            }
        }
        self.version += 1;
        node
    }

    fn unique(&mut self, name: &str) -> String {
        let base = if name.is_empty() { "v" } else { name };
        let mut unique = base.to_owned();
        let mut n = 1;
        while !self.names.insert(unique.clone()) {
            unique = format!("{base}_{n}");
            n += 1;
        }
        unique
    }

    pub(crate) fn connect(&mut self, value: ValueId, node: NodeId, at: usize) {
        self.dag.add_edge(value.node.0, node.0, Use { result: value.result, operand: slot(at) });
    }

    fn disconnect(&mut self, node: NodeId, at: usize) {
        let edges = self.dag.edges_directed(node.0, Direction::Incoming);
        let edge = edges.filter(|e| usize::from(e.weight().operand) == at).map(|e| e.id()).next();
        if let Some(edge) = edge {
            self.dag.remove_edge(edge);
        }
    }

    fn with_operands<T>(&self, operands: &[Option<ValueId>], f: impl FnOnce(&[Option<Operand<'_>>]) -> T) -> T {
        let operands: Vec<_> = operands
            .iter()
            .map(|operand| {
                operand.map(|value| Operand {
                    ty: self.ty(value),
                    constant: self.constant(value),
                    contents: self.contents(value),
                })
            })
            .collect();
        f(&operands)
    }

    fn infer_types(&self, op: &Op, operands: &[Option<ValueId>]) -> Result<Vec<Type>, TypeError> {
        self.with_operands(operands, |operands| infer::infer(op, operands))
    }

    /// Runs the rule of one node; returns whether its results changed.
    fn retype(&mut self, node: NodeId) -> Result<bool, TypeError> {
        let operands = self.operands(node);
        let op = self.op(node);
        let results: Vec<ResultInfo> = self.with_operands(&operands, |operands| {
            let types = infer::infer(op, operands)?;
            let contents = infer::contents(op, operands, &types);
            let first = contents.into_iter().map(Some).chain(std::iter::repeat(None));
            Ok(types.into_iter().zip(first).map(|(ty, contents)| ResultInfo { ty, contents }).collect())
        })?;
        let changed = self.dag[node.0].results != results;
        self.dag[node.0].results = results;
        Ok(changed)
    }

    /// After an edit of `node`: its type again, and those of whatever the change reaches.
    fn touch(&mut self, node: NodeId) {
        self.version += 1;
        let count = infer::result_count(self.op(node));
        self.dag[node.0].results.resize(count, ResultInfo { ty: Type::Unknown, contents: None });
        // An edit half done may have closed a cycle, and rules may fail until it is whole: each node is
        // visited a bounded number of times and a failure leaves the old type for the verifier to name.
        let mut budget = 4 * self.dag.node_count() + 16;
        let mut stale = BinaryHeap::from([Reverse(node)]);
        let is_const = matches!(self.op(node), Op::Const(_));
        while let Some(Reverse(next)) = stale.pop() {
            let changed = self.retype(next).unwrap_or(false);
            if changed || (next == node && is_const) {
                let users: HashSet<_> = self.dag.neighbors_directed(next.0, Direction::Outgoing).collect();
                let mut users: Vec<_> = users.into_iter().collect();
                users.sort_unstable();
                stale.extend(users.into_iter().map(|user| Reverse(NodeId(user))));
            }
            budget -= 1;
            if budget == 0 {
                break;
            }
        }
    }
}

/// Names and types of inputs and of results.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// Inputs in order.
    pub inputs: Vec<(String, Type)>,
    /// Results in order.
    pub results: Vec<(String, Type)>,
}

/// Structural: the same nodes by name, with the same operations, operands, types and order of edges,
/// whatever their ids. The origin is not compared.
impl PartialEq for Graph {
    fn eq(&self, other: &Graph) -> bool {
        let describe = |graph: &Graph| {
            let name = |v: ValueId| (graph.name(v.node).to_owned(), v.result);
            let mut nodes: Vec<_> = graph
                .nodes()
                .map(|node| {
                    let operands: Vec<_> = graph.operands(node).into_iter().map(|v| v.map(name)).collect();
                    let types: Vec<_> = graph.dag[node.0].results.iter().map(|r| r.ty.clone()).collect();
                    (graph.name(node).to_owned(), operands, types, graph.op(node).clone())
                })
                .collect();
            nodes.sort_by(|a, b| a.0.cmp(&b.0));
            nodes
        };
        self.name == other.name && self.signature() == other.signature() && describe(self) == describe(other)
    }
}
