//! A pod on this machine, as a kubelet would run it: a network namespace with an address of its own, each
//! container in a root of its own with the pod's volumes at their mount paths, its user, no capabilities.
//!
//! One thing is not as on a node: images cannot be pulled, so the system's own libraries stand in for the
//! image's, and the test says which program an image's entry point is. It needs root, and `ip`, `unshare`,
//! `mount`, `chroot` and `setpriv` (Debian's iproute2, util-linux, mount and coreutils).

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Daemon, Result, process};

const LIMIT: Duration = Duration::from_secs(20);

/// Numbers the pods of this process, so that their names and addresses differ.
static PODS: AtomicU32 = AtomicU32::new(0);

/// What is in a Secret, by key.
pub type Secret = BTreeMap<String, String>;

/// A pod whose volumes are laid out and whose network is up. Containers stop, and everything goes, when it is
/// dropped.
#[derive(Debug)]
pub struct LocalPod {
    spec: Value,
    network: Network,
    folder: TempDir,
    /// Files of this machine that stand for files of an image, by their path in it.
    image_files: BTreeMap<String, PathBuf>,
    /// Before the network and the folder: they run in both.
    running: Vec<Daemon>,
}

/// A network namespace with one address.
#[derive(Debug)]
struct Network {
    name: String,
    link: String,
    address: Ipv4Addr,
}

impl LocalPod {
    /// Lays out a pod as it is stored in the API server. `secrets` are the Secrets and the ConfigMaps of its
    /// namespace.
    ///
    /// # Errors
    ///
    /// A Secret or ConfigMap that is not there, which would hold a kubelet back too; tools that are missing.
    pub fn new(pod: &Value, secrets: &BTreeMap<String, Secret>) -> Result<Self> {
        let network = Network::start()?;
        let folder = process::temporary_folder()?;
        let local = Self {
            spec: pod.clone(),
            network,
            folder,
            image_files: BTreeMap::new(),
            running: Vec::new(),
        };
        for volume in list(&pod["spec"]["volumes"]) {
            local.lay_out(volume, secrets)?;
        }
        Ok(local)
    }

    /// Lets every container's image have this file of the machine at `path`.
    pub fn add_image_file(&mut self, path: &str, file: &Path) {
        self.image_files.insert(path.to_owned(), file.to_owned());
    }

    /// The pod's address, which this process can reach.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.network.address
    }

    /// This machine's address on the pod's network: where the pod finds servers of the test.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        let [a, b, c, d] = self.network.address.octets();
        Ipv4Addr::new(a, b, c, d - 1)
    }

    /// The name of its network namespace, for `ip netns exec`.
    #[must_use]
    pub fn network_name(&self) -> &str {
        &self.network.name
    }

    /// Lets this pod reach the host's side of another pod's network, as one that is routed.
    ///
    /// # Errors
    ///
    /// When the route cannot be made.
    pub fn reach_through(&self, other: &Self) -> Result {
        let (to, by) = (other.gateway().to_string(), self.gateway().to_string());
        ip(&["-n", &self.network.name, "route", "add", &to, "via", &by])
    }

    fn volume_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join("volumes").join(name)
    }

    fn lay_out(&self, volume: &Value, secrets: &BTreeMap<String, Secret>) -> Result {
        let name = text(&volume["name"])?;
        let folder = self.volume_folder(name);
        fs::create_dir_all(&folder)?;
        if let Some(secret) = volume.get("secret") {
            let content = secrets.get(text(&secret["secretName"])?);
            let content =
                content.with_context(|| format!("the volume {name} waits for its Secret"))?;
            self.write_secret(name, content)?;
        } else if let Some(map) = volume.get("configMap") {
            let content = secrets.get(text(&map["name"])?);
            let content =
                content.with_context(|| format!("the volume {name} waits for its ConfigMap"))?;
            self.write_secret(name, content)?;
        } else if let Some(downward) = volume.get("downwardAPI") {
            let mut files = BTreeMap::new();
            for item in list(&downward["items"]) {
                let field = text(&item["fieldRef"]["fieldPath"])?;
                files.insert(text(&item["path"])?.to_owned(), self.field(field)?);
            }
            swap(&folder, &files)?;
        } else if let Some(csi) = volume.get("csi") {
            // What the driver would have issued: the test plays the driver.
            let driver = text(&csi["driver"])?;
            let content = secrets.get(driver);
            swap(
                &folder,
                content.with_context(|| format!("the volume {name} waits for {driver}"))?,
            )?;
        } else if let Some(projected) = volume.get("projected") {
            let mut files = BTreeMap::new();
            for source in list(&projected["sources"]) {
                let token = source
                    .get("serviceAccountToken")
                    .with_context(|| format!("the volume {name} has a source that is not known"))?;
                // Nobody here would verify it.
                files.insert(text(&token["path"])?.to_owned(), "a token".to_owned());
            }
            swap(&folder, &files)?;
        } else if volume.get("emptyDir").is_some() {
            // As the kubelet makes it.
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        } else {
            bail!("the volume {name} is of a kind that is not run here: {volume}");
        }
        Ok(())
    }

    /// What a kubelet puts for a `fieldRef`.
    fn field(&self, path: &str) -> Result<String> {
        let value = match path
            .strip_prefix("metadata.annotations['")
            .and_then(|rest| rest.strip_suffix("']"))
        {
            Some(key) => self.spec["metadata"]["annotations"][key].clone(),
            None => match path {
                "status.podIP" => Value::String(self.network.address.to_string()),
                "metadata.name" => self.spec["metadata"]["name"].clone(),
                "metadata.namespace" => self.spec["metadata"]["namespace"].clone(),
                "spec.nodeName" => Value::String("node".to_owned()),
                other => bail!("the field {other} is not known here"),
            },
        };
        Ok(value.as_str().unwrap_or_default().to_owned())
    }

    /// Gives the Secret or ConfigMap of a volume another content, as the kubelet does when the object changes: a new folder,
    /// and one rename.
    ///
    /// # Errors
    ///
    /// A volume that is not there, or is of another kind.
    pub fn write_secret(&self, volume: &str, content: &Secret) -> Result {
        let found = list(&self.spec["spec"]["volumes"])
            .iter()
            .find(|known| known["name"] == volume);
        let secret = found
            .and_then(|volume| volume.get("secret").or(volume.get("configMap")))
            .context("there is no such volume of a Secret or ConfigMap")?;
        let mut files = BTreeMap::new();
        match secret.get("items").and_then(Value::as_array) {
            None => files.extend(content.clone()),
            Some(items) => {
                for item in items {
                    let key = text(&item["key"])?;
                    // A key that is not there holds a kubelet back; a Secret that exists may hold an empty one.
                    let value = content
                        .get(key)
                        .with_context(|| format!("the volume {volume} waits for the key {key}"))?;
                    files.insert(text(&item["path"])?.to_owned(), value.clone());
                }
            }
        }
        swap(&self.volume_folder(volume), &files)
    }

    fn container(&self, name: &str) -> Result<&Value> {
        let spec = &self.spec["spec"];
        list(&spec["initContainers"])
            .iter()
            .chain(list(&spec["containers"]))
            .find(|container| container["name"] == name)
            .with_context(|| format!("the pod has no container {name}"))
    }

    /// The command that runs a container with `program` as its image's entry point.
    ///
    /// # Errors
    ///
    /// A container that is not there or that asks for what is not known here.
    pub fn command(&self, name: &str, program: &Path, extra: &[&str]) -> Result<Command> {
        let container = self.container(name)?;
        let root = self.folder.path().join("roots").join(name);
        fs::create_dir_all(&root)?;
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            &self.network.name,
            "unshare",
            "--mount",
            "sh",
            "-euc",
        ]);
        command
            .arg(self.script(container, &root, program)?)
            .arg("sh");
        // The first word of a command is the program; the rest goes before the arguments.
        let words = list(&container["command"]).iter().skip(1);
        for argument in words.chain(list(&container["args"])) {
            // Parameters' dollars are doubled, for the kubelet to halve.
            command.arg(text(argument)?.replace("$$", "$"));
        }
        command.args(extra);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        for variable in list(&container["env"]) {
            let name = text(&variable["name"])?;
            match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some(field) => command.env(name, self.field(field)?),
                None => command.env(
                    name,
                    variable["value"]
                        .as_str()
                        .unwrap_or_default()
                        .replace("$$", "$"),
                ),
            };
        }
        Ok(command)
    }

    /// A shell script that puts the container's root together in a mount namespace and becomes the program.
    fn script(&self, container: &Value, root: &Path, program: &Path) -> Result<String> {
        let root = root.display().to_string();
        let mut lines = vec![
            "mount --make-rprivate /".to_owned(),
            format!("mount -t tmpfs -o mode=0755 root {root}"),
            format!("mkdir -p {root}/usr {root}/proc {root}/dev {root}/etc/ssl {root}/image"),
            format!("mount --rbind /usr {root}/usr && mount -o remount,ro,bind {root}/usr"),
            // Merged /usr, as on every Debian of today.
            format!("for part in bin sbin lib lib64; do ln -s usr/$part {root}/$part; done"),
            format!("mount --rbind /dev {root}/dev"),
            format!("mount -t proc proc {root}/proc"),
            format!(
                "mount --rbind /etc/ssl {root}/etc/ssl && mount -o remount,ro,bind {root}/etc/ssl"
            ),
            format!(
                "touch {root}/image/program && mount --bind {} {root}/image/program",
                program.display()
            ),
        ];
        for (path, file) in &self.image_files {
            lines.push(format!(
                "mkdir -p $(dirname {root}{path}) && cp {} {root}{path}",
                file.display()
            ));
        }
        for mount in list(&container["volumeMounts"]) {
            let source = self.volume_folder(text(&mount["name"])?);
            let source = source.join(mount["subPath"].as_str().unwrap_or_default());
            let target = format!("{root}{}", text(&mount["mountPath"])?);
            let make = if source.is_file() {
                format!("mkdir -p $(dirname {target}) && touch {target}")
            } else {
                format!("mkdir -p {target}")
            };
            lines.push(format!(
                "{make} && mount --bind {} {target}",
                source.display()
            ));
            if mount["readOnly"] == true {
                lines.push(format!("mount -o remount,ro,bind {target}"));
            }
        }
        let context = &container["securityContext"];
        if context["readOnlyRootFilesystem"] == true {
            lines.push(format!("mount -o remount,ro {root}"));
        }
        let id = |field: &str, other: i64| {
            context[field]
                .as_i64()
                .or(self.spec["spec"]["securityContext"][field].as_i64())
                .unwrap_or(other)
        };
        let (user, group) = (id("runAsUser", 65534), id("runAsGroup", 65534));
        ensure!(user != 0, "the container would run as root");
        // As runc does, so that /dev/stdout can be opened by its name.
        lines.push(format!("chown {user} /proc/self/fd/1 /proc/self/fd/2"));
        lines.push(format!(
            "exec chroot {root} setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs \
             --inh-caps=-all --bounding-set=-all /image/program \"$@\""
        ));
        Ok(lines.join("\n"))
    }

    /// Runs an init container to its end.
    ///
    /// # Errors
    ///
    /// With what it said, when it does not end well.
    pub fn run(&self, name: &str, program: &Path) -> Result<String> {
        process::run(&self.command(name, program, &[])?, b"", LIMIT)?.ok()
    }

    /// Starts a container that goes on running, and gives its place in the order of start.
    ///
    /// # Errors
    ///
    /// When it cannot be started. One that ends at once shows in its log.
    pub fn start(&mut self, name: &str, program: &Path) -> Result<usize> {
        let command = self.command(name, program, &[])?;
        let log = self.folder.path().join(format!("{name}.log"));
        self.running
            .push(Daemon::start(&command, &log, Duration::from_secs(5))?);
        Ok(self.running.len() - 1)
    }

    /// Starts a program of the test inside of the pod's network, as the application.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start_application(&mut self, program: &str, arguments: &[&str]) -> Result<usize> {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.network.name, program])
            .args(arguments);
        let log = self.folder.path().join("application.log");
        self.running
            .push(Daemon::start(&command, &log, Duration::from_secs(5))?);
        Ok(self.running.len() - 1)
    }

    /// A container that was started.
    ///
    /// # Errors
    ///
    /// A place that was not given out.
    pub fn daemon(&mut self, place: usize) -> Result<&mut Daemon> {
        self.running
            .get_mut(place)
            .context("nothing was started there")
    }

    /// A probe of a container: its scheme, port and path, with a port's name resolved.
    ///
    /// # Errors
    ///
    /// A probe that is not there or is no httpGet.
    pub fn probe(&self, container: &str, probe: &str) -> Result<String> {
        let container = self.container(container)?;
        let get = container[probe]
            .get("httpGet")
            .with_context(|| format!("no {probe} by httpGet"))?;
        let port = match &get["port"] {
            Value::String(name) => list(&container["ports"])
                .iter()
                .find(|port| port["name"] == name.as_str())
                .and_then(|port| port["containerPort"].as_i64())
                .with_context(|| format!("no port is called {name}"))?,
            number => number.as_i64().context("the probe has no port")?,
        };
        let scheme = get["scheme"].as_str().unwrap_or("HTTP").to_lowercase();
        Ok(format!(
            "{scheme}://{}:{port}{}",
            self.network.address,
            text(&get["path"])?
        ))
    }
}

impl Drop for LocalPod {
    fn drop(&mut self) {
        // The last that was started first, as KEP-753 has it.
        while let Some(mut daemon) = self.running.pop() {
            daemon.stop();
        }
    }
}

impl Network {
    fn start() -> Result<Self> {
        let number = PODS.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        // Interfaces' names have 15 characters; addresses are from the range for benchmarks (RFC 2544).
        let name = format!("outrigger-{process}-{number}");
        let link = format!("or{}-{number}", process % 100_000);
        let third = u8::try_from((process + number * 7) % 250).unwrap_or(1);
        let fourth = u8::try_from((number * 4) % 248).unwrap_or(0);
        let (host, address) = (
            Ipv4Addr::new(198, 18, third, fourth + 1),
            Ipv4Addr::new(198, 18, third, fourth + 2),
        );
        let network = Self {
            name,
            link,
            address,
        };
        let (name, link) = (&network.name, &network.link);
        ip(&["netns", "add", name]).context("this test needs root and Debian's iproute2")?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&[
            "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name,
        ])?;
        ip(&["address", "add", &format!("{host}/30"), "dev", link])?;
        ip(&["link", "set", link, "up"])?;
        ip(&[
            "-n",
            name,
            "address",
            "add",
            &format!("{address}/30"),
            "dev",
            "eth0",
        ])?;
        ip(&["-n", name, "link", "set", "eth0", "up"])?;
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The veth pair goes with the namespace.
        if let Err(error) = ip(&["netns", "delete", &self.name]) {
            eprintln!(
                "the network namespace {} could not be deleted: {error:#}",
                self.name
            );
        }
        let _ = ip(&["link", "delete", &self.link]);
    }
}

fn ip(arguments: &[&str]) -> Result {
    let mut command = Command::new("ip");
    command.args(arguments);
    process::run(&command, b"", LIMIT)?.ok().map(drop)
}

/// Writes files as the kubelet writes a volume: into a new folder, to which `..data` is then switched by a
/// rename.
fn swap(folder: &Path, files: &BTreeMap<String, String>) -> Result {
    static VERSIONS: AtomicU32 = AtomicU32::new(0);
    let version = format!("..version-{}", VERSIONS.fetch_add(1, Ordering::Relaxed));
    let new = folder.join(&version);
    fs::create_dir(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    for (name, content) in files {
        fs::write(new.join(name), content)?;
        fs::set_permissions(new.join(name), fs::Permissions::from_mode(0o644))?;
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(name), &link)?;
        }
    }
    let old = fs::read_link(folder.join("..data")).ok();
    symlink(&version, folder.join("..data_tmp"))?;
    fs::rename(folder.join("..data_tmp"), folder.join("..data"))?;
    if let Some(old) = old {
        fs::remove_dir_all(folder.join(old))?;
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> Result<&str> {
    value
        .as_str()
        .with_context(|| format!("expected text, found {value}"))
}
