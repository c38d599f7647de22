//! The schema that an Avro datum was written with.
//!
//! Format: "Schema Declaration" in the Avro specification 1.12, with the attributes `connect.name`
//! and `connect.parameters` that Confluent's converter adds. The crate `apache-avro` keeps no
//! attributes of primitive types, and it is on those that Debezium's logical types are told, so that
//! schemas are read here.

use super::error::Wrong;
use super::logical::Logical;
use super::schema::{SOURCE_TYPE, Schema, unsigned_bigint};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// How deep arrays may be nested for their elements' meaning to be followed.
const ARRAYS: u32 = 8;
/// How deep, and how far, a type is followed as a schema of Connect.
const DEEPEST: u32 = 16;
const MOST_TYPES: u32 = 20_000;

/// A parsed schema. Types refer to each other by number, so that recursive ones need no recursion.
#[derive(Clone, Debug)]
pub struct AvroSchema {
    nodes: Vec<Node>,
    root: usize,
    stamp: u64,
}

/// A type of a schema.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its form.
    pub shape: Shape,
    /// What its values mean, where more than the form says.
    logical: Option<Logical>,
    /// Whether it is the pair by which the converter writes maps of keys that are no strings.
    map_entry: bool,
    /// What tells the type of a column.
    told: Told,
}

/// What Connect's schema has said of a type.
#[derive(Clone, Debug, Default)]
struct Told {
    type_name: Option<Box<str>>,
    name: Option<Box<str>>,
    parameters: Vec<(String, String)>,
}

/// The form of a type; numbers are those of other types.
#[derive(Clone, Debug)]
pub enum Shape {
    /// No byte.
    Null,
    /// One byte.
    Boolean,
    /// A varying-length number: `int` or `long`.
    Integer,
    /// Four bytes.
    Float,
    /// Eight bytes.
    Double,
    /// A length and as many bytes.
    Bytes,
    /// A length and as many bytes of UTF-8.
    String,
    /// As many bytes.
    Fixed(usize),
    /// The number of a symbol.
    Enum(Vec<Box<str>>),
    /// Blocks of items.
    Array(usize),
    /// Blocks of keys and values.
    Map(usize),
    /// The number of a branch and its value.
    Union(Vec<usize>),
    /// Fields in order.
    Record(Vec<(Box<str>, usize)>),
}

impl AvroSchema {
    /// Parses a schema's text. `references` are the texts of the schemas that it refers to, each
    /// behind those it refers to itself.
    pub fn parse(text: &str, references: &[&str]) -> Result<Self, Wrong> {
        static STAMPS: AtomicU64 = AtomicU64::new(0);
        let mut parser = Parser { nodes: Vec::new(), names: HashMap::new() };
        let mut root = 0;
        for text in references.iter().copied().chain([text]) {
            // The parser refuses what is nested deeper than 128 levels, which bounds the recursion.
            let json: Json =
                serde_json::from_str(text).map_err(|_| Wrong("an Avro schema in JSON"))?;
            root = parser.node(&json, "")?;
        }
        let stamp = STAMPS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { nodes: parser.nodes, root, stamp })
    }

    /// A number that no other schema of this process has.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// The number of the outermost type.
    pub fn root(&self) -> usize {
        self.root
    }

    /// The type of that number.
    pub fn node(&self, number: usize) -> Option<&Node> {
        self.nodes.get(number)
    }

    /// A union's first branch that is not null; other types as they are.
    fn not_null(&self, number: usize) -> usize {
        match self.node(number).map(|node| &node.shape) {
            Some(Shape::Union(branches)) => branches
                .iter()
                .copied()
                .find(|branch| {
                    self.node(*branch).is_some_and(|node| !matches!(node.shape, Shape::Null))
                })
                .unwrap_or(number),
            _ => number,
        }
    }

    /// The type of a record's field, looked for behind a union with null.
    pub fn field(&self, number: usize, name: &str) -> Option<usize> {
        match &self.node(self.not_null(number))?.shape {
            Shape::Record(fields) => {
                fields.iter().find(|(field, _)| **field == *name).map(|(_, node)| *node)
            }
            _ => None,
        }
    }

    /// How values of the type are to be read.
    pub fn logical(&self, number: usize) -> Logical {
        self.logical_within(number, ARRAYS)
    }

    /// The type as a schema of Connect, as far as it goes down: recursive types end somewhere.
    pub fn connect(&self, number: usize) -> Schema {
        self.connect_within(number, DEEPEST, &mut { MOST_TYPES })
    }

    fn connect_within(&self, number: usize, depth: u32, budget: &mut u32) -> Schema {
        let optional = match self.node(number).map(|node| &node.shape) {
            Some(Shape::Union(branches)) => branches.iter().any(|branch| {
                self.node(*branch).is_some_and(|node| matches!(node.shape, Shape::Null))
            }),
            _ => false,
        };
        let branches = match self.node(number).map(|node| &node.shape) {
            Some(Shape::Union(branches)) => branches.len() - usize::from(optional),
            _ => 1,
        };
        let node = self.node(self.not_null(number)).filter(|_| branches == 1);
        let Some(node) = node else {
            // Values of several types have only text in common.
            return Schema { type_name: "string".to_owned(), optional, ..Schema::default() };
        };
        let mut schema = Schema {
            name: node.told.name.as_deref().map(str::to_owned),
            optional,
            parameters: node.told.parameters.clone(),
            ..Schema::default()
        };
        let mut inner = |number: usize| {
            if depth == 0 || *budget == 0 {
                return Schema { type_name: "struct".to_owned(), ..Schema::default() };
            }
            *budget -= 1;
            self.connect_within(number, depth - 1, budget)
        };
        let type_name = match &node.shape {
            Shape::Boolean => "boolean",
            Shape::Integer => "int64",
            Shape::Float => "float32",
            Shape::Double => "float64",
            Shape::Bytes | Shape::Fixed(_) => "bytes",
            Shape::Array(items) if self.node(*items).is_some_and(|items| items.map_entry) => "map",
            Shape::Array(items) => {
                schema.items = Some(Box::new(inner(*items)));
                "array"
            }
            Shape::Map(values) => {
                schema.items = Some(Box::new(inner(*values)));
                "map"
            }
            Shape::Record(fields) => {
                let fields = fields.iter();
                schema.fields =
                    fields.map(|(name, number)| (name.to_string(), inner(*number))).collect();
                "struct"
            }
            Shape::Null | Shape::String | Shape::Enum(_) | Shape::Union(_) => "string",
        };
        schema.type_name = node.told.type_name.as_deref().unwrap_or(type_name).to_owned();
        schema
    }

    fn logical_within(&self, number: usize, arrays: u32) -> Logical {
        let Some(node) = self.node(self.not_null(number)) else { return Logical::Plain };
        if let Some(logical) = &node.logical {
            return logical.clone();
        }
        match &node.shape {
            Shape::String | Shape::Enum(_) => Logical::String,
            Shape::Bytes | Shape::Fixed(_) => Logical::Bytes,
            Shape::Map(_) => Logical::Map,
            Shape::Array(items) if self.node(*items).is_some_and(|items| items.map_entry) => {
                Logical::Map
            }
            Shape::Array(items) if arrays > 0 => {
                Logical::Array(Box::new(self.logical_within(*items, arrays - 1)))
            }
            Shape::Array(_) => Logical::Array(Box::default()),
            _ => Logical::Plain,
        }
    }
}

impl Told {
    /// Takes over what the attributes of a type say.
    fn take(&mut self, json: &Json) {
        let text = |name: &str| json.get(name).and_then(Json::as_str);
        if let Some(name) = text("connect.type") {
            self.type_name = Some(name.into());
        }
        if let Some(parameters) = json.get("connect.parameters").and_then(Json::as_object) {
            let texts = parameters
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
            self.parameters = texts.collect();
        }
        match (text("connect.name"), text("logicalType")) {
            (Some(name), _) => self.name = Some(name.into()),
            (None, Some("decimal")) => {
                self.name = Some("org.apache.kafka.connect.data.Decimal".into());
                for (name, attribute) in
                    [("scale", "scale"), ("connect.decimal.precision", "precision")]
                {
                    let number = json.get(attribute).and_then(Json::as_u64).unwrap_or(0);
                    self.parameters.push((name.to_owned(), number.to_string()));
                }
            }
            (None, Some(name)) => self.name = Some(name.into()),
            (None, None) => {}
        }
    }
}

struct Parser {
    nodes: Vec<Node>,
    names: HashMap<String, usize>,
}

impl Parser {
    fn push(&mut self, shape: Shape) -> usize {
        self.nodes.push(Node { shape, logical: None, map_entry: false, told: Told::default() });
        self.nodes.len() - 1
    }

    fn node(&mut self, json: &Json, namespace: &str) -> Result<usize, Wrong> {
        match json {
            Json::String(name) => self.named(name, namespace),
            Json::Array(branches) => {
                let branches = branches
                    .iter()
                    .map(|branch| self.node(branch, namespace))
                    .collect::<Result<_, _>>()?;
                Ok(self.push(Shape::Union(branches)))
            }
            Json::Object(_) => self.object(json, namespace),
            _ => Err(Wrong("a type of an Avro schema")),
        }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<usize, Wrong> {
        let shape = match name {
            "null" => Shape::Null,
            "boolean" => Shape::Boolean,
            "int" | "long" => Shape::Integer,
            "float" => Shape::Float,
            "double" => Shape::Double,
            "bytes" => Shape::Bytes,
            "string" => Shape::String,
            _ => {
                let full = qualified(name, namespace);
                return self
                    .names
                    .get(&full)
                    .or_else(|| self.names.get(name))
                    .copied()
                    .ok_or(Wrong("a type that the Avro schema or its references define"));
            }
        };
        let number = self.push(shape);
        // The form of both is the same.
        if let (true, Some(node)) = (matches!(name, "int" | "long"), self.nodes.get_mut(number)) {
            node.told.type_name = Some(if name == "int" { "int32" } else { "int64" }.into());
        }
        Ok(number)
    }

    fn object(&mut self, json: &Json, namespace: &str) -> Result<usize, Wrong> {
        const PARTS: Wrong = Wrong("a complete type of an Avro schema");
        let text = |name: &str| json.get(name).and_then(Json::as_str);
        let kind = json.get("type").ok_or(PARTS)?;
        let Some(kind) = kind.as_str() else { return self.node(kind, namespace) };
        let number = match kind {
            "array" => {
                let items = self.node(json.get("items").ok_or(PARTS)?, namespace)?;
                self.push(Shape::Array(items))
            }
            "map" => {
                let values = self.node(json.get("values").ok_or(PARTS)?, namespace)?;
                self.push(Shape::Map(values))
            }
            "record" | "error" | "enum" | "fixed" => {
                let name = text("name").ok_or(PARTS)?;
                let full = qualified(name, text("namespace").unwrap_or(namespace));
                let number = self.push(Shape::Null);
                self.names.insert(full.clone(), number);
                let shape = self.definition(json, kind, &full).map_err(|_| PARTS)?;
                let logical = Logical::named(&full, |_| None);
                if let Some(node) = self.nodes.get_mut(number) {
                    (node.shape, node.logical) = (shape, logical);
                }
                number
            }
            name => self.named(name, namespace)?,
        };
        let logical = told(json);
        if let Some(node) = self.nodes.get_mut(number) {
            node.logical = logical.or(node.logical.take());
            node.map_entry = text("connect.internal.type") == Some("MapEntry");
            node.told.take(json);
        }
        Ok(number)
    }

    fn definition(&mut self, json: &Json, kind: &str, full: &str) -> Result<Shape, Wrong> {
        const PARTS: Wrong = Wrong("a complete type of an Avro schema");
        let list = |name: &str| json.get(name).and_then(Json::as_array).ok_or(PARTS);
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace);
        Ok(match kind {
            "enum" => Shape::Enum(
                list("symbols")?
                    .iter()
                    .map(|symbol| symbol.as_str().map(Box::from).ok_or(PARTS))
                    .collect::<Result<_, _>>()?,
            ),
            "fixed" => {
                let size = json.get("size").and_then(Json::as_u64).ok_or(PARTS)?;
                Shape::Fixed(usize::try_from(size).map_err(|_| PARTS)?)
            }
            _ => Shape::Record(
                list("fields")?
                    .iter()
                    .map(|field| {
                        let name = field.get("name").and_then(Json::as_str).ok_or(PARTS)?;
                        let node = self.node(field.get("type").ok_or(PARTS)?, namespace)?;
                        Ok((name.into(), node))
                    })
                    .collect::<Result<_, Wrong>>()?,
            ),
        })
    }
}

/// What the attributes of a type say about its values.
fn told(json: &Json) -> Option<Logical> {
    let text = |name: &str| json.get(name).and_then(Json::as_str);
    let parameters = json.get("connect.parameters");
    let parameter = |name: &str| parameters?.get(name)?.as_str();
    let named = text("connect.name").and_then(|name| Logical::named(name, parameter));
    let scale = json.get("scale").and_then(Json::as_i64).and_then(|n| i32::try_from(n).ok());
    let of_avro = || Logical::of_avro(text("logicalType")?, scale);
    let unsigned = || {
        let wraps = text("type") == Some("long") && unsigned_bigint(parameter(SOURCE_TYPE));
        wraps.then_some(Logical::UnsignedBigint)
    };
    named.or_else(of_avro).or_else(unsigned)
}

fn qualified(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::logical::Unit;
    use super::*;

    #[test]
    fn reads_attributes_of_primitive_types() {
        let schema = AvroSchema::parse(
            r#"{"type":"record","name":"Value","namespace":"a.b","fields":[
                {"name":"t","type":["null",{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroTimestamp"}]},
                {"name":"d","type":{"type":"bytes","scale":2,"precision":10,"logicalType":"decimal"}},
                {"name":"u","type":{"type":"long","connect.parameters":{"__debezium.source.column.type":"BIGINT UNSIGNED"}}},
                {"name":"n","type":["null","Value"]},
                {"name":"x","type":["null",{"type":"array","items":{"type":"int","connect.name":"io.debezium.time.Date"}}]}]}"#,
            &[],
        )
        .unwrap();
        let logical = |name| schema.logical(schema.field(schema.root(), name).unwrap());
        assert_eq!(logical("t"), Logical::Timestamp(Unit::Micros));
        assert_eq!(logical("d"), Logical::Decimal { scale: Some(2) });
        assert_eq!(logical("u"), Logical::UnsignedBigint);
        assert_eq!(logical("x"), Logical::Array(Box::new(Logical::Date)));
        assert_eq!(logical("n"), Logical::Plain);
    }

    #[test]
    fn types_become_schemas_of_connect() {
        let text = r#"{"type":"record","name":"R","fields":[
            {"name":"s","type":{"type":"int","connect.type":"int16"}},
            {"name":"l","type":["null","long"]},
            {"name":"d","type":{"type":"bytes","scale":2,"precision":10,"logicalType":"decimal"}},
            {"name":"x","type":["null",{"type":"array","items":"string"}]},
            {"name":"next","type":["null","R"]}]}"#;
        let schema = AvroSchema::parse(text, &[]).unwrap();
        let connect = schema.connect(schema.root());
        let of = |name: &str| connect.field(name).unwrap();
        assert_eq!((of("s").type_name.as_str(), of("s").optional), ("int16", false));
        assert_eq!((of("l").type_name.as_str(), of("l").optional), ("int64", true));
        assert_eq!(of("d").parameter("connect.decimal.precision"), Some("10"));
        assert_eq!(of("x").items.as_ref().unwrap().type_name, "string");
        assert_eq!(of("next").field("next").unwrap().type_name, "struct");
        let wide = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"R"},{"name":"b","type":"R"}]}"#;
        let schema = AvroSchema::parse(wide, &[]).unwrap();
        assert_eq!(schema.connect(schema.root()).type_name, "struct");
    }

    #[test]
    fn takes_types_from_references() {
        let reference = r#"{"type":"enum","name":"x.Color","symbols":["red"]}"#;
        let text = r#"{"type":"record","name":"R","fields":[{"name":"c","type":"x.Color"}]}"#;
        assert!(AvroSchema::parse(text, &[]).is_err());
        let schema = AvroSchema::parse(text, &[reference]).unwrap();
        assert_eq!(schema.logical(schema.field(schema.root(), "c").unwrap()), Logical::String);
        assert_ne!(schema.stamp(), AvroSchema::parse(text, &[reference]).unwrap().stamp());
    }

    #[test]
    fn refuses_what_is_no_schema() {
        for text in
            ["", "{}", "7", r#"{"type":"record","name":"x"}"#, r#"{"type":"fixed"}"#, "\"x\""]
        {
            assert!(AvroSchema::parse(text, &[]).is_err(), "{text}");
        }
    }
}
