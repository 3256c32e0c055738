//! Values of channels: which are zero, or one number, whatever the inputs are.
//!
//! For each index of each axis that has units, the elements of a value at that index are all the same known
//! number, or nothing is known. Zeros are what makes removal exact; other numbers can be absorbed by what
//! reads them. Numbers are computed by the interpreter's rules in the type of the value.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use optc_ir::interp::eval;
use optc_ir::op::{Act, AutoPad, Conv, Linear, PadMode, ReduceKind, ResizeMode, Unary};
use optc_ir::{Constant, DType, Data, Dim, Graph, NodeId, Op, Tensor, ValueId};

use super::ChannelGroups;
use super::movement::{Segment, segments, slices};
use super::pointwise::resolve;
use crate::rewrite::{int_operand, scalar_operand};

/// What is known of the elements at one index.
type State = Option<f64>;

/// What is known of the elements at each index of an axis.
type States = Rc<[State]>;

/// The values of channels; see the module.
pub struct Flow<'g> {
    graph: &'g Graph,
    groups: &'g ChannelGroups,
    known: HashMap<(ValueId, usize), States>,
    decoded: HashMap<NodeId, Rc<Tensor>>,
}

impl<'g> Flow<'g> {
    /// Follows the channels of a graph.
    pub fn of(graph: &'g Graph, groups: &'g ChannelGroups) -> Flow<'g> {
        let mut flow = Flow { graph, groups, known: HashMap::new(), decoded: HashMap::new() };
        for node in graph.topo_order() {
            for value in (0..graph.result_count(node)).map(|i| node.result(i)) {
                for axis in 0..groups.axes(value).len() {
                    if groups.axes(value)[axis].is_fixed() {
                        continue;
                    }
                    let len = groups.axes(value)[axis].len();
                    if let Some(states) = flow.rule(node, value, axis)
                        && states.len() == len
                        && states.iter().any(Option::is_some)
                    {
                        let finite = states.into_iter().map(|state| state.filter(|x| x.is_finite()));
                        flow.known.insert((value, axis), finite.collect());
                    }
                }
            }
        }
        flow
    }

    /// The number that all elements at an index are, if that is known.
    pub fn at(&self, value: ValueId, axis: usize, index: usize) -> Option<f64> {
        self.known.get(&(value, axis)).and_then(|states| states.get(index).copied().flatten())
    }

    fn states(&self, value: ValueId, axis: usize) -> Option<Vec<State>> {
        self.known.get(&(value, axis)).map(|states| states.to_vec())
    }

    fn operand(&self, node: NodeId, slot: usize, axis: usize) -> Option<Vec<State>> {
        self.states(self.graph.operand(node, slot)?, axis)
    }

    fn decode(&mut self, node: NodeId, slot: usize) -> Option<Rc<Tensor>> {
        let value = self.graph.operand(node, slot)?;
        let constant = self.graph.constant(value)?;
        Some(self.decoded.entry(value.node).or_insert_with(|| Rc::new(constant.decode())).clone())
    }

    fn dims(&self, node: NodeId, slot: usize) -> Option<&'g [Dim]> {
        self.graph.ty(self.graph.operand(node, slot)?).shape()
    }

    fn rule(&mut self, node: NodeId, value: ValueId, axis: usize) -> Option<Vec<State>> {
        let graph = self.graph;
        match graph.op(node) {
            Op::Const(constant) => Some(slabs(constant, axis)),
            Op::Unary(Unary::Identity) | Op::Cast(_) => self.operand(node, 0, axis),
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Variadic(_)
            | Op::LeakyRelu(_)
            | Op::Elu(_)
            | Op::Celu(_)
            | Op::Selu(_)
            | Op::HardSigmoid(_)
            | Op::ThresholdedRelu(_)
            | Op::Shrink(_)
            | Op::Gelu(_)
            | Op::Clip(_) => self.elementwise(node, axis),
            Op::BatchNorm(norm) if axis == 1 => {
                let params: Option<Vec<Vec<f64>>> =
                    (1..5).map(|slot| Some(self.decode(node, slot)?.data().to_f64())).collect();
                let (params, x) = (params?, self.operand(node, 0, 1));
                let channel = |i: usize| {
                    let (scale, b) = (params[0][i], params[1][i]);
                    let x = x.as_ref().and_then(|x| x[i]);
                    let norm = |x: f64| scale * (x - params[2][i]) / (params[3][i] + f64::from(norm.eps)).sqrt() + b;
                    if scale == 0.0 { Some(b) } else { x.map(norm) }
                };
                Some((0..params[0].len()).map(channel).collect())
            }
            Op::InstanceNorm(norm) if axis == 1 => {
                // What is zero everywhere has no deviation, which leaves the offset.
                let (scale, b) = (self.decode(node, 1)?.data().to_f64(), self.decode(node, 2)?.data().to_f64());
                let x = self.operand(node, 0, 1);
                let zero = |i: usize| norm.eps > 0.0 && x.as_ref().is_some_and(|x| x[i] == Some(0.0));
                Some((0..b.len()).map(|i| (scale[i] == 0.0 || zero(i)).then_some(b[i])).collect())
            }
            Op::RmsNorm(norm) if norm.eps > 0.0 => Some(zeros(self.operand(node, 0, axis)?)),
            Op::LpNorm(_) => Some(zeros(self.operand(node, 0, axis)?)),
            Op::Conv(conv) if axis == 1 => {
                let whole = unpadded(conv);
                let products = self.products(node, conv.group, false, whole)?;
                self.activated(node, products, conv.act)
            }
            Op::ConvTranspose(conv) if axis == 1 => {
                let products = self.products(node, conv.group, true, false)?;
                self.activated(node, products, conv.act)
            }
            Op::Linear(linear) if axis + 1 == graph.ty(value).shape()?.len() => {
                let products = self.products(node, 1, false, true)?;
                self.activated(node, products, linear.act)
            }
            Op::MatMul(_) => self.matmul(node, axis),
            Op::MaxPool(_) | Op::GlobalAveragePool(_) | Op::GlobalMaxPool(_) => self.operand(node, 0, axis),
            Op::AveragePool(pool) => {
                let borders =
                    pool.count_include_pad && (pool.auto_pad != AutoPad::Explicit || pool.pads.iter().any(|&p| p > 0));
                let states = self.operand(node, 0, axis)?;
                Some(if borders { zeros(states) } else { states })
            }
            Op::LpPool(_) => Some(zeros(self.operand(node, 0, axis)?)),
            Op::Reduce(reduce) => {
                let rank = self.dims(node, 0)?.len();
                let axes = reduce.attrs.resolved(rank).ok()?;
                let rest: Vec<usize> = (0..rank).filter(|k| reduce.attrs.keepdims || !axes.contains(k)).collect();
                let states = self.operand(node, 0, *rest.get(axis)?)?;
                match reduce.kind {
                    ReduceKind::Mean | ReduceKind::Max | ReduceKind::Min => Some(states),
                    ReduceKind::Sum | ReduceKind::L1 | ReduceKind::L2 | ReduceKind::SumSquare => Some(zeros(states)),
                    ReduceKind::Prod | ReduceKind::LogSum | ReduceKind::LogSumExp => None,
                }
            }
            Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => self.regroup(node, axis),
            Op::Transpose(transpose) => {
                let perm = transpose.resolved(self.dims(node, 0)?.len()).ok()?;
                self.operand(node, 0, perm[axis])
            }
            Op::Concat(concat) => self.concat(node, resolve(concat.axis, graph.ty(value).shape()?.len())?, axis),
            Op::Split(split) => {
                let states = self.operand(node, 0, axis)?;
                if resolve(split.axis, self.dims(node, 0)?.len())? != axis {
                    return Some(states);
                }
                let piece = usize::from(value.result);
                let start: usize = split.sizes[..piece].iter().sum();
                Some(states[start..start + split.sizes[piece]].to_vec())
            }
            Op::Slice(_) => {
                let states = self.operand(node, 0, axis)?;
                match slices(graph, node)?.into_iter().find(|(cut, _)| *cut == axis) {
                    Some((_, indices)) => Some(indices.into_iter().map(|i| states[i]).collect()),
                    None => Some(states),
                }
            }
            Op::Gather(gather) => {
                let at = resolve(gather.axis, self.dims(node, 0)?.len())?;
                let added = self.dims(node, 1)?.len();
                if axis < at || axis >= at + added {
                    return self.operand(node, 0, if axis < at { axis } else { axis + 1 - added });
                }
                let states = self.operand(node, 0, at)?;
                let signed = i64::try_from(states.len()).ok()?;
                let wrap = |i: i64| usize::try_from(if i < 0 { i + signed } else { i }).ok();
                int_operand(graph, node, 1)?.into_iter().map(|i| states.get(wrap(i)?).copied()).collect()
            }
            Op::Pad(pad) => {
                let states = self.operand(node, 0, axis)?;
                let fill = match graph.operand(node, 2) {
                    None => 0.0,
                    Some(_) => scalar_operand(graph, node, 2, 1)?,
                };
                let pads = int_operand(graph, node, 1)?;
                if graph.ty(value).shape()?[axis].same(&self.dims(node, 0)?[axis]) {
                    // Borders of other axes are the same number, or the elements beside them.
                    let same = |x: &f64| pad.mode != PadMode::Constant || *x == fill;
                    return Some(states.into_iter().map(|state| state.filter(same)).collect());
                }
                let axes = match graph.operand(node, 3) {
                    Some(_) => int_operand(graph, node, 3)?,
                    None => (0..i64::try_from(self.dims(node, 0)?.len()).ok()?).collect(),
                };
                let i = axes.iter().position(|&a| resolve(a, axes.len().max(axis + 1)) == Some(axis))?;
                // Other axes must not be padded by another number at the same time.
                let alone = (0..pads.len()).all(|k| k % axes.len() == i || pads[k] == 0);
                let begin = vec![Some(fill); usize::try_from(pads[i]).ok()?];
                let end = vec![Some(fill); usize::try_from(pads[axes.len() + i]).ok()?];
                alone.then(|| [begin, states, end].concat())
            }
            Op::Resize(resize) => {
                let states = self.operand(node, 0, axis)?;
                Some(if resize.mode == ResizeMode::Nearest { states } else { zeros(states) })
            }
            Op::Tile(_) | Op::SpaceToDepth(_) => {
                let states = self.operand(node, 0, axis)?;
                let len = self.groups.axes(value)[axis].len();
                Some((0..len).map(|i| states[i % states.len()]).collect())
            }
            _ => None,
        }
    }

    /// Functions of operands that are all known, and products one factor of which is zero.
    fn elementwise(&mut self, node: NodeId, axis: usize) -> Option<Vec<State>> {
        let graph = self.graph;
        let (rank, len) = (graph.ty(node).shape()?.len(), self.groups.axes(node)[axis].len());
        let dtype = graph.ty(node).dtype().filter(|dtype| dtype.is_float())?;
        let clips = matches!(graph.op(node), Op::Clip(_));
        let count = if clips { 1 } else { graph.operands(node).len() };
        let mut columns: Vec<Vec<State>> = Vec::new();
        for slot in 0..count {
            let dims = self.dims(node, slot)?;
            let along = (axis + dims.len()).checked_sub(rank).filter(|&at| dims[at] != Dim::Fixed(1));
            columns.push(match along {
                Some(at) => self.operand(node, slot, at).unwrap_or_else(|| vec![None; len]),
                None => {
                    let elements = self.decode(node, slot).map(|tensor| tensor.data().to_f64());
                    vec![elements.and_then(|elements| uniform(&elements)); len]
                }
            });
        }
        let known: Vec<usize> = (0..len).filter(|&i| columns.iter().all(|column| column[i].is_some())).collect();
        let mut out = vec![None; len];
        if !known.is_empty() {
            let tensor = |column: &Vec<State>| {
                Tensor::new([known.len()], Data::from_f64(dtype, known.iter().filter_map(|&i| column[i])))
            };
            let tensors: Vec<Tensor> = columns.iter().map(tensor).collect();
            let limits: Vec<Option<Rc<Tensor>>> =
                if clips { (1..3).map(|slot| self.decode(node, slot)).collect() } else { Vec::new() };
            let operands: Vec<Option<&Tensor>> =
                tensors.iter().map(Some).chain(limits.iter().map(|limit| limit.as_deref())).collect();
            let results = eval(graph.op(node), &operands).ok()?;
            known.iter().zip(results.first()?.data().to_f64()).for_each(|(&i, x)| out[i] = Some(x));
        }
        if matches!(graph.op(node), Op::Binary(optc_ir::op::Binary::Mul)) {
            let zero = |i: usize| columns.iter().any(|column| column[i] == Some(0.0));
            (0..len).filter(|&i| zero(i)).for_each(|i| out[i] = Some(0.0));
        }
        Some(out)
    }

    /// Sums of products with constant weights, seen as `outputs × inputs × window`, where every term is
    /// known. With `whole`, each output meets each input with the whole window.
    fn products(&mut self, node: NodeId, group: usize, transposed: bool, whole: bool) -> Option<Vec<State>> {
        let w = self.graph.constant(self.graph.operand(node, 1)?)?;
        let axis = if matches!(self.graph.op(node), Op::Linear(_)) { self.dims(node, 0)?.len() - 1 } else { 1 };
        let x = self.operand(node, 0, axis);
        let products = Products { shape: w.shape(), group, transposed, whole };
        Some(match &*elements(w) {
            Data::F32(w) => products.sums(x.as_deref(), w),
            others => products.sums(x.as_deref(), &others.to_f64()),
        })
    }

    /// With bias and activation.
    fn activated(&mut self, node: NodeId, mut sums: Vec<State>, act: Act) -> Option<Vec<State>> {
        if self.graph.operand(node, 2).is_some() {
            let bias = self.decode(node, 2)?.data().to_f64();
            sums.iter_mut().zip(bias).for_each(|(sum, b)| *sum = sum.map(|sum| sum + b));
        }
        let known: Vec<usize> = (0..sums.len()).filter(|&i| sums[i].is_some()).collect();
        let dtype = self.graph.ty(node).dtype()?;
        let x = Tensor::new([known.len(), 1], Data::from_f64(dtype, known.iter().filter_map(|&i| sums[i])));
        let one = Tensor::new([1, 1], Data::from_f64(dtype, [1.0]));
        if act != Act::None && !known.is_empty() {
            let results = eval(&Linear { act }.into(), &[Some(&x), Some(&one), None]).ok()?;
            known.iter().zip(results.first()?.data().to_f64()).for_each(|(&i, x)| sums[i] = Some(x));
        }
        Some(sums)
    }

    /// A product of matrices is zero where a row or column is.
    fn matmul(&mut self, node: NodeId, axis: usize) -> Option<Vec<State>> {
        let (a, b) = (self.dims(node, 0)?.len(), self.dims(node, 1)?.len());
        let rank = self.graph.ty(node).shape()?.len();
        if a < 2 || b < 2 {
            return None;
        }
        let from = |len: usize| (axis + len).checked_sub(rank);
        let left = if axis + 1 == rank { None } else { from(a).and_then(|at| self.operand(node, 0, at)) };
        let right = if axis + 2 == rank { None } else { from(b).and_then(|at| self.operand(node, 1, at)) };
        let zero = |states: &Option<Vec<State>>, i: usize| {
            states.as_ref().is_some_and(|states| states.get(i).copied().flatten() == Some(0.0))
        };
        let len = self.groups.axes(node)[axis].len();
        let mut out: Vec<State> = (0..len).map(|i| (zero(&left, i) || zero(&right, i)).then_some(0.0)).collect();
        // A column of constant weights meets only those inputs that are not zero.
        if axis + 1 == rank
            && b == 2
            && let (Some(w), Some(x)) = (self.decode(node, 1), self.operand(node, 0, a - 1))
        {
            let elements = w.data().to_f64();
            let silent = |n: usize| x.iter().enumerate().all(|(k, x)| *x == Some(0.0) || elements[k * len + n] == 0.0);
            (0..len).filter(|&n| silent(n)).for_each(|n| out[n] = Some(0.0));
        }
        Some(out)
    }

    fn concat(&self, node: NodeId, joined: usize, axis: usize) -> Option<Vec<State>> {
        let count = self.graph.operands(node).len();
        if joined == axis {
            let mut all = Vec::new();
            for slot in 0..count {
                let len = self.dims(node, slot)?[axis].fixed()?;
                all.extend(self.operand(node, slot, axis).unwrap_or_else(|| vec![None; len]));
            }
            return Some(all);
        }
        let pieces: Vec<Vec<State>> = (0..count).map(|slot| self.operand(node, slot, axis)).collect::<Option<_>>()?;
        let agree = |i: usize| pieces[0][i].filter(|x| pieces.iter().all(|piece| piece[i] == Some(*x)));
        Some((0..pieces[0].len()).map(agree).collect())
    }

    /// An element of regrouped axes is known if it is at a known index of any of them; an index of a regrouped
    /// axis is known if all its elements are the same.
    fn regroup(&self, node: NodeId, axis: usize) -> Option<Vec<State>> {
        let (from, to) = (self.dims(node, 0)?, self.graph.ty(node).shape()?);
        let Segment { from: source, to: target } = segments(from, to).into_iter().find(|s| s.to.contains(&axis))?;
        if source.len() == 1 && target.len() == 1 {
            return self.operand(node, 0, source.start);
        }
        let mut whole: Vec<State> = vec![None];
        for k in source {
            let n = from[k].fixed()?;
            let states = self.operand(node, 0, k).unwrap_or_else(|| vec![None; n]);
            whole = whole.iter().flat_map(|outer| states.iter().map(|inner| outer.or(*inner))).collect();
        }
        let inner: usize = to[axis + 1..target.end].iter().map(Dim::fixed).product::<Option<usize>>()?;
        let n = to[axis].fixed()?;
        let mut out: Vec<Option<State>> = vec![None; n];
        for (i, state) in whole.into_iter().enumerate() {
            let seen = &mut out[i / inner % n];
            *seen = Some(seen.map_or(state, |seen| seen.filter(|x| state == Some(*x))));
        }
        Some(out.into_iter().map(Option::flatten).collect())
    }
}

/// Products with weights seen as `outputs × inputs × window`, or `inputs × outputs × window` if they are transposed.
struct Products<'a> {
    shape: &'a [usize],
    group: usize,
    transposed: bool,
    /// Whether each output meets each input with the whole window.
    whole: bool,
}

impl Products<'_> {
    /// The sums of which every term is known.
    fn sums<T: Copy + Into<f64>>(&self, x: Option<&[State]>, weights: &[T]) -> Vec<State> {
        let (rows, columns) = (self.shape[0], self.shape[1]);
        let window: usize = self.shape[2..].iter().product();
        let per_group = rows / self.group;
        let mut sums = vec![Some(0.0); if self.transposed { columns * self.group } else { rows }];
        for row in 0..rows {
            for column in 0..columns {
                let other = row / per_group * columns + column;
                let (output, input) = if self.transposed { (other, row) } else { (row, other) };
                let Some(sum) = sums[output] else {
                    // Nothing more is to be learned of this output.
                    if self.transposed { continue } else { break }
                };
                let at = (row * columns + column) * window;
                let kernel = weights[at..at + window].iter().map(|&w| w.into());
                if kernel.clone().all(|w| w == 0.0) {
                    continue;
                }
                sums[output] = match x.and_then(|x| x[input]) {
                    Some(0.0) => Some(sum),
                    Some(x) if self.whole => Some(sum + x * kernel.sum::<f64>()),
                    _ => None,
                };
            }
        }
        sums
    }
}

/// The elements of a constant, without a copy where they are kept as they are.
fn elements(constant: &Constant) -> Cow<'_, Data> {
    constant.as_dense().map_or_else(|| Cow::Owned(constant.decode().into_parts().1), Cow::Borrowed)
}

/// Whether every output of a convolution sees the whole kernel.
pub fn unpadded(conv: &Conv) -> bool {
    match conv.auto_pad {
        AutoPad::Explicit => conv.pads.iter().all(|&p| p == 0),
        AutoPad::Valid => true,
        AutoPad::SameUpper | AutoPad::SameLower => false,
    }
}

/// Only the zeros among these.
fn zeros(states: Vec<State>) -> Vec<State> {
    states.into_iter().map(|state| state.filter(|&x| x == 0.0)).collect()
}

/// The number that all elements are.
fn uniform(elements: &[f64]) -> State {
    let (&first, rest) = elements.split_first()?;
    rest.iter().all(|&x| x == first).then_some(first)
}

/// The number that all elements at each index of an axis are.
fn slabs(constant: &Constant, axis: usize) -> Vec<State> {
    if !matches!(constant.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
        return Vec::new();
    }
    match &*elements(constant) {
        Data::F32(elements) => slabs_of(elements, constant.shape(), axis),
        others => slabs_of(&others.to_f64(), constant.shape(), axis),
    }
}

fn slabs_of<T: Copy + Into<f64>>(elements: &[T], shape: &[usize], axis: usize) -> Vec<State> {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer = shape[axis] * inner;
    let slab = |i: usize| {
        let mut all = elements.chunks_exact(outer.max(1)).flat_map(|chunk| &chunk[i * inner..(i + 1) * inner]);
        let first: f64 = (*all.next()?).into();
        all.all(|&x| x.into() == first).then_some(first)
    };
    (0..shape[axis]).map(slab).collect()
}
