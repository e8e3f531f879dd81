//! Frames: how bytes become lines and lines become fields. What the fields mean is [`crate::node`]'s.

pub mod json;
