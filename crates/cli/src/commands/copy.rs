//! `cp`: files between a container and here, as archives.
//!
//! What is meant by a source and a target is Docker's: a folder is copied into a folder that is there, and becomes one that
//! is not; `SOURCE/.` is what a folder holds; a file takes the place of a file. Here as there, paths are resolved and archives
//! unpacked by descriptor, so that an archive of a hostile container writes nothing beside its target.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use atoll_api::docker::{PATH_STAT, PathStat, go_mode};
use atoll_client::{Error, escape, with_query};
use atoll_store::{Found, Inside, InsideError, Placement};
use hyper::Method;
use rustix::fs::{Mode, OFlags};

use super::Daemon;
use super::archives;
use crate::args::CopyArgs;

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Container { name: &'a str, path: &'a str },
    Here(&'a str),
    Stream,
}

/// What is known of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Folder,
    File,
    Missing,
}

/// Into which folder something is put, and under which name; none is its own.
#[derive(Debug, PartialEq, Eq)]
struct Placed {
    folder: String,
    name: Option<String>,
}

/// `cp`.
pub(crate) async fn copy(daemon: Daemon, args: CopyArgs) -> Result<u8> {
    match (place(&args.source), place(&args.target)) {
        (Place::Container { name, path }, Place::Stream) => {
            let (path, _) = source_in(&daemon, name, path, args.follow_link).await?;
            let answer = daemon.stream(Method::GET, &archive(name, &path, &[])).await?;
            archives::copy(answer, &mut std::io::stdout()).await?;
        }
        (Place::Container { name, path }, Place::Here(target)) => download(&daemon, name, path, target, &args).await?,
        (Place::Stream, Place::Container { name, path }) => {
            let (path, there) = target_in(&daemon, name, path).await?;
            if there != Target::Folder {
                bail!("destination {name}:{path} must be a directory");
            }
            upload(&daemon, name, &path, tokio::io::stdin(), &args).await?;
        }
        (Place::Here(source), Place::Container { name, path }) => send(&daemon, source, name, path, &args).await?,
        (Place::Container { .. }, Place::Container { .. }) => bail!("copying between containers is not supported"),
        _ => bail!("must specify at least one container source"),
    }
    Ok(0)
}

/// `CONTAINER:PATH` unless it begins with a slash or a dot, or there is no colon.
fn place(text: &str) -> Place<'_> {
    match text.split_once(':') {
        _ if text == "-" => Place::Stream,
        Some((name, path)) if !text.starts_with(['/', '.']) && !name.is_empty() => Place::Container { name, path },
        _ => Place::Here(text),
    }
}

/// Where a source goes, given what is at its target.
fn placed(source_is_folder: bool, target: &str, there: Target) -> Result<Placed> {
    let parent_and_name = || {
        let path = target.trim_end_matches('/');
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
        let folder = if folder.is_empty() { "/" } else { folder };
        Placed { folder: folder.to_owned(), name: Some(name.to_owned()) }
    };
    match there {
        Target::Folder => Ok(Placed { folder: target.to_owned(), name: None }),
        Target::File if source_is_folder => bail!("cannot copy a directory to a file: {target}"),
        Target::Missing if !source_is_folder && target.ends_with('/') => bail!("no such directory: {target}"),
        Target::File | Target::Missing => Ok(parent_and_name()),
    }
}

fn archive(name: &str, path: &str, more: &[(&str, &str)]) -> String {
    let query: Vec<(&str, &str)> = [("path", path)].into_iter().chain(more.iter().copied()).collect();
    with_query(&format!("/containers/{}/archive", escape(name)), &query)
}

/// What is at a path of a container; none where nothing is.
async fn look(daemon: &Daemon, name: &str, path: &str) -> Result<Option<PathStat>> {
    match daemon.stream(Method::HEAD, &archive(name, path, &[])).await {
        Ok(answer) => {
            let stat = answer.header(PATH_STAT).and_then(PathStat::from_header);
            stat.map(Some).context("the daemon does not say what is there")
        }
        Err(Error::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A source in a container: its path, and whether it is a folder.
async fn source_in(daemon: &Daemon, name: &str, path: &str, follow: bool) -> Result<(String, bool)> {
    let path = absolute(path);
    let missing = || format!("Could not find the file {path} in container {name}");
    let stat = look(daemon, name, &path).await?.with_context(missing)?;
    if follow && stat.is_link() {
        let target = stat.link_target;
        let stat = look(daemon, name, &target).await?;
        let stat = stat.with_context(|| format!("Could not find the file {target} in container {name}"))?;
        return Ok((target, stat.is_folder()));
    }
    Ok((path, stat.is_folder()))
}

/// A target in a container, links followed, and what is there.
async fn target_in(daemon: &Daemon, name: &str, path: &str) -> Result<(String, Target)> {
    let mut path = absolute(path);
    let mut stat = look(daemon, name, &path).await?;
    if let Some(link) = stat.as_ref().filter(|stat| stat.is_link()) {
        path.clone_from(&link.link_target);
        stat = look(daemon, name, &path).await?;
    }
    let there = match stat {
        None => Target::Missing,
        Some(stat) if stat.is_folder() => Target::Folder,
        Some(_) => Target::File,
    };
    Ok((path, there))
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

async fn upload(
    daemon: &Daemon,
    name: &str,
    folder: &str,
    source: impl tokio::io::AsyncRead + Send + Sync + 'static,
    args: &CopyArgs,
) -> Result<()> {
    let more = [("noOverwriteDirNonDir", "1"), ("copyUIDGID", if args.archive { "1" } else { "" })];
    let mut answer = daemon.upload(Method::PUT, &archive(name, folder, &more), source).await?;
    while answer.chunk().await?.is_some() {}
    Ok(())
}

/// Something here into a container.
async fn send(daemon: &Daemon, source: &str, name: &str, path: &str, args: &CopyArgs) -> Result<()> {
    let mut found = source_here(source, args.follow_link)?;
    let is_folder = is_folder(found.stat.mode);
    let (path, there) = target_in(daemon, name, path).await?;
    let placed = placed(is_folder, &path, there)?;
    if let Some(name) = placed.name {
        found.call(name.into_bytes());
    }
    let (reader, writer) = std::io::pipe()?;
    let pack = move || found.pack(std::io::BufWriter::with_capacity(256 << 10, writer));
    let packing = tokio::task::spawn_blocking(pack);
    let reader = tokio::fs::File::from_std(std::fs::File::from(std::os::fd::OwnedFd::from(reader)));
    // A daemon that refuses reads no further: what it says is the reason, not the pipe that broke.
    upload(daemon, name, &placed.folder, reader, args).await?;
    packing.await?.map_err(|error| missing(error, source))?;
    said(args, &format!("Successfully copied to {name}:{path}"));
    Ok(())
}

/// Something in a container to here.
async fn download(daemon: &Daemon, name: &str, path: &str, target: &str, args: &CopyArgs) -> Result<()> {
    let (full, is_folder) = source_in(daemon, name, path, args.follow_link).await?;
    let there = match std::fs::metadata(target) {
        Ok(meta) if meta.is_dir() => Target::Folder,
        Ok(_) => Target::File,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Target::Missing,
        Err(error) => return Err(error).with_context(|| format!("looking at {target}")),
    };
    let mut placed = placed(is_folder, target, there)?;
    let contents = path.ends_with("/.") || path == ".";
    if contents && there == Target::Missing {
        // The folder's content goes into a new folder.
        std::fs::create_dir(target).with_context(|| format!("making {target}"))?;
        placed = Placed { folder: target.to_owned(), name: None };
    } else if placed.name.is_none() && base(&full) != base(path) && !contents {
        placed.name = Some(base(path));
    }
    let inside = here(Path::new(&placed.folder)).with_context(|| format!("invalid output path: {target}"))?;
    let mut answer = daemon.stream(Method::GET, &archive(name, &full, &[])).await?;
    let (reader, mut writer) = std::io::pipe()?;
    let unpacking = std::thread::spawn(move || unpack(&inside, reader, placed.name.as_deref()));
    let mut broken = None;
    while let Some(piece) = answer.chunk().await.transpose() {
        let written = piece.map_err(anyhow::Error::from).and_then(|piece| Ok(writer.write_all(&piece)?));
        if let Err(error) = written {
            broken = Some(error);
            break;
        }
    }
    drop(writer);
    let unpacked = unpacking.join().unwrap_or_else(|reason| std::panic::resume_unwind(reason));
    unpacked.map_err(|error| missing(error, target))?;
    if let Some(error) = broken {
        return Err(error);
    }
    said(args, &format!("Successfully copied to {target}"));
    Ok(())
}

fn unpack(inside: &Inside, archive: impl Read, name: Option<&str>) -> Result<(), InsideError> {
    let owner = Some((rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
    inside.unpack("/", archive, Placement { keep_kinds: true, owner, name: name.map(str::as_bytes) })
}

/// The last part of a path as people name it.
fn base(path: &str) -> String {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/').map_or(path, |(_, name)| name).to_owned()
}

/// A source here; of a link that is to be followed what it leads to, under the link's name.
fn source_here(source: &str, follow: bool) -> Result<Found> {
    let folder = std::env::current_dir()?;
    let full = if source.starts_with('/') { source.to_owned() } else { format!("{}/{source}", folder.display()) };
    let inside = here(Path::new("/"))?;
    let found = inside.find(&full).map_err(|error| missing(error, source))?;
    if !follow || found.stat.link_target.is_empty() {
        return Ok(found);
    }
    let mut behind = inside.find(&found.stat.link_target).map_err(|error| missing(error, source))?;
    behind.call(base(source).into_bytes());
    Ok(behind)
}

fn here(folder: &Path) -> Result<Inside> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(folder, flags, Mode::empty());
    Ok(Inside::new(opened.with_context(|| folder.display().to_string())?))
}

fn is_folder(mode: u32) -> bool {
    PathStat { mode: go_mode(mode), ..PathStat::default() }.is_folder()
}

fn missing(error: InsideError, path: &str) -> anyhow::Error {
    match error {
        InsideError::NotFound(_) => anyhow::anyhow!("{path}: no such file or directory"),
        other => anyhow::Error::from(other),
    }
}

fn said(args: &CopyArgs, text: &str) {
    if !args.quiet && std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        tell(text);
    }
}

#[allow(clippy::print_stderr, reason = "what was done is for people")]
fn tell(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_by_their_colon() {
        let container = |name, path| Place::Container { name, path };
        assert_eq!(place("web:/etc"), container("web", "/etc"));
        assert_eq!(place("web:etc"), container("web", "etc"));
        assert_eq!(place("/a:b"), Place::Here("/a:b"));
        assert_eq!(place("./a:b"), Place::Here("./a:b"));
        assert_eq!(place("file"), Place::Here("file"));
        assert_eq!(place("-"), Place::Stream);
    }

    #[test]
    fn sources_go_where_docker_puts_them() {
        let check = |is_folder: bool, target: &str, there: Target, expected: Option<(&str, Option<&str>)>| {
            let placed = placed(is_folder, target, there).ok();
            let expected =
                expected.map(|(folder, name)| Placed { folder: folder.to_owned(), name: name.map(str::to_owned) });
            assert_eq!(placed, expected, "{is_folder} {target} {there:?}");
        };
        check(false, "/srv", Target::Folder, Some(("/srv", None)));
        check(true, "/srv/", Target::Folder, Some(("/srv/", None)));
        check(false, "/srv/x", Target::File, Some(("/srv", Some("x"))));
        check(true, "/srv/x", Target::File, None);
        check(false, "/x", Target::Missing, Some(("/", Some("x"))));
        check(false, "x/", Target::Missing, None);
        check(true, "x/", Target::Missing, Some((".", Some("x"))));
    }
}
