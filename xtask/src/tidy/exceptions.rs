//! `tidy.toml`: single breaches that are excused, each with a reason and a limit that may not grow.
//!
//! ```toml
//! [[exception]]
//! rule = "file-lines"
//! path = "crates/x/src/table.rs"
//! limit = 520                        # item = "name" where the rule is about a part of the file
//! reason = "a table of facts"
//! ```

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Finding;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    exception: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    rule: String,
    path: String,
    #[serde(default)]
    item: String,
    limit: usize,
    reason: String,
}

impl Exception {
    fn covers(&self, finding: &Finding) -> bool {
        self.rule == finding.rule && self.path == finding.path && self.item == finding.item
    }
}

/// What is left of `findings`: those not excused, those over their excuse's limit, and excuses without need or reason.
pub(crate) fn apply(file: &str, findings: Vec<Finding>) -> Result<Vec<Finding>> {
    let file: File = toml::from_str(file).context("tidy.toml does not parse")?;
    let own = |item: &str, text: String| {
        let (path, item) = ("tidy.toml".to_owned(), item.to_owned());
        Finding { path, line: 0, rule: "exception", item, amount: 1, text }
    };
    let mut left = Vec::new();
    for exception in &file.exception {
        let name = format!("{} of {} {}", exception.rule, exception.path, exception.item);
        if exception.reason.trim().is_empty() {
            left.push(own(&exception.path, format!("{name} is excused without a reason: give one")));
        }
        if !findings.iter().any(|finding| exception.covers(finding)) {
            left.push(own(&exception.path, format!("{name} needs no excuse any more: remove it")));
        }
    }
    for mut finding in findings {
        match file.exception.iter().find(|exception| exception.covers(&finding)) {
            Some(exception) if finding.amount <= exception.limit => {}
            Some(exception) => {
                finding.text = format!("{} (excused up to {} only)", finding.text, exception.limit);
                left.push(finding);
            }
            None => left.push(finding),
        }
    }
    Ok(left)
}
