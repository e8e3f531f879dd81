//! Frames: how bytes become lines or payloads, and these become fields and values. What they mean is
//! [`crate::node`]'s.

pub mod frames;
pub mod json;
pub mod lane;
pub mod v8;
