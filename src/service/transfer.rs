//! What a store keeps, out of it and into another one: an operator's business, as only the control socket has it.

use std::sync::Arc;

use super::{Keys, PAGE_BYTES, PageToken};
use crate::{
    domain::{Error, KeyRecord, Message},
    store::{ExportPage, ImportInto, Imported, PageLimit, TransferStore},
};

/// Messages of one page.
const PAGE: usize = 500;

/// Exports and imports messages and keys.
#[derive(Clone)]
pub struct Transfer {
    store: Arc<dyn TransferStore>,
    keys: Arc<Keys>,
}

impl Transfer {
    /// Over a store of messages and the keys beside them.
    pub fn new(store: Arc<dyn TransferStore>, keys: Arc<Keys>) -> Self {
        Self { store, keys }
    }

    /// The messages after a place, or from the beginning.
    ///
    /// # Errors
    /// [`crate::domain::Kind::InvalidArgument`] for a place that is not of an export of this store; those of the store.
    pub async fn export(&self, after: Option<&PageToken>) -> Result<ExportPage, Error> {
        self.store.export(after, PageLimit { messages: PAGE, bytes: PAGE_BYTES }).await
    }

    /// Takes messages over, in their order; `into` says who sees them.
    ///
    /// # Errors
    /// Those of the store; then any of them may have been taken, and the call may be repeated.
    pub async fn import(&self, messages: Vec<Message>, into: ImportInto) -> Result<Vec<Imported>, Error> {
        self.store.import(messages, into).await
    }

    /// The keys of the store that still open something.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn export_keys(&self) -> Result<Vec<KeyRecord>, Error> {
        let now = self.keys.clock.now();
        let listed = self.keys.store.keys(None).await?;
        Ok(listed.into_iter().map(|key| key.record).filter(|record| record.is_live(now)).collect())
    }

    /// Takes over the keys whose ids are not known; says how many these were.
    ///
    /// # Errors
    /// Those of the store; the call may be repeated.
    pub async fn import_keys(&self, records: Vec<KeyRecord>) -> Result<usize, Error> {
        let mut taken = 0;
        for record in records {
            if self.keys.store.key(&record.id).await?.is_none() {
                self.keys.store.create_key(record.clone()).await?;
                // Somebody may have tried this id while it was unknown.
                self.keys.forget(&record.id);
                self.keys.pages.learn(&record.origins);
                taken += 1;
            }
        }
        Ok(taken)
    }
}
