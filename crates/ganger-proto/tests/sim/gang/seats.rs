//! Who is in which slot, as it follows from what the guard and the primary were told and want: the book against which both
//! are checked.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ganger_proto::{
    Slot, Time, WorkerId,
    guard::{Limit, Restart},
};

/// As the guard promises; of the shortest pause the time is left out in which one that was killed is reaped.
const YOUNG: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE: Duration = Duration::from_millis(80 - 30);
const SPACE: Duration = Duration::from_secs(1);
const HOPELESS: (usize, Duration) = (8, Duration::from_secs(60));

#[derive(Debug)]
pub(crate) struct Seats {
    seats: Vec<Seat>,
    /// Who is in dispatch, and how that is to end.
    dispatched: BTreeMap<(Slot, WorkerId), Until>,
    restart: Restart,
    limit: Option<Limit>,
    /// The last restarts after deaths in good age.
    restarts: VecDeque<Time>,
    was_ready: bool,
}

#[derive(Debug, Default)]
struct Seat {
    /// Who is wanted in it.
    occupant: Option<Occupant>,
    /// Who is to take over from the occupant.
    heir: Option<Occupant>,
    /// How and when it became vacant.
    vacated: Option<(Time, Age)>,
    young_deaths: VecDeque<Time>,
    /// Nobody is to fill it; whether the last one failed.
    over: Option<bool>,
    /// So it was before a reload that fills it: so it is again if that comes to nothing.
    was_over: Option<bool>,
    /// The last one was started because of another's memory or age, and so fills the slot whatever becomes of that one.
    recycles: bool,
}

#[derive(Debug)]
struct Occupant {
    worker: WorkerId,
    ready: Option<Time>,
    /// Whether it has said anything: of one that knows nothing of its channel the guard does not expect that it keeps it.
    online: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Young,
    Good,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// For as long as it is good.
    Further,
    /// It is being killed.
    Dead,
}

impl Seats {
    pub(crate) fn new(size: usize, restart: Restart, limit: Option<Limit>) -> Self {
        let seats = (0..size).map(|_| Seat::default()).collect();
        Self {
            seats,
            dispatched: BTreeMap::new(),
            restart,
            limit,
            restarts: VecDeque::new(),
            was_ready: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    /// There are more slots, or fewer; all of them are to be filled.
    pub(crate) fn scaled(&mut self, size: usize) {
        self.seats.resize_with(size, Seat::default);
        self.seats.iter_mut().for_each(|seat| (seat.over, seat.was_over) = (None, None));
    }

    /// How many are filled, or are to be.
    pub(crate) fn wanted(&self) -> usize {
        self.seats.iter().filter(|seat| seat.over.is_none()).count()
    }

    /// Those whose last worker failed, if nobody is to fill any.
    pub(crate) fn over(&self) -> Option<usize> {
        let failed: Option<Vec<bool>> = self.seats.iter().map(|seat| seat.over).collect();
        Some(failed?.into_iter().filter(|failed| *failed).count())
    }

    /// Whether a worker that is ill keeps its seat to its end.
    pub(crate) fn are_kept_by_the_ill(&self) -> bool {
        self.restart != Restart::Always
    }

    fn get(&mut self, slot: Slot) -> Option<&mut Seat> {
        self.seats.get_mut(slot.0 as usize)
    }

    /// The occupant or the heir, if that is who it is.
    fn find(&mut self, slot: Slot, worker: WorkerId) -> Option<&mut Occupant> {
        let seat = self.get(slot)?;
        [&mut seat.occupant, &mut seat.heir].into_iter().flatten().find(|there| there.worker == worker)
    }

    /// Since when it is ready.
    pub(crate) fn ready_since(&mut self, slot: Slot, worker: WorkerId) -> Option<Time> {
        self.find(slot, worker)?.ready
    }

    /// Whoever is in this slot.
    pub(crate) fn occupant(&self, slot: Slot) -> Option<WorkerId> {
        self.seats.get(slot.0 as usize)?.occupant.as_ref().map(|occupant| occupant.worker)
    }

    /// Who is in dispatch, slot by slot.
    pub(crate) fn dispatched(&self) -> impl Iterator<Item = (Slot, WorkerId)> {
        self.dispatched.keys().copied()
    }

    pub(crate) fn is_dispatched(&self, slot: Slot, worker: WorkerId) -> bool {
        self.dispatched.contains_key(&(slot, worker))
    }

    /// How many have a ready worker in dispatch, or one that knows nothing of that.
    pub(crate) fn ready(&self) -> usize {
        let ready = |(slot, seat): &(Slot, &Seat)| {
            seat.occupant.as_ref().is_some_and(|occupant| {
                let there = self.is_dispatched(*slot, occupant.worker) || !occupant.online;
                occupant.ready.is_some() && there
            })
        };
        (0..).map(Slot).zip(&self.seats).filter(ready).count()
    }

    /// Whether anybody ever was.
    pub(crate) fn was_ready(&self) -> bool {
        self.was_ready
    }

    /// The guard wants the slot filled. Who is to take over from somebody, or is for a reload, waits for nothing.
    pub(crate) fn starts(&mut self, now: Time, slot: Slot, unwaited: bool, recycles: bool) {
        let seat = self.get(slot).unwrap_or_else(|| panic!("there is no slot {slot}"));
        let free = seat.heir.is_none() && (unwaited || seat.occupant.is_none());
        assert!(free, "slot {slot} is to have one worker more: {seat:?}");
        let over = seat.over.take();
        assert!(over.is_none() || unwaited, "slot {slot} was to stay vacant");
        (seat.was_over, seat.recycles) = (over, recycles);
        match seat.vacated.take().filter(|_| !unwaited) {
            None => {}
            Some((since, Age::Young)) => {
                assert!(now - since >= SHORTEST_PAUSE, "slot {slot} is filled at once after a young death");
            }
            Some((_, Age::Good)) => self.restarts(now),
        }
        let others = self.dispatched.range((slot, WorkerId(0))..=(slot, WorkerId(u32::MAX)));
        let others = others.filter(|(_, until)| **until == Until::Further).count();
        assert!(others <= usize::from(unwaited), "slot {slot} has {others} workers in dispatch already");
    }

    /// Above the limit restarts are apart.
    fn restarts(&mut self, now: Time) {
        let Some(limit) = self.limit else { return };
        while self.restarts.front().is_some_and(|first| now - *first > limit.within) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= limit.count as usize
            && let Some(last) = self.restarts.back()
        {
            assert!(now - *last >= SPACE, "{limit:?} is passed, and the restarts are not apart");
        }
        self.restarts.push_back(now);
    }

    pub(crate) fn started(&mut self, slot: Slot, worker: WorkerId) {
        self.dispatched.insert((slot, worker), Until::Further);
        if let Some(seat) = self.get(slot) {
            let place = if seat.occupant.is_none() { &mut seat.occupant } else { &mut seat.heir };
            *place = Some(Occupant { worker, ready: None, online: false });
        }
    }

    pub(crate) fn start_failed(&mut self, now: Time, slot: Slot) {
        if self.occupant(slot).is_none() {
            self.vacate(now, slot, Age::Young);
        }
    }

    pub(crate) fn is_online(&mut self, slot: Slot, worker: WorkerId) {
        if let Some(there) = self.find(slot, worker) {
            there.online = true;
        }
    }

    /// It is ready; an heir takes over.
    pub(crate) fn is_ready(&mut self, now: Time, slot: Slot, worker: WorkerId) {
        self.was_ready = true;
        if let Some(there) = self.find(slot, worker) {
            there.ready = Some(now);
            self.get(slot).into_iter().for_each(|seat| seat.was_over = None);
        }
        if let Some(seat) = self.get(slot)
            && let Some(heir) = seat.heir.take_if(|heir| heir.worker == worker)
        {
            seat.occupant = Some(heir);
        }
    }

    /// Since when this occupant is ready, if it gets whoever comes.
    pub(crate) fn good_since(&self, slot: Slot, worker: WorkerId) -> Option<Time> {
        let occupant = self.seats.get(slot.0 as usize)?.occupant.as_ref()?;
        let further = self.dispatched.get(&(slot, worker)) == Some(&Until::Further);
        let is_good = occupant.worker == worker && (further || !occupant.online);
        occupant.ready.filter(|_| is_good)
    }

    pub(crate) fn has_heirs(&self) -> bool {
        self.seats.iter().any(|seat| seat.heir.is_some())
    }

    /// Whether this worker is to take over in the slot.
    pub(crate) fn is_heir(&self, slot: Slot, worker: WorkerId) -> bool {
        let heir = self.seats.get(slot.0 as usize).and_then(|seat| seat.heir.as_ref());
        heir.is_some_and(|heir| heir.worker == worker)
    }

    /// The primary gives it no connections any more.
    pub(crate) fn out_of_dispatch(&mut self, slot: Slot, worker: WorkerId) {
        self.dispatched.remove(&(slot, worker));
    }

    /// It is being killed, and an heir comes to nothing.
    pub(crate) fn killed(&mut self, slot: Slot, worker: WorkerId) {
        if let Some(until) = self.dispatched.get_mut(&(slot, worker)) {
            *until = Until::Dead;
        }
        self.heir_leaves(slot, worker);
        // One that was to fill a vacant slot and did not get ready: nobody else is to.
        let last = (self.restart == Restart::No).then_some(true);
        let new = |occupant: &mut Occupant| occupant.worker == worker && occupant.ready.is_none();
        if let Some(seat) = self.get(slot).filter(|seat| seat.was_over.or(last).is_some())
            && seat.occupant.take_if(new).is_some()
        {
            seat.occupant = seat.heir.take();
            seat.over = seat.was_over.take().or(last).filter(|_| seat.occupant.is_none());
        }
    }

    /// It is dead. `last`: its program does not want to be started again.
    pub(crate) fn ends(&mut self, now: Time, slot: Slot, worker: WorkerId, code: i32, last: bool) {
        let held = self.occupant(slot) == Some(worker);
        self.leaves(now, slot, worker);
        let last = last || self.restart == Restart::No || (self.restart == Restart::OnFailure && code == 0);
        let Some(seat) = self.get(slot).filter(|_| last && held) else { return };
        if seat.occupant.is_some() {
            seat.was_over = (!seat.recycles).then_some(code != 0);
        } else {
            seat.over.get_or_insert(code != 0);
            seat.vacated = None;
        }
    }

    /// It is dead, or ill and to be replaced, or was dismissed.
    pub(crate) fn leaves(&mut self, now: Time, slot: Slot, worker: WorkerId) {
        self.heir_leaves(slot, worker);
        let Some(seat) = self.get(slot) else { return };
        if let Some(Occupant { ready, .. }) = seat.occupant.take_if(|occupant| occupant.worker == worker) {
            seat.occupant = seat.heir.take();
            if seat.occupant.is_none() {
                let young = ready.is_none_or(|ready| now - ready < YOUNG);
                self.vacate(now, slot, if young { Age::Young } else { Age::Good });
            }
        }
    }

    fn heir_leaves(&mut self, slot: Slot, worker: WorkerId) {
        if let Some(seat) = self.get(slot) {
            seat.heir.take_if(|heir| heir.worker == worker);
        }
    }

    fn vacate(&mut self, now: Time, slot: Slot, age: Age) {
        let Some(seat) = self.get(slot) else { return };
        seat.over = seat.was_over.take();
        if seat.over.is_some() {
            return;
        }
        seat.vacated = Some((now, age));
        if age == Age::Young {
            seat.young_deaths.push_back(now);
        }
    }

    /// Whether its workers die as fast as they are started.
    pub(crate) fn is_hopeless(&self, now: Time, slot: Slot) -> bool {
        let (deaths, within) = HOPELESS;
        let young_deaths = self.seats.get(slot.0 as usize).map(|seat| &seat.young_deaths);
        let recent = young_deaths.into_iter().flatten().filter(|death| now - **death <= within);
        recent.count() >= deaths
    }
}
