//! Methods, schemes and errors of `wasi:http/types`.

use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, Resource};
use wasmtime_wasi_io::streams::Error as IoError;

use super::super::super::host_calls::{Store, charge};
use super::super::super::state::StoreState;
use crate::pure::resource::operation::CallError;

/// `types.method`.
#[derive(Clone, ComponentType, Debug, Lift, Lower)]
#[component(variant)]
pub(super) enum Method {
    #[component(name = "get")]
    Get,
    #[component(name = "head")]
    Head,
    #[component(name = "post")]
    Post,
    #[component(name = "put")]
    Put,
    #[component(name = "delete")]
    Delete,
    #[component(name = "connect")]
    Connect,
    #[component(name = "options")]
    Options,
    #[component(name = "trace")]
    Trace,
    #[component(name = "patch")]
    Patch,
    #[component(name = "other")]
    Other(String),
}

impl Method {
    pub(super) fn word(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other(word) => word,
        }
    }
}

/// `types.scheme`.
#[derive(Clone, ComponentType, Debug, Lift, Lower)]
#[component(variant)]
pub(super) enum Scheme {
    #[component(name = "HTTP")]
    Http,
    #[component(name = "HTTPS")]
    Https,
    #[component(name = "other")]
    Other(String),
}

impl Scheme {
    pub(super) fn word(&self) -> &str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Other(word) => word,
        }
    }
}

/// `types.DNS-error-payload`.
#[derive(Clone, ComponentType, Debug, Lift, Lower)]
#[component(record)]
pub(super) struct DnsError {
    rcode: Option<String>,
    #[component(name = "info-code")]
    info_code: Option<u16>,
}

/// `types.TLS-alert-received-payload`.
#[derive(Clone, ComponentType, Debug, Lift, Lower)]
#[component(record)]
pub(super) struct TlsAlert {
    #[component(name = "alert-id")]
    alert_id: Option<u8>,
    #[component(name = "alert-message")]
    alert_message: Option<String>,
}

/// `types.field-size-payload`.
#[derive(Clone, ComponentType, Debug, Lift, Lower)]
#[component(record)]
pub(super) struct FieldSize {
    #[component(name = "field-name")]
    field_name: Option<String>,
    #[component(name = "field-size")]
    field_size: Option<u32>,
}

/// `types.error-code`: all of it, since a type is compared as a whole.
#[derive(Clone, ComponentType, Debug, Lift, Lower)]
#[component(variant)]
pub(super) enum ErrorCode {
    #[component(name = "DNS-timeout")]
    DnsTimeout,
    #[component(name = "DNS-error")]
    DnsError(DnsError),
    #[component(name = "destination-not-found")]
    DestinationNotFound,
    #[component(name = "destination-unavailable")]
    DestinationUnavailable,
    #[component(name = "destination-IP-prohibited")]
    DestinationIpProhibited,
    #[component(name = "destination-IP-unroutable")]
    DestinationIpUnroutable,
    #[component(name = "connection-refused")]
    ConnectionRefused,
    #[component(name = "connection-terminated")]
    ConnectionTerminated,
    #[component(name = "connection-timeout")]
    ConnectionTimeout,
    #[component(name = "connection-read-timeout")]
    ConnectionReadTimeout,
    #[component(name = "connection-write-timeout")]
    ConnectionWriteTimeout,
    #[component(name = "connection-limit-reached")]
    ConnectionLimitReached,
    #[component(name = "TLS-protocol-error")]
    TlsProtocolError,
    #[component(name = "TLS-certificate-error")]
    TlsCertificateError,
    #[component(name = "TLS-alert-received")]
    TlsAlertReceived(TlsAlert),
    #[component(name = "HTTP-request-denied")]
    RequestDenied,
    #[component(name = "HTTP-request-length-required")]
    RequestLengthRequired,
    #[component(name = "HTTP-request-body-size")]
    RequestBodySize(Option<u64>),
    #[component(name = "HTTP-request-method-invalid")]
    RequestMethodInvalid,
    #[component(name = "HTTP-request-URI-invalid")]
    RequestUriInvalid,
    #[component(name = "HTTP-request-URI-too-long")]
    RequestUriTooLong,
    #[component(name = "HTTP-request-header-section-size")]
    RequestHeaderSectionSize(Option<u32>),
    #[component(name = "HTTP-request-header-size")]
    RequestHeaderSize(Option<FieldSize>),
    #[component(name = "HTTP-request-trailer-section-size")]
    RequestTrailerSectionSize(Option<u32>),
    #[component(name = "HTTP-request-trailer-size")]
    RequestTrailerSize(FieldSize),
    #[component(name = "HTTP-response-incomplete")]
    ResponseIncomplete,
    #[component(name = "HTTP-response-header-section-size")]
    ResponseHeaderSectionSize(Option<u32>),
    #[component(name = "HTTP-response-header-size")]
    ResponseHeaderSize(FieldSize),
    #[component(name = "HTTP-response-body-size")]
    ResponseBodySize(Option<u64>),
    #[component(name = "HTTP-response-trailer-section-size")]
    ResponseTrailerSectionSize(Option<u32>),
    #[component(name = "HTTP-response-trailer-size")]
    ResponseTrailerSize(FieldSize),
    #[component(name = "HTTP-response-transfer-coding")]
    ResponseTransferCoding(Option<String>),
    #[component(name = "HTTP-response-content-coding")]
    ResponseContentCoding(Option<String>),
    #[component(name = "HTTP-response-timeout")]
    ResponseTimeout,
    #[component(name = "HTTP-upgrade-failed")]
    UpgradeFailed,
    #[component(name = "HTTP-protocol-error")]
    ProtocolError,
    #[component(name = "loop-detected")]
    LoopDetected,
    #[component(name = "configuration-error")]
    ConfigurationError,
    #[component(name = "internal-error")]
    InternalError(Option<String>),
}

impl From<CallError> for ErrorCode {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoSuchResource | CallError::WrongKind | CallError::Denied(_) => {
                Self::RequestDenied
            }
            CallError::TooLarge(most) => Self::ResponseBodySize(Some(most)),
            CallError::TimedOut => Self::ResponseTimeout,
            CallError::Unavailable(_) => Self::DestinationUnavailable,
            CallError::Full => Self::ConnectionLimitReached,
            CallError::Died | CallError::NotSent(_) => Self::ConnectionTerminated,
            CallError::Refused { code, message } => match code.as_str() {
                "lookup" => Self::DnsError(DnsError { rcode: Some(message), info_code: None }),
                "connect" => Self::ConnectionRefused,
                "closed" => Self::ConnectionTerminated,
                "no-http" => Self::ProtocolError,
                _ => Self::InternalError(Some(message)),
            },
        }
    }
}

pub(super) fn link(types: &mut LinkerInstance<'_, StoreState>) -> wasmtime::Result<()> {
    types.func_wrap("http-error-code", |mut store: Store<'_>, (_error,): (Resource<IoError>,)| {
        charge(&mut store, 0)?;
        // An answer is whole when a stream of it begins: that can't fail any more.
        Ok((None::<ErrorCode>,))
    })
}
