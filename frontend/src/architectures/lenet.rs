//! LeNet-300-100, LeNet-5 (LeCun et al. 1998) and other fully connected networks.

use optc_ir::Graph;
use optc_ir::op::{Conv, MaxPool};

use super::init::Layers;
use super::input;

/// Fully connected layers of these widths, ReLU between them.
pub(super) fn mlp(layers: Layers, sample: &[usize], widths: &[usize], batch_norm: bool) -> Graph {
    let x = input(&layers.g, sample);
    let mut x = if sample.len() > 1 { x.flatten().named("flatten") } else { x };
    for (i, pair) in widths.windows(2).enumerate() {
        x = layers.linear(x, pair[0], pair[1]);
        if i + 2 < widths.len() {
            if batch_norm {
                x = layers.batch_norm(x, &format!("fc{}", i + 1), pair[1]);
            }
            x = x.relu().named(&format!("relu{}", i + 1));
        }
    }
    let scores = x.id();
    layers.finish(scores)
}

/// Caffe's LeNet-5: no padding, and no activation behind the convolutions.
pub(super) fn lenet_5(layers: Layers, classes: usize) -> Graph {
    let pool = || MaxPool { kernel: vec![2, 2], strides: vec![2, 2], ..MaxPool::default() };
    let x = input(&layers.g, &[1, 28, 28]);
    let x = layers.conv(x, [20, 1, 5], Conv::default(), false).max_pool(pool()).named("pool1");
    let x = layers.conv(x, [50, 20, 5], Conv::default(), false).max_pool(pool()).named("pool2");
    let x = layers.linear(x.flatten().named("flatten"), 800, 500).relu().named("relu1");
    let scores = layers.linear(x, 500, classes).id();
    layers.finish(scores)
}
