//! A stampede, callers that go away, bounds.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// Waits for a condition that another thread brings about.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_stampede_over_several_threads_calls_once() {
    const THREADS: usize = 4;
    const CALLERS: usize = 25;
    let flight: Flight<&str, usize> = Flight::new(10, 1_000);
    let calls = AtomicUsize::new(0);
    let stampede = || {
        let local = tokio::task::LocalSet::new();
        let callers = (0..CALLERS).map(|_| {
            flight.run(&"id", async || {
                // What is not `Send` may live in the call.
                let here = Rc::new(Cell::new(0));
                until(|| flight.callers() == THREADS * CALLERS).await;
                here.set(calls.fetch_add(1, Ordering::SeqCst) + 1);
                here.get()
            })
        });
        local.block_on(&runtime(), futures_util::future::join_all(callers))
    };
    let values: Vec<Result<usize, FlightFull>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(stampede)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    });
    assert_eq!(values, vec![Ok(1); THREADS * CALLERS]);
    assert_eq!((calls.load(Ordering::SeqCst), flight.keys()), (1, 0));
}

#[test]
fn keys_do_not_wait_for_each_other() {
    let flight: Flight<u8, u8> = Flight::new(10, 10);
    let found = runtime().block_on(flight.run(&1, async || flight.run(&2, async || 2).await.expect("room")));
    assert_eq!((found, flight.keys()), (Ok(2), 0));
}

#[test]
fn whoever_comes_after_the_end_calls_anew() {
    let flight: Flight<u8, u8> = Flight::new(10, 10);
    runtime().block_on(async {
        assert_eq!(flight.run(&1, async || 1).await, Ok(1));
        assert_eq!(flight.run(&1, async || 2).await, Ok(2));
    });
}

#[test]
fn a_caller_that_is_dropped_leaves_its_turn_to_the_next() {
    let flight: Flight<u8, &str> = Flight::new(10, 10);
    let mut context = Context::from_waker(Waker::noop());
    let mut first = Box::pin(flight.run(&1, async || std::future::pending().await));
    assert!(first.as_mut().poll(&mut context).is_pending());
    let mut waiting = Box::pin(flight.run(&1, async || "second"));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    let mut dropped = Box::pin(flight.run(&1, async || "never"));
    assert!(dropped.as_mut().poll(&mut context).is_pending());
    let mut third = Box::pin(flight.run(&1, async || "third"));
    assert!(third.as_mut().poll(&mut context).is_pending());
    assert_eq!(flight.callers(), 4);

    drop(first);
    drop(dropped);
    assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(Ok("second")));
    assert_eq!(third.as_mut().poll(&mut context), Poll::Ready(Ok("second")));
    drop((waiting, third));
    assert_eq!(flight.keys(), 0);
}

#[test]
fn the_last_caller_takes_the_key_along_even_when_dropped() {
    let flight: Flight<u8, u8> = Flight::new(1, 10);
    let mut context = Context::from_waker(Waker::noop());
    let mut only = Box::pin(flight.run(&1, async || std::future::pending().await));
    assert!(only.as_mut().poll(&mut context).is_pending());
    assert_eq!(runtime().block_on(flight.run(&2, async || 2)), Err(FlightFull));
    drop(only);
    assert_eq!(runtime().block_on(flight.run(&2, async || 2)), Ok(2));
}

#[test]
fn callers_of_a_key_are_bounded() {
    let flight: Flight<u8, u8> = Flight::new(10, 2);
    let mut context = Context::from_waker(Waker::noop());
    let mut callers: Vec<_> = (0..2).map(|_| Box::pin(flight.run(&1, async || std::future::pending().await))).collect();
    for caller in &mut callers {
        assert!(caller.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(runtime().block_on(flight.run(&1, async || 1)), Err(FlightFull));
}

#[test]
fn callers_that_come_and_go_leave_nothing_behind() {
    let flight: Flight<usize, usize> = Flight::new(100, 1_000);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let flight = &flight;
            scope.spawn(move || {
                runtime().block_on(async {
                    for round in 0..2_000 {
                        let key = round % 3;
                        let mut run = pin!(flight.run(&key, async || {
                            tokio::task::yield_now().await;
                            key
                        }));
                        if (round + thread) % 2 == 0 {
                            // Looked at once, then dropped.
                            let _ = poll_fn(|context| Poll::Ready(run.as_mut().poll(context))).await;
                        } else {
                            assert_eq!(run.await, Ok(key));
                        }
                    }
                });
            });
        }
    });
    assert_eq!(flight.keys(), 0);
}

#[test]
fn refusals_are_remembered_for_their_time() {
    let refusals: Refusals<&str, u16> = Refusals::new(10, 1_000);
    refusals.put(&"a", 403, 5_000);
    assert_eq!(refusals.get(&"a", 5_999), Some(403));
    assert_eq!(refusals.get(&"a", 6_000), None);
    assert_eq!(refusals.get(&"b", 5_000), None);
    refusals.put(&"a", 401, 5_500);
    assert_eq!(refusals.get(&"a", 6_000), Some(401));
    refusals.forget(&"a");
    assert_eq!(refusals.get(&"a", 5_500), None);
    refusals.put(&"a", 1, 0);
    refusals.clear();
    assert!(refusals.held() == 0);
}

/// A key is allowed while somebody hears that it is not: the refusal is older than the news.
#[test]
fn a_refusal_that_was_overtaken_by_news_is_not_remembered() {
    let refusals: Refusals<&str, u16> = Refusals::new(10, 1_000);
    let (early, late) = (refusals.ask(&"a"), refusals.ask(&"a"));
    refusals.forget(&"a");
    early.refused(403, 0);
    assert_eq!(refusals.get(&"a", 0), None);
    drop(late);
    refusals.ask(&"a").refused(401, 0);
    assert_eq!(refusals.get(&"a", 0), Some(401));
    let asking = refusals.ask(&"b");
    refusals.clear();
    asking.refused(403, 0);
    assert_eq!((refusals.get(&"a", 0), refusals.get(&"b", 0)), (None, None));
    assert!(refusals.inner().asked.is_empty());
}

#[test]
fn the_oldest_refusal_goes_when_it_is_full() {
    let refusals: Refusals<u32, ()> = Refusals::new(3, 1_000);
    (0..5).for_each(|key| refusals.put(&key, (), 0));
    let held: Vec<u32> = (0..5).filter(|key| refusals.get(key, 0).is_some()).collect();
    assert_eq!((held, refusals.held(), refusals.evicted()), (vec![2, 3, 4], 3, 2));
    refusals.put(&9, (), 1_000);
    assert_eq!((refusals.held(), refusals.evicted()), (1, 2), "what is over is no eviction");
}

#[test]
fn a_refusal_that_is_put_again_and_again_takes_no_more_room() {
    let refusals: Refusals<u32, ()> = Refusals::new(3, 1_000);
    refusals.put(&1, (), 0);
    (0..10_000).for_each(|_| refusals.put(&2, (), 0));
    assert_eq!(refusals.held(), 1);
    assert!(refusals.inner().order.len() <= 7);
    (0..10_000).for_each(|key| {
        refusals.put(&key, (), 0);
        refusals.forget(&key);
    });
    assert!(refusals.inner().order.len() <= 7);
}

#[test]
fn refusals_can_be_switched_off() {
    for refusals in [Refusals::new(0, 1_000), Refusals::new(10, 0)] {
        refusals.put(&1, (), 0);
        assert!(refusals.held() == 0);
    }
}
