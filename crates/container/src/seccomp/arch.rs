//! Calling conventions of system calls, as seccomp distinguishes them.
//!
//! A kernel announces one by an audit number (linux/audit.h) in `struct seccomp_data`; x32 shares that of x86_64 and
//! marks its call numbers. Big-endian machines and those Atoll does not run on are left out.

/// One calling convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit pointers in x86's 64-bit mode.
    X32,
    /// 32-bit x86.
    X86,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Arch {
    /// How many there are.
    pub(super) const COUNT: usize = 6;

    /// The one this program was built for.
    #[cfg(target_arch = "x86_64")]
    pub const HOST: Self = Self::X86_64;
    /// The one this program was built for.
    #[cfg(target_arch = "aarch64")]
    pub const HOST: Self = Self::Aarch64;
    /// The one this program was built for.
    #[cfg(target_arch = "riscv64")]
    pub const HOST: Self = Self::Riscv64;

    /// The kernel's `AUDIT_ARCH_*` number.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
        }
    }

    /// Whether arguments have 64 bits that count: x32's registers do, but its calls pass 32-bit words in them.
    pub(super) const fn wide(self) -> bool {
        !matches!(self, Self::X32 | Self::X86 | Self::Arm)
    }

    /// Its name in the runtime specification.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X32 => "SCMP_ARCH_X32",
            Self::X86 => "SCMP_ARCH_X86",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
            Self::Riscv64 => "SCMP_ARCH_RISCV64",
        }
    }

    /// Every convention that a kernel of this native architecture can run, itself first.
    pub(crate) const fn family(self) -> &'static [Self] {
        match self {
            Self::X86_64 => &[Self::X86_64, Self::X32, Self::X86],
            Self::X32 => &[Self::X32],
            Self::X86 => &[Self::X86],
            Self::Aarch64 => &[Self::Aarch64, Self::Arm],
            Self::Arm => &[Self::Arm],
            Self::Riscv64 => &[Self::Riscv64],
        }
    }
}
