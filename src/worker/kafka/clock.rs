//! Up to when everything that connectors have read of their sources is here.
//!
//! An event tells when it was committed at its source, and a connector reads the log of its source in
//! order: what was committed up to then has been written to its topics. Where these have several
//! partitions, it is here once all of them have been read to where they ended after that event had come.
//! What a connector says of itself, as in its heartbeats, proves nothing about its source. Pure.

use crate::catalog::topics::Partition;
use std::collections::BTreeMap;

/// The clocks of the connectors of a stream, by the names of these.
#[derive(Default)]
pub struct Clocks {
    connectors: BTreeMap<String, Clock>,
}

/// What the events of one connector have told. Times are in microseconds since 2000-01-01 on the clock of
/// its source.
#[derive(Debug, Default)]
struct Clock {
    /// The latest time that an event has told.
    told: Option<i64>,
    /// A time that holds once partitions have been read up to these ends.
    awaits: Option<(i64, BTreeMap<Partition, i64>)>,
    /// The latest time that holds here.
    proven: Option<i64>,
    /// What the catalog holds of it.
    stored: Option<i64>,
}

impl Clocks {
    /// Takes in the time of an event.
    pub fn tell(&mut self, connector: &str, at: i64) {
        match self.connectors.get_mut(connector) {
            Some(clock) => clock.told = clock.told.max(Some(at)),
            None => {
                let clock = Clock { told: Some(at), ..Clock::default() };
                self.connectors.insert(connector.to_owned(), clock);
            }
        }
    }

    /// The connectors that have told a time which is yet to be proven, and for which nothing is awaited.
    pub fn unproven(&self) -> impl Iterator<Item = &str> {
        self.connectors
            .iter()
            .filter(|(_, clock)| clock.awaits.is_none() && clock.told > clock.proven)
            .map(|(name, _)| name.as_str())
    }

    /// Has what a connector told last hold once its partitions have been read up to `ends`, at which they
    /// ended after it was told.
    pub fn await_ends(&mut self, connector: &str, ends: BTreeMap<Partition, i64>) {
        if let Some(clock) = self.connectors.get_mut(connector)
            && let Some(told) = clock.told
        {
            clock.awaits = Some((told, ends));
        }
    }

    /// Takes for proven what connectors told whose partitions have been read: `next` says up to where one
    /// has, or that it is read no longer.
    pub fn settle(&mut self, next: impl Fn(&Partition) -> Option<i64>) {
        for clock in self.connectors.values_mut() {
            let Some((told, ends)) = &mut clock.awaits else { continue };
            ends.retain(|partition, end| next(partition).is_some_and(|next| next < *end));
            if ends.is_empty() {
                clock.proven = clock.proven.max(Some(*told));
                clock.awaits = None;
            }
        }
    }

    /// Whether anything is proven that the catalog does not hold yet.
    pub fn has_news(&self) -> bool {
        self.connectors.values().any(|clock| clock.proven > clock.stored)
    }

    /// What is proven that the catalog does not hold yet.
    pub fn news(&self) -> Vec<(String, i64)> {
        let new = self.connectors.iter().filter(|(_, clock)| clock.proven > clock.stored);
        new.filter_map(|(name, clock)| Some((name.clone(), clock.proven?))).collect()
    }

    /// Takes note that the catalog holds `news`.
    pub fn stored(&mut self, news: &[(String, i64)]) {
        for (name, at) in news {
            if let Some(clock) = self.connectors.get_mut(name) {
                clock.stored = clock.stored.max(Some(*at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> Partition {
        Partition { topic: "t".to_owned(), number }
    }

    #[test]
    fn a_time_holds_once_all_partitions_are_read_to_where_they_ended() {
        let mut clocks = Clocks::default();
        clocks.tell("shop", 70);
        clocks.tell("shop", 50);
        assert_eq!(clocks.unproven().collect::<Vec<_>>(), ["shop"]);
        clocks.await_ends("shop", BTreeMap::from([(partition(0), 10), (partition(1), 5)]));
        clocks.tell("shop", 90);
        assert!(clocks.unproven().next().is_none());
        clocks.settle(|partition| Some(if partition.number == 0 { 10 } else { 4 }));
        assert!(clocks.news().is_empty());
        clocks.settle(|_| Some(5));
        assert_eq!(clocks.news(), [("shop".to_owned(), 70)]);
        assert_eq!(clocks.unproven().collect::<Vec<_>>(), ["shop"], "90 is not proven by it");
        clocks.stored(&[("shop".to_owned(), 70)]);
        assert!(!clocks.has_news());
    }

    #[test]
    fn a_partition_that_is_read_no_longer_holds_nothing_up() {
        let mut clocks = Clocks::default();
        clocks.tell("shop", 1);
        clocks.await_ends("shop", BTreeMap::from([(partition(0), 10)]));
        clocks.settle(|_| None);
        assert_eq!(clocks.news(), [("shop".to_owned(), 1)]);
    }
}
