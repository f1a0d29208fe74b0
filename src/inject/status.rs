//! What was injected, written on the pod, and read again when the pod comes back.
//!
//! A pod comes back when another webhook changed it (`reinvocationPolicy: IfNeeded`), when a manifest was
//! injected by `outrigger inject`, or when somebody exports a pod and creates it again. The annotation is
//! a claim of whoever wrote the pod: it counts only as far as the pod bears it out.

use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};

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
    pub fn with(&self, additions: &[Addition<'_>]) -> String {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Either<'s> {
            Old(&'s Record),
            New(&'s Addition<'s>),
        }
        #[derive(Serialize)]
        struct Annotation<'s> {
            instances: Vec<Either<'s>>,
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
        // Room for most, so that it need not grow.
        let mut text = Vec::with_capacity(256 + 256 * instances.len());
        // Serialising strings and lists of strings does not fail, and gives text.
        let _ = serde_json::to_writer(&mut text, &Annotation { instances });
        String::from_utf8(text).unwrap_or_default()
    }
}

/// What one instance adds to one pod.
#[derive(Debug)]
pub struct Addition<'p> {
    /// What it adds to every pod.
    pub record: &'p Record,
    /// The volumes of its shares that this pod did not have.
    pub shares: Vec<&'p str>,
}

impl Serialize for Addition<'_> {
    /// As a [`Record`].
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Volumes<'a>(&'a [String], &'a [&'a str]);
        impl Serialize for Volumes<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let volumes = self.0.iter().map(String::as_str);
                serializer.collect_seq(volumes.chain(self.1.iter().copied()))
            }
        }
        let record = self.record;
        let mut fields = serializer.serialize_struct("Record", 7)?;
        fields.serialize_field("instance", &record.instance)?;
        fields.serialize_field("profile", &record.profile)?;
        fields.serialize_field("revision", &record.revision)?;
        fields.serialize_field("initContainers", &record.init_containers)?;
        fields.serialize_field("containers", &record.containers)?;
        fields.serialize_field("volumes", &Volumes(&record.volumes, &self.shares))?;
        fields.serialize_field("files", &record.files)?;
        fields.end()
    }
}

impl Record {
    /// The same with the volumes of shares.
    pub fn with_shares(&self, shares: &[String]) -> Self {
        let mut record = self.clone();
        record.volumes.extend_from_slice(shares);
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

    #[test]
    fn an_addition_is_written_as_the_record_that_it_becomes() {
        let record = Record {
            instance: "web".to_owned(),
            profile: "fluentd".to_owned(),
            revision: "0123456789ab".to_owned(),
            init_containers: vec!["web".to_owned()],
            containers: vec!["other".to_owned()],
            volumes: vec!["web-files".to_owned()],
            files: vec!["fluent.yaml".to_owned()],
        };
        let shares = vec!["web-logs"];
        let whole = record.with_shares(&["web-logs".to_owned()]);
        let addition = Addition {
            record: &record,
            shares,
        };
        assert_eq!(
            serde_json::to_value(&addition).unwrap(),
            serde_json::to_value(&whole).unwrap()
        );
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
        let additions = [&c, &b].map(|record| Addition {
            record,
            shares: Vec::new(),
        });
        let text = status.with(&additions);
        let read = Status::parse(Some(&text));
        assert_eq!(read.instances, [old("a"), b.clone(), c.clone()]);
    }
}
