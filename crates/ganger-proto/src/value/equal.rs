//! When two values are equal: walked in step, each object once.

use super::{Item, Ref, Slot, Value};

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.root() == other.root()
    }
}

impl PartialEq for Ref<'_> {
    fn eq(&self, other: &Self) -> bool {
        let walk = Walk {
            heaps: (*self, *other),
            partners: vec![None; self.heap.items.len()],
            taken: vec![false; other.heap.items.len()],
            pairs: vec![(self.slot, other.slot)],
        };
        walk.run()
    }
}

struct Walk<'a> {
    heaps: (Ref<'a>, Ref<'a>),
    /// Which object on the right stands for one on the left.
    partners: Vec<Option<u32>>,
    /// Whether an object on the right already stands for one.
    taken: Vec<bool>,
    /// What is still to be compared.
    pairs: Vec<(Slot, Slot)>,
}

impl Walk<'_> {
    fn run(mut self) -> bool {
        let heaps = (self.heaps.0.heap, self.heaps.1.heap);
        while let Some((one, other)) = self.pairs.pop() {
            let equal = match (one, other) {
                (Slot::Undefined, Slot::Undefined) | (Slot::Null, Slot::Null) | (Slot::Hole, Slot::Hole) => {
                    true
                }
                (Slot::Bool(one), Slot::Bool(other)) => one == other,
                (Slot::Number(one), Slot::Number(other)) => is_same_number(one, other),
                (Slot::BigInt(one), Slot::BigInt(other)) => heaps.0.bigint(one) == heaps.1.bigint(other),
                (Slot::String(one), Slot::String(other)) => heaps.0.string(one) == heaps.1.string(other),
                (Slot::Object(one), Slot::Object(other)) => self.is_equal_object(one, other),
                _ => false,
            };
            if !equal {
                return false;
            }
        }
        true
    }

    fn is_equal_object(&mut self, one: u32, other: u32) -> bool {
        if let Some(partner) = self.partners[one as usize] {
            return partner == other;
        }
        if std::mem::replace(&mut self.taken[other as usize], true) {
            return false;
        }
        self.partners[one as usize] = Some(other);
        let heaps = (self.heaps.0.heap, self.heaps.1.heap);
        let strings = |one: Option<u32>, other: Option<u32>| {
            one.map(|number| heaps.0.string(number)) == other.map(|number| heaps.1.string(number))
        };
        match (heaps.0.item(one), heaps.1.item(other)) {
            (Item::Object(one), Item::Object(other)) => {
                self.push(&heaps.0.in_order(one), &heaps.1.in_order(other))
            }
            (Item::Sparse { length: n, properties: one }, Item::Sparse { length: m, properties: other }) => {
                n == m && self.push(&heaps.0.in_order(one), &heaps.1.in_order(other))
            }
            (Item::Map(one), Item::Map(other)) | (Item::Set(one), Item::Set(other)) => self.push(one, other),
            (Item::Array { length: n, slots: one }, Item::Array { length: m, slots: other }) => {
                n == m && self.push(one, other)
            }
            (Item::Date(one), Item::Date(other)) => is_same_number(*one, *other),
            (Item::Boxed(one), Item::Boxed(other)) => self.push(&[*one], &[*other]),
            (Item::RegExp { source: one, flags: f }, Item::RegExp { source: other, flags: g }) => {
                strings(Some(*one), Some(*other)) && f == g
            }
            (Item::ArrayBuffer(one), Item::ArrayBuffer(other)) => one == other,
            (Item::Resizable { bytes: one, max: n }, Item::Resizable { bytes: other, max: m }) => {
                one == other && n == m
            }
            (Item::View { kind: one, bytes: n }, Item::View { kind: other, bytes: m }) => {
                one == other && n == m
            }
            (
                Item::Window { kind: k, buffer: one, offset: o, length: n, .. },
                Item::Window { kind: l, buffer: other, offset: p, length: m, .. },
            ) => (k, o, n) == (l, p, m) && self.push(&[Slot::Object(*one)], &[Slot::Object(*other)]),
            (Item::Error(one), Item::Error(other)) => {
                one.kind == other.kind
                    && strings(one.message, other.message)
                    && strings(one.stack, other.stack)
                    && self.push(one.cause.as_slice(), other.cause.as_slice())
            }
            _ => false,
        }
    }

    fn push(&mut self, one: &[Slot], other: &[Slot]) -> bool {
        self.pairs.extend(one.iter().copied().zip(other.iter().copied()));
        one.len() == other.len()
    }
}

/// `Object.is`.
fn is_same_number(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits() || one.is_nan() && other.is_nan()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_object_twice_is_not_two_equal_ones() {
        let twice = Value::array([Value::object([("a", 1)]), Value::object([("a", 1)])]);
        let mut shared = twice.clone();
        assert_eq!(twice, shared);
        let Some(Item::Array { slots, .. }) = shared.heap.items.last_mut() else { unreachable!() };
        slots[1] = slots[0];
        assert_eq!(shared, shared.clone());
        assert_ne!(twice, shared);
        assert_ne!(shared, twice);
    }

    #[test]
    fn numbers_are_compared_as_by_object_is() {
        assert_eq!(Value::from(f64::NAN), Value::from(f64::NAN));
        assert_ne!(Value::from(0.0), Value::from(-0.0));
        assert_ne!(Value::from(1), Value::from("1"));
    }
}
