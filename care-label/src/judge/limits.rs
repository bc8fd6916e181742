//! How many calls an endpoint gets: concurrently, and per minute.

use std::num::NonZeroU32;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// Successes in a row after which one more call is made concurrently.
const PATIENCE: u32 = 25;
/// What an overload leaves of the concurrency.
const DECREASE: f64 = 0.75;
/// Longest sleep before the stop flag is looked at again.
const NAP: Duration = Duration::from_millis(50);

/// The number of concurrent calls: additive increase, multiplicative decrease.
///
/// # Reference
/// Chiu and Jain (1989), "Analysis of the increase and decrease algorithms for congestion avoidance". Factor 0.75 and 25
/// successes are those of NVIDIA's DataDesigner.
#[derive(Debug)]
struct Concurrency {
    limit: u32,
    most: u32,
    in_a_row: u32,
    /// Number of decreases: calls that began before the last one tell nothing about the limit since.
    epoch: u64,
}

impl Concurrency {
    fn new(most: u32) -> Self {
        Self { limit: most, most, in_a_row: 0, epoch: 0 }
    }

    fn succeeded(&mut self) {
        self.in_a_row += 1;
        if self.in_a_row >= PATIENCE {
            self.in_a_row = 0;
            self.limit = (self.limit + 1).min(self.most);
        }
    }

    fn overloaded(&mut self, epoch: u64) {
        self.in_a_row = 0;
        if epoch == self.epoch {
            self.epoch += 1;
            self.limit = ((f64::from(self.limit) * DECREASE) as u32).max(1);
        }
    }
}

#[derive(Debug)]
struct Traffic {
    concurrency: Concurrency,
    in_flight: u32,
    /// No call begins before, as the endpoint asks.
    pause: Option<Instant>,
}

/// Lets as many calls through as the endpoint bears.
#[derive(Debug)]
pub(crate) struct Gate {
    traffic: Mutex<Traffic>,
    changed: Condvar,
}

/// The right to make one call; returned by dropping it.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    gate: &'a Gate,
    epoch: u64,
}

impl Gate {
    pub(crate) fn new(most: u32) -> Self {
        let traffic = Traffic { concurrency: Concurrency::new(most), in_flight: 0, pause: None };
        Self { traffic: Mutex::new(traffic), changed: Condvar::new() }
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Concurrent calls that are allowed now.
    pub(crate) fn limit(&self) -> u32 {
        self.traffic().concurrency.limit
    }

    /// Waits for the right to make a call; `None` once `is_stopped`.
    pub(crate) fn enter(&self, is_stopped: &dyn Fn() -> bool) -> Option<Permit<'_>> {
        let mut traffic = self.traffic();
        loop {
            if is_stopped() {
                return None;
            }
            match traffic.wait(Instant::now()) {
                None => {
                    traffic.in_flight += 1;
                    return Some(Permit { gate: self, epoch: traffic.concurrency.epoch });
                }
                Some(wait) => {
                    let waited = self.changed.wait_timeout(traffic, wait.min(NAP));
                    traffic = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

impl Traffic {
    /// How long the next call has to wait; `None` if it may begin.
    fn wait(&mut self, now: Instant) -> Option<Duration> {
        self.pause = self.pause.filter(|end| *end > now);
        match self.pause {
            Some(end) => Some(end - now),
            None if self.in_flight >= self.concurrency.limit => Some(NAP),
            None => None,
        }
    }

    fn pause_until(&mut self, end: Instant) {
        self.pause = self.pause.max(Some(end));
    }
}

impl Permit<'_> {
    /// The endpoint answered.
    pub(crate) fn succeeded(self) {
        self.gate.traffic().concurrency.succeeded();
    }

    /// The endpoint is overloaded, and may ask all to wait.
    pub(crate) fn overloaded(self, retry_after: Option<Duration>) {
        let mut traffic = self.gate.traffic();
        traffic.concurrency.overloaded(self.epoch);
        if let Some(wait) = retry_after {
            traffic.pause_until(Instant::now() + wait);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.gate.traffic().in_flight -= 1;
        self.gate.changed.notify_one();
    }
}

/// Units per minute, spread evenly: at most those of one second at once.
struct Rate<C: Clock> {
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    burst: NonZeroU32,
}

impl<C: Clock> Rate<C> {
    fn new(per_minute: NonZeroU32, clock: C) -> Self {
        let burst = per_minute.saturating_add(59).get() / 60;
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_minute(per_minute).allow_burst(burst);
        Self { limiter: RateLimiter::direct_with_clock(quota, clock), burst }
    }

    /// Takes as many of `units` as one step allows: those that are left, and how long to wait for them.
    fn take(&self, units: u32) -> (u32, Duration) {
        let Some(step) = NonZeroU32::new(units.min(self.burst.get())) else { return (0, Duration::ZERO) };
        match self.limiter.check_n(step) {
            Ok(Ok(())) => (units - step.get(), Duration::ZERO),
            Ok(Err(not_until)) => {
                let now = self.limiter.clock().now();
                (units, not_until.earliest_possible().duration_since(now).into())
            }
            // A step is never above the burst.
            Err(_) => (0, Duration::ZERO),
        }
    }
}

/// Calls and tokens per minute.
pub(crate) struct Rates {
    requests: Option<Rate<DefaultClock>>,
    tokens: Option<Rate<DefaultClock>>,
}

impl Rates {
    pub(crate) fn new(requests_per_minute: Option<u32>, tokens_per_minute: Option<u32>) -> Self {
        let rate = |per_minute: Option<u32>| {
            per_minute.and_then(NonZeroU32::new).map(|per_minute| Rate::new(per_minute, DefaultClock::default()))
        };
        Self { requests: rate(requests_per_minute), tokens: rate(tokens_per_minute) }
    }

    /// Waits until a call of so many tokens keeps within both; false once `is_stopped`.
    pub(crate) fn wait(&self, tokens: u64, is_stopped: &dyn Fn() -> bool) -> bool {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        for (rate, units) in [(&self.requests, 1), (&self.tokens, tokens)] {
            let Some(rate) = rate else { continue };
            let mut left = units;
            while left > 0 {
                let wait;
                (left, wait) = rate.take(left);
                if !nap(wait, is_stopped) {
                    return false;
                }
            }
        }
        true
    }
}

/// Sleeps; false once `is_stopped`.
pub(crate) fn nap(wait: Duration, is_stopped: &dyn Fn() -> bool) -> bool {
    let end = Instant::now() + wait;
    loop {
        if is_stopped() {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(NAP));
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn concurrency_falls_at_an_overload_and_rises_after_successes() {
        let mut concurrency = Concurrency::new(16);
        let mut limits = Vec::new();
        for epoch in 0..12 {
            concurrency.overloaded(epoch);
            limits.push(concurrency.limit);
        }
        assert_eq!(limits, [12, 9, 6, 4, 3, 2, 1, 1, 1, 1, 1, 1]);
        for _ in 0..24 {
            concurrency.succeeded();
        }
        assert_eq!(concurrency.limit, 1);
        concurrency.succeeded();
        assert_eq!(concurrency.limit, 2);
        // 24 and an overload: not in a row.
        (0..24).for_each(|_| concurrency.succeeded());
        concurrency.overloaded(12);
        concurrency.succeeded();
        assert_eq!(concurrency.limit, 1);
        (0..25 * 40).for_each(|_| concurrency.succeeded());
        assert_eq!(concurrency.limit, 16);
    }

    #[test]
    fn calls_that_began_together_lower_the_limit_once() {
        let gate = Gate::new(8);
        let go_on = || false;
        let permits: Vec<_> = (0..8).map(|_| gate.enter(&go_on).expect("free")).collect();
        assert!(gate.traffic().wait(Instant::now()).is_some());
        assert!(gate.enter(&|| true).is_none());
        permits.into_iter().for_each(|permit| permit.overloaded(None));
        assert_eq!((gate.limit(), gate.traffic().in_flight), (6, 0));
        gate.enter(&go_on).expect("free").overloaded(None);
        assert_eq!(gate.limit(), 4);
        gate.enter(&go_on).expect("free").succeeded();
        assert_eq!((gate.limit(), gate.traffic().in_flight), (4, 0));
    }

    #[test]
    fn everybody_waits_as_long_as_the_endpoint_asks() {
        let gate = Gate::new(2);
        let start = Instant::now();
        gate.enter(&|| false).expect("free").overloaded(Some(Duration::from_secs(600)));
        let mut traffic = gate.traffic();
        assert!(traffic.wait(start + Duration::from_secs(599)).is_some());
        // A shorter wait does not end a longer one.
        traffic.pause_until(start);
        assert!(traffic.wait(start + Duration::from_secs(599)).is_some());
        assert_eq!(traffic.wait(Instant::now() + Duration::from_secs(601)), None);
    }

    #[test]
    fn rates_are_spread_over_the_minute() {
        let clock = FakeRelativeClock::default();
        let rate = Rate::new(NonZeroU32::new(120).expect("not 0"), clock.clone());
        let mut seconds = 0.0;
        for _ in 0..120 {
            while let (1, wait) = rate.take(1) {
                assert!(!wait.is_zero());
                clock.advance(wait);
                seconds += wait.as_secs_f64();
            }
        }
        assert!((58.9..59.1).contains(&seconds), "{seconds}");
        // 1,000 tokens a second: a call of 2,500 takes three steps, and more than a minute's worth is possible.
        let rate = Rate::new(NonZeroU32::new(60_000).expect("not 0"), clock.clone());
        let (mut left, mut seconds) = (100_000, 0.0);
        while left > 0 {
            let wait;
            (left, wait) = rate.take(left);
            clock.advance(wait);
            seconds += wait.as_secs_f64();
        }
        assert!((98.9..99.1).contains(&seconds), "{seconds}");
        assert_eq!(rate.take(0), (0, Duration::ZERO));
    }

    #[test]
    fn a_wait_ends_when_the_run_stops() {
        let rates = Rates::new(Some(1), None);
        assert!(rates.wait(10, &|| false));
        assert!(!rates.wait(10, &|| true));
        assert!(Rates::new(None, None).wait(u64::MAX, &|| false));
    }
}
