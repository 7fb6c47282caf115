//! The corpus of hostile plugins: a folder each in `tests/plugins/corpus`, with what the attack must come to.
//!
//! [`Attack`] reads a folder, [`Arena`] is a gateway under the attack, and [`check`] says what came out otherwise than
//! the folder says. The tests and `just hostile` run the same attacks; there is no list of them anywhere.

mod alone;
mod arena;
mod attack;
mod check;
mod made;
mod out;
mod servers;

pub use arena::{Arena, Came};
pub use attack::{Attack, Case, Guard};
pub use check::check;
pub use out::{Place, with_guards_to_take_out};
