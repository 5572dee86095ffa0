//! `/networks`: those that every host has.

use std::collections::BTreeMap;

use atoll_api::docker::{EndpointSettings, NetworkInspect, rfc3339};
use atoll_engine::{Endpoint, NetworkView};
use atoll_model::Timestamp;
use axum::extract::{Path, State as Held};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::State;
use crate::answer::{Answer, Refusal};
use crate::projects::Scope;

pub(super) fn routes() -> Router<State> {
    Router::new().route("/networks", get(list)).route("/networks/{name}", get(inspect))
}

async fn list(Held(state): Held<State>, scope: Scope) -> Answer<Json<Vec<NetworkInspect>>> {
    Ok(Json(all(&state, &scope).await?))
}

async fn inspect(Held(state): Held<State>, scope: Scope, Path(name): Path<String>) -> Answer<Json<NetworkInspect>> {
    let fits = |network: &NetworkInspect| network.name == name || network.id == name;
    let found = all(&state, &scope).await?.into_iter().find(fits);
    found.map(Json).ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("network {name} not found")))
}

async fn all(state: &State, scope: &Scope) -> Answer<Vec<NetworkInspect>> {
    let never = rfc3339(Timestamp::NEVER);
    let mut networks: Vec<_> = state.engine.networks().await?.iter().map(|view| shown(view, &never)).collect();
    for network in &mut networks {
        network.containers.retain(|id, _| scope.sees_workload(&state.engine, id));
    }
    networks.extend([NetworkInspect::new("host", "host", &never), NetworkInspect::new("none", "null", &never)]);
    Ok(networks)
}

fn shown(view: &NetworkView, created: &str) -> NetworkInspect {
    let network = &view.network;
    let mut shown = NetworkInspect::new(&network.name, "bridge", created);
    shown.ipam.config = vec![json!({"Subnet": network.subnet, "Gateway": network.gateway})];
    // An ordinary user's workloads are on no bridge.
    if !network.bridge.is_empty() {
        shown.options = BTreeMap::from([("com.docker.network.bridge.name".to_owned(), network.bridge.clone())]);
    }
    shown.containers = view.endpoints.iter().map(|(id, endpoint)| (id.clone(), member(endpoint))).collect();
    shown
}

fn member(endpoint: &Endpoint) -> serde_json::Value {
    json!({
        "MacAddress": mac(endpoint),
        "IPv4Address": format!("{}/{}", endpoint.address, endpoint.prefix),
        "IPv6Address": "",
    })
}

/// A workload's place on its network, as inspections show it.
pub(super) fn endpoint(endpoint: &Endpoint) -> EndpointSettings {
    EndpointSettings {
        gateway: endpoint.gateway.to_string(),
        ip_address: endpoint.address.to_string(),
        ip_prefix_len: endpoint.prefix,
        mac_address: mac(endpoint),
        ..EndpointSettings::default()
    }
}

fn mac(endpoint: &Endpoint) -> String {
    endpoint.mac.map(|byte| format!("{byte:02x}")).join(":")
}
