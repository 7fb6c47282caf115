//! Servers and registries that want to know who asks, and who is told a password.

use stile::model::gateway::{AccessLog, Log, LogFormat};
use stile_tests::{ACCOUNT, basic, log_of};

use super::*;

/// An account at this server, whose password is in `password` of the gateway's folder.
fn account(url: &str) -> Value {
    json!({ "url": url, "username": ACCOUNT.0, "password": { "file": "password" } })
}

fn with_account(builder: Builder, url: &str, password: &str) -> Builder {
    builder.file("password", password).set("/fetch/accounts", json!([account(url)]))
}

fn http(image: &str) -> String {
    let host = image.strip_prefix("oci://").and_then(|rest| rest.split('/').next());
    format!("http://{}", host.expect("it names a registry"))
}

/// All that a gateway shows to people, but for its log.
async fn shown(gateway: &Gateway) -> String {
    let mut shown = format!("{}{}", gateway.problems(), reload(gateway).await);
    for path in ["/stile/plugins", "/stile/apis"] {
        shown.push_str(gateway.manage("GET", path).send().await.text());
    }
    for path in ["/ready", "/metrics"] {
        shown.push_str(gateway.control(path).send().await.text());
    }
    shown
}

#[tokio::test]
async fn a_registry_is_told_name_and_password_if_it_wants_them() {
    let (upstream, registry) = (Upstream::start(), Registry::closed());
    registry.push("team/swap", "1", &version(1), json!({})).await;
    let image = registry.names("team/swap:1");
    let kept = Folder::new();
    let gateway = with_account(fetching(&upstream, &image, &kept), &http(&image), ACCOUNT.1).start().await;
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    let shown = shown(&gateway).await;
    assert!(!shown.contains(ACCOUNT.1) && !shown.contains(&basic(ACCOUNT)), "{shown}");

    let kept = Folder::new();
    let gateway = fetching(&upstream, &image, &kept).try_start().await.expect("it starts all the same");
    let hint = format!("status 401; it may want an account: add one to `fetch.accounts` with `url: {}`", http(&image));
    assert!(gateway.problems().contains(&hint), "{}", gateway.problems());
    assert_eq!(fetches(&gateway), "denied 1");
}

#[tokio::test]
async fn a_wrong_password_is_told_by_its_key_and_a_new_one_is_taken_up_without_a_start() {
    let (upstream, registry, kept) = (Upstream::start(), Registry::closed(), Folder::new());
    registry.push("swap", "1", &version(1), json!({})).await;
    let image = registry.names("swap:1");
    let builder = with_account(fetching(&upstream, &image, &kept), &http(&image), "a wrong password");
    let builder = builder.set("/fetch/retry_pause_min_ms", 5);
    let gateway = builder.try_start().await.expect("it starts all the same");
    let hint = format!("`username` or `password` of `fetch.accounts` for `{}` is not good for it", http(&image));
    assert!(gateway.problems().contains(&hint), "{}", gateway.problems());
    let shown = shown(&gateway).await;
    let told = basic((ACCOUNT.0, "a wrong password"));
    assert!(!shown.contains("a wrong password") && !shown.contains(&told), "{shown}");

    gateway.rename_over("password", format!("{}\n", ACCOUNT.1));
    gateway.answers("/swap/", 200, "1").await;
    assert_eq!(gateway.problems(), "");
}

/// A registry that has its tokens from this place, and its layers on another server, as large ones do.
fn with_tokens(realm: &str, layers: &Upstream) -> Upstream {
    let (challenge, elsewhere) = (format!("Bearer realm=\"{realm}/token\""), layers.url());
    Upstream::answering(move |seen: &Seen| {
        if seen.header("authorization") != Some("Bearer a.token") {
            return Answer::new(401).header("www-authenticate", &challenge);
        }
        if seen.target.contains("/blobs/") {
            return Answer::new(307).header("location", &format!("{elsewhere}/layer"));
        }
        let digest = format!("sha256:{}", Digest::of(&version(1)).hex());
        let layer = json!({ "mediaType": "application/wasm", "digest": digest, "size": version(1).len() });
        Answer::new(200).body(json!({ "layers": [layer] }).to_string())
    })
}

/// Gives tokens to those that it knows.
fn tokens() -> Upstream {
    Upstream::answering(|seen: &Seen| match seen.header("authorization") == Some(&basic(ACCOUNT)) {
        true => Answer::new(200).body(json!({ "token": "a.token" }).to_string()),
        false => Answer::new(401),
    })
}

#[tokio::test]
async fn a_token_server_is_told_the_password_only_where_the_account_names_it() {
    let upstream = Upstream::start();
    let layers = Upstream::answering(|_| Answer::new(200).body(version(1)));
    let tokens = tokens();
    let registry = with_tokens(&tokens.url(), &layers);
    let image = registry.url().replace("http://", "oci://") + "/swap:1";

    let kept = Folder::new();
    let builder = with_account(fetching(&upstream, &image, &kept), &registry.url(), ACCOUNT.1);
    // Having another account there is no leave to use it.
    let mut accounts = json!([account(&registry.url()), account(&tokens.url())]);
    let gateway = builder.set("/fetch/accounts", accounts.clone()).try_start().await.expect("it starts all the same");
    let hint = format!(
        "its tokens come from `{}`, which is told no password before `token_server` in `fetch.accounts` for `{}` names it",
        tokens.url(),
        registry.url()
    );
    assert!(gateway.problems().contains(&hint), "{}", gateway.problems());
    assert_eq!(tokens.last().header("authorization"), None);
    // It would ask again meanwhile.
    drop(gateway);

    let kept = Folder::new();
    accounts[0]["token_server"] = tokens.url().into();
    let builder = with_account(fetching(&upstream, &image, &kept), &registry.url(), ACCOUNT.1);
    let gateway = builder.set("/fetch/accounts", accounts).start().await;
    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    assert_eq!(tokens.last().header("authorization"), Some(&*basic(ACCOUNT)));
    assert_eq!((layers.calls(), layers.last().header("authorization")), (1, None));
    let told = registry.seen().iter().any(|seen| seen.header("authorization") == Some(&basic(ACCOUNT)));
    assert!(!told, "it wants a token, not the password");
}

#[tokio::test]
async fn a_password_does_not_follow_a_redirect_to_another_server() {
    let (upstream, kept) = (Upstream::start(), Folder::new());
    let elsewhere = Upstream::answering(|_| Answer::new(200).body(version(1)));
    let url = elsewhere.url();
    let server = Upstream::answering(move |seen: &Seen| match (seen.header("authorization"), seen.target.as_str()) {
        (Some(told), _) if told != basic(ACCOUNT) => Answer::new(403),
        (None, _) => Answer::new(404),
        (_, "/here") => Answer::new(302).header("location", "/there"),
        _ => Answer::new(302).header("location", &format!("{url}/swap.wasm")),
    });
    let file = format!("{}/here", server.url());

    let gateway = with_account(fetching(&upstream, &file, &kept), &server.url(), ACCOUNT.1).start().await;

    assert_eq!(gateway.get("/swap/").send().await.text(), "1");
    assert_eq!((server.calls(), elsewhere.calls()), (2, 1));
    assert_eq!(elsewhere.last().header("authorization"), None);
}

#[tokio::test]
async fn a_password_is_for_one_server_and_not_for_its_neighbour() {
    let (upstream, kept) = (Upstream::start(), Folder::new());
    let (server, neighbour) = (Upstream::start(), Upstream::answering(|_| Answer::new(403)));
    let file = format!("{}/swap.wasm", neighbour.url());
    let builder = with_account(fetching(&upstream, &file, &kept), &server.url(), ACCOUNT.1);
    let gateway = builder.try_start().await.expect("it starts all the same");
    assert_eq!(neighbour.last().header("authorization"), None);
    let hint =
        format!("status 403; it may want an account: add one to `fetch.accounts` with `url: {}`", neighbour.url());
    assert!(gateway.problems().contains(&hint), "{}", gateway.problems());
}

#[test]
fn no_line_of_the_log_has_a_password() {
    let log = log_of("fetch::accounts::child");
    assert!(log.contains("is not good for it"), "{log}");
    for password in [ACCOUNT.1, "a wrong password"] {
        let encoded = basic((ACCOUNT.0, password)).replace("Basic ", "");
        assert!(!log.contains(password) && !log.contains(&encoded), "{log}");
    }
}

/// A process of its own, because its log is the process's.
#[tokio::test]
#[ignore = "a test above runs it"]
async fn child() {
    let log = Log { format: LogFormat::Json, filter: "trace".to_owned(), access: AccessLog::All };
    stile::telemetry::log::init(&log).expect("the filter is good");
    let (upstream, registry) = (Upstream::start(), Registry::closed());
    registry.push("swap", "1", &version(1), json!({})).await;
    let image = registry.names("swap:1");
    let kept = Folder::new();
    for password in ["a wrong password", ACCOUNT.1] {
        let builder = with_account(fetching(&upstream, &image, &kept), &http(&image), password);
        builder.try_start().await.expect("it starts all the same");
    }
    let tokens = tokens();
    let layers = Upstream::answering(|_| Answer::new(200).body(version(1)));
    let registry = with_tokens(&tokens.url(), &layers);
    let image = registry.url().replace("http://", "oci://") + "/swap:1";
    let mut account = account(&registry.url());
    account["token_server"] = tokens.url().into();
    let builder = fetching(&upstream, &image, &kept).file("password", ACCOUNT.1);
    builder.set("/fetch/accounts", json!([account])).start().await;
}
