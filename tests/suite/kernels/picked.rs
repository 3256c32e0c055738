//! Layers whose outputs have N weights in every M inputs.

use optc_codegen::{Algorithm, Plan, Target};
use optc_ir::op::{Act, Binary, Conv, Gemm, Linear};
use optc_ir::{Graph, Op, Tensor, ValueId};
use rand::Rng;

use super::listed::same_bits_by;
use super::{Net, agree};

/// Weights `[outputs, inputs, taps…]` of which `kept` in every `of` inputs are left, at random; or `[inputs, outputs]`.
fn weights(net: &mut Net, shape: &[usize], (kept, of): (usize, usize), inputs: usize) -> ValueId {
    let step: usize = shape[inputs + 1..].iter().product();
    let len: usize = shape.iter().product();
    let mut weights = vec![0.0; len];
    for place in 0..len {
        let input = place / step % shape[inputs];
        if input.is_multiple_of(of) {
            let group = of.min(shape[inputs] - input);
            let first = net.rng.random_range(0..group);
            for i in 0..kept.min(group) {
                weights[place + (first + i) % group * step] = net.rng.random_range(-2.0f32..2.0);
            }
        }
    }
    net.graph.add_tensor("w", Tensor::f32(shape, weights)).into()
}

fn finish(mut net: Net, y: ValueId) -> (Graph, Vec<Tensor>) {
    net.graph.add_result("y", y);
    (net.graph, net.inputs)
}

/// How many layers of a plan pick what they multiply.
fn picked(graph: &Graph) -> usize {
    let plan = Plan::new(graph, &Target::host(1)).expect("the graph can be planned").to_string();
    let kernels = plan.matches("f32_picked_").count();
    assert_eq!(plan.matches(": n:m, ").count(), kernels, "choices name them\n{plan}");
    kernels
}

fn conv(pads: usize, strides: [usize; 2], dilations: [usize; 2], group: usize) -> Conv {
    let (strides, dilations) = (strides.to_vec(), dilations.to_vec());
    Conv { pads: vec![pads; 4], strides, dilations, group, act: Act::Silu, ..Conv::default() }
}

/// A convolution, the shapes of its input and weights, and how many weights are left in how many channels.
type Layer = (&'static str, Conv, [usize; 4], [usize; 4], (usize, usize));

fn layers() -> Vec<Layer> {
    let plain = [1, 1];
    vec![
        ("1×1", conv(0, plain, plain, 1), [1, 64, 7, 7], [96, 64, 1, 1], (2, 4)),
        ("1×1 of several images", conv(0, plain, plain, 1), [3, 40, 3, 5], [23, 40, 1, 1], (2, 4)),
        ("3×3", conv(1, plain, plain, 1), [1, 32, 5, 6], [33, 32, 3, 3], (1, 4)),
        ("of stride 2", conv(1, [2, 2], plain, 1), [1, 64, 9, 8], [32, 64, 3, 3], (2, 4)),
        ("dilated, of strides 1 and 3", conv(2, [1, 3], [2, 1], 1), [2, 24, 9, 11], [48, 24, 3, 2], (3, 8)),
        ("groups of blocks", conv(1, plain, plain, 2), [1, 64, 5, 5], [64, 32, 3, 3], (2, 4)),
        ("four pixels", conv(0, plain, plain, 1), [1, 128, 2, 2], [128, 128, 1, 1], (2, 4)),
    ]
}

/// Whether or not it is what would be chosen, every layer can be computed so.
#[test]
fn convolutions() {
    for (what, conv, x, shape, kept) in layers() {
        let mut net = Net::new("picked", 41);
        let input = net.random_input(&x);
        let (w, b) = (weights(&mut net, &shape, kept, 1), net.dense(&shape[..1]));
        let y = net.add(conv, &[input, w, b]);
        let scale = net.dense(&[shape[0], 1, 1]);
        let y = net.add(Op::Binary(Binary::Mul), &[y, scale]);
        let (graph, inputs) = finish(net, y);
        agree(what, &graph, &inputs);
        same_bits_by(Algorithm::NofM, what, &graph, &inputs);
    }
}

/// Weights that are too many for code of their own.
#[test]
fn large_layers() {
    for kept in [(2, 4), (1, 4)] {
        let mut net = Net::new("picked", 41);
        let x = net.random_input(&[1, 1152, 5, 5]);
        let w = weights(&mut net, &[1152, 1152, 1, 1], kept, 1);
        let y = net.add(conv(0, [1, 1], [1, 1], 1), &[x, w]);
        let (graph, inputs) = finish(net, y);
        assert_eq!(picked(&graph), 1, "{kept:?}");
        agree(&format!("{kept:?}"), &graph, &inputs);
    }
}

#[test]
fn matrices() {
    for ([m, n, k], kept) in
        [([4, 37, 67], (2, 4)), ([5, 16, 16], (1, 4)), ([29, 100, 96], (2, 4)), ([33, 64, 31], (1, 8))]
    {
        let what = format!("{m}×{n}×{k}, {kept:?}");
        let mut net = Net::new("picked", 41);
        let x = net.random_input(&[m, k]);
        let (w, b) = (weights(&mut net, &[n, k], kept, 1), net.dense(&[n]));
        let hidden = net.add(Linear { act: Act::Gelu }, &[x, w, b]);
        // Of a matrix that lies feature by feature, outputs are columns.
        let (w, b) = (weights(&mut net, &[n, 19], kept, 0), net.dense(&[19]));
        let y = net.add(Gemm { alpha: 0.5, beta: 2.0, ..Gemm::default() }, &[hidden, w, b]);
        let (graph, inputs) = finish(net, y);
        agree(&what, &graph, &inputs);
        same_bits_by(Algorithm::NofM, &what, &graph, &inputs);
    }
}
