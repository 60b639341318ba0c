//! `bulkhead:guest/http`: one request and its answer.

use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::super::host_calls::{Store, VERSION, charge};
use super::super::state::StoreState;
use super::ask;
use super::types::WitError;
use crate::pure::resource::operation::{CallResult, HttpAnswer, HttpRequest, Operation, Reply};

/// `http.request`.
#[derive(Clone, ComponentType, Debug, Lift)]
#[component(record)]
pub(super) struct WitRequest {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl From<WitRequest> for HttpRequest {
    fn from(request: WitRequest) -> Self {
        let WitRequest { method, url, headers, body } = request;
        Self { method, url, headers, body }
    }
}

/// `http.response`.
#[derive(Clone, ComponentType, Debug, Lower)]
#[component(record)]
struct WitResponse {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    let mut http = linker.instance(&format!("bulkhead:guest/http@{VERSION}"))?;
    http.func_wrap("send", |mut store: Store<'_>, (name, request): (String, WitRequest)| {
        let request = HttpRequest::from(request);
        let bytes = request.bytes();
        let answer = ask(&mut store, &name, Operation::Http(request), bytes)?;
        Ok((response(&mut store, answer)?,))
    })
}

fn size(headers: &[(String, Vec<u8>)], body: &[u8]) -> usize {
    let sizes = headers.iter().map(|(name, value)| name.len().saturating_add(value.len()));
    sizes.fold(body.len(), usize::saturating_add)
}

fn response(
    store: &mut Store<'_>,
    answer: CallResult,
) -> wasmtime::Result<Result<WitResponse, WitError>> {
    let HttpAnswer { status, headers, body } = match answer {
        Ok(Reply::Http(answer)) => answer,
        Ok(_) => return Ok(Err(WitError::WrongKind)),
        Err(error) => return Ok(Err(error.into())),
    };
    charge(store, size(&headers, &body))?;
    Ok(Ok(WitResponse { status, headers, body }))
}
