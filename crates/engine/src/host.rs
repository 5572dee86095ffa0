//! The clock, randomness and files of this host, as the engine uses them.

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use atoll_model::{Timestamp, WorkloadId};

use crate::Error;

/// The time by the host's clock.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// A time as image configurations have it.
pub(crate) fn rfc3339(at: Timestamp) -> Option<String> {
    Some(jiff::Timestamp::from_nanosecond(at.0.into()).ok()?.to_string())
}

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::Host {
        doing: "reading random bytes".to_owned(),
        source: std::io::Error::other(error),
    })?;
    Ok(bytes)
}

/// A new identifier: 64 random hexadecimal digits.
pub(crate) fn new_id() -> Result<WorkloadId, Error> {
    Ok(WorkloadId::from_bytes(random()?))
}

/// Replaces a small file that need not survive a power cut.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(content)?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(Error::host(format!("writing {}", path.display())))
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(Error::host(format!("making {}", path.display())))
}

/// Whether a folder has nothing in it.
pub(crate) fn is_empty(path: &Path) -> Result<bool, Error> {
    let mut entries = std::fs::read_dir(path).map_err(Error::host(format!("reading {}", path.display())))?;
    Ok(entries.next().is_none())
}

/// Runs what may block for long (disk, compression) where it does not hold up others.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
