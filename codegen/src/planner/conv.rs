//! Convolutions: contractions over channels, or depthwise.

use optc_ir::op::window::WindowAxis;
use optc_ir::op::{self, Act, Conv};
use optc_ir::{NodeId, Op, ValueId};

use super::Planner;
use super::chain::{Beside, Chain};
use super::values::{Steps as ValueSteps, WeightBox};
use crate::choice::Algorithm;
use crate::layout::{Blocked, image_strides, widen};
use crate::plan::Arg;
use crate::tile::contract::listed::Lists;
use crate::tile::contract::{Contract, Run, Tiling, Weights};
use crate::tile::copy::Copy;
use crate::tile::depthwise::Depthwise;
use crate::tile::epilogue::{Epilogue, Strides};
use crate::tile::fill::{Fill, Planes};
use crate::tile::{LANES, VECTOR_BYTES, signed};

/// Channels below which a convolution reads an image in order of its axes rather than in blocks.
pub(super) const FEW_CHANNELS: usize = 8;

/// The window of a convolution or pool over images: along rows, and along columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) images: usize,
    /// Channels read and written.
    pub(super) channels: [usize; 2],
    pub(super) axes: [WindowAxis; 2],
}

/// Groups that a convolution of so many channels, read and written, is computed in: those that do not fill blocks of
/// channels are computed as one, with zeros between them.
pub(super) fn computed_groups(groups: usize, channels: [usize; 2]) -> usize {
    let aligned = channels.iter().all(|n| (n / groups).is_multiple_of(LANES));
    if aligned { groups } else { 1 }
}

impl Window {
    /// A window over values of these shapes. One spatial axis is a row of pixels.
    pub(super) fn new(window: &op::window::Window<'_>, input: &[usize], output: &[usize]) -> Option<Window> {
        let (&[images, channels], spatial) = input.split_first_chunk::<2>()?;
        let axes = match window.axes(spatial).ok()?[..] {
            [columns] => {
                let row = WindowAxis { input: 1, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0, out: 1 };
                [row, columns]
            }
            [rows, columns] => [rows, columns],
            _ => return None,
        };
        Some(Window { images, channels: [channels, output[1]], axes })
    }

    /// The shape of the result.
    pub(super) fn output(&self) -> [usize; 4] {
        [self.images, self.channels[1], self.axes[0].out, self.axes[1].out]
    }

    /// Elements of the window.
    pub(super) fn taps(&self) -> usize {
        self.axes[0].kernel * self.axes[1].kernel
    }

    /// The border of zeros the windows reach into: top, left, bottom, right.
    pub(super) fn border(&self) -> [usize; 4] {
        let end = |axis: &WindowAxis| {
            let reach = (axis.out - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
            reach.saturating_sub(axis.begin + axis.input)
        };
        let [rows, columns] = &self.axes;
        [rows.begin, columns.begin, end(rows), end(columns)]
    }

    /// Where the first window begins in an image, in bytes from the start of its buffer.
    pub(super) fn origin(&self, image: &Blocked) -> usize {
        let (row, column) = (image.border[0] - self.axes[0].begin, image.border[1] - self.axes[1].begin);
        (row * image.columns() + column) * VECTOR_BYTES
    }

    /// Steps of an image from one window to the next.
    pub(super) fn strided(&self, steps: Strides) -> Strides {
        let [rows, columns] = &self.axes;
        Strides { row: steps.row * signed(rows.stride), column: steps.column * signed(columns.stride), ..steps }
    }

    /// Steps of an image from one element of a window to the next, along rows and columns.
    pub(super) fn tap(&self, steps: Strides) -> [i64; 2] {
        let [rows, columns] = &self.axes;
        [steps.row * signed(rows.dilation), steps.column * signed(columns.dilation)]
    }
}

impl Planner<'_> {
    /// The window of a convolution that has kernels: of one or two spatial axes.
    pub(super) fn conv_window(&self, node: NodeId, conv: &Conv) -> Option<Window> {
        let graph = self.graph;
        let (x, w) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
        let weights = self.f32_shape(w)?;
        let (input, output) = (self.f32_shape(x)?, self.f32_shape(node.into())?);
        Window::new(&conv.convolution().window(weights[2..].iter().copied()), &input, &output)
    }

    /// Collects the borders that convolutions need around what they read.
    pub(super) fn find_borders(&mut self) {
        for node in self.graph.topo_order() {
            let border = match self.graph.op(node) {
                Op::Conv(_) if self.sparse.contains_key(&node) || self.layers_compute(node) => None,
                Op::Conv(conv) if self.sign_convolution_weights(node, conv).is_some() => None,
                Op::Conv(conv) => {
                    let is_sparse = self.listed.contains_key(&node) || self.picked.contains_key(&node);
                    self.conv_window(node, conv).map(|window| match self.winograd_grid(conv.group, &window) {
                        Some(grid) if !is_sparse => window.border_of_patches(grid),
                        _ => window.border(),
                    })
                }
                Op::ConvTranspose(conv) => match self.transposed_tiles(node, conv) {
                    Some((window, grid)) => Some(window.border_of_patches(grid)),
                    None => self.transposed(node, conv).map(|layer| layer.border()),
                },
                Op::ConvWeightGrad(grad) => self.weight_grad_window(node, grad).map(|window| window.border()),
                _ => None,
            };
            let (Some(needed), Some(x)) = (border, self.graph.operand(node, 0)) else { continue };
            widen(self.borders.entry(x).or_default(), needed);
        }
    }

    /// A convolution and the functions that follow it.
    pub(super) fn convolution(&mut self, chain: &Chain, conv: &Conv) -> Option<()> {
        let node = chain.start;
        let window = self.conv_window(node, conv)?;
        let (x, w) = (self.graph.operand(node, 0)?, self.graph.operand(node, 1)?);
        let weights = self.f32_shape(w)?;
        if self.choices.chosen(node) == Some(Algorithm::Spmv) {
            let planned = self.convolution_of_few(chain, conv, &window).is_some();
            self.choices.planned(node, planned);
            if planned {
                return Some(());
            }
        }
        if let Some(&algorithm) = self.sparse.get(&node) {
            let planned = self.sparse_convolution(chain, conv, &window, algorithm).is_some();
            self.choices.planned(node, planned);
            if planned {
                return Some(());
            }
        }
        if self.sign_convolution(chain, conv).is_some() {
            return Some(());
        }
        let per_group = [weights[1], weights[0] / conv.group];
        if conv.group > 1 && per_group == [1, 1] {
            return self.depthwise(chain, conv, &window);
        }
        let positions = self.listed.get(&node).cloned();
        let picked = self.picked.get(&node).copied();
        let is_sparse = positions.is_some() || picked.is_some();
        let coded = self.chosen_codes(node, conv.group, &window);
        let is_plain = coded.is_none() && !is_sparse;
        if let Some(grid) = self.winograd_grid(conv.group, &window).filter(|_| is_plain) {
            return self.winograd(chain, conv.act, &window, grid, false);
        }
        let groups = computed_groups(conv.group, window.channels);
        let channels = window.channels[0] / groups;
        let taps = window.taps();
        let (mut epilogue, mut operands) = self.image_epilogue(chain, conv.act, window.output())?;
        let few = groups == 1 && channels < FEW_CHANNELS && !self.is_blocked(x);
        let order = if few { Order::Plain { taps } } else { Order::Blocks { taps, channels } };
        let (x_arg, x_strides, runs) = if few {
            self.plain_windows(node, x, &window)?
        } else {
            let (buffer, image) = self.blocked(node, x, window.border())?;
            let mut steps = window.strided(image.strides());
            steps.group = steps.block * signed(channels / LANES);
            let kernel = window.axes.map(|axis| axis.kernel);
            let runs = block_runs(&image, kernel, window.tap(image.strides()), channels);
            (Arg::Buffer(buffer, window.origin(&image)), Strides { block: 0, ..steps }, runs)
        };
        let (place, out) = self.place_blocked(chain.end, chain.end.into(), window.output());
        let mut y = out.strides();
        let outputs = window.channels[1] / groups;
        y.group = y.block * signed(outputs / LANES);
        epilogue.step_by_groups(groups, outputs);
        let [_, _, rows, columns] = window.output();
        let blocks = outputs.div_ceil(LANES);
        let temporaries = epilogue.temporaries();
        let weights = match (&coded, picked) {
            (Some(coded), _) => Weights::Coded(coded.code),
            (None, Some(picked)) => Weights::Picked(picked),
            (None, None) => Weights::Packed,
        };
        let mut contract = Contract {
            images: window.images,
            groups,
            outputs,
            rows,
            columns,
            runs,
            x: x_strides,
            y,
            whole_blocks: true,
            weights,
            epilogue,
            tiling: Tiling::choose_with(&weights, &self.target, [blocks, rows, columns], temporaries),
        };
        let mut lists = None;
        if let Some(positions) = &positions {
            let places: Vec<usize> =
                (0..contract.depth()).map(|k| order.at(k)).map(|(c, tap)| c * taps + tap).collect();
            let listed = (&**positions, places.as_slice(), self.nonzeros(w)?);
            let by_lists = self.conv_by_lists(contract.clone(), listed, &window);
            self.choices.planned(node, by_lists.is_some());
            (contract, lists) = by_lists.map_or((contract, None), |(contract, lists)| (contract, Some(lists)));
        }
        if lists.is_none() {
            contract.flatten(&self.target);
        }
        let mut how = format!("conv {} {} {}", contract.tiling.blocks, groups, order.word());
        if picked.is_some() {
            how = format!("picked {how}");
        }
        if lists.is_some() {
            how = format!("listed {how} {:?} {}", contract.runs, contract.rows * contract.columns);
        }
        let [group_outputs, group_channels] = [per_group[1], per_group[0]];
        let same_groups = groups == conv.group;
        let w_arg = if let Some(coded) = coded {
            let packing = contract.clone();
            self.packed_codes(w, format!("coded {how}"), move |constant| {
                let (values, numbers, factor) = coded.read(constant);
                let row = channels * taps;
                let places: Vec<usize> = (0..row).map(|k| order.at(k)).map(|(c, tap)| c * taps + tap).collect();
                let number = |group, o, k: usize| numbers[(group * outputs + o) * row + places[k]];
                packing.pack_codes(coded.code, &values, number, |group, o| factor(group * outputs + o))
            })?
        } else if self.graph.constant(w).is_none() {
            let row = signed(group_channels * taps * 4);
            let steps = ValueSteps { group: row * signed(outputs), output: row };
            let own = |group: usize| {
                let (o, c) = if same_groups { (0, 0) } else { (group * group_outputs, group * group_channels) };
                let width = if same_groups { outputs } else { group_outputs };
                // Channels of the value are those of its own group.
                let pieces = order.boxes(c..c + group_channels, channels, signed(taps * 4), &[(taps, 4)]);
                pieces.into_iter().map(move |(k, from, axes)| WeightBox {
                    outputs: o..o + width,
                    from: row * signed(o) + from - signed(c * taps * 4),
                    k,
                    axes,
                })
            };
            let boxes = (0..if same_groups { 1 } else { conv.group }).flat_map(own).collect();
            self.packed_value(node, w, how, &contract, (steps, boxes))?
        } else {
            self.packed_conv(w, how, (&contract, lists), order, [conv.group, group_outputs, group_channels], taps)?
        };
        let mut args = vec![x_arg, w_arg, Arg::Buffer(place.buffer, out.start())];
        args.append(&mut operands);
        let alike = operand_like(&out, &contract.epilogue, &args);
        self.kernel(chain.end, contract, args);
        self.allow_in_place(alike, 2);
        Some(())
    }

    /// Constant weights of a convolution as a contraction packs them; `shape` is groups, and outputs and channels
    /// of a group.
    fn packed_conv(
        &mut self,
        w: ValueId,
        how: String,
        (contract, lists): (&Contract, Option<Lists>),
        order: Order,
        [group, group_outputs, group_channels]: [usize; 3],
        taps: usize,
    ) -> Option<Arg> {
        let packing = contract.clone();
        let same_groups = contract.groups == group;
        let outputs = contract.outputs;
        self.packed(w, how, move |numbers| {
            let order = (0..packing.depth()).map(|k| order.at(k));
            if same_groups {
                // Where the weight of each k stands among those of its output.
                let places: Vec<usize> = order.map(|(channel, tap)| channel * taps + tap).collect();
                let row = group_channels * taps;
                return packing
                    .pack_numbers(lists.as_ref(), |group, o, k| numbers[(group * outputs + o) * row + places[k]]);
            }
            let order: Vec<(usize, usize)> = order.collect();
            packing.pack_numbers(lists.as_ref(), |_, o, k| {
                let (channel, tap) = order[k];
                // Channels of another group than the output's weigh nothing.
                let own = o / group_outputs * group_channels;
                match channel.checked_sub(own) {
                    Some(c) if c < group_channels => numbers[(o * group_channels + c) * taps + tap],
                    _ => 0.0,
                }
            })
        })
    }

    /// A few channels read in order of their axes: the place, its steps, and the walk over k.
    fn plain_windows(&mut self, node: NodeId, x: ValueId, window: &Window) -> Option<(Arg, Strides, Vec<Run>)> {
        let (arg, strides) = self.plain_image(node, x, window)?;
        let steps = Strides { image: strides[0], group: 0, block: 0, row: strides[2], column: strides[3] };
        let [row, column] = window.tap(steps);
        let run = Run {
            start: 0,
            loops: vec![(window.channels[0], strides[1]), (window.axes[0].kernel, row)],
            taps: (0..window.axes[1].kernel).map(|k| signed(k) * column).collect(),
        };
        Some((arg, window.strided(steps), vec![run]))
    }

    /// An image in order of its axes, with the border of zeros that windows reach into: where the first window
    /// begins, and its steps along images, channels, rows and columns.
    pub(super) fn plain_image(&mut self, node: NodeId, x: ValueId, window: &Window) -> Option<(Arg, [i64; 4])> {
        let [rows, columns] = window.axes.map(|axis| axis.input);
        let (images, channels) = (window.images, window.channels[0]);
        let border = window.border();
        if border == [0; 4] {
            let (arg, strides) = self.strided(node, x)?;
            return Some((arg, image_strides(strides)?));
        }
        let (height, width) = (rows + border[0] + border[2], columns + border[1] + border[3]);
        let row = width * 4;
        let plane = height * row;
        let to = [plane * channels, plane, row, 4].map(signed);
        let how = format!("border {border:?}");
        if let Some(&buffer) = self.packed_values.get(&(x, how.clone())) {
            return Some((Arg::Buffer(buffer, 0), to));
        }
        let (arg, strides) = self.strided(node, x)?;
        let strides = image_strides(strides)?;
        let buffer = self.buffer(images * channels * plane);
        let planes = Planes { count: images * channels, step: signed(plane), height, width, column: 4 };
        self.kernel(node, Fill::border(0.0, planes, border), vec![Arg::Buffer(buffer, 0)]);
        self.overlap();
        let inside = Arg::Buffer(buffer, border[0] * row + border[1] * 4);
        self.kernel(node, Copy::new(&[images, channels, rows, columns], &strides, &to), vec![arg, inside]);
        self.packed_values.insert((x, how), buffer);
        Some((Arg::Buffer(buffer, 0), to))
    }

    fn depthwise(&mut self, chain: &Chain, conv: &Conv, window: &Window) -> Option<()> {
        let node = chain.start;
        let (x, w) = (self.graph.operand(node, 0)?, self.graph.operand(node, 1)?);
        let (epilogue, mut operands) = self.image_epilogue(chain, conv.act, window.output())?;
        let (buffer, image) = self.blocked(node, x, window.border())?;
        let (place, out) = self.place_blocked(chain.end, chain.end.into(), window.output());
        let steps = image.strides();
        let depthwise = Depthwise {
            images: window.images,
            blocks: image.blocks(),
            rows: window.axes[0].out,
            columns: window.axes[1].out,
            kernel: window.axes.map(|axis| axis.kernel),
            tap: window.tap(steps),
            x: window.strided(steps),
            y: out.strides(),
            epilogue,
        };
        let (channels, taps) = (window.channels[0], window.taps());
        let packing = depthwise.clone();
        let how = "depthwise".to_owned();
        let w_arg = if self.graph.constant(w).is_none() {
            self.packed_channels(node, w, how, &depthwise, (channels, taps), (0, &[(taps, 4)]))?
        } else {
            self.packed(w, how, move |numbers| packing.pack(|channel, tap| numbers[channel * taps + tap], channels))?
        };
        let mut args = vec![Arg::Buffer(buffer, window.origin(&image)), w_arg, Arg::Buffer(place.buffer, out.start())];
        args.append(&mut operands);
        let alike = operand_like(&out, &depthwise.epilogue, &args);
        self.kernel(chain.end, depthwise, args);
        self.allow_in_place(alike, 2);
        Some(())
    }

    /// Bias, activation and the functions of a chain over an image in blocks; the arguments they read.
    pub(super) fn image_epilogue(
        &mut self,
        chain: &Chain,
        act: Act,
        shape: [usize; 4],
    ) -> Option<(Epilogue, Vec<Arg>)> {
        let mut epilogue = Epilogue::default();
        let mut args = Vec::new();
        if let Some(bias) = self.graph.operand(chain.start, 2) {
            args.push(self.vector(chain.end, bias)?);
            epilogue.bias = true;
        }
        epilogue.steps = chain.steps(act, |beside| {
            let (arg, strides) = match beside {
                Beside::Channels(numbers) => (Arg::Constant(self.pack(numbers), 0), per_channel()),
                Beside::Value(value) => {
                    let elements: usize = self.f32_shape(*value)?.iter().product();
                    if elements == shape.iter().product::<usize>() {
                        let (buffer, image) = self.blocked(chain.end, *value, [0; 4])?;
                        (Arg::Buffer(buffer, image.start()), image.strides())
                    } else if elements == shape[1] && self.along_channels(*value, chain.end) {
                        (self.vector(chain.end, *value)?, per_channel())
                    } else {
                        return None;
                    }
                }
                Beside::Nothing | Beside::Number(_) => return None,
            };
            args.push(arg);
            epilogue.operands.push(strides);
            Some(())
        })?;
        Some((epilogue, args))
    }

    /// Whether a value of one element a channel stands along axis 1 of a node's result.
    pub(super) fn along_channels(&self, value: ValueId, node: NodeId) -> bool {
        let (Some(shape), Some(whole)) = (self.f32_shape(value), self.f32_shape(node.into())) else { return false };
        let channel = (shape.len() + 1).checked_sub(whole.len());
        channel.is_some_and(|axis| shape.get(axis) == Some(&whole[1]))
    }
}

/// The argument that an epilogue reads and that lies as an image does, the last arguments being its operands.
pub(super) fn operand_like(image: &Blocked, epilogue: &Epilogue, args: &[Arg]) -> Option<usize> {
    let first = args.len() - epilogue.operands.len();
    let alike = |(operand, arg): (&Strides, &Arg)| {
        *operand == image.strides() && matches!(arg, Arg::Buffer(_, start) if *start == image.start())
    };
    epilogue.operands.iter().zip(&args[first..]).position(alike).map(|i| first + i)
}

/// One vector a block of channels.
fn per_channel() -> Strides {
    Strides { block: signed(VECTOR_BYTES), group: 0, ..Strides::default() }
}

/// The walk over k of an image in blocks: block by block, kernel row, kernel column, channel.
/// `kernel` and `tap` are the extents of the kernel and the steps from one of its elements to the next.
pub(super) fn block_runs(image: &Blocked, kernel: [usize; 2], tap: [i64; 2], channels: usize) -> Vec<Run> {
    channel_runs(channels, image.strides().block, &[(kernel[0], tap[0]), (kernel[1], tap[1])])
}

/// The walk over channels in blocks that lie `block` bytes apart: within each block loops, then its channels.
pub(super) fn channel_runs(channels: usize, block: i64, loops: &[(usize, i64)]) -> Vec<Run> {
    let lanes = |n: usize| (0..n).map(|lane| signed(lane * 4)).collect();
    let (whole, rest) = (channels / LANES, channels % LANES);
    let mut runs = Vec::new();
    if whole > 0 {
        let loops = [&[(whole, block)], loops].concat();
        runs.push(Run { start: 0, loops, taps: lanes(LANES) });
    }
    if rest > 0 {
        runs.push(Run { start: block * signed(whole), loops: loops.to_vec(), taps: lanes(rest) });
    }
    runs
}

/// The channel and tap that each k stands for.
#[derive(Clone, Copy)]
pub(super) enum Order {
    /// Channel by channel, its taps in order.
    Plain { taps: usize },
    /// By blocks of channels, within them by taps.
    Blocks { taps: usize, channels: usize },
}

impl Order {
    pub(super) fn at(self, k: usize) -> (usize, usize) {
        match self {
            Order::Plain { taps } => (k / taps, k % taps),
            Order::Blocks { taps, channels } => {
                let block = k / (taps * LANES);
                let width = LANES.min(channels - block * LANES);
                let within = k - block * taps * LANES;
                (block * LANES + within % width, within / width)
            }
        }
    }

    fn word(self) -> &'static str {
        match self {
            Order::Plain { .. } => "plain",
            Order::Blocks { .. } => "blocks",
        }
    }
}
