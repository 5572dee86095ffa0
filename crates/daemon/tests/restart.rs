//! Restart policies through the stock `docker` client: they hold with the daemon alive, dead, and back again.

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use atoll_testkit::TempHost;
use support::stock::{host, ok, run};
use support::{IMAGE, finish, until};

/// Starts a shell's script in the background with a policy.
fn start(host: &TempHost, name: &str, policy: &str, script: &str) {
    ok(host, &["run", "-d", "--name", name, "--restart", policy, IMAGE, "sh", "-c", script]);
}

fn look(host: &TempHost, name: &str, template: &str) -> String {
    ok(host, &["inspect", "-f", template, name])
}

fn status(host: &TempHost, name: &str) -> String {
    look(host, name, "{{.State.Status}}")
}

fn count(host: &TempHost, name: &str) -> u32 {
    look(host, name, "{{.RestartCount}}").parse().expect("a number")
}

/// Runs so far: each writes a line.
fn runs(host: &TempHost, name: &str) -> usize {
    ok(host, &["logs", name]).lines().count()
}

/// Waits until it rests between two runs, after at least so many restarts: the pause is long enough to act in by then.
#[track_caller]
fn until_resting(host: &TempHost, name: &str, restarts: u32) {
    until("it rests", || {
        let seen = look(host, name, "{{.State.Status}} {{.RestartCount}}");
        let (status, count) = seen.split_once(' ').expect("two words");
        status == "restarting" && count.parse::<u32>().is_ok_and(|count| count >= restarts)
    });
}

/// What was told of a container, in order; `more` is a further attribute.
fn events(host: &TempHost, name: &str, since: &str, more: &str) -> Vec<String> {
    let format = format!("{{{{.Action}}}}{more}");
    let filter = format!("container={name}");
    let now = seconds() + 1;
    let told =
        ok(host, &["events", "--since", since, "--until", &now.to_string(), "--filter", &filter, "--format", &format]);
    told.lines().map(str::to_owned).collect()
}

fn seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// The supervisor of a container, and its first process.
fn processes(host: &TempHost, name: &str) -> BTreeMap<String, u32> {
    let id = look(host, name, "{{.Id}}");
    let record = std::fs::read(host.run().join("w").join(id).join("shim.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    let pid = |who: &str| u32::try_from(record[who]["pid"].as_u64().expect("a number")).expect("a process");
    ["shim", "init"].map(|who| (who.to_owned(), pid(who))).into()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a process")).expect("not 0");
    // One that has ended is what was wanted.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Removes a workload's control groups, as soon as what was killed has left them.
fn remove_groups(id: &str) {
    let name = format!("*/{id}*");
    let find = |action: &[&str]| {
        let mut find = Command::new("find");
        find.args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path", &name]).args(action);
        find.output().expect("find is there").stdout
    };
    until("the groups are gone", || {
        find(&["-exec", "rmdir", "{}", ";"]);
        find(&[]).is_empty()
    });
}

#[test]
fn each_policy() {
    let Some(host) = host() else { return };
    start(&host, "no", "no", "echo run; exit 3");
    start(&host, "failure", "on-failure", "echo run; exit 3");
    start(&host, "limited", "on-failure:2", "echo run; exit 3");
    start(&host, "well", "on-failure", "echo run; exit 0");
    start(&host, "always", "always", "echo run; exit 0");
    start(&host, "unless", "unless-stopped", "echo run; exit 0");
    until("the one with a limit has reached it", || status(&host, "limited") == "exited");
    assert_eq!(look(&host, "limited", "{{.RestartCount}} {{.State.ExitCode}} {{.State.Restarting}}"), "2 3 false");
    assert_eq!(runs(&host, "limited"), 3);
    for name in ["failure", "always", "unless"] {
        until(name, || count(&host, name) >= 3 && runs(&host, name) >= 3);
    }
    for name in ["no", "well"] {
        assert_eq!((status(&host, name).as_str(), count(&host, name), runs(&host, name)), ("exited", 0, 1), "{name}");
    }
    let policy = "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(look(&host, "limited", policy), "on-failure 2");
    assert_eq!(look(&host, "no", policy), "no 0");
    ok(&host, &["rm", "-f", "failure", "always", "unless"]);
    assert_eq!(ok(&host, &["ps", "-q"]), "");
}

#[test]
fn what_is_contradictory_is_refused_in_dockers_words() {
    let Some(host) = host() else { return };
    let check = |arguments: &[&str], expected: &str| {
        let ran = run(&host, &[&["create"], arguments, &[IMAGE]].concat());
        assert!(ran.code == Some(1) && ran.err.contains(expected), "{ran:?}");
    };
    check(&["--restart", "always:3"], "maximum retry count cannot be used with restart policy 'always'");
    check(&["--restart", "foo"], "invalid restart policy 'foo'");
    check(&["--restart", "on-failure:-1"], "maximum retry count cannot be negative");
    // The client refuses this by itself; ours leaves it to the daemon.
    let own = finish(support::atoll(&host, &["create", "--rm", "--restart", "always", IMAGE]), "");
    assert!(
        own.code == Some(125) && own.err.contains("can't create 'AutoRemove' container with restart policy"),
        "{own:?}"
    );
}

#[test]
fn what_is_told_and_shown() {
    let Some(host) = host() else { return };
    let since = seconds().to_string();
    start(&host, "web", "on-failure:2", "sleep 0.1; exit 3");
    assert_eq!(ok(&host, &["wait", "web"]), "3", "the end of the run that goes on");
    until("it is over", || status(&host, "web") == "exited");
    let told = events(&host, "web", &since, " {{.Actor.Attributes.exitCode}}");
    let none = "<no value>";
    let expected = ["create", "start", "die 3", "start", "die 3", "start", "die 3"];
    let expected = expected.map(|event| if event.contains(' ') { event.to_owned() } else { format!("{event} {none}") });
    assert_eq!(told, expected);

    start(&host, "loop", "always", "exit 4");
    until_resting(&host, "loop", 5);
    assert_eq!(
        look(&host, "loop", "{{.State.Running}} {{.State.Restarting}} {{.State.Pid}} {{.State.ExitCode}}"),
        "true true 0 4"
    );
    let line = ok(&host, &["ps", "--format", "{{.Names}} {{.State}} {{.Status}}"]);
    assert!(line.starts_with("loop restarting Restarting (4) ") && line.ends_with(" ago"), "{line}");
    assert_eq!(ok(&host, &["ps", "-q", "--filter", "status=restarting"]).lines().count(), 1);
}

#[test]
fn requests_while_it_rests() {
    let Some(host) = host() else { return };
    start(&host, "web", "always", "exit 4");
    until_resting(&host, "web", 5);
    for refused in [&["pause", "web"][..], &["rm", "web"], &["exec", "web", "true"], &["top", "web"]] {
        let ran = run(&host, refused);
        assert!(ran.code == Some(1) && ran.err.contains("is restarting"), "{refused:?}: {ran:?}");
    }
    assert_eq!(ok(&host, &["start", "web"]), "web", "it runs, as Docker has it");

    let since = seconds().to_string();
    until_resting(&host, "web", 6);
    ok(&host, &["stop", "web"]);
    assert_eq!(look(&host, "web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 4");
    assert_eq!(events(&host, "web", &since, "").last().map(String::as_str), Some("stop"));
    let before = count(&host, "web");
    assert!(before >= 6);

    ok(&host, &["start", "web"]);
    until("it begins anew", || (1..before).contains(&count(&host, "web")));
    until_resting(&host, "web", 4);
    ok(&host, &["kill", "web"]);
    until("it stays down", || status(&host, "web") == "exited");

    ok(&host, &["start", "web"]);
    until_resting(&host, "web", 4);
    ok(&host, &["restart", "web"]);
    until_resting(&host, "web", 4);
    ok(&host, &["rm", "-f", "web"]);
    assert_eq!(ok(&host, &["ps", "-aq"]), "");
    until("nothing is left", || std::fs::read_dir(host.run().join("w")).is_ok_and(|mut left| left.next().is_none()));
}

#[test]
fn a_stop_is_the_end_but_a_program_killed_from_outside_comes_again() {
    let Some(host) = host() else { return };
    start(&host, "web", "always", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done");
    until("it is up", || runs(&host, "web") == 1);
    kill(processes(&host, "web")["init"]);
    until("it runs again", || runs(&host, "web") == 2 && status(&host, "web") == "running");
    assert_eq!(ok(&host, &["exec", "web", "echo", "inside"]), "inside");
    ok(&host, &["stop", "web"]);
    assert_eq!(look(&host, "web", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}"), "exited 0 1");
    ok(&host, &["start", "web"]);
    until("it is up", || runs(&host, "web") == 3);
    ok(&host, &["kill", "web"]);
    until("it stays down", || status(&host, "web") == "exited");
    assert_eq!(runs(&host, "web"), 3);
}

#[test]
fn the_policy_holds_while_the_daemon_is_dead() {
    let Some(mut host) = host() else { return };
    start(&host, "fails", "always", "echo run; exit 3");
    start(&host, "limited", "on-failure:4", "echo run; exit 3");
    start(&host, "killed", "unless-stopped", "echo run; exec sleep 1000");
    until("the first is being restarted", || count(&host, "fails") >= 1);
    let (log, victim) = (look(&host, "fails", "{{.LogPath}}"), processes(&host, "killed"));
    host.kill_daemon().expect("it ran");
    let size = || std::fs::metadata(&log).map_or(0, |meta| meta.len());
    let before = size();
    until("it runs again without a daemon", || size() > before);
    kill(victim["init"]);
    let record = host.run().join("w");
    until("the limit is reached without a daemon", || {
        let ended = std::fs::read_dir(&record).expect("run folders").flatten();
        let records = ended.filter_map(|folder| std::fs::read_to_string(folder.path().join("ended.json")).ok());
        records.into_iter().any(|text| text.contains("\"resting\":false"))
    });
    host.start_daemon(&[]).expect("it starts again");

    assert_eq!(look(&host, "limited", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}"), "exited 4 3");
    assert_eq!(runs(&host, "limited"), 5);
    until("the killed one runs", || status(&host, "killed") == "running");
    assert_eq!((runs(&host, "killed"), count(&host, "killed")), (2, 1));
    let after = processes(&host, "killed");
    assert!(after["shim"] == victim["shim"] && after["init"] != victim["init"], "{victim:?} {after:?}");
    let seen = count(&host, "fails");
    assert!(seen >= 2, "{seen}");
    until("it goes on", || count(&host, "fails") > seen);

    // Found while it rests, and stopped by the daemon that found it.
    until_resting(&host, "fails", 6);
    host.kill_daemon().expect("it ran");
    host.start_daemon(&[]).expect("it starts again");
    ok(&host, &["stop", "fails"]);
    assert_eq!(status(&host, "fails"), "exited");
    ok(&host, &["stop", "-t", "0", "killed"]);
    assert_eq!(status(&host, "killed"), "exited");
}

#[test]
fn a_lost_supervisor_does_not_end_a_policy() {
    let Some(mut host) = host() else { return };
    start(&host, "web", "always", "echo run; exec sleep 1000");
    start(&host, "plain", "no", "exec sleep 1000");
    until("it runs", || runs(&host, "web") == 1);
    let lost = processes(&host, "web");
    kill(lost["shim"]);
    kill(processes(&host, "plain")["shim"]);
    until("it runs under another supervisor", || runs(&host, "web") == 2 && status(&host, "web") == "running");
    assert_eq!((processes(&host, "web")["shim"] != lost["shim"], count(&host, "web")), (true, 1));
    until("the one without a policy has ended", || {
        look(&host, "plain", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"
    });

    // The same with the daemon dead, while it rests.
    start(&host, "loop", "always", "echo run; exit 3");
    until_resting(&host, "loop", 5);
    let resting = processes(&host, "loop");
    host.kill_daemon().expect("it ran");
    kill(resting["shim"]);
    host.start_daemon(&[]).expect("it starts again");
    let before = runs(&host, "loop");
    until("it runs again", || runs(&host, "loop") > before);
    assert!(count(&host, "loop") > 5);
    ok(&host, &["rm", "-f", "loop", "web"]);
}

#[test]
fn after_a_reboot_what_should_run_runs() {
    let Some(mut host) = host() else { return };
    let program = "echo run; exec sleep 1000";
    let names = ["always", "unless-stopped", "on-failure", "no"];
    for name in names {
        start(&host, name, name, program);
        let stopped = format!("{name}-stopped");
        start(&host, &stopped, name, program);
        ok(&host, &["stop", "-t", "0", &stopped]);
    }
    ok(&host, &["create", "--name", "never", "--restart", "always", IMAGE, "true"]);
    let there: Vec<_> = names.iter().map(|name| (processes(&host, name), look(&host, name, "{{.Id}}"))).collect();
    host.kill_daemon().expect("it ran");
    // What a reboot takes: all processes with their groups, and the run folder.
    for (process, id) in there {
        kill(process["shim"]);
        kill(process["init"]);
        remove_groups(&id);
    }
    std::fs::remove_dir_all(host.run()).expect("it goes");
    std::fs::create_dir(host.run()).expect("as systemd does");
    host.start_daemon(&[]).expect("it starts again");
    let running = ["always", "unless-stopped", "on-failure", "always-stopped"];
    for name in running {
        until(name, || status(&host, name) == "running");
    }
    for name in ["unless-stopped-stopped", "on-failure-stopped", "no-stopped"] {
        assert_eq!(status(&host, name), "exited", "{name}");
    }
    assert_eq!(status(&host, "never"), "created");
    assert_ne!(status(&host, "no"), "running");
    // Another daemon on the same boot starts nothing.
    ok(&host, &["stop", "-t", "0", "always"]);
    host.kill_daemon().expect("it ran");
    host.start_daemon(&[]).expect("it starts again");
    assert_eq!(status(&host, "always"), "exited");
}

#[test]
fn streams_end_with_their_run_and_the_log_goes_on() {
    let Some(host) = host() else { return };
    let ran = run(&host, &["run", "--name", "web", "--restart", "on-failure:2", IMAGE, "sh", "-c", "echo hi; exit 4"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(4), "hi\n"), "{ran:?}");
    until("it is over", || status(&host, "web") == "exited");
    assert_eq!(ok(&host, &["logs", "web"]), "hi\nhi\nhi");
    // A terminal and an open input are there in each run.
    ok(&host, &["run", "-dit", "--name", "shell", "--restart", "always", IMAGE, "sh"]);
    kill(processes(&host, "shell")["init"]);
    until("it is back", || look(&host, "shell", "{{.RestartCount}} {{.State.Status}}") == "1 running");
    assert!(ok(&host, &["exec", "shell", "ls", "-l", "/proc/1/fd/0"]).contains("pts"));
    let address = "{{.NetworkSettings.Networks.bridge.IPAddress}}";
    let address = look(&host, "shell", address);
    ok(&host, &["run", "--rm", IMAGE, "ping", "-c", "1", "-W", "5", &address]);
    ok(&host, &["rm", "-f", "shell"]);
}
