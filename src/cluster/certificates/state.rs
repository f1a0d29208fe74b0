//! What a Secret holds, and what is to be done about it. Pure: no clock, no network.
//!
//! ```text
//!              ┌───────────────────────── nothing usable, and none held ─────────────────────────┐
//!              ▼                                                                                 │
//!  Found ▶ [one authority] ── leaf due or bad: IssueLeaf ──▶ (the same)                          │
//!              │      ▲                                                                          │
//!   authority  │      └───────────── Retire ◀── the last leaf of the old authority has ended     │
//!   due, or    ▼                                        │                                        │
//!   its key  BeginSuccession                            │                        [Secret gone or unusable]
//!   lost       │                                        │                                        │
//!              ▼                                        │                                        │
//!   [authority and successor in the bundle]             │                   Restore, when a good state is held:
//!              │                                        │                   as it was; after a deletion with a
//!              │ everybody has had both for a while     │                   succession begun
//!              ▼                                        │
//!          Succeed ──▶ [authority and the old ones in the bundle, a leaf of the new one]
//! ```

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;

use super::authority::{Certificate, IssueError, Keyed, verify};

/// The leaf.
pub const LEAF: &str = "tls.crt";
/// Its key.
pub const LEAF_KEY: &str = "tls.key";
/// The bundle: every authority that is to be trusted now.
pub const BUNDLE: &str = "ca.crt";
/// The key of the authority that signs.
pub const AUTHORITY_KEY: &str = "ca.key";
/// The key of the authority that will sign next, while there is one.
pub const SUCCESSOR_KEY: &str = "next-ca.key";
/// When the last leaf of the authorities that signed before has ended (RFC 3339), while the bundle has such.
pub const RETIRE_AFTER: &str = "old-ca-until";

/// What the certificates have to be.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The DNS names that the leaf is for.
    pub names: Vec<String>,
    /// How long a leaf is valid, in seconds.
    pub leaf_life: i64,
    /// How long an authority is valid, in seconds.
    pub authority_life: i64,
    /// How long a bundle with a new authority must have been published before that authority signs, in seconds.
    pub settle: i64,
}

impl Rules {
    /// 90 days for a leaf and ten years for an authority, as is common; five minutes for every API server of a
    /// cluster to see a bundle that is stored, which takes them well under a second while they are healthy.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        const DAY: i64 = 86_400;
        Self {
            names,
            leaf_life: 90 * DAY,
            authority_life: 3650 * DAY,
            settle: 300,
        }
    }
}

/// What a Secret holds, as far as it can be used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contents {
    /// The authority that signs. `None` when its certificate or key is missing.
    pub signer: Option<Keyed>,
    /// The authority that will sign next.
    pub successor: Option<Keyed>,
    /// Authorities that only verify: leaves that they signed may still be served.
    pub retired: Vec<Certificate>,
    /// When the last of those leaves ends.
    pub retire_after: Option<i64>,
    /// The leaf, with its key.
    pub leaf: Option<Keyed>,
}

impl Contents {
    /// Reads a Secret's data. Never fails: what cannot be read is not there.
    #[must_use]
    pub fn read(data: &BTreeMap<String, ByteString>) -> Self {
        let bytes = |key: &str| data.get(key).map_or(&[][..], |value| value.0.as_slice());
        let mut bundle = Certificate::read_all(bytes(BUNDLE));
        bundle.retain(Certificate::is_authority);
        let signer = Keyed::find(&bundle, bytes(AUTHORITY_KEY));
        let successor = Keyed::find(&bundle, bytes(SUCCESSOR_KEY)).filter(|successor| {
            let same = signer.as_ref().map(|signer| &signer.certificate);
            same != Some(&successor.certificate)
        });
        let keyed = [signer.as_ref(), successor.as_ref()];
        let mut retired: Vec<Certificate> = Vec::new();
        for one in bundle {
            if !keyed.into_iter().flatten().any(|it| it.certificate == one)
                && !retired.contains(&one)
            {
                retired.push(one);
            }
        }
        let retire_after = std::str::from_utf8(bytes(RETIRE_AFTER))
            .ok()
            .and_then(|text| text.trim().parse::<Timestamp>().ok())
            .map(Timestamp::as_second);
        // The first certificate is the leaf; none of ours has a chain behind it.
        let leaf = Certificate::read_all(bytes(LEAF))
            .get(..1)
            .and_then(|leaf| Keyed::find(leaf, bytes(LEAF_KEY)));
        Self {
            signer,
            successor,
            retired,
            retire_after,
            leaf,
        }
    }

    /// What to write, by key; `None` is a key that must not be there.
    #[must_use]
    pub fn data(&self) -> BTreeMap<&'static str, Option<String>> {
        let key = |keyed: &Option<Keyed>| keyed.as_ref().map(|keyed| keyed.key().to_owned());
        let until = self
            .retire_after
            .filter(|_| !self.retired.is_empty())
            .and_then(|seconds| Timestamp::from_second(seconds).ok());
        let leaf = self.leaf.as_ref();
        BTreeMap::from([
            (LEAF, leaf.map(|leaf| leaf.certificate.pem().to_owned())),
            (LEAF_KEY, key(&self.leaf)),
            (BUNDLE, Some(self.bundle_pem())),
            (AUTHORITY_KEY, key(&self.signer)),
            (SUCCESSOR_KEY, key(&self.successor)),
            (RETIRE_AFTER, until.map(|until| until.to_string())),
        ])
    }

    /// Every authority that is to be trusted: the one that signs, the next, those before.
    #[must_use]
    pub fn bundle(&self) -> Vec<Certificate> {
        [self.signer.as_ref(), self.successor.as_ref()]
            .into_iter()
            .flatten()
            .map(|keyed| keyed.certificate.clone())
            .chain(self.retired.iter().cloned())
            .collect()
    }

    /// The same in PEM: what is published.
    #[must_use]
    pub fn bundle_pem(&self) -> String {
        self.bundle().iter().map(Certificate::pem).collect()
    }

    /// The leaf, if it can be served: valid, for all names, and of an authority in the bundle.
    #[must_use]
    pub fn good_leaf(&self, now: i64, rules: &Rules) -> Option<&Keyed> {
        let bundle = self.bundle();
        self.leaf.as_ref().filter(|leaf| {
            let good = |name: &String| verify(&leaf.certificate, &bundle, name, now).is_ok();
            rules.names.iter().all(good)
        })
    }

    /// Whether there is a good leaf and an authority that can sign the next.
    #[must_use]
    pub fn is_good(&self, now: i64, rules: &Rules) -> bool {
        is_valid(&self.signer, now) && self.good_leaf(now, rules).is_some()
    }
}

fn is_valid(keyed: &Option<Keyed>, now: i64) -> bool {
    keyed
        .as_ref()
        .is_some_and(|keyed| keyed.certificate.is_valid_at(now))
}

/// Everything that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The clock, in seconds since 1970.
    pub now: i64,
    /// The Secret; `None` when there is none.
    pub secret: Option<&'a Contents>,
    /// The last good state that this replica has seen.
    pub held: Option<&'a Contents>,
    /// For how many seconds this replica has seen the Secret's bundle in every registration, without a break.
    /// Measured by a clock that only counts, so that clocks which differ between nodes play no part.
    pub published_for: Option<i64>,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make everything: an authority and a leaf.
    Found,
    /// Write back what is held.
    Restore {
        /// And begin a succession: deleting the Secret is how to ask for new keys.
        renew: bool,
    },
    /// Put a new authority beside the present one in the bundle.
    BeginSuccession,
    /// Let the new authority sign.
    Succeed,
    /// Make a leaf of the present authority.
    IssueLeaf,
    /// Take the authorities that no valid leaf needs any more out of the bundle.
    Retire,
    /// Nothing before this time, in seconds since 1970, unless something changes.
    Rest {
        /// The time.
        until: i64,
    },
}

impl Step {
    /// A word for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Found => "founded",
            Self::Restore { .. } => "restored",
            Self::BeginSuccession => "succession_begun",
            Self::Succeed => "succeeded",
            Self::IssueLeaf => "leaf_issued",
            Self::Retire => "retired",
            Self::Rest { .. } => "none",
        }
    }
}

/// Decides.
#[must_use]
pub fn next(view: View<'_>, rules: &Rules) -> Step {
    let now = view.now;
    let holds = view.held.is_some_and(|held| held.is_good(now, rules));
    let Some(secret) = view.secret else {
        return if holds {
            Step::Restore { renew: true }
        } else {
            Step::Found
        };
    };
    let leaf = secret
        .good_leaf(now, rules)
        .map(|leaf| leaf.certificate.due());
    let has_successor = is_valid(&secret.successor, now);
    let published = view.published_for.unwrap_or_default();
    let settled = view.published_for.is_some() && published >= rules.settle;
    let settles = now.saturating_add((rules.settle - published).max(1));

    let Some(signer) = secret
        .signer
        .as_ref()
        .filter(|it| it.certificate.is_valid_at(now))
    else {
        // Nobody can sign.
        return match (holds, has_successor, leaf) {
            (true, _, _) => Step::Restore { renew: false },
            (_, true, None) => Step::Succeed,
            (_, true, Some(_)) if settled => Step::Succeed,
            (_, true, Some(_)) => Step::Rest { until: settles },
            // What is served is still good, so there is time to do it without a gap.
            (_, false, Some(_)) => Step::BeginSuccession,
            (_, false, None) => Step::Found,
        };
    };
    // A new authority comes with a new leaf.
    if has_successor && settled {
        return Step::Succeed;
    }
    let Some(leaf_due) = leaf.filter(|due| now < *due) else {
        return Step::IssueLeaf;
    };
    if has_successor {
        return Step::Rest {
            until: settles.min(leaf_due),
        };
    }
    let signer_due = signer.certificate.due();
    if secret.successor.is_some() || signer_due <= now {
        return Step::BeginSuccession;
    }
    let retire_after = secret.retire_after.filter(|_| !secret.retired.is_empty());
    match retire_after {
        Some(end) if end <= now => Step::Retire,
        end => Step::Rest {
            until: leaf_due.min(signer_due).min(end.unwrap_or(i64::MAX)),
        },
    }
}

/// What the Secret is to hold after a step. Not what it holds: another replica may be first.
///
/// # Errors
/// When a certificate cannot be made.
pub fn perform(step: Step, view: View<'_>, rules: &Rules) -> Result<Contents, IssueError> {
    let now = view.now;
    let mut contents = view.secret.cloned().unwrap_or_default();
    match step {
        Step::Rest { .. } => {}
        Step::Found => {
            let signer = Keyed::authority(now, rules.authority_life)?;
            contents = Contents {
                leaf: Some(signer.issue(&rules.names, now, rules.leaf_life)?),
                signer: Some(signer),
                ..Contents::default()
            };
        }
        Step::Restore { renew } => {
            contents = view.held.cloned().unwrap_or_default();
            if renew {
                contents.successor = Some(Keyed::authority(now, rules.authority_life)?);
            }
        }
        Step::BeginSuccession => {
            contents.successor = Some(Keyed::authority(now, rules.authority_life)?);
        }
        Step::Succeed => {
            let old = std::mem::replace(&mut contents.signer, contents.successor.take());
            if let Some(old) = old {
                contents.retired.insert(0, old.certificate);
            }
            issue(&mut contents, now, rules)?;
        }
        Step::IssueLeaf => issue(&mut contents, now, rules)?,
        Step::Retire => contents.retired.clear(),
    }
    // An authority that has ended verifies nothing.
    contents.retired.retain(|one| one.is_valid_at(now));
    if contents.retired.is_empty() {
        contents.retire_after = None;
    }
    Ok(contents)
}

/// Replaces the leaf. As long as the old one is valid some replica may serve it, be it cut off from the API server,
/// so the old authorities stay for so long.
fn issue(contents: &mut Contents, now: i64, rules: &Rules) -> Result<(), IssueError> {
    let Some(signer) = &contents.signer else {
        return Ok(());
    };
    let new = signer.issue(&rules.names, now, rules.leaf_life)?;
    let old = contents.leaf.replace(new);
    let of_retired = old.filter(|old| {
        let name = rules.names.first().map_or("", String::as_str);
        verify(&old.certificate, &contents.retired, name, now).is_ok()
    });
    contents.retire_after = match of_retired {
        Some(old) => Some(old.certificate.not_after).max(contents.retire_after),
        // Authorities that nobody knows the last leaf of: a whole life is enough for any.
        None => contents.retire_after.or(Some(now + rules.leaf_life)),
    };
    Ok(())
}

/// Whether every client that verifies with one of the published bundles accepts this leaf. Nobody does while nothing
/// is published.
#[must_use]
pub fn is_accepted(
    leaf: &Certificate,
    published: &[Vec<Certificate>],
    rules: &Rules,
    now: i64,
) -> bool {
    let name = rules.names.first().map_or("", String::as_str);
    !published.is_empty()
        && published
            .iter()
            .all(|bundle| verify(leaf, bundle, name, now).is_ok())
}

/// Which leaf to serve: that of the Secret, unless the published bundles do not verify it and do verify the one that
/// is served. So no replica ever moves to a leaf that fails where the old one does not.
#[must_use]
pub fn choose<'a>(
    served: Option<&'a Keyed>,
    secret: Option<&'a Contents>,
    published: &[Vec<Certificate>],
    rules: &Rules,
    now: i64,
) -> Option<&'a Keyed> {
    let Some(offered) = secret.and_then(|secret| secret.good_leaf(now, rules)) else {
        return served;
    };
    let accepted = |leaf: &Keyed| is_accepted(&leaf.certificate, published, rules, now);
    match served {
        Some(served) if accepted(served) && !accepted(offered) => Some(served),
        _ => Some(offered),
    }
}

#[cfg(test)]
mod tests;
