//! The other two webhooks: behind the same limits as pods, and never in their way.

use std::time::Duration;

use anyhow::ensure;
use outrigger::admission::{self, Snapshot, Webhook};
use testkit::Result;

use super::kit::{panics_when_asked, post, post_head, small, start, start_with, timed};

const PATHS: [&str; 2] = ["/validate-workload", "/validate-profile"];

/// A review of an object of this kind, which says nothing.
fn review(group: &str, kind: &str) -> String {
    small("1").replace(
        r#"{"group":"","version":"v1","kind":"Pod"}"#,
        &format!(r#"{{"group":"{group}","version":"v1","kind":"{kind}"}}"#),
    )
}

#[tokio::test]
async fn both_take_reviews_as_the_one_of_pods_does() -> Result {
    let server = start(|config| config.max_body = 4096).await?;
    let mut client = server.client().await?;
    for path in PATHS {
        let query = format!("{path}?timeout=2s");
        let answer = client.ask(post(&query, small("1"))).await?;
        ensure!(answer.status == 200, "{answer:?}");
        assert_eq!(answer.json()?["response"]["allowed"], true);

        let answer = client.get(path).await?;
        ensure!(answer.status == 405 && answer.has("allow: post"), "{path}");
        let answer = client.ask(post(path, "{}")).await?;
        ensure!(answer.status == 400, "{path}");
        assert_eq!(
            client
                .ask(post(&format!("{path}/"), small("1")))
                .await?
                .status,
            404
        );
        let head = post_head(path, "Content-Length: 5000\r\n");
        let mut other = server.client().await?;
        assert_eq!(other.ask(head).await?.status, 413, "{path}");
        let text = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.ask(text).await?.status, 415, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn each_is_counted_under_its_own_name() -> Result {
    let server = start(|_| {}).await?;
    let mut client = server.client().await?;
    client.ask(post("/mutate", small("1"))).await?;
    let workload = review("apps", "Deployment");
    client.ask(post("/validate-workload", workload)).await?;
    let profile = review("outrigger.dev", "SidecarProfile");
    let answer = client.ask(post("/validate-profile", profile)).await?;
    assert_eq!(answer.json()?["response"]["allowed"], false, "{answer:?}");
    for (webhook, outcome, reason) in [
        ("mutate", "skipped", "NotAsked"),
        ("workload", "allowed", "NotMentioned"),
        ("profile", "denied", "Refused"),
    ] {
        let labels = format!(r#"webhook="{webhook}",outcome="{outcome}",reason="{reason}""#);
        let sample = format!("outrigger_admission_reviews_total{{{labels}}}");
        server.wait_metric(&sample, 1.0).await?;
        let sample =
            format!("outrigger_admission_review_duration_seconds_count{{webhook=\"{webhook}\"}}");
        server.wait_metric(&sample, 1.0).await?;
    }
    Ok(())
}

/// Profiles are compiled one at a time and beside everything else, however long that takes.
#[tokio::test]
async fn a_profile_that_takes_its_time_is_in_nobodys_way() -> Result {
    let reviewer = |webhook, body: &[u8]| {
        if webhook == Webhook::Profile {
            std::thread::sleep(Duration::from_millis(800));
        }
        admission::answer(webhook, body, &Snapshot::default())
    };
    let server = start_with(reviewer, |_| {}).await?;
    let mut slow = server.client().await?;
    slow.send(post("/validate-profile", small("slow"))).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;

    let mut client = server.client().await?;
    let (answer, time) = timed(client.post(small("1"))).await?;
    assert_eq!(answer.status, 200);
    ensure!(time < Duration::from_millis(400), "it took {time:?}");
    let second = client.ask(post("/validate-profile", small("2"))).await?;
    ensure!(
        second.status == 503 && second.has("retry-after: 1"),
        "{second:?}"
    );
    assert_eq!(slow.answer().await?.status, 200);
    let third = client.ask(post("/validate-profile", small("3"))).await?;
    assert_eq!(third.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_profile_that_makes_the_compiler_panic_harms_nobody() -> Result {
    let server = start_with(panics_when_asked, |_| {}).await?;
    let mut client = server.client().await?;
    for path in PATHS {
        assert_eq!(client.ask(post(path, "panic")).await?.status, 500);
        assert_eq!(client.ask(post(path, "calm")).await?.status, 400);
    }
    Ok(())
}
