//! JavaScript's integers of any size.

/// A bigint: sign and magnitude.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BigInt {
    /// Zero is not negative.
    negative: bool,
    /// Least significant first, the last one not 0.
    digits: Box<[u64]>,
}

/// A bigint that the integer type does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a bigint out of range")]
pub struct OutOfRange;

impl BigInt {
    /// The integer of this sign and these digits to base 2⁶⁴, least significant first.
    pub fn new(negative: bool, digits: &[u64]) -> Self {
        let length = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        Self { negative: negative && length > 0, digits: digits[..length].into() }
    }

    /// Whether it is less than zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// The magnitude to base 2⁶⁴, least significant digit first, without leading zeros.
    pub fn digits(&self) -> &[u64] {
        &self.digits
    }

    /// The integer of this sign and magnitude, least significant byte first.
    pub(crate) fn from_bytes(negative: bool, bytes: &[u8]) -> Self {
        let digit = |chunk: &[u8]| {
            let mut digit = [0; 8];
            digit[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(digit)
        };
        Self::new(negative, &bytes.chunks(8).map(digit).collect::<Vec<_>>())
    }

    fn magnitude(&self) -> Result<u128, OutOfRange> {
        match *self.digits {
            [] => Ok(0),
            [low] => Ok(low.into()),
            [low, high] => Ok(u128::from(high) << 64 | u128::from(low)),
            _ => Err(OutOfRange),
        }
    }
}

impl From<u128> for BigInt {
    fn from(number: u128) -> Self {
        Self::new(false, &[number as u64, (number >> 64) as u64])
    }
}

impl From<i128> for BigInt {
    fn from(number: i128) -> Self {
        Self { negative: number < 0, ..number.unsigned_abs().into() }
    }
}

impl From<u64> for BigInt {
    fn from(number: u64) -> Self {
        u128::from(number).into()
    }
}

impl From<i64> for BigInt {
    fn from(number: i64) -> Self {
        i128::from(number).into()
    }
}

impl TryFrom<&BigInt> for u128 {
    type Error = OutOfRange;
    fn try_from(number: &BigInt) -> Result<Self, OutOfRange> {
        if number.negative { Err(OutOfRange) } else { number.magnitude() }
    }
}

impl TryFrom<&BigInt> for i128 {
    type Error = OutOfRange;
    fn try_from(number: &BigInt) -> Result<Self, OutOfRange> {
        let magnitude = number.magnitude()?;
        let signed =
            if number.negative { 0i128.checked_sub_unsigned(magnitude) } else { magnitude.try_into().ok() };
        signed.ok_or(OutOfRange)
    }
}

impl TryFrom<&BigInt> for u64 {
    type Error = OutOfRange;
    fn try_from(number: &BigInt) -> Result<Self, OutOfRange> {
        u128::try_from(number)?.try_into().map_err(|_| OutOfRange)
    }
}

impl TryFrom<&BigInt> for i64 {
    type Error = OutOfRange;
    fn try_from(number: &BigInt) -> Result<Self, OutOfRange> {
        i128::try_from(number)?.try_into().map_err(|_| OutOfRange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_go_in_and_come_out() {
        for number in [0, 1, -1, i128::from(i64::MIN), i128::from(u64::MAX), i128::MIN, i128::MAX] {
            let big = BigInt::from(number);
            assert_eq!(i128::try_from(&big), Ok(number));
            assert_eq!(i64::try_from(&big).ok(), i64::try_from(number).ok());
            assert_eq!(u64::try_from(&big).ok(), u64::try_from(number).ok());
            assert_eq!(u128::try_from(&big).ok(), u128::try_from(number).ok());
        }
        assert_eq!(i128::try_from(&BigInt::from(u128::MAX)), Err(OutOfRange));
        assert_eq!(u128::try_from(&BigInt::new(false, &[0, 0, 1])), Err(OutOfRange));
    }

    #[test]
    fn there_is_one_zero() {
        assert_eq!(BigInt::new(true, &[0, 0]), BigInt::default());
        assert_eq!(BigInt::from_bytes(true, &[1, 0, 0]), BigInt::from(-1i64));
    }
}
