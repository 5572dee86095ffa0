//! Users and groups by name, as an image's `/etc/passwd` and `/etc/group` have them (passwd(5), group(5)).
//!
//! The files are hostile: opened inside the root by the caller, who gives regular ones only, and read to at most
//! [`FILE_MAX`] bytes; lines that do not parse are skipped. Numbers need no entry, names do. Nothing but these two files is asked.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use atoll_oci::runtime::User;

/// Most bytes of either file that are read.
const FILE_MAX: u64 = 1 << 20;

/// Who a process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Why a user was not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No entry has this name.
    #[error("{0} is unknown")]
    Unknown(String),
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Io(String, #[source] io::Error),
}

/// Looks `user` up (`name|uid[:group|gid]`); empty keeps the numbers of `numbers` and takes only the home from there. The
/// groups `more` (names or numbers) come on top.
pub(crate) fn resolve(
    user: &str,
    more: &[String],
    numbers: &User,
    mut open: impl FnMut(&str) -> io::Result<Option<OwnedFd>>,
) -> Result<Account, Error> {
    let mut read = |path: &str| match open(path) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(String::new()),
        Err(error) => Err(Error::Io(path.to_owned(), error)),
        Ok(None) => Ok(String::new()),
        Ok(Some(fd)) => {
            let mut text = Vec::new();
            let read = File::from(fd).take(FILE_MAX).read_to_end(&mut text);
            read.map_err(|error| Error::Io(path.to_owned(), error))?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
    };
    let passwd = read("/etc/passwd")?;
    let group = if user.is_empty() && more.is_empty() { String::new() } else { read("/etc/group")? };
    let mut additional = numbers.additional_gids.clone();
    for name in more {
        additional.push(group_number(name, &group)?);
    }
    if user.is_empty() {
        let home = accounts(&passwd).find(|(_, uid, ..)| *uid == numbers.uid).map(|(.., home)| home.to_owned());
        return Ok(Account {
            uid: numbers.uid,
            gid: numbers.gid,
            groups: additional,
            home: home.filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned()),
        });
    }
    look_up(user, &additional, &passwd, &group)
}

/// A group by its name; one that no entry has is a number.
fn group_number(name: &str, group: &str) -> Result<u32, Error> {
    let by_name = groups(group).find(|(entry, ..)| *entry == name).map(|(_, gid, _)| gid);
    by_name.or_else(|| name.parse().ok()).ok_or_else(|| Error::Unknown(format!("group {name}")))
}

fn look_up(user: &str, additional: &[u32], passwd: &str, group: &str) -> Result<Account, Error> {
    let (name, wanted_group) = user.split_once(':').map_or((user, ""), |(name, group)| (name, group));
    // A name that is a number is that user, entry or not; an entry of that very name comes first.
    let number = name.parse::<u32>().ok();
    let entry = accounts(passwd)
        .find(|(entry, ..)| *entry == name)
        .or_else(|| accounts(passwd).find(|(_, uid, ..)| Some(*uid) == number));
    let mut account = match (entry, number) {
        (Some((_, uid, gid, home)), _) => Account { uid, gid, groups: Vec::new(), home: home.to_owned() },
        (None, Some(uid)) => Account { uid, ..Account::default() },
        (None, None) if name.is_empty() => Account::default(),
        (None, None) => return Err(Error::Unknown(format!("user {name}"))),
    };
    if wanted_group.is_empty() {
        if let Some((entry, ..)) = entry {
            account.groups =
                groups(group).filter(|(.., members)| members.split(',').any(|m| m == entry)).map(|g| g.1).collect();
        }
    } else {
        account.gid = group_number(wanted_group, group)?;
    }
    account.groups.extend(additional);
    account.groups.sort_unstable();
    account.groups.dedup();
    if account.home.is_empty() {
        account.home.push('/');
    }
    Ok(account)
}

/// Name, uid, gid, home of each entry.
fn accounts(passwd: &str) -> impl Iterator<Item = (&str, u32, u32, &str)> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _) = (fields.next().filter(|name| !name.is_empty())?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let _comment = fields.next()?;
        Some((name, uid, gid, fields.next()?))
    })
}

/// Name, gid, members of each entry.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _) = (fields.next().filter(|name| !name.is_empty())?, fields.next()?);
        Some((name, fields.next()?.parse().ok()?, fields.next().unwrap_or("")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:9:9::/:\nweb:x:33:34:w:/var/www:/bin/sh\n1000:x:7:8::/odd:\nbad:x:a:b::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nadm:x:4:web,root\ntty:x:5:other,web\nnum:x:77:\n";

    #[track_caller]
    fn check(user: &str, expected: Option<(u32, u32, &[u32], &str)>) {
        let found = look_up(user, &[], PASSWD, GROUP).ok();
        let found = found.as_ref().map(|a| (a.uid, a.gid, a.groups.as_slice(), a.home.as_str()));
        assert_eq!(found, expected, "{user}");
    }

    #[test]
    fn further_groups() {
        let of = |user: &str, more: &[&str]| {
            let more: Vec<String> = more.iter().map(|&name| name.to_owned()).collect();
            let files = |path: &str| {
                let text = if path == "/etc/group" { GROUP } else { PASSWD };
                let (read, write) = rustix::pipe::pipe()?;
                io::Write::write_all(&mut File::from(write), text.as_bytes())?;
                Ok(Some(read))
            };
            resolve(user, &more, &User::default(), files).map(|account| account.groups)
        };
        assert_eq!(of("", &["adm", "99"]).unwrap(), [4, 99]);
        assert_eq!(of("web", &["num"]).unwrap(), [4, 5, 77]);
        assert!(matches!(of("", &["nobody"]), Err(Error::Unknown(what)) if what == "group nobody"));
    }

    #[test]
    fn names_and_numbers() {
        check("root", Some((0, 0, &[4], "/root")));
        check("web", Some((33, 34, &[4, 5], "/var/www")));
        check("33", Some((33, 34, &[4, 5], "/var/www")));
        check("web:adm", Some((33, 4, &[], "/var/www")));
        check("web:4242", Some((33, 4242, &[], "/var/www")));
        check("4242", Some((4242, 0, &[], "/")));
        check("4242:num", Some((4242, 77, &[], "/")));
        check("1000", Some((7, 8, &[], "/odd")));
        check(":adm", Some((0, 4, &[], "/")));
        check("nobody", None);
        check("web:nobody", None);
        check("-1", None);
        check("4294967296", None);
    }
}
