use super::{MAX_NOTE, Notice, Regarding, is_subdomain};
use crate::admission::{Owner, Summary, Webhook};
use crate::cluster::certificates::Happened;

fn denied() -> Summary {
    Summary {
        webhook: Webhook::Mutate,
        outcome: "denied",
        reason: "UnknownParameter",
        uid: "request".to_owned(),
        namespace: "shop".to_owned(),
        name: "web-5d8f-".to_owned(),
        instances: Vec::new(),
        dry_run: false,
        message: Some("outrigger: 2 problems:\n  - a: b\n  - c: d".to_owned()),
        owner: Some(Owner {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            name: "web-5d8f".to_owned(),
            uid: "0f61".to_owned(),
        }),
    }
}

#[test]
fn a_denial_is_told_to_the_owner_in_one_line() {
    let notice = Notice::denial(&denied()).unwrap();
    assert_eq!(notice.note, "outrigger: 2 problems: - a: b - c: d");
    let event = notice.event("outrigger-7c9d", 1);
    let regarding = event.regarding.unwrap();
    assert_eq!(regarding.kind.as_deref(), Some("ReplicaSet"));
    assert_eq!(regarding.uid.as_deref(), Some("0f61"));
    assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
    assert_eq!(regarding.namespace.as_deref(), Some("shop"));
    assert_eq!(event.reason.as_deref(), Some("UnknownParameter"));
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert!(event.series.is_none());
    assert_eq!(notice.event("outrigger-7c9d", 3).series.unwrap().count, 3);
}

#[test]
fn nobody_is_told_of_what_he_reads_himself_or_of_what_did_not_happen() {
    type Change = fn(&mut Summary);
    let changes: [(&str, Change); 6] = [
        ("a dry run", |it| it.dry_run = true),
        ("a pod without an owner", |it| it.owner = None),
        ("an injection", |it| it.message = None),
        ("a workload", |it| it.webhook = Webhook::Workload),
        ("a profile", |it| it.webhook = Webhook::Profile),
        ("no namespace", |it| it.namespace.clear()),
    ];
    for (what, change) in changes {
        let mut summary = denied();
        change(&mut summary);
        assert_eq!(Notice::denial(&summary), None, "{what}");
    }
}

#[test]
fn notes_keep_to_the_limit_and_to_one_line() {
    let note = |message: &str| {
        let mut summary = denied();
        summary.message = Some(message.to_owned());
        Notice::denial(&summary).unwrap().note
    };
    assert_eq!(note("a\r\n\t b\u{1b}[31m c\u{85}d\0"), "a b [31m c d");
    assert_eq!(note(&"x".repeat(MAX_NOTE)), "x".repeat(MAX_NOTE));
    // The limit falls into a character of four bytes.
    for lead in 0..4 {
        let text = format!("{}{}", "x".repeat(lead), "🚢".repeat(400));
        let cut = note(&text);
        assert!(cut.len() <= MAX_NOTE && cut.len() > MAX_NOTE - 4, "{lead}");
        assert!(cut.ends_with("🚢…"), "{lead}: {cut}");
    }
}

#[test]
fn the_name_follows_from_what_is_said() {
    let name = |change: fn(&mut Summary)| {
        let mut summary = denied();
        change(&mut summary);
        Notice::denial(&summary).unwrap().event_name()
    };
    let same = name(|_| {});
    assert_eq!(
        same,
        name(|it| it.uid = "another review".to_owned()),
        "the name is of the review"
    );
    assert!(same.starts_with("web-5d8f.") && same.len() == "web-5d8f.".len() + 16);
    let others = [
        name(|it| it.message = Some("outrigger: other".to_owned())),
        name(|it| it.reason = "Rule"),
        name(|it| {
            if let Some(owner) = &mut it.owner {
                owner.uid.push('0');
            }
        }),
    ];
    for other in others {
        assert_ne!(other, same);
    }
    let odd = name(|it| {
        if let Some(owner) = &mut it.owner {
            owner.name = "system:web".to_owned();
        }
    });
    assert!(odd.starts_with("outrigger."), "{odd}");
}

#[test]
fn names_of_events_are_dns_subdomains() {
    for good in ["web", "web-5d8f", "a.b-c.d0", "0"] {
        assert!(is_subdomain(good), "{good}");
    }
    for bad in [
        "", ".", "a.", ".a", "a..b", "-a", "a-", "A", "a_b", "ä", "a/b",
    ] {
        assert!(!is_subdomain(bad), "{bad}");
    }
}

#[test]
fn of_the_certificate_only_what_an_administrator_should_know() {
    let regarding = Regarding {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: "outrigger-system".to_owned(),
        name: "outrigger-7c9d".to_owned(),
        uid: "0f61".to_owned(),
    };
    let table = [
        (
            Happened::Expired {
                not_after: 1_700_000_000,
            },
            Some((
                "Warning",
                "CertificateExpired",
                "ended at 2023-11-14T22:13:20Z",
            )),
        ),
        (
            Happened::NotRenewed("forbidden".to_owned()),
            Some(("Warning", "CertificateNotRenewed", "forbidden")),
        ),
        (
            Happened::Secret("founded"),
            Some(("Normal", "CACreated", "")),
        ),
        (
            Happened::Secret("succeeded"),
            Some(("Normal", "CARenewed", "")),
        ),
        (Happened::Secret("leaf_issued"), None),
        (Happened::Secret("conflict"), None),
        (Happened::Bundle("written"), None),
    ];
    for (happened, expected) in table {
        let notice = Notice::certificate(&happened, &regarding);
        assert_eq!(notice.is_some(), expected.is_some(), "{happened:?}");
        let (Some(notice), Some((severity, reason, note))) = (notice, expected) else {
            continue;
        };
        assert_eq!(notice.severity.as_str(), severity);
        assert_eq!(notice.reason, reason);
        assert!(notice.note.contains(note), "{}", notice.note);
    }
}
