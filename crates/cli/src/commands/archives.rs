//! Commands whose result or source is an archive: `export`, `diff`, `commit`, `save`, `import`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use atoll_api::atoll::ProgressLine;
use atoll_api::docker::{ChangeItem, CommitResponse};
use atoll_client::{Answer, escape, with_query};
use hyper::Method;

use super::{Daemon, say};
use crate::args::{CommitArgs, DiffArgs, ExportArgs, ImportArgs, SaveArgs};

/// `diff`.
pub(crate) async fn diff(daemon: Daemon, args: DiffArgs) -> Result<u8> {
    let path = format!("/containers/{}/changes", escape(&args.container));
    let changes: Option<Vec<ChangeItem>> = daemon.get(&path).await?;
    for change in changes.unwrap_or_default() {
        let kind = match change.kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        say(format!("{kind} {}", change.path))?;
    }
    Ok(0)
}

/// `export`.
pub(crate) async fn export(daemon: Daemon, args: ExportArgs) -> Result<u8> {
    let to = Output::of(args.output)?;
    let path = format!("/containers/{}/export", escape(&args.container));
    to.write(daemon.stream(Method::GET, &path).await?).await
}

/// `save`.
pub(crate) async fn save(daemon: Daemon, args: SaveArgs) -> Result<u8> {
    let to = Output::of(args.output)?;
    let mut query: Vec<_> = args.images.iter().map(|name| ("names", name.as_str())).collect();
    query.push(("platform", &args.platform));
    to.write(daemon.stream(Method::GET, &with_query("/images/get", &query)).await?).await
}

/// `commit`.
pub(crate) async fn commit(daemon: Daemon, args: CommitArgs) -> Result<u8> {
    let (repository, tag) = args.name.as_deref().map_or(("", ""), halves);
    let mut query = vec![
        ("container", args.container.as_str()),
        ("repo", repository),
        ("tag", tag),
        ("author", &args.author),
        ("comment", &args.message),
        ("pause", if args.pause { "1" } else { "0" }),
    ];
    query.extend(args.change.iter().map(|change| ("changes", change.as_str())));
    let made: CommitResponse = daemon.post(&with_query("/commit", &query), &serde_json::json!({})).await?;
    say(made.id)?;
    Ok(0)
}

/// `import`.
pub(crate) async fn import(daemon: Daemon, args: ImportArgs) -> Result<u8> {
    let (repository, tag) = args.name.as_deref().map_or(("", ""), halves);
    let mut query = vec![
        ("fromSrc", "-"),
        ("repo", repository),
        ("tag", tag),
        ("message", &args.message),
        ("platform", &args.platform),
    ];
    query.extend(args.change.iter().map(|change| ("changes", change.as_str())));
    let to = with_query("/images/create", &query);
    let mut answer = match args.file.as_str() {
        "-" => daemon.upload(Method::POST, &to, tokio::io::stdin()).await?,
        path if path.starts_with("http://") || path.starts_with("https://") => {
            bail!("importing from {path} is not supported: download it, and import the file")
        }
        path => {
            let file = tokio::fs::File::open(path).await.with_context(|| format!("reading {path}"))?;
            daemon.upload(Method::POST, &to, file).await?
        }
    };
    while let Some(line) = answer.line::<ProgressLine>().await? {
        if let Some(error) = line.error {
            bail!("{error}");
        }
        say(line.status)?;
    }
    Ok(0)
}

/// Repository and tag of a name: what follows the last colon is a tag unless it has a slash, as in `host:5000/name`.
fn halves(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    }
}

/// Where an archive goes.
enum Output {
    Standard,
    /// A file, which is there only when it is whole.
    File(PathBuf),
}

impl Output {
    fn of(path: Option<PathBuf>) -> Result<Self> {
        match path {
            Some(path) => Ok(Self::File(path)),
            None if std::io::stdout().is_terminal() => {
                bail!("cowardly refusing to save to a terminal: use -o, or redirect the output")
            }
            None => Ok(Self::Standard),
        }
    }

    async fn write(self, answer: Answer) -> Result<u8> {
        match self {
            Self::Standard => copy(answer, &mut std::io::stdout()).await?,
            Self::File(path) => {
                let writing = || format!("writing {}", path.display());
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let name = path.file_name().with_context(writing)?.to_string_lossy().into_owned();
                let partial = folder.join(format!(".{name}.{}.partial", std::process::id()));
                let mut file = std::fs::File::create_new(&partial).with_context(writing)?;
                let written = copy(answer, &mut file).await;
                if written.is_err() {
                    drop(std::fs::remove_file(&partial));
                }
                written?;
                std::fs::rename(&partial, &path).with_context(writing)?;
            }
        }
        Ok(0)
    }
}

/// Writes what comes as it comes.
pub(super) async fn copy(mut answer: Answer, to: &mut impl Write) -> Result<()> {
    while let Some(piece) = answer.chunk().await? {
        to.write_all(&piece)?;
    }
    Ok(to.flush()?)
}

#[cfg(test)]
mod tests {
    use super::halves;

    #[test]
    fn names_have_two_halves() {
        assert_eq!(halves("web:1"), ("web", "1"));
        assert_eq!(halves("host:5000/web"), ("host:5000/web", ""));
        assert_eq!(halves("host:5000/web:1"), ("host:5000/web", "1"));
    }
}
