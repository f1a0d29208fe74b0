//! What must hold of manifests that go through `outrigger inject`.

use std::collections::BTreeSet;

use outrigger::admission::Snapshot;
use outrigger::cli::inject::Manifests;
use outrigger::manifest::{ManifestError, Stream};

use crate::{Broken, Held, held};

/// The namespace of workloads that name none.
const NAMESPACE: &str = "default";

/// A file after `outrigger inject`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// Its text.
    pub text: String,
    /// The numbers of the documents that were patched, from 1.
    pub patched: BTreeSet<usize>,
    /// How many workloads were denied; they are as they were.
    pub denied: usize,
}

/// Injects into a file and holds all that must hold of what comes out. Nothing when the file is refused.
///
/// # Errors
/// The first invariant that does not hold.
pub fn injected(bytes: &[u8], snapshot: &Snapshot) -> Held<Option<Injected>> {
    let Ok(before) = Stream::parse("before.yaml", bytes) else {
        return Ok(None);
    };
    held(before.before().as_bytes() == bytes, || {
        format!("what was read is not what is kept\n{}", before.before())
    })?;
    let Some(first) = run(&before, snapshot)? else {
        return Ok(None);
    };
    let context = || format!("\n{}\nbecame\n{}", before.before(), first.text);
    let again = run(&before, snapshot)?;
    held(again.as_ref() == Some(&first), || {
        format!("not deterministic{}", context())
    })?;

    let after = Stream::parse("after.yaml", first.text.as_bytes()).map_err(|errors| {
        Broken(format!(
            "what was written cannot be read: {errors:?}{}",
            context()
        ))
    })?;
    let (old, new) = (before.documents(), after.documents());
    held(old.len() == new.len(), || {
        format!("{} documents became {}{}", old.len(), new.len(), context())
    })?;
    for (index, (old, new)) in old.iter().zip(&new).enumerate() {
        held(first.patched.contains(&(index + 1)) || old == new, || {
            format!(
                "document {} was not patched and is another{}",
                index + 1,
                context()
            )
        })?;
    }
    held(
        !first.patched.is_empty() || first.text.as_bytes() == bytes,
        || format!("nothing was patched and the file is another{}", context()),
    )?;

    let second = run(&after, snapshot)?;
    held(
        second.as_ref().is_some_and(|second| {
            second.patched.is_empty() && second.text == first.text && second.denied == first.denied
        }),
        || format!("a second run does something: {second:?}{}", context()),
    )?;
    Ok(Some(first))
}

/// What the command does with a file, up to writing it. Nothing when it refuses the file.
fn run(stream: &Stream, snapshot: &Snapshot) -> Held<Option<Injected>> {
    let streams = vec![stream.clone()];
    let Ok(mut manifests) = Manifests::new(streams, &[], snapshot.clone(), NAMESPACE.to_owned())
    else {
        return Ok(None);
    };
    let mut patched = BTreeSet::new();
    let mut denied = 0;
    let decided = manifests.inject(|_, workload, decided| {
        denied += usize::from(decided.denied.is_some());
        if decided.patch.is_some() {
            patched.insert(workload.place.document_number());
        }
    });
    match decided {
        Ok(()) => {}
        // A template that is no pod is the author's mistake; a patch that does not fit it would be ours.
        Err(error) if error.is::<ManifestError>() => return Err(Broken(error.to_string())),
        Err(_) => return Ok(None),
    }
    let written = manifests.streams.first().map(Stream::after).transpose();
    let text = written.map_err(|error| Broken(format!("cannot be written: {error}")))?;
    Ok(text.map(|text| Injected {
        text,
        patched,
        denied,
    }))
}
