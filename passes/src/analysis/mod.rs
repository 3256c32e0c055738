//! Facts about whole graphs that passes and reports ask for.

pub mod channels;
pub mod cost;
pub mod entropy;

pub use channels::{ChannelGroups, UnitId};
pub use cost::{Cost, LayerCost, Totals};
pub use entropy::entropy_bits;
