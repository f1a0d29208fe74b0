//! Waiting for services, inside of init containers: `outrigger wait-for`.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;
use std::{fmt, io, vec};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Something that must answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A `host:port` that takes a TCP connection.
    Tcp(String),
    /// An `http://` URL that answers with a good status.
    Http(Uri),
    /// A name that resolves.
    Dns(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Http(uri) => write!(f, "http {uri}"),
            Self::Dns(name) => write!(f, "dns {name}"),
        }
    }
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For everything.
    pub total: Duration,
    /// Between two tries.
    pub interval: Duration,
    /// For one try.
    pub one_try: Duration,
}

/// A target that did not answer in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{target}: no answer within {seconds} s; at last: {last}")]
pub struct TimedOut {
    /// The target, in words.
    pub target: String,
    /// The time it had.
    pub seconds: u64,
    /// What the last try said.
    pub last: String,
}

/// Waits until every target answers, one after the other. `tell` hears of every change: why something is still
/// waited for, and what has answered.
///
/// When it gives up, a name may still be looked up on a thread of the runtime. End that with
/// [`shutdown_background`](tokio::runtime::Runtime::shutdown_background): dropping it would wait for the name server.
///
/// # Errors
/// The first target that does not answer in time.
pub async fn wait_for(
    targets: &[Target],
    patience: Patience,
    mut tell: impl FnMut(String),
) -> Result<(), TimedOut> {
    let start = Instant::now();
    for target in targets {
        let mut last = String::new();
        let mut lookup = Lookup::default();
        loop {
            let left = patience.total.saturating_sub(start.elapsed());
            let one_try = try_once(target, &mut lookup);
            let outcome = match tokio::time::timeout(patience.one_try.min(left), one_try).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("no answer within {:?}", patience.one_try)),
            };
            match outcome {
                Ok(()) => {
                    tell(format!("{target}: answers"));
                    break;
                }
                Err(reason) if reason != last => {
                    tell(format!("{target}: waiting: {reason}"));
                    last = reason;
                }
                Err(_) => {}
            }
            if start.elapsed() + patience.interval >= patience.total {
                return Err(TimedOut {
                    target: target.to_string(),
                    seconds: patience.total.as_secs(),
                    last,
                });
            }
            tokio::time::sleep(patience.interval).await;
        }
    }
    Ok(())
}

async fn try_once(target: &Target, lookup: &mut Lookup) -> Result<(), String> {
    match target {
        Target::Tcp(address) => {
            let (host, port) = address
                .rsplit_once(':')
                .ok_or_else(|| "expected HOST:PORT".to_owned())?;
            let port = port.parse().map_err(|_| "expected HOST:PORT".to_owned())?;
            connect(host, port, lookup).await.map(drop)
        }
        Target::Dns(name) => lookup.addresses(name, 0).await.map(drop),
        Target::Http(uri) => get(uri, lookup).await,
    }
}

/// Looks up the name of one target, with the C library's `getaddrinfo`, which blocks a thread.
///
/// A lookup that is under way when its try ends is not begun again: the next try goes on waiting for it. A silent name
/// server holds `getaddrinfo` for 5 s, twice for each server of `/etc/resolv.conf`; with a lookup a try the threads
/// would pile up, and a name server that is slower than a try would never be heard.
///
/// Each lookup follows `/etc/hosts` and `/etc/resolv.conf` as they are when it begins; glibc looks whether resolv.conf
/// has changed since 2.26. In an image of one static binary, where there is no `nsswitch.conf`, it needs no library at
/// run time for that since 2.34.
#[derive(Default)]
struct Lookup {
    under_way: Option<JoinHandle<io::Result<vec::IntoIter<SocketAddr>>>>,
}

impl Lookup {
    /// The addresses of `host`, which may be one itself, with `port`.
    async fn addresses(&mut self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let under_way = self.under_way.get_or_insert_with(|| {
            let host = host.to_owned();
            tokio::task::spawn_blocking(move || (host.as_str(), port).to_socket_addrs())
        });
        let found = under_way.await;
        self.under_way = None;
        found
            .map_err(io::Error::from)
            .and_then(|found| found)
            .map(Iterator::collect)
            .map_err(|error| format!("{host}: {error}"))
    }
}

/// A connection to the first address that takes one.
async fn connect(host: &str, port: u16, lookup: &mut Lookup) -> Result<TcpStream, String> {
    let mut addresses = lookup.addresses(host, port).await?;
    // IPv4 first: where IPv6 leads nowhere, connecting by it would use up the whole try. Where there is no IPv4,
    // connecting by that fails at once.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    TcpStream::connect(addresses.as_slice())
        .await
        .map_err(|error| error.to_string())
}

/// A GET whose answer is 2xx or 3xx, as the kubelet's probes count it.
async fn get(uri: &Uri, lookup: &mut Lookup) -> Result<(), String> {
    let authority = uri
        .authority()
        .ok_or_else(|| "the URL has no host".to_owned())?;
    let port = authority.port_u16().unwrap_or(80);
    let stream = connect(authority.host(), port, lookup).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header("host", authority.as_str())
        .header("user-agent", "outrigger-wait-for")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| error.to_string());
    driver.abort();
    match answer?.status() {
        status if status.is_success() || status.is_redirection() => Ok(()),
        status => Err(format!("answers {}", StatusCode::as_u16(&status))),
    }
}

/// A duration as Go and Kubernetes write it: `200ms`, `5s`, `1m30s`.
///
/// # Errors
/// Text that is none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("given {text:?}, expected a duration as in 200ms, 5s or 1m30s");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u32 = rest[..digits].parse().map_err(|_| expected())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(expected()),
        };
        total = total.saturating_add(unit.saturating_mul(number));
        rest = &rest[letters..];
    }
    if text.is_empty() {
        Err(expected())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Patience = Patience {
        total: Duration::from_secs(5),
        interval: Duration::from_millis(20),
        one_try: Duration::from_secs(1),
    };

    #[test]
    fn durations_are_read_as_kubernetes_writes_them() {
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        for bad in ["", "5", "s", "-1s", "1 s", "1d", "99999999999s", "é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_port_is_waited_for_until_it_opens() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let opening = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            TcpListener::bind(address).await.unwrap()
        });
        let mut told = Vec::new();
        wait_for(&[Target::Tcp(address.to_string())], PATIENCE, |line| {
            told.push(line)
        })
        .await
        .unwrap();
        assert!(told[0].contains("waiting: Connection refused"), "{told:?}");
        assert_eq!(told.last().unwrap(), &format!("tcp {address}: answers"));
        assert_eq!(told.len(), 2, "the same reason is told once: {told:?}");
        opening.await.unwrap();
    }

    #[tokio::test]
    async fn a_status_must_be_good() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            for status in ["503 No", "404 No", "204 Yes"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let mut told = Vec::new();
        let uri = format!("http://{address}/healthz?x=1").parse().unwrap();
        wait_for(&[Target::Http(uri)], PATIENCE, |line| told.push(line))
            .await
            .unwrap();
        assert!(
            told[0].ends_with("answers 503") && told[1].ends_with("answers 404"),
            "{told:?}"
        );
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn patience_ends_and_the_last_reason_is_told() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let short = Patience {
            total: Duration::from_millis(200),
            ..PATIENCE
        };
        let error = wait_for(&[Target::Tcp(address.to_string())], short, |_| ())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("Connection refused"), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_resolves_answers() {
        wait_for(&[Target::Dns("localhost".to_owned())], PATIENCE, |_| ())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn an_address_is_taken_as_it_is() {
        for (host, address) in [
            ("192.0.2.1", "192.0.2.1:80"),
            ("2001:db8::1", "[2001:db8::1]:80"),
            ("[2001:db8::1]", "[2001:db8::1]:80"),
        ] {
            let mut lookup = Lookup::default();
            let found = lookup.addresses(host, 80).await;
            assert_eq!(found, Ok(vec![address.parse().unwrap()]));
        }
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_named() {
        // A label is empty: no name server is asked.
        let error = Lookup::default().addresses("a..b", 80).await.unwrap_err();
        let expected = "a..b: failed to lookup address information: Name or service not known";
        assert_eq!(error, expected);
    }
}
