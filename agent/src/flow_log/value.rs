//! A field's value in a row, and its text.
//!
//! The text never holds a blank, so a line has as many words as its format has fields.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};

/// What stands for no value in text, and in a Parquet column of text.
const ABSENT: u8 = b'-';

/// What a row has in one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// It does not apply or is not known.
    Absent,
    /// A number.
    Int(i64),
    /// A name or id.
    Text(&'a str),
    /// An address.
    Address(IpAddr),
    /// What a user wrote into a tag; its text is percent-encoded.
    Tag(&'a str),
}

impl<'a> Value<'a> {
    /// `Absent` for no text and for empty text.
    #[must_use]
    pub fn text(text: Option<&'a str>) -> Self {
        text.filter(|text| !text.is_empty())
            .map_or(Self::Absent, Self::Text)
    }

    /// As [`Value::text`], of a tag.
    #[must_use]
    pub fn tag(text: Option<&'a str>) -> Self {
        text.filter(|text| !text.is_empty())
            .map_or(Self::Absent, Self::Tag)
    }

    /// A count; more than a signed number holds is the largest that it holds.
    #[must_use]
    pub fn count(count: u64) -> Self {
        Self::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Writes the text to the end of `out`: addresses as RFC 5952 has them, `-` if there is none.
    pub fn append_to(self, out: &mut Vec<u8>) {
        match self {
            Self::Absent => out.push(ABSENT),
            Self::Int(number) => {
                if number < 0 {
                    out.push(b'-');
                }
                append_number(number.unsigned_abs(), out);
            }
            Self::Text(text) => append_encoded(text, |byte| byte > b' ' && byte != 0x7f, out),
            Self::Address(IpAddr::V4(address)) => append_ipv4(address, out),
            // Memory takes all that is written to it.
            Self::Address(IpAddr::V6(address)) => drop(write!(out, "{address}")),
            Self::Tag(text) => append_encoded(text, is_unreserved, out),
        }
    }
}

/// Unreserved characters of RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Writes `text` with every byte that is not `plain` as `%XX` (RFC 3986 section 2.1).
fn append_encoded(text: &str, plain: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if text.bytes().all(&plain) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for byte in text.bytes() {
        if plain(byte) {
            out.push(byte);
        } else {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            out.extend_from_slice(&[b'%', DIGITS[high], DIGITS[low]]);
        }
    }
}

/// Ten times as fast as `write!`, which half the time of a line would go to.
fn append_number(mut number: u64, out: &mut Vec<u8>) {
    if let Ok(byte) = u8::try_from(number) {
        return append_octet(byte, out);
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn append_ipv4(address: Ipv4Addr, out: &mut Vec<u8>) {
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        append_octet(octet, out);
    }
}

/// Each number of a byte in decimal, behind how many digits it has.
const OCTETS: [[u8; 4]; 256] = {
    let mut octets = [[0; 4]; 256];
    let mut number = 0;
    while number < octets.len() {
        let [hundreds, tens, ones] = [number / 100, number / 10 % 10, number % 10];
        let [hundreds, tens, ones] = [b'0' + hundreds as u8, b'0' + tens as u8, b'0' + ones as u8];
        octets[number] = match number {
            0..10 => [1, ones, 0, 0],
            10..100 => [2, tens, ones, 0],
            _ => [3, hundreds, tens, ones],
        };
        number += 1;
    }
    octets
};

fn append_octet(octet: u8, out: &mut Vec<u8>) {
    let [digits, text @ ..] = OCTETS[usize::from(octet)];
    let end = out.len() + usize::from(digits);
    // All three, and what is too much is taken off: faster than a copy of unknown length.
    out.extend_from_slice(&text);
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn text(value: Value<'_>) -> String {
        let mut out = b"before ".to_vec();
        value.append_to(&mut out);
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("before ").unwrap().to_owned()
    }

    #[test]
    fn no_text_has_a_blank_or_is_empty() {
        for (value, expected) in [
            (Value::Absent, "-"),
            (Value::text(None), "-"),
            (Value::text(Some("")), "-"),
            (Value::tag(Some("")), "-"),
            (
                Value::text(Some("arn:aws:ecs:eu-west-1:1:task/a")),
                "arn:aws:ecs:eu-west-1:1:task/a",
            ),
            (Value::text(Some("two words\n")), "two%20words%0A"),
            (
                Value::tag(Some("Zoë & co/1~2.3_4-5%")),
                "Zo%C3%AB%20%26%20co%2F1~2.3_4-5%25",
            ),
            (Value::count(u64::MAX), "9223372036854775807"),
        ] {
            assert_eq!(text(value), expected, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_and_addresses_are_as_the_standard_library_prints_them(
            number: i64, v4: u32, v6: u128, shift in 0..64u32,
        ) {
            prop_assert_eq!(text(Value::Int(number >> shift)), (number >> shift).to_string());
            let v4 = Ipv4Addr::from(v4);
            prop_assert_eq!(text(Value::Address(v4.into())), v4.to_string());
            let v6 = std::net::Ipv6Addr::from(v6 >> shift);
            prop_assert_eq!(text(Value::Address(v6.into())), v6.to_string());
        }

        #[test]
        fn a_tag_decodes_to_what_was_written(tag in ".+") {
            let encoded = text(Value::Tag(&tag));
            prop_assert!(encoded.bytes().all(|byte| is_unreserved(byte) || byte == b'%'));
            let mut decoded = Vec::new();
            let mut rest = encoded.as_bytes();
            while let Some((first, tail)) = rest.split_first() {
                if *first == b'%' {
                    let (digits, tail) = tail.split_at(2);
                    let digits = std::str::from_utf8(digits).unwrap();
                    prop_assert_eq!(digits.to_uppercase(), digits);
                    decoded.push(u8::from_str_radix(digits, 16).unwrap());
                    rest = tail;
                } else {
                    decoded.push(*first);
                    rest = tail;
                }
            }
            prop_assert_eq!(decoded, tag.as_bytes());
        }
    }
}
