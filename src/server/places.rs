//! The places of a port: how many connections it holds, and who makes room when there are none left.
//!
//! Any pod can reach the port and hold connections that it does not use. Were they kept until they end as idle,
//! the API server could not call for minutes. So a new connection that finds no place waits, and the one that
//! has been of no use for longest is asked to leave: first those that never asked for anything, then those
//! whose last request is long ago. One that is reading or answering a request stays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::activity::{Activity, Rest};

/// How long to wait for a place before another connection is asked to leave.
const PAUSE: Duration = Duration::from_millis(100);

/// All places of a port.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    total: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    connections: BTreeMap<u64, Arc<Activity>>,
}

/// One place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(total)),
            total,
            held: Mutex::default(),
        })
    }

    /// A place for a connection. Without a free one it waits for one that is done, or that rests for too long:
    /// `rest` for those that asked something, a fifth of it for those that never did.
    pub(super) async fn take(
        self: &Arc<Self>,
        activity: &Arc<Activity>,
        rest: Duration,
    ) -> Result<Place, AcquireError> {
        let mut waiting = std::pin::pin!(Arc::clone(&self.free).acquire_owned());
        let permit = loop {
            tokio::select! {
                biased;
                permit = waiting.as_mut() => break permit?,
                () = std::future::ready(()) => self.make_room(rest),
            }
            if let Ok(permit) = tokio::time::timeout(PAUSE, waiting.as_mut()).await {
                break permit?;
            }
        };
        let mut held = self.held();
        let number = held.next;
        held.next += 1;
        held.connections.insert(number, Arc::clone(activity));
        Ok(Place {
            places: Arc::clone(self),
            number,
            _permit: permit,
        })
    }

    /// Asks one connection to leave, if one has rested for long enough.
    fn make_room(&self, rest: Duration) {
        let held = self.held();
        let longest = held
            .connections
            .values()
            .filter_map(|activity| match activity.rest()? {
                Rest::Unused(since) => (since >= rest / 5).then_some((true, since, activity)),
                Rest::Used(since) => (since >= rest).then_some((false, since, activity)),
            })
            .max_by_key(|(unused, since, _)| (*unused, *since));
        if let Some((_, _, activity)) = longest {
            activity.ask_to_leave();
        }
    }

    /// Whether fewer than an eighth of the places are free.
    pub(super) fn are_scarce(&self) -> bool {
        self.free.available_permits() < self.total.div_ceil(8)
    }

    /// Waits until no connection is open.
    pub(super) async fn all_free(&self) {
        let all = u32::try_from(self.total).unwrap_or(u32::MAX);
        // Nobody closes the semaphore.
        let _ = self.free.acquire_many(all).await;
    }

    /// A panic elsewhere leaves the map whole: it is changed in one step.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.held().connections.remove(&self.number);
    }
}
