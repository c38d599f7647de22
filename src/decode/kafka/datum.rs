//! A value of an event before it becomes the text of a column, whether it came as JSON or Avro.

use super::error::Wrong;
use super::scan::{Members, Name};
use std::borrow::Cow;

/// One value of an event.
#[derive(Clone, PartialEq)]
pub enum Value<'a> {
    /// Null.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer of Avro.
    Int(i64),
    /// A single-precision number of Avro.
    Float(f32),
    /// A double-precision number of Avro.
    Double(f64),
    /// A JSON number as it is written, so that no digit of it is lost.
    Number(&'a str),
    /// Text; of a JSON string the text without escapes.
    Text(Cow<'a, str>),
    /// Bytes of Avro.
    Bytes(&'a [u8]),
    /// A JSON array or object that has not been looked into.
    Json(&'a str),
    /// Elements of an array.
    List(Vec<Value<'a>>),
    /// Members of an object, fields of a record or entries of a map.
    Struct(Vec<(Cow<'a, str>, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// Looks one level into JSON; other values stay as they are.
    pub fn open(self) -> Result<Self, Wrong> {
        let Self::Json(text) = self else { return Ok(self) };
        if text.starts_with('[') {
            let mut members = Members::array(text)?;
            let mut list = Vec::new();
            while let Some(element) = members.element()? {
                list.push(element);
            }
            return Ok(Self::List(list));
        }
        let mut members = Members::object(text)?;
        let mut fields = Vec::new();
        while let Some(name) = members.name(None)? {
            let Name::Other(name) = name else { continue };
            fields.push((name, members.value()?));
        }
        Ok(Self::Struct(fields))
    }

    /// The elements of an array.
    pub fn into_list(self) -> Result<Vec<Self>, Wrong> {
        match self.open()? {
            Self::List(list) => Ok(list),
            _ => Err(Wrong("an array")),
        }
    }

    /// The members of an object.
    pub fn into_struct(self) -> Result<Vec<(Cow<'a, str>, Self)>, Wrong> {
        match self.open()? {
            Self::Struct(fields) => Ok(fields),
            _ => Err(Wrong("an object")),
        }
    }

    /// The entries of a map: an object, or, where its keys are no strings, a list of pairs as
    /// Connect's JSON writes them, or of `key` and `value` as Confluent's Avro does.
    pub fn into_entries(self) -> Result<Vec<(Cow<'a, str>, Self)>, Wrong> {
        const PAIR: Wrong = Wrong("a map's pairs of key and value");
        let list = match self.open()? {
            Self::Struct(fields) => return Ok(fields),
            Self::List(list) => list,
            _ => return Err(Wrong("a map")),
        };
        list.into_iter()
            .map(|entry| {
                let (key, value) = match entry.open()? {
                    Self::List(pair) => {
                        let [key, value] = <[Self; 2]>::try_from(pair).map_err(|_| PAIR)?;
                        (key, value)
                    }
                    Self::Struct(mut fields) => {
                        let key = take(&mut fields, "key").ok_or(PAIR)?;
                        (key, take(&mut fields, "value").ok_or(PAIR)?)
                    }
                    _ => return Err(PAIR),
                };
                Ok((key.into_plain_text().ok_or(PAIR)?, value))
            })
            .collect()
    }

    /// The text of a string or a whole number.
    pub fn into_plain_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(text) => Some(Cow::Borrowed(text)),
            Self::Int(number) => Some(Cow::Owned(number.to_string())),
            Self::Bool(flag) => Some(Cow::Borrowed(if flag { "true" } else { "false" })),
            _ => None,
        }
    }

    /// A whole number, also where it is written as a string or, as Oracle's durations are, as a
    /// floating-point number without a fraction.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Number(text) => parse_i64(text),
            Self::Text(text) => parse_i64(text),
            Self::Float(number) => whole(f64::from(*number)),
            Self::Double(number) => whole(*number),
            _ => None,
        }
    }
}

fn parse_i64(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| {
        let float = text.contains(['.', 'e', 'E']);
        if float { text.parse().ok().and_then(whole) } else { None }
    })
}

fn whole(number: f64) -> Option<i64> {
    // Beyond 2^62 a double is too coarse to be one of the numbers meant here.
    let limit = 2_f64.powi(62);
    (number.trunc() == number && number.abs() < limit).then_some(number as i64)
}

/// Takes the last member of that name out of `fields`.
pub fn take<'a>(fields: &mut [(Cow<'a, str>, Value<'a>)], name: &str) -> Option<Value<'a>> {
    let (_, value) = fields.iter_mut().rev().find(|(field, _)| field == name)?;
    Some(std::mem::replace(value, Value::Null))
}

/// Row values stay out of logs, so that only the form is shown.
impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Bool(_) => "Bool",
            Self::Int(_) => "Int",
            Self::Float(_) => "Float",
            Self::Double(_) => "Double",
            Self::Number(_) => "Number",
            Self::Text(_) => "Text",
            Self::Bytes(_) => "Bytes",
            Self::Json(_) => "Json",
            Self::List(_) => "List",
            Self::Struct(_) => "Struct",
        })
    }
}
