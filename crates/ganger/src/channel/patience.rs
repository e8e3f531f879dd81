//! Whether it does any good to let others on our CPU run.

use std::time::Duration;

use ganger_proto::Time;

/// Who lets others run means those who have something for us. Where strangers have the CPU as well, each of them takes a
/// turn first, as long as the scheduler finds fair. So whoever had to wait long for little does not try again for a while.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// Not before then.
    next: Time,
    /// How long it was, or is, until then.
    pause: Duration,
}

/// Those whom we mean are done sooner, if they do not have much to do: a turn lasts 3 ms or so, and they are a few.
const LATE: Duration = Duration::from_millis(10);
/// What a late return is worth for each answer that is there by then: a Node worker takes less for a connection and its request.
const ANSWER: Duration = Duration::from_micros(800);
/// The first pause. Each that comes soon after another is twice as long, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);

impl Patience {
    /// Whether others may be let run.
    pub(crate) fn allows(&self, now: Time) -> bool {
        now >= self.next
    }

    /// Others were let run since then, and what was waited for brought so many answers.
    pub(crate) fn handle_return(&mut self, since: Time, now: Time, answers: u32) {
        if now - since <= LATE.max(ANSWER.saturating_mul(answers)) {
            return;
        }
        // It is as it was before the pause, unless it did well for as long as that.
        let again = self.pause > Duration::ZERO && now < self.next + self.pause;
        self.pause = if again { (self.pause * 2).min(LONGEST) } else { SHORTEST };
        self.next = now + self.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begins to let others run as soon as that is allowed and so much later; how long is it then not allowed?
    fn pause(patience: &mut Patience, later: Duration, took: Duration, answers: u32) -> Duration {
        let since = patience.next + later;
        assert!(patience.allows(since));
        let now = since + took;
        patience.handle_return(since, now, answers);
        assert_eq!(patience.allows(now), patience.next <= now);
        patience.next - now
    }

    #[test]
    fn who_waits_long_for_little_pauses() {
        let late = LATE + Duration::from_micros(1);
        for (took, answers, good) in [
            (LATE, 0, true),
            (late, 0, false),
            (late, 12, false),
            (late, 13, true),
            (ANSWER * 64, 64, true),
            (ANSWER * 65, 64, false),
        ] {
            let pause = pause(&mut Patience::default(), Duration::ZERO, took, answers);
            assert_eq!(pause == Duration::ZERO, good, "{answers} answers after {took:?}");
        }
    }

    #[test]
    fn the_pause_doubles_up_to_a_second_until_it_did_well_for_as_long() {
        let mut patience = Patience::default();
        let mut late = |later| pause(&mut patience, later, LATE * 2, 0).as_millis();
        let pauses = [(); 6].map(|()| late(Duration::ZERO));
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(late(LONGEST - LATE * 3), 1000, "it did well for a moment only");
        assert_eq!(late(LONGEST), 100, "it is well again");
        assert_eq!(late(Duration::ZERO), 200);
    }
}
