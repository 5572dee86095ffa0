"""An afternoon with the Docker SDK for Python against a host: `afternoon.py ADDRESS IMAGE`.

Each step is a function; its name is printed when it has ended well. Nothing here knows whose engine answers.
"""

import io
import sys
import tarfile
import threading
import time

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import Healthcheck, LogConfig, Mount, Ulimit

LOOP = ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"]


def until(condition, what):
    """Waits for what comes by itself."""
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


def refused(kind, call):
    """The error that a call ends with."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError("it was not refused")


def the_engine_introduces_itself(client, image):
    assert client.ping()
    version, info = client.version(), client.info()
    assert version["Os"] == "linux" and info["OSType"] == "linux", (version, info)
    assert info["Images"] == 1 and info["Containers"] == 0, info
    assert {"Version", "ApiVersion", "MinAPIVersion", "KernelVersion", "Components"} <= set(version), version


def images_have_names(client, image):
    found = client.images.get(image)
    assert image in found.tags and found.id.startswith("sha256:"), found.tags
    assert found.tag("renamed", tag="1") and client.images.get("renamed:1").id == found.id
    assert isinstance(found.history(), list)
    client.images.remove("renamed:1")
    refused(ImageNotFound, lambda: client.images.get("renamed:1"))
    assert [one.id for one in client.images.list(name=image)] == [found.id]


def one_command(client, image):
    assert client.containers.run(image, "echo hello", remove=True) == b"hello\n"
    both = client.containers.run(image, ["sh", "-c", "echo out; echo err >&2"], remove=True, stderr=True)
    assert sorted(both.split()) == [b"err", b"out"], both
    error = refused(ContainerError, lambda: client.containers.run(image, ["sh", "-c", "echo no >&2; exit 7"], remove=True))
    assert error.exit_status == 7 and b"no" in error.stderr, error
    refused(APIError, lambda: client.containers.run(image, "/nowhere", name="never"))
    client.containers.get("never").remove()


def a_life(client, image):
    made = client.containers.create(image, LOOP, name="life", labels={"tier": "web"}, environment={"A": "b"})
    assert made.status == "created"
    made.start()
    made.reload()
    assert made.status == "running" and made.labels["tier"] == "web", made.attrs
    assert [one.name for one in client.containers.list(filters={"label": "tier=web"})] == ["life"]
    made.pause()
    made.reload()
    assert made.status == "paused"
    made.unpause()
    made.rename("lives")
    made.restart(timeout=2)
    made.kill(signal="TERM")
    assert made.wait(timeout=20)["StatusCode"] == 3
    made.start()
    made.stop(timeout=5)
    made.reload()
    assert made.attrs["State"]["ExitCode"] == 3 and made.status == "exited", made.attrs["State"]
    made.remove()
    refused(NotFound, lambda: client.containers.get("lives"))


def other_programs_inside(client, image):
    box = client.containers.run(image, LOOP, detach=True, name="inside")
    code, out = box.exec_run(["sh", "-c", "echo $WHO; pwd; exit 4"], environment={"WHO": "me"}, workdir="/tmp")
    assert (code, out) == (4, b"me\n/tmp\n"), (code, out)
    code, (out, err) = box.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
    assert (code, out, err) == (0, b"out\n", b"err\n")
    pieces = box.exec_run(["sh", "-c", "echo 1; sleep 0.2; echo 2"], stream=True).output
    assert b"".join(pieces) == b"1\n2\n"
    assert b"uid=7" in box.exec_run("id", user="7").output
    socket = box.exec_run("cat", stdin=True, socket=True).output
    socket._sock.sendall(b"through\n")
    socket._sock.shutdown(1)
    assert socket.read().endswith(b"through\n")
    box.remove(force=True)


def output_is_kept(client, image):
    box = client.containers.run(image, ["sh", "-c", "for i in 1 2 3; do echo line $i; done; echo bad >&2"], detach=True)
    box.wait()
    assert box.logs(stderr=False) == b"line 1\nline 2\nline 3\n"
    assert box.logs(stdout=False) == b"bad\n"
    assert box.logs(tail=1, stderr=False) == b"line 3\n"
    first = box.logs(timestamps=True, stderr=False).splitlines()[0]
    assert first.endswith(b" line 1") and first[4:5] == b"-", first
    box.remove()
    box = client.containers.run(image, ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"], detach=True)
    assert b"".join(box.logs(stream=True, follow=True)) == b"1\n2\n3\n"
    box.remove()


def streams_are_attached(client, image):
    box = client.containers.create(image, ["cat"], stdin_open=True, tty=False)
    socket = box.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    box.start()
    socket._sock.sendall(b"back\n")
    assert socket.read(8)[7:] == b"\x05" and socket.read(5) == b"back\n"
    socket.close()
    box.remove(force=True)


def files_go_both_ways(client, image):
    box = client.containers.run(image, LOOP, detach=True, name="files")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("note")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    assert box.put_archive("/tmp", archive.getvalue())
    assert box.exec_run("cat /tmp/note").output == b"hello"
    box.exec_run(["sh", "-c", "echo changed > /tmp/note"])
    stream, stat = box.get_archive("/tmp/note")
    assert stat["name"] == "note" and stat["size"] == 8, stat
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        assert tar.extractfile("note").read() == b"changed\n"
    assert {"Path": "/tmp/note", "Kind": 1} in box.diff(), box.diff()
    refused(NotFound, lambda: box.get_archive("/nowhere"))
    made = box.commit("made", tag="1", changes=["CMD cat /tmp/note"])
    assert client.containers.run("made:1", remove=True) == b"changed\n"
    root = b"".join(box.export())
    with tarfile.open(fileobj=io.BytesIO(root)) as tar:
        assert "tmp/note" in tar.getnames()
    saved = b"".join(made.save(named=True))
    client.images.remove("made:1")
    assert [one.tags for one in client.images.load(saved)] == [["made:1"]]
    client.images.remove("made:1")
    box.remove(force=True)


def it_is_watched(client, image):
    box = client.containers.run(image, LOOP, detach=True, name="watched", mem_limit="64m")
    stats = box.stats(stream=False)
    assert stats["name"] in ("/watched", "watched") and stats["memory_stats"]["limit"] == 64 << 20, stats
    assert stats["pids_stats"]["current"] >= 1 and stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0, stats
    assert len([one for one, _ in zip(box.stats(decode=True), range(2))]) == 2
    top = box.top()
    assert "PID" in top["Titles"] and any("sleep" in " ".join(row) or "sh" in " ".join(row) for row in top["Processes"]), top
    box.update(mem_limit="96m", memswap_limit="96m")
    box.reload()
    assert box.attrs["HostConfig"]["Memory"] == 96 << 20
    box.remove(force=True)


def volumes_outlive(client, image):
    volume = client.volumes.create("data", labels={"of": "afternoon"})
    client.containers.run(image, ["sh", "-c", "echo kept > /data/f"], remove=True, mounts=[Mount("/data", "data")])
    kept = client.containers.run(image, "cat /d/f", remove=True, volumes={"data": {"bind": "/d", "mode": "ro"}})
    assert kept == b"kept\n"
    assert [one.name for one in client.volumes.list(filters={"label": "of=afternoon"})] == ["data"]
    volume.remove()
    refused(NotFound, lambda: client.volumes.get("data"))


def limits_hold(client, image):
    out = client.containers.run(
        image,
        ["sh", "-c", "ulimit -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; hostname"],
        remove=True,
        ulimits=[Ulimit(name="nofile", soft=77, hard=88)],
        sysctls={"net.ipv4.ip_unprivileged_port_start": "99"},
        hostname="named",
    )
    assert out.split() == [b"77", b"99", b"named"], out
    refused(ContainerError, lambda: client.containers.run(image, "touch /f", read_only=True, remove=True))


def it_comes_again(client, image):
    box = client.containers.run(image, "false", detach=True, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
    until(lambda: box.reload() or (box.status == "exited" and box.attrs["RestartCount"] == 2), "two restarts")
    box.remove()
    check = Healthcheck(test=["CMD-SHELL", "test -e /tmp/well"], interval=100_000_000, retries=2, timeout=2_000_000_000)
    box = client.containers.run(image, LOOP, detach=True, healthcheck=check)
    health = lambda: box.reload() or box.attrs["State"]["Health"]["Status"]
    until(lambda: health() == "unhealthy", "it is unhealthy")
    box.exec_run("touch /tmp/well")
    until(lambda: health() == "healthy", "it is healthy")
    box.remove(force=True)


def logs_have_drivers(client, image):
    config = LogConfig(type=LogConfig.types.JSON, config={"max-size": "10k", "max-file": "2"})
    box = client.containers.run(image, "echo kept", detach=True, log_config=config)
    box.wait()
    assert box.logs() == b"kept\n" and box.attrs["HostConfig"]["LogConfig"]["Type"] == "json-file"
    box.remove()
    box = client.containers.run(image, "echo lost", detach=True, log_config=LogConfig(type="none"))
    box.wait()
    refused(APIError, lambda: box.logs())
    box.remove()


def events_tell(client, image):
    since = time.time()
    seen = []
    events = client.events(decode=True, filters={"type": "container"})
    watcher = threading.Thread(target=lambda: [seen.append(event["Action"]) for event in events], daemon=True)
    watcher.start()
    time.sleep(0.3)
    client.containers.run(image, "true", remove=True)
    until(lambda: "destroy" in seen, seen)
    assert [one for one in seen if one in ("create", "start", "die", "destroy")] == ["create", "start", "die", "destroy"], seen
    events.close()
    replay = client.events(since=since, until=time.time(), decode=True, filters={"event": "die"})
    assert [event["Action"] for event in replay] == ["die"]


def it_is_tidied_up(client, image):
    client.containers.run(image, "true", detach=True).wait()
    assert len(client.containers.prune()["ContainersDeleted"]) == 1
    client.volumes.create("unused")
    assert "unused" in (client.volumes.prune(filters={"all": "1"})["VolumesDeleted"] or [])
    assert client.images.prune()["SpaceReclaimed"] >= 0
    usage = client.df()
    assert [one["RepoTags"] for one in usage["Images"]] == [[image]] and usage["Containers"] == [], usage


STEPS = [
    the_engine_introduces_itself, images_have_names, one_command, a_life, other_programs_inside, output_is_kept,
    streams_are_attached, files_go_both_ways, it_is_watched, volumes_outlive, limits_hold, it_comes_again,
    logs_have_drivers, events_tell, it_is_tidied_up,
]


def main():
    address, image, *only = sys.argv[1:]
    client = docker.DockerClient(base_url=address, version="auto", timeout=20)
    failed = 0
    for step in STEPS:
        if only and step.__name__ not in only:
            continue
        try:
            step(client, image)
            print("ok", step.__name__, flush=True)
        except Exception as error:
            failed += 1
            line = error.__traceback__.tb_next.tb_lineno if error.__traceback__.tb_next else 0
            print(f"FAILED {step.__name__}, line {line}: {error!r}", flush=True)
            for box in client.api.containers(all=True, limit=1000):
                client.api.remove_container(box["Id"], force=True)
    sys.exit(failed > 0)


main()
