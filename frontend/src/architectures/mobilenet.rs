//! MobileNet (Howard et al. 2017, table 1): depthwise separable convolutions.

use optc_ir::Graph;
use optc_ir::op::{Conv, GlobalAveragePool};

use super::init::{Layers, same};
use super::input;

/// Channels of the result and stride of each separable convolution.
const BLOCKS: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

/// The network for pictures of `resolution`².
pub(super) fn v1(layers: Layers, resolution: usize, classes: usize) -> Graph {
    let x = input(&layers.g, &[3, resolution, resolution]);
    let mut x = layers.conv(x, [32, 3, 3], same(3, 2), true).relu();
    let mut channels = 32;
    for (width, stride) in BLOCKS {
        let depthwise = Conv { group: channels, ..same(3, stride) };
        x = layers.conv(x, [channels, 1, 3], depthwise, true).relu();
        x = layers.conv(x, [width, channels, 1], same(1, 1), true).relu();
        channels = width;
    }
    let x = x.with(GlobalAveragePool {}, &[]).flatten();
    let scores = layers.linear(x, channels, classes).id();
    layers.finish(scores)
}
