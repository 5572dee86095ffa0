//! Times as the API writes and reads them: RFC 3339 with up to nine digits, and Unix seconds with a fraction.

use atoll_model::Timestamp;

/// What stands for "never".
const ZERO: &str = "0001-01-01T00:00:00Z";
/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time: give Unix seconds, or a time as 2026-01-31T12:00:00Z")]
pub struct InvalidTime(pub String);

/// As Go's `RFC3339Nano`: no trailing zeros in the fraction.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    if at.is_set() { moment(at).to_string() } else { ZERO.to_owned() }
}

/// With nine digits always, as log lines have them.
#[must_use]
pub fn fixed_rfc3339(at: Timestamp) -> String {
    const PRINTER: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(9));
    PRINTER.timestamp_to_string(&moment(at))
}

/// A time in the API's answers; "never" and what does not parse are [`Timestamp::NEVER`].
#[must_use]
pub fn parse_rfc3339(text: &str) -> Timestamp {
    if text.is_empty() || text == ZERO {
        return Timestamp::NEVER;
    }
    text.parse::<jiff::Timestamp>().ok().and_then(nanoseconds).unwrap_or(Timestamp::NEVER)
}

/// A time in a query: Unix seconds with a fraction, or RFC 3339. Empty and zero are none.
///
/// # Errors
/// [`InvalidTime`] with the text.
pub fn parse_time(text: &str) -> Result<Option<Timestamp>, InvalidTime> {
    let invalid = || InvalidTime(text.to_owned());
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return nanoseconds(moment).map(Some).ok_or_else(invalid);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|_| invalid())?;
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
    let total = seconds.checked_mul(NANOS).and_then(|all| all.checked_add(nanos)).ok_or_else(invalid)?;
    Ok(Some(Timestamp(total)))
}

/// A time in a filter: as [`parse_time`] has it, or so long before `now`, as Go writes durations (`1h30m`, `1.5s`).
///
/// # Errors
/// [`InvalidTime`] with the text.
pub fn parse_past(text: &str, now: Timestamp) -> Result<Timestamp, InvalidTime> {
    let before = duration(text).and_then(|length| now.0.checked_sub(length)).map(Timestamp);
    let moment = before.map_or_else(|| parse_time(text), |moment| Ok(Some(moment)))?;
    moment.ok_or_else(|| InvalidTime(text.to_owned()))
}

/// Nanoseconds in a duration of Go: numbers with units, without blanks.
fn duration(text: &str) -> Option<i64> {
    /// Longer units first: `ms` is not `m` and a rest.
    const UNITS: [(&str, i64); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", NANOS),
        ("m", 60 * NANOS),
        ("h", 3600 * NANOS),
    ];
    let mut rest = text;
    let mut total = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|at| *at > 0)?;
        let (number, after) = rest.split_at(digits);
        let (unit, nanos) = UNITS.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let scaled = |digits: &str, one: i64| match digits {
            "" => Some(0),
            digits => digits.parse::<i64>().ok()?.checked_mul(one),
        };
        // Nine digits of a fraction are all that nanoseconds have, of any unit.
        let fraction = &fraction[..fraction.len().min(9)];
        let tens = 10_i64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = i128::from(scaled(fraction, 1)?) * i128::from(nanos) / i128::from(tens);
        total = total.checked_add(scaled(whole, nanos)?)?.checked_add(i64::try_from(part).ok()?)?;
        rest = &after[unit.len()..];
    }
    (!text.is_empty()).then_some(total)
}

fn moment(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).expect("64 bits of nanoseconds are the years 1677 to 2262")
}

fn nanoseconds(moment: jiff::Timestamp) -> Option<Timestamp> {
    i64::try_from(moment.as_nanosecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        let check = |nanos: i64, expected: &str| assert_eq!(rfc3339(Timestamp(nanos)), expected);
        check(0, "0001-01-01T00:00:00Z");
        check(1_700_000_000_000_000_000, "2023-11-14T22:13:20Z");
        check(1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z");
        check(1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z");
        check(i64::MAX, "2262-04-11T23:47:16.854775807Z");
        assert_eq!(fixed_rfc3339(Timestamp(1_700_000_000_120_000_000)), "2023-11-14T22:13:20.120000000Z");
    }

    #[test]
    fn filters_say_how_long_ago() {
        let now = Timestamp(1_700_000_000_000_000_000);
        let check = |text: &str, before: i64| {
            assert_eq!(parse_past(text, now), Ok(Timestamp(now.0 - before)), "{text}");
        };
        check("24h", 86_400 * NANOS);
        check("1h30m5s", 5405 * NANOS);
        check("500ms500ms", NANOS);
        check("1.5s", 1_500_000_000);
        check("2ms3us4µs5ns", 2_007_005);
        check("0.25h", 900 * NANOS);
        check("1600000000", 100_000_000 * NANOS);
        for bad in ["", "h", "1x", "1h 2m", "1h-5m", ".", "1.2.3s", "99999999999999h", "-5s", "0"] {
            assert!(parse_past(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_in_both_forms() {
        let check =
            |text: &str, expected: Option<i64>| assert_eq!(parse_time(text), Ok(expected.map(Timestamp)), "{text}");
        check("", None);
        check("0", None);
        check("1700000000", Some(1_700_000_000_000_000_000));
        check("1700000000.000000001", Some(1_700_000_000_000_000_001));
        check("1700000000.12", Some(1_700_000_000_120_000_000));
        check("2023-11-14T22:13:20Z", Some(1_700_000_000_000_000_000));
        for bad in ["yesterday", "1.2.3", "1.0000000001", "99999999999999999999", "-", "1e9"] {
            assert_eq!(parse_time(bad), Err(InvalidTime(bad.to_owned())));
        }
        assert_eq!(parse_rfc3339("0001-01-01T00:00:00Z"), Timestamp::NEVER);
        assert_eq!(parse_rfc3339("2023-11-14T22:13:20.12Z"), Timestamp(1_700_000_000_120_000_000));
    }
}
