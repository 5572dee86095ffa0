//! Commands that make, get, name and remove images.

use anyhow::{Context, Result, bail};
use atoll_api::atoll::BootstrapRequest;
use atoll_api::docker::{DeleteItem, ImagePruned, REGISTRY_AUTH, size};
use atoll_client::{escape, with_query};
use atoll_oci::Reference;
use hyper::Method;

use super::{Daemon, complain, say};
use crate::args::{BootstrapArgs, ImagePruneArgs, LoadArgs, PullArgs, RmiArgs, TagArgs, Variant};
use crate::output::progress;
use crate::{credentials, terminal};

/// `image bootstrap`.
pub(crate) async fn bootstrap(daemon: Daemon, args: BootstrapArgs) -> Result<u8> {
    let Some(suite) = args.source.strip_prefix("debian:").filter(|suite| !suite.is_empty()) else {
        bail!("only Debian can be bootstrapped: write debian:SUITE, such as debian:bookworm");
    };
    let path = |path: Option<std::path::PathBuf>| -> Result<String> {
        let Some(path) = path else { return Ok(String::new()) };
        Ok(std::path::absolute(&path)?.to_str().context("the keyring's path is no text")?.to_owned())
    };
    let request = BootstrapRequest {
        suite: suite.to_owned(),
        arch: args.arch.unwrap_or_default(),
        include: args.include,
        variant: match args.variant {
            Variant::Minimal => "minimal",
            Variant::Apt => "apt",
        }
        .to_owned(),
        mirror: args.mirror.unwrap_or_default(),
        name: args.tag,
        keyring: path(args.keyring)?,
    };
    let answer = daemon.stream_json("/atoll/v1/images/bootstrap", &request).await?;
    for line in progress::follow(answer, false).await? {
        if let Some(made) = line.aux {
            say(made.id)?;
        }
    }
    Ok(0)
}

/// `pull`.
pub(crate) async fn pull(daemon: Daemon, args: PullArgs) -> Result<u8> {
    let reference = get(&daemon, &args.image, args.platform.as_deref(), args.quiet).await?;
    say(reference)?;
    Ok(0)
}

/// Gets an image from its registry, with what this user knows for that.
pub(crate) async fn get(daemon: &Daemon, image: &str, platform: Option<&str>, quiet: bool) -> Result<Reference> {
    let reference: Reference = image.parse()?;
    let credentials = credentials::of(reference.registry()).await?;
    let tag = reference.digest().map(ToString::to_string).or_else(|| reference.tag().map(ToOwned::to_owned));
    let query = [
        ("fromImage", reference.name()),
        ("tag", tag.unwrap_or_default()),
        ("platform", platform.unwrap_or_default().to_owned()),
    ];
    let path = with_query("/images/create", &query.each_ref().map(|(key, value)| (*key, value.as_str())));
    let answer = daemon.stream_with(&path, REGISTRY_AUTH, &credentials.to_header()).await?;
    progress::follow(answer, quiet).await?;
    Ok(reference)
}

/// `load`.
pub(crate) async fn load(daemon: Daemon, args: LoadArgs) -> Result<u8> {
    let to = with_query("/images/load", &[("platform", &args.platform)]);
    let answer = match &args.input {
        Some(path) => {
            let file = tokio::fs::File::open(path).await.with_context(|| format!("reading {}", path.display()))?;
            daemon.upload(Method::POST, &to, file).await?
        }
        None if std::io::IsTerminal::is_terminal(&std::io::stdin()) => {
            bail!("nothing to load: name an archive with -i, or send one to standard input")
        }
        None => daemon.upload(Method::POST, &to, tokio::io::stdin()).await?,
    };
    for line in progress::follow(answer, args.quiet).await? {
        if let Some(text) = line.stream {
            say(text.trim_end())?;
        }
    }
    Ok(0)
}

/// `tag`.
pub(crate) async fn tag(daemon: Daemon, args: TagArgs) -> Result<u8> {
    // The part after the last colon is a tag unless it holds a slash, as in `host:5000/name`.
    let (repository, tag) = match args.target.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (args.target.as_str(), ""),
    };
    let path = format!("/images/{}/tag", escape(&args.source));
    daemon.order(&with_query(&path, &[("repo", repository), ("tag", tag)])).await?;
    Ok(0)
}

/// `image prune`.
pub(crate) async fn prune(daemon: Daemon, args: ImagePruneArgs) -> Result<u8> {
    if !args.force {
        let what = if args.all { "all images that no container uses" } else { "all images without a name" };
        if !terminal::agrees(&format!("This takes away {what}. Go on? [y/N] "))? {
            return Ok(crate::ERROR);
        }
    }
    let mut texts = args.filter;
    texts.extend(args.all.then(|| "dangling=false".to_owned()));
    let filters = super::lists::filters(&texts)?;
    let path = with_query("/images/prune", &[("filters", filters.as_str())]);
    let pruned: ImagePruned = daemon.post(&path, &serde_json::json!({})).await?;
    say_removed(pruned.images_deleted.unwrap_or_default())?;
    say(format!("Total reclaimed space: {}", size(pruned.space_reclaimed)))?;
    Ok(0)
}

/// `rmi`.
pub(crate) async fn remove(daemon: Daemon, args: RmiArgs) -> Result<u8> {
    let mut failed = 0;
    for name in &args.images {
        let path = format!("/images/{}", escape(name));
        let query = [("force", if args.force { "1" } else { "" })];
        match daemon.delete::<Vec<DeleteItem>>(&with_query(&path, &query)).await {
            Ok(items) => say_removed(items)?,
            Err(error) => {
                complain(&error.into());
                failed = crate::ERROR;
            }
        }
    }
    Ok(failed)
}

/// Prints which names and images are gone.
pub(super) fn say_removed(items: Vec<DeleteItem>) -> Result<()> {
    for item in items {
        item.untagged.map_or(Ok(()), |name| say(format!("Untagged: {name}")))?;
        item.deleted.map_or(Ok(()), |id| say(format!("Deleted: {id}")))?;
    }
    Ok(())
}
