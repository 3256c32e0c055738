use super::*;
use crate::jit::testing::{numbers, run};

/// One block of channels in and out, one image with a border of 1 and what the last patches reach into.
#[test]
fn tiles_are_sums_over_windows() {
    let vectors = Vectors::of_host();
    if vectors.registers() < REGISTERS {
        return;
    }
    for (rows, columns) in [(4usize, 4usize), (1, 1), (5, 8), (7, 3), (9, 14)] {
        let grid = Grid { rows: rows.div_ceil(TILE), columns: columns.div_ceil(TILE) };
        let (height, width) = (grid.rows * TILE + 2, grid.columns * TILE + 2);
        let steps = |width: usize| Strides {
            row: signed(width * VECTOR_BYTES),
            column: signed(VECTOR_BYTES),
            ..Strides::default()
        };
        let x = numbers(height * width * LANES, 1);
        let g = numbers(9, 2);
        let to = Transformed { blocks: 1, tiles: grid.rows * grid.columns };
        let patches = Patches { images: 1, grid, x: steps(width), to };
        let mut buffers = vec![x.clone(), vec![0.0; to.bytes() / 4]];
        run(vectors, &patches.schedule(vectors), &mut buffers);
        // Each channel by itself: the products are those of the filter with its own patch.
        let u = filters(&std::array::from_fn(|k| [g[k]; LANES]));
        let mut sums = buffers.swap_remove(1);
        let place = to.place() as usize / 4;
        for (p, u) in u.iter().enumerate() {
            sums[p * place..][..to.tiles * LANES].iter_mut().for_each(|v| *v *= u[0]);
        }
        let epilogue = Epilogue { bias: true, ..Epilogue::default() };
        let tiles = Tiles { images: 1, rows, columns, grid, from: to, y: steps(columns), epilogue };
        let bias = numbers(LANES, 3);
        let mut buffers = vec![sums.clone(), sums, vec![f32::NAN; rows * columns * LANES], bias.clone()];
        run(vectors, &tiles.schedule(vectors), &mut buffers);
        for r in 0..rows {
            for c in 0..columns {
                for lane in 0..LANES {
                    let tap = |i: usize, j: usize| x[((r + i) * width + c + j) * LANES + lane] * g[i * 3 + j];
                    let sum: f32 = (0..9).map(|k| tap(k / 3, k % 3)).sum::<f32>() + bias[lane];
                    let y = buffers[2][(r * columns + c) * LANES + lane];
                    assert!((y - sum).abs() < 1e-3, "{rows}×{columns} at {r}, {c}: {y} instead of {sum}");
                }
            }
        }
    }
}
