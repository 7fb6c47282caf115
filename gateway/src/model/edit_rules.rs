//! What plugins may make of sessions that are not theirs: no key that is good for every API, and no policy beyond those that
//! the API grants.

use super::api::PolicyGrant;
use super::policy::PolicyId;
use super::session::{Session, SessionEdit};

/// What edits of an API's plugins may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditRules {
    /// The policies that they may put a session under. One that it is under already may stay.
    pub policies: PolicyGrant,
    /// Whether a session may be left without access rights and policies, which is good for every API.
    pub allow_master_keys: bool,
}

/// Why edits are refused: all of them, as a part could be worse than none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EditRefused {
    /// No access rights and no policies.
    #[error("without access rights and policies the session would be good for every API: `control.allow_master_keys`")]
    MasterKey,
    /// A policy that the API does not grant.
    #[error("it names a policy that `auth.policies` of the API does not grant")]
    Policy,
}

impl EditRules {
    /// Looks at what changes, applied in their order to a session, would leave. To be asked of the very session that is
    /// written: others may have changed it meanwhile.
    ///
    /// # Errors
    /// See [`EditRefused`]. A session is only judged by what of it is changed.
    pub fn check<'e>(
        &self,
        session: &Session,
        edits: impl IntoIterator<Item = &'e SessionEdit>,
    ) -> Result<(), EditRefused> {
        let mut is_without_rights = session.access_rights.is_empty();
        let mut is_without_policies = session.policies.is_empty();
        let mut is_touched = false;
        for edit in edits {
            match edit {
                SessionEdit::SetAccessRights(rights) => {
                    is_without_rights = rights.is_empty();
                    is_touched = true;
                }
                SessionEdit::SetPolicies(ids) => {
                    let may_stay = |id: &String| session.policies.contains(id);
                    let may_come = |id: &String| self.policies.has(id) && PolicyId::parse(id).is_ok();
                    if !ids.iter().all(|id| may_stay(id) || may_come(id)) {
                        return Err(EditRefused::Policy);
                    }
                    is_without_policies = ids.is_empty();
                    is_touched = true;
                }
                _ => {}
            }
        }
        if is_touched && is_without_rights && is_without_policies && !self.allow_master_keys {
            return Err(EditRefused::MasterKey);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::session::AccessRight;

    fn rights(count: usize) -> SessionEdit {
        SessionEdit::SetAccessRights(vec![AccessRight::default(); count])
    }

    fn policies(ids: &[&str]) -> SessionEdit {
        SessionEdit::SetPolicies(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    #[track_caller]
    fn check(edits: &[SessionEdit], expected: Result<(), EditRefused>) {
        let session = Session { policies: vec!["old".to_owned()], ..Session::default() };
        let rules = EditRules { policies: PolicyGrant::Only(vec!["gold".to_owned()]), allow_master_keys: false };
        assert_eq!(rules.check(&session, edits), expected, "{edits:?}");
        let all = EditRules { policies: PolicyGrant::All, allow_master_keys: true };
        assert_eq!(all.check(&session, edits), Ok(()), "{edits:?}");
    }

    #[test]
    fn what_all_edits_leave_together_is_judged() {
        check(&[], Ok(()));
        check(&[rights(0)], Ok(()));
        check(&[rights(1), policies(&[])], Ok(()));
        check(&[policies(&[]), rights(1)], Ok(()));
        check(&[policies(&[])], Err(EditRefused::MasterKey));
        check(&[rights(1), policies(&[]), rights(0)], Err(EditRefused::MasterKey));
        check(&[policies(&["gold"])], Ok(()));
        check(&[policies(&["old", "gold"])], Ok(()));
        check(&[policies(&["silver"])], Err(EditRefused::Policy));
        // Also where a later edit takes it back: nobody needs that.
        check(&[policies(&["silver"]), policies(&["gold"])], Err(EditRefused::Policy));
    }

    #[test]
    fn what_names_no_policy_is_not_granted_by_granting_all() {
        let all = EditRules { policies: PolicyGrant::All, allow_master_keys: false };
        assert_eq!(all.check(&Session::default(), &[policies(&[""])]), Err(EditRefused::Policy));
    }

    #[test]
    fn a_session_that_could_do_everything_before_may_still_be_tagged() {
        let rules = EditRules { policies: PolicyGrant::Only(Vec::new()), allow_master_keys: false };
        let tag = [SessionEdit::AddTag("a".to_owned()), SessionEdit::SetInactive(true)];
        assert_eq!(rules.check(&Session::default(), &tag), Ok(()));
        assert_eq!(rules.check(&Session::default(), &[rights(0)]), Err(EditRefused::MasterKey));
    }
}
