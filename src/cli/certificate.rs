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
        /// The permissions of tls.key, in octal; 0644 where another user without a common group serves it
        #[arg(long, value_name = "MODE", default_value = "0640", value_parser = parse_mode)]
        key_mode: u32,
        /// For how many days it is valid
        #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
    },
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        // Whoever serves the certificate reads the key, and nobody executes it.
        Ok(mode) if mode & !0o666 == 0 && mode & 0o400 != 0 => Ok(mode),
        _ => Err("expected octal permissions that let the owner read, as in 0640".to_owned()),
    }
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
            key_mode,
            days,
        } = &self.action;
        let subject = Subject {
            dns_names: dns_name.clone(),
            addresses: ip.clone(),
            days: *days,
        };
        CertificatePair::self_signed(&subject)?.write(directory, *key_mode)?;
        Ok(ExitCode::SUCCESS)
    }
}
