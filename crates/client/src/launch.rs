//! Starting our own daemon when nobody answers.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

use crate::Error;

/// How long a daemon has to answer after it was started.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to sleep between looks.
const STEP: Duration = Duration::from_millis(2);
/// Bytes of the daemon's log that an error shows.
const SAID: usize = 2048;

/// How to start the daemon.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program `atolld`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where its errors go.
    pub log: PathBuf,
}

impl Launch {
    /// Starts the daemon, which goes on after this program, and connects as soon as it answers. Two that start one at
    /// the same time get the same: the second daemon finds the first one's lock and ends.
    pub(crate) async fn start(&self, socket: &Path) -> Result<UnixStream, Error> {
        let failed = |source| Error::Spawn { program: self.program.clone(), source };
        if let Some(folder) = self.log.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log).map_err(failed)?;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Its own process group: what the terminal sends to ours does not reach it.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(stream) = UnixStream::connect(socket).await {
                return Ok(stream);
            }
            let ended = child.try_wait().map_err(failed)?.is_some_and(|status| !status.success());
            if ended || Instant::now() > deadline {
                return Err(Error::NotStarted { program: self.program.clone(), said: self.said() });
            }
            tokio::time::sleep(STEP).await;
        }
    }

    fn said(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(SAID);
        String::from_utf8_lossy(&text[start..]).trim_end().to_owned()
    }
}
