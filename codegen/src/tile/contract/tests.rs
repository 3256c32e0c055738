use super::*;
use crate::jit::testing::{all_vectors, numbers, run};
use crate::tile::epilogue::Other;
use crate::tile::function::Function;

/// A product `y = x·wᵀ + bias` of row-major matrices, in every way weights can lie.
fn product(rows: usize, depth: usize, outputs: usize, packed: bool, epilogue: Epilogue) {
    let x = numbers(rows * depth, 1);
    let weights = numbers(depth * outputs, 2);
    let bias = numbers(outputs.next_multiple_of(LANES), 3);
    let other = numbers(rows * outputs, 4);
    let mut results: Vec<Vec<f32>> = Vec::new();
    for vectors in all_vectors() {
        let blocks = outputs.div_ceil(LANES);
        let contract = Contract {
            images: 1,
            groups: 1,
            outputs,
            rows: 1,
            columns: rows,
            runs: vec![
                Run { start: 0, loops: vec![(depth / 4, 16)], taps: vec![0, 4, 8, 12] },
                Run {
                    start: signed(depth / 4 * 16),
                    loops: vec![],
                    taps: (0..depth % 4).map(|k| signed(k * 4)).collect(),
                },
            ],
            x: Strides { column: signed(depth * 4), ..Strides::default() },
            y: Strides { column: signed(outputs * 4), block: 64, ..Strides::default() },
            whole_blocks: false,
            weights: if packed {
                Weights::Packed
            } else {
                Weights::Rows { k: signed(outputs * 4), group: 0, image: 0 }
            },
            epilogue: epilogue.clone(),
            tiling: Tiling::choose(&Target { vectors, threads: 1 }, [blocks, 1, rows], epilogue.temporaries()),
        };
        if packed {
            let at = contract.pack(|_, o, k| (o * depth + k + 1) as f32).unwrap();
            let at = at.numbers();
            let known = |o: usize, k: usize| at[contract.position(0, o, k)] == (o * depth + k + 1) as f32;
            assert!((0..outputs).all(|o| (0..depth).all(|k| known(o, k))), "positions are where weights are packed");
            assert_eq!(at.len(), contract.packed_len());
        }
        let w = if packed {
            contract.pack(|_, o, k| weights[k * outputs + o]).unwrap().numbers().to_vec()
        } else {
            weights.clone()
        };
        let mut buffers = vec![x.clone(), w, vec![f32::NAN; rows * outputs]];
        if epilogue.bias {
            buffers.push(bias.clone());
        }
        if !epilogue.operands.is_empty() {
            buffers.push(other.clone());
        }
        run(vectors, &contract.schedule(vectors), &mut buffers);
        for r in 0..rows {
            for o in 0..outputs {
                let mut sum = if epilogue.bias { bias[o] } else { 0.0 };
                sum += (0..depth).map(|k| x[r * depth + k] * weights[k * outputs + o]).sum::<f32>();
                if !epilogue.operands.is_empty() {
                    sum = (sum + other[r * outputs + o]).max(0.0);
                }
                assert_eq!(
                    buffers[2][r * outputs + o],
                    sum,
                    "{vectors}, {rows}×{depth}×{outputs}, row {r}, output {o}"
                );
            }
        }
        results.push(buffers.swap_remove(2));
    }
}

#[test]
fn products_of_every_tail() {
    for rows in [1, 2, 7, 15, 31] {
        for outputs in [1, 16, 37, 64] {
            for depth in [1, 4, 11] {
                for packed in [false, true] {
                    product(rows, depth, outputs, packed, Epilogue::default());
                }
                let strides = Strides { column: signed(outputs * 4), block: 64, ..Strides::default() };
                let epilogue = Epilogue {
                    bias: true,
                    steps: vec![(Function::Add, Other::Vector(0)), (Function::Relu, Other::None)],
                    operands: vec![strides],
                    ..Epilogue::default()
                };
                product(rows, depth, outputs, true, epilogue);
            }
        }
    }
}
