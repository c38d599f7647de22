//! Which synced table the changes of a source relation belong to, and where its columns stand in
//! the relation's tuples.

use crate::apply::applier::Table;
use crate::catalog::table::SyncedTable;
use crate::decode::pgoutput::{Relation, ReplicaIdentity};
use crate::error::{ErrorKind, OdsError};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// Where changes of one source relation go.
#[derive(Clone, Debug)]
pub struct Route {
    /// The synced table's id.
    pub table: i32,
    /// For each synced column, its place in the relation's tuples.
    pub projection: Rc<[u16]>,
}

/// All routes of a stream.
#[derive(Default)]
pub struct Routes {
    members: HashMap<u32, Vec<i32>>,
    announced: HashMap<u32, Relation>,
    routes: HashMap<u32, Vec<Route>>,
    /// Relations as last announced, with the tables whose columns are not found in them.
    unroutable: BTreeSet<(u32, i32)>,
    order: Vec<i32>,
}

impl Routes {
    /// The routes of a relation: one for each synced table that it feeds.
    pub fn of(&self, relation: u32) -> &[Route] {
        self.routes.get(&relation).map_or(&[], Vec::as_slice)
    }

    /// Whether a relation feeds a table.
    pub fn is_member(&self, relation: u32) -> bool {
        self.members.contains_key(&relation)
    }

    /// The tables that a relation feeds.
    pub fn fed_by(&self, relation: u32) -> &[i32] {
        self.members.get(&relation).map_or(&[], Vec::as_slice)
    }

    /// Whether any relation no longer looks like a table that it feeds.
    pub fn has_unroutable(&self) -> bool {
        !self.unroutable.is_empty()
    }

    /// The tables whose columns are not found in a relation as it was last announced.
    pub fn unroutable(&self, relation: u32) -> impl Iterator<Item = i32> {
        self.unroutable.range((relation, i32::MIN)..=(relation, i32::MAX)).map(|(_, id)| *id)
    }

    /// Whether the source has told the shape of a relation.
    pub fn knows(&self, relation: u32) -> bool {
        self.announced.contains_key(&relation)
    }

    /// Tables in the order in which they are written.
    pub fn write_order(&self) -> Vec<i32> {
        self.order.clone()
    }

    /// Forgets the routes of relations that no longer belong to the same table.
    pub fn rebuild<'t>(&mut self, tables: impl Iterator<Item = &'t SyncedTable>) {
        self.members.clear();
        self.order.clear();
        for table in tables {
            self.order.push(table.id);
            for member in &table.members {
                self.members.entry(member.oid).or_default().push(table.id);
            }
        }
        self.routes.clear();
        self.unroutable.clear();
    }

    /// Makes routes for the relations that were announced before `rebuild`.
    pub fn restore(&mut self, tables: &BTreeMap<i32, Table>) {
        let announced: Vec<Relation> = self.announced.values().cloned().collect();
        for relation in &announced {
            let lost = self.route(relation, tables);
            self.unroutable.extend(lost.into_iter().map(|(id, _)| (relation.id, id)));
        }
    }

    /// Takes in the shape of a relation; each error concerns the table named.
    pub fn announce(
        &mut self,
        relation: &Relation,
        tables: &BTreeMap<i32, Table>,
    ) -> Vec<(i32, OdsError)> {
        self.announced.insert(relation.id, relation.clone());
        self.unroutable.retain(|(announced, _)| *announced != relation.id);
        self.route(relation, tables)
    }

    fn route(
        &mut self,
        relation: &Relation,
        tables: &BTreeMap<i32, Table>,
    ) -> Vec<(i32, OdsError)> {
        self.routes.remove(&relation.id);
        let mut errors = Vec::new();
        let fed = self.members.get(&relation.id).map_or(&[][..], Vec::as_slice);
        for table in fed.iter().filter_map(|id| tables.get(id)).filter(|table| table.is_followed())
        {
            match project(relation, &table.synced) {
                Ok(projection) => self
                    .routes
                    .entry(relation.id)
                    .or_default()
                    .push(Route { table: table.synced.id, projection: projection.into() }),
                Err(error) => errors.push((table.synced.id, error)),
            }
        }
        errors
    }
}

/// Finds the synced columns in a relation by name and type.
fn project(relation: &Relation, table: &SyncedTable) -> std::result::Result<Vec<u16>, OdsError> {
    let changed = |what: String| {
        OdsError::new(
            ErrorKind::Mismatch,
            format!("{}.{} changed at the source: {what}", table.source_schema, table.source_table),
        )
    };
    table
        .columns
        .iter()
        .map(|column| {
            let found = relation
                .columns
                .iter()
                .position(|there| there.name.as_bytes() == column.source_name.as_bytes())
                .ok_or_else(|| {
                    changed(format!("column {} is no longer sent", column.source_name))
                })?;
            let there = &relation.columns[found];
            if there.type_oid != column.source_type_oid {
                return Err(changed(format!(
                    "column {} is no longer of type {}",
                    column.source_name, column.source_type
                )));
            }
            let identifies =
                there.in_identity || relation.replica_identity == ReplicaIdentity::Full;
            if column.key_position.is_some() && !identifies {
                return Err(changed(format!(
                    "key column {} is no longer part of the replica identity",
                    column.source_name
                )));
            }
            u16::try_from(found).map_err(|_| changed("it has too many columns".to_owned()))
        })
        .collect()
}
