//! The program `atolld`: the Docker Engine API of one host, over a unix socket, and over TCP for those who have a certificate.
//!
//! `main` is the composition root: settings, lock, the user namespace of an ordinary user, engine, socket, serve, drain. The routes are thin: they decode, make
//! one call of the engine, and encode. Nothing that runs depends on this process: killing it stops no workload.

#![forbid(unsafe_code)]

mod answer;
mod audit;
mod config;
mod confine;
mod doctor;
mod hijack;
mod instance;
mod listen;
mod metrics;
mod notify;
mod offline;
mod older;
mod projects;
mod rootless;
mod routes;
mod serve;
mod stream;
mod tls;
mod upload;
mod websocket;

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use anyhow::{Context, Result};
use atoll_engine::Engine;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use audit::Audit;
use config::{Arguments, Config, Task};
use confine::Wall;
use instance::Taken;
use metrics::Metrics;
use rootless::Caller;
use routes::State;
use serve::Face;

/// Threads that run handlers: they wait, they do not compute.
const WORKERS: usize = 2;
/// Threads for what blocks on the disk.
const BLOCKING: usize = 16;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    begin(&arguments).unwrap_or_else(|error| {
        complain(&error);
        match &arguments.task {
            Some(Task::Offline(task)) => task.failure_code(),
            _ => ExitCode::FAILURE,
        }
    })
}

/// What has to happen while there is one thread only, then everything else.
fn begin(arguments: &Arguments) -> Result<ExitCode> {
    let caller = Caller::current();
    let config = Config::load(arguments, caller)?;
    let task = match &arguments.task {
        Some(Task::Doctor) => return doctor::print(&config.settings()?).map(|()| ExitCode::SUCCESS),
        Some(Task::Offline(task)) => Some(task),
        None => None,
    };
    init_log();
    let handed = listen::handed_over()?;
    let _lock = match (task, instance::lock(&config.run)?) {
        (_, Ok(lock)) => lock,
        (Some(task), Err(Taken)) => task.lock(&config.run)?,
        // Two clients started one at the same time: the other one answers.
        (None, Err(Taken)) => return Ok(ExitCode::SUCCESS),
    };
    if !caller.is_root() {
        rootless::enter(caller, &config.run)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        match task {
            Some(task) => offline::run(task, &config, config.settings()?).await,
            None => run(config, handed).await.map(|()| ExitCode::SUCCESS),
        }
    });
    runtime.shutdown_background();
    result
}

#[allow(clippy::print_stderr, reason = "standard error is the daemon's log")]
fn complain(error: &anyhow::Error) {
    eprintln!("atolld: {error:#}");
}

async fn run(config: Config, handed: Vec<OwnedFd>) -> Result<()> {
    let audit = config.callers.audit.clone().map(Audit::start).transpose()?;
    let engine = Engine::open(config.settings()?).await.context("opening the state")?;
    let state = State { engine, metrics: Metrics::new(audit.clone()), exposed: config.tcp.is_exposed() };
    let (listeners, own) = listen::all(&config, handed)?;
    let wall = Wall { projects: config.callers.projects.clone(), engine: state.engine.clone() };
    let face = Face { router: routes::router(state.clone()), audit, wall: Some(wall) };
    for listener in listeners {
        tokio::spawn(serve::serve(listener, face.clone()));
    }
    if let Some(address) = config.metrics {
        let face = Face { router: metrics::alone(state), audit: None, wall: None };
        tokio::spawn(serve::serve(listen::plain(address)?, face));
    }
    tracing::info!(socket = %config.socket().display(), root = %config.root.display(), "ready");
    notify::notify(notify::READY);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    notify::notify(notify::STOPPING);
    tracing::info!("ending; what runs goes on");
    // The socket goes first: the next client starts a new daemon instead of asking this one. One of systemd's stays.
    if own {
        drop(std::fs::remove_file(config.socket()));
    }
    Ok(())
}

/// Logs to standard error what `ATOLL_LOG` says; nothing, and what does not read as levels, is `info`.
fn init_log() {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    let wanted = std::env::var("ATOLL_LOG").ok().filter(|levels| !levels.is_empty());
    let filter = wanted.and_then(|levels| levels.parse::<Targets>().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(filter).init();
}
