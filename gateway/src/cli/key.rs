//! `stile key`: keys of a running gateway.

use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::Failure;
use super::control::{Client, ControlArgs, Expected, segment};
use super::table::{self, integer, text, texts};
use crate::clock::Clock;

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key. It is told this once: the gateway keeps its hash only.
    #[command(after_long_help = CREATE_HELP)]
    Create {
        /// A name of your own instead of a random one. The key is the organisation followed by it.
        name: Option<String>,
        /// The organisation that it belongs to.
        #[arg(long, value_name = "ID")]
        org: Option<String>,
        #[command(flatten)]
        fields: Box<Fields>,
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Show what a key may do, and what is left of its quota.
    #[command(after_long_help = "Examples:\n  stile key get defaultbob\n  stile key get bob --org default\n  \
                                 stile key get --hashed 8b1f…  --json")]
    Get {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        control: ControlArgs,
    },
    /// List the hashes of all keys.
    #[command(
        after_long_help = "Example:\n  stile key list | head\n\n`stile key get --hashed HASH` shows one of them."
    )]
    List {
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Change a key: what is named changes, the rest stays. Its quota begins anew unless told otherwise.
    #[command(after_long_help = UPDATE_HELP)]
    Update {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        fields: Box<Fields>,
        /// Switch the key off, or on again.
        #[arg(long, value_name = "true|false")]
        inactive: Option<bool>,
        /// Keep what was used of the quota.
        #[arg(long)]
        keep_quota: bool,
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Delete a key. Every gateway that shares the store refuses it at once.
    #[command(after_long_help = "Examples:\n  stile key delete defaultbob\n  stile key delete --hashed 8b1f…")]
    Delete {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        control: ControlArgs,
    },
}

/// Which key.
#[derive(Debug, Args)]
pub(super) struct Key {
    /// The key as callers send it, or its name within --org, or with --hashed its hash.
    #[arg(value_name = "KEY")]
    name: String,
    /// KEY is the key's hash.
    #[arg(long)]
    hashed: bool,
    /// The organisation that KEY is a name in.
    #[arg(long, value_name = "ID")]
    org: Option<String>,
}

/// What a key is and may do.
#[derive(Debug, Args)]
#[command(next_help_heading = "What the key may do")]
pub(super) struct Fields {
    /// An API that it may call; once for each.
    #[arg(long = "api", value_name = "ID")]
    apis: Vec<String>,
    /// A policy that it gets; once for each.
    #[arg(long = "policy", value_name = "ID")]
    policies: Vec<String>,
    /// A name for people.
    #[arg(long)]
    alias: Option<String>,
    /// A tag; once for each.
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Requests in the period of --per; 0 for no limit.
    #[arg(long, value_name = "REQUESTS")]
    rate: Option<f64>,
    /// The period of --rate, such as `1`, `1m`, `1h`.
    #[arg(long, value_name = "TIME", value_parser = table::seconds)]
    per: Option<i64>,
    /// Requests until renewal; 0 for no quota.
    #[arg(long, value_name = "REQUESTS")]
    quota: Option<i64>,
    /// The time from one renewal of the quota to the next, such as `1d`; 0 for never.
    #[arg(long, value_name = "TIME", value_parser = table::seconds)]
    quota_renewal: Option<i64>,
    /// When it expires, from now, such as `30d`; 0 for never.
    #[arg(long, value_name = "TIME", value_parser = table::seconds)]
    expires_in: Option<i64>,
    /// A file with the session as JSON, `-` for standard input. What else is named here goes on top.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Runs a command.
pub(super) fn run(command: KeyCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        KeyCommand::Create { name, org, fields, control } => {
            let mut session = fields.base()?.unwrap_or_default();
            fields.put(&mut session);
            if let Some(org) = org {
                session.insert("org_id".to_owned(), org.into());
            }
            let path =
                name.map_or_else(|| "/tyk/keys/create".to_owned(), |name| format!("/tyk/keys/{}", segment(&name)));
            let made =
                control.client()?.send(Method::POST, &path, Some(&Value::Object(session)), Expected::CHANGE)?.body;
            changed(&made, control.json, out)
        }
        KeyCommand::Get { key, control } => {
            let session = control.client()?.send(Method::GET, &key.path(""), None, Expected::Field("org_id"))?.body;
            if control.json {
                return writeln!(out, "{session:#}").map_err(Failure::Output);
            }
            show(&session, now(), out).map_err(Failure::Output)
        }
        KeyCommand::List { control } => list(&control.client()?, control.json, out),
        KeyCommand::Update { key, fields, inactive, keep_quota, control } => {
            let client = control.client()?;
            let mut session = match fields.base()? {
                Some(session) => session,
                // What its policies say is not the key's own.
                None => object(client.send(Method::GET, &key.path("stored=1"), None, Expected::Field("org_id"))?.body)
                    .map_err(Failure::Run)?,
            };
            fields.put(&mut session);
            if let Some(inactive) = inactive {
                session.insert("is_inactive".to_owned(), inactive.into());
            }
            let path = key.path(if keep_quota { "suppress_reset=1" } else { "" });
            let made = client.send(Method::PUT, &path, Some(&Value::Object(session)), Expected::CHANGE)?.body;
            changed(&made, control.json, out)
        }
        KeyCommand::Delete { key, control } => {
            let made = control.client()?.send(Method::DELETE, &key.path(""), None, Expected::CHANGE)?.body;
            changed(&made, control.json, out)
        }
    }
}

impl Key {
    fn path(&self, more: &str) -> String {
        let mut words = Vec::new();
        if self.hashed {
            words.push("hashed=true".to_owned());
        }
        words.extend(self.org.as_ref().map(|org| format!("org_id={}", segment(org))));
        words.extend((!more.is_empty()).then(|| more.to_owned()));
        format!("/tyk/keys/{}?{}", segment(&self.name), words.join("&"))
    }
}

impl Fields {
    /// The session of the file, if one is named.
    fn base(&self) -> Result<Option<Map<String, Value>>, Failure> {
        self.file.as_deref().map(|file| read(file).and_then(object).map_err(Failure::Usage)).transpose()
    }

    /// Puts what was named onto a session.
    fn put(&self, session: &mut Map<String, Value>) {
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                session.insert(name.to_owned(), value);
            }
        };
        let list = |list: &[String]| (!list.is_empty()).then(|| json!(list));
        put("apply_policies", list(&self.policies));
        put("tags", list(&self.tags));
        put("alias", self.alias.as_deref().map(Value::from));
        put("rate", self.rate.map(Value::from));
        put("per", self.per.or(self.rate.map(|_| 1)).map(Value::from));
        put("quota_max", self.quota.map(|quota| if quota == 0 { -1 } else { quota }.into()));
        put("quota_renewal_rate", self.quota_renewal.map(Value::from));
        let expires = |seconds| if seconds == 0 { 0 } else { now().saturating_add(seconds) };
        put("expires", self.expires_in.map(|seconds| expires(seconds).into()));
        if !self.apis.is_empty() {
            let known = session.get("access_rights").cloned().unwrap_or_default();
            let right = |id: &String| known.get(id).cloned().unwrap_or_else(|| json!({ "api_id": id }));
            let rights: Map<_, _> = self.apis.iter().map(|id| (id.clone(), right(id))).collect();
            session.insert("access_rights".to_owned(), rights.into());
        }
    }
}

/// A JSON file, or standard input.
pub(super) fn read(file: &Path) -> anyhow::Result<Value> {
    let mut bytes = Vec::new();
    let source: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(std::fs::File::open(file).with_context(|| format!("{} cannot be read", file.display()))?)
    };
    source.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not JSON", file.display()))
}

fn object(value: Value) -> anyhow::Result<Map<String, Value>> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(anyhow!("a session is a JSON object")),
    }
}

fn list(client: &Client, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let part = client.send(Method::GET, &format!("/tyk/keys?limit=1000{cursor}"), None, Expected::Field("keys"))?;
        let keys = part.body.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
        if json {
            all.extend(keys);
        } else {
            for key in keys.iter().filter_map(Value::as_str) {
                writeln!(out, "{key}").map_err(Failure::Output)?;
            }
        }
        let Some(next) = part.next else { break };
        cursor = format!("&cursor={next}");
    }
    if json {
        writeln!(out, "{:#}", json!({ "keys": all })).map_err(Failure::Output)?;
    }
    Ok(())
}

/// What the gateway says of a change.
pub(super) fn changed(made: &Value, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        return writeln!(out, "{made:#}").map_err(Failure::Output);
    }
    let rows = [("action", text(made, "action")), ("key", text(made, "key")), ("key hash", text(made, "key_hash"))];
    table::rows(out, &rows).map_err(Failure::Output)
}

fn show(session: &Value, now: i64, out: &mut dyn Write) -> io::Result<()> {
    let is_inactive = session.get("is_inactive") == Some(&Value::Bool(true));
    let rows = [
        ("organisation", text(session, "org_id")),
        ("alias", text(session, "alias")),
        ("state", if is_inactive { "inactive" } else { "active" }.to_owned()),
        ("created", text(session, "date_created")),
        ("expires", table::when(integer(session, "expires"), now)),
        ("rate", table::rate(session)),
        ("quota", table::quota(session, Some(now))),
        ("policies", texts(session, "apply_policies")),
        ("tags", texts(session, "tags")),
        ("metadata", session.get("meta_data").map(Value::to_string).unwrap_or_default()),
    ];
    table::rows(out, &rows)?;
    let rights = session.get("access_rights").and_then(Value::as_object);
    let rights: Vec<Vec<String>> = (rights.into_iter().flatten())
        .map(|(api, right)| {
            let limit = right.get("limit").unwrap_or(&Value::Null);
            let versions = texts(right, "versions");
            let versions = if versions.is_empty() { "all".to_owned() } else { versions };
            vec![api.clone(), versions, table::rate(limit), table::quota(limit, Some(now))]
        })
        .collect();
    if rights.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    table::table(out, &["api", "versions", "rate", "quota"], &rights)
}

fn now() -> i64 {
    i64::try_from(Clock::system().now_ms() / 1_000).unwrap_or(i64::MAX)
}

const FILE_BYTES_MAX: u64 = 64 << 20;
const CREATE_HELP: &str = "\
Examples:
  stile key create --api orders --rate 100 --per 1m         100 requests a minute to one API
  stile key create --policy gold --expires-in 30d           what a policy gives, for a month
  stile key create bob --org default --api orders           the key is `defaultbob`
  stile key create --file key.json --json                   Tyk's session object

The key is printed once. Callers send it in `Authorization`. A key needs an API or a policy.";
const UPDATE_HELP: &str = "\
Examples:
  stile key update defaultbob --rate 10 --keep-quota
  stile key update defaultbob --api orders --api tickets    these two and no others
  stile key update --hashed 8b1f… --inactive true";
