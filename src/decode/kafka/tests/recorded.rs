//! The records of real connectors under `tests/samples/kafka`, and the rows that they stand for.

use crate::decode::kafka::Record;
use crate::decode::kafka::avro_schema::AvroSchema;
use crate::decode::kafka::decoder::Schemas;
use crate::decode::kafka::framing::{Framing, Part, SchemaRef, schema_id};
use crate::decode::kafka::sample::{Forms, Sample, form, open};
use crate::decode::kafka::settings::{Format, Settings};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// All sets.
pub const ALL: [&str; 13] = [
    "postgres-json-schema",
    "postgres-json",
    "postgres-avro",
    "postgres-avro-headers",
    "postgres-flat",
    "postgres-modes-string",
    "postgres-modes-connect",
    "mariadb-json-schema",
    "mariadb-json",
    "mariadb-avro",
    "mariadb-flat",
    "mariadb-modes-string",
    "mariadb-modes-connect",
];

/// A set of records.
pub struct Set {
    pub name: String,
    lines: Vec<Line>,
    schemas: HashMap<u64, AvroSchema>,
}

struct Line {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

fn file(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples/kafka");
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn bytes(json: &Json) -> Option<Vec<u8>> {
    json.as_str().map(|text| STANDARD.decode(text).unwrap())
}

impl Set {
    pub fn read(name: &str) -> Self {
        let line = |line: &str| {
            let json: Json = serde_json::from_str(line).unwrap();
            let headers = json["headers"].as_array().unwrap().iter();
            Line {
                topic: json["topic"].as_str().unwrap().to_owned(),
                partition: json["partition"].as_i64().unwrap() as i32,
                offset: json["offset"].as_i64().unwrap(),
                timestamp: json["timestamp"].as_i64(),
                headers: headers
                    .map(|pair| (pair[0].as_str().unwrap().to_owned(), bytes(&pair[1])))
                    .collect(),
                key: bytes(&json["key"]),
                value: bytes(&json["value"]),
            }
        };
        let lines = file(&format!("{name}.jsonl")).lines().map(line).collect();
        let mut schemas = HashMap::new();
        if name.contains("avro") {
            let texts: BTreeMap<String, String> =
                serde_json::from_str(&file(&format!("{name}.schemas.json"))).unwrap();
            for (id, text) in texts {
                schemas.insert(id.parse().unwrap(), AvroSchema::parse(&text, &[]).unwrap());
            }
        }
        Self { name: name.to_owned(), lines, schemas }
    }

    /// The records of a topic by what its name has behind the set's; all of them without.
    pub fn records(&self, topic: Option<&str>) -> Vec<Record<'_>> {
        let is_asked = |line: &&Line| match topic {
            None => true,
            Some("") => line.topic == self.name,
            Some(topic) => line.topic == format!("{}.{topic}", self.name),
        };
        self.lines
            .iter()
            .filter(is_asked)
            .map(|line| Record {
                topic: &line.topic,
                partition: line.partition,
                offset: line.offset,
                timestamp: line.timestamp,
                key: line.key.as_deref(),
                value: line.value.as_deref(),
                headers: line
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_deref()))
                    .collect(),
            })
            .collect()
    }

    /// The schema of a record's part.
    pub fn schema(&self, part: Part, record: &Record<'_>) -> Option<&AvroSchema> {
        if self.schemas.is_empty() {
            return None;
        }
        let framed = schema_id(part, record, Framing::Confluent).unwrap()?;
        let id = match framed.schema {
            SchemaRef::Id(id) => u64::from(id),
            SchemaRef::GlobalId(id) | SchemaRef::ContentId(id) => id,
            SchemaRef::Guid(_) => panic!("no record has a GUID"),
        };
        Some(self.schemas.get(&id).unwrap_or_else(|| panic!("schema {id}")))
    }

    /// The texts of the schemas of a registry.
    pub fn schema_texts(&self) -> Vec<String> {
        let texts: BTreeMap<String, String> =
            serde_json::from_str(&file(&format!("{}.schemas.json", self.name))).unwrap();
        texts.into_values().collect()
    }

    pub fn both(&self, record: &Record<'_>) -> Schemas<'_> {
        Schemas { key: self.schema(Part::Key, record), value: self.schema(Part::Value, record) }
    }

    /// Records taken apart, in the forms that they seem to have.
    pub fn samples<'a>(&'a self, records: &'a [Record<'a>]) -> (Forms, Vec<Sample<'a>>) {
        let forms = Forms::of(records);
        let part = |part: Part, record: &'a Record<'a>| {
            let format = match part {
                Part::Key => forms.key,
                Part::Value => forms.value.unwrap_or(Format::Json),
            };
            open(part, record, format, self.schema(part, record), forms.framing).unwrap()
        };
        let samples = records.iter().map(|record| Sample {
            record,
            key: part(Part::Key, record),
            value: part(Part::Value, record),
        });
        (forms, samples.collect())
    }

    /// How the records of a topic seem to be written.
    pub fn settings(&self, topic: &str) -> Settings {
        let records = self.records(Some(topic));
        let (forms, samples) = self.samples(&records);
        let form = form(forms, &samples, "__").unwrap_or_else(|| panic!("{} {topic}", self.name));
        Settings {
            layout: form.layout,
            key: form.key,
            value: form.value,
            framing: form.framing,
            temporal: form.temporal,
            ..Settings::default()
        }
    }

    /// The names of the tables that have topics, with the schema in front.
    pub fn tables(&self) -> Vec<String> {
        let prefix = format!("{}.", self.name);
        let mut tables: Vec<String> = self
            .lines
            .iter()
            .filter_map(|line| line.topic.strip_prefix(&prefix))
            .filter(|name| name.contains('.'))
            .map(str::to_owned)
            .collect();
        tables.dedup();
        tables
    }
}

/// The truth: what the tables held.
pub struct Truth {
    /// Columns and their types by table.
    pub types: BTreeMap<String, Vec<(String, String)>>,
    /// The statement that ran before it, and the rows of each table.
    pub states: Vec<(String, BTreeMap<String, Vec<Row>>)>,
}

/// Columns and their texts.
pub type Row = BTreeMap<String, Option<String>>;

impl Truth {
    /// The truth of a set's source.
    pub fn of(set: &str) -> Self {
        let source = set.split('-').next().unwrap();
        let text = file(&format!("{source}.rows.jsonl"));
        let mut lines = text.lines();
        let types: Json = serde_json::from_str(lines.next().unwrap()).unwrap();
        let types = serde_json::from_value(types["types"].clone()).unwrap();
        let state = |line: &str| {
            let json: Json = serde_json::from_str(line).unwrap();
            let step = json["step"].as_str().unwrap().to_owned();
            (step, serde_json::from_value(json["tables"].clone()).unwrap())
        };
        Self { types, states: lines.map(state).collect() }
    }
}
