//! Why a step was not complete: the nodes that it waited for, the service at which each failed, and the firewall in the
//! way.

use cyphonic_core::name::Party;
use cyphonic_scenarios::{Action, Egress, Method, Protocol, Scenario};

use crate::host::Host;
use crate::run::Run;

/// The explanation of a step that was not complete when the run ended.
pub(super) fn why(scenario: &Scenario, run: &Run, step: usize) -> String {
    let waited_for: Vec<usize> = match scenario.steps.get(step).map(|step| &step.action) {
        Some(Action::Start { nodes, .. }) => nodes.clone(),
        Some(Action::Echo(probes) | Action::Udp(probes)) => vec![probes.pair.from, probes.pair.to],
        Some(Action::Tcp { pair, .. } | Action::ProbeMtu(pair)) => vec![pair.from, pair.to],
        _ => Vec::new(),
    };
    let stranded: Vec<String> = waited_for.into_iter().filter_map(|node| stranded(scenario, run, node)).collect();
    if stranded.is_empty() { "raise duration_limit_s, or look with --sequence".to_owned() } else { stranded.join("; ") }
}

/// The reason why a node is not registered, if it is not.
fn stranded(scenario: &Scenario, run: &Run, node: usize) -> Option<String> {
    let name = scenario.nodes[node].name.short();
    let trouble = run.world.look(node, |host: &Host<_>| {
        let node: &cyphonic_core::node::Node = host.machine();
        (!node.is_registered()).then(|| node.trouble_with().cloned())
    })?;
    let Some(service) = trouble else { return Some(format!("{name} is not registered")) };
    let (protocol, port) = way(scenario.method, &service);
    let way = format!("{} {port}", if protocol == Protocol::Tcp { "TCP" } else { "UDP" });
    let shut = scenario.nodes[node].interfaces.iter().map(|interface| &scenario.sites[interface.site]);
    let shut = shut.filter(|site| {
        let egress = site.firewall.as_ref().and_then(|firewall| firewall.egress.as_ref());
        egress.is_some_and(|egress| !egress.iter().any(|rule| lets_out(*rule, protocol, port)))
    });
    let shut: Vec<String> = shut.map(|site| format!("site {}'s firewall lets no {way} out", site.name)).collect();
    let service = service.to_string().to_uppercase();
    let because = if shut.is_empty() { "look with --sequence".to_owned() } else { shut.join(", ") };
    Some(format!("{name} is not registered: it failed at the {service}, by {way}: {because}"))
}

/// How a node reaches a service (PROTOCOL.md, "Ports").
fn way(method: Method, service: &Party) -> (Protocol, u16) {
    match (method, service) {
        (Method::Proposed, _) => (Protocol::Udp, 443),
        (Method::Conventional, Party::As) => (Protocol::Tcp, 443),
        (Method::Conventional, _) => (Protocol::Udp, 4501),
    }
}

fn lets_out(rule: Egress, protocol: Protocol, port: u16) -> bool {
    rule.protocol == protocol && rule.port.is_none_or(|open| open == port)
}
