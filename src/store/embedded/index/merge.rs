//! Which runs become one, and how.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    ops::Range,
    sync::Arc,
};

use super::{
    super::disk::Disk,
    format::{Entry, Identity, RunError, RunKind, Span},
    run::Run,
};

/// Which of the runs of one kind, in the order of their segments, are to be merged next, if any. Runs of one tier have
/// as many segments to within a factor of `fan_out`; where so many neighbours are of one tier, the oldest of them
/// become one run: all, or as many as fit into `longest` segments. So an entry is written again about once a tier, and
/// a tier keeps fewer than `fan_out` runs, but for those that cannot grow.
pub fn plan(spans: &[Span], fan_out: usize, longest: u32) -> Option<Range<usize>> {
    let tier = |span: &Span| span.segments().checked_ilog(fan_out as u64);
    (0..spans.len()).find_map(|start| {
        let window = spans.get(start..start.checked_add(fan_out)?)?;
        let oldest = window.first()?;
        let tier_of_all = tier(oldest)?;
        // A run must not say that it covers segments that none of its parts covers.
        let neighbours = window.windows(2).all(|pair| matches!(pair, [a, b] if a.to.checked_add(1) == Some(b.from)));
        if !neighbours || window.iter().any(|span| tier(span) != Some(tier_of_all)) {
            return None;
        }
        let fitting = window.iter().take_while(|span| span.to.saturating_sub(oldest.from) < longest).count();
        (fitting >= 2).then_some(start..start + fitting)
    })
}

/// Makes one run of neighbours of one kind, the oldest first, and leaves out what is below the position `oldest`. One
/// run alone is written anew. Reads and writes in order; needs their size on the disk, and in memory the new filter and
/// 256 KiB a run. The inputs stay. `goes_on` is called for each entry: a long merge does not stand still.
///
/// # Errors
/// [`RunError`]; nothing is written then.
pub fn merge(
    disk: &dyn Disk,
    identity: &Identity,
    inputs: &[Arc<Run>],
    oldest: u64,
    goes_on: impl Fn(),
) -> Result<Run, RunError> {
    let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else {
        return Err(RunError::Input("there is nothing to merge"));
    };
    let neighbours = |a: &Run, b: &Run| a.kind() == b.kind() && a.span().to.checked_add(1) == Some(b.span().from);
    if !inputs.windows(2).all(|pair| matches!(pair, [a, b] if neighbours(a, b))) {
        return Err(RunError::Input("runs to merge are no neighbours"));
    }
    let span = Span { from: first.span().from, to: last.span().to };
    let count = inputs.iter().fold(0, |sum: u64, run| sum.saturating_add(run.len()));
    let merged = Merged::new(inputs.iter().map(|run| run.entries()).collect())?;
    let mut kept =
        merged.inspect(|_| goes_on()).filter(|entry| entry.as_ref().map_or(true, |entry| entry.position >= oldest));
    Run::write(disk, identity, first.kind(), span, last.end(), count, &mut kept)
}

/// Which runs another one of the same kind covers. Those are inputs of a merge after which the process ended. Give it
/// runs that could be opened: one that cannot speak must not take the place of those that can.
pub fn obsolete(runs: &[(RunKind, Span)]) -> Vec<usize> {
    let covers =
        |a: &(RunKind, Span), b: &(RunKind, Span)| a != b && a.0 == b.0 && a.1.from <= b.1.from && a.1.to >= b.1.to;
    let covered = |run: &(RunKind, Span)| runs.iter().any(|other| covers(other, run));
    runs.iter().enumerate().filter(|(_, run)| covered(run)).map(|(index, _)| index).collect()
}

/// Entries of several sorted sources in order; what several have comes once. Ends after an error.
pub struct Merged<I> {
    sources: Vec<I>,
    /// The next entry of each source, and which one that is.
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
    last: Option<Entry>,
}

impl<I: Iterator<Item = Result<Entry, RunError>>> Merged<I> {
    /// Reads the first entry of each.
    ///
    /// # Errors
    /// What a source gives.
    pub fn new(mut sources: Vec<I>) -> Result<Self, RunError> {
        let mut heads = BinaryHeap::with_capacity(sources.len());
        for (index, source) in sources.iter_mut().enumerate() {
            if let Some(entry) = source.next() {
                heads.push(Reverse((entry?, index)));
            }
        }
        Ok(Self { sources, heads, last: None })
    }
}

impl<I: Iterator<Item = Result<Entry, RunError>>> Iterator for Merged<I> {
    type Item = Result<Entry, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut head = self.heads.peek_mut()?;
            let Reverse((entry, index)) = *head;
            match self.sources.get_mut(index).and_then(Iterator::next) {
                Some(Ok(next)) => *head = Reverse((next, index)),
                Some(Err(error)) => {
                    drop(head);
                    self.heads.clear();
                    return Some(Err(error));
                }
                None => drop(PeekMut::pop(head)),
            }
            if self.last.replace(entry) != Some(entry) {
                return Some(Ok(entry));
            }
        }
    }
}
