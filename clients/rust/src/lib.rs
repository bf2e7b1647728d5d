#![doc = include_str!("../README.md")]

mod actor;
mod calls;
mod changes;
mod client;
mod errors;
mod resume;
mod stream;

/// The messages of the API, generated from its protos.
#[allow(
missing_docs, // what the protos do not say is prost's
clippy::pedantic, // its style is prost's
clippy::large_enum_variant // an event's payload is moved once, and a box would show
)]
#[rustfmt::skip] // it stays as it was generated
pub mod v1;

pub use calls::{ClientOptions, DEFAULT_TARGET, Token};
pub use client::RunClient;
pub use errors::{PullcordError, Violation};
pub use resume::Pace;
pub use stream::{RunStream, StreamOptions};
pub use v1::{
    CancelRunRequest, CancelRunsRequest, Decision, ListRunsRequest, Message, MessageRole, Part,
    Run, RunEvent, RunSpec, part::Content, run_event::Payload,
};

// What the face of this crate is made of, in the versions that fit it.
pub use {prost_types, tonic};
