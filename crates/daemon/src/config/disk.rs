//! `[disk]`: when images that nothing uses are taken away.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use atoll_engine::{Mark, Watermark};
use serde::Deserialize;

/// Minutes within which what was used stays.
const GRACE_MINUTES: u64 = 60;

/// How the room on the disk is shared out.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// Most bytes of a writable layer where nobody says how many.
    pub(super) storage: Option<u64>,
    pub(crate) watermark: Option<Watermark>,
}

/// The table of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DiskFile {
    high: Option<Amount>,
    low: Option<Amount>,
    grace_minutes: Option<u64>,
    keep: Vec<String>,
}

/// `"85%"`, or a number of bytes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Amount {
    Bytes(u64),
    Percent(String),
}

impl Amount {
    fn mark(self, key: &str) -> Result<Mark> {
        match self {
            Self::Bytes(bytes) => Ok(Mark::Bytes(bytes)),
            Self::Percent(text) => {
                let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
                let percent: u8 = percent
                    .filter(|percent| (1..=100).contains(percent))
                    .with_context(|| format!("disk.{key}: {text:?} must be 1% to 100%, or a number of bytes"))?;
                Ok(Mark::Percent(percent))
            }
        }
    }
}

impl DiskFile {
    /// The watermark, where there is one: nobody's images go who did not ask for that.
    pub(super) fn watermark(self) -> Result<Option<Watermark>> {
        let Some(high) = self.high else {
            if self.low.is_some() || self.grace_minutes.is_some() || !self.keep.is_empty() {
                bail!("disk.low, disk.grace_minutes and disk.keep do nothing without disk.high");
            }
            return Ok(None);
        };
        let high = high.mark("high")?;
        let low = match (self.low.map(|low| low.mark("low")).transpose()?, high) {
            (Some(low), _) => low,
            (None, Mark::Percent(percent)) => Mark::Percent(percent - percent / 10),
            (None, Mark::Bytes(bytes)) => Mark::Bytes(bytes - bytes / 10),
        };
        match (low, high) {
            (Mark::Percent(low), Mark::Percent(high)) if low <= high => {}
            (Mark::Bytes(low), Mark::Bytes(high)) if low <= high => {}
            _ => bail!("disk.low must be below disk.high, and both percentages or both bytes"),
        }
        let grace = Duration::from_secs(self.grace_minutes.unwrap_or(GRACE_MINUTES).saturating_mul(60));
        Ok(Some(Watermark { high, low, grace, keep: self.keep }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Watermark>> {
        toml::from_str::<DiskFile>(text)?.watermark()
    }

    #[test]
    fn marks_are_percentages_or_bytes() {
        assert_eq!(read("").expect("valid"), None, "it is off unless somebody asks for it");
        let watermark = read("high = '80%'\nkeep = ['base:*']").expect("valid").expect("on");
        assert_eq!((watermark.high, watermark.low), (Mark::Percent(80), Mark::Percent(72)));
        assert_eq!((watermark.grace, &*watermark.keep), (Duration::from_secs(3600), &["base:*".to_owned()][..]));
        let watermark = read("high = 1000\nlow = 10\ngrace_minutes = 0").expect("valid").expect("on");
        assert_eq!((watermark.high.of(7), watermark.low.of(7), watermark.grace), (1000, 10, Duration::ZERO));
        assert_eq!(Mark::Percent(80).of(1000), 800);
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |text: &str| format!("{:#}", read(text).expect_err("nonsense"));
        assert!(refused("high = '0%'").contains("disk.high"));
        assert!(refused("high = 'much'").contains("much"));
        assert!(refused("low = '5%'").contains("disk.high"));
        assert!(refused("high = '5%'\nlow = '6%'").contains("disk.low"));
        assert!(refused("high = '5%'\nlow = 6").contains("disk.low"));
        assert!(refused("hihg = '5%'").contains("hihg"));
    }
}
