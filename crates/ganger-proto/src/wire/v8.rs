//! V8's structured-clone format (`src/objects/value-serializer.cc`), as Node writes it on a channel with
//! `serialization: 'advanced'`.
//!
//! What is written is what Node 18 to 26 write for the same value, byte for byte; what is read is version 13
//! to 15. Nothing of it trusts its input: room is made for what has come and not for what a length claims,
//! nothing recurses, and an error says what is wrong and where.
//!
//! The crate `v8_valueserializer` does not carry us: it refuses host objects, which are what Node makes of
//! every `Buffer` and typed array, recurses no deeper than 256, and takes room for an array by its claimed
//! length at every level.

mod read;
mod serialize;
mod tag;
mod write;

use serde::de::DeserializeOwned;

use crate::value::{self, FromValueError};

pub(crate) use read::is_text_or_view;
pub use read::{ReadError, Wrong, read, read_up_to};
pub use serialize::to_bytes;
pub use write::write;

/// The version that is written, and the newest that is read. The oldest is 13.
pub const VERSION: u32 = 15;

/// A payload that does not give the type that is asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FromBytesError {
    /// It is no value.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is another value.
    #[error(transparent)]
    Value(#[from] FromValueError),
}

/// Reads whatever serde knows as [`from_value`](value::from_value) says.
pub fn from_bytes<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FromBytesError> {
    Ok(value::from_value(&read(payload)?)?)
}
