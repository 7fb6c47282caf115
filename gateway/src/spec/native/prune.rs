//! Takes out of a file what has the wrong shape, and stands in for what is missing, so that the rest can be looked at too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::report::{join_item, join_key};
use super::validate::{Shape, Step};

/// What was done to a file, so that places are still told as they stand in it.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    /// Items that were taken out, by their list.
    gone: BTreeMap<String, BTreeSet<usize>>,
    /// Places of what was missing.
    stand_ins: Vec<String>,
}

/// Takes out what is wrong, part by part: a key where that is enough, or else what needs it.
pub(super) fn prune(shape: &Shape, value: &mut Value) -> Pruned {
    let mut pruned = Pruned::default();
    for _ in 0..ROUNDS_MAX {
        pruned.stand_in(value);
        let mut cuts = shape.cuts(value);
        if cuts.is_empty() {
            return pruned;
        }
        // From the end, so that no cut moves what another one names.
        cuts.sort();
        cuts.dedup();
        for cut in cuts.iter().rev() {
            pruned.cut(value, cut);
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

    /// Whether nobody wrote what stands at this place.
    pub(super) fn is_stand_in(&self, path: &str) -> bool {
        self.stand_ins.iter().any(|place| is_at_or_below(path, place))
    }

    fn cut(&mut self, value: &mut Value, steps: &[Step]) {
        let Some((last, way)) = steps.split_last() else {
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
        match (last, target) {
            (Step::Key(key), Value::Object(map)) => drop(map.remove(key)),
            (Step::Item(index), Value::Array(items)) if *index < items.len() => {
                items.remove(*index);
                let original = self.original(&path, *index);
                self.gone.entry(path).or_default().insert(original);
            }
            _ => {}
        }
    }

    /// Gives APIs and policies what they cannot be without. Such a one is looked at and not used.
    fn stand_in(&mut self, value: &mut Value) {
        for (list, keys) in STAND_INS {
            let items = value.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            for (index, item) in items.enumerate() {
                let place = join_item(list, self.original(list, index));
                for (section, key, text) in *keys {
                    let (section_place, target) = match (*section, item.as_object_mut()) {
                        ("", Some(fields)) => (place.clone(), fields),
                        (section, Some(fields)) => {
                            let of_section = fields.entry(section).or_insert_with(|| json!({})).as_object_mut();
                            let Some(of_section) = of_section else { continue };
                            (join_key(&place, section), of_section)
                        }
                        (_, None) => continue,
                    };
                    if !target.contains_key(*key) {
                        target.insert((*key).to_owned(), (*text).into());
                        self.stand_ins.push(join_key(&section_place, key));
                    }
                }
            }
        }
    }
}

/// Whether a path is this place, or inside it.
pub(super) fn is_at_or_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| matches!(rest.chars().next(), None | Some('.' | '[')))
}

/// What an item must have: section, key, value.
type Needed = (&'static str, &'static str, &'static str);

/// Lists with what each of their items must have.
const STAND_INS: &[(&str, &[Needed])] = &[
    ("apis", &[("", "id", "nameless"), ("listen", "path", "/"), ("upstream", "url", "http://nowhere")]),
    ("policies", &[("", "id", "nameless")]),
];
/// Deeper than any shape.
const ROUNDS_MAX: usize = 32;
