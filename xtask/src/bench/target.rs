//! What is aimed at, and how it was met.

use std::fmt;

use serde::Serialize;

use super::Sample;
use super::statistics::{median, median_interval};

/// What two contenders may lie apart and still count as equally fast.
const EQUAL: f64 = 0.05;

/// From here on the load generator may be what limits a value.
pub(super) const LOAD_LIMIT: f64 = 0.9;

/// What a contender is to reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    contender: &'static str,
    aim: Aim,
}

/// Ratios are those to another contender in the same round.
#[derive(Clone, Copy, Debug)]
enum Aim {
    AtLeast(f64, &'static str),
    AtMost(f64, &'static str),
    NoLess(&'static str),
    Below(f64, &'static str),
}

impl Target {
    /// A ratio to another contender. Reached by the median, and missed only if the whole interval lies below.
    pub(super) const fn at_least(contender: &'static str, ratio: f64, to: &'static str) -> Self {
        Self { contender, aim: Aim::AtLeast(ratio, to) }
    }

    /// The same where less is better.
    pub(super) const fn at_most(contender: &'static str, ratio: f64, to: &'static str) -> Self {
        Self { contender, aim: Aim::AtMost(ratio, to) }
    }

    /// As much as another contender, or more. Reached if the interval of the ratio reaches 1 and does not go far below;
    /// missed if the whole of it lies below 1.
    pub(super) const fn no_less(contender: &'static str, to: &'static str) -> Self {
        Self { contender, aim: Aim::NoLess(to) }
    }

    /// No more than a value in the unit of the measure.
    pub(super) const fn below(contender: &'static str, value: f64, unit: &'static str) -> Self {
        Self { contender, aim: Aim::Below(value, unit) }
    }

    /// None if what it speaks of was not measured.
    pub(super) fn judge(&self, contenders: &[&'static str], samples: &[Vec<Sample>]) -> Option<Outcome> {
        let of = |name| contenders.iter().position(|contender| *contender == name).map(|at| &samples[at]);
        let own = of(self.contender)?;
        let measured = match self.aim {
            Aim::AtLeast(_, to) | Aim::AtMost(_, to) | Aim::NoLess(to) => Ratio::new(own, of(to)?),
            Aim::Below(..) => Ratio::of(own.iter().map(|sample| sample.value).collect()),
        };
        let Ratio { median: middle, low, high } = measured;
        let (reached, possible) = match self.aim {
            Aim::AtLeast(ratio, _) => (middle >= ratio, high >= ratio),
            Aim::AtMost(ratio, _) | Aim::Below(ratio, _) => (middle <= ratio, low <= ratio),
            Aim::NoLess(_) => (high >= 1.0 && low >= 1.0 - EQUAL, high >= 1.0),
        };
        let load_busy: Vec<f64> = own.iter().filter_map(|sample| sample.load_busy).collect();
        let more_is_better = matches!(self.aim, Aim::AtLeast(..) | Aim::NoLess(_));
        let limited = more_is_better && !load_busy.is_empty() && median(&load_busy) > LOAD_LIMIT;
        let verdict = match (reached, possible) {
            (true, _) => Verdict::Reached,
            (false, _) if limited => Verdict::Limited,
            (false, true) => Verdict::Uncertain,
            (false, false) => Verdict::Missed,
        };
        Some(Outcome { wanted: self.to_string(), measured, verdict })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { contender, aim } = self;
        match aim {
            Aim::AtLeast(ratio, to) => write!(f, "{contender} at least {ratio:.2} × {to}"),
            Aim::AtMost(ratio, to) => write!(f, "{contender} at most {ratio:.2} × {to}"),
            Aim::NoLess(to) => write!(f, "{contender} no less than {to}"),
            Aim::Below(value, unit) => write!(f, "{contender} at most {value:.0} {unit}"),
        }
    }
}

/// How a target was met.
#[derive(Serialize)]
pub(super) struct Outcome {
    wanted: String,
    measured: Ratio,
    verdict: Verdict,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Reached,
    Uncertain,
    /// More was not to be had from this load.
    Limited,
    Missed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, measured: Ratio { median, low, high }, verdict } = self;
        let verdict = match verdict {
            Verdict::Reached => "reached",
            Verdict::Uncertain => "uncertain",
            Verdict::Limited => "load-limited",
            Verdict::Missed => "MISSED",
        };
        write!(f, "{wanted:52}  {median:.3} ({low:.3} – {high:.3})  {verdict}")
    }
}

/// A median and its interval.
#[derive(Serialize)]
pub(super) struct Ratio {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Ratio {
    /// Within each round.
    pub(super) fn new(samples: &[Sample], baseline: &[Sample]) -> Self {
        Self::of(samples.iter().zip(baseline).map(|(one, other)| one.value / other.value).collect())
    }

    fn of(values: Vec<f64>) -> Self {
        let (low, high) = median_interval(&values);
        Self { median: median(&values), low, high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(target: Target, one: &[f64], other: &[f64]) -> String {
        let samples = [one, other].map(|values| values.iter().map(|value| Sample::of(*value)).collect());
        let outcome = target.judge(&["one", "other"], &samples).unwrap().to_string();
        outcome.split_whitespace().last().unwrap().into()
    }

    #[test]
    fn a_target_is_missed_only_if_the_whole_interval_misses_it() {
        let other = [100.0; 9];
        let near = [88.0, 88.0, 88.0, 88.0, 88.0, 91.0, 91.0, 91.0, 91.0];
        let target = Target::at_least("one", 0.9, "other");
        assert_eq!(verdict(target, &[90.0; 9], &other), "reached");
        assert_eq!(verdict(target, &near, &other), "uncertain");
        assert_eq!(verdict(target, &[89.0; 9], &other), "MISSED");
        assert_eq!(verdict(Target::at_most("one", 0.9, "other"), &[89.0; 9], &other), "reached");
        assert_eq!(verdict(Target::at_most("one", 0.8, "other"), &near, &other), "MISSED");
        assert_eq!(verdict(Target::below("one", 91.0, "KB"), &near, &other), "reached");
        assert_eq!(verdict(Target::below("one", 80.0, "KB"), &near, &other), "MISSED");
    }

    #[test]
    fn what_the_load_limits_is_not_missed() {
        let busy = |value| Sample { load_busy: Some(0.98), ..Sample::of(value) };
        let samples = [vec![busy(300.0); 9], vec![Sample::of(100.0); 9]];
        let judge =
            |ratio| Target::at_least("one", ratio, "other").judge(&["one", "other"], &samples).unwrap();
        assert!(judge(4.0).to_string().ends_with("load-limited"));
        assert!(judge(3.0).to_string().ends_with("reached"));
    }

    #[test]
    fn no_less_allows_for_chance_and_for_no_more() {
        let other = [100.0; 9];
        let target = Target::no_less("one", "other");
        assert_eq!(
            verdict(target, &[99.0, 98.0, 97.0, 99.0, 99.0, 99.0, 99.0, 101.0, 101.0], &other),
            "reached"
        );
        assert_eq!(
            verdict(target, &[90.0, 90.0, 90.0, 99.0, 99.0, 99.0, 99.0, 101.0, 101.0], &other),
            "uncertain"
        );
        assert_eq!(verdict(target, &[99.0; 9], &other), "MISSED");
        assert_eq!(verdict(target, &[150.0; 9], &other), "reached");
        assert!(target.judge(&["one"], &[vec![Sample::of(1.0)]]).is_none());
    }
}
