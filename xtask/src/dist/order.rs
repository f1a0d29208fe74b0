//! Which functions lie together at the beginning of the program's code.
//!
//! What runs is less than a third of the code. Where it is spread over the whole file, nearly all of the file becomes
//! resident, since the kernel maps 64 KiB and more around whatever is touched. The linker therefore puts what runs
//! first, as `cargo xtask dist --order` saw it. A name that no longer is only costs some memory. Most of them change
//! with the compiler and with the version of the program, and those of a crate with `Cargo.lock`: record after these.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use crate::{parts, run};

/// The functions as the linker knows them, a line each: from the top folder, where the linker runs.
const FILE: &str = "xtask/symbol-order.txt";

/// The first lines of that file; the compiler's version follows.
const HEADER: &str = "\
# The functions that run from the start of the program until it has answered reviews, recorded by
# `cargo xtask dist --order`; xtask/src/dist/order.rs says what for. First those that run without a cluster too.
";

/// Before the version of the compiler.
const COMPILER: &str = "# Compiled by ";

/// Fewer are no record of anything.
const FEWEST: usize = 1_000;

/// What the linker is told. Functions that are private to a crate have the name of its source rather than a digest of
/// its code in theirs, where the optimiser shares them, so that they are found again after a change.
pub(super) fn flags() -> [String; 3] {
    [
        "-Cllvm-args=-use-source-filename-for-promoted-locals".to_owned(),
        format!("-Clink-arg=-Wl,--symbol-ordering-file={FILE}"),
        "-Clink-arg=-Wl,--no-warn-symbol-ordering".to_owned(),
    ]
}

/// Whether a program was linked before the order in this source folder was recorded, which cargo does not look at.
pub(super) fn is_newer_than(program: &Path, source: &Path) -> Result<bool> {
    let modified = |path: &Path| -> Result<SystemTime> {
        let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
        Ok(metadata.modified()?)
    };
    Ok(program.exists() && modified(&source.join(FILE))? > modified(program)?)
}

/// Whether the order was recorded with this compiler: another one gives functions other names.
pub(super) fn is_by_this_compiler() -> Result<bool> {
    let text = fs::read_to_string(run::root().join(FILE)).context(FILE)?;
    Ok(compiler(&text) == Some(run::compiler()?.as_str()))
}

/// The compiler that an order names.
fn compiler(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix(COMPILER))
}

/// Runs a program that still has its symbols, by itself and in a cluster, and writes down which of its functions ran.
/// `search` is where the parts of a cluster are, as [`parts::VARIABLE`] has it.
pub(super) fn record(program: &Path, search: &OsStr) -> Result<()> {
    let folder = run::target_directory().join("dist-order");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("failed to empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    run::run(
        run::cargo()
            .args(["bench", "--locked", "--profile", "dev"])
            .args(["--bench", "webhook", "--", "executed"])
            .arg(&folder)
            .arg("--program")
            .arg(program)
            .env(parts::VARIABLE, search),
        "install Rust",
    )?;
    let seen = |name: &str| -> Result<BTreeSet<String>> {
        let file = folder.join(format!("{name}.callgrind"));
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let seen: BTreeSet<_> = functions(&text).map(str::to_owned).collect();
        ensure!(
            seen.len() >= FEWEST,
            "{}: {} functions: has {} symbols?",
            file.display(),
            seen.len(),
            program.display()
        );
        Ok(seen)
    };
    let mut always = seen("alone")?;
    always.extend(seen("self-signed")?);
    let cluster = seen("cluster")?;
    let symbols = run::output(
        Command::new("nm")
            .args(["--defined-only", "--format=posix"])
            .arg(program),
        "install binutils",
    )?;
    always.extend(unseen(&symbols).map(str::to_owned));
    let mut text = format!("{HEADER}{COMPILER}{}\n", run::compiler()?);
    for function in always.iter().chain(cluster.difference(&always)) {
        text.push_str(function);
        text.push('\n');
    }
    fs::write(run::root().join(FILE), text).with_context(|| format!("failed to write {FILE}"))?;
    println!(
        "{FILE}: {} functions, and {} that run in a cluster only",
        always.len(),
        cluster.difference(&always).count()
    );
    Ok(())
}

/// The names in a file of callgrind's: of functions, `fn=(7) name`, and of those that they call, `cfn=(8) name`, where
/// each is met first. What has no name is an address.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.strip_prefix('c').unwrap_or(line);
        let (_, name) = line.strip_prefix("fn=(")?.split_once(") ")?;
        // The second of those that call themselves, and the next.
        let name = name.split_once('\'').map_or(name, |(name, _)| name);
        let is_symbol = name.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && !name.contains(char::is_whitespace);
        is_symbol.then_some(name)
    })
}

/// What runs though callgrind does not see it: the very first function, and of functions that exist once for each kind of
/// processor those of other kinds than the one that valgrind is, with what chooses among them. `symbols` are lines of
/// nm's, a name and its type first.
fn unseen(symbols: &str) -> impl Iterator<Item = &str> {
    const KINDS: [&str; 4] = ["_avx", "_evex", "_ifunc", "x86_sha"];
    symbols.lines().filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        let chooses = rest.starts_with('i');
        (chooses || name == "_start" || KINDS.iter().any(|kind| name.contains(kind)))
            .then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_a_record_of_this_program() {
        let text = fs::read_to_string(run::root().join(FILE)).unwrap();
        assert!(text.starts_with(HEADER));
        assert!(compiler(&text).is_some_and(|compiler| compiler.starts_with("rustc 1.")));
        let names: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(names.len() >= FEWEST);
        // The engine is among what runs, and no name is a line of something else.
        assert!(
            names
                .iter()
                .any(|name| name.contains("outrigger_core6inject"))
        );
        assert!(names.iter().all(|name| !name.contains([' ', '/'])));
    }

    #[test]
    fn what_another_processor_runs_is_there_too() {
        let symbols = "__memcpy_evex_unaligned t 10 8\n__memcpy_sse2 t 18 8\nmemcpy i 20 8\n_start T 28\n\
                       _ZN4sha26sha2567x86_sha8compressE t 30 8\nmain T 38 8\n";
        let names: Vec<_> = unseen(symbols).collect();
        assert_eq!(
            names,
            [
                "__memcpy_evex_unaligned",
                "memcpy",
                "_start",
                "_ZN4sha26sha2567x86_sha8compressE"
            ]
        );
    }

    #[test]
    fn names_are_read_where_they_are_met_first() {
        let text = "fl=(1) a.c\nfn=(1) _ZN4main\ncfn=(2) memcpy\ncalls=1 0\nfn=(2)\nfn=(3) walk'2\nfn=(4) 0x1234\n\
                    fn=(5) (below main)\ntotals: 3\n";
        let names: Vec<_> = functions(text).collect();
        assert_eq!(names, ["_ZN4main", "memcpy", "walk"]);
    }
}
