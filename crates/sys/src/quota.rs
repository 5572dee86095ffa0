//! Project quota: a limit on what all files of one number take of a file system (quotactl(2), ioctl_fs_xattr).
//!
//! A file has a number, its *project*; what is made in a folder that hands its number on has the same. XFS and ext4 count and
//! limit by it where they are mounted so. The calls of the VFS serve both: XFS' own are asked only what is switched on.
//! Left out on purpose: quotas of users and groups, soft limits, times of grace.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Commands of quotactl(2): which, and the kind of quota.
const fn command(which: u32) -> libc::c_ulong {
    const PROJECTS: u32 = 2;
    ((which << 8) | PROJECTS) as libc::c_ulong
}
const GET: libc::c_ulong = command(0x80_0007);
const SET: libc::c_ulong = command(0x80_0008);
/// XFS' question for what is switched on, which every file system with quota answers.
const STATE: libc::c_ulong = command(((b'X' as u32) << 8) + 8);
/// Version of that answer.
const STATE_VERSION: i8 = 1;
/// Its flag for projects whose limits hold.
const ENFORCED: u16 = 1 << 5;
/// Limits of space are set.
const SPACE: u32 = 1;
/// Bytes of a block in which limits are counted.
const BLOCK: u64 = 1024;
/// What is made in a folder has the folder's project.
const HANDED_ON: u32 = 0x200;

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    rest: [u8; 8],
}

/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`.
const GET_ATTRIBUTES: libc::c_ulong = (2 << 30) | ((size_of::<Attributes>() as libc::c_ulong) << 16) | (0x58 << 8) | 31;
const SET_ATTRIBUTES: libc::c_ulong = (1 << 30) | ((size_of::<Attributes>() as libc::c_ulong) << 16) | (0x58 << 8) | 32;

/// `struct if_dqblk` of linux/quota.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    hard_blocks: u64,
    soft_blocks: u64,
    bytes: u64,
    hard_files: u64,
    soft_files: u64,
    files: u64,
    block_time: u64,
    file_time: u64,
    valid: u32,
}

/// `struct fs_quota_statv` of linux/dqblk_xfs.h.
#[repr(C, align(8))]
struct State {
    version: i8,
    pad: u8,
    flags: u16,
    rest: [u8; 156],
}

/// The projects of a file system whose limits hold.
#[derive(Debug)]
pub struct Projects {
    /// A folder of it.
    folder: File,
}

impl Projects {
    /// Those of the file system that `folder` is on; none where it has no project quota, or only counts.
    ///
    /// # Errors
    /// When the folder cannot be opened, or the kernel fails.
    pub fn on(folder: &Path) -> io::Result<Option<Self>> {
        let projects = Self { folder: File::open(folder)? };
        let mut state = State { version: STATE_VERSION, pad: 0, flags: 0, rest: [0; 156] };
        // SAFETY: the kernel writes one `fs_quota_statv`, which is what `state` is laid out as.
        let asked = unsafe { projects.call(STATE, 0, (&raw mut state).cast()) };
        match asked {
            Ok(()) => Ok((state.flags & ENFORCED != 0).then_some(projects)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether nothing is counted for, and no limit set on, a project.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_free(&self, project: u32) -> io::Result<bool> {
        let mut record = Record::default();
        // SAFETY: the kernel writes one `if_dqblk`, which is what `record` is laid out as.
        match unsafe { self.call(GET, project, (&raw mut record).cast()) } {
            Ok(()) => {
                let Record { hard_blocks, soft_blocks, bytes, hard_files, soft_files, files, .. } = record;
                Ok([hard_blocks, soft_blocks, bytes, hard_files, soft_files, files].iter().all(|count| *count == 0))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Limits what a project takes; 0 takes the limit away. The kernel counts in blocks of 1024 bytes: part of one is a whole.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN` on the host.
    pub fn limit(&self, project: u32, bytes: u64) -> io::Result<()> {
        let mut record = Record { hard_blocks: bytes.div_ceil(BLOCK), valid: SPACE, ..Record::default() };
        // SAFETY: the kernel reads one `if_dqblk`, which is what `record` is laid out as.
        unsafe { self.call(SET, project, (&raw mut record).cast()) }
    }

    /// # Safety
    /// `argument` is what `command` reads or writes, and lives through the call.
    unsafe fn call(&self, command: libc::c_ulong, project: u32, argument: *mut libc::c_void) -> io::Result<()> {
        let folder = self.folder.as_raw_fd();
        // SAFETY: the caller vouches for `argument`; the rest are numbers.
        let result = unsafe { libc::syscall(libc::SYS_quotactl_fd, folder, command, project, argument) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// What kernels say where there is no project quota: none of that kind, none at all, not switched on, no such call.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::ESRCH | libc::EOPNOTSUPP | libc::ENOTTY))
}

/// Gives a folder, and everything that will be made in it, to a project.
///
/// # Errors
/// `EOPNOTSUPP` where the file system has no projects.
pub fn give(folder: &Path, project: u32) -> io::Result<()> {
    let folder = File::open(folder)?;
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes one `fsxattr`, which is what `attributes` is laid out as.
    let read = unsafe { libc::ioctl(folder.as_raw_fd(), GET_ATTRIBUTES, &raw mut attributes) };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    attributes.project = project;
    attributes.flags |= HANDED_ON;
    // SAFETY: the kernel reads one `fsxattr`, which is what `attributes` is laid out as.
    let written = unsafe { libc::ioctl(folder.as_raw_fd(), SET_ATTRIBUTES, &raw const attributes) };
    if written == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!((GET_ATTRIBUTES, SET_ATTRIBUTES), (0x801c_581f, 0x401c_5820));
        assert_eq!((size_of::<Record>(), size_of::<State>(), size_of::<Attributes>()), (72, 160, 28));
        assert_eq!(STATE, (0x5808 << 8) | 2);
    }

    #[test]
    fn a_file_system_without_quota_has_no_projects() {
        assert!(Projects::on(Path::new("/proc")).unwrap().is_none());
        assert!(Projects::on(Path::new("/nowhere")).is_err());
    }
}
