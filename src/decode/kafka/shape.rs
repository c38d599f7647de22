//! What rows a topic holds: columns, types and key, as its records tell them.

use super::by_value::Class;
use super::datum::Value;
use super::metadata::is_metadata;
use super::pg_type::{Family, type_of};
use super::sample::{Opened, Sample};
use super::schema::Schema;
use super::settings::{Binary, Format, Layout, Settings};
use super::table_change::Table;
use std::borrow::Cow;

/// A field of keys by which routed records tell their table apart; no column.
const ROUTED: &str = "__dbz__physicalTableIdentifier";

/// How a column's type is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// By the schema of a record.
    Schema,
    /// By the topic in which the connector writes changes of shape.
    SchemaChange,
    /// By the values of some records: others may differ.
    Sample,
}

/// A field of rows and the column that it fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name, which is the column's.
    pub name: String,
    /// The column's type.
    pub type_sql: String,
    /// Whether it may be null.
    pub nullable: bool,
    /// How the type is known.
    pub told_by: ToldBy,
}

/// What rows some topics hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The columns; none where neither a schema nor a row tells any.
    pub columns: Vec<Field>,
    /// The columns of the key, in the key's order.
    pub key: Vec<String>,
    /// Why there is no key.
    pub no_key: Option<&'static str>,
}

/// The kind of connector that wrote the records: `postgresql`, `mysql`, …
pub fn connector(samples: &[Sample<'_>], layout: &Layout) -> Option<String> {
    let told = |sample: &Sample<'_>| match layout {
        Layout::Debezium => sample.source().connector.map(Cow::into_owned),
        Layout::Flattened { prefix } => {
            let names = ["connector", "source_connector"].map(|name| format!("{prefix}{name}"));
            names.iter().find_map(|name| sample.field(name)?.into_plain_text()).map(Cow::into_owned)
        }
        Layout::Plain => None,
    };
    samples.iter().find_map(told)
}

/// Draws the shape of rows from records of one or more topics. `changes` are the tables that the
/// connector's topic of schema changes tells, the latest last.
pub fn shape(samples: &[Sample<'_>], settings: &Settings, changes: &[Table]) -> Shape {
    let family = connector(samples, &settings.layout)
        .map_or(Family::Other, |connector| Family::of(&connector));
    let reader = Reader { settings, family, changes };
    let mut topics: Vec<(&str, Vec<&Sample<'_>>)> = Vec::new();
    for sample in samples {
        let topic = sample.record.topic;
        match topics.iter_mut().find(|(name, _)| *name == topic) {
            Some((_, samples)) => samples.push(sample),
            None => topics.push((topic, vec![sample])),
        }
    }
    let mut shapes = topics.into_iter().map(|(_, mut samples)| {
        // The latest record of a topic has the shape that its table has now.
        samples.sort_by_key(|sample| (sample.record.timestamp, sample.record.offset));
        reader.topic(&samples)
    });
    let first = shapes.next().unwrap_or_default();
    shapes.fold(first, unite)
}

struct Reader<'r> {
    settings: &'r Settings,
    family: Family,
    changes: &'r [Table],
}

impl Reader<'_> {
    /// The shape of the rows of one topic, whose records are given from the oldest on.
    fn topic(&self, samples: &[&Sample<'_>]) -> Shape {
        let change = samples.iter().rev().find_map(|sample| self.change_of(sample));
        let columns = self
            .by_schema(samples)
            .or_else(|| change.map(|table| self.by_change(table, samples)))
            .unwrap_or_else(|| self.by_values(samples));
        let mut shape = Shape { columns, key: Vec::new(), no_key: None };
        self.key(&mut shape, samples, change);
        shape
    }

    fn change_of(&self, sample: &Sample<'_>) -> Option<&Table> {
        let source = sample.source();
        let mut changes = self.changes.iter().rev();
        if let Some(table) = source.table.as_deref() {
            let (database, schema) = (source.database.as_deref(), source.schema.as_deref());
            return changes.find(|change| change.is(database, schema, table));
        }
        // Without an envelope, the name of the topic ends with the table's.
        let (before, table) = sample.record.topic.rsplit_once('.')?;
        let (_, database) = before.rsplit_once('.')?;
        changes.find(|change| change.is(Some(database), None, table))
    }

    fn by_schema(&self, samples: &[&Sample<'_>]) -> Option<Vec<Field>> {
        let opened = samples.iter().rev().filter_map(|sample| sample.value.as_ref());
        let row = opened.filter_map(|opened| opened.schema.as_ref()).find_map(|schema| {
            let row = match self.settings.layout {
                Layout::Debezium => schema.field("after").or_else(|| schema.field("before")),
                _ => Some(schema),
            };
            row.filter(|row| !row.fields.is_empty())
        })?;
        Some(self.fields(row))
    }

    fn fields(&self, row: &Schema) -> Vec<Field> {
        let fields = row.fields.iter().filter(|(name, _)| self.is_column(name));
        let field = |(name, schema): &(String, Schema)| self.field(name, schema);
        fields.map(field).collect()
    }

    fn field(&self, name: &str, schema: &Schema) -> Field {
        let encoded = self.settings.binary != Binary::Base64;
        Field {
            name: name.to_owned(),
            type_sql: type_of(schema, self.family, encoded),
            nullable: schema.optional,
            told_by: ToldBy::Schema,
        }
    }

    fn by_change(&self, table: &Table, samples: &[&Sample<'_>]) -> Vec<Field> {
        let seen = self.by_values(samples);
        let type_of = |name: &str| {
            let found = seen.iter().find(|field| field.name == name);
            found.map_or_else(|| "text".to_owned(), |field| field.type_sql.clone())
        };
        let field = |column: &super::table_change::Column| {
            let (type_sql, told_by) = match &column.type_sql {
                Some(type_sql) => (type_sql.clone(), ToldBy::SchemaChange),
                None => (type_of(&column.name), ToldBy::Sample),
            };
            Field { name: column.name.clone(), type_sql, nullable: column.optional, told_by }
        };
        table.columns.iter().map(field).collect()
    }

    fn by_values(&self, samples: &[&Sample<'_>]) -> Vec<Field> {
        let rows: Vec<Vec<(String, Class)>> = match self.settings.layout {
            Layout::Debezium => {
                let after = samples.iter().filter_map(|sample| classes(sample.field("after")?));
                let after: Vec<_> = after.collect();
                if after.is_empty() {
                    let before = samples.iter().filter_map(|sample| sample.field("before"));
                    before.filter_map(classes).collect()
                } else {
                    after
                }
            }
            _ => {
                let values = samples.iter().filter_map(|sample| sample.value.as_ref());
                values.filter_map(|opened| classes(opened.value.clone())).collect()
            }
        };
        let mut fields: Vec<(String, Class)> = Vec::new();
        for (name, class) in rows.into_iter().flatten() {
            match fields.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = known.join(class),
                None if self.is_column(&name) => fields.push((name, class)),
                None => {}
            }
        }
        fields.into_iter().map(|(name, class)| by_class(name, class)).collect()
    }

    fn is_column(&self, name: &str) -> bool {
        match &self.settings.layout {
            // Without a prefix metadata can't be told from columns.
            Layout::Flattened { prefix } if prefix.is_empty() => name != "deleted",
            Layout::Flattened { prefix } => {
                !name.strip_prefix(prefix.as_str()).is_some_and(is_metadata)
            }
            _ => true,
        }
    }

    /// Finds the key and makes its columns not null.
    fn key(&self, shape: &mut Shape, samples: &[&Sample<'_>], change: Option<&Table>) {
        let told = match samples.iter().rev().find_map(|sample| sample.key.as_ref()) {
            Some(key) => self.key_fields(key),
            None if self.settings.key == Format::Ignored => Err("keys are not read"),
            None => Err("records have no key"),
        };
        let fields = match (told, change) {
            (Ok(fields), _) => fields,
            (Err(_), Some(change)) if !change.key.is_empty() => {
                let has = |name: &String| shape.columns.iter().any(|field| field.name == *name);
                if change.key.iter().all(has) {
                    shape.key.clone_from(&change.key);
                }
                Vec::new()
            }
            (Err(reason), _) => {
                shape.no_key = Some(reason);
                Vec::new()
            }
        };
        let mut missing = Vec::new();
        for field in fields {
            let known = |name: &str| shape.columns.iter().any(|field| field.name == name);
            // A key of MongoDB's connector has another name than its column.
            let name = match field.name.as_str() {
                "id" if !known("id") && known("_id") => "_id".to_owned(),
                name => name.to_owned(),
            };
            if !known(&name) {
                missing.push(field);
            }
            shape.key.push(name);
        }
        shape.columns.splice(0..0, missing);
        for field in &mut shape.columns {
            field.nullable &= !shape.key.contains(&field.name);
        }
    }

    fn key_fields(&self, key: &Opened<'_>) -> Result<Vec<Field>, &'static str> {
        const SINGLE: &str = "keys are single values without a name";
        let fields = match &key.schema {
            Some(schema) if schema.fields.is_empty() => return Err(SINGLE),
            Some(schema) => self.fields(schema),
            None => {
                let fields = classes(key.value.clone()).ok_or(SINGLE)?.into_iter();
                fields.map(|(name, class)| by_class(name, class)).collect()
            }
        };
        let fields: Vec<_> = fields.into_iter().filter(|field| field.name != ROUTED).collect();
        if fields.is_empty() { Err("keys have no fields") } else { Ok(fields) }
    }
}

fn by_class(name: String, class: Class) -> Field {
    let type_sql = class.type_sql().to_owned();
    Field { name, type_sql, nullable: true, told_by: ToldBy::Sample }
}

/// The fields of a row and the classes of their values. MongoDB's row is an object as JSON in a string.
fn classes(row: Value<'_>) -> Option<Vec<(String, Class)>> {
    let json;
    let row = match row {
        Value::Null => return None,
        Value::Text(text) => {
            json = text;
            Value::Json(json.trim())
        }
        row => row,
    };
    let fields = match row {
        Value::Json(text) if !text.starts_with('{') => return None,
        row => row.into_struct().ok()?,
    };
    Some(fields.into_iter().map(|(name, value)| (name.into_owned(), Class::of(value))).collect())
}

/// The shape of rows of both: what only one has may be null.
fn unite(mut one: Shape, other: Shape) -> Shape {
    let lacks = |fields: &[Field], name: &str| fields.iter().all(|field| field.name != name);
    for field in &mut one.columns {
        field.nullable |= lacks(&other.columns, &field.name);
    }
    for field in other.columns {
        match one.columns.iter_mut().find(|known| known.name == field.name) {
            Some(known) => {
                known.type_sql = common(&known.type_sql, &field.type_sql);
                known.nullable |= field.nullable;
                if known.told_by != field.told_by {
                    known.told_by = ToldBy::Sample;
                }
            }
            None => one.columns.push(Field { nullable: true, ..field }),
        }
    }
    if one.key != other.key {
        one.key.clear();
        one.no_key = Some("the topics have different keys");
    }
    one
}

/// A type for values of both.
fn common(one: &str, other: &str) -> String {
    const WIDER: [&str; 4] = ["smallint", "integer", "bigint", "numeric"];
    if one == other {
        return one.to_owned();
    }
    let (one, other) = (without_modifier(one), without_modifier(other));
    if one == other {
        return one;
    }
    let rank = |name: &str| WIDER.iter().position(|wider| *wider == name);
    let floats = ["real", "double precision"];
    match (rank(&one), rank(&other)) {
        (Some(a), Some(b)) => WIDER[a.max(b)].to_owned(),
        _ if floats.contains(&&*one) && floats.contains(&&*other) => floats[1].to_owned(),
        _ => "text".to_owned(),
    }
}

fn without_modifier(name: &str) -> String {
    match (name.find('('), name.find(')')) {
        (Some(open), Some(close)) if open < close => {
            format!("{}{}", &name[..open], &name[close + 1..])
        }
        _ => name.to_owned(),
    }
}
