//! Text to tokens, one at a time: a graph with all its weights is too long to keep as tokens.

use super::is_bare;

/// One token. Whether a bare word is a name, a number or a keyword is for the parser to say.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A run of bare characters.
    Bare(&'a str),
    /// A quoted string, its escapes resolved.
    Str(String),
    /// One of `( ) { } [ ] , = : @ % # ?`.
    Punct(char),
    /// `->`
    Arrow,
    /// The end of the text.
    End,
}

impl Token<'_> {
    /// The token as error messages name it.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Bare(word) if word.len() > 40 => "a long word".to_owned(),
            Token::Bare(word) => format!("`{word}`"),
            Token::Str(_) => "a quoted string".to_owned(),
            Token::Punct(c) => format!("`{c}`"),
            Token::Arrow => "`->`".to_owned(),
            Token::End => "the end of the text".to_owned(),
        }
    }
}

/// What is wrong, and the byte where.
#[derive(Debug)]
pub(super) struct LexError {
    /// Byte offset into the text.
    pub(super) at: usize,
    /// What is wrong.
    pub(super) message: String,
}

/// Reads tokens from a text.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    src: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer at the beginning of a text.
    pub(super) fn new(src: &'a str) -> Lexer<'a> {
        Lexer { src, at: 0 }
    }

    /// The text between two byte offsets that tokens began or ended at.
    pub(super) fn slice(&self, from: usize, to: usize) -> &'a str {
        self.src.get(from..to).unwrap_or_default()
    }

    /// Where the last token ended.
    pub(super) fn end(&self) -> usize {
        self.at
    }

    /// The comment that follows on the line of byte `at`, if nothing else does.
    pub(super) fn comment_after(&self, at: usize) -> &'a str {
        let line = self.src.get(at..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        line.trim_start_matches([' ', '\t']).strip_prefix("//").unwrap_or_default().trim()
    }

    /// Line and column of a byte offset, both from 1.
    pub(super) fn position(&self, at: usize) -> (usize, usize) {
        let before = self.src.get(..at).unwrap_or(self.src);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The next token and the byte where it begins.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), LexError> {
        self.skip_blanks();
        let start = self.at;
        let rest = &self.src[start..];
        let Some(c) = rest.chars().next() else { return Ok((start, Token::End)) };
        if rest.starts_with("->") {
            self.at += 2;
            return Ok((start, Token::Arrow));
        }
        if is_bare(c) {
            let len = rest.find(|c| !is_bare(c)).unwrap_or(rest.len());
            let len = rest[..len].find("//").unwrap_or(len);
            self.at += len;
            return Ok((start, Token::Bare(&rest[..len])));
        }
        if "(){}[],=:@%#?".contains(c) {
            self.at += 1;
            return Ok((start, Token::Punct(c)));
        }
        if c == '"' {
            return self.string();
        }
        Err(LexError { at: start, message: format!("unexpected character {c:?}") })
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.src[self.at..];
            let blank = rest.len() - rest.trim_start().len();
            self.at += blank;
            if !self.src[self.at..].starts_with("//") {
                return;
            }
            let rest = &self.src[self.at..];
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    fn string(&mut self) -> Result<(usize, Token<'a>), LexError> {
        let start = self.at;
        let unterminated = || LexError { at: start, message: "this string does not end on its line".to_owned() };
        let mut text = String::new();
        let mut chars = self.src[start + 1..].char_indices();
        while let Some((i, c)) = chars.next() {
            let at = start + 1 + i;
            match c {
                '"' => {
                    self.at = at + 1;
                    return Ok((start, Token::Str(text)));
                }
                '\n' => return Err(unterminated()),
                '\\' => {
                    let wrong = |expected: &str| LexError { at, message: format!("expected {expected} after `\\`") };
                    match chars.next().map(|(_, c)| c) {
                        Some('"') => text.push('"'),
                        Some('\\') => text.push('\\'),
                        Some('n') => text.push('\n'),
                        Some('t') => text.push('\t'),
                        Some('u') => {
                            let hex = chars.as_str().strip_prefix('{').and_then(|rest| rest.split_once('}'));
                            let (hex, _) = hex.filter(|(hex, _)| hex.len() <= 6).ok_or_else(|| wrong("`u{…}`"))?;
                            let code = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
                            text.push(code.ok_or_else(|| wrong("the hexadecimal code of a character"))?);
                            chars.nth(hex.len() + 1);
                        }
                        _ => return Err(wrong("one of `\"`, `\\`, `n`, `t`, `u{…}`")),
                    }
                }
                c => text.push(c),
            }
        }
        Err(unterminated())
    }
}
