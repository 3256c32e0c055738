use super::*;
use crate::jit::testing::{all_vectors, numbers, run};
use crate::target::Target;
use crate::tile::contract::{Run, Tiling, Weights};
use crate::tile::epilogue::{Epilogue, Strides};

/// A product `y = x·wᵀ + bias` of row-major matrices, outputs having `kept` weights in every `of`.
fn check([rows, depth, outputs]: [usize; 3], kept: usize, of: usize) {
    let has = |o: usize, k: usize| (k % of + o * 3 + k / of) % of < kept;
    let weight = |o: usize, k: usize| if has(o, k) { (o * 3 + k) as f32 % 5.0 + 1.0 } else { 0.0 };
    let (x, bias) = (numbers(rows * depth, 1), numbers(outputs.next_multiple_of(LANES), 2));
    let count = |o: usize, first: usize| (first..depth.min(first + WINDOW)).filter(|&k| has(o, k)).count();
    let windows = (0..outputs).flat_map(|o| (0..depth).step_by(WINDOW).map(move |first| count(o, first)));
    let picked = Picked { nonzeros: 0, slots: slots(windows, WINDOW).unwrap() };
    let mut known: Option<Vec<f32>> = None;
    for vectors in all_vectors() {
        let weights = Weights::Picked(picked);
        let mut runs = Vec::new();
        let taps = |n: usize| (0..n).map(|k| signed(k * 4)).collect::<Vec<i64>>();
        let (whole, rest) = (depth / WINDOW, depth % WINDOW);
        if whole > 0 {
            runs.push(Run { start: 0, loops: vec![(whole, 64)], taps: taps(WINDOW) });
        }
        if rest > 0 {
            runs.push(Run { start: signed(whole * 64), loops: vec![], taps: taps(rest) });
        }
        let contract = Contract {
            images: 1,
            groups: 1,
            outputs,
            rows: 1,
            columns: rows,
            runs,
            x: Strides { column: signed(depth * 4), ..Strides::default() },
            y: Strides { column: signed(outputs * 4), block: 64, ..Strides::default() },
            whole_blocks: false,
            weights,
            epilogue: Epilogue { bias: true, ..Epilogue::default() },
            tiling: Tiling::choose_with(
                &weights,
                &Target { vectors, threads: 1 },
                [outputs.div_ceil(LANES), 1, rows],
                0,
            ),
        };
        let packed = contract.pack_picked(picked, |_, o, k| weight(o, k)).unwrap().numbers().to_vec();
        let mut buffers = vec![x.clone(), packed, vec![f32::NAN; rows * outputs], bias.clone()];
        run(vectors, &contract.schedule(vectors), &mut buffers);
        for (i, y) in buffers[2].iter().enumerate() {
            let (r, o) = (i / outputs, i % outputs);
            let sum: f32 = (0..depth).map(|k| x[r * depth + k] * weight(o, k)).sum::<f32>() + bias[o];
            assert_eq!(*y, sum, "{vectors}, {rows}×{depth}×{outputs}, {kept} of {of}: row {r}, output {o}");
        }
        let y = buffers.swap_remove(2);
        assert!(known.is_none_or(|known| known == y), "{vectors}: other bits");
        known = Some(y);
    }
}

#[test]
fn products_of_every_tail() {
    for rows in [1, 4, 15, 29] {
        for outputs in [1, 16, 37] {
            for depth in [1, 16, 45] {
                for (kept, of) in [(2, 4), (1, 4), (1, 8), (5, 8), (0, 4)] {
                    check([rows, depth, outputs], kept, of);
                }
            }
        }
    }
}

#[test]
fn slots_are_the_most_weights_of_a_window() {
    assert_eq!(slots([2, 0, 3].into_iter(), 3), Some(3));
    assert_eq!(slots([2, 4, 3].into_iter(), 3), None);
}
