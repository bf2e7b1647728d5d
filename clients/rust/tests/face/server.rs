//! A server that answers each call with what the test has written down for it, and tells the test
//! what it was asked; and a wire to it that can be cut.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pullcord::v1::*;
use pullcord::{ClientOptions, Pace, RunClient};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt, iter};
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::v1::run_service_server::{RunService, RunServiceServer};

/// What the server answers to one call.
pub enum Reply {
    /// These events, and then the end of the stream.
    Events(Vec<RunEvent>),
    /// These events, and then an error.
    Break(Vec<RunEvent>, Status),
    /// These events, and then silence, until the client leaves.
    Silence(Vec<RunEvent>),
    /// Not even that it was heard, until the client leaves.
    Nothing,
    Refuse(Status),
    Run(Run),
    Page(ListRunsResponse),
    /// These changes, and then the status: OK, or an error.
    Changes(Vec<WatchRunsResponse>, Status),
    /// These changes, and then silence, until the client leaves.
    SilentList(Vec<WatchRunsResponse>),
    Receipt(CancelRunResponse),
    Erased(EraseRunsResponse),
}

/// What the server was asked, or saw.
#[derive(Debug)]
pub enum Seen {
    Run(RunSpec, MetadataMap),
    Watch(WatchRunRequest),
    Get(String),
    Start(RunSpec),
    Wait(WaitRunRequest),
    List(ListRunsRequest),
    Erase(EraseRunsRequest),
    WatchList(WatchRunsRequest),
    Cancel(CancelRunRequest, MetadataMap),
    /// The client left a silent stream.
    Left,
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The test's end of the server, which ends with it.
pub struct Fake {
    pub address: SocketAddr,
    script: Arc<Mutex<VecDeque<Reply>>>,
    seen: mpsc::UnboundedReceiver<Seen>,
    _tasks: JoinSet<()>,
}

impl Fake {
    /// Its future must not hold the script, which is large: it is put on the heap before.
    pub fn new(script: impl IntoIterator<Item = Reply>) -> impl Future<Output = Self> {
        let script: Vec<Reply> = script.into_iter().collect();
        Self::serve(Server::builder(), script)
    }

    pub async fn serve(mut builder: Server, script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, seen) = mpsc::unbounded_channel();
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        let service = RunServiceServer::new(Scripted(Arc::clone(&script), tell));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let serving = builder.add_service(service).serve_with_incoming(incoming);
            serving.await.unwrap();
        });
        Self {
            address,
            script,
            seen,
            _tasks: tasks,
        }
    }

    pub async fn seen(&mut self) -> Seen {
        self.seen.recv().await.unwrap()
    }

    /// That every reply was asked for, and nothing else was.
    pub fn assert_done(&mut self) {
        assert!(self.script.lock().unwrap().is_empty());
        let more = self.seen.try_recv();
        assert!(more.is_err(), "{more:?}");
    }
}

/// A client of the server at an address, which comes back at once, and not for long.
pub fn client(address: SocketAddr) -> RunClient {
    RunClient::with_options(options(address)).unwrap()
}

pub fn options(address: SocketAddr) -> ClientOptions {
    ClientOptions {
        target: address.to_string(),
        actor: Some("tester".into()),
        pace: Pace {
            first_delay: Duration::from_millis(1),
            ..Pace::default()
        },
        ..ClientOptions::default()
    }
}

/// A wire to a server: its address, and what cuts all that goes over it at that moment.
pub async fn wire(server: SocketAddr) -> (SocketAddr, broadcast::Sender<()>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cut, _) = broadcast::channel(1);
    let mut tasks = JoinSet::new();
    let cuts = cut.clone();
    tasks.spawn(async move {
        let mut lines = JoinSet::new();
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(server).await.unwrap();
            let mut is_cut = cuts.subscribe();
            lines.spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = is_cut.recv() => {}
                }
            });
        }
    });
    (address, cut, tasks)
}

struct Scripted(Arc<Mutex<VecDeque<Reply>>>, mpsc::UnboundedSender<Seen>);

impl Scripted {
    async fn reply(&self, seen: Seen) -> Result<Reply, Status> {
        self.1.send(seen).ok();
        let next = self.0.lock().unwrap().pop_front();
        match next {
            Some(Reply::Nothing) => Err(Leaving(self.1.clone()).next().await.unwrap().unwrap_err()),
            Some(Reply::Refuse(status)) => Err(status),
            Some(reply) => Ok(reply),
            None => Err(Status::failed_precondition(
                "the test expects no more calls",
            )),
        }
    }

    fn events<T: Send + 'static>(
        &self,
        reply: Reply,
        response: impl Fn(RunEvent) -> T + Send + 'static,
    ) -> Response<Events<T>> {
        let events: Events<RunEvent> = match reply {
            Reply::Events(events) => Box::pin(iter(events.into_iter().map(Ok))),
            Reply::Break(events, status) => {
                Box::pin(iter(events.into_iter().map(Ok).chain([Err(status)])))
            }
            Reply::Silence(events) => {
                let silence = Leaving(self.1.clone());
                Box::pin(iter(events.into_iter().map(Ok)).chain(silence))
            }
            _ => panic!("the test wrote another kind of reply down"),
        };
        Response::new(Box::pin(events.map(move |event| event.map(&response))))
    }
}

/// A stream that says nothing, and tells when it is left.
struct Leaving(mpsc::UnboundedSender<Seen>);

impl Stream for Leaving {
    type Item = Result<RunEvent, Status>;

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.send(Seen::Left).ok();
    }
}

#[tonic::async_trait]
impl RunService for Scripted {
    async fn run(
        &self,
        request: Request<RunRequest>,
    ) -> Result<Response<Events<RunResponse>>, Status> {
        let metadata = request.metadata().clone();
        let spec = request.into_inner().spec.unwrap();
        let reply = self.reply(Seen::Run(spec, metadata)).await?;
        Ok(self.events(reply, |event| RunResponse { event: Some(event) }))
    }

    async fn watch_run(
        &self,
        request: Request<WatchRunRequest>,
    ) -> Result<Response<Events<WatchRunResponse>>, Status> {
        let reply = self.reply(Seen::Watch(request.into_inner())).await?;
        Ok(self.events(reply, |event| WatchRunResponse { event: Some(event) }))
    }

    async fn get_run(
        &self,
        request: Request<GetRunRequest>,
    ) -> Result<Response<GetRunResponse>, Status> {
        let run = self.run_of(Seen::Get(request.into_inner().run_id)).await?;
        Ok(Response::new(GetRunResponse { run }))
    }

    async fn start_run(
        &self,
        request: Request<StartRunRequest>,
    ) -> Result<Response<StartRunResponse>, Status> {
        let run = self
            .run_of(Seen::Start(request.into_inner().spec.unwrap()))
            .await?;
        Ok(Response::new(StartRunResponse { run }))
    }

    async fn wait_run(
        &self,
        request: Request<WaitRunRequest>,
    ) -> Result<Response<WaitRunResponse>, Status> {
        let run = self.run_of(Seen::Wait(request.into_inner())).await?;
        Ok(Response::new(WaitRunResponse { run }))
    }

    async fn list_runs(
        &self,
        request: Request<ListRunsRequest>,
    ) -> Result<Response<ListRunsResponse>, Status> {
        match self.reply(Seen::List(request.into_inner())).await? {
            Reply::Page(page) => Ok(Response::new(page)),
            _ => panic!("the test wrote another kind of reply down"),
        }
    }

    async fn watch_runs(
        &self,
        request: Request<WatchRunsRequest>,
    ) -> Result<Response<Events<WatchRunsResponse>>, Status> {
        let changes: Events<WatchRunsResponse> =
            match self.reply(Seen::WatchList(request.into_inner())).await? {
                Reply::Changes(changes, end) => {
                    let end = (end.code() != tonic::Code::Ok).then_some(Err(end));
                    Box::pin(iter(changes.into_iter().map(Ok).chain(end)))
                }
                Reply::SilentList(changes) => {
                    let silence = Leaving(self.1.clone())
                        .map(|event| event.map(|_| WatchRunsResponse::default()));
                    Box::pin(iter(changes.into_iter().map(Ok)).chain(silence))
                }
                _ => panic!("the test wrote another kind of reply down"),
            };
        Ok(Response::new(changes))
    }

    async fn erase_runs(
        &self,
        request: Request<EraseRunsRequest>,
    ) -> Result<Response<EraseRunsResponse>, Status> {
        match self.reply(Seen::Erase(request.into_inner())).await? {
            Reply::Erased(erased) => Ok(Response::new(erased)),
            _ => panic!("the test wrote another kind of reply down"),
        }
    }

    async fn cancel_run(
        &self,
        request: Request<CancelRunRequest>,
    ) -> Result<Response<CancelRunResponse>, Status> {
        let metadata = request.metadata().clone();
        match self
            .reply(Seen::Cancel(request.into_inner(), metadata))
            .await?
        {
            Reply::Receipt(receipt) => Ok(Response::new(receipt)),
            _ => panic!("the test wrote another kind of reply down"),
        }
    }
}

impl Scripted {
    async fn run_of(&self, seen: Seen) -> Result<Option<Run>, Status> {
        match self.reply(seen).await? {
            Reply::Run(run) => Ok(Some(run)),
            _ => panic!("the test wrote another kind of reply down"),
        }
    }
}
