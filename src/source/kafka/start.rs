//! From where a table reads its topics.

use super::client::{Client, Topic};
use crate::catalog::topics::{Partition, Place};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::wait::Deadline;
use std::collections::BTreeMap;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the first record that is there.
    Earliest,
    /// From what comes from now on.
    Latest,
    /// From the first record that was written then or later, in milliseconds since 1970.
    At(i64),
    /// From these offsets of the partitions named, from the first record of all others.
    Offsets(BTreeMap<Partition, i64>),
}

impl Start {
    /// Reads what a person says: `earliest`, `latest`, a time, for which `time` is asked, or a JSON object
    /// of offsets by `partition` or `topic:partition`.
    pub fn parse(
        text: &str,
        topics: &[String],
        time: impl FnOnce(&str) -> Option<i64>,
    ) -> Result<Self> {
        match text.trim() {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            json if json.starts_with('{') => offsets(json, topics).map(Self::Offsets),
            other => time(other).map(Self::At).ok_or_else(|| {
                OdsError::new(ErrorKind::InvalidArgument, format!("start can't be {text:?}")).hint(
                    "start => 'earliest', 'latest', '2026-01-31 12:00+00' or '{\"0\": 1234, \"1\": 5678}'",
                )
            }),
        }
    }

    /// Where each partition of these topics begins.
    pub fn places(
        &self,
        client: &Client,
        topics: &[Topic],
        deadline: Deadline,
    ) -> Result<BTreeMap<Partition, Place>> {
        let mut places = BTreeMap::new();
        for topic in topics {
            let at = match self {
                Self::At(ms) => {
                    client.offsets_since(&topic.name, &topic.partitions, *ms, deadline)?
                }
                _ => Vec::new(),
            };
            let at: BTreeMap<i32, i64> = at
                .into_iter()
                .filter_map(|(partition, offset)| Some((partition, offset?)))
                .collect();
            for number in &topic.partitions {
                let partition = Partition { topic: topic.name.clone(), number: *number };
                let extent = client.extent(&topic.name, *number, deadline)?;
                let next = match self {
                    Self::Earliest => extent.low,
                    Self::Latest => extent.high,
                    Self::At(_) => at.get(number).copied().unwrap_or(extent.high),
                    Self::Offsets(offsets) => match offsets.get(&partition) {
                        None => extent.low,
                        Some(offset) if (extent.low..=extent.high).contains(offset) => *offset,
                        Some(offset) => {
                            return Err(OdsError::new(
                                ErrorKind::InvalidArgument,
                                format!(
                                    "partition {partition} has no offset {offset}: it begins at {} and ends at {}",
                                    extent.low, extent.high
                                ),
                            ));
                        }
                    },
                };
                let end = Some(extent.high);
                places.insert(partition, Place { next, end, ..Place::default() });
            }
        }
        if let Self::Offsets(offsets) = self
            && let Some(unknown) = offsets.keys().find(|partition| !places.contains_key(partition))
        {
            return Err(OdsError::new(
                ErrorKind::NotFound,
                format!("there is no partition {unknown}"),
            ));
        }
        Ok(places)
    }
}

fn offsets(json: &str, topics: &[String]) -> Result<BTreeMap<Partition, i64>> {
    let bad = || {
        OdsError::new(ErrorKind::InvalidArgument, "start holds no offsets of partitions")
            .hint("start => '{\"0\": 1234}', or of several topics '{\"topic:0\": 1234}'")
    };
    let read: BTreeMap<String, i64> = serde_json::from_str(json).map_err(|_| bad())?;
    read.into_iter()
        .map(|(name, offset)| {
            let (topic, number) = match (name.rsplit_once(':'), topics) {
                (Some((topic, number)), _) => (topic.to_owned(), number.to_owned()),
                (None, [topic]) => (topic.clone(), name.clone()),
                (None, _) => return Err(bad()),
            };
            let number = number.parse::<i32>().ok().filter(|_| offset >= 0).ok_or_else(bad)?;
            Ok((Partition { topic, number }, offset))
        })
        .collect()
}

/// A time that a person has written, in milliseconds since 1970.
pub fn time(text: &str) -> Option<i64> {
    let seconds = pgrx::Spi::get_one_with_args::<f64>(
        "SELECT pg_catalog.date_part('epoch', $1::pg_catalog.timestamptz)",
        &[text.into()],
    );
    let milliseconds = seconds.ok().flatten()? * 1000.0;
    milliseconds.is_finite().then_some(milliseconds as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, topics: &[&str]) -> Option<Start> {
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Start::parse(text, &topics, |text| (text == "then").then_some(7)).ok()
    }

    #[test]
    fn starts_are_words_times_or_offsets() {
        assert_eq!(parse(" earliest ", &["t"]), Some(Start::Earliest));
        assert_eq!(parse("latest", &["t"]), Some(Start::Latest));
        assert_eq!(parse("then", &["t"]), Some(Start::At(7)));
        assert_eq!(parse("nonsense", &["t"]), None);
        let at = |topic: &str, number| Partition { topic: topic.to_owned(), number };
        let offsets = BTreeMap::from([(at("t", 0), 5), (at("t", 1), 0)]);
        assert_eq!(parse(r#"{"0": 5, "1": 0}"#, &["t"]), Some(Start::Offsets(offsets)));
        let offsets = BTreeMap::from([(at("a:b", 3), 5)]);
        assert_eq!(parse(r#"{"a:b:3": 5}"#, &["a:b", "c"]), Some(Start::Offsets(offsets)));
        for bad in [r#"{"0": 5}"#, r#"{"t:0": -1}"#, r#"{"t:x": 1}"#, "{", r#"{"t:0": "1"}"#] {
            assert_eq!(parse(bad, &["t", "u"]), None, "{bad}");
        }
    }
}
