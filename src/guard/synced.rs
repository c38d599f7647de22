//! Which relations are synced: a set kept by each process, dropped when the catalog table changes.

use crate::pg::{extension, relcache, scan};
use pgrx::pg_sys::Oid;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

thread_local! {
    /// The oid of `ods.synced_table` that [`RELATIONS`] was read from.
    static CATALOG: Cell<Oid> = const { Cell::new(Oid::INVALID) };
    /// Whether [`RELATIONS`] is what the catalog says.
    static CURRENT: Cell<bool> = const { Cell::new(false) };
    /// Rises with each invalidation, so that a reading interrupted by one is known to be old.
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    static RELATIONS: RefCell<Relations> = RefCell::new(Relations::default());
}

#[derive(Default)]
struct Relations {
    /// With their ids in the catalog.
    synced: HashMap<Oid, i32>,
    /// Whether one of them is partitioned; only then are the ancestors of a partition looked up.
    partitioned: bool,
}

/// Listens for changes of the catalog table. To be called once, while the library loads.
pub(super) fn install() {
    relcache::on_invalidation(|relation| {
        if relation == Oid::INVALID || relation == CATALOG.get() {
            CURRENT.set(false);
            GENERATION.set(GENERATION.get().wrapping_add(1));
        }
    });
}

/// Makes every session read the set of synced tables anew, once this transaction commits; this one
/// with its next command.
pub fn changed() {
    if let Some(catalog) = extension::table(c"synced_table") {
        relcache::invalidate(catalog);
    }
}

/// The synced table that `relation` is or that it is a partition of.
///
/// Without the extension in this database that costs one look-up in the namespace cache, and
/// otherwise one in the set.
pub(super) fn root_of(relation: Oid) -> Option<Oid> {
    read_if_old();
    let (is_synced, look_above) = RELATIONS
        .with_borrow(|relations| (relations.synced.contains_key(&relation), relations.partitioned));
    if is_synced {
        return Some(relation);
    }
    if !look_above {
        return None;
    }
    let ancestors = relcache::ancestors(relation);
    RELATIONS.with_borrow(|relations| {
        ancestors.into_iter().find(|ancestor| relations.synced.contains_key(ancestor))
    })
}

/// All synced tables of this database.
pub(super) fn tables() -> Vec<Oid> {
    read_if_old();
    RELATIONS.with_borrow(|relations| relations.synced.keys().copied().collect())
}

/// The id in the catalog of the synced table `relation`.
pub(super) fn id_of(relation: Oid) -> Option<i32> {
    read_if_old();
    RELATIONS.with_borrow(|relations| relations.synced.get(&relation).copied())
}

/// How often a reading that an invalidation interrupted begins again, before its result is used
/// for once: a server that discards its caches all the time, to test itself, must not hang here.
const READINGS: usize = 3;

fn read_if_old() {
    for _ in 0..READINGS {
        if CURRENT.get() {
            return;
        }
        let generation = GENERATION.get();
        let catalog = extension::table(c"synced_table");
        CATALOG.set(catalog.unwrap_or(Oid::INVALID));
        let synced: HashMap<Oid, i32> = catalog
            .map(|catalog| {
                scan::rows(catalog, [c"relation", c"table_id"], |[relation, id]| {
                    Some((relation.oid()?, id.integer()?))
                })
            })
            .unwrap_or_default()
            .into_iter()
            .collect();
        let partitioned = synced.keys().any(|relation| relcache::kind(*relation) == Some('p'));
        RELATIONS.replace(Relations { synced, partitioned });
        if catalog.is_none() {
            // Nothing would tell of the extension's arrival: look again next time.
            return;
        }
        CURRENT.set(generation == GENERATION.get());
    }
}

/// Where the rows of a synced table come from.
pub(super) struct Origin {
    pub server: String,
    /// A table with its schema, or topics.
    pub source: String,
}

/// The origin of the synced table `root`, as far as the catalog tells.
pub(super) fn origin(root: Oid) -> Option<Origin> {
    let columns = [c"relation", c"stream_id", c"source_schema", c"source_table"];
    let catalog = extension::table(c"synced_table")?;
    let rows = scan::rows(catalog, columns, |[relation, stream, schema, table]| {
        (relation.oid()? == root).then_some(())?;
        Some((stream.integer()?, schema.text()?, table.text()?))
    });
    let (stream, schema, table) = rows.into_iter().next()?;
    let server = streams().into_iter().find(|known| known.id == stream)?.server;
    let source = if schema.is_empty() { table } else { format!("{schema}.{table}") };
    Some(Origin { server, source })
}

/// A row of `ods.stream`.
pub(super) struct Stream {
    pub id: i32,
    pub server: String,
    /// For a Postgres server, the name of its replication slot.
    pub name: String,
    /// The publication at the source, where `ods` made it.
    pub publication: Option<String>,
}

/// The streams of this database.
pub(super) fn streams() -> Vec<Stream> {
    let Some(catalog) = extension::table(c"stream") else { return Vec::new() };
    let columns = [
        c"stream_id",
        c"server_name",
        c"stream_name",
        c"publication_name",
        c"publication_made_by_ods",
    ];
    scan::rows(catalog, columns, |[id, server, name, publication, is_ours]| {
        Some(Stream {
            id: id.integer()?,
            server: server.text()?,
            name: name.text()?,
            publication: publication.text().filter(|_| is_ours.boolean() == Some(true)),
        })
    })
}

/// The synced tables that read from `server`.
pub(super) fn tables_of(server: &str) -> Vec<Oid> {
    let ids: Vec<i32> = streams()
        .into_iter()
        .filter(|stream| stream.server == server)
        .map(|stream| stream.id)
        .collect();
    let Some(catalog) = extension::table(c"synced_table") else { return Vec::new() };
    scan::rows(catalog, [c"relation", c"stream_id"], |[relation, stream]| {
        ids.contains(&stream.integer()?).then(|| relation.oid()).flatten()
    })
}

/// What the catalog says of the columns of `root`.
pub(super) enum Columns {
    /// These come from the source.
    Named(Vec<String>),
    /// A transform makes them, so any may.
    Transformed,
}

/// The columns of the synced table `root` that its stream writes.
pub(super) fn columns(root: Oid) -> Columns {
    let Some(catalog) = extension::table(c"synced_table") else {
        return Columns::Named(Vec::new());
    };
    let columns = [c"relation", c"table_id", c"transform"];
    let table = scan::rows(catalog, columns, |[relation, id, transform]| {
        (relation.oid()? == root).then_some(())?;
        Some((id.integer()?, transform.text().is_some()))
    });
    match (table.first(), extension::table(c"synced_column")) {
        (Some((_, true)), _) => Columns::Transformed,
        (Some((wanted, false)), Some(catalog)) => {
            let columns = [c"table_id", c"target_name"];
            Columns::Named(scan::rows(catalog, columns, |[id, name]| {
                (id.integer()? == *wanted).then(|| name.text()).flatten()
            }))
        }
        _ => Columns::Named(Vec::new()),
    }
}
