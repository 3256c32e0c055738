//! Text to graphs: recursive descent with one token of look-ahead.

use std::collections::HashMap;

use super::lex::{LexError, Lexer, Token};
use crate::error::ParseError;
use crate::graph::{Graph, MAX_SLOTS, NodeId, ValueId};
use crate::op::infer::result_count;
use crate::op::{AttrValue, Op, Opaque};
use crate::types::{DType, Dim, MAX_ELEMENTS, Symbol, TensorType, Type};

/// Reads a graph. Every node's types are inferred; where the text states types, they must agree.
///
/// # Errors
/// [`ParseError`] at the first place that can't be understood or does not fit.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    read(text, true)
}

/// Reads a graph without judging types: where the text states them they stand as written, and operands
/// need not fit. The verifier says what is wrong with the graph.
///
/// # Errors
/// [`ParseError`] at the first place that can't be understood.
pub fn parse_unchecked(text: &str) -> Result<Graph, ParseError> {
    read(text, false)
}

fn read(text: &str, checked: bool) -> Result<Graph, ParseError> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        token: Token::End,
        at: 0,
        end: 0,
        generated: 0,
        graph: Graph::new(""),
        values: HashMap::new(),
        checked,
    };
    match parser.advance().and_then(|()| parser.file()) {
        Ok(()) => Ok(parser.graph),
        Err(LexError { at, message }) => {
            let (line, column) = parser.lexer.position(at);
            Err(ParseError { line, column, message })
        }
    }
}

/// What went wrong at which byte; the public error has line and column.
pub(super) type Parsed<T> = Result<T, LexError>;

/// Lists of lists may nest this deep.
const MAX_DEPTH: usize = 32;

pub(super) struct Parser<'a> {
    pub(super) lexer: Lexer<'a>,
    /// The next token.
    pub(super) token: Token<'a>,
    /// The byte where it begins.
    pub(super) at: usize,
    /// The byte where the token before it ended.
    pub(super) end: usize,
    /// Bytes of elements that the text did not spell out so far.
    pub(super) generated: usize,
    graph: Graph,
    values: HashMap<String, NodeId>,
    checked: bool,
}

/// A name to the left of `=`.
struct Defined {
    at: usize,
    name: String,
}

impl<'a> Parser<'a> {
    // Tokens.

    pub(super) fn advance(&mut self) -> Parsed<()> {
        self.end = self.lexer.end();
        (self.at, self.token) = self.lexer.next()?;
        Ok(())
    }

    pub(super) fn error<T>(&self, at: usize, message: impl Into<String>) -> Parsed<T> {
        Err(LexError { at, message: message.into() })
    }

    pub(super) fn expected<T>(&self, what: &str) -> Parsed<T> {
        self.error(self.at, format!("expected {what}, found {}", self.token.describe()))
    }

    pub(super) fn at_punct(&self, c: char) -> bool {
        self.token == Token::Punct(c)
    }

    /// Takes the character if it comes next.
    pub(super) fn eat(&mut self, c: char) -> Parsed<bool> {
        let found = self.at_punct(c);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    pub(super) fn expect(&mut self, c: char) -> Parsed<()> {
        if self.eat(c)? { Ok(()) } else { self.expected(&format!("`{c}`")) }
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.token != Token::Bare(word) {
            return self.expected(&format!("`{word}`"));
        }
        self.advance()
    }

    pub(super) fn bare(&mut self, what: &str) -> Parsed<&'a str> {
        let Token::Bare(word) = self.token else { return self.expected(what) };
        self.advance()?;
        Ok(word)
    }

    fn name(&mut self, what: &str) -> Parsed<String> {
        let name = match &mut self.token {
            Token::Bare(word) => (*word).to_owned(),
            Token::Str(text) => std::mem::take(text),
            _ => return self.expected(what),
        };
        self.advance()?;
        Ok(name)
    }

    /// Items between commas up to `close`, which is taken; `open` has been.
    pub(super) fn list<T>(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        if self.eat(close)? {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.eat(close)? {
                return Ok(items);
            }
            if !self.eat(',')? {
                return self.expected(&format!("`,` or `{close}`"));
            }
        }
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self, what: &str) -> Parsed<T> {
        if let Token::Bare(word) = self.token
            && let Ok(number) = word.parse()
        {
            self.advance()?;
            return Ok(number);
        }
        self.expected(what)
    }

    // The graph.

    fn file(&mut self) -> Parsed<()> {
        self.expect_word("graph")?;
        self.expect('@')?;
        self.graph.name = self.name("the name of the graph")?;
        self.expect('(')?;
        let inputs = self.list(')', |p| {
            p.expect('%')?;
            let at = p.at;
            let name = p.fresh_name()?;
            p.expect(':')?;
            Ok((at, name, p.ty()?))
        })?;
        for (at, name, ty) in inputs {
            let node = self.graph.add_input(&name, ty);
            self.define(at, name, node)?;
        }
        if self.token != Token::Arrow {
            return self.expected("`->`");
        }
        self.advance()?;
        self.expect('(')?;
        let results = self.list(')', |p| {
            let name = p.name("the name of a result")?;
            let typed = p.eat(':')?;
            Ok((p.at, name, if typed { Some(p.ty()?) } else { None }))
        })?;
        self.expect('{')?;
        while self.at_punct('%') {
            self.node()?;
        }
        self.ret(&results)?;
        self.expect('}')?;
        if self.token != Token::End { self.expected("the end of the text after the graph") } else { Ok(()) }
    }

    fn ret(&mut self, results: &[(usize, String, Option<Type>)]) -> Parsed<()> {
        let at = self.at;
        if self.token != Token::Bare("return") {
            return self.expected("a node such as `%y = relu(%x)`, or `return`");
        }
        self.advance()?;
        let mut values = Vec::new();
        if self.at_punct('%') {
            loop {
                values.push(self.used_value()?);
                if !self.eat(',')? {
                    break;
                }
            }
        }
        if values.len() != results.len() || values.len() > MAX_SLOTS {
            return self
                .error(at, format!("{} for {}", counted(values.len(), "value"), counted(results.len(), "result")));
        }
        for (value, (at, name, ty)) in values.into_iter().zip(results) {
            let found = self.graph.ty(value);
            if let Some(ty) = ty.as_ref().filter(|ty| self.checked && *ty != found) {
                return self.error(*at, format!("result {name} is returned as {found}, not {ty}"));
            }
            self.graph.add_result(name, value);
        }
        Ok(())
    }

    fn node(&mut self) -> Parsed<()> {
        let mut names: Vec<Defined> = Vec::new();
        loop {
            self.expect('%')?;
            let at = self.at;
            let name = if names.is_empty() { self.fresh_name()? } else { self.name("a name")? };
            let result = self.result_index()?;
            if names.first().is_some_and(|first| first.name != name) {
                return self.error(at, "all results of a node have its name, as in `%a#0, %a#1 = …`");
            }
            if result.unwrap_or(0) != names.len() || (result.is_none() && !names.is_empty()) {
                return self.error(at, format!("expected result `#{}`", names.len()));
            }
            names.push(Defined { at, name });
            if !self.eat(',')? {
                break;
            }
        }
        self.expect('=')?;
        let at = self.at;
        let (op, operands) = match self.bare("an operator")? {
            "const" => (self.constant()?, Vec::new()),
            "opaque" => self.opaque(at)?,
            word => self.operation(at, word)?,
        };
        self.insert(at, &names, op, &operands)
    }

    /// Operands and attributes of an ordinary operator.
    fn operation(&mut self, at: usize, word: &str) -> Parsed<(Op, Vec<Option<ValueId>>)> {
        let operands = self.operands()?;
        let (places, fields): (Vec<usize>, Vec<_>) = self.fields()?.into_iter().unzip();
        match Op::from_fields(word, &fields) {
            Ok(Some(op)) => Ok((op, operands)),
            Ok(None) => self.error(at, format!("unknown operator `{word}`")),
            Err(message) => {
                let bad = (0..fields.len()).find(|&i| Op::from_fields(word, &fields[..=i]).is_err());
                let place = bad.and_then(|i| places.get(i).copied()).unwrap_or(at);
                self.error(place, format!("{word}: {message}"))
            }
        }
    }

    /// Operands and attributes of an opaque node; its types follow.
    fn opaque(&mut self, at: usize) -> Parsed<(Op, Vec<Option<ValueId>>)> {
        let operands = self.operands()?;
        let mut opaque =
            Opaque { domain: String::new(), op_type: String::new(), results: Vec::new(), payload: Vec::new() };
        for (place, (key, value)) in self.fields()? {
            let AttrValue::Str(text) = value else {
                return self.error(place, format!("opaque: {key} must be a quoted string"));
            };
            match key.as_str() {
                "domain" => opaque.domain = text,
                "type" => opaque.op_type = text,
                "payload" => match from_hex(&text) {
                    Some(bytes) => opaque.payload = bytes,
                    None => return self.error(place, "opaque: payload must be bytes in hexadecimal"),
                },
                _ => return self.error(place, format!("opaque: unknown attribute {key}")),
            }
        }
        if opaque.op_type.is_empty() {
            return self.error(at, "opaque: attribute type is missing");
        }
        Ok((Op::Opaque(opaque.into()), operands))
    }

    /// The types written after the colon, if any, and the node itself.
    fn insert(&mut self, at: usize, names: &[Defined], mut op: Op, operands: &[Option<ValueId>]) -> Parsed<()> {
        let types = self.node_types()?;
        if let Op::Opaque(opaque) = &mut op {
            let Some(types) = &types else { return self.expected("`:` and the result types of the opaque node") };
            std::sync::Arc::make_mut(opaque).results = types.iter().map(|(_, ty)| ty.clone()).collect();
        }
        let count = result_count(&op);
        if count > MAX_SLOTS {
            return self.error(at, format!("{count} results, at most {MAX_SLOTS} possible"));
        }
        if let Some(extra) = names.get(count.max(1)) {
            return self.error(extra.at, format!("{} has {}", op.name(), counted(count, "result")));
        }
        let written = types.as_ref().map_or(&[][..], |types| types.as_slice());
        let named = if count == 0 { 0 } else { names.len() };
        if types.is_some() && written.len() != named {
            return self
                .error(at, format!("{} for {}", counted(written.len(), "type"), counted(named, "named result")));
        }
        let [Defined { at: name_at, name, .. }, ..] = names else { unreachable!("a node has a name") };
        let node = if self.checked {
            let operator = op.name().to_owned();
            match self.graph.add(name, op, operands) {
                Ok(node) => node,
                Err(e) => return self.error(at, format!("{operator}: {e}")),
            }
        } else {
            let claimed: Vec<Type> = written.iter().map(|(_, ty)| ty.clone()).collect();
            self.graph.add_claiming(name, op, operands, &claimed)
        };
        for (i, (ty_at, ty)) in written.iter().enumerate() {
            let found = self.graph.ty(node.result(i));
            if found != ty {
                return self.error(*ty_at, format!("{} gives {found}, not {ty}", self.graph.op(node).name()));
            }
        }
        self.define(*name_at, name.clone(), node)
    }

    fn node_types(&mut self) -> Parsed<Option<Vec<(usize, Type)>>> {
        if !self.eat(':')? {
            return Ok(None);
        }
        if self.eat('(')? {
            self.expect(')')?;
            return Ok(Some(Vec::new()));
        }
        let mut types = vec![(self.at, self.ty()?)];
        while self.eat(',')? {
            types.push((self.at, self.ty()?));
        }
        Ok(Some(types))
    }

    // Names and values.

    fn fresh_name(&mut self) -> Parsed<String> {
        let at = self.at;
        let name = self.name("a name")?;
        if name.is_empty() {
            return self.error(at, "a name must not be empty");
        }
        if self.values.contains_key(&name) {
            return self.error(at, format!("%{} is defined twice", super::Name(&name)));
        }
        Ok(name)
    }

    fn define(&mut self, at: usize, name: String, node: NodeId) -> Parsed<()> {
        if self.values.contains_key(&name) {
            return self.error(at, format!("%{} is defined twice", super::Name(&name)));
        }
        self.values.insert(name, node);
        Ok(())
    }

    fn result_index(&mut self) -> Parsed<Option<usize>> {
        if self.eat('#')? { self.number("the number of a result").map(Some) } else { Ok(None) }
    }

    fn used_value(&mut self) -> Parsed<ValueId> {
        self.expect('%')?;
        let at = self.at;
        let name = self.name("a name")?;
        let result = self.result_index()?.unwrap_or(0);
        let shown = super::Name(&name);
        let Some(&node) = self.values.get(&name) else {
            return self.error(at, format!("%{shown} is not defined above"));
        };
        if result >= self.graph.result_count(node) {
            return self.error(at, format!("%{shown} has {}", counted(self.graph.result_count(node), "result")));
        }
        Ok(node.result(result))
    }

    fn operands(&mut self) -> Parsed<Vec<Option<ValueId>>> {
        let at = self.at;
        self.expect('(')?;
        let mut operands = self.list(')', |p| {
            if p.token == Token::Bare("_") {
                p.advance()?;
                return Ok(None);
            }
            p.used_value().map(Some)
        })?;
        if operands.len() > MAX_SLOTS {
            return self.error(at, format!("{} operands, at most {MAX_SLOTS} possible", operands.len()));
        }
        while operands.last() == Some(&None) {
            operands.pop();
        }
        Ok(operands)
    }

    // Attributes and types.

    fn fields(&mut self) -> Parsed<Vec<(usize, (String, AttrValue))>> {
        if !self.eat('{')? {
            return Ok(Vec::new());
        }
        let mut keys = std::collections::HashSet::new();
        self.list('}', |p| {
            let at = p.at;
            let key = p.bare("the name of an attribute")?;
            if !keys.insert(key) {
                return p.error(at, format!("attribute {key} is given twice"));
            }
            p.expect('=')?;
            Ok((at, (key.to_owned(), p.attr(0)?)))
        })
    }

    pub(super) fn attr(&mut self, depth: usize) -> Parsed<AttrValue> {
        if depth > MAX_DEPTH {
            return self.error(self.at, "nested too deep");
        }
        match &mut self.token {
            Token::Str(text) => {
                let text = std::mem::take(text);
                self.advance()?;
                Ok(AttrValue::Str(text))
            }
            Token::Punct('[') => {
                self.advance()?;
                Ok(AttrValue::List(self.list(']', |p| p.attr(depth + 1))?))
            }
            Token::Bare(word) => {
                let word = (*word).to_owned();
                self.advance()?;
                let number = word.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
                if number || word == "inf" || word == "nan" {
                    Ok(AttrValue::Number(word))
                } else if self.eat('(')? {
                    Ok(AttrValue::Call(word, self.list(')', |p| p.attr(depth + 1))?))
                } else {
                    Ok(AttrValue::Word(word))
                }
            }
            _ => self.expected("a number, a word, a string or a list"),
        }
    }

    fn ty(&mut self) -> Parsed<Type> {
        if self.eat('?')? {
            return Ok(Type::Unknown);
        }
        self.tensor_type().map(Type::Tensor)
    }

    pub(super) fn tensor_type(&mut self) -> Parsed<TensorType> {
        let at = self.at;
        let word = if let Token::Bare(word) = self.token { word } else { "" };
        let Some(dtype) = DType::from_name(word) else { return self.expected("a type such as `f32[N, 3]` or `?`") };
        self.advance()?;
        self.expect('[')?;
        let shape = self.list(']', Self::dim)?;
        let ty = TensorType { dtype, shape };
        let elements = ty.shape.iter().filter_map(Dim::fixed).try_fold(1usize, |n, d| n.checked_mul(d.max(1)));
        if elements.is_none_or(|n| n > MAX_ELEMENTS) {
            return self.error(at, format!("type {ty} is too large"));
        }
        Ok(ty)
    }

    fn dim(&mut self) -> Parsed<Dim> {
        if self.eat('?')? {
            return Ok(Dim::Any);
        }
        let what = "an extent: a number, a symbol or `?`";
        match self.token {
            Token::Bare(word) if !word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
                self.number(what).map(Dim::Fixed)
            }
            _ => Ok(Dim::Sym(Symbol::new(&self.name(what)?))),
        }
    }
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}
