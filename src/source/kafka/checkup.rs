//! The whole list of prerequisites of a Kafka server, asked for in order.

use super::access::KafkaAccess;
use super::client::{Client, Next, Topic};
use super::registry::Registry;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::foreign::ForeignServer;
use crate::pg::wait::Deadline;
use crate::source::check::Check;
use crate::source::options::closest;
use crate::source::postgres::local;
use crate::source::postgres::quote::quote_ident;
use pgrx::pg_sys;
use std::time::Duration;

/// A schema registry that is slower than this is not well.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);

/// Looks at everything that `server` needs, with the mapping of `user`, and whether these topics can be
/// read. What can't be reached or asked is a line of the list, not an error.
pub fn check_up(
    server: ForeignServer,
    user: pg_sys::Oid,
    topics: &[String],
    deadline: Deadline,
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    ask(server, user, topics, deadline, &mut checks);
    // What keys and values hold is UTF-8, whatever the cluster is.
    checks.extend(local::checks(Some("UTF8"))?);
    Ok(checks)
}

fn ask(
    server: ForeignServer,
    user: pg_sys::Oid,
    topics: &[String],
    deadline: Deadline,
    checks: &mut Vec<Check>,
) {
    let access = match KafkaAccess::with_mapping_of(server, user) {
        Ok(access) => access,
        Err(error) => return checks.push(failed("options", error, "")),
    };
    checks.push(Check::ok("options", access.summary()));
    let fix = reach_fix(&access);
    let registry = Registry::of(&access, REGISTRY_PATIENCE).map(|registry| {
        let url = access.server.set_options_sql(&["\"schema.registry.url\""]);
        registry_check(&registry, format!("{url}  -- here"))
    });
    ask_brokers(access, topics, deadline, &fix, checks);
    checks.extend(registry);
}

/// Whether the schema registry answers.
fn registry_check(registry: &Registry, fix: String) -> Check {
    const NAME: &str = "schema registry";
    match registry.check() {
        Ok(()) => Check::ok(NAME, format!("{} answers", registry.url())),
        Err(error) if error.kind == ErrorKind::SourceRefused => {
            let fix = error.hint.clone().unwrap_or(fix);
            failed(NAME, error, fix)
        }
        Err(error) => failed(NAME, error, fix),
    }
}

fn ask_brokers(
    access: KafkaAccess,
    topics: &[String],
    deadline: Deadline,
    fix: &str,
    checks: &mut Vec<Check>,
) {
    let client = match Client::open_for_questions(access) {
        Ok(client) => client,
        Err(error) => return checks.push(failed("client", error, fix)),
    };
    match client.brokers(deadline) {
        Ok(brokers) => {
            let detail = format!("{} broker(s): {}", brokers.len(), brokers.join(", "));
            checks.push(Check::ok("reachable", detail));
        }
        Err(error) => return checks.push(failed("reachable", error, fix)),
    }
    if topics.is_empty() {
        return;
    }
    match client.topics(deadline) {
        Ok(known) => {
            checks.extend(topics.iter().map(|name| check(&client, name, &known, deadline)));
        }
        Err(error) => checks.push(failed("topics", error, fix)),
    }
}

/// Whether a topic is there and can be read from end to end.
fn check(client: &Client, name: &str, known: &[Topic], deadline: Deadline) -> Check {
    let line = format!("topic {name}");
    let Some(topic) = known.iter().find(|topic| topic.name == name) else {
        let names: Vec<&str> = known.iter().map(|topic| topic.name.as_str()).collect();
        let detail = "it does not exist, or this user may not see it";
        let fix = match closest(name, &names) {
            Some(close) => format!("-- perhaps {close} is meant"),
            None => format!("kafka-topics.sh --create --topic {name}  # at the cluster"),
        };
        return Check::failed(line, detail, fix);
    };
    match read(client, topic, deadline) {
        Ok(messages) => {
            let partitions = topic.partitions.len();
            Check::ok(line, format!("{partitions} partition(s), about {messages} message(s)"))
        }
        Err(error) => failed(
            &line,
            error,
            format!(
                "kafka-acls.sh --add --operation Read --operation Describe --topic {name} --allow-principal User:…  # at the cluster"
            ),
        ),
    }
}

/// Reads as far as the first message or the end of each partition; how many messages there are.
fn read(client: &Client, topic: &Topic, deadline: Deadline) -> Result<i64> {
    let mut messages = 0;
    let mut places = Vec::with_capacity(topic.partitions.len());
    for &partition in &topic.partitions {
        let extent = client.extent(&topic.name, partition, deadline)?;
        messages += extent.span();
        places.push((partition, extent.low));
    }
    client.read_from(&topic.name, &places)?;
    let mut unread: Vec<i32> = topic.partitions.clone();
    while !unread.is_empty() {
        if deadline.is_past() {
            return Err(OdsError::new(
                ErrorKind::Timeout,
                format!("nothing came of {} of its partitions", unread.len()),
            ));
        }
        let partition = match client.next()? {
            None => continue,
            Some(Next::End(partition)) => partition,
            Some(Next::Message(message)) => rdkafka::Message::partition(&message),
        };
        unread.retain(|unread| *unread != partition);
    }
    Ok(messages)
}

/// An error as a line.
fn failed(name: &str, error: OdsError, fix: impl Into<String>) -> Check {
    let fix = match (error.kind, error.hint) {
        (ErrorKind::Forbidden | ErrorKind::InvalidArgument, Some(hint)) => hint,
        _ => fix.into(),
    };
    let detail = match error.detail {
        Some(detail) => format!("{} ({detail})", error.message),
        None => error.message,
    };
    Check::failed(name, detail, fix)
}

/// What most likely has to be set where a cluster can't be reached.
fn reach_fix(access: &KafkaAccess) -> String {
    let brokers = access.server.set_options_sql(&["\"bootstrap.servers\""]);
    if !access.authenticates() {
        return format!("{brokers}  -- here");
    }
    format!(
        "{brokers}  -- here, or: ALTER USER MAPPING FOR … SERVER {} OPTIONS (SET \"sasl.password\" '…');",
        quote_ident(&access.server.name)
    )
}
