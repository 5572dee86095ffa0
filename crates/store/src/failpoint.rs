//! Failpoints: named places in write paths where a test can have the process killed.
//!
//! `ATOLL_FAILPOINT=NAME` kills this process with SIGKILL when it reaches NAME, `NAME:COUNT` at the COUNTth time. Without
//! the variable a point costs one relaxed load. Returning errors or sleeping at a point is left out on purpose: a crash is
//! the one failure that ordinary tests cannot make.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The variable that arms a point.
pub const VARIABLE: &str = "ATOLL_FAILPOINT";

/// Every point of this crate, in the order of a layer's life. Other crates keep tables of their own.
pub const NAMES: &[&str] = &[
    "store.blob.written",
    "store.blob.renamed",
    "store.layer.extracted",
    "store.layer.synced",
    "store.layer.renamed",
    "store.layer.committed",
    "store.link.before",
    "store.link.committed",
    "store.project.recorded",
    "store.project.limited",
    "store.project.unlimited",
    "store.root.before",
    "store.root.renamed",
    "store.root.removing",
    "store.import.spooled",
    "store.sweep.marked",
    "store.sweep.committed",
    "store.sweep.moved",
];

const UNKNOWN: u8 = 0;
const OFF: u8 = 1;
const ARMED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
static TARGET: OnceLock<Option<(String, u64)>> = OnceLock::new();
static HITS: AtomicU64 = AtomicU64::new(0);

/// Dies here when the point `name` is armed.
#[inline]
pub fn hit(name: &str) {
    if STATE.load(Ordering::Relaxed) != OFF {
        slow(name);
    }
}

#[cold]
fn slow(name: &str) {
    let target = TARGET.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?));
    let Some((wanted, count)) = target else {
        STATE.store(OFF, Ordering::Relaxed);
        return;
    };
    STATE.store(ARMED, Ordering::Relaxed);
    if wanted == name && HITS.fetch_add(1, Ordering::Relaxed) + 1 == *count {
        let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // SIGKILL to oneself does not return; were it refused, going on would make the test lie.
        panic!("the process was not killed at failpoint {name}: {killed:?}");
    }
}

/// `NAME` or `NAME:COUNT`; an empty text arms nothing.
fn parse(text: &str) -> Option<(String, u64)> {
    if text.is_empty() {
        return None;
    }
    match text.rsplit_once(':').map(|(name, count)| (name, count.parse())) {
        Some((name, Ok(count))) => Some((name.into(), count)),
        _ => Some((text.into(), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_point_is_a_name_and_a_count() {
        assert_eq!(parse(""), None);
        assert_eq!(parse("a.b"), Some(("a.b".into(), 1)));
        assert_eq!(parse("a.b:3"), Some(("a.b".into(), 3)));
        assert_eq!(parse("a:x"), Some(("a:x".into(), 1)));
    }
}
