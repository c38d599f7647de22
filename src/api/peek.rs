//! `ods.peek`: messages of a topic, decoded, and consumed by nobody.

use crate::error::{ErrorKind, OdsError};
use crate::freshness;
use crate::pg::wait::Deadline;
use crate::source::kafka::access::KafkaAccess;
use crate::source::kafka::peek::{self, From};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::time::Duration;

/// A person waits for the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// More messages than anybody reads, and room in memory for large ones.
const MOST: i32 = 1_000;

/// Some messages of a topic of a Kafka server, with JSON as text. Nothing is consumed: no position
/// moves.
#[pg_extern(volatile, parallel_unsafe)]
#[expect(clippy::type_complexity, reason = "the columns of a SQL function")]
fn peek_messages(
    server: &str,
    topic: &str,
    messages: i32,
    start: &str,
    partition: Option<i32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(partition_number, i32),
            name!(message_offset, i64),
            name!(written_at, Option<TimestampWithTimeZone>),
            name!(key, Option<String>),
            name!(value, Option<String>),
            name!(headers, Option<String>),
            name!(format, String),
            name!(note, Option<String>),
        ),
    >,
    ErrorReport,
> {
    if !(1..=MOST).contains(&messages) {
        return Err(OdsError::new(
            ErrorKind::InvalidArgument,
            format!("messages can't be {messages}"),
        )
        .hint(format!("messages => 10, or another number from 1 to {MOST}"))
        .into());
    }
    let from = match (start, start.parse()) {
        ("latest", _) => From::Latest,
        ("earliest", _) => From::Earliest,
        (_, Ok(offset)) if offset >= 0 && partition.is_some() => From::Offset(offset),
        _ => {
            return Err(OdsError::new(
                ErrorKind::InvalidArgument,
                format!("start can't be {start:?}"),
            )
            .hint("start => 'latest' or 'earliest', or an offset together with partition => …")
            .into());
        }
    };
    let access = KafkaAccess::for_caller(server)?;
    let count = usize::try_from(messages).unwrap_or(0);
    let shown = peek::peek(access, topic, partition, from, count, Deadline::after(PATIENCE))?;
    Ok(TableIterator::new(shown.into_iter().map(|message| {
        let at = message.at.and_then(freshness::from_unix_ms);
        let at = at.and_then(|us| TimestampWithTimeZone::try_from(us).ok());
        (
            message.partition,
            message.offset,
            at,
            message.key,
            message.value,
            message.headers,
            message.format,
            message.note,
        )
    })))
}
