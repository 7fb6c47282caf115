//! Changes of named values, in the order in which they were made.

/// One change.
#[derive(Debug)]
pub(crate) enum Edit<V> {
    Set(String, V),
    Append(String, V),
    Remove(String),
}

/// The changes so far, and what of them is still standing.
#[derive(Debug)]
pub(crate) struct Edits<V>(Vec<Edit<V>>);

impl<V> Default for Edits<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Edits<V> {
    pub(crate) fn push(&mut self, edit: Edit<V>) {
        self.0.push(edit);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether what was received under this name is gone.
    pub(crate) fn replace(&self, name: &str) -> bool {
        self.0.iter().any(|edit| edit.replaces(name))
    }

    /// What was added and is neither replaced nor removed since.
    pub(crate) fn standing(&self) -> impl Iterator<Item = (&str, &V)> {
        self.0.iter().enumerate().filter_map(|(index, edit)| match edit {
            Edit::Set(name, value) | Edit::Append(name, value) => {
                let gone = self.0.iter().skip(index + 1).any(|later| later.replaces(name));
                (!gone).then_some((name.as_str(), value))
            }
            Edit::Remove(_) => None,
        })
    }
}

impl<V> IntoIterator for Edits<V> {
    type Item = Edit<V>;
    type IntoIter = std::vec::IntoIter<Edit<V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<V> Edit<V> {
    fn replaces(&self, other: &str) -> bool {
        match self {
            Edit::Set(name, _) | Edit::Remove(name) => name == other,
            Edit::Append(..) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Edit::*, Edits};

    fn check(edits: impl IntoIterator<Item = super::Edit<u8>>, standing: &[(&str, u8)]) {
        let edits = Edits(edits.into_iter().collect());
        let found: Vec<_> = edits.standing().map(|(name, value)| (name, *value)).collect();
        assert_eq!(found, standing);
    }

    #[test]
    fn only_what_was_not_replaced_later_stands() {
        let name = || "a".to_owned();
        check([Set(name(), 1)], &[("a", 1)]);
        check([Set(name(), 1), Set(name(), 2)], &[("a", 2)]);
        check([Set(name(), 1), Append(name(), 2)], &[("a", 1), ("a", 2)]);
        check([Append(name(), 1), Remove(name())], &[]);
        check([Remove(name()), Append(name(), 1)], &[("a", 1)]);
        check([Set("b".to_owned(), 1), Remove(name())], &[("b", 1)]);
    }
}
