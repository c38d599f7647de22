//! Where a part of a record says which schema it was written with.
//!
//! Format: Confluent's wire format (a zero byte and the schema's id in four bytes, big endian), its
//! newer headers `__key_schema_id` and `__value_schema_id` (the same, or a byte 1 and a GUID of 16
//! bytes), and Apicurio's ids of eight bytes before the datum or in headers.

use super::Record;
use super::error::{RecordError, Wrong};

/// The key or the value of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

impl Part {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
        }
    }
}

/// What stands before the datum, where no header tells the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// A zero byte and an id of four bytes.
    #[default]
    Confluent,
    /// A zero byte and an id of eight bytes, as Apicurio's own converters write it.
    LongId,
}

/// The registry's name for a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaRef {
    /// The id of Confluent's API.
    Id(u32),
    /// A GUID of Confluent's API.
    Guid([u8; 16]),
    /// Apicurio's `globalId`.
    GlobalId(u64),
    /// Apicurio's `contentId`.
    ContentId(u64),
}

/// A datum and its schema.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Framed<'a> {
    /// The schema it was written with.
    pub schema: SchemaRef,
    /// Its bytes.
    pub datum: &'a [u8],
}

/// Row values stay out of logs, so that only the size is shown.
impl std::fmt::Debug for Framed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Framed")
            .field("schema", &self.schema)
            .field("bytes", &self.datum.len())
            .finish()
    }
}

/// The schema of a record's part, `None` where there is no such part.
pub fn schema_id<'a>(
    part: Part,
    record: &Record<'a>,
    framing: Framing,
) -> Result<Option<Framed<'a>>, RecordError> {
    let Some(bytes) = (match part {
        Part::Key => record.key,
        Part::Value => record.value,
    }) else {
        return Ok(None);
    };
    if let Some(schema) = in_headers(part, record).map_err(|wrong| wrong.in_part("headers"))? {
        return Ok(Some(Framed { schema, datum: bytes }));
    }
    in_front(bytes, framing).map(Some).map_err(|wrong| wrong.in_part(part.name()))
}

fn in_headers(part: Part, record: &Record<'_>) -> Result<Option<SchemaRef>, Wrong> {
    const ID: Wrong = Wrong("the id of a schema");
    let (confluent, global, content) = match part {
        Part::Key => ("__key_schema_id", "apicurio.key.globalId", "apicurio.key.contentId"),
        Part::Value => ("__value_schema_id", "apicurio.value.globalId", "apicurio.value.contentId"),
    };
    if let Some(header) = record.header(confluent) {
        return Ok(Some(match header.split_first() {
            Some((1, guid)) => SchemaRef::Guid(guid.try_into().map_err(|_| ID)?),
            Some((0, id)) => SchemaRef::Id(u32::from_be_bytes(id.try_into().map_err(|_| ID)?)),
            _ => return Err(ID),
        }));
    }
    let long = |name: &str| {
        record
            .header(name)
            .map(|id| id.try_into().map(u64::from_be_bytes).map_err(|_| ID))
            .transpose()
    };
    if let Some(id) = long(global)? {
        return Ok(Some(SchemaRef::GlobalId(id)));
    }
    Ok(long(content)?.map(SchemaRef::ContentId))
}

fn in_front(bytes: &[u8], framing: Framing) -> Result<Framed<'_>, Wrong> {
    const FRONT: Wrong = Wrong("a zero byte and the id of a schema before the Avro datum");
    let Some((0, rest)) = bytes.split_first() else { return Err(FRONT) };
    match framing {
        Framing::Confluent => {
            let (id, datum) = rest.split_first_chunk::<4>().ok_or(FRONT)?;
            Ok(Framed { schema: SchemaRef::Id(u32::from_be_bytes(*id)), datum })
        }
        Framing::LongId => {
            let (id, datum) = rest.split_first_chunk::<8>().ok_or(FRONT)?;
            Ok(Framed { schema: SchemaRef::GlobalId(u64::from_be_bytes(*id)), datum })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(value: &'a [u8], headers: Vec<(&'a str, Option<&'a [u8]>)>) -> Record<'a> {
        Record {
            topic: "t",
            partition: 0,
            offset: 0,
            timestamp: None,
            key: None,
            value: Some(value),
            headers,
        }
    }

    #[test]
    fn ids_stand_before_the_datum() {
        let record = record(&[0, 0, 0, 1, 2, 9, 9, 9, 9, 7], vec![]);
        let framed = schema_id(Part::Value, &record, Framing::Confluent).unwrap().unwrap();
        assert_eq!(framed, Framed { schema: SchemaRef::Id(258), datum: &[9, 9, 9, 9, 7] });
        let framed = schema_id(Part::Value, &record, Framing::LongId).unwrap().unwrap();
        assert_eq!(framed.datum, [7]);
        assert_eq!(schema_id(Part::Key, &record, Framing::Confluent), Ok(None));
        for bad in [&[][..], &[0, 1, 2], &[1, 0, 0, 0, 0], b"{}"] {
            let record = self::record(bad, vec![]);
            assert!(schema_id(Part::Value, &record, Framing::Confluent).is_err());
        }
    }

    #[test]
    fn headers_come_first() {
        let guid = [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        let of = |name: &'static str, bytes: &[u8]| {
            schema_id(Part::Value, &record(&[7], vec![(name, Some(bytes))]), Framing::Confluent)
                .map(|framed| framed.unwrap().schema)
        };
        let bytes: [u8; 16] = std::array::from_fn(|at| at as u8 + 1);
        assert_eq!(of("__value_schema_id", &guid), Ok(SchemaRef::Guid(bytes)));
        assert_eq!(of("__value_schema_id", &[0, 0, 0, 0, 5]), Ok(SchemaRef::Id(5)));
        assert_eq!(
            of("apicurio.value.globalId", &[0, 0, 0, 0, 0, 0, 0, 5]),
            Ok(SchemaRef::GlobalId(5))
        );
        assert_eq!(
            of("apicurio.value.contentId", &[0, 0, 0, 0, 0, 0, 0, 6]),
            Ok(SchemaRef::ContentId(6))
        );
        assert!(of("__value_schema_id", &guid[..9]).is_err());
        assert!(of("__key_schema_id", &guid).is_err());
    }
}
