//! From flags to the request that creates a container.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use atoll_api::docker::{CreateRequest, HostConfig, StrSlice, ThrottleDevice, WeightDevice};
use atoll_oci::config::Healthcheck;

use crate::args::values::{self, variable, variables};
use crate::args::{CreateArgs, DeviceArgs, HealthArgs, LimitArgs, PlaceArgs, ProgramArgs, SharingArgs, TrustArgs};

/// Whether the caller's streams are coupled to the new container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// The streams that `run` couples: those asked for, or all of a program in the foreground.
pub(crate) fn streams(program: &ProgramArgs, detach: bool) -> Result<Streams> {
    let mut streams = Streams { stdin: false, stdout: false, stderr: false };
    for name in &program.attach {
        match name.to_ascii_lowercase().as_str() {
            "stdin" => streams.stdin = true,
            "stdout" => streams.stdout = true,
            "stderr" => streams.stderr = true,
            _ => bail!("valid streams are STDIN, STDOUT and STDERR, not {name:?}"),
        }
    }
    if detach && !program.attach.is_empty() {
        bail!("conflicting options: cannot attach and detach at the same time");
    }
    if !detach && program.attach.is_empty() {
        streams = Streams { stdin: program.interactive, stdout: true, stderr: true };
    }
    Ok(streams)
}

/// The body of the request.
pub(crate) fn create(args: &CreateArgs, streams: Streams) -> Result<CreateRequest> {
    let (image, command) = args.words.split_first().context("name an image")?;
    let program = &args.program;
    let mut request = CreateRequest {
        image: image.clone(),
        cmd: (!command.is_empty()).then(|| StrSlice::Many(command.to_vec())),
        entrypoint: program.entrypoint.clone().map(|program| StrSlice::Many(vec![program])),
        attach_stdin: streams.stdin,
        attach_stdout: streams.stdout,
        attach_stderr: streams.stderr,
        tty: program.tty,
        open_stdin: program.interactive,
        // Its input ends with the client that it came from; one that nobody attached to stays open.
        stdin_once: program.interactive && streams.stdin,
        env: environment(&program.env, &program.env_file)?,
        working_dir: program.workdir.clone().unwrap_or_default(),
        user: program.user.clone().unwrap_or_default(),
        stop_signal: program.stop_signal.clone().unwrap_or_default(),
        stop_timeout: program.stop_timeout,
        healthcheck: health(&args.life.health)?,
        hostname: args.place.hostname.clone().unwrap_or_default(),
        domainname: args.place.domainname.clone().unwrap_or_default(),
        labels: labels(&args.place)?,
        ..CreateRequest::default()
    };
    let host = &mut request.host_config;
    host.auto_remove = args.life.rm;
    if let Some(policy) = &args.life.restart {
        host.restart_policy = values::restart(policy)?;
    }
    host.init = program.init.then_some(true);
    host.isolation = args.isolation.map(|_| "container".to_owned()).unwrap_or_default();
    host.group_add.clone_from(&program.group_add);
    place(&args.place, host)?;
    sharing(&args.place.sharing, host)?;
    devices(&args.devices, host)?;
    host.log_config.kind = args.life.log.log_driver.clone().unwrap_or_default();
    host.log_config.config = args.life.log.log_opt.iter().map(|text| values::label(text)).collect();
    for text in &args.place.publish {
        for (port, place) in values::publish(text)? {
            request.exposed_ports.insert(port.clone(), serde_json::json!({}));
            host.port_bindings.entry(port).or_default().push(place);
        }
    }
    limits(&args.limits, host)?;
    trust(&args.trust, host)?;
    Ok(request)
}

/// The check of its health, where a flag is about that.
fn health(args: &HealthArgs) -> Result<Option<Healthcheck>> {
    let time = |text: &Option<String>| text.as_deref().map_or(Ok(0), values::duration);
    let test = match &args.health_cmd {
        _ if args.no_healthcheck => vec!["NONE".to_owned()],
        Some(command) => vec!["CMD-SHELL".to_owned(), command.clone()],
        None => Vec::new(),
    };
    let check = Healthcheck {
        test,
        interval: time(&args.health_interval)?,
        timeout: time(&args.health_timeout)?,
        start_period: time(&args.health_start_period)?,
        start_interval: time(&args.health_start_interval)?,
        retries: args.health_retries.unwrap_or_default(),
    };
    Ok((check != Healthcheck::default()).then_some(check))
}

/// Environment variables from files and flags, the flags last.
pub(crate) fn environment(flags: &[String], files: &[std::path::PathBuf]) -> Result<Vec<String>> {
    let here = |name: &str| std::env::var(name).ok();
    let mut all = Vec::new();
    for file in files {
        all.extend(variables(&read(file)?, here).with_context(|| file.display().to_string())?);
    }
    for flag in flags {
        all.extend(variable(flag, here)?);
    }
    Ok(all)
}

fn labels(args: &PlaceArgs) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for file in &args.label_file {
        let lines = variables(&read(file)?, |_| Some(String::new())).with_context(|| file.display().to_string())?;
        all.extend(lines.iter().map(|line| values::label(line)));
    }
    all.extend(args.label.iter().map(|text| values::label(text)));
    Ok(all)
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

fn place(args: &PlaceArgs, host: &mut HostConfig) -> Result<()> {
    args.network.clone().unwrap_or_default().clone_into(&mut host.network_mode);
    let current = std::env::current_dir().unwrap_or_default();
    for text in &args.volume {
        let full = values::volume(text, &current.to_string_lossy());
        host.binds.push(full);
    }
    for text in &args.mount {
        host.mounts.push(values::mount(text)?);
    }
    for text in &args.tmpfs {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        host.tmpfs.insert(target.to_owned(), options.to_owned());
    }
    for text in &args.annotation {
        let (key, value) = values::pair(text)?;
        host.annotations.insert(key, value);
    }
    host.shm_size = args.shm_size.as_deref().map_or(Ok(0), values::size)?;
    Ok(())
}

fn sharing(args: &SharingArgs, host: &mut HostConfig) -> Result<()> {
    let modes = &mut host.namespaces;
    let set = |place: &mut String, mode: &Option<String>| place.clone_from(mode.as_ref().unwrap_or(&String::new()));
    set(&mut modes.pid_mode, &args.pid);
    set(&mut modes.ipc_mode, &args.ipc);
    set(&mut modes.uts_mode, &args.uts);
    set(&mut modes.userns_mode, &args.userns);
    set(&mut modes.cgroupns_mode, &args.cgroupns);
    host.volumes_from.clone_from(&args.volumes_from);
    for text in &args.sysctl {
        let (name, value) = values::pair(text)?;
        host.sysctls.insert(name, value);
    }
    Ok(())
}

fn devices(args: &DeviceArgs, host: &mut HostConfig) -> Result<()> {
    let mut by_name = Vec::new();
    for text in &args.device {
        if text.starts_with('/') || !text.contains('=') {
            host.devices.push(values::device(text)?);
        } else {
            by_name.push(text.clone());
        }
    }
    host.device_requests.extend(values::by_name(by_name));
    if let Some(text) = &args.gpus {
        host.device_requests.push(values::gpus(text)?);
    }
    host.device_cgroup_rules.clone_from(&args.device_cgroup_rule);
    let blkio = &mut host.blkio;
    blkio.blkio_weight = args.blkio_weight.unwrap_or_default();
    for text in &args.blkio_weight_device {
        let (path, weight) = values::of_device(text, |text| text.parse().ok())?;
        blkio.blkio_weight_device.push(WeightDevice { path, weight });
    }
    let bytes = |text: &str| values::size(text).ok().and_then(|bytes| u64::try_from(bytes).ok());
    let number = |text: &str| text.parse().ok();
    blkio.blkio_device_read_bps = rates(&args.device_read_bps, bytes)?;
    blkio.blkio_device_write_bps = rates(&args.device_write_bps, bytes)?;
    blkio.blkio_device_read_iops = rates(&args.device_read_iops, number)?;
    blkio.blkio_device_write_iops = rates(&args.device_write_iops, number)?;
    Ok(())
}

fn rates(texts: &[String], parse: impl Fn(&str) -> Option<u64>) -> Result<Vec<ThrottleDevice>> {
    let rate = |text: &String| {
        let (path, rate) = values::of_device(text, &parse)?;
        Ok(ThrottleDevice { path, rate })
    };
    texts.iter().map(rate).collect()
}

/// -1 is any amount of swap.
pub(crate) fn swap(text: Option<&str>) -> Result<i64> {
    Ok(match text {
        Some("-1") => -1,
        other => other.map_or(Ok(0), values::size)?,
    })
}

fn limits(args: &LimitArgs, host: &mut HostConfig) -> Result<()> {
    let size = |text: &Option<String>| text.as_deref().map_or(Ok(0), values::size);
    host.memory = size(&args.memory)?;
    host.memory_reservation = size(&args.memory_reservation)?;
    host.memory_swap = swap(args.memory_swap.as_deref())?;
    let finer = &args.finer;
    host.memory_swappiness = finer.memory_swappiness;
    host.oom_kill_disable = finer.oom_kill_disable.then_some(true);
    host.oom_score_adj = finer.oom_score_adj.unwrap_or_default();
    finer.cgroup_parent.clone().unwrap_or_default().clone_into(&mut host.cgroup_parent);
    for text in &finer.storage_opt {
        let (name, value) = values::pair(text)?;
        host.storage_opt.insert(name, value);
    }
    let cpu = &args.processors;
    host.cpu_realtime_period = cpu.cpu_rt_period.unwrap_or_default();
    host.cpu_realtime_runtime = cpu.cpu_rt_runtime.unwrap_or_default();
    host.nano_cpus = cpu.cpus.as_deref().map_or(Ok(0), values::nano_cpus)?;
    host.cpu_shares = cpu.cpu_shares.unwrap_or_default();
    host.cpu_quota = cpu.cpu_quota.unwrap_or_default();
    host.cpu_period = cpu.cpu_period.unwrap_or_default();
    cpu.cpuset_cpus.clone().unwrap_or_default().clone_into(&mut host.cpuset_cpus);
    cpu.cpuset_mems.clone().unwrap_or_default().clone_into(&mut host.cpuset_mems);
    host.pids_limit = args.pids_limit.unwrap_or_default();
    for text in &args.ulimit {
        host.ulimits.push(values::ulimit(text)?);
    }
    Ok(())
}

fn trust(args: &TrustArgs, host: &mut HostConfig) -> Result<()> {
    host.readonly_rootfs = args.read_only;
    host.cap_add.clone_from(&args.cap_add);
    host.cap_drop.clone_from(&args.cap_drop);
    host.privileged = args.privileged;
    for option in &args.security_opt {
        host.security_opt.push(match option.split_once('=') {
            // The daemon may not see the caller's files: a profile travels by content.
            Some(("seccomp", file))
                if file != "unconfined" && file != "builtin" && !file.trim_start().starts_with('{') =>
            {
                format!("seccomp={}", read(Path::new(file))?)
            }
            _ => option.clone(),
        });
    }
    Ok(())
}
