//! `ods.create_synced_table`.

use crate::api::columns::{self, Wanted};
use crate::api::create_topics;
use crate::api::names;
use crate::api::register::{Publication, Source, StreamNames, begin_loading, register, stream_for};
use crate::api::target::{self, ColumnPlan, Feeder};
use crate::api::types::{self, LocalType};
use crate::apply::statements::OnDelete;
use crate::catalog::deferred_index;
use crate::catalog::table::{OnDrift, OnError, execute};
use crate::error::{ErrorKind, OdsError, Result};
use crate::fence;
use crate::guard;
use crate::pg::libpq::Connection;
use crate::pg::wait::Deadline;
use crate::pg::{encoding, foreign, owner};
use crate::settings;
use crate::source::check::Status;
use crate::source::postgres::computed::{self, Computed};
use crate::source::postgres::connect::{ServerAccess, connect_control};
use crate::source::postgres::describe::{self, Generated, ReplicaIdentity, Selection, SourceTable};
use crate::source::postgres::local;
use crate::source::postgres::obstacle;
use crate::source::postgres::quote::{quote_ident, quote_literal};
use crate::source::server::{self, Kind};
use crate::worker::board;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Creates a read-only table that follows a table of a source, or adopts an existing one.
#[pg_extern(sql = r#"
CREATE FUNCTION ods.create_synced_table(
    target text,
    server text,
    source text,
    consumer text,
    tier text DEFAULT 'near-real-time',
    max_staleness interval DEFAULT NULL,
    columns text[] DEFAULT NULL,
    key text[] DEFAULT NULL,
    transform text DEFAULT NULL,
    filter text DEFAULT NULL,
    on_delete text DEFAULT 'delete',
    on_drift text DEFAULT 'evolve',
    type_schema text DEFAULT NULL,
    on_error text DEFAULT 'park',
    start text DEFAULT NULL,
    format jsonb DEFAULT NULL
) RETURNS regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
#[expect(clippy::too_many_arguments, reason = "each is a named argument of the SQL function")]
fn create_synced_table(
    target: &str,
    server: &str,
    source: &str,
    consumer: &str,
    tier: &str,
    max_staleness: Option<pgrx::datum::Interval>,
    columns: Option<Vec<String>>,
    key: Option<Vec<String>>,
    transform: Option<&str>,
    filter: Option<&str>,
    on_delete: &str,
    on_drift: &str,
    type_schema: Option<&str>,
    on_error: &str,
    start: Option<&str>,
    format: Option<pgrx::JsonB>,
) -> std::result::Result<pg_sys::Oid, ErrorReport> {
    let format = format.map(|format| format.0.to_string());
    Ok(create(&Request {
        target,
        server,
        source,
        consumer,
        tier,
        max_staleness,
        columns: columns.as_deref(),
        key: key.as_deref(),
        transform,
        filter,
        on_delete,
        on_drift,
        type_schema,
        on_error,
        start,
        format: format.as_deref(),
    })?)
}

/// What a caller asks for.
pub(super) struct Request<'a> {
    pub target: &'a str,
    pub server: &'a str,
    pub source: &'a str,
    pub consumer: &'a str,
    pub tier: &'a str,
    pub max_staleness: Option<pgrx::datum::Interval>,
    pub columns: Option<&'a [String]>,
    pub key: Option<&'a [String]>,
    pub transform: Option<&'a str>,
    pub filter: Option<&'a str>,
    pub on_delete: &'a str,
    pub on_drift: &'a str,
    /// Where types of the source's own are made; else beside the table.
    pub type_schema: Option<&'a str>,
    pub on_error: &'a str,
    /// From where the partitions of topics are read.
    pub start: Option<&'a str>,
    /// How records of topics are read.
    pub format: Option<&'a str>,
}

fn create(request: &Request<'_>) -> Result<pg_sys::Oid> {
    if let fence::Fence::Foreign { reason } = fence::status() {
        return Err(OdsError::new(ErrorKind::Fenced, format!("this database is fenced: {reason}"))
            .hint("SELECT ods.adopt_database();"));
    }
    on_delete(request)?;
    check_on_error(request.on_error)?;
    OnDrift::asked(request.on_drift)?;
    check_choices(request.consumer, request.tier, request.max_staleness.as_ref())?;
    let (server, kind) = server::for_caller(request.server)?;
    if kind == Kind::Kafka {
        return create_topics::create(request, server);
    }
    for (name, value) in [("start", request.start), ("format", request.format)] {
        if value.is_some() {
            return Err(OdsError::new(
                ErrorKind::InvalidArgument,
                format!("{name} is for tables of Kafka servers"),
            )
            .hint("Leave it out: the whole table is read, and then followed."));
        }
    }
    let access = ServerAccess::with_mapping_of(server, foreign::current_user())?;
    let mut connection = connect_control(&access, Deadline::after(settings::connect_timeout()))?;
    refuse_unknown_encoding(&connection)?;
    let found = find_source(&mut connection, &access, request)?;
    let key = key_of(&found, request.key)?;
    let plan = plan_columns(&found, request, &key)?;
    refuse_too_many_columns(&plan, on_delete(request)?, Feeder::Table)?;
    let types = types::plan(&mut connection, &plan)?;
    refuse_unreadable_names(&found, &plan, &types)?;
    if request.columns.is_none() && request.transform.is_none() {
        tell_of_generated(&mut connection, &found, request.target)?;
    }
    drop(connection);
    let table = target::prepare(request, &plan, &types, Feeder::Table)?;
    owner::as_extension_owner(|| {
        fence::record()?;
        let names = StreamNames {
            stream: access.stream.slot_name.as_deref(),
            publication: Publication::Of(access.stream.publication.as_deref()),
        };
        let stream = stream_for(&access.server.name, &names)?;
        let source = Source {
            schema: &found.schema,
            table: &found.name,
            oid: found.oid,
            newest_attnum: found.columns.iter().map(|column| column.attnum).max().unwrap_or(0),
        };
        let id = register(request, &source, &plan, &table, stream)?;
        register_members(id, &found)?;
        table.deferred.iter().try_for_each(|index| deferred_index::add(id, index))?;
        begin_loading(id, if table.has_rows { "due" } else { "none" })
    })?;
    guard::changed();
    board::wake_at_commit();
    Ok(table.relation)
}

pub(super) fn on_delete(request: &Request<'_>) -> Result<OnDelete> {
    OnDelete::parse(request.on_delete).ok_or_else(|| {
        OdsError::new(
            ErrorKind::InvalidArgument,
            format!("on_delete can't be {:?}", request.on_delete),
        )
        .hint("on_delete => 'delete', 'mark' or 'ignore'")
    })
}

/// Checks the choice of what a change does that can't be applied.
pub fn check_on_error(name: &str) -> Result<()> {
    if OnError::parse(name).is_some() {
        return Ok(());
    }
    Err(OdsError::new(ErrorKind::InvalidArgument, format!("on_error can't be {name:?}"))
        .hint("on_error => 'park' or 'halt'"))
}

/// Checks what is promised about a table.
pub fn check_choices(
    consumer: &str,
    tier: &str,
    max_staleness: Option<&pgrx::datum::Interval>,
) -> Result<()> {
    if !["real-time", "near-real-time", "batch", "feedback"].contains(&tier) {
        return Err(OdsError::new(ErrorKind::InvalidArgument, format!("tier can't be {tier:?}"))
            .hint("tier => 'real-time', 'near-real-time', 'batch' or 'feedback'"));
    }
    if consumer.trim().is_empty() {
        return Err(OdsError::new(
            ErrorKind::InvalidArgument,
            "every synced table is kept for a named consumer",
        )
        .hint("consumer => 'support cockpit'"));
    }
    if max_staleness.is_some_and(|bound| bound.as_micros() <= 0) {
        return Err(OdsError::new(ErrorKind::InvalidArgument, "max_staleness must be positive")
            .hint("max_staleness => '5 seconds'"));
    }
    Ok(())
}

/// The table at the source, if it can be synced.
fn find_source(
    connection: &mut Connection,
    access: &ServerAccess,
    request: &Request<'_>,
) -> Result<SourceTable> {
    let (schema, name) = names::qualified(request.source)?;
    let wanted = (schema.unwrap_or_else(|| "public".to_owned()), name);
    let found = describe::describe(
        connection,
        Selection::Named(std::slice::from_ref(&wanted)),
        Deadline::after(settings::network_timeout()),
    )?;
    let Some(source) = found.into_iter().next() else {
        return Err(OdsError::new(
            ErrorKind::NotFound,
            format!(
                "the source has no table {}.{}",
                quote_ident(&wanted.0),
                quote_ident(&wanted.1)
            ),
        )
        .hint(format!(
            "SELECT source_schema, source_table FROM ods.discover({});",
            quote_literal(request.server)
        )));
    };
    let role = access.source_user().unwrap_or("the role of the user mapping");
    let keyless_but_chosen =
        request.key.is_some() && source.replica_identity == ReplicaIdentity::Full;
    if let Some(obstacle) = obstacle::obstacles(&source, role)
        .into_iter()
        .find(|_| !(keyless_but_chosen && source.key().is_none()))
    {
        let error = OdsError::new(
            ErrorKind::Unsupported,
            format!(
                "table {} of the source can't be synced: {}",
                source.quoted_name(),
                obstacle.reason
            ),
        );
        return Err(match obstacle.fix {
            Some(fix) => error.hint(format!("{fix}  -- at the source")),
            None => error,
        });
    }
    Ok(source)
}

/// The columns of ours take places among those that a table can have.
pub(super) fn refuse_too_many_columns(
    plan: &[ColumnPlan],
    on_delete: OnDelete,
    feeder: Feeder,
) -> Result<()> {
    let room = pg_sys::MaxHeapAttributeNumber as usize - target::stamps(on_delete, feeder).len();
    if plan.len() <= room {
        return Ok(());
    }
    Err(OdsError::new(
        ErrorKind::Unsupported,
        format!(
            "{} columns are too many: beside those that ods adds, a table has room for {room}",
            plan.len()
        ),
    )
    .hint("columns => '{…}' without those that nobody reads"))
}

/// Changes do not carry generated columns. What they are computed by is the source's word, so a
/// person reads the statement before it runs here.
fn tell_of_generated(
    connection: &mut Connection,
    source: &SourceTable,
    target: &str,
) -> Result<()> {
    if source.columns.iter().all(|column| column.generated == Generated::No) {
        return Ok(());
    }
    let found = computed::describe(connection, source.oid)?;
    let all = |part: fn(&Computed) -> &str| found.iter().map(part).collect::<Vec<_>>().join(", ");
    let message = format!(
        "generated columns of {} are left out, since changes do not carry them: {}",
        source.quoted_name(),
        all(|column| &column.quoted)
    );
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        encoding::told(&message),
        "ods",
    )
    .set_hint(encoding::told(&format!(
        "To compute them here: ALTER TABLE {target} {};",
        all(|column| &column.clause)
    )))
    .report(PgLogLevel::NOTICE);
    Ok(())
}

/// What the source writes must be readable here.
fn refuse_unknown_encoding(connection: &Connection) -> Result<()> {
    let theirs = connection.parameter_status(c"server_encoding").unwrap_or_default();
    let check = local::encoding_check(&theirs)?;
    if check.status != Status::Failed {
        return Ok(());
    }
    Err(OdsError::new(ErrorKind::Unsupported, check.detail).hint(check.fix.unwrap_or_default()))
}

/// Names must fit here, and reach our own code: which reads text as UTF-8, whatever this database
/// is encoded in.
fn refuse_unreadable_names(
    source: &SourceTable,
    plan: &[ColumnPlan],
    types: &[LocalType],
) -> Result<()> {
    let names = || {
        [source.schema.as_str(), source.name.as_str()]
            .into_iter()
            .chain(source.leaves.iter().flat_map(|leaf| [leaf.schema.as_str(), &leaf.name]))
            .chain(plan.iter().flat_map(|column| [column.source.as_str(), &column.target]))
    };
    let of_types = || types.iter().flat_map(LocalType::names);
    if !encoding::is_utf8_here()
        && let Some(name) = names().chain(of_types()).find(|name| !name.is_ascii())
    {
        return Err(OdsError::new(
            ErrorKind::Unsupported,
            format!(
                "the name {} at the source has characters that need a database in UTF8",
                quote_ident(name).escape_unicode()
            ),
        )
        .hint(
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;  -- here, and install ods there",
        ));
    }
    // A name of 63 bytes in the source's encoding may have more in ours.
    match plan.iter().find(|column| column.target.len() >= pg_sys::NAMEDATALEN as usize) {
        None => Ok(()),
        Some(column) => Err(OdsError::new(
            ErrorKind::Unsupported,
            format!("column name {} is too long here", quote_ident(&column.target)),
        )
        .hint(format!("columns => '{{{} AS shorter, …}}'", quote_ident(&column.source)))),
    }
}

/// The key that changes carry. A chosen key must be what the source's replica identity sends, or
/// deletes could not be told apart.
fn key_of(source: &SourceTable, chosen: Option<&[String]>) -> Result<Vec<String>> {
    let theirs = source.key().unwrap_or_default();
    let Some(chosen) = chosen else { return Ok(theirs.to_vec()) };
    let same = theirs.len() == chosen.len() && chosen.iter().all(|column| theirs.contains(column));
    let is_whole = source.replica_identity == ReplicaIdentity::Full;
    if same || (is_whole && source.is_unique_by(chosen)) {
        return Ok(chosen.to_vec());
    }
    if is_whole {
        let columns: Vec<String> = chosen.iter().map(|column| quote_ident(column)).collect();
        let (table, columns) = (source.quoted_name(), columns.join(", "));
        let message = format!("no unique index of {table} tells rows apart by the key asked for");
        return Err(OdsError::new(ErrorKind::InvalidArgument, message)
            .hint(format!("CREATE UNIQUE INDEX ON {table} ({columns});  -- at the source")));
    }
    Err(OdsError::new(
        ErrorKind::InvalidArgument,
        format!(
            "changes of {} are keyed by ({}), not by the key asked for",
            source.quoted_name(),
            theirs.join(", ")
        ),
    )
    .hint(format!(
        "ALTER TABLE {} REPLICA IDENTITY USING INDEX …;  -- at the source",
        source.quoted_name()
    )))
}

/// The relations at the source that hold the table's rows: oid, schema, name, estimated rows.
fn members(source: &SourceTable) -> Vec<(u32, &str, &str, Option<i64>)> {
    if source.kind == describe::TableKind::Partitioned {
        return source
            .leaves
            .iter()
            .map(|leaf| (leaf.oid, leaf.schema.as_str(), leaf.name.as_str(), None))
            .collect();
    }
    vec![(source.oid, source.schema.as_str(), source.name.as_str(), source.estimated_rows)]
}

/// Which columns are read, under which names, in which types they will be here.
fn plan_columns(
    source: &SourceTable,
    request: &Request<'_>,
    key: &[String],
) -> Result<Vec<ColumnPlan>> {
    let wanted: Vec<Wanted> = match request.columns {
        Some(items) => items.iter().map(|item| columns::parse(item)).collect::<Result<_>>()?,
        None => source
            .columns
            .iter()
            .filter(|column| column.generated == Generated::No)
            .map(|column| Wanted::same(&column.name))
            .collect(),
    };
    let display = source.quoted_name();
    let mut plan: Vec<ColumnPlan> = Vec::with_capacity(wanted.len());
    for Wanted { source: name, target, form } in wanted {
        let column = source.columns.iter().find(|column| column.name == name).ok_or_else(|| {
            OdsError::new(
                ErrorKind::NotFound,
                format!("table {display} of the source has no column {name:?}"),
            )
            .hint(format!(
                "SELECT columns FROM ods.discover({}) WHERE source_schema = {} AND source_table = {};",
                quote_literal(request.server),
                quote_literal(&source.schema),
                quote_literal(&source.name)
            ))
        })?;
        if column.generated != Generated::No {
            return Err(OdsError::new(
                ErrorKind::Unsupported,
                format!(
                    "column {name:?} of {display} is generated there, and changes do not carry it"
                ),
            )
            .hint("Leave it out of `columns`, and compute it here."));
        }
        if target.starts_with("_ods_") || plan.iter().any(|other| other.target == target) {
            return Err(OdsError::new(
                ErrorKind::InvalidArgument,
                format!("column name {target:?} is taken"),
            )
            .hint(format!("columns => '{{{} AS other_name, …}}'", quote_ident(&name))));
        }
        plan.push(ColumnPlan {
            source: name.clone(),
            target,
            attnum: column.attnum,
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
            source_type: column.type_sql.clone(),
            form,
            collation: column.collation.clone(),
            key_position: key.iter().position(|part| *part == name).map(|position| position + 1),
        });
    }
    for part in key {
        if !plan.iter().any(|column| column.source == *part) {
            return Err(OdsError::new(
                ErrorKind::InvalidArgument,
                format!("key column {part:?} of {display} is not among the columns to sync"),
            )
            .hint(format!("columns => '{{{}, …}}'", quote_ident(part))));
        }
    }
    Ok(plan)
}

/// The relations at the source that feed the table; the worker keeps the list current.
fn register_members(id: i32, source: &SourceTable) -> Result<()> {
    for member in members(source) {
        execute(
            "INSERT INTO ods.source_member (table_id, source_oid, source_schema, source_table, rows_estimated) \
             VALUES ($1, $2, $3, $4, $5)",
            &[
                id.into(),
                pg_sys::Oid::from(member.0).into(),
                member.1.into(),
                member.2.into(),
                member.3.into(),
            ],
        )?;
    }
    Ok(())
}
