//! The gateway's address, taken before anything is started, so that one that is taken is told early.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::link::{Link, SupervisorError};

/// Who has the address: a process of an earlier Serin, or a listener of ours.
#[derive(Debug)]
pub struct Binding {
    pub(super) socket: PathBuf,
    pub(super) address: SocketAddr,
    pub(super) held: Held,
}

#[derive(Debug)]
pub(super) enum Held {
    Left(Link),
    Bound(TcpListener),
}

impl Binding {
    /// Finds the process that an earlier Serin left, or binds the address. Port 0 is any: also the
    /// one that the process has.
    pub async fn take(address: SocketAddr, socket: PathBuf) -> Result<Binding, SupervisorError> {
        if let Ok(left) = Link::connect(&socket).await {
            let has = left.hello.address;
            if address == has || (address.port() == 0 && address.ip() == has.ip()) {
                return Ok(Binding {
                    socket,
                    address: has,
                    held: Held::Left(left),
                });
            }
            left.close(false).await;
        }
        let listener = bind(address).await?;
        let address = listener.local_addr().unwrap_or(address);
        Ok(Binding {
            socket,
            address,
            held: Held::Bound(listener),
        })
    }

    /// Whether a process of an earlier Serin has it.
    pub fn is_left(&self) -> bool {
        matches!(self.held, Held::Left(_))
    }

    /// Where the gateway is, or will be.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, SupervisorError> {
    // By tokio, which lets an address be taken whose last connections are not forgotten yet.
    let bound = tokio::net::TcpListener::bind(address).await;
    bound
        .and_then(tokio::net::TcpListener::into_std)
        .map_err(|source| SupervisorError::Bind { address, source })
}

/// Ends the process that a killed Serin left; whether there was one.
pub async fn end_left(socket: &Path) -> bool {
    match Link::connect(socket).await {
        Ok(left) => {
            left.close(false).await;
            true
        }
        // One that hung was there, and is not any more.
        Err(error) => matches!(error, SupervisorError::Silent),
    }
}
