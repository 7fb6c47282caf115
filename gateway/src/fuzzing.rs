//! What reads strangers' bytes, a function for each: `fuzz/` feeds them without end, a test with what is kept there.
//!
//! A function takes any bytes and returns. It panics where something that must always hold does not.

mod readers;
mod requests;

pub use crate::plugin::fuzz::{answer, component, describe};
pub use readers::{definition, tyk_policy, tyk_session};
pub use requests::{coding, extract, outgoing, path, query};

/// A function and its name, which is that of its folder of seeds.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    Target { name: "answer", run: answer },
    Target { name: "coding", run: coding },
    Target { name: "component", run: component },
    Target { name: "definition", run: definition },
    Target { name: "describe", run: describe },
    Target { name: "extract", run: extract },
    Target { name: "outgoing", run: outgoing },
    Target { name: "path", run: path },
    Target { name: "query", run: query },
    Target { name: "tyk_policy", run: tyk_policy },
    Target { name: "tyk_session", run: tyk_session },
];

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::{BuildHasher as _, RandomState};
    use std::path::PathBuf;

    use super::*;
    use crate::random::Random;

    fn folder(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(name)
    }

    fn names(folder: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self::folder(folder)).expect("it is there");
        let names = entries.map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_owned());
        names.map(|name| name.into_string().expect("text")).collect()
    }

    #[test]
    fn every_target_has_seeds_and_a_program() {
        let known: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        assert_eq!((names("seeds"), names("targets")), (known.clone(), known));
    }

    /// What once went wrong is among them.
    #[test]
    fn nothing_that_is_kept_goes_wrong() {
        for target in TARGETS {
            let mut files = 0;
            for entry in std::fs::read_dir(folder("seeds").join(target.name)).expect("it is there") {
                let file = entry.expect("an entry").path();
                let bytes = std::fs::read(&file).expect("a file");
                let ran = std::panic::catch_unwind(|| (target.run)(&bytes));
                assert!(ran.is_ok(), "{} goes wrong with {}", target.name, file.display());
                files += 1;
            }
            (target.run)(b"");
            assert!(files > 2, "{} has few seeds", target.name);
        }
    }

    /// A short run without end's means: other ones each time, and what goes wrong is printed, to become a seed.
    #[test]
    fn nothing_that_is_kept_goes_wrong_when_it_is_changed() {
        let mut random = Random(RandomState::new().hash_one("a run").max(1));
        for target in TARGETS {
            let entries = std::fs::read_dir(folder("seeds").join(target.name)).expect("it is there");
            let seeds: Vec<Vec<u8>> =
                entries.map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a file")).collect();
            for _ in 0..ROUNDS {
                let mut bytes = one_of(&seeds, &mut random).clone();
                for _ in 0..=random.below(4) {
                    change(&mut bytes, &seeds, &mut random);
                }
                let ran = std::panic::catch_unwind(|| (target.run)(&bytes));
                assert!(ran.is_ok(), "{} goes wrong with `{}`", target.name, bytes.escape_ascii());
            }
        }
    }

    /// As a fuzzer does: takes out, puts in, doubles, or puts one's end behind another one's begin.
    fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
        let (at, length) = (random.index(bytes.len() + 1), random.index(16));
        let end = (at + length).min(bytes.len());
        match random.below(5) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, one_of(&TOKENS, random).bytes())),
            2 => bytes.extend_from_within(at..end),
            3 => {
                let other = one_of(seeds, random);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.index(other.len() + 1)..]);
            }
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        }
    }

    fn one_of<'t, T>(of: &'t [T], random: &mut Random) -> &'t T {
        &of[random.index(of.len())]
    }

    /// For each target. Some seconds in all; `just fuzz` goes on.
    const ROUNDS: usize = 3_000;
    const TOKENS: [&str; 12] =
        ["\0", "\n", "%2e", "%", "..", "-1", "18446744073709551616", "1e999", "null", "\u{202e}", "[[[[", "*"];
}
