//! Signals by name (`signal(7)`, Linux on x86-64, arm64 and riscv64), as people write them to `kill` and `stop`.

/// Names by number, from 1 up.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// The first real-time signal that programs may use (two below are the C library's).
const RTMIN: i32 = 34;
/// The last one.
const RTMAX: i32 = 64;

/// The number of a signal written as `SIGTERM`, `TERM`, `term`, `RTMIN+3` or `15`.
#[must_use]
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(index + 1).ok();
    }
    let (base, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => (RTMIN, rest),
        (_, Some(rest)) => (RTMAX, rest),
        _ => {
            return match name {
                "IOT" => Some(6),
                "CLD" => Some(17),
                "POLL" => Some(29),
                _ => None,
            };
        }
    };
    let offset =
        if offset.is_empty() { 0 } else { offset.parse::<i32>().ok().filter(|_| offset.starts_with(['+', '-']))? };
    Some(base.checked_add(offset)?).filter(|number| (RTMIN..=RTMAX).contains(number))
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals_by_any_spelling() {
        let check = |text: &str, number: Option<i32>| assert_eq!(signal_number(text), number, "{text:?}");
        check("SIGTERM", Some(15));
        check("term", Some(15));
        check("9", Some(9));
        check("SIGSYS", Some(31));
        check("SIGRTMIN+3", Some(37));
        check("RTMAX-1", Some(63));
        check("RTMIN", Some(34));
        check("POLL", Some(29));
        check("0", None);
        check("65", None);
        check("-9", None);
        check("RTMIN+99", None);
        check("RTMINX", None);
        check("RTMIN3", None);
        check("SIGNOPE", None);
        check("", None);
    }
}
