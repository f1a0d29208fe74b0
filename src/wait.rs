//! Waiting for services, inside of init containers: `outrigger wait-for`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
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
        loop {
            let left = patience.total.saturating_sub(start.elapsed());
            let outcome =
                match tokio::time::timeout(patience.one_try.min(left), try_once(target)).await {
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

async fn try_once(target: &Target) -> Result<(), String> {
    match target {
        Target::Tcp(address) => {
            let (host, port) = address
                .rsplit_once(':')
                .ok_or_else(|| "expected HOST:PORT".to_owned())?;
            let port = port.parse().map_err(|_| "expected HOST:PORT".to_owned())?;
            connect(host, port).await.map(drop)
        }
        Target::Dns(name) => resolve(name).await.map(drop),
        Target::Http(uri) => get(uri).await,
    }
}

/// The addresses of a host, which may be one itself.
///
/// The resolver is a Rust one because that of glibc loads libraries at run time, which an image of one static
/// binary does not have. It is made anew each time: `/etc/resolv.conf` may change while we wait.
async fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return Ok(vec![address]);
    }
    let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    let options = builder.options_mut();
    options.cache_size = 0;
    // A name of /etc/hosts with an IPv4 address only must not wait for a name server to deny the other.
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    let resolver = builder.build().map_err(|error| error.to_string())?;
    let addresses: Vec<IpAddr> = resolver
        .lookup_ip(host)
        .await
        .map_err(|error| error.to_string())?
        .iter()
        .collect();
    if addresses.is_empty() {
        Err(format!("{host} has no address"))
    } else {
        Ok(addresses)
    }
}

/// A connection to the first address that takes one.
async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let addresses: Vec<SocketAddr> = resolve(host)
        .await?
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .collect();
    TcpStream::connect(addresses.as_slice())
        .await
        .map_err(|error| error.to_string())
}

/// A GET whose answer is 2xx or 3xx, as the kubelet's probes count it.
async fn get(uri: &Uri) -> Result<(), String> {
    let authority = uri
        .authority()
        .ok_or_else(|| "the URL has no host".to_owned())?;
    let stream = connect(authority.host(), authority.port_u16().unwrap_or(80)).await?;
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
}
