//! How a caller says who it is: one metadata entry, which every server reads alike.
//!
//! Metadata is ASCII, names are not, so other characters travel percent-encoded. Whether an actor
//! is who it says is not decided here.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tonic::metadata::MetadataValue;
use tonic::metadata::{Ascii, AsciiMetadataValue};

pub(crate) const ACTOR_KEY: &str = "pullcord-actor";
const MAX_ACTOR_LENGTH: usize = 256;
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// The metadata value that says who asks.
pub(crate) fn actor_value(actor: &str) -> MetadataValue<Ascii> {
    let said: String = actor.chars().take(MAX_ACTOR_LENGTH).collect();
    let encoded = utf8_percent_encode(&said, ENCODED).to_string();
    AsciiMetadataValue::try_from(encoded).expect("what is percent-encoded is printable ASCII")
}

/// Who runs this process, and where, such as `ann@host`.
pub(crate) fn default_actor() -> String {
    let unknown = |_| "unknown".to_owned(); // a container's user may have no name
    let user = whoami::username().unwrap_or_else(unknown);
    let host = whoami::hostname().unwrap_or_else(unknown);
    format!("{user}@{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_travels_as_printable_ascii() {
        for (actor, sent) in [
            ("ann@example.com", "ann@example.com"),
            ("Jörg 100%", "J%C3%B6rg%20100%25"),
            ("駅\n~!", "%E9%A7%85%0A~!"),
            ("", ""),
        ] {
            assert_eq!(actor_value(actor), sent);
        }
    }

    #[test]
    fn an_actor_ends_after_256_characters() {
        let sent = actor_value(&"é".repeat(300));
        assert_eq!(sent.to_str().unwrap(), "%C3%A9".repeat(256));
    }

    #[test]
    fn the_actor_unless_said_is_this_process() {
        let (user, host) = (whoami::username().unwrap(), whoami::hostname().unwrap());
        assert_eq!(default_actor(), format!("{user}@{host}"));
        assert!(!user.is_empty() && !host.is_empty());
    }
}
