//! Instructions of a Dockerfile that change an image's configuration: `commit --change`, `import --change`.
//!
//! Pure: a text in, a changed [`Config`] out. Words, quotes and variables are read as Docker reads them; variables are those
//! that the configuration has by then. Instructions that make files are no changes and are refused.

use std::collections::BTreeMap;

use atoll_oci::config::{Config, Empty, Healthcheck};

use crate::Error;

/// The shell of commands that are not lists.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Applies the instructions of `text`, one a line; a line that ends in a backslash goes on.
pub(crate) fn apply(config: &mut Config, text: &str) -> Result<(), Error> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    for line in joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        one(config, &name.to_ascii_uppercase(), rest.trim())?;
    }
    Ok(())
}

fn one(config: &mut Config, name: &str, rest: &str) -> Result<(), Error> {
    if rest.is_empty() && !matches!(name, "CMD" | "ENTRYPOINT") {
        return Err(bad(name, "needs something after it"));
    }
    match name {
        "CMD" => config.cmd = Some(command(config, rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(config, rest)),
        "ENV" => {
            for (key, value) in pairs(config, name, rest)? {
                let prefix = format!("{key}=");
                let entry = format!("{prefix}{value}");
                match config.env.iter_mut().find(|known| known.starts_with(&prefix)) {
                    Some(known) => *known = entry,
                    None => config.env.push(entry),
                }
            }
        }
        "LABEL" => config.labels.extend(pairs(config, name, rest)?),
        "EXPOSE" => {
            for word in words(config, rest)? {
                config.exposed_ports.extend(ports(&word)?.into_iter().map(|port| (port, Empty {})));
            }
        }
        "VOLUME" => {
            let paths = match list(rest) {
                Some(paths) => paths,
                None => words(config, rest)?,
            };
            if paths.iter().any(|path| path.trim().is_empty()) {
                return Err(bad(name, "specified can not be an empty string"));
            }
            config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
        }
        "USER" => config.user = single(config, name, rest)?,
        "WORKDIR" => {
            let path = single(config, name, rest)?;
            config.working_dir = below(&config.working_dir, &path);
        }
        "STOPSIGNAL" => {
            let signal = single(config, name, rest)?;
            if atoll_model::signal_number(&signal).is_none() {
                return Err(Error::Invalid(format!("invalid signal: {signal}")));
            }
            config.stop_signal = Some(signal);
        }
        "HEALTHCHECK" => config.healthcheck = Some(health(rest)?),
        "ONBUILD" => {
            let trigger = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            if matches!(trigger.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
                return Err(bad(name, &format!("{trigger} isn't allowed as an ONBUILD trigger")));
            }
            config.on_build.push(rest.to_owned());
        }
        other => return Err(Error::Invalid(format!("{} is not a valid change command", other.to_ascii_lowercase()))),
    }
    Ok(())
}

fn bad(name: &str, why: &str) -> Error {
    Error::Invalid(format!("{name} {why}"))
}

/// A JSON list of texts, if it is one.
fn list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok())?
}

/// A command line: a list as it is, anything else for the shell.
fn command(config: &Config, text: &str) -> Vec<String> {
    if let Some(words) = list(text) {
        return words;
    }
    if text.is_empty() {
        return Vec::new();
    }
    let shell = config.shell.clone().unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
    shell.into_iter().chain([text.to_owned()]).collect()
}

/// `KEY=VALUE …`, or the old form `KEY VALUE` with one pair.
fn pairs(config: &Config, name: &str, text: &str) -> Result<Vec<(String, String)>, Error> {
    let first = split(text)?.into_iter().next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace).ok_or_else(|| bad(name, "must have two arguments"))?;
        return Ok(vec![(expand(config, key)?, expand(config, value.trim())?)]);
    }
    let pair = |word: &String| {
        let (key, value) = word.split_once('=').ok_or_else(|| {
            Error::Invalid(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value"))
        })?;
        let key = expand(config, key)?;
        if key.is_empty() { Err(bad(name, "names can not be blank")) } else { Ok((key, expand(config, value)?)) }
    };
    split(text)?.iter().map(pair).collect()
}

fn words(config: &Config, text: &str) -> Result<Vec<String>, Error> {
    split(text)?.iter().map(|word| expand(config, word)).collect()
}

fn single(config: &Config, name: &str, text: &str) -> Result<String, Error> {
    match expand(config, text)? {
        value if value.is_empty() => Err(bad(name, "requires exactly one argument")),
        value => Ok(value),
    }
}

/// The words of a text with their quotes and escapes still on.
fn split(text: &str) -> Result<Vec<String>, Error> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', open) if open != Some('\'') => {
                word.push(letter);
                word.extend(letters.next());
                continue;
            }
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            (letter, None) if letter.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        word.push(letter);
    }
    if let Some(open) = quote {
        return Err(Error::Invalid(format!("unexpected end of statement while looking for matching {open}-quote")));
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    Ok(words)
}

/// A text without its quotes and escapes, with the variables of the configuration put in.
fn expand(config: &Config, text: &str) -> Result<String, Error> {
    let (mut out, mut quote) = (String::new(), None);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (letter, Some('\'')) if letter != '\'' => out.push(letter),
            ('\\', None) => out.extend(letters.next()),
            ('\\', _) => match letters.next() {
                Some(escaped @ ('"' | '$' | '\\')) => out.push(escaped),
                other => {
                    out.push('\\');
                    out.extend(other);
                }
            },
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            ('$', _) => {
                let name = if letters.next_if_eq(&'{').is_some() {
                    let inner: String = letters.by_ref().take_while(|letter| *letter != '}').collect();
                    out.push_str(&braced(config, &inner)?);
                    continue;
                } else {
                    let mut name = String::new();
                    while let Some(letter) = letters.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
                    {
                        name.push(letter);
                    }
                    name
                };
                if name.is_empty() {
                    out.push('$');
                } else {
                    out.push_str(variable(config, &name).unwrap_or_default());
                }
            }
            (letter, _) => out.push(letter),
        }
    }
    Ok(out)
}

/// `NAME`, `NAME:-otherwise`, `NAME:+instead`.
fn braced(config: &Config, inner: &str) -> Result<String, Error> {
    let end = inner.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(inner.len());
    let (name, modifier) = inner.split_at(end);
    let value = variable(config, name).filter(|value| !value.is_empty() || modifier.is_empty());
    match (modifier.get(..2), value) {
        _ if name.is_empty() => Err(Error::Invalid("bad substitution".to_owned())),
        (Some(":-"), None) | (Some(":+"), Some(_)) => expand(config, &modifier[2..]),
        (Some(":+"), None) => Ok(String::new()),
        (Some(":-"), Some(value)) => Ok(value.to_owned()),
        (None, value) if modifier.is_empty() => Ok(value.unwrap_or_default().to_owned()),
        _ => Err(Error::Invalid(format!("unsupported modifier ({modifier}) in substitution"))),
    }
}

fn variable<'a>(config: &'a Config, name: &str) -> Option<&'a str> {
    config.env.iter().filter_map(|entry| entry.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn ports(word: &str) -> Result<Vec<String>, Error> {
    let invalid = || Error::Invalid(format!("Invalid containerPort: {word}"));
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(invalid());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// A folder as seen from another one.
fn below(folder: &str, path: &str) -> String {
    let full = if path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in full.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `[--interval=30s …] CMD command` or `NONE`.
fn health(text: &str) -> Result<Healthcheck, Error> {
    let mut check = Healthcheck::default();
    let mut flags = BTreeMap::new();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (key, value) =
            flag.split_once('=').ok_or_else(|| bad("HEALTHCHECK", &format!("flag --{flag} needs a value")))?;
        flags.insert(key.to_owned(), value.to_owned());
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    check.test = match (kind.to_ascii_uppercase().as_str(), list(command)) {
        ("NONE", _) if command.is_empty() && flags.is_empty() => vec!["NONE".to_owned()],
        ("CMD", Some(words)) if !words.is_empty() => [vec!["CMD".to_owned()], words].concat(),
        ("CMD", None) if !command.is_empty() => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        _ => return Err(bad("HEALTHCHECK", "must be NONE, or CMD and a command")),
    };
    for (key, value) in flags {
        let wrong = || bad("HEALTHCHECK", &format!("has the wrong value --{key}={value}"));
        match key.as_str() {
            "retries" => check.retries = value.parse().ok().filter(|count| *count >= 1).ok_or_else(wrong)?,
            "interval" => check.interval = duration(&value).ok_or_else(wrong)?,
            "timeout" => check.timeout = duration(&value).ok_or_else(wrong)?,
            "start-period" => check.start_period = duration(&value).ok_or_else(wrong)?,
            "start-interval" => check.start_interval = duration(&value).ok_or_else(wrong)?,
            _ => return Err(bad("HEALTHCHECK", &format!("has no flag --{key}"))),
        }
    }
    Ok(check)
}

/// A duration as Go writes it, `1m30s`, in nanoseconds; less than a millisecond is none, as with Docker.
fn duration(text: &str) -> Option<i64> {
    let mut total = 0i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let nanos: f64 = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        // Exact for what people write; anything longer than a hundred years is a mistake.
        let part = number.parse::<f64>().ok()? * nanos;
        total = (part < 3.2e18).then(|| total.checked_add(part as i64))??;
        rest = after;
    }
    (total == 0 || total >= 1_000_000).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str) -> Result<Config, Error> {
        let mut config = Config { env: vec!["PATH=/bin".to_owned(), "A=1".to_owned()], ..Config::default() };
        apply(&mut config, text).map(|()| config)
    }

    #[track_caller]
    fn check(text: &str, pointer: &str, expected: &serde_json::Value) {
        let config = serde_json::to_value(applied(text).expect(text)).expect("JSON");
        assert_eq!(config.pointer(pointer), Some(expected), "{text}: {config}");
    }

    #[test]
    fn commands_are_lists_or_for_the_shell() {
        use serde_json::json;
        check(r#"CMD ["a", "b c"]"#, "/Cmd", &json!(["a", "b c"]));
        check("cmd echo $A", "/Cmd", &json!(["/bin/sh", "-c", "echo $A"]));
        check("ENTRYPOINT [\"/x\"]\nCMD y", "/Entrypoint", &json!(["/x"]));
        check("CMD [not json]", "/Cmd", &json!(["/bin/sh", "-c", "[not json]"]));
        check("CMD", "/Cmd", &json!([]));
    }

    #[test]
    fn variables_and_labels_are_pairs() {
        use serde_json::json;
        check("ENV B=2", "/Env", &json!(["PATH=/bin", "A=1", "B=2"]));
        check("ENV PATH=$PATH:/x A=\"a b\" C='$A'", "/Env", &json!(["PATH=/bin:/x", "A=a b", "C=$A"]));
        check("ENV B two words", "/Env", &json!(["PATH=/bin", "A=1", "B=two words"]));
        check("ENV B=${A}x${NO:-none}${A:+is}\\ y", "/Env/2", &json!("B=1xnoneis y"));
        check("LABEL a=1 \\\n b=\"2 3\"", "/Labels", &json!({"a": "1", "b": "2 3"}));
        check("LABEL k v", "/Labels", &json!({"k": "v"}));
    }

    #[test]
    fn the_rest() {
        use serde_json::json;
        check("EXPOSE 80 90-91/udp", "/ExposedPorts", &json!({"80/tcp": {}, "90/udp": {}, "91/udp": {}}));
        check("VOLUME [\"/a\", \"/b c\"]", "/Volumes", &json!({"/a": {}, "/b c": {}}));
        check("VOLUME /a /b", "/Volumes", &json!({"/a": {}, "/b": {}}));
        check("WORKDIR /a\nWORKDIR ../b/c", "/WorkingDir", &json!("/b/c"));
        check("USER $A", "/User", &json!("1"));
        check("STOPSIGNAL SIGINT", "/StopSignal", &json!("SIGINT"));
        check("ONBUILD RUN x", "/OnBuild", &json!(["RUN x"]));
        check(
            "HEALTHCHECK --interval=1m30s --retries=2 CMD test -f /x",
            "/Healthcheck",
            &json!({"Test": ["CMD-SHELL", "test -f /x"], "Interval": 90_000_000_000_i64, "Retries": 2}),
        );
        check("HEALTHCHECK NONE", "/Healthcheck/Test", &json!(["NONE"]));
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for text in [
            "RUN x",
            "FROM y",
            "ENV",
            "ENV A",
            "ENV A=1 B",
            "ENV =1",
            "LABEL a=\"b",
            "EXPOSE x",
            "EXPOSE 99999",
            "EXPOSE 9-8",
            "STOPSIGNAL SIGNOPE",
            "ONBUILD FROM x",
            "HEALTHCHECK CMD",
            "HEALTHCHECK --interval=x CMD y",
            "HEALTHCHECK --interval=1ns CMD y",
            "HEALTHCHECK --nope=1 CMD y",
            "USER ${",
            "ENV A=${A:?x}",
        ] {
            assert!(matches!(applied(text), Err(Error::Invalid(_))), "{text}");
        }
    }
}
