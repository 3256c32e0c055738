//! A check of the wire format before a message is built from it.
//!
//! The protocol buffer runtime skips groups by recursion without a limit, and builds a message of some
//! hundred bytes from two bytes of input. This walk knows which fields hold messages and nothing else; it
//! refuses groups, nesting beyond [`MAX_DEPTH`] and more than [`MAX_MESSAGES`] messages, in constant memory.
//! After it the parser's recursion and memory are bounded by the size of the file.

use super::error::ImportErrorKind;

/// Messages within messages. A graph in a node's attribute takes three levels.
const MAX_DEPTH: usize = 90;

/// Messages in a file. The largest published models hold some hundred thousand.
const MAX_MESSAGES: usize = 4_000_000;

#[derive(Clone, Copy)]
enum Schema {
    Leaf,
    Model,
    TrainingInfo,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    TensorType,
    Nested,
    Map,
    Shape,
    Annotation,
    Function,
}

/// The message in field `field` of a message, if that field holds one.
fn field_schema(schema: Schema, field: u64) -> Option<Schema> {
    use Schema::*;
    Some(match (schema, field) {
        (Model, 7) | (TrainingInfo, 1 | 2) | (Attribute, 6 | 11) => Graph,
        (Model, 8 | 14) | (TrainingInfo, 3 | 4) | (Function, 9 | 14) => Leaf,
        (Model, 20) => TrainingInfo,
        (Model, 25) => Function,
        (Graph, 1) | (Function, 7) => Node,
        (Graph, 5) | (Attribute, 5 | 10) | (SparseTensor, 1 | 2) => Tensor,
        (Graph, 15) | (Attribute, 22 | 23) => SparseTensor,
        (Graph, 11..=13) | (Function, 12) => ValueInfo,
        (Graph, 14) => Annotation,
        (Graph, 16) | (Node, 9) | (Tensor, 3 | 13 | 16) | (ValueInfo, 4) | (Annotation, 2) | (Shape, 1) => Leaf,
        (Node, 5) | (Function, 11) => Attribute,
        (Attribute, 14 | 15) | (ValueInfo, 2) | (Nested, 1) | (Map, 2) => Type,
        (Type, 1 | 8) => TensorType,
        (Type, 4 | 9) => Nested,
        (Type, 5) => Map,
        (TensorType, 2) => Shape,
        _ => return None,
    })
}

/// Checks the wire format of a model.
///
/// # Errors
/// If the bytes are no protocol buffer, or one beyond the limits.
pub(super) fn check(bytes: &[u8]) -> Result<(), ImportErrorKind> {
    let mut walk = Walk { messages: 0 };
    walk.message(bytes, Schema::Model, 0)
}

struct Walk {
    messages: usize,
}

impl Walk {
    fn message(&mut self, mut bytes: &[u8], schema: Schema, depth: usize) -> Result<(), ImportErrorKind> {
        self.messages += 1;
        if self.messages > MAX_MESSAGES {
            return Err(ImportErrorKind::Limit(format!("the model holds more than {MAX_MESSAGES} messages")));
        }
        if depth > MAX_DEPTH {
            return Err(ImportErrorKind::Limit(format!("messages are nested more than {MAX_DEPTH} deep")));
        }
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            match tag & 7 {
                0 => {
                    varint(&mut bytes)?;
                }
                1 => {
                    take(&mut bytes, 8)?;
                }
                5 => {
                    take(&mut bytes, 4)?;
                }
                2 => {
                    let len = varint(&mut bytes)?;
                    let inner = take(&mut bytes, len)?;
                    if let Some(inner_schema) = field_schema(schema, tag >> 3) {
                        self.message(inner, inner_schema, depth + 1)?;
                    }
                }
                wire => return Err(malformed(format!("wire type {wire} does not occur in ONNX"))),
            }
        }
        Ok(())
    }
}

pub(super) fn malformed(message: impl Into<String>) -> ImportErrorKind {
    ImportErrorKind::Malformed(message.into())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ImportErrorKind> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else { return Err(malformed("the file is truncated")) };
        *bytes = rest;
        if shift < 64 {
            value |= u64::from(byte & 0x7f) << shift;
        }
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(malformed("a number of more than ten bytes"))
}

fn take<'a>(bytes: &mut &'a [u8], len: u64) -> Result<&'a [u8], ImportErrorKind> {
    let split = usize::try_from(len).ok().and_then(|len| bytes.split_at_checked(len));
    let Some((head, tail)) = split else { return Err(malformed("the file is truncated")) };
    *bytes = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn nested_groups_are_refused_without_recursion() {
        let bytes = vec![0x0b; 1 << 20];
        assert!(check(&bytes).unwrap_err().to_string().contains("wire type 3"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        // Node, attribute and graph within each other, innermost first.
        let mut bytes = Vec::new();
        for _ in 0..40 {
            for field in [6u8, 5, 1] {
                let mut outer = vec![field << 3 | 2];
                let mut len = bytes.len();
                while len >= 0x80 {
                    outer.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
                    len >>= 7;
                }
                outer.push(u8::try_from(len).unwrap());
                outer.append(&mut bytes);
                bytes = outer;
            }
        }
        let mut model = vec![7 << 3 | 2];
        let mut len = bytes.len();
        while len >= 0x80 {
            model.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
            len >>= 7;
        }
        model.push(u8::try_from(len).unwrap());
        model.append(&mut bytes);
        assert!(check(&model).unwrap_err().to_string().contains("nested"));
    }

    #[test]
    fn truncated_lengths_are_refused() {
        assert!(check(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
        assert!(check(&[0x3a]).is_err());
        assert!(check(&[0xff; 11]).is_err());
    }
}
