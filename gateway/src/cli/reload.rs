//! `stile reload`, `stile plugin list` and `stile plugin release`: what a running gateway has loaded.

use std::io::Write;

use clap::Args;
use http::Method;
use serde_json::Value;

use super::Failure;
use super::control::{ControlArgs, Expected, segment};
use super::table::{self, text, texts};

#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    /// Have all gateways that share the store reload, too.
    #[arg(long)]
    group: bool,
    #[command(flatten)]
    control: ControlArgs,
}

/// Reloads, and says what became of everything that did not stay as it was.
pub(super) fn run(args: &ReloadArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let path = if args.group { "/stile/reload/group" } else { "/stile/reload" };
    let reply = args.control.client()?.send(Method::POST, path, None, Expected::Field("outcome"))?;
    if args.control.json {
        writeln!(out, "{:#}", reply.body).map_err(Failure::Output)?;
    } else {
        told(&reply.body, out).map_err(Failure::Output)?;
    }
    if reply.is_whole {
        return Ok(());
    }
    out.flush().map_err(Failure::Output)?;
    Err(Failure::Run(anyhow::anyhow!("not everything was taken up: what could not be used stays as it was")))
}

fn told(body: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    let mut rows = Vec::new();
    for (kind, list) in [("plugin", "plugins"), ("api", "apis")] {
        for (name, what) in body.get(list).and_then(Value::as_object).into_iter().flatten() {
            let short = |name| text(what, name).chars().take(DIGEST_DIGITS).collect::<String>();
            rows.push(vec![kind.to_owned(), name.clone(), text(what, "outcome"), short("now"), text(what, "reason")]);
        }
    }
    for problem in body.get("problems").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        rows.push(vec![
            "definition".to_owned(),
            String::new(),
            "refused".to_owned(),
            String::new(),
            problem.to_owned(),
        ]);
    }
    if !rows.is_empty() {
        table::table(out, &["", "name", "outcome", "digest", "why"], &rows)?;
    }
    let unchanged = body.get("unchanged").and_then(Value::as_u64).map(|count| count.to_string());
    let rows = [
        ("outcome", text(body, "outcome")),
        ("unchanged", unchanged.unwrap_or_default()),
        ("needs a restart", texts(body, "needs_restart")),
        ("warnings", texts(body, "warnings")),
    ];
    table::rows(out, &rows)
}

/// Lists the plugins of a running gateway.
pub(super) fn plugins(control: &ControlArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let plugins = control.client()?.send(Method::GET, "/stile/plugins", None, Expected::List)?.body;
    if control.json {
        return writeln!(out, "{plugins:#}").map_err(Failure::Output);
    }
    let rows = plugins.as_array().into_iter().flatten().map(|plugin| {
        let digest = text(plugin, "digest").chars().take(DIGEST_DIGITS).collect();
        let quarantine = plugin.get("quarantine").filter(|quarantine| quarantine.is_object());
        let why = match quarantine {
            Some(quarantine) => {
                let field = |name| text(quarantine, name);
                format!("since {}: {}: {}", field("since"), field("kind"), field("reason"))
            }
            None => text(plugin, "reason"),
        };
        vec![text(plugin, "name"), text(plugin, "state"), text(plugin, "version"), digest, why]
    });
    table::table(out, &["name", "state", "version", "digest", "why"], &rows.collect::<Vec<_>>())
        .map_err(Failure::Output)
}

/// Ends the quarantine of a plugin.
pub(super) fn release(name: &str, control: &ControlArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let path = format!("/stile/plugins/{}/release", segment(name));
    let released = control.client()?.send(Method::POST, &path, None, Expected::CHANGE)?.body;
    if control.json {
        return writeln!(out, "{released:#}").map_err(Failure::Output);
    }
    table::rows(out, &[("action", text(&released, "action")), ("plugin", text(&released, "key"))])
        .map_err(Failure::Output)
}

const DIGEST_DIGITS: usize = 12;
