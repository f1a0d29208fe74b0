//! What was injected, written on the pod, and read again when the pod comes back.
//!
//! A pod comes back when another webhook changed it (`reinvocationPolicy: IfNeeded`), when a manifest was
//! injected by `outrigger inject`, or when somebody exports a pod and creates it again. The annotation is
//! a claim of whoever wrote the pod: it counts only as far as the pod bears it out.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::patch::{push_escaped, quote};

/// The value of `outrigger.dev/status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// One record an instance, in the order of injection.
    #[serde(default)]
    pub instances: Vec<Record>,
}

/// What one instance added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The instance's name.
    pub instance: String,
    /// Its profile.
    pub profile: String,
    /// The profile's revision.
    pub revision: String,
    /// Init containers and native sidecars.
    #[serde(default)]
    pub init_containers: Vec<String>,
    /// Ordinary containers.
    #[serde(default)]
    pub containers: Vec<String>,
    /// Volumes.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Generated files.
    #[serde(default)]
    pub files: Vec<String>,
}

impl Status {
    /// Reads an annotation. Anything that is not ours is no status, and so no claim.
    pub fn parse(annotation: Option<&str>) -> Self {
        annotation
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// The record of an instance of a profile.
    pub fn record(&self, instance: &str, profile: &str) -> Option<&Record> {
        self.instances
            .iter()
            .find(|record| record.instance == instance && record.profile == profile)
    }

    /// The annotation's value once these are added: each instead of the record of its instance, or else at the end.
    pub fn with(&self, additions: &[Addition<'_>]) -> StatusText {
        #[derive(Clone, Copy)]
        enum Either<'s> {
            Old(&'s Record),
            New(&'s Addition<'s>),
        }
        let mut instances: Vec<Either<'_>> =
            Vec::with_capacity(self.instances.len() + additions.len());
        instances.extend(self.instances.iter().map(Either::Old));
        for addition in additions {
            let of_same = |either: &&mut Either<'_>| {
                let instance = match either {
                    Either::Old(record) => &record.instance,
                    Either::New(addition) => &addition.record.instance,
                };
                *instance == addition.record.instance
            };
            match instances.iter_mut().find(of_same) {
                Some(old) => *old = Either::New(addition),
                None => instances.push(Either::New(addition)),
            }
        }
        let mut text = StatusText::with_capacity(64 + 512 * instances.len());
        text.push("{\"instances\":[");
        for (index, instance) in instances.into_iter().enumerate() {
            if index > 0 {
                text.push(",");
            }
            match instance {
                Either::Old(record) => text.push_record(&record.clone().into(), &[]),
                Either::New(Addition { record, shares }) => text.push_record(record, shares),
            }
        }
        text.push("]}");
        text
    }
}

/// The annotation's value.
#[derive(Debug, Default)]
pub struct StatusText {
    escaped: String,
    length: usize,
}

impl StatusText {
    fn with_capacity(bytes: usize) -> Self {
        Self {
            escaped: String::with_capacity(bytes),
            length: 0,
        }
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.length
    }

    /// It within the quotes of a JSON string.
    pub fn escaped(&self) -> &str {
        &self.escaped
    }

    fn push(&mut self, text: &str) {
        push_escaped(&mut self.escaped, text);
        self.length += text.len();
    }

    fn push_written(&mut self, text: &Self) {
        self.escaped.push_str(&text.escaped);
        self.length += text.length;
    }

    /// A record with further volumes.
    fn push_record(&mut self, record: &WrittenRecord, volumes: &[&str]) {
        self.push_written(&record.until_volumes);
        for (index, volume) in volumes.iter().enumerate() {
            if index > 0 || !record.volumes.is_empty() {
                self.push(",");
            }
            self.push(&quote(volume));
        }
        self.push_written(&record.behind_volumes);
    }
}

/// A record, and what it comes to in the annotation: JSON within JSON is mostly escapes, so it is written once.
#[derive(Debug)]
pub struct WrittenRecord {
    record: Record,
    /// Until where another volume would be named.
    until_volumes: StatusText,
    behind_volumes: StatusText,
}

impl Deref for WrittenRecord {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl Default for WrittenRecord {
    fn default() -> Self {
        Record::default().into()
    }
}

impl From<Record> for WrittenRecord {
    fn from(record: Record) -> Self {
        // Strings and lists of strings can always be written.
        let json = serde_json::to_string(&record).unwrap_or_default();
        let files = serde_json::to_string(&record.files).unwrap_or_default();
        // `volumes` is the last member but one.
        let behind = "],\"files\":".len() + files.len() + "}".len();
        let (until, behind) = json.split_at(json.len().saturating_sub(behind));
        let written = |text: &str| {
            let mut written = StatusText::with_capacity(text.len() + text.len() / 4);
            written.push(text);
            written
        };
        Self {
            until_volumes: written(until),
            behind_volumes: written(behind),
            record,
        }
    }
}

impl WrittenRecord {
    /// How many bytes the text takes.
    pub fn size(&self) -> usize {
        self.until_volumes.escaped.len() + self.behind_volumes.escaped.len()
    }
}

/// What one instance adds to one pod.
#[derive(Debug)]
pub struct Addition<'p> {
    /// What it adds to every pod.
    pub record: &'p WrittenRecord,
    /// The volumes of its shares that this pod did not have.
    pub shares: Vec<&'p str>,
}

impl Record {
    /// The same with the volumes of shares.
    pub fn with_shares(&self, shares: &[impl ToString]) -> Self {
        let mut record = self.clone();
        record
            .volumes
            .extend(shares.iter().map(ToString::to_string));
        record
    }

    /// Whether the record claims anything that a pod could bear out.
    pub fn claims_something(&self) -> bool {
        !(self.init_containers.is_empty() && self.containers.is_empty() && self.volumes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader of the patch sees.
    fn unescaped(text: &StatusText) -> String {
        serde_json::from_str(&format!("\"{}\"", text.escaped())).unwrap()
    }

    #[test]
    fn an_addition_is_written_as_the_record_that_it_becomes() {
        let record = Record {
            instance: "web".to_owned(),
            profile: "fluentd".to_owned(),
            revision: "0123456789ab".to_owned(),
            init_containers: vec!["web".to_owned()],
            containers: vec!["other".to_owned()],
            volumes: Vec::new(),
            files: vec!["fluent.yaml".to_owned()],
        };
        let with_volume = record.with_shares(&["web-files".to_owned()]);
        for record in [Record::default(), record, with_volume] {
            for shares in [vec![], vec!["web-logs", "web-\"data\""]] {
                let names: Vec<String> = shares.iter().map(|name| (*name).to_owned()).collect();
                let instances = vec![record.with_shares(&names)];
                let record = &record.clone().into();
                let text = Status::default().with(&[Addition { record, shares }]);
                let plain = unescaped(&text);
                assert_eq!(Status::parse(Some(&plain)), Status { instances });
                assert_eq!(text.size(), plain.len());
            }
        }
    }

    #[test]
    fn a_new_record_stands_where_that_of_its_instance_stood() {
        let old = |instance: &str| Record {
            instance: instance.to_owned(),
            ..Record::default()
        };
        let status = Status {
            instances: vec![old("a"), old("b")],
        };
        let (b, c) = (
            Record {
                revision: "new".to_owned(),
                ..old("b")
            },
            old("c"),
        );
        let written = [&c, &b].map(|record| WrittenRecord::from(record.clone()));
        let additions = written.each_ref().map(|record| Addition {
            record,
            shares: Vec::new(),
        });
        let text = status.with(&additions);
        let read = Status::parse(Some(&unescaped(&text)));
        assert_eq!(read.instances, [old("a"), b.clone(), c.clone()]);
    }
}
