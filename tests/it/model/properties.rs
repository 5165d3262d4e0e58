//! What must hold in every world, and what must be met in some, lest the model prove nothing.

use stateright::Property;

use super::{
    protocol::{ATTEMPTS, Variant},
    state::{Flight, FlightStep, Reference, ResolverStep, Standing, TIMES, World},
};

pub const IN_THE_STORE: &str = "every 200 speaks of a message that is in the store";
pub const DELIVERED: &str = "every 200 is delivered to who has read to the end";
pub const DELIVERABLE: &str = "nothing accepted is undeliverable";
pub const REFERRED: &str = "nothing is accepted before every reader sees its reference";
pub const ONCE: &str = "at most one attempt is accepted, and at most one answer is \"processed\"";
pub const NEVER_BACK: &str = "resolved_upto never goes back";
pub const NEVER_OLD: &str = "no statement of a past epoch takes effect";

pub fn all() -> Vec<Property<Variant>> {
    fn answered(world: &World) -> bool {
        world.flights.iter().any(|it| matches!(it.step, FlightStep::Processed | FlightStep::Duplicate))
    }
    fn any(world: &World, step: FlightStep) -> bool {
        world.flights.iter().any(|it| it.step == step)
    }
    fn has_it(world: &World) -> bool {
        world.claim.attempt.is_some_and(|held| world.reader.delivered.contains(held))
    }
    vec![
        Property::always(IN_THE_STORE, |_, world: &World| !answered(world) || world.claim.committed),
        Property::always(DELIVERED, |_, world: &World| {
            !answered(world) || world.reader.position < TIMES || has_it(world)
        }),
        Property::always(DELIVERABLE, |_, world: &World| {
            world.claim.attempt.is_none_or(|held| world.reader.position < held) || has_it(world)
        }),
        Property::always(REFERRED, |_, world: &World| {
            world.claim.attempt.is_none_or(|held| world.reference(held) == Reference::Quorum)
        }),
        Property::always(ONCE, |_, world: &World| {
            let processed = world.flights.iter().filter(|it| it.step == FlightStep::Processed).count();
            world.accepted.len() <= 1 && processed <= 1
        }),
        Property::always(NEVER_BACK, |_, world: &World| !world.went_back),
        Property::always(NEVER_OLD, |_, world: &World| !world.under_old_epoch),
        Property::sometimes("one is processed, the other is told so, and it is delivered", |_, world: &World| {
            any(world, FlightStep::Processed) && any(world, FlightStep::Duplicate) && has_it(world)
        }),
        Property::sometimes("what only the resolver claimed is delivered", |_, world: &World| {
            !answered(world) && has_it(world)
        }),
        Property::sometimes("a late reference is ignored, and a second attempt accepted", |_, world: &World| {
            let second = |it: &Flight| {
                it.step == FlightStep::Processed
                    && it.attempts.len() == ATTEMPTS
                    && world.claim.attempt == Some(it.attempts.last())
            };
            world.flights.iter().any(second) && has_it(world)
        }),
        Property::sometimes("a late reference stays without a claim for good", |_, world: &World| {
            world.claim.attempt.is_none()
                && world.reader.position == TIMES
                && world.references.contains(&Reference::Quorum)
        }),
        Property::sometimes("a second attempt is late too: 503", |_, world: &World| {
            any(world, FlightStep::Unavailable)
        }),
        Property::sometimes("a slow flight is told \"processed\" after it was delivered", |_, world: &World| {
            world.flights.iter().any(|it| matches!(it.step, FlightStep::Claiming(_))) && has_it(world)
        }),
        Property::sometimes("a scan is thrown away", |_, world: &World| {
            world
                .resolvers
                .iter()
                .any(|it| matches!(it.step, ResolverStep::Rewritten(_)) && it.standing == Standing::Old)
        }),
        Property::sometimes("a deposed resolver ends a roll-forward that it began", |_, world: &World| {
            world
                .resolvers
                .iter()
                .any(|it| matches!(it.step, ResolverStep::Confirmed(_)) && it.standing == Standing::Old)
                && has_it(world)
        }),
        Property::sometimes("a plain read may miss what a statement did late", |_, world: &World| {
            world.lease.seen != world.lease.marks
        }),
    ]
}
