//! Why a table of the source can't be synced, and the statement that changes that. Pure.

use crate::source::postgres::describe::{
    Generated, Leaf, Persistence, ReplicaIdentity, SourceTable, TableKind, UniqueIndex,
};
use crate::source::postgres::quote::{quote_ident, quote_qualified};

/// One reason, with its fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What stands in the way.
    pub reason: String,
    /// The statement to run at the source; none where no statement helps.
    pub fix: Option<String>,
}

impl Obstacle {
    fn new(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { reason: reason.into(), fix: Some(fix.into()) }
    }

    fn without_fix(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), fix: None }
    }
}

/// Everything that keeps `table` from being synced by `role`, the most fundamental reason first.
pub fn obstacles(table: &SourceTable, role: &str) -> Vec<Obstacle> {
    let mut found = Vec::new();
    match table.kind {
        TableKind::Ordinary | TableKind::Partitioned => {}
        TableKind::Foreign => {
            return vec![Obstacle::without_fix(
                "it is a foreign table: name its own server as the source",
            )];
        }
        TableKind::Other => {
            return vec![Obstacle::without_fix("it is not a table: name the tables behind it")];
        }
    }
    if table.is_partition {
        found.push(Obstacle::without_fix(
            "it is a partition: name the partitioned table that it belongs to",
        ));
    }
    found.extend(durability(table.persistence, &table.quoted_name(), "it"));
    found.extend(key(table));
    found.extend(table.leaves.iter().flat_map(|leaf| leaf_obstacles(table, leaf)));
    found.extend(rights(table, role));
    found
}

fn durability(persistence: Persistence, name: &str, what: &str) -> Option<Obstacle> {
    match persistence {
        Persistence::Logged => None,
        Persistence::Unlogged => Some(Obstacle::new(
            format!("{what} is unlogged: its changes are not in the WAL"),
            format!("ALTER TABLE {name} SET LOGGED;"),
        )),
        Persistence::Temporary => Some(Obstacle::without_fix(format!("{what} is temporary"))),
    }
}

fn key(table: &SourceTable) -> Option<Obstacle> {
    let name = table.quoted_name();
    let Some(key) = table.key() else {
        return Some(Obstacle::new(
            no_key_reason(table.replica_identity, &table.indexes),
            identity_fix(&name, table.replica_identity, &table.indexes),
        ));
    };
    let computed = table
        .columns
        .iter()
        .find(|column| column.generated != Generated::No && key.contains(&column.name))?;
    Some(Obstacle::without_fix(format!(
        "its key column {} is generated, and generated columns are not in the stream",
        quote_ident(&computed.name)
    )))
}

fn no_key_reason(identity: ReplicaIdentity, indexes: &[UniqueIndex]) -> &'static str {
    match identity {
        ReplicaIdentity::Nothing => {
            "its replica identity is NOTHING: updates and deletes don't say which row they are of"
        }
        ReplicaIdentity::Index => "the index of its replica identity is gone or unusable",
        _ if indexes.iter().any(|index| !index.is_primary && index.is_not_null) => {
            "it has no primary key, and no unique index is its replica identity"
        }
        _ => "it has no primary key",
    }
}

/// The smallest change that gives a table a usable identity.
fn identity_fix(name: &str, identity: ReplicaIdentity, indexes: &[UniqueIndex]) -> String {
    let has_primary_key = indexes.iter().any(|index| index.is_primary);
    if has_primary_key && identity != ReplicaIdentity::Full {
        return format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT;");
    }
    match indexes.iter().find(|index| index.is_not_null) {
        Some(index) => {
            format!("ALTER TABLE {name} REPLICA IDENTITY USING INDEX {};", quote_ident(&index.name))
        }
        None => format!("ALTER TABLE {name} ADD PRIMARY KEY (…);"),
    }
}

fn leaf_obstacles(root: &SourceTable, leaf: &Leaf) -> Vec<Obstacle> {
    let name = quote_qualified(&leaf.schema, &leaf.name);
    let what = format!("its partition {name}");
    if leaf.kind != TableKind::Ordinary {
        return vec![Obstacle::new(
            format!("{what} is not an ordinary table"),
            format!("ALTER TABLE {} DETACH PARTITION {name};", root.quoted_name()),
        )];
    }
    let mut found: Vec<Obstacle> = durability(leaf.persistence, &name, &what).into_iter().collect();
    let Some(key) = root.key() else {
        return found;
    };
    // With FULL the old row holds every column, so the root's key is in it.
    let fits = leaf.replica_identity == ReplicaIdentity::Full
        || leaf
            .identity()
            .is_some_and(|identity| key.iter().all(|column| identity.contains(column)));
    if !fits {
        let fix = match leaf.indexes.iter().find(|index| same_columns(&index.columns, key)) {
            Some(index) if index.is_primary => {
                format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT;")
            }
            Some(index) => format!(
                "ALTER TABLE {name} REPLICA IDENTITY USING INDEX {};",
                quote_ident(&index.name)
            ),
            None => format!("ALTER TABLE {name} REPLICA IDENTITY FULL;"),
        };
        found.push(Obstacle::new(format!("old rows of {what} don't hold the key"), fix));
    }
    found
}

fn same_columns(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().all(|column| b.contains(column))
}

fn rights(table: &SourceTable, role: &str) -> Vec<Obstacle> {
    let (name, role) = (table.quoted_name(), quote_ident(role));
    let mut found = Vec::new();
    if !table.is_schema_usable {
        found.push(Obstacle::new(
            format!("role {role} has no USAGE on schema {}", quote_ident(&table.schema)),
            format!("GRANT USAGE ON SCHEMA {} TO {role};", quote_ident(&table.schema)),
        ));
    }
    if !table.is_readable {
        found.push(Obstacle::new(
            format!("role {role} may not read all of it"),
            format!("GRANT SELECT ON {name} TO {role};"),
        ));
    }
    if table.has_row_security {
        found.push(Obstacle::new(
            format!("row security hides rows from role {role}"),
            format!("ALTER ROLE {role} BYPASSRLS;"),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::postgres::describe::{SourceColumn, TypeKind};

    fn index(name: &str, columns: &[&str], is_primary: bool) -> UniqueIndex {
        UniqueIndex {
            name: name.to_owned(),
            columns: columns.iter().map(ToString::to_string).collect(),
            is_primary,
            is_identity: false,
            is_not_null: true,
        }
    }

    fn table() -> SourceTable {
        SourceTable {
            oid: 1,
            schema: "public".to_owned(),
            name: "Orders".to_owned(),
            kind: TableKind::Ordinary,
            persistence: Persistence::Logged,
            is_partition: false,
            is_owned: true,
            is_schema_usable: true,
            is_readable: true,
            has_row_security: false,
            replica_identity: ReplicaIdentity::Default,
            indexes: vec![index("orders_pkey", &["id"], true)],
            columns: vec![SourceColumn {
                attnum: 1,
                name: "id".to_owned(),
                type_oid: 20,
                type_modifier: -1,
                type_sql: "bigint".to_owned(),
                type_schema: "pg_catalog".to_owned(),
                type_name: "int8".to_owned(),
                type_kind: TypeKind::Base,
                type_extension: None,
                generated: Generated::No,
                collation: None,
            }],
            leaves: Vec::new(),
            estimated_rows: None,
            bytes: None,
        }
    }

    fn leaf(identity: ReplicaIdentity, indexes: Vec<UniqueIndex>) -> Leaf {
        Leaf {
            oid: 2,
            schema: "public".to_owned(),
            name: "leaf".to_owned(),
            kind: TableKind::Ordinary,
            persistence: Persistence::Logged,
            replica_identity: identity,
            indexes,
        }
    }

    fn only(table: &SourceTable) -> Obstacle {
        let mut found = obstacles(table, "reader");
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn fix_of(table: &SourceTable) -> String {
        only(table).fix.unwrap_or_default()
    }

    #[test]
    fn an_ordinary_table_has_none() {
        assert_eq!(obstacles(&table(), "reader"), Vec::new());
    }

    #[test]
    fn without_a_key_the_fix_is_the_least_change() {
        let mut t = table();
        t.indexes.clear();
        assert_eq!(fix_of(&t), "ALTER TABLE \"public\".\"Orders\" ADD PRIMARY KEY (…);");

        t.indexes = vec![index("by no", &["no"], false)];
        let fix = "ALTER TABLE \"public\".\"Orders\" REPLICA IDENTITY USING INDEX \"by no\";";
        assert_eq!(fix_of(&t), fix);
        t.replica_identity = ReplicaIdentity::Full;
        assert_eq!(fix_of(&t), fix);
        t.indexes[0].is_not_null = false;
        assert!(fix_of(&t).contains("ADD PRIMARY KEY"));

        let mut t = table();
        t.replica_identity = ReplicaIdentity::Nothing;
        assert!(fix_of(&t).ends_with("REPLICA IDENTITY DEFAULT;"));
    }

    #[test]
    fn the_key_is_what_old_rows_hold() {
        let mut t = table();
        let mut chosen = index("chosen", &["a", "b"], false);
        chosen.is_identity = true;
        t.indexes.push(chosen);
        t.replica_identity = ReplicaIdentity::Index;
        assert_eq!(t.key(), Some(&["a".to_owned(), "b".to_owned()][..]));
        t.replica_identity = ReplicaIdentity::Full;
        assert_eq!(t.key(), Some(&["id".to_owned()][..]));
    }

    #[test]
    fn rights_name_the_grant() {
        let mut t = table();
        t.is_readable = false;
        assert_eq!(fix_of(&t), "GRANT SELECT ON \"public\".\"Orders\" TO \"reader\";");
        let mut t = table();
        t.is_schema_usable = false;
        assert_eq!(fix_of(&t), "GRANT USAGE ON SCHEMA \"public\" TO \"reader\";");
        let mut t = table();
        t.has_row_security = true;
        assert_eq!(fix_of(&t), "ALTER ROLE \"reader\" BYPASSRLS;");
    }

    #[test]
    fn what_is_not_in_the_wal_is_named() {
        let mut t = table();
        t.persistence = Persistence::Unlogged;
        assert!(fix_of(&t).ends_with("SET LOGGED;"));
        t.persistence = Persistence::Temporary;
        assert_eq!(only(&t).fix, None);
        t.kind = TableKind::Foreign;
        assert!(only(&t).reason.contains("foreign table"));
    }

    #[test]
    fn a_generated_key_is_named() {
        let mut t = table();
        t.columns[0].generated = Generated::Stored;
        assert!(only(&t).reason.contains("\"id\""));
    }

    #[test]
    fn leaves_must_hold_the_key_of_the_root() {
        let mut t = table();
        t.kind = TableKind::Partitioned;
        t.leaves = vec![leaf(ReplicaIdentity::Default, vec![index("p", &["id"], true)])];
        assert_eq!(obstacles(&t, "reader"), Vec::new());
        t.leaves[0].replica_identity = ReplicaIdentity::Full;
        assert_eq!(obstacles(&t, "reader"), Vec::new());
        t.leaves[0].replica_identity = ReplicaIdentity::Nothing;
        assert_eq!(fix_of(&t), "ALTER TABLE \"public\".\"leaf\" REPLICA IDENTITY DEFAULT;");
        t.leaves[0].indexes[0].is_primary = false;
        assert!(fix_of(&t).ends_with("USING INDEX \"p\";"));
        t.leaves[0].indexes.clear();
        assert!(fix_of(&t).ends_with("REPLICA IDENTITY FULL;"));
        t.leaves[0].persistence = Persistence::Unlogged;
        assert_eq!(obstacles(&t, "reader").len(), 2);
    }
}
