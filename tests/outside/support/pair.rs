//! An upstream and an `ods` cluster, and a database of one's own on both.

use super::checksum;
use super::client::{self, Ask, literal};
use super::cluster::{Cluster, ClusterOptions};
use postgres::Client;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// The password of the role that `ods` connects as; asked for over TCP.
pub const PASSWORD: &str = "it's a \\ \"secret\"";

/// How long the tests wait for what should take a second.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Two clusters: where the truth is, and where it is kept current.
pub struct Pair {
    /// The upstream. Role `app` owns the databases and tables of the tests.
    pub source: Cluster,
    /// The cluster that preloads `ods`.
    pub ods: Cluster,
}

impl Pair {
    /// A pair for one test alone, which may stop and kill it.
    pub fn start(name: &str) -> Arc<Self> {
        Self::start_with(
            ClusterOptions::source(&format!("{name}-source")),
            ClusterOptions::ods(&format!("{name}-ods")),
        )
    }

    /// As [`Pair::start`], with other settings.
    pub fn start_with(source: ClusterOptions, ods: ClusterOptions) -> Arc<Self> {
        let (source, ods) = thread::scope(|scope| {
            let source = scope.spawn(|| Cluster::start(source));
            let ods = scope.spawn(|| Cluster::start(ods));
            (
                source.join().expect("the upstream starts"),
                ods.join().expect("the ods cluster starts"),
            )
        });
        make_roles(&source);
        Arc::new(Self { source, ods })
    }

    /// The pair that tests share which neither stop nor reconfigure it. It lives as long as a test
    /// uses it.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Pair>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let pair = Self::start("shared");
            *shared = Arc::downgrade(&pair);
            pair
        })
    }
}

/// Makes the roles of an upstream: the owner of its tables, and the one that `ods` connects as.
pub fn make_roles(source: &Cluster) {
    let mut admin = source.connect("postgres");
    admin.run("CREATE ROLE app LOGIN");
    admin.run(&format!(
        "CREATE ROLE replicator LOGIN REPLICATION PASSWORD {}; GRANT app TO replicator",
        // Backslashes stand for themselves: standard_conforming_strings is on.
        literal(PASSWORD)
    ));
}

/// One database on each side of a pair, the extension created and server `src` defined.
pub struct Sync {
    pair: Arc<Pair>,
    name: String,
}

impl Sync {
    /// A database of that name on both sides of the shared pair.
    pub fn shared(name: &str) -> Self {
        Self::on(&Pair::shared(), name)
    }

    /// A database of that name on both sides of a pair.
    pub fn on(pair: &Arc<Pair>, name: &str) -> Self {
        Self::encoded(pair, name, "UTF8", "UTF8")
    }

    /// As [`Sync::on`], with these encodings.
    pub fn encoded(pair: &Arc<Pair>, name: &str, of_source: &str, of_ods: &str) -> Self {
        let sync = Self { pair: Arc::clone(pair), name: name.to_owned() };
        let encoded = |encoding| match encoding {
            "UTF8" => String::new(),
            other => format!("ENCODING '{other}' LOCALE 'C' TEMPLATE template0"),
        };
        pair.source
            .connect("postgres")
            .run(&format!("CREATE DATABASE {name} OWNER app {}", encoded(of_source)));
        pair.source.connect(name).run("GRANT ALL ON SCHEMA public TO app");
        pair.ods.connect("postgres").run(&format!("CREATE DATABASE {name} {}", encoded(of_ods)));
        let mut ods = sync.ods();
        ods.run("CREATE EXTENSION ods");
        ods.run(&sync.create_server_sql("src"));
        sync
    }

    /// The statements that define the upstream database as a server.
    pub fn create_server_sql(&self, server: &str) -> String {
        format!(
            "{};
             CREATE USER MAPPING FOR CURRENT_USER SERVER {server}
               OPTIONS (user 'replicator', password {})",
            self.server_only_sql(server),
            literal(PASSWORD)
        )
    }

    /// As [`Sync::create_server_sql`], without a user mapping.
    pub fn server_only_sql(&self, server: &str) -> String {
        format!(
            "CREATE SERVER {server} FOREIGN DATA WRAPPER ods_postgres
               OPTIONS (host '127.0.0.1', port '{}', dbname '{}')",
            self.pair.source.port(),
            self.name,
        )
    }

    /// The cluster of the `ods` database.
    pub fn ods_cluster(&self) -> &Cluster {
        &self.pair.ods
    }

    /// A connection to the upstream database as the owner of its tables.
    pub fn source(&self) -> Client {
        client::connect_as(&self.pair.source, &self.name, "app")
    }

    /// A superuser's connection to the upstream database.
    pub fn source_admin(&self) -> Client {
        self.pair.source.connect(&self.name)
    }

    /// A superuser's connection to the `ods` database.
    pub fn ods(&self) -> Client {
        self.pair.ods.connect(&self.name)
    }

    /// Has a table synced under the same or another name; returns at commit.
    pub fn create(&self, target: &str, source: &str) {
        self.create_with(target, source, "");
    }

    /// As [`Sync::create`], with further named arguments such as `, on_delete => 'mark'`.
    pub fn create_with(&self, target: &str, source: &str, further: &str) {
        self.ods().run(&format!(
            "SELECT ods.create_synced_table({}, server => 'src', source => {},
                 consumer => 'outside tests'{further})",
            literal(target),
            literal(source),
        ));
    }

    /// Waits until a table's initial load is done.
    pub fn wait_loaded(&self, target: &str) {
        self.answer(&format!("SELECT ods.wait_until_loaded({}, '3 min')", literal(target)));
    }

    /// Has a table synced and waits until its initial load is done.
    pub fn create_loaded(&self, target: &str, source: &str) {
        self.create(target, source);
        self.wait_loaded(target);
    }

    /// Waits until everything committed upstream before this call is visible here.
    pub fn settle(&self) {
        let position = self
            .source()
            .text("SELECT pg_current_wal_insert_lsn()")
            .expect("a server has an insert position");
        self.answer(&format!(
            "SELECT ods.wait_for_position('src', {}, '60 s')",
            literal(&position)
        ));
    }

    /// Calls a wait function, which says no by an error or by `false`.
    fn answer(&self, sql: &str) {
        let answer = self.ods().text(sql);
        assert_ne!(answer.as_deref(), Some("f"), "{sql}\n{}", self.status());
    }

    /// Settles, then compares a source table with its synced table, row by row.
    pub fn assert_same(&self, target: &str, source: &str) {
        self.settle();
        if let Err(difference) = self.compare(target, source) {
            panic!("{difference}\n{}", self.status());
        }
    }

    /// Compares a source table with its synced table as they stand.
    pub fn compare(&self, target: &str, source: &str) -> Result<i64, String> {
        checksum::compare(&mut self.source_admin(), source, &mut self.ods(), target)
    }

    /// Waits until the two agree, for changes that no position announces.
    pub fn wait_same(&self, target: &str, source: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while let Err(difference) = self.compare(target, source) {
            assert!(std::time::Instant::now() < deadline, "{difference}\n{}", self.status());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until `columns` of a synced table hold what `query` yields at the source.
    pub fn wait_query(&self, target: &str, columns: &[&str], query: &str) {
        self.settle();
        let from = format!("({query}) AS wanted");
        let (mut source, mut ods) = (self.source_admin(), self.ods());
        let deadline = std::time::Instant::now() + PATIENCE;
        while let Err(difference) =
            checksum::compare_columns(&mut source, &from, &mut ods, target, columns)
        {
            assert!(std::time::Instant::now() < deadline, "{difference}\n{}", self.status());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// One column of a table's row in `ods.sync_status`.
    pub fn shown(&self, target: &str, column: &str) -> Option<String> {
        self.ods().text(&format!(
            "SELECT {column} FROM ods.sync_status WHERE table_name = {}::regclass",
            literal(target)
        ))
    }

    /// Runs what `ods.sync_status` says in `fix` of a table.
    pub fn paste_fix(&self, target: &str) {
        let fix = self.shown(target, "fix");
        let fix = fix.unwrap_or_else(|| panic!("no fix for {target}\n{}", self.status()));
        self.ods().run(&fix);
    }

    /// The name of the database on both sides.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the stream's slot at the source.
    pub fn slot(&self) -> String {
        self.ods().text("SELECT stream_name FROM ods.stream").expect("a stream")
    }

    /// The process id of this database's stream worker, once there is one.
    pub fn stream_worker(&self) -> i32 {
        let find = format!(
            "SELECT pid FROM pg_stat_activity
             WHERE backend_type = 'ods stream' AND datname = {}",
            literal(&self.name)
        );
        let mut ods = self.pair.ods.connect("postgres");
        ods.wait_until("a stream worker runs", &format!("SELECT EXISTS ({find})"), PATIENCE);
        i32::try_from(ods.number(&find)).expect("a process id")
    }

    /// A table's state as `ods.sync_status` shows it.
    pub fn state(&self, target: &str) -> String {
        self.ods()
            .text(&format!(
                "SELECT state FROM ods.sync_status WHERE table_name = {}::regclass",
                literal(target)
            ))
            .unwrap_or_else(|| panic!("{target} is not in ods.sync_status"))
    }

    /// Waits until a table is in a state.
    pub fn wait_state(&self, target: &str, state: &str) {
        self.ods().wait_until(
            &format!("{target} is {state}"),
            &format!(
                "SELECT EXISTS (SELECT FROM ods.sync_status
                 WHERE table_name = {}::regclass AND state = {})",
                literal(target),
                literal(state)
            ),
            PATIENCE,
        );
    }

    /// The upstream's replication slots of this database.
    pub fn slots(&self) -> i64 {
        self.source_admin()
            .number("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
    }

    /// Both status views as text, for messages of failed tests.
    pub fn status(&self) -> String {
        let Ok(mut ods) = client::try_connect(&self.pair.ods, &self.name, "postgres") else {
            return "the ods cluster takes no connections".to_owned();
        };
        let mut text = String::new();
        for view in ["ods.sync_status", "ods.stream_status", "ods.incidents"] {
            match ods.query(&format!("SELECT to_jsonb(v)::text FROM {view} v"), &[]) {
                Ok(rows) => {
                    for row in rows {
                        text.push_str(&format!("{view}: {}\n", row.get::<_, String>(0)));
                    }
                }
                Err(error) => text.push_str(&format!("{view}: {error}\n")),
            }
        }
        text
    }

    /// Gives back what the database holds of the pair, so that shared clusters don't fill up.
    fn clean(&self) -> Result<(), postgres::Error> {
        // The test may have dropped the database itself.
        if let Ok(mut ods) = client::try_connect(&self.pair.ods, &self.name, "postgres") {
            ods.batch_execute("DROP EXTENSION IF EXISTS ods CASCADE")?;
        }
        let mut ods = client::try_connect(&self.pair.ods, "postgres", "postgres")?;
        ods.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name))?;
        let mut source = client::try_connect(&self.pair.source, "postgres", "postgres")?;
        source.batch_execute(&format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
               WHERE database = '{0}' AND active;
             SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
               WHERE database = '{0}'",
            self.name
        ))?;
        source.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name))
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        if thread::panicking() {
            self.pair.source.mark_failed();
            self.pair.ods.mark_failed();
            eprintln!("{}:\n{}", self.name, self.status());
        } else if let Err(error) = self.clean() {
            eprintln!("{}: left behind: {error:?}", self.name);
        }
    }
}
