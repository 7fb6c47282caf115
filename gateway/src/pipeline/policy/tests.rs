//! Each rule of merging as a line, and what no set of policies may do.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::policy::PolicyId;
use crate::model::session::{AccessRight, AllowedUrl, EndpointLimit, Quota, Rate};

const ORGANISATION: &str = "acme";

/// A policy by its id, with the partitions and APIs that are named, such as `acl rate: a b`.
fn policy(id: &str, text: &str) -> Policy {
    let (partitions, apis) = text.split_once(':').expect("`partitions: apis`");
    let mut policy = Policy::new(PolicyId::parse(id).expect("an id"));
    ORGANISATION.clone_into(&mut policy.organisation);
    for word in partitions.split_whitespace() {
        let partitions = &mut policy.partitions;
        match word {
            "acl" => partitions.acl = true,
            "rate" => partitions.rate_limit = true,
            "quota" => partitions.quota = true,
            "depth" => partitions.complexity = true,
            "per_api" => partitions.per_api = true,
            other => panic!("{other}"),
        }
    }
    policy.access_rights = apis.split_whitespace().map(right).collect();
    policy
}

fn right(api: &str) -> AccessRight {
    AccessRight { api_id: api.to_owned(), ..AccessRight::default() }
}

fn rate(requests: f64, per_seconds: f64) -> Rate {
    Rate { requests, per_seconds, ..Rate::default() }
}

fn quota(max: i64, renewal_rate: i64) -> Quota {
    Quota { max, renewal_rate, ..Quota::default() }
}

fn url(url: &str, methods: &[&str]) -> AllowedUrl {
    AllowedUrl { url: url.to_owned(), methods: methods.iter().map(|&m| m.to_owned()).collect() }
}

fn with(mut policy: Policy, change: impl FnOnce(&mut Policy)) -> Policy {
    change(&mut policy);
    policy
}

fn session(policies: &[Policy]) -> Session {
    Session { policies: policies.iter().map(|policy| policy.id.to_string()).collect(), ..Session::default() }
}

#[track_caller]
fn applied_to(mut session: Session, policies: &[Policy]) -> Session {
    apply(&mut session, policies, ORGANISATION).expect("policies that apply");
    session
}

#[track_caller]
fn applied(policies: &[Policy]) -> Session {
    applied_to(session(policies), policies)
}

fn api<'s>(session: &'s Session, api: &str) -> &'s AccessRight {
    session.access_rights.iter().find(|right| right.api_id == api).expect("a right")
}

fn apis(session: &Session) -> Vec<&str> {
    session.access_rights.iter().map(|right| right.api_id.as_str()).collect()
}

#[track_caller]
fn check_error(mut session: Session, policies: &[Policy], expected: &PolicyError) {
    let before = session.clone();
    assert_eq!(apply(&mut session, policies, ORGANISATION).as_ref(), Err(expected));
    assert_eq!(session, before, "left as it was");
}

#[test]
fn a_session_without_policies_keeps_its_rights_and_counts_own_limits_apart() {
    let own = AccessRight { rate: Some(rate(1.0, 1.0)), ..right("a") };
    let named =
        AccessRight { allowance_scope: "team".to_owned(), ..AccessRight { api_id: "c".to_owned(), ..own.clone() } };
    let before = Session { access_rights: vec![own, right("b"), named], inactive: true, ..Session::default() };
    let after = applied_to(before.clone(), &[policy("p", ": z")]);
    let scopes: Vec<&str> = after.access_rights.iter().map(|right| right.allowance_scope.as_str()).collect();
    assert_eq!(scopes, ["a", "", "team"]);
    assert!(after.inactive);
}

#[test]
fn a_policy_that_is_not_there_is_an_error_alone_and_skipped_among_others() {
    let known = policy("known", ": a");
    let of = |ids: &[&str]| Session { policies: ids.iter().map(|&id| id.to_owned()).collect(), ..Session::default() };
    check_error(of(&["lost"]), std::slice::from_ref(&known), &PolicyError::Unknown("lost".to_owned()));
    check_error(of(&["lost", "lost"]), std::slice::from_ref(&known), &PolicyError::Unknown("lost".to_owned()));
    check_error(of(&["lost", "gone"]), std::slice::from_ref(&known), &PolicyError::NoneValid);
    assert_eq!(apis(&applied_to(of(&["lost", "known"]), std::slice::from_ref(&known))), ["a"]);
    let off = with(known, |policy| policy.active = false);
    check_error(of(&["known"]), &[off], &PolicyError::Unknown("known".to_owned()));
}

#[test]
fn a_policy_of_another_organisation_is_an_error_even_among_others() {
    let theirs = with(policy("theirs", ": a"), |policy| "rival".clone_into(&mut policy.organisation));
    let policies = [policy("ours", ": b"), theirs];
    check_error(session(&policies), &policies, &PolicyError::OtherOrganisation("theirs".to_owned()));
}

#[test]
fn per_api_and_partitions_do_not_mix() {
    let both = [policy("both", "per_api acl: a")];
    check_error(session(&both), &both, &PolicyError::PerApiWithPartitions("both".to_owned()));
    for ids in [["one", "two"], ["two", "one"]] {
        let [one, two] = ids;
        let beside = [policy(one, "per_api: a"), policy(two, "rate: a")];
        check_error(session(&beside), &beside, &PolicyError::PerApiBesidePartitions);
    }
    assert_eq!(apis(&applied(&[policy("one", "per_api: a"), policy("two", ": b")])), ["a", "b"]);
}

#[test]
fn policies_that_grant_nothing_are_an_error() {
    for text in ["quota: a", "rate: a", "depth: a", ":", "acl:", "per_api:"] {
        let policies = [policy("p", text)];
        let own = Session { access_rights: vec![right("a")], ..session(&policies) };
        check_error(own, &policies, &PolicyError::NoneValid);
    }
    assert_eq!(PolicyError::NoneValid.to_string(), "key has no valid policies to be applied");
}

#[test]
fn a_rate_that_cannot_be_counted_is_an_error_where_it_is_used() {
    let broken = |text| with(policy("p", text), |policy| policy.rate = rate(3.0, 0.0));
    check_error(session(&[broken(": a")]), &[broken(": a")], &PolicyError::RateInvalid("p".to_owned()));
    assert_eq!(apis(&applied(&[broken("acl: a")])), ["a"]);
}

#[test]
fn rights_are_those_of_the_policies_and_not_the_sessions_own() {
    let policies = [policy("p", "acl: a b")];
    let own = Session { access_rights: vec![right("c")], rate: rate(9.0, 1.0), ..session(&policies) };
    let after = applied_to(own, &policies);
    assert_eq!(apis(&after), ["a", "b"]);
    assert_eq!((after.rate, api(&after, "a").rate), (rate(9.0, 1.0), None), "an acl leaves the session's rate");
}

#[test]
fn a_partition_sets_its_part_only() {
    let limits = |policy: &mut Policy| {
        (policy.rate, policy.quota, policy.max_query_depth) = (rate(4.0, 1.0), quota(10, 60), 3);
    };
    let before = |policies: &[Policy]| Session {
        rate: rate(20.0, 1.0),
        quota: quota(99, 9),
        max_query_depth: 9,
        ..session(policies)
    };
    for (text, expected) in [
        ("acl: a", (20.0, 99, 9)),
        ("acl rate: a", (4.0, 99, 9)),
        ("acl quota: a", (20.0, 10, 9)),
        ("acl depth: a", (20.0, 99, 3)),
        (": a", (4.0, 10, 3)),
    ] {
        let policies = [with(policy("p", text), limits)];
        let after = applied_to(before(&policies), &policies);
        assert_eq!((after.rate.requests, after.quota.max, after.max_query_depth), expected, "{text}");
    }
}

#[test]
fn an_api_gets_the_limits_of_policies_that_name_it_without_granting_it() {
    let rates = with(policy("rates", "rate: a b"), |policy| policy.rate = rate(4.0, 1.0));
    let after = applied(&[policy("rights", "acl: a"), rates]);
    assert_eq!(apis(&after), ["a"]);
    assert_eq!(api(&after, "a").rate, Some(rate(4.0, 1.0)));
    assert_eq!(after.rate, rate(4.0, 1.0));
}

#[test]
fn the_highest_rate_wins() {
    let check = |rates: &[(f64, f64)], expected: Option<Rate>| {
        let policies: Vec<Policy> = rates
            .iter()
            .enumerate()
            .map(|(index, (requests, per))| {
                with(policy(&format!("p{index}"), ": a"), |policy| policy.rate = rate(*requests, *per))
            })
            .collect();
        assert_eq!(api(&applied(&policies), "a").rate, expected, "{rates:?}");
    };
    check(&[(2.0, 1.0), (10.0, 60.0)], Some(rate(2.0, 1.0)));
    check(&[(10.0, 60.0), (2.0, 1.0)], Some(rate(2.0, 1.0)));
    check(&[(0.0, 0.0), (2.0, 1.0)], Some(rate(2.0, 1.0)));
    check(&[(2.0, 1.0), (-1.0, 0.0)], Some(rate(-1.0, 0.0)));
    check(&[(1.0, 1.0), (60.0, 60.0)], Some(rate(60.0, 60.0)));
    check(&[(0.0, 0.0)], None);
}

#[test]
fn the_highest_quota_and_depth_win() {
    let check = |values: &[i64], expected: i64| {
        let of = |(index, value): (usize, &i64)| {
            with(policy(&format!("p{index}"), ": a"), |policy| {
                policy.quota = quota(*value, 60);
                policy.max_query_depth = *value;
            })
        };
        let policies: Vec<Policy> = values.iter().enumerate().map(of).collect();
        let after = applied(&policies);
        let found = api(&after, "a");
        assert_eq!((found.quota.map(|quota| quota.max), found.max_query_depth), (Some(expected), Some(expected)));
    };
    check(&[2, 3], 3);
    check(&[3, 2], 3);
    check(&[3, -1], -1);
    check(&[-1, 3], -1);
    check(&[0, 3], 3);
}

#[test]
fn what_remains_of_a_quota_stays() {
    let policies = [with(policy("p", ": a"), |policy| policy.quota = quota(10, 60))];
    let counted = Quota { remaining: 4, renews: 1_700_000_000, ..quota(5, 1) };
    let before = Session {
        quota: counted,
        access_rights: vec![AccessRight { quota: Some(counted), ..right("a") }],
        ..session(&policies)
    };
    let expected = Quota { max: 10, renewal_rate: 60, ..counted };
    let after = applied_to(before, &policies);
    assert_eq!((after.quota, api(&after, "a").quota), (expected, Some(expected)));
}

#[test]
fn per_api_limits_are_the_apis_own_or_the_policys() {
    let per_api = with(policy("p", "per_api: c d"), |policy| {
        policy.rate = rate(300.0, 1.0);
        let own = policy.access_rights.iter_mut().find(|right| right.api_id == "d").expect("a right");
        (own.rate, own.quota) = (Some(rate(20.0, 1.0)), Some(quota(1_000, 3_600)));
    });
    let after = applied(std::slice::from_ref(&per_api));
    let (c, d) = (api(&after, "c"), api(&after, "d"));
    assert_eq!((c.rate, c.quota, c.allowance_scope.as_str()), (Some(rate(300.0, 1.0)), None, "p"));
    assert_eq!((d.rate, d.quota, d.allowance_scope.as_str()), (Some(rate(20.0, 1.0)), Some(quota(1_000, 3_600)), "d"));

    let higher = with(policy("q", "per_api: d"), |policy| {
        policy.access_rights.iter_mut().for_each(|right| right.quota = Some(quota(5_000, 60)));
    });
    let after = applied(&[per_api, higher]);
    let d = api(&after, "d");
    assert_eq!((d.rate, d.quota), (Some(rate(20.0, 1.0)), Some(quota(5_000, 3_600))));
}

#[test]
fn endpoints_of_several_policies_keep_the_higher_rate() {
    let limit = |path: &str, requests| EndpointLimit {
        path: path.to_owned(),
        method: "GET".to_owned(),
        rate: rate(requests, 1.0),
    };
    let endpoints = |id, text, limits: &[EndpointLimit]| {
        with(policy(id, text), |policy| policy.access_rights.iter_mut().for_each(|r| r.endpoints = limits.to_vec()))
    };
    let one = endpoints("one", ": a", &[limit("/x", 1.0), limit("/y", 2.0)]);
    let two = endpoints("two", ": a", &[limit("/x", 3.0)]);
    assert_eq!(api(&applied(&[one, two]), "a").endpoints, [limit("/x", 3.0), limit("/y", 2.0)]);
    assert_eq!(api(&applied(&[endpoints("p", "acl: a", &[limit("/x", 1.0)])]), "a").endpoints, []);
}

#[test]
fn paths_and_versions_are_joined() {
    let one = with(policy("one", ": a"), |policy| {
        let right = policy.access_rights.first_mut().expect("a right");
        right.allowed_urls = vec![url("/user", &["GET"])];
        right.versions = vec!["v1".to_owned()];
    });
    let two = with(policy("two", ": a"), |policy| {
        let right = policy.access_rights.first_mut().expect("a right");
        right.allowed_urls = vec![url("/user", &["POST"]), url("/team", &["GET"])];
        right.versions = vec!["v2".to_owned()];
    });
    let after = applied(&[one, two, policy("all", ": a")]);
    let found = api(&after, "a");
    assert_eq!(found.allowed_urls, [url("/user", &["GET", "POST"]), url("/team", &["GET"])]);
    assert_eq!(found.versions, ["v1", "v2"]);
}

#[test]
fn rights_of_several_policies_are_counted_apart() {
    let after = applied(&[policy("one", ": a"), policy("two", ": b")]);
    assert_eq!((api(&after, "a").allowance_scope.as_str(), api(&after, "b").allowance_scope.as_str()), ("one", "two"));
    let after = applied(&[policy("one", ": a b")]);
    assert_eq!((api(&after, "a").allowance_scope.as_str(), api(&after, "b").allowance_scope.as_str()), ("", ""));
}

#[test]
fn tags_and_metadata_are_merged_and_the_policy_wins() {
    let one = with(policy("one", ": a"), |policy| {
        policy.tags = vec!["vip".to_owned(), "x".to_owned()];
        policy.metadata = [("plan".to_owned(), json!("gold")), ("n".to_owned(), json!(1))].into();
    });
    let two = with(policy("two", ": a"), |policy| policy.metadata = [("n".to_owned(), json!(2))].into());
    let before = Session {
        tags: vec!["own".to_owned(), "vip".to_owned()],
        metadata: [("plan".to_owned(), json!("old")), ("own".to_owned(), json!(true))].into(),
        ..session(&[one.clone(), two.clone()])
    };
    let after = applied_to(before, &[two, one]);
    assert_eq!(after.tags, ["own", "vip", "x"]);
    assert_eq!(json!(after.metadata), json!({ "plan": "gold", "own": true, "n": 2 }));
}

#[test]
fn a_policy_makes_a_session_inactive_and_never_active() {
    let off = with(policy("off", ": a"), |policy| policy.inactive = true);
    assert!(applied(&[policy("on", ": a"), off]).inactive);
    let policies = [policy("on", ": a")];
    let switched_off = Session { inactive: true, ..session(&policies) };
    assert!(applied_to(switched_off, &policies).inactive);
}

const APIS: [&str; 4] = ["a", "b", "c", "d"];

fn rates() -> impl Strategy<Value = Rate> {
    let limits = (prop_oneof![Just(0.0), Just(-1.0), 1.0..50.0_f64], 1.0..90.0_f64);
    (limits, -1..5_i32).prop_map(|((requests, per_seconds), throttle_retries)| Rate {
        throttle_retries,
        throttle_interval: f64::from(throttle_retries),
        ..rate(requests, per_seconds)
    })
}

fn rights() -> impl Strategy<Value = Vec<AccessRight>> {
    let one = (
        prop::sample::select(&APIS[..]),
        prop::option::of(rates()),
        prop::option::of((-1..9_i64, 0..9_i64)),
        prop::collection::vec(prop::sample::select(&["/x", "/y"][..]), 0..2),
        prop::option::of(rates()),
    );
    let one = one.prop_map(|(id, rate, limit, urls, endpoint)| AccessRight {
        rate,
        quota: limit.map(|(max, renewal)| quota(max, renewal)),
        allowed_urls: urls.into_iter().map(|path| url(path, &["GET"])).collect(),
        endpoints: endpoint
            .into_iter()
            .map(|rate| EndpointLimit { path: "/e".into(), method: "GET".into(), rate })
            .collect(),
        ..right(id)
    });
    prop::collection::vec(one, 0..4)
}

prop_compose! {
    fn some_policy()(
        access_rights in rights(), rate in rates(), limit in (-1..9_i64, 0..9_i64), depth in -1..4_i64,
        bits in 0..32_u8, inactive: bool,
    ) -> Policy {
        with(policy("p", ":"), |policy| {
            (policy.access_rights, policy.rate, policy.inactive) = (access_rights, rate, inactive);
            (policy.quota, policy.max_query_depth) = (quota(limit.0, limit.1), depth);
            policy.partitions = Partitions {
                quota: bits & 1 != 0, rate_limit: bits & 2 != 0, acl: bits & 4 != 0, complexity: bits & 8 != 0,
                per_api: bits & 16 != 0 && bits & 7 == 0,
            };
        })
    }
}

fn some_policies() -> impl Strategy<Value = Vec<Policy>> {
    let numbered = |mut policies: Vec<Policy>| {
        for (index, policy) in policies.iter_mut().enumerate() {
            policy.id = PolicyId::parse(&format!("p{index}")).expect("an id");
        }
        policies
    };
    prop::collection::vec(some_policy(), 1..5).prop_map(numbered)
}

proptest! {
    #[test]
    fn no_policy_set_grants_an_api_that_none_of_them_names(policies in some_policies(), own in rights()) {
        let mut after = Session { access_rights: own, ..session(&policies) };
        if apply(&mut after, &policies, ORGANISATION).is_ok() {
            prop_assert!(!after.access_rights.is_empty(), "no rights would be all rights");
            for id in apis(&after) {
                let names = |policy: &Policy| policy.access_rights.iter().any(|right| right.api_id == id);
                let grants = |policy: &Policy| policy.partitions.acl || !is_partitioned(policy.partitions);
                prop_assert!(policies.iter().any(|policy| names(policy) && grants(policy)), "{id}");
            }
        }
    }

    #[test]
    fn the_order_of_policies_changes_nothing(
        (policies, shuffled) in some_policies().prop_flat_map(|p| (Just(p.clone()), Just(p).prop_shuffle()))
    ) {
        let (mut one, mut two) = (session(&policies), session(&shuffled));
        let results = (apply(&mut one, &policies, ORGANISATION), apply(&mut two, &shuffled, ORGANISATION));
        prop_assert_eq!(results.0.is_ok(), results.1.is_ok());
        two.policies.clone_from(&one.policies);
        prop_assert_eq!(one, two);
    }

    #[test]
    fn applied_again_they_change_nothing(policies in some_policies(), own in rights(), of_session in rates()) {
        let mut once = Session { access_rights: own, rate: of_session, ..session(&policies) };
        if apply(&mut once, &policies, ORGANISATION).is_ok() {
            let mut twice = once.clone();
            prop_assert_eq!(apply(&mut twice, &policies, ORGANISATION), Ok(()));
            prop_assert_eq!(once, twice);
        }
    }
}
