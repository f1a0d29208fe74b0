//! A TCP balancer, as a Service is one: connections go to a backend that is ready, and stay with it.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::Result;

/// What becomes of connections, those that there are and new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// They are carried.
    Flows,
    /// They are closed.
    Cut,
    /// They stay open and nothing comes through, as behind a firewall that drops packets.
    Stalled,
}

/// The balancer. Dropping it closes every connection.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
    traffic: watch::Sender<Traffic>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    backends: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Balancer {
    /// Listens on a port of loopback: 0 for any that is free.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (traffic, told) = watch::channel(Traffic::Flows);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), told));
        Ok(Self {
            address,
            shared,
            traffic,
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

    /// Lets traffic flow, or not, from now on.
    pub fn set_traffic(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, traffic: watch::Receiver<Traffic>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(carry(client, Arc::clone(&shared), traffic.clone()));
    }
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>, mut traffic: watch::Receiver<Traffic>) {
    let mut carried = pin!(async move {
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
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    loop {
        let now = *traffic.borrow_and_update();
        let changed = traffic.changed();
        let told = match now {
            Traffic::Cut => return,
            Traffic::Stalled => changed.await,
            Traffic::Flows => tokio::select! {
                () = &mut carried => return,
                told = changed => told,
            },
        };
        if told.is_err() {
            return;
        }
    }
}
