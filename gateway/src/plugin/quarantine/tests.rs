//! The quarantine of a plugin, with a clock that stands until it is moved.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::telemetry::metrics::Metrics;

struct Case {
    clock: Clock,
    metrics: Metrics,
    quarantine: Quarantine,
}

fn rules() -> Rules {
    Rules { failures_max: 3, ..Rules::default() }
}

fn case(rules: &Rules) -> Case {
    let (clock, metrics) = (Clock::manual(1_000_000), Metrics::new());
    let plugin = PluginName::parse("moody").unwrap();
    let quarantine = Quarantine::new(&plugin, "0123", rules, clock.clone(), metrics.quarantine(&plugin));
    Case { clock, metrics, quarantine }
}

fn caller(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

fn error(kind: FailureKind) -> CallError {
    CallError::new(kind, "as asked")
}

impl Case {
    fn seconds(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// One call by a caller, if it is let through.
    fn call(&self, by: u8, kind: Option<FailureKind>) -> bool {
        let Ok(pass) = self.quarantine.admit(caller(by)) else { return false };
        pass.settle(kind.map(error).as_ref());
        true
    }

    fn fails(&self, by: u8) -> bool {
        self.call(by, Some(FailureKind::Trap))
    }

    fn works(&self, by: u8) -> bool {
        self.call(by, None)
    }

    /// Puts it into quarantine with the failures of caller 1.
    fn enter(&self) {
        (0..3).for_each(|_| assert!(self.fails(1)));
        self.seconds(1);
        assert!(self.fails(1));
        assert!(self.is_shut());
    }

    fn is_shut(&self) -> bool {
        self.quarantine.shown().is_some()
    }

    fn shown(&self) -> Quarantined {
        self.quarantine.shown().unwrap()
    }
}

#[test]
fn a_plugin_that_only_fails_is_not_called_any_more() {
    let case = case(&rules());
    case.enter();

    for _ in 0..5 {
        let refused = case.quarantine.admit(caller(1)).err().unwrap();
        assert_eq!((refused.kind, refused.fault), (FailureKind::Load, Fault::Quarantine));
        assert!(refused.reason.contains("trap"), "{}", refused.reason);
    }

    let shown = case.shown();
    assert_eq!((shown.since_ms, shown.probes, shown.calls_refused), (1_001_000, 0, 5));
    assert_eq!((shown.last.kind, shown.next_probe), (FailureKind::Trap, Duration::from_secs(1)));
    assert!(case.metrics.render().contains("stile_plugin_quarantined{plugin=\"moody\"} 1\n"));
    assert!(case.metrics.render().contains("stile_plugin_quarantines_total{plugin=\"moody\"} 1\n"));
}

// limit: plugin_quarantine.failures_max
#[test]
fn one_failure_above_the_budget_is_too_many() {
    let case = case(&rules());
    let quarantines = |times: u32| {
        let line = format!("stile_plugin_quarantines_total{{plugin=\"moody\"}} {times}\n");
        case.metrics.render().contains(&line)
    };
    assert!(case.fails(1) && case.fails(1));
    case.seconds(1);
    assert!(case.fails(1));
    assert!(!case.is_shut() && quarantines(0), "as many as may be");

    assert!(case.fails(1));
    assert!(case.is_shut() && quarantines(1));
}

#[test]
fn failures_within_the_budget_are_borne() {
    let case = case(&rules());
    for _ in 0..10 {
        (0..3).for_each(|_| assert!(case.fails(1)));
        // All of them leave the window.
        case.seconds(11);
    }
    assert!(!case.is_shut());
}

#[test]
fn a_share_of_good_calls_keeps_it_in_service() {
    let case = case(&rules());
    assert!(case.fails(1));
    case.seconds(1);
    (0..2).for_each(|_| assert!(case.works(2)));
    for _ in 0..100 {
        (0..8).for_each(|_| assert!(case.fails(1)));
        assert!(case.works(2));
    }
    assert!(!case.is_shut(), "one in nine works");
    assert!((0..200).any(|_| !case.fails(1)), "one in eleven does not do");
}

#[test]
fn a_burst_between_two_good_calls_is_not_enough() {
    let case = case(&rules());
    // Good calls before the first failure are not counted, so those after it have to have their time.
    (0..1_000).for_each(|_| assert!(case.fails(1)));
    for _ in 0..120 {
        case.clock.advance(Duration::from_millis(8));
        assert!(case.works(2));
    }
    assert!(!case.is_shut());
}

#[test]
fn load_of_the_gateway_is_nobodys_failure() {
    let case = case(&rules());
    for _ in 0..10 {
        case.seconds(1);
        assert!(case.call(1, Some(FailureKind::Busy)));
    }
    assert!(!case.is_shut());
    for kind in FailureKind::ALL.into_iter().filter(|kind| *kind != FailureKind::Busy) {
        let case = self::case(&rules());
        (0..4).for_each(|_| assert!(case.call(1, Some(kind))));
        case.seconds(1);
        assert!(case.call(1, Some(kind)));
        assert!(case.is_shut(), "{kind:?} counts");
    }
}

#[test]
fn a_probe_that_succeeds_ends_it() {
    let case = case(&rules());
    case.enter();
    case.clock.advance(Duration::from_millis(999));
    assert!(!case.works(1), "the pause is not over");
    case.clock.advance(Duration::from_millis(1));

    let probe = case.quarantine.admit(caller(1)).unwrap();
    assert!(!case.works(1), "one at a time");
    probe.settle(None);

    assert!(!case.is_shut());
    assert!(case.works(1) && case.fails(1), "it begins clean");
    assert!(!case.is_shut());
    assert!(case.metrics.render().contains("stile_plugin_quarantined{plugin=\"moody\"} 0\n"));
}

#[test]
fn pauses_grow_with_each_probe_that_fails_up_to_the_longest() {
    let case = case(&rules());
    case.enter();
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(case.shown().next_probe, Duration::from_secs(pause));
        case.clock.advance(Duration::from_secs(pause) - Duration::from_millis(1));
        assert!(!case.fails(1));
        case.clock.advance(Duration::from_millis(1));
        assert!(case.fails(1), "the probe");
        assert!(!case.fails(1));
    }
    assert_eq!(case.shown().probes, 8);
}

#[test]
fn pauses_go_on_growing_where_it_comes_back_soon() {
    let case = case(&rules());
    case.enter();
    case.seconds(1);
    assert!(case.works(1));
    case.enter();
    assert_eq!(case.shown().next_probe, Duration::from_secs(2));

    case.seconds(2);
    assert!(case.works(1));
    case.seconds(60);
    case.enter();
    assert_eq!(case.shown().next_probe, Duration::from_secs(1), "it was well for long");
}

#[test]
fn a_probe_that_says_nothing_is_the_next_calls() {
    let case = case(&rules());
    case.enter();
    case.seconds(1);
    // Its caller left.
    drop(case.quarantine.admit(caller(1)).unwrap());
    // No instance was free.
    assert!(case.call(1, Some(FailureKind::Busy)));
    assert!(case.works(1));
    assert!(!case.is_shut());
}

#[test]
fn a_caller_who_did_not_fail_gets_a_probe_of_its_own() {
    let case = case(&rules());
    case.enter();
    assert!(!case.works(1), "it was caller 1 whose requests failed");
    assert!(case.works(2));
    assert!(!case.is_shut(), "one caller cannot take a plugin from another");
}

// limit: plugin::quarantine::CALLERS_MAX
#[test]
fn a_plugin_that_fails_for_all_callers_is_not_called_for_each() {
    let case = case(&rules());
    case.enter();
    let made = |from: u8| (from..from + 100).filter(|by| case.fails(*by)).count();
    assert_eq!(made(2), CALLERS_MAX - 1, "caller 1 is one of them");
    assert_eq!(case.shown().next_probe, Duration::from_secs(1), "these do not make pauses longer");
    case.seconds(1);
    assert_eq!(made(2), CALLERS_MAX, "the one that was due, and others again");
}

#[test]
fn a_network_of_ipv6_is_one_caller() {
    let case = case(&rules());
    case.enter();
    let by = |text: &str| {
        case.quarantine.admit(Some(text.parse().unwrap())).map(|pass| pass.settle(Some(&error(FailureKind::Trap))))
    };
    assert!(by("2001:db8::1").is_ok());
    assert!(by("2001:db8::2").is_err());
    assert!(by("2001:db8:0:1::2").is_ok());
    assert!(by("::ffff:192.0.2.1").is_err(), "caller 1");
}

#[test]
fn an_operator_ends_it() {
    let case = case(&rules());
    assert!(!case.quarantine.release(), "it is not in quarantine");
    case.enter();
    case.seconds(1);
    let stale = case.quarantine.admit(caller(1)).unwrap();
    assert!(case.quarantine.release());
    assert!(!case.is_shut());

    case.enter();
    assert_eq!(case.shown().next_probe, Duration::from_secs(1), "what was before is forgotten");
    stale.settle(None);
    assert!(case.is_shut(), "a probe of another quarantine says nothing about this one");
}

#[test]
fn it_can_be_switched_off() {
    let case = case(&Rules { enabled: false, ..rules() });
    for _ in 0..100 {
        case.seconds(1);
        assert!(case.fails(1));
    }
    assert!(!case.is_shut());
}

#[test]
fn verdicts_that_cannot_be_used_count_as_failures() {
    let case = case(&rules());
    for _ in 0..4 {
        case.seconds(1);
        assert!(case.works(1));
        case.quarantine.overruled(&error(FailureKind::BadOutput), caller(1));
    }
    assert!(case.is_shut() && !case.works(1));
}

#[test]
fn a_version_that_goes_takes_its_quarantine_along() {
    let case = case(&rules());
    case.enter();
    let Case { quarantine, metrics, .. } = case;
    drop(quarantine);
    assert!(metrics.render().contains("stile_plugin_quarantined{plugin=\"moody\"} 0\n"));
}
