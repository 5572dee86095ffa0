//! A virtual machine with Debian's cloud kernel, for tests that need another kernel configuration than the host's.
//!
//! QEMU boots the kernel with an initramfs of busybox and the files that a test adds (programs of the host with their shared
//! libraries too), runs one script as root and hands back what it wrote to the console. The *full host* has Debian's systemd,
//! message bus and sessions too (module `system`): the script is a service there. Kernel and packages come from Debian's
//! archive and are kept below the build's `target` folder. Without KVM the machine is emulated: seconds become minutes, so
//! that time limits are generous.

mod kernel;
mod system;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Seconds that a machine may take altogether.
const PATIENCE: &str = "1500";
/// How often a machine is booted whose kernel ends before the script begins: an emulated processor may miss that another one
/// has rewritten an instruction (a jump label), and stops at what was there for a moment.
const BOOTS: u32 = 3;
/// Line of the console that ends the script's output, followed by its exit code.
const END: &str = "=== the script has ended: ";
/// Line that begins it.
const BEGIN: &str = "=== the script begins";
/// The series of kernels that a machine gets without another wish.
const SERIES: &str = "6.12";
/// Modules that every machine loads: the cloud kernels do not have them built in.
const MODULES: [&str; 1] = ["overlay"];

/// What a kernel need not do in an emulated processor, which leaks nothing (mitigations), whose clock is right, and which spends
/// its time on emptying memory and on waiting for grace periods.
const SPEED: &str = "mitigations=off init_on_alloc=0 tsc=reliable rcupdate.rcu_expedited=1";

/// What a script said, and its exit code.
#[derive(Debug)]
pub struct Outcome {
    /// Standard output and error.
    pub output: String,
    /// `None` when the machine ended before the script did.
    pub code: Option<i32>,
}

/// A machine to be booted once.
#[derive(Debug)]
pub struct Machine {
    kernel: PathBuf,
    /// The full host's files.
    system: Option<PathBuf>,
    root: tempfile::TempDir,
    cmdline: String,
}

fn run(command: &mut Command) -> io::Result<Output> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{command:?}: {said}")))
}

fn only(folder: &Path, prefix: &str) -> io::Result<PathBuf> {
    let paths = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    paths.filter(named).max().ok_or_else(|| io::Error::other(format!("no {prefix}… in {}", folder.display())))
}

/// Makes the folder of what was downloaded, and keeps other tests from it as long as the file is open.
fn locked(cache: &Path) -> io::Result<File> {
    fs::create_dir_all(cache)?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Folders of programs and libraries below `/usr`, and the links to them that Debian has.
fn make_merged_folders(root: &Path) -> io::Result<()> {
    for folder in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(folder))?;
        symlink(Path::new("usr").join(folder), root.join(folder))?;
    }
    Ok(())
}

impl Machine {
    /// A machine whose kernel gets `cmdline` too. `None`, said aloud, where it cannot be had.
    ///
    /// # Panics
    /// When temporary files cannot be made.
    #[must_use]
    pub fn new(cmdline: &str) -> Option<Self> {
        Self::with_kernel(SERIES, &[], cmdline)
    }

    /// The same with the kernel of another series (`6.1`), which loads `modules` too.
    ///
    /// # Panics
    /// When temporary files cannot be made.
    #[must_use]
    pub fn with_kernel(series: &str, modules: &[&str], cmdline: &str) -> Option<Self> {
        Self::with(series, |kernel, _| Self::prepare(kernel, None, modules, cmdline))
    }

    /// The full host: systemd, a message bus, sessions for the ordinary user `tester` (1000), `runc`; version 2 of control
    /// groups alone. `None`, said aloud, where it cannot be had.
    ///
    /// # Panics
    /// When temporary files cannot be made.
    #[must_use]
    pub fn full_host() -> Option<Self> {
        Self::full_host_with_kernel(SERIES, &[])
    }

    /// The same with the kernel of another series, which loads `modules` too.
    ///
    /// # Panics
    /// When temporary files cannot be made.
    #[must_use]
    pub fn full_host_with_kernel(series: &str, modules: &[&str]) -> Option<Self> {
        Self::with_system(series, modules, "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1")
    }

    /// The full host with systemd's hybrid hierarchies: version 1 of every controller, version 2 with none. Its kernel is
    /// Debian 12's own: later ones have no memory controller in version 1. `None`, said aloud, where it cannot be had.
    ///
    /// # Panics
    /// When temporary files cannot be made.
    #[must_use]
    pub fn hybrid_host() -> Option<Self> {
        Self::with_system("6.1", &[], "systemd.unified_cgroup_hierarchy=0")
    }

    fn with_system(series: &str, modules: &[&str], hierarchies: &str) -> Option<Self> {
        let cmdline = format!("{hierarchies} {}", system::CMDLINE);
        let modules = [&system::MODULES[..], modules].concat();
        Self::with(series, |kernel, cache| Self::prepare(kernel, Some(system::unpacked(cache)?), &modules, &cmdline))
    }

    /// What `prepare` makes of a kernel and the folder of what was downloaded.
    #[allow(clippy::print_stdout, reason = "a test that is skipped says so")]
    fn with(series: &str, prepare: impl FnOnce(PathBuf, &Path) -> io::Result<Self>) -> Option<Self> {
        for program in ["qemu-system-x86_64", "cpio", "/bin/busybox", "dpkg-deb"] {
            if Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
                println!("skipped: needs {program}");
                return None;
            }
        }
        let cache = crate::program("atoll").parent().map_or_else(|| "target".into(), |bin| bin.join("machine"));
        let machine = locked(&cache).and_then(|_lock| prepare(kernel::kernel(&cache, series)?, &cache));
        match machine {
            Ok(machine) => Some(machine),
            Err(error) => {
                println!("skipped: needs packages of Debian's: {error}");
                None
            }
        }
    }

    fn prepare(kernel: PathBuf, system: Option<PathBuf>, modules: &[&str], cmdline: &str) -> io::Result<Self> {
        let root = tempfile::tempdir()?;
        let machine = Self { kernel, system, root, cmdline: cmdline.to_owned() };
        make_merged_folders(machine.root.path())?;
        let bin = machine.root.path().join("usr/bin");
        fs::copy("/bin/busybox", bin.join("busybox"))?;
        symlink("busybox", bin.join("sh"))?;
        let folder = machine.root.path().join("modules");
        fs::create_dir_all(&folder)?;
        let version = only(&machine.kernel.join("lib/modules"), "6.")?;
        for (index, file) in kernel::modules(&version, &[&MODULES, modules].concat())?.iter().enumerate() {
            fs::write(folder.join(format!("{index:02}")), kernel::plain_module(file)?)?;
        }
        Ok(machine)
    }

    /// Puts a file of the host into the machine.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn add(&self, host: &Path, guest: &str) -> io::Result<()> {
        let target = self.root.path().join(guest.trim_start_matches('/'));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(host, target).map(|_| ())
    }

    /// Puts a program of the host, found by its name, into the machine's `/bin`, with the shared libraries that it names.
    ///
    /// # Errors
    /// When the host has none, or it cannot be copied.
    pub fn add_program(&self, name: &str) -> io::Result<()> {
        let found = run(Command::new("sh").args(["-c", "command -v \"$0\"", name]))?;
        let path = fs::canonicalize(String::from_utf8_lossy(&found.stdout).trim())?;
        self.add(&path, &format!("/bin/{name}"))?;
        // Fails for what is linked statically.
        let libraries = run(Command::new("ldd").arg(&path)).map(|output| output.stdout).unwrap_or_default();
        let libraries = String::from_utf8_lossy(&libraries).into_owned();
        let mut paths =
            libraries.lines().filter_map(|line| line.split_ascii_whitespace().find(|word| word.starts_with('/')));
        paths.try_for_each(|path| self.add(&fs::canonicalize(path)?, path))
    }

    /// Boots, runs `script` with busybox' shell, and powers off.
    ///
    /// # Errors
    /// When the machine cannot be started.
    pub fn run(&self, script: &str) -> io::Result<Outcome> {
        let root = self.root.path();
        let second = if self.system.is_some() { system::SECOND } else { SECOND };
        for (name, text) in [("init", INIT), ("second", second), ("script", script)] {
            let path = root.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        let image = tempfile::NamedTempFile::new()?;
        // The kernel takes several archives one behind the other.
        for folder in self.system.as_deref().into_iter().chain([root]) {
            let pack = format!("find . | cpio --quiet -o -H newc >> {}", image.path().display());
            run(Command::new("sh").args(["-c", &pack]).current_dir(folder))?;
        }
        let append = format!("console=ttyS0 quiet panic=-1 {SPEED} {}", self.cmdline);
        let mut text = String::new();
        for _ in 0..BOOTS {
            text = self.boot(&append, image.path())?;
            if text.contains(BEGIN) {
                break;
            }
        }
        let said = text.split_once(BEGIN).map_or(text.as_str(), |(_, said)| said);
        let (said, end) = said.split_once(END).unwrap_or((said, ""));
        let code = end.lines().next().and_then(|line| line.trim().parse().ok());
        Ok(Outcome { output: said.trim_start().to_owned(), code })
    }

    /// Boots once; gives what came to the console, and QEMU's own words.
    fn boot(&self, append: &str, image: &Path) -> io::Result<String> {
        let kvm = Path::new("/dev/kvm").exists() && std::env::var_os("ATOLL_TEST_KVM").is_some();
        // One thread for all processors: see BOOTS.
        let accelerator = if kvm { "kvm" } else { "tcg,thread=single" };
        let output = Command::new("timeout")
            .args([PATIENCE, "qemu-system-x86_64", "-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", "2048"])
            .args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio", "-append", append])
            .arg("-kernel")
            .arg(only(&self.kernel.join("boot"), "vmlinuz")?)
            .arg("-initrd")
            .arg(image)
            .stdin(Stdio::null())
            .output()?;
        let console = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        Ok(console + &String::from_utf8_lossy(&output.stderr))
    }
}

/// The first program: an initramfs cannot be pivoted away from, so its files go to a tmpfs.
const INIT: &str = "#!/bin/sh
busybox=/bin/busybox
$busybox mkdir -p /proc /new
$busybox mount -t proc proc /proc
for module in /modules/*; do $busybox insmod $module; done
$busybox mount -t tmpfs -o size=90% tmpfs /new
for item in /*; do
    case $item in /proc | /sys | /dev | /new | /init | /modules) ;; *) $busybox cp -a $item /new ;; esac
done
$busybox mkdir -p /new/proc /new/sys /new/dev
exec $busybox switch_root /new /second
";

/// What a running system has: kernel file systems, and a control group of its own for this script.
const SECOND: &str = "#!/bin/sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mkdir -p /proc /sys /dev /tmp /run /etc /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/script
echo 1 > /sys/fs/cgroup/script/cgroup.procs
ifconfig lo up
echo root:x:0:0:root:/root:/bin/sh > /etc/passwd
echo root:x:0: > /etc/group
echo '=== the script begins'
sh /script 2>&1
echo \"=== the script has ended: $?\"
poweroff -f
";
