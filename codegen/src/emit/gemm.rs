//! Dense matrix product: register tiles of [`ROWS`] × [`COLUMNS`] accumulators, 15 of 16 registers in use.
//!
//! `C[m, n] = act(bias + Σₖ A[m, k]·B[k, n])`. A is row-major, its elements are broadcast; B is read in panels of
//! [`COLUMNS`] columns, either as it lies in memory or packed panel by panel.

use cranelift_codegen::ir::Value;
use optc_ir::op::Act;

use super::{Emitter, LANES, Tile, math, tiles};

/// Rows of a tile.
pub(crate) const ROWS: usize = 4;

/// Vectors of a tile's columns.
pub(crate) const VECTORS: usize = 3;

/// Columns of a tile, and of a packed panel.
pub(crate) const COLUMNS: usize = VECTORS * LANES;

/// What the bias is added along.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bias {
    /// There is none.
    None,
    /// One element a row of C: a convolution's output channels.
    Row,
    /// One element a column of C: a linear layer's outputs.
    Column,
}

/// What the executor may split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Split {
    /// Batches.
    Batch,
    /// Row blocks of [`ROWS`].
    Rows,
    /// Column panels of [`COLUMNS`].
    Panels,
}

/// A product with everything that is baked into its code. Strides are in elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gemm {
    /// Independent products.
    pub(crate) batch: usize,
    /// Rows of A and C.
    pub(crate) m: usize,
    /// Columns of B and C.
    pub(crate) n: usize,
    /// Columns of A, rows of B.
    pub(crate) k: usize,
    /// From one A to the next.
    pub(crate) a_batch: usize,
    /// From one B to the next.
    pub(crate) b_batch: usize,
    /// From one C to the next.
    pub(crate) c_batch: usize,
    /// From one bias to the next.
    pub(crate) bias_batch: usize,
    /// Whether B is packed panel by panel.
    pub(crate) packed: bool,
    /// What the bias is added along.
    pub(crate) bias: Bias,
    /// Applied last.
    pub(crate) act: Act,
    /// What the outer range counts.
    pub(crate) split: Split,
}

impl Gemm {
    /// Outer iterations.
    pub(crate) fn range(&self) -> usize {
        match self.split {
            Split::Batch => self.batch,
            Split::Rows => self.m.div_ceil(ROWS),
            Split::Panels => self.n.div_ceil(COLUMNS),
        }
    }
}

/// Packs a row-major `[k, n]` matrix panel by panel, the last one padded with zeros.
pub(crate) fn pack(b: &[f32], k: usize, n: usize) -> Vec<f32> {
    let panels = n.div_ceil(COLUMNS);
    let mut packed = vec![0.0; panels * k * COLUMNS];
    for panel in 0..panels {
        let from = panel * COLUMNS;
        let width = COLUMNS.min(n - from);
        for row in 0..k {
            let to = (panel * k + row) * COLUMNS;
            packed[to..to + width].copy_from_slice(&b[row * n + from..row * n + from + width]);
        }
    }
    packed
}

struct Operands {
    a: Value,
    b: Value,
    c: Value,
    bias: Option<Value>,
}

/// Emits the product. Buffers: A, B, C, and the bias if there is one.
pub(crate) fn emit(e: &mut Emitter<'_>, g: &Gemm) {
    let operands =
        Operands { a: e.buffer(0), b: e.buffer(1), c: e.buffer(2), bias: (g.bias != Bias::None).then(|| e.buffer(3)) };
    let (begin, end) = (e.begin, e.end);
    if g.split == Split::Batch {
        e.for_range(begin, end, 1, |e, i| {
            let operands = Operands {
                a: e.offset(operands.a, i, g.a_batch * 4),
                b: e.offset(operands.b, i, g.b_batch * 4),
                c: e.offset(operands.c, i, g.c_batch * 4),
                bias: operands.bias.map(|bias| e.offset(bias, i, g.bias_batch * 4)),
            };
            let (zero, blocks) = (e.int(0), e.int(g.m.div_ceil(ROWS)));
            panels(e, g, &operands, |e, panel, tile| rows(e, g, panel, tile, zero, blocks));
        });
    } else if g.split == Split::Rows {
        panels(e, g, &operands, |e, panel, tile| rows(e, g, panel, tile, begin, end));
    } else {
        let whole = g.n / COLUMNS;
        let (zero, blocks) = (e.int(0), e.int(g.m.div_ceil(ROWS)));
        let limit = e.int(whole);
        let stop = e.umin(end, limit);
        let tile = Tile { vectors: VECTORS, start: 0, count: whole };
        e.for_range(begin, stop, 1, |e, i| {
            let panel = panel_at(e, g, &operands, i, 0);
            rows(e, g, &panel, tile, zero, blocks);
        });
        if !g.n.is_multiple_of(COLUMNS) {
            // The range that ends at the last panel also does the columns that do not fill one.
            let last = e.int(g.n.div_ceil(COLUMNS));
            let from = e.umax(begin, limit);
            let to = e.umin(end, last);
            e.for_range(from, to, 1, |e, i| {
                for tile in tiles(g.n % COLUMNS, VECTORS) {
                    e.for_count(tile.count, 1, |e, j| {
                        let mut panel = panel_at(e, g, &operands, i, tile.start);
                        panel.shift(e, j, tile.width());
                        rows(e, g, &panel, tile, zero, blocks);
                    });
                }
            });
        }
    }
}

/// Where one tile of columns begins.
struct Panel {
    a: Value,
    b: Value,
    c: Value,
    bias: Option<Value>,
    bias_rows: bool,
}

impl Panel {
    /// Moves on by `index` tiles of `width` columns.
    fn shift(&mut self, e: &mut Emitter<'_>, index: Value, width: usize) {
        self.b = e.offset(self.b, index, width * 4);
        self.c = e.offset(self.c, index, width * 4);
        if !self.bias_rows {
            self.bias = self.bias.map(|bias| e.offset(bias, index, width * 4));
        }
    }
}

/// Panel `index`, `start` columns in.
fn panel_at(e: &mut Emitter<'_>, g: &Gemm, operands: &Operands, index: Value, start: usize) -> Panel {
    let stride = if g.packed { g.k * COLUMNS } else { COLUMNS };
    let b = e.offset(operands.b, index, stride * 4);
    let c = e.offset(operands.c, index, COLUMNS * 4);
    let bias_rows = g.bias == Bias::Row;
    let bias = operands.bias.map(|bias| if bias_rows { bias } else { e.offset(bias, index, COLUMNS * 4) });
    Panel {
        a: operands.a,
        b: e.add(b, start * 4),
        c: e.add(c, start * 4),
        bias: bias.map(|bias| if bias_rows { bias } else { e.add(bias, start * 4) }),
        bias_rows,
    }
}

/// Walks all column tiles.
fn panels<'a>(
    e: &mut Emitter<'a>,
    g: &Gemm,
    operands: &Operands,
    mut body: impl FnMut(&mut Emitter<'a>, &Panel, Tile),
) {
    let whole = g.n / COLUMNS;
    e.for_count(whole, 1, |e, i| {
        let panel = panel_at(e, g, operands, i, 0);
        body(e, &panel, Tile { vectors: VECTORS, start: 0, count: whole });
    });
    let index = e.int(whole);
    for tile in tiles(g.n % COLUMNS, VECTORS) {
        e.for_count(tile.count, 1, |e, j| {
            let mut panel = panel_at(e, g, operands, index, tile.start);
            panel.shift(e, j, tile.width());
            body(e, &panel, tile);
        });
    }
}

/// Walks the row blocks `from..to` of one column tile.
fn rows(e: &mut Emitter<'_>, g: &Gemm, panel: &Panel, tile: Tile, from: Value, to: Value) {
    let whole = e.int(g.m / ROWS);
    let stop = e.umin(to, whole);
    if g.m >= ROWS {
        e.for_range(from, stop, 1, |e, i| block(e, g, panel, tile, i, ROWS));
    }
    if !g.m.is_multiple_of(ROWS) {
        let start = e.umax(from, whole);
        e.for_range(start, to, 1, |e, i| block(e, g, panel, tile, i, g.m % ROWS));
    }
}

/// One register tile: `rows` rows of row block `i`.
fn block(e: &mut Emitter<'_>, g: &Gemm, panel: &Panel, tile: Tile, i: Value, rows: usize) {
    let ty = tile.ty();
    let width = tile.registers();
    let a = e.offset(panel.a, i, ROWS * g.k * 4);
    let c = e.offset(panel.c, i, ROWS * g.n * 4);
    let bias = panel.bias.map(|bias| if panel.bias_rows { e.offset(bias, i, ROWS * 4) } else { bias });
    let mut init = Vec::with_capacity(rows * width);
    for row in 0..rows {
        for v in 0..width {
            init.push(match (g.bias, bias) {
                (Bias::Row, Some(bias)) => {
                    let scalar = e.load(cranelift_codegen::ir::types::F32, bias, row * 4);
                    e.broadcast(ty, scalar)
                }
                (Bias::Column, Some(bias)) => e.load(ty, bias, v * tile.stride()),
                _ => e.float(ty, 0.0),
            });
        }
    }
    let b_stride = if g.packed { COLUMNS } else { g.n };
    let (zero, k) = (e.int(0), e.int(g.k));
    let sums = e.fold(zero, k, 1, &init, |e, k, sums| {
        let b = e.offset(panel.b, k, b_stride * 4);
        let a = e.offset(a, k, 4);
        let columns: Vec<Value> = (0..width).map(|v| e.load(ty, b, v * tile.stride())).collect();
        let mut next = Vec::with_capacity(sums.len());
        for row in 0..rows {
            let scalar = e.load(cranelift_codegen::ir::types::F32, a, row * g.k * 4);
            let weight = e.broadcast(ty, scalar);
            for (v, &column) in columns.iter().enumerate() {
                next.push(e.fma(weight, column, sums[row * width + v]));
            }
        }
        next
    });
    for (i, &sum) in sums.iter().enumerate() {
        let y = math::activate(e, ty, g.act, sum);
        e.store(y, c, (i / width) * g.n * 4 + (i % width) * tile.stride());
    }
}
