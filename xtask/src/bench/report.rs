//! The result of a measure: as a table for people, as JSON for machines.

use std::fmt;

use serde::Serialize;

use super::machine::{Cpus, Machine};
use super::statistics::median;
use super::target::{LOAD_LIMIT, Outcome, Ratio};
use super::{Measure, Sample};

/// The result of one measure.
#[derive(Serialize)]
pub(super) struct Report {
    measure: &'static str,
    about: String,
    unit: &'static str,
    machine: Machine,
    pinning: String,
    baseline: &'static str,
    contenders: Vec<Row>,
    targets: Vec<Outcome>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    median: f64,
    min: f64,
    max: f64,
    /// To the baseline, of the same round.
    ratio: Ratio,
    load_busy: Option<f64>,
    server_busy: Option<f64>,
    failed: u64,
    /// The part of all that each worker did, the busiest first: the median of the rounds.
    shares: Vec<f64>,
    /// The value of each round.
    values: Vec<f64>,
}

impl Report {
    /// From the samples of each contender, one a round.
    pub(super) fn new(
        measure: &dyn Measure,
        cpus: &Cpus,
        contenders: &[&'static str],
        baseline: usize,
        samples: &[Vec<Sample>],
    ) -> Self {
        let rows = contenders.iter().zip(samples).map(|(name, own)| Row::new(name, own, &samples[baseline]));
        Self {
            measure: measure.name(),
            about: measure.about(),
            unit: measure.unit(),
            machine: Machine::describe(cpus),
            pinning: measure.pinning(cpus),
            baseline: contenders[baseline],
            contenders: rows.collect(),
            targets: measure
                .targets()
                .iter()
                .filter_map(|target| target.judge(contenders, samples))
                .collect(),
        }
    }
}

impl Row {
    fn new(name: &'static str, samples: &[Sample], baseline: &[Sample]) -> Self {
        let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
        let busy = |of: fn(&Sample) -> Option<f64>| {
            let busy: Vec<f64> = samples.iter().filter_map(of).collect();
            (!busy.is_empty()).then(|| median(&busy))
        };
        Self {
            name,
            median: median(&values),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ratio: Ratio::new(samples, baseline),
            load_busy: busy(|sample| sample.load_busy),
            server_busy: busy(|sample| sample.server_busy),
            failed: samples.iter().map(|sample| sample.failed).sum(),
            shares: shares(samples),
            values,
        }
    }
}

/// Of each worker, the busiest first.
fn shares(samples: &[Sample]) -> Vec<f64> {
    let workers = samples.iter().map(|sample| sample.shares.len()).max().unwrap_or(0);
    let share = |worker: usize| {
        let of = |sample: &Sample| {
            let all: u64 = sample.shares.iter().sum();
            sample.shares.get(worker).copied().unwrap_or(0) as f64 / all.max(1) as f64
        };
        median(&samples.iter().map(of).collect::<Vec<_>>())
    };
    (0..workers).map(share).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measure, about, unit, machine, pinning, baseline, contenders, targets } = self;
        let rounds = contenders.first().map_or(0, |row| row.values.len());
        writeln!(f, "{measure}: {about}")?;
        writeln!(f, "{machine}")?;
        writeln!(f, "{rounds} rounds, interleaved; {pinning}")?;
        writeln!(f, "ratio: to {baseline} in the same round, median and 95 % order-statistic interval\n")?;

        let width = contenders.iter().map(|row| row.name.len()).max().unwrap_or(0).max("contender".len());
        writeln!(
            f,
            "{:width$}  {:>13}  {:>19}  {:>7}  {:>15}{}",
            "contender",
            unit,
            "min – max",
            "ratio",
            "95 %",
            if contenders.iter().any(|row| row.load_busy.is_some()) {
                "  load busy  server busy"
            } else {
                ""
            }
        )?;
        for row in contenders {
            let spread = format!("{:.0} – {:.0}", row.min, row.max);
            let interval = format!("{:.3} – {:.3}", row.ratio.low, row.ratio.high);
            write!(
                f,
                "{:width$}  {:>13.0}  {spread:>19}  {:>7.3}  {interval:>15}",
                row.name, row.median, row.ratio.median
            )?;
            if let (Some(load), Some(server)) = (row.load_busy, row.server_busy) {
                write!(f, "  {:>7.0} %  {:>9.0} %", load * 100.0, server * 100.0)?;
            }
            if !row.shares.is_empty() {
                let shares: Vec<_> = row.shares.iter().map(|share| format!("{:.1}", share * 100.0)).collect();
                write!(f, "  shares {} %", shares.join(" : "))?;
            }
            if row.failed > 0 {
                write!(f, "  {} failed", row.failed)?;
            }
            writeln!(f)?;
        }
        if !targets.is_empty() {
            writeln!(f)?;
        }
        for target in targets {
            writeln!(f, "{target}")?;
        }
        if contenders.iter().any(|row| row.load_busy.is_some_and(|busy| busy > LOAD_LIMIT)) {
            writeln!(f, "\nWhere the load is busy all the time, the contender may be capable of more.")?;
        }
        Ok(())
    }
}
