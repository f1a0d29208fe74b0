//! `outrigger inject`: manifests in, manifests with their sidecars out.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};
use similar::TextDiff;

use super::options::{CatalogueOptions, NativeSidecars};
use crate::admission::Snapshot;
use crate::inject::explain::Explanation;
use crate::inject::{self, Namespace, Outcome, Pod, Verdict, problem};
use crate::manifest::{self, Stream, Workload};

/// Inject sidecars into manifests, with the same engine as the webhook
#[derive(Debug, Args)]
pub struct InjectCommand {
    #[command(flatten)]
    input: Input,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What `inject` and `explain` read.
#[derive(Debug, Args)]
pub struct Input {
    /// A manifest, a folder of them, or - for standard input; may be given several times
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", required = true)]
    filenames: Vec<PathBuf>,
    /// The namespace of workloads that name none
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Manifests of namespaces, whose labels and annotations then count. Namespaces among the manifests
    /// themselves count too
    #[arg(long, value_name = "FILE|DIR")]
    namespace_manifest: Vec<PathBuf>,
    /// How sidecars run in the cluster
    #[arg(long, value_enum, default_value_t)]
    native_sidecars: NativeSidecars,
    #[command(flatten)]
    catalogue: CatalogueOptions,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The manifests; what is not changed is printed byte for byte as it was
    #[default]
    Yaml,
    /// The manifests as JSON: one as it is, several as a List
    Json,
    /// The JSON patch: the operations alone for one workload, else with what each is for
    Patch,
    /// What changes, as a unified diff
    Diff,
}

/// What was read.
pub struct Manifests {
    /// The files.
    pub streams: Vec<Stream>,
    snapshot: Snapshot,
    namespace: String,
}

/// A decision on one workload.
pub struct Decided {
    /// The decision as data.
    pub explanation: Explanation,
    /// The patch on the workload's pod template, if there is one.
    pub patch: Option<String>,
    /// The message of a denial, if it is one.
    pub denied: Option<String>,
}

impl Input {
    /// Reads everything.
    ///
    /// # Errors
    /// A file that cannot be read, is no YAML, or holds a profile that is refused.
    pub fn read(&self) -> anyhow::Result<Manifests> {
        let mut stdin = std::io::stdin().lock();
        let streams = manifest::read_all(&self.filenames, &mut stdin)?;
        let mut snapshot = self.catalogue.snapshot(self.native_sidecars)?;
        let named = manifest::read_all(&self.namespace_manifest, &mut stdin)?;
        for (name, metadata) in named.iter().chain(&streams).flat_map(Stream::namespaces) {
            snapshot
                .namespaces
                .insert(name.to_owned(), namespace_facts(name, metadata)?);
        }
        Ok(Manifests {
            streams,
            snapshot,
            namespace: self.namespace.clone(),
        })
    }
}

fn namespace_facts(name: &str, metadata: &Json) -> anyhow::Result<Namespace> {
    let strings = |field: &str| -> anyhow::Result<BTreeMap<String, String>> {
        match metadata.get(field) {
            None | Some(Json::Null) => Ok(BTreeMap::new()),
            Some(value) => serde_json::from_value(value.clone()).with_context(|| {
                format!("the {field} of the namespace {name:?} are no map of strings")
            }),
        }
    };
    Ok(Namespace {
        labels: strings("labels")?,
        annotations: strings("annotations")?,
    })
}

impl Manifests {
    /// What the engine decides on a workload of a stream.
    ///
    /// # Errors
    /// A pod template that Kubernetes would refuse to read.
    pub fn decide(&self, stream: &Stream, workload: &Workload) -> anyhow::Result<Decided> {
        let template = stream.template(workload);
        let bytes = serde_json::to_vec(template)?;
        let pod = Pod::parse(&bytes).with_context(|| {
            format!(
                "{}: {}: the pod template cannot be read",
                stream.source,
                title(workload)
            )
        })?;
        let namespace = workload.namespace.as_deref().unwrap_or(&self.namespace);
        let object = || template.clone();
        let outcome = inject::inject(
            &inject::Request {
                namespace,
                operation: "CREATE",
                is_pod: pod.spec.is_some(),
                dry_run: false,
                pod: &pod,
                object: &object,
                facts: self.snapshot.namespaces.get(namespace),
                sidecars: self.snapshot.sidecars,
            },
            &self.snapshot.catalogue,
        );
        Ok(Decided::of(&outcome))
    }
}

impl Decided {
    fn of(outcome: &Outcome<'_>) -> Self {
        let explanation = Explanation::of(outcome);
        match &outcome.verdict {
            Verdict::Injected(patch) => Self {
                explanation,
                patch: Some(patch.to_json()),
                denied: None,
            },
            Verdict::Denied(problems) => Self {
                explanation,
                patch: None,
                denied: Some(problem::message(problems)),
            },
            Verdict::Skipped(_) => Self {
                explanation,
                patch: None,
                denied: None,
            },
        }
    }
}

/// `Deployment shop/web`.
pub fn title(workload: &Workload) -> String {
    match &workload.namespace {
        Some(namespace) => format!("{} {namespace}/{}", workload.kind, workload.name),
        None => format!("{} {}", workload.kind, workload.name),
    }
}

impl InjectCommand {
    /// Runs the command. Exit status 1: a workload was denied, and then nothing is printed to standard output.
    ///
    /// # Errors
    /// Input that cannot be read, or output that cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let mut manifests = self.input.read()?;
        let mut streams = std::mem::take(&mut manifests.streams);
        let mut patches = Vec::new();
        let mut denied = false;
        let mut count = 0;
        for stream in &mut streams {
            for workload in stream.workloads() {
                count += 1;
                let decided = manifests.decide(stream, &workload)?;
                let title = format!("{}: {}", stream.source, title(&workload));
                for warning in &decided.explanation.warnings {
                    anstream::eprintln!("{title}: warning: {warning}");
                }
                if let Some(message) = &decided.denied {
                    anstream::eprintln!("{title}: denied: {message}");
                    denied = true;
                }
                let Some(patch) = decided.patch else { continue };
                let parsed: json_patch::Patch = serde_json::from_str(&patch)?;
                stream
                    .apply(&workload, &parsed)
                    .with_context(|| title.clone())?;
                patches.push(described(stream, &workload, &patch)?);
            }
        }
        if denied {
            return Ok(ExitCode::FAILURE);
        }
        match self.output {
            Output::Yaml => print_text(&streams, out)?,
            Output::Json => print_json(&streams, out)?,
            Output::Patch => match patches.as_slice() {
                [only] if count == 1 => writeln!(out, "{:#}", only["patch"])?,
                _ => writeln!(out, "{:#}", Json::Array(patches))?,
            },
            Output::Diff => print_diff(&streams, out)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A patch with what it is for; its pointers start at the document.
fn described(stream: &Stream, workload: &Workload, patch: &str) -> anyhow::Result<Json> {
    let mut operations: Json = serde_json::from_str(patch)?;
    for operation in operations.as_array_mut().into_iter().flatten() {
        if let Some(Json::String(path)) = operation.get_mut("path") {
            path.insert_str(0, &workload.pointer);
        }
    }
    Ok(json!({
        "file": stream.source,
        "document": workload.document + 1,
        "kind": workload.kind,
        "namespace": workload.namespace,
        "name": workload.name,
        "patch": operations,
    }))
}

/// The streams one after the other, with a marker between files where the second has none of its own.
fn print_text(streams: &[Stream], out: &mut dyn Write) -> anyhow::Result<()> {
    let mut ended = true;
    for (index, stream) in streams.iter().enumerate() {
        let text = stream.to_text();
        if !ended {
            writeln!(out)?;
        }
        if index > 0 && !text.starts_with("---") {
            writeln!(out, "---")?;
        }
        out.write_all(text.as_bytes())?;
        ended = text.is_empty() || text.ends_with('\n');
    }
    Ok(())
}

fn print_json(streams: &[Stream], out: &mut dyn Write) -> anyhow::Result<()> {
    let values: Vec<&Json> = streams.iter().flat_map(Stream::values).collect();
    match values.as_slice() {
        [only] => writeln!(out, "{only:#}")?,
        several => writeln!(
            out,
            "{:#}",
            json!({"apiVersion": "v1", "kind": "List", "items": several})
        )?,
    }
    Ok(())
}

fn print_diff(streams: &[Stream], out: &mut dyn Write) -> anyhow::Result<()> {
    for stream in streams {
        let (before, after) = (stream.original(), stream.to_text());
        if before != after {
            let name = Path::new(&stream.source).display().to_string();
            let diff = TextDiff::from_lines(&before, &after);
            write!(
                out,
                "{}",
                diff.unified_diff()
                    .context_radius(3)
                    .header(&name, &format!("{name} (injected)"))
            )?;
        }
    }
    Ok(())
}
