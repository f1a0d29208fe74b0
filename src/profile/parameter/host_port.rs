//! Hosts and ports.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A `host:port` in its two parts; the brackets of an IPv6 address are taken off.
pub fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner
            .strip_suffix(']')
            .filter(|inner| inner.parse::<Ipv6Addr>().is_ok())?,
        None if is_host(host) && !host.contains(':') => host,
        None => return None,
    };
    let digits = !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && !port.starts_with('0');
    let port: u16 = port.parse().ok().filter(|_| digits)?;
    Some((host, port))
}

/// Whether a text is an IP address or a DNS name in lower case (RFC 1123).
pub fn is_host(text: &str) -> bool {
    if text.parse::<Ipv4Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    // A name whose last label is a number is read as an IPv4 address by some resolvers (127.1, 0x7f.1).
    let numeric_end = text.rsplit('.').next().is_some_and(|label| {
        label.bytes().all(|byte| byte.is_ascii_digit()) || label.starts_with("0x")
    });
    super::format::is_dns_subdomain(text) && !numeric_end
}
