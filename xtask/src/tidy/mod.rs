//! `cargo xtask tidy`: the design's rules, checked.
//!
//! Crate edges are read from `cargo metadata`, budgets from the parsed sources, manners from the text. Every breach is a
//! [`Finding`] with a place and a number; `tidy.toml` excuses single ones with a reason and a limit that may not grow.
//! Left out: what clippy and rustc already deny.

mod edges;
mod exceptions;
mod source;
#[cfg(test)]
mod tests;
mod text;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

/// A breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Relative to the repository's root.
    pub(crate) path: String,
    /// 1-based; 0 for the whole file.
    pub(crate) line: usize,
    /// The rule's name, as `tidy.toml` calls it.
    pub(crate) rule: &'static str,
    /// What of the file breaks it (a function, a struct); empty for the file itself.
    pub(crate) item: String,
    /// How much, for rules with a budget; otherwise 1.
    pub(crate) amount: usize,
    /// What is wrong and what to do.
    pub(crate) text: String,
}

/// Checks the tree at `root` and prints what breaks a rule.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let mut findings = edges::check(&edges::read(root)?);
    for path in files(root)? {
        let name = path.to_string_lossy().into_owned();
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else { continue };
        findings.extend(text::check(&name, &text, &|link| root.join(link).exists()));
        if name.ends_with(".rs") {
            findings.extend(source::check(&name, &text));
        }
    }
    let exceptions = std::fs::read_to_string(root.join("tidy.toml")).context("cannot read tidy.toml")?;
    let mut left = exceptions::apply(&exceptions, findings)?;
    left.sort();
    for finding in &left {
        println!("{}:{}: {} [{}]", finding.path, finding.line, finding.text, finding.rule);
    }
    Ok(if left.is_empty() {
        println!("tidy: ok");
        ExitCode::SUCCESS
    } else {
        println!("tidy: {} findings", left.len());
        ExitCode::FAILURE
    })
}

/// Tracked files and those that will be: everything git does not ignore, that is there.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"];
    let output = Command::new("git").args(list).current_dir(root).output().context("cannot run git")?;
    ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout)?;
    Ok(names.split_terminator('\0').map(PathBuf::from).filter(|path| root.join(path).is_file()).collect())
}
