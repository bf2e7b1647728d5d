//! The crate's public face against a server that does what a test says.

mod changes;
mod client;
mod server;
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[allow(
clippy::all, // its style is tonic's
clippy::pedantic // the same
)]
#[rustfmt::skip] // it stays as it was generated
mod v1;
