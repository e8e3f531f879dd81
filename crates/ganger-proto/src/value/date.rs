//! `Date.prototype.toISOString`.

/// The furthest that a date may be from 1970, in milliseconds.
const FURTHEST: f64 = 8.64e15;
const DAY: i64 = 86_400_000;

/// Milliseconds since 1970 as ISO 8601; `None` for an invalid date.
pub(crate) fn to_iso(milliseconds: f64) -> Option<String> {
    if milliseconds.is_nan() || milliseconds.abs() > FURTHEST {
        return None;
    }
    let total = milliseconds as i64;
    let (days, rest) = (total.div_euclid(DAY), total.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hour, minute, second, milli) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{}{:06}", if year < 0 { '-' } else { '+' }, year.abs()),
    };
    Some(format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"))
}

/// Year, month and day of a day counted from 1970, in the proleptic Gregorian calendar. Years begin in
/// March, so that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day - (153 * march_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_javascript_writes_them() {
        for (milliseconds, text) in [
            (0.0, "1970-01-01T00:00:00.000Z"),
            (-1.0, "1969-12-31T23:59:59.999Z"),
            (1_700_000_000_123.0, "2023-11-14T22:13:20.123Z"),
            (951_782_400_000.0, "2000-02-29T00:00:00.000Z"),
            (253_402_300_800_000.0, "+010000-01-01T00:00:00.000Z"),
            (-62_167_219_200_001.0, "-000001-12-31T23:59:59.999Z"),
            (FURTHEST, "+275760-09-13T00:00:00.000Z"),
        ] {
            assert_eq!(to_iso(milliseconds).as_deref(), Some(text));
        }
        assert_eq!(to_iso(f64::NAN), None);
        assert_eq!(to_iso(FURTHEST + 1.0), None);
    }
}
