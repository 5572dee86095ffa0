//! Commands that speak to registries: putting images there, logging in and out.

use anyhow::{Context, Result, bail};
use atoll_api::docker::{AuthAnswer, REGISTRY_AUTH, RegistryAuth, registry_key, registry_of};
use atoll_client::{escape, with_query};
use atoll_oci::Reference;
use tokio::io::AsyncReadExt;

use super::{Daemon, say, warn};
use crate::args::{LoginArgs, LogoutArgs, PushArgs};
use crate::output::progress;
use crate::{credentials, terminal};

/// Bytes of a password.
const PASSWORD_MAX: u64 = 64 << 10;

/// `push`.
pub(crate) async fn push(daemon: Daemon, args: PushArgs) -> Result<u8> {
    let reference: Reference = args.image.parse()?;
    if args.all_tags && args.image != reference.name() && args.image != reference.familiar_name() {
        bail!("tag can't be used with --all-tags/-a");
    }
    let credentials = credentials::of(reference.registry()).await?;
    let tag = if args.all_tags { "" } else { reference.tag().unwrap_or_default() };
    let name = match reference.digest() {
        Some(_) => reference.familiar(),
        None => reference.familiar_name(),
    };
    let query = [("tag", tag), ("platform", args.platform.as_deref().unwrap_or_default())];
    let path = with_query(&format!("/images/{}/push", escape(&name)), &query);
    let answer = daemon.stream_with(&path, REGISTRY_AUTH, &credentials.to_header()).await?;
    for image in progress::follow(answer, args.quiet).await?.into_iter().filter_map(|line| line.aux) {
        say(format!("{}@{}", reference.name(), image.digest))?;
    }
    Ok(0)
}

/// `login`.
pub(crate) async fn login(daemon: Daemon, args: LoginArgs) -> Result<u8> {
    let registry = registry_of(args.server.as_deref().unwrap_or_default()).to_owned();
    let known = credentials::of(&registry).await?;
    let is_asked = args.username.is_none() && args.password.is_none();
    if is_asked && known != RegistryAuth::default() && attempt(&daemon, &registry, known).await.is_ok() {
        say("Login Succeeded")?;
        return Ok(0);
    }
    let username = match args.username {
        Some(username) => username,
        None => terminal::ask("Username: ", true)?.context("no terminal to ask for a name on: give -u NAME")?,
    };
    let password = if args.password_stdin {
        let mut password = String::new();
        tokio::io::stdin().take(PASSWORD_MAX).read_to_string(&mut password).await?;
        password.trim_end_matches(['\r', '\n']).to_owned()
    } else if let Some(password) = args.password {
        warn("a password on the command line can be seen by others: use --password-stdin");
        password
    } else {
        let asked = terminal::ask("Password: ", false)?;
        asked.context("no terminal to ask for a password on: use --password-stdin")?
    };
    if username.is_empty() || password.is_empty() {
        bail!("name and password must not be empty");
    }
    let auth = RegistryAuth {
        username,
        password,
        server_address: registry_key(&registry).to_owned(),
        ..RegistryAuth::default()
    };
    let answer = attempt(&daemon, &registry, auth.clone()).await?;
    let kept = RegistryAuth { identity_token: answer.identity_token, ..auth };
    if credentials::keep(&registry, &kept).await? {
        warn("the password is kept unencrypted in Docker's config.json: a credential helper (credsStore) avoids that");
    }
    say(answer.status)?;
    Ok(0)
}

async fn attempt(daemon: &Daemon, registry: &str, auth: RegistryAuth) -> Result<AuthAnswer> {
    let auth = RegistryAuth { server_address: registry_key(registry).to_owned(), ..auth };
    Ok(daemon.post("/auth", &auth).await?)
}

/// `logout`.
pub(crate) async fn logout(args: LogoutArgs) -> Result<u8> {
    let registry = registry_of(args.server.as_deref().unwrap_or_default());
    if credentials::forget(registry).await? {
        say(format!("Removing login credentials for {registry}"))?;
    } else {
        say(format!("Not logged in to {registry}"))?;
    }
    Ok(0)
}
