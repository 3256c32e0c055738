//! Types and attributes as messages.

use optc_ir::op::AttrValue;
use optc_ir::types::MAX_ELEMENTS;
use optc_ir::{Dim, Symbol, TensorType, Type};

use super::payload::{dtype, dtype_number};
use super::schema::{Call, List, Value, ValueKind};
use super::{PackError, damaged, schema};

/// Names of symbolic dimensions, numbered as they first occur.
#[derive(Default)]
pub(super) struct Symbols {
    names: Vec<Symbol>,
}

impl Symbols {
    pub(super) fn type_message(&mut self, ty: &Type) -> schema::Type {
        let Type::Tensor(ty) = ty else { return schema::Type::default() };
        let dims = ty.shape.iter().map(|dim| match dim {
            Dim::Fixed(n) => i64::try_from(*n).unwrap_or(i64::MAX),
            Dim::Any => -1,
            Dim::Sym(symbol) => -2 - self.number(symbol),
        });
        schema::Type { dims: dims.collect(), dtype: dtype_number(ty.dtype) }
    }

    fn number(&mut self, symbol: &Symbol) -> i64 {
        let known = self.names.iter().position(|name| name == symbol);
        known.unwrap_or_else(|| {
            self.names.push(symbol.clone());
            self.names.len() - 1
        }) as i64
    }

    pub(super) fn into_names(self) -> Vec<String> {
        self.names.iter().map(|symbol| symbol.as_str().to_owned()).collect()
    }

    pub(super) fn from_names(names: &[String]) -> Symbols {
        Symbols { names: names.iter().map(|name| Symbol::new(name)).collect() }
    }

    /// A type, which has no more elements than a value may have.
    pub(super) fn read_type(&self, message: &schema::Type) -> Result<Type, PackError> {
        if message.dtype == 0 {
            return Ok(Type::Unknown);
        }
        let dim = |&dim: &i64| match dim {
            -1 => Some(Dim::Any),
            0.. => usize::try_from(dim).ok().map(Dim::Fixed),
            _ => self.names.get(usize::try_from(-2 - dim).ok()?).cloned().map(Dim::Sym),
        };
        let shape: Option<Vec<Dim>> = message.dims.iter().map(dim).collect();
        let ty =
            TensorType { dtype: dtype(message.dtype)?, shape: shape.ok_or_else(|| damaged("a type is malformed"))? };
        let fixed = ty.shape.iter().filter_map(Dim::fixed).try_fold(1usize, |n, d| n.checked_mul(d.max(1)));
        match fixed {
            Some(n) if n <= MAX_ELEMENTS => Ok(ty.into()),
            _ => Err(damaged(format!("a value of type {ty} is too large"))),
        }
    }
}

/// An integer whose text is the canonical one.
fn int(value: &AttrValue) -> Option<i64> {
    match value {
        AttrValue::Number(text) => text.parse().ok().filter(|n: &i64| n.to_string() == *text),
        _ => None,
    }
}

pub(super) fn value_message(value: &AttrValue) -> Value {
    let kind = match value {
        AttrValue::Number(text) => int(value).map_or_else(|| ValueKind::Number(text.clone()), ValueKind::Int),
        AttrValue::Word(word) => ValueKind::Word(word.clone()),
        AttrValue::Str(s) => ValueKind::Str(s.clone()),
        AttrValue::List(items) => ValueKind::List(match items.iter().map(int).collect() {
            Some(ints) => List { items: Vec::new(), ints },
            None => List { items: items.iter().map(value_message).collect(), ints: Vec::new() },
        }),
        AttrValue::Call(word, args) => {
            ValueKind::Call(Call { word: word.clone(), args: args.iter().map(value_message).collect() })
        }
    };
    Value { kind: Some(kind) }
}

/// The inverse of [`value_message`]; the decoder of messages limits how deep they nest.
pub(super) fn read_value(message: Value) -> Result<AttrValue, PackError> {
    let all = |values: Vec<Value>| values.into_iter().map(read_value).collect::<Result<Vec<_>, _>>();
    Ok(match message.kind.ok_or_else(|| damaged("an attribute has no value"))? {
        ValueKind::Number(text) => AttrValue::Number(text),
        ValueKind::Int(n) => AttrValue::Number(n.to_string()),
        ValueKind::Word(word) => AttrValue::Word(word),
        ValueKind::Str(s) => AttrValue::Str(s),
        ValueKind::List(List { items, ints }) if items.is_empty() => {
            AttrValue::List(ints.into_iter().map(|n| AttrValue::Number(n.to_string())).collect())
        }
        ValueKind::List(List { items, ints }) if ints.is_empty() => AttrValue::List(all(items)?),
        ValueKind::List(_) => return Err(damaged("a list holds both integers and others")),
        ValueKind::Call(Call { word, args }) => AttrValue::Call(word, all(args)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let number = |s: &str| AttrValue::Number(s.to_owned());
        let word = |s: &str| AttrValue::Word(s.to_owned());
        for value in [
            number("0"),
            number("-0"),
            number("1e-5"),
            number("-9223372036854775808"),
            number("9223372036854775808"),
            number("007"),
            word("relu"),
            AttrValue::Str(String::new()),
            AttrValue::List(vec![]),
            AttrValue::List(vec![number("1"), number("-2")]),
            AttrValue::List(vec![number("1"), number("2.5"), word("x")]),
            AttrValue::Call("clip".to_owned(), vec![number("0"), AttrValue::List(vec![word("a")])]),
        ] {
            assert_eq!(read_value(value_message(&value)).ok(), Some(value));
        }
    }

    #[test]
    fn types_come_back() {
        let mut symbols = Symbols::default();
        let dims = [Dim::sym("N"), Dim::Any, Dim::Fixed(3), Dim::sym("M"), Dim::sym("N"), Dim::Fixed(0)];
        let types = [Type::Unknown, Type::tensor(optc_ir::DType::BF16, dims), Type::tensor(optc_ir::DType::U4, [0; 0])];
        let messages: Vec<_> = types.iter().map(|ty| symbols.type_message(ty)).collect();
        let symbols = Symbols::from_names(&symbols.into_names());
        for (message, ty) in messages.iter().zip(types) {
            assert_eq!(symbols.read_type(message).ok(), Some(ty));
        }
        for (dtype, dims) in
            [(99, vec![]), (1, vec![-4]), (1, vec![i64::MIN]), (1, vec![i64::MAX, 2]), (1, vec![1 << 41])]
        {
            assert!(symbols.read_type(&schema::Type { dtype, dims }).is_err());
        }
    }
}
