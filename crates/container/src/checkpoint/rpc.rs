//! criu's remote procedure calls: `criu swrk FD` serves one request over a `SOCK_SEQPACKET` socket, each message one packet in
//! the encoding of protocol buffers (criu's rpc.proto has the numbers of the fields).
//!
//! Only the few fields that are used are written and read; whatever else comes is skipped.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Longest message in bytes.
const MESSAGE_MAX: usize = 64 << 10;
/// Most fields of a message.
const FIELDS_MAX: usize = 1024;

/// A message under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }

    /// A number or truth value.
    pub(super) fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    pub(super) fn flag(&mut self, field: u32, value: bool) -> &mut Self {
        if value { self.number(field, 1) } else { self }
    }

    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn message(&mut self, field: u32, value: &Self) -> &mut Self {
        self.bytes(field, &value.0)
    }
}

/// A field of a message that came: its number, its value as a number or as bytes.
#[derive(Debug, PartialEq, Eq)]
struct Field<'a> {
    number: u64,
    value: u64,
    bytes: &'a [u8],
}

/// The fields of a message; `None` when it is cut short or in no known form.
fn fields(mut rest: &[u8]) -> Option<Vec<Field<'_>>> {
    fn varint(rest: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, after) = rest.split_first()?;
            *rest = after;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
        let (taken, after) = rest.split_at_checked(length)?;
        *rest = after;
        Some(taken)
    }
    let mut found = Vec::new();
    while !rest.is_empty() && found.len() < FIELDS_MAX {
        let key = varint(&mut rest)?;
        let number = key >> 3;
        let (value, bytes): (u64, &[u8]) = match key & 7 {
            0 => (varint(&mut rest)?, &[]),
            1 => (0, take(&mut rest, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                (0, take(&mut rest, length)?)
            }
            5 => (0, take(&mut rest, 4)?),
            _ => return None,
        };
        found.push(Field { number, value, bytes });
    }
    Some(found)
}

/// What is asked of criu (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Dump = 1,
    Restore = 2,
}

/// Its number for a notification.
const NOTIFY: u64 = 6;

/// What criu says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Answer {
    kind: u64,
    success: bool,
    /// Of a restored process.
    restored: i32,
    /// What a notification is about, and the first process then.
    script: String,
    pid: i32,
    error: String,
}

impl Answer {
    fn read(message: &[u8]) -> Option<Self> {
        let mut answer = Self::default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let pid = |value: u64| i32::try_from(value).unwrap_or_default();
        for field in fields(message)? {
            match field.number {
                1 => answer.kind = field.value,
                2 => answer.success = field.value != 0,
                4 => answer.restored = fields(field.bytes)?.iter().find(|f| f.number == 1).map_or(0, |f| pid(f.value)),
                5 => {
                    for part in fields(field.bytes)? {
                        match part.number {
                            1 => answer.script = text(part.bytes),
                            2 => answer.pid = pid(part.value),
                            _ => {}
                        }
                    }
                }
                9 => answer.error = text(field.bytes),
                _ => {}
            }
        }
        Some(answer)
    }
}

/// A criu that serves one request.
#[derive(Debug)]
pub(super) struct Session {
    socket: OwnedFd,
    process: Child,
}

impl Session {
    /// Starts `program`; `enter` is run in it before it is executed.
    pub(super) fn start(
        program: &Path,
        enter: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (socket, theirs) = atoll_sys::fd::pair()?;
        atoll_sys::fd::keep_on_exec(&theirs)?;
        let mut command = Command::new(program);
        command.arg("swrk").arg(theirs.as_raw_fd().to_string()).stdin(Stdio::null());
        // SAFETY: the caller has one thread, so that the child may do whatever the parent may.
        unsafe { command.pre_exec(enter) };
        Ok(Self { socket, process: command.spawn()? })
    }

    /// The number of criu's process.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Has the request carried out; `notified` hears of each point on the way with the first process's number, and what it
    /// returns as an error stops criu. Gives the number of a restored process.
    pub(super) fn carry_out(
        mut self,
        request: Request,
        options: &Message,
        mut notified: impl FnMut(&str, i32) -> Result<(), String>,
    ) -> Result<i32, String> {
        let failed = |error: io::Error| format!("cannot talk to criu: {error}");
        let mut message = Message::default();
        message.number(1, request as u64).message(2, options);
        atoll_sys::fd::send(&self.socket, &message.0, None).map_err(failed)?;
        let mut refused = None;
        let outcome = loop {
            let Some((message, _)) = atoll_sys::fd::receive(&self.socket, MESSAGE_MAX).map_err(failed)? else {
                break Err("criu ended without an answer".to_owned());
            };
            let answer = Answer::read(&message).ok_or("criu's answer cannot be read")?;
            if answer.kind != NOTIFY {
                break if answer.success { Ok(answer.restored) } else { Err(answer.error) };
            }
            let said = notified(&answer.script, answer.pid);
            let mut reply = Message::default();
            reply.number(1, NOTIFY).number(3, u64::from(said.is_ok()));
            refused = refused.or(said.err());
            atoll_sys::fd::send(&self.socket, &reply.0, None).map_err(failed)?;
        };
        // It ends by itself as soon as its socket is closed.
        drop(self.socket);
        let _ = self.process.wait();
        match refused {
            Some(why) => Err(why),
            None => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_protocol_buffers_have_them() {
        let mut inner = Message::default();
        inner.bytes(1, b"key").number(2, 300);
        let mut message = Message::default();
        message.number(34, 3).flag(3, true).flag(4, false).message(27, &inner);
        // Field 34 needs two bytes for its key.
        assert_eq!(message.0, [0x90, 0x02, 3, 0x18, 1, 0xda, 0x01, 8, 0x0a, 3, b'k', b'e', b'y', 0x10, 0xac, 0x02]);
        let read = fields(&message.0).expect("it reads");
        assert_eq!(read.iter().map(|field| field.number).collect::<Vec<_>>(), [34, 3, 27]);
        assert_eq!(fields(read[2].bytes).expect("it reads")[1].value, 300);
        for cut in 1..message.0.len() {
            // Whatever is cut inside a field is refused, never read past its end.
            let _ = fields(&message.0[..cut]);
        }
        for bad in [
            &[0x0a][..],
            &[0x0a, 5, 1],
            &[0x0b],
            &[0xff; 11],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ] {
            assert_eq!(fields(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn answers() {
        let mut notify = Message::default();
        notify.bytes(1, b"post-restore").number(2, 77);
        let mut answer = Message::default();
        answer.number(1, NOTIFY).number(2, 1).message(5, &notify);
        let read = Answer::read(&answer.0).expect("it reads");
        assert_eq!((read.kind, read.success, read.script.as_str(), read.pid), (NOTIFY, true, "post-restore", 77));
    }
}
