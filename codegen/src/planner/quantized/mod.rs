//! Quantized layers: values that are kept as codes, and the kernels that compute with them.

mod concat;
mod dynamic;
mod find;
mod planes;
mod product;
mod sparse;

use optc_ir::op::window;
use optc_ir::{ExecError, NodeId, Op, ValueId};

use super::Planner;
use super::conv::{Window, computed_groups};
use crate::layout::{Blocked, CodeImage, Layout, widen};
use crate::memory::Memory;
use crate::plan::{Arg, Place};
use crate::tile::contract::{Contract, Run, Tiling};
use crate::tile::depthwise_codes::DepthwiseCodes;
use crate::tile::epilogue::{Epilogue, Other, Recoding, Strides};
use crate::tile::function::Function;
use crate::tile::global_pool::{GlobalPool, Kind as Summary};
use crate::tile::pixels::{self, Pixels};
use crate::tile::pool::{Kind as PoolKind, Pool};
use crate::tile::recode::{Format, Recode};
use crate::tile::{LANES, VECTOR_BYTES, signed};

pub(super) use dynamic::Dynamic;
use find::{Body, Grid, images};
pub(super) use find::{Found, Layer, find};
pub(super) use planes::PlanesPlace;
use product::{Product, Requantization, Weights, sum_steps};

/// Quads of codes in a block of channels.
const QUADS: usize = LANES / 4;

/// Kernel columns that are unrolled; longer ones loop.
const UNROLLED: usize = 8;

/// Quads of a matrix that are unrolled.
const UNROLLED_QUADS: usize = 16;

/// A value that is kept as codes.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodePlace {
    buffer: usize,
    image: CodeImage,
    grid: Grid,
}

impl CodePlace {
    fn arg(&self) -> Arg {
        Arg::Buffer(self.buffer, self.image.start())
    }
}

/// Where the codes lie that a convolution reads, and where its result goes.
type Places<'a> = ((usize, &'a CodeImage), (Arg, Strides));

/// Codes made of others, or of what they were averaged to.
fn recoding(from: Grid, to: Grid) -> Recoding {
    let factor = from.scale / to.scale;
    Recoding { factor, offset: -f32::from(from.zero) * factor, zero: to.zero }
}

impl Planner<'_> {
    /// Collects the borders that convolutions need around codes.
    pub(super) fn find_code_borders(&mut self) {
        for node in self.graph.topo_order() {
            let Some(Layer { body: Body::Product(product), .. }) = self.layers.get(&node) else { continue };
            let Op::Conv(conv) = self.graph.op(product.node) else { continue };
            let x = product.x;
            let Some(window) = self.conv_window(product.node, conv) else { continue };
            widen(self.code_borders.entry(x).or_default(), window.border());
        }
    }

    /// Whether a layer of codes computes a node.
    pub(super) fn layers_compute(&self, node: NodeId) -> bool {
        self.absorbed.get(&node).is_some_and(|end| self.layers.contains_key(end))
    }

    /// Plans a layer of codes.
    ///
    /// # Errors
    /// If there is no kernel for what was found to have one: a bug.
    pub(super) fn code_layer(&mut self, end: NodeId, layer: &Layer) -> Result<(), ExecError> {
        if let Body::Product(product) = &layer.body {
            self.layer = Some(product.node);
        }
        let planned = match &layer.body {
            Body::Product(product) => self.product_of_codes(end, product, layer.grid),
            Body::Sum(values, functions) => self.sum_of_codes(end, *values, functions, layer.grid),
            Body::Pool(node, x) => self.pool_of_codes(end, (*node, *x), layer.grid),
            Body::Mean(x) => self.mean_of_codes(end, *x, layer.grid),
            Body::Concat(values) => self.concat_of_codes(end, values, layer.grid),
            Body::View(x) => self.view_of_codes(end, *x),
            Body::Quantize(x, narrow) => self.quantize(end, *x, *narrow, layer.grid),
        };
        self.layer = None;
        let name = || self.graph.name(end).to_owned();
        planned.ok_or_else(|| ExecError::Backend(format!("node {} has no kernel for its codes", name())))
    }

    /// A `dequantize_linear` whose operand is kept as codes, for what computes with numbers.
    pub(super) fn dequantize(&mut self, node: NodeId) -> Option<()> {
        let Op::DequantizeLinear(_) = self.graph.op(node) else { return None };
        let place = self.codes_in_blocks(node, self.graph.operand(node, 0)?)?;
        let own = self.f32_shape(node.into())?;
        let shape = images(self.graph, node.into())?;
        let (to, image) = if own.len() < 4 {
            let image = Blocked::new(shape);
            // Rows of whole blocks.
            let row = image.strides().image;
            let strides = match own[..] {
                [_, rows, _] => vec![row * signed(rows), row, 4],
                _ => vec![row, 4],
            };
            let layout = Layout::Strided { start: 0, strides };
            let place = Place { buffer: self.buffer(image.bytes()), layout };
            (self.put(node.into(), place), image)
        } else {
            self.place_blocked(node, node.into(), shape)
        };
        let Grid { scale, zero, .. } = place.grid;
        let recode = Recode {
            formats: [Format::Codes(zero), Format::F32],
            y: image.strides(),
            // Both steps are exact but for the rounding of the product.
            steps: vec![(Function::Sub, Other::Number(zero.into())), (Function::Mul, Other::Number(scale))],
            ..recode_of(&place, Format::F32)
        };
        self.kernel(node, recode, vec![place.arg(), Arg::Buffer(to.buffer, image.start())]);
        Some(())
    }

    /// A place for a value of codes, with the border its readers need.
    fn place_codes(&mut self, end: NodeId, grid: Grid, pixel: usize) -> Option<CodePlace> {
        self.place_value(end, end.into(), (grid, pixel))
    }

    /// A place for a value of codes that a node computes or brings there, with the border its readers need.
    fn place_value(&mut self, end: NodeId, value: ValueId, (grid, pixel): (Grid, usize)) -> Option<CodePlace> {
        let shape = images(self.graph, value)?;
        let border = self.code_borders.get(&value).copied().unwrap_or_default();
        let image = CodeImage { pixel, ..CodeImage::new(shape, border) };
        let place = CodePlace { buffer: self.buffer(image.bytes().next_multiple_of(4)), image, grid };
        if border != [0; 4] {
            self.kernel(end, image.clear_border(grid.zero), vec![Arg::Buffer(place.buffer, 0)]);
            self.overlap();
        }
        self.codes.insert(value, place);
        Some(place)
    }

    /// Numbers made codes.
    fn quantize(&mut self, end: NodeId, x: ValueId, narrow: bool, grid: Grid) -> Option<()> {
        let shape = self.f32_shape(x)?;
        let [images, channels, rows, columns] = images(self.graph, x)?;
        if narrow && !self.is_blocked(x) {
            let (arg, strides) = self.contiguous(end, x)?;
            let place = self.place_codes(end, grid, pixels::PIXEL)?;
            let steps = place.image.strides();
            let pixels = Pixels {
                images,
                channels,
                rows,
                columns,
                x: [strides[0], strides[1], strides[2]],
                y: [steps.image, steps.row],
                scale: grid.scale,
                zero: grid.zero,
            };
            self.kernel(end, pixels, vec![arg, place.arg()]);
            return Some(());
        }
        let (arg, x) = if shape.len() < 4 {
            let arg = self.plain(end, x)?;
            (arg, Strides { image: signed(channels * 4), block: signed(VECTOR_BYTES), ..Strides::default() })
        } else {
            let (buffer, image) = self.blocked(end, x, [0; 4])?;
            (Arg::Buffer(buffer, image.start()), image.strides())
        };
        let place = self.place_codes(end, grid, LANES)?;
        let recode = Recode {
            formats: [Format::F32, Format::Codes(grid.zero)],
            x,
            y: place.image.strides(),
            steps: vec![(Function::Div, Other::Number(grid.scale))],
            ..recode_of(&place, Format::F32)
        };
        self.kernel(end, recode, vec![arg, place.arg()]);
        Some(())
    }

    fn sum_of_codes(&mut self, end: NodeId, values: [ValueId; 2], functions: &[Function], grid: Grid) -> Option<()> {
        let [a, b] = [self.codes_in_blocks(end, values[0])?, self.codes_in_blocks(end, values[1])?];
        let place = self.place_codes(end, grid, LANES)?;
        let recode = Recode {
            y: place.image.strides(),
            steps: sum_steps([a.grid, b.grid], grid, functions),
            operand: Some(b.image.strides()),
            ..recode_of(&a, Format::Codes(grid.zero))
        };
        self.kernel(end, recode, vec![a.arg(), place.arg(), b.arg()]);
        Some(())
    }

    fn pool_of_codes(&mut self, end: NodeId, (node, x): (NodeId, ValueId), grid: Grid) -> Option<()> {
        let from = self.codes_in_blocks(end, x)?;
        let to = images(self.graph, node.into())?;
        let of = |window: &window::Window<'_>| Window::new(window, &from.image.shape, &to);
        let (kind, window) = match self.graph.op(node) {
            Op::MaxPool(pool) => (PoolKind::Max, of(&pool.window())?),
            Op::AveragePool(pool) => (PoolKind::Average { include_pad: false }, of(&pool.window())?),
            _ => return None,
        };
        let place = self.place_codes(end, grid, LANES)?;
        let pool = Pool {
            kind,
            images: window.images,
            blocks: from.image.blocks(),
            window: window.axes,
            x: from.image.strides(),
            y: place.image.strides(),
            codes: Some(recoding(from.grid, grid)),
        };
        self.kernel(end, pool, vec![from.arg(), place.arg()]);
        Some(())
    }

    fn mean_of_codes(&mut self, end: NodeId, x: ValueId, grid: Grid) -> Option<()> {
        let from = self.codes_in_blocks(end, x)?;
        let place = self.place_codes(end, grid, LANES)?;
        let [images, _, rows, columns] = from.image.shape;
        let pool = GlobalPool {
            kind: Summary::Mean,
            images,
            blocks: from.image.blocks(),
            rows,
            columns,
            x: from.image.strides(),
            y: Strides { row: 0, column: 0, ..place.image.strides() },
            codes: Some(recoding(from.grid, grid)),
        };
        self.kernel(end, pool, vec![from.arg(), place.arg()]);
        Some(())
    }

    fn view_of_codes(&mut self, end: NodeId, x: ValueId) -> Option<()> {
        let place = self.codes_in_blocks(end, x)?;
        // Where a border is needed that is not there, the codes are others'.
        (!self.code_borders.contains_key(&end.into())).then_some(())?;
        self.codes.insert(end.into(), place);
        Some(())
    }

    /// A convolution or matrix product.
    fn product_of_codes(&mut self, end: NodeId, product: &Product, grid: Grid) -> Option<()> {
        let graph = self.graph;
        if let Some(&algorithm) = self.sparse.get(&product.node) {
            let planned = self.sparse_product_of_codes(end, product, grid, algorithm).is_some();
            self.choices.planned(product.node, planned);
            if planned {
                return Some(());
            }
        }
        let x = self.codes_in_blocks(end, product.x)?;
        let other = match &product.sum {
            Some(sum) => Some(self.codes_in_blocks(end, sum.other)?),
            None => None,
        };
        let place = self.place_codes(end, grid, LANES)?;
        let Requantization { factors, steps, bias } = product.requantization(grid);
        let per_channel = Strides { block: signed(VECTOR_BYTES), ..Strides::default() };
        let mut epilogue =
            Epilogue { bias: true, steps, operands: vec![per_channel], integers: true, codes: Some(grid.zero) };
        let begin: Vec<f32> = product.begin.iter().map(|&b| f32::from_bits(b.cast_unsigned())).collect();
        let mut operands = vec![self.whole_blocks(&begin), self.whole_blocks(&factors)];
        if let Some(bias) = &bias {
            operands.push(self.whole_blocks(bias));
            epilogue.operands.push(per_channel);
        }
        if let Some(other) = &other {
            operands.push(other.arg());
            epilogue.operands.push(other.image.strides());
        }
        let y = place.arg();
        match graph.op(product.node) {
            Op::Conv(conv) => {
                let window = self.conv_window(product.node, conv)?;
                let places = ((x.buffer, &x.image), (y, place.image.strides()));
                self.convolution_of_codes(end, &product.weights, places, (conv.group, &window), (epilogue, operands))
            }
            _ => {
                let (x_steps, y_steps) = (x.image.strides(), place.image.strides());
                let of_rows = |s: Strides| Strides { column: s.image, image: 0, row: 0, ..s };
                epilogue.operands = epilogue.operands.into_iter().map(of_rows).collect();
                let quads = product.weights.depth.div_ceil(4);
                let contract = Contract {
                    images: 1,
                    groups: 1,
                    outputs: product.weights.outputs,
                    rows: 1,
                    columns: x.image.shape[0],
                    runs: row_runs(quads, x_steps.block),
                    x: Strides { block: 0, ..of_rows(x_steps) },
                    y: of_rows(y_steps),
                    whole_blocks: true,
                    weights: product.weights.quads(),
                    tiling: Tiling::choose_with(
                        &product.weights.quads(),
                        &self.target,
                        [place.image.blocks(), 1, x.image.shape[0]],
                        epilogue.temporaries(),
                    ),
                    epilogue,
                };
                let how = format!("codes {}", contract.tiling.blocks);
                let weights = product.weights.clone();
                let packing = contract.clone();
                let w = self.packed_quantized(&product.weights, how, move || {
                    let codes = weights.codes()?;
                    let depth = weights.depth;
                    Some(packing.pack_quads(|_, o, k| quad(&codes[o * depth..][..depth], k * 4)))
                });
                let mut args = vec![x.arg(), w, y];
                args.append(&mut operands);
                self.kernel(end, contract, args);
                Some(())
            }
        }
    }

    /// A convolution of codes in a buffer, to where y goes; operands of the epilogue are those of the kernel.
    fn convolution_of_codes(
        &mut self,
        end: NodeId,
        weights: &Weights,
        (x, y): Places<'_>,
        (group, window): (usize, &Window),
        (mut epilogue, mut operands): (Epilogue, Vec<Arg>),
    ) -> Option<()> {
        if group > 1 && window.channels == [group, group] {
            return self.depthwise_codes(end, weights, (x, y), window, (epilogue, operands));
        }
        let (x_buffer, x) = x;
        let groups = computed_groups(group, window.channels);
        let [channels, outputs] = window.channels.map(|n| n / groups);
        let [_, _, rows, columns] = window.output();
        let steps = x.strides();
        let (runs, order) = window_runs(x, window, channels);
        let mut x_steps = window.strided(steps);
        x_steps.group = steps.block * signed(channels / LANES);
        let (y, mut y_steps) = y;
        y_steps.group = y_steps.block * signed(outputs / LANES);
        epilogue.step_by_groups(groups, outputs);
        let blocks = outputs.div_ceil(LANES);
        let mut contract = Contract {
            images: window.images,
            groups,
            outputs,
            rows,
            columns,
            runs,
            x: Strides { block: 0, ..x_steps },
            y: y_steps,
            whole_blocks: true,
            weights: weights.quads(),
            tiling: Tiling::choose_with(
                &weights.quads(),
                &self.target,
                [blocks, rows, columns],
                epilogue.temporaries(),
            ),
            epilogue,
        };
        contract.flatten(&self.target);
        let how = format!("codes conv {} {groups} {}", contract.tiling.blocks, x.pixel);
        let packed = weights.clone();
        let packing = contract.clone();
        let taps = window.taps();
        let [own_channels, own_outputs] = window.channels.map(|n| n / group);
        let w = self.packed_quantized(weights, how, move || {
            let codes = packed.codes()?;
            let weight = |output: usize, channel: usize, tap: usize| {
                // Channels of another group than the output's weigh nothing.
                let first = if groups == group { 0 } else { output / own_outputs * own_channels };
                match channel.checked_sub(first) {
                    Some(c) if c < own_channels => codes[(output * own_channels + c) * taps + tap],
                    _ => 0,
                }
            };
            Some(packing.pack_quads(|group, o, k| {
                let (channel, tap) = order[k];
                std::array::from_fn(|i| weight(group * packing.outputs + o, channel + i, tap))
            }))
        });
        let mut args = vec![Arg::Buffer(x_buffer, x.inside(origin(x, window))), w, y];
        args.append(&mut operands);
        self.kernel(end, contract, args);
        Some(())
    }

    fn depthwise_codes(
        &mut self,
        end: NodeId,
        weights: &Weights,
        ((x_buffer, x), (y, y_steps)): Places<'_>,
        window: &Window,
        (epilogue, mut operands): (Epilogue, Vec<Arg>),
    ) -> Option<()> {
        let steps = x.strides();
        let kernel = window.axes.map(|axis| axis.kernel);
        let depthwise = DepthwiseCodes {
            images: window.images,
            blocks: x.blocks(),
            rows: window.axes[0].out,
            columns: window.axes[1].out,
            kernel,
            tap: window.tap(steps)[0],
            x: window.strided(steps),
            y: y_steps,
            epilogue,
        };
        let packed = weights.clone();
        let packing = depthwise.clone();
        let w = self.packed_quantized(weights, "codes depthwise".to_owned(), move || {
            let codes = packed.codes()?;
            let weight =
                |channel: usize, row: usize, column: usize| codes[(channel * kernel[0] + row) * kernel[1] + column];
            Some(packing.pack(weight, packed.outputs))
        });
        let mut args = vec![Arg::Buffer(x_buffer, x.inside(origin(x, window))), w, y];
        args.append(&mut operands);
        self.kernel(end, depthwise, args);
        Some(())
    }

    /// Numbers as a constant of whole blocks.
    fn whole_blocks(&mut self, numbers: &[f32]) -> Arg {
        Arg::Constant(self.pack(numbers), 0)
    }

    /// Codes of weights as `layout` will lay them out; `how` tells layouts of one constant apart.
    fn packed_quantized(
        &mut self,
        weights: &Weights,
        how: String,
        layout: impl FnOnce() -> Option<Result<Memory, ExecError>> + 'static,
    ) -> Arg {
        let zeros = weights.value.node;
        let layout = || layout().unwrap_or_else(|| Err(ExecError::Backend("weights are no codes".to_owned())));
        Arg::Constant(self.packed_with((zeros, how), &weights.constant, layout), 0)
    }
}

/// A kernel over all pixels of a place, that leaves codes or numbers.
fn recode_of(from: &CodePlace, to: Format) -> Recode {
    let [images, _, rows, columns] = from.image.shape;
    Recode {
        images,
        blocks: from.image.blocks(),
        rows,
        columns,
        formats: [Format::Codes(from.grid.zero), to],
        x: from.image.strides(),
        y: Strides::default(),
        steps: Vec::new(),
        operand: None,
    }
}

/// Where the first window begins: row and column, the border counted.
fn origin(image: &CodeImage, window: &Window) -> [usize; 2] {
    [image.border[0] - window.axes[0].begin, image.border[1] - window.axes[1].begin]
}

/// Four weights of an output, zeros behind the last.
fn quad(row: &[i8], first: usize) -> [i8; 4] {
    std::array::from_fn(|i| row.get(first + i).copied().unwrap_or(0))
}

/// The walk over quads of a row of codes in blocks that lie so far apart.
fn row_runs(quads: usize, block: i64) -> Vec<Run> {
    let at = |quad: usize| signed(quad / QUADS) * block + signed(quad % QUADS * 4);
    let taps = |count: usize| (0..count).map(at).collect();
    let (whole, rest) = (quads / UNROLLED_QUADS, quads % UNROLLED_QUADS);
    let step = at(UNROLLED_QUADS);
    let mut runs = Vec::new();
    if whole > 0 {
        runs.push(Run { start: 0, loops: vec![(whole, step)], taps: taps(UNROLLED_QUADS) });
    }
    if rest > 0 {
        runs.push(Run { start: step * signed(whole), loops: Vec::new(), taps: taps(rest) });
    }
    runs
}

/// The walk over quads of windows: block by block, kernel row, kernel column, quad of channels. And the first channel
/// and the tap of each.
fn window_runs(image: &CodeImage, window: &Window, channels: usize) -> (Vec<Run>, Vec<(usize, usize)>) {
    let [row, column] = window.tap(image.strides());
    let [kernel_rows, kernel_columns] = window.axes.map(|axis| axis.kernel);
    let block = image.strides().block;
    let (mut runs, mut order) = (Vec::new(), Vec::new());
    let whole = channels / image.pixel;
    for (first, count, width) in [(0, whole, image.pixel), (whole, 1, channels % image.pixel)] {
        if count * width == 0 {
            continue;
        }
        let quads = width.div_ceil(4);
        let unrolled = if kernel_columns <= UNROLLED { kernel_columns } else { 1 };
        let taps = (0..unrolled).flat_map(|c| (0..quads).map(move |q| column * signed(c) + signed(q * 4))).collect();
        let loops = vec![(count, block), (kernel_rows, row), (kernel_columns / unrolled, column)];
        runs.push(Run { start: block * signed(first), loops, taps });
        for block in first..first + count {
            let of_tap = |tap: usize| (0..quads).map(move |quad| (block * image.pixel + quad * 4, tap));
            order.extend((0..kernel_rows * kernel_columns).flat_map(of_tap));
        }
    }
    (runs, order)
}

#[cfg(test)]
mod tests;
