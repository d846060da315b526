//! The interface of every box of the simulated network. It resembles [`cyphonic_core::machine::Machine`], one layer
//! lower: whole IP packets go in and out of numbered interfaces.
//!
//! An engine repeats three steps: give the box all packets of an instant, or a timeout; call [`NetBox::poll_output`]
//! until it gives [`BoxOutput::Wait`]; wait until a packet arrives or that instant comes. A box shares no state with
//! any other, so both engines run it alike.

use std::any::Any;

use cyphonic_core::time::Instant;

/// A host, router, NAT or firewall as a pure state machine.
pub trait NetBox {
    /// Takes one input at `now`. `now` never goes backwards.
    fn handle_input(&mut self, now: Instant, input: BoxInput);

    /// Takes all packets that come in at `now`, each with its interface, in their order.
    fn handle_packets(&mut self, now: Instant, packets: &mut Vec<(usize, Vec<u8>)>) {
        for (iface, packet) in packets.drain(..) {
            self.handle_input(now, BoxInput::Packet { iface, packet });
        }
    }

    /// The next output. After [`BoxOutput::Wait`] there is nothing more to do until the next input.
    fn poll_output(&mut self) -> BoxOutput;

    /// The box itself, so that a harness can call the methods of its type between runs.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// What goes into a [`NetBox`].
#[derive(Debug)]
pub enum BoxInput {
    /// An IP packet came in.
    Packet {
        /// On this interface.
        iface: usize,
        /// The whole packet, IP header first.
        packet: Vec<u8>,
    },
    /// The instant last given by [`BoxOutput::Wait`] has come.
    Timeout,
}

/// What comes out of a [`NetBox`].
#[derive(Debug)]
pub enum BoxOutput {
    /// Send an IP packet.
    Send {
        /// Out of this interface.
        iface: usize,
        /// The whole packet, IP header first.
        packet: Vec<u8>,
    },
    /// Nothing more now. Call again on input, or with [`BoxInput::Timeout`] at the instant given.
    Wait(Option<Instant>),
}
