//! `docker stats`, `docker top` and `docker update` by the stock client: figures that are right, and limits that hold.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use atoll_testkit::TempHost;
use serde_json::Value;
use support::stock::{host, ok, run};
use support::{IMAGE, atoll, docker, finish, until};

#[track_caller]
fn container(host: &TempHost, name: &str, options: &[&str], script: &str) -> String {
    ok(host, &[&["run", "-d", "--name", name], options, &[IMAGE, "sh", "-c", script]].concat())
}

/// Whether a controller is version 1's here.
fn is_v1(controller: &str) -> bool {
    Path::new("/sys/fs/cgroup").join(controller).join("cgroup.procs").exists()
}

/// Columns of one line of `stats`, as the client computes them.
fn line(host: &TempHost, name: &str, columns: &str) -> String {
    ok(host, &["stats", "--no-stream", "--format", columns, name])
}

fn percent(text: &str) -> f64 {
    text.trim_end_matches('%').parse().expect("a percentage")
}

fn get(host: &TempHost, path: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(host.socket()).expect("the daemon answers");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").expect("it takes requests");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn figures_are_those_of_the_workload() {
    let Some(host) = host() else { return };
    container(&host, "busy", &["--memory", "64m", "--cpus", "0.5"], "while :; do :; done");
    container(&host, "idle", &[], "sleep 1000 & sleep 1000 & wait");
    until("it has its three processes", || line(&host, "idle", "{{.PIDs}}") == "3");
    let busy = percent(&line(&host, "busy", "{{.CPUPerc}}"));
    assert!(busy > 1.0 && busy < 90.0, "half a processor at most: {busy}");
    let idle = percent(&line(&host, "idle", "{{.CPUPerc}}"));
    assert!(idle < 5.0, "{idle}");
    let memory = line(&host, "busy", "{{.MemUsage}}");
    assert!(memory.ends_with(" / 64MiB") && !memory.starts_with("0B"), "{memory}");
    // What another fills of its memory is seen.
    container(&host, "full", &[], "head -c 20000000 /dev/zero > /dev/shm/file; sleep 1000");
    until("it has filled its memory", || {
        let usage = line(&host, "full", "{{.MemUsage}}");
        let used = usage.split_once("MiB /").and_then(|(used, _)| used.parse::<f64>().ok());
        used.is_some_and(|used| (19.0..40.0).contains(&used))
    });
    let address = ok(&host, &["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "idle"]);
    ok(&host, &["exec", "busy", "ping", "-c", "2", "-s", "10000", "-W", "5", &address]);
    let traffic = line(&host, "idle", "{{.NetIO}}");
    let kilobytes = |text: &str| text.strip_suffix("kB").and_then(|number| number.parse::<f64>().ok());
    let both: Vec<_> = traffic.split(" / ").map(kilobytes).collect();
    assert!(both.iter().all(|side| side.is_some_and(|side| side > 20.0)), "{traffic}");
    let (status, stats) = get(&host, "/containers/busy/stats?stream=false");
    assert_eq!(
        (status, stats["name"].as_str(), stats["memory_stats"]["limit"].as_u64()),
        (200, Some("/busy"), Some(64 << 20))
    );
    let time = |at: &str| stats[at]["cpu_usage"]["total_usage"].as_u64().expect("a number");
    assert!(time("cpu_stats") > time("precpu_stats") && time("precpu_stats") > 0, "{stats}");
    assert_ne!(stats["preread"], "0001-01-01T00:00:00Z");
    assert!(stats["cpu_stats"]["throttling_data"]["throttled_periods"].as_u64() > Some(0), "{stats}");
    let (_, once) = get(&host, "/containers/busy/stats?stream=false&one-shot=true");
    assert_eq!(once["precpu_stats"]["cpu_usage"]["total_usage"], 0, "{once}");
    assert_eq!(get(&host, "/containers/busy/stats?stream=true&one-shot=true").0, 400);
    assert_eq!(get(&host, "/containers/nobody/stats").0, 404);
    assert_eq!(run(&host, &["stats", "--no-stream", "nobody"]).code, Some(1));
    // Our own client sees the same.
    let own = finish(atoll(&host, &["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}"]), "").ok();
    assert!(own.lines().any(|line| line.starts_with("idle 3 ")), "{own}");
    assert!(own.lines().any(|line| line.starts_with("busy 1 ") && line.ends_with(" / 64MiB")), "{own}");
}

#[test]
fn what_is_read_and_written_is_counted() {
    let Some(host) = host() else { return };
    let script = "dd if=/dev/zero of=/file bs=1M count=4 oflag=direct 2>/dev/null && dd if=/file of=/dev/null bs=1M iflag=direct 2>/dev/null; sleep 1000";
    container(&host, "disk", &[], script);
    let megabytes = |text: &str| text.strip_suffix("MB").and_then(|number| number.parse::<f64>().ok());
    until("4 MiB each way", || {
        let both = line(&host, "disk", "{{.BlockIO}}");
        both.split(" / ").all(|side| megabytes(side).is_some_and(|side| (4.19..40.0).contains(&side)))
    });
}

#[test]
fn streams_go_on_and_end() {
    let Some(host) = host() else { return };
    container(&host, "web", &[], "sleep 1000");
    let mut stream = UnixStream::connect(host.socket()).expect("the daemon answers");
    write!(stream, "GET /containers/web/stats HTTP/1.0\r\nHost: x\r\n\r\n").expect("it takes requests");
    let lines = BufReader::new(stream).lines().map_while(Result::ok).filter(|line| line.starts_with('{'));
    let mut frames = lines.map(|line| serde_json::from_str::<Value>(&line).expect("a whole value on each line"));
    let mut next = || frames.next().expect("a frame");
    let first = next();
    let second = next();
    assert_eq!((&second["preread"], &second["precpu_stats"]), (&first["read"], &first["cpu_stats"]));
    // One that has ended uses nothing; one that is gone ends the stream.
    ok(&host, &["stop", "-t", "0", "web"]);
    while next()["read"] != "0001-01-01T00:00:00Z" {}
    let (status, stopped) = get(&host, "/containers/web/stats?stream=false");
    assert_eq!(
        (status, &stopped["memory_stats"], stopped["pids_stats"].as_object().map(|fields| fields.len())),
        (200, &serde_json::json!({}), Some(0))
    );
    ok(&host, &["rm", "web"]);
    assert!(frames.all(|frame| frame["read"] == "0001-01-01T00:00:00Z"));
    // The client that follows.
    container(&host, "again", &[], "sleep 1000");
    let mut follower = docker(&host, &["stats", "--format", "{{.Name}} {{.PIDs}}", "again"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut out = BufReader::new(follower.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(out.any(|line| line.ends_with("again 1")));
    follower.kill().expect("it runs");
    follower.wait().expect("it ends");
}

#[test]
fn processes_by_ps() {
    let Some(host) = host() else { return };
    container(&host, "web", &[], "sleep 4321 & exec sleep 1234");
    until("both run", || ok(&host, &["top", "web"]).lines().count() == 3);
    let table = ok(&host, &["top", "web"]);
    let titles: Vec<&str> = table.lines().next().expect("titles").split_ascii_whitespace().collect();
    assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert!(table.contains("sleep 1234") && table.contains("sleep 4321"), "{table}");
    let pid = ok(&host, &["inspect", "-f", "{{.State.Pid}}", "web"]);
    assert!(table.lines().any(|line| line.split_ascii_whitespace().nth(1) == Some(&pid)), "{table}");
    if Path::new("/usr/bin/ps").exists() {
        let chosen = ok(&host, &["top", "web", "-o", "pid,args"]);
        assert!(chosen.starts_with("PID") && chosen.lines().count() == 3 && !chosen.contains("atolld"), "{chosen}");
        assert!(ok(&host, &["top", "web", "aux"]).contains("%CPU"));
        assert!(ok(&host, &["top", "web", "-o", "pid=PID", "-o", "comm"]).contains("sleep"));
        for (arguments, words) in [
            (&["-o", "user=PID"][..], "is not allowed"),
            (&["-o", "args"], "Couldn't find PID field"),
            (&["--no-such-option"], "ps:"),
            (&["-o", "pid,$(touch /tmp/never)"], "ps:"),
        ] {
            let ran = run(&host, &[&["top", "web"], arguments].concat());
            assert!(ran.code == Some(1) && ran.err.contains(words), "{arguments:?}: {ran:?}");
        }
        assert!(!Path::new("/tmp/never").exists());
    }
    assert!(finish(atoll(&host, &["top", "web"]), "").ok().contains("sleep 1234"));
    ok(&host, &["stop", "-t", "0", "web"]);
    let ended = run(&host, &["top", "web"]);
    assert!(ended.code == Some(1) && ended.err.contains("is not running"), "{ended:?}");
}

#[test]
fn limits_are_changed_while_it_runs() {
    let Some(mut host) = host() else { return };
    container(&host, "web", &["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"], "sleep 1000");
    let read = |host: &TempHost, v1: &str, v2: &str| {
        let controller = v1.split('/').next().expect("a controller");
        let file = if is_v1(controller) { v1 } else { v2 };
        ok(host, &["exec", "web", "cat", &format!("/sys/fs/cgroup/{file}")])
    };
    let memory = |host: &TempHost| read(host, "memory/memory.limit_in_bytes", "memory.max");
    let tasks = |host: &TempHost| read(host, "pids/pids.max", "pids.max");
    assert_eq!((memory(&host), tasks(&host)), ((64 << 20).to_string(), "50".to_owned()));
    // Above the present limit of memory and swap, both at once and in either order.
    let mut change =
        vec!["update", "--memory", "256m", "--memory-swap", "300m", "--pids-limit", "-1", "--cpus", "0.25"];
    change.extend(["--cpu-shares", "512", "--memory-reservation", "100m", "--cpuset-cpus", "0", "web"]);
    assert_eq!(ok(&host, &change), "web");
    let expected = |host: &TempHost| {
        assert_eq!((memory(host), tasks(host)), ((256 << 20).to_string(), "max".to_owned()));
        let quota = read(host, "cpu/cpu.cfs_quota_us", "cpu.max");
        assert_eq!(quota.split(' ').next(), Some("25000"));
        assert_eq!(read(host, "cpuset/cpuset.cpus", "cpuset.cpus"), "0");
        if is_v1("memory") {
            assert_eq!(read(host, "memory/memory.memsw.limit_in_bytes", ""), (300 << 20).to_string());
            assert_eq!(read(host, "cpu/cpu.shares", ""), "512");
        }
        let shown = ok(
            host,
            &[
                "inspect",
                "-f",
                "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus}} {{.HostConfig.CpuShares}} {{.HostConfig.CpusetCpus}}",
                "web",
            ],
        );
        assert!(
            shown.starts_with(&format!("{} {} ", 256 << 20, 300 << 20)) && shown.ends_with(" 250000000 512 0"),
            "{shown}"
        );
    };
    expected(&host);
    // They hold on the next start, and under the next daemon.
    ok(&host, &["restart", "-t", "0", "web"]);
    expected(&host);
    host.kill_daemon().expect("it runs");
    host.start_daemon(&[]).expect("another starts");
    expected(&host);
    ok(&host, &["update", "--memory", "128m", "--memory-swap", "-1", "web"]);
    assert_eq!(memory(&host), (128 << 20).to_string());
}

#[test]
fn refused_changes_leave_everything_as_it_was() {
    let Some(host) = host() else { return };
    container(&host, "web", &["--memory", "64m", "--cpu-quota", "50000"], "sleep 1000");
    let fields = "{{json .HostConfig}}";
    let before = ok(&host, &["inspect", "-f", fields, "web"]);
    for (change, words) in [
        (&["--memory", "512m"][..], "update the memoryswap at the same time"),
        (&["--memory", "1m"], "minimum memory limit"),
        (&["--cpus", "1"], "Nano CPUs cannot be updated as CPU Quota has already been set"),
        (&["--memory-reservation", "65m"], "memory reservation"),
        (&["--cpuset-cpus", "4000"], "cpuset.cpus"),
        (&["--restart", "often"], "invalid restart policy"),
    ] {
        let ran = run(&host, &[&["update"], change, &["web"]].concat());
        assert!(ran.code == Some(1) && ran.err.contains(words), "{change:?}: {ran:?}");
        assert_eq!(ok(&host, &["inspect", "-f", fields, "web"]), before, "{change:?}");
    }
    assert_eq!(run(&host, &["update", "--memory", "1g", "nobody"]).code, Some(1));
    // One that does not run has them on its next start.
    ok(&host, &["stop", "-t", "0", "web"]);
    assert_eq!(finish(atoll(&host, &["update", "--pids-limit", "33", "web"]), "").ok(), "web");
    ok(&host, &["start", "web"]);
    let file = if is_v1("pids") { "/sys/fs/cgroup/pids/pids.max" } else { "/sys/fs/cgroup/pids.max" };
    assert_eq!(ok(&host, &["exec", "web", "cat", file]), "33");
}
