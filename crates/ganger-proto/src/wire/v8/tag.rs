//! The bytes that say what follows.

use crate::value::{ErrorKind, ViewKind};

pub(super) const VERSION: u8 = 0xff;
pub(super) const PADDING: u8 = 0;
pub(super) const OBJECT_COUNT: u8 = b'?';
pub(super) const UNDEFINED: u8 = b'_';
pub(super) const NULL: u8 = b'0';
pub(super) const TRUE: u8 = b'T';
pub(super) const FALSE: u8 = b'F';
pub(super) const INT32: u8 = b'I';
pub(super) const UINT32: u8 = b'U';
pub(super) const DOUBLE: u8 = b'N';
pub(super) const BIGINT: u8 = b'Z';
pub(super) const LATIN1: u8 = b'"';
pub(super) const UTF16: u8 = b'c';
pub(super) const UTF8: u8 = b'S';
pub(super) const REFERENCE: u8 = b'^';
pub(super) const OBJECT: u8 = b'o';
pub(super) const OBJECT_END: u8 = b'{';
pub(super) const ARRAY: u8 = b'A';
pub(super) const ARRAY_END: u8 = b'$';
pub(super) const HOLE: u8 = b'-';
pub(super) const SPARSE: u8 = b'a';
pub(super) const SPARSE_END: u8 = b'@';
pub(super) const DATE: u8 = b'D';
pub(super) const BOXED_TRUE: u8 = b'y';
pub(super) const BOXED_FALSE: u8 = b'x';
pub(super) const BOXED_NUMBER: u8 = b'n';
pub(super) const BOXED_BIGINT: u8 = b'z';
pub(super) const BOXED_STRING: u8 = b's';
pub(super) const REGEXP: u8 = b'R';
pub(super) const MAP: u8 = b';';
pub(super) const MAP_END: u8 = b':';
pub(super) const SET: u8 = b'\'';
pub(super) const SET_END: u8 = b',';
pub(super) const ARRAY_BUFFER: u8 = b'B';
pub(super) const RESIZABLE: u8 = b'~';
pub(super) const WINDOW: u8 = b'V';
pub(super) const ERROR: u8 = b'r';
pub(super) const ERROR_MESSAGE: u8 = b'm';
pub(super) const ERROR_STACK: u8 = b's';
pub(super) const ERROR_CAUSE: u8 = b'c';
pub(super) const ERROR_END: u8 = b'.';
pub(super) const HOST: u8 = b'\\';

/// Node's own tag of a host object that is a view (`kArrayBufferViewTag`).
pub(super) const HOST_VIEW: u32 = 0;
/// Node's own tag of any other one, which follows as a plain object (`kNotArrayBufferViewTag`).
pub(super) const HOST_OTHER: u32 = 1;

/// V8's own tags of views, which Node reads and does not write; it has none for Node's `Buffer`.
const WINDOWS: [(ViewKind, u8); 13] = [
    (ViewKind::Int8, b'b'),
    (ViewKind::Uint8, b'B'),
    (ViewKind::Uint8Clamped, b'C'),
    (ViewKind::Int16, b'w'),
    (ViewKind::Uint16, b'W'),
    (ViewKind::Int32, b'd'),
    (ViewKind::Uint32, b'D'),
    (ViewKind::Float16, b'h'),
    (ViewKind::Float32, b'f'),
    (ViewKind::Float64, b'F'),
    (ViewKind::BigInt64, b'q'),
    (ViewKind::BigUint64, b'Q'),
    (ViewKind::DataView, b'?'),
];

pub(super) fn window_tag(kind: ViewKind) -> u8 {
    WINDOWS.iter().find(|(known, _)| *known == kind).map_or(b'B', |(_, tag)| *tag)
}

pub(super) fn window_kind(tag: u8) -> Option<ViewKind> {
    WINDOWS.iter().find(|(_, known)| *known == tag).map(|(kind, _)| *kind)
}

/// The prototypes of errors; `Error` itself goes without.
const ERRORS: [(ErrorKind, u8); 6] = [
    (ErrorKind::Eval, b'E'),
    (ErrorKind::Range, b'R'),
    (ErrorKind::Reference, b'F'),
    (ErrorKind::Syntax, b'S'),
    (ErrorKind::Type, b'T'),
    (ErrorKind::Uri, b'U'),
];

pub(super) fn error_class(kind: ErrorKind) -> Option<u8> {
    ERRORS.iter().find(|(known, _)| *known == kind).map(|(_, tag)| *tag)
}

pub(super) fn error_kind(tag: u8) -> Option<ErrorKind> {
    ERRORS.iter().find(|(_, known)| *known == tag).map(|(kind, _)| *kind)
}
