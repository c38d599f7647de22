//! Every setting of `ods`, each with the reason for its default.
//!
//! The getters are the only public surface; they are to be called on the main thread.

use crate::pg::guc;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::time::Duration;

/// Sixty-four streams are more systems than one operational store usually joins, and their board
/// entries cost under 128 kB of shared memory. Fixed at start because shared memory is.
static MAX_STREAMS: GucSetting<i32> = GucSetting::<i32>::new(64);

/// Large enough that the fixed cost of a commit and a set-based statement vanishes, small enough
/// that a batch is applied well within a second.
static BATCH_ROWS: GucSetting<i32> = GucSetting::<i32>::new(20_000);

/// In kB. Wide rows end a batch before `ods.batch_rows` does, so that the arena stays in cache
/// reach and a worker's memory stays flat.
static BATCH_BYTES: GucSetting<i32> = GucSetting::<i32>::new(16 * 1024);

/// A chunk of a load is one statement on the source: about a second of reading, so that its
/// snapshot never holds back vacuum there and little is lost when it must be repeated.
static CHUNK_ROWS: GucSetting<i32> = GucSetting::<i32>::new(50_000);

/// In kB. The same bound as a batch, because a chunk becomes one.
static CHUNK_BYTES: GucSetting<i32> = GucSetting::<i32>::new(16 * 1024);

/// In kB. Changes that a worker remembers for all its loading tables until a chunk's snapshot sees
/// them. With a batch, a chunk and the session's own memory this keeps a worker under 256 MB.
static LOAD_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(64 * 1024);

/// In ms. Long enough for a TLS handshake over a slow line, short enough that a dead host is
/// reported while somebody is looking.
static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);

/// In ms. No source answers a probe or a keepalive later than this unless something is wrong.
static NETWORK_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);

/// In MB. A stream that can't go on must not fill the disk of the source; 50 GB is hours of WAL
/// on a busy system and fits beside most of them.
static MAX_RETAINED_WAL: GucSetting<i32> = GucSetting::<i32>::new(50 * 1024);

/// More than a person looks through one by one: what fails so often has one cause, and the table is
/// better read anew once that is mended.
static MAX_DEAD_LETTERS: GucSetting<i32> = GucSetting::<i32>::new(10_000);

/// In ms. Ten seconds is longer than any DDL that behaves, and within the staleness that a
/// real-time table usually promises.
static LOCK_WAIT_WARNING: GucSetting<i32> = GucSetting::<i32>::new(10_000);

/// A worker that waits for a lock this many times as long lets go and begins anew: what its slot
/// holds back at the source is judged there.
const LOCK_WAITS: u32 = 6;

/// In kB. What a consumer holds of records that wait to be applied: a tenth of a second of a busy topic,
/// so that a message of another topic never waits long behind them, and a worker stays under 256 MB.
static KAFKA_BUFFER: GucSetting<i32> = GucSetting::<i32>::new(16 * 1024);

/// Off, because a promoted clone looks like a failover: a person says which of the two it is.
static TAKEOVER_ON_PROMOTION: GucSetting<bool> = GucSetting::<bool>::new(false);

/// Streams that can exist in the whole cluster at a time.
pub fn max_streams() -> usize {
    usize::try_from(MAX_STREAMS.get()).unwrap_or_default()
}

/// Rows after which a batch is committed at the next end of an upstream transaction.
pub fn batch_rows() -> usize {
    usize::try_from(BATCH_ROWS.get()).unwrap_or_default()
}

/// Bytes of row data after which a batch is committed.
pub fn batch_bytes() -> usize {
    kilobytes(&BATCH_BYTES)
}

/// Rows of one chunk of a load.
pub fn chunk_rows() -> usize {
    usize::try_from(CHUNK_ROWS.get()).unwrap_or_default()
}

/// Bytes of row data at which a chunk of a load is cut short.
pub fn chunk_bytes() -> usize {
    kilobytes(&CHUNK_BYTES)
}

/// Bytes of changes that a worker remembers for its loading tables, all together.
pub fn load_memory() -> usize {
    kilobytes(&LOAD_MEMORY)
}

/// How long a connection to a source may take to be made.
pub fn connect_timeout() -> Duration {
    milliseconds(&CONNECT_TIMEOUT)
}

/// How long any answer of a source may take.
pub fn network_timeout() -> Duration {
    milliseconds(&NETWORK_TIMEOUT)
}

/// Bytes of WAL a slot may hold back at its source before it is given up; `None` is no bound.
pub fn max_retained_wal() -> Option<u64> {
    u64::try_from(MAX_RETAINED_WAL.get()).ok().map(|megabytes| megabytes * 1024 * 1024)
}

/// How long a stream worker waits for a lock before it begins anew.
pub fn lock_timeout() -> Duration {
    milliseconds(&LOCK_WAIT_WARNING) * LOCK_WAITS
}

/// How many changes that could not be applied are kept for a table.
pub fn max_dead_letters() -> usize {
    usize::try_from(MAX_DEAD_LETTERS.get()).unwrap_or(0)
}

/// Bytes of records that a consumer of a Kafka cluster holds ready.
pub fn kafka_buffer() -> usize {
    kilobytes(&KAFKA_BUFFER)
}

/// Whether a new timeline of this server goes on streaming instead of standing fenced.
pub fn takeover_on_promotion() -> bool {
    TAKEOVER_ON_PROMOTION.get()
}

fn kilobytes(setting: &'static GucSetting<i32>) -> usize {
    usize::try_from(setting.get()).unwrap_or_default() * 1024
}

fn milliseconds(setting: &'static GucSetting<i32>) -> Duration {
    Duration::from_millis(u64::try_from(setting.get()).unwrap_or_default())
}

/// Defines the settings; called once, from `_PG_init`.
pub fn define() {
    use GucContext::{Postmaster, Sighup};
    GucRegistry::define_int_guc(
        c"ods.max_streams",
        c"Streams that can exist in the whole cluster.",
        c"Each takes one of max_worker_processes while it runs.",
        &MAX_STREAMS,
        1,
        4096,
        Postmaster,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"ods.batch_rows",
        c"Rows after which a batch of changes is committed.",
        c"An upstream transaction is never split, so a batch can hold more.",
        &BATCH_ROWS,
        1,
        10_000_000,
        Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"ods.batch_bytes",
        c"Row data after which a batch of changes is committed.",
        c"",
        &BATCH_BYTES,
        64,
        1024 * 1024,
        Sighup,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"ods.chunk_rows",
        c"Rows read from a source in one statement while a table loads.",
        c"",
        &CHUNK_ROWS,
        1,
        10_000_000,
        Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"ods.chunk_bytes",
        c"Row data at which a chunk of a loading table is cut short.",
        c"",
        &CHUNK_BYTES,
        64,
        1024 * 1024,
        Sighup,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"ods.load_memory",
        c"Memory for changes that a worker remembers while tables load.",
        c"When it is used up, the oldest are forgotten, and rows that can't be judged without them are read again.",
        &LOAD_MEMORY,
        1024,
        1024 * 1024,
        Sighup,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"ods.kafka_buffer",
        c"Memory for records of a Kafka cluster that wait to be applied, for each consumer.",
        c"A stream has one consumer, and another while it reads a table that is behind.",
        &KAFKA_BUFFER,
        1024,
        1024 * 1024,
        Sighup,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"ods.connect_timeout",
        c"Time in which a connection to a source must be made.",
        c"",
        &CONNECT_TIMEOUT,
        100,
        600_000,
        Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"ods.network_timeout",
        c"Time in which a source must answer.",
        c"A source that is silent for longer is taken for unreachable.",
        &NETWORK_TIMEOUT,
        1000,
        3_600_000,
        Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"ods.max_retained_wal",
        c"WAL that a slot may hold back at its source before it is given up.",
        c"The tables of the stream then stop as failed, with the gap named. -1 sets no bound.",
        &MAX_RETAINED_WAL,
        -1,
        i32::MAX,
        Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"ods.lock_wait_warning",
        c"Time the applier waits for a lock before it shows the blocker.",
        c"After six times as long it lets go, looks at the WAL that its slot holds back, and tries again.",
        &LOCK_WAIT_WARNING,
        100,
        3_600_000,
        Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"ods.max_dead_letters",
        c"Changes that could not be applied and are kept for a table, before it is set aside.",
        c"A table with more bad rows than anybody will look at one by one has another problem.",
        &MAX_DEAD_LETTERS,
        0,
        10_000_000,
        Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"ods.takeover_on_promotion",
        c"Lets a promoted standby go on streaming instead of standing fenced.",
        c"Turn on only where a promotion always means that the old primary is gone.",
        &TAKEOVER_ON_PROMOTION,
        Sighup,
        GucFlags::empty(),
    );
    // Misspelt settings are refused instead of being kept as placeholders.
    guc::reserve_prefix(c"ods");
}
