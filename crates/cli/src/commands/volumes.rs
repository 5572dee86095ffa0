//! Commands about volumes.

use std::collections::BTreeMap;

use anyhow::Result;
use atoll_api::docker::{VolumeList, VolumeView};
use atoll_client::{escape, with_query};
use serde_json::{Value, json};

use super::lists::{filters, inspect};
use super::{Daemon, complain, say};
use crate::args::{VolumeCommand, VolumeCreateArgs, VolumeListArgs, VolumeRemoveArgs, values};
use crate::output::{Column, print_rows};

const VOLUMES: [Column; 2] = [("DRIVER", "{{.Driver}}"), ("VOLUME NAME", "{{.Name}}")];

/// `atoll volume …`.
pub(crate) async fn volume(daemon: Daemon, command: VolumeCommand) -> Result<u8> {
    match command {
        VolumeCommand::Create(args) => create(daemon, args).await,
        VolumeCommand::Ls(args) => list(daemon, args).await,
        VolumeCommand::Rm(args) => remove(daemon, args).await,
        VolumeCommand::Inspect(args) => inspect(daemon, args, Some("volume")).await,
    }
}

async fn create(daemon: Daemon, args: VolumeCreateArgs) -> Result<u8> {
    let labels: BTreeMap<_, _> = args.label.iter().map(|text| values::label(text)).collect();
    let body = json!({"Name": args.name.unwrap_or_default(), "Labels": labels});
    let made: VolumeView = daemon.post("/volumes/create", &body).await?;
    say(made.name)?;
    Ok(0)
}

async fn list(daemon: Daemon, args: VolumeListArgs) -> Result<u8> {
    let found: VolumeList = daemon.get(&with_query("/volumes", &[("filters", &filters(&args.filter)?)])).await?;
    if args.quiet {
        for volume in &found.volumes {
            say(&volume.name)?;
        }
        return Ok(0);
    }
    let row = |volume: &VolumeView| json!({"Driver": volume.driver, "Name": volume.name, "Mountpoint": volume.mountpoint, "Scope": volume.scope});
    let rows: Vec<Value> = found.volumes.iter().map(row).collect();
    print_rows(&rows, args.format.as_deref(), &VOLUMES)?;
    Ok(0)
}

async fn remove(daemon: Daemon, args: VolumeRemoveArgs) -> Result<u8> {
    let mut failed = 0;
    for name in &args.names {
        let query = [("force", if args.force { "1" } else { "" })];
        match daemon.remove(&with_query(&format!("/volumes/{}", escape(name)), &query)).await {
            Ok(()) => say(name)?,
            Err(error) => {
                complain(&error.into());
                failed = crate::ERROR;
            }
        }
    }
    Ok(failed)
}
