//! A test: the CA of a small fleet is rolled over while its AS and its devices go on.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::store::{Device, Store, VirtualRange};
use rustls::pki_types::CertificateDer;

use super::{Applicant, Desk, Right, environment};
use crate::ca::{self, Ca, Step};
use crate::files;
use crate::store::SqliteStore;

/// The members. Each has a folder of its own, as if on a machine of its own.
struct Fleet {
    folder: tempfile::TempDir,
}

const MEMBERS: [&str; 4] = ["as.example", "a.example", "b.example", "c.example"];

fn name(text: &str) -> Fqdn {
    text.parse().unwrap()
}

impl Fleet {
    fn pki(&self) -> PathBuf {
        self.folder.path().join("pki")
    }

    fn file(&self, of: &str, file: &str) -> PathBuf {
        self.folder.path().join(of).join(file)
    }

    /// The operator copies what everybody gets.
    fn copy_to(&self, members: &[&str]) {
        for member in members {
            for file in ["root.pem", "crl.pem"] {
                std::fs::copy(self.pki().join(file), self.file(member, file)).unwrap();
            }
        }
    }

    fn chain(&self, of: &str) -> Vec<CertificateDer<'static>> {
        files::certificates(&self.file(of, &format!("{of}.pem"))).unwrap()
    }

    fn trusts(&self, one: &str, chain: &[CertificateDer<'static>]) -> bool {
        let roots = files::roots(&self.file(one, "root.pem"), Some(&self.file(one, "crl.pem")), &self.chain(one));
        roots.unwrap().judge(&environment()).unwrap().check(chain).is_ok()
    }

    /// Whether each of these members trusts each other one.
    fn assert_all_trust(&self, members: &[&str]) {
        for one in members {
            for other in members {
                assert!(self.trusts(one, &self.chain(other)), "{one} does not trust {other}");
            }
        }
    }

    fn renewing(&self, who: &str, port: u16) -> Applicant {
        let file = |end: &str| self.file(who, &format!("{who}.{end}"));
        Applicant {
            name: name(who),
            places: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))],
            as_name: name("as.example"),
            roots: self.file(who, "root.pem"),
            right: Right::Certificate { gain: Duration::ZERO },
            certificate: file("pem"),
            key: file("key"),
        }
    }
}

fn move_file(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

#[test]
fn a_fleet_is_rolled_over_to_another_ca_while_both_roots_count_and_each_has_its_list() {
    let fleet = Fleet { folder: tempfile::tempdir().unwrap() };
    let pki = fleet.pki();
    ca::init(&pki, &name("example")).unwrap();
    let database = fleet.folder.path().join("a.db");
    let open = || SqliteStore::serving(&database, VirtualRange::default()).unwrap();
    for member in MEMBERS {
        std::fs::create_dir(fleet.folder.path().join(member)).unwrap();
        let (certificate, key) = Ca::open(&pki).unwrap().issue(&name(member), 30, false).unwrap();
        move_file(&certificate, &fleet.file(member, &format!("{member}.pem")));
        move_file(&key, &fleet.file(member, &format!("{member}.key")));
        open().put_device(&Device { name: name(member), password: None, certificate_login: true }).unwrap();
    }
    fleet.copy_to(&MEMBERS);
    fleet.assert_all_trust(&MEMBERS);
    let own = ["as.example.pem", "as.example.key", "root.pem"].map(|file| fleet.file("as.example", file));
    let [certificate, key, roots] = &own;
    let credentials = files::credentials(&name("as.example"), certificate, key, roots, None).unwrap();
    let desk = Desk::new(&pki, open(), &credentials.roots, &credentials.identity).unwrap();
    let desk = desk.following(name("as.example"), own.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let port = runtime.block_on(async { desk.open(&[Ipv4Addr::LOCALHOST.into()], 0).unwrap().port() });
    let renew = |who: &str| runtime.block_on(fleet.renewing(who, port).sign_up());

    // The new root reaches some members before others.
    ca::rotate(&pki, Step::Begin, false).unwrap();
    assert!(ca::rotate(&pki, Step::Begin, false).is_err(), "one at a time");
    fleet.copy_to(&MEMBERS[..2]);
    fleet.assert_all_trust(&MEMBERS);
    fleet.copy_to(&MEMBERS);
    assert_eq!(files::certificates(&pki.join("root.pem")).unwrap().len(), 2);
    fleet.assert_all_trust(&MEMBERS);

    // The new CA signs. The AS was not restarted, and its own certificate is still from the old CA.
    ca::rotate(&pki, Step::Switch, false).unwrap();
    let before = fleet.chain("a.example");
    renew("a.example").unwrap();
    assert_ne!(fleet.chain("a.example")[1], before[1], "it is of the new CA");
    assert_eq!(
        cyphonic_core::tls::public_key(&fleet.chain("a.example")[0]),
        cyphonic_core::tls::public_key(&before[0])
    );
    fleet.assert_all_trust(&MEMBERS);
    let behind = ca::rotate(&pki, Step::Finish, false).unwrap_err();
    assert!(behind.to_string().contains("3 names have certificates of the CA before only"), "{behind}");

    // Each CA has its list.
    Ca::open(&pki).unwrap().revoke(&name("c.example")).unwrap();
    fleet.copy_to(&MEMBERS);
    let lists = std::fs::read_to_string(pki.join("crl.pem")).unwrap();
    assert_eq!(lists.matches("BEGIN X509 CRL").count(), 2);
    fleet.assert_all_trust(&MEMBERS[..3]);
    assert!(MEMBERS[..3].iter().all(|one| !fleet.trusts(one, &fleet.chain("c.example"))));
    let thief = renew("c.example").unwrap_err();
    assert!(thief.to_string().contains("revoked"), "{thief}");

    renew("b.example").unwrap();
    // A service keeps its key too; the desk follows the file.
    renew("as.example").unwrap();
    ca::rotate(&pki, Step::Finish, false).unwrap();
    fleet.copy_to(&MEMBERS[..3]);
    fleet.assert_all_trust(&MEMBERS[..3]);
    assert_eq!(files::certificates(&pki.join("root.pem")).unwrap().len(), 1);
    renew("a.example").unwrap();
    assert!(!fleet.trusts("b.example", &before), "the CA before counts no more");
    let of_old_ca = files::certificates(&fleet.file("b.example", "b.example.pem.~1~")).unwrap();
    assert!(!fleet.trusts("a.example", &of_old_ca), "the CA before counts no more");
    Ca::open(&pki).unwrap().revoke(&name("a.example")).unwrap();
    fleet.copy_to(&["b.example"]);
    assert!(!fleet.trusts("b.example", &fleet.chain("a.example")), "the new CA's list");
}
