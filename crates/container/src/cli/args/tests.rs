//! Command lines and what they become.

use super::*;

fn parsed(line: &str) -> Result<Command, Error> {
    let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    parse(&words).map(|call| call.command)
}

#[track_caller]
fn check(line: &str, expected: Command) {
    assert_eq!(parsed(line), Ok(expected), "{line}");
}

#[test]
fn options_stand_anywhere() {
    let make = Make { id: "a".into(), bundle: "/b".into(), detach: true, ..Make::default() };
    for line in [
        "run -d -b /b a",
        "run a --bundle=/b --detach",
        "--root /r run -d a -b /b",
        "--root=/r --log run run -b /b -d a",
    ] {
        check(line, Command::Run(make.clone()));
    }
    check("kill a 9", Command::Kill { id: "a".into(), signal: "9".into(), all: false });
    check("kill --all a", Command::Kill { id: "a".into(), signal: "TERM".into(), all: true });
    check("delete a -f", Command::Delete { id: "a".into(), force: true });
    check("list --format json -q", Command::List { quiet: true, json: true });
    check("ps a -o pid", Command::Ps { id: "a".into(), json: false, options: vec!["-o".into(), "pid".into()] });
    check("events --stats a", Command::Events { id: "a".into(), interval: 5, once: true });
    check("--help", Command::Help);
    check("", Command::Help);
}

#[test]
fn systemd_keeps_the_groups_when_told() {
    for (line, groups) in [
        ("run a", GroupKeeper::Files),
        ("--systemd-cgroup run a", GroupKeeper::Systemd),
        ("--systemd-cgroup=true --root r create a", GroupKeeper::Systemd),
        ("--systemd-cgroup=false run a", GroupKeeper::Files),
    ] {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        assert_eq!(parse(&words).unwrap().global.groups.keeper, groups, "{line}");
    }
}

#[test]
fn exec_keeps_the_commands_own_options() {
    let Ok(Command::Exec(enter)) = parsed("exec -e A=1 --user web a ls -l --detach") else { panic!("no exec") };
    assert_eq!((enter.make.id.as_str(), enter.user.as_str()), ("a", "web"));
    assert_eq!(enter.args, ["ls", "-l", "--detach"]);
    assert!(!enter.make.detach);
    assert_eq!(enter.env, ["A=1"]);
}

#[test]
fn exec_names_groups_by_their_controllers() {
    let groups = |line: &str| match parsed(line) {
        Ok(Command::Exec(enter)) => {
            enter.labels.cgroups.into_iter().map(|group| (group.controllers.join(","), group.path)).collect::<Vec<_>>()
        }
        other => panic!("{line}: {other:?}"),
    };
    let group = |controllers: &str, path: &str| (controllers.to_owned(), path.to_owned());
    assert_eq!(groups("exec --cgroup /a/b c d"), [group("", "a/b")]);
    assert_eq!(groups("exec --cgroup cpu,pids:a --cgroup memory:/ c d"), [group("cpu,pids", "a"), group("memory", "")]);
    for bad in ["cpu:../a", ":a", "cpu,:a", "a:b:c", "cpu:a --cgroup cpu:b", "a --cgroup b", "a --cgroup cpu:b"] {
        assert!(parsed(&format!("exec --cgroup {bad} c d")).is_err(), "{bad}");
    }
}

#[test]
fn what_is_refused() {
    for line in ["update --mem-bw-schema x a", "update --l3-cache-schema x a"] {
        assert!(matches!(parsed(line), Err(Error::Refused(_))), "{line}");
    }
    for option in ["--pre-dump", "--parent-path x", "--lazy-pages", "--page-server a:1", "--status-fd 3"] {
        assert!(matches!(parsed(&format!("checkpoint a {option}")), Err(Error::Refused(_))), "{option}");
    }
    assert!(matches!(parsed("checkpoint --bundle x a"), Err(Error::Option { .. })));
    assert!(matches!(parsed("restore --leave-running a"), Err(Error::Option { .. })));
    for line in ["run", "run a b", "exec a", "exec", "kill", "list a", "update a", "update -r - --memory 1 a"] {
        assert!(matches!(parsed(line), Err(Error::Operands { .. })), "{line}");
    }
    for line in ["start ..", "run a/b", "run ä", "delete ."] {
        assert!(matches!(parsed(line), Err(Error::Name(_))), "{line}");
    }
    assert!(matches!(parsed("fly a"), Err(Error::Command(_))));
    for line in ["start -x a", "run --systemd-cgroup a"] {
        assert!(matches!(parsed(line), Err(Error::Option { .. })), "{line}");
    }
    for line in [
        "--systemd-cgroup=x list",
        "run a -b",
        "update --memory x a",
        "list -f yaml",
        "--rootless maybe list",
        "exec --cgroup ../a b c",
    ] {
        assert!(matches!(parsed(line), Err(Error::Value(_))), "{line}");
    }
}
