//! What the model's world consists of.

use std::fmt;

/// So many points in attempt time. An attempt is named by its point, so there are as many attempts at most.
pub const TIMES: u8 = 3;

/// A point in attempt time, from 1 on; as a mark, all attempts up to it; 0 is before them all.
pub type Time = u8;

/// A set of attempts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Set(u8);

impl Set {
    pub fn insert(&mut self, attempt: Time) {
        self.0 |= 1 << attempt;
    }

    pub fn with(mut self, attempt: Time) -> Self {
        self.insert(attempt);
        self
    }

    pub fn contains(self, attempt: Time) -> bool {
        self.0 & (1 << attempt) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub fn iter(self) -> impl Iterator<Item = Time> {
        (1..=TIMES).filter(move |attempt| self.contains(*attempt))
    }

    /// The last in attempt time, or 0.
    pub fn last(self) -> Time {
        self.iter().last().unwrap_or(0)
    }

    /// All its subsets, itself and the empty one too.
    pub fn subsets(self) -> impl Iterator<Item = Self> {
        (0..=self.0).filter(move |bits| bits & !self.0 == 0).map(Self)
    }

    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Where the references of an attempt (its feed row and its sender row) are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// The attempt was not made.
    Unwritten,
    /// Sent; no replica has it. It may arrive at any later time, even when its writer is gone.
    Sent,
    /// On a minority of the replicas: a read may or may not see it.
    Minority,
    /// On a majority: every read sees it, and its writer may have been told.
    Quorum,
}

/// The row of `messages`: a register that lightweight transactions alone change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    pub attempt: Option<Time>,
    /// A decided value that nobody was told of may be unseen by plain reads; the next transaction makes it seen.
    pub committed: bool,
}

/// The row of `leases`. Epoch and beat are not numbers here: see [`Standing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub owner: usize,
    pub marks: Marks,
    /// The marks that plain reads may still return: those before a change that nobody was told of.
    pub seen: Marks,
}

/// The two marks of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Marks {
    pub resolving: Time,
    pub resolved: Time,
}

/// How what a resolver knows of the lease row stands to the row itself.
///
/// Every statement that is applied changes the beat, and a beat never comes again. So a condition on (epoch, owner, beat)
/// holds exactly if no statement was applied since the row was read, and one on (epoch, owner) exactly if the lease was
/// not taken since. With this instead of two growing numbers there are finitely many states, for any number of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Nothing was applied since.
    Row,
    /// Something was applied since, in the same epoch.
    Epoch,
    /// Another epoch began since.
    Old,
}

/// A statement on the lease row, with what it knows of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Statement {
    pub standing: Standing,
    pub change: Change,
}

/// What a statement on the lease row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// A new epoch with another owner. Taking needs no time to pass here, so a lease can be taken from a resolver that is
    /// only slow; giving it back would add nothing to that, and is left out.
    Take,
    /// The marks of the next cycle, or the same marks again as a renewal.
    Marks(Marks),
}

/// One flight of the message, in one process: one request and those that wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flight {
    pub step: FlightStep,
    /// Its attempts; a claim that carries one of them is its own.
    pub attempts: Set,
}

/// What a flight does next. One that stopped or crashed is one that never does it, so neither is a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlightStep {
    /// To make an attempt.
    Ready,
    /// The references of the attempt are being written.
    Referring(Time),
    /// The check of step 3 found the attempt after `resolving_upto`.
    Claiming(Time),
    /// 200 "processed".
    Processed,
    /// 200 "Already processed".
    Duplicate,
    /// 503, of its own accord.
    Unavailable,
}

/// A process that resolves when it has the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resolver {
    pub step: ResolverStep,
    pub standing: Standing,
    /// A statement without an answer, which may take effect late.
    pub stuck: Option<Statement>,
}

/// What a resolver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResolverStep {
    /// To read the lease row, and to take the lease.
    Idle,
    /// To publish the next H; `finished` if the H that the row has as `resolving_upto` is.
    Holds { finished: bool },
    /// To scan what is after `from`, up to `upto`.
    Published { from: Time, upto: Time },
    /// To write again what it saw without a claim.
    Undecided(Set),
    /// To renew the lease.
    Rewritten(Set),
    /// To claim for them.
    Confirmed(Set),
}

/// A reader of the feed from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reader {
    /// All attempts up to it are dealt with.
    pub position: Time,
    pub delivered: Set,
    /// What an earlier poll has seen; only for the variant that trusts it.
    pub polled: Option<Set>,
}

/// The whole world, with one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    pub references: [Reference; TIMES as usize],
    pub claim: Claim,
    pub lease: Lease,
    pub flights: [Flight; 2],
    pub resolvers: [Resolver; 2],
    pub reader: Reader,
    /// All that the claim ever was.
    pub accepted: Set,
    /// `resolved_upto` became less.
    pub went_back: bool,
    /// A statement of a past epoch was applied.
    pub under_old_epoch: bool,
}

impl World {
    /// After `migrate` and the first taking of the lease.
    pub fn new() -> Self {
        let resolver = |step, standing| Resolver { step, standing, stuck: None };
        Self {
            references: [Reference::Unwritten; TIMES as usize],
            claim: Claim { attempt: None, committed: true },
            lease: Lease { owner: 0, marks: Marks::default(), seen: Marks::default() },
            flights: [Flight { step: FlightStep::Ready, attempts: Set::default() }; 2],
            resolvers: [
                resolver(ResolverStep::Holds { finished: false }, Standing::Row),
                resolver(ResolverStep::Idle, Standing::Old),
            ],
            reader: Reader { position: 0, delivered: Set::default(), polled: None },
            accepted: Set::default(),
            went_back: false,
            under_old_epoch: false,
        }
    }

    pub fn reference(&self, attempt: Time) -> Reference {
        self.references[usize::from(attempt) - 1]
    }

    pub fn reference_mut(&mut self, attempt: Time) -> &mut Reference {
        &mut self.references[usize::from(attempt) - 1]
    }

    /// The references with a place after `from`, up to `upto`: those that a read must see, and those that it may see.
    pub fn scan(&self, from: Time, upto: Time) -> (Set, Set) {
        let (mut must, mut may) = (Set::default(), Set::default());
        for attempt in from + 1..=upto {
            match self.reference(attempt) {
                Reference::Quorum => must.insert(attempt),
                Reference::Minority => may.insert(attempt),
                Reference::Sent | Reference::Unwritten => {}
            }
        }
        (must, may)
    }

    /// What a plain read of the claim may show.
    pub fn claim_reads(&self) -> impl Iterator<Item = Option<Time>> {
        let unseen = (!self.claim.committed).then_some(None);
        std::iter::once(self.claim.attempt).chain(unseen)
    }

    /// What a plain read of the lease row may show.
    pub fn mark_reads(&self) -> impl Iterator<Item = Marks> {
        let unseen = (self.lease.seen != self.lease.marks).then_some(self.lease.seen);
        std::iter::once(self.lease.marks).chain(unseen)
    }
}
