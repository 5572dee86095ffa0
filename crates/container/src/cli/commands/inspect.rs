//! `state`, `list` and `ps`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::print;
use crate::cli::state::Folder;

pub(super) fn state(root: &Path, id: &str) -> anyhow::Result<u8> {
    let folder = Folder::open(root, id)?;
    let listing = folder.read()?.listing(&folder)?;
    print(&(serde_json::to_string_pretty(&listing)? + "\n"))
}

pub(super) fn list(root: &Path, quiet: bool, json: bool) -> anyhow::Result<u8> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.with_context(|| format!("cannot read {}", root.display()))?),
    };
    for entry in entries.into_iter().flatten() {
        let name = entry.context("cannot list containers")?.file_name();
        // One that is removed or half-made at this moment is none.
        if let Ok(folder) = Folder::open(root, &name.to_string_lossy())
            && let Ok(listing) = folder.read().and_then(|record| record.listing(&folder))
        {
            found.push(listing);
        }
    }
    found.sort_by(|a, b| a.state.id.cmp(&b.state.id));
    if quiet {
        return print(&found.iter().map(|listing| format!("{}\n", listing.state.id)).collect::<String>());
    }
    if json {
        return print(&(serde_json::to_string(&found)? + "\n"));
    }
    let mut table = format!("{:<24} {:<8} {:<10} {:<32} {:<31} OWNER\n", "ID", "PID", "STATUS", "BUNDLE", "CREATED");
    for listing in &found {
        let state = &listing.state;
        let created = &listing.created;
        let owner = &listing.owner;
        table += &format!(
            "{:<24} {:<8} {:<10} {:<32} {created:<31} {owner}\n",
            state.id,
            state.pid,
            state.status.to_string(),
            state.bundle
        );
    }
    print(&table)
}

/// The processes of a container: their numbers, or what ps(1) says of them.
pub(super) fn ps(root: &Path, id: &str, json: bool, options: &[String]) -> anyhow::Result<u8> {
    let pids = Folder::open(root, id)?.read()?.cgroup()?.pids()?;
    if json {
        return print(&(serde_json::to_string(&pids)? + "\n"));
    }
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { default.as_slice() } else { options };
    let output = Command::new("ps").args(options).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot run ps: install procps, or use --format json")?;
    if !output.status.success() {
        bail!("ps {} failed", options.join(" "));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_ascii_whitespace().position(|name| name == "PID");
    let column = column.context("ps shows no column PID with these options")?;
    let ours = |line: &&str| {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    print(&std::iter::once(header).chain(lines.filter(ours)).fold(String::new(), |text, line| text + line + "\n"))
}
