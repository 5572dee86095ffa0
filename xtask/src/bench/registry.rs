//! Images to and from Debian's `docker-registry` on the loopback: pushed into an empty one, pulled into an empty store.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use atoll_testkit::{Distribution, Image, TempHost, require_programs};

use super::measure::{Candidate, Table, in_turn, once};
use super::peers::{Dockerd, docker};

const LAYERS: u64 = 4;
/// Bytes of one layer before it is packed.
const LAYER_BYTES: usize = 15 << 20;

/// One of the two directions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Push,
    Pull,
}

pub(super) fn bench(direction: Direction, rounds: u32) -> Result<Option<Table>> {
    if !require_programs(&["docker-registry"]) {
        return Ok(None);
    }
    let folder = tempfile::tempdir_in("/var/lib")?;
    let registry = Distribution::start(folder.path(), "");
    let name = |kind: &str| format!("127.0.0.1:{}/{kind}:1", registry.port());
    let (packed, plain) = (name("packed"), name("plain"));
    let archive = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(archive("packed.tar"), image().docker_archive_packed(&packed))?;
    std::fs::write(archive("plain.tar"), image().docker_archive(&plain))?;
    let host = TempHost::start()?;
    let dockerd = Dockerd::start()?;
    for file in ["packed.tar", "plain.tar"] {
        host.ok(&["load", "-q", "-i", &archive(file)]);
        if let Some(dockerd) = &dockerd {
            once(dockerd.client(&["load", "-q", "-i", &archive(file)]))?;
        }
    }
    let (verb, title) = match direction {
        Direction::Push => ("push", "`push` of 60 MB in 4 layers into an empty registry"),
        Direction::Pull => ("pull", "`pull` of 60 MB in 4 layers from a registry"),
    };
    if direction == Direction::Pull {
        host.ok(&["push", "-q", &packed]);
        host.ok(&["rmi", &packed, &plain]);
        if let Some(dockerd) = &dockerd {
            once(dockerd.client(&["rmi", &packed, &plain]))?;
        }
    }
    let own = |name: &str| {
        let mut command = host.command();
        command.args([verb, "-q", name]);
        command
    };
    let socket = host.socket();
    let undo = || match direction {
        Direction::Push => empty(&folder.path().join("data")),
        Direction::Pull => {
            host.ok(&["rmi", &packed]);
            Ok(())
        }
    };
    let arguments = [verb, "-q", packed.as_str()];
    let mut candidates = vec![
        candidate("atoll", || own(&packed), undo),
        candidate("docker client, atolld", || docker(&socket, &arguments), undo),
    ];
    if direction == Direction::Push {
        candidates.push(candidate("atoll, layers kept unpacked", || own(&plain), undo));
    }
    if let Some(dockerd) = &dockerd {
        let undo = || match direction {
            Direction::Push => empty(&folder.path().join("data")),
            Direction::Pull => once(dockerd.client(&["rmi", &packed])).map(drop),
        };
        candidates.push(candidate("docker client, dockerd", || dockerd.client(&arguments), undo));
    }
    in_turn(title, &candidates, rounds).map(Some)
}

fn candidate<'a>(name: &str, command: impl Fn() -> Command + 'a, after: impl Fn() -> Result<()> + 'a) -> Candidate<'a> {
    Candidate { after: Some(Box::new(after)), ..Candidate::new(name, command) }
}

/// Takes everything away that a registry has.
fn empty(data: &Path) -> Result<()> {
    Ok(std::fs::remove_dir_all(data)?)
}

fn image() -> Image {
    (0..LAYERS).map(|seed| super::load::layer(seed, LAYER_BYTES)).fold(Image::new(), Image::layer)
}
