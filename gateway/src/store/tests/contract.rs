//! Records: sessions and policies.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::bench::Bench;
use crate::model::api::PolicyGrant;
use crate::model::edit_rules::{EditRefused, EditRules};
use crate::model::key::KeyHash;
use crate::model::policy::{Policy, PolicyId};
use crate::model::session::{AccessRight, Session, SessionEdit};
use crate::store::{Edited, Event, Life, StoreError};

fn session(alias: &str) -> Session {
    let metadata = [("plan".to_owned(), json!({ "name": "gold" }))].into();
    let extra = vec![("later".to_owned(), b"[1,2]".to_vec())];
    Session { alias: alias.to_owned(), organisation: "o".to_owned(), metadata, extra, ..Session::default() }
}

pub(super) async fn a_session_is_created_once_read_replaced_and_deleted(bench: &Bench) {
    let (store, other, key) = (&bench.store, &bench.other, KeyHash::of("a"));
    assert_eq!(store.session(&key).await, Ok(None));
    assert_eq!(store.create_session(&key, &session("bob"), Life::Forever).await, Ok(true));
    assert_eq!(other.create_session(&key, &session("eve"), Life::Forever).await, Ok(false));
    let read = other.session(&key).await.expect("it is there").expect("it was created");
    assert_eq!(*read.session, session("bob"));
    other.replace_session(&key, &session("eve"), Life::Forever).await.expect("it is there");
    let read = store.session(&key).await.expect("it is there").expect("it was replaced");
    assert_eq!(read.session.alias, "eve");
    assert_eq!(store.delete_session(&key).await, Ok(true));
    assert_eq!(other.delete_session(&key).await, Ok(false));
    assert_eq!(other.session(&key).await, Ok(None));
}

pub(super) async fn an_update_is_refused_once_somebody_else_wrote(bench: &Bench) {
    let (store, other, key) = (&bench.store, &bench.other, KeyHash::of("a"));
    store.replace_session(&key, &session("one"), Life::Forever).await.expect("it is there");
    let first = store.session(&key).await.expect("it is there").expect("it was written").version;
    let second = store.update_session(&key, &session("two"), Life::Kept, &first).await.expect("it is there");
    let second = second.expect("nobody else wrote");
    assert_eq!(other.update_session(&key, &session("three"), Life::Kept, &first).await, Ok(None));
    assert!(matches!(other.update_session(&key, &session("four"), Life::Kept, &second).await, Ok(Some(_))));
    let read = store.session(&key).await.expect("it is there").expect("it was written");
    assert_eq!(read.session.alias, "four");
}

pub(super) async fn an_update_does_not_bring_back_a_deleted_session(bench: &Bench) {
    let (store, key) = (&bench.store, KeyHash::of("a"));
    store.replace_session(&key, &session("one"), Life::Forever).await.expect("it is there");
    let read = store.session(&key).await.expect("it is there").expect("it was written");
    bench.other.delete_session(&key).await.expect("it is there");
    assert_eq!(store.update_session(&key, &session("two"), Life::Kept, &read.version).await, Ok(None));
    assert_eq!(store.session(&key).await, Ok(None));
}

pub(super) async fn of_many_edits_at_once_none_is_lost(bench: &Bench) {
    let (store, other, key) = (&bench.store, &bench.other, KeyHash::of("a"));
    store.replace_session(&key, &session("one"), Life::Forever).await.expect("it is there");
    let read = store.session(&key).await.expect("it is there").expect("it was written");
    let tags: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    let edits = tags.iter().enumerate().map(async |(index, tag)| {
        let store = if index % 2 == 0 { store } else { other };
        store.edit_session(&key, read.clone(), &[SessionEdit::AddTag(tag.clone())], &any()).await
    });
    assert_eq!(join_all(edits).await, vec![Ok(Edited::Done); 8]);
    let edited = store.session(&key).await.expect("it is there").expect("it was written").session;
    let mut found = edited.tags.clone();
    found.sort_unstable();
    assert_eq!((found, edited.alias.as_str()), (tags, "one"));
}

fn any() -> EditRules {
    EditRules { policies: PolicyGrant::All, allow_master_keys: true }
}

/// Two edits, each of which leaves something, must not leave nothing together.
pub(super) async fn edits_are_judged_by_what_others_left(bench: &Bench) {
    let (store, key) = (&bench.store, KeyHash::of("a"));
    let rules = EditRules { policies: PolicyGrant::All, allow_master_keys: false };
    let right = AccessRight { api_id: "orders".to_owned(), ..AccessRight::default() };
    let both = Session { access_rights: vec![right], policies: vec!["gold".to_owned()], ..session("one") };
    store.replace_session(&key, &both, Life::Forever).await.expect("it is there");
    let read = store.session(&key).await.expect("it is there").expect("it was written");
    let (rights, policies) = (SessionEdit::SetAccessRights(Vec::new()), SessionEdit::SetPolicies(Vec::new()));
    assert_eq!(bench.other.edit_session(&key, read.clone(), &[rights], &rules).await, Ok(Edited::Done));
    let refused = Ok(Edited::Refused(EditRefused::MasterKey));
    assert_eq!(store.edit_session(&key, read, &[policies], &rules).await, refused);
    let kept = store.session(&key).await.expect("it is there").expect("it was written").session;
    assert_eq!((kept.access_rights.len(), kept.policies.len()), (0, 1));
}

pub(super) async fn edits_do_not_bring_back_a_deleted_session(bench: &Bench) {
    let (store, key) = (&bench.store, KeyHash::of("a"));
    let edits = [SessionEdit::SetAlias("two".to_owned())];
    store.replace_session(&key, &session("one"), Life::Forever).await.expect("it is there");
    let read = store.session(&key).await.expect("it is there").expect("it was written");
    bench.other.delete_session(&key).await.expect("it is there");
    assert_eq!(store.edit_session(&key, read.clone(), &edits, &any()).await, Ok(Edited::Gone));
    assert_eq!(store.session(&key).await, Ok(None));
    // Nor do they reach what came in its place for somebody else.
    let theirs = Session { organisation: "p".to_owned(), ..session("theirs") };
    bench.other.create_session(&key, &theirs, Life::Forever).await.expect("it is there");
    assert_eq!(store.edit_session(&key, read, &edits, &any()).await, Ok(Edited::Gone));
    let kept = store.session(&key).await.expect("it is there").expect("it was written");
    assert_eq!(*kept.session, theirs);
}

pub(super) async fn a_session_ends_with_its_life(bench: &Bench) {
    let (store, key, kept) = (&bench.store, KeyHash::of("a"), KeyHash::of("b"));
    store.replace_session(&key, &session("a"), Life::Millis(60_000)).await.expect("it is there");
    store.replace_session(&kept, &session("b"), Life::Millis(60_000)).await.expect("it is there");
    let read = store.session(&kept).await.expect("it is there").expect("it lives");
    let left = read.ends_ms.expect("it ends").saturating_sub(bench.clock.now_ms());
    assert!((59_000..=60_000).contains(&left), "{left}");
    bench.advance(Duration::from_secs(30)).await;
    // An update does not make a life longer, a replacement may.
    assert!(matches!(store.update_session(&kept, &session("c"), Life::Kept, &read.version).await, Ok(Some(_))));
    store.replace_session(&key, &session("d"), Life::Millis(60_000)).await.expect("it is there");
    bench.advance(Duration::from_secs(31)).await;
    assert_eq!(store.session(&kept).await, Ok(None));
    assert!(matches!(store.session(&key).await, Ok(Some(_))));
    assert_eq!(store.delete_session(&kept).await, Ok(false));
    assert_eq!(store.create_session(&kept, &session("e"), Life::Forever).await, Ok(true));
}

pub(super) async fn sessions_are_listed_in_pages(bench: &Bench) {
    let mut expected: Vec<KeyHash> = (0..25).map(|number| KeyHash::of(&number.to_string())).collect();
    for key in &expected {
        bench.store.create_session(key, &session("a"), Life::Forever).await.expect("it is there");
    }
    let mut found = Vec::new();
    let mut page = bench.other.list_sessions(None, 10).await.expect("it is there");
    while let Some(next) = page.next.clone() {
        found.append(&mut page.items);
        page = bench.other.list_sessions(Some(&next), 10).await.expect("it is there");
    }
    found.append(&mut page.items);
    found.sort();
    found.dedup();
    expected.sort();
    assert_eq!(found, expected);
}

pub(super) async fn a_session_that_is_too_large_is_refused(bench: &Bench) {
    let key = KeyHash::of("a");
    let large = session(&"x".repeat(70 << 10));
    let written = bench.store.create_session(&key, &large, Life::Forever).await;
    assert_eq!(written, Err(StoreError::TooLarge));
    assert_eq!(bench.store.session(&key).await, Ok(None));
}

pub(super) async fn of_many_who_create_one_session_one_does(bench: &Bench) {
    let key = KeyHash::of("a");
    let creations = (0..100).map(|number| {
        let store = if number % 2 == 0 { &bench.store } else { &bench.other };
        let (store, key) = (store.clone(), key.clone());
        async move { store.create_session(&key, &session(&number.to_string()), Life::Forever).await }
    });
    let created = futures_util::future::join_all(creations).await;
    assert_eq!(created.iter().filter(|created| **created == Ok(true)).count(), 1);
}

pub(super) async fn policies_are_put_read_listed_and_deleted(bench: &Bench) {
    let (store, other) = (&bench.store, &bench.other);
    let id = PolicyId::parse("a policy/1").expect("it is an id");
    let mut policy = Policy { name: "gold".to_owned(), ..Policy::new(id.clone()) };
    policy.partitions.quota = true;
    policy.extra = vec![("hmac_enabled".to_owned(), b"true".to_vec())];
    assert_eq!(store.policy(&id).await, Ok(None));
    store.put_policy(&policy).await.expect("it is there");
    assert_eq!(other.policy(&id).await, Ok(Some(policy.clone())));
    policy.active = false;
    other.put_policy(&policy).await.expect("it is there");
    assert_eq!(store.policy(&id).await, Ok(Some(policy)));
    let page = store.list_policies(None, 10).await.expect("it is there");
    assert_eq!((page.items, page.next), (vec![id.clone()], None));
    assert_eq!(store.delete_policy(&id).await, Ok(true));
    assert_eq!(other.delete_policy(&id).await, Ok(false));
    assert_eq!(other.policy(&id).await, Ok(None));
}

pub(super) async fn every_gateway_hears_of_changes(bench: &Bench) {
    let key = KeyHash::of("a");
    let policy = Policy::new(PolicyId::parse("p").expect("it is an id"));
    let mut subscription = bench.other.subscribe();
    bench.store.create_session(&key, &session("a"), Life::Forever).await.expect("it is there");
    bench.store.delete_session(&key).await.expect("it is there");
    bench.store.put_policy(&policy).await.expect("it is there");
    bench.store.announce_reload().await.expect("it is there");
    let mut expected =
        vec![Event::SessionChanged(key.clone()), Event::SessionDeleted(key), Event::PolicyChanged(policy.id)];
    // Reloads are for the others on the store, where there may be some.
    expected.extend(bench.store.0.backend.may_be_away().then_some(Event::Reload));
    while !expected.is_empty() {
        let event = tokio::time::timeout(Duration::from_secs(10), subscription.next()).await;
        let event = event.expect("it comes soon").expect("the store is there");
        // A gateway may hear of itself twice.
        if expected.first() == Some(&event) {
            expected.remove(0);
        }
    }
}
