//! `cargo xtask dist`: what is released, in `target/dist`: the static binary, the bill of what is in it, and
//! the checksums of both.
//!
//! The binary depends on the source, `Cargo.lock`, the compiler and the C library that is linked in, and on
//! nothing else: not on the folder that it is built in, the user's home or the time. `--verify` shows it, by a
//! second build from another folder.

mod bill;
mod context;
mod order;
mod resident;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::{parts, run};

/// The released program, also the name of its file.
const PROGRAM: &str = "outrigger";

/// The most bytes of the binary on [`LLD_HOST`]: its goal. The image holds nothing else.
const LARGEST: u64 = 12_000_000;

/// The same without [`LINKER_FLAGS`], where it was not measured.
const LARGEST_ELSEWHERE: u64 = 25_000_000;

/// The goal for what is resident when it is ready and idle, in bytes. On [`LLD_HOST`], where the linker is told the order
/// of functions.
const MOST_RESIDENT: u64 = 10_000_000;

/// The platform on which Rust links with LLD, which has [`LINKER_FLAGS`].
const LLD_HOST: &str = "x86_64-unknown-linux-gnu";

/// What makes the binary smaller where it is linked. Functions of the same code become one: what compares their
/// addresses would see it, but to Rust they are of no value (the compiler merges and copies functions itself), and
/// functions that catch or clean up while a panic unwinds are left alone. Relocations are packed, which the static
/// C library unpacks since glibc 2.36.
const LINKER_FLAGS: [&str; 2] = [
    "-Clink-arg=-Wl,--icf=all",
    "-Clink-arg=-Wl,-z,pack-relative-relocs",
];

/// Tells `tests/image.rs` which binary the image holds.
const IMAGE_BINARY: &str = "OUTRIGGER_IMAGE_BINARY";

/// `cargo xtask dist [--binary | --bill | --verify | --order]`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => {
            ensure_small(&make_binary()?)?;
            let bill = bill::write(&folder(), &host()?)?;
            write_checksums(&[&folder().join(PROGRAM), &bill])
        }
        ["--bill"] => bill::write(&folder(), &host()?).map(drop),
        ["--binary"] => make_binary().map(drop),
        ["--order"] => {
            ensure!(
                host()? == LLD_HOST,
                "the order is for {LLD_HOST}, and only recorded there"
            );
            // Before the build, which takes long.
            let search = parts::install_for_tests()?;
            order::record(&here()?.run(Symbols::Kept)?, &search)
        }
        ["--verify"] => {
            let binary = make_binary()?;
            ensure_small(&binary)?;
            verify(&binary)
        }
        _ => bail!(
            "`cargo xtask dist` takes `--binary`, `--bill`, `--verify`, `--order` or nothing, but `{}` was given",
            arguments.join(" ")
        ),
    }
}

/// Where what is released goes.
fn folder() -> PathBuf {
    run::target_directory().join("dist")
}

/// The platform that is built for: the machine's own. It must be named, for flags for the program not to reach
/// procedural macros too, which cannot be static.
fn host() -> Result<String> {
    run::output(
        Command::new("rustc").args(["--print", "host-tuple"]),
        "install Rust",
    )
}

/// Whether the names of functions stay in the binary.
#[derive(Clone, Copy)]
enum Symbols {
    Kept,
    Stripped,
}

/// One build of the binary, and everything that it must not depend on.
struct Build {
    source: PathBuf,
    target: PathBuf,
    cargo_home: PathBuf,
}

impl Build {
    /// Compiles, and returns the binary.
    fn run(&self, symbols: Symbols) -> Result<PathBuf> {
        let host = host()?;
        // Of several that match the last one counts, and the target folder is often within the source's.
        let folders = [
            (&self.source, "/outrigger"),
            (&self.cargo_home, "/cargo"),
            (&self.target, "/target"),
        ];
        let mut flags = vec![OsString::from("-Ctarget-feature=+crt-static")];
        if host == LLD_HOST {
            flags.extend(LINKER_FLAGS.map(OsString::from));
            flags.extend(order::flags().map(OsString::from));
        }
        let mut c_flags = OsString::new();
        for (folder, name) in folders {
            let mut rename = folder.clone().into_os_string();
            rename.push("=");
            rename.push(name);
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(&rename);
            flags.push(flag);
            c_flags.push(" -ffile-prefix-map=");
            c_flags.push(&rename);
        }
        let cargo = |command: &str| {
            let mut cargo = run::cargo();
            cargo
                .current_dir(&self.source)
                .args([command, "--locked", "--release", "--package", PROGRAM])
                .args(["--target", &host])
                .env("CARGO_TARGET_DIR", &self.target)
                .env("CARGO_HOME", &self.cargo_home)
                // Separated by what no path holds.
                .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f".as_ref()))
                .env("CFLAGS", &c_flags)
                .env("CARGO_INCREMENTAL", "0")
                // Smaller by a twenty-fifth, for twice the time.
                .env("CARGO_PROFILE_RELEASE_LTO", "fat");
            cargo
        };
        let binary = self.target.join(&host).join("release").join(PROGRAM);
        if order::is_newer_than(&binary, &self.source)? {
            run::run(&mut cargo("clean"), "install Rust")?;
        }
        let start = Instant::now();
        let mut compile = cargo("rustc");
        compile.args(["--bin", PROGRAM]);
        if matches!(symbols, Symbols::Kept) {
            compile.args(["--", "-Cstrip=none"]);
        }
        run::run(&mut compile, "install Rust")?;
        println!("built in {:.0} s", start.elapsed().as_secs_f64());
        for (folder, _) in folders {
            ensure_absent(&binary, folder)?;
        }
        Ok(binary)
    }
}

/// The folder of cargo's registry.
fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(std::path::absolute(home)?),
        None => std::env::home_dir()
            .map(|home| home.join(".cargo"))
            .context("neither CARGO_HOME nor HOME is set"),
    }
}

/// A name of a folder of this machine would differ elsewhere.
fn ensure_absent(binary: &Path, folder: &Path) -> Result<()> {
    let content =
        fs::read(binary).with_context(|| format!("failed to read {}", binary.display()))?;
    let name = folder.as_os_str().as_encoded_bytes();
    ensure!(
        !content.windows(name.len()).any(|window| window == name),
        "{} holds the name of a folder of this machine, {}: rename it in `Build::run`",
        binary.display(),
        folder.display()
    );
    Ok(())
}

/// The build of this folder.
fn here() -> Result<Build> {
    Ok(Build {
        source: run::root().to_owned(),
        target: run::target_directory(),
        cargo_home: cargo_home()?,
    })
}

/// Makes the binary in `target/dist`, and returns where it is.
pub(crate) fn make_binary() -> Result<PathBuf> {
    let built = here()?.run(Symbols::Stripped)?;
    ensure_static(&built)?;
    run::run(Command::new(&built).arg("--version"), "it was just built").context(
        "the binary does not start: its relocations are packed, which a C library older than glibc 2.36 does not undo",
    )?;
    let binary = folder().join(PROGRAM);
    fs::create_dir_all(folder())?;
    fs::copy(&built, &binary).with_context(|| format!("failed to write {}", binary.display()))?;
    println!("{}: SHA-256 {}", binary.display(), checksum(&binary)?);
    Ok(binary)
}

/// Holds the size of the binary and the memory that it takes to their bounds.
fn ensure_small(binary: &Path) -> Result<()> {
    let host = host()?;
    let size = fs::metadata(binary)?.len();
    println!("{size} bytes");
    let largest = match host.as_str() {
        LLD_HOST => LARGEST,
        _ => LARGEST_ELSEWHERE,
    };
    ensure!(
        size <= largest,
        "the binary has {size} bytes, and {largest} at most are meant: look at what came with it (`cargo tree`)"
    );
    let resident = resident::when_idle(binary)?;
    println!("{resident} bytes are resident when it is ready and idle");
    ensure!(
        resident <= MOST_RESIDENT || host != LLD_HOST || !order::is_by_this_compiler()?,
        "{resident} bytes are resident when the binary is idle, and {MOST_RESIDENT} at most are meant: `cargo xtask \
         dist --order` records anew which functions run"
    );
    Ok(())
}

/// Neither a loader nor a library is asked for: both would be missing in the image.
fn ensure_static(binary: &Path) -> Result<()> {
    let headers = run::output(
        Command::new("readelf")
            .args(["--wide", "--program-headers", "--dynamic"])
            .arg(binary),
        "install binutils",
    )?;
    for mark in ["INTERP", "(NEEDED)"] {
        ensure!(
            !headers.contains(mark),
            "{} is not static: `readelf` shows {mark}",
            binary.display()
        );
    }
    Ok(())
}

/// Builds again from what the image is built from, with every folder of another name, and compares; then runs the
/// binary as the image would.
fn verify(first: &Path) -> Result<()> {
    let scratch = run::target_directory().join("dist-verify");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)
            .with_context(|| format!("failed to empty {}", scratch.display()))?;
    }
    let build = Build {
        source: scratch.join("source"),
        target: scratch.join("objects"),
        cargo_home: scratch.join("registry"),
    };
    context::copy(run::root(), &build.source)?;
    symlink(cargo_home()?, &build.cargo_home)?;
    let second = build.run(Symbols::Stripped)?;
    let (one, other) = (checksum(first)?, checksum(&second)?);
    ensure!(
        one == other,
        "two builds differ: {} has SHA-256 {one}, {} has {other}",
        first.display(),
        second.display()
    );
    println!("two builds from different folders gave the same bytes: SHA-256 {one}");
    fs::remove_dir_all(&scratch)?;
    run::run(
        run::cargo()
            .args(["test", "--locked", "--package", PROGRAM, "--test", "image"])
            .env(IMAGE_BINARY, first),
        "install Rust",
    )
}

fn checksum(file: &Path) -> Result<String> {
    let content = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
    Ok(Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Writes what `sha256sum --check` reads.
fn write_checksums(files: &[&Path]) -> Result<()> {
    let mut lines = String::new();
    for file in files {
        let name = file.file_name().context("a file has no name")?;
        lines.push_str(&format!("{}  {}\n", checksum(file)?, name.display()));
    }
    let path = folder().join("SHA256SUMS");
    fs::write(&path, lines).with_context(|| format!("failed to write {}", path.display()))
}
