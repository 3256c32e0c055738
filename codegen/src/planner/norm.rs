//! Normalisations of images in order of their axes.
//!
//! Instances and groups: rows are normalised, then scaled and shifted in place, channel by channel. Local
//! responses: `y = x / t^¾`, `t = bias + alpha/size·Σx²` over neighbouring channels, by square roots alone.

use optc_ir::op::Lrn;
use optc_ir::{NodeId, Op};

use super::Planner;
use crate::layout::plain_strides;
use crate::plan::Arg;
use crate::tile::fill::{Fill, Region};
use crate::tile::function::Function;
use crate::tile::map::{Map, MapOther};
use crate::tile::program::MAX_POINTERS;
use crate::tile::rows::{RowAxis, RowFunction, Rows};
use crate::tile::signed;

/// Operands of a kernel beside its result.
const MAX_NEIGHBOURS: usize = MAX_POINTERS - 1;

impl Planner<'_> {
    /// A normalisation that involves channels.
    pub(super) fn norm(&mut self, node: NodeId) -> Option<()> {
        let graph = self.graph;
        if let Op::Lrn(lrn) = graph.op(node) {
            return self.local_response(node, lrn);
        }
        let (x, scale, bias) = (graph.operand(node, 0)?, graph.operand(node, 1)?, graph.operand(node, 2)?);
        let shape = self.f32_shape(x)?;
        let (&[samples, channels], spatial) = shape.split_first_chunk::<2>()?;
        // Rows of a sample, and what has a scale of its own.
        let (rows, scaled, eps) = match graph.op(node) {
            Op::InstanceNorm(n) => (channels, channels, n.eps),
            Op::GroupNorm(n) => (n.groups, if n.per_group { n.groups } else { channels }, n.eps),
            _ => return None,
        };
        let elements = channels * spatial.iter().product::<usize>();
        let length = elements / rows;
        let from = self.plain(node, x)?;
        let parameters = [self.plain(node, scale)?, self.plain(node, bias)?];
        let place = self.place_plain(node.into(), &shape);
        let to = Arg::Buffer(place.buffer, 0);
        let ones = Arg::Constant(self.pack(&vec![1.0; length]), 0);
        let step = plain_strides(&[rows, length])[0];
        let axes = vec![RowAxis { count: samples * rows, x: step, y: step, mask: 0 }];
        let function = RowFunction::LayerNorm { eps, bias: false };
        self.kernel(node, Rows { function, length, axes }, vec![from, ones, to]);
        let extents = [samples, scaled, elements / scaled];
        let (walk, parameter) = (plain_strides(&extents), vec![0, 4, 0]);
        let steps = vec![(Function::Mul, MapOther::Operand(1)), (Function::Add, MapOther::Operand(2))];
        let map = Map::new(&extents, &walk, &[walk.clone(), parameter.clone(), parameter], steps);
        self.kernel(node, map, [vec![to], parameters.to_vec(), vec![to]].concat());
        Some(())
    }

    /// A local response over so few channels that one kernel reads all of them.
    fn local_response(&mut self, node: NodeId, lrn: &Lrn) -> Option<()> {
        let x = self.graph.operand(node, 0)?;
        let shape = self.f32_shape(x)?;
        let (&[samples, channels], spatial) = shape.split_first_chunk::<2>()?;
        // Other powers take a logarithm, which has no code.
        if lrn.beta != 0.75 || !(1..=MAX_NEIGHBOURS).contains(&lrn.size) {
            return None;
        }
        let from = self.plain(node, x)?;
        let pixels: usize = spatial.iter().product();
        // Squares with zeros for the channels that are missing on either side.
        let before = (lrn.size - 1) / 2;
        let padded = plain_strides(&[samples, channels + lrn.size - 1, pixels]);
        let plane = pixels * 4;
        let squares = self.buffer(samples * (channels + lrn.size - 1) * plane);
        let region = |first: usize, count: usize| Region {
            start: signed(first * plane),
            shape: vec![samples, count, pixels],
            strides: padded.clone(),
        };
        let missing = [(0, before), (before + channels, lrn.size - 1 - before)];
        let regions: Vec<Region> =
            missing.into_iter().filter(|(_, count)| *count > 0).map(|(first, count)| region(first, count)).collect();
        if !regions.is_empty() {
            self.kernel(node, Fill { value: 0.0, regions }, vec![Arg::Buffer(squares, 0)]);
            self.overlap();
        }
        let extents = [samples, channels, pixels];
        let walk = plain_strides(&extents);
        let square = Map::new(&extents, &padded, std::slice::from_ref(&walk), vec![(Function::Square, MapOther::None)]);
        self.kernel(node, square, vec![from, Arg::Buffer(squares, before * plane)]);
        let place = self.place_plain(node.into(), &shape);
        let to = Arg::Buffer(place.buffer, 0);
        let mut steps: Vec<(Function, MapOther)> =
            (1..lrn.size).map(|i| (Function::Add, MapOther::Operand(i))).collect();
        steps.push((Function::Mul, MapOther::Number(lrn.alpha / lrn.size as f32)));
        steps.push((Function::Add, MapOther::Number(lrn.bias)));
        let neighbours = (0..lrn.size).map(|i| Arg::Buffer(squares, i * plane));
        let sums = Map::new(&extents, &walk, &vec![padded.clone(); lrn.size], steps);
        self.kernel(node, sums, neighbours.chain([to]).collect());
        // t^¾ = √(t·√t)
        let steps = vec![
            (Function::Sqrt, MapOther::None),
            (Function::Mul, MapOther::Operand(0)),
            (Function::Sqrt, MapOther::None),
            (Function::DivInto, MapOther::Operand(1)),
        ];
        let quotient = Map::new(&extents, &walk, &[walk.clone(), walk.clone()], steps);
        self.kernel(node, quotient, vec![to, from, to]);
        Some(())
    }
}
