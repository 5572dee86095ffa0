//! Network interfaces of the host that a container gets for itself (runtime-spec config-linux.md, "Network Devices").
//!
//! Moving takes an interface down and its addresses away: both are given back inside. When the container's network
//! namespace ends, the kernel returns hardware to the host and drops what was made of software.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use atoll_sys::netlink::message::Batch;
use atoll_sys::netlink::{Protocol, Socket, route};
use atoll_sys::netns;

use crate::creation::system;
use crate::error::CreateError;

/// Moves each interface (its name on the host, its name inside) into the network namespace of `pid`.
pub(crate) fn hand_over(devices: &[(String, String)], pid: i32) -> Result<(), CreateError> {
    if devices.is_empty() {
        return Ok(());
    }
    let namespace = File::open(format!("/proc/{pid}/ns/net")).map_err(system("open the container's network"))?;
    for (host, inside) in devices {
        move_one(host, inside, &namespace).map_err(system(&format!("move interface {host} into the container")))?;
    }
    Ok(())
}

fn move_one(host: &str, inside: &str, namespace: &File) -> io::Result<()> {
    let other = |error: atoll_sys::netlink::Error| io::Error::other(error);
    let mut socket = Socket::open(Protocol::Route).map_err(other)?;
    let link = route::link(&mut socket, host).map_err(other)?.ok_or(io::ErrorKind::NotFound)?;
    let addresses = route::addresses(&mut socket, Some(link.index)).map_err(other)?;
    let mut batch = Batch::default();
    route::move_link(&mut batch, link.index, namespace.as_fd(), inside);
    socket.execute(&batch).map_err(other)?;
    netns::enter(namespace.as_fd(), || {
        let mut socket = Socket::open(Protocol::Route).map_err(other)?;
        let moved = route::link(&mut socket, inside).map_err(other)?.ok_or(io::ErrorKind::NotFound)?;
        let mut batch = Batch::default();
        // The kernel makes link-local addresses anew.
        let kept = addresses.iter().filter(|address| match address.address {
            std::net::IpAddr::V6(v6) => !v6.is_unicast_link_local(),
            std::net::IpAddr::V4(_) => true,
        });
        for address in kept {
            route::add_address(&mut batch, &route::Address { index: moved.index, ..*address });
        }
        route::set_up(&mut batch, moved.index);
        socket.execute(&batch).map(|_| ()).map_err(other)
    })?
}
