//! Networks to train, by name, with random weights: those that papers on compression measure themselves on.
//!
//! Every graph takes `x` with an open first extent `N` and gives `scores`, one logit a class. Activations
//! and batch normalisation are nodes of their own, as training wants them.

mod init;
mod lenet;
mod mobilenet;
mod resnet;
mod vgg;

use optc_ir::builder::GraphBuilder;
use optc_ir::{DType, Dim, Graph};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
pub use init::Init;
use init::Layers;

/// An architecture as `optc new --list` shows it.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// The name; `resnet-20` stands for all of its family.
    pub name: &'static str,
    /// Extents of one sample, as far as they are fixed.
    pub input: &'static str,
    /// What it is, and where from.
    pub summary: &'static str,
}

/// All architectures.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "lenet-300-100",
        input: "[1, 28, 28]",
        summary: "fully connected 784-300-100-10 (LeCun et al. 1998): 266,610 parameters",
    },
    Architecture {
        name: "lenet-5",
        input: "[1, 28, 28]",
        summary: "Caffe's: conv 20@5×5, pool, conv 50@5×5, pool, 500, 10: 431,080 parameters",
    },
    Architecture {
        name: "resnet-20",
        input: "[3, 32, 32]",
        summary: "residual network for CIFAR (He et al. 2016); also 32, 44, 56, 110: any 6n + 2",
    },
    Architecture {
        name: "vgg-16-cifar",
        input: "[3, 32, 32]",
        summary: "VGG-16 with batch normalisation and 512-512-10 on top (Li et al. 2017)",
    },
    Architecture {
        name: "mobilenet-v1",
        input: "[3, 224, 224]",
        summary: "depthwise separable convolutions (Howard et al. 2017): 4.2 M parameters",
    },
    Architecture {
        name: "mlp",
        input: "[784]",
        summary: "fully connected with ReLU between, of the widths of --widths",
    },
];

/// How a residual block's shortcut reaches more channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shortcut {
    /// Option A: every second pixel, and channels of zeros; no parameters.
    #[default]
    A,
    /// Option B: a 1×1 convolution with batch normalisation.
    B,
}

/// What can be chosen besides the name.
#[derive(Clone, Debug, Default)]
pub struct NewOptions {
    /// Number of classes; the data set's of the paper by default.
    pub classes: Option<usize>,
    /// Widths of an `mlp`, input first, classes last.
    pub widths: Vec<usize>,
    /// Whether an `mlp` normalises each hidden layer over the batch.
    pub batch_norm: bool,
    /// Shortcuts of a residual network.
    pub shortcut: Shortcut,
    /// Height and width of the input of `mobilenet-v1`.
    pub resolution: Option<usize>,
    /// The distribution of the weights.
    pub init: Init,
    /// Where the weights start from.
    pub seed: u64,
}

/// The largest extent or width that can be asked for.
const MAX_EXTENT: usize = 1 << 16;

/// A network with random weights.
///
/// # Errors
/// [`Error::Usage`] if there is no such architecture, or an option does not suit it.
pub fn build(name: &str, options: &NewOptions) -> Result<Graph, Error> {
    check(name, options)?;
    let layers = Layers::new(name, options.init, ChaCha8Rng::seed_from_u64(options.seed));
    let classes = |of_paper| options.classes.unwrap_or(of_paper);
    let depth = name.strip_prefix("resnet-").and_then(|depth| depth.parse::<usize>().ok());
    Ok(match (name, depth) {
        ("lenet-300-100", _) => lenet::mlp(layers, &[1, 28, 28], &[784, 300, 100, classes(10)], false),
        ("lenet-5", _) => lenet::lenet_5(layers, classes(10)),
        ("vgg-16-cifar", _) => vgg::vgg_16(layers, classes(10)),
        ("mobilenet-v1", _) => mobilenet::v1(layers, options.resolution.unwrap_or(224), classes(1000)),
        ("mlp", _) => {
            let mut widths = options.widths.clone();
            if let (Some(last), Some(classes)) = (widths.last_mut(), options.classes) {
                *last = classes;
            }
            lenet::mlp(layers, &widths[..1], &widths, options.batch_norm)
        }
        (_, Some(depth)) if depth >= 8 && depth % 6 == 2 && depth <= 1202 => {
            resnet::cifar(layers, (depth - 2) / 6, options.shortcut, classes(10))
        }
        _ => {
            let names: Vec<&str> = ARCHITECTURES.iter().map(|a| a.name).collect();
            return Err(Error::Usage(format!("there is no architecture {name}; there are {}", names.join(", "))));
        }
    })
}

/// Whether every option that is given means something for this architecture.
fn check(name: &str, options: &NewOptions) -> Result<(), Error> {
    let refuse = |flag: &str, of: &str| Err(Error::Usage(format!("{name}: {flag} is for {of} alone")));
    let too_large = |n: usize| !(1..=MAX_EXTENT).contains(&n);
    if name != "mlp" && !options.widths.is_empty() {
        return refuse("--widths", "mlp");
    }
    if name != "mlp" && options.batch_norm {
        return refuse("--batch-norm", "mlp");
    }
    if name == "mlp" && (options.widths.len() < 2 || options.widths.iter().any(|&n| too_large(n))) {
        let message = format!("mlp: --widths takes two numbers or more, each from 1 to {MAX_EXTENT}: 784,300,100,10");
        return Err(Error::Usage(message));
    }
    if !name.starts_with("resnet-") && options.shortcut == Shortcut::B {
        return refuse("--shortcut", "resnet-20 and its family");
    }
    match options.resolution {
        Some(_) if name != "mobilenet-v1" => return refuse("--resolution", "mobilenet-v1"),
        Some(n) if !(32..=4096).contains(&n) => {
            return Err(Error::Usage(format!("{name}: --resolution {n} is not from 32 to 4096")));
        }
        _ => {}
    }
    match options.classes {
        Some(n) if too_large(n) => Err(Error::Usage(format!("{name}: --classes {n} is not from 1 to {MAX_EXTENT}"))),
        _ => Ok(()),
    }
}

/// The input of every architecture.
fn input<'g>(g: &'g GraphBuilder, sample: &[usize]) -> optc_ir::builder::Value<'g> {
    let dims = [Dim::sym("N")].into_iter().chain(sample.iter().map(|&n| Dim::Fixed(n)));
    g.input("x", DType::F32, dims)
}

#[cfg(test)]
mod tests {
    use optc_ir::verify::verify;
    use optc_ir::{Interp, Op, Tensor};
    use optc_passes::Analysis;
    use optc_passes::analysis::Cost;

    use super::*;
    use crate::compiled::Compiled;

    /// Elements of constants that are trained: all but stored statistics and shapes.
    fn trained(graph: &Graph) -> usize {
        let is_statistic = |node| {
            let users = graph.uses(optc_ir::NodeId::result(node, 0));
            users.iter().all(|&(user, slot)| matches!(graph.op(user), Op::BatchNorm(_)) && slot >= 3)
        };
        let constants = graph.nodes().filter_map(|node| Some((node, graph.constant(node)?)));
        constants.filter(|(node, c)| c.dtype() == DType::F32 && !is_statistic(*node)).map(|(_, c)| c.len()).sum()
    }

    fn macs(graph: &Graph) -> u64 {
        Cost::of(graph).total.macs
    }

    #[test]
    fn parameters_and_multiplications_are_those_of_the_papers() {
        let b = NewOptions { shortcut: Shortcut::B, ..NewOptions::default() };
        let default = NewOptions::default();
        // ResNet: 0.27, 0.46, 0.66, 0.85 M and 1.25e8 multiplications for 56 layers; VGG-16: 1.5e7 and 3.13e8;
        // MobileNet: 4.2 M and 569 M.
        let expected = [
            ("lenet-300-100", &default, 266_610, 266_200),
            ("lenet-5", &default, 431_080, 2_293_000),
            ("resnet-20", &default, 269_722, 40_551_040),
            ("resnet-32", &default, 464_154, 68_862_592),
            ("resnet-44", &default, 658_586, 97_174_144),
            ("resnet-56", &default, 853_018, 125_485_696),
            ("resnet-20", &b, 272_474, 40_813_184),
            ("vgg-16-cifar", &default, 14_987_722, 313_463_808),
            ("mobilenet-v1", &default, 4_231_976, 568_740_352),
        ];
        for (name, options, params, multiplications) in expected {
            let graph = build(name, options).unwrap();
            verify(&graph).unwrap();
            assert_eq!((name, trained(&graph), macs(&graph)), (name, params, multiplications));
        }
        let mlp = NewOptions { widths: vec![784, 1024, 1024, 1024, 10], batch_norm: true, ..default };
        assert_eq!(trained(&build("mlp", &mlp).unwrap()), 2_913_290 + 3 * 2 * 1024);
    }

    #[test]
    fn a_seed_gives_one_network_that_runs() {
        let options = |seed, init| NewOptions { seed, init, ..NewOptions::default() };
        let graph = build("lenet-5", &options(1, Init::He)).unwrap();
        let bytes = |graph: &Graph| crate::model::to_bytes(graph, crate::files::Format::Onnx).unwrap();
        assert_eq!(bytes(&graph), bytes(&build("lenet-5", &options(1, Init::He)).unwrap()));
        assert_ne!(bytes(&graph), bytes(&build("lenet-5", &options(2, Init::He)).unwrap()));
        assert_ne!(bytes(&graph), bytes(&build("lenet-5", &options(1, Init::Glorot)).unwrap()));
        let mut compiled = Compiled::new(graph, &Interp).unwrap();
        let outputs = compiled.run(&[("x", Tensor::f32([2, 1, 28, 28], vec![0.5; 2 * 784]))]).unwrap();
        assert_eq!(outputs["scores"].shape(), [2, 10]);
    }

    #[test]
    fn what_does_not_suit_an_architecture_is_refused() {
        let refused = |name: &str, options: &NewOptions| build(name, options).unwrap_err().to_string();
        assert!(refused("alexnet", &NewOptions::default()).contains("lenet-5"));
        assert!(refused("resnet-21", &NewOptions::default()).contains("there is no architecture resnet-21"));
        assert!(refused("mlp", &NewOptions::default()).contains("--widths"));
        let widths = NewOptions { widths: vec![1, 2], ..NewOptions::default() };
        assert!(refused("lenet-5", &widths).contains("mlp alone"));
        let resolution = NewOptions { resolution: Some(8), ..NewOptions::default() };
        assert!(refused("mobilenet-v1", &resolution).contains("32 to 4096"));
    }
}
