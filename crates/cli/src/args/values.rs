//! Values of flags in the forms that Docker has for them.

use atoll_api::docker::{
    BindOptions, DeviceMapping, DeviceRequest, MountRequest, PortMap, RestartPolicy, TmpfsOptions, UlimitRequest,
    VolumeOptions,
};

/// More nanoseconds than anybody waits: a hundred years.
const TIME_MAX: f64 = 3.2e18;
/// Longest line of an environment or label file.
const LINE_MAX: usize = 1 << 20;

/// A value that does not parse: a sentence that says what to write instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadValue {
    /// Not a number of bytes.
    #[error("invalid size {0:?}: write a number with b, k, m or g")]
    Size(String),
    /// Not a number of processors.
    #[error("invalid number of processors {0:?}: write one such as 1.5")]
    Cpus(String),
    /// Not a limit.
    #[error("invalid ulimit {0:?}: write NAME=SOFT[:HARD]")]
    Ulimit(String),
    /// Not a mount.
    #[error("invalid mount {0:?}: {1}")]
    Mount(String, &'static str),
    /// An option of a mount that is not there.
    #[error("mount option {0:?} is not supported")]
    MountOption(String),
    /// Not a device.
    #[error("invalid device {0:?}: write HOST[:INSIDE[:rwm]]")]
    Device(String),
    /// Not a limit of one device.
    #[error("invalid limit of a device {0:?}: write /dev/NAME:VALUE")]
    DeviceLimit(String),
    /// Not GPUs.
    #[error("invalid GPUs {0:?}: write all, a number, or device=NAME")]
    Gpus(String),
    /// Not a pair.
    #[error("{0:?} is not of the form NAME=VALUE")]
    Pair(String),
    /// Not a port.
    #[error("invalid port {0:?}: write [[IP:]HOST:]PORT[/PROTOCOL], each PORT a number or a range")]
    Port(String),
    /// Not a time.
    #[error("invalid time {0:?}: write numbers with h, m, s, ms, us or ns, such as 1m30s")]
    Time(String),
    /// Not a restart policy.
    #[error("invalid restart policy {0:?}: write no, on-failure[:MAX], always, unless-stopped or on-unhealthy[:MAX]")]
    Restart(String),
    /// Not a filter.
    #[error("invalid filter {0:?}: write KEY=VALUE")]
    Filter(String),
    /// Not a variable.
    #[error("invalid environment variable {0:?}: write NAME=VALUE")]
    Variable(String),
}

/// Bytes, from `64m` and the like (powers of 1024, as Docker has it).
pub(crate) fn size(text: &str) -> Result<i64, BadValue> {
    let bad = || BadValue::Size(text.to_owned());
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(bad()),
    };
    if let Ok(whole) = digits.parse::<i64>() {
        return whole.checked_mul(1 << shift).filter(|bytes| *bytes >= 0).ok_or_else(bad);
    }
    let fraction: f64 = digits.parse().map_err(|_| bad())?;
    let bytes = fraction * f64::from(1_u32 << 10).powi(shift / 10);
    // Exact up to 2^53, and no limit is larger.
    if (0.0..9e15).contains(&bytes) { Ok(bytes as i64) } else { Err(bad()) }
}

/// Billionths of a processor.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, BadValue> {
    let bad = || BadValue::Cpus(text.to_owned());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.len() > 9 || !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 {
        return Err(bad());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    let fraction: i64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
    whole.checked_mul(1_000_000_000).and_then(|nanos| nanos.checked_add(fraction)).ok_or_else(bad)
}

/// `nofile=1024:2048`.
pub(crate) fn ulimit(text: &str) -> Result<UlimitRequest, BadValue> {
    let bad = || BadValue::Ulimit(text.to_owned());
    let (name, limits) = text.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= -1).ok_or_else(bad);
    Ok(UlimitRequest { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
}

/// `/dev/sda:/dev/xvda:rw`.
pub(crate) fn device(text: &str) -> Result<DeviceMapping, BadValue> {
    let is_mode = |text: &str| !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter));
    let (host, inside, permissions) = match *text.split(':').collect::<Vec<_>>() {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, mode] if is_mode(mode) => (host, inside, mode),
        _ => return Err(BadValue::Device(text.to_owned())),
    };
    if host.is_empty() || inside.is_empty() {
        return Err(BadValue::Device(text.to_owned()));
    }
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: inside.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    })
}

/// `/dev/sda:1mb`.
pub(crate) fn of_device<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<(String, T), BadValue> {
    let parts = text.split_once(':').filter(|(path, _)| path.starts_with('/'));
    let parsed = parts.and_then(|(path, value)| Some((path.to_owned(), parse(value)?)));
    parsed.ok_or_else(|| BadValue::DeviceLimit(text.to_owned()))
}

/// Devices of the Container Device Interface; nothing is asked for without any.
pub(crate) fn by_name(names: Vec<String>) -> Option<DeviceRequest> {
    let request = DeviceRequest { driver: "cdi".to_owned(), device_ids: names, ..DeviceRequest::default() };
    Some(request).filter(|request| !request.device_ids.is_empty())
}

/// `all`, `2`, `device=0`.
pub(crate) fn gpus(text: &str) -> Result<DeviceRequest, BadValue> {
    let capabilities = vec![vec!["gpu".to_owned()]];
    let plain = DeviceRequest { capabilities, ..DeviceRequest::default() };
    let count = |text: &str| text.parse::<i64>().ok().filter(|count| *count > 0);
    match (text, text.split_once('=')) {
        ("all", _) => Ok(DeviceRequest { count: -1, ..plain }),
        (_, Some(("device", name))) => Ok(DeviceRequest { device_ids: vec![name.to_owned()], ..plain }),
        (text, _) => match count(text.strip_prefix("count=").unwrap_or(text)) {
            Some(count) => Ok(DeviceRequest { count, ..plain }),
            None => Err(BadValue::Gpus(text.to_owned())),
        },
    }
}

/// `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), BadValue> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(BadValue::Pair(text.to_owned())),
    }
}

/// `8080:80`, `127.0.0.1:8080:80/udp`, `80`, `8000-8001:80-81`: ports inside, and where each answers.
pub(crate) fn publish(text: &str) -> Result<Vec<(String, PortMap)>, BadValue> {
    let invalid = || BadValue::Port(text.to_owned());
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp") {
        return Err(invalid());
    }
    // The address may have colons itself.
    let (rest, inside) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (address, outside) = rest.rsplit_once(':').unwrap_or(("", rest));
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let inside = range(inside).ok_or_else(invalid)?;
    let outside = match outside {
        "" => None,
        outside => Some(range(outside).filter(|range| range.len() == inside.len()).ok_or_else(invalid)?),
    };
    let place = |index: usize| {
        let number = outside.clone().and_then(|mut range| range.nth(index)).map(|port| port.to_string());
        PortMap { host_ip: address.to_owned(), host_port: number.unwrap_or_default() }
    };
    Ok(inside.enumerate().map(|(index, port)| (format!("{port}/{protocol}"), place(index))).collect())
}

/// `80` or `80-82`.
fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

/// `type=bind,source=/a,target=/b,readonly`.
pub(crate) fn mount(text: &str) -> Result<MountRequest, BadValue> {
    let mut mount = MountRequest { kind: "volume".to_owned(), ..MountRequest::default() };
    let (mut bind, mut volume, mut tmpfs) = (None, None, None);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, "true"));
        let flag = || matches!(value, "true" | "1");
        match key.to_ascii_lowercase().as_str() {
            "type" => value.clone_into(&mut mount.kind),
            "source" | "src" => value.clone_into(&mut mount.source),
            "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
            "readonly" | "ro" => mount.read_only = flag(),
            "bind-propagation" => {
                value.clone_into(&mut bind.get_or_insert_with(BindOptions::default).propagation);
            }
            "bind-nonrecursive" => bind.get_or_insert_with(BindOptions::default).non_recursive = flag(),
            "volume-nocopy" => volume.get_or_insert_with(VolumeOptions::default).no_copy = flag(),
            "tmpfs-size" => tmpfs.get_or_insert_with(TmpfsOptions::default).size_bytes = size(value)?,
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8);
                let mode = mode.map_err(|_| BadValue::Mount(text.to_owned(), "tmpfs-mode is an octal number"))?;
                tmpfs.get_or_insert_with(TmpfsOptions::default).mode = mode;
            }
            _ => return Err(BadValue::MountOption(key.to_owned())),
        }
    }
    let fits = match mount.kind.as_str() {
        "bind" => volume.is_none() && tmpfs.is_none(),
        "volume" => bind.is_none() && tmpfs.is_none(),
        "tmpfs" => bind.is_none() && volume.is_none(),
        _ => return Err(BadValue::Mount(text.to_owned(), "the type is bind, volume or tmpfs")),
    };
    if !fits {
        return Err(BadValue::Mount(text.to_owned(), "an option belongs to another type of mount"));
    }
    if mount.target.is_empty() {
        return Err(BadValue::Mount(text.to_owned(), "target is required"));
    }
    (mount.bind_options, mount.volume_options, mount.tmpfs_options) = (bind, volume, tmpfs);
    Ok(mount)
}

/// The host's side of `-v SOURCE:TARGET`, made absolute when it is a path.
pub(crate) fn volume(text: &str, current: &str) -> String {
    match text.split_once(':') {
        Some((source, rest)) if source.starts_with('.') => {
            // Collecting the parts leaves `.` out.
            let path: std::path::PathBuf = std::path::Path::new(current).join(source).components().collect();
            format!("{}:{rest}", path.display())
        }
        _ => text.to_owned(),
    }
}

/// `NAME=VALUE` lines with comments; `NAME` alone takes its value from `look_up`, and is left out when that has none.
pub(crate) fn variables(content: &str, look_up: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, BadValue> {
    let mut variables = Vec::new();
    for line in content.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.len() > LINE_MAX {
            return Err(BadValue::Variable(line.chars().take(40).collect()));
        }
        variables.extend(variable(line, &look_up)?);
    }
    Ok(variables)
}

/// One of those.
pub(crate) fn variable(text: &str, look_up: impl Fn(&str) -> Option<String>) -> Result<Option<String>, BadValue> {
    let name = text.split('=').next().unwrap_or_default();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(BadValue::Variable(text.to_owned()));
    }
    if text.contains('=') {
        return Ok(Some(text.to_owned()));
    }
    Ok(look_up(name).map(|value| format!("{name}={value}")))
}

/// Nanoseconds, from `1m30s` and the like.
pub(crate) fn duration(text: &str) -> Result<i64, BadValue> {
    let bad = || BadValue::Time(text.to_owned());
    let mut rest = text;
    let mut sum = 0.0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale = match unit {
            "h" => 3.6e12,
            "m" => 6e10,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            _ => return Err(bad()),
        };
        sum += number.parse::<f64>().map_err(|_| bad())? * scale;
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    if sum >= TIME_MAX {
        return Err(bad());
    }
    Ok(sum.round() as i64)
}

/// `NAME[:MAX]`; which names there are, the daemon knows.
pub(crate) fn restart(text: &str) -> Result<RestartPolicy, BadValue> {
    let bad = || BadValue::Restart(text.to_owned());
    let (name, max) = text.split_once(':').map_or((text, None), |(name, max)| (name, Some(max)));
    if name.is_empty() {
        return Err(bad());
    }
    let maximum_retry_count = max.map_or(Ok(0), str::parse).map_err(|_| bad())?;
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

/// `KEY=VALUE`, with an empty value when there is none.
pub(crate) fn label(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// `KEY=VALUE`.
pub(crate) fn filter(text: &str) -> Result<(&str, &str), BadValue> {
    text.split_once('=').ok_or_else(|| BadValue::Filter(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(size(text).ok(), expected, "{text}");
        check("0", Some(0));
        check("512", Some(512));
        check("64m", Some(64 << 20));
        check("64MiB", Some(64 << 20));
        check("1.5g", Some(3 << 29));
        check("1t", Some(1 << 40));
        check("-1", None);
        check("m", None);
        check("9999999999g", None);
        check("1x", None);
        check("", None);
    }

    #[test]
    fn processors() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(nano_cpus(text).ok(), expected, "{text}");
        check("2", Some(2_000_000_000));
        check("0.5", Some(500_000_000));
        check(".25", Some(250_000_000));
        check("1.0000000001", None);
        check("", None);
        check(".", None);
        check("-1", None);
    }

    #[test]
    fn limits_and_devices() {
        assert_eq!(ulimit("nofile=1:2"), Ok(UlimitRequest { name: "nofile".to_owned(), soft: 1, hard: 2 }));
        assert_eq!(ulimit("core=-1").map(|limit| limit.hard), Ok(-1));
        assert!(ulimit("nofile").is_err());
        assert!(ulimit("nofile=x").is_err());
        let check = |text: &str, expected: Option<(&str, &str, &str)>| {
            let device = device(text).ok();
            let parts = device.as_ref().map(|device| {
                (device.path_on_host.as_str(), device.path_in_container.as_str(), device.cgroup_permissions.as_str())
            });
            assert_eq!(parts, expected, "{text}");
        };
        check("/dev/fuse", Some(("/dev/fuse", "/dev/fuse", "rwm")));
        check("/dev/a:/dev/b", Some(("/dev/a", "/dev/b", "rwm")));
        check("/dev/a:r", Some(("/dev/a", "/dev/a", "r")));
        check("/dev/a:/dev/b:rw", Some(("/dev/a", "/dev/b", "rw")));
        check("/dev/a:/dev/b:x", None);
        check("", None);
    }

    #[test]
    fn times() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(duration(text).ok(), expected, "{text}");
        check("500ms", Some(500_000_000));
        check("1m30s", Some(90_000_000_000));
        check("1.5h", Some(5_400_000_000_000));
        check("0s", Some(0));
        check("", None);
        check("5", None);
        check("s", None);
        check("1x", None);
        check("1.2.3s", None);
        check("-1s", None);
        check("9999999999h", None);
    }

    #[test]
    fn restart_policies() {
        let check = |text: &str, expected: Option<(&str, i64)>| {
            let policy = restart(text).ok();
            let parts = policy.as_ref().map(|policy| (policy.name.as_str(), policy.maximum_retry_count));
            assert_eq!(parts, expected, "{text}");
        };
        check("always", Some(("always", 0)));
        check("on-failure:3", Some(("on-failure", 3)));
        check("on-failure:", None);
        check("on-failure:x", None);
        check(":3", None);
        check("", None);
    }

    #[test]
    fn ports() {
        let check = |text: &str, expected: &[(&str, &str, &str)]| {
            let ports = publish(text).expect("ports");
            let ports: Vec<_> =
                ports.iter().map(|(port, map)| (port.as_str(), map.host_ip.as_str(), map.host_port.as_str())).collect();
            assert_eq!(ports, expected, "{text}");
        };
        check("80", &[("80/tcp", "", "")]);
        check("8080:80", &[("80/tcp", "", "8080")]);
        check("127.0.0.1:8080:80/udp", &[("80/udp", "127.0.0.1", "8080")]);
        check("127.0.0.1::80", &[("80/tcp", "127.0.0.1", "")]);
        check("[::1]:8080:80", &[("80/tcp", "::1", "8080")]);
        check("8000-8001:80-81", &[("80/tcp", "", "8000"), ("81/tcp", "", "8001")]);
        for bad in ["", ":", "x", "80/sctp", "0", "8080:", "1-2:1-3", "2-1", "70000:1", "1:2:3:"] {
            assert!(publish(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts() {
        let bind = mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").expect("a mount");
        assert_eq!((bind.kind.as_str(), bind.source.as_str(), bind.target.as_str()), ("bind", "/a", "/b"));
        assert!(bind.read_only);
        assert_eq!(bind.bind_options.map(|options| options.propagation), Some("rslave".to_owned()));
        let tmpfs = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").expect("a mount");
        assert_eq!(tmpfs.tmpfs_options.map(|options| (options.size_bytes, options.mode)), Some((1 << 20, 0o1770)));
        assert!(mount("type=bind,src=/a").is_err());
        assert!(mount("type=nfs,target=/a").is_err());
        assert!(mount("type=bind,src=/a,target=/b,tmpfs-size=1m").is_err());
        assert_eq!(mount("target=/a,colour=red"), Err(BadValue::MountOption("colour".to_owned())));
    }

    #[test]
    fn relative_sources_become_absolute() {
        assert_eq!(volume("./src:/src:ro", "/home/me"), "/home/me/src:/src:ro");
        assert_eq!(volume("data:/data", "/home/me"), "data:/data");
        assert_eq!(volume("/data", "/home/me"), "/data");
    }

    #[test]
    fn environment_files() {
        let look_up = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let read = |text: &str| variables(text, look_up);
        assert_eq!(
            read("# no\n\nA=1\n  B=x=y \nHOME\nNOPE\n"),
            Ok(["A=1", "B=x=y ", "HOME=/root"].map(ToOwned::to_owned).into())
        );
        assert!(read("=x").is_err());
        assert!(read("A B=x").is_err());
    }
}
