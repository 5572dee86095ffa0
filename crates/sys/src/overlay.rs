//! Overlay mounts (overlayfs, `userxattr`), made detached where the kernel can.
//!
//! Layers go one option each from kernel 6.8 on; before, all of them share one page of options, for which their names are
//! kept short and relative to one folder. Either way the caller's working directory becomes that folder, and kernels before
//! 6.8 mount over it for a moment: call this in a mount namespace of your own.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};
use rustix::thread::UnshareFlags;

/// Longest options of mount(2): one page, terminator included.
const OPTIONS_MAX: usize = 4095;

/// What is laid over what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The folder that `lowers` is relative to.
    pub base: PathBuf,
    /// The layers, top first; two at least where there is no `writable`.
    pub lowers: Vec<String>,
    /// Where writes go; without it nothing can be written.
    pub writable: Option<Writable>,
}

/// The writable part of an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writable {
    /// The layer that is written to.
    pub upper: PathBuf,
    /// Overlayfs's own folder, on the same file system.
    pub work: PathBuf,
    /// Whether writes may be lost with the host. The kernel then refuses `work` a second time (`EINVAL`) until
    /// `work/incompat/volatile` below it is removed.
    pub volatile: bool,
}

impl Overlay {
    /// Makes the mount; it is attached nowhere.
    ///
    /// # Errors
    /// `ENOENT` for a folder that is not there, `EINVAL` for what overlayfs refuses, `E2BIG` when the names of the layers
    /// exceed what an older kernel takes.
    pub fn mount(&self) -> io::Result<OwnedFd> {
        rustix::process::chdir(&self.base)?;
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (index, lower) in self.lowers.iter().enumerate() {
            match fsconfig_set_string(&context, "lowerdir+", lower.as_str()) {
                // Kernels before 6.8 know one option for all layers only.
                Err(Errno::INVAL) if index == 0 => return self.classic_mount(),
                other => other?,
            }
        }
        if let Some(writable) = &self.writable {
            fsconfig_set_string(&context, "upperdir", &writable.upper)?;
            fsconfig_set_string(&context, "workdir", &writable.work)?;
            if writable.volatile {
                fsconfig_set_flag(&context, "volatile")?;
            }
        }
        fsconfig_set_flag(&context, "userxattr")?;
        fsconfig_create(&context)?;
        Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
    }

    /// As the options of mount(2), mounted over the folder we are in, picked up from there and taken away again.
    fn classic_mount(&self) -> io::Result<OwnedFd> {
        let options = self.classic_options()?;
        rustix::mount::mount("overlay", ".", "overlay", MountFlags::empty(), Some(options.as_c_str()))?;
        let mounted = open_folder(&self.base)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let detached = open_tree(&mounted, "", flags)?;
        rustix::mount::unmount(&self.base, UnmountFlags::DETACH)?;
        Ok(detached)
    }

    fn classic_options(&self) -> io::Result<CString> {
        let special = |name: &str| name.contains([',', ':', '\\', '\0']);
        let invalid = || io::Error::from(Errno::INVAL);
        let mut options = format!("lowerdir={}", self.lowers.join(":"));
        let mut special_name = self.lowers.iter().any(|name| special(name));
        if let Some(Writable { upper, work, volatile }) = &self.writable {
            let (Some(upper), Some(work)) = (upper.to_str(), work.to_str()) else { return Err(invalid()) };
            special_name |= special(upper) || special(work);
            options.push_str(&format!(",upperdir={upper},workdir={work}"));
            if *volatile {
                options.push_str(",volatile");
            }
        }
        if special_name {
            return Err(invalid());
        }
        options.push_str(",userxattr");
        if options.len() > OPTIONS_MAX {
            return Err(Errno::TOOBIG.into());
        }
        CString::new(options).map_err(|_| invalid())
    }
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Runs `work` on a thread of its own with a working directory and a mount namespace of its own, cut off from the host's.
/// Descriptors of mounts that it returns stay usable.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN, `EAGAIN` when no thread can be started.
pub fn privately<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let inside = move || -> io::Result<T> {
        // SAFETY: only what this new thread sees of mounts, its working directory and umask are unshared; the table of
        // descriptors stays shared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }?;
        rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        Ok(work())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mounts".to_owned()).spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|reason| std::panic::resume_unwind(reason))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lowers: usize, name: &str) -> Overlay {
        let writable = Writable { upper: "/u".into(), work: "/w".into(), volatile: true };
        let lowers = (0..lowers).map(|index| format!("{name}{index}")).collect();
        Overlay { base: "/b".into(), lowers, writable: Some(writable) }
    }

    #[test]
    fn options_of_older_kernels() {
        let options = of(2, "l").classic_options().unwrap();
        assert_eq!(options.to_str().unwrap(), "lowerdir=l0:l1,upperdir=/u,workdir=/w,volatile,userxattr");
        let read_only = Overlay { writable: None, ..of(2, "l") };
        assert_eq!(read_only.classic_options().unwrap().to_str().unwrap(), "lowerdir=l0:l1,userxattr");
        // 127 names of 24 characters and more fit one page.
        assert!(of(127, &"x".repeat(24)).classic_options().is_ok());
        assert!(of(127, &"x".repeat(64)).classic_options().is_err());
        for name in ["a,b", "a:b", "a\\", "a\0"] {
            assert!(of(1, name).classic_options().is_err(), "{name:?}");
        }
    }

    #[test]
    fn layers_are_merged_both_ways() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: needs root");
            return;
        }
        let base = tempfile::tempdir().unwrap();
        for (layer, file) in [("top", "a"), ("bottom", "b")] {
            std::fs::create_dir(base.path().join(layer)).unwrap();
            std::fs::write(base.path().join(layer).join(file), layer).unwrap();
        }
        let lowers = vec!["top".to_owned(), "bottom".to_owned()];
        let overlay = Overlay { base: base.path().to_owned(), lowers, writable: None };
        for mount in [Overlay::mount, Overlay::classic_mount_here] {
            let root = privately(|| mount(&overlay)).unwrap().unwrap();
            for (file, layer) in [("a", "top"), ("b", "bottom")] {
                let file = rustix::fs::openat(&root, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
                assert_eq!(io::read_to_string(std::fs::File::from(file)).unwrap(), layer);
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(base.path().to_str().unwrap()), "a mount was left on the host");
    }

    impl Overlay {
        fn classic_mount_here(&self) -> io::Result<OwnedFd> {
            rustix::process::chdir(&self.base)?;
            self.classic_mount()
        }
    }
}
