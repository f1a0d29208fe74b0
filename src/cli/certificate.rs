//! `outrigger certificate`: certificates made on the spot.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::certificate::{CertificatePair, Subject};

/// Make certificates
#[derive(Debug, Args)]
pub struct CertificateCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a key and a certificate that it signs itself: tls.key, tls.crt, and the same as ca.crt
    SelfSigned {
        /// The folder to write to; it must be there
        #[arg(long, value_name = "DIR")]
        directory: PathBuf,
        /// A DNS name in the certificate; may be given several times
        #[arg(long, value_name = "NAME")]
        dns_name: Vec<String>,
        /// An IP address in the certificate; may be given several times
        #[arg(long, value_name = "ADDRESS")]
        ip: Vec<IpAddr>,
        /// For how many days it is valid
        #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
    },
}

impl CertificateCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// A name that is none, or a folder that cannot be written to.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let Action::SelfSigned {
            directory,
            dns_name,
            ip,
            days,
        } = &self.action;
        let subject = Subject {
            dns_names: dns_name.clone(),
            addresses: ip.clone(),
            days: *days,
        };
        CertificatePair::self_signed(&subject)?.write(directory)?;
        Ok(ExitCode::SUCCESS)
    }
}
