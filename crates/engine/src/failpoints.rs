//! The places of this crate where a test can have the daemon killed (`ATOLL_FAILPOINT`, see [`atoll_store::failpoint`]).
//!
//! One table, so that a test can go through all of them; a unit test holds it against the sources.

/// Every point of a daemon's ways in this crate, sorted.
pub const FAILPOINTS: [&str; 36] = [
    "bootstrap.before-name",
    "commit.after-image",
    "commit.after-layer",
    "create.after-record",
    "create.after-root",
    "create.after-volumes",
    "create.before-record",
    "exit.after-record",
    "exit.before-phase",
    "image-prune.before-sweep",
    "image-prune.before-unlink",
    "import.after-image",
    "import.after-layer",
    "load.after-import",
    "load.after-lease",
    "log.after-publish",
    "log.before-publish",
    "pull.after-layers",
    "pull.after-name",
    "push.before-link",
    "remove.after-record",
    "remove.after-root",
    "remove.before-record",
    "rmi.before-sweep",
    "rmi.before-unlink",
    "start.after-create",
    "start.after-prepare",
    "start.after-record",
    "start.after-start",
    "start.before-prepare",
    "tag.before-dangling",
    "tag.before-link",
    "update.after-record",
    "update.before-record",
    "volume-remove.after-record",
    "volume-remove.before-record",
];

/// Those of a reset, for which no daemon runs, sorted.
pub const RESET_FAILPOINTS: [&str; 4] =
    ["reset.after-networks", "reset.after-run", "reset.after-workloads", "reset.before-metadata"];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{FAILPOINTS, RESET_FAILPOINTS};

    #[test]
    fn the_table_names_every_point_of_the_sources() {
        let mut found = Vec::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        found.sort();
        let mut named = [&FAILPOINTS[..], &RESET_FAILPOINTS].concat();
        named.sort_unstable();
        assert_eq!(found, named);
    }

    fn collect(folder: &Path, found: &mut Vec<String>) {
        // Split so that this file does not find itself.
        let call = concat!("failpoint::", "hit(\"");
        for entry in std::fs::read_dir(folder).expect("the sources are there").flatten() {
            if entry.path().is_dir() {
                collect(&entry.path(), found);
            } else {
                let text = std::fs::read_to_string(entry.path()).expect("a source is text");
                let names = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.map(str::to_owned));
            }
        }
    }
}
