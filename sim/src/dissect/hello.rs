//! The TLS ClientHello (RFC 8446 §4.1.2): the part that names the host in clear text.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};

use super::frame::take;

const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// The contents of a ClientHello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host name (RFC 6066 §3), in lower case.
    pub server_name: Option<String>,
    /// The protocols that it offers (RFC 7301), in its order.
    pub alpn: Vec<Vec<u8>>,
}

impl ClientHello {
    /// Reads a handshake message from its first byte. `None` if it is no ClientHello, or incomplete.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = Bytes::copy_from_slice(bytes);
        if rest.try_get_u8().ok()? != CLIENT_HELLO {
            return None;
        }
        let mut body = prefixed(&mut rest, 3)?;
        // Version, random.
        take(&mut body, 2 + 32)?;
        // Session ID, cipher suites, compression methods.
        for width in [1, 2, 1] {
            prefixed(&mut body, width)?;
        }
        let mut extensions = prefixed(&mut body, 2)?;
        let mut hello = Self::default();
        while !extensions.is_empty() {
            let kind = extensions.try_get_u16().ok()?;
            let mut extension = prefixed(&mut extensions, 2)?;
            match kind {
                SERVER_NAME => {
                    let mut names = prefixed(&mut extension, 2)?;
                    while !names.is_empty() {
                        let kind = names.try_get_u8().ok()?;
                        let name = prefixed(&mut names, 2)?;
                        if kind == HOST_NAME {
                            hello.server_name = Some(String::from_utf8_lossy(&name).to_ascii_lowercase());
                        }
                    }
                }
                ALPN => {
                    let mut protocols = prefixed(&mut extension, 2)?;
                    while !protocols.is_empty() {
                        hello.alpn.push(prefixed(&mut protocols, 1)?.to_vec());
                    }
                }
                _ => {}
            }
        }
        Some(hello)
    }
}

/// As many bytes as the number of `width` bytes in front of them.
fn prefixed(rest: &mut Bytes, width: u64) -> Option<Bytes> {
    let length = take(rest, width)?.iter().fold(0, |length, &byte| length << 8 | u64::from(byte));
    take(rest, length)
}

/// The beginning of a stream of bytes, assembled from pieces in any order. Its length is bounded.
#[derive(Debug, Default)]
pub struct Beginning {
    pieces: BTreeMap<u64, Bytes>,
}

impl Beginning {
    /// Pieces that begin at or beyond this offset are not kept.
    pub const MAX: u64 = 16_384;

    /// Adds a piece that begins at `offset`.
    pub fn add(&mut self, offset: u64, data: Bytes) {
        if offset < Self::MAX && self.pieces.get(&offset).is_none_or(|piece| piece.len() < data.len()) {
            self.pieces.insert(offset, data);
        }
    }

    /// The bytes from the beginning up to the first gap.
    pub fn bytes(&self) -> Vec<u8> {
        let mut whole = Vec::new();
        for (&offset, piece) in &self.pieces {
            let Some(known) = (whole.len() as u64).checked_sub(offset) else { break };
            whole.extend_from_slice(piece.get(known as usize..).unwrap_or_default());
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(width: usize, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes()[4 - width..], body].concat()
    }

    /// The smallest ClientHello of RFC 8446's form.
    fn hello(name: &str, protocols: &[&[u8]]) -> Vec<u8> {
        let names = [&[HOST_NAME][..], &sized(2, name.as_bytes())].concat();
        let protocols: Vec<u8> = protocols.iter().flat_map(|protocol| sized(1, protocol)).collect();
        let extensions = [
            &[0, 42][..],
            &sized(2, b"x"),
            &[0, 0],
            &sized(2, &sized(2, &names)),
            &[0, 16],
            &sized(2, &sized(2, &protocols)),
        ];
        let body = [
            &[3, 3][..],
            &[9; 32],
            &sized(1, b""),
            &sized(2, &[0x13, 1]),
            &sized(1, &[0]),
            &sized(2, &extensions.concat()),
        ];
        [&[CLIENT_HELLO][..], &sized(3, &body.concat())].concat()
    }

    #[test]
    fn name_and_protocols_are_read_from_a_whole_hello_only() {
        let bytes = hello("NMS.Example", &[b"h3", b"cyphonic"]);
        let expected = ClientHello {
            server_name: Some("nms.example".to_owned()),
            alpn: vec![b"h3".to_vec(), b"cyphonic".to_vec()],
        };
        assert_eq!(ClientHello::read(&bytes), Some(expected));
        assert!((0..bytes.len()).all(|len| ClientHello::read(&bytes[..len]).is_none()));
        let mut other = bytes;
        other[0] = 2;
        assert_eq!(ClientHello::read(&other), None);
    }

    #[test]
    fn pieces_are_joined_in_any_order_up_to_the_first_gap() {
        let mut beginning = Beginning::default();
        for (offset, data) in [(6, "gh"), (0, "abc"), (2, "cde"), (Beginning::MAX, "z")] {
            beginning.add(offset, Bytes::copy_from_slice(data.as_bytes()));
        }
        assert_eq!(beginning.bytes(), b"abcde");
        beginning.add(5, Bytes::from_static(b"f"));
        assert_eq!(beginning.bytes(), b"abcdefgh");
    }
}
