//! Makes a plan from a seed: a whole network and its events, drawn from one seeded stream and written as a scenario.
//!
//! ```text
//! trouble: traffic, moves and faults, in overlap ──▶ peace: every link good, every firewall as at first
//!                                                      ──▶ [HEALING] ──▶ the last round: everybody echoes to everybody
//! ```
//!
//! Three seeds in seven are drills: small networks without faults, in which no packet may be lost. The soak then
//! attacks them (see `drill` and `assault`).
//!
//! If the [`model`](super::model) demands nothing of a plan, another one is drawn, up to four times. A plan without
//! demands still checks the other invariants.
//!
//! The same seed gives the same text for as long as [`GENERATOR`] stays the same.

mod boxes;
mod drill;
mod network;
mod rules;
mod trouble;

use cyphonic_scenarios::FirewallMode;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use toml::{Table, Value};

use super::model::demands;
use super::sheet::{Sheet, table};

/// The version of the generator. It grows when a seed gives another plan than before.
pub const GENERATOR: u32 = 23;
/// The most sites, and the most nodes.
pub const MOST: u64 = 12;
/// Most plans that are drawn for a seed, until the model demands something of one.
const TRIES: u64 = 4;

const NODES: [&str; MOST as usize] =
    ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "niaj"];
const KINDS: [&str; 5] = ["ipv6", "ipv4-global", "ipv4-private", "dual-stack", "dual-stack-private-v4"];
const WEB_PROXY: &str = FirewallMode::WebProxy.name();
const SERVICES: [&str; 3] = ["as", "nms", "trs"];

/// Stands for the largest payload of a plan.
const LARGE: u64 = 1_200;
/// The headers of an inner IPv6 packet with an echo, bytes. UDP's are as long.
const HEADERS: i64 = 48;

/// Whether a seed's plan is a drill.
pub const fn is_drill(seed: u64) -> bool {
    // Modulo seven, because no usual number of shards divides by it: every shard has the same share of drills.
    matches!(seed % 7, 1 | 4 | 6)
}

/// The plan of a seed.
pub fn generate(seed: u64) -> Sheet {
    let mut tries = (0..TRIES).map(|number| draw(seed, number));
    let last = tries.next_back().expect("there is one");
    tries.find(is_demanding).unwrap_or(last)
}

/// Whether the model demands something of a plan whose steps all begin on time.
fn is_demanding(sheet: &Sheet) -> bool {
    let scenario = sheet.scenario().expect("the generator writes scenarios");
    let began: Vec<_> = scenario.steps.iter().map(|step| step.at.expect("every step of a plan has its time")).collect();
    !demands(&scenario, &began).is_empty()
}

fn draw(seed: u64, number: u64) -> Sheet {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    let mut generator = Generator {
        rng,
        seed,
        is_drill: is_drill(seed),
        large: 1_200,
        sheet: Sheet::default(),
        steps: Vec::new(),
        first: Vec::new(),
        places: Vec::new(),
        bad_paths: Vec::new(),
    };
    generator.heading(seed);
    generator.network();
    generator.rules_at_first();
    if generator.is_drill {
        generator.drill();
    } else {
        generator.trouble();
    }
    generator.sheet
}

struct Generator {
    rng: ChaCha8Rng,
    seed: u64,
    /// Whether the network has no faults.
    is_drill: bool,
    /// The payload of a large echo, bytes.
    large: i64,
    sheet: Sheet,
    /// Steps with their times, not in order yet.
    steps: Vec<(u64, Table)>,
    /// Every link that can go bad, in the order of the scenario.
    first: Vec<Place>,
    /// The sites of each node after the steps that were drawn so far.
    places: Vec<Vec<String>>,
    /// Paths that were made bad: the keys that name each.
    bad_paths: Vec<Table>,
}

/// A link that can go bad: its owner, the key that names it, its settings, its delay and its MTU.
#[derive(Clone)]
struct Place {
    key: &'static str,
    name: String,
    /// Its settings without faults.
    good: Table,
    is_good: bool,
    has_nat: bool,
    firewall: Option<Table>,
}

impl Generator {
    fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n.max(1)
    }

    fn from(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// One time in `n`.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// A number of sites or nodes: mostly small, sometimes up to [`MOST`]. Most defects between many nodes show between
    /// few as well, and the time of a run grows with the square of their number.
    fn how_many(&mut self, least: u64) -> u64 {
        let most = self.pick(&[3, 3, 3, 3, 3, 4, 4, 5, 5, 6, 8, MOST]);
        self.from(least, most)
    }

    fn share(&mut self, most_percent: u64) -> Value {
        Value::Float(self.from(1, most_percent) as f64 / 100.0)
    }

    fn heading(&mut self, seed: u64) {
        let method = self.pick(&["conventional", "proposed"]);
        self.sheet.set("title", format!("Soak {seed}"));
        self.sheet.set("about", "A random network in trouble, then at peace; the soak says what must hold.");
        self.sheet.set("measure", "outcome");
        self.sheet.set("engine", "events");
        self.sheet.set("seeds", int(seed % (1 << 62)));
        if method == "proposed" {
            let framing = self.pick(&["compact", "datagram", "stream"]);
            let relay = self.pick(&["blind", "terminating"]);
            self.sheet.set("framing", framing);
            self.sheet.set("relay_mode", relay);
        } else {
            self.sheet.set("method", method);
            if self.one_in(3) {
                self.sheet.set("login", "password");
            }
            if self.one_in(2) {
                self.sheet.set("port", 443);
            }
        }
        let policies = if self.is_drill { &["paper", "optimal"][..] } else { &["paper", "optimal", "optimal"] };
        let policy = self.pick(policies);
        self.sheet.set("policy", policy);
        if policy == "optimal" && method == "proposed" {
            // Derived from the seed and not drawn, so that later draws stay as they were.
            let handover = ["seamless", "seamless", "rebuild", "migrate"][(seed / 5 % 4) as usize];
            self.sheet.set("handover", handover);
            if (seed / 13).is_multiple_of(4) {
                self.sheet.set("tunnel_lifetime_s", [10, 15, 20, 40][(seed / 52 % 4) as usize]);
            }
        }
        if method == "proposed" {
            let signaling = match policy {
                "paper" => ["paper", "paper", "confirmed", "fast"],
                _ => ["fast", "fast", "confirmed", "paper"],
            };
            self.sheet.set("signaling", signaling[(seed / 11 % 4) as usize]);
        }
        // As well: applications then send packets that some links, and tunnels through them, have no room for.
        if (seed / 7).is_multiple_of(3) {
            let tun_mtu = [1_340, 1_400, 1_500][(seed / 21 % 3) as usize];
            self.sheet.set("tun_mtu", tun_mtu);
            self.large = tun_mtu - HEADERS;
        }
    }

    fn network(&mut self) {
        let mut services = Table::new();
        for name in SERVICES {
            let link = self.link(4);
            self.place("service", name, &link, false, None);
            services.insert(name.to_owned(), link.into());
        }
        self.sheet.set("services", services);
        let carriers = self.pick(&[0, 0, 1, 1, 2]);
        for number in 1..=carriers {
            let (name, link) = (format!("isp{number}"), self.link(4));
            self.place("carrier", &name, &link, true, None);
            let mut carrier = self.nat();
            carrier.insert("name".to_owned(), name.into());
            carrier.insert("link".to_owned(), link.into());
            self.sheet.section_mut("carrier").push(carrier.into());
        }
        let sites = if self.is_drill { self.from(1, drill::MOST) } else { self.how_many(1) };
        for number in 1..=sites {
            let site = self.site(&format!("site{number}"), carriers);
            self.sheet.section_mut("site").push(site.into());
        }
        let nodes = if self.is_drill { self.from(2, drill::MOST) } else { self.how_many(2) };
        for index in 0..nodes {
            let name = NODES[index as usize];
            let at = format!("site{}", self.from(1, sites));
            let mut node = table([("name", name.into())]);
            if self.has_proxy(index, &at) {
                node.insert("proxy".to_owned(), true.into());
            }
            if self.has_tcp_name(index) {
                node.insert("tcp_name".to_owned(), "www.example".into());
            }
            let other = format!("site{}", self.from(1, sites));
            if self.one_in(8) && other != at {
                self.places.push(vec![at.clone(), other.clone()]);
                node.insert("interfaces".to_owned(), vec![Value::from(at), Value::from(other)].into());
            } else {
                self.places.push(vec![at.clone()]);
                node.insert("site".to_owned(), at.into());
            }
            self.sheet.section_mut("node").push(node.into());
        }
    }

    /// Whether a node has an HTTP proxy: most nodes that begin where nothing else gets out, and some others. Derived
    /// from the seed and not drawn, so that later draws stay as they were.
    fn has_proxy(&self, node: u64, site: &str) -> bool {
        let walls = self.first.iter().filter(|place| place.name == site).filter_map(|place| place.firewall.as_ref());
        let is_needed = walls.into_iter().any(|wall| wall.get("mode").and_then(Value::as_str) == Some(WEB_PROXY));
        if is_needed { !(self.seed + node).is_multiple_of(5) } else { (self.seed / 3 + node).is_multiple_of(8) }
    }

    /// Whether a node has a server name of its own for TCP. Derived, as above.
    fn has_tcp_name(&self, node: u64) -> bool {
        (self.seed / 7 + node).is_multiple_of(4)
    }

    fn place(&mut self, key: &'static str, name: &str, link: &Table, has_nat: bool, firewall: Option<Table>) {
        let keeps = |key: &str| matches!(key, "delay_ms" | "mtu");
        let good: Table = link.iter().filter(|(key, _)| keeps(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
        let is_good = good.len() == link.len();
        self.first.push(Place { key, name: name.to_owned(), good, is_good, has_nat, firewall });
    }

    /// A link; one in `n` has faults from the beginning.
    fn link(&mut self, n: u64) -> Table {
        let delay = self.pick(&[1, 2, 5, 10, 20, 40, 80]);
        let mut link = table([("delay_ms", int(delay))]);
        if self.one_in(5) {
            let mtu = self.pick(&[1280, 1360, 1400, 1480]);
            link.insert("mtu".to_owned(), int(mtu));
        }
        if self.one_in(n) && !self.is_drill {
            self.spoil(&mut link);
        }
        link
    }

    /// Makes a link bad, in one to three ways; one in four only in one direction.
    fn spoil(&mut self, link: &mut Table) {
        if self.one_in(4) {
            let mut way = Table::new();
            self.spoil_way(&mut way);
            way.remove("mtu");
            link.insert(self.pick(&["up", "down"]).to_owned(), way.into());
        } else {
            self.spoil_way(link);
        }
    }

    fn spoil_way(&mut self, link: &mut Table) {
        for _ in 0..self.from(1, 3) {
            let (key, value) = match self.below(10) {
                // A loss of 1 lets no packet through.
                0 if self.one_in(4) => ("loss", Value::Float(1.0)),
                0 | 1 => ("loss", self.share(40)),
                2 => ("jitter_ms", int(self.from(1, 60))),
                3 => ("reorder", self.share(50)),
                4 => ("corrupt", self.share(20)),
                5 => ("duplicate", self.share(50)),
                6 => ("rate_mbps", self.pick(&[0.1, 0.5, 2.0]).into()),
                7 => ("burst_loss", table([("enter", self.share(10)), ("leave", self.share(60))]).into()),
                8 => {
                    let (every, lasts) = (self.from(50, 5_000), self.from(5, 800));
                    ("outages", table([("every_ms", int(every)), ("lasts_ms", int(lasts))]).into())
                }
                _ => {
                    link.insert("mtu".to_owned(), int(1280));
                    ("black_hole", true.into())
                }
            };
            link.insert(key.to_owned(), value);
        }
    }

    fn site(&mut self, name: &str, carriers: u64) -> Table {
        let (kind, link) = (self.pick(if self.is_drill { &drill::KINDS } else { &KINDS }), self.link(6));
        let mut site = table([("name", name.into()), ("kind", kind.into()), ("link", link.clone().into())]);
        let mut put = |key: &str, value: Value| site.insert(key.to_owned(), value);
        let (has_v6, is_dual) = (kind == "ipv6" || kind.contains("dual"), kind.contains("dual"));
        let mut has_nat = kind.contains("private");
        if has_nat {
            put("nat", self.nat().into());
            if carriers > 0 && self.one_in(2) {
                put("carrier", format!("isp{}", self.from(1, carriers)).into());
            }
        }
        if has_v6 {
            match self.below(10) {
                0 => drop(put("nptv6", Table::new().into())),
                1 => {
                    put("nat66", self.nat().into());
                    has_nat = true;
                }
                2..=4 if !is_dual => {
                    put("nat64", self.nat().into());
                    has_nat = true;
                }
                _ => {}
            }
        }
        if is_dual && self.one_in(6) {
            put("broken", self.pick(&["ipv4", "ipv6"]).into());
        }
        let mut firewall = self.one_in(2).then(|| self.firewall());
        if let Some(firewall) = &mut firewall
            && name == "site1"
            && (self.seed / 13).is_multiple_of(6)
        {
            // Derived as well.
            *firewall = table([("mode", WEB_PROXY.into())]);
        }
        if let Some(firewall) = &firewall {
            put("firewall", firewall.clone().into());
        }
        self.place("site", name, &link, has_nat, firewall);
        site
    }

    /// Writes the steps, in order.
    fn finish(&mut self, limit_ms: u64) {
        self.sheet.set("duration_limit_s", int(limit_ms / 1_000));
        let mut steps = std::mem::take(&mut self.steps);
        steps.sort_by_key(|(at, _)| *at);
        self.sheet.section_mut("step").extend(steps.into_iter().map(|(_, step)| step.into()));
    }

    fn step(&mut self, at: u64, action: &str, mut keys: Table) {
        keys.insert("at_ms".to_owned(), int(at));
        keys.insert("do".to_owned(), action.into());
        self.steps.push((at, keys));
    }

    /// A payload; [`LARGE`] is as large as the virtual interface takes.
    fn payload(&self, bytes: u64) -> Value {
        if bytes == LARGE { self.large.into() } else { int(bytes) }
    }

    /// A row of echoes between two nodes, in either direction, of any size and family.
    fn echoes(&mut self, at: u64, (a, b): (u64, u64), count: u64, interval_ms: u64) {
        let (from, to) = if self.one_in(2) { (a, b) } else { (b, a) };
        let mut echo = pair(from, to);
        echo.insert("count".to_owned(), int(count));
        echo.insert("interval_ms".to_owned(), int(interval_ms));
        let payload = self.pick(&[56, 56, 600, LARGE]);
        echo.insert("payload_bytes".to_owned(), self.payload(payload));
        if self.one_in(2) {
            echo.insert("family".to_owned(), "ipv4".into());
        }
        self.step(at, "echo", echo);
    }

    /// A TCP transfer between two of the first nodes.
    fn transfer(&mut self, at: u64, nodes: u64) {
        let mut keys = self.pair(nodes);
        keys.insert("bytes".to_owned(), int(self.pick(&[1, 2_000, 20_000, 20_000, 150_000])));
        // Derived from the seed and not drawn, so that later draws stay as they were: one in four without a tunnel.
        if (self.seed / 2 + at).is_multiple_of(4) {
            keys.insert("over".to_owned(), "underlay".into());
            if !(self.seed / 4).is_multiple_of(3) {
                keys.remove("family");
            }
        }
        self.step(at, "tcp", keys);
    }

    /// A row of UDP datagrams between two of the first nodes.
    fn flow(&mut self, at: u64, nodes: u64) {
        let mut keys = self.pair(nodes);
        keys.insert("count".to_owned(), int(self.from(1, 30)));
        keys.insert("interval_ms".to_owned(), int(self.pick(&[10, 100, 500])));
        let payload = self.pick(&[16, 200, LARGE]);
        keys.insert("payload_bytes".to_owned(), self.payload(payload));
        self.step(at, "udp", keys);
    }

    /// Two of the first nodes.
    fn pair(&mut self, nodes: u64) -> Table {
        let from = self.below(nodes);
        let mut pair = pair(from, (from + self.from(1, nodes - 1)) % nodes);
        if self.one_in(4) {
            pair.insert("family".to_owned(), "ipv4".into());
        }
        pair
    }
}

fn int(number: u64) -> Value {
    Value::Integer(i64::try_from(number).expect("numbers of scenarios are small"))
}

fn pair(from: u64, to: u64) -> Table {
    table([("from", NODES[from as usize].into()), ("to", NODES[to as usize].into())])
}
