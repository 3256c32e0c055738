//! Dynamically quantized layers: the grid of what is multiplied follows from its numbers.
//!
//! Quantization and sums are those of the interpreter, and so is scaling: results have the same bits on all targets
//! that multiply codes, and without functions that round otherwise those of the interpreter.

use optc_codegen::{Plan, Target, Vectors};
use optc_ir::op::{Binary, Cast, ConvInteger, DynamicQuantizeLinear, MatMulInteger, Unary};
use optc_ir::{Backend, DType, Data, Interp, Op, Tensor, ValueId};
use rand::Rng;

use super::{Net, agree, same_bits_of};

impl Net {
    fn bytes(&mut self, shape: &[usize], dtype: DType, range: std::ops::Range<i64>) -> ValueId {
        let codes = (0..shape.iter().product::<usize>()).map(|_| self.rng.random_range(range.clone())).collect();
        self.add_constant(shape, dtype, codes)
    }

    fn add_constant(&mut self, shape: &[usize], dtype: DType, codes: Vec<i64>) -> ValueId {
        self.graph.add_tensor("codes", Tensor::new(shape, Data::from_i64(dtype, codes))).into()
    }

    /// A layer of `x`: codes of weights and their zero point by `op`, scaled by one number or one an output.
    fn scaled(&mut self, x: ValueId, op: Op, [w, zero]: [ValueId; 2], scales: &[usize]) -> ValueId {
        let quantize = self.add(DynamicQuantizeLinear {}, &[x]).node;
        let [codes, scale, x_zero] = [0, 1, 2].map(|result| quantize.result(result));
        let sums = self.add(op, &[codes, w, x_zero, zero]);
        let numbers = self.add(Cast { to: DType::F32 }, &[sums]);
        let of_weights = self.dense(scales);
        let factor = self.add(Op::Binary(Binary::Mul), &[scale, of_weights]);
        self.add(Op::Binary(Binary::Mul), &[numbers, factor])
    }

    /// Ends the graph; what is exact has the bits of the interpreter.
    fn check_dynamic(mut self, what: &str, y: ValueId, exact: bool) {
        self.graph.add_result("y", y);
        let targets: Vec<Vectors> = Vectors::ALL.into_iter().filter(|vectors| vectors.multiply_codes()).collect();
        if !Target::host(1).vectors.multiply_codes() {
            return;
        }
        let plan = Plan::new(&self.graph, &Target::host(1)).expect("the graph can be planned");
        assert!(plan.to_string().contains("i8_dynamic_quantize"), "{what}: numbers are quantized otherwise\n{plan}");
        assert!(plan.check_reach(&Target::host(1)).is_empty(), "{what}: {:?}", plan.check_reach(&Target::host(1)));
        agree(what, &self.graph, &self.inputs);
        same_bits_of(&targets, what, &self.graph, &self.inputs);
        if exact {
            let expected = Interp.compile(&self.graph).unwrap().run(&self.inputs).unwrap();
            let got = optc_codegen::Jit::new(1).compile(&self.graph).unwrap().run(&self.inputs).unwrap();
            assert_eq!(expected, got, "{what}");
        }
    }
}

#[test]
fn matrix_products() {
    let shapes: [&[usize]; 6] = [&[1, 1], &[1, 17], &[7, 64], &[2, 3, 33], &[1, 40, 16], &[13, 70]];
    for (case, (shape, n)) in shapes.iter().flat_map(|&shape| [1, 16, 37].map(|n| (shape, n))).enumerate() {
        let k = shape[shape.len() - 1];
        let mut net = Net::new("dynamic", case as u64);
        let x = net.random_input(shape);
        let w = net.bytes(&[k, n], DType::I8, -127..128);
        let zero = if case % 2 == 0 { net.bytes(&[n], DType::I8, 0..1) } else { net.bytes(&[], DType::I8, 0..1) };
        let scales: &[usize] = if case % 3 == 0 { &[] } else { &[n] };
        let y = net.scaled(x, MatMulInteger {}.into(), [w, zero], scales);
        let y = if case % 4 == 3 {
            let bias = net.dense(&[n]);
            net.add(Op::Binary(Binary::Add), &[y, bias])
        } else {
            y
        };
        net.check_dynamic(&format!("{shape:?} by {k}×{n}"), y, true);
    }
}

/// Weights without sign may be further from their zero point than a byte with sign reaches.
#[test]
fn weights_of_nine_bits() {
    for (dtype, range, zero) in [(DType::U8, 0..256, 128), (DType::U8, 0..256, 100), (DType::I8, -128..100, 90)] {
        for (m, k, n) in [(1, 5, 3), (9, 67, 33)] {
            let mut net = Net::new("dynamic", 3);
            let x = net.random_input(&[m, k]);
            let w = net.bytes(&[k, n], dtype, range.clone());
            let zero = net.add_constant(&[], dtype, vec![zero]);
            let y = net.scaled(x, MatMulInteger {}.into(), [w, zero], &[n]);
            let y = net.add(Op::Unary(Unary::Relu), &[y]);
            net.check_dynamic(&format!("{m}×{k}×{n} of {dtype}"), y, true);
        }
    }
}

#[test]
fn convolutions() {
    let mut case = 0;
    for (n, c, o, group) in [(1, 1, 1, 1), (1, 3, 5, 1), (2, 20, 33, 1), (1, 32, 64, 2), (1, 6, 8, 2), (2, 18, 18, 18)]
    {
        for (h, w) in [(1, 1), (9, 12)] {
            for (kernel, stride, pad) in [(1, 1, 0), (3, 1, 1), (3, 2, 1), (5, 1, 2)] {
                case += 1;
                let mut net = Net::new("dynamic", case);
                let x = net.random_input(&[n, c, h, w]);
                let weights = net.bytes(&[o, c / group, kernel, kernel], DType::I8, -127..128);
                let zero = net.bytes(&[], DType::I8, 0..1);
                let conv =
                    ConvInteger { strides: vec![stride; 2], pads: vec![pad; 4], group, ..ConvInteger::default() };
                let what = format!("{n}×{c}×{h}×{w} → {o}, {conv:?}");
                let scales: &[usize] = if case % 2 == 0 { &[] } else { &[o, 1, 1] };
                let y = net.scaled(x, conv.into(), [weights, zero], scales);
                let bias = net.dense(&[1, o, 1, 1]);
                let y = net.add(Op::Binary(Binary::Add), &[y, bias]);
                let y = net.add(Op::Unary(Unary::Relu), &[y]);
                net.check_dynamic(&what, y, true);
            }
        }
    }
}

/// Codes that something else reads are made as by definition.
#[test]
fn codes_that_are_results_are_interpreted() {
    let mut net = Net::new("dynamic", 1);
    let x = net.random_input(&[3, 8]);
    let quantize = net.add(DynamicQuantizeLinear {}, &[x]).node;
    let (w, zero) = (net.bytes(&[8, 4], DType::I8, -127..128), net.bytes(&[], DType::I8, 0..1));
    let sums = net.add(MatMulInteger {}, &[quantize.result(0), w, quantize.result(2), zero]);
    let numbers = net.add(Cast { to: DType::F32 }, &[sums]);
    let y = net.add(Op::Binary(Binary::Mul), &[numbers, quantize.result(1)]);
    net.graph.add_result("y", y);
    net.graph.add_result("codes", quantize.result(0));
    let expected = Interp.compile(&net.graph).unwrap().run(&net.inputs).unwrap();
    let got = optc_codegen::Jit::new(1).compile(&net.graph).unwrap().run(&net.inputs).unwrap();
    assert_eq!(expected, got);
}
