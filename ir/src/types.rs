//! Element types, dimensions, shapes and the types of values.
//!
//! A dimension is a number, a named symbol that stands for one number throughout a graph, or a number
//! nobody has named. Symbols pass *through* operators; where an operator would compute with one, the
//! result is [`Dim::Any`]. There is no dimension algebra: bind the symbols and infer again instead.

use std::fmt;
use std::sync::Arc;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $bits:literal,)*) => {
        /// The type of one element.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DType { $($(#[$doc])* $variant,)* }

        impl DType {
            /// Every element type, in the order of declaration.
            pub const ALL: &[DType] = &[$(DType::$variant),*];

            /// The name in the text form, `f32`.
            pub fn name(self) -> &'static str {
                match self { $(DType::$variant => $name,)* }
            }

            /// The inverse of [`DType::name`].
            pub fn from_name(name: &str) -> Option<DType> {
                match name { $($name => Some(DType::$variant),)* _ => None }
            }

            /// Bits one element takes in a dense file: 4 for the nibble types, 8 for `bool`.
            pub fn bits(self) -> usize {
                match self { $(DType::$variant => $bits,)* }
            }
        }
    };
}

dtypes! {
    /// IEEE double precision.
    F64 "f64" 64,
    /// IEEE single precision.
    F32 "f32" 32,
    /// IEEE half precision.
    F16 "f16" 16,
    /// The upper half of an `f32`.
    BF16 "bf16" 16,
    /// Signed, 64 bits.
    I64 "i64" 64,
    /// Signed, 32 bits.
    I32 "i32" 32,
    /// Signed, 16 bits.
    I16 "i16" 16,
    /// Signed, 8 bits.
    I8 "i8" 8,
    /// Signed, 4 bits.
    I4 "i4" 4,
    /// Unsigned, 64 bits.
    U64 "u64" 64,
    /// Unsigned, 32 bits.
    U32 "u32" 32,
    /// Unsigned, 16 bits.
    U16 "u16" 16,
    /// Unsigned, 8 bits.
    U8 "u8" 8,
    /// Unsigned, 4 bits.
    U4 "u4" 4,
    /// True or false.
    Bool "bool" 8,
}

impl DType {
    /// Whether this is one of the four floating-point types.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
    }

    /// Whether this is a signed or unsigned integer (`bool` is not).
    pub fn is_int(self) -> bool {
        !self.is_float() && self != DType::Bool
    }

    /// Whether negative numbers exist in this type.
    pub fn is_signed(self) -> bool {
        self.is_float() || matches!(self, DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::I4)
    }

    /// Bytes that `len` elements take in a dense file; nibbles are packed two to a byte.
    pub fn bytes(self, len: usize) -> usize {
        len.saturating_mul(self.bits()).div_ceil(8)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a dimension that is fixed only when the model runs, such as `batch`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(Arc<str>);

impl Symbol {
    /// The symbol of this name; equal names are the same symbol.
    pub fn new(name: &str) -> Symbol {
        Symbol(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", crate::text::Word(&self.0))
    }
}

/// The extent of one axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Known now.
    Fixed(usize),
    /// The same number wherever the symbol occurs.
    Sym(Symbol),
    /// Known only at run time, and without a name: not known to equal any other, itself included.
    /// Written `?`. (`==` on it compares notation, for the verifier; use [`Dim::same`] for meaning.)
    Any,
}

impl Dim {
    /// A symbolic dimension.
    pub fn sym(name: &str) -> Dim {
        Dim::Sym(Symbol::new(name))
    }

    /// The number, if it is known now.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(*n),
            _ => None,
        }
    }

    /// Whether both are certainly the same number.
    pub fn same(&self, other: &Dim) -> bool {
        !matches!(self, Dim::Any) && self == other
    }

    /// Whether they can't be the same number: both known and different.
    pub fn differs(&self, other: &Dim) -> bool {
        matches!((self, other), (Dim::Fixed(a), Dim::Fixed(b)) if a != b)
    }

    /// What is known of a number that both describe: the more definite of the two.
    pub fn meet(&self, other: &Dim) -> Dim {
        match (self, other) {
            (Dim::Fixed(_), _) | (_, Dim::Any) => self.clone(),
            (_, Dim::Fixed(_)) | (Dim::Any, _) => other.clone(),
            (Dim::Sym(_), Dim::Sym(_)) => self.clone(),
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Sym(s) => write!(f, "{s}"),
            Dim::Any => f.write_str("?"),
        }
    }
}

/// The extents of all axes, outermost first. A scalar has none.
pub type Shape = Vec<Dim>;

/// The largest number of elements a value may have. Products of dimensions below it can't overflow,
/// and no allocation follows a hostile file beyond it.
pub const MAX_ELEMENTS: usize = 1 << 40;

/// Element type and shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Type of the elements.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Shape,
}

impl TensorType {
    /// A type of these parts.
    pub fn new(dtype: DType, shape: impl IntoIterator<Item = impl Into<Dim>>) -> TensorType {
        TensorType { dtype, shape: shape.into_iter().map(Into::into).collect() }
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The extents, if all are known.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(Dim::fixed).collect()
    }

    /// The number of elements, if all extents are known and the product does not overflow.
    pub fn numel(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, dim) in self.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A tensor of known element type and rank.
    Tensor(TensorType),
    /// Nobody told: the result of an opaque node, a sequence, an unranked tensor. Written `?`.
    Unknown,
}

impl Type {
    /// A tensor type of these parts.
    pub fn tensor(dtype: DType, shape: impl IntoIterator<Item = impl Into<Dim>>) -> Type {
        Type::Tensor(TensorType::new(dtype, shape))
    }

    /// The tensor type, unless unknown.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(t) => Some(t),
            Type::Unknown => None,
        }
    }

    /// The element type, unless unknown.
    pub fn dtype(&self) -> Option<DType> {
        self.as_tensor().map(|t| t.dtype)
    }

    /// The shape, unless unknown.
    pub fn shape(&self) -> Option<&[Dim]> {
        self.as_tensor().map(|t| t.shape.as_slice())
    }
}

impl From<TensorType> for Type {
    fn from(t: TensorType) -> Type {
        Type::Tensor(t)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(t) => write!(f, "{t}"),
            Type::Unknown => f.write_str("?"),
        }
    }
}
