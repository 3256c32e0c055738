//! Which nodes a pass may touch: the options `only` and `protect`.

use optc_ir::op::{AttrValue, Binary, OPS, ReduceKind, Unary, Variadic};
use optc_ir::{Graph, NodeId, Op};
use regex::Regex;

/// A set of nodes, described by kind or by name. A node is selected if any item matches it.
///
/// Items are separated by commas or semicolons; a regular expression runs to the next semicolon.
///
/// | item | matches |
/// |---|---|
/// | `conv` | convolutions |
/// | `depthwise` | convolutions whose groups have one input channel each |
/// | `linear` | `linear`, and `gemm` and `matmul` with a constant operand |
/// | the name of any other operator | nodes of that operator |
/// | `re:^/head/` | nodes whose name, or the name of one of whose constants, matches |
/// | anything else | the same names as a glob: `*` is any text, `?` any character |
#[derive(Clone, Debug)]
pub struct Selector(Vec<Item>);

#[derive(Clone, Debug)]
struct Item {
    text: String,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Op,
    Depthwise,
    Linear,
    Name(Regex),
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// A message about the item that can't be understood.
    pub fn parse(text: &str) -> Result<Selector, String> {
        let mut items = Vec::new();
        let mut rest = text;
        loop {
            rest = rest.trim_start();
            let ends: &[char] = if rest.starts_with("re:") { &[';'] } else { &[',', ';'] };
            let end = rest.find(ends).unwrap_or(rest.len());
            let item = rest[..end].trim_end();
            if !item.is_empty() {
                items.push(Item::parse(item)?);
            }
            match rest.get(end + 1..) {
                Some(more) => rest = more,
                None => break,
            }
        }
        if items.is_empty() {
            return Err("selects nothing; give a kind of operator, a name, or `re:` and a regular expression".into());
        }
        Ok(Selector(items))
    }

    /// From the value of an option: a token, a string, or a list of them.
    ///
    /// # Errors
    /// As [`Selector::parse`].
    pub fn from_value(value: &AttrValue) -> Result<Selector, String> {
        match value {
            AttrValue::Word(text) | AttrValue::Str(text) | AttrValue::Number(text) => Selector::parse(text),
            AttrValue::List(items) => {
                let parsed: Result<Vec<Selector>, String> = items.iter().map(Selector::from_value).collect();
                Ok(Selector(parsed?.into_iter().flat_map(|s| s.0).collect()))
            }
            AttrValue::Call(..) => Err("must be a list of kinds of operators and names".to_owned()),
        }
    }

    /// The inverse of [`Selector::from_value`].
    pub fn to_value(&self) -> AttrValue {
        let mut words: Vec<AttrValue> = self.0.iter().map(|item| AttrValue::Word(item.text.clone())).collect();
        match words.len() {
            1 => words.remove(0),
            _ => AttrValue::List(words),
        }
    }

    /// Whether a node is selected.
    pub fn matches(&self, graph: &Graph, node: NodeId) -> bool {
        self.0.iter().any(|item| item.matches(graph, node))
    }

    /// Whether a constant is selected, by its own name or by a layer that reads it: the kind of the layer or the
    /// layer's name, but not the names of the layer's other constants.
    pub fn matches_constant(&self, graph: &Graph, constant: NodeId, layers: &[NodeId]) -> bool {
        self.0.iter().any(|item| match &item.matcher {
            Matcher::Name(regex) => {
                std::iter::once(&constant).chain(layers).any(|&node| regex.is_match(graph.name(node)))
            }
            Matcher::Op | Matcher::Depthwise | Matcher::Linear => layers.iter().any(|&node| item.matches(graph, node)),
        })
    }

    /// The items that match no node, as written: most likely typing errors.
    pub fn unmatched(&self, graph: &Graph) -> Vec<&str> {
        let silent = |item: &&Item| !graph.nodes().any(|node| item.matches(graph, node));
        self.0.iter().filter(silent).map(|item| item.text.as_str()).collect()
    }
}

/// Equal if written equally.
impl PartialEq for Selector {
    fn eq(&self, other: &Selector) -> bool {
        self.to_value() == other.to_value()
    }
}

impl Item {
    fn parse(text: &str) -> Result<Item, String> {
        let matcher = match text {
            "depthwise" => Matcher::Depthwise,
            "linear" => Matcher::Linear,
            _ if is_op_name(text) => Matcher::Op,
            _ => {
                let pattern = match text.strip_prefix("re:") {
                    Some(pattern) => pattern.to_owned(),
                    None => format!("^{}$", regex::escape(text).replace(r"\*", ".*").replace(r"\?", ".")),
                };
                Matcher::Name(Regex::new(&pattern).map_err(|e| format!("has a wrong regular expression: {e}"))?)
            }
        };
        Ok(Item { text: text.to_owned(), matcher })
    }

    fn matches(&self, graph: &Graph, node: NodeId) -> bool {
        match &self.matcher {
            Matcher::Op => graph.op(node).name() == self.text,
            Matcher::Depthwise => is_depthwise(graph, node),
            Matcher::Linear => match graph.op(node) {
                Op::Linear(_) => true,
                Op::Gemm(_) | Op::MatMul(_) => (0..2).any(|slot| graph.constant_operand(node, slot).is_some()),
                _ => false,
            },
            Matcher::Name(regex) => {
                let constants = graph.operands(node).into_iter().flatten().filter(|v| graph.constant(*v).is_some());
                regex.is_match(graph.name(node)) || constants.into_iter().any(|v| regex.is_match(graph.name(v.node)))
            }
        }
    }
}

fn is_op_name(text: &str) -> bool {
    OPS.iter().any(|(name, _)| *name == text)
        || Unary::from_word(text).is_some()
        || Binary::from_word(text).is_some()
        || Variadic::from_word(text).is_some()
        || ReduceKind::from_word(text).is_some()
}

/// Whether a node is a convolution whose groups have one input channel each, and there are several.
pub fn is_depthwise(graph: &Graph, node: NodeId) -> bool {
    let Op::Conv(conv) = graph.op(node) else { return false };
    let weight = graph.operand(node, 1).and_then(|w| graph.ty(w).shape());
    conv.group > 1 && weight.and_then(|w| w.get(1)).and_then(|d| d.fixed()) == Some(1)
}

/// The options `only` and `protect` of a pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Nothing else may be touched.
    pub only: Option<Selector>,
    /// These may not.
    pub protect: Option<Selector>,
}

impl Selection {
    /// Whether a node may be touched.
    pub fn selects(&self, graph: &Graph, node: NodeId) -> bool {
        self.only.as_ref().is_none_or(|only| only.matches(graph, node))
            && !self.protect.as_ref().is_some_and(|protect| protect.matches(graph, node))
    }

    /// Items of both options that match no node, as written.
    pub fn unmatched(&self, graph: &Graph) -> Vec<&str> {
        [&self.only, &self.protect].into_iter().flatten().flat_map(|s| s.unmatched(graph)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_ir::op::Act;
    use optc_ir::{DType, Tensor, Type};

    #[test]
    fn writes_what_it_reads() {
        for text in ["conv", "conv,linear", "re:^a,b$;/head/*"] {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(Selector::from_value(&selector.to_value()).unwrap(), selector);
        }
        assert_eq!(Selector::parse("re:^a,b$;x").unwrap().0.len(), 2);
        assert!(Selector::parse(" , ").is_err());
        assert!(Selector::parse("re:(").unwrap_err().contains("regular expression"));
    }

    #[test]
    fn matches_kinds_and_names() {
        let mut g = Graph::new("g");
        let x = g.add_input("x", Type::Unknown);
        let w = g.add_tensor("fc.w", Tensor::zeros(DType::F32, [2, 2]));
        let ops = [Some(x.into()), Some(w.into())];
        let matmul = g.add("mm", optc_ir::op::MatMul::default(), &ops).unwrap();
        let linear = g.add("conv", optc_ir::op::Linear { act: Act::None }, &ops).unwrap();
        let other = g.add("other", optc_ir::op::MatMul::default(), &[Some(x.into()), Some(x.into())]).unwrap();
        let picked = |text: &str| {
            let s = Selector::parse(text).unwrap();
            [matmul, linear, other].map(|n| s.matches(&g, n))
        };
        assert_eq!(picked("linear"), [true, true, false]);
        assert_eq!(picked("matmul"), [true, false, true]);
        assert_eq!(picked("conv"), [false, false, false], "a kind comes before a name");
        assert_eq!(picked("fc.*"), [true, true, false], "a node is known by its constants, too");
        assert_eq!(picked("o?her;mm"), [true, false, true]);
        assert_eq!(picked("re:^(mm|other)$"), [true, false, true]);
        assert_eq!(Selector::parse("mm,cnov").unwrap().unmatched(&g), ["cnov"]);
    }
}
