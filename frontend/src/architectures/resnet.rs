//! Residual networks for CIFAR (He et al. 2016, section 4.2): 6n + 2 layers in three stages of 16, 32 and 64
//! channels.

use optc_ir::builder::Value;
use optc_ir::op::{GlobalAveragePool, Pad, Slice};
use optc_ir::{Graph, Tensor};

use super::init::{Layers, same};
use super::{Shortcut, input};

/// The network with `n` blocks a stage.
pub(super) fn cifar(layers: Layers, n: usize, shortcut: Shortcut, classes: usize) -> Graph {
    let x = input(&layers.g, &[3, 32, 32]);
    let mut x = layers.conv(x, [16, 3, 3], same(3, 1), true).relu();
    let mut channels = 16;
    for width in [16, 32, 64] {
        for block in 0..n {
            let stride = if width > 16 && block == 0 { 2 } else { 1 };
            let inner = layers.conv(x, [width, channels, 3], same(3, stride), true).relu();
            let inner = layers.conv(inner, [width, width, 3], same(3, 1), true);
            let carried = match (channels == width, shortcut) {
                (true, _) => x,
                (false, Shortcut::A) => subsampled(&layers, x, width - channels),
                (false, Shortcut::B) => layers.conv(x, [width, channels, 1], same(1, stride), true),
            };
            x = inner.add(carried).relu();
            channels = width;
        }
    }
    let x = x.with(GlobalAveragePool {}, &[]).flatten();
    let scores = layers.linear(x, 64, classes).id();
    layers.finish(scores)
}

/// Every second pixel, and as many channels of zeros as are missing, half of them on each side.
fn subsampled<'g>(layers: &'g Layers, x: Value<'g>, missing: usize) -> Value<'g> {
    let list = |name: &str, items: &[i64]| Some(layers.g.constant(name, Tensor::i64([items.len()], items)));
    let (starts, ends) = (list("starts", &[0, 0]), list("ends", &[i64::MAX, i64::MAX]));
    let x = x.with(Slice::default(), &[starts, ends, list("axes", &[2, 3]), list("steps", &[2, 2])]);
    let (before, after) = (missing as i64 / 2, (missing - missing / 2) as i64);
    let pads = list("pads", &[0, before, 0, 0, 0, after, 0, 0]);
    x.with(Pad::default(), &[pads])
}
