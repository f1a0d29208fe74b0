//! Drills 15 to 20 and 27: clients that are slow, idle, too large, garbled, ambiguous, outdated or gone. Each meets a
//! webhook process with the limits of production; what can be seen in fractions of a second is in `tests/server`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testkit::certs::Authority;
use testkit::process::allow_open_files;
use testkit::served::{padded, small};
use testkit::wire::{Client, post, post_head};
use testkit::{Result, Served};
use tokio::task::JoinSet;

use super::long;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");
const IN_FLIGHT: &str = "outrigger_http_requests_in_flight";
const CONNECTIONS: &str = "outrigger_connections";

/// A webhook process with the limits of production.
pub(crate) async fn serve(flags: &[&str]) -> Result<Served> {
    Served::start(Path::new(OUTRIGGER), flags).await
}

/// That nothing panicked, that nothing is left of any client, and that it serves.
pub(crate) async fn is_well(served: &Served) -> Result {
    let answer = served.client().await?.post(small("well")).await?;
    ensure!(answer.status == 200, "{answer:?}");
    served.wait_metric(IN_FLIGHT, 0.0).await?;
    served.wait_metric(CONNECTIONS, 0.0).await?;
    let panicked = served
        .metric(r#"outrigger_http_rejected_total{reason="panicked"}"#)
        .await?;
    ensure!(panicked < 0.5, "{panicked} reviews panicked");
    ensure!(
        !served.daemon.log().contains("panicked"),
        "{}",
        served.daemon.log()
    );
    Ok(())
}

/// The value below which 99 of 100 are.
fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99 / 100).min(times.len() - 1)]
}

/// What a slow client does.
#[derive(Debug, Clone, Copy)]
enum Slow {
    /// Connects and says nothing.
    Silent,
    /// Begins a TLS handshake.
    Handshake,
    /// Sends a header byte by byte.
    Headers,
    /// Sends a body byte by byte.
    Body,
}

/// How long it was held until the server ended it.
async fn drip(
    slow: Slow,
    address: std::net::SocketAddr,
    authority: &Authority,
) -> Result<Duration> {
    let mut client = match slow {
        Slow::Silent | Slow::Handshake => Client::plain(address).await?,
        Slow::Headers | Slow::Body => Client::tls(address, authority, &[b"http/1.1"]).await?,
    };
    let start = Instant::now();
    let (first, rest): (&[u8], &[u8]) = match slow {
        Slow::Silent => (b"", b""),
        Slow::Handshake => (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b""),
        Slow::Headers => (b"POST /mutate HTTP/1.1\r\n", b"Host: slow.example.com\r\n"),
        Slow::Body => (b"", b" "),
    };
    client.send(first).await?;
    if matches!(slow, Slow::Body) {
        client
            .send(post_head("/mutate", "Content-Length: 100000\r\n"))
            .await?;
    }
    // Each byte comes long before any time is over.
    for byte in rest.iter().cycle() {
        if start.elapsed() > Duration::from_secs(9) || client.send([*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    if rest.is_empty() {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let told = client.ended().await?;
    let told = String::from_utf8_lossy(&told).into_owned();
    match slow {
        Slow::Body => ensure!(told.starts_with("HTTP/1.1 408"), "{told}"),
        _ => ensure!(!told.starts_with("HTTP"), "{told}"),
    }
    Ok(start.elapsed())
}

/// Reviews over a kept and over a new connection, to two servers in turn: what the machine does in the meantime is the
/// same for both.
pub(crate) async fn drill_15_slow_clients() -> Result {
    let (attacked, calm) = (serve(&[]).await?, serve(&[]).await?);
    let each = if long() { 60 } else { 15 };
    let mut slow = JoinSet::new();
    for what in [Slow::Silent, Slow::Handshake, Slow::Headers, Slow::Body] {
        for _ in 0..each {
            let (address, authority) = (attacked.address, Arc::clone(&attacked.authority));
            slow.spawn(async move {
                let held = drip(what, address, &authority).await;
                Ok::<_, anyhow::Error>((what, held.with_context(|| format!("{what:?}"))?))
            });
        }
    }
    // Their own handshakes are no part of what others are to notice.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut kept = [attacked.client().await?, calm.client().await?];
    let mut times = [Vec::new(), Vec::new()];
    let mut held = Vec::new();
    while held.len() < each * 4 {
        let first = times[0].len() % 2;
        for place in [first, 1 - first] {
            let server = [&attacked, &calm][place];
            let start = Instant::now();
            let answer = kept[place].post(small("kept")).await?;
            ensure!(answer.status == 200, "{answer:?}");
            let answer = server.client().await?.post(small("new")).await?;
            ensure!(answer.status == 200, "{answer:?}");
            times[place].push(start.elapsed());
        }
        while let Some(ended) = slow.try_join_next() {
            held.push(ended??);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let longest = held.iter().map(|(_, held)| *held).max().unwrap_or_default();
    let asked = times[0].len();
    let [attacked_p99, calm_p99] = times.map(|mut times| p99(&mut times));
    eprintln!(
        "drill 15: {} slow clients were held for {longest:?} at most; p99 of {asked} pairs of reviews of others \
         {attacked_p99:?}, of a server without slow clients {calm_p99:?}",
        held.len()
    );
    // A busy machine may be late to notice that ten seconds are over.
    ensure!(longest < Duration::from_secs(15), "{held:?}");
    ensure!(
        attacked_p99 < calm_p99.max(Duration::from_millis(50)) * 4,
        "{attacked_p99:?}, without slow clients {calm_p99:?}"
    );
    drop(kept);
    for (reason, count) in [("slow_headers", each), ("slow_body", each)] {
        let sample = format!(r#"outrigger_http_rejected_total{{reason="{reason}"}}"#);
        attacked.wait_metric(&sample, count as f64).await?;
    }
    is_well(&attacked).await
}

/// Opens connections, some at a time. Those that are to be `used` have asked once: one that never did makes room for
/// others when places are scarce.
async fn open(served: &Served, count: usize, used: bool) -> Result<Vec<Client>> {
    let mut opening = JoinSet::new();
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        let (address, authority) = (served.address, Arc::clone(&served.authority));
        opening.spawn(async move {
            let mut client = Client::tls(address, &authority, &[b"http/1.1"]).await?;
            if used {
                let answer = client.post(small("open")).await?;
                ensure!(answer.status == 200, "{answer:?}");
            }
            Ok(client)
        });
        if opening.len() >= 16 || number + 1 == count {
            let one = opening.join_next().await.context("none was opened")?;
            open.push(one??);
        }
    }
    while let Some(one) = opening.join_next().await {
        open.push(one??);
    }
    Ok(open)
}

pub(crate) async fn drill_16_idle_connections() -> Result {
    let count = if long() { 9_000 } else { 1_000 };
    // Its own ends, and those of a webhook that is started under the same limit.
    allow_open_files(count as u64 + 1_000)?;
    let room = (count + 100).to_string();
    let served = serve(&["--max-connections", &room]).await?;
    let (_, before) = (
        open(&served, 1, true).await?,
        served.daemon.memory("VmRSS")?,
    );
    let start = Instant::now();
    let mut idle = open(&served, count, true).await?;
    let opened = start.elapsed();
    let after = served.daemon.memory("VmRSS")?;
    served.wait_metric(CONNECTIONS, count as f64).await?;
    let call = Instant::now();
    let answer = served.client().await?.post(small("new")).await?;
    let call = call.elapsed();
    ensure!(answer.status == 200, "{answer:?}");
    for at in [0, count / 2, count - 1] {
        ensure!(
            idle[at].post(small("idle")).await?.status == 200,
            "an idle one does not serve"
        );
    }
    let bytes = (after.saturating_sub(before)) * 1024 / count as u64;
    eprintln!(
        "drill 16: {count} idle connections were opened in {opened:?} and are held at {bytes} bytes each; a new call \
         took {call:?}"
    );
    ensure!(bytes < 128 * 1024, "{bytes} bytes a connection");
    drop(idle);
    is_well(&served).await?;

    // And where there is room for a part of them only.
    let room = count / 10;
    let served = serve(&["--max-connections", &room.to_string()]).await?;
    let mut idle = Vec::new();
    for _ in 0..room {
        idle.push(served.client().await?);
    }
    let waiting: Vec<_> = (0..room)
        .map(|_| tokio::net::TcpStream::connect(served.address))
        .collect();
    let waiting = futures_util::future::try_join_all(waiting).await?;
    let held = served.metric(CONNECTIONS).await?;
    ensure!(held <= room as f64, "{held} are held, {room} are allowed");
    let call = Instant::now();
    let answer = loop {
        // It waits among the others until one of those that rest makes room.
        match served.client().await {
            Ok(mut client) => break client.post(small("new")).await?,
            Err(error) => ensure!(call.elapsed() < Duration::from_secs(60), "{error:#}"),
        }
    };
    ensure!(answer.status == 200, "{answer:?}");
    eprintln!(
        "drill 16: with room for {room}, {held} were held of {}; a new call took {:?}",
        2 * room,
        call.elapsed()
    );
    drop((idle, waiting));
    is_well(&served).await
}

/// How much may be resident for all bodies together: what they may take is 32 MiB, and one that is read may be there
/// twice.
const BODIES: u64 = 96 * 1024;

pub(crate) async fn drill_17_bodies_that_are_too_large() -> Result {
    let served = serve(&[]).await?;
    ensure!(served.client().await?.post(small("first")).await?.status == 200);
    let before = served.daemon.memory("VmHWM")?;
    let rounds = if long() { 20 } else { 2 };
    let mut taken = 0;
    for _ in 0..rounds {
        let mut asking = JoinSet::new();
        for number in 0..8 {
            let mut client = served.client().await?;
            asking.spawn(async move {
                if number % 2 == 0 {
                    let request = post("/mutate", padded(7_100 * 1024 + 512 * 1024));
                    // Refused by its length: it may hear so while it still writes.
                    let _ = client.send(&request).await;
                    return Ok((client.answer().await?, 0));
                }
                client
                    .send(post_head("/mutate", "Transfer-Encoding: chunked\r\n"))
                    .await?;
                let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
                let mut sent = 0;
                while sent < 100_000_000 && client.send(&chunk).await.is_ok() {
                    sent += chunk.len();
                }
                Ok::<_, anyhow::Error>((client.answer().await?, sent))
            });
        }
        while let Some(asked) = asking.join_next().await {
            let (answer, sent) = asked??;
            // Together they may take more than all bodies may: then it is told to come again.
            ensure!(matches!(answer.status, 413 | 503), "{answer:?}");
            ensure!(
                sent < 32 * 1024 * 1024,
                "{sent} bytes of one body were taken"
            );
            taken = taken.max(sent);
        }
    }
    // Alone it is told that it is too large, and no more.
    let mut client = served.client().await?;
    let _ = client.send(post("/mutate", padded(7_500 * 1024))).await;
    let answer = client.answer().await?;
    ensure!(answer.status == 413, "{answer:?}");
    let after = served.daemon.memory("VmHWM")?;
    eprintln!(
        "drill 17: {} bodies of 7.5 MB and of 100 MB in chunks, eight at a time: {taken} bytes of one were taken at \
         most; at most {before} KiB were resident before, {after} KiB after",
        rounds * 8
    );
    ensure!(after - before < BODIES, "{} KiB more", after - before);
    is_well(&served).await
}

pub(crate) async fn drill_18_bodies_that_are_no_reviews() -> Result {
    let served = serve(&[]).await?;
    let whole = small("1");
    let deep = format!("{}{}", r#"{"request":{"uid":"#, "[".repeat(100_000));
    let object = whole.replace(
        r#"{"name":"web"}]"#,
        &format!("{}{}]", "[".repeat(100_000), "]".repeat(100_000)),
    );
    let spoilt = |at: &str| {
        let mut bytes = whole.clone().into_bytes();
        let place = whole.find(at).context("not in the review")?;
        bytes[place] = 0xff;
        Ok::<_, anyhow::Error>(bytes)
    };
    let mut cases: Vec<(String, Vec<u8>, &str)> = vec![
        (
            "bytes".into(),
            b"\xff\xfe\x00".to_vec(),
            "no AdmissionReview",
        ),
        (
            "bad UTF-8 in a name".into(),
            spoilt("web")?,
            "no AdmissionReview",
        ),
        ("bad UTF-8 in the namespace".into(), spoilt("shop")?, ""),
        ("deep".into(), deep.into_bytes(), "no AdmissionReview"),
        (
            "deep containers".into(),
            object.into_bytes(),
            "no AdmissionReview",
        ),
        ("an array".into(), b"[]".to_vec(), "kind: given"),
        (
            "no request".into(),
            br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.to_vec(),
            "request: missing",
        ),
        (
            "v2".into(),
            whole.replace("k8s.io/v1", "k8s.io/v2").into_bytes(),
            "apiVersion: given",
        ),
    ];
    let step = if long() { 1 } else { 16 };
    for end in (0..whole.len()).step_by(step) {
        let cut = whole.as_bytes()[..end].to_vec();
        cases.push((format!("cut after {end} bytes"), cut, "no AdmissionReview"));
    }
    let mut client = served.client().await?;
    for (name, body, reason) in &cases {
        let answer = client.post(body).await?;
        ensure!(answer.status == 400, "{name}: {answer:?}");
        ensure!(answer.body.contains(reason), "{name}: {answer:?}");
    }
    // The same connection serves on: nothing of the above harmed it.
    ensure!(client.post(&whole).await?.status == 200);
    drop(client);
    served
        .wait_metric(
            r#"outrigger_http_rejected_total{reason="no_review"}"#,
            cases.len() as f64,
        )
        .await?;
    eprintln!(
        "drill 18: {} bodies got 400 and a reason, over one connection",
        cases.len()
    );
    is_well(&served).await
}

/// RFC 9112, section 6.3: what both gives is taken by its chunks, and the connection closed, so that what a
/// second reader would take for another request never is one.
pub(crate) async fn drill_19_requests_of_two_meanings() -> Result {
    let served = serve(&[]).await?;
    let (body, smuggled) = (small("1"), post("/mutate", small("smuggled")));
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let whole = chunk.len() + smuggled.len();
    let old = |lines: &str, body: &str| {
        let head =
            format!("POST /mutate HTTP/1.0\r\nContent-Type: application/json\r\n{lines}\r\n");
        (head + body).into_bytes()
    };
    let mut cases = vec![
        (
            old(&format!("Content-Length: {}\r\n", body.len()), &body),
            200,
        ),
        // 1.0 has no chunks.
        (old("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
    ];
    for lines in [
        format!("Content-Length: {whole}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {whole}\r\n"),
    ] {
        cases.push((
            [post_head("/mutate", &lines).as_bytes(), chunk.as_bytes()].concat(),
            200,
        ));
    }
    for lines in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: a\r\n folded\r\nContent-Length: 5\r\n",
        " Content-Length: 5\r\n",
        "Content-Length: 5\0\r\n",
    ] {
        cases.push((
            [post_head("/mutate", lines).as_bytes(), b"0\r\n\r\n"].concat(),
            400,
        ));
    }
    for (bytes, status) in &cases {
        let mut client = served.client().await?;
        let shown = String::from_utf8_lossy(bytes).into_owned();
        let answer = client.ask([bytes.as_slice(), &smuggled].concat()).await?;
        ensure!(answer.status == *status, "{shown:?}: {answer:?}");
        if *status == 200 {
            ensure!(
                answer.json()?["response"]["uid"] == "1",
                "{shown:?}: {answer:?}"
            );
        }
        let rest = client.ended().await?;
        ensure!(
            rest.is_empty(),
            "{shown:?}: {}",
            String::from_utf8_lossy(&rest)
        );
    }
    eprintln!(
        "drill 19: each of {} requests with another behind it got one answer and a closed connection",
        cases.len()
    );
    is_well(&served).await
}

/// A ClientHello, as bytes: no library of today makes these. RFC 5246, section 7.4.1.2.
fn client_hello(version: [u8; 2], suites: &[u16]) -> Vec<u8> {
    let extension = |kind: u16, content: &[u8]| {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend_from_slice(&(content.len() as u16).to_be_bytes());
        bytes.extend_from_slice(content);
        bytes
    };
    let extensions = [
        extension(0x0000, b"\x00\x0c\x00\x00\x09localhost"),
        // Groups: X25519, P-256, P-384. Points: uncompressed.
        extension(0x000a, b"\x00\x06\x00\x1d\x00\x17\x00\x18"),
        extension(0x000b, b"\x01\x00"),
        // ECDSA with SHA-256 and SHA-384 on P-256 and P-384, RSA with SHA-256, ECDSA and RSA with SHA-1.
        extension(0x000d, b"\x00\x0a\x04\x03\x05\x03\x04\x01\x02\x03\x02\x01"),
        extension(0x0017, b""),
        extension(0xff01, b"\x00"),
    ]
    .concat();
    let mut body = version.to_vec();
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&(suites.len() as u16 * 2).to_be_bytes());
    body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend_from_slice(b"\x01\x00");
    body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    body.extend_from_slice(&extensions);
    let length = (body.len() as u32).to_be_bytes();
    let handshake = [b"\x01", &length[1..], &body].concat();
    let outer = (handshake.len() as u16).to_be_bytes();
    [b"\x16\x03\x01".as_slice(), &outer, &handshake].concat()
}

pub(crate) async fn drill_20_outdated_handshakes() -> Result {
    let served = serve(&[]).await?;
    // ECDHE with AES-GCM, and with AES-CBC and SHA-1, by ECDSA and by RSA.
    let strong = [0xc02b, 0xc02f, 0xc02c, 0xc030];
    let usual = [0xc02b, 0xc02f, 0xc009, 0xc013, 0x002f, 0x0035];
    let weak: &[(&str, &[u16])] = &[
        ("NULL", &[0x0001, 0x0002, 0x003b, 0xc006, 0xc010]),
        ("export", &[0x0003, 0x0006, 0x0008, 0x0014]),
        ("anonymous", &[0x0018, 0x001b, 0x0034, 0x006c, 0xc018]),
        ("RC4", &[0x0004, 0x0005, 0xc007, 0xc011]),
        ("DES and 3DES", &[0x0009, 0x000a, 0x0016, 0xc008, 0xc012]),
        ("CBC with SHA-1", &[0xc009, 0xc00a, 0xc013, 0xc014]),
        ("RSA key exchange", &[0x002f, 0x0035, 0x009c, 0x009d]),
    ];
    let mut cases = vec![
        ("SSL 3.0", client_hello([3, 0], &usual)),
        ("TLS 1.0", client_hello([3, 1], &usual)),
        ("TLS 1.1", client_hello([3, 2], &usual)),
        // A hello of SSL 2.0 has no record around it.
        (
            "SSL 2.0",
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80".to_vec(),
        ),
    ];
    cases.extend(
        weak.iter()
            .map(|(name, suites)| (*name, client_hello([3, 3], suites))),
    );
    let count = cases.len();
    for (name, hello) in cases {
        let mut client = Client::plain(served.address).await?;
        client.send(&hello).await?;
        let told = client.ended().await?;
        // Nothing, or one fatal alert: never a ServerHello.
        ensure!(
            told.is_empty() || (told[0] == 0x15 && told.len() == 7 && told[5] == 2),
            "{name}: {told:02x?}"
        );
    }
    // The same bytes with what is allowed are taken, so it is the version and the ciphers that are refused.
    let mut client = Client::plain(served.address).await?;
    client.send(client_hello([3, 3], &strong)).await?;
    let told = client.some(6).await?;
    ensure!(
        told[0] == 0x16 && told[5] == 2,
        "no ServerHello: {told:02x?}"
    );
    drop(client);
    served
        .wait_metric(
            r#"outrigger_tls_handshakes_total{result="failed"}"#,
            count as f64 + 1.0,
        )
        .await?;
    eprintln!(
        "drill 20: {count} outdated handshakes got an alert, TLS 1.2 with ECDHE and AES-GCM a ServerHello"
    );
    is_well(&served).await
}

pub(crate) async fn drill_27_clients_that_give_up() -> Result {
    let served = serve(&[]).await?;
    is_well(&served).await?;
    let (rounds, each) = if long() { (200, 40) } else { (5, 20) };
    let (mut first, mut slowest) = (None, Duration::ZERO);
    for round in 0..rounds {
        // In the middle of a head, after it, in the middle of a body, and before the answer is read.
        let whole = post("/mutate", padded(200_000));
        let head = post_head("/mutate", "Transfer-Encoding: chunked\r\n");
        let chunked = format!("{head}5\r\n{{    \r\n");
        for (bytes, held) in [
            (&head.as_bytes()[..20], 0),
            (head.as_bytes(), each),
            (chunked.as_bytes(), each),
            (&whole[..100_000], each),
            (&whole, 0),
        ] {
            let mut clients = open(&served, each, false).await?;
            for client in &mut clients {
                client.send(bytes).await?;
            }
            if held > 0 {
                served.wait_metric(IN_FLIGHT, held as f64).await?;
            }
            let start = Instant::now();
            drop(clients);
            served.wait_metric(IN_FLIGHT, 0.0).await?;
            served.wait_metric(CONNECTIONS, 0.0).await?;
            slowest = slowest.max(start.elapsed());
        }
        if round == rounds / 5 {
            first = Some((served.daemon.memory("VmRSS")?, served.daemon.open_files()?));
        }
    }
    let (first, files) = first.context("no round")?;
    let (last, now) = (served.daemon.memory("VmRSS")?, served.daemon.open_files()?);
    eprintln!(
        "drill 27: {} requests were given up; nothing of them was left after {slowest:?} at most; resident {first} KiB \
         after a fifth and {last} KiB at the end, open files {files} and {now}",
        rounds * each * 5
    );
    ensure!(slowest < Duration::from_secs(5), "{slowest:?}");
    ensure!(last as f64 / (first as f64) < 1.5, "it grows");
    ensure!(now <= files + 2, "files stay open");
    is_well(&served).await
}
