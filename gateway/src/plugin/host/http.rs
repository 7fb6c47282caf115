//! Outgoing HTTP for guests: the types are wasmtime's, and what leaves is looked at and sent here.
//!
//! A request is checked where its guest runs ([`gate`]) and sent by a task of the same core ([`outlet`]), through the
//! gateway's own connections. What a call has begun ends with the call.

mod body;
mod gate;
mod held;
mod outlet;
mod types;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method, Request, Response};
use tokio::sync::{oneshot, watch};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http as interfaces;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::p2::{HttpError, HttpResult};
use wasmtime_wasi_http::{
    Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

pub use self::gate::Gate;
pub(super) use self::gate::Refused;
use self::gate::Telling;
pub(super) use self::held::Held;
pub use self::outlet::Outlet;
use self::outlet::{Job, Times};
use super::secrets::Placeholders;
use super::{Host, HostLimit, Identity, wasi};
use crate::message::hop;

/// What an instance needs to send requests, made when its guest first has to do with them.
pub(super) struct Http {
    context: WasiHttpCtx,
    sender: Sender,
}

/// The instance's way out.
pub(super) struct Sender {
    identity: Option<Arc<Identity>>,
    outlet: Option<Outlet>,
    pub(super) placeholders: Placeholders,
    /// Whether requests may leave now.
    is_open: bool,
    /// Held as long as the call runs: what it has begun listens for its end.
    call: Option<watch::Sender<()>>,
}

impl Http {
    fn new(identity: Option<Arc<Identity>>, outlet: Option<Outlet>, fields_bytes_max: usize) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(fields_bytes_max);
        let placeholders = Placeholders::default();
        Self { context, sender: Sender { identity, outlet, placeholders, is_open: false, call: None } }
    }

    /// Ends what the call has begun.
    pub(super) fn end_call(&mut self) {
        self.sender.is_open = false;
        self.sender.call = None;
    }
}

impl Host {
    /// The instance's way out.
    pub(super) fn sender(&mut self) -> &mut Sender {
        let bytes_max = self.fields_bytes_max();
        let (identity, outlet) = (&self.identity, &self.outlet);
        let http = self.http.get_or_insert_with(|| Box::new(Http::new(identity.clone(), outlet.clone(), bytes_max)));
        http.sender.is_open = self.is_open;
        &mut http.sender
    }

    /// Of one map of header fields, with what the map takes.
    fn fields_bytes_max(&self) -> usize {
        let bytes = usize::try_from(self.limits.outgoing_header_bytes_max).unwrap_or(usize::MAX);
        bytes.saturating_add(FIELDS_SPARE_BYTES)
    }
}

/// Links `wasi:http/types` and `wasi:http/outgoing-handler`.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    types::add_to_linker(linker)?;
    // By hand: the generated way needs all of `types` on what counts the calls.
    let mut handler = linker.instance(OUTGOING_HANDLER)?;
    handler.func_wrap("handle", |mut store: StoreContextMut<'_, Host>, (request, options): Handled| {
        match store.data_mut().handle(request, options) {
            Ok(response) => Ok((Ok(response),)),
            Err(error) => Ok((Err(error.downcast()?),)),
        }
    })
}

type Handled = (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>);

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.sender();
        let bytes_max = self.fields_bytes_max();
        let (identity, outlet) = (&self.identity, &self.outlet);
        let http = self.http.get_or_insert_with(|| Box::new(Http::new(identity.clone(), outlet.clone(), bytes_max)));
        let Http { context, sender } = &mut **http;
        let table = wasi::table(&mut self.wasi, &mut self.output, &self.limits);
        WasiHttpCtxView { ctx: context, table, hooks: sender }
    }
}

impl Host {
    /// Sends a request, if the call may send one more.
    fn handle(
        &mut self,
        request: Resource<HostOutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> HttpResult<Resource<HostFutureIncomingResponse>> {
        self.charge(0).map_err(HttpError::trap)?;
        let Some(left) = self.outgoing_left.checked_sub(1) else {
            if let Some(identity) = &self.identity {
                Telling::new(identity).tell(Refused::Calls);
            }
            return Err(HttpError::trap(HostLimit("more requests than `outgoing_calls_max`")));
        };
        self.outgoing_left = left;
        // For the head of the answer. What the request held stays counted.
        self.hold(self.fields_bytes_max()).map_err(HttpError::trap)?;
        interfaces::outgoing_handler::Host::handle(&mut self.http(), request, options)
    }
}

impl Sender {
    /// Looks at a request and makes it what is sent.
    fn prepare(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<(Job, Outlet, Pending), Refused> {
        let identity = self.identity.as_ref().ok_or(Refused::Hook)?;
        let mut telling = Telling::new(identity);
        let prepared = (|| {
            let (mut parts, body) = request.into_parts();
            telling.asked(&parts.uri);
            let outlet = self.outlet.as_ref().filter(|_| self.is_open).ok_or(Refused::Hook)?;
            let gate = identity.gate.as_ref().ok_or(Refused::NotAllowed)?;
            let (site, target) = gate.target(&parts.uri)?;
            telling.to(&site.origin().host);
            gate::check_method(&parts.method)?;
            let length = gate::check_headers(&parts.headers)?;
            let masks = self.placeholders.put_in(&identity.secrets, &site, &mut parts.headers)?;
            gate::check_bytes(&parts.headers, gate.limits())?;
            gate::address(&mut parts, &target);
            let times = Times::new(options, gate.limits().outgoing_time_max);
            let ended = self.call.get_or_insert_with(|| watch::channel(()).0).subscribe();
            Ok((gate.clone(), outlet.clone(), Request::from_parts(parts, body), target, length, masks, times, ended))
        })();
        let (gate, outlet, request, target, length, masks, times, ended) = match prepared {
            Ok(prepared) => prepared,
            Err(refused) => {
                telling.tell(refused);
                return Err(refused);
            }
        };
        let (reply, head) = oneshot::channel();
        let job = Job { gate, target, request, length, masks, times, ended, reply, telling, permit: None };
        Ok((job, outlet, Pending(head)))
    }
}

/// The head of an answer to come.
struct Pending(oneshot::Receiver<Result<Response<WasiBody>, Refused>>);

type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Sender {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    /// The gateway writes it: a guest's spelling of the host goes nowhere.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _read: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let prepared = self.prepare(request, options);
        Box::new(async move {
            let (job, outlet, Pending(head)) = prepared?;
            outlet.send(job).await?;
            // Without an answer, the core or the call has ended.
            let response = head.await.unwrap_or(Err(Refused::Aborted))?;
            let worker: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(std::future::ready(Ok(())));
            Ok((response, worker))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }
}

/// What a guest may not set, and does not see in an answer. `content-length` it may: what it sends is held to it.
fn is_forbidden(name: &HeaderName) -> bool {
    let is_length = *name == http::header::CONTENT_LENGTH;
    !is_length && (hop::is_connection_field(name) || name.as_str().starts_with("proxy-"))
}

const OUTGOING_HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";
/// Beside the bytes of fields, what the map that they are in takes for a hundred of them.
const FIELDS_SPARE_BYTES: usize = 100 * 72;
/// Of a body that the guest writes, at one time.
const CHUNK_BYTES: usize = 16 << 10;

/// Methods that open tunnels, or have a server repeat what it was sent, secrets included.
const METHODS_REFUSED: [Method; 2] = [Method::CONNECT, Method::TRACE];

/// How long nothing may come where nobody says so.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
