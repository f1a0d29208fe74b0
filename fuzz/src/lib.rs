//! What the fuzz targets share: the catalogue that they ask, and how they fail.

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use oracle::Held;
use outrigger::admission::Snapshot;
use outrigger::inject::{Namespace, SidecarMode};
use outrigger::profile::{Catalogue, Profile};

/// The namespace whose facts the snapshots know: that of [`oracle::envelope`].
const NAMESPACE: &str = "shop";

/// Every profile that is delivered: the built-in ones and those of the catalogue.
pub static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let built_in = Catalogue::built_in().unwrap_or_else(|error| panic!("{error}"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/catalogue");
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let installed = files.map(|file| {
        let path = file.unwrap_or_else(|error| panic!("{error}")).path();
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Arc::new(Profile::parse("catalogue", &text).unwrap_or_else(|error| panic!("{error}")))
    });
    Catalogue::new(built_in.into_iter().chain(installed))
});

/// Both ways in which a cluster runs sidecars.
pub const MODES: [SidecarMode; 2] = [SidecarMode::Native, SidecarMode::Container];

/// A snapshot of a catalogue, with these annotations on the namespace that pods come from.
pub fn snapshot(
    catalogue: &Catalogue,
    sidecars: SidecarMode,
    annotations: &[(String, String)],
) -> Snapshot {
    let facts = Namespace {
        labels: [
            ("outrigger.dev/injection", "enabled"),
            ("outrigger.dev/privileged", "enabled"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        annotations: annotations.iter().cloned().collect(),
    };
    let mut snapshot = Snapshot::default();
    snapshot.catalogue.clone_from(catalogue);
    snapshot
        .namespaces
        .insert_mut(NAMESPACE.into(), Arc::new(facts));
    snapshot.sidecars = sidecars;
    snapshot
}

/// Fails as libFuzzer wants it.
pub fn hold<T>(held: Held<T>) -> T {
    held.unwrap_or_else(|broken| panic!("{broken}"))
}
