//! An Avro datum → [`Value`], by the schema it was written with.
//!
//! Format: "Binary encoding" in the Avro specification.

use super::avro_schema::{AvroSchema, Shape};
use super::datum::Value;
use super::error::Wrong;
use super::scan::DEPTH;
use std::borrow::Cow;

/// How many values a datum may hold beyond four for each of its bytes: some take no byte at all, and
/// their number must not come from a length field alone.
const FREE_VALUES: usize = 65_536;

const END: Wrong = Wrong("an Avro datum that does not end early");
const LENGTH: Wrong = Wrong("an Avro length within the datum");

/// Reads a datum, behind which nothing may follow.
pub fn read<'a>(schema: &'a AvroSchema, bytes: &'a [u8]) -> Result<Value<'a>, Wrong> {
    let budget = bytes.len().saturating_mul(4).saturating_add(FREE_VALUES);
    let mut reader = Reader { schema, rest: bytes, budget };
    let value = reader.value(schema.root(), 0)?;
    if reader.rest.is_empty() { Ok(value) } else { Err(Wrong("nothing behind the Avro datum")) }
}

struct Reader<'a> {
    schema: &'a AvroSchema,
    rest: &'a [u8],
    budget: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, number: usize, depth: u32) -> Result<Value<'a>, Wrong> {
        if depth > DEPTH {
            return Err(Wrong("at most 128 levels of nesting"));
        }
        self.budget = self.budget.checked_sub(1).ok_or(Wrong("fewer values in an Avro datum"))?;
        let node = self.schema.node(number).ok_or(Wrong("a type of the Avro schema"))?;
        Ok(match &node.shape {
            Shape::Null => Value::Null,
            Shape::Boolean => match self.take(1)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(Wrong("an Avro boolean")),
            },
            Shape::Integer => Value::Int(self.long()?),
            Shape::Float => Value::Float(f32::from_le_bytes(self.array()?)),
            Shape::Double => Value::Double(f64::from_le_bytes(self.array()?)),
            Shape::Bytes => Value::Bytes(self.counted()?),
            Shape::String => Value::Text(Cow::Borrowed(self.text()?)),
            Shape::Fixed(size) => Value::Bytes(self.take(*size)?),
            Shape::Enum(symbols) => {
                let symbol = self.index(symbols)?;
                Value::Text(Cow::Borrowed(symbol))
            }
            Shape::Union(branches) => {
                let branch = *self.index(branches)?;
                self.value(branch, depth + 1)?
            }
            Shape::Record(fields) => {
                let mut values = Vec::with_capacity(fields.len().min(self.budget));
                for (name, node) in fields {
                    values.push((Cow::Borrowed(&**name), self.value(*node, depth + 1)?));
                }
                Value::Struct(values)
            }
            Shape::Array(items) => {
                let mut list = Vec::new();
                while let count @ 1.. = self.block()? {
                    for _ in 0..count {
                        list.push(self.value(*items, depth + 1)?);
                    }
                }
                Value::List(list)
            }
            Shape::Map(values) => {
                let mut entries = Vec::new();
                while let count @ 1.. = self.block()? {
                    for _ in 0..count {
                        let key = Cow::Borrowed(self.text()?);
                        entries.push((key, self.value(*values, depth + 1)?));
                    }
                }
                Value::Struct(entries)
            }
        })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Wrong> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(END)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(END)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A number in zigzag form, seven bits a byte, the lowest first.
    fn long(&mut self) -> Result<i64, Wrong> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err(Wrong("an Avro number of at most ten bytes"))
    }

    fn counted(&mut self) -> Result<&'a [u8], Wrong> {
        let length = usize::try_from(self.long()?).map_err(|_| LENGTH)?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str, Wrong> {
        std::str::from_utf8(self.counted()?).map_err(|_| Wrong("text in UTF-8"))
    }

    fn index<'s, T>(&mut self, list: &'s [T]) -> Result<&'s T, Wrong> {
        let index = usize::try_from(self.long()?).ok();
        index.and_then(|index| list.get(index)).ok_or(Wrong("a number within the Avro schema"))
    }

    /// How many items the next block has. A negative count is followed by the block's size.
    fn block(&mut self) -> Result<u64, Wrong> {
        let count = self.long()?;
        if count < 0 {
            self.long()?;
        }
        Ok(count.unsigned_abs())
    }
}
