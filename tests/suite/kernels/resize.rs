//! Resizes.

use optc_ir::op::{CoordinateMode, NearestMode, Resize, ResizeMode};

use super::*;

fn resize(op: &Resize, shape: &[usize], target: Result<&[f32], &[i64]>) {
    let mut rng = ChaCha8Rng::seed_from_u64(40);
    let mut graph = Graph::new("resize");
    let x = graph.add_input("x", Type::tensor(DType::F32, shape.iter().copied()));
    let operands = match target {
        Ok(scales) => {
            let scales = graph.add_tensor("scales", Tensor::f32([scales.len()], scales));
            vec![Some(x.into()), None, Some(scales.into())]
        }
        Err(sizes) => {
            let sizes = graph.add_tensor("sizes", Tensor::i64([sizes.len()], sizes));
            vec![Some(x.into()), None, None, Some(sizes.into())]
        }
    };
    let y = graph.add("y", op.clone(), &operands).expect("the target fits");
    graph.add_result("y", y.into());
    agree(&format!("{op:?} of {shape:?} by {target:?}"), &graph, &[random(&mut rng, shape)]);
}

#[test]
fn resizes() {
    use CoordinateMode::{AlignCorners, Asymmetric, HalfPixel, PytorchHalfPixel};
    for coordinates in [HalfPixel, AlignCorners, Asymmetric, PytorchHalfPixel] {
        for mode in [ResizeMode::Nearest, ResizeMode::Linear, ResizeMode::Cubic] {
            for nearest in [NearestMode::Floor, NearestMode::RoundPreferFloor] {
                let op = Resize { mode, coordinates, nearest, ..Resize::default() };
                for shape in [[1, 1, 1, 1], [2, 3, 5, 4], [1, 17, 3, 7], [1, 16, 13, 2]] {
                    resize(&op, &shape, Ok(&[1.0, 1.0, 2.0, 2.0]));
                    resize(&op, &shape, Ok(&[1.0, 1.0, 3.0, 1.0]));
                    resize(&op, &shape, Ok(&[1.0, 1.0, 1.7, 2.3]));
                    resize(&op, &shape, Err(&[shape[0] as i64, shape[1] as i64, 2, 9]));
                }
            }
        }
    }
    let linear = Resize { mode: ResizeMode::Linear, ..Resize::default() };
    resize(&linear, &[2, 3, 9], Ok(&[1.0, 1.0, 2.5]));
    resize(&Resize { axes: Some(vec![-1]), ..linear.clone() }, &[2, 3, 4, 9], Ok(&[1.5]));
    resize(&Resize { axes: Some(vec![3, 2]), antialias: true, ..linear }, &[1, 2, 8, 9], Err(&[4, 3]));
    resize(&Resize::default(), &[1, 4, 8, 8], Ok(&[1.0, 1.0, 0.5, 0.5]));
}
