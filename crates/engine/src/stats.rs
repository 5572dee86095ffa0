//! What workloads use, now.

use std::sync::Arc;

use atoll_model::{Network, Sample, Workload};

use crate::{Engine, Error, host, runtime};

impl Engine {
    /// A workload and what it uses now; nothing while it does not run.
    ///
    /// # Errors
    /// When there is no such workload, or a figure of the host cannot be read.
    pub async fn sample(&self, name: &str) -> Result<(Arc<Workload>, Option<Sample>), Error> {
        let entry = self.find(name)?;
        let workload = entry.workload();
        if !entry.phase().is_live() {
            return Ok((workload, None));
        }
        let run = self.run_folder(&entry.id);
        let of_host = workload.host.network == Network::Host;
        let sample = host::blocking(move || runtime::sample(&run, of_host)).await?;
        Ok((workload, sample))
    }
}
