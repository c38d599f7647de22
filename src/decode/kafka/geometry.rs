//! Debezium's geometric structs as text of Postgres' and PostGIS' types.
//!
//! Source: `io.debezium.data.geometry`; the binary form is WKB of the OGC, and PostGIS' EWKB, which
//! has a flag and an id of the reference system added.

use super::column::Kind;
use super::datum::{Value, take};
use super::error::Wrong;
use super::number;
use super::settings::Binary;
use super::value::{any_number, raw_bytes};

const WKB: Wrong = Wrong("a geometry in well-known binary form");
const HAS_SRID: u32 = 0x2000_0000;

/// Appends a point: `(x,y)`, or EWKB where the column is PostGIS'.
pub fn point(out: &mut Vec<u8>, value: Value<'_>, kind: &Kind) -> Result<(), Wrong> {
    const PARTS: Wrong = Wrong("a point's x and y");
    if let Value::Text(literal) = &value {
        return super::value::text(out, literal);
    }
    let mut fields = value.into_struct().map_err(|_| PARTS)?;
    let wkb = take(&mut fields, "wkb").filter(|wkb| *wkb != Value::Null);
    if let (Kind::Geometry, Some(wkb)) = (kind, &wkb) {
        return ewkb(out, wkb, take(&mut fields, "srid"));
    }
    let x = take(&mut fields, "x").ok_or(PARTS)?;
    let y = take(&mut fields, "y").ok_or(PARTS)?;
    if *kind == Kind::Geometry {
        out.extend_from_slice(b"POINT(");
        coordinates(out, [x, y], b' ')?;
    } else {
        out.push(b'(');
        coordinates(out, [x, y], b',')?;
    }
    out.push(b')');
    Ok(())
}

/// Appends EWKB as hexadecimal digits.
pub fn geometry(out: &mut Vec<u8>, value: Value<'_>) -> Result<(), Wrong> {
    if let Value::Text(literal) = &value {
        return super::value::text(out, literal);
    }
    let mut fields = value.into_struct().map_err(|_| WKB)?;
    let wkb = take(&mut fields, "wkb").ok_or(WKB)?;
    ewkb(out, &wkb, take(&mut fields, "srid"))
}

fn ewkb(out: &mut Vec<u8>, wkb: &Value<'_>, srid: Option<Value<'_>>) -> Result<(), Wrong> {
    let bytes = raw_bytes(wkb, Binary::Base64)?;
    let srid = match srid {
        None | Some(Value::Null) => 0,
        Some(srid) => srid
            .as_i64()
            .and_then(|srid| u32::try_from(srid).ok())
            .ok_or(Wrong("the number of a spatial reference system"))?,
    };
    let (order, rest) = bytes.split_first().ok_or(WKB)?;
    let (kind, rest) = rest.split_first_chunk::<4>().ok_or(WKB)?;
    let (kind, little) = match order {
        0 => (u32::from_be_bytes(*kind), false),
        1 => (u32::from_le_bytes(*kind), true),
        _ => return Err(WKB),
    };
    if srid == 0 || kind & HAS_SRID != 0 {
        number::hex(out, &bytes);
        return Ok(());
    }
    let word = |value: u32| if little { value.to_le_bytes() } else { value.to_be_bytes() };
    number::hex(out, &[*order]);
    number::hex(out, &word(kind | HAS_SRID));
    number::hex(out, &word(srid));
    number::hex(out, rest);
    Ok(())
}

/// Appends `<(x,y),r>`.
pub fn circle(out: &mut Vec<u8>, value: Value<'_>) -> Result<(), Wrong> {
    const PARTS: Wrong = Wrong("a circle's center and radius");
    let mut fields = value.into_struct().map_err(|_| PARTS)?;
    let center = take(&mut fields, "center").ok_or(PARTS)?;
    let radius = take(&mut fields, "radius").ok_or(PARTS)?;
    out.push(b'<');
    point(out, center, &Kind::Point)?;
    out.push(b',');
    coordinates(out, [radius], b',')?;
    out.push(b'>');
    Ok(())
}

/// Appends `{a,b,c}`.
pub fn line(out: &mut Vec<u8>, value: Value<'_>) -> Result<(), Wrong> {
    const PARTS: Wrong = Wrong("a line's a, b and c");
    let mut fields = value.into_struct().map_err(|_| PARTS)?;
    let mut part = |name| take(&mut fields, name).ok_or(PARTS);
    let parts = [part("a")?, part("b")?, part("c")?];
    out.push(b'{');
    coordinates(out, parts, b',')?;
    out.push(b'}');
    Ok(())
}

fn coordinates<const N: usize>(
    out: &mut Vec<u8>,
    numbers: [Value<'_>; N],
    between: u8,
) -> Result<(), Wrong> {
    for (at, number) in numbers.into_iter().enumerate() {
        if at > 0 {
            out.push(between);
        }
        any_number(out, &number)?;
    }
    Ok(())
}
