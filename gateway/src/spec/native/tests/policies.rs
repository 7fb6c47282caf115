//! Policies of files, ours and Tyk's.

use super::folder::Folder;
use super::problems;
use crate::model::policy::{Partitions, Policy};
use crate::model::session::{AllowedUrl, Quota, Rate};

const API: &str = "apis: [ { id: x, listen: { path: /x }, upstream: { url: \"http://127.0.0.1:9\" } } ]\n";

fn folder(policies: &str) -> Folder {
    let folder = Folder::new();
    folder.write("stile.yaml", &format!("{API}{policies}"));
    folder
}

#[track_caller]
fn read(folder: &Folder) -> Vec<Policy> {
    let (gateway, warnings) = crate::spec::read(&folder.path("stile.yaml")).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(warnings, []);
    gateway.policies
}

#[track_caller]
fn check_in(folder: &Folder, expected: &[&str]) {
    let found = problems(folder, "stile.yaml");
    let fits = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.contains(e));
    assert!(fits, "expected {expected:#?}\nfound {found:#?}");
}

#[track_caller]
fn check(keys: &str, expected: &[&str]) {
    check_in(&folder(&format!("policies: [ {{ id: p, {keys} }} ]")), expected);
}

#[test]
fn a_policy_is_read() {
    let text = "policies:\n- id: gold\n  organisation: acme\n  partitions: [rate, access]\n  \
                rate: { requests: 100, per_seconds: 60 }\n  quota: { requests: -1, renewal_seconds: 5 }\n  \
                access: { x: { versions: [v1], paths: [ { path: '/a/{id}$', methods: [GET] } ], \
                endpoints: [ { method: GET, path: /a, rate: { requests: 1, per_seconds: 0.5 } } ] } }\n  \
                tags: [vip]\n  metadata: { plan: 7 }\n  key_expires_in_seconds: 9\n";
    let policies = read(&folder(text));
    let [policy] = policies.as_slice() else { panic!("{policies:?}") };
    assert_eq!((policy.id.as_str(), policy.name.as_str(), policy.organisation.as_str()), ("gold", "gold", "acme"));
    assert_eq!(policy.partitions, Partitions { rate_limit: true, acl: true, ..Partitions::default() });
    assert_eq!(policy.rate, Rate { requests: 100.0, per_seconds: 60.0, ..Rate::default() });
    assert_eq!(policy.quota, Quota { max: -1, renewal_rate: 5, ..Quota::default() });
    assert_eq!((policy.tags.as_slice(), policy.key_expires_in), (&["vip".to_owned()][..], 9));
    let right = policy.access_rights.first().expect("a right");
    assert_eq!((right.api_id.as_str(), right.versions.as_slice()), ("x", &["v1".to_owned()][..]));
    assert_eq!(right.allowed_urls, [AllowedUrl { url: "/a/{id}$".to_owned(), methods: vec!["GET".to_owned()] }]);
    assert_eq!(right.endpoints.first().map(|endpoint| endpoint.rate.per_seconds), Some(0.5));
}

#[test]
fn policies_come_from_included_files_and_files_of_their_own() {
    let folder = folder("policies: { file: policies/*.yaml, tyk_file: tyk.json }\ninclude: [more.yaml]\n");
    folder.write("more.yaml", "policies: [ { id: one } ]");
    folder.write("policies/a.yaml", "policies: [ { id: two } ]");
    folder.write("policies/b.yaml", "policies: [ { id: three } ]");
    folder.write("tyk.json", r#"{ "four": {} }"#);
    let ids: Vec<String> = read(&folder).iter().map(|policy| policy.id.to_string()).collect();
    assert_eq!(ids, ["one", "two", "three", "four"]);
}

#[test]
fn what_is_wrong_with_a_policy_is_told() {
    check("ratee: {}", &["error policies[0].ratee: unknown key | did you mean `rate`?"]);
    check("rate: { requests: 0, per_seconds: 1 }", &["error policies[0].rate.requests: 0 would mean no limit"]);
    check("rate: { requests: 1, per_seconds: 0 }", &["error policies[0].rate.per_seconds: 0 is out of bounds"]);
    check("rate: { requests: 1 }", &["error policies[0].rate: `per_seconds` is missing"]);
    check("quota: { requests: 0 }", &["error policies[0].quota.requests: 0 would mean no limit"]);
    check("partitions: [per_api, rate]", &["error policies[0].partitions: `per_api` stands beside others"]);
    check("partitions: [acl]", &["error policies[0].partitions[0]: `acl` is not known here"]);
    check(
        "access: { x: { paths: [ { path: '(', methods: [get] }, { path: /, methods: [] } ] } }",
        &[
            "error policies[0].access.x.paths[0].path: `(` is not a regular expression",
            "error policies[0].access.x.paths[0].methods[0]: `get` is not a method",
            "error policies[0].access.x.paths[1].methods: is empty",
        ],
    );
    check(
        "metadata: { rate_limit_pattern: $tyk_meta.team }",
        &["warning policies[0]: `rate_limit_pattern` in its metadata is not read: each session is counted by itself"],
    );
    check("max_query_depth: 5", &["warning policies[0]: `max_query_depth` is kept and shown, and bounds nothing"]);
    let overruled = &["warning policies[0]: its own limits for `x` are below the policy's"];
    check("quota: { requests: 9 }, access: { x: { quota: { requests: 8 } } }", overruled);
    check(
        "rate: { requests: 9, per_seconds: 60 }, access: { x: { rate: { requests: 8, per_seconds: 60 } } }",
        overruled,
    );
    check("access: { x: { quota: { requests: 8 } } }", &[]);
    check("partitions: [per_api], quota: { requests: 9 }, access: { x: { quota: { requests: 8 } } }", &[]);
    check("access: { y: {} }", &["warning policies[0]: no API has the id `y`"]);
    check_in(&folder("policies: [ { id: '' } ]"), &["error policies[0].id: `` is not an id"]);
    check_in(&folder("policies: [ { id: a }, { id: a } ]"), &["error policies[1]: `a` is the id of another policy"]);
    check_in(&folder("policies: {}"), &["error policies: names no file"]);
    check_in(&folder("policies: { filee: a }"), &["error policies.filee: unknown key | did you mean `file`?"]);
    check_in(&folder("policies: 7"), &["error policies: expected a list or a table of keys, found a number"]);
    check_in(&folder("policies: { file: lost.yaml }"), &["error : cannot be read"]);
}

#[test]
fn tyks_file_is_a_map_by_id() {
    let folder = folder("policies: { tyk_file: policies.json }");
    folder.write(
        "policies.json",
        r#"{ "gold": { "id": "other", "org_id": "default", "active": true, "state": "active", "name": "Gold",
            "rate": 7, "per": 60, "quota_max": 5, "quota_renewal_rate": 3600, "tags": null, "meta_data": null,
            "partitions": { "per_api": false, "quota": true, "rate_limit": true, "acl": true },
            "access_rights": { "x": { "api_id": "x", "api_name": "X", "versions": ["Default"],
              "allowed_urls": [ { "url": "/a.*", "methods": ["GET"] } ],
              "limit": { "rate": 2, "per": 1, "quota_max": -1 }, "allowed_types": [], "restricted_types": null,
              "endpoints": [ { "path": "/e", "methods": [ { "name": "GET", "limit": { "rate": -1 } } ] } ] } } } }"#,
    );
    let policies = read(&folder);
    let [policy] = policies.as_slice() else { panic!("{policies:?}") };
    assert_eq!((policy.id.as_str(), policy.name.as_str(), policy.organisation.as_str()), ("gold", "Gold", "default"));
    assert_eq!((policy.rate.requests, policy.quota.max, policy.quota.renewal_rate), (7.0, 5, 3600));
    assert!(policy.active && policy.partitions.acl && !policy.partitions.complexity);
    let right = policy.access_rights.first().expect("a right");
    assert_eq!((right.rate.map(|rate| rate.requests), right.quota.map(|quota| quota.max)), (Some(2.0), Some(-1)));
    assert_eq!(right.endpoints.first().map(|endpoint| endpoint.rate.requests), Some(-1.0));
}

#[test]
fn tyks_folder_has_one_policy_in_each_file() {
    let folder = folder("policies: { tyk_file: policies }");
    folder.write("policies/a.json", r#"{ "id": "one" }"#);
    folder.write("policies/b.json", r#"{ "_id": "two", "active": false }"#);
    folder.write("policies/three.json", "{}");
    folder.write("policies/notes.txt", "not JSON");
    let policies = read(&folder);
    let found: Vec<(&str, bool)> = policies.iter().map(|policy| (policy.id.as_str(), policy.active)).collect();
    assert_eq!(found, [("one", true), ("two", false), ("three", true)]);
}

#[test]
fn what_tyk_would_enforce_and_we_do_not_is_an_error() {
    let check = |policy: &str, expected: &[&str]| {
        let folder = folder("policies: { tyk_file: p.json }");
        folder.write("p.json", &format!(r#"{{ "p": {policy} }}"#));
        check_in(&folder, expected);
    };
    check(r#"{ "hmac_enabled": true }"#, &["error p.hmac_enabled: requests that are signed are not supported"]);
    check(r#"{ "hmac_enabled": false }"#, &[]);
    check(
        r#"{ "access_rights": { "x": { "restricted_types": [ { "name": "T" } ], "disable_introspection": true } } }"#,
        &[
            "error p.access_rights.x.restricted_types: is not supported",
            "error p.access_rights.x.disable_introspection: is not supported",
        ],
    );
    check(
        r#"{ "rate": 3, "access_rights": { "x": { "allowed_urls": [ { "url": "(" } ] } } }"#,
        &[
            "error p.per: the rate cannot be counted",
            "error p.access_rights.x.allowed_urls[0].url: is no regular expression",
        ],
    );
    check(
        r#"{ "partitions": { "per_api": true, "acl": true } }"#,
        &["error p.partitions: `per_api` stands beside others"],
    );
    check(r#"{ "rate": "much" }"#, &["error p.rate: is no policy of Tyk: `rate` is not a number"]);
    check("7", &["error p: is no policy of Tyk: `policy` is not an object"]);
}

#[test]
fn a_field_of_the_wrong_type_hides_nothing_of_a_policy_of_tyk() {
    let folder = folder("policies: { tyk_file: p.json }");
    folder.write(
        "p.json",
        r#"{ "p": { "rate": "x", "tags": 7, "hmac_enabled": true, "access_rights": { "x": { "versions": 7 },
            "y": { "allowed_urls": [ { "url": "(" } ] } } } }"#,
    );
    check_in(
        &folder,
        &[
            "error p.access_rights.x: is no policy of Tyk: `versions` is not a list",
            "error p.rate: is no policy of Tyk: `rate` is not a number",
            "error p.tags: is no policy of Tyk: `tags` is not a list",
            "error p.hmac_enabled: requests that are signed",
            "error p.access_rights.y.allowed_urls[0].url: is no regular expression",
        ],
    );
}

#[test]
fn a_file_that_is_no_map_is_told() {
    let list = folder("policies: { tyk_file: p.json }");
    list.write("p.json", "[]");
    check_in(&list, &["error : expected a map of policies by id"]);
    list.write("p.json", "{");
    check_in(&list, &["error : not valid JSON"]);
    check_in(&folder("policies: { tyk_file: lost.json }"), &["error : cannot be read"]);
}
