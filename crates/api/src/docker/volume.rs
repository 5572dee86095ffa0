//! What the API says about volumes.

#![allow(missing_docs, reason = "fields have the names and meanings of the Docker API reference, Volume")]

use std::collections::BTreeMap;

use atoll_model::Volume;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bad::BadRequest;
use super::time;

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeView {
    pub created_at: String,
    pub driver: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub mountpoint: String,
    pub name: String,
    pub options: Option<BTreeMap<String, String>>,
    pub scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<VolumeUsage>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeUsage {
    /// Bytes; -1 is not known.
    pub size: i64,
    pub ref_count: i64,
}

/// `GET /volumes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeList {
    pub volumes: Vec<VolumeView>,
    pub warnings: Option<Vec<String>>,
}

/// `POST /volumes/create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeCreateRequest {
    pub name: String,
    pub driver: String,
    pub driver_opts: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_volume_spec: Option<Value>,
}

impl VolumeCreateRequest {
    /// Refuses what is not done.
    ///
    /// # Errors
    /// [`BadRequest`] naming the option.
    pub fn check(&self) -> Result<(), BadRequest> {
        if let Some(spec) = &self.cluster_volume_spec {
            return Err(BadRequest::unsupported("ClusterVolumeSpec", spec));
        }
        if !matches!(self.driver.as_str(), "" | "local") {
            return Err(BadRequest::unsupported("Driver other than \"local\"", &self.driver.as_str().into()));
        }
        match self.driver_opts.iter().next() {
            Some((name, value)) => Err(BadRequest::unsupported(format!("DriverOpts.{name}"), &value.as_str().into())),
            None => Ok(()),
        }
    }
}

impl VolumeView {
    /// A volume at its place.
    #[must_use]
    pub fn new(volume: &Volume, mountpoint: String) -> Self {
        let mut labels = volume.labels.clone();
        if volume.anonymous {
            labels.insert("com.docker.volume.anonymous".to_owned(), String::new());
        }
        Self {
            created_at: time::rfc3339(atoll_model::Timestamp(volume.created.seconds() * 1_000_000_000)),
            driver: "local".to_owned(),
            labels: Some(labels).filter(|labels| !labels.is_empty()),
            mountpoint,
            name: volume.name.clone(),
            options: None,
            scope: "local".to_owned(),
            usage_data: None,
        }
    }
}
