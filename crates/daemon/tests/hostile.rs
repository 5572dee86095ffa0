//! Bytes that no client should send: each gets a clear error or a closed connection, and the daemon lives.

mod raw;
mod support;

use std::io::{Read, Write};
use std::net::Shutdown;

use atoll_testkit::TempHost;
use raw::{ask, connect, get, parse, read_all};
use support::{IMAGE, host};

/// Requests with random damage that are sent.
const ROUNDS: u64 = 1500;

/// Sends bytes, ends that direction, and reads what comes until the other end closes.
fn throw(host: &TempHost, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(host);
    // Who is refused early may be closed on while it still talks.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    read_all(&mut stream)
}

#[track_caller]
fn lives(host: &TempHost) {
    let answer = ask(host, "GET", "/_ping", "");
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"OK".as_slice()), "{}", host.daemon_log());
    let panics = host.daemon_log().lines().filter(|line| line.contains("panicked")).count();
    assert_eq!(panics, 0, "{}", host.daemon_log());
}

#[test]
fn bodies_that_make_no_sense_are_refused_with_a_sentence() {
    let Some(host) = host() else { return };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let check = |path: &str, body: &str| {
        let answer = ask(&host, "POST", path, body);
        let shown: String = body.chars().take(60).collect();
        // What is understood and not done is 501.
        assert!(matches!(answer.status, 400 | 501), "{path} {shown}: {answer:?}");
        assert!(!answer.message().is_empty(), "{path} {shown}");
    };
    for path in ["/containers/create", "/v1.24/containers/create", "/v1.41/containers/create", "/volumes/create"] {
        for body in [
            "{",
            "{\"a",
            "[]",
            "5",
            "\"x\"",
            "{}x",
            "{\"Image\":5,\"Name\":5}",
            "{\"HostConfig\":7,\"Name\":7}",
            "\u{0}",
            &deep,
        ] {
            check(path, body);
        }
    }
    for body in [
        r#"{"Image":"busybox:test","HostConfig":{"Memory":"much"}}"#,
        r#"{"Image":"busybox:test","HostConfig":{"Memory":1e400}}"#,
        r#"{"Image":"busybox:test","HostConfig":{"Binds":[5]}}"#,
        r#"{"Image":"busybox:test","HostConfig":{"Mounts":[[]]}}"#,
        r#"{"Image":"busybox:test","Env":{"a":"b"}}"#,
    ] {
        check("/containers/create", body);
        check("/v1.24/containers/create", body);
    }
    assert_eq!(get(&host, "/containers/json?all=1"), serde_json::json!([]));
    // What is unknown is passed over, as Docker does; what is another type of content is not.
    let known = format!(r#"{{"Image":"{IMAGE}","Cmd":["true"],"Hostname":null,"NoSuchField":null}}"#);
    assert_eq!(ask(&host, "POST", "/containers/create?name=fine", &known).status, 201);
    let text = throw(
        &host,
        format!("POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{known}", known.len())
            .as_bytes(),
    );
    let text = parse(&text);
    assert_eq!(text.status, 400);
    assert_eq!(text.message(), "Content-Type specified (text/plain) must be 'application/json'");
    lives(&host);
}

#[test]
fn a_body_above_the_limit_is_refused_before_anything_is_done() {
    let Some(host) = host() else { return };
    let body = format!(r#"{{"Image":"{IMAGE}","Cmd":["true"]}}"#);
    assert_eq!(ask(&host, "POST", "/containers/create?name=web", &body).status, 201);
    // By its length alone: the body is never sent, and the rename never done.
    let paths = ["/containers/web/rename?name=other", "/containers/web/start", "/containers/create?name=big"];
    for path in paths.into_iter().chain(["/v1.24/containers/create?name=big"]) {
        let mut stream = connect(&host);
        write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n").expect("it is sent");
        let answer = raw::answer(&mut stream);
        assert_eq!(answer.status, 413, "{path}: {answer:?}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    // By what comes in chunks.
    let mut bytes =
        b"POST /containers/create?name=big HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    (0..8).for_each(|_| bytes.extend_from_slice(chunk.as_bytes()));
    bytes.extend_from_slice(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
    let said = throw(&host, &bytes);
    assert!(said.is_empty() || parse(&said).status == 413, "{:?}", String::from_utf8_lossy(&said));
    let names = get(&host, "/containers/json?all=1");
    assert_eq!((&names[0]["Names"][0], names.as_array().map(Vec::len)), (&"/web".into(), Some(1)));
    assert_eq!(names[0]["State"], "created");
    lives(&host);
}

#[test]
fn heads_that_make_no_sense_are_refused() {
    let Some(host) = host() else { return };
    let many: String = (0..5000).map(|number| format!("X-{number}: y\r\n")).collect();
    let long = format!("GET /info HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(2 << 20));
    let address = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a/".repeat(200_000));
    let cases: [&str; 18] = [
        "\r\n\r\n",
        "\0\0\0\0\0\0\0\0",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{7c}\x03\x03",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "GET /info HTTP/1.1\r\nHost x\r\n\r\n",
        "GET /info HTTP/1.1\r\nA\0B: x\r\n\r\n",
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}",
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"Image\":",
        &format!("GET /info HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
        &long,
        &address,
    ];
    for case in cases {
        let said = throw(&host, case.as_bytes());
        let shown: String = case.chars().take(80).collect();
        if !said.is_empty() {
            let status = parse(&said).status;
            assert!((400..=505).contains(&status), "{shown:?}: {:?}", String::from_utf8_lossy(&said));
        }
    }
    assert_eq!(get(&host, "/containers/json?all=1"), serde_json::json!([]));
    lives(&host);
}

#[test]
fn one_request_is_one_request() {
    let Some(host) = host() else { return };
    let inner = "POST /containers/create?name=smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    // Two lengths: the chunks count, what follows them is another request, and says so.
    let both = format!(
        "POST /volumes/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
    );
    throw(&host, both.as_bytes());
    // A body that looks like a request is a body.
    let body = format!("POST /volumes/create HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
    let said = String::from_utf8_lossy(&throw(&host, body.as_bytes())).into_owned();
    assert_eq!(said.matches("HTTP/1.1").count(), 1, "{said}");
    // So is one that nobody reads.
    let body = format!("POST /containers/x/kill HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
    let said = String::from_utf8_lossy(&throw(&host, body.as_bytes())).into_owned();
    assert_eq!(said.matches("HTTP/1.1").count(), 1, "{said}");
    assert_eq!(get(&host, "/containers/json?all=1"), serde_json::json!([]));
    lives(&host);
}

#[test]
fn names_and_numbers_that_make_no_sense_are_refused() {
    let Some(host) = host() else { return };
    let check = |method: &str, path: &str, expected: &[u16]| {
        let answer = ask(&host, method, path, "");
        assert!(expected.contains(&answer.status), "{method} {path}: {answer:?}");
    };
    check("GET", "/containers/..%2f..%2fetc%2fpasswd/json", &[404]);
    check("GET", "/containers/%00/json", &[404, 400]);
    check("GET", "/containers/%ff%fe/json", &[404, 400]);
    check("GET", "/images/../../etc/passwd/json", &[404, 400]);
    check("GET", "/images/%2e%2e%2f%2e%2e/json", &[404, 400]);
    check("DELETE", "/volumes/..%2f..%2ftmp", &[404, 400]);
    check("POST", "/volumes/create?x=y", &[201]);
    check("GET", "/containers/json?limit=many", &[400]);
    check("GET", "/containers/json?filters=%7B", &[400]);
    check("GET", "/containers/json?filters=%7B%22colour%22%3A%5B%22x%22%5D%7D", &[400]);
    check("GET", "/events?since=yesterday", &[400]);
    check("GET", "/events?since=10&until=5", &[400]);
    check("POST", "/exec/nobody/resize?h=-1&w=99999999", &[400, 404]);
    check("POST", "/containers/x/wait?condition=never", &[400, 404]);
    check("PATCH", "/info", &[404]);
    check("POST", "/info", &[404]);
    check("GET", "/v1.41", &[404]);
    check("GET", "//info", &[404]);
    check("HEAD", "/info", &[200]);
    check("POST", "/build", &[501]);
    check("POST", "/session", &[501]);
    check("POST", "/containers/x/checkpoints", &[501]);
    check("GET", "/plugins", &[200]);
    check("GET", "/plugins/team/thing/json", &[404]);
    check("GET", "/swarm", &[503]);
    check("POST", "/swarm/init", &[501]);
    check("GET", "/secrets", &[503]);
    lives(&host);
}

#[test]
fn one_name_goes_to_one_of_many() {
    let Some(host) = host() else { return };
    let body = format!(r#"{{"Image":"{IMAGE}","Cmd":["true"]}}"#);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let one = || ask(&host, "POST", "/containers/create?name=same", &body).status;
        let clients: Vec<_> = (0..32).map(|_| scope.spawn(one)).collect();
        clients.into_iter().map(|client| client.join().expect("an answer")).collect()
    });
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(201), count(409)), (1, 31), "{statuses:?}");
}

/// A few bits, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// A request that once made sense.
fn damaged(dice: &mut Dice) -> Vec<u8> {
    const PATHS: [&str; 12] = [
        "GET /info",
        "GET /containers/json?all=1",
        "POST /containers/create?name=a",
        "GET /events?until=1",
        "POST /containers/a/start",
        "GET /images/busybox:test/json",
        "POST /volumes/create",
        "DELETE /containers/a",
        "POST /containers/a/attach?stream=1&logs=1",
        "GET /v1.24/system/df",
        "POST /v1.30/containers/a/wait",
        "POST /images/load",
    ];
    const BODIES: [&str; 4] =
        ["", "{}", r#"{"Image":"busybox:test","Cmd":["true"],"HostConfig":{"Binds":[]}}"#, "[1,2]"];
    const HEADERS: [&str; 5] = [
        "",
        "Connection: Upgrade\r\nUpgrade: tcp\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "Content-Type: text/x\r\n",
    ];
    let (path, body, header) = (PATHS[dice.roll(12)], BODIES[dice.roll(4)], HEADERS[dice.roll(5)]);
    let length = if dice.roll(4) == 0 { dice.roll(100) } else { body.len() };
    let mut bytes =
        format!("{path} HTTP/1.1\r\nHost: x\r\n{header}Content-Length: {length}\r\n\r\n{body}").into_bytes();
    for _ in 0..dice.roll(4) {
        let at = dice.roll(bytes.len().max(1));
        match dice.roll(3) {
            _ if bytes.is_empty() => {}
            0 => bytes[at] = u8::try_from(dice.roll(256)).expect("a byte"),
            1 => drop(bytes.remove(at)),
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

#[test]
fn random_damage_does_no_harm() {
    let Some(host) = host() else { return };
    let mut dice = Dice(4);
    for round in 0..ROUNDS {
        let bytes = damaged(&mut dice);
        let mut stream = connect(&host);
        stream.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a time limit");
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = [0; 64];
        // Some requests are right and have no end: a wait, an attachment.
        if let Ok(count @ 12..) = stream.read(&mut said) {
            let said = String::from_utf8_lossy(&said[..count]).into_owned();
            assert!(said.starts_with("HTTP/1.1 "), "round {round}: {said:?} to {:?}", String::from_utf8_lossy(&bytes));
            // An archive that is none is answered with 500, as dockerd does.
            assert!(
                bytes.starts_with(b"POST /images/load") || !said.starts_with("HTTP/1.1 500"),
                "round {round}: {said:?} to {:?}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }
    lives(&host);
}
