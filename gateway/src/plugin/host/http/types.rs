//! `wasi:http/types` as plugins get it: wasmtime's, where the guest pays for what its calls carry.
//!
//! What is too long to be of use is refused before it is copied.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, WasmList, WasmStr};
use wasmtime_wasi_http::p2::bindings::http::types::{self, ErrorCode, HostFields, Method, Scheme};
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::p2::{HeaderError, HeaderResult, HttpError};
use wasmtime_wasi_http::{FieldMap, FieldMapError, WasiHttp, WasiHttpView as _};

use super::held::{self, BODY_BYTES, FIELD_BYTES, MAP_BYTES};
use crate::plugin::host::Host;

type Call<'a> = StoreContextMut<'a, Host>;
type Entries = WasmList<(WasmStr, WasmList<u8>)>;
type Pairs = Vec<(String, Vec<u8>)>;
type Values = WasmList<WasmList<u8>>;
type Request = Resource<HostOutgoingRequest>;
type Answer = Option<Result<Result<Resource<HostIncomingResponse>, ErrorCode>, ()>>;

/// Links all of it, then once more what carries bytes.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let options = types::LinkOptions::default();
    types::add_to_linker::<Host, WasiHttp>(linker, &options, Host::http)?;
    linker.allow_shadowing(true);
    let mut instance = linker.instance(TYPES)?;
    fields_put_in(&mut instance)?;
    fields_asked_for(&mut instance)?;
    requests_set(&mut instance)?;
    requests_asked_for(&mut instance)?;
    bodies_and_answers(&mut instance)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn fields_put_in(linker: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    linker.func_wrap("[static]fields.from-list", |mut call: Call<'_>, (entries,): (Entries,)| {
        let Some(entries) = read_entries(&mut call, &entries)? else { return told(Err(too_large())) };
        let host = call.data_mut();
        let bytes = entries.iter().map(|(name, value)| name.len() + value.len() + FIELD_BYTES).sum::<usize>();
        host.hold(MAP_BYTES + bytes)?;
        told(host.http().from_list(entries))
    })?;
    linker.func_wrap("[method]fields.set", |mut call: Call<'_>, (fields, name, values): (_, WasmStr, Values)| {
        let Some(name) = read(&mut call, &name)? else { return told(Err(types::HeaderError::InvalidSyntax.into())) };
        let Some(values) = read_values(&mut call, &values)? else { return told(Err(too_large())) };
        let host = call.data_mut();
        let bytes = values.iter().map(|value| value.len() + FIELD_BYTES).sum::<usize>();
        host.hold(name.len() + bytes)?;
        told(host.http().set(fields, name, values))
    })?;
    linker.func_wrap(
        "[method]fields.append",
        |mut call: Call<'_>, (fields, name, value): (_, WasmStr, WasmList<u8>)| {
            let Some(name) = read(&mut call, &name)? else {
                return told(Err(types::HeaderError::InvalidSyntax.into()));
            };
            let bytes = value.len();
            let fits = bytes <= call.data().fields_bytes_max();
            let value = fits.then(|| value.as_le_slice(&call).to_vec());
            let host = call.data_mut();
            host.carry(bytes);
            let Some(value) = value else { return told(Err(too_large())) };
            host.hold(name.len() + value.len() + FIELD_BYTES)?;
            told(host.http().append(fields, name, value))
        },
    )?;
    linker.func_wrap("[method]fields.clone", |mut call: Call<'_>, (fields,): (Resource<FieldMap>,)| {
        let host = call.data_mut();
        let bytes = held::fields_bytes(host.http().table.get(&fields)?);
        // It is copied when it is changed.
        host.carry(bytes);
        host.hold(bytes)?;
        Ok((HostFields::clone(&mut host.http(), fields)?,))
    })
}

fn fields_asked_for(linker: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    linker.func_wrap("[method]fields.has", |mut call: Call<'_>, (fields, name): (_, WasmStr)| {
        let Some(name) = read(&mut call, &name)? else { return Ok((false,)) };
        Ok((call.data_mut().http().has(fields, name)?,))
    })?;
    linker.func_wrap("[method]fields.delete", |mut call: Call<'_>, (fields, name): (_, WasmStr)| {
        let Some(name) = read(&mut call, &name)? else { return told(Err(types::HeaderError::InvalidSyntax.into())) };
        told(call.data_mut().http().delete(fields, name))
    })?;
    linker.func_wrap("[method]fields.get", |mut call: Call<'_>, (fields, name): (_, WasmStr)| {
        let Some(name) = read(&mut call, &name)? else { return Ok((Vec::new(),)) };
        let host = call.data_mut();
        let values = host.http().get(fields, name)?;
        host.carry(values.iter().map(|value| value.len() + PAIR_BYTES).sum());
        Ok((values,))
    })?;
    linker.func_wrap("[method]fields.entries", |mut call: Call<'_>, (fields,): (_,)| {
        let host = call.data_mut();
        let entries = host.http().entries(fields)?;
        host.carry(entries.iter().map(|(name, value)| name.len() + value.len() + 2 * PAIR_BYTES).sum());
        Ok((entries,))
    })
}

fn requests_set(linker: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    use types::HostOutgoingRequest as Requests;

    linker.func_wrap("[method]outgoing-request.set-method", |mut call: Call<'_>, (request, method): (_, Method)| {
        if !call.data_mut().text(method_bytes(&method))? {
            return Ok((Err(()),));
        }
        Ok((Requests::set_method(&mut call.data_mut().http(), request, method)?,))
    })?;
    linker.func_wrap(
        "[method]outgoing-request.set-scheme",
        |mut call: Call<'_>, (request, scheme): (_, Option<Scheme>)| {
            if !call.data_mut().text(scheme.as_ref().map_or(0, scheme_bytes))? {
                return Ok((Err(()),));
            }
            Ok((Requests::set_scheme(&mut call.data_mut().http(), request, scheme)?,))
        },
    )?;
    linker.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut call: Call<'_>, (request, path): (_, Option<WasmStr>)| {
            let Some(path) = read_optional(&mut call, path.as_ref())? else { return Ok((Err(()),)) };
            Ok((Requests::set_path_with_query(&mut call.data_mut().http(), request, path)?,))
        },
    )?;
    linker.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut call: Call<'_>, (request, authority): (_, Option<WasmStr>)| {
            let Some(authority) = read_optional(&mut call, authority.as_ref())? else { return Ok((Err(()),)) };
            Ok((Requests::set_authority(&mut call.data_mut().http(), request, authority)?,))
        },
    )
}

fn requests_asked_for(linker: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    use types::HostOutgoingRequest as Requests;

    linker.func_wrap("[method]outgoing-request.method", |mut call: Call<'_>, (request,): (Request,)| {
        let host = call.data_mut();
        let method = Requests::method(&mut host.http(), request)?;
        host.carry(method_bytes(&method));
        Ok((method,))
    })?;
    linker.func_wrap("[method]outgoing-request.scheme", |mut call: Call<'_>, (request,): (Request,)| {
        let host = call.data_mut();
        let scheme = Requests::scheme(&mut host.http(), request)?;
        host.carry(scheme.as_ref().map_or(0, scheme_bytes));
        Ok((scheme,))
    })?;
    linker.func_wrap("[method]outgoing-request.path-with-query", |mut call: Call<'_>, (request,): (Request,)| {
        let host = call.data_mut();
        let path = Requests::path_with_query(&mut host.http(), request)?;
        host.carry(path.as_ref().map_or(0, String::len));
        Ok((path,))
    })?;
    linker.func_wrap("[method]outgoing-request.authority", |mut call: Call<'_>, (request,): (Request,)| {
        let host = call.data_mut();
        let authority = Requests::authority(&mut host.http(), request)?;
        host.carry(authority.as_ref().map_or(0, String::len));
        Ok((authority,))
    })
}

/// These carry nothing, but leave memory behind a handle.
fn bodies_and_answers(linker: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    linker.func_wrap("[method]outgoing-request.body", |mut call: Call<'_>, (request,): (Request,)| {
        let host = call.data_mut();
        host.hold(BODY_BYTES)?;
        Ok((types::HostOutgoingRequest::body(&mut host.http(), request)?,))
    })?;
    type Response = Resource<HostOutgoingResponse>;
    linker.func_wrap("[method]outgoing-response.body", |mut call: Call<'_>, (response,): (Response,)| {
        let host = call.data_mut();
        host.hold(BODY_BYTES)?;
        Ok((types::HostOutgoingResponse::body(&mut host.http(), response)?,))
    })?;
    type Finished = (Resource<HostOutgoingBody>, Option<Resource<FieldMap>>);
    linker.func_wrap("[static]outgoing-body.finish", |mut call: Call<'_>, (body, trailers): Finished| {
        let mut http = call.data_mut().http();
        // They are not sent, and would be out of sight here.
        if let Some(trailers) = trailers {
            http.table.delete(trailers)?;
        }
        match types::HostOutgoingBody::finish(&mut http, body, None) {
            Ok(()) => Ok((Ok(()),)),
            Err(error) => Ok((Err(HttpError::downcast(error)?),)),
        }
    })?;
    type Future = Resource<HostFutureIncomingResponse>;
    linker.func_wrap("[method]future-incoming-response.get", |mut call: Call<'_>, (future,): (Future,)| {
        let host = call.data_mut();
        let answer: Answer = types::HostFutureIncomingResponse::get(&mut host.http(), future)?;
        if let Some(Ok(Ok(response))) = &answer {
            let bytes = held::fields_bytes(&host.http().table.get(response)?.headers);
            host.hold(bytes)?;
        }
        Ok((answer,))
    })
}

impl Host {
    /// The guest pays for what a call carries.
    fn carry(&mut self, bytes: usize) {
        self.owe(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// The same of a text that is to be kept, unless it is too long for that.
    fn text(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        self.carry(bytes);
        let fits = bytes <= TEXT_BYTES_MAX;
        if fits {
            self.hold(bytes)?;
        }
        Ok(fits)
    }
}

/// Reads a text, unless it is longer than any name of a field.
fn read(call: &mut Call<'_>, text: &WasmStr) -> wasmtime::Result<Option<String>> {
    let found = text.to_str(&*call)?;
    let bytes = found.len();
    let read = (bytes <= TEXT_BYTES_MAX).then(|| found.into_owned());
    call.data_mut().carry(bytes);
    Ok(read)
}

/// Reads a part of a URL that is to be kept, if there is one; `None` where it is too long.
fn read_optional(call: &mut Call<'_>, text: Option<&WasmStr>) -> wasmtime::Result<Option<Option<String>>> {
    let Some(text) = text else { return Ok(Some(None)) };
    let read = read(call, text)?;
    if let Some(read) = &read {
        call.data_mut().hold(read.len())?;
    }
    Ok(read.map(Some))
}

/// Reads values, unless they are more than a map of fields may hold.
fn read_values(call: &mut Call<'_>, values: &Values) -> wasmtime::Result<Option<Vec<Vec<u8>>>> {
    let values = values.iter(&mut *call)?.collect::<wasmtime::Result<Vec<_>>>()?;
    let bytes = values.iter().map(|value| value.len() + PAIR_BYTES).sum();
    call.data_mut().carry(bytes);
    let fits = bytes <= call.data().fields_bytes_max();
    Ok(fits.then(|| values.iter().map(|value| value.as_le_slice(&*call).to_vec()).collect()))
}

/// Reads names and values, unless they are more than a map of fields may hold.
fn read_entries(call: &mut Call<'_>, entries: &Entries) -> wasmtime::Result<Option<Pairs>> {
    let entries = entries.iter(&mut *call)?.collect::<wasmtime::Result<Vec<_>>>()?;
    let mut bytes = 0;
    for (name, value) in &entries {
        bytes += name.to_str(&*call)?.len() + value.len() + 2 * PAIR_BYTES;
    }
    call.data_mut().carry(bytes);
    if bytes > call.data().fields_bytes_max() {
        return Ok(None);
    }
    let read = |(name, value): &(WasmStr, WasmList<u8>)| {
        Ok((name.to_str(&*call)?.into_owned(), value.as_le_slice(&*call).to_vec()))
    };
    entries.iter().map(read).collect::<wasmtime::Result<_>>().map(Some)
}

/// Bytes of a method that has no name here.
pub(super) fn method_bytes(method: &Method) -> usize {
    if let Method::Other(text) = method { text.len() } else { 0 }
}

/// Bytes of a scheme that has no name here.
pub(super) fn scheme_bytes(scheme: &Scheme) -> usize {
    if let Scheme::Other(text) = scheme { text.len() } else { 0 }
}

fn told<T>(done: HeaderResult<T>) -> wasmtime::Result<(Result<T, types::HeaderError>,)> {
    match done {
        Ok(done) => Ok((Ok(done),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

fn too_large() -> HeaderError {
    FieldMapError::TotalSizeTooBig.into()
}

const TYPES: &str = "wasi:http/types@0.2.12";

/// The longest name of a field, and about the longest URL, that there can be.
const TEXT_BYTES_MAX: usize = 65_535;

/// Where each value is, and how long.
const PAIR_BYTES: usize = 8;
