//! Transposed convolutions.

use optc_ir::op::ConvTranspose;

use super::*;

#[test]
fn transposed_convolutions() {
    let acts = [Act::None, Act::Relu, Act::Sigmoid, Act::HardSwish];
    let mut case = 0;
    for (n, c, o, group) in
        [(1, 1, 1, 1), (2, 3, 5, 1), (1, 20, 17, 1), (1, 6, 4, 2), (1, 32, 64, 2), (2, 5, 5, 5), (1, 18, 18, 18)]
    {
        for (h, w) in [(1, 1), (3, 7), (5, 4)] {
            for (kernel, stride, dilation, pad, more) in [
                (1, 1, 1, 0, 0),
                (2, 2, 1, 0, 0),
                (3, 2, 1, 1, 1),
                (4, 2, 1, 1, 0),
                (2, 3, 1, 0, 2),
                (3, 1, 2, 2, 0),
                (3, 2, 3, 1, 0),
                (3, 4, 2, 0, 0),
            ] {
                let conv = ConvTranspose {
                    strides: vec![stride; 2],
                    pads: vec![pad; 4],
                    dilations: vec![dilation; 2],
                    output_padding: vec![more; 2],
                    group,
                    act: acts[case % acts.len()],
                    ..ConvTranspose::default()
                };
                // Pads that cut all there is are no layer.
                if (h.min(w) - 1) * stride + (kernel - 1) * dilation + 1 + more <= 2 * pad {
                    continue;
                }
                case += 1;
                let weights = [c, o / group, kernel, kernel];
                let what = format!("{n}×{c}×{h}×{w} → {o}, {conv:?}");
                check(&what, conv.clone(), &[&[n, c, h, w], &weights, &[o]]);
                check(&what, conv, &[&[n, c, h, w], &weights]);
            }
        }
    }
    let one_axis = ConvTranspose { strides: vec![2], pads: vec![1, 0], ..ConvTranspose::default() };
    check("one axis", one_axis, &[&[2, 3, 9], &[3, 4, 3], &[4]]);
    let uneven = ConvTranspose { strides: vec![2, 1], pads: vec![0, 2, 1, 0], ..ConvTranspose::default() };
    check("uneven border", uneven, &[&[1, 2, 6, 6], &[2, 3, 2, 3], &[3]]);
}

/// Functions that follow read their operands where the phases write.
#[test]
fn transposed_convolutions_with_functions() {
    let mut rng = ChaCha8Rng::seed_from_u64(30);
    let mut graph = Graph::new("transposed");
    let x = graph.add_input("x", Type::tensor(DType::F32, [2, 3, 4, 5]));
    let z = graph.add_input("z", Type::tensor(DType::F32, [2, 18, 8, 10]));
    let w = graph.add_tensor("w", random(&mut rng, &[3, 18, 2, 2]));
    let scale = graph.add_tensor("scale", random(&mut rng, &[1, 18, 1, 1]));
    let conv = ConvTranspose { strides: vec![2, 2], ..ConvTranspose::default() };
    let conv = graph.add("conv", conv, &[Some(x.into()), Some(w.into())]).unwrap();
    let scaled = graph.add("scaled", Op::Binary(Binary::Mul), &[Some(conv.into()), Some(scale.into())]).unwrap();
    let sum = graph.add("sum", Op::Binary(Binary::Add), &[Some(scaled.into()), Some(z.into())]).unwrap();
    let y = graph.add("y", Op::Unary(Unary::Relu), &[Some(sum.into())]).unwrap();
    graph.add_result("y", y.into());
    let inputs = [random(&mut rng, &[2, 3, 4, 5]), random(&mut rng, &[2, 18, 8, 10])];
    agree("functions", &graph, &inputs);
}
