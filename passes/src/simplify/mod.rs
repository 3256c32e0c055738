//! Passes that make a graph smaller without changing its function.

mod activation_patterns;
mod affine;
mod cancel_reshapes;
mod cancel_transposes;
mod canonicalize;
mod eliminate_common_subexpressions;
mod eliminate_dead_channels;
mod eliminate_dead_code;
mod eliminate_identities;
mod fold_batch_norm;
mod fold_constants;
mod fold_pad;
mod fold_scale;
mod fold_shapes;
mod fuse_activation;
mod fuse_layer_norm;
mod fuse_linear;

pub use cancel_reshapes::CancelReshapes;
pub use cancel_transposes::CancelTransposes;
pub use canonicalize::Canonicalize;
pub use eliminate_common_subexpressions::EliminateCommonSubexpressions;
pub use eliminate_dead_channels::EliminateDeadChannels;
pub use eliminate_dead_code::EliminateDeadCode;
pub use eliminate_identities::EliminateIdentities;
pub use fold_batch_norm::FoldBatchNorm;
pub use fold_constants::FoldConstants;
pub use fold_pad::FoldPad;
pub use fold_scale::FoldScale;
pub use fold_shapes::FoldShapes;
pub use fuse_activation::FuseActivation;
pub use fuse_layer_norm::FuseLayerNorm;
pub use fuse_linear::FuseLinear;
