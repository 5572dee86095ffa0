//! Calls that are more than one request: attached runs, and programs inside.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use atoll_testkit::TempHost;
use serde_json::json;

use crate::facts::unframe;
use crate::raw::{ask, connect, get, read_all};

/// Sends a request; the connection after the head of its answer, and its status.
fn begin(host: &TempHost, path: &str, upgrade: bool, body: &str) -> (u16, UnixStream) {
    let mut stream = connect(host);
    let wish = if upgrade { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "Connection: close\r\n" };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\n{wish}{kind}Content-Length: {length}\r\n\r\n{body}")
        .expect("sent");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), stream)
}

/// What an attached run came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) streams: [String; 2],
}

/// Attaches, waits for the next end, starts: as `docker run` does.
pub(crate) fn attached(host: &TempHost, name: &str) -> Run {
    let query = "stream=1&stdout=1&stderr=1";
    let (_, mut streams) = begin(host, &format!("/containers/{name}/attach?{query}"), true, "");
    let (_, mut waiting) = begin(host, &format!("/containers/{name}/wait?condition=next-exit"), false, "");
    let status = ask(host, "POST", &format!("/containers/{name}/start"), "").status;
    let said = String::from_utf8_lossy(&read_all(&mut waiting)).into_owned();
    let code = said.split("\"StatusCode\":").nth(1).unwrap_or(&said);
    let code = code.chars().take_while(|letter| *letter == '-' || letter.is_ascii_digit()).collect();
    Run { status, code, streams: unframe(&read_all(&mut streams)) }
}

/// Runs a program inside; the status of its creation, what it wrote, and its code.
pub(crate) fn exec(host: &TempHost, name: &str, code: i32) -> (u16, String, i64) {
    let command = format!("echo inside; exit {code}");
    let body = json!({"Cmd": ["sh", "-c", command], "AttachStdout": true, "AttachStderr": true});
    let made = ask(host, "POST", &format!("/containers/{name}/exec"), &body.to_string());
    if made.status != 201 {
        return (made.status, String::new(), 0);
    }
    let id = made.json()["Id"].as_str().expect("an id").to_owned();
    let (status, mut stream) = begin(host, &format!("/exec/{id}/start"), true, "{}");
    assert_eq!(status, 101);
    let [out, _] = unframe(&read_all(&mut stream));
    let ended = get(host, &format!("/exec/{id}/json"));
    (200, out, ended["ExitCode"].as_i64().unwrap_or(-1))
}

/// Runs one that goes on; the status.
pub(crate) fn exec_forever(host: &TempHost, name: &str) -> u16 {
    let body = json!({"Cmd": ["sleep", "100000"]}).to_string();
    let made = ask(host, "POST", &format!("/containers/{name}/exec"), &body);
    if made.status != 201 {
        return made.status;
    }
    let id = made.json()["Id"].as_str().expect("an id").to_owned();
    ask(host, "POST", &format!("/exec/{id}/start"), "{\"Detach\":true}").status
}
