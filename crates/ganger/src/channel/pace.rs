//! How fast messages come that nobody answers.

use std::time::Duration;

/// Whether somebody only talks, and faster than we can be woken.
///
/// A reader that shares its CPU with the writer is woken by each write, in the place of the writer: two switches a message.
/// It does better to let the writer write as long as the scheduler finds fair, and to read then all that there is.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// So many reads were waited for hardly at all, up to [`MANY`].
    quick: u8,
}

/// Who waits less than this for the next message is in the middle of a stream.
const CLOSE: Duration = Duration::from_micros(100);
/// So many of such waits are a flood: no burst of a few messages is held up by anything.
const MANY: u8 = 32;

impl Pace {
    /// Notes how long something was waited for; none if what came before it was answered.
    pub(crate) fn is_flood(&mut self, waited: Option<Duration>) -> bool {
        let quick = waited.is_some_and(|waited| waited < CLOSE);
        self.quick = if quick { self.quick.saturating_add(1).min(MANY) } else { 0 };
        self.quick == MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_many_messages_in_a_row_without_an_answer() {
        let mut pace = Pace::default();
        let quick = Some(CLOSE / 2);
        for slow in [None, Some(CLOSE)] {
            assert!((1..MANY).all(|_| !pace.is_flood(quick)));
            assert!(pace.is_flood(quick) && pace.is_flood(quick));
            assert!(!pace.is_flood(slow), "it was answered, or has paused");
        }
        assert!(!pace.is_flood(quick));
    }
}
