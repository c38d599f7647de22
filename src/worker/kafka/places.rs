//! Where tables stand in the partitions that feed them, and which consumer brings each what is next.
//!
//! Most tables follow one consumer, which reads every partition once. A table that stands before it, as
//! one that came later or was set back does, is served by a second consumer until it has caught up, so
//! that it holds up no other. Pure.

use crate::catalog::topics::{Last, Partition, Place, Reached};
use std::collections::{BTreeMap, HashMap};

/// A consumer of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The one that most tables follow.
    Main,
    /// The one for a table that is behind.
    Behind,
}

/// Where a consumer stands in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The offset that comes next.
    pub next: i64,
    /// The record before it, to be met again: one read from here on otherwise is another log.
    pub check: Option<Last>,
}

/// What brings a table the records of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// This consumer.
    By(Lane),
    /// None: it stands before the main one and waits for its turn.
    Waits,
}

/// A table in a partition.
#[derive(Clone, Debug)]
pub struct Follow {
    /// The table.
    pub table: i32,
    /// Who serves it.
    pub served: Served,
    /// Where it stands.
    pub place: Place,
    /// The offset that the catalog has it go on with.
    pub stored: i64,
    /// Whether it stands elsewhere than the catalog says.
    pub is_moved: bool,
}

/// A partition and the tables that it feeds.
#[derive(Debug)]
pub struct Fed {
    /// The partition.
    pub partition: Partition,
    /// Where the main consumer stands; none where it does not read it.
    pub main: Option<Cursor>,
    /// Where the one for tables that are behind does.
    pub behind: Option<Cursor>,
    /// The tables.
    pub follows: Vec<Follow>,
    /// Where it ends, as last heard.
    pub end: Option<i64>,
    /// Whether what stands in it may be another log: nothing of it is taken until that is known.
    pub is_doubtful: bool,
}

impl Fed {
    /// Where a consumer stands in it.
    pub fn cursor(&mut self, lane: Lane) -> &mut Option<Cursor> {
        match lane {
            Lane::Main => &mut self.main,
            Lane::Behind => &mut self.behind,
        }
    }

    /// Has the tables that the second consumer serves follow the main one, which stands where they do or
    /// before; true if it was so.
    pub fn join(&mut self) -> bool {
        let (Some(main), Some(behind)) = (self.main, self.behind) else { return false };
        if behind.next < main.next {
            return false;
        }
        for follow in &mut self.follows {
            if follow.served == Served::By(Lane::Behind) {
                follow.served = Served::By(Lane::Main);
            }
        }
        self.behind = None;
        true
    }

    /// Takes note that a consumer has read everything before `offset`.
    pub fn read_to(&mut self, lane: Lane, offset: i64) {
        self.end = self.end.max(Some(offset));
        let Some(cursor) = self.cursor(lane) else { return };
        if cursor.next < offset {
            cursor.next = offset;
        }
        let next = cursor.next;
        for follow in &mut self.follows {
            if follow.served == Served::By(lane) && follow.place.next < next {
                follow.place.next = next;
                follow.is_moved = true;
            }
        }
    }
}

/// All partitions of a session.
#[derive(Debug, Default)]
pub struct Places {
    all: Vec<Fed>,
    index: HashMap<String, HashMap<i32, usize>>,
    /// Where the last record was found, which the next one is mostly from too.
    latest: usize,
}

impl Places {
    /// The partitions with the tables that they feed. Where tables of one partition stand at different
    /// places, those that are behind wait for their turn.
    pub fn new(tables: &BTreeMap<i32, BTreeMap<Partition, Place>>) -> Self {
        let mut fed: BTreeMap<&Partition, Vec<Follow>> = BTreeMap::new();
        for (table, places) in tables {
            for (partition, place) in places {
                fed.entry(partition).or_default().push(Follow {
                    table: *table,
                    served: Served::By(Lane::Main),
                    stored: place.next,
                    place: place.clone(),
                    is_moved: false,
                });
            }
        }
        let mut places = Self::default();
        for (partition, mut follows) in fed {
            let furthest = follows.iter().max_by_key(|follow| follow.place.next);
            let main = furthest.map(|f| Cursor { next: f.place.next, check: f.place.last });
            for follow in &mut follows {
                if main.is_some_and(|main| follow.place.next < main.next) {
                    follow.served = Served::Waits;
                }
            }
            let end = follows.iter().filter_map(|follow| follow.place.end).max();
            let partition = partition.clone();
            places
                .index
                .entry(partition.topic.clone())
                .or_default()
                .insert(partition.number, places.all.len());
            places.all.push(Fed {
                partition,
                main,
                behind: None,
                follows,
                end,
                is_doubtful: false,
            });
        }
        places
    }

    /// The place of a partition among all.
    pub fn find(&mut self, topic: &str, number: i32) -> Option<usize> {
        if let Some(fed) = self.all.get(self.latest)
            && fed.partition.number == number
            && fed.partition.topic == topic
        {
            return Some(self.latest);
        }
        let found = *self.index.get(topic)?.get(&number)?;
        self.latest = found;
        Some(found)
    }

    /// One of them.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut Fed> {
        self.all.get_mut(at)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Fed> {
        self.all.iter()
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Fed> {
        self.all.iter_mut()
    }

    /// Has a table wait for its turn; in the partition at `at` it goes on with `offset`.
    pub fn hold(&mut self, table: i32, at: usize, offset: i64) {
        for (place, fed) in self.all.iter_mut().enumerate() {
            for follow in fed.follows.iter_mut().filter(|follow| follow.table == table) {
                follow.served = Served::Waits;
                if place == at {
                    follow.place.next = offset;
                    follow.place.last = None;
                }
            }
            if !fed.follows.iter().any(|follow| follow.served == Served::By(Lane::Behind)) {
                fed.behind = None;
            }
        }
    }

    /// Whether it is yet to be seen of some partition that it is what it was.
    pub fn has_doubtful(&self) -> bool {
        self.all.iter().any(|fed| fed.is_doubtful)
    }

    /// Up to where a partition has been read for the tables that follow the main consumer.
    pub fn main_next(&self, partition: &Partition) -> Option<i64> {
        let at = *self.index.get(&partition.topic)?.get(&partition.number)?;
        Some(self.all.get(at)?.main?.next)
    }

    /// Up to where the records of each table have been taken in each partition.
    pub fn taken(&self) -> BTreeMap<(i32, Partition), i64> {
        let each = |fed: &Fed| -> Vec<((i32, Partition), i64)> {
            let follows = fed.follows.iter();
            follows.map(|f| ((f.table, fed.partition.clone()), f.place.next)).collect()
        };
        self.all.iter().flat_map(each).collect()
    }

    /// Whether every table that is fed stands where [`Self::taken`] said, or behind that.
    pub fn is_past(&self, taken: &BTreeMap<(i32, Partition), i64>) -> bool {
        taken.iter().all(|((table, partition), until)| {
            let mut mine = self.of_table(*table);
            mine.all(|(place, follow)| place != partition || follow.place.next >= *until)
        })
    }

    /// The partitions that feed a table, with where it stands.
    pub fn of_table(&self, table: i32) -> impl Iterator<Item = (&Partition, &Follow)> {
        self.all.iter().flat_map(move |fed| {
            let mine = fed.follows.iter().filter(move |follow| follow.table == table);
            mine.map(|follow| (&fed.partition, follow))
        })
    }

    /// Whether a table is served by the main consumer everywhere, and has come to where its load ends.
    pub fn is_caught_up(&self, table: i32) -> bool {
        self.of_table(table).all(|(_, follow)| {
            follow.served == Served::By(Lane::Main)
                && follow.place.loads_to.is_none_or(|end| follow.place.next >= end)
        })
    }

    /// Where tables stand elsewhere than the catalog says.
    pub fn moved(&self) -> Vec<Reached> {
        let mut moved = Vec::new();
        for fed in &self.all {
            for follow in fed.follows.iter().filter(|follow| follow.is_moved) {
                let place = Place { end: fed.end, ..follow.place.clone() };
                moved.push(Reached {
                    table: follow.table,
                    partition: fed.partition.clone(),
                    stored: follow.stored,
                    place,
                });
            }
        }
        moved
    }

    /// Takes note that the catalog has it all, but for tables that `is_left_out`.
    pub fn stored(&mut self, is_left_out: impl Fn(i32) -> bool) {
        for follow in self.all.iter_mut().flat_map(|fed| &mut fed.follows) {
            if follow.is_moved && !is_left_out(follow.table) {
                follow.is_moved = false;
                follow.stored = follow.place.next;
            }
        }
    }

    /// Whether any table stands elsewhere than the catalog says.
    pub fn has_moved(&self) -> bool {
        self.all.iter().any(|fed| fed.follows.iter().any(|follow| follow.is_moved))
    }

    /// Records between where the main consumer stands and where partitions end, as far as that is known.
    pub fn lag(&self) -> i64 {
        let behind = |fed: &Fed| Some((fed.end? - fed.main?.next).max(0));
        self.all.iter().filter_map(behind).sum()
    }

    /// The tables that wait for their turn.
    pub fn waiting(&self) -> impl Iterator<Item = i32> {
        let follows = self.all.iter().flat_map(|fed| &fed.follows);
        follows.filter(|follow| follow.served == Served::Waits).map(|follow| follow.table)
    }

    /// Whether the second consumer reads anything.
    pub fn has_behind(&self) -> bool {
        self.all.iter().any(|fed| fed.behind.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        Partition { topic: "t".to_owned(), number: 0 }
    }

    fn places(nexts: &[(i32, i64)]) -> Places {
        let place = |next: i64| BTreeMap::from([(partition(), Place { next, ..Place::default() })]);
        Places::new(&nexts.iter().map(|(table, next)| (*table, place(*next))).collect())
    }

    #[test]
    fn tables_behind_wait_and_then_join() {
        let mut places = places(&[(1, 10), (2, 4)]);
        assert_eq!(places.waiting().collect::<Vec<_>>(), [2]);
        assert!(places.is_caught_up(1) && !places.is_caught_up(2));
        let fed = places.get_mut(0).expect("the partition");
        fed.follows[1].served = Served::By(Lane::Behind);
        fed.behind = Some(Cursor { next: 4, check: None });
        assert!(!fed.join());
        fed.read_to(Lane::Behind, 10);
        assert!(fed.join() && fed.behind.is_none());
        assert_eq!(fed.follows[1].place.next, 10);
        assert!(places.is_caught_up(2));
        let moved = places.moved();
        assert_eq!((moved.len(), moved[0].table, moved[0].stored), (1, 2, 4));
        places.stored(|_| false);
        assert!(!places.has_moved());
    }

    #[test]
    fn what_is_left_out_stays_to_be_stored() {
        let mut places = places(&[(1, 10)]);
        places.get_mut(0).expect("the partition").read_to(Lane::Main, 12);
        places.stored(|table| table == 1);
        assert_eq!(places.moved()[0].place.next, 12);
    }

    #[test]
    fn a_table_behind_is_past_only_when_it_is() {
        let mut places = places(&[(1, 10), (2, 4)]);
        let fed = places.get_mut(0).expect("the partition");
        fed.follows[1].served = Served::By(Lane::Behind);
        fed.behind = Some(Cursor { next: 4, check: None });
        fed.read_to(Lane::Behind, 7);
        let taken = places.taken();
        assert!(places.is_past(&taken));
        let again = self::places(&[(1, 10), (2, 4)]);
        assert!(!again.is_past(&taken), "the table behind is to come to 7 again");
        assert!(self::places(&[(1, 12), (2, 7)]).is_past(&taken));
        assert!(self::places(&[(1, 10)]).is_past(&taken), "a table that is gone holds nobody up");
    }

    #[test]
    fn a_load_ends_where_the_partition_ended_when_it_began() {
        let mut places = places(&[(1, 10)]);
        let fed = places.get_mut(0).expect("the partition");
        fed.follows[0].place.loads_to = Some(20);
        fed.read_to(Lane::Main, 19);
        assert!(!places.is_caught_up(1));
        places.get_mut(0).expect("the partition").read_to(Lane::Main, 20);
        assert!(places.is_caught_up(1));
    }
}
