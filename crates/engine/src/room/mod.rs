//! Room on the disk: above a watermark, images that nothing uses are taken away until there is some again.
//!
//! ```text
//!   above `high` → parts of transfers that broke off, and what no name needs
//!                → images without a name     ┐ least recently used first, none that is used, pinned, young or leased,
//!                → images that are not used  ┘ until `low` is reached
//! ```
//!
//! Workloads and volumes are never touched. When an image was last used is kept in memory and written at most every
//! [`WRITE_EVERY`], so that `run --rm` costs nothing: after a crash an image may seem unused for that much longer. An image of
//! which nothing is known counts as used now. Without a watermark nothing is written and nothing goes.

mod decide;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atoll_model::Timestamp;
use atoll_oci::Digest;
use tokio::sync::Notify;

use crate::db::{Change, Db, When};
use crate::{Engine, Error, ImageView, Watermark, host, matches_reference};
use decide::Candidate;

/// How often the disk is looked at where nothing happens to images.
const EVERY: Duration = Duration::from_secs(30);
/// How often it is written down at most when images were last used.
const WRITE_EVERY: Duration = Duration::from_secs(600);

/// What is known of the disk and of who uses it.
#[derive(Debug, Default)]
pub(crate) struct Room {
    uses: Mutex<Uses>,
    /// Somebody took room.
    taken: Arc<Notify>,
}

/// When images were last used, by their ids.
#[derive(Debug, Default)]
struct Uses {
    last: BTreeMap<String, Timestamp>,
    /// When this was last written, if there is something new since.
    written: Option<Instant>,
    is_new: bool,
    /// Whether it was said that there is nothing left to take away.
    told: bool,
}

/// A file system in bytes, as `df` counts: without what only root may fill.
#[derive(Clone, Copy, Debug)]
struct Space {
    size: u64,
    used: u64,
}

impl Room {
    pub(crate) fn load(db: &Db) -> Result<Self, Error> {
        let uses = Uses { last: db.last_uses()?, ..Uses::default() };
        Ok(Self { uses: Mutex::new(uses), taken: Arc::default() })
    }

    /// An image is used now.
    pub(crate) fn used(&self, image: &Digest) {
        let mut uses = self.uses();
        uses.last.insert(image.to_string(), host::now());
        uses.is_new = true;
    }

    /// The disk may be fuller than it was.
    pub(crate) fn look(&self) {
        self.taken.notify_one();
    }

    fn uses(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uses {
    /// Forgets images that are gone; what is not known, or lies in the future, is used now.
    fn settle(&mut self, images: &[ImageView], now: Timestamp) {
        let ids: HashSet<String> = images.iter().map(|image| image.id.to_string()).collect();
        let before = self.last.clone();
        self.last.retain(|id, _| ids.contains(id));
        for id in ids {
            let last = self.last.entry(id).or_insert(now);
            *last = (*last).min(now);
        }
        self.is_new |= self.last != before;
    }

    fn is_due(&self) -> bool {
        self.is_new && self.written.is_none_or(|at| at.elapsed() > WRITE_EVERY)
    }

    fn of(&self, image: &Digest) -> Timestamp {
        self.last.get(&image.to_string()).copied().unwrap_or(Timestamp(i64::MAX))
    }
}

impl Engine {
    /// Looks after the disk from now on, where a watermark is configured.
    pub(crate) fn keep_room(&self) {
        let Some(watermark) = self.shared.settings.watermark.clone() else { return };
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            let mut changed = true;
            loop {
                let Some(shared) = shared.upgrade() else { return };
                let taken = Arc::clone(&shared.room.taken);
                let (engine, watermark) = (Self { shared }, watermark.clone());
                let work = move || engine.note_images(changed).and_then(|()| engine.make_room(&watermark));
                if let Err(error) = host::blocking(work).await {
                    tracing::warn!(%error, "looking after the disk");
                }
                // Something may be full though nothing happened to images.
                changed = tokio::time::timeout(EVERY, taken.notified()).await.is_ok();
            }
        });
    }

    /// Takes note of images that came or went, and writes down what is due.
    fn note_images(&self, changed: bool) -> Result<(), Error> {
        if changed {
            let images = self.read_images()?;
            self.shared.room.uses().settle(&images, host::now());
        }
        self.write_uses()
    }

    fn make_room(&self, watermark: &Watermark) -> Result<(), Error> {
        let space = self.space()?;
        let (high, low) = (watermark.high.of(space.size), watermark.low.of(space.size));
        if space.used <= high {
            self.shared.room.uses().told = false;
            return Ok(());
        }
        let mut freed = self.shared.store.drop_partial(watermark.grace)? + self.sweep()?;
        let mut gone = 0;
        // What goes may free less than it seems: what a workload keeps stays.
        while let Some(excess) = self.space()?.used.checked_sub(low).filter(|excess| *excess > 0) {
            let images = self.read_images()?;
            let chosen = decide::choose(excess, young(watermark), &self.candidates(watermark, &images)?);
            let before = gone;
            for id in chosen {
                gone += usize::from(self.let_go(&id, watermark)?);
            }
            if gone == before {
                break;
            }
            freed += self.sweep()?;
        }
        self.tell(watermark, gone, freed)
    }

    fn candidates(&self, watermark: &Watermark, images: &[ImageView]) -> Result<Vec<Candidate>, Error> {
        let used = self.used_images();
        let mut parts = self.image_parts()?;
        let mut candidates = Vec::new();
        for image in images {
            let parts = parts.remove(&image.id).unwrap_or_default();
            let is_pinned = image.names.iter().any(|name| {
                let name = name.familiar();
                watermark.keep.iter().any(|pattern| matches_reference(pattern, &name))
            });
            candidates.push(Candidate {
                id: image.id.clone(),
                is_dangling: image.names.is_empty(),
                stays: is_pinned || used.contains(&image.id) || self.shared.store.is_leased(&parts)?,
                parts,
                last_used: self.shared.room.uses().of(&image.id),
            });
        }
        Ok(candidates)
    }

    /// Takes an image away, unless somebody has come to use it meanwhile.
    fn let_go(&self, id: &Digest, watermark: &Watermark) -> Result<bool, Error> {
        if self.used_images().contains(id) || self.shared.room.uses().of(id) >= young(watermark) {
            return Ok(false);
        }
        let removals = self.unname_image(id, Some("the disk is above its watermark"))?;
        tracing::warn!(image = %id, ?removals, "taken away because the disk is above its watermark");
        Ok(true)
    }

    /// Says what was done; that nothing could be done, once.
    fn tell(&self, watermark: &Watermark, gone: usize, freed: u64) -> Result<(), Error> {
        let space = self.space()?;
        if gone > 0 || freed > 0 {
            tracing::warn!(gone, freed, used = space.used, size = space.size, "made room on the disk");
        }
        let is_full = space.used > watermark.high.of(space.size);
        let mut uses = self.shared.room.uses();
        if is_full && !uses.told {
            tracing::warn!(
                used = space.used,
                size = space.size,
                "the disk is above its watermark, and no image is left that may go: all are used, pinned or young"
            );
        }
        uses.told = is_full;
        Ok(())
    }

    fn write_uses(&self) -> Result<(), Error> {
        let mut uses = self.shared.room.uses();
        if !uses.is_due() {
            return Ok(());
        }
        let last = uses.last.clone();
        (uses.written, uses.is_new) = (Some(Instant::now()), false);
        // A commit waits for the disk: whoever uses an image does not.
        drop(uses);
        self.shared.db.apply(&[Change::PutLastUses(&last)], When::Now)
    }

    fn space(&self) -> Result<Space, Error> {
        let root = &self.shared.settings.root;
        let stat = rustix::fs::statvfs(root)
            .map_err(|error| Error::host(format!("looking at the disk of {}", root.display()))(error.into()))?;
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { size: bytes(used + stat.f_bavail), used: bytes(used) })
    }
}

/// Since when an image must not have been used to go.
fn young(watermark: &Watermark) -> Timestamp {
    let grace = i64::try_from(watermark.grace.as_nanos()).unwrap_or(i64::MAX);
    Timestamp(host::now().0.saturating_sub(grace))
}
