//! `outrigger inject`: manifests in, manifests with their sidecars out.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::Value as Json;

use super::diagram;
use super::options::{CatalogueOptions, NativeSidecars, all_of};
use crate::admission::Snapshot;
use crate::inject::explain::Explanation;
use crate::inject::{self, Namespace, Outcome, Pod, Verdict, problem};
use crate::manifest::{Source, Stream, Workload, render};

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
    /// A picture of every workload as it would run: Mermaid flowcharts in Markdown code blocks, for a .md
    /// file or a comment on GitHub or GitLab. What Outrigger added is blue, and containers name the ports that
    /// they declare. Full arrows are the order of the start, dotted ones volumes, away from a container that
    /// can write and towards one that can only read
    Diagram,
}

/// What was read.
pub struct Manifests {
    /// The files.
    pub streams: Vec<Stream>,
    snapshot: Snapshot,
    /// The namespace of workloads that name none.
    pub namespace: String,
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
        let streams = read_streams(&self.filenames)?;
        let snapshot = self.catalogue.snapshot(self.native_sidecars)?;
        let named = read_streams(&self.namespace_manifest)?;
        Manifests::new(streams, &named, snapshot, self.namespace.clone())
    }
}

/// Everything that these paths name, with all that is wrong with it at once.
fn read_streams(paths: &[PathBuf]) -> anyhow::Result<Vec<Stream>> {
    let sources = Source::read(paths, std::io::stdin().lock()).map_err(all_of)?;
    sources
        .iter()
        .map(|source| Stream::parse(&source.name, &source.bytes).map_err(all_of))
        .collect()
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
    /// Manifests, and what decisions on them depend on: the snapshot, the namespaces described in `named` and in the
    /// manifests themselves, and the namespace of workloads that name none.
    ///
    /// # Errors
    /// A namespace whose labels or annotations are no map of strings.
    pub fn new(
        streams: Vec<Stream>,
        named: &[Stream],
        mut snapshot: Snapshot,
        namespace: String,
    ) -> anyhow::Result<Self> {
        for namespace in named.iter().chain(&streams).flat_map(Stream::namespaces) {
            let facts = namespace_facts(namespace.name, &namespace.object["metadata"])?;
            let facts = Arc::new(facts);
            snapshot.namespaces.insert_mut(namespace.name.into(), facts);
        }
        Ok(Self {
            streams,
            snapshot,
            namespace,
        })
    }

    /// Decides on every workload, tells `told` of each and patches those that are to be.
    ///
    /// # Errors
    /// A pod template that Kubernetes would refuse to read, or a patch that does not apply.
    pub fn inject(
        &mut self,
        mut told: impl FnMut(&Stream, &Workload<'_>, &Decided),
    ) -> anyhow::Result<()> {
        let mut streams = std::mem::take(&mut self.streams);
        for stream in &mut streams {
            let mut patches = Vec::new();
            for workload in stream.workloads(&self.namespace) {
                let decided = self.decide(stream, &workload)?;
                told(stream, &workload, &decided);
                if let Some(patch) = decided.patch {
                    let patch: json_patch::Patch = serde_json::from_str(&patch)?;
                    patches.push((workload.place.clone(), patch));
                }
            }
            for (place, patch) in patches {
                stream.apply(&place, &patch)?;
            }
        }
        self.streams = streams;
        Ok(())
    }

    /// What the engine decides on a workload of a stream.
    ///
    /// # Errors
    /// A pod template that Kubernetes would refuse to read.
    pub fn decide(&self, stream: &Stream, workload: &Workload<'_>) -> anyhow::Result<Decided> {
        let bytes = serde_json::to_vec(workload.pod)?;
        let pod = Pod::parse(&bytes).with_context(|| {
            format!(
                "{}: {}: the pod template cannot be read",
                stream.name(),
                title(workload)
            )
        })?;
        let claims = claims(workload);
        let object = || inject::with_claims(workload.pod.clone(), workload.name, &claims);
        let outcome = inject::inject(
            &inject::Request {
                namespace: workload.namespace,
                operation: "CREATE",
                is_pod: pod.spec.is_some(),
                dry_run: false,
                pod: &pod,
                object: &object,
                claims: &claims,
                facts: self
                    .snapshot
                    .namespaces
                    .get(workload.namespace)
                    .map(Arc::as_ref),
                sidecars: self.snapshot.sidecars,
                renderings: &self.snapshot.renderings,
                before_patch: "",
            },
            &self.snapshot.catalogue,
        );
        Ok(Decided::of(&outcome))
    }
}

/// The volumes that the controller of a StatefulSet adds to each of its pods.
fn claims<'w>(workload: &Workload<'w>) -> Vec<&'w str> {
    let claims = workload.object["spec"]["volumeClaimTemplates"].as_array();
    claims
        .into_iter()
        .flatten()
        .filter_map(|claim| claim["metadata"]["name"].as_str())
        .collect()
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
pub fn title(workload: &Workload<'_>) -> String {
    format!("{} {}/{}", workload.kind, workload.namespace, workload.name)
}

/// One drawing for each workload, with an empty line between.
fn diagrams(streams: &[Stream], namespace: &str) -> String {
    let drawings: Vec<_> = streams
        .iter()
        .flat_map(|stream| stream.workloads(namespace))
        .map(|workload| diagram::fenced(&workload))
        .collect();
    drawings.join("\n")
}

impl InjectCommand {
    /// Runs the command. Exit status 1: a workload was denied, and then nothing is printed to standard output.
    ///
    /// # Errors
    /// Input that cannot be read, or output that cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let mut manifests = self.input.read()?;
        let mut denied = false;
        manifests.inject(|stream, workload, decided| {
            let title = format!("{}: {}", stream.name(), title(workload));
            for warning in &decided.explanation.warnings {
                anstream::eprintln!("{title}: warning: {warning}");
            }
            if let Some(message) = &decided.denied {
                anstream::eprintln!("{title}: denied: {message}");
                denied = true;
            }
        })?;
        if denied {
            return Ok(ExitCode::FAILURE);
        }
        let streams = &manifests.streams;
        let text = match self.output {
            Output::Yaml => render::yaml(streams)?,
            Output::Json => render::json(streams)?,
            Output::Patch => render::patch(streams, &manifests.namespace)?,
            Output::Diff => render::diff(streams)?,
            Output::Diagram => diagrams(streams, &manifests.namespace),
        };
        out.write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_has_a_code_block_of_its_own() {
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {}}\n---\n{apiVersion: v1, kind: Service}\n";
        let job = "{apiVersion: batch/v1, kind: Job, metadata: {name: b, namespace: c}, spec: {template: {spec: {}}}}";
        let streams = [("1.yaml", text), ("2.yaml", job)]
            .map(|(name, text)| Stream::parse(name, text.as_bytes()).unwrap());
        let all = diagrams(&streams, "shop");
        let blocks: Vec<_> = all.split("\n\n").collect();
        assert_eq!(blocks.len(), 2);
        for (block, title) in blocks.iter().zip(["Pod shop/a", "Job c/b"]) {
            assert!(block.starts_with("```mermaid\nflowchart TB\n"), "{block}");
            assert!(
                block.contains(&format!("subgraph pod[\"{title}\"]")),
                "{block}"
            );
            assert!(block.trim_end().ends_with("\n```"), "{block}");
        }
        assert_eq!(diagrams(&streams[..0], "shop"), "");
    }
}
