//! Sockets: accepting, TLS, limits on a connection, draining.

mod connection;
mod guarded;
pub(crate) mod tls;

pub(super) use connection::{Door, accept};

use std::net::SocketAddr;
use std::sync::Arc;

/// The other end of a connection, on every request as an extension. Tests that use no socket have none.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Address.
    pub(super) address: SocketAddr,
    /// Name in a client certificate that was verified.
    pub(super) certificate: Option<Arc<str>>,
    /// Whether the connection is TLS.
    pub(super) tls: bool,
}
