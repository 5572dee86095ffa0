//! The audit log: a line of JSON for each request that may change something, with who asked and what came of it.
//!
//! Lines are written by a thread of their own, in the order of the answers; requests never wait for the disk. Where it cannot
//! keep up, or the disk is full, lines are lost, counted, and their number is told by the next line that is written. The file is
//! rotated at a size; so many older ones are kept.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

use anyhow::{Context, Result};
use axum::http::{HeaderMap, Method, StatusCode, header};
use rustix::fs::OFlags;
use serde::Serialize;
use serde_json::json;

use crate::stream::Peer;

/// Lines that wait to be written.
const QUEUED: usize = 1024;
/// Characters of a request's address that are kept.
const ADDRESS_MAX: usize = 1024;
/// Whoever reads it learns what every user does.
const MODE: u32 = 0o600;

/// Where lines go, and how much of them is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) file: PathBuf,
    pub(crate) file_bytes: u64,
    /// The current one included.
    pub(crate) files: u32,
}

/// Takes what is to be written.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    lines: SyncSender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

/// What a line says.
#[derive(Debug)]
pub(crate) struct Entry {
    peer: Peer,
    method: Method,
    address: String,
}

impl Entry {
    /// None for a request that only looks.
    pub(crate) fn of(peer: &Peer, method: &Method, address: &str, headers: &HeaderMap) -> Option<Self> {
        let looks = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        // What is upgraded may be written to.
        if looks && !headers.contains_key(header::UPGRADE) {
            return None;
        }
        let address = address.chars().take(ADDRESS_MAX).collect();
        Some(Self { peer: peer.clone(), method: method.clone(), address })
    }

    fn line(&self, status: StatusCode, milliseconds: u128) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'a> {
            time: String,
            who: serde_json::Value,
            method: &'a str,
            request: &'a str,
            status: u16,
            milliseconds: u128,
        }
        let who = match &self.peer {
            Peer::Process { uid, gid, pid } => json!({"uid": uid, "gid": gid, "pid": pid}),
            Peer::Certificate { address, subject } => json!({"subject": subject, "address": address}),
            Peer::Loopback { address } => json!({"address": address}),
        };
        let line = Line {
            time: now(),
            who,
            method: self.method.as_str(),
            request: &self.address,
            status: status.as_u16(),
            milliseconds,
        };
        serde_json::to_vec(&line).expect("a line is plain data with string keys")
    }
}

impl Audit {
    /// Opens the file; from then on lines are written.
    pub(crate) fn start(plan: Plan) -> Result<Self> {
        let log = Log::open(plan)?;
        let (lines, received) = sync_channel(QUEUED);
        let lost = Arc::new(AtomicU64::new(0));
        let lost_there = Arc::clone(&lost);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || write(log, &received, &lost_there))?;
        Ok(Self { lines, lost })
    }

    /// Says how a request was answered.
    pub(crate) fn say(&self, entry: &Entry, status: StatusCode, milliseconds: u128) {
        if self.lines.try_send(entry.line(status, milliseconds)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that are lost and have not been told of.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

fn now() -> String {
    atoll_api::docker::fixed_rfc3339(SystemTime::now().into())
}

fn write(mut log: Log, lines: &Receiver<Vec<u8>>, lost: &AtomicU64) {
    while let Ok(line) = lines.recv() {
        let missing = lost.swap(0, Ordering::Relaxed);
        let told = missing == 0 || log.append(json!({"time": now(), "lost": missing}).to_string().into_bytes()).is_ok();
        let missing = if told { 0 } else { missing };
        let failed = u64::from(log.append(line).is_err());
        if missing + failed > 0 {
            tracing::error!(file = %log.plan.file.display(), "the audit log cannot be written");
            lost.fetch_add(missing + failed, Ordering::Relaxed);
        }
    }
}

/// The file that is written.
#[derive(Debug)]
struct Log {
    plan: Plan,
    file: File,
    bytes: u64,
}

impl Log {
    fn open(plan: Plan) -> Result<Self> {
        let opening = || format!("opening the audit log {}", plan.file.display());
        if let Some(folder) = plan.file.parent() {
            std::fs::create_dir_all(folder).with_context(opening)?;
        }
        let file = open(&plan.file).with_context(opening)?;
        let bytes = file.metadata().with_context(opening)?.len();
        Ok(Self { plan, file, bytes })
    }

    fn append(&mut self, mut line: Vec<u8>) -> std::io::Result<()> {
        line.push(b'\n');
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.plan.file_bytes {
            self.rotate()?;
        }
        self.file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// `audit.log` becomes `audit.log.1`, that `audit.log.2`, and so on.
    fn rotate(&mut self) -> std::io::Result<()> {
        let numbered = |number: u32| match number {
            0 => self.plan.file.clone(),
            _ => PathBuf::from(format!("{}.{number}", self.plan.file.display())),
        };
        for number in (1..self.plan.files).rev() {
            match std::fs::rename(numbered(number - 1), numbered(number)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.plan.files == 1 {
            self.file.set_len(0)?;
        } else {
            self.file = open(&self.plan.file)?;
        }
        self.bytes = 0;
        Ok(())
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().create(true).append(true).mode(MODE).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn entry(method: &Method, address: &str) -> Option<Entry> {
        let peer = Peer::Process { uid: 7, gid: 8, pid: Some(9) };
        Entry::of(&peer, method, address, &HeaderMap::new())
    }

    #[test]
    fn what_only_looks_is_not_told() {
        assert!(entry(&Method::GET, "/info").is_none() && entry(&Method::HEAD, "/info").is_none());
        assert!(entry(&Method::POST, "/containers/create").is_some() && entry(&Method::DELETE, "/x").is_some());
        let mut upgrade = HeaderMap::new();
        upgrade.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        let peer = Peer::Process { uid: 7, gid: 8, pid: None };
        assert!(Entry::of(&peer, &Method::GET, "/containers/x/attach/ws", &upgrade).is_some());
    }

    #[test]
    fn files_are_rotated_at_their_size_and_so_many_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("audit.log");
        let mut log = Log::open(Plan { file: file.clone(), file_bytes: 30, files: 3 }).expect("it opens");
        for number in 0..10 {
            log.append(format!(r#"{{"number": {number}}}"#).into_bytes()).expect("it is written");
        }
        let numbers = |path: &Path| read(path).iter().map(|line| line["number"].as_u64().expect("a number")).collect();
        let all: Vec<Vec<u64>> = ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"]
            .map(|name| numbers(&folder.path().join(name)))
            .to_vec();
        assert_eq!(all, [vec![8, 9], vec![6, 7], vec![4, 5], vec![]]);
        // What is there already counts.
        let mut log = Log::open(Plan { file: file.clone(), file_bytes: 30, files: 1 }).expect("it opens");
        log.append(br#"{"number": 11}"#.to_vec()).expect("it is written");
        let left: Vec<u64> = numbers(&file);
        assert_eq!(left, [11]);
    }

    #[test]
    fn lines_say_who_and_what_and_how_it_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a/audit.log");
        let audit = Audit::start(Plan { file: file.clone(), file_bytes: 1 << 20, files: 2 }).expect("it starts");
        let long = format!("/containers/create?name={}", "x".repeat(5000));
        audit.say(&entry(&Method::POST, &long).expect("it changes"), StatusCode::CREATED, 12);
        for _ in 0..1000 {
            if !read(&file).is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let lines = read(&file);
        assert_eq!(
            (&lines[0]["who"]["uid"], &lines[0]["status"], &lines[0]["method"]),
            (&7.into(), &201.into(), &"POST".into())
        );
        assert_eq!(lines[0]["request"].as_str().map(str::len), Some(ADDRESS_MAX));
    }
}
