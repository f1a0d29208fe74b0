//! The `SidecarProfile` objects of the cluster, compiled as they come.
//!
//! A version that is refused leaves the last good one of its object serving, and the object says so: its condition
//! `Ready` is false, with everything that is wrong. An object that was never good leaves a built-in profile of its
//! name serving, if there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use indexmap::IndexMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value as Json, json};
use tracing::Span;

use super::hearing::{self, WATCH_SECONDS};
use super::{crd, is_status};
use crate::manifest;
use crate::profile::catalogue::Entry;
use crate::profile::compile::CLUSTER;
use crate::profile::document::KIND;
use crate::profile::{Catalogue, Defaults, Profile};
use crate::server::standing::{Following, Topic};

/// Who writes the status, in managed fields.
const FIELD_MANAGER: &str = "outrigger-status";
/// The longest message of a condition that the API takes.
const MAX_MESSAGE: usize = 32_768;
/// How long one call may take. The client has no bound of its own: its watches are silent for long.
const CALL: Duration = Duration::from_secs(10);
/// How often a status that could not be written is tried again, with growing pauses.
const ATTEMPTS: u32 = 5;

/// The resource, as URLs name it.
pub fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk(crd::GROUP, crd::VERSION, KIND);
    ApiResource::from_gvk_with_plural(&kind, crd::PLURAL)
}

/// What the profiles of the cluster come to.
#[derive(Debug, Clone)]
pub struct Shelved {
    /// All profiles that serve: those of the cluster, and besides those that there are without it.
    pub catalogue: Catalogue,
    /// How many objects have a version that is refused; another version of them may serve.
    pub refused: usize,
}

/// Watches all profiles and hands over those that serve, beginning with the first complete list. `ours` are those that
/// there are without the cluster, `defaults` the administrator's for those of the cluster. Ends only when it is
/// dropped: a watch that is lost is taken up again.
pub async fn watch(
    client: Client,
    following: Following,
    ours: Catalogue,
    defaults: Defaults,
    publish: impl Fn(Shelved),
) {
    let all = |client| -> Api<DynamicObject> { Api::all_with(client, &resource()) };
    // What is heard of statuses says nothing about the watch, so they have the other client.
    let (heard, api) = (
        all(hearing::listening(&following, &client)),
        all(client.clone()),
    );
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let events = watcher::watcher(heard, config).default_backoff();
    let mut events = pin!(events);
    let mut shelf = Shelf::new(ours, defaults);
    let mut listed = BTreeSet::new();
    let mut listing = Span::none();
    let mut lost = false;
    let mut complete = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                listed.clear();
                listing = hearing::listing(Topic::Profiles);
            }
            Ok(Event::InitApply(object)) => {
                listed.insert(object.name_any());
                take(&mut shelf, &object, &api, true);
            }
            Ok(Event::InitDone) => {
                listing = Span::none();
                shelf.keep(&listed);
                lost = false;
                complete = true;
                tracing::info!(target: "cluster", profiles = shelf.serving(), "profiles of the cluster are known");
                publish(shelf.shelved());
                following.known();
            }
            Ok(Event::Apply(object)) => {
                if take(&mut shelf, &object, &api, false) {
                    publish(shelf.shelved());
                }
            }
            Ok(Event::Delete(object)) => {
                if definition_is_going(&client).await {
                    // With the definition go all objects, which nobody meant to delete one by one.
                    tracing::error!(
                        target: "cluster", profile = object.name_any(),
                        "the definition of profiles is being deleted, and this profile with it; its last version serves on"
                    );
                } else {
                    shelf.forget(&object.name_any());
                    tracing::info!(target: "cluster", profile = object.name_any(), "a profile was deleted");
                    publish(shelf.shelved());
                }
            }
            Err(error) => {
                hearing::interrupted(&mut listing, Topic::Profiles, &error);
                // Said once: without the CRD this is how it stays.
                if !lost {
                    lost = true;
                    tracing::warn!(target: "cluster", %error, "the watch of profiles is interrupted; the last known ones serve");
                }
                if !complete && is_absent(&error) {
                    // There is nothing to know and to wait for. Once there was, it is missed.
                    following.heard();
                    following.known();
                }
            }
        }
    }
}

/// Whether the API server has no such resource.
fn is_absent(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(error) if is_status(error, 404))
}

/// Whether the definition of profiles is gone or about to go. When that cannot be found out, it is not.
async fn definition_is_going(client: &Client) -> bool {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = format!("{}.{}", crd::PLURAL, crd::GROUP);
    match bounded(definitions.get_metadata_opt(&name)).await {
        Ok(definition) => {
            definition.is_none_or(|definition| definition.metadata.deletion_timestamp.is_some())
        }
        Err(error) => {
            tracing::warn!(target: "cluster", %error, "the definition of profiles could not be looked at");
            false
        }
    }
}

/// A call that is given up after [`CALL`]: over a connection that nobody answers on it would never end.
async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let silent = |_| kube::Error::Service("the API server did not answer in time".into());
    tokio::time::timeout(CALL, call)
        .await
        .map_err(silent)
        .flatten()
}

/// A profile as the cluster has it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// What this program makes of it, or everything that is wrong with it, one a line.
    pub compiled: Result<Entry, String>,
    /// The revision that serves, as the webhook wrote it.
    pub serving: Option<String>,
    /// The webhook's verdict on this version of it: whether it serves, and a sentence. None without one.
    pub verdict: Option<(bool, String)>,
}

/// The profiles of the cluster, by name. `defaults` are the administrator's.
///
/// # Errors
/// An API server that does not answer, that does not let us, or that has no such resource (404).
pub async fn list(client: &Client, defaults: Defaults) -> Result<Vec<Stored>, kube::Error> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource());
    let list = api.list(&ListParams::default()).await?;
    Ok(list
        .items
        .iter()
        .map(|object| stored(object, &defaults))
        .collect())
}

/// Judges a version of an object and says so in its status. Whether what is shelved has changed.
fn take(shelf: &mut Shelf, object: &DynamicObject, api: &Api<DynamicObject>, first: bool) -> bool {
    let name = object.name_any();
    let judged = tracing::debug_span!(target: "cluster", "compile_profile", profile = name)
        .in_scope(|| shelf.judge(object));
    match &judged.refused {
        _ if judged.again => {}
        None if judged.changed => {
            tracing::info!(target: "cluster", profile = name, revision = judged.revision, "a profile serves");
        }
        None => {}
        Some(problems) => {
            tracing::warn!(target: "cluster", profile = name, serving = judged.revision, problems, "a profile is refused");
        }
    }
    if let Some(status) = judged.status(object, first, Timestamp::now()) {
        tokio::spawn(write_status(api.clone(), name, status));
    }
    judged.changed
}

/// Writes the status, and tries again when the API server is away or the right is missing. Another replica writes
/// the same.
async fn write_status(api: Api<DynamicObject>, name: String, status: Json) {
    let document = json!({
        "apiVersion": format!("{}/{}", crd::GROUP, crd::VERSION),
        "kind": KIND,
        "metadata": {"name": name},
        "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    for attempt in 1..=ATTEMPTS {
        let document = Patch::Apply(&document);
        match bounded(api.patch_status(&name, &parameters, &document)).await {
            Ok(_) => return,
            // Deleted in the meantime.
            Err(error) if is_status(&error, 404) => return,
            Err(error) => {
                tracing::warn!(target: "cluster", profile = name, attempt, %error, "the status of a profile could not be written");
                tokio::time::sleep(Duration::from_secs(1 << attempt)).await;
            }
        }
    }
}

/// The profiles of the cluster, and those that serve.
#[derive(Debug, Default)]
struct Shelf {
    defaults: Defaults,
    /// What there is without the cluster.
    ours: Catalogue,
    /// The same with what serves of the cluster.
    catalogue: Catalogue,
    /// By name.
    objects: BTreeMap<String, Object>,
}

/// What is known of an object.
#[derive(Debug)]
struct Object {
    /// The version that was judged last.
    version: Option<Version>,
    /// Everything that is wrong with that version, if it is refused.
    refused: Option<String>,
    /// The last good version.
    serving: Option<Arc<Profile>>,
}

/// What tells one version of an object from another: its unique id and its generation, which the API server counts up
/// with each change of what somebody wrote, and not with those of the status.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version(String, i64);

impl Version {
    fn of(object: &DynamicObject) -> Option<Self> {
        let metadata = &object.metadata;
        Some(Self(metadata.uid.clone()?, metadata.generation?))
    }
}

/// What became of a version of an object.
#[derive(Debug, PartialEq, Eq)]
struct Judged {
    /// Everything that is wrong with it, if it was refused.
    refused: Option<String>,
    /// The revision that serves under its name; it may be that of an older version.
    revision: Option<String>,
    /// How many parameters that one has.
    parameters: Option<usize>,
    /// Whether another revision serves than before, or it is refused and was not, or the other way round.
    changed: bool,
    /// Whether this version was judged before.
    again: bool,
}

impl Shelf {
    fn new(ours: Catalogue, defaults: Defaults) -> Self {
        Self {
            defaults,
            catalogue: ours.clone(),
            ours,
            objects: BTreeMap::new(),
        }
    }

    fn shelved(&self) -> Shelved {
        let refused = |object: &&Object| object.refused.is_some();
        Shelved {
            catalogue: self.catalogue.clone(),
            refused: self.objects.values().filter(refused).count(),
        }
    }

    /// How many objects have a version that serves.
    fn serving(&self) -> usize {
        let serving = |object: &&Object| object.serving.is_some();
        self.objects.values().filter(serving).count()
    }

    /// Forgets those that are not listed any more.
    fn keep(&mut self, listed: &BTreeSet<String>) {
        let gone: Vec<String> = self
            .objects
            .keys()
            .filter(|name| !listed.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.forget(&name);
        }
    }

    /// Forgets one that is gone.
    fn forget(&mut self, name: &str) {
        self.objects.remove(name);
        match self.ours.get(name) {
            Some(entry) => self.catalogue.insert(entry.clone()),
            None => self.catalogue.remove(name),
        }
    }

    /// Compiles a version that was not judged yet.
    fn judge(&mut self, object: &DynamicObject) -> Judged {
        let name = object.name_any();
        let version = Version::of(object);
        let before = self.objects.remove(&name);
        let (serving, was_refused, again) = match before {
            Some(before) if version.is_some() && before.version == version => {
                (before.serving, before.refused, true)
            }
            Some(before) => (before.serving, before.refused, false),
            None => (None, None, false),
        };
        let mut known = Object {
            version,
            refused: None,
            serving,
        };
        let mut changed = false;
        if again {
            known.refused = was_refused;
        } else {
            let revision = known.serving.as_ref().map(|profile| &profile.revision);
            match compile(object, &self.defaults) {
                // The one that serves is kept, and with it what is remembered of its renderings.
                Ok(entry) if Some(&entry.profile.revision) == revision => {}
                Ok(entry) => {
                    known.serving = Some(Arc::clone(&entry.profile));
                    self.catalogue.insert(entry);
                    changed = true;
                }
                Err(problems) => known.refused = Some(problems),
            }
            changed |= known.refused.is_some() != was_refused.is_some();
        }
        let judged = Judged {
            refused: known.refused.clone(),
            revision: known.serving.as_ref().map(|it| it.revision.clone()),
            parameters: known.serving.as_ref().map(|it| it.parameters.len()),
            changed,
            again,
        };
        self.objects.insert(name, known);
        judged
    }
}

fn stored(object: &DynamicObject, defaults: &Defaults) -> Stored {
    let status = &object.data["status"];
    let of_this_version = status["observedGeneration"].as_i64() == object.metadata.generation;
    let conditions = status["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| of_this_version && condition["type"] == "Ready");
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    Stored {
        name: object.name_any(),
        compiled: compile(object, defaults),
        serving: status["revision"].as_str().map(str::to_owned),
        verdict: ready.map(|ready| (ready["status"] == "True", text(&ready["message"]))),
    }
}

/// The problems, one a line, if it is refused. `defaults` are the administrator's.
fn compile(object: &DynamicObject, defaults: &Defaults) -> Result<Entry, String> {
    let tree = as_written(object);
    let text = manifest::to_yaml(&tree).map_err(|error| error.to_string())?;
    let profile = Profile::from_object(CLUSTER, &text, &tree).map_err(|error| {
        let problems: Vec<_> = error.problems.iter().map(ToString::to_string).collect();
        problems.join("\n")
    })?;
    let mut entry = Entry::new(Arc::new(profile));
    let none = IndexMap::new();
    let defaults = defaults.profile_defaults.get(&entry.profile.name);
    let problems = entry.set_defaults(defaults.unwrap_or(&none));
    if problems.is_empty() {
        Ok(entry)
    } else {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Err(format!(
            "the administrator's defaults do not fit:\n{}",
            problems.join("\n")
        ))
    }
}

/// The object as somebody wrote it: without what the cluster adds.
fn as_written(object: &DynamicObject) -> Json {
    let mut metadata = json!({"name": object.name_any()});
    if let Some(labels) = object
        .metadata
        .labels
        .as_ref()
        .filter(|labels| !labels.is_empty())
    {
        metadata["labels"] = json!(labels);
    }
    let mut tree = json!({
        "apiVersion": format!("{}/{}", crd::GROUP, crd::VERSION),
        "kind": KIND,
        "metadata": metadata,
    });
    if let (Some(tree), Some(data)) = (tree.as_object_mut(), object.data.as_object()) {
        for (key, value) in data.iter().filter(|(key, _)| *key != "status") {
            tree.insert(key.clone(), value.clone());
        }
    }
    tree
}

impl Judged {
    /// The status to write, if the object does not have it. Replicas of two versions may judge differently: so that
    /// they do not write over each other for ever, a verdict on a generation that has one already is written only
    /// when the object is seen for the first time.
    fn status(&self, object: &DynamicObject, first: bool, now: Timestamp) -> Option<Json> {
        let old = &object.data["status"];
        let generation = object.metadata.generation.unwrap_or_default();
        let seen = old["observedGeneration"].as_i64().unwrap_or(-1);
        if seen > generation || (seen == generation && !first) {
            return None;
        }
        let (ready, reason, message) = match (&self.refused, &self.revision) {
            (None, _) => ("True", "Serving", "this version serves".to_owned()),
            (Some(problems), Some(revision)) => (
                "False",
                "Refused",
                format!("{problems}\nrevision {revision} of before still serves"),
            ),
            (Some(problems), None) => ("False", "Refused", problems.clone()),
        };
        let mut message = message;
        if message.len() > MAX_MESSAGE {
            let end = message.floor_char_boundary(MAX_MESSAGE - 4);
            message.truncate(end);
            message.push('…');
        }
        let condition = old["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Ready")
            .unwrap_or(&Json::Null);
        let same = condition["status"] == ready
            && condition["reason"] == reason
            && condition["message"] == message
            && old["revision"].as_str() == self.revision.as_deref()
            && old["parameters"].as_u64() == self.parameters.map(|count| count as u64);
        if same && seen == generation {
            return None;
        }
        let since = match condition["lastTransitionTime"].as_str() {
            Some(since) if condition["status"] == ready => since.to_owned(),
            _ => now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        };
        let mut status = json!({
            "observedGeneration": generation,
            "conditions": [{
                "type": "Ready", "status": ready, "reason": reason, "message": message,
                "observedGeneration": generation, "lastTransitionTime": since,
            }],
        });
        if let (Some(revision), Some(parameters)) = (&self.revision, self.parameters) {
            status["revision"] = json!(revision);
            status["parameters"] = json!(parameters);
        }
        Some(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, generation: i64, spec: Json) -> DynamicObject {
        let mut object = DynamicObject::new(name, &resource()).data(json!({"spec": spec}));
        object.metadata.generation = Some(generation);
        object
    }

    fn good(summary: &str) -> Json {
        json!({"summary": summary, "parameters": {"port": {"type": "integer", "description": "A port."}}})
    }

    /// The profiles of the cluster that serve.
    fn serving(shelf: &Shelf) -> Vec<Arc<Profile>> {
        let entries = shelf.shelved().catalogue;
        entries.iter().map(|it| Arc::clone(&it.profile)).collect()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    /// A connection that stalled: behind a firewall that drops packets, or to a machine that is gone. The deletion of
    /// a profile must not end the watch, and the writing of a status must not go on for ever.
    #[tokio::test(start_paused = true)]
    async fn a_silent_api_server_is_given_up() {
        let silent = tower::service_fn(|_: hyper::Request<kube::client::Body>| {
            std::future::pending::<Result<hyper::Response<kube::client::Body>, std::io::Error>>()
        });
        let client = Client::new(silent, "default");
        let hour = Duration::from_secs(3600);
        let going = tokio::time::timeout(hour, definition_is_going(&client)).await;
        assert_eq!(going, Ok(false));
        let api: Api<DynamicObject> = Api::all_with(client, &resource());
        let written = write_status(api, "greeter".to_owned(), json!({}));
        assert_eq!(tokio::time::timeout(hour, written).await, Ok(()));
    }

    #[test]
    fn a_good_version_serves_and_a_bad_one_leaves_it_serving() {
        let mut shelf = Shelf::default();
        let first = object("greeter", 1, good("Says hello."));
        let judged = shelf.judge(&first);
        assert!(judged.changed && judged.refused.is_none(), "{judged:?}");
        let revision = judged.revision.clone().unwrap();
        let status = judged.status(&first, false, now()).unwrap();
        assert_eq!(status["conditions"][0]["status"], "True");
        assert_eq!(status["revision"], revision.as_str());
        assert_eq!(status["parameters"], 1);

        let second = object(
            "greeter",
            2,
            json!({"summary": "Says hello.", "colour": "red"}),
        );
        let judged = shelf.judge(&second);
        assert_eq!(judged.revision.as_deref(), Some(revision.as_str()));
        let status = judged.status(&second, false, now()).unwrap();
        let condition = &status["conditions"][0];
        assert_eq!(condition["reason"], "Refused");
        let message = condition["message"].as_str().unwrap();
        assert!(message.contains("spec.colour: unknown field"), "{message}");
        assert!(
            message.ends_with(&format!("revision {revision} of before still serves")),
            "{message}"
        );
        assert_eq!(serving(&shelf).len(), 1);
    }

    #[test]
    fn what_the_cluster_adds_has_no_part_in_a_profile() {
        let mut shelf = Shelf::default();
        let mut stored = object("greeter", 1, good("Says hello."));
        stored.metadata.uid = Some("1".to_owned());
        stored.metadata.managed_fields = Some(Vec::new());
        stored.data["status"] = json!({"observedGeneration": 1});
        let judged = shelf.judge(&stored);
        let file = Profile::parse(
            "file",
            "{apiVersion: outrigger.dev/v1alpha1, kind: SidecarProfile, metadata: {name: greeter}, spec: {summary: Says hello., parameters: {port: {type: integer, description: A port.}}}}",
        );
        // The same revision as that of a file that says the same.
        assert_eq!(judged.revision, Some(file.unwrap().revision));
        assert!(!serving(&shelf)[0].text.contains("uid"));
    }

    #[test]
    fn defaults_that_do_not_fit_refuse_the_version() {
        let text = "profileDefaults: {greeter: {prot: 80}}";
        let mut shelf = Shelf::new(
            Catalogue::default(),
            Defaults::parse("defaults", text).unwrap(),
        );
        let judged = shelf.judge(&object("greeter", 1, good("Says hello.")));
        let problems = judged.refused.unwrap();
        assert!(
            problems.contains("profileDefaults.greeter.prot"),
            "{problems}"
        );
        assert!(problems.contains("did you mean \"port\"?"), "{problems}");
        assert!(serving(&shelf).is_empty());
    }

    #[test]
    fn a_status_is_written_once_for_a_generation() {
        let mut shelf = Shelf::default();
        let mut stored = object("greeter", 3, good("Says hello."));
        let judged = shelf.judge(&stored);
        let status = judged.status(&stored, false, now()).unwrap();
        stored.data["status"] = status;
        // Our own write comes back as an event.
        assert_eq!(judged.status(&stored, false, now()), None);
        assert_eq!(judged.status(&stored, true, now()), None);
        // Another replica, of another version, thought otherwise: it is put right at our start, and then left.
        stored.data["status"]["conditions"][0]["status"] = json!("False");
        assert_eq!(judged.status(&stored, false, now()), None);
        assert!(judged.status(&stored, true, now()).is_some());
    }

    #[test]
    fn the_time_of_a_condition_is_that_of_its_change() {
        let mut shelf = Shelf::default();
        let mut stored = object("greeter", 1, good("Says hello."));
        let status = shelf.judge(&stored).status(&stored, false, now()).unwrap();
        stored.data["status"] = status.clone();
        stored.data["spec"] = good("Says good-bye.");
        stored.metadata.generation = Some(2);
        let later = Timestamp::from_second(1_800_000_000).unwrap();
        let next = shelf.judge(&stored).status(&stored, false, later).unwrap();
        let time = |status: &Json| status["conditions"][0]["lastTransitionTime"].clone();
        assert_eq!(time(&next), time(&status));
        assert_eq!(next["observedGeneration"], 2);
        assert_ne!(next["revision"], status["revision"]);
    }

    /// After a lost watch every object is listed again, and each status that we write comes back as an event.
    #[test]
    fn a_version_is_compiled_once() {
        let mut shelf = Shelf::default();
        let with_uid = |mut object: DynamicObject| {
            object.metadata.uid = Some("1".to_owned());
            object
        };
        let first = with_uid(object("greeter", 1, good("Says hello.")));
        assert!(shelf.judge(&first).changed);
        let id = |shelf: &Shelf| shelf.shelved().catalogue.get("greeter").unwrap().id();
        let served = id(&shelf);
        let judged = shelf.judge(&first);
        assert!(judged.again && !judged.changed, "{judged:?}");
        assert_eq!(judged.revision, Some(serving(&shelf)[0].revision.clone()));

        let bad = with_uid(object("greeter", 2, json!({"summary": ""})));
        let refused = shelf.judge(&bad);
        assert!(refused.changed && !refused.again, "{refused:?}");
        assert_eq!(shelf.shelved().refused, 1);
        let judged = shelf.judge(&bad);
        assert!(judged.again && !judged.changed, "{judged:?}");
        assert_eq!(judged.refused, refused.refused);

        // Taken back: the revision that served all the time still does, with all that is remembered of it.
        let third = with_uid(object("greeter", 3, good("Says hello.")));
        let judged = shelf.judge(&third);
        assert!(judged.changed && judged.refused.is_none(), "{judged:?}");
        assert_eq!(shelf.shelved().refused, 0);
        assert_eq!(id(&shelf), served);

        // Another object of the name, which begins at generation 1 again.
        let mut other = object("greeter", 3, good("Says good-bye."));
        other.metadata.uid = Some("2".to_owned());
        assert!(shelf.judge(&other).changed);
        assert_ne!(id(&shelf), served);
    }

    #[test]
    fn a_profile_of_the_cluster_stands_before_ours_of_its_name() {
        let file = "{apiVersion: outrigger.dev/v1alpha1, kind: SidecarProfile, metadata: {name: greeter}, spec: {summary: Ours.}}";
        let ours = Catalogue::new([Arc::new(Profile::parse("file", file).unwrap())]);
        let mut shelf = Shelf::new(ours, Defaults::default());
        shelf.judge(&object("greeter", 1, good("Theirs.")));
        shelf.judge(&object("other", 1, good("Theirs, too.")));
        let summaries = |shelf: &Shelf| -> Vec<_> {
            let all = serving(shelf);
            all.iter().map(|it| it.summary.clone()).collect()
        };
        assert_eq!(summaries(&shelf), ["Theirs.", "Theirs, too."]);
        shelf.forget("greeter");
        shelf.forget("other");
        assert_eq!(summaries(&shelf), ["Ours."]);
    }

    #[test]
    fn those_that_are_gone_after_a_lost_watch_are_forgotten() {
        let mut shelf = Shelf::default();
        shelf.judge(&object("one", 1, good("One.")));
        shelf.judge(&object("two", 1, good("Two.")));
        shelf.keep(&BTreeSet::from(["two".to_owned()]));
        let names: Vec<_> = serving(&shelf).iter().map(|it| it.name.clone()).collect();
        assert_eq!(names, ["two"]);
    }
}
