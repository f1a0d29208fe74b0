//! A DNS server (RFC 1035), over UDP and on port 53, for there is no other in a `resolv.conf`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;

use crate::Result;

/// The length of a message's header.
const HEADER: usize = 12;
/// The type of a record with an IPv4 address.
const A: u16 = 1;

/// A name server, until it is dropped.
#[derive(Debug)]
pub struct NameServer {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    /// What it knows; a server without answers nothing.
    names: Option<BTreeMap<String, Ipv4Addr>>,
    delay: Duration,
    asked: AtomicUsize,
    ended: AtomicBool,
}

impl NameServer {
    /// Listens on an address of this machine. Each of the names has the IPv4 address beside it, and no other name
    /// exists. An answer takes `delay`.
    ///
    /// # Errors
    ///
    /// When the port is taken, or the test does not run as root.
    pub fn start<'a>(
        address: Ipv4Addr,
        names: impl IntoIterator<Item = (&'a str, Ipv4Addr)>,
        delay: Duration,
    ) -> Result<Self> {
        let names = names.into_iter().map(|(name, it)| (name.to_owned(), it));
        Self::listen(address, Some(names.collect()), delay)
    }

    /// Listens on an address of this machine, and never answers.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn silent(address: Ipv4Addr) -> Result<Self> {
        Self::listen(address, None, Duration::ZERO)
    }

    fn listen(
        address: Ipv4Addr,
        names: Option<BTreeMap<String, Ipv4Addr>>,
        delay: Duration,
    ) -> Result<Self> {
        let socket = UdpSocket::bind((address, 53))
            .with_context(|| format!("a name server could not listen on {address}"))?;
        // So that it sees that it is to end.
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let state = Arc::new(State {
            names,
            delay,
            asked: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let state = Arc::clone(&state);
            move || state.serve(&socket)
        });
        Ok(Self {
            state,
            thread: Some(thread),
        })
    }

    /// How many questions have come, answered or not.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn serve(&self, socket: &UdpSocket) {
        let mut message = [0; 512];
        while !self.ended.load(Ordering::SeqCst) {
            match socket.recv_from(&mut message) {
                Ok((length, client)) => {
                    self.asked.fetch_add(1, Ordering::SeqCst);
                    let names = self.names.as_ref();
                    if let Some(reply) = names.and_then(|names| reply(names, &message[..length])) {
                        std::thread::sleep(self.delay);
                        let _ = socket.send_to(&reply, client);
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => {
                    eprintln!("the name server ends: {error}");
                    return;
                }
            }
        }
    }
}

/// The reply to a query of one question; none to what is no query.
fn reply(names: &BTreeMap<String, Ipv4Addr>, query: &[u8]) -> Option<Vec<u8>> {
    let mut labels: Vec<String> = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*query.get(at)?);
        let label = query.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
    let question = query.get(HEADER..at + 4)?;
    let known = names.get(&labels.join("."));
    let address = known.filter(|_| kind == A);

    let mut reply = query[..2].to_vec();
    // A reply of a server that recurses, as was wished; then whether there is such a name (NXDOMAIN).
    reply.extend([0x81, if known.is_some() { 0x80 } else { 0x83 }]);
    for count in [1, u16::from(address.is_some()), 0, 0] {
        reply.extend(u16::to_be_bytes(count));
    }
    reply.extend(question);
    if let Some(address) = address {
        // The name at the header's end, type A, class IN, for 0 seconds, 4 bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}
