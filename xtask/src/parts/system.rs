//! Programs of the operating system that the tests run: the network namespaces and roots of
//! `testkit::pod`, the clients that look at what a proxy serves, nginx, and what counts instructions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;

/// Programs, and the Debian package that each comes from.
const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("nginx", "nginx-light"),
    ("python3", "python3"),
    ("valgrind", "valgrind"),
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
    let _no_services = NoServices::while_installing()?;
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

/// Debian's own way to say that a package's service is not to be started (`policy-rc.d`): the tests want the
/// programs only.
struct NoServices {
    policy: Option<&'static Path>,
}

impl NoServices {
    fn while_installing() -> Result<Self> {
        let policy = Path::new("/usr/sbin/policy-rc.d");
        if policy.exists() {
            return Ok(Self { policy: None });
        }
        fs::write(policy, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(policy, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("failed to write {}", policy.display()))?;
        Ok(Self {
            policy: Some(policy),
        })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = self.policy
            && let Err(error) = fs::remove_file(policy)
        {
            eprintln!("failed to remove {}: {error}", policy.display());
        }
    }
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
