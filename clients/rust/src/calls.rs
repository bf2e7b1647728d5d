//! The line to a server: the options of a client, its channel, what goes with every call, and how a
//! call is made.
//!
//! Nothing here knows what the calls are for; the client does.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::actor::{ACTOR_KEY, actor_value, default_actor};
use crate::errors::{PullcordError, from_status};
use crate::resume::Pace;
use crate::stream::Events;
use crate::v1::run_service_client::RunServiceClient;
use crate::v1::{
    CancelRunRequest, CancelRunsRequest, ContinueRunRequest, CreateRunTokenRequest,
    EraseRunsRequest, GetRunRequest, ListRunsRequest, RunRequest, RunSpec, WaitRunRequest,
    WatchRunRequest, WatchRunsRequest, WatchRunsResponse,
};

/// Where a client calls unless it is told.
pub const DEFAULT_TARGET: &str = "127.0.0.1:50051";

pub(crate) type Stub = RunServiceClient<Channel>;

/// How long a call may take which neither follows a run nor waits for one.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A terminal event repeats all of a run's output, and a snapshot its input besides.
const MAX_MESSAGE_SIZE: usize = 64 * 1024 * 1024;
/// What does not answer a connection at all is not awaited for the minutes that TCP would take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// What travels as a deadline has room for a number of hours only.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Where a bearer token comes from. It is asked for each call, and so must be quick: one that asks a
/// network does so in a task of its own, ahead of time.
#[derive(Clone)]
pub struct Token(Arc<dyn Fn() -> String + Send + Sync>);

impl Token {
    /// A token that stays the same.
    #[must_use]
    pub fn fixed(token: impl Into<String>) -> Self {
        let token = token.into();
        Self::provided(move || token.clone())
    }

    /// A token that is asked for each call.
    #[must_use]
    pub fn provided(provider: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(provider))
    }

    fn get(&self) -> String {
        (self.0)()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Token(…)")
    }
}

/// Where a client calls, and what goes with every call.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The server: `host:port`, or a URI whose `https://` asks for TLS.
    pub target: String,
    /// Goes with every call, such as `authorization`: `Bearer …`.
    pub metadata: Vec<(String, String)>,
    /// The bearer token of every call, asked for each time, so that one that was renewed is used at
    /// once. None: none is sent.
    pub token: Option<Token>,
    /// Who asks, as receipts and events will say. None: `user@host` of this process.
    pub actor: Option<String>,
    /// How a broken stream is taken up again.
    pub pace: Pace,
    /// How long a connection may be silent, while a call is open, before it is pinged.
    pub keepalive: Duration,
    /// How long a ping may go unanswered before the connection is lost.
    pub keepalive_timeout: Duration,
    /// Certificates other than the machine's own; asks for TLS, too.
    #[cfg(feature = "tls")]
    pub tls: Option<tonic::transport::ClientTlsConfig>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            target: DEFAULT_TARGET.to_owned(),
            metadata: Vec::new(),
            token: None,
            actor: None,
            pace: Pace::default(),
            keepalive: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// A channel, and what goes with every call on it.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    stub: Stub,
    metadata: MetadataMap,
    token: Option<Token>,
    /// A tenant and an owner, whose runs are meant; empty: not said.
    whose: (String, String),
}

/// A request that can say whose run is meant.
pub(crate) trait Whose {
    fn whose(&mut self) -> [&mut String; 2];
}

macro_rules! whose {
    ($($request:ty),*) => {
        $(impl Whose for $request {
            fn whose(&mut self) -> [&mut String; 2] {
                [&mut self.tenant, &mut self.owner]
            }
        })*
    };
}

whose!(
    CancelRunRequest,
    CancelRunsRequest,
    ContinueRunRequest,
    CreateRunTokenRequest,
    EraseRunsRequest,
    GetRunRequest,
    ListRunsRequest,
    WaitRunRequest,
    WatchRunRequest,
    WatchRunsRequest
);

impl Calls {
    /// A line that is made with the first call, and again whenever it was lost.
    pub(crate) fn new(options: ClientOptions) -> Result<Self, PullcordError> {
        let channel = endpoint(&options)?.connect_lazy();
        let token = options.token.clone();
        Ok(Self {
            token,
            stub: RunServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_SIZE),
            metadata: metadata(options)?,
            whose: Default::default(),
        })
    }

    /// The same line, for somebody's runs.
    pub(crate) fn for_runs_of(mut self, tenant: String, owner: String) -> Self {
        self.whose = (tenant, owner);
        self
    }

    /// The request with what it does not say itself of whose run is meant.
    pub(crate) fn of<M: Whose>(&self, mut request: M) -> M {
        for (field, said) in request
            .whose()
            .into_iter()
            .zip([&self.whose.0, &self.whose.1])
        {
            if field.is_empty() {
                field.clone_from(said);
            }
        }
        request
    }

    /// The same line, from somebody else.
    pub(crate) fn with_actor(mut self, actor: &str) -> Self {
        self.metadata.insert(ACTOR_KEY, actor_value(actor));
        self
    }

    /// What the server answers, to a call that neither follows a run nor waits for one.
    pub(crate) async fn ask<M, T, F>(
        &self,
        message: M,
        run_id: &str,
        method: impl FnOnce(Stub, Request<M>) -> F,
    ) -> Result<T, PullcordError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.call(message, run_id, Some(CALL_TIMEOUT), method).await
    }

    /// What the server answers; `limit` is how long that may take (None: any time), and `run_id` the
    /// run that it is about.
    pub(crate) async fn call<M, T, F>(
        &self,
        message: M,
        run_id: &str,
        limit: Option<Duration>,
        method: impl FnOnce(Stub, Request<M>) -> F,
    ) -> Result<T, PullcordError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let answer = method(self.stub.clone(), self.request(message, limit));
        let answer = match limit {
            None => answer.await,
            // tonic's own timer looks at the beginning of the answer only.
            Some(limit) => tokio::time::timeout(limit, answer)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer came in time"))),
        };
        answer
            .map(Response::into_inner)
            .map_err(|status| from_status(&status, run_id))
    }

    fn request<M>(&self, message: M, limit: Option<Duration>) -> Request<M> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        // A token that cannot be sent is none: the server says so.
        if let Some(token) = &self.token
            && let Ok(value) = AsciiMetadataValue::try_from(format!("Bearer {}", token.get()))
        {
            request.metadata_mut().insert("authorization", value);
        }
        if let Some(limit) = limit {
            request.set_timeout(limit.min(MAX_TIMEOUT));
        }
        request
    }

    pub(crate) async fn open_run(
        &self,
        spec: RunSpec,
        limit: Option<Duration>,
    ) -> Result<Events, Status> {
        let request = self.request(RunRequest { spec: Some(spec) }, limit);
        let responses = self.stub.clone().run(request).await?.into_inner();
        let events = responses.map_ok(|response| response.event.unwrap_or_default());
        Ok(events.boxed())
    }

    pub(crate) async fn open_watch(
        &self,
        run_id: String,
        after_sequence: i64,
        limit: Option<Duration>,
    ) -> Result<Events, Status> {
        let message = WatchRunRequest {
            run_id,
            after_sequence,
            ..Default::default()
        };
        let request = self.request(self.of(message), limit);
        let responses = self.stub.clone().watch_run(request).await?.into_inner();
        let events = responses.map_ok(|response| response.event.unwrap_or_default());
        Ok(events.boxed())
    }

    pub(crate) async fn open_list(
        &self,
        message: WatchRunsRequest,
    ) -> Result<Streaming<WatchRunsResponse>, Status> {
        let request = self.request(self.of(message), None);
        Ok(self.stub.clone().watch_runs(request).await?.into_inner())
    }
}

fn metadata(options: ClientOptions) -> Result<MetadataMap, PullcordError> {
    let mut metadata = MetadataMap::new();
    for (key, value) in &options.metadata {
        let wrong = |why| PullcordError::invalid("metadata", format!("{key}: {why}"));
        metadata.append(
            AsciiMetadataKey::from_bytes(key.as_bytes())
                .map_err(|_| wrong("no name of a metadata entry"))?,
            AsciiMetadataValue::try_from(value).map_err(|_| wrong("not printable ASCII"))?,
        );
    }
    if options.actor.is_some() || !metadata.contains_key(ACTOR_KEY) {
        let actor = options.actor.unwrap_or_else(default_actor);
        metadata.insert(ACTOR_KEY, actor_value(&actor));
    }
    Ok(metadata)
}

fn endpoint(options: &ClientOptions) -> Result<Endpoint, PullcordError> {
    #[cfg(feature = "tls")]
    let scheme = if options.tls.is_some() {
        "https"
    } else {
        "http"
    };
    #[cfg(not(feature = "tls"))]
    let scheme = "http";
    let target = if options.target.contains("://") {
        options.target.clone()
    } else {
        format!("{scheme}://{}", options.target)
    };
    let wrong = |why: tonic::transport::Error| {
        PullcordError::invalid("target", format!("{}: {why}", options.target))
    };
    let endpoint = Endpoint::from_shared(target)
        .and_then(|endpoint| {
            endpoint.user_agent(concat!("pullcord-rust/", env!("CARGO_PKG_VERSION")))
        })
        .map_err(wrong)?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(options.keepalive)
        .keep_alive_timeout(options.keepalive_timeout);
    if endpoint.uri().scheme_str() != Some("https") {
        return Ok(endpoint);
    }
    #[cfg(feature = "tls")]
    {
        let machine = || tonic::transport::ClientTlsConfig::new().with_native_roots();
        endpoint
            .tls_config(options.tls.clone().unwrap_or_else(machine))
            .map_err(wrong)
    }
    #[cfg(not(feature = "tls"))]
    Err(PullcordError::invalid(
        "target",
        "https:// needs the crate's feature `tls`",
    ))
}
