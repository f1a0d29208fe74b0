//! The certificate: which protocol serves it, how it is swapped, and what a bad one does.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use outrigger::certificate::{CertificatePair, Offer};
use outrigger::server::CertificateSource;
use tempfile::TempDir;
use testkit::Result;
use testkit::certs::{Authority, Issued};
use tokio::time::sleep;

use super::kit::{Client, Running, small, start};

/// A folder that is filled as the kubelet fills a mounted Secret: the files are links into `..data`, which is a
/// link to a folder, and a change is a rename of that link.
struct Mount {
    folder: TempDir,
    round: AtomicU64,
}

impl Mount {
    fn new(pair: &Issued) -> Result<Self> {
        let mount = Self {
            folder: tempfile::tempdir()?,
            round: AtomicU64::new(0),
        };
        mount.swap(&pair.certificate, &pair.key)?;
        for name in ["tls.crt", "tls.key"] {
            symlink(
                Path::new("..data").join(name),
                mount.folder.path().join(name),
            )?;
        }
        Ok(mount)
    }

    fn swap(&self, certificate: &str, key: &str) -> Result {
        let round = self.round.fetch_add(1, Ordering::Relaxed);
        let name = format!("..2026_{round}");
        let inner = self.folder.path().join(&name);
        fs::create_dir(&inner)?;
        fs::write(inner.join("tls.crt"), certificate)?;
        fs::write(inner.join("tls.key"), key)?;
        let link = self.folder.path().join("..data_tmp");
        symlink(&name, &link)?;
        fs::rename(link, self.folder.path().join("..data"))?;
        if round > 0 {
            fs::remove_dir_all(self.folder.path().join(format!("..2026_{}", round - 1)))?;
        }
        Ok(())
    }

    fn source(&self) -> CertificateSource {
        let path = |name: &str| self.folder.path().join(name);
        CertificateSource::Files {
            certificate: path("tls.crt"),
            private_key: path("tls.key"),
        }
    }
}

/// A server whose files are those of `mount`, signed by `authority`.
async fn start_mounted(mount: &Mount, authority: &Arc<Authority>) -> Result<Running> {
    let mut server = start(|config| config.certificate = mount.source()).await?;
    server.authority = Arc::clone(authority);
    Ok(server)
}

fn issue(authority: &Authority) -> Result<Issued> {
    authority.server(&["localhost", "127.0.0.1"])
}

const SERVED: &str = r#"outrigger_certificate_reloads_total{result="served"}"#;
const REFUSED: &str = r#"outrigger_certificate_reloads_total{result="refused"}"#;

/// Drill 5. Both authorities are trusted, as in a bundle while they change.
#[tokio::test]
async fn a_swapped_certificate_is_served_without_a_lost_request() -> Result {
    let old = Arc::new(Authority::new("old")?);
    let new = Arc::new(Authority::new("new")?);
    let mount = Mount::new(&issue(&old)?)?;
    let server = start_mounted(&mount, &old).await?;
    assert!(
        Client::tls(server.address, &new, &[]).await.is_err(),
        "the old certificate is not of the new authority"
    );

    let stop = Arc::new(AtomicBool::new(false));
    let both = format!("{}{}", old.certificate(), new.certificate());
    let mut tasks = tokio::task::JoinSet::new();
    for kept in [true, true, false, false] {
        let (stop, url, both) = (Arc::clone(&stop), server.url("/mutate"), both.clone());
        tasks.spawn(async move {
            let mut client = testkit::http::client(&both, None)?;
            let mut count = 0;
            // However slow the machine is, there are enough requests for one to meet the swap.
            while !stop.load(Ordering::Relaxed) || count <= 10 {
                if !kept {
                    client = testkit::http::client(&both, None)?;
                }
                let request = client
                    .post(&url)
                    .header("content-type", "application/json")
                    .body(small("1"));
                let status = request.send().await?.status();
                ensure!(status == 200, "{status}");
                count += 1;
            }
            Ok::<(), anyhow::Error>(())
        });
    }
    sleep(Duration::from_millis(200)).await;
    let pair = issue(&new)?;
    mount.swap(&pair.certificate, &pair.key)?;
    server.wait_metric(SERVED, 1.0).await?;
    sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(asked) = tasks.join_next().await {
        asked??;
    }
    assert_eq!(
        Client::tls(server.address, &new, &[])
            .await?
            .post(small("1"))
            .await?
            .status,
        200
    );
    assert!(
        Client::tls(server.address, &old, &[]).await.is_err(),
        "the old certificate is still served"
    );
    server.wait_metric(REFUSED, 0.0).await
}

#[tokio::test]
async fn a_bad_pair_leaves_the_old_one_and_is_counted_once() -> Result {
    let authority = Arc::new(Authority::new("the server tests")?);
    let good = issue(&authority)?;
    let mount = Mount::new(&good)?;
    let server = start_mounted(&mount, &authority).await?;
    let end = server
        .metric("outrigger_certificate_expiry_timestamp_seconds")
        .await?;
    let cut = format!("{}{}", good.certificate, &authority.certificate()[..200]);
    let bad = [
        (good.certificate.as_str(), issue(&authority)?.key),
        ("", good.key.clone()),
        (good.certificate.as_str(), String::new()),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            good.key.clone(),
        ),
        // A chain that lost its end would not verify, or only for some clients.
        (cut.as_str(), good.key.clone()),
    ];
    for (count, (certificate, key)) in (1_u32..).zip(&bad) {
        mount.swap(certificate, key)?;
        server.wait_metric(REFUSED, f64::from(count)).await?;
        assert_eq!(server.client().await?.post(small("1")).await?.status, 200);
    }
    sleep(Duration::from_millis(2200)).await;
    assert!(
        (server.metric(REFUSED).await? - 5.0).abs() < 0.5,
        "a bad pair is counted each time it is looked at"
    );
    assert!(
        (server
            .metric("outrigger_certificate_expiry_timestamp_seconds")
            .await?
            - end)
            .abs()
            < 0.5
    );
    assert_eq!(server.readiness().await?, 200);
    // Files that are gone change nothing either.
    fs::remove_file(mount.folder.path().join("..data"))?;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(server.client().await?.post(small("1")).await?.status, 200);
    // And the next good one is served.
    let pair = issue(&authority)?;
    mount.round.store(90, Ordering::Relaxed);
    fs::create_dir(mount.folder.path().join("..2026_89"))?;
    mount.swap(&pair.certificate, &pair.key)?;
    server.wait_metric(SERVED, 1.0).await
}

/// A pair whose certificate ended yesterday, or ends after some seconds.
fn ending(seconds: i64) -> Result<CertificatePair> {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()])?;
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(2);
    params.not_after = now + time::Duration::seconds(seconds);
    let key = rcgen::KeyPair::generate()?;
    Ok(CertificatePair {
        certificate: params.self_signed(&key)?.pem(),
        private_key: key.serialize_pem(),
    })
}

#[tokio::test]
async fn with_an_ended_certificate_it_is_alive_and_not_ready() -> Result {
    let pair = ending(-86_400)?;
    let server = start(|config| config.certificate = CertificateSource::Pair(pair)).await?;
    let answer = Client::plain(server.operations)
        .await?
        .get("/readyz")
        .await?;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "the certificate has ended\n")
    );
    // A restart would mend nothing.
    assert_eq!(
        Client::plain(server.operations)
            .await?
            .get("/healthz")
            .await?
            .status,
        200
    );
    let end = server
        .metric("outrigger_certificate_expiry_timestamp_seconds")
        .await?;
    let expected = (time::OffsetDateTime::now_utc() - time::Duration::days(1)).unix_timestamp();
    assert!(
        (end - f64::from(u32::try_from(expected)?)).abs() < 60.0,
        "{end}"
    );
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_ends_while_it_is_served_is_noticed_and_a_new_one_as_well() -> Result {
    let authority = Arc::new(Authority::new("the server tests")?);
    let short = ending(3)?;
    let mount = Mount::new(&Issued {
        certificate: short.certificate,
        key: short.private_key,
    })?;
    let server = start_mounted(&mount, &authority).await?;
    let expect = async |status: u16| {
        testkit::wait_until_async("the readiness", Duration::from_secs(8), async || {
            let given = server.readiness().await?;
            ensure!(given == status, "{given}");
            Ok(())
        })
        .await
    };
    expect(200).await?;
    expect(503).await?;
    let pair = issue(&authority)?;
    mount.swap(&pair.certificate, &pair.key)?;
    expect(200).await
}

/// A ClientHello of an old version, as OpenSSL wrote them: two ciphers that those versions knew.
fn old_hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 4, 0xc0, 0x13, 0x00, 0x2f]);
    body.extend([1, 0]);
    // Curves and signatures that are good, so that they are not what is refused.
    body.extend([
        0, 16, 0, 0x0a, 0, 4, 0, 2, 0, 0x17, 0, 0x0d, 0, 4, 0, 2, 4, 3,
    ]);
    let mut hello = vec![
        0x16,
        3,
        1,
        0,
        u8::try_from(body.len() + 4).unwrap_or_default(),
        1,
        0,
        0,
    ];
    hello.push(u8::try_from(body.len()).unwrap_or_default());
    hello.extend(body);
    hello
}

#[tokio::test]
async fn old_versions_of_tls_are_refused() -> Result {
    let server = start(|_| {}).await?;
    // SSL 3.0, TLS 1.0, TLS 1.1, and TLS 1.2 with nothing but ciphers that are not good enough.
    for minor in 0..=3 {
        let mut client = Client::plain(server.address).await?;
        client.send(old_hello(minor)).await?;
        let told = client.ended().await?;
        // A fatal alert: `protocol_version`, or `handshake_failure` for the ciphers.
        ensure!(
            told.len() == 7 && told[0] == 0x15 && told[5] == 2,
            "3.{minor}: {told:?}"
        );
        assert_eq!(
            told[6],
            if minor < 3 { 70 } else { 40 },
            "3.{minor}: {told:?}"
        );
    }
    server
        .wait_metric(r#"outrigger_tls_handshakes_total{result="failed"}"#, 4.0)
        .await
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_served() -> Result {
    let server = start(|_| {}).await?;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = rustls::RootCertStore::empty();
        let pem = server.authority.certificate().as_bytes();
        let certificate = rustls::pki_types::pem::PemObject::from_pem_slice(pem);
        roots.add(certificate.ok().context("no root")?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = tokio::net::TcpStream::connect(server.address).await?;
        let name = rustls::pki_types::ServerName::try_from("localhost")?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
    }
    Ok(())
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_ended_and_harms_nobody() -> Result {
    let server = start(|_| {}).await?;
    for bytes in [
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = Client::plain(server.address).await?;
        client.send(bytes).await?;
        let told = client.ended().await?;
        assert!(told.first().is_none_or(|kind| *kind == 0x15), "{told:?}");
    }
    assert_eq!(server.client().await?.post(small("1")).await?.status, 200);
    Ok(())
}

/// The API server offers both to a URL, and asks a Service with HTTP/1.1.
#[tokio::test]
async fn of_the_protocols_that_a_client_offers_http_1_is_chosen() -> Result {
    let server = start(|_| {}).await?;
    let offered = [b"h2".as_slice(), b"http/1.1"];
    let mut client = Client::tls(server.address, &server.authority, &offered).await?;
    assert_eq!(client.post(small("1")).await?.status, 200);
    // Who insists on another is refused by TLS itself, and not left to write frames that nobody reads.
    for other in [b"h2".as_slice(), b"spdy/3"] {
        let refused = Client::tls(server.address, &server.authority, &[other]).await;
        assert!(refused.is_err(), "{}", String::from_utf8_lossy(other));
    }
    Ok(())
}

/// A certificate that is managed elsewhere: there may be none yet, and what is known of its clients counts.
#[tokio::test]
async fn offers_are_served_and_what_is_said_of_them_is_told() -> Result {
    let authority = Arc::new(Authority::new("managed")?);
    let first = Offer {
        pair: None,
        obstacle: Some("the Secret has no certificate yet".to_owned()),
    };
    let (offer, offers) = tokio::sync::watch::channel(first);
    let mut server = start(|config| config.certificate = CertificateSource::Offers(offers)).await?;
    server.authority = Arc::clone(&authority);
    ensure!(server.readiness().await? == 503);
    ensure!(
        server.client().await.is_err(),
        "a handshake without a certificate"
    );

    let issued = issue(&authority)?;
    let pair = CertificatePair {
        certificate: issued.certificate,
        private_key: issued.key,
    };
    let unpublished = Offer {
        pair: Some(pair.clone()),
        obstacle: Some("it does not chain".to_owned()),
    };
    offer.send_replace(unpublished.clone());
    server.wait_metric(SERVED, 1.0).await?;
    server.client().await?;
    let mut plain = Client::plain(server.operations).await?;
    let told = plain.get("/readyz").await?;
    ensure!(told.status == 503 && told.body == "it does not chain\n");

    let good = Offer {
        obstacle: None,
        ..unpublished
    };
    offer.send_replace(good);
    testkit::wait_until_async("readiness", Duration::from_secs(5), async || {
        ensure!(server.readiness().await? == 200);
        Ok(())
    })
    .await?;
    // The same pair is not another one, and one that cannot be served changes nothing.
    let broken = CertificatePair {
        private_key: "no key".to_owned(),
        ..pair
    };
    offer.send_replace(Offer {
        pair: Some(broken),
        obstacle: None,
    });
    server.wait_metric(REFUSED, 1.0).await?;
    server.wait_metric(SERVED, 1.0).await?;
    server.client().await?;
    server.stop(Duration::from_secs(10)).await?;
    Ok(())
}
