//! What a user of bollard does in an afternoon: `afternoon SOCKET IMAGE ARCHIVE`. Says `ok NAME` for each step.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig, Mount, MountType, VolumeCreateRequest};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder,
    EventsOptionsBuilder, ImportImageOptions, InspectContainerOptions, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, ListImagesOptions, LogsOptionsBuilder, PruneContainersOptions,
    PruneVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptions, RemoveVolumeOptions,
    RenameContainerOptionsBuilder, RestartContainerOptions, StartContainerOptions, StatsOptionsBuilder,
    StopContainerOptionsBuilder, TagImageOptionsBuilder, TopOptions, UploadToContainerOptionsBuilder,
    WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs until it is stopped, and ends at once then.
const LOOP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 1000 & wait $!; done";
/// Seconds that a step may take.
const LIMIT_S: u64 = 60;

struct Afternoon {
    docker: Docker,
    image: String,
    archive: String,
}

fn strings(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

/// The status of a refusal.
fn refused<T>(result: std::result::Result<T, Error>) -> u16 {
    match result {
        Err(Error::DockerResponseServerError { status_code, message }) => {
            assert!(!message.is_empty());
            status_code
        }
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("it was not refused"),
    }
}

impl Afternoon {
    async fn create(&self, name: &str, script: &str, more: ContainerCreateBody) -> Result {
        let body = ContainerCreateBody { image: Some(self.image.clone()), cmd: strings(&["sh", "-c", script]), ..more };
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        self.docker.create_container(Some(options), body).await?;
        Ok(())
    }

    async fn start(&self, name: &str) -> Result {
        Ok(self.docker.start_container(name, None::<StartContainerOptions>).await?)
    }

    async fn run(&self, name: &str, script: &str) -> Result {
        self.create(name, script, ContainerCreateBody::default()).await?;
        self.start(name).await?;
        while !self.logs(name).await?.contains("ready") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        Ok(self.docker.remove_container(name, Some(options)).await?)
    }

    async fn logs(&self, name: &str) -> Result<String> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        collect(self.docker.logs(name, Some(options))).await
    }

    /// The code that it ends with.
    async fn wait(&self, name: &str) -> Result<i64> {
        let mut ends = self.docker.wait_container(name, None::<WaitContainerOptions>);
        match ends.next().await {
            Some(Ok(end)) => Ok(end.status_code),
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
            other => panic!("{other:?}"),
        }
    }

    async fn status(&self, name: &str) -> Result<String> {
        let one = self.docker.inspect_container(name, None::<InspectContainerOptions>).await?;
        Ok(one.state.and_then(|state| state.status).expect("a status").to_string())
    }

    /// What a program inside writes, and its code.
    async fn exec(&self, name: &str, script: &str) -> Result<(String, i64)> {
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: strings(&["sh", "-c", script]),
            ..ExecConfig::default()
        };
        let id = self.docker.create_exec(name, config).await?.id;
        let StartExecResults::Attached { output, .. } = self.docker.start_exec(&id, None).await? else {
            panic!("it is detached")
        };
        let said = collect(output).await?;
        Ok((said, self.docker.inspect_exec(&id).await?.exit_code.expect("it has ended")))
    }
}

async fn collect(
    mut output: impl futures_util::Stream<Item = std::result::Result<LogOutput, Error>> + Unpin,
) -> Result<String> {
    let mut all = String::new();
    while let Some(piece) = output.next().await {
        all.push_str(&piece?.to_string());
    }
    Ok(all)
}

async fn the_engine_introduces_itself(own: &Afternoon) -> Result {
    assert_eq!(own.docker.ping().await?, "OK");
    assert_eq!(own.docker.version().await?.os.as_deref(), Some("linux"));
    let info = own.docker.info().await?;
    assert_eq!((info.containers, info.os_type.as_deref()), (Some(0), Some("linux")));
    Ok(())
}

async fn an_image_is_loaded_and_named(own: &Afternoon) -> Result {
    let bytes = std::fs::read(&own.archive)?;
    let load = own.docker.import_image(ImportImageOptions::default(), bollard::body_full(bytes.into()), None);
    let said: Vec<_> = load.try_collect().await?;
    assert!(said.iter().any(|one| one.stream.as_deref().is_some_and(|text| text.contains(&own.image))), "{said:?}");
    let id = own.docker.inspect_image(&own.image).await?.id;
    own.docker.tag_image(&own.image, Some(TagImageOptionsBuilder::new().repo("renamed").tag("1").build())).await?;
    assert_eq!(own.docker.inspect_image("renamed:1").await?.id, id);
    own.docker.remove_image("renamed:1", None::<RemoveImageOptions>, None).await?;
    assert_eq!(refused(own.docker.inspect_image("renamed:1").await), 404);
    assert_eq!(own.docker.list_images(None::<ListImagesOptions>).await?.len(), 1);
    Ok(())
}

async fn a_life(own: &Afternoon) -> Result {
    let labels = HashMap::from([("tier".to_owned(), "web".to_owned())]);
    own.create("life", LOOP, ContainerCreateBody { labels: Some(labels), ..ContainerCreateBody::default() }).await?;
    assert_eq!(own.status("life").await?, "created");
    assert_eq!(refused(own.docker.pause_container("life").await), 409);
    own.start("life").await?;
    own.docker.pause_container("life").await?;
    assert_eq!(own.status("life").await?, "paused");
    own.docker.unpause_container("life").await?;
    own.docker.rename_container("life", RenameContainerOptionsBuilder::new().name("lives").build()).await?;
    own.docker.restart_container("lives", None::<RestartContainerOptions>).await?;
    let filters = HashMap::from([("label", vec!["tier=web"])]);
    let listed =
        own.docker.list_containers(Some(ListContainersOptionsBuilder::new().filters(&filters).build())).await?;
    assert_eq!(listed[0].names, strings(&["/lives"]));
    own.docker.kill_container("lives", Some(KillContainerOptionsBuilder::new().signal("SIGKILL").build())).await?;
    assert_eq!(own.wait("lives").await?, 137);
    own.remove("lives").await?;
    assert_eq!(refused(own.docker.inspect_container("lives", None::<InspectContainerOptions>).await), 404);
    Ok(())
}

async fn output_is_attached_and_kept(own: &Afternoon) -> Result {
    let more = ContainerCreateBody {
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        ..ContainerCreateBody::default()
    };
    own.create("talks", "read line; echo got $line; echo bad >&2; exit 4", more).await?;
    let options = AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stderr(true).stream(true).build();
    let AttachContainerResults { output, mut input } = own.docker.attach_container("talks", Some(options)).await?;
    own.start("talks").await?;
    input.write_all(b"this\n").await?;
    input.flush().await?;
    let said = collect(output).await?;
    assert!(said.contains("got this\n") && said.contains("bad\n"), "{said:?}");
    assert_eq!(own.wait("talks").await?, 4);
    let errors = LogsOptionsBuilder::new().stderr(true).tail("1").build();
    assert_eq!(collect(own.docker.logs("talks", Some(errors))).await?, "bad\n");
    own.remove("talks").await?;
    own.create("counts", "for i in 1 2 3; do echo $i; sleep 0.1; done", ContainerCreateBody::default()).await?;
    own.start("counts").await?;
    let follow = LogsOptionsBuilder::new().stdout(true).follow(true).build();
    assert_eq!(collect(own.docker.logs("counts", Some(follow))).await?, "1\n2\n3\n");
    own.remove("counts").await
}

async fn other_programs_run_inside(own: &Afternoon) -> Result {
    own.run("inside", LOOP).await?;
    assert_eq!(own.exec("inside", "echo out; exit 6").await?, ("out\n".to_owned(), 6));
    let top = own.docker.top_processes("inside", None::<TopOptions>).await?;
    assert!(top.processes.is_some_and(|all| !all.is_empty()));
    let mut stats = own.docker.stats("inside", Some(StatsOptionsBuilder::new().stream(false).build()));
    let stats = stats.next().await.expect("a sample")?;
    assert!(stats.pids_stats.and_then(|pids| pids.current).is_some_and(|count| count >= 1));
    own.docker.stop_container("inside", Some(StopContainerOptionsBuilder::new().t(20).build())).await?;
    assert_eq!(own.wait("inside").await?, 3);
    assert_eq!(
        refused(
            own.docker.create_exec("inside", ExecConfig { cmd: strings(&["true"]), ..ExecConfig::default() }).await
        ),
        409
    );
    own.remove("inside").await
}

async fn files_go_both_ways(own: &Afternoon) -> Result {
    own.run("files", LOOP).await?;
    own.exec("files", "mkdir /to; echo hello > /tmp/note").await?;
    let from = DownloadFromContainerOptionsBuilder::new().path("/tmp/note").build();
    let pieces: Vec<_> = own.docker.download_from_container("files", Some(from)).try_collect().await?;
    let archive: Vec<u8> = pieces.concat();
    let to = UploadToContainerOptionsBuilder::new().path("/to").build();
    own.docker.upload_to_container("files", Some(to), bollard::body_full(archive.into())).await?;
    assert_eq!(own.exec("files", "cat /to/note").await?.0, "hello\n");
    let changes = own.docker.container_changes("files").await?.unwrap_or_default();
    assert!(changes.iter().any(|change| change.path == "/to/note"), "{changes:?}");
    let exported: Vec<_> = own.docker.export_container("files").try_collect().await?;
    assert!(exported.iter().map(|piece| piece.len()).sum::<usize>() > 1 << 20);
    own.remove("files").await
}

async fn volumes_outlive(own: &Afternoon) -> Result {
    let wanted = VolumeCreateRequest { name: Some("data".to_owned()), ..VolumeCreateRequest::default() };
    assert_eq!(own.docker.create_volume(wanted).await?.name, "data");
    for (name, script) in [("writes", "echo kept > /data/f"), ("reads", "cat /data/f")] {
        let mount = Mount {
            target: Some("/data".to_owned()),
            source: Some("data".to_owned()),
            typ: Some(MountType::VOLUME),
            ..Mount::default()
        };
        let host = HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() };
        own.create(name, script, ContainerCreateBody { host_config: Some(host), ..ContainerCreateBody::default() })
            .await?;
        own.start(name).await?;
        assert_eq!(own.wait(name).await?, 0);
    }
    assert_eq!(own.logs("reads").await?, "kept\n");
    assert_eq!(refused(own.docker.remove_volume("data", None::<RemoveVolumeOptions>).await), 409);
    own.remove("writes").await?;
    own.remove("reads").await?;
    own.docker.remove_volume("data", None::<RemoveVolumeOptions>).await?;
    Ok(())
}

async fn events_tell(own: &Afternoon) -> Result {
    let filters = HashMap::from([("type", vec!["container"])]);
    let mut events = own.docker.events(Some(EventsOptionsBuilder::new().filters(&filters).build()));
    let told = async {
        let mut actions = Vec::new();
        while actions.last().is_none_or(|last| last != "destroy") {
            actions.push(events.next().await.expect("an event")?.action.expect("an action"));
        }
        Ok::<_, Error>(actions)
    };
    let done = async {
        // The watch is there once its request was answered, which nothing says: the first event shows it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        own.create("told", "exit 0", ContainerCreateBody::default()).await?;
        own.start("told").await?;
        own.wait("told").await?;
        own.remove("told").await
    };
    let (actions, done) = tokio::join!(told, done);
    done?;
    assert_eq!(actions?, ["create", "start", "die", "destroy"]);
    Ok(())
}

async fn it_is_tidied_up(own: &Afternoon) -> Result {
    own.create("idle", "exit 0", ContainerCreateBody::default()).await?;
    let pruned = own.docker.prune_containers(None::<PruneContainersOptions>).await?;
    assert_eq!(pruned.containers_deleted.map(|all| all.len()), Some(1));
    own.docker
        .create_volume(VolumeCreateRequest { name: Some("unused".to_owned()), ..VolumeCreateRequest::default() })
        .await?;
    let all = HashMap::from([("all", vec!["true"])]);
    let pruned = own.docker.prune_volumes(Some(PruneVolumesOptionsBuilder::new().filters(&all).build())).await?;
    assert_eq!(pruned.volumes_deleted, strings(&["unused"]));
    own.docker.remove_image(&own.image, None::<RemoveImageOptions>, None).await?;
    assert!(own.docker.list_images(None::<ListImagesOptions>).await?.is_empty());
    Ok(())
}

type Step = for<'a> fn(&'a Afternoon) -> Pin<Box<dyn Future<Output = Result> + 'a>>;

macro_rules! steps {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), (|own| Box::pin($name(own))) as Step)),*] };
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let docker = Docker::connect_with_unix(&arguments[1], 30, API_DEFAULT_VERSION).expect("the daemon listens");
    let docker = docker.negotiate_version().await.expect("it speaks a version that bollard does");
    let own = Afternoon { docker, image: arguments[2].clone(), archive: arguments[3].clone() };
    let steps = steps![
        the_engine_introduces_itself,
        an_image_is_loaded_and_named,
        a_life,
        output_is_attached_and_kept,
        other_programs_run_inside,
        files_go_both_ways,
        volumes_outlive,
        events_tell,
        it_is_tidied_up,
    ];
    for (name, step) in steps {
        match tokio::time::timeout(Duration::from_secs(LIMIT_S), step(&own)).await {
            Ok(Ok(())) => println!("ok {name}"),
            Ok(Err(error)) => panic!("{name}: {error:?}"),
            Err(_) => panic!("{name}: it takes too long"),
        }
    }
}
