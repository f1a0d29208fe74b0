//! Whether the API server can verify the certificate that is served to it.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::hooks::Registered;
use super::{Finding, Verdict, unseen};
use crate::cluster::certificates::authority::{self, Certificate};
use crate::cluster::is_status;
use crate::cluster::registration::Hook;

const BUNDLE: &str = "ca-bundle";
const SERVED: &str = "certificate";
/// How long before its end a certificate is worth a warning, in seconds: a renewal should have come by then.
const SOON: i64 = 14 * 24 * 3600;
/// The flag that names the Secret of a certificate that the webhook makes itself.
const MANAGED: &str = "--managed-certificate";
/// What the chart calls the volume of the certificate.
const VOLUME: &str = "tls";

/// The bundles of all webhooks.
pub(super) fn of(hooks: &[Hook]) -> Finding {
    if hooks.is_empty() {
        return Finding::warn(BUNDLE, "there is none to look at", "see registration");
    }
    let now = Timestamp::now().as_second();
    let mut worst = Verdict::Ok;
    let mut problems = Vec::new();
    let mut good = Vec::new();
    for hook in hooks {
        let bundle = hook
            .client
            .ca_bundle
            .as_ref()
            .map(|bundle| bundle.0.as_slice());
        let (verdict, message) = match bundle.filter(|bundle| !bundle.is_empty()) {
            Some(bundle) => judge(bundle, now),
            None if hook.client.url.is_some() => (
                Verdict::Warn,
                "none, so the API server trusts the public authorities alone".to_owned(),
            ),
            None => (Verdict::Fail, "none, so every call fails".to_owned()),
        };
        if verdict == Verdict::Ok {
            good.push(message);
        } else {
            if verdict == Verdict::Fail || worst == Verdict::Ok {
                worst = verdict;
            }
            problems.push(format!("{}: {message}", hook.title()));
        }
    }
    if worst == Verdict::Ok {
        good.dedup();
        return Finding::ok(BUNDLE, good.join("; "));
    }
    let advice = "let the webhook write it (or cert-manager, see kubectl describe certificate), or set tls.caBundle to the CA that signed tls.crt, and upgrade the chart";
    Finding {
        verdict: worst,
        ..Finding::warn(BUNDLE, problems.join("; "), advice)
    }
}

/// A bundle at this time, in seconds since 1970.
fn judge(bundle: &[u8], now: i64) -> (Verdict, String) {
    let certificates = match read(bundle) {
        Ok(certificates) => certificates,
        Err(message) => return (Verdict::Fail, message),
    };
    let ends = certificates.iter().map(|certificate| certificate.not_after);
    let count = match certificates.len() {
        1 => "one CA".to_owned(),
        count => format!("{count} CAs"),
    };
    let (verdict, message) = judge_end(ends.max().unwrap_or_default(), now);
    (verdict, format!("{count}, {message}"))
}

fn judge_end(end: i64, now: i64) -> (Verdict, String) {
    let day = Timestamp::from_second(end).map_or_else(
        |_| "a time beyond the calendar".to_owned(),
        |end| end.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    );
    match end {
        end if end <= now => (Verdict::Fail, format!("expired on {day}")),
        end if end - now < SOON => (Verdict::Warn, format!("expires soon, on {day}")),
        _ => (Verdict::Ok, format!("valid until {day}")),
    }
}

/// The certificates of a PEM text, at least one.
fn read(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    let certificates = Certificate::read_all(pem);
    match CertificateDer::pem_slice_iter(pem).count() {
        0 => Err("it holds no certificate in PEM".to_owned()),
        count if count == certificates.len() => Ok(certificates),
        _ => Err("it holds what is no X.509 certificate".to_owned()),
    }
}

/// The certificate that is served, as far as the Secret that it comes from can be found and read. Whether it is the
/// one that the API server meets, its own call shows.
pub(super) async fn served(client: &Client, registered: &Registered) -> Option<Finding> {
    // A webhook at a URL keeps its certificate to itself.
    let (service, namespace) = registered.service()?;
    let name = secret_of(registered).unwrap_or_else(|| format!("{service}-tls"));
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let title = format!("the Secret {namespace}/{name}");
    let secret = match api.get_opt(&name).await {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            return Some(Finding::fail(
                SERVED,
                format!("{title} is not there"),
                if registered.flag(MANAGED).is_empty() {
                    "make it, with tls.crt and tls.key; with cert-manager see kubectl describe certificate"
                } else {
                    "the webhook makes it when it starts: look at its pods and their log"
                },
            ));
        }
        Err(error) if is_status(&error, 403) => {
            return Some(Finding::warn(
                SERVED,
                format!(
                    "{title} may not be read, so what is served is not compared with the bundle"
                ),
                format!(
                    "ask for the right to get it, or compare by hand; the name in the certificate must be {service}.{namespace}.svc"
                ),
            ));
        }
        Err(error) => return Some(unseen(SERVED, "get secrets", &error)),
    };
    let data = secret.data.unwrap_or_default();
    let Some(chain) = data.get("tls.crt") else {
        return Some(Finding::fail(
            SERVED,
            format!("{title} has no tls.crt"),
            "make it of type kubernetes.io/tls",
        ));
    };
    let host = format!("{service}.{namespace}.svc");
    let bundles = registered
        .hooks
        .iter()
        .filter_map(|hook| Some((hook, hook.client.ca_bundle.as_ref()?.0.as_slice())))
        .filter(|(_, bundle)| !bundle.is_empty());
    let now = Timestamp::now().as_second();
    for (hook, bundle) in bundles {
        if let Err(message) = verify(&chain.0, bundle, &host, now) {
            return Some(Finding::fail(
                SERVED,
                format!(
                    "{title} does not stand up to the bundle of {}: {message}",
                    hook.title()
                ),
                format!(
                    "issue it for {host}, signed by a CA of the bundle, or put its CA there (tls.caBundle)"
                ),
            ));
        }
    }
    let end = Certificate::read_all(&chain.0);
    let end = end.first().map(|leaf| leaf.not_after);
    let (verdict, message) = judge_end(end.unwrap_or_default(), now);
    let message = format!("{title} is for {host}, signed by a CA of the bundle and {message}");
    Some(match verdict {
        Verdict::Ok => Finding::ok(SERVED, message),
        _ => Finding {
            verdict,
            ..Finding::warn(SERVED, message, "renew it; it is served without a restart")
        },
    })
}

/// The Secret that the webhook keeps, or that its Deployment mounts.
fn secret_of(registered: &Registered) -> Option<String> {
    let managed = registered.flag(MANAGED).into_iter().next();
    let mounted = || {
        let deployment = registered.deployment.as_ref()?;
        let volumes = deployment.spec.template.spec.as_ref()?.volumes.as_ref()?;
        let volume = volumes.iter().find(|volume| volume.name == VOLUME)?;
        volume.secret.as_ref()?.secret_name.clone()
    };
    managed.or_else(mounted)
}

/// Verifies a chain as a client does that trusts this bundle and wants this host.
fn verify(chain: &[u8], bundle: &[u8], host: &str, now: i64) -> Result<(), String> {
    let chain = read(chain).map_err(|message| format!("tls.crt: {message}"))?;
    let bundle = read(bundle).map_err(|message| format!("the bundle: {message}"))?;
    match chain.split_first() {
        Some((leaf, rest)) => authority::verify_chain(leaf, rest, &bundle, host, now),
        None => Err("tls.crt holds no certificate".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::{CertificatePair, Subject};
    use k8s_openapi::ByteString;
    use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;

    const DAY: i64 = 24 * 3600;

    fn pair(name: &str) -> CertificatePair {
        let subject = Subject {
            dns_names: vec![name.to_owned()],
            addresses: Vec::new(),
            days: 90,
        };
        CertificatePair::self_signed(&subject).unwrap()
    }

    fn hook(bundle: Option<&str>) -> Hook {
        Hook {
            client: WebhookClientConfig {
                ca_bundle: bundle.map(|bundle| ByteString(bundle.as_bytes().to_vec())),
                ..WebhookClientConfig::default()
            },
            ..Hook::default()
        }
    }

    #[test]
    fn bundles_are_read_and_their_ends_told() {
        let ca = pair("ca").certificate;
        let now = Timestamp::now().as_second();
        let (verdict, message) = judge(ca.as_bytes(), now);
        assert_eq!(verdict, Verdict::Ok);
        assert!(message.starts_with("one CA, valid until 20"), "{message}");
        assert_eq!(judge(ca.as_bytes(), now + 80 * DAY).0, Verdict::Warn);
        assert_eq!(judge(ca.as_bytes(), now + 91 * DAY).0, Verdict::Fail);
        let both = ca.repeat(2);
        assert!(judge(both.as_bytes(), now).1.starts_with("2 CAs"));
        for broken in ["", "hello", &ca.replace("MI", "AA")] {
            assert_eq!(judge(broken.as_bytes(), now).0, Verdict::Fail, "{broken}");
        }
    }

    #[test]
    fn the_worst_bundle_decides() {
        let ca = pair("ca").certificate;
        assert_eq!(of(&[hook(Some(&ca))]).verdict, Verdict::Ok);
        assert_eq!(of(&[hook(None), hook(Some(&ca))]).verdict, Verdict::Fail);
        let mut public = hook(None);
        public.client.url = Some("https://example.com/mutate".to_owned());
        assert_eq!(of(std::slice::from_ref(&public)).verdict, Verdict::Warn);
        assert_eq!(of(&[hook(None), public]).verdict, Verdict::Fail);
    }

    #[test]
    fn a_chain_is_held_against_bundle_and_name() {
        let (one, other) = (pair("outrigger.outrigger.svc"), pair("other.outrigger.svc"));
        let verify = |chain: &CertificatePair, bundle: &CertificatePair| {
            let (chain, bundle) = (chain.certificate.as_bytes(), bundle.certificate.as_bytes());
            let now = Timestamp::now().as_second();
            super::verify(chain, bundle, "outrigger.outrigger.svc", now)
        };
        assert_eq!(verify(&one, &one), Ok(()));
        assert!(verify(&one, &other).is_err());
        let name = verify(&other, &other).unwrap_err();
        assert_eq!(name, "not valid for the name outrigger.outrigger.svc");
    }
}
