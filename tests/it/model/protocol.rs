//! What can happen next in the model's world, by the protocol or by a variant of it.

use stateright::{Model, Property};

use super::state::{
    Change, FlightStep, Marks, Reference, Resolver, ResolverStep, Set, Standing, Statement, TIMES, Time, World,
};

/// A flight makes so many attempts.
pub const ATTEMPTS: u32 = 2;

/// The protocol, and ways to get it wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// As it should be.
    Protocol,
    /// Nobody claims for a reference without a claim; readers pass over it.
    ConsumersDropWhatHasNoClaim,
    /// A flight claims without looking at `resolving_upto`.
    NoCheck,
    /// A flight looks at `resolving_upto` before its references are acknowledged.
    CheckBeforeAcknowledgements,
    /// Who lost the lease scans once more and claims for what it sees.
    DeposedResolverActsOnAFreshScan,
    /// A resolver claims for what it saw without renewing its lease first.
    NoSecondRenewal,
    /// A resolver claims for what it saw without writing it again.
    ReferencesAreNotWrittenAgain,
    /// H is published after the scan.
    ScanBeforePublication,
    /// A resolver scans although it does not know whether its H was published.
    ScanAfterAnUnclearPublication,
    /// Statements on the lease have a condition on epoch and owner, but none on the beat.
    NoBeatInTheConditions,
    /// Statements on the lease have no condition.
    NoConditionsOnTheLease,
    /// The claim is written without its condition.
    NoConditionOnTheClaim,
    /// A reader moves to a mark that it read after the rows.
    ReaderTrustsEarlierRows,
    /// A plain read may show what the next one does not.
    NoReadRepair,
}

/// One step of anyone. Numbers of flights and resolvers may change between steps: see [`normalised`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A flight makes an attempt and sends its references.
    Attempt { flight: usize, attempt: Time },
    /// The references of an attempt reach one more replica.
    Arrive { attempt: Time },
    /// A flight has its acknowledgements and reads `resolving_upto`.
    Check { flight: usize, resolving: Time },
    /// A flight finds a claim before it makes an attempt.
    ReadFirst { flight: usize },
    /// A flight's INSERT is answered.
    Claim { flight: usize },
    /// A flight's INSERT is decided, and nobody is told.
    ClaimUnanswered { flight: usize },
    /// A resolver sends a statement on the lease row.
    Lease { resolver: usize, change: Change, answered: bool },
    /// A statement without an answer takes effect now.
    LateEffect { resolver: usize },
    /// A resolver without a clear answer reads the lease row at SERIAL and finds itself its owner.
    Resume { resolver: usize },
    /// A resolver reads references, and their claim.
    Scan { resolver: usize, upto: Time, seen: Set, claim: Option<Time> },
    /// A resolver writes again what it saw, and waits.
    Rewrite { resolver: usize },
    /// A resolver's INSERT is answered.
    Forward { resolver: usize, attempt: Time },
    /// A resolver's INSERT is decided, and nobody is told.
    ForwardUnanswered { resolver: usize, attempt: Time },
    /// The reader reads references and claims of the open window.
    Poll,
}

impl Variant {
    /// Whether a statement that knows the row so is applied.
    fn applies(self, standing: Standing) -> bool {
        match self {
            Self::NoConditionsOnTheLease => true,
            Self::NoBeatInTheConditions => standing != Standing::Old,
            _ => standing == Standing::Row,
        }
    }

    fn flight_steps(self, world: &World, steps: &mut Vec<Step>) {
        for (flight, it) in world.flights.iter().enumerate() {
            match it.step {
                FlightStep::Ready => {
                    let unused = |attempt: &Time| world.reference(*attempt) == Reference::Unwritten;
                    let times = (it.attempts.last() + 1..=TIMES).filter(unused);
                    steps.extend(times.map(|attempt| Step::Attempt { flight, attempt }));
                    if it.attempts.is_empty() && world.claim.attempt.is_some() {
                        steps.push(Step::ReadFirst { flight });
                    }
                }
                FlightStep::Referring(attempt) => {
                    let acknowledged = world.reference(attempt) == Reference::Quorum;
                    if acknowledged || self == Self::CheckBeforeAcknowledgements {
                        steps
                            .extend(world.mark_reads().map(|marks| Step::Check { flight, resolving: marks.resolving }));
                    }
                }
                // The first variant alone comes here without the acknowledgements.
                FlightStep::Claiming(attempt) if world.reference(attempt) == Reference::Quorum => {
                    steps.push(Step::Claim { flight });
                    if world.claim.attempt.is_none() {
                        steps.push(Step::ClaimUnanswered { flight });
                    }
                }
                FlightStep::Claiming(_) | FlightStep::Processed | FlightStep::Duplicate | FlightStep::Unavailable => {}
            }
        }
    }

    fn resolver_steps(self, world: &World, steps: &mut Vec<Step>) {
        for (resolver, it) in world.resolvers.iter().enumerate() {
            if it.stuck.is_some() {
                steps.push(Step::LateEffect { resolver });
            }
            let mut lease = |change| {
                steps.push(Step::Lease { resolver, change, answered: true });
                if it.stuck.is_none() {
                    steps.push(Step::Lease { resolver, change, answered: false });
                }
            };
            match it.step {
                ResolverStep::Idle => {
                    if world.lease.owner == resolver {
                        steps.push(Step::Resume { resolver });
                    } else {
                        lease(Change::Take);
                    }
                    if self == Self::DeposedResolverActsOnAFreshScan {
                        self.scans(world, resolver, 0, TIMES, steps);
                    }
                }
                ResolverStep::Holds { finished } => {
                    let Marks { resolving, resolved } = world.lease.marks;
                    let resolved = if finished { resolving } else { resolved };
                    if self == Self::ScanBeforePublication && !finished {
                        for upto in resolving + 1..=TIMES {
                            self.scans(world, resolver, resolved, upto, steps);
                        }
                    } else {
                        for resolving in resolving..=TIMES {
                            lease(Change::Marks(Marks { resolving, resolved }));
                        }
                    }
                }
                ResolverStep::Published { from, upto } if self == Self::ScanBeforePublication => {
                    lease(Change::Marks(Marks { resolving: upto, resolved: from }));
                }
                ResolverStep::Published { from, upto } => self.scans(world, resolver, from, upto, steps),
                ResolverStep::Undecided(_) => steps.push(Step::Rewrite { resolver }),
                ResolverStep::Rewritten(_) => lease(Change::Marks(world.lease.marks)),
                ResolverStep::Confirmed(seen) => {
                    for attempt in seen.iter() {
                        steps.push(Step::Forward { resolver, attempt });
                        if world.claim.attempt.is_none() {
                            steps.push(Step::ForwardUnanswered { resolver, attempt });
                        }
                    }
                }
            }
        }
    }

    fn scans(self, world: &World, resolver: usize, from: Time, upto: Time, steps: &mut Vec<Step>) {
        let (must, may) = world.scan(from, upto);
        for claim in world.claim_reads() {
            if claim.is_some() {
                // All references have their claim; which ones were seen makes no difference.
                steps.push(Step::Scan { resolver, upto, seen: must, claim });
            } else {
                steps.extend(may.subsets().map(|seen| Step::Scan { resolver, upto, seen: must.union(seen), claim }));
            }
        }
    }

    /// A statement reaches the row. Says whether it was applied.
    fn apply(self, world: &mut World, by: usize, statement: Statement, answered: bool) -> bool {
        let lease = &mut world.lease;
        // Any transaction finishes the one before it.
        lease.seen = lease.marks;
        if !self.applies(statement.standing) {
            return false;
        }
        world.under_old_epoch |= statement.standing == Standing::Old;
        match statement.change {
            Change::Take => lease.owner = by,
            Change::Marks(marks) => {
                world.went_back |= marks.resolved < lease.marks.resolved;
                lease.marks = marks;
            }
        }
        if answered {
            lease.seen = lease.marks;
        }
        let passed = |standing: &mut Standing| match (statement.change, *standing) {
            (Change::Take, _) => *standing = Standing::Old,
            (Change::Marks(_), Standing::Row) => *standing = Standing::Epoch,
            (Change::Marks(_), Standing::Epoch | Standing::Old) => {}
        };
        for resolver in &mut world.resolvers {
            passed(&mut resolver.standing);
            if let Some(stuck) = &mut resolver.stuck {
                passed(&mut stuck.standing);
            }
        }
        read(world);
        true
    }

    fn lease(self, world: &mut World, by: usize, change: Change, answered: bool) {
        let Resolver { step, standing, .. } = world.resolvers[by];
        // Who takes the lease has just read the row, else this is a statement that is not applied.
        let standing = if change == Change::Take { Standing::Row } else { standing };
        if !answered {
            world.resolvers[by].stuck = Some(Statement { standing, change });
            world.resolvers[by].standing = Standing::Epoch;
            world.resolvers[by].step = match (step, change) {
                (ResolverStep::Holds { .. }, Change::Marks(marks)) if self == Self::ScanAfterAnUnclearPublication => {
                    ResolverStep::Published { from: marks.resolved, upto: marks.resolving }
                }
                _ => ResolverStep::Idle,
            };
            return;
        }
        let applied = self.apply(world, by, Statement { standing, change }, true);
        let resolver = &mut world.resolvers[by];
        if !applied {
            resolver.step = ResolverStep::Idle;
            return;
        }
        resolver.standing = Standing::Row;
        resolver.step = match (step, change) {
            (ResolverStep::Rewritten(seen), _) => ResolverStep::Confirmed(seen),
            (_, Change::Take) => ResolverStep::Holds { finished: false },
            // What is published here was scanned before.
            (ResolverStep::Published { .. }, _) => ResolverStep::Holds { finished: true },
            (ResolverStep::Holds { .. }, _) if self == Self::ScanBeforePublication => {
                ResolverStep::Holds { finished: false }
            }
            (_, Change::Marks(marks)) => ResolverStep::Published { from: marks.resolved, upto: marks.resolving },
        };
    }

    fn scanned(self, world: &mut World, by: usize, upto: Time, seen: Set, claim: Option<Time>) {
        // Replicas that answer a read differently are made equal before its answer.
        world.claim.committed |= claim.is_some() && self != Self::NoReadRepair;
        let resolver = &mut world.resolvers[by];
        let undecided =
            if claim.is_some() || self == Self::ConsumersDropWhatHasNoClaim { Set::default() } else { seen };
        resolver.step = if !undecided.is_empty() {
            ResolverStep::Undecided(undecided)
        } else if self == Self::ScanBeforePublication {
            ResolverStep::Published { from: world.lease.marks.resolved, upto }
        } else {
            ResolverStep::Holds { finished: true }
        };
    }

    /// A lightweight transaction on the claim.
    fn insert(self, world: &mut World, attempt: Time, answered: bool) -> Time {
        let held = match world.claim.attempt {
            Some(held) if self != Self::NoConditionOnTheClaim => held,
            _ => attempt,
        };
        world.claim.attempt = Some(held);
        world.claim.committed = answered;
        world.accepted.insert(held);
        held
    }
}

/// The reader reads `resolved_upto`, then references and claims up to it. It does so as soon as there is a new mark, and of
/// what it may or may not see it sees nothing: what there is to see only grows, so no other reader sees less.
fn read(world: &mut World) {
    let upto = world.lease.marks.resolved;
    if upto <= world.reader.position {
        return;
    }
    let found = match world.reader.polled.take() {
        Some(polled) => polled,
        None => delivered(world, upto),
    };
    world.reader.delivered = world.reader.delivered.union(found);
    world.reader.position = upto;
}

/// What a read from the reader's position to `upto` must find.
fn delivered(world: &World, upto: Time) -> Set {
    let (must, _) = world.scan(world.reader.position, upto);
    let held = world.claim.attempt.filter(|held| world.claim.committed && must.contains(*held));
    held.map_or(Set::default(), |held| Set::default().with(held))
}

/// Gives worlds that differ in nothing that matters one form.
fn normalised(mut world: World, variant: Variant) -> World {
    for resolver in &mut world.resolvers {
        let hopeful = variant == Variant::ScanAfterAnUnclearPublication && resolver.stuck.is_some();
        if resolver.standing != Standing::Row && matches!(resolver.step, ResolverStep::Holds { .. }) && !hopeful {
            resolver.step = ResolverStep::Idle;
        }
        if resolver.step == ResolverStep::Idle {
            resolver.standing = Standing::Old;
        }
        resolver.stuck = resolver.stuck.filter(|stuck| variant.applies(stuck.standing));
    }
    // Neither flights nor resolvers have names.
    if world.flights[0] > world.flights[1] {
        world.flights.swap(0, 1);
    }
    if world.resolvers[0] > world.resolvers[1] {
        world.resolvers.swap(0, 1);
        world.lease.owner = 1 - world.lease.owner;
    }
    world
}

impl Model for Variant {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![normalised(World::new(), *self)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        self.flight_steps(world, steps);
        self.resolver_steps(world, steps);
        let underway = |attempt: &Time| matches!(world.reference(*attempt), Reference::Sent | Reference::Minority);
        steps.extend((1..=TIMES).filter(underway).map(|attempt| Step::Arrive { attempt }));
        if *self == Self::ReaderTrustsEarlierRows && world.reader.polled.is_none() {
            steps.push(Step::Poll);
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = *last;
        match step {
            Step::Attempt { flight, attempt } => {
                world.flights[flight].attempts.insert(attempt);
                world.flights[flight].step =
                    if *self == Self::NoCheck { FlightStep::Claiming(attempt) } else { FlightStep::Referring(attempt) };
                *world.reference_mut(attempt) = Reference::Sent;
            }
            Step::Arrive { attempt } => {
                let reference = world.reference_mut(attempt);
                *reference = if *reference == Reference::Sent { Reference::Minority } else { Reference::Quorum };
            }
            Step::Check { flight, resolving } => {
                let it = &mut world.flights[flight];
                let attempt = it.attempts.last();
                it.step = if attempt > resolving {
                    FlightStep::Claiming(attempt)
                } else if it.attempts.len() < ATTEMPTS {
                    FlightStep::Ready
                } else {
                    FlightStep::Unavailable
                };
            }
            Step::ReadFirst { flight } => {
                world.claim.committed |= *self != Self::NoReadRepair;
                world.flights[flight].step = FlightStep::Duplicate;
            }
            Step::Claim { flight } => {
                let held = self.insert(&mut world, last.flights[flight].attempts.last(), true);
                let it = &mut world.flights[flight];
                it.step = if it.attempts.contains(held) { FlightStep::Processed } else { FlightStep::Duplicate };
            }
            Step::ClaimUnanswered { flight } => {
                self.insert(&mut world, last.flights[flight].attempts.last(), false);
            }
            Step::Lease { resolver, change, answered } => self.lease(&mut world, resolver, change, answered),
            Step::LateEffect { resolver } => {
                let statement = world.resolvers[resolver].stuck.take()?;
                let applied = self.apply(&mut world, resolver, statement, false);
                if applied && *self == Self::ScanAfterAnUnclearPublication {
                    // It took it for granted, so now it is right.
                    world.resolvers[resolver].standing = Standing::Row;
                }
            }
            Step::Resume { resolver } => {
                world.lease.seen = world.lease.marks;
                world.resolvers[resolver].standing = Standing::Row;
                world.resolvers[resolver].step = ResolverStep::Holds { finished: false };
            }
            Step::Scan { resolver, upto, seen, claim } => self.scanned(&mut world, resolver, upto, seen, claim),
            Step::Rewrite { resolver } => {
                let ResolverStep::Undecided(seen) = world.resolvers[resolver].step else { return None };
                if *self != Self::ReferencesAreNotWrittenAgain {
                    seen.iter().for_each(|attempt| *world.reference_mut(attempt) = Reference::Quorum);
                }
                world.resolvers[resolver].step = match self {
                    Self::NoSecondRenewal | Self::DeposedResolverActsOnAFreshScan => ResolverStep::Confirmed(seen),
                    _ => ResolverStep::Rewritten(seen),
                };
            }
            Step::Forward { resolver, attempt } => {
                self.insert(&mut world, attempt, true);
                world.resolvers[resolver].step = match self {
                    // It has published nothing yet, and scans again.
                    Self::ScanBeforePublication => ResolverStep::Holds { finished: false },
                    _ => ResolverStep::Holds { finished: true },
                };
            }
            Step::ForwardUnanswered { attempt, .. } => {
                self.insert(&mut world, attempt, false);
            }
            Step::Poll => world.reader.polled = Some(delivered(&world, TIMES)),
        }
        let world = normalised(world, *self);
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::properties::all()
    }
}
