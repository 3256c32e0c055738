//! What a kernel does: everything that is baked into its code, its name, and what it costs.

use std::fmt;

use crate::target::Vectors;
use crate::tile::batch_norm::{Moments, Products, Slopes, Statistics};
use crate::tile::contract::{Contract, Listed, Picked, Weights};
use crate::tile::copy::Copy;
use crate::tile::depthwise::Depthwise;
use crate::tile::depthwise_codes::DepthwiseCodes;
use crate::tile::dynamic::{Begins, DynamicCodes, DynamicGrid, Extremes};
use crate::tile::fill::Fill;
use crate::tile::global_pool::GlobalPool;
use crate::tile::lane_sums::LaneSums;
use crate::tile::map::Map;
use crate::tile::pixels::Pixels;
use crate::tile::pool::{Kind as PoolKind, Pool};
use crate::tile::pool_grad::PoolGrad;
use crate::tile::recode::{Format, Recode};
use crate::tile::recurrent::Recurrent;
use crate::tile::regroup::Regroup;
use crate::tile::resample::Resample;
use crate::tile::rows::Rows;
use crate::tile::sign_bits::SignBits;
use crate::tile::split::Split;
use crate::tile::spmm::{Planes, Spmm};
use crate::tile::spmm_unrolled::Unrolled;
use crate::tile::spmv::{Spmv, WINDOW};
use crate::tile::transpose::Transpose;
use crate::tile::weight_grad::WeightGrad;
use crate::tile::winograd::{Patches, Tiles};
use crate::tile::winograd_filters::Filters;
use crate::tile::{LANES, Schedule};

macro_rules! works {
    ($($(#[$doc:meta])* $family:ident),*) => {
        /// The work of one kernel. Equal works share code.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) enum Work {
            $($(#[$doc])* $family($family),)*
        }

        $(impl From<$family> for Work {
            fn from(work: $family) -> Work {
                Work::$family(work)
            }
        })*

        impl Work {
            /// How the kernel walks its buffers.
            pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
                match self {
                    $(Work::$family(work) => work.schedule(vectors),)*
                }
            }
        }
    };
}

works! {
    /// A convolution or matrix product.
    Contract,
    /// A depthwise convolution.
    Depthwise,
    /// A depthwise convolution of codes.
    DepthwiseCodes,
    /// Codes made of numbers or codes, or numbers of codes.
    Recode,
    /// Images of few channels made codes.
    Pixels,
    /// Quads of codes moved between blocks and planes.
    Regroup,
    /// The least and the largest of numbers, for a grid that follows from them.
    Extremes,
    /// The grid that follows.
    DynamicGrid,
    /// Numbers made codes of it.
    DynamicCodes,
    /// What sums over such codes begin with.
    Begins,
    /// A sparse convolution over planes.
    Spmm,
    /// A sparse convolution over planes, the pattern of its weights in its code.
    Unrolled,
    /// A sparse matrix times few rows.
    Spmv,
    /// The transformation of the patches of a convolution.
    Patches,
    /// The transformation of sums to the tiles of a convolution.
    Tiles,
    /// The transformation of the filters of a convolution.
    Filters,
    /// A pool.
    Pool,
    /// A pool over whole planes.
    GlobalPool,
    /// A chain of elementwise functions.
    Map,
    /// A function of rows.
    Rows,
    /// A recurrent layer.
    Recurrent,
    /// Images resampled along an axis.
    Resample,
    /// A copy between strides.
    Copy,
    /// Signs packed as bits.
    SignBits,
    /// Images split by columns.
    Split,
    /// A transposition, also to and from blocks of channels.
    Transpose,
    /// A region set to one number.
    Fill,
    /// The gradient of a layer's weights.
    WeightGrad,
    /// Sums along all axes but that of lanes.
    LaneSums,
    /// The gradient of a maximum over windows.
    PoolGrad,
    /// The moments of planes, for batch normalisation.
    Moments,
    /// The statistics of a batch.
    Statistics,
    /// Sums over planes, for the gradient of batch normalisation.
    Products,
    /// What the gradient of batch normalisation makes of them.
    Slopes
}

impl Work {
    /// Multiplications of a layer; none for what only moves or maps numbers.
    pub(crate) fn macs(&self) -> usize {
        match self {
            Work::Contract(c) => c.macs(),
            Work::Depthwise(d) => d.images * d.blocks * LANES * d.rows * d.columns * d.kernel[0] * d.kernel[1],
            Work::DepthwiseCodes(d) => d.images * d.blocks * LANES * d.rows * d.columns * d.kernel[0] * d.kernel[1],
            Work::Spmm(s) => s.macs(),
            Work::Unrolled(u) => u.macs(),
            Work::Spmv(s) => s.macs(),
            Work::Recurrent(r) => r.macs(),
            Work::WeightGrad(g) => g.macs(),
            _ => 0,
        }
    }

    /// Elements written, about: for deciding whether splitting pays.
    fn elements(&self) -> usize {
        match self {
            Work::Contract(c) => c.images * c.groups * c.outputs * c.rows * c.columns,
            Work::Depthwise(d) => d.images * d.blocks * LANES * d.rows * d.columns,
            Work::DepthwiseCodes(d) => d.images * d.blocks * LANES * d.rows * d.columns,
            Work::Recode(r) => r.images * r.blocks * LANES * r.rows * r.columns * (r.steps.len() + 1),
            Work::Pixels(p) => p.images * p.channels * p.rows * p.columns * 4,
            Work::Regroup(r) => r.elements(),
            Work::Extremes(e) => e.elements,
            Work::DynamicGrid(_) => LANES,
            Work::DynamicCodes(c) => c.elements() * 2,
            Work::Begins(b) => b.blocks * LANES,
            Work::Spmm(Spmm { planes, .. }) | Work::Unrolled(Unrolled { planes, .. }) => {
                planes.images * planes.rows * planes.vectors * LANES
            }
            // Lanes without a weight take their time too.
            Work::Spmv(s) => s.row_count() * s.slots() * LANES,
            Work::Pool(p) => {
                let [rows, columns] = &p.window;
                p.images * p.blocks * LANES * rows.out * columns.out * rows.kernel * columns.kernel
            }
            Work::GlobalPool(p) => p.images * p.blocks * LANES * p.rows * p.columns,
            Work::Resample(r) => r.vectors() * LANES,
            Work::Map(m) => m.elements() * m.steps.len(),
            Work::Rows(r) => r.elements() * 4,
            // Each is what several gates make of their sums.
            Work::Recurrent(r) => r.elements() * 4 * r.cell.gates(),
            Work::Copy(c) => c.elements(),
            Work::Transpose(t) => t.elements(),
            Work::Split(s) => s.elements(),
            Work::SignBits(s) => s.elements(),
            Work::Fill(f) => f.elements(),
            Work::Patches(p) => p.to.bytes(),
            Work::Tiles(t) => t.from.bytes(),
            // Each vector takes part in several sums.
            Work::Filters(f) => f.vectors() * LANES * 8,
            Work::WeightGrad(g) => g.slices * g.slice_bytes() / 4,
            Work::LaneSums(s) => s.elements(),
            Work::PoolGrad(p) => {
                let [rows, columns] = &p.window;
                p.images * p.blocks * LANES * rows.out * columns.out * rows.kernel * columns.kernel * 2
            }
            Work::Moments(m) => m.planes.elements() * 2,
            Work::Products(p) => p.planes.elements() * 2,
            Work::Statistics(s) => s.planes.kept_bytes(),
            Work::Slopes(s) => s.planes.kept_bytes(),
        }
    }

    /// Cycles of one thread, roughly.
    pub(crate) fn cycles(&self) -> usize {
        self.macs() / (2 * LANES) + self.elements() / LANES * 2
    }

    /// What stands behind the kernel in a plan: the extents of its loops.
    pub(crate) fn shape(&self) -> String {
        match self {
            Work::Contract(c) => {
                let outer = c.images * c.groups;
                let (points, outputs, depth) = (c.rows * c.columns, c.outputs, c.terms());
                if let Weights::Listed(Listed { nonzeros, .. }) | Weights::Picked(Picked { nonzeros, .. }) = c.weights {
                    return format!("{}×{}, {nonzeros} weights", c.images * points, c.groups * outputs);
                }
                if outer == 1 {
                    format!("{points}×{outputs}×{depth}")
                } else {
                    format!("{outer}×{points}×{outputs}×{depth}")
                }
            }
            Work::Depthwise(d) => {
                format!("{}×{}×{}×{}", d.images * d.blocks * LANES, d.rows, d.columns, d.kernel[0] * d.kernel[1])
            }
            Work::DepthwiseCodes(d) => {
                format!("{}×{}×{}×{}", d.images * d.blocks * LANES, d.rows, d.columns, d.kernel[0] * d.kernel[1])
            }
            Work::Recode(r) => format!("{}×{}×{}", r.images * r.blocks * LANES, r.rows, r.columns),
            Work::Pixels(p) => format!("{}×{}×{}", p.images * p.channels, p.rows, p.columns),
            Work::Regroup(r) => format!("{}×{}×{}", r.images * r.quads, r.rows, r.columns),
            Work::Spmm(s) => sparse(&s.planes, s.nonzeros),
            Work::Unrolled(u) => sparse(&u.planes, u.pattern.nonzeros()),
            Work::Spmv(s) => format!("{}×{}×{}, {} weights", s.row_count(), s.outputs, s.depth, s.nonzeros),
            Work::Pool(p) => format!("{}×{}×{}", p.images * p.blocks * LANES, p.window[0].out, p.window[1].out),
            Work::GlobalPool(p) => format!("{}×{}×{}", p.images * p.blocks * LANES, p.rows, p.columns),
            Work::Map(m) => m.elements().to_string(),
            Work::Rows(r) => r.elements().to_string(),
            Work::Recurrent(r) => r.elements().to_string(),
            Work::Resample(r) => (r.vectors() * LANES).to_string(),
            Work::WeightGrad(g) => {
                let outer = g.images * g.blocks * LANES;
                format!("{}×{outer}×{}", g.rows * g.columns, g.depth())
            }
            Work::Moments(Moments { planes, .. })
            | Work::Products(Products { planes, .. })
            | Work::Statistics(Statistics { planes, .. })
            | Work::Slopes(Slopes { planes }) => planes.elements().to_string(),
            Work::PoolGrad(p) => format!("{}×{}×{}", p.images * p.blocks * LANES, p.window[0].out, p.window[1].out),
            Work::LaneSums(_) => self.elements().to_string(),
            Work::DynamicCodes(c) => c.elements().to_string(),
            Work::Extremes(_) | Work::DynamicGrid(_) | Work::Begins(_) => self.elements().to_string(),
            Work::Copy(_)
            | Work::Split(_)
            | Work::SignBits(_)
            | Work::Transpose(_)
            | Work::Fill(_)
            | Work::Patches(_)
            | Work::Tiles(_)
            | Work::Filters(_) => self.elements().to_string(),
        }
    }
}

/// What planes hold.
fn element(planes: &Planes) -> &'static str {
    if planes.codes.is_some() { "i8" } else { "f32" }
}

/// Points, rows, and weights that are not zero.
fn sparse(planes: &Planes, nonzeros: usize) -> String {
    format!("{}×{}, {nonzeros} weights", planes.images * planes.pixels, planes.rows)
}

/// The kernel's name, after XNNPACK: `{type}_{operator}_{tile}`.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Contract(c) => {
                let tiling = c.tiling;
                let weights = match c.weights {
                    Weights::Coded(code) => code.word(),
                    Weights::Signs(_) => "xnor",
                    Weights::Quads { .. } => "i8",
                    Weights::Packed | Weights::Rows { .. } | Weights::Listed(_) | Weights::Picked(_) => "f32",
                };
                let word = match () {
                    () if matches!(c.weights, Weights::Listed(_)) => "listed",
                    () if matches!(c.weights, Weights::Picked(_)) => "picked",
                    () if c.runs.iter().any(|run| run.loops.len() > 1) => "conv",
                    () if !matches!(weights, "f32" | "i8") && c.rows * c.columns == 1 => "gemv",
                    () => "gemm",
                };
                write!(f, "{weights}_{word}_{}x{}", tiling.blocks * LANES, tiling.rows * tiling.columns)
            }
            Work::Depthwise(_) => f.write_str("f32_dwconv"),
            Work::DepthwiseCodes(_) => f.write_str("i8_dwconv"),
            Work::Recode(r) => f.write_str(match r.formats {
                [Format::F32, _] => "i8_quantize",
                [_, Format::F32] => "i8_dequantize",
                _ if r.operand.is_some() => "i8_add",
                _ => "i8_requantize",
            }),
            Work::Pixels(_) => f.write_str("i8_quantize_pixels"),
            Work::Extremes(_) => f.write_str("f32_extremes"),
            Work::DynamicGrid(_) => f.write_str("f32_dynamic_grid"),
            Work::DynamicCodes(_) => f.write_str("i8_dynamic_quantize"),
            Work::Begins(_) => f.write_str("i32_begins"),
            Work::Regroup(r) => f.write_str(if r.to_planes { "i8_to_planes" } else { "i8_to_blocks" }),
            Work::Spmm(s) => write!(f, "{}_spmm_{}", element(&s.planes), s.chunk * LANES),
            Work::Unrolled(u) => {
                write!(f, "{}_spmm_jit_{}x{LANES}", element(&u.planes), u.group.min(u.planes.rows))
            }
            Work::Spmv(s) => write!(f, "{}_spmv_{LANES}x{WINDOW}", s.form.word()),
            Work::Pool(p) => f.write_str(match (p.kind, p.codes) {
                (PoolKind::Max, None) => "f32_max_pool",
                (PoolKind::Average { .. }, None) => "f32_average_pool",
                (PoolKind::Max, Some(_)) => "i8_max_pool",
                (PoolKind::Average { .. }, Some(_)) => "i8_average_pool",
            }),
            Work::GlobalPool(p) => f.write_str(if p.codes.is_some() { "i8_global_pool" } else { "f32_global_pool" }),
            Work::Map(m) => {
                f.write_str("f32")?;
                m.steps.iter().try_for_each(|(function, _)| write!(f, "_{}", function.word()))
            }
            Work::Resample(_) => f.write_str("f32_resample"),
            Work::Recurrent(r) => write!(f, "f32_{}", r.cell.word()),
            Work::Rows(r) => write!(f, "f32_{}", r.function.word()),
            Work::Copy(_) => f.write_str("f32_copy"),
            Work::Split(_) => f.write_str("f32_split"),
            Work::SignBits(_) => f.write_str("f32_sign_bits"),
            Work::Transpose(_) => f.write_str("f32_transpose"),
            Work::Fill(_) => f.write_str("f32_fill"),
            Work::Patches(_) => f.write_str("f32_winograd_patches_4x4"),
            Work::Tiles(_) => f.write_str("f32_winograd_tiles_4x4"),
            Work::Filters(_) => f.write_str("f32_winograd_filters_4x4"),
            Work::WeightGrad(g) if g.lanewise => f.write_str("f32_dwconv_weight_grad"),
            Work::WeightGrad(g) => {
                let widest = g.runs.iter().map(|run| run.taps.len()).max().unwrap_or(0);
                write!(f, "f32_weight_grad_{LANES}x{widest}")
            }
            Work::LaneSums(_) => f.write_str("f32_lane_sums"),
            Work::PoolGrad(_) => f.write_str("f32_max_pool_grad"),
            Work::Moments(_) => f.write_str("f32_batch_moments"),
            Work::Statistics(_) => f.write_str("f32_batch_statistics"),
            Work::Products(_) => f.write_str("f32_batch_products"),
            Work::Slopes(_) => f.write_str("f32_batch_slopes"),
        }
    }
}
