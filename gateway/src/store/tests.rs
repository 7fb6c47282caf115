//! The contract against every store, and what only some of them can show.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

mod bench;
mod cache;
mod child;
mod contract;
mod cost;
mod in_file;
mod interleaving;
mod journal;
mod kill;
mod kv;
mod kv_alone;
mod limits;
#[path = "../../../tests/src/redis.rs"]
#[expect(unreachable_pub, reason = "the harness of the end-to-end tests exports it")]
mod process;
mod redis;
mod server;
mod shares;
mod window;

use self::bench::{Bench, Folder};

/// Runs the contract against a store; `$bench` makes a [`Bench`]. `each` test has one of its own, `all` share one.
macro_rules! contract {
    ($name:ident, $how:ident, $bench:expr) => {
        mod $name {
            use super::*;

            contract!(@$how $bench,
                contract: a_session_is_created_once_read_replaced_and_deleted;
                contract: an_update_is_refused_once_somebody_else_wrote;
                contract: an_update_does_not_bring_back_a_deleted_session;
                contract: of_many_edits_at_once_none_is_lost;
                contract: edits_do_not_bring_back_a_deleted_session;
                contract: edits_are_judged_by_what_others_left;
                contract: a_session_ends_with_its_life;
                contract: sessions_are_listed_in_pages;
                contract: a_session_that_is_too_large_is_refused;
                contract: of_many_who_create_one_session_one_does;
                contract: policies_are_put_read_listed_and_deleted;
                contract: every_gateway_hears_of_changes;
                limits: each_algorithm_lets_its_limit_through_and_no_more;
                limits: what_is_refused_counts_nowhere;
                limits: the_first_rate_that_refuses_is_named;
                limits: a_hundred_on_the_last_unit_let_one_through;
                limits: a_hundred_on_the_last_request_of_a_rate_let_one_through;
                limits: a_quota_renews_and_is_reset_and_set;
                limits: a_quota_without_renewal_stays_used_up;
                limits: a_changed_limit_applies_at_once;
                limits: wrong_takes_are_refused;
                limits: it_counts_as_memory_does;
                kv: a_value_is_kept_read_replaced_and_deleted;
                kv: a_value_ends_with_its_life;
                kv: increments_are_exact_under_concurrency;
                kv: of_many_who_compare_and_set_one_wins;
                kv: what_is_no_number_is_not_incremented;
                kv: no_key_of_one_plugin_names_a_value_of_another;
                kv: a_plugin_has_its_share_and_no_more;
                kv: it_keeps_values_as_memory_does;
                interleaving: no_interleaving_lets_more_than_a_limit_through;
                shares: a_plugin_has_so_many_sessions_and_the_one_that_ends_first_leaves;
                shares: sessions_that_ended_leave_their_place_and_those_that_never_end_leave_last;
                shares: a_session_that_is_deleted_or_that_an_operator_writes_takes_no_place;
                shares: a_session_that_left_keeps_its_quota;
                shares: a_flood_of_sessions_stays_in_its_share;
            );
        }
    };
    (@all $bench:expr, $($module:ident: $test:ident;)*) => {
        #[tokio::test]
        async fn the_whole_contract() {
            let bench: Bench = $bench.await;
            $(
                $module::$test(&bench).await;
                bench.clear();
            )*
        }
    };
    (@each $bench:expr, $($module:ident: $test:ident;)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                let bench: Bench = $bench.await;
                $module::$test(&bench).await;
            }
        )*
    };
}

contract!(memory, each, Bench::memory());
contract!(embedded, each, Bench::embedded());
contract!(on_redis, each, Bench::redis());
contract!(on_redis_with_tls, each, Bench::redis_with_tls());
contract!(on_a_cluster, all, Bench::redis_cluster());
