//! A TCP balancer, as a Service is one: connections go to a backend that is ready, and stay with it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::Result;

/// The balancer. Dropping it closes every connection.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    backends: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
    cut: AtomicBool,
    opened: AtomicUsize,
}

impl Balancer {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The backends that new connections go to, in turn.
    pub fn set_backends(&self, backends: Vec<SocketAddr>) {
        *self
            .shared
            .backends
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = backends;
    }

    /// Cuts all connections and takes no more, or takes them again.
    pub fn cut(&self, cut: bool) {
        self.shared.cut.store(cut, Ordering::Relaxed);
    }

    /// How many connections it has taken.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::Relaxed)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if shared.cut.load(Ordering::Relaxed) {
            continue;
        }
        shared.opened.fetch_add(1, Ordering::Relaxed);
        connections.spawn(carry(client, Arc::clone(&shared)));
    }
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    let backend = {
        let backends = shared
            .backends
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let turn = shared.next.fetch_add(1, Ordering::Relaxed);
        match backends.len() {
            0 => return,
            count => backends[turn % count],
        }
    };
    let Ok(mut server) = TcpStream::connect(backend).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let cut = async {
        while !shared.cut.load(Ordering::Relaxed) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        () = cut => {}
    }
}
