//! The names that may have a certificate, and the names that may be devices.
//!
//! The folders of an authority and of a device have files called after names (`NAME.pem`, `NAME.key`), beside files of
//! their own (`root.pem`, `ca.key`). A name of at least two labels can never be the name of one of those.

use cyphonic_core::name::Fqdn;

use crate::error::{Code, Failure};

/// The first labels of the services' names, as the nodes expect them in certificates.
const SERVICES: [&str; 3] = ["as", "nms", "trs"];

/// Refuses a name that is not below `zone`, or that is a single label.
pub fn of_zone(name: &Fqdn, zone: &Fqdn) -> Result<(), Failure> {
    of_two_labels(name)?;
    if name != zone && name.is_in(zone) {
        return Ok(());
    }
    let what = format!("{name} is not a name in the zone {zone}");
    Err(Failure::new(Code::Usage, what, format!("give a name such as {}.{zone}", name.short())))
}

/// Refuses a name that no device may have: one outside `zone`, or a service's. A device with a service's name would
/// have the certificate that nodes trust as that service's. If the zone is not known, every name that begins with `as`,
/// `nms` or `trs` is refused.
pub fn of_device(name: &Fqdn, zone: Option<&Fqdn>) -> Result<(), Failure> {
    match zone {
        Some(zone) => of_zone(name, zone)?,
        None => of_two_labels(name)?,
    }
    let is_service = SERVICES.into_iter().any(|service| match zone {
        Some(zone) => name.as_str() == format!("{service}.{zone}"),
        None => name.short() == service,
    });
    if !is_service {
        return Ok(());
    }
    let what = format!("{name} is the name of a service, not of a device");
    let remedy = "give the device another name; `cyphonic ca issue` makes the certificates of services";
    Err(Failure::new(Code::Usage, what, remedy))
}

fn of_two_labels(name: &Fqdn) -> Result<(), Failure> {
    if name.as_str().contains('.') {
        return Ok(());
    }
    let what = format!("{name} is a single label, not a full name");
    Err(Failure::new(Code::Usage, what, format!("give the name with its zone, such as {name}.cyphonic.test")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Fqdn {
        text.parse().unwrap()
    }

    #[test]
    fn only_names_below_the_zone_get_certificates() {
        for (text, zone, good) in [
            ("a.example.org", "example.org", true),
            ("as.example.org", "example.org", true),
            ("a.b.example.org", "example.org", true),
            ("a.example", "example", true),
            ("example.org", "example.org", false),
            ("a.example.com", "example.org", false),
            ("aexample.org", "example.org", false),
            ("root", "root", false),
            ("service", "example.org", false),
        ] {
            assert_eq!(of_zone(&name(text), &name(zone)).is_ok(), good, "{text} in {zone}");
        }
    }

    #[test]
    fn no_device_has_the_name_of_a_service() {
        for (text, zone, good) in [
            ("a.example.org", Some("example.org"), true),
            ("nms.example.org", Some("example.org"), false),
            ("nms.office.example.org", Some("example.org"), true),
            ("trs.example.com", Some("example.org"), false),
            ("a.example.org", None, true),
            ("as.example.org", None, false),
            ("nms.office.example.org", None, false),
            ("ca", None, false),
        ] {
            assert_eq!(of_device(&name(text), zone.map(name).as_ref()).is_ok(), good, "{text} in {zone:?}");
        }
    }
}
