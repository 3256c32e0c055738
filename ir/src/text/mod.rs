#![doc = include_str!("../../TEXT.md")]

mod encoding;
mod generate;
mod lex;
mod parse;
mod parse_constant;
mod print;
mod value;

use std::fmt::{self, Write};

pub use parse::{parse, parse_unchecked};
pub use print::{PrintOptions, Printer, print};

/// A name as the text writes it after `%`, after `@` and before `:`; bare where it can be, quoted
/// otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a>(pub &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() && self.0.chars().all(is_bare) && !self.0.contains("//") {
            return f.write_str(self.0);
        }
        write!(f, "{}", Quoted(self.0))
    }
}

/// A name where a number could stand as well, such as the symbol of a dimension: bare only if it starts
/// with a letter or `_`.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a>(pub &'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return write!(f, "{}", Name(self.0));
        }
        write!(f, "{}", Quoted(self.0))
    }
}

/// A string in quotes; the lexer reads back exactly what this escapes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                c if is_hidden(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// The characters a name may have without quotes. Numbers are made of them too.
fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

/// Characters that would not show, or would change how their neighbours show: controls, line separators
/// and the marks that reverse the direction of text.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests;
