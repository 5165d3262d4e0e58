//! `trust-clock`: tells the server that owns a store's directory that the machine's clock is right.

use super::{
    flags::StoreFlags,
    output::{Failure, block_on, talk},
};
use crate::{
    app::{Control, Purpose},
    config::StoreKind,
    protocol::grpc::control::v1::{TrustClockRequest, clock_service_client::ClockServiceClient},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "After the machine's clock was set by more than 5 seconds, the embedded store accepts messages by the \
                        time before until that has stood for 10 minutes. This ends the wait. It forgets nothing."
)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreFlags,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let config = args.store.load(Vec::new())?.config;
    if config.store != StoreKind::Embedded {
        let wrong = "Only the embedded store goes by this machine's clock; a store on ScyllaDB goes by the database's";
        return Err(Failure::Usage(wrong.into()));
    }
    block_on(async {
        let control = Control::open(&config, Purpose::Read).await.map_err(Failure::of)?;
        if control.is_offline() {
            control.close().await.map_err(Failure::of)?;
            let wrong = "No server is running on this directory; start it with 'serve --trust-clock' instead";
            return Err(Failure::Failed(wrong.into()));
        }
        let answer = ClockServiceClient::new(control.channel()).trust_clock(TrustClockRequest {}).await;
        let changed = answer.map_err(|status| Failure::Failed(status.message().to_owned()))?.into_inner().changed;
        talk(if changed {
            "The machine's clock is followed from now on."
        } else {
            "The machine's clock is followed already."
        });
        Ok(())
    })
}
