//! Progress of long work: bars on a terminal, one line per stage elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use anyhow::{Result, bail};
use atoll_api::atoll::ProgressLine;
use atoll_client::Answer;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Follows a stream of progress to its end; what came of it.
///
/// # Errors
/// What the stream says went wrong.
pub(crate) async fn follow(mut answer: Answer, quiet: bool) -> Result<Vec<ProgressLine>> {
    let mut shown: Box<dyn Shown> = match (quiet, std::io::stderr().is_terminal()) {
        (true, _) => Box::new(Quiet),
        (false, true) => Box::new(Bars::default()),
        (false, false) => Box::new(Lines::default()),
    };
    let mut results = Vec::new();
    while let Some(line) = answer.line::<ProgressLine>().await? {
        if let Some(error) = line.error {
            shown.clear();
            bail!("{error}");
        }
        if line.aux.is_some() || line.stream.is_some() {
            results.push(line);
        } else {
            shown.show(&line);
        }
    }
    shown.clear();
    Ok(results)
}

trait Shown {
    fn show(&mut self, line: &ProgressLine);
    fn clear(&mut self);
}

struct Quiet;

impl Shown for Quiet {
    fn show(&mut self, _: &ProgressLine) {}
    fn clear(&mut self) {}
}

#[derive(Default)]
struct Lines {
    seen: BTreeMap<String, String>,
}

impl Shown for Lines {
    #[allow(clippy::print_stderr, reason = "progress is for people, results go to standard output")]
    fn show(&mut self, line: &ProgressLine) {
        if line.id.is_empty() {
            return eprintln!("{}", line.status);
        }
        // The part after a colon names an item; a line for each of those would be a flood.
        let stage = line.status.split(':').next().unwrap_or_default().to_owned();
        if self.seen.insert(line.id.clone(), stage.clone()).as_ref() != Some(&stage) {
            eprintln!("{}: {stage}", line.id);
        }
    }

    fn clear(&mut self) {}
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
}

impl Shown for Bars {
    fn show(&mut self, line: &ProgressLine) {
        if line.id.is_empty() {
            // A terminal that went away is nobody's loss.
            return drop(self.all.println(&line.status));
        }
        let bar = self.bars.entry(line.id.clone()).or_insert_with(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos:>10}/{len:10} {wide_msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            self.all.add(ProgressBar::new(0).with_style(style))
        });
        if let Some(progress) = line.progress {
            bar.set_length(progress.total.unwrap_or(progress.current));
            bar.set_position(progress.current);
        }
        bar.set_message(line.status.clone());
    }

    fn clear(&mut self) {
        // Bars of a terminal that went away are nobody's loss.
        drop(self.all.clear());
    }
}
