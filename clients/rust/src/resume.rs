//! What a stream that broke does next: which events are new, when to come back, when to give up.
//!
//! The client asks here and does as it is told. Nothing here calls a server, sleeps, or reads a
//! clock or throws dice of its own: the time and the chance are arguments.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::errors::PullcordError;
use crate::v1::{Run, RunEvent, RunState, run_event::Payload};

/// How a broken stream is taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Without progress for so long, the client gives up. Zero: it never comes back.
    pub reconnect_for: Duration,
    /// The longest wait after the first break; it doubles with each further one.
    pub first_delay: Duration,
    /// The longest wait of all.
    pub max_delay: Duration,
}

impl Default for Pace {
    /// Gives up after 60 s, and waits from 0.1 s to 5 s.
    fn default() -> Self {
        Self {
            reconnect_for: Duration::from_secs(60),
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(5),
        }
    }
}

/// One stream's place in its run, over as many connections as it takes.
///
/// 1. An event is shown once: what is numbered at most `after_sequence` was seen.
/// 2. A gap alone does not move the place. The snapshot behind it does, so that a line that breaks
///    between the two loses neither.
/// 3. A break costs patience, a new event restores it. So does a connection that said something
///    and lived for `max_delay`, since a run may be silent for longer than that.
#[derive(Debug)]
pub(crate) struct Resume {
    pub(crate) run_id: String,
    /// The number of the last event seen: what to come back with.
    pub(crate) after_sequence: i64,
    /// Whether the server is known to have the run; else it must be asked for again.
    pub(crate) begun: bool,
    /// The terminal event's payload, once it was seen.
    pub(crate) result: Option<Payload>,
    /// Whether nothing more will come.
    pub(crate) ended: bool,
    pace: Pace,
    deadline: Option<Instant>,
    opened: Instant,
    heard: bool,
    lost_at: Option<Instant>,
    attempts: u32,
}

impl Resume {
    /// The place of a run that has not been started.
    pub(crate) fn start(run_id: &str, pace: Pace, now: Instant, timeout: Option<Duration>) -> Self {
        Self {
            begun: false,
            ..Self::follow(run_id, 0, pace, now, timeout)
        }
    }

    /// The place of a watcher that has seen the events up to `after_sequence`.
    pub(crate) fn follow(
        run_id: &str,
        after_sequence: i64,
        pace: Pace,
        now: Instant,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            run_id: run_id.to_owned(),
            after_sequence,
            begun: true,
            result: None,
            ended: false,
            pace,
            deadline: timeout.and_then(|timeout| now.checked_add(timeout)), // None: beyond all time
            opened: now,
            heard: false,
            lost_at: None,
            attempts: 0,
        }
    }

    /// A connection is about to be made; the time it may take (None: any).
    ///
    /// # Errors
    /// `DeadlineExceeded`: none is left.
    pub(crate) fn opening(&mut self, now: Instant) -> Result<Option<Duration>, PullcordError> {
        self.opened = now;
        self.heard = false;
        match self.deadline.map(|deadline| deadline - now) {
            Some(Duration::ZERO) => Err(self.time_is_up()),
            left => Ok(left),
        }
    }

    /// What the caller is told whose own time is up.
    pub(crate) fn time_is_up(&self) -> PullcordError {
        PullcordError::DeadlineExceeded {
            message: "it was up before the run had ended".to_owned(),
            run_id: self.run_id.clone(),
        }
    }

    /// Takes note of an event that came; whether it is new to the caller.
    pub(crate) fn admit(&mut self, event: &RunEvent) -> bool {
        self.heard = true;
        self.begun = true;
        let place = self.after_sequence;
        let is_new = match &event.payload {
            Some(Payload::Heartbeat(_)) => return true,
            Some(Payload::Gap(gap)) => return gap.last_sequence > place,
            Some(Payload::Snapshot(_)) => event.sequence >= place,
            _ => event.sequence > place,
        };
        if !is_new {
            return false;
        }
        self.after_sequence = event.sequence;
        self.be_patient_again();
        match &event.payload {
            // Of a newer server: not for this client to show.
            None => return false,
            // With a source it is the end of a run beneath.
            Some(payload) if event.source.is_none() && is_terminal(payload) => {
                self.result = Some(payload.clone());
                self.ended = true;
            }
            Some(_) => {}
        }
        true
    }

    /// Takes note that something came which is no event of a run.
    pub(crate) fn progress(&mut self) {
        self.heard = true;
        self.be_patient_again();
    }

    /// Takes note of how the run stands, after a stream that ended in peace but without an end.
    ///
    /// That is no break where the caller had seen the terminal event before.
    pub(crate) fn learn(&mut self, run: &Run) {
        let has_ended = matches!(
            run.state(),
            RunState::Completed | RunState::Cancelled | RunState::Failed
        );
        if has_ended && run.last_sequence <= self.after_sequence {
            self.ended = true;
        }
    }

    /// The connection has ended before the run did; the wait before the next one.
    ///
    /// `error` is None where it ended in peace. `chance` is from 0 to 1: waits are between half
    /// their length and all of it, so that clients part ways.
    ///
    /// # Errors
    /// What the caller is to see, where coming back is of no use or patience is at its end.
    pub(crate) fn lost(
        &mut self,
        error: Option<PullcordError>,
        now: Instant,
        chance: f64,
    ) -> Result<Duration, PullcordError> {
        let error = match error {
            Some(error) if !self.may_pass(&error) => return Err(error),
            error => error,
        };
        if self.heard && now - self.opened >= self.pace.max_delay {
            self.be_patient_again();
        }
        let lost_at = *self.lost_at.get_or_insert(now);
        let patience = self.pace.reconnect_for.saturating_sub(now - lost_at);
        if patience.is_zero() {
            return Err(self.last_words(error));
        }
        let doubled = self.pace.first_delay.saturating_mul(1 << self.attempts);
        self.attempts = (self.attempts + 1).min(30);
        let longest = doubled.min(self.pace.max_delay);
        let delay = longest
            .mul_f64(f64::midpoint(1.0, chance))
            .max(asked_delay(error.as_ref()));
        let left = self
            .deadline
            .map_or(patience, |end| patience.min(end - now));
        Ok(delay.min(left))
    }

    fn be_patient_again(&mut self) {
        self.lost_at = None;
        self.attempts = 0;
    }

    fn may_pass(&self, error: &PullcordError) -> bool {
        match error {
            // Said to a new run it is an answer; said to a watcher of a known run it is a delay.
            PullcordError::Draining { .. }
            | PullcordError::ServerBusy { .. }
            | PullcordError::StoreUnavailable { .. }
            // The next connection has the token of that time.
            | PullcordError::CredentialExpired { .. } => self.begun,
            // A bare CANCELLED comes from a server or proxy that shed the call: our own is never heard.
            PullcordError::CallFailed { code, .. } => *code == Code::Cancelled,
            PullcordError::ConnectionLost { .. } => true,
            _ => false,
        }
    }

    fn last_words(&self, error: Option<PullcordError>) -> PullcordError {
        let message = match error {
            None => "the stream ended before the run did".to_owned(),
            Some(shed @ PullcordError::CallFailed { .. }) => shed.to_string(),
            Some(error) => return error,
        };
        PullcordError::ConnectionLost {
            message,
            run_id: self.run_id.clone(),
        }
    }
}

fn asked_delay(error: Option<&PullcordError>) -> Duration {
    match error {
        Some(
            PullcordError::Draining { retry_after } | PullcordError::ServerBusy { retry_after, .. },
        ) => *retry_after,
        _ => Duration::ZERO,
    }
}

fn is_terminal(payload: &Payload) -> bool {
    matches!(
        payload,
        Payload::RunCompleted(_) | Payload::RunCancelled(_) | Payload::RunFailed(_)
    )
}

#[cfg(test)]
mod tests;
