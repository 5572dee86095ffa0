//! What this user knows for a registry, where Docker's CLI keeps it: `~/.docker/config.json` and its helpers.
//!
//! A helper for the registry (`credHelpers`) goes before the one for all (`credsStore`), and both before the file's own
//! `auths`. Helpers are programs `docker-credential-NAME`, asked `get` with the registry on standard input (the protocol of
//! docker-credential-helpers). Nothing secret is printed, kept or passed on a command line.

mod keep;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use atoll_api::docker::{RegistryAuth, registry_key, registry_of};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a helper may take: it may ask its user.
const HELPER_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of a helper's answer.
const ANSWER_MAX: u64 = 1 << 20;
/// Letters of a helper's complaint that are passed on.
const SAID_MAX: usize = 300;
/// A user name that says that the secret is a refresh token.
const TOKEN_USER: &str = "<token>";
/// What helpers say when they know nothing.
const NOT_FOUND: &str = "credentials not found";

pub(crate) use keep::{forget, keep};

/// The part of `config.json` that is about registries.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    auths: Option<BTreeMap<String, Auth>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// A helper's answer.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

/// What this user knows for a registry (host with an optional port); nothing is a value too.
///
/// # Errors
/// When the file cannot be read or a helper fails.
pub(crate) async fn of(registry: &str) -> Result<RegistryAuth> {
    let Some(path) = file() else { return Ok(RegistryAuth::default()) };
    let Some(config) = read::<Config>(&path)? else { return Ok(RegistryAuth::default()) };
    find(&config, registry).await.with_context(|| format!("finding credentials for {registry} ({})", path.display()))
}

/// The file's content; `None` where there is none.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("reading {}", path.display()))?,
    };
    // Where, not what: the parser's own words quote the value, which may be a secret.
    let parsed = serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        anyhow::anyhow!("{} is no configuration of Docker's: see line {line}, column {column}", path.display())
    });
    parsed.map(Some)
}

fn file() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    folder.or_else(home).map(|folder| folder.join("config.json"))
}

async fn find(config: &Config, registry: &str) -> Result<RegistryAuth> {
    let key = registry_key(registry);
    if let Some(helper) = helper(config, registry) {
        return ask(helper, key).await;
    }
    let auths = || config.auths.iter().flatten();
    let exact = auths().find(|(known, _)| *known == key);
    let Some((_, auth)) = exact.or_else(|| auths().find(|(known, _)| registry_of(known) == registry)) else {
        return Ok(RegistryAuth::default());
    };
    let (mut username, mut password) = (auth.username.clone(), auth.password.clone());
    if !auth.auth.is_empty() {
        let bytes = STANDARD.decode(&auth.auth).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((name, secret)) = text.as_deref().and_then(|text| text.split_once(':')) else {
            bail!("its \"auth\" is not base64 of NAME:PASSWORD: log in again (docker login {registry})");
        };
        (username, password) = (name.to_owned(), secret.trim_end_matches('\0').to_owned());
    }
    Ok(RegistryAuth {
        username,
        password,
        server_address: key.to_owned(),
        identity_token: auth.identitytoken.clone(),
        registry_token: auth.registrytoken.clone(),
    })
}

/// The helper for a registry, if it has one.
fn helper<'a>(config: &'a Config, registry: &str) -> Option<&'a String> {
    let helpers = config.helpers.iter().flatten();
    let own = helpers.filter(|(known, _)| registry_of(known) == registry).map(|(_, helper)| helper).next();
    // An empty name says that the file itself is meant.
    own.or(config.store.as_ref()).filter(|name| !name.is_empty())
}

async fn ask(helper: &str, key: &str) -> Result<RegistryAuth> {
    let Some(answer) = converse(helper, "get", key.as_bytes()).await? else { return Ok(RegistryAuth::default()) };
    let Answer { username, secret } =
        serde_json::from_slice(&answer).map_err(|_| anyhow::anyhow!("the helper {helper} gave no credentials"))?;
    let server_address = key.to_owned();
    Ok(if username == TOKEN_USER {
        RegistryAuth { identity_token: secret, server_address, ..RegistryAuth::default() }
    } else {
        RegistryAuth { username, password: secret, server_address, ..RegistryAuth::default() }
    })
}

/// Tells a helper something; its answer, or `None` where it knows nothing of that registry.
async fn converse(helper: &str, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>> {
    if helper.contains(['/', '\0']) {
        bail!("the credential helper {helper:?} must be a plain name");
    }
    let program = format!("docker-credential-{helper}");
    let mut child = tokio::process::Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("running {program}"))?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        bail!("{program} has no standard streams");
    };
    let conversation = async {
        // A helper that answers without listening is no error.
        drop(stdin.write_all(input).await);
        drop(stdin);
        let mut answer = Vec::new();
        stdout.take(ANSWER_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>((answer, child.wait().await?))
    };
    let (answer, status) = tokio::time::timeout(HELPER_TIMEOUT, conversation)
        .await
        .with_context(|| format!("{program} took longer than {} s", HELPER_TIMEOUT.as_secs()))??;
    if !status.success() {
        let said = String::from_utf8_lossy(&answer);
        if said.contains(NOT_FOUND) {
            return Ok(None);
        }
        let said: String = said.chars().filter(|letter| !letter.is_control()).take(SAID_MAX).collect();
        bail!("{program} failed: {}", said.trim());
    }
    Ok(Some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(config: &str, registry: &str) -> Result<(String, String, String)> {
        let config: Config = serde_json::from_str(config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let auth = runtime.block_on(find(&config, registry))?;
        Ok((auth.username, auth.password, auth.identity_token))
    }

    #[test]
    fn the_file_of_docker() {
        let file = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
            "localhost:5000": {"auth": "YTpiOmM=", "identitytoken": "again"},
            "https://r.example/v2/": {"username": "u", "password": "p"},
            "broken.example": {"auth": "!"}}, "HttpHeaders": {}}"#;
        let check = |registry: &str, expected: (&str, &str, &str)| {
            let got = found(file, registry).expect(registry);
            assert_eq!((&*got.0, &*got.1, &*got.2), expected, "{registry}");
        };
        check("docker.io", ("hub", "secret", ""));
        check("localhost:5000", ("a", "b:c", "again"));
        check("r.example", ("u", "p", ""));
        check("localhost", ("", "", ""));
        check("r.example:443", ("", "", ""));
        let error = format!("{:#}", found(file, "broken.example").expect_err("no base64"));
        assert!(error.contains("docker login broken.example"), "{error}");
        assert!(found(r#"{"auths": null, "credHelpers": null, "credsStore": null}"#, "x").is_ok());
        let empty = r#"{"credHelpers": {"x": ""}, "auths": {"x": {"auth": "YTpi"}}}"#;
        assert_eq!(found(empty, "x").expect("the file is meant").0, "a");
        let index = r#"{"auths": {"index.docker.io": {"auth": "YTpi"}}}"#;
        assert_eq!(found(index, "docker.io").expect("the default registry").0, "a");
    }

    #[test]
    fn helpers_are_asked() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let script = "#!/bin/sh\nread -r key\n[ \"$1\" = get ] || exit 3\ncase $key in\n\
            a.example) echo '{\"Username\":\"me\",\"Secret\":\"s\"}' ;;\n\
            t.example) echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}' ;;\n\
            bad.example) echo nonsense ;;\n\
            *) echo 'credentials not found in native keychain'; exit 1 ;;\nesac\n";
        let program = folder.path().join("docker-credential-test");
        std::fs::write(&program, script).expect("it is written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it may run");
        // By path in place of $PATH, which tests share.
        let config: Config =
            serde_json::from_str(r#"{"credsStore": "none", "credHelpers": {"x": "../x"}}"#).expect("JSON");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let error = runtime.block_on(find(&config, "x")).map(drop).expect_err("a path");
        assert!(error.to_string().contains("plain name"), "{error}");
        assert!(runtime.block_on(find(&config, "y")).is_err(), "no such helper");
        let output = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "credentials::tests::helper_child", "--nocapture", "--ignored"])
            .env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default()))
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    #[ignore = "run by the test above, with a PATH of its own"]
    fn helper_child() {
        let file = r#"{"credsStore": "test", "auths": {"a.example": {"auth": "eDp5"}}}"#;
        let check = |registry: &str, expected: (&str, &str, &str)| {
            let got = found(file, registry).expect(registry);
            assert_eq!((&*got.0, &*got.1, &*got.2), expected, "{registry}");
        };
        check("a.example", ("me", "s", ""));
        check("t.example", ("", "", "t"));
        check("docker.io", ("", "", ""));
        let error = found(file, "bad.example").expect_err("nonsense").to_string();
        assert!(!error.contains("nonsense"), "{error}");
    }
}
