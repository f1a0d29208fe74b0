//! How much memory the program holds when it is ready and idle.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(30);

/// Starts the program, and stops it again when it is ready: the bytes that are resident then (VmRSS).
pub(super) fn when_idle(program: &Path) -> Result<u64> {
    let mut command = Command::new(program);
    command
        .args(["serve", "--self-signed", "--drain-seconds=0"])
        .args(["--listen=127.0.0.1:0", "--operations-listen=127.0.0.1:0"])
        .env_remove("RUST_LOG")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut serving = Serving(command.spawn().context("failed to start the binary")?);
    let operations = serving.operations()?;
    let mut stream = TcpStream::connect(operations)?;
    stream.set_read_timeout(Some(START))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(
        answer.starts_with("HTTP/1.1 200 "),
        "the binary serves and is not ready: {answer}"
    );
    let path = format!("/proc/{}/status", serving.0.id());
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    resident(&status).with_context(|| format!("{path}: no line `VmRSS: N kB`"))
}

/// A process that ends with this.
struct Serving(Child);

impl Serving {
    /// The address of the operations port, from the line of its log which says that it serves.
    fn operations(&mut self) -> Result<SocketAddr> {
        let log = self.0.stderr.take().context("no log")?;
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let mut log = String::new();
        loop {
            let line = told.recv_timeout(START);
            let line = line.with_context(|| format!("the binary does not serve: {log}"))?;
            if let Some(address) = operations(&line) {
                return address.parse().context(line);
            }
            log.push_str(&line);
            log.push('\n');
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already; nothing else can be done about it here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The address in a line of the log.
fn operations(line: &str) -> Option<&str> {
    line.split(' ')
        .find_map(|word| word.strip_prefix("operations="))
}

/// The bytes in what the kernel says of a process.
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_resident_is_read() {
        assert_eq!(
            resident("VmPeak:\t  999 kB\nVmRSS:\t    9344 kB\n"),
            Some(9_568_256)
        );
        assert_eq!(resident("VmPeak:\t 999 kB\n"), None);
    }

    #[test]
    fn the_operations_port_is_read() {
        let line = "2026-01-01T00:00:00Z  INFO server: serving listen=127.0.0.1:1 operations=127.0.0.1:2 profiles=6";
        assert_eq!(operations(line), Some("127.0.0.1:2"));
    }
}
