//! The notation of pipelines, `fuse-activation,prune-magnitude{sparsity=0.8, only=[conv, linear]}`, and
//! typed access to the options in it.
//!
//! ```text
//! pipeline = [ pass { "," pass } ]
//! pass     = name [ "{" [ option { "," option } ] "}" ]
//! option   = key "=" value
//! value    = token | string | "[" [ value { "," value } ] "]" | token "(" [ value { "," value } ] ")"
//! string   = '"' { any character, '\' before '"' and '\' } '"'
//! ```
//!
//! A token is any run of characters but white space and `, = { } [ ] ( ) "`; one that reads as a number
//! is a number. Reading and writing are inverse: [`parse_passes`] of a printed pass gives it back.

use std::fmt::Write as _;

use optc_ir::op::{Attr, AttrValue};

use crate::error::OptionError;
use crate::selector::{Selection, Selector};

/// The options of one pass as they stand in a pipeline. [`Options::take`] hands them out one by one;
/// what is left in the end is an error that lists the keys the pass asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The name of the pass.
    pub pass: String,
    entries: Vec<(String, AttrValue)>,
    known: Vec<&'static str>,
}

impl Options {
    /// No options.
    pub fn none(pass: &str) -> Options {
        Options { pass: pass.to_owned(), entries: Vec::new(), known: Vec::new() }
    }

    /// The value of an option, if given.
    ///
    /// # Errors
    /// If the value is of another kind.
    pub fn take<T: Attr>(&mut self, key: &'static str) -> Result<Option<T>, OptionError> {
        let Some(value) = self.take_value(key) else { return Ok(None) };
        match T::from_value(&value) {
            Some(t) => Ok(Some(t)),
            None => Err(self.mismatch(key, T::EXPECTS, &value)),
        }
    }

    /// The value of an option, or its default.
    ///
    /// # Errors
    /// If the value is of another kind.
    pub fn take_or<T: Attr>(&mut self, key: &'static str, default: T) -> Result<T, OptionError> {
        Ok(self.take(key)?.unwrap_or(default))
    }

    /// A number within bounds, both included, if given.
    ///
    /// # Errors
    /// If the value is no number or out of bounds.
    pub fn take_within<T>(&mut self, key: &'static str, lo: T, hi: T) -> Result<Option<T>, OptionError>
    where
        T: Attr + PartialOrd + std::fmt::Display,
    {
        match self.take::<T>(key)? {
            Some(x) if !(x >= lo && x <= hi) => Err(self.invalid(key, format_args!("must be within {lo} and {hi}"))),
            x => Ok(x),
        }
    }

    /// One of a few words, if given.
    ///
    /// # Errors
    /// If the value is none of the words; the message lists them.
    pub fn take_word<T: Clone>(&mut self, key: &'static str, words: &[(&str, T)]) -> Result<Option<T>, OptionError> {
        let Some(value) = self.take_value(key) else { return Ok(None) };
        let found = match &value {
            AttrValue::Word(w) | AttrValue::Str(w) | AttrValue::Number(w) => words.iter().find(|(word, _)| word == w),
            _ => None,
        };
        match found {
            Some((_, t)) => Ok(Some(t.clone())),
            None => {
                let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(self.mismatch(key, &format!("one of {}", list.join(", ")), &value))
            }
        }
    }

    /// A text, quoted or a single token, if given.
    ///
    /// # Errors
    /// If the value is a list or a call.
    pub fn take_text(&mut self, key: &'static str) -> Result<Option<String>, OptionError> {
        match self.take_value(key) {
            None => Ok(None),
            Some(AttrValue::Word(text) | AttrValue::Str(text) | AttrValue::Number(text)) => Ok(Some(text)),
            Some(value) => Err(self.mismatch(key, "a text", &value)),
        }
    }

    /// A selector of nodes, if given.
    ///
    /// # Errors
    /// If it can't be understood.
    pub fn take_selector(&mut self, key: &'static str) -> Result<Option<Selector>, OptionError> {
        let Some(value) = self.take_value(key) else { return Ok(None) };
        Selector::from_value(&value).map(Some).map_err(|message| self.invalid(key, message))
    }

    /// The options `only` and `protect`.
    ///
    /// # Errors
    /// If one of them can't be understood.
    pub fn take_selection(&mut self) -> Result<Selection, OptionError> {
        Ok(Selection { only: self.take_selector("only")?, protect: self.take_selector("protect")? })
    }

    /// The value of an option as written, if given.
    pub fn take_value(&mut self, key: &'static str) -> Option<AttrValue> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let at = self.entries.iter().position(|(k, _)| k == key)?;
        Some(self.entries.remove(at).1)
    }

    /// Checks that every option was asked for.
    ///
    /// # Errors
    /// Naming the first that was not, and those that were.
    pub fn finish(&self) -> Result<(), OptionError> {
        let Some((key, _)) = self.entries.first() else { return Ok(()) };
        let valid = match self.known.as_slice() {
            [] => "it takes none".to_owned(),
            known => format!("valid are {}", known.join(", ")),
        };
        Err(OptionError(format!("{}: unknown option {key}; {valid}", self.pass)))
    }

    /// The keys asked for so far.
    pub fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// An error about the value of an option.
    pub fn invalid(&self, key: &str, message: impl std::fmt::Display) -> OptionError {
        OptionError(format!("{}: option {key} {message}", self.pass))
    }

    fn mismatch(&self, key: &str, expects: &str, value: &AttrValue) -> OptionError {
        self.invalid(key, format_args!("must be {expects}, not {}", print_value(value)))
    }
}

/// Writes the options of a pass that differ from their defaults, for [`crate::Pass::options`].
///
/// ```
/// use optc_passes::options::Written;
/// let text = Written::default().option("sparsity", &0.8f32, &0.5).option("rows", &4usize, &4).finish();
/// assert_eq!(text, "sparsity=0.8");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Written(Vec<String>);

impl Written {
    /// An option with its default.
    #[must_use]
    pub fn option<T: Attr>(self, key: &str, value: &T, default: &T) -> Written {
        if value == default { self } else { self.value(key, &value.to_value()) }
    }

    /// An option that is one word.
    #[must_use]
    pub fn word(self, key: &str, word: &str, default: &str) -> Written {
        if word == default { self } else { self.value(key, &token_value(word)) }
    }

    /// The options `only` and `protect`.
    #[must_use]
    pub fn selection(mut self, selection: &Selection) -> Written {
        for (key, selector) in [("only", &selection.only), ("protect", &selection.protect)] {
            if let Some(selector) = selector {
                self = self.value(key, &selector.to_value());
            }
        }
        self
    }

    /// An option in any case.
    #[must_use]
    pub fn value(mut self, key: &str, value: &AttrValue) -> Written {
        self.0.push(format!("{key}={}", print_value(value)));
        self
    }

    /// The options, separated by commas.
    pub fn finish(self) -> String {
        self.0.join(", ")
    }
}

/// The text of a value; [`parse_passes`] reads it back.
pub fn print_value(value: &AttrValue) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

fn write_value(out: &mut String, value: &AttrValue) {
    match value {
        AttrValue::Number(n) => out.push_str(n),
        AttrValue::Word(w) if is_token(w) && token_value(w) == *value => out.push_str(w),
        AttrValue::Word(s) | AttrValue::Str(s) => write_quoted(out, s),
        AttrValue::List(items) => {
            out.push('[');
            write_items(out, items);
            out.push(']');
        }
        AttrValue::Call(name, items) => {
            let _ = write!(out, "{name}(");
            write_items(out, items);
            out.push(')');
        }
    }
}

fn write_quoted(out: &mut String, s: &str) {
    out.push('"');
    for c in s.chars() {
        if c == '"' || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

fn write_items(out: &mut String, items: &[AttrValue]) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write_value(out, item);
    }
}

fn is_token_char(c: char) -> bool {
    !c.is_whitespace() && !",={}[]()\"".contains(c)
}

fn is_token(s: &str) -> bool {
    !s.is_empty() && s.chars().all(is_token_char)
}

/// A token as a number if it reads as one, as a word otherwise.
fn token_value(token: &str) -> AttrValue {
    // `inf` and `nan` are words: a name that happens to read as a float must stay a name.
    let numeric = token.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    if numeric && token.parse::<f64>().is_ok() {
        AttrValue::Number(token.to_owned())
    } else {
        AttrValue::Word(token.to_owned())
    }
}

/// Reads a pass list. The names are not looked up.
///
/// # Errors
/// Where the text stops making sense.
pub fn parse_passes(text: &str) -> Result<Vec<Options>, OptionError> {
    let mut reader = Reader { text, at: 0 };
    let mut passes = Vec::new();
    reader.skip_space();
    while reader.at < text.len() {
        let pass = reader.token("the name of a pass")?;
        let mut options = Options::none(&pass);
        if reader.eat('{') {
            while !reader.eat('}') {
                let key = reader.token("the name of an option or `}`")?;
                reader.expect('=')?;
                let value = reader.value(MAX_DEPTH)?;
                if options.entries.iter().any(|(k, _)| *k == key) {
                    return Err(OptionError(format!("{pass}: option {key} is given twice")));
                }
                options.entries.push((key, value));
                if !reader.at_char('}') {
                    reader.expect(',')?;
                }
            }
        }
        passes.push(options);
        if reader.at < text.len() {
            reader.expect(',')?;
        }
    }
    Ok(passes)
}

/// Lists nest this deep at most, so that no input exhausts the stack.
const MAX_DEPTH: usize = 16;

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn at_char(&self, c: char) -> bool {
        self.rest().starts_with(c)
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.at_char(c);
        if found {
            self.at += c.len_utf8();
            self.skip_space();
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<(), OptionError> {
        if self.eat(c) { Ok(()) } else { Err(self.error(&format!("`{c}`"))) }
    }

    fn token(&mut self, expected: &str) -> Result<String, OptionError> {
        let rest = self.rest();
        let token = &rest[..rest.find(|c| !is_token_char(c)).unwrap_or(rest.len())];
        if token.is_empty() {
            return Err(self.error(expected));
        }
        let token = token.to_owned();
        self.at += token.len();
        self.skip_space();
        Ok(token)
    }

    fn value(&mut self, depth: usize) -> Result<AttrValue, OptionError> {
        if depth == 0 {
            return Err(OptionError(format!("options: lists nest more than {MAX_DEPTH} deep")));
        }
        if self.at_char('"') {
            return self.string();
        }
        if self.eat('[') {
            return Ok(AttrValue::List(self.items(']', depth)?));
        }
        let token = self.token("a value")?;
        if self.eat('(') { Ok(AttrValue::Call(token, self.items(')', depth)?)) } else { Ok(token_value(&token)) }
    }

    fn items(&mut self, close: char, depth: usize) -> Result<Vec<AttrValue>, OptionError> {
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(self.value(depth - 1)?);
            if !self.at_char(close) {
                self.expect(',')?;
            }
        }
        Ok(items)
    }

    fn string(&mut self) -> Result<AttrValue, OptionError> {
        let mut s = String::new();
        let mut escaped = false;
        for (i, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => {
                    s.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.at += i + 1;
                    self.skip_space();
                    return Ok(AttrValue::Str(s));
                }
                _ => s.push(c),
            }
        }
        Err(self.error("a closing quotation mark"))
    }

    fn error(&self, expected: &str) -> OptionError {
        let found = match self.rest().chars().next() {
            None => "the end".to_owned(),
            Some(_) => format!("`{}`", self.rest().chars().take(16).collect::<String>()),
        };
        OptionError(format!("pipeline: expected {expected} at character {}, found {found}", self.column()))
    }

    fn column(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(passes: &[Options]) -> String {
        let print_one = |o: &Options| {
            let options = o.entries.iter().fold(Written::default(), |w, (k, v)| w.value(k, v)).finish();
            if options.is_empty() { o.pass.clone() } else { format!("{}{{{options}}}", o.pass) }
        };
        passes.iter().map(print_one).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn printed_lists_read_back() {
        for text in [
            "",
            "a",
            "a,b{x=1},c",
            "p{sparsity=0.8, only=[conv, linear], name=\"a \\\"b\\\" \\\\\", act=clip(-1, 6)}",
            "p{pattern=2:4, block=4x1, empty=[], nested=[[1], [2, x(y)]], q=\"\"}",
            "p{x=1e-3, y=-inf, z=\"1\", glob=/layers.*/w?}",
        ] {
            let passes = parse_passes(text).unwrap();
            assert_eq!(print(&passes), text);
            assert_eq!(parse_passes(&print(&passes)).unwrap(), passes);
        }
        assert_eq!(print(&parse_passes(" a , b { x = 1 , } , ").unwrap()), "a,b{x=1}");
    }

    #[test]
    fn malformed_lists_are_errors_with_a_place() {
        for (text, message) in [
            (",", "expected the name of a pass at character 1, found `,`"),
            ("a b", "expected `,` at character 3, found `b`"),
            ("a{x}", "expected `=` at character 4, found `}`"),
            ("a{x=", "expected a value at character 5, found the end"),
            ("a{x=1", "expected `,` at character 6, found the end"),
            ("a{x=1, x=2}", "a: option x is given twice"),
            ("a{x=\"1", "expected a closing quotation mark at character 5"),
            ("a{=1}", "expected the name of an option or `}` at character 3"),
        ] {
            let error = parse_passes(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
        assert!(parse_passes(&format!("a{{x={}", "[".repeat(100_000))).is_err());
    }

    #[test]
    fn access_is_typed() {
        let mut o = parse_passes("p{a=0.5, b=3, mode=x, bad=[1], far=7, typo=1}").unwrap().remove(0);
        assert_eq!(o.take::<f32>("a"), Ok(Some(0.5)));
        assert_eq!(o.take_or::<usize>("b", 1), Ok(3));
        assert_eq!(o.take_or::<usize>("absent", 1), Ok(1));
        assert_eq!(o.take_word("mode", &[("x", 1), ("y", 2)]), Ok(Some(1)));
        let error = o.take::<bool>("bad").unwrap_err();
        assert_eq!(error.to_string(), "p: option bad must be true or false, not [1]");
        let error = o.take_within("far", 1usize, 4).unwrap_err();
        assert_eq!(error.to_string(), "p: option far must be within 1 and 4");
        let error = o.finish().unwrap_err();
        assert_eq!(error.to_string(), "p: unknown option typo; valid are a, b, absent, mode, bad, far");
    }
}
