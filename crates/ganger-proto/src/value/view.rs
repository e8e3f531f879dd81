//! What a view sees: the elements of typed arrays.

use super::{ViewKind, number};

/// An element of a typed array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Element {
    Number(f64),
    BigInt(i128),
}

/// The elements of `bytes`; those of a `DataView` are its bytes.
pub(crate) fn elements(kind: ViewKind, bytes: &[u8]) -> impl ExactSizeIterator<Item = Element> + '_ {
    bytes.chunks_exact(kind.element_size()).map(move |chunk| element(kind, chunk))
}

fn element(kind: ViewKind, chunk: &[u8]) -> Element {
    let mut wide = [0; 8];
    wide[..chunk.len()].copy_from_slice(chunk);
    let bits = u64::from_le_bytes(wide);
    // The casts keep the bits that are there.
    Element::Number(match kind {
        ViewKind::Uint8 | ViewKind::Uint8Clamped | ViewKind::DataView | ViewKind::Buffer => bits as f64,
        ViewKind::Uint16 | ViewKind::Uint32 => bits as f64,
        ViewKind::Int8 => f64::from(bits as i8),
        ViewKind::Int16 => f64::from(bits as i16),
        ViewKind::Int32 => f64::from(bits as i32),
        ViewKind::Float16 => number::from_half(bits as u16),
        ViewKind::Float32 => f64::from(f32::from_bits(bits as u32)),
        ViewKind::Float64 => f64::from_bits(bits),
        ViewKind::BigInt64 => return Element::BigInt((bits as i64).into()),
        ViewKind::BigUint64 => return Element::BigInt(bits.into()),
    })
}
