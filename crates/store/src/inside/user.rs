//! Who a user of a root file system is, by its own `/etc/passwd` and `/etc/group` (passwd(5), group(5)).
//!
//! Numbers need no entry, names do. The files are hostile: regular ones only are read, to a limit.

use std::fs::File;
use std::io::Read;

use rustix::fs::{FileType, OFlags};

use super::{Inside, InsideError, is_kernels, refusal};
use crate::walk::open_item;

/// Most bytes of either file that are read.
const FILE_MAX: u64 = 1 << 20;

impl Inside {
    /// The numbers of `name|uid[:group|gid]`; a user's own group where none is named, and group 0 for a number alone.
    ///
    /// # Errors
    /// There is no such user or group.
    pub fn user(&self, user: &str) -> Result<(u32, u32), InsideError> {
        let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
        let passwd = self.small_file("etc/passwd")?;
        let known = entry(&passwd, name, 4);
        let (uid, own) = match (known, name.parse()) {
            (Some((uid, gid)), _) => (uid, gid),
            (None, Ok(uid)) => (uid, 0),
            (None, Err(_)) => return Err(InsideError::NoUser(name.to_owned())),
        };
        let Some(group) = group else { return Ok((uid, own)) };
        let groups = self.small_file("etc/group")?;
        let gid = entry(&groups, group, 3).map(|(gid, _)| gid).or_else(|| group.parse().ok());
        gid.map(|gid| (uid, gid)).ok_or_else(|| InsideError::NoUser(group.to_owned()))
    }

    /// A file's beginning as text; empty for what is no file.
    fn small_file(&self, path: &str) -> Result<String, InsideError> {
        let refused = |error| refusal(path.as_bytes(), error);
        let Ok(item) = self.open(path.as_bytes(), OFlags::PATH) else { return Ok(String::new()) };
        let stat = rustix::fs::fstat(&item).map_err(refused)?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !regular || is_kernels(&item).map_err(refused)? {
            return Ok(String::new());
        }
        let file = open_item(&item, OFlags::NONBLOCK).map_err(refused)?;
        let mut bytes = Vec::new();
        let read = File::from(file).take(FILE_MAX).read_to_end(&mut bytes);
        read.map_err(|source| InsideError::Refused { path: path.to_owned(), source })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The third and the fourth field of the line with this name or number; at least `fields` fields.
fn entry(file: &str, wanted: &str, fields: usize) -> Option<(u32, u32)> {
    let line = |line: &str| {
        let parts: Vec<&str> = line.trim_end().split(':').collect();
        let is = parts.len() >= fields && (parts[0] == wanted || parts[2] == wanted);
        is.then(|| Some((parts[2].parse().ok()?, parts.get(3).and_then(|field| field.parse().ok()).unwrap_or(0))))?
    };
    file.lines().find_map(line)
}

#[cfg(test)]
mod tests {
    use super::entry;

    #[test]
    fn lines_that_do_not_parse_are_passed_over() {
        let file = "broken\nwww:x:x:5::/:/bin/sh\nwww:x:33:34:web:/srv:/bin/sh\n";
        assert_eq!(entry(file, "www", 4), Some((33, 34)));
        assert_eq!(entry(file, "33", 4), Some((33, 34)));
        assert_eq!(entry(file, "none", 4), None);
        assert_eq!(entry("adm:x:4:root,www\n", "adm", 3), Some((4, 0)));
    }
}
