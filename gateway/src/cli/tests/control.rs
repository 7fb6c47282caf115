//! `stile key` and `stile policy` against a running gateway.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Failure, output};
use crate::app::{self, Running};
use crate::clock::Clock;
use crate::model::key::KeyHash;

/// A gateway with a configuration file that names its control port.
struct Served {
    running: Running,
    folder: PathBuf,
}

impl Served {
    fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("stile-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let served = "listen: [ { address: \"127.0.0.1:0\" } ]\ncontrol: { address: \"127.0.0.1:0\", secret: cli-secret }\n\
                      workers: 1\nstore: { kind: memory }\nruntime: { instances_max: 8 }\napis: []\n";
        let file = folder.join("served.yaml");
        std::fs::write(&file, served).expect("a file");
        let (model, _) = crate::spec::read(&file).expect("a configuration");
        let running = app::start(&model, &Clock::system(), None, |_| {}).expect("it starts");
        let address = running.control().expect("it has a control port");
        let config = format!("control: {{ address: \"{address}\", secret: cli-secret }}\napis: []\n");
        std::fs::write(folder.join("stile.yaml"), config).expect("a file");
        Self { running, folder }
    }

    fn file(&self, name: &str, value: &Value) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, value.to_string()).expect("a file");
        path.display().to_string()
    }

    /// Runs a command with the configuration file.
    #[track_caller]
    fn run(&self, arguments: &str) -> String {
        let config = self.folder.join("stile.yaml").display().to_string();
        let arguments: Vec<&str> = arguments.split(' ').chain(["--config", &config]).collect();
        let (text, result) = output(&arguments);
        assert!(result.is_ok(), "{arguments:?}: {result:?}");
        text
    }

    #[track_caller]
    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.run(&format!("{arguments} --json"))).expect("JSON")
    }

    /// Runs a command that fails, with a secret.
    #[track_caller]
    fn fail(&self, arguments: &str, secret: &str) -> String {
        let control = format!("http://{}", self.running.control().expect("it has a control port"));
        let more = ["--control", &control, "--secret", secret];
        match output(&arguments.split(' ').chain(more).collect::<Vec<_>>()) {
            (_, Err(Failure::Run(error))) => format!("{error:#}"),
            other => panic!("{arguments}: {other:?}"),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_key_is_made_shown_changed_and_deleted() {
    let served = Served::start("key");
    let made =
        served.run("key create bob --org o --api orders --rate 5 --per 1m --quota 10 --quota-renewal 1d --tag a");
    let hash = KeyHash::of("obob");
    assert_eq!(made, format!("action    added\nkey       obob\nkey hash  {hash}\n"));

    let shown = served.run("key get bob --org o");
    for line in [
        "organisation  o",
        "state         active",
        "expires       never",
        "rate          5 in 60 s",
        "quota         10 of 10 left, renewed every 1 d, next in ",
        "tags          a",
        "api     versions  rate  quota",
        "orders  all",
    ] {
        assert!(shown.lines().any(|found| found.starts_with(line)), "{line}:\n{shown}");
    }
    assert_eq!(served.run("key list"), format!("{hash}\n"));

    let changed =
        served.run("key update obob --alias Bob --rate 0 --inactive true --api orders --api more --keep-quota");
    assert_eq!(changed, "action  modified\nkey     obob\n");
    let session = served.json(&format!("key get --hashed {hash}"));
    assert_eq!((&session["alias"], &session["is_inactive"]), (&json!("Bob"), &json!(true)));
    assert_eq!((&session["quota_max"], &session["tags"], &session["org_id"]), (&json!(10), &json!(["a"]), &json!("o")));
    let apis: Vec<&String> = session["access_rights"].as_object().expect("rights").keys().collect();
    assert_eq!(apis, ["more", "orders"]);

    assert_eq!(served.run("key delete obob"), "action  deleted\nkey     obob\n");
    assert_eq!(served.json("key list"), json!({ "keys": [] }));
}

#[test]
fn a_random_key_comes_from_a_file_with_options_on_top() {
    let served = Served::start("file");
    let file = served.file("key.json", &json!({ "alias": "file", "later": 1, "access_rights": { "a": {} } }));
    let made = served.json(&format!("key create --file {file} --alias option --expires-in 1d"));
    let key = made["key"].as_str().expect("a key");
    assert_eq!(key.len(), 64);
    let session = served.json(&format!("key get {key}"));
    assert_eq!((&session["alias"], &session["later"]), (&json!("option"), &json!(1)));
    let shown = served.run(&format!("key get {key}"));
    let expires = shown.lines().find_map(|line| line.strip_prefix("expires")).expect("it expires").trim();
    // A second may have passed, or not.
    assert!(["in 1 d", "in 23 h 59 min"].contains(&expires), "{shown}");
}

#[test]
fn a_policy_is_put_listed_shown_and_deleted() {
    let served = Served::start("policy");
    let gold = json!({ "id": "gold", "name": "Gold\u{1b}[31m", "rate": 7, "per": 60, "access_rights": { "a": {} },
        "partitions": { "acl": true } });
    let file = served.file("gold.json", &gold);
    assert_eq!(served.run(&format!("policy put {file}")), "action  added\nkey     gold\n");
    let listed = served.run("policy list");
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["id", "name", "organisation", "state", "rate", "quota", "apis"]
    );
    assert!(lines[1].starts_with("gold  Gold\\u{1b}[31m  ") && lines[1].ends_with("  a"), "{listed}");
    assert!(served.run("policy get gold").contains("sets   acl\n"), "{}", served.run("policy get gold"));
    assert_eq!(served.json("policy get gold")["rate"], 7);
    assert_eq!(served.run("policy delete gold"), "action  deleted\nkey     gold\n");
    assert_eq!(served.json("policy list"), json!([]));
}

#[test]
fn a_refusal_says_what_to_do() {
    let served = Served::start("refusal");
    let check = |arguments: &str, secret: &str, expected: &str| {
        let found = served.fail(arguments, secret);
        assert!(found.contains(expected), "{arguments}: {found}");
    };
    check("key list", "wrong-secret", "hint: it is `control.secret` of its configuration");
    check("key get none", "cli-secret", "Key not found (status 404)");
    check("key create", "cli-secret", "keys must have at least one Access Rights record set. (status 400)");
    check("policy delete none", "cli-secret", "Policy not found (status 404)");

    let (_, result) = output(&["key", "list", "--control", "http://127.0.0.1:1", "--secret", "s"]);
    assert!(matches!(result, Err(Failure::Run(error)) if format!("{error:#}").contains("hint: is it running?")));
    let (_, result) = output(&["key", "list", "--control", "https://127.0.0.1:1", "--secret", "s"]);
    assert!(matches!(result, Err(Failure::Usage(_))));
    let (_, result) = output(&["policy", "put", "/none.json", "--secret", "s"]);
    assert!(matches!(result, Err(Failure::Usage(_))));
    let (_, result) = output(&["key", "list", "--config", "/none.yaml"]);
    assert!(matches!(result, Err(Failure::Usage(_))));
}

/// A server that has this for every request, and the URL that it is reached at.
fn stranger(answer: &'static str) -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let (mut caller, _) = listener.accept().expect("a caller");
        let (mut head, mut piece) = (Vec::new(), [0; 1_024]);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = caller.read(&mut piece).expect("it asks");
            head.extend_from_slice(&piece[..read]);
        }
        write!(caller, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).expect("it listens");
    });
    format!("http://{address}")
}

#[test]
fn json_of_another_server_is_no_answer() {
    for command in
        ["reload", "plugin list", "plugin release a", "key list", "key get a", "policy list", "policy delete a"]
    {
        for answer in ["{}", r#"{"message":"hello"}"#, "\"hello\"", "null"] {
            for json in [&[][..], &["--json"]] {
                let control = stranger(answer);
                let options = ["--control", &control, "--secret", "s"];
                let arguments: Vec<&str> = command.split(' ').chain(options).chain(json.iter().copied()).collect();
                let (text, result) = output(&arguments);
                assert_eq!(text, "", "{arguments:?}: {answer}");
                let Err(Failure::Run(error)) = result else { panic!("{arguments:?}: {answer}: {result:?}") };
                assert!(format!("{error:#}").contains("is no control port (status 200)"), "{arguments:?}: {error:#}");
            }
        }
    }
}
