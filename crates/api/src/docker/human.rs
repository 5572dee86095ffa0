//! Durations and sizes in Docker's words for people.

/// As `docker ps` says how long something has been so: `Less than a second`, `About an hour`, `3 weeks`.
#[must_use]
pub fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Docker rounds hours to the nearest and takes days, weeks, months and years from them.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (..=0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (.., ..=1) => "About an hour".to_owned(),
        (.., 2..48) => format!("{hours} hours"),
        (.., 48..336) => format!("{} days", hours / 24),
        (.., 336..1440) => format!("{} weeks", hours / 24 / 7),
        (.., 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// A number of bytes with three or four significant digits and decimal units: `5.61MB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    let mut divisor = 1_u128;
    let bytes = u128::from(bytes);
    while bytes >= divisor * 1000 && unit + 1 < UNITS.len() {
        divisor *= 1000;
        unit += 1;
    }
    let whole = bytes / divisor;
    let digits = match whole {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    let scale = 10_u128.pow(digits);
    let rounded = (bytes * scale + divisor / 2) / divisor;
    let (whole, fraction) = (rounded / scale, rounded % scale);
    if fraction == 0 {
        return format!("{whole}{}", UNITS[unit]);
    }
    let fraction = format!("{fraction:0width$}", width = digits as usize);
    format!("{whole}.{}{}", fraction.trim_end_matches('0'), UNITS[unit])
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations() {
        let check = |seconds: i64, expected: &str| assert_eq!(super::duration(seconds), expected, "{seconds}");
        check(0, "Less than a second");
        check(1, "1 second");
        check(59, "59 seconds");
        check(60, "About a minute");
        check(119, "About a minute");
        check(120, "2 minutes");
        check(3599, "59 minutes");
        check(3600, "About an hour");
        check(2 * 3600, "2 hours");
        check(47 * 3600, "47 hours");
        check(48 * 3600, "2 days");
        check(14 * 86400, "2 weeks");
        check(60 * 86400, "2 months");
        check(730 * 86400, "2 years");
        check(-5, "Less than a second");
    }

    #[test]
    fn sizes() {
        let check = |bytes: u64, expected: &str| assert_eq!(super::size(bytes), expected, "{bytes}");
        check(0, "0B");
        check(999, "999B");
        check(1000, "1kB");
        check(1234, "1.23kB");
        check(5_610_000, "5.61MB");
        check(72_800_000, "72.8MB");
        check(124_400_000, "124MB");
        check(u64::MAX, "18447PB");
    }
}
