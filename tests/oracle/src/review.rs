//! What must hold of the answer to a review.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger::admission::{self, ReviewError, Reviewed, Snapshot, Webhook};
use serde_json::Value;

use crate::{Broken, Held, Node, held, pod};

/// The longest warning that the API server passes on, and how much of all of them (`MaxWarningLength` is its own
/// advice; it cuts at 4096 in all).
const WARNING: usize = 120;
const WARNINGS: usize = 4096;

/// The review of a pod that is created in the namespace `shop`.
pub fn envelope(pod: &str) -> Vec<u8> {
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","kind":{{"group":"","version":"v1","kind":"Pod"}},"namespace":"shop","operation":"CREATE","object":{pod}}}}}"#
    )
    .into_bytes()
}

/// The patch of an answer, if it has one that is text.
pub fn patch_of(reviewed: &Reviewed) -> Option<String> {
    let answer: Value = serde_json::from_slice(&reviewed.body).ok()?;
    let patch = STANDARD
        .decode(answer["response"]["patch"].as_str()?)
        .ok()?;
    String::from_utf8(patch).ok()
}

/// Sends a webhook a body and holds all that must hold of whatever comes back; also that what comes out of a pod is
/// left alone by a second run. What came back, and the pod that comes out if one does.
///
/// # Errors
/// The first invariant that does not hold.
pub fn answered(
    webhook: Webhook,
    body: &[u8],
    snapshot: &Snapshot,
) -> Held<Result<(Reviewed, Option<Node>), ReviewError>> {
    let reviewed = match answered_alike(webhook, body, snapshot)? {
        Ok(reviewed) => reviewed,
        Err(error) => return Ok(Err(error)),
    };
    // serde_json passes over fields that nobody reads without asking whether they are UTF-8, or how deep they are.
    let review = str::from_utf8(body)
        .ok()
        .and_then(|text| Node::parse(text).ok());
    let review = review.as_ref();
    let context = || {
        format!(
            "{}\n{}",
            String::from_utf8_lossy(body),
            String::from_utf8_lossy(&reviewed.body)
        )
    };
    let explained = |broken: Broken| Broken(format!("{broken}\n{}", context()));
    is_an_answer(webhook, review, &reviewed).map_err(explained)?;
    let (Some(review), Some(patch)) = (review, patch_of(&reviewed)) else {
        return Ok(Ok((reviewed, None)));
    };
    let result = patched(review, &patch).map_err(explained)?;

    let mut next = review.clone();
    if let Some(request) = next.get_mut("request") {
        request.set("object", result.clone());
        is_left_alone(next.text().as_bytes(), snapshot)
            .map_err(|broken| explained(Broken(format!("the second run: {broken}"))))?;
    }
    Ok(Ok((reviewed, Some(result))))
}

/// Reviews a pod. The answer, and the pod that comes out if one does.
///
/// # Errors
/// The first invariant that does not hold, or a review that is refused.
pub fn reviewed(pod: &Node, snapshot: &Snapshot) -> Held<(Reviewed, Option<Node>)> {
    answered(Webhook::Mutate, &envelope(&pod.text()), snapshot)?
        .map_err(|error| Broken(format!("{error}\n{}", pod.text())))
}

/// That a pod is left alone; `what` says what was done to it.
///
/// # Errors
/// That it is patched or denied, or another invariant that does not hold.
pub fn unchanged(pod: &Node, snapshot: &Snapshot, what: &str) -> Held<()> {
    is_left_alone(&envelope(&pod.text()), snapshot)
        .map_err(|broken| Broken(format!("{what}: {broken}\n{}", pod.text())))
}

fn is_left_alone(body: &[u8], snapshot: &Snapshot) -> Held<()> {
    let reviewed = answered_alike(Webhook::Mutate, body, snapshot)?
        .map_err(|error| Broken(error.to_string()))?;
    held(reviewed.summary.outcome == "skipped", || {
        format!("{:?}\npatch {:?}", reviewed.summary, patch_of(&reviewed))
    })
}

/// The same question gets the same bytes, whatever was asked before.
fn answered_alike(
    webhook: Webhook,
    body: &[u8],
    snapshot: &Snapshot,
) -> Held<Result<Reviewed, ReviewError>> {
    let first = admission::answer(webhook, body, snapshot);
    for (again, what) in [
        (snapshot.clone(), "the second time"),
        (forgetful(snapshot), "with nothing remembered"),
    ] {
        let answer = admission::answer(webhook, body, &again);
        held(answer == first, || {
            format!("{what} the answer is another: {answer:?}, and was {first:?}")
        })?;
    }
    Ok(first)
}

/// A snapshot of the same facts that knows of no review before.
fn forgetful(snapshot: &Snapshot) -> Snapshot {
    let mut forgetful = Snapshot::default();
    forgetful.catalogue.clone_from(&snapshot.catalogue);
    forgetful.namespaces.clone_from(&snapshot.namespaces);
    forgetful.sidecars.clone_from(&snapshot.sidecars);
    forgetful
}

/// The contract of admission.k8s.io/v1, and ours with the log.
fn is_an_answer(webhook: Webhook, review: Option<&Node>, reviewed: &Reviewed) -> Held<()> {
    let answer: Value = serde_json::from_slice(&reviewed.body)
        .map_err(|error| Broken(format!("the answer is no JSON: {error}")))?;
    let response = &answer["response"];
    let asked = |path: &[&str]| {
        let review = review?;
        path.iter()
            .try_fold(review, |node, key| node.get(key))
            .map(Node::value)
    };
    for (path, given) in [
        (&["apiVersion"][..], &answer["apiVersion"]),
        (&["kind"], &answer["kind"]),
        (&["request", "uid"], &response["uid"]),
    ] {
        if let Some(expected) = asked(path) {
            held(*given == expected, || format!("{path:?} is not echoed"))?;
        }
    }
    held(response["uid"] == reviewed.summary.uid.as_str(), || {
        "the summary has another uid".to_owned()
    })?;
    let patched = response.get("patch").is_some();
    held(patched == patch_of(reviewed).is_some(), || {
        "the patch is no base64 of text".to_owned()
    })?;
    held(
        patched == (response["patchType"] == "JSONPatch")
            && patched == response.get("patchType").is_some(),
        || "patch and patchType do not come together".to_owned(),
    )?;
    let outcome = reviewed.summary.outcome;
    held(patched == (outcome == "injected"), || {
        format!("a patch, or none, of what is {outcome}")
    })?;
    held(response["allowed"] == (outcome != "denied"), || {
        format!("allowed is {} of what is {outcome}", response["allowed"])
    })?;
    if outcome == "denied" {
        let message = response["status"]["message"].as_str().unwrap_or_default();
        names_what_to_mend(message)?;
        held(reviewed.summary.message.as_deref() == Some(message), || {
            "the summary has another message".to_owned()
        })?;
    }
    let mut sum = 0;
    for warning in response["warnings"].as_array().into_iter().flatten() {
        let warning = warning.as_str().unwrap_or_default();
        sum += warning.len();
        held(
            !warning.is_empty()
                && warning.len() <= WARNING
                && !warning.chars().any(char::is_control)
                && sum <= WARNINGS,
            || format!("a warning that the API server cuts or drops: {warning:?}"),
        )?;
    }
    held(webhook == Webhook::Mutate || !patched, || {
        format!("{} gives a patch", webhook.as_str())
    })
}

/// Each problem of a denial begins with what to mend: a key, a path or a name, and says something of it, in as few letters
/// as the author of a profile has for the message of a validation.
fn names_what_to_mend(message: &str) -> Held<()> {
    let wrong = || format!("a denial that does not name what to mend: {message:?}");
    let told = message
        .strip_prefix("outrigger: ")
        .ok_or_else(|| Broken(wrong()))?;
    let several = told.split_once(" problems:\n  - ");
    let problems: Vec<&str> = match several {
        Some((count, list)) if count.parse::<usize>().is_ok() => list.split("\n  - ").collect(),
        _ => vec![told],
    };
    held(
        problems.iter().all(|problem| {
            problem.split_once(": ").is_some_and(|(subject, text)| {
                !subject.trim().is_empty() && !text.trim().is_empty()
            }) || problem.starts_with("and ") && problem.ends_with(" more")
        }),
        wrong,
    )
}

/// The pod that a patch makes of that of a review.
fn patched(review: &Node, patch: &str) -> Held<Node> {
    let Some(before) = review
        .get("request")
        .and_then(|request| request.get("object"))
    else {
        return Err(Broken("a patch of nothing".to_owned()));
    };
    let mut after = before.clone();
    let operations = after.apply(patch).map_err(Broken)?;
    held(operations > 0, || "an empty patch".to_owned())?;
    before.survives_in(&after, "").map_err(Broken)?;
    pod::check(&before.value(), &after.value())?;
    pod::check_records(&before.value(), &after.value())?;
    // The crate cannot hold every number that JSON can.
    if let Ok(mut value) = serde_json::from_str::<Value>(&before.text()) {
        let patch: json_patch::Patch = serde_json::from_str(patch)
            .map_err(|error| Broken(format!("the patch is none to json-patch: {error}")))?;
        json_patch::patch(&mut value, &patch)
            .map_err(|error| Broken(format!("the patch does not apply: {error}")))?;
        held(value == after.value(), || {
            "the json-patch crate differs".to_owned()
        })?;
    }
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by the fuzz target `profile`.
    #[test]
    fn the_message_of_a_profiles_validation_may_be_short() {
        assert!(names_what_to_mend("outrigger: a.outrigger.dev: p").is_ok());
        assert!(names_what_to_mend("outrigger: a.outrigger.dev: ").is_err());
        assert!(names_what_to_mend("outrigger: no").is_err());
    }
}
