use super::*;
use crate::jit::testing::{all_vectors, run};
use crate::tile::testing::{buffer_of_bytes, bytes, check_bytes, code};
use crate::tile::{LANES, VECTOR_BYTES};

fn strides(blocks: usize, rows: usize, columns: usize, pixel: usize) -> Strides {
    let row = signed(columns * pixel);
    let block = row * signed(rows);
    Strides { image: block * signed(blocks), group: 0, block, row, column: signed(pixel) }
}

fn recode(formats: [Format; 2], steps: Vec<(Function, Other)>, operand: bool) -> Recode {
    let (blocks, rows, columns) = (2, 3, 13);
    let strides =
        |format: Format| strides(blocks, rows, columns, if format == Format::F32 { VECTOR_BYTES } else { LANES });
    Recode {
        images: 2,
        blocks,
        rows,
        columns,
        formats,
        x: strides(formats[0]),
        y: strides(formats[1]),
        steps,
        operand: operand.then(|| strides(Format::Codes(0))),
    }
}

const ELEMENTS: usize = 2 * 2 * 3 * 13 * LANES;

#[test]
fn sums_of_codes_are_codes() {
    let (x, other) = (bytes(ELEMENTS, 1), bytes(ELEMENTS, 2));
    let steps = vec![(Function::Scale(0.75, -30.5), Other::None), (Function::AddScaled(0.5), Other::Codes(0))];
    let recode = recode([Format::Codes(0), Format::Codes(9)], steps, true);
    let sum = |(&x, &o): (&u8, &u8)| code(f32::from(o).mul_add(0.5, f32::from(x).mul_add(0.75, -30.5)), 9);
    let expected: Vec<u8> = x.iter().zip(&other).map(sum).collect();
    for vectors in all_vectors() {
        let inputs = [buffer_of_bytes(&x), buffer_of_bytes(&other)];
        check_bytes(&recode, (vectors, &recode.schedule(vectors)), &inputs, 1, &expected);
    }
}

#[test]
fn numbers_become_codes_and_codes_numbers() {
    let mut x: Vec<f32> = (0..ELEMENTS).map(|i| (i % 777) as f32 * 0.5 - 150.0).collect();
    x[..4].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e20]);
    let to_codes = recode([Format::F32, Format::Codes(100)], vec![(Function::Div, Other::Number(0.5))], false);
    let expected: Vec<u8> = x.iter().map(|&x| if x.is_nan() { 100 } else { code(x / 0.5, 100) }).collect();
    let to_numbers = recode([Format::Codes(100), Format::F32], vec![(Function::Scale(0.5, -50.0), Other::None)], false);
    for vectors in all_vectors() {
        check_bytes(&to_codes, (vectors, &to_codes.schedule(vectors)), &[x.clone()], 1, &expected);
        let mut buffers = vec![buffer_of_bytes(&expected), vec![0.0; ELEMENTS]];
        run(vectors, &to_numbers.schedule(vectors), &mut buffers);
        let same = |(&y, &code): (&f32, &u8)| y == f32::from(code) * 0.5 - 50.0;
        assert!(buffers[1].iter().zip(&expected).all(same), "{vectors}");
    }
}
