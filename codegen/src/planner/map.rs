//! Elementwise chains that no layer begins.

use optc_ir::{Op, ValueId};

use super::Planner;
use super::chain::{Beside, Chain};
use crate::layout::{Layout, image_shape, same_walk};
use crate::plan::{Arg, Place};
use crate::tile::function::Function;
use crate::tile::map::{Map, MapOther};
use crate::tile::{VECTOR_BYTES, signed};

/// What a map reads.
enum Operand<'a> {
    Value(ValueId),
    /// One number a channel.
    Channels(&'a [f32]),
}

impl Planner<'_> {
    /// Plans a chain: a layer with its functions, or functions alone.
    pub(super) fn chain(&mut self, chain: &Chain) -> Option<()> {
        self.f32_shape(chain.end.into())?;
        if self.dynamic.scales(chain.start) {
            return self.dynamic_layer(chain);
        }
        match self.graph.op(chain.start) {
            Op::Conv(conv) => self.convolution(chain, conv),
            Op::ConvTranspose(conv) => self.conv_transpose(chain, conv),
            Op::BatchNormTrain(norm) => self.batch_norm_train(chain, norm),
            _ => match chain.source {
                Some(source) => self.map(chain, source),
                None => self.matrix(chain),
            },
        }
    }

    fn map(&mut self, chain: &Chain, source: ValueId) -> Option<()> {
        let shape = self.f32_shape(chain.end.into())?;
        let mut operands = vec![Operand::Value(source)];
        let mut steps = Vec::new();
        for link in &chain.links {
            let operand = match &link.other {
                Beside::Nothing | Beside::Number(_) => None,
                Beside::Value(value) => Some(Operand::Value(*value)),
                Beside::Channels(numbers) => Some(Operand::Channels(numbers)),
            };
            let other = match link.other {
                Beside::Nothing => MapOther::None,
                Beside::Number(x) => MapOther::Number(x),
                Beside::Value(_) | Beside::Channels(_) => MapOther::Operand(operands.len()),
            };
            operands.extend(operand);
            steps.push((link.function, other));
        }
        let in_blocks = |operand: &Operand<'_>| match *operand {
            Operand::Value(v) => self.is_blocked(v) && self.f32_shape(v).as_ref() == Some(&shape),
            Operand::Channels(_) => false,
        };
        if let Some(images) = image_shape(&shape)
            && operands.iter().any(in_blocks)
            && operands.iter().all(|operand| self.fits_blocks(operand, &shape))
        {
            return self.map_blocks(chain, images, &operands, steps);
        }
        self.map_strided(chain, &shape, &operands, steps)
    }

    fn map_strided(
        &mut self,
        chain: &Chain,
        shape: &[usize],
        operands: &[Operand<'_>],
        steps: Vec<(Function, MapOther)>,
    ) -> Option<()> {
        let (mut args, mut walks) = (Vec::new(), Vec::new());
        for operand in operands {
            match *operand {
                Operand::Value(value) => {
                    let (arg, strides) = self.contiguous(chain.end, value)?;
                    args.push(arg);
                    walks.push(broadcast(&self.f32_shape(value)?, &strides, shape.len()));
                }
                Operand::Channels(numbers) => {
                    args.push(Arg::Constant(self.pack(numbers), 0));
                    walks.push((0..shape.len()).map(|axis| if axis == 1 { 4 } else { 0 }).collect());
                }
            }
        }
        let layout = self.strided_layout(chain.end.into(), shape);
        let Layout::Strided { strides, .. } = &layout else { return None };
        let map = Map::new(shape, strides, &walks, steps);
        let alike = |i: &usize| same_walk(shape, &walks[*i], strides);
        let replaced = self.replaces.get(&ValueId::from(chain.end));
        let is_replaced = |i: &usize| matches!(operands[*i], Operand::Value(value) if Some(&value) == replaced);
        let mut likely = (0..walks.len()).filter(alike);
        let like = likely.clone().find(is_replaced).or_else(|| likely.next());
        let buffer = self.buffer(shape.iter().product::<usize>() * 4);
        self.put(chain.end.into(), Place { buffer, layout });
        args.push(Arg::Buffer(buffer, 0));
        self.map_in_place(chain, map, args, like);
        Some(())
    }

    /// Whether an operand is an image of this shape, or one number a channel (and image).
    fn fits_blocks(&self, operand: &Operand<'_>, shape: &[usize]) -> bool {
        let Operand::Value(value) = *operand else { return true };
        let Some(own) = self.f32_shape(value) else { return false };
        let lead = shape.len().saturating_sub(own.len());
        let along = |axis: usize| axis.checked_sub(lead).map_or(1, |i| own[i]);
        let per_channel = own.len() <= shape.len()
            && (2..shape.len()).all(|axis| along(axis) == 1)
            && along(1) == shape[1]
            && (along(0) == 1 || along(0) == shape[0]);
        own == shape || per_channel
    }

    fn map_blocks(
        &mut self,
        chain: &Chain,
        images: [usize; 4],
        operands: &[Operand<'_>],
        steps: Vec<(Function, MapOther)>,
    ) -> Option<()> {
        let elements: usize = images.iter().product();
        let per_channel = |image: i64| vec![image, signed(VECTOR_BYTES), 0, 0, 4];
        let (mut args, mut walks) = (Vec::new(), Vec::new());
        for operand in operands {
            match *operand {
                Operand::Channels(numbers) => {
                    args.push(Arg::Constant(self.pack(numbers), 0));
                    walks.push(per_channel(0));
                }
                Operand::Value(value) if self.f32_shape(value)?.iter().product::<usize>() == elements => {
                    let (buffer, image) = self.blocked(chain.end, value, [0; 4])?;
                    args.push(Arg::Buffer(buffer, image.start()));
                    walks.push(image.walk().to_vec());
                }
                Operand::Value(value) => {
                    let one_an_image = self.f32_shape(value)?.iter().product::<usize>() > images[1];
                    args.push(self.plain(chain.end, value)?);
                    walks.push(per_channel(if one_an_image { signed(images[1] * 4) } else { 0 }));
                }
            }
        }
        let (place, out) = self.place_blocked(chain.end, chain.end.into(), images);
        let map = Map::new(&out.extents(), &out.walk(), &walks, steps);
        let like = walks.iter().position(|walk| *walk == out.walk());
        args.push(Arg::Buffer(place.buffer, out.start()));
        self.map_in_place(chain, map, args, like);
        Some(())
    }

    /// Appends a map whose result may take the place of the operand that lies as it does.
    fn map_in_place(&mut self, chain: &Chain, map: Map, args: Vec<Arg>, like: Option<usize>) {
        let result = args.len() - 1;
        let like = like.filter(|&operand| match (args[operand], args[result]) {
            (Arg::Buffer(_, from), Arg::Buffer(_, to)) => from == to,
            _ => false,
        });
        self.kernel(chain.end, map, args);
        self.allow_in_place(like, result);
    }
}

/// Strides within a result of `rank` axes: zero where the operand has one element for all.
pub(super) fn broadcast(shape: &[usize], strides: &[i64], rank: usize) -> Vec<i64> {
    let mut walk = vec![0; rank - shape.len()];
    walk.extend(shape.iter().zip(strides).map(|(&n, &stride)| if n == 1 { 0 } else { stride }));
    walk
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::plain_strides;

    #[test]
    fn operands_broadcast_from_the_back() {
        assert_eq!(broadcast(&[3, 1], &plain_strides(&[3, 1]), 3), [0, 4, 0]);
    }
}
