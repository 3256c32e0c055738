use super::*;
use crate::jit::testing::numbers;
use crate::target::{Target, Vectors};
use crate::tile::contract::{Run, Tiling};
use crate::tile::epilogue::{Epilogue, Other, Strides};
use crate::tile::function::Function;
use crate::tile::schedule::Schedule;

/// Weights of blocks that keep one place in three, the second block none, or all the same, or none at all.
#[derive(Clone, Copy, Debug)]
enum Pattern {
    Blocks,
    Same,
    None,
}

impl Pattern {
    fn has(self, block: usize, k: usize) -> bool {
        match self {
            Pattern::Blocks => block != 1 && (k * 7 + block * 5).is_multiple_of(3),
            Pattern::Same => k % 4 == 1,
            Pattern::None => false,
        }
    }
}

/// A product `y = x·wᵀ + bias` of row-major matrices, and what a tile of points sees of x.
fn contract(vectors: Vectors, [rows, depth, outputs]: [usize; 3], epilogue: &Epilogue) -> (Contract, Footprint) {
    let taps = (0..depth).map(|k| signed(k * 4)).collect();
    let contract = Contract {
        images: 1,
        groups: 1,
        outputs,
        rows: 1,
        columns: rows,
        runs: vec![Run { start: 0, loops: vec![], taps }],
        x: Strides { column: signed(depth * 4), ..Strides::default() },
        y: Strides { column: signed(outputs * 4), block: 64, ..Strides::default() },
        whole_blocks: false,
        weights: Weights::Packed,
        epilogue: epilogue.clone(),
        tiling: Tiling::choose(&Target { vectors, threads: 1 }, [outputs.div_ceil(LANES), 1, rows], 2),
    };
    let footprint = Footprint { images: 1, channels: depth, points: [1, rows], window: [(1, 1); 2] };
    (contract, footprint)
}

fn check(shape: [usize; 3], pattern: Pattern, blocks: Option<usize>, epilogue: &Epilogue) {
    let [rows, depth, outputs] = shape;
    let weight = |o: usize, k: usize| if pattern.has(o / LANES, k) { (o * 3 + k) as f32 % 5.0 + 1.0 } else { 0.0 };
    let weights: Vec<f32> = (0..outputs * depth).map(|i| weight(i / depth, i % depth)).collect();
    let nonzeros = weights.iter().filter(|w| **w != 0.0).count();
    let positions = Positions::of_rows([1, outputs, depth], |_, o| (0, &weights[o * depth..][..depth]));
    let places: Vec<usize> = (0..depth).collect();
    let (x, bias, other) =
        (numbers(rows * depth, 1), numbers(outputs.next_multiple_of(LANES), 2), numbers(rows * outputs, 3));
    let listed = |vectors: Vectors| {
        let target = Target { vectors, threads: 1 };
        let (contract, footprint) = contract(vectors, shape, epilogue);
        let mut choice = choose(&positions, &target, &footprint, epilogue.temporaries(), |_| 0.0);
        if let Some(blocks) = blocks {
            choice = Choice { tiling: Tiling { blocks, rows: 1, columns: 1 }, points_first: true, ..choice };
        }
        contract.by_lists(&positions, &places, nonzeros, choice).expect("x is small")
    };
    let run = |vectors: Vectors| -> (Schedule, Vec<Vec<f32>>) {
        let (contract, lists) = listed(vectors);
        assert_eq!(contract.macs(), rows * nonzeros);
        let packed = contract.pack_lists(&lists, |_, o, k| weight(o, k)).unwrap().numbers().to_vec();
        let inputs = [vec![x.clone(), packed], if epilogue.bias { vec![bias.clone(), other.clone()] } else { vec![] }];
        (contract.schedule(vectors), inputs.concat())
    };
    let what = (shape, pattern, blocks);
    let mut known: Option<Vec<f32>> = None;
    for vectors in crate::jit::testing::all_vectors() {
        let (schedule, mut buffers) = run(vectors);
        buffers.insert(2, vec![f32::NAN; rows * outputs]);
        crate::jit::testing::run(vectors, &schedule, &mut buffers);
        for (i, y) in buffers[2].iter().enumerate() {
            let (r, o) = (i / outputs, i % outputs);
            let mut sum: f32 = (0..depth).map(|k| x[r * depth + k] * weight(o, k)).sum();
            if epilogue.bias {
                sum = (sum + bias[o] + other[i]).max(0.0);
            }
            assert_eq!(*y, sum, "{vectors}, {what:?}: row {r}, output {o}");
        }
        let y = buffers.swap_remove(2);
        assert!(known.is_none_or(|known| known == y), "{vectors}, {what:?}: other bits");
        known = Some(y);
    }
}

#[test]
fn products_of_every_tail() {
    let epilogue = |outputs: usize| Epilogue {
        bias: true,
        steps: vec![(Function::Add, Other::Vector(0)), (Function::Relu, Other::None)],
        operands: vec![Strides { column: signed(outputs * 4), block: 64, ..Strides::default() }],
        ..Epilogue::default()
    };
    for rows in [1, 2, 3, 4, 15, 31] {
        for outputs in [1, 16, 37, 80] {
            for depth in [1, 17, 70] {
                for pattern in [Pattern::Blocks, Pattern::Same, Pattern::None] {
                    check([rows, depth, outputs], pattern, None, &Epilogue::default());
                }
                check([rows, depth, outputs], Pattern::Blocks, None, &epilogue(outputs));
            }
        }
    }
}

/// Blocks that share a list though theirs differ multiply zeros.
#[test]
fn blocks_share_lists() {
    for blocks in [1, 2, 3] {
        for rows in [4, 5] {
            check([rows, 33, 70], Pattern::Blocks, Some(blocks), &Epilogue::default());
        }
    }
}

/// Neighbours of equal lists have one between them.
#[test]
fn equal_lists_are_stored_once() {
    let stored = |pattern: Pattern| {
        let (outputs, depth) = (64, 400);
        let weights: Vec<f32> =
            (0..outputs * depth).map(|i| f32::from(pattern.has(i / depth / LANES, i % depth))).collect();
        let positions = Positions::of_rows([1, outputs, depth], |_, o| (0, &weights[o * depth..][..depth]));
        let (contract, footprint) = contract(Vectors::Avx512, [20, depth, outputs], &Epilogue::default());
        let target = Target { vectors: Vectors::Avx512, threads: 1 };
        let mut choice = choose(&positions, &target, &footprint, 0, |_| 0.0);
        choice.tiling.blocks = 1;
        let places: Vec<usize> = (0..depth).collect();
        let (contract, _) = contract.by_lists(&positions, &places, 0, choice).unwrap();
        let Weights::Listed(listed) = contract.weights else { panic!("the contraction is one by lists") };
        listed.words - positions.listed(1) * LANES
    };
    assert_eq!(stored(Pattern::Same), 16 + 100 + 12, "a table of four, a list, up to a whole vector");
    assert!(stored(Pattern::Blocks) > 16 + 3 * 133);
}
