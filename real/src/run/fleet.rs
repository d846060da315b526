//! Which devices there are, and which of them are online: answered by the NMS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cyphonic_core::name::{Fqdn, NodeId};
use cyphonic_core::nms::Registered;
use cyphonic_core::store::{Store, StoreError};
use cyphonic_core::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};

use super::metrics::Page;
use crate::control::{self, AccessRules, Answer, Device, NmsStatus, Online, OtherMachine, Question, Twins};
use crate::error::Code;
use crate::store::SqliteStore;

/// Gets the registered nodes, and the time at which they were.
pub(super) type Asked = oneshot::Sender<(Instant, Vec<Registered>)>;

/// Answers the control socket of the NMS. The database is read beside the loop that moves packets, which is asked for
/// the registered nodes only.
pub(super) async fn answer<R>(
    mut asked: mpsc::Receiver<control::Asked>,
    store: Arc<SqliteStore>,
    (name, rules): (Fqdn, watch::Receiver<AccessRules>),
    ask: mpsc::Sender<R>,
    wrap: fn(Asked) -> R,
) {
    while let Some((question, reply)) = asked.recv().await {
        if !matches!(question, Question::Fleet | Question::Status) {
            let remedy = "ask a node: --control names its socket".into();
            let what = "this is the control socket of an NMS".into();
            let _ = reply.send(Answer::Error { code: Code::Usage, what, remedy }.into());
            continue;
        }
        let (sender, receiver) = oneshot::channel();
        if ask.send(wrap(sender)).await.is_err() {
            return;
        }
        let Ok((now, registered)) = receiver.await else { return };
        if question == Question::Status {
            let version = env!("CARGO_PKG_VERSION").to_owned();
            let twins = registered.iter().filter_map(|node| {
                let other = other(now, node)?;
                Some(Twins { name: node.name.to_string(), served: node.remote, other })
            });
            let (name, rules) = (name.to_string(), rules.borrow().clone());
            let _ = reply.send(Answer::Nms(NmsStatus { name, version, rules, twins: twins.collect() }).into());
            continue;
        }
        let store = store.clone();
        let devices = tokio::task::spawn_blocking(move || devices(&store, now, registered)).await;
        let answer = match devices {
            Ok(Ok(devices)) => Answer::Fleet { devices },
            Ok(Err(_)) | Err(_) => Answer::Error {
                code: Code::Other,
                what: "the database cannot be read".into(),
                remedy: "the log of the NMS says why".into(),
            },
        };
        let _ = reply.send(answer.into());
    }
}

fn devices(store: &SqliteStore, now: Instant, registered: Vec<Registered>) -> Result<Vec<Device>, StoreError> {
    let mut online: BTreeMap<NodeId, Registered> = registered.into_iter().map(|node| (node.node, node)).collect();
    let mut devices = Vec::new();
    for (device, addresses) in store.devices()? {
        let id = NodeId::of(&device.name);
        let mut known = Device::new(device.name.as_str(), addresses, store.last_epoch(id)?);
        known.online = online.remove(&id).map(|node| Online {
            method: node.method.name().to_owned(),
            remote: node.remote,
            silent_s: node.heard_at.map(|at| (now - at).as_secs_f64()),
            other: other(now, &node),
        });
        devices.push(known);
    }
    Ok(devices)
}

/// How long a machine that was refused counts as there. It asks every half a minute.
const OTHER_KEPT: Duration = Duration::from_secs(120);

/// The second machine with the name and key of a registered one.
fn other(now: Instant, node: &Registered) -> Option<OtherMachine> {
    let (remote, at) = node.other?;
    let refused = now.saturating_since(at);
    (refused < OTHER_KEPT).then_some(OtherMachine { remote, refused_s: refused.as_secs_f64() })
}

/// The registered nodes as numbers.
pub(super) fn on(page: &mut Page, now: Instant, registered: &[Registered]) {
    let twins = registered.iter().filter(|node| other(now, node).is_some()).count();
    let help = "Registered nodes whose name and key another machine uses as well.";
    page.gauge("nodes_with_two_machines", help, [(Vec::new(), twins as f64)]);
    let mut counts = BTreeMap::from([("conventional", 0.0), ("proposed", 0.0)]);
    for node in registered {
        *counts.entry(node.method.name()).or_default() += 1.0;
    }
    let rows = counts.into_iter().map(|(method, count)| (vec![("method", method)], count));
    page.gauge("registered_nodes", "Nodes that are registered now.", rows);
}
