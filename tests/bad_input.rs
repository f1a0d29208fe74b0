//! Bad inputs: each gets a denial that names what to mend, or a clean answer; never a panic, a broken patch or
//! half an injection.
//!
//! Everything goes through `admission::review`, and the same bytes over HTTPS to a webhook process that runs: both must
//! say the same. A row of a table is an input and what the denial must say: its subject (an annotation's key, a
//! container) and what was expected. `items` has the list of bad inputs that `docs/reliability.md` shows.
//!
//! Its own main function: after the last test the process is looked at, and stopped.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

#[path = "bad_input/items.rs"]
mod items;
#[path = "bad_input/process.rs"]
mod process;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger::admission::{self, ReviewError, Reviewed, Snapshot};
use outrigger::inject::{Namespace, SidecarMode};
use outrigger::profile::{Catalogue, Profile};
use serde_json::{Value, json};
use testkit::harness::Test;
use testkit::wire::post;

/// A profile with a parameter of each kind, whose values land wherever a value can land.
const EVERYTHING: &str = r#"
apiVersion: outrigger.dev/v1alpha1
kind: SidecarProfile
metadata: {name: t}
spec:
  summary: Takes anything.
  parameters:
    port: {type: integer, format: port, description: d, default: 9000}
    count: {type: integer, description: d, minimum: 1, maximum: 9, default: 1}
    ratio: {type: number, description: d}
    switch: {type: boolean, description: d}
    text: {type: string, description: d, maxLength: 4096}
    other: {type: string, description: d}
    word: {type: string, pattern: "[a-z]+", description: d}
    choice: {type: string, enum: [one, two], description: d}
    cpuRequest: {type: string, format: quantity, default: 10m, description: d}
    cpuLimit: {type: string, format: quantity, default: "1", description: d}
    path: {type: string, format: absolute-path, description: d, default: /shared}
    glob: {type: string, format: path-glob, description: d}
    host: {type: string, format: host, description: d}
    upstream: {type: string, format: host-port, description: d}
    names: {type: array, items: {type: string, format: dns-label}, maxItems: 3, description: d}
    secret: {type: string, format: dns-subdomain, description: d}
    document: {type: string, format: json, description: d}
    expression: {type: string, format: regex, description: d}
    image: {type: string, settableBy: Admin, default: "example.com/a:1", description: d}
    team: {type: string, settableBy: Namespace, description: d}
  initContainers:
  - name: ${instance}
    image: ${params.image}
    restartPolicy: Always
    args: ["--text", "${params.text}", "--both=${params.text}${params.other}", "$(POD_IP)"]
    env:
    - {name: TEXT, value: "${params.text}"}
    - {name: LITERAL, value: "$(POD_IP):${params.port}"}
    ports: [{containerPort: "${params.port}", name: p}]
    resources:
      requests: {cpu: "${params.cpuRequest}"}
      limits: {cpu: "${params.cpuLimit}"}
    volumeMounts: [{name: "${instance}-files", mountPath: /files}]
  files:
    x.json: {text: "${params.text}", inside: "a ${params.count} b", document: "${params.document}", last: true}
  shares: [{name: data, path: "${params.path}", sizeLimit: 1Mi}]
  application:
    env: [{name: GIVEN, value: "${params.text}"}]
"#;

fn snapshot() -> &'static Snapshot {
    static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
        let mut profiles = Catalogue::built_in().unwrap();
        profiles.push(Arc::new(
            Profile::parse("test", EVERYTHING).unwrap_or_else(|error| panic!("{error}")),
        ));
        Snapshot {
            catalogue: Catalogue::new(profiles),
            ..Snapshot::default()
        }
    });
    &SNAPSHOT
}

fn is_real(profile: &str) -> bool {
    !snapshot()
        .catalogue
        .get(profile)
        .unwrap()
        .profile
        .parameters
        .is_empty()
}

fn annotated<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    pod(
        pairs,
        json!({"containers": [{"name": "web", "image": "w"}]}),
    )
}

fn pod<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, spec: Value) -> Value {
    let annotations: serde_json::Map<String, Value> = pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    json!({"metadata": {"name": "p", "annotations": annotations}, "spec": spec})
}

fn envelope(object: &str) -> String {
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","kind":{{"group":"","version":"v1","kind":"Pod"}},"namespace":"shop","operation":"CREATE","object":{object}}}}}"#
    )
}

/// What a review came to: the pod that comes out and whether it was changed, or the denial.
#[derive(Debug)]
enum Answer {
    Injected(Value),
    Skipped(&'static str),
    Denied(String),
}

impl Answer {
    #[track_caller]
    fn injected(self) -> Value {
        match self {
            Self::Injected(pod) => pod,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn denied(self) -> String {
        match self {
            Self::Denied(message) => message,
            other => panic!("{other:?}"),
        }
    }
}

/// Reviews by the library and by the process, which must say the same.
fn review(body: &[u8]) -> Result<Reviewed, ReviewError> {
    let reviewed = admission::review(body, snapshot());
    let told = process::ask(post("/mutate", body));
    match &reviewed {
        _ if body.len() > 7 * 1024 * 1024 => assert_eq!(told.status, 413, "{told:?}"),
        Ok(reviewed) => {
            assert_eq!(told.status, 200, "{told:?}");
            assert!(
                told.body.as_bytes() == reviewed.body,
                "the process says {}, the library {}",
                told.body,
                String::from_utf8_lossy(&reviewed.body)
            );
        }
        Err(error) => {
            assert_eq!(told.status, 400, "{told:?}");
            assert!(told.body.contains(&error.message), "{told:?}: {error:?}");
        }
    }
    reviewed
}

fn ask(pod: &Value) -> Answer {
    ask_of(snapshot(), pod)
}

/// Asks, and holds what every answer must be, whatever was asked.
fn ask_of(snapshot: &Snapshot, pod: &Value) -> Answer {
    let body = envelope(&pod.to_string());
    let reviewed = if std::ptr::eq(snapshot, self::snapshot()) {
        review(body.as_bytes()).unwrap()
    } else {
        admission::review(body.as_bytes(), snapshot).unwrap()
    };
    let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
    let response = &answer["response"];
    assert_eq!(response["uid"], "u");
    assert_eq!(
        response.get("patch").is_some(),
        response.get("patchType").is_some()
    );
    match reviewed.summary.outcome {
        "denied" => {
            assert_eq!(response["allowed"], false);
            assert!(
                response.get("patch").is_none(),
                "a denial must not carry a patch"
            );
            let message = response["status"]["message"].as_str().unwrap();
            assert!(message.starts_with("outrigger: "), "{message}");
            assert!(
                message.len() < 64 * 1024,
                "a message of {} bytes",
                message.len()
            );
            let hidden = |found: char| {
                found != '\n'
                    && (found.is_control()
                        || matches!(
                            found,
                            '\u{202A}'..='\u{202E}' | '\u{2028}' | '\u{FEFF}' | '\u{200B}'
                        ))
            };
            assert!(!message.contains(hidden), "{message:?}");
            Answer::Denied(message.to_owned())
        }
        "skipped" => {
            assert_eq!(response["allowed"], true);
            assert!(response.get("patch").is_none());
            Answer::Skipped(reviewed.summary.reason)
        }
        _ => {
            assert_eq!(response["allowed"], true);
            let patch = STANDARD
                .decode(response["patch"].as_str().unwrap())
                .unwrap();
            let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
            let mut result = pod.clone();
            json_patch::patch(&mut result, &patch).unwrap();
            Answer::Injected(result)
        }
    }
}

/// Asks for `t` with one parameter, and expects a denial that names its key and says each of `words`.
fn refuse(parameter: &str, value: &str, words: &[&str], failures: &mut Vec<String>) {
    refuse_of("t", &[(parameter, value)], parameter, words, failures);
}

fn refuse_of(
    profile: &str,
    values: &[(&str, &str)],
    culprit: &str,
    words: &[&str],
    failures: &mut Vec<String>,
) {
    let keys: Vec<(String, &str)> = values
        .iter()
        .map(|(name, value)| (format!("{profile}.outrigger.dev/{name}"), *value))
        .collect();
    let pairs = keys
        .iter()
        .map(|(key, value)| (key.as_str(), *value))
        .chain([("outrigger.dev/inject", profile)]);
    let shown: String = values
        .iter()
        .map(|(name, value)| format!("{name}={:.60} ", value))
        .collect();
    match ask(&annotated(pairs)) {
        Answer::Denied(message) => {
            let key = format!("{profile}.outrigger.dev/{culprit}");
            let named = [": ", "\": "]
                .iter()
                .any(|after| message.contains(&format!("{key}{after}")));
            let missing: Vec<_> = words
                .iter()
                .filter(|word| !message.contains(**word))
                .collect();
            if !named || !missing.is_empty() {
                failures.push(format!(
                    "{shown}: expected {key}… {missing:?}, got {message}"
                ));
            }
        }
        other => failures.push(format!("{shown}: expected a denial, got {other:?}")),
    }
}

fn values_outside_of_their_grammar_name_the_key_and_what_is_expected() {
    let mut failures = Vec::new();
    let port = "an integer from 1 to 65535";
    let quantity = "a Kubernetes quantity";
    for (parameter, value, words) in [
        ("port", "0", &[port, "given \"0\""] as &[&str]),
        ("port", "65536", &[port]),
        ("port", "-1", &[port]),
        ("port", "+1", &[port]),
        ("port", "080", &[port, "zero in front"]),
        ("port", "0x50", &[port]),
        ("port", "8_0", &[port]),
        ("port", "80 ", &[port, "given \"80 \""]),
        ("port", "٣", &[port]),
        ("port", "８０", &[port]),
        ("port", "1e3", &[port]),
        ("port", "80.0", &[port]),
        ("port", "", &[port, "given \"\""]),
        ("port", "NaN", &[port]),
        ("port", "18446744073709551616", &[port, "64 bits"]),
        ("port", "http", &[port]),
        ("port", "80,81", &[port]),
        ("count", "10", &["an integer from 1 to 9"]),
        ("ratio", "1e999", &["a number"]),
        ("ratio", "NaN", &["a number"]),
        ("ratio", "Infinity", &["a number"]),
        ("ratio", "1,5", &["a number"]),
        ("ratio", ".5", &["a number"]),
        ("ratio", "0x1", &["a number"]),
        ("switch", "TRUE", &["\"true\" or \"false\""]),
        ("switch", " true", &["\"true\" or \"false\""]),
        ("switch", "yes", &["\"true\" or \"false\""]),
        ("switch", "1", &["\"true\" or \"false\""]),
        ("switch", "", &["\"true\" or \"false\""]),
        ("cpu-limit", "-1", &[quantity, "negative"]),
        ("cpu-limit", "1e999", &[quantity]),
        ("cpu-limit", "NaN", &[quantity]),
        ("cpu-limit", "٣", &[quantity]),
        ("cpu-limit", "", &[quantity]),
        (
            "cpu-limit",
            "100m\"\n  - name: evil\n    image: x",
            &[quantity, "U+000A"],
        ),
        ("text", "a\0b", &["U+0000"]),
        ("text", "a\rb", &["U+000D"]),
        ("text", "a\u{2028}b", &["U+2028", "\\u{2028}"]),
        ("text", "\u{FEFF}a", &["U+FEFF"]),
        ("text", "a\u{202E}b", &["U+202E"]),
        ("text", "a\u{200B}b", &["U+200B"]),
        ("text", "a\nb", &["U+000A"]),
        ("text", " a", &["a space at the beginning or end"]),
        ("text", "", &["it is empty"]),
        ("word", "abc1", &["text that matches [a-z]+"]),
        ("word", "abc\n", &["U+000A"]),
        ("word", "Abc", &["text that matches"]),
        (
            "choice",
            "ONE",
            &["one of \"one\", \"two\"", "did you mean \"one\"?"],
        ),
        ("choice", "three", &["one of \"one\", \"two\""]),
        ("path", "relative", &["an absolute path"]),
        ("path", "/", &["the root"]),
        ("path", "/a/../etc", &["\"..\""]),
        ("path", "/a//b", &["an empty part"]),
        ("path", "/proc/self", &["/proc belongs to the system"]),
        ("path", "/dev", &["/dev belongs to the system"]),
        ("path", "/etc/shadow", &["/etc belongs to the system"]),
        (
            "path",
            "/var/run/secrets/kubernetes.io/serviceaccount",
            &["belongs to the system"],
        ),
        ("path", "/var/run", &["ServiceAccount token"]),
        ("path", "/a:b", &["':'"]),
        ("glob", "/**/x", &["\"**\" is not allowed"]),
        ("glob", "/etc/*", &["/etc belongs to the system"]),
        ("glob", "/*", &["a wildcard may stand only below"]),
        ("host", "DB.example.com", &["a DNS name in lower case"]),
        ("host", "exаmple.com", &["a DNS name in lower case"]),
        ("host", "0x7f.1", &["a DNS name in lower case"]),
        ("host", "a b", &["a DNS name"]),
        ("host", "a\"}", &["a DNS name"]),
        ("upstream", "db", &["HOST:PORT"]),
        ("upstream", "db:0", &["HOST:PORT"]),
        ("upstream", "db:65536", &["HOST:PORT"]),
        ("upstream", "::1:80", &["HOST:PORT"]),
        ("upstream", "user@db:80", &["HOST:PORT"]),
        (
            "names",
            "a,,b",
            &["a comma-separated list", "an item is empty"],
        ),
        ("names", "a,b,a", &["\"a\" stands twice"]),
        ("names", "a,b,c,d", &["4 items, from 0 to 3"]),
        ("names", "a,B", &["a DNS label"]),
        ("secret", "../other", &["Secrets and ConfigMaps"]),
        ("secret", "ns/x", &["Secrets and ConfigMaps"]),
        ("document", "{", &["a JSON document"]),
        ("document", "{'a': 1}", &["a JSON document"]),
        ("expression", "(", &["a regular expression"]),
        ("expression", "(?=a)", &["a regular expression"]),
        (
            "image",
            "evil.example.com/x",
            &["only by the administrator"],
        ),
        ("team", "red", &["on the namespace or by the administrator"]),
    ] {
        refuse(parameter, value, words, &mut failures);
    }
    let long = "x".repeat(4097);
    refuse(
        "text",
        &long,
        &["4097 characters, from 1 to 4096"],
        &mut failures,
    );
    let nested = format!("(?:{}", "a{1000}".repeat(100));
    refuse(
        "expression",
        &nested,
        &["a regular expression"],
        &mut failures,
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn unknown_and_misspelt_keys_are_told_with_the_nearest_name() {
    for (key, words) in [
        (
            "t.outrigger.dev/porrt",
            &["t.outrigger.dev/porrt", "did you mean \"port\"?"] as &[&str],
        ),
        ("t.outrigger.dev/PORT", &["did you mean \"port\"?"]),
        ("t.outrigger.dev/cpuLimit", &["did you mean \"cpu-limit\"?"]),
        (
            "t.outrigger.dev/pоrt",
            &["t.outrigger.dev/pоrt", "no such parameter"],
        ),
        (
            "t.outrigger.dev/",
            &["t.outrigger.dev/: ", "no such parameter"],
        ),
        (
            "t.outrigger.dev/a/b",
            &["t.outrigger.dev/a/b", "no such parameter"],
        ),
        ("t.outrigger.dev/a~1b~0", &["a~1b~0", "no such parameter"]),
        (
            "T.outrigger.dev/port",
            &["did you mean \"t.outrigger.dev/port\"?"],
        ),
        (
            "t.Outrigger.dev/port",
            &["did you mean \"t.outrigger.dev/port\"?"],
        ),
        ("u.outrigger.dev/port", &["names no instance \"u\""]),
        ("a.t.outrigger.dev/port", &["names no instance \"a.t\""]),
        (
            "outrigger.dev/injekt",
            &["did you mean \"outrigger.dev/inject\"?"],
        ),
        (
            "outrigger.dev/Inject",
            &["did you mean \"outrigger.dev/inject\"?"],
        ),
        (
            "Files.outrigger.dev/x",
            &["did you mean \"files.outrigger.dev/x\"?"],
        ),
        (".outrigger.dev/x", &["names no instance \"\""]),
        ("t.outrigger.dev/a\u{202E}b\nc", &["\\u{202e}", "\\n"]),
    ] {
        let message = ask(&annotated([("outrigger.dev/inject", "t"), (key, "80")])).denied();
        for word in words {
            assert!(message.contains(word), "{key}: {message}");
        }
    }
    // Keys that only look like ours are somebody else's.
    for key in [
        "t.оutrigger.dev/port",
        "outrigger.device/x",
        "example.com/outrigger.dev",
        "t.outrigger.dev.example.com/port",
        "outrigger.dev",
    ] {
        ask(&ready(
            &[(key, "80")],
            json!({"containers": [{"name": "web"}]}),
        ))
        .injected();
        let alone = ask(&annotated([(key, "t")]));
        assert!(
            matches!(alone, Answer::Skipped("NotAsked")),
            "{key}: {alone:?}"
        );
    }
}

fn lists_of_profiles_that_mean_nothing_are_told() {
    let key = "outrigger.dev/inject";
    for (list, words) in [
        ("", &[key, "an empty item"] as &[&str]),
        (",", &["an empty item"]),
        ("t,", &["an empty item"]),
        ("t t", &["there is no profile \"t t\""]),
        ("T", &["there is no profile \"T\"", "did you mean \"t\"?"]),
        ("envoytls", &["did you mean \"envoy-tls\"?"]),
        ("../x", &["there is no profile \"../x\""]),
        ("ns/x", &["there is no profile \"ns/x\""]),
        (
            "https://evil.example.com/profile",
            &["there is no profile \"https://evil.example.com/profile\""],
        ),
        ("t,t", &["names the instance \"t\" twice", "t2=t"]),
        ("t,a=t,a=envoy-tls", &["names the instance \"a\" twice"]),
        ("none,t", &["\"none\" stands alone"]),
        ("a=none", &["\"none\" stands alone"]),
        ("a=", &["there is no profile \"\""]),
        ("=t", &["the instance name \"\""]),
        ("A=t", &["the instance name \"A\""]),
        ("a.b=t", &["the instance name \"a.b\""]),
        ("files=t", &["the instance name \"files\""]),
        ("../a=t", &["the instance name \"../a\""]),
        ("a=b=t", &["there is no profile \"b=t\""]),
        ("${params.x}", &["there is no profile \"${params.x}\""]),
        ("{{ .Values }}", &["there is no profile \"{{ .Values }}\""]),
        ("t\u{202E}", &["there is no profile \"t\\u{202e}\""]),
        ("е", &["there is no profile"]),
        ("NONE", &["there is no profile \"NONE\""]),
        ("true", &["there is no profile \"true\""]),
    ] {
        let message = ask(&annotated([(key, list)])).denied();
        for word in words {
            assert!(message.contains(word), "{list:?}: {message}");
        }
    }
    let many: Vec<String> = (0..33).map(|index| format!("a{index}=t")).collect();
    assert!(
        ask(&annotated([(key, many.join(",").as_str())]))
            .denied()
            .contains("more than 32 instances")
    );
    let huge = "t,".repeat(1_000_000);
    assert!(
        ask(&annotated([(key, huge.as_str())]))
            .denied()
            .contains("more than 32 instances")
    );
    for none in ["none", " none\n"] {
        assert!(matches!(
            ask(&annotated([(key, none)])),
            Answer::Skipped("OptedOut")
        ));
    }
}

fn all_problems_are_told_at_once() {
    let message = ask(&annotated([
        ("outrigger.dev/inject", "t"),
        ("t.outrigger.dev/port", "0"),
        ("t.outrigger.dev/switch", "yes"),
        ("t.outrigger.dev/image", "x"),
        ("t.outrigger.dev/nothing", "x"),
        ("u.outrigger.dev/port", "1"),
    ]))
    .denied();
    assert!(message.starts_with("outrigger: 5 problems:\n"), "{message}");
}

/// What the kubelet makes of a value (`third_party/forked/golang/expansion/expand.go`).
fn expand(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::new(), 0);
    while at < bytes.len() {
        if bytes[at] == '$' && at + 1 < bytes.len() {
            match bytes[at + 1] {
                '$' => {
                    out.push('$');
                    at += 2;
                    continue;
                }
                '(' => {
                    if let Some(end) = bytes[at + 2..].iter().position(|found| *found == ')') {
                        let _ = write!(
                            out,
                            "<{}>",
                            bytes[at + 2..at + 2 + end].iter().collect::<String>()
                        );
                        at += end + 3;
                        continue;
                    }
                }
                _ => {}
            }
        }
        out.push(bytes[at]);
        at += 1;
    }
    out
}

/// `$$(X)` became `$$$(X)`, which the kubelet reads as a dollar and a reference; `$` beside `(X)` became one.
fn a_value_never_becomes_a_reference_to_a_variable_of_the_container() {
    for (text, other) in [
        ("$(POD_IP)", "x"),
        ("$$(POD_IP)", "x"),
        ("$$$(POD_IP)", "x"),
        ("$$$$(POD_IP)", "x"),
        ("a$", "(POD_IP)"),
        ("a$$", "(POD_IP)"),
        ("$", "$(POD_IP)"),
        ("100$", "$$"),
        ("^a$", "b"),
        ("$(", ")"),
    ] {
        let pod = ask(&annotated([
            ("outrigger.dev/inject", "t"),
            ("t.outrigger.dev/text", text),
            ("t.outrigger.dev/other", other),
        ]))
        .injected();
        let container = &pod["spec"]["initContainers"][0];
        let expanded = |value: &Value| expand(value.as_str().unwrap());
        assert_eq!(expanded(&container["args"][1]), text);
        assert_eq!(
            expanded(&container["args"][2]),
            format!("--both={text}{other}")
        );
        assert_eq!(
            expanded(&container["args"][3]),
            "<POD_IP>",
            "a literal reference stays one"
        );
        assert_eq!(expanded(&container["env"][0]["value"]), text);
        assert_eq!(expanded(&container["env"][1]["value"]), "<POD_IP>:9000");
        assert_eq!(
            expanded(&pod["spec"]["containers"][0]["env"][0]["value"]),
            text
        );
        // A file is not expanded by anybody, and so not escaped.
        assert_eq!(file(&pod)["text"], text);
    }
    let pod = ask(&annotated([
        ("outrigger.dev/inject", "t"),
        ("t.outrigger.dev/text", "$(VAR)"),
        ("t.outrigger.dev/other", "b"),
    ]))
    .injected();
    assert_eq!(pod["spec"]["initContainers"][0]["args"][1], "$$(VAR)");
}

fn file(pod: &Value) -> Value {
    serde_json::from_str(
        pod["metadata"]["annotations"]["files.outrigger.dev/t.x.json"]
            .as_str()
            .unwrap(),
    )
    .unwrap()
}

fn values_stay_inside_of_their_string() {
    for text in [
        "${params.x}",
        "${ENV}",
        "$${instance}",
        "{{ .Values.x }}",
        "{{`x`}}",
        "\"}, \"evil\": {\"a\": \"",
        "\\\"}",
        "\\",
        "\\u0022",
        "]]}}",
        "a: b # c",
        "&a *a !!python/object:x",
        "- name: evil",
        "'; drop table",
        "%REQ(AUTHORIZATION)%",
        "%ENVIRONMENT(HOME)%",
        "\"#{`id`}\"",
        "</match><source>",
        "@include http://evil/x",
        "!fluent/s x",
        "null",
        "true",
        "1e999",
        "~0~1",
        "😀é漢",
        "<script>&amp;",
    ] {
        let pod = ask(&annotated([
            ("outrigger.dev/inject", "t"),
            ("t.outrigger.dev/text", text),
            ("t.outrigger.dev/other", "x"),
            ("t.outrigger.dev/document", &json!({"a": text}).to_string()),
        ]))
        .injected();
        let document = json!({"a": text}).to_string();
        assert_eq!(
            file(&pod),
            json!({"text": text, "inside": "a 1 b", "document": document, "last": true}),
            "{text}"
        );
        let container = &pod["spec"]["initContainers"][0];
        assert_eq!(expand(container["args"][1].as_str().unwrap()), text);
        let keys: Vec<&String> = container.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            [
                "name",
                "image",
                "restartPolicy",
                "args",
                "env",
                "ports",
                "resources",
                "volumeMounts"
            ]
        );
        assert_eq!(container["image"], "example.com/a:1");
        assert_eq!(pod["spec"]["initContainers"].as_array().unwrap().len(), 1);
    }
}

fn a_limit_below_its_request_is_denied() {
    let message = ask(&annotated([
        ("outrigger.dev/inject", "t"),
        ("t.outrigger.dev/text", "x"),
        ("t.outrigger.dev/other", "x"),
        ("t.outrigger.dev/cpu-limit", "5m"),
    ]))
    .denied();
    assert!(
        message.contains("container \"t\", resources: the cpu request 10m is above the limit 5m"),
        "{message}"
    );
}

const READY: [(&str, &str); 3] = [
    ("outrigger.dev/inject", "t"),
    ("t.outrigger.dev/text", "x"),
    ("t.outrigger.dev/other", "x"),
];

fn ready(extra: &[(&str, &str)], spec: Value) -> Value {
    pod(READY.into_iter().chain(extra.iter().copied()), spec)
}

fn collisions_and_pods_that_would_not_start_are_denied() {
    let web = json!({"name": "web"});
    for (extra, spec, words) in [
        (
            &[] as &[(&str, &str)],
            json!({"containers": [{"name": "t"}]}),
            &["container \"t\": the pod has a container of that name already"] as &[&str],
        ),
        (
            &[],
            json!({"containers": [web], "initContainers": [{"name": "t"}]}),
            &["container \"t\": the pod has a container of that name already"],
        ),
        (
            &[],
            json!({"containers": [web], "volumes": [{"name": "t-files", "emptyDir": {}}]}),
            &["volume \"t-files\": the pod has a volume of that name already"],
        ),
        (
            &[],
            json!({"containers": [{"name": "web", "ports": [{"containerPort": 9000}]}]}),
            &[
                "container \"t\", port 9000",
                "the container \"web\" of this pod uses the port already",
            ],
        ),
        (
            &[],
            json!({"containers": [{"name": "web", "env": [{"name": "GIVEN", "value": "mine"}]}]}),
            &["container \"web\", env \"GIVEN\": is already set to another value"],
        ),
        (
            &[],
            json!({"containers": [{"name": "web", "env": [{"name": "GIVEN", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}]}),
            &["env \"GIVEN\": is already set"],
        ),
        (
            &[],
            json!({"containers": [web], "hostNetwork": true}),
            &["spec.hostNetwork: the ports of \"t\" would be opened on the node"],
        ),
        (
            &[],
            json!({"containers": [{"name": "web", "volumeMounts": [{"name": "v", "mountPath": "/shared", "subPathExpr": "$(POD)"}]}], "volumes": [{"name": "v"}]}),
            &["subPathExpr", "which no other container can expand"],
        ),
        (
            &[(
                "container.apparmor.security.beta.kubernetes.io/t",
                "unconfined",
            )],
            json!({"containers": [web]}),
            &[
                "container.apparmor.security.beta.kubernetes.io/t: sets the AppArmor profile of a container that is injected",
            ],
        ),
        (
            &[("files.outrigger.dev/t.x.json", "{\"mine\": 1}")],
            json!({"containers": [web]}),
            &[
                "metadata.annotations[files.outrigger.dev/t.x.json]: is already \"{\\\"mine\\\": 1}\"",
            ],
        ),
        (
            &[],
            json!({"containers": [web], "resources": {"requests": {"cpu": "5m"}}}),
            &["spec.resources: with the sidecars the containers request more cpu"],
        ),
        (
            &[("t.outrigger.dev/path", "/files")],
            json!({"containers": [web]}),
            &["container \"t\", mountPath \"/files\": two volumes would be mounted there"],
        ),
    ] {
        let message = ask(&ready(extra, spec.clone())).denied();
        for word in words {
            assert!(message.contains(word), "{spec}: {message}");
        }
    }
}

fn instance_names_that_make_invalid_names_are_denied() {
    let named = |instance: &str| {
        let list = format!("{instance}=t");
        let keys = [
            format!("{instance}.outrigger.dev/text"),
            format!("{instance}.outrigger.dev/other"),
        ];
        ask(&annotated([
            ("outrigger.dev/inject", list.as_str()),
            (keys[0].as_str(), "x"),
            (keys[1].as_str(), "x"),
        ]))
    };
    let message = named("kube-api-access-x").denied();
    assert!(message.contains("volume \"kube-api-access-x-files\": names that begin with kube-api-access- belong to Kubernetes"), "{message}");
    let message = named(&"a".repeat(63)).denied();
    assert!(message.contains("-files\": the name is no DNS label of at most 63 characters; give the instance a shorter name"), "{message}");
    assert!(message.contains("at most 63 are allowed"), "{message}");
    named(&"a".repeat(50)).injected();
}

/// Whoever writes the annotation may write anything into it; what counts is what the pod bears out.
fn a_forged_status_does_not_stand_for_a_sidecar() {
    let revision = snapshot()
        .catalogue
        .get("t")
        .unwrap()
        .profile
        .revision
        .clone();
    let record = |revision: &str, container: &str, volume: &str| {
        json!({"instances": [{"instance": "t", "profile": "t", "revision": revision, "initContainers": [container], "containers": [], "volumes": [volume], "files": ["x.json"]}]}).to_string()
    };
    let empty = |revision: &str| {
        json!({"instances": [{"instance": "t", "profile": "t", "revision": revision}]}).to_string()
    };
    for forged in [
        record(&revision, "t", "t-files"),
        record("000000000000", "t", "t-files"),
        empty(&revision),
        empty("old"),
        "{}".to_owned(),
        "[]".to_owned(),
        "true".to_owned(),
        String::new(),
        "{\"instances\": {}}".to_owned(),
        "[".repeat(100_000),
    ] {
        let pod = ask(&ready(
            &[("outrigger.dev/status", &forged)],
            json!({"containers": [{"name": "web"}]}),
        ))
        .injected();
        assert_eq!(
            pod["spec"]["initContainers"][0]["name"], "t",
            "{forged:.100}"
        );
        let status: Value = serde_json::from_str(
            pod["metadata"]["annotations"]["outrigger.dev/status"]
                .as_str()
                .unwrap(),
        )
        .unwrap();
        assert_eq!(status["instances"][0]["revision"], revision.as_str());
    }
    // A container of that name that is not what was rendered does not pass for ours.
    let mut fake = ask(&ready(&[], json!({"containers": [{"name": "web"}]}))).injected();
    fake["spec"]["initContainers"][0]["args"] = json!(["--evil"]);
    assert!(ask(&fake).denied().contains("container \"t\": outrigger.dev/status says that \"t\" is injected, but the command or arguments"));
    let mut fake = ask(&ready(&[], json!({"containers": [{"name": "web"}]}))).injected();
    fake["metadata"]["annotations"]["files.outrigger.dev/t.x.json"] = json!("{}");
    assert!(
        ask(&fake)
            .denied()
            .contains("files.outrigger.dev/t.x.json: outrigger.dev/status says")
    );
    let mut fake = ask(&ready(&[], json!({"containers": [{"name": "web"}]}))).injected();
    fake["spec"]["initContainers"] = json!([]);
    fake["spec"]["containers"] = json!([{"name": "web"}, {"name": "t"}]);
    assert!(
        ask(&fake)
            .denied()
            .contains("container \"t\": the pod has a container of that name already")
    );
}

fn a_forged_mirror_annotation_only_forgoes_the_injection() {
    let answer = ask(&ready(
        &[("kubernetes.io/config.mirror", "x")],
        json!({"containers": [{"name": "web"}]}),
    ));
    assert!(matches!(answer, Answer::Skipped("MirrorPod")), "{answer:?}");
}

/// Who made the pod is written in the pod, and checked by the API server only after us.
fn an_owner_that_no_object_can_be_is_none() {
    let owner = |name: &str| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "0f61"});
    let mut controller = owner("controller");
    controller["controller"] = json!(true);
    let without_uid = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web"}]);
    let table: Vec<(Value, Option<&str>)> = vec![
        (Value::Null, None),
        (json!([]), None),
        (json!("web"), None),
        (json!({"name": "web"}), None),
        (json!([7]), None),
        (without_uid, None),
        (json!([owner("")]), None),
        (json!([owner("a\nb")]), None),
        (json!([owner("\u{1b}[31m")]), None),
        (json!([owner("größer")]), None),
        (json!([owner(&"x".repeat(254))]), None),
        (json!([owner("web")]), Some("web")),
        (json!([owner("web"), owner("other")]), Some("web")),
        (json!([owner("web"), controller]), Some("controller")),
    ];
    for (owners, expected) in table {
        let mut pod = ready(
            &[("outrigger.dev/inject", "no-such")],
            json!({"containers": [{"name": "web"}]}),
        );
        pod["metadata"]["ownerReferences"] = owners.clone();
        let body = envelope(&pod.to_string());
        let summary = review(body.as_bytes()).unwrap().summary;
        assert_eq!(summary.outcome, "denied", "{owners}");
        let found = summary.owner.map(|owner| owner.name);
        assert_eq!(found.as_deref(), expected, "{owners}");
    }
}

fn windows_pods_are_left_alone_with_a_warning() {
    let body =
        envelope(&ready(&[], json!({"containers": [], "os": {"name": "windows"}})).to_string());
    let reviewed = review(body.as_bytes()).unwrap();
    let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
    assert_eq!(reviewed.summary.reason, "Windows");
    assert!(
        answer["response"]["warnings"][0]
            .as_str()
            .unwrap()
            .contains("Windows"),
        "{answer}"
    );
}

fn a_pod_that_ends_gets_no_sidecar_that_does_not() {
    let profiles = [Arc::new(Profile::parse("test", EVERYTHING).unwrap())];
    let snapshot = Snapshot {
        catalogue: Catalogue::new(profiles),
        sidecars: SidecarMode::Container,
        ..Snapshot::default()
    };
    for policy in ["Never", "OnFailure"] {
        let message = ask_of(
            &snapshot,
            &ready(
                &[],
                json!({"containers": [{"name": "web"}], "restartPolicy": policy}),
            ),
        )
        .denied();
        assert!(
            message.contains("spec.restartPolicy: a pod that ends would never finish"),
            "{message}"
        );
    }
}

fn a_namespace_cannot_set_what_is_the_administrators() {
    let mut snapshot = Snapshot {
        catalogue: Catalogue::new([Arc::new(Profile::parse("test", EVERYTHING).unwrap())]),
        ..Snapshot::default()
    };
    let mut facts = Namespace::default();
    facts
        .annotations
        .insert("t.outrigger.dev/image".to_owned(), "evil".to_owned());
    facts
        .annotations
        .insert("t.outrigger.dev/team".to_owned(), "red".to_owned());
    facts
        .annotations
        .insert("t.outrigger.dev/teem".to_owned(), "red".to_owned());
    snapshot
        .namespaces
        .insert_mut("shop".into(), std::sync::Arc::new(facts));
    let message = ask_of(
        &snapshot,
        &ready(&[], json!({"containers": [{"name": "web"}]})),
    )
    .denied();
    assert!(message.starts_with("outrigger: 2 problems:"), "{message}");
    assert!(
        message.contains(
            "t.outrigger.dev/image (on the namespace): can be set only by the administrator"
        ),
        "{message}"
    );
    assert!(
        message.contains(
            "(on the namespace): the profile \"t\" has no such parameter; did you mean \"team\"?"
        ),
        "{message}"
    );
}

/// The status that is written with the patch was not counted.
fn annotations_are_counted_with_the_status_that_is_added() {
    const LIMIT: usize = 256 * 1024;
    let size = |pod: &Value| -> usize {
        let annotations = pod["metadata"]["annotations"].as_object().unwrap();
        annotations
            .iter()
            .map(|(key, value)| key.len() + value.as_str().unwrap().len())
            .sum()
    };
    let small = size(
        &ask(&ready(
            &[("note", "")],
            json!({"containers": [{"name": "web"}]}),
        ))
        .injected(),
    );
    let fill = "x".repeat(LIMIT - small);
    let full = ask(&ready(
        &[("note", &fill)],
        json!({"containers": [{"name": "web"}]}),
    ))
    .injected();
    assert_eq!(size(&full), LIMIT);
    assert!(matches!(ask(&full), Answer::Skipped("AlreadyInjected")));
    let message = ask(&ready(
        &[("note", &format!("{fill}x"))],
        json!({"containers": [{"name": "web"}]}),
    ))
    .denied();
    assert!(
        message
            .contains("metadata.annotations: would hold 262145 bytes, at most 262144 are allowed"),
        "{message}"
    );
}

/// They made a message of many megabytes, with a search for the nearest name for each.
fn a_hundred_thousand_annotations_make_a_short_answer() {
    let keys: Vec<String> = (0..100_000)
        .map(|index| format!("t.outrigger.dev/parameter-{index}"))
        .collect();
    let message = ask(&annotated(
        keys.iter()
            .map(|key| (key.as_str(), "x"))
            .chain([("outrigger.dev/inject", "t")]),
    ))
    .denied();
    assert!(message.contains("100000 problems"), "{}", &message[..200]);
    assert!(
        message.ends_with("and 99950 more"),
        "{}",
        &message[message.len() - 200..]
    );
    let foreign: Vec<String> = (0..100_000)
        .map(|index| format!("example.com/a{index}"))
        .collect();
    let message = ask(&annotated(
        foreign.iter().map(|key| (key.as_str(), "x")).chain(READY),
    ))
    .denied();
    assert!(
        message.contains("metadata.annotations: would hold"),
        "{message}"
    );
    let items = (0..100_000)
        .map(|index| format!("a{index}"))
        .collect::<Vec<_>>()
        .join(",");
    let message = ask(&annotated([
        ("outrigger.dev/inject", "t"),
        ("t.outrigger.dev/names", items.as_str()),
    ]))
    .denied();
    assert!(message.contains("100000 items, from 0 to 3"), "{message}");
}

fn operations(pod: &Value) -> Vec<Value> {
    let reviewed = review(envelope(&pod.to_string()).as_bytes()).unwrap();
    assert_eq!(
        reviewed.summary.outcome, "injected",
        "{:?}",
        reviewed.summary.message
    );
    let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
    serde_json::from_slice(
        &STANDARD
            .decode(answer["response"]["patch"].as_str().unwrap())
            .unwrap(),
    )
    .unwrap()
}

fn pods_of_thousands_of_parts_get_patches_that_grow_with_the_containers_only() {
    let containers = |count: usize| -> Value {
        (0..count)
            .map(|index| json!({"name": format!("c{index}")}))
            .collect()
    };
    // Per container: its env, and its mount of the share. Else: three annotations, two volumes, one init container.
    for count in [1, 50, 5000] {
        assert_eq!(
            operations(&ready(&[], json!({"containers": containers(count)}))).len(),
            2 * count + 4,
            "{count}"
        );
    }
    let env: Value = (0..5000)
        .map(|index| json!({"name": format!("E{index}"), "value": "x"}))
        .collect();
    let mounts: Value = (0..5000)
        .map(|index| json!({"name": "v", "mountPath": format!("/m{index}")}))
        .collect();
    let volumes: Value = (0..5000)
        .map(|index| json!({"name": format!("v{index}")}))
        .collect();
    let pod = ready(
        &[],
        json!({"containers": [{"name": "web", "env": env, "volumeMounts": mounts}], "volumes": volumes}),
    );
    assert_eq!(operations(&pod).len(), 7);
    let init: Value = (0..5000)
        .map(|index| json!({"name": format!("i{index}")}))
        .collect();
    assert_eq!(
        operations(&ready(
            &[],
            json!({"containers": [{"name": "web"}], "initContainers": init})
        ))
        .len(),
        6
    );
    // A record that claims one name a hundred thousand times is looked up, not searched for.
    let claims = vec!["c4999"; 100_000];
    let forged = json!({"instances": [{"instance": "t", "profile": "t", "revision": "old", "initContainers": [], "containers": claims, "volumes": []}]}).to_string();
    let answer = ask(&ready(
        &[("outrigger.dev/status", &forged)],
        json!({"containers": containers(5000)}),
    ));
    assert!(
        matches!(answer, Answer::Skipped("AlreadyInjected")),
        "{answer:?}"
    );
}

fn reviews_that_are_none_are_refused_and_the_field_is_named() {
    let pod = annotated([("outrigger.dev/inject", "t")]).to_string();
    let good = envelope(&pod);
    let deep = format!("{{\"metadata\":{}", "{\"a\":".repeat(100_000));
    let text = |text: &str| text.as_bytes().to_vec();
    let mut invalid = good.clone().into_bytes();
    let at = good.find("web").unwrap();
    invalid[at] = 0xFF;
    let mut half = text(&good);
    half.truncate(good.len() / 2);
    for (body, words) in [
        (Vec::new(), "no AdmissionReview"),
        (text("null"), "no AdmissionReview"),
        (text("[]"), "kind: given \"\""),
        (text("{}"), "kind: given \"\""),
        (text("\u{FEFF}{}"), "no AdmissionReview"),
        (half, "no AdmissionReview"),
        (invalid, "no AdmissionReview"),
        (text(&format!("{good}x")), "trailing"),
        (
            text(&good.replace("\"AdmissionReview\"", "\"Pod\"")),
            "kind: given \"Pod\"",
        ),
        (
            text(&good.replace("k8s.io/v1", "k8s.io/v2")),
            "apiVersion: given \"admission.k8s.io/v2\"",
        ),
        (
            text(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#),
            "request: missing",
        ),
        (
            text(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}"#),
            "request: missing",
        ),
        (
            text(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}"#),
            "request.uid",
        ),
        (
            text(&good.replace("\"uid\":\"u\"", "\"uid\":\"\"")),
            "request.uid",
        ),
        (
            text(&good.replace("\"uid\":\"u\"", "\"uid\":1")),
            "no AdmissionReview",
        ),
        (
            text(&good.replace("\"operation\"", "\"uid\":\"v\",\"operation\"")),
            "duplicate field `uid`",
        ),
        (
            text(&good.replace("\"operation\"", "\"object\":{},\"operation\"")),
            "duplicate field `object`",
        ),
        (
            text(&envelope(r#"{"spec":{"containers":{}}}"#)),
            "no AdmissionReview",
        ),
        (
            text(&envelope(
                r#"{"metadata":{"annotations":{"a":1}},"spec":{}}"#,
            )),
            "no AdmissionReview",
        ),
        (
            text(&envelope(
                r#"{"metadata":{"annotations":{"a":"\ud800"}},"spec":{}}"#,
            )),
            "no AdmissionReview",
        ),
        (
            text(&envelope(
                r#"{"spec":{"containers":[{"name":"\udc00\ud800"}]}}"#,
            )),
            "no AdmissionReview",
        ),
        (deep.clone().into_bytes(), "no AdmissionReview"),
        (
            text(&envelope(&format!(
                "{}{}",
                "[".repeat(100_000),
                "]".repeat(100_000)
            ))),
            "no AdmissionReview",
        ),
        (
            text(&envelope(&format!(
                "{{\"metadata\":{{\"annotations\":{}",
                "{\"a\":".repeat(100_000)
            ))),
            "no AdmissionReview",
        ),
    ] {
        let error = review(&body).unwrap_err();
        assert!(
            error.message.contains(words),
            "{words}: {:.300}",
            error.message
        );
        assert!(error.message.len() < 1000, "{}", error.message.len());
    }
}

fn reviews_of_something_else_are_allowed_untouched() {
    let pod = annotated([("outrigger.dev/inject", "nonsense")]).to_string();
    let good = envelope(&pod);
    for body in [
        good.replace("CREATE", "DELETE"),
        good.replace("CREATE", "UPDATE"),
        good.replace("CREATE", "create"),
        good.replace("\"kind\":\"Pod\"", "\"kind\":\"Deployment\""),
        good.replace("\"group\":\"\"", "\"group\":\"example.com\""),
        good.replace(
            "\"operation\"",
            "\"subResource\":\"ephemeralcontainers\",\"operation\"",
        ),
        envelope("null"),
        envelope("{}"),
        envelope(r#"{"metadata":null,"spec":null}"#),
        good.replace(&format!(",\"object\":{pod}"), ""),
    ] {
        let reviewed = review(body.as_bytes()).unwrap();
        assert_eq!(reviewed.summary.reason, "NotPodCreate", "{body:.300}");
        assert_eq!(reviewed.body, br#"{"response":{"uid":"u","allowed":true},"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#);
    }
}

fn odd_things_in_fields_that_are_not_ours_stand_in_nobodys_way() {
    let pod = |field: &str| {
        let pod = annotated(READY).to_string();
        pod.replacen("\"spec\":{", &format!("\"spec\":{{{field},"), 1)
    };
    let ten_megabytes = format!("\"a\":\"{}\"", "x".repeat(10_000_000));
    let deep = format!("\"a\":{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for field in [
        "\"a\":18446744073709551616",
        "\"a\":1e999",
        "\"a\":-0.0",
        "\"a\":\"\\ud800\"",
        "\"a\":1,\"a\":2",
        "\"~1/~0\":1",
        "\"\":null",
        &ten_megabytes,
        &deep,
    ] {
        let reviewed = review(envelope(&pod(field)).as_bytes()).unwrap();
        assert_eq!(
            reviewed.summary.outcome, "injected",
            "{field:.50}: {:?}",
            reviewed.summary.message
        );
    }
    for uid in ["a\\u0000b\\n\\\"", "\\u2028", "../../x"] {
        let body =
            envelope(&pod("\"a\":1")).replace("\"uid\":\"u\"", &format!("\"uid\":\"{uid}\""));
        let reviewed = review(body.as_bytes()).unwrap();
        let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
        let sent: Value = serde_json::from_str(&format!("\"{uid}\"")).unwrap();
        assert_eq!(answer["response"]["uid"], sent);
    }
}

/// Not the API server's doing: its encoder writes each key once. A forged review gets an answer all the same.
fn duplicate_annotation_keys_get_one_meaning() {
    let twice = r#"{"metadata":{"annotations":{"outrigger.dev/inject":"t","t.outrigger.dev/text":"a","t.outrigger.dev/text":"b","t.outrigger.dev/other":"x"}},"spec":{"containers":[]}}"#;
    let reviewed = review(envelope(twice).as_bytes()).unwrap();
    assert!(matches!(reviewed.summary.outcome, "injected" | "denied"));
    assert_eq!(review(envelope(twice).as_bytes()).unwrap(), reviewed);
}

fn v1beta1_is_answered_in_kind() {
    let body = envelope(&annotated(READY).to_string()).replace("k8s.io/v1", "k8s.io/v1beta1");
    let answer: Value = serde_json::from_slice(&review(body.as_bytes()).unwrap().body).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1beta1");
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
}

/// Rows of one profile: annotations, the one at fault, words of the denial.
type Rows = &'static [(
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static [&'static str],
)];

fn rows(profile: &str, rows: Rows) {
    let mut failures = Vec::new();
    for (values, culprit, words) in rows {
        refuse_of(profile, values, culprit, words, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn envoy_tls_refuses_what_would_change_its_configuration() {
    rows(
        "envoy-tls",
        &[
            (&[], "secret", &["the name of the Secret"]),
            (
                &[("secret", "../other")],
                "secret",
                &["Secrets and ConfigMaps"],
            ),
            (
                &[("secret", "/etc/shadow")],
                "secret",
                &["Secrets and ConfigMaps"],
            ),
            (
                &[("secret", "a"), ("certificate-key", "../x")],
                "certificate-key",
                &["a key of a Secret"],
            ),
            (
                &[("secret", "a"), ("listen-port", "0")],
                "listen-port",
                &["from 1024 to 65535"],
            ),
            (
                &[("secret", "a"), ("listen-port", "65536")],
                "listen-port",
                &["from 1024 to 65535"],
            ),
            (
                &[("secret", "a"), ("listen-port", "443")],
                "listen-port",
                &["from 1024 to 65535"],
            ),
            (
                &[("secret", "a"), ("upstream-port", "9901")],
                "listen-port",
                &["must all differ"],
            ),
            (
                &[("secret", "a"), ("listen-address", "0.0.0.0")],
                "listen-address",
                &["only by the administrator"],
            ),
            (
                &[("secret", "a"), ("image", "evil")],
                "image",
                &["only by the administrator"],
            ),
            (
                &[("secret", "a"), ("access-log", "%REQ(AUTHORIZATION)%")],
                "access-log",
                &["one of"],
            ),
            (
                &[
                    ("secret", "a"),
                    ("jwks-uri", "http://169.254.169.254/x"),
                    ("jwt-issuer", "i"),
                ],
                "jwks-uri",
                &["expected an https address"],
            ),
            (
                &[
                    ("secret", "a"),
                    ("jwks-uri", "https://169.254.169.254/x"),
                    ("jwt-issuer", "i"),
                ],
                "jwks-uri",
                &["an address of this pod or node"],
            ),
            (
                &[
                    ("secret", "a"),
                    ("jwks-uri", "https://localhost:9901/x"),
                    ("jwt-issuer", "i"),
                ],
                "jwks-uri",
                &["an address of this pod or node"],
            ),
            (
                &[
                    ("secret", "a"),
                    ("jwks-uri", "https://u@h/x"),
                    ("jwt-issuer", "i"),
                ],
                "jwks-uri",
                &["https"],
            ),
            (
                &[
                    ("secret", "a"),
                    ("jwks", "{\"keys\": ["),
                    ("jwt-issuer", "i"),
                ],
                "jwks",
                &["a JSON document"],
            ),
            (
                &[("secret", "a"), ("request-timeout", "1e9s")],
                "request-timeout",
                &["a number of seconds"],
            ),
            (
                &[("secret", "a"), ("static-resources", "{}")],
                "static-resources",
                &["no such parameter"],
            ),
        ],
    );
    // Metacharacters in free text stay in their string of the bootstrap.
    let issuer = "\"}, {\"name\": \"evil\", \"%REQ(AUTHORIZATION)%\": \"${x}";
    let keys =
        "{\"keys\": [{\"kty\": \"RSA\", \"n\": \"AQAB\", \"e\": \"AQAB\"}], \"x\": \"\\\"}]\"}";
    let pod = ask(&annotated([
        ("outrigger.dev/inject", "envoy-tls"),
        ("envoy-tls.outrigger.dev/secret", "a"),
        ("envoy-tls.outrigger.dev/jwt-issuer", issuer),
        ("envoy-tls.outrigger.dev/jwks", keys),
    ]))
    .injected();
    let bootstrap: Value = serde_json::from_str(
        pod["metadata"]["annotations"]["files.outrigger.dev/envoy-tls.bootstrap.json"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    let text = bootstrap.to_string();
    assert_eq!(text.matches(&json!(issuer).to_string()).count(), 1);
    assert_eq!(text.matches(&json!(keys).to_string()).count(), 1);
    assert_eq!(
        bootstrap["admin"]["address"]["socket_address"]["address"],
        "127.0.0.1"
    );
}

/// Active as soon as the profile is more than a name.
fn envoy_egress_refuses_upstreams_that_are_nobodys_business() {
    if !is_real("envoy-egress") {
        assert!(matches!(
            ask(&annotated([("outrigger.dev/inject", "envoy-egress")])),
            Answer::Injected(_)
        ));
        return;
    }
    rows(
        "envoy-egress",
        &[
            (&[], "upstream", &["is required"]),
            (
                &[("upstream", "169.254.169.254:80")],
                "upstream",
                &["link-local"],
            ),
            (&[("upstream", "[fe80::1]:80")], "upstream", &["link-local"]),
            (
                &[("upstream", "metadata.google.internal:80")],
                "upstream",
                &["metadata"],
            ),
            (
                &[("upstream", "localhost:9901")],
                "upstream",
                &["the pod itself"],
            ),
            (
                &[("upstream", "127.0.0.1:9901")],
                "upstream",
                &["the pod itself"],
            ),
            (
                &[("upstream", "[::1]:9901")],
                "upstream",
                &["the pod itself"],
            ),
            (
                &[("upstream", "[0:0:0:0:0:0:0:1]:9901")],
                "upstream",
                &["the pod itself"],
            ),
            (
                &[("upstream", "[::ffff:169.254.169.254]:80")],
                "upstream",
                &["in its usual form"],
            ),
            (&[("upstream", "2852039166:80")], "upstream", &["HOST:PORT"]),
            (
                &[("upstream", "kubernetes.default:443")],
                "upstream",
                &["the Kubernetes API"],
            ),
            (
                &[("upstream", "kubernetes.default.svc.cluster.local:443")],
                "upstream",
                &["the Kubernetes API"],
            ),
            (&[("upstream", "db:0")], "upstream", &["HOST:PORT"]),
            (&[("upstream", "db\"}:1")], "upstream", &["HOST:PORT"]),
            (
                &[("upstream", "db:5432"), ("listen-port", "80")],
                "listen-port",
                &["from 1024 to 65535"],
            ),
            (
                &[("upstream", "db:5432"), ("image", "evil")],
                "image",
                &["only by the administrator"],
            ),
            (
                &[("upstream", "db:5432"), ("ca-secret", "../x")],
                "ca-secret",
                &["Secrets and ConfigMaps"],
            ),
        ],
    );
}

/// Active as soon as the profile is more than a name.
fn fluentd_refuses_paths_tags_and_text_that_its_configuration_could_run() {
    if !is_real("fluentd") {
        assert!(matches!(
            ask(&annotated([("outrigger.dev/inject", "fluentd")])),
            Answer::Injected(_)
        ));
        return;
    }
    rows(
        "fluentd",
        &[
            (&[], "path", &["is required"]),
            (&[("path", "/etc/**")], "path", &["an absolute path"]),
            (
                &[("path", "/var/*")],
                "path",
                &["a wildcard may stand only below"],
            ),
            (&[("path", "/a/x\"#{`id`}\".log")], "path", &["given"]),
            (
                &[("path", "/var/log/a.log"), ("tag", "**")],
                "tag",
                &["a tag of letters"],
            ),
            (
                &[("path", "/var/log/a.log"), ("tag", "#{`id`}")],
                "tag",
                &["a tag of letters"],
            ),
            (
                &[
                    ("path", "/var/log/a.log"),
                    ("tag", "a\n@include http://evil/x"),
                ],
                "tag",
                &["U+000A"],
            ),
            (
                &[("path", "/var/log/a.log"), ("time-key", "\"#{`id`}\"")],
                "time-key",
                &["the name of a field"],
            ),
            (
                &[("path", "/var/log/a.log"), ("enable-ruby", "true")],
                "enable-ruby",
                &["no such parameter"],
            ),
            (
                &[
                    ("path", "/var/log/a.log"),
                    ("output-uri", "http://a/</match><source>"),
                    ("output", "http"),
                ],
                "output-uri",
                &["given"],
            ),
            (
                &[
                    ("path", "/var/log/a.log"),
                    ("output-host", "169.254.169.254"),
                    ("output", "forward"),
                ],
                "output-host",
                &["this pod or node"],
            ),
            (
                &[
                    ("path", "/var/log/a.log"),
                    ("output-path", "/etc/cron.d/x"),
                    ("output", "file"),
                ],
                "output-path",
                &["/etc belongs to the system"],
            ),
            (
                &[
                    ("path", "/var/log/a.log"),
                    ("parser", "regexp"),
                    ("parser-expression", "(?<a>\n)"),
                ],
                "parser-expression",
                &["U+000A"],
            ),
            (
                &[("path", "/var/log/a.log"), ("image", "evil")],
                "image",
                &["only by the administrator"],
            ),
            (
                &[("path", "/var/log/a.log"), ("flush-interval", "1s\\")],
                "flush-interval",
                &["a number of seconds or minutes"],
            ),
        ],
    );
    // What begins like Ruby, a list or a tag of Fluentd's is text when it is read as JSON.
    for text in ["(?<a>\"#\\{`id`\\}\")", "[a](?<a>x)", "(?<a>!fluent/s)\\\\"] {
        let pod = ask(&annotated([
            ("outrigger.dev/inject", "fluentd"),
            ("fluentd.outrigger.dev/path", "/var/log/a.log"),
            ("fluentd.outrigger.dev/parser", "regexp"),
            ("fluentd.outrigger.dev/parser-expression", text),
        ]))
        .injected();
        let annotations = pod["metadata"]["annotations"].as_object().unwrap();
        // As in JSON: nothing of it is evaluated. Each place that holds it holds it whole.
        let files: Vec<Value> = annotations
            .iter()
            .filter(|(key, _)| key.starts_with("files.outrigger.dev/fluentd."))
            .filter_map(|(_, content)| serde_json::from_str(content.as_str().unwrap()).ok())
            .collect();
        let written = json!(text).to_string();
        let written = written.trim_matches('"');
        let holders = files
            .iter()
            .filter(|file| file.to_string().contains(written))
            .count();
        assert_eq!(holders, 1, "{text}: {annotations:?}");
    }
}

macro_rules! tests {
    ($($test:path),* $(,)?) => {
        vec![$(Test::new(stringify!($test), || Box::pin(async {
            $test();
            Ok(())
        }))),*]
    };
}

fn main() -> ExitCode {
    process::around(|| {
        testkit::harness::run(tests![
            values_outside_of_their_grammar_name_the_key_and_what_is_expected,
            unknown_and_misspelt_keys_are_told_with_the_nearest_name,
            lists_of_profiles_that_mean_nothing_are_told,
            all_problems_are_told_at_once,
            a_value_never_becomes_a_reference_to_a_variable_of_the_container,
            values_stay_inside_of_their_string,
            a_limit_below_its_request_is_denied,
            collisions_and_pods_that_would_not_start_are_denied,
            instance_names_that_make_invalid_names_are_denied,
            a_forged_status_does_not_stand_for_a_sidecar,
            a_forged_mirror_annotation_only_forgoes_the_injection,
            an_owner_that_no_object_can_be_is_none,
            windows_pods_are_left_alone_with_a_warning,
            a_pod_that_ends_gets_no_sidecar_that_does_not,
            a_namespace_cannot_set_what_is_the_administrators,
            annotations_are_counted_with_the_status_that_is_added,
            a_hundred_thousand_annotations_make_a_short_answer,
            pods_of_thousands_of_parts_get_patches_that_grow_with_the_containers_only,
            reviews_that_are_none_are_refused_and_the_field_is_named,
            reviews_of_something_else_are_allowed_untouched,
            odd_things_in_fields_that_are_not_ours_stand_in_nobodys_way,
            duplicate_annotation_keys_get_one_meaning,
            v1beta1_is_answered_in_kind,
            envoy_tls_refuses_what_would_change_its_configuration,
            envoy_egress_refuses_upstreams_that_are_nobodys_business,
            fluentd_refuses_paths_tags_and_text_that_its_configuration_could_run,
            items::every_item_gets_what_is_expected,
            items::the_list_is_the_one_that_is_shown,
        ])
    })
}
