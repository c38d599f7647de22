//! Only the applier writes synced tables, superusers included.
//!
//! Every way to write a row asks for permission in the executor or, for TRUNCATE, through the
//! object access hook, and both ask here. What goes around those two is refused as a utility
//! statement ([`ddl`]): a synced table as a child of another, and a native subscription into it.
//!
//! Reading is never looked at. `SELECT … FOR UPDATE`, foreign keys that point here, `CREATE INDEX`,
//! `ANALYZE`, `VACUUM`, `CLUSTER`, grants and dumps write no row and pass. While the database
//! stands fenced, rows may come in, so that a restore works in any order.

mod ddl;
mod lifecycle;
mod synced;

use crate::error::{ErrorKind, OdsError, Result};
use crate::fence;
use crate::pg::hooks::{self, Standing, Watch, Write};
use crate::pg::utility::Statement;
use crate::pg::{relcache, utility};
use pgrx::pg_sys::Oid;
use std::cell::RefCell;

pub use synced::changed;

/// Puts the guard into the hooks of this server. To be called once, while the library loads.
pub fn install() {
    synced::install();
    hooks::install::<Guard>();
}

/// Whether only the applier may write `relation`: a synced table, or a partition of one.
pub fn is_synced(relation: Oid) -> bool {
    synced::root_of(relation).is_some()
}

/// Whether `relation` is the synced table of that id in the catalog. For certain only under a lock
/// that whoever ends the synchronisation waits for.
pub fn is_synced_as(relation: Oid, id: i32) -> bool {
    synced::id_of(relation) == Some(id)
}

thread_local! {
    /// The synced tables this process may write at the moment, one entry a [`Writing`].
    static WRITING: RefCell<Vec<Oid>> = const { RefCell::new(Vec::new()) };
}

/// The applier's pass to one synced table and its partitions, in this process, until dropped.
///
/// It opens no other table: a trigger that fires under it is refused elsewhere like anyone else.
#[must_use = "the pass ends when it is dropped"]
pub struct Writing {
    relation: Oid,
}

impl Writing {
    /// Lets this process write the synced table `relation`. Passes nest.
    pub fn allow(relation: Oid) -> Self {
        WRITING.with_borrow_mut(|writing| writing.push(relation));
        Self { relation }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.with_borrow_mut(|writing| {
            if let Some(at) = writing.iter().rposition(|relation| *relation == self.relation) {
                writing.swap_remove(at);
            }
        });
    }
}

fn is_writing(root: Oid) -> bool {
    WRITING.with_borrow(|writing| writing.contains(&root))
}

/// What the hooks ask.
struct Guard;

impl Watch for Guard {
    type Pending = Box<dyn FnOnce() -> Result<()>>;

    fn write(relation: Oid, write: Write) -> Result<()> {
        let Some(root) = synced::root_of(relation) else { return Ok(()) };
        if is_writing(root) || (write == Write::Insert && fence::lets_rows_in()) {
            return Ok(());
        }
        Err(refusal(relation, root))
    }

    /// A parallel pg_restore truncates a table that it has just made, before filling it; with no
    /// row there, nothing is lost.
    fn truncate(relation: Oid) -> Result<()> {
        let Some(root) = synced::root_of(relation) else { return Ok(()) };
        if is_writing(root) || (fence::lets_rows_in() && relcache::is_empty(relation)) {
            return Ok(());
        }
        Err(refusal(relation, root))
    }

    fn before(statement: Statement, standing: Standing) -> Result<Option<Self::Pending>> {
        if let Some(pending) = lifecycle::before(&statement, standing)? {
            return Ok(Some(pending));
        }
        ddl::before(statement)
    }

    fn after(pending: Self::Pending) -> Result<()> {
        pending()
    }
}

/// The error of a write to `relation`, which is the synced table `root` or a partition of it.
fn refusal(relation: Oid, root: Oid) -> OdsError {
    let mut detail = match synced::origin(root) {
        Some(origin) => format!(
            "Its rows come from \"{}.{}\" of server \"{}\", and only that stream writes them.",
            origin.source_schema, origin.source_table, origin.server
        ),
        None => "Only its stream writes its rows.".to_owned(),
    };
    if relation != root {
        detail.insert_str(0, &format!("It is a partition of \"{}\". ", relcache::name(root)));
    }
    OdsError::new(
        ErrorKind::ReadOnly,
        format!("cannot write to synced table \"{}\"", relcache::name(relation)),
    )
    .detail(detail)
    .hint(release_hint(root))
}

/// The way out of every refusal.
fn release_hint(root: Oid) -> String {
    format!("To make it an ordinary table that keeps its rows: {};", release(root))
}

/// The statement that makes `root` an ordinary table, without its semicolon.
fn release(root: Oid) -> String {
    let name = relcache::qualified_name(root).replace('\'', "''");
    format!("SELECT ods.drop_synced_table('{name}', keep_data => true)")
}

/// Refuses a table that can't become a synced table because rows would reach it past the guard,
/// or because its rows don't survive a crash that the stream's position survives.
///
/// To be asked under a lock that keeps writers and `ALTER TABLE` out, of the table and, where it is
/// partitioned, of each leaf.
pub fn check_adoptable(relation: Oid) -> Result<()> {
    let name = relcache::qualified_name(relation);
    let refuse = |why: String, hint: String| {
        let message =
            format!("table \"{}\" cannot become a synced table", relcache::name(relation));
        Err(OdsError::new(ErrorKind::WrongState, message).detail(why).hint(hint))
    };
    let relatives = relcache::relatives(relation);
    if let Some(parent) = relatives.parents.first() {
        let parent = relcache::qualified_name(*parent);
        return refuse(
            format!("It is a child of \"{parent}\", and writes to that table would reach it."),
            format!(
                "ALTER TABLE {name} NO INHERIT {parent}; or ALTER TABLE {parent} DETACH PARTITION {name};"
            ),
        );
    }
    if relcache::kind(relation) != Some('p')
        && let Some(child) = relatives.children.first()
    {
        let child = relcache::qualified_name(*child);
        return refuse(
            format!("Rows of \"{child}\" show in it by inheritance."),
            format!("ALTER TABLE {child} NO INHERIT {name};"),
        );
    }
    if !relcache::is_permanent(relation) {
        return refuse(
            "It is unlogged or temporary: a crash would empty it behind the stream's back."
                .to_owned(),
            format!("ALTER TABLE {name} SET LOGGED;"),
        );
    }
    let subscribed = utility::subscribed(None);
    if std::iter::once(relation)
        .chain(relatives.children)
        .any(|member| subscribed.contains(&member))
    {
        return refuse(
            "A native subscription writes it.".to_owned(),
            "Drop the subscription, or take the table out of its publication and run ALTER SUBSCRIPTION … REFRESH PUBLICATION;".to_owned(),
        );
    }
    Ok(())
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::*;
    use crate::fence::Fence;
    use pgrx::{PgTryBuilder, Spi, pg_test};
    use std::panic::AssertUnwindSafe;

    fn run(sql: &str) {
        Spi::run(sql).expect("SPI works");
    }

    fn oid(name: &str) -> Oid {
        Spi::get_one::<Oid>(&format!("SELECT '{name}'::regclass::oid"))
            .expect("SPI works")
            .expect("the table exists")
    }

    /// Runs `sql` and returns what it was refused for. The transaction is good for nothing after
    /// an error but for what needs no subtransaction: looking at process-local state.
    fn refusal(sql: &str) -> Option<String> {
        PgTryBuilder::new(AssertUnwindSafe(|| {
            run(sql);
            None
        }))
        .catch_others(|caught| Some(OdsError::from(caught).message))
        .execute()
    }

    /// Makes `names` synced tables, and this database the one they were made for.
    fn make_synced(names: &[&str]) {
        fence::record().expect("the identity can be recorded");
        run("INSERT INTO ods.stream (server_name, stream_name) VALUES ('crm', 'slot')");
        for name in names {
            run(&format!(
                "INSERT INTO ods.synced_table (relation, stream_id, source_schema, source_table, \
                 source_oid, on_delete, consumer, tier) SELECT '{name}', stream_id, 'public', \
                 'origin', 1, 'delete', 'test', 'batch' FROM ods.stream"
            ));
        }
    }

    #[pg_test]
    fn the_applier_writes_its_table() {
        run("CREATE TABLE a (id int PRIMARY KEY)");
        make_synced(&["a"]);
        let writing = Writing::allow(oid("a"));
        run("INSERT INTO a VALUES (1); UPDATE a SET id = 2; DELETE FROM a; TRUNCATE a");
        run("COPY a FROM PROGRAM 'echo 1'");
        drop(writing);
        let refused = refusal("DELETE FROM a");
        assert_eq!(refused.as_deref(), Some("cannot write to synced table \"a\""));
    }

    #[pg_test]
    fn a_pass_opens_partitions() {
        run("CREATE TABLE a (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE leaf PARTITION OF a FOR VALUES FROM (0) TO (9)");
        make_synced(&["a"]);
        let writing = Writing::allow(oid("a"));
        run("INSERT INTO a VALUES (1); INSERT INTO leaf VALUES (2); TRUNCATE leaf");
        drop(writing);
        assert!(is_synced(oid("leaf")));
        assert!(refusal("INSERT INTO leaf VALUES (3)").is_some());
    }

    #[pg_test(error = "cannot write to synced table \"b\"")]
    fn a_pass_opens_no_other_table() {
        run("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
        make_synced(&["a", "b"]);
        let _writing = Writing::allow(oid("a"));
        run("DELETE FROM b");
    }

    #[pg_test(error = "cannot write to synced table \"b\"")]
    fn a_trigger_of_the_table_gets_no_pass() {
        run("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); \
             CREATE FUNCTION forward() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO b VALUES (NEW.id); RETURN NEW; END'; \
             CREATE TRIGGER forward AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION forward()");
        make_synced(&["a", "b"]);
        let _writing = Writing::allow(oid("a"));
        run("INSERT INTO a VALUES (1)");
    }

    #[pg_test]
    fn passes_nest() {
        run("CREATE TABLE a (id int PRIMARY KEY)");
        make_synced(&["a"]);
        let outer = Writing::allow(oid("a"));
        drop(Writing::allow(oid("a")));
        run("INSERT INTO a VALUES (1)");
        drop(outer);
        assert!(refusal("INSERT INTO a VALUES (2)").is_some());
    }

    #[pg_test]
    fn a_pass_ends_with_the_error_that_unwinds_it() {
        run("CREATE TABLE a (id int PRIMARY KEY)");
        make_synced(&["a"]);
        let relation = oid("a");
        let error = PgTryBuilder::new(AssertUnwindSafe(|| {
            let _writing = Writing::allow(relation);
            run("INSERT INTO a VALUES (1), (1)");
            None
        }))
        .catch_others(|caught| Some(OdsError::from(caught)))
        .execute();
        assert!(error.is_some());
        assert!(!is_writing(relation));
    }

    #[pg_test]
    fn refuses_to_adopt_what_others_write() {
        run("CREATE TABLE plain (id int PRIMARY KEY); CREATE TABLE child () INHERITS (plain); \
             CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9); \
             CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY); \
             CREATE TABLE good (id int PRIMARY KEY)");
        for refused in ["plain", "child", "leaf", "unlogged"] {
            let error = check_adoptable(oid(refused)).expect_err(refused);
            assert!(error.hint.is_some_and(|hint| hint.starts_with("ALTER TABLE ")), "{refused}");
        }
        for accepted in ["root", "good"] {
            check_adoptable(oid(accepted)).expect(accepted);
        }
    }

    #[pg_test]
    fn a_catalog_of_another_version_is_told() {
        assert!(fence::foreign_version().is_ok_and(|error| error.is_none()));
        run(
            "CREATE OR REPLACE FUNCTION ods.catalog_version() RETURNS integer LANGUAGE sql AS 'SELECT 0'",
        );
        let error = fence::foreign_version().expect("the version can be asked for");
        let hint = error.and_then(|error| error.hint);
        assert_eq!(hint.as_deref(), Some("ALTER EXTENSION ods UPDATE;"));
    }

    #[pg_test]
    fn identity_is_recorded_once() {
        assert_eq!(fence::status(), Fence::NoIdentity);
        fence::record().expect("the identity can be recorded");
        assert_eq!(fence::status(), Fence::Ours);
        run("UPDATE ods.identity SET database_oid = 1");
        fence::record().expect("the identity can be recorded");
        assert!(matches!(fence::status(), Fence::Foreign { .. }));
        assert!(matches!(fence::confirm(), Ok(Fence::Foreign { .. })));
    }
}
