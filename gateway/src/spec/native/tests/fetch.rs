//! How plugins are fetched, and the accounts for it.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use super::folder::Folder;
use super::{environment, gateway, problems};

fn folder(accounts: &str) -> Folder {
    let folder = Folder::new();
    folder.write("token", "of-the-file\n");
    folder.write("stile.yaml", &gateway(&format!("fetch: {{ accounts: [ {accounts} ] }}")));
    folder
}

#[track_caller]
fn check(accounts: &str, expected: &str) {
    let found = problems(&folder(accounts), "stile.yaml");
    assert!(found.len() == 1 && found.iter().all(|found| found.contains(expected)), "{expected}\nfound {found:#?}");
    assert!(!found.concat().contains("hunter2"), "{found:?}");
}

#[test]
fn an_account_has_its_password_from_the_environment_or_a_file() {
    let folder = folder(
        "{ url: https://a.test, username: robot, password: { env: WORD } }, \
         { url: 'http://localhost:5000', username: '$robot', password: { file: token }, token_server: https://t.test }",
    );
    let read = crate::spec::read_with(&folder.path("stile.yaml"), &environment);
    let (gateway, warnings) = read.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(warnings, []);
    let shown: Vec<_> = gateway.accounts.iter().map(|of| (of.server.to_string(), of.password.expose())).collect();
    assert_eq!(shown, [("https://a.test".to_owned(), "hunter2"), ("http://localhost:5000".to_owned(), "of-the-file")]);
    assert_eq!(gateway.accounts[1].token_server.as_ref().map(ToString::to_string).as_deref(), Some("https://t.test"));
    assert!(!format!("{gateway:?}").contains("hunter2"));
    // A new password is in a file that is watched.
    assert!(gateway.sources.iter().any(|source| source.ends_with("token")));
}

#[test]
fn an_account_that_is_none_is_named_by_its_place() {
    let of = |url: &str, rest: &str| format!("{{ url: '{url}', username: robot, {rest} }}");
    let word = "password: { env: WORD }";
    check(&of("a.test", word), "error fetch.accounts[0].url: `a.test` is not a server");
    check(&of("https://a.test/v2", word), "error fetch.accounts[0].url: `https://a.test/v2` is not a server");
    check(&of("http://a.test", word), "error fetch.accounts[0].url: anybody on the way could read the password");
    let token_server = format!("{word}, token_server: 'http://t.test'");
    check(&of("https://a.test", &token_server), "error fetch.accounts[0].token_server: anybody on the way");
    check(
        &of("https://a.test", "password: { env: NOT_SET }"),
        "error fetch.accounts[0].password.env: the environment variable `NOT_SET` is not set",
    );
    check(&of("https://a.test", "password: {}"), "error fetch.accounts[0].password: takes exactly one of `env` and");
    check(&of("https://a.test", "password: hunter2"), "error fetch.accounts[0].password");
    let name = "{ url: https://a.test, username: 'a:b', password: { env: WORD } }";
    check(name, "error fetch.accounts[0].username: is not 1 to 256 visible ASCII characters without a colon");
    let twice = format!("{}, {}", of("https://a.test", word), of("https://A.test:443", word));
    check(&twice, "error fetch.accounts[1].url: there is another account at `https://a.test`");
}

#[test]
fn pauses_grow_or_stay() {
    let problems_of = |keys: &str| {
        let folder = Folder::new();
        folder.write("stile.yaml", &gateway(&format!("fetch: {{ {keys} }}")));
        problems(&folder, "stile.yaml")
    };
    assert_eq!(problems_of("retry_pause_min_ms: 5, retry_pause_max_ms: 5"), Vec::<String>::new());
    let found = problems_of("retry_pause_min_ms: 6, retry_pause_max_ms: 5").concat();
    assert!(found.contains("error fetch: `retry_pause_min_ms` (6) is above `retry_pause_max_ms`"), "{found}");
}
