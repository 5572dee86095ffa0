//! What is said about a command line that does not parse.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::FAILED;

/// Flags that Docker has and Atoll does not have yet: a user is told that, not that they do not exist.
const NOT_YET: [&str; 62] = [
    "--add-host",
    "--all-tags",
    "--annotation",
    "--blkio-weight",
    "--blkio-weight-device",
    "--cgroup-parent",
    "--cgroupns",
    "--checkpoint",
    "--checkpoint-dir",
    "--cpu-count",
    "--cpu-percent",
    "--cpu-rt-period",
    "--cpu-rt-runtime",
    "--details",
    "--device-cgroup-rule",
    "--device-read-bps",
    "--device-read-iops",
    "--device-write-bps",
    "--device-write-iops",
    "--disable-content-trust",
    "--dns",
    "--dns-option",
    "--dns-search",
    "--expose",
    "--gpus",
    "--group-add",
    "--health-cmd",
    "--health-interval",
    "--health-retries",
    "--health-start-interval",
    "--health-start-period",
    "--health-timeout",
    "--human",
    "--io-maxbandwidth",
    "--io-maxiops",
    "--ip",
    "--ip6",
    "--ipc",
    "--kernel-memory",
    "--link",
    "--link-local-ip",
    "--mac-address",
    "--memory-swappiness",
    "--network-alias",
    "--no-healthcheck",
    "--no-prune",
    "--oom-kill-disable",
    "--oom-score-adj",
    "--pid",
    "--publish",
    "--publish-all",
    "--restart",
    "--runtime",
    "--size",
    "--storage-opt",
    "--sysctl",
    "--tree",
    "--use-api-socket",
    "--userns",
    "--uts",
    "--volume-driver",
    "--volumes-from",
];
/// Their short forms.
const NOT_YET_SHORT: [&str; 2] = ["-p", "-P"];

/// Prints help, the version or what is wrong.
#[allow(clippy::print_stderr, reason = "this is where usage errors are told")]
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        drop(error.print());
        return ExitCode::SUCCESS;
    }
    if let Some(flag) = unknown_flag(error)
        && (NOT_YET.contains(&flag.as_str()) || NOT_YET_SHORT.contains(&flag.as_str()))
    {
        eprintln!("atoll: {flag} is not supported yet: this version has no such option, and does not pretend to");
        return ExitCode::from(FAILED);
    }
    // A terminal that went away needs no message.
    drop(error.print());
    ExitCode::from(FAILED)
}

fn unknown_flag(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(flag) => Some(flag.split('=').next()?.to_owned()),
        _ => None,
    }
}
