use std::collections::VecDeque;

use super::*;

const NOW: i64 = 1_800_000_000;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn rules() -> Rules {
    Rules::new(vec![
        "web.shop.svc".to_owned(),
        "web.shop.svc.cluster.local".to_owned(),
    ])
}

fn view<'a>(
    now: i64,
    secret: Option<&'a Contents>,
    held: Option<&'a Contents>,
    published_for: Option<i64>,
) -> View<'a> {
    View {
        now,
        secret,
        held,
        published_for,
    }
}

fn founded(now: i64) -> Contents {
    perform(Step::Found, view(now, None, None, None), &rules()).unwrap()
}

/// The step that is due, and what comes of it.
fn step(view: View<'_>) -> (Step, Contents) {
    let step = next(view, &rules());
    (step, perform(step, view, &rules()).unwrap())
}

/// Through a Secret and back.
fn stored(contents: &Contents) -> Contents {
    Contents::read(&data(contents))
}

fn data(contents: &Contents) -> BTreeMap<String, ByteString> {
    let data = contents.data().into_iter();
    data.filter_map(|(key, text)| Some((key.to_owned(), ByteString(text?.into_bytes()))))
        .collect()
}

fn without(contents: &Contents, keys: &[&str]) -> Contents {
    let mut data = data(contents);
    data.retain(|key, _| !keys.contains(&key.as_str()));
    Contents::read(&data)
}

#[test]
fn with_nothing_there_everything_is_made_and_then_left_alone() {
    for empty in [None, Some(&Contents::default())] {
        let (first, made) = step(view(NOW, empty, None, None));
        assert_eq!(first, Step::Found);
        assert!(made.is_good(NOW, &rules()));
        assert_eq!(stored(&made), made);
        let (second, _) = step(view(NOW, Some(&made), None, Some(0)));
        assert_eq!(
            second,
            Step::Rest {
                until: NOW + 60 * DAY
            }
        );
    }
}

#[test]
fn a_leaf_is_renewed_after_two_thirds_of_its_life() {
    let made = founded(NOW);
    let due = NOW + 60 * DAY;
    let before = next(view(due - 1, Some(&made), None, Some(9)), &rules());
    assert_eq!(before, Step::Rest { until: due });
    // However long the API server was away, and with nothing registered.
    for (late, published) in [
        (due, Some(9)),
        (due + 29 * DAY, None),
        (due + 400 * DAY, None),
    ] {
        let (taken, renewed) = step(view(late, Some(&made), None, published));
        assert_eq!(taken, Step::IssueLeaf);
        assert_eq!(renewed.signer, made.signer);
        assert_ne!(renewed.leaf, made.leaf);
        assert_eq!(renewed.bundle_pem(), made.bundle_pem());
        assert_eq!(stored(&renewed), renewed);
        assert!(renewed.is_good(late, &rules()));
    }
}

#[test]
fn an_authority_is_followed_by_another_without_a_gap() {
    let mut now = NOW + 3650 * DAY * 2 / 3;
    let mut contents = founded(NOW);
    // A leaf that was renewed all along.
    contents.leaf = Some(
        contents
            .signer
            .as_ref()
            .unwrap()
            .issue(&rules().names, now - DAY, 90 * DAY)
            .unwrap(),
    );
    let old_leaf = contents.leaf.clone().unwrap().certificate;
    let old = contents.signer.clone().unwrap().certificate;

    let (taken, both) = step(view(now, Some(&contents), None, Some(99_999)));
    assert_eq!(taken, Step::BeginSuccession);
    assert_eq!(
        (&both.signer, &both.leaf),
        (&contents.signer, &contents.leaf)
    );
    assert_eq!(both.bundle().len(), 2);
    let both = stored(&both);

    // Not published everywhere, or not long enough: nothing changes.
    for (published, wait) in [(None, 300), (Some(0), 300), (Some(299), 1)] {
        let (taken, _) = step(view(now, Some(&both), Some(&both), published));
        assert_eq!(taken, Step::Rest { until: now + wait });
    }
    now += 300;
    let (taken, after) = step(view(now, Some(&both), Some(&both), Some(300)));
    assert_eq!(taken, Step::Succeed);
    assert_eq!(after.signer, both.successor);
    assert_eq!(after.retired, std::slice::from_ref(&old));
    assert_eq!(after.retire_after, Some(old_leaf.not_after));
    // Both leaves are good for whoever has either bundle.
    for bundle in [both.bundle(), after.bundle()] {
        for leaf in [&old_leaf, &after.leaf.as_ref().unwrap().certificate] {
            verify(leaf, &bundle, "web.shop.svc", now).unwrap();
        }
    }
    // The key of the old authority is gone.
    let text = format!("{:?}", after.data());
    assert!(!text.contains(both.signer.as_ref().unwrap().key().lines().nth(1).unwrap()));
    let after = stored(&after);

    // A renewal in between does not make the old authority stay, nor go.
    let (taken, renewed) = step(view(now + 61 * DAY, Some(&after), Some(&after), Some(9)));
    assert_eq!(taken, Step::IssueLeaf);
    assert_eq!(renewed.retired, [old]);
    assert_eq!(renewed.retire_after, Some(old_leaf.not_after));
    let end = old_leaf.not_after;
    let before = next(view(end - 1, Some(&renewed), None, Some(9)), &rules());
    assert_eq!(before, Step::Rest { until: end });
    let (taken, last) = step(view(end, Some(&renewed), None, Some(9)));
    assert_eq!(taken, Step::Retire);
    assert_eq!(last.bundle().len(), 1);
    assert_eq!(last.retire_after, None);
    assert_eq!(stored(&last), last);
}

#[test]
fn what_can_still_be_used_of_a_broken_secret_is_used() {
    let good = founded(NOW);
    let rules = rules();
    // Without memory, as after a start.
    for (lost, expected) in [
        (&[LEAF][..], Step::IssueLeaf),
        (&[LEAF_KEY], Step::IssueLeaf),
        // The leaf is served and good: a new authority comes without a gap.
        (&[AUTHORITY_KEY], Step::BeginSuccession),
        (&[BUNDLE], Step::Found),
        (&[AUTHORITY_KEY, LEAF], Step::Found),
        (&[LEAF, LEAF_KEY, BUNDLE, AUTHORITY_KEY], Step::Found),
    ] {
        let broken = without(&good, lost);
        let at = view(NOW, Some(&broken), None, None);
        assert_eq!(next(at, &rules), expected, "{lost:?}");
        // And with it, whatever cannot sign is put back as it was.
        let at = view(NOW, Some(&broken), Some(&good), None);
        let (taken, restored) = step(at);
        if expected == Step::IssueLeaf {
            assert_eq!(taken, Step::IssueLeaf, "{lost:?}");
        } else {
            assert_eq!(taken, Step::Restore { renew: false }, "{lost:?}");
            assert_eq!(restored, good);
        }
    }
}

#[test]
fn a_lost_authority_key_leads_to_another_authority_while_the_leaf_is_served_on() {
    let good = founded(NOW);
    let broken = without(&good, &[AUTHORITY_KEY]);
    let (taken, begun) = step(view(NOW, Some(&broken), None, None));
    assert_eq!(taken, Step::BeginSuccession);
    let begun = stored(&begun);
    assert_eq!(begun.leaf, good.leaf);
    assert!(begun.good_leaf(NOW, &rules()).is_some());
    let waits = next(view(NOW, Some(&begun), None, Some(10)), &rules());
    assert_eq!(waits, Step::Rest { until: NOW + 290 });
    let (taken, done) = step(view(NOW + 300, Some(&begun), None, Some(300)));
    assert_eq!(taken, Step::Succeed);
    assert_eq!(
        done.retire_after,
        Some(good.leaf.unwrap().certificate.not_after)
    );
    assert!(done.is_good(NOW + 300, &rules()));
    assert_eq!(done.bundle().len(), 2);
}

#[test]
fn garbage_is_replaced() {
    let good = founded(NOW);
    let mut data = data(&good);
    for value in data.values_mut() {
        value.0 = b"\xff\xfe garbage".to_vec();
    }
    let garbage = Contents::read(&data);
    assert_eq!(garbage, Contents::default());
    assert_eq!(
        next(view(NOW, Some(&garbage), None, None), &rules()),
        Step::Found
    );
    // A key of the wrong kind, and an authority that is none.
    let leaf = good.leaf.as_ref().unwrap();
    data.insert(BUNDLE.to_owned(), ByteString(leaf.certificate.pem().into()));
    data.insert(AUTHORITY_KEY.to_owned(), ByteString(leaf.key().into()));
    assert_eq!(Contents::read(&data).signer, None);
}

#[test]
fn a_leaf_for_another_name_or_of_another_authority_is_replaced() {
    let mut contents = founded(NOW);
    let signer = contents.signer.clone().unwrap();
    let other = Keyed::authority(NOW, DAY).unwrap();
    for wrong in [
        signer.issue(&["web.other.svc".to_owned()], NOW, DAY),
        signer.issue(&rules().names[..1], NOW, DAY),
        other.issue(&rules().names, NOW, DAY),
    ] {
        contents.leaf = Some(wrong.unwrap());
        assert!(!contents.is_good(NOW, &rules()));
        let (taken, done) = step(view(NOW, Some(&contents), None, Some(9)));
        assert_eq!(taken, Step::IssueLeaf);
        assert!(done.is_good(NOW, &rules()));
    }
}

#[test]
fn a_deleted_secret_comes_back_with_new_keys_to_follow() {
    let good = founded(NOW);
    let (taken, back) = step(view(NOW + DAY, None, Some(&good), Some(9)));
    assert_eq!(taken, Step::Restore { renew: true });
    assert_eq!((&back.signer, &back.leaf), (&good.signer, &good.leaf));
    assert!(back.successor.is_some());
    let (taken, done) = step(view(NOW + DAY + 300, Some(&back), Some(&back), Some(300)));
    assert_eq!(taken, Step::Succeed);
    assert_ne!(done.signer, good.signer);
    // What is held is of no use once it has ended.
    let late = NOW + 91 * DAY;
    assert_eq!(
        next(view(late, None, Some(&good), Some(9)), &rules()),
        Step::Found
    );
}

#[test]
fn when_everything_has_ended_everything_is_made_anew_at_once() {
    let old = founded(NOW);
    let late = NOW + 4000 * DAY;
    let (taken, new) = step(view(late, Some(&old), Some(&old), Some(999)));
    assert_eq!(taken, Step::Found);
    assert_eq!(new.bundle().len(), 1);
    assert!(new.is_good(late, &rules()));
    // With a successor that still lives there is no reason to wait for it to settle.
    let mut with = old.clone();
    with.successor = Some(Keyed::authority(late - DAY, 3650 * DAY).unwrap());
    let (taken, new) = step(view(late, Some(&with), None, None));
    assert_eq!(taken, Step::Succeed);
    assert!(new.is_good(late, &rules()));
    assert_eq!(new.bundle().len(), 1, "the old one has ended");
    // And one that has ended too is replaced.
    let mut both = founded(NOW + 2500 * DAY);
    both.successor = Some(Keyed::authority(NOW, DAY).unwrap());
    let now = NOW + 2501 * DAY;
    let (taken, new) = step(view(now, Some(&both), None, Some(0)));
    assert_eq!(taken, Step::BeginSuccession);
    assert!(new.successor.unwrap().certificate.is_valid_at(now));
}

/// Drill 10: replicas and API servers whose clocks differ by two hours either way.
#[test]
fn clocks_may_differ_by_hours() {
    for (maker, reader) in [(2 * HOUR, -2 * HOUR), (-2 * HOUR, 2 * HOUR)] {
        let made = founded(NOW + maker);
        assert!(made.is_good(NOW + reader + 1, &rules()));
        let rest = next(
            view(NOW + reader + 1, Some(&made), Some(&made), Some(9)),
            &rules(),
        );
        assert!(matches!(rest, Step::Rest { .. }), "{rest:?}");
    }
}

#[test]
fn a_leaf_that_the_published_bundles_do_not_verify_waits() {
    let rules = rules();
    let (old, new) = (founded(NOW), founded(NOW));
    let served = old.leaf.as_ref();
    let chosen = |served, published: &[Vec<Certificate>]| {
        choose(served, Some(&new), published, &rules, NOW).cloned()
    };
    let both = [old.bundle(), new.bundle()].concat();
    assert_eq!(chosen(served, &[old.bundle()]), old.leaf);
    assert_eq!(chosen(served, &[both.clone(), old.bundle()]), old.leaf);
    assert_eq!(chosen(served, &[both]), new.leaf);
    assert_eq!(chosen(served, &[new.bundle()]), new.leaf);
    // Neither is verified, or nothing is served yet: that of the Secret is what will be.
    assert_eq!(chosen(served, &[]), new.leaf);
    assert_eq!(chosen(served, &[vec![]]), new.leaf);
    assert_eq!(chosen(None, &[old.bundle()]), new.leaf);
    // No Secret, or none that can be used: what is served stays.
    assert_eq!(choose(served, None, &[], &rules, NOW), served);
    let broken = without(&new, &[LEAF_KEY]);
    assert_eq!(choose(served, Some(&broken), &[], &rules, NOW), served);
}

/// Several replicas, each with its own late view of the world and its own clock, that die and start at any moment;
/// an API server that sees registrations late. What a replica serves is verified by what the API server has.
#[test]
fn replicas_that_die_at_any_step_never_serve_what_the_bundle_does_not_verify() {
    let rules = Rules {
        leaf_life: 3000,
        authority_life: 9000,
        settle: 60,
        ..rules()
    };
    let mut reached = Vec::new();
    for seed in 1..=4 {
        let mut world = World::new(seed, rules.clone());
        for _ in 0..1500 {
            if let Some(done) = world.turn() {
                reached.push(done);
            }
        }
    }
    for wanted in [
        Step::Found,
        Step::IssueLeaf,
        Step::BeginSuccession,
        Step::Succeed,
        Step::Retire,
        Step::Restore { renew: true },
    ] {
        let times = reached.iter().filter(|step| **step == wanted).count();
        assert!(times > 0, "{wanted:?} was never done");
    }
}

#[derive(Default)]
struct Replica {
    skew: i64,
    secret: Option<(u64, Option<Contents>)>,
    held: Option<Contents>,
    served: Option<Keyed>,
    registered: Option<(String, Vec<Certificate>)>,
    published: Option<(String, i64)>,
}

struct World {
    random: u64,
    rules: Rules,
    now: i64,
    version: u64,
    secret: Option<Contents>,
    /// What was published, and when.
    published: VecDeque<(i64, Vec<Certificate>, String)>,
    replicas: Vec<Replica>,
    /// Since when every replica has served something.
    complete: Option<i64>,
}

impl World {
    fn new(seed: u64, rules: Rules) -> Self {
        let replica = |skew| Replica {
            skew,
            ..Replica::default()
        };
        Self {
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            rules,
            now: NOW,
            version: 1,
            secret: None,
            published: VecDeque::new(),
            replicas: vec![replica(0), replica(40), replica(-40)],
            complete: None,
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % sides
    }

    fn turn(&mut self) -> Option<Step> {
        self.now += i64::try_from(self.roll(16)).unwrap();
        let which = usize::try_from(self.roll(3)).unwrap();
        if self.roll(40) == 0 {
            // Dies, and starts with nothing but its clock.
            let skew = self.replicas[which].skew;
            self.replicas[which] = Replica {
                skew,
                ..Replica::default()
            };
        }
        if self.roll(600) == 0 && self.replicas[0].held.is_some() {
            // Somebody deletes the Secret, and the first to see it is one that was there before.
            self.secret = None;
            self.version += 1;
            self.see(0);
            let done = self.act(0);
            self.check();
            return done;
        }
        // A late view now and then: a read is missed, or a write comes to nothing.
        if self.roll(4) > 0 {
            self.see(which);
        }
        let done = if self.roll(3) > 0 {
            self.act(which)
        } else {
            None
        };
        if self.roll(3) > 0 {
            self.publish(which);
        }
        self.serve(which);
        self.check();
        done
    }

    fn see(&mut self, which: usize) {
        let replica = &mut self.replicas[which];
        if let Some(contents) = &self.secret
            && contents.is_good(self.now + replica.skew, &self.rules)
        {
            replica.held = Some(contents.clone());
        }
        replica.secret = Some((self.version, self.secret.clone()));
        let last = self.published.back();
        replica.registered = last.map(|(_, bundle, text)| (text.clone(), bundle.clone()));
        Self::note(replica, self.now);
    }

    fn note(replica: &mut Replica, now: i64) {
        let wanted = replica.secret.as_ref().and_then(|(_, it)| it.as_ref());
        let wanted = wanted.map(Contents::bundle_pem);
        let found = replica.registered.as_ref().map(|(text, _)| text);
        match (wanted, &replica.published) {
            (Some(text), Some((last, _))) if text == *last && found == Some(&text) => {}
            (Some(text), _) if found == Some(&text) => replica.published = Some((text, now)),
            _ => replica.published = None,
        }
    }

    fn act(&mut self, which: usize) -> Option<Step> {
        let replica = &self.replicas[which];
        let (version, secret) = replica.secret.clone()?;
        let view = View {
            now: self.now + replica.skew,
            secret: secret.as_ref(),
            held: replica.held.as_ref(),
            published_for: replica
                .published
                .as_ref()
                .map(|(_, since)| self.now - since),
        };
        let step = next(view, &self.rules);
        if matches!(step, Step::Rest { .. }) {
            return None;
        }
        let made = perform(step, view, &self.rules).unwrap();
        // Compare and swap.
        if version != self.version {
            return None;
        }
        self.version += 1;
        self.secret = Some(stored(&made));
        if self.roll(5) > 0 {
            self.see(which);
        }
        Some(step)
    }

    fn publish(&mut self, which: usize) {
        // Reads the Secret first.
        self.see(which);
        let now = self.now + self.replicas[which].skew;
        let Some(contents) = &self.secret else { return };
        if contents.good_leaf(now, &self.rules).is_none() {
            return;
        }
        let text = contents.bundle_pem();
        if self.published.back().map(|(_, _, last)| last) != Some(&text) {
            let bundle = contents.bundle();
            self.published.push_back((self.now, bundle, text));
        }
        self.see(which);
    }

    fn serve(&mut self, which: usize) {
        let replica = &mut self.replicas[which];
        let published: Vec<_> = replica
            .registered
            .iter()
            .map(|(_, it)| it.clone())
            .collect();
        let secret = replica.secret.as_ref().and_then(|(_, it)| it.as_ref());
        let now = self.now + replica.skew;
        replica.served = choose(
            replica.served.as_ref(),
            secret,
            &published,
            &self.rules,
            now,
        )
        .cloned();
    }

    fn check(&mut self) {
        // An API server may be half of the settle time behind.
        let lag = self.rules.settle / 2;
        while self.published.len() > 1 && self.published[1].0 <= self.now - lag {
            self.published.pop_front();
        }
        if self.published.is_empty() || self.replicas.iter().all(|it| it.served.is_none()) {
            return;
        }
        let since = *self.complete.get_or_insert(self.now);
        if self.now < since + lag {
            return;
        }
        for replica in &self.replicas {
            let Some(leaf) = &replica.served else {
                continue;
            };
            for (_, bundle, _) in &self.published {
                let name = &self.rules.names[0];
                verify(&leaf.certificate, bundle, name, self.now).unwrap();
            }
        }
    }
}
