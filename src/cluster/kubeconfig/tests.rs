use proptest::prelude::*;
use serde_json::json;

use super::*;

/// As kind writes it.
const KIND: &str = "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=
    server: https://127.0.0.1:38123
  name: kind-dev
contexts:
- context:
    cluster: kind-dev
    user: kind-dev
  name: kind-dev
current-context: kind-dev
kind: Config
preferences: {}
users:
- name: kind-dev
  user:
    client-certificate-data: QUFBQQ==
    client-key-data: QUFBQQ==
";

/// As `aws eks update-kubeconfig` writes it.
const EKS: &str = "apiVersion: v1
clusters:
- cluster:
    server: https://0123456789ABCDEF.gr7.eu-central-1.eks.amazonaws.com
  name: arn:aws:eks:eu-central-1:123456789012:cluster/shop
contexts:
- context:
    cluster: arn:aws:eks:eu-central-1:123456789012:cluster/shop
    namespace: checkout
    user: arn:aws:eks:eu-central-1:123456789012:cluster/shop
  name: shop
current-context: shop
kind: Config
preferences: {}
users:
- name: arn:aws:eks:eu-central-1:123456789012:cluster/shop
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      args: [--region, eu-central-1, eks, get-token, --cluster-name, shop, --output, json]
      command: aws
      env:
      - name: AWS_PROFILE
        value: shop
      interactiveMode: IfAvailable
      provideClusterInfo: false
";

/// As minikube writes it, but with paths that start from the file.
const PATHS: &str = "apiVersion: v1
kind: Config
current-context: minikube
clusters:
- name: minikube
  cluster:
    certificate-authority: pki/ca.crt
    extensions:
    - extension: {provider: minikube.sigs.k8s.io, version: v1.35.0}
      name: cluster_info
    - extension: null
      name: empty
    server: https://192.168.49.2:8443
contexts:
- name: minikube
  context: {cluster: minikube, user: minikube, extensions: null}
users:
- name: minikube
  user: {client-certificate: ./client.crt, client-key: /etc/pki/client.key, tokenFile: ../token}
- name: helper
  user: {exec: {command: bin/login, args: null, env: null}}
- name: legacy
  user: {auth-provider: {name: oidc, config: {idp-issuer-url: https://id.example.com}}}
";

/// Anchors, two documents, unknown keys and lists without items.
const LOOSE: &str = "# shared settings
x-common: &common
  insecure-skip-tls-verify: yes
  disable-compression: true
clusters:
- name: a
  cluster:
    <<: *common
    server: https://a.example.com
    colour: green
users:
contexts: ~
---
---
contexts:
- name: a
  context: {cluster: a, user: nobody}
current-context: a
...
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// The `KUBECONFIG` of these files.
fn variable(paths: &[PathBuf]) -> Files {
    let value = env::join_paths(paths).unwrap();
    Files::named(Some(&value), None).unwrap()
}

/// What kube's own reader makes of a file, without what is for those who write such files.
fn oracle(path: &Path) -> Value {
    let read = Kubeconfig::read_from(path).unwrap();
    json(&Kubeconfig {
        preferences: None,
        extensions: None,
        other: std::collections::BTreeMap::new(),
        ..read
    })
}

fn json(kubeconfig: &Kubeconfig) -> Value {
    serde_json::to_value(kubeconfig).unwrap()
}

fn refused(content: &str) -> String {
    let folder = Folder::new();
    let path = folder.file("config", content);
    let error = Files::given(&path).read().unwrap_err().to_string();
    let start = format!("--kubeconfig {}: ", path.display());
    error.strip_prefix(&start).expect(&error).to_owned()
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let units = std::iter::once(0xFEFF).chain(text.encode_utf16());
    units.flat_map(bytes).collect()
}

#[test]
fn every_file_is_read_as_kube_reads_it() {
    let folder = Folder::new();
    let files = [
        ("kind", KIND.as_bytes().to_vec()),
        ("eks", EKS.into()),
        ("paths", PATHS.into()),
        ("loose", LOOSE.into()),
        ("crlf", KIND.replace('\n', "\r\n").into()),
        ("empty", Vec::new()),
        ("comment", "# nothing yet\n".into()),
        ("utf-8", ["\u{feff}", EKS].concat().into()),
        ("utf-16-le", utf16(PATHS, u16::to_le_bytes)),
        ("utf-16-be", utf16(PATHS, u16::to_be_bytes)),
    ];
    for (name, content) in files {
        let path = folder.file(name, content);
        assert_eq!(json(&read(&path).unwrap()), oracle(&path), "{name}");
    }
}

proptest! {
    #[test]
    fn any_kubeconfig_is_read_as_kube_reads_it(
        names in proptest::collection::vec("[a-z0-9:/@. -]{1,12}", 0..4),
        text in "\\PC{0,12}",
        path in "[a-z./]{1,10}",
        skip in proptest::option::of(any::<bool>()),
        current in proptest::option::of("[a-z0-9]{1,4}"),
    ) {
        let named = |key: &str, value: Value| -> Vec<_> {
            names.iter().map(|name| json!({"name": name, key: value})).collect()
        };
        let user = json!({
            "username": text, "password": text, "token": text, "tokenFile": path, "client-key": path,
            "as-groups": names, "as-user-extra": {&text: names},
            "exec": {"command": path, "args": names, "env": [{"name": text, "value": text}]},
        });
        let kubeconfig = json!({
            "current-context": current,
            "clusters": named("cluster", json!({"server": text, "certificate-authority": path})),
            "contexts": named("context", json!({"cluster": text, "user": text, "namespace": current})),
            "users": named("user", user),
            "more": skip,
        });
        let folder = Folder::new();
        let path = folder.file("config", kubeconfig.to_string());
        prop_assert_eq!(json(&read(&path).unwrap()), oracle(&path));
    }
}

#[test]
fn paths_start_from_the_file_that_has_them() {
    let folder = Folder::new();
    let path = folder.file("config", PATHS);
    let read = read(&path).unwrap();
    let here = |path: &str| Some(folder.0.path().join(path).to_str().unwrap().to_owned());
    let user = |at: usize| read.auth_infos[at].auth_info.clone().unwrap();
    let cluster = read.clusters[0].cluster.as_ref().unwrap();
    assert_eq!(cluster.certificate_authority, here("pki/ca.crt"));
    assert_eq!(user(0).client_certificate, here("./client.crt"));
    assert_eq!(user(0).client_key.as_deref(), Some("/etc/pki/client.key"));
    assert_eq!(user(0).token_file, here("../token"));
    assert_eq!(user(1).exec.unwrap().command, here("bin/login"));
}

/// kubectl takes an empty path for none; kube would read the folder.
#[test]
fn an_empty_path_and_null_are_none() {
    let folder = Folder::new();
    let content = "
clusters: [{name: a, cluster: {server: 'https://a', certificate-authority: ''}}]
users: [{name: a, user: {exec: {provideClusterInfo: null}, auth-provider: {name: oidc, config: null}}}]";
    let read = read(&folder.file("config", content)).unwrap();
    let cluster = read.clusters[0].cluster.as_ref().unwrap();
    assert_eq!(cluster.certificate_authority, None);
    let user = read.auth_infos[0].auth_info.as_ref().unwrap();
    assert!(user.auth_provider.as_ref().unwrap().config.is_empty());
}

#[tokio::test]
async fn of_several_files_the_first_wins_and_any_context_can_be_named() {
    let folder = Folder::new();
    let files = variable(&[folder.file("kind", KIND), folder.file("eks", EKS)]);
    let read = files.read().unwrap();
    assert_eq!(read.current_context.as_deref(), Some("kind-dev"));
    assert_eq!(read.contexts.len(), 2);
    let config = files.config(Some("shop")).await.unwrap();
    assert_eq!(
        config.cluster_url.host(),
        Some("0123456789ABCDEF.gr7.eu-central-1.eks.amazonaws.com")
    );
    assert_eq!(config.default_namespace, "checkout");
    let command = config.auth_info.exec.unwrap().command;
    assert_eq!(command.as_deref(), Some("aws"));
}

#[tokio::test]
async fn a_missing_file_is_passed_over_beside_others_and_named_alone() {
    let folder = Folder::new();
    let missing = folder.0.path().join("none");
    let files = variable(&[missing.clone(), folder.file("eks", EKS)]);
    assert_eq!(
        files.config(None).await.unwrap().default_namespace,
        "checkout"
    );

    let error = variable(std::slice::from_ref(&missing)).config(None).await;
    let said = error.unwrap_err().to_string();
    let start = format!(
        "KUBECONFIG {}: the file cannot be read: No such file",
        missing.display()
    );
    assert!(said.starts_with(&start), "{said}");
}

#[test]
fn without_a_variable_it_is_the_file_at_home() {
    let home = || Some(PathBuf::from("/home/ada"));
    for value in [None, Some(""), Some(":")] {
        let files = Files::named(value.map(OsStr::new), home()).unwrap();
        assert_eq!(files.paths, [PathBuf::from("/home/ada/.kube/config")]);
    }
    let files = Files::named(Some(OsStr::new("/a::b/c")), home()).unwrap();
    assert_eq!(files.paths, [PathBuf::from("/a"), PathBuf::from("b/c")]);
    assert_eq!(
        Files::named(None, None).unwrap_err().to_string(),
        "~/.kube/config: the home directory is not known, in which the file is expected"
    );
}

#[tokio::test]
async fn an_unknown_context_is_told_with_those_that_there_are() {
    let folder = Folder::new();
    let (kind, eks) = (folder.file("kind", KIND), folder.file("eks", EKS));
    let said = variable(&[kind.clone(), eks.clone()])
        .config(Some("sho"))
        .await;
    assert_eq!(
        said.unwrap_err().to_string(),
        format!(
            "KUBECONFIG {}:{}: there is no context \"sho\": expected one of kind-dev, shop",
            kind.display(),
            eks.display()
        )
    );
    let unset = folder.file(
        "unset",
        EKS.replace("current-context: shop", "current-context: ''"),
    );
    assert_eq!(
        Files::given(&unset)
            .config(None)
            .await
            .unwrap_err()
            .to_string(),
        format!(
            "--kubeconfig {}: current-context is not set: give --context, expected one of shop",
            unset.display()
        )
    );
    let empty = folder.file("empty", "");
    assert_eq!(
        Files::given(&empty)
            .config(Some("a"))
            .await
            .unwrap_err()
            .to_string(),
        format!(
            "--kubeconfig {}: there is no context \"a\": the kubeconfig has no contexts",
            empty.display()
        )
    );
}

/// kubectl writes it so into a file that has none.
#[tokio::test]
async fn an_empty_current_context_leaves_it_to_the_next_file() {
    let folder = Folder::new();
    let unset = KIND.replace("current-context: kind-dev", "current-context: \"\"");
    assert_ne!(unset, KIND);
    let (first, second) = (folder.file("first", unset), folder.file("second", EKS));
    let read = variable(&[first, second]).read().unwrap();
    assert_eq!(read.current_context.as_deref(), Some("shop"));
}

#[test]
fn what_is_no_kubeconfig_is_told_with_its_place() {
    assert_eq!(
        refused("just words"),
        "the document: this is a string, expected a mapping with clusters, contexts and users"
    );
    assert_eq!(
        refused("users: {a: b}"),
        "users: this is a mapping, expected a list"
    );
    assert_eq!(
        refused("current-context: 12"),
        "current-context: this is a number, expected a string"
    );
    assert_eq!(
        refused("users:\n- {name: a}\n- {name: b, user: {token: 12}}"),
        "users[1] (b): user.token: expected a string"
    );
    // What stands where a secret may is not repeated.
    assert_eq!(
        refused("users:\n- {name: a, user: s3cr3t}"),
        "users[0] (a): user: expected struct AuthInfo"
    );
    let no_yaml = refused("kind: Config\n---\nclusters:\n- name: [a\nusers: b\n");
    assert!(no_yaml.starts_with("this is no YAML: line "), "{no_yaml}");
    let twice = refused("kind: Config\n---\nkind: Config\nkind: Config\n");
    let expected = "this is no YAML: line 4: duplicate mapping key: kind";
    assert!(twice.starts_with(expected), "{twice}");
    assert_eq!(
        refused("kind: Config\n---\nkind: Pod\n"),
        "kubeconfigs with mismatching kind cannot be merged"
    );
    let folder = Folder::new();
    let odd = folder.file("odd", [0xFF, 0xFE, 0x61]);
    assert_eq!(
        Files::given(&odd).read().unwrap_err().to_string(),
        format!(
            "--kubeconfig {}: this is no text: expected UTF-8, or UTF-16 with a byte order mark",
            odd.display()
        )
    );
}
