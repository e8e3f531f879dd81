//! Random operations on both ends.

use ganger_proto::session::Order;
use proptest::prelude::*;

use super::joined::{Joined, Side};

#[derive(Clone, Debug)]
enum Operation {
    Send { padding: usize, order: Option<Order> },
    Transmit { most: usize },
    Receive { most: usize, lose: bool },
    TakeOutAndPutBack,
    Disconnect,
    Kill,
}

fn operation() -> impl Strategy<Value = (Side, Operation)> {
    use Operation::{Disconnect, Kill, Receive, Send, TakeOutAndPutBack, Transmit};
    let order = prop_oneof![Just(None), Just(Some(Order::Barrier)), Just(Some(Order::Pipelined))];
    let most = || prop_oneof![1usize..40, 40usize..400, Just(64 << 10)];
    let operation = prop_oneof![
        60 => (0usize..40, order).prop_map(|(padding, order)| Send { padding, order }),
        100 => most().prop_map(|most| Transmit { most }),
        100 => (most(), prop::bool::weighted(0.15)).prop_map(|(most, lose)| Receive { most, lose }),
        20 => Just(TakeOutAndPutBack),
        1 => Just(Disconnect),
        1 => Just(Kill),
    ];
    (prop_oneof![Just(Side::A), Just(Side::B)], operation)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn two_ends_keep_nodes_rules(operations in prop::collection::vec(operation(), 0..150)) {
        let mut joined = Joined::new();
        for (side, operation) in operations {
            match operation {
                Operation::Send { padding, order } => joined.send(side, padding, order),
                Operation::Transmit { most } => drop(joined.transmit(side, most)),
                Operation::Receive { most, lose } => drop(joined.receive(side, most, lose)),
                Operation::TakeOutAndPutBack => joined.take_out_and_put_back(side),
                Operation::Disconnect => joined.disconnect(side),
                Operation::Kill => joined.kill(side),
            }
        }
        joined.run_until_quiet();
        joined.check_outcomes();
    }
}
