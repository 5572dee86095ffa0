//! Health as supervisors report it: kept in memory, published, told. Who is checked, when and how, is theirs.

use atoll_model::{Health, HealthStatus};

use crate::Engine;
use crate::entry::Entry;

impl Engine {
    /// A run begins: nobody knows how well it is.
    pub(crate) fn health_begins(&self, entry: &Entry) {
        let is_checked = entry.workload().life.health.args().is_some();
        entry.standing.send_modify(|standing| {
            let before = standing.health.take();
            standing.health = is_checked.then(|| before.unwrap_or_default().begin_again());
        });
    }

    /// What has ended is not well, as Docker has it.
    pub(crate) fn health_ends(&self, entry: &Entry) {
        entry.standing.send_modify(|standing| {
            if let Some(health) = &mut standing.health {
                health.status = HealthStatus::Unhealthy;
            }
        });
    }

    /// A check has come to this.
    pub(crate) fn checked(&self, entry: &Entry, health: Health) {
        let status = health.status;
        let mut before = None;
        entry.standing.send_modify(|standing| before = standing.health.replace(health));
        if before.is_none_or(|before| before.status != status) {
            self.say(entry, &format!("health_status: {}", status.name()), &[]);
        }
    }
}
