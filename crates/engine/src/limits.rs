//! Limits of workloads: what this host keeps of them, and their change while a workload exists.
//!
//! A change is in the durable record before the kernel is asked, and taken back from there when it refuses. A daemon that was
//! killed in between leaves it to its successor, which sets the recorded limits on what it adopts.

use std::sync::Arc;

use atoll_model::{Phase, Resources, Workload};
use atoll_store::failpoint;

use crate::db::{Change, When};
use crate::entry::Entry;
use crate::runtime::{Handle, Support, spec};
use crate::{Engine, Error, host};

impl Engine {
    /// Changes the limits of a workload, which hold at once if it runs, and on every later start; `change` makes the new ones
    /// of the present ones. What of them is not kept, in sentences.
    ///
    /// # Errors
    /// Those of `change`; when the kernel refuses them everything is as it was before.
    pub async fn update<E: From<Error>>(
        &self,
        name: &str,
        change: impl FnOnce(&Resources) -> Result<Resources, E>,
    ) -> Result<Vec<String>, E> {
        let entry = self.find(name)?;
        let _operation = entry.hold(name).await?;
        if entry.standing.borrow().removed || entry.phase() == Phase::Removing {
            let id = &entry.id;
            return Err(Error::InUse(format!("Cannot update container {id}: Container is marked for removal")).into());
        }
        let before = entry.workload();
        let mut resources = change(&before.resources)?;
        let warnings = self.fit(&mut resources)?;
        spec::change_of_limits(&before.resources, &resources).map_err(|error| Error::Driver(error.into()))?;
        let after = Workload { resources, ..Workload::clone(&before) };
        self.apply_limits(&entry, &before, after).await?;
        self.say(&entry, "update", &[]);
        Ok(warnings)
    }

    async fn apply_limits(&self, entry: &Arc<Entry>, before: &Workload, after: Workload) -> Result<(), Error> {
        failpoint::hit("update.before-record");
        let after = self.keep(after).await?;
        failpoint::hit("update.after-record");
        if let Some(handle) = entry.handle().filter(|_| entry.phase().is_up())
            && let Err(error) = handle.limit(&before.resources, &after.resources).await
            && !error.is_gone()
        {
            self.keep(before.clone()).await?;
            // Some may have been set before the one that was refused.
            if let Err(error) = handle.limit(&after.resources, &before.resources).await {
                tracing::warn!(%error, id = %entry.id.short(), "taking back a change of limits");
            }
            return Err(error.into());
        }
        entry.replace_workload(after);
        Ok(())
    }

    async fn keep(&self, workload: Workload) -> Result<Workload, Error> {
        let db = self.shared.db.clone();
        host::blocking(move || {
            db.apply(&[Change::PutWorkload(&workload)], When::Now)?;
            Ok(workload)
        })
        .await
    }

    /// Sets the recorded limits on a workload that was found running: a change may have been cut short.
    pub(crate) async fn settle_limits(&self, entry: &Arc<Entry>, handle: &Handle) {
        let resources = &entry.workload().resources;
        if *resources == Resources::default() {
            return;
        }
        if let Err(error) = handle.limit(resources, resources).await {
            tracing::warn!(%error, id = %entry.id.short(), "setting the limits of an adopted workload");
        }
    }

    /// Takes away what this host cannot limit, and says so; what may not be left out is refused.
    pub(crate) fn fit(&self, resources: &mut Resources) -> Result<Vec<String>, Error> {
        if !self.has_control_groups() {
            return Ok(discarded(resources));
        }
        fit(resources, self.shared.host.fingerprint.limits)
    }
}

/// Docker's sentences for what a kernel lacks.
fn fit(resources: &mut Resources, support: Support) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    let mut lacks = |what: &str, consequence: &str| {
        warnings.push(format!("Your kernel does not support {what} or the cgroup is not mounted. {consequence}"));
    };
    if resources.memory.is_some() && !support.swap {
        if resources.memory_swap.is_some_and(|swap| swap != -1) {
            lacks("swap limit capabilities", "Memory limited without swap.");
        }
        resources.memory_swap = Some(-1);
    }
    if !support.swappiness && resources.swappiness.take().is_some() {
        lacks("memory swappiness capabilities", "Memory swappiness discarded.");
    }
    if !support.io_weight && resources.block_io.weight.take().is_some() {
        lacks("Block I/O weight", "Weight discarded.");
    }
    if !support.io_weight && !std::mem::take(&mut resources.block_io.weights).is_empty() {
        lacks("Block I/O weight_device", "Weight-device discarded.");
    }
    if !support.io_rate && !std::mem::take(&mut resources.block_io.rates).is_empty() {
        lacks("Block I/O rate limits", "Block I/O rate limits discarded.");
    }
    if resources.oom.kill_disable && !support.oom_switch {
        resources.oom.kill_disable = false;
        warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
    }
    if resources.oom.kill_disable && resources.memory.is_none() {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
    }
    if !support.realtime && (resources.realtime.period.is_some() || resources.realtime.runtime.is_some()) {
        return Err(Error::Invalid("kernel does not support CPU real-time scheduler".to_owned()));
    }
    // As much swap again, which is what everybody is shown then.
    if let (Some(memory), None) = (resources.memory, resources.memory_swap) {
        resources.memory_swap = i64::try_from(memory.saturating_mul(2)).ok();
    }
    Ok(warnings)
}

/// Sentences about limits that cannot be kept without control groups.
fn discarded(resources: &Resources) -> Vec<String> {
    let Resources { memory, memory_swap, memory_reservation, pids, block_io, realtime, oom, .. } = resources;
    let Resources { nano_cpus, cpu_quota, cpu_period, cpu_shares, cpuset_cpus, cpuset_mems, .. } = resources;
    let memory = memory.is_some() || memory_swap.is_some() || memory_reservation.is_some();
    let time = nano_cpus.is_some() || cpu_quota.is_some() || cpu_period.is_some() || cpu_shares.is_some();
    let kinds = [
        (memory || oom.kill_disable || resources.swappiness.is_some(), "memory"),
        (time || realtime.period.is_some() || realtime.runtime.is_some(), "processor time"),
        (cpuset_cpus.is_some() || cpuset_mems.is_some(), "processors or memory nodes"),
        (pids.is_some(), "tasks"),
        (*block_io != atoll_model::BlockIo::default(), "block devices"),
    ];
    let sentence = |kind| format!("the limit of {kind} is discarded: no control groups are delegated to this user");
    kinds.into_iter().filter(|(asked, _)| *asked).map(|(_, kind)| sentence(kind)).collect()
}

#[cfg(test)]
mod tests {
    use atoll_model::{BlockIo, Oom, Realtime};

    use super::*;

    #[test]
    fn each_kind_of_limit_is_said_to_be_discarded_once() {
        let resources = Resources { memory: Some(1), memory_swap: Some(2), pids: Some(3), ..Resources::default() };
        let said = discarded(&resources);
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("memory") && said[1].contains("tasks"), "{said:?}");
        assert!(discarded(&Resources::default()).is_empty());
    }

    #[test]
    fn what_a_kernel_lacks_is_left_out_and_said() {
        let mut resources = Resources {
            memory: Some(100),
            memory_swap: Some(200),
            swappiness: Some(5),
            oom: Oom { kill_disable: true, score_adj: 0 },
            block_io: BlockIo { weight: Some(10), ..BlockIo::default() },
            ..Resources::default()
        };
        let mut kept = resources.clone();
        let all =
            Support { swap: true, swappiness: true, oom_switch: true, io_weight: true, io_rate: true, realtime: true };
        assert!(fit(&mut kept, all).expect("all is there").is_empty());
        assert_eq!(kept, resources);
        let said = fit(&mut resources, Support::default()).expect("nothing that must be kept");
        assert_eq!(said.len(), 4, "{said:?}");
        let expected = Resources { memory: Some(100), memory_swap: Some(-1), ..Resources::default() };
        assert_eq!(resources, expected);
        resources.realtime = Realtime { period: Some(1), runtime: None };
        assert!(matches!(fit(&mut resources, Support::default()), Err(Error::Invalid(_))));
    }

    #[test]
    fn swap_is_as_much_again_unless_given() {
        let of = |memory_swap| {
            let mut resources = Resources { memory: Some(100), memory_swap, ..Resources::default() };
            fit(&mut resources, Support { swap: true, ..Support::default() }).expect("valid");
            resources.memory_swap
        };
        assert_eq!((of(None), of(Some(150)), of(Some(-1))), (Some(200), Some(150), Some(-1)));
    }
}
