//! Kubernetes events: on the owner of a pod that was denied, and about the managed certificate.
//!
//! Who applies a Deployment does not see why its pods are refused; who describes the ReplicaSet does. A review never
//! waits for an event. It leaves a [`Notice`] in a queue, and one task writes: what is the same is counted instead of
//! written again ([`correlator`]), and replicas that see the same write to the same event, whose name follows from
//! what it says ([`notice`]).
//!
//! Nothing here is ever fatal, and everything is bounded: an event that cannot be written is tried a few times with
//! growing pauses and then dropped, which is counted.

pub mod correlator;
pub mod notice;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use correlator::{Correlator, Limits};
use notice::Notice;

/// Notices that wait to be taken up by the task that writes.
const QUEUE: usize = 256;

/// The bound on one event, however many calls it takes.
const CALL: Duration = Duration::from_secs(10);

/// Calls for one event, while other replicas write the same.
const ROUNDS: usize = 4;

/// What became of an event, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The API server has it.
    Written,
    /// An attempt to write it failed.
    Failed,
    /// It is not written: there was too much to write, or no attempt is left.
    Dropped,
}

impl Outcome {
    /// The result as written in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

type Tell = Arc<dyn Fn(Outcome) + Send + Sync>;

/// Takes notices, and never waits.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Notice>,
    tell: Tell,
}

impl Recorder {
    /// A recorder and what writes for it, to be run beside it: until all copies of the recorder are dropped.
    ///
    /// `reporter` is the name of this pod, and `limits` how much is written; `tell` hears what becomes of each event.
    pub fn new(
        client: Client,
        reporter: String,
        limits: Limits,
        tell: impl Fn(Outcome) + Send + Sync + 'static,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let tell: Tell = Arc::new(tell);
        let (queue, notices) = mpsc::channel(QUEUE);
        let recorder = Self {
            queue,
            tell: Arc::clone(&tell),
        };
        let writer = Writer {
            client,
            reporter,
            tell,
            correlator: Correlator::new(limits),
        };
        (recorder, writer.run(notices))
    }

    /// Has it written, unless there is too much to write.
    pub fn record(&self, notice: Notice) {
        if self.queue.try_send(notice).is_err() {
            (self.tell)(Outcome::Dropped);
        }
    }
}

/// Writes what was recorded.
struct Writer {
    client: Client,
    reporter: String,
    tell: Tell,
    correlator: Correlator,
}

impl Writer {
    async fn run(mut self, mut notices: mpsc::Receiver<Notice>) {
        loop {
            if let Some(due) = self.correlator.next(Instant::now()) {
                self.write(&due, &mut notices).await;
                continue;
            }
            let wake = self.correlator.wake();
            tokio::select! {
                notice = notices.recv() => match notice {
                    Some(notice) => self.observe(notice),
                    None => return,
                },
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    fn observe(&mut self, notice: Notice) {
        if !self.correlator.observe(notice, Instant::now()) {
            (self.tell)(Outcome::Dropped);
        }
    }

    /// Writes one, and takes up notices meanwhile.
    async fn write(&mut self, due: &correlator::Due, notices: &mut mpsc::Receiver<Notice>) {
        let notice = Arc::clone(&due.notice);
        let (client, reporter) = (self.client.clone(), self.reporter.clone());
        let count = due.count;
        let write = async move { write(&client, &reporter, &notice, count).await };
        let mut write = std::pin::pin!(tokio::time::timeout(CALL, write));
        let result = loop {
            tokio::select! {
                result = &mut write => break result,
                Some(notice) = notices.recv() => self.observe(notice),
            }
        };
        let (error, hopeless) = match result {
            Ok(Ok(())) => {
                self.correlator.written(due, Instant::now());
                (self.tell)(Outcome::Written);
                return;
            }
            Ok(Err(error)) => (super::said(&error), is_hopeless(&error)),
            Err(_) => {
                let seconds = CALL.as_secs();
                (
                    format!("the API server did not answer in {seconds} s"),
                    false,
                )
            }
        };
        (self.tell)(Outcome::Failed);
        let regarding = &due.notice.regarding;
        let dropped = self.correlator.failed(due, hopeless, Instant::now());
        tracing::warn!(
            target: "events",
            error,
            namespace = regarding.namespace,
            kind = regarding.kind,
            name = regarding.name,
            reason = due.notice.reason,
            dropped,
            "an event cannot be written"
        );
        if dropped {
            (self.tell)(Outcome::Dropped);
        }
    }
}

/// Whether the API server will say the same next time: the account lacks the right, the namespace is going, or it
/// does not accept what we wrote.
fn is_hopeless(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            (400..500).contains(&status.code) && !matches!(status.code, 401 | 408 | 409 | 429)
        }
        _ => false,
    }
}

/// Makes the event, or adds to the count of the one that is there: written before, or by another replica. With the
/// rights to create and to patch alone: a patch that changes nothing reads.
async fn write(
    client: &Client,
    reporter: &str,
    notice: &Notice,
    count: i32,
) -> Result<(), kube::Error> {
    let api: Api<Event> = Api::namespaced(client.clone(), &notice.regarding.namespace);
    let name = notice.event_name();
    let params = PatchParams::default();
    let mut last = None;
    for _ in 0..ROUNDS {
        let event = notice.event(reporter, count);
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error),
        }
        // It may end between two calls, as events do after an hour; and another replica may be faster.
        let again = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.is_not_found() || status.is_conflict());
        let there = match api.patch(&name, &params, &Patch::Merge(json!({}))).await {
            Ok(there) => there,
            Err(error) if again(&error) => {
                last = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let before = there.series.map_or(1, |series| series.count);
        let patch = json!({
            "metadata": {"resourceVersion": there.metadata.resource_version},
            "series": notice::series(before.saturating_add(count)),
        });
        match api.patch(&name, &params, &Patch::Merge(patch)).await {
            Ok(_) => return Ok(()),
            Err(error) if again(&error) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    last.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
