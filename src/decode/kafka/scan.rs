//! JSON read where it lies: strings and numbers are borrowed, nested values are skipped as they are.
//!
//! Format: RFC 8259. Values that are looked into are checked in full; those skipped only in their
//! strings and brackets. A name that stands twice in an object counts as its last value, which is
//! what `jsonb` and Kafka Connect's own reader do.

use super::datum::Value;
use super::error::Wrong;
use std::borrow::Cow;

/// How deep JSON and Avro values may be nested.
pub const DEPTH: u32 = 128;

const BAD: Wrong = Wrong("valid JSON");
const TOO_DEEP: Wrong = Wrong("at most 128 levels of nesting");
const SURROGATE: Wrong = Wrong("text without a lone surrogate");

/// A cursor over JSON text.
#[derive(Clone, Copy)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at the front of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is not white space, not consumed.
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Consumes `byte`, which must come next.
    pub fn eat(&mut self, byte: u8) -> Result<(), Wrong> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(BAD)
        }
    }

    /// Consumes `prefix` if the rest starts with exactly that.
    pub fn eat_exact(&mut self, prefix: &str) -> bool {
        let hit = self
            .text
            .as_bytes()
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(prefix.as_bytes()));
        if hit {
            self.at += prefix.len();
        }
        hit
    }

    /// Checks that only white space is left.
    pub fn finish(mut self) -> Result<(), Wrong> {
        if self.peek().is_none() { Ok(()) } else { Err(BAD) }
    }

    fn slice(&self, from: usize) -> Result<&'a str, Wrong> {
        self.text.get(from..self.at).ok_or(BAD)
    }

    /// The next value; arrays and objects come as [`Value::Json`].
    pub fn value(&mut self) -> Result<Value<'a>, Wrong> {
        match self.peek().ok_or(BAD)? {
            b'"' => self.string().map(Value::Text),
            b'{' | b'[' => {
                let from = self.at;
                self.skip_nested()?;
                self.slice(from).map(Value::Json)
            }
            b'-' | b'0'..=b'9' => self.number().map(Value::Number),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            _ => Err(BAD),
        }
    }

    /// Skips the next value.
    pub fn skip(&mut self) -> Result<(), Wrong> {
        match self.peek().ok_or(BAD)? {
            b'"' => {
                self.at += 1;
                self.skip_string()
            }
            _ => self.value().map(drop),
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, Wrong> {
        if self.eat_exact(word) { Ok(value) } else { Err(BAD) }
    }

    fn number(&mut self) -> Result<&'a str, Wrong> {
        let bytes = self.text.as_bytes();
        let from = self.at;
        let digits = |at: &mut usize| {
            let start = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at - start
        };
        let mut at = from + usize::from(bytes.get(from) == Some(&b'-'));
        let zero = bytes.get(at) == Some(&b'0');
        let whole = digits(&mut at);
        if whole == 0 || (zero && whole > 1) {
            return Err(BAD);
        }
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            if digits(&mut at) == 0 {
                return Err(BAD);
            }
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            if digits(&mut at) == 0 {
                return Err(BAD);
            }
        }
        self.at = at;
        self.slice(from)
    }

    /// The next value, which must be a string.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Wrong> {
        self.eat(b'"')?;
        let from = self.at;
        match self.special()? {
            b'"' => {
                let text = self.slice(from)?;
                self.at += 1;
                Ok(Cow::Borrowed(text))
            }
            _ => self.unescape(from).map(Cow::Owned),
        }
    }

    /// Moves to the next quote or backslash of a string and tells which it is.
    fn special(&mut self) -> Result<u8, Wrong> {
        const ONES: u64 = u64::MAX / 255;
        const HIGH: u64 = ONES << 7;
        let bytes = self.text.as_bytes();
        // Eight bytes at a time: a byte's high bit is set where it is a quote, a backslash or a
        // control character. Only bits behind the first one set can be false.
        while let Some(chunk) = bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*chunk);
            let zero_in = |x: u64| x.wrapping_sub(ONES) & !x;
            let quote = zero_in(word ^ (ONES * u64::from(b'"')));
            let backslash = zero_in(word ^ (ONES * u64::from(b'\\')));
            let control = word.wrapping_sub(ONES * 0x20) & !word;
            let hits = (quote | backslash | control) & HIGH;
            if hits != 0 {
                self.at += (hits.trailing_zeros() / 8) as usize;
                break;
            }
            self.at += 8;
        }
        loop {
            match bytes.get(self.at) {
                Some(byte @ (b'"' | b'\\')) => return Ok(*byte),
                None | Some(0..0x20) => return Err(BAD),
                Some(_) => self.at += 1,
            }
        }
    }

    fn skip_string(&mut self) -> Result<(), Wrong> {
        loop {
            match self.special()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => self.at += 2,
            }
        }
    }

    fn unescape(&mut self, from: usize) -> Result<String, Wrong> {
        let mut text = String::from(self.slice(from)?);
        loop {
            let start = self.at;
            let special = self.special()?;
            text.push_str(self.slice(start)?);
            self.at += 1;
            if special == b'"' {
                return Ok(text);
            }
            let escaped = *self.text.as_bytes().get(self.at).ok_or(BAD)?;
            self.at += 1;
            text.push(match escaped {
                b'"' | b'\\' | b'/' => char::from(escaped),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.unicode()?,
                _ => return Err(BAD),
            });
        }
    }

    fn unicode(&mut self) -> Result<char, Wrong> {
        let first = self.hex4()?;
        let code = match first {
            0xD800..=0xDBFF => {
                if !self.eat_exact("\\u") {
                    return Err(SURROGATE);
                }
                match self.hex4()? {
                    second @ 0xDC00..=0xDFFF => {
                        0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                    }
                    _ => return Err(SURROGATE),
                }
            }
            code => code,
        };
        char::from_u32(code).ok_or(SURROGATE)
    }

    fn hex4(&mut self) -> Result<u32, Wrong> {
        let digits = self
            .text
            .as_bytes()
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<4>())
            .ok_or(BAD)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, digit| {
            char::from(*digit).to_digit(16).map(|digit| code * 16 + digit).ok_or(BAD)
        })
    }

    /// Skips an array or object without recursion: one bit a level tells which it is.
    fn skip_nested(&mut self) -> Result<(), Wrong> {
        let bytes = self.text.as_bytes();
        let mut objects = 0_u128;
        let mut depth = 0_u32;
        loop {
            let byte = *bytes.get(self.at).ok_or(BAD)?;
            self.at += 1;
            match byte {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    if depth == DEPTH {
                        return Err(TOO_DEEP);
                    }
                    depth += 1;
                    objects = (objects << 1) | u128::from(byte == b'{');
                }
                b'}' | b']' => {
                    if (objects & 1 == 1) != (byte == b'}') {
                        return Err(BAD);
                    }
                    objects >>= 1;
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
    }

    /// Checks every string of JSON text: `jsonb` holds neither `\u0000` nor lone surrogates.
    pub fn check_strings(text: &'a str) -> Result<(), Wrong> {
        if !text.contains("\\u") {
            return Ok(());
        }
        let mut scanner = Self::new(text);
        while let Some(byte) = text.as_bytes().get(scanner.at) {
            if *byte == b'"' {
                if scanner.string()?.contains('\0') {
                    return Err(super::value::NUL);
                }
            } else {
                scanner.at += 1;
            }
        }
        Ok(())
    }
}

/// A member's name, as [`Members::next`] finds it.
pub enum Name<'a> {
    /// The one expected at this place.
    Expected,
    /// Another one.
    Other(Cow<'a, str>),
}

/// Walks the members of an object, or the elements of an array.
pub struct Members<'a> {
    scanner: Scanner<'a>,
    first: bool,
    close: u8,
    /// Whether the text goes on behind the object.
    inner: bool,
}

impl<'a> Members<'a> {
    /// Over an object's text, which holds nothing else.
    pub fn object(text: &'a str) -> Result<Self, Wrong> {
        let mut scanner = Scanner::new(text);
        scanner.eat(b'{').map_err(|_| Wrong("a JSON object"))?;
        Ok(Self { scanner, first: true, close: b'}', inner: false })
    }

    /// Over an array's text, which holds nothing else.
    pub fn array(text: &'a str) -> Result<Self, Wrong> {
        let mut scanner = Scanner::new(text);
        scanner.eat(b'[').map_err(|_| Wrong("a JSON array"))?;
        Ok(Self { scanner, first: true, close: b']', inner: false })
    }

    /// Whether another element follows; at the end, checks that nothing else does.
    fn more(&mut self) -> Result<bool, Wrong> {
        if self.scanner.peek() == Some(self.close) {
            self.scanner.at += 1;
            if !self.inner {
                self.scanner.finish()?;
            }
            return Ok(false);
        }
        if !std::mem::take(&mut self.first) {
            self.scanner.eat(b',')?;
        }
        Ok(true)
    }

    /// The next member's name, `None` at the end. `expected` is the name that would be found
    /// without further search, written as `"name":`; the value must be taken next.
    pub fn name(&mut self, expected: Option<&str>) -> Result<Option<Name<'a>>, Wrong> {
        if !self.more()? {
            return Ok(None);
        }
        if expected.is_some_and(|expected| self.scanner.eat_exact(expected)) {
            return Ok(Some(Name::Expected));
        }
        let name = self.scanner.string()?;
        self.scanner.eat(b':')?;
        Ok(Some(Name::Other(name)))
    }

    /// The value of the member just named.
    pub fn value(&mut self) -> Result<Value<'a>, Wrong> {
        self.scanner.value()
    }

    /// Walks the value of the member just named where it is an object, so that it is not passed
    /// over first; to be handed to [`Members::resume`] at its end.
    pub fn enter(&mut self) -> Option<Self> {
        if self.scanner.peek() != Some(b'{') {
            return None;
        }
        let mut scanner = self.scanner;
        scanner.at += 1;
        Some(Self { scanner, first: true, close: b'}', inner: true })
    }

    /// Goes on behind an object that has been walked to its end.
    pub fn resume(&mut self, inner: Self) {
        self.scanner = inner.scanner;
    }

    /// Passes over the value of the member just named.
    pub fn skip(&mut self) -> Result<(), Wrong> {
        self.scanner.skip()
    }

    /// How many bytes of the text are consumed.
    pub fn at(&self) -> usize {
        self.scanner.at
    }

    /// The next element of an array.
    pub fn element(&mut self) -> Result<Option<Value<'a>>, Wrong> {
        if self.more()? { self.scanner.value().map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests;
