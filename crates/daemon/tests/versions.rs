//! Every version of the API from 1.24 to 1.50: by its path, and by clients that speak it.

mod raw;
mod support;

use std::process::Command;

use atoll_testkit::TempHost;
use raw::{ask, get};
use support::{IMAGE, Ran, docker, finish, has_docker, host, until};

/// Debian's client, which speaks 1.41.
const DOCKER_20: &str = "/usr/bin/docker";

/// The stock client, speaking a version.
fn speaking(host: &TempHost, version: &str, arguments: &[&str]) -> Ran {
    let mut command = docker(host, arguments);
    command.env("DOCKER_API_VERSION", version);
    finish(command, "")
}

#[test]
fn a_version_that_is_not_spoken_is_refused_as_dockerd_does() {
    let Some(host) = host() else { return };
    let check = |path: &str, status: u16, message: &str| {
        let answer = ask(&host, "GET", path, "");
        assert_eq!((answer.status, answer.message().as_str()), (status, message), "{path}");
        assert_eq!(answer.header("api-version"), Some("1.50"), "{path}");
    };
    check("/v1.51/info", 400, "client version 1.51 is too new. Maximum supported API version is 1.50");
    check(
        "/v1.23/info",
        400,
        "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
    );
    check("/v1.x/info", 404, "page not found");
    check("/v1.41/nowhere", 404, "page not found");
}

#[test]
fn answers_have_the_shape_of_their_version() {
    let Some(host) = host() else { return };
    let image = |version: u32| get(&host, &format!("/v1.{version}/images/{IMAGE}/json"));
    let (old, middle, new) = (image(24), image(45), image(50));
    assert_eq!(old["VirtualSize"], old["Size"]);
    assert_eq!((&old["Container"], &old["ContainerConfig"]), (&"".into(), &old["Config"]));
    assert_eq!(old["Config"]["AttachStdin"], false);
    assert_eq!((middle.get("VirtualSize"), middle.get("ContainerConfig")), (None, None));
    assert_eq!(middle["Config"]["AttachStdin"], false);
    assert_eq!(new["Config"].get("AttachStdin"), None);
    let info = |version: u32| get(&host, &format!("/v1.{version}/info"));
    assert_eq!(info(24)["SecurityOptions"][0], "seccomp");
    assert_eq!(info(25)["SecurityOptions"][0], "name=seccomp,profile=builtin");
    assert_eq!(info(41)["KernelMemory"], false);
    assert_eq!(info(42).get("KernelMemory"), None);
    assert_eq!(get(&host, "/v1.40/images/json?filter=nobody"), serde_json::json!([]));
    assert_eq!(get(&host, "/v1.40/images/json?filter=busybox").as_array().map(Vec::len), Some(1));
    // Without a version, the newest.
    assert_eq!(get(&host, "/info")["Warnings"], info(50)["Warnings"]);
    assert_eq!(get(&host, "/info").get("BridgeNfIptables"), None);
}

/// What a user does in an afternoon, with the client that `run` is.
#[track_caller]
fn afternoon(run: impl Fn(&[&str]) -> Ran) {
    let ok = |arguments: &[&str]| run(arguments).ok();
    assert_eq!(ok(&["run", "--rm", IMAGE, "echo", "hello"]), "hello");
    assert_eq!(run(&["run", "--rm", IMAGE, "sh", "-c", "exit 7"]).code, Some(7));
    ok(&["run", "-d", "--name", "web", "-e", "A=b", IMAGE, "sh", "-c", "echo $A; sleep 1000"]);
    assert_eq!(ok(&["ps", "--format", "{{.Names}}"]), "web");
    until("the output is there", || ok(&["logs", "web"]) == "b");
    assert_eq!(ok(&["exec", "web", "echo", "inside"]), "inside");
    assert_eq!(run(&["exec", "web", "sh", "-c", "exit 3"]).code, Some(3));
    assert_eq!(ok(&["inspect", "-f", "{{.State.Status}}", "web"]), "running");
    ok(&["rename", "web", "net"]);
    ok(&["stop", "-t", "0", "net"]);
    assert_eq!(ok(&["wait", "net"]), "137");
    ok(&["rm", "net"]);
    assert!(ok(&["images"]).contains("busybox"));
    ok(&["volume", "create", "data"]);
    assert_eq!(ok(&["run", "--rm", "-v", "data:/d", IMAGE, "sh", "-c", "echo kept > /d/f; cat /d/f"]), "kept");
    ok(&["volume", "rm", "data"]);
    assert!(ok(&["network", "ls"]).contains("bridge"));
    assert!(ok(&["info"]).contains("Images: 1"));
    until("all are removed", || ok(&["ps", "-aq"]).is_empty());
}

#[test]
fn the_stock_client_works_with_old_versions() {
    let Some(host) = host().filter(|_| has_docker()) else { return };
    for version in ["1.24", "1.29", "1.35", "1.41", "1.44"] {
        afternoon(|arguments| speaking(&host, version, arguments));
    }
}

#[test]
fn debians_client_works() {
    let Some(host) = host() else { return };
    let said = Command::new(DOCKER_20).arg("--version").output();
    if !said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("version 20.10")) {
        println!("skipped: needs Debian 12's docker client at {DOCKER_20}");
        return;
    }
    afternoon(|arguments| {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "60", DOCKER_20]).args(arguments).env("DOCKER_HOST", host.address());
        command.env("DOCKER_CONFIG", host.root().with_file_name("docker"));
        finish(command, "")
    });
}
