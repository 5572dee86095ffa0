//! Base images from a Debian mirror: made by `debian`, finished in a container of ours where packages must be
//! configured, and named.

use std::path::PathBuf;

use atoll_debian::{Bootstrap, Built, Outcome, Stage, Staged, Variant};
use atoll_model::Command;
use atoll_oci::Reference;
use atoll_store::{CommitOptions, failpoint};

use crate::step::Step;
use crate::{Engine, Error, ImageView, Progress, ProgressEvent, host};

/// Which base image to make, and what to call it.
#[derive(Clone, Debug)]
pub struct BootstrapRequest {
    /// A suite or codename: `bookworm`, `stable`.
    pub suite: String,
    /// An architecture by Debian's or OCI's name; the host's if none.
    pub arch: Option<String>,
    /// Further packages.
    pub include: Vec<String>,
    /// How to make it.
    pub variant: Variant,
    /// The mirror's address; apt's own if none.
    pub mirror: Option<String>,
    /// The trusted keys; Debian's keyring if none.
    pub keyring: Option<PathBuf>,
    /// What to call it.
    pub name: String,
}

impl Engine {
    /// Makes a base image.
    ///
    /// # Errors
    /// When the mirror cannot be read or trusted, the packages do not fit together, or they cannot be configured.
    pub async fn bootstrap(&self, request: BootstrapRequest, progress: Progress) -> Result<ImageView, Error> {
        let name = Reference::parse(&request.name)?;
        if name.digest().is_some() {
            return Err(Error::Invalid("an image cannot be named by a digest".to_owned()));
        }
        let cache = self.shared.settings.root.join("cache").join("debian");
        host::make_folder(&cache)?;
        let asked = Bootstrap {
            suite: request.suite,
            arch: request.arch,
            include: request.include,
            variant: request.variant,
            mirror: request.mirror,
            keyring: request.keyring,
            cache,
        };
        let report = {
            let progress = progress.clone();
            move |step: atoll_debian::Progress| drop(progress.try_send(event(&step)))
        };
        let built = match atoll_debian::bootstrap(&self.shared.store, &asked, &report).await? {
            Outcome::Image(built) => *built,
            Outcome::Staged(staged) => self.configure(*staged, &progress).await?,
        };
        let engine = self.clone();
        host::blocking(move || {
            failpoint::hit("bootstrap.before-name");
            engine.name_image(&name, &built.manifest)?;
            let image = engine.find_image(&name.to_string())?;
            engine.say_image("bootstrap", &image.id, &name.familiar());
            Ok(image)
        })
        .await
    }

    /// Lets the packages of a first stage configure themselves, and keeps what that changed as a second layer.
    async fn configure(&self, staged: Staged, progress: &Progress) -> Result<Built, Error> {
        let starting = ProgressEvent {
            id: "configure".to_owned(),
            status: "Configuring packages".to_owned(),
            current: 0,
            total: None,
        };
        drop(progress.try_send(starting));
        let step = Step {
            what: "configuring the packages of a base image".to_owned(),
            layers: vec![staged.layer.diff_id.clone()],
            command: Command {
                entrypoint: vec!["/bin/sh".to_owned(), "-c".to_owned(), staged.script.to_owned()],
                env: staged.environment.clone(),
                ..Command::default()
            },
            mounts: Vec::new(),
        };
        let ran = self.run_step(step).await?;
        let store = self.shared.store.clone();
        host::blocking(move || {
            let options = CommitOptions { clamp_mtime: Some(staged.source_date_epoch), ..CommitOptions::default() };
            let upper = store.commit_upper(&staged.lease, &ran.upper, options)?;
            Ok(atoll_debian::finish(&store, staged, &upper)?)
        })
        .await
    }
}

fn event(step: &atoll_debian::Progress) -> ProgressEvent {
    let status = match step.stage {
        Stage::Index => "Reading the package index",
        Stage::Resolve => "Choosing packages",
        Stage::Download => "Downloading packages",
        Stage::Unpack => "Unpacking packages",
        Stage::Layer => "Writing the layer",
    };
    // One bar for each stage; what it is at stands in the status.
    let id = format!("{:?}", step.stage).to_lowercase();
    let status = if step.item.is_empty() { status.to_owned() } else { format!("{status}: {}", step.item) };
    ProgressEvent { id, status, current: step.current, total: Some(step.total) }
}
