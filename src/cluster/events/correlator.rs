//! Which events are written when: each at once, and then in a window of time no more than the count of how often it
//! was seen. Pure: whoever asks says what time it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::notice::Notice;

/// How much is written, and how much is remembered.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The time between two writes of the same.
    pub window: Duration,
    /// Different ones that are remembered.
    pub series: usize,
    /// Of these, those of one namespace, so that none takes the place of all others.
    pub of_namespace: usize,
    /// Attempts to write one.
    pub attempts: u32,
    /// The time between any two writes.
    pub breath: Duration,
    /// The time after a failure that another attempt might mend: at first, and at most. It doubles.
    pub pause: (Duration, Duration),
}

impl Default for Limits {
    /// Five minutes for a window: a controller that tries again and again soon does so every few minutes. The rest
    /// bounds memory to two megabytes and writes to ten a second, and for one namespace to 13 a minute.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(300),
            series: 1024,
            of_namespace: 64,
            attempts: 5,
            breath: Duration::from_millis(100),
            pause: (Duration::from_secs(1), Duration::from_secs(60)),
        }
    }
}

/// One that is to be written now.
#[derive(Debug)]
pub struct Due {
    /// What.
    pub notice: Arc<Notice>,
    /// How often it was seen since it was last written: at least once.
    pub count: i32,
}

/// What is known of one.
#[derive(Debug)]
struct Series {
    /// How often it was seen and not written.
    fresh: i32,
    attempts: u32,
    /// The end of its window, or of the pause after a failure.
    not_before: Instant,
}

/// All that were seen lately.
#[derive(Debug)]
pub struct Correlator {
    limits: Limits,
    series: HashMap<Arc<Notice>, Series>,
    /// Nothing at all is written before.
    quiet: Option<Instant>,
    pause: Option<Duration>,
}

impl Correlator {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            series: HashMap::new(),
            quiet: None,
            pause: None,
        }
    }

    /// Something was seen. Whether there is room for it.
    #[must_use]
    pub fn observe(&mut self, notice: Notice, now: Instant) -> bool {
        if let Some(series) = self.series.get_mut(&notice) {
            series.fresh = series.fresh.saturating_add(1);
            return true;
        }
        // Those that were not seen again in their window are forgotten: the event's name does the rest.
        self.series
            .retain(|_, series| series.fresh > 0 || now < series.not_before);
        let namespace = &notice.regarding.namespace;
        let neighbours = self
            .series
            .keys()
            .filter(|known| known.regarding.namespace == *namespace)
            .count();
        if self.series.len() >= self.limits.series || neighbours >= self.limits.of_namespace {
            return false;
        }
        let first = Series {
            fresh: 1,
            attempts: 0,
            not_before: now,
        };
        self.series.insert(Arc::new(notice), first);
        true
    }

    /// The one that waits longest, if any may be written now.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Due> {
        if self.wake()? > now {
            return None;
        }
        let (notice, series) = self.longest()?;
        Some(Due {
            notice: Arc::clone(notice),
            count: series.fresh,
        })
    }

    /// When something is to be written, if nothing is seen until then.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        let (_, series) = self.longest()?;
        Some(
            self.quiet
                .map_or(series.not_before, |quiet| quiet.max(series.not_before)),
        )
    }

    fn longest(&self) -> Option<(&Arc<Notice>, &Series)> {
        self.series
            .iter()
            .filter(|(_, series)| series.fresh > 0)
            .min_by_key(|(_, series)| series.not_before)
    }

    /// It was written.
    pub fn written(&mut self, due: &Due, now: Instant) {
        self.pause = None;
        self.quiet = Some(now + self.limits.breath);
        self.rest(due, now);
    }

    /// It could not be written, and will never be when that is `hopeless`. Whether it is given up.
    #[must_use]
    pub fn failed(&mut self, due: &Due, hopeless: bool, now: Instant) -> bool {
        let (first, longest) = self.limits.pause;
        let quiet = if hopeless {
            now + self.limits.breath
        } else {
            let pause = self.pause.map_or(first, |last| longest.min(last * 2));
            self.pause = Some(pause);
            now + pause
        };
        self.quiet = Some(quiet);
        let Some(series) = self.series.get_mut(&due.notice) else {
            return true;
        };
        series.attempts += 1;
        if hopeless || series.attempts >= self.limits.attempts {
            self.rest(due, now);
            return true;
        }
        series.not_before = quiet;
        false
    }

    /// Nothing more of it in this window.
    fn rest(&mut self, due: &Due, now: Instant) {
        if let Some(series) = self.series.get_mut(&due.notice) {
            // It may have been seen while it was written.
            series.fresh -= due.count;
            series.attempts = 0;
            series.not_before = now + self.limits.window;
        }
    }
}

#[cfg(test)]
mod tests;
