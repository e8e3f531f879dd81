//! The schedules: the ranked ones against a list that is searched from the front, the sticky one by what it promises.

use std::collections::BTreeMap;

use ganger_proto::{
    Slot, WorkerId,
    cluster::{
        Client,
        schedule::{LeastConn, Load, RoundRobin, Schedule, Sticky, Wanted},
    },
};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

#[derive(Clone, Debug)]
enum Operation {
    Added(u32, Load),
    Removed(u32),
    Changed(u32, Load),
    /// Picks, with these workers excluded, and hands over.
    Dispatch([bool; WORKERS as usize]),
}

const WORKERS: u32 = 5;

fn operation() -> impl Strategy<Value = Operation> {
    let worker = || 0..WORKERS;
    let load =
        || (0u32..5, 0u32..4, 0u32..6).prop_map(|(window, under_way, open)| load(0, window, under_way, open));
    prop_oneof![
        1 => (worker(), load()).prop_map(|(worker, load)| Operation::Added(worker, load)),
        1 => worker().prop_map(Operation::Removed),
        5 => (worker(), load()).prop_map(|(worker, load)| Operation::Changed(worker, load)),
        6 => any::<[bool; WORKERS as usize]>().prop_map(Operation::Dispatch),
    ]
}

fn load(slot: u32, window: u32, under_way: u32, open: u32) -> Load {
    Load { slot: Slot(slot), window, under_way, open }
}

fn wanted(client: Client) -> Wanted<'static> {
    Wanted { client, refused_by: &[], stalled: &|_| false, silent: &|_| false, pressed: false }
}

/// Members in the order of their last change, the longest unchanged first.
#[derive(Default)]
struct Naive(Vec<(u32, Load)>);

impl Naive {
    fn added(&mut self, worker: u32, load: Load) {
        self.0.retain(|(id, _)| *id != worker);
        self.0.push((worker, load));
    }

    fn changed(&mut self, worker: u32, load: Load) {
        if self.load(worker).is_some() {
            self.added(worker, load);
        }
    }

    fn load(&self, worker: u32) -> Option<Load> {
        self.0.iter().find(|(id, _)| *id == worker).map(|(_, load)| *load)
    }

    /// The lowest with room; of several, the first.
    fn pick(&self, excluded: &[bool], rank: fn(Load) -> u32) -> Option<u32> {
        let may = |(id, load): &&(u32, Load)| load.has_room() && !excluded[*id as usize];
        self.0.iter().filter(may).min_by_key(|(_, load)| rank(*load)).map(|(id, _)| *id)
    }
}

fn is_the_naive_list<S>(operations: Vec<Operation>, rank: fn(Load) -> u32) -> Result<(), TestCaseError>
where
    S: Schedule + Default + Serialize + DeserializeOwned,
{
    let (mut schedule, mut naive) = (S::default(), Naive::default());
    for operation in operations {
        match operation {
            Operation::Added(worker, load) => {
                schedule.added(WorkerId(worker), load);
                naive.added(worker, load);
            }
            Operation::Removed(worker) => {
                schedule.removed(WorkerId(worker));
                naive.0.retain(|(id, _)| *id != worker);
            }
            Operation::Changed(worker, load) => {
                schedule.changed(WorkerId(worker), load);
                naive.changed(worker, load);
            }
            Operation::Dispatch(excluded) => {
                let stalled = |worker: WorkerId| excluded[worker.0 as usize];
                let wanted = Wanted { stalled: &stalled, ..wanted(Client::Anyone) };
                let picked = schedule.pick(&wanted).map(|worker| worker.0);
                prop_assert_eq!(picked, naive.pick(&excluded, rank));
                if let Some(load) = picked.and_then(|worker| naive.load(worker)) {
                    let load = Load { under_way: load.under_way + 1, ..load };
                    schedule.changed(WorkerId(picked.unwrap()), load);
                    naive.changed(picked.unwrap(), load);
                }
            }
        }
        // Its state can be taken out and put back at any time.
        let text = serde_json::to_string(&schedule).expect("plain data");
        schedule = serde_json::from_str(&text).expect("what was written is read");
    }
    Ok(())
}

proptest! {
    #[test]
    fn round_robin_is_the_naive_list(operations in prop::collection::vec(operation(), 0..200)) {
        is_the_naive_list::<RoundRobin>(operations, |load| load.under_way)?;
    }

    #[test]
    fn least_conn_is_the_naive_list(operations in prop::collection::vec(operation(), 0..200)) {
        is_the_naive_list::<LeastConn>(operations, |load| load.open + load.under_way)?;
    }

    #[test]
    fn a_slot_that_goes_takes_only_its_own_clients(slots in 2u32..40, gone in any::<prop::sample::Index>()) {
        let mut schedule = gang(slots);
        let before = shares(&schedule);
        let gone = WorkerId(gone.index(slots as usize) as u32);
        schedule.removed(gone);
        let without = shares(&schedule);
        for (client, worker) in &before {
            if *worker != gone {
                prop_assert_eq!(without[client], *worker);
            }
        }
        // Its successor has another number and the same slot.
        schedule.added(WorkerId(1000), load(gone.0, 32, 0, 0));
        for (client, worker) in &shares(&schedule) {
            let expected = if before[client] == gone { WorkerId(1000) } else { before[client] };
            prop_assert_eq!(*worker, expected);
        }
    }
}

/// As many workers as slots, with the same numbers.
fn gang(slots: u32) -> Sticky {
    let mut schedule = Sticky::default();
    (0..slots).for_each(|slot| schedule.added(WorkerId(slot), load(slot, 32, 0, 0)));
    schedule
}

/// Where two hundred clients go.
fn shares(schedule: &Sticky) -> BTreeMap<u32, WorkerId> {
    let pick = |client: u32| {
        let wanted = wanted(Client::known(&client.to_be_bytes()));
        (client, schedule.pick(&wanted).expect("everybody has room"))
    };
    (0..200).map(pick).collect()
}

#[test]
fn clients_are_spread_over_the_slots() {
    let mut schedule = gang(8);
    let mut counts = BTreeMap::new();
    for client in 0..8000u32 {
        let wanted = wanted(Client::known(&client.to_be_bytes()));
        *counts.entry(schedule.pick(&wanted)).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 8);
    // Eight standard deviations.
    assert!(counts.values().all(|count| (760..1240).contains(count)), "{counts:?}");
    // Those of nobody in particular take turns.
    for expected in [0, 1, 2] {
        let worker = schedule.pick(&wanted(Client::Anyone));
        assert_eq!(worker, Some(WorkerId(expected)));
        schedule.changed(WorkerId(expected), load(expected, 32, 0, 0));
    }
}

#[test]
fn a_client_waits_for_its_worker_unless_that_one_refused_or_fell_silent_or_too_many_wait() {
    let mut schedule = gang(4);
    let client = Client::known(b"somebody");
    let home = schedule.pick(&wanted(client)).unwrap();
    let stalled = |worker: WorkerId| worker == home;
    assert_eq!(schedule.pick(&Wanted { stalled: &stalled, ..wanted(client) }), None);
    let pressed = schedule.pick(&Wanted { stalled: &stalled, pressed: true, ..wanted(client) });
    let refused = schedule.pick(&Wanted { refused_by: &[home], ..wanted(client) });
    assert!(pressed.is_some() && pressed != Some(home));
    assert_eq!(refused, pressed, "the next in line is always the same");
    let silent = schedule.pick(&Wanted { stalled: &stalled, silent: &stalled, ..wanted(client) });
    assert_eq!(silent, pressed, "nor for one that has fallen silent");
    schedule.changed(home, load(home.0, 32, 32, 0));
    assert_eq!(schedule.pick(&wanted(client)), None, "it has no room");
    let in_press = |client| Wanted { pressed: true, ..wanted(client) };
    assert_eq!(schedule.pick(&in_press(client)), pressed, "too many wait for it");
    assert_eq!(schedule.pick(&in_press(Client::Of(Slot(home.0)))).map(|worker| worker == home), Some(false));
    (0..4).for_each(|slot| schedule.changed(WorkerId(slot), load(slot, 32, 32, 0)));
    assert_eq!(schedule.pick(&in_press(client)), None, "nobody has room");
    schedule.changed(home, load(home.0, 32, 31, 0));
    assert_eq!(schedule.pick(&wanted(client)), Some(home));
}

#[test]
fn of_two_workers_in_a_slot_the_newer_one_gets_the_clients() {
    let mut schedule = gang(2);
    schedule.added(WorkerId(7), load(1, 32, 0, 0));
    assert_eq!(schedule.pick(&wanted(Client::Of(Slot(1)))), Some(WorkerId(7)));
    schedule.removed(WorkerId(7));
    assert_eq!(schedule.pick(&wanted(Client::Of(Slot(1)))), Some(WorkerId(1)));
    // A slot that there is no more is a name like any other.
    let elsewhere = schedule.pick(&wanted(Client::Of(Slot(9))));
    assert!(elsewhere.is_some());
    assert_eq!(schedule.pick(&wanted(Client::Of(Slot(9)))), elsewhere);
}
