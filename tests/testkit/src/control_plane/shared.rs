//! One control plane for all tests of a binary.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::anyhow;

use super::{ControlPlane, Controllers};
use crate::Result;

struct Shared {
    running: Weak<ControlPlane>,
    /// Set while a harness runs, so that it is not stopped between two tests.
    keep: bool,
    kept: Option<Arc<ControlPlane>>,
    /// Why it did not start: said to each test, instead of waiting again.
    failure: Option<String>,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared {
    running: Weak::new(),
    keep: false,
    kept: None,
    failure: None,
});

/// Everything under it is replaced whole: a panic elsewhere leaves it sound.
fn locked() -> MutexGuard<'static, Shared> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn shared() -> Result<Arc<ControlPlane>> {
    let mut shared = locked();
    if let Some(running) = shared.running.upgrade() {
        return Ok(running);
    }
    if let Some(failure) = &shared.failure {
        return Err(anyhow!("{failure}"));
    }
    match ControlPlane::start(Controllers::Run) {
        Ok(plane) => {
            let plane = Arc::new(plane);
            shared.running = Arc::downgrade(&plane);
            shared.kept = shared.keep.then(|| Arc::clone(&plane));
            Ok(plane)
        }
        Err(error) => {
            shared.failure = Some(format!("{error:#}"));
            Err(error)
        }
    }
}

/// Keeps the shared control plane, once somebody has asked for it, until this is
/// dropped.
pub(crate) struct Keep;

/// See [`Keep`].
pub(crate) fn keep_shared() -> Keep {
    locked().keep = true;
    Keep
}

impl Drop for Keep {
    fn drop(&mut self) {
        let kept = {
            let mut shared = locked();
            shared.keep = false;
            shared.kept.take()
        };
        drop(kept); // Outside the lock: it takes a second.
    }
}
