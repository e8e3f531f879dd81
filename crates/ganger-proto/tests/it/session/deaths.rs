//! Every point of a fixed scenario: of death, of a cut, of moving into another program.

use ganger_proto::session::Order;

use super::joined::{Joined, Outcome, Side};

/// A sends plain messages and handles of both orders, B one handle of its own.
fn scenario() -> Joined {
    let mut joined = Joined::new();
    for order in [None, Some(Order::Pipelined), Some(Order::Pipelined), None, Some(Order::Barrier), None] {
        joined.send(Side::A, 2, order);
    }
    joined.send(Side::B, 2, Some(Order::Barrier));
    joined
}

/// Turns in which each end writes and reads at most `most` bytes, until `turns` have passed or nothing
/// moves any more. Says how many there were.
fn run(joined: &mut Joined, most: usize, turns: usize) -> usize {
    for turn in 0..turns {
        let side = Side::BOTH[turn / 2 % 2];
        let moved = if turn % 2 == 0 {
            joined.transmit(side, most) | joined.receive(side.other(), most, false)
        } else {
            joined.receive(side, most, false) | joined.transmit(side, most)
        };
        let quiet = !moved && !Side::BOTH.iter().any(|side| joined.transmit(*side, most));
        if quiet && turn % 4 == 3 {
            return turn;
        }
    }
    turns
}

#[test]
fn pitfall_25_whoever_dies_whenever_every_handle_has_one_outcome() {
    for most in [1, 7, 50, 64 << 10] {
        let all = run(&mut scenario(), most, usize::MAX);
        let mut seen = Vec::new();
        for (victim, turns) in Side::BOTH.into_iter().flat_map(|victim| (0..=all).map(move |n| (victim, n))) {
            let mut joined = scenario();
            run(&mut joined, most, turns);
            joined.kill(victim);
            joined.run_until_quiet();
            joined.check_outcomes();
            if victim == Side::B {
                let outcomes = joined.outcomes(Side::A);
                let delivered = outcomes.iter().take_while(|outcome| **outcome == Outcome::Delivered).count();
                assert!(outcomes[delivered..].iter().all(|outcome| *outcome == Outcome::Undelivered));
                // Who was acknowledged is known to the receiver, and perhaps one window more.
                assert!((delivered..=outcomes.len()).contains(&joined.received(Side::B).len()));
                seen.push((delivered, joined.received(Side::B).len()));
            }
        }
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.contains(&(0, 0)) && seen.contains(&(3, 3)), "{seen:?}");
        // A handle that had arrived while its ACK had not left or not come.
        assert!(most > 50 || seen.iter().any(|(delivered, received)| delivered < received), "{seen:?}");
    }
}

#[test]
fn pitfall_02_the_cut_does_not_matter() {
    let whole = {
        let mut joined = scenario();
        joined.run_until_quiet();
        joined.check_outcomes();
        joined.received(Side::B).to_vec()
    };
    assert_eq!(whole, [2, 3, 5]);
    for write in 1..200 {
        for read in [1, 2, 3, 64, 200, 64 << 10] {
            let mut joined = scenario();
            let mut moved = true;
            while moved {
                moved = false;
                for side in Side::BOTH {
                    moved |= joined.transmit(side, write);
                    moved |= joined.receive(side.other(), read, false);
                }
            }
            joined.check_outcomes();
            assert_eq!(joined.received(Side::B), whole, "writes of {write}, reads of {read}");
        }
    }
}

#[test]
fn the_state_moves_at_any_point() {
    for most in [5, 64 << 10] {
        let all = run(&mut scenario(), most, usize::MAX);
        for turns in 0..=all {
            let mut joined = scenario();
            run(&mut joined, most, turns);
            Side::BOTH.iter().for_each(|side| joined.take_out_and_put_back(*side));
            joined.run_until_quiet();
            joined.check_outcomes();
            assert_eq!(joined.outcomes(Side::A), [Outcome::Delivered; 3], "moved after {turns} turns");
        }
    }
}

#[test]
fn a_lost_descriptor_is_sent_again_three_times_or_given_back_at_once() {
    for (order, losses, outcome) in [
        (Order::Barrier, 3, Outcome::Delivered),
        (Order::Barrier, 4, Outcome::Returned),
        (Order::Pipelined, 1, Outcome::Returned),
    ] {
        let mut joined = Joined::new();
        joined.send(Side::A, 0, Some(order));
        joined.send(Side::A, 0, None);
        for _ in 0..losses {
            assert!(joined.transmit(Side::A, usize::MAX));
            assert!(joined.receive(Side::B, 64 << 10, true));
            assert!(joined.transmit(Side::B, usize::MAX));
            assert!(joined.receive(Side::A, 64 << 10, false));
        }
        joined.run_until_quiet();
        joined.check_outcomes();
        assert_eq!(joined.outcomes(Side::A), [outcome], "{order:?} lost {losses} times");
    }
}
