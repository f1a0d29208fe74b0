//! Profiles that must be refused when they are loaded, each with the path of the culprit, and what good ones
//! come to.
//!
//! The first table is the reference of refusals: a piece of `spec`, the path, a part of the message. A row
//! that loads, or is refused for another reason or at another place, fails.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger::admission::{self, Snapshot};
use outrigger::profile::{Catalogue, Defaults, Profile, ProfileError};
use serde_json::{Value, json};

const HEAD: &str =
    "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: t}\nspec:\n";

fn parse(spec: &str) -> Result<Profile, ProfileError> {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    Profile::parse(
        "test",
        &format!("{HEAD}  summary: A profile of a test.\n{indented}"),
    )
}

#[track_caller]
fn good(spec: &str) -> Profile {
    parse(spec).unwrap_or_else(|error| panic!("{spec}\n{error}"))
}

/// Fails unless a problem stands at `path` and says `message`.
fn expect(
    spec: &str,
    result: Result<Profile, ProfileError>,
    path: &str,
    message: &str,
    failures: &mut Vec<String>,
) {
    match result {
        Ok(_) => failures.push(format!("loads, but should be refused at {path}: {spec}")),
        Err(error) => {
            if !error
                .problems
                .iter()
                .any(|problem| problem.path == path && problem.message.contains(message))
            {
                failures.push(format!(
                    "{spec}\n  expected {path}: …{message}…\n  got {error}"
                ));
            }
        }
    }
}

fn table(rows: &[(&str, &str, &str)]) {
    let mut failures = Vec::new();
    for (spec, path, message) in rows {
        expect(spec, parse(spec), path, message, &mut failures);
    }
    assert!(
        failures.is_empty(),
        "{} of {} rows:\n{}",
        failures.len(),
        rows.len(),
        failures.join("\n")
    );
}

#[test]
fn unknown_fields_are_refused_at_every_level() {
    table(&[
        ("colour: red", "spec.colour", "unknown field"),
        ("initcontainers: []", "spec.initcontainers", "unknown field"),
        (
            "match: {podselector: {}}",
            "spec.match.podselector",
            "unknown field",
        ),
        (
            "match: {podSelector: {matchlabels: {a: b}}}",
            "spec.match.podSelector.matchlabels",
            "unknown field",
        ),
        (
            "match: {podSelector: {matchExpressions: [{key: a, operator: Exists, value: b}]}}",
            "spec.match.podSelector.matchExpressions[0].value",
            "unknown field",
        ),
        (
            "validations: [{expression: 'true', message: m, param: a}]",
            "spec.validations[0].param",
            "unknown field",
        ),
        (
            "warnings: [{when: 'true', message: m, if: a}]",
            "spec.warnings[0].if",
            "unknown field",
        ),
        (
            "application: {envs: []}",
            "spec.application.envs",
            "unknown field",
        ),
        ("pod: {label: {}}", "spec.pod.label", "unknown field"),
        (
            "parameters: {a: {type: array, items: {type: string, patern: x}, description: d}}",
            "spec.parameters.a.items.patern",
            "unknown field",
        ),
        (
            "shares: [{name: a, path: /a, sizeLimit: 1Mi, readonly: true}]",
            "spec.shares[0].readonly",
            "no such field",
        ),
    ]);
}

/// A flattened struct let them through: `settableby: Admin` left the parameter to every pod.
#[test]
fn a_misspelt_field_of_a_parameter_is_refused() {
    table(&[
        (
            "parameters: {a: {type: string, description: d, settableby: Admin}}",
            "spec.parameters.a.settableby",
            "unknown field",
        ),
        (
            "parameters: {a: {type: string, description: d, patern: x}}",
            "spec.parameters.a.patern",
            "unknown field",
        ),
        (
            "parameters: {a: {type: string, description: d, maximumLength: 3}}",
            "spec.parameters.a.maximumLength",
            "unknown field",
        ),
    ]);
}

#[test]
fn documents_that_are_no_profile_are_refused() {
    let rows = [
        ("[]", "apiVersion", "missing"),
        ("x", "apiVersion", "missing"),
        ("", "apiVersion", "missing"),
        (
            "apiVersion: outrigger.dev/v1\nkind: SidecarProfile\nmetadata: {name: a}\nspec: {summary: s}",
            "apiVersion",
            "expected \"outrigger.dev/v1alpha1\"",
        ),
        (
            "apiVersion: outrigger.dev/v1alpha1\nkind: Profile\nmetadata: {name: a}\nspec: {summary: s}",
            "kind",
            "expected \"SidecarProfile\"",
        ),
        (
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nspec: {summary: s}",
            "",
            "metadata",
        ),
        (
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: a}",
            "",
            "spec",
        ),
        (
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: a}\nspec: {}",
            "spec",
            "summary",
        ),
        (
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: a}\nspec: {summary: ' '}",
            "spec.summary",
            "a sentence",
        ),
        (
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: a}\nspec: {summary: s}\nextra: 1",
            "extra",
            "unknown field",
        ),
        (
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: A}\nspec: {summary: s}",
            "metadata.name",
            "DNS label",
        ),
        (
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: a.b}\nspec: {summary: s}",
            "metadata.name",
            "DNS label",
        ),
        (
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: ../x}\nspec: {summary: s}",
            "metadata.name",
            "DNS label",
        ),
        (
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: files}\nspec: {summary: s}",
            "metadata.name",
            "meaning of its own",
        ),
        (
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: none}\nspec: {summary: s}",
            "metadata.name",
            "meaning of its own",
        ),
        ("apiVersion: [", "", "no YAML"),
        ("a: &a [*a]", "", "no YAML"),
        ("a: 1\na: 2", "", "duplicate"),
        ("\u{0}", "", "no YAML"),
    ];
    let mut failures = Vec::new();
    for (text, path, message) in rows {
        expect(
            text,
            Profile::parse("test", text),
            path,
            message,
            &mut failures,
        );
    }
    let long = "a".repeat(64);
    let text = format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {{name: {long}}}\nspec: {{summary: s}}"
    );
    expect(
        &text,
        Profile::parse("test", &text),
        "metadata.name",
        "DNS label",
        &mut failures,
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn yaml_bombs_are_refused_before_they_grow() {
    let mut laughs = String::from("files:\n  x.json:\n    a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for index in 1..10 {
        let list = vec![format!("*a{}", index - 1); 10].join(",");
        laughs.push_str(&format!("    a{index}: &a{index} [{list}]\n"));
    }
    let deep = format!(
        "files: {{x.json: {}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    for text in [laughs, deep] {
        let error = parse(&text).unwrap_err();
        assert!(error.problems[0].message.contains("no YAML"), "{error}");
    }
}

#[test]
fn expressions_are_checked_when_the_profile_is_loaded() {
    table(&[
        ("variables: {a: '1 +'}", "spec.variables.a", "is no CEL"),
        (
            "variables: {a: \"instance.matches('[a')\"}",
            "spec.variables.a",
            "\"[a\" is no pattern",
        ),
        (
            "variables: {a: 'params.x'}",
            "spec.variables.a",
            "no parameter \"x\"",
        ),
        (
            "parameters: {upstreamPort: {type: integer, description: d}}\nvariables: {a: params.upstreamport}",
            "spec.variables.a",
            "did you mean \"upstreamPort\"?",
        ),
        (
            "variables: {a: variables.b}",
            "spec.variables.a",
            "no variable \"b\"",
        ),
        (
            "variables: {a: 'variables.b + 1', b: variables.a}",
            "spec.variables",
            "in a circle: a, b",
        ),
        (
            "variables: {a: variables.a}",
            "spec.variables",
            "in a circle: a",
        ),
        (
            "variables: {a: {x: '${variables.b}'}, b: {y: '${variables.a}'}}",
            "spec.variables",
            "in a circle",
        ),
        (
            "variables: {a: shout('x')}",
            "spec.variables.a",
            "no function \"shout\"",
        ),
        (
            "variables: {a: \"'x'.lowerAsci()\"}",
            "spec.variables.a",
            "did you mean \"lowerAscii\"?",
        ),
        (
            "variables: {a: parms.x}",
            "spec.variables.a",
            "did you mean \"params\"?",
        ),
        (
            "variables: {a: params}",
            "spec.variables.a",
            "read by field",
        ),
        (
            "variables: {a: 'params[\"x\"]'}",
            "spec.variables.a",
            "read by field",
        ),
        (
            "variables: {a: request.userInfo}",
            "spec.variables.a",
            "no field \"userInfo\"",
        ),
        (
            "variables: {a: \"{'x': 1}.map(k, k)\"}",
            "spec.variables.a",
            "whose order CEL does not define",
        ),
        (
            "variables: {m: \"{'x': 1}\", a: 'variables.m.map(k, k)'}",
            "spec.variables.a",
            "whose order CEL does not define",
        ),
        (
            "variables: {m: {x: 1}, a: 'variables.m.map(k, k)'}",
            "spec.variables.a",
            "whose order CEL does not define",
        ),
        (
            "variables: {a: 'object.metadata.labels.map(k, k)'}",
            "spec.variables.a",
            "whose order CEL does not define",
        ),
        (
            "variables: {a: \"(instance == 'x' ? {'x': 1} : {}).map(k, k)\"}",
            "spec.variables.a",
            "whose order CEL does not define",
        ),
        (
            "parameters: {p: {type: string, pattern: 'a)|(b', description: d}}",
            "spec.parameters.p.pattern",
            "this is no regular expression",
        ),
        (
            "parameters: {in: {type: string, description: d}}",
            "spec.parameters.in",
            "is a word of CEL",
        ),
        (
            "files: {x.json: {a: '${}'}}",
            "spec.files.x.json.a",
            "an empty expression",
        ),
        (
            "files: {x.json: {a: '${ }'}}",
            "spec.files.x.json.a",
            "an empty expression",
        ),
        (
            "files: {x.json: {a: 'x ${instance'}}",
            "spec.files.x.json.a",
            "without its }",
        ),
        (
            "files: {x.json: {a: [{b: '${x}'}]}}",
            "spec.files.x.json.a[0].b",
            "there is no \"x\" here",
        ),
        (
            "files: {x.json: {'${instance}': 1}}",
            "spec.files.x.json.${instance}",
            "keys are literal",
        ),
        (
            "files: {x.json: {includeWhen: 'true'}}",
            "spec.files.x.json.includeWhen",
            "expected a list",
        ),
        (
            "files: {x.json: {includeWhen: [true]}}",
            "spec.files.x.json.includeWhen[0]",
            "expected CEL without",
        ),
        (
            "files: {x.json: {includeWhen: ['${true}']}}",
            "spec.files.x.json.includeWhen[0]",
            "expected CEL without",
        ),
        (
            "files: {x.json: {includeWhen: ['x']}}",
            "spec.files.x.json.includeWhen[0]",
            "there is no \"x\" here",
        ),
        (
            "validations: [{expression: 'x', message: m}]",
            "spec.validations[0].expression",
            "there is no \"x\" here",
        ),
        (
            "validations: [{expression: 'true', message: 'a ${x}'}]",
            "spec.validations[0].message",
            "there is no \"x\" here",
        ),
        (
            "validations: [{expression: 'true', message: m, parameter: p}]",
            "spec.validations[0].parameter",
            "no parameter \"p\"",
        ),
        (
            "validations: [['true', m, null, more]]",
            "spec.validations[0]",
            "fewer elements",
        ),
        (
            "validations: [{expression: 'true'}]",
            "spec.validations[0]",
            "missing field `message`",
        ),
        (
            "warnings: [{when: '(', message: m}]",
            "spec.warnings[0].when",
            "is no CEL",
        ),
        (
            "warnings: [{when: 'true', message: '${'}]",
            "spec.warnings[0].message",
            "without its }",
        ),
        ("shares: '${x}'", "spec.shares", "there is no \"x\" here"),
        (
            "pod: {labels: {a: '${x}'}}",
            "spec.pod.labels.a",
            "there is no \"x\" here",
        ),
        (
            "application: {env: [{name: A, value: '${x}'}]}",
            "spec.application.env[0].value",
            "there is no \"x\" here",
        ),
        (
            "match: {podSelector: {matchExpressions: [{key: a, operator: Equals}]}}",
            "spec.match.podSelector.matchExpressions[0].operator",
            "unknown variant",
        ),
        ("hostNetwork: Maybe", "spec.hostNetwork", "unknown variant"),
    ]);
}

/// They passed the list of known functions and failed at the first pod.
/// What is compiled is remembered for the next place that has it; what is wrong is not.
#[test]
fn an_expression_that_is_wrong_twice_is_told_of_twice() {
    let error = parse("volumes: [{name: '${params.x}'}, {name: '${params.x}'}]").unwrap_err();
    let paths: Vec<&str> = error.problems.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(paths, ["spec.volumes[0].name", "spec.volumes[1].name"]);
}

/// A cluster keeps no order for the keys of a map. `long` begins with the name of another.
#[test]
fn variables_may_stand_before_those_that_they_use() {
    good("variables: {a: variables.b, b: 'variables.long + 1', long: '2', lon: variables.a}");
}

#[test]
fn a_function_that_the_interpreter_lacks_is_refused_when_the_profile_is_loaded() {
    table(&[
        (
            "variables: {a: \"duration('1h')\"}",
            "spec.variables.a",
            "no function \"duration\"",
        ),
        (
            "variables: {a: \"timestamp('2020-01-01T00:00:00Z')\"}",
            "spec.variables.a",
            "no function \"timestamp\"",
        ),
        (
            "variables: {a: 'max(1, 2)'}",
            "spec.variables.a",
            "no function \"max\"",
        ),
        (
            "variables: {a: \"'x'.quote()\"}",
            "spec.variables.a",
            "no function \"quote\"",
        ),
        (
            "variables: {a: '[1].first()'}",
            "spec.variables.a",
            "no function \"first\"",
        ),
    ]);
}

/// A dozen nested brackets overflowed the stack of a worker, and with it the process.
#[test]
fn a_deeply_nested_expression_is_refused_and_does_not_overflow_the_stack() {
    let mut failures = Vec::new();
    for expression in [
        format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("{}1{}", "[".repeat(60), "]".repeat(60)),
        format!("{}1{}", "[1].map(x,".repeat(46), ")".repeat(46)),
        format!("1{}", "+1".repeat(4000)),
        format!("object{}", ".a".repeat(4000)),
        format!("{}1", "true?1:".repeat(2000)),
        format!("'{}'", "x".repeat(17_000)),
    ] {
        let spec = format!(
            "files: {{x.json: {{a: {}}}}}",
            json!(format!("${{{expression}}}"))
        );
        match parse(&spec) {
            Ok(_) => failures.push(format!("loads: {}", &spec[..80])),
            Err(error) => assert_eq!(error.problems[0].path, "spec.files.x.json.a", "{error}"),
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
    // What is let through also has room on the stack of whoever renders it.
    for expression in [
        format!("{}1{}", "(".repeat(40), ")".repeat(40)),
        format!("{}1{}", "[".repeat(40), "]".repeat(40)),
        format!("1{}", "+1".repeat(46)),
        format!("false{}", "||false".repeat(1000)),
        format!("{}1", "false?1:".repeat(46)),
    ] {
        let spec = format!(
            "files: {{x.json: {{a: {}}}}}",
            json!(format!("${{{expression}}}"))
        );
        inject(good(&spec), json!({}), json!({}));
    }
}

#[test]
fn containers_and_volumes_decode_strictly() {
    table(&[
        ("containers: {}", "spec.containers", "expected a list"),
        ("containers: [x]", "spec.containers[0]", "invalid type"),
        (
            "containers: [{name: c, image: i, resources: {}, imge: x}]",
            "spec.containers[0].imge",
            "no such field",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, env: [{nme: A}]}]",
            "spec.containers[0].env[0].nme",
            "no such field",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, securityContext: {runAsnonRoot: true}}]",
            "spec.containers[0].securityContext.runAsnonRoot",
            "no such field",
        ),
        (
            "containers: [{includeWhen: ['false'], name: c, image: i, resources: {}, imge: x}]",
            "spec.containers[0].imge",
            "no such field",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, lifecycle: {includeWhen: ['false'], prestop: {}}}]",
            "spec.containers[0].lifecycle.prestop",
            "no such field",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, ports: [{containerPort: x}]}]",
            "spec.containers[0].ports[0].containerPort",
            "invalid type",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, ports: [{containerPort: '1${instance}'}]}]",
            "spec.containers[0].ports[0].containerPort",
            "invalid type",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, ports: {}}]",
            "spec.containers[0].ports",
            "invalid type",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, args: x}]",
            "spec.containers[0].args",
            "invalid type",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, args: [1]}]",
            "spec.containers[0].args[0]",
            "invalid type",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, tty: 'yes!'}]",
            "spec.containers[0].tty",
            "invalid type",
        ),
        (
            "containers: [{name: 1, image: i, resources: {}}]",
            "spec.containers[0].name",
            "invalid type",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, env: [{name: A, value: 1}]}]",
            "spec.containers[0].env[0].value",
            "invalid type",
        ),
        (
            "containers: [{name: c, image: i}]",
            "spec.containers[0].resources",
            "a quota refuses",
        ),
        (
            "containers: [{name: c, resources: {}}]",
            "spec.containers[0].image",
            "missing",
        ),
        (
            "containers: [{image: i, resources: {}}]",
            "spec.containers[0].name",
            "missing",
        ),
        (
            "initContainers: [{name: c, image: i}]",
            "spec.initContainers[0].resources",
            "a quota refuses",
        ),
        (
            "initContainers: [{name: c, image: i, resources: {}, postion: first}]",
            "spec.initContainers[0].postion",
            "no such field",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, position: first}]",
            "spec.containers[0].position",
            "only an init container",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, restartPolicy: Always}]",
            "spec.containers[0].restartPolicy",
            "only an init container",
        ),
        (
            "volumes: [{name: v, emptydir: {sizeLimit: 1Mi}}]",
            "spec.volumes[0].emptydir",
            "no such field",
        ),
        (
            "volumes: [{name: v, emptyDir: {}}]",
            "spec.volumes[0].emptyDir.sizeLimit",
            "fill the node's disk",
        ),
        (
            "volumes: [{name: v, emptyDir: {medium: Memory}}]",
            "spec.volumes[0].emptyDir.sizeLimit",
            "fill the node's disk",
        ),
        (
            "volumes: [{name: v, secret: {secretname: s}}]",
            "spec.volumes[0].secret.secretname",
            "no such field",
        ),
        (
            "shares: [{name: a, path: /a}]",
            "spec.shares[0]",
            "missing field `sizeLimit`",
        ),
        (
            "shares: [{path: /a, sizeLimit: 1Mi}]",
            "spec.shares[0]",
            "missing field `name`",
        ),
        (
            "shares: [{name: a, path: 1, sizeLimit: 1Mi}]",
            "spec.shares[0].path",
            "invalid type",
        ),
        (
            "application: {env: [{name: A, valu: b}]}",
            "spec.application.env[0].valu",
            "no such field",
        ),
        (
            "application: {env: {A: b}}",
            "spec.application.env",
            "expected a list",
        ),
        (
            "application: {volumeMounts: [{name: v, mountpath: /a}]}",
            "spec.application.volumeMounts[0].mountpath",
            "no such field",
        ),
        (
            "pod: {imagePullSecrets: [{nam: a}]}",
            "spec.pod.imagePullSecrets[0].nam",
            "no such field",
        ),
        (
            "pod: {hostAliases: [{ip: 1.2.3.4, hostname: a}]}",
            "spec.pod.hostAliases[0].hostname",
            "no such field",
        ),
    ]);
}

/// They were found only when the first pod asked for the profile.
#[test]
fn types_and_keys_of_what_the_pod_receives_are_checked_when_the_profile_is_loaded() {
    table(&[
        ("pod: {labels: {a: 1}}", "spec.pod.labels.a", "invalid type"),
        ("pod: {labels: [a]}", "spec.pod.labels", "invalid type"),
        (
            "pod: {annotations: {a: true}}",
            "spec.pod.annotations.a",
            "invalid type",
        ),
        (
            "pod: {annotations: {'a b': x}}",
            "spec.pod.annotations.a b",
            "this is no key",
        ),
        (
            "pod: {labels: {'a/b/c': x}}",
            "spec.pod.labels.a/b/c",
            "this is no key",
        ),
        (
            "pod: {labels: {'Ex.com/c': x}}",
            "spec.pod.labels.Ex.com/c",
            "this is no key",
        ),
        (
            "pod: {labels: {'-a': x}}",
            "spec.pod.labels.-a",
            "this is no key",
        ),
        (
            "pod: {annotations: {outrigger.dev/status: x}}",
            "spec.pod.annotations.outrigger.dev/status",
            "cannot set them",
        ),
        (
            "pod: {annotations: {outrigger.dev/inject: x}}",
            "spec.pod.annotations.outrigger.dev/inject",
            "cannot set them",
        ),
        (
            "pod: {annotations: {files.outrigger.dev/a.b: x}}",
            "spec.pod.annotations.files.outrigger.dev/a.b",
            "cannot set them",
        ),
        (
            "pod: {shareProcessNamespace: 'maybe'}",
            "spec.pod.shareProcessNamespace",
            "invalid type",
        ),
        (
            "application: {containers: web}",
            "spec.application.containers",
            "invalid type",
        ),
        (
            "application: {containers: [1]}",
            "spec.application.containers[0]",
            "invalid type",
        ),
        (
            "initContainers: [{name: c, image: i, resources: {}, position: middle}]",
            "spec.initContainers[0].position",
            "expected first, last",
        ),
        (
            "initContainers: [{name: c, image: i, resources: {}, position: 'before:'}]",
            "spec.initContainers[0].position",
            "expected first, last",
        ),
        (
            "initContainers: [{name: c, image: i, resources: {}, position: 1}]",
            "spec.initContainers[0].position",
            "expected first, last",
        ),
    ]);
    good(
        "pod: {labels: {a: '${instance}', example.com/b_c.d: x}, annotations: {includeWhen: ['false'], a: b}, shareProcessNamespace: true}",
    );
    good(
        "pod: {labels: \"${{'a': 'b'}}\", shareProcessNamespace: '${true}'}\napplication: {containers: \"${['a']}\"}",
    );
    good(
        "initContainers: [{name: c, image: i, resources: {}, position: 'after: wait'}, {name: d, image: i, resources: {}, position: '${\"first\"}'}]",
    );
}

#[test]
fn files_are_checked() {
    table(&[
        (
            "files: {x.conf: 'a ${instance}'}",
            "spec.files.x.conf",
            "taken as it is",
        ),
        (
            "files: {x.conf: {a: 1}}",
            "spec.files.x.conf",
            "expected text, a tree",
        ),
        (
            "files: {x.json: 1}",
            "spec.files.x.json",
            "expected text, a tree",
        ),
        (
            "files: {x.json: null}",
            "spec.files.x.json",
            "expected text, a tree",
        ),
        (
            "files: {../x.json: {}}",
            "spec.files.../x.json",
            "expected a file name",
        ),
        (
            "files: {a/b.json: {}}",
            "spec.files.a/b.json",
            "expected a file name",
        ),
        (
            "files: {.json: {}}",
            "spec.files..json",
            "expected a file name",
        ),
        (
            "files: {'a b.json': {}}",
            "spec.files.a b.json",
            "expected a file name",
        ),
        ("files: {'': x}", "spec.files.", "expected a file name"),
        (
            "files: {aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: x}",
            "spec.files.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "at most 60",
        ),
    ]);
}

#[test]
fn files_with_a_format_are_checked() {
    table(&[
        (
            "files: {x.conf: {format: Toml, content: []}}",
            "spec.files.x.conf.format",
            "expected Text, JSON or NGINX",
        ),
        (
            "files: {x.conf: {format: NGINX, content: [], mode: 1}}",
            "spec.files.x.conf.mode",
            "unknown field",
        ),
        (
            "files: {x.conf: {format: NGINX, content: {user: nginx}}}",
            "spec.files.x.conf.content",
            "expected a list of directives",
        ),
        (
            "files: {x.conf: {format: NGINX, content: [{user: nginx, pid: p}]}}",
            "spec.files.x.conf.content[0]",
            "one key",
        ),
        (
            "files: {x.conf: {format: NGINX, content: [{http: [{server: {listen: 1}}]}]}}",
            "spec.files.x.conf.content[0].http[0].server.listen",
            "expected a word",
        ),
        (
            "files: {x.conf: {format: Text, content: 'a ${instance}'}}",
            "spec.files.x.conf.content",
            "taken as it is",
        ),
        (
            "files: {x.conf: {format: Text, content: [a]}}",
            "spec.files.x.conf.content",
            "expected text",
        ),
        (
            "files: {x.json: {format: JSON, content: 1}}",
            "spec.files.x.json.content",
            "expected a tree",
        ),
        (
            "files: {x.conf: {format: Text, content: a, includeWhen: [params.a]}}",
            "spec.files.x.conf.includeWhen[0]",
            "no parameter",
        ),
    ]);
    // In a file called so, a tree of other keys is a tree.
    good("files: {x.json: {format: NGINX}, y.json: {content: 1}}");
    good("files: {x.txt: {format: JSON, content: [1]}}");
}

#[test]
fn power_over_the_node_needs_namespaces() {
    let container =
        |field: &str| format!("initContainers: [{{name: c, image: i, resources: {{}}, {field}}}]");
    let rows = [
        (
            "securityContext: {privileged: true}",
            "securityContext.privileged",
        ),
        (
            "securityContext: {privileged: '${1 == 1}'}",
            "securityContext.privileged",
        ),
        (
            "securityContext: {capabilities: {add: [CHOWN, SYS_ADMIN]}}",
            "securityContext.capabilities.add[1]",
        ),
        (
            "securityContext: {seccompProfile: {type: Unconfined}}",
            "securityContext.seccompProfile.type",
        ),
        (
            "securityContext: {appArmorProfile: {type: Unconfined}}",
            "securityContext.appArmorProfile.type",
        ),
        (
            "securityContext: {procMount: Unmasked}",
            "securityContext.procMount",
        ),
        (
            "securityContext: {seLinuxOptions: {type: spc_t}}",
            "securityContext.seLinuxOptions",
        ),
        (
            "securityContext: {windowsOptions: {hostProcess: true}}",
            "securityContext.windowsOptions.hostProcess",
        ),
        (
            "ports: [{containerPort: 80, hostPort: 80}]",
            "ports[0].hostPort",
        ),
        (
            "volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]",
            "volumeMounts[0].mountPropagation",
        ),
        (
            "livenessProbe: {httpGet: {port: 80, host: '${instance}'}}",
            "livenessProbe.httpGet.host",
        ),
        (
            "lifecycle: {preStop: {tcpSocket: {port: 80, host: 169.254.169.254}}}",
            "lifecycle.preStop.tcpSocket.host",
        ),
    ];
    let mut failures = Vec::new();
    for (field, path) in rows {
        let spec = container(field);
        let path = format!("spec.initContainers[0].{path}");
        expect(
            &spec,
            parse(&spec),
            &path,
            "spec.allow.namespaceSelector",
            &mut failures,
        );
        let allowed = format!("allow: {{namespaceSelector: {{matchLabels: {{a: b}}}}}}\n{spec}");
        if let Err(error) = parse(&allowed) {
            failures.push(error.to_string());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    table(&[
        (
            "volumes: [{name: v, hostPath: {path: /}}]",
            "spec.volumes[0].hostPath",
            "spec.allow.namespaceSelector",
        ),
        (
            "allow: {namespaceSelector: {}}",
            "spec.allow.namespaceSelector",
            "selects every namespace",
        ),
        ("allow: {}", "spec.allow", "missing field"),
        (
            "allow: {podSelector: {}, namespaceSelector: {}}",
            "spec.allow.podSelector",
            "unknown field",
        ),
    ]);
    // What the baseline lets through needs none.
    good(&container(
        "securityContext: {runAsUser: 0, capabilities: {add: [CHOWN, FOWNER]}, privileged: false}",
    ));
}

#[test]
fn declarations_of_parameters_are_checked() {
    table(&[
        (
            "parameters: {a: {type: string, patternMessage: words, description: d}}",
            "spec.parameters.a.patternMessage",
            "no pattern",
        ),
        (
            "parameters: {a-b: {type: string, description: d}}",
            "spec.parameters.a-b",
            "camelCase",
        ),
        (
            "parameters: {aURL: {type: string, description: d}}",
            "spec.parameters.aURL",
            "camelCase",
        ),
        (
            "parameters: {a: {type: text, description: d}}",
            "spec.parameters.a",
            "unknown variant",
        ),
        (
            "parameters: {a: {type: string}}",
            "spec.parameters.a",
            "missing field `description`",
        ),
        (
            "parameters: {a: {type: string, description: ' '}}",
            "spec.parameters.a.description",
            "expected a sentence",
        ),
        (
            "parameters: {a: {type: string, description: d, settableBy: Everybody}}",
            "spec.parameters.a.settableBy",
            "unknown variant",
        ),
        (
            "parameters: {a: {type: string, format: port, description: d}}",
            "spec.parameters.a.format",
            "of another type",
        ),
        (
            "parameters: {a: {type: string, format: hostport, description: d}}",
            "spec.parameters.a.format",
            "did you mean \"host-port\"?",
        ),
        (
            "parameters: {a: {type: integer, format: port, default: 0, description: d}}",
            "spec.parameters.a.default",
            "from 1 to 65535",
        ),
        (
            "parameters: {a: {type: integer, format: port, default: '80', description: d}}",
            "spec.parameters.a.default",
            "of another type",
        ),
        (
            "parameters: {a: {type: integer, default: 1.5, description: d}}",
            "spec.parameters.a.default",
            "an integer",
        ),
        (
            "parameters: {a: {type: boolean, default: 'true', description: d}}",
            "spec.parameters.a.default",
            "of another type",
        ),
        (
            "parameters: {a: {type: string, format: quantity, default: 1x, description: d}}",
            "spec.parameters.a.default",
            "a Kubernetes quantity",
        ),
        (
            "parameters: {a: {type: string, enum: [a, b], default: c, description: d}}",
            "spec.parameters.a.default",
            "one of \"a\", \"b\"",
        ),
        (
            "parameters: {a: {type: string, pattern: '[a-z]+', default: a1, description: d}}",
            "spec.parameters.a.default",
            "that matches",
        ),
        (
            "parameters: {a: {type: string, pattern: '(', description: d}}",
            "spec.parameters.a.pattern",
            "no regular expression",
        ),
        (
            "parameters: {a: {type: string, pattern: '(a{1000}){1000}', description: d}}",
            "spec.parameters.a.pattern",
            "exceeds size limit",
        ),
        (
            "parameters: {a: {type: string, enum: [], description: d}}",
            "spec.parameters.a.enum",
            "at least one",
        ),
        (
            "parameters: {a: {type: string, enum: [1], description: d}}",
            "spec.parameters.a.enum[0]",
            "of another type",
        ),
        (
            "parameters: {a: {type: string, minimum: 1, description: d}}",
            "spec.parameters.a.minimum",
            "does not go with the type",
        ),
        (
            "parameters: {a: {type: integer, pattern: x, description: d}}",
            "spec.parameters.a.pattern",
            "does not go with the type",
        ),
        (
            "parameters: {a: {type: integer, minimum: 3, maximum: 2, description: d}}",
            "spec.parameters.a.minimum",
            "above maximum",
        ),
        (
            "parameters: {a: {type: string, minLength: 3, maxLength: 2, description: d}}",
            "spec.parameters.a.minLength",
            "above maxLength",
        ),
        (
            "parameters: {a: {type: array, description: d}}",
            "spec.parameters.a.items",
            "says what its items are",
        ),
        (
            "parameters: {a: {type: string, items: {type: string}, description: d}}",
            "spec.parameters.a.items",
            "only an array",
        ),
        (
            "parameters: {a: {type: array, items: {type: array}, description: d}}",
            "spec.parameters.a.items.type",
            "are scalars",
        ),
        (
            "parameters: {a: {type: array, items: {type: string}, pattern: x, description: d}}",
            "spec.parameters.a.pattern",
            "belongs into items",
        ),
        (
            "parameters: {a: {type: array, items: {type: string, format: json}, description: d}}",
            "spec.parameters.a.items.format",
            "may hold commas",
        ),
        (
            "parameters: {a: {type: array, items: {type: string}, minItems: 3, maxItems: 2, description: d}}",
            "spec.parameters.a.minItems",
            "above maxItems",
        ),
        (
            "parameters: {a: {type: array, items: {type: integer}, default: [1, x], description: d}}",
            "spec.parameters.a.default",
            "of another type",
        ),
        (
            "parameters: {a: {type: string, required: true, default: x, description: d}}",
            "spec.parameters.a.required",
            "not required of anybody",
        ),
        (
            "parameters: {a: {type: integer, description: d, example: x}}",
            "spec.parameters.a.example",
            "an integer",
        ),
    ]);
}

#[test]
fn all_problems_are_told_at_once() {
    let error = parse("colour: red\nshape: round").unwrap_err();
    assert_eq!(error.problems.len(), 2, "{error}");
    let error = parse(
        "variables: {a: x, b: z}\nfiles: {x.conf: {a: 1}}\nvolumes: [{name: v, emptyDir: {}}]",
    )
    .unwrap_err();
    assert_eq!(error.problems.len(), 4, "{error}");
    assert_eq!(error.name.as_deref(), Some("t"));
    let lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 4, "{error}");
    assert!(
        lines[0].starts_with("test:6:15: spec.variables.a: "),
        "{error}"
    );
}

#[test]
fn admin_defaults_are_checked_against_the_profiles() {
    let catalogue = || {
        Catalogue::new([Arc::new(good(
            "parameters: {port: {type: integer, format: port, description: d}}",
        ))])
    };
    for (text, path, message) in [
        ("profiledefaults: {}", "profiledefaults", "unknown key"),
        (
            "profileDefaults: {u: {}}",
            "profileDefaults.u",
            "no such profile; did you mean \"t\"?",
        ),
        (
            "profileDefaults: {t: {prt: 1}}",
            "profileDefaults.t.prt",
            "did you mean \"port\"?",
        ),
        (
            "profileDefaults: {t: {port: '1'}}",
            "profileDefaults.t.port",
            "of another type",
        ),
        (
            "profileDefaults: {t: {port: 65536}}",
            "profileDefaults.t.port",
            "from 1 to 65535",
        ),
        ("profileDefaults: [", "", "no YAML"),
    ] {
        let error = match Defaults::parse("file", text) {
            Err(error) => error,
            Ok(defaults) => catalogue().with_defaults("file", &defaults).unwrap_err(),
        };
        assert!(
            error
                .problems
                .iter()
                .any(|problem| problem.path == path && problem.message.contains(message)),
            "{text}: {error}"
        );
    }
}

/// The pod that a profile makes of a pod with these annotations.
fn inject(profile: Profile, annotations: Value, spec: Value) -> Value {
    let (pod, answer) = review(profile, annotations, spec);
    let patch = answer["response"]["patch"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"));
    let patch: json_patch::Patch =
        serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
    let mut result = pod;
    json_patch::patch(&mut result, &patch).unwrap();
    result
}

fn review(profile: Profile, mut annotations: Value, spec: Value) -> (Value, Value) {
    let snapshot = Snapshot {
        catalogue: Catalogue::new([Arc::new(profile)]),
        ..Snapshot::default()
    };
    annotations["outrigger.dev/inject"] = json!("t");
    let pod = json!({"metadata": {"name": "p", "annotations": annotations}, "spec": spec});
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "shop",
            "operation": "CREATE",
            "object": pod,
        },
    });
    let reviewed = admission::review(&serde_json::to_vec(&review).unwrap(), &snapshot).unwrap();
    (pod, serde_json::from_slice(&reviewed.body).unwrap())
}

fn file(profile: Profile, annotations: Value) -> Value {
    let pod = inject(
        profile,
        annotations,
        json!({"containers": [{"name": "web"}]}),
    );
    let text = pod["metadata"]["annotations"]["files.outrigger.dev/t.x.json"]
        .as_str()
        .unwrap();
    serde_json::from_str(text).unwrap()
}

#[test]
fn values_keep_their_types_and_null_drops_keys_and_items() {
    let profile = good(
        "parameters:
  port: {type: integer, format: port, description: d, default: 80}
  ratio: {type: number, description: d, default: 0.5}
  switch: {type: boolean, description: d, default: false}
  names: {type: array, items: {type: string}, description: d, default: [a, b]}
  unset: {type: string, description: d}
variables:
  later: variables.earlier + 1
  earlier: params.port
files:
  x.json:
    port: ${params.port}
    text: 'port ${params.port} of ${instance}, ${params.switch}, ${params.ratio}'
    ratio: ${params.ratio}
    switch: ${params.switch}
    names: ${params.names}
    map: \"${{'b': 1, 'a': [null, 2]}}\"
    gone: ${params.unset}
    kept: null
    list: [1, '${params.unset}', '${params.port}']
    later: ${variables.later}
    literal: $${params.port}, $$, $x, $(POD_IP)
    braces: \"${'}' + \\\"{\\\"}\"
    triple: '${\"\"\"it is } here\"\"\"}'
    missing: {includeWhen: ['params.switch'], a: 1}
    there: {includeWhen: ['!params.switch', 'params.port == 80'], a: 1}
    items: [{includeWhen: ['params.switch'], a: 1}, {includeWhen: ['!params.switch'], a: 2}]
    empty: {a: '${params.unset}'}
    float: 1.0
    big: 18446744073709551615",
    );
    assert_eq!(
        file(profile, json!({})),
        json!({
            "port": 80, "text": "port 80 of t, false, 0.5", "ratio": 0.5, "switch": false, "names": ["a", "b"],
            "map": {"a": [2], "b": 1}, "list": [1, 80], "later": 81,
            "literal": "${params.port}, $$, $x, $(POD_IP)", "braces": "}{", "triple": "it is } here",
            "there": {"a": 1}, "items": [{"a": 2}], "empty": {}, "float": 1.0, "big": 18_446_744_073_709_551_615_u64,
        })
    );
}

#[test]
fn functions_do_what_they_say() {
    let profile = good(
        "parameters: {upstream: {type: string, format: host-port, description: d, required: true}}
files:
  x.json:
    host: ${host(params.upstream)}
    method: ${params.upstream.host()}
    port: ${port(params.upstream)}
    v6: \"${host('[2001:db8::1]:443')}\"
    dirname: \"${dirname('/var/log/app.log')}\"
    top: \"${dirname('/app.log')}\"
    basename: \"${basename('/var/log/app.log')}\"
    fixed: \"${fixedDirectory('/var/log/*/x.log')}\"
    isIP: \"${[isIP('10.0.0.1'), isIP('::1'), isIP('a')]}\"
    methods: \"${['/a/b'.dirname(), '/a/b'.basename(), '/a/*'.fixedDirectory(), string('::1'.isIP()), string('a:1'.port())]}\"
    json: \"${json({'b': [1, 'x', true], 'a': null})}\"
    strings: \"${['ÄB'.lowerAscii(), ' a '.trim(), 'a-b'.replace('-', '+'), 'abc'.substring(1), ['a', 'b'].join('/'), '%s=%d'.format(['a', 1])]}\"
    split: \"${'a,b'.split(',')}\"
    lists: \"${[1, 1, 2].distinct()}\"
    macros: \"${[1, 2, 3].filter(n, n > 1).map(n, n * 2)}\"
    has: ${has(object.metadata.name)}
    request: ${request.namespace + ' ' + request.operation + ' ' + request.name}
    sidecars: ${sidecars}
    namespace: ${namespaceObject.metadata.name}",
    );
    assert_eq!(
        file(
            profile,
            json!({"t.outrigger.dev/upstream": "db.example.com:5432"})
        ),
        json!({
            "host": "db.example.com", "method": "db.example.com", "port": 5432, "v6": "2001:db8::1",
            "dirname": "/var/log", "top": "/", "basename": "app.log", "fixed": "/var/log",
            "methods": ["/a", "b", "/a", "true", "1"], "isIP": [true, true, false], "json": "{\"a\":null,\"b\":[1,\"x\",true]}",
            "strings": ["Äb", "a", "a+b", "bc", "a/b", "a=1"], "split": ["a", "b"], "lists": [1, 2],
            "macros": [4, 6], "has": true, "request": "shop CREATE p", "sidecars": "Native", "namespace": "shop",
        })
    );
}

#[test]
fn lists_may_come_from_expressions_and_templates_may_stand_anywhere() {
    let profile = good(
        "parameters: {names: {type: array, items: {type: string, format: dns-label}, description: d}}
containers: \"${params.names.map(n, {'name': n, 'image': 'i', 'ports': [{'containerPort': 80 + size(n)}]})}\"
initContainers:
- name: ${instance}
  image: i
  resources: {limits: '${{\"cpu\": \"1\"}}'}
  ports: [{containerPort: '${8000 + 1}', name: '${instance}'}]
  livenessProbe: {httpGet: {path: /, port: '${8000 + 1}'}}
  env: \"${params.names.map(n, {'name': n, 'value': n})}\"",
    );
    let pod = inject(
        profile,
        json!({"t.outrigger.dev/names": "a, bb"}),
        json!({"containers": [{"name": "web"}]}),
    );
    assert_eq!(
        pod["spec"]["containers"],
        json!([
            {"name": "web"},
            {"image": "i", "name": "a", "ports": [{"containerPort": 81}]},
            {"image": "i", "name": "bb", "ports": [{"containerPort": 82}]},
        ])
    );
    assert_eq!(
        pod["spec"]["initContainers"],
        json!([{
            "name": "t", "image": "i", "resources": {"limits": {"cpu": "1"}},
            "ports": [{"containerPort": 8001, "name": "t"}],
            "livenessProbe": {"httpGet": {"path": "/", "port": 8001}},
            "env": [{"name": "a", "value": "a"}, {"name": "bb", "value": "bb"}],
        }])
    );
}

#[test]
fn faults_that_only_a_value_shows_are_the_profiles_and_not_the_authors() {
    let parameters = "parameters: {a: {type: integer, description: d, default: 0}, s: {type: string, description: d, default: x}}\n";
    for (spec, message) in [
        (
            "files: {x.json: {a: '${1 / params.a}'}}",
            "spec.files.x.json.a: `1 / params.a`: Division by zero",
        ),
        (
            "files: {x.json: {a: '${[1][params.a - 1]}'}}",
            "Index out of bounds",
        ),
        (
            "files: {x.json: {a: 'x${[params.a]}'}}",
            "a list or a map inside text",
        ),
        ("files: {x.json: {a: 'x${null}'}}", "is null inside text"),
        (
            "files: {x.json: {includeWhen: ['params.a'], b: 1}}",
            "gives 0, expected true or false",
        ),
        (
            "validations: [{expression: params.s, message: m}]",
            "spec.validations[0].expression",
        ),
        (
            "warnings: [{when: params.s, message: m}]",
            "spec.warnings[0].when",
        ),
        (
            "containers: '${params.s}'",
            "spec.containers: gives \"x\", expected a list",
        ),
        (
            "containers: [{name: c, image: i, resources: {}, ports: [{containerPort: '${params.s}'}]}]",
            "spec.containers[0]",
        ),
        ("pod: {labels: {a: '${params.a}'}}", "spec.pod.labels"),
        ("shares: '${[params.s]}'", "spec.shares[0]"),
        (
            "initContainers: [{name: c, image: i, resources: {}, position: '${params.s}'}]",
            "spec.initContainers[0].position",
        ),
        (
            "files: {x.json: {a: \"${object.spec.nothing}\"}}",
            "No such key",
        ),
    ] {
        let (_, answer) = review(good(&format!("{parameters}{spec}")), json!({}), json!({}));
        let given = answer["response"]["status"]["message"]
            .as_str()
            .unwrap_or_else(|| panic!("{spec}: {answer}"));
        assert!(
            given.starts_with("outrigger: the profile \"t\" (an administrator must mend it): "),
            "{given}"
        );
        assert!(given.contains(message), "{spec}: {given}");
        assert!(answer["response"].get("patch").is_none());
    }
}

#[test]
fn the_revision_tells_content_and_not_layout() {
    let revision = |text: &str| Profile::parse("test", text).unwrap().revision;
    let one = revision(&format!(
        "{HEAD}  summary: s\n  files: {{x.json: {{a: 1, b: [1, 2]}}}}\n  variables: {{a: '1', b: variables.a}}\n"
    ));
    let same = [
        format!("# A comment\n{HEAD}  variables:\n    b: variables.a # here\n    a: '1'\n  files:\n    x.json:\n      b:\n      - 1\n      - 2\n      a: 1\n  summary: \"s\"\n"),
        "{\"spec\": {\"summary\": \"s\", \"variables\": {\"b\": \"variables.a\", \"a\": \"1\"}, \"files\": {\"x.json\": {\"b\": [1, 2], \"a\": 1}}}, \"metadata\": {\"name\": \"t\", \"uid\": \"u\", \"labels\": {\"a\": \"b\"}}, \"kind\": \"SidecarProfile\", \"apiVersion\": \"outrigger.dev/v1alpha1\"}".to_owned(),
    ];
    for text in same {
        assert_eq!(revision(&text), one, "{text}");
    }
    for other in [
        format!(
            "{HEAD}  summary: s\n  files: {{x.json: {{a: 1, b: [2, 1]}}}}\n  variables: {{a: '1', b: variables.a}}\n"
        ),
        format!(
            "{HEAD}  summary: s\n  files: {{x.json: {{a: '1', b: [1, 2]}}}}\n  variables: {{a: '1', b: variables.a}}\n"
        ),
        format!(
            "{}  summary: s\n  files: {{x.json: {{a: 1, b: [1, 2]}}}}\n  variables: {{a: '1', b: variables.a}}\n",
            HEAD.replace("name: t", "name: u")
        ),
    ] {
        assert_ne!(revision(&other), one, "{other}");
    }
    assert_eq!(one.len(), 12);
    assert!(one.bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn several_documents_are_taken_one_by_one() {
    let good = format!("{HEAD}  summary: s\n");
    let (profiles, errors) = Profile::parse_all(
        "file",
        &format!(
            "---\n{good}---\n{}---\n{good}---\n",
            good.replace("summary", "sumary")
        ),
    );
    assert_eq!((profiles.len(), errors.len()), (2, 1));
}
