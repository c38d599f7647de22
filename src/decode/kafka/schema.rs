//! The schema of Kafka Connect that JSON messages carry before their payload.
//!
//! Format: `JsonConverter` of Kafka Connect with `schemas.enable=true`.

use super::error::Wrong;
use super::logical::Logical;
use serde_json::Value as Json;

/// A schema: what one value is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// Connect's type: `int8` … `int64`, `float32`, `float64`, `boolean`, `string`, `bytes`,
    /// `array`, `map`, `struct`.
    pub type_name: String,
    /// The name of the schema, which for a logical type is the type's.
    pub name: Option<String>,
    /// Whether null is allowed.
    pub optional: bool,
    /// Parameters: `scale`, `length`, `allowed`, `__debezium.source.column.type`, …
    pub parameters: Vec<(String, String)>,
    /// The fields of a struct.
    pub fields: Vec<(String, Schema)>,
    /// The schema of an array's elements or a map's values.
    pub items: Option<Box<Schema>>,
}

impl Schema {
    /// Reads a schema from JSON text. Defaults of fields are left out: the converter has already
    /// written them where it was told to put them in place of nulls.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        // The parser refuses what is nested deeper than 128 levels, which bounds the recursion.
        let json = serde_json::from_str(text).map_err(|_| Wrong("a schema in JSON"))?;
        Self::from_json(&json)
    }

    fn from_json(json: &Json) -> Result<Self, Wrong> {
        let text = |name: &str| json.get(name).and_then(Json::as_str);
        let type_name = text("type").ok_or(Wrong("a schema with a type"))?.to_owned();
        let parameters = match json.get("parameters").and_then(Json::as_object) {
            Some(parameters) => parameters
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect(),
            None => Vec::new(),
        };
        let fields = match json.get("fields").and_then(Json::as_array) {
            Some(fields) => fields
                .iter()
                .map(|field| {
                    let name = field.get("field").and_then(Json::as_str);
                    let name = name.ok_or(Wrong("a field with a name"))?;
                    Ok((name.to_owned(), Self::from_json(field)?))
                })
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let items = match (type_name.as_str(), json.get("items"), json.get("values")) {
            ("array", Some(items), _) | ("map", _, Some(items)) => {
                Some(Box::new(Self::from_json(items)?))
            }
            _ => None,
        };
        Ok(Self {
            type_name,
            name: text("name").map(str::to_owned),
            optional: json.get("optional").and_then(Json::as_bool).unwrap_or(false),
            parameters,
            fields,
            items,
        })
    }

    /// The schema of a struct's field.
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, schema)| schema)
    }

    /// A parameter's value.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(parameter, _)| parameter == name).map(|(_, v)| v.as_str())
    }

    /// How values of this schema are to be read.
    pub fn logical(&self) -> Logical {
        let named = self.name.as_deref();
        if let Some(logical) =
            named.and_then(|name| Logical::named(name, |parameter| self.parameter(parameter)))
        {
            return logical;
        }
        match self.type_name.as_str() {
            "string" => Logical::String,
            "bytes" => Logical::Bytes,
            "map" => Logical::Map,
            "array" => Logical::Array(Box::new(match &self.items {
                Some(items) => items.logical(),
                None => Logical::Plain,
            })),
            "int64" if unsigned_bigint(self.parameter(SOURCE_TYPE)) => Logical::UnsignedBigint,
            _ => Logical::Plain,
        }
    }
}

/// The parameter that tells a column's type at the source, where Debezium is set to propagate it.
pub const SOURCE_TYPE: &str = "__debezium.source.column.type";

/// Whether a propagated type is MySQL's BIGINT UNSIGNED.
pub fn unsigned_bigint(source_type: Option<&str>) -> bool {
    source_type.is_some_and(|name| {
        let name = name.to_ascii_uppercase();
        name.starts_with("BIGINT") && name.contains("UNSIGNED")
    })
}

#[cfg(test)]
mod tests {
    use super::super::logical::Unit;
    use super::*;

    #[test]
    fn reads_fields_with_their_logical_types() {
        let schema = Schema::parse(
            r#"{"type":"struct","optional":false,"fields":[
                {"type":"int64","optional":false,"name":"io.debezium.time.MicroTimestamp","version":1,"field":"t"},
                {"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"-2"},"field":"d"},
                {"type":"bytes","name":"io.debezium.data.Bits","parameters":{"length":"2147483647"},"field":"b"},
                {"type":"array","items":{"type":"int32","name":"io.debezium.time.Date"},"optional":true,"field":"a"},
                {"type":"int64","parameters":{"__debezium.source.column.type":"BIGINT UNSIGNED"},"field":"u"}]}"#,
        )
        .unwrap();
        let logical = |name: &str| schema.field(name).unwrap().logical();
        assert_eq!(logical("t"), Logical::Timestamp(Unit::Micros));
        assert_eq!(logical("d"), Logical::Decimal { scale: Some(-2) });
        assert_eq!(logical("b"), Logical::Bits { length: None });
        assert_eq!(logical("a"), Logical::Array(Box::new(Logical::Date)));
        assert_eq!(logical("u"), Logical::UnsignedBigint);
        assert!(schema.field("a").unwrap().optional);
        assert_eq!(Schema::parse("{}"), Err(Wrong("a schema with a type")));
    }
}
