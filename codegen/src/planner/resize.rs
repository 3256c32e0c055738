//! Resizes of images along their rows and columns.
//!
//! What each element of the result is made of is asked of the interpreter, axis by axis: resizing the columns of
//! an identity matrix gives the weights. Where all weights are ones at equal distances or in equal runs, as for
//! the nearest element at whole scales, elements are copied; otherwise each axis is resampled in turn.

use optc_ir::op::infer::resolve_axis;
use optc_ir::op::{AspectPolicy, CoordinateMode, Resize};
use optc_ir::{NodeId, Op, Tensor, interp};

use super::Planner;
use crate::layout::{Blocked, image_shape};
use crate::plan::Arg;
use crate::tile::copy::Copy;
use crate::tile::resample::{Resample, Tap};
use crate::tile::{LANES, signed};

/// Weights of an axis that are worth asking for.
const MAX_WEIGHTS: usize = 1 << 22;

/// How the elements of an axis are repeated or skipped.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Walk {
    first: usize,
    count: usize,
    /// From one element to the next.
    step: usize,
    /// How often each stands in the result.
    repeat: usize,
}

impl Walk {
    /// The walk that visits these elements.
    fn of(taps: &[Vec<Tap>]) -> Option<Walk> {
        let visited: Option<Vec<usize>> = taps
            .iter()
            .map(|taps| match taps[..] {
                [(element, 1.0)] => Some(element),
                _ => None,
            })
            .collect();
        let visited = visited?;
        let &first = visited.first()?;
        let repeat = visited.iter().take_while(|&&element| element == first).count();
        let count = visited.len() / repeat;
        let step = visited.get(repeat).map_or(1, |next| next.wrapping_sub(first));
        let walk = Walk { first, count, step, repeat };
        let walked = (0..count * repeat).map(|i| first.wrapping_add((i / repeat).wrapping_mul(step)));
        walked.eq(visited.iter().copied()).then_some(walk)
    }
}

impl Planner<'_> {
    /// A resize of spatial axes.
    pub(super) fn resize(&mut self, node: NodeId) -> Option<()> {
        let graph = self.graph;
        let Op::Resize(resize) = graph.op(node) else { return None };
        let x = graph.operand(node, 0)?;
        let (from, to) = (image_shape(&self.f32_shape(x)?)?, image_shape(&self.f32_shape(node.into())?)?);
        if from[..2] != to[..2]
            || resize.coordinates == CoordinateMode::TfCropAndResize
            || resize.aspect != AspectPolicy::Stretch
        {
            return None;
        }
        let taps = [self.taps(node, resize, 2, from[2], to[2])?, self.taps(node, resize, 3, from[3], to[3])?];
        if let (Some(rows), Some(columns)) = (Walk::of(&taps[0]), Walk::of(&taps[1])) {
            return self.resize_by_copy(node, [rows, columns], to);
        }
        let (buffer, mut image) = self.blocked(node, x, [0; 4])?;
        let mut from = Arg::Buffer(buffer, image.start());
        // The axis that shrinks more comes first, so that less is computed in between.
        let growth = |axis: usize| to[axis + 2] * image.shape[3 - axis];
        let order = if growth(0) <= growth(1) { [0, 1] } else { [1, 0] };
        for (turn, axis) in order.into_iter().enumerate() {
            let mut shape = image.shape;
            shape[axis + 2] = to[axis + 2];
            let (arg, next) = if turn == 1 {
                let (place, out) = self.place_blocked(node, node.into(), shape);
                (Arg::Buffer(place.buffer, out.start()), out)
            } else {
                let between = Blocked::new(shape);
                (Arg::Buffer(self.buffer(between.bytes()), 0), between)
            };
            let (a, b) = (image.strides(), next.strides());
            let [along, across] = match axis {
                0 => [[a.row, b.row], [a.column, b.column]],
                _ => [[a.column, b.column], [a.row, b.row]],
            };
            let work = Resample {
                outer: [(shape[0], [a.image, b.image]), (image.blocks(), [a.block, b.block])],
                along,
                across: (shape[3 - axis], across),
                taps: taps[axis].clone(),
            };
            self.kernel(node, work, vec![from, arg]);
            (from, image) = (arg, next);
        }
        Some(())
    }

    /// Repeats or skips pixels.
    fn resize_by_copy(&mut self, node: NodeId, [rows, columns]: [Walk; 2], to: [usize; 4]) -> Option<()> {
        let x = self.graph.operand(node, 0)?;
        let (buffer, image) = self.blocked(node, x, [0; 4])?;
        let (place, out) = self.place_blocked(node, node.into(), to);
        let (a, b) = (image.strides(), out.strides());
        let steps = |walk: Walk, step: i64| [step * signed(walk.step), 0];
        let shape = [to[0], image.blocks(), rows.count, rows.repeat, columns.count, columns.repeat, LANES];
        let read = [&[a.image, a.block][..], &steps(rows, a.row), &steps(columns, a.column), &[4]].concat();
        let pairs = |walk: Walk, step: i64| [step * signed(walk.repeat), step];
        let written = [&[b.image, b.block][..], &pairs(rows, b.row), &pairs(columns, b.column), &[4]].concat();
        let first = signed(rows.first) * a.row + signed(columns.first) * a.column;
        let from = image.start().checked_add_signed(isize::try_from(first).ok()?)?;
        let args = vec![Arg::Buffer(buffer, from), Arg::Buffer(place.buffer, out.start())];
        self.kernel(node, Copy::new(&shape, &read, &written), args);
        Some(())
    }

    /// What the elements of an axis are made of. Axis 2 of a row of pixels is not there, and stays as it is.
    fn taps(&self, node: NodeId, resize: &Resize, axis: usize, from: usize, to: usize) -> Option<Vec<Vec<Tap>>> {
        let rank = self.f32_shape(self.graph.operand(node, 0)?)?.len();
        let identity = || (0..from).map(|i| vec![(i, 1.0)]).collect();
        let Some(axis) = (axis + rank).checked_sub(4).filter(|&axis| axis >= 2) else {
            return (from == to).then(identity);
        };
        let position = match &resize.axes {
            None => axis,
            Some(axes) => {
                let own = axes.iter().position(|&a| resolve_axis(a, rank) == Ok(axis));
                match own {
                    Some(position) => position,
                    None => return (from == to).then(identity),
                }
            }
        };
        if from * to > MAX_WEIGHTS {
            return None;
        }
        // One of scales and sizes is given; the other may be an empty vector.
        let one = |slot: usize| {
            let given = self.graph.operand(node, slot)?;
            let all = self.graph.constant(given)?.decode();
            (!all.is_empty()).then(|| Tensor::new([1], all.data().select([position])))
        };
        let (scales, sizes) = (one(2), one(3));
        let mut unit = vec![0.0; from * from];
        (0..from).for_each(|i| unit[i * from + i] = 1.0);
        let unit = Tensor::f32([from, from], unit);
        let along = Op::from(Resize { axes: Some(vec![0]), ..resize.clone() });
        let weights = interp::eval(&along, &[Some(&unit), None, scales.as_ref(), sizes.as_ref()]).ok()?;
        let weights = weights.first()?.as_f32()?;
        let element = |row: &[f32]| -> Vec<Tap> {
            row.iter().enumerate().filter(|(_, weight)| **weight != 0.0).map(|(i, &weight)| (i, weight)).collect()
        };
        let taps: Vec<Vec<Tap>> = weights.chunks_exact(from).map(element).collect();
        (taps.len() == to && taps.iter().all(|taps| !taps.is_empty())).then_some(taps)
    }
}
