//! Sites and carriers: their prefixes, and the boxes between their nodes and the core.

use ipnet::{IpNet, Ipv6Net};

use super::link::link;
use super::{Context, LEAST_MTU_V4, LEAST_MTU_V6, MAX_SITES, boxes};
use crate::address::{
    CARRIER_V4, NAT64_PREFIX, Prefixes, behind_carrier, carrier_inside, lan, lan_v6, overlap, parse_nat64, parse_v4,
    parse_v6,
};
use crate::error::{Problem, ScenarioError};
use crate::scenario::{Carrier, Nat64, Site, SiteV4, SiteV6};
use crate::schema;
use crate::words::SiteKind;

/// RFC 6296 corrects a whole word behind the prefix.
const LONGEST_NPT: u8 = 112;
/// The prefix length of a LAN behind a NAT66.
const LAN_V6_LENGTH: u8 = 64;

/// The site of that name.
pub(super) fn find(sites: &[Site], name: &str) -> Result<usize, Problem> {
    let known = || sites.iter().map(|site| site.name.clone()).collect();
    let unknown = || Problem::UnknownSite { found: name.to_owned(), known: known() };
    sites.iter().position(|site| site.name == name).ok_or_else(unknown)
}

/// The carrier of that name.
pub(super) fn find_carrier(carriers: &[Carrier], name: &str) -> Result<usize, Problem> {
    let known = || carriers.iter().map(|carrier| carrier.name.clone()).collect();
    let unknown = || Problem::UnknownCarrier { found: name.to_owned(), known: known() };
    carriers.iter().position(|carrier| carrier.name == name).ok_or_else(unknown)
}

/// Resolves all carriers and sites.
pub(super) fn sites(
    context: Context<'_, '_>,
    carriers: &[schema::Carrier],
    sites: Vec<schema::Site>,
) -> Result<(Vec<Carrier>, Vec<Site>), ScenarioError> {
    context.at_most("carrier", carriers.len(), MAX_SITES)?;
    context.at_most("site", sites.len(), MAX_SITES)?;
    let mut prefixes = Prefixes::new();
    let named = sites
        .iter()
        .enumerate()
        .map(|(index, site)| Named::claim(context, index, site, &mut prefixes))
        .collect::<Result<Vec<_>, _>>()?;
    let mut known: Vec<Carrier> = Vec::new();
    for (index, carrier) in carriers.iter().enumerate() {
        if known.iter().any(|other| other.name == carrier.name) {
            return context.fail(&format!("carrier.{index}.name"), Problem::NameTaken(carrier.name.clone()));
        }
        known.push(one_carrier(context, index, carrier, &mut prefixes)?);
    }
    let mut resolved: Vec<Site> = Vec::new();
    for (index, (site, named)) in sites.into_iter().zip(named).enumerate() {
        if resolved.iter().any(|other| other.name == site.name) {
            return context.fail(&format!("site.{index}.name"), Problem::NameTaken(site.name));
        }
        let new = New { context, path: format!("site.{index}"), index, named, carriers: &known };
        resolved.push(new.site(site, &mut prefixes)?);
    }
    Ok((known, resolved))
}

fn one_carrier(
    context: Context<'_, '_>,
    index: usize,
    carrier: &schema::Carrier,
    prefixes: &mut Prefixes,
) -> Result<Carrier, ScenarioError> {
    let path = format!("carrier.{index}");
    let name = carrier.name.clone();
    if !is_label(&name) {
        return context.fail(&format!("{path}.name"), Problem::BadName(name));
    }
    let outer = context.at(&path, prefixes.next_v4(&format!("the carrier {name:?}")))?;
    Ok(Carrier {
        inside: carrier_inside(index),
        nat: boxes::nat(context, &path, &carrier.nat(), outer.into())?,
        // Sites behind it may have IPv6.
        link: link(context, &format!("{path}.link"), carrier.link.clone(), (LEAST_MTU_V6, "IPv6"))?,
        name,
    })
}

/// The prefixes that a site names itself. They are claimed for all sites before any prefix is given out.
#[derive(Clone, Copy)]
struct Named {
    v4: Option<ipnet::Ipv4Net>,
    v6: Option<Ipv6Net>,
}

impl Named {
    fn claim(
        context: Context<'_, '_>,
        index: usize,
        site: &schema::Site,
        prefixes: &mut Prefixes,
    ) -> Result<Self, ScenarioError> {
        let kind = site.kind;
        let owner = owner(&site.name);
        let mut named = Self { v4: None, v6: None };
        if let Some(text) = &site.v4 {
            let path = format!("site.{index}.v4");
            if !(kind.has_global_v4() || kind.has_private_v4()) {
                return context.fail(&path, Problem::PrefixWithoutFamily { kind, family: "IPv4" });
            }
            let prefix = context.at(&path, parse_v4(text, kind.has_private_v4()))?;
            if kind.has_global_v4() {
                context.at(&path, prefixes.claim(prefix, &owner))?;
            } else if site.carrier.is_some() && overlap(prefix.into(), CARRIER_V4.into()) {
                let owner = "the carrier's side of the site's NAT".to_owned();
                let problem = Problem::Overlap { prefix: prefix.into(), other: CARRIER_V4.into(), owner };
                return context.fail(&path, problem);
            }
            named.v4 = Some(prefix);
        }
        if let Some(text) = &site.v6 {
            let path = format!("site.{index}.v6");
            if !kind.has_v6() {
                return context.fail(&path, Problem::PrefixWithoutFamily { kind, family: "IPv6" });
            }
            let prefix = context.at(&path, parse_v6(text, site.nat66.is_some()))?;
            if site.nat66.is_none() {
                context.at(&path, prefixes.claim(prefix, &owner))?;
            }
            named.v6 = Some(prefix);
        }
        Ok(named)
    }
}

/// The name of a site in errors.
fn owner(site: &str) -> String {
    format!("the site {site:?}")
}

/// What a site is made from.
struct New<'a, 'i, 'c> {
    context: Context<'a, 'i>,
    path: String,
    index: usize,
    named: Named,
    carriers: &'c [Carrier],
}

impl New<'_, '_, '_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    fn fail<T>(&self, key: &str, problem: Problem) -> Result<T, ScenarioError> {
        self.context.fail(&self.key(key), problem)
    }

    fn site(&self, site: schema::Site, prefixes: &mut Prefixes) -> Result<Site, ScenarioError> {
        let kind = site.kind;
        if !is_label(&site.name) {
            return self.fail("name", Problem::BadName(site.name));
        }
        if site.nat.is_some() && !kind.has_private_v4() {
            return self.fail("nat", Problem::NatWithoutPrivateV4(kind));
        }
        if site.broken.is_some() && !(kind.has_v6() && (kind.has_global_v4() || kind.has_private_v4())) {
            return self.fail("broken", Problem::BrokenAlone(kind));
        }
        self.check_translators(&site)?;
        let carrier = match &site.carrier {
            Some(_) if !kind.has_private_v4() => {
                return self.fail("carrier", Problem::CarrierWithoutPrivateV4(kind));
            }
            Some(name) => Some(self.context.at(&self.key("carrier"), find_carrier(self.carriers, name))?),
            None => None,
        };
        let v6 = self.v6(&site, prefixes)?;
        let v4 = self.v4(&site, prefixes)?;
        let filter = site.firewall.map(|filter| boxes::firewall(self.context, &self.key("firewall"), filter));
        Ok(Site {
            link: link(self.context, &self.key("link"), site.link, least_mtu(kind))?,
            nat64: self.nat64(&site.name, site.nat64.as_ref(), prefixes)?,
            firewall: filter.transpose()?,
            name: site.name,
            kind,
            v4,
            v6,
            carrier,
            broken: site.broken,
        })
    }

    fn check_translators(&self, site: &schema::Site) -> Result<(), ScenarioError> {
        let all = [("nat64", site.nat64.is_some()), ("nptv6", site.nptv6.is_some()), ("nat66", site.nat66.is_some())];
        let mut found = all.into_iter().filter_map(|(key, is_there)| is_there.then_some(key));
        let Some(first) = found.next() else { return Ok(()) };
        match found.next() {
            Some(second) => self.fail(second, Problem::TwoTranslators),
            None if first == "nat64" && site.kind != SiteKind::Ipv6 => self.fail(first, Problem::Nat64WithV4),
            None if !site.kind.has_v6() => self.fail(first, Problem::TranslatorWithoutV6(site.kind)),
            None => Ok(()),
        }
    }

    fn v6(&self, site: &schema::Site, prefixes: &mut Prefixes) -> Result<Option<SiteV6>, ScenarioError> {
        if !site.kind.has_v6() {
            return Ok(None);
        }
        let mut next = || self.context.at(&self.path, prefixes.next_v6(&owner(&site.name)));
        if let Some(nat) = &site.nat66 {
            let nat = boxes::nat(self.context, &self.key("nat66"), &nat.nat(), next()?.into())?;
            let lan = self.named.v6.unwrap_or_else(|| lan_v6(self.index, LAN_V6_LENGTH));
            return Ok(Some(SiteV6::Private { lan, nat }));
        }
        let outside = match self.named.v6 {
            Some(prefix) => prefix,
            None => next()?,
        };
        let Some(npt) = &site.nptv6 else { return Ok(Some(SiteV6::Global(outside))) };
        if outside.prefix_len() > LONGEST_NPT {
            let (found, most) = (outside.into(), LONGEST_NPT);
            return self.fail("v6", Problem::NptTooLong { found, most });
        }
        let inside = match &npt.inside {
            Some(text) => self.context.at(&self.key("nptv6.inside"), parse_v6(text, true))?,
            None => lan_v6(self.index, outside.prefix_len()),
        };
        if inside.prefix_len() != outside.prefix_len() {
            let problem = Problem::NptLengths { inside: inside.into(), outside: outside.into() };
            return self.fail("nptv6.inside", problem);
        }
        Ok(Some(SiteV6::Prefix { inside, outside }))
    }

    fn v4(&self, site: &schema::Site, prefixes: &mut Prefixes) -> Result<Option<SiteV4>, ScenarioError> {
        let mut next = || self.context.at(&self.path, prefixes.next_v4(&owner(&site.name)));
        Ok(if site.kind.has_private_v4() {
            let outer = if site.carrier.is_some() { behind_carrier(self.index) } else { next()? };
            let words = site.nat.as_ref().map(schema::Nat::nat).unwrap_or_default();
            let nat = boxes::nat(self.context, &self.key("nat"), &words, outer.into())?;
            Some(SiteV4::Private { lan: self.named.v4.unwrap_or_else(|| lan(self.index)), nat })
        } else if site.kind.has_global_v4() {
            Some(SiteV4::Global(match self.named.v4 {
                Some(prefix) => prefix,
                None => next()?,
            }))
        } else {
            None
        })
    }

    fn nat64(
        &self,
        name: &str,
        words: Option<&schema::Nat64>,
        prefixes: &mut Prefixes,
    ) -> Result<Option<Nat64>, ScenarioError> {
        let Some(words) = words else { return Ok(None) };
        let path = self.key("nat64.prefix");
        let prefix = match &words.prefix {
            Some(text) => self.context.at(&path, parse_nat64(text))?,
            None => NAT64_PREFIX,
        };
        if prefix != NAT64_PREFIX {
            // The addresses that it hides from the site's nodes must not be in use.
            self.context.at(&path, prefixes.check(IpNet::from(prefix)))?;
        }
        let outer = self.context.at(&self.path, prefixes.next_v4(&owner(name)))?;
        Ok(Some(Nat64 { prefix, nat: boxes::nat(self.context, &self.key("nat64"), &words.nat(), outer.into())? }))
    }
}

/// Site names follow the rule of node names: they appear in the same tables.
fn is_label(name: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len()) && name.chars().all(good) && !name.starts_with('-') && !name.ends_with('-')
}

/// The least MTU of a site's link.
pub(super) const fn least_mtu(kind: SiteKind) -> (u16, &'static str) {
    if kind.has_v6() { (LEAST_MTU_V6, "IPv6") } else { (LEAST_MTU_V4, "IPv4") }
}
