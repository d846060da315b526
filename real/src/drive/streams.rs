//! The TCP connections of a role: logins of the conventional method, and UDP proxied in HTTP. Each connection is a
//! task. Everything is bounded.
//!
//! As [`cyphonic_core::machine`] demands, a role gets `Closed` or `Unanswered` once, and not after its own `Close`.
//! Bytes that it wrote before are still sent.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cyphonic_core::machine::{StreamId, StreamInput, StreamOutput};
use cyphonic_core::proxied::TCP_PACKET;
use cyphonic_core::timing::proxied::TCP_UNACKNOWLEDGED;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::udp::{is_lacking_family, places, refused};
use crate::error::Failure;
use crate::seats::{Seat, Seats};

/// Most connections at one time. Beyond, the idlest one of the source with most of them gives way.
const STREAM_LIMIT: usize = 1024;
/// Most connections from one source at one time: as many nodes behind one NAT may log in together. A login takes a few
/// round trips.
const STREAMS_FROM_ONE: usize = 128;
/// Most inputs that wait for the role. If there are more, connections wait.
const INPUTS: usize = 256;
/// Most writes that wait for one connection. If the role writes more, the connection is closed. A role that proxies
/// writes small datagrams one by one, up to its window of 32 KiB.
const WRITES: usize = 1024;
/// Ids of accepted connections start here ([`StreamInput::Accepted`]).
const FIRST_ACCEPTED: u64 = 1 << 32;
/// How long a connection attempt may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a peer may be silent: longer than a role lets a connection be idle.
const IDLE: Duration = Duration::from_secs(150);
/// How long one write may take.
const STUCK: Duration = Duration::from_secs(60);
/// Most bytes that the kernel holds before it has sent them (`TCP_NOTSENT_LOWAT`): what waits there cannot be dropped
/// any more when it is too old.
const UNSENT: u32 = 16 * 1024;

enum Told {
    Write(Vec<u8>),
    Close,
}

type Inputs = mpsc::Sender<(StreamId, StreamInput, Option<mpsc::Sender<Told>>)>;

/// The TCP side of a role.
pub struct Streams {
    connections: BTreeMap<StreamId, mpsc::Sender<Told>>,
    inputs: Inputs,
    arrivals: mpsc::Receiver<(StreamId, StreamInput, Option<mpsc::Sender<Told>>)>,
}

impl Streams {
    /// Streams without a listener. The role may connect.
    pub fn outgoing() -> Self {
        let (inputs, arrivals) = mpsc::channel(INPUTS);
        Self { connections: BTreeMap::new(), inputs, arrivals }
    }

    /// Listens on a port of these addresses; with an empty list, of all addresses of both families.
    pub fn listen(listen: &[IpAddr], port: u16) -> Result<Self, Failure> {
        let streams = Self::outgoing();
        let ids = Arc::new(AtomicU64::new(FIRST_ACCEPTED));
        let seats = Seats::new(STREAM_LIMIT, STREAMS_FROM_ONE);
        for listener in listeners(listen, port, "port")? {
            tokio::spawn(accept(listener, ids.clone(), seats.clone(), streams.inputs.clone()));
        }
        Ok(streams)
    }

    /// The next event on any connection.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(StreamId, StreamInput)> {
        loop {
            // `inputs` is held here, so the channel never closes.
            let Some((id, input, teller)) = ready!(self.arrivals.poll_recv(context)) else { return Poll::Pending };
            if let Some(teller) = teller {
                self.connections.insert(id, teller);
            }
            if self.connections.contains_key(&id) {
                return Poll::Ready((id, input));
            }
        }
    }

    /// Passes an input to the role, if the role may still get it.
    pub(super) fn admit(&mut self, id: StreamId, input: StreamInput) -> Option<StreamInput> {
        if input.is_end() {
            self.connections.remove(&id)?;
        }
        Some(input)
    }

    /// Does what the role asks.
    pub(super) fn apply(&mut self, id: StreamId, output: StreamOutput) {
        match output {
            StreamOutput::Connect { remote } => {
                let (teller, told) = mpsc::channel(WRITES);
                self.connections.insert(id, teller);
                tokio::spawn(connect(id, remote, told, self.inputs.clone()));
            }
            StreamOutput::Write(bytes) => {
                let full = self.connections.get(&id).is_some_and(|teller| teller.try_send(Told::Write(bytes)).is_err());
                if full {
                    self.connections.remove(&id);
                }
            }
            StreamOutput::Close => {
                if let Some(teller) = self.connections.remove(&id) {
                    let _ = teller.try_send(Told::Close);
                }
            }
        }
    }
}

/// Listeners on a port of these addresses; with an empty list, of all addresses of both families. `key` is the setting
/// of the port.
pub fn listeners(listen: &[IpAddr], port: u16, key: &str) -> Result<Vec<TcpListener>, Failure> {
    let mut listeners = Vec::new();
    for ip in places(listen) {
        let place = SocketAddr::new(ip, port);
        match listener(place) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_lacking_family(ip, &error) => {}
            Err(error) => return Err(refused("TCP", place, key, &error)),
        }
    }
    Ok(listeners)
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted connections inherit it.
    narrow(&socket, address)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

async fn accept(listener: TcpListener, ids: Arc<AtomicU64>, seats: Arc<Seats>, inputs: Inputs) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                // None of the seats is ever at work, so one gives way.
                let Some((seat, gone)) = seats.take(remote.ip()) else { continue };
                let id = StreamId(ids.fetch_add(1, Ordering::Relaxed));
                let (teller, told) = mpsc::channel(WRITES);
                let inputs = inputs.clone();
                tokio::spawn(async move {
                    if inputs.send((id, StreamInput::Accepted { remote }, Some(teller))).await.is_ok() {
                        tokio::select! {
                            () = serve(id, stream, told, inputs.clone(), Some(&seat)) => {}
                            _ = gone => {
                                tracing::debug!(%remote, "made room for somebody else");
                                let _ = inputs.send((id, StreamInput::Closed, None)).await;
                            }
                        }
                    }
                });
            }
            // Most likely there are no free file descriptors. Wait until there are.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Segments that fit into [`TCP_PACKET`] bytes, whatever the interface could send: `TCP_MAXSEG`, before the handshake.
fn narrow<'a>(socket: impl Into<socket2::SockRef<'a>>, place: SocketAddr) -> io::Result<()> {
    let headers = if place.is_ipv6() { 40 + 20 } else { 20 + 20 };
    socket.into().set_tcp_mss((TCP_PACKET - headers) as u32)
}

/// A TCP connection to a service, which gives up when its bytes stay unacknowledged ([`TCP_UNACKNOWLEDGED`]), and whose
/// packets pass every network ([`TCP_PACKET`]).
///
/// # Errors
/// Those of the system, or that the attempt took longer than `most`.
pub async fn reach(remote: SocketAddr, most: Duration) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    narrow(&socket, remote)?;
    let began = Instant::now();
    let stream = timeout(most, socket.connect(remote)).await.map_err(io::Error::from).flatten()?;
    let unacknowledged = (began.elapsed() * 4).max(TCP_UNACKNOWLEDGED);
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(unacknowledged))?;
    Ok(stream)
}

async fn connect(id: StreamId, remote: SocketAddr, told: mpsc::Receiver<Told>, inputs: Inputs) {
    match reach(remote, CONNECT).await {
        Ok(stream) => {
            if inputs.send((id, StreamInput::Connected, None)).await.is_ok() {
                serve(id, stream, told, inputs, None).await;
            }
        }
        Err(error) => {
            tracing::debug!(%remote, %error, "no TCP connection");
            let _ = inputs.send((id, unconnected(&error), None)).await;
        }
    }
}

/// Why there is no connection: something answered and refused it, or nothing did.
fn unconnected(error: &io::Error) -> StreamInput {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => StreamInput::Closed,
        _ => StreamInput::Unanswered,
    }
}

/// Moves bytes both ways until one side closes.
async fn serve(
    id: StreamId,
    mut stream: TcpStream,
    mut told: mpsc::Receiver<Told>,
    inputs: Inputs,
    seat: Option<&Seat>,
) {
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
    let (mut reader, mut writer) = stream.split();
    let mut buffer = vec![0; 16 * 1024];
    // What is being written. Reading goes on meanwhile: otherwise two ends that both write would wait for each other.
    let mut unsent = VecDeque::new();
    let mut stuck = Instant::now() + STUCK;
    loop {
        tokio::select! {
            told = told.recv(), if unsent.is_empty() => match told {
                Some(Told::Write(bytes)) => {
                    unsent = bytes.into();
                    stuck = Instant::now() + STUCK;
                }
                Some(Told::Close) => {
                    let _ = timeout(STUCK, writer.shutdown()).await;
                    return;
                }
                None => return,
            },
            written = timeout_at(stuck, writer.write(unsent.as_slices().0)), if !unsent.is_empty() => match written {
                Ok(Ok(count)) if count > 0 => {
                    unsent.drain(..count);
                    stuck = Instant::now() + STUCK;
                    if inputs.send((id, StreamInput::Written(count), None)).await.is_err() {
                        return;
                    }
                }
                _ => break,
            },
            read = timeout(IDLE, reader.read(&mut buffer)) => match read {
                Ok(Ok(count)) if count > 0 => {
                    if let Some(seat) = seat {
                        seat.used();
                    }
                    if inputs.send((id, StreamInput::Data(buffer[..count].to_vec()), None)).await.is_err() {
                        return;
                    }
                }
                _ => break,
            },
        }
    }
    let _ = inputs.send((id, StreamInput::Closed, None)).await;
    // Bytes that the role wrote before it got `Closed` are still sent.
    if !unsent.is_empty() && !matches!(timeout(STUCK, writer.write_all(unsent.make_contiguous())).await, Ok(Ok(()))) {
        return;
    }
    while let Some(Told::Write(bytes)) = told.recv().await {
        if !matches!(timeout(STUCK, writer.write_all(&bytes)).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    async fn next(streams: &mut Streams) -> (StreamId, StreamInput) {
        std::future::poll_fn(|context| streams.poll_next(context)).await
    }

    #[test]
    fn two_roles_talk_and_the_close_of_one_is_heard_once_by_the_other() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut server = Streams::listen(&[], port).unwrap();
            let mut client = Streams::outgoing();
            let near = StreamId(1);
            client.apply(near, StreamOutput::Connect { remote: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port) });
            assert_eq!(next(&mut client).await, (near, StreamInput::Connected));
            client.apply(near, StreamOutput::Write(b"hello".to_vec()));
            let (far, accepted) = next(&mut server).await;
            assert!(far.0 >= FIRST_ACCEPTED && matches!(accepted, StreamInput::Accepted { .. }));
            assert_eq!(next(&mut client).await, (near, StreamInput::Written(5)));
            assert_eq!(next(&mut server).await, (far, StreamInput::Data(b"hello".to_vec())));
            server.apply(far, StreamOutput::Write(b"bye".to_vec()));
            server.apply(far, StreamOutput::Close);
            assert_eq!(next(&mut client).await, (near, StreamInput::Data(b"bye".to_vec())));
            let (id, closed) = next(&mut client).await;
            assert_eq!((id, client.admit(id, closed)), (near, Some(StreamInput::Closed)));
            assert!(client.connections.is_empty() && server.connections.is_empty());
        });
    }

    #[test]
    fn a_connection_that_nobody_takes_is_closed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut client = Streams::outgoing();
            client.apply(
                StreamId(1),
                StreamOutput::Connect { remote: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port) },
            );
            assert_eq!(next(&mut client).await, (StreamId(1), StreamInput::Closed));
        });
    }

    #[test]
    fn idle_connections_do_not_keep_others_out_and_the_role_hears_that_they_are_gone() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut server = Streams::listen(&[], port).unwrap();
            let mut idle = Vec::new();
            let mut accepted = Vec::new();
            for _ in 0..STREAMS_FROM_ONE + 3 {
                idle.push(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap());
                while accepted.len() < idle.len() {
                    match next(&mut server).await {
                        (id, StreamInput::Accepted { .. }) => accepted.push(id),
                        (id, closed) => assert!(server.admit(id, closed).is_some()),
                    }
                }
            }
            // Another source is served at once.
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            let mut honest = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.unwrap();
            honest.write_all(b"hello").await.unwrap();
            let heard = loop {
                match next(&mut server).await {
                    (_, StreamInput::Data(data)) => break data,
                    (id, input) => drop(server.admit(id, input)),
                }
            };
            assert_eq!(heard, b"hello");
            // Three have made room.
            while server.connections.len() > STREAMS_FROM_ONE + 1 {
                let (id, input) = next(&mut server).await;
                assert!(server.admit(id, input).is_some());
            }
        });
    }
}
