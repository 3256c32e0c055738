//! VGG-16 for CIFAR-10 as Li et al. 2017 prune it: thirteen convolutions and one hidden layer, all with batch
//! normalisation.

use optc_ir::Graph;
use optc_ir::op::MaxPool;

use super::init::{Layers, same};
use super::input;

/// The network.
pub(super) fn vgg_16(layers: Layers, classes: usize) -> Graph {
    let mut x = input(&layers.g, &[3, 32, 32]);
    let mut channels = 3;
    for (width, count) in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)] {
        for _ in 0..count {
            x = layers.conv(x, [width, channels, 3], same(3, 1), true).relu();
            channels = width;
        }
        x = x.max_pool(MaxPool { kernel: vec![2, 2], strides: vec![2, 2], ..MaxPool::default() });
    }
    let hidden = layers.linear(x.flatten(), 512, 512);
    let hidden = layers.batch_norm(hidden, "fc1", 512).relu();
    let scores = layers.linear(hidden, 512, classes).id();
    layers.finish(scores)
}
