//! Medians, and how far they can be trusted.

/// The confidence that [`median_interval`] reaches at least, if there are enough values for it.
pub(super) const CONFIDENCE: f64 = 0.95;

/// The median; of an even number of values the mean of the middle two.
///
/// # Panics
/// If there are no values.
pub(super) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// The order-statistic interval: between the `k`th smallest and the `k`th largest value lies the true
/// median with at least [`CONFIDENCE`].
///
/// Each value lies below the true median with probability one half, whatever the distribution, so the
/// interval misses it exactly when fewer than `k` of the `n` values lie on one side: with probability
/// 2·P(Binomial(n, ½) < k). `k` is the largest for which this is at most 1 − [`CONFIDENCE`]; of nine
/// values it is 2 (96.1 %). With fewer than six values no `k` is enough, and `k` is 1.
///
/// # Panics
/// If there are no values.
pub(super) fn median_interval(values: &[f64]) -> (f64, f64) {
    let sorted = sorted(values);
    let k = rank(sorted.len());
    (sorted[k - 1], sorted[sorted.len() - k])
}

/// The `k` of [`median_interval`] for `n` values.
fn rank(n: usize) -> usize {
    let mut k = 0;
    // P(Binomial(n, ½) = k), beginning with k = 0, and the sum up to it.
    let mut probability = 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut below = probability;
    while 2.0 * below <= 1.0 - CONFIDENCE {
        k += 1;
        probability *= (n - k + 1) as f64 / k as f64;
        below += probability;
    }
    k.max(1)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    assert!(!values.is_empty(), "statistics of no values");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    /// Against the table of the sign test's critical values.
    #[test]
    fn ranks_are_those_of_the_sign_test() {
        for (n, k) in [(1, 1), (5, 1), (6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (20, 6), (25, 8)] {
            assert_eq!(rank(n), k, "of {n} values");
        }
    }

    #[test]
    fn interval_leaves_one_outlier_of_nine_out() {
        let values = [5.0, 1.0, 9.0, 4.0, 3.0, 2.0, 8.0, 7.0, 6.0];
        assert_eq!(median_interval(&values), (2.0, 8.0));
    }
}
