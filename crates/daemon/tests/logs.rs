//! Log drivers, by the stock `docker` client: what is written, read back, rotated, compressed, dropped and said.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use atoll_testkit::TempHost;
use support::stock::{host, ok, run};
use support::{IMAGE, docker, finish, until};

fn inspect(host: &TempHost, name: &str, template: &str) -> String {
    ok(host, &["inspect", "-f", template, name])
}

/// The folder with a container's log.
fn folder(host: &TempHost, name: &str) -> PathBuf {
    host.root().join("workloads").join(inspect(host, name, "{{.Id}}"))
}

/// Names of files of a container's log.
fn files(host: &TempHost, name: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder(host, name)).expect("the folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.contains("log")).collect();
    names.sort();
    names
}

fn numbers(from: u32, to: u32) -> String {
    (from..=to).map(|number| format!("{number}\n")).collect()
}

#[test]
fn the_default_is_json_file_and_an_inspection_says_what_was_asked_for() {
    let Some(host) = host() else { return };
    let drivers = "json-file [journald json-file local syslog]";
    assert_eq!(ok(&host, &["info", "-f", "{{.LoggingDriver}} {{.Plugins.Log}}"]), drivers);
    ok(&host, &["run", "--name", "plain", IMAGE, "echo", "text"]);
    assert_eq!(inspect(&host, "plain", "{{json .HostConfig.LogConfig}}"), r#"{"Type":"json-file","Config":{}}"#);
    assert_eq!(ok(&host, &["logs", "plain"]), "text");

    ok(&host, &["run", "--name", "local", "--log-driver", "local", IMAGE, "echo", "text"]);
    // Its files are nobody else's to read.
    assert_eq!(
        inspect(&host, "local", "{{json .HostConfig.LogConfig}} {{.LogPath}}"),
        r#"{"Type":"local","Config":{}}"#
    );
    assert_eq!((ok(&host, &["logs", "local"]).as_str(), files(&host, "local")), ("text", vec!["log.0".to_owned()]));

    ok(
        &host,
        &["run", "--name", "json", "--log-driver", "json-file", "--log-opt", "max-size=1m", IMAGE, "echo", "text"],
    );
    let config = r#"{"Type":"json-file","Config":{"max-size":"1m"}}"#;
    assert_eq!(inspect(&host, "json", "{{json .HostConfig.LogConfig}}"), config);
    let path = PathBuf::from(inspect(&host, "json", "{{.LogPath}}"));
    assert_eq!(path, folder(&host, "json").join(format!("{}-json.log", inspect(&host, "json", "{{.Id}}"))));
    let line = std::fs::read_to_string(path).expect("the log");
    assert!(line.starts_with(r#"{"log":"text\n","stream":"stdout","time":"20"#) && line.ends_with("Z\"}\n"), "{line}");
}

#[test]
fn what_stands_beside_a_line_is_written_and_shown() {
    let Some(host) = host() else { return };
    let options = ["--log-driver", "json-file", "--log-opt", "labels=a,none", "--log-opt", "env=B", "--log-opt"];
    let line = [
        &["run", "--name", "web", "--label", "a=1 2", "-e", "B=2"],
        &options[..],
        &["tag={{.Name}}/{{.ID}}/{{.ImageName}}", IMAGE, "printf", r"one\ntwo <\377>\nno end"],
    ];
    ok(&host, &line.concat());
    let id = inspect(&host, "web", "{{.Id}}");
    let attributes = format!(r#""attrs":{{"B":"2","a":"1 2","tag":"web/{}/{IMAGE}"}}"#, &id[..12]);
    let text = std::fs::read_to_string(inspect(&host, "web", "{{.LogPath}}")).expect("the log");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 3 && lines.iter().all(|line| line.contains(&attributes)), "{text}");
    assert!(lines[1].starts_with(r#"{"log":"two \u003c\ufffd\u003e\n","stream":"stdout","#), "{text}");
    assert!(lines[2].starts_with(r#"{"log":"no end","#), "{text}");
    let shown = ok(&host, &["logs", "--details", "web"]);
    let tag = format!("web%2F{}%2Fbusybox%3Atest", &id[..12]);
    assert_eq!(shown.lines().next(), Some(format!("B=2,a=1+2,tag={tag} one").as_str()));
    assert_eq!(ok(&host, &["logs", "web"]), "one\ntwo <\u{fffd}>\nno end");
}

#[test]
fn no_log_is_no_file_and_is_not_read() {
    let Some(host) = host() else { return };
    assert_eq!(ok(&host, &["run", "--name", "web", "--log-driver", "none", IMAGE, "echo", "seen"]), "seen");
    let logs = run(&host, &["logs", "web"]);
    let message = "configured logging driver does not support reading";
    assert!(logs.code == Some(1) && logs.err.contains(message), "{logs:?}");
    assert_eq!(files(&host, "web"), [""; 0]);
}

#[test]
fn what_there_is_not_is_refused_by_name() {
    let Some(host) = host() else { return };
    let check = |options: &[&str], message: &str| {
        let ran = run(&host, &[&["create"], options, &[IMAGE, "true"]].concat());
        assert!(ran.code == Some(1) && ran.err.contains(message), "{options:?}: {ran:?}");
    };
    check(&["--log-driver", "paper"], r#"error looking up logging plugin paper: plugin "paper" not found"#);
    check(&["--log-driver", "json-file", "--log-opt", "x=1"], "unknown log opt 'x' for json-file log driver");
    check(&["--log-driver", "local", "--log-opt", "labels=a"], "unknown log opt 'labels' for log driver local");
    check(&["--log-opt", "mode=maybe"], "logger: logging mode not supported: maybe");
    check(&["--log-opt", "max-buffer-size=1m"], "max-buffer-size option is only supported with 'mode=non-blocking'");
    check(&["--log-opt", "max-size=much"], "max-size=much");
    check(&["--log-opt", "max-file=0"], "max-file=0");
    check(&["--log-driver", "json-file", "--log-opt", "labels-regex=^a"], "labels-regex");
    check(&["--log-driver", "json-file", "--log-opt", "tag={{.Foo}}"], ".Foo");
    assert_eq!(ok(&host, &["ps", "-aq"]), "");
}

#[test]
fn a_tail_counts_lines_of_the_wanted_streams_before_times_are_looked_at() {
    let Some(host) = host() else { return };
    for driver in ["local", "json-file"] {
        let script = "echo o1; sleep 0.1; echo e1 >&2; sleep 0.1; echo o2; sleep 0.1; echo e2 >&2";
        ok(&host, &["run", "--name", driver, "--log-driver", driver, IMAGE, "sh", "-c", script]);
        let logs = |more: &[&str]| run(&host, &[&["logs"], more, &[driver]].concat());
        let both = logs(&["--tail", "2"]);
        assert_eq!((both.out.as_str(), both.err.as_str()), ("o2\n", "e2\n"));
        let times = logs(&["-t"]);
        let at = |line: &str| line.split(' ').next().expect("a time").to_owned();
        let second = at(times.out.lines().nth(1).expect("two lines"));
        assert_eq!(second.len(), "2026-01-31T12:00:00.000000000Z".len());
        assert_eq!(logs(&["--since", &second]).out, "o2\n");
        assert_eq!(logs(&["--until", &second]).out, "o1\no2\n");
        // As with dockerd: of the last line, what is not too new.
        assert_eq!(logs(&["--tail", "1", "--until", &second]).out, "");
        let path = format!("/containers/{driver}/logs?stdout=1&tail=1");
        let mut curl = Command::new("curl");
        curl.args(["-s", "--unix-socket"]).arg(host.socket()).arg(format!("http://host{path}"));
        assert!(finish(curl, "").ok().ends_with("o2"), "{driver}");
    }
}

/// Lines that a follower saw, collected by a thread.
struct Follower {
    child: Child,
    lines: std::thread::JoinHandle<String>,
}

impl Follower {
    fn start(host: &TempHost, name: &str) -> Self {
        let mut child = docker(host, &["logs", "-f", name]).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut out = child.stdout.take().expect("piped");
        let lines = std::thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).expect("text");
            text
        });
        Self { child, lines }
    }

    fn end(mut self) -> String {
        self.child.wait().expect("it ends");
        self.lines.join().expect("it was read")
    }
}

#[test]
fn followers_see_every_line_once_over_rotation_and_compression() {
    let Some(host) = host() else { return };
    // Longer than the daemon takes to look for closed files once.
    let script = "i=0; while [ $i -lt 120 ]; do seq $((i * 50 + 1)) $((i * 50 + 50)); sleep 0.12; i=$((i + 1)); done";
    let drivers = ["local", "json-file"];
    for driver in drivers {
        let options = ["--log-opt", "max-size=10k", "--log-opt", "max-file=200", "--log-opt", "compress=true"];
        let line =
            [&["run", "-d", "--name", driver, "--log-driver", driver], &options[..], &[IMAGE, "sh", "-c", script]];
        ok(&host, &line.concat());
    }
    let followers: Vec<_> =
        drivers.iter().flat_map(|driver| [Follower::start(&host, driver), Follower::start(&host, driver)]).collect();
    let expected = numbers(1, 6000);
    for follower in followers {
        let seen = follower.end();
        assert!(seen == expected, "{} of {} lines", seen.lines().count(), 6000);
    }
    for driver in drivers {
        let closed =
            |host: &TempHost| files(host, driver).into_iter().filter(|name| !name.ends_with("log") && name != "log.0");
        until("closed files are compressed", || {
            closed(&host).count() > 5 && closed(&host).all(|name| name.ends_with(".gz"))
        });
        let all = run(&host, &["logs", driver]).out;
        assert!(all == expected, "{driver}: {} lines", all.lines().count());
        let tail = run(&host, &["logs", "--tail", "3000", driver]).out;
        assert!(tail == numbers(3001, 6000), "{driver}: {} lines", tail.lines().count());
        let bytes: u64 = files(&host, driver)
            .iter()
            .map(|name| std::fs::metadata(folder(&host, driver).join(name)).map_or(0, |meta| meta.len()))
            .sum();
        assert!(bytes < 120_000, "{driver}: {bytes} bytes");
    }
    assert!(!folder(&host, "local").join("pack.new").exists());
}

#[test]
fn what_is_kept_is_bounded_and_the_newest() {
    let Some(host) = host() else { return };
    for driver in ["local", "json-file"] {
        let options = ["--log-opt", "max-size=8k", "--log-opt", "max-file=3", "--log-opt", "compress=false"];
        let line = [&["run", "--name", driver, "--log-driver", driver], &options[..], &[IMAGE, "seq", "5000"]];
        ok(&host, &line.concat());
        assert_eq!(files(&host, driver).len(), 3, "{driver}");
        let kept = ok(&host, &["logs", driver]);
        let first: u32 = kept.lines().next().expect("lines").parse().expect("a number");
        assert!(first > 1 && kept == numbers(first, 5000).trim(), "{driver}: from {first}");
        let bytes: u64 = files(&host, driver)
            .iter()
            .map(|name| std::fs::metadata(folder(&host, driver).join(name)).map_or(0, |meta| meta.len()))
            .sum();
        assert!(bytes <= 3 * 8192 + 1000, "{driver}: {bytes} bytes");
    }
}

#[test]
fn a_restarted_container_goes_on_in_its_log() {
    let Some(mut host) = host() else { return };
    for driver in ["local", "json-file"] {
        for mode in ["blocking", "non-blocking"] {
            let name = format!("{driver}-{mode}");
            let mode = format!("mode={mode}");
            ok(
                &host,
                &[
                    "create",
                    "--name",
                    &name,
                    "--log-driver",
                    driver,
                    "--log-opt",
                    &mode,
                    IMAGE,
                    "sh",
                    "-c",
                    "echo a; echo b",
                ],
            );
            ok(&host, &["start", "-a", &name]);
            host.kill_daemon().expect("it ran");
            host.start_daemon(&[]).expect("it starts");
            ok(&host, &["start", "-a", &name]);
            assert_eq!(ok(&host, &["logs", &name]), "a\nb\na\nb", "{name}");
        }
    }
}

/// A file system in a file, frozen at will; it is thawed and unmounted when the test ends, however that is.
struct Disk {
    at: PathBuf,
    _file: tempfile::NamedTempFile,
}

impl Disk {
    /// `None` where there are no loop devices to be had.
    #[expect(clippy::print_stdout, reason = "a test that skips says so")]
    fn mount(at: &Path) -> Option<Self> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(64 << 20).expect("sparse");
        std::fs::create_dir_all(at).expect("a folder");
        let does = |program: &str, arguments: &[&std::ffi::OsStr]| {
            Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
        };
        let made = does("mkfs.ext4", &["-q".as_ref(), file.path().as_os_str()])
            && does("mount", &["-o".as_ref(), "loop".as_ref(), file.path().as_os_str(), at.as_os_str()]);
        if !made {
            println!("skipped: needs mkfs.ext4 and a loop device");
        }
        made.then(|| Self { at: at.to_owned(), _file: file })
    }

    fn freeze(&self, flag: &str) -> bool {
        Command::new("fsfreeze").arg(flag).arg(&self.at).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may not be frozen.
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.at).stderr(Stdio::null()).status();
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

#[test]
fn a_workload_that_does_not_wait_for_its_log_goes_on_when_the_disk_hangs() {
    let Some(host) = host() else { return };
    let Some(disk) = Disk::mount(&host.root().join("workloads")) else { return };
    let script = "echo begin; until [ -e /go ]; do sleep 0.05; done; seq 100000; touch /done; until [ -e /end ]; do sleep 0.05; done; echo end";
    let options = ["--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=64k", "--log-opt", "compress=false"];
    ok(&host, &[&["run", "-d", "--name", "web"], &options[..], &[IMAGE, "sh", "-c", script]].concat());
    until("it writes", || ok(&host, &["logs", "web"]) == "begin");
    assert!(disk.freeze("-f"), "the disk is frozen");
    ok(&host, &["exec", "web", "touch", "/go"]);
    until("it goes on", || run(&host, &["exec", "web", "test", "-e", "/done"]).code == Some(0));
    assert!(disk.freeze("-u"), "the disk is thawed");
    until("what waited is written", || ok(&host, &["logs", "web"]).lines().count() > 1000);
    ok(&host, &["exec", "web", "touch", "/end"]);
    ok(&host, &["wait", "web"]);
    let logs = run(&host, &["logs", "web"]);
    assert!(logs.err.contains("bytes of log records were lost: the log's buffer was full]"), "{}", logs.err);
    let lines: Vec<&str> = logs.out.lines().collect();
    assert_eq!((lines.first(), lines.last()), (Some(&"begin"), Some(&"end")));
    let seen: Vec<u32> = lines[1..lines.len() - 1].iter().map(|line| line.parse().expect("a number")).collect();
    assert!(seen.is_sorted_by(|a, b| a < b) && seen.len() < 100_000, "{} lines", seen.len());
    ok(&host, &["rm", "web"]);
}

#[test]
fn a_log_shipper_can_follow_the_file_by_its_name() {
    let Some(host) = host() else { return };
    let script = "i=0; while [ $i -lt 20 ]; do echo $i; sleep 0.05; i=$((i + 1)); done";
    ok(&host, &["run", "-d", "--name", "web", "--log-driver", "json-file", IMAGE, "sh", "-c", script]);
    let path = inspect(&host, "web", "{{.LogPath}}");
    let mut tail =
        Command::new("tail").args(["-n", "+1", "-F", &path]).stdout(Stdio::piped()).spawn().expect("tail starts");
    let lines = BufReader::new(tail.stdout.take().expect("piped")).lines();
    let texts: Vec<String> = lines.take(20).map(|line| line.expect("a line")).collect();
    tail.kill().expect("it runs");
    tail.wait().expect("it ends");
    for (index, text) in texts.iter().enumerate() {
        assert!(text.starts_with(&format!(r#"{{"log":"{index}\n","#)), "{text}");
    }
}
