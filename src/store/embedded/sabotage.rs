//! Faults that the simulator plants in the store to prove that it would find them. Nothing of this is in a program that is
//! not a test.

/// A mistake that somebody could make in this store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// A frame is not synced.
    NoSync,
    /// Submissions are answered before their frame is synced.
    AnswerBeforeSync,
    /// A new file's directory is not synced.
    NoDirectorySync,
    /// Recovery does not write the last frame again.
    NoSecondWriting,
    /// A frame is written before the sync of the one before has returned.
    SecondFrameInFlight,
    /// Vouchers and seals share a page with what they vouch for.
    VoucherOnSharedPage,
    /// Recovery takes a last frame for whole though its bodies are torn.
    TornBodyServed,
    /// What a full disk refused stays where it was written.
    LeftoverStays,
    /// What a full disk refused is zeroed, but that is not synced.
    ZeroingNotSynced,
    /// The seal and the next segment's header are made durable by one sync.
    SealAndHeaderInOneSync,
    /// The writer does not look again where memory was let go since the look-up.
    MemoryLetGo,
    /// A look-up says "absent" where it met a damaged page.
    DamagedPageIsAbsent,
    /// A run enters the view after the memory that it replaces has left.
    RunAfterMemory,
    /// A frame is found only right behind the one before.
    OnlyFromPredecessor,
    /// An idle start and stop moves what the next start takes for the end.
    IdleRestartMovesEnd,
}

#[cfg(test)]
std::thread_local! {
    static PLANTED: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}

/// Plants a fault in the stores of this thread, or takes it back.
#[cfg(test)]
pub fn plant(sabotage: Option<Sabotage>) {
    PLANTED.set(sabotage);
}

/// Whether the store is to make this mistake.
#[cfg(test)]
pub fn is_planted(sabotage: Sabotage) -> bool {
    PLANTED.get() == Some(sabotage)
}

/// Never.
#[cfg(not(test))]
#[inline(always)]
pub const fn is_planted(_: Sabotage) -> bool {
    false
}
