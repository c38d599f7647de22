//! Numbers, bytes and bits as text that Postgres' input functions take.

use super::error::Wrong;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The most digits that `numeric` holds behind the point.
const MOST_SCALE: i32 = 16_383;
/// The most zeros that a negative scale may stand for, as in the type `numeric(p,s)`.
const LEAST_SCALE: i32 = -1_000;
/// As many bytes hold a number of all digits of `numeric`: 131,072 before the point, 16,383 behind.
const MOST_BYTES: usize = 61_300;

/// The most bits that are added to those that an event holds.
const MOST_PADDING: usize = 65_536;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// Base64 as Connect's JSON converter writes it.
pub const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
/// Base64 with the alphabet safe in URLs.
pub const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

const NUMBER: Wrong = Wrong("a number");
const WHOLE: Wrong = Wrong("a whole number");

/// Decodes base64.
pub fn base64(text: &str, engine: &GeneralPurpose) -> Result<Vec<u8>, Wrong> {
    engine.decode(text).map_err(|_| Wrong("bytes in base64"))
}

/// Appends `bytes` as hexadecimal digits.
pub fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Appends `bytes` as `bytea` text.
pub fn bytea(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"\\x");
    hex(out, bytes);
}

/// Reads hexadecimal digits, with or without a leading `\x`.
pub fn unhex(text: &str) -> Result<Vec<u8>, Wrong> {
    const HEX: Wrong = Wrong("bytes in hexadecimal digits");
    let digits = text.strip_prefix("\\x").unwrap_or(text).as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(HEX);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs
        .iter()
        .map(|[high, low]| {
            u8::try_from(digit(*high).ok_or(HEX)? * 16 + digit(*low).ok_or(HEX)?).map_err(|_| HEX)
        })
        .collect()
}

/// Appends a decimal number: `unscaled` in two's complement, big endian, times 10^-`scale`.
pub fn decimal(out: &mut Vec<u8>, unscaled: &[u8], scale: i32) -> Result<(), Wrong> {
    const RANGE: Wrong = Wrong("a number that numeric can hold");
    if unscaled.len() > MOST_BYTES || !(LEAST_SCALE..=MOST_SCALE).contains(&scale) {
        return Err(RANGE);
    }
    let negative = unscaled.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut digits = if unscaled.len() <= 16 {
        let mut bytes = [if negative { 0xFF } else { 0 }; 16];
        bytes[16 - unscaled.len()..].copy_from_slice(unscaled);
        i128::from_be_bytes(bytes).unsigned_abs().to_string()
    } else {
        long_digits(unscaled, negative)
    };
    let zero = digits == "0";
    if scale < 0 && !zero {
        digits.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
    }
    if negative {
        out.push(b'-');
    }
    let behind = usize::try_from(scale).unwrap_or(0);
    let whole = digits.len().saturating_sub(behind);
    out.extend_from_slice(if whole == 0 { b"0" } else { &digits.as_bytes()[..whole] });
    if behind > 0 {
        out.push(b'.');
        out.extend(std::iter::repeat_n(b'0', behind.saturating_sub(digits.len())));
        out.extend_from_slice(&digits.as_bytes()[whole..]);
    }
    Ok(())
}

/// The decimal digits of a number of more than 16 bytes, without its sign.
fn long_digits(bytes: &[u8], negative: bool) -> String {
    const CHUNK: u128 = 1_000_000_000_000_000_000;
    // Limbs of 64 bits, the most significant first.
    let mut limbs: Vec<u64> = bytes
        .rchunks(8)
        .rev()
        .map(|chunk| {
            let fill = if negative && chunk.len() < 8 { u64::MAX } else { 0 };
            chunk.iter().fold(fill, |limb, byte| (limb << 8) | u64::from(*byte))
        })
        .collect();
    if negative {
        let mut carry = true;
        for limb in limbs.iter_mut().rev() {
            (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
        }
    }
    let mut chunks = Vec::new();
    let mut start = 0;
    while start < limbs.len() {
        let mut rest = 0_u128;
        for limb in &mut limbs[start..] {
            let value = (rest << 64) | u128::from(*limb);
            *limb = (value / CHUNK) as u64;
            rest = value % CHUNK;
        }
        chunks.push(rest);
        start += limbs[start..].iter().take_while(|limb| **limb == 0).count();
    }
    let mut digits = chunks.pop().unwrap_or(0).to_string();
    for chunk in chunks.iter().rev() {
        digits.push_str(&format!("{chunk:018}"));
    }
    digits
}

/// Appends a whole number that is written as `text`; a fraction of zeros is dropped.
pub fn whole(out: &mut Vec<u8>, text: &str) -> Result<(), Wrong> {
    let (digits, fraction) = text.split_once('.').unwrap_or((text, ""));
    let unsigned = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    if unsigned.is_empty()
        || !unsigned.bytes().all(|byte| byte.is_ascii_digit())
        || !fraction.bytes().all(|byte| byte == b'0')
    {
        return exponent(out, text);
    }
    out.extend_from_slice(digits.as_bytes());
    Ok(())
}

/// Appends a whole number written with an exponent, such as `3.7091106E13`.
fn exponent(out: &mut Vec<u8>, text: &str) -> Result<(), Wrong> {
    let (mantissa, power) = text.split_once(['e', 'E']).ok_or(WHOLE)?;
    let power: usize = power.parse().map_err(|_| WHOLE)?;
    let (digits, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    let fraction = fraction.trim_end_matches('0');
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if unsigned.is_empty()
        || !all_digits(unsigned)
        || !all_digits(fraction)
        || power < fraction.len()
        || power > 20
    {
        return Err(WHOLE);
    }
    out.extend_from_slice(digits.as_bytes());
    out.extend_from_slice(fraction.as_bytes());
    out.extend(std::iter::repeat_n(b'0', power - fraction.len()));
    Ok(())
}

/// Appends a number that is written as `text`, or one of the names of what is no number.
pub fn digits_or_name(out: &mut Vec<u8>, text: &str) -> Result<(), Wrong> {
    let name = match text {
        "NaN" | "NAN" | "nan" => "NaN",
        "Infinity" | "INFINITY" | "POSITIVE_INFINITY" | "+Infinity" => "Infinity",
        "-Infinity" | "-INFINITY" | "NEGATIVE_INFINITY" => "-Infinity",
        _ if is_number(text) => text,
        _ => return Err(NUMBER),
    };
    out.extend_from_slice(name.as_bytes());
    Ok(())
}

/// Whether text is a decimal number, perhaps with an exponent.
pub fn is_number(text: &str) -> bool {
    let bytes = text.strip_prefix(['-', '+']).unwrap_or(text).as_bytes();
    bytes.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.')
        && bytes.iter().any(u8::is_ascii_digit)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'))
}

/// Appends an integer.
pub fn integer(out: &mut Vec<u8>, mut value: i64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let negative = value < 0;
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10).unsigned_abs() as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    if negative {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a floating-point number with as many digits as tell it from its neighbours. A single
/// keeps its own digits, so that 0.1 stays 0.1 in a column of higher precision.
pub fn float(out: &mut Vec<u8>, value: f64, shortest: &str) {
    let text = if value.is_nan() {
        "NaN"
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }
    } else {
        shortest
    };
    out.extend_from_slice(text.as_bytes());
}

/// Appends bits as `0` and `1`, the most significant first. Of `bytes` the first is the least
/// significant. Without a length the leading zeros are lost, since the event does not tell them.
pub fn bits(out: &mut Vec<u8>, bytes: &[u8], length: Option<u32>) -> Result<(), Wrong> {
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
    let used = (0..bytes.len() * 8).rev().find(|at| bit(*at)).map_or(0, |highest| highest + 1);
    // A length that comes with an event must not alone decide how much is written.
    let most = (bytes.len() * 8).saturating_add(MOST_PADDING);
    let length = match length {
        Some(length) if length as usize >= used && length as usize <= most => length as usize,
        Some(_) => return Err(Wrong("no more bits than the type has")),
        None => used,
    };
    out.extend((0..length).rev().map(|at| if bit(at) { b'1' } else { b'0' }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>) -> Result<(), Wrong>) -> Result<String, Wrong> {
        let mut out = Vec::new();
        write(&mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn decimals() {
        let of = |bytes: &[u8], scale| text(|out| decimal(out, bytes, scale)).unwrap();
        assert_eq!(of(&base64("AeJA", &BASE64).unwrap(), 2), "1234.56");
        assert_eq!(of(&[0xFF], 2), "-0.01");
        assert_eq!(of(&[0], 3), "0.000");
        assert_eq!(of(&[], 0), "0");
        assert_eq!(of(&[5], -3), "5000");
        assert_eq!(of(&[0], -3), "0");
        assert_eq!(of(&[0x80], 0), "-128");
        let mut big = [0; 17];
        big[0] = 1;
        assert_eq!(of(&big, 0), "340282366920938463463374607431768211456");
        big[0] = 0xFF;
        assert_eq!(of(&big, 1), "-34028236692093846346337460743176821145.6");
        assert!(text(|out| decimal(out, &[1; 70_000], 0)).is_err());
        for scale in [i32::MIN, -1_001, 16_384, i32::MAX] {
            assert!(text(|out| decimal(out, &[1], scale)).is_err());
        }
    }

    #[test]
    fn whole_numbers() {
        let of = |number| text(|out| whole(out, number));
        assert_eq!(of("9007199254740993").unwrap(), "9007199254740993");
        assert_eq!(of("-7.00").unwrap(), "-7");
        assert_eq!(of("3.7091106E13").unwrap(), "37091106000000");
        for bad in ["7.5", "", "-", "x", "1e99", "1e-1", "1.55e1", "."] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bits_are_little_endian() {
        let of = |bytes: &[u8], length| text(|out| bits(out, bytes, length));
        assert_eq!(of(&[0b101], Some(5)).unwrap(), "00101");
        assert_eq!(of(&[1, 2], Some(10)).unwrap(), "1000000001");
        assert_eq!(of(&[5, 0], None).unwrap(), "101");
        assert!(of(&[0xFF], Some(7)).is_err());
        assert!(of(&[1], Some(u32::MAX)).is_err());
    }

    #[test]
    fn names_of_no_numbers() {
        assert_eq!(text(|out| digits_or_name(out, "NAN")).unwrap(), "NaN");
        assert_eq!(text(|out| digits_or_name(out, "-Infinity")).unwrap(), "-Infinity");
        assert!(text(|out| digits_or_name(out, "ten")).is_err());
        assert_eq!(unhex("\\xdeAD").unwrap(), [0xDE, 0xAD]);
        assert!(unhex("abc").is_err());
    }

    proptest! {
        #[test]
        fn integers_print_as_they_are(value: i64) {
            prop_assert_eq!(text(|out| { integer(out, value); Ok(()) }).unwrap(), value.to_string());
        }

        #[test]
        fn long_numbers_agree_with_short_ones(value: i128, scale in -5..40) {
            let short = text(|out| decimal(out, &value.to_be_bytes(), scale)).unwrap();
            let mut longer = vec![if value < 0 { 0xFF } else { 0 }; 13];
            longer.extend_from_slice(&value.to_be_bytes());
            prop_assert_eq!(text(|out| decimal(out, &longer, scale)).unwrap(), short);
        }
    }
}
