//! Where guests may send HTTP requests: the rules of a manifest, URLs as guests write them, and
//! what kind of address a name leads to.
//!
//! All of it errs on the side of no. A URL that two programs could read in two ways is refused: one
//! of them would be this one, and the other one the server, or a proxy before it. A name is judged
//! by the addresses that it leads to, all of them, and only those are dialled.

#[cfg(test)]
mod tests;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::base::limits::URL_BYTES_MAX;

/// What a server listens at when its URL doesn't say.
const PORT: u16 = 80;

/// Longest name of a host.
const NAME_BYTES_MAX: usize = 253;

/// Longest part of one.
const LABEL_BYTES_MAX: usize = 63;

/// Characters that no URL has as they are.
const ODD: &str = "\"#<>\\^`{|}";

/// In a path these can mean something else to whoever decodes them sooner, or twice.
const AMBIGUOUS: [&str; 4] = ["%00", "%25", "%2f", "%5c"];

/// A server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// By name, in small letters and without a dot at its end.
    Name(String),
    /// By address.
    Address(IpAddr),
}

impl Host {
    fn parse(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        if name.is_empty() {
            return Err("the URL names no host".to_owned());
        }
        let odd = |c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_';
        let wrong =
            |label: &str| label.is_empty() || label.len() > LABEL_BYTES_MAX || label.contains(odd);
        if name.len() > NAME_BYTES_MAX || name.split('.').any(wrong) {
            return Err("the URL's host is no name and no address".to_owned());
        }
        // What ends in a number is an address, in one of many ways of writing it.
        let last = name.rsplit('.').next().unwrap_or_default();
        let hex = last.strip_prefix("0x").map(|hex| hex.chars().all(|c| c.is_ascii_hexdigit()));
        if !hex.unwrap_or_else(|| last.chars().all(|c| c.is_ascii_digit())) {
            return Ok(Self::Name(name.to_owned()));
        }
        match name.parse::<Ipv4Addr>() {
            Ok(address) => Ok(Self::Address(address.into())),
            Err(_) => Err("write an address as four decimal numbers".to_owned()),
        }
    }
}

/// A URL of HTTP without TLS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Url {
    host: Host,
    port: u16,
    /// Path and query, as they are sent.
    target: String,
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > URL_BYTES_MAX {
            return Err(format!("the URL is longer than {URL_BYTES_MAX} bytes"));
        }
        if text.contains(|c: char| !c.is_ascii_graphic() || ODD.contains(c)) {
            return Err("the URL has a character that must be encoded".to_owned());
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        if scheme.eq_ignore_ascii_case("https") {
            return Err("`https://` asks for TLS, which is not built into this host".to_owned());
        }
        if !scheme.eq_ignore_ascii_case("http") {
            return Err("the URL must begin with http://".to_owned());
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = authority_of(authority)?;
        let slash = if target.starts_with('/') { "" } else { "/" };
        let url = Self { host, port, target: format!("{slash}{target}") };
        let mut escapes = url.target.split('%').skip(1);
        let hex = |c: &u8| c.is_ascii_hexdigit();
        if escapes.any(|after| after.as_bytes().get(..2).is_none_or(|two| !two.iter().all(hex))) {
            return Err("the URL has a % without two hexadecimal digits".to_owned());
        }
        if url.path().split('/').any(is_dots) {
            return Err("the URL's path has a part that is `.` or `..`".to_owned());
        }
        Ok(url)
    }

    /// Whom to ask.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Where that listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The host, with its port when it isn't the usual one: what the header `Host` says.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(IpAddr::V4(address)) => address.to_string(),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        };
        if self.port == PORT { host } else { format!("{host}:{}", self.port) }
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// `host`, `host:port`, `[address]:port`.
fn authority_of(text: &str) -> Result<(Host, u16), String> {
    if text.contains('@') {
        return Err("a URL has no user and no password here".to_owned());
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']').unwrap_or_default();
            let address = inside.parse::<Ipv6Addr>();
            let address = address.map_err(|_| "in [] stands an address of IPv6".to_owned())?;
            let port = match after.strip_prefix(':') {
                None if !after.is_empty() => return Err("after [] stands a port".to_owned()),
                port => port,
            };
            (Host::Address(address.into()), port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Host::parse(host)?, Some(port)),
            None => (Host::parse(text)?, None),
        },
    };
    let Some(port) = port else { return Ok((host, PORT)) };
    let number = port.chars().all(|c| c.is_ascii_digit()).then(|| port.parse::<u16>().ok());
    match number.flatten() {
        Some(number) if number > 0 => Ok((host, number)),
        _ => Err("the URL's port is no number from 1 to 65535".to_owned()),
    }
}

/// `.` and `..`, however they are written; servers cut off what follows a semicolon.
fn is_dots(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or_default().to_ascii_lowercase();
    matches!(name.replace("%2e", ".").as_str(), "." | "..")
}

/// How far a request may go: each goes where those before it go, too.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reach {
    /// To the public internet.
    Public,
    /// Into networks of one's own.
    Private,
    /// To the very address that a rule names.
    Named,
}

/// One element of `allow`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    url: Url,
    /// All names below the URL's host are meant, and not that one.
    below: bool,
    private: bool,
}

impl Rule {
    /// Reads one: a URL, whose path is where allowed paths begin. `http://*.example.com/` stands
    /// for all names below `example.com`. With `private`, a name may lead into networks of one's
    /// own.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for people. Nothing of the text itself.
    pub fn parse(text: &str, private: bool) -> Result<Self, String> {
        let below = text.strip_prefix("http://*.");
        let url = match below {
            Some(rest) => Url::parse(&format!("http://{rest}"))?,
            None => Url::parse(text)?,
        };
        match url.host {
            Host::Address(_) if below.is_some() => {
                return Err("after `*.` stands a name".to_owned());
            }
            Host::Address(address) if !Reach::Named.may_dial(address) => {
                return Err("no server has this address".to_owned());
            }
            _ => {}
        }
        if url.target.contains('?') {
            return Err("a rule has no query".to_owned());
        }
        Ok(Self { url, below: below.is_some(), private })
    }

    /// Its URL, when that stands for one server.
    #[must_use]
    pub fn server(&self) -> Option<&Url> {
        (!self.below).then_some(&self.url)
    }

    /// Whom it is about, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}{}", if self.below { "*." } else { "" }, self.url.authority())
    }

    /// How far a request may go by this rule.
    #[must_use]
    pub fn reach(&self) -> Reach {
        match (&self.url.host, self.private) {
            (Host::Address(_), _) => Reach::Named,
            (Host::Name(_), true) => Reach::Private,
            (Host::Name(_), false) => Reach::Public,
        }
    }

    fn covers(&self, url: &Url) -> bool {
        let host = match (&self.url.host, &url.host) {
            (Host::Name(parent), Host::Name(name)) if self.below => {
                let head = name.strip_suffix(parent.as_str());
                head.is_some_and(|head| head.ends_with('.'))
            }
            (its, asked) => its == asked,
        };
        host && self.url.port == url.port && self.covers_path(url.path())
    }

    fn covers_path(&self, path: &str) -> bool {
        let beginning = self.url.path();
        if beginning == "/" {
            return true;
        }
        let small = path.to_ascii_lowercase();
        if AMBIGUOUS.iter().any(|escape| small.contains(escape)) {
            return false;
        }
        let rest = path.strip_prefix(beginning);
        rest.is_some_and(|rest| {
            rest.is_empty() || beginning.ends_with('/') || rest.starts_with('/')
        })
    }
}

/// How far a request to this URL may go; none when no rule is about it.
#[must_use]
pub fn reach(rules: &[Rule], url: &Url) -> Option<Reach> {
    rules.iter().filter(|rule| rule.covers(url)).map(Rule::reach).max()
}

/// What kind of address it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// On the public internet.
    Public,
    /// This machine.
    Loopback,
    /// A network of one's own, or of one's provider.
    Private,
    /// This link alone; also where clouds hand out the secrets of a machine.
    Link,
    /// Many at once.
    Multicast,
    /// Nobody's, or another address in disguise.
    Reserved,
}

impl Class {
    /// That of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            // Of two clouds; the others' are link-local.
            [168, 63, 129, 16] | [100, 100, 100, 200] | [169, 254, ..] => Self::Link,
            [127, ..] => Self::Loopback,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Self::Private,
            [224..=239, ..] => Self::Multicast,
            [0 | 240..=255, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _] => Self::Reserved,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            // By a translator to IPv4.
            [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
                let [.., a, b, c, d] = address.octets();
                Self::of_v4(Ipv4Addr::new(a, b, c, d))
            }
            [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfe80..=0xfebf, ..] => Self::Link,
            [0xfc00..=0xfdff, ..] => Self::Private,
            [0xff00..=0xffff, ..] => Self::Multicast,
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => {
                Self::Reserved
            }
            [0x2000..=0x3fff, ..] => Self::Public,
            _ => Self::Reserved,
        }
    }

    fn shown(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Link => "link-local",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
        }
    }
}

impl Reach {
    /// Whether this address may be dialled.
    #[must_use]
    pub fn may_dial(self, address: IpAddr) -> bool {
        match Class::of(address) {
            Class::Public => true,
            Class::Loopback | Class::Private => self >= Self::Private,
            Class::Link => self == Self::Named,
            Class::Multicast | Class::Reserved => false,
        }
    }

    /// Whether all addresses that a name leads to may be dialled: with one among them that may not
    /// none is. The message doesn't say which: guests don't learn of networks by it.
    ///
    /// # Errors
    ///
    /// The first that may not, for people.
    pub fn check(self, addresses: &[IpAddr]) -> Result<(), String> {
        match addresses.iter().find(|address| !self.may_dial(**address)) {
            None => Ok(()),
            Some(address) => {
                Err(format!("the name leads to a {} address", Class::of(*address).shown()))
            }
        }
    }
}
