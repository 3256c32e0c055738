use super::*;
use crate::jit::testing::vectors_of_codes;
use crate::tile::epilogue::Other;
use crate::tile::function::Function;
use crate::tile::testing::{buffer_of_bytes, buffer_of_ints, bytes, check_bytes, code};

/// Compares with the definition, on every target: the kernel, the stride, the dilation of rows, and the result.
fn check(kernel: [usize; 2], stride: usize, dilation: usize, output: [usize; 2], channels: usize) {
    let blocks = channels.div_ceil(LANES);
    let height = (output[0] - 1) * stride + (kernel[0] - 1) * dilation + 1;
    let width = (output[1] - 1) * stride + kernel[1];
    let images = 2;
    let x = bytes(images * blocks * height * width * LANES, 5);
    let weights: Vec<i8> = bytes(channels * kernel[0] * kernel[1], 6).into_iter().map(u8::cast_signed).collect();
    let bias: Vec<i32> = (0..blocks * LANES).map(|c| c as i32 * 500).collect();
    let scales: Vec<f32> = (0..blocks * LANES).map(|c| 1.0 / (c + 100) as f32).collect();
    let row = signed(width * LANES);
    let plane = |rows: usize, columns: usize| signed(rows * columns * LANES);
    let depthwise = DepthwiseCodes {
        images,
        blocks,
        rows: output[0],
        columns: output[1],
        kernel,
        tap: row * signed(dilation),
        x: Strides {
            image: plane(height, width) * signed(blocks),
            group: 0,
            block: plane(height, width),
            row: row * signed(stride),
            column: signed(LANES * stride),
        },
        y: Strides {
            image: plane(output[0], output[1]) * signed(blocks),
            group: 0,
            block: plane(output[0], output[1]),
            row: signed(output[1] * LANES),
            column: signed(LANES),
        },
        epilogue: Epilogue {
            bias: true,
            steps: vec![(Function::Mul, Other::Vector(0))],
            operands: vec![Strides { block: 64, ..Strides::default() }],
            integers: true,
            codes: Some(7),
        },
    };
    let weight = |channel: usize, i: usize, j: usize| weights[(channel * kernel[0] + i) * kernel[1] + j];
    let mut expected = Vec::new();
    for plane in 0..images * blocks {
        for (r, c, lane) in indices(output[0], output[1], LANES) {
            let channel = plane % blocks * LANES + lane;
            let mut sum = bias[channel];
            for (i, j, _) in indices(kernel[0], kernel[1], 1).filter(|_| channel < channels) {
                let pixel = (plane * height + r * stride + i * dilation) * width + c * stride + j;
                sum += i32::from(x[pixel * LANES + lane]) * i32::from(weight(channel, i, j));
            }
            expected.push(code(sum as f32 * scales[channel], 7));
        }
    }
    let packed = depthwise.pack(weight, channels).unwrap().numbers().to_vec();
    let inputs = [buffer_of_bytes(&x), packed, buffer_of_ints(&bias), scales];
    for vectors in vectors_of_codes() {
        check_bytes(&depthwise, (vectors, &depthwise.schedule(vectors)), &inputs, 2, &expected);
    }
}

#[test]
fn windows_of_every_shape() {
    for (kernel, stride, dilation, output) in [
        ([3, 3], 1, 1, [1, 1]),
        ([3, 3], 1, 1, [7, 13]),
        ([3, 3], 2, 1, [5, 9]),
        ([3, 3], 1, 2, [4, 6]),
        ([5, 5], 1, 1, [5, 7]),
        ([1, 4], 1, 1, [3, 5]),
        ([7, 7], 1, 1, [2, 3]),
    ] {
        check(kernel, stride, dilation, output, 20);
    }
}
