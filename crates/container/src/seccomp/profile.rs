//! The default policy of a container: Docker's, as facts.
//!
//! Source: the moby project's default seccomp profile (github.com/moby/profiles, `seccomp/default.json`, read November
//! 2026): which calls are allowed always, which only with a capability or on an architecture, and which arguments are
//! let through; calls outside fail with EPERM. A profile is made from a container's capabilities and compiled like any
//! other. Left out: kernels before 4.8, where tracing is unsafe (Atoll's floor is 5.15), and s390, whose clone orders
//! its arguments differently.

use atoll_oci::runtime::{LinuxSeccomp, SeccompAction, SeccompArch, SeccompArg, SeccompOperator, SeccompSyscall};

use super::Arch;

/// Allowed to everyone.
const ALWAYS: &str = "_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
     chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
     clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 \
     epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
     eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate \
     fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr \
     flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate \
     ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list \
     get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 \
     getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid \
     getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday \
     getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
     io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set \
     ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link \
     linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise \
     map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 \
     mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
     mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall \
     munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe \
     pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 \
     process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv \
     recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat \
     renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
     rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max \
     sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
     sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
     sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile \
     sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 \
     setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 \
     setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 \
     setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn \
     socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync \
     sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
     timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 \
     timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat \
     uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// Allowed with a capability of the bounding set.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("CAP_BPF", "bpf"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_PERFMON", "perf_event_open"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYSLOG", "syslog"),
];

/// Tracing and reading one's own processes is safe from Linux 4.8 on, which is below Atoll's floor.
const TRACING: &str = "process_vm_readv process_vm_writev ptrace";

/// `CLONE_NEWCGROUP | NEWIPC | NEWNET | NEWNS | NEWPID | NEWUSER | NEWUTS` (linux/sched.h).
const CLONE_NEW_ANY: u64 = 0x7e02_0000;

/// Socket families (linux/socket.h) below this one may be used.
const FAMILIES_BELOW: u64 = 12;

/// Those above that may be used too. Blocked are dead protocols, AF_ALG (38: the kernel's cryptography, a large surface)
/// and AF_VSOCK (40: it reaches past the container to a hypervisor). Each is compared for equality: the kernel looks at
/// 32 of the argument's 64 bits only, so that "above 40" would let AF_ALG through with a high bit set.
const FAMILIES: [u64; 25] =
    [13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45];

/// Personalities that may be asked for: Linux, 32-bit Linux, each with UNAME26 or not, and "tell me" (0xffffffff).
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Docker's default policy for a container whose bounding set holds `capabilities` (names such as `CAP_SYS_ADMIN`; ones
/// that no rule knows change nothing), on a kernel of native architecture `arch`.
pub fn default_profile<S: AsRef<str>>(capabilities: &[S], arch: Arch) -> LinuxSeccomp {
    let has = |name: &str| capabilities.iter().any(|capability| capability.as_ref() == name);
    let mut syscalls = vec![allow(ALWAYS), allow(TRACING)];
    syscalls.extend(sockets());
    syscalls.extend(PERSONALITIES.iter().map(|value| allow_if("personality", SeccompOperator::Equal, *value, 0)));
    syscalls.extend(architecture(arch).iter().map(|names| allow(names)));
    syscalls.extend(WITH_CAPABILITY.iter().filter(|(name, _)| has(name)).map(|(_, names)| allow(names)));
    if !has("CAP_SYS_ADMIN") {
        // No new namespaces; clone3 hides its flags in memory, and C libraries fall back to clone on ENOSYS.
        syscalls.push(allow_if("clone", SeccompOperator::MaskedEqual, CLONE_NEW_ANY, 0));
        syscalls.push(SeccompSyscall {
            names: vec!["clone3".to_owned()],
            action: SeccompAction::Errno,
            errno_ret: Some(libc::ENOSYS as u32),
            args: Vec::new(),
        });
    }
    LinuxSeccomp {
        default_action: SeccompAction::Errno,
        default_errno_ret: Some(libc::EPERM as u32),
        architectures: architectures(arch),
        flags: Vec::new(),
        listener_path: String::new(),
        listener_metadata: String::new(),
        syscalls,
    }
}

/// The socket families that may be used.
fn sockets() -> impl Iterator<Item = SeccompSyscall> {
    let below = allow_if("socket", SeccompOperator::LessThan, FAMILIES_BELOW, 0);
    let single = |family: &u64| allow_if("socket", SeccompOperator::Equal, *family, 0);
    std::iter::once(below).chain(FAMILIES.iter().map(single))
}

/// What only one architecture allows.
fn architecture(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 | Arch::X32 => &["arch_prctl modify_ldt"],
        Arch::X86 => &["modify_ldt"],
        Arch::Aarch64 | Arch::Arm => {
            &["arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"]
        }
        Arch::Riscv64 => &["riscv_flush_icache"],
    }
}

/// The native architecture and those that its kernel runs beside it.
fn architectures(arch: Arch) -> Vec<SeccompArch> {
    match arch {
        Arch::X86_64 | Arch::X32 => vec![SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32],
        Arch::X86 => vec![SeccompArch::X86],
        Arch::Aarch64 => vec![SeccompArch::Aarch64, SeccompArch::Arm],
        Arch::Arm => vec![SeccompArch::Arm],
        Arch::Riscv64 => vec![SeccompArch::Riscv64],
    }
}

fn allow(names: &str) -> SeccompSyscall {
    SeccompSyscall {
        names: names.split_ascii_whitespace().map(str::to_owned).collect(),
        action: SeccompAction::Allow,
        errno_ret: None,
        args: Vec::new(),
    }
}

/// Allows `name` where its first argument compares well.
fn allow_if(name: &str, op: SeccompOperator, value: u64, value_two: u64) -> SeccompSyscall {
    SeccompSyscall { args: vec![SeccompArg { index: 0, value, value_two, op }], ..allow(name) }
}
