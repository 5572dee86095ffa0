//! Sizes as people write them.

/// Bytes, from `10m` and the like; each letter is another power of `unit`.
#[must_use]
pub fn size(text: &str, unit: u64) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let power = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return None,
    };
    digits.trim_end().parse::<u64>().ok()?.checked_mul(unit.pow(power))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn letters_are_powers() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(size(text, 1024), expected, "{text}");
        check("10G", Some(10 << 30));
        check("20m", Some(20 << 20));
        check("1 KiB", Some(1024));
        check("4096", Some(4096));
        for bad in ["", "g", "-1", "1x", "99999999999t", "1.5g"] {
            check(bad, None);
        }
        assert_eq!(size("1k", 1000), Some(1000));
    }
}
