//! The closed sets among JavaScript's values: kinds of views, errors, flags.

/// What a view sees in its bytes. The discriminant is Node's number for it (`lib/v8.js`,
/// `arrayBufferViewTypeToIndex`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ViewKind {
    /// `Int8Array`.
    Int8 = 0,
    /// `Uint8Array`.
    Uint8 = 1,
    /// `Uint8ClampedArray`.
    Uint8Clamped = 2,
    /// `Int16Array`.
    Int16 = 3,
    /// `Uint16Array`.
    Uint16 = 4,
    /// `Int32Array`.
    Int32 = 5,
    /// `Uint32Array`.
    Uint32 = 6,
    /// `Float32Array`.
    Float32 = 7,
    /// `Float64Array`.
    Float64 = 8,
    /// `DataView`.
    DataView = 9,
    /// Node's `Buffer`.
    Buffer = 10,
    /// `BigInt64Array`.
    BigInt64 = 11,
    /// `BigUint64Array`.
    BigUint64 = 12,
    /// `Float16Array`, which Node has from version 24 on.
    Float16 = 13,
}

impl ViewKind {
    pub(crate) const ALL: [Self; 14] = [
        Self::Int8,
        Self::Uint8,
        Self::Uint8Clamped,
        Self::Int16,
        Self::Uint16,
        Self::Int32,
        Self::Uint32,
        Self::Float32,
        Self::Float64,
        Self::DataView,
        Self::Buffer,
        Self::BigInt64,
        Self::BigUint64,
        Self::Float16,
    ];

    /// The size of an element in bytes.
    pub fn element_size(self) -> usize {
        match self {
            Self::Int8 | Self::Uint8 | Self::Uint8Clamped | Self::DataView | Self::Buffer => 1,
            Self::Int16 | Self::Uint16 | Self::Float16 => 2,
            Self::Int32 | Self::Uint32 | Self::Float32 => 4,
            Self::Float64 | Self::BigInt64 | Self::BigUint64 => 8,
        }
    }

    /// Whether its elements are plain bytes.
    pub fn is_bytes(self) -> bool {
        matches!(self, Self::Uint8 | Self::Uint8Clamped | Self::DataView | Self::Buffer)
    }
}

/// Which of the standard errors it is. An error of another class arrives as [`ErrorKind::Error`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// `Error`.
    #[default]
    Error,
    /// `EvalError`.
    Eval,
    /// `RangeError`.
    Range,
    /// `ReferenceError`.
    Reference,
    /// `SyntaxError`.
    Syntax,
    /// `TypeError`.
    Type,
    /// `URIError`.
    Uri,
}

impl ErrorKind {
    /// The error's `name`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "Error",
            Self::Eval => "EvalError",
            Self::Range => "RangeError",
            Self::Reference => "ReferenceError",
            Self::Syntax => "SyntaxError",
            Self::Type => "TypeError",
            Self::Uri => "URIError",
        }
    }
}

/// V8's bits for the flags of a regular expression, in the order in which JavaScript writes them.
const FLAGS: [(char, u32); 8] = [
    ('d', 1 << 7),
    ('g', 1),
    ('i', 1 << 1),
    ('m', 1 << 2),
    ('s', 1 << 5),
    ('u', 1 << 4),
    ('v', 1 << 8),
    ('y', 1 << 3),
];

/// The bits of `flags`; `None` if one of them is unknown or there twice.
pub(crate) fn flag_bits(flags: &str) -> Option<u32> {
    flags.chars().try_fold(0, |bits, flag| {
        let (_, bit) = FLAGS.iter().find(|(name, _)| *name == flag)?;
        (bits & bit == 0).then_some(bits | bit)
    })
}

/// The flags as JavaScript writes them; `None` if a bit is unknown.
pub(crate) fn flag_text(bits: u32) -> Option<String> {
    let known = FLAGS.iter().fold(0, |known, (_, bit)| known | bit);
    let text = || FLAGS.iter().filter(|(_, bit)| bits & bit != 0).map(|(name, _)| *name).collect();
    (bits & !known == 0).then(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_stand_at_their_numbers() {
        assert!(ViewKind::ALL.iter().enumerate().all(|(number, kind)| *kind as usize == number));
    }

    #[test]
    fn flags_have_one_order() {
        assert_eq!(flag_bits("yg").and_then(flag_text).as_deref(), Some("gy"));
        assert_eq!(flag_bits("dgimsuvy").map(|bits| bits | 1 << 6), Some(0x1ff));
        assert_eq!((flag_bits("gg"), flag_bits("l"), flag_text(1 << 6)), (None, None, None));
    }
}
