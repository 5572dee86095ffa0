//! Streams over connections that were HTTP: attach and exec by hand, byte for byte, and over WebSockets.

mod raw;
mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use atoll_testkit::TempHost;
use raw::{ask, connect, get, read_all};
use serde_json::{Value, json};
use support::{IMAGE, docker, finish, has_docker, host, until};

/// Makes a container of a command line and returns its id.
#[track_caller]
fn create(host: &TempHost, command: &str, more: &Value) -> String {
    let mut body = json!({"Image": IMAGE, "Cmd": ["sh", "-c", command]});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let answer = ask(host, "POST", "/containers/create", &body.to_string());
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["Id"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn post(host: &TempHost, path: &str) {
    let answer = ask(host, "POST", path, "");
    assert!((200..300).contains(&answer.status), "{path}: {answer:?}");
}

/// A running container.
fn run(host: &TempHost, command: &str, more: &Value) -> String {
    let id = create(host, command, more);
    post(host, &format!("/containers/{id}/start"));
    id
}

fn is_running(host: &TempHost, id: &str) -> bool {
    get(host, &format!("/containers/{id}/json"))["State"]["Running"] == true
}

/// Sends a request that asks for an upgrade, with `early` right behind it; the connection after the head of its answer.
#[track_caller]
fn hijack(host: &TempHost, path: &str, body: &str, early: &str) -> UnixStream {
    let mut stream = connect(host);
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{kind}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}{early}").as_bytes()).expect("it is sent");
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream
}

fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// What has come already.
fn read_now(stream: &mut UnixStream) -> Vec<u8> {
    stream.set_nonblocking(true).expect("it is a socket");
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
    bytes
}

/// The payloads of frames, of both streams.
fn unframe(mut bytes: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(8) {
        let length = u32::from_be_bytes(head[4..].try_into().expect("four bytes")) as usize;
        assert!(matches!(head[0], 1 | 2) && rest.len() >= length, "{head:?}, {} bytes left", rest.len());
        text.extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "half a frame: {bytes:?}");
    String::from_utf8(text).expect("text")
}

fn count(lines: std::ops::Range<u32>) -> String {
    lines.map(|line| format!("{line}\n")).collect()
}

const COUNTING: &str = "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); [ $((i%10)) = 0 ] && sleep 0.02; done";

#[test]
fn what_was_written_comes_first_and_nothing_twice() {
    let Some(host) = host() else { return };
    let id = run(&host, COUNTING, &json!({}));
    std::thread::sleep(std::time::Duration::from_millis(150));
    let mut stream = hijack(&host, &format!("/containers/{id}/attach?logs=1&stream=1&stdout=1&stderr=1"), "", "");
    assert_eq!(unframe(&read_all(&mut stream)), count(0..300));
    // All of it is over: both ways end at once.
    for query in ["logs=1", "logs=1&stream=0"] {
        let answer = ask(&host, "POST", &format!("/containers/{id}/attach?{query}&stdout=1"), "");
        assert_eq!((answer.status, unframe(&answer.body)), (200, count(0..300)));
    }
    // What the last run wrote, then what the next one does.
    let mut stream = hijack(&host, &format!("/containers/{id}/attach?logs=1&stream=1&stdout=1"), "", "");
    post(&host, &format!("/containers/{id}/start"));
    assert_eq!(unframe(&read_all(&mut stream)), count(0..300) + &count(0..300));
    let neither = ask(&host, "POST", &format!("/containers/{id}/attach?stdout=1"), "");
    assert_eq!(neither.status, 400);
}

#[test]
fn who_is_told_the_end_has_all_output_by_then() {
    let Some(host) = host() else { return };
    for round in 0..10 {
        let id = create(&host, "seq 0 499; exit 3", &json!({"HostConfig": {"NetworkMode": "none"}}));
        let mut stream = hijack(&host, &format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1"), "", "");
        post(&host, &format!("/containers/{id}/start"));
        let end = ask(&host, "POST", &format!("/containers/{id}/wait"), "");
        assert_eq!(end.json()["StatusCode"], 3, "{end:?}");
        assert_eq!(unframe(&read_now(&mut stream)), count(0..500), "round {round}");
    }
}

#[test]
fn a_client_that_does_not_take_the_last_output_holds_up_no_end() {
    let Some(host) = host() else { return };
    let id = create(&host, "dd if=/dev/zero bs=1M count=8 2>/dev/null", &json!({}));
    let _stream = hijack(&host, &format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1"), "", "");
    let _other = hijack(&host, &format!("/containers/{id}/attach?stream=1&stdin=1"), "", "");
    post(&host, &format!("/containers/{id}/start"));
    post(&host, &format!("/containers/{id}/kill"));
    assert_eq!(ask(&host, "POST", &format!("/containers/{id}/wait"), "").json()["StatusCode"], 137);
}

#[test]
fn bytes_before_the_answer_are_input_and_never_a_request() {
    let Some(host) = host() else { return };
    let id = create(&host, "cat", &json!({"OpenStdin": true, "StdinOnce": true}));
    let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1");
    let request = format!("POST /containers/{id}/rename?name=smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut stream = hijack(&host, &path, "", &request);
    post(&host, &format!("/containers/{id}/start"));
    stream.shutdown(Shutdown::Write).expect("the end of input");
    assert_eq!(unframe(&read_all(&mut stream)), request);
    // A body is not input.
    let mut stream = hijack(&host, &path, "a body", "input");
    post(&host, &format!("/containers/{id}/start"));
    stream.shutdown(Shutdown::Write).expect("the end of input");
    assert_eq!(unframe(&read_all(&mut stream)), "input");
    // Nor is what follows an upgrade that was refused a request.
    let mut stream = connect(&host);
    let refused = "POST /containers/nobody/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(format!("{refused}{request}").as_bytes()).expect("it is sent");
    let answers = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
    assert!(answers.starts_with("HTTP/1.1 404") && answers.matches("HTTP/1.1").count() == 1, "{answers}");
    assert_ne!(get(&host, &format!("/containers/{id}/json"))["Name"], "/smuggled");
}

#[test]
fn detach_keys_leave_it_running() {
    let Some(host) = host() else { return };
    let id = run(&host, "cat", &json!({"OpenStdin": true, "Tty": true}));
    let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,b");
    let mut stream = hijack(&host, &path, "", "");
    stream.write_all(b"x\x01c\n\x01b").expect("it is sent");
    let output = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
    assert!(!output.contains('\u{1}') && is_running(&host, &id), "{output:?}");
    let bad = ask(&host, "POST", &format!("/containers/{id}/attach?stream=1&detachKeys=ctrl-1"), "");
    assert_eq!(bad.status, 400, "{bad:?}");
    // The same of a session, whose keys are said when it is made.
    let body = json!({"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true, "Tty": true, "DetachKeys": "d,e"});
    let exec = ask(&host, "POST", &format!("/containers/{id}/exec"), &body.to_string()).json();
    let exec = exec["Id"].as_str().expect("an id");
    let mut stream = hijack(&host, &format!("/exec/{exec}/start"), r#"{"Tty":true}"#, "");
    stream.write_all(b"de").expect("it is sent");
    read_all(&mut stream);
    let session = get(&host, &format!("/exec/{exec}/json"));
    assert_eq!((&session["Running"], &session["DetachKeys"]), (&true.into(), &"d,e".into()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let events = ask(&host, "GET", &format!("/events?until={now:.9}"), "");
    let events = String::from_utf8_lossy(&events.body).into_owned();
    let said = |action: &str| events.lines().filter(|line| line.contains(&format!("\"Action\":\"{action}\""))).count();
    assert_eq!((said("attach"), said("detach"), said("exec_detach")), (1, 1, 1), "{events}");
}

#[test]
fn removal_ends_the_stream() {
    let Some(host) = host() else { return };
    let id = run(&host, "echo here; sleep 1000", &json!({}));
    let mut stream = hijack(&host, &format!("/containers/{id}/attach?stream=1&logs=1&stdout=1"), "", "");
    let answer = ask(&host, "DELETE", &format!("/containers/{id}?force=1"), "");
    assert_eq!(answer.status, 204);
    assert_eq!(unframe(&read_all(&mut stream)), "here\n");
    // One that waits for a start that never comes.
    let id = create(&host, "true", &json!({}));
    let mut stream = hijack(&host, &format!("/containers/{id}/attach?stream=1&stdout=1"), "", "");
    post(&host, &format!("/containers/{id}/rename?name=gone"));
    assert_eq!(ask(&host, "DELETE", "/containers/gone", "").status, 204);
    assert_eq!(unframe(&read_all(&mut stream)), "");
}

fn descriptors(host: &TempHost) -> usize {
    let pid = host.daemon_pid().expect("it runs");
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count()
}

fn resident_kib(host: &TempHost) -> u64 {
    let pid = host.daemon_pid().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_client_that_vanished_is_let_go_of() {
    let Some(host) = host() else { return };
    let id = run(&host, "sleep 1000", &json!({"OpenStdin": true}));
    let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1");
    let before = descriptors(&host);
    let open: Vec<_> = (0..10).map(|_| hijack(&host, &path, "", "")).collect();
    assert!(descriptors(&host) >= before + 10);
    // Half gone is not gone.
    open.iter().for_each(|stream| stream.shutdown(Shutdown::Write).expect("the end of input"));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(descriptors(&host) >= before + 10);
    drop(open);
    until("all are let go of", || descriptors(&host) <= before);
    assert!(is_running(&host, &id));
}

#[test]
fn a_client_that_does_not_read_costs_no_memory() {
    let Some(host) = host() else { return };
    let id = create(&host, "yes 0123456789abcdef", &json!({}));
    let clients: Vec<_> =
        (0..4).map(|_| hijack(&host, &format!("/containers/{id}/attach?stream=1&stdout=1"), "", "")).collect();
    let before = resident_kib(&host);
    post(&host, &format!("/containers/{id}/start"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    let after = resident_kib(&host);
    assert!(after < before + (16 << 10), "{before} KiB, then {after} KiB");
    drop(clients);
    assert!(is_running(&host, &id));
    post(&host, &format!("/containers/{id}/kill"));
}

/// A WebSocket by RFC 6455, without the parts that a test does not need.
struct WebSocket(UnixStream);

impl WebSocket {
    #[track_caller]
    fn open(host: &TempHost, path: &str) -> Self {
        let mut stream = connect(host);
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .expect("it is sent");
        let head = read_head(&mut stream).to_lowercase();
        // The key and its answer of section 1.3.
        assert!(head.starts_with("http/1.1 101") && head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        Self(stream)
    }

    fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).expect("a short message")];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.write_all(&frame).expect("it is sent");
    }

    /// The next message's opcode and payload.
    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a message");
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                self.0.read_exact(&mut long).expect("a length");
                u16::from_be_bytes(long).into()
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).expect("a payload");
        (head[0] & 0x0f, payload)
    }
}

#[test]
fn streams_go_over_websockets() {
    let Some(host) = host() else { return };
    let id = run(&host, "cat; echo over >&2", &json!({"OpenStdin": true, "StdinOnce": true}));
    let mut socket = WebSocket::open(&host, &format!("/containers/{id}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1"));
    socket.send(2, b"in and out\n");
    assert_eq!(socket.receive(), (2, b"in and out\n".to_vec()));
    socket.send(9, b"ping");
    assert_eq!(socket.receive(), (10, b"ping".to_vec()));
    socket.send(1, b"text\n");
    assert_eq!(socket.receive(), (2, b"text\n".to_vec()));
    socket.send(8, &[]);
    until("its input has ended", || !is_running(&host, &id));
    // Version 1.27 had text messages, and all streams whatever was asked for.
    let id = run(&host, "cat", &json!({"OpenStdin": true}));
    let mut socket = WebSocket::open(&host, &format!("/v1.27/containers/{id}/attach/ws?stream=1"));
    socket.send(1, b"old\n");
    assert_eq!(socket.receive(), (1, b"old\n".to_vec()));
    post(&host, &format!("/containers/{id}/kill"));
    assert_eq!(socket.receive().0, 8);
    let plain = ask(&host, "GET", &format!("/containers/{id}/attach/ws?stream=1"), "");
    assert_eq!(plain.status, 400, "{plain:?}");
}

#[test]
fn a_websockets_message_has_a_limit() {
    let Some(host) = host() else { return };
    let id = run(&host, "cat", &json!({"OpenStdin": true}));
    let mut socket = WebSocket::open(&host, &format!("/containers/{id}/attach/ws?stream=1&stdin=1&stdout=1"));
    // One that says it has 2^62 bytes.
    let mut head = vec![0x82, 0xff];
    head.extend_from_slice(&(1_u64 << 62).to_be_bytes());
    head.extend_from_slice(&[1, 2, 3, 4]);
    socket.0.write_all(&head).expect("it is sent");
    read_all(&mut socket.0);
    assert!(is_running(&host, &id));
}

#[test]
fn sessions_have_terminals_sizes_and_survive_the_daemon() {
    let Some(mut host) = host() else { return };
    let id = run(&host, "sleep 1000", &json!({}));
    let make = |host: &TempHost, body: &Value| {
        let made = ask(host, "POST", &format!("/containers/{id}/exec"), &body.to_string());
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["Id"].as_str().expect("an id").to_owned()
    };
    let sized =
        json!({"Cmd": ["sh", "-c", "read x; stty size"], "Tty": true, "AttachStdin": true, "AttachStdout": true});
    let exec = make(&host, &sized);
    let mut stream = hijack(&host, &format!("/exec/{exec}/start"), r#"{"Tty":true,"ConsoleSize":[10,20]}"#, "");
    post(&host, &format!("/exec/{exec}/resize?h=33&w=77"));
    stream.write_all(b"\n").expect("it is sent");
    let said = String::from_utf8_lossy(&read_all(&mut stream)).into_owned();
    assert!(said.contains("33 77"), "{said:?}");
    let exec = make(&host, &json!({"Cmd": ["sleep", "500"], "User": "0", "Privileged": true}));
    let before = get(&host, &format!("/exec/{exec}/json"));
    assert_eq!((&before["Running"], &before["Pid"], &before["ExitCode"]), (&false.into(), &0.into(), &Value::Null));
    assert_eq!(ask(&host, "POST", &format!("/exec/{exec}/start"), r#"{"Detach":true}"#).status, 200);
    let running = get(&host, &format!("/exec/{exec}/json"));
    assert!(running["Pid"].as_i64().expect("a number") > 0, "{running}");
    host.kill_daemon().expect("it runs");
    host.start_daemon(&[]).expect("it starts");
    assert_eq!(get(&host, &format!("/exec/{exec}/json")), running);
    assert_eq!(running["ProcessConfig"]["entrypoint"], "sleep");
    assert_eq!(running["ProcessConfig"]["arguments"], json!(["500"]));
    let again = ask(&host, "POST", &format!("/exec/{exec}/start"), "{}");
    assert_eq!(again.status, 409, "{again:?}");
    post(&host, &format!("/containers/{id}/kill"));
    until("it has ended", || get(&host, &format!("/exec/{exec}/json"))["ExitCode"] == 137);
}

#[test]
fn the_stock_client_attaches_with_other_keys() {
    let Some(host) = host().filter(|_| has_docker()) else { return };
    let id = run(&host, "cat", &json!({"OpenStdin": true, "StdinOnce": true}));
    let ran = finish(docker(&host, &["attach", "--detach-keys", "x,y", &id]), "plain xy input\n");
    // Without a terminal the keys are input.
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "plain xy input\n"), "{ran:?}");
}
