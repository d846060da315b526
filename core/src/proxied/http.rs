//! The HTTP/1.1 around proxied UDP (RFC 9298 §3.2, RFC 9110 §7.8): requests, answers, and CONNECT (RFC 9110 §9.3.6).
//!
//! Both ends read with `httparse`. A head longer than [`MAX_HEAD`] is refused.

use std::net::IpAddr;

use crate::name::Fqdn;

/// Most bytes of a request's or an answer's head.
pub const MAX_HEAD: usize = 8 * 1024;
/// Most fields of a head.
const MAX_FIELDS: usize = 48;
/// Most schemes of authentication that are read from an answer, and most bytes of one.
const MAX_SCHEMES: usize = 4;
const MAX_SCHEME: usize = 16;
/// The Upgrade token (RFC 9298 §8.1), and the application protocol that is upgraded.
pub const UPGRADE: &str = "connect-udp";
/// The application protocol, in TLS.
pub const ALPN: &[u8] = b"http/1.1";
/// The beginning of the default URI template (RFC 9298 §2); host and port follow.
const TEMPLATE: &str = "/.well-known/masque/udp/";
/// The field in which the AS names the NMS. A node can open its TCP connection there while it logs in.
pub const NMS_FIELD: &str = "Cyphonic-Nms";

/// The request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// UDP to this host (a name or an address, as text) and port.
    Udp {
        /// The host, percent-decoded.
        host: String,
        /// The UDP port.
        port: u16,
    },
    /// UDP, but with a target that does not follow the template.
    BadTarget,
    /// Any other HTTP request. `head`: a HEAD request, whose answer has no body.
    Other {
        /// Whether the answer must have no body.
        head: bool,
    },
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// No HTTP.
    NotHttp,
    /// Longer than [`MAX_HEAD`].
    TooLong,
}

/// Reads a request. Returns it with its length, once it is whole.
pub fn request(bytes: &[u8]) -> Result<Option<(Request, usize)>, BadHead> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLong),
        Err(_) => return Err(BadHead::NotHttp),
    };
    let method = parsed.method.unwrap_or_default();
    let has = |name: &str, token: &str| has_token(parsed.headers, name, token);
    if method != "GET" || !has("connection", "upgrade") || !has("upgrade", UPGRADE) {
        return Ok(Some((Request::Other { head: method == "HEAD" }, length)));
    }
    Ok(Some((target(parsed.path.unwrap_or_default()).unwrap_or(Request::BadTarget), length)))
}

/// The target in a path.
fn target(path: &str) -> Option<Request> {
    // The absolute form is allowed too (RFC 9112 §3.2.2).
    let path = path.find(TEMPLATE).map(|at| &path[at + TEMPLATE.len()..])?;
    let (host, port) = path.strip_suffix('/').unwrap_or(path).split_once('/')?;
    let port: u16 = port.parse().ok().filter(|&port| port != 0)?;
    let host = percent_decoded(host).filter(|host| !host.is_empty())?;
    Some(Request::Udp { host, port })
}

fn percent_decoded(text: &str) -> Option<String> {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (digit(bytes.next()?)? * 16 + digit(bytes.next()?)?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// Whether a list of tokens in a field has one, in any case.
fn has_token(fields: &[httparse::Header<'_>], name: &str, token: &str) -> bool {
    fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case(name))
        .filter_map(|field| std::str::from_utf8(field.value).ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// The request for UDP to a port of `service`, with the name that the Host field gives.
pub fn upgrade_request(service: &Fqdn, port: u16, host: &str) -> Vec<u8> {
    format!(
        "GET {TEMPLATE}{service}/{port}/ HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE}\r\n\
         Capsule-Protocol: ?1\r\n\r\n"
    )
    .into_bytes()
}

/// The request to an HTTP proxy for TCP to `target` (host and port), with the value of a Proxy-Authorization field.
pub fn connect_request(target: &str, authorization: Option<&str>) -> Vec<u8> {
    let authorization = authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n").into_bytes()
}

/// The answer that begins proxied UDP. `nms`: the addresses of the NMS, if the AS answers.
pub fn upgraded(nms: &str) -> Vec<u8> {
    let nms = if nms.is_empty() { String::new() } else { format!("{NMS_FIELD}: {nms}\r\n") };
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE}\r\nCapsule-Protocol: ?1\r\n\
         {nms}\r\n"
    )
    .into_bytes()
}

/// Any other answer, after which the server closes. `head`: without a body.
pub fn refusal(status: u16, head: bool) -> Vec<u8> {
    let reason = match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let body = format!("<html><head><title>{status} {reason}</title></head><body><h1>{reason}</h1></body></html>\n");
    let length = body.len();
    let body = if head { "" } else { &body };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n\
         {body}"
    )
    .into_bytes()
}

/// The answer of a server or a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Whether it switches to [`UPGRADE`].
    pub upgrades: bool,
    /// Whether the answer is a page for people, as that of a captive portal.
    pub is_page: bool,
    /// The host of the Location field: a name or an address.
    pub location: Option<String>,
    /// The schemes of the Proxy-Authenticate fields (RFC 9110 §11.7.1), without their parameters.
    pub schemes: Vec<String>,
    /// The value of [`NMS_FIELD`]; empty without one.
    pub nms: String,
    /// The length of the head, bytes.
    pub length: usize,
}

/// Reads an answer, once its head is whole.
pub fn answer(bytes: &[u8]) -> Result<Option<Answer>, BadHead> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLong),
        Err(_) => return Err(BadHead::NotHttp),
    };
    let value = |name: &str| {
        let field = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        field.and_then(|field| std::str::from_utf8(field.value).ok()).unwrap_or_default().trim().to_owned()
    };
    let status = parsed.code.unwrap_or_default();
    let challenges = parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("proxy-authenticate"));
    let challenges = challenges.filter_map(|field| std::str::from_utf8(field.value).ok());
    Ok(Some(Answer {
        status,
        upgrades: status == 101 && has_token(parsed.headers, "upgrade", UPGRADE),
        is_page: (300..400).contains(&status) || value("content-type").to_ascii_lowercase().starts_with("text/html"),
        location: host(&value("location")),
        schemes: challenges.flat_map(|text| text.split(',')).filter_map(scheme).take(MAX_SCHEMES).collect(),
        nms: value(NMS_FIELD),
        length,
    }))
}

/// The host of a URL, if it is a name or an address.
fn host(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => host.split(':').next()?,
    };
    let is_good = host.parse::<Fqdn>().is_ok() || host.parse::<IpAddr>().is_ok();
    is_good.then(|| host.to_owned())
}

/// The scheme at the beginning of an item of a list of challenges. The other items are parameters.
fn scheme(item: &str) -> Option<String> {
    let first = item.split_ascii_whitespace().next()?;
    let is_good = first.len() <= MAX_SCHEME && first.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_good.then(|| first.to_owned())
}

/// Basic credentials as a Proxy-Authorization value (RFC 7617); `user_and_password` has a colon between them.
pub fn basic(user_and_password: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("Basic ");
    for chunk in user_and_password.as_bytes().chunks(3) {
        let digits = chunk.iter().enumerate();
        let bits = digits.fold(0_u32, |bits, (i, &byte)| bits | u32::from(byte) << (16 - 8 * i));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_udp_is_read_as_it_was_written_and_only_when_it_is_whole() {
        let bytes = upgrade_request(&"as.cyphonic.test".parse().unwrap(), 443, "outer.example");
        for cut in 0..bytes.len() {
            assert_eq!(request(&bytes[..cut]), Ok(None));
        }
        let udp = Request::Udp { host: "as.cyphonic.test".into(), port: 443 };
        assert_eq!(request(&bytes), Ok(Some((udp, bytes.len()))));
    }

    #[test]
    fn an_ipv6_target_is_percent_encoded() {
        let text = "GET /.well-known/masque/udp/2001%3Adb8%3A%3A42/443/ HTTP/1.1\r\nHost: a\r\nConnection: x, upgrade\r\n\
                    Upgrade: Connect-UDP\r\n\r\n";
        let Ok(Some((Request::Udp { host, port: 443 }, _))) = request(text.as_bytes()) else { panic!("{text}") };
        assert_eq!(host, "2001:db8::42");
    }

    #[test]
    fn other_requests_bad_targets_and_no_http_are_told_apart() {
        let upgrade = "Connection: Upgrade\r\nUpgrade: connect-udp\r\n\r\n";
        for target in ["/.well-known/masque/udp/a/0/", "/.well-known/masque/udp/a/99999/", "/udp/a/443/", "/%zz"] {
            let text = format!("GET {target} HTTP/1.1\r\n{upgrade}");
            assert_eq!(request(text.as_bytes()).unwrap().unwrap().0, Request::BadTarget, "{target}");
        }
        let plain = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(request(plain), Ok(Some((Request::Other { head: true }, plain.len()))));
        assert_eq!(request(b"\x16\x03\x01\x02"), Err(BadHead::NotHttp));
        let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(MAX_HEAD));
        assert_eq!(request(long.as_bytes()), Err(BadHead::TooLong));
        let fields = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
        assert_eq!(request(fields.as_bytes()), Err(BadHead::TooLong));
    }

    #[test]
    fn answers_are_told_apart() {
        let good = answer(&upgraded("192.0.2.1:443")).unwrap().unwrap();
        assert!(good.upgrades && !good.is_page && good.nms == "192.0.2.1:443");
        assert_eq!(good.length, upgraded("192.0.2.1:443").len());
        let refused = answer(&refusal(403, false)).unwrap().unwrap();
        assert_eq!((refused.status, refused.upgrades), (403, false));
        let portal = answer(b"HTTP/1.1 302 Found\r\nLocation: http://login.hotel/\r\n\r\n").unwrap().unwrap();
        assert!(portal.is_page && portal.location.as_deref() == Some("login.hotel"));
        for (location, host) in [
            ("https://user@192.0.2.1:8080/x?u=http://a/", Some("192.0.2.1")),
            ("http://[2001:db8::1]/", Some("2001:db8::1")),
            ("/login", None),
            ("http://\u{1b}[31m/", None),
        ] {
            let text = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n");
            let location = answer(text.as_bytes()).ok().flatten().and_then(|answer| answer.location);
            assert_eq!(location.as_deref(), host, "{text}");
        }
        let schemes =
            |fields: &str| answer(format!("HTTP/1.1 407 x\r\n{fields}\r\n").as_bytes()).unwrap().unwrap().schemes;
        let two =
            "Proxy-Authenticate: Negotiate\r\nproxy-authenticate: NTLM, Basic realm=\"a b\", charset=\"UTF-8\"\r\n";
        assert_eq!(schemes(two), ["Negotiate", "NTLM", "Basic"]);
        assert_eq!(schemes(""), Vec::<String>::new());
        assert_eq!(answer(b"SSH-2.0-OpenSSH"), Err(BadHead::NotHttp));
    }

    #[test]
    fn basic_credentials_are_those_of_rfc_7617() {
        assert_eq!(basic("Aladdin:open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(basic("a:b"), "Basic YTpi");
        assert_eq!(basic("a:bc"), "Basic YTpiYw==");
    }
}
