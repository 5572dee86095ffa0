//! Options of `update`: limits as a file in the specification's form, or one by one.

use std::path::PathBuf;

use atoll_oci::runtime::{BlockIo, Cpu, Memory, Pids, Resources};

use super::words::Words;
use super::{Error, one_name};

/// What to change.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Update {
    pub(crate) id: String,
    /// A file in the form of `linux.resources`; `-` is standard input. It stands instead of single limits.
    pub(crate) file: Option<PathBuf>,
    pub(crate) resources: Resources,
}

pub(super) fn update(mut words: Words<'_>) -> Result<Update, Error> {
    let (mut memory, mut cpu) = (Memory::default(), Cpu::default());
    let mut update = Update::default();
    while let Some((option, given)) = words.next_option() {
        let bytes = |words: &mut Words<'_>, given| -> Result<_, Error> {
            let text = words.text(&option, given)?;
            size(&text).ok_or_else(|| Error::Value(option.clone())).map(Some)
        };
        match option.as_str() {
            "--resources" | "-r" => update.file = Some(words.value(&option, given)?.into()),
            "--memory" => memory.limit = bytes(&mut words, given)?,
            "--memory-reservation" => memory.reservation = bytes(&mut words, given)?,
            "--memory-swap" => memory.swap = bytes(&mut words, given)?,
            "--kernel-memory" => memory.kernel = bytes(&mut words, given)?,
            "--kernel-memory-tcp" => memory.kernel_tcp = bytes(&mut words, given)?,
            "--cpu-period" => cpu.period = Some(words.number(&option, given)?),
            "--cpu-quota" => cpu.quota = Some(words.number(&option, given)?),
            "--cpu-burst" => cpu.burst = Some(words.number(&option, given)?),
            "--cpu-share" => cpu.shares = Some(words.number(&option, given)?),
            "--cpu-rt-period" => cpu.realtime_period = Some(words.number(&option, given)?),
            "--cpu-rt-runtime" => cpu.realtime_runtime = Some(words.number(&option, given)?),
            "--cpu-idle" => cpu.idle = Some(words.number(&option, given)?),
            "--cpuset-cpus" => cpu.cpus = words.text(&option, given)?,
            "--cpuset-mems" => cpu.mems = words.text(&option, given)?,
            "--pids-limit" => update.resources.pids = Some(Pids { limit: words.number(&option, given)? }),
            "--blkio-weight" => {
                let weight = Some(words.number(&option, given)?);
                update.resources.block_io = Some(BlockIo { weight, ..BlockIo::default() });
            }
            _ => return words.unknown(&option),
        }
    }
    update.id = one_name("update", &words.operands)?;
    update.resources.memory = Some(memory).filter(|memory| *memory != Memory::default());
    update.resources.cpu = Some(cpu).filter(|cpu| *cpu != Cpu::default());
    let single = update.resources != Resources::default();
    if single == update.file.is_some() {
        return Err(Error::Operands { command: "update", needs: "either --resources or single limits" });
    }
    Ok(update)
}

/// A number of bytes, with `b`, `k`, `m`, `g` or `t` for powers of 1024; -1 is no limit.
fn size(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.strip_suffix('b').unwrap_or(&text);
    let (digits, shift) = match digits.as_bytes().last()? {
        b'k' => (&digits[..digits.len() - 1], 10),
        b'm' => (&digits[..digits.len() - 1], 20),
        b'g' => (&digits[..digits.len() - 1], 30),
        b't' => (&digits[..digits.len() - 1], 40),
        _ => (digits, 0),
    };
    let number = digits.parse::<i64>().ok().filter(|number| *number >= -1)?;
    if number == -1 { Some(-1).filter(|_| shift == 0) } else { number.checked_mul(1 << shift) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [("64m", 64 << 20), ("-1", -1), ("1024", 1024), ("2GB", 2 << 30), ("5b", 5)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "m", "-2", "-1k", "9999999t", "1x"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
