//! The operators: one closed enum.
//!
//! Every layer matches on [`Op`] exhaustively, which is the checklist for adding one. Semantics are
//! those of the newest ONNX operator of that name (opset 22) unless its documentation says otherwise;
//! the importer translates older forms. Operands keep ONNX's order, and a missing optional operand is
//! `None`. Every result an operator can have is always there, used or not.

pub mod attr;
pub mod conv;
pub mod einsum;
pub mod elementwise;
mod expect;
pub mod grad;
pub mod infer;
pub mod linear;
pub mod norm;
pub mod pool;
pub mod quant;
pub mod reduce;
pub mod rnn;
pub mod shape;
pub mod structure;
#[cfg(test)]
pub(crate) mod testing;
pub mod window;

use std::sync::Arc;

pub use attr::{Attr, AttrValue, Attrs};
pub use conv::*;
pub use elementwise::*;
pub use grad::*;
pub use infer::{Operand, SymInt};
pub use linear::*;
pub use norm::*;
pub use pool::*;
pub use quant::*;
pub use reduce::*;
pub use rnn::*;
pub use shape::*;
pub use structure::*;

use crate::constant::Constant;

/// The operands an operator takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// Names of the operands, the required ones first.
    pub names: &'static [&'static str],
    /// How many of them must be present.
    pub required: usize,
    /// Whether the last one may be repeated.
    pub variadic: bool,
}

macro_rules! ops {
    ($($variant:ident $name:literal [$($req:ident)* $(? $opt:ident)* $(* $var:ident)?] $summary:literal,)*) => {
        /// An operation.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op {
            /// A graph input. No operands.
            Input(Input),
            /// A constant. No operands.
            Const(Arc<Constant>),
            /// A constant of which only a hash is known, from a textual dump. No operands.
            ConstHash(ConstHash),
            /// The results of the graph: its operands, in signature order.
            Return(Return),
            /// A node of the source format carried verbatim.
            Opaque(Arc<Opaque>),
            /// An elementwise function of one operand without parameters.
            Unary(Unary),
            /// An elementwise function of two operands, broadcast.
            Binary(Binary),
            /// An elementwise function of any number of operands, broadcast.
            Variadic(Variadic),
            /// A reduction over axes.
            Reduce(Reduce),
            $(#[doc = $summary] $variant($variant),)*
        }

        impl Op {
            /// The name in the text form: ONNX's in snake case.
            pub fn name(&self) -> &str {
                match self {
                    Op::Input(_) => "input",
                    Op::Const(_) | Op::ConstHash(_) => "const",
                    Op::Return(_) => "return",
                    Op::Opaque(_) => "opaque",
                    Op::Unary(u) => u.word(),
                    Op::Binary(b) => b.word(),
                    Op::Variadic(v) => v.word(),
                    Op::Reduce(r) => r.kind.word(),
                    $(Op::$variant(_) => $name,)*
                }
            }

            /// The operands it takes.
            pub fn arity(&self) -> Arity {
                match self {
                    Op::Input(_) | Op::Const(_) | Op::ConstHash(_) => Arity { names: &[], required: 0, variadic: false },
                    Op::Return(_) | Op::Opaque(_) => Arity { names: &["x"], required: 0, variadic: true },
                    Op::Unary(_) | Op::Reduce(_) => Arity { names: &["x"], required: 1, variadic: false },
                    Op::Binary(_) => Arity { names: &["a", "b"], required: 2, variadic: false },
                    Op::Variadic(_) => Arity { names: &["x"], required: 1, variadic: true },
                    $(Op::$variant(_) => Arity {
                        names: &[$(stringify!($req),)* $(stringify!($opt),)* $(stringify!($var),)?],
                        required: [$(stringify!($req),)* $(stringify!($var),)?].len(),
                        variadic: [$(stringify!($var),)? ""].len() > 1,
                    },)*
                }
            }

            /// The attributes that differ from their defaults, in order of declaration. Those of
            /// `input`, `const`, `return` and `opaque` have a notation of their own and are not here.
            pub fn fields(&self) -> Vec<(&'static str, AttrValue)> {
                match self {
                    Op::Input(_) | Op::Const(_) | Op::ConstHash(_) | Op::Return(_) | Op::Opaque(_)
                    | Op::Unary(_) | Op::Binary(_) | Op::Variadic(_) => Vec::new(),
                    Op::Reduce(r) => r.attrs.fields(),
                    $(Op::$variant(a) => a.fields(),)*
                }
            }

            /// The operator of this name with these attributes; `Ok(None)` if there is no such name.
            ///
            /// # Errors
            /// A message naming the attribute that is unknown or of the wrong kind.
            pub fn from_fields(name: &str, fields: &[(String, AttrValue)]) -> Result<Option<Op>, String> {
                let bare = |op: Op| match fields.first() {
                    None => Ok(Some(op)),
                    Some((key, _)) => Err(format!("unknown attribute {key}")),
                };
                if let Some(u) = Unary::from_word(name) {
                    return bare(Op::Unary(u));
                }
                if let Some(b) = Binary::from_word(name) {
                    return bare(Op::Binary(b));
                }
                if let Some(v) = Variadic::from_word(name) {
                    return bare(Op::Variadic(v));
                }
                if let Some(kind) = ReduceKind::from_word(name) {
                    return Ok(Some(Op::Reduce(Reduce { kind, attrs: ReduceAttrs::from_fields(fields)? })));
                }
                Ok(Some(match name {
                    $($name => Op::$variant($variant::from_fields(fields)?),)*
                    _ => return Ok(None),
                }))
            }
        }

        $(impl From<$variant> for Op {
            fn from(attrs: $variant) -> Op {
                Op::$variant(attrs)
            }
        })*

        /// Name and one-line summary of every operator with a name of its own, for help texts; the
        /// families [`Unary`], [`Binary`], [`Variadic`] and [`ReduceKind`] list their own.
        pub const OPS: &[(&str, &str)] = &[$(($name, $summary),)*];
    };
}

ops! {
    LeakyRelu "leaky_relu" [x] "x where positive, alpha·x elsewhere",
    Elu "elu" [x] "x where positive, alpha·(exp(x) − 1) elsewhere",
    Celu "celu" [x] "max(0, x) + min(0, alpha·(exp(x/alpha) − 1))",
    Selu "selu" [x] "gamma·x where positive, gamma·alpha·(exp(x) − 1) elsewhere",
    HardSigmoid "hard_sigmoid" [x] "max(0, min(1, alpha·x + beta))",
    ThresholdedRelu "thresholded_relu" [x] "x where above alpha, zero elsewhere",
    Shrink "shrink" [x] "x ± bias beyond ±lambd, zero between",
    Gelu "gelu" [x] "x·Φ(x), Φ the normal distribution",
    IsInf "is_inf" [x] "whether an element is infinite",
    Clip "clip" [x ?min ?max] "limits elements to [min, max]",
    Cast "cast" [x] "converts the element type",
    Where "where" [condition a b] "a where the condition holds, b elsewhere",
    Mod "mod" [a b] "remainder; the sign of b, or of a with fmod",
    BitShift "bit_shift" [a b] "shifts unsigned integers",

    Conv "conv" [x w ?b] "convolution over any number of spatial axes, with optional activation",
    ConvTranspose "conv_transpose" [x w ?b] "transposed convolution",
    MatMul "matmul" [a b] "matrix product, batched as numpy's",
    Gemm "gemm" [a b ?c] "alpha·a·b + beta·c on matrices",
    Linear "linear" [x w ?b] "x·wᵀ + b over the last axis, w stored [out, in], with optional activation",
    Einsum "einsum" [* x] "sum of products by index letters",

    Rnn "rnn" [x w r ?b ?sequence_lens ?initial_h] "simple recurrent layer",
    Gru "gru" [x w r ?b ?sequence_lens ?initial_h] "gated recurrent layer",
    Lstm "lstm" [x w r ?b ?sequence_lens ?initial_h ?initial_c ?p] "long short-term memory layer",

    BatchNorm "batch_norm" [x scale b mean var] "normalisation by stored statistics per channel",
    InstanceNorm "instance_norm" [x scale b] "normalisation per sample and channel",
    LayerNorm "layer_norm" [x scale ?b] "normalisation over the axes from `axis` on",
    GroupNorm "group_norm" [x scale b] "normalisation per sample and group of channels",
    RmsNorm "rms_norm" [x scale] "division by the root mean square over the axes from `axis` on",
    Lrn "lrn" [x] "local response normalisation across channels",
    LpNorm "lp_norm" [x] "division by the p-norm along an axis",
    Softmax "softmax" [x] "exp(x) / Σexp(x) along an axis",
    LogSoftmax "log_softmax" [x] "logarithm of softmax",
    Hardmax "hardmax" [x] "one at the first maximum along an axis, zero elsewhere",

    MaxPool "max_pool" [x] "maximum over windows; results: values, flat indices",
    AveragePool "average_pool" [x] "mean over windows",
    LpPool "lp_pool" [x] "p-norm over windows",
    GlobalAveragePool "global_average_pool" [x] "mean over all spatial axes",
    GlobalMaxPool "global_max_pool" [x] "maximum over all spatial axes",

    ArgMax "arg_max" [x] "index of the maximum along an axis",
    ArgMin "arg_min" [x] "index of the minimum along an axis",
    TopK "top_k" [x k] "the k largest or smallest along an axis; results: values, indices",
    CumSum "cum_sum" [x axis] "running sum along an axis",

    Reshape "reshape" [x shape] "the same elements in another shape",
    Flatten "flatten" [x] "to a matrix, split before `axis`",
    Squeeze "squeeze" [x] "removes axes of extent 1",
    Unsqueeze "unsqueeze" [x] "inserts axes of extent 1",
    Transpose "transpose" [x] "permutes axes",
    Concat "concat" [* x] "joins along an axis",
    Split "split" [x] "cuts along an axis into pieces of the given sizes",
    Slice "slice" [x starts ends ?axes ?steps] "a strided range along axes",
    Pad "pad" [x pads ?value ?axes] "adds or removes elements at the borders",
    Expand "expand" [x shape] "broadcasts to a shape",
    Tile "tile" [x repeats] "repeats along axes",
    Gather "gather" [x indices] "picks slices along an axis",
    GatherElements "gather_elements" [x indices] "picks elements along an axis",
    GatherNd "gather_nd" [x indices] "picks slices by index tuples",
    ScatterElements "scatter_elements" [x indices updates] "replaces or combines elements along an axis",
    ScatterNd "scatter_nd" [x indices updates] "replaces or combines slices by index tuples",
    ShapeOf "shape" [x] "the extents as i64",
    Size "size" [x] "the number of elements as i64",
    ConstantOfShape "constant_of_shape" [shape] "one value, in a shape given at run time",
    Range "range" [start limit delta] "start, start + delta, … below limit",
    OneHot "one_hot" [indices depth values] "off and on values by index",
    NonZero "non_zero" [x] "indices of the nonzero elements",
    Resize "resize" [x ?roi ?scales ?sizes] "interpolates to another size",
    DepthToSpace "depth_to_space" [x] "channels to spatial blocks",
    SpaceToDepth "space_to_depth" [x] "spatial blocks to channels",
    Trilu "trilu" [x ?k] "the upper or lower triangle of matrices",

    QuantizeLinear "quantize_linear" [x scale ?zero] "x/scale + zero, rounded to even and saturated",
    DequantizeLinear "dequantize_linear" [x scale ?zero] "(x − zero)·scale",
    DynamicQuantizeLinear "dynamic_quantize_linear" [x] "to u8 by the range of x; results: codes, scale, zero",
    QLinearConv "qlinear_conv" [x x_scale x_zero w w_scale w_zero y_scale y_zero ?b] "convolution of codes to codes",
    QLinearMatMul "qlinear_matmul" [a a_scale a_zero b b_scale b_zero y_scale y_zero] "matrix product of codes to codes",
    ConvInteger "conv_integer" [x w ?x_zero ?w_zero] "convolution of codes to i32",
    MatMulInteger "matmul_integer" [a b ?a_zero ?b_zero] "matrix product of codes to i32",

    ConvWeightGrad "conv_weight_grad" [x dy] "gradient of a convolution's kernel",
    MaxPoolGrad "max_pool_grad" [x dy] "gradient of a maximum over windows",
    BatchNormTrain "batch_norm_train" [x scale b mean var] "normalisation by the batch; results: y, running mean and variance, batch mean and 1/σ",
    BatchNormGrad "batch_norm_grad" [x dy scale mean inv_std] "gradients of batch_norm_train; results: dx, dscale, dbias",
    ActGrad "act_grad" [v dy] "gradient of an activation, from its result or its operand",
}
