//! Reading and writing attributes.
//!
//! A reader hands out each attribute once; what is left at the end is an attribute the importer does not
//! know, and refuses the node.

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, NodeProto, TensorProto};
use protobuf::{EnumOrUnknown, MessageField};

/// Why a node is carried unchanged instead of being translated: a lower-case fragment.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) String);

impl<T: Into<String>> From<T> for Refusal {
    fn from(text: T) -> Refusal {
        Refusal(text.into())
    }
}

/// The attributes of one node that nobody has read yet.
pub(super) struct Attrs<'a>(Vec<&'a AttributeProto>);

impl<'a> Attrs<'a> {
    /// All attributes of a node.
    pub(super) fn of(node: &'a NodeProto) -> Attrs<'a> {
        Attrs(node.attribute.iter().collect())
    }

    fn take(&mut self, name: &str, ty: AttributeType) -> Result<Option<&'a AttributeProto>, Refusal> {
        let Some(at) = self.0.iter().position(|attr| attr.name == name) else { return Ok(None) };
        let attr = self.0.swap_remove(at);
        // Version 1 of the format left the type of an attribute to its payload.
        let found = attr.type_.enum_value().map_err(|_| format!("type of attribute {name}"))?;
        if !attr.ref_attr_name.is_empty() || ![ty, AttributeType::UNDEFINED].contains(&found) {
            return Err(Refusal(format!("type of attribute {name}")));
        }
        Ok(Some(attr))
    }

    pub(super) fn int(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        Ok(self.take(name, AttributeType::INT)?.map(|attr| attr.i))
    }

    pub(super) fn int_or(&mut self, name: &str, default: i64) -> Result<i64, Refusal> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// A number that is never negative.
    pub(super) fn count_or(&mut self, name: &str, default: usize) -> Result<usize, Refusal> {
        self.int(name)?.map_or(Ok(default), |n| count(name, n))
    }

    pub(super) fn bool_or(&mut self, name: &str, default: bool) -> Result<bool, Refusal> {
        Ok(self.int(name)?.map_or(default, |i| i != 0))
    }

    pub(super) fn float(&mut self, name: &str) -> Result<Option<f32>, Refusal> {
        Ok(self.take(name, AttributeType::FLOAT)?.map(|attr| attr.f))
    }

    pub(super) fn float_or(&mut self, name: &str, default: f32) -> Result<f32, Refusal> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    pub(super) fn string(&mut self, name: &str) -> Result<Option<&'a str>, Refusal> {
        self.take(name, AttributeType::STRING)?.map(|attr| text(name, &attr.s)).transpose()
    }

    pub(super) fn string_or(&mut self, name: &str, default: &'a str) -> Result<&'a str, Refusal> {
        Ok(self.string(name)?.unwrap_or(default))
    }

    pub(super) fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, Refusal> {
        Ok(self.take(name, AttributeType::INTS)?.map(|attr| attr.ints.clone()))
    }

    /// A list of numbers that are never negative; empty where absent.
    pub(super) fn counts(&mut self, name: &str) -> Result<Vec<usize>, Refusal> {
        self.ints(name)?.unwrap_or_default().into_iter().map(|n| count(name, n)).collect()
    }

    pub(super) fn floats(&mut self, name: &str) -> Result<Option<Vec<f32>>, Refusal> {
        Ok(self.take(name, AttributeType::FLOATS)?.map(|attr| attr.floats.clone()))
    }

    pub(super) fn strings(&mut self, name: &str) -> Result<Vec<String>, Refusal> {
        let Some(attr) = self.take(name, AttributeType::STRINGS)? else { return Ok(Vec::new()) };
        attr.strings.iter().map(|s| text(name, s).map(str::to_owned)).collect()
    }

    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<&'a TensorProto>, Refusal> {
        Ok(self.take(name, AttributeType::TENSOR)?.and_then(|attr| attr.t.as_ref()))
    }

    /// Reads and drops an attribute that says nothing the IR needs.
    pub(super) fn skip(&mut self, name: &str) {
        self.0.retain(|attr| attr.name != name);
    }

    /// Refuses the node if an attribute was not read.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some(attr) => Err(Refusal(format!("attribute {}", attr.name))),
        }
    }
}

/// A number that is never negative.
pub(super) fn count(name: &str, n: i64) -> Result<usize, Refusal> {
    usize::try_from(n).map_err(|_| Refusal(format!("negative {name}")))
}

fn text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| Refusal(format!("encoding of attribute {name}")))
}

fn attr(name: &str, ty: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), type_: EnumOrUnknown::new(ty), ..AttributeProto::default() }
}

/// An attribute holding an integer.
pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attr(name, AttributeType::INT) }
}

/// An attribute holding a number.
pub(super) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..attr(name, AttributeType::FLOAT) }
}

/// An attribute holding a string.
pub(super) fn string(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: s.as_bytes().to_vec(), ..attr(name, AttributeType::STRING) }
}

/// An attribute holding integers.
pub(super) fn ints(name: &str, ints: impl Into<Vec<i64>>) -> AttributeProto {
    AttributeProto { ints: ints.into(), ..attr(name, AttributeType::INTS) }
}

/// An attribute holding counts.
pub(super) fn counts(name: &str, counts: &[usize]) -> AttributeProto {
    ints(name, counts.iter().map(|&n| i64_of(n)).collect::<Vec<_>>())
}

/// An attribute holding numbers.
pub(super) fn floats(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto { floats: floats.to_vec(), ..attr(name, AttributeType::FLOATS) }
}

/// An attribute holding strings.
pub(super) fn strings(name: &str, strings: &[String]) -> AttributeProto {
    let strings = strings.iter().map(|s| s.as_bytes().to_vec()).collect();
    AttributeProto { strings, ..attr(name, AttributeType::STRINGS) }
}

/// An attribute holding a tensor.
pub(super) fn tensor(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto { t: MessageField::some(tensor), ..attr(name, AttributeType::TENSOR) }
}

/// A count as ONNX writes it; counts in a graph are far below the limit.
pub(super) fn i64_of(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
