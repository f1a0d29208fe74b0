//! The alerts and the dashboard, held against what a server that runs tells on `/metrics`: each name they use
//! exists there, and each family is on the dashboard.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::certs::Authority;
use testkit::{Daemon, Helm, free_port};

use super::{CASES, CHART, read, run, yaml};

/// Families that the dashboard leaves out on purpose, and why. Empty so far.
const NOT_ON_THE_DASHBOARD: &[&str] = &[];

/// What one server tells.
struct Told {
    /// Each family by its name, with its type.
    families: BTreeMap<String, String>,
    text: String,
}

/// Starts a server, has it answer a review of each outcome (it tells nothing of reviews before the first), and
/// reads what it tells.
async fn told() -> Result<Told> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new("the chart's tests")?;
    let issued = authority.server(&["localhost", "127.0.0.1"])?;
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    fs::write(&certificate, issued.certificate)?;
    fs::write(&key, issued.key)?;
    let loopback = || -> Result<SocketAddr> { Ok(([127, 0, 0, 1], free_port()?).into()) };
    let (listen, operations) = (loopback()?, loopback()?);
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command
        .args(["serve", "--drain-seconds", "0"])
        .arg("--tls-cert")
        .arg(&certificate)
        .arg("--tls-key")
        .arg(&key)
        .args(["--listen", &listen.to_string()])
        .args(["--operations-listen", &operations.to_string()])
        .env_remove("RUST_LOG");
    let mut daemon = Daemon::start(&command, &folder.path().join("log"), Duration::from_secs(5))?;
    daemon.wait_ready(Duration::from_secs(30), || get(operations))?;

    let review = read("examples/review.json")?;
    let asked = "\"outrigger.dev/inject\": \"envoy-tls\"";
    ensure!(
        review.contains(asked),
        "examples/review.json asks otherwise"
    );
    let client = testkit::http::client(authority.certificate(), None)?;
    for list in ["envoy-tls", "none", "no-such-profile"] {
        let body = review.replace(asked, &format!("\"outrigger.dev/inject\": \"{list}\""));
        let request = client
            .post(format!("https://{listen}/mutate"))
            .header("content-type", "application/json");
        request.body(body).send().await?.error_for_status()?;
    }
    let text = get(operations)?;
    daemon.stop();
    let families = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    Ok(Told { families, text })
}

fn get(address: SocketAddr) -> Result<String> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200 "), "answered {text}");
    Ok(text)
}

impl Told {
    /// The family that a sample of this name is of.
    fn family(&self, sample: &str) -> Option<&str> {
        self.families.iter().find_map(|(name, kind)| {
            let suffixes: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                "info" => &["_info"],
                _ => &[""],
            };
            suffixes
                .iter()
                .any(|suffix| sample.strip_suffix(suffix) == Some(name))
                .then_some(name.as_str())
        })
    }

    /// The families that an expression uses.
    fn check(&self, what: &str, expression: &str) -> Result<BTreeSet<String>> {
        let names: Vec<&str> = expression
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("outrigger_"))
            .collect();
        ensure!(
            !names.is_empty(),
            "{what} asks for no metric of ours: {expression}"
        );
        let families = names
            .iter()
            .map(|name| {
                let family = self.family(name).with_context(|| {
                    format!(
                        "{what} uses {name}; the server has {:?}",
                        self.families.keys().collect::<Vec<_>>()
                    )
                })?;
                Ok(family.to_owned())
            })
            .collect::<Result<_>>()?;
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            ensure!(
                expression.matches(open).count() == expression.matches(close).count(),
                "{what} does not close each {open}: {expression}"
            );
        }
        for label in ["reason", "result", "outcome", "state"] {
            for value in matched(expression, label) {
                ensure!(
                    self.text.contains(&format!("{label}=\"{value}\"")),
                    "{what} asks for {label} {value}, which the server does not have"
                );
            }
        }
        Ok(families)
    }
}

/// The values that matchers of a label name: `result=~"failed|slow"` names two.
fn matched<'a>(expression: &'a str, label: &str) -> Vec<&'a str> {
    expression
        .split(label)
        .skip(1)
        .filter_map(|rest| {
            ["=~\"", "!=\"", "!~\"", "=\""]
                .iter()
                .find_map(|operator| rest.strip_prefix(operator))?
                .split_once('"')
        })
        .flat_map(|(values, _)| values.split('|'))
        .collect()
}

fn text<'a>(node: &'a Value, pointer: &str) -> &'a str {
    node.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn list<'a>(node: &'a Value, pointer: &str) -> &'a [Value] {
    node.pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn is_duration(text: &str) -> bool {
    ["s", "m", "h", "d"].iter().any(|unit| {
        text.strip_suffix(unit).is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

/// The fields of a PrometheusRule, none beside them.
fn check_group(group: &Value) -> Result<()> {
    fn only(what: &str, node: &Value, known: &[&str]) -> Result<()> {
        for key in node
            .as_object()
            .context("no mapping")
            .with_context(|| what.to_owned())?
            .keys()
        {
            ensure!(known.contains(&key.as_str()), "{what} has {key}");
        }
        Ok(())
    }
    only("the group", group, &["name", "rules"])?;
    ensure!(!text(group, "/name").is_empty(), "a group has no name");
    ensure!(!list(group, "/rules").is_empty(), "a group has no rules");
    let mut names = BTreeSet::new();
    for rule in list(group, "/rules") {
        let name = text(rule, "/alert");
        ensure!(name.starts_with("Outrigger"), "the alert {name:?}");
        ensure!(names.insert(name), "{name} is there twice");
        only(
            name,
            rule,
            &["alert", "expr", "for", "labels", "annotations"],
        )?;
        ensure!(
            ["critical", "warning", "info"].contains(&text(rule, "/labels/severity")),
            "{name}: the severity"
        );
        ensure!(
            rule.get("for").is_none() || is_duration(text(rule, "/for")),
            "{name}: for"
        );
        for annotation in ["summary", "description"] {
            ensure!(
                !text(rule, &format!("/annotations/{annotation}")).is_empty(),
                "{name} has no {annotation}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn alerts_and_dashboard_use_the_names_of_the_server() -> Result<()> {
    let told = told().await?;
    ensure!(!told.families.is_empty(), "nothing is told:\n{}", told.text);

    let rules: Value = yaml(&format!("{CHART}/files/rules.yaml"))?;
    for group in list(&rules, "/groups") {
        check_group(group)?;
        for rule in list(group, "/rules") {
            told.check(text(rule, "/alert"), text(rule, "/expr"))?;
        }
    }

    let dashboard: Value = serde_json::from_str(&read(&format!("{CHART}/files/dashboard.json"))?)?;
    let mut shown = BTreeSet::new();
    for panel in list(&dashboard, "/panels") {
        let title = text(panel, "/title");
        ensure!(!list(panel, "/targets").is_empty(), "{title} shows nothing");
        for target in list(panel, "/targets") {
            shown.extend(told.check(title, text(target, "/expr"))?);
        }
    }
    for variable in list(&dashboard, "/templating/list") {
        if text(variable, "/type") == "query" {
            told.check(text(variable, "/name"), text(variable, "/query/query"))?;
        }
    }
    for family in told.families.keys() {
        let is_left_out = NOT_ON_THE_DASHBOARD.contains(&family.as_str());
        ensure!(
            shown.contains(family) != is_left_out,
            "{family} must be either on the dashboard or in NOT_ON_THE_DASHBOARD, and not both"
        );
    }
    for family in NOT_ON_THE_DASHBOARD {
        ensure!(
            told.families.contains_key(*family),
            "{family} is left out, and does not exist"
        );
    }
    Ok(())
}

/// What comes out of Helm is a PrometheusRule, with nothing left of the words that stand for values.
#[test]
fn the_rendered_rules_are_whole() -> Result<()> {
    let values = format!("{CASES}/monitoring/values.yaml");
    let output = run(
        &Helm::new()?,
        &["template", "outrigger", CHART, "--values", &values],
    )?;
    ensure!(output.code == 0, "{}", output.stderr);
    let document = output
        .stdout
        .split("\n---\n")
        .find(|document| document.contains("kind: PrometheusRule"))
        .context("no PrometheusRule is rendered")?;
    for word in ["RELEASE_NAMESPACE", "HALF_THE_TIMEOUT"] {
        ensure!(!document.contains(word), "{word} is left");
    }
    let rule: Value = serde_saphyr::from_str(document)?;
    ensure!(text(&rule, "/apiVersion") == "monitoring.coreos.com/v1");
    ensure!(!list(&rule, "/spec/groups").is_empty(), "no groups");
    for group in list(&rule, "/spec/groups") {
        check_group(group)?;
    }
    Ok(())
}
