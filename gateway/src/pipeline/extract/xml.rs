//! Finds the one node of a path in a stranger's XML.
//!
//! No document type is read, so no entity is ever expanded. The reader does not recurse, and what costs it more than
//! linear time (attributes of one element, namespaces) is bounded before it begins. Each step looks at a node once.

use roxmltree::{Document, Node, ParsingOptions};

use super::ExtractError;
use crate::model::xpath::{Condition, End, Step, XPath};

/// The text of the node, if there is one and no other: Tyk's plugins take the first, and an upstream may take the last.
pub(super) fn find(path: &XPath, text: &[u8]) -> Result<String, ExtractError> {
    let text = std::str::from_utf8(text).map_err(|_| ExtractError::NotXml)?;
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    if !is_cheap(text.as_bytes()) {
        return Err(ExtractError::NotXml);
    }
    let document = Document::parse_with_options(text, options).map_err(|_| ExtractError::NotXml)?;
    let mut nodes = vec![document.root()];
    for step in path.steps() {
        nodes = children(&nodes, step);
    }
    let mut found = nodes.iter().flat_map(|node| ends(*node, path.end()));
    let text = found.next().ok_or(ExtractError::NoMatch)?;
    if found.next().is_some() { Err(ExtractError::Ambiguous) } else { Ok(text) }
}

/// The elements below that a step takes, in document order.
fn children<'a, 'input>(nodes: &[Node<'a, 'input>], step: &Step) -> Vec<Node<'a, 'input>> {
    let mut parents: Vec<Node<'a, 'input>> = Vec::new();
    if step.any_depth {
        // Nodes are in document order, and so are their ids: one that is not above the last id seen lies within a subtree
        // that is in there already.
        let mut last = None;
        for node in nodes {
            if last.is_some_and(|last| node.id().get() <= last) {
                continue;
            }
            for below in node.descendants() {
                last = Some(below.id().get());
                parents.extend((below.is_element() || below.is_root()).then_some(below));
            }
        }
    } else {
        parents.extend(nodes);
    }
    let mut taken: Vec<Node<'a, 'input>> = parents.into_iter().flat_map(|parent| of_parent(parent, step)).collect();
    taken.sort_by_key(|node| node.id().get());
    taken
}

fn of_parent<'a, 'input>(parent: Node<'a, 'input>, step: &Step) -> Vec<Node<'a, 'input>> {
    let is_named = |node: &Node<'_, '_>| step.name.as_deref().is_none_or(|name| node.tag_name().name() == name);
    let mut left: Vec<Node<'a, 'input>> = parent.children().filter(Node::is_element).filter(is_named).collect();
    for condition in &step.conditions {
        match condition {
            Condition::Position(position) => {
                left = left.get(position - 1).copied().into_iter().collect();
            }
            Condition::Attribute(name, value) => left.retain(|node| {
                attributes(*node, name).any(|found| value.as_deref().is_none_or(|value| value == found))
            }),
        }
    }
    left
}

/// What of an element the path ends at.
fn ends(node: Node<'_, '_>, end: &End) -> Vec<String> {
    match end {
        End::Element => vec![node.descendants().filter(Node::is_text).filter_map(|text| text.text()).collect()],
        End::Attribute(name) => attributes(node, name).map(str::to_owned).collect(),
        End::Text => {
            node.children().filter_map(|text| text.text().filter(|_| text.is_text())).map(str::to_owned).collect()
        }
    }
}

/// More than one where they are of several namespaces.
fn attributes<'a>(node: Node<'a, '_>, name: &str) -> impl Iterator<Item = &'a str> {
    node.attributes().filter(move |attribute| attribute.name() == name).map(|attribute| attribute.value())
}

/// Whether the reader gets through in about linear time. It compares each attribute with all others of its element, and
/// copies the namespaces that are in force for each element that declares one.
fn is_cheap(text: &[u8]) -> bool {
    let namespaces = text.windows(XMLNS.len()).filter(|window| *window == XMLNS).count();
    // `<` cannot stand in the value of an attribute: what comes between two of them holds one tag at most.
    let has_few_attributes = |tag: &[u8]| {
        let begins = |(at, byte): (usize, &u8)| {
            *byte == b'='
                && matches!(tag.get(at + 1..).unwrap_or_default().trim_ascii_start().first(), Some(b'"' | b'\''))
        };
        tag.iter().enumerate().filter(|item| begins(*item)).count() <= ATTRIBUTES_MAX
    };
    namespaces <= NAMESPACES_MAX && text.split(|byte| *byte == b'<').all(has_few_attributes)
}

const NODES_MAX: u32 = 100_000;
/// Of one element.
const ATTRIBUTES_MAX: usize = 256;
/// Declarations in a document.
const NAMESPACES_MAX: usize = 32;
const XMLNS: &[u8] = b"xmlns";
