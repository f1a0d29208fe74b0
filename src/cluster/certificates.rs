//! Managed certificates: an authority and a leaf of its own, in one Secret that all replicas share.
//!
//! Every replica runs the same loop and none leads. What is to be done next follows from the Secret, the clock and
//! the registrations alone ([`state`]), so any replica can die between any two steps and another goes on. Writes to
//! the Secret are compared and swapped by its resource version: of replicas that do the same at once one wins, and
//! the others read what it wrote.
//!
//! What keeps requests from failing:
//!
//! - *A leaf is served only when the published bundles verify it*, or when they do not verify the one that is
//!   served either ([`state::choose`]). Each replica sees to that by itself.
//! - *A new authority signs nothing before its certificate has been in every registration for a while*
//!   ([`state::Rules::settle`]), counted without a break by the replica that then lets it sign.
//! - *An old authority leaves the bundle when the last leaf that it signed has ended.* Replicas watch the Secret and
//!   change within a second; but one that is cut off from the API server may serve its leaf to the end, so that end
//!   is the bound. Its key is gone as soon as the new one signs.
//! - *The Secret is read anew before a registration is written*, so that a replica whose watch is late does not put
//!   an old bundle back.
//!
//! While the API server is away what is served goes on being served. Nothing here is ever fatal: what cannot be done
//! is told in the log, counted, shown by `/readyz`, and tried again.

pub mod authority;
pub mod registration;
pub mod state;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, SystemTime};

use futures_util::stream::{Stream, StreamExt, select_all};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;
use tracing::Instrument;

use super::registration::Kind;
use crate::certificate::Offer;
use authority::{Certificate, Keyed};
use registration::{Change, Id, Registration};
use state::{Contents, Rules, Step, View};

/// The label by which a Secret is known to be ours to overwrite, and its value.
const OURS: (&str, &str) = ("app.kubernetes.io/managed-by", "outrigger");

/// The bound on one call.
const CALL: Duration = Duration::from_secs(10);

/// How often everything is looked at though nothing changed: clocks are set, and machines sleep.
const LOOK: Duration = Duration::from_secs(60);

/// Pauses after a failure, doubled each time.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The shortest time between two writes of one kind, for when somebody else keeps writing the opposite.
const BREATH: Duration = Duration::from_secs(1);

/// How the certificates are managed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the Secret and the Service are.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// The names of configurations, mutating or validating, whose webhooks get the bundle.
    pub configurations: Vec<String>,
    /// What the certificates have to be.
    pub rules: Rules,
    /// What is added to the machine's clock, in seconds. Not 0 only to see what a wrong clock does.
    pub clock_offset: i64,
}

impl Settings {
    /// The clock that certificates are made and judged by, in seconds since 1970.
    fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        let machine = i64::try_from(seconds).unwrap_or(i64::MAX);
        machine.saturating_add(self.clock_offset)
    }
}

/// The names by which the API server, and others in the cluster, know a Service.
#[must_use]
pub fn names(service: &str, namespace: &str) -> Vec<String> {
    vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
    ]
}

/// Something that happened, for metrics and events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// To the Secret: [`Step::name`] of what was done, or `conflict`.
    Secret(&'static str),
    /// The Secret had to be written and could not be, for this reason.
    NotRenewed(String),
    /// The certificate has ended. Told as long as it is so.
    Expired {
        /// When, in seconds since 1970.
        not_after: i64,
    },
    /// To a registration's bundle: `written` or `failed`.
    Bundle(&'static str),
}

/// What is known of the Secret.
#[derive(Debug)]
enum Known {
    /// Nothing yet.
    Nothing,
    /// That there is none.
    Missing,
    /// What it was when last seen.
    Present {
        uid: String,
        resource_version: String,
        version: u64,
        contents: Box<Contents>,
        ours: bool,
    },
}

impl Known {
    fn contents(&self) -> Option<&Contents> {
        match self {
            Self::Present { contents, .. } => Some(contents),
            Self::Nothing | Self::Missing => None,
        }
    }
}

/// Why something has to be tried again.
enum Setback {
    /// Somebody was faster.
    Conflict,
    /// Anything else.
    Failed(String),
}

impl From<kube::Error> for Setback {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.is_conflict() || status.is_already_exists() => {
                Self::Conflict
            }
            _ => Self::Failed(super::said(&error)),
        }
    }
}

/// Manages the certificates until it is dropped. Hands over what to serve, and whether that is good, whenever it
/// changes; tells what it did.
pub async fn manage(
    client: Client,
    settings: Settings,
    publish: impl Fn(Offer),
    tell: impl Fn(Happened),
) {
    enum Seen {
        Secret(Box<Option<Secret>>),
        Registration(Change),
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &settings.namespace);
    let mut changes = vec![
        one(secrets.clone(), &settings.secret, "Secret")
            .map(|secret| Seen::Secret(Box::new(secret)))
            .boxed(),
    ];
    for name in &settings.configurations {
        for watched in registration::watch(&client, name) {
            changes.push(watched.map(Seen::Registration).boxed());
        }
    }
    let mut changes = select_all(changes);
    let mut manager = Manager {
        client,
        secrets,
        settings,
        publish,
        tell,
        known: Known::Nothing,
        held: None,
        served: None,
        registrations: BTreeMap::new(),
        published: None,
        offered: None,
        writes: Pace::default(),
        repairs: BTreeMap::new(),
    };
    loop {
        let wake = manager.act().await;
        tokio::select! {
            Some(seen) = changes.next() => match seen {
                Seen::Secret(secret) => manager.see_secret(*secret),
                Seen::Registration((id, seen)) => manager.see_registration(id, seen),
            },
            () = tokio::time::sleep_until(wake) => {}
        }
    }
}

/// The one object of this name, each time it changes, beginning with what is there; `None` while there is none.
/// A watch that is lost is taken up again, with growing pauses.
fn one<K>(
    api: Api<K>,
    name: &str,
    kind: &'static str,
) -> impl Stream<Item = Option<K>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // By name, because the right to read is by name too.
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let name = name.to_owned();
    let mut listed = None;
    watcher::watcher(api, config)
        .default_backoff()
        .filter_map(move |event| {
            let change = match event {
                Ok(Event::Init) => {
                    listed = None;
                    None
                }
                Ok(Event::InitApply(object)) => {
                    listed = Some(object);
                    None
                }
                Ok(Event::InitDone) => Some(listed.take()),
                Ok(Event::Apply(object)) => Some(Some(object)),
                Ok(Event::Delete(_)) => Some(None),
                Err(error) => {
                    tracing::warn!(target: "certificates", %error, kind, name, "a watch is interrupted");
                    None
                }
            };
            std::future::ready(change)
        })
}

/// When something may be tried again.
#[derive(Debug, Default)]
struct Pace {
    not_before: Option<Instant>,
    pause: Option<Duration>,
}

impl Pace {
    fn waits(&self) -> Option<Instant> {
        self.not_before.filter(|at| Instant::now() < *at)
    }

    fn succeeded(&mut self) {
        self.pause = None;
        self.not_before = Some(Instant::now() + BREATH);
    }

    fn failed(&mut self) {
        let pause = self.pause.map_or(PAUSE.0, |last| PAUSE.1.min(last * 2));
        self.pause = Some(pause);
        self.not_before = Some(Instant::now() + pause);
    }
}

struct Manager<P, T> {
    client: Client,
    secrets: Api<Secret>,
    settings: Settings,
    publish: P,
    tell: T,
    known: Known,
    held: Option<Contents>,
    served: Option<Keyed>,
    /// `None` for one that is known not to exist; absent while that is not known.
    registrations: BTreeMap<Id, Option<Registration>>,
    /// The bundle that every registration has, and since when.
    published: Option<(String, Instant)>,
    offered: Option<Offer>,
    writes: Pace,
    /// Of each registration, since who writes the opposite does so to one.
    repairs: BTreeMap<Id, Pace>,
}

impl<P: Fn(Offer), T: Fn(Happened)> Manager<P, T> {
    /// Does whatever is to be done now; when to look again if nothing changes until then.
    async fn act(&mut self) -> Instant {
        let mut wake = Instant::now() + LOOK;
        if let Some(at) = self.note_expired() {
            wake = wake.min(at);
        }
        if let Some(at) = self.keep_secret().await {
            wake = wake.min(at);
        }
        // Before the registrations: nothing that is served now gets worse by them.
        self.serve();
        if let Some(at) = self.keep_registrations().await {
            wake = wake.min(at);
        }
        self.serve();
        wake
    }

    /// Tells if the certificate that is served has ended, or, before there is one, that of the Secret; when it will
    /// end, if it has not.
    fn note_expired(&self) -> Option<Instant> {
        let kept = self.known.contents().filter(|_| self.foreign().is_none());
        let of_secret = || kept.and_then(|contents| contents.leaf.as_ref());
        let leaf = self.served.as_ref().or_else(of_secret)?;
        let not_after = leaf.certificate.not_after;
        match u64::try_from(not_after - self.settings.now()) {
            Ok(left) if left > 0 => Some(Instant::now() + Duration::from_secs(left).min(LOOK)),
            _ => {
                (self.tell)(Happened::Expired { not_after });
                None
            }
        }
    }

    fn see_secret(&mut self, seen: Option<Secret>) {
        let Some(secret) = seen else {
            self.known = Known::Missing;
            return;
        };
        let uid = secret.uid().unwrap_or_default();
        let version = registration::version(&secret);
        if let Known::Present {
            uid: known,
            version: last,
            ..
        } = &self.known
            && *known == uid
            && version < *last
        {
            // The watch is behind an answer.
            return;
        }
        let ours = secret.labels().get(OURS.0).map(String::as_str) == Some(OURS.1);
        let contents = Contents::read(secret.data.as_ref().unwrap_or(&BTreeMap::new()));
        if contents.is_good(self.settings.now(), &self.settings.rules) {
            self.held = Some(contents.clone());
        }
        self.known = Known::Present {
            uid,
            version,
            resource_version: secret.resource_version().unwrap_or_default(),
            ours,
            contents: Box::new(contents),
        };
    }

    fn see_registration(&mut self, id: Id, seen: Option<Registration>) {
        if let (Some(new), Some(Some(old))) = (&seen, self.registrations.get(&id))
            && !new.replaces(old)
        {
            return;
        }
        self.registrations.insert(id, seen);
        self.note_published();
    }

    /// Keeps count of how long the same bundle has been everywhere.
    fn note_published(&mut self) {
        let bundle = self.known.contents().map(Contents::bundle_pem);
        let everywhere = bundle.filter(|bundle| {
            self.unregistered().is_none()
                && self
                    .registrations
                    .values()
                    .flatten()
                    .all(|it| it.has(bundle))
        });
        match (everywhere, &self.published) {
            (Some(bundle), Some((last, _))) if bundle == *last => {}
            (Some(bundle), _) => self.published = Some((bundle, Instant::now())),
            (None, _) => self.published = None,
        }
    }

    /// What keeps the registrations from being known completely.
    fn unregistered(&self) -> Option<String> {
        for name in &self.settings.configurations {
            let of_name = Kind::ALL.map(|kind| self.registrations.get(&(kind, name.clone())));
            if of_name.iter().any(Option::is_none) {
                return Some(format!(
                    "the webhook configuration {name} has not been read yet"
                ));
            }
            if !of_name.iter().flatten().any(|it| it.is_some()) {
                return Some(format!("there is no webhook configuration {name}"));
            }
        }
        None
    }

    fn view(&self) -> Option<View<'_>> {
        let published_for = self
            .published
            .as_ref()
            .map(|(_, since)| i64::try_from(since.elapsed().as_secs()).unwrap_or(i64::MAX));
        (!matches!(self.known, Known::Nothing)).then(|| View {
            now: self.settings.now(),
            secret: self.known.contents(),
            held: self.held.as_ref(),
            published_for,
        })
    }

    /// Takes the steps that the Secret needs; when to look again.
    async fn keep_secret(&mut self) -> Option<Instant> {
        loop {
            self.note_published();
            let view = self.view()?;
            let now = view.now;
            let step = state::next(view, &self.settings.rules);
            if let Step::Rest { until } = step {
                let wait = u64::try_from(until - now).unwrap_or_default();
                return Some(Instant::now() + LOOK.min(Duration::from_secs(wait)));
            }
            if self.foreign().is_some() {
                return None;
            }
            if let Some(at) = self.writes.waits() {
                return Some(at);
            }
            let span = tracing::debug_span!(target: "certificates", "certificate_step", step = step.name());
            match self.take(step).instrument(span).await {
                Ok(()) => {
                    self.writes.succeeded();
                    (self.tell)(Happened::Secret(step.name()));
                    tracing::info!(target: "certificates", step = step.name(), secret = self.secret_name(), "the Secret is written");
                }
                Err(Setback::Conflict) => {
                    self.writes.failed();
                    (self.tell)(Happened::Secret("conflict"));
                    tracing::info!(target: "certificates", step = step.name(), "another replica was faster");
                    // Whatever it did decides what is left to do.
                    if let Err(error) = self.refresh_secret().await {
                        tracing::warn!(target: "certificates", error, secret = self.secret_name(), "the Secret cannot be read");
                        return self.writes.waits();
                    }
                }
                Err(Setback::Failed(error)) => {
                    self.writes.failed();
                    (self.tell)(Happened::NotRenewed(error.clone()));
                    tracing::warn!(target: "certificates", error, step = step.name(), secret = self.secret_name(), "the Secret cannot be written");
                    return self.writes.waits();
                }
            }
        }
    }

    /// Takes one step, if the world is still as it was seen.
    async fn take(&mut self, step: Step) -> Result<(), Setback> {
        if step == Step::Succeed {
            // The one step that a late watch could spoil: a registration may have lost the new authority.
            self.refresh_registrations().await?;
            self.note_published();
        }
        let rules = &self.settings.rules;
        let Some(view) = self.view() else {
            return Err(Setback::Conflict);
        };
        if state::next(view, rules) != step {
            return Err(Setback::Conflict);
        }
        let contents = state::perform(step, view, rules)
            .map_err(|error| Setback::Failed(error.to_string()))?;
        let data: BTreeMap<_, _> = contents
            .data()
            .into_iter()
            .map(|(key, text)| {
                let bytes = text.map(|text| k8s_openapi::ByteString(text.into_bytes()));
                (key, bytes)
            })
            .collect();
        let labels = json!({OURS.0: OURS.1});
        let written = match &self.known {
            Known::Nothing => return Err(Setback::Conflict),
            Known::Missing => {
                let data: BTreeMap<_, _> = data
                    .into_iter()
                    .filter_map(|(key, bytes)| Some((key, bytes?)))
                    .collect();
                let secret = serde_json::from_value(json!({
                    "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                    "metadata": {"name": self.settings.secret, "labels": labels},
                    "data": data,
                }))
                .map_err(|error| Setback::Failed(error.to_string()))?;
                within(self.secrets.create(&PostParams::default(), &secret)).await?
            }
            Known::Present {
                uid,
                resource_version,
                ..
            } => {
                // A merge touches nothing else that somebody keeps there; the version makes it a compare-and-swap.
                let patch = json!({
                    "metadata": {"uid": uid, "resourceVersion": resource_version, "labels": labels},
                    "data": data,
                });
                let (name, params) = (&self.settings.secret, PatchParams::default());
                within(self.secrets.patch(name, &params, &Patch::Merge(patch))).await?
            }
        };
        self.see_secret(Some(written));
        Ok(())
    }

    async fn refresh_secret(&mut self) -> Result<(), String> {
        match within(self.secrets.get_opt(&self.settings.secret)).await {
            Ok(secret) => {
                self.see_secret(secret);
                Ok(())
            }
            Err(Setback::Failed(error)) => Err(error),
            Err(Setback::Conflict) => Err("conflict".to_owned()),
        }
    }

    async fn refresh_registrations(&mut self) -> Result<(), Setback> {
        let ids: Vec<Id> = self.registrations.keys().cloned().collect();
        for id in ids {
            let seen = within(registration::get(&self.client, &id)).await?;
            self.see_registration(id, seen);
        }
        Ok(())
    }

    /// Puts the bundle right where it is not; when to look again.
    async fn keep_registrations(&mut self) -> Option<Instant> {
        let wrong = |manager: &Self| -> Vec<(Id, Registration)> {
            let Some(bundle) = manager.bundle() else {
                return Vec::new();
            };
            let seen = manager.registrations.iter();
            seen.filter_map(|(id, it)| Some((id.clone(), it.clone()?)))
                .filter(|(_, it)| !it.has(&bundle))
                .collect()
        };
        let (due, waiting) = self.due(wrong(self));
        if due.is_empty() {
            return waiting;
        }
        if let Err(error) = self.refresh_secret().await {
            tracing::warn!(target: "certificates", error, secret = self.secret_name(), "the Secret cannot be read, so no caBundle is written");
            for (id, _) in due {
                self.repairs.entry(id).or_default().failed();
            }
            return self.due(wrong(self)).1;
        }
        let bundle = self.bundle()?;
        for (id, seen) in self.due(wrong(self)).0 {
            let name = id.1.clone();
            let pace = self.repairs.entry(id.clone()).or_default();
            match within(registration::publish(&self.client, &id, &seen, &bundle)).await {
                Ok(now) => {
                    pace.succeeded();
                    tracing::info!(target: "certificates", configuration = name, kind = ?id.0, "the caBundle is written");
                    (self.tell)(Happened::Bundle("written"));
                    self.see_registration(id, Some(now));
                }
                // It is another one by now, of which the watch tells.
                Err(Setback::Conflict) => pace.failed(),
                Err(Setback::Failed(error)) => {
                    pace.failed();
                    (self.tell)(Happened::Bundle("failed"));
                    tracing::warn!(target: "certificates", error, configuration = name, kind = ?id.0, "the caBundle cannot be written");
                }
            }
        }
        // What was read may ask for another step, and what was published allow one.
        self.note_published();
        Some(Instant::now() + Duration::from_millis(50))
    }

    /// Of these, the registrations that may be written now, and when the first of the others may.
    fn due(&self, wrong: Vec<(Id, Registration)>) -> (Vec<(Id, Registration)>, Option<Instant>) {
        let waits = |id: &Id| self.repairs.get(id).and_then(Pace::waits);
        let waiting = wrong.iter().filter_map(|(id, _)| waits(id)).min();
        let due = wrong.into_iter().filter(|(id, _)| waits(id).is_none());
        (due.collect(), waiting)
    }

    /// What is to be published: the bundle of a Secret that can be used.
    fn bundle(&self) -> Option<String> {
        let contents = self.known.contents()?;
        let usable = self.foreign().is_none()
            && contents
                .good_leaf(self.settings.now(), &self.settings.rules)
                .is_some();
        usable.then(|| contents.bundle_pem())
    }

    /// Why the Secret must not be overwritten: it holds somebody else's certificate. One that this replica has
    /// seen good before is ours, whatever became of its label.
    fn foreign(&self) -> Option<String> {
        let Known::Present {
            ours: false,
            contents,
            ..
        } = &self.known
        else {
            return None;
        };
        let is_foreign = self.held.is_none() && contents.leaf.is_some();
        is_foreign.then(|| {
            format!(
                "--managed-certificate {}: the Secret holds a certificate that this webhook did not make; delete it, \
                 name another, or label it {}={} to have it replaced",
                self.secret_name(),
                OURS.0,
                OURS.1
            )
        })
    }

    /// Decides what is served and whether it is good, and hands it over if that changed.
    fn serve(&mut self) {
        let (now, rules) = (self.settings.now(), &self.settings.rules);
        let published: Vec<Vec<Certificate>> = self
            .registrations
            .values()
            .flatten()
            .flat_map(Registration::bundles)
            .collect();
        let secret = self.known.contents().filter(|_| self.foreign().is_none());
        let chosen = state::choose(self.served.as_ref(), secret, &published, rules, now).cloned();
        let obstacle = match &chosen {
            None => Some(self.foreign().unwrap_or_else(|| {
                let lack = match self.known {
                    Known::Nothing => "has not been read yet",
                    Known::Missing | Known::Present { .. } => "has no certificate yet",
                };
                format!("the Secret {} {lack}", self.secret_name())
            })),
            Some(leaf) => self.unregistered().or_else(|| {
                let accepted = state::is_accepted(&leaf.certificate, &published, rules, now);
                (!accepted).then(|| {
                    "the certificate does not chain to the caBundle of every webhook".to_owned()
                })
            }),
        };
        self.served = chosen;
        let offer = Offer {
            pair: self.served.as_ref().map(Keyed::pair),
            obstacle,
        };
        if self.offered.as_ref() != Some(&offer) {
            if self.offered.as_ref().map(|it| &it.obstacle) != Some(&offer.obstacle) {
                match &offer.obstacle {
                    None => {
                        tracing::info!(target: "certificates", "the certificate chains to the published bundle")
                    }
                    Some(reason) => tracing::warn!(target: "certificates", reason, "not ready"),
                }
            }
            (self.publish)(offer.clone());
            self.offered = Some(offer);
        }
    }

    fn secret_name(&self) -> String {
        format!("{}/{}", self.settings.namespace, self.settings.secret)
    }
}

/// A call, with a bound on its time.
async fn within<V>(call: impl Future<Output = kube::Result<V>>) -> Result<V, Setback> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Setback::Failed(format!(
            "the API server did not answer in {} s",
            CALL.as_secs()
        ))),
    }
}
