//! Keeping and forgetting what this user knows for a registry (`login`, `logout`), as Docker's CLI does.
//!
//! Where a helper is configured it is told `store` or `erase`; the file then only says that there is something. Whatever else
//! the file holds stays; it is replaced as a whole, readable by its owner alone.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use atoll_api::docker::{RegistryAuth, registry_key, registry_of};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Config, TOKEN_USER, converse, file, helper, read};

/// Keeps credentials for a registry. True when they lie in the file itself, for everybody to read who can read it.
///
/// # Errors
/// When the file cannot be read or written, or a helper fails.
pub(crate) async fn keep(registry: &str, auth: &RegistryAuth) -> Result<bool> {
    let path = file().context("nowhere to keep credentials: HOME is not set")?;
    let (config, mut whole) = both(&path)?;
    let key = registry_key(registry);
    let (entry, in_file) = match helper(&config, registry) {
        Some(helper) => {
            let (name, secret) = match auth.identity_token.as_str() {
                "" => (auth.username.as_str(), auth.password.as_str()),
                token => (TOKEN_USER, token),
            };
            let told = json!({"ServerURL": key, "Username": name, "Secret": secret}).to_string();
            converse(helper, "store", told.as_bytes()).await?;
            (json!({}), false)
        }
        None => {
            let password = if auth.identity_token.is_empty() { auth.password.as_str() } else { "" };
            let mut entry = json!({"auth": STANDARD.encode(format!("{}:{password}", auth.username))});
            if !auth.identity_token.is_empty() {
                entry["identitytoken"] = auth.identity_token.as_str().into();
            }
            (entry, true)
        }
    };
    let auths = whole.entry("auths").or_insert_with(|| json!({}));
    if auths.is_null() {
        *auths = json!({});
    }
    let Some(auths) = auths.as_object_mut() else { bail!("\"auths\" in {} is no object", path.display()) };
    auths.insert(key.to_owned(), entry);
    write(&path, &whole)?;
    Ok(in_file)
}

/// Forgets what is known for a registry. False when nothing was.
///
/// # Errors
/// When the file cannot be read or written, or a helper fails.
pub(crate) async fn forget(registry: &str) -> Result<bool> {
    let Some(path) = file() else { return Ok(false) };
    let (config, mut whole) = both(&path)?;
    let mut known = false;
    if let Some(helper) = helper(&config, registry) {
        known |= converse(helper, "erase", registry_key(registry).as_bytes()).await?.is_some();
    }
    if let Some(auths) = whole.get_mut("auths").and_then(Value::as_object_mut) {
        let before = auths.len();
        auths.retain(|key, _| registry_of(key) != registry);
        if auths.len() < before {
            known = true;
            write(&path, &whole)?;
        }
    }
    Ok(known)
}

/// The file: the part that is about registries, and all of it.
fn both(path: &Path) -> Result<(Config, Map<String, Value>)> {
    Ok((read(path)?.unwrap_or_default(), read(path)?.unwrap_or_default()))
}

fn write(path: &Path, whole: &Map<String, Value>) -> Result<()> {
    // A link stays one: what it leads to is replaced.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("."));
    let replace = || -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let temporary = folder.join(format!(".config.json.{}", std::process::id()));
        let done = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(
            |mut file| {
                file.write_all(serde_json::to_string_pretty(whole)?.as_bytes())?;
                file.sync_all()?;
                std::fs::rename(&temporary, &path)
            },
        );
        if done.is_err() {
            // The first error is the one that counts.
            drop(std::fs::remove_file(&temporary));
        }
        done
    };
    replace().with_context(|| format!("writing {}", path.display()))
}
