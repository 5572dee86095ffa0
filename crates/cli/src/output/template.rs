//! The part of Go's `text/template` that `--format` needs: fields, and a few functions.
//!
//! `{{.State.Status}}`, `{{json .Config}}`, `{{join .Args " "}}`, `{{index .Labels "a"}}`, `{{len .Mounts}}`, `{{upper .Name}}`,
//! and the same as a pipeline, `{{.Args | json}}`. Control structures (`if`, `range`, `with`) are refused by name.

use serde_json::Value;

/// Longest template.
const LENGTH_MAX: usize = 64 << 10;

/// A template that was understood.
#[derive(Debug, PartialEq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

/// Why a template was not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadTemplate {
    /// A `{{` without its `}}`.
    #[error("template: an action is not closed: write {{{{.Field}}}}")]
    Open,
    /// A function or keyword that is not there.
    #[error("template: {0:?} is not supported: use fields and json, join, index, len, lower, upper, title, println")]
    Function(String),
    /// A function with the wrong arguments.
    #[error("template: wrong arguments of {0}")]
    Arguments(String),
    /// A field that the thing does not have.
    #[error("template: there is no field {0}")]
    Field(String),
    /// Too long.
    #[error("template: longer than {LENGTH_MAX} bytes")]
    TooLong,
}

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    Action(Vec<Vec<Term>>),
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    Path(Vec<String>),
    Literal(Value),
    Function(String),
}

impl Template {
    /// Reads a template; `\t` and `\n` written as such are a tab and a line feed, as Docker has it.
    pub(crate) fn parse(text: &str) -> Result<Self, BadTemplate> {
        if text.len() > LENGTH_MAX {
            return Err(BadTemplate::TooLong);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            parts.push(Part::Text(unescape(before)));
            let (action, after) = after.split_once("}}").ok_or(BadTemplate::Open)?;
            parts.push(Part::Action(parse_action(action)?));
            rest = after;
        }
        parts.push(Part::Text(unescape(rest)));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { parts })
    }

    /// The text for a value.
    pub(crate) fn render(&self, value: &Value) -> Result<String, BadTemplate> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Action(pipeline) => text.push_str(&plain(&evaluate(pipeline, value)?)),
            }
        }
        Ok(text)
    }

    /// The last names of the fields, for the head of a table.
    pub(crate) fn head(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Action(pipeline) => {
                    let name = pipeline.iter().flatten().find_map(|term| match term {
                        Term::Path(path) => path.last(),
                        _ => None,
                    });
                    text.push_str(&name.map_or_else(String::new, |name| title_of(name)));
                }
            }
        }
        text
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// `RunningFor` is headed `RUNNING FOR`, `ID` is `ID`.
fn title_of(name: &str) -> String {
    let mut title = String::new();
    let mut before = ' ';
    for letter in name.chars() {
        if letter.is_uppercase() && before.is_lowercase() {
            title.push(' ');
        }
        title.extend(letter.to_uppercase());
        before = letter;
    }
    title
}

fn parse_action(text: &str) -> Result<Vec<Vec<Term>>, BadTemplate> {
    let text = text.trim().trim_start_matches("- ").trim_end_matches(" -");
    let mut pipeline = vec![Vec::new()];
    for word in words(text)? {
        match (word.as_str(), pipeline.last_mut()) {
            ("|", _) => pipeline.push(Vec::new()),
            (_, Some(command)) => command.push(parse_term(&word)?),
            (_, None) => {}
        }
    }
    if pipeline.iter().any(Vec::is_empty) {
        return Err(BadTemplate::Arguments("an empty action".to_owned()));
    }
    Ok(pipeline)
}

/// Splits at spaces and bars outside of quotes.
fn words(text: &str) -> Result<Vec<String>, BadTemplate> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' | '`' => {
                word.push('"');
                loop {
                    match letters.next() {
                        None => return Err(BadTemplate::Open),
                        Some(end) if end == letter => break,
                        Some('\\') if letter == '"' => word.push(match letters.next() {
                            Some('n') => '\n',
                            Some('t') => '\t',
                            Some(other) => other,
                            None => return Err(BadTemplate::Open),
                        }),
                        Some(other) => word.push(other),
                    }
                }
                words.push(std::mem::take(&mut word));
            }
            '|' => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                words.push("|".to_owned());
            }
            space if space.is_whitespace() => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            other => word.push(other),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    Ok(words)
}

fn parse_term(word: &str) -> Result<Term, BadTemplate> {
    if let Some(text) = word.strip_prefix('"') {
        return Ok(Term::Literal(Value::String(text.to_owned())));
    }
    if let Ok(number) = word.parse::<i64>() {
        return Ok(Term::Literal(number.into()));
    }
    if let Some(path) = word.strip_prefix('.') {
        let path = if path.is_empty() { Vec::new() } else { path.split('.').map(ToOwned::to_owned).collect() };
        return Ok(Term::Path(path));
    }
    match word {
        "json" | "join" | "index" | "len" | "lower" | "upper" | "title" | "println" | "print" => {
            Ok(Term::Function(word.to_owned()))
        }
        other => Err(BadTemplate::Function(other.to_owned())),
    }
}

fn evaluate(pipeline: &[Vec<Term>], value: &Value) -> Result<Value, BadTemplate> {
    let mut piped: Option<Value> = None;
    for command in pipeline {
        let (head, terms) = match command.split_first() {
            Some((Term::Function(name), terms)) => (Some(name), terms),
            _ => (None, command.as_slice()),
        };
        let mut arguments = Vec::new();
        for term in terms {
            arguments.push(match term {
                Term::Path(path) => look_up(value, path)?,
                Term::Literal(literal) => literal.clone(),
                Term::Function(name) => return Err(BadTemplate::Arguments(name.clone())),
            });
        }
        arguments.extend(piped.take());
        piped = Some(match head {
            Some(name) => call(name, &arguments)?,
            None => match <[Value; 1]>::try_from(arguments) {
                Ok([only]) => only,
                Err(_) => return Err(BadTemplate::Arguments("a field".to_owned())),
            },
        });
    }
    Ok(piped.unwrap_or_default())
}

fn look_up(value: &Value, path: &[String]) -> Result<Value, BadTemplate> {
    let mut at = value;
    for name in path {
        at = match at {
            Value::Object(fields) => match fields.get(name) {
                Some(field) => field,
                None => return Err(BadTemplate::Field(path.join("."))),
            },
            Value::Null => return Ok(Value::Null),
            _ => return Err(BadTemplate::Field(path.join("."))),
        };
    }
    Ok(at.clone())
}

fn call(name: &str, arguments: &[Value]) -> Result<Value, BadTemplate> {
    let text = match (name, arguments) {
        ("json", [value]) => value.to_string(),
        ("join", [Value::Array(items), Value::String(between)] | [Value::String(between), Value::Array(items)]) => {
            items.iter().map(plain).collect::<Vec<_>>().join(between)
        }
        ("index", [Value::Object(fields), Value::String(key)]) => {
            return Ok(fields.get(key).cloned().unwrap_or_else(|| Value::String(String::new())));
        }
        ("index", [Value::Array(items), Value::Number(at)]) => {
            let item = at.as_u64().and_then(|at| items.get(usize::try_from(at).ok()?));
            return item.cloned().ok_or_else(|| BadTemplate::Field(format!("number {at}")));
        }
        ("len", [Value::Array(items)]) => return Ok(items.len().into()),
        ("len", [Value::Object(fields)]) => return Ok(fields.len().into()),
        ("len", [Value::String(text)]) => return Ok(text.len().into()),
        ("len", [Value::Null]) => return Ok(0.into()),
        ("lower", [value]) => plain(value).to_lowercase(),
        ("upper", [value]) => plain(value).to_uppercase(),
        ("title", [value]) => {
            let text = plain(value);
            let mut letters = text.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        }
        ("print", values) => values.iter().map(plain).collect(),
        ("println", values) => values.iter().map(plain).collect::<Vec<_>>().join(" ") + "\n",
        _ => return Err(BadTemplate::Arguments(name.to_owned())),
    };
    Ok(Value::String(text))
}

/// A value as Go prints it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<no value>".to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let pairs: Vec<_> = fields.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: Result<&str, BadTemplate>) {
        let value = serde_json::json!({
            "ID": "abc", "State": {"Status": "running", "Pid": 7}, "Args": ["a", "b"], "Labels": {"x.y": "z"}, "None": null,
        });
        let rendered = Template::parse(template).and_then(|template| template.render(&value));
        assert_eq!(rendered, expected.map(ToOwned::to_owned), "{template}");
    }

    #[test]
    fn fields_and_functions() {
        check("{{.ID}}", Ok("abc"));
        check("{{ .State.Status }}/{{.State.Pid}}", Ok("running/7"));
        check("{{json .State}}", Ok(r#"{"Pid":7,"Status":"running"}"#));
        check("{{.Args | json}}", Ok(r#"["a","b"]"#));
        check("{{join .Args \", \"}}", Ok("a, b"));
        check("{{index .Labels \"x.y\"}}", Ok("z"));
        check("{{index .Args 1}}", Ok("b"));
        check("{{len .Args}}{{len .None}}", Ok("20"));
        check("{{upper .ID}}\\t{{title .ID}}", Ok("ABC\tAbc"));
        check("{{.Args}} {{.Labels}}", Ok("[a b] map[x.y:z]"));
        check("plain", Ok("plain"));
        check(
            "{{json .}}x",
            Ok(
                r#"{"Args":["a","b"],"ID":"abc","Labels":{"x.y":"z"},"None":null,"State":{"Pid":7,"Status":"running"}}x"#,
            ),
        );
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        check("{{.Nope}}", Err(BadTemplate::Field("Nope".to_owned())));
        check("{{.ID.x}}", Err(BadTemplate::Field("ID.x".to_owned())));
        check("{{range .Args}}", Err(BadTemplate::Function("range".to_owned())));
        check("{{if .ID}}", Err(BadTemplate::Function("if".to_owned())));
        check("{{.ID", Err(BadTemplate::Open));
        check("{{}}", Err(BadTemplate::Arguments("an empty action".to_owned())));
        check("{{join .ID}}", Err(BadTemplate::Arguments("join".to_owned())));
    }

    #[test]
    fn heads_of_tables() {
        let head = |text| Template::parse(text).expect("a template").head();
        assert_eq!(head("{{.ID}}\\t{{.RunningFor}}\\t{{upper .Names}}"), "ID\tRUNNING FOR\tNAMES");
    }
}
