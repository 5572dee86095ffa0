//! A receiver of syslog messages, as the options of the driver name it: where it is, and what it is told (RFC 3164, RFC 5424).

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Options of the driver beside those that others have too.
pub(super) const OPTIONS: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];
/// Where nothing is said.
const PORT: u16 = 514;
const DAEMON: u8 = 3;
/// By their numbers; 12 to 15 have no names.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "",
    "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// A receiver, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Where it is.
    pub address: SyslogAddress,
    /// What kind of program speaks: 0 to 23.
    pub facility: u8,
    /// What a message looks like.
    pub format: SyslogFormat,
}

/// Where a receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// At one of the sockets that this host's own receiver is known to have.
    Local,
    /// At a host and a port, message by message.
    Udp(String),
    /// At a host and a port, over a connection.
    Tcp(String),
    /// At a socket, over a connection.
    Stream(PathBuf),
    /// At a socket, message by message.
    Datagram(PathBuf),
}

/// What a message looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogFormat {
    /// As RFC 3164 has it, without the host's name: what a host's own receiver expects.
    Unix,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424, in whole seconds.
    Rfc5424,
    /// RFC 5424, in microseconds.
    Rfc5424Micro,
}

/// A receiver that there cannot be. The sentences are Docker's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSyslog {
    /// Not an address.
    #[error("syslog-address should be in form proto://address, got {0}")]
    Address(String),
    /// Not a facility.
    #[error("invalid syslog facility")]
    Facility,
    /// Not a format.
    #[error("Invalid syslog format")]
    Format,
    /// A connection that is not built.
    #[error("log opt {0} is not supported by Atoll yet: syslog over TLS is not there, send to a receiver of this host")]
    Tls(String),
}

impl Syslog {
    /// What the options say.
    ///
    /// # Errors
    /// [`BadSyslog`] for the first that makes no sense.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, BadSyslog> {
        if let Some(tls) = options.keys().find(|name| name.starts_with("syslog-tls-")) {
            return Err(BadSyslog::Tls(tls.clone()));
        }
        let option = |name: &str| options.get(name).map_or("", String::as_str);
        Ok(Self {
            address: address(option("syslog-address"))?,
            facility: facility(option("syslog-facility")).ok_or(BadSyslog::Facility)?,
            format: match option("syslog-format") {
                "" => SyslogFormat::Unix,
                "rfc3164" => SyslogFormat::Rfc3164,
                "rfc5424" => SyslogFormat::Rfc5424,
                "rfc5424micro" => SyslogFormat::Rfc5424Micro,
                _ => return Err(BadSyslog::Format),
            },
        })
    }
}

fn address(text: &str) -> Result<SyslogAddress, BadSyslog> {
    if text.is_empty() {
        return Ok(SyslogAddress::Local);
    }
    let bad = || BadSyslog::Address(text.to_owned());
    let (protocol, rest) = text.split_once("://").filter(|(_, rest)| !rest.is_empty()).ok_or_else(bad)?;
    let path = || rest.starts_with('/').then(|| PathBuf::from(rest)).ok_or_else(bad);
    Ok(match protocol {
        "udp" => SyslogAddress::Udp(host(rest).ok_or_else(bad)?),
        "tcp" => SyslogAddress::Tcp(host(rest).ok_or_else(bad)?),
        "unix" => SyslogAddress::Stream(path()?),
        "unixgram" => SyslogAddress::Datagram(path()?),
        "tcp+tls" => return Err(BadSyslog::Tls(format!("syslog-address={text}"))),
        _ => return Err(bad()),
    })
}

/// A host with its port, which is the protocol's where none is named.
fn host(text: &str) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains(['/', ' ', '@']) {
        return None;
    }
    // The colons of an IPv6 address are within brackets.
    let after = text.rfind(']').map_or(0, |bracket| bracket + 1);
    match text[after..].split_once(':') {
        None if !text.is_empty() => Some(format!("{text}:{PORT}")),
        Some((before, port)) if after > 0 || !before.is_empty() => port.parse::<u16>().ok().map(|_| text.to_owned()),
        _ => None,
    }
}

fn facility(text: &str) -> Option<u8> {
    if text.is_empty() {
        return Some(DAEMON);
    }
    let number = FACILITIES.iter().position(|name| *name == text).or_else(|| text.parse().ok())?;
    u8::try_from(number).ok().filter(|number| usize::from(*number) < FACILITIES.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<Syslog, BadSyslog> {
        Syslog::parse(&options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn addresses() {
        let check = |text: &str, expected: SyslogAddress| {
            assert_eq!(parse(&[("syslog-address", text)]).map(|syslog| syslog.address), Ok(expected), "{text}");
        };
        check("", SyslogAddress::Local);
        check("udp://127.0.0.1:5140", SyslogAddress::Udp("127.0.0.1:5140".to_owned()));
        check("udp://[::1]", SyslogAddress::Udp("[::1]:514".to_owned()));
        check("tcp://[::1]:9", SyslogAddress::Tcp("[::1]:9".to_owned()));
        check("tcp://logs.example", SyslogAddress::Tcp("logs.example:514".to_owned()));
        check("unix:///dev/log", SyslogAddress::Stream("/dev/log".into()));
        check("unixgram:///dev/log", SyslogAddress::Datagram("/dev/log".into()));
        for bad in ["127.0.0.1:514", "udp://", "http://x", "unix://log", "tcp://:514", "tcp://a:b", "udp://a/b", "://"]
        {
            assert_eq!(parse(&[("syslog-address", bad)]), Err(BadSyslog::Address(bad.to_owned())));
        }
        assert!(matches!(parse(&[("syslog-address", "tcp+tls://a:1")]), Err(BadSyslog::Tls(_))));
        assert!(matches!(parse(&[("syslog-tls-ca-cert", "/ca")]), Err(BadSyslog::Tls(_))));
    }

    #[test]
    fn facilities_and_formats() {
        let check = |text: &str, expected: Option<u8>| assert_eq!(facility(text), expected, "{text}");
        check("", Some(3));
        check("kern", Some(0));
        check("local7", Some(23));
        check("23", Some(23));
        check("24", None);
        check("-1", None);
        check("wheel", None);
        assert_eq!(parse(&[]).map(|syslog| syslog.format), Ok(SyslogFormat::Unix));
        assert_eq!(parse(&[("syslog-format", "rfc3339")]), Err(BadSyslog::Format));
    }
}
