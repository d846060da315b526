use cyphonic_scenarios::*; use cyphonic_sim::*; use cyphonic_core::event::Event;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let doc = Document::embedded(&a[1]).unwrap();
    let sets: Vec<(String,String)> = a[2..].iter().filter_map(|s| s.split_once('=').map(|(k,v)|(k.to_string(),v.to_string()))).filter(|(k,_)| k!="engine!").collect();
    let plan = Plan::expand(&doc, &sets).unwrap_or_else(|e| panic!("{e}"));
    let v = a.iter().any(|x| x=="-v"); let both = a.iter().any(|x| x=="-b");
    for cell in &plan.cells {
        let t = std::time::Instant::now();
        let watch = world::Watch { tap: net::TapMode::Digest, ..Default::default() };
        let r = run::run(&cell.scenario, 1, if a.iter().any(|x| x=="-t") {Engine::Turmoil} else {Engine::Events}, &watch);
        println!("{:?} complete {} at {} wall {:?} digest {}", cell.labels, r.complete, r.ended, t.elapsed(), r.digest());
        if both { let t = std::time::Instant::now(); let q = run::run(&cell.scenario, 1, Engine::Turmoil, &watch); println!("   turmoil {:?} {}", t.elapsed(), if q.digest()==r.digest() {"equal"} else {"DIFFERENT"}); }
        for (at, host, e) in &r.events { match e { Event::Signal(s) if v => println!("  {at} {s}{}", if s.repeated {" (again)"} else {""}), Event::TunnelUp(u) => println!("  {at} {host}: up {u:?}"), Event::Signal(_) => {}, o => println!("  {at} {host}: {o:?}") } }
        for s in &r.steps { println!("   step {} .. {:?}: {}", s.started, s.completed.map(|c| c.to_string()), match &s.outcome { run::StepOutcome::App(_, r) => match (r.echo(), r.transfer(), r.flow()) { (Some(e),_,_) => format!("echo {}/{} {:?}", e.answered(), e.probes.len(), e.rtts_ns().next()), (_,Some(t),_) => format!("tcp {:?} {:?}", t.result, t.completed.map(|c| c - t.connected.unwrap())), (_,_,Some(f)) => format!("{f:?}"), _ => format!("{r:?}") }, o => format!("{o:?}") }); }
        println!("   drops {:?}", r.drops);
    }
}
