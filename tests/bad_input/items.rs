//! The list of bad inputs: every item of every row, what is sent, and what must become of it. `docs/reliability.md` shows
//! it.

use outrigger::admission::{self, Webhook};
use serde_json::{Value, json};
use testkit::wire::{post, post_head};

use super::{Answer, READY, annotated, ask, envelope, file, process, ready, review, snapshot};

/// What is sent.
enum Input {
    /// A pod that is created.
    Pod(Value),
    /// The body of a review.
    Body(Vec<u8>),
    /// A profile that is applied.
    Profile(Value),
    /// A request, byte by byte.
    Request(Vec<u8>),
}

/// What must become of it.
enum Expected {
    /// A denial that says each of these.
    Denied(Vec<String>),
    /// A sidecar, and a pod of which this holds.
    Injected(Box<dyn Fn(&Value)>),
    /// It is allowed as it is, for this reason.
    Left(&'static str),
    /// An HTTP status.
    Status(u16),
    /// A review is answered, which is what the chunks hold, and the connection is closed (RFC 9112, section 6.3).
    ByChunks,
    /// The connection is closed without an answer.
    Closed,
}

impl Expected {
    fn as_str(&self) -> String {
        match self {
            Self::Denied(_) => "denied".to_owned(),
            Self::Injected(_) => "injected, and nothing of it but a value".to_owned(),
            Self::Left(_) => "left alone".to_owned(),
            Self::Status(status) => format!("HTTP {status}"),
            Self::ByChunks => "taken by its chunks, and the connection is closed".to_owned(),
            Self::Closed => "the connection is closed".to_owned(),
        }
    }
}

struct Item {
    row: &'static str,
    /// As it is shown.
    name: String,
    cases: Vec<(Input, Expected)>,
}

fn words(words: &[&str]) -> Expected {
    Expected::Denied(words.iter().map(|word| (*word).to_owned()).collect())
}

/// A parameter of a profile that is refused by its key, and why.
fn refused(profile: &str, name: &str, value: &str, why: &str) -> (Input, Expected) {
    let key = format!("{profile}.outrigger.dev/{name}");
    let pod = annotated([("outrigger.dev/inject", profile), (key.as_str(), value)]);
    (Input::Pod(pod), words(&[&key, why]))
}

/// The same of an instance that has what it needs otherwise.
fn refused_beside(
    profile: &str,
    beside: &[(&str, &str)],
    name: &str,
    value: &str,
    why: &str,
) -> (Input, Expected) {
    let given = instance(profile, beside.iter().copied().chain([(name, value)]));
    let key = format!("{profile}.outrigger.dev/{name}");
    (Input::Pod(given), words(&[&key, why]))
}

fn instance<'a>(profile: &str, values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let keys: Vec<(String, &str)> = values
        .into_iter()
        .map(|(name, value)| (format!("{profile}.outrigger.dev/{name}"), value))
        .collect();
    let pairs = keys.iter().map(|(key, value)| (key.as_str(), *value));
    annotated(pairs.chain([("outrigger.dev/inject", profile)]))
}

/// A text that comes out whole where a text stands, and makes nothing else.
fn whole(text: &'static str) -> (Input, Expected) {
    let pod = instance("t", [("text", text), ("other", "x")]);
    let check = move |pod: &Value| {
        assert_eq!(
            file(pod),
            json!({"text": text, "inside": "a 1 b", "last": true}),
        );
        assert_eq!(pod["spec"]["initContainers"].as_array().unwrap().len(), 1);
        assert_eq!(pod["spec"]["initContainers"][0]["image"], "example.com/a:1");
        assert_eq!(pod["spec"]["containers"].as_array().unwrap().len(), 1);
    };
    (Input::Pod(pod), Expected::Injected(Box::new(check)))
}

/// How many texts of a tree are this one, whole; as values and as keys.
fn held(tree: &Value, text: &str) -> (usize, usize) {
    let add = |(a, b): (usize, usize), (c, d): (usize, usize)| (a + c, b + d);
    match tree {
        Value::String(held) => (usize::from(held == text), 0),
        Value::Array(items) => items.iter().map(|it| held(it, text)).fold((0, 0), add),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| add(held(value, text), (0, usize::from(key == text))))
            .fold((0, 0), add),
        _ => (0, 0),
    }
}

/// A text that stands once, whole, as a value (`written`), in what a profile writes for its program.
fn in_a_file(
    profile: &'static str,
    beside: &[(&str, &str)],
    name: &str,
    text: &'static str,
    written: &str,
) -> (Input, Expected) {
    let written = written.to_owned();
    let pod = instance(profile, beside.iter().copied().chain([(name, text)]));
    let check = move |pod: &Value| {
        let prefix = format!("files.outrigger.dev/{profile}.");
        let annotations = pod["metadata"]["annotations"].as_object().unwrap();
        let files = annotations
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix));
        let trees: Vec<Value> = files
            .filter_map(|(_, content)| serde_json::from_str(content.as_str().unwrap()).ok())
            .collect();
        assert_eq!(
            held(&json!(trees), &written),
            (1, 0),
            "{text}: {annotations:?}"
        );
        assert_eq!(pod["spec"]["initContainers"].as_array().unwrap().len(), 1);
    };
    (Input::Pod(pod), Expected::Injected(Box::new(check)))
}

fn with_spec(spec: Value, expected: Expected) -> (Input, Expected) {
    (Input::Pod(ready(&[], spec)), expected)
}

fn with_annotation(key: &str, value: &str, expected: Expected) -> (Input, Expected) {
    let spec = json!({"containers": [{"name": "web"}]});
    (Input::Pod(ready(&[(key, value)], spec)), expected)
}

fn injected() -> Expected {
    Expected::Injected(Box::new(|pod| {
        assert_eq!(pod["spec"]["initContainers"][0]["name"], "t");
    }))
}

fn profile(name: &str, container: &Value, why: &[&str]) -> (Input, Expected) {
    let bounds = json!({"cpu": "10m", "memory": "16Mi"});
    let mut sidecar = json!({
        "name": "${instance}", "image": "registry.example.com/a:1", "restartPolicy": "Always",
        "resources": {"requests": bounds, "limits": bounds},
    });
    for (key, value) in container.as_object().unwrap() {
        sidecar[key] = value.clone();
    }
    let object = json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile", "metadata": {"name": name},
        "spec": {"summary": "Hostile.", "initContainers": [sidecar]},
    });
    (Input::Profile(object), words(why))
}

fn body(text: impl Into<Vec<u8>>, status: u16) -> (Input, Expected) {
    (Input::Body(text.into()), Expected::Status(status))
}

fn left(text: String, reason: &'static str) -> (Input, Expected) {
    (Input::Body(text.into_bytes()), Expected::Left(reason))
}

fn request(bytes: impl Into<Vec<u8>>, status: u16) -> (Input, Expected) {
    (Input::Request(bytes.into()), Expected::Status(status))
}

fn sorted_out(row: &'static str, items: Vec<(&str, Vec<(Input, Expected)>)>) -> Vec<Item> {
    let item = |(name, cases): (&str, _)| Item {
        row,
        name: name.to_owned(),
        cases,
    };
    items.into_iter().map(item).collect()
}

fn grammar() -> Vec<Item> {
    let t = |name, value, why| refused("t", name, value, why);
    let big = "x".repeat(256 * 1024);
    let many: Vec<String> = (0..100_000)
        .map(|at| format!("t.outrigger.dev/p{at}"))
        .collect();
    let many = annotated(many.iter().map(|key| (key.as_str(), "x")).chain(READY));
    // The API server's encoder writes each key once; a forged review gets one meaning.
    let twice = envelope(
        r#"{"metadata":{"annotations":{"outrigger.dev/inject":"t","t.outrigger.dev/text":"a","t.outrigger.dev/text":"b","t.outrigger.dev/other":"x"}},"spec":{"containers":[{"name":"web"}]}}"#,
    );
    let one_meaning = Expected::Injected(Box::new(|pod| {
        let text = &pod["spec"]["initContainers"][0]["args"][1];
        assert!(text == "a" || text == "b", "{text}");
    }));
    let uid_twice = envelope(&annotated(READY).to_string())
        .replace("\"operation\"", "\"uid\":\"v\",\"operation\"");
    sorted_out(
        "Grammar",
        vec![
            (
                r#"`100m"\n  - name: evil\n    image: x`"#,
                vec![
                    t(
                        "cpu-limit",
                        "100m\"\n  - name: evil\n    image: x",
                        "a Kubernetes quantity",
                    ),
                    t("text", "100m\"\n  - name: evil\n    image: x", "U+000A"),
                    whole("100m\"\\n  - name: evil\\n    image: x"),
                ],
            ),
            ("NUL", vec![t("text", "a\0b", "U+0000")]),
            ("CR", vec![t("text", "a\rb", "U+000D")]),
            ("U+2028", vec![t("text", "a\u{2028}b", "U+2028")]),
            ("BOM", vec![t("text", "\u{FEFF}a", "U+FEFF")]),
            (
                "right-to-left override",
                vec![t("text", "a\u{202E}b", "U+202E")],
            ),
            ("`{{ .Values }}`", vec![whole("{{ .Values }}")]),
            ("`${ENV}`", vec![whole("${ENV}")]),
            ("`${params.x}`", vec![whole("${params.x}")]),
            ("`$(VAR)`", vec![whole("$(VAR)")]),
            ("YAML anchors", vec![whole("&a *a")]),
            ("YAML tags", vec![whole("!!python/object:x")]),
            (
                "billion laughs",
                vec![whole("{a: &a [x,x], b: &b [*a,*a], c: [*b,*b]}")],
            ),
            (
                "256 KiB of annotations",
                vec![with_annotation(
                    "note",
                    &big,
                    words(&["metadata.annotations: would hold"]),
                )],
            ),
            (
                "`-1`",
                vec![
                    t("port", "-1", "from 1 to 65535"),
                    t("cpu-limit", "-1", "negative"),
                ],
            ),
            (
                "`1e999`",
                vec![
                    t("ratio", "1e999", "a number"),
                    t("cpu-limit", "1e999", "quantity"),
                ],
            ),
            ("`0`", vec![t("port", "0", "from 1 to 65535")]),
            (
                "`1Ei`",
                vec![
                    t("port", "1Ei", "from 1 to 65535"),
                    t("ratio", "1Ei", "a number"),
                ],
            ),
            (
                "`NaN`",
                vec![
                    t("ratio", "NaN", "a number"),
                    t("port", "NaN", "from 1 to 65535"),
                ],
            ),
            (
                "`٣`",
                vec![
                    t("port", "٣", "from 1 to 65535"),
                    t("cpu-limit", "٣", "quantity"),
                ],
            ),
            (
                "limit below request",
                vec![(
                    Input::Pod(instance(
                        "t",
                        [("text", "x"), ("other", "x"), ("cpu-limit", "5m")],
                    )),
                    words(&["container \"t\", resources", "above the limit 5m"]),
                )],
            ),
            ("`TRUE`", vec![t("switch", "TRUE", "\"true\" or \"false\"")]),
            (
                "` true`",
                vec![t("switch", " true", "\"true\" or \"false\"")],
            ),
            ("`yes`", vec![t("switch", "yes", "\"true\" or \"false\"")]),
            ("`1`", vec![t("switch", "1", "\"true\" or \"false\"")]),
            (
                "empty",
                vec![
                    t("switch", "", "\"true\" or \"false\""),
                    t("text", "", "empty"),
                ],
            ),
            ("keys with `~1`", vec![t("a~1b", "x", "no such parameter")]),
            ("keys with `~0`", vec![t("a~0b", "x", "no such parameter")]),
            ("keys with `/`", vec![t("a/b", "x", "no such parameter")]),
            (
                "homoglyphs of keys",
                vec![t("pоrt", "80", "no such parameter")],
            ),
            (
                "case variants of keys",
                vec![t("PORT", "80", "did you mean \"port\"?")],
            ),
            (
                "duplicate JSON keys",
                vec![
                    (Input::Body(twice.into_bytes()), one_meaning),
                    body(uid_twice, 400),
                ],
            ),
            (
                "10⁵ parameters",
                vec![(Input::Pod(many), words(&["100000 problems"]))],
            ),
        ],
    )
}

fn privilege() -> Vec<Item> {
    let t = |name, value, why| refused("t", name, value, why);
    let no = |name, value| refused("t", name, value, "no such parameter");
    let web = json!({"name": "web"});
    let power = |context: Value| {
        profile(
            "hostile",
            &json!({"securityContext": context}),
            &["securityContext", "allow"],
        )
    };
    let list = |list: &str| {
        let why = format!("there is no profile \"{list}\"");
        (
            Input::Pod(annotated([("outrigger.dev/inject", list)])),
            words(&["outrigger.dev/inject", &why]),
        )
    };
    let hostile_env = |name: &'static str| {
        let spec =
            json!({"containers": [{"name": "web", "env": [{"name": name, "value": "evil"}]}]});
        let ours_has_none = Expected::Injected(Box::new(move |pod: &Value| {
            let ours = pod["spec"]["initContainers"][0]["env"].as_array().unwrap();
            assert!(
                ours.iter().all(|variable| variable["name"] != name),
                "{ours:?}"
            );
        }));
        vec![with_spec(spec, ours_has_none), no("env", name)]
    };
    let mount = |path| vec![t("path", path, "t.outrigger.dev/path: ")];
    sorted_out(
        "Privilege",
        vec![
            ("hostPath", vec![no("host-path", "/")]),
            ("mount over `/`", mount("/")),
            ("mount over `/proc`", mount("/proc")),
            ("mount over `/dev`", mount("/dev")),
            ("mount over `/etc`", mount("/etc/ssl")),
            (
                "mount over the token path",
                mount("/var/run/secrets/kubernetes.io/serviceaccount"),
            ),
            (
                "`subPath: ../..`",
                vec![t("path", "/a/../..", "\"..\""), no("sub-path", "../..")],
            ),
            (
                "another registry's image",
                vec![t(
                    "image",
                    "evil.example.com/x",
                    "only by the administrator",
                )],
            ),
            (
                "privileged",
                vec![no("privileged", "true"), power(json!({"privileged": true}))],
            ),
            (
                "added capabilities",
                vec![
                    no("capabilities", "SYS_ADMIN"),
                    power(json!({"capabilities": {"add": ["SYS_ADMIN"]}})),
                ],
            ),
            ("uid 0", vec![no("run-as-user", "0")]),
            (
                "hostPort",
                vec![
                    no("host-port", "80"),
                    profile(
                        "hostile",
                        &json!({"ports": [{"containerPort": 80, "hostPort": 80}]}),
                        &["hostPort"],
                    ),
                ],
            ),
            (
                "hostNetwork",
                vec![with_spec(
                    json!({"containers": [web], "hostNetwork": true}),
                    words(&["spec.hostNetwork"]),
                )],
            ),
            (
                "`mountPropagation: Bidirectional`",
                vec![profile(
                    "hostile",
                    &json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]}),
                    &["mountPropagation"],
                )],
            ),
            (
                "profile name `../x`",
                vec![
                    list("../x"),
                    profile("../x", &json!({}), &["metadata.name"]),
                ],
            ),
            (
                "profile name `ns/x`",
                vec![
                    list("ns/x"),
                    profile("ns/x", &json!({}), &["metadata.name"]),
                ],
            ),
            (
                "profile name that is a URL",
                vec![list("https://evil.example.com/x")],
            ),
            (
                "another's Secret",
                vec![
                    t("secret", "ns/x", "Secrets and ConfigMaps"),
                    t("secret", "../x", "Secrets and ConfigMaps"),
                ],
            ),
            (
                "another's ServiceAccount",
                vec![no("service-account-name", "default")],
            ),
            (
                "AppArmor annotation for our container",
                vec![with_annotation(
                    "container.apparmor.security.beta.kubernetes.io/t",
                    "unconfined",
                    words(&["container.apparmor.security.beta.kubernetes.io/t: "]),
                )],
            ),
            (
                "a forged \"already injected\" status",
                vec![with_annotation(
                    "outrigger.dev/status",
                    r#"{"instances":[{"instance":"t","profile":"t","revision":"1"}]}"#,
                    injected(),
                )],
            ),
            (
                "a container with our name",
                vec![with_spec(
                    json!({"containers": [{"name": "t"}]}),
                    words(&["container \"t\": the pod has"]),
                )],
            ),
            (
                "a volume with our name",
                vec![with_spec(
                    json!({"containers": [web], "volumes": [{"name": "t-files", "emptyDir": {}}]}),
                    words(&["volume \"t-files\": the pod has"]),
                )],
            ),
            (
                "a port of ours",
                vec![with_spec(
                    json!({"containers": [{"name": "web", "ports": [{"containerPort": 9000}]}]}),
                    words(&["port 9000", "\"web\""]),
                )],
            ),
            (
                "a forged mirror annotation",
                vec![with_annotation(
                    "kubernetes.io/config.mirror",
                    "x",
                    Expected::Left("MirrorPod"),
                )],
            ),
            (
                "volume `kube-api-access-x`",
                vec![(
                    Input::Pod(annotated([
                        ("outrigger.dev/inject", "kube-api-access-x=t"),
                        ("kube-api-access-x.outrigger.dev/text", "x"),
                        ("kube-api-access-x.outrigger.dev/other", "x"),
                    ])),
                    words(&["volume \"kube-api-access-x-files\"", "belong to Kubernetes"]),
                )],
            ),
            ("environment `LD_PRELOAD`", hostile_env("LD_PRELOAD")),
            ("environment `RUBYOPT`", hostile_env("RUBYOPT")),
            ("environment `ENVOY_UID`", hostile_env("ENVOY_UID")),
            ("environment `HTTP_PROXY`", hostile_env("HTTP_PROXY")),
        ],
    )
}

fn envoy() -> Vec<Item> {
    let egress = |value, why| vec![refused("envoy-egress", "upstream", value, why)];
    let tls = |name, value, why| refused_beside("envoy-tls", &[("secret", "a")], name, value, why);
    let none = |name, value| vec![tls(name, value, "no such parameter")];
    let jwt = [
        ("secret", "a"),
        (
            "jwks",
            r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#,
        ),
    ];
    let issuer = |text| in_a_file("envoy-tls", &jwt, "jwt-issuer", text, text);
    sorted_out(
        "Envoy",
        vec![
            (
                "upstream `169.254.169.254`",
                egress("169.254.169.254:80", "link-local"),
            ),
            (
                "upstream `localhost:9901`",
                egress("localhost:9901", "the pod itself"),
            ),
            (
                "upstream `kubernetes.default`",
                egress("kubernetes.default:443", "the Kubernetes API"),
            ),
            (
                "admin on 0.0.0.0",
                vec![
                    tls("admin-address", "0.0.0.0", "no such parameter"),
                    tls("listen-address", "0.0.0.0", "only by the administrator"),
                ],
            ),
            (
                "quotes and braces that close YAML or JSON",
                vec![
                    issuer("\"}, {\"name\": \"evil\", \"x\": \"${x}"),
                    issuer("'}]\\n- name: evil # \\"),
                    refused("envoy-egress", "upstream", "db\"}:1", "HOST:PORT"),
                ],
            ),
            ("extra `static_resources`", none("static-resources", "{}")),
            ("Lua", none("lua", "os.execute('id')")),
            ("Wasm", none("wasm", "http://evil.example.com/x.wasm")),
            ("dynamic modules", none("dynamic-modules", "/tmp/x.so")),
            (
                "`%REQ(AUTHORIZATION)%` in an access log format",
                vec![
                    tls("access-log", "%REQ(AUTHORIZATION)%", "one of"),
                    issuer("%REQ(AUTHORIZATION)%"),
                ],
            ),
            (
                "`%ENVIRONMENT%` in an access log format",
                vec![
                    tls("access-log", "%ENVIRONMENT(HOME)%", "one of"),
                    issuer("%ENVIRONMENT(HOME)%"),
                ],
            ),
            (
                "port 0",
                vec![tls("listen-port", "0", "from 1024 to 65535")],
            ),
            (
                "port 65536",
                vec![tls("listen-port", "65536", "from 1024 to 65535")],
            ),
            (
                "certificate path `/etc/shadow`",
                vec![
                    refused(
                        "envoy-tls",
                        "secret",
                        "/etc/shadow",
                        "Secrets and ConfigMaps",
                    ),
                    tls("certificate-key", "/etc/shadow", "a key of a Secret"),
                ],
            ),
        ],
    )
}

fn fluentd() -> Vec<Item> {
    let log = [("path", "/var/log/app/a.log")];
    let beside = |name, value, why| refused_beside("fluentd", &log, name, value, why);
    let path = |value, why| vec![refused("fluentd", "path", value, why)];
    let parser = [log[0], ("parser", "regexp")];
    // A regular expression stands between slashes.
    let text = |text| {
        let written = format!("/{text}/");
        in_a_file("fluentd", &parser, "parser-expression", text, &written)
    };
    sorted_out(
        "Fluentd",
        vec![
            (
                "`\"#{`id`}\"` in double quotes",
                vec![
                    beside("tag", "\"#{`id`}\"", "a tag of letters"),
                    text("(?<a>\"#\\{`id`\\}\")"),
                ],
            ),
            (
                "`#{…}` in unquoted `[…]` and `{…}`",
                vec![
                    beside("time-key", "[\"#{`id`}\"]", "the name of a field"),
                    text("[#\\{`id`\\}](?<a>x)"),
                ],
            ),
            (
                "newline + `@include http://evil/x`",
                vec![beside("tag", "a\n@include http://evil/x", "U+000A")],
            ),
            (
                "`</match><source>\\n@type exec`",
                vec![
                    beside("tag", "</match><source>\n@type exec", "U+000A"),
                    text("(?<a></match><source>)"),
                ],
            ),
            (
                "`enable_ruby true`",
                vec![beside("enable-ruby", "true", "no such parameter")],
            ),
            // An empty volume of the pod, that it shares with the application.
            (
                "path `/var/log/*`",
                vec![in_a_file(
                    "fluentd",
                    &[],
                    "path",
                    "/var/log/*",
                    "/var/log/*",
                )],
            ),
            (
                "path `/var/*`",
                path("/var/*", "a wildcard may stand only below"),
            ),
            ("path `/etc/**`", path("/etc/**", "an absolute path")),
            ("tag `**`", vec![beside("tag", "**", "a tag of letters")]),
            (
                "a value that begins with `\"`",
                vec![beside("tag", "\"x", "a tag of letters"), text("\"(?<a>x)")],
            ),
            (
                "a value that begins with `'`",
                vec![beside("tag", "'x", "a tag of letters"), text("'(?<a>x)")],
            ),
            (
                "a value that begins with `[`",
                vec![beside("tag", "[x", "a tag of letters"), text("[a](?<a>x)")],
            ),
            (
                "a value that begins with `{`",
                vec![beside("tag", "{x", "a tag of letters")],
            ),
            (
                "a value that begins with `!fluent/s`",
                vec![
                    beside("tag", "!fluent/s x", "a tag of letters"),
                    text("!fluent/s (?<a>x)"),
                ],
            ),
            (
                "a trailing backslash",
                vec![
                    beside("flush-interval", "1s\\", "seconds or minutes"),
                    text("(?<a>x)\\\\"),
                ],
            ),
        ],
    )
}

fn review_and_http() -> Vec<Item> {
    let good = envelope(&annotated(READY).to_string());
    let object = annotated(READY).to_string();
    let with_field = |field: &str| {
        let pod = object.replacen("\"spec\":{", &format!("\"spec\":{{{field},"), 1);
        (Input::Body(envelope(&pod).into_bytes()), injected())
    };
    let many = |field: &str, item: &dyn Fn(usize) -> Value| {
        let items: Value = (0..5000).map(item).collect();
        let mut spec = json!({"containers": [{"name": "web"}]});
        match field {
            "env" => spec["containers"][0]["env"] = items,
            _ => spec[field] = items,
        }
        with_spec(spec, injected())
    };
    let mut invalid = good.clone().into_bytes();
    let at = good.find("shop").unwrap();
    invalid[at] = 0xFF;
    let typed = |line: &str| {
        let head = format!(
            "POST /mutate HTTP/1.1\r\nHost: x\r\n{line}Content-Length: {}\r\n\r\n",
            good.len()
        );
        head + &good
    };
    let encoded = |encoding: &str| {
        typed(&format!(
            "Content-Type: application/json\r\nContent-Encoding: {encoding}\r\n"
        ))
    };
    let by_chunks = |lines: &str| {
        let chunk = format!("{:x}\r\n{good}\r\n0\r\n\r\n", good.len());
        let sent = post_head("/mutate", lines) + &chunk;
        (Input::Request(sent.into_bytes()), Expected::ByChunks)
    };
    let get = |method: &str| format!("{method} /mutate HTTP/1.1\r\nHost: x\r\n\r\n");
    let forged = good.replace(
        "\"operation\"",
        "\"userInfo\":{\"username\":\"system:admin\",\"groups\":[\"system:masters\"]},\"operation\"",
    );
    let elsewhere = good.replace(
        "\"metadata\":{",
        "\"metadata\":{\"namespace\":\"kube-system\",",
    );
    let control = good.replace("\"uid\":\"u\"", "\"uid\":\"a\\u0000\\r\\n\\u001b[31m\"");
    let deep = |brackets: (&str, &str)| {
        format!(
            "\"a\":{}{}",
            brackets.0.repeat(100_000),
            brackets.1.repeat(100_000)
        )
    };
    sorted_out(
        "Review and HTTP",
        vec![
            (
                "request missing",
                vec![body(
                    r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#,
                    400,
                )],
            ),
            (
                "uid missing",
                vec![body(good.replace("\"uid\":\"u\",", ""), 400)],
            ),
            (
                "object missing",
                vec![left(
                    good.replace(&format!(",\"object\":{object}"), ""),
                    "NotPodCreate",
                )],
            ),
            (
                "`object: null`",
                vec![left(envelope("null"), "NotPodCreate")],
            ),
            (
                "DELETE",
                vec![left(good.replace("CREATE", "DELETE"), "NotPodCreate")],
            ),
            (
                "a kind other than Pod",
                vec![left(
                    good.replace("\"kind\":\"Pod\"", "\"kind\":\"Deployment\""),
                    "NotPodCreate",
                )],
            ),
            (
                "`v2`",
                vec![body(good.replace("k8s.io/v1", "k8s.io/v2"), 400)],
            ),
            (
                "nesting 10⁵",
                vec![
                    with_field(&deep(("[", "]"))),
                    body(envelope(&"[".repeat(100_000)), 400),
                ],
            ),
            (
                "a 10 MB string",
                vec![request(
                    post(
                        "/mutate",
                        envelope(&object.replace("web", &"x".repeat(10_000_000))),
                    ),
                    413,
                )],
            ),
            ("2⁶⁴", vec![with_field("\"a\":18446744073709551616")]),
            (
                "lone surrogates",
                vec![
                    with_field("\"a\":\"\\ud800\""),
                    body(envelope(&object.replace("\"x\"", "\"\\ud800\"")), 400),
                ],
            ),
            ("invalid UTF-8", vec![body(invalid, 400)]),
            (
                "control characters in the uid",
                vec![(Input::Body(control.into_bytes()), injected())],
            ),
            (
                "5,000 containers",
                vec![many("containers", &|at| json!({"name": format!("c{at}")}))],
            ),
            (
                "5,000 environment variables",
                vec![many(
                    "env",
                    &|at| json!({"name": format!("E{at}"), "value": "x"}),
                )],
            ),
            (
                "5,000 volumes",
                vec![many("volumes", &|at| json!({"name": format!("v{at}")}))],
            ),
            (
                "wrong content type",
                vec![request(typed("Content-Type: text/plain\r\n"), 415)],
            ),
            ("missing content type", vec![request(typed(""), 415)]),
            (
                "compressed bodies",
                vec![request(encoded("gzip"), 415), request(encoded("br"), 415)],
            ),
            ("GET", vec![request(get("GET"), 405)]),
            ("PUT", vec![request(get("PUT"), 405)]),
            ("`//mutate`", vec![request(post("//mutate", &good), 404)]),
            (
                "`/mutate/../metrics`",
                vec![request(post("/mutate/../metrics", &good), 404)],
            ),
            (
                "Content-Length with Transfer-Encoding",
                vec![
                    by_chunks("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
                    by_chunks("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
                ],
            ),
            (
                "Transfer-Encoding of which chunks are not the last",
                vec![request(
                    post_head("/mutate", "Transfer-Encoding: chunked, x\r\n") + "0\r\n\r\n",
                    400,
                )],
            ),
            (
                "Content-Length twice",
                vec![request(
                    post_head("/mutate", "Content-Length: 5\r\nContent-Length: 6\r\n") + "12345",
                    400,
                )],
            ),
            (
                "an h2c preface",
                vec![(
                    Input::Request(
                        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
                    ),
                    Expected::Closed,
                )],
            ),
            (
                "forged userInfo",
                vec![(Input::Body(forged.into_bytes()), injected())],
            ),
            (
                "namespace mismatch",
                vec![(Input::Body(elsewhere.into_bytes()), injected())],
            ),
        ],
    )
}

fn items() -> Vec<Item> {
    let rows = [
        grammar(),
        privilege(),
        envoy(),
        fluentd(),
        review_and_http(),
    ];
    rows.into_iter().flatten().collect()
}

/// What a body that is a review came to, by the library and by the process.
fn judged(sent: &[u8]) -> Answer {
    let reviewed = review(sent).unwrap();
    let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
    let request: Value = serde_json::from_slice(sent).unwrap_or_default();
    match reviewed.summary.outcome {
        "injected" => {
            use base64::Engine as _;
            let patch = answer["response"]["patch"].as_str().unwrap();
            let patch = base64::engine::general_purpose::STANDARD
                .decode(patch)
                .unwrap();
            let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
            let mut pod = request["request"]["object"].clone();
            // What this library cannot read, ours is not asked to.
            if pod.is_null() {
                pod = annotated(READY);
            }
            json_patch::patch(&mut pod, &patch).unwrap();
            Answer::Injected(pod)
        }
        "denied" => Answer::Denied(reviewed.summary.message.unwrap_or_default()),
        _ => Answer::Skipped(reviewed.summary.reason),
    }
}

/// What becomes of a profile, by the library and by the process.
fn judged_profile(object: &Value) -> Answer {
    let sent = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "operation": "CREATE", "name": object["metadata"]["name"],
            "kind": {"group": "outrigger.dev", "version": "v1alpha1", "kind": "SidecarProfile"},
            "object": object,
        },
    })
    .to_string();
    let reviewed = admission::answer(Webhook::Profile, sent.as_bytes(), snapshot()).unwrap();
    let told = process::ask(post("/validate-profile", &sent));
    assert_eq!(
        (told.status, told.body.as_bytes()),
        (200, reviewed.body.as_slice())
    );
    match reviewed.summary.outcome {
        "denied" => Answer::Denied(reviewed.summary.message.unwrap_or_default()),
        _ => Answer::Skipped(reviewed.summary.reason),
    }
}

fn check(answer: Answer, expected: &Expected) -> Result<(), String> {
    match (answer, expected) {
        (Answer::Denied(message), Expected::Denied(words)) => {
            match words.iter().find(|word| !message.contains(*word)) {
                Some(word) => Err(format!("{word:?} is not in {message:.600}")),
                None => Ok(()),
            }
        }
        (Answer::Injected(pod), Expected::Injected(holds)) => {
            holds(&pod);
            Ok(())
        }
        (Answer::Skipped(reason), Expected::Left(expected)) if reason == *expected => Ok(()),
        (answer, expected) => Err(format!(
            "expected {}, got {answer:.600?}",
            expected.as_str()
        )),
    }
}

pub(crate) fn every_item_gets_what_is_expected() {
    let mut failures = Vec::new();
    let mut count = 0;
    for item in items() {
        for (at, (input, expected)) in item.cases.iter().enumerate() {
            count += 1;
            let outcome = match (input, expected) {
                (Input::Body(sent), Expected::Status(400)) => match review(sent) {
                    Err(_) => Ok(()),
                    Ok(reviewed) => Err(format!("it was a review: {:.300?}", reviewed.summary)),
                },
                (Input::Request(sent), Expected::Status(status)) => {
                    let told = process::ask(sent.clone());
                    if told.status == *status {
                        Ok(())
                    } else {
                        Err(format!("expected {status}, got {told:.300?}"))
                    }
                }
                (Input::Request(sent), Expected::ByChunks) => {
                    let told = process::ask(sent.clone());
                    let answered = told.json().is_ok_and(|it| it["response"]["uid"] == "u");
                    if told.status == 200 && answered && told.has("connection: close") {
                        Ok(())
                    } else {
                        Err(format!("expected an answer and an end, got {told:.300?}"))
                    }
                }
                (Input::Request(sent), Expected::Closed) => match process::try_ask(sent.clone()) {
                    Err(_) => Ok(()),
                    Ok(told) => Err(format!("expected no answer, got {told:.300?}")),
                },
                (Input::Pod(pod), expected) => check(ask(pod), expected),
                (Input::Body(sent), expected) => check(judged(sent), expected),
                (Input::Profile(object), expected) => check(judged_profile(object), expected),
                (Input::Request(_), _) => Err("a request has a status".to_owned()),
            };
            if let Err(why) = outcome {
                failures.push(format!("{}, {}, case {at}: {why}", item.row, item.name));
            }
        }
    }
    eprintln!("{count} cases of bad input");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A new item needs a case, and a case is shown.
pub(crate) fn the_list_is_the_one_that_is_shown() {
    const BEGIN: &str = "<!-- bad input -->\n";
    const END: &str = "<!-- end of bad input -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    let mut table = "| | input | what becomes of it |\n|---|---|---|\n".to_owned();
    for item in items() {
        assert!(!item.cases.is_empty(), "{} has no case", item.name);
        let mut becomes: Vec<String> = item.cases.iter().map(|(_, it)| it.as_str()).collect();
        becomes.dedup();
        table.push_str(&format!(
            "| {} | {} | {} |\n",
            item.row,
            item.name,
            becomes.join("; ")
        ));
    }
    if std::env::var_os("UPDATE_RELIABILITY").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(shown, table, "run this test with UPDATE_RELIABILITY=1");
}
