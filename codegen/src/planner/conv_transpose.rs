//! Transposed convolutions: one ordinary convolution for every phase of the result.
//!
//! Along an axis of stride s, element o of the result is `Σₖ w[k]·x[(o + begin − k·dilation)/s]` over those k
//! for which the quotient is whole. Elements a distance of s apart, a phase, agree in these k, and from one to
//! the next x moves on by one: a phase is a convolution of stride 1 whose results lie s apart.

use optc_ir::op::ConvTranspose;
use optc_ir::op::window::WindowAxis;
use optc_ir::{NodeId, ValueId};

use super::Planner;
use super::chain::Chain;
use super::conv::{Order, computed_groups};
use super::values::{Steps as ValueSteps, WeightBox};
use crate::layout::{Blocked, image_shape};
use crate::plan::Arg;
use crate::tile::contract::{Contract, Run, Tiling, Weights};
use crate::tile::depthwise::Depthwise;
use crate::tile::epilogue::{Epilogue, Strides};
use crate::tile::{LANES, signed};

/// Phases beyond which the code would be longer than it is worth.
const MAX_PHASES: usize = 64;

/// A transposed convolution over images.
pub(super) struct Transposed {
    /// Shapes of operand and result.
    x: [usize; 4],
    y: [usize; 4],
    /// The phases along rows, and along columns.
    phases: [Vec<Phase>; 2],
    border: [usize; 4],
    kernel: [usize; 2],
}

/// Elements of the result along an axis that the same elements of the kernel reach.
#[derive(Clone, Debug, PartialEq)]
struct Phase {
    /// The first of them, the distance to the next, and how many there are.
    first: usize,
    stride: usize,
    count: usize,
    /// Elements of the kernel by where they read.
    taps: Vec<usize>,
    /// Where the first tap of the first element reads.
    shift: i64,
    /// From where one tap reads to where the next does.
    step: i64,
}

/// One phase along rows with one along columns, and where its operands begin.
struct Part<'a> {
    rows: &'a Phase,
    columns: &'a Phase,
}

/// The phases of an axis; `input` of the axis is the extent of the result, `out` that of the operand.
fn phases(axis: &WindowAxis) -> Vec<Phase> {
    let (stride, dilation) = (signed(axis.stride), signed(axis.dilation));
    (0..axis.stride.min(axis.input))
        .map(|first| {
            let at = signed(first + axis.begin);
            let reach = |k: usize| at - signed(k) * dilation;
            let taps: Vec<usize> = (0..axis.kernel).rev().filter(|&k| reach(k) % stride == 0).collect();
            let reads: Vec<i64> = taps.iter().map(|&k| reach(k) / stride).collect();
            Phase {
                first,
                stride: axis.stride,
                count: (axis.input - first).div_ceil(axis.stride),
                taps,
                shift: reads.first().copied().unwrap_or(0),
                step: reads.get(1).map_or(0, |second| second - reads[0]),
            }
        })
        .collect()
}

/// Phases without the taps that only meet the border, where these are a good share: elements that meet the same
/// taps of a phase are one of their own. The operand has so many elements.
fn trimmed(phases: Vec<Phase>, elements: usize) -> Vec<Phase> {
    let mut pieces: Vec<Phase> = Vec::new();
    for phase in &phases {
        let mut last: Option<(usize, usize)> = None;
        for i in 0..phase.count {
            let meets = |tap: &usize| {
                let at = phase.shift + signed(i) + phase.step * signed(*tap);
                (0..signed(elements)).contains(&at)
            };
            let met: Vec<usize> = (0..phase.taps.len()).filter(meets).collect();
            let range = (met.first().copied().unwrap_or(0), met.len());
            match pieces.last_mut() {
                Some(piece) if last == Some(range) => piece.count += 1,
                _ => pieces.push(Phase {
                    first: phase.first + i * phase.stride,
                    count: 1,
                    taps: phase.taps[range.0..range.0 + range.1].to_vec(),
                    shift: phase.shift + signed(i) + phase.step * signed(range.0),
                    ..phase.clone()
                }),
            }
            last = Some(range);
        }
    }
    let work = |phases: &[Phase]| phases.iter().map(|phase| phase.count * phase.taps.len()).sum::<usize>();
    let pays = work(&pieces) * 5 <= work(&phases) * 4 && pieces.iter().all(|piece| !piece.taps.is_empty());
    if pays { pieces } else { phases }
}

/// The border that phases reach into before and behind an axis of so many elements.
fn border(phases: &[Phase], elements: usize) -> [usize; 2] {
    let last = |p: &Phase| p.shift + p.step * (signed(p.taps.len()) - 1) + signed(p.count) - signed(elements);
    let used = || phases.iter().filter(|phase| !phase.taps.is_empty());
    let before = used().map(|phase| -phase.shift).max().unwrap_or(0);
    let behind = used().map(last).max().unwrap_or(0);
    [before, behind].map(|n| usize::try_from(n).unwrap_or(0))
}

impl Transposed {
    /// The border of zeros that is read around the operand.
    pub(super) fn border(&self) -> [usize; 4] {
        self.border
    }

    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let [rows, columns] = &self.phases;
        rows.iter().flat_map(move |rows| columns.iter().map(move |columns| Part { rows, columns }))
    }

    /// The elements of the kernel of a part, in order: (tap of the part) to (element of the kernel).
    fn element(&self, part: &Part<'_>, tap: usize) -> usize {
        let width = part.columns.taps.len();
        part.rows.taps[tap / width] * self.kernel[1] + part.columns.taps[tap % width]
    }

    /// The elements of the kernel of a part as loops: bytes to the first, then counts and bytes between them.
    fn taps(&self, part: &Part<'_>) -> (i64, [(usize, i64); 2]) {
        let width = signed(self.kernel[1]);
        let walk = |taps: &[usize], size: i64| {
            let at = |i: usize| taps.get(i).map_or(0, |&tap| signed(tap) * size * 4);
            // Elements of a phase are equally far apart.
            (at(0), (taps.len(), if taps.len() > 1 { at(1) - at(0) } else { 0 }))
        };
        let ((row, rows), (column, columns)) = (walk(&part.rows.taps, width), walk(&part.columns.taps, 1));
        (row + column, [rows, columns])
    }
}

impl Part<'_> {
    fn taps(&self) -> usize {
        self.rows.taps.len() * self.columns.taps.len()
    }

    /// Bytes from the first pixel of the operand to the one that the first sum begins with.
    fn read_from(&self, x: &Blocked, start: usize) -> Option<usize> {
        let steps = x.strides();
        let moved = self.rows.shift * steps.row + self.columns.shift * steps.column;
        start.checked_add_signed(isize::try_from(moved).ok()?)
    }

    /// Bytes from the first element of an image to the first of the part.
    fn first(&self, steps: Strides) -> usize {
        let moved = signed(self.rows.first) * steps.row + signed(self.columns.first) * steps.column;
        usize::try_from(moved).expect("images lie forward")
    }

    /// Steps of an image from one element of the part to the next.
    fn strided(&self, steps: Strides) -> Strides {
        Strides {
            row: steps.row * signed(self.rows.stride),
            column: steps.column * signed(self.columns.stride),
            ..steps
        }
    }

    /// Steps of the operand from one tap to the next.
    fn tap(&self, steps: Strides) -> [i64; 2] {
        [self.rows.step * steps.row, self.columns.step * steps.column]
    }

    /// The walk over k: by blocks of channels, within them by taps.
    fn runs(&self, x: &Blocked, channels: usize) -> Vec<Run> {
        if self.taps() == 0 {
            return Vec::new();
        }
        super::conv::block_runs(x, [self.rows.taps.len(), self.columns.taps.len()], self.tap(x.strides()), channels)
    }
}

impl Planner<'_> {
    /// A transposed convolution that has kernels: of one or two spatial axes.
    pub(super) fn transposed(&self, node: NodeId, conv: &ConvTranspose) -> Option<Transposed> {
        let graph = self.graph;
        let (x, w) = (graph.operand(node, 0)?, graph.operand(node, 1)?);
        let (input, output) = (self.f32_shape(x)?, self.f32_shape(node.into())?);
        let weights = self.f32_shape(w)?;
        let window = conv.window(weights[2..].iter().copied());
        let axes = window.transposed_axes(input.get(2..)?, &conv.output_padding, &conv.output_shape).ok()?;
        let row = WindowAxis { input: 1, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0, out: 1 };
        let axes = match axes[..] {
            [columns] => [row, columns],
            [rows, columns] => [rows, columns],
            _ => return None,
        };
        if axes[0].stride * axes[1].stride > MAX_PHASES {
            return None;
        }
        let phases = [trimmed(phases(&axes[0]), axes[0].out), phases(&axes[1])];
        let [top, bottom] = border(&phases[0], axes[0].out);
        let [left, right] = border(&phases[1], axes[1].out);
        Some(Transposed {
            x: image_shape(&input)?,
            y: image_shape(&output)?,
            phases,
            border: [top, left, bottom, right],
            kernel: axes.map(|axis| axis.kernel),
        })
    }

    /// A transposed convolution and the functions that follow it.
    pub(super) fn conv_transpose(&mut self, chain: &Chain, conv: &ConvTranspose) -> Option<()> {
        let node = chain.start;
        if let Some((window, grid)) = self.transposed_tiles(node, conv) {
            return self.winograd(chain, conv.act, &window, grid, true);
        }
        let layer = self.transposed(node, conv)?;
        let (x, w) = (self.graph.operand(node, 0)?, self.graph.operand(node, 1)?);
        let (epilogue, operands) = self.image_epilogue(chain, conv.act, layer.y)?;
        let (buffer, image) = self.blocked(node, x, layer.border)?;
        let (place, out) = self.place_blocked(chain.end, chain.end.into(), layer.y);
        let depthwise = conv.group == layer.x[1]
            && conv.group == layer.y[1]
            && conv.group > 1
            && layer.parts().all(|part| part.taps() > 0);
        let count = layer.parts().count();
        for (i, part) in layer.parts().enumerate() {
            // What is read beside the sums lies as the result does.
            let mut own = epilogue.clone();
            let mut args = operands.clone();
            let first = args.len() - own.operands.len();
            for (arg, steps) in args[first..].iter_mut().zip(&mut own.operands) {
                if let Arg::Buffer(_, at) = arg {
                    *at += part.first(*steps);
                }
                *steps = part.strided(*steps);
            }
            let from = Arg::Buffer(buffer, part.read_from(&image, image.start())?);
            let to = Arg::Buffer(place.buffer, out.start() + part.first(out.strides()));
            let y = part.strided(out.strides());
            let (work, w_arg) = if depthwise {
                let (work, w_arg) = self.depthwise_part(&layer, &part, (node, w, i), &image, (y, own))?;
                (work.into(), w_arg)
            } else {
                let (work, w_arg) = self.dense_part(&layer, &part, (node, w, i), conv.group, &image, (y, own))?;
                (crate::work::Work::from(work), w_arg)
            };
            self.kernel(chain.end, work, [vec![from, w_arg, to], args].concat());
            if i + 1 < count {
                self.overlap();
            }
        }
        Some(())
    }

    fn depthwise_part(
        &mut self,
        layer: &Transposed,
        part: &Part<'_>,
        (node, w, index): (NodeId, ValueId, usize),
        image: &Blocked,
        (y, epilogue): (Strides, Epilogue),
    ) -> Option<(Depthwise, Arg)> {
        let depthwise = Depthwise {
            images: layer.x[0],
            blocks: image.blocks(),
            rows: part.rows.count,
            columns: part.columns.count,
            kernel: [part.rows.taps.len(), part.columns.taps.len()],
            tap: part.tap(image.strides()),
            x: image.strides(),
            y,
            epilogue,
        };
        let elements = layer.kernel[0] * layer.kernel[1];
        let places: Vec<usize> = (0..part.taps()).map(|tap| layer.element(part, tap)).collect();
        let (packing, channels) = (depthwise.clone(), layer.x[1]);
        if self.graph.constant(w).is_none() {
            let how = format!("transposed depthwise {index}");
            let taps = layer.taps(part);
            let w_arg = self.packed_channels(node, w, how, &depthwise, (channels, elements), (taps.0, &taps.1))?;
            return Some((depthwise, w_arg));
        }
        let w_arg = self.packed(w, format!("transposed depthwise {index}"), move |numbers| {
            packing.pack(|channel, tap| numbers[channel * elements + places[tap]], channels)
        })?;
        Some((depthwise, w_arg))
    }

    fn dense_part(
        &mut self,
        layer: &Transposed,
        part: &Part<'_>,
        (node, w, index): (NodeId, ValueId, usize),
        group: usize,
        image: &Blocked,
        (mut y, mut epilogue): (Strides, Epilogue),
    ) -> Option<(Contract, Arg)> {
        let per_group = [layer.x[1] / group, layer.y[1] / group];
        let groups = computed_groups(group, [layer.x[1], layer.y[1]]);
        let (channels, outputs) = (layer.x[1] / groups, layer.y[1] / groups);
        let mut x = image.strides();
        x.group = x.block * signed(channels / LANES);
        y.group = y.block * signed(outputs / LANES);
        epilogue.step_by_groups(groups, outputs);
        let temporaries = epilogue.temporaries();
        let (rows, columns) = (part.rows.count, part.columns.count);
        let contract = Contract {
            images: layer.x[0],
            groups,
            outputs,
            rows,
            columns,
            runs: part.runs(image, channels),
            x: Strides { block: 0, ..x },
            y,
            whole_blocks: true,
            weights: Weights::Packed,
            epilogue,
            tiling: Tiling::choose(&self.target, [outputs.div_ceil(LANES), rows, columns], temporaries),
        };
        let order = Order::Blocks { taps: part.taps(), channels };
        let elements = layer.kernel[0] * layer.kernel[1];
        let how = format!("transposed {index} {} {groups}", contract.tiling.blocks);
        if part.taps() == 0 {
            // Nothing is read of the weights.
            return Some((contract, self.plain(node, w)?));
        }
        if self.graph.constant(w).is_none() {
            let (start, taps) = layer.taps(part);
            let output = signed(elements * 4);
            let channel = output * signed(per_group[1]);
            let steps = ValueSteps { group: channel * signed(channels), output };
            let own = |own: usize| {
                let (o, c) = if groups == group { (0, 0) } else { (own * per_group[1], own * per_group[0]) };
                let (width, length) = if groups == group { (outputs, channels) } else { (per_group[1], per_group[0]) };
                let pieces = order.boxes(c..c + length, channels, channel, &taps);
                pieces.into_iter().map(move |(k, from, axes)| WeightBox {
                    outputs: o..o + width,
                    from: start + from,
                    k,
                    axes,
                })
            };
            let boxes = (0..if groups == group { 1 } else { group }).flat_map(own).collect();
            let w_arg = self.packed_value(node, w, how, &contract, (steps, boxes))?;
            return Some((contract, w_arg));
        }
        let packing = contract.clone();
        // The channel of each k, and where its weight stands among those of the channel and an output.
        let order = (0..contract.depth()).map(|k| order.at(k));
        let places: Vec<(usize, usize)> = order.map(|(channel, tap)| (channel, layer.element(part, tap))).collect();
        let w_arg = self.packed(w, how, move |numbers| {
            packing.pack(|g, o, k| {
                let (channel, element) = places[k];
                let (channel, o) = (g * channels + channel, g * outputs + o);
                // Channels of another group than the output's weigh nothing.
                if channel / per_group[0] != o / per_group[1] {
                    return 0.0;
                }
                numbers[(channel * per_group[1] + o % per_group[1]) * elements + element]
            })
        })?;
        Some((contract, w_arg))
    }
}
