//! This terminal coupled to a workload's streams.
//!
//! ```text
//!   stdin ──detach keys──► hijacked connection ──frames──► stdout, stderr
//!   SIGWINCH ──► resize                 other signals ──► kill (where there is no terminal)
//! ```
//!
//! A session ends when the workload's output does, or when the detach keys are typed.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use atoll_api::docker::{DetachKeys, Detacher, FrameDecoder, STDERR, Scanned};
use atoll_client::{Client, HijackReader, HijackWriter, with_query};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::terminal::{self, Raw};

/// Signals that are passed on: those by which people and service managers end or poke a program.
const PASSED_ON: [(i32, &str); 6] = [(1, "HUP"), (2, "INT"), (3, "QUIT"), (10, "USR1"), (12, "USR2"), (15, "TERM")];
const BLOCK: usize = 32 << 10;

/// How a session is coupled.
#[derive(Debug)]
pub(crate) struct Coupling {
    /// Whether the workload has a terminal: its output is one plain stream.
    pub(crate) terminal: bool,
    /// Whether our standard input goes to it.
    pub(crate) stdin: bool,
    /// What leaves the session; none is Docker's ctrl-p ctrl-q.
    pub(crate) detach_keys: Option<String>,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With the workload's output.
    Output,
    /// By the detach keys.
    Detached,
}

/// A session that goes on beside whatever else is done.
#[derive(Debug)]
pub(crate) struct Session {
    task: JoinHandle<Result<Ended>>,
    /// Signals and sizes; they end with the session.
    helpers: Vec<JoinHandle<()>>,
    _raw: Option<Raw>,
}

impl Session {
    /// Begins to carry streams.
    pub(crate) fn begin(coupling: Coupling, (reader, writer): (HijackReader, HijackWriter)) -> Result<Self> {
        let raw = if coupling.terminal && coupling.stdin { terminal::make_raw()? } else { None };
        // Nothing said is Docker's sequence.
        let keys: DetachKeys = coupling.detach_keys.as_deref().unwrap_or_default().parse()?;
        let detacher = (coupling.terminal && raw.is_some()).then(|| Detacher::new(keys));
        let task = tokio::spawn(carry(coupling, detacher, reader, writer));
        Ok(Self { task, helpers: Vec::new(), _raw: raw })
    }

    /// Keeps the size of a workload's (or exec session's) terminal that of ours. `path` is its `…/resize`.
    pub(crate) fn follow_size(&mut self, client: &Arc<Client>, path: String) {
        let client = Arc::clone(client);
        self.helpers.push(tokio::spawn(async move {
            let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
            loop {
                send_size(&client, &path).await;
                if changes.recv().await.is_none() {
                    return;
                }
            }
        }));
    }

    /// Passes signals on to a container.
    pub(crate) fn pass_signals(&mut self, client: &Arc<Client>, container: &str) {
        for (number, name) in PASSED_ON {
            let client = Arc::clone(client);
            let path = with_query(&format!("/containers/{container}/kill"), &[("signal", name)]);
            self.helpers.push(tokio::spawn(async move {
                let Ok(mut signals) = signal(SignalKind::from_raw(number)) else { return };
                while signals.recv().await.is_some() {
                    // It may have ended already; its exit is seen elsewhere.
                    drop(client.order(&path).await);
                }
            }));
        }
    }

    /// Waits for the end.
    pub(crate) async fn ended(mut self) -> Result<Ended> {
        let result = (&mut self.task).await.context("the session broke off")?;
        drop(self);
        result
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
        for helper in &self.helpers {
            helper.abort();
        }
    }
}

/// Tells a workload's terminal how large ours is.
pub(crate) async fn send_size(client: &Client, path: &str) {
    if let Some((rows, columns)) = terminal::size() {
        let path = with_query(path, &[("h", &rows.to_string()), ("w", &columns.to_string())]);
        // Before the start there is no terminal yet, and after the end none any more.
        drop(client.order(&path).await);
    }
}

async fn carry(
    coupling: Coupling,
    detacher: Option<Detacher>,
    reader: HijackReader,
    writer: HijackWriter,
) -> Result<Ended> {
    let output = carry_output(coupling.terminal, reader);
    if !coupling.stdin {
        // The other direction stays open: its end would end the session.
        let _writer = writer;
        return output.await.map(|()| Ended::Output);
    }
    let input = carry_input(detacher, writer);
    tokio::pin!(output, input);
    tokio::select! {
        result = &mut output => result.map(|()| Ended::Output),
        result = &mut input => match result? {
            Ended::Detached => Ok(Ended::Detached),
            // Our input has ended; what the workload makes of it still comes.
            Ended::Output => output.await.map(|()| Ended::Output),
        },
    }
}

async fn carry_output(terminal: bool, mut reader: HijackReader) -> Result<()> {
    let mut frames = FrameDecoder::default();
    loop {
        let bytes = reader.read().await?;
        if bytes.is_empty() {
            return Ok(());
        }
        let mut failed = None;
        let mut write = |stream: u8, bytes: &[u8]| {
            let result =
                if stream == STDERR { put(&mut std::io::stderr(), bytes) } else { put(&mut std::io::stdout(), bytes) };
            failed = failed.take().or(result.err());
        };
        if terminal {
            write(1, &bytes);
        } else {
            frames.feed(&bytes, write)?;
        }
        if let Some(error) = failed {
            return Err(error).context("writing what the container wrote");
        }
    }
}

fn put(stream: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}

async fn carry_input(mut detacher: Option<Detacher>, mut writer: HijackWriter) -> Result<Ended> {
    let mut stdin = tokio::io::stdin();
    let mut block = vec![0; BLOCK];
    // A workload that has ended or closed its input takes no more: that is its end, not ours.
    loop {
        let count = stdin.read(&mut block).await.unwrap_or(0);
        if count == 0 {
            drop(writer.close().await);
            return Ok(Ended::Output);
        }
        let sent = match &mut detacher {
            None => writer.write(&block[..count]).await,
            Some(detacher) => match detacher.scan(&block[..count]) {
                Scanned::Input(bytes) => writer.write(&bytes).await,
                Scanned::Detach(bytes) => {
                    drop(writer.write(&bytes).await);
                    return Ok(Ended::Detached);
                }
            },
        };
        if sent.is_err() {
            return Ok(Ended::Output);
        }
    }
}
