//! Requests that are wrong, odd or hostile: each gets one clear answer.

use testkit::Result;

use super::kit::{Client, LIMIT, REVIEW, Running, padded, post, post_head, small, start};

async fn server() -> Result<Running> {
    start(|_| {}).await
}

#[tokio::test]
async fn a_review_is_answered_with_its_uid_and_a_patch() -> Result {
    let server = server().await?;
    let answer = server.client().await?.post(REVIEW).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.has("content-type: application/json"), "{answer:?}");
    let review = answer.json()?;
    assert_eq!(
        review["response"]["uid"],
        serde_json::from_str::<serde_json::Value>(REVIEW)?["request"]["uid"]
    );
    assert_eq!(review["response"]["allowed"], true);
    assert_eq!(review["response"]["patchType"], "JSONPatch");
    Ok(())
}

#[tokio::test]
async fn the_content_type_is_json_whatever_its_case_and_parameters() -> Result {
    let server = server().await?;
    let mut client = server.client().await?;
    let request = |line: &str| {
        let body = small("1");
        format!(
            "POST /mutate HTTP/1.1\r\nHost: x\r\n{line}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for good in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json ;x=y",
    ] {
        assert_eq!(
            client
                .ask(request(&format!("Content-Type: {good}\r\n")))
                .await?
                .status,
            200,
            "{good}"
        );
    }
    for bad in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/jsonp\r\n",
        "Content-Type: \u{ff}\r\n",
    ] {
        let answer = client.ask(request(bad)).await?;
        assert_eq!(answer.status, 415, "{bad:?}");
        assert!(answer.body.contains("application/json"), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_compressed_body_is_refused() -> Result {
    let server = server().await?;
    let mut client = server.client().await?;
    for (encoding, status) in [("gzip", 415), ("identity, gzip", 415), ("IDENTITY", 200)] {
        let body = small("1");
        let lines = format!(
            "Content-Encoding: {encoding}\r\nContent-Length: {}\r\n",
            body.len()
        );
        assert_eq!(
            client
                .ask(post_head("/mutate", &lines) + &body)
                .await?
                .status,
            status,
            "{encoding}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn only_post_is_allowed_and_the_answer_says_so() -> Result {
    let server = server().await?;
    let mut client = server.client().await?;
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let answer = client
            .ask(format!("{method} /mutate HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await?;
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.has("allow: post"), "{answer:?}");
    }
    for path in ["/healthz", "/readyz"] {
        let answer = client.ask(post(path, "{}")).await?;
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.has("allow: get,head"), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn paths_are_exact_and_the_query_is_ignored() -> Result {
    let server = server().await?;
    let mut client = server.client().await?;
    let body = small("1");
    for path in ["/mutate?timeout=5s", "/mutate?", "/mutate?a=%00&b=/../"] {
        assert_eq!(client.ask(post(path, &body)).await?.status, 200, "{path}");
    }
    for path in [
        "/",
        "//mutate",
        "/mutate/",
        "/Mutate",
        "/mutate/../metrics",
        "/mutate/..%2fmetrics",
        "/%6dutate",
        "/metrics",
    ] {
        assert_eq!(client.ask(post(path, &body)).await?.status, 404, "{path}");
    }
    assert_eq!(client.get("/mutate/../metrics").await?.status, 404);
    // The metrics of a cluster are not for everybody who reaches the webhook.
    assert_eq!(client.get("/metrics").await?.status, 404);
    assert_eq!(
        Client::plain(server.operations)
            .await?
            .ask(post("/mutate", &body))
            .await?
            .status,
        404
    );
    Ok(())
}

#[tokio::test]
async fn health_is_told_on_both_ports() -> Result {
    let server = server().await?;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.client().await?.get(path).await?.body, "ok\n");
        assert_eq!(
            Client::plain(server.operations)
                .await?
                .get(path)
                .await?
                .body,
            "ok\n"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_version_of_the_review_is_echoed() -> Result {
    let server = server().await?;
    let mut client = server.client().await?;
    for version in ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"] {
        let answer = client
            .post(small("1").replace("admission.k8s.io/v1", version))
            .await?
            .json()?;
        assert_eq!(answer["apiVersion"], version);
        assert_eq!(answer["kind"], "AdmissionReview");
    }
    Ok(())
}

#[tokio::test]
async fn a_uid_with_control_characters_comes_back_as_it_was() -> Result {
    let server = server().await?;
    let answer = server
        .client()
        .await?
        .post(small(r#"a\u0000\r\n\u001f\"\\ \u2028é"#))
        .await?;
    assert_eq!(
        answer.json()?["response"]["uid"],
        "a\0\r\n\u{1f}\"\\ \u{2028}é"
    );
    assert!(
        !answer.body.contains(['\0', '\r', '\n', '\u{1f}']),
        "{answer:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_taken_and_one_byte_more_is_not() -> Result {
    let server = start(|config| config.max_body = 64 * 1024).await?;
    let mut client = server.client().await?;
    assert_eq!(client.post(padded(64 * 1024)).await?.status, 200);
    let answer = client.post(padded(64 * 1024 + 1)).await?;
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(answer.body.contains("65536"), "{answer:?}");
    assert!(answer.has("connection: close"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_length_that_is_too_large_is_refused_before_the_body_is_asked_for() -> Result {
    let server = server().await?;
    let mut client = server.client().await?;
    let lines = "Expect: 100-continue\r\nContent-Length: 99999999999\r\n";
    let answer = client.ask(post_head("/mutate", lines)).await?;
    assert_eq!(answer.status, 413, "{answer:?}");
    client.ended().await?;
    Ok(())
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() -> Result {
    let server = server().await?;
    let mut client = server.client().await?;
    let body = small("1");
    let lines = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len());
    assert_eq!(client.ask(post_head("/mutate", &lines)).await?.status, 100);
    assert_eq!(client.ask(body).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_chunked_body_is_read() -> Result {
    let server = server().await?;
    let mut client = server.client().await?;
    let body = small("1");
    let chunked = post_head("/mutate", "Transfer-Encoding: chunked\r\n");
    let (first, second) = body.split_at(7);
    let whole = format!(
        "{chunked}7\r\n{first}\r\n{:x};extension=1\r\n{second}\r\n0\r\n\r\n",
        second.len()
    );
    assert_eq!(client.ask(whole).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn requests_that_come_together_are_answered_in_order() -> Result {
    let server = server().await?;
    let mut client = server.client().await?;
    let bytes: Vec<u8> = ["a", "b", "c"]
        .iter()
        .flat_map(|uid| post("/mutate", small(uid)))
        .collect();
    client.send(bytes).await?;
    for uid in ["a", "b", "c"] {
        assert_eq!(client.answer().await?.json()?["response"]["uid"], uid);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_http_1_is_refused() -> Result {
    let server = server().await?;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5000));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(300_000));
    for bytes in [
        preface,
        "\0\x01\x02garbage\r\n\r\n",
        "GET /healthz\r\n\r\n",
        &many,
        &long,
    ] {
        for mut client in [
            server.client().await?,
            Client::plain(server.operations).await?,
        ] {
            // Refused while it still writes is refused as well.
            let _ = client.send(bytes).await;
            let told = client.ended().await?;
            let told = String::from_utf8_lossy(&told);
            assert!(told.is_empty() || told.starts_with("HTTP/1.1 4"), "{told}");
            assert!(told.matches("HTTP/1.1").count() <= 1, "{told}");
        }
    }
    // No upgrade to HTTP/2 either: it would go unwatched.
    let upgrade = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_eq!(
        Client::plain(server.operations)
            .await?
            .ask(upgrade)
            .await?
            .status,
        200
    );
    Ok(())
}

#[tokio::test]
async fn a_thousand_broken_connections_leave_nothing_behind() -> Result {
    let server = server().await?;
    for round in 0..1000 {
        let mut client = Client::plain(server.address).await?;
        if round % 2 == 0 {
            client.send(b"\x16\x03\x01").await?;
        }
    }
    tokio::time::timeout(LIMIT, server.wait_metric("outrigger_connections", 0.0)).await??;
    Ok(())
}
