//! Sites: their prefixes.

use super::link::link;
use super::{Context, LEAST_MTU_V4, LEAST_MTU_V6, MAX_SITES, boxes};
use crate::address::{Prefixes, lan, parse_v4, parse_v6};
use crate::error::{Problem, ScenarioError};
use crate::scenario::{Site, SiteV4};
use crate::schema;
use crate::words::SiteKind;

/// The site of that name.
pub(super) fn find(sites: &[Site], name: &str) -> Result<usize, Problem> {
    let known = || sites.iter().map(|site| site.name.clone()).collect();
    let unknown = || Problem::UnknownSite { found: name.to_owned(), known: known() };
    sites.iter().position(|site| site.name == name).ok_or_else(unknown)
}

/// Resolves all sites.
pub(super) fn sites(context: Context<'_, '_>, sites: Vec<schema::Site>) -> Result<Vec<Site>, ScenarioError> {
    context.at_most("site", sites.len(), MAX_SITES)?;
    let mut prefixes = Prefixes::new();
    let named = sites
        .iter()
        .enumerate()
        .map(|(index, site)| Named::claim(context, index, site, &mut prefixes))
        .collect::<Result<Vec<_>, _>>()?;
    let mut resolved: Vec<Site> = Vec::new();
    for (index, (site, named)) in sites.into_iter().zip(named).enumerate() {
        if resolved.iter().any(|other| other.name == site.name) {
            return context.fail(&format!("site.{index}.name"), Problem::NameTaken(site.name));
        }
        resolved.push(one(context, index, site, named, &mut prefixes)?);
    }
    Ok(resolved)
}

/// The prefixes that a site names itself; claimed for all sites before any is given out.
#[derive(Clone, Copy)]
struct Named {
    v4: Option<ipnet::Ipv4Net>,
    v6: Option<ipnet::Ipv6Net>,
}

impl Named {
    fn claim(
        context: Context<'_, '_>,
        index: usize,
        site: &schema::Site,
        prefixes: &mut Prefixes,
    ) -> Result<Self, ScenarioError> {
        let kind = site.kind;
        let mut named = Self { v4: None, v6: None };
        if let Some(text) = &site.v4 {
            let path = format!("site.{index}.v4");
            if !(kind.has_global_v4() || kind.has_private_v4()) {
                return context.fail(&path, Problem::PrefixWithoutFamily { kind, family: "IPv4" });
            }
            let prefix = context.at(&path, parse_v4(text, kind.has_private_v4()))?;
            if kind.has_global_v4() {
                context.at(&path, prefixes.claim(prefix, &site.name))?;
            }
            named.v4 = Some(prefix);
        }
        if let Some(text) = &site.v6 {
            let path = format!("site.{index}.v6");
            if !kind.has_v6() {
                return context.fail(&path, Problem::PrefixWithoutFamily { kind, family: "IPv6" });
            }
            let prefix = context.at(&path, parse_v6(text))?;
            context.at(&path, prefixes.claim(prefix, &site.name))?;
            named.v6 = Some(prefix);
        }
        Ok(named)
    }
}

fn one(
    context: Context<'_, '_>,
    index: usize,
    site: schema::Site,
    named: Named,
    prefixes: &mut Prefixes,
) -> Result<Site, ScenarioError> {
    let path = format!("site.{index}");
    let schema::Site { name, kind, link: access, nat: translator, firewall: filter, .. } = site;
    if !is_label(&name) {
        return context.fail(&format!("{path}.name"), Problem::BadName(name));
    }
    if translator.is_some() && !kind.has_private_v4() {
        return context.fail(&format!("{path}.nat"), Problem::NatWithoutPrivateV4(kind));
    }
    let v6 = match named.v6 {
        None if kind.has_v6() => Some(context.at(&path, prefixes.next_v6(&name))?),
        given => given,
    };
    let v4 = if kind.has_private_v4() {
        let outer = context.at(&path, prefixes.next_v4(&name))?;
        let nat = boxes::nat(context, &format!("{path}.nat"), &translator.unwrap_or_default(), outer)?;
        Some(SiteV4::Private { lan: named.v4.unwrap_or_else(|| lan(index)), nat })
    } else if kind.has_global_v4() {
        Some(SiteV4::Global(match named.v4 {
            Some(prefix) => prefix,
            None => context.at(&path, prefixes.next_v4(&name))?,
        }))
    } else {
        None
    };
    Ok(Site {
        link: link(context, &format!("{path}.link"), access, least_mtu(kind))?,
        firewall: filter.map(|filter| boxes::firewall(context, &format!("{path}.firewall"), filter)).transpose()?,
        name,
        kind,
        v4,
        v6,
    })
}

/// Site names follow the rule of node names: they appear in the same tables.
fn is_label(name: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len()) && name.chars().all(good) && !name.starts_with('-') && !name.ends_with('-')
}

const fn least_mtu(kind: SiteKind) -> (u16, &'static str) {
    if kind.has_v6() { (LEAST_MTU_V6, "IPv6") } else { (LEAST_MTU_V4, "IPv4") }
}
