//! Only the applier writes synced tables, superusers included.
//!
//! Every way to write a row asks for permission in the executor or, for TRUNCATE, through the
//! object access hook, and both ask here. What goes around those two is refused as a utility
//! statement ([`ddl`]): a synced table as a child of another, a native subscription into it, a rule
//! that does something else. What a drop would take from under a stream is refused, whatever
//! statement drops it ([`drops`]).
//!
//! Reading is never looked at. `SELECT … FOR UPDATE`, foreign keys that point here, `CREATE INDEX`,
//! `ANALYZE`, `VACUUM`, `CLUSTER`, grants and dumps write no row and pass. While the database
//! stands fenced, rows may come in, so that a restore works in any order.

mod adoption;
mod conversion;
mod ddl;
mod drops;
mod lifecycle;
mod synced;

use crate::error::{ErrorKind, OdsError, Result};
use crate::fence;
use crate::pg::functions;
use crate::pg::hooks::{self, Part, Recall, Standing, Watch, Write};
use crate::pg::relcache;
use crate::pg::utility::Statement;
use pgrx::pg_sys::Oid;
use std::cell::RefCell;

pub use adoption::check_adoptable;
pub use synced::changed;

/// Puts the guard into the hooks of this server. To be called once, while the library loads.
pub fn install() {
    synced::install();
    functions::install();
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
    static WRITING: RefCell<Vec<Pass>> = const { RefCell::new(Vec::new()) };
}

/// An open pass: a synced table, and how deep in functions the process was when it was opened.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pass {
    root: Oid,
    depth: u32,
}

/// The applier's pass to one synced table and its partitions, in this process, until dropped.
///
/// It is for the statements that its holder runs, and for what the foreign keys of the table do in
/// answer. It opens no other table, and it is closed inside of a person's functions: a trigger, or
/// a function in a filter, is refused like anyone else.
#[must_use = "the pass ends when it is dropped"]
pub struct Writing {
    pass: Pass,
}

/// Makes this process one that will write synced tables; to be called before it runs a person's SQL.
pub fn become_writer() {
    functions::watch();
}

impl Writing {
    /// Lets this process write the synced table `relation`. Passes nest.
    pub fn allow(relation: Oid) -> Self {
        become_writer();
        let pass = Pass { root: relation, depth: functions::depth() };
        WRITING.with_borrow_mut(|writing| writing.push(pass));
        Self { pass }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.with_borrow_mut(|writing| {
            if let Some(at) = writing.iter().rposition(|pass| *pass == self.pass) {
                writing.swap_remove(at);
            }
        });
    }
}

fn is_writing(root: Oid) -> bool {
    let pass = Pass { root, depth: functions::depth() };
    WRITING.with_borrow(|writing| writing.contains(&pass))
}

/// The synced table that `relation` is or belongs to, unless the applier is at work on it.
fn guarded(relation: Oid) -> Option<Oid> {
    synced::root_of(relation).filter(|root| !is_writing(*root))
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

    fn dropping(relation: Oid, part: Part, recall: Recall) -> Result<()> {
        drops::note(relation, part, recall)
    }

    fn awaits_dropped() -> bool {
        drops::any()
    }

    fn dropped() -> Result<()> {
        drops::settle()
    }

    fn forget_dropped() {
        drops::forget();
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
            "Its rows come from \"{}\" of server \"{}\", and only that stream writes them.",
            origin.source, origin.server
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

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::*;
    use crate::fence::Fence;
    use crate::pg::subxact;
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

    #[pg_test(error = "cannot write to synced table \"a\"")]
    fn a_trigger_does_not_write_its_own_table() {
        run("CREATE TABLE a (id int PRIMARY KEY); \
             CREATE FUNCTION another() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO a VALUES (NEW.id + 1); RETURN NEW; END'; \
             CREATE TRIGGER another AFTER INSERT ON a FOR EACH ROW WHEN (NEW.id < 9) EXECUTE FUNCTION another()");
        make_synced(&["a"]);
        let _writing = Writing::allow(oid("a"));
        run("INSERT INTO a VALUES (1)");
    }

    /// However the statement reaches a function: in any language, while it is planned, or unseen
    /// behind one that promises not to write.
    #[pg_test]
    fn a_function_does_not_write_the_table_of_its_statement() {
        run("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1), (2); \
             CREATE FUNCTION by_plpgsql() RETURNS boolean LANGUAGE plpgsql AS \
             'BEGIN DELETE FROM a; RETURN true; END'; \
             CREATE FUNCTION by_sql() RETURNS boolean LANGUAGE sql AS \
             'DELETE FROM a; SELECT true'; \
             CREATE FUNCTION covered() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS \
             'BEGIN RETURN by_plpgsql(); END'; \
             CREATE FUNCTION truncating() RETURNS boolean LANGUAGE plpgsql AS \
             'BEGIN TRUNCATE a; RETURN true; END'");
        make_synced(&["a"]);
        let relation = oid("a");
        for function in ["by_plpgsql", "by_sql", "covered", "truncating"] {
            let error = PgTryBuilder::new(AssertUnwindSafe(|| {
                subxact::run(|| {
                    let _writing = Writing::allow(relation);
                    run(&format!("UPDATE a SET id = id + 10 WHERE {function}()"));
                    Ok(())
                })
                .err()
            }))
            .execute()
            .unwrap_or_else(|| panic!("{function} was let through"));
            assert_eq!(error.message, "cannot write to synced table \"a\"", "{function}");
        }
        let _writing = Writing::allow(relation);
        run("UPDATE a SET id = id + 10 WHERE pg_catalog.random() >= 0");
        assert_eq!(Spi::get_one::<i64>("SELECT sum(id) FROM a"), Ok(Some(23)));
    }

    #[pg_test]
    fn foreign_keys_of_the_table_to_itself_act() {
        run("CREATE TABLE a (id int PRIMARY KEY, up int REFERENCES a ON DELETE CASCADE, \
             side int REFERENCES a ON UPDATE CASCADE ON DELETE SET NULL); \
             INSERT INTO a VALUES (1, NULL, NULL), (2, 1, NULL), (3, 2, NULL), (4, NULL, 3)");
        make_synced(&["a"]);
        let writing = Writing::allow(oid("a"));
        run("UPDATE a SET id = 5 WHERE id = 4; DELETE FROM a WHERE id = 1");
        drop(writing);
        assert_eq!(
            Spi::get_one::<String>("SELECT string_agg(a::text, ' ') FROM a"),
            Ok(Some("(5,,)".to_owned()))
        );
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
             CREATE TABLE ruled (id int PRIMARY KEY); \
             CREATE RULE nothing AS ON DELETE TO ruled DO INSTEAD NOTHING; \
             ALTER TABLE ruled DISABLE RULE nothing; \
             CREATE TYPE kind AS (id int); CREATE TABLE typed OF kind; \
             CREATE TABLE good (id int PRIMARY KEY)");
        for (table, leaf) in [
            ("of_unlogged", "CREATE UNLOGGED TABLE deep PARTITION OF deep_above FOR VALUES IN (1)"),
            (
                "of_foreign",
                "CREATE SERVER far FOREIGN DATA WRAPPER ods_postgres; \
              CREATE FOREIGN TABLE far PARTITION OF far_above FOR VALUES IN (1) SERVER far",
            ),
        ] {
            let above = if table == "of_foreign" { "far_above" } else { "deep_above" };
            run(&format!(
                "CREATE TABLE {table} (id int) PARTITION BY RANGE (id); \
                 CREATE TABLE {above} PARTITION OF {table} FOR VALUES FROM (0) TO (9) PARTITION BY LIST (id); {leaf}"
            ));
            let error = check_adoptable(oid(table)).expect_err(table);
            assert!(error.detail.is_some_and(|detail| detail.starts_with("Of its partition ")));
        }
        assert!(check_adoptable(oid("ruled")).is_err());
        for refused in ["plain", "child", "leaf", "unlogged", "typed"] {
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
