//! Waiting for something to become true, with a bound.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::Result;

const PAUSE: Duration = Duration::from_millis(50);

/// Calls `probe` until it succeeds, and returns what it gave.
///
/// # Errors
///
/// After `limit`, with the last error of `probe`.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= limit => {
                return Err(error).with_context(|| too_long(what, limit));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// The same for a `probe` that is asynchronous.
///
/// # Errors
///
/// As [`wait_until`].
pub async fn wait_until_async<T>(
    what: &str,
    limit: Duration,
    probe: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    wait_closely(what, limit, PAUSE, probe).await
}

/// The same with this pause between two calls, where it is measured how long it takes.
///
/// # Errors
///
/// As [`wait_until`].
pub async fn wait_closely<T>(
    what: &str,
    limit: Duration,
    pause: Duration,
    mut probe: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= limit => {
                return Err(error).with_context(|| too_long(what, limit));
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
    }
}

fn too_long(what: &str, limit: Duration) -> String {
    format!("waited {} s in vain for {what}", limit.as_secs())
}
