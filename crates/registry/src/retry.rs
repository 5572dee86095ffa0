//! Second tries: after trouble that may pass, a few, each after a longer wait.

use std::time::Duration;

use crate::Error;

/// How often in a row the same is tried in all.
pub(crate) const ATTEMPTS_MAX: u32 = 4;
/// Bytes after which a transfer that breaks off again counts as a new trouble.
pub(crate) const PROGRESS: u64 = 1 << 20;
/// How long the first wait is; each further one is twice as long.
const WAIT: Duration = Duration::from_millis(250);
/// Longest wait that a registry may ask for.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// How often one thing has failed in a row.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    failed: u32,
}

impl Tries {
    /// Waits before another try: as long as the server asks for, within bounds, or a little longer each time.
    ///
    /// # Errors
    /// The error itself, where another try is of no use or the last was made.
    pub(crate) async fn pause(&mut self, error: Error, may_pass: bool) -> Result<(), Error> {
        self.failed += 1;
        if !may_pass || self.failed >= ATTEMPTS_MAX {
            return Err(error);
        }
        let asked = match &error {
            Error::Status { wait, .. } => *wait,
            _ => None,
        };
        tracing::debug!(%error, attempt = self.failed, "another try");
        tokio::time::sleep(asked.unwrap_or(WAIT * 2u32.pow(self.failed - 1)).min(WAIT_MAX)).await;
        Ok(())
    }

    /// Something was achieved: what comes is no repetition.
    pub(crate) fn progressed(&mut self) {
        self.failed = 0;
    }

    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }
}
