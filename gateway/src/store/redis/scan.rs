//! Lists, page by page: `SCAN` over the keys of each node, `HSCAN` over policies.

use redis::Value;

use super::link::Link;
use super::question::Question;
use super::{POLICIES, SESSION_PREFIX, unexpected};
use crate::store::error::StoreError;
use crate::store::record::{Cursor, Page};

/// Keys with a session. A cursor is the number of the node, in the order of their addresses, and the node's own cursor.
pub(super) async fn sessions(
    link: &Link,
    is_cluster: bool,
    from: Option<&Cursor>,
    max: usize,
) -> Result<Page<String>, StoreError> {
    let nodes = if is_cluster { primaries(link).await? } else { vec![(String::new(), 0)] };
    let (mut node, mut at) = match from {
        None => (0, "0".to_owned()),
        Some(cursor) => place(cursor)?,
    };
    let mut items = Vec::new();
    // Other keys may be many: a page ends after some rounds even if it is short.
    for _ in 0..ROUNDS_MAX {
        let Some((host, port)) = nodes.get(node) else { return Ok(Page { items, next: None }) };
        let question = Question::command("SCAN", true)
            .arg(&at)
            .arg("MATCH")
            .arg(format!("{SESSION_PREFIX}*"))
            .arg("COUNT")
            .arg(max.to_string());
        let (next, keys) = page(link.ask_node(question, host, *port).await?)?;
        items.extend(keys.iter().filter_map(|key| key.strip_prefix(SESSION_PREFIX)).map(str::to_owned));
        (node, at) = if next == "0" { (node + 1, next) } else { (node, next) };
        if items.len() >= max {
            break;
        }
    }
    let next = (node < nodes.len()).then(|| Cursor(format!("{node} {at}").into()));
    Ok(Page { items, next })
}

/// Ids of policies.
pub(super) async fn policies(link: &Link, from: Option<&Cursor>, max: usize) -> Result<Page<String>, StoreError> {
    let at = from.map(place).transpose()?.map_or_else(|| "0".to_owned(), |(_, at)| at);
    let question = Question::command("HSCAN", true).arg(POLICIES).arg(at).arg("COUNT").arg(max.to_string());
    let (next, fields) = page(link.ask(question).await?)?;
    // Fields and values take turns.
    let items = fields.into_iter().step_by(2).collect();
    Ok(Page { items, next: (next != "0").then(|| Cursor(format!("0 {next}").into())) })
}

fn place(cursor: &Cursor) -> Result<(usize, String), StoreError> {
    let invalid = || StoreError::Invalid("not a cursor of this store");
    let (node, at) = cursor.as_str().split_once(' ').ok_or_else(invalid)?;
    let at: u64 = at.parse().map_err(|_| invalid())?;
    Ok((node.parse().map_err(|_| invalid())?, at.to_string()))
}

/// What `SCAN` answers; keys that are no text are nobody's we know.
fn page(answer: Value) -> Result<(String, Vec<String>), StoreError> {
    let Value::Array(parts) = answer else { return Err(unexpected()) };
    let Ok([next, Value::Array(keys)]) = <[Value; 2]>::try_from(parts) else { return Err(unexpected()) };
    let next = text(next).ok_or_else(unexpected)?;
    Ok((next, keys.into_iter().map(|key| text(key).unwrap_or_default()).collect()))
}

/// The addresses of all nodes that own slots, in one order for everybody.
async fn primaries(link: &Link) -> Result<Vec<(String, u16)>, StoreError> {
    let Value::Array(ranges) = link.ask(Question::command("CLUSTER", true).arg("SLOTS")).await? else {
        return Err(unexpected());
    };
    let mut nodes = Vec::new();
    for range in ranges {
        let Value::Array(range) = range else { return Err(unexpected()) };
        // First slot, last slot, the primary (host, port, …), its replicas.
        let Some(Value::Array(primary)) = range.into_iter().nth(2) else { return Err(unexpected()) };
        let mut parts = primary.into_iter();
        let (Some(host), Some(Value::Int(port))) = (parts.next().and_then(text), parts.next()) else {
            return Err(unexpected());
        };
        nodes.push((host, u16::try_from(port).map_err(|_| unexpected())?));
    }
    nodes.sort();
    nodes.dedup();
    Ok(nodes)
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

const ROUNDS_MAX: usize = 10;
