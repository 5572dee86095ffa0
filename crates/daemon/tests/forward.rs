//! Log drivers that send lines on, by the stock `docker` client: receivers of our own take everything apart, strictly.

mod support;

use std::collections::BTreeMap;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use atoll_testkit::TempHost;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use support::stock::{host, ok, run};
use support::{IMAGE, until};

/// What a receiver got, message by message.
type Messages = Arc<Mutex<Vec<Vec<u8>>>>;

fn seen(messages: &Messages) -> Vec<Vec<u8>> {
    messages.lock().expect("no receiver panicked").clone()
}

/// Adds what comes from a function to the messages until it gives nothing.
fn collect(mut next: impl FnMut() -> Option<Vec<u8>> + Send + 'static) -> Messages {
    let messages = Messages::default();
    let into = Arc::clone(&messages);
    std::thread::spawn(move || {
        while let Some(message) = next() {
            into.lock().expect("no reader panicked").push(message);
        }
    });
    messages
}

fn datagrams(path: &Path) -> Messages {
    let socket = UnixDatagram::bind(path).expect("it binds");
    collect(move || {
        let mut buffer = vec![0; 1 << 20];
        let length = socket.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    })
}

/// Messages of every connection, cut at line feeds.
fn lines(mut accept: impl FnMut() -> Box<dyn Read + Send> + Send + 'static) -> Messages {
    let messages = Messages::default();
    let into = Arc::clone(&messages);
    std::thread::spawn(move || {
        loop {
            let (mut stream, mut rest) = (accept(), Vec::new());
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                rest.extend_from_slice(&buffer[..count]);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    into.lock().expect("no reader panicked").push(rest.drain(..=end).collect());
                }
            }
        }
    });
    messages
}

fn beside(host: &TempHost, name: &str) -> PathBuf {
    host.root().with_file_name(name)
}

/// A message's priority, header without its time and process, and text: strictly as Docker's driver has them.
fn parse(message: &[u8], format: &str) -> (u8, String, Vec<u8>) {
    let shown = String::from_utf8_lossy(message).into_owned();
    let rest = message.strip_prefix(b"<").expect(&shown);
    let end = rest.iter().position(|byte| *byte == b'>').expect(&shown);
    let priority = std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse().ok()).expect(&shown);
    let rest = rest[end + 1..].strip_suffix(b"\n").expect(&shown);
    let (header, text) = if let Some(rest) = rest.strip_prefix(b"1 ") {
        let fields: Vec<&[u8]> = rest.splitn(7, |byte| *byte == b' ').collect();
        let [time, host, app, process, id, b"-", text] = fields[..] else { panic!("{shown}") };
        let digits = if format == "rfc5424micro" { 32 } else { 25 };
        assert_eq!((time.len(), time[10], process.iter().all(u8::is_ascii_digit)), (digits, b'T', true), "{shown}");
        ([host, app, id].join(&b' '), text)
    } else {
        // `Jan  2 03:04:05 `, then perhaps the host, then `tag[process]: `.
        let (time, rest) = rest.split_at(16);
        assert!(time[3] == b' ' && time[6] == b' ' && time[9] == b':' && time[15] == b' ', "{shown}");
        let end = rest.windows(3).position(|three| three == b"]: ").expect(&shown);
        let (header, process) = std::str::from_utf8(&rest[..end]).expect(&shown).split_once('[').expect(&shown);
        assert!(process.bytes().all(|byte| byte.is_ascii_digit()), "{shown}");
        (header.as_bytes().to_vec(), &rest[end + 3..])
    };
    (priority, String::from_utf8(header).expect(&shown), text.to_vec())
}

fn texts(messages: &Messages) -> Vec<String> {
    seen(messages).iter().map(|message| String::from_utf8(parse(message, "").2).expect("text")).collect()
}

fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[test]
fn each_form_over_each_kind_of_socket() {
    let Some(host) = host() else { return };
    assert_eq!(ok(&host, &["info", "-f", "{{.Plugins.Log}}"]), "[journald json-file local syslog]");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("it binds");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("it binds");
    let stream = UnixListener::bind(beside(&host, "stream")).expect("it binds");
    let udp_address = format!("udp://{}", udp.local_addr().expect("an address"));
    let tcp_address = format!("tcp://{}", tcp.local_addr().expect("an address"));
    let over_udp = collect(move || {
        let mut buffer = vec![0; 65536];
        let length = udp.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    });
    let over_tcp = lines(move || Box::new(tcp.accept().expect("a connection").0));
    let over_stream = lines(move || Box::new(stream.accept().expect("a connection").0));
    let over_datagrams = datagrams(&beside(&host, "datagrams"));
    let own = own_name();
    let path = |name: &str| beside(&host, name).display().to_string();
    let check = |address: &str, format: &str, messages: &Messages, head: &dyn Fn(&str) -> String| {
        let (address, format_option) = (format!("syslog-address={address}"), format!("syslog-format={format}"));
        let name = format!("form-{format}");
        let options = ["--log-driver", "syslog", "--log-opt", &address, "--log-opt", "syslog-facility=local3"];
        let format_options: &[&str] = if format.is_empty() { &[] } else { &["--log-opt", &format_option] };
        let script = "echo out; sleep 0.1; echo err >&2; sleep 0.1; printf 'no end'";
        let command = ["--log-opt", "tag={{.Name}}/{{.ID}}", IMAGE, "sh", "-c", script];
        ok(&host, &[&["run", "--name", &name], &options[..], format_options, &command].concat());
        until("all lines have arrived", || seen(messages).len() == 3);
        let tag = format!("{name}/{}", &ok(&host, &["inspect", "-f", "{{.Id}}", &name])[..12]);
        let expected = [(158, "out"), (155, "err"), (158, "no end")]
            .map(|(priority, text)| (priority, head(&tag), text.as_bytes().to_vec()));
        let parsed: Vec<_> = seen(messages).iter().map(|message| parse(message, format)).collect();
        assert_eq!(parsed, expected, "{format}");
        // What was sent on can be read here too.
        let logs = run(&host, &["logs", &name]);
        assert_eq!((logs.out.as_str(), logs.err.as_str()), ("out\nno end", "err\n"));
    };
    let modern = |tag: &str| format!("{own} {tag} {}", &tag[..tag.len().min(32)]);
    check(&format!("unixgram://{}", path("datagrams")), "", &over_datagrams, &str::to_owned);
    check(&tcp_address, "rfc3164", &over_tcp, &|tag| format!("{own} {tag}"));
    check(&format!("unix://{}", path("stream")), "rfc5424", &over_stream, &modern);
    check(&udp_address, "rfc5424micro", &over_udp, &modern);
}

#[test]
fn what_there_is_not_is_refused_by_name() {
    let Some(host) = host() else { return };
    let check = |driver: &str, option: &str, message: &str| {
        let ran = run(&host, &["create", "--log-driver", driver, "--log-opt", option, IMAGE, "true"]);
        assert!(ran.code == Some(1) && ran.err.contains(message), "{option}: {ran:?}");
    };
    check("syslog", "x=1", "unknown log opt 'x' for syslog log driver");
    check("syslog", "max-size=1m", "unknown log opt 'max-size' for syslog log driver");
    check("syslog", "syslog-address=here", "syslog-address should be in form proto://address, got here");
    check("syslog", "syslog-address=tcp+tls://a:1", "syslog over TLS");
    check("syslog", "syslog-address=unix:///nowhere", "stat /nowhere: no such file or directory");
    check("syslog", "syslog-facility=x", "invalid syslog facility");
    check("syslog", "syslog-format=x", "Invalid syslog format");
    check("syslog", "tag={{.Foo}}", ".Foo");
    check("journald", "syslog-facility=kern", "unknown log opt 'syslog-facility' for journald log driver");
    assert_eq!(ok(&host, &["ps", "-aq"]), "");
}

/// Whether every number from 1 on is there in order, if more than once.
fn complete(texts: &[String], last: u32) -> bool {
    let mut next = 1;
    for text in texts {
        let number: u32 = text.parse().expect("a number");
        assert!(number <= next, "{number} where {next} is missing");
        next = next.max(number + 1);
    }
    next == last + 1
}

#[test]
fn no_line_is_lost_when_the_daemon_is_killed() {
    let Some(mut host) = host() else { return };
    let stream = UnixListener::bind(beside(&host, "stream")).expect("it binds");
    let messages = lines(move || Box::new(stream.accept().expect("a connection").0));
    let address = format!("syslog-address=unix://{}", beside(&host, "stream").display());
    let script = "i=0; while [ $i -lt 100 ]; do seq $((i * 40 + 1)) $((i * 40 + 40)); sleep 0.02; i=$((i + 1)); done";
    let options = ["--log-driver", "syslog", "--log-opt", &address, "--log-opt", "cache-max-size=20k"];
    ok(&host, &[&["run", "-d", "--name", "web"], &options[..], &[IMAGE, "sh", "-c", script]].concat());
    for part in 1..=2 {
        until("some lines have arrived", || seen(&messages).len() > part * 500);
        host.kill_daemon().expect("it ran");
        host.start_daemon(&[]).expect("it starts");
    }
    until("all lines have arrived", || complete(&texts(&messages), 4000));
    ok(&host, &["wait", "web"]);
    let folder = host.root().join("workloads").join(ok(&host, &["inspect", "-f", "{{.Id}}", "web"]));
    until("it is noted that they have", || {
        let noted = std::fs::read_to_string(folder.join("forwarded")).unwrap_or_default();
        let offset = noted.trim().split_once(' ').and_then(|(_, offset)| offset.parse().ok());
        offset == std::fs::metadata(folder.join("log.0")).ok().map(|meta| meta.len())
    });
    let before = seen(&messages).len();
    host.kill_daemon().expect("it ran");
    host.start_daemon(&[]).expect("it starts");
    ok(&host, &["run", "--rm", "--log-driver", "syslog", "--log-opt", &address, IMAGE, "echo", "4001"]);
    // It was removed when its line had arrived, and nothing of the other has come again.
    until("the receiver has looked", || seen(&messages).len() > before);
    assert_eq!((seen(&messages).len(), texts(&messages).last().map(String::as_str)), (before + 1, Some("4001")));
}

#[test]
fn lines_wait_for_a_receiver_that_is_away_and_the_oldest_go_first() {
    let Some(host) = host() else { return };
    let path = beside(&host, "stream");
    let listener = UnixListener::bind(&path).expect("it binds");
    let address = format!("syslog-address=unix://{}", path.display());
    let script = "seq 300; until [ -e /go ]; do sleep 0.02; done; seq 301 600; until [ -e /end ]; do sleep 0.02; done";
    let options = ["--log-driver", "syslog", "--log-opt", &address];
    ok(&host, &[&["run", "-d", "--name", "web"], &options[..], &[IMAGE, "sh", "-c", script]].concat());
    // This receiver goes in the middle of a message.
    let mut part = vec![0; 1000];
    let mut stream = listener.accept().expect("a connection").0;
    stream.read_exact(&mut part).expect("messages");
    drop((listener, stream));
    ok(&host, &["exec", "web", "touch", "/go"]);
    until("it has written", || ok(&host, &["logs", "--tail", "1", "web"]) == "600");
    std::fs::remove_file(&path).expect("a socket");
    // While it is away, a workload that keeps little gives up its oldest lines, and nobody waits for its removal.
    let small = ["--log-opt", "cache-max-size=8k", "--log-opt", "cache-max-file=2"];
    std::fs::write(&path, "").expect("in the place of the socket");
    ok(&host, &[&["run", "--name", "small"], &options[..], &small, &[IMAGE, "seq", "5000"]].concat());
    ok(&host, &[&["run", "--name", "gone"], &options[..], &[IMAGE, "echo", "text"]].concat());
    ok(&host, &["rm", "gone"]);
    std::fs::remove_file(&path).expect("a file");
    let listener = UnixListener::bind(&path).expect("it binds");
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut first = Some(listener.accept().expect("a connection").0);
        connections.push(lines(move || match first.take() {
            Some(stream) => Box::new(stream),
            None => loop {
                std::thread::park();
            },
        }));
    }
    until("both are complete", || {
        connections.iter().all(|messages| texts(messages).last().is_some_and(|last| last == "600" || last == "5000"))
    });
    let (web, small) = match texts(&connections[0]).last().map(String::as_str) {
        Some("600") => (texts(&connections[0]), texts(&connections[1])),
        _ => (texts(&connections[1]), texts(&connections[0])),
    };
    assert!(complete(&web, 600));
    assert!(
        small[0].starts_with("[atoll: up to ") && small[0].contains("files of log records were lost"),
        "{}",
        small[0]
    );
    let kept: Vec<u32> = small[1..].iter().map(|text| text.parse().expect("a number")).collect();
    assert!(kept[0] > 1 && kept.is_sorted_by(|a, b| b - a == 1), "from {}", kept[0]);
    ok(&host, &["exec", "web", "touch", "/end"]);
    ok(&host, &["wait", "web"]);
}

/// Bytes that would be several messages, or none, to somebody careless.
const HOSTILE: &str = r"printf 'a\0b\n<0>Jan  1 00:00:00 host root[1]: c\r\n\377\376\n\n  \033[2J\n'; head -c 40000 /dev/zero | tr '\0' x; echo; echo end";

#[test]
fn hostile_lines_are_one_message_each() {
    let Some(host) = host() else { return };
    let messages = datagrams(&beside(&host, "log"));
    let address = format!("syslog-address=unixgram://{}", beside(&host, "log").display());
    let options = ["--log-driver", "syslog", "--log-opt", &address, "--log-opt", "tag={{.Command}}"];
    ok(&host, &[&["run", "--name", "web"], &options[..], &[IMAGE, "sh", "-c", HOSTILE]].concat());
    until("all lines have arrived", || seen(&messages).last().is_some_and(|last| last.ends_with(b": end\n")));
    let parsed: Vec<_> = seen(&messages).iter().map(|message| parse(message, "").2).collect();
    let long = |length| vec![b'x'; length];
    let expected = [
        b"a\0b".to_vec(),
        b"<0>Jan  1 00:00:00 host root[1]: c\r".to_vec(),
        b"\xff\xfe".to_vec(),
        b"  \x1b[2J".to_vec(),
        long(16384),
        long(16384),
        long(40000 - 2 * 16384),
        b"end".to_vec(),
    ];
    assert_eq!(parsed.len(), expected.len());
    assert!(parsed == expected, "{}", String::from_utf8_lossy(&parsed.concat()));
}

/// Fields of an entry, read as systemd's document of its native protocol has it.
fn fields(mut entry: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut fields = BTreeMap::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| matches!(byte, b'=' | b'\n')).expect("a name");
        let name = std::str::from_utf8(&entry[..end]).expect("a name").to_owned();
        let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(name.bytes().all(allowed) && name.as_bytes()[0].is_ascii_uppercase(), "{name}");
        let counted = entry[end] == b'\n';
        entry = &entry[end + 1..];
        let length = if counted {
            let (length, rest) = entry.split_first_chunk::<8>().expect("a length");
            entry = rest;
            usize::try_from(u64::from_le_bytes(*length)).expect("a length")
        } else {
            entry.iter().position(|byte| *byte == b'\n').expect("an end")
        };
        assert_eq!(entry[length], b'\n', "{name}");
        assert_eq!(fields.insert(name.clone(), entry[..length].to_vec()), None, "{name} comes twice");
        entry = &entry[length + 1..];
    }
    fields
}

/// Entries that a journal takes: datagrams, and sealed files.
fn journal(path: &Path) -> Messages {
    let socket = UnixDatagram::bind(path).expect("it binds");
    collect(move || {
        let mut buffer = vec![0; 1 << 20];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(&socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
        let files: Vec<OwnedFd> = control
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => files.collect::<Vec<_>>(),
                _ => Vec::new(),
            })
            .collect();
        let Some(file) = files.into_iter().next() else {
            buffer.truncate(got.bytes);
            return Some(buffer);
        };
        assert_eq!(got.bytes, 0);
        let seals = rustix::fs::fcntl_get_seals(file.as_fd()).expect("a file in memory");
        assert!(seals.contains(rustix::fs::SealFlags::WRITE | rustix::fs::SealFlags::SHRINK), "{seals:?}");
        let file = std::fs::File::from(file);
        let mut entry = vec![0; usize::try_from(file.metadata().expect("a file").len()).expect("its length")];
        file.read_exact_at(&mut entry, 0).expect("its content");
        Some(entry)
    })
}

/// A host with a journal of its own.
fn journal_host() -> Option<(TempHost, Messages)> {
    let mut host = host()?;
    let (config, path) = (beside(&host, "config.toml"), beside(&host, "journal"));
    let messages = journal(&path);
    std::fs::write(&config, format!("[log]\njournal = {:?}\n", path.display().to_string())).expect("write");
    host.kill_daemon().expect("it ran");
    host.start_daemon_with(&["--config", &config.display().to_string()], &[]).expect("it starts");
    Some((host, messages))
}

#[test]
fn the_journal_gets_docker_s_fields() {
    let Some((host, messages)) = journal_host() else { return };
    let options = ["--log-driver", "journald", "--log-opt", "labels=com.example.role,message", "--log-opt", "env=A"];
    let line = [
        &[
            "run",
            "--name",
            "web",
            "--label",
            "com.example.role=front\nMESSAGE=no",
            "--label",
            "message=no",
            "-e",
            "A=1",
        ],
        &options[..],
        &["--log-opt", "tag={{.Name}}", IMAGE, "sh", "-c"],
    ]
    .concat();
    ok(&host, &[&line[..], &[&format!("{HOSTILE}; sleep 0.1; echo err >&2")]].concat());
    until("all lines have arrived", || seen(&messages).len() == 10);
    let entries: Vec<_> = seen(&messages).iter().map(|entry| fields(entry)).collect();
    let id = ok(&host, &["inspect", "-f", "{{.Id}}", "web"]);
    for entry in &entries {
        let check = |name: &str, value: &str| {
            assert_eq!(
                entry.get(name).map(|value| String::from_utf8_lossy(value).into_owned()).as_deref(),
                Some(value)
            );
        };
        check("CONTAINER_ID", &id[..12]);
        check("CONTAINER_ID_FULL", &id);
        check("CONTAINER_NAME", "web");
        check("CONTAINER_TAG", "web");
        check("SYSLOG_IDENTIFIER", "web");
        check("IMAGE_NAME", IMAGE);
        check("COM_EXAMPLE_ROLE", "front\nMESSAGE=no");
        check("A", "1");
        assert!(entry["SYSLOG_TIMESTAMP"].ends_with(b"Z"));
    }
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| (&entry["MESSAGE"][..], &entry["PRIORITY"][..], entry.contains_key("CONTAINER_PARTIAL_MESSAGE")))
        .collect();
    let long = vec![b'x'; 16384];
    let expected: [(&[u8], &[u8], bool); 10] = [
        (b"a\0b", b"6", false),
        (b"<0>Jan  1 00:00:00 host root[1]: c\r", b"6", false),
        (b"\xff\xfe", b"6", false),
        (b"", b"6", false),
        (b"  \x1b[2J", b"6", false),
        (&long, b"6", true),
        (&long, b"6", true),
        (&long[..40000 - 2 * 16384], b"6", false),
        (b"end", b"6", false),
        (b"err", b"3", false),
    ];
    assert!(shown == expected, "{}", String::from_utf8_lossy(&seen(&messages).concat()));
    assert!(ok(&host, &["logs", "web"]).ends_with("end"));
}

#[test]
fn more_than_a_datagram_holds_comes_to_the_journal_as_a_file() {
    let Some((host, messages)) = journal_host() else { return };
    let large = "y".repeat(100_000);
    let labels = ["l0", "l1", "l2", "l3"].map(|name| format!("{name}={large}"));
    let mut line = vec!["run", "--name", "large"];
    labels.iter().for_each(|label| line.extend(["--label", label]));
    line.extend(["--log-driver", "journald", "--log-opt", "labels=l0,l1,l2,l3", IMAGE, "echo", "text"]);
    ok(&host, &line);
    until("it has arrived", || seen(&messages).len() == 1);
    let entry = fields(&seen(&messages)[0]);
    assert_eq!((&entry["MESSAGE"][..], entry["L0"].len(), entry["L3"].len()), (&b"text"[..], 100_000, 100_000));
}
