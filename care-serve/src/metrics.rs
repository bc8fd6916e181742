//! Counters, gauges and histograms in Prometheus' text form, under the names of text-embeddings-inference.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of durations in seconds.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Upper bounds of numbers of texts and tokens.
const COUNTS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0];

/// All metrics of a server.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<BTreeMap<&'static str, BTreeMap<String, Series>>>);

#[derive(Debug)]
enum Series {
    Counter(u64),
    Gauge(f64),
    Histogram { bounds: &'static [f64], counts: Vec<u64>, sum: f64 },
}

impl Metrics {
    /// Adds 1. `label` is `name="value"`, or empty.
    pub(crate) fn count(&self, name: &'static str, label: &str) {
        self.add(name, label, 1);
    }

    /// Adds to a counter.
    pub(crate) fn add(&self, name: &'static str, label: &str, more: usize) {
        self.update(
            name,
            label,
            || Series::Counter(0),
            |series| {
                if let Series::Counter(count) = series {
                    *count += more as u64;
                }
            },
        );
    }

    /// Sets a gauge.
    pub(crate) fn set(&self, name: &'static str, label: &str, value: f64) {
        self.update(name, label, || Series::Gauge(0.0), |series| *series = Series::Gauge(value));
    }

    /// Adds a duration to a histogram.
    pub(crate) fn time(&self, name: &'static str, label: &str, time: Duration) {
        self.observe(name, label, SECONDS, time.as_secs_f64());
    }

    /// Adds a number of texts or tokens to a histogram.
    pub(crate) fn size(&self, name: &'static str, label: &str, size: usize) {
        self.observe(name, label, COUNTS, size as f64);
    }

    fn observe(&self, name: &'static str, label: &str, bounds: &'static [f64], value: f64) {
        let new = || Series::Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 };
        self.update(name, label, new, |series| {
            if let Series::Histogram { bounds, counts, sum } = series {
                counts[bounds.partition_point(|bound| *bound < value)] += 1;
                *sum += value;
            }
        });
    }

    fn update(&self, name: &'static str, label: &str, new: impl Fn() -> Series, change: impl Fn(&mut Series)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let family = all.entry(name).or_default();
        match family.get_mut(label) {
            Some(series) => change(series),
            None => change(family.entry(label.to_owned()).or_insert_with(new)),
        }
    }

    /// All series in Prometheus' text form.
    pub(crate) fn render(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, family) in all.iter() {
            let kind = match family.values().next() {
                Some(Series::Counter(_)) => "counter",
                Some(Series::Histogram { .. }) => "histogram",
                _ => "gauge",
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "# TYPE {name} {kind}");
            for (label, series) in family {
                let braces = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
                let _ = match series {
                    Series::Counter(count) => writeln!(text, "{name}{braces} {count}"),
                    Series::Gauge(value) => writeln!(text, "{name}{braces} {value}"),
                    Series::Histogram { bounds, counts, sum } => {
                        histogram(&mut text, name, label, bounds, counts);
                        let total: u64 = counts.iter().sum();
                        writeln!(text, "{name}_sum{braces} {sum}\n{name}_count{braces} {total}")
                    }
                };
            }
        }
        text
    }
}

fn histogram(text: &mut String, name: &str, label: &str, bounds: &[f64], counts: &[u64]) {
    let comma = if label.is_empty() { "" } else { "," };
    let mut below = 0;
    for (at, count) in counts.iter().enumerate() {
        below += count;
        let bound = bounds.get(at).map_or("+Inf".to_owned(), ToString::to_string);
        let _ = writeln!(text, "{name}_bucket{{{label}{comma}le=\"{bound}\"}} {below}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_labels_kept() {
        let metrics = Metrics::default();
        metrics.count("te_request_count", "method=\"single\"");
        metrics.add("te_request_count", "method=\"single\"", 2);
        metrics.set("te_queue_size", "", 4.0);
        metrics.size("te_batch_next_size", "role=\"query\"", 2);
        metrics.size("te_batch_next_size", "role=\"query\"", 100_000);
        let text = metrics.render();
        for line in [
            "# TYPE te_request_count counter",
            "te_request_count{method=\"single\"} 3",
            "te_queue_size 4",
            "te_batch_next_size_bucket{role=\"query\",le=\"1\"} 0",
            "te_batch_next_size_bucket{role=\"query\",le=\"2\"} 1",
            "te_batch_next_size_bucket{role=\"query\",le=\"+Inf\"} 2",
            "te_batch_next_size_sum{role=\"query\"} 100002",
            "te_batch_next_size_count{role=\"query\"} 2",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
    }
}
