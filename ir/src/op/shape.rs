//! Operators that move elements or compute with shapes.

pub(crate) mod contents;
mod layout;
pub(crate) mod make;
mod reshape;
pub(crate) mod resize;
mod select;
pub(crate) mod slice;

use super::attr::{attrs, words};
use crate::types::DType;

words! {
    /// What `pad` puts at the borders.
    pub enum PadMode {
        /// The `value` operand, zero by default.
        Constant = "constant",
        /// The elements mirrored at the border element.
        Reflect = "reflect",
        /// The border element.
        Edge = "edge",
        /// The elements of the other end.
        Wrap = "wrap",
    }

    /// How `scatter` combines an update with what is there.
    pub enum ScatterReduction {
        /// The update replaces it.
        None = "none",
        /// Sum.
        Add = "add",
        /// Product.
        Mul = "mul",
        /// The larger.
        Max = "max",
        /// The smaller.
        Min = "min",
    }

    /// Order of channels in `depth_to_space`.
    pub enum DepthOrder {
        /// Depth, column, row: channels are `[b, b, C]`.
        Dcr = "dcr",
        /// Column, row, depth: channels are `[C, b, b]`.
        Crd = "crd",
    }

    /// How `resize` interpolates.
    pub enum ResizeMode {
        /// The nearest element.
        Nearest = "nearest",
        /// Linear along each axis.
        Linear = "linear",
        /// Cubic along each axis.
        Cubic = "cubic",
    }

    /// How `resize` maps a result coordinate to an input coordinate.
    pub enum CoordinateMode {
        /// (x + ½)/scale − ½
        HalfPixel = "half_pixel",
        /// As `half_pixel`, symmetric about the centre for fractional sizes.
        HalfPixelSymmetric = "half_pixel_symmetric",
        /// As `half_pixel`; 0 if the result has one element.
        PytorchHalfPixel = "pytorch_half_pixel",
        /// x·(in − 1)/(out − 1)
        AlignCorners = "align_corners",
        /// x/scale
        Asymmetric = "asymmetric",
        /// Within the region of interest given by `roi`.
        TfCropAndResize = "tf_crop_and_resize",
    }

    /// Which element is nearest.
    pub enum NearestMode {
        /// Round half down.
        RoundPreferFloor = "round_prefer_floor",
        /// Round half up.
        RoundPreferCeil = "round_prefer_ceil",
        /// Downward.
        Floor = "floor",
        /// Upward.
        Ceil = "ceil",
    }

    /// What `resize` does with the aspect ratio when `sizes` are given.
    pub enum AspectPolicy {
        /// Nothing.
        Stretch = "stretch",
        /// No extent exceeds its size.
        NotLarger = "not_larger",
        /// No extent is under its size.
        NotSmaller = "not_smaller",
    }
}

attrs! {
    /// The same elements in the shape given as i64 operand; −1 (once) is inferred, 0 copies.
    pub struct Reshape {
        /// Whether 0 means an empty axis instead of a copied extent.
        allowzero: bool = false,
    }

    /// To the matrix `[Π shape[..axis], Π shape[axis..]]`.
    pub struct Flatten {
        /// Where to split; may be negative.
        axis: i64 = 1,
    }

    /// Removes axes of extent 1.
    pub struct Squeeze {
        /// The axes; none given means all of extent 1.
        axes: Option<Vec<i64>> = None,
    }

    /// Inserts axes of extent 1.
    pub struct Unsqueeze {
        /// Their positions in the result.
        axes: Vec<i64> = vec![],
    }

    /// Permutes axes: axis i of the result is axis `perm[i]` of the operand.
    pub struct Transpose {
        /// The permutation; empty reverses the axes.
        perm: Vec<usize> = vec![],
    }

    /// Joins along an axis.
    pub struct Concat {
        /// The axis.
        axis: i64 = 0,
    }

    /// Cuts along an axis. One result a piece.
    pub struct Split {
        /// The axis.
        axis: i64 = 0,
        /// Extents of the pieces.
        sizes: Vec<usize> = vec![],
    }

    /// `x[starts:ends:steps]` along `axes` (default: the first ones); all are 1-D integer operands.
    pub struct Slice {}

    /// Adds `pads` elements at all beginnings, then all ends, of `axes` (default: all); negative ones remove.
    pub struct Pad {
        /// What is added.
        mode: PadMode = PadMode::Constant,
    }

    /// Broadcasts `x` and the `shape` operand against each other.
    pub struct Expand {}

    /// Repeats `x` along each axis as often as the `repeats` operand says.
    pub struct Tile {}

    /// Picks slices along an axis; the axis is replaced by the axes of `indices`.
    pub struct Gather {
        /// The axis.
        axis: i64 = 0,
    }

    /// `y[i…] = x[i… with axis replaced by indices[i…]]`.
    pub struct GatherElements {
        /// The axis.
        axis: i64 = 0,
    }

    /// Picks slices by the index tuples along the last axis of `indices`.
    pub struct GatherNd {
        /// Leading axes shared by both operands.
        batch_dims: usize = 0,
    }

    /// A copy of `x` with `updates` put where `indices` say along an axis.
    pub struct ScatterElements {
        /// The axis.
        axis: i64 = 0,
        /// How an update is combined.
        reduction: ScatterReduction = ScatterReduction::None,
    }

    /// A copy of `x` with the slices of `updates` put where the tuples of `indices` say.
    pub struct ScatterNd {
        /// How an update is combined.
        reduction: ScatterReduction = ScatterReduction::None,
    }

    /// The extents as 1-D i64.
    pub struct ShapeOf {
        /// First axis told.
        start: i64 = 0,
        /// End of the axes told; none given means all.
        end: Option<i64> = None,
    }

    /// The number of elements as i64 scalar.
    pub struct Size {}

    /// One value in the shape given as i64 operand.
    pub struct ConstantOfShape {
        /// Element type.
        dtype: DType = DType::F32,
        /// The value.
        value: f64 = 0.0,
    }

    /// `start, start + delta, …` below `limit`; three scalars of one type.
    pub struct Range {}

    /// Inserts an axis of extent `depth` with `values[1]` at the index and `values[0]` elsewhere.
    pub struct OneHot {
        /// Where the axis is inserted.
        axis: i64 = -1,
    }

    /// Indices of the nonzero elements, `[rank, count]` i64, in row-major order.
    pub struct NonZero {}

    /// Interpolates to the extents given by `scales` or `sizes` along `axes`.
    pub struct Resize {
        /// How elements are combined.
        mode: ResizeMode = ResizeMode::Nearest,
        /// How coordinates map.
        coordinates: CoordinateMode = CoordinateMode::HalfPixel,
        /// Which element is nearest.
        nearest: NearestMode = NearestMode::RoundPreferFloor,
        /// The coefficient of cubic interpolation.
        cubic_coeff: f32 = -0.75,
        /// Whether weights outside the operand are dropped and the rest rescaled.
        exclude_outside: bool = false,
        /// The value outside the region of interest (`tf_crop_and_resize`).
        extrapolation: f32 = 0.0,
        /// Whether the filter is widened when shrinking.
        antialias: bool = false,
        /// The axes `roi`, `scales` and `sizes` speak of; none given means all.
        axes: Option<Vec<i64>> = None,
        /// What `sizes` means for the aspect ratio.
        aspect: AspectPolicy = AspectPolicy::Stretch,
    }

    /// `[N, C·b², H, W]` to `[N, C, H·b, W·b]`.
    pub struct DepthToSpace {
        /// b.
        block: usize = 1,
        /// Order of the channels.
        order: DepthOrder = DepthOrder::Dcr,
    }

    /// `[N, C, H·b, W·b]` to `[N, C·b², H, W]`.
    pub struct SpaceToDepth {
        /// b.
        block: usize = 1,
    }

    /// Keeps one triangle of the last two axes, zeroes the rest; `k` shifts the diagonal.
    pub struct Trilu {
        /// Whether the upper one.
        upper: bool = true,
    }
}
