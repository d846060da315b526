//! Links: one value for both directions, or one for each; the default is that of all links.

use std::time::Duration;

use super::{Context, MOST_MS};
use crate::error::{Problem, ScenarioError};
use crate::scenario::{BurstLoss, Link, Outages, Queue, Way};
use crate::schema;

/// The path of the defaults of all links.
const ALL_LINKS: &str = "link";
/// The least delay of a link: a tick of the slower engine.
const LEAST_DELAY_MS: f64 = 1.0;
const DEFAULT_QUEUE: Duration = Duration::from_millis(100);
const MOST_QUEUE_BYTES: f64 = 1e12;
const DEFAULT_REORDER_MS: f64 = 10.0;
const DEFAULT_MTU: u32 = 1500;
/// A bit a millisecond, to a terabit a second.
pub(super) const RATE_MBPS: (f64, f64) = (0.001, 1_000_000.0);

/// Resolves the link at `path`; `least_mtu` with the family that asks for it.
pub(super) fn link(
    context: Context<'_, '_>,
    path: &str,
    link: Option<schema::Link>,
    least_mtu: (u16, &'static str),
) -> Result<Link, ScenarioError> {
    let link = link.unwrap_or_default();
    let both = schema::Way { mtu: link.mtu, black_hole: link.black_hole, ..schema::Way::from(&link) };
    let (up, down) = (link.up, link.down);
    let way = |name: &str, own: Option<schema::Way>| {
        let (own, least_delay_ms) = (own.unwrap_or_default(), LEAST_DELAY_MS);
        Merged { context, path, name, own, both: &both, least_delay_ms }.way(least_mtu)
    };
    Ok(Link { up: way("up", up)?, down: way("down", down)? })
}

/// Resolves the settings of a step `path`. Its delay may be zero.
pub(super) fn path(context: Context<'_, '_>, path: &str, both: &schema::Way) -> Result<Way, ScenarioError> {
    let own = schema::Way::default();
    Merged { context, path, name: "", own, both, least_delay_ms: 0.0 }.way((0, ""))
}

/// The settings of one direction, over those of both.
struct Merged<'a, 'b, 'i> {
    context: Context<'a, 'i>,
    path: &'b str,
    name: &'b str,
    own: schema::Way,
    both: &'b schema::Way,
    /// The least delay, which is the default as well.
    least_delay_ms: f64,
}

impl Merged<'_, '_, '_> {
    fn way(&self, least_mtu: (u16, &'static str)) -> Result<Way, ScenarioError> {
        let (mtu, mtu_path) = self.pick("mtu", |way| way.mtu);
        if let (Some(found_ms), path) = self.pick("delay_ms", |way| way.delay_ms)
            && found_ms < self.least_delay_ms
        {
            return self.context.fail(&path, Problem::DelayTooSmall { found_ms, least_ms: self.least_delay_ms });
        }
        let delay = |key, get: fn(&schema::Way) -> Option<f64>, default, least| {
            let ms = self.number(key, get, (least, MOST_MS))?.unwrap_or(default);
            Ok::<_, ScenarioError>(Duration::from_secs_f64(ms / 1000.0))
        };
        Ok(Way {
            delay: delay("delay_ms", |way| way.delay_ms, self.least_delay_ms, self.least_delay_ms)?,
            jitter: delay("jitter_ms", |way| way.jitter_ms, 0.0, 0.0)?,
            loss: self.number("loss", |way| way.loss, (0.0, 1.0))?.unwrap_or(0.0),
            rate_bps: self.number("rate_mbps", |way| way.rate_mbps, RATE_MBPS)?.map(|mbps| (mbps * 1e6).round() as u64),
            queue: self.queue()?,
            mtu: self.context.mtu(&mtu_path, mtu.unwrap_or(DEFAULT_MTU), least_mtu)?,
            burst_loss: self.burst_loss()?,
            outages: self.outages()?,
            reorder: self.number("reorder", |way| way.reorder, (0.0, 1.0))?.unwrap_or(0.0),
            reorder_by: delay("reorder_ms", |way| way.reorder_ms, DEFAULT_REORDER_MS, 0.0)?,
            duplicate: self.number("duplicate", |way| way.duplicate, (0.0, 1.0))?.unwrap_or(0.0),
            corrupt: self.number("corrupt", |way| way.corrupt, (0.0, 1.0))?.unwrap_or(0.0),
            black_hole: self.pick("black_hole", |way| way.black_hole).0.unwrap_or(false),
        })
    }

    /// The queue, in time or in bytes. The setting of one direction overrides that of both.
    fn queue(&self) -> Result<Queue, ScenarioError> {
        let own = (&self.own, format!("{}.{}", self.path, self.name));
        for (way, path) in [own, (self.both, self.path.to_owned()), (self.context.link, ALL_LINKS.to_owned())] {
            match (way.queue_ms, way.queue_bytes) {
                (Some(_), Some(_)) => return self.context.fail(&format!("{path}.queue_bytes"), Problem::TwoQueues),
                (Some(ms), None) => {
                    let ms = self.context.within(&format!("{path}.queue_ms"), ms, 0.0, MOST_MS)?;
                    return Ok(Queue::Time(Duration::from_secs_f64(ms / 1000.0)));
                }
                (None, Some(bytes)) => {
                    self.context.within(&format!("{path}.queue_bytes"), bytes as f64, 0.0, MOST_QUEUE_BYTES)?;
                    return Ok(Queue::Bytes(bytes));
                }
                (None, None) => {}
            }
        }
        Ok(Queue::Time(DEFAULT_QUEUE))
    }

    fn burst_loss(&self) -> Result<Option<BurstLoss>, ScenarioError> {
        let (Some(burst), path) = self.pick("burst_loss", |way| way.burst_loss) else { return Ok(None) };
        let chance = |key, value| self.context.within(&format!("{path}.{key}"), value, 0.0, 1.0);
        Ok(Some(BurstLoss {
            enter: chance("enter", burst.enter)?,
            leave: chance("leave", burst.leave)?,
            loss_good: chance("loss_good", burst.loss_good.unwrap_or(0.0))?,
            loss_bad: chance("loss_bad", burst.loss_bad.unwrap_or(1.0))?,
        }))
    }

    fn outages(&self) -> Result<Option<Outages>, ScenarioError> {
        let (Some(outages), path) = self.pick("outages", |way| way.outages) else { return Ok(None) };
        let within = |key, value, least, most| self.context.within(&format!("{path}.{key}"), value, least, most);
        let time = |key, ms| within(key, ms, 1.0, MOST_MS).map(|ms| Duration::from_secs_f64(ms / 1000.0));
        Ok(Some(Outages {
            every: time("every_ms", outages.every_ms)?,
            lasts: time("lasts_ms", outages.lasts_ms)?,
            loss: within("loss", outages.loss.unwrap_or(1.0), 0.0, 1.0)?,
        }))
    }

    fn number(
        &self,
        key: &str,
        get: fn(&schema::Way) -> Option<f64>,
        (least, most): (f64, f64),
    ) -> Result<Option<f64>, ScenarioError> {
        let (value, path) = self.pick(key, get);
        value.map(|value| self.context.within(&path, value, least, most)).transpose()
    }

    /// The value of a key, and the path where it stands.
    fn pick<T>(&self, key: &str, get: fn(&schema::Way) -> Option<T>) -> (Option<T>, String) {
        match get(&self.own) {
            Some(value) => (Some(value), format!("{}.{}.{key}", self.path, self.name)),
            None => match (get(self.both), get(self.context.link)) {
                (None, Some(value)) => (Some(value), format!("{ALL_LINKS}.{key}")),
                (value, _) => (value, format!("{}.{key}", self.path)),
            },
        }
    }
}
