//! Free ports on loopback, for programs that cannot take port 0.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::bail;

use crate::Result;

/// Below what Linux hands out for outgoing connections (32768 and up), so that
/// no connection can take the port between the asking and the listening.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A TCP port on 127.0.0.1 that nobody listens on, never given twice by this
/// process. Other test processes start from another place in the range.
///
/// # Errors
///
/// When the whole range is taken.
pub fn free_port() -> Result<u16> {
    // 487 and the count have no common divisor: neighbouring process ids start
    // far from each other.
    let start = (std::process::id() % u32::from(COUNT)) * 487 % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u32::from(FIRST) + (start + step) % u32::from(COUNT);
        let port = u16::try_from(port)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}
