//! The AdmissionReview envelope: bytes in, bytes out.

/// What a review came to, for the log line and the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// `injected`, `skipped` or `denied`.
    pub outcome: &'static str,
    /// The reason code, one of a closed set: safe as a metric label.
    pub reason: &'static str,
    /// `request.uid`.
    pub uid: String,
    /// `request.namespace`.
    pub namespace: String,
    /// The pod's name, or its `generateName` when a controller made it.
    pub name: String,
    /// `instance=profile` of each instance added by this answer.
    pub instances: Vec<String>,
    /// Whether the request was a dry run.
    pub dry_run: bool,
    /// The message of a denial.
    pub message: Option<String>,
}

/// An answered review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    /// The AdmissionReview to send back, as JSON.
    pub body: Vec<u8>,
    /// What to log and count.
    pub summary: Summary,
}

/// A body that is no review: there is no uid to answer to, so it gets an HTTP error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReviewError {
    /// What is wrong, naming the field.
    pub message: String,
}
