//! Which transactions a query at the source could see.

use std::str::FromStr;
use thiserror::Error;

/// The answer of `txid_current_snapshot()`: 64-bit transaction ids, subtransactions left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// All transactions before this one had ended.
    xmin: u64,
    /// This one and all later ones had not.
    xmax: u64,
    /// Those between that had not, in order.
    running: Vec<u64>,
}

/// Text that is not of the form `xmin:xmax:xip,xip,…`.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a transaction snapshot")]
pub struct NotASnapshot;

impl Snapshot {
    /// Whether what the top-level transaction `xid` wrote is visible to the snapshot, provided that
    /// it committed. `xid` must lie within 2³¹ of the snapshot, as all that a server streams do.
    pub fn sees(&self, xid: u32) -> bool {
        let xid = self.extend(xid);
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// Whether it sees every transaction up to and including `xid`.
    pub fn sees_all_up_to(&self, xid: u32) -> bool {
        self.extend(xid) < self.xmin
    }

    /// The 64-bit transaction id nearest to the snapshot that ends in these 32 bits.
    fn extend(&self, xid: u32) -> u64 {
        let ahead = xid.wrapping_sub(self.xmax as u32).cast_signed();
        self.xmax.saturating_add_signed(ahead.into())
    }
}

impl FromStr for Snapshot {
    type Err = NotASnapshot;

    fn from_str(text: &str) -> Result<Self, NotASnapshot> {
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or(NotASnapshot);
        let (xmin, xmax, list) = (number(part()?)?, number(part()?)?, part()?);
        let running = match list {
            "" => Vec::new(),
            list => list.split(',').map(number).collect::<Result<_, _>>()?,
        };
        let sound = parts.next().is_none()
            && (1..=xmax).contains(&xmin)
            && running.iter().all(|xid| (xmin..xmax).contains(xid))
            && running.is_sorted();
        if sound { Ok(Self { xmin, xmax, running }) } else { Err(NotASnapshot) }
    }
}

fn number(text: &str) -> Result<u64, NotASnapshot> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotASnapshot);
    }
    text.parse().map_err(|_| NotASnapshot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn ended_transactions_are_seen() {
        let snapshot = snapshot("10:20:10,14,15");
        for (xid, seen) in
            [(9, true), (10, false), (11, true), (14, false), (19, true), (20, false), (21, false)]
        {
            assert_eq!(snapshot.sees(xid), seen, "{xid}");
        }
        assert!(snapshot.sees_all_up_to(9));
        assert!(!snapshot.sees_all_up_to(10));
    }

    #[test]
    fn ids_wrap_around() {
        let ahead = snapshot("4294967290:4294967306:4294967295,4294967299");
        for (xid, seen) in [
            (4_294_967_289, true),
            (4_294_967_294, true),
            (4_294_967_295, false),
            (3, false),
            (4, true),
            (9, true),
            (10, false),
            (2_000_000_000, false),
            (2_200_000_000, true),
        ] {
            assert_eq!(ahead.sees(xid), seen, "{xid}");
        }
        assert!(snapshot("5:5:").sees(4));
        assert!(!snapshot("5:5:").sees(5));
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "5",
            "5:6",
            "5:6:7",
            "6:5:",
            "0:5:",
            "5:9:4",
            "5:9:7,6",
            "5:9:7,",
            "5:9:,",
            "5:9::",
            "+5:9:",
            " 5:9:",
            "5:9:x",
            "18446744073709551616:18446744073709551617:",
        ] {
            assert_eq!(text.parse::<Snapshot>(), Err(NotASnapshot), "{text}");
        }
    }

    /// A snapshot anywhere in the 64-bit range, and the ids around it.
    fn around() -> impl Strategy<Value = (Snapshot, Vec<u64>)> {
        let base = prop_oneof![
            Just(1_000_u64 << 32),
            (1_u64..8).prop_map(|epoch| (epoch << 32) - 50),
            (1_u64 << 31)..(1 << 40),
        ];
        (base, proptest::collection::btree_set(0_u64..100, 0..10), 0_u64..50).prop_map(
            |(base, running, spare)| {
                let running: Vec<u64> = running.iter().map(|offset| base + offset).collect();
                let xmax = running.last().map_or(base, |last| last + 1) + spare;
                let xmin = running.first().copied().unwrap_or(xmax);
                let ids = (base - 100..xmax + 100)
                    .chain([xmax - (1 << 31), xmax + (1 << 31) - 1])
                    .collect();
                (Snapshot { xmin, xmax, running }, ids)
            },
        )
    }

    proptest! {
        #[test]
        fn thirty_two_bits_are_enough((snapshot, ids) in around()) {
            for id in ids {
                let seen = id < snapshot.xmin
                    || (id < snapshot.xmax && !snapshot.running.contains(&id));
                prop_assert_eq!(snapshot.sees(id as u32), seen, "{}", id);
                prop_assert_eq!(snapshot.sees_all_up_to(id as u32), id < snapshot.xmin);
            }
        }

        #[test]
        fn text_is_lossless((snapshot, _) in around()) {
            let running: Vec<String> = snapshot.running.iter().map(u64::to_string).collect();
            let text = format!("{}:{}:{}", snapshot.xmin, snapshot.xmax, running.join(","));
            prop_assert_eq!(text.parse(), Ok(snapshot));
        }

        #[test]
        fn any_text_is_answered(text in "[0-9:,x]{0,30}", xid: u32) {
            if let Ok(snapshot) = text.parse::<Snapshot>() {
                let _ = snapshot.sees(xid);
            }
        }
    }
}
