use cyphonic_scenarios::*; use cyphonic_sim::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let doc = Document::embedded(&a[1]).unwrap();
    let sets: Vec<(String,String)> = a[2..].iter().filter_map(|s| s.split_once('=').map(|(k,v)|(k.to_string(),v.to_string()))).collect();
    let plan = Plan::expand(&doc, &sets).unwrap_or_else(|e| panic!("{e}"));
    let watch = world::Watch { tap: net::TapMode::Keep, ..Default::default() };
    let s = &plan.cells[0].scenario;
    let x = run::run(s, 1, Engine::Events, &watch); let y = run::run(s, 1, Engine::Turmoil, &watch);
    println!("{} {}", x.ended, y.ended);
    let (n, m) = (x.world.network(), y.world.network());
    let mut all = vec![];
    for (d, e) in n.directions().zip(m.directions()) {
        let (p, q) = (n.take_tapped(d), m.take_tapped(e));
        for i in 0..p.len().max(q.len()) { if p.get(i) != q.get(i) { all.push((p.get(i).or(q.get(i)).unwrap().departs, n.wire_name(d), i, p.get(i).cloned(), q.get(i).cloned())); break; } }
    }
    all.sort_by_key(|x| x.0);
    for (t, w, i, p, q) in all.iter().take(4) { println!("{t} {w} #{i}\n  {:?}\n  {:?}", p.as_ref().map(|p| (p.departs, p.arrives, p.packet.len(), &p.packet[..80.min(p.packet.len())])), q.as_ref().map(|p| (p.departs, p.arrives, p.packet.len(), &p.packet[..80.min(p.packet.len())]))); }
}
