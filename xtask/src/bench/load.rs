//! `load` of an image of about 500 MB in ten gzip layers, and the floor below it: inflating alone.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use atoll_testkit::{Image, Layer, TempHost};

use super::measure::{Candidate, Table, in_turn};
use super::peers::Dockerd;

const IMAGE: &str = "bench-load:1";
const LAYERS: u64 = 10;
/// Bytes of one layer before it is packed.
const LAYER_BYTES: usize = 50 << 20;
const FILES: usize = 200;

pub(super) fn bench(rounds: u32) -> Result<Table> {
    let folder = tempfile::tempdir_in("/var/lib")?;
    let archive = folder.path().join("image.tar");
    let blobs = write(&archive, folder.path())?;
    let host = TempHost::start()?;
    let dockerd = Dockerd::start()?;
    let path = archive.to_string_lossy().into_owned();
    let load = ["load", "-q", "-i", path.as_str()];
    let mut candidates = vec![Candidate {
        after: Some(Box::new(|| {
            host.ok(&["rmi", IMAGE]);
            Ok(())
        })),
        ..Candidate::new("atoll", || {
            let mut command = host.command();
            command.args(load);
            command
        })
    }];
    if let Some(dockerd) = &dockerd {
        candidates.push(Candidate {
            after: Some(Box::new(|| super::measure::once(dockerd.client(&["rmi", IMAGE])).map(drop))),
            ..Candidate::new("dockerd", || dockerd.client(&load))
        });
    }
    let gunzip = |threads: usize| {
        let blobs = blobs.clone();
        move || {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("printf '%s\\n' \"$@\" | xargs -P {threads} -n 1 gzip -dc > /dev/null"));
            command.arg("sh").args(&blobs);
            command
        }
    };
    candidates.push(Candidate::new("inflating alone, one core (`gzip -dc`)", gunzip(1)));
    candidates.push(Candidate::new("inflating alone, two cores", gunzip(2)));
    let target = folder.path().join("written");
    candidates.push(Candidate::new("writing 500 MB alone (`dd conv=fsync`)", move || {
        let mut command = Command::new("dd");
        command.args(["if=/dev/zero", "bs=1M", "count=500", "conv=fsync", "status=none"]);
        command.arg(format!("of={}", target.display()));
        command
    }));
    let size = std::fs::metadata(&archive)?.len() >> 20;
    let mut table = in_turn("`load` of 500 MB in ten gzip layers", &candidates, rounds)?;
    table.notes.push(format!("the archive has {size} MiB"));
    Ok(table)
}

/// Writes the image's archive; the paths of its packed layers.
fn write(archive: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let layers = (0..LAYERS).map(|seed| layer(seed, LAYER_BYTES));
    let image = layers.fold(Image::new(), Image::layer);
    let published = image.published();
    let mut paths = Vec::new();
    for (index, bytes) in published.blobs.values().filter(|bytes| bytes.starts_with(&[0x1f, 0x8b])).enumerate() {
        let path = folder.join(format!("{index}.gz"));
        std::fs::write(&path, bytes)?;
        paths.push(path);
    }
    let mut file = File::create(archive)?;
    file.write_all(&image.docker_archive_packed(IMAGE)).context("writing the archive")?;
    Ok(paths)
}

/// A layer of `bytes` bytes of text that packs as well as programs do: to about a third.
pub(super) fn layer(seed: u64, bytes: usize) -> Layer {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..FILES).fold(Layer::new().folder(&format!("d{seed}")), |layer, file| {
        let mut content = Vec::with_capacity(bytes / FILES + 16);
        while content.len() < bytes / FILES {
            let word = next();
            content.extend_from_slice(&word.to_le_bytes()[..4]);
            content.extend_from_slice(if word & 1 == 0 { b"some more " } else { b"of the same" });
        }
        layer.file(&format!("d{seed}/f{file}"), 0o644, content)
    })
}
