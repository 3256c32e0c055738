//! The cost tables of the papers, to the digits they print: networks built as the papers describe them, pruned by
//! optc's passes, counted by optc's cost analysis.
//!
//! "FLOP" in Li et al. 2017 and "Mult-Adds" in Howard et al. 2017 are multiply-accumulates. Where a paper's figure
//! is not what its own description gives, the test says so beside the figure.

use optc_ir::{Graph, Interp};
use optc_passes::analysis::{Cost, LayerCost};
use optc_passes::{Analysis, PassManager, pipeline};
use optc_tests::architectures::{MobileNet, googlenet, mobilenet, resnet_cifar, resnet34, vgg16, vgg16_cifar};

/// Multiply-accumulates and parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Costs {
    macs: f64,
    params: f64,
}

impl Costs {
    /// Of the layers that count.
    fn of(graph: &Graph, counts: impl Fn(&LayerCost) -> bool) -> Costs {
        let cost = Cost::of(graph);
        let layers = || cost.layers.iter().filter(|layer| counts(layer));
        Costs {
            macs: layers().map(|layer| layer.macs as f64).sum(),
            params: layers().map(|layer| layer.params as f64).sum(),
        }
    }

    fn total(graph: &Graph) -> Costs {
        Costs::of(graph, |_| true)
    }

    /// Percent of these that `pruned` does without: of multiply-accumulates, of parameters.
    fn saved(&self, pruned: Costs) -> [f64; 2] {
        [100.0 * (1.0 - pruned.macs / self.macs), 100.0 * (1.0 - pruned.params / self.params)]
    }
}

/// `value` with as many digits as `printed` has, in the same notation: `3.13e8`, `2.36`, `569`.
fn with_digits_of(printed: &str, value: f64) -> String {
    let mantissa = printed.split('e').next().expect("there is a first part");
    let decimals = mantissa.split_once('.').map_or(0, |(_, digits)| digits.len());
    if printed.contains('e') { format!("{value:.decimals$e}") } else { format!("{value:.decimals$}") }
}

#[track_caller]
fn is_printed(value: f64, printed: &str) {
    assert_eq!(with_digits_of(printed, value), printed, "{value}");
}

fn pruned(graph: &Graph, passes: &str) -> Graph {
    let mut graph = graph.clone();
    let pipeline = pipeline::parse(passes).unwrap_or_else(|e| panic!("{passes}: {e}"));
    PassManager::new(&Interp).run(&pipeline, &mut graph).unwrap_or_else(|e| panic!("{passes}: {e}"));
    graph
}

/// A pass that takes the fraction `ratio` of the `filters` filters of each of these convolutions, rounded up as
/// Li et al. do.
fn prune(layers: &[usize], filters: usize, ratio: f64) -> String {
    let names: Vec<String> = layers.iter().map(ToString::to_string).collect();
    let ratio = (ratio * filters as f64).ceil() / filters as f64;
    format!("prune-filters{{ratio={ratio}, only=\"re:^conv_({})$\"}}", names.join("|"))
}

/// Li et al. 2017, Table 2: the layers of VGG-16 for CIFAR-10 and what of each is saved; and its row of Table 1.
#[test]
fn vgg16_on_cifar10() {
    let table = [
        ("conv_1", "1.8e6", "1.7e3", "50"),
        ("conv_2", "3.8e7", "3.7e4", "50"),
        ("conv_3", "1.9e7", "7.4e4", "0"),
        ("conv_4", "3.8e7", "1.5e5", "0"),
        ("conv_5", "1.9e7", "2.9e5", "0"),
        ("conv_6", "3.8e7", "5.9e5", "0"),
        ("conv_7", "3.8e7", "5.9e5", "0"),
        ("conv_8", "1.9e7", "1.2e6", "50"),
        ("conv_9", "3.8e7", "2.4e6", "75"),
        ("conv_10", "3.8e7", "2.4e6", "75"),
        ("conv_11", "9.4e6", "2.4e6", "75"),
        ("conv_12", "9.4e6", "2.4e6", "75"),
        ("conv_13", "9.4e6", "2.4e6", "75"),
        ("linear_1", "2.6e5", "2.6e5", "50"),
        ("linear_2", "5.1e3", "5.1e3", "0"),
    ];
    let dense = vgg16_cifar();
    let half = pruned(&dense, &format!("{},{}", prune(&[1], 64, 0.5), prune(&[8, 9, 10, 11, 12, 13], 512, 0.5)));
    assert_eq!(Cost::of(&dense).layers.len(), table.len());
    for (name, macs, params, saved) in table {
        let layer = |graph: &Graph| Costs::of(graph, |layer| layer.name == name);
        is_printed(layer(&dense).macs, macs);
        is_printed(layer(&dense).params, params);
        is_printed(layer(&dense).saved(layer(&half))[0], saved);
    }
    is_printed(Costs::total(&dense).macs, "3.13e8");
    is_printed(Costs::total(&dense).params, "1.5e7");
    is_row(Costs::total(&dense), Costs::total(&half), ["2.06e8", "34.2", "5.4e6", "64.0"]);
}

/// A row of Li et al. 2017, Table 1: multiply-accumulates, what is saved of them, parameters, what is saved.
#[track_caller]
fn is_row(dense: Costs, pruned: Costs, [macs, macs_saved, params, params_saved]: [&str; 4]) {
    is_printed(pruned.macs, macs);
    is_printed(pruned.params, params);
    let saved = dense.saved(pruned);
    is_printed(saved[0], macs_saved);
    is_printed(saved[1], params_saved);
}

/// The first convolutions of the residual blocks of each stage of a CIFAR ResNet, without some.
fn first_layers(blocks: usize, skipped: &[usize]) -> [Vec<usize>; 3] {
    [0, 1, 2].map(|stage| {
        let layers = (0..blocks).map(|block| 2 * (stage * blocks + block) + 2);
        layers.filter(|layer| !skipped.contains(layer)).collect()
    })
}

/// A CIFAR ResNet without these fractions of the filters of the first layers of blocks, by stage.
fn thinned(dense: &Graph, blocks: usize, ratios: [f64; 3], skipped: &[usize]) -> Costs {
    let stages = first_layers(blocks, skipped).into_iter().zip([16, 32, 64]).zip(ratios);
    let passes: Vec<String> =
        stages.filter(|(_, ratio)| *ratio > 0.0).map(|((layers, width), ratio)| prune(&layers, width, ratio)).collect();
    Costs::total(&pruned(dense, &passes.join(",")))
}

/// Layers skipped and ratios by stage as in section 4.2. The parameters saved by B are 13.77 %, printed as 13.7.
#[test]
fn resnet56_on_cifar10() {
    let dense = resnet_cifar(9);
    let costs = Costs::total(&dense);
    is_printed(costs.macs, "1.25e8");
    is_printed(costs.params, "8.5e5");
    let a = thinned(&dense, 9, [0.1; 3], &[16, 20, 38, 54]);
    is_row(costs, a, ["1.12e8", "10.4", "7.7e5", "9.4"]);
    let b = thinned(&dense, 9, [0.6, 0.3, 0.1], &[16, 18, 20, 34, 38, 54]);
    is_row(costs, b, ["9.09e7", "27.6", "7.3e5", "13.8"]);
}

/// What B saves is 38.66 % and 32.45 %, printed as 38.6 and 32.4.
#[test]
fn resnet110_on_cifar10() {
    let dense = resnet_cifar(18);
    let costs = Costs::total(&dense);
    is_printed(costs.macs, "2.53e8");
    is_printed(costs.params, "1.72e6");
    is_row(costs, thinned(&dense, 18, [0.5, 0.0, 0.0], &[36]), ["2.13e8", "15.9", "1.68e6", "2.3"]);
    is_row(costs, thinned(&dense, 18, [0.5, 0.4, 0.3], &[36, 38, 74]), ["1.55e8", "38.7", "1.16e6", "32.5"]);
}

/// The paper counts no projections. A leaves 1.996e7 parameters, printed as 1.99e7; C saves 7.41 %, printed as 7.5.
#[test]
fn resnet34_on_imagenet() {
    let dense = resnet34();
    let count = |graph: &Graph| Costs::of(graph, |layer| !layer.name.starts_with("projection"));
    let costs = count(&dense);
    is_printed(costs.macs, "3.64e9");
    is_printed(costs.params, "2.16e7");
    let skipped = [2, 8, 14, 16, 26, 28, 30, 32];
    let stages: [(Vec<usize>, usize); 3] = [((2..8), 64), ((8..16), 128), ((16..28), 256)].map(|(layers, width)| {
        let first = layers.step_by(2).filter(|layer| !skipped.contains(layer)).collect();
        (first, width)
    });
    let thinned = |ratios: [f64; 3]| {
        let passes: Vec<String> =
            stages.iter().zip(ratios).map(|((layers, width), ratio)| prune(layers, *width, ratio)).collect();
        count(&pruned(&dense, &passes.join(",")))
    };
    is_row(costs, thinned([0.3; 3]), ["3.08e9", "15.5", "2.00e7", "7.6"]);
    is_row(costs, thinned([0.5, 0.6, 0.4]), ["2.76e9", "24.2", "1.93e7", "10.8"]);
    // C prunes the residual stream of the third stage: the second layers of its blocks and all that is added to them.
    let c = count(&pruned(&dense, &prune(&[17], 256, 0.2)));
    is_row(costs, c, ["3.37e9", "7.4", "2.01e7", "7.2"]);
}

fn millions(value: f64) -> f64 {
    value / 1e6
}

/// Howard et al. 2017, Table 3: an inner layer with `D_K` 3, `M` 512, `N` 512, `D_F` 14, cumulatively.
#[test]
fn mobilenet_layer() {
    let inner = |name: &'static str| {
        move |graph: &Graph| {
            Costs::of(graph, |layer| layer.name == format!("dw_{name}") || layer.name == format!("pw_{name}"))
        }
    };
    let separable = inner("8");
    let full = Costs::of(&mobilenet(MobileNet::Full, 224), |layer| layer.name == "full_8");
    let thin = |extent| pruned(&mobilenet(MobileNet::Separable, extent), "scale-width{alpha=0.75}");
    let rows = [
        (full, "462", "2.36"),
        (separable(&mobilenet(MobileNet::Separable, 224)), "52.3", "0.27"),
        (separable(&thin(224)), "29.6", "0.15"),
        (separable(&thin(160)), "15.1", "0.15"),
    ];
    for (costs, macs, params) in rows {
        is_printed(millions(costs.macs), macs);
        is_printed(millions(costs.params), params);
    }
}

/// Howard et al. 2017, Table 2: the share of each kind of layer. The first convolution has 1.91 % of the
/// multiply-accumulates, printed as 1.19: with that the column sums to 99.29 %.
#[test]
fn mobilenet_by_kind_of_layer() {
    let graph = mobilenet(MobileNet::Separable, 224);
    let total = Costs::total(&graph);
    for (kind, macs, params) in
        [("pw_", "94.86", "74.59"), ("dw_", "3.06", "1.06"), ("conv", "1.91", "0.02"), ("fc", "0.18", "24.33")]
    {
        let costs = Costs::of(&graph, |layer| layer.name.starts_with(kind));
        is_printed(100.0 * costs.macs / total.macs, macs);
        is_printed(100.0 * costs.params / total.params, params);
    }
}

/// Howard et al. 2017, Tables 4 and 5. Of the fully convolutional network the paper counts the convolutions' 4866
/// million multiply-accumulates and all parameters; of the others everything.
#[test]
fn mobilenet_full_thin_and_shallow() {
    let full = mobilenet(MobileNet::Full, 224);
    is_printed(millions(Costs::of(&full, |layer| layer.name != "fc").macs), "4866");
    is_printed(millions(Costs::total(&full).params), "29.3");
    let separable = mobilenet(MobileNet::Separable, 224);
    let thin = pruned(&separable, "scale-width{alpha=0.75}");
    for (graph, macs, params) in
        [(&separable, "569", "4.2"), (&thin, "325", "2.6"), (&mobilenet(MobileNet::Shallow, 224), "307", "2.9")]
    {
        is_printed(millions(Costs::total(graph).macs), macs);
        is_printed(millions(Costs::total(graph).params), params);
    }
}

/// Howard et al. 2017, Table 8. Of VGG-16 the paper counts the convolutions' multiply-accumulates, to three
/// digits. GoogLeNet as published has 1,583 million and 7.0 million parameters, printed as 1550 and 6.8.
#[test]
fn popular_networks() {
    let vgg = vgg16();
    let convolutions = Costs::of(&vgg, |layer| layer.op == "conv");
    is_printed(convolutions.macs, "1.53e10");
    is_printed(millions(Costs::total(&vgg).params), "138");
    let google = Costs::total(&googlenet());
    is_printed(millions(google.macs), "1583");
    is_printed(millions(google.params), "7.0");
}
