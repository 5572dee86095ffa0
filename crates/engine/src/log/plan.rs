//! What a workload's log comes to: its files, and what stands beside its lines. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use atoll_model::{BadLog, LogDriver, Workload, expand_tag};

use crate::runtime::{LogFormat, LogPlan};
use crate::{Error, LogSettings};

/// What a tag calls the daemon.
const DAEMON_NAME: &str = "atoll";
/// Characters of an image's id in a tag, its algorithm's name included: as Docker cuts it.
const IMAGE_ID_SHORT: usize = 12;

/// Where a workload's output goes, and how much of it is kept.
pub(crate) fn plan(workload: &Workload, folder: PathBuf, settings: &LogSettings) -> Result<LogPlan, Error> {
    let rules = workload.command.log.rules()?;
    Ok(LogPlan {
        folder,
        file_bytes: rules.file_bytes.unwrap_or(settings.file_bytes),
        files: rules.files.unwrap_or(settings.files),
        format: format(workload)?,
        buffer: rules.buffer,
    })
}

/// How a workload's log is written.
pub(crate) fn format(workload: &Workload) -> Result<LogFormat, Error> {
    Ok(match workload.command.log.driver() {
        LogDriver::Local | LogDriver::Syslog | LogDriver::Journald => LogFormat::Records,
        LogDriver::JsonFile => {
            LogFormat::Json { name: format!("{}-json.log", workload.id), attributes: attributes(workload)? }
        }
        LogDriver::None => LogFormat::Nothing,
    })
}

/// What stands beside each line: the labels and variables that the options name, and the tag.
fn attributes(workload: &Workload) -> Result<BTreeMap<String, String>, BadLog> {
    let mut attributes = chosen(workload);
    if let Some(tag) = workload.command.log.options.get("tag").filter(|tag| !tag.is_empty()) {
        attributes.insert("tag".to_owned(), fill(workload, tag)?);
    }
    Ok(attributes)
}

/// The labels and variables that the options name.
pub(super) fn chosen(workload: &Workload) -> BTreeMap<String, String> {
    let options = &workload.command.log.options;
    let names = |option: &str| options.get(option).map_or("", String::as_str).split(',').map(str::trim);
    let mut chosen = BTreeMap::new();
    for name in names("labels") {
        chosen.extend(workload.labels.get_key_value(name).map(|(name, value)| (name.clone(), value.clone())));
    }
    for name in names("env") {
        let variables = workload.command.env.iter().filter_map(|variable| variable.split_once('='));
        chosen.extend(variables.filter(|(key, _)| *key == name).map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    chosen
}

/// The tag of a workload whose lines are sent on: its short id where none is asked for.
pub(super) fn tag(workload: &Workload) -> Result<String, BadLog> {
    match workload.command.log.options.get("tag").filter(|tag| !tag.is_empty()) {
        Some(tag) => fill(workload, tag),
        None => Ok(workload.id.short().to_string()),
    }
}

/// A tag, filled in.
fn fill(workload: &Workload, tag: &str) -> Result<String, BadLog> {
    let image = workload.image.id.to_string();
    expand_tag(tag, |field| {
        Some(match field {
            "ID" => workload.id.short().to_string(),
            "FullID" | "ContainerID" => workload.id.to_string(),
            "Name" => workload.name.clone(),
            "ContainerName" => format!("/{}", workload.name),
            "ImageID" => image.chars().take(IMAGE_ID_SHORT).collect(),
            "ImageFullID" => image.clone(),
            "ImageName" => workload.image.name.clone(),
            "DaemonName" => DAEMON_NAME.to_owned(),
            "Command" => workload.command.args().join(" "),
            "ExtraAttributes" => {
                let pairs: Vec<_> = chosen(workload).iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("map[{}]", pairs.join(" "))
            }
            // As Docker's templates say that there is none.
            other => {
                let name = other.strip_prefix("ExtraAttributes.")?;
                chosen(workload).remove(name).unwrap_or_else(|| "<no value>".to_owned())
            }
        })
    })
}
