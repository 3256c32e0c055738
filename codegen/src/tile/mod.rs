//! Kernels as data: tile programs, and the schedules that walk buffers with them.
//!
//! One file a family of kernels; each turns a description with its shapes into a [`Schedule`]. `lower` makes
//! machine code of it.

pub(crate) mod batch_norm;
pub(crate) mod bytes;
pub(crate) mod contract;
pub(crate) mod copy;
pub(crate) mod depthwise;
pub(crate) mod depthwise_codes;
pub(crate) mod dynamic;
pub(crate) mod epilogue;
pub(crate) mod fill;
pub(crate) mod function;
mod function_grad;
pub(crate) mod global_pool;
pub(crate) mod lane_sums;
mod logarithm;
pub(crate) mod map;
pub(crate) mod pixels;
pub(crate) mod pool;
pub(crate) mod pool_grad;
pub(crate) mod program;
mod reach;
pub(crate) mod recode;
pub(crate) mod recurrent;
pub(crate) mod regroup;
pub(crate) mod resample;
pub(crate) mod rows;
pub(crate) mod schedule;
pub(crate) mod sign_bits;
pub(crate) mod split;
pub(crate) mod spmm;
pub(crate) mod spmm_unrolled;
pub(crate) mod spmv;
pub(crate) mod sweep;
#[cfg(test)]
mod testing;
pub(crate) mod transpose;
pub(crate) mod walk;
pub(crate) mod weight_grad;
pub(crate) mod winograd;
pub(crate) mod winograd_filters;

pub(crate) use program::{Bin, Cmp, Inst, LANES, Mem, P, Program, Src, Un, V, VECTOR_BYTES};
pub(crate) use schedule::{Axis, Nest, Part, Schedule, Steps, signed};
