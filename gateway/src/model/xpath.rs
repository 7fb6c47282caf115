//! The part of XPath 1.0 that finds an ID: `/a/b`, `//b`, `*`, `[2]`, `[@kind='x']`, and `@id` or `text()` at the end.
//!
//! Everything else is refused when it is read. Names are local names: namespaces do not count, as in Tyk.

use std::fmt;

/// A path to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XPath {
    text: String,
    steps: Vec<Step>,
    end: End,
}

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Whether it looks at all depths (`//`) or at children only (`/`).
    pub any_depth: bool,
    /// The element's local name; `None` takes all (`*`).
    pub name: Option<String>,
    /// Conditions, in order.
    pub conditions: Vec<Condition>,
}

/// What an element must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Which one it is among the children of its parent that are left; 1 is the first.
    Position(usize),
    /// It has an attribute of this local name, with this value where there is one.
    Attribute(String, Option<String>),
}

/// What of the elements is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All text below.
    Element,
    /// An attribute of them (`/@id`).
    Attribute(String),
    /// A text that stands in them (`/text()`).
    Text,
}

/// Why a path is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XPathInvalid {
    /// It is empty, too long or has too many steps.
    #[error("a path has 1 to {STEPS_MAX} steps and at most {BYTES_MAX} bytes")]
    Size,
    /// Something else than a name, `*`, `@name` or `text()`.
    #[error("`{0}` is not supported")]
    Step(String),
    /// Something else than a number or a comparison of an attribute in brackets.
    #[error("`[{0}]` is not supported")]
    Condition(String),
    /// A step after `@name` or `text()`.
    #[error("`{0}` may only stand at the end")]
    NotLast(String),
    /// `[` without `]`.
    #[error("`[` has no `]`")]
    Unclosed,
}

impl XPath {
    /// Reads a path. One that does not begin with `/` begins at the root as well.
    ///
    /// # Errors
    /// See [`XPathInvalid`].
    pub fn parse(text: &str) -> Result<Self, XPathInvalid> {
        if text.len() > BYTES_MAX {
            return Err(XPathInvalid::Size);
        }
        let (mut steps, mut end) = (Vec::new(), End::Element);
        let mut rest = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
        while let Some(below) = rest.strip_prefix('/') {
            let below_any = below.strip_prefix('/');
            let (part, after) = split_step(below_any.unwrap_or(below))?;
            if end != End::Element {
                return Err(XPathInvalid::NotLast(end.to_string()));
            }
            if let Some(found) = end_of(part) {
                end = found?;
                if below_any.is_some() {
                    // `//@id` is `//*/@id` but for the root itself, which has none.
                    steps.push(Step { any_depth: true, name: None, conditions: Vec::new() });
                }
            } else {
                steps.push(step(part, below_any.is_some())?);
            }
            rest = after.to_owned();
        }
        if steps.is_empty() || steps.len() > STEPS_MAX {
            return Err(XPathInvalid::Size);
        }
        Ok(Self { text: text.to_owned(), steps, end })
    }

    /// The steps, at least one.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What of the elements is taken.
    pub const fn end(&self) -> &End {
        &self.end
    }
}

impl fmt::Display for XPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element => f.write_str("."),
            Self::Attribute(name) => write!(f, "@{name}"),
            Self::Text => f.write_str("text()"),
        }
    }
}

/// Everything up to the next `/` outside of brackets.
fn split_step(text: &str) -> Result<(&str, &str), XPathInvalid> {
    let (mut in_brackets, mut quote) = (false, None);
    for (at, character) in text.char_indices() {
        match (character, quote) {
            (_, Some(open)) if character == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) if in_brackets => quote = Some(character),
            ('[', None) => in_brackets = true,
            (']', None) => in_brackets = false,
            ('/', None) if !in_brackets => return Ok(text.split_at(at)),
            _ => {}
        }
    }
    if in_brackets || quote.is_some() { Err(XPathInvalid::Unclosed) } else { Ok((text, "")) }
}

fn end_of(part: &str) -> Option<Result<End, XPathInvalid>> {
    if part == "text()" {
        return Some(Ok(End::Text));
    }
    let name = part.strip_prefix('@')?;
    Some(if is_name(name) { Ok(End::Attribute(name.to_owned())) } else { Err(XPathInvalid::Step(part.to_owned())) })
}

fn step(part: &str, any_depth: bool) -> Result<Step, XPathInvalid> {
    let (name, mut brackets) = part.find('[').map_or((part, ""), |at| part.split_at(at));
    let name = match name {
        "*" => None,
        name if is_name(name) => Some(name.to_owned()),
        other => return Err(XPathInvalid::Step(other.to_owned())),
    };
    let mut conditions = Vec::new();
    while let Some(open) = brackets.strip_prefix('[') {
        let close = closing(open).ok_or(XPathInvalid::Unclosed)?;
        let (inside, after) = open.split_at(close);
        conditions.push(condition(inside.trim()).ok_or_else(|| XPathInvalid::Condition(inside.to_owned()))?);
        brackets = after.strip_prefix(']').unwrap_or_default();
    }
    if !brackets.is_empty() {
        return Err(XPathInvalid::Step(part.to_owned()));
    }
    Ok(Step { any_depth, name, conditions })
}

/// Where the bracket closes, quoted ones left out.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    text.char_indices().find_map(|(at, character)| {
        match quote {
            Some(open) if open == character => quote = None,
            Some(_) => {}
            None if matches!(character, '\'' | '"') => quote = Some(character),
            None if character == ']' => return Some(at),
            None => {}
        }
        None
    })
}

fn condition(text: &str) -> Option<Condition> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|position| *position > 0).map(Condition::Position);
    }
    let attribute = text.strip_prefix('@')?;
    let Some((name, value)) = attribute.split_once('=') else {
        return is_name(attribute).then(|| Condition::Attribute(attribute.to_owned(), None));
    };
    let (name, value) = (name.trim(), value.trim());
    let inside = ['\'', '"']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote).filter(|inside| !inside.contains(*quote)))?;
    is_name(name).then(|| Condition::Attribute(name.to_owned(), Some(inside.to_owned())))
}

/// A name without a prefix (XML 1.0, section 2.3, without `:`).
fn is_name(text: &str) -> bool {
    let begins = |c: char| c.is_alphabetic() || c == '_';
    text.starts_with(begins) && text.chars().all(|c| begins(c) || c.is_numeric() || matches!(c, '-' | '.'))
}

const STEPS_MAX: usize = 32;
const BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<usize, XPathInvalid>) {
        assert_eq!(XPath::parse(text).map(|path| path.steps().len()), expected, "{text}");
    }

    #[test]
    fn the_supported_part_is_read() {
        check("/a/b", Ok(2));
        check("//object/key", Ok(2));
        check("object/key", Ok(2));
        check("/a/*[2]/b[@kind = 'x/y]']/@id", Ok(3));
        check("//a[@b][1]/text()", Ok(1));
        check("//@id", Ok(1));
        check("/übung", Ok(1));
    }

    #[test]
    fn everything_else_is_refused() {
        let step = |text: &str| Err(XPathInvalid::Step(text.to_owned()));
        let condition = |text: &str| Err(XPathInvalid::Condition(text.to_owned()));
        check("", step(""));
        check("/", step(""));
        check("/a/", step(""));
        check("///a", step(""));
        check("/ns:a", step("ns:a"));
        check("/..", step(".."));
        check("//parent::a", step("parent::a"));
        check("/a | /b", step("a | "));
        check("count(//a)", step("count("));
        check("/a[0]", condition("0"));
        check("/a[last()]", condition("last()"));
        check("/a[b]", condition("b"));
        check("/a[@b='x' or @c='y']", condition("@b='x' or @c='y'"));
        check("/a[]", condition(""));
        check("/a[1]x", step("a[1]x"));
        check("/a[1", Err(XPathInvalid::Unclosed));
        check("/a[@b='1]", Err(XPathInvalid::Unclosed));
        check("/a/@b/c", Err(XPathInvalid::NotLast("@b".to_owned())));
        check("/text()/a", Err(XPathInvalid::NotLast("text()".to_owned())));
        check("/@a", Err(XPathInvalid::Size));
        check(&"/a".repeat(33), Err(XPathInvalid::Size));
    }
}
