//! A list of 200,000 revoked certificates: reading it, the first look-up, which verifies its signature, each later one,
//! and one more certificate by a delta list.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use cyphonic_core::name::Fqdn;
use cyphonic_core::pki::{Authority, Validity};
use cyphonic_core::tls::{Environment, Roots, WallClock};

const NOW: Duration = Duration::from_secs(1_700_000_000);

#[derive(Debug)]
struct Still;

impl WallClock for Still {
    fn since_unix_epoch(&self) -> Duration {
        NOW
    }
}

fn revoked(c: &mut Criterion) {
    let day = Duration::from_secs(86_400);
    let yesterday = NOW.saturating_sub(day);
    let around = Validity::new(yesterday, NOW + day).expect("a time");
    let root = Authority::root(&[1; 32], "root", around).expect("a root");
    let authority = root.intermediate(&[2; 32], "as", around).expect("an authority");
    let name: Fqdn = "alice.example".parse().expect("a name");
    let alice = authority.issue(&name, &[3; 32], 1, around).expect("an identity").chain;
    let many: Vec<_> = (1..=200_000_u64).map(|n| (n * 46_116_860_184_273, yesterday)).collect();
    let list = authority.revoke(&many, 7, around).expect("a list");
    let delta = authority.revoke_since(7, &[(9, yesterday)], 8, around).expect("a delta list");
    let roots = Roots::new([root.certificate().clone()]).expect("roots");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let env = Environment { provider, clock: Arc::new(Still), key_log: None };

    let mut group = c.benchmark_group("200,000 revoked certificates");
    group.sample_size(20);
    group.bench_function("read and verified", |b| {
        b.iter(|| roots.revoking([list.clone()]).judge(&env).expect("a judge").check(&alice).expect("a good chain"));
    });
    let known = roots.revoking([list.clone()]);
    let judge = known.judge(&env).expect("a judge");
    judge.check(&alice).expect("a good chain");
    group.bench_function("chain judged", |b| b.iter(|| judge.check(&alice).expect("a good chain")));
    group.bench_function("one more", |b| b.iter(|| known.revoking_also([delta.clone()]).judge(&env).expect("a judge")));
    group.finish();
}

criterion_group!(benches, revoked);
criterion_main!(benches);
