//! Properties that must hold for all bytes. The fuzzer looks for bytes that break one. An ordinary test checks the
//! inputs that were worth keeping (`corpus/`).

pub mod decoders;
pub mod network;

/// Takes bytes, and panics if the property does not hold for them.
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
