//! Passes that approximate: they make weights zero, equal or coarse, and keep them small.
//!
//! Value passes change numbers and leave constants dense: zeros are the mask, equal values are the
//! clusters. `prune-filters` and `scale-width` change structure, `scale-resolution` the extents of
//! images. `encode-weights` changes the representation, last and exactly.

mod activations;
mod allocate;
mod balance;
mod bounded;
mod cluster_weights;
mod encode_weights;
mod importance;
mod kmeans;
mod measure;
mod prune_filters;
mod prune_magnitude;
mod quantize_weights;
mod rate;
mod scale_resolution;
mod scale_width;
pub mod sensitivity;
mod weights;

pub use cluster_weights::ClusterWeights;
pub use encode_weights::EncodeWeights;
pub use prune_filters::PruneFilters;
pub use prune_magnitude::PruneMagnitude;
pub use quantize_weights::QuantizeWeights;
pub use scale_resolution::ScaleResolution;
pub use scale_width::ScaleWidth;
