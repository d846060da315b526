//! What must hold for any bytes whatever: the fuzzer looks for bytes for which it does not, and an ordinary test holds
//! it for all that the fuzzer found worth keeping (`corpus/`).

pub mod decoders;
pub mod network;

/// What takes bytes, and panics if something does not hold for them.
pub type Property = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Property); 9] = [
    ("header", decoders::header),
    ("message", decoders::message),
    ("frames", decoders::frames),
    ("sealed", decoders::sealed),
    ("inner", decoders::inner),
    ("dns", decoders::dns),
    ("quic", decoders::quic),
    ("scenario", decoders::scenario),
    ("network", network::play),
];
