//! Patterns for names of images, as Docker's filter `reference` has them: `*` is any text without a slash, `?` one letter.

/// Whether a familiar name fits a pattern: as a whole, or without its tag.
#[must_use]
pub fn matches_reference(pattern: &str, name: &str) -> bool {
    let bare = name.rsplit_once(':').map_or(name, |(bare, _)| bare);
    wildcard(pattern.as_bytes(), name.as_bytes()) || wildcard(pattern.as_bytes(), bare.as_bytes())
}

/// Goes through the text once, with all positions of the pattern that may have been reached.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let past_stars = |mut reached: Vec<bool>| {
        for at in 0..pattern.len() {
            if reached[at] && pattern[at] == b'*' {
                reached[at + 1] = true;
            }
        }
        reached
    };
    let start = (0..=pattern.len()).map(|at| at == 0).collect();
    let end = text.iter().fold(past_stars(start), |reached, letter| {
        let mut next = vec![false; pattern.len() + 1];
        for at in (0..pattern.len()).filter(|at| reached[*at]) {
            match pattern[at] {
                b'*' if *letter != b'/' => next[at] = true,
                b'?' if *letter != b'/' => next[at + 1] = true,
                wanted if wanted == *letter => next[at + 1] = true,
                _ => {}
            }
        }
        past_stars(next)
    });
    end[pattern.len()]
}

#[cfg(test)]
mod tests {
    use super::matches_reference;

    #[test]
    fn references_fit_patterns() {
        let check = |pattern: &str, name: &str, fits: bool| {
            assert_eq!(matches_reference(pattern, name), fits, "{pattern} {name}");
        };
        check("demo", "demo:latest", true);
        check("demo:latest", "demo:latest", true);
        check("de*", "demo:latest", true);
        check("*", "demo:latest", true);
        check("*", "a/b:1", false);
        check("a/*", "a/b:1", true);
        check("demo:1", "demo:latest", false);
        check("d?mo", "demo:1", true);
    }
}
