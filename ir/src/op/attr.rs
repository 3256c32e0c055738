//! Attributes: how operator parameters are declared, printed and parsed.
//!
//! The macro `attrs!` makes, from one list, the struct, its defaults and its text form; a field equal to its
//! default is left out of the text.

use crate::types::DType;

/// An attribute as it stands in the text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttrValue {
    /// A number, kept as written so that no precision is lost between text and value.
    Number(String),
    /// A bare word: `true`, `relu`, `f32`.
    Word(String),
    /// A quoted string.
    Str(String),
    /// `[a, b]`
    List(Vec<AttrValue>),
    /// `clip(0, 6)`
    Call(String, Vec<AttrValue>),
}

/// A type an attribute may have.
pub trait Attr: Sized + PartialEq + Clone {
    /// What the text must hold, for error messages: `an integer`.
    const EXPECTS: &'static str;
    /// The text form.
    fn to_value(&self) -> AttrValue;
    /// The inverse of [`Attr::to_value`].
    fn from_value(value: &AttrValue) -> Option<Self>;
}

/// The parameters of one operator.
pub trait Attrs: Sized + Default + PartialEq {
    /// Field names and values that differ from their defaults, in order of declaration.
    fn fields(&self) -> Vec<(&'static str, AttrValue)>;

    /// The parameters with these fields set and the others at their defaults.
    ///
    /// # Errors
    /// A message naming the field that is unknown or of the wrong kind.
    fn from_fields(fields: &[(String, AttrValue)]) -> Result<Self, String>;
}

/// `1` for whole numbers, the shortest text that reads back exactly otherwise.
pub fn format_f32(x: f32) -> String {
    let s = format!("{x:?}").to_ascii_lowercase();
    s.strip_suffix(".0").map_or(s.clone(), str::to_owned)
}

/// As [`format_f32`], in double precision.
pub fn format_f64(x: f64) -> String {
    let s = format!("{x:?}").to_ascii_lowercase();
    s.strip_suffix(".0").map_or(s.clone(), str::to_owned)
}

macro_rules! number_attr {
    ($($ty:ty, $expects:literal, $format:expr;)*) => {$(
        impl Attr for $ty {
            const EXPECTS: &'static str = $expects;
            fn to_value(&self) -> AttrValue {
                AttrValue::Number($format(*self))
            }
            fn from_value(value: &AttrValue) -> Option<$ty> {
                match value {
                    AttrValue::Number(n) => n.parse().ok(),
                    _ => None,
                }
            }
        }
    )*};
}

number_attr! {
    i64, "an integer", |x: i64| x.to_string();
    usize, "a non-negative integer", |x: usize| x.to_string();
    f32, "a number", format_f32;
    f64, "a number", format_f64;
}

impl Attr for bool {
    const EXPECTS: &'static str = "true or false";
    fn to_value(&self) -> AttrValue {
        AttrValue::Word(self.to_string())
    }
    fn from_value(value: &AttrValue) -> Option<bool> {
        match value {
            AttrValue::Word(w) => w.parse().ok(),
            _ => None,
        }
    }
}

impl Attr for String {
    const EXPECTS: &'static str = "a quoted string";
    fn to_value(&self) -> AttrValue {
        AttrValue::Str(self.clone())
    }
    fn from_value(value: &AttrValue) -> Option<String> {
        match value {
            AttrValue::Str(s) => Some(s.clone()),
            _ => None,
        }
    }
}

impl Attr for DType {
    const EXPECTS: &'static str = "an element type";
    fn to_value(&self) -> AttrValue {
        AttrValue::Word(self.name().to_owned())
    }
    fn from_value(value: &AttrValue) -> Option<DType> {
        match value {
            AttrValue::Word(w) => DType::from_name(w),
            _ => None,
        }
    }
}

impl<T: Attr> Attr for Vec<T> {
    const EXPECTS: &'static str = "a list";
    fn to_value(&self) -> AttrValue {
        AttrValue::List(self.iter().map(T::to_value).collect())
    }
    fn from_value(value: &AttrValue) -> Option<Vec<T>> {
        match value {
            AttrValue::List(items) => items.iter().map(T::from_value).collect(),
            _ => None,
        }
    }
}

/// `None` is never written; every option defaults to it.
impl<T: Attr> Attr for Option<T> {
    const EXPECTS: &'static str = T::EXPECTS;
    fn to_value(&self) -> AttrValue {
        self.as_ref().map_or(AttrValue::Word("none".to_owned()), T::to_value)
    }
    fn from_value(value: &AttrValue) -> Option<Option<T>> {
        match value {
            AttrValue::Word(w) if w == "none" => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// Declares the attributes of an operator: the struct, its defaults and its text form.
macro_rules! attrs {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $ty:ty = $default:expr,)*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: $default,)* }
            }
        }

        impl $crate::op::attr::Attrs for $name {
            fn fields(&self) -> Vec<(&'static str, $crate::op::attr::AttrValue)> {
                #[allow(unused_imports, reason = "an operator may have no attributes")]
                use $crate::op::attr::Attr;
                #[allow(unused_variables, reason = "an operator may have no attributes")]
                let default = $name::default();
                let fields: Vec<Option<(&'static str, $crate::op::attr::AttrValue)>> = vec![
                    $((self.$field != default.$field).then(|| (stringify!($field), self.$field.to_value())),)*
                ];
                fields.into_iter().flatten().collect()
            }

            fn from_fields(fields: &[(String, $crate::op::attr::AttrValue)]) -> Result<$name, String> {
                #[allow(unused_imports, reason = "an operator may have no attributes")]
                use $crate::op::attr::Attr;
                #[allow(unused_mut, reason = "an operator may have no attributes")]
                let mut attrs = $name::default();
                for (key, _value) in fields {
                    match key.as_str() {
                        $(stringify!($field) => {
                            attrs.$field = <$ty as Attr>::from_value(_value)
                                .ok_or_else(|| format!("attribute {key} must be {}", <$ty as Attr>::EXPECTS))?;
                        })*
                        _ => return Err(format!("unknown attribute {key}")),
                    }
                }
                Ok(attrs)
            }
        }
    )*};
}

/// Declares an enum each of whose variants is one word of the text form.
macro_rules! words {
    ($(
        $(#[$doc:meta])*
        pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every variant, in order of declaration.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The word in the text form.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            /// The inverse of `word`.
            pub fn from_word(word: &str) -> Option<$name> {
                match word { $($word => Some($name::$variant),)* _ => None }
            }
        }

        impl $crate::op::attr::Attr for $name {
            const EXPECTS: &'static str = concat!("one of", $(" ", $word),*);
            fn to_value(&self) -> $crate::op::attr::AttrValue {
                $crate::op::attr::AttrValue::Word(self.word().to_owned())
            }
            fn from_value(value: &$crate::op::attr::AttrValue) -> Option<$name> {
                match value {
                    $crate::op::attr::AttrValue::Word(w) => $name::from_word(w),
                    _ => None,
                }
            }
        }
    )*};
}

pub(crate) use {attrs, words};
