//! Takes out of a file what has the wrong shape, and stands in for what is missing, so that the rest can be looked at too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::report::{join_item, join_key};
use super::shape::{Mend, Shape, Step};

/// What was done to a file, so that places are still told as they stand in it.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    /// Items that were taken out, by their list.
    gone: BTreeMap<String, BTreeSet<usize>>,
    /// Places of what was missing.
    stand_ins: Vec<String>,
}

/// Takes out what is wrong, part by part, and stands in for what is missing.
///
/// What has a stand-in somewhere inside is looked at and not used: that something is missing there has been told.
pub(super) fn prune(shape: &Shape, value: &mut Value) -> Pruned {
    let mut pruned = Pruned::default();
    for _ in 0..ROUNDS_MAX {
        let mut mends = shape.mends(value);
        if mends.is_empty() {
            return pruned;
        }
        // From the end, so that no cut moves what another one names.
        mends.sort_by(|a, b| a.steps.cmp(&b.steps));
        mends.dedup_by(|a, b| a.steps == b.steps);
        for mend in mends.into_iter().rev() {
            pruned.mend(value, mend);
        }
    }
    *value = json!({});
    pruned
}

impl Pruned {
    /// Which item of a list of the file is meant by an index of what is left.
    pub(super) fn original(&self, list: &str, index: usize) -> usize {
        let gone = self.gone.get(list).into_iter().flatten();
        gone.fold(index, |index, gone| if *gone <= index { index + 1 } else { index })
    }

    /// Where something stands in that nobody wrote.
    pub(super) fn stand_ins(&self) -> &[String] {
        &self.stand_ins
    }

    /// Whether nobody wrote what stands at this place.
    pub(super) fn is_stand_in(&self, path: &str) -> bool {
        self.stand_ins.iter().any(|place| is_at_or_below(path, place))
    }

    /// How many items of a list were taken out.
    pub(super) fn gone(&self, list: &str) -> usize {
        self.gone.get(list).map_or(0, BTreeSet::len)
    }

    fn mend(&mut self, value: &mut Value, mend: Mend) {
        let Some((last, way)) = mend.steps.split_last() else {
            *value = json!({});
            return;
        };
        let (mut target, mut path) = (value, String::new());
        for step in way {
            let next = match (step, target) {
                (Step::Key(key), Value::Object(map)) => {
                    path = join_key(&path, key);
                    map.get_mut(key)
                }
                (Step::Item(index), Value::Array(items)) => {
                    path = join_item(&path, self.original(&path, *index));
                    items.get_mut(*index)
                }
                _ => None,
            };
            let Some(next) = next else { return };
            target = next;
        }
        match (last, target, mend.stand_in) {
            (Step::Key(key), Value::Object(map), Some(stand_in)) => {
                self.stand_ins.push(join_key(&path, key));
                map.insert(key.clone(), stand_in);
            }
            (Step::Key(key), Value::Object(map), None) => drop(map.remove(key)),
            (Step::Item(index), Value::Array(items), None) if *index < items.len() => {
                items.remove(*index);
                let original = self.original(&path, *index);
                self.gone.entry(path).or_default().insert(original);
            }
            _ => {}
        }
    }
}

/// Whether a path is this place, or inside it.
pub(super) fn is_at_or_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| matches!(rest.chars().next(), None | Some('.' | '[')))
}

/// Deeper than any shape.
const ROUNDS_MAX: usize = 32;
