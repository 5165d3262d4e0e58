//! The protos as a text with one line for each thing that is promised: names, numbers, types, who streams.

use std::fmt::Write as _;

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

/// What `build.rs` compiled and reflection serves.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/messagewebhook.v1.bin"));
const OURS: &str = "messagewebhook.v1";

/// All that our package has.
pub(super) fn described() -> String {
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors");
    let mut text = String::new();
    for file in set.file.iter().filter(|file| file.package() == OURS) {
        writeln!(text, "file {} ({}, package {})", file.name(), file.syntax(), file.package()).unwrap();
        file.service.iter().for_each(|each| service(&mut text, each));
        file.message_type.iter().for_each(|each| message(&mut text, each, ""));
        file.enum_type.iter().for_each(|each| enumeration(&mut text, each, ""));
        text.push('\n');
    }
    assert!(text.contains("rpc SubmitMessage("), "the package was not found");
    text
}

fn service(text: &mut String, service: &ServiceDescriptorProto) {
    writeln!(text, "\nservice {}", service.name()).unwrap();
    for rpc in &service.method {
        let stream = |is: bool| if is { "stream " } else { "" };
        let (taken, given) = (stream(rpc.client_streaming()), stream(rpc.server_streaming()));
        let (input, output) = (short(rpc.input_type()), short(rpc.output_type()));
        writeln!(text, "  rpc {}({taken}{input}) returns ({given}{output})", rpc.name()).unwrap();
    }
}

fn message(text: &mut String, message: &DescriptorProto, outer: &str) {
    let name = format!("{outer}{}", message.name());
    writeln!(text, "\nmessage {name}").unwrap();
    for field in &message.field {
        writeln!(text, "  {}", described_field(message, field)).unwrap();
    }
    for range in &message.reserved_range {
        writeln!(text, "  reserved {} to {}", range.start(), range.end() - 1).unwrap();
    }
    for name in &message.reserved_name {
        writeln!(text, "  reserved {name}").unwrap();
    }
    let inner = format!("{name}.");
    message.nested_type.iter().for_each(|each| self::message(text, each, &inner));
    message.enum_type.iter().for_each(|each| enumeration(text, each, &inner));
}

fn described_field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
    let optional = if field.proto3_optional() { "optional " } else { "" };
    let kind = match field.r#type() {
        Type::Message | Type::Enum => short(field.type_name()).to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    // proto3 notes an optional field as a oneof of its own.
    let choice = field.oneof_index.filter(|_| !field.proto3_optional());
    let choice = choice.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
    let choice = choice.map_or(String::new(), |choice| format!(" oneof {}", choice.name()));
    format!("{} {repeated}{optional}{kind} {} [{}]{choice}", field.number(), field.name(), field.json_name())
}

fn enumeration(text: &mut String, enumeration: &EnumDescriptorProto, outer: &str) {
    writeln!(text, "\nenum {outer}{}", enumeration.name()).unwrap();
    for value in &enumeration.value {
        writeln!(text, "  {} {}", value.number(), value.name()).unwrap();
    }
}

fn short(name: &str) -> &str {
    let name = name.trim_start_matches('.');
    name.strip_prefix(OURS).map_or(name, |rest| rest.trim_start_matches('.'))
}
