//! The image: one binary on a read-only root, run by an unprivileged user without capabilities.
//!
//! The root is laid out as the last stage of the `Dockerfile` says, in a folder, and the program runs in it by
//! `chroot`, in a mount namespace of its own, as a container runtime would run it. `cargo xtask dist --verify` gives
//! the binary that is released. A plain `cargo test` has the one that it compiled, which asks for the C library:
//! the system's stands beside it, and is all that does.
//!
//! Not shown here: that a registry and a container runtime take the image, the runtime's seccomp filter, and its
//! limits of memory and processor time. It needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use testkit::{Daemon, Finished, LocalPod, NameServer, Result, free_port, process, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

/// What the last stage of the `Dockerfile` makes.
#[derive(Debug, Default, PartialEq)]
struct Image {
    /// From the stage `build`, and to.
    files: Vec<(String, String)>,
    user: String,
    environment: BTreeMap<String, String>,
    entry_point: Vec<String>,
}

impl Image {
    /// Reads it. An instruction that this test could not follow is an error.
    fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile");
        let text = fs::read_to_string(&path)?.replace("\\\n", " ");
        let (_, stage) = text
            .rsplit_once("\nFROM ")
            .context("the Dockerfile has one stage only")?;
        let mut lines = stage.lines().map(str::trim);
        ensure!(
            lines.next() == Some("scratch"),
            "the image has a base, and should be from scratch"
        );
        let mut image = Self::default();
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (instruction, rest) = line
                .split_once(' ')
                .with_context(|| format!("what is `{line}`?"))?;
            match instruction {
                "LABEL" | "EXPOSE" => {}
                "USER" => rest.clone_into(&mut image.user),
                "ENV" => {
                    let (name, value) = rest.split_once('=').context("ENV NAME=VALUE")?;
                    image.environment.insert(name.to_owned(), value.to_owned());
                }
                "ENTRYPOINT" => image.entry_point = serde_json::from_str(rest)?,
                "COPY" => {
                    let words: Vec<&str> = rest.split_whitespace().collect();
                    let ["--from=build", from, to] = words.as_slice() else {
                        bail!("`{line}` is not `COPY --from=build FILE FILE`");
                    };
                    image.files.push(((*from).to_owned(), (*to).to_owned()));
                }
                _ => bail!("`{line}` is not known to this test"),
            }
        }
        Ok(image)
    }
}

/// The image's files, in a folder, and what is needed to run them.
struct Root {
    folder: TempDir,
    image: Image,
}

impl Root {
    fn lay_out() -> Result<Self> {
        let image = Image::read()?;
        // Beside the binary, on the same file system: it is large, and need not be copied.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let given = std::env::var_os("OUTRIGGER_IMAGE_BINARY").map(PathBuf::from);
        let binary = given
            .clone()
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_outrigger").into());
        for (from, to) in &image.files {
            ensure!(from == "/outrigger", "the stage `build` leaves no `{from}`");
            link(&binary, &inside(&folder, to))?;
        }
        let libraries = libraries(&binary)?;
        ensure!(
            given.is_none() || libraries.is_empty(),
            "{} is not static: it asks for {libraries:?}",
            binary.display()
        );
        for library in &libraries {
            let path = inside(&folder, &library.to_string_lossy());
            fs::create_dir_all(path.parent().unwrap())?;
            fs::copy(library, path)?;
        }
        // Everybody may write here, as far as permissions go: what prevents it is that the root is read-only.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        Ok(Self { folder, image })
    }

    /// The command that runs the entry point with `arguments`, and with files and folders of this machine mounted in
    /// it, as a kubelet mounts volumes.
    fn command(&self, mounts: &[(&Path, &str)], arguments: &[&str]) -> Result<Command> {
        let root = self.folder.path().display();
        let mut script = format!("mount --make-rprivate /\nmount --bind {root} {root}\n");
        for (from, to) in mounts {
            let target = inside(&self.folder, to);
            if from.is_dir() {
                fs::create_dir_all(&target)?;
            } else {
                fs::create_dir_all(target.parent().unwrap())?;
                fs::write(&target, "")?;
            }
            script.push_str(&format!(
                "mount --bind {} {}\n",
                from.display(),
                target.display()
            ));
        }
        script.push_str(&format!("mount -o remount,ro,bind {root}\nexec \"$@\"\n"));
        let (user, group) = self
            .image
            .user
            .split_once(':')
            .context("USER names no group")?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-euc", &script, "sh"])
            .args(["python3", "-c", ENTER])
            .arg(self.folder.path())
            .args([user, group])
            .arg(serde_json::to_string(&self.image.environment)?)
            .args(&self.image.entry_point)
            .args(arguments);
        Ok(command)
    }

    fn run(&self, mounts: &[(&Path, &str)], arguments: &[&str]) -> Result<Finished> {
        process::run(&self.command(mounts, arguments)?, b"", LIMIT)
    }
}

/// Enters the root, gives up everything that a container with `drop: [ALL]` and `allowPrivilegeEscalation: false` has
/// not, and becomes the program. In Python, for no program of the system is there after the `chroot`.
/// The numbers are those of `linux/prctl.h`: PR_CAPBSET_DROP, PR_CAP_AMBIENT with PR_CAP_AMBIENT_CLEAR_ALL, and
/// PR_SET_NO_NEW_PRIVS.
const ENTER: &str = r#"
import ctypes, json, os, sys
root, user, group, environment, program = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:]
c = ctypes.CDLL(None, use_errno=True)
def prctl(*numbers):
    if c.prctl(*map(ctypes.c_ulong, (*numbers, 0, 0, 0, 0)[:5])) != 0:
        raise OSError(ctypes.get_errno(), f"prctl{numbers}")
last = int(open("/proc/sys/kernel/cap_last_cap").read())
os.chroot(root)
os.chdir("/")
for capability in range(last + 1):
    prctl(24, capability)
prctl(47, 4)
os.setgroups([])
os.setresgid(group, group, group)
os.setresuid(user, user, user)
prctl(38, 1)
os.execve(program[0], program, json.loads(environment))
"#;

fn inside(folder: &TempDir, path: &str) -> PathBuf {
    folder.path().join(path.trim_start_matches('/'))
}

fn link(from: &Path, to: &Path) -> Result {
    fs::hard_link(from, to)
        .or_else(|_| fs::copy(from, to).map(drop))
        .with_context(|| format!("{} could not be laid out", from.display()))
}

/// The files that the loader would load for a program; none for a static one.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut ldd = Command::new("ldd");
    let said = process::run(ldd.arg(program), b"", LIMIT)?;
    // Two wordings, for the two kinds of static programs.
    if said.stdout.contains("statically linked") || said.stderr.contains("not a dynamic executable")
    {
        return Ok(BTreeSet::new());
    }
    let found: BTreeSet<PathBuf> = said
        .ok()?
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect();
    ensure!(!found.is_empty(), "`ldd` named no library");
    Ok(found)
}

/// A line of `/proc/PID/status`.
fn status(process: u32, name: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|rest| rest.strip_prefix(':'));
    Ok(value
        .with_context(|| format!("the kernel tells no {name}"))?
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" "))
}

/// A folder that the image's user may write to, as an emptyDir.
fn volume() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    Ok(folder)
}

/// Cargo refuses a workspace without all of its members, and a package without the targets that it names.
#[test]
fn the_build_context_holds_what_cargo_looks_for() -> Result {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let context = fs::read_to_string(root.join(".dockerignore"))?;
    let members = manifest
        .lines()
        .find_map(|line| line.strip_prefix("members = "))
        .context("no members")?;
    let members: Vec<String> = serde_json::from_str(members)?;
    let mut wanted: Vec<String> = members.into_iter().filter(|it| it != ".").collect();
    for section in manifest.split("\n[[test]]\n").skip(1) {
        let name = section
            .lines()
            .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        wanted.push(format!(
            "tests/{}.rs",
            name.context("a test without a name")?
        ));
    }
    ensure!(wanted.len() > 5, "{wanted:?}");
    let is_kept = |path: &str| {
        let mut kept = context.lines().filter_map(|line| line.strip_prefix('!'));
        kept.any(|kept| Path::new(path).starts_with(kept))
    };
    let missing: Vec<_> = wanted.iter().filter(|path| !is_kept(path)).collect();
    ensure!(missing.is_empty(), ".dockerignore leaves out {missing:?}");
    Ok(())
}

#[test]
fn the_image_is_one_file_and_an_unprivileged_user() -> Result {
    let image = Image::read()?;
    let expected = Image {
        files: vec![("/outrigger".to_owned(), "/outrigger".to_owned())],
        // A number: with a name the kubelet could not tell that it is not root.
        user: "65532:65532".to_owned(),
        // As other tests and the benchmarks start it.
        environment: process::IMAGE_ENVIRONMENT
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        entry_point: vec!["/outrigger".to_owned()],
    };
    assert_eq!(image, expected);
    Ok(())
}

/// The webhook needs no `/proc`, no `/dev`, no `/etc` and no `/tmp`: less than any container runtime gives.
#[test]
fn it_serves_without_privileges_from_a_root_that_it_cannot_write() -> Result {
    let root = Root::lay_out()?;
    let log = tempfile::tempdir()?;
    let (listen, operations) = (
        format!("127.0.0.1:{}", free_port()?),
        format!("127.0.0.1:{}", free_port()?),
    );
    let command = root.command(
        &[],
        &[
            "serve",
            "--self-signed",
            "--listen",
            &listen,
            "--operations-listen",
            &operations,
            "--drain-seconds",
            "0",
        ],
    )?;
    let mut daemon = Daemon::start(&command, &log.path().join("log"), LIMIT)?;
    // `wait-for` waits, from the image as well, for what a probe of a kubelet asks for.
    let ready = format!("http://{operations}/readyz");
    root.run(
        &[],
        &[
            "wait-for",
            "--tcp",
            &listen,
            "--http",
            &ready,
            "--timeout",
            "15s",
        ],
    )?
    .ok()
    .with_context(|| daemon.log())?;

    let id = daemon.id();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(id, set)?, "0000000000000000", "{set}");
    }
    assert_eq!(status(id, "Uid")?, "65532 65532 65532 65532");
    assert_eq!(status(id, "Gid")?, "65532 65532 65532 65532");
    assert_eq!(status(id, "Groups")?, "");
    assert_eq!(status(id, "NoNewPrivs")?, "1");

    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--insecure",
        "--noproxy",
        "*",
    ])
    .args(["--json", "@examples/review.json"])
    .arg(format!("https://{listen}/mutate"))
    .current_dir(env!("CARGO_MANIFEST_DIR"));
    let answer: serde_json::Value = serde_json::from_str(&process::run(&curl, b"", LIMIT)?.ok()?)?;
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    assert_eq!(answer["response"]["patchType"], "JSONPatch", "{answer}");

    daemon.signal(testkit::daemon::Signal::TERM)?;
    assert!(daemon.wait_ended(LIMIT)?.success(), "{}", daemon.log());
    Ok(())
}

#[test]
fn what_runs_inside_pods_works_too() -> Result {
    let root = Root::lay_out()?;
    let volume = volume()?;
    root.run(
        &[(volume.path(), "/certificate")],
        &[
            "certificate",
            "self-signed",
            "--directory",
            "/certificate",
            "--dns-name",
            "shop",
        ],
    )?
    .ok()?;
    for file in ["tls.key", "tls.crt", "ca.crt"] {
        assert!(volume.path().join(file).is_file(), "{file}");
    }

    let listed = root.run(&[], &["profile", "list"])?.ok()?;
    assert!(listed.contains("envoy-tls"), "{listed}");
    Ok(())
}

/// The network of a pod, and the files of names that a kubelet mounts in its containers.
struct Names {
    pod: LocalPod,
    folder: TempDir,
}

impl Names {
    fn lay_out(hosts: &str, resolv_conf: &str) -> Result<Self> {
        let names = Self {
            pod: LocalPod::new(&serde_json::json!({}), &BTreeMap::new())?,
            folder: tempfile::tempdir()?,
        };
        let server = names.pod.gateway().to_string();
        fs::write(names.hosts(), hosts)?;
        fs::write(names.resolv_conf(), resolv_conf.replace("SERVER", &server))?;
        Ok(names)
    }

    fn hosts(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    fn resolv_conf(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    /// `wait-for` from the image, in the pod.
    fn wait_for(&self, root: &Root, arguments: &[&str]) -> Result<Command> {
        let (hosts, resolv_conf) = (self.hosts(), self.resolv_conf());
        let mounts = [
            (hosts.as_path(), "/etc/hosts"),
            (resolv_conf.as_path(), "/etc/resolv.conf"),
        ];
        let command = root.command(&mounts, &[&["wait-for"], arguments].concat())?;
        let within = ["ip", "netns", "exec", self.pod.network_name()];
        Ok(process::wrapped(&within, &command))
    }
}

/// A name, with tries that are shorter than a lookup.
const IMPATIENT: &[&str] = &[
    "--dns",
    "catalog.example",
    "--per-try-timeout",
    "50ms",
    "--interval",
    "10ms",
];

/// As in a pod of a cluster: names are completed, and most are those of Services.
#[test]
fn names_are_looked_up_as_the_files_of_a_kubelet_say() -> Result {
    let root = Root::lay_out()?;
    let names = Names::lay_out(
        "127.0.0.1 localhost\n192.0.2.1 db.example\n",
        "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver SERVER\n\
         options ndots:5\n",
    )?;
    let host = names.pod.gateway();
    let known = [
        ("catalog.shop.svc.cluster.local", host),
        ("www.example.com", host),
    ];
    let server = NameServer::start(host, known, Duration::ZERO)?;
    let of_a_file = names.wait_for(&root, &["--dns", "db.example", "--timeout", "15s"])?;
    process::run(&of_a_file, b"", LIMIT)?.ok()?;
    assert_eq!(server.asked(), 0, "what /etc/hosts knows is asked for");

    let listener = std::net::TcpListener::bind((host, 0))?;
    let port = listener.local_addr()?.port();
    let (short, full) = (
        format!("catalog:{port}"),
        format!("www.example.com.:{port}"),
    );
    let of_dns = ["--tcp", &short, "--tcp", &full, "--timeout", "15s"];
    process::run(&names.wait_for(&root, &of_dns)?, b"", LIMIT)?.ok()?;

    let none = ["--dns", "cart", "--timeout", "3s"];
    let none = process::run(&names.wait_for(&root, &none)?, b"", LIMIT)?;
    assert_eq!(none.code, 1, "{}", none.stderr);
    let reason = "cart: failed to lookup address information: Name or service not known";
    assert!(none.stdout.contains(reason), "{}", none.stdout);
    Ok(())
}

#[test]
fn a_silent_name_server_holds_nothing_up() -> Result {
    let root = Root::lay_out()?;
    // One lookup takes 30 s x 5, which are the most that there can be, and more than this test waits.
    let names = Names::lay_out("", "nameserver SERVER\noptions timeout:30 attempts:5\n")?;
    let server = NameServer::silent(names.pod.gateway())?;
    let arguments = [IMPATIENT, &["--timeout", "3s"]].concat();
    let ended = process::run(&names.wait_for(&root, &arguments)?, b"", LIMIT)?;
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let said = "dns catalog.example: no answer within 3 s; at last: no answer within 50ms";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    // For an IPv4 and for an IPv6 address, once, in some fifty tries.
    assert!((1..=2).contains(&server.asked()), "{}", server.asked());
    Ok(())
}

/// A lookup goes on from one try to the next.
#[test]
fn a_name_server_may_be_slower_than_a_try() -> Result {
    let root = Root::lay_out()?;
    let names = Names::lay_out("", "nameserver SERVER\n")?;
    let host = names.pod.gateway();
    let _server = NameServer::start(
        host,
        [("catalog.example", host)],
        Duration::from_millis(500),
    )?;
    let arguments = [IMPATIENT, &["--timeout", "15s"]].concat();
    let told = process::run(&names.wait_for(&root, &arguments)?, b"", LIMIT)?.ok()?;
    assert_eq!(
        told,
        "dns catalog.example: waiting: no answer within 50ms\ndns catalog.example: answers\n"
    );
    Ok(())
}

#[test]
fn a_changed_resolv_conf_is_followed() -> Result {
    let root = Root::lay_out()?;
    // Nobody listens there, and the kernel says so.
    let names = Names::lay_out("", "nameserver 127.0.0.1\n")?;
    let host = names.pod.gateway();
    let _server = NameServer::start(host, [("catalog.example", host)], Duration::ZERO)?;
    let log = names.folder.path().join("log");
    let arguments = ["--dns", "catalog.example", "--interval", "100ms"];
    let command = names.wait_for(&root, &arguments)?;
    let mut waiting = Daemon::start(&command, &log, LIMIT)?;
    wait_until("a lookup to fail", LIMIT, || {
        let said = waiting.log();
        let reason = "catalog.example: failed to lookup address information";
        ensure!(said.contains(reason), "it said {said:?}");
        Ok(())
    })?;
    fs::write(names.resolv_conf(), format!("nameserver {host}\n"))?;
    assert!(waiting.wait_ended(LIMIT)?.success(), "{}", waiting.log());
    Ok(())
}

#[test]
fn the_root_is_read_only() -> Result {
    let root = Root::lay_out()?;
    let refused = root.run(
        &[],
        &[
            "certificate",
            "self-signed",
            "--directory",
            "/",
            "--dns-name",
            "shop",
        ],
    )?;
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("Read-only file system"),
        "{}",
        refused.stderr
    );
    Ok(())
}
