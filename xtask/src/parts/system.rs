//! Programs of the operating system that the tests run: the network namespaces and roots of
//! `testkit::pod`, and the clients that look at what Envoy serves.

use std::process::Command;

use anyhow::{Result, bail};

use crate::run;

/// Programs, and the Debian package that each comes from.
const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("python3", "python3"),
];

/// Sees to it that they are there: as root on a machine with apt they are installed, else the
/// message says which are missing.
pub(crate) fn install() -> Result<()> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !is_there("apt-get") || !is_root() {
        bail!(
            "the tests run programs that are not there: install {list} (names of Debian packages)"
        );
    }
    println!("installing {list} with apt-get");
    let hint = "install it with the system's package manager";
    run::run(Command::new("apt-get").args(["update", "-qq"]), hint)?;
    run::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--no-install-recommends", "-qq"])
            .args(&packages),
        hint,
    )
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path)
        .chain(system)
        .any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}
