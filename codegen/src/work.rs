//! What a kernel does: everything that is baked into its code, and its name.

use std::fmt;

use crate::emit::elementwise::{self, Elementwise};
use crate::emit::gemm::{self, Gemm};
use crate::emit::im2col::{self, Window};
use crate::emit::rows::{self, Rows};
use crate::emit::windows::{self, Kind, Windows};
use crate::emit::{Emitter, LANES};

/// The work of one kernel. Equal works share code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    /// A matrix product.
    Gemm(Gemm),
    /// The layout of convolution windows as a matrix, over so many channels.
    Im2col(Window, usize),
    /// Depthwise convolution or pooling, over so many output planes.
    Windows(Windows, usize),
    /// An elementwise function.
    Elementwise(Elementwise),
    /// A function of rows.
    Rows(Rows),
}

impl Work {
    /// Outer iterations, which the executor may split.
    pub(crate) fn range(&self) -> usize {
        match self {
            Work::Gemm(g) => g.range(),
            Work::Im2col(_, channels) => *channels,
            Work::Windows(_, planes) => *planes,
            Work::Elementwise(e) => e.range(),
            Work::Rows(r) => r.count,
        }
    }

    /// Elements computed or moved, for deciding whether splitting pays.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Work::Gemm(g) => g.batch * g.m * g.n * g.k / LANES,
            Work::Im2col(w, channels) => channels * w.kernel[0] * w.kernel[1] * w.output[0] * w.output[1],
            Work::Windows(w, planes) => {
                let w = &w.window;
                planes * w.kernel[0] * w.kernel[1] * w.output[0] * w.output[1]
            }
            Work::Elementwise(e) => e.shape.iter().product(),
            Work::Rows(r) => r.count * r.length,
        }
    }

    /// Emits the kernel.
    pub(crate) fn emit(&self, e: &mut Emitter<'_>) {
        match self {
            Work::Gemm(g) => gemm::emit(e, g),
            Work::Im2col(w, _) => im2col::emit(e, w),
            Work::Windows(w, _) => windows::emit(e, w),
            Work::Elementwise(el) => elementwise::emit(e, el),
            Work::Rows(r) => rows::emit(e, r),
        }
    }
}

/// The kernel's name, after XNNPACK: `{type}_{operator}_{tile}`.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Gemm(_) => write!(f, "f32_gemm_{}x{}", gemm::ROWS, gemm::COLUMNS),
            Work::Im2col(..) => f.write_str("f32_im2col"),
            Work::Windows(w, _) => match w.kind {
                Kind::Depthwise { .. } => write!(f, "f32_dwconv_{LANES}"),
                Kind::Max => write!(f, "f32_max_pool_{LANES}"),
                Kind::Average { .. } => write!(f, "f32_average_pool_{LANES}"),
            },
            Work::Elementwise(e) => write!(f, "f32_{}_{LANES}", e.function.word()),
            Work::Rows(r) => write!(f, "f32_{}_{LANES}", r.function.word()),
        }
    }
}
