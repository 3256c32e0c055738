//! Batch normalisation by the statistics of the batch, and its gradient.

use optc_ir::NodeId;
use optc_ir::op::BatchNormTrain;

use super::Planner;
use super::chain::{Beside, Chain};
use crate::layout::{Blocked, image_shape};
use crate::plan::{Arg, Place};
use crate::tile::VECTOR_BYTES;
use crate::tile::batch_norm::{Moments, Planes, Products, Slopes, Statistics};
use crate::tile::function::Function;
use crate::tile::map::{Map, MapOther};

fn planes(image: &Blocked) -> Planes {
    let [images, _, rows, columns] = image.shape;
    Planes { images, blocks: image.blocks(), rows, columns }
}

/// Steps of one vector a block of channels over an image in blocks.
const PER_CHANNEL: [i64; 5] = [0, VECTOR_BYTES as i64, 0, 0, 4];

impl Planner<'_> {
    /// Batch normalisation and the functions that follow it.
    pub(super) fn batch_norm_train(&mut self, chain: &Chain, norm: &BatchNormTrain) -> Option<()> {
        let node = chain.start;
        let x = self.graph.operand(node, 0)?;
        let shape = image_shape(&self.f32_shape(x)?)?;
        let others = chain.links.iter().map(|link| match &link.other {
            Beside::Value(value) => self.f32_shape(*value).map(|own| own.iter().product::<usize>()),
            Beside::Channels(_) => None,
            Beside::Nothing | Beside::Number(_) => Some(shape.iter().product()),
        });
        if !others.into_iter().all(|elements| elements == Some(shape.iter().product())) {
            return None;
        }
        let parameters = (1..5).map(|slot| self.vector(node, self.graph.operand(node, slot)?));
        let parameters: Vec<Arg> = parameters.collect::<Option<_>>()?;
        let (buffer, image) = self.blocked(node, x, [0; 4])?;
        let from = Arg::Buffer(buffer, image.start());
        let planes = planes(&image);
        let field = planes.field();
        let (moments, fields) = (self.buffer(planes.kept_bytes()), self.buffer(6 * field));
        let work = Moments { planes: planes.clone(), x: image.strides() };
        self.kernel(node, work, vec![from, Arg::Buffer(moments, 0)]);
        let work = Statistics { planes, eps: norm.eps, momentum: norm.momentum };
        let args = [vec![Arg::Buffer(moments, 0)], parameters, vec![Arg::Buffer(fields, 0)]].concat();
        self.kernel(node, work, args);
        for result in 1..5 {
            self.see(node.result(result), fields, (result + 1) * field, vec![4])?;
        }

        let (mut args, mut walks) = (vec![from], vec![image.walk().to_vec()]);
        for i in 0..2 {
            args.push(Arg::Buffer(fields, i * field));
            walks.push(PER_CHANNEL.to_vec());
        }
        let mut steps = vec![(Function::Mul, MapOther::Operand(1)), (Function::Add, MapOther::Operand(2))];
        for link in &chain.links {
            let other = match &link.other {
                Beside::Nothing => MapOther::None,
                Beside::Number(x) => MapOther::Number(*x),
                Beside::Value(value) => {
                    let (buffer, image) = self.blocked(chain.end, *value, [0; 4])?;
                    args.push(Arg::Buffer(buffer, image.start()));
                    walks.push(image.walk().to_vec());
                    MapOther::Operand(args.len() - 1)
                }
                Beside::Channels(_) => return None,
            };
            steps.push((link.function, other));
        }
        let (place, out) = self.place_blocked(chain.end, chain.end.into(), shape);
        self.map_images(chain.end, out, place, (args, walks), steps);
        Some(())
    }

    /// The gradient of batch normalisation.
    pub(super) fn batch_norm_grad(&mut self, node: NodeId) -> Option<()> {
        let operand = |slot: usize| self.graph.operand(node, slot);
        let (x, dy) = (operand(0)?, operand(1)?);
        let shape = image_shape(&self.f32_shape(x)?)?;
        let [scale, mean, inv_std] = [2, 3, 4].map(operand);
        let scale = self.vector(node, scale?)?;
        let (mean, inv_std) = (self.vector(node, mean?)?, self.vector(node, inv_std?)?);
        let (x_buffer, image) = self.blocked(node, x, [0; 4])?;
        let (dy_buffer, of_dy) = self.blocked(node, dy, [0; 4])?;
        let [x_arg, dy_arg] = [Arg::Buffer(x_buffer, image.start()), Arg::Buffer(dy_buffer, of_dy.start())];
        let planes = planes(&image);
        let field = planes.field();
        let (products, fields) = (self.buffer(planes.kept_bytes()), self.buffer(5 * field));
        let work = Products { planes: planes.clone(), x: image.strides(), dy: of_dy.strides() };
        self.kernel(node, work, vec![x_arg, dy_arg, mean, Arg::Buffer(products, 0)]);
        let args = vec![Arg::Buffer(products, 0), scale, mean, inv_std, Arg::Buffer(fields, 0)];
        self.kernel(node, Slopes { planes }, args);
        for result in 1..3 {
            self.see(node.result(result), fields, (result + 2) * field, vec![4])?;
        }

        let vector = |i: usize| Arg::Buffer(fields, i * field);
        let args = vec![x_arg, vector(0), vector(1), dy_arg, vector(2)];
        let per_channel = || PER_CHANNEL.to_vec();
        let walks = vec![image.walk().to_vec(), per_channel(), per_channel(), of_dy.walk().to_vec(), per_channel()];
        let steps = [Function::Mul, Function::Add, Function::Add, Function::Mul];
        let steps = steps.into_iter().zip(1..).map(|(function, i)| (function, MapOther::Operand(i))).collect();
        let (place, out) = self.place_blocked(node, node.into(), shape);
        self.map_images(node, out, place, (args, walks), steps);
        Some(())
    }

    /// Appends a map over images in blocks; the result may take the place of an operand that lies as it does.
    fn map_images(
        &mut self,
        node: NodeId,
        out: Blocked,
        place: Place,
        (mut args, walks): (Vec<Arg>, Vec<Vec<i64>>),
        steps: Vec<(Function, MapOther)>,
    ) {
        let map = Map::new(&out.extents(), &out.walk(), &walks, steps);
        let to = args.len();
        let alike =
            |i: &usize| walks[*i] == out.walk() && matches!(args[*i], Arg::Buffer(_, start) if start == out.start());
        let like = (0..to).rev().find(alike);
        args.push(Arg::Buffer(place.buffer, out.start()));
        self.kernel(node, map, args);
        self.allow_in_place(like, to);
    }
}
