//! Arrays, maps, vectors and JSON as text.

use super::column::Kind;
use super::datum::Value;
use super::error::Wrong;
use super::logical::Logical;
use super::scan::{DEPTH, Scanner};
use super::settings::Settings;
use super::value::{NUL, any_number, raw_bytes, text, write};
use super::{number, settings};

/// Postgres' limit on an array's dimensions.
const DIMENSIONS: u32 = 6;
/// The most text of an array: some elements are shorter in the event than in text.
const MOST_TEXT: usize = 256 << 20;

/// Appends an array: as an array's literal, a vector or JSON, as the column's type asks.
pub fn list(
    out: &mut Vec<u8>,
    value: Value<'_>,
    element: &Logical,
    kind: &Kind,
    settings: &Settings,
) -> Result<(), Wrong> {
    match kind {
        Kind::Array(element_kind) => array(out, value, element, element_kind, settings, 1),
        Kind::Vector => vector(out, value),
        Kind::SparseVector => sparse_vector(out, value),
        Kind::Hstore => map(out, value, kind),
        Kind::Other => array(out, value, element, &Kind::Other, settings, 1),
        Kind::Text | Kind::Json => json(out, value, false),
        Kind::Jsonb => json(out, value, true),
        _ => Err(Wrong("a single value, not an array")),
    }
}

fn array(
    out: &mut Vec<u8>,
    value: Value<'_>,
    element: &Logical,
    kind: &Kind,
    settings: &Settings,
    dimension: u32,
) -> Result<(), Wrong> {
    if dimension > DIMENSIONS {
        return Err(Wrong("an array of at most 6 dimensions"));
    }
    let is_json = matches!(kind, Kind::Json | Kind::Jsonb);
    let mut scratch = Vec::new();
    let start = out.len();
    let (mut items, mut empty) = (0_usize, 0_usize);
    out.push(b'{');
    for (at, item) in value.into_list()?.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if out.len() > MOST_TEXT {
            return Err(Wrong("an array of less text"));
        }
        items += 1;
        let nested = match &item {
            Value::List(_) => true,
            Value::Json(text) => text.starts_with('['),
            _ => false,
        };
        if nested && !is_json {
            let before = out.len();
            array(out, item, element.element(), kind, settings, dimension + 1)?;
            empty += usize::from(out.get(before..) == Some(b"{}"));
            continue;
        }
        scratch.clear();
        if write(&mut scratch, item, element, kind, settings)? {
            quote(out, &scratch);
        } else {
            out.extend_from_slice(b"NULL");
        }
    }
    // To Postgres an array of empty arrays is an empty array.
    match empty {
        0 => {}
        _ if empty == items => out.truncate(start + 1),
        _ => return Err(Wrong("arrays of the same length in an array")),
    }
    out.push(b'}');
    Ok(())
}

/// Appends an array's element, in quotes where it could be taken for something else without.
fn quote(out: &mut Vec<u8>, element: &[u8]) {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-');
    if !element.is_empty() && element.iter().all(plain) && !element.eq_ignore_ascii_case(b"null") {
        out.extend_from_slice(element);
    } else {
        quoted(out, element);
    }
}

fn quoted(out: &mut Vec<u8>, content: &[u8]) {
    out.push(b'"');
    for byte in content {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Appends MySQL's SET: labels with commas between them, which none of them holds.
pub fn enum_set(out: &mut Vec<u8>, labels: &str, kind: &Kind) -> Result<(), Wrong> {
    if !matches!(kind, Kind::Array(_)) {
        return text(out, labels);
    }
    out.push(b'{');
    for (at, label) in labels.split(',').filter(|label| !label.is_empty()).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut scratch = Vec::new();
        text(&mut scratch, label)?;
        quote(out, &scratch);
    }
    out.push(b'}');
    Ok(())
}

/// Appends a map, which may come as a string that is JSON: as `hstore`, or as JSON elsewhere.
pub fn map(out: &mut Vec<u8>, value: Value<'_>, kind: &Kind) -> Result<(), Wrong> {
    if *kind != Kind::Hstore {
        return json(out, value, *kind == Kind::Jsonb);
    }
    match value {
        Value::Text(literal) if literal.trim_start().starts_with('{') => {
            entries(out, Value::Json(literal.trim()))
        }
        Value::Text(literal) => text(out, &literal),
        value => entries(out, value),
    }
}

fn entries(out: &mut Vec<u8>, value: Value<'_>) -> Result<(), Wrong> {
    let mut scratch = Vec::new();
    for (at, (key, value)) in value.into_entries()?.into_iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        scratch.clear();
        text(&mut scratch, &key)?;
        quoted(out, &scratch);
        out.extend_from_slice(b"=>");
        if value == Value::Null {
            out.extend_from_slice(b"NULL");
        } else {
            scratch.clear();
            text(&mut scratch, &value.into_plain_text().ok_or(Wrong("a map of text"))?)?;
            quoted(out, &scratch);
        }
    }
    Ok(())
}

/// Appends pgvector's `[1,2,3]`.
pub fn vector(out: &mut Vec<u8>, value: Value<'_>) -> Result<(), Wrong> {
    out.push(b'[');
    for (at, item) in value.into_list()?.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        any_number(out, &item)?;
    }
    out.push(b']');
    Ok(())
}

/// Appends pgvector's `{1:0.3,5:2}/5`.
pub fn sparse_vector(out: &mut Vec<u8>, value: Value<'_>) -> Result<(), Wrong> {
    const PARTS: Wrong = Wrong("a sparse vector's dimensions and vector");
    let mut fields = value.into_struct().map_err(|_| PARTS)?;
    let dimensions = super::datum::take(&mut fields, "dimensions").and_then(|n| n.as_i64());
    let vector = super::datum::take(&mut fields, "vector").ok_or(PARTS)?;
    out.push(b'{');
    for (at, (index, value)) in vector.into_entries()?.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        number::integer(out, index.parse().map_err(|_| PARTS)?);
        out.push(b':');
        any_number(out, &value)?;
    }
    out.extend_from_slice(b"}/");
    number::integer(out, dimensions.ok_or(PARTS)?);
    Ok(())
}

/// Appends a value as JSON. `binary` is true for `jsonb`, which takes fewer strings.
pub fn json(out: &mut Vec<u8>, value: Value<'_>, binary: bool) -> Result<(), Wrong> {
    if let Value::Json(raw) = value {
        if binary {
            Scanner::check_strings(raw)?;
        }
        return text(out, raw);
    }
    json_value(out, value, binary, 0)
}

fn json_value(out: &mut Vec<u8>, value: Value<'_>, binary: bool, depth: u32) -> Result<(), Wrong> {
    if depth > DEPTH {
        return Err(Wrong("at most 128 levels of nesting"));
    }
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        Value::Json(_) => json(out, value, binary)?,
        Value::Text(content) => json_string(out, &content)?,
        Value::Bytes(_) => {
            use base64::Engine;
            let bytes = raw_bytes(&value, settings::Binary::Base64)?;
            json_string(out, &number::BASE64.encode(&*bytes))?;
        }
        Value::Number(digits) => out.extend_from_slice(digits.as_bytes()),
        Value::Int(number) => number::integer(out, number),
        Value::Float(number) => json_float(out, number.is_finite(), &format!("{number:?}")),
        Value::Double(number) => json_float(out, number.is_finite(), &format!("{number:?}")),
        Value::List(list) => {
            out.push(b'[');
            for (at, item) in list.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                json_value(out, item, binary, depth + 1)?;
            }
            out.push(b']');
        }
        Value::Struct(fields) => {
            out.push(b'{');
            for (at, (name, field)) in fields.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                json_string(out, &name)?;
                out.push(b':');
                json_value(out, field, binary, depth + 1)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// JSON has no infinity and no NaN; Connect's converter writes their names.
fn json_float(out: &mut Vec<u8>, finite: bool, digits: &str) {
    if finite {
        out.extend_from_slice(digits.as_bytes());
    } else {
        out.push(b'"');
        out.extend_from_slice(digits.replace("inf", "Infinity").as_bytes());
        out.push(b'"');
    }
}

fn json_string(out: &mut Vec<u8>, content: &str) -> Result<(), Wrong> {
    if content.contains('\0') {
        return Err(NUL);
    }
    let quoted = serde_json::to_string(content);
    out.extend_from_slice(quoted.map_err(|_| Wrong("text"))?.as_bytes());
    Ok(())
}
