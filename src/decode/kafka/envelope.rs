//! What a record is, and what it tells about its source.
//!
//! Source: `io.debezium.data.Envelope` and the documentation of Debezium's connectors.

use super::datum::{Value, take};
use super::error::{RecordError, Wrong};
use super::scan::Members;
use super::walk::{Order, SKIP};
use std::borrow::Cow;

const PART: &str = "source";

/// What a record is.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// A row changed.
    Row(RowEvent<'a>),
    /// A null value: the row of that key is gone. Behind a delete it repeats what that said.
    Tombstone {
        /// Whether the rows' key is filled.
        key: bool,
        /// Whether it is known to concern the table. It is not where records are told apart by a field
        /// that the key does not have.
        told: bool,
    },
    /// It concerns another table, by the conditions of [`super::select::Where`].
    Elsewhere,
    /// The table was emptied.
    Truncate(Facts<'a>),
    /// A message that an application wrote into the log of a Postgres source.
    Message(Message<'a>),
    /// A sign of life of the connector.
    Heartbeat {
        /// When it was sent, in milliseconds since 1970 on the connector's clock.
        ts_ms: i64,
    },
    /// A transaction of the source began or ended.
    Transaction(Boundary<'a>),
    /// The shape of tables changed.
    SchemaChange(SchemaChange<'a>),
}

/// A change of a row. The rows are in the decoder's answer.
#[derive(Clone, PartialEq)]
pub struct RowEvent<'a> {
    /// What happened to it.
    pub op: Op,
    /// Whether the row's key is filled: for every delete, and where the row lacks columns of it.
    pub key: bool,
    /// Whether the row before is filled; it may hold no more than the source's replica identity.
    pub before: bool,
    /// Whether the row after is filled.
    pub after: bool,
    /// What the event tells about its source.
    pub facts: Facts<'a>,
    /// The header `__debezium.oldkey`: the event makes the row anew under another key.
    pub old_key: Option<&'a [u8]>,
    /// The header `__debezium.newkey`: the row goes on under another key.
    pub new_key: Option<&'a [u8]>,
}

/// Keys are values of a row, which stay out of logs.
impl std::fmt::Debug for RowEvent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowEvent")
            .field("op", &self.op)
            .field("key", &self.key)
            .field("before", &self.before)
            .field("after", &self.after)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// It was read in a snapshot.
    Read,
    /// It is new.
    Create,
    /// It changed.
    Update,
    /// It is gone.
    Delete,
    /// It is as told; whether it is new is not.
    Upsert,
}

impl Op {
    /// The operation of Debezium's letter, for those that concern a row.
    pub fn of_letter(letter: &str) -> Option<Self> {
        Some(match letter {
            "r" => Self::Read,
            "c" => Self::Create,
            "u" => Self::Update,
            "d" => Self::Delete,
            _ => return None,
        })
    }
}

/// What an event tells about its source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts<'a> {
    /// The envelope's `source`.
    pub source: Source<'a>,
    /// When the connector handled the event, in microseconds since 1970 on its clock.
    pub handled_us: Option<i64>,
    /// The event's place in its transaction, where the connector tells it.
    pub transaction: Option<InTransaction<'a>>,
}

/// Where and when a change was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source<'a> {
    /// When it was committed, in microseconds since 1970 on the source's clock.
    pub ts_us: Option<i64>,
    /// Whether it stems from a snapshot.
    pub snapshot: Snapshot,
    /// The kind of connector: `postgresql`, `mysql`, …
    pub connector: Option<Cow<'a, str>>,
    /// The connector's own name, which its topics begin with.
    pub name: Option<Cow<'a, str>>,
    /// The database.
    pub database: Option<Cow<'a, str>>,
    /// The schema.
    pub schema: Option<Cow<'a, str>>,
    /// The table or collection.
    pub table: Option<Cow<'a, str>>,
    /// Fields that tell the place in the source's log, by their names in [`PLACES`].
    pub place: Vec<(&'static str, Cow<'a, str>)>,
}

/// The fields of `source` that tell a place: of Postgres, MySQL, Oracle, SQL Server and MongoDB.
pub const PLACES: [&str; 26] = [
    "lsn",
    "sequence",
    "txId",
    "xmin",
    "file",
    "pos",
    "row",
    "gtid",
    "server_id",
    "thread",
    "scn",
    "commit_scn",
    "rs_id",
    "ssn",
    "redo_thread",
    "row_id",
    "change_lsn",
    "commit_lsn",
    "event_serial_no",
    "ord",
    "h",
    "tord",
    "stxnid",
    "lsid",
    "txnNumber",
    "wallTime",
];

impl<'a> Source<'a> {
    /// The text of a field of the place.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.place.iter().rev().find(|(field, _)| *field == name).map(|(_, text)| &**text)
    }

    /// Where the event stands in its source's log, as a number that rises from one change of a row to the
    /// next; `None` for sources that tell none. Two changes of one transaction may have the same.
    ///
    /// Of Postgres it is the LSN, of MySQL and MariaDB the number of the binary log and the place in it, of
    /// Oracle the SCN, of SQL Server the first eight bytes of the commit's LSN.
    pub fn position(&self) -> Option<i64> {
        let number = |name: &str| self.get(name)?.parse::<i64>().ok();
        let in_binary_log = || {
            let (_, file) = self.get("file")?.rsplit_once('.')?;
            in_file(file.parse().ok()?, number("pos")?)
        };
        match self.connector.as_deref() {
            Some("postgresql") => number("lsn"),
            Some("mysql" | "mariadb") => in_binary_log(),
            Some("oracle") => number("scn"),
            Some("sqlserver") => {
                let mut parts = self.get("commit_lsn")?.split(':');
                let mut part = || i64::from_str_radix(parts.next()?, 16).ok();
                in_file(part()?, part()?)
            }
            Some(_) => None,
            // Flattened events have what a person has asked to be added to them.
            None => number("lsn").or_else(in_binary_log),
        }
    }

    /// Reads `source`.
    pub(super) fn read(order: &mut Order, value: Value<'a>) -> Result<Self, RecordError> {
        let mut source = Self::default();
        if value == Value::Null {
            return Ok(source);
        }
        let mut times = Times::default();
        order.walk(value, PART, Self::slot, |slot, value| source.set(slot, value, &mut times))?;
        source.ts_us = times.micros();
        Ok(source)
    }

    /// Reads the `source` that `members` walk.
    pub(super) fn within(
        order: &mut Order,
        members: &mut Members<'a>,
    ) -> Result<Self, RecordError> {
        let (mut source, mut times) = (Self::default(), Times::default());
        order.members(members, PART, Self::slot, |slot, members| {
            let value = members.value().map_err(|wrong| wrong.in_part(PART))?;
            source.set(slot, value, &mut times);
            Ok(())
        })?;
        source.ts_us = times.micros();
        Ok(source)
    }

    /// How many slots there are.
    pub(super) const SLOTS: usize = 9 + PLACES.len();

    /// The slot of a field of `source` for [`Source::set`].
    pub(super) fn slot(name: &str) -> usize {
        match name {
            "ts_ms" => 0,
            "ts_us" => 1,
            "ts_ns" => 2,
            "snapshot" => 3,
            "connector" => 4,
            "db" => 5,
            "schema" => 6,
            "table" | "collection" => 7,
            "name" => 8,
            _ => PLACES.iter().position(|place| *place == name).map_or(SKIP, |at| at + 9),
        }
    }

    /// Takes the value of a field of `source` in.
    pub(super) fn set(&mut self, slot: usize, value: Value<'a>, times: &mut Times<'a>) {
        match slot {
            0..=2 => times.set(slot, value),
            3 => self.snapshot = Snapshot::read(&value),
            4 => self.connector = value.into_plain_text(),
            5 => self.database = value.into_plain_text(),
            6 => self.schema = value.into_plain_text(),
            7 => self.table = value.into_plain_text(),
            8 => self.name = value.into_plain_text(),
            _ => {
                let name = slot.checked_sub(9).and_then(|at| PLACES.get(at));
                if let (Some(name), Some(text)) = (name, value.into_plain_text()) {
                    if self.place.is_empty() {
                        self.place.reserve(4);
                    }
                    self.place.push((name, text));
                }
            }
        }
    }
}

/// A place in a numbered file as one number.
fn in_file(file: i64, place: i64) -> Option<i64> {
    let fits = (0..1 << 31).contains(&file) && (0..1 << 32).contains(&place);
    fits.then_some(file << 32 | place)
}

/// A time told in up to three units, of which the finest counts down to microseconds.
#[derive(Default)]
pub(super) struct Times<'a>([Option<Value<'a>>; 3]);

impl<'a> Times<'a> {
    /// Takes the value of `ts_ms`, `ts_us` or `ts_ns`, in that order of slots, in.
    pub(super) fn set(&mut self, slot: usize, value: Value<'a>) {
        if let Some(time) = self.0.get_mut(slot) {
            *time = Some(value);
        }
    }

    /// Microseconds since 1970.
    pub(super) fn micros(&self) -> Option<i64> {
        let [millis, micros, nanos] = &self.0;
        let number = |value: &Option<Value<'_>>| value.as_ref().and_then(Value::as_i64);
        number(micros)
            .or_else(|| number(nanos).map(|nanos| nanos.div_euclid(1_000)))
            .or_else(|| number(millis).and_then(|millis| millis.checked_mul(1_000)))
    }
}

/// The marker `source.snapshot`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Snapshot {
    /// Not from a snapshot.
    #[default]
    False,
    /// Somewhere in a snapshot.
    True,
    /// The first row of a snapshot.
    First,
    /// The first row of a table.
    FirstInDataCollection,
    /// The last row of a table.
    LastInDataCollection,
    /// The last row of a snapshot.
    Last,
    /// From a snapshot that is taken while changes go on.
    Incremental,
}

impl Snapshot {
    fn read(value: &Value<'_>) -> Self {
        match value {
            Value::Bool(true) => Self::True,
            Value::Text(text) => match &**text {
                "true" => Self::True,
                "first" => Self::First,
                "first_in_data_collection" => Self::FirstInDataCollection,
                "last_in_data_collection" => Self::LastInDataCollection,
                "last" => Self::Last,
                "incremental" => Self::Incremental,
                _ => Self::False,
            },
            _ => Self::False,
        }
    }
}

/// An event's place in its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InTransaction<'a> {
    /// The transaction's id; of Postgres `txid:lsn`.
    pub id: Cow<'a, str>,
    /// The event's number among all of the transaction.
    pub total_order: Option<i64>,
    /// Its number among those of its table.
    pub data_collection_order: Option<i64>,
}

impl<'a> InTransaction<'a> {
    /// Reads the envelope's `transaction`.
    pub(super) fn read(value: Value<'a>) -> Result<Option<Self>, Wrong> {
        if value == Value::Null {
            return Ok(None);
        }
        let mut fields = value.into_struct()?;
        let id = take(&mut fields, "id").and_then(Value::into_plain_text);
        let mut number = |name| take(&mut fields, name).and_then(|number| number.as_i64());
        Ok(Some(Self {
            id: id.ok_or(Wrong("the id of a transaction"))?,
            total_order: number("total_order"),
            data_collection_order: number("data_collection_order"),
        }))
    }
}

/// The beginning or the end of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary<'a> {
    /// Whether it is the end.
    pub end: bool,
    /// The transaction's id; of Postgres `txid:lsn`, whose LSN differs between beginning and end.
    pub id: Cow<'a, str>,
    /// When, in milliseconds since 1970 on the source's clock.
    pub ms: Option<i64>,
    /// How many events the transaction has; told at its end.
    pub event_count: Option<i64>,
    /// How many of them each table has.
    pub data_collections: Vec<(Cow<'a, str>, i64)>,
}

impl<'a> Boundary<'a> {
    pub(super) fn read(
        status: &str,
        id: Value<'a>,
        ms: Option<i64>,
        event_count: Option<&Value<'a>>,
        collections: Option<Value<'a>>,
    ) -> Result<Self, Wrong> {
        let end = match status {
            "BEGIN" => false,
            "END" => true,
            _ => return Err(Wrong("BEGIN or END as the status of a transaction")),
        };
        let id = id.into_plain_text().ok_or(Wrong("the id of a transaction"))?;
        let mut data_collections = Vec::new();
        if let Some(collections) = collections.filter(|value| *value != Value::Null) {
            for collection in collections.into_list()? {
                let mut fields = collection.into_struct()?;
                let name = take(&mut fields, "data_collection").and_then(Value::into_plain_text);
                let count = take(&mut fields, "event_count").and_then(|count| count.as_i64());
                data_collections.push(name.zip(count).ok_or(Wrong("a table's count of events"))?);
            }
        }
        let event_count = event_count.and_then(Value::as_i64);
        Ok(Self { end, id, ms, event_count, data_collections })
    }
}

/// A logical message.
#[derive(Clone, PartialEq)]
pub struct Message<'a> {
    /// What the event tells about its source.
    pub facts: Facts<'a>,
    /// The message's prefix.
    pub prefix: Cow<'a, str>,
    /// Its content.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("facts", &self.facts)
            .field("prefix", &self.prefix)
            .field("bytes", &self.content.len())
            .finish()
    }
}

/// A change of shape at the source. `ddl` and `table_changes` are incubating in Debezium, so that
/// they are passed on as they came.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaChange<'a> {
    /// What the event tells about its source.
    pub facts: Facts<'a>,
    /// The database concerned.
    pub database: Option<Cow<'a, str>>,
    /// The schema concerned.
    pub schema: Option<Cow<'a, str>>,
    /// The statement.
    pub ddl: Option<Cow<'a, str>>,
    /// The list of tables created, altered or dropped; its form does not show in debug output.
    pub table_changes: Option<Value<'a>>,
}
