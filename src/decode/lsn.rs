//! Log sequence numbers of a Postgres source.

use super::DecodeError;
use std::fmt;
use std::str::FromStr;

/// A byte position in a write-ahead log. Written `X/X` in hexadecimal, as `pg_lsn` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let (high, low) = text.split_once('/').ok_or(DecodeError::NotAnLsn)?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

/// One side of the slash: one to eight hexadecimal digits, as `pg_lsn` accepts them.
fn half(digits: &str) -> Result<u32, DecodeError> {
    let well_formed =
        (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !well_formed {
        return Err(DecodeError::NotAnLsn);
    }
    u32::from_str_radix(digits, 16).map_err(|_| DecodeError::NotAnLsn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_postgres_writes() {
        assert_eq!("16/B374D848".parse(), Ok(Lsn(0x16_B374_D848)));
        assert_eq!("0/0".parse(), Ok(Lsn(0)));
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
    }

    #[test]
    fn refuses_other_text() {
        for text in
            ["", "/", "1/", "/1", "0/+1", "0/123456789", "000000001/0", "g/0", "1", "1/2/3", " 1/2"]
        {
            assert_eq!(text.parse::<Lsn>(), Err(DecodeError::NotAnLsn), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_is_lossless(value: u64) {
            prop_assert_eq!(Lsn(value).to_string().parse(), Ok(Lsn(value)));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,20}") {
            let _ = text.parse::<Lsn>();
        }
    }
}
