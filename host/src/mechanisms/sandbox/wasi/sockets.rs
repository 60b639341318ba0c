//! `wasi:sockets`: the interfaces are there, for programs that have code for a network in them, and
//! no socket ever is. So what takes a socket can't be reached: no guest has a handle to give it.

use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily};

use super::super::crash::Stop;
use super::super::host_calls::{Store, charge};
use super::super::state::StoreState;
use crate::base::error::Code;

/// The network, by which nothing can be reached.
struct Network;

/// A socket, or something of one.
struct Socket;

/// Methods of resources that there are none of: interface, resource, methods.
const METHODS: [(&str, &str, &[&str]); 5] = [
    ("ip-name-lookup", "resolve-address-stream", &["resolve-next-address", "subscribe"]),
    (
        "tcp",
        "tcp-socket",
        &[
            "start-bind",
            "finish-bind",
            "start-connect",
            "finish-connect",
            "start-listen",
            "finish-listen",
            "accept",
            "local-address",
            "remote-address",
            "is-listening",
            "address-family",
            "set-listen-backlog-size",
            "keep-alive-enabled",
            "set-keep-alive-enabled",
            "keep-alive-idle-time",
            "set-keep-alive-idle-time",
            "keep-alive-interval",
            "set-keep-alive-interval",
            "keep-alive-count",
            "set-keep-alive-count",
            "hop-limit",
            "set-hop-limit",
            "receive-buffer-size",
            "set-receive-buffer-size",
            "send-buffer-size",
            "set-send-buffer-size",
            "subscribe",
            "shutdown",
        ],
    ),
    (
        "udp",
        "udp-socket",
        &[
            "start-bind",
            "finish-bind",
            "stream",
            "local-address",
            "remote-address",
            "address-family",
            "unicast-hop-limit",
            "set-unicast-hop-limit",
            "receive-buffer-size",
            "set-receive-buffer-size",
            "send-buffer-size",
            "set-send-buffer-size",
            "subscribe",
        ],
    ),
    ("udp", "incoming-datagram-stream", &["receive", "subscribe"]),
    ("udp", "outgoing-datagram-stream", &["check-send", "send", "subscribe"]),
];

pub(super) fn link(linker: &mut Linker<StoreState>, version: &str) -> wasmtime::Result<()> {
    let mut network = linker.instance(&format!("wasi:sockets/network@{version}"))?;
    network.resource("network", ResourceType::host::<Network>(), |mut store, rep| {
        store.data_mut().table().delete(Resource::<Network>::new_own(rep))?;
        Ok(())
    })?;
    let mut instance = linker.instance(&format!("wasi:sockets/instance-network@{version}"))?;
    instance.func_wrap("instance-network", |mut store: Store<'_>, ()| {
        charge(&mut store, 0)?;
        Ok((store.data_mut().table().push(Network)?,))
    })?;
    for (interface, resource, methods) in METHODS {
        let mut its = linker.instance(&format!("wasi:sockets/{interface}@{version}"))?;
        its.resource(resource, ResourceType::host::<Socket>(), |_store, _rep| Ok(()))?;
        for method in methods {
            its.func_new(&format!("[method]{resource}.{method}"), |_store, _ty, _in, _out| {
                Err(Stop::new(Code::HostcallUnsupported, "there are no sockets").into())
            })?;
        }
    }
    let mut lookup = linker.instance(&format!("wasi:sockets/ip-name-lookup@{version}"))?;
    lookup.func_wrap(
        "resolve-addresses",
        |mut store: Store<'_>, (network, name): (Resource<Network>, String)| {
            charge(&mut store, name.len())?;
            store.data_mut().table().get(&network)?;
            Ok((Err::<Resource<Socket>, _>(ErrorCode::AccessDenied),))
        },
    )?;
    for protocol in ["tcp", "udp"] {
        let create = format!("wasi:sockets/{protocol}-create-socket@{version}");
        linker.instance(&create)?.func_wrap(
            &format!("create-{protocol}-socket"),
            |mut store: Store<'_>, (_family,): (IpAddressFamily,)| {
                charge(&mut store, 0)?;
                Ok((Err::<Resource<Socket>, _>(ErrorCode::AccessDenied),))
            },
        )?;
    }
    Ok(())
}
