//! `stile policy`: policies of a running gateway.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::Failure;
use super::control::{Client, ControlArgs, Expected, segment};
use super::key::{changed, read};
use super::table::{self, text, texts};

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// List all policies.
    #[command(after_long_help = "Example:\n  stile policy list")]
    List {
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Show a policy.
    #[command(after_long_help = "Example:\n  stile policy get gold --json > gold.json")]
    Get {
        /// Its id.
        id: String,
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Add or replace a policy.
    #[command(after_long_help = PUT_HELP)]
    Put {
        /// The policy as JSON, `-` for standard input.
        file: PathBuf,
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Delete a policy. Keys that have no other are refused from then on.
    #[command(after_long_help = "Example:\n  stile policy delete gold")]
    Delete {
        /// Its id.
        id: String,
        #[command(flatten)]
        control: ControlArgs,
    },
}

/// Runs a command.
pub(super) fn run(command: PolicyCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        PolicyCommand::List { control } => {
            let policies = all(&control.client()?)?;
            if control.json {
                return writeln!(out, "{:#}", json!(policies)).map_err(Failure::Output);
            }
            let rows: Vec<Vec<String>> = policies.iter().map(row).collect();
            let heads = ["id", "name", "organisation", "state", "rate", "quota", "apis"];
            table::table(out, &heads, &rows).map_err(Failure::Output)
        }
        PolicyCommand::Get { id, control } => {
            let policy = control.client()?.send(Method::GET, &path(&id), None, Expected::Field("id"))?.body;
            if control.json {
                return writeln!(out, "{policy:#}").map_err(Failure::Output);
            }
            let metadata = policy.get("meta_data").map(Value::to_string).unwrap_or_default();
            let names = ["id", "name", "organisation", "state", "rate", "quota", "apis"];
            let mut rows: Vec<(&str, String)> = names.into_iter().zip(row(&policy)).collect();
            rows.extend([("sets", partitions(&policy)), ("tags", texts(&policy, "tags")), ("metadata", metadata)]);
            table::rows(out, &rows).map_err(Failure::Output)
        }
        PolicyCommand::Put { file, control } => {
            let policy = read(&file).map_err(Failure::Usage)?;
            let made = control.client()?.send(Method::POST, "/tyk/policies", Some(&policy), Expected::CHANGE)?.body;
            changed(&made, control.json, out)
        }
        PolicyCommand::Delete { id, control } => {
            let made = control.client()?.send(Method::DELETE, &path(&id), None, Expected::CHANGE)?.body;
            changed(&made, control.json, out)
        }
    }
}

fn path(id: &str) -> String {
    format!("/tyk/policies/{}", segment(id))
}

fn all(client: &Client) -> Result<Vec<Value>, Failure> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let part = client.send(Method::GET, &format!("/tyk/policies?limit=100{cursor}"), None, Expected::List)?;
        all.extend(part.body.as_array().into_iter().flatten().cloned());
        let Some(next) = part.next else { return Ok(all) };
        cursor = format!("&cursor={next}");
    }
}

fn row(policy: &Value) -> Vec<String> {
    let is = |name, flag| policy.get(name) == Some(&Value::Bool(flag));
    let state = match (is("active", false), is("is_inactive", true)) {
        (true, _) => "not applied",
        (false, true) => "makes keys inactive",
        (false, false) => "active",
    };
    let apis = policy.get("access_rights").and_then(Value::as_object);
    let apis: Vec<&str> = apis.into_iter().flatten().map(|(api, _)| api.as_str()).collect();
    vec![
        text(policy, "id"),
        text(policy, "name"),
        text(policy, "org_id"),
        state.to_owned(),
        table::rate(policy),
        table::quota(policy, None),
        apis.join(", "),
    ]
}

/// Which parts of a session it sets.
fn partitions(policy: &Value) -> String {
    let parts = policy.get("partitions").and_then(Value::as_object);
    let set: Vec<&str> = parts
        .into_iter()
        .flatten()
        .filter(|(_, set)| **set == Value::Bool(true))
        .map(|(name, _)| name.as_str())
        .collect();
    if set.is_empty() { "everything".to_owned() } else { set.join(", ") }
}

const PUT_HELP: &str = "\
Example:
  stile policy put gold.json

where gold.json is, in Tyk's words,
  {
    \"id\": \"gold\",
    \"name\": \"Gold\",
    \"rate\": 100, \"per\": 60,
    \"quota_max\": 10000, \"quota_renewal_rate\": 86400,
    \"access_rights\": { \"orders\": { \"api_id\": \"orders\" } }
  }

Then `stile key create --policy gold` makes a key that has what it gives.";
