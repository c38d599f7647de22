//! The clusters of a measurement: an upstream, one that runs `ods`, and one with a native subscription.

use crate::support::client::{Ask, literal};
use crate::support::cluster::{Cluster, ClusterOptions, Shutdown};
use crate::support::pair::{Pair, Sync};
use postgres::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The database's name on every cluster.
pub const DATABASE: &str = "bench";

/// For what takes as long as it takes.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The role that others than `ods` read the upstream as. Servers listen on 127.0.0.1 only, and live
/// as long as this process.
pub const READER: &str = "bench_reader";

/// A table as many have it: 11 columns, about 190 bytes a row.
pub fn item_as(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (
    id bigint PRIMARY KEY, customer integer NOT NULL, quantity integer NOT NULL,
    status integer NOT NULL, amount numeric(12,2) NOT NULL, name text NOT NULL,
    address text, note text, created_at timestamptz NOT NULL, changed_at timestamptz NOT NULL,
    active boolean NOT NULL)"
    )
}

/// One row of it, of number `i`.
pub const ITEM_ROW: &str = "i, (i % 99991)::integer, (i % 1000)::integer, (i % 7)::integer,
    (i % 1000000) / 100.0, md5(i::text), 'street ' || md5((i + 1)::text), 'note ' || i,
    timestamptz '2024-01-01' + i * interval '1 s', clock_timestamp(), i % 2 = 0";

/// A row that changes last, so that it tells when everything before it has arrived.
const SENTINEL: &str = "CREATE TABLE sentinel (id integer PRIMARY KEY, n bigint NOT NULL);
    INSERT INTO sentinel VALUES (1, 0)";

/// An upstream and an `ods` cluster alike, with table `item` upstream.
pub struct Scene {
    pub pair: Arc<Pair>,
    pub sync: Sync,
}

impl Scene {
    /// Starts the clusters and fills `item` upstream with rows 1 to `rows`.
    pub fn start(name: &str, rows: u64) -> Self {
        let pair = Pair::start_with(
            tuned(ClusterOptions::source(&format!("{name}-source"))),
            tuned(ClusterOptions::ods(&format!("{name}-ods"))),
        );
        let sync = Sync::on(&pair, DATABASE);
        let mut source = sync.source();
        source.run(&item_as("item"));
        source.run(SENTINEL);
        source.run(&format!(
            "INSERT INTO item SELECT {ITEM_ROW} FROM generate_series(1, {rows}) AS i"
        ));
        let mut admin = sync.source_admin();
        admin.run("VACUUM ANALYZE");
        admin.run("CHECKPOINT");
        Self { pair, sync }
    }

    /// Has tables synced and waits until they are loaded.
    pub fn follow(&self, tables: &[&str]) {
        for table in tables {
            self.sync.create(table, &format!("public.{table}"));
        }
        for table in tables {
            self.wait_loaded(table);
        }
    }

    /// Waits for the end of a load of any size.
    pub fn wait_loaded(&self, table: &str) {
        self.sync.ods().run(&format!("SELECT ods.wait_until_loaded({}, '30 min')", literal(table)));
    }

    /// Waits until `ods` has everything up to a position.
    pub fn wait_for(&self, position: &str) {
        wait_for_position(&mut self.sync.ods(), position);
    }
}

/// Waits until `ods` has everything up to a position.
pub fn wait_for_position(ods: &mut Client, position: &str) {
    ods.run(&format!("SELECT ods.wait_for_position('src', {}, '30 min')", literal(position)));
}

/// The same settings for all: more memory, and nothing that starts by itself in the middle of a
/// measurement.
pub fn tuned(options: ClusterOptions) -> ClusterOptions {
    options
        .setting("shared_buffers", "1GB")
        .setting("max_wal_size", "8GB")
        .setting("checkpoint_timeout", "1h")
        .setting("autovacuum", "off")
}

/// A scene with a second follower: a native subscription to the same tables, in a cluster of its own.
pub struct Rivals {
    pub scene: Scene,
    native: Cluster,
    /// Of `ods`.
    slot: String,
    publication: String,
    native_runs: AtomicBool,
    ods_runs: AtomicBool,
}

/// Who follows the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follower {
    Ods,
    Native,
}

impl Follower {
    /// Both, the one first whose turn it is.
    pub fn in_turn(repetition: u64) -> [Self; 2] {
        if repetition.is_multiple_of(2) {
            [Self::Ods, Self::Native]
        } else {
            [Self::Native, Self::Ods]
        }
    }
}

impl Rivals {
    /// Both follow `item`, `sentinel` and what `further` creates upstream, and have it all.
    pub fn start(name: &str, rows: u64, further: &[(&str, &str)]) -> Self {
        let scene = Scene::start(name, rows);
        let native = Cluster::start(tuned(ClusterOptions::source(&format!("{name}-native"))));
        let mut tables = vec!["item", "sentinel"];
        tables.extend(further.iter().map(|(table, _)| *table));
        let mut source = scene.sync.source();
        native.connect("postgres").run(&format!("CREATE DATABASE {DATABASE}"));
        let mut subscriber = native.connect(DATABASE);
        subscriber.run(&item_as("item"));
        subscriber.run("CREATE TABLE sentinel (id integer PRIMARY KEY, n bigint NOT NULL)");
        for (_, create) in further {
            source.run(create);
            subscriber.run(create);
        }
        let mut admin = scene.sync.source_admin();
        admin.run(&format!("CREATE PUBLICATION native FOR TABLE {}", tables.join(", ")));
        admin.run(&format!(
            "CREATE ROLE {READER} LOGIN REPLICATION PASSWORD '{READER}'; GRANT app TO {READER}"
        ));
        subscriber.run(&format!(
            "CREATE SUBSCRIPTION native CONNECTION
               'host=127.0.0.1 port={} dbname={DATABASE} user={READER} password={READER}'
             PUBLICATION native",
            scene.pair.source.port()
        ));
        scene.follow(&tables);
        subscriber.wait_until(
            "the native subscription has copied its tables",
            "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel",
            PATIENCE,
        );
        let mut ods = scene.sync.ods();
        let mut stream = |column: &str| {
            ods.text(&format!("SELECT {column} FROM ods.stream")).expect("a stream is named")
        };
        let (slot, publication) = (stream("stream_name"), stream("publication_name"));
        let runs = || AtomicBool::new(true);
        Self { scene, native, slot, publication, native_runs: runs(), ods_runs: runs() }
    }

    /// The cluster of a follower.
    pub fn cluster(&self, follower: Follower) -> &Cluster {
        match follower {
            Follower::Ods => &self.scene.pair.ods,
            Follower::Native => &self.native,
        }
    }

    fn runs(&self, follower: Follower) -> &AtomicBool {
        match follower {
            Follower::Ods => &self.ods_runs,
            Follower::Native => &self.native_runs,
        }
    }

    /// Has a follower go on.
    pub fn start_follower(&self, follower: Follower) {
        if !self.runs(follower).swap(true, Ordering::Relaxed) {
            self.cluster(follower).start_again();
        }
    }

    /// Holds a follower off by stopping its cluster; its slot keeps what it misses.
    pub fn stop_follower(&self, follower: Follower) {
        if self.runs(follower).swap(false, Ordering::Relaxed) {
            self.cluster(follower).stop(Shutdown::Fast);
        }
    }

    /// A connection to a follower's tables.
    pub fn connect(&self, follower: Follower) -> Client {
        self.cluster(follower).connect(DATABASE)
    }

    /// The slot that a follower reads.
    pub fn slot(&self, follower: Follower) -> &str {
        match follower {
            Follower::Ods => &self.slot,
            Follower::Native => "native",
        }
    }

    /// The publication that `ods` reads.
    pub fn publication(&self) -> &str {
        &self.publication
    }

    /// Writes the sentinel after everything else.
    pub fn mark(&self) -> Mark {
        let mut source = self.scene.sync.source();
        let n = source.number("UPDATE sentinel SET n = n + 1 RETURNING n");
        let position = source.text("SELECT pg_current_wal_insert_lsn()");
        Mark { n, position: position.expect("a server has an insert position") }
    }

    /// Waits until a running follower has everything up to a mark.
    pub fn wait_for(&self, follower: Follower, mark: &Mark) {
        let mut client = self.connect(follower);
        match follower {
            Follower::Ods => wait_for_position(&mut client, &mark.position),
            Follower::Native => {
                // A subscription has no wait function. 2 ms are below what is compared here.
                let deadline = Instant::now() + PATIENCE;
                while client.number("SELECT n FROM sentinel") < mark.n {
                    assert!(Instant::now() < deadline, "the native subscription stands still");
                    thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }

    /// Lets both followers catch up, their slots forget the past, and every table be as after
    /// maintenance. Both run afterwards.
    pub fn rest(&self) {
        let followers = [Follower::Ods, Follower::Native];
        for follower in followers {
            self.start_follower(follower);
        }
        let slots = followers.map(|follower| literal(self.slot(follower))).join(", ");
        let mut admin = self.scene.sync.source_admin();
        admin.run("VACUUM ANALYZE");
        let begin = self.mark();
        let forgotten = format!(
            "SELECT bool_and(restart_lsn >= '{}') FROM pg_replication_slots WHERE slot_name IN ({slots})",
            begin.position
        );
        // A slot moves past a checkpoint only once its reader has confirmed it, and not every time.
        for _ in 0..50 {
            admin.run("CHECKPOINT");
            let mark = self.mark();
            for follower in followers {
                self.wait_for(follower, &mark);
            }
            if admin.text(&forgotten).as_deref() == Some("t") {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        for follower in followers {
            let mut client = self.connect(follower);
            client.run("VACUUM ANALYZE");
            client.run("CHECKPOINT");
        }
    }
}

/// A place in the upstream's history.
pub struct Mark {
    n: i64,
    /// An LSN behind everything before the mark.
    pub position: String,
}
