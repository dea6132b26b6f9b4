//! Which relations a statement reads or writes, for those who have to know whose changes a read must see.
//!
//! Relations are known by the hash of their name, so two may pass for one, which makes a read wait in vain and
//! does no other harm. What is not certain to be all is everything.

use std::hash::BuildHasher;

use foldhash::quality::FixedState;

/// How many relations a [`Reach`] tells apart.
pub const RELATIONS: u16 = 1024;

/// Most relations that are kept apart for one statement, or for all that a transaction wrote.
const MOST: usize = 7;

/// A set of relations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reach {
    /// In ascending order, and behind them zeros.
    marks: [u16; MOST],
    /// How many there are; more than fit when it is everything.
    count: u16,
}

impl Reach {
    /// No relation at all.
    pub const NOTHING: Self = Self { marks: [0; MOST], count: 0 };
    /// Any relation, and whatever else there may be.
    pub const EVERYTHING: Self = Self { marks: [0; MOST], count: u16::MAX };

    /// The relations called `name`, in whatever schema.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let hash = FixedState::default().hash_one(name) % u64::from(RELATIONS);
        let mut only = Self { count: 1, ..Self::NOTHING };
        only.marks[0] = u16::try_from(hash).unwrap_or_default();
        only
    }

    /// Whether it may be any relation.
    #[must_use]
    pub const fn is_everything(self) -> bool {
        self.count as usize > MOST
    }

    /// Both sets together; everything, where they are too many.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        if self.is_everything() || other.is_everything() {
            return Self::EVERYTHING;
        }
        other.marks().iter().fold(self, |set, mark| set.and(*mark))
    }

    fn and(mut self, mark: u16) -> Self {
        let count = usize::from(self.count);
        let Err(at) = self.marks().binary_search(&mark) else { return self };
        if count >= MOST {
            return Self::EVERYTHING;
        }
        self.marks.copy_within(at..count, at + 1);
        self.marks[at] = mark;
        self.count += 1;
        self
    }

    /// A number below [`RELATIONS`] for each; none where it is everything.
    #[must_use]
    pub fn marks(&self) -> &[u16] {
        self.marks.get(..usize::from(self.count)).unwrap_or_default()
    }
}

impl Default for Reach {
    fn default() -> Self {
        Self::NOTHING
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_union_has_all_of_both(some in proptest::collection::vec("[a-e]", 0..5), others in proptest::collection::vec("[a-z]", 0..9)) {
            let all = |names: &[String]| names.iter().fold(Reach::NOTHING, |set, name| set.with(Reach::of(name)));
            let (one, other) = (all(&some), all(&others));
            let both = one.with(other);
            prop_assert_eq!(both, other.with(one));
            prop_assert_eq!(both.with(one), both);
            for name in some.iter().chain(&others) {
                prop_assert!(both.is_everything() || both.marks().contains(&Reach::of(name).marks()[0]));
            }
            prop_assert!(both.marks().is_sorted() && both.marks().iter().all(|mark| *mark < RELATIONS));
        }
    }

    #[test]
    fn many_are_everything() {
        let many = (0..20).map(|number| Reach::of(&format!("t{number}"))).fold(Reach::NOTHING, Reach::with);
        assert!(many.is_everything());
        assert_eq!(Reach::NOTHING.with(Reach::EVERYTHING), Reach::EVERYTHING);
        assert_ne!(Reach::of("a"), Reach::of("b"));
    }
}
