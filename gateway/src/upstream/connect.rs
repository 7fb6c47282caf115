//! Opening connections: resolve, connect, shake hands, all within one time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

use super::Shared;
use super::error::UpstreamError;
use super::stream::Stream;
use super::target::Target;
use super::tls::Offer;

/// Opens a connection to a target.
pub(super) async fn open(shared: &Shared, target: &Target, offer: Offer) -> Result<Stream, UpstreamError> {
    let opened = tokio::time::timeout(target.settings.connect_timeout, open_untimed(shared, target, offer)).await;
    opened.unwrap_or(Err(UpstreamError::ConnectTimeout))
}

async fn open_untimed(shared: &Shared, target: &Target, offer: Offer) -> Result<Stream, UpstreamError> {
    let addresses = shared.resolver.addresses(&target.origin.host).await?;
    // One that may not be reached among those that may is a name that plays tricks. What was looked at here is what is
    // connected to: the name is not asked again.
    if let Some(address) = addresses.iter().find(|address| !target.reach.admits(**address)) {
        return Err(UpstreamError::Address { host: Arc::clone(&target.origin.host), address: *address });
    }
    let tcp = first(&addresses, target.origin.port).await.map_err(UpstreamError::Connect)?;
    tcp.set_nodelay(true).map_err(UpstreamError::Connect)?;
    if !target.origin.tls {
        return Ok(Stream::plain(tcp, &shared.counters));
    }
    let tls = target.settings.tls.handshake(&target.origin.host, offer, tcp).await.map_err(UpstreamError::Tls)?;
    Ok(Stream::tls(tls, &shared.counters))
}

/// The first address that accepts. The next one is tried after an error or a short while; the earlier keep trying.
async fn first(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut addresses = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    loop {
        let more = match addresses.next() {
            Some(address) => {
                attempts.push(TcpStream::connect(SocketAddr::new(*address, port)));
                addresses.len() > 0
            }
            None => false,
        };
        let attempt = if more {
            let Ok(attempt) = tokio::time::timeout(NEXT_ADDRESS_AFTER, attempts.next()).await else { continue };
            attempt
        } else {
            attempts.next().await
        };
        match attempt {
            Some(Ok(tcp)) => return Ok(tcp),
            Some(Err(error)) => last = error,
            None => return Err(last),
        }
    }
}

/// The delay that RFC 8305 recommends.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
