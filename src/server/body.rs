//! Reading the body of a review, with bounds on its size, on its time, and on all bodies together.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::ServerConfig;

/// How long a client that writes what is not wanted may pause before it is answered.
const PAUSE: Duration = Duration::from_millis(500);

/// The bounds, and how much of them is in use.
#[derive(Debug)]
pub(super) struct Bodies {
    max_body: usize,
    timeout: Duration,
    places: Semaphore,
    max_places: usize,
    bytes: Semaphore,
    max_bytes: usize,
}

/// Why a body was not read.
#[derive(Debug)]
pub(super) enum BodyError {
    /// Larger than this many bytes.
    TooLarge(usize),
    /// There are too many, or they are too large together.
    Overloaded,
    /// It did not come in time.
    Slow,
    /// It broke off.
    Broken(axum::Error),
}

/// A body that is held, with its share of what all may hold.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) bytes: Bytes,
    _share: Option<SemaphorePermit<'a>>,
}

impl Bodies {
    pub(super) fn new(config: &ServerConfig) -> Self {
        // A single body must fit.
        let max_bytes = config.max_bodies.max(config.max_body);
        Self {
            max_body: config.max_body,
            timeout: config.body_timeout,
            places: Semaphore::new(config.max_in_flight),
            max_places: config.max_in_flight,
            bytes: Semaphore::new(max_bytes),
            max_bytes,
        }
    }

    /// A place for a review, if one is free.
    pub(super) fn place(&self) -> Result<SemaphorePermit<'_>, BodyError> {
        self.places.try_acquire().map_err(|_| BodyError::Overloaded)
    }

    /// Whether a length that a client announces is too large.
    pub(super) fn check_length(&self, length: Option<u64>) -> Result<(), BodyError> {
        let fits = length.is_none_or(|length| length <= self.max_body as u64);
        if fits {
            Ok(())
        } else {
            Err(BodyError::TooLarge(self.max_body))
        }
    }

    /// Reads a body. The API server has its bodies in memory and sends them at once, so under pressure one that
    /// lags is given up in a tenth of the time: slow clients must not keep the places of others.
    pub(super) async fn read(&self, body: &mut Body) -> Result<Held<'_>, BodyError> {
        let end = Instant::now() + self.timeout;
        let mut reading = pin!(self.collect(body));
        loop {
            match timeout(self.timeout / 10, reading.as_mut()).await {
                Ok(result) => return result,
                Err(_) if self.is_crowded() || Instant::now() >= end => {
                    return Err(BodyError::Slow);
                }
                Err(_) => {}
            }
        }
    }

    /// Whether more than half of the places or bytes are taken.
    fn is_crowded(&self) -> bool {
        self.places.available_permits() < self.max_places.div_ceil(2)
            || self.bytes.available_permits() < self.max_bytes.div_ceil(2)
    }

    async fn collect(&self, body: &mut Body) -> Result<Held<'_>, BodyError> {
        let mut whole: Option<BytesMut> = None;
        let mut first: Option<Bytes> = None;
        let mut length = 0;
        let mut share: Option<SemaphorePermit<'_>> = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else {
                continue;
            };
            length += data.len();
            if length > self.max_body {
                return Err(BodyError::TooLarge(self.max_body));
            }
            // Taken as it comes and not as it is announced: a promise of megabytes must not hold any.
            let more = u32::try_from(data.len())
                .ok()
                .and_then(|count| self.bytes.try_acquire_many(count).ok());
            let more = more.ok_or(BodyError::Overloaded)?;
            match &mut share {
                Some(share) => share.merge(more),
                None => share = Some(more),
            }
            // A body that comes in one piece, as small ones do, is not copied.
            match (&mut whole, first.take()) {
                (Some(whole), _) => whole.extend_from_slice(&data),
                (None, None) => first = Some(data),
                (None, Some(before)) => {
                    let mut joined = BytesMut::with_capacity(before.len() + data.len());
                    joined.extend_from_slice(&before);
                    joined.extend_from_slice(&data);
                    whole = Some(joined);
                }
            }
        }
        let bytes = whole.map(BytesMut::freeze).or(first).unwrap_or_default();
        Ok(Held {
            bytes,
            _share: share,
        })
    }

    /// Reads what is left of a body and keeps nothing of it. A connection that is closed with unread bytes is
    /// reset by the kernel, and the client, which still writes, sees that instead of its answer.
    pub(super) async fn discard(&self, body: &mut Body) {
        let discarding = async {
            let mut length = 0;
            while let Ok(Some(Ok(frame))) = timeout(PAUSE, body.frame()).await {
                length += frame.data_ref().map_or(0, Bytes::len);
                if length > self.max_body {
                    return;
                }
            }
        };
        // However much was read: what counts is that it had its chance.
        let _ = timeout(self.timeout, discarding).await;
    }
}
