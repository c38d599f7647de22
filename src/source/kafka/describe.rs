//! What rows topics hold, and how their records are to be read.

use super::client::Client;
use super::format::Asked;
use super::peek;
use super::registry::Registry;
use super::sampling::{Kept, Sampling, extents};
use crate::decode::kafka::Record;
use crate::decode::kafka::datum::Value;
use crate::decode::kafka::framing::{Part, schema_id};
use crate::decode::kafka::pg_type::{Family, without_extension};
use crate::decode::kafka::purpose::purpose;
use crate::decode::kafka::sample::{Forms, Opened, Sample, form, open, temporal};
use crate::decode::kafka::schema::Schema;
use crate::decode::kafka::select::Where;
use crate::decode::kafka::settings::{Format, Layout, Settings};
pub use crate::decode::kafka::shape::{Field, ToldBy};
use crate::decode::kafka::shape::{connector, shape};
use crate::decode::kafka::table_change::{self, Table};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::wait::Deadline;
use crate::source::postgres::quote::quote_literal;
use pgrx::Spi;
use std::collections::HashMap;

/// Records that are looked at from each end of a partition.
const PER_END: i64 = 25;

/// What rows some topics hold.
#[derive(Clone, Debug)]
pub struct Described {
    /// How their records are read.
    pub settings: Settings,
    /// Which of them concern the table.
    pub selection: Where,
    /// The columns, in the order of the records.
    pub columns: Vec<Field>,
    /// The columns of the key, in the key's order; none where [`Described::no_key`] tells why.
    pub key: Vec<String>,
    /// Why there is no key.
    pub no_key: Option<&'static str>,
    /// Whether schemas come with the records, embedded or by their ids.
    pub with_schema: bool,
}

impl Described {
    /// The error for a table that needs a key and was given none.
    pub fn without_key(&self, topic: &str) -> OdsError {
        let reason = self.no_key.unwrap_or("their key tells no columns");
        let columns: Vec<&str> = self.columns.iter().map(|field| field.name.as_str()).collect();
        OdsError::new(
            ErrorKind::InvalidArgument,
            format!("records of topic {topic} tell no key: {reason}"),
        )
        .detail(format!("Columns are: {}.", columns.join(", ")))
        .hint("key => '{…}', the columns by which a row is known")
    }
}

/// What was found in topics.
pub enum Inspected {
    /// Rows of a table.
    Rows(Box<Described>),
    /// Something else.
    Other(&'static str),
}

/// What topics of schema changes tell, by the topic, once they have been read.
pub type Changes = HashMap<String, Upstream>;

/// What a topic of schema changes tells.
#[derive(Default)]
pub struct Upstream {
    /// The kind of connector that writes it.
    connector: Option<String>,
    /// The tables, the latest last.
    tables: Vec<Table>,
}

/// Looks at some records of `topics` and tells what rows they hold, with the layout and the forms that
/// `asked` leaves open guessed.
pub fn describe(
    client: &Client,
    registry: Option<&mut Registry>,
    topics: &[String],
    asked: &Asked,
    deadline: Deadline,
) -> Result<Described> {
    let mut sampling = Sampling::default();
    for name in topics {
        let topic = peek::find(client, client.server(), name, deadline)?;
        let extents = extents(client, &topic, deadline)?;
        sampling.ends(client, &topic, &extents, PER_END, deadline)?;
    }
    let mut changes = Changes::new();
    match inspect(client, registry, topics, asked, &mut sampling, &mut changes, deadline)? {
        Inspected::Rows(described) => Ok(*described),
        Inspected::Other(purpose) => Err(OdsError::new(
            ErrorKind::InvalidArgument,
            format!("{} holds {purpose}, not rows of a table", topics.join(", ")),
        )
        .hint(format!(
            "SELECT * FROM ods.discover({}) WHERE syncable;",
            quote_literal(client.server())
        ))),
    }
}

/// Tells what records that were read from `topics` hold.
pub fn inspect(
    client: &Client,
    mut registry: Option<&mut Registry>,
    topics: &[String],
    asked: &Asked,
    sampling: &mut Sampling,
    known: &mut Changes,
    deadline: Deadline,
) -> Result<Inspected> {
    if sampling.kept.is_empty() {
        sampling.kept.extend(topics.iter().map(|topic| Kept::nothing(topic)));
    }
    let records: Vec<Record<'_>> = sampling.kept.iter().map(Kept::record).collect();
    let look = Look::at(&records, registry.as_deref_mut(), topics, asked)?;
    let samples = look.samples(&records, registry.as_deref())?;
    let purpose = topics.iter().find_map(|name| purpose(name, &samples));
    if let (Some(purpose), true) = (purpose, asked.is_open()) {
        return Ok(Inspected::Other(purpose));
    }
    let Some(mut guessed) = form(look.forms, &samples, asked.prefix()) else {
        return Err(nothing_told(topics, sampling.cut_short));
    };
    let mut settings = asked.resolve(&guessed);
    let selection = asked.selection(&settings.layout)?;
    let samples = selected(samples, &settings, &selection, topics)?;
    let mut connector = connector(&samples, &settings.layout);
    let with_schema = samples.iter().any(Sample::has_schema);
    let server = samples.iter().find_map(Sample::server).or_else(|| {
        // Without an envelope, the name of the topic has it in front.
        topics.first().and_then(|topic| topic.split_once('.')).map(|(name, _)| name.to_owned())
    });
    let mut found = shape(&samples, &settings, &[]);
    let is_sure = found.columns.iter().all(|field| field.told_by == ToldBy::Schema);
    if let Some(server) = server.filter(|_| !is_sure || found.key.is_empty()) {
        if !known.contains_key(&server) {
            // The registry is asked anew, so that what was read with it is read again.
            drop(samples);
            let changes = changes(client, registry.as_deref_mut(), &server, deadline)?;
            known.insert(server.clone(), changes);
        }
        if let Some(Upstream { connector: told, tables }) =
            known.get(&server).filter(|upstream| !upstream.tables.is_empty())
        {
            if connector.is_none() {
                connector.clone_from(told);
                guessed.temporal = temporal(connector.as_deref());
                settings = asked.resolve(&guessed);
            }
            let samples = look.samples(&records, registry.as_deref())?;
            let samples = selected(samples, &settings, &selection, topics)?;
            found = shape(&samples, &settings, tables);
        }
    }
    if found.columns.is_empty() {
        return Err(nothing_told(topics, sampling.cut_short));
    }
    let mut columns = found.columns;
    known_here(&mut columns)?;
    let (key, no_key) = (found.key, found.no_key);
    Ok(Inspected::Rows(Box::new(Described {
        settings,
        selection,
        columns,
        key,
        no_key,
        with_schema,
    })))
}

/// The forms of some records, and the schemas that no record has named.
pub struct Look {
    /// The forms of keys and values.
    pub forms: Forms,
    /// The latest schemas of topics without records.
    latest: Vec<(String, Part, Schema)>,
}

impl Look {
    /// Looks at records, and fetches the schemas that they name; of topics without any, the latest.
    pub fn at(
        records: &[Record<'_>],
        registry: Option<&mut Registry>,
        topics: &[String],
        asked: &Asked,
    ) -> Result<Self> {
        let mut forms = Forms::of(records);
        forms.key = asked.key().unwrap_or(forms.key);
        forms.value = asked.value().or(forms.value);
        forms.framing = asked.framing().unwrap_or(forms.framing);
        let mut look = Self { forms, latest: Vec::new() };
        let has_values = records.iter().any(|record| record.value.is_some());
        let Some(registry) = registry else {
            return match look.forms.value {
                Some(Format::Avro) if has_values => Err(OdsError::new(
                    ErrorKind::InvalidArgument,
                    "records name schemas of a registry, and the server has no \"schema.registry.url\"",
                )
                .hint("ALTER SERVER … OPTIONS (ADD \"schema.registry.url\" 'https://…');")),
                None => Err(unreadable(topics)),
                _ => Ok(look),
            };
        };
        if !has_values {
            return look.fetch_latest(registry, topics).map(|()| look);
        }
        if look.forms.value.is_none() {
            return Err(unreadable(topics));
        }
        for record in records {
            for part in [Part::Key, Part::Value] {
                if look.form_of(part) == Format::Avro
                    && let Ok(Some(framed)) = schema_id(part, record, look.forms.framing)
                {
                    registry.schema(framed.schema).map_err(|error| match part {
                        Part::Key => error.hint(
                            "format => '{\"key\": \"ignored\"}' or \"text\", if keys are no Avro",
                        ),
                        Part::Value => error,
                    })?;
                }
            }
        }
        Ok(look)
    }

    /// Fetches what the registry has for topics without records.
    fn fetch_latest(&mut self, registry: &Registry, topics: &[String]) -> Result<()> {
        for topic in topics {
            for part in [Part::Key, Part::Value] {
                let subject = format!("{topic}-{}", part.name());
                if let Some(schema) = registry.latest(&subject)? {
                    match part {
                        Part::Key => self.forms.key = Format::Avro,
                        Part::Value => self.forms.value = Some(Format::Avro),
                    }
                    self.latest.push((topic.clone(), part, schema.connect(schema.root())));
                }
            }
        }
        Ok(())
    }

    fn form_of(&self, part: Part) -> Format {
        match part {
            Part::Key => self.forms.key,
            Part::Value => self.forms.value.unwrap_or_default(),
        }
    }

    fn latest_of<'a>(&self, record: &Record<'_>, part: Part) -> Option<Opened<'a>> {
        let is_it =
            |(topic, known, _): &&(String, Part, Schema)| topic == record.topic && *known == part;
        let (_, _, schema) = self.latest.iter().find(is_it)?;
        Some(Opened { schema: Some(schema.clone()), value: Value::Null })
    }

    /// Takes the records apart. Those that can't be read are left out if others can.
    pub fn samples<'a>(
        &self,
        records: &'a [Record<'a>],
        registry: Option<&'a Registry>,
    ) -> Result<Vec<Sample<'a>>> {
        let mut samples = Vec::with_capacity(records.len());
        let mut wrong = None;
        for record in records {
            let part = |part: Part| {
                if let Some(latest) = self.latest_of(record, part) {
                    return Ok(Some(latest));
                }
                let format = self.form_of(part);
                let framed = schema_id(part, record, self.forms.framing).ok().flatten();
                let schema = framed.and_then(|framed| registry?.known(framed.schema));
                open(part, record, format, schema, self.forms.framing)
                    .map_err(|wrong| (part.name(), wrong))
            };
            match (part(Part::Key), part(Part::Value)) {
                (Ok(key), Ok(value)) => samples.push(Sample { record, key, value }),
                (Err(error), _) | (_, Err(error)) => wrong = wrong.or(Some((record, error))),
            }
        }
        match (samples.is_empty(), wrong) {
            (true, Some((record, (part, wrong)))) => Err(OdsError::new(
                ErrorKind::Protocol,
                format!(
                    "topic {}, partition {}, offset {}: the {part} is not {}",
                    record.topic, record.partition, record.offset, wrong.0
                ),
            )
            .hint("format => '{\"key\": \"…\", \"value\": \"…\"}' tells how records are written")),
            _ => Ok(samples),
        }
    }
}

/// Those samples that concern the table.
fn selected<'a>(
    samples: Vec<Sample<'a>>,
    settings: &Settings,
    selection: &Where,
    topics: &[String],
) -> Result<Vec<Sample<'a>>> {
    let values = samples.iter().filter(|sample| sample.value.is_some()).count();
    let (fitting, others): (Vec<_>, Vec<_>) =
        samples.into_iter().partition(|sample| sample.concerns(selection));
    if values == 0 || fitting.iter().any(|sample| sample.value.is_some()) {
        return Ok(fitting);
    }
    let mut tables: Vec<String> = match settings.layout {
        Layout::Debezium => {
            others.iter().filter_map(|sample| sample.source().table.map(String::from)).collect()
        }
        _ => Vec::new(),
    };
    tables.sort();
    tables.dedup();
    let hint = if tables.is_empty() {
        "Look at some of them: SELECT * FROM ods.peek(…);".to_owned()
    } else {
        format!("Values of \"source.table\" there: {}.", tables.join(", "))
    };
    Err(OdsError::new(
        ErrorKind::NotFound,
        format!(
            "none of {values} records of {} is one that \"where\" in format asks for",
            topics.join(", ")
        ),
    )
    .hint(hint))
}

/// What a connector's topic of schema changes tells; nothing where there is no such topic.
fn changes(
    client: &Client,
    mut registry: Option<&mut Registry>,
    server: &str,
    deadline: Deadline,
) -> Result<Upstream> {
    let nothing = Ok(Upstream::default());
    let Some(topic) = client.topic(server, deadline)? else { return nothing };
    let extents = extents(client, &topic, deadline)?;
    let mut few = Sampling::default();
    few.ends(client, &topic, &extents, 1, deadline)?;
    // Another topic of that name may be large, and hold anything.
    match upstream_of(&few, registry.as_deref_mut(), &topic.name) {
        Ok(Some(_)) => {}
        Err(error) if error.kind == ErrorKind::SourceUnreachable => return Err(error),
        Ok(None) | Err(_) => return nothing,
    }
    let mut sampling = Sampling::default();
    sampling.all(client, &topic, &extents, deadline)?;
    Ok(upstream_of(&sampling, registry, &topic.name)?.unwrap_or_default())
}

/// What records of a topic of schema changes tell; none where they are no such records.
fn upstream_of(
    sampling: &Sampling,
    mut registry: Option<&mut Registry>,
    topic: &str,
) -> Result<Option<Upstream>> {
    let records: Vec<Record<'_>> = sampling.kept.iter().map(Kept::record).collect();
    if records.is_empty() {
        return Ok(None);
    }
    let names = [topic.to_owned()];
    let look = Look::at(&records, registry.as_deref_mut(), &names, &Asked::default())?;
    let samples = look.samples(&records, registry.as_deref())?;
    if !samples.iter().any(|sample| sample.field("tableChanges").is_some()) {
        return Ok(None);
    }
    let mut upstream = Upstream::default();
    for sample in &samples {
        let Some(Opened { value, .. }) = &sample.value else { continue };
        let connector = sample.source().connector.map(String::from);
        let family = connector.as_deref().map_or(Family::Other, Family::of);
        // A record of another kind tells none.
        let tables = table_change::tables(value.clone(), family).unwrap_or_default();
        upstream.tables.extend(tables);
        upstream.connector = connector.or(upstream.connector);
    }
    Ok(Some(upstream))
}

/// Replaces types of extensions that are not installed here.
pub fn known_here(columns: &mut [Field]) -> Result<()> {
    let mut known: HashMap<String, bool> = HashMap::new();
    for field in columns {
        let Some(instead) = without_extension(&field.type_sql) else { continue };
        let is_here = match known.get(&field.type_sql) {
            Some(is_here) => *is_here,
            None => is_here(&field.type_sql)?,
        };
        known.insert(field.type_sql.clone(), is_here);
        if !is_here {
            field.type_sql = instead.to_owned();
        }
    }
    Ok(())
}

fn is_here(type_sql: &str) -> Result<bool> {
    Spi::get_one_with_args::<bool>(
        "SELECT pg_catalog.to_regtype($1) IS NOT NULL",
        &[type_sql.into()],
    )
    .map(|found| found.unwrap_or(false))
    .map_err(|error| OdsError::new(ErrorKind::Bug, format!("asking for a type: {error}")))
}

fn nothing_told(topics: &[String], cut_short: bool) -> OdsError {
    let names = topics.join(", ");
    let message = match cut_short {
        true => format!("no row of {names} came in time"),
        false => format!("{names} has no rows yet, and no schema tells their columns"),
    };
    OdsError::new(ErrorKind::WrongState, message).hint(
        "Wait for the first row, or make the table first and adopt an existing table: CREATE TABLE …; then ods.create_synced_table with that table and format => '{\"layout\": \"debezium\", \"key\": \"json\", \"value\": \"json\"}'.",
    )
}

fn unreadable(topics: &[String]) -> OdsError {
    OdsError::new(
        ErrorKind::Unsupported,
        format!("records of {} are neither JSON nor Avro of a registry", topics.join(", ")),
    )
    .hint(format!(
        "SELECT * FROM ods.peek(…, {});",
        quote_literal(topics.first().map_or("", String::as_str))
    ))
}
