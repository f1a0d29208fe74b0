//! The server of the webhook with another handler in it: what remains when a review costs nothing is the floor.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use outrigger::admission::{self, ReviewError, Reviewed};
use outrigger::server::{CertificateSource, Server, ServerConfig};
use testkit::{Result, Served};

use crate::{ON_ONE_CORE, fixture, reviews};

/// The flags of `outrigger serve` that [`Served`] gives, and which handler.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    operations_listen: SocketAddr,
    #[arg(long)]
    tls_cert: PathBuf,
    #[arg(long)]
    tls_key: PathBuf,
    #[arg(long)]
    drain_seconds: u64,
    #[arg(long)]
    handler: Handler,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Handler {
    /// The engine with the built-in profiles
    Engine,
    /// Reads the body and returns fixed bytes: the engine's answer to [`reviews::two_profiles`]
    Empty,
}

impl Handler {
    /// Starts a server process with this handler, on one core.
    pub(crate) async fn start(self) -> Result<Served> {
        let handler = match self {
            Self::Engine => "--handler=engine",
            Self::Empty => "--handler=empty",
        };
        Served::wrapped(ON_ONE_CORE, &std::env::current_exe()?, &[handler]).await
    }
}

impl Serve {
    /// Serves until the process is told to end.
    pub(crate) fn run(self) -> Result {
        let certificate = CertificateSource::Files {
            certificate: self.tls_cert,
            private_key: self.tls_key,
        };
        let mut config = ServerConfig::new(self.listen, self.operations_listen, certificate);
        config.drain = std::time::Duration::from_secs(self.drain_seconds);
        let snapshot = fixture::snapshot();
        let fixed = admission::review(&reviews::two_profiles(), &snapshot)?;
        let reviewer = move |_, body: &[u8]| -> Result<Reviewed, ReviewError> {
            match self.handler {
                Handler::Engine => admission::review(body, &snapshot),
                Handler::Empty => Ok(fixed.clone()),
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let server = Server::bind(config, reviewer).await?;
            server.run(std::future::pending()).await;
            Ok(())
        })
    }
}
