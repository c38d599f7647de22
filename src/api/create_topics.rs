//! `ods.create_synced_table` for topics of a Kafka cluster.

use crate::api::columns::{self, Form, Wanted};
use crate::api::create::{Request, on_delete, refuse_too_many_columns};
use crate::api::names;
use crate::api::register::{Publication, Source, StreamNames, begin_loading, register, stream_for};
use crate::api::target::{self, ColumnPlan, Feeder};
use crate::api::types::LocalType;
use crate::catalog::deferred_index;
use crate::catalog::table::spi_error;
use crate::catalog::topics::{self, TopicSource};
use crate::decode::kafka::guess::GuessedForm;
use crate::error::{ErrorKind, OdsError, Result};
use crate::fence;
use crate::guard;
use crate::pg::foreign::{self, ForeignServer};
use crate::pg::owner;
use crate::pg::wait::Deadline;
use crate::source::kafka::access::KafkaAccess;
use crate::source::kafka::client::{Client, Topic};
use crate::source::kafka::describe::{self, Described};
use crate::source::kafka::format::{self, Asked};
use crate::source::kafka::peek;
use crate::source::kafka::registry::Registry;
use crate::source::kafka::start::{self, Start};
use crate::source::postgres::quote::quote_ident;
use crate::worker::board;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::time::Duration;

/// A person waits for the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// A schema registry that is slower than this is not well.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);

/// Creates or adopts the table and has it follow its topics. The caller has USAGE on the server.
pub fn create(request: &Request<'_>, server: ForeignServer) -> Result<pg_sys::Oid> {
    let asked = Asked::parse(request.format)?;
    let topics = topic_names(request.source)?;
    let start = match request.start {
        None => Start::Earliest,
        Some(text) => Start::parse(text, &topics, start::time)?,
    };
    let deadline = Deadline::after(PATIENCE);
    let server_name = server.name.clone();
    let access = KafkaAccess::with_mapping_of(server, foreign::current_user())?;
    let mut registry = Registry::of(&access, REGISTRY_PATIENCE);
    let client = Client::open(access)?;
    let found: Vec<Topic> = topics
        .iter()
        .map(|topic| peek::find(&client, &server_name, topic, deadline))
        .collect::<Result<_>>()?;
    let adopted = adopted_columns(request.target)?;
    let (settings, selection, plan) = match adopted {
        // A person has said all there is to know, so that records need not tell it.
        Some(columns) if asked.is_complete() => {
            let settings = asked.resolve(&GuessedForm::default());
            let selection = asked.selection(&settings.layout)?;
            (settings, selection, plan_adopted(request, &columns)?)
        }
        adopted => {
            let registry = registry.as_mut();
            let described = describe::describe(&client, registry, &topics, &asked, deadline)?;
            let plan = match adopted {
                Some(columns) => plan_adopted(request, &columns)?,
                None => plan_described(request, &described, &topics)?,
            };
            (described.settings, described.selection, plan)
        }
    };
    refuse_too_many_columns(&plan, on_delete(request)?, Feeder::Topics)?;
    let places = start.places(&client, &found, deadline)?;
    drop(client);
    let types: Vec<LocalType> = plan
        .iter()
        .map(|column| match column.form {
            Form::Value => LocalType::Known(column.source_type.clone()),
            Form::Text => LocalType::Text("text"),
        })
        .collect();
    let table = target::prepare(request, &plan, &types, Feeder::Topics)?;
    owner::as_extension_owner(|| {
        fence::record()?;
        let names = StreamNames { stream: None, publication: Publication::None };
        let stream = stream_for(&server_name, &names)?;
        let all = topics.join(", ");
        let source = Source { schema: "", table: &all, oid: 0, newest_attnum: 0 };
        let id = register(request, &source, &plan, &table, stream)?;
        topics::add(
            id,
            &TopicSource {
                topics: topics.clone(),
                format: format::to_json(&settings, &selection),
                connector: None,
            },
        )?;
        places.iter().try_for_each(|(partition, place)| topics::begin(id, partition, place))?;
        table.deferred.iter().try_for_each(|index| deferred_index::add(id, index))?;
        begin_loading(id, "none")
    })?;
    guard::changed();
    board::wake_at_commit();
    Ok(table.relation)
}

/// The topics that `source` names, with commas between: names of topics have none.
fn topic_names(source: &str) -> Result<Vec<String>> {
    let mut topics: Vec<String> = Vec::new();
    for topic in source.split(',').map(str::trim) {
        let is_name = !topic.is_empty()
            && topic.len() <= 249
            && topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !is_name {
            return Err(OdsError::new(
                ErrorKind::InvalidArgument,
                format!("{topic:?} is not the name of a topic"),
            )
            .hint("source => 'shop.public.orders', or several: 'a.orders, b.orders'"));
        }
        if !topics.iter().any(|known| known == topic) {
            topics.push(topic.to_owned());
        }
    }
    Ok(topics)
}

/// A column of a table that is here.
struct Here {
    name: String,
    type_sql: String,
    key_position: Option<usize>,
}

/// The columns of the table named, but for ours and generated ones; none if there is no such table.
fn adopted_columns(name: &str) -> Result<Option<Vec<Here>>> {
    let (schema, table) = names::qualified(name)?;
    let qualified = match schema {
        Some(schema) => format!("{}.{}", quote_ident(&schema), quote_ident(&table)),
        None => quote_ident(&table),
    };
    let relation = Spi::get_one_with_args::<pg_sys::Oid>(
        "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid",
        &[qualified.as_str().into()],
    )
    .map_err(spi_error)?;
    let Some(relation) = relation else { return Ok(None) };
    Spi::connect(|client| {
        let rows = client
            .select(
                // Values of a domain are read as those of what it is made of.
                "SELECT a.attname::text, \
                        (WITH RECURSIVE base (oid, modifier) AS ( \
                             SELECT a.atttypid, a.atttypmod \
                             UNION ALL SELECT t.typbasetype, t.typtypmod FROM base b \
                                       JOIN pg_catalog.pg_type t ON t.oid = b.oid AND t.typtype = 'd') \
                         SELECT pg_catalog.format_type(b.oid, b.modifier) FROM base b \
                         JOIN pg_catalog.pg_type t ON t.oid = b.oid AND t.typtype <> 'd'), \
                        pg_catalog.array_position((SELECT i.indkey::int2[] FROM pg_catalog.pg_index i \
                             WHERE i.indrelid = a.attrelid AND i.indisunique AND (i.indisprimary OR i.indisreplident) \
                             ORDER BY i.indisreplident DESC LIMIT 1), a.attnum)::int4 \
                 FROM pg_catalog.pg_attribute a \
                 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
                   AND NOT pg_catalog.starts_with(a.attname::text, '_ods_') \
                 ORDER BY a.attnum",
                None,
                &[relation.into()],
            )
            .map_err(spi_error)?;
        rows.map(|row| match (row.get::<String>(1), row.get::<String>(2), row.get::<i32>(3)) {
            (Ok(Some(name)), Ok(Some(type_sql)), Ok(place)) => {
                // Counted from 0 within an int2vector.
                let key_position = place.and_then(|place| usize::try_from(place).ok());
                Ok(Here { name, type_sql, key_position: key_position.map(|place| place + 1) })
            }
            _ => Err(OdsError::new(ErrorKind::Bug, "a column has no name or type")),
        })
        .collect::<Result<Vec<Here>>>()
        .map(Some)
    })
}

/// Which fields of events go to which columns of a table that is here.
fn plan_adopted(request: &Request<'_>, here: &[Here]) -> Result<Vec<ColumnPlan>> {
    let wanted: Vec<Wanted> = match request.columns {
        Some(items) => items.iter().map(|item| columns::parse(item)).collect::<Result<_>>()?,
        None => here.iter().map(|column| Wanted::same(&column.name)).collect(),
    };
    let mut plan: Vec<ColumnPlan> = Vec::with_capacity(wanted.len());
    for Wanted { source, target, form } in wanted {
        let column = here.iter().find(|column| column.name == target);
        let Some(column) = column else {
            return Err(OdsError::new(
                ErrorKind::NotFound,
                format!("table {} has no column {}", request.target, quote_ident(&target)),
            )
            .hint(format!("columns => '{{{} AS …}}'", quote_ident(&source))));
        };
        if plan.iter().any(|other| other.target == target || other.source == source) {
            return Err(OdsError::new(
                ErrorKind::InvalidArgument,
                format!("column {} is named twice", quote_ident(&target)),
            ));
        }
        let key_position = match request.key {
            None => column.key_position,
            Some(key) => {
                key.iter().position(|part| *part == target || *part == source).map(|at| at + 1)
            }
        };
        plan.push(ColumnPlan {
            source,
            target,
            attnum: 0,
            type_oid: 0,
            type_modifier: -1,
            source_type: column.type_sql.clone(),
            form,
            collation: None,
            key_position,
        });
    }
    if plan.iter().all(|column| column.key_position.is_none()) {
        return Err(OdsError::new(
            ErrorKind::Mismatch,
            format!("table {} has no primary key among the columns to sync", request.target),
        )
        .hint(format!("ALTER TABLE {} ADD PRIMARY KEY (…);", request.target)));
    }
    Ok(plan)
}

/// The columns that records tell, for a table that is yet to be made.
fn plan_described(
    request: &Request<'_>,
    described: &Described,
    topics: &[String],
) -> Result<Vec<ColumnPlan>> {
    let key: &[String] = match request.key {
        Some(key) => key,
        None if described.key.is_empty() => return Err(described.without_key(&topics.join(", "))),
        None => &described.key,
    };
    let wanted: Vec<Wanted> = match request.columns {
        Some(items) => items.iter().map(|item| columns::parse(item)).collect::<Result<_>>()?,
        None => described.columns.iter().map(|field| Wanted::same(&field.name)).collect(),
    };
    let mut plan: Vec<ColumnPlan> = Vec::with_capacity(wanted.len());
    for Wanted { source, target, form } in wanted {
        let Some(field) = described.columns.iter().find(|field| field.name == source) else {
            let names: Vec<&str> =
                described.columns.iter().map(|field| field.name.as_str()).collect();
            return Err(OdsError::new(
                ErrorKind::NotFound,
                format!("records of {} have no field {source:?}", topics.join(", ")),
            )
            .hint(format!("Fields are: {}.", names.join(", "))));
        };
        if target.starts_with("_ods_") || plan.iter().any(|other| other.target == target) {
            return Err(OdsError::new(
                ErrorKind::InvalidArgument,
                format!("column name {target:?} is taken"),
            )
            .hint(format!("columns => '{{{} AS other_name, …}}'", quote_ident(&source))));
        }
        plan.push(ColumnPlan {
            key_position: key.iter().position(|part| *part == source).map(|at| at + 1),
            source,
            target,
            attnum: 0,
            type_oid: 0,
            type_modifier: -1,
            source_type: field.type_sql.clone(),
            form,
            collation: None,
        });
    }
    for part in key {
        if !plan.iter().any(|column| column.source == *part) {
            return Err(OdsError::new(
                ErrorKind::InvalidArgument,
                format!("key column {part:?} is not among the columns to sync"),
            )
            .hint(format!("columns => '{{{}, …}}'", quote_ident(part))));
        }
    }
    let too_long = |column: &&ColumnPlan| column.target.len() >= pg_sys::NAMEDATALEN as usize;
    if let Some(column) = plan.iter().find(too_long) {
        return Err(OdsError::new(
            ErrorKind::Unsupported,
            format!("column name {} is too long here", quote_ident(&column.target)),
        )
        .hint(format!("columns => '{{{} AS shorter, …}}'", quote_ident(&column.source))));
    }
    Ok(plan)
}
