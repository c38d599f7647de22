//! The topics of a cluster, and which of them can be synced.

use super::access::KafkaAccess;
use super::client::{Client, Topic};
use super::describe::{Changes, Described, Inspected, inspect};
use super::format::Asked;
use super::peek::{format_of, value_as_json};
use super::registry::Registry;
use super::sampling::{Kept, Sampling, extents};
use crate::decode::kafka::purpose::purpose;
use crate::decode::kafka::settings::{Format, Layout};
use crate::error::{OdsError, Result};
use crate::pg::wait::Deadline;
use crate::source::postgres::quote::quote_literal;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Records that are looked at from each end of a partition.
const PER_END: i64 = 3;
/// A topic that takes longer must not keep the others from being looked at.
const PER_TOPIC: Duration = Duration::from_secs(5);
/// A schema registry that is slower than this is not well.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);
/// Over which time messages are counted.
const RATE_OVER: Duration = Duration::from_secs(60);

/// A topic with what a person needs to choose.
#[derive(Debug, Default)]
pub struct Found {
    /// Its name.
    pub topic: String,
    /// The columns of the key.
    pub key: Option<Vec<String>>,
    /// Names and types of the columns, as far as they can be told.
    pub columns: Vec<String>,
    /// How many offsets there are, of which a few may hold no record.
    pub estimated_rows: Option<i64>,
    /// How many partitions.
    pub partitions: Option<i32>,
    /// Messages a second over the last minute.
    pub messages_per_second: Option<f64>,
    /// How records are written.
    pub format: Option<String>,
    /// The value of a late record as JSON.
    pub sample: Option<String>,
    /// Why it can't be synced, or what could not be learnt.
    pub reason: Option<String>,
    /// What to do about it.
    pub fix: Option<String>,
    /// Whether it can be synced without more being said.
    pub syncable: bool,
}

/// The topics of the cluster. What can't be learnt of one before the deadline is told as its reason.
pub fn discover(access: KafkaAccess, deadline: Deadline) -> Result<Vec<Found>> {
    let mut registry = Registry::of(&access, REGISTRY_PATIENCE);
    let client = Client::open_for_questions(access)?;
    let topics = client.topics(deadline)?;
    let mut changes = Changes::new();
    let look = |topic: &Topic| {
        client.forget_refusal();
        let mut found = Found {
            topic: topic.name.clone(),
            partitions: i32::try_from(topic.partitions.len()).ok(),
            ..Found::default()
        };
        let deadline = deadline.min(Deadline::after(PER_TOPIC));
        if deadline.is_past() {
            found.reason = Some("time ran out before it was looked at".to_owned());
            return found;
        }
        if let Err(error) =
            fill(&mut found, &client, registry.as_mut(), topic, &mut changes, deadline)
        {
            (found.reason, found.fix) = told(error);
        }
        found
    };
    Ok(topics.iter().map(look).collect())
}

fn fill(
    found: &mut Found,
    client: &Client,
    mut registry: Option<&mut Registry>,
    topic: &Topic,
    changes: &mut Changes,
    deadline: Deadline,
) -> Result<()> {
    let extents = extents(client, topic, deadline)?;
    found.estimated_rows = Some(extents.iter().map(|(_, extent)| extent.span()).sum());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = i64::try_from(now.saturating_sub(RATE_OVER).as_millis()).unwrap_or(i64::MAX);
    let offsets = client.offsets_since(&topic.name, &topic.partitions, since, deadline)?;
    let high = |partition: i32| {
        extents.iter().find(|(known, _)| *known == partition).map(|(_, extent)| extent.high)
    };
    let counts = offsets.iter().filter_map(|(partition, offset)| {
        Some(high(*partition)?.saturating_sub((*offset)?).max(0))
    });
    found.messages_per_second = Some(counts.sum::<i64>() as f64 / RATE_OVER.as_secs_f64());
    if let Some(purpose) = purpose(&topic.name, &[]) {
        found.reason = Some(format!("it holds {purpose}"));
        return Ok(());
    }
    let mut sampling = Sampling::default();
    sampling.ends(client, topic, &extents, PER_END, deadline)?;
    let records = sampling.kept.iter().map(Kept::record);
    let latest =
        records.filter(|record| record.value.is_some()).max_by_key(|record| record.timestamp);
    if let Some(latest) = &latest {
        found.format = Some(format_of(latest));
        found.sample = value_as_json(latest, registry.as_deref_mut());
    }
    drop(latest);
    let topics = [topic.name.clone()];
    let asked = Asked::default();
    match inspect(client, registry, &topics, &asked, &mut sampling, changes, deadline)? {
        Inspected::Other(purpose) => found.reason = Some(format!("it holds {purpose}")),
        Inspected::Rows(described) => rows(found, *described),
    }
    Ok(())
}

fn rows(found: &mut Found, described: Described) {
    found.format = Some(format_text(&described));
    let columns = described.columns.iter();
    found.columns = columns.map(|field| format!("{} {}", field.name, field.type_sql)).collect();
    if described.key.is_empty() {
        let error = described.without_key(&found.topic);
        found.reason = Some(error.message);
        found.fix = Some(format!(
            "ods.create_synced_table(…, source => {}, key => '{{…}}')",
            quote_literal(&found.topic)
        ));
    } else {
        found.key = Some(described.key);
        found.syncable = true;
    }
}

/// How records are written, such as `debezium json with schema, key json`.
fn format_text(described: &Described) -> String {
    let settings = &described.settings;
    let form = |format: Format| match format {
        Format::Json => "json",
        Format::Avro => "avro",
        Format::Text => "text",
        Format::Ignored => "not read",
    };
    let layout = match settings.layout {
        Layout::Debezium => "debezium",
        Layout::Flattened { .. } => "flattened",
        Layout::Plain => "plain",
    };
    let schema = described.with_schema && settings.value == Format::Json;
    let schema = if schema { " with schema" } else { "" };
    format!("{layout} {}{schema}, key {}", form(settings.value), form(settings.key))
}

fn told(error: OdsError) -> (Option<String>, Option<String>) {
    let reason = match error.detail {
        Some(detail) => format!("{} ({detail})", error.message),
        None => error.message,
    };
    (Some(reason), error.hint)
}
