//! Random networks of the wirings that channels run through in real ones: residual stages, concatenation and
//! splits, shuffles, squeeze and excitation, grouped and depthwise convolutions, heads, recurrent layers.
//!
//! Extents are small and channels are many, as only those are removed. Whatever is left over at the end is read
//! by a layer of its own, as a channel that is a result could not go.

use optc_ir::op::{
    AveragePool, BatchNorm, Binary, Cast, Clip, Concat, Conv, ConvTranspose, DepthOrder, DepthToSpace,
    DequantizeLinear, Einsum, Expand, Flatten, Gather, Gelu, Gemm, GlobalAveragePool, GroupNorm, Gru, Input,
    InstanceNorm, LayerNorm, Linear, LpNorm, Lstm, MatMul, MaxPool, Pad, Reduce, ReduceAttrs, ReduceKind, Reshape,
    Resize, RmsNorm, Slice, Softmax, SpaceToDepth, Split, Tile, Transpose, Unary, Unsqueeze, Where,
};
use optc_ir::{Constant, DType, Data, Dim, Graph, Op, Tensor, Type, ValueId};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Blocks a graph has at most.
const MAX_BLOCKS: usize = 7;

/// Values with more elements a sample are not built upon.
const MAX_ELEMENTS: usize = 2048;

/// The network of a seed.
pub fn random_topology(seed: u64) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut graph = Graph::new(format!("topology_{seed}"));
    let batch = if rng.random_bool(0.3) { Dim::sym("N") } else { Dim::Fixed(rng.random_range(1..=2)) };
    let image = [batch, rng.random_range(1..=3).into(), 4.into(), 4.into()];
    let x = graph.add_input("x", Type::tensor(DType::F32, image)).into();
    let mut net = Net { rng, graph, open: vec![x] };
    for _ in 0..net.rng.random_range(1..=MAX_BLOCKS) {
        let x = net.pick();
        net.block(x);
    }
    net.finish()
}

struct Net {
    rng: ChaCha8Rng,
    graph: Graph,
    open: Vec<ValueId>,
}

impl Net {
    fn finish(mut self) -> Graph {
        let unread: Vec<ValueId> = self.open.clone();
        let mut count = 0;
        for value in unread {
            let rank = self.shape(value).len();
            if !self.graph.uses(value).is_empty() || self.graph.constant(value).is_some() {
                continue;
            }
            let read = match rank {
                4 => self.conv(value, 2, 1, 1),
                2 | 3 => self.linear(value, 2),
                _ => Some(value),
            };
            if let Some(read) = read {
                self.graph.add_result(&format!("y{count}"), read);
                count += 1;
            }
        }
        if count == 0 {
            let last = *self.open.last().expect("there is an input");
            self.graph.add_result("y0", last);
        }
        self.graph
    }

    /// The extents of a value; 1 for those that are not known.
    fn shape(&self, value: ValueId) -> Vec<usize> {
        self.graph.ty(value).shape().unwrap_or_default().iter().map(|dim| dim.fixed().unwrap_or(1)).collect()
    }

    fn pick(&mut self) -> ValueId {
        let from = if self.rng.random_bool(0.75) { self.open.len().saturating_sub(2) } else { 0 };
        self.open[self.rng.random_range(from..self.open.len())]
    }

    fn node(&mut self, op: impl Into<Op>, operands: &[Option<ValueId>]) -> Option<ValueId> {
        let op = op.into();
        let name = op.name().to_owned();
        let node = self.graph.add(&name, op, operands).ok()?;
        Some(node.into())
    }

    fn keep(&mut self, value: Option<ValueId>) {
        if let Some(value) = value
            && self.shape(value).iter().product::<usize>() <= MAX_ELEMENTS
        {
            self.open.push(value);
        }
    }

    fn weights(&mut self, name: &str, shape: &[usize]) -> Option<ValueId> {
        let data: Vec<f32> = (0..shape.iter().product()).map(|_| self.rng.random_range(-0.5..0.5)).collect();
        Some(self.graph.add_tensor(name, Tensor::f32(shape, data)).into())
    }

    fn positive(&mut self, name: &str, shape: &[usize]) -> Option<ValueId> {
        let data: Vec<f32> = (0..shape.iter().product()).map(|_| self.rng.random_range(0.5..1.5)).collect();
        Some(self.graph.add_tensor(name, Tensor::f32(shape, data)).into())
    }

    fn ints(&mut self, ints: &[i64]) -> Option<ValueId> {
        Some(self.graph.add_tensor("ints", Tensor::i64([ints.len()], ints.to_vec())).into())
    }

    /// An even number of channels, so that it divides.
    fn width(&mut self) -> usize {
        *[4, 6, 8, 12].choose(&mut self.rng).expect("the list is not empty")
    }

    fn conv(&mut self, x: ValueId, out: usize, kernel: usize, group: usize) -> Option<ValueId> {
        let channels = self.shape(x)[1];
        let w = self.weights("w", &[out, channels / group, kernel, kernel]);
        let b = if self.rng.random_bool(0.6) { self.weights("b", &[out]) } else { None };
        let pads = if self.rng.random_bool(0.7) { vec![kernel / 2; 4] } else { vec![] };
        self.node(Conv { group, pads, ..Conv::default() }, &[Some(x), w, b])
    }

    /// A convolution that keeps the extents of images.
    fn same(&mut self, x: ValueId, out: usize) -> Option<ValueId> {
        let channels = self.shape(x)[1];
        let kernel = *[1, 3].choose(&mut self.rng)?;
        let w = self.weights("w", &[out, channels, kernel, kernel]);
        self.node(Conv { pads: vec![kernel / 2; 4], ..Conv::default() }, &[Some(x), w])
    }

    fn linear(&mut self, x: ValueId, out: usize) -> Option<ValueId> {
        let features = *self.shape(x).last()?;
        let (w, b) = (self.weights("w", &[out, features]), self.weights("b", &[out]));
        self.node(Linear::default(), &[Some(x), w, b])
    }

    fn reshape(&mut self, x: ValueId, shape: &[i64]) -> Option<ValueId> {
        let shape = self.ints(shape);
        self.node(Reshape::default(), &[Some(x), shape])
    }

    fn activation(&mut self, x: ValueId) -> Option<ValueId> {
        let ops = [Unary::Relu, Unary::Sigmoid, Unary::Tanh, Unary::Silu, Unary::HardSwish, Unary::Exp];
        match self.rng.random_range(0..8) {
            0 => {
                let limit = Some(self.graph.add_tensor("lo", Tensor::f32([], [-0.25])).into());
                self.node(Clip {}, &[Some(x), limit])
            }
            1 => self.node(Gelu::default(), &[Some(x)]),
            2 if self.shape(x).len() == 4 => {
                let channels = self.shape(x)[1];
                let slope = self.weights("slope", &[channels, 1, 1]);
                self.node(Op::Binary(Binary::PRelu), &[Some(x), slope])
            }
            _ => {
                let op = *ops.choose(&mut self.rng)?;
                self.node(Op::Unary(op), &[Some(x)])
            }
        }
    }

    fn block(&mut self, x: ValueId) {
        let value = match self.shape(x).len() {
            4 => self.image_block(x),
            3 => self.sequence_block(x),
            2 => self.matrix_block(x),
            _ => None,
        };
        self.keep(value);
    }

    fn image_block(&mut self, x: ValueId) -> Option<ValueId> {
        let shape = self.shape(x);
        let (channels, h, w) = (shape[1], shape[2], shape[3]);
        let width = self.width();
        match self.rng.random_range(0..24) {
            0..=2 => {
                let kernel = *[1, 3].choose(&mut self.rng)?;
                let y = self.conv(x, width, kernel, 1)?;
                self.activation(y)
            }
            3 => {
                let times = self.rng.random_range(1..=2);
                let y = self.conv(x, width, 1, 1)?;
                self.conv(y, width * times, 3, width)
            }
            4 => {
                let y = self.conv(x, width, 1, 1)?;
                let y = self.activation(y)?;
                let out = *[4, 8, 12].choose(&mut self.rng)?;
                self.conv(y, out, 1, 2)
            }
            5 => {
                let group = *[1, 2].choose(&mut self.rng)?;
                let y = self.same(x, width)?;
                let (w, b) = (self.weights("w", &[width, 3, 2, 2]), self.weights("b", &[3 * group]));
                let attrs = ConvTranspose { group, strides: vec![1, 2], ..ConvTranspose::default() };
                self.node(attrs, &[Some(y), w, b])
            }
            6 => {
                let y = self.same(x, width)?;
                let scale = self.weights("scale", &[width]);
                let (b, mean, var) =
                    (self.weights("b", &[width]), self.weights("m", &[width]), self.positive("v", &[width]));
                let y = self.node(BatchNorm::default(), &[Some(y), scale, b, mean, var])?;
                self.activation(y)
            }
            7 => {
                // A stage: everything that is added has one set of channels.
                let (mut y, z) = (self.same(x, width)?, self.same(x, width)?);
                for _ in 0..self.rng.random_range(0..2) {
                    let inner = self.same(y, 6)?;
                    let inner = self.activation(inner)?;
                    let back = self.same(inner, width)?;
                    y = self.node(Op::Binary(Binary::Add), &[Some(y), Some(back)])?;
                }
                self.node(Op::Binary(Binary::Add), &[Some(y), Some(z)])
            }
            8 => {
                let (y, z) = (self.same(x, width)?, self.same(x, 6)?);
                self.keep(Some(y));
                self.node(Concat { axis: 1 }, &[Some(y), Some(z), Some(x)])
            }
            9 => {
                let y = self.same(x, width)?;
                let first = self.rng.random_range(1..width);
                let pieces = self.node(Split { axis: 1, sizes: vec![first, width - first] }, &[Some(y)])?;
                let (a, b) = (pieces.node.result(0), pieces.node.result(1));
                let order = if self.rng.random_bool(0.5) { [a, b] } else { [b, a] };
                let a = self.activation(order[0])?;
                self.node(Concat { axis: 1 }, &[Some(a), Some(order[1])])
            }
            10 => {
                let y = self.same(x, 8)?;
                let groups = *[2, 4].choose(&mut self.rng)?;
                let (g, n) = (groups as i64, 8 / groups as i64);
                let y = self.reshape(y, &[0, g, n, h as i64, w as i64])?;
                let y = self.node(Transpose { perm: vec![0, 2, 1, 3, 4] }, &[Some(y)])?;
                let y = self.reshape(y, &[0, 8, h as i64, -1])?;
                if self.rng.random_bool(0.5) { self.conv(y, 8, 1, groups) } else { Some(y) }
            }
            11 => {
                let y = self.same(x, width)?;
                let pooled = self.node(GlobalAveragePool {}, &[Some(y)])?;
                let squeezed = self.conv(pooled, 4, 1, 1)?;
                let squeezed = self.activation(squeezed)?;
                let excited = self.conv(squeezed, width, 1, 1)?;
                let gate = self.node(Op::Unary(Unary::Sigmoid), &[Some(excited)])?;
                self.node(Op::Binary(Binary::Mul), &[Some(y), Some(gate)])
            }
            12 => {
                let y = self.same(x, width)?;
                let step = *[1, 2, -1, -2].choose(&mut self.rng)?;
                let bounds = if step > 0 { (1, i64::MAX) } else { (-1, i64::MIN) };
                let (starts, ends) = (self.ints(&[bounds.0]), self.ints(&[bounds.1]));
                let (axes, steps) = (self.ints(&[1]), self.ints(&[step]));
                self.keep(Some(y));
                self.node(Slice {}, &[Some(y), starts, ends, axes, steps])
            }
            13 => {
                let y = self.same(x, width)?;
                let mut picked: Vec<i64> = (0..width as i64).collect();
                picked.shuffle(&mut self.rng);
                picked.truncate(self.rng.random_range(2..=width));
                picked[0] -= width as i64;
                let picked = self.ints(&picked);
                self.node(Gather { axis: 1 }, &[Some(y), picked])
            }
            14 => {
                // The shortcut of residual networks without weights: zeros beside the channels.
                let (y, z) = (self.same(x, 6)?, self.same(x, 9)?);
                let pads = self.ints(&[0, 1, 0, 0, 0, 2, 0, 0]);
                let y = self.node(Pad::default(), &[Some(y), pads])?;
                self.node(Op::Binary(Binary::Add), &[Some(y), Some(z)])
            }
            15 => {
                let sizes = self.ints(&[1, channels as i64, 2 * h as i64, w as i64]);
                match self.graph.ty(x).shape()?[0] {
                    Dim::Fixed(1) => self.node(Resize::default(), &[Some(x), None, None, sizes]),
                    _ => {
                        let scales = Tensor::f32([4], [1.0, 1.0, 2.0, 1.0]);
                        let scales = Some(self.graph.add_tensor("scales", scales).into());
                        self.node(Resize::default(), &[Some(x), None, scales])
                    }
                }
            }
            16 if h > 1 && w > 1 => {
                let (kernel, pads) = (vec![2, 2], vec![0, 1, 1, 0]);
                if self.rng.random_bool(0.5) {
                    self.node(MaxPool { kernel, pads, ..MaxPool::default() }, &[Some(x)])
                } else {
                    self.node(
                        AveragePool { kernel, pads, count_include_pad: true, ..AveragePool::default() },
                        &[Some(x)],
                    )
                }
            }
            17 => {
                let order = if self.rng.random_bool(0.5) { DepthOrder::Crd } else { DepthOrder::Dcr };
                let y = self.same(x, 12)?;
                self.node(DepthToSpace { block: 2, order }, &[Some(y)])
            }
            18 if h.is_multiple_of(2) && w.is_multiple_of(2) => {
                let y = self.same(x, 4)?;
                self.node(SpaceToDepth { block: 2 }, &[Some(y)])
            }
            19 => {
                let y = self.same(x, width)?;
                let (scale, b) = (self.weights("scale", &[width]), self.weights("b", &[width]));
                if self.rng.random_bool(0.5) {
                    self.node(GroupNorm { groups: 2, eps: 0.1, per_group: false }, &[Some(y), scale, b])
                } else {
                    self.node(InstanceNorm { eps: 0.1 }, &[Some(y), scale, b])
                }
            }
            20 => {
                // Channels last, as networks from other frameworks have them.
                let y = self.node(Transpose { perm: vec![0, 2, 3, 1] }, &[Some(x)])?;
                let y = self.linear(y, width)?;
                let y = self.activation(y)?;
                self.node(Transpose { perm: vec![0, 3, 1, 2] }, &[Some(y)])
            }
            21 => {
                let y = self.node(Flatten::default(), &[Some(x)])?;
                if self.rng.random_bool(0.5) { self.linear(y, width) } else { Some(y) }
            }
            22 => {
                let y = self.same(x, 8)?;
                let y = self.reshape(y, &[0, 8, -1])?;
                self.node(Transpose { perm: vec![0, 2, 1] }, &[Some(y)])
            }
            _ => {
                let y = self.same(x, width)?;
                let axis = *[1, 2].choose(&mut self.rng)?;
                match self.rng.random_range(0..5) {
                    0 => self.node(Softmax { axis, flatten: false }, &[Some(y)]),
                    3 => self.node(LpNorm { axis, p: axis }, &[Some(y)]),
                    4 => {
                        let attrs = ReduceAttrs { axes: Some(vec![axis, 3]), keepdims: true };
                        let mean = self.node(Op::Reduce(Reduce { kind: ReduceKind::Mean, attrs }), &[Some(y)])?;
                        self.node(Op::Binary(Binary::Sub), &[Some(y), Some(mean)])
                    }
                    1 => {
                        let attrs = ReduceAttrs { axes: Some(vec![axis]), keepdims: true };
                        self.node(Op::Reduce(Reduce { kind: ReduceKind::L2, attrs }), &[Some(y)])
                    }
                    _ => {
                        let condition = Data::Bool((0..width).map(|i| i % 3 == 0).collect());
                        let condition = Tensor::new([width, 1, 1], condition);
                        let condition = Some(self.graph.add_tensor("mask", condition).into());
                        let other = self.weights("other", &[1, width, 1, 1]);
                        self.node(Where {}, &[condition, Some(y), other])
                    }
                }
            }
        }
    }

    fn sequence_block(&mut self, x: ValueId) -> Option<ValueId> {
        let features = *self.shape(x).last()?;
        let width = self.width();
        match self.rng.random_range(0..7) {
            0 => {
                let y = self.linear(x, width)?;
                let y = self.activation(y)?;
                let y = self.linear(y, features)?;
                self.node(Op::Binary(Binary::Add), &[Some(x), Some(y)])
            }
            1 | 2 => self.attention(x),
            3 => {
                // Recurrent layers take the steps first.
                let y = self.node(Transpose { perm: vec![1, 0, 2] }, &[Some(x)])?;
                let hidden = 5;
                let (lstm, gates) = if self.rng.random_bool(0.5) { (true, 4) } else { (false, 3) };
                let (w, r) = (
                    self.weights("w", &[1, gates * hidden, features]),
                    self.weights("r", &[1, gates * hidden, hidden]),
                );
                let b = self.weights("b", &[1, 2 * gates * hidden]);
                let y = if lstm {
                    let p = self.weights("p", &[1, 3 * hidden]);
                    let attrs = Lstm { hidden_size: hidden, ..Lstm::default() };
                    self.node(attrs, &[Some(y), w, r, b, None, None, None, p])
                } else {
                    let attrs =
                        Gru { hidden_size: hidden, linear_before_reset: self.rng.random_bool(0.5), ..Gru::default() };
                    self.node(attrs, &[Some(y), w, r, b])
                }?;
                let y = self.node(Transpose { perm: vec![2, 0, 1, 3] }, &[Some(y)])?;
                self.reshape(y, &[0, -1, hidden as i64])
            }
            4 => {
                let y = self.linear(x, width)?;
                let (scale, b) = (self.weights("scale", &[width]), self.weights("b", &[width]));
                match self.rng.random_bool(0.5) {
                    true => self.node(LayerNorm { eps: 0.1, ..LayerNorm::default() }, &[Some(y), scale, b]),
                    false => self.node(RmsNorm { eps: 0.1, ..RmsNorm::default() }, &[Some(y), scale]),
                }
            }
            5 => {
                // Weights as codes, with a scale for each output.
                let codes = (0..width * features).map(|_| self.rng.random_range(-90..90)).collect();
                let codes = Tensor::new([width, features], Data::I8(codes));
                let codes = Some(self.graph.add_tensor("codes", codes).into());
                let scale = self.positive("scale", &[width]);
                let w = self.node(DequantizeLinear { axis: 0, block: 0 }, &[codes, scale])?;
                let w = self.node(Cast { to: DType::F32 }, &[Some(w)]);
                let y = self.node(Linear::default(), &[Some(x), w])?;
                let small = Some(self.graph.add_tensor("small", Tensor::f32([], [0.01])).into());
                self.node(Op::Binary(Binary::Mul), &[Some(y), small])
            }
            _ => {
                let (w, v) = (self.weights("w", &[features, width]), self.weights("v", &[width, 3, 2]));
                let y = self.node(MatMul {}, &[Some(x), w])?;
                self.keep(Some(y));
                let y = self.node(Einsum { equation: "bsw,wkj->bskj".to_owned() }, &[Some(y), v])?;
                self.reshape(y, &[0, 0, 6])
            }
        }
    }

    /// Heads, separate or packed, with keys and values shared by pairs of heads now and then.
    fn attention(&mut self, x: ValueId) -> Option<ValueId> {
        let features = *self.shape(x).last()?;
        let (heads, size) = (4, 3);
        let all = heads * size;
        let split = |net: &mut Net, y: ValueId, heads: usize| {
            let y = net.reshape(y, &[0, -1, heads as i64, size as i64])?;
            net.node(Transpose { perm: vec![0, 2, 1, 3] }, &[Some(y)])
        };
        let kind = self.rng.random_range(0..3);
        let (q, k, v) = match kind {
            0 => {
                let packed = self.linear(x, 3 * all)?;
                let pieces = self.node(Split { axis: 2, sizes: vec![all; 3] }, &[Some(packed)])?;
                let [q, k, v] = [0, 1, 2].map(|i| pieces.node.result(i));
                (split(self, q, heads)?, split(self, k, heads)?, split(self, v, heads)?)
            }
            1 => {
                // Half as many heads of keys and values, each repeated for two of queries.
                let (q, k, v) = (self.linear(x, all)?, self.linear(x, all / 2)?, self.linear(x, all / 2)?);
                let (q, k, v) = (split(self, q, heads)?, split(self, k, heads / 2)?, split(self, v, heads / 2)?);
                let mut repeat = |y: ValueId| {
                    let y = self.node(Unsqueeze { axes: vec![2] }, &[Some(y)])?;
                    let y = if self.rng.random_bool(0.5) {
                        let shape = self.ints(&[1, 1, 2, 1, 1]);
                        self.node(Expand {}, &[Some(y), shape])?
                    } else {
                        let repeats = self.ints(&[1, 1, 2, 1, 1]);
                        self.node(Tile {}, &[Some(y), repeats])?
                    };
                    self.reshape(y, &[0, heads as i64, -1, size as i64])
                };
                (q, repeat(k)?, repeat(v)?)
            }
            _ => {
                let [q, k, v] = [0, 1, 2].map(|_| self.linear(x, all));
                (split(self, q?, heads)?, split(self, k?, heads)?, split(self, v?, heads)?)
            }
        };
        let k = self.node(Transpose { perm: vec![0, 1, 3, 2] }, &[Some(k)])?;
        let scores = self.node(MatMul {}, &[Some(q), Some(k)])?;
        let scores = self.node(Softmax::default(), &[Some(scores)])?;
        let y = self.node(MatMul {}, &[Some(scores), Some(v)])?;
        let y = self.node(Transpose { perm: vec![0, 2, 1, 3] }, &[Some(y)])?;
        let y = self.reshape(y, &[0, -1, all as i64])?;
        let y = self.linear(y, features)?;
        self.node(Op::Binary(Binary::Add), &[Some(x), Some(y)])
    }

    fn matrix_block(&mut self, x: ValueId) -> Option<ValueId> {
        let features = self.shape(x)[1];
        let width = self.width();
        match self.rng.random_range(0..4) {
            0 => {
                let y = self.linear(x, width)?;
                self.activation(y)
            }
            1 => {
                let trans_b = self.rng.random_bool(0.5);
                let shape = if trans_b { [width, features] } else { [features, width] };
                let (w, c) = (self.weights("w", &shape), self.weights("c", &[1, width]));
                self.node(Gemm { trans_b, alpha: 0.5, ..Gemm::default() }, &[Some(x), w, c])
            }
            2 => {
                let y = self.linear(x, 2 * width)?;
                let pieces = self.node(Split { axis: -1, sizes: vec![width; 2] }, &[Some(y)])?;
                let gate = self.activation(pieces)?;
                self.node(Op::Binary(Binary::Mul), &[Some(gate), Some(pieces.node.result(1))])
            }
            _ => {
                let (y, z) = (self.linear(x, width)?, self.linear(x, width)?);
                self.node(Concat { axis: 1 }, &[Some(y), Some(z)])
            }
        }
    }
}

/// The same network in `f64`: in numbers that fine, what is equal in real arithmetic is equal up to a rounding
/// that no sum of a network of this size can make visible. Only parameters that must be `f32` stay.
///
/// # Errors
/// The node that has no rule for such numbers.
pub fn widened(graph: &Graph) -> Result<Graph, String> {
    let mut wide = graph.clone();
    for node in graph.nodes() {
        match graph.op(node) {
            Op::Const(constant) if constant.dtype() == DType::F32 => {
                let stays = |&(user, slot): &(_, usize)| match graph.op(user) {
                    Op::Resize(_) => slot > 0,
                    Op::DequantizeLinear(_) => true,
                    _ => false,
                };
                if !graph.uses(node.into()).iter().any(stays) {
                    let data = Data::from_f64(DType::F64, constant.decode().data().to_f64());
                    wide.set_op(node, Op::Const(Constant::dense(Tensor::new(constant.shape(), data)).into()));
                }
            }
            Op::Input(input) => {
                if let Type::Tensor(ty) = &input.ty {
                    wide.set_op(node, Op::Input(Input { ty: Type::tensor(DType::F64, ty.shape.clone()) }));
                }
            }
            Op::Cast(_) => wide.set_op(node, Cast { to: DType::F64 }),
            _ => {}
        }
    }
    wide.infer_all().map_err(|(node, e)| format!("{node}: {e}"))?;
    Ok(wide)
}
