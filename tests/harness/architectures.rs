//! The networks of the papers whose cost tables are reproduced, in structure: every weight is the same number,
//! since costs follow from shapes alone. Convolutions carry no biases and no batch normalisation, which none of
//! the papers counts.

use optc_ir::op::{AveragePool, Binary, Concat, Conv, Flatten, GlobalAveragePool, Linear, MaxPool, Pad, Slice, Unary};
use optc_ir::{Constant, DType, Data, Encoding, Graph, Op, Packed, Tensor, Type, ValueId};

/// Convolution widths of VGG-16 for CIFAR-10; 0 is a pool.
const VGG: [usize; 18] = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0];

/// A network that grows at its end.
struct Net {
    graph: Graph,
    at: ValueId,
}

impl Net {
    fn new(name: &str, channels: usize, extent: usize) -> Net {
        let mut graph = Graph::new(name);
        let at = graph.add_input("image", Type::tensor(DType::F32, [1, channels, extent, extent])).into();
        Net { graph, at }
    }

    fn shape(&self) -> Vec<usize> {
        let shape = self.graph.ty(self.at).as_tensor().and_then(|ty| ty.fixed_shape());
        shape.expect("all extents are fixed")
    }

    fn node(&mut self, name: &str, op: impl Into<Op>, others: &[ValueId]) -> &mut Net {
        let operands: Vec<Option<ValueId>> = [self.at].iter().chain(others).map(|&value| Some(value)).collect();
        let node = self.graph.add(name, op, &operands);
        self.at = node.unwrap_or_else(|e| panic!("{name}: {e}")).into();
        self
    }

    /// Weights that take one bit each, since the largest of these networks has 138 million.
    fn weight(&mut self, name: &str, shape: Vec<usize>) -> ValueId {
        let len: usize = shape.iter().product();
        let codes = Packed::from_bytes(1, len, vec![0; len.div_ceil(8)]).expect("a bit for each element");
        let encoding = Encoding::Clustered { codebook: Data::F32(vec![0.5]), codes };
        let constant = Constant::new(shape, DType::F32, encoding).expect("the parts fit each other");
        self.graph.add_constant(&format!("{name}.w"), constant).into()
    }

    /// A convolution that keeps the extents but for its stride, without activation.
    fn bare_conv(&mut self, name: &str, filters: usize, kernel: usize, stride: usize, group: usize) -> &mut Net {
        let channels = self.shape()[1];
        let weight = self.weight(name, vec![filters, channels / group, kernel, kernel]);
        let pads = vec![kernel / 2; 4];
        let conv = Conv { strides: vec![stride; 2], pads, group, ..Conv::default() };
        self.node(name, conv, &[weight])
    }

    fn conv(&mut self, name: &str, filters: usize, kernel: usize, stride: usize) -> &mut Net {
        self.bare_conv(name, filters, kernel, stride, 1).relu(name)
    }

    fn depthwise(&mut self, name: &str, stride: usize) -> &mut Net {
        let channels = self.shape()[1];
        self.bare_conv(name, channels, 3, stride, channels).relu(name)
    }

    fn relu(&mut self, of: &str) -> &mut Net {
        self.node(&format!("{of}.relu"), Op::Unary(Unary::Relu), &[])
    }

    fn max_pool(&mut self, kernel: usize, stride: usize) -> &mut Net {
        let pads = vec![(kernel - 1) / 2; 4];
        self.node(
            "pool",
            MaxPool { kernel: vec![kernel; 2], strides: vec![stride; 2], pads, ..MaxPool::default() },
            &[],
        )
    }

    fn global_pool(&mut self) -> &mut Net {
        self.node("average", GlobalAveragePool {}, &[]).flatten()
    }

    fn flatten(&mut self) -> &mut Net {
        self.node("flat", Flatten::default(), &[])
    }

    fn linear(&mut self, name: &str, outputs: usize) -> &mut Net {
        let inputs = self.shape()[1];
        let weight = self.weight(name, vec![outputs, inputs]);
        self.node(name, Linear::default(), &[weight])
    }

    /// Adds what `shortcut` is, or what it is by `change` where the shapes differ.
    fn residual(&mut self, name: &str, shortcut: ValueId, change: impl FnOnce(&mut Net, &[usize])) -> &mut Net {
        let (sum, shape) = (self.at, self.shape());
        self.at = shortcut;
        if self.shape() != shape {
            change(self, &shape);
        }
        let other = std::mem::replace(&mut self.at, sum);
        self.node(&format!("{name}.sum"), Op::Binary(Binary::Add), &[other]).relu(&format!("{name}.sum"))
    }

    fn finish(mut self) -> Graph {
        self.graph.add_result("scores", self.at);
        self.graph
    }
}

/// VGG-16 for CIFAR-10 as Li et al. 2017, Table 2 has it: `conv_1` … `conv_13`, `linear_1`, `linear_2`.
pub fn vgg16_cifar() -> Graph {
    let mut net = Net::new("vgg16_cifar", 3, 32);
    let mut layer = 0;
    for width in VGG {
        if width == 0 {
            net.max_pool(2, 2);
        } else {
            layer += 1;
            net.conv(&format!("conv_{layer}"), width, 3, 1);
        }
    }
    net.flatten().linear("linear_1", 512).relu("linear_1").linear("linear_2", 10);
    net.finish()
}

/// VGG-16 for ImageNet (Simonyan & Zisserman 2015, configuration D).
pub fn vgg16() -> Graph {
    let mut net = Net::new("vgg16", 3, 224);
    for (i, width) in VGG.into_iter().enumerate() {
        if width == 0 {
            net.max_pool(2, 2);
        } else {
            net.conv(&format!("conv_{i}"), width, 3, 1);
        }
    }
    net.flatten().linear("fc_1", 4096).relu("fc_1").linear("fc_2", 4096).relu("fc_2").linear("fc_3", 1000);
    net.finish()
}

/// ResNet for CIFAR-10 with `6·blocks + 2` layers (He et al. 2016, section 4.2), shortcuts without parameters
/// (option A). The convolution of layer `i`, counted from 1 as in Li et al. 2017, is `conv_i`.
pub fn resnet_cifar(blocks: usize) -> Graph {
    let mut net = Net::new("resnet_cifar", 3, 32);
    net.conv("conv_1", 16, 3, 1);
    let mut layer = 2;
    for (stage, width) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..blocks {
            let shortcut = net.at;
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let last = format!("conv_{}", layer + 1);
            net.conv(&format!("conv_{layer}"), width, 3, stride).bare_conv(&last, width, 3, 1, 1);
            net.residual(&last, shortcut, option_a);
            layer += 2;
        }
    }
    net.global_pool().linear("linear", 10);
    net.finish()
}

/// Every other pixel, and channels of zeros.
fn option_a(net: &mut Net, shape: &[usize]) {
    let have = net.shape();
    let [zero, end, axis, step, pads] = [
        [0, 0].as_slice(),
        &[i64::MAX, i64::MAX],
        &[2, 3],
        &[2, 2],
        &[0, 0, 0, 0, 0, (shape[1] - have[1]) as i64, 0, 0],
    ]
    .map(|numbers| ValueId::from(net.graph.add_tensor("shortcut", Tensor::i64([numbers.len()], numbers))));
    net.node("shortcut", Slice::default(), &[zero, end, axis, step]).node("shortcut", Pad::default(), &[pads]);
}

/// ResNet-34 for ImageNet (He et al. 2016, Table 1), its projections `projection_…`, the convolution of layer `i`
/// `conv_i` as in Li et al. 2017.
pub fn resnet34() -> Graph {
    let mut net = Net::new("resnet34", 3, 224);
    net.conv("conv_1", 64, 7, 2).max_pool(3, 2);
    let mut layer = 2;
    for (stage, (width, blocks)) in [(64, 3), (128, 4), (256, 6), (512, 3)].into_iter().enumerate() {
        for block in 0..blocks {
            let shortcut = net.at;
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let last = format!("conv_{}", layer + 1);
            net.conv(&format!("conv_{layer}"), width, 3, stride).bare_conv(&last, width, 3, 1, 1);
            net.residual(&last, shortcut, |net, _| {
                net.bare_conv(&format!("projection_{layer}"), width, 1, 2, 1);
            });
            layer += 2;
        }
    }
    net.global_pool().linear("linear", 1000);
    net.finish()
}

/// What stands between the first convolution and the classifier of a [`mobilenet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MobileNet {
    /// Depthwise separable layers: `dw_…` and `pw_…` (Howard et al. 2017, Table 1).
    Separable,
    /// The same without the five layers at 14×14 (section 4.1).
    Shallow,
    /// A full convolution `full_…` in place of each pair (section 4.1).
    Full,
}

/// MobileNet for images of this extent.
pub fn mobilenet(body: MobileNet, extent: usize) -> Graph {
    let mut net = Net::new("mobilenet", 3, extent);
    net.conv("conv", 32, 3, 2);
    let narrow = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)];
    let repeated = if body == MobileNet::Shallow { 0 } else { 5 };
    let middle = std::iter::repeat_n((512, 1), repeated);
    let layers = narrow.into_iter().chain(middle).chain([(1024, 2), (1024, 1)]);
    for (i, (width, stride)) in layers.enumerate() {
        if body == MobileNet::Full {
            net.conv(&format!("full_{i}"), width, 3, stride);
        } else {
            net.depthwise(&format!("dw_{i}"), stride).conv(&format!("pw_{i}"), width, 1, 1);
        }
    }
    net.global_pool().linear("fc", 1000);
    net.finish()
}

/// GoogLeNet (Szegedy et al. 2015, Table 1), without the classifiers that only training has.
pub fn googlenet() -> Graph {
    let mut net = Net::new("googlenet", 3, 224);
    net.conv("conv_1", 64, 7, 2).max_pool(3, 2).conv("conv_2_reduce", 64, 1, 1).conv("conv_2", 192, 3, 1);
    net.max_pool(3, 2);
    let modules: [(&str, [usize; 6]); 9] = [
        ("3a", [64, 96, 128, 16, 32, 32]),
        ("3b", [128, 128, 192, 32, 96, 64]),
        ("4a", [192, 96, 208, 16, 48, 64]),
        ("4b", [160, 112, 224, 24, 64, 64]),
        ("4c", [128, 128, 256, 24, 64, 64]),
        ("4d", [112, 144, 288, 32, 64, 64]),
        ("4e", [256, 160, 320, 32, 128, 128]),
        ("5a", [256, 160, 320, 32, 128, 128]),
        ("5b", [384, 192, 384, 48, 128, 128]),
    ];
    for (name, widths) in modules {
        if matches!(name, "4a" | "5a") {
            net.max_pool(3, 2);
        }
        inception(&mut net, name, widths);
    }
    net.node("average", AveragePool { kernel: vec![7; 2], ..AveragePool::default() }, &[]);
    net.flatten().linear("fc", 1000);
    net.finish()
}

fn inception(net: &mut Net, name: &str, [one, reduce3, three, reduce5, five, pool]: [usize; 6]) {
    let input = net.at;
    let mut branch = |layers: &dyn Fn(&mut Net)| {
        net.at = input;
        layers(net);
        net.at
    };
    let branches = [
        branch(&|net| {
            net.conv(&format!("{name}.1x1"), one, 1, 1);
        }),
        branch(&|net| {
            net.conv(&format!("{name}.3x3_reduce"), reduce3, 1, 1).conv(&format!("{name}.3x3"), three, 3, 1);
        }),
        branch(&|net| {
            net.conv(&format!("{name}.5x5_reduce"), reduce5, 1, 1).conv(&format!("{name}.5x5"), five, 5, 1);
        }),
        branch(&|net| {
            net.max_pool(3, 1).conv(&format!("{name}.pool"), pool, 1, 1);
        }),
    ];
    net.at = branches[0];
    net.node(name, Concat { axis: 1 }, &branches[1..]);
}
