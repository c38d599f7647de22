//! Dead letters that are tried again as they came.

use super::Session;
use crate::apply::applier::Care;
use crate::catalog::dead_letter::{self, Again, Key};
use crate::decode::kafka::Record;
use crate::error::Result;
use crate::pg::xact;

impl Session<'_> {
    /// Applies the records of letters again that somebody wants tried, with all that came behind them for
    /// their keys. Those that can't be applied still become letters anew. Nothing may be pending.
    pub(super) fn retry_letters(&mut self, table: i32) -> Result<()> {
        let letters = xact::with_catalog(|| dead_letter::again(table))?;
        if letters.is_empty() {
            return Ok(());
        }
        self.applier.set_care(Care::Guarded);
        let (unread, read): (Vec<&Again>, Vec<&Again>) =
            letters.iter().partition(|letter| letter.key.is_empty());
        let keys: Vec<Key> = read.iter().map(|letter| letter.key.clone()).collect();
        let unread: Vec<i64> = unread.iter().map(|letter| letter.id).collect();
        self.applier.within(|applier| {
            applier.unpark(table, &keys);
            dead_letter::remove(unread)
        })?;
        for letter in &letters {
            let raw = &letter.record;
            let headers = headers(raw.headers.as_ref());
            let record = Record {
                topic: &raw.partition.topic,
                partition: raw.partition.number,
                offset: raw.offset,
                timestamp: raw.written_ms,
                key: raw.key.as_deref(),
                value: raw.value.as_deref(),
                headers: headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_deref()))
                    .collect(),
            };
            self.intake.feed_again(table, &record, &mut self.applier)?;
        }
        self.commit()?;
        self.applier.set_care(self.care);
        Ok(())
    }
}

/// Headers as they are kept: names with what each holds in hexadecimal.
fn headers(kept: Option<&serde_json::Value>) -> Vec<(String, Option<Vec<u8>>)> {
    let bytes = |hex: &str| -> Option<Vec<u8>> {
        let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
        pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
    };
    let all = kept.and_then(serde_json::Value::as_array).into_iter().flatten();
    all.filter_map(|header| {
        let name = header.get(0)?.as_str()?.to_owned();
        Some((name, header.get(1)?.as_str().and_then(bytes)))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        let kept = serde_json::json!([["a", "00ff"], ["b", null], ["c", ""]]);
        let found = headers(Some(&kept));
        assert_eq!(found[0], ("a".to_owned(), Some(vec![0, 255])));
        assert_eq!(found[1], ("b".to_owned(), None));
        assert_eq!(found[2], ("c".to_owned(), Some(Vec::new())));
        assert_eq!(headers(None), []);
    }
}
