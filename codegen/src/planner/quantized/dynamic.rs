//! Dynamically quantized layers: numbers are quantized on a grid that follows from them, multiplied by codes of
//! weights, and the integer sums are scaled.
//!
//! `matmul_integer` or `conv_integer` of codes that `dynamic_quantize_linear` makes, cast to numbers and multiplied by
//! a scale, one or one an output, is one kernel, which takes in what follows as any layer does. With zero points z of x
//! and 0 of w, `Σ (x − z)·w = Σ x·w − z·Σw`: sums begin with the second, which a small kernel computes when z is known.
//! Results are those of the interpreter, bit by bit, where no function follows that rounds otherwise.

use std::collections::{HashMap, HashSet};

use optc_ir::op::{Act, Binary};
use optc_ir::{DType, Graph, NodeId, Op, ValueId};

use super::product::Weights;
use super::{quad, row_runs};
use crate::layout::{CodeImage, Layout, widen};
use crate::pack::Packing;
use crate::plan::{Arg, Place};
use crate::planner::Planner;
use crate::planner::chain::Chain;
use crate::planner::conv::Window;
use crate::planner::matrix::Product;
use crate::tile::contract::{self, Contract, Tiling};
use crate::tile::copy::Copy;
use crate::tile::dynamic::{Begins, DynamicCodes, DynamicGrid, Extremes, GRID_BYTES};
use crate::tile::epilogue::{Epilogue, Other, Strides};
use crate::tile::function::Function;
use crate::tile::{LANES, VECTOR_BYTES, signed};

/// A layer, named by the multiplication that scales its sums.
#[derive(Clone, Debug)]
struct Scaled {
    /// The integer product.
    sums: NodeId,
    /// What quantizes its left operand.
    quantize: NodeId,
    /// What sums are multiplied by.
    factor: ValueId,
    /// The groups and the window of a convolution.
    window: Option<(usize, Window)>,
    weights: Weights,
    /// Whether weights are no bytes, but sums of two.
    halved: bool,
    /// What its sums begin with, in parts.
    begins: Vec<f32>,
}

/// What was found, and what became of it.
#[derive(Debug, Default)]
pub(in crate::planner) struct Dynamic {
    layers: HashMap<NodeId, Scaled>,
    /// Quantizations that no others read, and where their codes and their grid lie once they are planned.
    quantized: HashMap<NodeId, Option<Codes>>,
    /// Borders that convolutions need around what is quantized.
    borders: HashMap<NodeId, [usize; 4]>,
}

/// Codes, and the buffer of their grid.
#[derive(Clone, Copy, Debug)]
struct Codes {
    buffer: usize,
    image: CodeImage,
    grid: usize,
}

impl Dynamic {
    /// Finds the layers of a graph of known shapes.
    pub(in crate::planner) fn find(graph: &Graph) -> Dynamic {
        let order = graph.topo_order();
        let mut layers: HashMap<NodeId, Scaled> =
            order.iter().filter_map(|&node| Some((node, scaled(graph, node)?))).collect();
        let found: HashSet<NodeId> = layers.values().map(|layer| layer.sums).collect();
        let alone = |quantize: NodeId| {
            let users = [0, 2].map(|result| graph.uses(quantize.result(result)));
            users.iter().flatten().all(|(user, _)| found.contains(user))
        };
        layers.retain(|_, layer| alone(layer.quantize));
        let quantized = layers.values().map(|layer| (layer.quantize, None)).collect();
        let mut borders: HashMap<NodeId, [usize; 4]> = HashMap::new();
        for layer in order.iter().filter_map(|node| layers.get(node)) {
            let Some((_, window)) = &layer.window else { continue };
            widen(borders.entry(layer.quantize).or_default(), window.border());
        }
        Dynamic { layers, quantized, borders }
    }

    /// Nodes that the layers compute themselves, and the node that names the layer.
    pub(in crate::planner) fn absorbed(&self, graph: &Graph) -> Vec<(NodeId, NodeId)> {
        let of = |(&end, layer): (&NodeId, &Scaled)| {
            let cast = graph.sole_user(layer.sums.into());
            [Some(layer.sums), cast].into_iter().flatten().map(move |node| (node, end))
        };
        self.layers.iter().flat_map(of).collect()
    }

    /// The borders needed around what is quantized.
    pub(in crate::planner) fn borders(&self, graph: &Graph) -> Vec<(ValueId, [usize; 4])> {
        self.borders.iter().filter_map(|(&node, &border)| Some((graph.operand(node, 0)?, border))).collect()
    }

    /// Whether a node scales a layer.
    pub(in crate::planner) fn scales(&self, node: NodeId) -> bool {
        self.layers.contains_key(&node)
    }
}

/// The shape of numbers of which there are some.
fn shape(graph: &Graph, value: ValueId) -> Option<Vec<usize>> {
    let ty = graph.ty(value).as_tensor().filter(|ty| ty.dtype == DType::F32)?;
    ty.fixed_shape().filter(|shape| !shape.contains(&0))
}

/// A multiplication as the end of a layer, if there is a kernel for it.
fn scaled(graph: &Graph, node: NodeId) -> Option<Scaled> {
    let Op::Binary(Binary::Mul) = graph.op(node) else { return None };
    let operands = [graph.operand(node, 0)?, graph.operand(node, 1)?];
    let (sums, factor) = [0, 1].into_iter().find_map(|own| {
        let cast = operands[own];
        let Op::Cast(_) = graph.op(cast.node) else { return None };
        let sums = graph.operand(cast.node, 0)?;
        let alone = graph.sole_user(cast) == Some(node) && graph.sole_user(sums) == Some(cast.node);
        alone.then_some((sums.node, operands[1 - own]))
    })?;
    let known = matches!(graph.op(sums), Op::MatMulInteger(_) | Op::ConvInteger(_));
    let codes = graph.operand(sums, 0).filter(|_| known)?;
    let quantize = codes.node;
    let Op::DynamicQuantizeLinear(_) = graph.op(quantize) else { return None };
    (codes == quantize.result(0) && graph.operand(sums, 2) == Some(quantize.result(2))).then_some(())?;
    let (x, y) = (shape(graph, graph.operand(quantize, 0)?)?, shape(graph, node.into())?);
    let value = graph.operand(sums, 1)?;
    let constant = graph.constant(value)?.clone();
    let zeros = match graph.operand(sums, 3) {
        None => vec![0],
        Some(_) => graph.constant_operand(sums, 3)?.decode().data().to_i64()?,
    };
    let kernel = constant.shape().to_vec();
    (y.len() == x.len()).then_some(())?;
    let (window, transposed) = match graph.op(sums) {
        Op::ConvInteger(conv) if kernel.len() == 4 => {
            let own = conv.convolution();
            let window = Window::new(&own.window(kernel[2..].iter().copied()), &x, &y)?;
            let depthwise = conv.group > 1 && window.channels == [conv.group, conv.group];
            (!depthwise || window.axes[1].dilation == 1).then_some(())?;
            (Some((conv.group, window)), false)
        }
        Op::MatMulInteger(_) if (2..=3).contains(&x.len()) && kernel.len() == 2 => (None, true),
        _ => return None,
    };
    let weights = Weights::new(value, constant, transposed, zeros)?;
    let scales = shape(graph, factor)?;
    let trailing = if transposed { 0 } else { 2 };
    let along = scales.len().checked_sub(1 + trailing).map(|axis| scales[axis]);
    let count = scales.iter().product::<usize>();
    (count == 1 || count == weights.outputs && along == Some(count)).then_some(())?;
    // No sum leaves 32 bits.
    (2 * 255 * 128 * i64::try_from(weights.depth).ok()? < i64::from(i32::MAX)).then_some(())?;
    let numbers: Vec<i16> = weights.numbers()?;
    let byte = |w: i16| i8::try_from(w).is_ok();
    let halved = !numbers.iter().all(|&w| byte(w));
    let fits = !halved || window.is_none() && numbers.iter().all(|&w| halves(w).is_some());
    let begins = Begins::parts(&weights.sums(&numbers)).filter(|_| fits)?;
    Some(Scaled { sums, quantize, factor, window, weights, halved, begins })
}

/// Two bytes whose sum is a weight, if there are such.
fn halves(weight: i16) -> Option<[i8; 2]> {
    let half = weight >> 1;
    Some([i8::try_from(half).ok()?, i8::try_from(weight - half).ok()?])
}

impl Planner<'_> {
    /// Finds dynamically quantized layers and the borders they need.
    pub(in crate::planner) fn find_dynamic(&mut self) {
        if !self.target.vectors.multiply_codes() {
            return;
        }
        self.dynamic = Dynamic::find(self.graph);
        self.absorbed.extend(self.dynamic.absorbed(self.graph));
        for (value, needed) in self.dynamic.borders(self.graph) {
            widen(self.borders.entry(value).or_default(), needed);
        }
    }

    /// A `dynamic_quantize_linear` that only such layers read.
    pub(in crate::planner) fn dynamic_quantize(&mut self, node: NodeId) -> Option<()> {
        let None = self.dynamic.quantized.get(&node)? else { return None };
        let x = self.graph.operand(node, 0)?;
        let shape = self.f32_shape(x)?;
        let elements: usize = shape.iter().product();
        let (from, steps, image) = match shape[..] {
            [images, channels, rows, columns] => {
                let border = self.dynamic.borders.get(&node).copied().unwrap_or_default();
                let (buffer, blocked) = self.blocked(node, x, border)?;
                // The border is zero, and so are its codes.
                let image = CodeImage::new([images, channels, rows, columns], blocked.border);
                (Arg::Buffer(buffer, 0), blocked.strides(), image)
            }
            _ => {
                let channels = *shape.last()?;
                let image = CodeImage::new([elements / channels, channels, 1, 1], [0; 4]);
                let block = signed(VECTOR_BYTES);
                (self.plain(node, x)?, Strides { image: signed(channels * 4), block, ..Strides::default() }, image)
            }
        };
        let whole_blocks = shape.len() == 4;
        // Whole blocks are looked at as they lie; other channels that fill a block up have no meaning.
        let looked_at = if whole_blocks && image.shape[1].is_multiple_of(LANES) {
            (from, image.bytes())
        } else {
            (self.plain(node, x)?, elements)
        };
        let extremes = Extremes { elements: looked_at.1 };
        let (kept, grid) = (self.buffer(extremes.bytes()), self.buffer(GRID_BYTES));
        self.kernel(node, extremes.clone(), vec![looked_at.0, Arg::Buffer(kept, 0)]);
        self.kernel(node, DynamicGrid::of(&extremes), vec![Arg::Buffer(kept, 0), Arg::Buffer(grid, 0)]);
        self.put(node.result(1), Place { buffer: grid, layout: Layout::plain(&[]) });
        let buffer = self.buffer(image.bytes());
        let codes = DynamicCodes {
            images: image.shape[0],
            channels: image.shape[1],
            rows: image.rows(),
            columns: image.columns(),
            x: steps,
            y: image.strides(),
            whole_blocks,
        };
        self.kernel(node, codes, vec![from, Arg::Buffer(grid, 0), Arg::Buffer(buffer, 0)]);
        self.dynamic.quantized.insert(node, Some(Codes { buffer, image, grid }));
        Some(())
    }

    /// A dynamically quantized layer, and the functions that follow it.
    pub(in crate::planner) fn dynamic_layer(&mut self, chain: &Chain) -> Option<()> {
        let layer = self.dynamic.layers.get(&chain.start)?.clone();
        let codes = (*self.dynamic.quantized.get(&layer.quantize)?)?;
        match layer.window {
            Some((group, window)) => {
                let (mut epilogue, following) = self.image_epilogue(chain, Act::None, window.output())?;
                let mut operands = self.scaling(chain.start, &layer, codes.grid, &mut epilogue)?;
                operands.extend(following);
                let (place, out) = self.place_blocked(chain.end, chain.end.into(), window.output());
                let places = ((codes.buffer, &codes.image), (Arg::Buffer(place.buffer, out.start()), out.strides()));
                self.convolution_of_codes(chain.end, &layer.weights, places, (group, &window), (epilogue, operands))
            }
            None => self.dynamic_product(chain, &layer, codes),
        }
    }

    fn dynamic_product(&mut self, chain: &Chain, layer: &Scaled, codes: Codes) -> Option<()> {
        let Codes { buffer, image, grid } = codes;
        let weights = layer.weights.clone();
        let (m, n, depth) = (image.shape[0], weights.outputs, weights.depth);
        let product = Product { batch: [1, 1], m, n, k: depth, a: [0; 4], c: [0, 0, signed(n * 4)] };
        let (mut epilogue, following) = self.matrix_epilogue(chain, true, Act::None, &product)?;
        let operands = self.scaling(chain.start, layer, grid, &mut epilogue)?;
        let quads = depth.div_ceil(4);
        let mut runs = row_runs(quads, image.strides().block);
        if layer.halved {
            // Once more, by the other halves of the weights.
            runs.extend(runs.clone());
        }
        let how_weights_lie = contract::Weights::Quads { summed: depth };
        let shape = [n.div_ceil(LANES), 1, m];
        let contract = Contract {
            images: 1,
            groups: 1,
            outputs: n,
            rows: 1,
            columns: m,
            runs,
            x: Strides { column: image.strides().image, ..Strides::default() },
            y: Strides { column: signed(n * 4), block: signed(VECTOR_BYTES), ..Strides::default() },
            whole_blocks: false,
            weights: how_weights_lie,
            tiling: Tiling::choose_with(&how_weights_lie, &self.target, shape, epilogue.temporaries()),
            epilogue,
        };
        let how = format!("codes {} {}", contract.tiling.blocks, layer.halved);
        let packing = contract.clone();
        let halved = layer.halved;
        let w = self.packed_quantized(&layer.weights, how, move || {
            let numbers: Vec<i16> = weights.numbers()?;
            let half =
                |w: i16, which: usize| if halved { halves(w).map(|halves| halves[which]) } else { w.try_into().ok() };
            let parts: Option<Vec<Vec<i8>>> = (0..1 + usize::from(halved))
                .map(|which| numbers.iter().map(|&w| half(w, which)).collect::<Option<Vec<i8>>>())
                .collect();
            let parts = parts?;
            Some(packing.pack_quads(|_, o, k| quad(&parts[k / quads][o * depth..][..depth], k % quads * 4)))
        });
        let output = self.f32_shape(chain.end.into())?;
        let place = self.place_plain(chain.end.into(), &output);
        let mut args = vec![Arg::Buffer(buffer, 0), w, Arg::Buffer(place.buffer, 0)];
        args.extend(operands);
        args.extend(following);
        self.kernel(chain.end, contract, args);
        Some(())
    }

    /// Lets an epilogue begin with integers and scale them before all else; the first arguments it reads.
    fn scaling(&mut self, node: NodeId, layer: &Scaled, grid: usize, epilogue: &mut Epilogue) -> Option<Vec<Arg>> {
        (epilogue.bias, epilogue.integers) = (true, true);
        for (_, other) in &mut epilogue.steps {
            if let Other::Vector(operand) = other {
                *operand += 1;
            }
        }
        epilogue.steps.insert(0, (Function::Mul, Other::Vector(0)));
        epilogue.operands.insert(0, Strides { block: signed(VECTOR_BYTES), ..Strides::default() });
        // What sums begin with.
        let begins = Begins { blocks: layer.begins.len() / (2 * LANES) };
        let begin = self.buffer(begins.blocks * VECTOR_BYTES);
        self.packings.push(Packing::Numbers(layer.begins.clone()));
        let parts = Arg::Constant(self.packings.len() - 1, 0);
        self.kernel(node, begins, vec![Arg::Buffer(grid, 0), parts, Arg::Buffer(begin, 0)]);
        // Factors in whole blocks.
        let outputs = layer.weights.outputs;
        let one = self.f32_shape(layer.factor)?.iter().product::<usize>() == 1;
        let from = self.vector(node, layer.factor)?;
        let factors = self.buffer(outputs.next_multiple_of(LANES) * 4);
        let copy = Copy::new(&[outputs], &[if one { 0 } else { 4 }], &[4]);
        self.kernel(node, copy, vec![from, Arg::Buffer(factors, 0)]);
        Some(vec![Arg::Buffer(begin, 0), Arg::Buffer(factors, 0)])
    }
}
