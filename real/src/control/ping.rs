//! `cyphonic ping`: echoes one after another, and a summary. Ctrl-C (SIGINT) ends it early, as it does ping(8): the
//! echo that is under way counts as lost.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::Pong;
use super::client::{self, PATIENCE};
use crate::error::{Code, Failure};

/// The least time that an echo through an established tunnel may take.
const LOST: Duration = Duration::from_secs(2);

/// One echo.
#[derive(Debug, Serialize)]
struct Echo {
    /// Counted from 1.
    number: u32,
    /// The reply.
    #[serde(flatten)]
    pong: Option<Pong>,
    /// Why there was no reply, and how to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// The summary.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    name: &'a str,
    sent: usize,
    received: usize,
    /// From 0 to 1.
    loss: f64,
    /// Shortest, mean and longest, if there is one.
    rtt_ms: Option<RoundTrips>,
    echoes: &'a [Echo],
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct RoundTrips {
    min: f64,
    avg: f64,
    max: f64,
}

impl<'a> Summary<'a> {
    fn of(name: &'a str, echoes: &'a [Echo]) -> Self {
        let times: Vec<f64> = echoes.iter().filter_map(|echo| Some(echo.pong.as_ref()?.rtt_ms)).collect();
        let (sent, received) = (echoes.len(), times.len());
        let rtt_ms = (received > 0).then(|| RoundTrips {
            min: times.iter().copied().fold(f64::INFINITY, f64::min),
            avg: times.iter().sum::<f64>() / received as f64,
            max: times.iter().copied().fold(0.0, f64::max),
        });
        Self { name, sent, received, loss: (sent - received) as f64 / sent.max(1) as f64, rtt_ms, echoes }
    }

    fn text(&self) -> String {
        let Self { name, sent, received, loss, .. } = self;
        let mut text = format!("--- {name}: {sent} sent, {received} received, {:.0} % lost", loss * 100.0);
        if let Some(RoundTrips { min, avg, max }) = self.rtt_ms {
            let _ = write!(text, ", rtt min/avg/max {min:.1}/{avg:.1}/{max:.1} ms");
        }
        text.push('\n');
        text
    }
}

fn line(pong: &Pong) -> String {
    let Pong { peer, address, via, remote, rtt_ms } = pong;
    let short = peer.split('.').next().unwrap_or(peer);
    format!("pong from {short} ({address}) via {via} {remote} in {rtt_ms:.1}ms\n")
}

/// What the loop waits for.
enum Event {
    /// An echo ended, well or not.
    Echo(Result<Pong, Failure>),
    /// Ctrl-C.
    Stop,
}

/// Sends an event for Ctrl-C, which does not end the program from now on.
fn listen(events: Sender<Event>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut pressed = {
        let _entered = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    std::thread::spawn(move || {
        runtime.block_on(pressed.recv());
        let _ = events.send(Event::Stop);
    });
    Ok(())
}

/// Sends `count` echoes with a pause between them, or fewer after SIGINT. Each line goes to `print` when it is known;
/// JSON goes there at the end.
///
/// # Errors
/// The last failure, if no echo was answered. The first one, if no node runs.
pub fn ping(
    socket: &Path,
    name: &str,
    count: u32,
    pause: Duration,
    json: bool,
    print: impl FnMut(&str),
) -> Result<(), Failure> {
    let (say, events) = channel();
    listen(say.clone()).map_err(Failure::other)?;
    let send = |patience| {
        let (say, socket, name) = (say.clone(), socket.to_owned(), name.to_owned());
        // After Ctrl-C nobody waits for this thread. It ends with the program.
        std::thread::spawn(move || say.send(Event::Echo(client::ping(&socket, &name, patience))));
    };
    echoes(name, count, pause, json, send, &events, print)
}

fn echoes(
    name: &str,
    count: u32,
    pause: Duration,
    json: bool,
    mut send: impl FnMut(Duration),
    events: &Receiver<Event>,
    mut print: impl FnMut(&str),
) -> Result<(), Failure> {
    let mut echoes = Vec::new();
    let mut last = Ok(());
    let mut patience = PATIENCE;
    for number in 1..=count {
        // Between two echoes, Ctrl-C is the only event.
        if number > 1 && events.recv_timeout(pause).is_ok() {
            break;
        }
        send(patience);
        let heard = events.recv().unwrap_or(Event::Stop);
        let stopped = matches!(heard, Event::Stop);
        let echo = match heard {
            Event::Echo(echo) => echo,
            Event::Stop => {
                let remedy = "wait for it; `cyphonic status` shows how this node stands";
                Err(Failure::new(Code::Unreachable, "stopped before it was there", remedy))
            }
        };
        let (pong, failure) = match echo {
            Ok(pong) => {
                // The tunnel is established, so an echo that takes much longer than the last one is lost.
                let usual = Duration::try_from_secs_f64(pong.rtt_ms * 4e-3).unwrap_or(PATIENCE);
                patience = usual.clamp(LOST, PATIENCE);
                (Some(pong), None)
            }
            Err(failure) if failure.code == Code::Unreachable => (None, Some(failure)),
            Err(failure) => return Err(failure),
        };
        if !json {
            print(&match (&pong, &failure) {
                (Some(pong), _) => line(pong),
                (None, Some(failure)) => format!("no pong: {failure}\n"),
                (None, None) => String::new(),
            });
        }
        let error = failure.as_ref().map(ToString::to_string);
        let remedy = failure.as_ref().map(|failure| failure.remedy().to_owned());
        echoes.push(Echo { number, pong, error, remedy });
        last = failure.map_or(last, Err);
        if stopped {
            break;
        }
    }
    let summary = Summary::of(name, &echoes);
    if json {
        print(&(serde_json::to_string_pretty(&summary).map_err(Failure::other)? + "\n"));
    } else {
        print(&summary.text());
    }
    if summary.received > 0 { Ok(()) } else { last }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pong(rtt_ms: f64) -> Pong {
        Pong {
            peer: "b.cyphonic.test".into(),
            address: "198.18.0.3".parse().unwrap(),
            via: "direct".into(),
            remote: "[2001:db8::6]:443".parse().unwrap(),
            rtt_ms,
        }
    }

    fn said(json: bool, answers: Vec<Option<f64>>) -> (Result<(), Failure>, String) {
        let count = answers.len() as u32;
        said_of(json, count, answers)
    }

    /// The result and the output of `count` echoes with these answers and then Ctrl-C.
    fn said_of(json: bool, count: u32, answers: Vec<Option<f64>>) -> (Result<(), Failure>, String) {
        let mut text = String::new();
        let mut answers = answers.into_iter();
        let mut waited = Vec::new();
        let (say, events) = channel();
        let send = |patience| {
            let event = match answers.next() {
                Some(Some(rtt)) => {
                    waited.push(patience);
                    Event::Echo(Ok(pong(rtt)))
                }
                Some(None) => Event::Echo(Err(Failure::new(Code::Unreachable, "no answer in time", "is it running?"))),
                None => Event::Stop,
            };
            say.send(event).unwrap();
        };
        let result = echoes("b", count, Duration::ZERO, json, send, &events, |piece| text.push_str(piece));
        // The first echo waits until the tunnel is built. The later ones need not.
        assert!(
            waited.iter().skip(1).all(|patience| *patience == LOST)
                && waited.first().is_none_or(|first| *first == PATIENCE)
        );
        (result, text)
    }

    #[test]
    fn a_pong_reads_as_promised() {
        assert_eq!(line(&pong(1.24)), "pong from b (198.18.0.3) via direct [2001:db8::6]:443 in 1.2ms\n");
    }

    #[test]
    fn lost_echoes_are_shown_and_counted_and_one_answer_is_enough() {
        let (result, text) = said(false, vec![None, Some(1.0), Some(2.0), Some(6.0)]);
        result.unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "no pong: no answer in time");
        assert_eq!(lines[4], "--- b: 4 sent, 3 received, 25 % lost, rtt min/avg/max 1.0/3.0/6.0 ms");
        let (result, text) = said(false, vec![None, None]);
        assert_eq!(result.unwrap_err().code, Code::Unreachable);
        assert!(text.ends_with("--- b: 2 sent, 0 received, 100 % lost\n"), "{text}");
    }

    #[test]
    fn after_ctrl_c_the_summary_counts_what_was_sent() {
        let (result, text) = said_of(false, 100, vec![Some(1.0), Some(3.0)]);
        result.unwrap();
        assert!(text.ends_with("--- b: 3 sent, 2 received, 33 % lost, rtt min/avg/max 1.0/2.0/3.0 ms\n"), "{text}");
        let (result, text) = said_of(false, 100, vec![]);
        assert_eq!(result.unwrap_err().code, Code::Unreachable);
        assert!(text.ends_with("--- b: 1 sent, 0 received, 100 % lost\n"), "{text}");
        // Between two echoes none is under way, so none is lost.
        let (say, events) = channel();
        let mut text = String::new();
        let send = |_| {
            say.send(Event::Echo(Ok(pong(1.0)))).unwrap();
            say.send(Event::Stop).unwrap();
        };
        echoes("b", 100, Duration::from_secs(60), false, send, &events, |piece| text.push_str(piece)).unwrap();
        assert!(text.ends_with("--- b: 1 sent, 1 received, 0 % lost, rtt min/avg/max 1.0/1.0/1.0 ms\n"), "{text}");
    }

    #[test]
    fn as_json_it_is_one_object_with_every_echo() {
        let (result, text) = said(true, vec![Some(1.5), None]);
        result.unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["sent"], &value["received"], &value["loss"]), (&2.into(), &1.into(), &0.5.into()));
        assert_eq!((&value["rtt_ms"]["max"], &value["echoes"][0]["via"]), (&1.5.into(), &"direct".into()));
        assert_eq!(value["echoes"][1]["error"], "no answer in time");
    }
}
