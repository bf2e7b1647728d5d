//! The conformance driver: does what it is told on stdin through the public face of the crate, and
//! answers on stdout, one JSON object a line. tests/conformance/README.md says what can be asked.

use std::collections::HashMap;
use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use prost::Message;
use pullcord::v1::{ContinueRunRequest, WatchRunsResponse};
use pullcord::{
    ClientOptions, Pace, Payload, PullcordError, RunClient, RunEvent, RunStream, StreamOptions,
};
use serde_json::{Map, Value, json};

/// What the client says, or why a request could not be understood.
type Answer = Result<Value, Box<dyn Error>>;

#[tokio::main(worker_threads = 1)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut driver = Driver::default();
    for line in stdin().lines() {
        let request = Request(serde_json::from_str(&line?)?);
        let answer = match driver.answer(&request).await {
            Ok(answer) => answer,
            Err(error) => json!({"error": told(*error.downcast::<PullcordError>()?)}),
        };
        writeln!(stdout().lock(), "{answer}")?;
    }
    Ok(())
}

#[derive(Default)]
struct Driver {
    client: Option<RunClient>,
    streams: HashMap<u64, RunStream>,
    lists: HashMap<u64, BoxStream<'static, Result<WatchRunsResponse, PullcordError>>>,
    opened: u64,
}

impl Driver {
    async fn answer(&mut self, request: &Request) -> Answer {
        let op = request.text("op")?;
        if op == "connect" {
            return self.connect(request);
        }
        let mut client = self.client.clone().ok_or("not connected")?;
        let whose = |key| request.text(key).unwrap_or_default();
        if ["tenant", "owner"].iter().any(|key| !whose(key).is_empty()) {
            client = client.of(whose("tenant"), whose("owner"));
        }
        Ok(match op.as_str() {
            "run" => self.follow(client.run_with(request.message("spec")?, request.options())),
            "watch" => {
                let after_sequence = request.0["after_sequence"].as_i64().unwrap_or_default();
                let run_id = request.text("run_id")?;
                self.follow(client.watch_with(run_id, after_sequence, request.options()))
            }
            "watch_runs" => {
                let changes = client.watch_runs(request.message("request")?);
                self.opened += 1;
                self.lists.insert(self.opened, changes.boxed());
                json!({"stream": self.opened})
            }
            "next" if self.lists.contains_key(&request.stream()?) => {
                let list = self.lists.get_mut(&request.stream()?);
                match list.ok_or("no such list")?.try_next().await? {
                    Some(change) => message(&change),
                    None => json!({"end": true}),
                }
            }
            "next" => match self.stream(request)?.next().await.transpose()? {
                Some(event) => json!({"event": encoded(&event), "payload": payload(&event)}),
                None => json!({"end": true}),
            },
            "drop" => {
                self.streams.remove(&request.stream()?);
                self.lists.remove(&request.stream()?);
                json!({})
            }
            "start" => message(&client.start(request.message("spec")?).await?),
            "wait" => {
                let run_id = request.text("run_id")?;
                message(&client.wait(run_id, request.options().timeout).await?)
            }
            "get" => message(&client.get(request.text("run_id")?).await?),
            "list" => {
                let runs = client.list(request.message("request")?);
                messages(&runs.try_collect::<Vec<_>>().await?)
            }
            "cancel" => message(&client.cancel_with(request.message("request")?).await?),
            "cancel_many" => message(&client.cancel_many(request.message("request")?).await?),
            "continue_run" => {
                let ContinueRunRequest {
                    run_id,
                    decisions,
                    tenant,
                    owner,
                } = request.message("request")?;
                let client = client.of(tenant, owner);
                message(&client.continue_run(run_id, decisions).await?)
            }
            "erase" => message(&client.erase(request.message("request")?).await?),
            "runnables" => messages(&client.runnables().await?),
            unknown => return Err(format!("no such op: {unknown}").into()),
        })
    }

    fn connect(&mut self, request: &Request) -> Answer {
        self.streams.clear();
        self.lists.clear();
        let metadata = request.0["metadata"].as_object().into_iter().flatten();
        let usual = ClientOptions::default();
        let time = |key, default| request.seconds(key).unwrap_or(default);
        self.client = Some(RunClient::with_options(ClientOptions {
            target: request.text("target")?,
            metadata: metadata
                .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            actor: request.text("actor").ok(),
            pace: Pace {
                reconnect_for: time("reconnect_for", usual.pace.reconnect_for),
                ..usual.pace
            },
            keepalive: time("keepalive", usual.keepalive),
            keepalive_timeout: time("keepalive_timeout", usual.keepalive_timeout),
            ..usual
        })?);
        Ok(json!({"language": "rust", "version": env!("CARGO_PKG_VERSION")}))
    }

    fn follow(&mut self, stream: RunStream) -> Value {
        self.opened += 1;
        let answer = json!({"stream": self.opened, "run_id": stream.run_id()});
        self.streams.insert(self.opened, stream);
        answer
    }

    fn stream(&mut self, request: &Request) -> Result<&mut RunStream, Box<dyn Error>> {
        let number = request.stream()?;
        Ok(self.streams.get_mut(&number).ok_or("no such stream")?)
    }
}

/// What the suite asks for.
struct Request(Value);

impl Request {
    fn text(&self, key: &str) -> Result<String, Box<dyn Error>> {
        let text = self.0[key]
            .as_str()
            .ok_or_else(|| format!("{key}: missing"))?;
        Ok(text.to_owned())
    }

    fn stream(&self) -> Result<u64, Box<dyn Error>> {
        Ok(self.0["stream"].as_u64().ok_or("stream: missing")?)
    }

    fn message<M: Message + Default>(&self, key: &str) -> Result<M, Box<dyn Error>> {
        Ok(M::decode(STANDARD.decode(self.text(key)?)?.as_slice())?)
    }

    fn options(&self) -> StreamOptions {
        StreamOptions {
            timeout: self.seconds("timeout"),
            ..StreamOptions::default()
        }
    }

    fn seconds(&self, key: &str) -> Option<Duration> {
        self.0[key].as_f64().map(Duration::from_secs_f64)
    }
}

fn encoded(message: &impl Message) -> String {
    STANDARD.encode(message.encode_to_vec())
}

fn message(message: &impl Message) -> Value {
    json!({"message": encoded(message)})
}

fn messages(messages: &[impl Message]) -> Value {
    json!({"messages": messages.iter().map(encoded).collect::<Vec<_>>()})
}

fn payload(event: &RunEvent) -> Option<&'static str> {
    Some(match event.payload.as_ref()? {
        Payload::RunStarted(_) => "run_started",
        Payload::ContentDelta(_) => "content_delta",
        Payload::ReasoningDelta(_) => "reasoning_delta",
        Payload::ToolCallStarted(_) => "tool_call_started",
        Payload::ToolCallCompleted(_) => "tool_call_completed",
        Payload::StepStarted(_) => "step_started",
        Payload::StepCompleted(_) => "step_completed",
        Payload::UsageUpdated(_) => "usage_updated",
        Payload::CancelRequested(_) => "cancel_requested",
        Payload::RunPaused(_) => "run_paused",
        Payload::RunContinued(_) => "run_continued",
        Payload::Heartbeat(_) => "heartbeat",
        Payload::Gap(_) => "gap",
        Payload::Snapshot(_) => "snapshot",
        Payload::Custom(_) => "custom",
        Payload::RunCompleted(_) => "run_completed",
        Payload::RunCancelled(_) => "run_cancelled",
        Payload::RunFailed(_) => "run_failed",
        Payload::Progress(_) => "progress",
    })
}

fn told(error: PullcordError) -> Value {
    let mut said = Map::new();
    let mut say = |key: &str, value: Value| said.insert(key.to_owned(), value);
    say("code", json!(status_name(&error)));
    say("message", json!(error.to_string()));
    if let Some(run_id) = error.run_id() {
        say("run_id", json!(run_id));
    }
    let kind = match error {
        PullcordError::InvalidArgument { violations } => {
            let violations = violations.into_iter();
            let fields = violations.map(
                |violation| json!({"field": violation.field, "description": violation.description}),
            );
            say("violations", fields.collect());
            "InvalidArgument"
        }
        PullcordError::RunNotFound { .. } => "RunNotFound",
        PullcordError::RunnableNotFound { runnable } => {
            say("runnable", json!(runnable));
            "RunnableNotFound"
        }
        PullcordError::RunExists { .. } => "RunExists",
        PullcordError::ServerBusy { retry_after, .. } => {
            say("retry_after", json!(retry_after.as_secs_f64()));
            "ServerBusy"
        }
        PullcordError::QuotaExceeded { retry_after, .. } => {
            say("retry_after", json!(retry_after.as_secs_f64()));
            "QuotaExceeded"
        }
        PullcordError::Unauthenticated { .. } => "Unauthenticated",
        PullcordError::PermissionDenied { .. } => "PermissionDenied",
        PullcordError::CredentialExpired { .. } => "CredentialExpired",
        PullcordError::Draining { retry_after } => {
            say("retry_after", json!(retry_after.as_secs_f64()));
            "Draining"
        }
        PullcordError::StoreUnavailable { .. } => "StoreUnavailable",
        PullcordError::SessionBusy { session_id, .. } => {
            say("session_id", json!(session_id));
            "SessionBusy"
        }
        PullcordError::TooManyAffected { matched, allowed } => {
            say("matched", json!(matched));
            say("allowed", json!(allowed));
            "TooManyAffected"
        }
        PullcordError::RunNotPaused { state, .. } => {
            let state = state.as_str_name();
            say("state", json!(state.trim_start_matches("RUN_STATE_")));
            "RunNotPaused"
        }
        PullcordError::ServerFault => "ServerFault",
        PullcordError::CallFailed { .. } => "CallFailed",
        PullcordError::ConnectionLost { .. } => "ConnectionLost",
        PullcordError::DeadlineExceeded { .. } => "DeadlineExceeded",
        _ => "PullcordError",
    };
    say("kind", json!(kind));
    Value::Object(said)
}

/// The status as gRPC writes it: `NotFound` is `NOT_FOUND`.
fn status_name(error: &PullcordError) -> String {
    let mut name = String::new();
    for letter in format!("{:?}", error.code()).chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
