//! Compiles `proto/` into Rust without a system `protoc`: protox parses and checks the files, prost and tonic generate.

use std::{env, error::Error, fs, path::PathBuf};

const PROTO_ROOT: &str = "proto";
/// What only the control socket serves: reflection does not tell it.
const CONTROL: &str = "messagewebhook.control.v1";
const PROTO_FILES: &[&str] = &[
    "messagewebhook/control/v1/clock_service.proto",
    "messagewebhook/control/v1/transfer_service.proto",
    "messagewebhook/v1/key_service.proto",
    "messagewebhook/v1/message.proto",
    "messagewebhook/v1/message_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    // Without this line Cargo would run this script after a change to any file of the package.
    println!("cargo:rerun-if-changed={PROTO_ROOT}");
    let descriptors = protox::compile(PROTO_FILES, [PROTO_ROOT])?;
    // The descriptor set is served by gRPC reflection.
    let out = PathBuf::from(env::var("OUT_DIR")?).join("messagewebhook.v1.bin");
    let mut published = descriptors.clone();
    published.file.retain(|file| file.package() != CONTROL);
    fs::write(out, prost::Message::encode_to_vec(&published))?;
    tonic_prost_build::configure()
        // Contents never reach `Debug`: messages that carry them get a hand-written one.
        .skip_debug([".messagewebhook.v1", ".messagewebhook.control.v1"])
        .extern_path(".google.rpc.Status", "::tonic_types::pb::Status")
        .compile_fds(descriptors)?;
    Ok(())
}
