//! The applets of a busybox binary, found without running it.
//!
//! busybox keeps its applet names as NUL-terminated strings in one sorted table (it searches it by bisection), whatever the
//! architecture. The table is recognised as the longest strictly ascending run of such names that contains `busybox` itself.
//! Left out: reading ELF sections, which would find the same bytes with more code.

/// Fewer names than this are not taken for the table.
const APPLETS_MIN: usize = 16;
/// Longest name of an applet.
const NAME_MAX: usize = 32;

/// The names of all applets in a busybox binary, sorted; empty if there is no such table.
pub fn applets(binary: &[u8]) -> Vec<String> {
    let needle = b"\0busybox\0";
    let mut best: Vec<&[u8]> = Vec::new();
    for at in find_all(binary, needle) {
        let run = run_around(binary, at + 1);
        if run.len() > best.len() {
            best = run;
        }
    }
    if best.len() < APPLETS_MIN {
        return Vec::new();
    }
    best.into_iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

fn find_all<'a>(binary: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    binary.windows(needle.len()).enumerate().filter(move |(_, window)| *window == needle).map(|(at, _)| at)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"[_-+.".contains(&byte)
}

/// The ascending run of names around the one that starts at `start`.
fn run_around(binary: &[u8], start: usize) -> Vec<&[u8]> {
    let name_at = |from: usize| -> Option<&[u8]> {
        let rest = binary.get(from..(from + NAME_MAX + 1).min(binary.len()))?;
        let end = rest.iter().position(|byte| !is_name_byte(*byte))?;
        (end > 0 && rest[end] == 0).then(|| &rest[..end])
    };
    let mut forward = Vec::new();
    let mut at = start;
    while let Some(name) = name_at(at).filter(|name| forward.last().is_none_or(|last| last < name)) {
        forward.push(name);
        at += name.len() + 1;
    }
    let mut backward: Vec<&[u8]> = Vec::new();
    let mut end = start - 1;
    let mut next = forward.first().copied().unwrap_or_default();
    loop {
        let length = binary[..end].iter().rev().take(NAME_MAX).take_while(|byte| is_name_byte(**byte)).count();
        if length == 0 {
            break;
        }
        let name = &binary[end - length..end];
        let is_delimited = end.checked_sub(length + 1).is_some_and(|at| binary[at] == 0);
        if is_delimited && name < next {
            backward.push(name);
            next = name;
            end -= length + 1;
            continue;
        }
        // The table follows other data without a NUL between: only its usual first name can be told apart.
        if name.ends_with(b"[") && &b"["[..] < next {
            backward.push(b"[");
        }
        break;
    }
    backward.reverse();
    backward.extend(forward);
    backward
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 20] = [
        "[", "[[", "ar", "ash", "awk", "busybox", "cat", "cp", "date", "dd", "echo", "grep", "ls", "mkdir", "mv", "rm",
        "sh", "test", "true", "vi",
    ];

    #[test]
    fn finds_the_table() {
        fn check(before: &[u8], after: &[u8], expected: &[&str]) {
            let mut binary = before.to_vec();
            for name in NAMES {
                binary.extend_from_slice(name.as_bytes());
                binary.push(0);
            }
            binary.extend_from_slice(after);
            assert_eq!(applets(&binary), expected, "{before:?} {after:?}");
        }
        check(b"\0", b"\0", &NAMES);
        check(b"\xae ", b"Usage", &NAMES);
        check(b"x", b"\0", &NAMES);
        check(b"usage: \0busybox\0 not sorted\0busybox\0abc\0\0", b"\0\0", &NAMES);
        check(b"\0", b"aaa\0", &NAMES);
    }

    #[test]
    fn finds_nothing_elsewhere() {
        for binary in [&b""[..], b"\0busybox\0", b"busybox", b"\0a\0busybox\0c\0"] {
            assert_eq!(applets(binary), Vec::<String>::new());
        }
    }
}
