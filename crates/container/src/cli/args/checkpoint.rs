//! Options of `checkpoint` and `restore`, as runc's.

use std::path::PathBuf;

use super::words::Words;
use super::{Error, Make, one_name, process};
use crate::checkpoint::{CgroupsMode, Extras};

/// Options of both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The name; of `restore` also the bundle and what the caller gets of the process.
    pub(crate) make: Make,
    pub(crate) images: Option<PathBuf>,
    pub(crate) work: Option<PathBuf>,
    pub(crate) leave_running: bool,
    pub(crate) cgroups: CgroupsMode,
    pub(crate) empty_network: bool,
    pub(crate) extras: Extras,
}

pub(super) fn checkpoint(command: &'static str, mut words: Words<'_>) -> Result<Checkpoint, Error> {
    let make = Make { bundle: ".".into(), ..Make::default() };
    let mut parsed = Checkpoint { make, ..Checkpoint::default() };
    let restore = command == "restore";
    while let Some((option, given)) = words.next_option() {
        let flag = || Words::flag(&option, given.as_deref());
        match option.as_str() {
            "--image-path" => parsed.images = Some(words.value(&option, given)?.into()),
            "--work-path" => parsed.work = Some(words.value(&option, given)?.into()),
            "--leave-running" if !restore => parsed.leave_running = flag()?,
            "--tcp-established" => parsed.extras.tcp = flag()?,
            "--ext-unix-sk" => parsed.extras.unix = flag()?,
            "--shell-job" => parsed.extras.shell_job = flag()?,
            "--file-locks" => parsed.extras.file_locks = flag()?,
            "--auto-dedup" => parsed.extras.auto_dedup = flag()?,
            "--manage-cgroups-mode" => {
                parsed.cgroups = match words.text(&option, given)?.as_str() {
                    "soft" => CgroupsMode::Soft,
                    "full" => CgroupsMode::Full,
                    "strict" => CgroupsMode::Strict,
                    "ignore" => CgroupsMode::Ignore,
                    _ => return Err(Error::Value(option)),
                };
            }
            "--empty-ns" => match words.text(&option, given)?.as_str() {
                "network" => parsed.empty_network = true,
                _ => return Err(Error::Value(option)),
            },
            "--bundle" | "-b" if restore => parsed.make.bundle = words.value(&option, given)?.into(),
            _ if restore && process::shared(&mut parsed.make, &mut words, &option, given.as_ref())? => {}
            _ => return words.unknown(&option),
        }
    }
    parsed.make.id = one_name(command, &words.operands)?;
    Ok(parsed)
}
