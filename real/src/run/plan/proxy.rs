//! The HTTP proxy through which a node reaches the services by TCP: from its settings, or from the environment.

use std::net::IpAddr;
use std::path::Path;

use cyphonic_core::node::{ProxyConfig, Spared};
use ipnet::IpNet;
use zeroize::Zeroizing;

use super::resolve;
use crate::error::{Code, Failure};
use crate::files;

/// The variables of the environment, as curl reads them.
const VARIABLES: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
/// The variables with the services that are reached without the proxy of [`VARIABLES`].
const SPARED: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// The word for no proxy.
const NONE: &str = "none";
/// The port of a proxy whose URL names none, as curl has it.
const PORT: u16 = 1080;

/// The proxy that `proxy` names, or the environment if it is not set.
pub(super) fn of(setting: Option<&str>, credentials: Option<&Path>) -> Result<Option<ProxyConfig>, Failure> {
    let (text, key, spared) = match setting {
        Some(NONE) => return Ok(None),
        Some(text) => (text.to_owned(), "proxy", Vec::new()),
        None => match from_environment(VARIABLES) {
            Some(text) => (text, VARIABLES[0], spared(&from_environment(SPARED).unwrap_or_default())),
            None => return Ok(None),
        },
    };
    if spared.contains(&Spared::All) {
        return Ok(None);
    }
    let (place, in_url) = parse(&text, key)?;
    let credentials = match credentials {
        Some(file) => Some(credentials_in(file)?),
        None => in_url,
    };
    let addresses = resolve(key, &[place]).map_err(|failure| {
        let remedy = "check the name of the HTTP proxy and the system's DNS; `proxy = \"none\"` uses none";
        Failure::new(failure.code, failure.to_string(), remedy)
    })?;
    Ok(Some(ProxyConfig { addresses, credentials, spared }))
}

/// The first of these variables that is set.
fn from_environment(names: [&str; 2]) -> Option<String> {
    names.into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// The entries of `NO_PROXY`: names, addresses and networks with commas between them. A leading dot of a name counts
/// for nothing.
fn spared(list: &str) -> Vec<Spared> {
    let entries = list.split(',').map(|entry| entry.trim().trim_matches(['[', ']'])).filter(|entry| !entry.is_empty());
    let read = |entry: &str| match (entry, entry.parse::<IpNet>(), entry.parse::<IpAddr>()) {
        ("*", ..) => Spared::All,
        (_, Ok(network), _) => Spared::Network(network),
        (.., Ok(address)) => Spared::Network(address.into()),
        _ => Spared::Domain(entry.trim_matches('.').to_lowercase()),
    };
    entries.map(read).collect()
}

/// HOST:PORT of a URL, and USER:PASSWORD if they are in it.
fn parse(url: &str, key: &str) -> Result<(String, Option<Zeroizing<String>>), Failure> {
    let bad = |what: &str| {
        let remedy = "write http://HOST:PORT, or \"none\"; user and password belong into `proxy-credentials`";
        Failure::new(Code::Config, format!("`{key}`: {what}"), remedy)
    };
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) => return Err(bad(&format!("a proxy of `{scheme}://` is not supported"))),
        None => url,
    };
    let rest = rest.split('/').next().unwrap_or_default();
    let (credentials, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
    let has_port =
        place.rsplit_once(':').is_some_and(|(host, port)| port.parse::<u16>().is_ok() && !host.ends_with(':'));
    let place = match place {
        "" => return Err(bad("no host")),
        place if has_port => place.to_owned(),
        place => format!("{place}:{PORT}"),
    };
    Ok((place, credentials.map(decoded)))
}

/// The text of a part of a URL: `%` and two digits stand for a byte (RFC 3986 §2.1). A `%` without them stands for
/// itself, as people write passwords.
fn decoded(part: &str) -> Zeroizing<String> {
    let (bytes, digit) = (part.as_bytes(), |byte: &u8| char::from(*byte).to_digit(16));
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1).zip(bytes.get(at + 2)).filter(|_| byte == b'%');
        let escaped = digits.and_then(|(high, low)| u8::try_from(digit(high)? * 16 + digit(low)?).ok());
        out.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

fn credentials_in(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let credentials = files::read_password(file)?;
    if credentials.contains(':') {
        return Ok(credentials);
    }
    let what = format!("{}: no colon between user and password", file.display());
    Err(Failure::new(Code::Identity, what, "write USER:PASSWORD into it, on one line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> String {
        parse(url, "proxy").unwrap().0
    }

    #[test]
    fn a_url_names_host_and_port() {
        assert_eq!(place("http://192.0.2.8:3128"), "192.0.2.8:3128");
        assert_eq!(place("http://[2001:db8::8]:3128/"), "[2001:db8::8]:3128");
        assert_eq!(
            (place("proxy.example"), place("[2001:db8::8]")),
            ("proxy.example:1080".into(), "[2001:db8::8]:1080".into())
        );
        let (at, credentials) = parse("http://me:my@pass@192.0.2.8:3128", "proxy").unwrap();
        assert_eq!((at.as_str(), credentials.unwrap().as_str()), ("192.0.2.8:3128", "me:my@pass"));
        let (_, credentials) = parse("HTTP://me%40corp:50%25%c3%a4%2:ü%zz@192.0.2.8:3128", "proxy").unwrap();
        assert_eq!(credentials.unwrap().as_str(), "me@corp:50%ä%2:ü%zz");
    }

    #[test]
    fn no_proxy_names_domains_addresses_and_networks() {
        let domain = |name: &str| Spared::Domain(name.into());
        let network = |network: &str| Spared::Network(network.parse().unwrap());
        let list = " localhost, .Example.com ,192.0.2.7,10.0.0.0/8,,[2001:db8::1]";
        let all = [domain("localhost"), domain("example.com"), network("192.0.2.7/32"), network("10.0.0.0/8")];
        assert_eq!(spared(list), [&all[..], &[network("2001:db8::1/128")]].concat());
        assert_eq!((spared("*"), spared("")), (vec![Spared::All], Vec::new()));
    }

    #[test]
    fn what_is_no_http_proxy_is_refused_and_none_is_none() {
        for url in ["socks5://192.0.2.8:1080", "https://192.0.2.8:443", "http://"] {
            let failure = parse(url, "proxy").unwrap_err();
            assert!(failure.code == Code::Config && failure.remedy().contains("http://HOST:PORT"), "{failure}");
        }
        assert!(of(Some("none"), None).unwrap().is_none());
        let addresses = of(Some("http://192.0.2.8:3128"), None).unwrap().unwrap().addresses;
        assert_eq!(addresses, ["192.0.2.8:3128".parse().unwrap()]);
    }
}
