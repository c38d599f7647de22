//! Utility statements, as far as they concern synced tables: parse nodes in, an enum out.

mod owned;

use super::string;
use owned::{Class, may_copy, may_create_database, owned, owned_database, owned_server, owns};
use pgrx::PgList;
use pgrx::pg_sys::{self, NodeTag, Oid};
use std::ffi::CString;

/// Whether dependent objects go too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// The statement fails while something depends on the object.
    Restrict,
    /// Dependent objects are dropped.
    Cascade,
}

/// One action of `ALTER TABLE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableChange {
    /// `INHERIT parent`
    Inherit(Oid),
    /// `ATTACH PARTITION child`
    AttachPartition(Oid),
    /// `DETACH PARTITION child`, its end too
    DetachPartition,
    /// `ALTER COLUMN name TYPE …`
    ConvertColumn(String, Conversion),
    /// `OF type`
    OfType,
    /// `REPLICA IDENTITY …`
    ReplicaIdentity,
    /// `SET UNLOGGED`
    SetUnlogged,
}

/// What makes the new values of a column whose type changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// The cast between the two types.
    Cast,
    /// An expression after USING.
    Using,
}

/// Whether a subscription that turns out to be refused leaves a replication slot at its publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The statement made one.
    Made,
    /// The statement made none.
    None,
}

/// Where Postgres runs a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Everywhere.
    Anywhere,
    /// Outside of transaction blocks only.
    OutsideBlocks,
}

/// A statement that concerns us, names resolved as Postgres would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// `ALTER TABLE` with the actions that matter.
    AlterTable { table: Oid, changes: Vec<TableChange> },
    /// `CREATE TABLE … INHERITS (parents)`, or a foreign table under `parents` in whatever way.
    CreateChild { parents: Vec<Oid> },
    /// `CREATE TABLE … PARTITION OF parent`
    CreatePartition { parents: Vec<Oid> },
    /// `CREATE RULE … TO table`
    CreateRule { table: Oid },
    /// `ALTER TABLE … RENAME COLUMN`
    RenameColumn { table: Oid, column: String },
    /// `ALTER TYPE … RENAME ATTRIBUTE`, of the composite whose columns `composite` has
    RenameAttribute { composite: Oid, attribute: String },
    /// `ALTER TABLE … RENAME CONSTRAINT`
    RenameConstraint { table: Oid, constraint: String },
    /// `ALTER INDEX … RENAME`
    RenameIndex { index: Oid },
    /// `CREATE` or `ALTER SUBSCRIPTION`
    Subscribe { subscription: String, slot: Slot },
    /// `ALTER SERVER … RENAME`
    RenameServer { from: String, to: String },
    /// `ALTER SERVER … OPTIONS` with the names of those that it adds, sets or drops.
    AlterServer { server: String, options: Vec<String> },
    /// `DROP SERVER`, `DROP OWNED` or `DROP FOREIGN DATA WRAPPER … CASCADE`, with those servers
    /// that exist and that the caller may drop.
    DropServers { servers: Vec<String>, behavior: Behavior },
    /// `DROP EXTENSION ods`, or a statement that takes it along, by someone who may.
    DropExtension,
    /// `DROP DATABASE` by someone who may.
    DropDatabase { database: Oid },
    /// A statement on a whole database that fails while anyone is connected to it, by someone who
    /// may run it.
    UseAlone { database: Oid, allowed: Allowed },
}

/// Whether a statement is of a kind that [`read`] looks at: the one test every utility statement
/// of the server pays for.
///
/// # Safety
/// `node` must be null or a valid parse node.
pub unsafe fn concerns(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the caller vouches for the node; every node begins with its tag.
    let Some(tag) = (unsafe { node.as_ref() }).map(|node| node.type_) else { return false };
    matches!(
        tag,
        NodeTag::T_AlterTableStmt
            | NodeTag::T_CreateStmt
            | NodeTag::T_CreateForeignTableStmt
            | NodeTag::T_RenameStmt
            | NodeTag::T_RuleStmt
            | NodeTag::T_DropStmt
            | NodeTag::T_DropOwnedStmt
            | NodeTag::T_CreateSubscriptionStmt
            | NodeTag::T_AlterSubscriptionStmt
            | NodeTag::T_DropdbStmt
            | NodeTag::T_CreatedbStmt
            | NodeTag::T_AlterDatabaseStmt
            | NodeTag::T_AlterForeignServerStmt
    )
}

/// Reads a statement; `None` if it can't concern us.
///
/// Relations are looked up without a lock, but for the table of an `ALTER TABLE`, by the names and the search path of the statement; one
/// that doesn't exist drops out, for Postgres to complain about.
///
/// # Safety
/// `node` must be a valid parse node of a kind that [`concerns`] us, inside a transaction.
pub unsafe fn read(node: *mut pg_sys::Node) -> Option<Statement> {
    // SAFETY: each cast follows the node's tag, as in Postgres's own switch in ProcessUtility.
    unsafe {
        match (*node).type_ {
            NodeTag::T_AlterTableStmt => alter_table(&*node.cast()),
            NodeTag::T_CreateStmt => {
                let create = &*node.cast::<pg_sys::CreateStmt>();
                let parents = parents(create)?;
                Some(if create.partbound.is_null() {
                    Statement::CreateChild { parents }
                } else {
                    Statement::CreatePartition { parents }
                })
            }
            NodeTag::T_CreateForeignTableStmt => {
                let create = &(*node.cast::<pg_sys::CreateForeignTableStmt>()).base;
                Some(Statement::CreateChild { parents: parents(create)? })
            }
            NodeTag::T_RuleStmt => {
                let table = resolve((*node.cast::<pg_sys::RuleStmt>()).relation)?;
                Some(Statement::CreateRule { table })
            }
            NodeTag::T_RenameStmt => rename(&*node.cast()),
            NodeTag::T_DropStmt => drop_objects(&*node.cast()),
            NodeTag::T_DropOwnedStmt => drop_owned(&*node.cast()),
            NodeTag::T_CreateSubscriptionStmt => {
                let create = &*node.cast::<pg_sys::CreateSubscriptionStmt>();
                let slot = if makes_slot(create.options) { Slot::Made } else { Slot::None };
                Some(Statement::Subscribe { subscription: string(create.subname), slot })
            }
            NodeTag::T_AlterSubscriptionStmt => {
                let alter = &*node.cast::<pg_sys::AlterSubscriptionStmt>();
                let subscription = string(alter.subname);
                Some(Statement::Subscribe { subscription, slot: Slot::None })
            }
            NodeTag::T_AlterForeignServerStmt => {
                let alter = &*node.cast::<pg_sys::AlterForeignServerStmt>();
                let options = PgList::<pg_sys::DefElem>::from_pg(alter.options);
                let options: Vec<_> =
                    options.iter_ptr().map(|option| string((*option).defname)).collect();
                let server = string(alter.servername);
                (!options.is_empty() && owned_server(&server).is_some())
                    .then_some(Statement::AlterServer { server, options })
            }
            NodeTag::T_DropdbStmt => {
                let database = owned((*node.cast::<pg_sys::DropdbStmt>()).dbname)?;
                Some(Statement::DropDatabase { database })
            }
            NodeTag::T_AlterDatabaseStmt => {
                let alter = &*node.cast::<pg_sys::AlterDatabaseStmt>();
                option(alter.options, "tablespace")?;
                owned_database(alter.dbname, Allowed::OutsideBlocks)
            }
            NodeTag::T_CreatedbStmt => {
                let create = &*node.cast::<pg_sys::CreatedbStmt>();
                let template = match option(create.options, "template") {
                    Some(name) if !(*name).arg.is_null() => pg_sys::defGetString(name),
                    _ => c"template1".as_ptr().cast_mut(),
                };
                let database = pg_sys::get_database_oid(template, true);
                let allowed = Allowed::OutsideBlocks;
                (database != Oid::INVALID && may_create_database() && may_copy(database))
                    .then_some(Statement::UseAlone { database, allowed })
            }
            _ => None,
        }
    }
}

/// # Safety
/// `relation` must be null or a valid RangeVar.
unsafe fn resolve(relation: *mut pg_sys::RangeVar) -> Option<Oid> {
    if relation.is_null() {
        return None;
    }
    // SAFETY: the caller vouches for the RangeVar; NoLock and missing_ok need nothing else.
    let found = unsafe {
        pg_sys::RangeVarGetRelidExtended(
            relation,
            pg_sys::NoLock as _,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            std::ptr::null_mut(),
        )
    };
    (found != Oid::INVALID).then_some(found)
}

unsafe fn alter_table(alter: &pg_sys::AlterTableStmt) -> Option<Statement> {
    // SAFETY: the caller vouches for the statement.
    let changes = unsafe { changes(alter) };
    if changes.is_empty() {
        return None;
    }
    // SAFETY: as above.
    let table = unsafe { resolve(alter.relation)? };
    Some(Statement::AlterTable { table, changes })
}

unsafe fn changes(alter: &pg_sys::AlterTableStmt) -> Vec<TableChange> {
    use pg_sys::AlterTableType as A;
    // SAFETY: cmds is a list of AlterTableCmd, whose def has the type that its subtype says.
    unsafe {
        let commands = PgList::<pg_sys::AlterTableCmd>::from_pg(alter.cmds);
        let changes = commands.iter_ptr().filter_map(|command| {
            let command = &*command;
            let partition = || {
                let partition = command.def.cast::<pg_sys::PartitionCmd>();
                resolve((*partition).name)
            };
            match command.subtype {
                A::AT_AddInherit => resolve(command.def.cast()).map(TableChange::Inherit),
                A::AT_AttachPartition => partition().map(TableChange::AttachPartition),
                A::AT_DetachPartition | A::AT_DetachPartitionFinalize => {
                    Some(TableChange::DetachPartition)
                }
                A::AT_AlterColumnType => {
                    let column = &*command.def.cast::<pg_sys::ColumnDef>();
                    let conversion = if column.raw_default.is_null() {
                        Conversion::Cast
                    } else {
                        Conversion::Using
                    };
                    Some(TableChange::ConvertColumn(string(command.name), conversion))
                }
                A::AT_AddOf => Some(TableChange::OfType),
                A::AT_ReplicaIdentity => Some(TableChange::ReplicaIdentity),
                A::AT_SetUnLogged => Some(TableChange::SetUnlogged),
                _ => None,
            }
        });
        changes.collect()
    }
}

/// Whether a statement is an `ALTER TABLE` with actions that matter, to be judged under the lock
/// that it takes.
///
/// # Safety
/// As for [`read`].
pub unsafe fn judged_under_lock(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the cast follows the node's tag.
    unsafe {
        (*node).type_ == NodeTag::T_AlterTableStmt
            && !changes(&*node.cast::<pg_sys::AlterTableStmt>()).is_empty()
    }
}

unsafe fn parents(create: &pg_sys::CreateStmt) -> Option<Vec<Oid>> {
    // SAFETY: inhRelations is a list of RangeVar.
    let parents: Vec<_> = unsafe {
        let named = PgList::<pg_sys::RangeVar>::from_pg(create.inhRelations);
        named.iter_ptr().filter_map(|parent| resolve(parent)).collect()
    };
    (!parents.is_empty()).then_some(parents)
}

unsafe fn rename(rename: &pg_sys::RenameStmt) -> Option<Statement> {
    use pg_sys::ObjectType as O;
    // SAFETY: `relation` is set for columns, attributes, constraints and indexes; `object` is a String node
    // for a server; `subname` names the column, the constraint or the database.
    unsafe {
        let subname = || string(rename.subname);
        match rename.renameType {
            O::OBJECT_COLUMN => Some(Statement::RenameColumn {
                table: resolve(rename.relation)?,
                column: subname(),
            }),
            O::OBJECT_ATTRIBUTE => Some(Statement::RenameAttribute {
                composite: resolve(rename.relation)?,
                attribute: subname(),
            }),
            O::OBJECT_TABCONSTRAINT => Some(Statement::RenameConstraint {
                table: resolve(rename.relation)?,
                constraint: subname(),
            }),
            O::OBJECT_INDEX => Some(Statement::RenameIndex { index: resolve(rename.relation)? }),
            O::OBJECT_FOREIGN_SERVER => Some(Statement::RenameServer {
                from: string((*rename.object.cast::<pg_sys::String>()).sval),
                to: string(rename.newname),
            }),
            O::OBJECT_DATABASE if may_create_database() => {
                owned_database(rename.subname, Allowed::Anywhere)
            }
            _ => None,
        }
    }
}

unsafe fn drop_objects(drop: &pg_sys::DropStmt) -> Option<Statement> {
    use pg_sys::ObjectType as O;
    // SAFETY: `objects` holds String nodes for servers, wrappers and extensions.
    unsafe {
        let names = || {
            let names = PgList::<pg_sys::String>::from_pg(drop.objects);
            names.iter_ptr().map(|name| string((*name).sval)).collect::<Vec<_>>()
        };
        match drop.removeType {
            O::OBJECT_FOREIGN_SERVER => {
                let mut servers = names();
                servers.retain(|server| owned_server(server).is_some());
                let behavior = behavior(drop.behavior);
                (!servers.is_empty()).then_some(Statement::DropServers { servers, behavior })
            }
            O::OBJECT_FDW if behavior(drop.behavior) == Behavior::Cascade => {
                let servers = servers_of(&names());
                let behavior = Behavior::Cascade;
                (!servers.is_empty()).then_some(Statement::DropServers { servers, behavior })
            }
            O::OBJECT_EXTENSION if names().iter().any(|name| name == "ods") => owned_extension(),
            O::OBJECT_SCHEMA if behavior(drop.behavior) == Behavior::Cascade => {
                let schema = pg_sys::get_namespace_oid(c"ods".as_ptr(), true);
                (names().iter().any(|name| name == "ods")
                    && schema != Oid::INVALID
                    && owns(Class::Schema, schema)
                    && pg_sys::get_extension_oid(c"ods".as_ptr(), true) != Oid::INVALID)
                    .then_some(Statement::DropExtension)
            }
            _ => None,
        }
    }
}

unsafe fn drop_owned(drop: &pg_sys::DropOwnedStmt) -> Option<Statement> {
    // SAFETY: `roles` is a list of RoleSpec; a role that doesn't exist drops out.
    let roles: Vec<Oid> = unsafe {
        let roles = PgList::<pg_sys::RoleSpec>::from_pg(drop.roles);
        roles.iter_ptr().map(|role| pg_sys::get_rolespec_oid(role, true)).collect()
    };
    let owners = super::scan::rows(
        pg_sys::ExtensionRelationId,
        [c"extname", c"extowner"],
        |[name, owner]| (name.text()? == "ods").then(|| owner.oid()).flatten(),
    );
    if owners.iter().any(|owner| roles.contains(owner)) {
        return owned_extension();
    }
    let servers: Vec<_> = super::scan::rows(
        pg_sys::ForeignServerRelationId,
        [c"srvname", c"srvowner"],
        |[name, owner]| roles.contains(&owner.oid()?).then(|| name.text()).flatten(),
    )
    .into_iter()
    .filter(|server| owned_server(server).is_some())
    .collect();
    let behavior = behavior(drop.behavior);
    (!servers.is_empty()).then_some(Statement::DropServers { servers, behavior })
}

/// The extension goes, if it is here and the caller may drop it.
fn owned_extension() -> Option<Statement> {
    // SAFETY: a look-up with missing_ok.
    let extension = unsafe { pg_sys::get_extension_oid(c"ods".as_ptr(), true) };
    (extension != Oid::INVALID && owns(Class::Extension, extension))
        .then_some(Statement::DropExtension)
}

/// The servers of those of the wrappers named that the caller may drop.
fn servers_of(wrappers: &[String]) -> Vec<String> {
    let wrappers: Vec<Oid> = wrappers
        .iter()
        .filter_map(|wrapper| {
            let wrapper = CString::new(wrapper.as_str()).ok()?;
            // SAFETY: a look-up with missing_ok.
            let wrapper = unsafe { pg_sys::get_foreign_data_wrapper_oid(wrapper.as_ptr(), true) };
            (wrapper != Oid::INVALID && owns(Class::Wrapper, wrapper)).then_some(wrapper)
        })
        .collect();
    super::scan::rows(
        pg_sys::ForeignServerRelationId,
        [c"srvname", c"srvfdw"],
        |[name, wrapper]| wrappers.contains(&wrapper.oid()?).then(|| name.text()).flatten(),
    )
}

fn behavior(behavior: pg_sys::DropBehavior::Type) -> Behavior {
    if behavior == pg_sys::DropBehavior::DROP_CASCADE {
        Behavior::Cascade
    } else {
        Behavior::Restrict
    }
}

/// Whether `CREATE SUBSCRIPTION` with these options makes a slot at the publisher.
unsafe fn makes_slot(options: *mut pg_sys::List) -> bool {
    // SAFETY: a list of DefElem; defGetBoolean raises what Postgres would raise a moment later.
    unsafe {
        ["connect", "create_slot"]
            .into_iter()
            .all(|name| option(options, name).is_none_or(|option| pg_sys::defGetBoolean(option)))
    }
}

unsafe fn option(options: *mut pg_sys::List, name: &str) -> Option<*mut pg_sys::DefElem> {
    // SAFETY: a list of DefElem, each with a name.
    unsafe {
        let options = PgList::<pg_sys::DefElem>::from_pg(options);
        options.iter_ptr().find(|option| string((**option).defname) == name)
    }
}
