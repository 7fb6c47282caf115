//! Finds the value of a pointer in a stranger's JSON, where each key on the way is there once.
//!
//! A reader that keeps the last of two keys, or the first, may be another one than the upstream's.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::ExtractError;
use crate::model::extractor::JsonPointer;

/// A text, or a whole number as it is usually written.
pub(super) fn find(pointer: &JsonPointer, text: &[u8]) -> Result<String, ExtractError> {
    let text = std::str::from_utf8(text).map_err(|_| ExtractError::NotJson)?;
    let names: Vec<String> =
        pointer.as_str().split('/').skip(1).map(|name| name.replace("~1", "/").replace("~0", "~")).collect();
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = Below(&names).deserialize(&mut reader).and_then(|found| reader.end().map(|()| found));
    match found.map_err(|_| ExtractError::NotJson)? {
        Found::Id(id) => Ok(id),
        Found::Twice => Err(ExtractError::Ambiguous),
        Found::Nothing => Err(ExtractError::NoMatch),
    }
}

enum Found {
    Nothing,
    Twice,
    Id(String),
}

/// What lies at these names below a value.
struct Below<'p>(&'p [String]);

impl Below<'_> {
    fn end(self, id: impl fmt::Display) -> Found {
        if self.0.is_empty() { Found::Id(id.to_string()) } else { Found::Nothing }
    }
}

impl<'de> DeserializeSeed<'de> for Below<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Below<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Found, E> {
        Ok(self.end(text))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Found, E> {
        Ok(self.end(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Found, E> {
        Ok(self.end(number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let wanted = self.0.split_first();
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            match wanted {
                Some((of, below)) if *of == name => {
                    let value = map.next_value_seed(Below(below))?;
                    found = Some(if found.is_some() { Found::Twice } else { value });
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found.unwrap_or(Found::Nothing))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found, A::Error> {
        let wanted = self.0.split_first().and_then(|(name, below)| Some((index(name)?, below)));
        let mut found = Found::Nothing;
        for at in 0_usize.. {
            match wanted {
                Some((of, below)) if of == at => match list.next_element_seed(Below(below))? {
                    Some(value) => found = value,
                    None => break,
                },
                _ => {
                    if list.next_element::<IgnoredAny>()?.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }
}

/// A place in a list (RFC 6901, section 4): no sign, and no zero in front.
fn index(name: &str) -> Option<usize> {
    let is_one = name == "0" || !name.starts_with(['0', '+']);
    name.parse().ok().filter(|_| is_one)
}
