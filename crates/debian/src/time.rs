//! Dates of Release files (RFC 5322 with `UTC`) and of image configurations (RFC 3339), as whole seconds since 1970.
//!
//! Both directions are plain arithmetic on the proleptic Gregorian calendar. Left out: time zones other than UTC, leap seconds.

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Parses `Sat, 11 Jul 2026 10:16:37 UTC` to seconds since 1970; `None` if it is anything else.
pub fn parse_release_date(text: &str) -> Option<i64> {
    let mut words = text.split_ascii_whitespace().peekable();
    words.next_if(|word| word.ends_with(','));
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let zone = matches!(words.next()?, "UTC" | "GMT" | "Z" | "+0000");
    let in_range = (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    (zone && in_range && clock.next().is_none() && words.next().is_none())
        .then(|| days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Formats seconds since 1970 as `2026-07-11T10:16:37Z`.
pub fn rfc3339(seconds: i64) -> String {
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let clock = seconds.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", clock / 3600, clock / 60 % 60, clock % 60)
}

/// Days from 1970-01-01 to a date; years start in March so that the leap day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_dates() {
        fn check(text: &str, seconds: i64, formatted: &str) {
            assert_eq!(parse_release_date(text), Some(seconds), "{text}");
            assert_eq!(rfc3339(seconds), formatted);
        }
        check("Thu, 01 Jan 1970 00:00:00 UTC", 0, "1970-01-01T00:00:00Z");
        check("Sat, 11 Jul 2026 10:16:37 UTC", 1_783_764_997, "2026-07-11T10:16:37Z");
        check("29 Feb 2024 23:59:59 GMT", 1_709_251_199, "2024-02-29T23:59:59Z");
        check("Fri, 31 Dec 1999 00:00:01 +0000", 946_598_401, "1999-12-31T00:00:01Z");
    }

    #[test]
    fn refuses_other_dates() {
        for text in [
            "",
            "Sat",
            "Sat, 11 Jul 2026",
            "11 Juli 2026 10:16:37 UTC",
            "11 Jul 2026 10:16:37 CET",
            "99 Jul 2026 10:16:37 UTC",
        ] {
            assert_eq!(parse_release_date(text), None, "{text}");
        }
    }
}
