//! Which devices there are, and which of them are online: answered by the NMS.

use std::collections::BTreeMap;
use std::sync::Arc;

use cyphonic_core::name::{Fqdn, NodeId};
use cyphonic_core::nms::Registered;
use cyphonic_core::store::{Store, StoreError};
use cyphonic_core::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};

use super::metrics::Page;
use crate::control::{self, AccessRules, Answer, Device, NmsStatus, Online, Question};
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
        if question == Question::Status {
            let version = env!("CARGO_PKG_VERSION").to_owned();
            let status = NmsStatus { name: name.to_string(), version, rules: rules.borrow().clone() };
            let _ = reply.send(Answer::Nms(status).into());
            continue;
        }
        if question != Question::Fleet {
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
        });
        devices.push(known);
    }
    Ok(devices)
}

/// The registered nodes as numbers.
pub(super) fn on(page: &mut Page, registered: &[Registered]) {
    let mut counts = BTreeMap::from([("conventional", 0.0), ("proposed", 0.0)]);
    for node in registered {
        *counts.entry(node.method.name()).or_default() += 1.0;
    }
    let rows = counts.into_iter().map(|(method, count)| (vec![("method", method)], count));
    page.gauge("registered_nodes", "Nodes that are registered now.", rows);
}
