//! The formats that a parameter can have: one row each.

use std::net::IpAddr;

use super::quantity::Quantity;
use super::{Kind, host_port, path};
use crate::profile::pattern;

/// A grammar.
#[derive(Debug)]
pub struct Format {
    /// Its name in a profile.
    pub name: &'static str,
    /// The type it belongs to.
    pub kind: Kind,
    /// What is expected, in words.
    pub expected: &'static str,
    /// Why a text is not of the format; empty if there is nothing to add to `expected`.
    pub check: fn(&str) -> Result<(), String>,
}

/// All formats.
pub static FORMATS: &[Format] = &[
    number("port", "a port from 1 to 65535"),
    string("text", "text", |_| Ok(())),
    string(
        "host",
        "a DNS name in lower case or an IP address",
        |text| ok(host_port::is_host(text)),
    ),
    string(
        "host-port",
        "HOST:PORT, as in db.example.com:5432 or [2001:db8::1]:443",
        |text| ok(host_port::split(text).is_some()),
    ),
    string("ip", "an IP address", |text| {
        ok(text.parse::<IpAddr>().is_ok())
    }),
    string("cidr", "a network, as in 10.0.0.0/8", |text| {
        ok(is_cidr(text))
    }),
    string(
        "dns-label",
        "a DNS label: at most 63 lower-case letters, digits and '-'",
        |text| ok(is_dns_label(text)),
    ),
    string(
        "dns-subdomain",
        "a name of lower-case letters, digits, '-' and '.', as Secrets and ConfigMaps have",
        |text| ok(is_dns_subdomain(text)),
    ),
    string(
        "secret-key",
        "a key of a Secret or ConfigMap: letters, digits, '-', '_' and '.'",
        |text| ok(text.len() <= 253 && text != "." && !text.contains("..") && only(text, "-_.")),
    ),
    string(
        "absolute-path",
        "an absolute path, as in /var/log/app",
        path::check_absolute,
    ),
    string(
        "mount-path",
        "an absolute path, as in /data or /etc/nginx/conf.d",
        path::check_mount,
    ),
    string(
        "path-glob",
        "an absolute path that may hold '*' and '?', as in /var/log/app/*.log",
        path::check_glob,
    ),
    string("http-path", "a path of a URL, as in /healthz", |text| {
        ok(text.starts_with('/')
            && only(text, "/-_.~%!$&'()*+,;=:@")
            && !text.split('/').any(|part| part == ".."))
    }),
    string(
        "quantity",
        "a Kubernetes quantity, as in 100m or 64Mi",
        |text| Quantity::parse(text).map(drop),
    ),
    string(
        "duration",
        "a duration, as in 200ms, 5s or 1m30s",
        check_duration,
    ),
    string("uri", "an http or https URL", check_uri),
    string("env-name", "the name of an environment variable", |text| {
        ok(!text.starts_with(|first: char| first.is_ascii_digit()) && only(text, "_"))
    }),
    string("header-name", "the name of an HTTP header", |text| {
        ok(only(text, "!#$%&'*+-.^_`|~"))
    }),
    string(
        "tag",
        "a tag of letters, digits, '-', '_' and '.'",
        |text| {
            ok(only(text, "-_.")
                && !text.starts_with('.')
                && !text.ends_with('.')
                && !text.contains(".."))
        },
    ),
    string("regex", "a regular expression", check_regex),
    string("json", "a JSON document", |text| {
        serde_json::from_str::<serde::de::IgnoredAny>(text)
            .map(drop)
            .map_err(|error| error.to_string())
    }),
    string(
        "container-path",
        "CONTAINER=/PATH, or CONTAINER=/PATH:ro",
        check_container_path,
    ),
    string("assignment", "NAME=VALUE", |text| {
        ok(text.split_once('=').is_some_and(|(name, value)| {
            !name.is_empty() && only(name, "-_.") && !value.is_empty()
        }))
    }),
];

const fn string(
    name: &'static str,
    expected: &'static str,
    check: fn(&str) -> Result<(), String>,
) -> Format {
    Format {
        name,
        kind: Kind::String,
        expected,
        check,
    }
}

const fn number(name: &'static str, expected: &'static str) -> Format {
    Format {
        name,
        kind: Kind::Integer,
        expected,
        check: |_| Ok(()),
    }
}

/// The format of that name.
pub fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().map(|format| format.name)
}

/// Nothing to add to the row's own words of what is expected.
fn ok(fits: bool) -> Result<(), String> {
    if fits { Ok(()) } else { Err(String::new()) }
}

/// Whether a text holds only ASCII letters, digits and these.
fn only(text: &str, others: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || others.contains(character))
}

/// Whether a text is a DNS label (RFC 1123), as names of containers and volumes are.
#[inline]
pub fn is_dns_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether a text is a DNS subdomain (RFC 1123), as names of objects are.
pub(in crate::profile) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let bits = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    let digits = length.bytes().all(|byte| byte.is_ascii_digit())
        && (length == "0" || !length.starts_with('0'));
    digits && length.parse::<u8>().is_ok_and(|length| length <= bits)
}

fn check_duration(text: &str) -> Result<(), String> {
    milliseconds(text).map(drop)
}

/// The length of a duration, as in `1m30s`.
///
/// # Errors
/// Text that is no duration, or one beyond a year.
pub fn milliseconds(text: &str) -> Result<u64, String> {
    let mut rest = text;
    let mut sum = 0_u64;
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = ["ms", "s", "m", "h"].into_iter().find(|unit| {
            after.strip_prefix(*unit).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with(|next: char| next.is_ascii_digit())
            })
        });
        let (Ok(number), Some(unit)) = (number.parse::<u32>(), unit) else {
            return Err("a number and one of ms, s, m, h, repeated".to_owned());
        };
        sum = sum.saturating_add(
            u64::from(number)
                * match unit {
                    "ms" => 1,
                    "s" => 1000,
                    "m" => 60 * 1000,
                    _ => 3600 * 1000,
                },
        );
        rest = after.strip_prefix(unit).unwrap_or_default();
    }
    if sum > 366 * 86400 * 1000 {
        Err("it is longer than a year".to_owned())
    } else {
        Ok(sum)
    }
}

fn check_uri(text: &str) -> Result<(), String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or_else(|| "it begins with neither http:// nor https://".to_owned())?;
    let (authority, path) = rest
        .find(['/', '?', '#'])
        .map_or((rest, ""), |end| rest.split_at(end));
    if authority.contains('@') {
        return Err("a user in it is not allowed".to_owned());
    }
    if !host_port::is_host(authority) && host_port::split(authority).is_none() {
        return Err("its host is no DNS name in lower case and no IP address".to_owned());
    }
    ok(path.is_empty() || only(path, "/?#-_.~%!$&'()*+,;=:@[]"))
}

fn check_regex(text: &str) -> Result<(), String> {
    // Ruby names groups (?<name>…), as the regex crate does; look-around is Ruby's alone and is refused here,
    // because what cannot be checked cannot be trusted to end.
    pattern::check(text).map_err(|error| {
        error
            .to_string()
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()
    })
}

fn check_container_path(text: &str) -> Result<(), String> {
    let (container, place) = text
        .split_once('=')
        .ok_or_else(|| "there is no '='".to_owned())?;
    if !is_dns_label(container) {
        return Err("the container's name is no DNS label".to_owned());
    }
    path::check_absolute(place.strip_suffix(":ro").unwrap_or(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For each format what it takes and what it refuses.
    const TABLE: &[(&str, &[&str], &[&str])] = &[
        (
            "host",
            &["db.example.com", "10.0.0.1", "::1", "a"],
            &[
                "",
                "DB.example.com",
                "a..b",
                "-a",
                "a_b",
                "127.1",
                "0x7f.1",
                "a b",
                "a/b",
                "a:1",
            ],
        ),
        (
            "host-port",
            &["db.example.com:5432", "[2001:db8::1]:443", "10.0.0.1:1"],
            &[
                "db.example.com",
                ":1",
                "a:0",
                "a:65536",
                "a:01",
                "::1:5",
                "[a]:1",
                "a:1:2",
                "a:١",
            ],
        ),
        ("ip", &["10.0.0.1", "::1"], &["10.0.0", "a", "010.0.0.1"]),
        (
            "cidr",
            &["10.0.0.0/8", "::/0"],
            &["10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "a/8"],
        ),
        (
            "dns-label",
            &["a", "a-1"],
            &["", "A", "a.b", "-a", "a-", "ns/x", "../x"],
        ),
        (
            "dns-subdomain",
            &["a.b", "kiada-tls"],
            &["a..b", "A", "../x", "a/b", "а"],
        ),
        (
            "secret-key",
            &["tls.crt", "a_b"],
            &["..", "a/b", "../x", ""],
        ),
        (
            "http-path",
            &["/healthz", "/a/b"],
            &["x", "/../x", "/a b", "/a\"b", ""],
        ),
        (
            "quantity",
            &["100m", "1Ei", "64Mi", "0"],
            &["-1", "1e999", "NaN", "٣", "100m\"\n  - name: evil"],
        ),
        (
            "duration",
            &["5s", "1m30s", "200ms", "24h"],
            &["", "5", "s", "-5s", "5 s", "1e3s", "99999h"],
        ),
        (
            "uri",
            &["https://idp.example.com/jwks.json", "http://a:80"],
            &[
                "ftp://a",
                "https://u@a/",
                "https://",
                "https://a\"",
                "javascript:x",
                "https://A",
            ],
        ),
        ("env-name", &["A_B", "_x9"], &["9a", "a-b", "", "a=b"]),
        ("header-name", &["x-request-id"], &["a b", "a:b", ""]),
        (
            "tag",
            &["app.nginx"],
            &["**", "a..b", ".a", "${tag}", "a b", "#{x}"],
        ),
        (
            "regex",
            &["^(?<level>[A-Z]+) (?<message>.*)$"],
            &["(", "[", "(?<a>"],
        ),
        ("json", &["{\"keys\": []}", "[]"], &["{", "x"]),
        (
            "container-path",
            &["web=/data", "web=/data:ro"],
            &["web", "=/x", "web=data", "web=/etc", "web=/x:rw", "WEB=/x"],
        ),
        ("assignment", &["a=b"], &["a", "=b", "a=", "a b=c"]),
    ];

    #[test]
    fn each_format_takes_and_refuses() {
        for (name, good, bad) in TABLE {
            let format = find(name).unwrap();
            for text in *good {
                assert_eq!((format.check)(text), Ok(()), "{name} {text}");
            }
            for text in *bad {
                assert!((format.check)(text).is_err(), "{name} {text}");
            }
        }
    }

    #[test]
    fn names_are_unique_and_findable() {
        let all: std::collections::BTreeSet<_> = names().collect();
        assert_eq!(all.len(), FORMATS.len());
    }
}
