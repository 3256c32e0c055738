use super::*;
use crate::tile::epilogue::Other;
use crate::tile::function::Function;
use crate::tile::testing::{buffer_of_bytes, buffer_of_ints, bytes, check_bytes, code};

/// A product of codes: rows in whole quads, results in rows of whole blocks. The epilogue adds codes to what has
/// been rounded itself, as where a convolution is quantized before a sum.
fn product(rows: usize, quads: usize, outputs: usize, zero: u8, extreme: bool) {
    let depth = quads * 4;
    let fill = |len, seed, worst: u8| if extreme { vec![worst; len] } else { bytes(len, seed) };
    let x = fill(rows * depth, 1, 255);
    let weights: Vec<i8> = fill(outputs * depth, 2, 128).into_iter().map(u8::cast_signed).collect();
    let blocks = outputs.div_ceil(LANES);
    let width = blocks * LANES;
    let bias: Vec<i32> = (0..width).map(|o| o as i32 * 1000 - 20_000).collect();
    let scales: Vec<f32> = (0..width).map(|o| (o + 1) as f32 / 65_536.0).collect();
    let other = bytes(rows * width, 3);
    let strides = Strides { column: signed(width), block: signed(LANES), ..Strides::default() };
    let of_channel = Strides { block: 64, ..Strides::default() };
    let epilogue = Epilogue {
        bias: true,
        steps: vec![
            (Function::Mul, Other::Vector(0)),
            (Function::Round, Other::None),
            (Function::Clip(-128.0, 127.0), Other::None),
            (Function::Scale(0.5, 0.25), Other::None),
            (Function::AddScaled(0.125), Other::Codes(1)),
        ],
        operands: vec![of_channel, strides],
        integers: true,
        codes: Some(zero),
    };
    let contract = |vectors| Contract {
        images: 1,
        groups: 1,
        outputs,
        rows: 1,
        columns: rows,
        runs: vec![Run { start: 0, loops: vec![], taps: (0..quads).map(|k| signed(k * 4)).collect() }],
        x: Strides { column: signed(depth), ..Strides::default() },
        y: strides,
        whole_blocks: true,
        weights: Weights::Quads { summed: depth },
        tiling: Tiling::choose_with(
            &Weights::Quads { summed: depth },
            &Target { vectors, threads: 1 },
            [blocks, 1, rows],
            epilogue.temporaries(),
        ),
        epilogue: epilogue.clone(),
    };
    let mut expected = Vec::new();
    for r in 0..rows {
        for o in 0..width {
            let weight = |k: usize| if o < outputs { i32::from(weights[o * depth + k]) } else { 0 };
            let sum = bias[o] + (0..depth).map(|k| i32::from(x[r * depth + k]) * weight(k)).sum::<i32>();
            let y = (sum as f32 * scales[o]).round_ties_even().clamp(-128.0, 127.0).mul_add(0.5, 0.25);
            expected.push(code(f32::from(other[r * width + o]).mul_add(0.125, y), zero));
        }
    }
    for vectors in crate::jit::testing::vectors_of_codes() {
        let contract = contract(vectors);
        let quad = |_, o: usize, k: usize| std::array::from_fn(|i| weights[o * depth + k * 4 + i]);
        let packed = contract.pack_quads(quad).unwrap().numbers().to_vec();
        let inputs = [buffer_of_bytes(&x), packed, buffer_of_ints(&bias), scales.clone(), buffer_of_bytes(&other)];
        let what = (vectors, rows, quads, outputs, zero);
        check_bytes(&what, (vectors, &contract.schedule(vectors)), &inputs, 2, &expected);
    }
}

#[test]
fn products_of_codes_of_every_tail() {
    for rows in [1, 2, 13, 29] {
        for outputs in [1, 16, 37] {
            for quads in [1, 3] {
                product(rows, quads, outputs, 0, false);
            }
        }
    }
    product(15, 5, 64, 200, false);
}

/// Pairs of products of 255 and −128 leave 16 bits.
#[test]
fn sums_do_not_saturate() {
    product(3, 7, 20, 100, true);
}
