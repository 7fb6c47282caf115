//! Listening sockets: one for each worker and address, all bound before anybody serves.
//!
//! Workers share an address by `SO_REUSEPORT`, so that the kernel spreads connections without a lock.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// One address with a listening socket for each worker.
#[derive(Debug)]
pub struct Bound {
    /// The address, its port known.
    pub address: SocketAddr,
    /// As many as there are workers; not blocking.
    pub sockets: Vec<TcpListener>,
}

/// An address on which the gateway cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`: {hint}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What to do.
    pub hint: &'static str,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Binds every address once for each worker, or none at all.
///
/// Port 0 is resolved once and shared by all workers. Two gateways never share a port by accident: each address is first
/// tried without `SO_REUSEPORT`, which fails where anybody else listens.
pub fn bind(addresses: &[SocketAddr], workers: usize) -> Result<Vec<Bound>, BindError> {
    addresses.iter().map(|address| bind_one(*address, workers.max(1))).collect()
}

fn bind_one(wanted: SocketAddr, workers: usize) -> Result<Bound, BindError> {
    let refused = |source: io::Error| BindError { address: wanted, hint: hint(&source), source };
    let probe = socket(wanted, Sharing::Alone).map_err(refused)?;
    drop(probe);
    let first = listen(wanted).map_err(refused)?;
    let address = first.local_addr().map_err(refused)?;
    let mut sockets = Vec::with_capacity(workers);
    sockets.push(first);
    while sockets.len() < workers {
        sockets.push(listen(address).map_err(refused)?);
    }
    Ok(Bound { address, sockets })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, Sharing::Workers)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Workers,
}

fn socket(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a gateway that just ended must not keep the next one from starting.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Workers)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    if sharing == Sharing::Alone {
        // With `SO_REUSEADDR` a second bind passes; a second listen does not.
        socket.listen(1)?;
    }
    Ok(socket)
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process, or another listener of this configuration, has this port",
        io::ErrorKind::AddrNotAvailable => "this machine does not have the address; 0.0.0.0 takes all of its addresses",
        io::ErrorKind::PermissionDenied => "ports below 1024 need the capability CAP_NET_BIND_SERVICE",
        _ => "the system refused the socket",
    }
}

const BACKLOG: i32 = 1024;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic fails the test")]
mod tests {
    use super::*;

    fn any_port() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn all_workers_share_the_port_that_zero_became() {
        let bound = bind(&[any_port()], 3).expect("a free port");

        let ports: Vec<u16> = bound[0].sockets.iter().map(|s| s.local_addr().expect("an address").port()).collect();
        assert_ne!(bound[0].address.port(), 0);
        assert_eq!(ports, vec![bound[0].address.port(); 3]);
    }

    #[test]
    fn a_port_that_somebody_has_is_refused_with_a_hint() {
        let taken = bind(&[any_port()], 2).expect("a free port");

        let error = bind(&[taken[0].address], 2).expect_err("the port is taken");

        assert_eq!(error.address, taken[0].address);
        assert!(error.to_string().contains("another process"), "{error}");
    }

    #[test]
    fn an_address_of_another_machine_is_refused_with_a_hint() {
        let error = bind(&[SocketAddr::from(([192, 0, 2, 1], 0))], 1).expect_err("not our address");
        assert!(error.to_string().contains("does not have the address"), "{error}");
    }
}
