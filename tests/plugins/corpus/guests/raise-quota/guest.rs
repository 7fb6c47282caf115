//! Gives its caller another quota, another rate, and every right.

use stile_sdk::{
    prelude::*,
    types::{Quota, Rate},
};

#[config]
struct Raise {
    what: What,
}

#[config]
#[derive(Clone, Copy)]
enum What {
    Quota,
    Rate,
    Rights,
    Policies,
    Expiry,
    Sessions,
}

#[plugin(config = Self, capabilities(sessions = "to change them by their tokens"))]
impl Raise {
    #[post_auth]
    fn attack(&self, edits: &mut SessionEdits) -> Result<(), String> {
        match self.what {
            What::Quota => edits.set_quota(Quota::unlimited()),
            What::Rate => edits.set_rate(Rate::unlimited()),
            What::Rights => edits.set_access_rights(Vec::new()),
            What::Policies => edits.set_policies(vec!["gold".to_owned()]),
            What::Expiry => edits.set_expires(0),
            What::Sessions => {
                let raised = sessions::update("bob", |session| session.set_quota(Quota::unlimited()));
                return Err(format!("{raised:?}"));
            }
        }
        Ok(())
    }
}
