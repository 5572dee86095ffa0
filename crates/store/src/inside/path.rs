//! Paths inside a root as text: cleaned, named and followed as Docker's clients expect. Pure.

/// Most links that one path leads through, as the kernel's limit.
const LINKS_MAX: usize = 40;
/// Longest path that is followed, bytes.
const PATH_MAX: usize = 64 << 10;

/// A path without `.`, `..`, doubled slashes and the first one: `..` is taken off as text, as Docker does, and ends at the root.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// By which name an archive has what is at a path: the last part, `.` for `x/.`, `/` for the root.
pub(super) fn base(path: &[u8]) -> &[u8] {
    if path.ends_with(b"/.") || path == b"." {
        return b".";
    }
    match path.iter().rposition(|b| *b != b'/') {
        None => b"/",
        Some(end) => {
            let start = path[..=end].iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
            match &path[start..=end] {
                // The parent's own name is not in the path.
                b".." => b".",
                name => name,
            }
        }
    }
}

/// Where a clean path leads when links are followed; `read` gives what a link holds, `None` for everything else. What is
/// beyond the limits stays as it is.
pub(super) fn follow(path: &[u8], mut read: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut rest: Vec<Vec<u8>> = parts(path);
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == b".." {
            done.pop();
            continue;
        }
        done.push(part);
        if links == LINKS_MAX {
            continue;
        }
        if let Some(target) = read(&done.join(&b'/')).filter(|target| target.len() < PATH_MAX) {
            links += 1;
            done.pop();
            if target.starts_with(b"/") {
                done.clear();
            }
            rest.extend(parts(&target));
        }
    }
    [b"/", done.join(&b'/').as_slice()].concat()
}

/// The parts of a path, last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let named = path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."));
    named.rev().map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_text() {
        let check = |path: &str, expected: &str| assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        check("/", "");
        check("a//b/./c/", "a/b/c");
        check("/../../etc/../x", "x");
    }

    #[test]
    fn names_in_archives_are_the_last_parts() {
        let check = |path: &str, expected: &str| assert_eq!(base(path.as_bytes()), expected.as_bytes(), "{path}");
        check("/", "/");
        check("/etc", "etc");
        check("/etc/", "etc");
        check("/etc/.", ".");
        check(".", ".");
        check("etc/passwd", "passwd");
        check("", "/");
    }

    #[test]
    fn links_are_followed_inside() {
        let read = |path: &[u8]| match path {
            b"abs" => Some(b"/x/y".to_vec()),
            b"x" => Some(b"z".to_vec()),
            b"up" => Some(b"../../etc".to_vec()),
            b"loop" => Some(b"loop".to_vec()),
            b"d/rel" => Some(b"../abs".to_vec()),
            _ => None,
        };
        let check = |path: &str, expected: &str| {
            assert_eq!(follow(path.as_bytes(), read), expected.as_bytes(), "{path}");
        };
        check("abs", "/z/y");
        check("up", "/etc");
        check("loop", "/loop");
        check("d/rel", "/z/y");
        check("none/at/all", "/none/at/all");
    }
}
