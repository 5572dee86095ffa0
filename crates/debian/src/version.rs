//! Debian version numbers and their order (Debian Policy section 5.6.12, deb-version(7)).
//!
//! A version is `[epoch:]upstream[-revision]`; parts compare in turns of a non-digit run and a number, where `~` sorts before
//! everything, the end included, and letters before other characters. Pure functions over strings; nothing is normalised.

use std::cmp::Ordering;

/// Compares two versions by the algorithm of Debian Policy.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (split(left), split(right));
    compare_numbers(left.0, right.0)
        .then_with(|| compare_part(left.1, right.1))
        .then_with(|| compare_part(left.2, right.2))
}

/// Epoch, upstream version and Debian revision.
fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    (epoch, upstream, revision)
}

/// Compares two runs of digits of any length as numbers.
fn compare_numbers(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

/// The rank of a character in a non-digit run; the end of the run ranks 0.
fn rank(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

fn compare_part(mut left: &str, mut right: &str) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = left.split_at(left.find(|c: char| c.is_ascii_digit()).unwrap_or(left.len()));
        let (right_text, right_rest) = right.split_at(right.find(|c: char| c.is_ascii_digit()).unwrap_or(right.len()));
        let (a, b) = (left_text.as_bytes(), right_text.as_bytes());
        for at in 0..a.len().max(b.len()) {
            let order = rank(a.get(at)).cmp(&rank(b.get(at)));
            if order != Ordering::Equal {
                return order;
            }
        }
        let (left_number, next_left) =
            left_rest.split_at(left_rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(left_rest.len()));
        let (right_number, next_right) =
            right_rest.split_at(right_rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(right_rest.len()));
        let order = compare_numbers(left_number, right_number);
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (next_left, next_right);
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_versions() {
        fn check(left: &str, expected: Ordering, right: &str) {
            assert_eq!(compare(left, right), expected, "{left} {right}");
            assert_eq!(compare(right, left), expected.reverse(), "{right} {left}");
        }
        use Ordering::{Equal, Less};
        check("1", Equal, "1");
        check("1", Less, "2");
        check("9", Less, "10");
        check("1.0", Equal, "1.0");
        check("1.0", Less, "1.0.0");
        check("1.0-1", Less, "1.0-2");
        check("1.0", Equal, "1.0-0");
        check("0:1.0", Equal, "1.0");
        check("9.9", Less, "1:0.1");
        check("1.0~rc1", Less, "1.0");
        check("1.0~rc1", Less, "1.0~rc2");
        check("1.0~~", Less, "1.0~");
        check("1.0~~a", Less, "1.0~");
        check("1.0", Less, "1.0a");
        check("1.0a", Less, "1.0b");
        check("1.0a", Less, "1.0+");
        check("1.0", Less, "1.0+b1");
        check("1:1.35.0-4+deb12u1", Less, "1:1.35.0-4+deb12u1+b1");
        check("2.36-9+deb12u9", Less, "2.36-9+deb12u14");
        check("1.002", Equal, "1.2");
        check("12345678901234567890123", Less, "12345678901234567890124");
        check("1.0-1-2", Less, "1.0-2-1");
        check("1.2.3-1~bpo12+1", Less, "1.2.3-1");
        check("", Less, "1");
        check("a", Less, "a1");
        check("3.0~alpha~2", Less, "3.0~alpha");
    }
}
