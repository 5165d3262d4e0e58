//! The clock that a store accepts messages by: an operator's business, as only the control socket has it.

use std::sync::Arc;

use crate::{domain::Error, store::Lifecycle};

/// Says that the machine's clock is right.
#[derive(Clone)]
pub struct StoreClock(Arc<dyn Lifecycle>);

impl StoreClock {
    /// That of `store`.
    pub fn new(store: Arc<dyn Lifecycle>) -> Self {
        Self(store)
    }

    /// Follows the machine's clock from now on; whether it was not followed until now.
    ///
    /// # Errors
    /// Those of [`Lifecycle::trust_clock`].
    pub async fn trust(&self) -> Result<bool, Error> {
        let changed = self.0.trust_clock().await?;
        tracing::info!(changed, "the operator says that the machine's clock is right");
        Ok(changed)
    }
}
